/*
 * What concerns the mount as a whole, whoever asks for it: making everything durable.
 */
#include "fs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/atime.h"
#include "fs/leases.h"
#include "fs/reconcile.h"

struct dirty_list {
	struct inode **v; /* a ref each, and one count in n_open so that the content stays */
	size_t n, cap;
	int r;
};

static void collect_dirty(struct inode *i, void *arg)
{
	struct dirty_list *l = arg;
	MFS_GUARD(&i->lock);

	if (!i->content || !content_is_dirty(i->content))
		return;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct inode **v = realloc(l->v, cap * sizeof(struct inode *));

		if (!v) {
			l->r = -ENOMEM;
			return;
		}
		l->v = v;
		l->cap = cap;
	}
	i->n_open++;
	l->v[l->n++] = inode_ref(i);
}

/* Commit one, and give back what collect_dirty() took. */
static int commit_one(struct massfs *fs, struct op_ctx *op, struct inode **ip)
{
	struct inode *i = *ip;
	struct content *last = NULL;
	uint64_t epoch = inode_epoch(fs->inodes);
	struct mfs_attr attr;
	bool done;
	int r = content_flush(i->content, op, &attr, &done);

	if (r == 0 && done)
		inode_take(i, epoch, &attr);
	{
		MFS_GUARD(&i->lock);

		if (--i->n_open == 0)
			last = MFS_TAKE(i->content);
	}
	content_free(last);
	inode_put(fs->inodes, ip);
	return r;
}

static int commit_all(struct massfs *fs, struct op_ctx *op, void (*report)(void *arg, uint64_t done, uint64_t total),
		      void *arg)
{
	struct dirty_list l = { 0 };
	int r, r2;

	inode_table_walk(fs->inodes, collect_dirty, &l);
	r = l.r;
	for (size_t k = 0; k < l.n; k++) {
		r2 = commit_one(fs, op, &l.v[k]);
		if (r == 0)
			r = r2;
		if (report)
			report(arg, k + 1, l.n);
	}
	free(l.v);
	return r;
}

#define DRAIN_NS (20 * MFS_NSEC_PER_SEC) /* less than what init systems wait before they kill */

struct drain_progress {
	void (*report)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

static void tell_settled(void *arg, uint64_t done, uint64_t left)
{
	struct drain_progress *p = arg;

	if (p->report)
		p->report(p->arg, done, done + left);
}

int massfs_drain(struct massfs *fs, struct op_ctx *op, void (*report)(void *arg, uint64_t done, uint64_t total),
		 void *arg)
{
	struct drain_progress p = { report, arg };
	uint64_t left;
	int r, r2;

	if (fs->cfg->ro)
		return 0;
	r = commit_all(fs, op, report, arg);
	/* On a full disk neither of the two can be written, and neither is a loss: jobs are done by the next mount. */
	(void)!atimes_flush(fs->atimes, op);
	/* All jobs (a temporary name gives its final name's key up now), and small content, so that the objects of an unmounted
	 * volume are its files. What is big or takes long is as durable where it is: the next mount goes on with that. */
	r2 = 0;
	if (lease_hold(fs->vol, LEASE_RECONCILE)) /* else the mount that has it goes on */
		r2 = reconcile_run_small(fs->vol, op, mfs_mono_ns() + DRAIN_NS, &left, tell_settled, &p);
	if (r2 < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op, "views in objects/ are left to the next mount: %s", strerror(-r2));
	r2 = engine_sync(fs->vol->engine, op);
	return r ? r : r2;
}
