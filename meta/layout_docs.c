/*
 * The second level of a layout: slices documents, and the segments of the patch log.
 *
 * New documents are planned as a partition of the file: each document owns the file from its start to the next one's.
 * What a recent slice touches is written anew; the rest keeps its document.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "meta/layout_internal.h"

#define DOC_TARGET  192 /* slices of a document that is one of several: room to grow */
#define DOCS_REPACK (LAYOUT_DOCS_MAX - 16)
#define DOCS_PACKED 200 /* how many there shall be after everything was put together anew */

/* One document of the plan: an old entry that stays, or a range of the file to be written. */
struct plan_item {
	uint64_t lo, hi;
	size_t n; /* slices of map in it */
	const struct layout_doc *keep; /* NULL: to be written */
};
struct plan {
	struct plan_item *v;
	size_t n, cap;
	size_t n_new;
};

static int plan_add(struct plan *p, const struct plan_item *item)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		struct plan_item *v = reallocarray(p->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->cap = cap;
	}
	p->v[p->n++] = *item;
	p->n_new += !item->keep;
	return 0;
}

/* [lo, hi) as pieces of at most `each` slices, all of about the same number. */
static int plan_split(const struct layout *l, struct plan *p, uint64_t lo, uint64_t hi, size_t each)
{
	size_t n = slices_count(l->map, l->n_map, lo, hi), first = slices_find(l->map, l->n_map, lo);
	size_t pieces = (n + each - 1) / each;
	int err = 0;

	for (size_t i = 0; i < pieces && err == 0; i++) {
		size_t from = first + n * i / pieces, to = first + n * (i + 1) / pieces;
		struct plan_item item = {
			.lo = MFS_MAX(lo, l->map[from].off),
			.hi = MFS_MIN(hi, slice_end(&l->map[to - 1])),
			.n = to - from,
		};

		err = plan_add(p, &item);
	}
	return err;
}

/* A range to be written: joined with the one before it, when both are small, or on its own. */
static int plan_range(const struct layout *l, struct plan *p, uint64_t lo, uint64_t hi)
{
	size_t n = slices_count(l->map, l->n_map, lo, hi);

	if (n == 0)
		return 0;
	if (p->n > 0 && !p->v[p->n - 1].keep && p->v[p->n - 1].n + n <= DOC_TARGET) {
		lo = p->v[--p->n].lo;
		p->n_new--;
		n = slices_count(l->map, l->n_map, lo, hi);
	}
	return plan_split(l, p, lo, hi, n > LAYOUT_DOC_SLICES ? DOC_TARGET : LAYOUT_DOC_SLICES);
}

/* Everything anew, as few as leaves some room in each. */
static int plan_repack(const struct layout *l, struct plan *p)
{
	size_t each = (l->n_map + DOCS_PACKED - 1) / DOCS_PACKED;

	p->n = p->n_new = 0;
	if (each > LAYOUT_DOC_SLICES || l->n_map > LAYOUT_SLICES_MAX - LAYOUT_DOC_SLICES)
		each = LAYOUT_DOC_SLICES;
	return plan_split(l, p, 0, UINT64_MAX, MFS_MAX(each, DOC_TARGET));
}

static int plan_make(const struct layout *l, struct plan *p)
{
	int err = 0;

	if (l->n_docs == 0)
		err = plan_range(l, p, 0, UINT64_MAX);
	for (size_t i = 0; i < l->n_docs && err == 0; i++) {
		const struct layout_doc *d = &l->docs[i];
		uint64_t lo = i == 0 ? 0 : d->start, hi = i + 1 < l->n_docs ? d[1].start : UINT64_MAX;

		if (slices_count(l->recent, l->n_recent, lo, hi) == 0)
			err = plan_add(
				p, &(struct plan_item){ .lo = d->start, .hi = d->end, .n = d->n, .keep = d });
		else
			err = plan_range(l, p, lo, hi);
	}
	if (err == 0 && p->n > DOCS_REPACK)
		err = plan_repack(l, p);
	return err == 0 && p->n > LAYOUT_DOCS_MAX ? -EFBIG : err;
}

size_t layout_docs_needed(const struct layout *l)
{
	struct plan p = { 0 };
	size_t n = LAYOUT_DOCS_MAX;

	if (l->n_recent <= LAYOUT_RECENT_MAX)
		return 0;
	if (plan_make(l, &p) == 0)
		n = p.n_new;
	free(p.v);
	return n;
}

bool layout_is_whole(const struct layout *l)
{
	for (size_t i = 0; i < l->n_docs; i++)
		if (!l->docs[i].added)
			return false;
	return true;
}

/* The document of one item. */
static int write_doc(const struct layout *l, const struct plan_item *item, struct slices_doc_record *ret)
{
	struct slice v[LAYOUT_DOC_SLICES];
	size_t from = slices_find(l->map, l->n_map, item->lo);

	for (size_t i = 0; i < item->n; i++)
		v[i] = slice_within(&l->map[from + i], item->lo, item->hi);
	return layout_encode_doc(v, item->n, &ret->blob);
}

static int write_plan(const struct layout *l, const struct plan *p, const struct slices_doc_record *like,
		      struct layout_doc *docs, struct slices_doc_list *ret)
{
	uint64_t id = like->id;
	int err = 0;

	for (size_t i = 0; i < p->n && err == 0; i++) {
		const struct plan_item *item = &p->v[i];
		struct slices_doc_record *r;

		if (item->keep) {
			docs[i] = *item->keep;
			continue;
		}
		docs[i] = (struct layout_doc){
			.start = item->lo, .end = item->hi, .id = id, .n = (uint32_t)item->n, .added = true
		};
		r = slices_doc_list_add(ret);
		if (!r)
			return -ENOMEM;
		r->ino = like->ino;
		r->session = like->session;
		r->id = id++;
		err = write_doc(l, item, r);
	}
	return err;
}

int layout_make_docs(struct layout *l, mfs_ino_t ino, uint64_t session, uint64_t first_id,
		     struct slices_doc_list *ret)
{
	const struct slices_doc_record like = { .ino = ino, .session = session, .id = first_id };
	struct layout_doc *docs;
	struct plan p = { 0 };
	int err;

	*ret = (struct slices_doc_list){ 0 };
	if (!layout_is_whole(l))
		return -EINVAL;
	if (l->n_recent <= LAYOUT_RECENT_MAX)
		return 0;
	err = plan_make(l, &p);
	docs = err == 0 ? reallocarray(NULL, p.n + 1, sizeof(*docs)) : NULL;
	if (err == 0)
		err = docs ? write_plan(l, &p, &like, docs, ret) : -ENOMEM;
	if (err == 0) {
		free(MFS_TAKE(l->docs));
		l->docs = MFS_TAKE(docs);
		l->n_docs = p.n;
		l->cap_docs = p.n + 1;
		l->n_recent = 0;
	} else {
		slices_doc_list_release(ret);
	}
	free(docs);
	free(p.v);
	return err;
}

/* The first segment that ends behind pos. */
static size_t segment_find(const struct layout *l, uint64_t pos)
{
	size_t i = 0;

	while (i < l->n_segments && l->segments[i].pos + l->segments[i].len <= pos)
		i++;
	return i;
}

int layout_add_segment(struct layout *l, const struct segment *s, struct segment *dropped, size_t *n_dropped)
{
	uint64_t end = s->pos + s->len;
	size_t i = segment_find(l, s->pos), j = i;

	if (n_dropped)
		*n_dropped = 0;
	if (s->len == 0 || s->pos > LAYOUT_OFF_MAX || s->len > LAYOUT_OFF_MAX - s->pos)
		return -EINVAL;
	while (j < l->n_segments && l->segments[j].pos < end) {
		if (l->segments[j].pos < s->pos || l->segments[j].pos + l->segments[j].len > end)
			return -EINVAL;
		j++;
	}
	if (l->n_segments == l->cap_segments) {
		size_t cap = l->cap_segments + 32;
		struct segment *v = reallocarray(l->segments, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->segments = v;
		l->cap_segments = cap;
	}
	if (dropped && j > i)
		memcpy(dropped, l->segments + i, (j - i) * sizeof(*dropped));
	if (dropped && n_dropped)
		*n_dropped = j - i;
	memmove(l->segments + i + 1, l->segments + j, (l->n_segments - j) * sizeof(*s));
	l->segments[i] = *s;
	l->n_segments = l->n_segments - (j - i) + 1;
	l->log_end = MFS_MAX(l->log_end, end);
	return 0;
}

/* Mark the segments that [pos, end) of the log is in. */
static void mark_live(struct layout *l, uint64_t pos, uint64_t end)
{
	while (pos < end) {
		const struct segment *s = layout_segment_at(l, pos);

		if (!s)
			return; /* layout_at() says so to whoever reads it */
		l->segments[s - l->segments].live = true;
		pos = s->pos + s->len;
	}
}

void layout_drop_dead(struct layout *l, struct segment *dropped, size_t *n_dropped)
{
	bool whole = layout_is_whole(l);
	size_t k = 0, n = 0;

	for (size_t i = 0; i < l->n_segments; i++)
		l->segments[i].live = !whole;
	for (size_t i = 0; i < l->n_map; i++)
		if (l->map[i].pos != LAYOUT_HOLE)
			mark_live(l, l->map[i].pos, l->map[i].pos + l->map[i].len);
	for (size_t i = 0; i < l->n_segments; i++) {
		if (l->segments[i].live)
			l->segments[k++] = l->segments[i];
		else if (dropped)
			dropped[n++] = l->segments[i];
	}
	l->n_segments = k;
	if (n_dropped)
		*n_dropped = n;
}

void layout_log_use(const struct layout *l, uint64_t *ret_live, uint64_t *ret_held)
{
	*ret_live = *ret_held = 0;
	for (size_t i = 0; i < l->n_map; i++)
		if (l->map[i].pos != LAYOUT_HOLE)
			*ret_live += l->map[i].len;
	for (size_t i = 0; i < l->n_segments; i++)
		*ret_held += l->segments[i].len;
}

void layout_patch_key(const struct segment *s, char buf[LAYOUT_PATCH_KEY_MAX])
{
	snprintf(buf, LAYOUT_PATCH_KEY_MAX, LAYOUT_PATCH_PREFIX "%" PRIx64 "-%" PRIx64, s->session, s->op);
}

bool layout_patch_key_parse(const char *key, uint64_t *ret_session, uint64_t *ret_op)
{
	char again[LAYOUT_PATCH_KEY_MAX];
	struct segment s = { 0 };

	if (strncmp(key, LAYOUT_PATCH_PREFIX, strlen(LAYOUT_PATCH_PREFIX)) ||
	    sscanf(key + strlen(LAYOUT_PATCH_PREFIX), "%16" SCNx64 "-%16" SCNx64, &s.session, &s.op) != 2)
		return false;
	layout_patch_key(&s, again);
	*ret_session = s.session;
	*ret_op = s.op;
	return !strcmp(key, again); /* the one way to write it */
}

int layout_segment_ref(const struct segment *s, struct object_ref *ret)
{
	char key[LAYOUT_PATCH_KEY_MAX];

	layout_patch_key(s, key);
	*ret = (struct object_ref){ .store = s->store, .key = strdup(key) };
	if (!ret->key)
		return -ENOMEM;
	memcpy(ret->version, s->version, sizeof(ret->version));
	return 0;
}
