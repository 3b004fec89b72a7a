/*
 * The keeper: one thread that finds out epoch and secret, tries a Redis that was given up, sends what changes tell, and asks
 * for the time now and then, so that marks become floors and a server that hangs is noticed when nobody reads.
 *
 * The epoch. A mount that starts while no session is open begins a new one: nobody can say what happened to Redis in
 * between. So does who sees the server's clock set. Others join: whatever lies there, the floor of everything starts open
 * (meta/redis_floors.h), so values of before are not used by this mount, but filled again; and those of other mounts that
 * come later are used at once. The same happens when news were lost; no new epoch is needed for that, and the others'
 * cache stays warm.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/op_ctx.h"
#include "meta/redis_internal.h"

#define TICK_NS	     MFS_NSEC_PER_SEC	     /* asked for the time so often at least */
#define OPEN_NS	     (MFS_NSEC_PER_SEC / 20) /* and so soon after a mark */
#define KEYS_AGAIN   (60 * MFS_NSEC_PER_SEC) /* somebody may have begun a new epoch */
#define KEYS_RETRY   MFS_NSEC_PER_SEC
#define BATCH	     64

/* --- epoch and secret --- */

/* Is a session open besides? Of one that died we do not know: then the epoch goes on. */
static int nobody_else(struct redis_engine *e, struct op_ctx *op, bool *ret)
{
	struct session_list l = { 0 };
	int r = engine_sessions(e->inner, op, &l);

	*ret = true;
	for (size_t i = 0; i < l.n; i++)
		*ret = *ret && (l.v[i].closed != 0 || l.v[i].id == e->base.session);
	session_list_release(&l);
	return r;
}

static int read_keys(struct redis_engine *e, bool begin, bool first, uint64_t *ret, unsigned char secret[32])
{
	struct op_ctx op = { .deadline_ns = mfs_mono_ns() + 5 * MFS_NSEC_PER_SEC };
	int r = 0;

	if (first && !begin)
		r = nobody_else(e, &op, &begin);
	return r < 0 ? r : engine_epoch(e->inner, &op, begin, ret, secret);
}

static void take_keys_locked(struct redis_engine *e, uint64_t epoch, const unsigned char secret[32])
{
	if (!e->has_keys || memcmp(e->secret, secret, 32) != 0) {
		memcpy(e->secret, secret, 32);
		e->secret_gen++;
	}
	if (!e->has_keys || e->epoch != epoch)
		floors_mark_all(e->floors); /* what lies there was not judged by what we know */
	e->epoch = epoch;
	e->has_keys = true;
}

static void update_keys(struct redis_engine *e)
{
	unsigned char secret[32] = { 0 };
	uint64_t epoch = 0;
	bool begin, first;
	int r;
	{
		MFS_GUARD(&e->lock);
		begin = e->begin_epoch;
		first = !e->has_keys;
		e->look_again = false;
	}
	r = read_keys(e, begin, first, &epoch, secret);
	{
		MFS_GUARD(&e->lock);
		e->keys_at = mfs_mono_ns();
		if (r == 0) {
			take_keys_locked(e, epoch, secret);
			if (begin)
				e->begin_epoch = false;
			e->up = !e->down && !e->begin_epoch && !e->stop;
		} else if (r == -ENOTSUP) {
			e->hopeless = true;
		}
	}
	explicit_bzero(secret, sizeof(secret));
	if (r == -ENOTSUP)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL, "redis=%s is not used: engine=%s has no cache epoch", e->where,
			e->inner->ops->name);
}

static bool keys_due_locked(struct redis_engine *e, int64_t now)
{
	if (e->hopeless)
		return false;
	if (!e->has_keys || e->begin_epoch || e->look_again)
		return e->keys_at == 0 || now - e->keys_at >= KEYS_RETRY || e->look_again;
	return now - e->keys_at >= KEYS_AGAIN;
}

/* --- telling --- */

void redis_queue(struct redis_engine *e, struct redis_note *n)
{
	{
		MFS_GUARD(&e->lock);
		if (e->queue_n < REDIS_QUEUE && !e->stop) {
			e->queue[(e->queue_first + e->queue_n++) % REDIS_QUEUE] = n;
			n = NULL;
			if (e->queue_n == 1)
				pthread_cond_broadcast(&e->wake);
		}
	}
	free(n); /* a full queue: the change stream will tell it */
}

static struct redis_note *next_note(struct redis_engine *e)
{
	struct redis_note *n;
	MFS_GUARD(&e->lock);

	if (e->queue_n == 0)
		return NULL;
	n = e->queue[e->queue_first];
	e->queue_first = (e->queue_first + 1) % REDIS_QUEUE;
	e->queue_n--;
	return n;
}

static void drop_queue(struct redis_engine *e)
{
	struct redis_note *n;

	while ((n = next_note(e)))
		free(n);
}

static void send_queue(struct redis_engine *e)
{
	struct redis_note *n;
	int r = 0;

	for (unsigned int i = 0; i < BATCH && r != -EIO && (n = next_note(e)); i++) {
		struct redis_request q;

		if (redis_begin(e, &q)) {
			r = redis_send_note(e, &q, n);
			redis_end(e, &q);
		}
		free(n);
	}
}

/* --- time --- */

static void tick(struct redis_engine *e)
{
	const char *argv[3];
	size_t lens[3];
	redisReply *reply = NULL;
	struct redis_request q;

	if (!redis_begin(e, &q))
		return;
	if (redis_run(e, &q, SCRIPT_TIME, 0, 3, argv, lens, 1, &reply) == 0)
		freeReplyObject(reply);
	redis_end(e, &q);
}

/* --- the thread --- */

enum work { WORK_STOP, WORK_KEYS, WORK_PROBE, WORK_SEND, WORK_DROP, WORK_TICK };

static enum work next_work(struct redis_engine *e, int64_t *last_tick)
{
	MFS_GUARD(&e->lock);

	for (;;) {
		int64_t now = mfs_mono_ns(), until = now + TICK_NS / 2;
		struct timespec ts;

		if (e->stop)
			return WORK_STOP;
		if (keys_due_locked(e, now))
			return WORK_KEYS;
		if (e->queue_n)
			return e->up ? WORK_SEND : WORK_DROP;
		if (e->has_keys && e->down && now >= e->retry_at)
			return WORK_PROBE;
		if (e->up && (now - *last_tick >= TICK_NS || (now - *last_tick >= OPEN_NS && floors_open(e->floors)))) {
			*last_tick = now;
			return WORK_TICK;
		}
		if (e->up)
			until = now + OPEN_NS;
		ts = mfs_ns_to_timespec(until);
		pthread_cond_timedwait(&e->wake, &e->lock.m, &ts);
	}
}

void *redis_keeper(void *arg)
{
	struct redis_engine *e = arg;
	int64_t last_tick = 0;
	enum work w;

	while ((w = next_work(e, &last_tick)) != WORK_STOP) {
		switch (w) {
		case WORK_KEYS:
			update_keys(e);
			break;
		case WORK_PROBE:
			redis_probe(e);
			break;
		case WORK_SEND:
			send_queue(e);
			break;
		case WORK_TICK:
			tick(e);
			floors_settle(e->floors);
			break;
		default:
			drop_queue(e);
			break;
		}
	}
	drop_queue(e);
	return NULL;
}
