/*
 * A bounded pool of threads that run jobs from a bounded queue.
 *
 * Jobs start in the order of their submission (any number at once, so they may end in another). Threads are made
 * when a job finds none idle, up to the maximum, with all signals blocked; so a pool may be made before fork() as
 * long as nothing is submitted. All functions are thread-safe but free.
 *
 * A job may submit to another pool; submitting to its own pool can wait for ever when the queue is full.
 */
#ifndef MASSFS_COMMON_WORKERS_H
#define MASSFS_COMMON_WORKERS_H

#include <stddef.h>

#include "common/defs.h"

struct workers;
typedef void workers_fn(void *arg);

/* name (at most 15 bytes, copied) is what ps -L shows. 0 or -ENOMEM. */
int workers_new(const char *name, unsigned int max_threads, size_t max_queued, struct workers **ret) MFS_NODISCARD;

/* Waits for room in the queue. 0, or -EAGAIN when not even one thread can be made (nothing is queued then). */
int workers_submit(struct workers *w, workers_fn *fn, void *arg) MFS_NODISCARD;
/* As submit, but -EBUSY instead of waiting. */
int workers_try_submit(struct workers *w, workers_fn *fn, void *arg) MFS_NODISCARD;

/* Waits until no job is queued or running, those submitted meanwhile included. Not from a job of this pool. */
void workers_drain(struct workers *w);
/* Jobs queued and running, at this moment. */
size_t workers_pending(struct workers *w);

/* Drains, ends the threads, frees. Nobody may submit any more. NULL: nothing. */
void workers_free(struct workers *w);
MFS_DEFINE_AUTO(workers, struct workers, workers_free);

#endif
