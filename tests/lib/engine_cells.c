/* The contract of engines: cells, small records that are replaced by compare-and-set. */
#include "tests/lib/engine_suite.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static int put(struct engine *e, const char *name, uint64_t expect, uint64_t token, const char *value)
{
	const struct cell_record cell = { .name = (char *)(uintptr_t)name,
					  .token = token,
					  .blob = { .data = (char *)(uintptr_t)value, .size = value ? strlen(value) : 0 } };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_CELL_PUT, 0);

	w->cell = &cell;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = expect;
	return engine_apply(e, NULL, &c);
}

static void assert_cell(struct engine *e, const char *name, uint64_t token, const char *value)
{
	struct cell_record cell = { 0 };

	TEST_OK(engine_cell_get(e, NULL, name, &cell));
	assert_string_equal(cell.name, name);
	assert_int_equal(cell.token, token);
	assert_int_equal(cell.blob.size, strlen(value));
	assert_memory_equal(cell.blob.data, value, strlen(value));
	cell_record_release(&cell);
}

static void test_cell__is_replaced_by_who_knows_its_token(void **state)
{
	struct engine_fixture *f = *state;
	struct cell_record cell;

	assert_int_equal(engine_cell_get(f->e, NULL, "locks/a", &cell), -ENOENT);
	assert_int_equal(put(f->e, "locks/a", 5, 7, "x"), -EAGAIN);
	TEST_OK(put(f->e, "locks/a", 0, 7, "one"));
	assert_int_equal(put(f->two, "locks/a", 0, 8, "two"), -EAGAIN);
	assert_cell(f->two, "locks/a", 7, "one");
	TEST_OK(put(f->two, "locks/a", 7, 8, "two"));
	engine_fixture_reopen(f);
	assert_cell(f->e, "locks/a", 8, "two");
	assert_int_equal(put(f->e, "locks/a", 7, 0, NULL), -EAGAIN);
	TEST_OK(put(f->e, "locks/a", 8, 0, NULL));
	assert_int_equal(engine_cell_get(f->e, NULL, "locks/a", &cell), -ENOENT);
}

/* A change is whole or not at all, whichever of its writes does not hold. */
static void test_cell__in_a_change_with_others(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", S_IFREG | 0644);
	const struct cell_record cell = { .name = (char *)(uintptr_t)"shared/v", .token = 3, .blob = { .data = (char *)(uintptr_t)"z", .size = 1 } };
	struct cell_record none;
	struct write *w;

	for (int bad = 0; bad < 3; bad++) {
		struct change c = { 0 };

		w = change_write(&c, WRITE_EDIT, a);
		w->nlink_delta = 1;
		w->expect.flags = EXPECT_LAY;
		w->expect.lay = bad == 1 ? 99 : 0;
		w = change_write(&c, WRITE_CELL_PUT, 0);
		w->cell = &cell;
		w->expect.flags = EXPECT_VER;
		w->expect.ver = bad == 0 ? 77 : 0;
		assert_int_equal(engine_apply(f->e, NULL, &c), bad < 2 ? -EAGAIN : 0);
		assert_int_equal(test_attr(f->e, a).nlink, bad < 2 ? 1 : 2);
		if (bad < 2)
			assert_int_equal(engine_cell_get(f->e, NULL, "shared/v", &none), -ENOENT);
	}
	assert_cell(f->two, "shared/v", 3, "z");
}

static void test_cells__in_order_by_prefix_and_page(void **state)
{
	struct engine_fixture *f = *state;
	static const char *const names[] = { "leases/gc", "leases/reconcile", "locks/1", "locks/10", "locks/2", "shared/A-", "shared/a" };
	struct cell_list l = { 0 };

	for (size_t i = 0; i < MFS_ARRAY_LEN(names); i++)
		TEST_OK(put(f->e, names[(i * 3) % MFS_ARRAY_LEN(names)], 0, i + 1, "v"));
	TEST_OK(engine_cells(f->two, NULL, "locks/", NULL, 2, &l));
	assert_int_equal(l.n, 2);
	assert_string_equal(l.v[0].name, "locks/1");
	assert_string_equal(l.v[1].name, "locks/10");
	TEST_OK(engine_cells(f->two, NULL, "locks/", "locks/10", 2, &l));
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[2].name, "locks/2");
	TEST_OK(engine_cells(f->two, NULL, "locks/", "locks/2", 2, &l));
	assert_int_equal(l.n, 3);
	cell_list_release(&l);
	TEST_OK(engine_cells(f->e, NULL, "shared/", NULL, 10, &l));
	assert_int_equal(l.n, 2);
	assert_string_equal(l.v[0].name, "shared/A-");
	cell_list_release(&l);
}

struct counting {
	struct engine *e;
	unsigned int rounds, number;
};

/* A number in the cell, one more at a time. */
static void *count(void *arg)
{
	struct counting *x = arg;

	for (unsigned int i = 0; i < x->rounds; i++) {
		char text[24];
		int r = -EAGAIN;

		while (r == -EAGAIN) {
			struct cell_record cell = { 0 };
			unsigned long n = 0;

			r = engine_cell_get(x->e, NULL, "leases/n", &cell);
			assert_true(r == 0 || r == -ENOENT);
			if (r == 0)
				n = strtoul(cell.blob.data, NULL, 10);
			snprintf(text, sizeof(text), "%lu ", n + 1);
			r = put(x->e, "leases/n", cell.token, (uint64_t)(n + 1) * 8 + x->number, text);
			cell_record_release(&cell);
		}
		assert_int_equal(r, 0);
	}
	return NULL;
}

static void test_cell__no_increment_is_lost(void **state)
{
	struct engine_fixture *f = *state;
	struct counting x[4];
	pthread_t t[4];
	struct cell_record cell;
	unsigned int rounds = MFS_MAX(engine_fixture_rounds(f) / 20, 5u);

	for (unsigned int i = 0; i < 4; i++) {
		x[i] = (struct counting){ .e = i % 2 ? f->two : f->e, .rounds = rounds, .number = i };
		assert_int_equal(pthread_create(&t[i], NULL, count, &x[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	TEST_OK(engine_cell_get(f->e, NULL, "leases/n", &cell));
	assert_int_equal(strtoul(cell.blob.data, NULL, 10), 4 * rounds);
	cell_record_release(&cell);
}

const struct engine_test engine_tests_cells[] = {
	ENGINE_TEST(test_cell__is_replaced_by_who_knows_its_token),
	ENGINE_TEST(test_cell__in_a_change_with_others),
	ENGINE_TEST(test_cells__in_order_by_prefix_and_page),
	ENGINE_TEST(test_cell__no_increment_is_lost),
	ENGINE_TESTS_END,
};
