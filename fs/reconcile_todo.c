/*
 * The queue of records: content that is in the index, in patches, or not as long as its object, in order of `todo`.
 *
 * When it is worth making it one object: inline content when its todo says so (some seconds after the commit, or at once
 * when much of it waits: fs/content), but that of a temporary name not before the rename or half a minute; the rest when
 * idle for half a minute, and the longer the more there is to move, so that a big file of which little changes now and
 * then is not copied for each change. What is open for writing waits.
 *
 * `todo` is moved on by compare-and-set on `lay`, so a commit's own never gets lost; a failure moves it on further and
 * further, and is told once. There is no lease: who composes a file has claimed it (reconcile_stats.h), and who comes
 * after finds it settled.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/workers.h"
#include "fs/reconcile_internal.h"

#define PAGE		64
#define PAGE_MAX	10000 /* of engine_query */
#define IDLE_NS		(30 * MFS_NSEC_PER_SEC)
#define IDLE_MAX_NS	(3600 * MFS_NSEC_PER_SEC)
#define IDLE_BYTES	(UINT64_C(64) << 20) /* a file as big as this waits for IDLE_NS, a bigger one longer */
#define IDLE_BLOB	UINT64_C(4096)	     /* but not so long if its slices are many */
#define BACKOFF_MAX_NS	(600 * MFS_NSEC_PER_SEC)
#define FAILED_IN_A_ROW 32

static bool is_written(struct volume *v, mfs_ino_t ino)
{
	if (v->hooks.is_written)
		return v->hooks.is_written(v->hooks.arg, ino);
	return v->hooks.is_open && v->hooks.is_open(v->hooks.arg, ino);
}

static bool is_temporary(struct reconcile_ctx *rc, const struct node *n)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(1 << 14);
	bool temporary = false;

	return namespace_key(rc->v->ns, rc->op, n->attr.ino, &key, &temporary) == 0 && temporary;
}

static int64_t idle_of(const struct node *n)
{
	double worth = (double)n->attr.size / (double)IDLE_BYTES / (1.0 + (double)n->slices.size / (double)IDLE_BLOB);

	if (worth <= 1)
		return IDLE_NS;
	return (int64_t)MFS_MIN((double)IDLE_NS * worth, (double)IDLE_MAX_NS);
}

int64_t reconcile_not_before(struct reconcile_ctx *rc, const struct node *n)
{
	int64_t now = mfs_now_ns(), at = n->attr.ctime + idle_of(n);
	bool inline_ = object_ref_is_empty(&n->ref) && n->attr.size <= MFS_INLINE_MAX; /* an empty file too */

	if (rc->force || n->todo == RECONCILE_TODO_NOW)
		return 0;
	/* A clock that was set back does not hold a file up. */
	if (n->attr.ctime > now)
		at = now;
	if (inline_ && at > now && is_temporary(rc, n))
		return at;
	if (is_written(rc->v, n->attr.ino))
		return now + IDLE_NS;
	/* Of what is inline, that its todo has come says enough. */
	return inline_ || at <= now ? 0 : at;
}

int reconcile_set_todo(struct reconcile_ctx *rc, const struct node *n, int64_t at)
{
	struct node set = *n; /* borrows */
	struct change c = { 0 };
	struct write *w;
	int r;

	if (n->todo == at)
		return 1;
	set.todo = at;
	w = change_write(&c, WRITE_EDIT, n->attr.ino);
	w->node = &set;
	w->mask = EDIT_TODO | EDIT_NO_BUMP_VER;
	w->expect.flags = EXPECT_LAY | EXPECT_IN_FILES;
	w->expect.lay = n->attr.lay;
	r = engine_apply(rc->v->engine, rc->op, &c);
	if (r < 0)
		return r == -EAGAIN || reconcile_is_gone(r) ? 0 : r;
	return 1;
}

int reconcile_hasten_file(struct reconcile_ctx *rc, mfs_ino_t ino)
{
	for (;;) {
		struct node n = NODE_INIT;
		int r = namespace_get(rc->v->ns, rc->op, ino, &n);

		if (r == 0)
			r = n.todo ? reconcile_set_todo(rc, &n, RECONCILE_TODO_NOW) : 1;
		node_release(&n);
		if (r != 0)
			return r < 0 && !reconcile_is_gone(r) ? r : 0;
	}
}

static int hasten_all(struct reconcile_ctx *rc)
{
	struct query q = { .todo = true, .limit = 1000, .attr_only = true };
	struct node_list l = NODE_LIST_INIT;
	int r;

	do {
		node_list_release(&l);
		r = engine_query(rc->v->engine, rc->op, &q, &l);
		for (size_t i = 0; i < l.n && r >= 0; i++)
			r = reconcile_hasten_file(rc, l.v[i].attr.ino);
		if (l.n)
			q.after = l.v[l.n - 1].attr.ino;
	} while (r >= 0 && l.n);
	node_list_release(&l);
	return MFS_MIN(r, 0);
}

int reconcile_hasten(struct volume *v, struct op_ctx *op, mfs_ino_t ino)
{
	struct reconcile_ctx rc = { .v = v, .op = op, .hasten = true };
	struct node n = NODE_INIT;
	int r;

	if (!ino) {
		r = hasten_all(&rc);
	} else {
		r = namespace_get(v->ns, op, ino, &n);
		if (r == 0)
			r = attr_is_dir(&n.attr) ? reconcile_tree(&rc, ino) : reconcile_hasten_file(&rc, ino);
		node_release(&n);
	}
	if (r == 0 && v->hooks.jobs_queued)
		v->hooks.jobs_queued(v->hooks.arg);
	return r;
}

/* --- one record --- */

static int64_t backoff(uint32_t tries)
{
	return tries >= 9 ? BACKOFF_MAX_NS : MFS_MIN(MFS_NSEC_PER_SEC << tries, BACKOFF_MAX_NS);
}

static int64_t failed(struct reconcile_ctx *rc, mfs_ino_t ino, int err)
{
	char text[RECONCILE_ERROR_MAX];
	uint32_t tries;

	snprintf(text, sizeof(text), "inode %" PRIu64 ": %s", ino, strerror(-err));
	tries = reconcile_stats_failed(&rc->v->reconcile, ino, text);
	if (tries == 1 && err != -EAGAIN)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, rc->op,
			"inode=%" PRIu64
			" its content could not be made one object: %s; it is as safe where it is, and is tried again",
			ino, strerror(-err));
	return mfs_now_ns() + backoff(tries);
}

/* Its time is later. */
static int postpone(struct reconcile_ctx *rc, mfs_ino_t ino, int64_t at)
{
	struct node n = NODE_INIT;
	int r = namespace_get(rc->v->ns, rc->op, ino, &n);

	if (r == 0 && n.todo)
		r = reconcile_set_todo(rc, &n, at);
	node_release(&n);
	return reconcile_is_gone(r) ? 0 : MFS_MIN(r, 0);
}

struct record_item {
	struct reconcile_ctx rc;
	mfs_ino_t ino;
	int r;	 /* of the settle */
	int err; /* of putting it off */
};

static void work_record(void *arg)
{
	struct record_item *x = arg;
	struct reconcile_ctx *rc = &x->rc;
	int64_t at;

	rc->again_at = 0;
	x->r = atomic_load(&rc->op->cancelled) ? -ECANCELED : reconcile_settle(rc, x->ino);
	if (x->r == 0 || x->r == -EBUSY || x->r == -ECANCELED)
		return;
	at = x->r == -EAGAIN && rc->again_at ? rc->again_at : failed(rc, x->ino, x->r);
	x->err = postpone(rc, x->ino, at);
}

/* --- the queue --- */

struct records {
	struct reconcile_ctx rc;
	struct workers *pool;
	mfs_ino_t *seen; /* tried in this run: a hash table of inodes, 0 is free */
	size_t n_seen, cap;
	size_t n_left; /* of those, still queued */
	unsigned int failed_in_a_row;
	uint64_t n_done;
};

static size_t seen_at(const mfs_ino_t *v, size_t cap, mfs_ino_t ino)
{
	size_t i = ino * UINT64_C(0x9e3779b97f4a7c15) % cap;

	while (v[i] && v[i] != ino)
		i = (i + 1) % cap;
	return i;
}

static bool was_seen(const struct records *q, mfs_ino_t ino)
{
	return q->cap && q->seen[seen_at(q->seen, q->cap, ino)] == ino;
}

static int remember(struct records *q, mfs_ino_t ino)
{
	if (2 * (q->n_seen + 1) > q->cap) {
		size_t cap = q->cap ? 2 * q->cap : 128;
		mfs_ino_t *v = calloc(cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		for (size_t i = 0; i < q->cap; i++)
			if (q->seen[i])
				v[seen_at(v, cap, q->seen[i])] = q->seen[i];
		free(q->seen);
		q->seen = v;
		q->cap = cap;
	}
	q->seen[seen_at(q->seen, q->cap, ino)] = ino;
	q->n_seen++;
	return 0;
}

static int account(struct records *q, const struct record_item *x)
{
	if (x->r == -ECANCELED || x->err < 0)
		return x->r == -ECANCELED ? x->r : x->err;
	if (x->r == 0) {
		q->n_done++;
		q->failed_in_a_row = 0;
		return 0;
	}
	q->n_left++;
	if (x->r != -EAGAIN && x->r != -EBUSY && ++q->failed_in_a_row >= FAILED_IN_A_ROW)
		return x->r; /* the store is down: no use in asking for each */
	return 0;
}

static int work_items(struct records *q, struct record_item *v, size_t n)
{
	int r = 0;

	if (n > 1 && !q->pool)
		r = workers_new("settle", RECONCILE_THREADS, PAGE, &q->pool);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (n == 1 || workers_submit(q->pool, work_record, &v[i]) < 0)
			work_record(&v[i]);
	if (q->pool)
		workers_drain(q->pool);
	for (size_t i = 0; i < n; i++) {
		int err = account(q, &v[i]);

		if (r == 0)
			r = err;
	}
	return r;
}

/* The earliest that were not tried yet. *ret_n: how many. */
static int page(struct records *q, int64_t bound, size_t *ret_n)
{
	struct query what = { .todo = true,
			      .todo_before = bound,
			      .limit = MFS_MIN(PAGE + q->n_left, (size_t)PAGE_MAX),
			      .attr_only = true };
	struct record_item items[PAGE];
	struct node_list l = NODE_LIST_INIT;
	size_t n = 0;
	int r;

	*ret_n = 0;
	if (q->rc.until_ns && mfs_mono_ns() >= q->rc.until_ns)
		return 0;
	r = engine_query(q->rc.v->engine, q->rc.op, &what, &l);

	for (size_t i = 0; i < l.n && n < PAGE && r == 0; i++) {
		mfs_ino_t ino = l.v[i].attr.ino;

		if (was_seen(q, ino))
			continue;
		r = remember(q, ino);
		(*ret_n)++;
		if (q->rc.max_size && l.v[i].attr.size > q->rc.max_size)
			q->n_left++;
		else
			items[n++] = (struct record_item){ .rc = q->rc, .ino = ino };
	}
	node_list_release(&l);
	return r < 0 || n == 0 ? r : work_items(q, items, n);
}

int reconcile_records(struct reconcile_ctx *rc, int64_t due_before, void (*report)(void *arg), void *arg,
		      uint64_t *ret_done)
{
	struct records q = { .rc = *rc };
	size_t n;
	int r;

	q.rc.compose = true;
	do {
		r = page(&q, rc->force ? INT64_MAX : MFS_MIN(due_before, mfs_now_ns()), &n);
		*ret_done += q.n_done;
		q.n_done = 0;
		if (report)
			report(arg);
	} while (r == 0 && n);
	workers_free(q.pool);
	free(q.seen);
	return r;
}
