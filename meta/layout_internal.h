/*
 * What the layout_*.c files share: sorted arrays of slices.
 */
#ifndef MASSFS_META_LAYOUT_INTERNAL_H
#define MASSFS_META_LAYOUT_INTERNAL_H

#include "meta/layout.h"

/* Beyond these no file and no log reaches; so sums of two of them never overflow. */
#define LAYOUT_OFF_MAX ((uint64_t)INT64_MAX)

static inline uint64_t slice_end(const struct slice *s)
{
	return s->off + s->len;
}

/* The part of s from `from` on, which lies in it. */
static inline struct slice slice_from(const struct slice *s, uint64_t from)
{
	return (struct slice){
		.off = from,
		.len = slice_end(s) - from,
		.pos = s->pos == LAYOUT_HOLE ? LAYOUT_HOLE : s->pos + (from - s->off),
	};
}

/* Its part within [lo, hi), which is not empty. */
static inline struct slice slice_within(const struct slice *s, uint64_t lo, uint64_t hi)
{
	struct slice part = s->off < lo ? slice_from(s, lo) : *s;

	if (slice_end(&part) > hi)
		part.len = hi - part.off;
	return part;
}

/* Does b continue a, in the file and in the log? */
static inline bool slice_continues(const struct slice *a, const struct slice *b)
{
	if (slice_end(a) != b->off)
		return false;
	if (a->pos == LAYOUT_HOLE || b->pos == LAYOUT_HOLE)
		return a->pos == b->pos;
	return a->pos + a->len == b->pos;
}

/* The first slice that ends behind off; n: none. */
size_t slices_find(const struct slice *v, size_t n, uint64_t off);
/* How many of them have bytes in [lo, hi). */
size_t slices_count(const struct slice *v, size_t n, uint64_t lo, uint64_t hi);
/* Room for `more` beyond *n. -ENOMEM. */
int slices_reserve(struct slice **v, size_t n, size_t *cap, size_t more) MFS_NODISCARD;
/* Put `with` (NULL: nothing) where [off, end) is, cutting what reaches into it. Room for two more was reserved. */
void slices_replace(struct slice *v, size_t *n, uint64_t off, uint64_t end, const struct slice *with);
/* Join what continues in v[from, to): the new n. */
size_t slices_join(struct slice *v, size_t n, size_t from, size_t to);

/* The segment that holds position pos; NULL: none. */
const struct segment *layout_segment_at(const struct layout *l, uint64_t pos);
/* One document's slices: v[0, n). */
int layout_encode_doc(const struct slice *v, size_t n, struct node_blob *ret) MFS_NODISCARD;
/* At most this much layout_encode() gives. */
size_t layout_encoded_bound(const struct layout *l);

#endif
