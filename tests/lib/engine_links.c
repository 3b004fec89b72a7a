/*
 * Contract tests of engines: hard links, the trash, guards and touches.
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
#define DIR 0040755

/* Link `target` as parent/name, as link(2) does; the alias's id. */
static uint64_t make_alias(struct engine *e, mfs_ino_t target, mfs_ino_t parent, const char *name)
{
	struct alias a = { .id = test_number(e), .parent = parent, .target = target, .name = test_name(name) };
	struct change c = { 0 };

	change_write(&c, WRITE_ALIAS_INSERT, a.id)->alias = &a;
	change_write(&c, WRITE_EDIT, target)->nlink_delta = 1;
	TEST_OK(engine_apply(e, NULL, &c));
	return a.id;
}

static void test_alias__leads_to_the_file(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), file = test_make(f->e, MFS_ROOT_INO, "f", REG);
	uint64_t id = make_alias(f->e, file, d, "link");
	struct mfs_name name = test_name("link");
	struct node_list l = NODE_LIST_INIT;
	struct alias a[2];
	struct entry entry;

	TEST_OK(engine_lookup(f->two, NULL, d, &name, &entry));
	assert_int_equal(entry.id, id);
	assert_int_equal(entry.pos, id);
	assert_int_equal(entry.parent, d);
	assert_true(mfs_name_equal(&entry.name, &name));
	assert_int_equal(entry.node.attr.ino, file);
	assert_int_equal(entry.node.attr.nlink, 2);
	assert_string_equal(entry.node.name.bytes, "f");
	entry_release(&entry);
	TEST_OK(engine_list(f->two, NULL, d, 0, 10, &l));
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].attr.ino, file);
	assert_int_equal(l.v[0].attr.mode, REG);
	assert_int_equal(l.v[0].pos, id);
	assert_int_equal(l.v[0].parent, d);
	assert_string_equal(l.v[0].name.bytes, "link");
	node_list_release(&l);
	assert_int_equal(engine_aliases(f->e, NULL, file, a, 2), 1);
	assert_int_equal(a[0].id, id);
	assert_int_equal(a[0].target, file);
	assert_int_equal(a[0].parent, d);
	assert_string_equal(a[0].name.bytes, "link");
	assert_int_equal(engine_aliases(f->e, NULL, d, a, 2), 0);
}

static void test_alias__shares_names_and_numbers_with_files(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t file = test_make(f->e, MFS_ROOT_INO, "f", REG), other = test_make(f->e, MFS_ROOT_INO, "g", REG);
	uint64_t id = make_alias(f->e, file, MFS_ROOT_INO, "link");
	struct alias a = { .id = test_number(f->e), .parent = MFS_ROOT_INO, .target = file };
	struct node n = test_node(f->e, MFS_ROOT_INO, "link", REG);
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_ALIAS_INSERT, a.id);

	change_write(&c, WRITE_EDIT, file)->nlink_delta = 1;
	w->alias = &a;
	a.name = test_name("g");
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	a.name = test_name("link");
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	a.name = test_name("new");
	w->ino = a.id = id;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	w->ino = a.id = other;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	assert_int_equal(test_attr(f->e, file).nlink, 2);
	/* A file where an alias is, by name and by number. */
	c = (struct change){ 0 };
	w = change_write(&c, WRITE_INSERT, n.attr.ino);
	w->node = &n;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	n.name = test_name("new");
	w->ino = n.attr.ino = id;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	/* A rename onto an alias. */
	n.name = test_name("link");
	c = (struct change){ 0 };
	change_write(&c, WRITE_RENAME, other)->node = &n;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "g"), other);
}

static void test_alias__goes_and_moves_with_its_file_written(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), file = test_make(f->e, MFS_ROOT_INO, "f", REG);
	uint64_t id = make_alias(f->e, file, MFS_ROOT_INO, "link");
	struct mfs_name wrong = test_name("x");
	struct alias to = { .parent = d, .name = test_name("moved") };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_ALIAS_RENAME, id);
	struct node_list l = NODE_LIST_INIT;

	w->alias = &to;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL); /* rule M1: without the main record */
	change_write(&c, WRITE_EDIT, file);
	w->expect = (struct expect){ .flags = EXPECT_NAME, .parent = MFS_ROOT_INO, .name = &wrong };
	assert_int_equal(engine_apply(f->e, NULL, &c), -EAGAIN);
	w->expect.flags = 0;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "link"), 0);
	assert_int_equal(test_find(f->two, d, "moved"), id);
	TEST_OK(engine_list(f->e, NULL, d, id - 1, 5, &l)); /* with its old pos */
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].pos, id);
	node_list_release(&l);
	to.parent = MFS_ROOT_INO;
	to.name = test_name("f");
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	c = (struct change){ 0 };
	change_write(&c, WRITE_ALIAS_DELETE, id);
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	change_write(&c, WRITE_EDIT, file)->nlink_delta = -1;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_find(f->two, d, "moved"), 0);
	assert_int_equal(test_attr(f->e, file).nlink, 1);
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
}

static void test_alias__is_promoted_when_the_first_name_goes(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), file = test_make(f->e, MFS_ROOT_INO, "f", REG);
	uint64_t id1 = make_alias(f->e, file, d, "one"), id2 = make_alias(f->e, file, d, "two");
	struct alias a[1];
	struct node to = NODE_INIT;
	struct node_list l = NODE_LIST_INIT;
	struct mfs_name name = test_name("one");
	struct change c = { 0 };
	struct write *w;
	struct entry entry;

	assert_int_equal(engine_aliases(f->e, NULL, file, a, 1), 2); /* more than there is room for */
	assert_int_equal(a[0].id, id1);
	to.parent = a[0].parent;
	to.name = a[0].name;
	to.pos = a[0].id;
	w = change_write(&c, WRITE_ALIAS_DELETE, id1);
	w->expect = (struct expect){ .flags = EXPECT_NAME, .parent = a[0].parent, .name = &a[0].name };
	w = change_write(&c, WRITE_RENAME, file);
	w->node = &to;
	w->nlink_delta = -1;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "f"), 0);
	TEST_OK(engine_lookup(f->two, NULL, d, &name, &entry));
	assert_int_equal(entry.id, file);
	assert_int_equal(entry.pos, id1); /* the place in the listing stays */
	assert_int_equal(entry.node.attr.nlink, 2);
	entry_release(&entry);
	TEST_OK(engine_list(f->e, NULL, d, 0, 10, &l));
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].pos, id1);
	assert_int_equal(l.v[1].pos, id2);
	node_list_release(&l);
}

static void test_list__merges_aliases_by_pos(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), out = test_make(f->e, MFS_ROOT_INO, "out", REG);
	uint64_t want[30], after = 0;

	for (int i = 0; i < 30; i++) {
		char name[8];

		snprintf(name, sizeof(name), "n%d", i);
		want[i] = i % 3 == 1 ? make_alias(f->e, out, d, name) : test_make(f->e, d, name, REG);
	}
	for (int i = 0; i < 30; i += 4) {
		struct node_list l = NODE_LIST_INIT;

		TEST_OK(engine_list(f->two, NULL, d, after, 4, &l));
		for (size_t k = 0; k < l.n; k++) {
			assert_int_equal(l.v[k].pos, want[i + k]);
			assert_int_equal(l.v[k].attr.ino, (i + k) % 3 == 1 ? out : want[i + k]);
			after = l.v[k].pos;
		}
		assert_int_equal(l.n, i < 28 ? 4 : 2);
		node_list_release(&l);
	}
}

static void trash(struct engine *e, mfs_ino_t ino, const char *path, int64_t time)
{
	struct node gone = NODE_INIT;
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_TRASH, ino);

	gone.trash_path = strdup(path);
	gone.trash_time = time;
	TEST_OK(node_blob_add_u64(&gone.openers, 101));
	w->node = &gone;
	w->nlink_delta = -1;
	TEST_OK(engine_apply(e, NULL, &c));
	node_release(&gone);
}

static void test_trash__keeps_the_whole_record_nameless(void **state)
{
	struct engine_fixture *f = *state;
	struct node in, out, set = NODE_INIT;
	struct change c = { 0 };
	struct write *w;

	test_full_node(f->e, MFS_ROOT_INO, "full", &in);
	change_write(&c, WRITE_INSERT, in.attr.ino)->node = &in;
	TEST_OK(engine_apply(f->e, NULL, &c));
	trash(f->e, in.attr.ino, "dir/f\xffull", 99);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "full"), 0);
	/* What the record has become. */
	in.parent = 0;
	in.name = (struct mfs_name){ 0 };
	in.trash_path = strdup("dir/f\xffull");
	in.trash_time = 99;
	in.attr.flags |= ATTR_IN_TRASH;
	in.attr.nlink--;
	in.attr.ver++;
	TEST_OK(node_blob_add_u64(&in.openers, 101));
	engine_fixture_reopen(f);
	test_get(f->two, in.attr.ino, &out);
	test_same_node(&in, &out);
	node_release(&out);
	/* Edits reach it there: the last close, a commit of an unlinked open file, chmod by descriptor. */
	c = (struct change){ 0 };
	w = change_write(&c, WRITE_EDIT, in.attr.ino);
	w->node = &set;
	w->mask = EDIT_OPENERS | EDIT_REF | EDIT_SIZE | EDIT_XATTRS | EDIT_MODE;
	w->expect.flags = EXPECT_IN_TRASH;
	set.attr.mode = 0100400;
	TEST_OK(engine_apply(f->e, NULL, &c));
	test_get(f->two, in.attr.ino, &out);
	assert_int_equal(out.openers.size, 0);
	assert_int_equal(out.n_xattrs, 0);
	assert_int_equal(out.attr.mode, 0100400);
	assert_true(object_ref_is_empty(&out.ref));
	assert_string_equal(out.trash_path, "dir/f\xffull");
	node_release(&out);
	/* But no delete or rename. */
	c = (struct change){ 0 };
	change_write(&c, WRITE_DELETE, in.attr.ino);
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
	c = (struct change){ 0 };
	set.parent = MFS_ROOT_INO;
	set.name = test_name("x");
	change_write(&c, WRITE_RENAME, in.attr.ino)->node = &set;
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
	c = (struct change){ 0 };
	change_write(&c, WRITE_TRASH, in.attr.ino)->node = &set;
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
	node_release(&in);
}

static void test_untrash__brings_back_all(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR);
	struct node in, out, to = NODE_INIT;
	struct change c = { 0 };
	struct write *w;

	test_full_node(f->e, MFS_ROOT_INO, "full", &in);
	change_write(&c, WRITE_INSERT, in.attr.ino)->node = &in;
	TEST_OK(engine_apply(f->e, NULL, &c));
	to.parent = d;
	to.name = test_name("back");
	to.pos = test_number(f->e);
	to.attr.ctime = 5;
	c = (struct change){ 0 };
	w = change_write(&c, WRITE_UNTRASH, in.attr.ino);
	w->node = &to;
	w->mask = EDIT_CTIME;
	w->nlink_delta = 1;
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE); /* not there yet */
	trash(f->e, in.attr.ino, "full", 1);
	test_make(f->e, d, "back", REG);
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	test_get(f->e, in.attr.ino, &out);
	assert_true(out.attr.flags & ATTR_IN_TRASH); /* nothing happened */
	node_release(&out);
	to.name = test_name("back 2");
	TEST_OK(engine_apply(f->e, NULL, &c));
	in.parent = d;
	in.name = to.name;
	in.pos = to.pos;
	in.attr.ctime = 5;
	in.attr.ver += 2;
	test_get(f->two, in.attr.ino, &out);
	test_same_node(&in, &out);
	node_release(&out);
	assert_int_equal(test_find(f->two, d, "back 2"), in.attr.ino);
	node_release(&in);
}

static void test_purge__ends_it(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_PURGE, a);
	struct node n;

	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
	trash(f->e, a, "a", 1);
	w->expect = (struct expect){ .flags = EXPECT_VER, .ver = 1 };
	assert_int_equal(engine_apply(f->e, NULL, &c), -EAGAIN);
	w->expect.ver = 2;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(engine_get(f->two, NULL, a, &n), -ESTALE);
}

static void test_trash__is_listed_by_path_and_by_time(void **state)
{
	struct engine_fixture *f = *state;
	static const struct {
		const char *path;
		int64_t time;
	} in[] = { { "p", 30 }, { "q", 10 }, { "p", 20 }, { "p/x", 40 }, { "\xff", 5 } };
	struct node_list l = NODE_LIST_INIT;
	mfs_ino_t ids[5];

	for (size_t i = 0; i < MFS_ARRAY_LEN(in); i++) {
		ids[i] = test_make(f->e, MFS_ROOT_INO, "name", REG);
		trash(f->e, ids[i], in[i].path, in[i].time);
	}
	TEST_OK(engine_trash_by_path(f->two, NULL, "p", &l));
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].attr.ino, ids[0]); /* newest first */
	assert_int_equal(l.v[1].attr.ino, ids[2]);
	assert_true(l.v[0].attr.flags & ATTR_IN_TRASH);
	assert_string_equal(l.v[1].trash_path, "p");
	TEST_OK(engine_trash_by_path(f->e, NULL, "\xff", &l)); /* appended */
	assert_int_equal(l.n, 3);
	node_list_release(&l);
	TEST_OK(engine_trash_by_path(f->e, NULL, "nothing", &l));
	assert_int_equal(l.n, 0);
	TEST_OK(engine_trash_before(f->e, NULL, 30, 10, &l));
	assert_int_equal(l.n, 3);
	assert_int_equal(l.v[0].attr.ino, ids[4]); /* oldest first */
	assert_int_equal(l.v[1].attr.ino, ids[1]);
	assert_int_equal(l.v[2].attr.ino, ids[2]);
	node_list_release(&l);
	TEST_OK(engine_trash_before(f->e, NULL, 1000, 2, &l));
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[1].attr.ino, ids[1]);
	node_list_release(&l);
}

static void test_touch__sets_times_and_counts(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR);
	struct mfs_attr before = test_attr(f->e, d), attr;
	struct change c = { 0 };
	struct touch *t = change_touch(&c, d, 12345, 3, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);

	t->ret_attr = &attr;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(attr.mtime, 12345);
	assert_int_equal(attr.ctime, 12345);
	assert_int_equal(attr.atime, before.atime);
	assert_int_equal(attr.children, 3);
	assert_int_equal(attr.ver, before.ver + 1);
	assert_int_equal(test_attr(f->two, d).children, 3);
	t->child_delta = -5; /* a hint: never below 0 */
	t->time_ns = -1;     /* the last one wins, also backwards */
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(attr.children, 0);
	assert_int_equal(attr.mtime, -1);
}

static void test_touch__minds_absent_and_dying_directories(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR);
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG), mark = NODE_INIT;
	struct change c = { 0 }, m = { 0 };
	struct touch *t;
	struct write *w = change_write(&m, WRITE_EDIT, d);

	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	t = change_touch(&c, 987654, 1, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	assert_int_equal(engine_apply(f->e, NULL, &c), -ENOENT);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "n"), 0);
	/* Marked by an rmdir. */
	w->node = &mark;
	w->mask = EDIT_DYING;
	mark.dying = UINT64_MAX;
	TEST_OK(engine_apply(f->two, NULL, &m));
	t->dir = d;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EAGAIN);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "n"), 0);
	t->flags = TOUCH_MUST_EXIST;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_attr(f->e, d).children, 1);
	/* Without MUST_EXIST a touch of nothing is nothing. */
	c = (struct change){ 0 };
	change_touch(&c, 987654, 1, 1, TOUCH_UNLESS_DYING);
	TEST_OK(engine_apply(f->e, NULL, &c));
}

static void test_guard__no_child(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), file = test_make(f->e, MFS_ROOT_INO, "f", REG);
	mfs_ino_t child = test_make(f->e, d, "child", REG);
	uint64_t id;
	struct node n;
	struct change c = { 0 }, drop = { 0 };

	change_write(&c, WRITE_DELETE, d);
	c.no_child = d;
	assert_int_equal(engine_apply(f->e, NULL, &c), -ENOTEMPTY);
	test_get(f->e, d, &n);
	node_release(&n);
	trash(f->e, child, "d/child", 1);
	id = make_alias(f->e, file, d, "link"); /* an alias is a child too */
	assert_int_equal(engine_apply(f->e, NULL, &c), -ENOTEMPTY);
	change_write(&drop, WRITE_ALIAS_DELETE, id);
	change_write(&drop, WRITE_EDIT, file)->nlink_delta = -1;
	TEST_OK(engine_apply(f->two, NULL, &drop));
	TEST_OK(engine_apply(f->e, NULL, &c));
	/* A guard for something that the change does not write guards nothing (rule M1). */
	c = (struct change){ 0 };
	change_write(&c, WRITE_DELETE, file);
	c.no_child = 4711;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
}

static void test_guard__not_below(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", DIR), b = test_make(f->e, a, "b", DIR);
	mfs_ino_t deep = test_make(f->e, b, "deep", DIR), other = test_make(f->e, MFS_ROOT_INO, "other", DIR);
	const mfs_ino_t below[] = { a, b, deep };
	struct node to = NODE_INIT;
	struct change c = { 0 };

	change_write(&c, WRITE_RENAME, a)->node = &to;
	c.not_below_dir = a;
	to.name = test_name("moved");
	for (size_t i = 0; i < MFS_ARRAY_LEN(below); i++) {
		to.parent = c.not_below_target = below[i];
		assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	}
	to.parent = c.not_below_target = 987654;
	assert_int_equal(engine_apply(f->e, NULL, &c), -ENOENT);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "a"), a);
	to.parent = c.not_below_target = other;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_find(f->two, other, "moved"), a);
	/* And back to the root. */
	to.parent = c.not_below_target = MFS_ROOT_INO;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "moved"), a);
}

static void test_guard__not_below_of_both_in_an_exchange(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", DIR), b = test_make(f->e, MFS_ROOT_INO, "b", DIR);
	mfs_ino_t in = test_make(f->e, b, "in", DIR);
	struct node aside = NODE_INIT, to_a = NODE_INIT, to_b = NODE_INIT;
	struct change c = { .not_below_dir = in, .not_below_target = MFS_ROOT_INO, .not_below_dir2 = b };

	/* b and b/in: b would come to lie below itself. */
	aside.parent = to_b.parent = MFS_ROOT_INO;
	aside.name = test_name("aside");
	to_b.name = test_name("b");
	to_a.parent = c.not_below_target2 = b;
	to_a.name = test_name("in");
	change_write(&c, WRITE_RENAME, b)->node = &aside;
	change_write(&c, WRITE_RENAME, in)->node = &to_b;
	change_write(&c, WRITE_RENAME, b)->node = &to_a;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "b"), b);
	/* a and b/in: both may. */
	c = (struct change){ .not_below_dir = in, .not_below_target = MFS_ROOT_INO };
	c.not_below_dir2 = a;
	c.not_below_target2 = b;
	to_b.name = test_name("a");
	change_write(&c, WRITE_RENAME, a)->node = &aside;
	change_write(&c, WRITE_RENAME, in)->node = &to_b;
	change_write(&c, WRITE_RENAME, a)->node = &to_a;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "a"), in);
	assert_int_equal(test_find(f->two, b, "in"), a);
}

static void test_touch__counts_subdirectories(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR);
	struct change c = { 0 };
	struct touch *t = change_touch(&c, d, 1, 1, 0);

	t->subdir_delta = 2;
	TEST_OK(engine_apply(f->e, NULL, &c));
	/* Exact, or not kept at all (rule M3). */
	if (test_attr(f->two, d).nlink == 1)
		return;
	assert_int_equal(test_attr(f->two, d).nlink, 3);
	t->subdir_delta = -5;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_attr(f->two, d).nlink, 1);
}

static void test_apply__refuses_a_malformed_change(void **state)
{
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG);
	struct change c = { 0 };
	struct write *w;

	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL); /* nothing in it */
	w = change_write(&c, WRITE_INSERT, n.attr.ino);
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL); /* no node */
	w->node = &n;
	w->expect.flags = EXPECT_NAME;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	w->expect.flags = 0;
	n.name.bytes[0] = '/';
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	n.name.bytes[0] = 'n';
	w->ino++;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	w->ino--;
	TEST_OK(engine_apply(f->e, NULL, &c));
}

const struct engine_test engine_tests_links[] = {
	ENGINE_TEST(test_alias__leads_to_the_file),
	ENGINE_TEST(test_alias__shares_names_and_numbers_with_files),
	ENGINE_TEST(test_alias__goes_and_moves_with_its_file_written),
	ENGINE_TEST(test_alias__is_promoted_when_the_first_name_goes),
	ENGINE_TEST(test_list__merges_aliases_by_pos),
	ENGINE_TEST(test_trash__keeps_the_whole_record_nameless),
	ENGINE_TEST(test_untrash__brings_back_all),
	ENGINE_TEST(test_purge__ends_it),
	ENGINE_TEST(test_trash__is_listed_by_path_and_by_time),
	ENGINE_TEST(test_touch__sets_times_and_counts),
	ENGINE_TEST(test_touch__minds_absent_and_dying_directories),
	ENGINE_TEST(test_guard__no_child),
	ENGINE_TEST(test_guard__not_below),
	ENGINE_TEST(test_guard__not_below_of_both_in_an_exchange),
	ENGINE_TEST(test_touch__counts_subdirectories),
	ENGINE_TEST(test_apply__refuses_a_malformed_change),
	ENGINE_TESTS_END,
};
