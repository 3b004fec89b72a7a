/*
 * News of the change stream's events (mongo_watch.c).
 */
#include "meta/mongo_watch_internal.h"

#include <string.h>

#include "meta/mongo_apply_internal.h"
#include "meta/record_stream.h"
#include "meta/tags.h"

enum event_kind { EVENT_OTHER, EVENT_INSERT, EVENT_UPDATE, EVENT_REPLACE, EVENT_DELETE, EVENT_BREAK };

/* What an event says; all borrowed from the reply. */
struct event {
	bson_t bson;
	enum event_kind kind;
	const char *collection;
	uint64_t id;	     /* of its document, where that is a number */
	const char *text_id; /* where it is a string */
	bson_t full;	     /* has_full: the document (of an update: as it is now) */
	bson_t updated;	     /* has_updated: the fields that an update set */
	bool has_full, has_updated, has_removed;
	bool in_txn;
	int64_t txn;
	const uint8_t *lsid;
	uint32_t lsid_len;
	uint64_t session; /* whose change it is; 0: it does not say */
};

static bool find(const bson_t *doc, const char *path, bson_iter_t *ret)
{
	bson_iter_t it;

	return bson_iter_init(&it, doc) && bson_iter_find_descendant(&it, path, ret);
}

static bool find_document(const bson_t *doc, const char *path, bson_t *ret)
{
	const uint8_t *p = NULL;
	uint32_t len = 0;
	bson_iter_t it;

	if (!find(doc, path, &it) || !BSON_ITER_HOLDS_DOCUMENT(&it))
		return false;
	bson_iter_document(&it, &len, &p);
	return bson_init_static(ret, p, len);
}

static const char *find_text(const bson_t *doc, const char *path)
{
	bson_iter_t it;

	return find(doc, path, &it) && BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : NULL;
}

static uint64_t number(const bson_t *doc, const char *field)
{
	bson_iter_t it;

	return bson_iter_init_find(&it, doc, field) ? (uint64_t)bson_iter_as_int64(&it) : 0;
}

static uint64_t session_of_op(bson_iter_t *it)
{
	struct op_id id;

	return mongo_op_take(it, &id) ? id.session : 0;
}

static uint64_t last_of_ring(const bson_t *doc)
{
	struct op_ring ring;

	mongo_ring_parse(doc, &ring);
	return ring.n ? ring.v[ring.n - 1].session : 0;
}

/* Who made an update: the last of the ids that came into the ring, as a whole array or element by element. */
static uint64_t updater(const bson_t *updated)
{
	uint64_t session = last_of_ring(updated);
	long last = -1;
	bson_iter_t it;

	if (session || !bson_iter_init(&it, updated))
		return session;
	while (bson_iter_next(&it)) {
		const char *key = bson_iter_key(&it);

		if (strcmp(key, "touch") == 0 && last < 0) {
			session = session_of_op(&it);
		} else if (strcmp(key, "by") == 0 && BSON_ITER_HOLDS_INT(&it)) {
			session = (uint64_t)bson_iter_as_int64(&it);
		} else if (strncmp(key, "ops.", 4) == 0) {
			long n = strtol(key + 4, NULL, 10);

			if (n > last) {
				last = n;
				session = session_of_op(&it);
			}
		}
	}
	return session;
}

static enum event_kind kind_of(const char *type)
{
	static const struct {
		const char *name;
		enum event_kind kind;
	} kinds[] = { { "insert", EVENT_INSERT },   { "update", EVENT_UPDATE }, { "replace", EVENT_REPLACE },
		      { "delete", EVENT_DELETE },   { "drop", EVENT_BREAK },	{ "dropDatabase", EVENT_BREAK },
		      { "rename", EVENT_BREAK },    { "invalidate", EVENT_BREAK } };

	for (size_t i = 0; type && i < MFS_ARRAY_LEN(kinds); i++)
		if (strcmp(type, kinds[i].name) == 0)
			return kinds[i].kind;
	return EVENT_OTHER;
}

static void parse_txn(struct event *e)
{
	bson_iter_t it;
	bson_t lsid;

	if (!find(&e->bson, "txnNumber", &it) || !find_document(&e->bson, "lsid", &lsid))
		return;
	e->in_txn = true;
	e->txn = bson_iter_as_int64(&it);
	e->lsid = bson_get_data(&lsid);
	e->lsid_len = lsid.len;
}

static void parse_session(struct event *e)
{
	struct op_id id;
	bson_iter_t it;

	if (strcmp(e->collection, MONGO_OPS) == 0 && find(&e->bson, "documentKey._id", &it)) {
		e->session = mongo_op_take(&it, &id) ? id.session : 0;
		return;
	}
	if (e->has_updated)
		e->session = updater(&e->updated);
	else if (e->has_full)
		e->session = last_of_ring(&e->full) ?: number(&e->full, "by");
}

static bool parse(bson_iter_t *at, struct event *e)
{
	const uint8_t *p = NULL;
	uint32_t len = 0;
	bson_iter_t it;

	*e = (struct event){ .kind = EVENT_OTHER };
	if (!BSON_ITER_HOLDS_DOCUMENT(at))
		return false;
	bson_iter_document(at, &len, &p);
	if (!bson_init_static(&e->bson, p, len))
		return false;
	e->kind = kind_of(find_text(&e->bson, "operationType"));
	e->collection = find_text(&e->bson, "ns.coll") ?: "";
	if (find(&e->bson, "documentKey._id", &it)) {
		e->id = BSON_ITER_HOLDS_INT(&it) ? (uint64_t)bson_iter_as_int64(&it) : 0;
		e->text_id = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, NULL) : NULL;
	}
	e->has_full = find_document(&e->bson, "fullDocument", &e->full);
	e->has_updated = find_document(&e->bson, "updateDescription.updatedFields", &e->updated);
	if (find(&e->bson, "updateDescription.removedFields", &it)) {
		bson_iter_t sub;

		e->has_removed = BSON_ITER_HOLDS_ARRAY(&it) && bson_iter_recurse(&it, &sub) && bson_iter_next(&sub);
	}
	parse_txn(e);
	parse_session(e);
	return true;
}

static bool same_txn(const struct event *a, const struct event *b)
{
	return a->in_txn && b->in_txn && a->txn == b->txn && a->lsid_len == b->lsid_len &&
	       memcmp(a->lsid, b->lsid, a->lsid_len) == 0;
}

/* --- one event --- */

static void tell_gone(struct mongo_engine *m, const struct event *e)
{
	mongo_watch_tell(m, &(struct news){ .kind = NEWS_GONE, .ino = e->id, .session = e->session });
}

/* A counter as the event has it, else as it is now. */
static uint64_t counter(const struct event *e, const char *field)
{
	bson_iter_t it;

	if (e->has_updated && bson_iter_init_find(&it, &e->updated, field))
		return (uint64_t)bson_iter_as_int64(&it);
	return e->has_full ? number(&e->full, field) : 0;
}

/*
 * Did the event set tags, and which? An update says it itself (the document is looked up later, and may have lost one again);
 * an update of single elements, as other programs make it, may mean any.
 */
static bool set_tags(const struct event *e, struct tag_set *ret)
{
	bson_iter_t it;

	if (e->kind != EVENT_UPDATE) {
		if (e->has_full && bson_iter_init_find(&it, &e->full, "tags"))
			mongo_take_tags(&it, ret);
		ret->all |= !e->has_full;
		return true;
	}
	ret->all = !e->has_updated || !bson_iter_init(&it, &e->updated);
	if (ret->all)
		return true;
	while (bson_iter_next(&it)) {
		if (strcmp(bson_iter_key(&it), "tags") == 0) {
			mongo_take_tags(&it, ret);
			return true;
		}
		if (strncmp(bson_iter_key(&it), "tags.", 5) == 0) {
			ret->all = true;
			return true;
		}
	}
	return false;
}

static void tell_file(struct mongo_engine *m, const struct event *e)
{
	struct news n = { .kind = NEWS_RECORD, .ino = e->id, .session = e->session };
	struct tag_set tags = { .n = 0 };
	struct mongo_doc d = { .bson = &e->full, .collection = MONGO_FILES };
	struct mfs_name name;

	if (e->kind == EVENT_DELETE) {
		tell_gone(m, e);
		return;
	}
	n.ver = counter(e, "ver");
	n.data = counter(e, "data");
	n.lay = counter(e, "lay");
	if (e->has_full) {
		n.parent = number(&e->full, "parent");
		n.target = number(&e->full, "target");
		n.kind = n.target ? NEWS_ALIAS : NEWS_RECORD;
	}
	if (n.kind == NEWS_RECORD && set_tags(e, &tags))
		n.tags = &tags;
	if (n.parent) {
		mongo_doc_name(&d, "name", &name);
		n.name = &name;
		if (d.bad)
			n = (struct news){ .kind = NEWS_LOST };
	}
	mongo_watch_tell(m, &n);
}

/* Did the update set nothing but the heartbeat? */
static bool is_heartbeat(const struct event *e)
{
	bson_iter_t it;

	if (e->kind != EVENT_UPDATE || !e->has_updated || e->has_removed || !bson_iter_init(&it, &e->updated))
		return false;
	while (bson_iter_next(&it))
		if (strcmp(bson_iter_key(&it), "heartbeat") != 0)
			return false;
	return true;
}

/* What is beside the files is named by its _id: a number, or a document of fields. False: it is none of these. */
static bool tell_side(struct mongo_engine *m, const struct event *e)
{
	static const struct {
		const char *collection, *id, *more;
		enum record_kind kind;
	} sides[] = {
		{ MONGO_TRASH, "documentKey._id", NULL, RECORD_NODE },
		{ MONGO_DROPPED, "documentKey._id", NULL, RECORD_DROPPED },
		{ MONGO_VERSIONS, "documentKey._id.ino", "documentKey._id.data", RECORD_VERSION },
		{ MONGO_SLICES, "documentKey._id.ino", "documentKey._id.id", RECORD_SLICES },
		{ MONGO_JOBS, "documentKey._id.kind", "documentKey._id.ino", RECORD_JOB },
	};
	struct record_key key = { .kind = RECORD_HEADER };
	MFS_AUTOFREE char *text = NULL;
	const void *p = NULL;
	bson_iter_t it;
	size_t len = 0;

	for (size_t i = 0; i < MFS_ARRAY_LEN(sides); i++) {
		if (strcmp(sides[i].collection, e->collection) != 0)
			continue;
		key.kind = sides[i].kind;
		key.id = find(&e->bson, sides[i].id, &it) ? (uint64_t)bson_iter_as_int64(&it) : 0;
		if (sides[i].more && find(&e->bson, sides[i].more, &it))
			key.more = (uint64_t)bson_iter_as_int64(&it);
	}
	if (key.kind == RECORD_HEADER)
		return false;
	if (key.kind == RECORD_JOB && find(&e->bson, "documentKey._id.key", &it) && mongo_iter_bytes(&it, &p, &len) && len) {
		key.key = text = strndup(p, len);
		if (!text) {
			mongo_watch_tell(m, &(struct news){ .kind = NEWS_LOST });
			return true;
		}
	}
	mongo_watch_tell(m, &(struct news){ .kind = NEWS_SIDE, .side = &key, .session = e->session });
	return true;
}

static void tell_event(struct mongo_engine *m, const struct event *e)
{
	if (e->kind == EVENT_BREAK) {
		mongo_watch_tell(m, &(struct news){ .kind = NEWS_LOST });
	} else if (e->kind == EVENT_OTHER) {
		return;
	} else if (strcmp(e->collection, MONGO_FILES) == 0) {
		if (e->id)
			tell_file(m, e);
	} else if (strcmp(e->collection, MONGO_BEATS) == 0) {
		mongo_watch_beat(m, e->id, counter(e, "n"));
	} else if (strcmp(e->collection, MONGO_SESSIONS) == 0) {
		if (e->id && !is_heartbeat(e))
			mongo_watch_tell(m, &(struct news){ .kind = NEWS_SESSION, .ino = e->id });
	} else if (!tell_side(m, e) && e->text_id) {
		mongo_watch_tell(m, &(struct news){ .kind = NEWS_CELL,
						    .cell = e->text_id,
						    .session = e->session,
						    .ver = e->kind == EVENT_DELETE ? 0 : counter(e, "token") });
	}
}

/* --- a batch --- */

/* The rest of the transaction from `it` on, for what e does not say itself. true: e is the first half of a rename. */
static bool look_ahead(const bson_iter_t *from, struct event *e)
{
	bool deleted = e->kind == EVENT_DELETE && strcmp(e->collection, MONGO_FILES) == 0;
	bson_iter_t it = *from;
	struct event o;

	while (bson_iter_next(&it) && parse(&it, &o) && same_txn(e, &o)) {
		if (!e->session)
			e->session = o.session;
		if (deleted && o.kind == EVENT_INSERT && o.id == e->id && strcmp(o.collection, MONGO_FILES) == 0)
			return true;
		if (!deleted && e->session)
			return false;
	}
	return false;
}

void mongo_watch_batch(struct mongo_engine *m, const bson_t *reply, const char *field)
{
	struct event e, before = { .kind = EVENT_OTHER };
	bson_iter_t it, at;

	if (!find(reply, field, &it) || !BSON_ITER_HOLDS_ARRAY(&it) || !bson_iter_recurse(&it, &at))
		return;
	while (bson_iter_next(&at)) {
		if (!parse(&at, &e))
			continue;
		if (!e.session && same_txn(&e, &before))
			e.session = before.session;
		if (!e.in_txn || !look_ahead(&at, &e))
			tell_event(m, &e);
		mongo_watch_event_token(m, &e.bson);
		before = e;
	}
}
