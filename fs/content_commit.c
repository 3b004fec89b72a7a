/*
 * From dirty to durable: the object first, then one compare-and-set of the record.
 *
 * Round trips: a file of up to one part is one put and one index change; a bigger one the rest of its parts, one
 * complete and one index change. What fails leaves the record as it was; the object that lost is deleted at once.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/content_internal.h"
#include "fs/key_gate.h"
#include "fs/reconcile.h"

#define TRIES_MAX 32

/* What one commit takes along. */
struct round {
	uint64_t size, lay, data;
	int64_t mtime;
	bool whole; /* whole: a put from one buffer, not an upload */
	bool keep_version;
	bool at_gate; /* of key, from before the object is there until the record names it (fs/key_gate.h) */
	struct object_info info;
	struct mfs_buf key;
	bool temporary;
};

static void gate_enter(struct content *c, struct round *rd)
{
	key_gate_enter(&c->env->vol->gate, rd->key.data);
	rd->at_gate = true;
}

/* All extents from `from` on become constant: from map to sending. */
static int freeze_locked(struct content *c, uint64_t from)
{
	while (c->map.n && c->map.v[c->map.n - 1]->off >= from) {
		struct extent *e = dirty_take(&c->map, c->map.n - 1);

		if (c->n_sending == c->cap_sending) {
			size_t cap = c->cap_sending ? c->cap_sending * 2 : 8;
			struct extent **v = realloc(c->sending, cap * sizeof(struct extent *));

			if (!v) {
				(void)dirty_put_back(&c->map, c->env->budget, e);
				return -ENOMEM;
			}
			c->sending = v;
			c->cap_sending = cap;
		}
		c->sending[c->n_sending++] = e;
	}
	c->gen++;
	return 0;
}

static void thaw(struct content *c, bool stored)
{
	MFS_GUARD(&c->lock);

	for (size_t i = 0; i < c->n_sending; i++) {
		if (stored)
			extent_free(c->env->budget, c->sending[i]);
		else if (dirty_put_back(&c->map, c->env->budget, c->sending[i]) < 0 && !c->failed)
			c->failed = -ENOMEM;
	}
	c->n_sending = 0;
	c->gen++;
	pthread_cond_broadcast(&c->changed);
}

/* [0, size) of base and frozen extents, in one buffer that the caller frees. */
static int compose(struct content *c, struct op_ctx *op, uint64_t size, unsigned char **ret)
{
	MFS_AUTOFREE unsigned char *buf = malloc(size ? (size_t)size : 1);
	struct base *base;
	uint64_t n;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	{
		MFS_GUARD(&c->lock);

		n = MFS_MIN(c->base_len, size);
		base = c->base;
		atomic_fetch_add(&base->refs, 1);
	}
	if (n)
		r = base_read(c, op, base, 0, buf, (size_t)n);
	base_put(base);
	if (r < 0)
		return r == -ENOENT ? -EIO : r;
	memset(buf + n, 0, (size_t)(size - n));
	MFS_GUARD(&c->lock);
	for (size_t i = 0; i < c->n_sending; i++)
		extent_overlay(c->sending[i], 0, buf, (size_t)size);
	*ret = MFS_TAKE(buf);
	return 0;
}

static int store_whole(struct content *c, struct op_ctx *op, struct round *rd)
{
	struct volume *v = c->env->vol;
	MFS_AUTOFREE unsigned char *buf = NULL;
	const unsigned char *data = NULL;
	struct object_meta meta;
	int r = content_key(c, op, &rd->key, &rd->temporary);

	if (r < 0)
		return r;
	{
		MFS_GUARD(&c->lock);

		meta = volume_object_meta(v, &c->attr);
		if (rd->mtime)
			meta.mtime = rd->mtime;
		/* The usual new file: one extent that is all of it. Frozen, so its bytes stay put without the lock. */
		if (c->n_sending == 1 && c->sending[0]->off == 0 && c->sending[0]->len == rd->size)
			data = c->sending[0]->data;
	}
	if (!data) {
		r = compose(c, op, rd->size, &buf);
		if (r < 0)
			return r;
		data = buf;
	}
	gate_enter(c, rd);
	return object_put(v->store, op, NULL, rd->key.data, data, (size_t)rd->size, &meta, &rd->info);
}

/* Without OBJECT_CAP_SPARSE, nothing staged: part after part, from the base on the server's side where it can. */
static int store_in_order(struct content *c, struct op_ctx *op, struct round *rd)
{
	struct volume *v = c->env->vol;
	MFS_AUTOFREE unsigned char *buf = malloc(OBJECT_PART_MIN);
	struct object_upload *u = NULL;
	struct object_meta meta;
	struct base *base;
	uint64_t base_len, at;
	unsigned int number = 1;
	int r = content_key(c, op, &rd->key, &rd->temporary);

	if (!buf)
		return -ENOMEM;
	if (r < 0)
		return r;
	{
		MFS_GUARD(&c->lock);

		meta = volume_object_meta(v, &c->attr);
		if (rd->mtime)
			meta.mtime = rd->mtime;
		base = c->base;
		atomic_fetch_add(&base->refs, 1);
		base_len = MFS_MIN(c->base_len, rd->size);
	}
	r = object_upload_begin(v->store, op, NULL, rd->key.data, &meta, &u);
	for (at = 0; at < rd->size && r == 0; at += OBJECT_PART_MIN, number++) {
		size_t n = (size_t)MFS_MIN(OBJECT_PART_MIN, rd->size - at);
		bool clean = at + n <= base_len;
		size_t from_base = at < base_len ? (size_t)MFS_MIN((uint64_t)n, base_len - at) : 0;

		{
			MFS_GUARD(&c->lock);

			for (size_t i = 0; i < c->n_sending && clean; i++)
				clean = c->sending[i]->off >= at + n || c->sending[i]->off + c->sending[i]->len <= at;
		}
		if (clean) {
			r = object_upload_part_copy(u, op, number, at, &base->ref, at, n);
			continue;
		}
		memset(buf, 0, n);
		if (from_base)
			r = base_read(c, op, base, at, buf, from_base);
		{
			MFS_GUARD(&c->lock);

			for (size_t i = 0; i < c->n_sending; i++)
				extent_overlay(c->sending[i], at, buf, n);
		}
		if (r == 0)
			r = object_upload_part(u, op, number, at, buf, n);
	}
	base_put(base);
	if (r < 0) {
		object_upload_abort(u, op);
		return r;
	}
	gate_enter(c, rd);
	return object_upload_complete(u, op, rd->size, &meta, &rd->info);
}

/* Size and time belong to exactly the bytes that are frozen or sent: taken in the same critical section. */
static void mark_locked(struct content *c, struct round *rd)
{
	rd->size = c->size;
	rd->mtime = c->mtime;
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
		if (r == 0)
			r = c->failed;
		if (r == 0 && !content_sparse(c)) {
			r = freeze_locked(c, c->sent_end); /* what lies below goes on top in a second round */
			mark_locked(c, rd);
		}
	}
	if (r == 0)
		r = mfs_buf_puts(&rd->key, c->upload_key.data);
	rd->temporary = c->upload_temporary;
	if (r == 0)
		gate_enter(c, rd);
	return r < 0 ? r : upload_finish(c, op, rd->size, rd->mtime, &rd->info);
}

/* The bytes into the store, as one object of rd->size. */
static int store(struct content *c, struct op_ctx *op, struct round *rd)
{
	bool staged, small;
	int r = 0;

	{
		MFS_GUARD(&c->lock);

		staged = c->upload;
		small = c->size <= OBJECT_PART_MIN;
		rd->whole = !staged && (small || !content_sparse(c));
		if (rd->whole) {
			r = freeze_locked(c, 0);
			mark_locked(c, rd);
		}
	}
	if (r < 0)
		return r;
	if (rd->whole)
		return small ? store_whole(c, op, rd) : store_in_order(c, op, rd);
	r = upload_stage(c, op);
	if (r < 0) {
		rd->whole = true; /* nothing was sent: nothing is lost */
		return r;
	}
	return store_staged(c, op, rd);
}

/* The record, by compare-and-set; on a lost race read it again: the same content moved, or ours replaces it. */
static int record(struct content *c, struct op_ctx *op, struct round *rd, struct mfs_attr *attr)
{
	struct namespace *ns = c->env->vol->ns;
	struct commit cm = {
		.ino = c->ino,
		.lay = rd->lay,
		.ref = { .key = rd->key.data },
		.etag = rd->info.etag[0] ? rd->info.etag : NULL,
		.obj_len = rd->size,
		.size = rd->size,
		.alloc = rd->info.alloc,
		.mtime = rd->mtime,
		.keep_version = rd->keep_version,
		.queue_key = rd->info.not_shown,
		.temporary = rd->temporary,
		.durable = true,
	};
	int r = -EAGAIN;

	memcpy(cm.ref.version, rd->info.version, sizeof(cm.ref.version));
	for (int tries = 0; r == -EAGAIN && tries < TRIES_MAX; tries++) {
		struct node n = NODE_INIT;

		r = namespace_commit(ns, op, &cm, attr);
		if (r != -EAGAIN)
			return r;
		r = namespace_get(ns, op, c->ino, &n);
		if (r < 0)
			return r;
		/* With one mount per volume only a settle or a restore moves lay behind our back; the bytes of this commit
		 * are a whole file either way, so the last committer wins, and a restored state becomes a version. */
		cm.lay = n.attr.lay;
		cm.keep_version = rd->keep_version || n.attr.data != rd->data;
		node_release(&n);
		r = -EAGAIN;
	}
	return r;
}

static int took_over(struct content *c, struct round *rd, const struct mfs_attr *attr)
{
	struct object_ref ref = { .key = rd->key.data };
	struct base *b;

	memcpy(ref.version, rd->info.version, sizeof(ref.version));
	b = base_new(&ref);
	MFS_GUARD(&c->lock);
	if (b) {
		base_put(c->base);
		c->base = b;
		c->base_len = rd->size;
		c->lay = attr->lay;
		c->data = attr->data;
		c->attr = *attr;
	} else {
		c->stale = true;
	}
	c->version_due = false;
	if (c->mtime == rd->mtime)
		c->mtime = 0;
	c->rewrite = false;
	/* Writes that came during the commit stay dirty. */
	c->dirty = c->map.n > 0 || c->size != rd->size;
	c->completing = false;
	c->gen++;
	pthread_cond_broadcast(&c->changed);
	return b || !c->dirty ? 0 : -ENOMEM;
}

/* Did the record surely not take the object over? An -EIO may come after the change was applied (a log that could not be
 * synced, sqlite_wal.h): an object that the index may name is gc's to judge, which reads the record again. */
static bool surely_unnamed(int err)
{
	return err == -EAGAIN || err == -ESTALE || err == -ENOENT || err == -ENOSPC || err == -EROFS;
}

static void gave_up(struct content *c, struct op_ctx *op, struct round *rd, int err, bool stored)
{
	if (stored) {
		struct object_ref ref = { .key = rd->key.data };
		int r = 0;

		memcpy(ref.version, rd->info.version, sizeof(ref.version));
		if (surely_unnamed(err))
			r = object_delete_version(c->env->vol->store, op, &ref);
		/* The key shows nothing now, or still this: what the index has there belongs on it. */
		if (r == 0)
			r = reconcile_queue_key(c->env->vol, op, rd->key.data);
		if (r < 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
				"inode %" PRIu64 ": the object of a failed commit stays (%s); massfs gc will find it", c->ino,
				strerror(-r));
	}
	if (rd->whole) {
		thaw(c, false); /* the bytes are still here: the next flush tries again */
		return;
	}
	{
		MFS_GUARD(&c->lock);

		/* What was sent is gone: no later flush may pretend to have it. */
		if (!c->failed)
			c->failed = err;
		c->completing = false;
		pthread_cond_broadcast(&c->changed);
	}
	if (c->failed)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " upload given up: %s", c->ino, strerror(-err));
}

static int commit_once(struct content *c, struct op_ctx *op, struct mfs_attr *attr)
{
	struct round rd = { .key = MFS_BUF_INIT(CONTENT_PATH_MAX) };
	bool stored = false;
	int r;

	{
		MFS_GUARD(&c->lock);

		rd.lay = c->lay;
		rd.data = c->data;
		rd.keep_version = c->version_due;
	}
	r = store(c, op, &rd);
	if (r == 0) {
		stored = true;
		r = record(c, op, &rd, attr);
	}
	if (r == 0) {
		r = took_over(c, &rd, attr);
		thaw(c, true);
	} else {
		{
			MFS_GUARD(&c->lock);

			c->last_error = r;
		}
		gave_up(c, op, &rd, r, stored);
		if (r == -EAGAIN || r == -ESTALE || r == -ENOENT)
			r = -EIO;
	}
	if (rd.at_gate)
		key_gate_leave(&c->env->vol->gate, rd.key.data);
	mfs_buf_release(&rd.key);
	return r;
}

int content_commit(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed)
{
	struct mfs_attr now;
	unsigned int rounds = 0;
	bool again;
	int r;

	do {
		r = content_refresh(c, op);
		if (r == 0)
			r = commit_once(c, op, &now);
		if (r < 0)
			return r;
		if (attr)
			*attr = now;
		if (ret_committed)
			*ret_committed = true;
		/* Without OBJECT_CAP_SPARSE, bytes written over parts already sent go on top in a second round. */
		MFS_GUARD(&c->lock);
		again = c->dirty && !content_sparse(c) && ++rounds < 2;
	} while (again);
	return 0;
}
