/*
 * News: a change stream over the volume's database, read by a thread on a connection of its own; and the heartbeat through
 * it, written by another, by which it is known until when everything was told.
 *
 * The stream is opened before watch returns, and resumed by its token after any failure: nothing is missed in between, it
 * only comes late (engine_last_beat says so). Where it cannot be resumed, a new one is opened first and NEWS_LOST told then.
 *
 * The cursor is our own, by aggregate and getMore: so a whole batch is at hand when one of its events is looked at. What a
 * transaction did comes as one event a document, together: a deletion and insertion of one record is a rename, told as the
 * insertion alone, and an event that does not say whose it is (a deletion, an alias) has its session from another one of the
 * transaction. Of an update the event itself says whose it is (the id that came into the ring `ops`, or `touch`), never the
 * document, which is looked up later and may have been changed again.
 *
 *   beats {_id: of this watch, n, at}   `at` lets them expire (TTL) when a mount has died
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"
#include "meta/mongo_apply_internal.h"
#include "meta/mongo_watch_internal.h"

#define BEAT_NS	     (200 * INT64_C(1000000)) /* half of what fs/ takes for silence, and room for a slow machine */
#define BEAT_RING    64
#define BEAT_EXPIRES 3600
#define AWAIT_MS     1000
#define CALL_NS	     (4 * MFS_NSEC_PER_SEC)
#define REOPEN_NS    (100 * INT64_C(1000000))

struct mongo_watch {
	struct mfs_mutex lock; /* a leaf; guards the beats */
	pthread_cond_t stopped;
	bool stop; /* changed under lock */
	bool running;
	engine_news_fn fn;
	void *arg;
	pthread_t reader, beater;
	uint64_t id;
	uint64_t n_beat;
	int64_t sent[BEAT_RING]; /* monotonic, of beat n */
	_Atomic int64_t last;	 /* the moment until which all was told */

	/* The reader's alone. */
	struct mongo_conn *c;
	mongoc_client_session_t *session;
	int64_t cursor;
	bson_t token;
	bool has_token;
	bool away; /* logged that it is */
};

int mongo_watch_init(struct mongo_engine *m)
{
	struct mongo_watch *w = calloc(1, sizeof(*w));
	pthread_condattr_t monotonic;

	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock.m, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->stopped, &monotonic);
	pthread_condattr_destroy(&monotonic);
	m->watch = w;
	return 0;
}

static bool is_stopped(struct mongo_watch *w)
{
	MFS_GUARD(&w->lock);

	return w->stop;
}

/* Until the end of the pause, or of the watch. */
static void pause_for(struct mongo_watch *w, int64_t ns)
{
	struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + ns);
	MFS_GUARD(&w->lock);

	while (!w->stop)
		if (pthread_cond_timedwait(&w->stopped, &w->lock.m, &until) == ETIMEDOUT)
			return;
}

static void tell(struct mongo_watch *w, const struct news *n)
{
	w->fn(w->arg, n);
}

/* --- the stream --- */

static void put_pipeline(const struct mongo_watch *w, bson_t *cmd)
{
	static const char *const collections[] = { MONGO_FILES,	   MONGO_TRASH,	 MONGO_OPS,	MONGO_SESSIONS, MONGO_BEATS,
						   MONGO_VERSIONS, MONGO_SLICES, MONGO_DROPPED, MONGO_JOBS,	"locks",
						   "leases",	   "shared",	 "schemas" };
	static const char *const left_out[] = { "inline", "slices", "holes", "xattrs", "blob", "creator", "symlink" };
	bson_t pipeline, stage, s, or, one, in;
	char field[64];

	BSON_APPEND_ARRAY_BEGIN(cmd, "pipeline", &pipeline);
	BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&stage, "$changeStream", &s);
	BSON_APPEND_UTF8(&s, "fullDocument", "updateLookup");
	if (w->has_token)
		BSON_APPEND_DOCUMENT(&s, "resumeAfter", &w->token);
	bson_append_document_end(&stage, &s);
	bson_append_document_end(&pipeline, &stage);
	/* What has no collection: the database was dropped. */
	BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "1", &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &s);
	BSON_APPEND_ARRAY_BEGIN(&s, "$or", &or);
	BSON_APPEND_DOCUMENT_BEGIN(&or, "0", &one);
	BSON_APPEND_DOCUMENT_BEGIN(&one, "ns.coll", &in);
	{
		bson_t list;

		BSON_APPEND_ARRAY_BEGIN(&in, "$in", &list);
		for (uint32_t i = 0; i < MFS_ARRAY_LEN(collections); i++) {
			const char *key;
			char buf[16];

			bson_uint32_to_string(i, &key, buf, sizeof(buf));
			BSON_APPEND_UTF8(&list, key, collections[i]);
		}
		bson_append_array_end(&in, &list);
	}
	bson_append_document_end(&one, &in);
	bson_append_document_end(&or, &one);
	BSON_APPEND_DOCUMENT_BEGIN(&or, "1", &one);
	BSON_APPEND_NULL(&one, "ns.coll");
	bson_append_document_end(&or, &one);
	bson_append_array_end(&s, &or);
	bson_append_document_end(&stage, &s);
	bson_append_document_end(&pipeline, &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "2", &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&stage, "$project", &s);
	for (size_t i = 0; i < MFS_ARRAY_LEN(left_out); i++) {
		snprintf(field, sizeof(field), "fullDocument.%s", left_out[i]);
		BSON_APPEND_INT32(&s, field, 0);
		snprintf(field, sizeof(field), "updateDescription.updatedFields.%s", left_out[i]);
		BSON_APPEND_INT32(&s, field, 0);
	}
	bson_append_document_end(&stage, &s);
	bson_append_document_end(&pipeline, &stage);
	bson_append_array_end(cmd, &pipeline);
}

static void keep_token(struct mongo_watch *w, const bson_t *doc, const char *field)
{
	const uint8_t *p = NULL;
	bson_iter_t it, at;
	uint32_t len = 0;
	bson_t token;

	if (!bson_iter_init(&it, doc) || !bson_iter_find_descendant(&it, field, &at) || !BSON_ITER_HOLDS_DOCUMENT(&at))
		return;
	bson_iter_document(&at, &len, &p);
	if (!bson_init_static(&token, p, len))
		return;
	if (w->has_token)
		bson_destroy(&w->token);
	bson_copy_to(&token, &w->token);
	w->has_token = true;
}

static void forget_token(struct mongo_watch *w)
{
	if (w->has_token)
		bson_destroy(&w->token);
	w->has_token = false;
}

/* A command on the reader's connection, in its session. *reply is initialised always. */
static bool call(struct mongo_watch *w, const bson_t *cmd, bool majority, bson_t *reply, bson_error_t *err)
{
	AUTO_BSON bson_t opts = BSON_INITIALIZER;
	bson_t sub;

	if (majority) {
		BSON_APPEND_DOCUMENT_BEGIN(&opts, "readConcern", &sub);
		BSON_APPEND_UTF8(&sub, "level", "majority");
		bson_append_document_end(&opts, &sub);
	}
	if (!mongoc_client_session_append(w->session, &opts, err)) {
		bson_init(reply);
		return false;
	}
	w->c->until = mfs_mono_ns() + CALL_NS;
	return mongoc_client_command_with_opts(w->c->client, w->c->m->database, cmd, NULL, &opts, reply, err);
}

static void close_stream(struct mongo_watch *w)
{
	if (w->session)
		mongoc_client_session_destroy(w->session);
	w->session = NULL;
	w->cursor = 0;
}

/* Did the server refuse (and not just fail to answer)? */
static bool is_refusal(const bson_error_t *err)
{
	static const uint32_t passing[] = { 6, 7, 50, 89, 91, 189, 262, 9001, 10107, 11600, 11601, 11602, 13435, 13436 };

	if (err->domain != MONGOC_ERROR_SERVER)
		return false;
	for (size_t i = 0; i < MFS_ARRAY_LEN(passing); i++)
		if (err->code == passing[i])
			return false;
	return true;
}

static int open_stream(struct mongo_watch *w, bson_error_t *err)
{
	mongoc_session_opt_t *opts = mongoc_session_opts_new();
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	bson_iter_t it, at;
	bson_t reply, sub;
	bool ok;

	close_stream(w);
	w->c->until = mfs_mono_ns() + CALL_NS;
	mongoc_session_opts_set_causal_consistency(opts, false);
	w->session = mongoc_client_start_session(w->c->client, opts, err);
	mongoc_session_opts_destroy(opts);
	if (!w->session)
		return -EIO;
	BSON_APPEND_INT32(&cmd, "aggregate", 1);
	put_pipeline(w, &cmd);
	BSON_APPEND_DOCUMENT_BEGIN(&cmd, "cursor", &sub);
	bson_append_document_end(&cmd, &sub);
	ok = call(w, &cmd, true, &reply, err);
	if (ok && bson_iter_init(&it, &reply) && bson_iter_find_descendant(&it, "cursor.id", &at))
		w->cursor = bson_iter_as_int64(&at);
	if (ok)
		mongo_watch_batch(w->c->m, &reply, "cursor.firstBatch");
	if (ok)
		keep_token(w, &reply, "cursor.postBatchResumeToken");
	bson_destroy(&reply);
	if (ok && w->cursor)
		return 0;
	close_stream(w);
	return ok || is_refusal(err) ? -EPROTO : -EIO;
}

/* Again, however long it takes. */
static void reopen(struct mongo_watch *w)
{
	bson_error_t err = { 0 };
	bool lost = false;

	while (!is_stopped(w)) {
		int r = open_stream(w, &err);

		if (r == 0)
			break;
		if (!w->away)
			mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL,
				"mongodb %s: the change stream broke (%s); caches are not trusted until it is back", w->c->m->where,
				err.message);
		w->away = true;
		/* It cannot go on where it was (too long ago, another server's): what was missed is not known. */
		if (r == -EPROTO && w->has_token) {
			forget_token(w);
			lost = true;
			continue;
		}
		pause_for(w, REOPEN_NS);
	}
	if (lost)
		tell(w, &(struct news){ .kind = NEWS_LOST });
	if (w->away)
		mfs_log(MFS_LOG_META, MFS_LOG_INFO, NULL, "mongodb %s: the change stream is back%s", w->c->m->where,
			lost ? "; changes were missed, caches are emptied" : ", nothing was missed");
	w->away = false;
}

static void read_more(struct mongo_watch *w)
{
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	bson_iter_t it, at;
	bson_error_t err;
	bson_t reply;
	bool ok;

	BSON_APPEND_INT64(&cmd, "getMore", w->cursor);
	BSON_APPEND_UTF8(&cmd, "collection", "$cmd.aggregate");
	BSON_APPEND_INT64(&cmd, "maxTimeMS", AWAIT_MS);
	ok = call(w, &cmd, false, &reply, &err);
	if (ok) {
		mongo_watch_batch(w->c->m, &reply, "cursor.nextBatch");
		keep_token(w, &reply, "cursor.postBatchResumeToken");
		w->cursor = bson_iter_init(&it, &reply) && bson_iter_find_descendant(&it, "cursor.id", &at) ?
				    bson_iter_as_int64(&at) :
				    0;
	} else {
		mfs_debug(MFS_LOG_META, NULL, "mongodb %s: getMore of the change stream: %s", w->c->m->where, err.message);
	}
	bson_destroy(&reply);
	if (!ok || w->cursor == 0)
		close_stream(w);
}

static void *reader_thread(void *arg)
{
	struct mongo_watch *w = arg;

	while (!is_stopped(w)) {
		if (!w->session)
			reopen(w);
		if (w->session)
			read_more(w);
	}
	return NULL;
}

void mongo_watch_tell(struct mongo_engine *m, const struct news *n)
{
	tell(m->watch, n);
}

void mongo_watch_event_token(struct mongo_engine *m, const bson_t *event)
{
	keep_token(m->watch, event, "_id");
}

/* --- the heartbeat --- */

void mongo_watch_beat(struct mongo_engine *m, uint64_t id, uint64_t n)
{
	struct mongo_watch *w = m->watch;
	MFS_GUARD(&w->lock);

	if (id == w->id && n <= w->n_beat && w->n_beat - n < BEAT_RING)
		atomic_store_explicit(&w->last, w->sent[n % BEAT_RING], memory_order_release);
}

static void beat(struct mongo_watch *w, struct mongo_conn *c)
{
	struct mongo_batch b = { .c = c, .flags = MONGO_WRITE | MONGO_QUIET, .collection = MONGO_BEATS };
	AUTO_BSON bson_t item = BSON_INITIALIZER;
	bson_t sub, op;
	uint64_t n;
	int r;

	{
		MFS_GUARD(&w->lock);

		n = ++w->n_beat;
		w->sent[n % BEAT_RING] = mfs_mono_ns();
	}
	BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &sub);
	mongo_id_put(w->id, &sub);
	bson_append_document_end(&item, &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&item, "u", &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&sub, "$set", &op);
	mongo_put_u64(&op, "n", n);
	bson_append_document_end(&sub, &op);
	BSON_APPEND_DOCUMENT_BEGIN(&sub, "$currentDate", &op);
	BSON_APPEND_BOOL(&op, "at", true);
	bson_append_document_end(&sub, &op);
	bson_append_document_end(&item, &sub);
	BSON_APPEND_BOOL(&item, "upsert", true);
	c->until = mfs_mono_ns() + CALL_NS;
	r = mongo_batch_add(&b, BATCH_UPDATE, false, &item);
	if (r == 0)
		r = mongo_batch_send(&b);
	mongo_batch_release(&b);
	if (r < 0)
		mfs_debug(MFS_LOG_META, NULL, "mongodb %s: a heartbeat was not written (%s)", c->m->where, strerror(-r));
}

static int expire_beats(struct mongo_conn *c)
{
	bson_t *cmd = BCON_NEW("createIndexes", MONGO_BEATS, "indexes", "[", "{", "key", "{", "at", BCON_INT32(1), "}", "name", "at",
			       "expireAfterSeconds", BCON_INT32(BEAT_EXPIRES), "}", "]");
	bson_t reply;
	int r = mongo_run(c, MONGO_WRITE | MONGO_AGAIN | MONGO_QUIET, cmd, &reply);

	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

static void remove_beat(struct mongo_watch *w, struct mongo_conn *c)
{
	struct mongo_batch b = { .c = c, .flags = MONGO_WRITE | MONGO_QUIET, .collection = MONGO_BEATS };
	AUTO_BSON bson_t item = BSON_INITIALIZER;
	bson_t q;

	BSON_APPEND_DOCUMENT_BEGIN(&item, "q", &q);
	mongo_id_put(w->id, &q);
	bson_append_document_end(&item, &q);
	BSON_APPEND_INT32(&item, "limit", 1);
	c->until = mfs_mono_ns() + MFS_NSEC_PER_SEC / 2;
	if (mongo_batch_add(&b, BATCH_DELETE, false, &item) == 0)
		(void)!mongo_batch_send(&b);
	mongo_batch_release(&b);
}

static void *beater_thread(void *arg)
{
	struct mongo_watch *w = arg;
	struct mongo_engine *m = w->c->m;
	struct mongo_conn *c = NULL;
	int r = -EIO;

	while (!is_stopped(w)) {
		if (r < 0)
			r = mongo_conn_get(m, NULL, &c);
		if (r == 0)
			beat(w, c);
		pause_for(w, BEAT_NS);
	}
	/* Also wakes the reader. */
	if (c)
		remove_beat(w, c);
	mongo_conn_put(c);
	return NULL;
}

/* --- beginning and end --- */

static void stop(struct mongo_watch *w)
{
	if (!w->running)
		return;
	{
		MFS_GUARD(&w->lock);

		w->stop = true;
		pthread_cond_broadcast(&w->stopped);
	}
	pthread_join(w->beater, NULL);
	pthread_join(w->reader, NULL);
	w->running = false;
	w->fn = NULL;
	atomic_store(&w->last, 0);
	forget_token(w);
	w->c->until = mfs_mono_ns() + MFS_NSEC_PER_SEC / 2;
	close_stream(w);
	mongo_conn_put(w->c);
	w->c = NULL;
}

static int start(struct mongo_watch *w)
{
	bson_error_t err = { 0 };
	int r = expire_beats(w->c);

	if (r == 0)
		r = open_stream(w, &err);
	if (r < 0) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL,
			"mongodb %s: no change stream (%s): a volume of several mounts needs a replica set that gives one",
			w->c->m->where, err.code ? err.message : strerror(-r));
		return -EIO;
	}
	r = pthread_create(&w->reader, NULL, reader_thread, w);
	if (r)
		return -r;
	r = pthread_create(&w->beater, NULL, beater_thread, w);
	if (r == 0)
		return 0;
	{
		MFS_GUARD(&w->lock);

		w->stop = true;
	}
	pthread_join(w->reader, NULL);
	return -r;
}

int mongo_watch_set(struct engine *e, engine_news_fn fn, void *arg)
{
	struct mongo_engine *m = mongo_of(e);
	struct mongo_watch *w = m->watch;
	int r;

	stop(w);
	if (!fn)
		return 0;
	if (getrandom(&w->id, sizeof(w->id), 0) != sizeof(w->id))
		return -EIO;
	r = mongo_conn_get(m, NULL, &w->c);
	if (r < 0)
		return r;
	w->fn = fn;
	w->arg = arg;
	w->stop = false;
	w->n_beat = 0;
	r = start(w);
	if (r == 0) {
		w->running = true;
		return 0;
	}
	forget_token(w);
	close_stream(w);
	mongo_conn_put(w->c);
	w->c = NULL;
	w->fn = NULL;
	return r;
}

int64_t mongo_last_beat(struct engine *e)
{
	return atomic_load_explicit(&mongo_of(e)->watch->last, memory_order_acquire);
}

void mongo_watch_free(struct mongo_engine *m)
{
	struct mongo_watch *w = m->watch;

	if (!w)
		return;
	stop(w);
	pthread_cond_destroy(&w->stopped);
	pthread_mutex_destroy(&w->lock.m);
	free(w);
	m->watch = NULL;
}
