/* fs/dirty and fs/ranges: against plain arrays, random operations, budget given back to the last byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/dirty.h"
#include "fs/ranges.h"

#define SPAN (2 * (size_t)OBJECT_PART_MIN + 70000) /* crosses part boundaries */

struct model {
	unsigned char *bytes;
	bool *is;
};

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void check(const struct dirty *d, const struct model *m)
{
	unsigned char *got = calloc(1, SPAN);
	size_t n = 0;

	for (size_t i = 0; i < d->n; i++) {
		const struct extent *e = d->v[i];

		assert_true(e->len > 0 && e->len <= e->cap);
		assert_int_equal(e->off / OBJECT_PART_MIN, (e->off + e->len - 1) / OBJECT_PART_MIN);
		if (i)
			assert_true(d->v[i - 1]->off + d->v[i - 1]->len <= e->off);
		for (size_t j = 0; j < e->len; j++)
			assert_true(m->is[e->off + j]);
		n += e->len;
	}
	assert_int_equal(n, d->bytes);
	for (size_t i = 0; i < SPAN; i++)
		n -= m->is[i];
	assert_int_equal(n, 0);
	dirty_overlay(d, 0, got, SPAN);
	for (size_t i = 0; i < SPAN; i++)
		assert_int_equal(got[i], m->is[i] ? m->bytes[i] : 0);
	free(got);
}

static void test_random_writes__match_a_plain_array(void **state)
{
	struct model m = { malloc(SPAN), calloc(SPAN, 1) };
	struct budget *b;
	struct dirty d = { 0 };
	uint64_t seed = 88172645463325252u;
	unsigned char *buf = malloc(SPAN);

	(void)state;
	assert_int_equal(budget_new(UINT64_C(1) << 30, &b), 0);
	for (int i = 0; i < 3000; i++) {
		uint64_t off = rnd(&seed) % SPAN;
		size_t len = 1 + rnd(&seed) % (rnd(&seed) % 16 ? 3000 : 400000);

		len = MFS_MIN(len, SPAN - off);
		if (rnd(&seed) % 50 == 0) {
			dirty_clip(&d, b, off);
			memset(m.is + off, 0, SPAN - off);
		} else if (d.n && rnd(&seed) % 20 == 0) {
			/* An extent is taken (for upload), something is written over it, and it comes back below. */
			struct extent *e = dirty_take(&d, rnd(&seed) % d.n);
			uint64_t from = e->off + rnd(&seed) % e->len;
			size_t n = 1 + rnd(&seed) % 500;

			n = MFS_MIN(n, SPAN - from);
			memset(buf, (int)i, n);
			assert_int_equal(dirty_write(&d, b, from, buf, n), n);
			memcpy(m.bytes + from, buf, n);
			memset(m.is + from, 1, n);
			assert_int_equal(dirty_put_back(&d, b, e), 0);
		} else if (rnd(&seed) % 6 == 0) {
			dirty_cut(&d, b, off, len);
			memset(m.is + off, 0, len);
		} else if (rnd(&seed) % 6 == 0) {
			memset(buf, (int)(i * 5 + 2), len);
			assert_true(dirty_fill(&d, b, off, buf, len));
			for (size_t j = off; j < off + len; j++) {
				if (!m.is[j])
					m.bytes[j] = buf[0];
				m.is[j] = true;
			}
		} else {
			memset(buf, (int)(i * 7 + 1), len);
			assert_int_equal(dirty_write(&d, b, off, buf, len), len);
			memcpy(m.bytes + off, buf, len);
			memset(m.is + off, 1, len);
		}
		if (i % 300 == 0)
			check(&d, &m);
	}
	check(&d, &m);
	for (int i = 0; i < 200; i++) {
		uint64_t off = rnd(&seed) % SPAN, n = 1 + rnd(&seed) % 100;
		bool all = true;

		n = MFS_MIN(n, SPAN - off);
		for (uint64_t j = 0; j < n; j++)
			all = all && m.is[off + j];
		assert_int_equal(dirty_covers(&d, off, n), all);
	}
	dirty_release(&d, b);
	assert_int_equal(budget_used(b), 0);
	budget_free(b);
	free(buf);
	free(m.bytes);
	free(m.is);
}

static void test_write__is_short_when_the_budget_is_full(void **state)
{
	struct budget *b;
	struct dirty d = { 0 };
	size_t len = 4 * OBJECT_PART_MIN;
	unsigned char *buf = calloc(1, len);

	(void)state;
	assert_int_equal(budget_new(2 * OBJECT_PART_MIN, &b), 0);
	assert_true(dirty_write(&d, b, 0, buf, len) < len);
	assert_true(budget_used(b) <= budget_max(b));
	dirty_clip(&d, b, 0);
	assert_int_equal(budget_used(b), 0);
	assert_int_equal(dirty_write(&d, b, 0, buf, 4096), 4096);
	dirty_release(&d, b);
	budget_free(b);
	free(buf);
}

static void test_sequential_writes__make_one_extent_a_part(void **state)
{
	struct budget *b;
	struct dirty d = { 0 };
	unsigned char buf[10240] = { 1 };

	(void)state;
	assert_int_equal(budget_new(UINT64_C(64) << 20, &b), 0);
	for (uint64_t off = 0; off < 2 * OBJECT_PART_MIN; off += sizeof(buf))
		assert_int_equal(dirty_write(&d, b, off, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(d.n, 2);
	assert_true(extent_is_full(d.v[0]) && extent_is_full(d.v[1]));
	dirty_release(&d, b);
	budget_free(b);
}

/* Without memory for a second extent the middle is zeros, which reads the same as a hole. */
static void test_cut_without_room__leaves_zeros(void **state)
{
	size_t len = 2 * OBJECT_PART_MIN;
	unsigned char *buf = malloc(len), got[3] = { 9, 9, 9 };
	struct dirty d = { 0 };
	struct budget *b;

	(void)state;
	memset(buf, 1, len);
	assert_int_equal(budget_new(len, &b), 0);
	assert_int_equal(dirty_write(&d, b, 0, buf, len), len);
	dirty_cut(&d, b, 1000, 1000);
	dirty_overlay(&d, 998, got, 3);
	assert_memory_equal(got, "\1\1\1", 2);
	assert_true(dirty_covers(&d, 0, len));
	dirty_overlay(&d, 1998, got, 3);
	assert_memory_equal(got, "\0\0\1", 3);
	dirty_release(&d, b);
	budget_free(b);
	free(buf);
}

/* Shifted over a part boundary, an extent is still found, joined by nothing that would burst it, and cut. */
static void test_shifted_extents__keep_their_bytes(void **state)
{
	unsigned char buf[8192], got[8192];
	struct dirty d = { 0 };
	struct budget *b;

	(void)state;
	memset(buf, 5, sizeof(buf));
	assert_int_equal(budget_new(UINT64_C(64) << 20, &b), 0);
	assert_int_equal(dirty_write(&d, b, 100, buf, 10), 10);
	assert_int_equal(dirty_write(&d, b, 1000, buf, sizeof(buf)), sizeof(buf));
	dirty_shift(&d, 1000, (int64_t)OBJECT_PART_MIN - 2000);
	assert_true(dirty_covers(&d, 100, 10));
	assert_true(dirty_covers(&d, OBJECT_PART_MIN - 1000, sizeof(buf)));
	assert_int_equal(dirty_write(&d, b, OBJECT_PART_MIN - 1000 + sizeof(buf), buf, 100), 100);
	assert_int_equal(dirty_write(&d, b, OBJECT_PART_MIN - 1100, buf, 100), 100);
	dirty_overlay(&d, OBJECT_PART_MIN - 1000, got, sizeof(got));
	assert_memory_equal(got, buf, sizeof(got));
	dirty_shift(&d, 1000, -500);
	assert_true(dirty_covers(&d, OBJECT_PART_MIN - 1600, sizeof(buf) + 200));
	dirty_release(&d, b);
	assert_int_equal(budget_used(b), 0);
	budget_free(b);
}

static void test_ranges__match_a_plain_array(void **state)
{
	enum { N = 3000 };
	bool is[N] = { false };
	struct ranges r = { 0 };
	uint64_t seed = 4711;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t off = rnd(&seed) % N, len = 1 + rnd(&seed) % (rnd(&seed) % 8 ? 20 : 600);
		unsigned int what = rnd(&seed) % 40;

		len = MFS_MIN(len, N - off);
		assert_int_equal(ranges_reserve(&r), 0);
		if (what == 0) {
			ranges_clip(&r, off);
			memset(is + off, 0, N - off);
		} else if (what < 20) {
			ranges_add(&r, off, len);
			memset(is + off, 1, len);
		} else {
			ranges_cut(&r, off, len);
			memset(is + off, 0, len);
		}
		if (i % 50 == 0) {
			unsigned char buf[N];

			memset(buf, 1, sizeof(buf));
			ranges_zero(&r, 0, buf, sizeof(buf));
			for (size_t j = 0; j < N; j++)
				assert_int_equal(buf[j], !is[j]);
			for (size_t j = 1; j < r.n; j++) /* joined where they touch */
				assert_true(r.v[j - 1].off + r.v[j - 1].len < r.v[j].off);
		}
	}
	ranges_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_writes__match_a_plain_array),
		cmocka_unit_test(test_write__is_short_when_the_budget_is_full),
		cmocka_unit_test(test_sequential_writes__make_one_extent_a_part),
		cmocka_unit_test(test_cut_without_room__leaves_zeros),
		cmocka_unit_test(test_shifted_extents__keep_their_bytes),
		cmocka_unit_test(test_ranges__match_a_plain_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
