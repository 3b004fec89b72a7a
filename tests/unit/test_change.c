/*
 * The change as a value: its shape (rule M1), what expectations mean, what an edit does to a record.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "meta/change.h"

static struct mfs_name name_of(const char *s)
{
	struct mfs_name n;

	assert_int_equal(mfs_name_set(&n, s, strlen(s)), 0);
	return n;
}

static void test_check__each_expectation(void **state)
{
	struct mfs_name a = name_of("a"), b = name_of("b");
	struct node n = { .parent = 1 };
	static const struct {
		unsigned int flag;
		bool in_files, in_trash; /* holds there when everything fits */
	} flags[] = {
		{ EXPECT_VER, true, true },   { EXPECT_LAY, true, true },	 { EXPECT_DATA, true, true },
		{ EXPECT_NAME, true, false }, { EXPECT_NOT_FENCED, true, true }, { EXPECT_IN_FILES, true, false },
		{ EXPECT_IN_TRASH, false, true },
	};

	(void)state;
	n.attr.ver = 1;
	n.attr.lay = 2;
	n.attr.data = 3;
	n.name = a;
	assert_int_equal(node_blob_add_u64(&n.fenced, 9), 0);
	for (size_t i = 0; i < MFS_ARRAY_LEN(flags); i++) {
		struct write w = { .expect = { .flags = flags[i].flag,
					       .ver = 1,
					       .lay = 2,
					       .data = 3,
					       .session = 8,
					       .parent = 1,
					       .name = &a } };

		assert_int_equal(change_check(&w, &n, false), flags[i].in_files ? 0 : -EAGAIN);
		assert_int_equal(change_check(&w, &n, true), flags[i].in_trash ? 0 : -EAGAIN);
		w.expect.ver = w.expect.lay = w.expect.data = 7;
		w.expect.session = 9;
		w.expect.name = &b;
		assert_int_equal(change_check(&w, &n, false), flags[i].flag == EXPECT_IN_FILES ? 0 : -EAGAIN);
		w.expect.flags = 0;
		assert_int_equal(change_check(&w, &n, true), 0);
	}
	node_release(&n);
}

static void test_edit__counters_and_links(void **state)
{
	struct node n = NODE_INIT;
	struct write w = { .kind = WRITE_EDIT };

	(void)state;
	n.attr.nlink = 1;
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.attr.ver, 1);
	w.mask = EDIT_BUMP_DATA;
	assert_int_equal(change_edit(&w, &n), 0);
	w.mask = EDIT_BUMP_LAY | EDIT_NO_BUMP_VER;
	w.nlink_delta = -1;
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.attr.ver, 2);
	assert_int_equal(n.attr.data, 1);
	assert_int_equal(n.attr.lay, 1);
	assert_int_equal(n.attr.nlink, 0);
	assert_int_equal(change_edit(&w, &n), -EINVAL);
	assert_int_equal(n.attr.lay, 1);
}

static void test_edit__takes_only_the_named_fields(void **state)
{
	struct node n = NODE_INIT, set = NODE_INIT;
	struct write w = { .kind = WRITE_EDIT, .node = &set };

	(void)state;
	set.attr.mode = 0100777;
	set.attr.uid = 5;
	set.attr.size = 100;
	set.attr.obj_len = 50;
	set.attr.alloc = 4096;
	set.attr.flags = ATTR_SHARED | ATTR_IN_TRASH | ATTR_HAS_CAP;
	set.ref.key = strdup("key");
	strcpy(set.etag, "etag");
	set.mime = strdup("a/b");
	w.mask = EDIT_MODE;
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.attr.mode, 0100777);
	assert_int_equal(n.attr.uid, 0);
	assert_int_equal(n.attr.size, 0);
	assert_null(n.ref.key);
	w.mask = EDIT_SIZE;
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.attr.size, 100);
	assert_int_equal(n.attr.obj_len, 50);
	assert_int_equal(n.attr.alloc, 0);
	w.mask = EDIT_REF | EDIT_MIME | EDIT_SHARED;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(change_edit(&w, &n), 0);
		assert_string_equal(n.ref.key, "key");
		assert_ptr_not_equal(n.ref.key, set.ref.key);
		assert_string_equal(n.etag, "etag");
		assert_string_equal(n.mime, "a/b");
		assert_int_equal(n.attr.alloc, 4096);
		assert_int_equal(n.attr.flags, ATTR_SHARED); /* the other bits are derived */
	}
	node_release(&set);
	assert_int_equal(change_edit(&w, &n), 0); /* to nothing */
	assert_null(n.ref.key);
	assert_null(n.mime);
	assert_int_equal(n.attr.flags, 0);
	node_release(&n);
}

static void test_edit__xattrs_are_replaced_as_a_set(void **state)
{
	struct node n = NODE_INIT, set = NODE_INIT;
	struct write w = { .kind = WRITE_EDIT, .node = &set, .mask = EDIT_XATTRS };

	(void)state;
	assert_int_equal(node_xattr_set(&n, "user.old", "1", 1), 0);
	assert_int_equal(node_xattr_set(&n, "user.both", "1", 1), 0);
	assert_int_equal(node_xattr_set(&set, "user.both", "22", 2), 0);
	assert_int_equal(node_xattr_set(&set, "security.capability", "c", 1), 0);
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.n_xattrs, 2);
	assert_null(node_xattr_find(&n, "user.old"));
	assert_int_equal(node_xattr_find(&n, "user.both")->size, 2);
	assert_true(n.attr.flags & ATTR_HAS_CAP);
	node_release(&set);
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.n_xattrs, 0);
	assert_int_equal(n.attr.flags, 0);
	node_release(&n);
}

static void test_edit__moves_between_places(void **state)
{
	struct node n = NODE_INIT, set = NODE_INIT;
	struct write w = { .kind = WRITE_RENAME, .node = &set };

	(void)state;
	n.parent = 1;
	n.pos = 50;
	n.name = name_of("a");
	set.parent = 2;
	set.name = name_of("b");
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.parent, 2);
	assert_string_equal(n.name.bytes, "b");
	assert_int_equal(n.pos, 50);
	set.pos = 60;
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.pos, 60);
	w.kind = WRITE_TRASH;
	set.trash_path = strdup("dir/b");
	set.trash_time = 7;
	assert_int_equal(node_blob_add_u64(&set.openers, 3), 0);
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.parent, 0);
	assert_int_equal(n.name.len, 0);
	assert_string_equal(n.trash_path, "dir/b");
	assert_int_equal(n.trash_time, 7);
	assert_true(node_blob_has_u64(&n.openers, 3));
	assert_int_equal(n.attr.flags, ATTR_IN_TRASH);
	w.kind = WRITE_UNTRASH;
	assert_int_equal(change_edit(&w, &n), 0);
	assert_int_equal(n.parent, 2);
	assert_null(n.trash_path);
	assert_int_equal(n.trash_time, 0);
	assert_null(n.openers.data);
	assert_int_equal(n.attr.flags, 0);
	node_release(&set);
	node_release(&n);
}

static void test_validate__refuses_bad_shapes(void **state)
{
	struct node n = { .parent = 1, .pos = 5 };
	struct alias alias = { .id = 6, .parent = 1, .target = 5 };
	struct job_record job = { .kind = JOB_DIR };
	struct session_record session = { .id = 0 };
	struct change c = { 0 };
	struct write *w;

	(void)state;
	n.attr.ino = 5;
	n.name = alias.name = name_of("n");
	assert_int_equal(change_validate(&c), -EINVAL);
	w = change_write(&c, WRITE_INSERT, 5);
	w->node = &n;
	assert_int_equal(change_validate(&c), 0);
	n.pos = 0; /* a name without a place in the listing */
	assert_int_equal(change_validate(&c), -EINVAL);
	n.pos = 5;
	n.partial = true;
	assert_int_equal(change_validate(&c), -EINVAL);
	n.partial = false;
	w->expect.flags = EXPECT_VER;
	assert_int_equal(change_validate(&c), -EINVAL);
	*w = (struct write){ .kind = WRITE_EDIT, .ino = 5, .mask = EDIT_MODE };
	assert_int_equal(change_validate(&c), -EINVAL);
	w->mask = EDIT_BUMP_LAY;
	assert_int_equal(change_validate(&c), 0);
	w->mask = 1u << 20;
	assert_int_equal(change_validate(&c), -EINVAL);
	w->mask = 0;
	w->expect.flags = EXPECT_NAME;
	assert_int_equal(change_validate(&c), -EINVAL);
	w->expect.flags = 1u << 15;
	assert_int_equal(change_validate(&c), -EINVAL);
	*w = (struct write){ .kind = WRITE_ALIAS_INSERT, .ino = 6, .alias = &alias };
	assert_int_equal(change_validate(&c), -EINVAL);
	change_write(&c, WRITE_EDIT, 99);
	assert_int_equal(change_validate(&c), -EINVAL); /* not the target */
	c.writes[1].ino = 5;
	assert_int_equal(change_validate(&c), 0);
	*w = (struct write){ .kind = WRITE_JOB_PUT, .job = &job };
	assert_int_equal(change_validate(&c), 0);
	job.kind = JOB_KEY; /* without a key */
	assert_int_equal(change_validate(&c), -EINVAL);
	*w = (struct write){ .kind = WRITE_SESSION_PUT, .session = &session };
	assert_int_equal(change_validate(&c), -EINVAL);
	*w = (struct write){ .kind = (enum write_kind)99, .ino = 5 };
	assert_int_equal(change_validate(&c), -EINVAL);
}

static void test_validate__guards_name_what_is_written(void **state)
{
	struct node n = { .parent = 2 };
	struct change c = { .no_child = 5 };

	(void)state;
	n.name = name_of("n");
	change_write(&c, WRITE_DELETE, 5);
	assert_int_equal(change_validate(&c), 0);
	c.no_child = 6;
	assert_int_equal(change_validate(&c), -EINVAL);
	c = (struct change){ .not_below_dir = 5, .not_below_target = 2 };
	change_write(&c, WRITE_RENAME, 5)->node = &n;
	assert_int_equal(change_validate(&c), 0);
	c.not_below_target = 0;
	assert_int_equal(change_validate(&c), -EINVAL);
	c.not_below_target = 2;
	c.not_below_dir2 = 7;
	c.not_below_target2 = 2;
	assert_int_equal(change_validate(&c), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check__each_expectation),
		cmocka_unit_test(test_edit__counters_and_links),
		cmocka_unit_test(test_edit__takes_only_the_named_fields),
		cmocka_unit_test(test_edit__xattrs_are_replaced_as_a_set),
		cmocka_unit_test(test_edit__moves_between_places),
		cmocka_unit_test(test_validate__refuses_bad_shapes),
		cmocka_unit_test(test_validate__guards_name_what_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
