/*
 * The thread that tries again for those who wait for a lock: fs/file_locks.h. It alone takes waiters off the list, so
 * one that it works on is not freed under it.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "fs/file_locks_internal.h"
#include "fs/sessions.h"

#define MS	    (MFS_NSEC_PER_SEC / 1000)
#define POLL_NS	    MFS_NSEC_PER_SEC
#define SILENT_NS   (200 * MS) /* between two tries while no news come */
#define LIVE_NS	    (500 * MS) /* news older than this say nothing about now */
#define LONG_NS	    (200 * MS) /* who has waited for so long stands in the index */
#define END_NS	    (2 * MFS_NSEC_PER_SEC)
#define DEADLINE_NS (30 * MFS_NSEC_PER_SEC)

void file_locks_wait(struct file_locks *fl, struct lock_waiter *w)
{
	MFS_GUARD(&fl->lock);

	w->next = NULL;
	w->since = mfs_mono_ns();
	w->woken = true; /* it may have become free since the caller looked */
	w->on_board = w->checked = false;
	w->round = 0;
	*fl->last = w;
	fl->last = &w->next;
	fl->n_waiters++;
	pthread_cond_signal(&fl->wake);
}

void file_locks_cancel(struct file_locks *fl, struct lock_waiter *w)
{
	MFS_GUARD(&fl->lock);

	atomic_store(&w->cancelled, true);
	pthread_cond_signal(&fl->wake);
}

void file_locks_cancel_all(struct file_locks *fl)
{
	if (!fl)
		return;
	MFS_GUARD(&fl->lock);

	fl->ending = true;
	pthread_cond_signal(&fl->wake);
}

void lock_wake(struct file_locks *fl, mfs_ino_t ino)
{
	MFS_GUARD(&fl->lock);

	for (struct lock_waiter *w = fl->first; w; w = w->next)
		if (!ino || w->want.ino == ino) {
			w->woken = true;
			pthread_cond_signal(&fl->wake);
		}
}

void file_locks_news(struct file_locks *fl, const struct news *n)
{
	mfs_ino_t ino;

	if (!fl || (n->kind != NEWS_CELL && n->kind != NEWS_LOST))
		return;
	ino = n->kind == NEWS_CELL ? locks_ino_of_cell(n->cell) : 0;
	if (ino || n->kind == NEWS_LOST)
		lock_wake(fl, ino);
}

/* --- the list --- */

static bool is_due(const struct file_locks *fl, struct lock_waiter *w, int64_t now)
{
	return fl->ending || fl->stopping || w->woken || atomic_load(&w->cancelled) || now >= w->next_try;
}

/* The next that is due and was not tried in this round, or NULL. Who was interrupted does not wait for others' tries, which
 * take long while the index does not answer. */
static struct lock_waiter *next_due_locked(struct file_locks *fl, unsigned int round, int64_t now) MFS_REQUIRES(fl->lock)
{
	for (struct lock_waiter *w = fl->first; w; w = w->next)
		if (atomic_load(&w->cancelled))
			return w;
	for (struct lock_waiter *w = fl->first; w; w = w->next)
		if (w->round != round && is_due(fl, w, now))
			return w;
	return NULL;
}

static void remove_locked(struct file_locks *fl, struct lock_waiter *w) MFS_REQUIRES(fl->lock)
{
	struct lock_waiter **at = &fl->first;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (fl->last == &w->next)
		fl->last = at;
	fl->n_waiters--;
	fl->board_stale |= w->on_board;
}

static int64_t wake_time_locked(const struct file_locks *fl) MFS_REQUIRES(fl->lock)
{
	int64_t at = mfs_mono_ns() + 60 * MFS_NSEC_PER_SEC;

	if (fl->board_stale)
		at = MFS_MIN(at, fl->board_at);
	for (struct lock_waiter *w = fl->first; w; w = w->next)
		at = MFS_MIN(at, w->next_try);
	return at;
}

static bool board_is_due_locked(const struct file_locks *fl) MFS_REQUIRES(fl->lock)
{
	return fl->board_stale && mfs_mono_ns() >= fl->board_at;
}

/* Until somebody is due. False: stop. */
static bool wait_for_work(struct file_locks *fl)
{
	MFS_GUARD(&fl->lock);

	fl->round++;
	while (!next_due_locked(fl, fl->round, mfs_mono_ns()) && !board_is_due_locked(fl) && !fl->stopping) {
		struct timespec ts = mfs_ns_to_timespec(wake_time_locked(fl));

		pthread_cond_clockwait(&fl->wake, &fl->lock.m, CLOCK_MONOTONIC, &ts);
	}
	return !fl->stopping || fl->first;
}

/* --- deadlocks --- */

/* Who waits for long, all of them, into the index. */
static int write_board(struct file_locks *fl, struct op_ctx *op)
{
	struct lock_table t = { 0 };
	uint64_t session = fl->v->session;
	int r;

	{
		MFS_GUARD(&fl->lock);

		fl->board_stale = false;
		t.v = fl->n_waiters ? calloc(fl->n_waiters, sizeof(*t.v)) : NULL;
		for (struct lock_waiter *w = fl->first; w && t.v; w = w->next)
			if (w->on_board && t.n < LOCK_TABLE_MAX) {
				t.v[t.n] = w->want;
				t.v[t.n++].session = session;
			}
	}
	r = locks_waiting(fl->locks, op, session, &t);
	lock_table_release(&t);
	if (r < 0) { /* who stands there and waits no more would make deadlocks of what is none */
		MFS_GUARD(&fl->lock);

		fl->board_stale = true;
		fl->board_at = mfs_mono_ns() + POLL_NS;
	}
	return r;
}

/* Stands in the index from now on; then nobody who would close the circle later misses it. 1: it closes one itself. */
static int look_for_deadlock(struct file_locks *fl, struct op_ctx *op, struct lock_waiter *w)
{
	struct file_lock want = w->want;
	int r = 0;

	want.session = fl->v->session;
	{
		MFS_GUARD(&fl->lock);

		r = !w->on_board;
		w->on_board = true;
	}
	if (r)
		r = write_board(fl, op);
	if (r == 0)
		r = locks_deadlock(fl->locks, op, &want);
	if (r < 0) {
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " no look for a deadlock: %s", w->want.ino, strerror(-r));
		return 0;
	}
	return r;
}

/* Who holds it: does that mount live? A lock that came into the index after its burial has nobody else to free it. */
static void free_if_dead(struct file_locks *fl, struct op_ctx *op, const struct file_lock *want)
{
	struct file_lock holder = { 0 }, ask = *want;
	int r;

	ask.session = fl->v->session;
	r = locks_test(fl->locks, op, &ask, &holder);
	if (r < 0 || holder.type == LOCK_TYPE_NONE || holder.session == fl->v->session || !fl->v->sessions)
		return;
	if (sessions_alive(fl->v->engine, op, holder.session) != 0)
		return;
	mfs_log(MFS_LOG_FS, MFS_LOG_INFO, op, "inode=%" PRIu64 " a lock of session %" PRIu64 ", which is closed, is taken away", want->ino,
		holder.session);
	r = locks_bury_inode(fl->v->engine, op, want->ino, holder.session);
	if (r < 0)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " not taken away: %s", want->ino, strerror(-r));
}

/* --- one try --- */

static int64_t pause_ns(struct file_locks *fl)
{
	return mfs_mono_ns() - engine_last_beat(fl->v->engine) < LIVE_NS ? POLL_NS : SILENT_NS;
}

/* -EAGAIN: it goes on waiting. */
static int try_again(struct file_locks *fl, struct lock_waiter *w)
{
	struct op_ctx op = { .deadline_ns = mfs_mono_ns() + DEADLINE_NS };
	int r;

	if (atomic_load(&w->cancelled) || fl->ending || fl->stopping)
		return -ECANCELED;
	r = file_locks_set(fl, &op, &w->want, w->via);
	if (r != -EAGAIN || mfs_mono_ns() - w->since < LONG_NS)
		return r;
	if (w->want.kind == LOCK_POSIX && look_for_deadlock(fl, &op, w))
		return -EDEADLK;
	if (w->checked)
		free_if_dead(fl, &op, &w->want);
	w->checked = true; /* who holds it for a moment is not asked after */
	return r;
}

static void work_on(struct file_locks *fl, struct lock_waiter *w)
{
	int64_t pause = pause_ns(fl);
	int r;

	{
		MFS_GUARD(&fl->lock);

		w->woken = false;
		/* The first time soon, to stand in the index. */
		w->next_try = mfs_mono_ns() + (w->on_board || w->want.kind == LOCK_FLOCK ? pause : MFS_MIN(pause, LONG_NS));
	}
	r = try_again(fl, w);
	if (r == -EAGAIN)
		return;
	{
		MFS_GUARD(&fl->lock);

		remove_locked(fl, w);
	}
	w->done(w, r);
}

/* Each that is due once, in the order in which they came. */
static void round_of_tries(struct file_locks *fl)
{
	int64_t now = mfs_mono_ns();

	for (;;) {
		struct lock_waiter *w;

		{
			MFS_GUARD(&fl->lock);

			w = next_due_locked(fl, fl->round, now);
			if (!w)
				return;
			w->round = fl->round;
		}
		work_on(fl, w);
	}
}

static void *run(void *arg)
{
	struct file_locks *fl = arg;
	bool stale;

	pthread_setname_np(pthread_self(), "locks");
	while (wait_for_work(fl)) {
		struct op_ctx op = { .deadline_ns = mfs_mono_ns() + DEADLINE_NS };

		round_of_tries(fl);
		{
			MFS_GUARD(&fl->lock);

			stale = board_is_due_locked(fl);
		}
		if (stale && write_board(fl, &op) < 0)
			mfs_debug(MFS_LOG_FS, NULL, "the list of who waits for locks is not up to date in the index");
	}
	return NULL;
}

int lock_wait_start(struct file_locks *fl)
{
	fl->last = &fl->first;
	return mfs_thread_start(&fl->thread, run, fl);
}

void lock_wait_stop(struct file_locks *fl)
{
	{
		MFS_GUARD(&fl->lock);

		fl->stopping = true;
		pthread_cond_signal(&fl->wake);
	}
	pthread_join(fl->thread, NULL);
	{
		struct op_ctx op = { .deadline_ns = mfs_mono_ns() + END_NS };

		if (write_board(fl, &op) < 0)
			mfs_debug(MFS_LOG_FS, NULL, "the list of who waits for locks stays in the index");
	}
}
