/* Another size, and ranges given back: in memory, where something is dirty, else in the index. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "fs/content_internal.h"

/* The state after the index alone was told of another size. NULL: no memory. */
static struct state *resized(const struct state *old, const struct mfs_attr *now)
{
	struct state *s = state_clone(old);

	if (!s)
		return NULL;
	s->size = now->size;
	s->obj_len = now->obj_len;
	s->inline_data.size = (size_t)MFS_MIN((uint64_t)s->inline_data.size, now->size);
	layout_clip(&s->layout, now->size);
	s->lay = now->lay;
	s->data = now->data;
	s->attr = *now;
	s->todo = now->size ? 1 : s->todo; /* when, only the index knows; that there is one, also we */
	return s;
}

/* Only the index knows of it: one change. The caller is busy. */
static int truncate_clean(struct content *c, struct op_ctx *op, uint64_t size, struct mfs_attr *attr)
{
	struct mfs_attr now;
	struct state *s;
	int r = -EAGAIN;

	for (int tries = 0; tries < 16 && r == -EAGAIN; tries++) {
		uint64_t lay;
		bool due;

		r = content_refresh(c, op);
		if (r < 0)
			return r;
		{
			MFS_GUARD(&c->lock);

			c->seen = c->reloads;
			lay = c->state->lay;
			due = c->version_due || c->n_writers == 0;
		}
		r = namespace_truncate(c->env->vol->ns, op, c->ino, lay, size, due, false, &now);
		if (r == -EAGAIN) {
			MFS_GUARD(&c->lock);

			c->stale = true;
		}
	}
	if (r < 0)
		return r == -EAGAIN ? -EIO : r;
	s = resized(c->state, &now);
	MFS_GUARD(&c->lock);
	if (s) {
		uint64_t own_from = c->own_from;

		tail_drop(c);
		content_adopt_locked(c, s);
		c->own_from = own_from;
		c->tail.own_from = c->tail.pos = s->layout.log_end;
		dirty_clip(&c->map, c->env->budget, size); /* written while what was dirty was committed */
		ranges_clip(&c->holes, size);
	} else {
		c->stale = true;
	}
	c->version_due = false;
	c->closed = false;
	if (attr)
		*attr = now;
	return 0;
}

/* The old content is out, with all that was sent of the new; in the index at the next flush. The caller is busy. */
static int truncate_to_nothing(struct content *c, struct op_ctx *op)
{
	int r;

	content_discard(c, op);
	/* For the lay only, which the commit would find out too. What was written is gone already, so this must not fail. */
	r = content_refresh(c, op);
	if (r < 0)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " truncated without reading its record: %s", c->ino, strerror(-r));
	MFS_GUARD(&c->lock);
	c->size = c->clip = 0;
	content_touch_locked(c);
	c->rewrite = true;
	c->gen++;
	return 0;
}

/* Something is dirty anyway: in memory, until the flush. */
static void truncate_locked(struct content *c, uint64_t size)
{
	if (size < c->size) {
		dirty_clip(&c->map, c->env->budget, size);
		ranges_clip(&c->holes, size);
		if (size < content_committed_locked(c))
			c->clip = size;
		if (c->append_from != CONTENT_ALL && c->append_from >= size)
			c->append_from = CONTENT_ALL;
	}
	c->size = size;
	content_touch_locked(c);
	c->gen++;
}

int content_truncate(struct content *c, struct op_ctx *op, uint64_t size, struct mfs_attr *attr)
{
	bool clean = true;
	int r = 0;

	if (size > c->rules.size_max)
		return -EFBIG;
	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
		r = c->failed;
		clean = !c->dirty;
		if (r == 0 && size > 0 && !clean && !c->upload) {
			truncate_locked(c, size);
			content_leave_locked(c);
			return 0;
		}
	}
	if (r == 0 && size == 0) {
		r = truncate_to_nothing(c, op);
		MFS_GUARD(&c->lock);

		content_leave_locked(c);
		return r;
	}
	/* What was sent already cannot be cut: it is committed first. */
	if (r == 0 && !clean)
		r = content_commit(c, op, NULL, NULL);
	if (r == 0)
		r = truncate_clean(c, op, size, attr);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r;
}

static int punch_locked(struct content *c, uint64_t off, uint64_t len)
{
	uint64_t end;

	if (c->failed)
		return c->failed;
	if (off >= c->size || len == 0)
		return 0;
	end = len < c->size - off ? off + len : c->size;
	if (ranges_reserve(&c->holes) < 0)
		return -ENOMEM;
	dirty_cut(&c->map, c->env->budget, off, end - off);
	ranges_add(&c->holes, off, end - off);
	/* Where memory was too short to cut an extent in two, it has zeros and is the newer one. */
	for (size_t i = dirty_find(&c->map, off); i < c->map.n && c->map.v[i]->off < end; i++) {
		if (ranges_reserve(&c->holes) == 0)
			ranges_cut(&c->holes, c->map.v[i]->off, c->map.v[i]->len);
	}
	content_touch_locked(c);
	return 0;
}

int content_punch(struct content *c, struct op_ctx *op, uint64_t off, uint64_t len)
{
	int r = content_write_fresh(c, op);

	if (r < 0)
		return r;
	{
		MFS_GUARD(&c->lock);

		if (!c->upload && c->map.n + c->holes.n < LAYOUT_COMMIT_MAX / 2)
			return punch_locked(c, off, len);
	}
	/* What was sent already cannot be cut: it is committed first. And one commit takes so many ranges. */
	r = content_commit_first(c, op);
	if (r < 0)
		return r;
	MFS_GUARD(&c->lock);
	return punch_locked(c, off, len);
}
