/*
 * The way of a new file's bytes to the store while the application goes on writing: a staged upload takes full parts
 * from worker threads. Only of a file whose committed bytes do not count (new, or truncated to nothing): what changes
 * in an old one goes the way of content_patch.c. Where the store takes parts in any order and size
 * (OBJECT_CAP_SPARSE), every dirty byte can be sent at any time; elsewhere only full parts from the start, in order.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/workers.h"
#include "fs/content_internal.h"

struct part_job {
	struct content *c;
	struct extent *e;
	unsigned int number;
};

int content_key(struct content *c, struct op_ctx *op, struct mfs_buf *key, bool *temporary)
{
	mfs_buf_clear(key);
	return namespace_key(c->env->vol->ns, op, c->ino, key, temporary);
}

bool upload_suits_locked(const struct content *c)
{
	return (content_committed_locked(c) == 0 || c->state->is_inline) && !content_appends_locked(c);
}

bool upload_wanted_locked(struct content *c)
{
	if (c->map.n + c->holes.n >= LAYOUT_COMMIT_MAX / 2 && !upload_suits_locked(c))
		return true;
	if (c->map.bytes < OBJECT_PART_MIN)
		return false;
	if (c->map.bytes >= MFS_MIN(CONTENT_DIRTY_SOFT, budget_max(c->env->budget) / 4))
		return !upload_suits_locked(c) || content_sparse(c);
	if (!upload_suits_locked(c))
		return false;
	for (size_t i = 0; i < c->map.n; i++) {
		if (extent_is_full(c->map.v[i]) && (content_sparse(c) || c->map.v[i]->off == c->sent_end))
			return true;
	}
	return false;
}

/* The committed bytes of an inline file are written along with the new ones. False: no memory for it now. */
static bool absorb_inline_locked(struct content *c)
{
	uint64_t n = MFS_MIN(content_committed_locked(c), (uint64_t)c->state->inline_data.size), at = 0;
	const unsigned char *data = c->state->inline_data.data;

	for (size_t i = 0; at < n; i++) {
		const struct range *hole = i < c->holes.n ? &c->holes.v[i] : NULL;
		uint64_t stop = hole ? MFS_MIN(hole->off, n) : n;

		if (at < stop && !dirty_fill(&c->map, c->env->budget, at, data + at, (size_t)(stop - at)))
			return false;
		at = hole ? hole->off + hole->len : n;
	}
	c->clip = 0;
	c->gen++;
	return true;
}

int upload_stage(struct content *c, struct op_ctx *op)
{
	struct volume *v = c->env->vol;
	struct object_upload *u = NULL;
	struct object_meta meta;
	int r;

	{
		MFS_GUARD(&c->lock);

		if (c->upload)
			return 0;
		if (content_committed_locked(c) > 0 && c->state->damaged)
			return -EIO;
		if (content_committed_locked(c) > 0 && !absorb_inline_locked(c))
			return -ENOMEM;
		ranges_release(&c->holes); /* nothing lies below them */
		meta = volume_object_meta(v, &c->state->attr);
		meta.session = c->session;
	}
	r = content_key(c, op, &c->upload_key, &c->upload_temporary);
	if (r == 0)
		r = object_upload_begin(v->store, op, NULL, c->upload_key.data, &meta, &u);
	if (r < 0)
		return r;
	MFS_GUARD(&c->lock);
	c->upload = u;
	c->next_part = 1;
	c->sent_end = 0;
	c->gen++;
	return 0;
}

static void forget_sending_locked(struct content *c, struct extent *e)
{
	for (size_t i = 0; i < c->n_sending; i++) {
		if (c->sending[i] == e) {
			c->sending[i] = c->sending[--c->n_sending];
			break;
		}
	}
	c->gen++;
	pthread_cond_broadcast(&c->changed);
}

static void part_run(void *arg)
{
	struct part_job *j = arg;
	struct content *c = j->c;
	struct op_ctx op = { 0 };
	int r = object_upload_part(c->upload, &op, j->number, j->e->off, j->e->data, j->e->len);
	struct extent *e = j->e;
	struct budget *budget = c->env->budget;

	free(j);
	if (r == 0)
		mfs_crash_point("upload.part");
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, &op,
			"inode %" PRIu64 ": uploading bytes %" PRIu64 "+%zu failed: %s; reported at the next write, fsync or close",
			c->ino, e->off, e->len, strerror(-r));
	{
		MFS_GUARD(&c->lock);

		if (r < 0 && !c->failed)
			c->failed = r;
		forget_sending_locked(c, e);
	}
	/* c may be gone from here on. */
	extent_free(budget, e);
}

static bool overlaps_sending_locked(const struct content *c, const struct extent *e)
{
	for (size_t i = 0; i < c->n_sending; i++) {
		const struct extent *s = c->sending[i];

		if (s->off < e->off + e->len && e->off < s->off + s->len)
			return true;
	}
	return false;
}

bool sending_add_locked(struct content *c, size_t i)
{
	if (c->n_sending == c->cap_sending) {
		size_t cap = c->cap_sending ? c->cap_sending * 2 : 8;
		struct extent **v = realloc(c->sending, cap * sizeof(struct extent *));

		if (!v)
			return false;
		c->sending = v;
		c->cap_sending = cap;
	}
	c->sending[c->n_sending++] = dirty_take(&c->map, i);
	return true;
}

/* The next extent to send moves from map to sending; NULL: none is left. Waits for an older part of the same range. */
static struct extent *next_locked(struct content *c, bool all)
{
	struct extent *e;
	size_t i = 0;

	while (i < c->map.n) {
		bool full = extent_is_full(c->map.v[i]);

		if (content_sparse(c) ? all || full : full && c->map.v[i]->off == c->sent_end)
			break;
		i++;
	}
	if (i == c->map.n)
		return NULL;
	while (overlaps_sending_locked(c, c->map.v[i])) {
		pthread_cond_wait(&c->changed, &c->lock.m);
		return next_locked(c, all); /* writes came meanwhile: look again */
	}
	e = c->map.v[i];
	if (!sending_add_locked(c, i))
		return NULL;
	c->sent_end = MFS_MAX(c->sent_end, e->off + e->len);
	c->gen++;
	return e;
}

int upload_send(struct content *c, bool all)
{
	if (!c->upload)
		return 0;
	for (;;) {
		struct part_job *j = malloc(sizeof(*j));
		int r;

		if (!j)
			return -ENOMEM;
		{
			MFS_GUARD(&c->lock);

			j->e = c->failed ? NULL : next_locked(c, all);
			if (!j->e) {
				c->sent_size = c->size;
				c->sent_mtime = c->mtime;
			}
			j->number = c->next_part;
			if (j->e)
				c->next_part++;
			r = c->failed;
		}
		if (!j->e) {
			free(j);
			return r;
		}
		j->c = c;
		r = workers_submit(c->env->uploaders, part_run, j);
		if (r < 0)
			part_run(j); /* no thread to be had: here and now */
	}
}

void upload_wait(struct content *c)
{
	MFS_GUARD(&c->lock);

	while (c->n_sending)
		pthread_cond_wait(&c->changed, &c->lock.m);
}

/* The upload leaves the content: no reader has it any more. With `completing` readers wait until it is the base. */
static struct object_upload *detach(struct content *c, bool completing)
{
	struct object_upload *u;
	MFS_GUARD(&c->lock);

	c->completing = completing;
	while (c->upload_readers)
		pthread_cond_wait(&c->changed, &c->lock.m);
	u = c->upload;
	c->upload = NULL;
	c->gen++;
	return u;
}

void upload_drop(struct content *c, struct op_ctx *op)
{
	object_upload_abort(detach(c, false), op);
}

/* In order, without gaps: what lies behind the parts sent so far, all of it in `sending`. */
static int send_tail(struct content *c, struct op_ctx *op, uint64_t size)
{
	MFS_AUTOFREE unsigned char *buf = malloc(OBJECT_PART_MIN);
	uint64_t at;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	for (at = c->sent_end; at < size && r == 0; at += OBJECT_PART_MIN) {
		size_t n = (size_t)MFS_MIN(OBJECT_PART_MIN, size - at);
		unsigned int number;

		memset(buf, 0, n);
		{
			MFS_GUARD(&c->lock);

			for (size_t i = 0; i < c->n_sending; i++)
				extent_overlay(c->sending[i], at, buf, n);
			number = c->next_part++;
		}
		r = object_upload_part(c->upload, op, number, at, buf, n);
	}
	return r;
}

int upload_finish(struct content *c, struct op_ctx *op, uint64_t size, int64_t mtime, struct object_info *ret)
{
	struct object_meta meta;
	struct object_upload *u;
	int r = content_sparse(c) ? 0 : send_tail(c, op, size);

	u = detach(c, true);
	{
		MFS_GUARD(&c->lock);

		meta = volume_object_meta(c->env->vol, &c->state->attr);
		meta.session = c->session;
		if (mtime)
			meta.mtime = mtime;
	}
	if (r < 0) {
		object_upload_abort(u, op);
		return r;
	}
	r = object_upload_complete(u, op, size, &meta, ret);
	if (r == 0)
		mfs_crash_point("upload.complete");
	return r;
}
