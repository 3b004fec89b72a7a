/*
 * fs/content over real stores and the mem engine: random writes, reads, holes, truncations and flushes against an array
 * of bytes; what a failing store or index leaves; several threads on one file. What changes in old files has its own
 * tests in test_content_patch.c.
 */
#include "tests/lib/content_world.h"

struct model {
	unsigned char *bytes;
	size_t size, span;
	uint64_t seed;
};

/* Where lseek finds data or holes may differ from what was written, but all that is not zero is data. */
static void check_seek(struct world *w, struct content *c, const struct model *m, uint64_t off)
{
	uint64_t data = 0, hole = 0;
	int r = content_seek(c, &w->op, off, SEEK_DATA, &data);

	if (off >= m->size) {
		assert_int_equal(r, -ENXIO);
		assert_int_equal(content_seek(c, &w->op, off, SEEK_HOLE, &hole), -ENXIO);
		return;
	}
	if (r == -ENXIO)
		data = m->size;
	else
		assert_int_equal(r, 0);
	assert_in_range(data, off, m->size);
	for (uint64_t i = off; i < data; i++)
		assert_int_equal(m->bytes[i], 0);
	assert_int_equal(content_seek(c, &w->op, off, SEEK_HOLE, &hole), 0);
	assert_in_range(hole, off, m->size);
}

static void random_write(struct world *w, struct content *c, struct model *m, uint64_t off, uint64_t len, unsigned char *buf,
			 bool append)
{
	for (size_t j = 0; j < len; j++)
		buf[j] = (unsigned char)(rnd(&m->seed) >> 9);
	if (append)
		off = m->size;
	assert_int_equal(content_write(c, &w->op, append ? 0 : off, buf, len, append), 0);
	memcpy(m->bytes + off, buf, len);
	m->size = MFS_MAX(m->size, off + len);
}

static void random_truncate(struct world *w, struct content *c, struct model *m)
{
	size_t to = rnd(&m->seed) % 5 ? (size_t)(rnd(&m->seed) % m->span) : 0;

	assert_int_equal(content_truncate(c, &w->op, to, NULL), 0);
	if (to < m->size)
		memset(m->bytes + to, 0, m->size - to);
	m->size = to;
}

static struct content *random_reopen(struct world *w, struct content *c, struct model *m)
{
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
	close_writer(c);
	assert_stored(w, m->bytes, m->size);
	return open_writer(w);
}

static void random_step(struct world *w, struct content **c, struct model *m, unsigned char *buf)
{
	uint64_t off = rnd(&m->seed) % m->span, len = 1 + rnd(&m->seed) % (rnd(&m->seed) % 8 ? m->span / 50 : m->span / 3);
	ssize_t n;

	len = MFS_MIN(len, m->span - off);
	switch (rnd(&m->seed) % 16) {
	case 0:
	case 1:
	case 2:
		assert_int_equal(content_flush(*c, &w->op, NULL, NULL), 0);
		break;
	case 3:
		random_truncate(w, *c, m);
		break;
	case 4:
		if (rnd(&m->seed) % 4 == 0)
			*c = random_reopen(w, *c, m);
		break;
	case 5:
	case 6:
		n = content_read(*c, &w->op, off, buf, len);
		assert_int_equal(n, off >= m->size ? 0 : MFS_MIN(len, m->size - off));
		assert_memory_equal(buf, m->bytes + off, (size_t)n);
		break;
	case 7:
	case 8:
		assert_int_equal(content_punch(*c, &w->op, off, len), 0);
		if (off < m->size)
			memset(m->bytes + off, 0, MFS_MIN(len, m->size - off));
		break;
	case 9:
		check_seek(w, *c, m, off);
		break;
	case 10: /* sequential, so that parts fill */
		len = MFS_MIN(len * 4, m->span - m->size);
		if (len)
			random_write(w, *c, m, m->size, len, buf, rnd(&m->seed) % 2);
		break;
	default:
		random_write(w, *c, m, off, len, buf, false);
	}
}

static void random_run(const struct world_options *o, uint64_t seed, size_t span, int ops)
{
	struct model m = { .bytes = calloc(1, span), .span = span, .seed = seed };
	unsigned char *buf = malloc(span);
	struct world w;
	struct content *c;

	world_open_opt(&w, o);
	/* Bounds so low that composing goes on all the time. */
	if (seed % 3 == 0)
		w.env.slices_max = 40;
	if (seed % 3 == 1)
		w.env.segments_max = 6;
	c = open_writer(&w);
	for (int i = 0; i < ops; i++)
		random_step(&w, &c, &m, buf);
	c = random_reopen(&w, c, &m);
	close_writer(c);
	world_close(&w);
	free(m.bytes);
	free(buf);
}

static void test_random_operations__match_an_array(void **state)
{
	const char *env = getenv("MASSFS_MODEL_SEED"), *more = getenv("MASSFS_MODEL_ROUNDS");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)mfs_now_ns();
	int rounds = more ? atoi(more) : 1;

	(void)state;
	for (int i = 0; i < rounds * STORE_KINDS * 2; i++, seed++) {
		struct world_options o = { .store = (enum store_kind)(i % STORE_KINDS), .budget = UINT64_C(64) << 20,
					   .inline_size = i / STORE_KINDS % 2 ? 16384 : 0 };

		print_message("seed %llu store %d inline %llu\n", (unsigned long long)seed, o.store,
			      (unsigned long long)o.inline_size);
		random_run(&o, seed, 100000, 1500);
		random_run(&o, seed, 1200000, 800);
		random_run(&o, seed, 3 * OBJECT_PART_MIN + 12345, 150);
		/* A budget of two parts: room has to be made all the time. */
		o.budget = 2 * OBJECT_PART_MIN;
		random_run(&o, seed, 4 * OBJECT_PART_MIN, 150);
	}
}

static void test_append__goes_to_the_end(void **state)
{
	struct world w;
	struct content *c;

	(void)state;
	world_open(&w, STORE_LOCAL, 0, UINT64_C(64) << 20);
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

/* The kernel waits for FLUSH and not for RELEASE: the next writer may be here before the last one is gone. */
static void test_reopened_before_the_release__keeps_each_closed_state(void **state)
{
	struct world w;
	struct content *c;

	(void)state;
	world_open(&w, STORE_LOCAL, 0, UINT64_C(64) << 20);
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
	world_open(&w, STORE_LOCAL, 0, UINT64_C(64) << 20);
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

/* close() failed, and somebody opens the file before the RELEASE of the handle that failed comes: he begins with the last
 * good state, and hears nothing of it; who had it open with the other does. */
static void test_after_a_close_that_failed__who_opens_it_begins_anew(void **state)
{
	unsigned int old, other, fresh;
	struct fault_plan plan = { .nth = 1, .err = ENOSPC };
	struct engine *inner;
	struct content *c;
	struct world w;

	(void)state;
	world_open(&w, STORE_LOCAL, 0, UINT64_C(64) << 20);
	c = open_writer(&w);
	assert_int_equal(content_write(c, &w.op, 0, "good", 4, false), 0);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	close_writer(c);
	c = open_writer(&w);
	inner = w.vol.engine;
	namespace_free(w.vol.ns);
	assert_int_equal(fault_engine_new(inner, &plan, &w.vol.engine), 0);
	w.vol.engine->session = inner->session;
	assert_int_equal(namespace_new(w.vol.engine, &(struct namespace_options){ .retention_ns = 3600 * MFS_NSEC_PER_SEC },
				       &w.vol.ns), 0);
	old = content_losses(c);
	content_writer_opened(c);
	other = content_losses(c);
	assert_int_equal(content_write(c, &w.op, 0, "lost bytes", 10, false), 0);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), -ENOSPC);
	content_give_up(c, &w.op, -ENOSPC);
	content_writer_opened(c); /* before the RELEASE */
	fresh = content_losses(c);
	assert_int_equal(content_lost(c, old), -ENOSPC);
	assert_int_equal(content_lost(c, other), -ENOSPC);
	assert_int_equal(content_lost(c, fresh), 0);
	assert_int_equal(content_write(c, &w.op, 4, " and new", 8, false), 0);
	content_writer_closed(c);
	content_writer_closed(c);
	assert_int_equal(content_lost(c, fresh), 0);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	close_writer(c);
	assert_stored(&w, (const unsigned char *)"good and new", 12);
	world_close(&w);
}

static void test_too_big__is_efbig(void **state)
{
	struct world w;
	struct content *c;

	(void)state;
	world_open(&w, STORE_LOCAL, 0, UINT64_C(64) << 20);
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
static void fail_run(enum store_kind kind, size_t chunk, unsigned int *ret_calls, unsigned int nth)
{
	unsigned char *old = malloc(chunk), *new = malloc(chunk * 2);
	const unsigned char *now = NULL;
	size_t now_size = 0;
	struct world w;
	struct content *c;
	bool failed = false;

	memset(old, 'o', chunk);
	memset(new, 'n', chunk * 2);
	world_open(&w, kind, nth, UINT64_C(64) << 20);
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
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		unsigned int hits = 1;

		for (unsigned int n = 1; hits; n++)
			fail_run(kind, 5000, &hits, n);
		hits = 1;
		for (unsigned int n = 1; hits; n++)
			fail_run(kind, OBJECT_PART_MIN + 100, &hits, n);
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
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		struct thread_arg a[THREADS];
		pthread_t t[THREADS];
		struct world w;
		struct content *c;

		world_open(&w, kind, 0, UINT64_C(20) << 20);
		c = open_writer(&w);
		for (unsigned int i = 0; i < THREADS; i++) {
			a[i] = (struct thread_arg){ &w, c, i, NULL };
			memset(want + i * STRIPE, 'A' + (int)i, STRIPE);
			assert_int_equal(pthread_create(&t[i], NULL, writer_main, &a[i]), 0);
		}
		for (unsigned int i = 0; i < THREADS; i++) {
			pthread_join(t[i], NULL);
			if (a[i].err)
				fail_msg("store %d thread %u: %s", (int)kind, i, a[i].err);
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
		cmocka_unit_test(test_after_a_close_that_failed__who_opens_it_begins_anew),
		cmocka_unit_test(test_failing_store__reports_and_keeps_the_old_content),
		cmocka_unit_test(test_threads__write_one_file),
	};

	if (getenv("MASSFS_TEST_ONLY")) /* a pattern, as test_threads* */
		cmocka_set_test_filter(getenv("MASSFS_TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
