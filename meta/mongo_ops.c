/*
 * Exactly once (rule M2): who asks for the outcome of a change finds its id in the ring `ops` of a record that it wrote,
 * in files or trash; and for records that were deleted for good in the collection `ops`, which has
 *
 *   {_id: Binary id, at}          a change that deleted a record
 *   {_id: int64 ino, ops, at}     a deleted record's ring, as it was
 *
 * for an hour. Changes of side records alone have no memory: done twice they are done once, and a cell tells by its token.
 *
 * A record whose ring has not the id was not changed by it, if the ring reaches back to before the first attempt: it is not
 * full; or `ver`, which the change expected, has not risen by more than the ring is long; or an own change is in it that had
 * ended before this one began. Else nobody can tell, and the answer is EIO.
 */
#include "meta/mongo_apply_internal.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"

/* Without the beginning of a change on record (sent by a layer that then asked again): none that far back is under way. */
#define FLIGHTS_MAX 4096

void mongo_op_put(bson_t *b, const char *key, const struct op_id *id)
{
	uint64_t raw[2] = { htobe64(id->session), htobe64(id->number) };

	BSON_APPEND_BINARY(b, key, BSON_SUBTYPE_BINARY, (const uint8_t *)raw, sizeof(raw));
}

bool mongo_op_take(bson_iter_t *it, struct op_id *ret)
{
	bson_subtype_t subtype;
	const uint8_t *p = NULL;
	uint64_t raw[2];
	uint32_t len = 0;

	if (!BSON_ITER_HOLDS_BINARY(it))
		return false;
	bson_iter_binary(it, &subtype, &len, &p);
	if (len != sizeof(raw))
		return false;
	memcpy(raw, p, sizeof(raw));
	*ret = (struct op_id){ .session = be64toh(raw[0]), .number = be64toh(raw[1]) };
	return true;
}

void mongo_ring_parse(const bson_t *doc, struct op_ring *ret)
{
	bson_iter_t it, at;
	struct op_id id;

	ret->n = 0;
	if (!bson_iter_init_find(&it, doc, "ops") || !BSON_ITER_HOLDS_ARRAY(&it) || !bson_iter_recurse(&it, &at))
		return;
	while (bson_iter_next(&at))
		if (mongo_op_take(&at, &id))
			mongo_ring_add(ret, &id);
}

bool mongo_ring_has(const struct op_ring *r, const struct op_id *id)
{
	for (unsigned int i = 0; i < r->n; i++)
		if (r->v[i].session == id->session && r->v[i].number == id->number)
			return true;
	return false;
}

void mongo_ring_add(struct op_ring *r, const struct op_id *id)
{
	if (r->n && r->v[r->n - 1].session == id->session && r->v[r->n - 1].number == id->number)
		return;
	if (r->n == MONGO_RING)
		memmove(r->v, r->v + 1, --r->n * sizeof(*r->v));
	r->v[r->n++] = *id;
}

void mongo_ring_put(const struct op_ring *r, bson_t *doc)
{
	bson_t ops;

	if (r->n == 0)
		return;
	BSON_APPEND_ARRAY_BEGIN(doc, "ops", &ops);
	for (unsigned int i = 0; i < r->n; i++) {
		const char *key;
		char buf[16];

		bson_uint32_to_string(i, &key, buf, sizeof(buf));
		mongo_op_put(&ops, key, &r->v[i]);
	}
	bson_append_array_end(doc, &ops);
}

void mongo_ring_push(const struct op_id *id, bson_t *update)
{
	bson_t push, ops, each;

	BSON_APPEND_DOCUMENT_BEGIN(update, "$push", &push);
	BSON_APPEND_DOCUMENT_BEGIN(&push, "ops", &ops);
	BSON_APPEND_ARRAY_BEGIN(&ops, "$each", &each);
	mongo_op_put(&each, "0", id);
	bson_append_array_end(&ops, &each);
	BSON_APPEND_INT32(&ops, "$slice", -MONGO_RING);
	bson_append_document_end(&push, &ops);
	bson_append_document_end(update, &push);
}

bool mongo_write_rings(const struct write *w)
{
	if (w->kind > WRITE_PURGE)
		return false;
	return w->kind != WRITE_EDIT || !(w->mask & EDIT_NO_BUMP_VER) || w->nlink_delta ||
	       (w->mask & (EDIT_BUMP_DATA | EDIT_BUMP_LAY));
}

/* --- changes under way --- */

int mongo_flight_begin(struct applying *a)
{
	struct mongo_apply *s = a->m->apply;
	const struct change *c = a->ch;
	MFS_GUARD(&s->lock);

	if (!change_has_id(c))
		return 0;
	/* It is here again, after an attempt of which nothing is known. */
	if (c->retry)
		a->floor = c->id.number > FLIGHTS_MAX ? c->id.number - FLIGHTS_MAX : 0;
	else
		a->floor = c->id.number;
	for (size_t i = 0; i < s->n_flights; i++)
		a->floor = MFS_MIN(a->floor, s->flights[i]);
	if (s->n_flights == s->cap_flights) {
		size_t cap = s->cap_flights ? s->cap_flights * 2 : 64;
		uint64_t *v = reallocarray(s->flights, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->flights = v;
		s->cap_flights = cap;
	}
	s->flights[s->n_flights++] = c->id.number;
	return 0;
}

void mongo_flight_end(struct applying *a)
{
	struct mongo_apply *s = a->m->apply;
	MFS_GUARD(&s->lock);

	if (!change_has_id(a->ch))
		return;
	for (size_t i = 0; i < s->n_flights; i++)
		if (s->flights[i] == a->ch->id.number) {
			s->flights[i] = s->flights[--s->n_flights];
			return;
		}
}

/* --- looking --- */

struct look_rec {
	const struct write *w;
	bool there, gone; /* in files or trash; only its ring is left */
	uint64_t ver;
	struct op_ring ring;
};

struct look {
	struct applying *a;
	struct look_rec recs[CHANGE_MAX_WRITES];
	unsigned int n;
	bool noted; /* the id itself is in `ops` */
};

static int take_record(struct look *l, const bson_t *doc, bool gone)
{
	bson_iter_t it;
	mfs_ino_t ino;

	if (!bson_iter_init_find(&it, doc, "_id") || !BSON_ITER_HOLDS_INT(&it))
		return 0;
	ino = (mfs_ino_t)bson_iter_as_int64(&it);
	for (unsigned int i = 0; i < l->n; i++) {
		struct look_rec *r = &l->recs[i];

		if (r->w->ino != ino || (gone && r->there))
			continue;
		r->there = !gone;
		r->gone = gone;
		r->ver = bson_iter_init_find(&it, doc, "ver") ? (uint64_t)bson_iter_as_int64(&it) : 0;
		mongo_ring_parse(doc, &r->ring);
	}
	return 0;
}

static int take_live(void *arg, const bson_t *doc)
{
	return doc ? take_record(arg, doc, false) : 0;
}

static int take_noted(void *arg, const bson_t *doc)
{
	struct look *l = arg;
	struct op_id id;
	bson_iter_t it;

	if (!doc)
		return 0;
	if (bson_iter_init_find(&it, doc, "_id") && mongo_op_take(&it, &id)) {
		l->noted = true;
		return 0;
	}
	return take_record(l, doc, true);
}

/* {_id: {$in: [the records, with_id: and the change]}} */
static void put_ids(const struct look *l, bool with_id, bson_t *filter)
{
	bson_t id, in;
	const char *key;
	char buf[16];
	uint32_t n = 0;

	BSON_APPEND_DOCUMENT_BEGIN(filter, "_id", &id);
	BSON_APPEND_ARRAY_BEGIN(&id, "$in", &in);
	for (; n < l->n; n++) {
		bson_uint32_to_string(n, &key, buf, sizeof(buf));
		BSON_APPEND_INT64(&in, key, (int64_t)l->recs[n].w->ino);
	}
	if (with_id) {
		bson_uint32_to_string(n, &key, buf, sizeof(buf));
		mongo_op_put(&in, key, &l->a->ch->id);
	}
	bson_append_array_end(&id, &in);
	bson_append_document_end(filter, &id);
}

static int read_where(struct look *l, const char *collection)
{
	bool ops = strcmp(collection, MONGO_OPS) == 0;
	AUTO_BSON bson_t filter = BSON_INITIALIZER;
	AUTO_BSON bson_t opts = BSON_INITIALIZER;
	bson_t projection;

	put_ids(l, ops, &filter);
	BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &projection);
	BSON_APPEND_INT32(&projection, "ops", 1);
	BSON_APPEND_INT32(&projection, "ver", 1);
	bson_append_document_end(&opts, &projection);
	return mongo_find(l->a->c, MONGO_READ, collection, &filter, &opts, ops ? take_noted : take_live, l);
}

/* Files, trash, files: what moves from one to the other meanwhile is met. */
static int read_all(struct look *l)
{
	int r = read_where(l, MONGO_FILES);

	if (r == 0)
		r = read_where(l, MONGO_TRASH);
	if (r == 0)
		r = read_where(l, MONGO_FILES);
	return r < 0 ? r : read_where(l, MONGO_OPS);
}

/* Is everything in the ring that happened to the record since the first attempt? */
static bool reaches_back(const struct applying *a, const struct look_rec *r)
{
	const struct expect *x = &r->w->expect;

	if (r->ring.n < MONGO_RING)
		return true;
	if ((x->flags & EXPECT_VER) && r->there && r->ver >= x->ver && r->ver - x->ver <= MONGO_RING)
		return true;
	for (unsigned int i = 0; i < r->ring.n; i++)
		if (r->ring.v[i].session == a->ch->id.session && r->ring.v[i].number < a->floor)
			return true;
	return false;
}

/* Does this record show that the change was not applied? */
static bool denies(const struct applying *a, const struct look_rec *r)
{
	switch (r->w->kind) {
	case WRITE_DELETE:
	case WRITE_PURGE:
		return true; /* else the id would be in `ops` */
	default:
		return !(r->there || r->gone) || reaches_back(a, r);
	}
}

int mongo_ops_look(struct applying *a)
{
	const struct change *c = a->ch;
	struct look l = { .a = a };
	int r;

	for (unsigned int i = 0; i < c->n_writes; i++)
		if (mongo_write_rings(&c->writes[i]))
			l.recs[l.n++].w = &c->writes[i];
	if (l.n == 0 || !change_has_id(c))
		return 0;
	r = read_all(&l);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < l.n && !l.noted; i++)
		l.noted = mongo_ring_has(&l.recs[i].ring, &c->id);
	if (l.noted) {
		r = mongo_ops_barrier(a->c);
		return r < 0 ? r : 1;
	}
	for (unsigned int i = 0; i < l.n; i++)
		if (denies(a, &l.recs[i]))
			return 0;
	mfs_log(MFS_LOG_META, MFS_LOG_ERR, a->c->op,
		"mongodb %s ino=%" PRIu64 " session=%" PRIx64 " change=%" PRIu64
		": the reply was lost, and the record was changed so often since that nobody can tell whether it was applied; "
		"the answer is EIO",
		a->m->where, l.recs[0].w->ino, c->id.session, c->id.number);
	return -EIO;
}

static int insert_noted(struct mongo_batch *b, bson_t *doc)
{
	bson_append_now_utc(doc, "at", -1);
	return mongo_batch_add(b, BATCH_INSERT, false, doc);
}

int mongo_ops_note(struct applying *a, const struct mongo_gone *gone, unsigned int n)
{
	struct mongo_batch b = { .c = a->c, .flags = MONGO_WRITE | MONGO_IN_TXN, .collection = MONGO_OPS };
	int r = 0;

	/* A record can be purged, brought back by a tool and purged again within the hour. */
	for (unsigned int i = 0; r == 0 && i < n; i++) {
		AUTO_BSON bson_t item = BSON_INITIALIZER;
		bson_t q, u;

		BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &q);
		mongo_id_put(gone[i].ino, &q);
		bson_append_document_end(&item, &q);
		BSON_APPEND_DOCUMENT_BEGIN(&item, "u", &u);
		mongo_ring_put(&gone[i].ring, &u);
		bson_append_now_utc(&u, "at", -1);
		bson_append_document_end(&item, &u);
		BSON_APPEND_BOOL(&item, "upsert", true);
		if (gone[i].ring.n)
			r = mongo_batch_add(&b, BATCH_UPDATE, false, &item);
	}
	/* One command for all where only the id is new. */
	if (r == 0 && change_has_id(a->ch)) {
		AUTO_BSON bson_t item = BSON_INITIALIZER;
		bson_t q, u;

		BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &q);
		mongo_op_put(&q, "_id", &a->ch->id);
		bson_append_document_end(&item, &q);
		BSON_APPEND_DOCUMENT_BEGIN(&item, "u", &u);
		bson_append_now_utc(&u, "at", -1);
		bson_append_document_end(&item, &u);
		BSON_APPEND_BOOL(&item, "upsert", true);
		r = mongo_batch_add(&b, BATCH_UPDATE, false, &item);
	}
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	return r;
}

int mongo_ops_barrier(struct mongo_conn *c)
{
	struct mongo_batch b = { .c = c, .flags = MONGO_WRITE | MONGO_AGAIN, .collection = MONGO_OPS };
	AUTO_BSON bson_t doc = BSON_INITIALIZER;
	bson_oid_t id;
	int r;

	bson_oid_init(&id, NULL);
	BSON_APPEND_OID(&doc, "_id", &id);
	r = insert_noted(&b, &doc);
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	return r == -EEXIST ? 0 : r;
}
