/*
 * The queue of jobs, and a run over both queues.
 *
 * A job is deleted, by its token, only after it was done; queued again meanwhile it stays. What cannot be done now is
 * put off: a view that another key blocks is tried again as soon as any other job was done, what failed waits 1 s,
 * 2 s, 4 s ... 60 s. Nothing is ever dropped from the queue because it failed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/log.h"
#include "common/workers.h"
#include "fs/reconcile_internal.h"

#define PAGE		256
#define CHUNK		64 /* jobs worked at once */
#define BLOCKED_MAX	1024
#define PASSES_MAX	64
#define FAILED_IN_A_ROW 32
#define BACKOFF_MAX_NS	(60 * MFS_NSEC_PER_SEC)

struct run {
	struct reconcile_ctx rc; /* again_at is of no use here: each job has a copy */
	struct workers *jobs; /* made when there is more than one job */
	bool all; /* whatever its due time */
	bool records; /* those too, not only jobs */
	int64_t due_before;
	struct job_list blocked; /* of this pass: not possible yet, still queued */
	struct job_list done; /* to be deleted in one change */
	uint64_t *put_off; /* identities of jobs put off in this run (with `all` they would come again) */
	size_t n_put_off, cap_put_off;
	uint64_t n_done;
	unsigned int failed_in_a_row;
	int err; /* of the last failure */
	void (*report)(void *arg, uint64_t done, uint64_t left);
	void *arg;
};

static uint64_t job_hash(const struct job_record *j)
{
	uint64_t h = j->key ? mfs_hash64(j->key, strlen(j->key)) : 0;

	return mfs_hash_u64(h ^ mfs_hash_u64(j->ino * 4 + (unsigned int)j->kind));
}

static bool is_put_off(const struct run *run, const struct job_record *j)
{
	uint64_t h = job_hash(j);

	for (size_t i = 0; i < run->n_put_off; i++)
		if (run->put_off[i] == h)
			return true;
	for (size_t i = 0; i < run->blocked.n; i++)
		if (job_hash(&run->blocked.v[i]) == h)
			return true;
	return false;
}

static int remember_put_off(struct run *run, const struct job_record *j)
{
	if (run->n_put_off == run->cap_put_off) {
		size_t cap = run->cap_put_off ? run->cap_put_off * 2 : 64;
		uint64_t *v = realloc(run->put_off, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		run->put_off = v;
		run->cap_put_off = cap;
	}
	run->put_off[run->n_put_off++] = job_hash(j);
	return 0;
}

static int delete_done(struct run *run)
{
	int r = 0;

	for (size_t i = 0; i < run->done.n && r == 0;) {
		struct change c = { 0 };

		for (; i < run->done.n && c.n_writes < CHANGE_MAX_WRITES; i++)
			change_write(&c, WRITE_JOB_DELETE, 0)->job = &run->done.v[i];
		r = engine_apply(run->rc.v->engine, run->rc.op, &c);
		if (r == 0)
			mfs_crash_point("reconcile.job_deleted");
	}
	job_list_release(&run->done);
	run->done = (struct job_list){ 0 };
	return r;
}

static int64_t backoff(uint32_t tries)
{
	return tries >= 6 ? BACKOFF_MAX_NS : MFS_MIN(MFS_NSEC_PER_SEC << tries, BACKOFF_MAX_NS);
}

static const char *kind_name(enum job_kind kind)
{
	return kind == JOB_KEY	  ? "key"
	       : kind == JOB_DIR  ? "directory"
	       : kind == JOB_VIEW ? "session"
				  : "file";
}

/* Again later: at `at`, or (0) by the backoff of a failure. The delete takes nothing that was queued meanwhile. */
static int put_off(struct run *run, const struct job_record *j, int64_t at, int err)
{
	struct job_record again = *j; /* borrows the key */
	struct change c = { 0 };

	if (at == 0) {
		at = mfs_now_ns() + backoff(j->tries);
		again.tries++;
	}
	again.due = at;
	if (err != -EAGAIN && j->tries == 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, run->rc.op,
			"reconcile %s=%s inode=%" PRIu64 " failed: %s; it stays queued and is tried again",
			kind_name(j->kind), j->key ? j->key : "", j->ino, strerror(-err));
	else if (err == -EAGAIN && again.tries == 5 && j->tries == 4)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, run->rc.op,
			"reconcile %s=%s inode=%" PRIu64
			": its place among the objects is still blocked; tried again "
			"every minute",
			kind_name(j->kind), j->key ? j->key : "", j->ino);
	change_write(&c, WRITE_JOB_DELETE, 0)->job = j;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &again;
	err = engine_apply(run->rc.v->engine, run->rc.op, &c);
	return err < 0 || !run->all ? err : remember_put_off(run, j);
}

static int keep(struct job_list *l, const struct job_record *j)
{
	struct job_record *copy = job_list_add(l);
	int r;

	if (!copy)
		return -ENOMEM;
	r = job_record_copy(j, copy);
	if (r < 0)
		l->n--;
	return r;
}

struct job_item {
	struct reconcile_ctx rc;
	const struct job_record *job;
	int r;
};

static void work_item(void *arg)
{
	struct job_item *x = arg;

	x->r = atomic_load(&x->rc.op->cancelled) ? -ECANCELED : reconcile_job(&x->rc, x->job);
}

/* What came of a job. */
static int settle_account(struct run *run, const struct job_item *x)
{
	int r = x->r;

	if (r == -ECANCELED && atomic_load(&run->rc.op->cancelled))
		return r;
	if (r == 0) {
		run->n_done++;
		run->failed_in_a_row = 0;
		return keep(&run->done, x->job);
	}
	if (r == -EAGAIN) {
		if (x->rc.again_at == 0 && run->blocked.n < BLOCKED_MAX)
			return keep(&run->blocked, x->job);
		return put_off(run, x->job, x->rc.again_at, r);
	}
	run->err = r;
	run->failed_in_a_row++;
	r = put_off(run, x->job, 0, r);
	/* The store or the index is down: what is queued waits; no use in asking for each. */
	return r < 0 ? r : run->failed_in_a_row >= FAILED_IN_A_ROW ? run->err : 0;
}

static int need_workers(struct run *run)
{
	int r = 0;

	if (!run->jobs)
		r = workers_new("reconcile", RECONCILE_THREADS, CHUNK, &run->jobs);
	if (r == 0 && !run->rc.files)
		r = workers_new("reconcile-file", RECONCILE_THREADS, CHUNK, &run->rc.files);
	return r;
}

/* Some jobs at once. What was done is deleted in few changes. */
static int chunk(struct run *run, struct job_item *v, size_t n)
{
	int r = 0, err;

	if (n == 1 && v[0].job->kind != JOB_DIR) {
		v[0].rc = run->rc;
		work_item(&v[0]);
	} else {
		r = need_workers(run);
		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++) {
			v[i].rc = run->rc;
			if (workers_submit(run->jobs, work_item, &v[i]) < 0)
				work_item(&v[i]);
		}
		workers_drain(run->jobs);
	}
	for (size_t i = 0; i < n && r == 0; i++)
		r = settle_account(run, &v[i]);
	err = delete_done(run);
	return r < 0 ? r : err;
}

/* All that is due and was not tried in this pass. *ret_n: how many were tried. */
static int page(struct run *run, size_t *ret_n)
{
	struct job_list l = { 0 };
	struct job_item items[CHUNK];
	int64_t bound = run->all ? INT64_MAX : MFS_MIN(run->due_before, mfs_now_ns());
	size_t n = 0;
	int r = engine_jobs(run->rc.v->engine, run->rc.op, bound, PAGE + run->n_put_off + run->blocked.n, &l);

	*ret_n = 0;
	/* What the jobs follow from is durable before the bucket shows it: a power loss takes no change of the index back
	 * that the bucket has followed, with no job left to say so. */
	if (r == 0 && l.n)
		r = engine_sync(run->rc.v->engine, run->rc.op);
	for (size_t i = 0; i < l.n && r == 0; i++) {
		if (!is_put_off(run, &l.v[i])) {
			items[n++] = (struct job_item){ .job = &l.v[i] };
			++*ret_n;
		}
		if (n == CHUNK || (n && i + 1 == l.n)) {
			r = chunk(run, items, n);
			n = 0;
		}
	}
	job_list_release(&l);
	return r;
}

static int count_left(struct run *run, uint64_t *ret)
{
	uint64_t records = 0, bytes;
	int r = engine_jobs_count(run->rc.v->engine, run->rc.op, ret);

	if (r == 0 && run->records)
		r = engine_todo_count(run->rc.v->engine, run->rc.op, &records, &bytes);
	*ret += records;
	return r;
}

static void tell(void *arg)
{
	struct run *run = arg;
	uint64_t left = 0;

	if (run->report && count_left(run, &left) == 0)
		run->report(run->arg, run->n_done, left);
}

static int pass(struct run *run, bool *ret_again)
{
	uint64_t before = run->n_done;
	size_t n;
	int r;

	job_list_release(&run->blocked);
	run->blocked = (struct job_list){ 0 };
	do {
		/* From the reading of jobs to their deletion: nobody else has them in hand. */
		key_gate_lease(&run->rc.v->gate);
		r = page(run, &n);
		key_gate_release(&run->rc.v->gate);
		tell(run);
	} while (r == 0 && n);
	*ret_again = run->blocked.n && run->n_done > before;
	return r;
}

static int work_jobs(struct run *run)
{
	bool again = true;
	int r = 0;

	for (int i = 0; again && r == 0 && i < PASSES_MAX; i++)
		r = pass(run, &again);
	for (size_t i = 0; i < run->blocked.n && r == 0; i++)
		r = put_off(run, &run->blocked.v[i], 0, -EAGAIN);
	job_list_release(&run->blocked);
	run->blocked = (struct job_list){ 0 };
	free(run->put_off);
	run->put_off = NULL;
	run->n_put_off = run->cap_put_off = 0;
	return r;
}

/* Content first: what a settled file leaves behind, and what waits for it to come, is jobs. */
static int work(struct run *run, uint64_t *ret_left)
{
	uint64_t before;
	int r = 0, err = 0;

	/* A job that is done is deleted: what Redis knew before another mount's rename must not say that it is. */
	run->rc.op->fresh = true;
	for (int i = 0; i < PASSES_MAX; i++) {
		before = run->n_done;
		if (run->records)
			r = reconcile_records(&run->rc, run->due_before, tell, run, &run->n_done);
		if (r == 0)
			r = work_jobs(run);
		if (r < 0 || !run->records || run->n_done == before)
			break;
	}
	if (ret_left)
		err = count_left(run, ret_left);
	workers_free(run->jobs);
	workers_free(run->rc.files);
	return r < 0 ? r : err;
}

int reconcile_run(struct volume *v, struct op_ctx *op, int64_t due_before, uint64_t *ret_left,
		  void (*report)(void *arg, uint64_t done, uint64_t left), void *arg)
{
	struct run run = {
		.rc = { .v = v, .op = op, .force = due_before == INT64_MAX },
		.all = due_before == INT64_MAX,
		.records = true,
		.due_before = due_before,
		.report = report,
		.arg = arg,
	};

	return work(&run, ret_left);
}

int reconcile_run_jobs(struct volume *v, struct op_ctx *op, int64_t due_before, uint64_t *ret_left,
		       void (*report)(void *arg, uint64_t done, uint64_t left), void *arg)
{
	struct run run = {
		.rc = { .v = v, .op = op, .force = due_before == INT64_MAX },
		.all = due_before == INT64_MAX,
		.due_before = due_before,
		.report = report,
		.arg = arg,
	};

	return work(&run, ret_left);
}

int reconcile_run_small(struct volume *v, struct op_ctx *op, int64_t until_ns, uint64_t *ret_left,
			void (*report)(void *arg, uint64_t done, uint64_t left), void *arg)
{
	struct run run = {
		.rc = { .v = v, .op = op, .force = true, .max_size = OBJECT_PART_MIN, .until_ns = until_ns },
		.all = true,
		.records = true,
		.due_before = INT64_MAX,
		.report = report,
		.arg = arg,
	};

	return work(&run, ret_left);
}

int reconcile_queue_key(struct volume *v, struct op_ctx *op, const char *key)
{
	MFS_AUTOFREE char *copy = strdup(key);
	struct job_record job = { .kind = JOB_KEY, .key = copy, .due = mfs_now_ns() };
	struct change c = { 0 };
	int r;

	if (!copy)
		return -ENOMEM;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	r = engine_apply(v->engine, op, &c);
	if (r == 0 && v->hooks.jobs_queued)
		v->hooks.jobs_queued(v->hooks.arg);
	return r;
}
