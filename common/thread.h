/*
 * Threads of ours. Every one begins with all signals blocked: those to the process are for the thread that waits for them
 * (fs/mount.c), or the request threads would be interrupted in place of it.
 */
#ifndef MASSFS_COMMON_THREAD_H
#define MASSFS_COMMON_THREAD_H

#include <pthread.h>
#include <signal.h>

#include "common/defs.h"

/* 0, or -errno: no thread. */
static inline int mfs_thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg) MFS_NODISCARD;
static inline int mfs_thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(ret, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

#endif
