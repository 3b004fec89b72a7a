/*
 * The bounds of the block cache: what it may take, who leaves first, one fetch for all who wait, how far it reads ahead.
 */
#include "tests/lib/cache_world.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/op_ctx.h"

/* --- bounds and eviction --- */

/* A small cache does not fetch further ahead than it can keep until it is read. */
static void test_prefetch_does_not_push_itself_out(void **state)
{
	struct cache_world *w = cache_world_open(8 * B);
	unsigned int i = cache_add(w, 40 * B);

	(void)state;
	for (uint64_t at = 0; at < 40 * B; at += 128 << 10) {
		block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, at, 16 * B);
		usleep(500);
		cache_expect(w, i, at, 128 << 10);
	}
	assert_true(cache_gets(w) <= 42);
	assert_true(cache_stats(w).prefetched >= 20);
	cache_world_free(w);
}

#define N_LOADS 6

struct load {
	struct cache_world *w;
	atomic_bool *stop;
	unsigned int seed;
};

static void *load_main(void *arg)
{
	struct load *l = arg;
	struct cache_world *w = l->w;
	char *buf = malloc(300000);
	uint64_t h = l->seed;

	for (unsigned int n = 0; n < 600; n++) {
		unsigned int i;
		uint64_t off;
		size_t len;

		h = mfs_hash_u64(h + 1);
		i = (unsigned int)(h % w->n);
		off = (h >> 8) % w->files[i].size;
		len = (h >> 40) % 300000;
		len = MFS_MIN(len, w->files[i].size - off);
		if (cache_raw_read(w, NULL, i, off, buf, len) != (ssize_t)len ||
		    memcmp(buf, w->files[i].bytes + off, len) != 0)
			abort();
		if (n % 20 == 3)
			block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, off, 3 * B);
		if (n % 50 == 7)
			block_cache_evict(w->c, &w->files[i].ref, w->files[i].size);
		if (n % 30 == 9)
			(void)block_cache_has(w->c, &w->files[i].ref, w->files[i].size);
	}
	free(buf);
	return NULL;
}

/* By statvfs, at one moment; a file that is deleted while one of the six reads it counts until it is closed. */
static void *watch_main(void *arg)
{
	struct load *l = arg;

	while (!atomic_load(l->stop)) {
		uint64_t most = l->w->limit + N_LOADS * (B + 4096) + 4096; /* the lock */
		struct statvfs st;
		uint64_t bytes;

		if (statvfs(l->w->dir, &st) < 0)
			abort();
		bytes = (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
		if (bytes > most || cache_stats(l->w).bytes > l->w->limit) {
			print_error("%llu bytes on disk, more than %llu\n", (unsigned long long)bytes,
				    (unsigned long long)most);
			abort();
		}
		usleep(500);
	}
	return NULL;
}

static void test_bound_holds_under_load(void **state)
{
	struct cache_world *w = cache_world_new(8 * B);
	pthread_t threads[N_LOADS], watcher;
	struct load loads[N_LOADS], watch;
	atomic_bool stop = false;

	(void)state;
	cache_mount_small(w, "size=200m,mode=0700");
	cache_reopen(w);
	for (unsigned int k = 0; k < 5; k++)
		cache_add(w, 4 * B + k * 1000);
	for (unsigned int k = 0; k < 10; k++)
		cache_add(w, 1 + k * 9000);
	watch = (struct load){ .w = w, .stop = &stop };
	assert_int_equal(pthread_create(&watcher, NULL, watch_main, &watch), 0);
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(threads); k++) {
		loads[k] = (struct load){ .w = w, .seed = k };
		assert_int_equal(pthread_create(&threads[k], NULL, load_main, &loads[k]), 0);
	}
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(threads); k++)
		pthread_join(threads[k], NULL);
	atomic_store(&stop, true);
	pthread_join(watcher, NULL);
	assert_int_equal(cache_stats(w).bad, 0);
	assert_true(cache_stats(w).hits && cache_stats(w).evicted && cache_stats(w).prefetched);
	block_cache_close(w->c);
	w->c = NULL;
	cache_reopen(w);
	assert_int_equal(cache_each_file(w->dir, NULL, NULL), cache_stats(w).blocks);
	cache_unmount(w);
	cache_world_free(w);
}

static unsigned int gets_of(struct cache_world *w, unsigned int i)
{
	unsigned int n = cache_gets(w);

	cache_stream(w, i);
	return cache_gets(w) - n;
}

/* What was read twice stays while streams of many times the cache's size pass; and a new hot set replaces the old. */
static void scan_resistance(uint64_t limit, unsigned int hot_blocks)
{
	struct cache_world *w = cache_world_open(limit);
	unsigned int hot = cache_add(w, hot_blocks * B), big = cache_add(w, limit * 3), other;

	cache_stream(w, hot);
	cache_stream(w, hot);
	for (unsigned int k = 0; k < 3; k++) {
		assert_int_equal(gets_of(w, big), limit * 3 / B);
		assert_int_equal(gets_of(w, hot), 0);
	}
	other = cache_add(w, hot_blocks * B);
	for (unsigned int k = 0; k < 12; k++)
		cache_stream(w, other);
	cache_stream(w, big);
	assert_int_equal(gets_of(w, other), 0);
	cache_world_free(w);
}

static void test_stream_does_not_flush_the_hot_set(void **state)
{
	(void)state;
	scan_resistance(8 * B, 2);
	scan_resistance(40 * B, 24); /* both hot sets together would not fit */
}

/* What is read again soon after it went stays then, also when it is fetched ahead; a reader's second half is no second time. */
static void test_ghosts(void **state)
{
	for (unsigned int ahead = 0; ahead < 2; ahead++) {
		struct cache_world *w = cache_world_open(20 * B);
		unsigned int a = cache_add(w, B), half = cache_add(w, B), pass = cache_add(w, 22 * B),
			     big = cache_add(w, 60 * B), n;

		(void)state;
		cache_expect(w, a, 0, B);
		cache_expect(w, half, 0, B / 2);
		cache_stream(w, pass); /* both go */
		n = cache_gets(w);
		if (ahead) {
			block_cache_prefetch(w->c, w->s, &w->files[a].ref, B, 0, B);
			for (unsigned int k = 0; !cache_stats(w).prefetched && k < 5000; k++)
				usleep(1000);
		}
		cache_expect(w, a, 0, B);
		cache_expect(w, half, B / 2, B / 2);
		assert_int_equal(cache_gets(w), n + 2);
		cache_stream(w, big);
		n = cache_gets(w);
		cache_expect(w, a, 0, B);
		assert_int_equal(cache_gets(w), n);
		cache_expect(w, half, 0, B);
		assert_int_equal(cache_gets(w), n + 1);
		cache_world_free(w);
	}
}

/* --- one fetch --- */

struct reader {
	struct cache_world *w;
	unsigned int file;
	uint64_t off;
	struct op_ctx *op;
	ssize_t r;
	char buf[1000];
	pthread_t thread;
};

static void *reader_main(void *arg)
{
	struct reader *x = arg;

	x->r = cache_raw_read(x->w, x->op, x->file, x->off, x->buf, sizeof(x->buf));
	return NULL;
}

static void start(struct reader *x, struct cache_world *w, unsigned int file, uint64_t off, struct op_ctx *op)
{
	*x = (struct reader){ .w = w, .file = file, .off = off, .op = op };
	assert_int_equal(pthread_create(&x->thread, NULL, reader_main, x), 0);
}

static void finish(struct reader *x, ssize_t want)
{
	pthread_join(x->thread, NULL);
	assert_int_equal(x->r, want);
	if (want > 0)
		assert_memory_equal(x->buf, x->w->files[x->file].bytes + x->off, (size_t)want);
}

static void test_two_readers_one_fetch(void **state)
{
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, B);
	struct reader x[8];

	(void)state;
	slow_hold(&w->slow, true);
	for (unsigned int k = 0; k < 8; k++)
		start(&x[k], w, i, k * 100000, NULL);
	slow_await(&w->slow, 1);
	usleep(20000);
	slow_hold(&w->slow, false);
	for (unsigned int k = 0; k < 8; k++)
		finish(&x[k], 1000);
	assert_int_equal(cache_gets(w), 1);
	assert_int_equal(cache_stats(w).blocks, 1);
	cache_world_free(w);
}

/* Who took a block from another's fetch has read it: when he reads it again, it is wanted again. */
static void test_waiter_has_read_the_block(void **state)
{
	struct cache_world *w = cache_world_open(16 * B);
	unsigned int hot = cache_add(w, B), big = cache_add(w, 48 * B), n;
	struct reader x;

	(void)state;
	slow_hold(&w->slow, true);
	block_cache_prefetch(w->c, w->s, &w->files[hot].ref, B, 0, B);
	slow_await(&w->slow, 1);
	start(&x, w, hot, 5000, NULL);
	usleep(20000);
	slow_hold(&w->slow, false);
	finish(&x, 1000);
	cache_await_blocks(w, 1);
	cache_expect(w, hot, 5000, 1000);
	assert_int_equal(cache_gets(w), 1);
	cache_stream(w, big);
	n = cache_gets(w);
	cache_expect(w, hot, 5000, 1000);
	assert_int_equal(cache_gets(w), n);
	cache_world_free(w);
}

static void test_waiter_can_leave(void **state)
{
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, B);
	struct op_ctx late = { .deadline_ns = mfs_mono_ns() + 30 * 1000 * 1000 }, stopped = { 0 },
		      first_op = { 0 };
	struct reader first, timed, cancelled, other;

	(void)state;
	slow_hold(&w->slow, true);
	start(&first, w, i, 0, &first_op);
	slow_await(&w->slow, 1);
	start(&timed, w, i, 5, &late);
	start(&cancelled, w, i, 5, &stopped);
	start(&other, w, i, 50000, NULL);
	finish(&timed, -ETIMEDOUT);
	atomic_store(&stopped.cancelled, true);
	finish(&cancelled, -ECANCELED);
	/* Who fetches is cancelled: who waits fetches for himself. */
	atomic_store(&first_op.cancelled, true);
	slow_hold(&w->slow, false);
	finish(&first, -ECANCELED);
	finish(&other, 1000);
	assert_int_equal(cache_gets(w), 2);
	cache_world_free(w);
}

static void test_error_is_not_kept(void **state)
{
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, B + 10);
	struct reader x[3];
	char buf[64];

	(void)state;
	slow_hold(&w->slow, true);
	atomic_store(&w->slow.fail, EIO);
	for (unsigned int k = 0; k < 3; k++)
		start(&x[k], w, i, 0, NULL);
	slow_await(&w->slow, 1);
	usleep(20000);
	slow_hold(&w->slow, false);
	for (unsigned int k = 0; k < 3; k++)
		finish(&x[k], -EIO);
	assert_int_equal(cache_raw_read(w, NULL, i, 0, buf, sizeof(buf)), -EIO);
	atomic_store(&w->slow.fail, 0);
	assert_int_equal(cache_stats(w).blocks, 0);
	assert_false(cache_stats(w).degraded);
	cache_expect(w, i, 0, B + 10);
	/* Missing in the store: said so, and not hidden by a cached block. */
	w->files[i].ref.version[0] ^= 1;
	assert_int_equal(cache_raw_read(w, NULL, i, 0, buf, sizeof(buf)), -ENOENT);
	w->files[i].ref.version[0] ^= 1;
	cache_world_free(w);
}

/* The nth get fails, for each n: the caller gets the error or bytes that are right. */
static void test_each_get_fails_once(void **state)
{
	(void)state;
	for (unsigned int nth = 1;; nth++) {
		struct cache_world *w = cache_world_open(64 * B);
		unsigned int i = cache_add(w, 3 * B), hits;
		char *buf = malloc(3 * B);
		ssize_t n;

		assert_int_equal(fault_store_new(w->slow.inner, nth, ETIMEDOUT, &w->slow.inner), 0);
		n = cache_raw_read(w, NULL, i, 0, buf, 3 * B);
		if (n < 0)
			assert_int_equal(n, -ETIMEDOUT);
		else
			assert_memory_equal(buf, w->files[i].bytes, (size_t)n);
		block_cache_close(w->c); /* prefetches under way */
		hits = fault_store_hits(w->slow.inner);
		w->c = NULL;
		cache_reopen(w);
		cache_expect(w, i, 0, 3 * B);
		cache_expect(w, i, 0, 3 * B);
		free(buf);
		cache_world_free(w);
		if (!hits)
			break;
		assert_true(nth < 20);
	}
}

/* An object that is shorter than the index says: what there is, and nothing of it kept. */
static void test_short_object(void **state)
{
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, B / 2);
	char *buf = malloc(B);

	(void)state;
	assert_int_equal(block_cache_read(w->c, NULL, w->s, &w->files[i].ref, 2 * B, 0, buf, B), B / 2);
	assert_memory_equal(buf, w->files[i].bytes, B / 2);
	assert_int_equal(cache_stats(w).blocks, 0);
	free(buf);
	cache_world_free(w);
}

static void test_prefetch(void **state)
{
	struct cache_world *w = cache_world_open(256 * B);
	unsigned int i = cache_add(w, 6 * B + 1);

	(void)state;
	block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, B + 5, UINT64_MAX);
	for (unsigned int k = 0; cache_stats(w).prefetched < 6 && k < 5000; k++)
		usleep(1000);
	assert_int_equal(cache_stats(w).prefetched, 6);
	assert_int_equal(cache_gets(w), 6);
	cache_expect(w, i, B, 6 * B);
	assert_int_equal(cache_gets(w), 6);
	cache_expect(w, i, 0, 7 * B);
	assert_int_equal(cache_gets(w), 7);
	cache_world_free(w);
}

static void *release_soon(void *arg)
{
	usleep(30000);
	slow_hold(arg, false);
	return NULL;
}

/* More than the queue holds is dropped; closing does not fetch what still waits. */
static void test_prefetch_is_bounded(void **state)
{
	struct cache_world *w = cache_world_open(512 * B);
	unsigned int i = cache_add(w, 200 * B);
	pthread_t t;

	(void)state;
	slow_hold(&w->slow, true);
	block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, 0, 200 * B);
	slow_await(&w->slow, 8);
	assert_int_equal(pthread_create(&t, NULL, release_soon, &w->slow), 0);
	block_cache_close(w->c);
	w->c = NULL;
	pthread_join(t, NULL);
	assert_true(cache_gets(w) <= 8);
	cache_world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound_holds_under_load),
		cmocka_unit_test(test_stream_does_not_flush_the_hot_set),
		cmocka_unit_test(test_ghosts),
		cmocka_unit_test(test_two_readers_one_fetch),
		cmocka_unit_test(test_waiter_has_read_the_block),
		cmocka_unit_test(test_waiter_can_leave),
		cmocka_unit_test(test_error_is_not_kept),
		cmocka_unit_test(test_each_get_fails_once),
		cmocka_unit_test(test_short_object),
		cmocka_unit_test(test_prefetch),
		cmocka_unit_test(test_prefetch_does_not_push_itself_out),
		cmocka_unit_test(test_prefetch_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
