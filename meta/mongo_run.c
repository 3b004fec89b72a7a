/*
 * Commands and finds with a deadline, and what libmongoc's and the server's errors mean here.
 *
 * libmongoc's own retries are off: what was sent and may have been done is for rule M2 to find out, and what was not sent is
 * sent again here until the deadline. Reads are from the primary (rule M7) with read concern local: a change that was
 * refused because of a newer record must be able to read that one at once. What a deposed primary rolls back was never
 * acknowledged to anybody, and who had it in a cache hears NEWS_LOST (mongo_watch.c).
 */
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "meta/mongo_internal.h"

#define PAUSE_NS   INT64_C(50000000)
#define BATCH_SIZE 1000
#define E_UNSENT   (-ENOTCONN) /* of judge(): it was not done, and can be tried again */

static bool has_label(const bson_t *reply, const char *label)
{
	return reply && mongoc_error_has_label(reply, label);
}

static int judge_code(unsigned int flags, uint32_t code)
{
	switch (code) {
	case 11000:
	case 11001:
		return -EEXIST;
	case 112: /* WriteConflict */
	case 24: /* LockTimeout */
	case 246: /* SnapshotUnavailable */
	case 251: /* NoSuchTransaction */
		return -EDEADLK;
	case 10107: /* NotWritablePrimary */
	case 13435: /* NotPrimaryNoSecondaryOk */
	case 43: /* CursorNotFound: the server was restarted between two batches */
	case 237: /* CursorKilled */
		return E_UNSENT;
	case 6: /* HostUnreachable */
	case 7:
	case 50: /* MaxTimeMSExpired */
	case 64: /* WriteConcernFailed */
	case 89: /* NetworkTimeout */
	case 91: /* ShutdownInProgress */
	case 189: /* PrimarySteppedDown */
	case 262: /* ExceededTimeLimit */
	case 9001: /* SocketException */
	case 11600: /* InterruptedAtShutdown */
	case 11601: /* Interrupted */
	case 11602: /* InterruptedDueToReplStateChange */
	case 13436: /* NotPrimaryOrSecondary */
		return flags & (MONGO_WRITE | MONGO_AGAIN) ? -ECOMM : E_UNSENT;
	case 14031: /* OutOfDiskSpace */
		return -ENOSPC;
	case 10334: /* BSONObjectTooLarge */
	case 17280:
	case 17419:
	case 17420:
		return -EFBIG;
	default:
		return -EIO;
	}
}

static int judge(unsigned int flags, const bson_error_t *err, const bson_t *reply)
{
	bool write = flags & (MONGO_WRITE | MONGO_AGAIN);

	if (has_label(reply, "TransientTransactionError"))
		return -EDEADLK;
	if (has_label(reply, "UnknownTransactionCommitResult"))
		return -ECOMM;
	switch (err->domain) {
	case MONGOC_ERROR_SERVER_SELECTION:
		return err->code == MONGOC_ERROR_SERVER_SELECTION_BAD_WIRE_VERSION ? -EIO : E_UNSENT;
	case MONGOC_ERROR_STREAM:
		if (err->code == MONGOC_ERROR_STREAM_NAME_RESOLUTION || err->code == MONGOC_ERROR_STREAM_CONNECT)
			return E_UNSENT;
		return write ? -ECOMM : E_UNSENT;
	case MONGOC_ERROR_CLIENT: /* a connection that breaks off while it logs in is called so, too */
		return err->code == MONGOC_ERROR_CLIENT_AUTHENTICATE ? E_UNSENT : -EIO;
	case MONGOC_ERROR_PROTOCOL:
		return write ? -ECOMM : E_UNSENT;
	case MONGOC_ERROR_WRITE_CONCERN:
		return -ECOMM;
	case MONGOC_ERROR_BSON:
		return -EFBIG;
	case MONGOC_ERROR_SERVER:
	case MONGOC_ERROR_QUERY:
	case MONGOC_ERROR_COMMAND:
		return judge_code(flags, err->code);
	default:
		return -EIO;
	}
}

/* Does the error say that nobody answers (and not what somebody answered)? */
static bool is_outage(const bson_error_t *err)
{
	return err->domain == MONGOC_ERROR_SERVER_SELECTION || err->domain == MONGOC_ERROR_STREAM ||
	       err->domain == MONGOC_ERROR_PROTOCOL ||
	       (err->domain == MONGOC_ERROR_CLIENT && err->code == MONGOC_ERROR_CLIENT_AUTHENTICATE);
}

static int note_error(struct mongo_conn *c, unsigned int flags, const bson_error_t *err, const bson_t *reply)
{
	int r = judge(flags, err, reply);

	/* A snapshot's transaction is over: there is no going on. */
	if (c->m->own && r == -EDEADLK)
		r = -EIO;
	if (is_outage(err)) {
		c->broken = true;
		mongo_health(c->m, err);
	} else if (r == -EIO && !(flags & MONGO_QUIET)) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, c->op, "mongodb %s database=%s: %s (error %u/%u); the answer is EIO",
			c->m->where, c->m->database, err->message, err->domain, err->code);
	}
	return r;
}

int mongo_error(struct mongo_conn *c, unsigned int flags, const bson_error_t *err, const bson_t *reply)
{
	int r = note_error(c, flags, err, reply);

	if (r == E_UNSENT)
		return flags & MONGO_IN_TXN ? -EDEADLK : flags & MONGO_WRITE ? -ECOMM : -EIO;
	return r;
}

/* The deadline came while a call was being tried: said once, as an outage, whatever it was that did not come. */
static void note_deadline(struct mongo_conn *c)
{
	bson_error_t late;

	bson_set_error(&late, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "no answer before the deadline");
	mongo_health(c->m, &late);
}

/* After a failure that permits it: wait a little. 0: try again; else what the caller gets. */
static int again(struct mongo_conn *c, unsigned int flags, int failed)
{
	bool may = failed == E_UNSENT || (failed == -ECOMM && (flags & MONGO_AGAIN));
	int r;

	if (flags & MONGO_IN_TXN)
		return failed == E_UNSENT || failed == -ECOMM ? -EDEADLK : failed;
	if (!may)
		return failed;
	r = mongo_pause(c, PAUSE_NS);
	if (r == -EIO)
		note_deadline(c);
	return r;
}

static int append_session(struct mongo_conn *c, unsigned int flags, bson_t *opts)
{
	mongoc_client_session_t *s = c->m->snapshot ? c->m->snapshot : flags & MONGO_IN_TXN ? c->session : NULL;
	bson_error_t err;

	return !s || mongoc_client_session_append(s, opts, &err) ? 0 : -EINVAL;
}

/* The server is to give up a little before we do, so that it answers. */
static int64_t server_ms(int64_t left)
{
	return left > 1000 ? left - left / 10 : left;
}

static int append_opts(struct mongo_conn *c, unsigned int flags, int64_t left, bson_t *opts)
{
	bool plain = !(flags & MONGO_IN_TXN) && !c->m->snapshot;
	bson_t sub;

	BSON_APPEND_INT64(opts, "maxTimeMS", server_ms(left));
	if (plain && (flags & (MONGO_WRITE | MONGO_AGAIN))) {
		BSON_APPEND_DOCUMENT_BEGIN(opts, "writeConcern", &sub);
		BSON_APPEND_UTF8(&sub, "w", "majority");
		BSON_APPEND_BOOL(&sub, "j", true);
		BSON_APPEND_INT32(&sub, "wtimeout", (int32_t)MFS_MIN(server_ms(left), INT32_MAX));
		bson_append_document_end(opts, &sub);
	} else if (plain && !(flags & (MONGO_ADMIN | MONGO_ADMIN_READ))) {
		BSON_APPEND_DOCUMENT_BEGIN(opts, "readConcern", &sub);
		BSON_APPEND_UTF8(&sub, "level", "local");
		bson_append_document_end(opts, &sub);
	}
	return append_session(c, flags, opts);
}

/* writeErrors and writeConcernError of a reply that says ok. */
static bool reply_ok(const bson_t *reply, bson_error_t *err)
{
	bson_iter_t it, sub;

	if (bson_iter_init_find(&it, reply, "writeErrors") && BSON_ITER_HOLDS_ARRAY(&it) && bson_iter_recurse(&it, &sub) &&
	    bson_iter_next(&sub) && BSON_ITER_HOLDS_DOCUMENT(&sub)) {
		bson_iter_t at;
		const char *text = "write error";
		int64_t code = 0;

		it = sub;
		if (bson_iter_recurse(&it, &sub) && bson_iter_find_descendant(&sub, "code", &at))
			code = bson_iter_as_int64(&at);
		if (bson_iter_recurse(&it, &sub) && bson_iter_find_descendant(&sub, "errmsg", &at) && BSON_ITER_HOLDS_UTF8(&at))
			text = bson_iter_utf8(&at, NULL);
		bson_set_error(err, MONGOC_ERROR_SERVER, (uint32_t)code, "%s", text);
		return false;
	}
	if (bson_iter_init_find(&it, reply, "writeConcernError")) {
		bson_set_error(err, MONGOC_ERROR_WRITE_CONCERN, MONGOC_ERROR_WRITE_CONCERN_ERROR,
			       "the majority did not confirm a write");
		return false;
	}
	return true;
}

static int run_once(struct mongo_conn *c, unsigned int flags, int64_t left, const bson_t *cmd, bson_t *reply)
{
	const char *db = flags & MONGO_ADMIN ? "admin" : c->m->database;
	bson_t opts = BSON_INITIALIZER;
	bson_error_t err = { 0 };
	int r = append_opts(c, flags, left, &opts);

	if (r == 0) {
		bson_destroy(reply);
		if (!mongoc_client_command_with_opts(c->client, db, cmd, NULL, &opts, reply, &err))
			r = note_error(c, flags, &err, reply);
		else if (!reply_ok(reply, &err))
			r = note_error(c, flags, &err, reply);
		else
			mongo_health(c->m, NULL);
	}
	bson_destroy(&opts);
	return r;
}

int mongo_run(struct mongo_conn *c, unsigned int flags, const bson_t *cmd, bson_t *reply)
{
	bson_init(reply);
	for (;;) {
		int64_t left = mongo_left_ms(c);
		int r;

		if (left == 0)
			return flags & MONGO_IN_TXN ? -EDEADLK : -EIO;
		r = run_once(c, flags, left, cmd, reply);
		if (r == 0)
			return 0;
		r = again(c, flags, r);
		if (r < 0)
			return r;
	}
}

/* --- find --- */

struct found {
	mongo_doc_fn fn;
	void *arg;
	bool any; /* a document was handed over */
};

static int find_once(struct mongo_conn *c, unsigned int flags, mongoc_collection_t *coll, const bson_t *filter,
		     const bson_t *opts, struct found *f)
{
	mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(coll, filter, opts, NULL);
	const bson_t *doc, *reply = NULL;
	bson_error_t err = { 0 };
	int r = 0;

	while (r == 0 && mongoc_cursor_next(cursor, &doc)) {
		f->any = true;
		r = f->fn(f->arg, doc);
	}
	if (r == 0 && mongoc_cursor_error_document(cursor, &err, &reply))
		r = note_error(c, flags, &err, reply);
	else
		mongo_health(c->m, NULL);
	mongoc_cursor_destroy(cursor);
	return r;
}

static int find_opts(struct mongo_conn *c, unsigned int flags, int64_t left, const bson_t *given, bson_t *opts)
{
	bson_iter_t it;
	int64_t batch = BATCH_SIZE;

	bson_init(opts);
	if (given)
		bson_concat(opts, given);
	if (given && bson_iter_init_find(&it, given, "limit"))
		batch = bson_iter_as_int64(&it);
	BSON_APPEND_INT64(opts, "batchSize", batch);
	return append_opts(c, flags & MONGO_IN_TXN, left, opts);
}

int mongo_find(struct mongo_conn *c, unsigned int flags, const char *collection, const bson_t *filter, const bson_t *opts,
	       mongo_doc_fn fn, void *arg)
{
	mongoc_collection_t *coll = mongoc_client_get_collection(c->client, c->m->database, collection);
	struct found f = { .fn = fn, .arg = arg };
	int r;

	flags &= ~(unsigned int)(MONGO_WRITE | MONGO_AGAIN);
	for (;;) {
		int64_t left = mongo_left_ms(c);
		bson_t all;

		r = left ? find_opts(c, flags, left, opts, &all) : flags & MONGO_IN_TXN ? -EDEADLK : -EIO;
		if (r == 0)
			r = find_once(c, flags, coll, filter, &all, &f);
		if (left)
			bson_destroy(&all);
		if (r != E_UNSENT)
			break;
		r = again(c, flags, r);
		if (r < 0)
			break;
		if (f.any)
			r = fn(arg, NULL);
		if (r < 0)
			break;
		f.any = false;
	}
	mongoc_collection_destroy(coll);
	return r;
}

struct one {
	bson_t *ret;
	bool found;
};

static int take_one(void *arg, const bson_t *doc)
{
	struct one *o = arg;

	if (o->found)
		bson_destroy(o->ret);
	o->found = doc != NULL;
	if (doc)
		bson_copy_to(doc, o->ret);
	return 0;
}

int mongo_find_one(struct mongo_conn *c, unsigned int flags, const char *collection, const bson_t *filter,
		   const bson_t *opts, bson_t *ret)
{
	struct one o = { .ret = ret };
	bson_t all = BSON_INITIALIZER;
	int r;

	if (opts)
		bson_concat(&all, opts);
	BSON_APPEND_INT64(&all, "limit", 1);
	BSON_APPEND_BOOL(&all, "singleBatch", true);
	r = mongo_find(c, flags, collection, filter, &all, take_one, &o);
	bson_destroy(&all);
	if (r < 0 && o.found)
		bson_destroy(ret);
	return r < 0 ? r : o.found ? 0 : -ENOENT;
}
