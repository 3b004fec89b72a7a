/*
 * Marks, floors and what they let pass.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "meta/redis_floors.h"

static int setup(void **state)
{
	struct floors *f;

	assert_int_equal(floors_new(&f), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	floors_free(*state);
	return 0;
}

/* A command: sent now, answered at t. */
static struct floors_view at(struct floors *f, uint64_t t)
{
	struct floors_view v;

	floors_begin(f, &v);
	v.t = t;
	return v;
}

static bool ok(struct floors *f, uint64_t now, uint64_t hash, uint64_t stamp)
{
	struct floors_view v = at(f, now);

	return floors_judge(f, &v, hash, stamp, FLOORS_STAMP, 0);
}

static void test_base__is_open_at_first(void **state)
{
	struct floors *f = *state;

	assert_false(ok(f, 1000, 5, 999));
	assert_true(ok(f, 1001, 5, 1000));
	assert_false(ok(f, 1002, 5, 999));
	assert_false(ok(f, 1002, 5, 1003)); /* of a time to come */
}

static void test_mark__asks_for_a_stamp_after_the_next_answer(void **state)
{
	struct floors *f = *state;

	assert_false(ok(f, 1000, 5, 999));
	assert_true(ok(f, 1010, 5, 1005));
	floors_mark(f, 5);
	assert_true(floors_open(f));
	assert_false(ok(f, 1020, 5, 1019));
	assert_true(ok(f, 1030, 5, 1020));
	assert_false(ok(f, 1030, 5, 1019));
	assert_true(ok(f, 1030, 6, 1005));
}

/* The answer to a command that was sent before the mark says nothing about it. */
static void test_mark__while_a_command_is_under_way(void **state)
{
	struct floors *f = *state;
	struct floors_view v;

	assert_false(ok(f, 1000, 5, 999));
	floors_begin(f, &v);
	floors_mark(f, 5);
	v.t = 1100;
	assert_false(floors_judge(f, &v, 5, 1050, FLOORS_STAMP, 0));
	assert_false(floors_judge(f, &v, 5, 1100, FLOORS_STAMP, 0));
	floors_seen(f, &v);
	assert_true(floors_open(f));
	assert_false(ok(f, 1200, 5, 1150));
	assert_true(ok(f, 1300, 5, 1200));
}

static void test_number__does_too(void **state)
{
	struct floors *f = *state;
	struct floors_view v;

	assert_false(ok(f, 1000, 5, 999));
	floors_mark_number(f, 5, FLOORS_AT_LEAST, 7);
	floors_mark_number(f, 5, FLOORS_AT_LEAST, 6); /* late news */
	v = at(f, 1100);
	assert_true(floors_judge(f, &v, 5, 1000, FLOORS_AT_LEAST, 7));
	assert_true(floors_judge(f, &v, 5, 1000, FLOORS_AT_LEAST, 8));
	assert_false(floors_judge(f, &v, 5, 1000, FLOORS_AT_LEAST, 6));
	assert_false(floors_judge(f, &v, 5, 1000, FLOORS_STAMP, 9));
	assert_true(floors_judge(f, &v, 5, 1100, FLOORS_AT_LEAST, 1));
	floors_mark_number(f, 9, FLOORS_SAME, 70);
	v = at(f, 1200);
	assert_true(floors_judge(f, &v, 9, 1000, FLOORS_SAME, 70));
	assert_false(floors_judge(f, &v, 9, 1000, FLOORS_SAME, 71));
	floors_mark(f, 5); /* no number helps against that */
	v = at(f, 1300);
	assert_false(floors_judge(f, &v, 5, 1200, FLOORS_AT_LEAST, 100));
}

static void test_all__and_a_new_clock(void **state)
{
	struct floors *f = *state;
	struct floors_view old;

	assert_false(ok(f, 1000, 5, 999));
	assert_true(ok(f, 1010, 5, 1005));
	floors_mark_all(f);
	assert_false(ok(f, 1020, 5, 1015));
	assert_true(ok(f, 1030, 5, 1025));
	old = at(f, 1040);
	floors_new_clock(f);
	assert_false(floors_judge(f, &old, 5, 1035, FLOORS_STAMP, 0));
	floors_seen(f, &old);
	assert_true(floors_open(f));
	assert_false(ok(f, 50, 5, 49)); /* a clock that is behind the other */
	assert_true(ok(f, 60, 5, 55));
}

/* The table is smaller than what is marked: what is forgotten must still not pass. */
static void test_full_table__forgets_nothing_that_matters(void **state)
{
	struct floors *f = *state;
	enum { N = 400000 };

	assert_false(ok(f, 1000, 1, 999));
	for (uint64_t i = 0; i < N; i++)
		floors_mark(f, floors_record(i));
	for (uint64_t i = 0; i < N; i++)
		if (ok(f, 2000 + i, floors_record(i), 1999))
			fail_msg("%ju is judged by nothing", (uintmax_t)i);
	for (uint64_t i = 0; i < N; i += 1000)
		assert_true(ok(f, 2 * N, floors_record(i), 2 * N - 1));
}

/* Random marks, answers and questions, against a list of all that was ever marked. */
static void test_random__against_a_list(void **state)
{
	enum { THINGS = 40, STEPS = 200000 };
	struct {
		uint64_t seq, floor; /* 0: none */
	} marks[THINGS] = { { 0 } };
	struct floors *f = *state;
	uint64_t now = 1000, seq = 0, base = 0, passed = 0, held = 0;
	unsigned int seed = 7;

	for (unsigned int i = 0; i < STEPS; i++) {
		unsigned int k = (unsigned int)rand_r(&seed) % THINGS;
		struct floors_view v;
		uint64_t stamp;

		now += 1 + (uint64_t)rand_r(&seed) % 200;
		switch (rand_r(&seed) % 8) {
		case 0:
			floors_mark(f, floors_record(k));
			marks[k].seq = ++seq;
			marks[k].floor = 0;
			break;
		case 1:
			if (rand_r(&seed) % 50 == 0) {
				floors_mark_all(f);
				base = 0;
			}
			if (rand_r(&seed) % 100 == 0)
				floors_settle(f);
			break;
		default:
			floors_begin(f, &v);
			v.t = now;
			if (rand_r(&seed) % 2)
				floors_seen(f, &v);
			/* Any answer is after all marks made before it was asked for. */
			base = base ? base : now;
			for (unsigned int j = 0; j < THINGS; j++)
				if (marks[j].seq && !marks[j].floor)
					marks[j].floor = now;
			stamp = now - (uint64_t)rand_r(&seed) % 2000;
			if (floors_judge(f, &v, floors_record(k), stamp, FLOORS_STAMP, 0)) {
				passed++;
				assert_true(stamp >= marks[k].floor && stamp >= base);
			} else {
				held++;
			}
		}
	}
	assert_true(passed > STEPS / 10 && held > STEPS / 10);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_base__is_open_at_first),
		T(test_mark__asks_for_a_stamp_after_the_next_answer),
		T(test_mark__while_a_command_is_under_way),
		T(test_number__does_too),
		T(test_all__and_a_new_clock),
		T(test_full_table__forgets_nothing_that_matters),
		T(test_random__against_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
