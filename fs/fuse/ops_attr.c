/*
 * Lookup and attributes: lookup, forget, getattr, setattr, statfs.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/clock.h"
#include "fs/fuse/notify.h"
#include "fs/fuse/ops.h"

#define NEGATIVE_TIMEOUT 3600.0
#define STATFS_BLOCK	 4096

static void reply_no_entry(struct request *rq)
{
	const struct mfs_config *cfg = rq->fs->cfg;
	struct fuse_entry_param e = { .entry_timeout = cfg->has_negative_timeout ? cfg->negative_timeout :
										     NEGATIVE_TIMEOUT };

	if (e.entry_timeout <= 0)
		reply_err(rq, -ENOENT);
	else
		fuse_reply_entry(rq->req, &e); /* never made interruptible: nothing to end */
}

/* Of "." and "..", which only NFS asks for. */
static int lookup_self_or_parent(struct request *rq, mfs_ino_t ino, bool want_parent, struct mfs_attr *ret)
{
	struct node n = NODE_INIT;
	int r = namespace_get(rq->fs->vol->ns, &rq->op, ino, &n);

	if (r == 0 && want_parent && ino != rq->fs->vol->root) {
		mfs_ino_t parent = n.parent;

		node_release(&n);
		if (!parent)
			return -ESTALE;
		r = namespace_get(rq->fs->vol->ns, &rq->op, parent, &n);
	}
	if (r == 0)
		*ret = n.attr;
	node_release(&n);
	return r;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request rq;
	struct entry e = { 0 };
	struct mfs_attr attr;
	struct inode *i;
	int r;

	request_begin(&rq, req);
	if (!strcmp(name, ".") || !strcmp(name, "..")) {
		r = lookup_self_or_parent(&rq, ino_of(rq.fs, parent), name[1] == '.', &attr);
	} else {
		r = namespace_lookup(rq.fs->vol->ns, &rq.op, ino_of(rq.fs, parent), name, strlen(name), &e);
		if (r == 0)
			attr = e.node.attr;
		entry_release(&e);
	}
	if (r == -ENOENT)
		return reply_no_entry(&rq);
	if (r < 0)
		return reply_err(&rq, r);
	i = inode_get(rq.fs->inodes, attr.ino);
	if (!i)
		return reply_err(&rq, -ENOMEM);
	inode_take(i, rq.epoch, &attr);
	reply_entry(&rq, i, &attr);
	inode_put(rq.fs->inodes, &i);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct massfs *fs = fuse_req_userdata(req);

	inode_forget(fs->inodes, ino_of(fs, ino), nlookup);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct massfs *fs = fuse_req_userdata(req);

	for (size_t k = 0; k < count; k++)
		inode_forget(fs->inodes, ino_of(fs, forgets[k].ino), forgets[k].nlookup);
	fuse_reply_none(req);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;
	struct mfs_attr attr;
	struct inode *i;
	int r;

	(void)fi;
	request_begin(&rq, req);
	r = request_inode(&rq, ino, &i);
	if (r < 0)
		return reply_err(&rq, r);
	r = request_attr(&rq, i, &attr);
	inode_put(rq.fs->inodes, &i);
	if (r < 0)
		return reply_err(&rq, r);
	reply_attr(&rq, &attr);
}

/* The part of the kernel's request that is not the size. */
static struct set_attr decode_set_attr(const struct stat *st, int to_set)
{
	struct set_attr sa = { .mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid };
	int64_t now = mfs_now_ns();

	if (to_set & FUSE_SET_ATTR_MODE)
		sa.mask |= EDIT_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		sa.mask |= EDIT_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		sa.mask |= EDIT_GID;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
		sa.mask |= EDIT_ATIME;
		sa.atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : mfs_timespec_to_ns(st->st_atim);
	}
	/* With a new size the kernel may add "now": the truncation has set it. */
	if ((to_set & FUSE_SET_ATTR_MTIME_NOW && !(to_set & FUSE_SET_ATTR_SIZE)) ||
	    (to_set & FUSE_SET_ATTR_MTIME && !(to_set & FUSE_SET_ATTR_MTIME_NOW))) {
		sa.mask |= EDIT_MTIME;
		sa.mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : mfs_timespec_to_ns(st->st_mtim);
	}
	if (to_set & FUSE_SET_ATTR_CTIME) {
		sa.mask |= EDIT_CTIME;
		sa.ctime = mfs_timespec_to_ns(st->st_ctim);
	}
	return sa;
}

/* A removed directory or special file that somebody still holds: there is no record, only what fstat shows. */
static bool set_gone(struct inode *i, const struct set_attr *sa, struct mfs_attr *ret)
{
	MFS_GUARD(&i->lock);

	if (!i->gone)
		return false;
	if (sa->mask & EDIT_MODE)
		i->attr.mode = (i->attr.mode & S_IFMT) | sa->mode;
	if (sa->mask & EDIT_UID)
		i->attr.uid = sa->uid;
	if (sa->mask & EDIT_GID)
		i->attr.gid = sa->gid;
	if (sa->mask & EDIT_ATIME)
		i->attr.atime = sa->atime;
	if (sa->mask & EDIT_MTIME)
		i->attr.mtime = sa->mtime;
	i->attr.ctime = mfs_now_ns();
	*ret = i->attr;
	return true;
}

/* A new mtime wins over that of writes which are not in the index yet. The handle keeps the content meanwhile. */
static int mtime_is_set(struct request *rq, struct inode *i)
{
	struct content *c;
	struct handle *own;
	int r;

	{
		MFS_GUARD(&i->lock);

		if (!i->content)
			return 0;
	}
	r = handle_new(rq, i, O_RDONLY, &own);
	if (r < 0)
		return r;
	{
		MFS_GUARD(&i->lock);

		c = i->content;
	}
	if (c)
		content_mtime_is_set(c);
	handle_close(rq, own);
	return 0;
}

static int set_attributes(struct request *rq, struct inode *i, const struct set_attr *sa, struct mfs_attr *ret)
{
	unsigned int begun;
	int r;

	if (set_gone(i, sa, ret))
		return 0;
	r = sa->mask & EDIT_MTIME ? mtime_is_set(rq, i) : 0;
	if (r < 0)
		return r;
	begun = atime_set_begin(i);
	r = namespace_setattr(rq->fs->vol->ns, &rq->op, i->ino, sa, ret);
	if (r < 0)
		return r;
	inode_take(i, rq->epoch, ret);
	if (sa->mask & EDIT_ATIME) {
		atime_set_end(rq->fs->atimes, i, begun, sa->atime);
		ret->atime = sa->atime;
	}
	return 0;
}

static int set_size(struct request *rq, struct inode *i, struct handle *h, uint64_t size)
{
	struct handle *own;
	bool done;
	int r;

	if (h)
		return handle_truncate(rq, h, size);
	r = handle_new(rq, i, O_WRONLY, &own);
	if (r < 0)
		return r;
	r = handle_truncate(rq, own, size);
	if (r == 0)
		r = handle_flush(rq, own, &done);
	handle_close(rq, own);
	return r;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct set_attr sa = decode_set_attr(st, to_set);
	struct request rq;
	struct mfs_attr attr;
	struct inode *i;
	int r;

	request_begin(&rq, req);
	r = request_inode(&rq, ino, &i);
	if (r < 0)
		return reply_err(&rq, r);
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = st->st_size < 0 ? -EINVAL : set_size(&rq, i, fi ? handle_of(fi) : NULL, (uint64_t)st->st_size);
	if (r == 0 && sa.mask)
		r = set_attributes(&rq, i, &sa, &attr);
	else if (r == 0)
		r = request_attr(&rq, i, &attr);
	inode_put(rq.fs->inodes, &i);
	if (r < 0)
		return reply_err(&rq, r);
	reply_attr(&rq, &attr);
}

/* With capacity= the volume is as big as that says, and what is left of it no more than the disk has. */
static int limit_to_capacity(struct request *rq, struct object_statfs *s)
{
	uint64_t capacity = rq->fs->cfg->capacity, files, bytes;
	int r;

	if (!capacity)
		return 0;
	r = engine_count(rq->fs->vol->engine, &rq->op, &files, &bytes);
	if (r < 0)
		return r;
	s->total = capacity;
	s->free = MFS_MIN(s->free, capacity > bytes ? capacity - bytes : 0);
	s->avail = MFS_MIN(s->avail, s->free);
	return 0;
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct request rq;
	struct object_statfs s;
	struct statvfs sv = { .f_bsize = STATFS_BLOCK, .f_frsize = STATFS_BLOCK, .f_namemax = MFS_NAME_MAX };
	int r;

	(void)ino;
	request_begin(&rq, req);
	r = object_statfs(rq.fs->vol->store, &rq.op, &s);
	if (r == 0)
		r = limit_to_capacity(&rq, &s);
	if (r < 0)
		return reply_err(&rq, r);
	sv.f_blocks = s.total / STATFS_BLOCK;
	sv.f_bfree = s.free / STATFS_BLOCK;
	sv.f_bavail = s.avail / STATFS_BLOCK;
	sv.f_files = s.files;
	sv.f_ffree = sv.f_favail = s.ffree;
	fuse_reply_statfs(req, &sv);
}
