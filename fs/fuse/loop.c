/* The request threads of fs/fuse/loop.h. */
#include "fs/fuse/loop.h"

#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/sync.h"

#define LINGER_US 60
#define WAKE_MS	  20

struct loop {
	struct fuse_session *se;
	unsigned int n_threads; /* wanted; constant, as the next two */
	loop_answered_fn *answered;
	void *arg;
	atomic_bool has_answered;
	atomic_bool lingering;	/* one thread looks for the next request instead of sleeping */

	struct mfs_mutex lock; /* guards the rest */
	pthread_cond_t ended;  /* predicate: n_done */
	unsigned int n_made, n_done;
	struct loop_thread {
		struct loop *loop;
		pthread_t id;
		bool done; /* about to return: is sent no signal any more */
	} thread[];
};

static void on_wake(int sig)
{
	(void)sig;
}

int loop_new(struct fuse_session *se, unsigned int threads, loop_answered_fn *answered, void *arg, struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l) + threads * sizeof(struct loop_thread));
	pthread_condattr_t attr;

	if (!l)
		return -ENOMEM;
	l->se = se;
	l->n_threads = threads;
	l->answered = answered;
	l->arg = arg;
	pthread_mutex_init(&l->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->ended, &attr);
	pthread_condattr_destroy(&attr);
	*ret = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	pthread_cond_destroy(&l->ended);
	pthread_mutex_destroy(&l->lock.m);
	free(l);
}

/* Look for the next request for a moment. The read that follows takes it, or sleeps. */
static void linger(struct loop *l)
{
	struct pollfd p = { .fd = fuse_session_fd(l->se), .events = POLLIN };
	int64_t until;

	if (atomic_exchange(&l->lingering, true))
		return;
	until = mfs_mono_ns() + LINGER_US * 1000;
	while (poll(&p, 1, 0) == 0 && mfs_mono_ns() < until)
		sched_yield();
	atomic_store(&l->lingering, false);
}

static void *serve(void *arg)
{
	struct loop_thread *t = arg;
	struct loop *l = t->loop;
	struct fuse_buf buf = { 0 };
	sigset_t usr1;
	int n = 0;

	pthread_setname_np(pthread_self(), "fuse");
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
	while (!fuse_session_exited(l->se)) {
		n = fuse_session_receive_buf(l->se, &buf);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			break;
		fuse_session_process_buf(l->se, &buf);
		if (!atomic_load(&l->has_answered) && !atomic_exchange(&l->has_answered, true))
			l->answered(l->arg);
		linger(l);
	}
	if (n < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, NULL, "reading requests from the kernel: %s", strerror(-n));
	fuse_session_exit(l->se);
	free(buf.mem);
	MFS_GUARD(&l->lock);
	t->done = true;
	l->n_done++;
	pthread_cond_broadcast(&l->ended);
	return NULL;
}

/* Threads start with all signals blocked but SIGUSR1, which only ends a sleep. */
static int start(struct loop *l)
{
	struct sigaction sa = { .sa_handler = on_wake };
	sigset_t all, old;
	int err = 0;
	MFS_GUARD(&l->lock);

	sigaction(SIGUSR1, &sa, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (l->n_made < l->n_threads && err == 0) {
		struct loop_thread *t = &l->thread[l->n_made];

		t->loop = l;
		err = pthread_create(&t->id, NULL, serve, t);
		l->n_made += err == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err && l->n_made)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL, "%u of %u request threads: %s; going on with these", l->n_made,
			l->n_threads, strerror(err));
	return l->n_made ? 0 : -err;
}

static void wake_locked(struct loop *l)
{
	for (unsigned int i = 0; i < l->n_made; i++)
		if (!l->thread[i].done)
			pthread_kill(l->thread[i].id, SIGUSR1);
}

/* Until one thread has ended, then until all have: those asleep are woken again and again. */
static void wait_for_all(struct loop *l)
{
	MFS_GUARD(&l->lock);

	while (l->n_done < l->n_made) {
		struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + WAKE_MS * INT64_C(1000000));

		if (l->n_done == 0) {
			pthread_cond_wait(&l->ended, &l->lock.m);
			continue;
		}
		wake_locked(l);
		pthread_cond_timedwait(&l->ended, &l->lock.m, &until);
	}
}

int loop_run(struct loop *l)
{
	int r = start(l);

	if (r < 0)
		return r;
	wait_for_all(l);
	for (unsigned int i = 0; i < l->n_made; i++)
		pthread_join(l->thread[i].id, NULL);
	return 0;
}

void loop_wake(struct loop *l)
{
	MFS_GUARD(&l->lock);

	wake_locked(l);
}
