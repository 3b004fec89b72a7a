/*
 * Names: mknod, mkdir, symlink, readlink, link, unlink, rmdir, rename. What they mean is in meta/namespace.c; here is
 * who has to hear of it.
 */
#include <stdio.h> /* RENAME_* */
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/notify.h"
#include "fs/fuse/ops.h"

static void make(struct request *rq, fuse_ino_t parent, const struct make *m)
{
	struct node n = NODE_INIT;
	struct mfs_attr attr;
	struct inode *i;
	int r = namespace_make(rq->fs->vol->ns, &rq->op, m, &n);

	if (r < 0)
		return reply_err(rq, r);
	attr = n.attr;
	node_release(&n);
	request_dir_changed(rq, parent);
	i = inode_get(rq->fs->inodes, attr.ino);
	if (!i)
		return reply_err(rq, -ENOMEM);
	request_take(rq, i, &attr);
	reply_entry(rq, i, &attr,
		    names_made(rq->fs->names, rq->epoch, m->parent, m->name, m->name_len, attr.ino, attr.ino));
	inode_put(rq->fs->inodes, &i);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct request rq;

	request_begin(&rq, req);
	make(&rq, parent,
	     &(struct make){ .parent = ino_of(rq.fs, parent),
			     .name = name,
			     .name_len = strlen(name),
			     .mode = mode,
			     .rdev = rdev });
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct request rq;

	request_begin(&rq, req);
	make(&rq, parent,
	     &(struct make){ .parent = ino_of(rq.fs, parent),
			     .name = name,
			     .name_len = strlen(name),
			     .mode = S_IFDIR | (mode & 07777) });
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct request rq;

	request_begin(&rq, req);
	make(&rq, parent,
	     &(struct make){ .parent = ino_of(rq.fs, parent),
			     .name = name,
			     .name_len = strlen(name),
			     .mode = S_IFLNK | 0777,
			     .symlink = target });
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct request rq;
	struct node n = NODE_INIT;
	struct inode *i = NULL;
	struct mfs_attr attr;
	int r;

	request_begin(&rq, req);
	r = namespace_get(rq.fs->vol->ns, &rq.op, ino_of(rq.fs, ino), &n);
	if (r == 0 && !n.symlink)
		r = -EINVAL;
	if (r == 0)
		r = request_inode(&rq, ino, &i);
	if (r < 0) {
		node_release(&n);
		return reply_err(&rq, r);
	}
	attr = n.attr;
	inode_take(i, rq.epoch, &attr);
	atime_touch(rq.fs->atimes, i);
	inode_put(rq.fs->inodes, &i);
	fuse_reply_readlink(req, n.symlink);
	node_release(&n);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct request rq;
	struct mfs_attr attr;
	struct inode *i;
	int r;

	request_begin(&rq, req);
	r = namespace_link(rq.fs->vol->ns, &rq.op, ino_of(rq.fs, ino), ino_of(rq.fs, parent), name, strlen(name),
			   &attr);
	if (r < 0)
		return reply_err(&rq, r);
	request_dir_changed(&rq, parent);
	i = inode_get(rq.fs->inodes, attr.ino);
	if (!i)
		return reply_err(&rq, -ENOMEM);
	request_take(&rq, i, &attr);
	reply_entry(&rq, i, &attr,
		    names_made(rq.fs->names, rq.epoch, ino_of(rq.fs, parent), name, strlen(name), attr.ino, NAMES_SOME_ALIAS));
	inode_put(rq.fs->inodes, &i);
}

/* The change failed. With these errors surely nothing was changed, and that the name is there is true. */
static void name_failed(struct request *rq, fuse_ino_t parent, const char *name, int r)
{
	if (r != -ENOTEMPTY && r != -EEXIST)
		names_unsure(rq->fs->names, ino_of(rq->fs, parent), name, strlen(name));
}

typedef int remove_fn(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const char *name, size_t len,
		      struct mfs_attr *ret);

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, remove_fn *fn)
{
	struct request rq;
	struct mfs_attr attr;
	int r;

	request_begin(&rq, req);
	r = fn(rq.fs->vol->ns, &rq.op, ino_of(rq.fs, parent), name, strlen(name), &attr);
	if (r == 0) {
		names_drop(rq.fs->names, ino_of(rq.fs, parent), name, strlen(name));
		request_unlinked(&rq, &attr);
		request_dir_changed(&rq, parent);
	} else {
		name_failed(&rq, parent, name, r);
	}
	reply_err(&rq, r);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, namespace_unlink);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, namespace_rmdir);
}

/* The inode that the kernel has by the name, as far as we know. */
static mfs_ino_t kernel_has(struct request *rq, fuse_ino_t parent, const char *name)
{
	mfs_ino_t ino;
	uint64_t id;

	return names_get(rq->fs->names, ino_of(rq->fs, parent), name, strlen(name), &ino, &id) ? ino : 0;
}

/* The kernel gives its entry (of `had`) the new name by itself, and believes it for the rest of its time. */
static void kernel_moves(struct request *rq, fuse_ino_t to, const char *name, const struct mfs_attr *attr, mfs_ino_t had)
{
	mfs_ino_t parent = ino_of(rq->fs, to);

	if (!names_made(rq->fs->names, rq->epoch, parent, name, strlen(name), attr->ino, record_of(attr)))
		notify_entry_later(rq->fs->notifier, parent, name, strlen(name));
	if (rq->fs->names && had != attr->ino) { /* another one was put there, or it is not known: then the kernel must ask */
		names_drop(rq->fs->names, parent, name, strlen(name));
		notify_entry(rq->fs->notifier, parent, name, strlen(name));
	}
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name,
	       unsigned int flags)
{
	struct rename_result res = { 0 };
	mfs_ino_t had, to_had;
	struct request rq;
	struct inode *i;
	int r;

	request_begin(&rq, req);
	had = kernel_has(&rq, parent, name);
	to_had = kernel_has(&rq, to, to_name);
	r = namespace_rename(rq.fs->vol->ns, &rq.op, ino_of(rq.fs, parent), name, strlen(name), ino_of(rq.fs, to),
			     to_name, strlen(to_name), flags, &res);
	if (r < 0) {
		name_failed(&rq, parent, name, r);
		name_failed(&rq, to, to_name, r);
		return reply_err(&rq, r);
	}
	if (!(flags & RENAME_EXCHANGE))
		names_drop(rq.fs->names, ino_of(rq.fs, parent), name, strlen(name));
	kernel_moves(&rq, to, to_name, &res.moved, had);
	if ((flags & RENAME_EXCHANGE) && res.replaced.ino)
		kernel_moves(&rq, parent, name, &res.replaced, to_had);
	request_dir_changed(&rq, parent);
	request_dir_changed(&rq, to);
	i = inode_find(rq.fs->inodes, res.moved.ino);
	if (i)
		inode_take(i, rq.epoch, &res.moved);
	inode_put(rq.fs->inodes, &i);
	if (res.replaced.ino)
		request_unlinked(&rq, &res.replaced);
	reply_err(&rq, 0);
}
