/*
 * Keeping a layout below its bounds: the range with most slices is composed into one patch object and one slice (holes
 * in it stay holes), or what is still in use of the smallest segments is put together into one. The file's bytes do not
 * change: the commit raises lay, not data, by compare-and-set, and whoever loses that race has done nothing.
 *
 * From three quarters of a bound on a job does it in the background, after a commit; a writer that reaches the bound
 * does it itself, and waits (content_commit.c). Either way the cost is in proportion to what was written.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/workers.h"
#include "fs/content_internal.h"

#define RANGE_MAX    (UINT64_C(4) << 20)
#define RANGE_ALIGN  4096
#define HOLE_KEPT    (UINT64_C(64) << 10) /* smaller ones are written as zeros, bigger ones stay holes */
#define FEW	     8			  /* slices of a range that are not worth zeros in long holes' place */
#define ROUNDS	     4			  /* of one job */
#define TODO_IDLE_NS (30 * MFS_NSEC_PER_SEC)

static enum layout_pressure of_bound(size_t n, size_t max)
{
	if (!max || n < max - max / 4)
		return LAYOUT_EASY;
	return n < max ? LAYOUT_COMPACT : LAYOUT_FULL;
}

enum layout_pressure content_pressure(const struct content_env *env, const struct layout *l)
{
	enum layout_pressure own = layout_pressure(l), slices = of_bound(l->n_map, env->slices_max),
			     segments = of_bound(l->n_segments, env->segments_max);

	return MFS_MAX(own, MFS_MAX(slices, segments));
}

static bool many_segments(const struct content_env *env, const struct layout *l)
{
	return of_bound(l->n_segments, LAYOUT_SEGMENTS_MAX) != LAYOUT_EASY || of_bound(l->n_segments, env->segments_max) != LAYOUT_EASY;
}

/* The runs of [off, end), holes that are shorter than `kept` among them. *ret_before, *ret_after: slices of it. */
static int pick_runs(const struct state *s, uint64_t off, uint64_t end, uint64_t kept, struct patch *p, size_t *ret_before,
		     size_t *ret_after)
{
	uint64_t hole = 0, hole_end = 0;
	int r = 0;

	*ret_before = *ret_after = 0;
	for (struct layout_extent x; off < end && r == 0; off += x.len) {
		bool is_hole;

		r = layout_at(&s->layout, off, s->obj_len, end, &x);
		if (r < 0)
			break;
		is_hole = x.kind == EXTENT_HOLE;
		*ret_before += x.kind != EXTENT_BASE;
		if (is_hole && hole_end != x.off)
			hole = x.off;
		if (is_hole)
			hole_end = x.off + x.len;
		if (is_hole && hole_end < end)
			continue;
		if (hole_end > hole && hole_end - hole < kept && (p->n || kept == UINT64_MAX))
			r = patch_add(p, hole, hole_end - hole, NULL);
		hole = hole_end = 0;
		if (r == 0 && !is_hole)
			r = patch_add(p, x.off, x.len, NULL);
	}
	*ret_after = 2 * p->n;
	return r == -EUCLEAN ? -EIO : r;
}

/* The runs of the range with most slices. Where that leaves about as many (long holes between the runs), all of it. */
static int pick_range(const struct state *s, struct patch *p)
{
	size_t before, after;
	uint64_t off, len;
	int r;

	layout_worst_range(&s->layout, s->size, RANGE_MAX, RANGE_ALIGN, &off, &len);
	r = pick_runs(s, off, off + len, HOLE_KEPT, p, &before, &after);
	if (r == 0 && before >= FEW && (after > before / 2 || !p->n)) {
		patch_release(p);
		r = pick_runs(s, off, off + len, UINT64_MAX, p, &before, &after);
	}
	return r;
}

struct use {
	uint64_t live, len;
	size_t i;
};

static int by_live(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	return (x->live > y->live) - (x->live < y->live);
}

static size_t segment_of(const struct layout *l, uint64_t pos)
{
	size_t lo = 0, hi = l->n_segments;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->segments[mid].pos + l->segments[mid].len > pos)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Which segments to empty: those with least in them, or (wasteful) those of which most is dead. */
static int pick_segments(const struct content *c, const struct layout *l, bool *take)
{
	MFS_AUTOFREE struct use *u = calloc(l->n_segments + 1, sizeof(*u));
	bool many = many_segments(c->env, l);
	size_t quota = many ? MFS_MAX(l->n_segments / 4, (size_t)2) : l->n_segments, n = 0;

	if (!u)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_segments; i++)
		u[i] = (struct use){ .len = l->segments[i].len, .i = i };
	for (size_t i = 0; i < l->n_map; i++) {
		const struct slice *s = &l->map[i];
		uint64_t at = s->pos;

		if (s->pos == LAYOUT_HOLE)
			continue;
		for (size_t k = segment_of(l, at); k < l->n_segments && at < s->pos + s->len; k++) {
			uint64_t end = MFS_MIN(s->pos + s->len, l->segments[k].pos + l->segments[k].len);

			u[k].live += end > at ? end - at : 0;
			at = MFS_MAX(at, end);
		}
	}
	qsort(u, l->n_segments, sizeof(*u), by_live);
	for (size_t i = 0; i < l->n_segments && n < quota; i++) {
		/* Empty ones go with the next commit that looks for them, which is this one. */
		if (!u[i].live || (!many && u[i].live * 2 > u[i].len))
			continue;
		take[u[i].i] = true;
		n++;
	}
	return n > 1 || !many ? 0 : -ENOSPC;
}

/* The runs that lie in them, in file order. */
static int pick_live(const struct content *c, const struct state *s, struct patch *p)
{
	const struct layout *l = &s->layout;
	MFS_AUTOFREE bool *take = calloc(l->n_segments + 1, sizeof(*take));
	int r = take ? pick_segments(c, l, take) : -ENOMEM;

	for (size_t i = 0; i < l->n_map && r == 0; i++) {
		uint64_t off = l->map[i].off, end = off + l->map[i].len;

		while (l->map[i].pos != LAYOUT_HOLE && off < end && r == 0) {
			struct layout_extent x;

			r = layout_at(l, off, s->obj_len, end, &x);
			if (r == 0 && take[x.segment - l->segments])
				r = patch_add(p, x.off, x.len, NULL);
			off += r == 0 ? x.len : 0;
		}
	}
	return r == -EUCLEAN ? -EIO : r;
}

static int record(struct content *c, struct op_ctx *op, struct state *next, uint64_t session)
{
	struct encoded enc = { 0 };
	struct mfs_attr now;
	int r = layout_prepare(c, op, next, &enc);

	if (r == 0) {
		struct commit cm = { .ino = c->ino,
				     .lay = next->lay,
				     .etag = next->etag[0] ? next->etag : NULL,
				     .obj_len = next->obj_len,
				     .size = next->size,
				     .alloc = next->attr.alloc,
				     .settle = true,
				     .session = session,
				     .slices = &enc.slices,
				     .docs = enc.docs.v,
				     .n_docs = (uint32_t)enc.docs.n,
				     .todo = mfs_now_ns() + TODO_IDLE_NS };

		if (next->object)
			cm.ref = next->object->ref; /* borrowed */
		r = namespace_commit(c->env->vol->ns, op, &cm, &now);
		if (r == 0) {
			next->lay = now.lay;
			next->data = now.data;
			next->attr = now;
			next->todo = cm.todo;
		}
	}
	encoded_release(&enc);
	return r;
}

static int compact(struct content *c, struct op_ctx *op, struct state *s, struct patch *p)
{
	struct state *next = state_clone(s);
	int r;

	c->swept = UINT64_MAX / 2; /* segments that this empties leave the table with it: else there is no more room than before */
	r = next ? patch_store(c, op, s, p, false, 0, next) : -ENOMEM;
	if (r == 0) {
		mfs_crash_point("compact.stored");
		r = record(c, op, next, p->seg.session);
		if (r < 0)
			patch_undo(c, op, p, r);
	} else {
		patch_undo(c, op, p, -EAGAIN);
	}
	if (r < 0) {
		state_put(next);
		return r;
	}
	tail_drop(c);
	c->tail.pos = c->tail.own_from = next->layout.log_end;
	MFS_GUARD(&c->lock);
	state_put(c->state);
	c->state = next;
	c->gen++;
	return 0;
}

int content_compact(struct content *c, struct op_ctx *op)
{
	struct patch p = { 0 };
	struct state *s;
	int r;

	{
		MFS_GUARD(&c->lock);

		s = state_ref(c->state);
		if (!c->dirty)
			content_session_now(c);
	}
	if (c->wasteful || many_segments(c->env, &s->layout))
		r = pick_live(c, s, &p);
	else
		r = pick_range(s, &p);
	c->wasteful = false;
	if (r == 0 && p.n > 0) {
		r = compact(c, op, s, &p);
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " composed %" PRIu64 " bytes of %zu runs, %zu slices before: %s", c->ino,
			  p.bytes, p.n, s->layout.n_map, strerror(-r));
		r = r == 0 ? 1 : r;
	}
	patch_release(&p);
	state_put(s);
	return r == -ENOSPC && p.n == 0 ? 0 : r;
}

static void compact_run(void *arg)
{
	struct content *c = arg;
	struct op_ctx op = { 0 };
	bool mine;
	int r = 1;

	{
		MFS_GUARD(&c->lock);

		/* Not waiting: who is busy may wait for a worker of this pool. The next commit asks again. */
		mine = !c->busy && !c->stale && !c->upload;
		if (mine)
			c->busy = true;
	}
	for (int i = 0; mine && r > 0 && i < ROUNDS && (c->wasteful || content_pressure(c->env, &c->state->layout) != LAYOUT_EASY); i++)
		r = content_compact(c, &op);
	if (r == -EAGAIN || r == -ENOENT) { /* another committer was faster */
		MFS_GUARD(&c->lock);

		c->stale = true;
	} else if (r < 0) {
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &op,
			"inode %" PRIu64 ": its changed ranges could not be put together (%s); tried again after the next commit", c->ino,
			strerror(-r));
	}
	MFS_GUARD(&c->lock);
	if (mine)
		c->busy = false;
	c->compacting = false;
	pthread_cond_broadcast(&c->changed);
}

void content_compact_later(struct content *c)
{
	{
		MFS_GUARD(&c->lock);

		if (c->compacting || (!c->wasteful && content_pressure(c->env, &c->state->layout) == LAYOUT_EASY))
			return;
		c->compacting = true;
	}
	if (workers_try_submit(c->env->uploaders, compact_run, c) == 0)
		return;
	MFS_GUARD(&c->lock);
	c->compacting = false;
	pthread_cond_broadcast(&c->changed);
}
