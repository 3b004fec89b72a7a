/* A block cache over a store in memory that counts its gets, and can hold or fail them. */
#ifndef MASSFS_TESTS_CACHE_WORLD_H
#define MASSFS_TESTS_CACHE_WORLD_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/object_store.h"
#include "common/sync.h"
#include "fs/block_cache.h"

#define B    BLOCK_CACHE_BLOCK
#define UUID "6f1c7a52-0000-4000-8000-000000000001"

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

#define N_FILES 24

struct cache_world {
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

typedef void file_fn(const char *path, void *arg);

/* Gets wait. */
void slow_hold(struct slow_store *x, bool hold);
/* Until n of them do. */
void slow_await(struct slow_store *x, unsigned int n);
int cache_try_open(struct cache_world *w, struct block_cache **ret, char **reason);
void cache_reopen(struct cache_world *w);
/* Not opened yet. */
struct cache_world *cache_world_new(uint64_t limit);
struct cache_world *cache_world_open(uint64_t limit);
void cache_world_free(struct cache_world *w);
unsigned int cache_add(struct cache_world *w, size_t size);
ssize_t cache_raw_read(struct cache_world *w, struct op_ctx *op, unsigned int i, uint64_t off, void *buf,
		       size_t len);
/* What is read is what was put. */
void cache_expect(struct cache_world *w, unsigned int i, uint64_t off, size_t len);
/* As the kernel reads. */
void cache_stream(struct cache_world *w, unsigned int i);
struct block_cache_stats cache_stats(struct cache_world *w);
/* What was read beside the reader is on disk by now. */
void cache_await_blocks(struct cache_world *w, unsigned int n);
unsigned int cache_gets(struct cache_world *w);
/* Of the blocks in a folder; how many. fn may be NULL. */
unsigned int cache_each_file(const char *dir, file_fn *fn, void *arg);
uint64_t cache_file_size(const char *path);
/* For cache_each_file(): to a uint64_t, what it takes on disk. */
void cache_add_blocks(const char *path, void *arg);
void cache_make_file(struct cache_world *w, const char *name, const char *text);
void cache_delete_it(const char *path, void *arg);
/* A tmpfs over the folder. */
void cache_mount_small(struct cache_world *w, const char *options);
void cache_unmount(struct cache_world *w);

#endif
