/* What a commit stores before the record names it: one object, the rest of an upload, or a patch. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/content_round.h"
#include "fs/key_gate.h"

void round_gate_enter(struct content *c, struct round *rd)
{
	key_gate_enter(&c->env->vol->gate, rd->key.data);
	rd->at_gate = true;
}

void round_gate_leave(struct content *c, struct round *rd)
{
	if (rd->at_gate)
		key_gate_leave(&c->env->vol->gate, rd->key.data);
	rd->at_gate = false;
}

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
		rd->kind = ROUND_INLINE;
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
	round_gate_enter(c, rd);
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
	round_gate_enter(c, rd);
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

int round_store(struct content *c, struct op_ctx *op, struct round *rd)
{
	rd->next = state_new();
	if (!rd->next)
		return -ENOMEM;
	switch (rd->kind) {
	case ROUND_STAGED:
		return store_staged(c, op, rd);
	case ROUND_PATCH:
		return store_patch(c, op, rd);
	default:
		return store_whole(c, op, rd);
	}
}
