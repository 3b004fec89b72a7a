/*
 * Reading one open file's bytes from where the newest of them are (the table in content_internal.h), and where its data and its holes are.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "fs/content_internal.h"

/* One look at the state: what to read outside of the lock. */
struct view {
	uint64_t gen, size, committed;
	struct state *state;
	struct object_upload *upload;
	bool stale, covered;
};

static void view_take(struct content *c, uint64_t off, void *buf, size_t len, struct view *v)
{
	MFS_GUARD(&c->lock);

	*v = (struct view){ .stale = c->stale && !content_holds_locked(c) };
	if (v->stale)
		return;
	/* The bytes of an upload that is being completed are in no place that can be read, for a moment. */
	while (c->completing && !dirty_covers(&c->map, off, MFS_MIN((uint64_t)len, c->size - MFS_MIN(off, c->size))))
		pthread_cond_wait(&c->changed, &c->lock.m);
	v->gen = c->gen;
	v->size = c->size;
	if (off >= c->size)
		return;
	if (dirty_covers(&c->map, off, MFS_MIN((uint64_t)len, c->size - off))) {
		dirty_overlay(&c->map, off, buf, (size_t)MFS_MIN((uint64_t)len, c->size - off));
		v->covered = true;
		return;
	}
	v->committed = content_committed_locked(c);
	v->state = state_ref(c->state);
	if (c->upload) {
		v->upload = c->upload;
		c->upload_readers++;
	}
}

/* Give back what view_take took; true: nothing moved meanwhile, buf is whole. */
static bool view_done(struct content *c, uint64_t off, void *buf, size_t len, struct view *v)
{
	MFS_GUARD(&c->lock);

	if (v->upload && --c->upload_readers == 0)
		pthread_cond_broadcast(&c->changed);
	if (c->gen != v->gen)
		return false;
	ranges_zero(&c->frozen, off, buf, len);
	for (size_t i = 0; i < c->n_sending; i++)
		extent_overlay(c->sending[i], off, buf, len);
	ranges_zero(&c->holes, off, buf, len);
	dirty_overlay(&c->map, off, buf, len);
	return true;
}

static int read_under(struct content *c, struct op_ctx *op, const struct view *v, uint64_t off, void *buf, size_t len)
{
	struct object_store *s = c->env->vol->store;
	size_t n = 0;
	int r = 0;

	if (v->upload && (object_store_caps(s) & OBJECT_CAP_UPLOAD_READ)) {
		while (n < len) {
			ssize_t got = object_upload_read(v->upload, op, off + n, (char *)buf + n, len - n);

			if (got < 0)
				return (int)got;
			if (got == 0)
				break;
			n += (size_t)got;
		}
	} else if (off < v->committed) {
		n = (size_t)MFS_MIN((uint64_t)len, v->committed - off);
		r = read_ahead_read(c, op, v->state, off, buf, n);
	}
	memset((char *)buf + n, 0, len - n);
	return r;
}

/* An object of the state with this lay is missing: the index may have moved the file (a settle) and garbage collection
 * been there. */
static int after_missing_busy(struct content *c, struct op_ctx *op, uint64_t lay)
{
	struct state *s = NULL;
	int r;

	if (c->state->lay != lay)
		return 0;
	{
		MFS_GUARD(&c->lock);

		c->seen = c->reloads;
	}
	r = state_load(c->env, op, c->ino, c->state, &s);
	MFS_GUARD(&c->lock);
	if (r == 0 && s->lay == lay) {
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode %" PRIu64 ": an object (%s version %s, or one of its patches) is missing, the index refers to it: "
			"content lost; see massfs fsck, massfs versions",
			c->ino, s->object ? s->object->ref.key : "-", s->object ? s->object->ref.version : "-");
		r = -EIO;
	} else if (r == 0 && !c->dirty) {
		content_adopt_locked(c, MFS_TAKE(s));
	} else if (r == 0 && s->data == c->state->data) { /* the same bytes elsewhere, below what is dirty */
		state_put(c->state);
		c->state = MFS_TAKE(s);
		c->tail.own_from = c->state->layout.log_end;
		c->gen++;
	} else if (r == 0) {
		/* Another content: what is dirty here goes over it at the commit, until then there is nothing to read. */
		r = -EIO;
	}
	state_put(s);
	return r;
}

static int after_missing(struct content *c, struct op_ctx *op, uint64_t lay)
{
	int r;

	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
	}
	r = after_missing_busy(c, op, lay);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r;
}

static int refresh(struct content *c, struct op_ctx *op)
{
	int r;

	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
	}
	r = content_refresh(c, op);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r;
}

/* What was sent becomes a version that can be read; of an unlinked file too. */
static int commit_upload(struct content *c, struct op_ctx *op)
{
	int r;

	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
		r = c->failed;
	}
	if (r == 0 && c->upload)
		r = content_commit(c, op, NULL, NULL);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r;
}

ssize_t content_read(struct content *c, struct op_ctx *op, uint64_t off, void *buf, size_t len)
{
	bool ahead = false;

	for (;;) {
		struct view v;
		uint64_t lay;
		size_t n;
		bool same;
		int r;

		view_take(c, off, buf, len, &v);
		if (v.stale) {
			r = refresh(c, op);
			if (r < 0)
				return r;
			continue;
		}
		if (off >= v.size)
			return 0;
		n = (size_t)MFS_MIN((uint64_t)len, v.size - off);
		if (v.covered)
			return (ssize_t)n;
		/* Sent parts cannot be read back from this store before they are a version. */
		if (v.upload && !(object_store_caps(c->env->vol->store) & OBJECT_CAP_UPLOAD_READ)) {
			(void)view_done(c, off, buf, n, &v);
			state_put(v.state);
			r = commit_upload(c, op);
			if (r < 0)
				return r;
			continue;
		}
		if (!ahead)
			read_ahead_note(c, off, n);
		ahead = true;
		r = read_under(c, op, &v, off, buf, n);
		same = view_done(c, off, buf, n, &v);
		lay = v.state->lay;
		state_put(v.state);
		if (!same)
			continue;
		if (r == 0)
			return (ssize_t)n;
		if (r != -ENOENT)
			return r;
		r = after_missing(c, op, lay);
		if (r < 0)
			return r;
	}
}

/* What is known at off without looking below, and how far that holds. */
enum layer { BELOW, DATA, HOLE };

static enum layer layer_locked(const struct content *c, uint64_t off, uint64_t *ret_end)
{
	size_t d = dirty_find(&c->map, off), h = ranges_find(&c->holes, off);
	const struct extent *e = d < c->map.n ? c->map.v[d] : NULL;
	const struct range *hole = h < c->holes.n ? &c->holes.v[h] : NULL;
	uint64_t end = c->size;

	if (c->upload) { /* what was sent where is not written down */
		*ret_end = end;
		return DATA;
	}
	if (e && e->off <= off) {
		*ret_end = MFS_MIN(e->off + e->len, end);
		return DATA;
	}
	end = e ? MFS_MIN(end, e->off) : end;
	if (hole && hole->off <= off) {
		*ret_end = MFS_MIN(hole->off + hole->len, end);
		return HOLE;
	}
	end = hole ? MFS_MIN(end, hole->off) : end;
	if (off >= content_committed_locked(c)) {
		*ret_end = end;
		return HOLE;
	}
	*ret_end = MFS_MIN(end, content_committed_locked(c));
	return BELOW;
}

/* The caller is busy, so nothing is being committed; writes go on, and count or not. */
static int seek(struct content *c, struct op_ctx *op, uint64_t off, bool data, uint64_t *ret)
{
	for (;;) {
		struct state *s = NULL;
		uint64_t end, found;
		enum layer at;
		int r;

		{
			MFS_GUARD(&c->lock);

			if (off >= c->size) {
				*ret = c->size;
				return data ? -ENXIO : 0;
			}
			at = layer_locked(c, off, &end);
			if (at == BELOW)
				s = state_ref(c->state);
		}
		if (at != BELOW) {
			found = (at == DATA) == data ? off : end;
		} else {
			uint64_t lay = s->lay;

			r = state_seek(c->env, op, s, off, end, data, &found);
			state_put(s);
			if (r == -ENOENT) {
				r = after_missing_busy(c, op, lay);
				if (r == 0)
					continue;
			}
			if (r < 0)
				return r;
		}
		if (found < end) {
			*ret = found;
			return 0;
		}
		off = end;
	}
}

int content_seek(struct content *c, struct op_ctx *op, uint64_t off, int whence, uint64_t *ret)
{
	int r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
	}
	r = content_refresh(c, op);
	if (r == 0) {
		MFS_GUARD(&c->lock);

		if (off >= c->size)
			r = -ENXIO;
	}
	if (r == 0)
		r = seek(c, op, off, whence == SEEK_DATA, ret);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r;
}
