/*
 * The threads that take requests from the kernel, one at a time each, and serve them.
 *
 * Why not libfuse's loop: a thread that sleeps in read(2) takes 30 to 90 us to wake when its processor has gone idle,
 * which is more than most requests take to serve, and a program that makes one call after another waits for that each
 * time. Here a thread that has just served a request looks for the next one for a moment (LINGER_US) before it sleeps,
 * giving way to whoever wants the processor; one thread at a time, so that it costs at most that much per request.
 */
#ifndef MASSFS_FS_FUSE_LOOP_H
#define MASSFS_FS_FUSE_LOOP_H

#include "common/defs.h"

struct fuse_session;
struct loop;

/* Once, on a thread of the loop, when the kernel has been answered its first request. */
typedef void loop_answered_fn(void *arg);

/* 0 or -ENOMEM. Nothing runs yet. */
int loop_new(struct fuse_session *se, unsigned int threads, loop_answered_fn *answered, void *arg, struct loop **ret) MFS_NODISCARD;
void loop_free(struct loop *l); /* after loop_run returned. NULL: nothing */
/* Serve until the session has ended (unmounted, or loop_wake after fuse_session_exit). Once. 0 or -errno: no thread. */
int loop_run(struct loop *l) MFS_NODISCARD;
/* Have the threads look at whether the session has ended. A thread may be just before its read: repeat until the run
 * is over. Any thread. */
void loop_wake(struct loop *l);

#endif
