/*
 * Changes on MongoDB by rules M1-M7: the loop around one, and the two common kinds, which need no transaction.
 *
 * Round trips, each a majority write or a read by key, where nobody is in the way (a touch by a thread of others that create
 * in the same directory is shared with them):
 *
 *   an edit of one record (setattr, xattr, inline commit)   1      one findAndModify: the compare-and-set
 *   a commit that leaves versions, dropped or slices        1      + 1 a collection of these, written before
 *   an edit that queues a job                               3      edit, job, commit
 *   create, mkdir, symlink                                  2      insert; touch of the parent
 *   rename in a directory                                   4      take, insert, commit; touch         (+ 1 with a job)
 *   rename into another directory                           5      touch, take, insert, commit; touch  (+ 1 with a job)
 *     of a directory                                        + 1    for the count of moves, + 1 a level of the target's path
 *   rename over a file                                      6      take, take, trash, insert, commit; touch
 *   exchange                                                5      take, take, insert, commit; touch
 *   unlink                                                  4      take, into trash, commit; touch     (+ 1 with a job)
 *   link, undelete                                          4      touch, edit or take, insert, commit
 *   rmdir                                                   7      child?, mark; child?, delete, note, commit; touch
 *   access times of up to 16 files                          2      one update of all, commit
 *   side records of one collection, or a cell               1      several collections: 1 each, commit
 *
 * Every statement has maxTimeMS and a socket time-out of what is left of the deadline (mongo_run.c). What was sent and not
 * answered is asked for by its id (mongo_ops.c) until the deadline; then it is EIO and one log line.
 */
#include "meta/mongo_apply_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"

#define BACK_OFF_MIN_NS INT64_C(300000)
#define BACK_OFF_MAX_NS INT64_C(40000000)
#define MISSES_MAX	1000

/* --- small things --- */

void mongo_id_put(mfs_ino_t ino, bson_t *b)
{
	BSON_APPEND_INT64(b, "_id", (int64_t)ino);
}

int64_t mongo_reply_n(const bson_t *reply)
{
	bson_iter_t it;

	return bson_iter_init_find(&it, reply, "n") ? bson_iter_as_int64(&it) : 0;
}

bool mongo_reply_value(const bson_t *reply, bson_t *ret_static)
{
	const uint8_t *p = NULL;
	bson_iter_t it;
	uint32_t len = 0;

	if (!bson_iter_init_find(&it, reply, "value") || !BSON_ITER_HOLDS_DOCUMENT(&it))
		return false;
	bson_iter_document(&it, &len, &p);
	return bson_init_static(ret_static, p, len);
}

int mongo_back_off(struct mongo_conn *c, unsigned int nth)
{
	int64_t ns = MFS_MIN(BACK_OFF_MIN_NS << MFS_MIN(nth, 10u), BACK_OFF_MAX_NS);

	/* The low bits of the clock are as good as dice. */
	return mongo_pause(c, ns / 2 + mfs_mono_ns() % ns);
}

void mongo_account(struct mongo_engine *m, const struct mfs_attr *before, const struct mfs_attr *after)
{
	bool was = before && !(before->flags & ATTR_IN_TRASH), is = after && !(after->flags & ATTR_IN_TRASH);
	int64_t bytes = (is ? (int64_t)after->size : 0) - (was ? (int64_t)before->size : 0);

	if (was != is || bytes)
		mongo_usage_add(m, is - was, bytes);
}

void mongo_small_projection(bson_t *projection)
{
	static const char *const left_out[] = { "inline", "slices", "holes", "xattrs", "symlink", "mime" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(left_out); i++)
		BSON_APPEND_INT32(projection, left_out[i], 0);
}

int mongo_small_parse(const bson_t *doc, bool in_trash, struct node *ret)
{
	int r = mongo_node_parse(doc, in_trash, false, ret);

	/* Its flags were derived from the xattrs, which are not there. */
	return r < 0 ? r : mongo_attr_parse(doc, in_trash, &ret->attr);
}

/* --- an edit of one record --- */

static void put_ops(bson_t *update, const char *op, const bson_t *fields)
{
	if (!bson_empty(fields))
		BSON_APPEND_DOCUMENT(update, op, fields);
}

static void put_edit(const struct write *w, const struct op_id *id, bson_t *cmd)
{
	AUTO_BSON bson_t set = BSON_INITIALIZER;
	AUTO_BSON bson_t unset = BSON_INITIALIZER;
	AUTO_BSON bson_t inc = BSON_INITIALIZER;
	bson_t update;

	mongo_edit_put(w, &set, &unset, &inc);
	/* An update must do something. */
	if (bson_empty(&set) && bson_empty(&unset) && bson_empty(&inc))
		BSON_APPEND_INT64(&inc, "ver", 0);
	BSON_APPEND_DOCUMENT_BEGIN(cmd, "update", &update);
	put_ops(&update, "$set", &set);
	put_ops(&update, "$unset", &unset);
	put_ops(&update, "$inc", &inc);
	if (id->session && mongo_write_rings(w))
		mongo_ring_push(id, &update);
	bson_append_document_end(cmd, &update);
}

void mongo_edit_command(const struct applying *a, const struct write *w, bool with_expect, const char *collection, bson_t *cmd)
{
	const struct op_id *id = &a->ch->id;
	bson_t query, fields, ne;

	BSON_APPEND_UTF8(cmd, "findAndModify", collection);
	BSON_APPEND_DOCUMENT_BEGIN(cmd, "query", &query);
	mongo_id_put(w->ino, &query);
	BSON_APPEND_NULL(&query, "target"); /* not an alias */
	if (with_expect)
		mongo_expect_put(&w->expect, &query);
	if (with_expect && w->nlink_delta < 0) {
		BSON_APPEND_DOCUMENT_BEGIN(&query, "nlink", &ne);
		BSON_APPEND_INT64(&ne, "$gte", -(int64_t)w->nlink_delta);
		bson_append_document_end(&query, &ne);
	}
	/* What was sent before may still arrive. */
	if (with_expect && a->look && id->session && mongo_write_rings(w)) {
		BSON_APPEND_DOCUMENT_BEGIN(&query, "ops", &ne);
		mongo_op_put(&ne, "$ne", id);
		bson_append_document_end(&query, &ne);
	}
	bson_append_document_end(cmd, &query);
	put_edit(w, id, cmd);
	BSON_APPEND_DOCUMENT_BEGIN(cmd, "fields", &fields);
	mongo_small_projection(&fields);
	bson_append_document_end(cmd, &fields);
}

void mongo_attr_after(const struct write *w, const struct mfs_attr *old, struct mfs_attr *ret)
{
	const uint32_t derived = ATTR_HAS_XATTR | ATTR_HAS_CAP | ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL | ATTR_HAS_LABEL;
	struct node n = { .attr = *old };
	struct write plain = *w;

	plain.mask &= ~(uint32_t)(EDIT_REF | EDIT_XATTRS | EDIT_FENCED | EDIT_OPENERS | EDIT_MIME);
	(void)!change_edit(&plain, &n); /* nothing of what is left can fail */
	if (w->mask & EDIT_REF) {
		n.attr.obj_len = w->node->attr.obj_len;
		n.attr.alloc = w->node->attr.alloc;
	}
	if (w->mask & EDIT_XATTRS) {
		struct node x = *w->node; /* borrows */

		node_derive(&x);
		n.attr.flags = (n.attr.flags & ~derived) | (x.attr.flags & derived);
	}
	*ret = n.attr;
}

/* 1: no document matched. */
static int edit_in(struct applying *a, const struct write *w, const char *collection)
{
	bool in_trash = strcmp(collection, MONGO_TRASH) == 0;
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	struct mfs_attr old, now;
	bson_t reply, value;
	int r;

	mongo_edit_command(a, w, true, collection, &cmd);
	r = mongo_run(a->c, MONGO_WRITE, &cmd, &reply);
	if (r == 0 && !mongo_reply_value(&reply, &value))
		r = 1;
	else if (r == 0)
		r = mongo_attr_parse(&value, in_trash, &old);
	bson_destroy(&reply);
	if (r != 0)
		return r;
	mongo_attr_after(w, &old, &now);
	mongo_account(a->m, &old, &now);
	if (w->ret_attr)
		*w->ret_attr = now;
	return 0;
}

/* The record as it is, but for big fields. *ret_static: its document, which the caller destroys. */
static int read_record(struct mongo_conn *c, mfs_ino_t ino, bool *ret_in_trash, bson_t *ret)
{
	static const char *const where[] = { MONGO_FILES, MONGO_TRASH, MONGO_FILES };
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t opts = BSON_INITIALIZER;
	bson_t projection;
	int r = -ENOENT;

	mongo_id_put(ino, &q);
	BSON_APPEND_NULL(&q, "target");
	BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &projection);
	mongo_small_projection(&projection);
	bson_append_document_end(&opts, &projection);
	/* Files again: it may have come out of the trash meanwhile. */
	for (unsigned int i = 0; r == -ENOENT && i < MFS_ARRAY_LEN(where); i++) {
		*ret_in_trash = i == 1;
		r = mongo_find_one(c, MONGO_READ, where[i], &q, &opts, ret);
	}
	return r;
}

/* No match: why? 1: that is over, try again. 0: it was applied, by what was sent before. */
static int edit_missed(struct applying *a, const struct write *w, bool *ret_in_trash)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	struct op_ring ring;
	bool in_trash;
	bson_t doc;
	int r = read_record(a->c, w->ino, &in_trash, &doc);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	*ret_in_trash = in_trash;
	mongo_ring_parse(&doc, &ring);
	r = mongo_small_parse(&doc, in_trash, &n);
	bson_destroy(&doc);
	if (r < 0)
		return r;
	if (a->look && change_has_id(a->ch) && mongo_ring_has(&ring, &a->ch->id)) {
		if (w->ret_attr)
			*w->ret_attr = n.attr;
		return mongo_ops_barrier(a->c);
	}
	r = change_check(w, &n, in_trash);
	if (r == 0 && (int64_t)n.attr.nlink + w->nlink_delta < 0)
		r = -EINVAL;
	return r < 0 ? r : 1;
}

static int apply_edit(struct applying *a, const struct write *w)
{
	bool in_trash = w->expect.flags & EXPECT_IN_TRASH;
	int r;

	for (unsigned int i = 0; i < MISSES_MAX; i++) {
		r = edit_in(a, w, in_trash ? MONGO_TRASH : MONGO_FILES);
		if (r == 1)
			r = edit_missed(a, w, &in_trash);
		if (r == 1 && i > 2)
			r = mongo_back_off(a->c, i) ?: 1;
		if (r != 1)
			return r;
	}
	return -EAGAIN;
}

/* --- a create --- */

static int insert_node(struct applying *a, const struct write *w, struct mfs_attr *ret)
{
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	struct node n = *w->node; /* borrows: only flags are derived */
	struct op_ring ring = { 0 };
	bson_t docs, doc, reply;
	int r;

	node_derive(&n);
	*ret = n.attr;
	if (change_has_id(a->ch))
		mongo_ring_add(&ring, &a->ch->id);
	BSON_APPEND_UTF8(&cmd, "insert", MONGO_FILES);
	BSON_APPEND_ARRAY_BEGIN(&cmd, "documents", &docs);
	BSON_APPEND_DOCUMENT_BEGIN(&docs, "0", &doc);
	mongo_node_put(&n, &doc);
	mongo_ring_put(&ring, &doc);
	bson_append_document_end(&docs, &doc);
	bson_append_array_end(&cmd, &docs);
	r = mongo_run(a->c, MONGO_WRITE, &cmd, &reply);
	bson_destroy(&reply);
	return r;
}

/*
 * The touch found no directory: the create is undone, if the record is still where it was put. 0: it is somewhere else by
 * now, so the create has succeeded.
 */
static int undo_create(struct applying *a, const struct write *w, const struct mfs_attr *put)
{
	struct mongo_batch b = { .c = a->c, .flags = MONGO_WRITE | MONGO_AGAIN, .collection = MONGO_FILES };
	AUTO_BSON bson_t item = BSON_INITIALIZER;
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	struct change inner = { 0 };
	struct write *x;
	bool in_trash;
	bson_t q, doc;
	int r;

	/* Nobody has written to it: as if it had never been. */
	BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &q);
	mongo_id_put(w->ino, &q);
	mongo_put_u64(&q, "parent", w->node->parent);
	mongo_put_u64(&q, "ver", put->ver);
	bson_append_document_end(&item, &q);
	BSON_APPEND_INT32(&item, "limit", 1);
	r = mongo_batch_add(&b, BATCH_DELETE, true, &item);
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	if (r != -EAGAIN)
		return r < 0 ? r : -ENOENT;
	r = read_record(a->c, w->ino, &in_trash, &doc);
	if (r < 0 || in_trash) {
		if (r == 0)
			bson_destroy(&doc);
		return r == -ENOENT || r == 0 ? -ENOENT : r; /* deleted there by somebody, or the reply was lost */
	}
	r = mongo_small_parse(&doc, false, &n);
	bson_destroy(&doc);
	if (r < 0)
		return r;
	if (n.parent != w->node->parent)
		return 0;
	/* Somebody has: what is in it is kept. */
	x = change_write(&inner, attr_is_dir(&n.attr) ? WRITE_DELETE : WRITE_TRASH, w->ino);
	x->node = x->kind == WRITE_TRASH ? &n : NULL;
	x->expect = (struct expect){ .flags = EXPECT_NAME, .parent = n.parent, .name = &w->node->name };
	inner.no_child = x->kind == WRITE_DELETE ? w->ino : 0;
	n.trash_time = mfs_now_ns();
	r = mongo_apply_inner(a, &inner);
	if (r == -ENOTEMPTY) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, a->c->op,
			"mongodb %s ino=%" PRIu64 " was made in directory %" PRIu64
			", which an rmdir removed at the same time, and has entries already; run massfs fsck",
			a->m->where, w->ino, w->node->parent);
		r = -ENOENT;
	}
	return r == 0 || r == -ESTALE ? -ENOENT : r == -EAGAIN ? 0 : r;
}

/* Rule M4: the record is in; does its directory take it? */
static int touch_created(struct applying *a, const struct write *w, const struct mfs_attr *put)
{
	const struct change *c = a->ch;
	int r = 0, undone;

	for (unsigned int i = 0; r == 0 && i < c->n_touches; i++) {
		const struct touch *t = &c->touches[i];

		do {
			r = mongo_touch(a, t);
			if (r == -EBUSY)
				r = mongo_dying_wait(a, t->dir) ?: 1;
		} while (r == 1);
		if (r == -ENOENT && !(t->flags & TOUCH_MUST_EXIST))
			r = 0;
	}
	if (r != -ENOENT && r != -EAGAIN)
		return r;
	undone = undo_create(a, w, put);
	return undone == -ENOENT ? r : undone;
}

/* Is the record that is there under this number ours, from what was sent before? 1, 0. */
static int is_ours(struct applying *a, mfs_ino_t ino)
{
	struct op_ring ring;
	bool in_trash;
	bson_t doc;
	int r;

	if (!a->look || !change_has_id(a->ch))
		return 0;
	r = read_record(a->c, ino, &in_trash, &doc);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	mongo_ring_parse(&doc, &ring);
	bson_destroy(&doc);
	return mongo_ring_has(&ring, &a->ch->id);
}

static int apply_create(struct applying *a, const struct write *w)
{
	struct mfs_attr put;
	int r = insert_node(a, w, &put);

	if (r == -EEXIST) {
		r = is_ours(a, w->ino);
		r = r < 0 ? r : r ? 0 : -EEXIST;
	}
	if (r == 0)
		r = touch_created(a, w, &put);
	if (r < 0)
		return r == -EDEADLK ? -ECOMM : r;
	mongo_account(a->m, NULL, &put);
	if (w->ret_attr)
		*w->ret_attr = put;
	return 0;
}

/* --- a change --- */

static bool is_main(const struct write *w)
{
	return w->kind < WRITE_VERSION_PUT;
}

static bool has_guard(const struct change *c)
{
	return c->no_child || c->not_below_dir || c->not_below_dir2;
}

/* Does a touch have to hold when the change happens? */
static bool touch_binds(const struct change *c)
{
	for (unsigned int i = 0; i < c->n_touches; i++)
		if (c->touches[i].flags & TOUCH_UNLESS_DYING)
			return true;
	return false;
}

/* The one main write, where the change is that and what may precede it; NULL: it is more, or less. */
static const struct write *only_main(const struct change *c)
{
	const struct write *w = NULL;

	for (unsigned int i = 0; i < c->n_writes; i++) {
		if (is_main(&c->writes[i])) {
			if (w)
				return NULL;
			w = &c->writes[i];
		} else if (!mongo_side_precedes(&c->writes[i])) {
			return NULL;
		}
	}
	return has_guard(c) ? NULL : w;
}

/* A change of side records that one command can make. */
static bool is_one_command(const struct change *c)
{
	return c->n_writes <= 1 && (c->n_writes == 0 || (!is_main(&c->writes[0]) && write_records(&c->writes[0]) == 1));
}

/* Touches alone: what they ask for is all there is. */
static int touch_only(struct applying *a)
{
	const struct change *c = a->ch;
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < c->n_touches; i++) {
		r = mongo_touch(a, &c->touches[i]);
		if (r == -ENOENT && !(c->touches[i].flags & TOUCH_MUST_EXIST))
			r = 0;
		if (r == -EBUSY)
			r = -EAGAIN;
	}
	return r;
}

static int apply_once(struct applying *a)
{
	const struct change *c = a->ch;
	const struct write *w = only_main(c);
	int r = mongo_side_run(a, MONGO_WRITE | MONGO_AGAIN, true);

	if (r < 0)
		return r;
	if (c->n_writes == 0)
		return touch_only(a);
	if (w && w->kind == WRITE_INSERT && w->node->parent && !(w->node->attr.flags & ATTR_IN_TRASH))
		return apply_create(a, w);
	if (w && w->kind == WRITE_EDIT && !touch_binds(c)) {
		r = apply_edit(a, w);
	} else if (is_one_command(c) && !touch_binds(c)) {
		/* A cell's outcome is not asked for by sending it again blindly. */
		unsigned int again = c->writes[0].kind == WRITE_CELL_PUT ? 0 : MONGO_AGAIN;

		r = mongo_side_precedes(&c->writes[0]) ? 0 : mongo_side_run(a, MONGO_WRITE | again, false);
	} else {
		return mongo_apply_txn(a);
	}
	if (r == 0)
		mongo_touch_after(a, false);
	return r;
}

/* --- exactly once --- */

static int attr_again(struct applying *a, struct mfs_attr *ret, mfs_ino_t ino)
{
	bool in_trash;
	bson_t doc;
	int r;

	if (!ret)
		return 0;
	*ret = (struct mfs_attr){ .ino = ino };
	r = read_record(a->c, ino, &in_trash, &doc);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = mongo_attr_parse(&doc, in_trash, ret);
	bson_destroy(&doc);
	return r;
}

/* It was applied before: what is left is its parents, and what it gives. */
static int applied_before(struct applying *a)
{
	const struct change *c = a->ch;
	const struct write *w = only_main(c);
	struct mfs_attr now = { 0 };
	int r = 0;

	if (w && w->kind == WRITE_INSERT && w->node->parent)
		r = touch_created(a, w, &w->node->attr);
	else
		mongo_touch_after(a, true);
	for (unsigned int i = 0; r == 0 && i < c->n_writes; i++)
		r = is_main(&c->writes[i]) && c->writes[i].ret_attr ?
			    attr_again(a, c->writes[i].ret_attr, c->writes[i].ino) :
			    0;
	for (unsigned int i = 0; r == 0 && i < c->n_touches; i++)
		if (c->touches[i].ret_attr && attr_again(a, &now, c->touches[i].dir) == 0)
			*c->touches[i].ret_attr = now;
	return r;
}

static int look_and_apply(struct applying *a)
{
	int r = a->look ? mongo_ops_look(a) : 0;

	if (r == 1)
		return applied_before(a);
	return r < 0 ? r : apply_once(a);
}

static int apply_until_known(struct applying *a)
{
	const struct change *c = a->ch;
	unsigned int tries = 0;
	int r;

	for (;;) {
		r = look_and_apply(a);
		if (r == -ECOMM && !change_has_id(c))
			return r;
		if (r != -ECOMM && r != -EDEADLK)
			break;
		a->look |= r == -ECOMM;
		r = mongo_back_off(a->c, tries++);
		if (r < 0)
			break;
	}
	if (r == -EIO && mongo_left_ms(a->c) == 0)
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, a->c->op,
			"mongodb %s session=%" PRIx64 " change=%" PRIu64 ": not confirmed before the deadline%s; the answer is EIO",
			a->m->where, c->id.session, c->id.number, a->look ? ", it may have happened" : "");
	return r;
}

int mongo_apply_inner(struct applying *a, struct change *inner)
{
	struct applying b = { .m = a->m, .c = a->c, .ch = inner };
	unsigned int tries = 0;
	int r;

	for (;;) {
		r = apply_once(&b);
		if (r != -ECOMM && r != -EDEADLK)
			return r;
		r = mongo_back_off(a->c, tries++);
		if (r < 0)
			return r;
	}
}

int mongo_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	struct mongo_engine *m = mongo_of(e);
	struct applying a = { .m = m, .ch = c, .look = c->retry, .may_touched = c->retry };
	int r;

	if (m->readonly || m->snapshot)
		return -EROFS;
	/* Before it waits for a connection: later changes must not take it for one that has ended (mongo_ops.c). */
	r = mongo_flight_begin(&a);
	if (r < 0)
		return r;
	r = mongo_conn_get(m, op, &a.c);
	if (r == 0) {
		r = apply_until_known(&a);
		mongo_conn_put(a.c);
	}
	mongo_flight_end(&a);
	return r;
}

int mongo_apply_init(struct mongo_engine *m)
{
	struct mongo_apply *s = calloc(1, sizeof(*s));
	int r = s ? mongo_touches_new(&s->touches) : -ENOMEM;

	if (r < 0) {
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock.m, NULL);
	m->apply = s;
	return 0;
}

void mongo_apply_free(struct mongo_engine *m)
{
	struct mongo_apply *s = m->apply;

	if (!s)
		return;
	mongo_touches_free(s->touches);
	pthread_mutex_destroy(&s->lock.m);
	free(s->flights);
	free(s);
	m->apply = NULL;
}
