/*
 * A file's bytes, wherever they are, as one new object at its key: of inline bytes one put; else in parts. What the
 * object before has unchanged is copied by the store, the rest is read through a snapshot and put.
 *
 * Where parts may leave gaps (OBJECT_CAP_SPARSE) nothing is stored for a hole, and the record goes on to name the holes
 * that are worth it. Elsewhere parts are at least 5 MiB each, and so is what is put around a patch; holes become zeros.
 * Nothing is visible before the upload is complete; a cancelled or failed one is aborted, or kept for the next try
 * (reconcile_kept.h). How a file is cut depends on nothing but its record and the store, so that what one began
 * another can go on with.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/hash.h"
#include "fs/reconcile_kept.h"

#define WHOLE_MAX	OBJECT_PART_MIN	       /* one put */
#define COPY_MIN	(UINT64_C(64) << 20)   /* a part copied by the store */
#define COPY_MAX	(UINT64_C(1) << 30)
#define PARTS_MAX	9000		       /* of the 10,000 that S3 allows */
#define PIECE		(UINT64_C(1) << 20)    /* put at a time where parts may be small */
#define GAP_MAX		(UINT64_C(128) << 10)  /* unchanged bytes between two patches that are read along */
#define MIXED_MAX	(UINT64_C(64) << 20)   /* of a part that is put around patches */
#define SPARSE_MIN	(UINT64_C(64) << 20)
#define HOLE_MIN	UINT64_C(4096)
#define PLAN		1 /* another number when files are cut in another way */

struct source {
	struct reconcile_ctx *rc;
	const struct node *n;
	struct snapshot *snap;
	const struct layout *layout;
	bool sparse; /* the store's parts may leave gaps */
	uint64_t copy; /* bytes copied at a time */
	struct layout holes; /* of the new object */
};

int reconcile_is_whole(const struct node *n, bool *ret)
{
	struct layout l;
	int r;

	*ret = !n->inline_data.data && !object_ref_is_empty(&n->ref) && n->attr.obj_len == n->attr.size;
	if (!*ret || !n->slices.size)
		return 0;
	r = layout_parse(&n->slices, &l);
	if (r < 0)
		return r;
	*ret = l.holes_in_base && l.n_docs == 0;
	for (size_t i = 0; i < l.n_recent && *ret; i++)
		*ret = l.recent[i].pos == LAYOUT_HOLE;
	layout_release(&l);
	return 0;
}

static int source_open(struct reconcile_ctx *rc, const struct node *n, struct source *s)
{
	int r;

	*s = (struct source){ .rc = rc, .n = n };
	s->sparse = object_store_caps(rc->v->store) & OBJECT_CAP_SPARSE;
	layout_init(&s->holes);
	r = snapshot_of_node(rc->v, rc->op, n, &s->snap);
	if (r < 0)
		return r;
	s->layout = snapshot_layout(s->snap);
	return 0;
}

static void source_close(struct source *s)
{
	layout_release(&s->holes);
	snapshot_free(s->snap);
}

/* Where the bytes at `off` are, up to the next change of place. */
static int extent_at(const struct source *s, uint64_t off, struct layout_extent *ret)
{
	const struct node *n = s->n;

	if (!n->inline_data.data)
		return layout_at(s->layout, off, n->attr.obj_len, n->attr.size, ret);
	*ret = (struct layout_extent){ .off = off, .kind = EXTENT_PATCH, .len = n->inline_data.size - off };
	if (off >= n->inline_data.size) {
		ret->kind = EXTENT_HOLE;
		ret->len = n->attr.size - off;
	}
	return 0;
}

static int hole_bytes(const struct source *s, uint64_t *ret)
{
	struct layout_extent e;
	int r = 0;

	*ret = 0;
	for (uint64_t at = 0; at < s->n->attr.size && r == 0; at += e.len) {
		r = extent_at(s, at, &e);
		if (r == 0 && e.kind == EXTENT_HOLE)
			*ret += e.len;
	}
	return r;
}

int reconcile_stays_sparse(struct reconcile_ctx *rc, const struct node *n, bool *ret)
{
	struct source s;
	uint64_t holes;
	int r;

	*ret = false;
	/* What has no holes of that size is known without its documents. */
	if ((object_store_caps(rc->v->store) & OBJECT_CAP_SPARSE) || n->attr.size <= SPARSE_MIN)
		return 0;
	r = source_open(rc, n, &s);
	if (r == 0)
		r = hole_bytes(&s, &holes);
	source_close(&s);
	if (r == 0)
		*ret = holes > SPARSE_MIN && holes > n->attr.size / 4;
	return r;
}

static bool moved(struct source *s, uint64_t bytes)
{
	return reconcile_stats_moved(&s->rc->v->reconcile, s->rc->op, s->rc->v->cfg->settle_rate, bytes,
				     s->n->inline_data.data);
}

static int pay(struct source *s, uint64_t bytes)
{
	return moved(s, bytes) ? 0 : -ECANCELED;
}

/* --- one put --- */

static int put_whole(struct source *s, const char *key, const struct object_meta *meta, struct object_info *ret)
{
	const struct node *n = s->n;
	size_t len = (size_t)n->attr.size;
	MFS_AUTOFREE void *buf = NULL;
	const void *data = n->inline_data.data;
	int r;

	if (!data || n->inline_data.size != len) {
		buf = calloc(1, len ? len : 1);
		if (!buf)
			return -ENOMEM;
		r = len ? snapshot_read(s->snap, s->rc->op, 0, buf, len) : 0;
		if (r < 0)
			return r;
		data = buf;
	}
	r = pay(s, len);
	return r < 0 ? r : object_put(s->rc->v->store, s->rc->op, NULL, key, data, len, meta, ret);
}

/* --- in parts --- */

struct parts {
	struct source *s;
	struct object_upload *u; /* NULL: it is an object already, and nothing is sent */
	unsigned int number;
	uint64_t at, room; /* of buf */
	unsigned char *buf;
};

/* Another try sent this part. */
static bool skip_part(struct parts *p, uint64_t len)
{
	if (p->u && !object_upload_has_part(p->u, p->number, p->at, len))
		return false;
	p->number++;
	p->at += len;
	return true;
}

static int copy_part(struct parts *p, uint64_t len)
{
	int r;

	if (skip_part(p, len))
		return 0;
	r = pay(p->s, len);
	if (r == 0)
		r = object_upload_part_copy(p->u, p->s->rc->op, p->number++, p->at, &p->s->n->ref, p->at, len);
	p->at += len;
	return r;
}

static int put_part(struct parts *p, uint64_t len)
{
	struct op_ctx *op = p->s->rc->op;
	int r;

	if (skip_part(p, len))
		return 0;
	if (len > p->room) {
		unsigned char *buf = realloc(p->buf, (size_t)len);

		if (!buf)
			return -ENOMEM;
		p->buf = buf;
		p->room = len;
	}
	r = snapshot_read(p->s->snap, op, p->at, p->buf, (size_t)len);
	if (r == 0)
		r = pay(p->s, len);
	if (r == 0)
		r = object_upload_part(p->u, op, p->number++, p->at, p->buf, (size_t)len);
	p->at += len;
	return r;
}

/* How far from `at` bytes are better read and put than copied: patches, and what little lies between them. */
static int patch_run(const struct source *s, uint64_t at, uint64_t *ret)
{
	struct layout_extent e;
	uint64_t end = at;
	int r;

	while (end - at < PIECE && end < s->n->attr.size) {
		r = extent_at(s, end, &e);
		if (r < 0)
			return r;
		if (e.kind == EXTENT_HOLE || (e.kind == EXTENT_BASE && e.len >= GAP_MAX))
			break;
		end += e.len;
	}
	*ret = MFS_MIN(end - at, PIECE);
	return 0;
}

/* Where parts may leave gaps: each byte is moved once, and holes are left out. */
static int next_sparse(struct parts *p)
{
	struct source *s = p->s;
	struct layout_extent e;
	uint64_t run;
	int r = extent_at(s, p->at, &e);

	if (r < 0)
		return r;
	switch (e.kind) {
	case EXTENT_HOLE:
		p->at += e.len;
		return e.len >= HOLE_MIN ? layout_set(&s->holes, e.off, e.len, LAYOUT_HOLE) : 0;
	case EXTENT_BASE:
		if (e.len >= GAP_MAX)
			return copy_part(p, MFS_MIN(e.len, s->copy));
		break;
	case EXTENT_PATCH:
		break;
	}
	r = patch_run(s, p->at, &run);
	if (r == 0 && run == 0)
		run = MFS_MIN(e.len, PIECE); /* a short unchanged piece by itself */
	return r < 0 ? r : put_part(p, run);
}

/* Parts of at least 5 MiB but for the last: unchanged runs that long are copied, around the rest bytes are put. */
static int next_plain(struct parts *p)
{
	struct source *s = p->s;
	uint64_t size = s->n->attr.size, left = size - p->at, run = 0, mixed;
	bool base = !s->n->inline_data.data && snapshot_is_base(s->snap, p->at, &run);

	run = MFS_MIN(run, left);
	if (base && (run >= OBJECT_PART_MIN || run == left)) {
		uint64_t len = MFS_MIN(run, s->copy);

		/* Not so that a piece too short to be copied is left of the run. */
		return copy_part(p, run - len < OBJECT_PART_MIN ? run : len);
	}
	mixed = MFS_MAX(OBJECT_PART_MIN, size / PARTS_MAX + 1);
	if (mixed > MIXED_MAX)
		return -EFBIG;
	return put_part(p, MFS_MIN(mixed, left));
}

/* What the cut depends on, by the same program. */
static uint64_t plan_of(const struct source *s)
{
	const struct node *n = s->n;
	char text[256 + OBJECT_VERSION_MAX];
	int len = snprintf(text, sizeof(text), "%d %" PRIu64 " %" PRIu64 " %" PRIu64 " %zu %" PRIu64 " %d %s", PLAN, n->attr.lay,
			   n->attr.size, n->attr.obj_len, (size_t)n->inline_data.size, s->copy, s->sparse, n->ref.version);

	return mfs_hash64(text, (size_t)len);
}

static int send_parts(struct parts *p)
{
	struct source *s = p->s;
	struct op_ctx *op = s->rc->op;
	int r = 0;

	while (p->at < s->n->attr.size && r == 0) {
		if (atomic_load(&op->cancelled))
			r = -ECANCELED;
		else
			r = s->sparse ? next_sparse(p) : next_plain(p);
		if (r == 0)
			mfs_crash_point("compose.part");
	}
	free(p->buf);
	return r;
}

static int put_parts(struct source *s, const char *key, struct object_meta *meta, struct object_info *ret, bool *ret_kept)
{
	struct op_ctx *op = s->rc->op;
	struct parts p = { .s = s, .number = 1 };
	uint64_t rate = s->rc->v->cfg->settle_rate;
	struct kept_upload k;
	int r;

	s->copy = MFS_MIN(MFS_MAX(COPY_MIN, s->n->attr.size / PARTS_MAX + 1), COPY_MAX);
	if (rate && s->sparse) /* a part a second or so, so that the limit is one */
		s->copy = MFS_MIN(s->copy, MFS_MAX(rate, PIECE));
	r = reconcile_kept_open(s->rc, s->n, key, plan_of(s), meta, &k);
	if (r < 0)
		return r;
	p.u = k.u;
	r = send_parts(&p);
	if (r == 0 && k.is_kept) /* it took long */
		r = reconcile_has_moved(s->rc, s->n);
	if (r < 0) {
		reconcile_kept_fail(s->rc, s->n, &k, r);
		return r;
	}
	*ret_kept = k.is_kept;
	if (!k.is_done)
		return object_upload_complete(k.u, op, s->n->attr.size, meta, ret);
	*ret = k.info;
	return 0;
}

/* The longest of them: as many as the record names without documents. */
static int thin_out(struct layout *holes)
{
	for (uint64_t min = 2 * HOLE_MIN; holes->n_recent > LAYOUT_RECENT_MAX; min *= 2) {
		for (size_t i = holes->n_recent; i-- > 0;) {
			struct slice h = holes->recent[i];
			int r = h.len < min ? layout_unset(holes, h.off, h.len) : 0;

			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int encode_holes(struct source *s, struct node_blob *ret)
{
	int r;

	*ret = (struct node_blob){ 0 };
	if (!s->holes.n_recent)
		return 0;
	r = thin_out(&s->holes);
	s->holes.holes_in_base = true;
	return r < 0 || !s->holes.n_recent ? r : layout_encode(&s->holes, ret);
}

static int compose(struct source *s, const char *key, struct object_meta *meta, struct object_info *ret, bool *ret_kept)
{
	struct reconcile_stats *stats = &s->rc->v->reconcile;
	uint64_t holes = 0;
	int r = s->sparse ? hole_bytes(s, &holes) : 0;

	if (r < 0)
		return r;
	if (s->n->attr.size <= WHOLE_MAX && holes < HOLE_MIN)
		return put_whole(s, key, meta, ret);
	if (!reconcile_stats_enter_big(stats, s->rc->op))
		return -ECANCELED;
	r = put_parts(s, key, meta, ret, ret_kept);
	reconcile_stats_leave_big(stats);
	return r;
}

int reconcile_compose(struct reconcile_ctx *rc, const struct node *n, const char *key, struct object_meta *meta,
		      struct object_info *ret, struct node_blob *ret_slices, bool *ret_kept)
{
	struct source s;
	int r = source_open(rc, n, &s);

	*ret_slices = (struct node_blob){ 0 };
	if (r == 0)
		r = compose(&s, key, meta, ret, ret_kept);
	if (r == 0) {
		r = encode_holes(&s, ret_slices);
		if (r == -EFBIG || r == -ENOMEM) /* what is not told is data that reads as zeros */
			r = 0;
	}
	source_close(&s);
	return r;
}

int reconcile_copy(struct reconcile_ctx *rc, const struct node *n, const char *bucket, const char *key,
		   const struct object_meta *meta, struct object_info *ret)
{
	bool cheap = object_store_caps(rc->v->store) & OBJECT_CAP_CHEAP_COPY;

	if (!cheap && !reconcile_stats_moved(&rc->v->reconcile, rc->op, rc->v->cfg->settle_rate, n->attr.size, false))
		return -ECANCELED;
	return object_copy(rc->v->store, rc->op, &n->ref, bucket, key, meta, ret);
}
