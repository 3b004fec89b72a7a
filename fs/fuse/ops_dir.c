/*
 * Listing a directory: a page at a time from the index, by cursor, so a directory is never in memory as a whole.
 *
 * Offsets: 1 behind ".", 2 behind "..", then the pos of the name before (from 1000 up); so they hold across reopen.
 * An open directory keeps the rest of the last page. Its entries' attributes are used only while nothing was changed
 * since: what the kernel is told with readdirplus it believes for long. Where others change things all the time, each
 * entry is looked at by itself.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/ops.h"

#define PAGE_PLUS 256  /* entries; about what one reply holds */
#define PAGE	  1024

struct page {
	struct node_list list;
	size_t next;	/* first one not given out */
	uint64_t after; /* cursor it continues: valid for a request at this offset */
	uint64_t epoch; /* of the inode table when it was read */
	bool last;	/* nothing behind it */
};

struct dir_handle {
	struct opened opened;
	struct inode *inode; /* a ref */
	mfs_ino_t parent;    /* for ".."; 0: not known yet */
	struct mfs_mutex lock;
	struct page page; /* taken out while in use, so the lock is held for no call */
};

static struct dir_handle *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir_handle *)(uintptr_t)fi->fh;
}

static void dir_close(struct request *rq, struct dir_handle *d)
{
	opened_remove(rq->fs, &d->opened);
	{
		MFS_GUARD(&d->inode->lock);

		d->inode->n_open--;
	}
	inode_put(rq->fs->inodes, &d->inode);
	node_list_release(&d->page.list);
	pthread_mutex_destroy(&d->lock.m);
	free(d);
}

static void close_opened(struct request *rq, struct opened *o)
{
	dir_close(rq, mfs_container_of(o, struct dir_handle, opened));
}

/* May the kernel's listing stay? With several mounts: while news come, and none was of this directory since. */
static bool listing_is_good(struct request *rq, struct inode *i)
{
	bool good;
	MFS_GUARD(&i->lock);

	good = !i->cache_bad && i->attr_valid;
	i->cache_bad = false;
	return !rq->fs->news || (good && massfs_live(rq->fs));
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;
	struct dir_handle *d;
	int r;

	request_begin(&rq, req);
	d = calloc(1, sizeof(*d));
	if (!d)
		return reply_err(&rq, -ENOMEM);
	r = request_inode(&rq, ino, &d->inode);
	if (r < 0) {
		free(d);
		return reply_err(&rq, r);
	}
	pthread_mutex_init(&d->lock.m, NULL);
	{
		MFS_GUARD(&d->inode->lock);

		d->inode->n_open++;
	}
	d->opened.close = close_opened;
	opened_add(rq.fs, &d->opened);
	fi->fh = (uintptr_t)d;
	/* The kernel keeps the listing until a name changes (all do through it, or notify_inode() says so). One that moves
	 * the access time must be seen here, as in open_file(). */
	fi->cache_readdir = true;
	fi->keep_cache = listing_is_good(&rq, d->inode) && ((fi->flags & O_NOATIME) || !atime_is_due(rq.fs->atimes, d->inode));
	if (fuse_reply_open(req, fi) < 0)
		dir_close(&rq, d);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;

	(void)ino;
	request_begin(&rq, req);
	dir_close(&rq, dir_of(fi));
	reply_err(&rq, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct request rq;

	(void)ino;
	(void)datasync;
	(void)fi;
	request_begin(&rq, req);
	reply_err(&rq, engine_sync(rq.fs->vol->engine, &rq.op));
}

/* The page that continues at `after`: the rest of the handle's, or a new one. */
static int page_take(struct request *rq, struct dir_handle *d, uint64_t after, bool plus, struct page *p)
{
	size_t limit = plus ? PAGE_PLUS : PAGE;
	int r;

	{
		MFS_GUARD(&d->lock);

		*p = d->page;
		d->page = (struct page){ 0 };
	}
	/* With news each entry is judged by itself (put_plus). */
	if (p->next < p->list.n && p->after == after && (!plus || rq->fs->news || p->epoch == inode_epoch(rq->fs->inodes)))
		return 0;
	if (p->last && p->next == p->list.n && p->after == after && p->list.n)
		return 0;
	node_list_release(&p->list);
	*p = (struct page){ .after = after, .epoch = inode_epoch(rq->fs->inodes) };
	r = namespace_list(rq->fs->vol->ns, &rq->op, d->inode->ino, after, limit, &p->list);
	if (r < 0) {
		node_list_release(&p->list);
		*p = (struct page){ 0 };
		return r;
	}
	p->last = p->list.n < limit;
	return 0;
}

static void page_give_back(struct dir_handle *d, struct page *p)
{
	struct page old;

	{
		MFS_GUARD(&d->lock);

		old = d->page;
		d->page = *p;
	}
	node_list_release(&old.list);
}

struct reply_buf {
	char *bytes;
	size_t used, size;
	bool plus;
	mfs_ino_t looked_up[PAGE_PLUS]; /* what the kernel gets a lookup of with this reply */
	size_t n_looked_up;
};

/* False: no room for it. "." and ".." are not looked up: the kernel wants no number for them. */
static bool put_dot(struct request *rq, struct reply_buf *b, const char *name, mfs_ino_t ino, off_t next)
{
	struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = S_IFDIR } };
	size_t room = b->size - b->used, n;

	if (b->plus)
		n = fuse_add_direntry_plus(rq->req, b->bytes + b->used, room, name, &e, next);
	else
		n = fuse_add_direntry(rq->req, b->bytes + b->used, room, name, &e.attr, next);
	if (n > room)
		return false;
	b->used += n;
	return true;
}

static bool put_plain(struct request *rq, struct reply_buf *b, const struct node *n)
{
	struct stat st = { .st_ino = n->attr.ino, .st_mode = n->attr.mode };
	size_t room = b->size - b->used, need;

	need = fuse_add_direntry(rq->req, b->bytes + b->used, room, n->name.bytes, &st, (off_t)n->pos);
	if (need > room)
		return false;
	b->used += need;
	return true;
}

/* An entry that was changed since the page was read is only named: the kernel looks it up itself. */
static bool put_plus(struct request *rq, struct reply_buf *b, struct dir_handle *d, const struct node *n, uint64_t epoch)
{
	struct mfs_attr attr = n->attr;
	struct inode *i = inode_get(rq->fs->inodes, attr.ino);
	struct fuse_entry_param e;
	size_t room = b->size - b->used, need;
	bool known;

	if (!i)
		return false;
	rq->fresh = inode_take(i, epoch, &attr);
	known = names_put(rq->fs->names, epoch, d->inode->ino, n->name.bytes, n->name.len, attr.ino, record_of(&attr));
	attr_to_entry(rq->fs, &attr, rq->fresh, known, &e);
	if (!known)
		e.ino = 0;
	need = fuse_add_direntry_plus(rq->req, b->bytes + b->used, room, n->name.bytes, &e, (off_t)n->pos);
	if (need <= room) {
		if (known) {
			inode_looked_up(rq->fs->inodes, i);
			b->looked_up[b->n_looked_up++] = attr.ino;
		}
		b->used += need;
	}
	inode_put(rq->fs->inodes, &i);
	return need <= room;
}

/* Entries of the page until the buffer is full. */
static void fill_from_page(struct request *rq, struct reply_buf *b, struct dir_handle *d, struct page *p)
{
	while (p->next < p->list.n) {
		const struct node *n = &p->list.v[p->next];

		if (b->plus ? !put_plus(rq, b, d, n, rq->fs->news ? p->epoch : rq->epoch) : !put_plain(rq, b, n))
			return;
		p->after = n->pos;
		p->next++;
	}
}

static int dir_parent(struct request *rq, struct dir_handle *d, mfs_ino_t *ret)
{
	struct node n = NODE_INIT;
	int r;

	*ret = d->inode->ino;
	if (d->inode->ino == rq->fs->vol->root)
		return 0;
	r = namespace_get(rq->fs->vol->ns, &rq->op, d->inode->ino, &n);
	if (r == -ESTALE)
		return 0; /* removed: its listing is empty, the number does not matter */
	if (r == 0 && n.parent)
		*ret = n.parent;
	node_release(&n);
	return r;
}

static int put_dots(struct request *rq, struct dir_handle *d, struct reply_buf *b, off_t off)
{
	mfs_ino_t parent;
	int r;

	if (off > 1)
		return 0;
	r = dir_parent(rq, d, &parent);
	if (r < 0)
		return r;
	if (off == 0 && !put_dot(rq, b, ".", d->inode->ino, 1))
		return -EINVAL;
	return put_dot(rq, b, "..", parent, 2) ? 0 : -EINVAL;
}

static void read_dir(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct dir_handle *d = dir_of(fi);
	struct reply_buf b;
	struct page p = { 0 };
	struct request rq;
	int r;

	request_begin(&rq, req);
	b.size = size;
	b.plus = plus;
	b.used = b.n_looked_up = 0;
	b.bytes = malloc(size);
	r = b.bytes ? put_dots(&rq, d, &b, off) : -ENOMEM;
	if (r == 0)
		r = page_take(&rq, d, off > 2 ? (uint64_t)off : 0, plus, &p);
	if (r < 0) {
		free(b.bytes);
		return reply_err(&rq, r);
	}
	fill_from_page(&rq, &b, d, &p);
	page_give_back(d, &p); /* before the reply: the next request may come at once */
	atime_touch(rq.fs->atimes, d->inode);
	if (fuse_reply_buf(req, b.bytes, b.used) < 0)
		while (b.n_looked_up > 0)
			inode_forget(rq.fs->inodes, b.looked_up[--b.n_looked_up], 1);
	free(b.bytes);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino;
	read_dir(req, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino;
	read_dir(req, size, off, fi, true);
}
