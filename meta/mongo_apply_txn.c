/*
 * Changes that need a transaction: several records, guards, names that come into another directory.
 *
 * A record that moves (rename, trash and back) is taken out by a findAndModify, edited in memory by change_edit() and put in
 * again at the end, under the same _id (rule M6): so names need be unique only in the end, and an exchange costs what two
 * renames do. A record that is edited in place is one findAndModify.
 *
 * Order in the transaction: the count of directory moves (rule M5), the touches that bind, so that a busy directory is held
 * from the first statement on and does not conflict with the last; guards; writes; insertions; side records; `ops` where
 * something is deleted for good; commit. What is outside: the side records that precede, the mark of an rmdir (rule M4)
 * before, and the touches that do not bind after it (rule M3).
 */
#include "meta/mongo_apply_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"

#define DEPTH_MAX 100000 /* directories above one another; more is a cycle in a damaged index */

/* A record that was taken out. */
struct taken {
	struct node node;
	struct op_ring ring;
	bool gone; /* not to be put in again */
};

struct txn {
	struct applying *a;
	uint64_t mark; /* of the directory of no_child; 0: none */
	struct taken taken[CHANGE_MAX_WRITES];
	unsigned int n_taken;
	struct alias aliases[CHANGE_MAX_WRITES]; /* to be put in */
	unsigned int n_aliases;
	struct mongo_gone gone[CHANGE_MAX_WRITES];
	unsigned int n_gone;
	struct {
		bool was, is;
		struct mfs_attr before, after;
	} sums[2 * CHANGE_MAX_WRITES];
	unsigned int n_sums;
	mfs_ino_t dying; /* with -EBUSY */
};

static void txn_release(struct txn *t)
{
	for (unsigned int i = 0; i < t->n_taken; i++)
		node_release(&t->taken[i].node);
	t->n_taken = 0;
}

#define IN_TXN (MONGO_WRITE | MONGO_IN_TXN)

static void add_sum(struct txn *t, const struct mfs_attr *before, const struct mfs_attr *after)
{
	unsigned int i = t->n_sums++;

	t->sums[i].was = before != NULL;
	t->sums[i].is = after != NULL;
	t->sums[i].before = before ? *before : (struct mfs_attr){ 0 };
	t->sums[i].after = after ? *after : (struct mfs_attr){ 0 };
}

/* --- guards --- */

static int count_dir_move(struct txn *t)
{
	struct mongo_batch b = { .c = t->a->c, .flags = IN_TXN, .collection = MONGO_VOLUME };
	AUTO_BSON bson_t item = BSON_INITIALIZER;
	bson_t sub, inc;
	int r;

	BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &sub);
	BSON_APPEND_UTF8(&sub, "_id", "dirmoves");
	bson_append_document_end(&item, &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&item, "u", &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&sub, "$inc", &inc);
	BSON_APPEND_INT64(&inc, "n", 1);
	bson_append_document_end(&sub, &inc);
	bson_append_document_end(&item, &sub);
	BSON_APPEND_BOOL(&item, "upsert", true);
	r = mongo_batch_add(&b, BATCH_UPDATE, false, &item);
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	return r;
}

static int read_parent(struct txn *t, mfs_ino_t ino, mfs_ino_t *ret)
{
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t opts = BSON_INITIALIZER;
	bson_t projection, doc;
	bson_iter_t it;
	int r;

	mongo_id_put(ino, &q);
	BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &projection);
	BSON_APPEND_INT32(&projection, "parent", 1);
	bson_append_document_end(&opts, &projection);
	r = mongo_find_one(t->a->c, MONGO_IN_TXN, MONGO_FILES, &q, &opts, &doc);
	if (r < 0)
		return r;
	*ret = bson_iter_init_find(&it, &doc, "parent") ? (mfs_ino_t)bson_iter_as_int64(&it) : 0;
	bson_destroy(&doc);
	return *ret ? 0 : -ENOENT;
}

/* -EINVAL: target is dir or below it. -ENOENT: target is gone. */
static int check_not_below(struct txn *t, mfs_ino_t dir, mfs_ino_t target)
{
	int r, depth = 0;

	if (!dir)
		return 0;
	for (mfs_ino_t at = target; at != MFS_ROOT_INO;) {
		if (at == dir)
			return -EINVAL;
		if (++depth > DEPTH_MAX) {
			mfs_log(MFS_LOG_META, MFS_LOG_ERR, t->a->c->op,
				"mongodb %s ino=%" PRIu64 " lies below itself; run massfs fsck", t->a->m->where, target);
			return -EIO;
		}
		r = read_parent(t, at, &at);
		if (r < 0)
			return r;
	}
	return dir == MFS_ROOT_INO ? -EINVAL : 0;
}

static int check_guards(struct txn *t)
{
	const struct change *c = t->a->ch;
	int r = 0;

	if (c->no_child)
		r = mongo_no_child(t->a->c, MONGO_IN_TXN, c->no_child);
	if (r == 0)
		r = check_not_below(t, c->not_below_dir, c->not_below_target);
	return r < 0 ? r : check_not_below(t, c->not_below_dir2, c->not_below_target2);
}

/* --- records --- */

/* A commit that was sent before has arrived since it was looked for: the caller looks again. */
static int check_late(const struct txn *t, const struct op_ring *ring)
{
	return t->a->look && change_has_id(t->a->ch) && mongo_ring_has(ring, &t->a->ch->id) ? -ECOMM : 0;
}

static struct taken *find_taken(struct txn *t, mfs_ino_t ino)
{
	for (unsigned int i = 0; i < t->n_taken; i++)
		if (t->taken[i].node.attr.ino == ino)
			return &t->taken[i];
	return NULL;
}

/* Remove a document; *ret_value is in *ret_reply, which the caller destroys. -ESTALE: none. */
static int remove_document(struct txn *t, const char *collection, const bson_t *query, bool small, bson_t *ret_reply,
			   bson_t *ret_value)
{
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	bson_t fields;
	int r;

	BSON_APPEND_UTF8(&cmd, "findAndModify", collection);
	BSON_APPEND_DOCUMENT(&cmd, "query", query);
	BSON_APPEND_BOOL(&cmd, "remove", true);
	if (small) {
		BSON_APPEND_DOCUMENT_BEGIN(&cmd, "fields", &fields);
		mongo_small_projection(&fields);
		bson_append_document_end(&cmd, &fields);
	}
	r = mongo_run(t->a->c, IN_TXN, &cmd, ret_reply);
	if (r == 0 && !mongo_reply_value(ret_reply, ret_value))
		r = -ESTALE;
	if (r < 0)
		bson_destroy(ret_reply);
	return r;
}

static bool wants_trash(const struct write *w)
{
	return w->kind == WRITE_UNTRASH || w->kind == WRITE_PURGE;
}

/* DELETE and PURGE need not all of it. */
static bool ends_it(const struct write *w)
{
	return w->kind == WRITE_DELETE || w->kind == WRITE_PURGE;
}

/* Take the record out of its collection. */
static int take(struct txn *t, const struct write *w, struct taken **ret)
{
	struct taken *k = &t->taken[t->n_taken];
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	bson_t reply, value;
	int r;

	mongo_id_put(w->ino, &q);
	BSON_APPEND_NULL(&q, "target");
	if (t->mark && w->ino == t->a->ch->no_child)
		mongo_put_u64(&q, "dying", t->mark);
	r = remove_document(t, wants_trash(w) ? MONGO_TRASH : MONGO_FILES, &q, ends_it(w), &reply, &value);
	if (r < 0)
		return r;
	mongo_ring_parse(&value, &k->ring);
	r = ends_it(w) ? mongo_small_parse(&value, wants_trash(w), &k->node) :
			 mongo_node_parse(&value, wants_trash(w), false, &k->node);
	bson_destroy(&reply);
	if (r < 0)
		return r;
	k->gone = false;
	if (w->ino == t->a->ch->no_child)
		k->node.dying = 0;
	t->n_taken++;
	r = check_late(t, &k->ring);
	if (r < 0)
		return r;
	add_sum(t, &k->node.attr, NULL);
	*ret = k;
	return 0;
}

/* A write on a record that is in memory. */
static int write_taken(struct txn *t, const struct write *w, struct taken *k)
{
	bool in_trash = k->node.attr.flags & ATTR_IN_TRASH;
	int r;

	if (k->gone || (w->kind != WRITE_EDIT && in_trash != wants_trash(w)))
		return -ESTALE;
	r = change_check(w, &k->node, in_trash);
	if (r < 0)
		return r;
	if (ends_it(w)) {
		k->gone = true;
		t->gone[t->n_gone].ino = w->ino;
		t->gone[t->n_gone++].ring = k->ring;
		return 0;
	}
	r = change_edit(w, &k->node);
	if (r < 0)
		return r;
	if (change_has_id(t->a->ch) && mongo_write_rings(w))
		mongo_ring_add(&k->ring, &t->a->ch->id);
	if (w->ret_attr)
		*w->ret_attr = k->node.attr;
	return 0;
}

/* 1: not in that collection. */
static int edit_in(struct txn *t, const struct write *w, const char *collection)
{
	bool in_trash = strcmp(collection, MONGO_TRASH) == 0;
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	struct op_ring ring = { 0 };
	struct mfs_attr now;
	bson_t reply, value;
	int r;

	mongo_edit_command(t->a, w, false, collection, &cmd);
	r = mongo_run(t->a->c, IN_TXN, &cmd, &reply);
	if (r == 0 && !mongo_reply_value(&reply, &value))
		r = 1;
	else if (r == 0)
		r = mongo_small_parse(&value, in_trash, &n);
	if (r == 0)
		mongo_ring_parse(&value, &ring);
	bson_destroy(&reply);
	if (r == 0)
		r = check_late(t, &ring);
	if (r != 0)
		return r;
	r = change_check(w, &n, in_trash);
	if (r == 0 && (int64_t)n.attr.nlink + w->nlink_delta < 0)
		r = -EINVAL;
	if (r < 0)
		return r;
	mongo_attr_after(w, &n.attr, &now);
	add_sum(t, &n.attr, &now);
	if (w->ret_attr)
		*w->ret_attr = now;
	return 0;
}

/* Is the record one that an alias is made for in this change? Then it has to be in files. */
static bool is_linked(const struct change *c, mfs_ino_t ino)
{
	for (unsigned int i = 0; i < c->n_writes; i++)
		if (c->writes[i].kind == WRITE_ALIAS_INSERT && c->writes[i].alias->target == ino)
			return true;
	return false;
}

static int write_edit(struct txn *t, const struct write *w)
{
	unsigned int flags = w->expect.flags;
	int r = 1;

	if (!(flags & EXPECT_IN_TRASH))
		r = edit_in(t, w, MONGO_FILES);
	if (r == 1 && is_linked(t->a->ch, w->ino))
		return -ESTALE;
	if (r == 1)
		r = edit_in(t, w, MONGO_TRASH);
	/* Expected in trash, and not there: is it at all? */
	if (r == 1 && (flags & EXPECT_IN_TRASH)) {
		r = edit_in(t, w, MONGO_FILES);
		return r == 1 ? -ESTALE : r < 0 ? r : -EAGAIN;
	}
	return r == 1 ? -ESTALE : r;
}

/* A new record waits for the end like one that was taken out. */
static int write_insert(struct txn *t, const struct write *w)
{
	struct taken *k = &t->taken[t->n_taken];
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	bool to_trash = w->node->attr.flags & ATTR_IN_TRASH;
	bson_t doc;
	int r;

	if (find_taken(t, w->ino))
		return -EEXIST;
	/* The number is unique over both; numbers of names come from reserve, so only for the trash it is looked at. */
	mongo_id_put(w->ino, &q);
	r = to_trash ? mongo_find_one(t->a->c, MONGO_IN_TXN, MONGO_FILES, &q, NULL, &doc) : -ENOENT;
	if (r == 0)
		bson_destroy(&doc);
	if (r != -ENOENT)
		return r < 0 ? r : -EEXIST;
	r = node_copy(w->node, &k->node);
	if (r < 0)
		return r;
	k->gone = false;
	k->ring.n = 0;
	t->n_taken++;
	node_derive(&k->node);
	if (change_has_id(t->a->ch))
		mongo_ring_add(&k->ring, &t->a->ch->id);
	if (w->ret_attr)
		*w->ret_attr = k->node.attr;
	return 0;
}

static int write_existing(struct txn *t, const struct write *w)
{
	struct taken *k = find_taken(t, w->ino);
	int r = 0;

	if (!k && w->kind == WRITE_EDIT)
		return write_edit(t, w);
	if (!k)
		r = take(t, w, &k);
	return r < 0 ? r : write_taken(t, w, k);
}

/* --- aliases --- */

static int take_alias(struct txn *t, const struct write *w)
{
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	bson_t ne, reply, value;
	struct alias a;
	int r;

	mongo_id_put(w->ino, &q);
	BSON_APPEND_DOCUMENT_BEGIN(&q, "target", &ne);
	BSON_APPEND_BOOL(&ne, "$exists", true);
	bson_append_document_end(&q, &ne);
	r = remove_document(t, MONGO_FILES, &q, false, &reply, &value);
	if (r < 0)
		return r;
	r = mongo_alias_parse(&value, &a);
	bson_destroy(&reply);
	if (r < 0)
		return r;
	if ((w->expect.flags & EXPECT_NAME) &&
	    !(a.parent == w->expect.parent && mfs_name_equal(&a.name, w->expect.name)))
		return -EAGAIN;
	if (w->kind == WRITE_ALIAS_DELETE)
		return 0;
	a.parent = w->alias->parent;
	a.name = w->alias->name;
	t->aliases[t->n_aliases++] = a;
	return 0;
}

/* One that is not put in yet is changed in memory: an exchange moves one of the two twice. */
static int write_alias(struct txn *t, const struct write *w)
{
	if (w->kind == WRITE_ALIAS_INSERT) {
		t->aliases[t->n_aliases++] = *w->alias;
		return 0;
	}
	for (unsigned int i = 0; i < t->n_aliases; i++) {
		struct alias *a = &t->aliases[i];

		if (a->id != w->ino)
			continue;
		if ((w->expect.flags & EXPECT_NAME) &&
		    !(a->parent == w->expect.parent && mfs_name_equal(&a->name, w->expect.name)))
			return -EAGAIN;
		if (w->kind == WRITE_ALIAS_DELETE) {
			*a = t->aliases[--t->n_aliases];
			return 0;
		}
		a->parent = w->alias->parent;
		a->name = w->alias->name;
		return 0;
	}
	return take_alias(t, w);
}

static int write_one(struct txn *t, const struct write *w)
{
	switch (w->kind) {
	case WRITE_INSERT:
		return write_insert(t, w);
	case WRITE_EDIT:
	case WRITE_DELETE:
	case WRITE_RENAME:
	case WRITE_TRASH:
	case WRITE_UNTRASH:
	case WRITE_PURGE:
		return write_existing(t, w);
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_DELETE:
	case WRITE_ALIAS_RENAME:
		return write_alias(t, w);
	default:
		return 0;
	}
}

/* --- many access times --- */

/* Edits that say nothing back, each of another record: one command for all. */
static bool are_plain_edits(const struct change *c)
{
	for (unsigned int i = 0; i < c->n_writes; i++) {
		const struct write *w = &c->writes[i];

		if (w->kind != WRITE_EDIT || w->ret_attr || w->expect.flags || mongo_write_rings(w) || (w->mask & EDIT_SIZE))
			return false;
		for (unsigned int k = 0; k < i; k++)
			if (c->writes[k].ino == w->ino)
				return false;
	}
	return c->n_writes > 1;
}

/* -EAGAIN: not all of them are in files. */
static int edit_all(struct txn *t)
{
	const struct change *c = t->a->ch;
	struct mongo_batch b = { .c = t->a->c, .flags = IN_TXN, .collection = MONGO_FILES };
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < c->n_writes; i++) {
		AUTO_BSON bson_t item = BSON_INITIALIZER;
		AUTO_BSON bson_t cmd = BSON_INITIALIZER;
		bson_iter_t it;

		mongo_edit_command(t->a, &c->writes[i], false, MONGO_FILES, &cmd);
		if (!bson_iter_init_find(&it, &cmd, "query") || !bson_append_iter(&item, "q", -1, &it) ||
		    !bson_iter_init_find(&it, &cmd, "update") || !bson_append_iter(&item, "u", -1, &it))
			r = -EFBIG;
		else
			r = mongo_batch_add(&b, BATCH_UPDATE, true, &item);
	}
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	return r;
}

/* --- the end --- */

static int put_taken(struct txn *t)
{
	struct mongo_batch files = { .c = t->a->c, .flags = IN_TXN, .collection = MONGO_FILES }, trash = files;
	int r = 0;

	trash.collection = MONGO_TRASH;
	for (unsigned int i = 0; r == 0 && i < t->n_taken; i++) {
		struct taken *k = &t->taken[i];
		AUTO_BSON bson_t doc = BSON_INITIALIZER;

		if (k->gone)
			continue;
		mongo_node_put(&k->node, &doc);
		mongo_ring_put(&k->ring, &doc);
		add_sum(t, NULL, &k->node.attr);
		r = mongo_batch_add(k->node.attr.flags & ATTR_IN_TRASH ? &trash : &files, BATCH_INSERT, false, &doc);
	}
	for (unsigned int i = 0; r == 0 && i < t->n_aliases; i++) {
		AUTO_BSON bson_t doc = BSON_INITIALIZER;

		mongo_alias_put(&t->aliases[i], &doc);
		r = mongo_batch_add(&files, BATCH_INSERT, false, &doc);
	}
	if (r == 0)
		r = mongo_batch_send(&trash);
	if (r == 0)
		r = mongo_batch_send(&files);
	mongo_batch_release(&trash);
	mongo_batch_release(&files);
	return r;
}

/* Aliases are made for what is in files: with an edit of it in the change that is known already. */
static int check_targets(struct txn *t)
{
	const struct change *c = t->a->ch;

	for (unsigned int i = 0; i < c->n_writes; i++) {
		const struct taken *k;

		if (c->writes[i].kind != WRITE_ALIAS_INSERT)
			continue;
		k = find_taken(t, c->writes[i].alias->target);
		if (k && (k->gone || (k->node.attr.flags & ATTR_IN_TRASH)))
			return -ESTALE;
	}
	return 0;
}

static int write_all(struct txn *t)
{
	const struct change *c = t->a->ch;
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < c->n_writes; i++)
		r = write_one(t, &c->writes[i]);
	if (r == 0)
		r = check_targets(t);
	return r < 0 ? r : put_taken(t);
}

static int run_statements(struct txn *t, bool together)
{
	const struct change *c = t->a->ch;
	int r = 0;

	if (c->not_below_dir || c->not_below_dir2)
		r = count_dir_move(t);
	if (r == 0)
		r = mongo_touch_in_txn(t->a, &t->dying);
	if (r == 0)
		r = check_guards(t);
	if (r == 0)
		r = together ? edit_all(t) : write_all(t);
	if (r == 0)
		r = mongo_side_run(t->a, IN_TXN, false);
	if (r == 0 && t->n_gone)
		r = mongo_ops_note(t->a, t->gone, t->n_gone);
	return r;
}

static int commit_once(struct txn *t, mongoc_client_session_t *s)
{
	struct mongo_conn *c = t->a->c;
	bson_error_t err;
	bson_t reply;
	bool done = mongoc_client_session_commit_transaction(s, &reply, &err);
	int r = done ? 0 : mongo_error(c, MONGO_WRITE, &err, &reply);

	bson_destroy(&reply);
	if (done) {
		c->open = false;
		mongo_health(c->m, NULL);
	}
	/* A conflict is an answer. That it knows of no transaction is not: it may have forgotten what it has done. */
	return r == -EDEADLK && err.code != 112 ? -EPROTO : r;
}

/*
 * While nobody answers it is sent again: the server knows what it did with it, and where it has not come the transaction is
 * still open and would be in everybody's way. -ECOMM: unknown.
 */
static int commit(struct txn *t, mongoc_client_session_t *s)
{
	unsigned int tries = 0;
	int r;

	for (;;) {
		r = commit_once(t, s);
		if (r != -ECOMM)
			return r == -EPROTO ? -ECOMM : r;
		r = mongo_back_off(t->a->c, tries++);
		if (r < 0)
			return r == -ECANCELED ? -ECOMM : r;
	}
}

static int run_once(struct txn *t, bool together)
{
	struct mongo_conn *c = t->a->c;
	mongoc_client_session_t *s = NULL;
	int r = mongo_conn_begin(c, &s);

	if (r < 0)
		return r;
	r = run_statements(t, together);
	if (r == 0)
		return commit(t, s);
	mongoc_client_session_abort_transaction(s, NULL);
	return r;
}

static int run_until_no_conflict(struct applying *a, struct txn *t)
{
	bool together = are_plain_edits(a->ch);
	unsigned int tries = 0;
	int r, pause;

	for (;;) {
		uint64_t mark = t->mark;

		*t = (struct txn){ .a = a, .mark = mark };
		r = run_once(t, together);
		if (r == -EAGAIN && together) {
			together = false;
			continue;
		}
		if (r == -EBUSY)
			r = mongo_dying_wait(a, t->dying) ?: -EDEADLK;
		if (r != -EDEADLK)
			return r;
		txn_release(t);
		pause = mongo_back_off(a->c, tries++);
		if (pause < 0)
			return pause;
	}
}

static int run_marked(struct applying *a, struct txn *t)
{
	mfs_ino_t dir = a->ch->no_child;
	uint64_t mark = 0;
	int r = dir ? mongo_no_child(a->c, MONGO_READ, dir) : 0;

	if (r == 0 && dir)
		r = mongo_dying_mark(a, dir, &mark);
	t->mark = mark;
	if (r == 0)
		r = run_until_no_conflict(a, t);
	/* Also while the outcome is unknown: where the directory is gone nothing matches, and a commit under way is waited for. */
	if (r < 0 && mark)
		mongo_dying_unmark(a, dir, mark);
	return r == -ESTALE && mark ? -EAGAIN : r;
}

int mongo_apply_txn(struct applying *a)
{
	MFS_AUTOFREE struct txn *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->a = a;
	r = run_marked(a, t);
	for (unsigned int i = 0; r == 0 && i < t->n_sums; i++)
		mongo_account(a->m, t->sums[i].was ? &t->sums[i].before : NULL, t->sums[i].is ? &t->sums[i].after : NULL);
	txn_release(t);
	if (r == 0)
		mongo_touch_after(a, true);
	return r;
}
