/*
 * Changed files: what two committers make of one file, what a store or an index that fails leaves, commit=, threads.
 */
#include "tests/lib/content_world.h"

#define KIB	   UINT64_C(1024)
#define MIB	   (KIB * 1024)
#define BIG_BUDGET (64 * MIB)

/* ---- several committers ---- */

static void test_range_writes_of_two_mounts__both_stay(void **state)
{
	(void)state;
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		unsigned char *bytes;
		struct world a, b;
		struct content *ca, *cb;
		uint64_t seed = 10;

		world_open(&a, kind, 0, BIG_BUDGET);
		bytes = make_random_file(&a, 6 * MIB);
		world_open_second(&b, &a, BIG_BUDGET);
		ca = open_writer(&a);
		cb = open_writer(&b);
		for (uint64_t i = 0; i < 300; i++) {
			struct content *c = rnd(&seed) % 2 ? ca : cb;
			struct world *w = c == ca ? &a : &b;
			uint64_t off = rnd(&seed) % (3 * MIB / 512) * 1024 + (c == ca ? 0 : 512);

			fill_random(bytes + off, 512, &seed);
			assert_int_equal(content_write(c, &w->op, off, bytes + off, 512, false), 0);
			if (rnd(&seed) % 3 == 0)
				assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
		}
		assert_int_equal(content_flush(ca, &a.op, NULL, NULL), 0);
		assert_int_equal(content_flush(cb, &b.op, NULL, NULL), 0);
		close_writer(ca);
		close_writer(cb);
		assert_stored(&a, bytes, 6 * MIB);
		world_close(&b);
		free(bytes);
		world_close(&a);
	}
}

/* Each write(2) is in the file once, whole, and a mount's own are in order. */
static void check_appended(struct world *w, size_t each, unsigned int n_a, unsigned int n_b)
{
	struct content *c = NULL;
	size_t size = (n_a + n_b) * each;
	unsigned char *got = malloc(size);
	unsigned int a = 0, b = 0;

	assert_int_equal(content_open(&w->env, &w->op, w->ino, &c), 0);
	assert_int_equal(content_read(c, &w->op, 0, got, size), size);
	for (size_t i = 0; i < size; i += each) {
		unsigned int *n = got[i] == 'a' ? &a : &b;

		assert_true(got[i] == 'a' || got[i] == 'b');
		for (size_t k = 1; k < each; k++)
			assert_int_equal(got[i + k], *n % 251);
		++*n;
	}
	assert_int_equal(a, n_a);
	assert_int_equal(b, n_b);
	content_free(c);
	free(got);
}

static void test_appends_of_two_mounts__lose_nothing(void **state)
{
	(void)state;
	/* Small, and beyond what is written anew as a whole. */
	for (size_t each = 100; each <= 3000; each += 2900) {
		unsigned char rec[3000];
		unsigned int n[2] = { 0 };
		struct world a, b;
		struct content *c[2];
		uint64_t seed = 11;

		world_open(&a, STORE_MEM, 0, BIG_BUDGET);
		world_open_second(&b, &a, BIG_BUDGET);
		c[0] = open_writer(&a);
		c[1] = open_writer(&b);
		for (int i = 0; i < 500; i++) {
			unsigned int who = rnd(&seed) % 2;
			struct world *w = who ? &b : &a;

			memset(rec, (int)(n[who] % 251), each);
			rec[0] = who ? 'b' : 'a';
			assert_int_equal(content_write(c[who], &w->op, 0, rec, each, true), 0);
			n[who]++;
			if (rnd(&seed) % 4 == 0)
				assert_int_equal(content_flush(c[who], &w->op, NULL, NULL), 0);
		}
		assert_int_equal(content_flush(c[0], &a.op, NULL, NULL), 0);
		assert_int_equal(content_flush(c[1], &b.op, NULL, NULL), 0);
		close_writer(c[0]);
		close_writer(c[1]);
		check_appended(&a, each, n[0], n[1]);
		world_close(&b);
		world_close(&a);
	}
}

static void test_rewrite_that_lost_the_race__replaces_and_keeps_a_version(void **state)
{
	struct content *ca, *cb;
	struct world a, b;
	unsigned char *bytes;
	uint64_t seed = 12;

	(void)state;
	world_open(&a, STORE_MEM, 0, BIG_BUDGET);
	bytes = make_random_file(&a, MIB);
	world_open_second(&b, &a, BIG_BUDGET);
	ca = open_writer(&a);
	cb = open_writer(&b);
	assert_int_equal(content_truncate(ca, &a.op, 0, NULL), 0);
	assert_int_equal(content_write(ca, &a.op, 0, "anew", 4, false), 0);
	write_random(&b, cb, bytes, 0, 4096, &seed);
	assert_int_equal(count_versions(&a), 1);
	assert_int_equal(content_flush(ca, &a.op, NULL, NULL), 0);
	assert_int_equal(count_versions(&a), 2);
	close_writer(ca);
	close_writer(cb);
	assert_stored(&a, (const unsigned char *)"anew", 4);
	world_close(&b);
	free(bytes);
	world_close(&a);
}

/* As the reconciler does it: the same bytes in one object, lay rises, data does not. */
static void settle(struct world *w)
{
	struct node n = file_node(w);
	unsigned char *buf = malloc(n.attr.size);
	struct object_info info;
	struct mfs_attr attr;
	struct object_meta meta = volume_object_meta(&w->vol, &n.attr);
	struct content *c = NULL;
	char key[] = "file";

	assert_int_equal(content_open(&w->env, &w->op, w->ino, &c), 0);
	assert_int_equal(content_read(c, &w->op, 0, buf, n.attr.size), n.attr.size);
	content_free(c);
	assert_int_equal(object_put(w->vol.store, &w->op, NULL, key, buf, n.attr.size, &meta, &info), 0);
	struct commit cm = { .ino = w->ino,
			     .lay = n.attr.lay,
			     .ref = { .key = key },
			     .obj_len = n.attr.size,
			     .size = n.attr.size,
			     .alloc = info.alloc,
			     .settle = true,
			     .durable = true };
	memcpy(cm.ref.version, info.version, sizeof(cm.ref.version));
	assert_int_equal(namespace_commit(w->vol.ns, &w->op, &cm, &attr), 0);
	node_release(&n);
	free(buf);
}

static void test_settle_below_an_open_file__changes_no_byte(void **state)
{
	unsigned char *bytes, *got = malloc(6 * MIB);
	struct content *c, *reader = NULL;
	uint64_t seed = 13, data;
	struct world w, other;
	struct node n;

	(void)state;
	world_open(&w, STORE_MEM, 0, BIG_BUDGET);
	bytes = make_random_file(&w, 6 * MIB);
	world_open_second(&other, &w, BIG_BUDGET);
	c = open_writer(&w);
	for (int i = 0; i < 20; i++) {
		write_random(&w, c, bytes, rnd(&seed) % (5 * MIB), 5000, &seed);
		fill_random(bytes + 100 * i, 50, &seed);
		assert_int_equal(content_write(c, &w.op, 100 * (uint64_t)i, bytes + 100 * i, 50, false),
				 0); /* dirty across */
		n = file_node(&w);
		data = n.attr.data;
		node_release(&n);
		settle(&other);
		n = file_node(&w);
		assert_int_equal(n.attr.data, data);
		node_release(&n);
	}
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	/* A reader that has the state before, whose objects are gone by now. */
	assert_int_equal(content_open(&w.env, &w.op, w.ino, &reader), 0);
	settle(&other);
	{
		struct dropped_list l = { 0 };

		assert_int_equal(engine_dropped(w.vol.engine, &w.op, INT64_MAX, 0, 10000, &l), 0);
		assert_true(l.n > 0);
		for (size_t i = 0; i < l.n; i++) {
			if (!object_ref_is_empty(&l.v[i].ref))
				assert_int_equal(object_delete_version(w.vol.store, &w.op, &l.v[i].ref), 0);
		}
		dropped_list_release(&l);
	}
	assert_int_equal(content_read(reader, &w.op, 0, got, 6 * MIB), 6 * MIB);
	assert_memory_equal(got, bytes, 6 * MIB);
	content_free(reader);
	close_writer(c);
	assert_stored(&w, bytes, 6 * MIB);
	world_close(&other);
	free(bytes);
	free(got);
	world_close(&w);
}

/* ---- what fails ---- */

struct story {
	unsigned char *bytes;
	size_t size;
	bool failed;
};

/* Flush, and once more if it failed: what was written is not lost by that. */
static void flush_twice(struct world *w, struct content *c, struct story *s)
{
	int r = content_flush(c, &w->op, NULL, NULL);

	if (r < 0) {
		s->failed = true;
		r = content_flush(c, &w->op, NULL, NULL);
	}
	assert_int_equal(r, 0);
}

static void tell(struct world *w, struct story *s)
{
	struct content *c = open_writer(w);
	uint64_t seed = 14;

	s->size = 7 * MIB;
	s->bytes = calloc(1, s->size);
	fill_random(s->bytes, 70 * KIB, &seed);
	assert_int_equal(content_write(c, &w->op, 0, s->bytes, 70 * KIB, false), 0);
	flush_twice(w, c, s);
	for (uint64_t i = 0; i < 3; i++) { /* patches that swallow each other */
		fill_random(s->bytes + i * 9000, 100, &seed);
		assert_int_equal(content_write(c, &w->op, i * 9000, s->bytes + i * 9000, 100, false), 0);
		flush_twice(w, c, s);
	}
	assert_int_equal(content_punch(c, &w->op, 20000, 3000), 0);
	memset(s->bytes + 20000, 0, 3000);
	assert_int_equal(content_truncate(c, &w->op, s->size, NULL), 0);
	fill_random(s->bytes + 50, 100, &seed);
	assert_int_equal(content_write(c, &w->op, 50, s->bytes + 50, 100, false), 0);
	flush_twice(w, c, s);
	fill_random(s->bytes + MIB, 6 * MIB, &seed); /* in parts */
	assert_int_equal(content_write(c, &w->op, MIB, s->bytes + MIB, 6 * MIB, false), 0);
	flush_twice(w, c, s);
	fill_random(s->bytes, 1000, &seed);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(content_write(c, &w->op, s->size - 5 + i, "x", 1, true), 0);
	s->bytes = realloc(s->bytes, s->size + 5);
	memset(s->bytes + s->size, 'x', 5);
	s->size += 5;
	assert_int_equal(content_write(c, &w->op, 0, s->bytes, 1000, false), 0);
	flush_twice(w, c, s);
	close_writer(c);
}

static void test_failing_store__keeps_the_bytes_for_the_next_flush(void **state)
{
	(void)state;
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		unsigned int hits = 1;

		for (unsigned int nth = 1; hits; nth++) {
			struct world_options o = { .store = kind, .budget = BIG_BUDGET, .fail_nth = nth };
			struct story s = { 0 };
			struct world w;

			world_open_opt(&w, &o);
			tell(&w, &s);
			hits = fault_store_hits(w.fault);
			w.vol.store = w.inner; /* what is checked now must not fail */
			assert_stored(&w, s.bytes, s.size);
			free(s.bytes);
			world_close(&w);
		}
	}
}

static void engine_fails(unsigned int nth, bool after, unsigned int *ret_hits)
{
	struct fault_plan plan = { .nth = nth, .err = EIO, .fail_after = after };
	struct namespace_options no = { .retention_ns = 3600 * MFS_NSEC_PER_SEC };
	struct engine *inner;
	struct story s = { 0 };
	struct world w;

	world_open(&w, STORE_MEM, 0, BIG_BUDGET);
	inner = w.vol.engine;
	namespace_free(w.vol.ns);
	assert_int_equal(fault_engine_new(inner, &plan, &w.vol.engine), 0);
	w.vol.engine->session = inner->session;
	assert_int_equal(namespace_new(w.vol.engine, &no, &w.vol.ns), 0);
	tell(&w, &s);
	*ret_hits = fault_engine_hits(w.vol.engine);
	if (*ret_hits) /* else the failure waits for what checks it */
		assert_stored(&w, s.bytes, s.size);
	free(s.bytes);
	world_close(&w);
}

static void test_failing_index__neither_loses_nor_doubles(void **state)
{
	(void)state;
	for (int after = 0; after < 2; after++) {
		unsigned int hits = 1;

		/* The first two calls are the open's: whether there are storage rules, and the record. */
		for (unsigned int nth = after ? 1 : 3; hits; nth++)
			engine_fails(nth, after, &hits);
	}
}

static void test_missing_object__is_an_error(void **state)
{
	unsigned char *bytes, got[4096];
	struct content *c = NULL;
	uint64_t seed = 15;
	struct object_ref ref;
	struct world w;
	struct layout l;
	struct node n;

	(void)state;
	world_open(&w, STORE_MEM, 0, BIG_BUDGET);
	bytes = make_random_file(&w, 6 * MIB);
	c = open_writer(&w);
	write_random(&w, c, bytes, MIB, 4096, &seed);
	close_writer(c);
	l = file_layout(&w, &n);
	assert_int_equal(layout_segment_ref(&l.segments[0], &ref), 0);
	assert_int_equal(object_delete_version(w.vol.store, &w.op, &ref), 0);
	object_ref_release(&ref);
	layout_release(&l);
	node_release(&n);
	assert_int_equal(content_open(&w.env, &w.op, w.ino, &c), 0);
	assert_int_equal(content_read(c, &w.op, 0, got, sizeof(got)), sizeof(got));
	assert_memory_equal(got, bytes, sizeof(got));
	assert_int_equal(content_read(c, &w.op, MIB, got, sizeof(got)), -EIO);
	content_free(c);
	free(bytes);
	world_close(&w);
}

/* ---- commit= ---- */

static void test_tick__commits_what_is_dirty_for_long(void **state)
{
	unsigned char *bytes;
	struct mfs_attr attr;
	struct content *c;
	uint64_t seed = 16;
	struct world w;
	int64_t now;

	(void)state;
	world_open(&w, STORE_MEM, 0, BIG_BUDGET);
	bytes = make_random_file(&w, 6 * MIB);
	c = open_writer(&w);
	fill_random(bytes, 100, &seed);
	assert_int_equal(content_write(c, &w.op, 0, bytes, 100, false), 0);
	now = mfs_mono_ns();
	content_env_tick(&w.env, &w.op, now);
	assert_true(content_is_dirty(c));
	content_env_tick(&w.env, &w.op, now + 2 * MFS_NSEC_PER_SEC);
	assert_false(content_is_dirty(c));
	assert_stored(&w, bytes, 6 * MIB);
	/* What was committed so is seen by stat. */
	attr = (struct mfs_attr){ .ino = w.ino };
	content_overlay(c, &attr);
	assert_int_equal(attr.size, 6 * MIB);
	close_writer(c);
	free(bytes);
	world_close(&w);
}

/* ---- threads ---- */

#define THREADS 4
#define STRIPE	(MIB / 2)

struct hand {
	struct world *w;
	struct content *c;
	unsigned int id;
	unsigned char *bytes; /* of the whole file; each writes its own stripes */
	const char *err;
};

static const char *work(struct hand *h)
{
	struct op_ctx op = { 0 };
	unsigned char got[3000];
	uint64_t seed = h->id + 99, end;

	for (int i = 0; i < 400; i++) {
		uint64_t base = (rnd(&seed) % 3 * THREADS + h->id) * STRIPE,
			 off = base + rnd(&seed) % (STRIPE - sizeof(got));
		size_t len = 1 + rnd(&seed) % sizeof(got);

		if (rnd(&seed) % 8 == 0) {
			memset(h->bytes + off, 0, len);
			if (content_punch(h->c, &op, off, len) < 0)
				return "punch";
		} else {
			fill_random(h->bytes + off, len, &seed);
			if (content_write(h->c, &op, off, h->bytes + off, len, false) < 0)
				return "write";
		}
		if (content_read(h->c, &op, off, got, len) != (ssize_t)len ||
		    memcmp(got, h->bytes + off, len) != 0)
			return "read back";
		if (rnd(&seed) % 10 == 0 && content_flush(h->c, &op, NULL, NULL) < 0)
			return "flush";
		if (rnd(&seed) % 20 == 0 && content_seek(h->c, &op, off, SEEK_HOLE, &end) < 0)
			return "seek";
		if (rnd(&seed) % 50 == 0)
			content_env_tick(&h->w->env, &op, mfs_mono_ns() + 5 * MFS_NSEC_PER_SEC);
	}
	return content_flush(h->c, &op, NULL, NULL) < 0 ? "flush" : NULL;
}

static void *hand_main(void *p)
{
	struct hand *h = p;

	h->err = work(h);
	return NULL;
}

static void test_threads__change_one_old_file(void **state)
{
	(void)state;
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		struct hand h[THREADS];
		pthread_t t[THREADS];
		unsigned char *bytes;
		struct content *c;
		struct world w;

		world_open(&w, kind, 0, kind == STORE_MEM ? 2 * OBJECT_PART_MIN : BIG_BUDGET);
		w.env.slices_max = 100; /* the compactor is always at it */
		bytes = make_random_file(&w, 3 * THREADS * STRIPE);
		c = open_writer(&w);
		for (unsigned int i = 0; i < THREADS; i++) {
			h[i] = (struct hand){ &w, c, i, bytes, NULL };
			assert_int_equal(pthread_create(&t[i], NULL, hand_main, &h[i]), 0);
		}
		for (unsigned int i = 0; i < THREADS; i++) {
			pthread_join(t[i], NULL);
			if (h[i].err)
				fail_msg("store %d thread %u: %s", (int)kind, i, h[i].err);
		}
		close_writer(c);
		assert_stored(&w, bytes, 3 * THREADS * STRIPE);
		free(bytes);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_range_writes_of_two_mounts__both_stay),
		cmocka_unit_test(test_appends_of_two_mounts__lose_nothing),
		cmocka_unit_test(test_rewrite_that_lost_the_race__replaces_and_keeps_a_version),
		cmocka_unit_test(test_settle_below_an_open_file__changes_no_byte),
		cmocka_unit_test(test_failing_store__keeps_the_bytes_for_the_next_flush),
		cmocka_unit_test(test_failing_index__neither_loses_nor_doubles),
		cmocka_unit_test(test_missing_object__is_an_error),
		cmocka_unit_test(test_tick__commits_what_is_dirty_for_long),
		cmocka_unit_test(test_threads__change_one_old_file),
	};

	if (getenv("MASSFS_TEST_ONLY")) /* a pattern, as test_threads* */
		cmocka_set_test_filter(getenv("MASSFS_TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
