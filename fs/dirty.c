/* The sorted extents of fs/dirty.h. */
#include "fs/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CELL OBJECT_PART_MIN

/* Growth of an extent's buffer: small files stay small, a stream gets the one size that the budget keeps in stock. */
static size_t next_cap(size_t need)
{
	static const size_t steps[] = { 4096, 16384, 65536, 262144, 1048576 };

	for (size_t i = 0; i < MFS_ARRAY_LEN(steps); i++) {
		if (need <= steps[i])
			return steps[i];
	}
	return CELL;
}

static void buffer_free(struct budget *b, unsigned char *data, size_t cap)
{
	if (!data)
		return;
	if (cap == CELL)
		budget_part_free(b, data);
	else
		free(data);
	budget_put(b, cap);
}

void extent_free(struct budget *b, struct extent *e)
{
	if (!e)
		return;
	buffer_free(b, e->data, e->cap);
	free(e);
}

/* Room for `need` bytes; false when the budget or memory has none. */
static bool extent_grow(struct budget *b, struct extent *e, size_t need)
{
	size_t cap = next_cap(need);
	unsigned char *data;

	if (need <= e->cap)
		return true;
	if (need > CELL) /* neighbours of an extent that was shifted over a boundary */
		return false;
	if (!budget_try(b, cap))
		return false;
	data = cap == CELL ? budget_part_alloc(b) : malloc(cap);
	if (!data) {
		budget_put(b, cap);
		return false;
	}
	if (e->len)
		memcpy(data, e->data, e->len);
	buffer_free(b, e->data, e->cap);
	e->data = data;
	e->cap = cap;
	return true;
}

size_t dirty_find(const struct dirty *d, uint64_t off)
{
	size_t lo = 0, hi = d->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (d->v[mid]->off + d->v[mid]->len > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static bool insert_at(struct dirty *d, size_t i, struct extent *e)
{
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 8;
		struct extent **v = realloc(d->v, cap * sizeof(struct extent *));

		if (!v)
			return false;
		d->v = v;
		d->cap = cap;
	}
	memmove(&d->v[i + 1], &d->v[i], (d->n - i) * sizeof(struct extent *));
	d->v[i] = e;
	d->n++;
	return true;
}

struct extent *dirty_take(struct dirty *d, size_t i)
{
	struct extent *e = d->v[i];

	d->n--;
	memmove(&d->v[i], &d->v[i + 1], (d->n - i) * sizeof(struct extent *));
	d->bytes -= e->len;
	return e;
}

/* [off, off+len) is free of extents and inside one cell: append to the one that ends at off, else a new extent. */
static size_t fill_gap(struct dirty *d, struct budget *b, size_t i, uint64_t off, const void *buf, size_t len)
{
	struct extent *e = i > 0 ? d->v[i - 1] : NULL;

	if (e && e->off + e->len == off && e->off / CELL == off / CELL) {
		if (!extent_grow(b, e, e->len + len))
			return 0;
		memcpy(e->data + e->len, buf, len);
		e->len += len;
		d->bytes += len;
		return len;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return 0;
	e->off = off;
	if (!extent_grow(b, e, len) || !insert_at(d, i, e)) {
		extent_free(b, e);
		return 0;
	}
	memcpy(e->data, buf, len);
	e->len = len;
	d->bytes += len;
	return len;
}

/* The neighbours i and i+1 touch within one cell: one extent, when there is room for it. */
static void try_join(struct dirty *d, struct budget *b, size_t i)
{
	struct extent *e, *next;

	if (i + 1 >= d->n)
		return;
	e = d->v[i];
	next = d->v[i + 1];
	if (e->off + e->len != next->off || e->off / CELL != next->off / CELL)
		return;
	if (!extent_grow(b, e, e->len + next->len))
		return;
	memcpy(e->data + e->len, next->data, next->len);
	e->len += next->len;
	d->bytes += next->len; /* dirty_take subtracts it */
	extent_free(b, dirty_take(d, i + 1));
}

size_t dirty_write(struct dirty *d, struct budget *b, uint64_t off, const void *buf, size_t len)
{
	const unsigned char *src = buf;
	size_t done = 0;

	while (done < len) {
		uint64_t at = off + done;
		size_t left = len - done, n, i = dirty_find(d, at);
		struct extent *e = i < d->n ? d->v[i] : NULL;

		if (e && e->off <= at) {
			n = MFS_MIN(left, (size_t)(e->off + e->len - at));
			memcpy(e->data + (at - e->off), src + done, n);
			done += n;
			continue;
		}
		n = MFS_MIN(left, (size_t)(CELL - at % CELL));
		if (e)
			n = MFS_MIN(n, (size_t)MFS_MIN(e->off - at, (uint64_t)n));
		if (fill_gap(d, b, i, at, src + done, n) == 0)
			break;
		done += n;
		i = dirty_find(d, at);
		try_join(d, b, i);
	}
	return done;
}

void extent_overlay(const struct extent *e, uint64_t off, void *buf, size_t len)
{
	uint64_t from = MFS_MAX(e->off, off), to = MFS_MIN(e->off + e->len, off + len);

	if (from < to)
		memcpy((unsigned char *)buf + (from - off), e->data + (from - e->off), (size_t)(to - from));
}

void dirty_overlay(const struct dirty *d, uint64_t off, void *buf, size_t len)
{
	for (size_t i = dirty_find(d, off); i < d->n && d->v[i]->off < off + len; i++)
		extent_overlay(d->v[i], off, buf, len);
}

bool dirty_covers(const struct dirty *d, uint64_t off, uint64_t len)
{
	uint64_t at = off;

	for (size_t i = dirty_find(d, off); i < d->n && d->v[i]->off <= at && at < off + len; i++)
		at = d->v[i]->off + d->v[i]->len;
	return at >= off + len;
}

bool dirty_fill(struct dirty *d, struct budget *b, uint64_t off, const void *buf, size_t len)
{
	uint64_t at = off, end = off + len;

	while (at < end) {
		size_t i = dirty_find(d, at);
		const struct extent *e = i < d->n ? d->v[i] : NULL;
		uint64_t stop = e ? MFS_MIN(e->off, end) : end;
		size_t n;

		if (e && e->off <= at) {
			at = e->off + e->len;
			continue;
		}
		n = dirty_write(d, b, at, (const unsigned char *)buf + (at - off), (size_t)(stop - at));
		if (n < stop - at)
			return false;
		at = stop;
	}
	return true;
}

/* [off, end) lies inside extent i: it becomes two. */
static void cut_middle(struct dirty *d, struct budget *b, size_t i, uint64_t off, uint64_t end)
{
	struct extent *e = d->v[i], *tail = calloc(1, sizeof(*tail));
	size_t len = (size_t)(e->off + e->len - end);

	if (!tail || !extent_grow(b, tail, len) || !insert_at(d, i + 1, tail)) {
		extent_free(b, tail);
		memset(e->data + (off - e->off), 0, (size_t)(end - off));
		return;
	}
	tail->off = end;
	tail->len = len;
	memcpy(tail->data, e->data + (end - e->off), len);
	e->len = (size_t)(off - e->off);
	d->bytes -= end - off;
}

void dirty_cut(struct dirty *d, struct budget *b, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	size_t i = dirty_find(d, off);

	while (i < d->n && d->v[i]->off < end) {
		struct extent *e = d->v[i];
		uint64_t e_end = e->off + e->len;

		if (e->off < off && e_end > end) {
			cut_middle(d, b, i, off, end);
			return;
		}
		if (e->off < off) {
			d->bytes -= e_end - off;
			e->len = (size_t)(off - e->off);
			i++;
		} else if (e_end > end) {
			d->bytes -= end - e->off;
			e->len = (size_t)(e_end - end);
			memmove(e->data, e->data + (end - e->off), e->len);
			e->off = end;
			return;
		} else {
			extent_free(b, dirty_take(d, i));
		}
	}
}

bool dirty_ends_at(const struct dirty *d, uint64_t off)
{
	size_t i = off ? dirty_find(d, off - 1) : d->n;

	return i < d->n && d->v[i]->off < off && d->v[i]->off + d->v[i]->len == off;
}

void dirty_shift(struct dirty *d, uint64_t from, int64_t delta)
{
	for (size_t i = d->n; i-- > 0 && d->v[i]->off >= from;)
		d->v[i]->off += (uint64_t)delta;
}

void dirty_clip(struct dirty *d, struct budget *b, uint64_t size)
{
	while (d->n) {
		struct extent *e = d->v[d->n - 1];

		if (e->off + e->len <= size)
			return;
		if (e->off < size) {
			d->bytes -= e->off + e->len - size;
			e->len = (size_t)(size - e->off);
			return;
		}
		extent_free(b, dirty_take(d, d->n - 1));
	}
}

int dirty_put_back(struct dirty *d, struct budget *b, struct extent *e)
{
	uint64_t at = e->off, end = e->off + e->len;
	size_t i = dirty_find(d, at);
	int r = 0;

	if (i == d->n || d->v[i]->off >= end) { /* nothing newer */
		if (insert_at(d, i, e)) {
			d->bytes += e->len;
			return 0;
		}
		extent_free(b, e);
		return -ENOMEM;
	}
	/* Newer bytes win: lay them over this one's and take those extents' place where they lie inside it. */
	while (at < end) {
		struct extent *newer;
		uint64_t stop;

		i = dirty_find(d, at);
		newer = i < d->n ? d->v[i] : NULL;
		if (newer && newer->off <= at) {
			at = newer->off + newer->len;
			continue;
		}
		stop = newer ? MFS_MIN(newer->off, end) : end;
		if (fill_gap(d, b, i, at, e->data + (at - e->off), (size_t)(stop - at)) == 0) {
			r = -ENOMEM;
			break;
		}
		at = stop;
	}
	extent_free(b, e);
	return r;
}

void dirty_release(struct dirty *d, struct budget *b)
{
	for (size_t i = 0; i < d->n; i++)
		extent_free(b, d->v[i]);
	free(d->v);
	*d = (struct dirty){ 0 };
}
