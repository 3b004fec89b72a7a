/*
 * From dirty to durable: what must be stored first, then one compare-and-set of the record.
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
#include "fs/content_internal.h"
#include "fs/key_gate.h"
#include "fs/reconcile.h"

#define TRIES_MAX  32
#define ROUNDS_MAX 4096 /* of one flush: LAYOUT_COMMIT_MAX ranges each */
#define TODO_IDLE_NS (30 * MFS_NSEC_PER_SEC)

enum kind { INLINE, WHOLE, STAGED, PATCH };

/* What one commit takes along. */
struct round {
	enum kind kind;
	struct state *from, *next; /* what it is built from, and what the record shall say */
	uint64_t size;
	uint64_t clip;
	int64_t mtime;
	bool partial;	   /* more is dirty than one commit takes */
	bool keep_version;
	bool asked;	   /* the index was: an object may be named by it */
	bool overtaken;	   /* somebody's change of the layout came between, be it only a settle */
	bool rebased;	   /* another mount's content came between */
	bool refused;	   /* by storage rules: kept aside, and not in the record */
	bool rest_frozen;  /* STAGED: what is in `sending` is the commit's, no upload job has it */
	bool stored, at_gate; /* gate: of key, from before the object is there until the record names it (fs/key_gate.h) */
	struct object_info info;
	struct mfs_buf key;
	bool temporary;
	struct patch patch;
	uint64_t alloc;
	char mime[MIME_MAX]; /* of what became an object: of inline bytes it is found when they settle */
};

bool content_surely_unnamed(int err)
{
	return err == -EAGAIN || err == -ESTALE || err == -ENOENT || err == -ENOSPC || err == -EROFS || err == -EFBIG;
}

static void gate_enter(struct content *c, struct round *rd)
{
	key_gate_enter(&c->env->vol->gate, rd->key.data);
	rd->at_gate = true;
}

static void gate_leave(struct content *c, struct round *rd)
{
	if (rd->at_gate)
		key_gate_leave(&c->env->vol->gate, rd->key.data);
	rd->at_gate = false;
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
static enum kind choose_locked(const struct content *c)
{
	uint64_t old = content_committed_locked(c);
	bool half = c->map.bytes >= c->size - c->size / 2;

	if (c->upload)
		return STAGED;
	if (old == 0 && c->size > OBJECT_PART_MIN) {
		/* In order and without gaps only what begins at the beginning. */
		bool dense = half && c->map.n && c->map.v[0]->off <= OBJECT_PART_MIN;

		if (content_appends_locked(c))
			return PATCH;
		return dense || content_sparse(c) ? STAGED : PATCH;
	}
	if (c->size <= CONTENT_SMALL || (c->size <= OBJECT_PART_MIN && (half || old == 0 || c->state->is_inline)))
		return WHOLE;
	return PATCH;
}

/* Size and time belong to exactly the bytes that are frozen: taken in the same critical section. */
static int take_locked(struct content *c, struct round *rd)
{
	size_t max = rd->kind == PATCH ? LAYOUT_COMMIT_MAX / 2 : SIZE_MAX;
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

/* ---- storing ---- */

/* [0, size) of the committed state and what is frozen, in one buffer that the caller frees. */
static int compose(struct content *c, struct op_ctx *op, const struct round *rd, unsigned char **ret)
{
	uint64_t n = MFS_MIN(MFS_MIN(rd->from->size, rd->clip), rd->size);
	MFS_AUTOFREE unsigned char *buf = malloc(rd->size ? (size_t)rd->size : 1);
	int r;

	if (!buf)
		return -ENOMEM;
	r = state_read(c->env, op, c->ino, rd->from, 0, buf, (size_t)n);
	if (r < 0)
		return r;
	memset(buf + n, 0, (size_t)(rd->size - n));
	MFS_GUARD(&c->lock);
	ranges_zero(&c->frozen, 0, buf, (size_t)rd->size);
	for (size_t i = 0; i < c->n_sending; i++)
		extent_overlay(c->sending[i], 0, buf, (size_t)rd->size);
	*ret = MFS_TAKE(buf);
	return 0;
}

static int name_object(struct round *rd)
{
	struct object_ref ref = { .key = rd->key.data };

	memcpy(ref.version, rd->info.version, sizeof(ref.version));
	memcpy(rd->next->etag, rd->info.etag, sizeof(rd->next->etag));
	rd->next->object = blob_new(&ref, rd->next->obj_len);
	rd->alloc = rd->info.alloc;
	return rd->next->object ? 0 : -ENOMEM;
}

static int store_whole(struct content *c, struct op_ctx *op, struct round *rd)
{
	struct volume *v = c->env->vol;
	struct object_meta meta = volume_object_meta(v, &rd->from->attr);
	MFS_AUTOFREE unsigned char *buf = NULL;
	const unsigned char *data = NULL;
	int r;

	meta.session = c->session;
	if (rd->mtime)
		meta.mtime = rd->mtime;
	{
		MFS_GUARD(&c->lock);

		/* The usual new file: one extent that is all of it. Frozen, so its bytes stay put without the lock. */
		if (c->n_sending == 1 && c->sending[0]->off == 0 && c->sending[0]->len == rd->size)
			data = c->sending[0]->data;
	}
	if (!data) {
		r = compose(c, op, rd, &buf);
		if (r < 0)
			return r;
		data = buf;
	}
	if (inline_has_room(c->env, op, rd->size)) {
		rd->kind = INLINE;
		rd->next->is_inline = true;
		rd->alloc = (rd->size + 511) / 512 * 512;
		if (!rd->size)
			return 0;
		rd->next->inline_data.data = malloc((size_t)rd->size);
		if (!rd->next->inline_data.data)
			return -ENOMEM;
		memcpy(rd->next->inline_data.data, data, (size_t)rd->size);
		rd->next->inline_data.size = (size_t)rd->size;
		return 0;
	}
	r = content_key(c, op, &rd->key, &rd->temporary);
	if (r < 0)
		return r;
	gate_enter(c, rd);
	rd->next->obj_len = rd->size;
	r = object_put(v->store, op, NULL, rd->key.data, data, (size_t)rd->size, &meta, &rd->info);
	if (r < 0)
		return r;
	rd->stored = true;
	mime_of(&v->mime, data, (size_t)rd->size, rd->mime);
	return name_object(rd);
}

/* Without OBJECT_CAP_SPARSE: what follows the sent parts closely is sent too; the object ends there, and what lies
 * further is for a second round. */
static int freeze_rest_locked(struct content *c, struct round *rd)
{
	uint64_t end = c->sent_end;
	size_t i = dirty_find(&c->map, end), n = i;

	while (n < c->map.n && c->map.v[n]->off <= end + OBJECT_PART_MIN)
		end = MFS_MAX(end, c->map.v[n]->off + c->map.v[n]->len), n++;
	rd->rest_frozen = true;
	while (n > i) {
		if (!sending_add_locked(c, --n))
			return -ENOMEM;
	}
	rd->partial = c->map.n > 0;
	rd->mtime = c->mtime;
	rd->size = rd->partial ? end : c->size;
	rd->next->obj_len = end;
	c->gen++;
	return 0;
}

/* What was staged is completed. */
static int store_staged(struct content *c, struct op_ctx *op, struct round *rd)
{
	int r = upload_send(c, true);

	upload_wait(c);
	{
		MFS_GUARD(&c->lock);

		rd->size = c->sent_size;
		rd->mtime = c->sent_mtime;
		rd->next->obj_len = rd->size;
		if (r == 0)
			r = c->failed;
		if (r == 0 && !content_sparse(c))
			r = freeze_rest_locked(c, rd);
	}
	if (r == 0)
		r = mfs_buf_puts(&rd->key, c->upload_key.data);
	rd->temporary = c->upload_temporary;
	if (r < 0)
		return r;
	gate_enter(c, rd);
	r = upload_finish(c, op, rd->next->obj_len, rd->mtime, &rd->info);
	if (r < 0)
		return r;
	rd->stored = true;
	r = name_object(rd);
	if (r == 0)
		mime_of_object(&c->env->vol->mime, c->env->vol->store, op, &rd->next->object->ref, rd->next->obj_len, rd->mime);
	return r;
}

/* How many bytes of [off, off+len) hold something in the state. */
static int data_bytes(struct content *c, struct op_ctx *op, struct state *s, uint64_t off, uint64_t len, uint64_t *ret)
{
	uint64_t end = MFS_MIN(off + len, s->size), data, hole;
	int r = 0;

	while (off < end && r == 0) {
		r = state_seek(c->env, op, s, off, end, true, &data);
		if (r < 0 || data >= end)
			break;
		r = state_seek(c->env, op, s, data, end, false, &hole);
		off = MFS_MIN(hole, end);
		*ret += r == 0 ? off - data : 0;
	}
	return r;
}

/* What the file takes in the store, about: from what the record says so far. */
static int count_alloc(struct content *c, struct op_ctx *op, const struct round *rd, uint64_t *ret)
{
	uint64_t was = 0, gone = 0, alloc = rd->from->attr.alloc;
	const struct patch *p = &rd->patch;
	int r = 0;

	for (size_t i = 0; i < p->n && r == 0; i++)
		r = data_bytes(c, op, rd->from, p->v[i].off, p->v[i].len, &was);
	for (size_t i = 0; i < c->frozen.n && r == 0; i++)
		r = data_bytes(c, op, rd->from, c->frozen.v[i].off, c->frozen.v[i].len, &gone);
	if (rd->clip < rd->from->size && r == 0)
		r = data_bytes(c, op, rd->from, rd->clip, rd->from->size - rd->clip, &gone);
	if (r < 0)
		return r;
	alloc = alloc + p->bytes > was ? alloc + p->bytes - was : 0;
	alloc = alloc > gone ? alloc - gone : 0;
	*ret = MFS_MIN((alloc + 511) / 512 * 512, rd->size + 4095);
	return 0;
}

/* The frozen ranges; of an inline file also what of its old bytes lies between them, since slices and inline bytes do
 * not go together. */
static int collect_locked(struct content *c, const struct round *rd, struct patch *p)
{
	const struct state *s = rd->from;
	uint64_t old = MFS_MIN(MFS_MIN((uint64_t)s->inline_data.size, rd->clip), rd->size), at = 0;
	int r = s->damaged && old ? -EIO : 0;

	for (size_t i = c->n_sending + 1; i-- > 0 && r == 0;) {
		const struct extent *e = i ? c->sending[i - 1] : NULL; /* frozen from the last to the first */
		uint64_t stop = e ? MFS_MIN(e->off, old) : old;

		while (at < stop && r == 0) {
			size_t h = ranges_find(&c->frozen, at);
			const struct range *hole = h < c->frozen.n ? &c->frozen.v[h] : NULL;
			uint64_t to = hole ? MFS_MIN(MFS_MAX(hole->off, at), stop) : stop;

			if (at < to)
				r = patch_add(p, at, to - at, (const unsigned char *)s->inline_data.data + at);
			at = hole && to >= hole->off ? hole->off + hole->len : to;
		}
		if (e && r == 0)
			r = patch_add(p, e->off, e->len, e->data);
		if (e)
			at = MFS_MAX(at, e->off + e->len);
	}
	return r;
}

/* The holes below `end`: a slice only where there is something yet. */
static int set_holes(struct layout *l, uint64_t obj_len, const struct ranges *holes, uint64_t end)
{
	int r = 0;

	for (size_t i = 0; i < holes->n && r == 0; i++) {
		uint64_t off = holes->v[i].off, stop = MFS_MIN(off + holes->v[i].len, end);

		while (off < stop && r == 0) {
			struct layout_extent x;

			if (layout_at(l, off, obj_len, stop, &x) < 0) /* damaged: a hole mends it */
				x = (struct layout_extent){ .kind = EXTENT_PATCH, .len = stop - off };
			if (x.kind != EXTENT_HOLE)
				r = layout_set(l, off, x.len, LAYOUT_HOLE);
			off += x.len;
		}
	}
	return r;
}

static int store_patch(struct content *c, struct op_ctx *op, struct round *rd)
{
	struct state *next;
	uint64_t old = MFS_MIN(rd->from->size, rd->clip);
	int r;

	state_put(rd->next);
	next = rd->next = state_clone(rd->from);
	if (!next)
		return -ENOMEM;
	{
		MFS_GUARD(&c->lock);

		r = collect_locked(c, rd, &rd->patch);
		if (r == 0 && !next->inline_data.size)
			r = set_holes(&next->layout, next->obj_len, &c->frozen, old);
	}
	if (r == 0)
		r = count_alloc(c, op, rd, &rd->alloc);
	if (r < 0)
		return r;
	free(next->inline_data.data);
	next->inline_data = (struct node_blob){ 0 };
	next->is_inline = false;
	next->size = rd->size;
	next->obj_len = MFS_MIN(next->obj_len, MFS_MIN(rd->clip, rd->size));
	if (rd->clip < rd->from->size)
		layout_clip(&next->layout, rd->clip);
	if (next->obj_len == 0) {
		blob_put(next->object);
		next->object = NULL;
		next->etag[0] = '\0';
	}
	if (rd->patch.n == 0)
		return 0;
	return patch_store(c, op, rd->from, &rd->patch, !rd->keep_version, rd->mtime, next);
}

static int store(struct content *c, struct op_ctx *op, struct round *rd)
{
	rd->next = state_new();
	if (!rd->next)
		return -ENOMEM;
	switch (rd->kind) {
	case STAGED:
		return store_staged(c, op, rd);
	case PATCH:
		return store_patch(c, op, rd);
	default:
		return store_whole(c, op, rd);
	}
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
		.summed = rd->kind == WHOLE || rd->kind == STAGED,
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
	int r = rd->kind == PATCH ? layout_prepare(c, op, next, &enc) : 0;

	next->size = rd->size;
	if (next->object)
		cm.ref = next->object->ref; /* borrowed */
	if (rd->kind == INLINE) {
		cm.inline_data = &next->inline_data;
		cm.todo = inline_todo(c->env, now);
	} else if (rd->kind == PATCH) {
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
	gate_leave(c, rd);
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

		if (rd->kind == STAGED || c->rewrite)
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
	if (rd->kind != STAGED)
		rd->kind = rd->kind == PATCH || rd->size > OBJECT_PART_MIN ? PATCH : WHOLE;
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
	if (rd->kind != STAGED || rd->rest_frozen)
		thaw(c); /* the bytes are still here: the next flush tries again; of a stream: nobody waits for their upload */
	MFS_GUARD(&c->lock);
	c->last_error = err;
	c->refused = rd->refused && rd->kind != STAGED && c->mtime == rd->mtime;
	if (rd->kind != STAGED) {
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
			r = store(c, op, rd);
			if (r == -ENOENT && rd->kind != STAGED)
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
		if (rd->kind != STAGED) /* an upload is a whole file either way: it is named at the next try */
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
		if (rd->kind != STAGED)
			r = take_locked(c, rd);
		rd->keep_version = c->version_due;
		rd->from = state_ref(c->state);
		if (r < 0 || rd->kind != STAGED)
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
	if (r < 0 && rd.kind == STAGED) {
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
	gate_leave(c, &rd);
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
