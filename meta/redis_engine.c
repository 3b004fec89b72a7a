/*
 * A cache in Redis, and hints between mounts, over an engine that others write to as well.
 *
 * What makes a cached answer right
 *
 * Each value bears a stamp, Redis' own time just before the filler began to read the index. Each mount keeps floors, in
 * the same clock: of each thing that it knows was changed (by itself, when apply returned; by others, when news or a hint came)
 * a moment after that change, below which no value of that thing is used (meta/redis_floors.h). So what this mount must
 * see never depends on Redis having been told, on another mount having done its part, or on what Redis keeps or
 * loses; only on this mount's own news. Worked out:
 *
 *  1. Fill against a change. A reads ver 5 of a record, B changes it to 6, A fills 5. The fill's stamp is before A's read began, so
 *     before the change. Whoever knows of 6 has a floor after the change: 5 is not used. Who does not know yet may use 5, as
 *     an index read a moment ago; its news are at most 500 ms behind (rule below).
 *  2. Own changes. They are marked before apply returns, whatever it returns: an outcome that is not known may be carried
 *     out; if it is later still, the news of it come later still. A read that begins after that finds the mark open, or a
 *     floor taken from an answer of Redis to a command that was sent after the mark, so after the change.
 *  3. News that come while a read is under way. They mark after the command was sent, so this answer's time does not close
 *     the mark, and the value is not used. The fill that follows bears a stamp from before the mark: nobody with the mark uses it.
 *  4. Another mount's fill after my floor. Its stamp was given by Redis after my floor's answer, its read began after
 *     that, so after the change. The index is read from the primary with majority (M7), and who has no live news does
 *     not fill (an old primary that was cut off sends no beats).
 *  5. A mount that dies between its change and telling Redis: nobody needed to be told.
 *  6. A late fill, e.g. out of the socket of a Redis that hung: judged by its stamp as any other. Scripts also refuse
 *     one over 5 s old, one older than what is there, and one older than a tombstone.
 *  7. Values of two moments in one answer (a name, and its record): each is judged alone, and a name that is the record's own
 *     must be the record's name.
 *  8. Redis forgets (eviction, FLUSHALL): a miss. A tombstone that is forgotten is only a help to those who have no
 *     news yet.
 *  9. An old dump, old values put back in place, a failover to a replica: old values have old stamps; all that this mount
 *     knows was changed since has a later floor, and what was changed before it started lies below the floor of everything.
 *     Another process of Redis has other keys (its run id is in them), and all floors start anew with its clock.
 * 10. The server's clock is set: noticed against our monotonic clock (meta/redis_pool.c); a new epoch, all floors anew.
 *     A step under 20 ms between two answers can pass; it matters only for a value filled within it.
 * 11. Values of other keys, other volumes, random bytes: the HMAC over key, epoch, server and value does not verify: a miss,
 *     and the next fill overwrites it.
 * 12. News are lost: the floor of everything is marked. News are silent: after 500 ms without a beat no cached answer is
 *     used, and nothing is filled.
 * 13. Two mounts in different epochs: each has its own keys, each is judged by its own floors. They meet at the higher one
 *     (hints bear it; it is read again once a minute), with the floor of everything marked.
 *
 * So Redis is told of a change for the sake of mounts that have not heard of it: a tombstone at the keys that are known, which
 * ends the use of an old value before the news come, and keeps off slow fills for 10 s; and a hint on the volume's
 * channel. Both are sent by the keeper's thread, after apply: no change waits for Redis.
 *
 * Round trips: a hit costs one to Redis (EVALSHA: 8 to 20 us) and none to the index. A miss costs that, the call of the
 * inner engine, and one fill. A change costs none in its caller. With Redis away: none; a hung one costs each request under
 * way 100 ms, once.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/log.h"
#include "meta/redis_internal.h"

/* --- news --- */

static void on_news(void *arg, const struct news *n)
{
	struct redis_engine *e = arg;

	redis_mark_news(e, n);
	redis_pass_news(e, n);
}

static int redis_watch(struct engine *base, engine_news_fn fn, void *arg)
{
	struct redis_engine *e = redis_of(base);
	MFS_GUARD(&e->watch_lock);

	e->watch_fn = fn;
	e->watch_arg = arg;
	while (!fn && e->watch_users)
		pthread_cond_wait(&e->watch_idle, &e->watch_lock.m);
	return 0;
}

static int redis_apply(struct engine *base, struct op_ctx *op, struct change *c)
{
	struct redis_engine *e = redis_of(base);
	int r = e->inner->ops->apply(e->inner, op, c);

	redis_mark_change(e, c, r == 0);
	return r;
}

void redis_engine_stats(struct engine *base, struct redis_stats *ret)
{
	struct redis_engine *e = redis_of(base);
	int64_t beat = engine_last_beat(e->inner);
	MFS_GUARD(&e->lock);

	*ret = (struct redis_stats){
		.up = e->up,
		.live = e->up && (beat == INT64_MAX || mfs_mono_ns() - beat < REDIS_BEAT_NS),
		.listening = e->listening,
		.epoch = e->has_keys ? e->epoch : 0,
		.hits = e->hits,
		.misses = e->misses,
		.fills = e->fills,
		.bad = e->bad,
		.old = e->old,
		.hints_sent = e->hints_sent,
		.hints_seen = e->hints_seen,
		.failures = e->failures,
	};
	memcpy(ret->why, e->why, sizeof(ret->why));
}

/* --- beginning and end --- */

static void stop_threads(struct redis_engine *e)
{
	uint64_t one = 1;
	{
		MFS_GUARD(&e->lock);
		e->stop = true;
		e->up = false;
		pthread_cond_broadcast(&e->wake);
	}
	if (write(e->wake_fd, &one, sizeof(one)) < 0)
		mfs_debug(MFS_LOG_META, NULL, "eventfd: %s", strerror(errno));
	if (e->has_keeper)
		pthread_join(e->keeper, NULL);
	if (e->has_listener)
		pthread_join(e->listener, NULL);
}

static void release(struct redis_engine *e)
{
	redis_close_idle(e);
	redis_uri_release(&e->uri);
	floors_free(e->floors);
	OPENSSL_cleanse(e->secret, sizeof(e->secret));
	if (e->wake_fd >= 0)
		close(e->wake_fd);
	pthread_cond_destroy(&e->wake);
	pthread_cond_destroy(&e->watch_idle);
	pthread_mutex_destroy(&e->lock.m);
	pthread_mutex_destroy(&e->watch_lock.m);
	free(e);
}

static void hear_no_more(struct redis_engine *e)
{
	if (engine_watch(e->inner, NULL, NULL) < 0)
		mfs_debug(MFS_LOG_META, NULL, "engine=%s cannot be told to be quiet", e->inner->ops->name);
}

static void redis_free(struct engine *base)
{
	struct redis_engine *e = redis_of(base);

	hear_no_more(e);
	stop_threads(e);
	engine_free(e->inner);
	release(e);
}

static int make_scripts(struct redis_engine *e)
{
	for (unsigned int i = 0; i < REDIS_SCRIPTS; i++) {
		unsigned char sha[EVP_MAX_MD_SIZE];
		unsigned int len = 0;

		if (!EVP_Digest(redis_script_text[i], strlen(redis_script_text[i]), sha, &len, EVP_sha1(), NULL) || len != 20)
			return -EIO;
		for (unsigned int k = 0; k < len; k++)
			snprintf(&e->sha[i][2 * k], 3, "%02x", sha[k]);
	}
	return RAND_bytes((unsigned char *)&e->instance, sizeof(e->instance)) == 1 ? 0 : -EIO;
}

static void init_sync(struct redis_engine *e)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&e->lock.m, NULL);
	pthread_mutex_init(&e->watch_lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->wake, &attr);
	pthread_cond_init(&e->watch_idle, &attr);
	pthread_condattr_destroy(&attr);
}

/* With all signals blocked: they are the main thread's. */
static int start_threads(struct redis_engine *e)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e->has_keeper = pthread_create(&e->keeper, NULL, redis_keeper, e) == 0;
	e->has_listener = e->has_keeper && pthread_create(&e->listener, NULL, redis_listener, e) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e->has_listener ? 0 : -EAGAIN;
}

static void fill_ops(struct redis_engine *e, struct engine *inner)
{
	e->ops = (struct engine_ops){ .name = "redis", .caps = inner->ops->caps, .indexes = inner->ops->indexes };
	redis_pass_ops(&e->ops, inner);
	e->ops.free = redis_free;
	e->ops.get = redis_get;
	e->ops.lookup = redis_lookup;
	e->ops.list = redis_list;
	e->ops.apply = redis_apply;
	e->ops.watch = redis_watch;
	e->base.ops = &e->ops;
	e->base.session = inner->session;
	e->base.next_number = inner->next_number;
	e->inner = inner;
}

static int prepare(struct redis_engine *e, const struct redis_options *opt, char **ret_reason)
{
	int r = redis_uri_parse(opt->uri, &e->uri, ret_reason);

	if (r < 0)
		return r;
	if (!opt->volume || strlen(opt->volume) >= sizeof(e->volume))
		return mfs_fail(ret_reason, -EINVAL, "redis: no uuid of the volume");
	snprintf(e->volume, sizeof(e->volume), "%s", opt->volume);
	snprintf(e->channel, sizeof(e->channel), "massfs:1:{%s}:news", e->volume);
	redis_uri_where(&e->uri, e->where, sizeof(e->where));
	e->ttl_ms = (opt->ttl_s ? opt->ttl_s : 3600) * 1000;
	e->down = true;
	e->pause = REDIS_PAUSE_NS;
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->wake_fd < 0)
		return -errno;
	r = floors_new(&e->floors);
	return r < 0 ? r : make_scripts(e);
}

int redis_engine_new(struct engine *inner, const struct redis_options *opt, struct engine **ret, char **ret_reason)
{
	struct redis_engine *e;
	int r;

	if (!(inner->ops->caps & ENGINE_NEWS))
		return mfs_fail(ret_reason, -EINVAL, "redis: engine %s tells no news, so nothing of it can be cached outside",
				inner->ops->name);
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->wake_fd = -1;
	init_sync(e);
	fill_ops(e, inner);
	r = prepare(e, opt, ret_reason);
	if (r == 0)
		r = engine_watch(inner, on_news, e);
	if (r == 0) {
		r = start_threads(e);
		if (r < 0) {
			hear_no_more(e);
			stop_threads(e);
		}
	}
	if (r < 0)
		release(e);
	else
		*ret = &e->base;
	return r;
}
