/*
 * Garbage collection of changed files: random commits with patches, documents, swallowing, compaction, truncation,
 * versions, removal, undelete, expiry and crashes, against a model of each state's bytes. After every collection each
 * state that the index has is read whole and compared; at the end exactly what is named is left.
 *
 * MASSFS_TEST_SEED=N gives another run; the seed is printed.
 */
#include "tests/lib/volume_world.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fs/gc.h"
#include "fs/snapshot.h"
#include "meta/drops.h"
#include "meta/layout.h"

#define FILES	  4
#define BYTES_MAX 20000
#define STEPS	  250
#define RANGES_MAX 300

struct state { /* of a file's bytes, by its data counter */
	mfs_ino_t ino;
	uint64_t data;
	size_t size;
	char *bytes;
};

struct file {
	mfs_ino_t ino; /* 0: none */
	bool removed;
	char name[16];
	size_t size;
	char bytes[BYTES_MAX];
};

struct model {
	struct world *w;
	struct file files[FILES];
	struct state *states;
	size_t n_states, cap_states;
	uint64_t next_number, rng;
	int64_t began;
};

static uint64_t rnd(struct model *m, uint64_t below)
{
	m->rng ^= m->rng << 13;
	m->rng ^= m->rng >> 7;
	m->rng ^= m->rng << 17;
	return m->rng % below;
}

static void fill(struct model *m, char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (char)(1 + rnd(m, 255));
}

static void remember(struct model *m, const struct file *f, uint64_t data)
{
	struct state *s = NULL;

	for (size_t i = 0; i < m->n_states; i++)
		if (m->states[i].ino == f->ino && m->states[i].data == data)
			s = &m->states[i];
	if (!s) {
		if (m->n_states == m->cap_states) {
			m->cap_states = m->cap_states ? 2 * m->cap_states : 64;
			m->states = realloc(m->states, m->cap_states * sizeof(*m->states));
			assert_non_null(m->states);
		}
		s = &m->states[m->n_states++];
		*s = (struct state){ .ino = f->ino, .data = data };
	}
	free(s->bytes);
	s->size = f->size;
	s->bytes = malloc(f->size + 1);
	assert_non_null(s->bytes);
	memcpy(s->bytes, f->bytes, f->size);
}

/* --- changing --- */

struct edit { /* a record's layout, whole */
	struct node n;
	struct layout l;
	struct slices_doc_list docs;
	struct node_blob blob;
};

static void edit_begin(struct model *m, const struct file *f, struct edit *e)
{
	*e = (struct edit){ .n = world_node(m->w, f->ino) };
	layout_init(&e->l);
	assert_int_equal(layout_parse(&e->n.slices, &e->l), 0);
	for (size_t i = 0; i < e->l.n_docs; i++) {
		struct node_blob doc = { 0 };

		assert_int_equal(engine_slices_get(m->w->v->engine, &m->w->op, f->ino, e->l.docs[i].id, &doc), 0);
		assert_int_equal(layout_add_doc(&e->l, i, &doc), 0);
		free(doc.data);
	}
}

static void edit_end(struct edit *e)
{
	slices_doc_list_release(&e->docs);
	free(e->blob.data);
	layout_release(&e->l);
	node_release(&e->n);
}

/* A patch object for [pos, pos+len) of the log. */
static struct segment put_segment(struct model *m, mfs_ino_t ino, uint64_t pos, const char *bytes, size_t len)
{
	struct object_meta meta = { .ino = ino, .session = m->w->v->session, .op = m->next_number++, .mode = 0600 };
	struct segment s = { .pos = pos, .len = len, .session = meta.session, .op = meta.op };
	char key[LAYOUT_PATCH_KEY_MAX];
	struct object_info info;

	layout_patch_key(&s, key);
	assert_int_equal(object_put(m->w->v->store, &m->w->op, NULL, key, bytes, len, &meta, &info), 0);
	memcpy(s.version, info.version, sizeof(s.version));
	return s;
}

/* The layout of e, with the model's size: as one commit. */
static void edit_commit(struct model *m, struct file *f, struct edit *e, bool settle)
{
	struct commit c = { .ino = f->ino,
			    .lay = e->n.attr.lay,
			    .ref = e->n.ref,
			    .obj_len = e->n.attr.obj_len,
			    .size = f->size,
			    .mtime = settle ? 0 : mfs_now_ns(),
			    .settle = settle,
			    .keep_version = !settle && rnd(m, 3) > 0,
			    .slices = &e->blob,
			    .todo = mfs_now_ns() + MFS_NSEC_PER_SEC * 100000 };
	size_t needed = layout_docs_needed(&e->l);
	struct mfs_attr attr;
	uint64_t first = 0;

	if (needed)
		assert_int_equal(namespace_reserve(m->w->v->ns, &m->w->op, (unsigned int)needed, &first), 0);
	if (needed)
		assert_int_equal(layout_make_docs(&e->l, f->ino, m->w->v->session, first, &e->docs), 0);
	assert_int_equal(layout_encode(&e->l, &e->blob), 0);
	c.docs = e->docs.v;
	c.n_docs = (uint32_t)e->docs.n;
	assert_int_equal(namespace_commit(m->w->v->ns, &m->w->op, &c, &attr), 0);
	remember(m, f, attr.data);
}

static bool has_object(struct model *m, const struct file *f)
{
	struct node n = world_node(m->w, f->ino);
	bool has = !object_ref_is_empty(&n.ref);

	node_release(&n);
	return has;
}

static void do_patch(struct model *m, struct file *f)
{
	unsigned int count = 1 + (unsigned int)rnd(m, rnd(m, 2) ? 10 : RANGES_MAX);
	char bytes[RANGES_MAX * 64];
	struct segment s;
	struct edit e;
	size_t n = 0;
	uint64_t pos;

	edit_begin(m, f, &e);
	if (layout_pressure(&e.l) == LAYOUT_FULL) {
		edit_end(&e);
		return;
	}
	pos = e.l.log_end;
	for (unsigned int i = 0; i < count; i++) {
		size_t len = 1 + rnd(m, 64), off = rnd(m, BYTES_MAX - 64);

		if (off > f->size)
			memset(f->bytes + f->size, 0, off - f->size);
		fill(m, bytes + n, len);
		memcpy(f->bytes + off, bytes + n, len);
		f->size = MFS_MAX(f->size, off + len);
		assert_int_equal(layout_set(&e.l, off, len, pos + n), 0);
		n += len;
	}
	s = put_segment(m, f->ino, pos, bytes, n);
	assert_int_equal(layout_add_segment(&e.l, &s, NULL, NULL), 0);
	edit_commit(m, f, &e, false);
	edit_end(&e);
}

static void do_punch(struct model *m, struct file *f)
{
	size_t off, len;
	struct edit e;

	if (f->size < 2)
		return;
	off = rnd(m, f->size - 1);
	len = 1 + rnd(m, f->size - off);
	edit_begin(m, f, &e);
	assert_int_equal(layout_set(&e.l, off, len, LAYOUT_HOLE), 0);
	memset(f->bytes + off, 0, len);
	edit_commit(m, f, &e, false);
	edit_end(&e);
}

/* Some segments that follow each other become one. */
static void do_swallow(struct model *m, struct file *f)
{
	char *bytes;
	struct edit e;
	struct segment s, *gone;
	size_t first, last, n_gone = 0;
	uint64_t pos, len;

	edit_begin(m, f, &e);
	if (e.l.n_segments < 2) {
		edit_end(&e);
		return;
	}
	first = rnd(m, e.l.n_segments - 1);
	last = first + 1 + rnd(m, e.l.n_segments - first - 1);
	pos = e.l.segments[first].pos;
	len = e.l.segments[last].pos + e.l.segments[last].len - pos;
	bytes = calloc(1, len);
	gone = calloc(e.l.n_segments, sizeof(*gone));
	assert_true(bytes && gone);
	for (size_t i = first; i <= last; i++) {
		struct object_ref ref = { 0 };

		assert_int_equal(layout_segment_ref(&e.l.segments[i], &ref), 0);
		assert_int_equal(object_get(m->w->v->store, &m->w->op, &ref, 0, bytes + (e.l.segments[i].pos - pos),
					    e.l.segments[i].len),
				 e.l.segments[i].len);
		object_ref_release(&ref);
	}
	s = put_segment(m, f->ino, pos, bytes, len);
	assert_int_equal(layout_add_segment(&e.l, &s, gone, &n_gone), 0);
	assert_int_equal(n_gone, last - first + 1);
	if (rnd(m, 2))
		layout_drop_dead(&e.l, gone, &n_gone);
	edit_commit(m, f, &e, true);
	free(gone);
	free(bytes);
	edit_end(&e);
}

/* Written anew, or composed: one object. */
static void do_whole(struct model *m, struct file *f, bool settle)
{
	struct node n = world_node(m->w, f->ino);
	struct object_meta meta = volume_object_meta(m->w->v, &n.attr);
	struct object_info info;
	struct mfs_attr attr;
	struct commit c = { .ino = f->ino, .lay = n.attr.lay, .ref = { .key = f->name }, .settle = settle };

	if (!settle) {
		f->size = rnd(m, BYTES_MAX);
		fill(m, f->bytes, f->size);
		c.mtime = mfs_now_ns();
		c.keep_version = rnd(m, 3) > 0;
	}
	assert_int_equal(object_put(m->w->v->store, &m->w->op, NULL, f->name, f->bytes, f->size, &meta, &info), 0);
	memcpy(c.ref.version, info.version, sizeof(c.ref.version));
	c.obj_len = c.size = f->size;
	if (rnd(m, 10)) { /* else it is never committed */
		assert_int_equal(namespace_commit(m->w->v->ns, &m->w->op, &c, &attr), 0);
		remember(m, f, attr.data);
	} else if (!settle) {
		node_release(&n);
		n = world_node(m->w, f->ino);
		for (size_t i = 0; i < m->n_states; i++)
			if (m->states[i].ino == f->ino && m->states[i].data == n.attr.data) {
				f->size = m->states[i].size;
				memcpy(f->bytes, m->states[i].bytes, f->size);
			}
	}
	node_release(&n);
}

static void do_inline(struct model *m, struct file *f)
{
	struct node n = world_node(m->w, f->ino);
	struct node_blob data = { 0 };
	struct mfs_attr attr;
	struct commit c = { .ino = f->ino,
			    .lay = n.attr.lay,
			    .mtime = mfs_now_ns(),
			    .keep_version = rnd(m, 3) > 0,
			    .inline_data = &data,
			    .todo = mfs_now_ns() + MFS_NSEC_PER_SEC * 100000 };

	f->size = 1 + rnd(m, 2000);
	fill(m, f->bytes, f->size);
	data = (struct node_blob){ f->bytes, f->size };
	c.size = f->size;
	assert_int_equal(namespace_commit(m->w->v->ns, &m->w->op, &c, &attr), 0);
	remember(m, f, attr.data);
	node_release(&n);
}

static void do_truncate(struct model *m, struct file *f)
{
	size_t size = rnd(m, BYTES_MAX);
	struct node n = world_node(m->w, f->ino);
	struct mfs_attr attr;

	assert_int_equal(namespace_truncate(m->w->v->ns, &m->w->op, f->ino, n.attr.lay, size, rnd(m, 2), false, &attr),
			 0);
	if (size > f->size)
		memset(f->bytes + f->size, 0, size - f->size);
	f->size = size;
	remember(m, f, attr.data);
	node_release(&n);
}

static void do_remove_or_undelete(struct model *m, struct file *f)
{
	struct mfs_attr attr;

	if (!f->removed) {
		world_unlink(m->w, f->name);
		f->removed = true;
		return;
	}
	assert_int_equal(namespace_undelete(m->w->v->ns, &m->w->op, f->ino, MFS_ROOT_INO, f->name, strlen(f->name),
					    &attr),
			 0);
	f->removed = false;
}

static void make_file(struct model *m, struct file *f)
{
	f->removed = false;
	f->size = rnd(m, 200);
	fill(m, f->bytes, f->size);
	f->bytes[f->size] = '\0';
	snprintf(f->name, sizeof(f->name), "f%" PRIu64, m->next_number++);
	f->ino = world_write(m->w, f->name, f->bytes);
	{
		struct node n = world_node(m->w, f->ino);

		remember(m, f, n.attr.data);
		node_release(&n);
	}
}

/* --- checking --- */

static void expect_state(struct model *m, mfs_ino_t ino, uint64_t data, struct snapshot *s)
{
	const struct state *want = NULL;
	char *got;

	for (size_t i = 0; i < m->n_states; i++)
		if (m->states[i].ino == ino && m->states[i].data == data)
			want = &m->states[i];
	assert_non_null(want);
	assert_int_equal(snapshot_size(s), want->size);
	got = malloc(want->size + 1);
	assert_non_null(got);
	if (want->size)
		assert_int_equal(snapshot_read(s, &m->w->op, 0, got, want->size), 0);
	assert_memory_equal(got, want->bytes, want->size);
	free(got);
}

struct count {
	size_t objects, docs;
};

static int add_one(void *arg, const struct segment *s, uint64_t doc_id)
{
	struct count *c = arg;

	(void)doc_id;
	if (s)
		c->objects++;
	else
		c->docs++;
	return 0;
}

static void add_state(struct count *c, const struct object_ref *ref, const struct node_blob *slices)
{
	c->objects += !object_ref_is_empty(ref);
	if (slices->size)
		assert_int_equal(layout_diff(slices, NULL, add_one, c), 0);
}

/* Every state there is can be read whole. Of the current ones, what they name is counted. */
static struct count check_all(struct model *m)
{
	struct version_list versions = { 0 };
	struct count c = { 0 };

	for (size_t i = 0; i < FILES; i++) {
		struct snapshot *s = NULL;
		struct node n = NODE_INIT;
		int r = m->files[i].ino ? namespace_get(m->w->v->ns, &m->w->op, m->files[i].ino, &n) : -ESTALE;

		if (r == -ESTALE)
			continue;
		assert_int_equal(r, 0);
		assert_int_equal(n.attr.size, m->files[i].size);
		assert_int_equal(snapshot_of_node(m->w->v, &m->w->op, &n, &s), 0);
		expect_state(m, n.attr.ino, n.attr.data, s);
		add_state(&c, &n.ref, &n.slices);
		snapshot_free(s);
		node_release(&n);
	}
	assert_int_equal(engine_versions_all(m->w->v->engine, &m->w->op, 0, 0, 10000, &versions), 0);
	for (size_t i = 0; i < versions.n; i++) {
		struct snapshot *s = NULL;

		assert_int_equal(snapshot_of_version(m->w->v, &m->w->op, &versions.v[i], &s), 0);
		expect_state(m, versions.v[i].ino, versions.v[i].data, s);
		snapshot_free(s);
	}
	version_list_release(&versions);
	return c;
}

static struct gc_result collect(struct model *m, int64_t now, bool delete_it)
{
	struct gc_options opt = { .delete_it = delete_it, .now = now };
	struct gc_result r = { 0 };

	assert_int_equal(gc_run(m->w->v, &m->w->op, &opt, &r), 0);
	assert_int_equal(r.failed, 0);
	return r;
}

/* What was purged is no file any more. */
static void forget_purged(struct model *m)
{
	for (size_t i = 0; i < FILES; i++) {
		struct node n = NODE_INIT;

		if (m->files[i].ino && m->files[i].removed &&
		    namespace_get(m->w->v->ns, &m->w->op, m->files[i].ino, &n) == -ESTALE)
			m->files[i].ino = 0;
		node_release(&n);
	}
}

/* --- running --- */

static void change_one(struct model *m, struct file *f)
{
	if (!f->ino) {
		make_file(m, f);
		return;
	}
	if (f->removed) {
		if (!rnd(m, 4))
			do_remove_or_undelete(m, f);
		return;
	}
	switch (rnd(m, 16)) {
	case 0:
		do_whole(m, f, false);
		break;
	case 1:
		do_whole(m, f, true);
		break;
	case 2:
		do_truncate(m, f);
		break;
	case 3:
		do_inline(m, f);
		break;
	case 4:
		do_remove_or_undelete(m, f);
		break;
	case 5:
	case 6:
		if (has_object(m, f))
			do_punch(m, f);
		break;
	case 7:
	case 8:
		if (has_object(m, f))
			do_swallow(m, f);
		break;
	default:
		if (has_object(m, f))
			do_patch(m, f);
	}
}

/* Returns how many documents went. */
static uint64_t expect_only_what_is_named(struct model *m)
{
	struct dropped_list dropped = { 0 };
	struct gc_result r = { 0 };
	int64_t end = mfs_now_ns() + 10 * WORLD_RETENTION;
	uint64_t docs;
	struct count c;

	/* What waits for the reconciler of an ended session is looked at first. */
	world_reopen(m->w);
	(void)world_settle(m->w);
	(void)collect(m, end, true);
	forget_purged(m);
	r = collect(m, end + 1, true);
	docs = r.deleted_docs;
	c = check_all(m);
	r = collect(m, end + 2, true);
	assert_int_equal(r.unnamed + r.dropped + r.deleted + r.in_flight + r.waiting, 0);
	assert_int_equal(r.unnamed_docs + r.dropped_docs + r.deleted_docs, 0);
	assert_int_equal(r.objects, c.objects);
	assert_int_equal(r.referenced, c.objects);
	assert_int_equal(r.docs, c.docs);
	assert_int_equal(r.referenced_docs, c.docs);
	assert_int_equal(engine_dropped(m->w->v->engine, &m->w->op, INT64_MAX, 0, 10, &dropped), 0);
	assert_int_equal(dropped.n, 0);
	dropped_list_release(&dropped);
	return docs;
}

static void test_random_changes__lose_nothing_and_leave_nothing(void **state)
{
	const char *given = getenv("MASSFS_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 10) : 1, deleted = 0, docs = 0;
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->w = *state;
	m->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	m->next_number = 1;
	m->began = mfs_now_ns();
	print_message("seed %" PRIu64 "\n", seed);
	for (unsigned int i = 0; i < STEPS; i++) {
		struct gc_result r;

		change_one(m, &m->files[rnd(m, FILES)]);
		if (rnd(m, 40) == 0)
			world_crash(m->w);
		/* Now and then the retention of what is older than some moment since the beginning has ended. */
		r = collect(m,
			    rnd(m, 8) ? mfs_now_ns()
				      : m->began + WORLD_RETENTION + (int64_t)rnd(m, (uint64_t)(mfs_now_ns() - m->began)),
			    true);
		deleted += r.deleted;
		docs += r.deleted_docs;
		forget_purged(m);
		(void)check_all(m);
	}
	assert_true(deleted > STEPS / 10);
	docs += expect_only_what_is_named(m);
	assert_true(docs > 0);
	for (size_t i = 0; i < m->n_states; i++)
		free(m->states[i].bytes);
	free(m->states);
	free(m);
}

struct gc_thread {
	struct model *m;
	atomic_bool stop;
	unsigned int runs;
	int r;
};

static void *gc_main(void *arg)
{
	struct gc_thread *t = arg;
	struct op_ctx op = { 0 };

	while (!atomic_load(&t->stop) && t->r == 0) {
		struct gc_options opt = { .delete_it = true, .now = mfs_now_ns() };
		struct gc_result res = { 0 };

		t->r = gc_run(t->m->w->v, &op, &opt, &res);
		t->runs++;
	}
	return NULL;
}

/* Collection without a rest, and without a grace, beside commits. */
static void test_collection_beside_changes__loses_nothing(void **state)
{
	struct model *m = calloc(1, sizeof(*m));
	struct gc_thread t = { .m = m };
	pthread_t thread;

	assert_non_null(m);
	m->w = *state;
	m->rng = 42;
	m->next_number = 1;
	m->began = mfs_now_ns();
	assert_int_equal(pthread_create(&thread, NULL, gc_main, &t), 0);
	for (unsigned int i = 0; i < STEPS; i++)
		change_one(m, &m->files[rnd(m, FILES)]);
	atomic_store(&t.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(t.r, 0);
	assert_true(t.runs > 1);
	(void)check_all(m);
	(void)expect_only_what_is_named(m);
	for (size_t i = 0; i < m->n_states; i++)
		free(m->states[i].bytes);
	free(m->states);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_random_changes__lose_nothing_and_leave_nothing),
		WORLD_TEST(test_collection_beside_changes__loses_nothing),
	};

	return world_run_suite("gc of layouts", tests, MFS_ARRAY_LEN(tests));
}
