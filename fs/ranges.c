/* The sorted set of fs/ranges.h. */
#include "fs/ranges.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ranges_reserve(struct ranges *r)
{
	size_t cap = r->cap ? r->cap * 2 : 8;
	struct range *v;

	if (r->n < r->cap)
		return 0;
	v = realloc(r->v, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	r->v = v;
	r->cap = cap;
	return 0;
}

size_t ranges_find(const struct ranges *r, uint64_t off)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->v[mid].off + r->v[mid].len > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void insert(struct ranges *r, size_t i, uint64_t off, uint64_t len)
{
	assert(r->n < r->cap);
	memmove(&r->v[i + 1], &r->v[i], (r->n - i) * sizeof(*r->v));
	r->v[i] = (struct range){ off, len };
	r->n++;
}

static void erase(struct ranges *r, size_t i, size_t n)
{
	memmove(&r->v[i], &r->v[i + n], (r->n - i - n) * sizeof(*r->v));
	r->n -= n;
}

void ranges_add(struct ranges *r, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	size_t i, n = 0;

	if (!len)
		return;
	i = off ? ranges_find(r, off - 1) : 0; /* one that ends at off is joined */
	while (i + n < r->n && r->v[i + n].off <= end) {
		off = MFS_MIN(off, r->v[i + n].off);
		end = MFS_MAX(end, r->v[i + n].off + r->v[i + n].len);
		n++;
	}
	if (n == 0) {
		insert(r, i, off, end - off);
		return;
	}
	r->v[i] = (struct range){ off, end - off };
	erase(r, i + 1, n - 1);
}

void ranges_cut(struct ranges *r, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	size_t i = ranges_find(r, off);

	while (i < r->n && r->v[i].off < end) {
		struct range *v = &r->v[i];
		uint64_t v_end = v->off + v->len;

		if (v->off < off && v_end > end) {
			v->len = off - v->off;
			insert(r, i + 1, end, v_end - end);
			return;
		}
		if (v->off < off) {
			v->len = off - v->off;
			i++;
		} else if (v_end > end) {
			*v = (struct range){ end, v_end - end };
			return;
		} else {
			erase(r, i, 1);
		}
	}
}

void ranges_clip(struct ranges *r, uint64_t size)
{
	size_t i = ranges_find(r, size);

	if (i < r->n && r->v[i].off < size) {
		r->v[i].len = size - r->v[i].off;
		i++;
	}
	r->n = i;
}

void ranges_zero(const struct ranges *r, uint64_t off, void *buf, size_t len)
{
	for (size_t i = ranges_find(r, off); i < r->n && r->v[i].off < off + len; i++) {
		uint64_t from = MFS_MAX(r->v[i].off, off), to = MFS_MIN(r->v[i].off + r->v[i].len, off + len);

		memset((unsigned char *)buf + (from - off), 0, (size_t)(to - from));
	}
}

void ranges_release(struct ranges *r)
{
	free(r->v);
	*r = (struct ranges){ 0 };
}
