/*
 * Defaults, what a SOURCE names, and the order in which file and options fill the configuration.
 */
#include "common/conf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"

#define DEFAULT_RETENTION_DAYS 7
#define DEFAULT_LEASE_S	       10
#define DATABASE_MAX	       63 /* bytes of a name, as MongoDB has it */
#define DEFAULT_MEMORY_MAX     (512 * MFS_MIB)

int mfs_fail(char **ret_reason, int r, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int n;

	if (!ret_reason)
		return r;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	*ret_reason = n < 0 ? NULL : text;
	return r;
}

void mfs_config_init(struct mfs_config *c)
{
	*c = (struct mfs_config){
		.part_size = 5 * MFS_MIB,
		.inline_size = 16 * MFS_KIB,
		.cache_free = 10,
		.index_log_ns = 60 * MFS_NSEC_PER_SEC,
		.retention_ns = DEFAULT_RETENTION_DAYS * 86400 * MFS_NSEC_PER_SEC,
		.nosuid = true, /* as libfuse has it, suid and dev must be asked for */
		.nodev = true,
		.atime = MFS_RELATIME,
		.max_threads = 16,
		.commit_ns = 5 * MFS_NSEC_PER_SEC,
		.lease_ns = DEFAULT_LEASE_S * MFS_NSEC_PER_SEC,
		.conf_dir = MFS_CONF_DIR,
	};
}

void mfs_config_release(struct mfs_config *c)
{
	char **owned[] = { &c->source,	   &c->dir,	&c->conf_path, &c->name,   &c->subdir,
			   &c->mountpoint, &c->index,	&c->objects,   &c->fsname, &c->subtype,
			   &c->debug,	   &c->logfile, &c->cache_dir, &c->endpoint, &c->bucket,
			   &c->region,	   &c->prefix,	&c->addressing, &c->ca_file, &c->storage_class, &c->places,
			   &c->passwd_file, &c->profile, &c->access_key, &c->secret_key,
			   &c->mongodb,	   &c->redis,	&c->database };
	char *secret[] = { c->secret_key, c->mongodb, c->redis };

	for (size_t i = 0; i < MFS_ARRAY_LEN(secret); i++)
		if (secret[i])
			explicit_bzero(secret[i], strlen(secret[i]));
	for (size_t i = 0; i < MFS_ARRAY_LEN(owned); i++) {
		free(*owned[i]);
		*owned[i] = NULL;
	}
}

uint64_t mfs_default_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
	uint64_t ram = pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size : MFS_GIB;

	return MFS_MIN(ram / 4, DEFAULT_MEMORY_MAX);
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static char *conf_by_name(const struct mfs_config *c, const char *name)
{
	return mfs_str_printf("%s/%s%s", c->conf_dir, name, mfs_str_ends(name, ".conf") ? "" : ".conf");
}

/* "NAME:sub" without a slash behind the colon: only when there is such a volume. */
static char *find_plain_colon(const struct mfs_config *c, const char *source)
{
	size_t len = strcspn(source, ":/");
	MFS_AUTOFREE char *name = source[len] == ':' ? strndup(source, len) : NULL;
	MFS_AUTOFREE char *conf = name ? conf_by_name(c, name) : NULL;

	return conf && len && exists(conf) ? strchr(source, ':') : NULL;
}

/* "X:/subdir" becomes X and subdir, unless the whole names a directory that exists. In place; NULL: no subdir. */
static const char *split_subdir(const struct mfs_config *c, char *source)
{
	char *colon = strstr(source, ":/");

	if (!colon)
		colon = find_plain_colon(c, source);
	if (!colon || colon == source || is_dir(source))
		return NULL;
	*colon = '\0';
	return colon + 1;
}

static int set_subdir(struct mfs_config *c, const char *subdir, char **ret_reason)
{
	MFS_AUTOFREE char *copy = strdup(subdir);

	if (!copy)
		return mfs_fail(ret_reason, -ENOMEM, "no memory");
	if (mfs_path_normalize(copy) < 0)
		return mfs_fail(ret_reason, -EINVAL, "%s: \"..\" is not allowed in the path behind the ':'",
				c->source);
	free(c->subdir);
	c->subdir = MFS_TAKE(copy);
	return 0;
}

/* The file's name without folder and ".conf". */
static char *volume_name(const char *conf_path)
{
	const char *slash = strrchr(conf_path, '/'), *base = slash ? slash + 1 : conf_path;
	size_t len = strlen(base);

	return strndup(base, len > 5 && mfs_str_ends(base, ".conf") ? len - 5 : len);
}

bool mfs_config_is_cluster(const struct mfs_config *c)
{
	return c->index && !strcmp(c->index, "mongodb");
}

const char *mfs_config_label(const struct mfs_config *c)
{
	return c->dir ? c->dir : c->conf_path ? c->conf_path : c->source ? c->source : "(no source)";
}

/* "scheme://user:password@host", or a password as a parameter. A URI with only a user is taken for one too. */
static bool has_password(const char *uri)
{
	return uri && (strchr(uri, '@') || strstr(uri, "password="));
}

/* Of the volume's name, with what a database's name cannot have replaced. */
static int default_database(struct mfs_config *c)
{
	if (c->database)
		return 0;
	c->database = mfs_str_printf("massfs_%s", c->name);
	if (!c->database)
		return -ENOMEM;
	for (char *p = c->database; *p; p++)
		if (strchr("/\\. \"$*<>:|?", *p) || (unsigned char)*p < ' ' || (unsigned char)*p > '~')
			*p = '_';
	if (strlen(c->database) > DATABASE_MAX)
		c->database[DATABASE_MAX] = '\0';
	return 0;
}

static int check_cluster(struct mfs_config *c, char **ret_reason)
{
	if (!c->mongodb)
		return mfs_fail(ret_reason, -EINVAL, "%s: index = mongodb needs 'mongodb = mongodb://HOST:PORT/?replicaSet=NAME'",
				c->conf_path);
	if (!c->objects || strcmp(c->objects, "s3") != 0)
		return mfs_fail(ret_reason, -EINVAL,
				"%s: index = mongodb needs objects = s3: what several mounts share is in a bucket", c->conf_path);
	if (c->dir)
		return mfs_fail(ret_reason, -EINVAL, "%s: key 'source': with index = mongodb the volume has no folder",
				c->conf_path);
	if (c->database && (strlen(c->database) > DATABASE_MAX || strpbrk(c->database, "/\\. \"$*<>:|?")))
		return mfs_fail(ret_reason, -EINVAL,
				"%s: key 'database': at most %d bytes, none of / \\ . \" $ * < > : | ? or a space", c->conf_path,
				DATABASE_MAX);
	return default_database(c) < 0 ? mfs_fail(ret_reason, -ENOMEM, "no memory") : 0;
}

static int read_conf(struct mfs_config *c, char **ret_reason)
{
	int r;

	r = mfs_config_read_file(c, c->conf_path, ret_reason);
	if (r == 0 && (c->secret_key || has_password(c->mongodb) || has_password(c->redis)))
		r = mfs_conf_check_private(c->conf_path, ret_reason);
	if (r < 0)
		return r;
	c->name = volume_name(c->conf_path);
	if (!c->name)
		return mfs_fail(ret_reason, -ENOMEM, "no memory");
	if (mfs_config_is_cluster(c))
		return check_cluster(c, ret_reason);
	if (c->mongodb || c->redis || c->database)
		return mfs_fail(ret_reason, -EINVAL, "%s: key '%s' is for index = mongodb", c->conf_path,
				c->mongodb ? "mongodb" : c->redis ? "redis" : "database");
	if (!c->dir)
		return mfs_fail(ret_reason, -EINVAL,
				"%s: key 'source' in [volume] is missing: the folder of the volume",
				c->conf_path);
	return 0;
}

/* An absolute path, with symlinks resolved as far as it exists. */
static char *absolute_path(const char *path)
{
	MFS_AUTOFREE char *cwd = NULL;
	char *real = realpath(path, NULL);

	if (real)
		return real;
	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	return cwd ? mfs_path_join(cwd, path) : NULL;
}

static int set_dir(struct mfs_config *c, const char *dir, char **ret_reason)
{
	c->dir = absolute_path(dir);
	return c->dir ? 0 : mfs_fail(ret_reason, -errno, "%s: %m", dir);
}

static bool is_plain_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Which of the three forms it is; fills dir, or conf_path and all that the file says. */
static int resolve(struct mfs_config *c, const char *spec, char **ret_reason)
{
	MFS_AUTOFREE char *by_name = NULL;

	if (c->conf_path) /* config= */
		return read_conf(c, ret_reason);
	if (!strchr(spec, '/')) {
		by_name = mfs_str_printf("%s/%s%s", c->conf_dir, spec,
					 mfs_str_ends(spec, ".conf") ? "" : ".conf");
		if (!by_name)
			return mfs_fail(ret_reason, -ENOMEM, "no memory");
		if (exists(by_name)) {
			c->conf_path = MFS_TAKE(by_name);
			return read_conf(c, ret_reason);
		}
	}
	if (is_plain_file(spec) || mfs_str_ends(spec, ".conf")) {
		if (is_dir(spec))
			return set_dir(c, spec, ret_reason);
		if (!exists(spec))
			return mfs_fail(ret_reason, -ENOENT, "%s: no such file", spec);
		c->conf_path = absolute_path(spec);
		return c->conf_path ? read_conf(c, ret_reason) : mfs_fail(ret_reason, -errno, "%s: %m", spec);
	}
	if (!strchr(spec, '/') && !exists(spec))
		return mfs_fail(ret_reason, -ENOENT,
				"%s: no such volume: there is neither %s nor a folder of this name", spec,
				by_name);
	return set_dir(c, spec, ret_reason);
}

/* config= in the options decides which file is read before they are. */
static int find_conf_option(struct mfs_config *c, const char *options, bool sloppy, char **ret_reason)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config probe;
	int r;

	mfs_config_init(&probe);
	r = mfs_config_parse_options(&probe, options, sloppy, NULL, ret_reason);
	if (r < 0)
		return r;
	c->conf_path = MFS_TAKE(probe.conf_path);
	return 0;
}

static int set_default(char **field, const char *value)
{
	if (!*field)
		*field = strdup(value);
	return *field ? 0 : -ENOMEM;
}

static int fill_rest(struct mfs_config *c, char **ret_reason)
{
	if (!c->memory)
		c->memory = mfs_default_memory();
	if (set_default(&c->fsname, c->source) < 0 || set_default(&c->subtype, "massfs") < 0 ||
	    set_default(&c->index, "sqlite") < 0 || set_default(&c->objects, "localdir") < 0)
		return mfs_fail(ret_reason, -ENOMEM, "no memory");
	return 0;
}

int mfs_config_load(struct mfs_config *c, const char *source, const char *options, bool sloppy,
		    struct mfs_buf *warnings, char **ret_reason)
{
	MFS_AUTOFREE char *spec = strdup(source);
	const char *subdir;
	int r;

	c->source = strdup(source);
	if (!spec || !c->source)
		return mfs_fail(ret_reason, -ENOMEM, "no memory");
	if (!*source)
		return mfs_fail(ret_reason, -EINVAL, "the source is empty: name a volume or its folder");
	if (!options)
		options = "";
	r = find_conf_option(c, options, sloppy, ret_reason);
	if (r < 0)
		return r;
	subdir = split_subdir(c, spec);
	r = resolve(c, spec, ret_reason);
	if (r < 0)
		return r;
	r = mfs_config_parse_options(c, options, sloppy, warnings, ret_reason);
	if (r < 0)
		return r;
	if (subdir) {
		r = set_subdir(c, subdir, ret_reason);
		if (r < 0)
			return r;
	}
	return fill_rest(c, ret_reason);
}
