/*
 * common/checksum.h: vectors, and that the ways to one sum agree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/checksum.h"
#include "common/defs.h"

#define CELL ((size_t)MFS_CHECKSUM_CELL)

static void fill(unsigned char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

/* What stands in indexes and logs must never change. Made by a program of 10 lines over libxxhash's one-shot call. */
static void test_vectors(void **state)
{
	static const struct {
		size_t len;
		uint64_t sum;
	} cases[] = {
		{ 0, UINT64_C(0x2d06800538d394c2) },
		{ 1, UINT64_C(0x113425e2d3c1afc3) },
		{ 3, UINT64_C(0x234847c63d0f8458) },
		{ 8, UINT64_C(0xe3b92b08f6c82909) },
		{ 240, UINT64_C(0x4291ffcbece5b8ff) },
		{ 241, UINT64_C(0xb2cde92b9f59ade3) },
		{ 4096, UINT64_C(0xb2f5438834c783ab) },
		{ 100000, UINT64_C(0xffeb771ad9960cb6) },
		{ 5242879, UINT64_C(0xb25aacec1441a773) },
		{ 5242880, UINT64_C(0x65e8d26ca58bd9cf) },
		{ 5242881, UINT64_C(0x38e94da25bb16b2c) },
		{ 10485760, UINT64_C(0x0581b4f5dd1f64fb) },
		{ 10498105, UINT64_C(0xf37f155840b8cd55) },
	};
	unsigned char *buf = malloc(3 * CELL);

	(void)state;
	assert_non_null(buf);
	fill(buf, 3 * CELL);
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++)
		if (mfs_checksum(buf, cases[i].len) != cases[i].sum)
			fail_msg("%zu bytes: %016jx", cases[i].len, (uintmax_t)mfs_checksum(buf, cases[i].len));
	assert_true(mfs_checksum_cell("abc", 3) == UINT64_C(0x78af5f94892f3950));
	free(buf);
}

static uint64_t by_cells(const unsigned char *buf, size_t len)
{
	uint64_t sums[4];
	size_t n = 0;

	for (size_t off = 0; off < len; off += CELL)
		sums[n++] = mfs_checksum_cell(buf + off, MFS_MIN(len - off, CELL));
	return mfs_checksum_join(sums, n);
}

static uint64_t in_steps(const unsigned char *buf, size_t len, size_t step)
{
	struct mfs_checksum *c = mfs_checksum_new();

	assert_non_null(c);
	for (size_t off = 0; off < len; off += step)
		mfs_checksum_update(c, buf + off, MFS_MIN(len - off, step));
	return mfs_checksum_final(c);
}

static void test_all_ways_give_the_same(void **state)
{
	static const size_t sizes[] = { 0, 1, 8, 240, 241, 4096, CELL - 1, CELL, CELL + 1, 2 * CELL, 2 * CELL + 17 };
	unsigned char *buf = malloc(3 * CELL);
	struct mfs_checksum *c;

	(void)state;
	assert_non_null(buf);
	fill(buf, 3 * CELL);
	for (size_t i = 0; i < MFS_ARRAY_LEN(sizes); i++) {
		size_t len = sizes[i];
		uint64_t want = mfs_checksum(buf, len);

		assert_true(by_cells(buf, len) == want);
		assert_true(in_steps(buf, len, 4096) == want);
		assert_true(in_steps(buf, len, 65537) == want);
		assert_true(in_steps(buf, len, CELL + 3) == want);
		assert_true(in_steps(buf, len, 3 * CELL) == want);
	}
	c = mfs_checksum_new();
	assert_non_null(c);
	mfs_checksum_update(c, buf, CELL);
	mfs_checksum_add_cell(c, mfs_checksum_cell(buf + CELL, CELL));
	mfs_checksum_update(c, buf + 2 * CELL, 17);
	assert_true(mfs_checksum_final(c) == mfs_checksum(buf, 2 * CELL + 17));
	mfs_checksum_free(mfs_checksum_new());
	mfs_checksum_free(NULL);
	free(buf);
}

/* One bit anywhere, or cells in another order, or zeros at the end, give another sum. */
static void test_changes_are_seen(void **state)
{
	unsigned char *buf = malloc(2 * CELL + 10);
	uint64_t want;

	(void)state;
	assert_non_null(buf);
	fill(buf, 2 * CELL);
	memset(buf + 2 * CELL, 0, 10);
	want = mfs_checksum(buf, 2 * CELL);
	for (size_t at = 0; at < 2 * CELL; at += 999983) {
		buf[at] ^= 0x10;
		assert_true(mfs_checksum(buf, 2 * CELL) != want);
		buf[at] ^= 0x10;
	}
	assert_true(mfs_checksum(buf, 2 * CELL) == want);
	assert_true(mfs_checksum(buf, 2 * CELL + 1) != want);
	assert_true(mfs_checksum(buf, 2 * CELL - 1) != want);
	free(buf);
}

static void test_etags(void **state)
{
	static const char *const bad[] = { "", "xxh3:", "xxh3:0123456789abcde", "xxh3:0123456789abcdef0", "xxh3:0123456789abcdeF",
					   "xxh3:0123456789abcdeg", "XXH3:0123456789abcdef", "\"0123456789abcdef\"",
					   "xxh3: 123456789abcdef", "0123456789abcdef" };
	char etag[MFS_CHECKSUM_ETAG_MAX];
	uint64_t sum = 7;

	(void)state;
	mfs_checksum_etag(UINT64_C(0x0123456789abcdef), etag);
	assert_string_equal(etag, "xxh3:0123456789abcdef");
	assert_true(mfs_checksum_parse(etag, &sum));
	assert_true(sum == UINT64_C(0x0123456789abcdef));
	mfs_checksum_etag(UINT64_MAX, etag);
	assert_true(mfs_checksum_parse(etag, &sum) && sum == UINT64_MAX);
	mfs_checksum_etag(0, etag);
	assert_true(mfs_checksum_parse(etag, &sum) && sum == 0);
	sum = 7;
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++)
		assert_false(mfs_checksum_parse(bad[i], &sum));
	assert_true(sum == 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_all_ways_give_the_same),
		cmocka_unit_test(test_changes_are_seen),
		cmocka_unit_test(test_etags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
