/*
 * Changed files: what is uploaded for a change, how slices, segments and the record stay bounded. Inline files, holes.
 */
#include "tests/lib/content_world.h"

#define KIB	   UINT64_C(1024)
#define MIB	   (KIB * 1024)
#define BIG_BUDGET (64 * MIB)

static void test_small_change__uploads_the_change(void **state)
{
	(void)state;
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		unsigned char *bytes;
		uint64_t seed = 3, before;
		struct content *c;
		struct world w;
		struct layout l;
		struct node n;

		world_open(&w, kind, 0, BIG_BUDGET);
		bytes = make_random_file(&w, 8 * MIB);
		before = atomic_load(&w.stats.bytes_put);
		c = open_writer(&w);
		write_random(&w, c, bytes, 3 * MIB + 5, 4 * KIB, &seed);
		assert_int_equal(atomic_load(&w.stats.bytes_put) - before, 4 * KIB);
		l = file_layout(&w, &n);
		assert_int_equal(l.n_map, 1);
		assert_int_equal(l.n_segments, 1);
		assert_int_equal(n.attr.obj_len, 8 * MIB);
		assert_true(n.todo > mfs_now_ns());
		assert_int_equal(n.attr.alloc, 8 * MIB);
		layout_release(&l);
		node_release(&n);
		close_writer(c);
		assert_stored(&w, bytes, 8 * MIB);
		/* The state before the change is a version with its own object. */
		assert_int_equal(count_versions(&w), 1);
		free(bytes);
		world_close(&w);
	}
}

static void test_small_or_half_changed_file__is_written_anew(void **state)
{
	struct content *c;
	struct world w;
	struct node n;
	unsigned char *bytes;
	uint64_t seed = 4;

	(void)state;
	world_open(&w, STORE_LOCAL, 0, BIG_BUDGET);
	bytes = make_random_file(&w, 60 * KIB);
	c = open_writer(&w);
	write_random(&w, c, bytes, 100, 10, &seed);
	n = file_node(&w);
	assert_int_equal(n.slices.size, 0);
	assert_int_equal(n.todo, 0);
	node_release(&n);
	close_writer(c);
	assert_stored(&w, bytes, 60 * KIB);
	free(bytes);
	world_close(&w);
	world_open(&w, STORE_LOCAL, 0, BIG_BUDGET);
	bytes = make_random_file(&w, 2 * MIB);
	c = open_writer(&w);
	write_random(&w, c, bytes, MIB / 2, MIB + 1, &seed);
	n = file_node(&w);
	assert_int_equal(n.slices.size, 0);
	node_release(&n);
	close_writer(c);
	assert_stored(&w, bytes, 2 * MIB);
	free(bytes);
	world_close(&w);
}

/* Sequential and scattered fsynced writes: bytes uploaded, slices, segments, the record. */
static void scattered(const struct world_options *o, size_t file, unsigned int writes, size_t slices_max,
		      uint64_t allowed)
{
	unsigned char *bytes;
	uint64_t seed = (uint64_t)mfs_now_ns() | 1, before, put;
	int64_t first = 0, last = 0;
	size_t most = 0, segments = 0, blob = 0;
	struct content *c;
	struct world w;
	struct layout l;
	struct node n;

	print_message("seed %llu\n", (unsigned long long)seed);
	world_open_opt(&w, o);
	w.env.slices_max = slices_max;
	bytes = make_random_file(&w, file);
	before = atomic_load(&w.stats.bytes_put);
	c = open_writer(&w);
	for (unsigned int i = 0; i < writes; i++) {
		uint64_t off = rnd(&seed) % (file / 4096) * 4096;
		int64_t t = mfs_mono_ns();

		write_random(&w, c, bytes, off, 4096, &seed);
		t = mfs_mono_ns() - t;
		if (i >= 1024 && i < 2048)
			first += t;
		if (i >= writes - 1024)
			last += t;
		if (i % 256 && i + 1 < writes)
			continue;
		l = file_layout(&w, &n);
		most = MFS_MAX(most, l.n_map);
		segments = MFS_MAX(segments, l.n_segments);
		blob = MFS_MAX(blob, n.slices.size);
		layout_release(&l);
		node_release(&n);
	}
	put = atomic_load(&w.stats.bytes_put) - before;
	print_message(
		"%u writes: %.1f x uploaded in %llu objects, slices <= %zu, segments <= %zu, record <= %zu; "
		"an fsync %.0f us at first, %.0f us at last\n",
		writes, (double)put / (writes * 4096.0), (unsigned long long)atomic_load(&w.stats.puts), most,
		segments, blob, (double)first / 1024e3, (double)last / 1024e3);
	assert_true(put <= allowed * writes * 4096);
	assert_in_range(most, 1, slices_max ? slices_max + 256 : LAYOUT_SLICES_MAX);
	assert_in_range(segments, 1, LAYOUT_SEGMENTS_MAX);
	assert_in_range(blob, 1, LAYOUT_BLOB_MAX);
	close_writer(c);
	assert_stored(&w, bytes, file);
	free(bytes);
	world_close(&w);
}

static void test_scattered_fsyncs__cost_what_they_change(void **state)
{
	const char *more = getenv("MASSFS_SCATTERED"); /* writes */
	unsigned int writes = more ? (unsigned int)strtoul(more, NULL, 0) : 20000;

	(void)state;
	/* The bound in proportion to that of 100,000 writes into 1 GiB. */
	scattered(&(struct world_options){ .store = STORE_MEM, .budget = BIG_BUDGET }, 64 * MIB, writes, 4096,
		  12);
	/* Nothing is kept in memory: what is swallowed is read back. */
	scattered(&(struct world_options){ .store = STORE_REMOTE, .budget = 2 * OBJECT_PART_MIN }, 64 * MIB,
		  3000, 0, 12);
	scattered(&(struct world_options){ .store = STORE_LOCAL, .budget = BIG_BUDGET }, 16 * MIB, 3000, 1024,
		  12);
}

static void test_one_block_again_and_again__keeps_one_segment(void **state)
{
	unsigned char *bytes;
	uint64_t seed = 5, before;
	struct content *c;
	struct world w;
	struct layout l;
	struct node n;

	(void)state;
	world_open(&w, STORE_MEM, 0, BIG_BUDGET);
	bytes = make_random_file(&w, 6 * MIB);
	c = open_writer(&w);
	write_random(&w, c, bytes, 0, 4096, &seed); /* what was closed becomes a version */
	before = atomic_load(&w.stats.bytes_put);
	for (int i = 0; i < 1000; i++)
		write_random(&w, c, bytes, MIB, 4096, &seed);
	assert_true(atomic_load(&w.stats.bytes_put) - before <= 2 * 1000 * 4096);
	l = file_layout(&w, &n);
	assert_int_equal(l.n_map, 2);
	assert_in_range(l.n_segments, 1, 2);
	layout_release(&l);
	node_release(&n);
	close_writer(c);
	assert_stored(&w, bytes, 6 * MIB);
	free(bytes);
	world_close(&w);
}

/* Segments that a version names are not swallowed: its bytes stay. */
static void test_closed_states__stay_readable_as_versions(void **state)
{
	struct version_list vl = { 0 };
	unsigned char *bytes;
	uint64_t seed = 6;
	struct world w;

	(void)state;
	world_open(&w, STORE_MEM, 0, BIG_BUDGET);
	bytes = make_random_file(&w, 6 * MIB);
	for (int i = 0; i < 10; i++) {
		struct content *c = open_writer(&w);

		write_random(&w, c, bytes, (uint64_t)i * 100 * KIB, 4096, &seed);
		write_random(&w, c, bytes, (uint64_t)i * 100 * KIB + 8192, 4096, &seed);
		close_writer(c);
	}
	assert_int_equal(engine_versions_by_ino(w.vol.engine, &w.op, w.ino, &vl), 0);
	assert_int_equal(vl.n, 10);
	for (size_t i = 0; i < vl.n; i++) {
		struct layout l;

		assert_int_equal(layout_parse(&vl.v[i].slices, &l), 0);
		for (size_t k = 0; k < l.n_segments; k++) {
			struct object_ref ref;
			struct object_info info;

			assert_int_equal(layout_segment_ref(&l.segments[k], &ref), 0);
			assert_int_equal(object_head(w.vol.store, &w.op, NULL, ref.key, ref.version, &info),
					 0);
			assert_int_equal(info.size, l.segments[k].len);
			object_ref_release(&ref);
		}
		layout_release(&l);
	}
	version_list_release(&vl);
	assert_stored(&w, bytes, 6 * MIB);
	free(bytes);
	world_close(&w);
}

static void test_big_change__goes_in_parts_under_a_small_budget(void **state)
{
	(void)state;
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		unsigned char *bytes;
		uint64_t seed = 7;
		struct content *c;
		struct world w;

		for (uint64_t budget = 2 * OBJECT_PART_MIN; budget <= BIG_BUDGET; budget = budget * 6) {
			world_open(&w, kind, 0, budget);
			bytes = make_random_file(&w, 30 * MIB);
			c = open_writer(&w);
			write_random(&w, c, bytes, 2 * MIB + 77, 13 * MIB, &seed);
			close_writer(c);
			assert_stored(&w, bytes, 30 * MIB);
			free(bytes);
			world_close(&w);
		}
	}
}

/* ---- inline ---- */

static void test_inline_file__needs_no_object_until_it_grows(void **state)
{
	struct world_options o = { .store = STORE_LOCAL, .budget = BIG_BUDGET, .inline_size = 16384 };
	unsigned char *bytes = calloc(1, 20 * MIB);
	uint64_t seed = 8;
	struct content *c;
	struct world w;
	struct node n;

	(void)state;
	world_open_opt(&w, &o);
	c = open_writer(&w);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0); /* empty */
	n = file_node(&w);
	assert_true(n.todo > 0);
	assert_true(object_ref_is_empty(&n.ref));
	node_release(&n);
	write_random(&w, c, bytes, 0, 16384, &seed);
	write_random(&w, c, bytes, 77, 10, &seed);
	n = file_node(&w);
	assert_int_equal(n.inline_data.size, 16384);
	assert_int_equal(n.attr.alloc, 16384);
	assert_true(n.todo > 0);
	node_release(&n);
	assert_int_equal(atomic_load(&w.stats.puts), 0);
	assert_int_equal(atomic_load(&w.env.inline_files), 1);
	assert_int_equal(atomic_load(&w.env.inline_bytes), 16384);
	close_writer(c);
	assert_stored(&w, bytes, 16384);
	c = open_writer(&w);
	write_random(&w, c, bytes, 16384, 1, &seed);
	assert_int_equal(atomic_load(&w.stats.puts), 1);
	assert_int_equal(atomic_load(&w.env.inline_files), 0);
	assert_int_equal(atomic_load(&w.env.inline_bytes), 0);
	close_writer(c);
	assert_stored(&w, bytes, 16385);
	assert_int_equal(count_versions(&w), 1);
	world_close(&w);
	/* Out of the record straight into a stream, and into a patch (a hole of many MiB, as it is no new file). */
	for (int sparse = 0; sparse < 2; sparse++) {
		world_open_opt(&w, &o);
		memset(bytes, 0, 20 * MIB);
		c = open_writer(&w);
		write_random(&w, c, bytes, 0, 5000, &seed);
		assert_int_equal(content_punch(c, &w.op, 1000, 500), 0);
		memset(bytes + 1000, 0, 500);
		write_random(&w, c, bytes, sparse ? 19 * MIB : 4000, sparse ? MIB : 20 * MIB - 4000, &seed);
		close_writer(c);
		assert_stored(&w, bytes, 20 * MIB);
		world_close(&w);
	}
	free(bytes);
}

static void test_inline_backlog__is_bounded(void **state)
{
	struct world_options o = { .store = STORE_MEM, .budget = BIG_BUDGET, .inline_size = 16384 };
	struct content *c;
	struct world w;
	struct node n;

	(void)state;
	world_open_opt(&w, &o);
	atomic_store(&w.env.inline_counted, mfs_mono_ns() + 60 * MFS_NSEC_PER_SEC); /* no recount */
	atomic_store(&w.env.inline_bytes, 64 * MIB);
	c = open_writer(&w);
	assert_int_equal(content_write(c, &w.op, 0, "a", 1, false), 0);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	n = file_node(&w);
	assert_int_equal(n.inline_data.size, 0);
	assert_false(object_ref_is_empty(&n.ref));
	node_release(&n);
	atomic_store(&w.env.inline_counted, 0); /* counted anew: there is room */
	assert_int_equal(content_write(c, &w.op, 0, "b", 1, false), 0);
	assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
	n = file_node(&w);
	assert_int_equal(n.inline_data.size, 1);
	node_release(&n);
	close_writer(c);
	world_close(&w);
}

/* ---- holes ---- */

static uint64_t seek_to(struct world *w, struct content *c, uint64_t off, int whence)
{
	uint64_t at = 0;
	int r = content_seek(c, &w->op, off, whence, &at);

	return r == -ENXIO ? UINT64_MAX : at;
}

static void test_punched_hole__is_one(void **state)
{
	(void)state;
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		unsigned char *bytes;
		struct content *c;
		struct world w;
		struct node n;
		uint64_t seed = 9;

		world_open(&w, kind, 0, BIG_BUDGET);
		bytes = make_random_file(&w, 8 * MIB);
		c = open_writer(&w);
		for (int flushed = 0; flushed < 2; flushed++) {
			assert_int_equal(content_punch(c, &w.op, MIB, 2 * MIB), 0);
			memset(bytes + MIB, 0, 2 * MIB);
			assert_int_equal(seek_to(&w, c, 0, SEEK_HOLE), MIB);
			assert_int_equal(seek_to(&w, c, MIB + 5, SEEK_HOLE), MIB + 5);
			assert_int_equal(seek_to(&w, c, MIB + 5, SEEK_DATA), 3 * MIB);
			assert_int_equal(seek_to(&w, c, 3 * MIB, SEEK_HOLE), 8 * MIB);
			assert_int_equal(seek_to(&w, c, 8 * MIB, SEEK_HOLE), UINT64_MAX);
			assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
			assert_int_equal(atomic_load(&w.stats.puts), 0);
		}
		n = file_node(&w);
		assert_int_equal(n.attr.alloc, 6 * MIB);
		node_release(&n);
		/* Data in the hole, and a tail. */
		write_random(&w, c, bytes, 2 * MIB, 4096, &seed);
		assert_int_equal(content_truncate(c, &w.op, 9 * MIB, NULL), 0);
		assert_int_equal(seek_to(&w, c, MIB, SEEK_DATA), 2 * MIB);
		assert_int_equal(seek_to(&w, c, 2 * MIB, SEEK_HOLE), 2 * MIB + 4096);
		assert_int_equal(seek_to(&w, c, 4 * MIB, SEEK_HOLE), 8 * MIB);
		assert_int_equal(seek_to(&w, c, 8 * MIB, SEEK_DATA), UINT64_MAX);
		assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
		close_writer(c);
		bytes = realloc(bytes, 9 * MIB);
		memset(bytes + 8 * MIB, 0, MIB);
		assert_stored(&w, bytes, 9 * MIB);
		free(bytes);
		world_close(&w);
	}
}

static void test_sparse_file__costs_its_data(void **state)
{
	(void)state;
	for (enum store_kind kind = STORE_LOCAL; kind < STORE_KINDS; kind++) {
		unsigned char got[4096], block[4096];
		struct content *c;
		struct world w;
		struct node n;

		memset(block, 'x', sizeof(block));
		world_open(&w, kind, 0, BIG_BUDGET);
		c = open_writer(&w);
		assert_int_equal(content_truncate(c, &w.op, UINT64_C(1) << 40, NULL), 0);
		for (uint64_t i = 0; i < 10; i++) {
			assert_int_equal(content_write(c, &w.op, i << 36, block, sizeof(block), false), 0);
			assert_int_equal(content_flush(c, &w.op, NULL, NULL), 0);
		}
		assert_true(atomic_load(&w.stats.bytes_put) < MIB);
		n = file_node(&w);
		assert_int_equal(n.attr.size, UINT64_C(1) << 40);
		assert_in_range(n.attr.alloc, 10 * 4096, 20 * 4096);
		node_release(&n);
		assert_int_equal(content_read(c, &w.op, UINT64_C(3) << 36, got, sizeof(got)), sizeof(got));
		assert_memory_equal(got, block, sizeof(got));
		assert_int_equal(seek_to(&w, c, 4096, SEEK_DATA), UINT64_C(1) << 36);
		close_writer(c);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_change__uploads_the_change),
		cmocka_unit_test(test_small_or_half_changed_file__is_written_anew),
		cmocka_unit_test(test_scattered_fsyncs__cost_what_they_change),
		cmocka_unit_test(test_one_block_again_and_again__keeps_one_segment),
		cmocka_unit_test(test_closed_states__stay_readable_as_versions),
		cmocka_unit_test(test_big_change__goes_in_parts_under_a_small_budget),
		cmocka_unit_test(test_inline_file__needs_no_object_until_it_grows),
		cmocka_unit_test(test_inline_backlog__is_bounded),
		cmocka_unit_test(test_punched_hole__is_one),
		cmocka_unit_test(test_sparse_file__costs_its_data),
	};

	if (getenv("MASSFS_TEST_ONLY")) /* a pattern, as test_threads* */
		cmocka_set_test_filter(getenv("MASSFS_TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
