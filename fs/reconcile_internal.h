/* What reconcile.c (one key, file or directory) and reconcile_run.c (the queue) share. */
#ifndef MASSFS_FS_RECONCILE_INTERNAL_H
#define MASSFS_FS_RECONCILE_INTERNAL_H

#include <errno.h>

#include "common/op_ctx.h"
#include "fs/reconcile.h"

#define RECONCILE_TEMPORARY_NS (30 * INT64_C(1000000000)) /* how long a temporary name may keep the final name's key */

#define RECONCILE_THREADS 16 /* they wait for the disk, mostly, and the more of them wait for one flush the better */

struct reconcile_ctx {
	struct volume *v;
	struct op_ctx *op;
	struct workers *files; /* for the files of a directory; NULL: one after the other */
	bool force;	   /* whatever is due later is done now (drain, settle --wait) */
	int64_t again_at;  /* out, with -EAGAIN: look again at this wall time, no failure; 0: by the usual backoff */
};

/* The file's object becomes one whole native object at its place, on top of its key. */
int reconcile_settle(struct reconcile_ctx *rc, mfs_ino_t ino) MFS_NODISCARD;
/* Every file below a directory. */
int reconcile_tree(struct reconcile_ctx *rc, mfs_ino_t dir) MFS_NODISCARD;

/* No such record or name any more: nothing is to be done about it. (-ELOOP: in no tree at all.) */
static inline bool reconcile_is_gone(int r)
{
	return r == -ESTALE || r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

/* The file that the index has at the key's path. 1: there is one, with content; 0: none. */
int reconcile_file_at(struct reconcile_ctx *rc, const char *key, struct node *ret) MFS_NODISCARD;
/* After a crash: keys whose top was made by that session and is not what the index names are queued. */
int reconcile_view(struct reconcile_ctx *rc, uint64_t session) MFS_NODISCARD;

/*
 * One job. The caller has the volume's lease. Several jobs at once are allowed, also about one key or file: whoever
 * changes what a key shows looks again before it calls its job done, and until then the job is in the queue.
 */
int reconcile_job(struct reconcile_ctx *rc, const struct job_record *job) MFS_NODISCARD;

#endif
