/*
 * Reading from a store over a network (fs/read_ahead.c, fs/content_state.c): what is read in sequence is fetched ahead, in few
 * GETs and several at once; what is not, is not; the places of one read are asked for at once. And always the right bytes.
 */
#include "tests/lib/content_world.h"

#include <pthread.h>
#include <sched.h>

#include "fs/read_ahead.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define SIZE (24 * MIB + 1234)

/* Gets that take their time, and how many are under way together. */
static struct {
	struct object_store_ops ops;
	const struct object_store_ops *inner;
	struct object_store *store;
	atomic_uint now, most, fail_every, calls;
	useconds_t delay;
} slow;

static ssize_t slow_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t off, void *buf,
			size_t len)
{
	unsigned int n = atomic_fetch_add(&slow.now, 1) + 1, most = atomic_load(&slow.most), every = atomic_load(&slow.fail_every);
	ssize_t r;

	while (n > most && !atomic_compare_exchange_weak(&slow.most, &most, n))
		;
	usleep(slow.delay);
	r = every && atomic_fetch_add(&slow.calls, 1) % every == 0 ? -EIO : slow.inner->get(s, op, ref, off, buf, len);
	atomic_fetch_sub(&slow.now, 1);
	return r;
}

static void slow_down(struct world *w, useconds_t delay)
{
	slow.store = w->vol.store;
	slow.inner = slow.store->ops;
	slow.ops = *slow.inner;
	slow.ops.get = slow_get;
	slow.delay = delay;
	atomic_store(&slow.now, 0);
	atomic_store(&slow.most, 0);
	atomic_store(&slow.fail_every, 0);
	atomic_store(&slow.calls, 0);
	slow.store->ops = &slow.ops;
}

static void speed_up(void)
{
	slow.store->ops = slow.inner;
}

static unsigned char *pattern(size_t size, uint64_t seed)
{
	unsigned char *p = malloc(size);

	assert_non_null(p);
	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)(rnd(&seed) >> 32);
	return p;
}

static void flush_and_close(struct world *w, struct content *c)
{
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
	close_writer(c);
}

static struct content *write_big(struct world *w, const unsigned char *bytes)
{
	struct content *c;

	world_open(w, STORE_REMOTE, 0, 256 * MIB);
	c = open_writer(w);
	assert_int_equal(content_write(c, &w->op, 0, bytes, SIZE, false), 0);
	flush_and_close(w, c);
	assert_int_equal(content_open(&w->env, &w->op, w->ino, &c), 0);
	return c;
}

static void read_at(struct content *c, const unsigned char *bytes, uint64_t off, size_t len)
{
	unsigned char *got = malloc(len);
	struct op_ctx op = { 0 };
	ssize_t n = content_read(c, &op, off, got, len);

	assert_int_equal(n, MFS_MIN((uint64_t)len, SIZE - off));
	assert_memory_equal(got, bytes + off, (size_t)n);
	free(got);
}

static void test_in_sequence__few_gets_and_several_at_once(void **state)
{
	unsigned char *bytes = pattern(SIZE, 1);
	struct content *c;
	struct world w;
	uint64_t gets;

	(void)state;
	c = write_big(&w, bytes);
	slow_down(&w, 2000);
	gets = w.stats.gets;
	for (uint64_t off = 0; off < SIZE; off += 128 * KIB)
		read_at(c, bytes, off, 128 * KIB);
	speed_up();
	assert_in_range(w.stats.gets - gets, 24, 40); /* and not 193 */
	assert_true(atomic_load(&slow.most) >= 8);
	assert_true(budget_used(w.budget) <= READ_AHEAD_CHUNKS * READ_AHEAD_CHUNK);
	content_free(c);
	assert_int_equal(budget_used(w.budget), 0);
	free(bytes);
	world_close(&w);
}

static void test_at_random__nothing_is_fetched_ahead(void **state)
{
	unsigned char *bytes = pattern(SIZE, 2);
	struct content *c;
	uint64_t seed = 7, gets, got;
	struct world w;

	(void)state;
	c = write_big(&w, bytes);
	gets = w.stats.gets;
	got = w.stats.bytes_got;
	for (int i = 0; i < 200; i++)
		read_at(c, bytes, ((i % 2 ? 0 : SIZE / 2) + rnd(&seed) % (SIZE / 2 - 8192)) / 4096 * 4096, 4096);
	assert_true(w.stats.gets - gets <= 230);
	assert_true(w.stats.bytes_got - got < 16 * MIB);
	content_free(c);
	free(bytes);
	world_close(&w);
}

/* As the kernel does: several requests under way, in no order. */
struct reader {
	struct content *c;
	const unsigned char *bytes;
	atomic_uint *next;
};

static void *read_on(void *arg)
{
	struct reader *x = arg;

	for (;;) {
		uint64_t off = (uint64_t)atomic_fetch_add(x->next, 1) * 128 * KIB;

		if (off >= SIZE)
			return NULL;
		sched_yield();
		read_at(x->c, x->bytes, off, 128 * KIB);
	}
}

static void test_by_several__with_gets_that_fail_ahead(void **state)
{
	unsigned char *bytes = pattern(SIZE, 3);
	struct content *c;
	struct world w;

	(void)state;
	c = write_big(&w, bytes);
	for (int round = 0; round < 3; round++) {
		struct reader x = { .c = c, .bytes = bytes };
		atomic_uint next = 0;
		pthread_t t[6];

		x.next = &next;
		for (size_t i = 0; i < MFS_ARRAY_LEN(t); i++)
			assert_int_equal(pthread_create(&t[i], NULL, read_on, &x), 0);
		for (size_t i = 0; i < MFS_ARRAY_LEN(t); i++)
			pthread_join(t[i], NULL);
	}
	content_free(c);
	/* A get that fails ahead of need is not the reader's failure. */
	assert_int_equal(content_open(&w.env, &w.op, w.ino, &c), 0);
	read_at(c, bytes, 0, 4096);
	slow_down(&w, 0);
	atomic_store(&slow.fail_every, 1);
	read_ahead_note(c, 4096, 4096);
	while (atomic_load(&slow.calls) == 0 || atomic_load(&slow.now))
		usleep(1000);
	speed_up();
	read_at(c, bytes, 4096, 4096);
	read_at(c, bytes, 512 * KIB, 128 * KIB);
	content_free(c);
	free(bytes);
	world_close(&w);
}

/* The file changes under who reads it: chunks of before are not used. */
static void test_written_meanwhile(void **state)
{
	unsigned char *bytes = pattern(SIZE, 4);
	struct content *c;
	struct world w;

	(void)state;
	c = write_big(&w, bytes);
	content_writer_opened(c);
	for (uint64_t off = 0, i = 0; off + 256 * KIB < SIZE; off += 256 * KIB, i++) {
		read_at(c, bytes, off, 128 * KIB);
		if (i % 3)
			continue;
		memset(bytes + off + 100 * KIB, (int)i, 300 * KIB);
		assert_int_equal(content_write(c, &w.op, off + 100 * KIB, bytes + off + 100 * KIB, 300 * KIB, false), 0);
		if (i % 2)
			assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
		read_at(c, bytes, off + 64 * KIB, 512 * KIB);
	}
	flush_and_close(&w, c);
	assert_stored(&w, bytes, SIZE);
	free(bytes);
	world_close(&w);
}

/* One read over many patches. */
static void test_one_read__asks_for_its_places_at_once(void **state)
{
	unsigned char *bytes = pattern(SIZE, 5);
	struct content *c;
	struct world w;

	(void)state;
	c = write_big(&w, bytes);
	content_free(c);
	c = open_writer(&w);
	for (uint64_t i = 0; i < 8; i++) {
		uint64_t at = 8 * MIB + i * 128 * KIB;

		memset(bytes + at, (int)(i + 1), 4 * KIB);
		assert_int_equal(content_write(c, &w.op, at, bytes + at, 4 * KIB, false), 0);
		assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	}
	slow_down(&w, 20000);
	read_at(c, bytes, 8 * MIB, MIB);
	speed_up();
	assert_true(atomic_load(&slow.most) >= 6);
	flush_and_close(&w, c);
	free(bytes);
	world_close(&w);
}

/* Little memory: none is taken for it, and writers get it back. */
static void test_with_little_memory(void **state)
{
	unsigned char *bytes = pattern(SIZE, 6);
	struct content *c, *other;
	struct world w;

	(void)state;
	c = write_big(&w, bytes);
	budget_free(w.budget);
	assert_int_equal(budget_new(12 * MIB, &w.budget), 0);
	w.env.budget = w.budget;
	for (uint64_t off = 0; off < SIZE; off += 128 * KIB)
		read_at(c, bytes, off, 128 * KIB);
	assert_true(atomic_load(&w.env.ahead_bytes) <= 12 * MIB / 8);
	other = c;
	content_writer_opened(other);
	assert_int_equal(content_write(other, &w.op, 0, bytes, SIZE, false), 0);
	flush_and_close(&w, other);
	assert_stored(&w, bytes, SIZE);
	free(bytes);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_sequence__few_gets_and_several_at_once),
		cmocka_unit_test(test_at_random__nothing_is_fetched_ahead),
		cmocka_unit_test(test_by_several__with_gets_that_fail_ahead),
		cmocka_unit_test(test_written_meanwhile),
		cmocka_unit_test(test_one_read__asks_for_its_places_at_once),
		cmocka_unit_test(test_with_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
