/*
 * Ranges of a file as one patch object, packed in file order, and what the layout then says.
 *
 * Swallowing: many small commits would leave many small objects. So a new patch takes in those before it that are no
 * bigger than itself, as a binary counter carries, up to CONTENT_TIER_MAX: each byte goes up about log2 of the tiers
 * times at most, half of that on average. Only the segment table changes by it, no slice. Only segments that no version
 * names and no other mount made (from tail.own_from on); their bytes are kept in memory while the budget allows it and
 * are read back otherwise.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/crash_point.h"
#include "fs/content_internal.h"

#define SWEEP_SMALL 1024	       /* slices that are looked through at each commit */
#define SWEEP_BYTES (UINT64_C(4) << 20) /* else each time so much was stored */

int patch_add(struct patch *p, uint64_t off, uint64_t len, const unsigned char *data)
{
	struct run *last = p->n ? &p->v[p->n - 1] : NULL;

	/* Bytes that are read from the state need not be in one piece. */
	if (last && !data && !last->data && last->off + last->len == off) {
		last->len += len;
		p->bytes += len;
		return 0;
	}
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 16;
		struct run *v = realloc(p->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->cap = cap;
	}
	p->v[p->n++] = (struct run){ off, len, data };
	p->bytes += len;
	return 0;
}

void patch_release(struct patch *p)
{
	free(p->v);
	*p = (struct patch){ 0 };
}

/* Where a pass over the runs is. */
struct cursor {
	const struct patch *p;
	struct state *from;
	size_t i;
	uint64_t done; /* of run i */
};

/* The next `len` packed bytes. */
static int pack(struct content *c, struct op_ctx *op, struct cursor *k, unsigned char *buf, size_t len)
{
	while (len) {
		const struct run *run = &k->p->v[k->i];
		size_t n = (size_t)MFS_MIN(run->len - k->done, (uint64_t)len);
		int r = 0;

		if (run->data)
			memcpy(buf, run->data + k->done, n);
		else
			r = state_read(c->env, op, c->ino, k->from, run->off + k->done, buf, n);
		if (r < 0)
			return r;
		buf += n;
		len -= n;
		k->done += n;
		if (k->done == run->len) {
			k->i++;
			k->done = 0;
		}
	}
	return 0;
}

/* Bytes [pos, end) of the log, from the objects that hold them; zeros where nothing does any more. */
static int read_log(struct content *c, struct op_ctx *op, const struct layout *l, uint64_t pos, uint64_t end, unsigned char *buf)
{
	memset(buf, 0, (size_t)(end - pos));
	for (size_t i = 0; i < l->n_segments; i++) {
		const struct segment *s = &l->segments[i];
		struct object_ref ref = { 0 };
		size_t done = 0;
		int r;

		if (s->pos < pos || s->pos + s->len > end)
			continue;
		r = layout_segment_ref(s, &ref);
		while (r == 0 && done < s->len) {
			ssize_t n = object_get(c->env->vol->store, op, &ref, done, buf + (s->pos - pos) + done, (size_t)s->len - done);

			if (n <= 0)
				r = n < 0 ? (int)n : -EIO;
			else
				done += (size_t)n;
		}
		object_ref_release(&ref);
		if (r < 0)
			return r;
	}
	return 0;
}

void tail_drop(struct content *c)
{
	struct tail *t = &c->tail;

	free(t->data);
	if (t->reserved)
		budget_put(c->env->budget, t->reserved);
	t->pos += t->len;
	t->data = NULL;
	t->len = t->cap = t->reserved = 0;
}

/* Without room in the budget it is for this commit only (tail_committed). */
static int tail_grow(struct content *c, size_t need)
{
	struct tail *t = &c->tail;
	size_t cap = t->cap ? t->cap : 16384;
	unsigned char *data;

	if (need <= t->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	data = realloc(t->data, cap);
	if (!data)
		return -ENOMEM;
	t->data = data;
	t->cap = cap;
	if (cap > t->reserved && budget_try(c->env->budget, cap - t->reserved))
		t->reserved = cap;
	return 0;
}

/* The tail holds [start, pos) of the log, and has room for `more` behind it. */
static int tail_reach(struct content *c, struct op_ctx *op, const struct layout *l, uint64_t start, uint64_t pos, size_t more)
{
	struct tail *t = &c->tail;
	int r = 0;

	if (!t->data || t->pos + t->len != pos || t->pos > start) {
		tail_drop(c);
		r = tail_grow(c, (size_t)(pos - start) + more);
		if (r == 0 && start < pos)
			r = read_log(c, op, l, start, pos, t->data);
		if (r < 0)
			return r;
		t->pos = start;
		t->len = (size_t)(pos - start);
		return 0;
	}
	if (pos + more - t->pos > CONTENT_TIER_MAX && t->pos < start) {
		memmove(t->data, t->data + (start - t->pos), (size_t)(pos - start));
		t->len = (size_t)(pos - start);
		t->pos = start;
	}
	return tail_grow(c, t->len + more);
}

void tail_committed(struct content *c, const struct patch *p, const struct state *next)
{
	struct tail *t = &c->tail;
	uint64_t end = p ? p->seg.pos + p->seg.len : 0;

	if (!p || !t->data || end != next->layout.log_end || t->pos + t->cap < end || p->bytes > CONTENT_TIER_MAX) {
		tail_drop(c);
		t->pos = next->layout.log_end;
		return;
	}
	t->len = (size_t)(end - t->pos);
	if (t->reserved == t->cap)
		return;
	if (budget_try(c->env->budget, t->cap - t->reserved))
		t->reserved = t->cap;
	else
		tail_drop(c);
}

/* From which position on the new patch [pos, pos+bytes) shall hold the log. */
static uint64_t swallow_from(const struct layout *l, uint64_t own_from, uint64_t pos, uint64_t bytes)
{
	uint64_t start = pos, end = pos + bytes;

	for (size_t i = l->n_segments; i-- > 0;) {
		const struct segment *s = &l->segments[i];

		if (s->pos >= pos)
			continue;
		if (s->pos < own_from || s->len > end - start || end - s->pos > CONTENT_TIER_MAX)
			break;
		start = s->pos;
	}
	return start;
}

/* Too big for one put: in parts. */
static int put_parts(struct content *c, struct op_ctx *op, const char *key, const struct object_meta *meta, struct cursor *k,
		     struct object_info *info, uint64_t *sum)
{
	MFS_AUTOFREE unsigned char *buf = malloc(OBJECT_PART_MIN);
	struct mfs_checksum *cs = mfs_checksum_new();
	struct object_upload *u = NULL;
	unsigned int number = 1;
	int r = buf && cs ? 0 : -ENOMEM;

	if (r == 0)
		r = object_upload_begin(c->env->vol->store, op, NULL, key, meta, &u);
	for (uint64_t at = 0; at < k->p->bytes && r == 0; at += OBJECT_PART_MIN) {
		size_t n = (size_t)MFS_MIN(OBJECT_PART_MIN, k->p->bytes - at);

		r = pack(c, op, k, buf, n);
		if (r == 0) {
			mfs_checksum_update(cs, buf, n);
			r = object_upload_part(u, op, number++, at, buf, n);
		}
		if (r == 0)
			mfs_crash_point("patch.part");
	}
	if (r == 0)
		*sum = mfs_checksum_final(MFS_TAKE(cs));
	mfs_checksum_free(cs);
	if (r < 0) {
		object_upload_abort(u, op);
		return r;
	}
	return object_upload_complete(u, op, k->p->bytes, meta, info);
}

/* One put of [seg.pos, seg.pos + seg.len) of the log, which ends with the patch's own bytes. */
static int put_one(struct content *c, struct op_ctx *op, const char *key, const struct object_meta *meta, struct cursor *k,
		   struct object_info *info, struct segment *seg)
{
	MFS_AUTOFREE unsigned char *buf = NULL;
	unsigned char *from;
	int r;

	if (k->p->bytes > CONTENT_TIER_MAX) {
		from = buf = malloc((size_t)seg->len);
		if (!buf)
			return -ENOMEM;
	} else {
		from = c->tail.data + (seg->pos - c->tail.pos);
	}
	r = pack(c, op, k, from + (seg->len - k->p->bytes), (size_t)k->p->bytes);
	if (r < 0)
		return r;
	seg->sum = mfs_checksum(from, (size_t)seg->len);
	return object_put(c->env->vol->store, op, NULL, key, from, (size_t)seg->len, meta, info);
}

/* Take segments that no slice names any more out of the table, when it is time to look for them. */
static int sweep(struct content *c, struct layout *l, uint64_t bytes)
{
	MFS_AUTOFREE struct segment *gone = NULL;
	uint64_t live, held;
	size_t n = 0;

	c->swept += bytes;
	if (l->n_map > SWEEP_SMALL && c->swept < SWEEP_BYTES)
		return 0;
	gone = calloc(l->n_segments + 1, sizeof(*gone));
	if (!gone)
		return -ENOMEM;
	layout_drop_dead(l, gone, &n);
	blob_forget(c->env, gone, n);
	if (c->swept >= SWEEP_BYTES) {
		c->swept = 0;
		layout_log_use(l, &live, &held);
		c->wasteful = held > 2 * live + SWEEP_BYTES;
	}
	return 0;
}

/* The segment in place of those inside it. */
static int add_segment(struct content *c, struct layout *l, const struct segment *seg)
{
	MFS_AUTOFREE struct segment *gone = calloc(l->n_segments + 1, sizeof(*gone));
	size_t n = 0;
	int r;

	if (!gone)
		return -ENOMEM;
	r = layout_add_segment(l, seg, gone, &n);
	if (r == 0)
		blob_forget(c->env, gone, n);
	return r;
}

int patch_store(struct content *c, struct op_ctx *op, struct state *from, struct patch *p, bool swallow, int64_t mtime,
		struct state *next)
{
	struct volume *v = c->env->vol;
	struct object_meta meta = volume_object_meta(v, &from->attr);
	struct layout *l = &next->layout;
	struct cursor k = { .p = p, .from = from };
	struct object_info info = { 0 };
	uint64_t pos = l->log_end, at = pos;
	char key[LAYOUT_PATCH_KEY_MAX];
	int r = 0;

	meta.session = c->session;
	if (mtime)
		meta.mtime = mtime;
	p->seg = (struct segment){ .pos = pos, .len = p->bytes, .session = meta.session, .op = meta.op };
	for (size_t i = 0; i < p->n && r == 0; at += p->v[i++].len)
		r = layout_set(l, p->v[i].off, p->v[i].len, at);
	if (r == 0)
		r = add_segment(c, l, &p->seg);
	if (r == 0)
		r = sweep(c, l, p->bytes);
	if (r < 0)
		return r;
	if (p->bytes <= CONTENT_TIER_MAX) {
		uint64_t start = swallow ? swallow_from(l, c->tail.own_from, pos, p->bytes) : pos;

		r = tail_reach(c, op, l, start, pos, (size_t)p->bytes);
		if (r < 0 && start < pos) { /* they cannot be read back now: the new bytes alone */
			start = pos;
			r = tail_reach(c, op, l, start, pos, (size_t)p->bytes);
		}
		if (r < 0)
			return r;
		p->seg.pos = start;
		p->seg.len = pos + p->bytes - start;
	}
	layout_patch_key(&p->seg, key);
	if (p->bytes <= OBJECT_PART_MIN)
		r = put_one(c, op, key, &meta, &k, &info, &p->seg);
	else
		r = put_parts(c, op, key, &meta, &k, &info, &p->seg.sum);
	if (r < 0)
		return r;
	memcpy(p->seg.version, info.version, sizeof(p->seg.version));
	p->stored = true;
	return add_segment(c, l, &p->seg);
}

void patch_undo(struct content *c, struct op_ctx *op, struct patch *p, int err)
{
	struct object_ref ref = { 0 };
	int r;

	if (!p->stored || !content_surely_unnamed(err))
		return;
	p->stored = false;
	r = layout_segment_ref(&p->seg, &ref);
	if (r == 0)
		r = object_delete_version(c->env->vol->store, op, &ref);
	object_ref_release(&ref);
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
			"inode %" PRIu64 ": the patch object of a failed commit stays (%s); massfs gc will find it", c->ino,
			strerror(-r));
}

int layout_prepare(struct content *c, struct op_ctx *op, struct state *next, struct encoded *ret)
{
	size_t need = layout_docs_needed(&next->layout);
	uint64_t first = 0;
	int r = 0;

	if (need) {
		r = namespace_reserve(c->env->vol->ns, op, (unsigned int)need, &first);
		if (r == 0)
			r = layout_make_docs(&next->layout, c->ino, c->session, first, &ret->docs);
	}
	if (r == 0)
		r = layout_encode(&next->layout, &ret->slices);
	return r;
}

void encoded_release(struct encoded *e)
{
	free(e->slices.data);
	slices_doc_list_release(&e->docs);
	*e = (struct encoded){ 0 };
}
