/*
 * The reconciler at work: what becomes of errors, cancelled and killed runs, the limit on what is moved, writers beside it.
 */
#include "tests/lib/reconcile_world.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void make_each(struct world *w, int round, mfs_ino_t ino[3], unsigned char *want[3], char path[3][32])
{
	uint64_t size = UINT64_C(11) << 20;

	for (int i = 0; i < 3; i++)
		snprintf(path[i], 32, "f%d-%d", round, i);
	want[0] = bytes_of(0, 3000, 1);
	ino[0] = write_inline(w, path[0], want[0], 3000, DUE);
	want[1] = bytes_of(0, 50000, 2);
	ino[1] = write_object(w, path[1], 50000, 2);
	patch(w, ino[1], 100, 100, 3);
	want[2] = bytes_of(0, size, 4);
	ino[2] = write_object(w, path[2], size, 4);
	patch(w, ino[2], UINT64_C(6) << 20, 100, 5);
	for (uint64_t i = 0; i < 100; i++) {
		want[1][100 + i] = byte_at(100 + i, 3);
		want[2][(6 << 20) + i] = byte_at((UINT64_C(6) << 20) + i, 5);
	}
}

static void test_each_store_call_fails_once__settled_in_the_end(void **state)
{
	struct world *w = *state;
	struct object_store *inner, *fault;
	unsigned int hits = 1;
	int round;

	watch(w);
	inner = w->v->store;
	for (round = 1; hits && round < 80; round++) {
		static const uint64_t sizes[] = { 3000, 50000, UINT64_C(11) << 20 };
		unsigned char *want[3];
		char path[3][32];
		mfs_ino_t ino[3];
		uint64_t left;

		make_each(w, round, ino, want, path);
		assert_int_equal(fault_store_new(inner, (unsigned int)round, EIO, &fault), 0);
		w->v->store = fault;
		(void)!reconcile_run(w->v, &w->op, INT64_MAX, &left, NULL, NULL);
		hits = fault_store_hits(fault);
		w->v->store = inner;
		free(fault);
		assert_int_equal(world_force(w), 0);
		for (int i = 0; i < 3; i++) {
			assert_settled(w, ino[i], path[i], want[i], sizes[i]);
			free(want[i]);
			world_unlink(w, path[i]);
		}
	}
	assert_true(round > 12);
	unwatch(w);
}

/* Cancelled at each part in turn: nothing is left of it, and the next run does it. */
static void test_cancelled_at_each_part(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(33) << 20;
	unsigned char *want = bytes_of(0, size, 1);
	mfs_ino_t ino = write_object(w, "a", size, 1);
	struct op_ctx op = { 0 };
	unsigned int objects;

	patch(w, ino, UINT64_C(10) << 20, 10, 2);
	patch(w, ino, UINT64_C(22) << 20, 10, 2);
	for (uint64_t i = 0; i < 10; i++) {
		want[(10 << 20) + i] = byte_at((UINT64_C(10) << 20) + i, 2);
		want[(22 << 20) + i] = byte_at((UINT64_C(22) << 20) + i, 2);
	}
	objects = count_objects(w).all;
	watch(w);
	watched.cancel = &op;
	for (unsigned int nth = 1;; nth++) {
		uint64_t temp_files = 0, temp_bytes, left;

		watched.part_calls = 0;
		watched.fail_at = nth;
		atomic_store(&op.cancelled, false);
		if (reconcile_run(w->v, &op, INT64_MAX, &left, NULL, NULL) == 0)
			break;
		assert_true(atomic_load(&op.cancelled));
		if (state_of(w, ino) == FILE_SETTLED)
			break; /* by the last part */
		assert_int_equal(count_objects(w).all, objects);
		assert_int_equal(object_sweep(w->v->store, &w->op, false, &temp_files, &temp_bytes), 0);
		assert_int_equal(temp_files, 0);
		assert_true(nth < 100);
	}
	watched.cancel = NULL;
	watched.fail_at = 0;
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, size);
	assert_int_equal(count_objects(w).unnamed, 0);
	unwatch(w);
	free(want);
}

static void test_failure__backs_off_and_is_told(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = write_object(w, "a", 1000, 1), other;
	struct node n = world_node(w, ino);
	char text[RECONCILE_ERROR_MAX];
	int64_t todo;

	patch(w, ino, 10, 10, 2);
	assert_int_equal(object_delete_version(w->v->store, &w->op, &n.ref), 0);
	node_release(&n);
	other = write_inline(w, "b", "text", 4, DUE);
	assert_int_equal(world_force(w), 1);
	assert_settled(w, other, "b", (const unsigned char *)"text", 4);
	n = world_node(w, ino);
	todo = n.todo;
	assert_true(todo > mfs_now_ns());
	assert_true(n.slices.size > 0);
	node_release(&n);
	assert_int_equal(world_force(w), 1);
	n = world_node(w, ino);
	assert_true(n.todo > todo);
	node_release(&n);
	assert_true(reconcile_stats_error(&w->v->reconcile, text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "Input/output"));
}

/* A crash between the object and the record: settled at the next mount, the first object is garbage. */
static void test_crash_between_object_and_record(void **state)
{
	struct world *w = *state;
	struct object_info info;
	mfs_ino_t ino = write_inline(w, "a", "text", 4, DUE);

	world_put(w, ino, "a", "text", &info);
	world_crash(w);
	(void)world_settle(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", (const unsigned char *)"text", 4);
	assert_int_equal(count_objects(w).unnamed, 1);
}

/* --- rate --- */

static void test_rate__limits_what_is_moved(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(4) << 20;
	mfs_ino_t ino = write_object(w, "a", size, 1);
	int64_t before;

	patch(w, ino, 10, 10, 2);
	w->cfg.settle_rate = UINT64_C(10) << 20;
	before = mfs_mono_ns();
	assert_int_equal(world_force(w), 0);
	assert_true(mfs_mono_ns() - before >= 300 * INT64_C(1000000));
	w->cfg.settle_rate = 0;
	assert_int_equal(state_of(w, ino), FILE_SETTLED);
	assert_true(reconcile_stats_rate(&w->v->reconcile) > 0);
}

/* --- beside writers --- */

#define WRITERS	   2
#define RANGE	   40000
#define RANGES_END (WRITERS * RANGE)

struct race {
	struct world *w;
	mfs_ino_t ino;
	unsigned int n; /* which writer */
	_Atomic unsigned int done; /* seed of the last commit */
	atomic_bool *stop;
};

static void *patch_on(void *arg)
{
	struct race *x = arg;

	for (unsigned int i = 1; !atomic_load(x->stop) && i < 100000; i++) {
		struct change_of v = { .off = x->n * RANGE, .len = RANGE };
		int r = -EAGAIN;

		for (int tries = 0; r == -EAGAIN && tries < 1000; tries++)
			r = patch_once(x->w, x->ino, &v, 1, i, DUE);
		assert_int_equal(r, 0);
		atomic_store(&x->done, i);
	}
	return NULL;
}

static void *settle_on(void *arg)
{
	struct race *x = arg;
	struct op_ctx op = { 0 };

	while (!atomic_load(x->stop))
		assert_int_equal(reconcile_run(x->w->v, &op, INT64_MAX, NULL, NULL, NULL), 0);
	return NULL;
}

/* Each writer's range is of one commit, no older than what was confirmed before the read. */
static void check_race(struct world *w, struct race *x)
{
	unsigned int done[WRITERS];
	unsigned char *got;

	for (int i = 0; i < WRITERS; i++)
		done[i] = atomic_load(&x[i].done);
	got = read_file(w, x[0].ino, 0, RANGES_END);
	for (unsigned int i = 0; i < WRITERS; i++) {
		uint64_t at = i * RANGE;
		unsigned int seed = done[i];

		if (done[i] == 0)
			continue;
		while (byte_at(at, seed) != got[at] && seed < done[i] + 255)
			seed++;
		for (uint64_t k = at; k < at + RANGE; k++)
			assert_int_equal(got[k], byte_at(k, seed));
	}
	free(got);
}

static void test_settles_beside_writers__never_wrong_bytes(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = write_object(w, "a", RANGES_END + 100000, 200);
	struct race x[WRITERS + 2];
	pthread_t t[WRITERS + 2];
	atomic_bool stop = false;
	int64_t begun = mfs_mono_ns(), end = begun + 2 * MFS_NSEC_PER_SEC, at_last = begun + 120 * MFS_NSEC_PER_SEC;
	unsigned char *want;

	for (unsigned int i = 0; i < WRITERS + 2; i++) {
		x[i] = (struct race){ .w = w, .ino = ino, .n = i, .stop = &stop };
		assert_int_equal(pthread_create(&t[i], NULL, i < WRITERS ? patch_on : settle_on, &x[i]), 0);
	}
	/* On a slow machine the writers win for long. */
	while (mfs_mono_ns() < end || (!w->v->reconcile.settled && mfs_mono_ns() < at_last))
		check_race(w, x);
	atomic_store(&stop, true);
	for (int i = 0; i < WRITERS + 2; i++)
		pthread_join(t[i], NULL);
	assert_true(w->v->reconcile.settled > 0);
	assert_int_equal(world_force(w), 0);
	want = bytes_of(0, RANGES_END + 100000, 200);
	for (unsigned int i = 0; i < WRITERS; i++)
		for (uint64_t k = i * RANGE; k < (i + 1) * RANGE; k++)
			want[k] = byte_at(k, x[i].done);
	assert_settled(w, ino, "a", want, RANGES_END + 100000);
	assert_int_equal(count_objects(w).unnamed, 0);
	free(want);
}

static void *settle_once(void *arg)
{
	struct race *x = arg;
	struct op_ctx op = { 0 };

	assert_int_equal(reconcile_run(x->w->v, &op, INT64_MAX, NULL, NULL, NULL), 0);
	return NULL;
}

static void test_two_runs__compose_each_file_once(void **state)
{
	struct world *w = *state;
	struct race x = { .w = w };
	pthread_t t[3];
	char path[32];

	for (int i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "f%d", i);
		patch(w, write_object(w, path, 200000, 1), 10, 10, 2);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, settle_once, &x), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(world_force(w), 0);
	for (int i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "f%d", i);
		assert_int_equal(state_of(w, world_ino(w, path)), FILE_SETTLED);
	}
	assert_int_equal(w->v->reconcile.settled, 40);
	assert_int_equal(w->v->reconcile.copied_bytes, 40 * 200000);
}

static void test_thread__settles_what_is_due(void **state)
{
	struct world *w = *state;
	struct reconciler *r = NULL;
	mfs_ino_t ino;

	assert_int_equal(reconciler_start(w->v, &r), 0);
	ino = write_inline(w, "a", "text", 4, mfs_now_ns() + MFS_NSEC_PER_SEC / 2);
	for (int i = 0; i < 500 && state_of(w, ino) != FILE_SETTLED; i++)
		usleep(10000);
	reconciler_stop(r);
	assert_settled(w, ino, "a", (const unsigned char *)"text", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_each_store_call_fails_once__settled_in_the_end),
		WORLD_TEST(test_cancelled_at_each_part),
		WORLD_TEST(test_failure__backs_off_and_is_told),
		WORLD_TEST(test_crash_between_object_and_record),
		WORLD_TEST(test_rate__limits_what_is_moved),
		WORLD_TEST(test_settles_beside_writers__never_wrong_bytes),
		WORLD_TEST(test_two_runs__compose_each_file_once),
		WORLD_TEST(test_thread__settles_what_is_due),
	};

	return world_run_suite("reconcile work", tests, MFS_ARRAY_LEN(tests));
}
