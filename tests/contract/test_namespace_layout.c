/*
 * Changed files on every engine: commits with inline bytes, slices and documents; what is dropped with them and what
 * goes with a version; truncation of all of it; the way through trash and back.
 */
#include <errno.h>
#include <inttypes.h>

#include "meta/drops.h"
#include "meta/layout.h"
#include "tests/lib/namespace_world.h"

#define ROOT	MFS_ROOT_INO
#define SESSION 100

/* A layout with slices in segments, each of 100 bytes of log: "op@off" sets [off, off+100) to segment `op`. */
struct spec {
	uint64_t op, off;
};

static struct node_blob encode(const struct spec *v, size_t n, uint64_t doc_id)
{
	struct node_blob b = { 0 };
	struct layout l;

	layout_init(&l);
	for (size_t i = 0; i < n; i++) {
		struct segment s = { .pos = v[i].op * 100, .len = 100, .session = SESSION, .op = v[i].op };

		snprintf(s.version, sizeof(s.version), "p%" PRIu64, v[i].op);
		assert_int_equal(layout_add_segment(&l, &s, NULL, NULL), 0);
		assert_int_equal(layout_set(&l, v[i].off, 100, s.pos), 0);
	}
	/* As layout_make_docs() does when there are many: the slices are in a document, the record names it. */
	if (doc_id) {
		l.docs = calloc(1, sizeof(*l.docs));
		assert_non_null(l.docs);
		*l.docs = (struct layout_doc){ .start = v[0].off, .end = v[n - 1].off + 100, .id = doc_id, .n = (uint32_t)n };
		l.n_docs = l.cap_docs = 1;
		l.n_recent = 0;
	}
	assert_int_equal(layout_encode(&l, &b), 0);
	layout_release(&l);
	return b;
}
#define LAYOUT(...) encode((const struct spec[]){ __VA_ARGS__ }, sizeof((const struct spec[]){ __VA_ARGS__ }) / sizeof(struct spec), 0)

/* A commit of `size` bytes over the object of version `ref` at its key (NULL: none). */
static struct commit commit_of(struct ns_world *w, mfs_ino_t ino, const char *ref, uint64_t size)
{
	struct commit c = { .ino = ino, .lay = attr_of(w, ino).lay, .size = size, .alloc = 512, .mtime = 7 };

	if (ref) {
		c.ref.key = (char *)(uintptr_t) "f";
		snprintf(c.ref.version, sizeof(c.ref.version), "%s", ref);
		c.obj_len = size;
	}
	return c;
}

static struct mfs_attr done(struct ns_world *w, const struct commit *c)
{
	struct mfs_attr a;

	assert_int_equal(namespace_commit(w->ns[0], &w->op, c, &a), 0);
	return a;
}

static void commit_inline(struct ns_world *w, mfs_ino_t ino, const char *text, int64_t todo, bool keep)
{
	struct node_blob b = { .data = (char *)(uintptr_t)text, .size = strlen(text) };
	struct commit c = commit_of(w, ino, NULL, b.size);

	c.inline_data = &b;
	c.todo = todo;
	c.keep_version = keep;
	done(w, &c);
}

static void commit_slices(struct ns_world *w, mfs_ino_t ino, const char *ref, struct node_blob b, bool keep)
{
	struct commit c = commit_of(w, ino, ref, 1000);

	c.slices = &b;
	c.todo = 5;
	c.keep_version = keep;
	done(w, &c);
	free(b.data);
}

static void assert_content(struct ns_world *w, mfs_ino_t ino, const char *text, const struct node_blob *slices, int64_t todo)
{
	struct node n = NODE_INIT;

	assert_int_equal(namespace_get(w->ns[0], &w->op, ino, &n), 0);
	assert_int_equal(n.inline_data.size, text ? strlen(text) : 0);
	if (text)
		assert_memory_equal(n.inline_data.data, text, strlen(text));
	assert_int_equal(n.slices.size, slices ? slices->size : 0);
	if (slices && slices->size)
		assert_memory_equal(n.slices.data, slices->data, slices->size);
	if (todo >= 0)
		assert_int_equal(n.todo, todo);
	else
		assert_true(n.todo > 0);
	node_release(&n);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is in dropped, sorted: versions of objects, "doc N". */
static void assert_dropped(struct ns_world *w, const char *expected)
{
	struct dropped_list l = { 0 };
	char text[512] = "", lines[32][32], *v[32];

	assert_int_equal(engine_dropped(w->e[0], &w->op, INT64_MAX, 0, 32, &l), 0);
	for (size_t i = 0; i < l.n; i++) {
		if (l.v[i].doc_id)
			snprintf(lines[i], sizeof(lines[i]), "doc%" PRIu64 " ", l.v[i].doc_id);
		else
			snprintf(lines[i], sizeof(lines[i]), "%.30s ", l.v[i].ref.version);
		assert_true(!l.v[i].doc_id == !object_ref_is_empty(&l.v[i].ref));
		assert_true(l.v[i].ino && l.v[i].at);
		v[i] = lines[i];
	}
	qsort(v, l.n, sizeof(*v), by_text);
	for (size_t i = 0; i < l.n; i++)
		strcat(text, v[i]);
	assert_string_equal(text, expected);
	dropped_list_release(&l);
}

/* A segment's object is where its key says. */
static void dropped_segments_have_their_key(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct segment s = { .session = SESSION, .op = 1 };
	char key[LAYOUT_PATCH_KEY_MAX];
	struct dropped_list l = { 0 };

	commit_slices(w, f, "v1", LAYOUT({ 1, 0 }), false);
	done(w, &(struct commit){ .ino = f, .lay = attr_of(w, f).lay });
	assert_dropped(w, "p1 v1 ");
	assert_int_equal(engine_dropped(w->e[0], &w->op, INT64_MAX, 0, 9, &l), 0);
	layout_patch_key(&s, key);
	assert_true(strcmp(l.v[0].ref.key, key) == 0 || strcmp(l.v[1].ref.key, key) == 0);
	assert_int_equal(l.v[0].ino, f);
	dropped_list_release(&l);
}

static void inline_bytes(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	int64_t later = mfs_now_ns() + INT64_C(3600) * MFS_NSEC_PER_SEC;
	unsigned int wakes = atomic_load(&w->wakes);
	struct commit c;
	struct node n = NODE_INIT;
	uint64_t records, bytes;

	commit_inline(w, f, "hello", later, true);
	assert_content(w, f, "hello", NULL, later);
	assert_int_equal(attr_of(w, f).size, 5);
	assert_int_equal(attr_of(w, f).obj_len, 0);
	assert_jobs(w, ""); /* its todo says it */
	assert_int_equal(atomic_load(&w->wakes), wakes);
	assert_int_equal(engine_todo_count(w->e[0], &w->op, &records, &bytes), 0);
	assert_int_equal(records, 1);
	assert_int_equal(bytes, 5);
	commit_inline(w, f, "other", 5, false); /* due: the reconciler is woken */
	assert_content(w, f, "other", NULL, 5);
	assert_int_equal(atomic_load(&w->wakes), wakes + 1);
	assert_dropped(w, "");
	/* Settled. */
	c = commit_of(w, f, "v1", 5);
	c.settle = true;
	done(w, &c);
	assert_content(w, f, NULL, NULL, 0);
	assert_dropped(w, "");
	assert_jobs(w, "");
	/* Inline again: the old object goes, and its key is to be looked at when the new one is there, or the file gone. */
	commit_inline(w, f, "third", later, false);
	assert_dropped(w, "v1 ");
	{
		struct job_list jobs = { 0 };

		assert_int_equal(engine_jobs(w->e[0], &w->op, INT64_MAX, 9, &jobs), 0);
		assert_int_equal(jobs.n, 1);
		assert_string_equal(jobs.v[0].key, "f");
		assert_int_equal(jobs.v[0].due, later);
		job_list_release(&jobs);
	}
	free(take_jobs(w));
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_true(object_ref_is_empty(&n.ref));
	node_release(&n);
}

/* An object that is at another key than its own and is left for inline bytes: that key is looked at now. */
static void inline_bytes_leave_a_foreign_key_at_once(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	int64_t later = mfs_now_ns() + INT64_C(3600) * MFS_NSEC_PER_SEC;
	struct job_list jobs = { 0 };

	put(w, f, "elsewhere", 10);
	free(take_jobs(w));
	commit_inline(w, f, "x", later, false);
	assert_int_equal(engine_jobs(w->e[0], &w->op, mfs_now_ns(), 9, &jobs), 0);
	assert_int_equal(jobs.n, 1);
	assert_string_equal(jobs.v[0].key, "elsewhere");
	job_list_release(&jobs);
}

static void a_commit_that_cannot_be(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct node_blob b = { .data = (char *)(uintptr_t) "abc", .size = 3 }, bad = { .data = b.data, .size = 3 };
	struct node_blob slices = LAYOUT({ 1, 0 }), big = { .size = MFS_INLINE_MAX + 1 };
	struct slices_doc_record doc = { .ino = f, .id = 9 };
	struct mfs_attr a;
	struct commit c;

	big.data = calloc(1, big.size);
	c = commit_of(w, f, NULL, 3);
	c.inline_data = &b;
	c.slices = &slices;
	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EINVAL);
	c = commit_of(w, f, "v1", 3);
	c.inline_data = &b;
	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EINVAL);
	c = commit_of(w, f, NULL, 2); /* shorter than its bytes */
	c.inline_data = &b;
	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EINVAL);
	c = commit_of(w, f, NULL, big.size);
	c.inline_data = &big;
	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EINVAL);
	c = commit_of(w, f, "v1", 3);
	c.slices = &bad;
	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EINVAL);
	c = commit_of(w, f, "v1", 3);
	c.docs = &doc;
	c.n_docs = 1;
	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EINVAL);
	assert_content(w, f, NULL, NULL, 0);
	free(slices.data);
	free(big.data);
}

static void what_the_new_layout_does_not_name_is_dropped(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct commit c = commit_of(w, f, "v1", 1000);
	struct node_blob b = LAYOUT({ 1, 0 }, { 3, 500 });
	struct version_list l = { 0 };

	done(w, &c);
	commit_slices(w, f, "v1", LAYOUT({ 1, 0 }, { 2, 300 }), false);
	assert_dropped(w, "");
	commit_slices(w, f, "v1", LAYOUT({ 1, 0 }, { 3, 500 }), false); /* 2 is swallowed, say */
	assert_dropped(w, "p2 ");
	assert_content(w, f, NULL, &b, 5);
	free(b.data);
	/* Kept as a version: it names its own, nothing is dropped. */
	commit_slices(w, f, "v1", LAYOUT({ 4, 0 }), true);
	assert_dropped(w, "p2 ");
	assert_int_equal(engine_versions_by_ino(w->e[0], &w->op, f, &l), 0);
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].slices.size > 0, 1);
	assert_string_equal(l.v[0].ref.version, "v1");
	version_list_release(&l);
	/* A settle composes all of it; the version still names v1, which is for the collector to see. */
	c = commit_of(w, f, "v2", 1000);
	c.settle = true;
	done(w, &c);
	assert_dropped(w, "p2 p4 v1 ");
	assert_content(w, f, NULL, NULL, 0);
	assert_jobs(w, "");
}

static void documents_come_and_go_with_the_record(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct slices_doc_record docs[2] = { { .ino = f, .id = 70, .session = SESSION }, { .ino = f, .id = 71, .session = SESSION } };
	struct node_blob b = encode((const struct spec[]){ { 1, 0 } }, 1, 70), got = { 0 };
	struct commit c = commit_of(w, f, "v1", 1000);
	struct mfs_attr a;

	docs[0].blob = docs[1].blob = b;
	c.slices = &b;
	c.docs = docs;
	c.n_docs = 2;
	c.todo = 9;
	c.lay++;
	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EAGAIN);
	assert_int_equal(engine_slices_get(w->e[0], &w->op, f, 70, &got), -ENOENT); /* nothing is left behind */
	assert_int_equal(engine_slices_get(w->e[0], &w->op, f, 71, &got), -ENOENT);
	c.lay--;
	done(w, &c);
	assert_int_equal(engine_slices_get(w->e[0], &w->op, f, 70, &got), 0);
	assert_int_equal(got.size, b.size);
	free(got.data);
	assert_int_equal(engine_slices_get(w->e[0], &w->op, f, 71, &got), 0);
	free(got.data);
	free(b.data);
	assert_dropped(w, "");
	b = encode((const struct spec[]){ { 1, 0 } }, 1, 72);
	commit_slices(w, f, "v1", b, false);
	assert_dropped(w, "doc70 "); /* 71 was never named */
	done(w, &(struct commit){ .ino = f, .lay = attr_of(w, f).lay, .settle = false });
	assert_dropped(w, "doc70 doc72 p1 v1 ");
}

static void a_commit_that_loses_leaves_nothing(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct node_blob b = LAYOUT({ 7, 0 });
	struct commit c = commit_of(w, f, "v1", 1000);
	struct version_list l = { 0 };
	struct mfs_attr a;

	done(w, &c);
	commit_slices(w, f, "v1", LAYOUT({ 1, 0 }), false);
	c = commit_of(w, f, "v9", 1000);
	c.lay--;
	c.slices = &b;
	for (int keep = 0; keep < 2; keep++) {
		c.keep_version = keep;
		assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), -EAGAIN);
	}
	free(b.data);
	b = LAYOUT({ 1, 0 });
	assert_content(w, f, NULL, &b, 5);
	free(b.data);
	assert_dropped(w, "");
	assert_jobs(w, "");
	assert_int_equal(engine_versions_by_ino(w->e[0], &w->op, f, &l), 0);
	assert_int_equal(l.n, 0);
}

static uint64_t truncate_to(struct ns_world *w, mfs_ino_t f, uint64_t size, bool keep)
{
	struct mfs_attr a;

	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, attr_of(w, f).lay, size, keep, false, &a), 0);
	assert_int_equal(a.size, size);
	return a.obj_len;
}

/* Of an unlinked open file: a patch puts nothing at a key, so there is no key to look at. */
static void patches_of_an_unlinked_file(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct node_blob b = LAYOUT({ 1, 0 });
	struct version_list l = { 0 };
	struct commit c = commit_of(w, f, "v1", 1000);

	done(w, &c);
	assert_int_equal(do_unlink(w, 0, ROOT, "f"), 0);
	free(take_jobs(w));
	commit_slices(w, f, "v1", LAYOUT({ 1, 0 }), true);
	assert_jobs(w, "");
	assert_content(w, f, NULL, &b, 5);
	free(b.data);
	assert_int_equal(engine_versions_by_ino(w->e[0], &w->op, f, &l), 0);
	assert_int_equal(l.n, 0);
	c = commit_of(w, f, "v2", 1000);
	done(w, &c);
	assert_dropped(w, "p1 v1 ");
	assert_jobs(w, "key f\n");
}

static void truncates_inline_bytes(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct version_list l = { 0 };

	commit_inline(w, f, "hello world", 5, false);
	truncate_to(w, f, 5, true);
	assert_content(w, f, "hello", NULL, 5); /* due already: stays so */
	assert_int_equal(engine_versions_by_ino(w->e[0], &w->op, f, &l), 0);
	assert_int_equal(l.n, 1);
	assert_memory_equal(l.v[0].inline_data.data, "hello world", 11);
	version_list_release(&l);
	truncate_to(w, f, 90, true); /* zeros follow */
	assert_content(w, f, "hello", NULL, 5);
	truncate_to(w, f, 7, true); /* only zeros go, and the bytes stay */
	assert_content(w, f, "hello", NULL, 5);
	truncate_to(w, f, 0, false);
	assert_content(w, f, NULL, NULL, 5);
	truncate_to(w, f, 10, false); /* reads as zeros */
	assert_content(w, f, NULL, NULL, 5);
	assert_dropped(w, "");
	assert_jobs(w, "");
}

static void truncates_slices(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct node_blob whole = LAYOUT({ 1, 0 }, { 2, 300 }, { 3, 600 }), clipped;
	struct commit c = commit_of(w, f, "v1", 1000);

	c.slices = &whole;
	done(w, &c); /* todo 0: a file of holes, say */
	assert_int_equal(truncate_to(w, f, 350, false), 350);
	assert_int_equal(layout_clip_blob(&whole, 350, &clipped), 0);
	assert_content(w, f, NULL, &clipped, -1);
	assert_dropped(w, ""); /* segments stay until a commit says otherwise */
	assert_int_equal(truncate_to(w, f, 900, false), 350);
	assert_content(w, f, NULL, &clipped, -1);
	free(clipped.data);
	/* With a version nothing is dropped; without, all that an empty file does not name. */
	assert_int_equal(truncate_to(w, f, 0, true), 0);
	assert_content(w, f, NULL, NULL, -1);
	assert_dropped(w, "");
	c.lay = attr_of(w, f).lay;
	done(w, &c);
	assert_int_equal(truncate_to(w, f, 0, false), 0);
	assert_dropped(w, "p1 p2 p3 ");
	free(whole.data);
	assert_jobs(w, "");
}

static void truncation_drops_documents_beyond(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct node n = NODE_INIT;

	commit_slices(w, f, "v1", encode((const struct spec[]){ { 1, 500 } }, 1, 70), false);
	truncate_to(w, f, 550, false); /* it counts up to there now */
	assert_dropped(w, "");
	truncate_to(w, f, 400, false);
	/* Without any slice left the segment goes too. */
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_int_equal(n.slices.size, 0);
	node_release(&n);
	assert_dropped(w, "doc70 p1 ");
}

static void through_trash_and_back(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), g = mkfile(w, ROOT, "g");
	struct node_blob b = LAYOUT({ 1, 0 });
	struct past_list l = { 0 };
	struct mfs_attr a;
	uint64_t records, bytes;

	commit_inline(w, f, "one", 5, true);
	commit_inline(w, f, "two", 5, true);
	commit_slices(w, g, "v1", LAYOUT({ 1, 0 }), true);
	assert_int_equal(do_unlink(w, 0, ROOT, "f"), 0);
	assert_int_equal(do_unlink(w, 0, ROOT, "g"), 0);
	free(take_jobs(w));
	assert_int_equal(engine_todo_count(w->e[0], &w->op, &records, &bytes), 0);
	assert_int_equal(records + bytes, 0);
	assert_int_equal(namespace_past(w->ns[0], &w->op, "f", &l), 0);
	assert_int_equal(l.n, 2);
	assert_true(l.v[0].is_trash);
	assert_memory_equal(l.v[0].inline_data.data, "two", 3);
	assert_memory_equal(l.v[1].inline_data.data, "one", 3);
	past_list_release(&l);
	assert_int_equal(namespace_past(w->ns[0], &w->op, "g", &l), 0);
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].slices.size, b.size);
	past_list_release(&l);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, f, ROOT, "f", 1, &a), 0);
	assert_content(w, f, "two", NULL, a.ctime);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, g, ROOT, "g", 1, &a), 0);
	assert_content(w, g, NULL, &b, a.ctime);
	assert_jobs(w, "key g\n"); /* f has no object, and todo */
	free(b.data);
}

/* What is at its place and whole has nothing to be looked at; what is not has a job, or todo, not both. */
static void a_misplaced_object_needs_one_word(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "g");
	struct commit c = commit_of(w, f, "v1", 10); /* at "f" */

	done(w, &c);
	assert_jobs(w, fmt("file %" PRIu64 "\n", f));
	c = commit_of(w, f, "v1", 10);
	c.todo = 77;
	done(w, &c);
	assert_jobs(w, "");
	assert_content(w, f, NULL, NULL, 77);
}

static void numbers(void **state)
{
	struct ns_world *w = *state;
	uint64_t a, b, c, d, next;
	mfs_ino_t f;

	assert_int_equal(namespace_reserve(w->ns[0], &w->op, 0, &a), -EINVAL);
	assert_int_equal(namespace_reserve(w->ns[0], &w->op, 5, &a), 0);
	assert_int_equal(namespace_reserve(w->ns[0], &w->op, 1, &b), 0);
	f = mkfile(w, ROOT, "f");
	assert_int_equal(namespace_reserve(w->ns[0], &w->op, 2500, &c), 0);
	assert_int_equal(namespace_reserve(w->ns[0], &w->op, 3, &d), 0);
	assert_int_equal(engine_reserve(w->bare, &w->op, 1, &next), 0);
	assert_true(b == a + 5 && f == b + 1);
	assert_true(c > f && (d == f + 1 || d == c + 2500));
	assert_true(next > c + 2499 && next > d + 2);
}

/* For the collector. */
static void names_are_known(void **state)
{
	struct ns_world *w = *state;
	struct node_blob b = encode((const struct spec[]){ { 1, 0 }, { 2, 500 } }, 2, 70), bad = { .data = b.data, .size = 1 };
	struct object_ref ref = { .key = (char *)(uintptr_t) "f", .version = "v1" };
	const struct content_names by = { .ref = &ref, .slices = &b }, none = { 0 }, damaged = { .slices = &bad };
	struct dropped_record d = { .ino = 5, .doc_id = 70 };
	struct dropped_list l = { 0 };

	(void)w;
	assert_int_equal(drops_is_named(&d, &by), 1);
	assert_int_equal(drops_is_named(&d, &none), 0);
	d.doc_id = 71;
	assert_int_equal(drops_is_named(&d, &by), 0);
	d = (struct dropped_record){ .ino = 5, .ref = { .key = (char *)(uintptr_t) "x", .version = "p2" } };
	assert_int_equal(drops_is_named(&d, &by), 1);
	strcpy(d.ref.version, "v1");
	assert_int_equal(drops_is_named(&d, &by), 1);
	strcpy(d.ref.version, "p3");
	assert_int_equal(drops_is_named(&d, &by), 0);
	assert_int_equal(drops_is_named(&d, &damaged), -EUCLEAN);
	assert_int_equal(drops_add(&l, 5, 1, &damaged, NULL), -EUCLEAN);
	assert_int_equal(drops_add(&l, 5, 1, &none, &by), 0);
	assert_int_equal(l.n, 0);
	assert_int_equal(drops_add(&l, 5, 1, &by, &by), 0);
	assert_int_equal(l.n, 0);
	assert_int_equal(drops_add(&l, 5, 1, &by, NULL), 0);
	assert_int_equal(l.n, 4); /* the object, two segments, one document */
	dropped_list_release(&l);
	free(b.data);
}

int main(void)
{
	static const struct ns_test tests[] = {
		NS_TEST(inline_bytes),
		NS_TEST(inline_bytes_leave_a_foreign_key_at_once),
		NS_TEST(a_commit_that_cannot_be),
		NS_TEST(what_the_new_layout_does_not_name_is_dropped),
		NS_TEST(dropped_segments_have_their_key),
		NS_TEST(documents_come_and_go_with_the_record),
		NS_TEST(a_commit_that_loses_leaves_nothing),
		NS_TEST(patches_of_an_unlinked_file),
		NS_TEST(truncates_inline_bytes),
		NS_TEST(truncates_slices),
		NS_TEST(truncation_drops_documents_beyond),
		NS_TEST(through_trash_and_back),
		NS_TEST(a_misplaced_object_needs_one_word),
		NS_TEST(numbers),
		NS_TEST(names_are_known),
	};

	return ns_suite_run("namespace_layout", tests, MFS_ARRAY_LEN(tests));
}
