/*
 * The block cache over a store in memory: what a read gives is always what was put, whatever happens to the folder.
 */
#include "tests/lib/cache_world.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"
#include "tests/lib/store_suite.h"

static void test_second_read_is_a_hit(void **state)
{
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, 3 * B + 5000);

	(void)state;
	cache_expect(w, i, 0, 3 * B + 5000);
	assert_int_equal(cache_gets(w), 4);
	cache_await_blocks(w, 4);
	cache_expect(w, i, 0, 3 * B + 5000);
	cache_expect(w, i, 100, 10);
	cache_expect(w, i, B - 5, 10);
	cache_expect(w, i, 2 * B + 65530, 70000);
	cache_expect(w, i, 3 * B + 4990, 100);
	assert_int_equal(cache_gets(w), 4);
	assert_int_equal(cache_stats(w).bad, 0);
	assert_true(cache_stats(w).hits >= 9);
	assert_int_equal(cache_stats(w).blocks, 4);
	assert_int_equal(block_cache_has(w->c, &w->files[i].ref, w->files[i].size), 3 * B + 5000);
	block_cache_evict(w->c, &w->files[i].ref, w->files[i].size);
	assert_int_equal(block_cache_has(w->c, &w->files[i].ref, w->files[i].size), 0);
	assert_int_equal(cache_each_file(w->dir, NULL, NULL), 0);
	assert_int_equal(cache_stats(w).bytes, 0);
	cache_expect(w, i, 0, 3 * B + 5000);
	assert_int_equal(cache_gets(w), 8);
	cache_world_free(w);
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 4095, 65536, 65537, B - 1, B, B + 1, 2 * B, 2 * B + 77 };
	struct cache_world *w = cache_world_open(64 * B);

	(void)state;
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(sizes); k++) {
		unsigned int i = cache_add(w, sizes[k]), n;

		cache_expect(w, i, 0, sizes[k] + 100);
		n = cache_gets(w);
		cache_expect(w, i, 0, sizes[k] + 100);
		cache_expect(w, i, sizes[k], 10);
		cache_expect(w, i, sizes[k] + 12345678, 10);
		if (sizes[k])
			cache_expect(w, i, sizes[k] - 1, 1);
		assert_int_equal(cache_gets(w), n);
	}
	assert_int_equal(cache_stats(w).bad, 0);
	cache_world_free(w);
}

static void test_without_a_cache(void **state)
{
	struct cache_world *w = cache_world_open(0);
	unsigned int i = cache_add(w, B + 3);

	(void)state;
	cache_expect(w, i, 5, B);
	cache_expect(w, i, 5, B);
	assert_int_equal(cache_gets(w), 2);
	assert_int_equal(cache_each_file(w->dir, NULL, NULL), 0);
	w->dirs = "";
	w->limit = 8 * B;
	cache_reopen(w);
	cache_expect(w, i, 5, B);
	block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, 0, B);
	block_cache_evict(w->c, &w->files[i].ref, w->files[i].size);
	assert_int_equal(cache_gets(w), 3);
	block_cache_close(w->c);
	w->c = NULL;
	cache_expect(w, i, 5, B);
	assert_int_equal(cache_gets(w), 4);
	assert_int_equal(cache_stats(w).blocks, 0);
	cache_world_free(w);
}

static bool has_file(struct cache_world *w, const char *name)
{
	char *path = mfs_path_join(w->dir, name);
	bool has = access(path, F_OK) == 0;

	free(path);
	return has;
}

/* The index is what the folder has; of what is not ours nothing is touched. */
static void test_restart(void **state)
{
	static const char *const foreign[] = { "mfs-.blk",
					       "mfs-12-1-1-1.blk",
					       "notes.blk",
					       "mfs-tmp-",
					       "mfs-tmp-0000000g",
					       "mfs-tmp-000000012",
					       "file",
					       "mfs-00000000000000010000000000000002-1-200000-1.blk" };
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, 5 * B + 9), k = cache_add(w, 100), n;
	uint64_t bytes;

	(void)state;
	cache_expect(w, i, 0, 6 * B);
	cache_expect(w, k, 0, 100);
	cache_await_blocks(w, 7);
	bytes = cache_stats(w).bytes;
	for (unsigned int f = 0; f < MFS_ARRAY_LEN(foreign); f++)
		cache_make_file(w, foreign[f], "x");
	cache_make_file(w, "mfs-tmp-0000002a", "half");
	cache_reopen(w);
	assert_int_equal(cache_stats(w).blocks, 7);
	assert_int_equal(cache_stats(w).bytes, bytes);
	n = cache_gets(w);
	cache_expect(w, i, 0, 6 * B);
	cache_expect(w, k, 0, 100);
	assert_int_equal(cache_gets(w), n);
	assert_int_equal(cache_stats(w).bad, 0);
	for (unsigned int f = 0; f < MFS_ARRAY_LEN(foreign); f++)
		assert_true(has_file(w, foreign[f]));
	assert_false(has_file(w, "mfs-tmp-0000002a"));
	/* A smaller cache: what does not fit goes. */
	w->limit = 3 * B + 65536;
	cache_reopen(w);
	assert_true(cache_stats(w).bytes <= w->limit && cache_stats(w).blocks >= 3);
	assert_int_equal(cache_each_file(w->dir, NULL, NULL),
			 cache_stats(w).blocks + 4); /* .blk of foreign */
	cache_expect(w, i, 0, 6 * B);
	cache_world_free(w);
}

static void test_other_volume_other_version(void **state)
{
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, 1000), k;
	struct block_cache_options opt = { .dirs = w->dir, .size = w->limit, .volume = "another" };
	char *reason = NULL;

	(void)state;
	cache_expect(w, i, 0, 1000);
	k = cache_add(w, 1000); /* the same key, newer: */
	w->files[k].ref.key = w->files[i].key;
	{
		struct object_info info =
			store_test_put(w->slow.inner, w->files[i].key, w->files[k].bytes, 1000);

		strcpy(w->files[k].ref.version, info.version);
	}
	cache_expect(w, k, 0, 1000);
	cache_expect(w, i, 0, 1000);
	assert_int_equal(cache_gets(w), 2);
	block_cache_close(w->c);
	assert_int_equal(block_cache_open(&opt, &w->c, &reason), 0);
	cache_expect(w, i, 0, 1000);
	assert_int_equal(cache_gets(w), 3);
	assert_int_equal(cache_stats(w).bad, 0);
	cache_world_free(w);
}

/* --- damage --- */

static void overwrite(const char *path, uint64_t off, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)off), len);
	close(fd);
}

static void flip(const char *path, uint64_t off)
{
	int fd = open(path, O_RDWR);
	char b;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, (off_t)off), 1);
	b ^= 4;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)off), 1);
	close(fd);
}

static void flip_header(const char *path, void *arg)
{
	flip(path, *(uint64_t *)arg);
}

static void flip_first(const char *path, void *arg)
{
	(void)arg;
	flip(path, 512);
}

static void flip_last(const char *path, void *arg)
{
	(void)arg;
	flip(path, cache_file_size(path) - 1);
}

static void cut_last(const char *path, void *arg)
{
	(void)arg;
	assert_int_equal(truncate(path, (off_t)cache_file_size(path) - 1), 0);
}

static void cut_to(const char *path, void *arg)
{
	assert_int_equal(truncate(path, *(off_t *)arg), 0);
}

static void zeros(const char *path, void *arg)
{
	static const char nothing[4096];

	(void)arg;
	overwrite(path, 0, nothing, sizeof(nothing));
}

static void make_dir_of(const char *path, void *arg)
{
	(void)arg;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void make_link_of(const char *path, void *arg)
{
	(void)arg;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/zero", path), 0);
}

/* Each file becomes the one before it. */
static void rotate(const char *path, void *arg)
{
	char **last = arg;

	if (!*last)
		*last = strdup(path);
	else
		assert_int_equal(renameat2(AT_FDCWD, *last, AT_FDCWD, path, RENAME_EXCHANGE), 0);
}

static void damage(struct cache_world *w, const char *what, file_fn *fn, void *arg)
{
	unsigned int n;

	for (unsigned int i = 0; i < w->n; i++)
		cache_expect(w, i, 0, w->files[i].size);
	cache_await_blocks(w, 4);
	n = cache_each_file(w->dir, fn, arg);
	assert_true(n >= 4);
	for (unsigned int i = 0; i < w->n; i++)
		cache_expect(w, i, 0, w->files[i].size);
	if (cache_stats(w).bad != n)
		print_error("%s: %u damaged, %u found\n", what, n, (unsigned int)cache_stats(w).bad);
	assert_int_equal(cache_stats(w).bad, n);
	cache_await_blocks(w, 4);
	n = cache_gets(w);
	for (unsigned int i = 0; i < w->n; i++)
		cache_expect(w, i, 0, w->files[i].size);
	cache_reopen(w); /* also: nothing of the damage comes back */
	for (unsigned int i = 0; i < w->n; i++)
		cache_expect(w, i, 0, w->files[i].size);
	assert_int_equal(cache_gets(w), n);
	assert_int_equal(cache_stats(w).bad, 0);
	assert_false(cache_stats(w).degraded);
}

static void test_damaged_blocks_are_misses(void **state)
{
	static const uint64_t at[] = { 0, 8, 16, 60, 160, 176, 184, 192, 300, 511 };
	off_t cuts[] = { 0, 100, 512, 513 };
	struct cache_world *w = cache_world_open(64 * B);
	char *last = NULL;

	(void)state;
	cache_add(w, 2 * B);
	cache_add(w, 2 * B);
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(at); k++)
		damage(w, "a bit of the header", flip_header, (void *)(uintptr_t)&at[k]);
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(cuts); k++)
		damage(w, "cut", cut_to, &cuts[k]);
	damage(w, "first byte", flip_first, NULL);
	damage(w, "last byte", flip_last, NULL);
	damage(w, "last byte cut", cut_last, NULL);
	damage(w, "zeros", zeros, NULL);
	damage(w, "deleted", cache_delete_it, NULL);
	damage(w, "swapped", rotate, &last);
	damage(w, "links", make_link_of, NULL);
	damage(w, "folders", make_dir_of, NULL);
	free(last);
	cache_world_free(w);
}

/* A read of a part verifies that part: elsewhere in the block a flipped bit waits for its reader. */
static void test_part_of_a_block(void **state)
{
	struct cache_world *w = cache_world_open(64 * B);
	unsigned int i = cache_add(w, B);

	(void)state;
	cache_expect(w, i, 0, B);
	cache_each_file(w->dir, flip_last, NULL);
	cache_expect(w, i, 0, 65536);
	assert_int_equal(cache_stats(w).bad, 0);
	cache_expect(w, i, B - 65536 - 1, 2); /* reaches into the last cell by a byte */
	assert_int_equal(cache_stats(w).bad, 1);
	assert_int_equal(cache_gets(w), 2);
	cache_world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_read_is_a_hit),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_without_a_cache),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_other_volume_other_version),
		cmocka_unit_test(test_damaged_blocks_are_misses),
		cmocka_unit_test(test_part_of_a_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
