/*
 * settle: content becomes objects, and objects follow the index, now. With --wait when it is done; without, on a mounted
 * volume, as soon as the daemon's own threads come to it.
 */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "common/clock.h"
#include "fs/fs.h"
#include "fs/leases.h"
#include "fs/reconcile.h"
#include "fs/verbs_internal.h"

#define WAIT_NS	      (500 * INT64_C(1000000))
#define IDLE_RUNS_MAX 10 /* without anything done */
#define IDLE_LOOKS_MAX 120 /* the same where another mount does it: it may be at a big file */
#define JOBS_MAX      10000

/* False: the caller went away. */
static bool wait_a_while(struct verb_call *call)
{
	struct timespec ts = mfs_ns_to_timespec(WAIT_NS);

	nanosleep(&ts, NULL);
	return !atomic_load(&call->op->cancelled);
}

static void show_progress(void *arg, uint64_t done, uint64_t left)
{
	verb_progress_show(arg, done, left ? done + left : 0);
}

static int find(struct verb_call *call, const struct verb_args *args, struct mfs_attr *ret)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX);
	struct entry e;
	int r = verb_path(call, args->operand, &path);

	if (r == 0)
		r = namespace_resolve(call->vol->ns, call->op, mfs_buf_str(&path), path.len, &e);
	if (r < 0)
		return r;
	*ret = e.node.attr;
	entry_release(&e);
	return 0;
}

static int settle_path(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf shown = MFS_BUF_INIT(VERB_PATH_MAX);
	const char *as = verb_shown(call, args->operand, &shown);
	struct verb_progress p = { .call = call, .what = "settled" };
	struct mfs_attr attr;
	int r = find(call, args, &attr);

	if (r < 0)
		return verb_fail(call, "%s: %s", as, verb_strerror(r));
	if (call->fs && !(args->flags & FLAG_WAIT)) {
		r = reconcile_hasten(call->vol, call->op, attr.ino);
		return r < 0 ? verb_fail(call, "%s: %s", as, verb_strerror(r)) : VERB_OK;
	}
	for (int i = 0;; i++) {
		r = attr_is_dir(&attr) ? reconcile_dir(call->vol, call->op, attr.ino, show_progress, &p)
				       : reconcile_file(call->vol, call->op, attr.ino);
		if (r != -EAGAIN || i == IDLE_RUNS_MAX || !wait_a_while(call))
			break;
	}
	verb_progress_end(&p);
	if (r == -EAGAIN)
		return verb_fail(
			call,
			"%s: not all of it is possible at the moment (a place is taken, it is being written, or what the log says); it stays queued",
			as);
	if (r < 0)
		return verb_fail(call, "%s: %s", as, verb_strerror(r));
	return VERB_OK;
}

/* What is queued, whatever its time, is due. */
static int hasten_jobs(struct verb_call *call)
{
	struct engine *e = call->vol->engine;
	struct job_list l = { 0 };
	int64_t now = mfs_now_ns();
	int r = engine_jobs(e, call->op, INT64_MAX, JOBS_MAX, &l);

	for (size_t i = 0; r == 0 && i < l.n;) {
		struct change c = { 0 };

		for (; i < l.n && c.n_writes < CHANGE_MAX_WRITES; i++)
			if (l.v[i].due > now) {
				l.v[i].due = now;
				change_write(&c, WRITE_JOB_PUT, 0)->job = &l.v[i];
			}
		if (c.n_writes)
			r = engine_apply(e, call->op, &c);
	}
	job_list_release(&l);
	return r;
}

/* Another mount has the lease: it finds all due, and we see how much is left. */
static int settle_there(struct verb_call *call, uint64_t *ret_left)
{
	uint64_t jobs = 0, records = 0, bytes;
	int r = reconcile_hasten(call->vol, call->op, 0);

	if (r == 0)
		r = hasten_jobs(call);
	if (r == 0)
		r = engine_jobs_count(call->vol->engine, call->op, &jobs);
	if (r == 0)
		r = engine_todo_count(call->vol->engine, call->op, &records, &bytes);
	*ret_left = jobs + records;
	return r;
}

static int settle_all(struct verb_call *call)
{
	struct verb_progress p = { .call = call, .what = "settled" };
	uint64_t left = 0, before = UINT64_MAX, most = 0;
	int r = 0, idle = 0;
	bool ours;

	do {
		ours = !call->fs || lease_hold(call->vol, LEASE_RECONCILE);
		if (ours)
			r = reconcile_run(call->vol, call->op, INT64_MAX, &left, show_progress, &p);
		else
			r = settle_there(call, &left);
		most = MFS_MAX(most, left);
		if (!ours && r == 0)
			show_progress(&p, most - left, left);
		idle = left < before ? 0 : idle + 1;
		before = left;
	} while (r == 0 && left && idle < (ours ? IDLE_RUNS_MAX : IDLE_LOOKS_MAX) && wait_a_while(call));
	verb_progress_end(&p);
	if (r < 0)
		return verb_fail(call, "%s", verb_strerror(r));
	if (left)
		return verb_fail(
			call,
			"%" PRIu64
			" files or keys could not be done yet (a foreign file among the objects in their way, or what the log says); they stay queued",
			left);
	return VERB_OK;
}

int verb_settle(struct verb_call *call, const struct verb_args *args)
{
	int r;

	if (args->operand && args->operand[0])
		return settle_path(call, args);
	if (!call->fs || (args->flags & FLAG_WAIT))
		return settle_all(call);
	r = reconcile_hasten(call->vol, call->op, 0);
	reconciler_wake(call->fs->reconciler);
	return r < 0 ? verb_fail(call, "%s", verb_strerror(r)) : VERB_OK;
}
