/*
 * Layouts as lists of what is dropped with them.
 */
#include "meta/drops.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "meta/layout.h"

static bool has_object(const struct content_names *c)
{
	return c && c->ref && !object_ref_is_empty(c->ref);
}

static const struct node_blob *slices_of(const struct content_names *c)
{
	return c && c->slices && c->slices->size ? c->slices : NULL;
}

/* A truncation upward passes the record's own on. */
static bool same_blob(const struct node_blob *a, const struct node_blob *b)
{
	return b && a->size == b->size && a->data == b->data;
}

struct gathering {
	struct dropped_list *l;
	mfs_ino_t ino;
	int64_t at;
};

static struct dropped_record *add(const struct gathering *g)
{
	struct dropped_record *d = dropped_list_add(g->l);

	if (d) {
		d->ino = g->ino;
		d->at = g->at;
	}
	return d;
}

static int add_object(const struct gathering *g, const struct object_ref *ref)
{
	struct dropped_record *d = add(g);

	return d ? object_ref_copy(ref, &d->ref) : -ENOMEM;
}

static int add_gone(void *arg, const struct segment *s, uint64_t doc_id)
{
	struct dropped_record *d = add(arg);

	if (!d)
		return -ENOMEM;
	d->doc_id = s ? 0 : doc_id;
	return s ? layout_segment_ref(s, &d->ref) : 0;
}

static void shrink(struct dropped_list *l, size_t n)
{
	while (l->n > n)
		dropped_record_release(&l->v[--l->n]);
}

int drops_add(struct dropped_list *l, mfs_ino_t ino, int64_t at, const struct content_names *before,
	      const struct content_names *after)
{
	struct gathering g = { .l = l, .ino = ino, .at = at };
	size_t n = l->n;
	int r = 0;

	if (has_object(before) && !(has_object(after) && object_ref_equal(before->ref, after->ref)))
		r = add_object(&g, before->ref);
	if (r == 0 && slices_of(before) && !same_blob(slices_of(before), slices_of(after)))
		r = layout_diff(slices_of(before), slices_of(after), add_gone, &g);
	if (r < 0)
		shrink(l, n);
	if (r == -EUCLEAN)
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL,
			"ino=%" PRIu64 " its slices cannot be read, so nothing of them is let go; run massfs fsck", ino);
	return r;
}

void drops_write(struct change *c, const struct dropped_list *l)
{
	struct write *w;

	if (l->n == 0)
		return;
	w = change_write(c, WRITE_DROPPED_PUT, 0);
	w->dropped = l->v;
	w->n = (uint32_t)l->n;
}

struct search {
	const struct dropped_record *d;
	bool found;
};

static int compare(void *arg, const struct segment *s, uint64_t doc_id)
{
	struct search *x = arg;

	if (x->d->doc_id)
		x->found |= !s && doc_id == x->d->doc_id;
	else
		x->found |= s && strcmp(s->version, x->d->ref.version) == 0;
	return 0;
}

int drops_is_named(const struct dropped_record *d, const struct content_names *by)
{
	struct search x = { .d = d };
	int r;

	if (!d->doc_id && has_object(by) && strcmp(by->ref->version, d->ref.version) == 0)
		return 1;
	if (!slices_of(by))
		return 0;
	r = layout_diff(slices_of(by), NULL, compare, &x);
	return r < 0 ? r : x.found;
}
