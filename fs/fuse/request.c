/*
 * A request's begin and its one reply; attributes as the kernel wants them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/fuse/ops.h"

/*
 * One mount per volume: every change goes through this kernel, so what it knows stays true. A directory's attributes
 * are the exception: an answer to stat that is still under way when a child is made would be kept for as long, and
 * the kernel has no order between the two (it has for files).
 */
#define LONG_TIMEOUT 3600.0
#define DIR_TIMEOUT  1.0
/* Several mounts: attributes are taken back by news (fs/news.c), which end with them. Names are taken back too, but a
 * lookup cannot be recalled from the kernel for sure, so they end by themselves within what is promised. */
#define SHARED_ATTR_TIMEOUT  60.0
#define SHARED_ENTRY_TIMEOUT 0.5
#define BLOCK_SIZE   4096

void request_begin(struct request *rq, fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	rq->req = req;
	rq->fs = fuse_req_userdata(req);
	rq->op = (struct op_ctx){ 0 };
	rq->op.id = atomic_fetch_add(&rq->fs->n_ops, 1) + 1;
	rq->op.uid = ctx->uid;
	rq->op.gid = ctx->gid;
	rq->op.umask = ctx->umask;
	rq->op.pid = ctx->pid;
	rq->epoch = inode_epoch(rq->fs->inodes);
	rq->at = rq->fs->names ? mfs_mono_ns() : 0;
	rq->interruptible = false;
	rq->fresh = false;
}

/* Has SIGKILL come for this thread? (proc(5): ShdPnd is the process's set, SigPnd the thread's.) */
static bool is_being_killed(pid_t tid)
{
	char path[40], line[128];
	unsigned long long set;
	bool killed = false;
	FILE *f;

	if (tid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT;
	while (!killed && fgets(line, sizeof(line), f))
		if (sscanf(line, "SigPnd: %llx", &set) == 1 || sscanf(line, "ShdPnd: %llx", &set) == 1)
			killed = set >> (9 - 1) & 1;
	fclose(f);
	return killed;
}

/* "Groups:\t4 24 27 \n" */
static int parse_groups(const char *s, gid_t **ret)
{
	size_t n = 0, cap = strlen(s) / 2 + 1; /* a digit and a blank each, at least */
	char *end;

	*ret = calloc(cap, sizeof(gid_t));
	if (!*ret)
		return -ENOMEM;
	for (; n < cap; s = end) {
		unsigned long v = strtoul(s, &end, 10);

		if (end == s)
			break;
		(*ret)[n++] = (gid_t)v;
	}
	return (int)n;
}

int request_groups(struct request *rq, gid_t **ret)
{
	MFS_AUTOFREE char *line = NULL;
	size_t size = 0;
	char path[40];
	int n = 0;
	FILE *f;

	*ret = NULL;
	if (rq->op.pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)rq->op.pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (getline(&line, &size, f) > 0)
		if (strncmp(line, "Groups:", 7) == 0) {
			n = parse_groups(line + 7, ret);
			break;
		}
	fclose(f);
	return n;
}

/* On another worker's thread, with libfuse's lock of this request held: it waits for us in request_end(). */
static void interrupted(fuse_req_t req, void *arg)
{
	struct request *rq = arg;

	(void)req;
	if (is_being_killed(rq->op.pid))
		atomic_store(&rq->op.cancelled, true);
}

void request_interruptible(struct request *rq)
{
	rq->interruptible = true;
	fuse_req_interrupt_func(rq->req, interrupted, rq);
}

void request_end(struct request *rq)
{
	if (rq->interruptible)
		fuse_req_interrupt_func(rq->req, NULL, NULL);
}

/* What a program may be told. */
static int public_errno(int r)
{
	switch (-r) {
	case ECANCELED:
		return EINTR;
	case ETIMEDOUT:
	case ECOMM:
	case EUCLEAN:
	case ENOSYS: /* the kernel would never ask again */
		return EIO;
	default:
		return -r;
	}
}

void reply_err(struct request *rq, int r)
{
	request_end(rq);
	if (r == -EIO || r == -ENOMEM)
		atomic_fetch_add(&rq->fs->n_errors, 1);
	fuse_reply_err(rq->req, public_errno(r));
}

void reply_never_again(struct request *rq)
{
	request_end(rq);
	fuse_reply_err(rq->req, ENOSYS);
}

static double attr_timeout(const struct massfs *fs, const struct mfs_attr *attr, bool fresh)
{
	if (fs->cfg->has_attr_timeout)
		return fs->cfg->attr_timeout;
	if (!fs->news)
		return attr_is_dir(attr) ? DIR_TIMEOUT : LONG_TIMEOUT;
	if (!fresh || !news_live(fs->news))
		return 0;
	return attr_is_dir(attr) ? DIR_TIMEOUT : SHARED_ATTR_TIMEOUT;
}

static double entry_timeout(const struct massfs *fs, bool known)
{
	if (fs->cfg->has_entry_timeout && (known || !fs->news))
		return fs->cfg->entry_timeout;
	return !fs->news ? LONG_TIMEOUT : known ? SHARED_ENTRY_TIMEOUT : 0;
}

/* Not there: the kernel asks again at once where nobody would tell it that the name has come. */
static double negative_timeout(const struct massfs *fs, bool known)
{
	if (fs->cfg->has_negative_timeout)
		return fs->cfg->negative_timeout;
	return !fs->news ? LONG_TIMEOUT : known && news_live(fs->news) ? SHARED_ENTRY_TIMEOUT : 0;
}

void attr_to_stat(const struct massfs *fs, const struct mfs_attr *attr, struct stat *st)
{
	const struct mfs_config *cfg = fs->cfg;

	memset(st, 0, sizeof(*st));
	st->st_ino = attr->ino;
	st->st_mode = attr->mode;
	if (cfg->has_umask)
		st->st_mode = (attr->mode & S_IFMT) | (0777 & ~cfg->umask);
	/* The kernel does not see the ACL then, and the mode's group bits are only its mask: nobody gets more by that. */
	if (cfg->noxattr && (attr->flags & ATTR_HAS_ACL))
		st->st_mode &= ~(mode_t)(S_IRWXG | S_IRWXO);
	st->st_nlink = attr->nlink;
	/* As usual: its name, its ".", and each subdirectory's "..". Engines that cannot keep it exact say 1 (as btrfs). */
	if (attr_is_dir(attr) && attr->nlink && (fs->vol->engine->ops->caps & ENGINE_SINGLE_MOUNT))
		st->st_nlink++;
	st->st_uid = cfg->has_uid ? cfg->uid : attr->uid;
	st->st_gid = cfg->has_gid ? cfg->gid : attr->gid;
	st->st_rdev = attr->rdev;
	st->st_blksize = BLOCK_SIZE;
	if (attr_is_dir(attr)) {
		st->st_size = BLOCK_SIZE;
		st->st_blocks = BLOCK_SIZE / 512;
	} else {
		st->st_size = (off_t)attr->size;
		st->st_blocks = (blkcnt_t)((attr->alloc + 511) / 512);
	}
	st->st_atim = mfs_ns_to_timespec(attr->atime);
	st->st_mtim = mfs_ns_to_timespec(attr->mtime);
	st->st_ctim = mfs_ns_to_timespec(attr->ctime);
}

void attr_to_entry(const struct massfs *fs, const struct mfs_attr *attr, bool fresh, bool known, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = nodeid_of(fs, attr->ino);
	e->generation = 1; /* a number is never used again */
	e->entry_timeout = entry_timeout(fs, known);
	e->attr_timeout = attr_timeout(fs, attr, fresh);
	attr_to_stat(fs, attr, &e->attr);
}

void reply_attr(struct request *rq, const struct mfs_attr *attr)
{
	struct stat st;

	request_end(rq);
	attr_to_stat(rq->fs, attr, &st);
	fuse_reply_attr(rq->req, &st, attr_timeout(rq->fs, attr, rq->fresh));
}

void reply_no_entry(struct request *rq, bool known)
{
	struct fuse_entry_param e = { .entry_timeout = negative_timeout(rq->fs, known) };

	if (e.entry_timeout <= 0)
		return reply_err(rq, -ENOENT);
	request_end(rq);
	fuse_reply_entry(rq->req, &e);
}

void reply_entry(struct request *rq, struct inode *i, const struct mfs_attr *attr, bool known)
{
	struct massfs *fs = rq->fs;
	mfs_ino_t ino = i->ino;
	struct fuse_entry_param e;

	request_end(rq);
	attr_to_entry(fs, attr, rq->fresh, known, &e);
	inode_looked_up(fs->inodes, i);
	if (fuse_reply_entry(rq->req, &e) < 0)
		inode_forget(fs->inodes, ino, 1);
}

void reply_data(struct request *rq, const void *buf, size_t len)
{
	request_end(rq);
	fuse_reply_buf(rq->req, buf, len);
}

void reply_written(struct request *rq, size_t len)
{
	request_end(rq);
	fuse_reply_write(rq->req, len);
}

void reply_size(struct request *rq, size_t size)
{
	request_end(rq);
	fuse_reply_xattr(rq->req, size);
}

void reply_offset(struct request *rq, off_t off)
{
	request_end(rq);
	fuse_reply_lseek(rq->req, off);
}

int request_inode(struct request *rq, fuse_ino_t nodeid, struct inode **ret)
{
	*ret = inode_get(rq->fs->inodes, ino_of(rq->fs, nodeid));
	return *ret ? 0 : -ENOMEM;
}

int request_attr(struct request *rq, struct inode *i, struct mfs_attr *ret)
{
	struct node n = NODE_INIT;
	int r;

	rq->fresh = true;
	if (inode_attr(i, ret) && (massfs_live(rq->fs) || inode_is_gone(i)))
		return 0;
	r = namespace_get(rq->fs->vol->ns, &rq->op, i->ino, &n);
	if (r < 0)
		return r;
	*ret = n.attr;
	node_release(&n);
	request_take(rq, i, ret);
	return 0;
}

void request_take(struct request *rq, struct inode *i, struct mfs_attr *attr)
{
	rq->fresh = inode_take(i, rq->epoch, attr);
}

void request_dir_changed(struct request *rq, fuse_ino_t dir)
{
	struct inode *i;

	if (rq->fs->vol->engine->ops->caps & ENGINE_NEWS)
		return; /* the namespace has told (fs/mount.c) */
	i = inode_find(rq->fs->inodes, ino_of(rq->fs, dir));
	if (i)
		inode_invalidate(rq->fs->inodes, i);
	inode_put(rq->fs->inodes, &i);
}

void request_unlinked(struct request *rq, struct mfs_attr *attr)
{
	struct inode *i = inode_find(rq->fs->inodes, attr->ino);

	if (i && attr->nlink == 0 && !(attr->flags & ATTR_IN_TRASH))
		inode_set_gone(i, attr);
	else if (i)
		inode_take(i, rq->epoch, attr);
	inode_put(rq->fs->inodes, &i);
}
