/*
 * get, lookup and list through the cache.
 *
 * Keys, behind the prefix of volume, epoch and server: r INO a record; n PARENT NAME which inode a name stands for, or that
 * there is none; d DIR a hash of the pages of a directory, by (after, limit). A name's value points at the inode, and one
 * script follows it, so that a record lies there once and a change of it makes one value old.
 *
 * What each answer is judged by (meta/redis_floors.h), besides everything's floor:
 *   a record      its own mark, or its ver is at or above that of the news
 *   a name        the mark of the name (or the news said that it stands for this very id), and the mark of the id
 *   no such name  the mark of the name
 *   a page        the mark of the directory (a name was added), and of each id in it: who leaves, or changes, takes the
 *                 page with it, and nobody has to know from where
 *
 * A hit is one round trip to Redis and none to the inner engine; a miss is that one, the inner call, and one more to Redis.
 * Not cached: what is in trash, directories being removed, records over 8 KiB, pages over 256 KiB, errors but -ENOENT of
 * a lookup. Results of searches: meta/redis_find.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/op_ctx.h"
#include "meta/redis_internal.h"

#define INNER(e, name, ...) (e)->inner->ops->name((e)->inner, __VA_ARGS__)

/* --- keys --- */

void redis_key_record(char *key, const char *prefix, mfs_ino_t ino)
{
	snprintf(key, REDIS_KEY_MAX, "%sr%016" PRIx64, prefix, ino);
}

/* Redis keys may be any bytes, but ours are C strings. */
void redis_key_name(char *key, const char *prefix, mfs_ino_t parent, const struct mfs_name *name)
{
	int n = snprintf(key, REDIS_KEY_MAX, "%sn%016" PRIx64 "/", prefix, parent);

	memcpy(key + n, name->bytes, name->len);
	key[n + name->len] = '\0';
}

void redis_key_pages(char *key, const char *prefix, mfs_ino_t dir)
{
	snprintf(key, REDIS_KEY_MAX, "%sd%016" PRIx64, prefix, dir);
}

/* --- values --- */

bool redis_open_value(struct redis_engine *e, struct redis_request *q, const char *key, const redisReply *part,
		      struct redis_value *ret, bool *ret_force)
{
	size_t len;

	*ret_force = false;
	if (part->type == REDIS_REPLY_NIL)
		return false;
	if (part->type == REDIS_REPLY_STRING && part->len <= REDIS_FIND_MAX + REDIS_HEADER + REDIS_MAC &&
	    value_get_head(part->str, part->len, &ret->head) == 0) {
		if (ret->head.kind == VALUE_TOMBSTONE)
			return false;
		if (redis_seal_holds(redis_request_seal(q), key, part->str, part->len, &len) && len >= REDIS_HEADER) {
			ret->payload = part->str + REDIS_HEADER;
			ret->len = len - REDIS_HEADER;
			return true;
		}
	}
	*ret_force = true;
	e->bad++;
	return false;
}

static bool is_cacheable(const struct node *n)
{
	return !n->partial && !n->dying && !(n->attr.flags & ATTR_IN_TRASH);
}

static int seal_value(struct redis_request *q, const char *key, struct mfs_buf *b)
{
	return redis_seal_put(redis_request_seal(q), key, b);
}

static int make_record(struct redis_request *q, const char *key, uint64_t stamp, const struct node *n, struct mfs_buf *b)
{
	const struct value_head h = { .kind = VALUE_RECORD, .stamp = stamp, .ver = n->attr.ver };
	int r;

	if (!is_cacheable(n))
		return -EFBIG;
	value_put_head(b, &h);
	r = value_put_record(b, n);
	return r < 0 ? r : seal_value(q, key, b);
}

static int make_name(struct redis_request *q, const char *key, uint64_t stamp, const struct entry *found, struct mfs_buf *b)
{
	const struct value_head h = { .kind = found ? VALUE_ENTRY : VALUE_ABSENT, .stamp = stamp };
	int r = 0;

	value_put_head(b, &h);
	if (found) {
		const struct value_entry v = { .ino = found->node.attr.ino, .id = found->id, .pos = found->pos,
					       .ver = found->node.attr.ver };

		r = value_put_entry(b, &v);
	}
	return r < 0 ? r : seal_value(q, key, b);
}

/* --- asking and filling --- */

bool redis_ask(struct redis_engine *e, struct redis_request *q)
{
	int64_t beat;

	if (!e->up)
		return false;
	beat = engine_last_beat(e->inner);
	if (beat != INT64_MAX && mfs_mono_ns() - beat >= REDIS_BEAT_NS)
		return false;
	return redis_begin(e, q);
}

void redis_count(struct redis_engine *e, bool hit)
{
	if (hit)
		e->hits++;
	else
		e->misses++;
}

bool redis_begin_fill(struct redis_engine *e, const struct redis_asked *a, struct redis_request *q)
{
	if (a->view.t == 0 || !e->up)
		return false;
	{
		MFS_GUARD(&e->lock);
		if (e->no_fills_until > mfs_mono_ns())
			return false;
	}
	if (!redis_ask(e, q))
		return false;
	if (q->view.line == a->view.line)
		return true;
	redis_end(e, q);
	return false;
}

struct fill_args {
	const char *argv[16];
	size_t lens[16];
	int n;
	char stamp[17], ttl[24], age[24];
};

static void add_bytes(struct fill_args *f, const void *data, size_t len)
{
	f->argv[f->n] = data;
	f->lens[f->n++] = len;
}

static void add(struct fill_args *f, const char *s)
{
	add_bytes(f, s, strlen(s));
}

static void add_times(struct redis_engine *e, struct fill_args *f, uint64_t stamp)
{
	snprintf(f->stamp, sizeof(f->stamp), "%016" PRIx64, stamp);
	snprintf(f->ttl, sizeof(f->ttl), "%" PRIu64, e->ttl_ms);
	snprintf(f->age, sizeof(f->age), "%d", REDIS_FILL_US);
	add(f, f->stamp);
	add(f, f->ttl);
	add(f, f->age);
}

static void run_fill(struct redis_engine *e, struct redis_request *q, enum redis_script script, unsigned int n_keys,
		     struct fill_args *f)
{
	redisReply *reply = NULL;

	if (redis_run(e, q, script, n_keys, f->n, f->argv, f->lens, 1, &reply) < 0)
		return;
	if (reply->element[2]->type == REDIS_REPLY_INTEGER && reply->element[2]->integer > 0)
		e->fills += (uint64_t)reply->element[2]->integer;
	freeReplyObject(reply);
}

void redis_fill_page(struct redis_engine *e, const struct redis_asked *a, struct redis_request *q, const char *key,
		     const char *sealed, const char *field, unsigned int max, struct mfs_buf *b)
{
	struct fill_args f = { .n = 3 };
	char pages[16];

	if (seal_value(q, sealed, b) < 0)
		return;
	snprintf(pages, sizeof(pages), "%u", max + 1); /* and the tombstone */
	add(&f, key);
	add_times(e, &f, a->view.t);
	add(&f, a->force[0] ? "1" : "0");
	add(&f, field);
	add_bytes(&f, b->data, b->len);
	add(&f, pages);
	run_fill(e, q, SCRIPT_FILL_PAGE, 1, &f);
}

bool redis_get_page(struct redis_engine *e, struct redis_request *q, const char *key, const char *field, redisReply **ret)
{
	const char *argv[5] = { [3] = key, [4] = field };
	size_t lens[5] = { [3] = strlen(key), [4] = strlen(field) };

	return redis_run(e, q, SCRIPT_PAGE, 1, 5, argv, lens, 1, ret) == 0;
}

/* name NULL: only the record; n NULL: there is no such name. */
static void fill(struct redis_engine *e, const struct redis_asked *a, mfs_ino_t parent, const struct mfs_name *name,
		 const struct entry *found, const struct node *n)
{
	MFS_AUTOBUF struct mfs_buf first = MFS_BUF_INIT(2 * REDIS_RECORD_MAX), second = MFS_BUF_INIT(2 * REDIS_RECORD_MAX);
	struct mfs_buf *values[2] = { &first, &second };
	char keys[2][REDIS_KEY_MAX], vers[2][17];
	bool force[2];
	struct fill_args f = { .n = 3 };
	struct redis_request q;
	unsigned int k = 0;

	if (!redis_begin_fill(e, a, &q))
		return;
	if (name) {
		redis_key_name(keys[k], q.prefix, parent, name);
		snprintf(vers[k], sizeof(vers[k]), "%016x", 0);
		force[k] = a->force[0];
		k += make_name(&q, keys[k], a->view.t, found, values[k]) == 0;
	}
	if (n) {
		redis_key_record(keys[k], q.prefix, n->attr.ino);
		snprintf(vers[k], sizeof(vers[k]), "%016" PRIx64, n->attr.ver);
		force[k] = a->force[1];
		mfs_buf_clear(values[k]);
		k += make_record(&q, keys[k], a->view.t, n, values[k]) == 0;
	}
	for (unsigned int i = 0; i < k; i++)
		add(&f, keys[i]);
	add_times(e, &f, a->view.t);
	for (unsigned int i = 0; i < k; i++) {
		add(&f, vers[i]);
		add(&f, force[i] ? "1" : "0");
		add_bytes(&f, values[i]->data, values[i]->len);
	}
	if (k)
		run_fill(e, &q, SCRIPT_FILL, k, &f);
	redis_end(e, &q);
}

/* --- get --- */

static bool judge(struct redis_engine *e, const struct redis_request *q, uint64_t hash, uint64_t stamp, enum floors_rule rule,
		  uint64_t number)
{
	bool ok = floors_judge(e->floors, &q->view, hash, stamp, rule, number);

	e->old += !ok;
	return ok;
}

/* The record in a part of an answer, if it may be used. */
static bool use_record(struct redis_engine *e, struct redis_request *q, const redisReply *part, mfs_ino_t ino,
		       struct node *ret, bool *ret_force)
{
	char key[REDIS_KEY_MAX];
	struct redis_value v;

	redis_key_record(key, q->prefix, ino);
	if (!redis_open_value(e, q, key, part, &v, ret_force))
		return false;
	if (v.head.kind != VALUE_RECORD || !judge(e, q, floors_record(ino), v.head.stamp, FLOORS_AT_LEAST, v.head.ver))
		return false;
	if (value_get_record(v.payload, v.len, ret) < 0)
		return false;
	if (ret->attr.ino == ino && ret->attr.ver == v.head.ver)
		return true;
	node_release(ret);
	return false;
}

static bool cached_get(struct redis_engine *e, mfs_ino_t ino, struct node *ret, struct redis_asked *a)
{
	char key[REDIS_KEY_MAX];
	const char *argv[4];
	size_t lens[4];
	redisReply *reply = NULL;
	struct redis_request q;
	bool hit = false;

	if (!redis_ask(e, &q))
		return false;
	redis_key_record(key, q.prefix, ino);
	argv[3] = key;
	lens[3] = strlen(key);
	if (redis_run(e, &q, SCRIPT_GET, 1, 4, argv, lens, 1, &reply) == 0) {
		hit = use_record(e, &q, reply->element[2], ino, ret, &a->force[1]);
		a->view = q.view;
		freeReplyObject(reply);
	}
	redis_end(e, &q);
	redis_count(e, hit);
	return hit;
}

int redis_get(struct engine *base, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	struct redis_engine *e = redis_of(base);
	struct redis_asked a = { 0 };
	int r;

	if (!(op && op->fresh) && cached_get(e, ino, ret, &a))
		return 0;
	r = INNER(e, get, op, ino, ret);
	/* What follows must not be older than this answer (a lock was got before it). */
	if (r == 0 && op && op->fresh)
		floors_mark_number(e->floors, floors_record(ino), FLOORS_AT_LEAST, ret->attr.ver);
	else if (r == 0)
		fill(e, &a, 0, NULL, NULL, ret);
	return r;
}

/* --- lookup --- */

/* What a positive name's value gives, together with its record. */
static bool use_entry(struct redis_engine *e, struct redis_request *q, const struct redis_value *v, const redisReply *record,
		      mfs_ino_t parent, const struct mfs_name *name, struct entry *ret, struct redis_asked *a)
{
	struct value_entry x;
	bool own;

	if (value_get_entry(v->payload, v->len, &x) < 0)
		return false;
	own = x.id == x.ino;
	if (!judge(e, q, floors_name(parent, name), v->head.stamp, FLOORS_SAME, x.id) ||
	    !judge(e, q, floors_record(x.id), v->head.stamp, own ? FLOORS_AT_LEAST : FLOORS_STAMP, x.ver))
		return false;
	if (!use_record(e, q, record, x.ino, &ret->node, &a->force[1]))
		return false;
	/* Two values of different moments: together they must be a state that was. */
	if (own && !(ret->node.parent == parent && mfs_name_equal(&ret->node.name, name))) {
		node_release(&ret->node);
		return false;
	}
	ret->id = x.id;
	ret->parent = parent;
	ret->name = *name;
	ret->pos = own ? ret->node.pos : x.pos;
	return true;
}

/* 1: a name, 0: there is none, -EAGAIN: not known. */
static int cached_lookup(struct redis_engine *e, mfs_ino_t parent, const struct mfs_name *name, struct entry *ret,
			 struct redis_asked *a)
{
	char key[REDIS_KEY_MAX], records[REDIS_PREFIX_MAX + 2];
	const char *argv[5];
	size_t lens[5];
	redisReply *reply = NULL;
	struct redis_request q;
	struct redis_value v;
	int r = -EAGAIN;

	if (!redis_ask(e, &q))
		return r;
	redis_key_name(key, q.prefix, parent, name);
	snprintf(records, sizeof(records), "%sr", q.prefix);
	argv[3] = key;
	lens[3] = strlen(key);
	argv[4] = records;
	lens[4] = strlen(records);
	if (redis_run(e, &q, SCRIPT_LOOKUP, 1, 5, argv, lens, 2, &reply) == 0) {
		a->view = q.view;
		if (!redis_open_value(e, &q, key, reply->element[2], &v, &a->force[0]))
			r = -EAGAIN;
		else if (v.head.kind == VALUE_ENTRY)
			r = use_entry(e, &q, &v, reply->element[3], parent, name, ret, a) ? 1 : -EAGAIN;
		else if (v.head.kind == VALUE_ABSENT && judge(e, &q, floors_name(parent, name), v.head.stamp, FLOORS_STAMP, 0))
			r = 0;
		freeReplyObject(reply);
	}
	redis_end(e, &q);
	redis_count(e, r >= 0);
	return r;
}

int redis_lookup(struct engine *base, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name, struct entry *ret)
{
	struct redis_engine *e = redis_of(base);
	struct redis_asked a = { 0 };
	int r;

	if (op && op->fresh)
		return INNER(e, lookup, op, parent, name, ret);
	r = cached_lookup(e, parent, name, ret, &a);
	if (r >= 0)
		return r ? 0 : -ENOENT;
	r = INNER(e, lookup, op, parent, name, ret);
	if (r == 0)
		fill(e, &a, parent, name, ret, &ret->node);
	else if (r == -ENOENT)
		fill(e, &a, parent, name, NULL, NULL);
	return r;
}

/* --- list --- */

/* Everything in the page from `from` on is as new as it must be. */
static bool judge_page(struct redis_engine *e, const struct redis_request *q, mfs_ino_t dir, uint64_t stamp,
		       const struct node_list *l, size_t from)
{
	struct floors *f = e->floors;
	bool ok;
	MFS_GUARD(&f->lock);

	ok = floors_judge_locked(f, &q->view, floors_pages(dir), stamp, FLOORS_STAMP, 0);
	for (size_t i = from; ok && i < l->n; i++) {
		const struct node *n = &l->v[i];

		ok = floors_judge_locked(f, &q->view, floors_record(n->attr.ino), stamp, FLOORS_AT_LEAST, n->attr.ver) &&
		     (n->pos == n->attr.ino ||
		      floors_judge_locked(f, &q->view, floors_record(n->pos), stamp, FLOORS_STAMP, 0));
	}
	e->old += !ok;
	return ok;
}

static bool use_page(struct redis_engine *e, struct redis_request *q, const char *key, const redisReply *part, mfs_ino_t dir,
		     size_t limit, struct node_list *ret, struct redis_asked *a)
{
	size_t before = ret->n;
	struct redis_value v;

	if (!redis_open_value(e, q, key, part, &v, &a->force[0]) || v.head.kind != VALUE_PAGE ||
	    value_get_page(v.payload, v.len, dir, ret) < 0)
		return false;
	if (ret->n - before <= limit && judge_page(e, q, dir, v.head.stamp, ret, before))
		return true;
	while (ret->n > before)
		node_release(&ret->v[--ret->n]);
	return false;
}

/* The key that a page is sealed with: the hash's, and the field. */
static void page_names(char *key, char *sealed, char field[static 48], const char *prefix, mfs_ino_t dir, uint64_t after,
		       size_t limit)
{
	snprintf(field, 48, "%" PRIx64 ":%zx", after, limit);
	redis_key_pages(key, prefix, dir);
	snprintf(sealed, REDIS_KEY_MAX + 48, "%s#%s", key, field);
}

static bool cached_list(struct redis_engine *e, mfs_ino_t dir, uint64_t after, size_t limit, struct node_list *ret,
			struct redis_asked *a)
{
	char key[REDIS_KEY_MAX], sealed[REDIS_KEY_MAX + 48], field[48];
	redisReply *reply = NULL;
	struct redis_request q;
	bool hit = false;

	if (!redis_ask(e, &q))
		return false;
	page_names(key, sealed, field, q.prefix, dir, after, limit);
	if (redis_get_page(e, &q, key, field, &reply)) {
		hit = use_page(e, &q, sealed, reply->element[2], dir, limit, ret, a);
		a->view = q.view;
		freeReplyObject(reply);
	}
	redis_end(e, &q);
	redis_count(e, hit);
	return hit;
}

static void fill_list(struct redis_engine *e, const struct redis_asked *a, mfs_ino_t dir, uint64_t after, size_t limit,
		      const struct node *v, size_t n)
{
	const struct value_head h = { .kind = VALUE_PAGE, .stamp = a->view.t };
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(REDIS_PAGE_MAX);
	char key[REDIS_KEY_MAX], sealed[REDIS_KEY_MAX + 48], field[48];
	struct redis_request q;

	if (a->view.t == 0)
		return;
	value_put_head(&b, &h);
	if (value_put_page(&b, v, n) < 0 || !redis_begin_fill(e, a, &q))
		return;
	page_names(key, sealed, field, q.prefix, dir, after, limit);
	redis_fill_page(e, a, &q, key, sealed, field, REDIS_PAGES, &b);
	redis_end(e, &q);
}

int redis_list(struct engine *base, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
	       struct node_list *ret)
{
	struct redis_engine *e = redis_of(base);
	struct redis_asked a = { 0 };
	size_t before = ret->n;
	int r;

	if (op && op->fresh)
		return INNER(e, list, op, parent, after, limit, ret);
	if (cached_list(e, parent, after, limit, ret, &a))
		return 0;
	r = INNER(e, list, op, parent, after, limit, ret);
	if (r == 0)
		fill_list(e, &a, parent, after, limit, ret->v + before, ret->n - before);
	return r;
}
