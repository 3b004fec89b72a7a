/*
 * What the writing half of the mongo engine shares. Private to meta/mongo_apply*.c, mongo_touch.c, mongo_ops.c.
 *
 * mongo_apply.c      the loop around a change, edits and creates that need no transaction
 * mongo_apply_txn.c  changes that do            mongo_apply_side.c  side records, many statements in one command
 * mongo_touch.c      parents (rules M3, M4)     mongo_ops.c         exactly once (rule M2)
 */
#ifndef MASSFS_META_MONGO_APPLY_INTERNAL_H
#define MASSFS_META_MONGO_APPLY_INTERNAL_H

#include "meta/mongo_internal.h"

#define MONGO_RING 16 /* rule M2: the ids of a record's last changes */

#define AUTO_BSON MFS_CLEANUP(bson_destroy)

struct mongo_touches;

/* Marks of an rmdir (rule M4) that were met, and since when: one that stands still for the lease is stale. */
#define MONGO_DYING_SEEN 64
struct mongo_dying {
	mfs_ino_t dir;
	uint64_t token;
	int64_t since; /* monotonic */
};

/* Which numbers the dropped records of a change were given: the same again when it is sent again. */
#define MONGO_NUMBERED 64
struct mongo_numbered {
	struct op_id id;
	uint64_t first;
	uint32_t n;
};

struct mongo_apply {
	struct mfs_mutex lock; /* a leaf: no call is made with it held */
	uint64_t *flights;     /* numbers of the changes under way */
	size_t n_flights, cap_flights;
	uint64_t next_dropped, left_dropped; /* numbers reserved for dropped records */
	struct mongo_numbered numbered[MONGO_NUMBERED];
	unsigned int next_numbered;
	uint64_t last_token;		     /* of a job */
	struct mongo_dying dying[MONGO_DYING_SEEN];
	unsigned int next_dying;
	struct mongo_touches *touches;
};

/* One call of apply. */
struct applying {
	struct mongo_engine *m;
	struct mongo_conn *c;
	struct change *ch;
	uint64_t floor;	  /* own changes with a lower number had ended before this one began */
	uint64_t dropped; /* the first number of those that were dropped without one; 0: none given yet */
	bool look;	  /* sent before, outcome unknown: look for the id before anything else */
	bool may_touched; /* its touches may have been counted before */
};

static inline bool change_has_id(const struct change *c)
{
	return c->id.session != 0;
}

/* --- mongo_ops.c --- */

struct op_ring {
	unsigned int n;
	struct op_id v[MONGO_RING]; /* oldest first */
};

/* Binary: session and number, 8 bytes each, most significant first. */
void mongo_op_put(bson_t *b, const char *key, const struct op_id *id);
bool mongo_op_take(bson_iter_t *it, struct op_id *ret);
void mongo_ring_parse(const bson_t *doc, struct op_ring *ret); /* of a document's `ops` */
bool mongo_ring_has(const struct op_ring *r, const struct op_id *id);
void mongo_ring_add(struct op_ring *r, const struct op_id *id); /* unless it is the last already */
void mongo_ring_put(const struct op_ring *r, bson_t *doc);	/* `ops`; nothing when empty */
/* {$push: {ops: ...}} */
void mongo_ring_push(const struct op_id *id, bson_t *update);

/* Does the write enter the ring? An access time alone does not: done twice it is the same. */
bool mongo_write_rings(const struct write *w);

int mongo_flight_begin(struct applying *a) MFS_NODISCARD;
void mongo_flight_end(struct applying *a);

/* Was it applied before? 1, 0; -EIO (logged) when nobody can tell any more. */
int mongo_ops_look(struct applying *a) MFS_NODISCARD;
/* In the transaction: the change deletes records for good, and with each its ring; so all go into `ops`. */
struct mongo_gone {
	mfs_ino_t ino;
	struct op_ring ring;
};
int mongo_ops_note(struct applying *a, const struct mongo_gone *gone, unsigned int n) MFS_NODISCARD;
/* Everything this server has acknowledged so far is with the majority. */
int mongo_ops_barrier(struct mongo_conn *c) MFS_NODISCARD;

/* --- mongo_apply_side.c --- */

/* Statements for one collection, sent as one command when there are enough of them. */
enum batch_kind { BATCH_INSERT, BATCH_UPDATE, BATCH_DELETE };
struct mongo_batch {
	struct mongo_conn *c;
	unsigned int flags; /* of mongo_run() */
	const char *collection;
	enum batch_kind kind;
	bool must_match; /* each statement must find its document, else -EAGAIN */
	bson_t items;	 /* an array; initialised while n > 0 */
	uint32_t n, bytes;
};
/* item: a document for inserts, {q, u, upsert} or {q, limit}. What is there already of another kind is sent first. */
int mongo_batch_add(struct mongo_batch *b, enum batch_kind kind, bool must_match, const bson_t *item) MFS_NODISCARD;
int mongo_batch_send(struct mongo_batch *b) MFS_NODISCARD; /* nothing when empty */
void mongo_batch_release(struct mongo_batch *b);

/* May it be written before the rest of its change, being garbage if that fails? */
bool mongo_side_precedes(const struct write *w);
/* The side writes of the change: those that precede, or all the others. */
int mongo_side_run(struct applying *a, unsigned int flags, bool preceding) MFS_NODISCARD;

/* --- mongo_touch.c --- */

int mongo_touches_new(struct mongo_touches **ret) MFS_NODISCARD;
void mongo_touches_free(struct mongo_touches *t);
/*
 * One touch, together with those of others that come while another one of the directory is under way. Fills ret_attr.
 * -ENOENT: no such directory; -EBUSY: TOUCH_UNLESS_DYING, and it is marked.
 */
int mongo_touch(struct applying *a, const struct touch *t) MFS_NODISCARD;
/* The touches of a change that is applied already: nothing can fail it any more. in_txn: those it has made itself. */
void mongo_touch_after(struct applying *a, bool but_unless_dying);
/* In the transaction: the touches with TOUCH_UNLESS_DYING. *ret_dying: with -EBUSY, the directory. */
int mongo_touch_in_txn(struct applying *a, mfs_ino_t *ret_dying) MFS_NODISCARD;
/* A directory is marked: wait a moment for the outcome, and take a stale mark off. 0: try again; -EAGAIN: still so. */
int mongo_dying_wait(struct applying *a, mfs_ino_t dir) MFS_NODISCARD;
/* Rule M4 (1) and its end. */
int mongo_dying_mark(struct applying *a, mfs_ino_t dir, uint64_t *ret_token) MFS_NODISCARD;
void mongo_dying_unmark(struct applying *a, mfs_ino_t dir, uint64_t token);
/* -ENOTEMPTY, 0. */
int mongo_no_child(struct mongo_conn *c, unsigned int flags, mfs_ino_t dir) MFS_NODISCARD;

/* --- mongo_apply_txn.c --- */

int mongo_apply_txn(struct applying *a) MFS_NODISCARD;

/* --- mongo_apply.c --- */

/* A record but for what is big: what expectations look at, and the attributes. */
void mongo_small_projection(bson_t *projection);
int mongo_small_parse(const bson_t *doc, bool in_trash, struct node *ret) MFS_NODISCARD;
/* {_id: ino} */
void mongo_id_put(mfs_ino_t ino, bson_t *b);
/* Reply: n of an update or delete. */
int64_t mongo_reply_n(const bson_t *reply);
/* Reply of a findAndModify: its document; false: none matched. */
bool mongo_reply_value(const bson_t *reply, bson_t *ret_static);
/* An edit by findAndModify, which gives the document as it was. */
void mongo_edit_command(const struct applying *a, const struct write *w, bool with_expect, const char *collection,
			bson_t *cmd);
/* What the edit has made of the attributes. */
void mongo_attr_after(const struct write *w, const struct mfs_attr *old, struct mfs_attr *ret);
/* What it changes in the sums. */
void mongo_account(struct mongo_engine *m, const struct mfs_attr *before, const struct mfs_attr *after);
/* A pause before the nth try again, longer each time and never the same. As mongo_pause(). */
int mongo_back_off(struct mongo_conn *c, unsigned int nth) MFS_NODISCARD;
/* Run another change on the same connection, without an id (to undo). */
int mongo_apply_inner(struct applying *a, struct change *inner) MFS_NODISCARD;

#endif
