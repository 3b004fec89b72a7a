/*
 * The sessions of other mounts: seen by their cells, buried when dead. And the leases of roles, which stand among the
 * cells that are looked at anyway: one query a second does for all.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/log.h"
#include "fs/sessions_internal.h"
#include "meta/locks.h"

#define PAGE	1000
#define KEEP_NS (7 * 86400 * MFS_NSEC_PER_SEC)

static const char *const roles[LEASE_ROLES] = { [LEASE_RECONCILE] = "reconcile", [LEASE_GC] = "gc", [LEASE_LOG] = "log" };

/* --- what is seen --- */

static struct seen *seen_of(struct sessions *s, uint64_t session)
{
	for (size_t i = 0; i < s->n_seen; i++)
		if (s->seen[i].session == session)
			return &s->seen[i];
	if (s->n_seen == s->cap_seen) {
		size_t cap = s->cap_seen ? s->cap_seen * 2 : 16;
		struct seen *v = reallocarray(s->seen, cap, sizeof(*v));

		if (!v)
			return NULL;
		s->seen = v;
		s->cap_seen = cap;
	}
	s->seen[s->n_seen] = (struct seen){ .session = session, .since = s->looked };
	return &s->seen[s->n_seen++];
}

static int see(struct sessions *s, uint64_t session, uint64_t token, bool ours_to_bury)
{
	struct seen *x;

	if (session == s->v->session)
		return 0;
	x = seen_of(s, session);
	if (!x)
		return -ENOMEM;
	if (x->token != token || !token)
		x->dead = ours_to_bury;
	if (x->token != token)
		x->since = s->looked;
	x->token = token;
	x->found = true;
	return 0;
}

static uint64_t session_of_cell(const char *name)
{
	unsigned long long session;
	char more;

	return sscanf(name, SESSION_CELLS "%llu%c", &session, &more) == 1 ? session : 0;
}

static const struct cell_record *find_cell(const struct cell_list *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->v[i].name, name) == 0)
			return &l->v[i];
	return NULL;
}

/* Ended long ago: nobody wakes under it any more (fenced lists lose it too, meta/fence.h). */
static void forget_record(struct sessions *s, struct op_ctx *op, const struct session_record *rec)
{
	struct change c = { 0 };
	int r;

	if (!atomic_load(&s->held[LEASE_GC]) || rec->closed > mfs_now_ns() - KEEP_NS)
		return;
	change_write(&c, WRITE_SESSION_DELETE, rec->id)->session = rec;
	r = engine_apply(s->v->engine, op, &c);
	if (r < 0)
		mfs_debug(MFS_LOG_FS, op, "session %" PRIu64 " not forgotten: %s", rec->id, strerror(-r));
}

/* Those without a cell: of a mount that came no further, or whose burial has not. */
static int see_records(struct sessions *s, struct op_ctx *op, const struct cell_list *cells)
{
	struct session_list l = { 0 };
	int r = engine_sessions(s->v->engine, op, &l);

	for (size_t i = 0; r == 0 && i < l.n; i++) {
		char name[CELL_NAME];

		if (l.v[i].closed) {
			forget_record(s, op, &l.v[i]);
			continue;
		}
		session_cell_name(name, l.v[i].id);
		if (!find_cell(cells, name))
			r = see(s, l.v[i].id, 0, false);
	}
	session_list_release(&l);
	if (r == 0)
		s->listed = s->looked;
	return r;
}

static int see_cells(struct sessions *s, const struct cell_list *cells)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < cells->n; i++) {
		uint64_t session = session_of_cell(cells->v[i].name), who;
		enum cell_word word;

		if (session)
			r = see(s, session, cells->v[i].token,
				session_cell_read(&cells->v[i], &word, &who) && word == CELL_DEAD && who == s->v->session);
	}
	return r;
}

static void forget_gone(struct sessions *s, bool listed)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_seen; i++)
		if (s->seen[i].found || (!listed && !s->seen[i].token))
			s->seen[n++] = s->seen[i];
	s->n_seen = n;
}

static int read_cells(struct sessions *s, struct op_ctx *op, struct cell_list *ret)
{
	size_t before;
	int r;

	do {
		before = ret->n;
		r = engine_cells(s->v->engine, op, LEASE_CELLS, before ? ret->v[before - 1].name : NULL, PAGE, ret);
	} while (r == 0 && ret->n - before == PAGE);
	return r;
}

/* --- burial --- */

/* From here on it cannot come back. -EAGAIN: it did, or somebody else was faster. */
static int mark(struct sessions *s, struct op_ctx *op, struct seen *x)
{
	struct cell_record cell = { 0 };
	struct change c = { 0 };
	char name[CELL_NAME];
	int r;

	session_cell_name(name, x->session);
	r = session_cell_write(&cell, name, CELL_DEAD, s->v->session, x->token, &c);
	if (r == 0)
		r = engine_apply(s->v->engine, op, &c);
	if (r == 0) {
		x->token = cell.token;
		x->since = mfs_mono_ns();
		x->dead = true;
		mfs_crash_point("session.marked");
	}
	cell_record_release(&cell);
	return r;
}

static int find_record(struct sessions *s, struct op_ctx *op, uint64_t session, struct session_record *ret)
{
	struct session_list l = { 0 };
	int r = engine_sessions(s->v->engine, op, &l);

	*ret = (struct session_record){ .id = session, .host = strdup("") };
	for (size_t i = 0; r == 0 && i < l.n; i++)
		if (l.v[i].id == session) {
			session_record_release(ret);
			r = session_record_copy(&l.v[i], ret);
			break;
		}
	session_list_release(&l);
	return r;
}

/* Closed, and what it stored and did not come to commit is looked for. */
static int close_dead(struct sessions *s, struct op_ctx *op, const struct seen *x)
{
	struct job_record look = { .kind = JOB_VIEW, .ino = x->session, .due = mfs_now_ns() };
	struct change c = { .durable = true };
	struct session_record rec;
	char name[CELL_NAME];
	struct cell_record gone = { .name = name };
	struct write *w;
	int r = find_record(s, op, x->session, &rec);

	if (r < 0)
		return r;
	session_cell_name(name, x->session);
	rec.closed = mfs_now_ns();
	change_write(&c, WRITE_SESSION_PUT, x->session)->session = &rec;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &look;
	w = change_write(&c, WRITE_CELL_PUT, 0);
	w->cell = &gone;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = x->token;
	r = engine_apply(s->v->engine, op, &c);
	if (r == 0) {
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, op,
			"session %" PRIu64 " (host %s, process %u) gave no sign of life for lease= (%" PRId64
			" s): closed, its locks are free",
			x->session, rec.host, rec.pid, s->lease_ns / MFS_NSEC_PER_SEC);
		sessions_call_work(s);
	}
	session_record_release(&rec);
	return r;
}

static int bury(struct sessions *s, struct op_ctx *op, struct seen *x)
{
	int r = x->dead ? 0 : mark(s, op, x);

	if (r == 0)
		r = locks_bury(s->v->engine, op, x->session);
	if (r == 0) {
		mfs_crash_point("session.fenced");
		r = close_dead(s, op, x);
	}
	return r == -EAGAIN ? 0 : r; /* the next look sees what became of it */
}

static int bury_dead(struct sessions *s, struct op_ctx *op)
{
	int r = 0;

	for (size_t i = 0; i < s->n_seen; i++) {
		struct seen *x = &s->seen[i];
		int err = x->dead || s->looked - x->since >= s->death_ns ? bury(s, op, x) : 0;

		r = r ? r : err;
	}
	return r;
}

/* --- leases --- */

static void lease_name(char name[CELL_NAME], enum lease_role role)
{
	snprintf(name, CELL_NAME, LEASE_CELLS "%s", roles[role]);
}

/* Has somebody else the role, who lives? *ret_own: we have it. */
static bool is_taken(struct sessions *s, const struct cell_list *cells, const struct cell_record *cell, bool *ret_own)
{
	enum cell_word word;
	char name[CELL_NAME];
	uint64_t who;

	*ret_own = false;
	if (!cell || !session_cell_read(cell, &word, &who) || word != CELL_ROLE)
		return false;
	*ret_own = who == s->v->session;
	session_cell_name(name, who);
	return *ret_own || find_cell(cells, name);
}

static int take_lease(struct sessions *s, struct op_ctx *op, const struct cell_list *cells, enum lease_role role)
{
	const struct cell_record *old;
	struct cell_record cell = { 0 };
	struct change c = { 0 };
	char name[CELL_NAME];
	bool own;
	int r;

	lease_name(name, role);
	old = find_cell(cells, name);
	if (is_taken(s, cells, old, &own)) {
		atomic_store(&s->held[role], own);
		return 0;
	}
	r = session_cell_write(&cell, name, CELL_ROLE, s->v->session, old ? old->token : 0, &c);
	if (r == 0)
		r = engine_apply(s->v->engine, op, &c);
	cell_record_release(&cell);
	atomic_store(&s->held[role], r == 0);
	if (r == 0) {
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, op, "session %" PRIu64 " does the volume's %s from now on", s->v->session, roles[role]);
		sessions_call_work(s);
	}
	return r == -EAGAIN ? 0 : r;
}

void sessions_drop_leases(struct sessions *s, struct op_ctx *op)
{
	for (int role = 0; role < LEASE_ROLES; role++) {
		struct cell_record cell = { 0 };
		struct change c = { 0 };
		enum cell_word word;
		char name[CELL_NAME];
		uint64_t who;
		int r;

		if (!atomic_exchange(&s->held[role], false))
			continue;
		lease_name(name, (enum lease_role)role);
		r = engine_cell_get(s->v->engine, op, name, &cell);
		if (r == 0 && session_cell_read(&cell, &word, &who) && who == s->v->session) {
			struct write *w = change_write(&c, WRITE_CELL_PUT, 0);

			free(cell.blob.data);
			cell.blob = (struct node_blob){ 0 };
			w->cell = &cell;
			w->expect.flags = EXPECT_VER;
			w->expect.ver = cell.token;
			r = engine_apply(s->v->engine, op, &c);
		}
		cell_record_release(&cell);
		if (r < 0)
			mfs_debug(MFS_LOG_FS, op, "lease %s not given back: %s", roles[role], strerror(-r));
	}
}

/* --- a look --- */

int sessions_look(struct sessions *s, struct op_ctx *op)
{
	struct cell_list cells = { 0 };
	int64_t began = mfs_mono_ns();
	bool list = began - s->listed >= s->lease_ns / 2 || !s->listed;
	int r = read_cells(s, op, &cells), err;

	if (r == 0) {
		/* The index, or we, were away for too long to say who stood still meanwhile. */
		bool away = mfs_mono_ns() - s->looked > s->lease_ns / 2;

		s->looked = mfs_mono_ns();
		for (size_t i = 0; i < s->n_seen; i++) {
			s->seen[i].found = false;
			if (away)
				s->seen[i].since = s->looked;
		}
		r = see_cells(s, &cells);
	}
	if (r == 0 && list)
		r = see_records(s, op, &cells);
	if (r == 0) {
		forget_gone(s, list);
		r = bury_dead(s, op);
		for (int role = 0; role < LEASE_ROLES && s->v->mode == VOLUME_MOUNT; role++) {
			if (role == LEASE_LOG && !s->v->cfg->index_log_ns)
				continue;
			err = take_lease(s, op, &cells, (enum lease_role)role);
			r = r ? r : err;
		}
	}
	cell_list_release(&cells);
	return r;
}
