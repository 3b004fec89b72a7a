/*
 * Garbage that the index does not know of: every version in the store against the records.
 *
 * A version no record names is garbage only when the session that made it is closed, so that no commit of it can be
 * in flight; one that is in `dropped` goes by that rule. A batch at a time is looked at, so that an inode's versions
 * are read once for many objects.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/log.h"
#include "fs/gc_internal.h"

#define BATCH	 512
#define PAGE	 1000
#define JOBS_MAX 100000

struct piece {
	struct object_info info;
	char *key; /* NULL: the store does not know it */
	bool is_suspect; /* nothing names it */
};

struct walk {
	struct volume *v;
	struct op_ctx *op;
	const struct gc_options *opt;
	struct gc_result *res;
	struct session_list sessions;
	struct job_list jobs; /* JOB_VIEW of sessions whose leftovers may still be shown at a key */
	struct piece batch[BATCH];
	size_t n_batch;
	mfs_ino_t names_ino; /* 0: nothing read */
	char current[OBJECT_VERSION_MAX + 1]; /* of names_ino's record */
	struct version_list names; /* and its versions */
	/* Hashes of the versions in `dropped`: a collision keeps one piece of garbage, no more. */
	uint64_t *dropped;
	size_t n_dropped, cap_dropped;
	uint64_t dropped_after;
};

static bool is_live(const struct walk *w, uint64_t session)
{
	if (session == w->v->session)
		return true;
	for (size_t i = 0; i < w->jobs.n; i++)
		if (w->jobs.v[i].kind == JOB_VIEW && w->jobs.v[i].ino == session)
			return true;
	for (size_t i = 0; i < w->sessions.n; i++)
		if (w->sessions.v[i].id == session)
			return !w->sessions.v[i].closed;
	return false; /* not known any more: closed long ago */
}

static uint64_t version_hash(const char *version)
{
	return mfs_hash64(version, strlen(version));
}

static int add_dropped(struct walk *w, const char *version)
{
	if (w->n_dropped == w->cap_dropped) {
		size_t cap = w->cap_dropped ? w->cap_dropped * 2 : 1024;
		uint64_t *v = realloc(w->dropped, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		w->dropped = v;
		w->cap_dropped = cap;
	}
	w->dropped[w->n_dropped++] = version_hash(version);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* What was dropped since the last time. */
static int read_dropped(struct walk *w)
{
	size_t n;
	int r;

	do {
		struct dropped_list l = { 0 };

		r = engine_dropped(w->v->engine, w->op, INT64_MAX, w->dropped_after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			w->dropped_after = l.v[i].id;
			r = add_dropped(w, l.v[i].ref.version);
		}
		dropped_list_release(&l);
	} while (r == 0 && n == PAGE);
	if (r == 0 && w->n_dropped)
		qsort(w->dropped, w->n_dropped, sizeof(*w->dropped), by_value);
	return r;
}

static bool is_dropped(const struct walk *w, const char *version)
{
	uint64_t h = version_hash(version);

	return w->n_dropped && bsearch(&h, w->dropped, w->n_dropped, sizeof(h), by_value);
}

static int delete_unnamed(struct walk *w, char *key, const struct object_info *info)
{
	char none[32];
	struct object_ref ref = { .key = key ? key : none };
	int r;

	/* A store that does not know the key finds the version without it. */
	snprintf(none, sizeof(none), ".massfs/o/%" PRIu64, info->ino);
	memcpy(ref.version, info->version, sizeof(ref.version));
	r = object_delete_version(w->v->store, w->op, &ref);
	if (r < 0) {
		w->res->failed++;
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, w->op, "gc version=%s not deleted: %s", info->version,
			strerror(-r));
		return 0;
	}
	w->res->deleted++;
	w->res->deleted_bytes += info->size;
	return 0;
}

/* All that the records of an inode name, read once for the pieces of a batch that are its own. */
static int read_names(struct walk *w, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	int r;

	if (w->names_ino == ino)
		return 0;
	w->names_ino = 0;
	w->current[0] = '\0';
	version_list_release(&w->names);
	r = engine_get(w->v->engine, w->op, ino, &n);
	if (r == 0) {
		if (!object_ref_is_empty(&n.ref))
			memcpy(w->current, n.ref.version, sizeof(w->current));
		node_release(&n);
	}
	if (r < 0 && r != -ESTALE)
		return r;
	r = engine_versions_by_ino(w->v->engine, w->op, ino, &w->names);
	if (r == 0)
		w->names_ino = ino;
	return r;
}

static bool is_named(const struct walk *w, const char *version)
{
	if (strcmp(w->current, version) == 0)
		return true;
	for (size_t i = 0; i < w->names.n; i++)
		if (!object_ref_is_empty(&w->names.v[i].ref) &&
		    strcmp(w->names.v[i].ref.version, version) == 0)
			return true;
	return false;
}

static int suspect(struct walk *w, struct piece *p)
{
	int r = read_names(w, p->info.ino);

	if (r < 0)
		return r;
	p->is_suspect = !is_named(w, p->info.version);
	w->res->referenced += !p->is_suspect;
	return 0;
}

static int judge(struct walk *w, const struct piece *p)
{
	if (!p->is_suspect)
		return 0;
	if (is_dropped(w, p->info.version)) {
		w->res->waiting++; /* what was due is counted, and deleted, already */
		return 0;
	}
	if (is_live(w, p->info.session)) {
		w->res->in_flight++;
		return 0;
	}
	w->res->unnamed++;
	w->res->unnamed_bytes += p->info.size;
	gc_found(w->opt, "unnamed", &p->info);
	return w->opt->delete_it ? delete_unnamed(w, p->key, &p->info) : 0;
}

static void clear_batch(struct walk *w)
{
	for (size_t i = 0; i < w->n_batch; i++)
		free(w->batch[i].key);
	w->n_batch = 0;
}

static int by_inode(const void *a, const void *b)
{
	mfs_ino_t x = ((const struct piece *)a)->info.ino, y = ((const struct piece *)b)->info.ino;

	return (x > y) - (x < y);
}

/*
 * First what the records name, then what is in `dropped`: a change that takes a name away lists the object there, so
 * what is in neither was never named, and can be by nobody any more.
 */
static int judge_batch(struct walk *w)
{
	int r = 0;

	qsort(w->batch, w->n_batch, sizeof(w->batch[0]), by_inode);
	w->names_ino = 0; /* an earlier batch's is too old */
	for (size_t i = 0; r == 0 && i < w->n_batch; i++)
		r = atomic_load(&w->op->cancelled) ? -ECANCELED : suspect(w, &w->batch[i]);
	if (r == 0)
		r = read_dropped(w);
	if (r == 0 && w->opt->delete_it)
		r = engine_sync(w->v->engine, w->op);
	for (size_t i = 0; r == 0 && i < w->n_batch; i++)
		r = judge(w, &w->batch[i]);
	clear_batch(w);
	if (r == 0 && w->opt->progress)
		w->opt->progress(w->opt->arg, w->res->objects);
	return r;
}

static int seen(void *arg, const char *key, const struct object_info *info)
{
	struct walk *w = arg;

	if (info->is_marker)
		return 0;
	w->res->objects++;
	if (!info->own || info->ino == 0) {
		w->res->foreign++;
		w->res->foreign_bytes += info->size;
		return 0;
	}
	w->batch[w->n_batch] = (struct piece){ .info = *info };
	w->batch[w->n_batch].key = key ? strdup(key) : NULL;
	if (key && !w->batch[w->n_batch].key)
		return -ENOMEM;
	w->n_batch++;
	return w->n_batch == BATCH ? judge_batch(w) : 0;
}

static void keep_view_jobs(struct job_list *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i].kind == JOB_VIEW)
			l->v[n++] = l->v[i];
		else
			job_record_release(&l->v[i]);
	}
	l->n = n;
}

int gc_run(struct volume *v, struct op_ctx *op, const struct gc_options *opt, struct gc_result *ret)
{
	struct walk *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	*w = (struct walk){ .v = v, .op = op, .opt = opt, .res = ret };
	r = gc_expire(v, op, opt, ret);
	if (r == 0)
		r = object_sweep(v->store, op, opt->delete_it, &ret->temp_files, &ret->temp_bytes);
	if (r == 0)
		r = engine_sessions(v->engine, op, &w->sessions);
	if (r == 0)
		r = engine_jobs(v->engine, op, INT64_MAX, JOBS_MAX, &w->jobs);
	if (r == 0)
		keep_view_jobs(&w->jobs);
	if (r == 0)
		r = object_list_versions(v->store, op, NULL, seen, w);
	if (r == 0)
		r = judge_batch(w);
	/* Looking only, those that are due are still there and were counted once. */
	if (!opt->delete_it)
		ret->waiting -= MFS_MIN(ret->waiting, ret->dropped);
	clear_batch(w);
	session_list_release(&w->sessions);
	job_list_release(&w->jobs);
	version_list_release(&w->names);
	free(w->dropped);
	free(w);
	return r;
}
