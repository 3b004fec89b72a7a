/*
 * Access times, lazily. The list of inodes with an update is taken as a whole, written in batches, and each inode
 * looked at again: an update that came meanwhile stays for the next round.
 */
#include "fs/atime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/op_ctx.h"

#define PERIOD_NS (5 * MFS_NSEC_PER_SEC)
#define DAY_NS	  (24 * 3600 * MFS_NSEC_PER_SEC)
#define BATCH	  256

struct item {
	struct inode *inode; /* a ref */
	int64_t atime; /* what is being written */
	struct item *next;
};

struct atimes {
	struct namespace *ns;
	struct inode_table *inodes;
	enum mfs_atime policy;
	bool no_dirs, off;

	struct mfs_mutex lock; /* guards the rest; after inode.lock */
	pthread_cond_t wake; /* stopping, writing */
	bool stopping;
	bool writing;	    /* a thread writes back; others wait for it */
	struct item *first; /* each inode with atime_dirty, once */
	pthread_t thread;
};

static bool due_locked(const struct atimes *a, struct inode *i, int64_t now) MFS_REQUIRES(i->lock)
{
	struct mfs_attr attr = i->attr;
	int64_t atime = i->atime_dirty ? i->atime_dirty : attr.atime;

	if (a->off || i->gone || attr.ino == 0 || (a->no_dirs && attr_is_dir(&attr)))
		return false;
	if (a->policy == MFS_STRICTATIME)
		return true;
	if (i->content && i->n_open_write)
		content_overlay(i->content, &attr);
	return atime <= attr.mtime || atime <= attr.ctime || now - atime >= DAY_NS;
}

bool atime_is_due(struct atimes *a, struct inode *i)
{
	MFS_GUARD(&i->lock);

	return due_locked(a, i, mfs_now_ns());
}

/* The inode's lock is held and atime_dirty was 0. False: no memory; then the update is not made. */
static bool enlist_locked(struct atimes *a, struct inode *i) MFS_REQUIRES(i->lock)
{
	struct item *it = malloc(sizeof(*it));

	if (!it)
		return false;
	it->inode = inode_ref(i);
	MFS_GUARD(&a->lock);
	it->next = a->first;
	a->first = it;
	return true;
}

static void set_locked(struct atimes *a, struct inode *i, int64_t atime) MFS_REQUIRES(i->lock)
{
	if (i->atime_dirty || enlist_locked(a, i))
		i->atime_dirty = atime;
}

void atime_touch(struct atimes *a, struct inode *i)
{
	int64_t now = mfs_now_ns();
	MFS_GUARD(&i->lock);

	if (due_locked(a, i, now))
		set_locked(a, i, now);
}

unsigned int atime_set_begin(struct inode *i)
{
	MFS_GUARD(&i->lock);

	return i->atime_writes;
}

void atime_set_end(struct atimes *a, struct inode *i, unsigned int begun, int64_t atime)
{
	MFS_GUARD(&i->lock);

	i->attr.atime = atime;
	if (atime == 0)
		atime = 1; /* 0 says "none" */
	if (i->atime_dirty)
		i->atime_dirty = atime; /* is on the list: once more the same value does no harm */
	else if (begun % 2 || i->atime_writes != begun)
		set_locked(a, i, atime);
}

/* What came of one: true, it is on the list for the next round. */
static bool settle_one(struct inode *i, int64_t written)
{
	MFS_GUARD(&i->lock);

	i->atime_writes++;
	if (i->gone || i->atime_dirty == 0)
		return false;
	if (i->atime_dirty != written)
		return true;
	i->attr.atime = written;
	i->atime_dirty = 0;
	return false;
}

static int write_batch(struct atimes *a, struct op_ctx *op, struct item **items, size_t n)
{
	struct atime_update v[BATCH];
	size_t n_updates = 0;
	int r;

	for (size_t k = 0; k < n; k++) {
		struct inode *i = items[k]->inode;
		MFS_GUARD(&i->lock);

		items[k]->atime = i->atime_dirty;
		i->atime_writes++;
		if (i->atime_dirty)
			v[n_updates++] = (struct atime_update){ .ino = i->ino, .atime = i->atime_dirty };
	}
	r = n_updates ? namespace_set_atimes(a->ns, op, v, n_updates) : 0;
	for (size_t k = 0; k < n; k++) {
		if (settle_one(items[k]->inode, items[k]->atime)) {
			MFS_GUARD(&a->lock);

			items[k]->next = a->first;
			a->first = items[k];
			continue;
		}
		inode_put(a->inodes, &items[k]->inode);
		free(items[k]);
	}
	return r;
}

int atimes_flush(struct atimes *a, struct op_ctx *op)
{
	struct item *items[BATCH];
	struct item *list;
	int r = 0;

	if (!a)
		return 0;
	{
		MFS_GUARD(&a->lock);

		while (a->writing)
			pthread_cond_wait(&a->wake, &a->lock.m);
		a->writing = true;
		list = MFS_TAKE(a->first);
	}
	while (list) {
		size_t n = 0;
		int r2;

		for (; list && n < BATCH; list = list->next)
			items[n++] = list;
		r2 = write_batch(a, op, items, n);
		if (r2 < 0 && r == 0) {
			r = r2;
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op, "access times could not be written (%s); some are lost",
				strerror(-r));
		}
	}
	MFS_GUARD(&a->lock);
	a->writing = false;
	pthread_cond_broadcast(&a->wake);
	return r;
}

static void *run(void *arg)
{
	struct atimes *a = arg;
	struct op_ctx op = { 0 };

	pthread_mutex_lock(&a->lock.m);
	while (!a->stopping) {
		struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + PERIOD_NS);

		/* Predicate: stopping. Nothing wakes it for work, which may wait. */
		while (!a->stopping && pthread_cond_timedwait(&a->wake, &a->lock.m, &until) != ETIMEDOUT)
			;
		pthread_mutex_unlock(&a->lock.m);
		(void)!atimes_flush(a, &op);
		pthread_mutex_lock(&a->lock.m);
	}
	pthread_mutex_unlock(&a->lock.m);
	return NULL;
}

int atimes_start(struct namespace *ns, struct inode_table *t, const struct mfs_config *cfg, struct atimes **ret)
{
	struct atimes *a = calloc(1, sizeof(*a));
	pthread_condattr_t attr;
	int r;

	if (!a)
		return -ENOMEM;
	a->ns = ns;
	a->inodes = t;
	a->policy = cfg->atime;
	a->off = cfg->ro || cfg->atime == MFS_NOATIME;
	a->no_dirs = cfg->nodiratime;
	pthread_mutex_init(&a->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = -pthread_create(&a->thread, NULL, run, a);
	if (r < 0) {
		pthread_cond_destroy(&a->wake);
		pthread_mutex_destroy(&a->lock.m);
		free(a);
		return r;
	}
	pthread_setname_np(a->thread, "atime");
	*ret = a;
	return 0;
}

void atimes_stop(struct atimes *a)
{
	struct op_ctx op = { 0 };

	if (!a)
		return;
	{
		MFS_GUARD(&a->lock);

		a->stopping = true;
		pthread_cond_broadcast(&a->wake);
	}
	pthread_join(a->thread, NULL);
	while (a->first)
		(void)!atimes_flush(a, &op);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock.m);
	free(a);
}
