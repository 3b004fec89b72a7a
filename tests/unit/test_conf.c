/*
 * common/conf.h: -o options, .conf files, what a SOURCE may be, and the messages for what is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/conf.h"
#include "common/conf_keys.h"
#include "common/str.h"

#define AUTO_CONFIG MFS_CLEANUP(mfs_config_release) struct mfs_config

/* Options. */

static int options(struct mfs_config *c, const char *text, char **reason)
{
	mfs_config_init(c);
	return mfs_config_parse_options(c, text, false, NULL, reason);
}

static void must_take(struct mfs_config *c, const char *text)
{
	MFS_AUTOFREE char *reason = NULL;

	if (options(c, text, &reason) < 0)
		fail_msg("'%s': %s", text, reason);
}

static void test_options__defaults(void **state)
{
	AUTO_CONFIG c;

	(void)state;
	must_take(&c, "");
	assert_false(c.ro || c.allow_other || c.has_umask || c.has_uid || c.has_gid || c.foreground ||
		     c.nosync);
	assert_true(c.nosuid && c.nodev && !c.noexec);
	assert_int_equal(c.atime, MFS_RELATIME);
	assert_int_equal(c.part_size, 5 * MFS_MIB);
	assert_int_equal(c.retention_ns, 7 * 86400 * MFS_NSEC_PER_SEC);
	assert_int_equal(c.max_threads, 16);
}

static void test_options__values(void **state)
{
	AUTO_CONFIG c;

	(void)state;
	must_take(
		&c,
		"rw,allow_other,default_permissions,umask=022,uid=1000,gid=root,noatime,entry_timeout=1.5,"
		"attr_timeout=0,negative_timeout=10s,max_read=131072,memory=64MiB,retention=30d,part-size=8MiB,"
		"subdir=/a//b/,fsname=x,subtype=y,foreground,debug=fs:meta,nosync,read_ahead_kb=1024,"
		"max_threads=4,cache_dir=/a:/b,cache-size=1g,cache-free=5,capacity=1t,logfile=/var/log/x,inline=4k,commit=5");
	assert_true(c.allow_other && c.foreground && c.nosync && !c.ro);
	assert_true(c.has_umask && c.umask == 022);
	assert_true(c.has_uid && c.uid == 1000 && c.has_gid && c.gid == 0);
	assert_int_equal(c.atime, MFS_NOATIME);
	assert_true(c.has_entry_timeout && c.entry_timeout > 1.49 && c.entry_timeout < 1.51);
	assert_true(c.has_attr_timeout && c.attr_timeout < 1e-9);
	assert_true(c.has_negative_timeout && c.negative_timeout > 9.99);
	assert_int_equal(c.max_read, 131072);
	assert_int_equal(c.memory, 64 * MFS_MIB);
	assert_int_equal(c.retention_ns, 30 * 86400 * MFS_NSEC_PER_SEC);
	assert_int_equal(c.part_size, 8 * MFS_MIB);
	assert_string_equal(c.subdir, "a/b");
	assert_string_equal(c.fsname, "x");
	assert_string_equal(c.subtype, "y");
	assert_string_equal(c.debug, "fs:meta");
	assert_true(c.has_read_ahead_kb && c.read_ahead_kb == 1024);
	assert_int_equal(c.max_threads, 4);
	assert_string_equal(c.cache_dir, "/a:/b");
	assert_true(c.has_cache_size && c.cache_size == MFS_GIB);
	assert_int_equal(c.cache_free, 5);
	assert_int_equal(c.capacity, MFS_TIB);
	assert_int_equal(c.inline_size, 4096);
	assert_int_equal(c.commit_ns, 5 * MFS_NSEC_PER_SEC);
	assert_string_equal(c.logfile, "/var/log/x");
}

static void test_options__of_the_system_mean_nothing(void **state)
{
	AUTO_CONFIG c;
	AUTO_CONFIG plain;

	(void)state;
	must_take(&plain, "");
	must_take(&c, "_netdev,nofail,noauto,auto,nouser,defaults,comment=a\\,b=c,x-systemd.automount,"
		      "x-systemd.idle-timeout=10min,X-mount.mkdir,x-gvfs-show,nonempty,lazytime,"
		      "context=\"system_u:object_r:tmp_t:s0:c127,c456\",rootcontext=abc,,");
	assert_memory_equal(&c, &plain, sizeof(c));
}

static void test_options__flags_in_their_order(void **state)
{
	static const struct {
		const char *text;
		bool ro, nosuid, nodev, noexec, sync;
		enum mfs_atime atime;
	} cases[] = {
		{ "ro", true, true, true, false, false, MFS_RELATIME },
		{ "ro,rw", false, true, true, false, false, MFS_RELATIME },
		{ "rw,ro", true, true, true, false, false, MFS_RELATIME },
		{ "suid,dev", false, false, false, false, false, MFS_RELATIME },
		{ "suid,dev,user", false, true, true, true, false, MFS_RELATIME },
		{ "users,exec", false, true, true, false, false, MFS_RELATIME },
		{ "user,suid,dev,exec", false, false, false, false, false, MFS_RELATIME },
		{ "user=alice", false, true, true, true, false, MFS_RELATIME },
		{ "suid,owner", false, true, true, false, false, MFS_RELATIME },
		{ "sync,noexec", false, true, true, true, true, MFS_RELATIME },
		{ "sync,async", false, true, true, false, false, MFS_RELATIME },
		{ "strictatime", false, true, true, false, false, MFS_STRICTATIME },
		{ "noatime,relatime", false, true, true, false, false, MFS_RELATIME },
		{ "relatime,noatime", false, true, true, false, false, MFS_NOATIME },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;

		must_take(&c, cases[i].text);
		if (c.ro != cases[i].ro || c.nosuid != cases[i].nosuid || c.nodev != cases[i].nodev ||
		    c.noexec != cases[i].noexec || c.sync != cases[i].sync || c.atime != cases[i].atime)
			fail_msg("'%s'", cases[i].text);
	}
}

static void test_options__escapes_and_quotes(void **state)
{
	static const struct {
		const char *text, *fsname;
	} cases[] = {
		{ "fsname=a\\,b", "a,b" },	   { "fsname=a\\\\b", "a\\b" }, { "fsname=a\\b", "a\\b" },
		{ "fsname=\"a,b\",ro", "a,b" },	   { "fsname=a=b", "a=b" },	{ "fsname=a\\", "a\\" },
		{ "fsname=a\"b", "a\"b" },	   { ",,fsname=x,,", "x" },	{ "fsname=1,fsname=2", "2" },
		{ "fsname=\xff\x01", "\xff\x01" },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;

		must_take(&c, cases[i].text);
		assert_string_equal(c.fsname, cases[i].fsname);
	}
}

static void test_options__refused_by_name(void **state)
{
	static const struct {
		const char *text, *reason; /* NULL: any */
	} cases[] = {
		{ "foo", "unknown option 'foo'" },
		{ "ro,foo=bar,rw", "unknown option 'foo'" },
		{ "roo", "unknown option 'roo'" },
		{ "r", "unknown option 'r'" },
		{ "x", "unknown option 'x'" },
		{ "=x", "unknown option ''" },
		{ "source=/x", "option 'source' belongs into a .conf file" },
		{ "ro=1", "option 'ro' takes no value" },
		{ "umask", "option 'umask': must be a value" },
		{ "umask=", "option 'umask=': must be a value" },
		{ "umask=999", "option 'umask=999': must be an octal number from 0 to 777" },
		{ "umask=1777", "option 'umask=1777': must be an octal number from 0 to 777" },
		{ "uid=no-such-user-here",
		  "option 'uid=no-such-user-here': must be the name or number of a user" },
		{ "gid=-1", "option 'gid=-1': must be the name or number of a group" },
		{ "uid=4294967295", NULL },
		{ "memory=1M", "option 'memory=1M': must be a size such as 64MiB, from 32.0 MiB to 1.0 TiB" },
		{ "inline=65K", "option 'inline=65K': must be a size such as 64MiB, from 0 B to 64.0 KiB" },
		{ "memory=lots", NULL },
		{ "part_size=4MiB", NULL },
		{ "part_size=6GiB", NULL },
		{ "entry_timeout=-1", NULL },
		{ "entry_timeout=inf", NULL },
		{ "retention=101y",
		  "option 'retention=101y': must be a time such as 30s or 7d, from 0s to 36500d" },
		{ "max_read=100", "option 'max_read=100': must be a number from 4096 to 1048576" },
		{ "max_threads=0", NULL },
		{ "logfile=here", "option 'logfile=here': must be an absolute path" },
		{ "cache_dir=/a:b", NULL },
		{ "cache_dir=/a:", NULL },
		{ "cache_free=100", NULL },
		{ "subdir=a/../b", NULL },
		{ "debug=everything",
		  "option 'debug=everything': must be all common store meta fs tool, or several of "
		  "them with ':' between" },
		{ "commit=0", NULL },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;

		if (options(&c, cases[i].text, &reason) != -EINVAL)
			fail_msg("'%s' was taken", cases[i].text);
		assert_non_null(reason);
		if (cases[i].reason)
			assert_string_equal(reason, cases[i].reason);
	}
}

static void test_options__sloppy_warns(void **state)
{
	AUTO_CONFIG c;
	MFS_AUTOBUF struct mfs_buf warnings = MFS_BUF_INIT(1000);
	MFS_AUTOFREE char *reason = NULL;

	(void)state;
	mfs_config_init(&c);
	assert_int_equal(mfs_config_parse_options(&c, "foo=1,ro,bar", true, &warnings, &reason), 0);
	assert_true(c.ro);
	assert_string_equal(mfs_buf_str(&warnings),
			    "unknown option 'foo' ignored (-s)\nunknown option 'bar' ignored (-s)\n");
	/* What is known but wrong is an error all the same. */
	assert_int_equal(mfs_config_parse_options(&c, "umask=abc", true, &warnings, &reason), -EINVAL);
}

static void test_options__an_endless_one_is_refused(void **state)
{
	AUTO_CONFIG c;
	MFS_AUTOFREE char *reason = NULL, *text = malloc(100001);

	(void)state;
	memset(text, 'a', 100000);
	text[100000] = '\0';
	assert_true(options(&c, text, &reason) < 0);
	assert_non_null(reason);
}

/* The table. */

static void test_keys__are_consistent(void **state)
{
	const struct conf_key *k;

	(void)state;
	for (size_t i = 0; (k = conf_key_at(i)); i++) {
		/* No name hides another. */
		assert_ptr_equal(conf_key_find(k->name, strlen(k->name)), k);
		assert_true(k->where != 0);
		assert_true(k->min <= k->max);
		assert_true(k->kind != KIND_WORD || k->words);
	}
}

/* Files. */

static int conf_text(struct mfs_config *c, const char *text, char **reason)
{
	mfs_config_init(c);
	return mfs_config_parse_text(c, text, strlen(text), "v.conf", reason);
}

static void test_file__everything(void **state)
{
	AUTO_CONFIG c;
	MFS_AUTOFREE char *reason = NULL;
	int r;

	(void)state;
	r = conf_text(&c,
		      "\xef\xbb\xbf# a comment\n"
		      "[volume]\n"
		      "source = /srv/massfs   ; where it is\n"
		      "index: sqlite\n"
		      "objects=localdir\r\n"
		      "retention = 30d\n"
		      "\n"
		      "[mount]\n"
		      "ro = yes\n"
		      "allow-other = on\n"
		      "foreground = no\n"
		      "noatime = true\n"
		      "options = umask=022,_netdev\n"
		      "memory = 1GiB",
		      &reason);
	if (r < 0)
		fail_msg("%s", reason);
	assert_string_equal(c.dir, "/srv/massfs");
	assert_string_equal(c.index, "sqlite");
	assert_string_equal(c.objects, "localdir");
	assert_int_equal(c.retention_ns, 30 * 86400 * MFS_NSEC_PER_SEC);
	assert_true(c.ro && c.allow_other && !c.foreground);
	assert_int_equal(c.atime, MFS_NOATIME);
	assert_true(c.has_umask && c.umask == 022);
	assert_int_equal(c.memory, MFS_GIB);
}

static void test_file__says_what_is_wrong_where(void **state)
{
	static const struct {
		const char *text, *reason; /* its beginning */
	} cases[] = {
		{ "[volume]\nsource = here\n",
		  "v.conf:2: key 'source': 'here' is not allowed, must be an absolute path" },
		{ "[volume]\nsource =\n", "v.conf:2: key 'source': '' is not allowed, must be a value" },
		{ "\n\n[volume]\nsauce = /x\n",
		  "v.conf:4: unknown key 'sauce' in [volume]; there are: source index" },
		{ "[volume]\nro = yes\n", "v.conf:2: unknown key 'ro' in [volume]; there are:" },
		{ "[mount]\nsource = /x\n", "v.conf:2: unknown key 'source' in [mount]; there are:" },
		{ "[other]\na = b\n",
		  "v.conf:2: key 'a' in section [other]: there are [volume] and [mount] only" },
		{ "a = b\n", "v.conf:1: key 'a' in section []: there are" },
		{ "[mount]\nro = perhaps\n",
		  "v.conf:2: key 'ro': 'perhaps' is not allowed, must be yes or no" },
		{ "[mount]\nmemory = much\n",
		  "v.conf:2: key 'memory': 'much' is not allowed, must be a size such as" },
		{ "[volume]\nindex = oracle\n",
		  "v.conf:2: key 'index': 'oracle' is not allowed, must be one of: sqlite" },
		{ "[mount]\nro = yes\nro = no\n", "v.conf:3: key 'ro' given twice" },
		{ "[volume]\nsource = /a\n  /b\n",
		  "v.conf:3: key 'source' given twice (a line that begins with a space" },
		{ "[mount]\noptions = ro,foo\n", "v.conf:2: key 'options': unknown option 'foo'" },
		{ "[mount\nro = yes\n", "v.conf:1: neither a [section]" },
		{ "[mount]\njust words\n", "v.conf:2: neither a [section]" },
		{ "[mount]\nnodefault\n", "v.conf:2: neither a [section]" },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;

		if (conf_text(&c, cases[i].text, &reason) != -EINVAL)
			fail_msg("taken: %s", cases[i].text);
		assert_non_null(reason);
		if (!mfs_str_starts(reason, cases[i].reason))
			fail_msg("'%s' instead of '%s'", reason, cases[i].reason);
	}
}

static void test_file__long_lines_and_nul_are_refused(void **state)
{
	static const char with_nul[] = "[mount]\nro = y\0es\n";
	MFS_AUTOFREE char *reason = NULL, *reason2 = NULL;
	char text[6000] = "[mount]\nfsname = ";
	AUTO_CONFIG c;
	size_t n = strlen(text);

	(void)state;
	memset(text + n, 'x', sizeof(text) - n - 1);
	assert_int_equal(conf_text(&c, text, &reason), -EINVAL);
	assert_true(mfs_str_starts(reason, "v.conf:2: line longer than "));
	assert_int_equal(mfs_config_parse_text(&c, with_nul, sizeof(with_nul) - 1, "v.conf", &reason2),
			 -EINVAL);
	assert_string_equal(reason2, "v.conf:2: a NUL byte: this is not a text file");
}

static void test_file__ro_outlives_the_rw_of_mount_8(void **state)
{
	AUTO_CONFIG c;

	(void)state;
	assert_int_equal(conf_text(&c, "[mount]\nro = yes\n", NULL), 0);
	assert_int_equal(mfs_config_parse_options(&c, "rw,noatime", false, NULL, NULL), 0);
	assert_true(c.ro);
}

/* Sources. */

struct tree {
	char dir[64];
	char *cwd;
};

static void write_file(const char *dir, const char *name, const char *text)
{
	MFS_AUTOFREE char *path = mfs_path_join(dir, name);
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int make_tree(void **state)
{
	static struct tree t;

	strcpy(t.dir, "/tmp/massfs-test-conf-XXXXXX");
	if (!mkdtemp(t.dir))
		return -1;
	t.cwd = getcwd(NULL, 0);
	if (chdir(t.dir) < 0 || mkdir("vol", 0700) < 0 || mkdir("a.conf", 0700) < 0 ||
	    mkdir("etc", 0700) < 0 || mkdir("odd:", 0700) < 0 || mkdir("odd:/name", 0700) < 0)
		return -1;
	write_file("etc", "one.conf", "[volume]\nsource=/srv/one\n[mount]\nsubdir=from/conf\nro=yes\n");
	write_file("etc", "none.conf", "[mount]\nro=yes\n");
	write_file("etc", "bad.conf", "[volume]\nsource=/srv/one\nnonsense=1\n");
	*state = &t;
	return 0;
}

static int remove_tree(void **state)
{
	struct tree *t = *state;
	MFS_AUTOFREE char *command = mfs_str_printf("rm -rf %s", t->dir);

	if (chdir(t->cwd) < 0)
		return -1;
	free(t->cwd);
	return system(command); /* NOLINT: a path of our own */
}

static int load(struct mfs_config *c, struct tree *t, const char *source, const char *opts, char **reason)
{
	static char conf_dir[80];

	snprintf(conf_dir, sizeof(conf_dir), "%s/etc", t->dir);
	mfs_config_init(c);
	c->conf_dir = conf_dir;
	return mfs_config_load(c, source, opts, false, NULL, reason);
}

static void test_load__a_folder(void **state)
{
	struct tree *t = *state;
	MFS_AUTOFREE char *expected = mfs_path_join(t->dir, "vol");
	static const char *const sources[] = { "vol", "./vol", "vol/", "./vol/../vol" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(sources); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;

		if (load(&c, t, sources[i], "ro", &reason) < 0)
			fail_msg("%s: %s", sources[i], reason);
		assert_string_equal(c.dir, expected);
		assert_null(c.conf_path);
		assert_string_equal(c.source, sources[i]);
		assert_string_equal(c.fsname, sources[i]);
		assert_string_equal(c.subtype, "massfs");
		assert_string_equal(c.index, "sqlite");
		assert_int_equal(c.memory, mfs_default_memory());
		assert_true(c.memory && c.memory <= 512 * MFS_MIB);
		assert_true(c.ro);
	}
}

static void test_load__a_folder_that_is_not_there_yet(void **state)
{
	AUTO_CONFIG c;
	MFS_AUTOFREE char *reason = NULL;

	assert_int_equal(load(&c, *state, "./new", NULL, &reason), 0);
	assert_true(c.dir[0] == '/' && mfs_str_ends(c.dir, "new"));
}

static void test_load__subdirs(void **state)
{
	static const struct {
		const char *source, *subdir, *options;
	} cases[] = {
		{ "vol:/", "", NULL },	       { "vol:/a/b/", "a/b", NULL },
		{ "one", "from/conf", NULL },  { "one:/x", "x", NULL },
		{ "one:x/y", "x/y", NULL },    { "one", "y", "subdir=y" },
		{ "one:/x", "x", "subdir=y" }, { "etc/one.conf:/x", "x", NULL },
		{ "./odd:/name", NULL, NULL }, /* a folder of this very name */
	};

	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;

		if (load(&c, *state, cases[i].source, cases[i].options, &reason) < 0)
			fail_msg("%s: %s", cases[i].source, reason);
		if (cases[i].subdir)
			assert_string_equal(c.subdir, cases[i].subdir);
		else
			assert_null(c.subdir);
	}
}

static void test_load__a_conf(void **state)
{
	static const struct {
		const char *source, *options;
	} cases[] = {
		{ "one", NULL },
		{ "one.conf", NULL },
		{ "etc/one.conf", NULL },
		{ "one", "noatime,rw" },
	};

	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;

		if (load(&c, *state, cases[i].source, cases[i].options, &reason) < 0)
			fail_msg("%s: %s", cases[i].source, reason);
		assert_string_equal(c.dir, "/srv/one");
		assert_string_equal(c.name, "one");
		assert_true(mfs_str_ends(c.conf_path, "/etc/one.conf"));
		assert_true(c.conf_path[0] == '/' && c.ro);
	}
}

static void test_load__config_option_names_the_file(void **state)
{
	struct tree *t = *state;
	MFS_AUTOFREE char *opts = mfs_str_printf("ro,config=%s/etc/one.conf", t->dir);
	MFS_AUTOFREE char *reason = NULL;
	AUTO_CONFIG c;

	assert_int_equal(load(&c, t, "whatever:/sub", opts, &reason), 0);
	assert_string_equal(c.dir, "/srv/one");
	assert_string_equal(c.subdir, "sub");
	assert_string_equal(c.fsname, "whatever:/sub");
}

static void test_load__says_why_not(void **state)
{
	static const struct {
		const char *source, *options;
		int r;
		const char *reason; /* a part of it */
	} cases[] = {
		{ "", NULL, -EINVAL, "the source is empty" },
		{ "nothing", NULL, -ENOENT, "nothing: no such volume: there is neither " },
		{ "etc/absent.conf", NULL, -ENOENT, "etc/absent.conf: no such file" },
		{ "none", NULL, -EINVAL, "none.conf: key 'source' in [volume] is missing" },
		{ "bad", NULL, -EINVAL, "bad.conf:3: unknown key 'nonsense'" },
		{ "vol", "foo", -EINVAL, "unknown option 'foo'" },
		{ "vol:/../x", NULL, -EINVAL, "\"..\" is not allowed" },
		{ "vol", "config=/nowhere/x.conf", -ENOENT, "/nowhere/x.conf: No such file" },
		{ "vol", "config=/tmp", -EISDIR, "/tmp: Is a directory" },
	};

	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;
		int r = load(&c, *state, cases[i].source, cases[i].options, &reason);

		if (r != cases[i].r || !reason || !strstr(reason, cases[i].reason))
			fail_msg("'%s': %d %s", cases[i].source, r, reason);
	}
}

static void test_private__refuses_what_others_can_read(void **state)
{
	static const struct {
		mode_t mode;
		int r;
	} cases[] = { { 0600, 0 },	 { 0640, 0 },	    { 0400, 0 },
		      { 0644, -EACCES }, { 0660, -EACCES }, { 0602, -EACCES } };
	MFS_AUTOFREE char *path = mfs_path_join(((struct tree *)*state)->dir, "etc/one.conf");

	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		MFS_AUTOFREE char *reason = NULL;

		assert_int_equal(chmod(path, cases[i].mode), 0);
		assert_int_equal(mfs_conf_check_private(path, &reason), cases[i].r);
		assert_int_equal(!!reason, !!cases[i].r);
	}
	assert_int_equal(mfs_conf_check_private("/nowhere/x", NULL), -ENOENT);
}

#define CLUSTER "[volume]\nindex = mongodb\nobjects = s3\nbucket = b\nendpoint = http://s:9000\npasswd_file = /etc/p\n"
#define URI	"mongodb = mongodb://h:27017/?replicaSet=r\n"

static int load_cluster(struct mfs_config *c, struct tree *t, const char *text, mode_t mode, char **reason)
{
	MFS_AUTOFREE char *path = mfs_path_join(t->dir, "etc/my-data.v2.conf");

	write_file("etc", "my-data.v2.conf", text);
	assert_int_equal(chmod(path, mode), 0);
	return load(c, t, "my-data.v2", NULL, reason);
}

static void test_cluster__has_no_folder(void **state)
{
	AUTO_CONFIG c;
	MFS_AUTOFREE char *reason = NULL;

	if (load_cluster(&c, *state, CLUSTER URI "lease = 20s\n", 0644, &reason) < 0)
		fail_msg("%s", reason);
	assert_true(mfs_config_is_cluster(&c));
	assert_null(c.dir);
	assert_null(c.redis);
	assert_string_equal(c.mongodb, "mongodb://h:27017/?replicaSet=r");
	assert_string_equal(c.database, "massfs_my-data_v2"); /* a '.' cannot be in a database's name */
	assert_int_equal(c.lease_ns, 20 * MFS_NSEC_PER_SEC);
	assert_true(mfs_str_ends(mfs_config_label(&c), "my-data.v2.conf"));
}

static void test_cluster__says_why_not(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		int r;
		const char *why;
	} cases[] = {
		{ CLUSTER, 0600, -EINVAL, "mongodb" },
		{ CLUSTER URI "source = /srv\n", 0600, -EINVAL, "no folder" },
		{ CLUSTER URI "database = a.b\n", 0600, -EINVAL, "database" },
		{ CLUSTER URI "lease = 1s\n", 0600, -EINVAL, "lease" },
		{ "[volume]\nindex = mongodb\n" URI, 0600, -EINVAL, "objects = s3" },
		{ "[volume]\nsource = /srv\nredis = redis://r\n", 0600, -EINVAL, "index = mongodb" },
		{ CLUSTER "mongodb = mongodb://me:geheim@h/?replicaSet=r\n", 0644, -EACCES, "chmod 0600" },
		{ CLUSTER "mongodb = mongodb://me:geheim@h/?replicaSet=r\n", 0600, 0, NULL },
		{ CLUSTER URI "redis = redis://:geheim@r\n", 0644, -EACCES, "chmod 0600" },
		{ CLUSTER URI "redis = unix:/run/r?password=geheim\n", 0644, -EACCES, "chmod 0600" },
		{ CLUSTER URI "redis = unix:/run/r\n", 0644, 0, NULL },
	};

	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;
		int r = load_cluster(&c, *state, cases[i].text, cases[i].mode, &reason);

		if (r != cases[i].r || (cases[i].why && (!reason || !strstr(reason, cases[i].why))))
			fail_msg("%zu: %d %s", i, r, reason ? reason : "-");
		assert_true(!reason || !strstr(reason, "geheim"));
	}
}

static void test_cluster__nothing_of_it_is_an_option(void **state)
{
	static const char *const all[] = { "mongodb=mongodb://a", "redis=redis://a", "database=a", "index=mongodb", "lease=10s" };

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(all); i++) {
		AUTO_CONFIG c;
		MFS_AUTOFREE char *reason = NULL;

		assert_int_equal(options(&c, all[i], &reason), -EINVAL);
		assert_non_null(strstr(reason, "belongs into a .conf file"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options__defaults),
		cmocka_unit_test(test_options__values),
		cmocka_unit_test(test_options__of_the_system_mean_nothing),
		cmocka_unit_test(test_options__flags_in_their_order),
		cmocka_unit_test(test_options__escapes_and_quotes),
		cmocka_unit_test(test_options__refused_by_name),
		cmocka_unit_test(test_options__sloppy_warns),
		cmocka_unit_test(test_options__an_endless_one_is_refused),
		cmocka_unit_test(test_keys__are_consistent),
		cmocka_unit_test(test_file__everything),
		cmocka_unit_test(test_file__says_what_is_wrong_where),
		cmocka_unit_test(test_file__long_lines_and_nul_are_refused),
		cmocka_unit_test(test_file__ro_outlives_the_rw_of_mount_8),
		cmocka_unit_test(test_load__a_folder),
		cmocka_unit_test(test_load__a_folder_that_is_not_there_yet),
		cmocka_unit_test(test_load__subdirs),
		cmocka_unit_test(test_load__a_conf),
		cmocka_unit_test(test_load__config_option_names_the_file),
		cmocka_unit_test(test_load__says_why_not),
		cmocka_unit_test(test_private__refuses_what_others_can_read),
		cmocka_unit_test(test_cluster__has_no_folder),
		cmocka_unit_test(test_cluster__says_why_not),
		cmocka_unit_test(test_cluster__nothing_of_it_is_an_option),
	};

	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
