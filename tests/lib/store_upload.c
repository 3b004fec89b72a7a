/*
 * The contract suite of object stores: uploads in parts.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/checksum.h"
#include "tests/lib/store_fixture.h"

#define KEY  "folder/file.txt"
#define NONE "0000000000000001-00-1-1-1" /* of localdir's form, never made */

#define PART (64 << 10) /* with OBJECT_CAP_SPARSE parts may be this small */

static size_t part_len(struct object_store *s)
{
	return object_store_caps(s) & OBJECT_CAP_SPARSE ? PART : OBJECT_PART_MIN;
}

void test_upload__takes_parts_in_any_order_and_twice(void **state)
{
	static const unsigned int order[] = { 3, 1, 5, 2, 1, 4, 3 };
	struct object_store *s = store_fixture_store(state);
	size_t len = part_len(s), size = 4 * len + 1000;
	char *buf = malloc(size), *junk = malloc(len);
	struct object_upload *u = store_begin(s, KEY);
	struct object_info info;

	assert_true(buf && junk);
	store_test_fill(buf, size, 5);
	store_test_fill(junk, len, 6);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(order); i++) {
		unsigned int n = order[i];
		uint64_t off = (n - 1) * len;

		/* 3 and 1 come twice, with other bytes at first */
		assert_int_equal(
			object_upload_part(u, NULL, n, off, i < 2 ? junk : buf + off, n == 5 ? 1000 : len),
			0);
		store_expect_nothing(s, KEY);
	}
	assert_int_equal(store_complete(u, size, &info), 0);
	assert_int_equal(info.size, size);
	assert_int_equal(info.op, 77);
	store_test_expect(s, KEY, info.version, buf, size);
	store_expect_top(s, KEY, info.version);
	free(buf);
	free(junk);
}

void test_upload__leaves_zeros_in_gaps(void **state)
{
	struct object_store *s = store_fixture_store(state);
	const size_t size = 3 << 20;
	char *buf = calloc(1, size);
	struct object_upload *u;
	struct object_info info;

	assert_non_null(buf);
	if (!(object_store_caps(s) & OBJECT_CAP_SPARSE)) {
		free(buf);
		skip();
	}
	u = store_begin(s, KEY);
	store_test_fill(buf + (1 << 20), 5000, 1);
	store_test_fill(buf + (2 << 20) + 3, 17, 2);
	assert_int_equal(object_upload_part(u, NULL, 2, (2 << 20) + 3, buf + (2 << 20) + 3, 17), 0);
	assert_int_equal(object_upload_part(u, NULL, 1, 1 << 20, buf + (1 << 20), 5000), 0);
	assert_int_equal(store_complete(u, size, &info), 0);
	assert_int_equal(info.size, size);
	store_test_expect(s, KEY, info.version, buf, size);
	u = store_begin(s, "empty"); /* no part at all */
	assert_int_equal(store_complete(u, size, &info), 0);
	memset(buf, 0, size);
	store_test_expect(s, "empty", info.version, buf, size);
	u = store_begin(s, "nothing");
	assert_int_equal(store_complete(u, 0, &info), 0);
	store_test_expect(s, "nothing", info.version, "", 0);
	free(buf);
}

void test_upload__is_read_back_before_it_completes(void **state)
{
	struct object_store *s = store_fixture_store(state);
	struct object_upload *u = store_begin(s, KEY);
	struct object_info info;
	char buf[32];

	if (!(object_store_caps(s) & OBJECT_CAP_UPLOAD_READ)) {
		assert_int_equal(object_upload_read(u, NULL, 0, buf, sizeof(buf)), -ENOTSUP);
		object_upload_abort(u, NULL);
		return;
	}
	assert_int_equal(object_upload_read(u, NULL, 0, buf, sizeof(buf)), 0);
	assert_int_equal(object_upload_part(u, NULL, 2, 6, "later", 5), 0);
	assert_int_equal(object_upload_read(u, NULL, 0, buf, sizeof(buf)), 11);
	assert_memory_equal(buf, "\0\0\0\0\0\0later", 11);
	assert_int_equal(object_upload_part(u, NULL, 1, 0, "first", 5), 0);
	assert_int_equal(object_upload_read(u, NULL, 3, buf, 5), 5);
	assert_memory_equal(buf, "st\0la", 5);
	assert_int_equal(object_upload_read(u, NULL, 11, buf, sizeof(buf)), 0);
	assert_int_equal(object_upload_read(u, NULL, UINT64_MAX, buf, 2), -EFBIG);
	assert_int_equal(store_complete(u, 11, &info), 0);
	store_test_expect(s, KEY, info.version, "first\0later", 11);
}

void test_upload__that_does_not_complete_leaves_nothing(void **state)
{
	struct object_store *s = store_fixture_store(state);
	struct object_info info = store_test_put(s, KEY, "old", 3), unused;
	struct object_upload *u = store_begin(s, KEY);
	uint64_t n = 99, bytes = 99;

	assert_int_equal(object_upload_part(u, NULL, 1, 0, "new bytes", 9), 0);
	object_upload_abort(u, NULL);
	object_upload_abort(NULL, NULL);
	u = store_begin(s, KEY); /* more bytes than the size it is said to have */
	assert_int_equal(object_upload_part(u, NULL, 1, 0, "new bytes", 9), 0);
	assert_int_equal(store_complete(u, 8, &unused), -EINVAL);
	u = store_begin(s, KEY);
	assert_int_equal(object_upload_part(u, NULL, 1, UINT64_MAX - 3, "new bytes", 9), -EFBIG);
	assert_int_equal(store_complete(u, UINT64_MAX, &unused), -EFBIG);
	store_expect_top(s, KEY, info.version);
	assert_int_equal(store_count_versions(s), 1);
	assert_int_equal(object_sweep(s, NULL, false, &n, &bytes), 0);
	assert_int_equal(n, 0);
	assert_int_equal(bytes, 0);
}

void test_part_copy__takes_ranges_of_other_objects(void **state)
{
	struct object_store *s = store_fixture_store(state);
	const size_t len = part_len(s);
	char *a = malloc(2 * len), *want = calloc(3, len);
	struct object_upload *u = store_begin(s, "source");
	struct object_info src, info;
	struct object_ref ref, none = store_test_ref("source", NONE);

	assert_true(a && want);
	/* the source: data, a hole (where it can have one), data */
	store_test_fill(a, 2 * len, 1);
	memset(a + 4096, 0, len - 4096);
	assert_int_equal(object_upload_part(u, NULL, 1, 0, a, 4096), 0);
	if (!(object_store_caps(s) & OBJECT_CAP_SPARSE))
		assert_int_equal(object_upload_part(u, NULL, 1, 0, a, len), 0);
	assert_int_equal(object_upload_part(u, NULL, 2, len, a + len, len), 0);
	assert_int_equal(store_complete(u, 2 * len, &src), 0);
	ref = store_test_ref("source", src.version);

	u = store_begin(s, KEY);
	store_test_fill(want, len, 9);
	assert_int_equal(object_upload_part(u, NULL, 1, 0, want, len), 0);
	store_test_fill(want + len, len, 10); /* overwritten by a copy with a hole */
	assert_int_equal(object_upload_part(u, NULL, 2, len, want + len, len), 0);
	assert_int_equal(object_upload_part_copy(u, NULL, 2, len, &ref, 0, len), 0);
	memcpy(want + len, a, len);
	assert_int_equal(object_upload_part_copy(u, NULL, 3, 2 * len, &ref, len + 100, len - 100), 0);
	memcpy(want + 2 * len, a + len + 100, len - 100);
	assert_int_equal(object_upload_part_copy(u, NULL, 3, 2 * len, &ref, len + 1, len), -EINVAL);
	assert_int_equal(object_upload_part_copy(u, NULL, 3, 2 * len, &none, 0, len), -ENOENT);
	assert_int_equal(store_complete(u, 3 * len - 100, &info), 0);
	store_test_expect(s, KEY, info.version, want, 3 * len - 100);
	free(a);
	free(want);
}

/* --- checksums --- */

static void expect_etag(const struct object_info *info, const void *buf, size_t len)
{
	char want[MFS_CHECKSUM_ETAG_MAX];

	mfs_checksum_etag(mfs_checksum(buf, len), want);
	assert_string_equal(info->etag, want);
}

void test_etag__is_the_checksum_of_what_was_put(void **state)
{
	static const size_t sizes[] = { 0, 1, 4096, 100000, MFS_CHECKSUM_CELL - 1, MFS_CHECKSUM_CELL,
					MFS_CHECKSUM_CELL + 1, 2 * MFS_CHECKSUM_CELL };
	struct object_store *s = store_fixture_store(state);
	char *buf = malloc(2 * MFS_CHECKSUM_CELL);

	assert_non_null(buf);
	store_test_fill(buf, 2 * MFS_CHECKSUM_CELL, 1);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(sizes); i++) {
		struct object_info info = store_test_put(s, KEY, buf, sizes[i]);

		expect_etag(&info, buf, sizes[i]);
	}
	free(buf);
}

/* Parts of one cell, in an odd order; one sent twice with other bytes at first. */
void test_etag__of_an_upload_is_that_of_the_same_bytes_put(void **state)
{
	static const unsigned int order[] = { 2, 4, 1, 3, 2 };
	const size_t len = MFS_CHECKSUM_CELL, size = 3 * len + 12345;
	struct object_store *s = store_fixture_store(state);
	char *buf = malloc(size), *junk = calloc(1, len);
	struct object_upload *u = store_begin(s, KEY);
	struct object_info info;

	assert_true(buf && junk);
	store_test_fill(buf, size, 2);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(order); i++) {
		uint64_t off = (order[i] - 1) * len;

		assert_int_equal(object_upload_part(u, NULL, order[i], off, i ? buf + off : junk,
						    order[i] == 4 ? 12345 : len),
				 0);
	}
	assert_int_equal(store_complete(u, size, &info), 0);
	store_test_expect(s, KEY, info.version, buf, size);
	expect_etag(&info, buf, size);
	free(buf);
	free(junk);
}

void test_etag__of_gaps_and_holes(void **state)
{
	const size_t len = MFS_CHECKSUM_CELL, size = 4 * len + 777;
	struct object_store *s = store_fixture_store(state);
	char *buf = calloc(1, size);
	struct object_upload *u;
	struct object_info info;

	assert_non_null(buf);
	if (!(object_store_caps(s) & OBJECT_CAP_SPARSE)) {
		free(buf);
		skip();
	}
	u = store_begin(s, "nothing");
	assert_int_equal(store_complete(u, 0, &info), 0);
	expect_etag(&info, buf, 0);
	u = store_begin(s, "zeros"); /* no part at all */
	assert_int_equal(store_complete(u, size, &info), 0);
	expect_etag(&info, buf, size);
	/* A part that ends in the middle of a cell, one that begins there, and gaps around. */
	u = store_begin(s, KEY);
	store_test_fill(buf + len, 1000, 1);
	store_test_fill(buf + 2 * len - 500, 1000, 2);
	assert_int_equal(object_upload_part(u, NULL, 1, len, buf + len, 1000), 0);
	assert_int_equal(object_upload_part(u, NULL, 2, 2 * len - 500, buf + 2 * len - 500, 1000), 0);
	assert_int_equal(store_complete(u, size, &info), 0);
	store_test_expect(s, KEY, info.version, buf, size);
	expect_etag(&info, buf, size);
	free(buf);
}

/* Parts and part copies anywhere, over each other, against the same done in memory. */
void test_etag__of_random_uploads(void **state)
{
	const size_t size = 4 * MFS_CHECKSUM_CELL;
	struct object_store *s = store_fixture_store(state);
	char *buf = malloc(size), *from = malloc(size);
	struct object_info src;
	struct object_ref ref;
	unsigned int seed = 1;

	assert_true(buf && from);
	if (!(object_store_caps(s) & OBJECT_CAP_SPARSE)) {
		free(buf);
		free(from);
		skip();
	}
	store_test_fill(from, size, 3);
	memset(from + size / 3, 0, size / 3);
	src = store_test_put(s, "source", from, size);
	ref = store_test_ref("source", src.version);
	for (unsigned int round = 0; round < 8; round++) {
		struct object_upload *u = store_begin(s, KEY);
		size_t end = 0, whole;
		struct object_info info;

		memset(buf, 0, size);
		for (unsigned int i = 1; i <= 1 + round; i++) {
			size_t off = (size_t)rand_r(&seed) % size, len = (size_t)rand_r(&seed) % (size - off) + 1;

			if (i % 3 == 0) { /* whole cells */
				off -= off % MFS_CHECKSUM_CELL;
				len = MFS_CHECKSUM_CELL;
			}
			if (i % 2) {
				store_test_fill(buf + off, len, round * 100 + i);
				assert_int_equal(object_upload_part(u, NULL, i, off, buf + off, len), 0);
			} else {
				memcpy(buf + off, from + off, len);
				assert_int_equal(object_upload_part_copy(u, NULL, i, off, &ref, off, len), 0);
			}
			end = MFS_MAX(end, off + len);
		}
		whole = end + (size_t)rand_r(&seed) % (size - end + 1);
		assert_int_equal(store_complete(u, whole, &info), 0);
		store_test_expect(s, KEY, info.version, buf, whole);
		expect_etag(&info, buf, whole);
	}
	free(buf);
	free(from);
}
