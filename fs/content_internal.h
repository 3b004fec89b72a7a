/* What the content*.c files share: the state of one open file's bytes. */
#ifndef MASSFS_FS_CONTENT_INTERNAL_H
#define MASSFS_FS_CONTENT_INTERNAL_H

#include <stdatomic.h>

#include "common/log.h"
#include "common/op_ctx.h"
#include "fs/content.h"
#include "fs/dirty.h"

/* namespace_key() builds the whole path in the buffer before it knows that it is too long for a key. */
#define CONTENT_PATH_MAX (16 * MFS_MIB)

/* One immutable object that readers use; replaced as a whole, so a reader keeps the one it began with. */
struct base {
	atomic_uint refs;
	struct object_ref ref; /* constant; empty: no object, all zeros */
	struct mfs_mutex lock; /* guards fd */
	int fd;		       /* OBJECT_CAP_FD, opened at the first read; -1 */
};

/*
 * Where a byte is found, newest first:
 *   map      written, not sent
 *   sending  extents that an upload job or a commit is reading; constant bytes; no two overlap
 *   upload   sent (a staged upload holds the base's bytes too)
 *   base     [0, base_len) of the committed object
 *   zeros    up to size
 */
struct content {
	struct content_env *env; /* constant, as is ino */
	mfs_ino_t ino;
	struct content *next, **prevp; /* env->lock */

	struct mfs_mutex lock;	/* guards all below; never held across a store or index call */
	pthread_cond_t changed; /* busy, sending, upload_readers, failed */
	bool busy;		/* one thread stages, commits or truncates; the others wait */

	struct base *base;
	uint64_t base_len;   /* of the base's bytes those that still count */
	uint64_t lay, data;  /* of the record the base was read from */
	struct mfs_attr attr; /* of that record: owner and mode for uploads, alloc */
	bool stale;	     /* read the record again before the next use */

	uint64_t size;
	struct dirty map;
	struct extent **sending;
	size_t n_sending, cap_sending;
	struct object_upload *upload;
	struct mfs_buf upload_key; /* its key */
	bool upload_temporary;
	unsigned int next_part;
	uint64_t sent_end;	    /* without OBJECT_CAP_SPARSE: parts are sent in order up to here */
	uint64_t sent_size;	    /* size and mtime when upload_send() last found nothing more to send */
	int64_t sent_mtime;
	unsigned int upload_readers;
	bool completing; /* the upload is being completed and committed: readers wait */
	uint64_t gen; /* rises when base, upload or sending change: a reader that mixed two states reads again */

	bool dirty;	   /* differs from the record */
	bool unlinked;	   /* has no name: nothing of it needs to be durable */
	bool rewrite;	   /* truncated to nothing since the last commit: the old content does not count */
	int64_t mtime;	   /* of the last write not in the record; 0: none */
	bool version_due;  /* the state in the index is one at a writer's close */
	bool closed;	   /* nothing was written since a close(2): whoever opens it next changes a closed state */
	unsigned int n_writers;
	int last_error;	   /* -errno of the last commit that failed, for the message at the end; 0: none */
	int failed;	   /* -errno of an upload that broke; until the last writer is gone */
};

static inline bool content_sparse(const struct content *c)
{
	return object_store_caps(c->env->vol->store) & OBJECT_CAP_SPARSE;
}

struct base *base_new(const struct object_ref *ref);
void base_put(struct base *b);
/* Bytes [off, off+len) of it; missing ones (past its end) are -EIO. */
int base_read(struct content *c, struct op_ctx *op, struct base *b, uint64_t off, void *buf, size_t len) MFS_NODISCARD;

/* Wait until nobody is busy, then be it. */
void content_enter_locked(struct content *c) MFS_REQUIRES(c->lock);
void content_leave_locked(struct content *c) MFS_REQUIRES(c->lock);
/* Take the state of a node as the clean one. */
int content_adopt_locked(struct content *c, const struct node *n) MFS_NODISCARD MFS_REQUIRES(c->lock);
/* Read the record again if it is stale. The caller is busy; the lock is not held. */
int content_refresh(struct content *c, struct op_ctx *op) MFS_NODISCARD;
/* Drop dirty data and the upload; back to the base. The caller is busy; no upload job runs. */
void content_discard(struct content *c, struct op_ctx *op);

/* content_upload.c. All are called by the busy thread without the lock, but those named _locked. */
int upload_stage(struct content *c, struct op_ctx *op) MFS_NODISCARD;
/* Send what is full (all: everything), in the background. */
int upload_send(struct content *c, bool all) MFS_NODISCARD;
void upload_wait(struct content *c); /* until nothing is being sent */
int upload_finish(struct content *c, struct op_ctx *op, uint64_t size, int64_t mtime,
		  struct object_info *ret) MFS_NODISCARD;
void upload_drop(struct content *c, struct op_ctx *op);
bool upload_wanted_locked(struct content *c) MFS_REQUIRES(c->lock);
int content_key(struct content *c, struct op_ctx *op, struct mfs_buf *key, bool *temporary) MFS_NODISCARD;

/* content_commit.c. */
int content_commit(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed) MFS_NODISCARD;

/* content_read.c */
int content_read_whole(struct content *c, struct op_ctx *op, uint64_t off, void *buf, size_t len) MFS_NODISCARD;

#endif
