/*
 * The index record as a value: names, copies, extended attributes, arrays of numbers; and the side records' copies.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "meta/records.h"

static void test_name__takes_any_bytes_but_slash_and_nul(void **state)
{
	struct mfs_name n, m;
	char bytes[MFS_NAME_MAX + 1];

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(mfs_name_set(&n, bytes, MFS_NAME_MAX), 0);
	assert_int_equal(n.len, MFS_NAME_MAX);
	assert_int_equal(n.bytes[MFS_NAME_MAX], 0);
	assert_int_equal(mfs_name_set(&n, bytes, MFS_NAME_MAX + 1), -ENAMETOOLONG);
	assert_int_equal(n.len, MFS_NAME_MAX); /* untouched */
	assert_int_equal(mfs_name_set(&m, "", 0), -EINVAL);
	assert_int_equal(mfs_name_set(&m, ".", 1), -EINVAL);
	assert_int_equal(mfs_name_set(&m, "..", 2), -EINVAL);
	assert_int_equal(mfs_name_set(&m, "...", 3), 0);
	assert_int_equal(mfs_name_set(&m, ".a", 2), 0);
	assert_int_equal(mfs_name_set(&m, "a/b", 3), -EINVAL);
	assert_int_equal(mfs_name_set(&m, "a\0b", 3), -EINVAL);
	assert_int_equal(mfs_name_set(&m, "abc", 2), 0);
	assert_string_equal(m.bytes, "ab");
	assert_false(mfs_name_equal(&n, &m));
	assert_true(mfs_name_equal(&m, &m));
}

static void test_copy__is_deep(void **state)
{
	struct node n = NODE_INIT, copy;

	(void)state;
	n.attr.ino = 7;
	n.ref.key = strdup("key");
	n.ref.bucket = strdup("bucket");
	n.symlink = strdup("target");
	n.creator_user = strdup("u");
	n.creator_host = strdup("h");
	n.mime = strdup("m/n");
	n.trash_path = strdup("p");
	assert_int_equal(node_xattr_set(&n, "user.a", "value", 5), 0);
	assert_int_equal(node_xattr_set(&n, "user.empty", NULL, 0), 0);
	assert_int_equal(node_blob_add_u64(&n.openers, 1), 0);
	assert_int_equal(node_blob_add_u64(&n.fenced, 2), 0);
	n.inline_data.data = strdup("inline");
	n.inline_data.size = 6;
	assert_int_equal(node_copy(&n, &copy), 0);
	assert_ptr_not_equal(n.symlink, copy.symlink);
	((char *)n.xattrs[0].value)[0] = 'X';
	node_release(&n);
	assert_null(n.symlink);
	assert_int_equal(n.attr.ino, 0);
	assert_int_equal(copy.attr.ino, 7);
	assert_string_equal(copy.ref.key, "key");
	assert_string_equal(copy.symlink, "target");
	assert_memory_equal(copy.xattrs[0].value, "value", 5);
	assert_non_null(copy.xattrs[1].value);
	assert_true(node_blob_has_u64(&copy.openers, 1));
	assert_memory_equal(copy.inline_data.data, "inline", 6);
	node_release(&copy);
	node_release(NULL);
	/* Empty stays empty. */
	assert_int_equal(node_copy(&n, &copy), 0);
	assert_null(copy.xattrs);
	node_release(&copy);
}

static void test_xattr__set_find_remove(void **state)
{
	struct node n = NODE_INIT;

	(void)state;
	assert_null(node_xattr_find(&n, "user.a"));
	assert_int_equal(node_xattr_remove(&n, "user.a"), -ENODATA);
	assert_int_equal(node_xattr_set(&n, "user.a", "1", 1), 0);
	assert_int_equal(node_xattr_set(&n, "user.b", "22", 2), 0);
	assert_int_equal(node_xattr_set(&n, "user.c", "", 0), 0);
	assert_int_equal(node_xattr_set(&n, "user.a", "longer than before", 18), 0);
	assert_int_equal(n.n_xattrs, 3);
	assert_int_equal(node_xattr_find(&n, "user.a")->size, 18);
	assert_int_equal(node_xattr_find(&n, "user.c")->size, 0);
	assert_non_null(node_xattr_find(&n, "user.c")->value);
	assert_int_equal(node_xattr_remove(&n, "user.a"), 0);
	assert_null(node_xattr_find(&n, "user.a"));
	assert_memory_equal(node_xattr_find(&n, "user.b")->value, "22", 2);
	assert_int_equal(node_xattr_remove(&n, "user.c"), 0);
	assert_int_equal(n.attr.flags, ATTR_HAS_XATTR);
	assert_int_equal(node_xattr_remove(&n, "user.b"), 0);
	assert_int_equal(n.attr.flags, 0);
	node_release(&n);
}

static void test_xattr__derives_flags(void **state)
{
	struct node n = NODE_INIT;

	(void)state;
	n.attr.flags = ATTR_SHARED;
	assert_int_equal(node_xattr_set(&n, "security.capability", "c", 1), 0);
	assert_int_equal(n.attr.flags, ATTR_SHARED | ATTR_HAS_XATTR | ATTR_HAS_CAP);
	assert_int_equal(node_xattr_set(&n, "system.posix_acl_access", "a", 1), 0);
	assert_int_equal(node_xattr_set(&n, "system.posix_acl_default", "d", 1), 0);
	assert_int_equal(n.attr.flags,
			 ATTR_SHARED | ATTR_HAS_XATTR | ATTR_HAS_CAP | ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL);
	assert_int_equal(node_xattr_remove(&n, "security.capability"), 0);
	assert_false(n.attr.flags & ATTR_HAS_CAP);
	node_release(&n);
}

static void test_xattr__total_is_bounded(void **state)
{
	static char value[MFS_XATTR_SIZE_MAX];
	struct node n = NODE_INIT;
	char name[32];
	int i, r = 0;

	(void)state;
	for (i = 0; r == 0; i++) {
		snprintf(name, sizeof(name), "user.%05d", i);
		r = node_xattr_set(&n, name, value, sizeof(value));
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(n.n_xattrs, 15); /* 16 and their names are too many */
	/* Replacing what is there by as much, or less, always fits. */
	assert_int_equal(node_xattr_set(&n, "user.00003", value, sizeof(value)), 0);
	assert_int_equal(node_xattr_set(&n, "user.00003", value, 1), 0);
	node_release(&n);
}

static void test_numbers__are_a_set(void **state)
{
	struct node_blob b = { 0 }, copy;

	(void)state;
	node_blob_remove_u64(&b, 5);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(node_blob_add_u64(&b, 5), 0);
		assert_int_equal(node_blob_add_u64(&b, UINT64_MAX), 0);
		assert_int_equal(node_blob_add_u64(&b, 0), 0);
	}
	assert_int_equal(b.size, 24);
	assert_true(node_blob_has_u64(&b, 0));
	assert_false(node_blob_has_u64(&b, 6));
	node_blob_remove_u64(&b, 5);
	node_blob_remove_u64(&b, 6);
	assert_int_equal(b.size, 16);
	assert_false(node_blob_has_u64(&b, 5));
	assert_true(node_blob_has_u64(&b, UINT64_MAX));
	assert_int_equal(node_blob_copy(&b, &copy), 0);
	node_blob_remove_u64(&b, UINT64_MAX);
	node_blob_remove_u64(&b, 0);
	assert_null(b.data);
	assert_int_equal(copy.size, 16);
	free(copy.data);
	assert_int_equal(node_blob_copy(&b, &copy), 0);
	assert_null(copy.data);
}

static void test_lists__grow_and_release(void **state)
{
	struct node_list l = NODE_LIST_INIT;
	struct version_list v = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		struct node *n = node_list_add(&l);
		struct version_record *r = version_list_add(&v);

		n->attr.ino = i;
		n->symlink = strdup("x");
		r->data = i;
		r->path = strdup("y");
	}
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(l.v[i].attr.ino, i);
		assert_int_equal(v.v[i].data, i);
	}
	node_list_release(&l);
	version_list_release(&v);
	assert_int_equal(l.n + v.n, 0);
	node_list_release(NULL);
	version_list_release(NULL);
}

static void test_records__copy_deeply(void **state)
{
	struct version_record v = { .ino = 1 }, v2;
	struct job_record j = { .kind = JOB_KEY }, j2;
	struct session_record s = { .id = 3 }, s2;
	struct dropped_record d = { .id = 4 }, d2;

	(void)state;
	v.path = strdup("p");
	v.ref.key = strdup("k");
	j.key = strdup("k");
	s.host = strdup("h");
	s.mountpoint = strdup("m");
	d.ref.key = strdup("k");
	assert_int_equal(version_record_copy(&v, &v2), 0);
	assert_int_equal(job_record_copy(&j, &j2), 0);
	assert_int_equal(session_record_copy(&s, &s2), 0);
	assert_int_equal(dropped_record_copy(&d, &d2), 0);
	version_record_release(&v);
	job_record_release(&j);
	session_record_release(&s);
	dropped_record_release(&d);
	assert_string_equal(v2.path, "p");
	assert_string_equal(v2.ref.key, "k");
	assert_string_equal(j2.key, "k");
	assert_string_equal(s2.mountpoint, "m");
	assert_string_equal(d2.ref.key, "k");
	assert_int_equal(d2.id, 4);
	version_record_release(&v2);
	job_record_release(&j2);
	session_record_release(&s2);
	dropped_record_release(&d2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name__takes_any_bytes_but_slash_and_nul),
		cmocka_unit_test(test_copy__is_deep),
		cmocka_unit_test(test_xattr__set_find_remove),
		cmocka_unit_test(test_xattr__derives_flags),
		cmocka_unit_test(test_xattr__total_is_bounded),
		cmocka_unit_test(test_numbers__are_a_set),
		cmocka_unit_test(test_lists__grow_and_release),
		cmocka_unit_test(test_records__copy_deeply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
