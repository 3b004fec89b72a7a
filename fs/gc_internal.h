/* What gc.c (what the index lists), gc_walk.c (what the store has) and gc_names.c (what records name) share. */
#ifndef MASSFS_FS_GC_INTERNAL_H
#define MASSFS_FS_GC_INTERNAL_H

#include <stdlib.h>

#include "common/op_ctx.h"
#include "fs/gc.h"

/* 60 s. In a build with crash points (common/crash_point.h) tests need not wait: MASSFS_TEST_GC_AGE=SECONDS. */
static inline int64_t gc_dropped_age_ns(void)
{
	int64_t age = 60;
#ifdef MASSFS_CRASH_POINTS
	const char *given = getenv("MASSFS_TEST_GC_AGE");

	if (given)
		age = strtoll(given, NULL, 10);
#endif
	return age * INT64_C(1000000000);
}

/* Numbers, to be asked for once they are sorted. */
struct gc_set {
	uint64_t *v;
	size_t n, cap;
};
int gc_set_add(struct gc_set *s, uint64_t value) MFS_NODISCARD;
void gc_set_sort(struct gc_set *s);
bool gc_set_has(const struct gc_set *s, uint64_t value);
void gc_set_release(struct gc_set *s);
uint64_t gc_version_hash(const char *version);

/* What the records of one inode name. Zeroed: of none. */
struct gc_names {
	mfs_ino_t ino;	 /* 0: nothing read */
	bool all;	 /* a layout cannot be read: everything counts as named */
	struct gc_set versions; /* hashes, of objects and segments */
	struct gc_set docs;
};
/* Read, unless they are there already: the caller sets ino to 0 where what it judges is younger than what was read. */
int gc_names_read(struct volume *v, struct op_ctx *op, mfs_ino_t ino, struct gc_names *names) MFS_NODISCARD;
bool gc_names_version(const struct gc_names *names, const char *version);
bool gc_names_doc(const struct gc_names *names, uint64_t id);
void gc_names_release(struct gc_names *names);

/*
 * Of a version that the inode it was made for (or dropped by) does not name: does another file that shares it? 1; 0: nobody
 * names it and nobody ever will (meta/shared.h); -errno. *ret: its list, which goes with the object (gc_unshare()); the
 * caller's, empty if it is not shared.
 */
int gc_shared(struct volume *v, struct op_ctx *op, const char *version, struct cell_record *ret) MFS_NODISCARD;
/* The write that deletes the list; nothing when there is none. The change borrows *cell, whose value goes. */
void gc_unshare(struct change *c, struct cell_record *cell);

void gc_found(const struct gc_options *opt, const char *what, const struct object_info *info);

#endif
