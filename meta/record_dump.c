/*
 * The walk over everything an engine has, page by page.
 */
#include "meta/record_dump.h"

#include <errno.h>

#include "meta/shared.h"

#define PAGE	      64 /* a record can have 1 MiB of xattrs */
#define PROGRESS_EACH 4096

struct walk {
	struct engine *e;
	struct op_ctx *op;
	struct record_writer *w;
	record_progress_fn *progress;
	void *arg;
	struct record_counts *counts;
	uint64_t done;
};

/* The line of one record is in w->line; r: how that went. */
static int wrote(struct walk *k, enum record_kind kind, int r)
{
	r = record_writer_flush(k->w, r);
	if (r < 0)
		return r;
	k->counts->n[kind]++;
	if (++k->done % PROGRESS_EACH == 0 && k->progress)
		return k->progress(k->arg, k->done);
	return 0;
}

static int dump_volume(struct walk *k)
{
	struct record r = { .kind = RECORD_VOLUME };
	int err = engine_volume_get(k->e, k->op, &r.volume.v);

	if (err == 0)
		err = engine_next_number(k->e, k->op, &r.volume.next_ino);
	return err < 0 ? err : wrote(k, RECORD_VOLUME, record_put(&k->w->line, &r));
}

static int dump_nodes(struct walk *k, bool trash)
{
	struct query q = { .limit = PAGE, .trash = trash };
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_query(k->e, k->op, &q, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			q.after = l.v[i].attr.ino;
			r = wrote(k, RECORD_NODE, record_put_node(&k->w->line, &l.v[i]));
		}
		node_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int dump_aliases(struct walk *k)
{
	struct alias page[PAGE];
	uint64_t after = 0;
	int n, r = 0;

	do {
		n = engine_aliases_all(k->e, k->op, after, page, PAGE);
		for (int i = 0; r == 0 && i < n; i++) {
			after = page[i].id;
			r = wrote(k, RECORD_ALIAS, record_put_alias(&k->w->line, &page[i]));
		}
	} while (r == 0 && n == PAGE);
	return r < 0 ? r : MFS_MIN(n, 0);
}

static int dump_slices(struct walk *k)
{
	uint64_t ino = 0, id = 0;
	size_t n;
	int r;

	do {
		struct slices_doc_list l = { 0 };

		r = engine_slices_all(k->e, k->op, ino, id, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			ino = l.v[i].ino;
			id = l.v[i].id;
			r = wrote(k, RECORD_SLICES, record_put_slices(&k->w->line, &l.v[i]));
		}
		slices_doc_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int dump_versions(struct walk *k)
{
	uint64_t ino = 0, data = 0;
	size_t n;
	int r;

	do {
		struct version_list l = { 0 };

		r = engine_versions_all(k->e, k->op, ino, data, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			ino = l.v[i].ino;
			data = l.v[i].data;
			r = wrote(k, RECORD_VERSION, record_put_version(&k->w->line, &l.v[i]));
		}
		version_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int dump_dropped(struct walk *k)
{
	uint64_t after = 0;
	size_t n;
	int r;

	do {
		struct dropped_list l = { 0 };

		r = engine_dropped(k->e, k->op, INT64_MAX, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			after = l.v[i].id;
			r = wrote(k, RECORD_DROPPED, record_put_dropped(&k->w->line, &l.v[i]));
		}
		dropped_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int dump_jobs(struct walk *k)
{
	struct job_record from = { 0 };
	size_t n;
	int r;

	do {
		struct job_list l = { 0 };

		r = engine_jobs_from(k->e, k->op, &from, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++)
			r = wrote(k, RECORD_JOB, record_put_job(&k->w->line, &l.v[i]));
		job_record_release(&from);
		if (r == 0 && n == PAGE) {
			r = job_record_copy(&l.v[n - 1], &from);
			from.ino++;
		}
		job_list_release(&l);
	} while (r == 0 && n == PAGE);
	job_record_release(&from);
	return r;
}

static int dump_sessions(struct walk *k)
{
	struct session_list l = { 0 };
	int r = engine_sessions(k->e, k->op, &l);

	for (size_t i = 0; r == 0 && i < l.n; i++)
		r = wrote(k, RECORD_SESSION, record_put_session(&k->w->line, &l.v[i]));
	session_list_release(&l);
	return r;
}

static int dump_cells(struct walk *k, const char *prefix)
{
	MFS_AUTOFREE char *after = NULL;
	size_t n;
	int r;

	do {
		struct cell_list l = { 0 };

		r = engine_cells(k->e, k->op, prefix, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++)
			r = wrote(k, RECORD_CELL, record_put_cell(&k->w->line, &l.v[i]));
		if (n) {
			free(after);
			after = MFS_TAKE(l.v[n - 1].name);
		}
		cell_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r == -ENOTSUP ? 0 : r;
}

int record_dump_all(struct engine *e, struct op_ctx *op, struct record_writer *w,
		    record_progress_fn *progress, void *arg, struct record_counts *ret)
{
	struct walk k = { .e = e, .op = op, .w = w, .progress = progress, .arg = arg, .counts = ret };
	int r;

	*ret = (struct record_counts){ 0 };
	r = dump_volume(&k);
	if (r == 0)
		r = dump_nodes(&k, false);
	if (r < 0)
		return r;
	ret->trash = ret->n[RECORD_NODE];
	r = dump_nodes(&k, true);
	ret->trash = ret->n[RECORD_NODE] - ret->trash;
	ret->n[RECORD_NODE] -= ret->trash;
	if (r == 0)
		r = dump_aliases(&k);
	if (r == 0)
		r = dump_slices(&k);
	if (r == 0)
		r = dump_versions(&k);
	if (r == 0)
		r = dump_dropped(&k);
	if (r == 0)
		r = dump_jobs(&k);
	if (r == 0)
		r = dump_sessions(&k);
	if (r == 0)
		r = dump_cells(&k, SHARED_PREFIX);
	return r < 0 ? r : dump_cells(&k, "schemas/");
}
