/*
 * Changed files: what is uploaded for a change, how slices, segments and the record stay bounded, what two committers
 * make of one file, and what a store or an index that fails leaves. Inline files, holes, commit=.
 */
#include "tests/lib/content_world.h"

#include "meta/layout.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define BIG_BUDGET (64 * MIB)

static void fill(unsigned char *buf, size_t len, uint64_t *seed)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = rnd(seed);

		memcpy(buf + i, &v, MFS_MIN(len - i, sizeof(v)));
	}
}

/* A file with an object of `size` bytes, closed. Returns its bytes. */
static unsigned char *make_file(struct world *w, size_t size)
{
	unsigned char *bytes = malloc(size);
	struct content *c = open_writer(w);
	uint64_t seed = 77;

	fill(bytes, size, &seed);
	assert_int_equal(content_write(c, &w->op, 0, bytes, size, false), 0);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
	close_writer(c);
	return bytes;
}

static void write_flush(struct world *w, struct content *c, unsigned char *bytes, uint64_t off, size_t len, uint64_t *seed)
{
	fill(bytes + off, len, seed);
	assert_int_equal(content_write(c, &w->op, off, bytes + off, len, false), 0);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
}

/* The layout as the index has it, whole. */
static struct layout file_layout(struct world *w, struct node *n)
{
	struct layout l;

	*n = file_node(w);
	assert_in_range(n->slices.size, 0, LAYOUT_BLOB_MAX);
	assert_int_equal(layout_parse(&n->slices, &l), 0);
	for (size_t i = 0; i < l.n_docs; i++) {
		struct node_blob doc = { 0 };

		assert_int_equal(engine_slices_get(w->vol.engine, &w->op, w->ino, l.docs[i].id, &doc), 0);
		assert_int_equal(layout_add_doc(&l, i, &doc), 0);
		free(doc.data);
	}
	return l;
}

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
		bytes = make_file(&w, 8 * MIB);
		before = atomic_load(&w.stats.bytes_put);
		c = open_writer(&w);
		write_flush(&w, c, bytes, 3 * MIB + 5, 4 * KIB, &seed);
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
	bytes = make_file(&w, 60 * KIB);
	c = open_writer(&w);
	write_flush(&w, c, bytes, 100, 10, &seed);
	n = file_node(&w);
	assert_int_equal(n.slices.size, 0);
	assert_int_equal(n.todo, 0);
	node_release(&n);
	close_writer(c);
	assert_stored(&w, bytes, 60 * KIB);
	free(bytes);
	world_close(&w);
	world_open(&w, STORE_LOCAL, 0, BIG_BUDGET);
	bytes = make_file(&w, 2 * MIB);
	c = open_writer(&w);
	write_flush(&w, c, bytes, MIB / 2, MIB + 1, &seed);
	n = file_node(&w);
	assert_int_equal(n.slices.size, 0);
	node_release(&n);
	close_writer(c);
	assert_stored(&w, bytes, 2 * MIB);
	free(bytes);
	world_close(&w);
}

/* Sequential and scattered fsynced writes: bytes uploaded, slices, segments, the record. */
static void scattered(const struct world_options *o, size_t file, unsigned int writes, size_t slices_max, uint64_t allowed)
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
	bytes = make_file(&w, file);
	before = atomic_load(&w.stats.bytes_put);
	c = open_writer(&w);
	for (unsigned int i = 0; i < writes; i++) {
		uint64_t off = rnd(&seed) % (file / 4096) * 4096;
		int64_t t = mfs_mono_ns();

		write_flush(&w, c, bytes, off, 4096, &seed);
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
	print_message("%u writes: %.1f x uploaded in %llu objects, slices <= %zu, segments <= %zu, record <= %zu; "
		      "an fsync %.0f us at first, %.0f us at last\n",
		      writes, (double)put / (writes * 4096.0), (unsigned long long)atomic_load(&w.stats.puts), most, segments, blob,
		      (double)first / 1024e3, (double)last / 1024e3);
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
	scattered(&(struct world_options){ .store = STORE_MEM, .budget = BIG_BUDGET }, 64 * MIB, writes, 4096, 12);
	/* Nothing is kept in memory: what is swallowed is read back. */
	scattered(&(struct world_options){ .store = STORE_REMOTE, .budget = 2 * OBJECT_PART_MIN }, 64 * MIB, 3000, 0, 12);
	scattered(&(struct world_options){ .store = STORE_LOCAL, .budget = BIG_BUDGET }, 16 * MIB, 3000, 1024, 12);
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
	bytes = make_file(&w, 6 * MIB);
	c = open_writer(&w);
	write_flush(&w, c, bytes, 0, 4096, &seed); /* what was closed becomes a version */
	before = atomic_load(&w.stats.bytes_put);
	for (int i = 0; i < 1000; i++)
		write_flush(&w, c, bytes, MIB, 4096, &seed);
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
	bytes = make_file(&w, 6 * MIB);
	for (int i = 0; i < 10; i++) {
		struct content *c = open_writer(&w);

		write_flush(&w, c, bytes, (uint64_t)i * 100 * KIB, 4096, &seed);
		write_flush(&w, c, bytes, (uint64_t)i * 100 * KIB + 8192, 4096, &seed);
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
			assert_int_equal(object_head(w.vol.store, &w.op, NULL, ref.key, ref.version, &info), 0);
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
			bytes = make_file(&w, 30 * MIB);
			c = open_writer(&w);
			write_flush(&w, c, bytes, 2 * MIB + 77, 13 * MIB, &seed);
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
	write_flush(&w, c, bytes, 0, 16384, &seed);
	write_flush(&w, c, bytes, 77, 10, &seed);
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
	write_flush(&w, c, bytes, 16384, 1, &seed);
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
		write_flush(&w, c, bytes, 0, 5000, &seed);
		assert_int_equal(content_punch(c, &w.op, 1000, 500), 0);
		memset(bytes + 1000, 0, 500);
		write_flush(&w, c, bytes, sparse ? 19 * MIB : 4000, sparse ? MIB : 20 * MIB - 4000, &seed);
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
		bytes = make_file(&w, 8 * MIB);
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
		write_flush(&w, c, bytes, 2 * MIB, 4096, &seed);
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
		bytes = make_file(&a, 6 * MIB);
		world_open_second(&b, &a, BIG_BUDGET);
		ca = open_writer(&a);
		cb = open_writer(&b);
		for (uint64_t i = 0; i < 300; i++) {
			struct content *c = rnd(&seed) % 2 ? ca : cb;
			struct world *w = c == ca ? &a : &b;
			uint64_t off = rnd(&seed) % (3 * MIB / 512) * 1024 + (c == ca ? 0 : 512);

			fill(bytes + off, 512, &seed);
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
	bytes = make_file(&a, MIB);
	world_open_second(&b, &a, BIG_BUDGET);
	ca = open_writer(&a);
	cb = open_writer(&b);
	assert_int_equal(content_truncate(ca, &a.op, 0, NULL), 0);
	assert_int_equal(content_write(ca, &a.op, 0, "anew", 4, false), 0);
	write_flush(&b, cb, bytes, 0, 4096, &seed);
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
	struct commit cm = { .ino = w->ino, .lay = n.attr.lay, .ref = { .key = key }, .obj_len = n.attr.size, .size = n.attr.size,
			     .alloc = info.alloc, .settle = true, .durable = true };
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
	bytes = make_file(&w, 6 * MIB);
	world_open_second(&other, &w, BIG_BUDGET);
	c = open_writer(&w);
	for (int i = 0; i < 20; i++) {
		write_flush(&w, c, bytes, rnd(&seed) % (5 * MIB), 5000, &seed);
		fill(bytes + 100 * i, 50, &seed);
		assert_int_equal(content_write(c, &w.op, 100 * (uint64_t)i, bytes + 100 * i, 50, false), 0); /* dirty across */
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
	fill(s->bytes, 70 * KIB, &seed);
	assert_int_equal(content_write(c, &w->op, 0, s->bytes, 70 * KIB, false), 0);
	flush_twice(w, c, s);
	for (uint64_t i = 0; i < 3; i++) { /* patches that swallow each other */
		fill(s->bytes + i * 9000, 100, &seed);
		assert_int_equal(content_write(c, &w->op, i * 9000, s->bytes + i * 9000, 100, false), 0);
		flush_twice(w, c, s);
	}
	assert_int_equal(content_punch(c, &w->op, 20000, 3000), 0);
	memset(s->bytes + 20000, 0, 3000);
	assert_int_equal(content_truncate(c, &w->op, s->size, NULL), 0);
	fill(s->bytes + 50, 100, &seed);
	assert_int_equal(content_write(c, &w->op, 50, s->bytes + 50, 100, false), 0);
	flush_twice(w, c, s);
	fill(s->bytes + MIB, 6 * MIB, &seed); /* in parts */
	assert_int_equal(content_write(c, &w->op, MIB, s->bytes + MIB, 6 * MIB, false), 0);
	flush_twice(w, c, s);
	fill(s->bytes, 1000, &seed);
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
	bytes = make_file(&w, 6 * MIB);
	c = open_writer(&w);
	write_flush(&w, c, bytes, MIB, 4096, &seed);
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
	bytes = make_file(&w, 6 * MIB);
	c = open_writer(&w);
	fill(bytes, 100, &seed);
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
		uint64_t base = (rnd(&seed) % 3 * THREADS + h->id) * STRIPE, off = base + rnd(&seed) % (STRIPE - sizeof(got));
		size_t len = 1 + rnd(&seed) % sizeof(got);

		if (rnd(&seed) % 8 == 0) {
			memset(h->bytes + off, 0, len);
			if (content_punch(h->c, &op, off, len) < 0)
				return "punch";
		} else {
			fill(h->bytes + off, len, &seed);
			if (content_write(h->c, &op, off, h->bytes + off, len, false) < 0)
				return "write";
		}
		if (content_read(h->c, &op, off, got, len) != (ssize_t)len || memcmp(got, h->bytes + off, len) != 0)
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
		bytes = make_file(&w, 3 * THREADS * STRIPE);
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
