/*
 * What the rebuilt index names, against what the store has. A record whose content is gone was removed or replaced after the
 * log's end (only gc deletes objects, and only what no record names), so it is taken out of the index.
 */
#include <errno.h>
#include <string.h>

#include "common/hash.h"
#include "fs/rebuild_internal.h"
#include "fs/volume_cluster.h"
#include "meta/layout.h"

#define PAGE 256

uint64_t rebuild_place_hash(const char *key, const char *version)
{
	return mfs_hash_u64(mfs_hash64(key, strlen(key)) + 3 * mfs_hash64(version, strlen(version)));
}

/* --- the store --- */

static int see_version(void *arg, const char *key, const struct object_info *info)
{
	struct rebuild *b = arg;

	if (info->is_marker || (info->own && info->ino == INDEX_LOG_INO) || (key && strcmp(key, VOLUME_OBJECT) == 0))
		return 0;
	b->res->objects++;
	rebuild_progress(b, "objects", b->res->objects);
	return gc_set_add(&b->present, gc_version_hash(info->version));
}

/* --- the index --- */

struct naming {
	struct rebuild *b;
	bool whole; /* all that was named so far is present */
	bool note; /* into b->named */
};

static int name_version(struct naming *n, const char *version)
{
	uint64_t h = gc_version_hash(version);

	n->whole = n->whole && gc_set_has(&n->b->present, h);
	return n->note ? gc_set_add(&n->b->named, h) : 0;
}

static int name_segment(void *arg, const struct segment *s, uint64_t doc_id)
{
	(void)doc_id;
	return s ? name_version(arg, s->version) : 0;
}

static int name_layout(struct naming *n, const struct object_ref *ref, const struct node_blob *slices)
{
	int r = object_ref_is_empty(ref) ? 0 : name_version(n, ref->version);

	if (r == 0 && slices->size)
		r = layout_diff(slices, NULL, name_segment, n);
	return r;
}

int rebuild_is_whole(struct rebuild *b, const struct object_ref *ref, const struct node_blob *slices,
		     bool *ret)
{
	struct naming n = { .b = b, .whole = true };
	int r = name_layout(&n, ref, slices);

	if (r == -EUCLEAN) {
		n.whole = false;
		r = 0;
	}
	*ret = n.whole;
	return r;
}

static int name_all(struct rebuild *b, const struct object_ref *ref, const struct node_blob *slices)
{
	struct naming n = { .b = b, .whole = true, .note = true };
	int r = name_layout(&n, ref, slices);

	return r == -EUCLEAN ? 0 : r;
}

static int each_node(struct rebuild *b, bool trash, int (*fn)(struct rebuild *b, const struct node *n))
{
	struct query q = { .limit = PAGE, .trash = trash };
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_query(b->s->engine, b->op, &q, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			q.after = l.v[i].attr.ino;
			r = atomic_load(&b->op->cancelled) ? -ECANCELED : fn(b, &l.v[i]);
		}
		node_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int each_version(struct rebuild *b, int (*fn)(struct rebuild *b, const struct version_record *v))
{
	uint64_t ino = 0, data = 0;
	size_t n;
	int r;

	do {
		struct version_list l = { 0 };

		r = engine_versions_all(b->s->engine, b->op, ino, data, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			ino = l.v[i].ino;
			data = l.v[i].data;
			r = fn(b, &l.v[i]);
		}
		version_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int note_node(struct rebuild *b, const struct node *n)
{
	int r = name_all(b, &n->ref, &n->slices);

	if (r == 0 && !(n->attr.flags & ATTR_IN_TRASH) && !object_ref_is_empty(&n->ref))
		r = gc_set_add(&b->current, rebuild_place_hash(n->ref.key, n->ref.version));
	return r;
}

static int note_version(struct rebuild *b, const struct version_record *v)
{
	return name_all(b, &v->ref, &v->slices);
}

static int note_dropped(struct rebuild *b)
{
	uint64_t after = 0;
	size_t n;
	int r;

	do {
		struct dropped_list l = { 0 };

		r = engine_dropped(b->s->engine, b->op, INT64_MAX, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			after = l.v[i].id;
			if (!object_ref_is_empty(&l.v[i].ref))
				r = gc_set_add(&b->named, gc_version_hash(l.v[i].ref.version));
		}
		dropped_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

int rebuild_take_stock(struct rebuild *b)
{
	int r = object_list_versions(b->s->store, b->op, NULL, see_version, b);

	gc_set_sort(&b->present);
	if (r == 0)
		r = each_node(b, false, note_node);
	if (r == 0)
		r = each_node(b, true, note_node);
	if (r == 0)
		r = each_version(b, note_version);
	if (r == 0)
		r = note_dropped(b);
	gc_set_sort(&b->named);
	gc_set_sort(&b->current);
	return r;
}

/* --- what is gone --- */

static int delete_aliases(struct rebuild *b, mfs_ino_t ino)
{
	struct alias a[16];
	int n;

	while ((n = engine_aliases(b->s->engine, b->op, ino, a, MFS_ARRAY_LEN(a))) > 0) {
		struct change c = { 0 };
		int r;

		change_write(&c, WRITE_EDIT, ino)->mask = EDIT_NO_BUMP_VER;
		change_write(&c, WRITE_ALIAS_DELETE, a[0].id);
		change_touch(&c, a[0].parent, b->now, -1, 0);
		r = engine_apply(b->s->engine, b->op, &c);
		if (r < 0)
			return r;
	}
	return n;
}

static void tell_lost(struct rebuild *b, const struct node *n)
{
	b->res->lost_files++;
	rebuild_found(b, "content gone", n->ref.key ? n->ref.key : n->name.bytes);
}

static int drop_if_gone(struct rebuild *b, const struct node *n)
{
	bool in_trash = n->attr.flags & ATTR_IN_TRASH, whole = true;
	struct change c = { 0 };
	int r = rebuild_is_whole(b, &n->ref, &n->slices, &whole);

	if (r < 0 || whole)
		return r;
	if (in_trash) {
		b->res->lost_past++;
		change_write(&c, WRITE_PURGE, n->attr.ino);
		return engine_apply(b->s->engine, b->op, &c);
	}
	tell_lost(b, n);
	r = delete_aliases(b, n->attr.ino);
	if (r < 0)
		return r;
	change_write(&c, WRITE_DELETE, n->attr.ino);
	if (n->parent)
		change_touch(&c, n->parent, b->now, -1, 0);
	return engine_apply(b->s->engine, b->op, &c);
}

static int drop_version_if_gone(struct rebuild *b, const struct version_record *v)
{
	struct change c = { 0 };
	bool whole = true;
	int r = rebuild_is_whole(b, &v->ref, &v->slices, &whole);

	if (r < 0 || whole)
		return r;
	b->res->lost_past++;
	change_write(&c, WRITE_VERSION_DELETE, 0)->version = v;
	return engine_apply(b->s->engine, b->op, &c);
}

int rebuild_drop_missing(struct rebuild *b)
{
	int r = each_node(b, false, drop_if_gone);

	if (r == 0)
		r = each_node(b, true, drop_if_gone);
	return r < 0 ? r : each_version(b, drop_version_if_gone);
}
