/*
 * The store as the index names it: each object is there, and each key shows what the index says of its path.
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

#define JOBS_MAX 1000000

void fsck_release(struct fsck *f)
{
	job_list_release(&f->jobs);
	free(f->dirs);
}

int fsck_object(struct fsck *f, mfs_ino_t ino, const char *where, const struct object_ref *ref,
		uint64_t obj_len, const char *whose)
{
	struct object_info info;
	int r;

	if (object_ref_is_empty(ref))
		return 0;
	r = object_head(f->v->store, f->op, ref->bucket, ref->key, ref->version, &info);
	if (f->opt->online && (r == -ENOENT || (r == 0 && info.size < obj_len))) {
		/* Replaced and collected while we looked? Only what the index still names is missing. */
		struct node n = NODE_INIT;
		bool named = engine_get(f->v->engine, f->op, ino, &n) == 0 && !object_ref_is_empty(&n.ref) &&
			     strcmp(n.ref.version, ref->version) == 0;

		node_release(&n);
		if (!named)
			return 0;
	}
	if (r == -ENOENT) {
		fsck_problem(
			f, "missing object", ino, where, false,
			"version %s of key %s, content of %s, is not in the store; restore an earlier version, or remove it",
			ref->version, ref->key, whose);
		return 0;
	}
	if (r == -EUCLEAN || r == -EIO || (r == 0 && info.size < obj_len)) {
		fsck_problem(f, "damaged object", ino, where, false,
			     "version %s of key %s, content of %s, has %" PRIu64 " bytes of %" PRIu64
			     "; restore an earlier version, or remove it",
			     ref->version, ref->key, whose, r == 0 ? info.size : 0, obj_len);
		return 0;
	}
	if (r == 0 && info.own && info.ino != ino)
		fsck_problem(f, "object of another file", ino, where, false,
			     "version %s was made for inode %" PRIu64 "; copy the file and remove this one",
			     ref->version, info.ino);
	return r;
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
	if (index_log_owns(key))
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
