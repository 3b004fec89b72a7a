/*
 * Connections, and whether Redis is asked at all.
 *
 * A failure of any kind gives Redis up: idle connections are closed, nobody asks any more, and the keeper tries again every
 * 2 to 4 s, which costs nobody else anything. One that answered and fails again within 10 s is left alone for longer each
 * time, up to 30 s. So a hung Redis costs each request under way one command time-out, and later ones nothing. One log line when it goes, one when it is back.
 *
 * The clock: each answer bears the server's time. Two answers must be apart as far as our monotonic clock says, within what
 * the two commands took, 20 ms and 1 in 1,000; and a time never goes back. If not, that clock was set: floors and stamps
 * mean nothing any more, so a new epoch is begun. Another process of Redis has a clock of its own (and may have a dump's
 * data): its run id is in the keys, and all floors start anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "meta/redis_internal.h"

#define REDIS_PROBE_NS (4 * MFS_NSEC_PER_SEC) /* between two tries, at most, once the first one has failed */

void redis_conn_drop(struct redis_conn *c)
{
	if (c)
		redis_seal_free(c->seal);
	redis_conn_close(c);
}

static void set_up_locked(struct redis_engine *e)
{
	e->up = !e->down && e->has_keys && !e->begin_epoch && !e->stop;
}

void redis_close_idle(struct redis_engine *e)
{
	struct redis_conn *idle[REDIS_CONNS];
	unsigned int n;

	{
		MFS_GUARD(&e->lock);
		n = e->n_idle;
		memcpy(idle, e->idle, sizeof(idle));
		e->n_idle = 0;
		e->n_conns -= n;
		set_up_locked(e);
	}
	for (unsigned int i = 0; i < n; i++)
		redis_conn_drop(idle[i]);
}

void redis_give_up(struct redis_engine *e, const char *why)
{
	bool first;
	{
		MFS_GUARD(&e->lock);
		int64_t now = mfs_mono_ns();

		first = !e->down;
		if (first) {
			/* One that fails again soon after it came back is tried less often. */
			if (e->was_up && now - e->up_since > 10 * MFS_NSEC_PER_SEC)
				e->pause = REDIS_PAUSE_NS;
			e->down = true;
			e->down_since = now;
			e->failures++;
			snprintf(e->why, sizeof(e->why), "%s", why);
			e->retry_at = now + e->pause;
			e->pause = MFS_MIN(e->pause * 2, REDIS_PAUSE_MAX);
			e->said = true;
			set_up_locked(e);
			pthread_cond_broadcast(&e->wake);
		}
	}
	if (!first)
		return;
	redis_close_idle(e);
	mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL,
		"redis=%s is not used for now: %s. Mounts stay right without it, only slower; it is tried again by itself", e->where,
		why);
}

/* --- the server --- */

/* A connection stands: is it the process of Redis that we know? Its clock and its data are others' if not. */
static void meet_locked(struct redis_engine *e, const struct redis_conn *c)
{
	if (!strcmp(e->run, c->run))
		return;
	snprintf(e->run, sizeof(e->run), "%s", c->run);
	e->clock_t = 0;
	floors_new_clock(e->floors);
}

static int open_conn(struct redis_engine *e, const char *address, struct redis_conn **ret, char *why)
{
	unsigned char secret[32];
	uint64_t gen;
	int r = redis_conn_open(&e->uri, address, ret, why);

	if (r < 0)
		return r;
	{
		MFS_GUARD(&e->lock);
		memcpy(secret, e->secret, sizeof(secret));
		gen = e->secret_gen;
		meet_locked(e, *ret);
	}
	(*ret)->line = gen;
	r = redis_seal_new(secret, (struct redis_seal **)&(*ret)->seal);
	explicit_bzero(secret, sizeof(secret));
	if (r < 0) {
		redis_conn_drop(*ret);
		snprintf(why, REDIS_WHY_MAX, "OpenSSL gives no HMAC-SHA-256");
	}
	return r;
}

static bool usable_locked(struct redis_engine *e, const struct redis_conn *c)
{
	return c->line == e->secret_gen && !strcmp(c->run, e->run);
}

/* An idle connection, or the right to open one (*ret NULL); false: none. */
static bool take_conn(struct redis_engine *e, struct redis_conn **ret, char address[static 64])
{
	struct redis_conn *stale[REDIS_CONNS];
	unsigned int n_stale = 0;
	bool ok;

	*ret = NULL;
	{
		MFS_GUARD(&e->lock);
		while (e->n_idle && !*ret) {
			struct redis_conn *c = e->idle[--e->n_idle];

			if (usable_locked(e, c)) {
				*ret = c;
			} else {
				stale[n_stale++] = c;
				e->n_conns--;
			}
		}
		ok = *ret || (e->n_conns < REDIS_CONNS && !e->down);
		if (ok && !*ret) {
			e->n_conns++;
			memcpy(address, e->address, 64);
		}
	}
	while (n_stale)
		redis_conn_drop(stale[--n_stale]);
	return ok;
}

static void drop_conn(struct redis_engine *e, struct redis_conn *c)
{
	redis_conn_drop(c);
	MFS_GUARD(&e->lock);
	e->n_conns--;
}

/* What the request needs to know, of one moment. */
static bool fill_request(struct redis_engine *e, struct redis_request *q)
{
	MFS_GUARD(&e->lock);

	if (e->down || !e->has_keys || e->begin_epoch || e->stop || !usable_locked(e, q->conn))
		return false;
	q->epoch = e->epoch;
	q->clock_seen = e->clock_t;
	snprintf(q->prefix, sizeof(q->prefix), "massfs:1:{%s}:%" PRIx64 ":%.16s:", e->volume, e->epoch, e->run);
	floors_begin(e->floors, &q->view);
	return true;
}

bool redis_begin(struct redis_engine *e, struct redis_request *q)
{
	char address[64], why[REDIS_WHY_MAX];

	if (!e->up || !take_conn(e, &q->conn, address))
		return false;
	if (!q->conn && open_conn(e, address, &q->conn, why) < 0) {
		{
			MFS_GUARD(&e->lock);
			e->n_conns--;
		}
		redis_give_up(e, why);
		return false;
	}
	if (!fill_request(e, q)) {
		drop_conn(e, q->conn);
		return false;
	}
	q->sent = mfs_mono_ns();
	q->deadline = q->sent + REDIS_COMMAND_NS;
	return true;
}

void redis_end(struct redis_engine *e, struct redis_request *q)
{
	struct redis_conn *c = q->conn;

	if (c && c->due == 0 && !c->c->err) {
		MFS_GUARD(&e->lock);
		if (!e->down && !e->stop && e->n_idle < REDIS_CONNS && usable_locked(e, c)) {
			e->idle[e->n_idle++] = c;
			c = NULL;
		}
	}
	if (c)
		drop_conn(e, c);
	q->conn = NULL;
}

struct redis_seal *redis_request_seal(struct redis_request *q)
{
	return q->conn->seal;
}

/* --- the clock --- */

static bool clock_ok_locked(struct redis_engine *e, const struct redis_request *q, uint64_t t, int64_t got)
{
	int64_t apart = (int64_t)(t - e->clock_t);
	int64_t least = (q->sent - e->clock_got) / 1000, most = (got - e->clock_sent) / 1000;
	int64_t slack = 20000 + most / 1000;

	if (e->clock_t == 0)
		return true;
	return t >= q->clock_seen && apart >= least - slack && apart <= most + slack;
}

/* The time of an answer. false: the server's clock was set. */
static bool take_time(struct redis_engine *e, struct redis_request *q, uint64_t t)
{
	int64_t got = mfs_mono_ns();
	bool ok;
	{
		MFS_GUARD(&e->lock);

		if (q->view.line != e->floors->line)
			return true; /* of a clock that is no more; nothing will be judged by it */
		ok = clock_ok_locked(e, q, t, got);
		if (ok && t > e->clock_t) {
			e->clock_t = t;
			e->clock_sent = q->sent;
			e->clock_got = got;
		}
		if (!ok) {
			e->clock_t = 0;
			e->begin_epoch = true;
			set_up_locked(e);
			floors_new_clock(e->floors);
			pthread_cond_broadcast(&e->wake);
		}
	}
	if (!ok) {
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL,
			"redis=%s: the clock of the server was set; what is cached there is left alone, a new epoch begins", e->where);
		return false;
	}
	q->view.t = t;
	floors_seen(e->floors, &q->view);
	return true;
}

/* --- commands --- */

static int take_number(const redisReply *r, uint64_t *ret)
{
	if (r->type == REDIS_REPLY_INTEGER) {
		*ret = (uint64_t)r->integer;
		return 0;
	}
	if (r->type != REDIS_REPLY_STRING || r->len == 0 || r->len > 15)
		return -EBADMSG;
	*ret = 0;
	for (size_t i = 0; i < r->len; i++) {
		if (r->str[i] < '0' || r->str[i] > '9')
			return -EBADMSG;
		*ret = *ret * 10 + (uint64_t)(r->str[i] - '0');
	}
	return 0;
}

static bool refuses(const redisReply *r, const char *word)
{
	return r->type == REDIS_REPLY_ERROR && !strncmp(r->str, word, strlen(word));
}

static int exchange(struct redis_request *q, int argc, const char **argv, size_t *lens, redisReply **ret)
{
	int r = redis_conn_put(q->conn, argc, argv, lens);

	if (r == 0)
		r = redis_conn_take(q->conn, q->deadline, ret);
	return r;
}

/* An error of Redis: what it cannot do for now (no memory, no disk, a replica) does not make it useless for reading. */
static int on_error(struct redis_engine *e, const redisReply *reply)
{
	static const char *const full[] = { "OOM", "MISCONF", "READONLY", "NOREPLICAS" };
	char why[REDIS_WHY_MAX];

	for (size_t i = 0; i < MFS_ARRAY_LEN(full); i++) {
		if (!strstr(reply->str, full[i]))
			continue;
		MFS_GUARD(&e->lock);
		e->no_fills_until = mfs_mono_ns() + 5 * MFS_NSEC_PER_SEC;
		return -EAGAIN;
	}
	snprintf(why, sizeof(why), "it says: %.*s", (int)MFS_MIN(strcspn(reply->str, "\r\n"), (size_t)100), reply->str);
	redis_give_up(e, why);
	return -EIO;
}

static int check_reply(struct redis_engine *e, struct redis_request *q, const redisReply *reply, size_t min_parts)
{
	uint64_t s, us;

	if (reply->type == REDIS_REPLY_ERROR)
		return on_error(e, reply);
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 + min_parts || take_number(reply->element[0], &s) < 0 ||
	    take_number(reply->element[1], &us) < 0 || us >= 1000000 || s > UINT64_C(1) << 40) {
		redis_give_up(e, "an answer that no Redis gives");
		return -EIO;
	}
	return take_time(e, q, s * 1000000 + us) ? 0 : -EAGAIN;
}

int redis_run(struct redis_engine *e, struct redis_request *q, enum redis_script script, unsigned int n_keys, int argc,
	      const char **argv, size_t *lens, size_t min_parts, redisReply **ret)
{
	redisReply *reply = NULL;
	char keys[12];
	int r;

	argv[0] = "EVALSHA";
	argv[1] = e->sha[script];
	lens[2] = (size_t)snprintf(keys, sizeof(keys), "%u", n_keys);
	argv[2] = keys;
	lens[0] = 7;
	lens[1] = 40;
	r = exchange(q, argc, argv, lens, &reply);
	if (r == 0 && refuses(reply, "NOSCRIPT")) {
		freeReplyObject(reply);
		reply = NULL;
		argv[0] = "EVAL";
		lens[0] = 4;
		argv[1] = redis_script_text[script];
		lens[1] = strlen(argv[1]);
		r = exchange(q, argc, argv, lens, &reply);
	}
	if (r == 0) {
		r = check_reply(e, q, reply, min_parts);
	} else {
		redis_give_up(e, r == -ENOMEM ? "no memory" : q->conn->why);
		r = -EIO;
	}
	if (r < 0)
		freeReplyObject(reply);
	else
		*ret = reply;
	return r;
}

/* --- trying again --- */

/* Connect to the first address of the host that answers. */
static int find_server(struct redis_engine *e, char address[static 64], struct redis_conn **ret, char *why)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int r = -EIO;

	address[0] = '\0';
	if (e->uri.path)
		return open_conn(e, "", ret, why);
	if (getaddrinfo(e->uri.host, NULL, &hints, &list) != 0) {
		snprintf(why, REDIS_WHY_MAX, "its host is not known");
		return -EIO;
	}
	for (struct addrinfo *a = list; a && r < 0; a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, address, 64, NULL, 0, NI_NUMERICHOST) == 0)
			r = open_conn(e, address, ret, why);
	freeaddrinfo(list);
	return r;
}

static void came_back(struct redis_engine *e, struct redis_conn *c, const char *address)
{
	int64_t away;
	bool said;
	{
		MFS_GUARD(&e->lock);

		away = mfs_mono_ns() - e->down_since;
		said = e->said;
		e->down = false;
		e->was_up = true;
		e->up_since = mfs_mono_ns();
		memcpy(e->address, address, sizeof(e->address));
		if (e->n_idle < REDIS_CONNS && e->n_conns < REDIS_CONNS) {
			e->idle[e->n_idle++] = c;
			e->n_conns++;
			c = NULL;
		}
		set_up_locked(e);
		pthread_cond_broadcast(&e->wake);
	}
	redis_conn_drop(c);
	if (said)
		mfs_log(MFS_LOG_META, MFS_LOG_INFO, NULL, "redis=%s answers again, after %" PRId64 " s; it is used", e->where,
			away / MFS_NSEC_PER_SEC);
	else
		mfs_log(MFS_LOG_META, MFS_LOG_INFO, NULL, "redis=%s is used", e->where);
}

void redis_probe(struct redis_engine *e)
{
	char address[64], why[REDIS_WHY_MAX] = "";
	struct redis_conn *c = NULL;
	bool say = false;

	if (find_server(e, address, &c, why) == 0) {
		came_back(e, c, address);
		return;
	}
	{
		MFS_GUARD(&e->lock);
		snprintf(e->why, sizeof(e->why), "%s", why);
		e->retry_at = mfs_mono_ns() + MFS_MIN(e->pause, REDIS_PROBE_NS);
		say = !e->said;
		e->said = true;
	}
	if (say)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL,
			"redis=%s is not used: %s. Mounts stay right without it, only slower; it is tried again by itself", e->where,
			why);
}

int redis_open_extra(struct redis_engine *e, struct redis_conn **ret)
{
	char address[64], why[REDIS_WHY_MAX];

	{
		MFS_GUARD(&e->lock);
		if (e->down || !e->has_keys || e->stop)
			return -EAGAIN;
		memcpy(address, e->address, sizeof(address));
	}
	return open_conn(e, address, ret, why);
}
