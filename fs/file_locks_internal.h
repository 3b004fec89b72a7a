/* What file_locks.c (who has what) and lock_wait.c (who waits) share. */
#ifndef MASSFS_FS_FILE_LOCKS_INTERNAL_H
#define MASSFS_FS_FILE_LOCKS_INTERNAL_H

#include "common/sync.h"
#include "common/workers.h"
#include "fs/file_locks.h"
#include "meta/locks.h"

#define LOCK_BUCKETS 256

/* An owner that has, or may have, locks of a file. */
struct held {
	struct held *next;
	mfs_ino_t ino;
	uint64_t owner, session;
	const void *via;
	uint32_t busy, seq; /* calls about it that are under way; how often something was locked */
	uint8_t kind;
	bool lost;
};

struct file_locks {
	struct volume *v;
	struct locks *locks;
	struct workers *workers;
	pthread_t thread;
	atomic_bool stopping, ending; /* ending: who waits is cancelled */
	unsigned int round;	      /* of tries; the thread's */

	struct mfs_mutex lock; /* guards the rest; nothing is called with it held but malloc and free */
	pthread_cond_t wake;   /* `lock`; predicate: stopping, or a waiter is due */
	struct held *held[LOCK_BUCKETS];
	size_t n_held;
	struct lock_waiter *first, **last; /* who waits, in order */
	size_t n_waiters;
	bool board_stale; /* who waits for long is not who stands in the index */
	int64_t board_at; /* not written again before: it could not be */
};

int lock_wait_start(struct file_locks *fl) MFS_NODISCARD;
void lock_wait_stop(struct file_locks *fl);
/* Who waits for this file (0: for any) tries again. */
void lock_wake(struct file_locks *fl, mfs_ino_t ino);

#endif
