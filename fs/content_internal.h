/* What the content*.c files share: the state of one open file's bytes. */
#ifndef MASSFS_FS_CONTENT_INTERNAL_H
#define MASSFS_FS_CONTENT_INTERNAL_H

#include <stdatomic.h>

#include "common/log.h"
#include "common/op_ctx.h"
#include "fs/content.h"
#include "fs/dirty.h"
#include "fs/ranges.h"
#include "fs/read_ahead.h"
#include "meta/layout.h"

/* namespace_key() builds the whole path in the buffer before it knows that it is too long for a key. */
#define CONTENT_PATH_MAX (16 * MFS_MIB)

#define CONTENT_ALL	   UINT64_MAX
#define CONTENT_SMALL	   (UINT64_C(64) << 10) /* changed files up to this are written anew */
#define CONTENT_DIRTY_SOFT (UINT64_C(32) << 20) /* so much dirty of one file is sent without being asked */
#define CONTENT_TIER_MAX   (UINT64_C(4) << 20)	/* a patch object swallows others up to this */

/* One immutable object that readers use. Its descriptor is opened at the first read. */
struct blob {
	atomic_uint refs;
	struct object_ref ref; /* constant, as are the next two */
	uint64_t size;	       /* what the index says it has at least */
	uint64_t session, op;  /* of a patch object; else 0 */
	struct mfs_mutex lock; /* guards fd */
	int fd;		       /* OBJECT_CAP_FD; -1 */
};

/*
 * A committed state: immutable, so a reader keeps the one it began with. Inline bytes, or an object (or none) with a
 * layout over it; zeros up to size.
 */
struct state {
	atomic_uint refs;
	struct blob *object; /* NULL: none */
	char etag[OBJECT_ETAG_MAX + 1];
	uint64_t obj_len, size;
	struct node_blob inline_data;
	bool is_inline; /* also of an empty file that has no object yet */
	bool damaged;	/* inline_data is not what its sum says: not to be given to anybody, nor taken into an object */
	struct layout layout;
	uint64_t lay, data;
	int64_t todo;
	struct mfs_attr attr; /* of that record: owner and mode for uploads, alloc */
};

/* Bytes of the newest own patch objects, which the next one may take in: [pos, pos+len) of the log. */
struct tail {
	uint64_t pos, own_from; /* own_from: segments below belong to a version, or to another committer */
	size_t len, cap;
	size_t reserved; /* of the budget */
	unsigned char *data;
};

/*
 * Where a byte is found, newest first:
 *   map, holes        written or punched, not sent; disjoint
 *   sending           extents that an upload job or a commit is reading; constant bytes; no two overlap
 *   frozen            punched before that; disjoint from sending
 *   upload            sent, of a file whose committed bytes do not count any more (committed length 0)
 *   state             [0, min(state->size, clip))
 *   zeros             up to size
 */
struct content {
	struct content_env *env; /* constant, as is ino */
	mfs_ino_t ino;
	struct content *next, **prevp; /* env->lock */

	struct mfs_mutex lock;	/* guards all below; never held across a store or index call */
	pthread_cond_t changed; /* busy, compacting, sending, upload_readers, failed */
	bool busy;		/* one thread stages, commits or truncates; the others wait */
	bool compacting;	/* a job that composes is queued or runs */

	struct state *state;
	uint64_t own_from;   /* the counter `data` since which only our own commits have moved it */
	bool stale;	     /* read the record again before the next use */
	unsigned int reloads, seen; /* calls of content_reload(); and how many before the busy thread last read the record */
	uint64_t clip;	     /* truncated to this since the last commit; CONTENT_ALL: not */

	uint64_t size;
	struct content_rules rules; /* constant: storage rules as they were when it was opened (content_judge.c) */
	bool judging;	     /* a close is committing: the busy thread's, as is the next */
	uint64_t accepted;   /* the counter `data` when the first writer came, or a close was last content with it */
	bool accepted_empty;
	bool refused;	     /* by rules, at a close, and not written since: dirty still, in case somebody writes on */
	uid_t writer;	     /* who wrote last, where a close may refuse it */
	struct dirty map;
	struct ranges holes, frozen;
	struct extent **sending;
	size_t n_sending, cap_sending;
	uint64_t append_from;	/* from here on bytes were appended since the last commit; CONTENT_ALL: none were */
	uint64_t frozen_append; /* the same of what is being committed */
	struct tail tail;	/* the busy thread's */
	uint64_t swept;		/* bytes of patches put since dead segments were looked for; the busy thread's */
	atomic_bool wasteful;	/* its patch objects hold much more than what is in use; set by the busy thread */

	struct object_upload *upload;
	struct mfs_buf upload_key; /* its key */
	bool upload_temporary;
	unsigned int next_part;
	uint64_t sent_end;	    /* without OBJECT_CAP_SPARSE: parts are sent in order up to here */
	uint64_t sent_size;	    /* size and mtime when upload_send() last found nothing more to send */
	int64_t sent_mtime;
	unsigned int upload_readers;
	bool completing; /* the upload is being completed and committed: readers wait */
	uint64_t gen; /* rises when state, clip, upload or sending change: a reader that mixed two states reads again */

	struct read_ahead ahead;

	bool dirty;	   /* differs from the record */
	_Atomic uint64_t session; /* in which it became so: its objects are that one's, and its commit must not be fenced */
	bool rewrite;	   /* truncated to nothing since the last commit: what others commit meanwhile is replaced */
	int64_t mtime;	   /* of the last write not in the record; 0: none */
	int64_t dirty_since, written; /* monotonic: of the first and the last write since the last commit */
	bool version_due;  /* the state in the index is one at a writer's close */
	bool closed;	   /* nothing was written since a close(2): whoever opens it next changes a closed state */
	unsigned int n_writers;
	int last_error;	   /* -errno of the last commit that failed, for the message at the end; 0: none */
	uint64_t unsure_size, unsure_data; /* of a commit whose outcome is unknown; unsure_data 0: none */
	int64_t unsure_mtime;		   /* which it gave the file: another mount's commit has another one; 0: it gave none */
	int failed;	   /* -errno of an upload that broke; until it is given up, or the last writer is gone */
	unsigned int losses; /* how often a close gave up */
	int loss;	   /* -errno of the last time */
};

static inline bool content_sparse(const struct content *c)
{
	return object_store_caps(c->env->vol->store) & OBJECT_CAP_SPARSE;
}

/* Bytes were appended whose place the commit decides, as others may have made the file longer: not to be sent before. */
static inline bool content_appends_locked(const struct content *c)
{
	return c->append_from != CONTENT_ALL && !c->rewrite && !(c->env->vol->engine->ops->caps & ENGINE_SINGLE_MOUNT);
}

/* It is clean (but for what a commit has just taken): what comes now is of the mount's session of this moment. */
static inline void content_session_now(struct content *c)
{
	c->session = c->env->vol->session;
}

/* Is there anything that another mount's state must be kept away for? An empty file is dirty by being opened for writing. */
static inline bool content_holds_locked(const struct content *c)
{
	return c->dirty && (c->map.n || c->holes.n || c->n_sending || c->upload || c->rewrite || c->clip != CONTENT_ALL ||
			    c->size != c->state->size || c->mtime);
}

/* How much of the committed state counts. */
static inline uint64_t content_committed_locked(const struct content *c)
{
	return MFS_MIN(c->state->size, c->clip);
}

/* content_state.c: committed states and the objects they name. */
struct blob *blob_new(const struct object_ref *ref, uint64_t size);
struct blob *blob_ref(struct blob *b);
void blob_put(struct blob *b); /* NULL: nothing */
/* The blob of a patch object: kept open beyond the state. NULL: no memory. */
struct blob *blob_of_segment(struct content_env *env, const struct segment *s);
/* Not of use any more: its descriptor goes with the last reader. */
void blob_forget(struct content_env *env, const struct segment *s, size_t n);
struct state *state_new(void); /* empty; NULL: no memory */
struct state *state_ref(struct state *s);
void state_put(struct state *s); /* NULL: nothing */
/* A copy with the same objects. NULL: no memory. */
struct state *state_clone(const struct state *s);
/* What a record says; `old` (may be NULL): its open object is used further if it is the same. 1 round trip a document.
 * -EAGAIN: a document is not there any more, the record must have changed. -EUCLEAN: logged. */
int state_of_node(struct content_env *env, struct op_ctx *op, const struct node *n, const struct state *old,
		  struct state **ret) MFS_NODISCARD;
/* The file's record, read until its documents are there. */
int state_load(struct content_env *env, struct op_ctx *op, mfs_ino_t ino, const struct state *old, struct state **ret) MFS_NODISCARD;
/* Bytes [off, off+len): zeros beyond its size. -ENOENT: an object is missing; -EIO: one is shorter than it was (logged). */
int state_read(struct content_env *env, struct op_ctx *op, mfs_ino_t ino, struct state *s, uint64_t off, void *buf,
	       size_t len) MFS_NODISCARD;
void state_prefetch(struct content_env *env, struct state *s, uint64_t off, uint64_t len);
/* Where the next data (or hole) at or behind off is; end or more: none before `end`. Hole slices, and of a store with
 * descriptors the holes of its files. */
int state_seek(struct content_env *env, struct op_ctx *op, struct state *s, uint64_t off, uint64_t end, bool data,
	       uint64_t *ret) MFS_NODISCARD;

/* content.c */
/* Wait until nobody is busy, then be it. */
void content_enter_locked(struct content *c) MFS_REQUIRES(c->lock);
void content_leave_locked(struct content *c) MFS_REQUIRES(c->lock);
/* Take a state over as the clean one; it is c's. */
void content_adopt_locked(struct content *c, struct state *s) MFS_REQUIRES(c->lock);
/* Read the record again if it is stale. The caller is busy; the lock is not held. */
int content_refresh(struct content *c, struct op_ctx *op) MFS_NODISCARD;
/* Drop dirty data and the upload; back to the committed state. The caller is busy; no upload job runs. */
void content_discard(struct content *c, struct op_ctx *op);
void content_touch_locked(struct content *c) MFS_REQUIRES(c->lock); /* something was written now */
/* Commit as a step of its own: what is written next must not be in one commit with what is dirty now. Not busy. */
int content_commit_first(struct content *c, struct op_ctx *op) MFS_NODISCARD;
/* Where the index moved it: appends and sizes need the new state. Not busy. */
int content_write_fresh(struct content *c, struct op_ctx *op) MFS_NODISCARD;

/* content_upload.c. All are called by the busy thread without the lock, but those named _locked. */
/* Is it a file of which the whole content is new, to be sent in parts? */
bool upload_suits_locked(const struct content *c) MFS_REQUIRES(c->lock);
int upload_stage(struct content *c, struct op_ctx *op) MFS_NODISCARD;
/* Send what is full (all: everything, where the store takes it), in the background. */
int upload_send(struct content *c, bool all) MFS_NODISCARD;
void upload_wait(struct content *c); /* until nothing is being sent */
int upload_finish(struct content *c, struct op_ctx *op, uint64_t size, int64_t mtime,
		  struct object_info *ret) MFS_NODISCARD;
void upload_drop(struct content *c, struct op_ctx *op);
/* Is so much dirty that it should be sent, or committed, now? */
bool upload_wanted_locked(struct content *c) MFS_REQUIRES(c->lock);
/* The i-th dirty extent becomes constant: from map to sending. False: no memory. */
bool sending_add_locked(struct content *c, size_t i) MFS_REQUIRES(c->lock);
int content_key(struct content *c, struct op_ctx *op, struct mfs_buf *key, bool *temporary) MFS_NODISCARD;

/* content_commit.c. The caller is busy. */
int content_commit(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed) MFS_NODISCARD;
/* Did the record surely not take over what a failed commit stored? An -EIO may come after the change was applied (a log
 * that could not be synced, sqlite_wal.h): an object that the index may name is gc's to judge. */
bool content_surely_unnamed(int err);

/* content_judge.c. The caller is busy. What a commit has stored, before the record names it: 0: it keeps the rules. -EINVAL: it
 * does not, and is kept aside; -EAGAIN: the record moved. cm is what would be committed. */
int content_judge(struct content *c, struct op_ctx *op, struct state *next, const struct commit *cm) MFS_NODISCARD;

/* content_patch.c: ranges of a file as one patch object. */
struct run {
	uint64_t off, len;
	const unsigned char *data; /* NULL: as the state has it */
};
struct patch {
	struct run *v; /* by off */
	size_t n, cap;
	uint64_t bytes;
	struct segment seg;
	bool stored; /* seg's object is there */
};
int patch_add(struct patch *p, uint64_t off, uint64_t len, const unsigned char *data) MFS_NODISCARD;
void patch_release(struct patch *p);
/* `next` gets slices for all runs at the end of its log, and a segment. Swallowing what came before (`swallow`, from
 * tail.own_from on), or not. */
int patch_store(struct content *c, struct op_ctx *op, struct state *from, struct patch *p, bool swallow, int64_t mtime,
		struct state *next) MFS_NODISCARD;
/* The record could not take it: the object goes (unless the index may name it). */
void patch_undo(struct content *c, struct op_ctx *op, struct patch *p, int err);
/* What namespace_commit() needs of next's layout; release cm->slices' and the documents' memory afterwards. */
struct encoded {
	struct node_blob slices;
	struct slices_doc_list docs;
};
int layout_prepare(struct content *c, struct op_ctx *op, struct state *next, struct encoded *ret) MFS_NODISCARD;
void encoded_release(struct encoded *e);
void tail_drop(struct content *c); /* give its memory back */
/* It was committed (or, with `version`, the state before became a version) and `log_end` is what the record has. */
void tail_committed(struct content *c, const struct patch *p, const struct state *next);

/* content_compact.c. The caller is busy. */
enum layout_pressure content_pressure(const struct content_env *env, const struct layout *l);
/* Once, if there is reason to: compose the range with most slices, or move what is left of the smallest segments. 0,
 * or 1 when something was done. */
int content_compact(struct content *c, struct op_ctx *op) MFS_NODISCARD;
/* In the background, if the layout asks for it. Not busy. */
void content_compact_later(struct content *c);

/* content_share.c: [off, off+len) of src becomes the same of dst by naming src's object: how much of it; 0: not this way. */
ssize_t content_share(struct content *dst, struct op_ctx *op, uint64_t off, struct content *src, uint64_t len) MFS_NODISCARD;

/* content_inline.c: how much content waits in the index. */
bool inline_has_room(struct content_env *env, struct op_ctx *op, uint64_t size);
/* A commit replaced one state by another. */
void inline_moved(struct content_env *env, const struct state *before, const struct state *after);
int64_t inline_todo(struct content_env *env, int64_t now);

#endif
