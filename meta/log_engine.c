/*
 * Notes of changed records, made by the changes themselves (by news: log_news.c). Two generations: a cut turns to a new one,
 * waits for the changes under way that noted in the old one, and only then takes the snapshot. So all that the old one has
 * is done by then; what was noted in the new one until now may be done too, and goes along as a copy.
 */
#include "meta/log_internal.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "meta/shared.h"

#define ENGINE_INNER(e) (log_of(e)->inner)
#include "meta/engine_pass.h"

/* --- what a change writes --- */

static void note_job(struct log_key_set *s, const struct job_record *j)
{
	struct record_key k = { .kind = RECORD_JOB, .id = j->kind, .more = j->ino, .key = j->key };

	log_set_add(s, &k);
}

static void note_write(struct log_key_set *s, const struct write *w)
{
	uint32_t n = MFS_MAX(w->n, 1u);

	switch (w->kind) {
	case WRITE_INSERT:
	case WRITE_EDIT:
	case WRITE_DELETE:
	case WRITE_RENAME:
	case WRITE_TRASH:
	case WRITE_UNTRASH:
	case WRITE_PURGE:
		log_set_add_number(s, RECORD_NODE, w->ino, 0);
		break;
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_DELETE:
	case WRITE_ALIAS_RENAME:
		log_set_add_number(s, RECORD_ALIAS, w->ino, 0);
		break;
	case WRITE_VERSION_PUT:
	case WRITE_VERSION_DELETE:
		log_set_add_number(s, RECORD_VERSION, w->version->ino, w->version->data);
		break;
	case WRITE_DROPPED_PUT:
	case WRITE_DROPPED_DELETE:
		for (uint32_t i = 0; i < n; i++)
			if (w->dropped[i].id) /* else the engine gives one from dropped_from on */
				log_set_add_number(s, RECORD_DROPPED, w->dropped[i].id, 0);
		break;
	case WRITE_JOB_PUT:
	case WRITE_JOB_DELETE:
		note_job(s, w->job);
		break;
	case WRITE_SESSION_PUT:
	case WRITE_SESSION_DELETE:
		log_set_add_number(s, RECORD_SESSION, w->session->id, 0);
		break;
	case WRITE_SLICES_PUT:
	case WRITE_SLICES_DELETE:
		for (uint32_t i = 0; i < n; i++)
			log_set_add_number(s, RECORD_SLICES, w->slices[i].ino, w->slices[i].id);
		break;
	case WRITE_CELL_PUT:
		(void)log_note_cell(s, w->cell->name);
		break;
	}
}

static void note_change(struct log_key_set *s, const struct change *c)
{
	for (unsigned int i = 0; i < c->n_writes; i++)
		note_write(s, &c->writes[i]);
	for (unsigned int i = 0; i < c->n_touches; i++)
		log_set_add_number(s, RECORD_NODE, c->touches[i].dir, 0);
	s->changes++;
	if (s->since == 0)
		s->since = mfs_now_ns();
}

static int log_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	struct log_engine *l = log_of(e);
	void (*wake)(void *arg) = NULL;
	unsigned int generation;
	void *wake_arg = NULL;
	int r;

	if (l->follows)
		return l->inner->ops->apply(l->inner, op, c);
	{
		MFS_GUARD(&l->lock);
		generation = l->generation;
		l->under_way[generation]++;
		note_change(&l->notes, c);
		if (l->notes.changes == l->wake_at) {
			wake = l->wake;
			wake_arg = l->wake_arg;
		}
	}
	r = l->inner->ops->apply(l->inner, op, c);
	{
		MFS_GUARD(&l->lock);
		if (--l->under_way[generation] == 0)
			pthread_cond_broadcast(&l->drained);
	}
	if (wake)
		wake(wake_arg);
	return r;
}

/* --- cuts --- */

static void copy_notes(struct log_engine *l, struct log_key_set *into)
{
	MFS_GUARD(&l->lock);

	for (size_t i = 0; i < l->notes.cap; i++)
		if (!log_key_is_free(&l->notes.v[i]))
			log_set_add(into, &l->notes.v[i]);
	into->overflow |= l->notes.overflow;
}

/* The old generation's notes, once all its changes are done. */
static void turn(struct log_engine *l, struct log_key_set *ret, uint64_t *ret_dropped_from)
{
	unsigned int old;
	MFS_GUARD(&l->lock);

	old = l->generation;
	*ret = l->notes;
	*ret_dropped_from = l->dropped_from;
	l->notes = (struct log_key_set){ 0 };
	l->generation = !old;
	while (l->under_way[old])
		pthread_cond_wait(&l->drained, &l->lock.m);
}

static void merge_back(struct log_engine *l, struct log_key_set *s, uint64_t dropped_from)
{
	MFS_GUARD(&l->lock);

	for (size_t i = 0; i < s->cap; i++)
		if (!log_key_is_free(&s->v[i]))
			log_set_add(&l->notes, &s->v[i]);
	if (s->overflow)
		log_set_overflow(&l->notes);
	l->notes.changes += s->changes;
	if (s->since && (l->notes.since == 0 || s->since < l->notes.since))
		l->notes.since = s->since;
	l->dropped_from = MFS_MIN(l->dropped_from, dropped_from);
	log_set_release(s);
}

int log_engine_cut(struct engine *e, struct op_ctx *op, struct log_cut *ret)
{
	struct log_engine *l = log_of(e);
	uint64_t dropped_from, next = 0;
	struct log_key_set s;
	int r;

	*ret = (struct log_cut){ 0 };
	if (l->follows)
		return log_cut_by_news(l, op, ret);
	turn(l, &s, &dropped_from);
	ret->at = mfs_now_ns();
	r = engine_snapshot(l->inner, op, &ret->snapshot);
	if (r == 0)
		r = engine_next_number(ret->snapshot, op, &next);
	if (r < 0) {
		engine_free(MFS_TAKE(ret->snapshot));
		merge_back(l, &s, dropped_from);
		return r;
	}
	copy_notes(l, &s);
	{
		MFS_GUARD(&l->lock);
		l->dropped_from = next;
	}
	log_set_give(&s, ret);
	ret->dropped_from = dropped_from;
	return 0;
}

void log_engine_give_back(struct engine *e, struct log_cut *cut)
{
	struct log_engine *l = log_of(e);
	MFS_GUARD(&l->lock);

	if (l->follows) { /* they are still there */
		log_cut_release(cut);
		return;
	}
	for (size_t i = 0; i < cut->n; i++)
		log_set_add(&l->notes, &cut->keys[i]);
	if (cut->overflow)
		log_set_overflow(&l->notes);
	l->notes.changes += cut->changes;
	if (cut->since && (l->notes.since == 0 || cut->since < l->notes.since))
		l->notes.since = cut->since;
	l->dropped_from = MFS_MIN(l->dropped_from, cut->dropped_from);
	log_cut_release(cut);
}

void log_cut_release(struct log_cut *cut)
{
	for (size_t i = 0; i < cut->n; i++)
		free(cut->keys[i].key);
	free(cut->keys);
	engine_free(cut->snapshot);
	*cut = (struct log_cut){ 0 };
}

void log_engine_on(struct engine *e, uint64_t changes, void (*wake)(void *arg), void *arg)
{
	struct log_engine *l = log_of(e);
	MFS_GUARD(&l->lock);

	l->wake_at = changes;
	l->wake = wake;
	l->wake_arg = arg;
}

void log_engine_pending(struct engine *e, uint64_t *ret_changes, int64_t *ret_since)
{
	struct log_engine *l = log_of(e);
	MFS_GUARD(&l->lock);

	*ret_changes = l->notes.changes + l->begun.changes;
	*ret_since = l->begun.since ? l->begun.since : l->notes.since;
}

static int log_watch(struct engine *e, engine_news_fn fn, void *arg)
{
	struct log_engine *l = log_of(e);

	if (!l->follows)
		return engine_watch(l->inner, fn, arg);
	MFS_GUARD(&l->lock);
	l->news_fn = fn;
	l->news_arg = arg;
	while (!fn && l->news_calls)
		pthread_cond_wait(&l->drained, &l->lock.m);
	return 0;
}

static void log_free(struct engine *e)
{
	struct log_engine *l = log_of(e);

	if (l->follows)
		(void)!engine_watch(l->inner, NULL, NULL);
	engine_free(l->inner);
	log_set_release(&l->notes);
	log_set_release(&l->begun);
	pthread_cond_destroy(&l->drained);
	pthread_mutex_destroy(&l->lock.m);
	free(l);
}

int log_engine_new(struct engine *inner, struct engine **ret)
{
	struct log_engine *l;
	uint64_t next = 0;
	int r = engine_next_number(inner, NULL, &next);

	if (r < 0)
		return r;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->ops = (struct engine_ops){ .name = "log", .caps = inner->ops->caps, .indexes = inner->ops->indexes };
	engine_pass_ops(&l->ops, inner->ops);
	l->ops.free = log_free;
	l->ops.apply = log_apply;
	l->ops.watch = log_watch;
	l->base.ops = &l->ops;
	l->base.session = inner->session;
	l->base.next_number = inner->next_number;
	l->inner = inner;
	l->dropped_from = next;
	pthread_mutex_init(&l->lock.m, NULL);
	pthread_cond_init(&l->drained, NULL);
	*ret = &l->base;
	return 0;
}

int log_engine_follow(struct engine *inner, struct engine **ret)
{
	int r = log_engine_new(inner, ret);
	struct log_engine *l;

	if (r < 0)
		return r;
	l = log_of(*ret);
	l->follows = true;
	r = engine_watch(inner, log_news, l);
	if (r < 0) {
		l->inner = NULL; /* the caller's again */
		l->follows = false;
		log_free(&l->base);
	}
	return r;
}
