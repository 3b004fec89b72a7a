/*
 * The reconciler's two threads: one works jobs as soon as they are queued, so that a file being composed for minutes
 * holds no rename up; the other looks for content whose time has come.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "fs/leases.h"
#include "fs/reconcile_internal.h"

#define IDLE_MAX_NS (60 * MFS_NSEC_PER_SEC) /* of the thread for jobs, which is woken */
#define LOOK_NS	    MFS_NSEC_PER_SEC	    /* of the other one, which is woken only for what is due at once */
#define FAILED_NS   (5 * MFS_NSEC_PER_SEC)
#define NICE	    10

struct side {
	struct reconciler *r;
	pthread_t thread;
	bool records; /* else jobs */
	bool woken;   /* guarded by the reconciler's lock */
};

struct reconciler {
	struct volume *v;
	struct side sides[2];
	struct op_ctx op; /* cancelled: the threads end */
	struct mfs_mutex lock;
	pthread_cond_t wake; /* `lock`; predicate: a side's woken || stopping */
	bool stopping; /* guarded by lock */
};

/* When the earliest job is due (wall time), at most a minute from now. */
static int64_t next_job(struct reconciler *r)
{
	/* Of what other mounts queue nobody wakes us. */
	int64_t now = mfs_now_ns(), at = now + (r->v->sessions ? LOOK_NS : IDLE_MAX_NS);
	struct job_list l = { 0 };

	if (!lease_hold(r->v, LEASE_RECONCILE))
		return now + IDLE_MAX_NS;
	if (engine_jobs(r->v->engine, &r->op, INT64_MAX, 1, &l) == 0 && l.n && l.v[0].due < at)
		at = MFS_MAX(l.v[0].due, now);
	job_list_release(&l);
	return at;
}

/* False: stop. */
static bool wait_until(struct side *s, int64_t wall)
{
	/* Waiting goes by the monotonic clock: a jump of the wall clock costs at most one idle period. */
	struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + MFS_MAX(wall - mfs_now_ns(), INT64_C(0)));
	struct reconciler *r = s->r;

	MFS_GUARD(&r->lock);
	while (!r->stopping && !s->woken)
		if (pthread_cond_clockwait(&r->wake, &r->lock.m, CLOCK_MONOTONIC, &ts) == ETIMEDOUT)
			break;
	s->woken = false;
	return !r->stopping;
}

static int run_side(struct side *s)
{
	struct reconciler *r = s->r;
	struct reconcile_ctx rc = { .v = r->v, .op = &r->op };
	uint64_t done = 0;

	if (!lease_hold(r->v, LEASE_RECONCILE)) /* another mount does it; taking the lease over wakes us */
		return 0;
	if (!s->records)
		return reconcile_run_jobs(r->v, &r->op, INT64_MAX - 1, NULL, NULL, NULL);
	return reconcile_records(&rc, INT64_MAX - 1, NULL, NULL, &done);
}

static void *side_main(void *arg)
{
	struct side *s = arg;
	struct reconciler *r = s->r;
	int64_t at;

	/* Foreground work comes first. Fails without the right to: then not. */
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	pthread_setname_np(pthread_self(), s->records ? "settler" : "reconciler");
	for (;;) {
		int err = run_side(s);

		if (err < 0 && err != -ECANCELED) {
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL, "reconciler: %s; goes on in 5 s",
				strerror(-err));
			at = mfs_now_ns() + FAILED_NS;
			/* Being woken does not shorten this. */
			while (wait_until(s, at) && mfs_now_ns() < at)
				;
		} else {
			at = s->records ? mfs_now_ns() + LOOK_NS : next_job(r);
		}
		if (s->records)
			mime_relax(&r->v->mime);
		if (!wait_until(s, at))
			return NULL;
	}
}

static int start_side(struct reconciler *r, struct side *s, bool records)
{
	s->r = r;
	s->records = records;
	return mfs_thread_start(&s->thread, side_main, s);
}

/* Ends the first n threads. */
static void stop_sides(struct reconciler *r, size_t n)
{
	{
		MFS_GUARD(&r->lock);

		r->stopping = true;
		atomic_store(&r->op.cancelled, true);
		pthread_cond_broadcast(&r->wake);
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(r->sides[i].thread, NULL);
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock.m);
	free(r);
}

int reconciler_start(struct volume *v, struct reconciler **ret)
{
	struct reconciler *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->v = v;
	pthread_mutex_init(&r->lock.m, NULL);
	pthread_cond_init(&r->wake, NULL);
	for (size_t i = 0; i < MFS_ARRAY_LEN(r->sides); i++) {
		int err = start_side(r, &r->sides[i], i == 1);

		if (err < 0) {
			stop_sides(r, i);
			return err;
		}
	}
	*ret = r;
	return 0;
}

void reconciler_wake(struct reconciler *r)
{
	if (!r)
		return;
	MFS_GUARD(&r->lock);
	for (size_t i = 0; i < MFS_ARRAY_LEN(r->sides); i++)
		r->sides[i].woken = true;
	pthread_cond_broadcast(&r->wake);
}

void reconciler_stop(struct reconciler *r)
{
	if (r)
		stop_sides(r, MFS_ARRAY_LEN(r->sides));
}
