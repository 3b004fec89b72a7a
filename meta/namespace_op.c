/*
 * A change under construction: it owns the jobs that the change borrows, and wakes the reconciler when it is applied.
 */
#include <assert.h>

#include "meta/namespace_internal.h"

void ns_op_init(struct ns_op *x, struct namespace *ns, struct op_ctx *op)
{
	*x = (struct ns_op){ .ns = ns, .op = op, .now = mfs_now_ns() };
}

void ns_op_release(struct ns_op *x)
{
	for (unsigned int i = 0; i < x->n_jobs; i++)
		job_record_release(&x->jobs[i]);
	for (unsigned int i = 0; i < x->n_demands; i++)
		cell_record_release(&x->demands[i]);
	x->n_jobs = x->n_demands = 0;
}

/* The directories as the change left them, where it can be told without another round trip. */
static void tell_touched(const struct ns_op *x, uint64_t epoch, const struct mfs_attr *touched)
{
	const struct namespace_hooks *h = &x->ns->opt.hooks;

	for (unsigned int i = 0; i < x->c.n_touches; i++)
		h->touched(h->arg, epoch, x->c.touches[i].dir, touched[i].ver && touched[i].nlink ? &touched[i] : NULL);
}

int ns_op_apply(struct ns_op *x)
{
	const struct namespace_hooks *h = &x->ns->opt.hooks;
	bool tell = h->touched && x->c.n_touches && (x->ns->e->ops->caps & ENGINE_NEWS);
	struct mfs_attr touched[CHANGE_MAX_TOUCHES] = { 0 };
	uint64_t epoch = tell ? h->epoch(h->arg) : 0;
	int r;

	for (unsigned int i = 0; tell && i < x->c.n_touches; i++)
		x->c.touches[i].ret_attr = &touched[i];
	r = engine_apply(x->ns->e, x->op, &x->c);
	if (tell && r == 0)
		tell_touched(x, epoch, touched);
	if (r == 0 && (x->n_jobs || x->work_now) && h->jobs_queued)
		h->jobs_queued(h->arg);
	return r;
}

static bool same_job(const struct job_record *a, enum job_kind kind, const char *key, mfs_ino_t ino)
{
	return a->kind == kind && a->ino == ino && (key ? a->key && strcmp(a->key, key) == 0 : !a->key);
}

static int job(struct ns_op *x, enum job_kind kind, const char *key, mfs_ino_t ino, int64_t due)
{
	struct job_record *j;

	for (unsigned int i = 0; i < x->n_jobs; i++) {
		j = &x->jobs[i];
		if (same_job(j, kind, key, ino)) {
			j->due = MFS_MIN(j->due, due);
			return 0;
		}
	}
	assert(x->n_jobs < NS_JOBS_MAX);
	j = &x->jobs[x->n_jobs];
	*j = (struct job_record){ .kind = kind, .ino = ino, .due = due };
	if (key) {
		j->key = strdup(key);
		if (!j->key)
			return -ENOMEM;
	}
	x->n_jobs++;
	change_write(&x->c, WRITE_JOB_PUT, 0)->job = j;
	return 0;
}

int ns_job_key(struct ns_op *x, const char *key)
{
	return job(x, JOB_KEY, key, 0, x->now);
}

int ns_job_key_due(struct ns_op *x, const char *key, int64_t due)
{
	return job(x, JOB_KEY, key, 0, due);
}

int ns_job_file(struct ns_op *x, mfs_ino_t ino, int64_t due)
{
	return job(x, JOB_FILE, NULL, ino, due);
}

int ns_job_dir(struct ns_op *x, mfs_ino_t ino)
{
	return job(x, JOB_DIR, NULL, ino, x->now);
}

/* A key of our own (.massfs/o/) stands for no path, so a job of that key would say nothing: the file itself does. */
int ns_job_place(struct ns_op *x, const char *key, mfs_ino_t ino)
{
	if (strncmp(key, NS_RESERVED_NAME "/", sizeof(NS_RESERVED_NAME)) == 0)
		return ns_job_file(x, ino, x->now);
	return ns_job_key(x, key);
}

int ns_recheck_later(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino)
{
	NS_AUTOOP struct ns_op x;
	int r;

	ns_op_init(&x, ns, op);
	r = ns_job_file(&x, ino, x.now);
	return r < 0 ? r : ns_op_apply(&x);
}
