/*
 * /proc/PID/mountinfo as a table: what is mounted where, seen from this mount namespace.
 */
#ifndef MASSFS_COMMON_MOUNTINFO_H
#define MASSFS_COMMON_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/defs.h"

/* Strings are unescaped and live in the table's text. */
struct mountinfo_entry {
	unsigned int id, parent;
	dev_t dev;
	const char *root; /* which folder of the filesystem is seen here: not "/" for bind mounts */
	const char *dir; /* where */
	const char *options; /* of this mount: "rw,nosuid,..." */
	const char *fstype;
	char *source; /* fsname= of a FUSE mount */
};

struct mountinfo {
	struct mountinfo_entry *v;
	size_t n;
	char *text;
};

/* path NULL: /proc/self/mountinfo. 0 or -errno; release in any case. */
int mountinfo_read(const char *path, struct mountinfo *ret) MFS_NODISCARD;
/* text: owned by *ret from now on, whatever the result. Lines that are none are left out. 0 or -ENOMEM. */
int mountinfo_parse(char *text, struct mountinfo *ret) MFS_NODISCARD;
void mountinfo_release(struct mountinfo *mi);
#define MFS_AUTOMOUNTINFO MFS_CLEANUP(mountinfo_release)

/* The mount that a look at dir (an absolute path without symlinks) meets; NULL: nothing is mounted right there. */
const struct mountinfo_entry *mountinfo_top(const struct mountinfo *mi, const char *dir);
/* The first that shows this filesystem; NULL: none. */
const struct mountinfo_entry *mountinfo_by_dev(const struct mountinfo *mi, dev_t dev);
/* "fuse" or "fuse.SOMETHING". */
bool mountinfo_is_fuse(const struct mountinfo_entry *e);

#endif
