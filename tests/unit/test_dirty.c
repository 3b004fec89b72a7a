/* fs/dirty: extents against a plain array of bytes, random operations, budget given back to the last byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/dirty.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_writes__match_a_plain_array),
		cmocka_unit_test(test_write__is_short_when_the_budget_is_full),
		cmocka_unit_test(test_sequential_writes__make_one_extent_a_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
