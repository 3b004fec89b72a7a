/*
 * Mutex with compiler-checked locking.
 *
 * MFS_GUARD(&x->lock) holds the lock until the end of the enclosing scope.
 * Functions named *_locked() carry MFS_REQUIRES(x->lock); a clang build
 * (-Wthread-safety) refuses a call to one without the lock. gcc sees plain
 * mutexes. The order between locks is written down in docs/locking.md.
 */
#ifndef MASSFS_COMMON_SYNC_H
#define MASSFS_COMMON_SYNC_H

#include <assert.h>
#include <pthread.h>

#include "common/defs.h"

#if defined(__clang__)
#define MFS_TSA(x) __attribute__((x))
#else
#define MFS_TSA(x)
#endif
#define MFS_REQUIRES(lock) MFS_TSA(requires_capability(lock))

struct MFS_TSA(capability("mutex")) mfs_mutex {
	pthread_mutex_t m;
};

static inline struct mfs_mutex *mfs_guard_enter(struct mfs_mutex *m)
	MFS_TSA(assert_capability(*m));

static inline struct mfs_mutex *mfs_guard_enter(struct mfs_mutex *m)
{
	int r = pthread_mutex_lock(&m->m);

	assert(r == 0);
	(void)r;
	return m;
}

static inline void mfs_guard_exit(struct mfs_mutex **mp)
{
	int r = pthread_mutex_unlock(&(*mp)->m);

	assert(r == 0);
	(void)r;
}

#define MFS_GUARD(mutex)                                                      \
	MFS_CLEANUP(mfs_guard_exit)                                           \
	__attribute__((unused)) struct mfs_mutex *MFS_CAT(guard_, __LINE__) = \
		mfs_guard_enter(mutex)

#endif
