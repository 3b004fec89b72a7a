/*
 * The ids of the changes that this engine object applied (rule M2). Private to meta/sqlite_*.
 *
 * Who may ask again is the dispatch that sent the change, in this process; when the process ends, so does the
 * question. So the ring is memory, written after the COMMIT under the writer's lock, and costs a change nothing on
 * disk. (The table `ops` is there for a journal of changes that outlives the process.)
 */
#ifndef MASSFS_META_SQLITE_RING_H
#define MASSFS_META_SQLITE_RING_H

#include "meta/change.h"

#define OPS_RING 4096

struct op_ring {
	struct op_ring *next; /* of another session */
	uint64_t session;
	uint64_t number[OPS_RING]; /* the last applied with this remainder; 0: none */
};

/* The ring of a session, made when there is none; NULL: no memory. */
static inline struct op_ring *op_ring_of(struct op_ring **rings, uint64_t session)
{
	struct op_ring *r;

	for (r = *rings; r && r->session != session; r = r->next)
		;
	if (r)
		return r;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->session = session;
	r->next = *rings;
	*rings = r;
	return r;
}

/* 1: applied; 0: not; -1: so long ago that the ring does not know. */
static inline int op_ring_seen(const struct op_ring *r, uint64_t number)
{
	uint64_t last = r->number[number % OPS_RING];

	return last < number ? 0 : last == number ? 1 : -1;
}

static inline void op_ring_remember(struct op_ring *r, uint64_t number)
{
	uint64_t *last = &r->number[number % OPS_RING];

	if (*last < number)
		*last = number;
}

static inline void op_rings_free(struct op_ring *r)
{
	while (r) {
		struct op_ring *next = r->next;

		free(r);
		r = next;
	}
}

#endif
