/*
 * fs/content over real stores and the mem engine: random writes, reads, truncations and flushes against an array of
 * bytes; what a failing store leaves; several threads on one file. On mem_store, where parts go in order, and on
 * localdir, where they may go anywhere.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/workers.h"
#include "fs/content.h"

struct world {
	char dir[64];
	struct mem_shared *shared;
	struct volume vol;
	struct object_store *fault; /* over `inner`; NULL: none */
	struct object_store *inner;
	struct budget *budget;
	struct workers *uploaders;
	struct content_env env;
	struct mfs_config cfg;
	struct op_ctx op;
	mfs_ino_t ino;
};

static void world_open(struct world *w, bool localdir, unsigned int fail_nth, uint64_t budget_bytes)
{
	struct volume_record rec = { .schema = MFS_SCHEMA };
	struct namespace_options no = { .retention_ns = 3600 * MFS_NSEC_PER_SEC };
	struct make m = { .parent = MFS_ROOT_INO, .name = "file", .name_len = 4, .mode = S_IFREG | 0644 };
	struct node n = NODE_INIT;

	memset(w, 0, sizeof(*w));
	strcpy(w->dir, "/tmp/massfs-content-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(mem_shared_new(&w->shared), 0);
	assert_int_equal(mem_engine_new(w->shared, &w->vol.engine), 0);
	assert_int_equal(engine_volume_put(w->vol.engine, &w->op, &rec), 0);
	if (localdir) {
		struct localdir_options lo = { .create = true, .nosync = true };

		assert_int_equal(localdir_store_open(w->dir, &lo, &w->vol.store), 0);
	} else {
		assert_int_equal(mem_store_new(&w->vol.store), 0);
	}
	if (fail_nth) {
		w->inner = w->vol.store;
		assert_int_equal(fault_store_new(w->inner, fail_nth, ENOSPC, &w->vol.store), 0);
		w->fault = w->vol.store;
	}
	assert_int_equal(namespace_new(w->vol.engine, &no, &w->vol.ns), 0);
	w->vol.cfg = &w->cfg;
	w->vol.session = 7;
	w->vol.lock_fd = -1;
	assert_int_equal(budget_new(budget_bytes, &w->budget), 0);
	assert_int_equal(workers_new("up", 3, 8, &w->uploaders), 0);
	content_env_init(&w->env, &w->vol, w->budget, w->uploaders);
	assert_int_equal(namespace_make(w->vol.ns, &w->op, &m, &n), 0);
	w->ino = n.attr.ino;
	node_release(&n);
}

static void world_close(struct world *w)
{
	char cmd[100];

	content_env_release(&w->env);
	workers_free(w->uploaders);
	assert_int_equal(budget_used(w->budget), 0);
	budget_free(w->budget);
	namespace_free(w->vol.ns);
	engine_free(w->vol.engine);
	mem_shared_free(w->shared);
	object_store_free(w->fault ? w->fault : w->vol.store);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	assert_int_equal(system(cmd), 0);
}

static struct content *open_writer(struct world *w)
{
	struct content *c = NULL;

	assert_int_equal(content_open(&w->env, &w->op, w->ino, &c), 0);
	content_writer_opened(c);
	return c;
}

static void close_writer(struct content *c)
{
	content_writer_closed(c);
	content_free(c);
}

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* The file as a fresh open finds it. */
static void assert_stored(struct world *w, const unsigned char *want, size_t size)
{
	unsigned char *got = malloc(size + 1);
	struct content *c = NULL;
	struct node n = NODE_INIT;

	assert_int_equal(namespace_get(w->vol.ns, &w->op, w->ino, &n), 0);
	assert_int_equal(n.attr.size, size);
	node_release(&n);
	assert_int_equal(content_open(&w->env, &w->op, w->ino, &c), 0);
	assert_int_equal(content_read(c, &w->op, 0, got, size + 1), size);
	assert_memory_equal(got, want, size);
	content_free(c);
	free(got);
}

static void random_run(bool localdir, uint64_t seed, size_t span, uint64_t budget_bytes, int ops)
{
	unsigned char *model = calloc(1, span), *buf = malloc(span);
	struct world w;
	struct content *c;
	size_t size = 0;

	world_open(&w, localdir, 0, budget_bytes);
	c = open_writer(&w);
	for (int i = 0; i < ops; i++) {
		uint64_t off = rnd(&seed) % span, len = 1 + rnd(&seed) % (rnd(&seed) % 8 ? span / 50 : span / 3);

		len = MFS_MIN(len, span - off);
		switch (rnd(&seed) % 10) {
		case 0:
			assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
			break;
		case 1: {
			size_t to = rnd(&seed) % 3 ? (size_t)(rnd(&seed) % span) : 0;

			assert_int_equal(content_truncate(c, &w.op, to, NULL), 0);
			if (to < size)
				memset(model + to, 0, size - to);
			size = to;
			break;
		}
		case 2:
			if (rnd(&seed) % 4)
				break;
			assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
			close_writer(c);
			assert_stored(&w, model, size);
			c = open_writer(&w);
			break;
		case 3:
		case 4: {
			ssize_t n = content_read(c, &w.op, off, buf, len);
			size_t want = off >= size ? 0 : MFS_MIN(len, size - off);

			assert_int_equal(n, want);
			assert_memory_equal(buf, model + off, want);
			break;
		}
		case 5: /* sequential, so that parts fill */
			off = size;
			len = MFS_MIN(len * 4, span - off);
			if (!len)
				break;
			/* fall through */
		default:
			for (size_t j = 0; j < len; j++)
				buf[j] = (unsigned char)(rnd(&seed) >> 9);
			assert_int_equal(content_write(c, &w.op, off, buf, len, false), 0);
			memcpy(model + off, buf, len);
			size = MFS_MAX(size, off + len);
		}
	}
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	close_writer(c);
	assert_stored(&w, model, size);
	world_close(&w);
	free(model);
	free(buf);
}

static void test_random_operations__match_an_array(void **state)
{
	const char *env = getenv("MASSFS_MODEL_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)mfs_now_ns();

	(void)state;
	for (int localdir = 0; localdir < 2; localdir++) {
		print_message("seed %llu localdir %d\n", (unsigned long long)seed, localdir);
		random_run(localdir, seed | 1, 100000, UINT64_C(64) << 20, 2000);
		random_run(localdir, seed | 1, 3 * OBJECT_PART_MIN + 12345, UINT64_C(64) << 20, 150);
		/* A budget of two parts: room has to be made all the time. */
		random_run(localdir, seed | 1, 4 * OBJECT_PART_MIN, 2 * OBJECT_PART_MIN, 100);
	}
}

static void test_append__goes_to_the_end(void **state)
{
	struct world w;
	struct content *c;

	(void)state;
	world_open(&w, true, 0, UINT64_C(64) << 20);
	c = open_writer(&w);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(content_write(c, &w.op, 0, "ab", 2, true), 0);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	assert_int_equal(content_write(c, &w.op, 0, "cd", 2, true), 0);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	close_writer(c);
	unsigned char want[2002];
	for (int i = 0; i < 2000; i++)
		want[i] = i % 2 ? 'b' : 'a';
	memcpy(want + 2000, "cd", 2);
	assert_stored(&w, want, sizeof(want));
	world_close(&w);
}

static size_t count_versions(struct world *w)
{
	struct version_list l = { 0 };
	size_t n;

	assert_int_equal(engine_versions_by_ino(w->vol.engine, &w->op, w->ino, &l), 0);
	n = l.n;
	version_list_release(&l);
	return n;
}

/* The kernel waits for FLUSH and not for RELEASE: the next writer may be here before the last one is gone. */
static void test_reopened_before_the_release__keeps_each_closed_state(void **state)
{
	struct world w;
	struct content *c;

	(void)state;
	world_open(&w, true, 0, UINT64_C(64) << 20);
	c = open_writer(&w);
	for (int i = 0; i < 4; i++) {
		if (i) {
			content_writer_opened(c);
			assert_int_equal(content_truncate(c, &w.op, 0, NULL), 0);
		}
		assert_int_equal(content_write(c, &w.op, 0, "abcd", 1 + (size_t)i, false), 0);
		assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0); /* an fsync makes no version */
		assert_int_equal(content_write(c, &w.op, 0, "efgh", 1 + (size_t)i, false), 0);
		assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
		content_closed(c);
	}
	for (int i = 0; i < 3; i++)
		content_writer_closed(c);
	close_writer(c);
	assert_stored(&w, (const unsigned char *)"efgh", 4);
	assert_int_equal(count_versions(&w), 3);
	world_close(&w);
}

/* The record names the object, though the answer was an error: the bytes must still be there. */
static void test_commit_that_fails_after_it_was_applied__keeps_the_object(void **state)
{
	struct fault_plan plan = { .nth = 1, .err = EIO, .fail_after = true };
	struct engine *inner;
	struct world w;
	struct content *c;
	int failed = 0;

	(void)state;
	world_open(&w, true, 0, UINT64_C(64) << 20);
	inner = w.vol.engine;
	c = open_writer(&w);
	assert_int_equal(content_write(c, &w.op, 0, "bytes", 5, false), 0);
	namespace_free(w.vol.ns);
	assert_int_equal(fault_engine_new(inner, &plan, &w.vol.engine), 0);
	w.vol.engine->session = inner->session;
	assert_int_equal(namespace_new(w.vol.engine, &(struct namespace_options){ .retention_ns = 3600 * MFS_NSEC_PER_SEC },
				       &w.vol.ns), 0);
	failed = content_flush(c, &w.op, NULL, NULL);
	assert_int_equal(failed, -EIO);
	assert_int_equal(fault_engine_hits(w.vol.engine), 1);
	content_give_up(c, &w.op, failed);
	close_writer(c);
	assert_stored(&w, (const unsigned char *)"bytes", 5);
	world_close(&w);
}

static void test_too_big__is_efbig(void **state)
{
	struct world w;
	struct content *c;

	(void)state;
	world_open(&w, true, 0, UINT64_C(64) << 20);
	c = open_writer(&w);
	assert_int_equal(content_write(c, &w.op, (uint64_t)MFS_FILE_SIZE_MAX, "a", 1, false), -EFBIG);
	assert_int_equal(content_write(c, &w.op, UINT64_MAX, "a", 1, false), -EFBIG);
	assert_int_equal(content_truncate(c, &w.op, (uint64_t)MFS_FILE_SIZE_MAX + 1, NULL), -EFBIG);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	close_writer(c);
	world_close(&w);
}

/* The nth store call fails: the error comes out of a write or a flush, and a fresh open finds the content of the last
 * flush that gave 0, whole. */
static void fail_run(bool localdir, size_t chunk, unsigned int *ret_calls, unsigned int nth)
{
	unsigned char *old = malloc(chunk), *new = malloc(chunk * 2);
	const unsigned char *now = NULL;
	size_t now_size = 0;
	struct world w;
	struct content *c;
	bool failed = false;

	memset(old, 'o', chunk);
	memset(new, 'n', chunk * 2);
	world_open(&w, localdir, nth, UINT64_C(64) << 20);
	c = open_writer(&w);
	failed |= content_write(c, &w.op, 0, old, chunk, false) < 0;
	if (content_flush(c, &w.op, NULL, NULL) == 0 && !failed) {
		now = old;
		now_size = chunk;
	} else {
		failed = true;
	}
	close_writer(c);
	c = open_writer(&w);
	if (content_truncate(c, &w.op, 0, NULL) == 0) {
		int r = content_write(c, &w.op, 0, new, chunk * 2, false);
		int f = content_flush(c, &w.op, NULL, NULL);

		failed |= r < 0 || f < 0;
		if (r == 0 && f == 0) {
			now = new;
			now_size = chunk * 2;
		}
	} else {
		failed = true;
	}
	close_writer(c);
	*ret_calls = fault_store_hits(w.fault);
	w.vol.store = w.inner; /* what is checked now must not fail */
	/* Reported and nothing changed, or done again and all of it is there (a part that was not yet sent): never both,
	 * never neither. */
	if (!*ret_calls)
		assert_false(failed);
	if (!failed)
		assert_ptr_equal(now, new);
	assert_stored(&w, now ? now : old, now_size);
	world_close(&w);
	free(old);
	free(new);
}

static void test_failing_store__reports_and_keeps_the_old_content(void **state)
{
	(void)state;
	for (int localdir = 0; localdir < 2; localdir++) {
		unsigned int hits = 1;

		for (unsigned int n = 1; hits; n++)
			fail_run(localdir, 5000, &hits, n);
		hits = 1;
		for (unsigned int n = 1; hits; n++)
			fail_run(localdir, OBJECT_PART_MIN + 100, &hits, n);
	}
}

struct thread_arg {
	struct world *w;
	struct content *c;
	unsigned int id;
	const char *err; /* what failed; NULL: nothing */
};
#define THREADS 4
#define STRIPE	(OBJECT_PART_MIN / 2)

static const char *write_stripe(struct thread_arg *a)
{
	struct op_ctx op = { 0 };
	unsigned char buf[4096], got[4096];
	uint64_t seed = a->id + 99;

	memset(buf, 'A' + (int)a->id, sizeof(buf));
	for (int i = 0; i < 300; i++) {
		uint64_t at = (uint64_t)a->id * STRIPE + rnd(&seed) % (STRIPE / 4096) * 4096;

		if (content_write(a->c, &op, at, buf, sizeof(buf), false) < 0)
			return "write";
		if (content_read(a->c, &op, at, got, sizeof(got)) != sizeof(got) || memcmp(got, buf, sizeof(got)) != 0)
			return "read back";
		if (rnd(&seed) % 40 == 0 && content_flush(a->c, &op, NULL, NULL) < 0)
			return "flush";
	}
	for (uint64_t at = 0; at < STRIPE; at += sizeof(buf)) {
		if (content_write(a->c, &op, (uint64_t)a->id * STRIPE + at, buf, sizeof(buf), false) < 0)
			return "write";
	}
	return content_flush(a->c, &op, NULL, NULL) < 0 ? "flush" : NULL;
}

static void *writer_main(void *p)
{
	struct thread_arg *a = p;

	a->err = write_stripe(a);
	return NULL;
}

static void test_threads__write_one_file(void **state)
{
	unsigned char *want = malloc(THREADS * STRIPE);

	(void)state;
	for (int localdir = 0; localdir < 2; localdir++) {
		struct thread_arg a[THREADS];
		pthread_t t[THREADS];
		struct world w;
		struct content *c;

		world_open(&w, localdir, 0, UINT64_C(20) << 20);
		c = open_writer(&w);
		for (unsigned int i = 0; i < THREADS; i++) {
			a[i] = (struct thread_arg){ &w, c, i, NULL };
			memset(want + i * STRIPE, 'A' + (int)i, STRIPE);
			assert_int_equal(pthread_create(&t[i], NULL, writer_main, &a[i]), 0);
		}
		for (unsigned int i = 0; i < THREADS; i++) {
			pthread_join(t[i], NULL);
			if (a[i].err)
				fail_msg("localdir %d thread %u: %s", localdir, i, a[i].err);
		}
		close_writer(c);
		assert_stored(&w, want, THREADS * STRIPE);
		world_close(&w);
	}
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations__match_an_array),
		cmocka_unit_test(test_append__goes_to_the_end),
		cmocka_unit_test(test_reopened_before_the_release__keeps_each_closed_state),
		cmocka_unit_test(test_commit_that_fails_after_it_was_applied__keeps_the_object),
		cmocka_unit_test(test_too_big__is_efbig),
		cmocka_unit_test(test_failing_store__reports_and_keeps_the_old_content),
		cmocka_unit_test(test_threads__write_one_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
