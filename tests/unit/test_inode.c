/* The inode table: the two counts, growth, whose attributes are believed, access times, and all of it from threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "fs/atime.h"
#include "fs/inode.h"

static struct inode_table *new_table(void)
{
	struct inode_table *t = NULL;

	assert_int_equal(inode_table_new(&t), 0);
	return t;
}

static struct mfs_attr attr_of(mfs_ino_t ino, uint64_t ver, uint64_t size)
{
	return (struct mfs_attr){ .ino = ino, .ver = ver, .size = size, .mode = S_IFREG | 0644, .nlink = 1 };
}

static void test_get__gives_the_same_inode_and_the_last_put_frees_it(void **state)
{
	struct inode_table *t = new_table();
	struct inode *a = inode_get(t, 7), *b = inode_get(t, 7), *c = inode_find(t, 7);

	(void)state;
	assert_ptr_equal(a, b);
	assert_ptr_equal(a, c);
	assert_null(inode_find(t, 8));
	assert_int_equal(inode_table_count(t), 1);
	inode_put(t, &a);
	assert_null(a);
	inode_put(t, &b);
	assert_int_equal(inode_table_count(t), 1);
	inode_put(t, &c);
	assert_int_equal(inode_table_count(t), 0);
	inode_put(t, &c); /* NULL: nothing */
	inode_table_free(t);
}

static void test_forget__drops_what_the_kernel_held(void **state)
{
	struct inode_table *t = new_table();
	struct inode *i = inode_get(t, 7);

	(void)state;
	inode_looked_up(t, i);
	inode_looked_up(t, i);
	inode_looked_up(t, i);
	inode_put(t, &i);
	assert_int_equal(inode_table_count(t), 1);
	inode_forget(t, 7, 2);
	assert_int_equal(inode_table_count(t), 1);
	inode_forget(t, 7, 1);
	assert_int_equal(inode_table_count(t), 0);
	inode_forget(t, 7, 1); /* unknown: nothing */
	i = inode_get(t, 7);
	inode_forget(t, 7, 1); /* never counted: our ref stays */
	assert_int_equal(inode_table_count(t), 1);
	inode_put(t, &i);
	inode_table_free(t);
}

static void test_table__grows_and_finds_all(void **state)
{
	enum { N = 50000 };
	struct inode_table *t = new_table();

	(void)state;
	for (mfs_ino_t n = 1; n <= N; n++) {
		struct inode *i = inode_get(t, n * 64);

		inode_looked_up(t, i);
		inode_put(t, &i);
	}
	assert_int_equal(inode_table_count(t), N);
	for (mfs_ino_t n = 1; n <= N; n++) {
		struct inode *i = inode_find(t, n * 64);

		assert_non_null(i);
		assert_int_equal(i->ino, n * 64);
		inode_put(t, &i);
		if (n % 2)
			inode_forget(t, n * 64, 1);
	}
	assert_int_equal(inode_table_count(t), N / 2);
	inode_table_free(t); /* what the kernel still refers to goes with it */
}

static void test_take__keeps_the_newest_whatever_the_order(void **state)
{
	struct inode_table *t = new_table();
	struct inode *i = inode_get(t, 7);
	struct mfs_attr attr;

	(void)state;
	assert_false(inode_attr(i, &attr));
	attr = attr_of(7, 5, 500);
	inode_take(i, inode_epoch(t), &attr);
	attr = attr_of(7, 4, 400); /* an answer that was overtaken */
	inode_take(i, inode_epoch(t), &attr);
	assert_int_equal(attr.size, 500);
	assert_true(inode_attr(i, &attr));
	assert_int_equal(attr.size, 500);
	attr = attr_of(7, 6, 600);
	inode_update(i, &attr);
	assert_true(inode_attr(i, &attr));
	assert_int_equal(attr.size, 600);
	inode_put(t, &i);
	inode_table_free(t);
}

static void test_invalidate__an_answer_from_before_is_shown_but_not_believed(void **state)
{
	struct inode_table *t = new_table();
	struct inode *i = inode_get(t, 7);
	struct mfs_attr attr = attr_of(7, 5, 500);
	uint64_t epoch;

	(void)state;
	inode_update(i, &attr);
	epoch = inode_epoch(t); /* a request begins and reads version 5 or 6 */
	inode_invalidate(t, i); /* meanwhile something makes it 7 */
	assert_false(inode_attr(i, &attr));
	attr = attr_of(7, 6, 600);
	inode_take(i, epoch, &attr);
	assert_int_equal(attr.size, 600);
	assert_false(inode_attr(i, &attr));
	attr = attr_of(7, 7, 700);
	inode_take(i, inode_epoch(t), &attr);
	assert_true(inode_attr(i, &attr));
	assert_int_equal(attr.size, 700);
	inode_put(t, &i);
	inode_table_free(t);
}

static void test_invalidate__the_same_version_read_anew_is_believed(void **state)
{
	struct inode_table *t = new_table();
	struct inode *i = inode_get(t, 7);
	struct mfs_attr attr = attr_of(7, 5, 500);

	(void)state;
	inode_update(i, &attr);
	inode_invalidate(t, i);
	attr = attr_of(7, 5, 500);
	inode_take(i, inode_epoch(t), &attr);
	assert_true(inode_attr(i, &attr));
	inode_put(t, &i);
	inode_table_free(t);
}

static void test_gone__keeps_its_attributes_against_all_news(void **state)
{
	struct inode_table *t = new_table();
	struct inode *i = inode_get(t, 7);
	struct mfs_attr attr = attr_of(7, 5, 500);

	(void)state;
	attr.nlink = 0;
	inode_set_gone(i, &attr);
	attr = attr_of(7, 9, 900);
	inode_take(i, inode_epoch(t), &attr);
	assert_int_equal(attr.size, 500);
	inode_invalidate(t, i);
	assert_true(inode_attr(i, &attr));
	assert_int_equal(attr.nlink, 0);
	inode_put(t, &i);
	inode_table_free(t);
}

/* An index in memory with one file, for access times. */
struct world {
	struct mem_shared *shared;
	struct engine *engine;
	struct namespace *ns;
	struct inode_table *t;
	struct atimes *atimes;
	struct inode *file;
	struct mfs_config cfg;
};

static void world_up(struct world *w, enum mfs_atime policy)
{
	struct volume_record v = { .schema = MFS_SCHEMA };
	struct namespace_options opt = { .host = "test" };
	struct op_ctx op = { 0 };
	struct make m = { .parent = MFS_ROOT_INO, .name = "f", .name_len = 1, .mode = S_IFREG | 0644 };
	struct node n = NODE_INIT;
	struct mfs_attr attr;

	*w = (struct world){ .cfg = { .atime = policy } };
	assert_int_equal(mem_shared_new(&w->shared), 0);
	assert_int_equal(mem_engine_new(w->shared, &w->engine), 0);
	assert_int_equal(engine_volume_put(w->engine, &op, &v), 0);
	assert_int_equal(namespace_new(w->engine, &opt, &w->ns), 0);
	assert_int_equal(namespace_make(w->ns, &op, &m, &n), 0);
	attr = n.attr;
	node_release(&n);
	w->t = new_table();
	w->file = inode_get(w->t, attr.ino);
	inode_update(w->file, &attr);
	assert_int_equal(atimes_start(w->ns, w->t, &w->cfg, &w->atimes), 0);
}

static void world_down(struct world *w)
{
	inode_put(w->t, &w->file);
	atimes_stop(w->atimes);
	assert_int_equal(inode_table_count(w->t), 0);
	inode_table_free(w->t);
	namespace_free(w->ns);
	engine_free(w->engine);
	mem_shared_free(w->shared);
}

static int64_t stored_atime(struct world *w)
{
	struct node n = NODE_INIT;
	struct op_ctx op = { 0 };
	int64_t atime;

	assert_int_equal(namespace_get(w->ns, &op, w->file->ino, &n), 0);
	atime = n.attr.atime;
	node_release(&n);
	return atime;
}

static void test_atime__relatime_is_shown_at_once_and_written_later(void **state)
{
	struct world w;
	struct mfs_attr before, after, again;
	struct op_ctx op = { 0 };

	(void)state;
	world_up(&w, MFS_RELATIME);
	assert_true(inode_attr(w.file, &before));
	assert_true(atime_is_due(w.atimes, w.file)); /* new: atime == mtime */
	atime_touch(w.atimes, w.file);
	assert_true(inode_attr(w.file, &after));
	assert_true(after.atime > before.atime);
	assert_int_equal(after.ctime, before.ctime);
	assert_false(atime_is_due(w.atimes, w.file));
	atime_touch(w.atimes, w.file);
	assert_true(inode_attr(w.file, &again));
	assert_int_equal(again.atime, after.atime);
	assert_int_equal(stored_atime(&w), before.atime);
	assert_int_equal(atimes_flush(w.atimes, &op), 0);
	assert_int_equal(stored_atime(&w), after.atime);
	assert_true(inode_attr(w.file, &again));
	assert_int_equal(again.atime, after.atime);
	world_down(&w);
}

static void test_atime__noatime_never_and_strictatime_always(void **state)
{
	struct world w;
	struct mfs_attr a, b;

	(void)state;
	world_up(&w, MFS_NOATIME);
	assert_false(atime_is_due(w.atimes, w.file));
	world_down(&w);
	world_up(&w, MFS_STRICTATIME);
	atime_touch(w.atimes, w.file);
	assert_true(inode_attr(w.file, &a));
	assert_true(atime_is_due(w.atimes, w.file));
	atime_touch(w.atimes, w.file);
	assert_true(inode_attr(w.file, &b));
	assert_true(b.atime >= a.atime);
	world_down(&w);
}

static void test_atime__one_that_was_set_wins_over_one_that_waits(void **state)
{
	const int64_t set = 12345;
	struct world w;
	struct mfs_attr attr;
	struct op_ctx op = { 0 };
	struct set_attr sa = { .mask = EDIT_ATIME, .atime = set };
	unsigned int begun;

	(void)state;
	world_up(&w, MFS_RELATIME);
	atime_touch(w.atimes, w.file);
	begun = atime_set_begin(w.file);
	assert_int_equal(namespace_setattr(w.ns, &op, w.file->ino, &sa, &attr), 0);
	inode_update(w.file, &attr);
	atime_set_end(w.atimes, w.file, begun, set);
	assert_true(inode_attr(w.file, &attr));
	assert_int_equal(attr.atime, set);
	assert_int_equal(atimes_flush(w.atimes, &op), 0);
	assert_int_equal(stored_atime(&w), set);
	world_down(&w);
}

static void test_atime__one_that_was_set_wins_over_a_write_back_in_between(void **state)
{
	const int64_t set = 12345;
	struct world w;
	struct mfs_attr attr;
	struct op_ctx op = { 0 };
	struct set_attr sa = { .mask = EDIT_ATIME, .atime = set };
	unsigned int begun;

	(void)state;
	world_up(&w, MFS_RELATIME);
	atime_touch(w.atimes, w.file);
	begun = atime_set_begin(w.file);
	assert_int_equal(namespace_setattr(w.ns, &op, w.file->ino, &sa, &attr), 0);
	/* The timer comes just now and writes the older one over it. */
	assert_int_equal(atimes_flush(w.atimes, &op), 0);
	assert_int_not_equal(stored_atime(&w), set);
	inode_update(w.file, &attr);
	atime_set_end(w.atimes, w.file, begun, set);
	assert_true(inode_attr(w.file, &attr));
	assert_int_equal(attr.atime, set);
	assert_int_equal(atimes_flush(w.atimes, &op), 0);
	assert_int_equal(stored_atime(&w), set);
	world_down(&w);
}

#define N_THREADS 8
#define N_ROUNDS  4000

static void *hammer(void *arg)
{
	struct inode_table *t = arg;
	unsigned int seed = (unsigned int)(uintptr_t)pthread_self();

	for (int k = 0; k < N_ROUNDS; k++) {
		mfs_ino_t ino = 1 + (mfs_ino_t)rand_r(&seed) % 64;
		struct inode *i = inode_get(t, ino);
		struct mfs_attr attr = attr_of(ino, (uint64_t)k + 1, ino);

		inode_looked_up(t, i);
		inode_take(i, inode_epoch(t), &attr);
		assert_int_equal(attr.size, ino);
		if (k % 16 == 0)
			inode_invalidate(t, i);
		inode_put(t, &i);
		inode_forget(t, ino, 1);
	}
	return NULL;
}

static void count_it(struct inode *i, void *arg)
{
	assert_in_range(i->ino, 1, 64);
	++*(size_t *)arg;
}

static void test_threads__leave_an_empty_table(void **state)
{
	struct inode_table *t = new_table();
	pthread_t threads[N_THREADS];
	size_t seen = 0;

	(void)state;
	for (int k = 0; k < N_THREADS; k++)
		assert_int_equal(pthread_create(&threads[k], NULL, hammer, t), 0);
	for (int k = 0; k < 100; k++)
		inode_table_walk(t, count_it, &seen);
	for (int k = 0; k < N_THREADS; k++)
		pthread_join(threads[k], NULL);
	assert_int_equal(inode_table_count(t), 0);
	inode_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get__gives_the_same_inode_and_the_last_put_frees_it),
		cmocka_unit_test(test_forget__drops_what_the_kernel_held),
		cmocka_unit_test(test_table__grows_and_finds_all),
		cmocka_unit_test(test_take__keeps_the_newest_whatever_the_order),
		cmocka_unit_test(test_invalidate__an_answer_from_before_is_shown_but_not_believed),
		cmocka_unit_test(test_invalidate__the_same_version_read_anew_is_believed),
		cmocka_unit_test(test_gone__keeps_its_attributes_against_all_news),
		cmocka_unit_test(test_atime__relatime_is_shown_at_once_and_written_later),
		cmocka_unit_test(test_atime__noatime_never_and_strictatime_always),
		cmocka_unit_test(test_atime__one_that_was_set_wins_over_one_that_waits),
		cmocka_unit_test(test_atime__one_that_was_set_wins_over_a_write_back_in_between),
		cmocka_unit_test(test_threads__leave_an_empty_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
