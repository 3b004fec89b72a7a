/* What reconcile.c (one key, file or directory) and reconcile_run.c (the queue) share. */
#ifndef MASSFS_FS_RECONCILE_INTERNAL_H
#define MASSFS_FS_RECONCILE_INTERNAL_H

#include <errno.h>

#include "common/op_ctx.h"
#include "fs/reconcile.h"
#include "fs/snapshot.h"
#include "meta/layout.h"

#define RECONCILE_TEMPORARY_NS (30 * INT64_C(1000000000)) /* how long a temporary name may keep the final name's key */

#define RECONCILE_THREADS 16 /* they wait for the disk, mostly, and the more of them wait for one flush the better */

#define RECONCILE_TODO_NOW INT64_C(1) /* a todo that says: by force */

struct reconcile_tree {
	_Atomic uint64_t done, failed;
	void (*report)(void *arg, uint64_t done, uint64_t left);
	void *arg;
};

struct reconcile_ctx {
	struct volume *v;
	struct op_ctx *op;
	struct workers *files; /* for the files of a directory; NULL: one after the other */
	uint64_t max_size; /* content of bigger files is left alone; 0: no bound */
	int64_t until_ns;  /* CLOCK_MONOTONIC: no content is begun after it; 0: no bound */
	bool force;	   /* whatever is due later is done now (drain, settle --wait) */
	bool compose;	   /* content that is no whole object is made one; else its record is left to the other queue */
	bool hasten;	   /* nothing is done but todo set to RECONCILE_TODO_NOW */
	struct reconcile_tree *tree; /* what came of a walk; NULL: nobody asks */
	int64_t again_at;  /* out, with -EAGAIN: look again at this wall time, no failure; 0: by the usual backoff */
};

/* --- reconcile_compose.c --- */

/* Is it one object with all its bytes (its size apart, which only the store knows)? -EUCLEAN. */
int reconcile_is_whole(const struct node *n, bool *ret) MFS_NODISCARD;
/* Holes that the store would have to store, so many that the file is left as it is? */
int reconcile_stays_sparse(struct reconcile_ctx *rc, const struct node *n, bool *ret) MFS_NODISCARD;
/* A new object at `key` with the file's bytes. *ret_slices: what the record says over it (holes); the caller frees data.
 * -ENOENT: an object that the node names is not there; -EAGAIN: the record moved meanwhile. *meta becomes what the object
 * carries; *ret_kept: it is of an upload with a cell (fs/reconcile_kept.h), which the caller ends. */
int reconcile_compose(struct reconcile_ctx *rc, const struct node *n, const char *key, struct object_meta *meta,
		      struct object_info *ret, struct node_blob *ret_slices, bool *ret_kept) MFS_NODISCARD;
/* A whole object at another key, or on top of its own again. */
int reconcile_copy(struct reconcile_ctx *rc, const struct node *n, const char *bucket, const char *key,
		   const struct object_meta *meta, struct object_info *ret) MFS_NODISCARD;

/* --- reconcile_todo.c --- */

/* The wall time before which this content is left alone; 0: now is right. */
int64_t reconcile_not_before(struct reconcile_ctx *rc, const struct node *n);
/* 1 done, 0 the record moved on meanwhile, -errno. */
int reconcile_set_todo(struct reconcile_ctx *rc, const struct node *n, int64_t at) MFS_NODISCARD;
/* todo becomes RECONCILE_TODO_NOW, where there is one. */
int reconcile_hasten_file(struct reconcile_ctx *rc, mfs_ino_t ino) MFS_NODISCARD;
/* Records due by then, by several threads; *ret_done counts those that were settled. */
int reconcile_records(struct reconcile_ctx *rc, int64_t due_before,
		      void (*report)(void *arg), void *arg, uint64_t *ret_done) MFS_NODISCARD;

/* --- reconcile_import.c --- */

/* What another program put on top of the key is imported. 1: it was; 0: there is none; -EAGAIN: it is being written;
 * -EISDIR, -ENOTDIR, -EEXIST: something else has that name in the index; -EPERM: no key of a path. */
int reconcile_import(struct reconcile_ctx *rc, const char *key) MFS_NODISCARD;
bool reconcile_is_foreign(struct reconcile_ctx *rc, const char *key);

/* --- reconcile_versions.c --- */

/* The store's keys hide what is below them? Then: a directory's key holds nothing from now on. -EAGAIN: something there waits
 * for gc. */
static inline bool reconcile_keys_hide(const struct reconcile_ctx *rc)
{
	return object_store_caps(rc->v->store) & OBJECT_CAP_KEY_HIDES;
}
int reconcile_clear_key(struct reconcile_ctx *rc, const char *key) MFS_NODISCARD;
/* No more than 64 versions stay on a file's key. */
int reconcile_thin_key(struct reconcile_ctx *rc, const char *key) MFS_NODISCARD;

/* --- reconcile_others.c --- */

/* Is another mount storing an object at this key, of which the index may hear yet? 1, 0. */
int reconcile_in_flight(struct reconcile_ctx *rc, const char *key) MFS_NODISCARD;

/* --- reconcile.c, reconcile_key.c, reconcile_dir.c, reconcile_view.c --- */

/* Not now, but look again soon: not a failure. -EAGAIN. */
int reconcile_later(struct reconcile_ctx *rc, int64_t delay_ns) MFS_NODISCARD;
/* Is, or becomes, an object at its path. Not: a file that was made and never written. */
bool reconcile_has_content(const struct node *n);
bool reconcile_is_at_key(const struct node *n, const char *key);
/* Has the index something at that path already that is no file? (What an import has returned.) */
bool reconcile_no_place(int r);
/* May this temporary name keep the key of its final name for now? */
bool reconcile_keeps_final_key(struct reconcile_ctx *rc, const struct node *n, int64_t *ret_until);
/* -EAGAIN: the layout is another one by now. */
int reconcile_has_moved(struct reconcile_ctx *rc, const struct node *n) MFS_NODISCARD;
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
