/*
 * A key that another mount is storing an object at, of which the index does not know yet. Uploads of this mount pass the
 * key's gate (fs/key_gate.h); those of others are found by what they leave: a version that bears the label of a session
 * that lives and that no record names. It may be named any moment, or never; until one of the two is sure the key stays
 * queued, for what was put over it meanwhile would hide it.
 *
 * Only a key at whose path the index has nothing needs it: else the layout moves with what the reconciler puts there, the
 * other one's commit has to read it again, and queues the key itself (content_commit.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/gc_internal.h"
#include "fs/reconcile_internal.h"

#define PAGE	    1000
#define DROPPED_MAX 100000 /* more are not read: the key waits for gc */

struct search {
	struct reconcile_ctx *rc;
	struct session_list sessions;
	struct object_info *v; /* of others that live */
	size_t n, cap;
};

static bool is_other(const struct search *s, uint64_t session)
{
	if (session == s->rc->v->session)
		return false;
	for (size_t i = 0; i < s->sessions.n; i++)
		if (s->sessions.v[i].id == session)
			return !s->sessions.v[i].closed;
	return false;
}

static int see(void *arg, const char *key, const struct object_info *info)
{
	struct search *s = arg;

	(void)key;
	if (info->is_marker || !info->own || !is_other(s, info->session))
		return 0;
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 8;
		struct object_info *v = reallocarray(s->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = *info;
	return 0;
}

/* Was it let go of by a change that is done? 1, 0. */
static int is_dropped(struct reconcile_ctx *rc, const struct object_info *info)
{
	uint64_t after = 0;
	size_t n = PAGE, all = 0;
	int r = 0;

	while (r == 0 && n == PAGE && all < DROPPED_MAX) {
		struct dropped_list l = { 0 };

		r = engine_dropped(rc->v->engine, rc->op, INT64_MAX, after, PAGE, &l);
		n = l.n;
		all += n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			after = l.v[i].id;
			r = l.v[i].ino == info->ino && strcmp(l.v[i].ref.version, info->version) == 0;
		}
		dropped_list_release(&l);
	}
	return r;
}

/* It can be named no more, as the record does not take it. */
static int is_fenced(struct reconcile_ctx *rc, const struct object_info *info)
{
	struct node n = NODE_INIT;
	int r = engine_get(rc->v->engine, rc->op, info->ino, &n);

	if (r == 0)
		r = node_blob_has_u64(&n.fenced, info->session);
	else if (r == -ESTALE) /* nor is there one */
		r = 1;
	node_release(&n);
	return r;
}

/* 1: it may still be named; 0: it is, was, or cannot be. */
static int is_in_flight(struct reconcile_ctx *rc, const struct object_info *info, struct gc_names *names)
{
	struct cell_record shared = { 0 };
	int r = gc_names_read(rc->v, rc->op, info->ino, names);

	if (r == 0)
		r = gc_names_version(names, info->version);
	if (r == 0)
		r = gc_shared(rc->v, rc->op, info->version, &shared);
	cell_record_release(&shared);
	if (r == 0)
		r = is_dropped(rc, info);
	if (r == 0)
		r = is_fenced(rc, info);
	return r < 0 ? r : !r;
}

int reconcile_in_flight(struct reconcile_ctx *rc, const char *key)
{
	struct search s = { .rc = rc };
	struct gc_names names = { 0 };
	bool others = false;
	int r;

	if (!rc->v->sessions)
		return 0;
	r = engine_sessions(rc->v->engine, rc->op, &s.sessions);
	for (size_t i = 0; r == 0 && i < s.sessions.n; i++)
		others |= is_other(&s, s.sessions.v[i].id);
	if (r == 0 && others)
		r = object_list_key(rc->v->store, rc->op, NULL, key, see, &s);
	for (size_t i = 0; r == 0 && i < s.n; i++)
		r = is_in_flight(rc, &s.v[i], &names);
	gc_names_release(&names);
	session_list_release(&s.sessions);
	free(s.v);
	return r;
}
