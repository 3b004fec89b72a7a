/*
 * Starting a redis-server, and the faults of one.
 */
#include "tests/lib/redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "tests/lib/store_suite.h"

#define WORD	     "a-word-that-no-log-shows"
#define WAIT_SECONDS 30

static void die(const char *what)
{
	fprintf(stderr, "redis-server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_conf(const struct redis_server *s, const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f || fprintf(f,
			  "port 0\nunixsocket %s\nunixsocketperm 700\nrequirepass " WORD
			  "\nsave \"\"\nappendonly no\ndir %s\nlogfile %s/log\ndaemonize no\n",
			  s->socket, s->dir, s->dir) < 0 ||
	    fclose(f) != 0)
		die(path);
}

static redisContext *try_client(struct redis_server *s)
{
	redisContext *c = redisConnectUnix(s->socket);
	redisReply *r = c && !c->err ? redisCommand(c, "AUTH %s", WORD) : NULL;
	redisReply *pong = r && r->type == REDIS_REPLY_STATUS ? redisCommand(c, "PING") : NULL;
	bool ok = pong && pong->type == REDIS_REPLY_STATUS;

	freeReplyObject(pong);
	freeReplyObject(r);
	if (ok)
		return c;
	if (c)
		redisFree(c);
	return NULL;
}

redisContext *redis_server_client(struct redis_server *s)
{
	int64_t until = mfs_mono_ns() + WAIT_SECONDS * MFS_NSEC_PER_SEC;
	redisContext *c;

	while (!(c = try_client(s))) {
		if (mfs_mono_ns() > until)
			die("does not answer");
		usleep(10000);
	}
	return c;
}

void redis_server_run(struct redis_server *s)
{
	MFS_AUTOFREE char *conf = mfs_str_printf("%s/redis.conf", s->dir);
	pid_t parent = getpid();

	unlink(s->socket);
	s->pid = fork();
	if (s->pid < 0)
		die("fork");
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent) {
			int null = open("/dev/null", O_RDWR);

			dup2(null, 0);
			dup2(null, 1);
			execlp("redis-server", "redis-server", conf, (char *)NULL);
		}
		_exit(127);
	}
	redisFree(redis_server_client(s));
}

void redis_server_start(struct redis_server *ret)
{
	*ret = (struct redis_server){ .dir = store_test_dir() };
	snprintf(ret->socket, sizeof(ret->socket), "%s/socket", ret->dir);
	snprintf(ret->uri, sizeof(ret->uri), "unix:%s?password=" WORD, ret->socket);
	{
		MFS_AUTOFREE char *conf = mfs_str_printf("%s/redis.conf", ret->dir);

		write_conf(ret, conf);
	}
	redis_server_run(ret);
}

void redis_server_kill(struct redis_server *s)
{
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

void redis_server_freeze(struct redis_server *s, bool frozen)
{
	int status;

	kill(s->pid, frozen ? SIGSTOP : SIGCONT);
	waitpid(s->pid, &status, frozen ? WUNTRACED : WCONTINUED);
}

void redis_server_stop(struct redis_server *s)
{
	redis_server_kill(s);
	store_test_remove(s->dir);
}

static bool is_up(const struct redis_stats *st)
{
	return st->up;
}

static bool is_down(const struct redis_stats *st)
{
	return !st->up;
}

static bool is_listening(const struct redis_stats *st)
{
	return st->listening;
}

static void wait_for(struct engine *e, bool (*is)(const struct redis_stats *st), const char *what)
{
	int64_t until = mfs_mono_ns() + WAIT_SECONDS * MFS_NSEC_PER_SEC;
	struct redis_stats st;

	for (;;) {
		redis_engine_stats(e, &st);
		if (is(&st))
			return;
		if (mfs_mono_ns() > until) {
			fprintf(stderr, "redis engine: not %s after %d s: %s\n", what, WAIT_SECONDS, st.why);
			exit(1);
		}
		usleep(2000);
	}
}

void redis_server_wait_up(struct engine *e, bool up)
{
	wait_for(e, up ? is_up : is_down, up ? "up" : "down");
}

void redis_server_wait_listening(struct engine *e)
{
	wait_for(e, is_listening, "listening");
}

struct engine *redis_server_engine(struct redis_server *s, struct engine *inner, const char *volume)
{
	const struct redis_options opt = { .uri = s->uri, .volume = volume };
	struct engine *e = NULL;
	char *reason = NULL;

	if (redis_engine_new(inner, &opt, &e, &reason) < 0) {
		fprintf(stderr, "redis_engine_new: %s\n", reason ? reason : "?");
		exit(1);
	}
	redis_server_wait_up(e, true);
	return e;
}
