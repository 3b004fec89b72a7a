/*
 * The checksum (common/checksum.h) of an upload whose parts come in any order: what is known of each cell from the
 * bytes as they passed, and which cells have to be read back when the upload completes.
 *
 * A cell is known when its last writing was one part that had all of it. Cells that nothing was written to are zeros.
 *
 * Threads: cell_sums_* from any, several at once, as parts are (not beside each other for one range). One leaf lock, of
 * which no call is made but malloc; not held while summing.
 */
#ifndef MASSFS_BACKEND_CELL_SUMS_H
#define MASSFS_BACKEND_CELL_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/checksum.h"
#include "common/sync.h"

struct cell_sum {
	uint64_t cell;	/* its number */
	uint64_t sum;
	uint32_t len; /* how much of the cell the sum is of, from its beginning; 0: it must be read */
};

struct cell_sums {
	struct mfs_mutex lock;
	/* Guarded by lock; not needed any more when the parts have ended. */
	struct cell_sum *v; /* sorted by cell */
	size_t n, room;
	bool lost; /* no memory to note a cell: nothing is known */
};

void cell_sums_init(struct cell_sums *c);
void cell_sums_release(struct cell_sums *c);

/* [off, off+len) is about to change: what was known of it no longer holds. Before the bytes are stored. */
void cell_sums_forget(struct cell_sums *c, uint64_t off, uint64_t len);
/* buf was stored there. */
void cell_sums_learn(struct cell_sums *c, uint64_t off, const void *buf, size_t len);

/* The sum of the bytes [off, off+len), one cell, of what was stored. 0 or -errno. */
typedef int cell_read_fn(void *arg, uint64_t off, uint64_t len, uint64_t *ret_sum);
/*
 * The etag of the whole of `size` bytes, once no part is under way; cells that are not known are read by fn. "" (and no
 * error) where the object is so big and sparse that it would take long only to count its zeros. Errors of fn.
 */
int cell_sums_etag(struct cell_sums *c, uint64_t size, cell_read_fn *fn, void *arg,
		   char etag[static MFS_CHECKSUM_ETAG_MAX]) MFS_NODISCARD;

#endif
