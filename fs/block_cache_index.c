/*
 * The block cache's index: which blocks are on disk, and which goes next. Memory only; the caller has the lock.
 *
 * A read of a stream comes as several reads of each block (the kernel's read-ahead, in no order). So a block counts as
 * wanted again only when bytes of it are read that were read before, and not as the continuation of the last read.
 */
#include "fs/block_cache_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"

#define PAGE	   4096u
#define WANTED_MAX 3
#define GHOST_WAYS 4

struct ghost {
	uint32_t print; /* 0: free */
	uint32_t time; /* ghost_clock then */
	uint16_t cells; /* that were read of it */
};

static uint64_t hash_of(const struct block_key *key)
{
	return mfs_hash_u64(key->id[0] ^ mfs_hash_u64(key->block));
}

static bool same_key(const struct block_key *a, const struct block_key *b)
{
	return a->id[0] == b->id[0] && a->id[1] == b->id[1] && a->block == b->block;
}

uint64_t block_cost(uint32_t len)
{
	return ((uint64_t)len + BLOCK_HEADER + PAGE - 1) / PAGE * PAGE;
}

int block_index_init(struct block_index *ix, uint64_t limit)
{
	uint64_t span = MFS_MIN(MFS_MAX(limit / BLOCK_CACHE_BLOCK, UINT64_C(4)), UINT64_C(1) << 24);

	*ix = (struct block_index){ .limit = limit, .n_buckets = 256, .ghost_span = (uint32_t)span };
	ix->small_target = MFS_MAX(limit / 10, MFS_MIN(limit / 3, 4 * BLOCK_CACHE_BLOCK));
	/* A cache full of small files must not take all memory. */
	ix->max_n = (size_t)MFS_MAX(limit / (64 * MFS_KIB), UINT64_C(256));
	for (ix->n_ghosts = GHOST_WAYS; ix->n_ghosts < span * 3 / 2;)
		ix->n_ghosts *= 2;
	ix->buckets = calloc(ix->n_buckets, sizeof(*ix->buckets));
	ix->ghosts = calloc(ix->n_ghosts, sizeof(*ix->ghosts));
	if (ix->buckets && ix->ghosts)
		return 0;
	block_index_release(ix);
	return -ENOMEM;
}

size_t block_index_ahead_max(const struct block_index *ix)
{
	return MFS_MAX((size_t)(ix->small_target / 2 / BLOCK_CACHE_BLOCK), (size_t)1);
}

void block_index_release(struct block_index *ix)
{
	for (unsigned int q = 0; q < N_QUEUES; q++) {
		struct block *b = ix->queues[q].newest;

		while (b) {
			struct block *older = b->older;

			free(b);
			b = older;
		}
	}
	free(ix->buckets);
	free(ix->ghosts);
	*ix = (struct block_index){ 0 };
}

static struct block **bucket_of(const struct block_index *ix, const struct block_key *key)
{
	return &ix->buckets[hash_of(key) & (ix->n_buckets - 1)];
}

struct block *block_index_find(const struct block_index *ix, const struct block_key *key)
{
	struct block *b = *bucket_of(ix, key);

	while (b && !same_key(&b->key, key))
		b = b->chain;
	return b;
}

void block_index_touch(struct block_index *ix, struct block *b, uint32_t off, uint32_t len)
{
	uint32_t first = off / BLOCK_CELL, last = (len ? off + len - 1 : off) / BLOCK_CELL;
	uint16_t cells = (uint16_t)(((2u << last) - 1) & ~((1u << first) - 1));
	bool again = (b->cells & cells) == cells && (b->unread || off != b->read_end);

	if (again && b->wanted < WANTED_MAX)
		b->wanted++;
	b->cells = again ? cells : b->cells | cells;
	b->read_end = off + len;
	ix->n_unread -= b->unread;
	b->unread = false;
}

/* --- ghosts --- */

static struct ghost *ghost_set(const struct block_index *ix, const struct block_key *key, uint32_t *ret_print)
{
	uint64_t h = hash_of(key);

	*ret_print = (uint32_t)(h >> 32) | 1;
	return &ix->ghosts[(h * GHOST_WAYS) & (ix->n_ghosts - 1)];
}

static void ghost_add(struct block_index *ix, const struct block *b)
{
	uint32_t print;
	struct ghost *set = ghost_set(ix, &b->key, &print), *oldest = set;

	for (unsigned int k = 0; k < GHOST_WAYS; k++) {
		if (!set[k].print || set[k].print == print) {
			oldest = &set[k];
			break;
		}
		if (ix->ghost_clock - set[k].time > ix->ghost_clock - oldest->time)
			oldest = &set[k];
	}
	*oldest = (struct ghost){ .print = print, .time = ix->ghost_clock++, .cells = b->cells };
}

/* What was read of it when it was here not long ago; then it no longer is a ghost. 0: it was not. */
static uint16_t ghost_take(struct block_index *ix, const struct block_key *key)
{
	uint32_t print;
	struct ghost *set = ghost_set(ix, key, &print);

	for (unsigned int k = 0; k < GHOST_WAYS; k++) {
		if (set[k].print != print)
			continue;
		set[k].print = 0;
		return ix->ghost_clock - set[k].time <= ix->ghost_span ? set[k].cells : 0;
	}
	return 0;
}

/* --- queues --- */

static void enqueue(struct block_index *ix, struct block *b, enum block_queue q)
{
	b->queue = (uint8_t)q;
	b->newer = NULL;
	b->older = ix->queues[q].newest;
	if (b->older)
		b->older->newer = b;
	else
		ix->queues[q].oldest = b;
	ix->queues[q].newest = b;
	ix->queues[q].bytes += block_cost(b->len);
}

static void dequeue(struct block_index *ix, struct block *b)
{
	if (b->newer)
		b->newer->older = b->older;
	else
		ix->queues[b->queue].newest = b->older;
	if (b->older)
		b->older->newer = b->newer;
	else
		ix->queues[b->queue].oldest = b->newer;
	ix->queues[b->queue].bytes -= block_cost(b->len);
}

static void grow(struct block_index *ix)
{
	size_t n_old = ix->n_buckets;
	struct block **old = ix->buckets, **new = calloc(n_old * 2, sizeof(*new));

	if (!new)
		return; /* longer chains, no more */
	ix->buckets = new;
	ix->n_buckets = n_old * 2;
	for (size_t k = 0; k < n_old; k++) {
		struct block *b = old[k];

		while (b) {
			struct block *next = b->chain, **to = bucket_of(ix, &b->key);

			b->chain = *to;
			*to = b;
			b = next;
		}
	}
	free(old);
}

/*
 * Bytes are read again that were read when it was here before: wanted. If it is brought in ahead, or a reader goes on in a
 * block that left under him, what was read then is kept for block_index_touch() to judge by.
 */
static enum block_queue queue_for(struct block_index *ix, struct block *b)
{
	uint16_t before = ghost_take(ix, &b->key);
	bool again = before & b->cells;

	if (!again)
		b->cells |= before;
	return again ? QUEUE_MAIN : QUEUE_SMALL;
}

int block_index_add(struct block_index *ix, const struct block *from, bool restored)
{
	struct block *b = malloc(sizeof(*b)), **to;

	if (!b)
		return -ENOMEM;
	if (ix->n >= ix->n_buckets)
		grow(ix);
	*b = *from;
	to = bucket_of(ix, &b->key);
	b->chain = *to;
	*to = b;
	enqueue(ix, b, restored ? QUEUE_MAIN : queue_for(ix, b));
	ix->n++;
	ix->n_unread += b->unread;
	ix->bytes += block_cost(b->len);
	ix->folder_bytes[b->folder] += block_cost(b->len);
	return 0;
}

void block_index_remove(struct block_index *ix, struct block *b)
{
	struct block **at = bucket_of(ix, &b->key);

	while (*at != b)
		at = &(*at)->chain;
	*at = b->chain;
	b->chain = NULL;
	dequeue(ix, b);
	ix->n--;
	ix->n_unread -= b->unread;
	ix->bytes -= block_cost(b->len);
	ix->folder_bytes[b->folder] -= block_cost(b->len);
}

static void requeue(struct block_index *ix, struct block *b, uint8_t wanted)
{
	dequeue(ix, b);
	b->wanted = wanted;
	enqueue(ix, b, QUEUE_MAIN);
}

static struct block *oldest_of(const struct block_index *ix, enum block_queue q, int folder)
{
	struct block *b = ix->queues[q].oldest;

	while (b && folder >= 0 && b->folder != folder)
		b = b->newer;
	return b;
}

/* Ends: each pass takes one block out of small, or one off the `wanted` of a block in main. */
struct block *block_index_evict(struct block_index *ix, int folder)
{
	for (;;) {
		struct block *small = oldest_of(ix, QUEUE_SMALL, folder);
		struct block *b = oldest_of(ix, QUEUE_MAIN, folder);

		if (small && (!b || ix->queues[QUEUE_SMALL].bytes + ix->pending >= ix->small_target)) {
			if (small->wanted) {
				requeue(ix, small, 0);
				continue;
			}
			b = small;
			ghost_add(ix, b);
		} else if (!b) {
			return NULL;
		} else if (b->wanted) {
			requeue(ix, b, (uint8_t)(b->wanted - 1));
			continue;
		}
		block_index_remove(ix, b);
		return b;
	}
}

struct block *block_index_remove_all(struct block_index *ix, const uint64_t *id, int folder)
{
	struct block *list = NULL;

	for (unsigned int q = 0; q < N_QUEUES; q++) {
		struct block *next;

		for (struct block *b = ix->queues[q].oldest; b; b = next) {
			next = b->newer;
			if (id ? (b->key.id[0] != id[0] || b->key.id[1] != id[1]) : b->folder != folder)
				continue;
			block_index_remove(ix, b);
			b->chain = list;
			list = b;
		}
	}
	return list;
}
