/*
 * A block cache over a store in memory.
 */
#include "tests/lib/cache_world.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"
#include "tests/lib/store_suite.h"

/* --- a store that counts its gets, and can hold or fail them --- */

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

void slow_hold(struct slow_store *x, bool hold)
{
	MFS_GUARD(&x->lock);
	x->hold = hold;
	pthread_cond_broadcast(&x->moved);
}

void slow_await(struct slow_store *x, unsigned int n)
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

int cache_try_open(struct cache_world *w, struct block_cache **ret, char **reason)
{
	struct block_cache_options opt = { .dirs = w->dirs ? w->dirs : w->dir,
					   .size = w->limit,
					   .volume = UUID };

	opt.free_percent = w->free_percent;
	opt.retry_ns = w->retry_ns;
	return block_cache_open(&opt, ret, reason);
}

void cache_reopen(struct cache_world *w)
{
	char *reason = NULL;
	int r;

	block_cache_close(w->c);
	w->c = NULL;
	r = cache_try_open(w, &w->c, &reason);
	if (r)
		print_error("open: %s\n", reason ? reason : strerror(-r));
	free(reason);
	assert_int_equal(r, 0);
}

/* Not opened yet. */
struct cache_world *cache_world_new(uint64_t limit)
{
	struct cache_world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	slow_init(&w->slow);
	w->s = &w->slow.base;
	w->dir = store_test_dir();
	w->limit = limit;
	return w;
}

struct cache_world *cache_world_open(uint64_t limit)
{
	struct cache_world *w = cache_world_new(limit);

	cache_reopen(w);
	return w;
}

void cache_world_free(struct cache_world *w)
{
	block_cache_close(w->c);
	for (unsigned int i = 0; i < w->n; i++)
		free(w->files[i].bytes);
	slow_release(&w->slow);
	store_test_remove(w->dir);
	free(w);
}

unsigned int cache_add(struct cache_world *w, size_t size)
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

ssize_t cache_raw_read(struct cache_world *w, struct op_ctx *op, unsigned int i, uint64_t off, void *buf,
		       size_t len)
{
	return block_cache_read(w->c, op, w->s, &w->files[i].ref, w->files[i].size, off, buf, len);
}

void cache_expect(struct cache_world *w, unsigned int i, uint64_t off, size_t len)
{
	size_t size = w->files[i].size, want = off < size ? MFS_MIN(len, size - off) : 0;
	char *buf = malloc(len + 1);
	ssize_t n;

	assert_non_null(buf);
	memset(buf, 0xee, len + 1);
	n = cache_raw_read(w, NULL, i, off, buf, len);
	assert_int_equal(n, want);
	if (want)
		assert_memory_equal(buf, w->files[i].bytes + off, want);
	assert_int_equal((unsigned char)buf[want], 0xee);
	free(buf);
}

/* As the kernel reads: requests of 128 KiB, each two in the wrong order. */
void cache_stream(struct cache_world *w, unsigned int i)
{
	const size_t step = 128 << 10;

	for (uint64_t at = 0; at < w->files[i].size; at += 2 * step) {
		if (at + step < w->files[i].size)
			cache_expect(w, i, at + step, step);
		cache_expect(w, i, at, step);
	}
}

struct block_cache_stats cache_stats(struct cache_world *w)
{
	struct block_cache_stats st;

	block_cache_stats(w->c, &st);
	return st;
}

/* What was read beside the reader is on disk by now. */
void cache_await_blocks(struct cache_world *w, unsigned int n)
{
	for (unsigned int k = 0; cache_stats(w).blocks < n && k < 5000; k++)
		usleep(1000);
	assert_int_equal(cache_stats(w).blocks, n);
}

unsigned int cache_gets(struct cache_world *w)
{
	return atomic_load(&w->slow.gets);
}

unsigned int cache_each_file(const char *dir, file_fn *fn, void *arg)
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

uint64_t cache_file_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

void cache_add_blocks(const char *path, void *arg)
{
	struct stat st;

	if (stat(path, &st) == 0) /* others evict */
		*(uint64_t *)arg += (uint64_t)st.st_blocks * 512;
}

void cache_make_file(struct cache_world *w, const char *name, const char *text)
{
	char *path = mfs_path_join(w->dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	free(path);
}

void cache_delete_it(const char *path, void *arg)
{
	(void)arg;
	assert_int_equal(unlink(path), 0);
}

/* In a mount namespace of this process alone, so nothing of it outlives it. Skips the test where that cannot be had. */
void cache_mount_small(struct cache_world *w, const char *options)
{
	if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    mount("none", w->dir, "tmpfs", 0, options) == 0)
		return;
	print_message("skipped: cannot have a small tmpfs here (%s)\n", strerror(errno));
	cache_world_free(w);
	skip();
}

void cache_unmount(struct cache_world *w)
{
	block_cache_close(w->c);
	w->c = NULL;
	assert_int_equal(umount2(w->dir, MNT_DETACH), 0);
}
