/*
 * An ordered map from byte strings to values, with one open transaction that can be taken back: what the mem engine
 * keeps its records and indexes in. A skip list; not thread-safe, the engine's lock guards it.
 */
#ifndef MASSFS_META_MEM_MAP_H
#define MASSFS_META_MEM_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/defs.h"

#define MEM_KEY_MAX 1200

/* A key under construction: fixed parts are big-endian, so that the order of bytes is the order of numbers. */
struct mem_key {
	size_t len;
	uint8_t bytes[MEM_KEY_MAX];
};
struct mem_map;
struct mem_item;

void mem_key_start(struct mem_key *k, char kind);
void mem_key_u64(struct mem_key *k, uint64_t v);
/* -ENAMETOOLONG when it does not fit. */
int mem_key_bytes(struct mem_key *k, const void *p, size_t len) MFS_NODISCARD;

struct mem_map *mem_map_new(void) MFS_NODISCARD; /* NULL: no memory */
void mem_map_free(struct mem_map *m);

/* The first item with key >= k, and the one after an item; NULL: the end. */
const struct mem_item *mem_map_seek(const struct mem_map *m, const struct mem_key *k);
const struct mem_item *mem_item_next(const struct mem_item *i);
bool mem_item_has_prefix(const struct mem_item *i, const struct mem_key *prefix);
uint64_t mem_item_u64(const struct mem_item *i, size_t off); /* a number in the key */
size_t mem_item_key_len(const struct mem_item *i);
void mem_item_key(const struct mem_item *i, struct mem_key *ret);
const void *mem_item_value(const struct mem_item *i);

const void *mem_map_get(const struct mem_map *m, const struct mem_key *k, bool *ret_found);
/* Insert or replace. The map owns value from success on and frees it with free_value (NULL: nothing to free). */
int mem_map_put(struct mem_map *m, const struct mem_key *k, void *value, void (*free_value)(void *)) MFS_NODISCARD;
/* -ENOENT: not there. */
int mem_map_remove(struct mem_map *m, const struct mem_key *k) MFS_NODISCARD;

/* Keep all that was put and removed since the last of these two calls, or take it back. */
void mem_map_commit(struct mem_map *m);
void mem_map_rollback(struct mem_map *m);

#endif
