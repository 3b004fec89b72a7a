/*
 * Open regular files: one content per inode, made with the first handle that needs it, freed with the last handle.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "fs/fuse/notify.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/session.h"

static void close_opened(struct request *rq, struct opened *o)
{
	handle_close(rq, mfs_container_of(o, struct handle, opened));
}

int handle_new(struct request *rq, struct inode *i, int flags, struct handle **ret)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->opened.close = close_opened;
	opened_add(rq->fs, &h->opened);
	h->inode = inode_ref(i);
	h->writes = (flags & O_ACCMODE) != O_RDONLY;
	MFS_GUARD(&i->lock);
	i->n_open++;
	i->n_open_write += h->writes;
	*ret = h;
	return 0;
}

static struct content *content_of(struct inode *i)
{
	MFS_GUARD(&i->lock);

	return i->content;
}

/* It stays as long as the handle counts in n_open. */
static int make_content(struct request *rq, struct inode *i, const struct node *n, struct content **ret)
{
	struct content *made, *spare;
	int r = n ? content_open_made(&rq->fs->content_env, &rq->op, n, &made) :
		    content_open(&rq->fs->content_env, &rq->op, i->ino, &made);

	if (r < 0)
		return r;
	{
		MFS_GUARD(&i->lock);

		spare = i->content ? made : NULL; /* another thread was faster */
		if (!i->content)
			i->content = made;
		*ret = i->content;
		/* Another mount was at it before this one could be told. */
		if (n && (!i->attr_valid || i->attr.lay != n->attr.lay || i->attr.data != n->attr.data))
			content_news(i->content, UINT64_MAX, UINT64_MAX);
	}
	content_free(spare);
	return 0;
}

int handle_content_made(struct request *rq, struct handle *h, const struct node *n)
{
	struct content *c = content_of(h->inode);
	int r = c ? 0 : make_content(rq, h->inode, n, &c);

	return r < 0 ? r : handle_content(rq, h, true, &c);
}

int handle_content(struct request *rq, struct handle *h, bool write, struct content **ret)
{
	struct inode *i = h->inode;
	int r = 0;

	*ret = content_of(i);
	if (!*ret)
		r = make_content(rq, i, NULL, ret);
	if (r < 0 || !write)
		return r;
	MFS_GUARD(&i->lock);
	if (!h->counted) {
		content_writer_opened(*ret);
		h->losses = content_losses(*ret);
	}
	h->counted = true;
	return content_lost(*ret, h->losses);
}

static int flush(struct request *rq, struct handle *h, bool closes, bool last, bool *ret_done)
{
	struct content *c = content_of(h->inode);
	struct mfs_attr attr;
	int r;

	*ret_done = false;
	if (!c)
		return 0;
	r = h->counted ? content_lost(c, h->losses) : 0;
	if (r < 0)
		return r;
	r = closes ? content_close(c, &rq->op, last, &attr, ret_done) : content_flush(c, &rq->op, &attr, ret_done);
	if (r == 0 && *ret_done)
		inode_take(h->inode, rq->epoch, &attr);
	return r;
}

int handle_flush(struct request *rq, struct handle *h, bool *ret_done)
{
	return flush(rq, h, false, false, ret_done);
}

int handle_flush_close(struct request *rq, struct handle *h, bool last)
{
	struct content *c = content_of(h->inode);
	bool done;
	int r = flush(rq, h, true, last, &done);

	/* Refused by storage rules, but it may be written on by the same descriptor's duplicates. */
	if (r < 0 && (last || !content_is_refused(c)))
		handle_give_up(rq, h, r);
	return r;
}

bool handle_is_judged(struct handle *h)
{
	struct content *c = content_of(h->inode);

	return c && content_is_judged(c);
}

void handle_closed(struct handle *h)
{
	struct content *c = content_of(h->inode);

	if (c)
		content_closed(c);
}

void handle_give_up(struct request *rq, struct handle *h, int err)
{
	struct inode *i = h->inode;
	struct content *c = content_of(i);

	/* Given up before: what there is by now is other writers'. */
	if (c && h->counted && content_lost(c, h->losses) < 0)
		return;
	if (c)
		content_give_up(c, &rq->op, err);
	inode_invalidate(rq->fs->inodes, i);
	{
		MFS_GUARD(&i->lock);

		i->cache_bad = true;
	}
	/* The size before close() returns; the pages at the next open, and for who has it open when the kernel can. */
	session_forget_attr(rq->fs->session, i->ino);
	notify_inode(rq->fs->notifier, i->ino, true);
}

void handle_too_big(struct request *rq, struct handle *h, struct content *c)
{
	if (!content_has_limit(c))
		return;
	namespace_too_big(rq->fs->vol->ns, &rq->op, h->inode->ino);
	handle_give_up(rq, h, -EFBIG);
}

int handle_truncate(struct request *rq, struct handle *h, uint64_t size)
{
	struct mfs_attr attr = { 0 };
	struct content *c;
	int r = handle_content(rq, h, true, &c);

	if (r == 0)
		r = content_truncate(c, &rq->op, size, &attr);
	if (r == -EFBIG)
		handle_too_big(rq, h, c);
	if (r == 0 && attr.ino)
		inode_take(h->inode, rq->epoch, &attr);
	return r;
}

bool handle_leave(struct handle *h)
{
	struct content *c = content_of(h->inode);
	MFS_GUARD(&h->inode->lock);

	if (!c || !h->counted || !content_writer_leaves(c))
		return false;
	h->counted = false;
	return true;
}

static int last_flush(struct request *rq, struct handle *h)
{
	bool done;
	int r = handle_flush(rq, h, &done);

	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, &rq->op,
			"inode %" PRIu64 ": what was written is not stored (%s); it is tried again at the next "
			"flush while the file is open, else lost",
			h->inode->ino, strerror(-r));
	return r;
}

/* FLUSH has told close() of what storage rules refuse, but for an empty file. */
static void judge_at_release(struct request *rq, struct handle *h, struct content *c)
{
	int r = content_lost(c, h->losses) == 0 ? handle_flush_close(rq, h, false) : 0;

	if (content_writer_closed(c) && content_lost(c, h->losses) == 0)
		r = handle_flush_close(rq, h, true);
	if (r < 0)
		mfs_debug(MFS_LOG_FS, &rq->op, "inode=%" PRIu64 " at its release: %s", h->inode->ino, strerror(-r));
}

/* The last commit, for which nobody waits any more: FLUSH has told close() of errors. */
static void flush_at_release(struct request *rq, struct handle *h, struct content *c)
{
	int r = 0;

	if (content_is_judged(c)) {
		judge_at_release(rq, h, c);
		return;
	}
	if (content_is_dirty(c) && content_lost(c, h->losses) == 0)
		r = last_flush(rq, h);
	/* Between the two somebody may have left his truncation to us (handle_leave). */
	if (content_writer_closed(c) && r == 0 && content_lost(c, h->losses) == 0)
		(void)last_flush(rq, h);
}

/* What the content's last commits made of the attributes outlives it. What is dirty still is lost with it. */
static void keep_attr_locked(struct inode *i, struct content *c) MFS_REQUIRES(i->lock)
{
	if (content_is_dirty(c))
		i->attr_valid = false;
	else
		content_overlay(c, &i->attr);
	i->pages = content_pages(c, i->pages);
	i->lock_pages = content_pages(c, i->lock_pages);
}

void handle_close(struct request *rq, struct handle *h)
{
	struct inode *i = h->inode;
	struct content *c = NULL;
	bool trashed = false;

	opened_remove(rq->fs, &h->opened);
	if (h->counted)
		flush_at_release(rq, h, content_of(i));
	locks_at_release(rq, h);
	{
		MFS_GUARD(&i->lock);

		i->n_open--;
		i->n_open_write -= h->writes;
		if (i->n_open == 0) {
			c = MFS_TAKE(i->content);
			if (c && !i->gone)
				keep_attr_locked(i, c);
			trashed = i->attr.flags & ATTR_IN_TRASH;
		}
	}
	content_free(c);
	if (trashed && namespace_closed(rq->fs->vol->ns, &rq->op, i->ino) < 0)
		mfs_debug(MFS_LOG_FS, &rq->op, "inode=%" PRIu64 " still counts as open in the trash", i->ino);
	inode_put(rq->fs->inodes, &h->inode);
	free(h);
}
