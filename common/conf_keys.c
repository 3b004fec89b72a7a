/*
 * The table of all configuration names, and how a value of each kind is read.
 */
#include "common/conf_keys.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"

#define AT(field) .at = offsetof(struct mfs_config, field), .has = CONF_NO_FIELD
#define AT_HAS(field) \
	.at = offsetof(struct mfs_config, field), .has = offsetof(struct mfs_config, has_##field)
#define RANGE(lo, hi) .min = (lo), .max = (hi)
#define MOUNT	      (IN_MOUNT | IN_OPTIONS)
#define VOLUME	      (IN_VOLUME | IN_OPTIONS)
#define YEAR	      (365ull * 86400)

#define FLAG(name_, field, value)                                                           \
	{                                                                                   \
		.name = name_, .kind = KIND_FLAG, .where = MOUNT, AT(field), .arg = (value) \
	}
#define ATIME(name_, value)                                                                  \
	{                                                                                    \
		.name = name_, .kind = KIND_ATIME, .where = MOUNT, AT(atime), .arg = (value) \
	}
#define USER(name_, value)                                                                        \
	{                                                                                         \
		.name = name_, .kind = KIND_USER, .where = IN_OPTIONS, AT(noexec), .arg = (value) \
	}
#define IGNORE(name_)                                                               \
	{                                                                           \
		.name = name_, .kind = KIND_IGNORE, .where = IN_OPTIONS, AT(source) \
	}

static const struct conf_key keys[] = {
	/* What is mounted. */
	{ .name = "source", .kind = KIND_PATH, .where = IN_VOLUME, AT(dir) },
	{ .name = "index", .kind = KIND_WORD, .where = IN_VOLUME, AT(index), .words = "sqlite mongodb" },
	{ .name = "objects", .kind = KIND_WORD, .where = IN_VOLUME, AT(objects), .words = "localdir s3" },
	{ .name = "endpoint", .kind = KIND_STRING, .where = IN_VOLUME, AT(endpoint) },
	{ .name = "bucket", .kind = KIND_STRING, .where = IN_VOLUME, AT(bucket) },
	{ .name = "region", .kind = KIND_STRING, .where = IN_VOLUME, AT(region) },
	{ .name = "prefix", .kind = KIND_STRING, .where = IN_VOLUME, AT(prefix) },
	{ .name = "places", .kind = KIND_STRING, .where = IN_VOLUME, AT(places) },
	{ .name = "addressing", .kind = KIND_WORD, .where = IN_VOLUME, AT(addressing), .words = "path virtual" },
	{ .name = "ca_file", .kind = KIND_PATH, .where = IN_VOLUME, AT(ca_file) },
	{ .name = "storage_class", .kind = KIND_STRING, .where = IN_VOLUME, AT(storage_class) },
	{ .name = "passwd_file", .kind = KIND_PATH, .where = IN_VOLUME, AT(passwd_file) },
	{ .name = "profile", .kind = KIND_STRING, .where = IN_VOLUME, AT(profile) },
	{ .name = "access_key", .kind = KIND_STRING, .where = IN_VOLUME, AT(access_key) },
	{ .name = "secret_key", .kind = KIND_STRING, .where = IN_VOLUME, AT(secret_key) },
	{ .name = "connections", .kind = KIND_UINT, .where = IN_VOLUME, AT(connections), RANGE(1, 1024) },
	{ .name = "timeout", .kind = KIND_DURATION, .where = IN_VOLUME, AT(timeout_ns), RANGE(1, 86400) },
	{ .name = "mongodb", .kind = KIND_STRING, .where = IN_VOLUME, AT(mongodb) },
	{ .name = "database", .kind = KIND_STRING, .where = IN_VOLUME, AT(database) },
	{ .name = "redis", .kind = KIND_STRING, .where = IN_VOLUME, AT(redis) },
	{ .name = "lease", .kind = KIND_DURATION, .where = IN_VOLUME, AT(lease_ns), RANGE(2, 3600) },
	{ .name = "config", .kind = KIND_PATH, .where = IN_OPTIONS, AT(conf_path) },
	{ .name = "cfg", .kind = KIND_PATH, .where = IN_OPTIONS, AT(conf_path) },
	{ .name = "subdir", .kind = KIND_SUBDIR, .where = MOUNT, AT(subdir) },
	{ .name = "options", .kind = KIND_OPTIONS, .where = IN_MOUNT, AT(source) },

	/* The volume. */
	{ .name = "part_size",
	  .kind = KIND_SIZE,
	  .where = VOLUME,
	  AT(part_size),
	  RANGE(5 * MFS_MIB, 5 * MFS_GIB) },
	{ .name = "capacity", .kind = KIND_SIZE, .where = VOLUME, AT(capacity), RANGE(0, 1ull << 62) },
	{ .name = "retention",
	  .kind = KIND_DURATION,
	  .where = VOLUME,
	  AT(retention_ns),
	  RANGE(0, 100 * YEAR) },
	{ .name = "index_log", .kind = KIND_DURATION, .where = VOLUME, AT(index_log_ns), RANGE(0, 86400) },
	{ .name = "settle_rate", .kind = KIND_SIZE, .where = VOLUME, AT(settle_rate), RANGE(0, 1ull << 50) },
	{ .name = "inline", .kind = KIND_SIZE, .where = VOLUME, AT(inline_size), RANGE(0, 64 * MFS_KIB) },

	/* The mount. */
	{ .name = "ro", .kind = KIND_RO, .where = MOUNT, AT(ro) },
	{ .name = "rw", .kind = KIND_RW, .where = IN_OPTIONS, AT(ro) },
	{ .name = "read_only", .kind = KIND_RO, .where = MOUNT, AT(ro) },
	FLAG("suid", nosuid, false),
	FLAG("nosuid", nosuid, true),
	FLAG("dev", nodev, false),
	FLAG("nodev", nodev, true),
	FLAG("exec", noexec, false),
	FLAG("noexec", noexec, true),
	FLAG("sync", sync, true),
	FLAG("async", sync, false),
	FLAG("dirsync", dirsync, true),
	FLAG("remount", remount, true),
	FLAG("diratime", nodiratime, false),
	FLAG("nodiratime", nodiratime, true),
	ATIME("relatime", MFS_RELATIME),
	ATIME("atime", MFS_RELATIME),
	ATIME("norelatime", MFS_STRICTATIME),
	ATIME("noatime", MFS_NOATIME),
	ATIME("strictatime", MFS_STRICTATIME),
	ATIME("nostrictatime", MFS_RELATIME),
	FLAG("allow_other", allow_other, true),
	FLAG("xattr", noxattr, false),
	FLAG("noxattr", noxattr, true),
	{ .name = "umask", .kind = KIND_UMASK, .where = MOUNT, AT_HAS(umask), RANGE(0, 0777) },
	{ .name = "uid", .kind = KIND_UID, .where = MOUNT, AT_HAS(uid), RANGE(0, UINT32_MAX - 1) },
	{ .name = "gid", .kind = KIND_GID, .where = MOUNT, AT_HAS(gid), RANGE(0, UINT32_MAX - 1) },
	{ .name = "entry_timeout",
	  .kind = KIND_SECONDS,
	  .where = MOUNT,
	  AT_HAS(entry_timeout),
	  RANGE(0, YEAR) },
	{ .name = "attr_timeout",
	  .kind = KIND_SECONDS,
	  .where = MOUNT,
	  AT_HAS(attr_timeout),
	  RANGE(0, YEAR) },
	{ .name = "negative_timeout",
	  .kind = KIND_SECONDS,
	  .where = MOUNT,
	  AT_HAS(negative_timeout),
	  RANGE(0, YEAR) },
	{ .name = "max_read", .kind = KIND_UINT, .where = MOUNT, AT(max_read), RANGE(4096, 1u << 20) },
	{ .name = "max_write", .kind = KIND_UINT, .where = MOUNT, AT(max_write), RANGE(4096, 1u << 20) },
	{ .name = "read_ahead_kb",
	  .kind = KIND_UINT,
	  .where = MOUNT,
	  AT_HAS(read_ahead_kb),
	  RANGE(0, 1u << 20) },
	{ .name = "max_threads", .kind = KIND_UINT, .where = MOUNT, AT(max_threads), RANGE(1, 1024) },
	{ .name = "max_background", .kind = KIND_UINT, .where = MOUNT, AT(max_background), RANGE(1, 65535) },
	{ .name = "fsname", .kind = KIND_STRING, .where = MOUNT, AT(fsname) },
	{ .name = "subtype", .kind = KIND_STRING, .where = MOUNT, AT(subtype) },

	/* The daemon. */
	FLAG("foreground", foreground, true),
	FLAG("nosync", nosync, true),
	{ .name = "memory", .kind = KIND_SIZE, .where = MOUNT, AT(memory), RANGE(32 * MFS_MIB, MFS_TIB) },
	{ .name = "debug", .kind = KIND_DEBUG, .where = MOUNT, AT(debug) },
	{ .name = "logfile", .kind = KIND_PATH, .where = MOUNT, AT(logfile) },
	{ .name = "cache_dir", .kind = KIND_PATHS, .where = MOUNT, AT(cache_dir) },
	FLAG("cache_local", cache_local, true),
	{ .name = "cache_size",
	  .kind = KIND_SIZE,
	  .where = MOUNT,
	  AT_HAS(cache_size),
	  RANGE(0, 1ull << 60) },
	{ .name = "cache_free", .kind = KIND_UINT, .where = MOUNT, AT(cache_free), RANGE(0, 99) },
	{ .name = "commit", .kind = KIND_DURATION, .where = MOUNT, AT(commit_ns), RANGE(1, 86400) },

	/* For mount(8), systemd and the kernel's security modules; nothing to us. */
	USER("user", true),
	USER("users", true),
	USER("owner", false),
	USER("group", false),
	IGNORE("nouser"),
	IGNORE("nousers"),
	IGNORE("noowner"),
	IGNORE("nogroup"),
	IGNORE("_netdev"),
	IGNORE("nofail"),
	IGNORE("fail"),
	IGNORE("auto"),
	IGNORE("noauto"),
	IGNORE("defaults"),
	IGNORE("comment"),
	IGNORE("x-*"),
	IGNORE("X-*"),
	IGNORE("context"),
	IGNORE("fscontext"),
	IGNORE("defcontext"),
	IGNORE("rootcontext"),
	IGNORE("seclabel"),
	IGNORE("mand"),
	IGNORE("nomand"),
	IGNORE("iversion"),
	IGNORE("noiversion"),
	IGNORE("lazytime"),
	IGNORE("nolazytime"),
	IGNORE("silent"),
	IGNORE("loud"),
	IGNORE("quiet"),
	IGNORE("helper"),
	IGNORE("uhelper"),
	/* What the kernel shows of a FUSE mount, and mount -o remount gives back. */
	IGNORE("user_id"),
	IGNORE("group_id"),
	IGNORE("rootmode"),
	IGNORE("fd"),
	IGNORE("blksize"),
	/* Of libfuse 2 and 3: what they ask for is always so. */
	{ .name = "default_permissions", .kind = KIND_IGNORE, .where = MOUNT, AT(source) },
	IGNORE("nonempty"),
	IGNORE("big_writes"),
	IGNORE("use_ino"),
	IGNORE("readdir_ino"),
	IGNORE("intr"),
	IGNORE("hard_remove"),
};

static bool same_name(const char *key, const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char k = key[i] == '-' && i ? '_' : key[i], n = name[i] == '-' && i ? '_' : name[i];

		if (key[i] == '*' && !key[i + 1])
			return true;
		if (k != n || !k)
			return false;
	}
	return !key[len];
}

const struct conf_key *conf_key_find(const char *name, size_t len)
{
	for (size_t i = 0; i < MFS_ARRAY_LEN(keys); i++)
		if (same_name(keys[i].name, name, len))
			return &keys[i];
	return NULL;
}

const struct conf_key *conf_key_at(size_t i)
{
	return i < MFS_ARRAY_LEN(keys) ? &keys[i] : NULL;
}

bool conf_key_is_flag(const struct conf_key *k)
{
	return k->kind == KIND_FLAG || k->kind == KIND_RO || k->kind == KIND_RW || k->kind == KIND_ATIME;
}

static void *field(struct mfs_config *c, const struct conf_key *k)
{
	return (char *)c + k->at;
}

static int set_string(struct mfs_config *c, const struct conf_key *k, const char *value)
{
	char **at = field(c, k), *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*at);
	*at = copy;
	return 0;
}

static int set_size(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	char lo[24], hi[24];
	uint64_t v = 0;
	int r;

	r = mfs_str_size(value, &v);
	if (!r && (v < k->min || v > k->max))
		r = -ERANGE;
	if (r < 0) {
		mfs_buf_printf(why, "a size such as 64MiB, from %s to %s",
			       mfs_str_put_size(lo, sizeof(lo), k->min),
			       mfs_str_put_size(hi, sizeof(hi), k->max));
		return r;
	}
	*(uint64_t *)field(c, k) = v;
	return 0;
}

static int set_time(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	int64_t ns = 0;
	int r;

	r = mfs_str_duration(value, &ns);
	if (!r && (ns < (int64_t)k->min * MFS_NSEC_PER_SEC || ns > (int64_t)k->max * MFS_NSEC_PER_SEC))
		r = -ERANGE;
	if (r < 0) {
		mfs_buf_printf(why, "a time such as 30s or 7d, from %jus to ", (uintmax_t)k->min);
		if (k->max % 86400)
			mfs_buf_printf(why, "%jus", (uintmax_t)k->max);
		else
			mfs_buf_printf(why, "%jud", (uintmax_t)k->max / 86400);
		return r;
	}
	if (k->kind == KIND_SECONDS)
		*(double *)field(c, k) = (double)ns / 1e9;
	else
		*(int64_t *)field(c, k) = ns;
	return 0;
}

static int set_number(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	bool octal = k->kind == KIND_UMASK;
	uint64_t v = 0;
	int r;

	r = mfs_str_uint(value, octal ? 8 : 10, k->min, k->max, &v);
	if (r < 0) {
		mfs_buf_printf(why, octal ? "an octal number from %jo to %jo" : "a number from %ju to %ju",
			       (uintmax_t)k->min, (uintmax_t)k->max);
		return r;
	}
	*(unsigned int *)field(c, k) = (unsigned int)v; /* mode_t, uid_t and gid_t are unsigned int, too */
	return 0;
}

/* A number, or a name of the user database. */
static int set_id(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	const struct passwd *pw;
	const struct group *gr;
	uint64_t id = 0;
	int r;

	r = mfs_str_uint(value, 10, k->min, k->max, &id);
	if (r == -EINVAL && k->kind == KIND_UID) {
		pw = getpwnam(value);
		id = pw ? pw->pw_uid : 0;
		r = pw ? 0 : -EINVAL;
	} else if (r == -EINVAL) {
		gr = getgrnam(value);
		id = gr ? gr->gr_gid : 0;
		r = gr ? 0 : -EINVAL;
	}
	if (r < 0) {
		mfs_buf_printf(why, "the name or number of a %s", k->kind == KIND_UID ? "user" : "group");
		return r;
	}
	*(uint32_t *)field(c, k) = (uint32_t)id;
	return 0;
}

static int set_path(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	if (value[0] != '/') {
		mfs_buf_puts(why, "an absolute path");
		return -EINVAL;
	}
	return set_string(c, k, value);
}

static int set_paths(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	for (const char *p = value; p; p = strchr(p, ':')) {
		p += p != value;
		if (*p != '/') {
			mfs_buf_puts(why, "absolute paths, with ':' between them");
			return -EINVAL;
		}
	}
	return set_string(c, k, value);
}

static int set_subdir(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	MFS_AUTOFREE char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	if (mfs_path_normalize(copy) < 0) {
		mfs_buf_puts(why, "a path inside the volume, without \"..\"");
		return -EINVAL;
	}
	return set_string(c, k, copy);
}

static int set_word(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	size_t len;

	for (const char *w = k->words; *w; w += len + (w[len] == ' ')) {
		len = strcspn(w, " ");
		if (len == strlen(value) && !memcmp(w, value, len))
			return set_string(c, k, value);
	}
	mfs_buf_printf(why, "one of: %s", k->words);
	return -EINVAL;
}

static int set_debug(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	if (mfs_log_check_debug(value ? value : "all") < 0) {
		mfs_buf_printf(why, "%s, or several of them with ':' between", mfs_log_modules());
		return -EINVAL;
	}
	return set_string(c, k, value ? value : "all");
}

static void set_user(struct mfs_config *c, const struct conf_key *k)
{
	c->nosuid = true;
	c->nodev = true;
	if (k->arg)
		c->noexec = true;
}

static int set_by_kind(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	switch (k->kind) {
	case KIND_FLAG:
		*(bool *)field(c, k) = k->arg;
		return 0;
	case KIND_RO:
		c->ro = true;
		return 0;
	case KIND_RW:
		c->ro = c->conf_ro;
		return 0;
	case KIND_ATIME:
		c->atime = (enum mfs_atime)k->arg;
		return 0;
	case KIND_USER:
		set_user(c, k);
		return 0;
	case KIND_IGNORE:
	case KIND_OPTIONS: /* taken by the reader of .conf files */
		return 0;
	case KIND_SIZE:
		return set_size(c, k, value, why);
	case KIND_DURATION:
	case KIND_SECONDS:
		return set_time(c, k, value, why);
	case KIND_UINT:
	case KIND_UMASK:
		return set_number(c, k, value, why);
	case KIND_UID:
	case KIND_GID:
		return set_id(c, k, value, why);
	case KIND_STRING:
		return set_string(c, k, value);
	case KIND_PATH:
		return set_path(c, k, value, why);
	case KIND_PATHS:
		return set_paths(c, k, value, why);
	case KIND_SUBDIR:
		return set_subdir(c, k, value, why);
	case KIND_WORD:
		return set_word(c, k, value, why);
	case KIND_DEBUG:
		return set_debug(c, k, value, why);
	}
	return -EINVAL;
}

int conf_key_set(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why)
{
	bool needs_value = !conf_key_is_flag(k) && k->kind != KIND_USER && k->kind != KIND_IGNORE &&
			   k->kind != KIND_DEBUG;
	int r;

	if (needs_value && (!value || !*value)) {
		mfs_buf_puts(why, "a value");
		return -EINVAL;
	}
	r = set_by_kind(c, k, value, why);
	if (!r && k->has != CONF_NO_FIELD)
		*(bool *)((char *)c + k->has) = true;
	return r;
}
