/*
 * A layout as bytes: the record's part, a document's, and what can be done on the encoded form without a map.
 *
 *   record    version, flags, log_end,
 *             count, segments: gap since the last one's end, len, session, op, store, sum (8 bytes), how many bytes of
 *                 the version are those of the last one, how many follow, these;
 *             count, documents: gap since the last one's end, len, id, n;
 *             count, slices
 *   document  version, count, slices
 *   slice     gap since the last one's end, len, pos + 1 (0: a hole)
 *
 * All numbers are unsigned LEB128.
 */
#include <errno.h>
#include <string.h>

#include "meta/layout_internal.h"

#define BLOB_VERSION	1
#define FLAG_BASE_HOLES 1u
#define DOC_BLOB_MAX	(LAYOUT_DOC_SLICES * 30 + 16)
#define SEGMENT_MIN	14 /* bytes that one takes at least */
#define SLICE_MIN	3
#define DOC_MIN		4

struct writer {
	uint8_t *data;
	size_t len, max;
	bool full;
};

static void put_bytes(struct writer *w, const void *data, size_t n)
{
	if (n > w->max - w->len) {
		w->full = true;
		return;
	}
	if (n > 0)
		memcpy(w->data + w->len, data, n);
	w->len += n;
}

static void put(struct writer *w, uint64_t v)
{
	uint8_t b[10];
	size_t n = 0;

	do {
		b[n] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		n++;
		v >>= 7;
	} while (v > 0);
	put_bytes(w, b, n);
}

static void put_slices(struct writer *w, const struct slice *v, size_t n)
{
	uint64_t last = 0;

	put(w, n);
	for (size_t i = 0; i < n; i++) {
		put(w, v[i].off - last);
		put(w, v[i].len);
		put(w, v[i].pos == LAYOUT_HOLE ? 0 : v[i].pos + 1);
		last = slice_end(&v[i]);
	}
}

static size_t common_prefix(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

static void put_segments(struct writer *w, const struct segment *v, size_t n)
{
	const char *before = "";
	uint64_t last = 0;

	put(w, n);
	for (size_t i = 0; i < n; i++) {
		const struct segment *s = &v[i];
		size_t same = common_prefix(before, s->version), len = strlen(s->version);
		uint8_t sum[8];

		put(w, s->pos - last);
		put(w, s->len);
		put(w, s->session);
		put(w, s->op);
		put(w, s->store);
		for (int b = 0; b < 8; b++)
			sum[b] = (uint8_t)(s->sum >> (8 * b));
		put_bytes(w, sum, sizeof(sum));
		put(w, same);
		put(w, len - same);
		put_bytes(w, s->version + same, len - same);
		before = s->version;
		last = s->pos + s->len;
	}
}

static void put_docs(struct writer *w, const struct layout_doc *v, size_t n)
{
	uint64_t last = 0;

	put(w, n);
	for (size_t i = 0; i < n; i++) {
		put(w, v[i].start - last);
		put(w, v[i].end - v[i].start);
		put(w, v[i].id);
		put(w, v[i].n);
		last = v[i].end;
	}
}

size_t layout_encoded_bound(const struct layout *l)
{
	/* Documents and recent ones at their most, that the bound does not jump; a position has 7 bytes up to 2^49. */
	size_t bytes = 64 + LAYOUT_DOCS_MAX * 20 + LAYOUT_RECENT_MAX * 20;
	const char *before = "";

	for (size_t i = 0; i < l->n_segments; i++) {
		const char *version = l->segments[i].version;

		bytes += 7 + 5 + 10 + 6 + 3 + 8 + 2 + strlen(version) - common_prefix(before, version);
		before = version;
	}
	return bytes;
}

/* The writer's bytes as a blob of their own size. */
static int writer_take(struct writer *w, struct node_blob *ret)
{
	void *data;

	if (w->full)
		return -EFBIG;
	data = realloc(w->data, w->len);
	ret->data = data ? data : w->data;
	ret->size = w->len;
	w->data = NULL;
	return 0;
}

int layout_encode(const struct layout *l, struct node_blob *ret)
{
	MFS_AUTOFREE uint8_t *data = NULL;
	struct writer w = { .max = LAYOUT_BLOB_MAX };
	int err;

	*ret = (struct node_blob){ 0 };
	if (layout_is_empty(l))
		return 0;
	if (l->n_recent > LAYOUT_RECENT_MAX || l->n_docs > LAYOUT_DOCS_MAX)
		return -EFBIG;
	data = malloc(w.max);
	if (!data)
		return -ENOMEM;
	w.data = data;
	put(&w, BLOB_VERSION);
	put(&w, l->holes_in_base ? FLAG_BASE_HOLES : 0);
	put(&w, l->log_end);
	put_segments(&w, l->segments, l->n_segments);
	put_docs(&w, l->docs, l->n_docs);
	put_slices(&w, l->recent, l->n_recent);
	err = writer_take(&w, ret);
	if (err == 0)
		MFS_TAKE(data);
	return err;
}

int layout_encode_doc(const struct slice *v, size_t n, struct node_blob *ret)
{
	MFS_AUTOFREE uint8_t *data = malloc(DOC_BLOB_MAX);
	struct writer w = { .data = data, .max = DOC_BLOB_MAX };
	int err;

	*ret = (struct node_blob){ 0 };
	if (!data)
		return -ENOMEM;
	put(&w, BLOB_VERSION);
	put_slices(&w, v, n);
	err = writer_take(&w, ret);
	if (err == 0)
		MFS_TAKE(data);
	return err;
}

/* Reading: the first thing that does not fit makes `bad`, and everything after it 0. */
struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static uint64_t get(struct reader *r)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; !r->bad && r->p < r->end && shift < 64; shift += 7) {
		uint8_t b = *r->p++;

		if (shift == 63 && b > 1)
			break;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
	r->bad = true;
	return 0;
}

/* A number that is at most max. */
static uint64_t get_max(struct reader *r, uint64_t max)
{
	uint64_t v = get(r);

	if (v > max) {
		r->bad = true;
		return 0;
	}
	return v;
}

/* How many things follow, of at least `each` bytes. */
static size_t get_count(struct reader *r, size_t max, size_t each)
{
	return (size_t)get_max(r, MFS_MIN(max, (size_t)(r->end - r->p) / each));
}

static void get_bytes(struct reader *r, void *to, size_t n)
{
	if (r->bad || n > (size_t)(r->end - r->p)) {
		r->bad = true;
		memset(to, 0, n);
		return;
	}
	if (n > 0)
		memcpy(to, r->p, n);
	r->p += n;
}

/* [*ret_start, +len) behind `last`: the gap and a length that is not 0; all below the largest offset. */
static void get_range(struct reader *r, uint64_t last, uint64_t *ret_start, uint64_t *ret_len)
{
	*ret_start = last + get_max(r, LAYOUT_OFF_MAX - last);
	*ret_len = get_max(r, LAYOUT_OFF_MAX - *ret_start);
	if (*ret_len == 0)
		r->bad = true;
}

/* n slices into v, which has the room. */
static void get_slices(struct reader *r, struct slice *v, size_t n, uint64_t log_end)
{
	uint64_t last = 0;

	for (size_t i = 0; i < n && !r->bad; i++) {
		uint64_t pos;

		get_range(r, last, &v[i].off, &v[i].len);
		pos = get(r);
		v[i].pos = pos - 1; /* 0 becomes LAYOUT_HOLE */
		if (pos > 0 && (pos - 1 > log_end || v[i].len > log_end - (pos - 1)))
			r->bad = true;
		last = slice_end(&v[i]);
	}
}

static void get_segment(struct reader *r, uint64_t last, const char *before, struct segment *s)
{
	uint8_t sum[8] = { 0 };
	size_t same, len;

	*s = (struct segment){ 0 };
	get_range(r, last, &s->pos, &s->len);
	s->session = get(r);
	s->op = get(r);
	s->store = (uint16_t)get_max(r, UINT16_MAX);
	get_bytes(r, sum, sizeof(sum));
	for (int b = 0; b < 8; b++)
		s->sum |= (uint64_t)sum[b] << (8 * b);
	same = (size_t)get_max(r, strlen(before));
	len = (size_t)get_max(r, OBJECT_VERSION_MAX - same);
	memcpy(s->version, before, same);
	get_bytes(r, s->version + same, len);
	if (memchr(s->version, 0, same + len))
		r->bad = true;
}

static int get_segments(struct reader *r, struct layout *l)
{
	size_t n = get_count(r, SIZE_MAX, SEGMENT_MIN);
	const char *before = "";
	uint64_t last = 0;

	if (n == 0)
		return 0;
	l->segments = reallocarray(NULL, n, sizeof(*l->segments));
	if (!l->segments)
		return -ENOMEM;
	l->n_segments = l->cap_segments = n;
	for (size_t i = 0; i < n && !r->bad; i++) {
		struct segment *s = &l->segments[i];

		get_segment(r, last, before, s);
		last = s->pos + s->len;
		before = s->version;
		if (last > l->log_end)
			r->bad = true;
	}
	return 0;
}

static int get_docs(struct reader *r, struct layout *l)
{
	size_t n = get_count(r, LAYOUT_DOCS_MAX, DOC_MIN);
	uint64_t last = 0, len;

	if (n == 0)
		return 0;
	l->docs = reallocarray(NULL, n, sizeof(*l->docs));
	if (!l->docs)
		return -ENOMEM;
	l->n_docs = l->cap_docs = n;
	for (size_t i = 0; i < n && !r->bad; i++) {
		struct layout_doc *d = &l->docs[i];

		*d = (struct layout_doc){ 0 };
		get_range(r, last, &d->start, &len);
		last = d->end = d->start + len;
		d->id = get(r);
		d->n = (uint32_t)get_max(r, LAYOUT_DOC_SLICES);
		if (d->n == 0)
			r->bad = true;
	}
	return 0;
}

static int get_recent(struct reader *r, struct layout *l)
{
	size_t n = get_count(r, LAYOUT_RECENT_MAX, SLICE_MIN);

	if (n == 0)
		return 0;
	l->recent = reallocarray(NULL, n, sizeof(*l->recent));
	l->map = reallocarray(NULL, n, sizeof(*l->map));
	if (!l->recent || !l->map)
		return -ENOMEM;
	l->cap_recent = l->cap_map = n;
	l->n_recent = l->n_map = n;
	get_slices(r, l->recent, n, l->log_end);
	if (!r->bad)
		memcpy(l->map, l->recent, n * sizeof(*l->map));
	return 0;
}

int layout_parse(const struct node_blob *record, struct layout *ret)
{
	struct reader r = { .p = record->data, .bad = record->size > LAYOUT_BLOB_MAX };
	uint64_t flags;
	int err;

	layout_init(ret);
	if (record->size == 0)
		return 0;
	r.end = r.p + record->size;
	if (get(&r) != BLOB_VERSION)
		return -EUCLEAN;
	flags = get_max(&r, FLAG_BASE_HOLES);
	ret->holes_in_base = flags & FLAG_BASE_HOLES;
	ret->log_end = get_max(&r, LAYOUT_OFF_MAX);
	err = get_segments(&r, ret);
	if (err == 0)
		err = get_docs(&r, ret);
	if (err == 0)
		err = get_recent(&r, ret);
	if (err == 0 && (r.bad || r.p != r.end))
		err = -EUCLEAN;
	if (err < 0)
		layout_release(ret);
	return err;
}

/* A document's slices into v, which has room for d->n: those that count. */
static int parse_doc(const struct layout *l, const struct layout_doc *d, const struct node_blob *doc,
		     struct slice *v, size_t *ret_n)
{
	struct reader r = { .p = doc->data };
	size_t n, k = 0;

	if (doc->size == 0)
		return -EUCLEAN;
	r.end = r.p + doc->size;
	if (get(&r) != BLOB_VERSION)
		return -EUCLEAN;
	n = get_count(&r, LAYOUT_DOC_SLICES, SLICE_MIN);
	if (r.bad || n != d->n)
		return -EUCLEAN;
	get_slices(&r, v, n, l->log_end);
	if (r.bad || r.p != r.end)
		return -EUCLEAN;
	for (size_t i = 0; i < n; i++)
		if (v[i].off < d->end && slice_end(&v[i]) > d->start)
			v[k++] = slice_within(&v[i], d->start, d->end);
	*ret_n = k;
	return 0;
}

/* What of `under` no slice of `over` hides, and those of over that lie within the entry; in order, into to. */
static size_t merge(const struct slice *over, size_t n_over, const struct slice *under, size_t n_under,
		    struct slice *to)
{
	size_t i = 0, n = 0;

	for (size_t j = 0; j < n_under; j++) {
		uint64_t from = under[j].off, end = slice_end(&under[j]);

		for (; i < n_over && over[i].off < end; i++) {
			if (over[i].off > from)
				to[n++] = slice_within(&under[j], from, over[i].off);
			if (slice_end(&over[i]) > end)
				break;
			to[n++] = over[i];
			from = MFS_MAX(from, slice_end(&over[i]));
		}
		if (i < n_over && over[i].off < end)
			continue; /* it hides the rest, and is put when the next ones have been looked at */
		if (from < end)
			to[n++] = slice_within(&under[j], from, end);
	}
	while (i < n_over)
		to[n++] = over[i++];
	return n;
}

int layout_add_doc(struct layout *l, size_t i, const struct node_blob *doc)
{
	struct slice under[LAYOUT_DOC_SLICES];
	MFS_AUTOFREE struct slice *merged = NULL;
	struct layout_doc *d;
	size_t n_under, n, from, n_over;
	int err;

	if (i >= l->n_docs || l->docs[i].added)
		return -EINVAL;
	d = &l->docs[i];
	err = parse_doc(l, d, doc, under, &n_under);
	if (err < 0)
		return err;
	from = slices_find(l->map, l->n_map, d->start);
	n_over = slices_count(l->map, l->n_map, d->start, d->end);
	merged = reallocarray(NULL, 2 * n_over + n_under + 1, sizeof(*merged));
	if (!merged)
		return -ENOMEM;
	n = merge(l->map + from, n_over, under, n_under, merged);
	if (n > n_over) {
		err = slices_reserve(&l->map, l->n_map, &l->cap_map, n - n_over);
		if (err < 0)
			return err;
	}
	if (l->n_map > from + n_over)
		memmove(l->map + from + n, l->map + from + n_over,
			(l->n_map - from - n_over) * sizeof(*l->map));
	if (n > 0)
		memcpy(l->map + from, merged, n * sizeof(*l->map));
	l->n_map += n - n_over;
	l->n_map = slices_join(l->map, l->n_map, from > 0 ? from - 1 : 0, MFS_MIN(from + n + 1, l->n_map));
	d->added = true;
	return 0;
}

int layout_clip_blob(const struct node_blob *record, uint64_t size, struct node_blob *ret)
{
	struct layout l;
	int err = layout_parse(record, &l);

	*ret = (struct node_blob){ 0 };
	if (err < 0)
		return err;
	layout_clip(&l, size);
	err = layout_encode(&l, ret);
	layout_release(&l);
	return err;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

/* The ids of its documents, sorted, each once. */
static int doc_ids(const struct layout *l, uint64_t **ret, size_t *ret_n)
{
	size_t n = 0;

	*ret_n = 0;
	*ret = calloc(l->n_docs + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_docs; i++)
		(*ret)[i] = l->docs[i].id;
	qsort(*ret, l->n_docs, sizeof(**ret), compare_u64);
	for (size_t i = 0; i < l->n_docs; i++)
		if (n == 0 || (*ret)[n - 1] != (*ret)[i])
			(*ret)[n++] = (*ret)[i];
	*ret_n = n;
	return 0;
}

/* One object under two numberings of the log (it began anew in between) is the same object. */
static bool has_segment(const struct layout *l, const struct segment *s)
{
	for (size_t i = 0; i < l->n_segments; i++) {
		const struct segment *t = &l->segments[i];

		if (t->session == s->session && t->op == s->op && t->store == s->store &&
		    !strcmp(t->version, s->version))
			return true;
	}
	return false;
}

static int diff(const struct layout *before, const struct layout *after, layout_gone_fn *fn, void *arg)
{
	MFS_AUTOFREE uint64_t *old = NULL, *new = NULL;
	size_t n_old, n_new;
	int err = doc_ids(before, &old, &n_old);

	if (err == 0)
		err = doc_ids(after, &new, &n_new);
	for (size_t i = 0; i < before->n_segments && err == 0; i++)
		if (!has_segment(after, &before->segments[i]))
			err = fn(arg, &before->segments[i], 0);
	for (size_t i = 0; i < n_old && err == 0; i++)
		if (!bsearch(&old[i], new, n_new, sizeof(*new), compare_u64))
			err = fn(arg, NULL, old[i]);
	return err;
}

int layout_diff(const struct node_blob *before, const struct node_blob *after, layout_gone_fn *fn, void *arg)
{
	struct layout a, b;
	int err = layout_parse(before, &a);

	if (err < 0)
		return err;
	layout_init(&b);
	if (after)
		err = layout_parse(after, &b);
	if (err == 0)
		err = diff(&a, &b, fn, arg);
	layout_release(&a);
	layout_release(&b);
	return err;
}
