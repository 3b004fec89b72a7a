/*
 * The folders of a block cache: locked, refused, several, vanished, full.
 */
#include "tests/lib/cache_world.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"

/* --- folders --- */

static void test_locked_folder(void **state)
{
	struct cache_world *w = cache_world_open(8 * B);
	struct block_cache *other = NULL;
	char *reason = NULL, pid[32], *dirs;

	(void)state;
	assert_int_equal(cache_try_open(w, &other, &reason), -EBUSY);
	assert_non_null(reason);
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	assert_non_null(strstr(reason, pid));
	assert_non_null(strstr(reason, w->dir));
	free(reason);
	cache_reopen(w);
	/* Of several folders the second: nothing stays locked. */
	block_cache_close(w->c);
	w->c = NULL;
	dirs = mfs_str_printf("%s/a:%s/b:%s/a", w->dir, w->dir, w->dir);
	w->dirs = dirs;
	reason = NULL;
	assert_int_equal(cache_try_open(w, &other, &reason), -EBUSY);
	free(reason);
	free(dirs);
	dirs = mfs_str_printf("%s/a:%s/b", w->dir, w->dir);
	w->dirs = dirs;
	cache_reopen(w);
	block_cache_close(w->c);
	w->c = NULL;
	w->dirs = NULL;
	free(dirs);
	cache_world_free(w);
}

static void refused(struct cache_world *w, const char *dirs, int want)
{
	struct block_cache *other = NULL;
	char *reason = NULL;

	w->dirs = dirs;
	assert_int_equal(cache_try_open(w, &other, &reason), want);
	assert_non_null(reason);
	assert_non_null(strstr(reason, dirs));
	free(reason);
	w->dirs = NULL;
}

static void test_folders_that_are_refused(void **state)
{
	struct cache_world *w = cache_world_open(8 * B);
	char *open_dir = mfs_path_join(w->dir, "open"), *file = mfs_path_join(w->dir, "file"),
	     *deep = mfs_path_join(w->dir, "a/b/c");
	struct stat st;

	(void)state;
	refused(w, "relative", -EINVAL);
	assert_int_equal(mkdir(open_dir, 0777), 0);
	assert_int_equal(chmod(open_dir, 0777), 0);
	refused(w, open_dir, -EACCES);
	cache_make_file(w, "file", "");
	refused(w, file, -ENOTDIR);
	w->dirs = deep;
	cache_reopen(w);
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	block_cache_close(w->c);
	w->c = NULL;
	free(open_dir);
	free(file);
	free(deep);
	cache_world_free(w);
}

static void test_several_folders(void **state)
{
	struct cache_world *w = cache_world_new(64 * B);
	char *a = mfs_path_join(w->dir, "a"), *b = mfs_path_join(w->dir, "b"),
	     *dirs = mfs_str_printf("%s:%s/", a, b);
	unsigned int i = cache_add(w, 40 * B), in_a, in_b;

	(void)state;
	w->dirs = dirs;
	cache_reopen(w);
	cache_expect(w, i, 0, 40 * B);
	cache_await_blocks(w, 40);
	in_a = cache_each_file(a, NULL, NULL);
	in_b = cache_each_file(b, NULL, NULL);
	assert_int_equal(in_a + in_b, 40);
	assert_true(in_a > 5 && in_b > 5);
	cache_reopen(w);
	cache_expect(w, i, 0, 40 * B);
	assert_int_equal(cache_gets(w), 40);
	/* The bound is one over both. */
	w->limit = 10 * B;
	cache_reopen(w);
	assert_true(cache_each_file(a, NULL, NULL) + cache_each_file(b, NULL, NULL) <= 9);
	cache_expect(w, i, 0, 40 * B);
	assert_true(cache_each_file(a, NULL, NULL) + cache_each_file(b, NULL, NULL) <= 9);
	block_cache_close(w->c);
	w->c = NULL;
	w->dirs = NULL;
	free(a);
	free(b);
	free(dirs);
	cache_world_free(w);
}

static void test_folder_vanishes_and_comes_back(void **state)
{
	struct cache_world *w = cache_world_new(64 * B);
	char *dir = mfs_path_join(w->dir, "cache"), *aside = mfs_path_join(w->dir, "aside");
	unsigned int i = cache_add(w, 3 * B), n;

	(void)state;
	w->dirs = dir;
	w->retry_ns = 50 * 1000 * 1000;
	cache_reopen(w);
	cache_expect(w, i, 0, 3 * B);
	assert_int_equal(rename(dir, aside), 0);
	cache_each_file(aside, cache_delete_it, NULL);
	cache_expect(w, i, 0, 3 * B); /* noticed here */
	assert_true(cache_stats(w).degraded);
	assert_int_equal(cache_stats(w).blocks, 0);
	assert_int_equal(cache_stats(w).folders_off, 1);
	n = cache_gets(w);
	cache_expect(w, i, 10, 10);
	assert_int_equal(cache_gets(w), n + 1);
	for (unsigned int k = 0; cache_stats(w).degraded && k < 500; k++) {
		usleep(10000);
		cache_expect(w, i, 10, 10);
	}
	assert_false(cache_stats(w).degraded); /* made again */
	cache_expect(w, i, 0, 3 * B);
	n = cache_gets(w);
	cache_expect(w, i, 0, 3 * B);
	assert_int_equal(cache_gets(w), n);
	assert_int_equal(cache_each_file(dir, NULL, NULL), 3);
	block_cache_close(w->c);
	w->c = NULL;
	w->dirs = NULL;
	free(dir);
	free(aside);
	cache_world_free(w);
}

static void full_disk(const char *options, unsigned int free_percent)
{
	struct cache_world *w = cache_world_new(64 * B);
	unsigned int i = cache_add(w, 30 * B), k = cache_add(w, 2 * B), n;

	cache_mount_small(w, options);
	w->free_percent = free_percent;
	w->retry_ns = 200 * 1000 * 1000;
	cache_reopen(w);
	for (unsigned int round = 0; round < 3; round++) {
		cache_stream(w, k);
		cache_stream(w, i);
		cache_expect(w, i, 7 * B - 100, 12 * B);
	}
	assert_int_equal(cache_stats(w).bad, 0);
	assert_true(cache_stats(w).blocks > 0);
	assert_int_equal(cache_stats(w).folders_off, 0);
	/* Somebody else takes all there is. */
	{
		char *path = mfs_path_join(w->dir, "hog"), page[4096] = "";
		int fd = open(path, O_WRONLY | O_CREAT, 0600);

		while (fd >= 0 && write(fd, page, sizeof(page)) > 0)
			;
		if (fd >= 0) /* else there is no inode for it */
			close(fd);
		for (unsigned int round = 0; round < 3; round++) {
			cache_stream(w, i);
			cache_stream(w, k);
		}
		cache_reopen(w); /* on a full disk */
		cache_stream(w, i);
		assert_int_equal(fd >= 0 ? unlink(path) : 0, 0);
		free(path);
	}
	for (unsigned int t = 0; t < 300; t++) {
		cache_stream(w, k);
		if (!cache_stats(w).degraded && block_cache_has(w->c, &w->files[k].ref, 2 * B) == 2 * B)
			break;
		usleep(10000);
	}
	n = cache_gets(w);
	cache_stream(w, k);
	assert_int_equal(cache_gets(w), n);
	cache_unmount(w);
	cache_world_free(w);
}

static void test_full_disk(void **state)
{
	(void)state;
	full_disk("size=10m,mode=0700", 0);
	full_disk("size=10m,mode=0700", 20);
	full_disk("size=100m,nr_inodes=8,mode=0700", 0);
}

/* The floor is held without an error ever being seen. */
static void test_free_space_floor(void **state)
{
	struct cache_world *w = cache_world_new(64 * B);
	unsigned int i = cache_add(w, 30 * B);
	uint64_t bytes = 0;

	(void)state;
	cache_mount_small(w, "size=16m,mode=0700");
	w->free_percent = 50;
	cache_reopen(w);
	for (unsigned int k = 0; k < 3; k++) {
		cache_stream(w, i);
		bytes = 0;
		cache_each_file(w->dir, cache_add_blocks, &bytes);
		assert_true(bytes <= 8 * B && bytes >= 6 * B);
	}
	assert_false(cache_stats(w).degraded);
	cache_unmount(w);
	cache_world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_locked_folder),	cmocka_unit_test(test_folders_that_are_refused),
		cmocka_unit_test(test_several_folders), cmocka_unit_test(test_folder_vanishes_and_comes_back),
		cmocka_unit_test(test_full_disk),	cmocka_unit_test(test_free_space_floor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
