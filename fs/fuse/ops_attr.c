/*
 * Lookup and attributes: lookup, forget, getattr, setattr, statfs.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "common/clock.h"
#include "fs/fuse/notify.h"
#include "fs/fuse/ops.h"

#define STATFS_BLOCK	 4096
/* For how long a lookup waits for the notifier. */
#define REFUSED_MS	 2
#define REFUSED_AGAIN_MS 20

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

/*
 * The kernel may hold an older name of the record (names_look()). Told are calls that only look, and for no time. What may be a
 * rename holds the lock that the notifier waits for: it gets -ESTALE, upon which the kernel lets go of the lock and walks the path
 * once more, asking for every name in it. A call that comes back and still finds the older name has kept the lock (a lookup that
 * follows a revalidation): to it nobody has the name, so that the kernel sends its RENAME, of which the index decides.
 */
static bool is_refused(struct request *rq, const struct names_asked *q, mfs_ino_t parent, const char *name, const struct mfs_attr *attr,
		       uint64_t id, enum names_say *say)
{
	struct names *names = rq->fs->names;
	bool again;

	if (request_only_looks(rq))
		return false;
	again = names_refused(names, q->who, attr->ino);
	for (int ms = again ? REFUSED_AGAIN_MS : REFUSED_MS; *say == NAMES_TWICE && ms > 0; ms--) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		*say = names_look(names, q, parent, name, strlen(name), attr->ino, id);
	}
	if (*say != NAMES_TWICE)
		return false;
	reply_err(rq, again ? -ENOENT : -ESTALE);
	return true;
}

static void reply_found(struct request *rq, struct inode *i, const struct mfs_attr *attr, mfs_ino_t parent, const char *name,
			uint64_t id)
{
	struct names_asked q = { .epoch = rq->epoch, .at = rq->at, .who = rq->op.pid };
	enum names_say say = names_look(rq->fs->names, &q, parent, name, strlen(name), attr->ino, id);

	if (say == NAMES_TWICE && is_refused(rq, &q, parent, name, attr, id, &say))
		return;
	if (say != NAMES_KEPT)
		names_once(rq->fs->names, &q, parent, name, strlen(name), attr->ino, id);
	reply_entry(rq, i, attr, say == NAMES_KEPT);
}

/* The kernel asks again for what it was told half a second ago: while news come, that is still true. */
static bool answered_from_names(struct request *rq, mfs_ino_t parent, const char *name)
{
	struct massfs *fs = rq->fs;
	struct mfs_attr attr;
	mfs_ino_t ino;
	uint64_t id;
	struct inode *i;
	bool known;

	if (!fs->names || !massfs_live(fs) || !names_get(fs->names, parent, name, strlen(name), &ino, &id))
		return false;
	if (!ino) {
		reply_no_entry(rq, names_put(fs->names, rq->epoch, parent, name, strlen(name), 0, 0));
		return true;
	}
	if (!id) /* which of several names it is must be known */
		return false;
	i = inode_find(fs->inodes, ino);
	known = i && inode_attr(i, &attr) && attr.nlink > 0;
	if (known) {
		rq->fresh = true;
		reply_found(rq, i, &attr, parent, name, id);
	}
	inode_put(fs->inodes, &i);
	return known;
}

static void lookup_dots(struct request *rq, mfs_ino_t ino, bool want_parent)
{
	struct mfs_attr attr;
	struct inode *i;
	int r = lookup_self_or_parent(rq, ino, want_parent, &attr);

	if (r < 0)
		return reply_err(rq, r);
	i = inode_get(rq->fs->inodes, attr.ino);
	if (!i)
		return reply_err(rq, -ENOMEM);
	request_take(rq, i, &attr);
	reply_entry(rq, i, &attr, true);
	inode_put(rq->fs->inodes, &i);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request rq;
	struct entry e = { 0 };
	struct mfs_attr attr;
	struct inode *i;
	mfs_ino_t dir;
	uint64_t id;
	int r;

	request_begin(&rq, req);
	dir = ino_of(rq.fs, parent);
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return lookup_dots(&rq, dir, name[1] == '.');
	if (answered_from_names(&rq, dir, name))
		return;
	r = namespace_lookup(rq.fs->vol->ns, &rq.op, dir, name, strlen(name), &e);
	attr = e.node.attr;
	id = e.id;
	entry_release(&e);
	if (r == -ENOENT)
		return reply_no_entry(&rq, names_put(rq.fs->names, rq.epoch, dir, name, strlen(name), 0, 0));
	if (r < 0)
		return reply_err(&rq, r);
	i = inode_get(rq.fs->inodes, attr.ino);
	if (!i)
		return reply_err(&rq, -ENOMEM);
	request_take(&rq, i, &attr);
	reply_found(&rq, i, &attr, dir, name, id);
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
	request_take(rq, i, ret);
	if (sa->mask & EDIT_ATIME) {
		atime_set_end(rq->fs->atimes, i, begun, sa->atime);
		ret->atime = sa->atime;
	}
	return 0;
}

static int set_size(struct request *rq, struct inode *i, struct handle *h, uint64_t size)
{
	struct handle *own;
	bool done, judged;
	int r;

	/* open(O_RDONLY | O_TRUNC) comes here too, with a handle whose close flushes nothing. */
	if (h && h->writes)
		return handle_truncate(rq, h, size);
	r = handle_new(rq, i, O_WRONLY, &own);
	if (r < 0)
		return r;
	r = handle_truncate(rq, own, size);
	/*
	 * That of a truncating open comes without its handle. It is committed with what is written then: in one change, and
	 * who cannot write (a full disk) leaves the old content.
	 */
	judged = handle_is_judged(own);
	if (r == 0 && !((size == 0 || judged) && handle_leave(own)))
		r = judged ? handle_flush_close(rq, own, true) : handle_flush(rq, own, &done);
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

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct request rq;
	struct object_statfs s;
	struct statvfs sv = { .f_bsize = STATFS_BLOCK, .f_frsize = STATFS_BLOCK, .f_namemax = MFS_NAME_MAX };
	int r;

	(void)ino;
	request_begin(&rq, req);
	r = request_statfs(&rq, &s);
	if (r < 0)
		return reply_err(&rq, r);
	sv.f_blocks = s.total / STATFS_BLOCK;
	sv.f_bfree = s.free / STATFS_BLOCK;
	sv.f_bavail = s.avail / STATFS_BLOCK;
	sv.f_files = s.files;
	sv.f_ffree = sv.f_favail = s.ffree;
	fuse_reply_statfs(req, &sv);
}
