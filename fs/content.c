/*
 * One open file's bytes: life cycle, writes into memory, truncation. Reads are in content_read.c, the way to the store
 * in content_upload.c, the commit in content_commit.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "fs/content_internal.h"

#define WAIT_MS 50

void content_env_init(struct content_env *env, struct volume *vol, struct budget *budget, struct workers *uploaders)
{
	*env = (struct content_env){ .vol = vol, .budget = budget, .uploaders = uploaders };
	pthread_mutex_init(&env->lock.m, NULL);
}

void content_env_release(struct content_env *env)
{
	assert(!env->first);
	pthread_mutex_destroy(&env->lock.m);
}

struct base *base_new(const struct object_ref *ref)
{
	struct base *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	if (object_ref_copy(ref, &b->ref) < 0) {
		free(b);
		return NULL;
	}
	pthread_mutex_init(&b->lock.m, NULL);
	b->refs = 1;
	b->fd = -1;
	return b;
}

void base_put(struct base *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	if (b->fd >= 0)
		close(b->fd);
	object_ref_release(&b->ref);
	pthread_mutex_destroy(&b->lock.m);
	free(b);
}

void content_enter_locked(struct content *c)
{
	while (c->busy)
		pthread_cond_wait(&c->changed, &c->lock.m);
	c->busy = true;
}

void content_leave_locked(struct content *c)
{
	c->busy = false;
	pthread_cond_broadcast(&c->changed);
}

int content_adopt_locked(struct content *c, const struct node *n)
{
	struct base *b = base_new(&n->ref);

	if (!b)
		return -ENOMEM;
	base_put(c->base);
	c->base = b;
	c->base_len = n->attr.obj_len;
	c->lay = n->attr.lay;
	c->data = n->attr.data;
	c->attr = n->attr;
	c->size = n->attr.size;
	c->stale = false;
	c->gen++;
	return 0;
}

int content_refresh(struct content *c, struct op_ctx *op)
{
	struct node n = NODE_INIT;
	int r;

	{
		MFS_GUARD(&c->lock);

		if (!c->stale || c->dirty)
			return 0;
	}
	r = namespace_get(c->env->vol->ns, op, c->ino, &n);
	if (r < 0)
		return r;
	MFS_GUARD(&c->lock);
	r = content_adopt_locked(c, &n);
	node_release(&n);
	return r;
}

int content_open(const struct content_env *cenv, struct op_ctx *op, mfs_ino_t ino, struct content **ret)
{
	/* The list of contents is the environment's own state behind its lock. */
	struct content_env *env = (struct content_env *)(uintptr_t)cenv;
	struct node n = NODE_INIT;
	struct content *c;
	int r;

	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	r = namespace_get(env->vol->ns, op, ino, &n);
	if (r < 0) {
		free(c);
		return r;
	}
	c->env = env;
	c->ino = ino;
	c->upload_key = (struct mfs_buf)MFS_BUF_INIT(CONTENT_PATH_MAX);
	pthread_mutex_init(&c->lock.m, NULL);
	pthread_cond_init(&c->changed, NULL);
	{
		MFS_GUARD(&c->lock);

		r = content_adopt_locked(c, &n);
	}
	node_release(&n);
	if (r == 0) {
		MFS_GUARD(&env->lock);

		c->next = env->first;
		c->prevp = &env->first;
		if (c->next)
			c->next->prevp = &c->next;
		env->first = c;
	}
	if (r < 0) {
		content_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void content_discard(struct content *c, struct op_ctx *op)
{
	upload_wait(c);
	upload_drop(c, op);
	MFS_GUARD(&c->lock);

	dirty_release(&c->map, c->env->budget);
	for (size_t i = 0; i < c->n_sending; i++)
		extent_free(c->env->budget, c->sending[i]);
	c->n_sending = 0;
	c->dirty = c->rewrite = false;
	c->mtime = 0;
	c->stale = true;
	c->gen++;
}

void content_free(struct content *c)
{
	if (!c)
		return;
	{
		MFS_GUARD(&c->env->lock);

		if (c->prevp) /* neighbours on the list move it */
			*c->prevp = c->next;
		if (c->next)
			c->next->prevp = c->prevp;
	}
	{
		/* A thread that makes room took this one off the list before we did: let it finish. */
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
	}
	if (c->dirty || c->upload || c->n_sending) {
		if (c->dirty && !c->unlinked)
			mfs_log(MFS_LOG_FS, MFS_LOG_ERR, NULL,
				"inode %" PRIu64 ": %" PRIu64 " bytes could not be stored (%s) and are given up at the last close; the "
				"content before stays, and the error went to close()",
				c->ino, c->size, strerror(c->last_error ? -c->last_error : EIO));
		content_discard(c, NULL);
	}
	dirty_release(&c->map, c->env->budget); /* empty, but it keeps its array */
	base_put(c->base);
	free(c->sending);
	mfs_buf_release(&c->upload_key);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock.m);
	free(c);
}

void content_writer_opened(struct content *c)
{
	MFS_GUARD(&c->lock);

	if (c->n_writers++ == 0 || c->closed)
		c->version_due = true;
	/* A file that was made and never written gets its (empty) object at the first close. */
	if (object_ref_is_empty(&c->base->ref) && c->size == 0)
		c->dirty = true;
}

void content_writer_closed(struct content *c)
{
	bool give_up = false;

	{
		MFS_GUARD(&c->lock);

		assert(c->n_writers > 0);
		if (--c->n_writers == 0 && c->failed) {
			content_enter_locked(c);
			give_up = true;
		}
	}
	if (!give_up)
		return;
	content_discard(c, NULL); /* the failure went to each flush; whoever opens next finds the last good state */
	MFS_GUARD(&c->lock);

	c->failed = 0;
	content_leave_locked(c);
}

/* The idle file that holds most dirty memory, made busy; NULL: none. On the list means not freed: content_free() takes
 * env->lock to leave it, and then waits for busy. */
static struct content *take_biggest(struct content_env *env)
{
	struct content *big = NULL;
	uint64_t most = 0;
	MFS_GUARD(&env->lock);

	for (struct content *i = env->first; i; i = i->next) {
		MFS_GUARD(&i->lock);

		if (!i->busy && !i->failed && i->map.bytes > most) {
			most = i->map.bytes;
			big = i;
		}
	}
	if (big) {
		MFS_GUARD(&big->lock);

		if (big->busy)
			return NULL;
		big->busy = true;
	}
	return big;
}

/* Let others give memory back: this content first, then whichever holds most. No lock held. */
static int make_room(struct content *c, struct op_ctx *op)
{
	struct content_env *env = c->env;
	bool send = false;
	int r = 0;

	{
		MFS_GUARD(&c->lock);

		if (c->map.bytes > 0 && !c->busy) {
			c->busy = true;
			send = true;
		}
	}
	if (send) {
		r = content_sparse(c) ? upload_stage(c, op) : content_commit(c, op, NULL, NULL);
		if (r == 0 && content_sparse(c))
			r = upload_send(c, true);
		MFS_GUARD(&c->lock);

		content_leave_locked(c);
		return r;
	}
	r = budget_wait(env->budget, OBJECT_PART_MIN, WAIT_MS);
	if (r == 0) {
		budget_put(env->budget, OBJECT_PART_MIN);
		return 0;
	}
	/* Nobody else moves: push out the biggest idle file. Its busy flag keeps it from being freed under us. */
	struct content *big = take_biggest(env);

	if (!big)
		return 0;
	r = content_sparse(big) ? upload_stage(big, op) : content_commit(big, op, NULL, NULL);
	if (r == 0 && content_sparse(big))
		r = upload_send(big, true);
	if (r < 0)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " making room failed: %s", big->ino, strerror(-r));
	MFS_GUARD(&big->lock);
	content_leave_locked(big);
	return 0; /* its failure is its own writers' to hear */
}

int content_write(struct content *c, struct op_ctx *op, uint64_t off, const void *buf, size_t len, bool append)
{
	size_t done = 0;
	int r = 0;

	{
		MFS_GUARD(&c->lock);

		while (c->stale && !c->dirty) { /* the index moved it: appends and sizes need the new state */
			content_enter_locked(c);
			pthread_mutex_unlock(&c->lock.m);
			r = content_refresh(c, op);
			pthread_mutex_lock(&c->lock.m);
			content_leave_locked(c);
			if (r < 0)
				return r;
		}
		if (append)
			off = c->size;
	}
	if (off + len > (uint64_t)MFS_FILE_SIZE_MAX || off + len < off)
		return -EFBIG;
	while (done < len) {
		bool want;

		{
			MFS_GUARD(&c->lock);
			size_t n;

			if (c->failed)
				return c->failed;
			if (append && done == 0)
				off = c->size;
			n = dirty_write(&c->map, c->env->budget, off + done, (const char *)buf + done, len - done);
			done += n;
			if (n) {
				c->dirty = true;
				c->closed = false;
				c->size = MFS_MAX(c->size, off + done);
				c->mtime = mfs_now_ns();
			}
			want = done == len && !c->busy && upload_wanted_locked(c);
			if (want)
				c->busy = true;
		}
		if (want) {
			r = upload_stage(c, op);
			if (r == 0)
				r = upload_send(c, false);
			MFS_GUARD(&c->lock);

			content_leave_locked(c);
			/* The bytes are safe in memory: whether they can be stored is the flush's to say. */
			if (r < 0)
				mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " streaming: %s", c->ino, strerror(-r));
			r = 0;
		} else if (done < len) {
			r = make_room(c, op);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Only the index knows of it: one change. The caller is busy. */
static int truncate_clean(struct content *c, struct op_ctx *op, uint64_t size, struct mfs_attr *attr)
{
	struct mfs_attr now;
	bool due;
	int r;

	for (int tries = 0; tries < 16; tries++) {
		uint64_t lay;

		r = content_refresh(c, op);
		if (r < 0)
			return r;
		{
			MFS_GUARD(&c->lock);

			lay = c->lay;
			due = c->version_due || c->n_writers == 0;
		}
		r = namespace_truncate(c->env->vol->ns, op, c->ino, lay, size, due, false, &now);
		if (r == 0)
			break;
		if (r != -EAGAIN)
			return r;
		MFS_GUARD(&c->lock);
		c->stale = true;
	}
	if (r < 0)
		return -EIO;
	MFS_GUARD(&c->lock);
	c->size = now.size;
	c->base_len = now.obj_len;
	c->lay = now.lay;
	c->data = now.data;
	c->attr = now;
	c->version_due = false;
	c->closed = false;
	c->gen++;
	if (attr)
		*attr = now;
	return 0;
}

int content_truncate(struct content *c, struct op_ctx *op, uint64_t size, struct mfs_attr *attr)
{
	bool clean;
	int r = 0;

	if (size > (uint64_t)MFS_FILE_SIZE_MAX)
		return -EFBIG;
	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
		if (c->failed)
			r = c->failed;
	}
	if (r == 0 && size == 0) {
		/* The old content is out, with all that was sent of the new; in the index at the next flush. */
		content_discard(c, op);
		r = content_refresh(c, op);
		MFS_GUARD(&c->lock);

		if (r == 0) {
			c->size = c->base_len = 0;
			c->dirty = c->rewrite = true;
			c->closed = false;
			c->mtime = mfs_now_ns();
			c->gen++;
		}
		content_leave_locked(c);
		return r;
	}
	if (r == 0) {
		MFS_GUARD(&c->lock);

		clean = !c->dirty;
		if (!clean && !c->upload && c->n_sending == 0) {
			dirty_clip(&c->map, c->env->budget, size);
			c->base_len = MFS_MIN(c->base_len, size);
			c->size = size;
			c->closed = false;
			c->mtime = mfs_now_ns();
			c->gen++;
			content_leave_locked(c);
			return 0;
		}
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

int content_flush(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed)
{
	int r = 0;

	if (ret_committed)
		*ret_committed = false;
	{
		MFS_GUARD(&c->lock);

		if (c->unlinked || (!c->dirty && !c->busy && !c->failed))
			return 0;
		content_enter_locked(c);
		if (c->failed)
			r = c->failed;
		else if (!c->dirty)
			r = 1; /* somebody else's commit took ours along */
	}
	if (r == 0)
		r = content_commit(c, op, attr, ret_committed);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r > 0 ? 0 : r;
}

void content_closed(struct content *c)
{
	MFS_GUARD(&c->lock);

	if (!c->dirty && !c->failed)
		c->closed = true;
}

void content_give_up(struct content *c, struct op_ctx *op, int err)
{
	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
		if (!c->failed && c->n_writers > 0)
			c->failed = err;
	}
	content_discard(c, op);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
}

void content_overlay(struct content *c, struct mfs_attr *attr)
{
	MFS_GUARD(&c->lock);

	if (!c->dirty)
		return;
	attr->size = c->size;
	if (c->mtime) {
		attr->mtime = c->mtime;
		attr->ctime = MFS_MAX(attr->ctime, c->mtime);
	}
	if (c->rewrite)
		attr->alloc = 0;
	attr->alloc = MFS_MIN(attr->alloc + c->map.bytes + (c->upload ? c->size : 0), c->size + 4095);
}

void content_mtime_was_set(struct content *c)
{
	MFS_GUARD(&c->lock);

	c->mtime = 0;
}

bool content_is_dirty(struct content *c)
{
	MFS_GUARD(&c->lock);

	return c->dirty;
}

void content_unlinked(struct content *c)
{
	MFS_GUARD(&c->lock);

	c->unlinked = true;
}

void content_reload(struct content *c)
{
	MFS_GUARD(&c->lock);

	c->unlinked = false;
	c->stale = true;
	c->gen++;
}
