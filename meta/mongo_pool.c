/*
 * The connections of the mongo engine: lent to one call each, bounded in number, with the call's deadline; and whether the
 * servers answer, said once an outage.
 *
 * libmongoc's own pool makes the clients (they share its monitors), but it cannot wait for one with a deadline: so a client
 * stays with its mongo_conn until the end.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/clock.h"
#include "common/log.h"
#include "meta/mongo_internal.h"

#define MS	    INT64_C(1000000)
#define SLICE_NS    (100 * MS)
#define GOODBYE_NS  (500 * MS) /* for the last words to a server, at the end */
#define END_LOST_NS (3000 * MS) /* for the end of a transaction, once its call is over */

struct mongo_pool {
	mongoc_client_pool_t *clients;
	struct mfs_mutex lock;
	pthread_cond_t returned; /* idle, or n < max */
	struct mongo_conn *idle; /* last used first */
	unsigned int n, max;
	atomic_bool away; /* changed under lock */
	int64_t away_since;
};

int mongo_pool_new(struct mongo_engine *m, unsigned int size, struct mongo_pool **ret)
{
	struct mongo_pool *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (!p)
		return -ENOMEM;
	p->max = size;
	p->clients = mongoc_client_pool_new(m->uri);
	if (!p->clients) {
		free(p);
		return -EINVAL;
	}
	(void)mongoc_client_pool_set_error_api(p->clients, MONGOC_ERROR_API_VERSION_2);
	(void)mongoc_client_pool_set_appname(p->clients, "massfs");
	pthread_mutex_init(&p->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->returned, &attr);
	pthread_condattr_destroy(&attr);
	*ret = p;
	return 0;
}

void mongo_pool_free(struct mongo_pool *p)
{
	int64_t until = mfs_mono_ns() + GOODBYE_NS;

	if (!p)
		return;
	for (struct mongo_conn *c = p->idle; c; c = c->next) {
		c->until = until;
		mongoc_client_session_destroy(c->session);
		mongoc_client_pool_push(p->clients, c->client);
	}
	/* Ends the sessions on a connection of one of them: so these are there until afterwards. */
	mongoc_client_pool_destroy(p->clients);
	while (p->idle) {
		struct mongo_conn *c = p->idle;

		p->idle = c->next;
		free(c);
	}
	pthread_cond_destroy(&p->returned);
	pthread_mutex_destroy(&p->lock.m);
	free(p);
}

int64_t mongo_left_ms(const struct mongo_conn *c)
{
	int64_t left = c->until - mfs_mono_ns();

	return left <= 0 ? 0 : left < MS ? 1 : left / MS;
}

static bool is_cancelled(struct op_ctx *op)
{
	return op && atomic_load_explicit(&op->cancelled, memory_order_relaxed);
}

int mongo_pause(struct mongo_conn *c, int64_t ns)
{
	int64_t end = MFS_MIN(mfs_mono_ns() + ns, c->until);

	for (;;) {
		int64_t now = mfs_mono_ns();
		struct timespec ts = mfs_ns_to_timespec(MFS_MIN(end - now, SLICE_NS));

		if (is_cancelled(c->op))
			return -ECANCELED;
		if (now >= c->until)
			return -EIO;
		if (now >= end)
			return 0;
		(void)nanosleep(&ts, NULL);
	}
}

/* Lock is held. An idle one, or the right to make one (*ret NULL), before `until`. */
static int take(struct mongo_pool *p, struct op_ctx *op, int64_t until, struct mongo_conn **ret)
	MFS_REQUIRES(p->lock)
{
	while (!p->idle && p->n == p->max) {
		int64_t now = mfs_mono_ns();
		struct timespec ts = mfs_ns_to_timespec(MFS_MIN(until, now + SLICE_NS));

		if (now >= until)
			return -EIO;
		if (is_cancelled(op))
			return -ECANCELED;
		(void)pthread_cond_timedwait(&p->returned, &p->lock.m, &ts);
	}
	*ret = p->idle;
	if (p->idle)
		p->idle = p->idle->next;
	else
		p->n++;
	return 0;
}

static void give_back(struct mongo_pool *p, struct mongo_conn *c)
{
	MFS_GUARD(&p->lock);

	if (c) {
		c->next = p->idle;
		p->idle = c;
	} else {
		p->n--;
	}
	(void)pthread_cond_signal(&p->returned);
}

static struct mongo_conn *make(struct mongo_engine *m)
{
	struct mongo_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->client = mongoc_client_pool_pop(m->pool->clients);
	mongo_bound_streams(c);
	return c;
}

int mongo_conn_get(struct mongo_engine *m, struct op_ctx *op, struct mongo_conn **ret)
{
	int64_t until = mfs_mono_ns() + m->deadline_ns;
	struct mongo_conn *c = NULL;
	int r = 0;

	if (op && op->deadline_ns && op->deadline_ns < until)
		until = op->deadline_ns;
	if (m->own) {
		pthread_mutex_lock(&m->own_lock.m);
		c = m->own;
	} else {
		MFS_GUARD(&m->pool->lock);

		r = take(m->pool, op, until, &c);
	}
	if (r < 0) {
		bson_error_t busy;

		bson_set_error(&busy, 0, 0, "no connection was free before the deadline");
		if (r == -EIO)
			mongo_health(m, &busy);
		return r;
	}
	if (!c)
		c = make(m);
	if (!c) {
		give_back(m->pool, NULL);
		return -ENOMEM;
	}
	c->m = m;
	c->op = op;
	c->until = until;
	c->broken = false;
	c->open = false;
	*ret = c;
	return 0;
}

/*
 * A transaction whose abort, or commit, was lost on the way stays open at the server for a minute, with all it wrote in
 * everybody's way. The next one of its session ends it: so one that only reads is begun and ended.
 */
static void end_lost(struct mongo_conn *c)
{
	bson_t *probe = BCON_NEW("_id", "probe");
	bson_t found;
	int r = -EDEADLK;

	c->op = NULL; /* cancelled or not */
	c->until = MFS_MIN(MFS_MAX(c->until, mfs_mono_ns() + GOODBYE_NS), mfs_mono_ns() + END_LOST_NS);
	while (r == -EDEADLK && mongo_left_ms(c)) {
		mongoc_client_session_t *s;

		r = mongo_conn_begin(c, &s);
		if (r == 0)
			r = mongo_find_one(c, MONGO_IN_TXN, MONGO_VOLUME, probe, NULL, &found);
		if (r == 0)
			bson_destroy(&found);
		if (c->session)
			(void)mongoc_client_session_abort_transaction(c->session, NULL);
		if (r == -EDEADLK && mongo_pause(c, SLICE_NS / 2) < 0)
			break;
	}
	bson_destroy(probe);
	if (r < 0 && r != -ENOENT)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL,
			"mongodb %s: a transaction may be left open there, as it does not answer; changes of the same records wait "
			"until it is ended, by the next one of this connection or by the server after a minute",
			c->m->where);
}

void mongo_conn_put(struct mongo_conn *c)
{
	struct mongo_engine *m;

	if (!c)
		return;
	m = c->m;
	if (c->session && mongoc_client_session_in_transaction(c->session)) {
		c->until = MFS_MAX(c->until, mfs_mono_ns() + GOODBYE_NS);
		(void)mongoc_client_session_abort_transaction(c->session, NULL);
	}
	if (c->open && c->broken)
		end_lost(c);
	c->op = NULL;
	if (m->own)
		pthread_mutex_unlock(&m->own_lock.m);
	else
		give_back(m->pool, c);
}

static mongoc_client_session_t *new_session(struct mongo_conn *c, bson_error_t *err)
{
	mongoc_transaction_opt_t *txn = mongoc_transaction_opts_new();
	mongoc_session_opt_t *opts = mongoc_session_opts_new();
	mongoc_write_concern_t *wc = mongoc_write_concern_new();
	mongoc_read_concern_t *rc = mongoc_read_concern_new();
	mongoc_client_session_t *s;

	mongoc_read_concern_set_level(rc, MONGOC_READ_CONCERN_LEVEL_SNAPSHOT);
	mongoc_write_concern_set_w(wc, MONGOC_WRITE_CONCERN_W_MAJORITY);
	mongoc_write_concern_set_journal(wc, true);
	mongoc_transaction_opts_set_read_concern(txn, rc);
	mongoc_transaction_opts_set_write_concern(txn, wc);
	mongoc_session_opts_set_causal_consistency(opts, false);
	mongoc_session_opts_set_default_transaction_opts(opts, txn);
	s = mongoc_client_start_session(c->client, opts, err);
	mongoc_write_concern_destroy(wc);
	mongoc_read_concern_destroy(rc);
	mongoc_transaction_opts_destroy(txn);
	mongoc_session_opts_destroy(opts);
	return s;
}

int mongo_conn_begin(struct mongo_conn *c, mongoc_client_session_t **ret)
{
	bson_error_t err;

	if (!c->session)
		c->session = new_session(c, &err);
	/* Both look for the server, for a moment: that it does not answer just now is not the end of the call. */
	if (!c->session || !mongoc_client_session_start_transaction(c->session, NULL, &err))
		return mongo_error(c, MONGO_WRITE | MONGO_IN_TXN, &err, NULL);
	c->open = true;
	*ret = c->session;
	return 0;
}

void mongo_health(struct mongo_engine *m, const bson_error_t *failed)
{
	struct mongo_pool *p = m->pool;
	int64_t since;

	if (!!failed == atomic_load_explicit(&p->away, memory_order_relaxed))
		return;
	{
		MFS_GUARD(&p->lock);

		if (!!failed == atomic_load_explicit(&p->away, memory_order_relaxed))
			return;
		atomic_store_explicit(&p->away, failed != NULL, memory_order_relaxed);
		since = p->away_since;
		p->away_since = mfs_mono_ns();
	}
	if (failed)
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL,
			"mongodb %s does not answer (%s); calls wait for it up to %" PRId64
			" s and then fail with EIO; it is used again when it answers",
			m->where, failed->message, m->deadline_ns / MFS_NSEC_PER_SEC);
	else
		mfs_log(MFS_LOG_META, MFS_LOG_INFO, NULL, "mongodb %s answers again, after %" PRId64 ".%03" PRId64 " s",
			m->where, (mfs_mono_ns() - since) / MFS_NSEC_PER_SEC, (mfs_mono_ns() - since) / MS % 1000);
}
