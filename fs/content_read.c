/* Reading one open file's bytes from where the newest of them are (the table in content_internal.h). */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "fs/content_internal.h"

static int base_fd(struct content *c, struct op_ctx *op, struct base *b)
{
	int fd;

	{
		MFS_GUARD(&b->lock);

		if (b->fd >= 0)
			return b->fd;
	}
	fd = object_open_fd(c->env->vol->store, op, &b->ref);
	if (fd < 0)
		return fd;
	MFS_GUARD(&b->lock);
	if (b->fd < 0)
		b->fd = fd;
	else
		close(fd);
	return b->fd;
}

int base_read(struct content *c, struct op_ctx *op, struct base *b, uint64_t off, void *buf, size_t len)
{
	struct object_store *s = c->env->vol->store;
	size_t done = 0;
	int fd = -1;

	if (object_store_caps(s) & OBJECT_CAP_FD) {
		fd = base_fd(c, op, b);
		if (fd < 0)
			return fd;
	}
	while (done < len) {
		ssize_t n = fd >= 0 ? pread(fd, (char *)buf + done, len - done, (off_t)(off + done))
				    : object_get(s, op, &b->ref, off + done, (char *)buf + done, len - done);

		if (n < 0 && fd >= 0)
			n = -errno;
		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0) {
			mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
				"inode %" PRIu64 ": object %s version %s ends at %" PRIu64
				", the index says it is longer: damaged; see massfs fsck, massfs versions",
				c->ino, b->ref.key, b->ref.version, off + done);
			return -EIO;
		}
		done += (size_t)n;
	}
	return 0;
}

/* One look at the state: what to read outside of the lock. */
struct view {
	uint64_t gen, size, base_len;
	struct base *base;
	struct object_upload *upload;
	bool stale, covered;
};

static void view_take(struct content *c, uint64_t off, void *buf, size_t len, struct view *v)
{
	MFS_GUARD(&c->lock);

	*v = (struct view){ .gen = c->gen, .size = c->size, .base_len = c->base_len, .stale = c->stale && !c->dirty };
	if (v->stale || off >= c->size)
		return;
	if (dirty_covers(&c->map, off, MFS_MIN((uint64_t)len, c->size - off))) {
		dirty_overlay(&c->map, off, buf, len);
		v->covered = true;
		return;
	}
	if (c->completing) { /* its bytes are in no place that can be read, for a moment */
		while (c->completing)
			pthread_cond_wait(&c->changed, &c->lock.m);
		v->gen = c->gen;
		v->size = c->size;
		v->base_len = c->base_len;
	}
	v->base = c->base;
	atomic_fetch_add(&v->base->refs, 1);
	if (c->upload) {
		v->upload = c->upload;
		c->upload_readers++;
	}
}

/* Give back what view_take took; true: nothing moved meanwhile, buf is whole. */
static bool view_done(struct content *c, uint64_t off, void *buf, size_t len, struct view *v)
{
	bool same;

	base_put(v->base);
	MFS_GUARD(&c->lock);
	if (v->upload && --c->upload_readers == 0)
		pthread_cond_broadcast(&c->changed);
	same = c->gen == v->gen;
	if (!same)
		return false;
	for (size_t i = 0; i < c->n_sending; i++)
		extent_overlay(c->sending[i], off, buf, len);
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
	} else if (off < v->base_len) {
		n = (size_t)MFS_MIN((uint64_t)len, v->base_len - off);
		r = base_read(c, op, v->base, off, buf, n);
	}
	memset((char *)buf + n, 0, len - n);
	return r;
}

/* The base is missing: the index may have moved it (a settle) and garbage collection been there. Busy: the caller. */
static int after_missing(struct content *c, struct op_ctx *op, const struct view *v)
{
	struct node n = NODE_INIT;
	int r = namespace_get(c->env->vol->ns, op, c->ino, &n);

	if (r < 0)
		return r;
	{
		MFS_GUARD(&c->lock);

		if (n.attr.lay == c->lay && c->gen == v->gen) {
			mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
				"inode %" PRIu64 ": object %s version %s is missing, the index refers to it: content lost; see "
				"massfs fsck, massfs versions",
				c->ino, n.ref.key ? n.ref.key : "-", n.ref.version);
			r = -EIO;
		} else if (!c->dirty) {
			r = content_adopt_locked(c, &n);
		}
	}
	node_release(&n);
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

ssize_t content_read(struct content *c, struct op_ctx *op, uint64_t off, void *buf, size_t len)
{
	bool missing = false;

	for (;;) {
		struct view v;
		size_t n;
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
			r = content_flush(c, op, NULL, NULL);
			if (r < 0)
				return r;
			continue;
		}
		r = read_under(c, op, &v, off, buf, n);
		if (view_done(c, off, buf, n, &v)) {
			if (r == 0)
				return (ssize_t)n;
			if (r != -ENOENT || missing)
				return r == -ENOENT ? -EIO : r;
			missing = true;
			r = after_missing(c, op, &v);
			if (r < 0)
				return r;
		}
	}
}

int content_read_whole(struct content *c, struct op_ctx *op, uint64_t off, void *buf, size_t len)
{
	ssize_t n = content_read(c, op, off, buf, len);

	if (n < 0)
		return (int)n;
	memset((char *)buf + n, 0, len - (size_t)n);
	return 0;
}
