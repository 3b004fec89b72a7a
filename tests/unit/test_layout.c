/* meta/layout: cases, bounds, and random operations against an array that says where each byte comes from. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "meta/layout.h"

#define SPAN	 6000 /* bytes of the model's file */
#define FROM_OBJ (-1)
#define ZEROS	 (-2)

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static struct segment segment_of(uint64_t pos, uint64_t len, uint64_t op)
{
	struct segment s = { .pos = pos, .len = len, .session = 7, .op = op, .sum = op * 0x9e3779b97f4a7c15u };

	snprintf(s.version, sizeof(s.version), "v-%016llx", (unsigned long long)op);
	return s;
}

static void expect_extent(const struct layout *l, uint64_t off, uint64_t obj_len, uint64_t size, enum extent_kind kind,
			  uint64_t len, uint64_t src)
{
	struct layout_extent e;

	assert_int_equal(layout_at(l, off, obj_len, size, &e), 0);
	assert_int_equal(e.kind, kind);
	assert_int_equal(e.off, off);
	assert_int_equal(e.len, len);
	if (kind != EXTENT_HOLE)
		assert_int_equal(e.src, src);
}

static void test_an_empty_layout__is_the_object_and_zeros_behind_it(void **state)
{
	struct layout l;
	struct node_blob b;

	(void)state;
	layout_init(&l);
	assert_true(layout_is_empty(&l));
	expect_extent(&l, 0, 100, 150, EXTENT_BASE, 100, 0);
	expect_extent(&l, 40, 100, 150, EXTENT_BASE, 60, 40);
	expect_extent(&l, 100, 100, 150, EXTENT_HOLE, 50, 0);
	assert_int_equal(layout_encode(&l, &b), 0);
	assert_true(!b.data && b.size == 0);
	assert_int_equal(layout_parse(&b, &l), 0);
	assert_true(layout_is_empty(&l));
	layout_release(&l);
	layout_release(NULL);
}

static void test_set__cuts_and_joins(void **state)
{
	struct layout l;

	(void)state;
	layout_init(&l);
	assert_int_equal(layout_set(&l, 100, 50, 0), 0);
	assert_int_equal(layout_set(&l, 150, 50, 50), 0); /* continues in both */
	assert_int_equal(l.n_map, 1);
	assert_int_equal(layout_set(&l, 200, 50, 200), 0); /* in the file only */
	assert_int_equal(l.n_map, 2);
	assert_int_equal(layout_set(&l, 120, 10, 300), 0); /* in the middle */
	assert_int_equal(l.n_map, 4);
	assert_int_equal(l.n_recent, 4);
	assert_int_equal(layout_set(&l, 120, 10, 20), 0); /* what was there comes back, all joined */
	assert_int_equal(l.n_map, 2);
	assert_int_equal(layout_set(&l, 90, 20, LAYOUT_HOLE), 0);
	assert_int_equal(layout_set(&l, 80, 10, LAYOUT_HOLE), 0);
	assert_int_equal(l.n_map, 3);
	assert_int_equal(l.map[0].off, 80);
	assert_int_equal(l.map[0].len, 30);
	assert_int_equal(l.map[1].pos, 10);
	assert_int_equal(layout_unset(&l, 0, UINT64_MAX), 0);
	assert_true(layout_is_empty(&l));
	layout_release(&l);
}

static void test_set__refuses_what_no_file_has(void **state)
{
	struct layout l;

	(void)state;
	layout_init(&l);
	assert_int_equal(layout_set(&l, UINT64_MAX, 2, 0), -EFBIG);
	assert_int_equal(layout_set(&l, INT64_MAX, 1, 0), -EFBIG);
	assert_int_equal(layout_set(&l, 0, 2, INT64_MAX), -EFBIG);
	assert_int_equal(layout_set(&l, 5, 0, 0), 0);
	assert_true(layout_is_empty(&l));
	layout_release(&l);
}

static void test_segments__swallow_what_lies_in_them_and_are_not_cut(void **state)
{
	struct segment a = segment_of(0, 10, 1), b = segment_of(10, 10, 2), c = segment_of(0, 20, 3), bad = segment_of(5, 10, 4);
	struct segment dropped[8];
	struct layout_extent e;
	struct layout l;
	size_t n;

	(void)state;
	layout_init(&l);
	assert_int_equal(layout_add_segment(&l, &a, dropped, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(layout_add_segment(&l, &b, NULL, NULL), 0);
	assert_int_equal(l.log_end, 20);
	assert_int_equal(layout_add_segment(&l, &bad, dropped, &n), -EINVAL);
	assert_int_equal(layout_set(&l, 1000, 20, 0), 0);
	expect_extent(&l, 1005, 5000, 5000, EXTENT_PATCH, 5, 5); /* ends with the segment */
	assert_int_equal(layout_add_segment(&l, &c, dropped, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(dropped[0].op + dropped[1].op, 3);
	assert_int_equal(l.n_segments, 1);
	expect_extent(&l, 1005, 5000, 5000, EXTENT_PATCH, 15, 5);
	assert_int_equal(layout_set(&l, 1000, 20, 100), 0);
	assert_int_equal(layout_at(&l, 1000, 5000, 5000, &e), -EUCLEAN); /* no segment */
	layout_drop_dead(&l, dropped, &n);
	assert_int_equal(n, 1);
	assert_int_equal(dropped[0].op, 3);
	assert_int_equal(l.n_segments, 0);
	layout_release(&l);
}

static void test_patch_key__is_parsed_back_and_nothing_else_is(void **state)
{
	struct segment s = segment_of(0, 1, 0xabcdef);
	char key[LAYOUT_PATCH_KEY_MAX];
	struct object_ref ref;
	uint64_t session, op;

	(void)state;
	s.session = UINT64_MAX;
	layout_patch_key(&s, key);
	assert_string_equal(key, ".massfs/patch/ffffffffffffffff-abcdef");
	assert_true(layout_patch_key_parse(key, &session, &op));
	assert_true(session == UINT64_MAX && op == 0xabcdef);
	assert_false(layout_patch_key_parse(".massfs/patch/1-2x", &session, &op));
	assert_false(layout_patch_key_parse(".massfs/patch/01-2", &session, &op));
	assert_false(layout_patch_key_parse(".massfs/patch/1-", &session, &op));
	assert_false(layout_patch_key_parse("1-2", &session, &op));
	assert_int_equal(layout_segment_ref(&s, &ref), 0);
	assert_string_equal(ref.key, key);
	assert_string_equal(ref.version, s.version);
	object_ref_release(&ref);
}

/* The documents that exist, as an index would keep them. */
struct shelf {
	struct slices_doc_record v[4096];
	size_t n;
	uint64_t next_id;
};

static void shelf_release(struct shelf *s)
{
	for (size_t i = 0; i < s->n; i++)
		slices_doc_record_release(&s->v[i]);
	free(s);
}

static void shelf_put(struct shelf *s, struct slices_doc_list *docs)
{
	for (size_t i = 0; i < docs->n; i++) {
		assert_true(s->n < 4096);
		assert_int_equal(docs->v[i].id, s->next_id);
		s->next_id++;
		s->v[s->n++] = docs->v[i];
	}
	free(docs->v);
}

static const struct node_blob *shelf_get(const struct shelf *s, uint64_t id)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].id == id)
			return &s->v[i].blob;
	fail();
	return NULL;
}

/* What is not named any more is thrown away, so that a wrong entry would be missed. */
static void shelf_weed(struct shelf *s, const struct layout *l)
{
	size_t k = 0;

	for (size_t i = 0; i < s->n; i++) {
		bool named = false;

		for (size_t j = 0; j < l->n_docs; j++)
			named = named || l->docs[j].id == s->v[i].id;
		if (named)
			s->v[k++] = s->v[i];
		else
			slices_doc_record_release(&s->v[i]);
	}
	s->n = k;
}

/* Encoded, parsed again, documents added in a random order. */
static void reload(struct layout *l, const struct shelf *shelf, uint64_t *seed)
{
	struct node_blob b, again;
	struct layout fresh;
	size_t order[LAYOUT_DOCS_MAX];

	assert_int_equal(layout_encode(l, &b), 0);
	assert_int_equal(layout_parse(&b, &fresh), 0);
	assert_int_equal(fresh.n_docs, l->n_docs);
	for (size_t i = 0; i < fresh.n_docs; i++)
		order[i] = i;
	for (size_t i = fresh.n_docs; i > 1; i--) {
		size_t j = rnd(seed) % i, t = order[i - 1];

		order[i - 1] = order[j];
		order[j] = t;
	}
	for (size_t i = 0; i < fresh.n_docs; i++) {
		assert_int_equal(layout_is_whole(&fresh), false);
		assert_int_equal(layout_add_doc(&fresh, order[i], shelf_get(shelf, fresh.docs[order[i]].id)), 0);
		assert_int_equal(layout_add_doc(&fresh, order[i], shelf_get(shelf, fresh.docs[order[i]].id)), -EINVAL);
	}
	assert_true(layout_is_whole(&fresh));
	assert_int_equal(layout_encode(&fresh, &again), 0);
	assert_int_equal(again.size, b.size);
	if (b.size)
		assert_memory_equal(again.data, b.data, b.size);
	free(b.data);
	free(again.data);
	layout_release(l);
	*l = fresh;
}

static void check_sorted(const struct slice *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		assert_true(v[i].len > 0);
		if (i)
			assert_true(v[i - 1].off + v[i - 1].len <= v[i].off);
	}
}

static void check(const struct layout *l, const int64_t *model, uint64_t size, uint64_t obj_len)
{
	check_sorted(l->map, l->n_map);
	check_sorted(l->recent, l->n_recent);
	for (size_t i = 0; i < l->n_docs; i++) {
		assert_true(l->docs[i].start < l->docs[i].end && l->docs[i].n > 0 && l->docs[i].n <= LAYOUT_DOC_SLICES);
		if (i)
			assert_true(l->docs[i - 1].end <= l->docs[i].start);
	}
	for (uint64_t off = 0; off < size;) {
		struct layout_extent e;

		assert_int_equal(layout_at(l, off, obj_len, size, &e), 0);
		assert_true(e.off == off && e.len > 0 && e.off + e.len <= size);
		for (uint64_t i = 0; i < e.len; i++) {
			int64_t want = model[off + i];

			if (want == FROM_OBJ && off + i >= obj_len)
				want = ZEROS;
			if (e.kind == EXTENT_BASE)
				assert_int_equal(want, FROM_OBJ);
			else if (e.kind == EXTENT_HOLE)
				assert_int_equal(want, ZEROS);
			else
				assert_int_equal(want, (int64_t)(e.segment->pos + e.src + i));
		}
		off += e.len;
	}
}

/* Some segments that follow each other become one. */
static void swallow(struct layout *l, uint64_t *op, uint64_t *seed)
{
	struct segment *dropped;
	size_t n = 0, first, last;
	struct segment s;

	if (l->n_segments < 2)
		return;
	dropped = calloc(l->n_segments, sizeof(*dropped));
	first = rnd(seed) % l->n_segments;
	last = first + rnd(seed) % 40;
	last = MFS_MIN(last, l->n_segments - 1);
	s = segment_of(l->segments[first].pos, l->segments[last].pos + l->segments[last].len - l->segments[first].pos, ++*op);
	assert_int_equal(layout_add_segment(l, &s, dropped, &n), 0);
	assert_int_equal(n, last - first + 1);
	free(dropped);
}

struct counted {
	size_t segments, docs;
};

static int count_gone(void *arg, const struct segment *s, uint64_t doc_id)
{
	struct counted *c = arg;

	assert_true((s && doc_id == 0) || (!s && doc_id > 0));
	c->segments += s ? 1 : 0;
	c->docs += s ? 0 : 1;
	return 0;
}

/* clip_blob is what clip and encode give, and nothing of it is malformed. */
static void clip_both_ways(struct layout *l, uint64_t size, const struct shelf *shelf, uint64_t *seed)
{
	struct node_blob before, blob, mine;
	struct counted c = { 0 };

	assert_int_equal(layout_encode(l, &before), 0);
	assert_int_equal(layout_clip_blob(&before, size, &blob), 0);
	layout_clip(l, size);
	assert_int_equal(layout_encode(l, &mine), 0);
	assert_int_equal(blob.size, mine.size);
	if (mine.size)
		assert_memory_equal(blob.data, mine.data, mine.size);
	assert_int_equal(layout_diff(&mine, &before, count_gone, &c), 0);
	assert_int_equal(c.segments + c.docs, 0); /* what is left was there */
	free(before.data);
	free(blob.data);
	free(mine.data);
	reload(l, shelf, seed);
}

static void set_range(struct layout *l, int64_t *model, uint64_t size, uint64_t *op, uint64_t *seed)
{
	uint64_t off = rnd(seed) % size, len = 1 + rnd(seed) % (rnd(seed) % 30 ? 6 : 300), pos = l->log_end;
	struct segment s;

	len = MFS_MIN(len, size - off);
	if (rnd(seed) % 8 == 0) {
		assert_int_equal(layout_set(l, off, len, LAYOUT_HOLE), 0);
		for (uint64_t i = 0; i < len; i++)
			model[off + i] = ZEROS;
		return;
	}
	pos += rnd(seed) % 3 == 0; /* a gap in the log */
	s = segment_of(pos, len, ++*op);
	assert_int_equal(layout_add_segment(l, &s, NULL, NULL), 0);
	assert_int_equal(layout_set(l, off, len, pos), 0);
	for (uint64_t i = 0; i < len; i++)
		model[off + i] = (int64_t)(pos + i);
}

static void unset_range(struct layout *l, int64_t *model, uint64_t *seed)
{
	uint64_t off = rnd(seed) % SPAN, len = 1 + rnd(seed) % 200;

	assert_int_equal(layout_unset(l, off, len), 0);
	for (uint64_t i = off; i < MFS_MIN(off + len, (uint64_t)SPAN); i++)
		model[i] = FROM_OBJ;
}

static void drop_and_count(struct layout *l)
{
	struct segment *dropped = calloc(l->n_segments + 1, sizeof(*dropped));
	uint64_t live, held;
	size_t n, before = l->n_segments;

	layout_drop_dead(l, dropped, &n);
	assert_int_equal(l->n_segments + n, before);
	layout_log_use(l, &live, &held);
	assert_true(live <= held);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < l->n_map; j++)
			assert_true(l->map[j].pos == LAYOUT_HOLE || l->map[j].pos + l->map[j].len <= dropped[i].pos ||
				    l->map[j].pos >= dropped[i].pos + dropped[i].len);
	free(dropped);
}

static void make_docs(struct layout *l, struct shelf *shelf)
{
	size_t needed = layout_docs_needed(l);
	struct slices_doc_list docs;

	assert_true((needed > 0) == (l->n_recent > LAYOUT_RECENT_MAX));
	assert_int_equal(layout_make_docs(l, 42, 9, shelf->next_id, &docs), 0);
	assert_true(docs.n <= needed);
	shelf_put(shelf, &docs);
	shelf_weed(shelf, l);
}

/* Fewer segments than a record holds, as a writer under pressure does. */
static void relieve(struct layout *l, uint64_t *op, uint64_t *seed)
{
	drop_and_count(l);
	while (l->n_segments > 200)
		swallow(l, op, seed);
}

static void run_model(uint64_t seed)
{
	struct shelf *shelf = calloc(1, sizeof(*shelf));
	int64_t *model = malloc(SPAN * sizeof(*model));
	uint64_t size = SPAN, obj_len = SPAN / 2, op = 0, s = seed;
	struct layout l, copy;

	shelf->next_id = 1;
	layout_init(&l);
	for (size_t i = 0; i < SPAN; i++)
		model[i] = FROM_OBJ;
	for (int step = 0; step < 2500; step++) {
		uint64_t what = rnd(&s) % 1000;

		if (what < 10)
			unset_range(&l, model, &s);
		else if (what < 25)
			swallow(&l, &op, &s);
		else if (what < 30)
			drop_and_count(&l);
		else
			set_range(&l, model, size, &op, &s);
		if (l.n_recent > LAYOUT_RECENT_MAX + rnd(&s) % 64)
			make_docs(&l, shelf);
		if (what >= 990 && l.n_recent <= LAYOUT_RECENT_MAX && l.n_docs <= LAYOUT_DOCS_MAX) {
			uint64_t to = rnd(&s) % 4 ? size - rnd(&s) % 40 : 1 + rnd(&s) % size;

			relieve(&l, &op, &s);
			size = MFS_MAX(to, 1000u);
			obj_len = MFS_MIN(obj_len, size);
			clip_both_ways(&l, size, shelf, &s);
			for (size_t i = size; i < SPAN; i++)
				model[i] = FROM_OBJ;
			size = SPAN; /* and it grows again: zeros */
		}
		if (step % 100 == 0) {
			check(&l, model, size, obj_len);
			assert_int_equal(layout_copy(&l, &copy), 0);
			check(&copy, model, size, obj_len);
			layout_release(&copy);
		}
		if (step % 40 == 0 && l.n_recent <= LAYOUT_RECENT_MAX) {
			relieve(&l, &op, &s);
			reload(&l, shelf, &s);
		}
	}
	check(&l, model, size, obj_len);
	layout_release(&l);
	shelf_release(shelf);
	free(model);
}

static void test_random_operations__agree_with_an_array(void **state)
{
	const char *given = getenv("LAYOUT_SEED"), *rounds = getenv("LAYOUT_ROUNDS");
	uint64_t first = given ? strtoull(given, NULL, 0) : 1;
	uint64_t n = rounds ? strtoull(rounds, NULL, 0) : given ? 1 : 4;

	(void)state;
	for (uint64_t i = first; i < first + n; i++) {
		printf("LAYOUT_SEED=%llu\n", (unsigned long long)i);
		run_model(i * 0x9e3779b97f4a7c15u);
	}
}

static void test_65536_slices__fit_in_256_documents_and_a_small_record(void **state)
{
	struct shelf *shelf = calloc(1, sizeof(*shelf));
	uint64_t seed = 1234567, pos = UINT64_C(1) << 40;
	struct slices_doc_list docs;
	struct node_blob b;
	struct layout l;
	size_t most = 0;

	(void)state;
	shelf->next_id = UINT64_C(1) << 50;
	layout_init(&l);
	l.log_end = pos;
	/* Scattered 4 KiB into 5 TiB, until there is no room. */
	while (l.n_map < LAYOUT_SLICES_MAX) {
		uint64_t off = rnd(&seed) % (UINT64_C(5) << 28) * 4096;

		assert_int_equal(layout_set(&l, off, 4096, pos), 0);
		pos += 4096;
		if (l.n_recent > LAYOUT_RECENT_MAX && (l.n_map % 7 == 0 || l.n_map == LAYOUT_SLICES_MAX)) {
			make_docs(&l, shelf);
			most = MFS_MAX(most, l.n_docs);
		}
	}
	assert_true(l.n_map == LAYOUT_SLICES_MAX && most <= LAYOUT_DOCS_MAX);
	if (l.n_recent > LAYOUT_RECENT_MAX)
		make_docs(&l, shelf);
	assert_int_equal(layout_pressure(&l), LAYOUT_FULL);
	for (uint64_t i = 0; i < LAYOUT_SEGMENTS_MAX; i++) {
		/* Versions of 36 characters with nothing in common, as an S3 server's. */
		struct segment s = segment_of((UINT64_C(1) << 40) + i * (UINT64_C(4) << 20), UINT64_C(4) << 20, i);

		s.session = rnd(&seed);
		snprintf(s.version, sizeof(s.version), "%016llx-%016llx-12", (unsigned long long)rnd(&seed),
			 (unsigned long long)rnd(&seed));
		assert_int_equal(layout_add_segment(&l, &s, NULL, NULL), 0);
	}
	l.log_end = MFS_MAX(l.log_end, pos);
	assert_int_equal(layout_encode(&l, &b), 0);
	printf("record: %zu bytes with %zu documents, %zu segments, %zu recent\n", b.size, l.n_docs, l.n_segments, l.n_recent);
	assert_true(b.size <= LAYOUT_BLOB_MAX);
	free(b.data);
	/* One more than there may be. */
	while (l.n_recent <= LAYOUT_RECENT_MAX || l.n_map <= LAYOUT_SLICES_MAX) {
		assert_int_equal(layout_set(&l, rnd(&seed) % (UINT64_C(5) << 28) * 4096, 4096, pos), 0);
		pos += 4096;
	}
	assert_int_equal(layout_make_docs(&l, 1, 1, 1, &docs), -EFBIG);
	assert_true(l.n_recent > LAYOUT_RECENT_MAX); /* as it was */
	layout_release(&l);
	shelf_release(shelf);
}

static void test_pressure__rises_with_slices_and_segments(void **state)
{
	struct layout l;
	uint64_t i = 0;

	(void)state;
	layout_init(&l);
	assert_int_equal(layout_pressure(&l), LAYOUT_EASY);
	for (; l.n_segments < LAYOUT_SEGMENTS_MAX * 3 / 4; i++) {
		struct segment s = segment_of(i, 1, i);

		assert_int_equal(layout_pressure(&l), LAYOUT_EASY);
		assert_int_equal(layout_add_segment(&l, &s, NULL, NULL), 0);
	}
	assert_int_equal(layout_pressure(&l), LAYOUT_COMPACT);
	for (; l.n_segments < LAYOUT_SEGMENTS_MAX; i++) {
		struct segment s = segment_of(i, 1, i);

		assert_int_equal(layout_add_segment(&l, &s, NULL, NULL), 0);
	}
	assert_int_equal(layout_pressure(&l), LAYOUT_FULL);
	layout_drop_dead(&l, NULL, NULL);
	assert_int_equal(layout_pressure(&l), LAYOUT_EASY);
	for (i = 0; i < LAYOUT_SLICES_MAX * 3 / 4; i++)
		assert_int_equal(layout_set(&l, i * 2, 1, i), 0);
	assert_int_equal(layout_pressure(&l), LAYOUT_COMPACT);
	layout_release(&l);
}

static void test_worst_range__is_where_most_slices_are(void **state)
{
	struct layout l;
	uint64_t off, len;

	(void)state;
	layout_init(&l);
	layout_worst_range(&l, 1 << 20, 65536, 4096, &off, &len);
	assert_int_equal(len, 0);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(layout_set(&l, i * 100000, 10, i * 10), 0);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(layout_set(&l, 500000 + i * 3000, 10, 1000 + i * 10), 0);
	layout_worst_range(&l, 1 << 20, 65536, 4096, &off, &len);
	assert_int_equal(off, 500000 / 4096 * 4096);
	assert_true(off + len >= 512010 && len <= 65536 && len % 4096 == 0);
	layout_worst_range(&l, 512010, 65536, 4096, &off, &len);
	assert_int_equal(off + len, 512010); /* the file's end */
	layout_release(&l);
}

static void test_diff__names_what_went_once(void **state)
{
	struct segment a = segment_of(0, 10, 1), b = segment_of(10, 10, 2), c = segment_of(0, 20, 3);
	struct node_blob before, after, none = { 0 };
	struct counted n = { 0 };
	struct layout l;

	(void)state;
	layout_init(&l);
	assert_int_equal(layout_add_segment(&l, &a, NULL, NULL), 0);
	assert_int_equal(layout_add_segment(&l, &b, NULL, NULL), 0);
	assert_int_equal(layout_set(&l, 0, 20, 0), 0);
	assert_int_equal(layout_encode(&l, &before), 0);
	assert_int_equal(layout_add_segment(&l, &c, NULL, NULL), 0);
	assert_int_equal(layout_encode(&l, &after), 0);
	assert_int_equal(layout_diff(&before, &after, count_gone, &n), 0);
	assert_true(n.segments == 2 && n.docs == 0);
	assert_int_equal(layout_diff(&before, NULL, count_gone, &n), 0);
	assert_int_equal(n.segments, 4);
	assert_int_equal(layout_diff(&none, &after, count_gone, &n), 0);
	assert_int_equal(n.segments, 4);
	free(before.data);
	free(after.data);
	layout_release(&l);

	/* Documents: one that stands in two entries is named once, and only when both are gone. */
	layout_init(&l);
	l.docs = calloc(3, sizeof(*l.docs));
	l.n_docs = l.cap_docs = 3;
	l.docs[0] = (struct layout_doc){ .start = 0, .end = 10, .id = 5, .n = 1 };
	l.docs[1] = (struct layout_doc){ .start = 20, .end = 30, .id = 5, .n = 1 };
	l.docs[2] = (struct layout_doc){ .start = 40, .end = 50, .id = 3, .n = 1 };
	n = (struct counted){ 0 };
	assert_int_equal(layout_encode(&l, &before), 0);
	assert_int_equal(layout_clip_blob(&before, 15, &after), 0);
	assert_int_equal(layout_diff(&before, &after, count_gone, &n), 0);
	assert_true(n.docs == 1);
	assert_int_equal(layout_diff(&before, &none, count_gone, &n), 0);
	assert_true(n.docs == 3);
	free(before.data);
	free(after.data);
	layout_release(&l);
}

static void expect_bad(const uint8_t *bytes, size_t n)
{
	uint8_t copy[512];
	struct node_blob b = { copy, n };
	struct layout l;

	memcpy(copy, bytes, n);
	assert_int_equal(layout_parse(&b, &l), -EUCLEAN);
	assert_true(!l.segments && !l.docs && !l.recent && !l.map);
}

static void test_parse__refuses_every_cut_and_what_overlaps(void **state)
{
	struct segment a = segment_of(0, 10, 1), b = segment_of(10, 10, 2);
	struct node_blob blob;
	struct layout l, again;

	(void)state;
	layout_init(&l);
	assert_int_equal(layout_add_segment(&l, &a, NULL, NULL), 0);
	assert_int_equal(layout_add_segment(&l, &b, NULL, NULL), 0);
	assert_int_equal(layout_set(&l, 50, 15, 3), 0);
	assert_int_equal(layout_set(&l, 80, 5, LAYOUT_HOLE), 0);
	assert_int_equal(layout_encode(&l, &blob), 0);
	for (size_t n = 1; n < blob.size; n++)
		expect_bad(blob.data, n);
	{
		uint8_t *longer = calloc(1, blob.size + 1);

		memcpy(longer, blob.data, blob.size);
		expect_bad(longer, blob.size + 1);
		free(longer);
	}
	/* Every other byte in every place: taken or refused, and what is taken can be walked. */
	for (size_t i = 0; i < blob.size; i++) {
		uint8_t *p = (uint8_t *)blob.data + i, was = *p;

		for (int v = 0; v < 256; v++) {
			int err;

			*p = (uint8_t)v;
			err = layout_parse(&blob, &again);
			assert_true(err == 0 || err == -EUCLEAN);
			for (uint64_t off = 0; err == 0 && off < 200; off++) {
				struct layout_extent e;
				int r = layout_at(&again, off, 100, 200, &e);

				assert_true(r == 0 || r == -EUCLEAN);
			}
			layout_release(&again);
		}
		*p = was;
	}
	free(blob.data);
	layout_release(&l);
	/* version 1, no flags, log_end 100, no segments, no documents, one slice [0,0) */
	expect_bad((const uint8_t[]){ 1, 0, 100, 0, 0, 1, 0, 0, 1 }, 9);
	/* a slice beyond the log's end: pos 99, len 2 */
	expect_bad((const uint8_t[]){ 1, 0, 100, 0, 0, 1, 0, 2, 100 }, 9);
	/* an offset beyond 2^63 */
	expect_bad((const uint8_t[]){ 1, 0, 100, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 1 }, 18);
	/* a document of 0 slices, of 257; and two parents' worth of count */
	expect_bad((const uint8_t[]){ 1, 0, 100, 0, 1, 0, 5, 9, 0, 0 }, 10);
	expect_bad((const uint8_t[]){ 1, 0, 100, 0, 1, 0, 5, 9, 0x81, 2, 0 }, 11);
	expect_bad((const uint8_t[]){ 1, 0, 100, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 }, 13);
	expect_bad((const uint8_t[]){ 2, 0, 0, 0, 0, 0 }, 6);
	expect_bad((const uint8_t[]){ 1, 2, 0, 0, 0, 0 }, 6);
}

static void test_add_doc__refuses_what_the_entry_does_not_say(void **state)
{
	uint8_t record[] = { 1, 0, 100, 0, 1, 0, 50, 9, 2, 0 }; /* a document [0, 50), id 9, of 2 slices */
	uint8_t doc[] = { 1, 2, 10, 5, 1, 0, 5, 0 };		 /* [10,15) at 0, [15,20) a hole */
	struct node_blob r = { record, sizeof(record) }, d = { doc, sizeof(doc) }, none = { 0 };
	struct layout l;

	(void)state;
	assert_int_equal(layout_parse(&r, &l), 0);
	assert_false(layout_is_empty(&l));
	assert_int_equal(layout_add_doc(&l, 1, &d), -EINVAL);
	assert_int_equal(layout_add_doc(&l, 0, &none), -EUCLEAN);
	for (d.size = 1; d.size < sizeof(doc); d.size++)
		assert_int_equal(layout_add_doc(&l, 0, &d), -EUCLEAN);
	doc[1] = 1;
	assert_int_equal(layout_add_doc(&l, 0, &d), -EUCLEAN);
	doc[1] = 2;
	doc[4] = 200; /* beyond the log */
	assert_int_equal(layout_add_doc(&l, 0, &d), -EUCLEAN);
	doc[4] = 1;
	assert_int_equal(l.n_map, 0);
	assert_int_equal(layout_add_doc(&l, 0, &d), 0);
	assert_int_equal(l.n_map, 2);
	layout_release(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_layout__is_the_object_and_zeros_behind_it),
		cmocka_unit_test(test_set__cuts_and_joins),
		cmocka_unit_test(test_set__refuses_what_no_file_has),
		cmocka_unit_test(test_segments__swallow_what_lies_in_them_and_are_not_cut),
		cmocka_unit_test(test_patch_key__is_parsed_back_and_nothing_else_is),
		cmocka_unit_test(test_random_operations__agree_with_an_array),
		cmocka_unit_test(test_65536_slices__fit_in_256_documents_and_a_small_record),
		cmocka_unit_test(test_pressure__rises_with_slices_and_segments),
		cmocka_unit_test(test_worst_range__is_where_most_slices_are),
		cmocka_unit_test(test_diff__names_what_went_once),
		cmocka_unit_test(test_parse__refuses_every_cut_and_what_overlaps),
		cmocka_unit_test(test_add_doc__refuses_what_the_entry_does_not_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
