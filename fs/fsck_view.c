/*
 * The view: each key shows what the index says of its path.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "fs/fsck_internal.h"
#include "fs/index_log.h"
#include "fs/reconcile_internal.h"
#include "fs/volume_cluster.h"

#define JOBS_MAX 1000000

void fsck_release(struct fsck *f)
{
	job_list_release(&f->jobs);
	free(f->dirs);
}

static int job_order(const struct job_record *a, const struct job_record *b)
{
	int r = (a->kind > b->kind) - (a->kind < b->kind);

	if (r == 0)
		r = strcmp(a->key ? a->key : "", b->key ? b->key : "");
	return r ? r : (a->ino > b->ino) - (a->ino < b->ino);
}

static int compare_jobs(const void *a, const void *b)
{
	return job_order(a, b);
}

int fsck_read_jobs(struct fsck *f)
{
	int r = engine_jobs(f->v->engine, f->op, INT64_MAX, JOBS_MAX, &f->jobs);

	if (r < 0)
		return r;
	for (size_t i = 0; i < f->jobs.n; i++)
		/* A tree or a session to be looked at: what lies there is not known, so nothing can be said. */
		if (f->jobs.v[i].kind == JOB_DIR || f->jobs.v[i].kind == JOB_VIEW)
			f->too_many_jobs = true;
	if (f->jobs.n == JOBS_MAX)
		f->too_many_jobs = true;
	if (f->jobs.n)
		qsort(f->jobs.v, f->jobs.n, sizeof(*f->jobs.v), compare_jobs);
	return 0;
}

bool fsck_has_job(const struct fsck *f, const char *key, mfs_ino_t ino)
{
	const struct job_record a = { .kind = JOB_KEY, .key = (char *)(uintptr_t)key };
	const struct job_record b = { .kind = JOB_FILE, .ino = ino };

	if (!f->jobs.n)
		return false;
	return bsearch(&a, f->jobs.v, f->jobs.n, sizeof(a), compare_jobs) ||
	       bsearch(&b, f->jobs.v, f->jobs.n, sizeof(b), compare_jobs);
}

static bool is_temporary_holder(struct fsck *f, const char *key, const char *version)
{
	struct query q = { .key = key, .limit = 64, .attr_only = false };
	struct node_list l = NODE_LIST_INIT;
	bool found = false;

	if (engine_query(f->v->engine, f->op, &q, &l) == 0)
		for (size_t i = 0; i < l.n && !found; i++)
			found = strcmp(l.v[i].ref.version, version) == 0 &&
				fsck_has_job(f, key, l.v[i].attr.ino);
	node_list_release(&l);
	return found;
}

/* A key that shows something: is that what the index has there? (The reverse, a file whose key does not show it, is
 * checked with the file.) */
static int check_key(void *arg, const char *key, const struct object_info *info)
{
	struct fsck *f = arg;
	struct reconcile_ctx rc = { .v = f->v, .op = f->op };
	MFS_AUTOFREE char *copy = strdup(key);
	struct job_record job = { .kind = JOB_KEY, .key = copy, .due = mfs_now_ns() };
	struct change c = { 0 };
	struct node n = NODE_INIT;
	bool right = false;
	int r;

	if (!copy)
		return -ENOMEM;
	if (atomic_load(&f->op->cancelled))
		return -ECANCELED;
	if (index_log_owns(key) || !strcmp(key, VOLUME_OBJECT))
		return 0;
	f->res->keys++;
	if (f->too_many_jobs || f->opt->online)
		return 0;
	r = reconcile_file_at(&rc, key, &n);
	if (r == 1) {
		right = !n.ref.key || strcmp(n.ref.key, key) != 0 || strcmp(n.ref.version, info->version) == 0;
		node_release(&n);
		if (right)
			return 0; /* at another key, or here: told of with the file */
	}
	if (r < 0)
		return r;
	if (fsck_has_job(f, key, 0) || is_temporary_holder(f, key, info->version))
		return 0;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	if (r == 0)
		fsck_problem(
			f, info->own ? "key without a file" : "foreign file among the objects", info->ino,
			key, fsck_repair(f, &c),
			"the index has no file at this path; --repair hides the key (its bytes are kept as a version)");
	return 0;
}

int fsck_view(struct fsck *f)
{
	return object_list_keys(f->v->store, f->op, NULL, "", check_key, f);
}

int fsck_settle(struct fsck *f)
{
	uint64_t left;

	return reconcile_run_jobs(f->v, f->op, INT64_MAX, &left, NULL, NULL);
}
