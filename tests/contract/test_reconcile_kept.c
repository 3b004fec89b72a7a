/*
 * The composing of a big file that was interrupted goes on where it was (fs/reconcile_kept.h): by a later mount, part for
 * part, and only while the file is the same. On the mem store cut as S3 wants it, and on localdir.
 */
#include "tests/lib/reconcile_world.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/gc.h"
#include "fs/reconcile_kept.h"
#include "meta/fence.h"

#define MIB  (UINT64_C(1) << 20)
#define SIZE (40 * MIB)

/* A file of many parts, due; what it is to become. */
static unsigned char *make_big(struct world *w, mfs_ino_t *ret_ino)
{
	unsigned char *want = bytes_of(0, SIZE, 1);
	mfs_ino_t ino = write_object(w, "a", SIZE, 1);

	for (uint64_t at = 3 * MIB; at + 1000 < SIZE; at += 9 * MIB) {
		patch(w, ino, at, 1000, 2);
		for (uint64_t i = at; i < at + 1000; i++)
			want[i] = byte_at(i, 2);
	}
	*ret_ino = ino;
	return want;
}

static void keep_all(struct world *w)
{
	w->v->reconcile.keep_min = 1;
}

/* As after kill -9; the store stays watched. */
static void crash(struct world *w)
{
	uint64_t end = watched.part_end;
	unsigned int calls = watched.part_calls;

	unwatch(w);
	world_crash(w);
	watch(w);
	watched.part_end = end;
	watched.part_calls = calls;
	keep_all(w);
}

/* Cancelled when it has sent that many further parts. */
static void run_until(struct world *w, unsigned int parts)
{
	struct op_ctx op = { 0 };

	watched.cancel = &op;
	watched.fail_at = watched.part_calls + parts;
	assert_int_equal(reconcile_run(w->v, &op, INT64_MAX, NULL, NULL, NULL), -ECANCELED);
	watched.cancel = NULL;
	watched.fail_at = 0;
}

static size_t n_cells(struct world *w)
{
	struct cell_list l = { 0 };
	size_t n;

	assert_int_equal(engine_cells(w->v->engine, &w->op, "compose/", NULL, 100, &l), 0);
	n = l.n;
	cell_list_release(&l);
	return n;
}

static uint64_t n_uploads(struct world *w)
{
	uint64_t n, bytes;

	assert_int_equal(object_sweep(w->v->store, &w->op, false, &n, &bytes), 0);
	return n;
}

static void collect(struct world *w)
{
	struct gc_options opt = { .delete_it = true, .now = mfs_now_ns(), .dropped_age_ns = 0 };
	struct gc_result res = { 0 };

	assert_int_equal(gc_run(w->v, &w->op, &opt, &res), 0);
	assert_int_equal(res.failed, 0);
}

static void assert_whole(struct world *w, mfs_ino_t ino, const unsigned char *want)
{
	unsigned char *got = read_file(w, ino, 0, SIZE);
	struct node n = world_node(w, ino);
	struct object_info top;

	assert_int_equal(state_of(w, ino), FILE_SETTLED);
	assert_true(memcmp(got, want, SIZE) == 0);
	assert_int_equal(object_head(w->v->store, &w->op, NULL, "a", NULL, &top), 0);
	assert_string_equal(top.version, n.ref.version);
	assert_int_equal(top.ino, ino);
	assert_int_equal(n_cells(w), 0);
	assert_int_equal(n_uploads(w), 0);
	assert_int_equal(count_objects(w).unnamed, 0);
	node_release(&n);
	free(got);
}

/* Trash too. */
static void collect_all(struct world *w)
{
	struct gc_options opt = { .delete_it = true, .now = mfs_now_ns() + 2 * WORLD_RETENTION };
	struct gc_result res = { 0 };

	assert_int_equal(gc_run(w->v, &w->op, &opt, &res), 0);
	assert_int_equal(gc_run(w->v, &w->op, &opt, &res), 0);
}

static unsigned int parts_of_one_go(struct world *w)
{
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);
	unsigned int n;

	watch(w);
	assert_int_equal(world_force(w), 0);
	n = watched.part_calls;
	unwatch(w);
	world_unlink(w, "a");
	assert_int_equal(world_force(w), 0);
	collect_all(w);
	free(want);
	return n;
}

static void test_killed_again_and_again__no_part_is_sent_twice(void **state)
{
	struct world *w = *state;
	unsigned int all = parts_of_one_go(w), runs = 0;
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);

	assert_true(all > 5);
	keep_all(w);
	watch(w);
	while (watched.part_calls + 1 < all) {
		run_until(w, 1);
		assert_int_equal(n_cells(w), 1);
		crash(w);
		collect(w);
		assert_int_equal(n_cells(w), 1);
		assert_true(++runs < all);
	}
	assert_int_equal(world_force(w), 0);
	assert_int_equal(watched.part_calls, all);
	assert_whole(w, ino, want);
	unwatch(w);
	free(want);
}

static void test_changed_meanwhile__begins_anew(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);

	keep_all(w);
	watch(w);
	run_until(w, 3);
	crash(w);
	patch(w, ino, 100, 1000, 7);
	for (uint64_t i = 100; i < 1100; i++)
		want[i] = byte_at(i, 7);
	assert_int_equal(world_force(w), 0);
	assert_whole(w, ino, want);
	unwatch(w);
	free(want);
}

static void test_renamed_meanwhile__begins_anew_at_the_new_key(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);

	keep_all(w);
	watch(w);
	run_until(w, 3);
	crash(w);
	world_rename(w, "a", "b");
	assert_int_equal(world_force(w), 0);
	world_rename(w, "b", "a");
	assert_int_equal(world_force(w), 0);
	assert_whole(w, ino, want);
	unwatch(w);
	free(want);
}

static void test_unlinked_meanwhile__gc_takes_upload_and_cell(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino;

	free(make_big(w, &ino));
	keep_all(w);
	watch(w);
	run_until(w, 3);
	crash(w);
	collect(w);
	assert_int_equal(n_uploads(w), 1);
	assert_int_equal(n_cells(w), 1);
	/* With the record in trash the layout is as it was: it may come back. */
	world_unlink(w, "a");
	collect(w);
	assert_int_equal(n_cells(w), 1);
	collect_all(w);
	assert_int_equal(n_cells(w), 0);
	assert_int_equal(n_uploads(w), 0);
	unwatch(w);
}

/* Its maker died between the object and the record. */
static void test_complete_but_not_recorded__the_object_is_taken(void **state)
{
	struct world *w = *state;
	struct reconcile_ctx rc = { .v = w->v, .op = &w->op };
	struct object_info info;
	struct node_blob holes;
	struct object_meta meta;
	bool kept = false;
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);
	struct node n = world_node(w, ino);

	keep_all(w);
	watch(w);
	meta = volume_object_meta(w->v, &n.attr);
	assert_int_equal(reconcile_compose(&rc, &n, "a", &meta, &info, &holes, &kept), 0);
	assert_true(kept);
	free(holes.data);
	node_release(&n);
	crash(w);
	watched.part_calls = 0;
	(void)world_settle(w); /* jobs: nobody is dead any more */
	collect(w);
	assert_int_equal(world_force(w), 0);
	assert_int_equal(watched.part_calls, 0);
	assert_whole(w, ino, want);
	n = world_node(w, ino);
	assert_string_equal(n.ref.version, info.version);
	node_release(&n);
	unwatch(w);
	free(want);
}

/* Its maker's session is fenced on this file: what is under its label is gc's. */
static void test_fenced_meanwhile__begins_anew(void **state)
{
	struct world *w = *state;
	uint64_t dead = w->v->session;
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);

	keep_all(w);
	watch(w);
	run_until(w, 3);
	crash(w);
	assert_int_not_equal(dead, w->v->session);
	assert_int_equal(fence_inode(w->v->engine, &w->op, ino, dead), 0);
	assert_int_equal(world_force(w), 0);
	assert_whole(w, ino, want);
	unwatch(w);
	free(want);
}

/* --- a commit that comes between the object and the record --- */

static struct {
	struct world *w;
	mfs_ino_t ino;
	struct object_store_ops ops;
	const struct object_store_ops *inner;
} between;

static int complete_and_change(struct object_upload *u, struct op_ctx *op, uint64_t size, const struct object_meta *meta,
			       struct object_info *ret)
{
	int r = between.inner->complete(u, op, size, meta, ret);
	mfs_ino_t ino = between.ino;

	between.ino = 0;
	if (ino)
		patch(between.w, ino, 200, 10, 9);
	return r;
}

static void test_changed_at_the_last_moment__the_object_is_dropped(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);

	keep_all(w);
	between.w = w;
	between.ino = ino;
	between.inner = w->v->store->ops;
	between.ops = *between.inner;
	between.ops.complete = complete_and_change;
	w->v->store->ops = &between.ops;
	for (uint64_t i = 200; i < 210; i++)
		want[i] = byte_at(i, 9);
	assert_int_equal(world_force(w), 0);
	assert_int_equal(between.ino, 0);
	w->v->store->ops = between.inner;
	assert_whole(w, ino, want);
	collect(w);
	assert_int_equal(count_objects(w).all, 1);
	free(want);
}

/* A part that fails is tried again, the ones before it are not; what the store lost begins anew. */
static void test_errors__what_was_sent_stays(void **state)
{
	struct world *w = *state;
	unsigned int all = parts_of_one_go(w);
	mfs_ino_t ino;
	unsigned char *want = make_big(w, &ino);
	uint64_t n, bytes;

	keep_all(w);
	watch(w);
	watched.fail_at = 4;
	assert_int_equal(world_force(w), 1);
	watched.fail_at = 0;
	assert_int_equal(n_cells(w), 1);
	crash(w);
	assert_int_equal(object_sweep(w->v->store, &w->op, true, &n, &bytes), 0);
	assert_int_equal(n, 1);
	watched.part_calls = 0;
	assert_int_equal(world_force(w), 0);
	assert_int_equal(watched.part_calls, all);
	assert_whole(w, ino, want);
	unwatch(w);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_killed_again_and_again__no_part_is_sent_twice),
		WORLD_TEST(test_changed_meanwhile__begins_anew),
		WORLD_TEST(test_renamed_meanwhile__begins_anew_at_the_new_key),
		WORLD_TEST(test_unlinked_meanwhile__gc_takes_upload_and_cell),
		WORLD_TEST(test_complete_but_not_recorded__the_object_is_taken),
		WORLD_TEST(test_fenced_meanwhile__begins_anew),
		WORLD_TEST(test_changed_at_the_last_moment__the_object_is_dropped),
		WORLD_TEST(test_errors__what_was_sent_stays),
	};

	return world_run_suite("reconcile kept", tests, MFS_ARRAY_LEN(tests));
}
