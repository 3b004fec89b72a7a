/*
 * The notifier: a bounded queue and one thread. Waiting for room could be for ever: when the queue is full, all that the
 * kernel knows is told instead.
 */
#include "fs/fuse/notify.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/fuse/session.h"
#include "fs/names.h"

#define MAX_QUEUED 65536
#define LATER_NS   (50 * (int64_t)1000000)

struct notice {
	struct notice *next;
	int64_t due;   /* monotonic; 0: at once */
	mfs_ino_t ino; /* the parent of an entry */
	bool data;
	size_t len; /* of the name; 0: about the inode */
	char name[];
};

struct notifier {
	struct massfs *fs;
	struct mfs_mutex lock; /* guards the rest */
	pthread_cond_t wake;
	struct notice *first, **last;
	struct notice *later, **later_last; /* in the order of `due` */
	size_t n_queued;
	unsigned int all; /* how often everything is to be told yet */
	int64_t all_due;
	bool stopping, dropped;
	pthread_t thread;
};

static struct notice *pop(struct notice **first, struct notice ***last)
{
	struct notice *it = *first;

	*first = it->next;
	if (!*first)
		*last = first;
	return it;
}

/* When something of what waits for its time is due; 0: nothing waits. */
static int64_t next_due_locked(const struct notifier *n) MFS_REQUIRES(n->lock)
{
	int64_t due = n->later ? n->later->due : 0;

	if (n->all && (!due || n->all_due < due))
		due = n->all_due;
	return due;
}

/* The next one; NULL with *ret_all: everything; NULL without: the end. */
static struct notice *next_notice(struct notifier *n, bool *ret_all)
{
	MFS_GUARD(&n->lock);

	*ret_all = false;
	while (!n->stopping) {
		int64_t due = next_due_locked(n), now = mfs_mono_ns();

		if (n->all && n->all_due <= now) {
			n->all--;
			n->all_due = now + LATER_NS;
			*ret_all = true;
			return NULL;
		}
		if (n->later && n->later->due <= now) {
			n->n_queued--;
			return pop(&n->later, &n->later_last);
		}
		if (n->first) {
			n->n_queued--;
			return pop(&n->first, &n->last);
		}
		if (due) {
			struct timespec until = mfs_ns_to_timespec(due);

			pthread_cond_timedwait(&n->wake, &n->lock.m, &until);
		} else {
			pthread_cond_wait(&n->wake, &n->lock.m);
		}
	}
	return NULL;
}

static void tell_one(struct inode *i, void *arg)
{
	struct notifier *n = arg;
	bool pages;

	{
		MFS_GUARD(&i->lock);

		pages = i->n_open > 0 || attr_is_dir(&i->attr);
	}
	session_notify_inode(n->fs->session, i->ino, pages);
}

/* Done, or not there: the lock of the directory was taken, so no call holds what was looked up before. */
static void tell_entry(struct notifier *n, const struct notice *it)
{
	uint64_t mark = names_mark(n->fs->names);

	if (session_notify_entry(n->fs->session, it->ino, it->name, it->len))
		names_forgotten(n->fs->names, mark, it->ino, it->name, it->len);
}

static void *run(void *arg)
{
	struct notifier *n = arg;
	struct notice *it;
	bool all;

	while ((it = next_notice(n, &all)) || all) {
		if (all)
			inode_table_walk(n->fs->inodes, tell_one, n);
		else if (it->len)
			tell_entry(n, it);
		else
			session_notify_inode(n->fs->session, it->ino, it->data);
		free(it);
	}
	return NULL;
}

/*
 * First in line for a directory's lock: the kernel hands a lock to a waiter with a real-time priority, where others may
 * overtake one that has just been woken. A rename that was sent away (-ESTALE, fs/fuse/ops_attr.c) and comes back at once then finds
 * its old name forgotten. Without the right to it (no root) that is likely, not sure.
 */
static void hurry(pthread_t thread)
{
	(void)!pthread_setschedparam(thread, SCHED_RR, &(struct sched_param){ .sched_priority = 1 });
}

int notifier_start(struct massfs *fs, struct notifier **ret)
{
	struct notifier *n = calloc(1, sizeof(*n));
	pthread_condattr_t attr;
	int r;

	if (!n)
		return -ENOMEM;
	n->fs = fs;
	n->last = &n->first;
	n->later_last = &n->later;
	pthread_mutex_init(&n->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&n->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = -pthread_create(&n->thread, NULL, run, n);
	if (r < 0) {
		pthread_cond_destroy(&n->wake);
		pthread_mutex_destroy(&n->lock.m);
		free(n);
		return r;
	}
	pthread_setname_np(n->thread, "notify");
	hurry(n->thread);
	*ret = n;
	return 0;
}

static void free_list(struct notice *it)
{
	for (struct notice *next; it; it = next) {
		next = it->next;
		free(it);
	}
}

void notifier_stop(struct notifier *n)
{
	if (!n)
		return;
	{
		MFS_GUARD(&n->lock);

		n->stopping = true;
		pthread_cond_signal(&n->wake);
	}
	pthread_join(n->thread, NULL);
	free_list(n->first);
	free_list(n->later);
	pthread_cond_destroy(&n->wake);
	pthread_mutex_destroy(&n->lock.m);
	free(n);
}

static void all_locked(struct notifier *n) MFS_REQUIRES(n->lock)
{
	n->all = 2;
	n->all_due = mfs_mono_ns();
	pthread_cond_signal(&n->wake);
}

static void queue(struct notifier *n, mfs_ino_t ino, bool data, const char *name, size_t len, bool later)
{
	struct notice *it = n ? malloc(sizeof(*it) + len + 1) : NULL;
	bool say = false;

	if (!n)
		return;
	if (it) {
		*it = (struct notice){ .ino = ino, .data = data, .len = len };
		if (len)
			memcpy(it->name, name, len);
		it->name[len] = 0;
		it->due = later ? mfs_mono_ns() + LATER_NS : 0;
	}
	{
		MFS_GUARD(&n->lock);

		if (it && n->n_queued < MAX_QUEUED) {
			struct notice ***last = later ? &n->later_last : &n->last;

			**last = it;
			*last = &it->next;
			n->n_queued++;
			pthread_cond_signal(&n->wake);
			return;
		}
		say = !n->dropped; /* said once */
		n->dropped = true;
		all_locked(n);
	}
	free(it);
	if (say)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
			"%d notifications wait for the kernel: it is told to forget all attributes instead; names it may show for as "
			"long as entry_timeout",
			MAX_QUEUED);
}

void notify_inode(struct notifier *n, mfs_ino_t ino, bool data)
{
	queue(n, ino, data, NULL, 0, false);
}

void notify_entry(struct notifier *n, mfs_ino_t parent, const char *name, size_t len)
{
	queue(n, parent, false, name, len, false);
}

void notify_inode_later(struct notifier *n, mfs_ino_t ino)
{
	queue(n, ino, false, NULL, 0, true);
}

void notify_entry_later(struct notifier *n, mfs_ino_t parent, const char *name, size_t len)
{
	queue(n, parent, false, name, len, true);
}

void notify_all(struct notifier *n)
{
	if (!n)
		return;
	MFS_GUARD(&n->lock);

	all_locked(n);
}
