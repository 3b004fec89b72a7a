/*
 * The reconciler: makes the bucket follow the index, key by key. Threads of the mount work the queue of jobs at once
 * after each change, and content that is no object yet when its time has come; since both are in the index, after a
 * crash too. The functions below also run offline.
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
/* Every file below a directory. report (NULL: none): how many were done so far; left is 0, not known. -EAGAIN: some could
 * not be done and stay queued. */
int reconcile_dir(struct volume *v, struct op_ctx *op, mfs_ino_t dir,
		  void (*report)(void *arg, uint64_t done, uint64_t left), void *arg) MFS_NODISCARD;
/* The content of this file, of every file below this directory, or (0) of all, is due now, whatever was to be waited for. */
int reconcile_hasten(struct volume *v, struct op_ctx *op, mfs_ino_t ino) MFS_NODISCARD;

/*
 * What a regular file is. SETTLED: one whole object on top of its path's key. EMPTY: no object (made and never written).
 * INLINE: its content is in the index. PATCHED: parts of it are in patch objects. SPARSE: so much of it is holes that on
 * a store without them it stays as it is. PENDING: all else that the reconciler has work with (an object at another
 * key, or longer or shorter than the file). -EIO: the object is missing.
 */
enum file_state { FILE_EMPTY, FILE_SETTLED, FILE_PENDING, FILE_INLINE, FILE_PATCHED, FILE_SPARSE };
int reconcile_state(struct volume *v, struct op_ctx *op, const struct node *n, enum file_state *ret) MFS_NODISCARD;

/*
 * Two queues are worked until nothing is left in them that can be done: jobs (keys and directories to look at), and the
 * records with todo set, whose content is to become an object. Due by `due_before` (wall time ns); INT64_MAX: all of
 * them, by force: whatever is open, was changed a moment ago or has a temporary name. *ret_left (may be NULL): how many
 * stay. Safe beside the threads. report may be NULL.
 */
int reconcile_run(struct volume *v, struct op_ctx *op, int64_t due_before, uint64_t *ret_left,
		  void (*report)(void *arg, uint64_t done, uint64_t left), void *arg) MFS_NODISCARD;

/* Only the jobs: no content is composed (umount, fsck). *ret_left: jobs. */
int reconcile_run_jobs(struct volume *v, struct op_ctx *op, int64_t due_before, uint64_t *ret_left,
		       void (*report)(void *arg, uint64_t done, uint64_t left), void *arg) MFS_NODISCARD;

/* All jobs, and the content of files up to one part (5 MiB), by force, but of no file after until_ns (CLOCK_MONOTONIC): what an
 * umount can wait for. *ret_left: how many of both stay for the next mount. */
int reconcile_run_small(struct volume *v, struct op_ctx *op, int64_t until_ns, uint64_t *ret_left,
			void (*report)(void *arg, uint64_t done, uint64_t left), void *arg) MFS_NODISCARD;

/* Queue a key: an upload to it that was given up may have left its view wrong. Wakes the thread. */
int reconcile_queue_key(struct volume *v, struct op_ctx *op, const char *key) MFS_NODISCARD;

/* What another program put at this key becomes the next version of the file at that path, or a new file. 1: so; 0: nothing
 * foreign is there; -EAGAIN: it is being written; -EISDIR -ENOTDIR -EEXIST: something else has the name; -EPERM. */
int reconcile_import_key(struct volume *v, struct op_ctx *op, const char *key) MFS_NODISCARD;
/* The same of what an upload of ours covered there meanwhile: versions of the file at that path. How many. Of a store where a key has
 * several versions (OBJECT_CAP_KEY_HIDES). */
int reconcile_import_past(struct volume *v, struct op_ctx *op, const char *key) MFS_NODISCARD;
/* Calls fn for each file at or below `path` whose object another program took from its key; what it returns other than 0
 * ends the walk. Any job of such a file would put it back. */
int reconcile_find_removed(struct volume *v, struct op_ctx *op, const char *path,
			   int (*fn)(void *arg, mfs_ino_t parent, const char *name, const char *key),
			   void *arg) MFS_NODISCARD;

/* Two threads: one for jobs, one for records. */
struct reconciler;
int reconciler_start(struct volume *v, struct reconciler **ret) MFS_NODISCARD;
void reconciler_wake(struct reconciler *r); /* any thread; jobs were queued. NULL: nothing */
void reconciler_stop(struct reconciler *r); /* ends between two parts at the latest, joins. NULL: nothing */

#endif
