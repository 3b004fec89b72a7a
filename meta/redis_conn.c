/*
 * A connection. The socket does not block: what bounds a command is poll() with the time that is left, so a server that
 * sends a byte now and then holds nobody up longer than one that sends nothing.
 *
 * The handshake is one round trip: AUTH and SELECT as far as they are asked for, CLIENT SETNAME, INFO server. The run id of
 * INFO tells one Redis process from another.
 */
#include "meta/redis_conn.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/sds.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define REPLY_MAX_COMMANDS 4
#define PART_MAX	   (2u << 20) /* bytes of an answer's part: twice the biggest value (REDIS_FIND_MAX) */

static int fail(struct redis_conn *c, const char *what, const char *detail)
{
	snprintf(c->why, sizeof(c->why), "%s%s%.100s", what, *detail ? ": " : "", detail);
	for (char *p = c->why; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	return -EIO;
}

static int fail_io(struct redis_conn *c)
{
	return fail(c, c->c->err == REDIS_ERR_PROTOCOL ? "not an answer of Redis" : "connection lost", c->c->errstr);
}

int redis_conn_put(struct redis_conn *c, int argc, const char **argv, const size_t *lens)
{
	if (redisAppendCommandArgv(c->c, argc, argv, lens) != REDIS_OK)
		return -ENOMEM;
	c->due++;
	return 0;
}

/* Until the socket can do what is asked; -EIO at the deadline. */
static int wait_for(struct redis_conn *c, short events, int64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = c->c->fd, .events = events };
		int64_t left = deadline_ns - mfs_mono_ns();
		int n;

		if (left <= 0)
			return fail(c, "no answer in time", "");
		n = poll(&p, 1, (int)MFS_MIN((left + 999999) / 1000000, INT64_C(1000000)));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return fail(c, "poll", strerror(errno));
	}
}

/* As redisBufferWrite(), which would raise SIGPIPE when the server has gone. */
static int write_some(struct redis_conn *c)
{
	ssize_t n = send(c->c->fd, c->c->obuf, sdslen(c->c->obuf), MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : fail(c, "connection lost", strerror(errno));
	sdsrange(c->c->obuf, (int)n, -1);
	return 0;
}

int redis_conn_flush(struct redis_conn *c, int64_t deadline_ns)
{
	int r = 0;

	while (r == 0 && sdslen(c->c->obuf) > 0) {
		r = write_some(c);
		if (r == 0 && sdslen(c->c->obuf) > 0)
			r = wait_for(c, POLLOUT, deadline_ns);
	}
	return r;
}

static int next_reply(struct redis_conn *c, redisReply **ret)
{
	void *reply = NULL;

	if (redisGetReplyFromReader(c->c, &reply) != REDIS_OK)
		return fail_io(c);
	*ret = reply;
	c->due -= reply && c->due > 0;
	return 0;
}

/* What has come is kept until an answer, or a part of one, is whole: not for ever. */
static int read_some(struct redis_conn *c)
{
	if (redisBufferRead(c->c) != REDIS_OK)
		return fail_io(c);
	return c->c->reader->len - c->c->reader->pos > PART_MAX ? fail(c, "an answer without end", "") : 0;
}

int redis_conn_take(struct redis_conn *c, int64_t deadline_ns, redisReply **ret)
{
	int r = redis_conn_flush(c, deadline_ns);

	while (r == 0) {
		r = next_reply(c, ret);
		if (r < 0 || *ret)
			return r;
		r = wait_for(c, POLLIN, deadline_ns);
		if (r == 0)
			r = read_some(c);
	}
	return r;
}

void redis_conn_wait(struct redis_conn *c, int wake_fd, int timeout_ms)
{
	struct pollfd p[2] = { { .fd = c->c->fd, .events = POLLIN }, { .fd = wake_fd, .events = POLLIN } };

	(void)poll(p, 2, timeout_ms);
}

int redis_conn_poll(struct redis_conn *c, redisReply **ret)
{
	int r = next_reply(c, ret);
	struct pollfd p = { .fd = c->c->fd, .events = POLLIN };

	if (r < 0 || *ret || poll(&p, 1, 0) <= 0)
		return r;
	r = read_some(c);
	return r < 0 ? r : next_reply(c, ret);
}

/* --- answers without end --- */

#define ARRAY_MAX 64 /* no answer that is expected has so many parts; hiredis would make room for as many as it is told */

static void *small_array(const redisReadTask *task, int n)
{
	redisReply *reply;

	if (n < 0 || n > ARRAY_MAX)
		return NULL;
	reply = calloc(1, sizeof(*reply));
	if (!reply)
		return NULL;
	reply->type = REDIS_REPLY_ARRAY;
	reply->element = calloc((size_t)n + 1, sizeof(*reply->element));
	if (!reply->element) {
		free(reply);
		return NULL;
	}
	reply->elements = (size_t)n;
	if (task->parent) {
		redisReply *parent = task->parent->obj;

		parent->element[task->idx] = reply;
	}
	return reply;
}

/* As hiredis has them, but for arrays. */
static void bound_answers(struct redis_conn *c)
{
	c->fns = *c->c->reader->fn;
	c->fns.createArray = small_array;
	c->c->reader->fn = &c->fns;
}

/* --- handshake --- */

static struct timeval to_timeval(int64_t ns)
{
	return (struct timeval){ .tv_sec = ns / MFS_NSEC_PER_SEC, .tv_usec = ns % MFS_NSEC_PER_SEC / 1000 };
}

static int put_words(struct redis_conn *c, const char *a, const char *b, const char *d)
{
	const char *argv[3] = { a, b, d };
	size_t lens[3] = { strlen(a), b ? strlen(b) : 0, d ? strlen(d) : 0 };

	return redis_conn_put(c, d ? 3 : b ? 2 : 1, argv, lens);
}

static int take_run(struct redis_conn *c, const redisReply *reply)
{
	const char *at = reply->type == REDIS_REPLY_STRING ? strstr(reply->str, "run_id:") : NULL;
	size_t n = 0;

	for (at = at ? at + strlen("run_id:") : NULL; at && n < REDIS_RUN_MAX && isxdigit((unsigned char)at[n]); n++)
		c->run[n] = at[n];
	c->run[n] = '\0';
	return n >= 16 ? 0 : fail(c, "INFO server names no run_id", "");
}

/* An error of Redis may repeat what it was sent; of AUTH, only its first word is shown. */
static int refused(struct redis_conn *c, const char *what, const redisReply *reply)
{
	char word[32];

	snprintf(word, sizeof(word), "%.*s", (int)MFS_MIN(strcspn(reply->str, " "), sizeof(word) - 1), reply->str);
	return fail(c, what, word);
}

static int handshake(struct redis_conn *c, const struct redis_uri *u, int64_t deadline)
{
	const char *what[REPLY_MAX_COMMANDS];
	unsigned int n = 0;
	char db[16];
	int r = 0;

	if (u->password) {
		what[n++] = "AUTH is refused";
		r = u->user ? put_words(c, "AUTH", u->user, u->password) : put_words(c, "AUTH", u->password, NULL);
	}
	if (r == 0 && u->db) {
		snprintf(db, sizeof(db), "%u", u->db);
		what[n++] = "SELECT is refused";
		r = put_words(c, "SELECT", db, NULL);
	}
	what[n++] = "INFO server is refused";
	if (r == 0)
		r = put_words(c, "INFO", "server", NULL);
	for (unsigned int i = 0; r == 0 && i < n; i++) {
		redisReply *reply = NULL;

		r = redis_conn_take(c, deadline, &reply);
		if (r == 0 && reply->type == REDIS_REPLY_ERROR)
			r = refused(c, what[i], reply);
		else if (r == 0 && i == n - 1)
			r = take_run(c, reply);
		freeReplyObject(reply);
	}
	return r;
}

int redis_conn_open(const struct redis_uri *u, const char *address, struct redis_conn **ret, char *why)
{
	struct redis_conn *c = calloc(1, sizeof(*c));
	int64_t deadline = mfs_mono_ns() + REDIS_CONNECT_NS + REDIS_COMMAND_NS;
	int r = 0, flags;

	if (!c)
		return -ENOMEM;
	c->c = u->path ? redisConnectUnixWithTimeout(u->path, to_timeval(REDIS_CONNECT_NS)) :
			 redisConnectWithTimeout(address, u->port, to_timeval(REDIS_CONNECT_NS));
	if (!c->c)
		r = -ENOMEM;
	else if (c->c->err)
		r = fail(c, "cannot connect", c->c->errstr);
	flags = r == 0 ? fcntl(c->c->fd, F_GETFL) : -1;
	if (r == 0 && (flags < 0 || fcntl(c->c->fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(c->c->fd, F_SETFD, FD_CLOEXEC) < 0))
		r = fail(c, "fcntl", strerror(errno));
	if (r == 0) {
		c->c->flags &= ~REDIS_BLOCK;
		bound_answers(c);
		if (!u->path)
			(void)redisEnableKeepAlive(c->c);
		r = handshake(c, u, deadline);
	}
	if (r == 0) {
		*ret = c;
		return 0;
	}
	snprintf(why, REDIS_WHY_MAX, "%s", r == -ENOMEM ? "no memory" : c->why);
	redis_conn_close(c);
	return r;
}

void redis_conn_close(struct redis_conn *c)
{
	if (!c)
		return;
	if (c->c)
		redisFree(c->c);
	free(c);
}
