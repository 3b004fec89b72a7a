/*
 * The thread pool: one lock, a ring of jobs, three conditions.
 */
#include "common/workers.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

#include "common/sync.h"
#include "common/thread.h"

struct job {
	workers_fn *fn;
	void *arg;
};

struct workers {
	struct mfs_mutex lock;
	pthread_cond_t has_job; /* n_queued > 0 or stopping */
	pthread_cond_t has_room; /* n_queued < max_queued */
	pthread_cond_t is_idle; /* n_queued == 0 and n_running == 0 */
	struct job *ring;
	size_t head, n_queued, max_queued;
	unsigned int n_running, n_threads, max_threads;
	bool stopping;
	pthread_t *threads;
	char name[16];
};

static void *worker_main(void *arg)
{
	struct workers *w = arg;

	MFS_GUARD(&w->lock);
	for (;;) {
		struct job job;

		while (!w->n_queued && !w->stopping)
			pthread_cond_wait(&w->has_job, &w->lock.m);
		if (!w->n_queued)
			return NULL;
		job = w->ring[w->head];
		w->head = (w->head + 1) % w->max_queued;
		w->n_queued--;
		w->n_running++;
		pthread_cond_signal(&w->has_room);
		pthread_mutex_unlock(&w->lock.m);
		job.fn(job.arg);
		pthread_mutex_lock(&w->lock.m);
		w->n_running--;
		if (!w->n_running && !w->n_queued)
			pthread_cond_broadcast(&w->is_idle);
	}
}

/* A thread more, when every one we have is busy. Fails only when there is none at all. */
static int grow_locked(struct workers *w) MFS_REQUIRES(w->lock);
static int grow_locked(struct workers *w)
{
	if (w->n_threads == w->max_threads || w->n_running + w->n_queued < w->n_threads)
		return 0;
	if (mfs_thread_start(&w->threads[w->n_threads], worker_main, w) < 0)
		return w->n_threads ? 0 : -EAGAIN;
	pthread_setname_np(w->threads[w->n_threads], w->name);
	w->n_threads++;
	return 0;
}

static int submit(struct workers *w, workers_fn *fn, void *arg, bool wait)
{
	int r;

	MFS_GUARD(&w->lock);
	while (w->n_queued == w->max_queued) {
		if (!wait)
			return -EBUSY;
		pthread_cond_wait(&w->has_room, &w->lock.m);
	}
	assert(!w->stopping);
	r = grow_locked(w);
	if (r < 0)
		return r;
	w->ring[(w->head + w->n_queued) % w->max_queued] = (struct job){ .fn = fn, .arg = arg };
	w->n_queued++;
	pthread_cond_signal(&w->has_job);
	return 0;
}

int workers_submit(struct workers *w, workers_fn *fn, void *arg)
{
	return submit(w, fn, arg, true);
}

int workers_try_submit(struct workers *w, workers_fn *fn, void *arg)
{
	return submit(w, fn, arg, false);
}

void workers_drain(struct workers *w)
{
	MFS_GUARD(&w->lock);
	while (w->n_queued || w->n_running)
		pthread_cond_wait(&w->is_idle, &w->lock.m);
}

size_t workers_pending(struct workers *w)
{
	MFS_GUARD(&w->lock);
	return w->n_queued + w->n_running;
}

int workers_new(const char *name, unsigned int max_threads, size_t max_queued, struct workers **ret)
{
	struct workers *w = calloc(1, sizeof(*w));

	assert(max_threads && max_queued);
	if (!w)
		return -ENOMEM;
	w->ring = calloc(max_queued, sizeof(*w->ring));
	w->threads = calloc(max_threads, sizeof(*w->threads));
	if (!w->ring || !w->threads) {
		free(w->ring);
		free(w->threads);
		free(w);
		return -ENOMEM;
	}
	pthread_mutex_init(&w->lock.m, NULL);
	pthread_cond_init(&w->has_job, NULL);
	pthread_cond_init(&w->has_room, NULL);
	pthread_cond_init(&w->is_idle, NULL);
	w->max_threads = max_threads;
	w->max_queued = max_queued;
	snprintf(w->name, sizeof(w->name), "%s", name);
	*ret = w;
	return 0;
}

static void stop(struct workers *w)
{
	MFS_GUARD(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->has_job);
}

void workers_free(struct workers *w)
{
	if (!w)
		return;
	workers_drain(w);
	stop(w);
	for (unsigned int i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	pthread_cond_destroy(&w->has_job);
	pthread_cond_destroy(&w->has_room);
	pthread_cond_destroy(&w->is_idle);
	pthread_mutex_destroy(&w->lock.m);
	free(w->ring);
	free(w->threads);
	free(w);
}
