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
	};

	return world_run_suite("reconcile content", tests, MFS_ARRAY_LEN(tests));
}
