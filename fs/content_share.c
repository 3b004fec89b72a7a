/*
 * Copying a range without moving a byte: the destination names the source's object (meta/shared.h).
 *
 * Only what is the beginning of both files, since a record has one object at place 0: of a source that is one whole object
 * with nothing over it, over a destination that has nothing else; or further on, of a destination that has the same object up
 * to there (a copy of more than 2 GiB comes in several calls). That is `cp`, and file managers. All else is copied.
 *
 * It is in the index, durably, before the call returns, as each call may be the last; the file is not dirty afterwards.
 * The destination gets an object of its own from the reconciler, as a file that was renamed does.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "fs/content_internal.h"

#define SHARE_MIN MFS_MIB /* less is not worth a list, and a copy by the reconciler */
#define TODO_IDLE_NS (30 * MFS_NSEC_PER_SEC)

/* The source's state, if it is one object and nothing is on its way; else NULL. */
static struct state *whole_source(struct content *src)
{
	const struct state *s;
	MFS_GUARD(&src->lock);

	s = src->state;
	if (src->dirty || src->stale || src->upload || src->completing || src->failed)
		return NULL;
	if (!s->object || s->obj_len != s->size || !layout_is_empty(&s->layout))
		return NULL;
	return state_ref(src->state);
}

/* Would the destination, with [0, end) of that object, have all it should? The caller is busy. */
static bool takes_it_locked(const struct content *dst, const struct state *from, uint64_t off, uint64_t end)
{
	const struct state *s = dst->state;

	if (dst->failed || dst->stale || dst->upload || dst->n_sending || dst->map.n || dst->holes.n)
		return false;
	if (off == 0)
		return dst->size <= end;
	return !dst->dirty && s->object && s->size == off && s->obj_len == off && layout_is_empty(&s->layout) &&
	       object_ref_equal(&s->object->ref, &from->object->ref);
}

static struct state *shared_state(const struct state *from, uint64_t end)
{
	struct state *s = state_new();

	if (!s)
		return NULL;
	s->object = blob_ref(from->object);
	memcpy(s->etag, from->etag, sizeof(s->etag));
	s->size = s->obj_len = end;
	return s;
}

static int record(struct content *dst, struct op_ctx *op, const struct content *src, const struct state *from,
		  struct state *next)
{
	uint64_t alloc = from->attr.alloc;
	struct mfs_attr attr;
	struct commit cm = {
		.ino = dst->ino,
		.lay = dst->state->lay,
		.ref = from->object->ref, /* borrowed */
		.etag = from->etag[0] ? from->etag : NULL,
		.obj_len = next->obj_len,
		.size = next->size,
		.alloc = MFS_MIN(alloc, (next->size + 4095) / 4096 * 4096),
		.mtime = mfs_now_ns(),
		.keep_version = dst->version_due,
		.share_of = src->ino,
		.share_lay = from->lay,
		.durable = true,
		.todo = mfs_now_ns() + TODO_IDLE_NS,
	};
	int r = namespace_commit(dst->env->vol->ns, op, &cm, &attr);

	if (r < 0)
		return r;
	next->lay = attr.lay;
	next->data = attr.data;
	next->attr = attr;
	next->todo = cm.todo;
	return 0;
}

/* The caller is busy. `next` is taken. */
static void took_over(struct content *dst, struct state *next)
{
	uint64_t end = next->size;
	MFS_GUARD(&dst->lock);

	tail_drop(dst);
	inline_moved(dst->env, dst->state, next);
	state_put(dst->state);
	dst->state = next;
	dst->clip = CONTENT_ALL;
	dst->tail.own_from = dst->tail.pos = next->layout.log_end;
	dst->rewrite = dst->version_due = dst->closed = false;
	dst->append_from = CONTENT_ALL;
	dst->mtime = 0;
	dst->unsure_data = 0;
	/* Written meanwhile: after the copy. */
	dst->size = MFS_MAX(dst->size, end);
	dst->dirty = dst->map.n > 0 || dst->holes.n > 0 || dst->size != end;
	if (dst->dirty)
		content_touch_locked(dst);
	dst->gen++;
}

/* The caller is busy. */
static int share(struct content *dst, struct op_ctx *op, const struct content *src, const struct state *from,
		 uint64_t off, uint64_t end)
{
	struct state *next;
	bool fits;
	int r = content_refresh(dst, op);

	if (r < 0)
		return r;
	{
		MFS_GUARD(&dst->lock);

		fits = takes_it_locked(dst, from, off, end);
	}
	if (!fits)
		return -EXDEV;
	next = shared_state(from, end);
	if (!next)
		return -ENOMEM;
	r = record(dst, op, src, from, next);
	if (r == 0)
		took_over(dst, next);
	else
		state_put(next);
	return r;
}

ssize_t content_share(struct content *dst, struct op_ctx *op, uint64_t off, struct content *src, uint64_t len)
{
	struct state *from = src == dst ? NULL : whole_source(src);
	uint64_t end;
	int r = -EXDEV;

	if (!from)
		return 0;
	end = off < from->size ? off + MFS_MIN(len, from->size - off) : off;
	if (end >= off + SHARE_MIN || (off > 0 && end > off)) {
		{
			MFS_GUARD(&dst->lock);

			content_enter_locked(dst);
		}
		r = share(dst, op, src, from, off, end);
		MFS_GUARD(&dst->lock);
		content_leave_locked(dst);
	}
	state_put(from);
	if (r == 0) {
		mfs_crash_point("share.recorded");
		return (ssize_t)(end - off);
	}
	/* The source moved, or so many have its object, or the record moved (-EAGAIN): by bytes, then. */
	return r == -EXDEV || r == -ENOTSUP || r == -EMLINK || r == -EAGAIN || r == -ENOMEM ? 0 : r;
}
