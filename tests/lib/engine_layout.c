/*
 * Contract tests of engines: what changed files need. Inline bytes and slices of a record, slices documents, writes of
 * many records, records with todo in order and in number.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/engine_suite.h"

#define REG 0100644

/* `size` bytes that differ from place to place and from seed to seed. NULL seed of 0: absent. */
static struct node_blob bytes_of(unsigned int seed, size_t size)
{
	struct node_blob b = { .size = size };
	unsigned char *p;

	if (seed == 0)
		return (struct node_blob){ 0 };
	b.data = p = malloc(size ? size : 1);
	assert_non_null(p);
	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)(seed * 31 + i * 7 + i / 251);
	return b;
}

static void same_bytes(const struct node_blob *a, const struct node_blob *b)
{
	assert_int_equal(a->size, b->size);
	assert_int_equal(!a->data, !b->data);
	if (a->size)
		assert_memory_equal(a->data, b->data, a->size);
}

static void set_content(struct node *n, unsigned int in, size_t in_size, unsigned int slices, size_t slices_size)
{
	free(n->inline_data.data);
	free(n->slices.data);
	n->inline_data = bytes_of(in, in_size);
	n->slices = bytes_of(slices, slices_size);
}

static void write_node(struct engine *e, enum write_kind kind, const struct node *n, uint32_t mask)
{
	struct change c = { 0 };
	struct write *w = change_write(&c, kind, n->attr.ino);

	w->node = n;
	w->mask = mask;
	TEST_OK(engine_apply(e, NULL, &c));
}

/* The record has n's content, by get and (in files) by lookup; a listing does not carry it. */
static void assert_content(struct engine_fixture *f, const struct node *n, bool in_trash)
{
	struct node_list l = NODE_LIST_INIT;
	struct node got = NODE_INIT;
	struct entry found;

	test_get(f->two, n->attr.ino, &got);
	same_bytes(&got.inline_data, &n->inline_data);
	same_bytes(&got.slices, &n->slices);
	node_release(&got);
	if (in_trash)
		return;
	TEST_OK(engine_lookup(f->two, NULL, n->parent, &n->name, &found));
	same_bytes(&found.node.inline_data, &n->inline_data);
	same_bytes(&found.node.slices, &n->slices);
	entry_release(&found);
	TEST_OK(engine_list(f->two, NULL, n->parent, n->pos - 1, 1, &l));
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].attr.ino, n->attr.ino);
	assert_true(l.v[0].partial && !l.v[0].inline_data.data && !l.v[0].slices.data);
	node_list_release(&l);
}

static void count_fault(void *arg, const char *text)
{
	print_message("%s\n", text);
	++*(int *)arg;
}

static void assert_sound(struct engine *e)
{
	int faults = 0;

	TEST_OK(engine_check(e, NULL, count_fault, &faults));
	assert_int_equal(faults, 0);
}

static void test_content__goes_with_its_record(void **state)
{
	static const size_t sizes[] = { 1, 100, 1018, 4061, 16384, MFS_INLINE_MAX };
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG);
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", 0040755);

	set_content(&n, 1, 300, 2, 700);
	write_node(f->e, WRITE_INSERT, &n, 0);
	assert_content(f, &n, false);
	for (size_t i = 0; i < MFS_ARRAY_LEN(sizes); i++) {
		set_content(&n, (unsigned int)i + 3, sizes[i], i & 1 ? 9 : 0, sizes[i] / 2);
		write_node(f->e, WRITE_EDIT, &n, EDIT_REF);
		assert_content(f, &n, false);
	}
	/* What does not say EDIT_REF leaves it. */
	write_node(f->e, WRITE_EDIT, &n, EDIT_MODE | EDIT_TODO | EDIT_XATTRS | EDIT_SIZE);
	n.parent = d;
	write_node(f->e, WRITE_RENAME, &n, EDIT_CTIME);
	assert_content(f, &n, false);
	n.trash_path = (char *)(uintptr_t) "n";
	write_node(f->e, WRITE_TRASH, &n, 0);
	assert_content(f, &n, true);
	engine_fixture_reopen(f);
	assert_content(f, &n, true);
	set_content(&n, 20, 30, 21, 60000);
	write_node(f->e, WRITE_EDIT, &n, EDIT_REF); /* of an unlinked open file */
	assert_content(f, &n, true);
	write_node(f->e, WRITE_UNTRASH, &n, 0);
	assert_content(f, &n, false);
	/* Empty is not absent, and absent replaces what was. */
	set_content(&n, 1, 0, 0, 0);
	write_node(f->e, WRITE_EDIT, &n, EDIT_REF);
	assert_content(f, &n, false);
	set_content(&n, 0, 0, 1, 0);
	write_node(f->e, WRITE_RENAME, &n, EDIT_REF);
	assert_content(f, &n, false);
	set_content(&n, 5, 10, 6, 10);
	write_node(f->e, WRITE_TRASH, &n, EDIT_REF);
	assert_content(f, &n, true);
	assert_sound(f->e);
	write_node(f->e, WRITE_PURGE, &n, 0);
	assert_sound(f->e);
	n.trash_path = NULL;
	node_release(&n);
}

/* A new record under an old number (load does it) has nothing of the one before. */
static void test_content__ends_with_its_record(void **state)
{
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG);

	set_content(&n, 1, 3000, 2, 3000);
	write_node(f->e, WRITE_INSERT, &n, 0);
	{
		struct change c = { 0 };

		change_write(&c, WRITE_DELETE, n.attr.ino);
		TEST_OK(engine_apply(f->e, NULL, &c));
	}
	assert_sound(f->e);
	set_content(&n, 0, 0, 3, 10);
	write_node(f->e, WRITE_INSERT, &n, 0);
	assert_content(f, &n, false);
	assert_sound(f->e);
	node_release(&n);
}

static struct slices_doc_record doc(mfs_ino_t ino, uint64_t id, unsigned int seed, size_t size)
{
	return (struct slices_doc_record){ .ino = ino, .id = id, .session = id + 7, .blob = bytes_of(seed, size) };
}

static void put_docs(struct engine *e, const struct slices_doc_record *v, uint32_t n)
{
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_SLICES_PUT, 0);

	w->slices = v;
	w->n = n;
	TEST_OK(engine_apply(e, NULL, &c));
}

static void test_slices__are_put_in_arrays_and_listed(void **state)
{
	struct engine_fixture *f = *state;
	struct slices_doc_record in[] = { doc(5, 9, 1, 4000), doc(5, 8, 2, 1), doc(4, 20, 3, 0), doc(5, UINT32_MAX, 4, 3000),
					  doc(UINT64_C(1) << 40, 1, 5, 60000) };
	static const int order[] = { 2, 1, 0, 3, 4 };
	struct slices_doc_list l = { 0 };
	struct node_blob got = { 0 };
	struct change c = { 0 };

	put_docs(f->e, in, 3);
	put_docs(f->e, in + 3, 2);
	put_docs(f->e, in, 0); /* 0: one. The same again is the same. */
	engine_fixture_reopen(f);
	for (size_t i = 0; i < MFS_ARRAY_LEN(in); i++) {
		TEST_OK(engine_slices_get(f->two, NULL, in[i].ino, in[i].id, &got));
		same_bytes(&got, &in[i].blob);
		free(got.data);
	}
	assert_int_equal(engine_slices_get(f->e, NULL, 4, 9, &got), -ENOENT);
	assert_int_equal(engine_slices_get(f->e, NULL, 5, 20, &got), -ENOENT);
	assert_int_equal(engine_slices_get(f->e, NULL, 0, 0, &got), -ENOENT);
	TEST_OK(engine_slices_all(f->e, NULL, 0, 0, 2, &l));
	assert_int_equal(l.n, 2);
	TEST_OK(engine_slices_all(f->e, NULL, l.v[1].ino, l.v[1].id, 10, &l)); /* appended */
	assert_int_equal(l.n, 5);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(l.v[i].ino, in[order[i]].ino);
		assert_int_equal(l.v[i].id, in[order[i]].id);
		assert_int_equal(l.v[i].session, in[order[i]].session);
		same_bytes(&l.v[i].blob, &in[order[i]].blob);
	}
	slices_doc_list_release(&l);
	assert_int_equal(engine_slices_all(f->e, NULL, 0, 0, 0, &l), -EINVAL);
	change_write(&c, WRITE_SLICES_DELETE, 0)->slices = &in[1];
	TEST_OK(engine_apply(f->e, NULL, &c));
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(engine_slices_get(f->two, NULL, 5, 8, &got), -ENOENT);
	TEST_OK(engine_slices_all(f->e, NULL, 5, 0, 1, &l));
	assert_int_equal(l.v[0].id, 9);
	slices_doc_list_release(&l);
	for (size_t i = 0; i < MFS_ARRAY_LEN(in); i++)
		slices_doc_record_release(&in[i]);
}

static void test_dropped__of_many_kinds_in_one_write(void **state)
{
	struct engine_fixture *f = *state;
	uint64_t own = test_number(f->e);
	const struct dropped_record in[] = {
		{ .ino = 5, .ref = { .key = (char *)(uintptr_t) "k", .version = "v" }, .at = 1 },
		{ .ino = 6, .doc_id = UINT64_C(1) << 50, .at = 2 },
		{ .ino = 7, .id = own, .doc_id = 3, .at = 3 },
		{ .ino = 8, .ref = { .key = (char *)(uintptr_t) ".massfs/patch/1-2", .version = "w" }, .at = 4 },
	};
	struct dropped_list l = { 0 };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_DROPPED_PUT, 0);
	int docs = 0, objects = 0;

	w->dropped = in;
	w->n = 4;
	TEST_OK(engine_apply(f->e, NULL, &c));
	engine_fixture_reopen(f);
	TEST_OK(engine_dropped(f->two, NULL, 1000, 0, 10, &l));
	assert_int_equal(l.n, 4);
	for (size_t i = 0; i < l.n; i++) {
		const struct dropped_record *want = &in[l.v[i].at - 1];

		assert_true(i == 0 || l.v[i].id > l.v[i - 1].id);
		assert_int_equal(l.v[i].ino, want->ino);
		assert_int_equal(l.v[i].doc_id, want->doc_id);
		assert_true(object_ref_equal(&l.v[i].ref, &want->ref));
		docs += l.v[i].doc_id != 0;
		objects += !object_ref_is_empty(&l.v[i].ref);
		assert_true(want->id == 0 || l.v[i].id == want->id);
	}
	assert_int_equal(docs, 2);
	assert_int_equal(objects, 2);
	assert_true(test_number(f->e) > l.v[3].id);
	dropped_list_release(&l);
}

/* Whatever the order of the writes: a change that fails at one of them leaves nothing of the others. */
static void test_apply__fails_as_a_whole_with_arrays(void **state)
{
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG), set = NODE_INIT;
	struct slices_doc_record docs[] = { doc(5, 1, 1, 10), doc(5, 2, 1, 10) };
	const struct dropped_record gone[3] = { { .ino = 5, .doc_id = 1 }, { .ino = 5, .doc_id = 2 }, { .ino = 5, .doc_id = 3 } };
	struct version_record v = { .ino = 5, .data = 1, .path = (char *)(uintptr_t) "p", .slices = bytes_of(1, 9) };
	struct version_list versions = { 0 };
	struct slices_doc_list l = { 0 };
	struct dropped_list d = { 0 };

	set_content(&n, 1, 40, 2, 50);
	write_node(f->e, WRITE_INSERT, &n, 0);
	set_content(&set, 3, 5000, 4, 5000);
	for (unsigned int at = 0; at < 4; at++) {
		struct change c = { 0 };
		struct write *w;

		for (unsigned int i = 0; i < 4; i++) {
			if (i == at) {
				w = change_write(&c, WRITE_EDIT, n.attr.ino);
				w->node = &set;
				w->mask = EDIT_REF | EDIT_TODO | EDIT_BUMP_LAY;
				w->expect = (struct expect){ .flags = EXPECT_LAY, .lay = n.attr.lay + 1 };
			} else if (i == 0 || (i == 1 && at == 0)) {
				w = change_write(&c, WRITE_SLICES_PUT, 0);
				w->slices = docs;
				w->n = 2;
			} else if (i == 3 || (i == 2 && at == 3)) {
				change_write(&c, WRITE_VERSION_PUT, 0)->version = &v;
			} else {
				w = change_write(&c, WRITE_DROPPED_PUT, 0);
				w->dropped = gone;
				w->n = 3;
			}
		}
		assert_int_equal(engine_apply(f->e, NULL, &c), -EAGAIN);
		assert_content(f, &n, false);
		TEST_OK(engine_slices_all(f->e, NULL, 0, 0, 10, &l));
		TEST_OK(engine_dropped(f->e, NULL, INT64_MAX, 0, 10, &d));
		TEST_OK(engine_versions_by_ino(f->e, NULL, 5, &versions));
		/* Or they are garbage. */
		assert_int_equal(f->kind->puts_first ? 0 : l.n + d.n + versions.n, 0);
		slices_doc_list_release(&l);
		dropped_list_release(&d);
		version_list_release(&versions);
	}
	free(v.slices.data);
	for (int i = 0; i < 2; i++)
		slices_doc_record_release(&docs[i]);
	node_release(&n);
	node_release(&set);
}

static void test_versions__carry_the_whole_layout(void **state)
{
	struct engine_fixture *f = *state;
	struct version_record v = { .ino = 5, .data = 7, .path = (char *)(uintptr_t) "p", .etag = "xxh3-1", .until = 50 };
	struct version_list l = { 0 };
	struct change c = { 0 };

	v.slices = bytes_of(1, 60000);
	v.inline_data = bytes_of(2, MFS_INLINE_MAX);
	change_write(&c, WRITE_VERSION_PUT, 0)->version = &v;
	TEST_OK(engine_apply(f->e, NULL, &c));
	engine_fixture_reopen(f);
	TEST_OK(engine_versions_by_path(f->two, NULL, "p", &l));
	TEST_OK(engine_versions_by_ino(f->two, NULL, 5, &l));
	TEST_OK(engine_versions_expired(f->two, NULL, 50, 5, &l));
	TEST_OK(engine_versions_all(f->two, NULL, 0, 0, 5, &l));
	assert_int_equal(l.n, 4);
	for (size_t i = 0; i < l.n; i++) {
		assert_string_equal(l.v[i].etag, "xxh3-1");
		assert_true(object_ref_is_empty(&l.v[i].ref));
		same_bytes(&l.v[i].slices, &v.slices);
		same_bytes(&l.v[i].inline_data, &v.inline_data);
	}
	version_list_release(&l);
	free(v.slices.data);
	free(v.inline_data.data);
}

static mfs_ino_t make_todo(struct engine *e, const char *name, int64_t todo, size_t inline_size)
{
	struct node n = test_node(e, MFS_ROOT_INO, name, REG);
	mfs_ino_t ino = n.attr.ino;

	n.todo = todo;
	set_content(&n, inline_size ? 1 : 0, inline_size, 0, 0);
	write_node(e, WRITE_INSERT, &n, 0);
	node_release(&n);
	return ino;
}

static void assert_due(struct engine *e, int64_t before, size_t limit, const char *want)
{
	struct query q = { .todo = true, .todo_before = before, .limit = limit };
	struct node_list l = NODE_LIST_INIT;
	char text[32] = "";

	TEST_OK(engine_query(e, NULL, &q, &l));
	for (size_t i = 0; i < l.n; i++)
		strcat(text, l.v[i].name.bytes);
	assert_string_equal(text, want);
	node_list_release(&l);
}

static void edit_todo(struct engine *e, mfs_ino_t ino, int64_t todo)
{
	struct node set = NODE_INIT;

	set.attr.ino = ino;
	set.todo = todo;
	write_node(e, WRITE_EDIT, &set, EDIT_TODO);
}

static void test_todo__is_taken_in_order(void **state)
{
	struct engine_fixture *f = *state;
	struct query q = { .todo = true, .todo_before = 40, .limit = 10, .attr_only = true };
	struct node_list l = NODE_LIST_INIT;
	struct node gone = NODE_INIT;
	mfs_ino_t a = make_todo(f->e, "a", 30, 10), b = make_todo(f->e, "b", 10, 0);

	make_todo(f->e, "c", 0, 10);
	make_todo(f->e, "d", 30, 5000);
	make_todo(f->e, "e", -4, 0);
	assert_due(f->two, 40, 10, "ebad"); /* of one moment, in order of the number */
	assert_due(f->two, 40, 2, "eb");
	assert_due(f->two, 29, 10, "eb");
	assert_due(f->two, INT64_MIN, 10, "");
	edit_todo(f->e, a, 41);
	edit_todo(f->e, b, 0);
	assert_due(f->two, 40, 10, "ed");
	assert_due(f->two, 41, 10, "eda");
	TEST_OK(engine_query(f->two, NULL, &q, &l));
	assert_int_equal(l.n, 2);
	node_list_release(&l);
	gone.attr.ino = a;
	write_node(f->e, WRITE_TRASH, &gone, 0);
	assert_due(f->two, 99, 10, "ed");
	q.trash = true;
	assert_int_equal(engine_query(f->e, NULL, &q, &l), -EINVAL);
	q = (struct query){ .todo_before = 5, .limit = 10 };
	assert_int_equal(engine_query(f->e, NULL, &q, &l), -EINVAL);
	q = (struct query){ .todo = true, .todo_before = 5, .after = 1, .limit = 10 };
	assert_int_equal(engine_query(f->e, NULL, &q, &l), -EINVAL);
	q = (struct query){ .todo = true, .todo_before = 5, .key = "k", .limit = 10 };
	assert_int_equal(engine_query(f->e, NULL, &q, &l), -EINVAL);
}

static void assert_todo_count(struct engine_fixture *f, uint64_t records, uint64_t bytes)
{
	uint64_t n = 99, b = 99;

	TEST_OK(engine_todo_count(f->e, NULL, &n, &b));
	assert_int_equal(n, records);
	assert_int_equal(b, bytes);
	TEST_OK(engine_todo_count(f->two, NULL, &n, &b));
	assert_int_equal(n, records);
	assert_int_equal(b, bytes);
}

static void test_todo__count_follows_every_change(void **state)
{
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG);
	struct change c = { 0 };
	mfs_ino_t a;

	assert_todo_count(f, 0, 0);
	a = make_todo(f->e, "a", 30, 1000);
	make_todo(f->two, "b", 10, 0);
	make_todo(f->two, "c", 0, 77);
	assert_todo_count(f, 2, 1000);
	n.todo = 5;
	set_content(&n, 1, 9000, 2, 400);
	write_node(f->e, WRITE_INSERT, &n, 0);
	assert_todo_count(f, 3, 10000);
	set_content(&n, 1, 20, 0, 0);
	write_node(f->e, WRITE_EDIT, &n, EDIT_REF);
	assert_todo_count(f, 3, 1020);
	engine_fixture_reopen(f);
	assert_todo_count(f, 3, 1020);
	edit_todo(f->e, a, 0);
	assert_todo_count(f, 2, 20);
	edit_todo(f->e, a, 1);
	assert_todo_count(f, 3, 1020);
	n.trash_path = (char *)(uintptr_t) "n";
	write_node(f->e, WRITE_TRASH, &n, 0);
	assert_todo_count(f, 2, 1000);
	write_node(f->e, WRITE_UNTRASH, &n, EDIT_REF);
	assert_todo_count(f, 3, 1020);
	change_write(&c, WRITE_DELETE, a);
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_todo_count(f, 2, 20);
	/* One that fails counts for nothing. */
	c = (struct change){ 0 };
	change_write(&c, WRITE_EDIT, n.attr.ino)->mask = EDIT_BUMP_LAY;
	change_write(&c, WRITE_DELETE, a);
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
	assert_todo_count(f, 2, 20);
	n.trash_path = NULL;
	node_release(&n);
}

/* The reply is lost: what was put under numbers of the engine's own is there once. */
static void test_once__arrays(void **state)
{
	struct engine_fixture *f = *state;
	const struct fault_plan plan = { .nth = 1, .drop_reply = true };
	struct slices_doc_record docs[] = { doc(5, 1, 1, 10), doc(5, 2, 1, 10) };
	const struct dropped_record gone[3] = { { .ino = 5, .doc_id = 1 }, { .ino = 5, .doc_id = 2 }, { .ino = 5, .doc_id = 3 } };
	struct engine *inner = f->e;
	struct slices_doc_list l = { 0 };
	struct dropped_list d = { 0 };
	struct change c = { 0 };
	struct write *w;

	TEST_OK(fault_engine_new(inner, &plan, &f->e));
	if (f->two == inner)
		f->two = f->e;
	w = change_write(&c, WRITE_SLICES_PUT, 0);
	w->slices = docs;
	w->n = 2;
	w = change_write(&c, WRITE_DROPPED_PUT, 0);
	w->dropped = gone;
	w->n = 3;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(fault_engine_hits(f->e), 1);
	TEST_OK(engine_slices_all(f->e, NULL, 0, 0, 10, &l));
	assert_int_equal(l.n, 2);
	TEST_OK(engine_dropped(f->e, NULL, INT64_MAX, 0, 10, &d));
	assert_int_equal(d.n, 3);
	slices_doc_list_release(&l);
	dropped_list_release(&d);
	for (int i = 0; i < 2; i++)
		slices_doc_record_release(&docs[i]);
}

/* Each of the new calls passes the fault layer's plan on. */
static void test_fault__new_calls(void **state)
{
	struct engine_fixture *f = *state;

	for (unsigned int i = 1; i <= 3; i++) {
		const struct fault_plan plan = { .nth = i, .err = ETIMEDOUT };
		struct slices_doc_list l = { 0 };
		struct node_blob b = { 0 };
		struct engine *inner = f->e;
		uint64_t n, bytes;

		TEST_OK(fault_engine_new(inner, &plan, &f->e));
		if (f->two == inner)
			f->two = f->e;
		assert_int_equal(engine_slices_get(f->e, NULL, 1, 1, &b), i == 1 ? -ETIMEDOUT : -ENOENT);
		assert_int_equal(engine_slices_all(f->e, NULL, 0, 0, 1, &l), i == 2 ? -ETIMEDOUT : 0);
		assert_int_equal(engine_todo_count(f->e, NULL, &n, &bytes), i == 3 ? -ETIMEDOUT : 0);
	}
}

static void test_apply__refuses_malformed_arrays(void **state)
{
	struct engine_fixture *f = *state;
	struct slices_doc_record docs[2] = { { .ino = 5, .id = 1 }, { .ino = 5 } };
	struct version_record v[2] = { { .ino = 5 }, { .ino = 5, .data = 1 } };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_SLICES_PUT, 0);

	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	w->slices = docs;
	w->n = 2;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	w->kind = WRITE_SLICES_DELETE;
	docs[1].id = 2;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	w->kind = WRITE_VERSION_PUT;
	w->version = v;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
}

const struct engine_test engine_tests_layout[] = {
	ENGINE_TEST(test_content__goes_with_its_record),
	ENGINE_TEST(test_content__ends_with_its_record),
	ENGINE_TEST(test_slices__are_put_in_arrays_and_listed),
	ENGINE_TEST(test_dropped__of_many_kinds_in_one_write),
	ENGINE_TEST(test_apply__fails_as_a_whole_with_arrays),
	ENGINE_TEST(test_versions__carry_the_whole_layout),
	ENGINE_TEST(test_todo__is_taken_in_order),
	ENGINE_TEST(test_todo__count_follows_every_change),
	ENGINE_TEST(test_once__arrays),
	ENGINE_TEST(test_fault__new_calls),
	ENGINE_TEST(test_apply__refuses_malformed_arrays),
	ENGINE_TESTS_END,
};
