/*
 * Garbage that the index does not know of: every version in the store, and every slices document, against the records.
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

#include "common/crash_point.h"
#include "common/log.h"
#include "fs/gc_internal.h"
#include "fs/reconcile_kept.h"
#include "fs/volume_cluster.h"
#include "fs/index_log.h"
#include "meta/fence.h"

#define BATCH	 512
#define PAGE	 1000
#define JOBS_MAX 100000

struct piece {
	struct object_info info;
	char *key; /* NULL: the store does not know it */
	bool is_suspect; /* nothing names it */
	struct cell_record shared; /* its list, if others had it: goes with it */
};

struct walk {
	struct volume *v;
	struct op_ctx *op;
	const struct gc_options *opt;
	struct gc_result *res;
	struct session_list sessions; /* when the walk began */
	struct session_list now;      /* after the batch at hand was listed */
	uint64_t fenced, fenced_ino;  /* the last one that was, for which inode */
	struct job_list jobs; /* JOB_VIEW of sessions whose leftovers may still be shown at a key */
	struct piece batch[BATCH];
	size_t n_batch;
	struct gc_names names;
	struct gc_set dropped, dropped_docs; /* what is in `dropped`: hashes of versions, numbers of documents */
	uint64_t dropped_after;
	struct kept_names kept; /* uploads that may become objects under the label of a dead session, and be named */
	struct gc_set shown; /* hashes of the versions on top of keys that wait for the reconciler */
	bool many_jobs; /* more than were read: nothing that is unnamed is judged */
	/* The same of the index log's objects that are at their keys. */
	struct gc_set logged;
};

/* Closed before the walk began; of those that nobody knows: long before. One that began since is in `now`. */
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
	for (size_t i = 0; i < w->now.n; i++)
		if (w->now.v[i].id == session)
			return true;
	return false; /* not known any more: closed long ago */
}

/* Whoever stored what was listed has a session that is known by now. */
static int read_sessions(struct walk *w)
{
	session_list_release(&w->now);
	w->now = (struct session_list){ 0 };
	return w->v->sessions ? engine_sessions(w->v->engine, w->op, &w->now) : 0;
}

/*
 * A session that is closed may still have a commit under way, where it was closed by others: a frozen mount can wake after hours.
 * From here on the record takes none of its commits; what it names then, it names. The caller looks at that again.
 */
static int fence(struct walk *w, mfs_ino_t ino, uint64_t session)
{
	int r;

	if (w->fenced == session && w->fenced_ino == ino)
		return 0;
	r = fence_inode(w->v->engine, w->op, ino, session);
	if (r < 0)
		return r;
	w->fenced = session;
	w->fenced_ino = ino;
	w->names.ino = 0;
	return 0;
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
			if (object_ref_is_empty(&l.v[i].ref))
				r = gc_set_add(&w->dropped_docs, l.v[i].doc_id);
			else
				r = gc_set_add(&w->dropped, gc_version_hash(l.v[i].ref.version));
		}
		dropped_list_release(&l);
	} while (r == 0 && n == PAGE);
	gc_set_sort(&w->dropped);
	gc_set_sort(&w->dropped_docs);
	return r;
}

static int delete_unnamed(struct walk *w, char *key, const struct object_info *info, struct cell_record *shared)
{
	struct change c = { 0 };
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
	mfs_crash_point("gc.unnamed_deleted");
	w->res->deleted++;
	w->res->deleted_bytes += info->size;
	gc_unshare(&c, shared);
	return c.n_writes ? engine_apply(w->v->engine, w->op, &c) : 0;
}

static int add_logged(void *arg, const char *key, const struct object_info *info)
{
	struct walk *w = arg;

	(void)key;
	return gc_set_add(&w->logged, gc_version_hash(info->version));
}

static int suspect(struct walk *w, struct piece *p)
{
	int r;

	if (p->info.ino == INDEX_LOG_INO) {
		p->is_suspect = !gc_set_has(&w->logged, gc_version_hash(p->info.version));
		w->res->referenced += !p->is_suspect;
		return 0;
	}
	r = gc_names_read(w->v, w->op, p->info.ino, &w->names);
	if (r < 0)
		return r;
	r = gc_names_version(&w->names, p->info.version);
	if (r == 0)
		r = gc_shared(w->v, w->op, p->info.version, &p->shared);
	p->is_suspect = r == 0;
	w->res->referenced += r > 0;
	return MFS_MIN(r, 0);
}

static int judge(struct walk *w, struct piece *p)
{
	if (!p->is_suspect)
		return 0;
	if (gc_set_has(&w->dropped, gc_version_hash(p->info.version))) {
		w->res->waiting++; /* what was due is counted, and deleted, already */
		return 0;
	}
	if (is_live(w, p->info.session) || w->many_jobs || gc_set_has(&w->shown, gc_version_hash(p->info.version)) ||
	    kept_names_object(&w->kept, &p->info)) {
		w->res->in_flight++;
		return 0;
	}
	if (w->opt->delete_it && w->v->sessions) {
		int r = fence(w, p->info.ino, p->info.session);

		cell_record_release(&p->shared);
		if (r == 0)
			r = suspect(w, p);
		if (r < 0 || !p->is_suspect)
			return r;
	}
	w->res->unnamed++;
	w->res->unnamed_bytes += p->info.size;
	gc_found(w->opt, "unnamed", &p->info);
	return w->opt->delete_it ? delete_unnamed(w, p->key, &p->info, &p->shared) : 0;
}

static void clear_batch(struct walk *w)
{
	for (size_t i = 0; i < w->n_batch; i++) {
		free(w->batch[i].key);
		cell_record_release(&w->batch[i].shared);
	}
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
	w->names.ino = 0; /* an earlier batch's is too old */
	/* Before the records: a cell goes after its record has the object, and none comes under the label of a dead session. */
	r = kept_names_read(w->v, w->op, &w->kept);
	for (size_t i = 0; r == 0 && i < w->n_batch; i++)
		r = atomic_load(&w->op->cancelled) ? -ECANCELED : suspect(w, &w->batch[i]);
	if (r == 0)
		r = read_dropped(w);
	if (r == 0)
		r = read_sessions(w);
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

	if (info->is_marker || (key && !strcmp(key, VOLUME_OBJECT)))
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

/* --- slices documents --- */

static int delete_doc(struct walk *w, const struct slices_doc_record *d)
{
	struct change c = { 0 };
	int r;

	change_write(&c, WRITE_SLICES_DELETE, 0)->slices = d;
	r = engine_apply(w->v->engine, w->op, &c);
	w->res->deleted_docs += r == 0;
	return r;
}

static int judge_doc(struct walk *w, const struct slices_doc_record *d)
{
	struct object_info info = { .ino = d->ino, .size = d->blob.size, .own = true };

	if (gc_set_has(&w->dropped_docs, d->id) || is_live(w, d->session))
		return 0;
	if (w->opt->delete_it && w->v->sessions) {
		int r = fence(w, d->ino, d->session);

		if (r == 0)
			r = gc_names_read(w->v, w->op, d->ino, &w->names);
		if (r == 0)
			r = gc_names_doc(&w->names, d->id);
		if (r != 0)
			return MFS_MIN(r, 0);
	}
	w->res->unnamed_docs++;
	snprintf(info.version, sizeof(info.version), "%" PRIu64, d->id);
	gc_found(w->opt, "unnamed slices", &info);
	return w->opt->delete_it ? delete_doc(w, d) : 0;
}

/* As judge_batch(). What is named is taken out of the list. */
static int judge_docs(struct walk *w, struct slices_doc_list *l)
{
	size_t n = 0;
	int r = 0;

	w->names.ino = 0;
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		r = gc_names_read(w->v, w->op, l->v[i].ino, &w->names);
		if (r == 0 && gc_names_doc(&w->names, l->v[i].id)) {
			w->res->referenced_docs++;
			continue;
		}
		if (n != i) {
			struct slices_doc_record x = l->v[n];

			l->v[n] = l->v[i];
			l->v[i] = x;
		}
		n++;
	}
	if (r == 0)
		r = read_dropped(w);
	if (r == 0)
		r = read_sessions(w);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = judge_doc(w, &l->v[i]);
	return r;
}

static int walk_docs(struct walk *w)
{
	mfs_ino_t ino = 0;
	uint64_t id = 0;
	size_t n;
	int r;

	do {
		struct slices_doc_list l = { 0 };

		r = engine_slices_all(w->v->engine, w->op, ino, id, BATCH, &l);
		n = l.n;
		w->res->docs += n;
		if (r == 0 && n) {
			ino = l.v[n - 1].ino;
			id = l.v[n - 1].id;
			r = atomic_load(&w->op->cancelled) ? -ECANCELED : judge_docs(w, &l);
		}
		slices_doc_list_release(&l);
	} while (r == 0 && n == BATCH);
	return r;
}

/*
 * Of the jobs only JOB_VIEW is kept. The top of a key that waits for the reconciler may be an upload that no record names;
 * it goes only after the key shows something else: where the store does not tell keys (localdir), the view would be
 * left without its version, and look like another program's file.
 */
static int keep_view_jobs(struct walk *w)
{
	struct job_list *l = &w->jobs;
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct job_record *job = &l->v[i];
		struct object_info top;

		if (job->kind == JOB_VIEW) {
			l->v[n++] = *job;
			continue;
		}
		if (r == 0 && job->kind == JOB_KEY && object_key_is_legal(w->v->store, job->key)) {
			r = object_head(w->v->store, w->op, NULL, job->key, NULL, &top);
			if (r == 0)
				r = gc_set_add(&w->shown, gc_version_hash(top.version));
			else if (r == -ENOENT)
				r = 0;
		}
		job_record_release(job);
	}
	w->many_jobs = l->n == JOBS_MAX;
	l->n = n;
	gc_set_sort(&w->shown);
	return r;
}

/* Unfinished uploads, but for those that somebody will go on with. */
static int sweep(struct walk *w)
{
	int r = w->opt->delete_it ? kept_expire(w->v, w->op) : 0;

	if (r == 0)
		r = kept_names_read(w->v, w->op, &w->kept);
	if (r == 0)
		r = object_sweep_but(w->v->store, w->op, w->opt->delete_it, kept_names_upload, &w->kept, &w->res->temp_files,
				     &w->res->temp_bytes);
	return r;
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
		r = sweep(w);
	if (r == 0)
		r = engine_sessions(v->engine, op, &w->sessions);
	if (r == 0)
		r = engine_jobs(v->engine, op, INT64_MAX, JOBS_MAX, &w->jobs);
	if (r == 0)
		r = keep_view_jobs(w);
	if (r == 0)
		r = object_list_keys(v->store, op, NULL, INDEX_LOG_PREFIX, add_logged, w);
	gc_set_sort(&w->logged);
	if (r == 0)
		r = object_list_versions(v->store, op, NULL, seen, w);
	if (r == 0)
		r = judge_batch(w);
	if (r == 0)
		r = walk_docs(w);
	/* Looking only, those that are due are still there and were counted once. */
	if (!opt->delete_it)
		ret->waiting -= MFS_MIN(ret->waiting, ret->dropped);
	clear_batch(w);
	session_list_release(&w->sessions);
	session_list_release(&w->now);
	job_list_release(&w->jobs);
	gc_names_release(&w->names);
	gc_set_release(&w->shown);
	kept_names_release(&w->kept);
	gc_set_release(&w->dropped);
	gc_set_release(&w->dropped_docs);
	gc_set_release(&w->logged);
	free(w);
	return r;
}
