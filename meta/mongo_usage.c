/*
 * Sums for statfs: what an engine object's changes added to `files`, in number and in bytes, in a document of its own, so that
 * nobody waits for another and asking costs a few documents. Told at most once a second, by a thread, as a whole; own changes
 * count at once. An engine that is closed adds its sums to the document 0 and takes its own away. A crash loses what was not
 * told yet, which mongo_usage_repair() makes good.
 */
#include <errno.h>
#include <openssl/rand.h>

#include "common/clock.h"
#include "common/log.h"
#include "meta/mongo_internal.h"

#define TELL_NS  MFS_NSEC_PER_SEC
#define CLOSE_NS (2 * MFS_NSEC_PER_SEC) /* for the last words; what is lost is only statfs */
#define BASE_ID 0

struct sums {
	int64_t files, bytes;
};

struct mongo_usage {
	struct mongo_engine *m;
	int64_t id; /* of the document: drawn at random */
	struct mfs_mutex lock;
	pthread_cond_t changed; /* stop, or something to tell */
	pthread_t thread;
	bool running, stop;
	struct sums sums; /* of all that this engine object did */
	bool untold;
	bool told; /* there is a document */
};

static bool same(const struct sums *a, const struct sums *b)
{
	return a->files == b->files && a->bytes == b->bytes;
}

static int run(struct mongo_conn *c, unsigned int flags, bson_t *cmd)
{
	bson_t reply;
	int r = mongo_run(c, flags, cmd, &reply);

	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

static bson_t *update_command(int64_t id, const char *op, const struct sums *s)
{
	return BCON_NEW("update", MONGO_USAGE, "updates", "[", "{", "q", "{", "_id", BCON_INT64(id), "}", "u", "{", BCON_UTF8(op), "{",
			"files", BCON_INT64(s->files), "bytes", BCON_INT64(s->bytes), "}", "}", "upsert", BCON_BOOL(true), "}", "]");
}

static bson_t *delete_command(const bson_t *filter, int limit)
{
	return BCON_NEW("delete", MONGO_USAGE, "deletes", "[", "{", "q", BCON_DOCUMENT(filter), "limit", BCON_INT32(limit), "}", "]");
}

static int tell(struct mongo_engine *m, struct op_ctx *op, int64_t id, const struct sums *s)
{
	MFS_AUTO(mongo_conn) struct mongo_conn *c = NULL;
	int r = mongo_conn_get(m, op, &c);

	return r < 0 ? r : run(c, MONGO_WRITE | MONGO_AGAIN, update_command(id, "$set", s));
}

static void *usage_main(void *arg)
{
	struct mongo_usage *u = arg;

	pthread_mutex_lock(&u->lock.m);
	while (!u->stop) {
		struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + TELL_NS);
		struct sums now;
		int r;

		if (!u->untold) {
			(void)pthread_cond_wait(&u->changed, &u->lock.m);
			continue;
		}
		while (!u->stop && pthread_cond_timedwait(&u->changed, &u->lock.m, &ts) == 0)
			;
		now = u->sums;
		u->untold = false;
		u->told = true;
		pthread_mutex_unlock(&u->lock.m);
		r = tell(u->m, NULL, u->id, &now);
		pthread_mutex_lock(&u->lock.m);
		u->untold |= r < 0;
	}
	pthread_mutex_unlock(&u->lock.m);
	return NULL;
}

int mongo_usage_init(struct mongo_engine *m)
{
	struct mongo_usage *u = calloc(1, sizeof(*u));
	pthread_condattr_t attr;

	if (!u)
		return -ENOMEM;
	if (RAND_bytes((unsigned char *)&u->id, sizeof(u->id)) != 1 || u->id == BASE_ID) {
		free(u);
		return -EIO;
	}
	u->m = m;
	pthread_mutex_init(&u->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->changed, &attr);
	pthread_condattr_destroy(&attr);
	m->usage = u;
	return 0;
}

/* Own sums into the base, own document away; both or neither, so that a failure counts nothing twice. */
static int fold(struct mongo_usage *u, struct op_ctx *op)
{
	MFS_AUTO(mongo_conn) struct mongo_conn *c = NULL;
	bson_t filter = BSON_INITIALIZER;
	mongoc_client_session_t *s;
	bson_error_t err;
	bson_t reply;
	int r = mongo_conn_get(u->m, op, &c);

	if (r == 0)
		r = mongo_conn_begin(c, &s);
	if (r == 0)
		r = run(c, MONGO_WRITE | MONGO_IN_TXN, update_command(BASE_ID, "$inc", &u->sums));
	BSON_APPEND_INT64(&filter, "_id", u->id);
	if (r == 0 && u->told)
		r = run(c, MONGO_WRITE | MONGO_IN_TXN, delete_command(&filter, 1));
	bson_destroy(&filter);
	if (r < 0)
		return r;
	if (!mongoc_client_session_commit_transaction(s, &reply, &err))
		r = mongo_error(c, MONGO_WRITE | MONGO_QUIET, &err, &reply);
	else
		c->open = false;
	bson_destroy(&reply);
	return r;
}

static void close_sums(struct mongo_usage *u)
{
	struct op_ctx op = { .deadline_ns = mfs_mono_ns() + CLOSE_NS };
	int r = -EDEADLK;

	if (same(&u->sums, &(struct sums){ 0 }) && !u->told)
		return;
	for (int i = 0; r == -EDEADLK && i < 10; i++)
		r = fold(u, &op);
	/* Unknown, or it did not work: the document stays what it is, up to date where that can be. */
	if (r < 0 && r != -ECOMM && u->untold)
		(void)tell(u->m, &op, u->id, &u->sums);
}

void mongo_usage_free(struct mongo_engine *m)
{
	struct mongo_usage *u = m->usage;

	if (!u)
		return;
	{
		MFS_GUARD(&u->lock);

		u->stop = true;
		pthread_cond_signal(&u->changed);
	}
	if (u->running)
		pthread_join(u->thread, NULL);
	close_sums(u);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->lock.m);
	free(u);
	m->usage = NULL;
}

void mongo_usage_add(struct mongo_engine *m, int64_t files, int64_t bytes)
{
	struct mongo_usage *u = m->usage;

	if (!u || (!files && !bytes))
		return;
	MFS_GUARD(&u->lock);

	if (!u->untold)
		pthread_cond_signal(&u->changed);
	u->untold = true;
	u->sums.files += files;
	u->sums.bytes += bytes;
	/* The thread is made when there is something to tell: an engine that only reads has none. */
	if (!u->running)
		u->running = pthread_create(&u->thread, NULL, usage_main, u) == 0;
}

static int take_sums(void *arg, const bson_t *doc)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_USAGE };
	struct sums *s = arg;

	if (!doc) {
		*s = (struct sums){ 0 };
		return 0;
	}
	s->files = (int64_t)((uint64_t)s->files + mongo_doc_u64(&d, "files"));
	s->bytes = (int64_t)((uint64_t)s->bytes + mongo_doc_u64(&d, "bytes"));
	return mongo_doc_end(&d);
}

/* Of all documents but the own one. */
static int sum_others(struct mongo_conn *c, struct sums *ret)
{
	bson_t filter = BSON_INITIALIZER, ne;
	int r;

	*ret = (struct sums){ 0 };
	if (c->m->usage) {
		BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &ne);
		BSON_APPEND_INT64(&ne, "$ne", c->m->usage->id);
		bson_append_document_end(&filter, &ne);
	}
	r = mongo_find(c, MONGO_READ, MONGO_USAGE, &filter, NULL, take_sums, ret);
	bson_destroy(&filter);
	return r;
}

static struct sums own_sums(struct mongo_usage *u)
{
	if (!u)
		return (struct sums){ 0 };
	MFS_GUARD(&u->lock);

	return u->sums;
}

int mongo_usage_sum(struct mongo_conn *c, uint64_t *ret_files, uint64_t *ret_bytes)
{
	struct sums s, own;
	int r = sum_others(c, &s);

	if (r < 0)
		return r;
	own = own_sums(c->m->usage);
	*ret_files = (uint64_t)MFS_MAX(s.files + own.files + 1, INT64_C(1)); /* the root, which no change made */
	*ret_bytes = (uint64_t)MFS_MAX(s.bytes + own.bytes, INT64_C(0));
	return 0;
}

/* --- repair --- */

/* What is really there; goes through all of `files`. */
static int count_all(struct mongo_conn *c, struct sums *ret)
{
	bson_t *cmd = BCON_NEW("aggregate", MONGO_FILES, "pipeline", "[", "{", "$match", "{", "target", "{", "$exists",
			       BCON_BOOL(false), "}", "}", "}", "{", "$group", "{", "_id", BCON_NULL, "files", "{", "$sum",
			       BCON_INT32(1), "}", "bytes", "{", "$sum", "$size", "}", "}", "}", "]", "cursor", "{", "}");
	bson_t reply;
	int r = mongo_run(c, MONGO_READ, cmd, &reply);

	if (r == 0) {
		struct mongo_doc d = { .bson = &reply, .collection = "the reply of aggregate" };

		ret->files = mongo_doc_i64(&d, "cursor.firstBatch.0.files", 0);
		ret->bytes = mongo_doc_i64(&d, "cursor.firstBatch.0.bytes", 0);
		r = mongo_doc_end(&d);
	}
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

static int difference(struct mongo_conn *c, struct sums *ret)
{
	struct sums others, own;
	int r = count_all(c, ret);

	if (r == 0)
		r = sum_others(c, &others);
	if (r < 0)
		return r;
	own = own_sums(c->m->usage);
	ret->files -= 1 + own.files + others.files;
	ret->bytes -= own.bytes + others.bytes;
	return 0;
}

/* Three times the same: not just what others have not told yet. */
int mongo_usage_repair(struct mongo_conn *c)
{
	struct sums first, again;
	int r = difference(c, &first);

	for (int i = 0; i < 2; i++) {
		if (r < 0 || same(&first, &(struct sums){ 0 }))
			return r;
		r = mongo_pause(c, 2 * TELL_NS);
		if (r == 0)
			r = difference(c, &again);
		if (r < 0 || !same(&first, &again))
			return r;
	}
	mfs_log(MFS_LOG_META, MFS_LOG_INFO, c->op, "mongodb %s: the sums for statfs were %jd files and %jd bytes off; put right", c->m->where,
		(intmax_t)first.files, (intmax_t)first.bytes);
	return run(c, MONGO_WRITE, update_command(BASE_ID, "$inc", &first));
}
