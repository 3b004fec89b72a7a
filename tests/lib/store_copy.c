/*
 * The contract suite of object stores: copies, deletion, markers, and keys that are never on show.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/store_fixture.h"

#define KEY  "folder/file.txt"

void test_copy__is_a_new_version_of_its_own(void **state)
{
	struct object_meta meta = store_test_meta(501);
	struct object_store *s = store_fixture_store(state);
	struct object_info a = store_test_put(s, KEY, "content", 7), b, old;
	struct object_ref ref_a = store_test_ref(KEY, a.version), ref_b;

	old = store_test_put(s, "to/here", "old", 3);
	meta.ino = 4242;
	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "to/here", &meta, &b), 0);
	assert_string_not_equal(a.version, b.version);
	assert_true(b.own);
	assert_int_equal(b.ino, 4242);
	assert_int_equal(b.op, 501);
	assert_int_equal(b.size, 7);
	assert_int_equal(b.mtime, meta.mtime);
	store_expect_top(s, "to/here", b.version);
	store_test_expect(s, "to/here", b.version, "content", 7);
	store_test_expect(s, "to/here", old.version, "old", 3);
	store_test_expect(s, KEY, a.version, "content", 7);
	/* each goes without the other */
	assert_int_equal(object_delete_version(s, NULL, &ref_a), 0);
	store_expect_top(s, "to/here", b.version);
	store_test_expect(s, "to/here", b.version, "content", 7);
	ref_b = store_test_ref("to/here", b.version);
	assert_int_equal(object_delete_version(s, NULL, &ref_b), 0);
	store_expect_nothing(s, "to/here");
	store_test_expect(s, "to/here", old.version, "old", 3);
}

void test_copy__that_goes_leaves_its_source_on_top(void **state)
{
	struct object_meta meta = store_test_meta(502);
	struct object_store *s = store_fixture_store(state);
	struct object_info a = store_test_put(s, KEY, "content", 7), b, c;
	struct object_ref ref_a = store_test_ref(KEY, a.version), ref_b, ref_c;

	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "b", &meta, &b), 0);
	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "c", &meta, &c), 0);
	ref_c = store_test_ref("c", c.version);
	assert_int_equal(object_delete_version(s, NULL, &ref_c), 0);
	ref_b = store_test_ref("b", b.version);
	assert_int_equal(object_delete_version(s, NULL, &ref_b), 0);
	store_expect_nothing(s, "b");
	store_expect_nothing(s, "c");
	store_expect_top(s, KEY, a.version);
	store_test_expect(s, KEY, a.version, "content", 7);
}

void test_rename_there_and_back__by_copies_and_markers(void **state)
{
	struct object_meta meta = store_test_meta(503);
	struct object_store *s = store_fixture_store(state);
	struct object_info a = store_test_put(s, "a", "content", 7), b, a2;
	struct object_ref ref_a = store_test_ref("a", a.version), ref_b;

	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "b", &meta, &b), 0);
	/* back before the marker: the view at a is still the same file */
	ref_b = store_test_ref("b", b.version);
	assert_int_equal(object_copy(s, NULL, &ref_b, NULL, "a", &meta, &a2), 0);
	store_expect_top(s, "a", a2.version);
	assert_int_equal(object_put_marker(s, NULL, NULL, "b"), 0);
	assert_int_equal(object_delete_version(s, NULL, &ref_b), 0);
	assert_int_equal(object_delete_version(s, NULL, &ref_a), 0);
	store_expect_top(s, "a", a2.version);
	store_expect_nothing(s, "b");
	store_test_expect(s, "a", a2.version, "content", 7);
}

void test_copy_onto_its_own_key__puts_an_old_version_on_top(void **state)
{
	struct object_meta meta = store_test_meta(504);
	struct object_store *s = store_fixture_store(state);
	struct object_info a = store_test_put(s, KEY, "first", 5), b = store_test_put(s, KEY, "second", 6), c;
	struct object_ref ref = store_test_ref(KEY, a.version);

	assert_int_equal(object_copy(s, NULL, &ref, NULL, KEY, &meta, &c), 0);
	store_expect_top(s, KEY, c.version);
	assert_int_equal(c.size, 5);
	store_test_expect(s, KEY, c.version, "first", 5);
	store_test_expect(s, KEY, b.version, "second", 6);
	assert_int_equal(object_put_marker(s, NULL, NULL, KEY), 0);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, KEY, &meta, &c), 0);
	store_expect_top(s, KEY, c.version);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, KEY, &meta, &c), 0); /* again: nothing to do */
	store_expect_top(s, KEY, c.version);
}

void test_delete_version__takes_only_that_one(void **state)
{
	struct object_store *s = store_fixture_store(state);
	struct object_info a = store_test_put(s, KEY, "a", 1), b = store_test_put(s, KEY, "b", 1);
	struct object_info c = store_test_put(s, KEY, "c", 1), info;
	struct object_ref ref = store_test_ref(KEY, b.version);
	char byte;

	assert_int_equal(object_delete_version(s, NULL, &ref), 0);
	assert_int_equal(object_delete_version(s, NULL, &ref), 0); /* gone already */
	assert_int_equal(object_get(s, NULL, &ref, 0, &byte, 1), -ENOENT);
	assert_int_equal(object_head(s, NULL, NULL, KEY, b.version, &info), -ENOENT);
	store_expect_top(s, KEY, c.version);
	ref = store_test_ref(KEY, c.version);
	assert_int_equal(object_delete_version(s, NULL, &ref), 0);
	store_expect_nothing(s, KEY); /* the view goes; whoever wants an older one puts it on top */
	store_test_expect(s, KEY, a.version, "a", 1);
	assert_int_equal(store_count_versions(s), 1);
}

void test_marker__hides_the_key_and_keeps_versions(void **state)
{
	struct object_store *s = store_fixture_store(state);
	struct object_info a = store_test_put(s, "d/e/f", "a", 1), b;
	struct store_seen *seen = malloc(sizeof(*seen));

	assert_non_null(seen);
	b = store_test_put(s, "d/other", "b", 1);
	assert_int_equal(object_put_marker(s, NULL, NULL, "d/e/f"), 0);
	assert_int_equal(object_put_marker(s, NULL, NULL, "d/e/f"), 0);
	store_expect_nothing(s, "d/e/f");
	store_expect_top(s, "d/other", b.version);
	assert_int_equal(store_list_keys(s, "", seen), 1);
	store_test_expect(s, "d/e/f", a.version, "a", 1);
	b = store_test_put(s, "d/e/f", "again", 5);
	store_expect_top(s, "d/e/f", b.version);
	assert_int_equal(store_list_keys(s, "", seen), 2);
	free(seen);
}

void test_file_and_folder_of_one_name__block_each_other_until_a_marker(void **state)
{
	const bool blocks = ((struct store_fixture *)*state)->kind->blocks;
	struct object_meta meta = store_test_meta(505);
	struct object_store *s = store_fixture_store(state);
	struct object_info file = store_test_put(s, "x", "file", 4),
			   below = store_test_put(s, "x/y/z", "below", 5), again;
	struct object_ref ref = store_test_ref("x/y/z", below.version);

	assert_int_equal(below.not_shown, blocks);
	store_expect_top(s, "x", file.version);
	store_test_expect(s, "x/y/z", below.version, "below", 5);
	assert_int_equal(object_put_marker(s, NULL, NULL, "x"), 0);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, "x/y/z", &meta, &again), 0);
	assert_false(again.not_shown);
	store_expect_top(s, "x/y/z", again.version);

	file = store_test_put(s, "x", "file 2", 6);
	assert_int_equal(file.not_shown, blocks);
	store_expect_top(s, "x/y/z", again.version);
	store_test_expect(s, "x", file.version, "file 2", 6);
	assert_int_equal(object_put_marker(s, NULL, NULL, "x/y/z"), 0);
	store_expect_nothing(s, "x/y/z");
	ref = store_test_ref("x", file.version);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, "x", &meta, &again), 0);
	assert_false(again.not_shown);
	store_expect_top(s, "x", again.version);
}

void test_set_aside__is_read_by_nobody(void **state)
{
	struct object_meta meta = store_test_meta(508);
	struct object_store *s = store_fixture_store(state);
	struct object_info a = store_test_put(s, KEY, "damaged", 7), other, copy;
	struct object_ref ref = store_test_ref(KEY, a.version);
	char byte;
	int r;

	assert_int_equal(object_copy(s, NULL, &ref, NULL, "copy", &meta, &copy), 0);
	other = store_test_put(s, "folder/other", "x", 1);
	r = object_set_aside(s, NULL, &ref);
	if (r == -EOPNOTSUPP) {
		store_test_expect(s, KEY, a.version, "damaged", 7);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(object_get(s, NULL, &ref, 0, &byte, 1), -ENOENT);
	assert_int_equal(object_head(s, NULL, NULL, KEY, a.version, &a), -ENOENT);
	assert_int_equal(object_set_aside(s, NULL, &ref), -ENOENT);
	store_expect_top(s, "folder/other", other.version);
	store_test_expect(s, "copy", copy.version, "damaged", 7);
	assert_int_equal(store_count_versions(s), 2);
}

/* --- keys that are never on show --- */

#define HIDDEN OBJECT_HIDDEN_PREFIX "5f-1a"

static bool is_listed(struct object_store *s, const char *version, struct object_info *ret)
{
	struct store_seen *seen = calloc(1, sizeof(*seen));
	bool found = false;

	assert_non_null(seen);
	assert_int_equal(object_list_versions(s, NULL, NULL, store_see, seen), 0);
	for (unsigned int i = 0; i < seen->n && !found; i++) {
		found = !strcmp(seen->infos[i].version, version);
		if (found)
			*ret = seen->infos[i];
	}
	free(seen);
	return found;
}

/* By key alone it may be found (S3) or not; if it is, it must be right. */
static void expect_no_view(struct object_store *s, const char *key, const char *version)
{
	struct store_seen *seen = calloc(1, sizeof(*seen));
	struct object_info info;
	int r = object_head(s, NULL, NULL, key, NULL, &info);

	assert_non_null(seen);
	if (r == 0)
		assert_string_equal(info.version, version);
	else
		assert_int_equal(r, -ENOENT);
	assert_int_equal(object_list_keys(s, NULL, NULL, "", store_see, seen), 0);
	for (unsigned int i = 0; i < seen->n; i++)
		assert_true(r == 0 || strcmp(seen->keys[i], key) != 0);
	free(seen);
}

void test_hidden_key__is_reached_by_its_version(void **state)
{
	struct object_store *s = store_fixture_store(state);
	struct object_info put = store_test_put(s, HIDDEN, "patch", 5), info;
	struct object_ref ref = store_test_ref(HIDDEN, put.version);
	char buf[8];

	assert_false(put.not_shown);
	assert_int_equal(put.size, 5);
	expect_no_view(s, HIDDEN, put.version);
	assert_true(is_listed(s, put.version, &info));
	assert_int_equal(info.size, 5);
	assert_int_equal(info.op, put.op);
	assert_int_equal(object_head(s, NULL, NULL, HIDDEN, put.version, &info), 0);
	assert_int_equal(info.size, 5);
	store_test_expect(s, HIDDEN, put.version, "patch", 5);
	if (object_store_caps(s) & OBJECT_CAP_FD) {
		int fd = object_open_fd(s, NULL, &ref);

		assert_true(fd >= 0);
		assert_int_equal(pread(fd, buf, sizeof(buf), 0), 5);
		close(fd);
	}
	assert_int_equal(object_put_marker(s, NULL, NULL, HIDDEN), 0);
	store_test_expect(s, HIDDEN, put.version, "patch", 5);
	assert_int_equal(object_delete_version(s, NULL, &ref), 0);
	assert_int_equal(object_delete_version(s, NULL, &ref), 0);
	assert_int_equal(object_head(s, NULL, NULL, HIDDEN, put.version, &info), -ENOENT);
	assert_false(is_listed(s, put.version, &info));
	assert_int_equal(store_count_versions(s), 0);
}

void test_hidden_key__by_upload_and_by_copy(void **state)
{
	struct object_meta meta = store_test_meta(507);
	struct object_store *s = store_fixture_store(state);
	struct object_upload *u = store_begin(s, HIDDEN);
	struct object_info a, b, c;
	struct object_ref ref_a, ref_b;

	assert_int_equal(object_upload_part(u, NULL, 1, 0, "patch", 5), 0);
	assert_int_equal(store_complete(u, 5, &a), 0);
	assert_false(a.not_shown);
	expect_no_view(s, HIDDEN, a.version);
	ref_a = store_test_ref(HIDDEN, a.version);
	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, HIDDEN, &meta, &c), 0); /* on top of nothing */
	expect_no_view(s, HIDDEN, c.version);
	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "shown", &meta, &b), 0);
	store_expect_top(s, "shown", b.version);
	ref_b = store_test_ref("shown", b.version);
	assert_int_equal(object_copy(s, NULL, &ref_b, NULL, HIDDEN "2", &meta, &c), 0);
	expect_no_view(s, HIDDEN "2", c.version);
	store_expect_top(s, "shown", b.version); /* a copy that is not shown takes nothing from its source */
	store_test_expect(s, HIDDEN "2", c.version, "patch", 5);
	assert_int_equal(object_delete_version(s, NULL, &ref_a), 0);
	ref_a = store_test_ref(HIDDEN "2", c.version);
	assert_int_equal(object_delete_version(s, NULL, &ref_a), 0);
	store_expect_top(s, "shown", b.version);
	store_test_expect(s, "shown", b.version, "patch", 5);
}
