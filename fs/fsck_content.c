/*
 * A state's bytes: the record fits together, and every object it names is in the store, long enough and of this inode.
 *
 * What is lost is told with the bytes of the file that it means, and with the newest version that has everything. Nothing is
 * restored by itself: which of two losses is the smaller one is not ours to decide.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "fs/fsck_internal.h"
#include "fs/gc_internal.h"
#include "fs/pieces.h"
#include "meta/shared.h"

struct look {
	struct fsck *f;
	const char *where, *whose;
	const struct file_content *c;
};

/* Online: replaced and collected while we looked? Only what the index still names is missing. 1, 0 or -errno. */
static int still_named(struct fsck *f, mfs_ino_t ino, const char *version)
{
	struct gc_names names = { 0 };
	int r;

	if (!f->opt->online)
		return 1;
	r = gc_names_read(f->v, f->op, ino, &names);
	if (r == 0)
		r = gc_names_version(&names, version);
	gc_names_release(&names);
	return r;
}

/* --- what is whole --- */

/* A piece_fn: -ENOENT where it is missing or too short. */
static int is_there(void *arg, const struct piece *p)
{
	struct fsck *f = arg;
	struct object_info info;
	int r = object_head(f->v->store, f->op, p->ref->bucket, p->ref->key, p->ref->version, &info);

	return r == 0 && info.size < p->len ? -ENOENT : r;
}

/* The newest version that nothing is missing of, as massfs restore takes it; "none". */
static void intact_version(struct fsck *f, mfs_ino_t ino, char *buf, size_t size)
{
	struct version_list l = { 0 };
	int r = engine_versions_by_ino(f->v->engine, f->op, ino, &l);

	snprintf(buf, size, "none");
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		struct file_content c = file_content_of_version(&l.v[i]);
		char why[FILE_CONTENT_WHY];

		if (file_content_check(f->v, f->op, &c, why) < 0 || file_content_pieces(&c, is_there, f) < 0)
			continue;
		file_version_name(&l.v[i], buf, size);
		break;
	}
	version_list_release(&l);
}

/* "bytes 4096-8191 and others, 12288 in all". */
static void describe_loss(struct look *l, const char *version, char *buf, size_t size)
{
	uint64_t off, len, total = 0;
	struct layout layout;

	snprintf(buf, size, "an unknown part");
	if (file_content_layout(l->f->v, l->f->op, l->c, &layout) < 0)
		return;
	total = file_content_of_object(l->c, &layout, version, &off, &len);
	layout_release(&layout);
	if (total == 0)
		snprintf(buf, size, "no byte");
	else
		snprintf(buf, size, "bytes %" PRIu64 "-%" PRIu64 "%s, %" PRIu64 " in all", off, off + len - 1,
			 total > len ? " and others" : "", total);
}

/* --- one object --- */

static int tell_lost(struct look *l, const struct piece *p, const char *what, const char *detail)
{
	char intact[64], loss[100];
	int r = still_named(l->f, l->c->ino, p->ref->version);

	if (r <= 0)
		return r;
	describe_loss(l, p->ref->version, loss, sizeof(loss));
	intact_version(l->f, l->c->ino, intact, sizeof(intact));
	fsck_problem(l->f, what, l->c->ino, l->where, false,
		     "version %s of key %s, %s of %s, %s: %s lost; newest intact version: %s (massfs restore), or remove it",
		     p->ref->version, p->ref->key, p->is_segment ? "a patch" : "content", l->whose, detail, loss, intact);
	return 0;
}

/* Is the file on the list of those that share the object? 1, 0 or -errno. */
static int is_shared(struct fsck *f, const char *version, mfs_ino_t ino)
{
	struct cell_record cell;
	int r = shared_get(f->v->engine, f->op, version, &cell);

	if (r < 0)
		return r == -ENOTSUP ? 0 : r;
	r = node_blob_has_u64(&cell.blob, ino);
	cell_record_release(&cell);
	return r;
}

/* A piece_fn. */
static int check_piece(void *arg, const struct piece *p)
{
	struct look *l = arg;
	struct fsck *f = l->f;
	struct object_info info;
	char detail[80];
	int r = object_head(f->v->store, f->op, p->ref->bucket, p->ref->key, p->ref->version, &info);

	f->res->objects++;
	f->res->segments += p->is_segment;
	if (r == -ENOENT)
		return tell_lost(l, p, "missing object", "is not in the store");
	if (r == -EUCLEAN || r == -EIO)
		return tell_lost(l, p, "damaged object", strerror(-r));
	if (r < 0)
		return r;
	if (info.size < p->len || (p->is_segment && info.size != p->len)) {
		snprintf(detail, sizeof(detail), "has %" PRIu64 " bytes of %" PRIu64, info.size, p->len);
		return tell_lost(l, p, "damaged object", detail);
	}
	if (info.own && info.ino != l->c->ino) {
		r = is_shared(f, p->ref->version, l->c->ino);
		if (r < 0)
			return r;
	}
	if (info.own && info.ino != l->c->ino && r == 0)
		fsck_problem(f, "object of another file", l->c->ino, l->where, false,
			     "version %s was made for inode %" PRIu64 "; copy the file and remove this one", p->ref->version,
			     info.ino);
	return 0;
}

/* --- the state --- */

/* Online: is the state still there as it was read? */
static int still_there(struct fsck *f, const struct file_content *c)
{
	struct version_list l = { 0 };
	struct node n = NODE_INIT;
	bool found;
	int r = 0;

	if (!f->opt->online)
		return 1;
	r = engine_get(f->v->engine, f->op, c->ino, &n);
	found = r == 0 && n.attr.data == c->data && n.slices.size == c->slices->size &&
		(!c->slices->size || memcmp(n.slices.data, c->slices->data, c->slices->size) == 0);
	node_release(&n);
	if (found || (r < 0 && r != -ESTALE))
		return r < 0 ? r : 1;
	r = engine_versions_by_ino(f->v->engine, f->op, c->ino, &l);
	for (size_t i = 0; r == 0 && i < l.n; i++)
		found |= l.v[i].data == c->data;
	version_list_release(&l);
	return r < 0 ? r : found;
}

static int count_doc(void *arg, const struct segment *s, uint64_t doc_id)
{
	struct fsck *f = arg;

	(void)doc_id;
	f->res->docs += !s;
	return 0;
}

int fsck_content(struct fsck *f, const char *where, const struct file_content *c, const char *whose)
{
	struct look l = { .f = f, .where = where ? where : "", .whose = whose, .c = c };
	char why[FILE_CONTENT_WHY], intact[64];
	int r = file_content_check(f->v, f->op, c, why);

	if (r == -EUCLEAN) {
		r = still_there(f, c);
		if (r <= 0)
			return r;
		intact_version(f, c->ino, intact, sizeof(intact));
		fsck_problem(f, "damaged layout", c->ino, l.where, false,
			     "%s: %s; newest intact version: %s (massfs restore), or remove it", whose, why, intact);
		r = 0;
	} else if (r == 0 && c->slices->size) {
		r = layout_diff(c->slices, NULL, count_doc, f);
	}
	if (r == 0)
		r = file_content_pieces(c, check_piece, &l);
	return r == -EUCLEAN ? 0 : r; /* told */
}

int fsck_count_objects(struct fsck *f)
{
	struct gc_options opt = { .now = mfs_now_ns(), .dropped_age_ns = gc_dropped_age_ns() };
	struct gc_result gc = { 0 };
	int r = gc_run(f->v, f->op, &opt, &gc);

	f->res->stored = gc.objects;
	f->res->unnamed = gc.unnamed + gc.dropped;
	f->res->waiting = gc.waiting + gc.in_flight;
	return r;
}
