/*
 * Answers that a real Redis does not give on demand: a clock that is set, bytes that come one by one, garbage, a data set
 * that is being loaded, no memory. A server of a few lines stands in: it answers each command, and keeps nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/mem_internal.h"
#include "tests/lib/engine_suite.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/store_suite.h"

enum manner { WELL, TRICKLE, GARBAGE, LOADING, NO_MEMORY, WRONG_SHAPE, HUGE_ARRAY };

struct fake {
	char *dir, socket[128];
	int fd;
	pthread_t thread;
	_Atomic enum manner manner;
	_Atomic int64_t ahead_us; /* of its clock */
	atomic_bool stop;
	atomic_bool floods; /* who listens: with a message that does not end */
	atomic_size_t flooded;
	atomic_uint asked;
	struct mem_shared *mem;
	struct engine *e;
};

struct fake_conn {
	struct fake *f;
	int fd;
};

static bool put(int fd, const char *s, size_t len)
{
	return send(fd, s, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool put_text(int fd, const char *s)
{
	return put(fd, s, strlen(s));
}

/* As a script's answer: the time, and that there is nothing. */
static bool answer_script(struct fake *f, int fd)
{
	int64_t us = mfs_now_ns() / 1000 + f->ahead_us;
	char text[200];
	int n;

	n = snprintf(text, sizeof(text), "*4\r\n$10\r\n%010lld\r\n$6\r\n%06lld\r\n$-1\r\n$-1\r\n", (long long)(us / 1000000),
		     (long long)(us % 1000000));
	f->asked++;
	switch (f->manner) {
	case WELL:
		return put(fd, text, (size_t)n);
	case TRICKLE:
		for (int i = 0; i < n && !f->stop; i++) {
			if (!put(fd, text + i, 1))
				return false;
			usleep(30000);
		}
		return true;
	case GARBAGE:
		return put_text(fd, "\x16\x03\x01 this is not Redis at all\r\n\r\n");
	case LOADING:
		return put_text(fd, "-LOADING Redis is loading the dataset in memory\r\n");
	case NO_MEMORY:
		return put_text(fd, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
	case WRONG_SHAPE:
		return put_text(fd, "*3\r\n$1\r\nx\r\n*0\r\n:5\r\n");
	case HUGE_ARRAY:
		return put_text(fd, "*2147483647\r\n");
	}
	return false;
}

/* One command of argc bulk strings; its name. */
static bool take_command(FILE *in, char name[static 32])
{
	char line[64], *bytes;
	long argc, len;

	if (!fgets(line, sizeof(line), in) || line[0] != '*')
		return false;
	argc = strtol(line + 1, NULL, 10);
	for (long i = 0; i < argc; i++) {
		if (!fgets(line, sizeof(line), in) || line[0] != '$')
			return false;
		len = strtol(line + 1, NULL, 10);
		bytes = calloc(1, (size_t)len + 3);
		if (!bytes || fread(bytes, 1, (size_t)len + 2, in) != (size_t)len + 2) {
			free(bytes);
			return false;
		}
		if (i == 0)
			snprintf(name, 32, "%.*s", (int)MFS_MIN(len, 31L), bytes);
		free(bytes);
	}
	return true;
}

#define FLOOD_MAX (64u << 20)

static bool flood(struct fake *f, int fd)
{
	static const char bytes[65536];

	while (!f->stop && !f->floods)
		usleep(1000);
	if (!put_text(fd, "*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$536870912\r\n"))
		return false;
	while (f->flooded < FLOOD_MAX && put(fd, bytes, sizeof(bytes)))
		f->flooded += sizeof(bytes);
	f->floods = false;
	return false;
}

static bool answer(struct fake *f, int fd, const char *name)
{
	static const char info[] = "# Server\r\nredis_version:7.0.15\r\nrun_id:0123456789abcdef0123456789abcdef01234567\r\n";
	char text[200];

	if (!strcmp(name, "EVALSHA") || !strcmp(name, "EVAL"))
		return answer_script(f, fd);
	if (!strcmp(name, "INFO")) {
		int n = snprintf(text, sizeof(text), "$%zu\r\n%s\r\n", strlen(info), info);

		return put(fd, text, (size_t)n);
	}
	return put_text(fd, "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n") && flood(f, fd);
}

static void *serve(void *arg)
{
	struct fake_conn *c = arg;
	FILE *in = fdopen(dup(c->fd), "r");
	char name[32];

	while (in && !c->f->stop && take_command(in, name) && answer(c->f, c->fd, name))
		;
	if (in)
		fclose(in);
	close(c->fd);
	free(c);
	return NULL;
}

static void *take_calls(void *arg)
{
	struct fake *f = arg;

	for (;;) {
		struct fake_conn *c = calloc(1, sizeof(*c));
		pthread_t t;

		c->f = f;
		c->fd = accept(f->fd, NULL, NULL);
		if (c->fd < 0) {
			free(c);
			return NULL;
		}
		assert_int_equal(pthread_create(&t, NULL, serve, c), 0);
		pthread_detach(t);
	}
}

static struct fake *kept[32]; /* each has threads that may still look at it when its test is over */
static unsigned int n_kept;

static int setup(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	struct redis_options opt = { .volume = "fake" };
	struct fake *f = calloc(1, sizeof(*f));
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char uri[192], *reason = NULL;
	struct engine *inner;

	assert_true(n_kept < MFS_ARRAY_LEN(kept));
	kept[n_kept++] = f;
	f->dir = store_test_dir();
	snprintf(f->socket, sizeof(f->socket), "%s/s", f->dir);
	snprintf(at.sun_path, sizeof(at.sun_path), "%.100s", f->socket);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(f->fd, 64), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, take_calls, f), 0);
	snprintf(uri, sizeof(uri), "unix:%s", f->socket);
	opt.uri = uri;
	TEST_OK(mem_shared_new(&f->mem));
	TEST_OK(mem_engine_new(f->mem, &inner));
	TEST_OK(redis_engine_new(inner, &opt, &f->e, &reason));
	TEST_OK(engine_volume_put(f->e, NULL, &v));
	redis_server_wait_up(f->e, true);
	*state = f;
	return 0;
}

/* Its threads that serve end with their connections, which the engine has closed. */
static int teardown(void **state)
{
	struct fake *f = *state;

	f->stop = true;
	engine_free(f->e);
	mem_shared_free(f->mem);
	shutdown(f->fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->fd);
	store_test_remove(f->dir);
	usleep(100000);
	return 0;
}

static struct redis_stats stats(struct fake *f)
{
	struct redis_stats st;

	redis_engine_stats(f->e, &st);
	return st;
}

static void wait_epoch_above(struct fake *f, uint64_t epoch)
{
	int64_t until = mfs_mono_ns() + 20 * MFS_NSEC_PER_SEC;

	while (stats(f).epoch <= epoch) {
		assert_true(mfs_mono_ns() < until);
		usleep(2000);
	}
	redis_server_wait_up(f->e, true);
}

static void some_reads(struct fake *f, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		(void)test_attr(f->e, MFS_ROOT_INO);
}

static void test_clock__that_is_set_begins_an_epoch(void **state)
{
	static const int64_t steps[] = { -3600000000, 60000000, -300000, 1000000 };
	struct fake *f = *state;

	some_reads(f, 20);
	for (size_t i = 0; i < MFS_ARRAY_LEN(steps); i++) {
		uint64_t epoch = stats(f).epoch;

		f->ahead_us += steps[i];
		some_reads(f, 20);
		wait_epoch_above(f, epoch);
		some_reads(f, 20);
	}
	assert_int_equal(stats(f).failures, 0);
}

static void test_clock__that_goes_right_does_not(void **state)
{
	struct fake *f = *state;
	uint64_t epoch = stats(f).epoch;

	for (unsigned int i = 0; i < 30; i++) {
		some_reads(f, 20);
		usleep(50000);
		f->ahead_us += 20; /* as far as a clock may drift */
	}
	assert_int_equal(stats(f).epoch, epoch);
}

/* Given up once, within the time of a command; nobody asks it any more. */
static void expect_given_up(struct fake *f, enum manner manner, const char *why)
{
	int64_t begun = mfs_mono_ns();

	some_reads(f, 1);
	f->manner = manner;
	some_reads(f, 2000);
	assert_true(mfs_mono_ns() - begun < 20 * MFS_NSEC_PER_SEC);
	redis_server_wait_up(f->e, false);
	if (!strstr(stats(f).why, why))
		fail_msg("\"%s\" does not say \"%s\"", stats(f).why, why);
	assert_int_equal(stats(f).failures, 1);
}

static void test_bytes_one_by_one(void **state)
{
	expect_given_up(*state, TRICKLE, "no answer in time");
}

static void test_garbage(void **state)
{
	expect_given_up(*state, GARBAGE, "not an answer of Redis");
}

static void test_loading(void **state)
{
	expect_given_up(*state, LOADING, "LOADING");
}

static void test_wrong_shape(void **state)
{
	expect_given_up(*state, WRONG_SHAPE, "an answer that no Redis gives");
}

static void test_an_array_without_end(void **state)
{
	expect_given_up(*state, HUGE_ARRAY, "");
}

/* Anybody may publish that much who has the password: it is not kept. */
static void test_a_message_without_end(void **state)
{
	struct fake *f = *state;
	int64_t until = mfs_mono_ns() + 20 * MFS_NSEC_PER_SEC;

	redis_server_wait_listening(f->e);
	f->floods = true;
	while (f->floods && mfs_mono_ns() < until)
		usleep(2000);
	assert_false(f->floods);
	assert_in_range(f->flooded, 0, 8u << 20);
	some_reads(f, 5);
	assert_true(stats(f).up);
}

/* Full is not gone: it may still be read. */
static void test_no_memory(void **state)
{
	struct fake *f = *state;

	some_reads(f, 1);
	f->manner = NO_MEMORY;
	some_reads(f, 50);
	assert_true(stats(f).up);
	assert_int_equal(stats(f).failures, 0);
}

static void test_comes_back(void **state)
{
	struct fake *f = *state;

	expect_given_up(f, GARBAGE, "not an answer of Redis");
	f->manner = WELL;
	redis_server_wait_up(f->e, true);
	some_reads(f, 20);
	assert_int_equal(stats(f).failures, 1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_clock__that_is_set_begins_an_epoch),
		T(test_clock__that_goes_right_does_not),
		T(test_bytes_one_by_one),
		T(test_garbage),
		T(test_loading),
		T(test_wrong_shape),
		T(test_an_array_without_end),
		T(test_a_message_without_end),
		T(test_no_memory),
		T(test_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
