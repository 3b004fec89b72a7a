/* fs/snapshot over both stores: inline, object, slices in records and documents, holes, tails, damage. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "fs/snapshot.h"
#include "tests/lib/volume_world.h"

#define SPAN 300000

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* A file's state put together by hand: the record, and what a reader must get. */
struct file {
	struct world *w;
	struct node n;
	struct layout l;
	unsigned char want[SPAN];
	uint64_t next_doc;
	uint64_t seed;
};

static void put(struct file *f, const char *key, const void *buf, size_t len, uint64_t op, char version[OBJECT_VERSION_MAX + 1])
{
	struct object_meta meta = { .ino = f->n.attr.ino, .session = f->w->v->session, .op = op, .mode = 0600 };
	struct object_info info;

	assert_int_equal(object_put(f->w->v->store, &f->w->op, NULL, key, buf, len, &meta, &info), 0);
	memcpy(version, info.version, sizeof(info.version));
}

static struct file *file_new(struct world *w, uint64_t size, uint64_t obj_len)
{
	struct file *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->w = w;
	f->seed = 4711;
	f->next_doc = 5000;
	f->n.attr.ino = 2000;
	f->n.attr.size = size;
	f->n.attr.obj_len = obj_len;
	layout_init(&f->l);
	if (obj_len > 0) {
		unsigned char *object = malloc(obj_len + 100);

		/* The object is longer than what of it counts. */
		for (size_t i = 0; i < obj_len + 100; i++)
			object[i] = (unsigned char)rnd(&f->seed);
		memcpy(f->want, object, obj_len);
		f->n.ref.key = strdup("a/file");
		put(f, "a/file", object, obj_len + 100, 1, f->n.ref.version);
		free(object);
	}
	return f;
}

static void file_free(struct file *f)
{
	node_release(&f->n);
	layout_release(&f->l);
	free(f);
}

/* [off, off+len) gets new bytes, in a patch object of their own. */
static void patch(struct file *f, uint64_t off, size_t len)
{
	struct segment s = {
		.pos = f->l.log_end + 3, .len = len, .session = f->w->v->session, .op = 100 + f->l.n_segments
	};
	char key[LAYOUT_PATCH_KEY_MAX];

	for (size_t i = 0; i < len; i++)
		f->want[off + i] = (unsigned char)rnd(&f->seed);
	layout_patch_key(&s, key);
	put(f, key, f->want + off, len, s.op, s.version);
	assert_int_equal(layout_add_segment(&f->l, &s, NULL, NULL), 0);
	assert_int_equal(layout_set(&f->l, off, len, s.pos), 0);
}

static void punch(struct file *f, uint64_t off, size_t len)
{
	memset(f->want + off, 0, len);
	assert_int_equal(layout_set(&f->l, off, len, LAYOUT_HOLE), 0);
}

static void make_docs(struct file *f)
{
	struct slices_doc_list docs;
	struct change c = { 0 };

	assert_int_equal(layout_make_docs(&f->l, f->n.attr.ino, f->w->v->session, f->next_doc, &docs), 0);
	assert_true(docs.n > 0);
	f->next_doc += docs.n;
	for (size_t i = 0; i < docs.n; i++) {
		c = (struct change){ 0 };
		change_write(&c, WRITE_SLICES_PUT, f->n.attr.ino)->slices = &docs.v[i];
		assert_int_equal(engine_apply(f->w->v->engine, &f->w->op, &c), 0);
	}
	slices_doc_list_release(&docs);
}

static struct snapshot *open_snapshot(struct file *f)
{
	struct snapshot *s;

	free(f->n.slices.data);
	assert_int_equal(layout_encode(&f->l, &f->n.slices), 0);
	assert_int_equal(snapshot_of_node(f->w->v, &f->w->op, &f->n, &s), 0);
	assert_int_equal(snapshot_size(s), f->n.attr.size);
	return s;
}

static void check_range(struct file *f, struct snapshot *s, uint64_t off, size_t len)
{
	unsigned char *buf = malloc(len + 1);

	buf[len] = 0x5a;
	assert_int_equal(snapshot_read(s, &f->w->op, off, buf, len), 0);
	if (len)
		assert_memory_equal(buf, f->want + off, len);
	assert_int_equal(buf[len], 0x5a);
	free(buf);
}

static void check_all(struct file *f, struct snapshot *s)
{
	uint64_t size = f->n.attr.size;
	unsigned char one;

	check_range(f, s, 0, size);
	for (int i = 0; i < 200; i++) {
		uint64_t off = rnd(&f->seed) % size, len = rnd(&f->seed) % 9000;

		check_range(f, s, off, (size_t)MFS_MIN(len, size - off));
	}
	assert_int_equal(snapshot_read(s, &f->w->op, size, &one, 0), 0);
	assert_int_equal(snapshot_read(s, &f->w->op, size, &one, 1), -EINVAL);
	assert_int_equal(snapshot_read(s, &f->w->op, UINT64_MAX, &one, 1), -EINVAL);
}

/* What is called base and hole agrees with what is read, and the runs cover the file. */
static void check_kinds(struct file *f, struct snapshot *s)
{
	uint64_t run;

	for (uint64_t off = 0; off < f->n.attr.size; off += run) {
		bool hole = snapshot_is_hole(s, off, &run);

		assert_true(run > 0 && off + run <= f->n.attr.size);
		for (uint64_t i = off; hole && i < off + run; i++)
			assert_int_equal(f->want[i], 0);
	}
	for (uint64_t off = 0; off < f->n.attr.size; off += run) {
		bool base = snapshot_is_base(s, off, &run);

		assert_true(run > 0 && off + run <= f->n.attr.size);
		assert_true(!base || off + run <= f->n.attr.obj_len);
	}
	assert_false(snapshot_is_base(s, f->n.attr.size, &run));
	assert_int_equal(run, 0);
	assert_false(snapshot_is_hole(s, f->n.attr.size, &run));
	assert_int_equal(run, 0);
}

static void test_an_object_with_a_tail__reads_zeros_behind_it(void **state)
{
	struct file *f = file_new(*state, 20000, 12000);
	struct snapshot *s = open_snapshot(f);
	uint64_t run;

	check_all(f, s);
	check_kinds(f, s);
	assert_true(snapshot_is_base(s, 100, &run));
	assert_int_equal(run, 11900);
	assert_true(snapshot_is_hole(s, 12000, &run));
	assert_int_equal(run, 8000);
	snapshot_free(s);
	file_free(f);
}

static void test_inline_bytes__are_the_content(void **state)
{
	struct file *f = file_new(*state, 500, 0);
	struct snapshot *s;
	uint64_t run;

	memset(f->want, 'x', 300);
	f->n.inline_data = (struct node_blob){ malloc(300), 300 };
	memset(f->n.inline_data.data, 'x', 300);
	s = open_snapshot(f);
	check_all(f, s);
	check_kinds(f, s);
	assert_true(snapshot_is_hole(s, 300, &run));
	assert_int_equal(run, 200);
	assert_true(layout_is_empty(snapshot_layout(s)));
	snapshot_free(s);
	file_free(f);
}

static void test_an_empty_file__has_nothing(void **state)
{
	struct file *f = file_new(*state, 0, 0);
	struct snapshot *s = open_snapshot(f);
	uint64_t run;

	assert_int_equal(snapshot_read(s, &f->w->op, 0, &run, 0), 0);
	assert_int_equal(snapshot_read(s, &f->w->op, 0, &run, 1), -EINVAL);
	assert_false(snapshot_is_hole(s, 0, &run));
	snapshot_free(s);
	snapshot_free(NULL);
	file_free(f);
}

/* More objects than descriptors are kept open. */
static void test_slices_and_holes__lie_over_the_object(void **state)
{
	struct file *f = file_new(*state, SPAN, SPAN / 2);
	struct snapshot *s;

	for (int i = 0; i < 150; i++) {
		uint64_t off = rnd(&f->seed) % (SPAN - 3000);

		if (i % 10 == 0)
			punch(f, off, 1 + rnd(&f->seed) % 3000);
		else
			patch(f, off, 1 + rnd(&f->seed) % 3000);
	}
	s = open_snapshot(f);
	check_all(f, s);
	check_kinds(f, s);
	snapshot_free(s);
	file_free(f);
}

static void scatter(struct file *f)
{
	patch(f, 0, SPAN);
	for (int i = 0; i < 2000; i++) {
		uint64_t off = rnd(&f->seed) % (SPAN - 10);

		if (f->l.n_recent > 300)
			make_docs(f);
		punch(f, off, 1 + rnd(&f->seed) % 4);
	}
	if (f->l.n_recent > LAYOUT_RECENT_MAX)
		make_docs(f);
	assert_true(f->l.n_docs > 3);
}

static void test_documents__are_read_and_counted_where_the_record_says(void **state)
{
	struct file *f = file_new(*state, SPAN, 1000);
	struct snapshot *s;

	scatter(f);
	s = open_snapshot(f);
	check_all(f, s);
	check_kinds(f, s);
	assert_int_equal(snapshot_layout(s)->n_map, f->l.n_map);
	snapshot_free(s);
	/* Cut off and grown again: what is behind reads as zeros, also what a document says of it. */
	layout_clip(&f->l, 123456);
	memset(f->want + 123456, 0, SPAN - 123456);
	/* A range that was composed into the object again: one document stands in two entries. */
	assert_int_equal(layout_unset(&f->l, f->l.docs[1].start + 5, 10), 0);
	memset(f->want + f->l.docs[1].end, 0, 10);
	s = open_snapshot(f);
	check_all(f, s);
	snapshot_free(s);
	file_free(f);
}

static void test_a_version__reads_as_the_node_did(void **state)
{
	struct file *f = file_new(*state, SPAN, 1000);
	struct version_record r = { .ino = f->n.attr.ino, .size = SPAN, .obj_len = 1000 };
	struct snapshot *s;

	scatter(f);
	s = open_snapshot(f); /* encodes */
	snapshot_free(s);
	r.ref = f->n.ref;
	r.slices = f->n.slices;
	assert_int_equal(snapshot_of_version(f->w->v, &f->w->op, &r, &s), 0);
	check_all(f, s);
	snapshot_free(s);
	file_free(f);
}

static void test_what_is_damaged__is_an_error_and_never_wrong_bytes(void **state)
{
	struct file *f = file_new(*state, 20000, 10000);
	unsigned char buf[20000];
	struct object_ref ref;
	struct snapshot *s;

	patch(f, 3000, 100);
	/* A slice at a position that no segment has. */
	assert_int_equal(layout_set(&f->l, 5000, 10, 1), 0);
	s = open_snapshot(f);
	assert_int_equal(snapshot_read(s, &f->w->op, 0, buf, 5000), 0);
	assert_int_equal(snapshot_read(s, &f->w->op, 0, buf, 5001), -EUCLEAN);
	snapshot_free(s);
	/* A segment that says more than its object has. */
	assert_int_equal(layout_unset(&f->l, 5000, 10), 0);
	f->l.segments[0].len += 50;
	f->l.log_end += 50;
	assert_int_equal(layout_set(&f->l, 3000, 150, f->l.segments[0].pos), 0);
	s = open_snapshot(f);
	assert_int_equal(snapshot_read(s, &f->w->op, 2990, buf, 110), 0);
	assert_int_equal(snapshot_read(s, &f->w->op, 2990, buf, 111), -EIO);
	snapshot_free(s);
	/* The object is gone. */
	s = open_snapshot(f);
	assert_int_equal(layout_segment_ref(&f->l.segments[0], &ref), 0);
	assert_int_equal(object_delete_version(f->w->v->store, &f->w->op, &ref), 0);
	object_ref_release(&ref);
	assert_int_equal(snapshot_read(s, &f->w->op, 2990, buf, 11), -ENOENT);
	assert_int_equal(snapshot_read(s, &f->w->op, 0, buf, 3000), 0);
	snapshot_free(s);
	/* A layout that is none, inline bytes beside an object, a document that is not there. */
	((unsigned char *)f->n.slices.data)[0] = 77;
	assert_int_equal(snapshot_of_node(f->w->v, &f->w->op, &f->n, &s), -EUCLEAN);
	f->n.slices.size = 0;
	f->n.inline_data = (struct node_blob){ strdup("x"), 1 };
	assert_int_equal(snapshot_of_node(f->w->v, &f->w->op, &f->n, &s), -EUCLEAN);
	free(f->n.inline_data.data);
	f->n.inline_data = (struct node_blob){ 0 };
	layout_release(&f->l);
	f->l.docs = calloc(1, sizeof(*f->l.docs));
	f->l.docs[0] = (struct layout_doc){ .start = 0, .end = 10, .id = 999999, .n = 1 };
	f->l.n_docs = f->l.cap_docs = 1;
	free(f->n.slices.data);
	assert_int_equal(layout_encode(&f->l, &f->n.slices), 0);
	assert_int_equal(snapshot_of_node(f->w->v, &f->w->op, &f->n, &s), -ENOENT);
	file_free(f);
}

struct reader {
	struct file *f;
	struct snapshot *s;
	uint64_t seed;
};

static void *read_much(void *arg)
{
	struct reader *r = arg;
	unsigned char *buf = malloc(20000);

	for (int i = 0; i < 150; i++) {
		uint64_t off = rnd(&r->seed) % (SPAN - 20000);

		if (snapshot_read(r->s, &r->f->w->op, off, buf, 20000) != 0 || memcmp(buf, r->f->want + off, 20000))
			abort();
	}
	free(buf);
	return NULL;
}

static void test_several_threads__read_at_once(void **state)
{
	struct file *f = file_new(*state, SPAN, SPAN);
	struct reader r[4];
	pthread_t t[4];
	struct snapshot *s;

	for (int i = 0; i < 140; i++)
		patch(f, rnd(&f->seed) % (SPAN - 1000), 1 + rnd(&f->seed) % 1000);
	s = open_snapshot(f);
	for (unsigned int i = 0; i < 4; i++) {
		r[i] = (struct reader){ f, s, 99 + i };
		assert_int_equal(pthread_create(&t[i], NULL, read_much, &r[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	snapshot_free(s);
	file_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_an_object_with_a_tail__reads_zeros_behind_it),
		WORLD_TEST(test_inline_bytes__are_the_content),
		WORLD_TEST(test_an_empty_file__has_nothing),
		WORLD_TEST(test_slices_and_holes__lie_over_the_object),
		WORLD_TEST(test_documents__are_read_and_counted_where_the_record_says),
		WORLD_TEST(test_a_version__reads_as_the_node_did),
		WORLD_TEST(test_what_is_damaged__is_an_error_and_never_wrong_bytes),
		WORLD_TEST(test_several_threads__read_at_once),
	};

	return world_run_suite("snapshot", tests, MFS_ARRAY_LEN(tests));
}
