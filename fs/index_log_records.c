/*
 * The records of a cut: each as the cut's snapshot has it, or that it is not there.
 */
#include <errno.h>
#include <string.h>

#include "fs/index_log_writer.h"

static int put_gone(struct record_writer *w, const struct record_key *k)
{
	struct record r = { .kind = RECORD_GONE, .gone = *k };

	return record_put(&w->line, &r);
}

static int put_node(struct index_log *l, struct engine *s, struct record_writer *w,
		    const struct record_key *k)
{
	struct node n = NODE_INIT;
	int r = engine_get(s, &l->op, k->id, &n);

	if (r == -ESTALE)
		return put_gone(w, k);
	if (r == 0)
		r = record_put_node(&w->line, &n);
	node_release(&n);
	return r;
}

static int put_alias(struct index_log *l, struct engine *s, struct record_writer *w,
		     const struct record_key *k)
{
	struct alias a;
	int n = engine_aliases_all(s, &l->op, k->id - 1, &a, 1);

	if (n < 0)
		return n;
	return n == 1 && a.id == k->id ? record_put_alias(&w->line, &a) : put_gone(w, k);
}

static int put_version(struct index_log *l, struct engine *s, struct record_writer *w,
		       const struct record_key *k)
{
	struct version_list found = { 0 };
	/* The one behind (ino, data - 1). */
	int r = engine_versions_all(s, &l->op, k->more ? k->id : k->id - 1,
				    k->more ? k->more - 1 : UINT64_MAX >> 1, 1, &found);

	if (r == 0)
		r = found.n && found.v[0].ino == k->id && found.v[0].data == k->more
			    ? record_put_version(&w->line, &found.v[0])
			    : put_gone(w, k);
	version_list_release(&found);
	return r;
}

static int put_slices(struct index_log *l, struct engine *s, struct record_writer *w,
		      const struct record_key *k)
{
	struct slices_doc_list found = { 0 };
	int r = engine_slices_all(s, &l->op, k->id, k->more - 1, 1, &found);

	if (r == 0)
		r = found.n && found.v[0].ino == k->id && found.v[0].id == k->more
			    ? record_put_slices(&w->line, &found.v[0])
			    : put_gone(w, k);
	slices_doc_list_release(&found);
	return r;
}

static int put_dropped(struct index_log *l, struct engine *s, struct record_writer *w,
		       const struct record_key *k)
{
	struct dropped_list found = { 0 };
	int r = engine_dropped(s, &l->op, INT64_MAX, k->id - 1, 1, &found);

	if (r == 0)
		r = found.n && found.v[0].id == k->id ? record_put_dropped(&w->line, &found.v[0])
						      : put_gone(w, k);
	dropped_list_release(&found);
	return r;
}

static int put_job(struct index_log *l, struct engine *s, struct record_writer *w, const struct record_key *k)
{
	struct job_record from = { .kind = (enum job_kind)k->id, .key = k->key, .ino = k->more };
	struct job_list found = { 0 };
	int r = engine_jobs_from(s, &l->op, &from, 1, &found);
	const struct job_record *j = found.n ? &found.v[0] : NULL;

	if (r == 0)
		r = j && j->kind == from.kind && j->ino == from.ino &&
				    strcmp(j->key ? j->key : "", k->key ? k->key : "") == 0
			    ? record_put_job(&w->line, j)
			    : put_gone(w, k);
	job_list_release(&found);
	return r;
}

static int put_session(struct index_log *l, struct engine *s, struct record_writer *w,
		       const struct record_key *k)
{
	struct session_list all = { 0 };
	int r = engine_sessions(s, &l->op, &all);
	size_t i = 0;

	while (r == 0 && i < all.n && all.v[i].id != k->id)
		i++;
	if (r == 0)
		r = i < all.n ? record_put_session(&w->line, &all.v[i]) : put_gone(w, k);
	session_list_release(&all);
	return r;
}

static int put_cell(struct index_log *l, struct engine *s, struct record_writer *w, const struct record_key *k)
{
	struct cell_record c;
	int r = engine_cell_get(s, &l->op, k->key, &c);

	if (r == -ENOENT)
		return put_gone(w, k);
	if (r < 0)
		return r;
	r = record_put_cell(&w->line, &c);
	cell_record_release(&c);
	return r;
}

/* The record as it is in the snapshot, or that it is not. */
static int put_key(struct index_log *l, struct engine *s, struct record_writer *w, const struct record_key *k)
{
	switch (k->kind) {
	case RECORD_NODE:
		return put_node(l, s, w, k);
	case RECORD_ALIAS:
		return put_alias(l, s, w, k);
	case RECORD_VERSION:
		return put_version(l, s, w, k);
	case RECORD_SLICES:
		return put_slices(l, s, w, k);
	case RECORD_DROPPED:
		return put_dropped(l, s, w, k);
	case RECORD_JOB:
		return put_job(l, s, w, k);
	case RECORD_CELL:
		return put_cell(l, s, w, k);
	default:
		return put_session(l, s, w, k);
	}
}

/* Those to which the engine gave the number. */
static int put_new_dropped(struct index_log *l, const struct log_cut *cut, struct record_writer *w)
{
	uint64_t after = cut->dropped_from - 1;
	size_t n;
	int r;

	do {
		struct dropped_list page = { 0 };

		r = engine_dropped(cut->snapshot, &l->op, INT64_MAX, after, 256, &page);
		n = page.n;
		for (size_t i = 0; r == 0 && i < page.n; i++) {
			after = page.v[i].id;
			r = record_writer_flush(w, record_put_dropped(&w->line, &page.v[i]));
		}
		dropped_list_release(&page);
	} while (r == 0 && n == 256);
	return r;
}

int index_log_put_records(struct index_log *l, const struct log_cut *cut, struct record_writer *w)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < cut->n; i++) {
		/* It comes with the new ones. */
		if (cut->keys[i].kind == RECORD_DROPPED && cut->keys[i].id >= cut->dropped_from)
			continue;
		r = record_writer_flush(w, put_key(l, cut->snapshot, w, &cut->keys[i]));
	}
	return r < 0 || cut->dropped_from == UINT64_MAX ? r : put_new_dropped(l, cut, w);
}
