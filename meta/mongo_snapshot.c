/*
 * A snapshot of the index: an engine whose reads all see one moment.
 *
 * MongoDB 5.0 and newer reads at a moment of the past outside of transactions, for as long as the server keeps its history (5
 * minutes by default). Not every server that says it does so does: so it is tried out. Without it the reads are made in one
 * transaction, which the server ends after a minute by default; a dump that takes longer fails, and says so.
 */
#include <errno.h>

#include "common/clock.h"
#include "meta/mongo_internal.h"

/* The document that the test writes, of `volume`. */
static bson_t *probe_filter(void)
{
	return BCON_NEW("_id", "probe");
}

static int probe_write(struct mongo_conn *c)
{
	bson_t *cmd = BCON_NEW("update", MONGO_VOLUME, "updates", "[", "{", "q", "{", "_id", "probe", "}", "u", "{", "$inc", "{",
			       "n", BCON_INT64(1), "}", "}", "upsert", BCON_BOOL(true), "}", "]");
	bson_t reply;
	int r = mongo_run(c, MONGO_WRITE | MONGO_AGAIN | MONGO_QUIET, cmd, &reply);

	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

/* The document at a moment: *at 0: now, and which moment that is. -EOPNOTSUPP: the server tells none. */
static int probe_read(struct mongo_conn *c, uint64_t *at, int64_t *ret_n)
{
	bson_t cmd = BSON_INITIALIZER, *filter = probe_filter(), concern, reply;
	struct mongo_doc d = { .bson = &reply, .collection = "the reply of find" };
	bson_iter_t it, found;
	int r;

	BSON_APPEND_UTF8(&cmd, "find", MONGO_VOLUME);
	BSON_APPEND_DOCUMENT(&cmd, "filter", filter);
	BSON_APPEND_INT32(&cmd, "limit", 1);
	BSON_APPEND_BOOL(&cmd, "singleBatch", true);
	BSON_APPEND_DOCUMENT_BEGIN(&cmd, "readConcern", &concern);
	BSON_APPEND_UTF8(&concern, "level", "snapshot");
	if (*at)
		BSON_APPEND_TIMESTAMP(&concern, "atClusterTime", (uint32_t)(*at >> 32), (uint32_t)*at);
	bson_append_document_end(&cmd, &concern);
	r = mongo_run(c, MONGO_ADMIN_READ | MONGO_QUIET, &cmd, &reply);
	if (r == 0 && bson_iter_init(&it, &reply) && bson_iter_find_descendant(&it, "cursor.atClusterTime", &found) &&
	    BSON_ITER_HOLDS_TIMESTAMP(&found)) {
		uint32_t seconds, increment;

		bson_iter_timestamp(&found, &seconds, &increment);
		*at = (uint64_t)seconds << 32 | increment;
		*ret_n = mongo_doc_i64(&d, "cursor.firstBatch.0.n", -1);
	} else if (r == 0 || r == -EIO) {
		r = -EOPNOTSUPP;
	}
	bson_destroy(&reply);
	bson_destroy(filter);
	bson_destroy(&cmd);
	return r;
}

/* Does the server still give what it gave before, after a change? 0, -EOPNOTSUPP. */
static int try_out(struct mongo_conn *c)
{
	int64_t before = 0, again = 0;
	uint64_t at = 0;
	int r = probe_write(c);

	if (r == 0)
		r = probe_read(c, &at, &before);
	if (r == 0)
		r = probe_write(c);
	if (r == 0)
		r = probe_read(c, &at, &again);
	return r < 0 ? r : before == again && before > 0 ? 0 : -EOPNOTSUPP;
}

static int begin(struct mongo_conn *c, bool transaction, mongoc_client_session_t **ret)
{
	mongoc_session_opt_t *opts = mongoc_session_opts_new();
	mongoc_transaction_opt_t *txn = mongoc_transaction_opts_new();
	mongoc_read_concern_t *rc = mongoc_read_concern_new();
	mongoc_client_session_t *s;
	bson_error_t err;
	int r = 0;

	mongoc_session_opts_set_causal_consistency(opts, false);
	mongoc_session_opts_set_snapshot(opts, !transaction);
	mongoc_read_concern_set_level(rc, MONGOC_READ_CONCERN_LEVEL_SNAPSHOT);
	mongoc_transaction_opts_set_read_concern(txn, rc);
	s = mongoc_client_start_session(c->client, opts, &err);
	if (!s || (transaction && !mongoc_client_session_start_transaction(s, txn, &err)))
		r = mongo_error(c, MONGO_READ, &err, NULL);
	mongoc_read_concern_destroy(rc);
	mongoc_transaction_opts_destroy(txn);
	mongoc_session_opts_destroy(opts);
	if (r < 0 && s)
		mongoc_client_session_destroy(s);
	else
		*ret = s;
	return r;
}

int mongo_snapshot(struct mongo_engine *m, struct op_ctx *op, struct engine **ret)
{
	struct mongo_engine *s;
	struct mongo_conn *c = NULL;
	struct volume_record v;
	int r;

	if (m->own)
		return -EOPNOTSUPP;
	r = mongo_conn_get(m, op, &c);
	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	r = m->readonly ? -EOPNOTSUPP : try_out(c); /* who only reads can't try */
	if (r == 0 || r == -EOPNOTSUPP)
		r = s ? begin(c, r < 0, &s->snapshot) : -ENOMEM;
	if (r < 0) {
		free(s);
		mongo_conn_put(c);
		return r;
	}
	s->base.ops = m->base.ops;
	s->parent = m;
	s->database = m->database;
	s->where = m->where;
	s->deadline_ns = m->deadline_ns;
	s->pool = m->pool;
	s->readonly = true;
	pthread_mutex_init(&s->own_lock.m, NULL);
	s->own = c;
	/* The first read fixes the moment. */
	r = engine_volume_get(&s->base, op, &v);
	if (r < 0)
		mongo_snapshot_free(s);
	else
		*ret = &s->base;
	return r;
}

void mongo_snapshot_free(struct mongo_engine *s)
{
	struct mongo_conn *c = s->own;

	if (mongoc_client_session_in_transaction(s->snapshot)) {
		c->until = mfs_mono_ns() + MFS_NSEC_PER_SEC;
		(void)mongoc_client_session_abort_transaction(s->snapshot, NULL);
	}
	mongoc_client_session_destroy(s->snapshot);
	c->m = s->parent;
	mongo_conn_put(c);
	pthread_mutex_destroy(&s->own_lock.m);
	free(s);
}
