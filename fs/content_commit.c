/*
 * From dirty to durable: what must be stored first (content_store.c), then one compare-and-set of the record.
 *
 *   inline   a whole small file: in the record, no object
 *   whole    a new file, or one that is small or half changed: one put from one buffer
 *   staged   a new file that was streamed: the rest of its parts, complete
 *   patch    ranges of an old file: one patch object; also nothing but a new size or holes, with no object
 *
 * Each attempt is built from the committed state and what is frozen (sending, frozen, clip, size). Lost the race for
 * the record: the state is read again. If only its place moved (a settle), or ranges were written here, the same is
 * built again over the new state; a rewrite replaces it, and what it replaces is kept as a version. What fails leaves
 * the record as it was and the bytes dirty; the object that lost is deleted at once.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "fs/content_round.h"
#include "fs/reconcile.h"

#define TRIES_MAX  32
#define ROUNDS_MAX 4096 /* of one flush: LAYOUT_COMMIT_MAX ranges each */
#define TODO_IDLE_NS (30 * MFS_NSEC_PER_SEC)

bool content_surely_unnamed(int err)
{
	return err == -EAGAIN || err == -ESTALE || err == -ENOENT || err == -ENOSPC || err == -EROFS || err == -EFBIG;
}

/* ---- what is taken along ---- */

/* The first `max` dirty extents become constant, in `sending` from the last to the first. */
static int freeze_locked(struct content *c, size_t max)
{
	for (size_t i = MFS_MIN(c->map.n, max); i-- > 0;) {
		if (!sending_add_locked(c, i))
			return -ENOMEM;
	}
	return 0;
}

/* How it is written, from what is dirty and what the store can. */
static enum round_kind choose_locked(const struct content *c)
{
	uint64_t old = content_committed_locked(c);
	bool half = c->map.bytes >= c->size - c->size / 2;

	if (c->upload)
		return ROUND_STAGED;
	if (old == 0 && c->size > OBJECT_PART_MIN) {
		/* In order and without gaps only what begins at the beginning. */
		bool dense = half && c->map.n && c->map.v[0]->off <= OBJECT_PART_MIN;

		if (content_appends_locked(c))
			return ROUND_PATCH;
		return dense || content_sparse(c) ? ROUND_STAGED : ROUND_PATCH;
	}
	if (c->size <= CONTENT_SMALL || (c->size <= OBJECT_PART_MIN && (half || old == 0 || c->state->is_inline)))
		return ROUND_WHOLE;
	return ROUND_PATCH;
}

/* Size and time belong to exactly the bytes that are frozen: taken in the same critical section. */
static int take_locked(struct content *c, struct round *rd)
{
	size_t max = rd->kind == ROUND_PATCH ? LAYOUT_COMMIT_MAX / 2 : SIZE_MAX;
	bool apart = false;
	int r;

	if (c->map.n > max && content_appends_locked(c)) { /* what was appended goes as a whole, when the rest has gone */
		size_t first = dirty_find(&c->map, c->append_from);

		apart = first > 0;
		max = apart ? MFS_MIN(max, first) : SIZE_MAX;
	}
	r = freeze_locked(c, max);
	if (r < 0)
		return r;
	rd->partial = c->map.n > 0;
	rd->size = c->size;
	rd->mtime = c->mtime;
	rd->clip = c->clip;
	if (rd->partial) { /* the rest follows; so far the file reaches no further than its bytes do */
		const struct extent *last = c->sending[0];

		rd->size = MFS_MIN(c->size, MFS_MAX(content_committed_locked(c), last->off + last->len));
	}
	c->frozen = c->holes;
	c->holes = (struct ranges){ 0 };
	if (!apart) {
		c->frozen_append = c->append_from;
		c->append_from = CONTENT_ALL;
	}
	c->gen++;
	return 0;
}

static void thaw(struct content *c)
{
	MFS_GUARD(&c->lock);

	for (size_t i = 0; i < c->n_sending; i++) {
		if (dirty_put_back(&c->map, c->env->budget, c->sending[i]) < 0 && !c->failed)
			c->failed = -ENOMEM;
	}
	c->n_sending = 0;
	for (size_t i = 0; i < c->holes.n; i++) /* punched meanwhile */
		dirty_cut(&c->map, c->env->budget, c->holes.v[i].off, c->holes.v[i].len);
	for (size_t i = 0; i < c->frozen.n; i++) {
		struct range h = c->frozen.v[i];

		if (ranges_reserve(&c->holes) < 0) {
			c->failed = c->failed ? c->failed : -ENOMEM;
			break;
		}
		ranges_add(&c->holes, h.off, h.len);
	}
	for (size_t i = 0; i < c->map.n && c->holes.n; i++) {
		if (ranges_reserve(&c->holes) < 0)
			c->failed = c->failed ? c->failed : -ENOMEM;
		else
			ranges_cut(&c->holes, c->map.v[i]->off, c->map.v[i]->len);
	}
	ranges_release(&c->frozen);
	c->append_from = MFS_MIN(c->append_from, c->frozen_append);
	c->frozen_append = CONTENT_ALL;
	c->gen++;
	pthread_cond_broadcast(&c->changed);
}

/* ---- the record ---- */

static int record(struct content *c, struct op_ctx *op, struct round *rd, struct mfs_attr *attr)
{
	struct state *next = rd->next;
	struct encoded enc = { 0 };
	int64_t now = mfs_now_ns();
	struct commit cm = {
		.ino = c->ino,
		.lay = rd->from->lay,
		.etag = next->etag[0] ? next->etag : NULL,
		.mime = rd->mime,
		.summed = rd->kind == ROUND_WHOLE || rd->kind == ROUND_STAGED,
		.obj_len = next->obj_len,
		.size = rd->size,
		.alloc = rd->alloc,
		.mtime = rd->mtime,
		.keep_version = rd->keep_version,
		/* Who moved the layout meanwhile may have put its own object on top of ours. */
		.queue_key = rd->info.not_shown || rd->info.crowded || rd->overtaken,
		.temporary = rd->temporary,
		.session = c->session,
		.durable = true,
	};
	int r = rd->kind == ROUND_PATCH ? layout_prepare(c, op, next, &enc) : 0;

	next->size = rd->size;
	if (next->object)
		cm.ref = next->object->ref; /* borrowed */
	if (rd->kind == ROUND_INLINE) {
		cm.inline_data = &next->inline_data;
		cm.todo = inline_todo(c->env, now);
	} else if (rd->kind == ROUND_PATCH) {
		cm.slices = &enc.slices;
		cm.docs = enc.docs.v;
		cm.n_docs = (uint32_t)enc.docs.n;
		cm.todo = now + TODO_IDLE_NS;
	} else if (next->obj_len < next->size) {
		cm.todo = now + TODO_IDLE_NS;
	}
	next->todo = cm.todo;
	if (r == 0) {
		rd->asked = true;
		if (rd->partial)
			c->judging = false; /* what it comes to is seen when all is there */
		r = c->judging ? content_judge(c, op, next, &cm) : 0;
		rd->refused = r == -EINVAL;
		if (r == 0)
			r = namespace_commit(c->env->vol->ns, op, &cm, attr);
	}
	if (r == 0) {
		next->lay = attr->lay;
		next->data = attr->data;
		next->attr = *attr;
	}
	encoded_release(&enc);
	return r;
}

/* What an attempt has stored is of no use. */
static void undo(struct content *c, struct op_ctx *op, struct round *rd, int err)
{
	int r = 0;

	if (!rd->asked)
		err = -EAGAIN;
	patch_undo(c, op, &rd->patch, err);
	patch_release(&rd->patch);
	if (rd->stored) {
		struct object_ref ref = { .key = rd->key.data };

		memcpy(ref.version, rd->info.version, sizeof(ref.version));
		if (content_surely_unnamed(err))
			r = object_delete_version(c->env->vol->store, op, &ref);
		/* The key shows nothing now, or still this: what the index has there belongs on it. */
		if (r == 0)
			r = reconcile_queue_key(c->env->vol, op, rd->key.data);
		if (r < 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
				"inode %" PRIu64 ": the object of a failed commit stays (%s); massfs gc will find it", c->ino,
				strerror(-r));
	}
	round_gate_leave(c, rd);
	rd->stored = false;
	rd->asked = false;
	state_put(rd->next);
	rd->next = NULL;
}

/* ---- a lost race ---- */

/* What was appended since, and is not in this commit, begins no further ahead than at `end`. */
static void move_rest_locked(struct content *c, uint64_t end)
{
	uint64_t from = c->append_from, delta;

	if (from == CONTENT_ALL || from >= end)
		return;
	delta = end - from;
	dirty_shift(&c->map, from, (int64_t)delta);
	c->append_from += delta;
	c->size += delta;
}

/* Somebody else's state is the committed one now, and ranges were written here: they stay where they are, appended ones
 * move to the new end. */
static void move_over_locked(struct content *c, struct round *rd, const struct state *s)
{
	uint64_t was = rd->from->size, end = 0, size = rd->size, from = c->frozen_append;
	bool appended = from != CONTENT_ALL && rd->clip == CONTENT_ALL;
	int64_t delta = 0;

	if (rd->clip != CONTENT_ALL) /* a truncation of ours holds */
		return;
	for (size_t i = 0; i < c->n_sending; i++) {
		if (!appended || c->sending[i]->off < from)
			end = MFS_MAX(end, c->sending[i]->off + c->sending[i]->len);
	}
	if (appended) {
		delta = (int64_t)(MFS_MAX(s->size, end) - from);
		for (size_t i = 0; i < c->n_sending; i++) {
			if (c->sending[i]->off >= from)
				c->sending[i]->off += (uint64_t)delta;
		}
		dirty_shift(&c->map, from, delta);
		c->frozen_append += (uint64_t)delta;
		if (c->append_from != CONTENT_ALL)
			c->append_from += (uint64_t)delta;
		c->size += (uint64_t)delta;
		rd->size += (uint64_t)delta;
		return;
	}
	rd->size = MFS_MAX(s->size, size > was ? size : end);
	if (c->append_from != CONTENT_ALL)
		move_rest_locked(c, rd->size);
	else
		c->size = c->size > size ? MFS_MAX(c->size, rd->size) : rd->size;
}

/* The record moved: build on what it says now. */
static int rebase(struct content *c, struct op_ctx *op, struct round *rd)
{
	struct state *s = NULL;
	int r;

	{
		MFS_GUARD(&c->lock);

		c->seen = c->reloads;
	}
	r = state_load(c->env, op, c->ino, rd->from, &s);
	if (r < 0)
		return r;
	MFS_GUARD(&c->lock);
	rd->overtaken = true;
	if (s->data != rd->from->data) {
		/* The outcome of our last commit was unknown: this is it, applied. */
		bool ours = c->unsure_data && s->data == c->unsure_data + 1 && s->size == c->unsure_size &&
			    (!c->unsure_mtime || s->attr.mtime == c->unsure_mtime);

		if (rd->kind == ROUND_STAGED || c->rewrite)
			rd->keep_version = true;
		else if (!ours)
			move_over_locked(c, rd, s);
		rd->rebased = true;
		c->own_from = s->data;
	}
	state_put(c->state);
	state_put(rd->from);
	c->state = s;
	rd->from = state_ref(s);
	c->stale = c->reloads != c->seen;
	c->tail.own_from = s->layout.log_end;
	if (rd->kind != ROUND_STAGED)
		rd->kind = rd->kind == ROUND_PATCH || rd->size > OBJECT_PART_MIN ? ROUND_PATCH : ROUND_WHOLE;
	c->gen++;
	return 0;
}

/* ---- all of it ---- */

static void took_over(struct content *c, struct round *rd)
{
	uint64_t old_end = rd->from->layout.log_end;
	MFS_GUARD(&c->lock);

	if (rd->keep_version)
		c->tail.own_from = old_end;
	tail_committed(c, rd->patch.n ? &rd->patch : NULL, rd->next);
	inline_moved(c->env, rd->from, rd->next);
	state_put(c->state);
	c->state = MFS_TAKE(rd->next);
	if (rd->rebased) /* what was read so far was of neither */
		c->own_from = c->state->data;
	c->clip = CONTENT_ALL;
	for (size_t i = 0; i < c->n_sending; i++)
		extent_free(c->env->budget, c->sending[i]);
	c->n_sending = 0;
	ranges_release(&c->frozen);
	c->frozen_append = CONTENT_ALL;
	c->version_due = false;
	if (c->mtime == rd->mtime && !rd->partial)
		c->mtime = 0;
	c->rewrite = false;
	c->unsure_data = 0;
	c->last_error = 0;
	c->refused = false;
	/* Writes that came during the commit stay dirty. */
	c->dirty = c->map.n > 0 || c->holes.n > 0 || c->size != rd->size;
	content_session_now(c);
	if (c->dirty)
		c->dirty_since = mfs_mono_ns();
	if (c->append_from != CONTENT_ALL) /* of a stream: what it took along is not at issue any more */
		c->append_from = c->size > rd->size ? MFS_MAX(c->append_from, rd->size) : CONTENT_ALL;
	c->completing = false;
	c->gen++;
	pthread_cond_broadcast(&c->changed);
}

static void gave_up(struct content *c, const struct round *rd, bool asked, int err)
{
	if (rd->kind != ROUND_STAGED || rd->rest_frozen)
		thaw(c); /* the bytes are still here: the next flush tries again; of a stream: nobody waits for their upload */
	MFS_GUARD(&c->lock);
	c->last_error = err;
	c->refused = rd->refused && rd->kind != ROUND_STAGED && c->mtime == rd->mtime;
	if (rd->kind != ROUND_STAGED) {
		if (asked && !rd->refused && !content_surely_unnamed(err)) {
			c->unsure_size = rd->size;
			c->unsure_data = rd->from->data;
			c->unsure_mtime = rd->mtime;
		}
		return;
	}
	/* What was sent is gone: no later flush may pretend to have it. */
	if (!c->failed)
		c->failed = err;
	c->completing = false;
	pthread_cond_broadcast(&c->changed);
	mfs_debug(MFS_LOG_FS, NULL, "inode=%" PRIu64 " upload given up: %s", c->ino, strerror(-err));
}

/* An object is missing that the state names: -EAGAIN if the record says something else by now. */
static int after_missing(struct content *c, struct op_ctx *op, const struct round *rd)
{
	struct node n = NODE_INIT;
	int r = namespace_get(c->env->vol->ns, op, c->ino, &n);

	if (r < 0)
		return r;
	r = n.attr.lay != rd->from->lay ? -EAGAIN : -EIO;
	node_release(&n);
	if (r == -EIO)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode %" PRIu64 ": an object that the index refers to is missing: content lost; see massfs fsck, massfs versions",
			c->ino);
	return r;
}

static int attempts(struct content *c, struct op_ctx *op, struct round *rd, struct mfs_attr *attr)
{
	int r = -EAGAIN;

	for (int tries = 0; tries < TRIES_MAX; tries++) {
		if (!rd->next) {
			r = round_store(c, op, rd);
			if (r == -ENOENT && rd->kind != ROUND_STAGED)
				r = after_missing(c, op, rd);
			else if (r == 0)
				mfs_crash_point("commit.stored");
		} else {
			r = 0;
		}
		if (r == 0)
			r = record(c, op, rd, attr);
		if (r == 0) {
			mfs_crash_point("commit.recorded");
			return 0;
		}
		if (r != -EAGAIN && r != -EFBIG)
			return r;
		if (rd->kind != ROUND_STAGED) /* an upload is a whole file either way: it is named at the next try */
			undo(c, op, rd, -EAGAIN);
		if (r == -EFBIG) {
			r = content_compact(c, op); /* too many ranges for one record: fewer, bigger ones */
			if (r == 0)
				return -EIO;
		}
		if (r >= 0 || r == -EAGAIN)
			r = rebase(c, op, rd);
		if (r < 0)
			return r;
	}
	return -EIO;
}

/* The writer makes room itself where the compactor has not kept up. */
static int wait_for_room(struct content *c, struct op_ctx *op)
{
	for (int i = 0; i < 64 && content_pressure(c->env, &c->state->layout) == LAYOUT_FULL; i++) {
		int r = content_compact(c, op);

		if (r == 0 || r == -EAGAIN) /* another committer was there: the commit will see */
			break;
		if (r < 0)
			return r;
	}
	return 0;
}

static int begin(struct content *c, struct op_ctx *op, struct round *rd)
{
	int r = 0;

	{
		MFS_GUARD(&c->lock);

		rd->kind = choose_locked(c);
		if (rd->kind != ROUND_STAGED)
			r = take_locked(c, rd);
		rd->keep_version = c->version_due;
		rd->from = state_ref(c->state);
		if (r < 0 || rd->kind != ROUND_STAGED)
			return r;
	}
	return upload_stage(c, op);
}

static int commit_once(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_partial)
{
	struct round rd = { .key = MFS_BUF_INIT(CONTENT_PATH_MAX) };
	int r = wait_for_room(c, op);

	if (r < 0)
		return r;
	r = begin(c, op, &rd);
	if (r < 0 && rd.kind == ROUND_STAGED) {
		MFS_GUARD(&c->lock);

		c->last_error = r; /* nothing was sent: nothing is lost */
		state_put(rd.from);
		return r;
	}
	if (r == 0)
		r = attempts(c, op, &rd, attr);
	if (r == 0) {
		took_over(c, &rd);
		if (rd.rebased && c->env->moved)
			c->env->moved(c->env->moved_arg, c->ino);
		*ret_partial = rd.partial;
	} else {
		bool asked = rd.asked;

		undo(c, op, &rd, r);
		gave_up(c, &rd, asked, r);
		if (r == -EAGAIN || r == -ESTALE || r == -ENOENT || r == -EFBIG)
			r = -EIO;
	}
	round_gate_leave(c, &rd);
	patch_release(&rd.patch);
	state_put(rd.from);
	state_put(rd.next);
	mfs_buf_release(&rd.key);
	return r;
}

static bool is_dirty(struct content *c)
{
	MFS_GUARD(&c->lock);

	return c->dirty || c->upload;
}

int content_commit(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed)
{
	struct mfs_attr now;
	bool partial = true;
	int r;

	for (unsigned int i = 0; partial && i < ROUNDS_MAX; i++) {
		partial = false;
		r = content_refresh(c, op);
		if (r == 0 && !is_dirty(c)) /* not any more: somebody else has written the empty file */
			return 0;
		if (r == 0)
			r = commit_once(c, op, &now, &partial);
		if (r < 0)
			return r;
		if (attr)
			*attr = now;
		if (ret_committed)
			*ret_committed = true;
	}
	if (!partial)
		return 0;
	mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
		"inode %" PRIu64 ": written faster than it can be committed: %u commits and still dirty; sync again", c->ino, ROUNDS_MAX);
	return -EIO;
}
