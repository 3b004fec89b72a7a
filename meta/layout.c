/*
 * A layout in memory: the map of a file's slices, where a byte is, what to compose next. Encoding is in layout_codec.c,
 * documents and segments in layout_docs.c.
 */
#include "meta/layout.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "meta/layout_internal.h"

void layout_init(struct layout *l)
{
	*l = (struct layout){ 0 };
}

void layout_release(struct layout *l)
{
	if (!l)
		return;
	free(l->segments);
	free(l->docs);
	free(l->recent);
	free(l->map);
	layout_init(l);
}

/* *ret: n elements of `size` bytes, or NULL when n is 0. */
static int array_copy(const void *from, size_t n, size_t size, void *ret)
{
	void *copy = NULL;

	if (n > 0) {
		copy = reallocarray(NULL, n, size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, from, n * size);
	}
	memcpy(ret, &copy, sizeof(copy));
	return 0;
}

int layout_copy(const struct layout *l, struct layout *ret)
{
	int err;

	*ret = *l;
	ret->segments = NULL;
	ret->docs = NULL;
	ret->recent = ret->map = NULL;
	ret->cap_segments = l->n_segments;
	ret->cap_docs = l->n_docs;
	ret->cap_recent = l->n_recent;
	ret->cap_map = l->n_map;
	err = array_copy(l->segments, l->n_segments, sizeof(*l->segments), &ret->segments);
	if (err == 0)
		err = array_copy(l->docs, l->n_docs, sizeof(*l->docs), &ret->docs);
	if (err == 0)
		err = array_copy(l->recent, l->n_recent, sizeof(*l->recent), &ret->recent);
	if (err == 0)
		err = array_copy(l->map, l->n_map, sizeof(*l->map), &ret->map);
	if (err < 0)
		layout_release(ret);
	return err;
}

size_t slices_find(const struct slice *v, size_t n, uint64_t off)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (slice_end(&v[mid]) > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* The first slice that begins at or behind off. */
static size_t slices_find_begin(const struct slice *v, size_t n, uint64_t off)
{
	size_t i = slices_find(v, n, off);

	return i < n && v[i].off < off ? i + 1 : i;
}

size_t slices_count(const struct slice *v, size_t n, uint64_t lo, uint64_t hi)
{
	return lo < hi ? slices_find_begin(v, n, hi) - slices_find(v, n, lo) : 0;
}

int slices_reserve(struct slice **v, size_t n, size_t *cap, size_t more)
{
	size_t want = n + more;
	struct slice *grown;

	if (want <= *cap)
		return 0;
	want = MFS_MAX(want, *cap + *cap / 2);
	grown = reallocarray(*v, want, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	*v = grown;
	*cap = want;
	return 0;
}

/* Append to a short list, joining with its last. */
static void append_joined(struct slice *v, size_t *n, const struct slice *s)
{
	if (*n > 0 && slice_continues(&v[*n - 1], s))
		v[*n - 1].len += s->len;
	else
		v[(*n)++] = *s;
}

void slices_replace(struct slice *v, size_t *n, uint64_t off, uint64_t end, const struct slice *with)
{
	size_t i = slices_find(v, *n, off), j = slices_find_begin(v, *n, end), k = 0;
	struct slice by[3];

	/* Neighbours that only touch the range take part when they may be joined. */
	if (with && i > 0 && slice_continues(&v[i - 1], with))
		i--;
	if (with && j < *n && slice_continues(with, &v[j]))
		j++;
	if (i < j && v[i].off < off) {
		by[k] = v[i];
		by[k++].len = MFS_MIN(off, slice_end(&v[i])) - v[i].off;
	}
	if (with)
		append_joined(by, &k, with);
	if (i < j && slice_end(&v[j - 1]) > end) {
		struct slice right = slice_from(&v[j - 1], MFS_MAX(end, v[j - 1].off));

		append_joined(by, &k, &right);
	}
	if (*n > j && k != j - i)
		memmove(&v[i + k], &v[j], (*n - j) * sizeof(*v));
	if (k > 0)
		memcpy(&v[i], by, k * sizeof(*v));
	*n = *n - (j - i) + k;
}

size_t slices_join(struct slice *v, size_t n, size_t from, size_t to)
{
	size_t w = from;

	if (to <= from)
		return n;
	for (size_t r = from + 1; r < to; r++) {
		if (slice_continues(&v[w], &v[r]))
			v[w].len += v[r].len;
		else
			v[++w] = v[r];
	}
	w++;
	if (w != to && n > to)
		memmove(&v[w], &v[to], (n - to) * sizeof(*v));
	return n - (to - w);
}

/* Room for what one set or unset adds. */
static int reserve_both(struct layout *l)
{
	int err = slices_reserve(&l->map, l->n_map, &l->cap_map, 2);

	return err < 0 ? err : slices_reserve(&l->recent, l->n_recent, &l->cap_recent, 2);
}

/* Is all of [off, off+len) a hole already? */
static bool is_hole(const struct layout *l, uint64_t off, uint64_t len)
{
	size_t i = slices_find(l->map, l->n_map, off);

	return i < l->n_map && l->map[i].pos == LAYOUT_HOLE && l->map[i].off <= off && slice_end(&l->map[i]) >= off + len;
}

int layout_set(struct layout *l, uint64_t off, uint64_t len, uint64_t pos)
{
	struct slice s = { off, len, pos };
	int err;

	if (len == 0)
		return 0;
	if (off > LAYOUT_OFF_MAX || len > LAYOUT_OFF_MAX - off)
		return -EFBIG;
	if (pos != LAYOUT_HOLE && (pos > LAYOUT_OFF_MAX || len > LAYOUT_OFF_MAX - pos))
		return -EFBIG;
	err = reserve_both(l);
	if (err < 0)
		return err;
	if (pos == LAYOUT_HOLE && !is_hole(l, off, len))
		l->holes_in_base = false;
	slices_replace(l->map, &l->n_map, off, off + len, &s);
	slices_replace(l->recent, &l->n_recent, off, off + len, &s);
	return 0;
}

/* The documents no longer count in [off, end). Room for one more entry was reserved. */
static void docs_cut(struct layout *l, uint64_t off, uint64_t end)
{
	for (size_t i = 0; i < l->n_docs;) {
		struct layout_doc *d = &l->docs[i];

		if (d->end <= off || d->start >= end) {
			i++;
		} else if (d->start < off && d->end > end) {
			memmove(d + 1, d, (l->n_docs - i) * sizeof(*d));
			l->n_docs++;
			d[0].end = off;
			d[1].start = end;
			return;
		} else if (d->start < off) {
			d->end = off;
			i++;
		} else if (d->end > end) {
			d->start = end;
			i++;
		} else {
			memmove(d, d + 1, (l->n_docs - i - 1) * sizeof(*d));
			l->n_docs--;
		}
	}
}

int layout_unset(struct layout *l, uint64_t off, uint64_t len)
{
	uint64_t end = len > UINT64_MAX - off ? UINT64_MAX : off + len;
	int err;

	if (len == 0)
		return 0;
	err = reserve_both(l);
	if (err < 0)
		return err;
	if (l->n_docs == l->cap_docs) {
		size_t cap = l->cap_docs + 16;
		struct layout_doc *docs = reallocarray(l->docs, cap, sizeof(*docs));

		if (!docs)
			return -ENOMEM;
		l->docs = docs;
		l->cap_docs = cap;
	}
	docs_cut(l, off, end);
	slices_replace(l->map, &l->n_map, off, end, NULL);
	slices_replace(l->recent, &l->n_recent, off, end, NULL);
	return 0;
}

void layout_clip(struct layout *l, uint64_t size)
{
	/* To the end of all: nothing is cut in two, so nothing grows. */
	docs_cut(l, size, UINT64_MAX);
	slices_replace(l->map, &l->n_map, size, UINT64_MAX, NULL);
	slices_replace(l->recent, &l->n_recent, size, UINT64_MAX, NULL);
}

const struct segment *layout_segment_at(const struct layout *l, uint64_t pos)
{
	size_t lo = 0, hi = l->n_segments;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->segments[mid].pos + l->segments[mid].len > pos)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < l->n_segments && l->segments[lo].pos <= pos ? &l->segments[lo] : NULL;
}

int layout_at(const struct layout *l, uint64_t off, uint64_t obj_len, uint64_t size,
	      struct layout_extent *ret)
{
	size_t i = slices_find(l->map, l->n_map, off);
	const struct slice *s = i < l->n_map ? &l->map[i] : NULL;
	uint64_t end = size, pos;

	assert(off < size);
	*ret = (struct layout_extent){ .kind = EXTENT_HOLE, .off = off };
	if (!s || s->off > off) {
		if (s)
			end = MFS_MIN(end, s->off);
		if (off < obj_len) {
			ret->kind = EXTENT_BASE;
			ret->src = off;
			end = MFS_MIN(end, obj_len);
		}
	} else {
		end = MFS_MIN(end, slice_end(s));
		if (s->pos != LAYOUT_HOLE) {
			pos = s->pos + (off - s->off);
			ret->kind = EXTENT_PATCH;
			ret->segment = layout_segment_at(l, pos);
			if (!ret->segment)
				return -EUCLEAN;
			ret->src = pos - ret->segment->pos;
			end = MFS_MIN(end, off + (ret->segment->len - ret->src));
		}
	}
	ret->len = end - off;
	return 0;
}

enum layout_pressure layout_pressure(const struct layout *l)
{
	size_t bytes = layout_encoded_bound(l);

	/* The last sixteenth is for the ranges of the commit that asks (LAYOUT_COMMIT_MAX). */
	if (l->n_map >= LAYOUT_SLICES_MAX / 16 * 15 || l->n_segments >= LAYOUT_SEGMENTS_MAX ||
	    bytes >= LAYOUT_BLOB_MAX - 1024)
		return LAYOUT_FULL;
	if (l->n_map >= LAYOUT_SLICES_MAX / 4 * 3 || l->n_segments >= LAYOUT_SEGMENTS_MAX / 4 * 3 ||
	    bytes >= LAYOUT_BLOB_MAX / 4 * 3)
		return LAYOUT_COMPACT;
	return LAYOUT_EASY;
}

void layout_worst_range(const struct layout *l, uint64_t size, uint64_t max, uint64_t align,
			uint64_t *ret_off, uint64_t *ret_len)
{
	size_t best = 0, to = 0;

	*ret_off = *ret_len = 0;
	for (size_t from = 0; from < l->n_map; from++) {
		uint64_t start = l->map[from].off - (align > 1 ? l->map[from].off % align : 0), end;

		while (to < l->n_map && l->map[to].off < start + max)
			to++;
		if (to <= from || to - from <= best)
			continue;
		best = to - from;
		end = MFS_MIN(slice_end(&l->map[to - 1]), start + max);
		if (align > 1 && end % align)
			end = MFS_MIN(end + align - end % align, start + max);
		end = MFS_MIN(end, size);
		*ret_off = start;
		*ret_len = end > start ? end - start : 0;
	}
}
