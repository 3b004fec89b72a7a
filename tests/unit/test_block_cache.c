/*
 * The block cache over a store in memory: what a read gives is always what was put, whatever happens to the folder.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/object_store.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "common/sync.h"
#include "fs/block_cache.h"
#include "tests/lib/store_suite.h"

#define B    BLOCK_CACHE_BLOCK
#define UUID "6f1c7a52-0000-4000-8000-000000000001"

/* --- a store that counts its gets, and can hold or fail them --- */

struct slow_store {
	struct object_store base;
	struct object_store_ops ops;
	struct object_store *inner;
	atomic_uint gets, fail; /* fail: an errno for every get */
	struct mfs_mutex lock;
	pthread_cond_t moved;
	bool hold; /* lock: gets wait */
	unsigned int waiting; /* lock */
};

static struct slow_store *slow_of(struct object_store *s)
{
	return mfs_container_of(s, struct slow_store, base);
}

static ssize_t slow_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t off,
			void *buf, size_t len)
{
	struct slow_store *x = slow_of(s);

	atomic_fetch_add(&x->gets, 1);
	{
		MFS_GUARD(&x->lock);
		x->waiting++;
		pthread_cond_broadcast(&x->moved);
		while (x->hold)
			pthread_cond_wait(&x->moved, &x->lock.m);
		x->waiting--;
	}
	if (atomic_load(&x->fail))
		return -(int)atomic_load(&x->fail);
	return object_get(x->inner, op, ref, off, buf, len);
}

static void slow_free(struct object_store *s)
{
	(void)s;
}

static void slow_hold(struct slow_store *x, bool hold)
{
	MFS_GUARD(&x->lock);
	x->hold = hold;
	pthread_cond_broadcast(&x->moved);
}

static void slow_await(struct slow_store *x, unsigned int n)
{
	MFS_GUARD(&x->lock);
	while (x->waiting < n)
		pthread_cond_wait(&x->moved, &x->lock.m);
}

static void slow_init(struct slow_store *x)
{
	memset(x, 0, sizeof(*x));
	assert_int_equal(mem_store_new(&x->inner), 0);
	x->ops = (struct object_store_ops){ .name = "slow", .get = slow_get, .free = slow_free };
	x->base.ops = &x->ops;
	pthread_mutex_init(&x->lock.m, NULL);
	pthread_cond_init(&x->moved, NULL);
}

static void slow_release(struct slow_store *x)
{
	object_store_free(x->inner);
	pthread_cond_destroy(&x->moved);
	pthread_mutex_destroy(&x->lock.m);
}

/* --- the world --- */

#define N_FILES 24

struct world {
	struct slow_store slow;
	struct object_store *s;
	char *dir;
	const char *dirs; /* instead of dir */
	struct block_cache *c;
	uint64_t limit;
	unsigned int free_percent;
	int64_t retry_ns;
	struct {
		char key[32];
		char *bytes;
		size_t size;
		struct object_ref ref;
	} files[N_FILES];
	unsigned int n;
};

static int try_open(struct world *w, struct block_cache **ret, char **reason)
{
	struct block_cache_options opt = { .dirs = w->dirs ? w->dirs : w->dir,
					   .size = w->limit,
					   .volume = UUID };

	opt.free_percent = w->free_percent;
	opt.retry_ns = w->retry_ns;
	return block_cache_open(&opt, ret, reason);
}

static void reopen(struct world *w)
{
	char *reason = NULL;
	int r;

	block_cache_close(w->c);
	w->c = NULL;
	r = try_open(w, &w->c, &reason);
	if (r)
		print_error("open: %s\n", reason ? reason : strerror(-r));
	free(reason);
	assert_int_equal(r, 0);
}

/* Not opened yet. */
static struct world *new_world(uint64_t limit)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	slow_init(&w->slow);
	w->s = &w->slow.base;
	w->dir = store_test_dir();
	w->limit = limit;
	return w;
}

static struct world *open_world(uint64_t limit)
{
	struct world *w = new_world(limit);

	reopen(w);
	return w;
}

static void free_world(struct world *w)
{
	block_cache_close(w->c);
	for (unsigned int i = 0; i < w->n; i++)
		free(w->files[i].bytes);
	slow_release(&w->slow);
	store_test_remove(w->dir);
	free(w);
}

static unsigned int add(struct world *w, size_t size)
{
	unsigned int i = w->n++;
	struct object_info info;

	assert_true(i < N_FILES);
	snprintf(w->files[i].key, sizeof(w->files[i].key), "file%u", i);
	w->files[i].bytes = malloc(size + 1);
	assert_non_null(w->files[i].bytes);
	w->files[i].size = size;
	store_test_fill(w->files[i].bytes, size, i + 1);
	info = store_test_put(w->slow.inner, w->files[i].key, w->files[i].bytes, size);
	w->files[i].ref.key = w->files[i].key;
	strcpy(w->files[i].ref.version, info.version);
	return i;
}

static ssize_t raw_read(struct world *w, struct op_ctx *op, unsigned int i, uint64_t off, void *buf,
			size_t len)
{
	return block_cache_read(w->c, op, w->s, &w->files[i].ref, w->files[i].size, off, buf, len);
}

static void expect(struct world *w, unsigned int i, uint64_t off, size_t len)
{
	size_t size = w->files[i].size, want = off < size ? MFS_MIN(len, size - off) : 0;
	char *buf = malloc(len + 1);
	ssize_t n;

	assert_non_null(buf);
	memset(buf, 0xee, len + 1);
	n = raw_read(w, NULL, i, off, buf, len);
	assert_int_equal(n, want);
	if (want)
		assert_memory_equal(buf, w->files[i].bytes + off, want);
	assert_int_equal((unsigned char)buf[want], 0xee);
	free(buf);
}

/* As the kernel reads: requests of 128 KiB, each two in the wrong order. */
static void stream(struct world *w, unsigned int i)
{
	const size_t step = 128 << 10;

	for (uint64_t at = 0; at < w->files[i].size; at += 2 * step) {
		if (at + step < w->files[i].size)
			expect(w, i, at + step, step);
		expect(w, i, at, step);
	}
}

static struct block_cache_stats stats(struct world *w)
{
	struct block_cache_stats st;

	block_cache_stats(w->c, &st);
	return st;
}

/* What was read beside the reader is on disk by now. */
static void await_blocks(struct world *w, unsigned int n)
{
	for (unsigned int k = 0; stats(w).blocks < n && k < 5000; k++)
		usleep(1000);
	assert_int_equal(stats(w).blocks, n);
}

static unsigned int gets(struct world *w)
{
	return atomic_load(&w->slow.gets);
}

typedef void file_fn(const char *path, void *arg);

static unsigned int each_file(const char *dir, file_fn *fn, void *arg)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned int n = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		char *path;

		if (!mfs_str_ends(e->d_name, ".blk"))
			continue;
		n++;
		path = mfs_path_join(dir, e->d_name);
		assert_non_null(path);
		if (fn)
			fn(path, arg);
		free(path);
	}
	closedir(d);
	return n;
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void add_blocks(const char *path, void *arg)
{
	struct stat st;

	if (stat(path, &st) == 0) /* others evict */
		*(uint64_t *)arg += (uint64_t)st.st_blocks * 512;
}

/* --- tests --- */

static void test_second_read_is_a_hit(void **state)
{
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, 3 * B + 5000);

	(void)state;
	expect(w, i, 0, 3 * B + 5000);
	assert_int_equal(gets(w), 4);
	await_blocks(w, 4);
	expect(w, i, 0, 3 * B + 5000);
	expect(w, i, 100, 10);
	expect(w, i, B - 5, 10);
	expect(w, i, 2 * B + 65530, 70000);
	expect(w, i, 3 * B + 4990, 100);
	assert_int_equal(gets(w), 4);
	assert_int_equal(stats(w).bad, 0);
	assert_true(stats(w).hits >= 9);
	assert_int_equal(stats(w).blocks, 4);
	assert_int_equal(block_cache_has(w->c, &w->files[i].ref, w->files[i].size), 3 * B + 5000);
	block_cache_evict(w->c, &w->files[i].ref, w->files[i].size);
	assert_int_equal(block_cache_has(w->c, &w->files[i].ref, w->files[i].size), 0);
	assert_int_equal(each_file(w->dir, NULL, NULL), 0);
	assert_int_equal(stats(w).bytes, 0);
	expect(w, i, 0, 3 * B + 5000);
	assert_int_equal(gets(w), 8);
	free_world(w);
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 4095, 65536, 65537, B - 1, B, B + 1, 2 * B, 2 * B + 77 };
	struct world *w = open_world(64 * B);

	(void)state;
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(sizes); k++) {
		unsigned int i = add(w, sizes[k]), n;

		expect(w, i, 0, sizes[k] + 100);
		n = gets(w);
		expect(w, i, 0, sizes[k] + 100);
		expect(w, i, sizes[k], 10);
		expect(w, i, sizes[k] + 12345678, 10);
		if (sizes[k])
			expect(w, i, sizes[k] - 1, 1);
		assert_int_equal(gets(w), n);
	}
	assert_int_equal(stats(w).bad, 0);
	free_world(w);
}

static void test_without_a_cache(void **state)
{
	struct world *w = open_world(0);
	unsigned int i = add(w, B + 3);

	(void)state;
	expect(w, i, 5, B);
	expect(w, i, 5, B);
	assert_int_equal(gets(w), 2);
	assert_int_equal(each_file(w->dir, NULL, NULL), 0);
	w->dirs = "";
	w->limit = 8 * B;
	reopen(w);
	expect(w, i, 5, B);
	block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, 0, B);
	block_cache_evict(w->c, &w->files[i].ref, w->files[i].size);
	assert_int_equal(gets(w), 3);
	block_cache_close(w->c);
	w->c = NULL;
	expect(w, i, 5, B);
	assert_int_equal(gets(w), 4);
	assert_int_equal(stats(w).blocks, 0);
	free_world(w);
}

static void make_file(struct world *w, const char *name, const char *text)
{
	char *path = mfs_path_join(w->dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	free(path);
}

static bool has_file(struct world *w, const char *name)
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
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, 5 * B + 9), k = add(w, 100), n;
	uint64_t bytes;

	(void)state;
	expect(w, i, 0, 6 * B);
	expect(w, k, 0, 100);
	await_blocks(w, 7);
	bytes = stats(w).bytes;
	for (unsigned int f = 0; f < MFS_ARRAY_LEN(foreign); f++)
		make_file(w, foreign[f], "x");
	make_file(w, "mfs-tmp-0000002a", "half");
	reopen(w);
	assert_int_equal(stats(w).blocks, 7);
	assert_int_equal(stats(w).bytes, bytes);
	n = gets(w);
	expect(w, i, 0, 6 * B);
	expect(w, k, 0, 100);
	assert_int_equal(gets(w), n);
	assert_int_equal(stats(w).bad, 0);
	for (unsigned int f = 0; f < MFS_ARRAY_LEN(foreign); f++)
		assert_true(has_file(w, foreign[f]));
	assert_false(has_file(w, "mfs-tmp-0000002a"));
	/* A smaller cache: what does not fit goes. */
	w->limit = 3 * B + 65536;
	reopen(w);
	assert_true(stats(w).bytes <= w->limit && stats(w).blocks >= 3);
	assert_int_equal(each_file(w->dir, NULL, NULL), stats(w).blocks + 4); /* .blk of foreign */
	expect(w, i, 0, 6 * B);
	free_world(w);
}

static void test_other_volume_other_version(void **state)
{
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, 1000), k;
	struct block_cache_options opt = { .dirs = w->dir, .size = w->limit, .volume = "another" };
	char *reason = NULL;

	(void)state;
	expect(w, i, 0, 1000);
	k = add(w, 1000); /* the same key, newer: */
	w->files[k].ref.key = w->files[i].key;
	{
		struct object_info info =
			store_test_put(w->slow.inner, w->files[i].key, w->files[k].bytes, 1000);

		strcpy(w->files[k].ref.version, info.version);
	}
	expect(w, k, 0, 1000);
	expect(w, i, 0, 1000);
	assert_int_equal(gets(w), 2);
	block_cache_close(w->c);
	assert_int_equal(block_cache_open(&opt, &w->c, &reason), 0);
	expect(w, i, 0, 1000);
	assert_int_equal(gets(w), 3);
	assert_int_equal(stats(w).bad, 0);
	free_world(w);
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
	flip(path, file_size(path) - 1);
}

static void cut_last(const char *path, void *arg)
{
	(void)arg;
	assert_int_equal(truncate(path, (off_t)file_size(path) - 1), 0);
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

static void delete_it(const char *path, void *arg)
{
	(void)arg;
	assert_int_equal(unlink(path), 0);
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

static void damage(struct world *w, const char *what, file_fn *fn, void *arg)
{
	unsigned int n;

	for (unsigned int i = 0; i < w->n; i++)
		expect(w, i, 0, w->files[i].size);
	await_blocks(w, 4);
	n = each_file(w->dir, fn, arg);
	assert_true(n >= 4);
	for (unsigned int i = 0; i < w->n; i++)
		expect(w, i, 0, w->files[i].size);
	if (stats(w).bad != n)
		print_error("%s: %u damaged, %u found\n", what, n, (unsigned int)stats(w).bad);
	assert_int_equal(stats(w).bad, n);
	await_blocks(w, 4);
	n = gets(w);
	for (unsigned int i = 0; i < w->n; i++)
		expect(w, i, 0, w->files[i].size);
	reopen(w); /* also: nothing of the damage comes back */
	for (unsigned int i = 0; i < w->n; i++)
		expect(w, i, 0, w->files[i].size);
	assert_int_equal(gets(w), n);
	assert_int_equal(stats(w).bad, 0);
	assert_false(stats(w).degraded);
}

static void test_damaged_blocks_are_misses(void **state)
{
	static const uint64_t at[] = { 0, 8, 16, 60, 160, 176, 184, 192, 300, 511 };
	off_t cuts[] = { 0, 100, 512, 513 };
	struct world *w = open_world(64 * B);
	char *last = NULL;

	(void)state;
	add(w, 2 * B);
	add(w, 2 * B);
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(at); k++)
		damage(w, "a bit of the header", flip_header, (void *)(uintptr_t)&at[k]);
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(cuts); k++)
		damage(w, "cut", cut_to, &cuts[k]);
	damage(w, "first byte", flip_first, NULL);
	damage(w, "last byte", flip_last, NULL);
	damage(w, "last byte cut", cut_last, NULL);
	damage(w, "zeros", zeros, NULL);
	damage(w, "deleted", delete_it, NULL);
	damage(w, "swapped", rotate, &last);
	damage(w, "links", make_link_of, NULL);
	damage(w, "folders", make_dir_of, NULL);
	free(last);
	free_world(w);
}

/* A read of a part verifies that part: elsewhere in the block a flipped bit waits for its reader. */
static void test_part_of_a_block(void **state)
{
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, B);

	(void)state;
	expect(w, i, 0, B);
	each_file(w->dir, flip_last, NULL);
	expect(w, i, 0, 65536);
	assert_int_equal(stats(w).bad, 0);
	expect(w, i, B - 65536 - 1, 2); /* reaches into the last cell by a byte */
	assert_int_equal(stats(w).bad, 1);
	assert_int_equal(gets(w), 2);
	free_world(w);
}

/* --- bounds and eviction --- */

/* A small cache does not fetch further ahead than it can keep until it is read. */
static void test_prefetch_does_not_push_itself_out(void **state)
{
	struct world *w = open_world(8 * B);
	unsigned int i = add(w, 40 * B);

	(void)state;
	for (uint64_t at = 0; at < 40 * B; at += 128 << 10) {
		block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, at, 16 * B);
		usleep(500);
		expect(w, i, at, 128 << 10);
	}
	assert_true(gets(w) <= 42);
	assert_true(stats(w).prefetched >= 20);
	free_world(w);
}

/* In a mount namespace of this process alone, so nothing of it outlives it. Skips the test where that cannot be had. */
static void mount_small(struct world *w, const char *options)
{
	if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    mount("none", w->dir, "tmpfs", 0, options) == 0)
		return;
	print_message("skipped: cannot have a small tmpfs here (%s)\n", strerror(errno));
	free_world(w);
	skip();
}

static void unmount(struct world *w)
{
	block_cache_close(w->c);
	w->c = NULL;
	assert_int_equal(umount2(w->dir, MNT_DETACH), 0);
}

#define N_LOADS 6

struct load {
	struct world *w;
	atomic_bool *stop;
	unsigned int seed;
};

static void *load_main(void *arg)
{
	struct load *l = arg;
	struct world *w = l->w;
	char *buf = malloc(300000);
	uint64_t h = l->seed;

	for (unsigned int n = 0; n < 600; n++) {
		unsigned int i;
		uint64_t off;
		size_t len;

		h = mfs_hash_u64(h + 1);
		i = (unsigned int)(h % w->n);
		off = (h >> 8) % w->files[i].size;
		len = (h >> 40) % 300000;
		len = MFS_MIN(len, w->files[i].size - off);
		if (raw_read(w, NULL, i, off, buf, len) != (ssize_t)len ||
		    memcmp(buf, w->files[i].bytes + off, len) != 0)
			abort();
		if (n % 20 == 3)
			block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, off, 3 * B);
		if (n % 50 == 7)
			block_cache_evict(w->c, &w->files[i].ref, w->files[i].size);
		if (n % 30 == 9)
			(void)block_cache_has(w->c, &w->files[i].ref, w->files[i].size);
	}
	free(buf);
	return NULL;
}

/* By statvfs, at one moment; a file that is deleted while one of the six reads it counts until it is closed. */
static void *watch_main(void *arg)
{
	struct load *l = arg;

	while (!atomic_load(l->stop)) {
		uint64_t most = l->w->limit + N_LOADS * (B + 4096) + 4096; /* the lock */
		struct statvfs st;
		uint64_t bytes;

		if (statvfs(l->w->dir, &st) < 0)
			abort();
		bytes = (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
		if (bytes > most || stats(l->w).bytes > l->w->limit) {
			print_error("%llu bytes on disk, more than %llu\n", (unsigned long long)bytes,
				    (unsigned long long)most);
			abort();
		}
		usleep(500);
	}
	return NULL;
}

static void test_bound_holds_under_load(void **state)
{
	struct world *w = new_world(8 * B);
	pthread_t threads[N_LOADS], watcher;
	struct load loads[N_LOADS], watch;
	atomic_bool stop = false;

	(void)state;
	mount_small(w, "size=200m,mode=0700");
	reopen(w);
	for (unsigned int k = 0; k < 5; k++)
		add(w, 4 * B + k * 1000);
	for (unsigned int k = 0; k < 10; k++)
		add(w, 1 + k * 9000);
	watch = (struct load){ .w = w, .stop = &stop };
	assert_int_equal(pthread_create(&watcher, NULL, watch_main, &watch), 0);
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(threads); k++) {
		loads[k] = (struct load){ .w = w, .seed = k };
		assert_int_equal(pthread_create(&threads[k], NULL, load_main, &loads[k]), 0);
	}
	for (unsigned int k = 0; k < MFS_ARRAY_LEN(threads); k++)
		pthread_join(threads[k], NULL);
	atomic_store(&stop, true);
	pthread_join(watcher, NULL);
	assert_int_equal(stats(w).bad, 0);
	assert_true(stats(w).hits && stats(w).evicted && stats(w).prefetched);
	block_cache_close(w->c);
	w->c = NULL;
	reopen(w);
	assert_int_equal(each_file(w->dir, NULL, NULL), stats(w).blocks);
	unmount(w);
	free_world(w);
}

static unsigned int gets_of(struct world *w, unsigned int i)
{
	unsigned int n = gets(w);

	stream(w, i);
	return gets(w) - n;
}

/* What was read twice stays while streams of many times the cache's size pass; and a new hot set replaces the old. */
static void scan_resistance(uint64_t limit, unsigned int hot_blocks)
{
	struct world *w = open_world(limit);
	unsigned int hot = add(w, hot_blocks * B), big = add(w, limit * 3), other;

	stream(w, hot);
	stream(w, hot);
	for (unsigned int k = 0; k < 3; k++) {
		assert_int_equal(gets_of(w, big), limit * 3 / B);
		assert_int_equal(gets_of(w, hot), 0);
	}
	other = add(w, hot_blocks * B);
	for (unsigned int k = 0; k < 12; k++)
		stream(w, other);
	stream(w, big);
	assert_int_equal(gets_of(w, other), 0);
	free_world(w);
}

static void test_stream_does_not_flush_the_hot_set(void **state)
{
	(void)state;
	scan_resistance(8 * B, 2);
	scan_resistance(40 * B, 24); /* both hot sets together would not fit */
}

/* What is read again soon after it went stays then, also when it is fetched ahead; a reader's second half is no second time. */
static void test_ghosts(void **state)
{
	for (unsigned int ahead = 0; ahead < 2; ahead++) {
		struct world *w = open_world(20 * B);
		unsigned int a = add(w, B), half = add(w, B), pass = add(w, 22 * B), big = add(w, 60 * B), n;

		(void)state;
		expect(w, a, 0, B);
		expect(w, half, 0, B / 2);
		stream(w, pass); /* both go */
		n = gets(w);
		if (ahead) {
			block_cache_prefetch(w->c, w->s, &w->files[a].ref, B, 0, B);
			for (unsigned int k = 0; !stats(w).prefetched && k < 5000; k++)
				usleep(1000);
		}
		expect(w, a, 0, B);
		expect(w, half, B / 2, B / 2);
		assert_int_equal(gets(w), n + 2);
		stream(w, big);
		n = gets(w);
		expect(w, a, 0, B);
		assert_int_equal(gets(w), n);
		expect(w, half, 0, B);
		assert_int_equal(gets(w), n + 1);
		free_world(w);
	}
}

/* --- one fetch --- */

struct reader {
	struct world *w;
	unsigned int file;
	uint64_t off;
	struct op_ctx *op;
	ssize_t r;
	char buf[1000];
	pthread_t thread;
};

static void *reader_main(void *arg)
{
	struct reader *x = arg;

	x->r = raw_read(x->w, x->op, x->file, x->off, x->buf, sizeof(x->buf));
	return NULL;
}

static void start(struct reader *x, struct world *w, unsigned int file, uint64_t off, struct op_ctx *op)
{
	*x = (struct reader){ .w = w, .file = file, .off = off, .op = op };
	assert_int_equal(pthread_create(&x->thread, NULL, reader_main, x), 0);
}

static void finish(struct reader *x, ssize_t want)
{
	pthread_join(x->thread, NULL);
	assert_int_equal(x->r, want);
	if (want > 0)
		assert_memory_equal(x->buf, x->w->files[x->file].bytes + x->off, (size_t)want);
}

static void test_two_readers_one_fetch(void **state)
{
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, B);
	struct reader x[8];

	(void)state;
	slow_hold(&w->slow, true);
	for (unsigned int k = 0; k < 8; k++)
		start(&x[k], w, i, k * 100000, NULL);
	slow_await(&w->slow, 1);
	usleep(20000);
	slow_hold(&w->slow, false);
	for (unsigned int k = 0; k < 8; k++)
		finish(&x[k], 1000);
	assert_int_equal(gets(w), 1);
	assert_int_equal(stats(w).blocks, 1);
	free_world(w);
}

/* Who took a block from another's fetch has read it: when he reads it again, it is wanted again. */
static void test_waiter_has_read_the_block(void **state)
{
	struct world *w = open_world(16 * B);
	unsigned int hot = add(w, B), big = add(w, 48 * B), n;
	struct reader x;

	(void)state;
	slow_hold(&w->slow, true);
	block_cache_prefetch(w->c, w->s, &w->files[hot].ref, B, 0, B);
	slow_await(&w->slow, 1);
	start(&x, w, hot, 5000, NULL);
	usleep(20000);
	slow_hold(&w->slow, false);
	finish(&x, 1000);
	await_blocks(w, 1);
	expect(w, hot, 5000, 1000);
	assert_int_equal(gets(w), 1);
	stream(w, big);
	n = gets(w);
	expect(w, hot, 5000, 1000);
	assert_int_equal(gets(w), n);
	free_world(w);
}

static void test_waiter_can_leave(void **state)
{
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, B);
	struct op_ctx late = { .deadline_ns = mfs_mono_ns() + 30 * 1000 * 1000 }, stopped = { 0 },
		      first_op = { 0 };
	struct reader first, timed, cancelled, other;

	(void)state;
	slow_hold(&w->slow, true);
	start(&first, w, i, 0, &first_op);
	slow_await(&w->slow, 1);
	start(&timed, w, i, 5, &late);
	start(&cancelled, w, i, 5, &stopped);
	start(&other, w, i, 50000, NULL);
	finish(&timed, -ETIMEDOUT);
	atomic_store(&stopped.cancelled, true);
	finish(&cancelled, -ECANCELED);
	/* Who fetches is cancelled: who waits fetches for himself. */
	atomic_store(&first_op.cancelled, true);
	slow_hold(&w->slow, false);
	finish(&first, -ECANCELED);
	finish(&other, 1000);
	assert_int_equal(gets(w), 2);
	free_world(w);
}

static void test_error_is_not_kept(void **state)
{
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, B + 10);
	struct reader x[3];
	char buf[64];

	(void)state;
	slow_hold(&w->slow, true);
	atomic_store(&w->slow.fail, EIO);
	for (unsigned int k = 0; k < 3; k++)
		start(&x[k], w, i, 0, NULL);
	slow_await(&w->slow, 1);
	usleep(20000);
	slow_hold(&w->slow, false);
	for (unsigned int k = 0; k < 3; k++)
		finish(&x[k], -EIO);
	assert_int_equal(raw_read(w, NULL, i, 0, buf, sizeof(buf)), -EIO);
	atomic_store(&w->slow.fail, 0);
	assert_int_equal(stats(w).blocks, 0);
	assert_false(stats(w).degraded);
	expect(w, i, 0, B + 10);
	/* Missing in the store: said so, and not hidden by a cached block. */
	w->files[i].ref.version[0] ^= 1;
	assert_int_equal(raw_read(w, NULL, i, 0, buf, sizeof(buf)), -ENOENT);
	w->files[i].ref.version[0] ^= 1;
	free_world(w);
}

/* The nth get fails, for each n: the caller gets the error or bytes that are right. */
static void test_each_get_fails_once(void **state)
{
	(void)state;
	for (unsigned int nth = 1;; nth++) {
		struct world *w = open_world(64 * B);
		unsigned int i = add(w, 3 * B), hits;
		char *buf = malloc(3 * B);
		ssize_t n;

		assert_int_equal(fault_store_new(w->slow.inner, nth, ETIMEDOUT, &w->slow.inner), 0);
		n = raw_read(w, NULL, i, 0, buf, 3 * B);
		if (n < 0)
			assert_int_equal(n, -ETIMEDOUT);
		else
			assert_memory_equal(buf, w->files[i].bytes, (size_t)n);
		block_cache_close(w->c); /* prefetches under way */
		hits = fault_store_hits(w->slow.inner);
		w->c = NULL;
		reopen(w);
		expect(w, i, 0, 3 * B);
		expect(w, i, 0, 3 * B);
		free(buf);
		free_world(w);
		if (!hits)
			break;
		assert_true(nth < 20);
	}
}

/* An object that is shorter than the index says: what there is, and nothing of it kept. */
static void test_short_object(void **state)
{
	struct world *w = open_world(64 * B);
	unsigned int i = add(w, B / 2);
	char *buf = malloc(B);

	(void)state;
	assert_int_equal(block_cache_read(w->c, NULL, w->s, &w->files[i].ref, 2 * B, 0, buf, B), B / 2);
	assert_memory_equal(buf, w->files[i].bytes, B / 2);
	assert_int_equal(stats(w).blocks, 0);
	free(buf);
	free_world(w);
}

static void test_prefetch(void **state)
{
	struct world *w = open_world(256 * B);
	unsigned int i = add(w, 6 * B + 1);

	(void)state;
	block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, B + 5, UINT64_MAX);
	for (unsigned int k = 0; stats(w).prefetched < 6 && k < 5000; k++)
		usleep(1000);
	assert_int_equal(stats(w).prefetched, 6);
	assert_int_equal(gets(w), 6);
	expect(w, i, B, 6 * B);
	assert_int_equal(gets(w), 6);
	expect(w, i, 0, 7 * B);
	assert_int_equal(gets(w), 7);
	free_world(w);
}

static void *release_soon(void *arg)
{
	usleep(30000);
	slow_hold(arg, false);
	return NULL;
}

/* More than the queue holds is dropped; closing does not fetch what still waits. */
static void test_prefetch_is_bounded(void **state)
{
	struct world *w = open_world(512 * B);
	unsigned int i = add(w, 200 * B);
	pthread_t t;

	(void)state;
	slow_hold(&w->slow, true);
	block_cache_prefetch(w->c, w->s, &w->files[i].ref, w->files[i].size, 0, 200 * B);
	slow_await(&w->slow, 8);
	assert_int_equal(pthread_create(&t, NULL, release_soon, &w->slow), 0);
	block_cache_close(w->c);
	w->c = NULL;
	pthread_join(t, NULL);
	assert_true(gets(w) <= 8);
	free_world(w);
}

/* --- folders --- */

static void test_locked_folder(void **state)
{
	struct world *w = open_world(8 * B);
	struct block_cache *other = NULL;
	char *reason = NULL, pid[32], *dirs;

	(void)state;
	assert_int_equal(try_open(w, &other, &reason), -EBUSY);
	assert_non_null(reason);
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	assert_non_null(strstr(reason, pid));
	assert_non_null(strstr(reason, w->dir));
	free(reason);
	reopen(w);
	/* Of several folders the second: nothing stays locked. */
	block_cache_close(w->c);
	w->c = NULL;
	dirs = mfs_str_printf("%s/a:%s/b:%s/a", w->dir, w->dir, w->dir);
	w->dirs = dirs;
	reason = NULL;
	assert_int_equal(try_open(w, &other, &reason), -EBUSY);
	free(reason);
	free(dirs);
	dirs = mfs_str_printf("%s/a:%s/b", w->dir, w->dir);
	w->dirs = dirs;
	reopen(w);
	block_cache_close(w->c);
	w->c = NULL;
	w->dirs = NULL;
	free(dirs);
	free_world(w);
}

static void refused(struct world *w, const char *dirs, int want)
{
	struct block_cache *other = NULL;
	char *reason = NULL;

	w->dirs = dirs;
	assert_int_equal(try_open(w, &other, &reason), want);
	assert_non_null(reason);
	assert_non_null(strstr(reason, dirs));
	free(reason);
	w->dirs = NULL;
}

static void test_folders_that_are_refused(void **state)
{
	struct world *w = open_world(8 * B);
	char *open_dir = mfs_path_join(w->dir, "open"), *file = mfs_path_join(w->dir, "file"),
	     *deep = mfs_path_join(w->dir, "a/b/c");
	struct stat st;

	(void)state;
	refused(w, "relative", -EINVAL);
	assert_int_equal(mkdir(open_dir, 0777), 0);
	assert_int_equal(chmod(open_dir, 0777), 0);
	refused(w, open_dir, -EACCES);
	make_file(w, "file", "");
	refused(w, file, -ENOTDIR);
	w->dirs = deep;
	reopen(w);
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	block_cache_close(w->c);
	w->c = NULL;
	free(open_dir);
	free(file);
	free(deep);
	free_world(w);
}

static void test_several_folders(void **state)
{
	struct world *w = new_world(64 * B);
	char *a = mfs_path_join(w->dir, "a"), *b = mfs_path_join(w->dir, "b"),
	     *dirs = mfs_str_printf("%s:%s/", a, b);
	unsigned int i = add(w, 40 * B), in_a, in_b;

	(void)state;
	w->dirs = dirs;
	reopen(w);
	expect(w, i, 0, 40 * B);
	await_blocks(w, 40);
	in_a = each_file(a, NULL, NULL);
	in_b = each_file(b, NULL, NULL);
	assert_int_equal(in_a + in_b, 40);
	assert_true(in_a > 5 && in_b > 5);
	reopen(w);
	expect(w, i, 0, 40 * B);
	assert_int_equal(gets(w), 40);
	/* The bound is one over both. */
	w->limit = 10 * B;
	reopen(w);
	assert_true(each_file(a, NULL, NULL) + each_file(b, NULL, NULL) <= 9);
	expect(w, i, 0, 40 * B);
	assert_true(each_file(a, NULL, NULL) + each_file(b, NULL, NULL) <= 9);
	block_cache_close(w->c);
	w->c = NULL;
	w->dirs = NULL;
	free(a);
	free(b);
	free(dirs);
	free_world(w);
}

static void test_folder_vanishes_and_comes_back(void **state)
{
	struct world *w = new_world(64 * B);
	char *dir = mfs_path_join(w->dir, "cache"), *aside = mfs_path_join(w->dir, "aside");
	unsigned int i = add(w, 3 * B), n;

	(void)state;
	w->dirs = dir;
	w->retry_ns = 50 * 1000 * 1000;
	reopen(w);
	expect(w, i, 0, 3 * B);
	assert_int_equal(rename(dir, aside), 0);
	each_file(aside, delete_it, NULL);
	expect(w, i, 0, 3 * B); /* noticed here */
	assert_true(stats(w).degraded);
	assert_int_equal(stats(w).blocks, 0);
	assert_int_equal(stats(w).folders_off, 1);
	n = gets(w);
	expect(w, i, 10, 10);
	assert_int_equal(gets(w), n + 1);
	for (unsigned int k = 0; stats(w).degraded && k < 500; k++) {
		usleep(10000);
		expect(w, i, 10, 10);
	}
	assert_false(stats(w).degraded); /* made again */
	expect(w, i, 0, 3 * B);
	n = gets(w);
	expect(w, i, 0, 3 * B);
	assert_int_equal(gets(w), n);
	assert_int_equal(each_file(dir, NULL, NULL), 3);
	block_cache_close(w->c);
	w->c = NULL;
	w->dirs = NULL;
	free(dir);
	free(aside);
	free_world(w);
}

static void full_disk(const char *options, unsigned int free_percent)
{
	struct world *w = new_world(64 * B);
	unsigned int i = add(w, 30 * B), k = add(w, 2 * B), n;

	mount_small(w, options);
	w->free_percent = free_percent;
	w->retry_ns = 200 * 1000 * 1000;
	reopen(w);
	for (unsigned int round = 0; round < 3; round++) {
		stream(w, k);
		stream(w, i);
		expect(w, i, 7 * B - 100, 12 * B);
	}
	assert_int_equal(stats(w).bad, 0);
	assert_true(stats(w).blocks > 0);
	assert_int_equal(stats(w).folders_off, 0);
	/* Somebody else takes all there is. */
	{
		char *path = mfs_path_join(w->dir, "hog"), page[4096] = "";
		int fd = open(path, O_WRONLY | O_CREAT, 0600);

		while (fd >= 0 && write(fd, page, sizeof(page)) > 0)
			;
		if (fd >= 0) /* else there is no inode for it */
			close(fd);
		for (unsigned int round = 0; round < 3; round++) {
			stream(w, i);
			stream(w, k);
		}
		reopen(w); /* on a full disk */
		stream(w, i);
		assert_int_equal(fd >= 0 ? unlink(path) : 0, 0);
		free(path);
	}
	for (unsigned int t = 0; t < 300; t++) {
		stream(w, k);
		if (!stats(w).degraded && block_cache_has(w->c, &w->files[k].ref, 2 * B) == 2 * B)
			break;
		usleep(10000);
	}
	n = gets(w);
	stream(w, k);
	assert_int_equal(gets(w), n);
	unmount(w);
	free_world(w);
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
	struct world *w = new_world(64 * B);
	unsigned int i = add(w, 30 * B);
	uint64_t bytes = 0;

	(void)state;
	mount_small(w, "size=16m,mode=0700");
	w->free_percent = 50;
	reopen(w);
	for (unsigned int k = 0; k < 3; k++) {
		stream(w, i);
		bytes = 0;
		each_file(w->dir, add_blocks, &bytes);
		assert_true(bytes <= 8 * B && bytes >= 6 * B);
	}
	assert_false(stats(w).degraded);
	unmount(w);
	free_world(w);
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
		cmocka_unit_test(test_bound_holds_under_load),
		cmocka_unit_test(test_stream_does_not_flush_the_hot_set),
		cmocka_unit_test(test_ghosts),
		cmocka_unit_test(test_two_readers_one_fetch),
		cmocka_unit_test(test_waiter_has_read_the_block),
		cmocka_unit_test(test_waiter_can_leave),
		cmocka_unit_test(test_error_is_not_kept),
		cmocka_unit_test(test_each_get_fails_once),
		cmocka_unit_test(test_short_object),
		cmocka_unit_test(test_prefetch),
		cmocka_unit_test(test_prefetch_does_not_push_itself_out),
		cmocka_unit_test(test_prefetch_is_bounded),
		cmocka_unit_test(test_locked_folder),
		cmocka_unit_test(test_folders_that_are_refused),
		cmocka_unit_test(test_several_folders),
		cmocka_unit_test(test_folder_vanishes_and_comes_back),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_free_space_floor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
