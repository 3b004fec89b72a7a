/*
 * The reconciler: makes the bucket follow the index, key by key. A thread of the mount works the queue of jobs at
 * once after each change and, since jobs are in the index, after a crash; the functions below also run offline.
 */
#ifndef MASSFS_FS_RECONCILE_H
#define MASSFS_FS_RECONCILE_H

#include "fs/volume.h"

/*
 * Until the top at `key` is what the index says is at that path now: a file whose object is elsewhere is copied to
 * the key (localdir: a hard link) and its record switched by compare-and-set; no file there: a delete marker.
 * Idempotent. 0; -EAGAIN: not possible yet (a view is blocked by a key whose turn comes later), stays queued.
 */
int reconcile_key(struct volume *v, struct op_ctx *op, const char *key) MFS_NODISCARD;
/* Until the file's object is one whole native object at its path's key (or .massfs/o/<ino>). */
int reconcile_file(struct volume *v, struct op_ctx *op, mfs_ino_t ino) MFS_NODISCARD;
/* Every file below a directory that moved. */
int reconcile_dir(struct volume *v, struct op_ctx *op, mfs_ino_t dir) MFS_NODISCARD;

/* What a regular file is at rest. EMPTY: no object (size 0, never written). SPARSE: fewer bytes in the object than the
 * file has. PENDING: the reconciler has work with it. -EIO: the object is missing. */
enum file_state { FILE_EMPTY, FILE_SETTLED, FILE_PENDING, FILE_SPARSE };
int reconcile_state(struct volume *v, struct op_ctx *op, const struct node *n, enum file_state *ret) MFS_NODISCARD;

/* Work all jobs due by `due_before` (wall time ns; INT64_MAX: all), until none is left that can be done.
 * *ret_left: how many stay queued. Safe beside the thread. report may be NULL. */
int reconcile_run(struct volume *v, struct op_ctx *op, int64_t due_before, uint64_t *ret_left,
		  void (*report)(void *arg, uint64_t done, uint64_t left), void *arg) MFS_NODISCARD;

/* Queue a key: an upload to it that was given up may have left its view wrong. Wakes the thread. */
int reconcile_queue_key(struct volume *v, struct op_ctx *op, const char *key) MFS_NODISCARD;

struct reconciler;
int reconciler_start(struct volume *v, struct reconciler **ret) MFS_NODISCARD;
void reconciler_wake(struct reconciler *r); /* any thread; jobs were queued. NULL: nothing */
void reconciler_stop(struct reconciler *r); /* ends after the job in hand, joins. NULL: nothing */

#endif
