/*
 * Extended attributes and ACLs. What the attributes' flags can answer is answered from there: the kernel asks for
 * security.capability at each write, and for the ACL at each first look.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/str.h"
#include "fs/fuse/ops.h"

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define LABEL	    "security.selinux"

/* The flag without which this attribute cannot be there; 0: no such attribute here. */
static uint32_t flag_of(const char *name)
{
	if (!strcmp(name, "security.capability"))
		return ATTR_HAS_CAP;
	if (!strcmp(name, ACL_ACCESS))
		return ATTR_HAS_ACL;
	if (!strcmp(name, ACL_DEFAULT))
		return ATTR_HAS_DEFAULT_ACL;
	if (!strcmp(name, LABEL))
		return ATTR_HAS_LABEL;
	if (mfs_str_starts(name, "user.") || mfs_str_starts(name, "trusted.") || mfs_str_starts(name, "security."))
		return ATTR_HAS_XATTR;
	return 0;
}

/*
 * Is it an attribute that no file of the volume has? Then ENOTSUP is the answer, after which ls -l asks for no other
 * file: else one request a file, most of its time. Of ACLs the kernel itself asks too, when it checks permission of one
 * who is not the owner, and takes ENOTSUP for the result of that check: so only the owner is told, of whom it never
 * asks (acl_permission_check() in fs/namei.c).
 */
static bool is_unused(struct request *rq, const struct mfs_attr *attr, uint32_t flag)
{
	struct stat st;

	if (rq->fs->news) /* others may set the first one any time */
		return false;
	if (flag == ATTR_HAS_LABEL)
		return !atomic_load(&rq->fs->labels);
	if (flag != ATTR_HAS_ACL && flag != ATTR_HAS_DEFAULT_ACL)
		return false;
	attr_to_stat(rq->fs, attr, &st); /* the owner the kernel knows of */
	return rq->op.uid == st.st_uid && !atomic_load(&rq->fs->acls);
}

static ssize_t get(struct request *rq, struct inode *i, const char *name, char *buf, size_t size)
{
	struct mfs_attr attr;
	uint32_t flag = flag_of(name);
	int r;

	if (!flag)
		return -ENOTSUP;
	r = request_attr(rq, i, &attr);
	if (r < 0)
		return r;
	if (!(attr.flags & flag))
		return is_unused(rq, &attr, flag) ? -ENOTSUP : -ENODATA;
	return namespace_getxattr(rq->fs->vol->ns, &rq->op, i->ino, name, buf, size);
}

static ssize_t list(struct request *rq, struct inode *i, const char *name, char *buf, size_t size)
{
	struct mfs_attr attr;
	int r = request_attr(rq, i, &attr);

	(void)name;
	if (r < 0)
		return r;
	if (!(attr.flags & (ATTR_HAS_XATTR | ATTR_HAS_CAP | ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL)))
		return 0;
	return namespace_listxattr(rq->fs->vol->ns, &rq->op, i->ino, buf, size);
}

typedef ssize_t read_fn(struct request *rq, struct inode *i, const char *name, char *buf, size_t size);

/* size 0 asks how much there is. */
static void read_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size, read_fn *fn)
{
	struct request rq;
	struct inode *i;
	char *buf = NULL;
	ssize_t n;
	int r;

	request_begin(&rq, req);
	if (rq.fs->cfg->noxattr)
		return reply_never_again(&rq);
	r = request_inode(&rq, ino, &i);
	if (r < 0)
		return reply_err(&rq, r);
	if (size)
		buf = malloc(size);
	n = size && !buf ? -ENOMEM : fn(&rq, i, name, buf, size);
	inode_put(rq.fs->inodes, &i);
	if (n < 0)
		reply_err(&rq, (int)n);
	else if (size)
		reply_data(&rq, buf, (size_t)n);
	else
		reply_size(&rq, (size_t)n);
	free(buf);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	read_xattr(req, ino, name, size, get);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	read_xattr(req, ino, NULL, size, list);
}

static bool in_group(struct request *rq, gid_t gid)
{
	MFS_AUTOFREE gid_t *groups = NULL;
	bool found = false;
	int n;

	if (rq->op.gid == gid)
		return true;
	n = request_groups(rq, &groups);
	for (int k = 0; k < n && !found; k++)
		found = groups[k] == gid;
	return found;
}

/* Like chmod: who is not in the file's group cannot keep its setgid bit. */
static bool must_kill_sgid(struct request *rq, struct inode *i, const char *name)
{
	struct mfs_attr attr;

	if (strcmp(name, ACL_ACCESS) != 0 || rq->op.uid == 0 || request_attr(rq, i, &attr) < 0)
		return false;
	return (attr.mode & S_ISGID) && !in_group(rq, attr.gid);
}

static void finish_change(struct request *rq, struct inode *i, int r, struct mfs_attr *attr)
{
	if (r == 0)
		inode_take(i, rq->epoch, attr);
	inode_put(rq->fs->inodes, &i);
	reply_err(rq, r);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct request rq;
	struct mfs_attr attr;
	struct inode *i;
	int r;

	request_begin(&rq, req);
	if (rq.fs->cfg->noxattr)
		return reply_never_again(&rq);
	r = request_inode(&rq, ino, &i);
	if (r < 0)
		return reply_err(&rq, r);
	if (!strcmp(name, LABEL))
		atomic_store(&rq.fs->labels, true);
	if (flag_of(name) & (ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL))
		atomic_store(&rq.fs->acls, true);
	r = namespace_setxattr(rq.fs->vol->ns, &rq.op, i->ino, name, value, size, flags, must_kill_sgid(&rq, i, name),
			       &attr);
	finish_change(&rq, i, r, &attr);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct request rq;
	struct mfs_attr attr;
	struct inode *i;
	int r;

	request_begin(&rq, req);
	if (rq.fs->cfg->noxattr)
		return reply_never_again(&rq);
	r = request_inode(&rq, ino, &i);
	if (r < 0)
		return reply_err(&rq, r);
	if (request_attr(&rq, i, &attr) == 0 && flag_of(name) && !(attr.flags & flag_of(name)))
		r = -ENODATA; /* asked before each write that could clear security.capability */
	else
		r = namespace_removexattr(rq.fs->vol->ns, &rq.op, i->ino, name, &attr);
	finish_change(&rq, i, r, &attr);
}
