/*
 * A set of byte ranges of one file: sorted, disjoint, neighbours joined. Holes that are not yet committed.
 * Not thread-safe: the owner's lock guards it.
 */
#ifndef MASSFS_FS_RANGES_H
#define MASSFS_FS_RANGES_H

#include <stddef.h>
#include <stdint.h>

#include "common/defs.h"

struct range {
	uint64_t off, len;
};

struct ranges {
	struct range *v; /* sorted by off; gaps between them */
	size_t n, cap;
};

/* Room for one more: after it the next ranges_add or ranges_cut cannot fail. -ENOMEM. */
int ranges_reserve(struct ranges *r) MFS_NODISCARD;
void ranges_add(struct ranges *r, uint64_t off, uint64_t len);
void ranges_cut(struct ranges *r, uint64_t off, uint64_t len);
void ranges_clip(struct ranges *r, uint64_t size); /* nothing at or beyond size is left */
/* Index of the first range that ends above off; r->n: none. */
size_t ranges_find(const struct ranges *r, uint64_t off);
/* Zero the bytes of buf, which stands for [off, off+len), that lie in the set. */
void ranges_zero(const struct ranges *r, uint64_t off, void *buf, size_t len);
void ranges_release(struct ranges *r); /* and empty */

#endif
