/*
 * Open files: create, open, read, write, flush, release, fsync.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/notify.h"
#include "fs/fuse/ops.h"

/*
 * May the kernel's pages stay? With one mount always, but after a failure. With several, as long as nobody else has moved
 * the content since they were read.
 */
static bool pages_are_good(struct request *rq, struct inode *i, const struct mfs_attr *attr)
{
	bool good;
	MFS_GUARD(&i->lock);

	good = !i->cache_bad;
	i->cache_bad = false;
	if (!rq->fs->news)
		return good;
	if (i->content) {
		i->pages = content_pages(i->content, i->pages);
		content_news(i->content, attr->data, attr->lay); /* read anew, while no news come */
	}
	good = good && i->pages >= attr->data; /* higher: an own commit since */
	if (!good)
		i->pages = attr->data;
	return good;
}

/* Others may append, too: the offset is ours to choose, and no page of the kernel may have the bytes somewhere else. */
static bool appends(const struct request *rq, const struct fuse_file_info *fi)
{
	return rq->fs->news && (fi->flags & O_APPEND) && (fi->flags & O_ACCMODE) != O_RDONLY;
}

/* Removed, by whomever, and not held open here: the name that led to it leads somewhere else now. */
static bool is_nameless(struct request *rq, struct inode *i, const struct mfs_attr *attr)
{
	MFS_GUARD(&i->lock);

	return rq->fs->news && attr->nlink == 0 && i->n_open == 0;
}

/* made: the record, when the file was made by this request. */
static int open_file(struct request *rq, struct inode *i, const struct mfs_attr *attr, const struct node *made,
		     struct fuse_file_info *fi)
{
	bool good = pages_are_good(rq, i, attr);
	struct handle *h;
	struct content *c;
	int r = handle_new(rq, i, fi->flags, &h);

	if (r < 0)
		return r;
	/* A file that was made and is closed without a write has its (empty) object too: writers count from here. */
	if (h->writes)
		r = made ? handle_content_made(rq, h, made) : handle_content(rq, h, true, &c);
	if (r < 0) {
		handle_close(rq, h);
		return r;
	}
	fi->fh = (uintptr_t)h;
	/* A read that moves the access time must be seen here. */
	fi->keep_cache = good && (h->writes || (fi->flags & O_NOATIME) || !atime_is_due(rq->fs->atimes, i));
	fi->direct_io = appends(rq, fi);
	fi->noflush = !h->writes && !rq->fs->locks; /* a close gives locks back */
	return 0;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;
	struct mfs_attr attr;
	struct inode *i;
	int r;

	request_begin(&rq, req);
	r = request_inode(&rq, ino, &i);
	if (r < 0)
		return reply_err(&rq, r);
	r = request_attr(&rq, i, &attr);
	if (r == 0 && is_nameless(&rq, i, &attr))
		r = -ESTALE; /* the kernel looks the path up again */
	if (r == 0)
		r = open_file(&rq, i, &attr, NULL, fi);
	inode_put(rq.fs->inodes, &i);
	if (r < 0)
		return reply_err(&rq, r);
	if (fuse_reply_open(req, fi) < 0)
		handle_close(&rq, handle_of(fi)); /* interrupted: there will be no RELEASE */
}

static int make_file(struct request *rq, fuse_ino_t parent, const char *name, mode_t mode, struct node *ret)
{
	struct make m = { .parent = ino_of(rq->fs, parent),
			  .name = name,
			  .name_len = strlen(name),
			  .mode = S_IFREG | (mode & 07777) };
	int r = namespace_make(rq->fs->vol->ns, &rq->op, &m, ret);

	if (r == 0)
		request_dir_changed(rq, parent);
	return r;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct request rq;
	struct fuse_entry_param e;
	struct node n = NODE_INIT;
	struct mfs_attr attr;
	struct inode *i = NULL;
	bool known;
	int r;

	request_begin(&rq, req);
	r = make_file(&rq, parent, name, mode, &n);
	/* A verb, or another mount, put a file there that the kernel does not know of: it looks again, and checks permission. */
	if (r == -EEXIST)
		names_drop(rq.fs->names, ino_of(rq.fs, parent), name, strlen(name));
	if (r == -EEXIST && !(fi->flags & O_EXCL))
		r = -ESTALE;
	if (r < 0)
		return reply_err(&rq, r);
	attr = n.attr;
	i = inode_get(rq.fs->inodes, attr.ino);
	if (!i) {
		node_release(&n);
		return reply_err(&rq, -ENOMEM);
	}
	request_take(&rq, i, &attr);
	known = names_made(rq.fs->names, rq.epoch, ino_of(rq.fs, parent), name, strlen(name), attr.ino, attr.ino);
	r = open_file(&rq, i, &attr, &n, fi);
	node_release(&n);
	if (r < 0) {
		inode_put(rq.fs->inodes, &i);
		return reply_err(&rq, r);
	}
	attr_to_entry(rq.fs, &attr, rq.fresh, known, &e);
	inode_looked_up(rq.fs->inodes, i);
	if (fuse_reply_create(req, &e, fi) < 0) {
		handle_close(&rq, handle_of(fi));
		inode_forget(rq.fs->inodes, attr.ino, 1);
	}
	inode_put(rq.fs->inodes, &i);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	struct request rq;
	struct content *c;
	ssize_t n;
	char *buf;
	int r;

	(void)ino;
	request_begin(&rq, req);
	request_interruptible(&rq);
	r = handle_content(&rq, h, false, &c);
	if (r < 0)
		return reply_err(&rq, r);
	buf = malloc(size ? size : 1);
	if (!buf)
		return reply_err(&rq, -ENOMEM);
	n = content_read(c, &rq.op, (uint64_t)off, buf, size);
	if (n >= 0) {
		if (!(fi->flags & O_NOATIME))
			atime_touch(rq.fs->atimes, h->inode);
		atomic_fetch_add(&rq.fs->bytes_read, (uint64_t)n);
		reply_data(&rq, buf, (size_t)n);
	} else {
		reply_err(&rq, (int)n);
	}
	free(buf);
}

/*
 * With one mount the offset is the kernel's also with O_APPEND: it holds the only view of the size, and pages written back
 * through an appending handle have their own place. With several it is ours, and no pages are kept (appends()).
 */
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct request rq;
	struct content *c;
	int r;

	(void)ino;
	request_begin(&rq, req);
	request_interruptible(&rq);
	r = handle_content(&rq, handle_of(fi), true, &c);
	if (r == 0)
		r = content_write(c, &rq.op, (uint64_t)off, buf, size, appends(&rq, fi) && !fi->writepage);
	if (r == -EFBIG)
		handle_too_big(&rq, handle_of(fi), c);
	if (r < 0)
		return reply_err(&rq, r);
	atomic_fetch_add(&rq.fs->bytes_written, size);
	reply_written(&rq, size);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	struct request rq;
	int r = 0;

	(void)ino;
	request_begin(&rq, req);
	if (h->writes)
		r = handle_flush_close(&rq, h, false);
	if (r == 0 && h->writes)
		handle_closed(h);
	locks_at_flush(&rq, h, fi->lock_owner); /* after what was written under them */
	reply_err(&rq, r);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;

	(void)ino;
	request_begin(&rq, req);
	handle_close(&rq, handle_of(fi));
	reply_err(&rq, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct request rq;
	bool done;
	int r;

	(void)ino;
	(void)datasync;
	request_begin(&rq, req);
	r = handle_flush(&rq, handle_of(fi), &done);
	/* A commit is durable and so is what came before it; without one, name and attributes may not be yet. */
	if (r == 0 && !done)
		r = engine_sync(rq.fs->vol->engine, &rq.op);
	reply_err(&rq, r);
}
