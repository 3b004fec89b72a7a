/*
 * Contract tests of engines: the volume, numbers, records, names and listings.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/clock.h"
#include "tests/lib/engine_suite.h"

#define REG 0100644
#define DIR 0040755

static void test_volume__is_absent_until_put_and_then_has_a_root(void **state)
{
	struct engine_fixture *f = *state;
	struct volume_record v, again = { .schema = MFS_SCHEMA, .uuid = "other", .created = -9 };
	struct node n;

	TEST_OK(engine_volume_get(f->e, &f->op, &v));
	assert_int_equal(v.schema, MFS_SCHEMA);
	assert_string_equal(v.uuid, "00000000-1111-2222-3333-444444444444");
	assert_int_equal(v.created, 42);
	test_get(f->two, MFS_ROOT_INO, &n);
	assert_int_equal(n.attr.mode, DIR);
	assert_int_equal(n.attr.uid, 1000);
	assert_int_equal(n.attr.gid, 1001);
	assert_int_equal(n.attr.nlink, 1);
	assert_int_equal(n.parent, 0);
	assert_int_equal(n.name.len, 0);
	/* Put again: the record changes, the root and what is in it stays. */
	test_make(f->e, MFS_ROOT_INO, "x", REG);
	TEST_OK(engine_volume_put(f->e, NULL, &again));
	TEST_OK(engine_volume_get(f->two, NULL, &v));
	assert_string_equal(v.uuid, "other");
	assert_int_equal(test_attr(f->e, MFS_ROOT_INO).uid, 1000);
	assert_int_not_equal(test_find(f->e, MFS_ROOT_INO, "x"), 0);
	node_release(&n);
}

static void test_reserve__never_gives_a_number_twice(void **state)
{
	struct engine_fixture *f = *state;
	uint64_t a, b, c;

	TEST_OK(engine_reserve(f->e, NULL, 10, &a));
	TEST_OK(engine_reserve(f->two, NULL, 1, &b));
	engine_fixture_reopen(f);
	TEST_OK(engine_reserve(f->e, NULL, 5, &c));
	assert_true(a >= MFS_FIRST_INO);
	assert_true(b >= a + 10);
	assert_true(c >= b + 1);
	assert_int_equal(engine_reserve(f->e, NULL, 0, &c), -EINVAL);
}

static void test_insert__keeps_every_field(void **state)
{
	struct engine_fixture *f = *state;
	struct node in, out;
	struct mfs_attr attr;
	struct change c = { 0 };
	struct write *w;

	test_full_node(f->e, MFS_ROOT_INO, "full", &in);
	w = change_write(&c, WRITE_INSERT, in.attr.ino);
	w->node = &in;
	w->ret_attr = &attr;
	c.durable = true;
	TEST_OK(engine_apply(f->e, &f->op, &c));
	assert_int_equal(attr.ino, in.attr.ino);
	assert_int_equal(attr.flags, ATTR_SHARED | ATTR_HAS_XATTR | ATTR_HAS_CAP | ATTR_HAS_ACL);
	test_get(f->two, in.attr.ino, &out);
	test_same_node(&in, &out);
	node_release(&out);
	engine_fixture_reopen(f);
	test_get(f->e, in.attr.ino, &out);
	test_same_node(&in, &out);
	node_release(&out);
	node_release(&in);
}

static void test_insert__derives_flags(void **state)
{
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG);
	struct change c = { 0 };

	n.attr.flags = ATTR_HAS_CAP | ATTR_HAS_XATTR; /* a lie */
	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_attr(f->e, n.attr.ino).flags, 0);
}

static void test_insert__never_replaces(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct node n = test_node(f->e, MFS_ROOT_INO, "a", DIR);
	struct mfs_attr root = test_attr(f->e, MFS_ROOT_INO);
	struct change c = { 0 };

	/* By name: and nothing of the change happened, whatever the order. */
	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	change_touch(&c, MFS_ROOT_INO, 77, 1, 0);
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	assert_int_equal(engine_get(f->e, NULL, n.attr.ino, &n), -ESTALE);
	assert_int_equal(test_attr(f->e, MFS_ROOT_INO).ver, root.ver);
	assert_int_equal(test_attr(f->e, MFS_ROOT_INO).mtime, root.mtime);
	/* By id. */
	n = test_node(f->e, MFS_ROOT_INO, "b", DIR);
	n.attr.ino = a;
	c = (struct change){ 0 };
	change_write(&c, WRITE_INSERT, a)->node = &n;
	assert_int_equal(engine_apply(f->two, NULL, &c), -EEXIST);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "b"), 0);
	assert_int_equal(test_attr(f->e, a).mode, REG);
}

static void test_insert__of_many_is_all_or_nothing(void **state)
{
	struct engine_fixture *f = *state;
	struct node n[3];
	struct change c = { 0 };

	test_make(f->e, MFS_ROOT_INO, "2", REG);
	for (int i = 0; i < 3; i++) {
		char name[2] = { (char)('0' + i), 0 };

		n[i] = test_node(f->e, MFS_ROOT_INO, name, REG);
		change_write(&c, WRITE_INSERT, n[i].attr.ino)->node = &n[i];
	}
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "0"), 0);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "1"), 0);
	n[2].name = test_name("3");
	TEST_OK(engine_apply(f->e, NULL, &c)); /* the same struct, repaired */
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "3"), n[2].attr.ino);
}

static void test_insert__can_be_nameless_or_in_trash(void **state)
{
	struct engine_fixture *f = *state;
	struct node a = test_node(f->e, MFS_ROOT_INO, "a", REG), b = test_node(f->e, MFS_ROOT_INO, "b", REG), out;
	struct change c = { 0 };

	a.parent = b.parent = 0;
	a.name.len = b.name.len = 0;
	b.attr.flags = ATTR_IN_TRASH;
	change_write(&c, WRITE_INSERT, a.attr.ino)->node = &a;
	change_write(&c, WRITE_INSERT, b.attr.ino)->node = &b;
	TEST_OK(engine_apply(f->e, NULL, &c));
	test_get(f->e, a.attr.ino, &out);
	assert_false(out.attr.flags & ATTR_IN_TRASH);
	node_release(&out);
	test_get(f->e, b.attr.ino, &out);
	assert_true(out.attr.flags & ATTR_IN_TRASH);
	node_release(&out);
	c = (struct change){ 0 };
	change_write(&c, WRITE_INSERT, b.attr.ino)->node = &b;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	/* A second nameless one is no clash. */
	a.attr.ino = a.pos = test_number(f->e);
	c = (struct change){ 0 };
	change_write(&c, WRITE_INSERT, a.attr.ino)->node = &a;
	TEST_OK(engine_apply(f->e, NULL, &c));
}

static void test_get__gives_estale_for_what_is_not_there(void **state)
{
	struct engine_fixture *f = *state;
	struct node n;

	assert_int_equal(engine_get(f->e, &f->op, 0, &n), -ESTALE);
	assert_int_equal(engine_get(f->e, &f->op, 999999, &n), -ESTALE);
	assert_int_equal(engine_get(f->e, &f->op, UINT64_MAX, &n), -ESTALE);
}

static void test_lookup__takes_names_of_any_bytes(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t ids[256] = { 0 };
	char longest[MFS_NAME_MAX + 1];

	for (int i = 1; i < 256; i++) {
		char name[3] = { 'x', (char)i, 0 };

		if (i != '/')
			ids[i] = test_make(f->e, MFS_ROOT_INO, name, REG);
	}
	for (int i = 1; i < 256; i++) {
		char name[3] = { 'x', (char)i, 0 };

		if (i != '/')
			assert_int_equal(test_find(f->two, MFS_ROOT_INO, name), ids[i]);
	}
	memset(longest, 0xc3, MFS_NAME_MAX);
	longest[MFS_NAME_MAX] = '\0';
	ids[0] = test_make(f->e, MFS_ROOT_INO, longest, REG);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, longest), ids[0]);
	longest[MFS_NAME_MAX - 1] = '\0';
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, longest), 0);
	/* Case and normal form matter; a NUL-like end does not hide a difference. */
	ids[1] = test_make(f->e, MFS_ROOT_INO, "Stra\xc3\x9f" "e", REG);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "stra\xc3\x9f" "e"), 0);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "Stra\xc3\x9f" "e "), 0);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "Stra\xc3\x9f" "e"), ids[1]);
}

static void test_lookup__is_within_one_directory(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), in = test_make(f->e, d, "n", REG);
	mfs_ino_t out = test_make(f->e, MFS_ROOT_INO, "n", REG);
	struct mfs_name name = test_name("n");
	struct entry entry;

	assert_int_equal(test_find(f->e, d, "n"), in);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "n"), out);
	assert_int_equal(test_find(f->e, in, "n"), 0);
	assert_int_equal(engine_lookup(f->e, NULL, 0, &name, &entry), -ENOENT);
	TEST_OK(engine_lookup(f->two, NULL, d, &name, &entry));
	assert_int_equal(entry.pos, in);
	assert_int_equal(entry.node.parent, d);
	entry_release(&entry);
}

/* The numbers that a whole listing gives, read `limit` at a time. */
static size_t list_all(struct engine *e, mfs_ino_t dir, size_t limit, uint64_t *ret, size_t max)
{
	uint64_t after = 0;
	size_t n = 0;

	for (;;) {
		struct node_list l = NODE_LIST_INIT;
		size_t got;

		TEST_OK(engine_list(e, NULL, dir, after, limit, &l));
		got = l.n;
		assert_true(got <= limit);
		for (size_t i = 0; i < got; i++) {
			assert_true(l.v[i].pos > after);
			assert_true(l.v[i].partial);
			assert_int_equal(l.v[i].parent, dir);
			after = l.v[i].pos;
			assert_true(n < max);
			ret[n++] = l.v[i].attr.ino;
		}
		node_list_release(&l);
		if (got < limit)
			return n;
	}
}

static void test_list__gives_all_in_order_of_pos(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), want[100], got[100];
	struct node_list l = NODE_LIST_INIT;

	assert_int_equal(list_all(f->e, d, 10, got, 100), 0);
	assert_int_equal(list_all(f->e, 987654, 10, got, 100), 0);
	for (int i = 0; i < 50; i++) {
		char name[16];

		/* Names in an order of their own. */
		snprintf(name, sizeof(name), "%c%d", 'z' - i % 26, i);
		want[i] = test_make(f->e, d, name, i % 3 ? REG : DIR);
		test_make(f->e, MFS_ROOT_INO, name, REG);
	}
	for (size_t limit = 1; limit < 60; limit += 7) {
		assert_int_equal(list_all(f->two, d, limit, got, 100), 50);
		assert_memory_equal(want, got, 50 * sizeof(*want));
	}
	TEST_OK(engine_list(f->e, NULL, d, UINT64_MAX, 10, &l));
	assert_int_equal(l.n, 0);
	assert_int_equal(engine_list(f->e, NULL, d, 0, 0, &l), -EINVAL);
	/* Appended, with what stat needs. */
	TEST_OK(engine_list(f->e, NULL, d, 0, 1, &l));
	TEST_OK(engine_list(f->e, NULL, d, 0, 1, &l));
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[1].attr.mode, DIR);
	assert_int_equal(l.v[1].attr.uid, 1000);
	assert_string_equal(l.v[1].name.bytes, "z0");
	node_list_release(&l);
}

static void rename_to(struct engine *e, mfs_ino_t ino, mfs_ino_t parent, const char *name, uint64_t pos)
{
	struct node to = NODE_INIT;
	struct change c = { 0 };

	to.parent = parent;
	to.name = test_name(name);
	to.pos = pos;
	change_write(&c, WRITE_RENAME, ino)->node = &to;
	TEST_OK(engine_apply(e, NULL, &c));
}

static void delete(struct engine *e, mfs_ino_t ino)
{
	struct change c = { 0 };

	change_write(&c, WRITE_DELETE, ino);
	TEST_OK(engine_apply(e, NULL, &c));
}

static void test_list__cursor_stays_valid_across_changes(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), ids[20];
	struct node_list l = NODE_LIST_INIT;
	bool seen[20] = { false };
	uint64_t after = 0;

	for (int i = 0; i < 20; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		ids[i] = test_make(f->e, d, name, REG);
	}
	/* Read two; then delete the one the cursor stands on, rename one read and one to come; and so on. */
	for (int i = 0; i < 10; i++) {
		TEST_OK(engine_list(f->two, NULL, d, after, 1, &l));
		assert_int_equal(l.n, 1);
		after = l.v[0].pos;
		for (int k = 0; k < 20; k++)
			if (l.v[0].attr.ino == ids[k]) {
				assert_false(seen[k]);
				seen[k] = true;
			}
		node_list_release(&l);
		if (i == 3)
			delete (f->e, ids[3]);
		if (i == 4) {
			rename_to(f->e, ids[1], d, "renamed-read", 0);
			rename_to(f->e, ids[7], d, "renamed-to-come", 0);
			delete (f->e, ids[8]);
		}
		if (i == 5)
			engine_fixture_reopen(f);
	}
	for (int k = 0; k < 11; k++)
		assert_int_equal(seen[k], k != 8);
}

static void test_edit__changes_what_the_mask_names(void **state)
{
	struct engine_fixture *f = *state;
	static const uint32_t bits[] = { EDIT_MODE,  EDIT_UID,	   EDIT_GID,   EDIT_SIZE,    EDIT_ATIME,   EDIT_MTIME,
					 EDIT_CTIME, EDIT_REF,	   EDIT_TODO,  EDIT_XATTRS,  EDIT_PENDING, EDIT_DYING,
					 EDIT_FENCED, EDIT_OPENERS, EDIT_MIME, EDIT_SHARED, EDIT_BTIME };
	struct node full;

	test_full_node(f->e, MFS_ROOT_INO, "never inserted", &full);
	TEST_OK(node_blob_add_u64(&full.openers, 12));
	for (size_t i = 0; i < MFS_ARRAY_LEN(bits); i++) {
		char name[16];
		mfs_ino_t ino;
		struct node want, got;
		struct change c = { 0 };
		struct write *w;

		snprintf(name, sizeof(name), "f%zu", i);
		ino = test_make(f->e, MFS_ROOT_INO, name, REG);
		test_get(f->e, ino, &want);
		w = change_write(&c, WRITE_EDIT, ino);
		w->node = &full;
		w->mask = bits[i];
		TEST_OK(change_edit(w, &want)); /* what it means is tested in unit/test_change.c */
		/* openers are of the trash: an engine may keep them for records there only */
		if (bits[i] == EDIT_OPENERS) {
			free(want.openers.data);
			want.openers = (struct node_blob){ 0 };
		}
		TEST_OK(engine_apply(f->e, NULL, &c));
		test_get(f->two, ino, &got);
		if (bits[i] == EDIT_OPENERS)
			node_blob_remove_u64(&got.openers, 12);
		test_same_node(&want, &got);
		node_release(&want);
		node_release(&got);
	}
	node_release(&full);
}

static void test_edit__counts_and_returns_attributes(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t ino = test_make(f->e, MFS_ROOT_INO, "f", REG);
	struct mfs_attr before = test_attr(f->e, ino), attr;
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_EDIT, ino);

	w->mask = EDIT_BUMP_DATA | EDIT_BUMP_LAY;
	w->nlink_delta = 3;
	w->ret_attr = &attr;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(attr.ver, before.ver + 1);
	assert_int_equal(attr.data, before.data + 1);
	assert_int_equal(attr.lay, before.lay + 1);
	assert_int_equal(attr.nlink, before.nlink + 3);
	assert_int_equal(test_attr(f->two, ino).ver, attr.ver);
	/* An atime alone is no change; nlink never goes below 0. */
	w->node = &set;
	w->mask = EDIT_ATIME | EDIT_NO_BUMP_VER;
	w->nlink_delta = 0;
	set.attr.atime = -77;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(attr.ver, before.ver + 1);
	assert_int_equal(attr.atime, -77);
	w->nlink_delta = -5;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EINVAL);
	w->ino = 999999;
	w->nlink_delta = 0;
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
}

static void test_edit__replaces_xattrs_as_a_whole(void **state)
{
	struct engine_fixture *f = *state;
	struct node in, out, none = NODE_INIT, few = NODE_INIT;
	struct change c = { 0 };
	struct write *w;

	test_full_node(f->e, MFS_ROOT_INO, "x", &in);
	change_write(&c, WRITE_INSERT, in.attr.ino)->node = &in;
	TEST_OK(engine_apply(f->e, NULL, &c));
	TEST_OK(node_xattr_set(&few, "user.only", "v", 1));
	for (int i = 0; i < 3; i++) {
		const struct node *set[] = { &few, &none, &in };

		c = (struct change){ 0 };
		w = change_write(&c, WRITE_EDIT, in.attr.ino);
		w->node = set[i];
		w->mask = EDIT_XATTRS;
		TEST_OK(engine_apply(f->e, NULL, &c));
		test_get(f->two, in.attr.ino, &out);
		assert_int_equal(out.n_xattrs, set[i]->n_xattrs);
		assert_int_equal(!!(out.attr.flags & ATTR_HAS_XATTR), out.n_xattrs > 0);
		assert_int_equal(!!(out.attr.flags & ATTR_HAS_CAP), i == 2);
		for (size_t k = 0; k < out.n_xattrs; k++) {
			const struct node_xattr *x = node_xattr_find(&out, set[i]->xattrs[k].name);

			assert_non_null(x);
			assert_int_equal(x->size, set[i]->xattrs[k].size);
			assert_memory_equal(x->value, set[i]->xattrs[k].value, x->size);
		}
		node_release(&out);
	}
	node_release(&few);
	node_release(&in);
}

static void test_edit__holds_back_when_expectations_fail(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t ino = test_make(f->e, MFS_ROOT_INO, "f", REG);
	struct mfs_name right = test_name("f"), wrong = test_name("g");
	struct node set = NODE_INIT;
	struct mfs_attr a = test_attr(f->e, ino);
	const struct expect bad[] = {
		{ .flags = EXPECT_VER, .ver = a.ver + 1 },
		{ .flags = EXPECT_LAY, .lay = a.lay + 1 },
		{ .flags = EXPECT_DATA, .data = a.data + 1 },
		{ .flags = EXPECT_NAME, .parent = MFS_ROOT_INO, .name = &wrong },
		{ .flags = EXPECT_NAME, .parent = 5, .name = &right },
		{ .flags = EXPECT_IN_TRASH },
		{ .flags = EXPECT_NOT_FENCED, .session = 9 },
		{ .flags = EXPECT_VER | EXPECT_LAY, .ver = a.ver, .lay = a.lay + 1 },
	};
	const struct expect good = { .flags = EXPECT_VER | EXPECT_LAY | EXPECT_DATA | EXPECT_NAME | EXPECT_NOT_FENCED |
					      EXPECT_IN_FILES,
				     .ver = a.ver + 1, /* fencing counts */
				     .lay = a.lay,
				     .data = a.data,
				     .parent = MFS_ROOT_INO,
				     .name = &right,
				     .session = 8 };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_EDIT, ino);

	TEST_OK(node_blob_add_u64(&set.fenced, 9));
	w->node = &set;
	w->mask = EDIT_FENCED;
	TEST_OK(engine_apply(f->e, NULL, &c));
	w->mask = EDIT_MODE;
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++) {
		w->expect = bad[i];
		w->expect.ver += bad[i].flags == EXPECT_VER; /* still one too many */
		assert_int_equal(engine_apply(f->two, NULL, &c), -EAGAIN);
	}
	assert_int_equal(test_attr(f->e, ino).ver, a.ver + 1);
	assert_int_equal(test_attr(f->e, ino).mode, REG);
	w->expect = good;
	TEST_OK(engine_apply(f->two, NULL, &c));
	assert_int_equal(test_attr(f->e, ino).mode, 0);
	node_release(&set);
}

static void test_delete__takes_the_record_and_the_name(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t ino = test_make(f->e, MFS_ROOT_INO, "f", REG);
	struct change c = { 0 };
	struct node n;

	change_write(&c, WRITE_DELETE, ino);
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(engine_get(f->two, NULL, ino, &n), -ESTALE);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "f"), 0);
	assert_int_equal(engine_apply(f->two, NULL, &c), -ESTALE);
	test_make(f->two, MFS_ROOT_INO, "f", REG);
}

static void test_rename__frees_the_old_name_at_once(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t d = test_make(f->e, MFS_ROOT_INO, "d", DIR), a = test_make(f->e, MFS_ROOT_INO, "a", REG), again;
	uint64_t pos = a;
	struct node n;

	rename_to(f->e, a, d, "b", 0);
	assert_int_equal(test_find(f->two, d, "b"), a);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "a"), 0);
	test_get(f->e, a, &n);
	assert_int_equal(n.pos, pos);
	assert_int_equal(n.parent, d);
	node_release(&n);
	/* Create after rename: the case that a stale unique key breaks (rule M6). */
	again = test_make(f->two, MFS_ROOT_INO, "a", REG);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "a"), again);
	rename_to(f->e, a, MFS_ROOT_INO, "c", test_number(f->e));
	test_get(f->two, a, &n);
	assert_true(n.pos > again);
	node_release(&n);
	/* To its own name: nothing but a change. */
	rename_to(f->e, a, MFS_ROOT_INO, "c", 0);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "c"), a);
}

static void test_rename__refuses_a_taken_name_unless_it_is_freed_before(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG), b = test_make(f->e, MFS_ROOT_INO, "b", REG);
	struct node to = NODE_INIT, gone = NODE_INIT, n;
	struct change c = { 0 };
	struct mfs_attr attr;
	struct write *w = change_write(&c, WRITE_RENAME, a);

	to.parent = MFS_ROOT_INO;
	to.name = test_name("b");
	w->node = &to;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EEXIST);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "a"), a);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "b"), b);
	/* A rename over it: first the target goes, later writes see that. */
	gone.trash_path = (char *)(uintptr_t) "b";
	gone.trash_time = 5;
	to.attr.ctime = -3;
	c = (struct change){ 0 };
	w = change_write(&c, WRITE_TRASH, b);
	w->node = &gone;
	w->nlink_delta = -1;
	w = change_write(&c, WRITE_RENAME, a);
	w->node = &to;
	w->mask = EDIT_CTIME;
	w->ret_attr = &attr;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(attr.ctime, -3);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "b"), a);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "a"), 0);
	test_get(f->two, b, &n);
	assert_true(n.attr.flags & ATTR_IN_TRASH);
	assert_int_equal(n.attr.nlink, 0);
	node_release(&n);
}

static void test_rename__can_exchange_in_one_change(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG), b = test_make(f->e, MFS_ROOT_INO, "b", DIR);
	struct node aside = NODE_INIT, to_a = NODE_INIT, to_b = NODE_INIT;
	struct change c = { 0 };

	aside.parent = to_a.parent = to_b.parent = MFS_ROOT_INO;
	aside.name = test_name("a name that nobody has");
	to_a.name = test_name("a");
	to_b.name = test_name("b");
	change_write(&c, WRITE_RENAME, a)->node = &aside;
	change_write(&c, WRITE_RENAME, b)->node = &to_a;
	change_write(&c, WRITE_RENAME, a)->node = &to_b;
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "a"), b);
	assert_int_equal(test_find(f->two, MFS_ROOT_INO, "b"), a);
}

static void test_query__finds_by_key_and_todo(void **state)
{
	struct engine_fixture *f = *state;
	static const struct {
		const char *name, *bucket, *key;
		int64_t todo;
	} in[] = {
		{ "a", NULL, "k", 0 }, { "b", "bk", "k", 9 }, { "c", NULL, "k2", 1 },
		{ "d", NULL, "k", 5 }, { "e", NULL, NULL, 7 },
	};
	static const struct {
		struct query q;
		const char *want;
	} queries[] = {
		{ { .key = "k", .limit = 10 }, "ad" },
		{ { .key = "k", .key_bucket = "bk", .limit = 10 }, "b" },
		{ { .key = "k", .todo = true, .limit = 10 }, "d" },
		{ { .todo = true, .limit = 10 }, "bcde" },
		{ { .todo = true, .limit = 2 }, "bc" },
		{ { .todo = true, .limit = 10, .attr_only = true }, "bcde" },
		{ { .key = "nothing", .limit = 10 }, "" },
		{ { .limit = 10000, .after = MFS_ROOT_INO }, "abcde" },
		{ { .limit = 10, .trash = true }, "" },
		{ { .limit = 10, .after = UINT64_MAX }, "" },
		{ { .labelled = true, .limit = 10 }, "c" },
		{ { .labelled = true, .limit = 10, .trash = true }, "" },
		{ { .acl = true, .limit = 10 }, "bd" },
		{ { .acl = true, .limit = 1, .attr_only = true }, "b" },
		{ { .acl = true, .limit = 10, .trash = true }, "" },
	};
	static const char *const xattrs[] = { "security.x", "system.posix_acl_access", "security.selinux",
					      "system.posix_acl_default", "user.x" };
	struct query bad = { .limit = 0 }, both = { .limit = 1, .acl = true, .labelled = true };
	struct node_list l = NODE_LIST_INIT;

	for (size_t i = 0; i < MFS_ARRAY_LEN(in); i++) {
		struct node n = test_node(f->e, MFS_ROOT_INO, in[i].name, REG);
		struct change c = { 0 };

		n.ref.key = in[i].key ? strdup(in[i].key) : NULL;
		n.ref.bucket = in[i].bucket ? strdup(in[i].bucket) : NULL;
		n.todo = in[i].todo;
		TEST_OK(node_xattr_set(&n, xattrs[i], "v", 1));
		change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
		TEST_OK(engine_apply(f->e, NULL, &c));
		node_release(&n);
	}
	for (size_t i = 0; i < MFS_ARRAY_LEN(queries); i++) {
		TEST_OK(engine_query(f->two, NULL, &queries[i].q, &l));
		assert_int_equal(l.n, strlen(queries[i].want));
		for (size_t k = 0; k < l.n; k++)
			assert_int_equal(l.v[k].name.bytes[0], queries[i].want[k]);
		node_list_release(&l);
	}
	assert_int_equal(engine_query(f->e, NULL, &bad, &l), -EINVAL);
	assert_int_equal(engine_query(f->e, NULL, &both, &l), -EINVAL);
}

static void test_query__walks_all_by_id(void **state)
{
	struct engine_fixture *f = *state;
	struct query q = { .limit = 7 };
	size_t n = 0;

	for (int i = 0; i < 30; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		test_make(f->e, MFS_ROOT_INO, name, REG);
	}
	for (;;) {
		struct node_list l = NODE_LIST_INIT;
		size_t got;

		TEST_OK(engine_query(f->e, NULL, &q, &l));
		for (size_t i = 0; i < l.n; i++) {
			assert_true(l.v[i].attr.ino > q.after);
			q.after = l.v[i].attr.ino;
		}
		n += got = l.n;
		node_list_release(&l);
		if (got < q.limit)
			break;
	}
	assert_int_equal(n, 31); /* with the root */
}

/* What another instance changed may be counted up to a second later (meta/mongo_usage.c); waits ten times that. */
static void count_becomes(struct engine *e, uint64_t want_files, uint64_t want_bytes)
{
	int64_t until = mfs_mono_ns() + 10 * MFS_NSEC_PER_SEC;
	uint64_t files = 0, bytes = 0;

	for (;;) {
		TEST_OK(engine_count(e, NULL, &files, &bytes));
		if ((files == want_files && bytes == want_bytes) || mfs_mono_ns() > until)
			break;
		usleep(20000);
	}
	assert_int_equal(files, want_files);
	assert_int_equal(bytes, want_bytes);
}

static void test_count__follows_every_change(void **state)
{
	struct engine_fixture *f = *state;
	struct node set = NODE_INIT, gone = NODE_INIT;
	mfs_ino_t a, b;
	struct change c = { 0 };
	struct write *w;

	count_becomes(f->e, 1, 0);
	a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	b = test_make(f->two, MFS_ROOT_INO, "b", REG);
	count_becomes(f->e, 3, 0);
	set.attr.size = 1000;
	w = change_write(&c, WRITE_EDIT, a);
	w->node = &set;
	w->mask = EDIT_SIZE;
	change_write(&c, WRITE_DELETE, b);
	TEST_OK(engine_apply(f->e, NULL, &c));
	count_becomes(f->e, 2, 1000);
	w->ino = b; /* fails: nothing is counted */
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
	count_becomes(f->e, 2, 1000);
	c = (struct change){ 0 };
	change_write(&c, WRITE_TRASH, a)->node = &gone;
	TEST_OK(engine_apply(f->two, NULL, &c));
	count_becomes(f->e, 1, 0);
	count_becomes(f->two, 1, 0);
	engine_fixture_reopen(f);
	count_becomes(f->two, 1, 0);
}

const struct engine_test engine_tests_records[] = {
	ENGINE_TEST(test_volume__is_absent_until_put_and_then_has_a_root),
	ENGINE_TEST(test_reserve__never_gives_a_number_twice),
	ENGINE_TEST(test_insert__keeps_every_field),
	ENGINE_TEST(test_insert__derives_flags),
	ENGINE_TEST(test_insert__never_replaces),
	ENGINE_TEST(test_insert__of_many_is_all_or_nothing),
	ENGINE_TEST(test_insert__can_be_nameless_or_in_trash),
	ENGINE_TEST(test_get__gives_estale_for_what_is_not_there),
	ENGINE_TEST(test_lookup__takes_names_of_any_bytes),
	ENGINE_TEST(test_lookup__is_within_one_directory),
	ENGINE_TEST(test_list__gives_all_in_order_of_pos),
	ENGINE_TEST(test_list__cursor_stays_valid_across_changes),
	ENGINE_TEST(test_edit__changes_what_the_mask_names),
	ENGINE_TEST(test_edit__counts_and_returns_attributes),
	ENGINE_TEST(test_edit__replaces_xattrs_as_a_whole),
	ENGINE_TEST(test_edit__holds_back_when_expectations_fail),
	ENGINE_TEST(test_delete__takes_the_record_and_the_name),
	ENGINE_TEST(test_rename__frees_the_old_name_at_once),
	ENGINE_TEST(test_rename__refuses_a_taken_name_unless_it_is_freed_before),
	ENGINE_TEST(test_rename__can_exchange_in_one_change),
	ENGINE_TEST(test_query__finds_by_key_and_todo),
	ENGINE_TEST(test_query__walks_all_by_id),
	ENGINE_TEST(test_count__follows_every_change),
	ENGINE_TESTS_END,
};
