/*
 * From every state that content can be in to one whole native object: inline, patched, clipped, grown, with holes. On
 * the mem store without holes and cheap copies (as S3 is), and on localdir with both.
 */
#include "tests/lib/reconcile_world.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* --- inline --- */

static void test_inline__waits_for_its_time_and_is_one_put(void **state)
{
	struct world *w = *state;
	unsigned char *data = bytes_of(0, 5000, 1);
	mfs_ino_t ino = write_inline(w, "a", data, 5000, mfs_now_ns() + 3600 * MFS_NSEC_PER_SEC);
	struct node before, after;

	watch(w);
	before = world_node(w, ino);
	assert_int_equal(state_of(w, ino), FILE_INLINE);
	assert_int_equal(world_settle(w), 1);
	assert_int_equal(state_of(w, ino), FILE_INLINE);
	assert_null(world_view(w, "a"));
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", data, 5000);
	after = world_node(w, ino);
	assert_int_equal(after.attr.data, before.attr.data);
	assert_int_equal(after.attr.lay, before.attr.lay + 1);
	assert_int_equal(after.attr.mtime, before.attr.mtime);
	assert_int_equal(after.attr.ctime, before.attr.ctime);
	assert_int_equal(watched.put, 5000);
	assert_int_equal(w->v->reconcile.inline_bytes, 5000);
	assert_int_equal(w->v->reconcile.copied_bytes, 0);
	assert_int_equal(w->v->reconcile.settled, 1);
	node_release(&before);
	node_release(&after);
	unwatch(w);
	free(data);
}

static void test_inline__that_is_due_is_settled_without_force(void **state)
{
	struct world *w = *state;
	mfs_ino_t a = write_inline(w, "a", "one", 3, DUE), b = write_inline(w, "b", "two", 3, mfs_now_ns());

	usleep(1000);
	assert_int_equal(world_settle(w), 0);
	assert_settled(w, a, "a", (const unsigned char *)"one", 3);
	assert_settled(w, b, "b", (const unsigned char *)"two", 3);
}

static void test_empty_file_with_todo__becomes_an_empty_object(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = write_inline(w, "a", NULL, 0, DUE);

	assert_int_equal(state_of(w, ino), FILE_PENDING);
	assert_int_equal(world_settle(w), 0);
	assert_settled(w, ino, "a", (const unsigned char *)"", 0);
}

static void test_inline_grown_and_cut__reads_zeros(void **state)
{
	struct world *w = *state;
	unsigned char want[300] = "abc";
	mfs_ino_t ino = write_inline(w, "a", "abcdef", 6, DUE);

	world_truncate(w, "a", 3);
	world_truncate(w, "a", 300);
	assert_int_equal(state_of(w, ino), FILE_INLINE);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, 300);
}

static void test_inline_grown_to_a_big_file__is_composed(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(12) << 20;
	unsigned char *want = calloc(1, size);
	mfs_ino_t ino = write_inline(w, "a", "abc", 3, DUE);

	memcpy(want, "abc", 3);
	watch(w);
	world_truncate(w, "a", size);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, size);
	if (is_sparse(w))
		assert_int_equal(watched.put, 3);
	unwatch(w);
	free(want);
}

static void test_inline_temporary_name__settles_after_the_rename(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = write_inline(w, ".report.aB3xYz", "text", 4, DUE);

	assert_int_equal(world_settle(w), 1);
	assert_int_equal(state_of(w, ino), FILE_INLINE);
	assert_null(world_view(w, "report"));
	assert_null(world_view(w, ".report.aB3xYz"));
	world_rename(w, ".report.aB3xYz", "report");
	(void)world_settle(w); /* its todo was moved on: half a minute */
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "report", (const unsigned char *)"text", 4);
	assert_null(world_view(w, ".report.aB3xYz"));
	assert_int_equal(count_objects(w).all, 1); /* it was never anywhere else */
}

static void test_inline_over_an_older_object__the_old_one_goes(void **state)
{
	struct world *w = *state;
	mfs_ino_t old = write_object(w, "a", 1000, 1), ino;

	ino = write_inline(w, "t", "text", 4, DUE);
	world_rename(w, "t", "a");
	assert_true(old != ino);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", (const unsigned char *)"text", 4);
	assert_null(world_view(w, "t"));
	ino = write_inline(w, "a", "shorter", 7, mfs_now_ns() + 3600 * MFS_NSEC_PER_SEC);
	world_rename(w, "a", "b");
	(void)world_settle(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "b", (const unsigned char *)"shorter", 7);
	assert_null(world_view(w, "a"));
}

static void test_inline_unlinked__leaves_nothing(void **state)
{
	struct world *w = *state;

	write_inline(w, "a", "text", 4, DUE);
	world_unlink(w, "a");
	assert_int_equal(world_force(w), 0);
	assert_null(world_view(w, "a"));
	assert_int_equal(count_objects(w).all, 0);
}

static void test_inline_hard_link__is_at_one_name(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = write_inline(w, "a", "text", 4, DUE);

	world_link(w, "a", "b");
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", (const unsigned char *)"text", 4);
	world_unlink(w, "a");
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "b", (const unsigned char *)"text", 4);
	assert_null(world_view(w, "a"));
}

static void test_open_for_writing__waits_but_for_force(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = write_inline(w, "a", "text", 4, DUE);

	atomic_store(&w->open_ino, ino);
	assert_int_equal(world_settle(w), 1);
	assert_int_equal(state_of(w, ino), FILE_INLINE);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", (const unsigned char *)"text", 4);
	atomic_store(&w->open_ino, 0);
}

static void test_many_inline__each_once(void **state)
{
	struct world *w = *state;
	char path[32];

	world_dir(w, "d");
	for (int i = 0; i < 500; i++) {
		snprintf(path, sizeof(path), "d/f%d", i);
		write_inline(w, path, path, strlen(path), DUE);
	}
	watch(w);
	assert_int_equal(world_settle(w), 0);
	for (int i = 0; i < 500; i++) {
		snprintf(path, sizeof(path), "d/f%d", i);
		assert_settled(w, world_ino(w, path), path, (const unsigned char *)path, strlen(path));
	}
	assert_int_equal(w->v->reconcile.settled, 500);
	assert_int_equal(count_objects(w).all, 500);
	unwatch(w);
}

/* --- patched --- */

static void test_small_patched__is_one_put(void **state)
{
	struct world *w = *state;
	unsigned char *want = bytes_of(0, 100000, 1);
	mfs_ino_t ino = write_object(w, "a", 100000, 1);

	watch(w);
	patch(w, ino, 5000, 3000, 2);
	patch(w, ino, 6000, 100, 3);
	for (uint64_t i = 5000; i < 8000; i++)
		want[i] = byte_at(i, i >= 6000 && i < 6100 ? 3 : 2);
	assert_int_equal(state_of(w, ino), FILE_PATCHED);
	watched.put = 0;
	assert_int_equal(world_settle(w), 1); /* it changed a moment ago */
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, 100000);
	assert_int_equal(watched.put, 100000);
	assert_int_equal(count_objects(w).unnamed, 0);
	unwatch(w);
	free(want);
}

static void test_big_patched__unchanged_ranges_are_copied_by_the_store(void **state)
{
	struct world *w = *state;
	uint64_t size = (UINT64_C(40) << 20) + 12345;
	unsigned char *want = bytes_of(0, size, 1);
	mfs_ino_t ino = write_object(w, "a", size, 1);

	patch(w, ino, (UINT64_C(17) << 20) + 5, 4096, 2);
	patch(w, ino, size - 10, 20, 3); /* over the end */
	want = realloc(want, size + 10);
	for (uint64_t i = 0; i < 4096; i++)
		want[(17 << 20) + 5 + i] = byte_at((UINT64_C(17) << 20) + 5 + i, 2);
	for (uint64_t i = size - 10; i < size + 10; i++)
		want[i] = byte_at(i, 3);
	watch(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, size + 10);
	if (is_sparse(w))
		assert_true(watched.put < (1 << 20));
	else
		assert_true(watched.put <= 2 * OBJECT_PART_MIN);
	assert_true(watched.copied + watched.put == size + 10);
	assert_int_equal(w->v->reconcile.copied_bytes, size + 10);
	assert_int_equal(count_objects(w).unnamed, 0);
	unwatch(w);
	free(want);
}

/* A patch near the beginning: no run before it that could be a part. */
static void test_patches_everywhere__parts_are_legal(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(33) << 20;
	unsigned char *want = bytes_of(0, size, 1);
	mfs_ino_t ino = write_object(w, "a", size, 1);
	struct change_of v[400];

	srand(7);
	for (int round = 0; round < 3; round++) {
		uint64_t at = 100;
		size_t n = 0;

		while (n < MFS_ARRAY_LEN(v) && at + 300000 < size) {
			v[n] = (struct change_of){ .off = at, .len = 1 + (uint64_t)rand() % 20000 };
			at += v[n].len + (uint64_t)(rand() % 150000);
			n++;
		}
		assert_int_equal(patch_once(w, ino, v, n, (unsigned int)round + 2, DUE), 0);
		for (size_t i = 0; i < n; i++)
			for (uint64_t k = v[i].off; k < v[i].off + v[i].len; k++)
				want[k] = byte_at(k, (unsigned int)round + 2);
	}
	{
		unsigned char *now = read_file(w, ino, 0, size);

		assert_true(memcmp(now, want, size) == 0);
		free(now);
	}
	watch(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, size);
	if (is_sparse(w))
		assert_int_equal(watched.put + watched.copied, size);
	unwatch(w);
	free(want);
}

static void test_clipped_and_grown_with_patches(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(20) << 20, cut = UINT64_C(11) << 20;
	unsigned char *want = calloc(1, size), *part = bytes_of(0, cut, 1);
	mfs_ino_t ino = write_object(w, "a", size, 1);

	patch(w, ino, cut - 100, 200, 2);
	world_truncate(w, "a", cut);
	world_truncate(w, "a", size);
	memcpy(want, part, cut);
	for (uint64_t i = cut - 100; i < cut; i++)
		want[i] = byte_at(i, 2);
	watch(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, size);
	assert_int_equal(count_objects(w).unnamed, 0);
	unwatch(w);
	free(want);
	free(part);
}

/* --- holes --- */

static void test_punched__holes_stay_where_the_store_has_them(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(24) << 20, at = UINT64_C(6) << 20, len = UINT64_C(10) << 20;
	unsigned char *want = bytes_of(0, size, 1);
	mfs_ino_t ino = write_object(w, "a", size, 1);
	struct node n;

	punch(w, ino, at, len);
	memset(want + at, 0, len);
	watch(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, size);
	n = world_node(w, ino);
	if (is_sparse(w)) {
		struct layout l;

		assert_int_equal(watched.copied, size - len);
		assert_int_equal(watched.put, 0);
		assert_int_equal(layout_parse(&n.slices, &l), 0);
		assert_true(l.holes_in_base);
		assert_int_equal(l.n_recent, 1);
		assert_int_equal(l.recent[0].off, at);
		assert_int_equal(l.recent[0].len, len);
		assert_int_equal(l.recent[0].pos, LAYOUT_HOLE);
		layout_release(&l);
		assert_true(n.attr.alloc <= size - len + 65536);
	} else {
		assert_int_equal(n.slices.size, 0);
	}
	node_release(&n);
	/* Changed within the hole, moved to another key, and settled again. */
	patch(w, ino, at + 4096, 4096, 5);
	for (uint64_t i = at + 4096; i < at + 8192; i++)
		want[i] = byte_at(i, 5);
	assert_int_equal(state_of(w, ino), FILE_PATCHED);
	world_rename(w, "a", "b");
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "b", want, size);
	world_rename(w, "b", "c");
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "c", want, size);
	n = world_node(w, ino);
	assert_int_equal(n.slices.size > 0, is_sparse(w));
	node_release(&n);
	unwatch(w);
	free(want);
}

static void test_sparse_gigabyte__costs_little_or_stays(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(1) << 30;
	mfs_ino_t ino = write_object(w, "a", 4096, 1);
	struct node n;

	world_truncate(w, "a", size);
	patch(w, ino, UINT64_C(500) << 20, 4096, 2);
	patch(w, ino, size - 4096, 4096, 3);
	watch(w);
	assert_int_equal(world_force(w), 0);
	assert_true(watched.put + watched.copied <= 3 * 4096);
	n = world_node(w, ino);
	assert_int_equal(n.todo, 0);
	if (is_sparse(w)) {
		unsigned char *got = read_file(w, ino, UINT64_C(500) << 20, 8192);

		assert_int_equal(state_of(w, ino), FILE_SETTLED);
		assert_true(n.attr.alloc <= 100000);
		for (uint64_t i = 0; i < 8192; i++)
			assert_int_equal(got[i], i < 4096 ? byte_at((UINT64_C(500) << 20) + i, 2) : 0);
		free(got);
	} else {
		assert_int_equal(state_of(w, ino), FILE_SPARSE);
	}
	node_release(&n);
	/* Left alone until it changes. */
	watched.put = watched.copied = 0;
	assert_int_equal(world_force(w), 0);
	assert_int_equal(watched.put + watched.copied, 0);
	unwatch(w);
}

static void test_grown_from_nothing(void **state)
{
	struct world *w = *state;
	unsigned char want[5000] = "";
	mfs_ino_t ino = make_file(w, "a");

	world_truncate(w, "a", 5000);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, 5000);
}

/* More holes than the record names without documents: the longest of them. */
static void test_many_holes__the_record_stays_small(void **state)
{
	struct world *w = *state;
	uint64_t size = UINT64_C(16) << 20;
	unsigned char *want = bytes_of(0, size, 1);
	mfs_ino_t ino = write_object(w, "a", size, 1);
	struct change_of v[600];
	struct node n;

	for (size_t i = 0; i < MFS_ARRAY_LEN(v); i++) {
		v[i] = (struct change_of){ .off = i * 24576, .len = i % 3 ? 8192 : 16384, .hole = true };
		memset(want + v[i].off, 0, v[i].len);
	}
	assert_int_equal(patch_once(w, ino, v, MFS_ARRAY_LEN(v), 0, DUE), 0);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, ino, "a", want, size);
	n = world_node(w, ino);
	assert_true(n.slices.size < 4096);
	node_release(&n);
	free(want);
}

/* --- names --- */

static void test_file_and_folder_change_places__inline_and_patched(void **state)
{
	struct world *w = *state;
	unsigned char *want = bytes_of(0, 100000, 1);
	mfs_ino_t in, big, file;

	world_dir(w, "x");
	in = write_inline(w, "x/in", "inline", 6, DUE);
	big = write_object(w, "x/big", 100000, 1);
	patch(w, big, 10, 10, 2);
	for (uint64_t i = 10; i < 20; i++)
		want[i] = byte_at(i, 2);
	world_rename(w, "x", "y");
	file = write_inline(w, "x", "file", 4, DUE);
	(void)world_settle(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, file, "x", (const unsigned char *)"file", 4);
	assert_settled(w, in, "y/in", (const unsigned char *)"inline", 6);
	assert_settled(w, big, "y/big", want, 100000);
	world_rename(w, "x", "z");
	world_rename(w, "y", "x");
	in = write_inline(w, "x/in", "INLINE", 6, DUE);
	(void)world_settle(w);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, file, "z", (const unsigned char *)"file", 4);
	assert_settled(w, in, "x/in", (const unsigned char *)"INLINE", 6);
	assert_settled(w, big, "x/big", want, 100000);
	free(want);
}

/* --- failures --- */

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
	int64_t end = mfs_mono_ns() + 2 * MFS_NSEC_PER_SEC;
	unsigned char *want;

	for (unsigned int i = 0; i < WRITERS + 2; i++) {
		x[i] = (struct race){ .w = w, .ino = ino, .n = i, .stop = &stop };
		assert_int_equal(pthread_create(&t[i], NULL, i < WRITERS ? patch_on : settle_on, &x[i]), 0);
	}
	while (mfs_mono_ns() < end)
		check_race(w, x);
	atomic_store(&stop, true);
	for (int i = 0; i < WRITERS + 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(world_force(w), 0);
	want = bytes_of(0, RANGES_END + 100000, 200);
	for (unsigned int i = 0; i < WRITERS; i++)
		for (uint64_t k = i * RANGE; k < (i + 1) * RANGE; k++)
			want[k] = byte_at(k, x[i].done);
	assert_settled(w, ino, "a", want, RANGES_END + 100000);
	assert_true(w->v->reconcile.settled > 1);
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
		WORLD_TEST(test_inline__waits_for_its_time_and_is_one_put),
		WORLD_TEST(test_inline__that_is_due_is_settled_without_force),
		WORLD_TEST(test_empty_file_with_todo__becomes_an_empty_object),
		WORLD_TEST(test_inline_grown_and_cut__reads_zeros),
		WORLD_TEST(test_inline_grown_to_a_big_file__is_composed),
		WORLD_TEST(test_inline_temporary_name__settles_after_the_rename),
		WORLD_TEST(test_inline_over_an_older_object__the_old_one_goes),
		WORLD_TEST(test_inline_unlinked__leaves_nothing),
		WORLD_TEST(test_inline_hard_link__is_at_one_name),
		WORLD_TEST(test_open_for_writing__waits_but_for_force),
		WORLD_TEST(test_many_inline__each_once),
		WORLD_TEST(test_small_patched__is_one_put),
		WORLD_TEST(test_big_patched__unchanged_ranges_are_copied_by_the_store),
		WORLD_TEST(test_patches_everywhere__parts_are_legal),
		WORLD_TEST(test_clipped_and_grown_with_patches),
		WORLD_TEST(test_punched__holes_stay_where_the_store_has_them),
		WORLD_TEST(test_sparse_gigabyte__costs_little_or_stays),
		WORLD_TEST(test_grown_from_nothing),
		WORLD_TEST(test_many_holes__the_record_stays_small),
		WORLD_TEST(test_file_and_folder_change_places__inline_and_patched),
		WORLD_TEST(test_each_store_call_fails_once__settled_in_the_end),
		WORLD_TEST(test_cancelled_at_each_part),
		WORLD_TEST(test_failure__backs_off_and_is_told),
		WORLD_TEST(test_crash_between_object_and_record),
		WORLD_TEST(test_rate__limits_what_is_moved),
		WORLD_TEST(test_settles_beside_writers__never_wrong_bytes),
		WORLD_TEST(test_two_runs__compose_each_file_once),
		WORLD_TEST(test_thread__settles_what_is_due),
	};

	return world_run_suite("reconcile content", tests, MFS_ARRAY_LEN(tests));
}
