/*
 * Locks of files on a volume that several mounts share: fcntl and flock, as the index has them (fs/file_locks.h).
 *
 * They are a fence for data too. Before a lock is given back or weakened, what was written is committed. Before the answer to
 * one that was got goes to the kernel, the record is read again; if the content moved, what we and the kernel have of it
 * is dropped. Dropping pages waits for page locks, which reads and writes hold that we are to answer: it is done on a
 * thread that answers none (docs/locking.md, rule 4), with nothing held; whoever asked for the lock waits for the answer
 * and holds no page.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "common/log.h"
#include "fs/file_locks.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/session.h"

/* A lock that is being got; the request stays until it is, or is not. */
struct lock_request {
	struct request rq;
	struct lock_waiter waiter;
	struct inode *inode; /* a ref */
	struct handle *handle; /* the caller's system call keeps it open */
	uint64_t data;	     /* of the record, when pages are to be dropped */
};

static void finish(struct lock_request *lr, int r)
{
	struct massfs *fs = lr->rq.fs;

	inode_put(fs->inodes, &lr->inode);
	reply_err(&lr->rq, r);
	free(lr);
}

/* --- the fence --- */

/* Which content the kernel's pages are surely of: what a lock left there, and own commits since. */
static bool pages_are_of(struct inode *i, uint64_t data)
{
	MFS_GUARD(&i->lock);

	if (i->content)
		i->lock_pages = content_pages(i->content, i->lock_pages);
	return i->lock_pages == data;
}

/* What is dirty here under another range's lock goes to the index before its content is read again. */
static int commit_dirty(struct lock_request *lr)
{
	struct inode *i = lr->inode;
	struct content *c;
	bool done;

	{
		MFS_GUARD(&i->lock);

		c = i->content; /* our handle keeps it */
	}
	return c && content_is_dirty(c) ? handle_flush(&lr->rq, lr->handle, &done) : 0;
}

/* What is the content now? *ret_moved: pages of another may be in the kernel. */
static int read_again(struct lock_request *lr, bool *ret_moved)
{
	struct massfs *fs = lr->rq.fs;
	struct inode *i = lr->inode;
	struct op_ctx op = op_ctx_fresh(&lr->rq.op);
	struct node n = NODE_INIT;
	int r;

	lr->rq.epoch = inode_epoch(fs->inodes);
	r = namespace_get(fs->vol->ns, &op, i->ino, &n);
	if (r < 0)
		return r;
	lr->data = n.attr.data;
	{
		MFS_GUARD(&i->lock);

		if (i->content)
			content_news(i->content, n.attr.data, n.attr.lay);
	}
	inode_take(i, lr->rq.epoch, &n.attr);
	node_release(&n);
	*ret_moved = !pages_are_of(i, lr->data);
	return 0;
}

static void give_back(struct lock_request *lr)
{
	struct file_lock back = lr->waiter.want;
	int r;

	back.type = LOCK_TYPE_NONE;
	r = file_locks_set(lr->rq.fs->locks, &lr->rq.op, &back, lr->handle);
	if (r < 0)
		mfs_debug(MFS_LOG_FS, &lr->rq.op, "inode=%" PRIu64 " a lock is given back when it is closed: %s", lr->inode->ino,
			  strerror(-r));
}

/* A worker, or (nothing to drop) the request's own thread. */
static void drop_pages(void *arg)
{
	struct lock_request *lr = arg;
	struct inode *i = lr->inode;

	mfs_debug(MFS_LOG_FS, &lr->rq.op, "inode=%" PRIu64 " data=%" PRIu64 " pages dropped before a lock is granted", i->ino, lr->data);
	session_notify_inode(lr->rq.fs->session, i->ino, true);
	{
		MFS_GUARD(&i->lock);

		i->lock_pages = MFS_MAX(i->lock_pages, lr->data);
		i->pages = MFS_MAX(i->pages, lr->data);
	}
	finish(lr, 0);
}

/* The lock is ours. *ret_drop: only once the kernel's pages are gone may it be told. */
static int fence(struct lock_request *lr, bool *ret_drop)
{
	int r = read_again(lr, ret_drop);

	if (r == 0 && *ret_drop) {
		r = commit_dirty(lr);
		if (r == 0)
			r = read_again(lr, ret_drop);
	}
	if (r < 0)
		give_back(lr);
	return r;
}

static void granted(struct lock_request *lr)
{
	bool drop = false;
	int r = fence(lr, &drop);

	if (r == 0 && drop) {
		r = file_locks_submit(lr->rq.fs->locks, drop_pages, lr);
		if (r == 0)
			return;
		give_back(lr);
	}
	finish(lr, r);
}

static void granted_later(void *arg)
{
	struct lock_request *lr = arg;
	bool drop = false;
	int r = fence(lr, &drop);

	if (r == 0 && drop)
		drop_pages(lr);
	else
		finish(lr, r);
}

/* --- waiting --- */

static void waited(struct lock_waiter *w, int r)
{
	struct lock_request *lr = w->arg;

	if (r == 0) {
		r = file_locks_submit(lr->rq.fs->locks, granted_later, lr);
		if (r == 0)
			return;
		give_back(lr);
	}
	finish(lr, r);
}

/* Any signal ends the wait, as it does on other filesystems. */
static void interrupted(fuse_req_t req, void *arg)
{
	struct lock_request *lr = arg;

	(void)req;
	file_locks_cancel(lr->rq.fs->locks, &lr->waiter);
}

static void wait_for_it(struct lock_request *lr)
{
	/* What comes back to it frees it, perhaps before we are back here: the interrupt first. */
	lr->rq.interruptible = true;
	fuse_req_interrupt_func(lr->rq.req, interrupted, lr);
	file_locks_wait(lr->rq.fs->locks, &lr->waiter);
}

/* --- the calls --- */

/* What was written under the lock is in the index before somebody else can have it. */
static int commit_first(struct request *rq, const struct file_lock *want, struct handle *h)
{
	bool done;

	if (want->type == LOCK_TYPE_WRITE || !file_locks_has(rq->fs->locks, want))
		return 0;
	return handle_flush(rq, h, &done);
}

static void unlock(fuse_req_t req, struct file_lock *want, struct handle *h)
{
	struct request rq;
	int r;

	request_begin(&rq, req);
	r = commit_first(&rq, want, h);
	if (r == 0)
		r = file_locks_set(rq.fs->locks, &rq.op, want, h);
	reply_err(&rq, r);
}

static void lock(fuse_req_t req, struct file_lock *want, struct handle *h, bool sleep)
{
	struct lock_request *lr = calloc(1, sizeof(*lr));
	int r;

	if (!lr) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	request_begin(&lr->rq, req);
	lr->inode = inode_ref(h->inode);
	lr->handle = h;
	lr->waiter.want = *want;
	lr->waiter.via = h;
	lr->waiter.done = waited;
	lr->waiter.arg = lr;
	r = commit_first(&lr->rq, want, h);
	if (r == 0)
		r = file_locks_set(lr->rq.fs->locks, &lr->rq.op, &lr->waiter.want, h);
	if (r == 0)
		granted(lr);
	else if (r == -EAGAIN && sleep)
		wait_for_it(lr);
	else
		finish(lr, r);
}

static void set_lock(fuse_req_t req, struct file_lock *want, struct fuse_file_info *fi, bool sleep)
{
	struct handle *h = handle_of(fi);

	want->ino = h->inode->ino;
	want->owner = fi->lock_owner;
	if (want->type == LOCK_TYPE_NONE)
		unlock(req, want, h);
	else
		lock(req, want, h, sleep);
}

static uint8_t type_of(int type)
{
	return type == F_WRLCK ? LOCK_TYPE_WRITE : type == F_RDLCK ? LOCK_TYPE_READ : LOCK_TYPE_NONE;
}

static struct file_lock of_flock(const struct flock *lock)
{
	return (struct file_lock){ .kind = LOCK_POSIX,
				   .type = type_of(lock->l_type),
				   .start = (uint64_t)lock->l_start,
				   .end = lock->l_len ? (uint64_t)lock->l_start + (uint64_t)lock->l_len - 1 : LOCK_END_MAX,
				   .pid = (uint32_t)lock->l_pid };
}

void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct file_lock want = of_flock(lock);

	(void)ino;
	set_lock(req, &want, fi, sleep);
}

void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct file_lock want = { .kind = LOCK_FLOCK, .end = LOCK_END_MAX, .pid = (uint32_t)fuse_req_ctx(req)->pid };

	(void)ino;
	want.type = op & LOCK_EX ? LOCK_TYPE_WRITE : op & LOCK_SH ? LOCK_TYPE_READ : LOCK_TYPE_NONE;
	set_lock(req, &want, fi, !(op & LOCK_NB));
}

void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct file_lock want = of_flock(lock), holder = { 0 };
	struct request rq;
	int r;

	(void)ino;
	request_begin(&rq, req);
	want.ino = handle_of(fi)->inode->ino;
	want.owner = fi->lock_owner;
	r = file_locks_test(rq.fs->locks, &rq.op, &want, &holder);
	if (r < 0)
		return reply_err(&rq, r);
	lock->l_whence = SEEK_SET;
	lock->l_type = holder.type == LOCK_TYPE_WRITE ? F_WRLCK : holder.type == LOCK_TYPE_READ ? F_RDLCK : F_UNLCK;
	if (holder.type != LOCK_TYPE_NONE) {
		lock->l_start = (off_t)holder.start;
		lock->l_len = holder.end == LOCK_END_MAX ? 0 : (off_t)(holder.end - holder.start + 1);
		/* A process of another host has no number here. */
		lock->l_pid = holder.session == rq.fs->vol->session ? (pid_t)holder.pid : 0;
	}
	fuse_reply_lock(req, lock);
}

/* --- closing --- */

void locks_at_flush(struct request *rq, struct handle *h, uint64_t owner)
{
	const struct file_lock who = { .ino = h->inode->ino, .kind = LOCK_POSIX, .owner = owner };

	/* A failure is logged; the close is not to fail for it. */
	if (rq->fs->locks)
		(void)!file_locks_drop(rq->fs->locks, &rq->op, &who);
}

void locks_at_release(struct request *rq, struct handle *h)
{
	if (rq->fs->locks)
		(void)!file_locks_drop_via(rq->fs->locks, &rq->op, h);
}
