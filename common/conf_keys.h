/*
 * The table of configuration names, shared by the readers of -o options and of .conf files. Only common/conf_*.c
 * include this.
 */
#ifndef MASSFS_COMMON_CONF_KEYS_H
#define MASSFS_COMMON_CONF_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"

/* Where a name may stand. */
enum conf_where {
	IN_VOLUME = 1u << 0, /* section [volume] of a .conf */
	IN_MOUNT = 1u << 1, /* section [mount] */
	IN_OPTIONS = 1u << 2,
};

enum conf_kind {
	KIND_FLAG, /* bool at `at` becomes `arg` */
	KIND_RO, /* the ro flag: in a .conf it outlives mount(8)'s rw */
	KIND_RW,
	KIND_ATIME, /* enum mfs_atime at `at` becomes `arg` */
	KIND_USER, /* implies nosuid, nodev, and noexec if `arg`; what follows may take them back */
	KIND_IGNORE, /* with a value or without; says nothing to us */
	KIND_SIZE, /* uint64_t, bytes */
	KIND_DURATION, /* int64_t, ns */
	KIND_SECONDS, /* double */
	KIND_UINT, /* unsigned int */
	KIND_UMASK, /* mode_t, octal */
	KIND_UID, /* number or name */
	KIND_GID,
	KIND_STRING, /* char * */
	KIND_PATH, /* char *, absolute */
	KIND_PATHS, /* char *, absolute ones with ':' between */
	KIND_SUBDIR, /* char *, normalized */
	KIND_WORD, /* char *, one of `words` */
	KIND_DEBUG, /* char *, log modules; without a value: all */
	KIND_OPTIONS, /* a string of options, as -o takes it */
};

#define CONF_NO_FIELD SIZE_MAX

struct conf_key {
	const char *name; /* "x-*": any name that begins so */
	enum conf_kind kind;
	unsigned int where;
	size_t at,
		has; /* offsets in struct mfs_config; has: a bool that says it was given, or CONF_NO_FIELD */
	int arg; /* what a flag sets */
	uint64_t min, max; /* of numbers; durations and seconds: in seconds */
	const char *words; /* of KIND_WORD, space-separated */
};

/* NULL: no such name. */
const struct conf_key *conf_key_find(const char *name, size_t len);
/* The i-th of the table; NULL past its end. */
const struct conf_key *conf_key_at(size_t i);

/* May stand without "=value" in -o; must not have one. */
bool conf_key_is_flag(const struct conf_key *k);

/*
 * Give the field its value. -EINVAL, -ERANGE: *why says what is allowed ("a size such as 64MiB, from 1 to 2").
 * value NULL: none was written. -ENOMEM.
 */
int conf_key_set(struct mfs_config *c, const struct conf_key *k, const char *value, struct mfs_buf *why);

#endif
