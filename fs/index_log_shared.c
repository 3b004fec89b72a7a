/*
 * Which of several mounts writes the index log, and behind what: the one with the lease (fs/leases.h). What is stored stands in
 * one cell of the index, which each step of the writing replaces by compare-and-set:
 *
 *     term epoch number sum  snapshot+1 its-term  next-number clean
 *
 * Who takes over raises the term, which is in the names of its objects: what a frozen writer stores later under its own is
 * outranked by what was stored instead of it, and its next step finds another token. It goes on in the same chain if the
 * notes of its log_engine are whole (meta/log_engine.h says how they come to be), else it begins a new epoch.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/index_log_writer.h"
#include "meta/locks.h"

#define MARK_MAX	  256
#define SESSION_CELLS_OPEN "leases/session-"

struct mark {
	uint64_t term, epoch, number, sum, snapshot, snapshot_term, next;
	bool clean;
};

static int read_mark(struct index_log *l, struct mark *ret)
{
	struct cell_record cell = { 0 };
	char text[MARK_MAX] = "";
	unsigned int clean = 0;
	int n, r = engine_cell_get(l->v->logged, &l->op, LOG_CELL, &cell);

	*ret = (struct mark){ 0 };
	l->token = 0;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	l->token = cell.token;
	if (cell.blob.size < sizeof(text))
		memcpy(text, cell.blob.data, cell.blob.size);
	n = sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNx64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %u", &ret->term,
		   &ret->epoch, &ret->number, &ret->sum, &ret->snapshot, &ret->snapshot_term, &ret->next, &clean);
	if (n != 8) /* damaged: a new epoch, above all that are there */
		*ret = (struct mark){ .term = ret->term };
	ret->clean = clean == 1 && n == 8;
	cell_record_release(&cell);
	return 0;
}

static int put_mark(struct index_log *l, enum log_cell_phase phase, bool clean)
{
	char text[MARK_MAX], name[] = LOG_CELL;
	struct cell_record cell = { .name = name, .blob = { .data = text } };
	struct change c = { 0 };
	struct write *w;
	int r = cell_token(&cell.token);

	if (r < 0)
		return r;
	cell.token = (cell.token | LOG_CELL_PHASES) - cell.token % LOG_CELL_PHASES + (uint64_t)phase;
	cell.blob.size = (size_t)snprintf(
		text, sizeof(text),
		"%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u", l->term, l->epoch, l->number,
		l->previous, l->has_snapshot ? l->snapshot + 1 : 0, l->snapshot_term, l->next_number, clean);
	w = change_write(&c, WRITE_CELL_PUT, 0);
	w->cell = &cell;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = l->token;
	r = engine_apply(l->v->engine, &l->op, &c);
	if (r == 0)
		l->token = cell.token;
	else
		l->opened = false; /* somebody else's; or it is not known what is there: read again */
	return r;
}

/* The object behind which the chain goes on, and the snapshot below it. */
static bool find_chain(struct index_log *l, const struct log_objects *all, const struct mark *m)
{
	const struct log_object *s;

	if (m->number && !log_objects_find(all, m->epoch, false, m->number))
		return false;
	l->epoch = m->epoch;
	l->number = m->number;
	l->previous = m->sum;
	l->next_number = m->next;
	l->snapshot_term = m->snapshot_term;
	s = m->snapshot ? log_objects_find_term(all, m->epoch, true, m->snapshot - 1, m->snapshot_term) : NULL;
	l->has_snapshot = s;
	l->snapshot = s ? s->number : 0;
	l->snapshot_bytes = s ? s->size : 0;
	l->changes_bytes = 0;
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].epoch == l->epoch && !all->v[i].is_snapshot && all->v[i].number > l->snapshot)
			l->changes_bytes += all->v[i].size;
	l->need_snapshot = !l->has_snapshot;
	return true;
}

int index_log_shared_new_epoch(struct index_log *l)
{
	int r;

	index_log_begin_epoch(l);
	r = put_mark(l, LOG_CELL_BEGINS, false);
	/* What comes from here on is noted; the rest will be in the snapshot, which is begun after this. */
	return r < 0 ? r : put_mark(l, LOG_CELL_STORED, false);
}

/* Is all noted that came after the last cut? */
static bool is_known(struct index_log *l, const struct mark *m)
{
	if (!m->epoch)
		return false;
	/* The last mount that there was has ended, and nobody was given a number since, without which nobody changes anything. */
	if (m->clean && m->next == l->first_session)
		return log_engine_trust(l->v->logged);
	return log_engine_is_whole(l->v->logged);
}

int index_log_shared_take_over(struct index_log *l)
{
	struct log_objects all;
	struct mark m;
	int r = read_mark(l, &m);

	if (r == 0)
		r = log_objects_list(l->v->store, &l->op, &all);
	if (r < 0)
		return r;
	l->term = m.term + 1;
	if (is_known(l, &m) && find_chain(l, &all, &m)) {
		r = put_mark(l, LOG_CELL_OTHER, false);
	} else {
		l->epoch = MFS_MAX(m.epoch, all.n ? all.v[all.n - 1].epoch : 0);
		r = index_log_shared_new_epoch(l);
	}
	log_objects_release(&all);
	l->opened = r == 0;
	return r;
}

int index_log_shared_begins(struct index_log *l)
{
	uint64_t epoch = l->epoch;
	int r = put_mark(l, LOG_CELL_BEGINS, false);

	/* A mount that ended has written its last part; the lease is still ours. */
	if (r != -EAGAIN || !lease_hold(l->v, LEASE_LOG) || index_log_is_stopping(l))
		return r;
	r = index_log_shared_take_over(l);
	if (r == 0 && l->epoch == epoch)
		r = put_mark(l, LOG_CELL_BEGINS, false);
	return r;
}

int index_log_shared_stored(struct index_log *l, bool clean)
{
	return put_mark(l, LOG_CELL_STORED, clean);
}

int index_log_shared_has_snapshot(struct index_log *l)
{
	return put_mark(l, LOG_CELL_OTHER, false);
}

int index_log_shared_others(struct index_log *l, bool *ret)
{
	struct cell_list cells = { 0 };
	int r = engine_cells(l->v->logged, &l->op, SESSION_CELLS_OPEN, NULL, 1, &cells);

	*ret = cells.n;
	cell_list_release(&cells);
	return r;
}
