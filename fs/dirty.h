/*
 * Dirty byte ranges of one file, in memory: sorted extents that do not overlap and do not cross a part boundary (a
 * multiple of OBJECT_PART_MIN; but for those that dirty_shift moved), so that a full one is a part. Memory is reserved
 * from the budget as extents grow.
 * Not thread-safe: the owner's lock guards it.
 */
#ifndef MASSFS_FS_DIRTY_H
#define MASSFS_FS_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/object_store.h"
#include "fs/budget.h"

struct extent {
	uint64_t off;
	size_t len, cap; /* cap bytes are reserved from the budget */
	unsigned char *data;
};

struct dirty {
	struct extent **v; /* sorted by off */
	size_t n, cap;
	uint64_t bytes; /* sum of len */
};

/* Take the bytes in, over what is there. Returns how many went in: less than len when the budget or memory ran out. */
size_t dirty_write(struct dirty *d, struct budget *b, uint64_t off, const void *buf, size_t len);
/* Lay the dirty bytes of [off, off+len) over buf. */
void dirty_overlay(const struct dirty *d, uint64_t off, void *buf, size_t len);
/* Is every byte of [off, off+len) dirty? */
bool dirty_covers(const struct dirty *d, uint64_t off, uint64_t len);
/* The bytes count only where nothing is dirty yet. False: no room for all of them. */
bool dirty_fill(struct dirty *d, struct budget *b, uint64_t off, const void *buf, size_t len);
/* [off, off+len) is not dirty any more; where there is no memory to cut an extent in two, it is dirty zeros. */
void dirty_cut(struct dirty *d, struct budget *b, uint64_t off, uint64_t len);
/* What lies at or beyond `from` moves by delta; nothing is in the way there. */
void dirty_shift(struct dirty *d, uint64_t from, int64_t delta);
/* Does an extent end right at off? What is written there may become part of it. */
bool dirty_ends_at(const struct dirty *d, uint64_t off);
/* Index of the first extent that ends above off; d->n: none. */
size_t dirty_find(const struct dirty *d, uint64_t off);
/* Forget what lies at or beyond size. */
void dirty_clip(struct dirty *d, struct budget *b, uint64_t size);
/* Remove the i-th extent; it is the caller's. */
struct extent *dirty_take(struct dirty *d, size_t i);
/* Put an extent back below what was written meanwhile (its bytes count only where nothing newer is). Takes it over.
 * -ENOMEM: it is freed and its bytes are lost. */
int dirty_put_back(struct dirty *d, struct budget *b, struct extent *e);
void dirty_release(struct dirty *d, struct budget *b);

void extent_free(struct budget *b, struct extent *e);
void extent_overlay(const struct extent *e, uint64_t off, void *buf, size_t len);
static inline bool extent_is_full(const struct extent *e)
{
	return e->len == OBJECT_PART_MIN;
}

#endif
