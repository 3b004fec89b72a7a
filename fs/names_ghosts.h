/*
 * Names that the kernel may have in use for a record though it is not called that any more ("ghosts"). A rename(2) between
 * two names of one inode does nothing and succeeds: so the kernel must not be given a record's new name while a call of it
 * may hold the old one. Private to fs/names*.c; the caller holds names.lock.
 *
 * A ghost ends when the kernel was told to forget it (the notice takes the directory's lock, which a rename has had since
 * before it looked the old name up), or by its time.
 */
#ifndef MASSFS_FS_NAMES_GHOSTS_H
#define MASSFS_FS_NAMES_GHOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "meta/node.h"

struct ghosts;

/* A name as it was given; bytes are the caller's. */
struct ghost_name {
	mfs_ino_t parent, ino;
	uint64_t id; /* as in fs/names.h */
	const char *bytes;
	size_t len;
};

int ghosts_new(size_t max, struct ghosts **ret) MFS_NODISCARD;
void ghosts_free(struct ghosts *g);

/* until: monotonic, when it ends by itself. who: only this thread can hold it; 0: any. noticed: the kernel is going to be told. */
void ghosts_add(struct ghosts *g, const struct ghost_name *name, int64_t until, pid_t who, bool noticed);

/*
 * Is what is about to be given (name) another name of a ghost's record, for a request of `who` that began at `at`? Those of which
 * the kernel is not told yet come to fn, once.
 */
typedef void ghost_fn(void *arg, const struct ghost_name *name);
bool ghosts_other(struct ghosts *g, const struct ghost_name *name, int64_t at, pid_t who, ghost_fn *fn, void *arg);
/* May two ids of one inode's names be the same record? */
bool ghosts_same_record(mfs_ino_t ino, uint64_t a, uint64_t b);

/* All that are there by now have a mark of at most this. */
uint64_t ghosts_mark(const struct ghosts *g);
/* The kernel has forgotten the name, of which it was told after the mark was taken. */
void ghosts_end(struct ghosts *g, uint64_t mark, mfs_ino_t parent, const char *name, size_t len);

/* Was an answer about the inode refused to this thread a moment ago? That is forgotten then; else it is remembered from now on. */
bool ghosts_refused(struct ghosts *g, pid_t who, mfs_ino_t ino);

size_t ghosts_count(const struct ghosts *g);

#endif
