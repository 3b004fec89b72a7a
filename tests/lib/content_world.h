/*
 * One file on one or two mounts without FUSE: fs/content over the mem engine and a store. Short forms that must succeed,
 * and what a fresh open finds.
 */
#ifndef MASSFS_TESTS_CONTENT_WORLD_H
#define MASSFS_TESTS_CONTENT_WORLD_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/workers.h"
#include "fs/content.h"
#include "meta/layout.h"
#include "tests/lib/count_store.h"

enum store_kind {
	STORE_MEM,    /* parts anywhere, read by get */
	STORE_LOCAL,  /* localdir: descriptors, parts anywhere, readable before they are complete */
	STORE_REMOTE, /* as S3: parts in order, read by get */
	STORE_KINDS
};

struct world_options {
	enum store_kind store;
	unsigned int fail_nth; /* of the store's calls; 0: none */
	uint64_t budget;
	uint64_t inline_size;
};

/* One mount of it. */
struct world {
	char dir[64];
	struct mem_shared *shared;
	struct volume vol;
	struct object_store *fault; /* over `inner`; NULL: none */
	struct object_store *inner;
	struct count_stats stats;
	struct budget *budget;
	struct workers *uploaders;
	struct content_env env;
	struct mfs_config cfg;
	struct op_ctx op;
	mfs_ino_t ino;
	struct world *first; /* of a second mount: whose index and store it shares */
};

void world_open_opt(struct world *w, const struct world_options *o);
void world_open(struct world *w, enum store_kind kind, unsigned int fail_nth, uint64_t budget_bytes);
/* Another mount of the same volume. Closed before the first. */
void world_open_second(struct world *w, struct world *first, uint64_t budget_bytes);
void world_close(struct world *w);

struct content *open_writer(struct world *w);
void close_writer(struct content *c);
uint64_t rnd(uint64_t *s);
/* The file as a fresh open finds it. */
void assert_stored(struct world *w, const unsigned char *want, size_t size);
/* The record; release it. */
struct node file_node(struct world *w);
size_t count_versions(struct world *w);

/* len: in eights. */
void fill_random(unsigned char *buf, size_t len, uint64_t *seed);
/* A file with an object of `size` bytes, closed. Returns its bytes. */
unsigned char *make_random_file(struct world *w, size_t size);
/* Into the file and `bytes`, and flushed. */
void write_random(struct world *w, struct content *c, unsigned char *bytes, uint64_t off, size_t len, uint64_t *seed);
/* The layout as the index has it, whole, and the record; release both. */
struct layout file_layout(struct world *w, struct node *n);

#endif
