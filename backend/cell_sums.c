/*
 * What is known of the cells of an upload: a sorted array of those that were written.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cell_sums.h"

#define CELL	   MFS_CHECKSUM_CELL
#define SUMMED_MAX (UINT64_C(64) << 40) /* 13 million cells: 0.1 s of counting zeros */

void cell_sums_init(struct cell_sums *c)
{
	*c = (struct cell_sums){ .v = NULL };
	pthread_mutex_init(&c->lock.m, NULL);
}

void cell_sums_release(struct cell_sums *c)
{
	pthread_mutex_destroy(&c->lock.m);
	free(c->v);
	c->v = NULL;
	c->n = c->room = 0;
}

/* Index of the first one that is not before `cell`. Parts mostly come in order, so the end is looked at first. */
static size_t index_locked(const struct cell_sums *c, uint64_t cell) MFS_REQUIRES(c->lock)
{
	size_t lo = 0, hi = c->n;

	if (!c->n || c->v[c->n - 1].cell < cell)
		return c->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (c->v[mid].cell < cell)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The cell's entry, made if need be. NULL: no memory, and c->lost is set. */
static struct cell_sum *entry_locked(struct cell_sums *c, uint64_t cell) MFS_REQUIRES(c->lock)
{
	size_t i = index_locked(c, cell);

	if (i < c->n && c->v[i].cell == cell)
		return &c->v[i];
	if (c->n == c->room) {
		size_t room = c->room ? c->room * 2 : 16;
		struct cell_sum *v = reallocarray(c->v, room, sizeof(*v));

		if (!v) {
			c->lost = true;
			return NULL;
		}
		c->v = v;
		c->room = room;
	}
	memmove(c->v + i + 1, c->v + i, (c->n - i) * sizeof(*c->v));
	c->n++;
	c->v[i] = (struct cell_sum){ .cell = cell };
	return &c->v[i];
}

void cell_sums_forget(struct cell_sums *c, uint64_t off, uint64_t len)
{
	if (!len)
		return;
	MFS_GUARD(&c->lock);
	for (uint64_t cell = off / CELL; cell <= (off + len - 1) / CELL && !c->lost; cell++) {
		struct cell_sum *e = entry_locked(c, cell);

		if (e)
			e->len = 0;
	}
}

void cell_sums_learn(struct cell_sums *c, uint64_t off, const void *buf, size_t len)
{
	const char *p = buf;
	uint64_t skip = (CELL - off % CELL) % CELL;

	/* Only what begins with its cell; whether the end is the cell's end is known when the object is complete. */
	for (uint64_t at = skip; at < len; at += CELL) {
		uint32_t n = (uint32_t)MFS_MIN(len - at, CELL);
		uint64_t sum = mfs_checksum_cell(p + at, n);
		struct cell_sum *e;

		MFS_GUARD(&c->lock);
		e = entry_locked(c, (off + at) / CELL);
		if (!e)
			return;
		e->sum = sum;
		e->len = n;
	}
}

/* One walk over the cells, in file order. */
struct walk {
	size_t next; /* of the entries */
	uint64_t zero; /* sum of a whole cell of zeros, once it is known */
	bool has_zero;
};

static int zero_sum(uint64_t len, uint64_t *ret)
{
	char *zeros = calloc(1, (size_t)len);

	if (!zeros)
		return -ENOMEM;
	*ret = mfs_checksum_cell(zeros, (size_t)len);
	free(zeros);
	return 0;
}

static int hole_sum(struct walk *w, uint64_t len, uint64_t *ret)
{
	int r = 0;

	if (len < CELL)
		return zero_sum(len, ret);
	if (!w->has_zero)
		r = zero_sum(CELL, &w->zero);
	w->has_zero = !r;
	*ret = w->zero;
	return r;
}

static int sum_of(struct cell_sums *c, struct walk *w, uint64_t cell, uint64_t len, cell_read_fn *fn, void *arg,
		  uint64_t *ret)
{
	const struct cell_sum *e;

	while (w->next < c->n && c->v[w->next].cell < cell)
		w->next++;
	e = w->next < c->n && c->v[w->next].cell == cell ? &c->v[w->next] : NULL;
	if (e && !c->lost && e->len == len) {
		*ret = e->sum;
		return 0;
	}
	return e || c->lost ? fn(arg, cell * CELL, len, ret) : hole_sum(w, len, ret);
}

int cell_sums_etag(struct cell_sums *c, uint64_t size, cell_read_fn *fn, void *arg,
		   char etag[static MFS_CHECKSUM_ETAG_MAX])
{
	struct mfs_checksum *joined;
	struct walk w = { 0 };

	etag[0] = '\0';
	if (size > SUMMED_MAX)
		return 0;
	joined = mfs_checksum_new();
	if (!joined)
		return -ENOMEM;
	for (uint64_t off = 0; off < size; off += CELL) {
		uint64_t sum;
		int r = sum_of(c, &w, off / CELL, MFS_MIN(size - off, CELL), fn, arg, &sum);

		if (r < 0) {
			mfs_checksum_free(joined);
			return r;
		}
		mfs_checksum_add_cell(joined, sum);
	}
	mfs_checksum_etag(mfs_checksum_final(joined), etag);
	return 0;
}
