/*
 * The notifier: a bounded queue and one thread. When the queue is full the notification is dropped with a log line:
 * waiting could be for ever.
 */
#include "fs/fuse/notify.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "fs/fuse/session.h"

#define MAX_QUEUED 65536

struct notice {
	struct notice *next;
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
	size_t n_queued;
	bool stopping, dropped;
	pthread_t thread;
};

static struct notice *next_notice(struct notifier *n)
{
	MFS_GUARD(&n->lock);
	struct notice *it;

	while (!n->first && !n->stopping)
		pthread_cond_wait(&n->wake, &n->lock.m);
	it = n->stopping ? NULL : n->first;
	if (it) {
		n->first = it->next;
		if (!n->first)
			n->last = &n->first;
		n->n_queued--;
	}
	return it;
}

static void *run(void *arg)
{
	struct notifier *n = arg;
	struct notice *it;

	while ((it = next_notice(n))) {
		if (it->len)
			session_notify_entry(n->fs->session, it->ino, it->name, it->len);
		else
			session_notify_inode(n->fs->session, it->ino, it->data);
		free(it);
	}
	return NULL;
}

int notifier_start(struct massfs *fs, struct notifier **ret)
{
	struct notifier *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->fs = fs;
	n->last = &n->first;
	pthread_mutex_init(&n->lock.m, NULL);
	pthread_cond_init(&n->wake, NULL);
	r = -pthread_create(&n->thread, NULL, run, n);
	if (r < 0) {
		pthread_cond_destroy(&n->wake);
		pthread_mutex_destroy(&n->lock.m);
		free(n);
		return r;
	}
	pthread_setname_np(n->thread, "notify");
	*ret = n;
	return 0;
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
	for (struct notice *it = n->first, *next; it; it = next) {
		next = it->next;
		free(it);
	}
	pthread_cond_destroy(&n->wake);
	pthread_mutex_destroy(&n->lock.m);
	free(n);
}

static void queue(struct notifier *n, mfs_ino_t ino, bool data, const char *name, size_t len)
{
	struct notice *it = n ? malloc(sizeof(*it) + len + 1) : NULL;
	bool full;

	if (!it)
		return;
	*it = (struct notice){ .ino = ino, .data = data, .len = len };
	if (len)
		memcpy(it->name, name, len);
	it->name[len] = 0;
	{
		MFS_GUARD(&n->lock);

		full = n->n_queued >= MAX_QUEUED;
		if (!full) {
			*n->last = it;
			n->last = &it->next;
			n->n_queued++;
			pthread_cond_signal(&n->wake);
			return;
		}
		full = !n->dropped; /* said once */
		n->dropped = true;
	}
	free(it);
	if (full)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
			"%d notifications wait for the kernel, further ones are dropped: it may show old names or "
			"attributes until its caches are emptied",
			MAX_QUEUED);
}

void notify_inode(struct notifier *n, mfs_ino_t ino, bool data)
{
	queue(n, ino, data, NULL, 0);
}

void notify_entry(struct notifier *n, mfs_ino_t parent, const char *name, size_t len)
{
	queue(n, parent, false, name, len);
}
