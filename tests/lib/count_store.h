/*
 * A store as S3 is one, over another: no descriptors, no gaps between parts, nothing read back before it is complete;
 * parts come in order and none but the last is small (asserted). Counts what goes through.
 */
#ifndef MASSFS_TESTS_COUNT_STORE_H
#define MASSFS_TESTS_COUNT_STORE_H

#include <stdatomic.h>

#include "backend/object_store.h"

struct count_stats {
	_Atomic uint64_t puts, uploads, part_copies, gets, deletes;
	_Atomic uint64_t bytes_put, bytes_got; /* put and parts; copies move none */
};

/* `caps`: those of inner's that are kept. Owns inner on success; stats are the caller's and live longer. */
int count_store_new(struct object_store *inner, unsigned int caps, struct count_stats *stats, struct object_store **ret) MFS_NODISCARD;

#endif
