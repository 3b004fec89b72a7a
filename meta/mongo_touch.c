/*
 * Parents (rule M3): a directory's times and child count follow its change by one plain conditional update. While one is
 * under way, those that come for the same directory gather, and the next one serves them all: alone nobody waits, and
 * under load one update serves as many as there are threads. And the mark of an rmdir (rule M4), which they mind.
 *
 * A touch enters no ring: sent again after a lost reply it counts twice, and the child count is a hint. `touch` is the id
 * of the last change whose touch it was, so that news of it tell whose.
 */
#include "meta/mongo_apply_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"

#define BUCKETS	       64
#define DYING_WAIT_NS  (150 * INT64_C(1000000))
#define DYING_PAUSE_NS (3 * INT64_C(1000000))
#define DYING_LEASE_NS (10 * MFS_NSEC_PER_SEC)

/* One update of a directory. */
struct touch_batch {
	unsigned int refs; /* who waits for it */
	int64_t time_ns, children;
	int64_t n; /* how many it serves */
	bool want_attr, done;
	struct op_id id;
	int r; /* of mongo_touch() */
	struct mfs_attr attr;
};

/* A directory with touches under way. */
struct touch_dir {
	struct touch_dir *next;
	mfs_ino_t dir;
	bool unless_dying;
	unsigned int refs;
	bool busy; /* a batch is under way */
	struct touch_batch *gathering;
	pthread_cond_t changed; /* busy or a batch's done */
};

struct mongo_touches {
	struct mfs_mutex lock; /* a leaf */
	struct touch_dir *buckets[BUCKETS];
};

int mongo_touches_new(struct mongo_touches **ret)
{
	struct mongo_touches *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock.m, NULL);
	*ret = t;
	return 0;
}

void mongo_touches_free(struct mongo_touches *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock.m);
	free(t);
}

/* --- one update --- */

static void add_expr(bson_t *set, const char *field, const char *of, int64_t n)
{
	bson_t expr, add;

	BSON_APPEND_DOCUMENT_BEGIN(set, field, &expr);
	BSON_APPEND_ARRAY_BEGIN(&expr, "$add", &add);
	BSON_APPEND_UTF8(&add, "0", of);
	BSON_APPEND_INT64(&add, "1", n);
	bson_append_array_end(&expr, &add);
	bson_append_document_end(set, &expr);
}

/* max(0, children + n): a hint, but never below 0. */
static void children_expr(bson_t *set, int64_t n)
{
	bson_t expr, max, sum, add, have, absent;

	BSON_APPEND_DOCUMENT_BEGIN(set, "children", &expr);
	BSON_APPEND_ARRAY_BEGIN(&expr, "$max", &max);
	BSON_APPEND_INT64(&max, "0", 0);
	BSON_APPEND_DOCUMENT_BEGIN(&max, "1", &sum);
	BSON_APPEND_ARRAY_BEGIN(&sum, "$add", &add);
	BSON_APPEND_DOCUMENT_BEGIN(&add, "0", &have);
	BSON_APPEND_ARRAY_BEGIN(&have, "$ifNull", &absent);
	BSON_APPEND_UTF8(&absent, "0", "$children");
	BSON_APPEND_INT64(&absent, "1", 0);
	bson_append_array_end(&have, &absent);
	bson_append_document_end(&add, &have);
	BSON_APPEND_INT64(&add, "1", n);
	bson_append_array_end(&sum, &add);
	bson_append_document_end(&max, &sum);
	bson_append_array_end(&expr, &max);
	bson_append_document_end(set, &expr);
}

static void put_times(bson_t *set, int64_t time_ns)
{
	BSON_APPEND_INT64(set, "times.m", time_ns);
	BSON_APPEND_INT64(set, "times.c", time_ns);
}

/* A pipeline only where something is taken away. */
static void put_update(const struct touch_batch *b, bson_t *to, const char *field)
{
	bson_t u, stage, set, inc;

	if (b->children < 0) {
		BSON_APPEND_ARRAY_BEGIN(to, field, &u);
		BSON_APPEND_DOCUMENT_BEGIN(&u, "0", &stage);
		BSON_APPEND_DOCUMENT_BEGIN(&stage, "$set", &set);
		put_times(&set, b->time_ns);
		add_expr(&set, "ver", "$ver", b->n);
		children_expr(&set, b->children);
		if (b->id.session)
			mongo_op_put(&set, "touch", &b->id);
		bson_append_document_end(&stage, &set);
		bson_append_document_end(&u, &stage);
		bson_append_array_end(to, &u);
		return;
	}
	BSON_APPEND_DOCUMENT_BEGIN(to, field, &u);
	BSON_APPEND_DOCUMENT_BEGIN(&u, "$set", &set);
	put_times(&set, b->time_ns);
	if (b->id.session)
		mongo_op_put(&set, "touch", &b->id);
	bson_append_document_end(&u, &set);
	BSON_APPEND_DOCUMENT_BEGIN(&u, "$inc", &inc);
	BSON_APPEND_INT64(&inc, "ver", b->n);
	BSON_APPEND_INT64(&inc, "children", b->children);
	bson_append_document_end(&u, &inc);
	bson_append_document_end(to, &u);
}

static void put_not_dying(bson_t *q)
{
	bson_t sub, in;

	BSON_APPEND_DOCUMENT_BEGIN(q, "dying", &sub);
	BSON_APPEND_ARRAY_BEGIN(&sub, "$in", &in);
	BSON_APPEND_NULL(&in, "0");
	BSON_APPEND_INT64(&in, "1", 0);
	bson_append_array_end(&sub, &in);
	bson_append_document_end(q, &sub);
}

static void put_filter(bson_t *to, const char *field, mfs_ino_t dir, bool unless_dying)
{
	bson_t q;

	BSON_APPEND_DOCUMENT_BEGIN(to, field, &q);
	mongo_id_put(dir, &q);
	if (unless_dying)
		put_not_dying(&q);
	bson_append_document_end(to, &q);
}

static int read_dying(struct mongo_conn *c, unsigned int flags, mfs_ino_t dir, uint64_t *ret)
{
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t opts = BSON_INITIALIZER;
	bson_iter_t it;
	bson_t projection, doc;
	int r;

	mongo_id_put(dir, &q);
	BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &projection);
	BSON_APPEND_INT32(&projection, "dying", 1);
	bson_append_document_end(&opts, &projection);
	r = mongo_find_one(c, flags, MONGO_FILES, &q, &opts, &doc);
	if (r < 0)
		return r;
	*ret = bson_iter_init_find(&it, &doc, "dying") ? (uint64_t)bson_iter_as_int64(&it) : 0;
	bson_destroy(&doc);
	return 0;
}

/* What the directory is that an update did not match. */
static int why_missed(struct mongo_conn *c, unsigned int flags, mfs_ino_t dir)
{
	uint64_t token = 0;
	int r = read_dying(c, flags, dir, &token);

	return r < 0 ? r : token ? -EBUSY : -EDEADLK;
}

static int send_for_attr(struct mongo_conn *c, const struct touch_dir *d, struct touch_batch *b)
{
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	bson_t fields, reply, value;
	int r;

	BSON_APPEND_UTF8(&cmd, "findAndModify", MONGO_FILES);
	put_filter(&cmd, "query", d->dir, d->unless_dying);
	put_update(b, &cmd, "update");
	BSON_APPEND_BOOL(&cmd, "new", true);
	BSON_APPEND_DOCUMENT_BEGIN(&cmd, "fields", &fields);
	mongo_attr_projection(&fields);
	bson_append_document_end(&cmd, &fields);
	r = mongo_run(c, MONGO_WRITE | MONGO_AGAIN, &cmd, &reply);
	if (r == 0 && !mongo_reply_value(&reply, &value))
		r = -ENOENT;
	else if (r == 0)
		r = mongo_attr_parse(&value, false, &b->attr);
	bson_destroy(&reply);
	return r;
}

static int send_plain(struct mongo_conn *c, const struct touch_dir *d, struct touch_batch *b)
{
	struct mongo_batch batch = { .c = c, .flags = MONGO_WRITE | MONGO_AGAIN, .collection = MONGO_FILES };
	AUTO_BSON bson_t item = BSON_INITIALIZER;
	int r;

	put_filter(&item, "q", d->dir, d->unless_dying);
	put_update(b, &item, "u");
	r = mongo_batch_add(&batch, BATCH_UPDATE, true, &item);
	if (r == 0)
		r = mongo_batch_send(&batch);
	mongo_batch_release(&batch);
	return r == -EAGAIN ? -ENOENT : r;
}

static int send_batch(struct mongo_conn *c, const struct touch_dir *d, struct touch_batch *b)
{
	unsigned int tries = 0;
	int r, pause;

	for (;;) {
		r = b->want_attr ? send_for_attr(c, d, b) : send_plain(c, d, b);
		if (r == -ENOENT && d->unless_dying)
			r = why_missed(c, MONGO_READ, d->dir);
		if (r != -EDEADLK)
			return r;
		/* A transaction has the directory, or the mark went between the two. */
		pause = mongo_back_off(c, tries++);
		if (pause < 0)
			return pause;
	}
}

/* --- gathering --- */

static struct touch_dir *dir_get(struct mongo_touches *s, mfs_ino_t dir, bool unless_dying)
{
	struct touch_dir **bucket = &s->buckets[dir % BUCKETS], *d;
	pthread_condattr_t monotonic;

	for (d = *bucket; d; d = d->next)
		if (d->dir == dir && d->unless_dying == unless_dying) {
			d->refs++;
			return d;
		}
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	d->dir = dir;
	d->unless_dying = unless_dying;
	d->refs = 1;
	d->next = *bucket;
	*bucket = d;
	return d;
}

static void dir_put(struct mongo_touches *s, struct touch_dir *d)
{
	struct touch_dir **p = &s->buckets[d->dir % BUCKETS];

	if (--d->refs)
		return;
	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	pthread_cond_destroy(&d->changed);
	free(d);
}

/* The batch that gathers, with t in it. NULL: no memory. */
static struct touch_batch *join(struct touch_dir *d, const struct touch *t, const struct op_id *id)
{
	struct touch_batch *b = d->gathering;

	if (!b)
		b = d->gathering = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->refs++;
	b->n++;
	b->time_ns = t->time_ns;
	b->children += t->child_delta;
	b->want_attr |= t->ret_attr != NULL;
	b->id = *id;
	return b;
}

static void leave(struct touch_dir *d, struct touch_batch *b)
{
	if (--b->refs)
		return;
	if (d->gathering == b)
		d->gathering = NULL;
	free(b);
}

/* Lead the batch, or wait for who leads it; with the lock held on entry and return. *ret_own: it was this call's doing. */
static int ride(struct mongo_touches *s, struct mongo_conn *c, struct touch_dir *d, struct touch_batch *b, bool *ret_own)
{
	*ret_own = false;
	while (!b->done) {
		struct timespec until = mfs_ns_to_timespec(c->until);
		int r;

		if (d->busy) {
			if (pthread_cond_timedwait(&d->changed, &s->lock.m, &until) == ETIMEDOUT && !b->done) {
				*ret_own = true;
				return -EIO;
			}
			continue;
		}
		d->busy = true;
		d->gathering = NULL;
		pthread_mutex_unlock(&s->lock.m);
		r = send_batch(c, d, b);
		pthread_mutex_lock(&s->lock.m);
		b->r = r;
		b->done = true;
		d->busy = false;
		*ret_own = true;
		pthread_cond_broadcast(&d->changed);
	}
	return b->r;
}

static int touch_once(struct applying *a, const struct touch *t, bool *ret_own)
{
	struct mongo_touches *s = a->m->apply->touches;
	struct touch_batch *b;
	struct touch_dir *d;
	int r = -ENOMEM;
	MFS_GUARD(&s->lock);

	*ret_own = true;
	d = dir_get(s, t->dir, t->flags & TOUCH_UNLESS_DYING);
	if (!d)
		return -ENOMEM;
	b = join(d, t, &a->ch->id);
	if (b) {
		r = ride(s, a->c, d, b, ret_own);
		if (r == 0 && t->ret_attr)
			*t->ret_attr = b->attr;
		leave(d, b);
	}
	dir_put(s, d);
	return r;
}

int mongo_touch(struct applying *a, const struct touch *t)
{
	struct touch again = *t;
	bool own;
	int r;

	if (a->may_touched)
		again.child_delta = 0;
	do
		r = touch_once(a, &again, &own);
	/* Another call's deadline is not ours. */
	while (r < 0 && r != -ENOENT && r != -EBUSY && !own && mongo_left_ms(a->c));
	return r;
}

void mongo_touch_after(struct applying *a, bool but_unless_dying)
{
	const struct change *c = a->ch;

	for (unsigned int i = 0; i < c->n_touches; i++) {
		const struct touch *t = &c->touches[i];
		struct touch plain = *t;
		int r;

		if (but_unless_dying && (t->flags & TOUCH_UNLESS_DYING))
			continue;
		plain.flags = 0;
		r = mongo_touch(a, &plain);
		if (r == -ENOENT && t->ret_attr)
			*t->ret_attr = (struct mfs_attr){ .ino = t->dir };
		if (r < 0 && r != -ENOENT)
			mfs_log(MFS_LOG_META, MFS_LOG_WARN, a->c->op,
				"mongodb %s dir=%" PRIu64 ": a change in it is done, but its own times could not be set (%s)",
				a->m->where, t->dir, strerror(-r));
	}
}

int mongo_touch_in_txn(struct applying *a, mfs_ino_t *ret_dying)
{
	const struct change *c = a->ch;
	struct mongo_batch batch = { .c = a->c, .flags = MONGO_WRITE | MONGO_IN_TXN, .collection = MONGO_FILES };
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < c->n_touches; i++) {
		const struct touch *t = &c->touches[i];
		struct touch_batch b = { .time_ns = t->time_ns, .children = t->child_delta, .n = 1, .id = c->id };
		AUTO_BSON bson_t item = BSON_INITIALIZER;

		if (!(t->flags & TOUCH_UNLESS_DYING))
			continue;
		put_filter(&item, "q", t->dir, true);
		put_update(&b, &item, "u");
		r = mongo_batch_add(&batch, BATCH_UPDATE, true, &item);
	}
	if (r == 0)
		r = mongo_batch_send(&batch);
	mongo_batch_release(&batch);
	if (r != -EAGAIN)
		return r;
	for (unsigned int i = 0; i < c->n_touches; i++) {
		uint64_t token = 0;

		if (!(c->touches[i].flags & TOUCH_UNLESS_DYING))
			continue;
		r = read_dying(a->c, MONGO_IN_TXN, c->touches[i].dir, &token);
		*ret_dying = c->touches[i].dir;
		if (r == -ENOENT && !(c->touches[i].flags & TOUCH_MUST_EXIST))
			r = 0;
		if (r < 0 || token)
			return r < 0 ? r : -EBUSY;
	}
	return 0;
}

/* --- the mark of an rmdir --- */

/* How long this mark has been seen standing still. */
static int64_t dying_age(struct mongo_apply *s, mfs_ino_t dir, uint64_t token)
{
	int64_t now = mfs_mono_ns();
	struct mongo_dying *at;
	MFS_GUARD(&s->lock);

	for (unsigned int i = 0; i < MONGO_DYING_SEEN; i++)
		if (s->dying[i].dir == dir && s->dying[i].token == token)
			return now - s->dying[i].since;
	at = &s->dying[s->next_dying++ % MONGO_DYING_SEEN];
	*at = (struct mongo_dying){ .dir = dir, .token = token, .since = now };
	return 0;
}

static int unmark(struct mongo_conn *c, mfs_ino_t dir, uint64_t token)
{
	struct mongo_batch b = { .c = c, .flags = MONGO_WRITE | MONGO_AGAIN, .collection = MONGO_FILES };
	AUTO_BSON bson_t item = BSON_INITIALIZER;
	bson_t sub, unset;
	int r;

	BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &sub);
	mongo_id_put(dir, &sub);
	mongo_put_u64(&sub, "dying", token);
	bson_append_document_end(&item, &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&item, "u", &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&sub, "$unset", &unset);
	BSON_APPEND_INT32(&unset, "dying", 1);
	bson_append_document_end(&sub, &unset);
	bson_append_document_end(&item, &sub);
	r = mongo_batch_add(&b, BATCH_UPDATE, false, &item);
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	return r;
}

int mongo_dying_wait(struct applying *a, mfs_ino_t dir)
{
	int64_t until = mfs_mono_ns() + DYING_WAIT_NS;
	uint64_t token = 0;
	int r;

	for (;;) {
		r = read_dying(a->c, MONGO_READ, dir, &token);
		if (r < 0 || token == 0)
			return r == -ENOENT ? 0 : r;
		if (dying_age(a->m->apply, dir, token) >= DYING_LEASE_NS) {
			mfs_log(MFS_LOG_META, MFS_LOG_WARN, a->c->op,
				"mongodb %s dir=%" PRIu64 ": an rmdir left it marked (its mount died?); the mark is taken off",
				a->m->where, dir);
			return unmark(a->c, dir, token);
		}
		if (mfs_mono_ns() >= until)
			return -EAGAIN;
		r = mongo_pause(a->c, DYING_PAUSE_NS);
		if (r < 0)
			return r;
	}
}

static int set_mark(struct applying *a, mfs_ino_t dir, uint64_t token)
{
	struct mongo_batch b = { .c = a->c, .flags = MONGO_WRITE, .collection = MONGO_FILES };
	AUTO_BSON bson_t item = BSON_INITIALIZER;
	bson_t sub, set;
	int r;

	BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &sub);
	mongo_id_put(dir, &sub);
	put_not_dying(&sub);
	bson_append_document_end(&item, &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&item, "u", &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&sub, "$set", &set);
	mongo_put_u64(&set, "dying", token);
	bson_append_document_end(&sub, &set);
	bson_append_document_end(&item, &sub);
	r = mongo_batch_add(&b, BATCH_UPDATE, true, &item);
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	return r;
}

int mongo_dying_mark(struct applying *a, mfs_ino_t dir, uint64_t *ret_token)
{
	uint64_t token = 0, is = 0;
	unsigned int tries = 0;
	int r;

	if (getrandom(&token, sizeof(token), 0) != sizeof(token))
		return -EIO;
	token |= 1;
	for (;;) {
		r = set_mark(a, dir, token);
		if (r == 0) {
			*ret_token = token;
			return 0;
		}
		if (r != -EAGAIN && r != -ECOMM && r != -EDEADLK)
			return r;
		/* Somebody else's, or our own whose reply was lost, or gone. */
		if (r != -EDEADLK) {
			r = read_dying(a->c, MONGO_READ, dir, &is);
			if (r < 0)
				return r == -ENOENT ? -ESTALE : r;
			if (is == token) {
				*ret_token = token;
				return mongo_ops_barrier(a->c);
			}
		}
		if (is) {
			r = mongo_dying_wait(a, dir);
			if (r < 0)
				return r;
			is = 0;
		}
		r = mongo_back_off(a->c, tries++);
		if (r < 0)
			return r;
	}
}

void mongo_dying_unmark(struct applying *a, mfs_ino_t dir, uint64_t token)
{
	int r = unmark(a->c, dir, token);

	if (r < 0)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, a->c->op,
			"mongodb %s dir=%" PRIu64
			": the mark of an rmdir that failed stays on it (%s); whoever meets it takes it off after %d s",
			a->m->where, dir, strerror(-r), (int)(DYING_LEASE_NS / MFS_NSEC_PER_SEC));
}

int mongo_no_child(struct mongo_conn *c, unsigned int flags, mfs_ino_t dir)
{
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t opts = BSON_INITIALIZER;
	bson_t projection, doc;
	int r;

	mongo_put_u64(&q, "parent", dir);
	BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &projection);
	BSON_APPEND_INT32(&projection, "_id", 1);
	bson_append_document_end(&opts, &projection);
	r = mongo_find_one(c, flags, MONGO_FILES, &q, &opts, &doc);
	if (r == 0)
		bson_destroy(&doc);
	return r == 0 ? -ENOTEMPTY : r == -ENOENT ? 0 : r;
}
