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

/* --- the rest passes through --- */

#define PASS(name, ...)                           \
	struct engine *inner_ = log_of(e)->inner; \
                                                  \
	return inner_->ops->name(inner_, __VA_ARGS__)

static int log_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	PASS(get, op, ino, ret);
}

static int log_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
		      struct entry *ret)
{
	PASS(lookup, op, parent, name, ret);
}

static int log_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		    struct node_list *ret)
{
	PASS(list, op, parent, after, limit, ret);
}

static int log_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max)
{
	PASS(aliases, op, target, ret, max);
}

static int log_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret)
{
	PASS(query, op, q, ret);
}

static int log_sync(struct engine *e, struct op_ctx *op)
{
	PASS(sync, op);
}

static int log_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	PASS(reserve, op, count, ret_first);
}

static int log_versions_by_path(struct engine *e, struct op_ctx *op, const char *path,
				struct version_list *ret)
{
	PASS(versions_by_path, op, path, ret);
}

static int log_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	PASS(versions_by_ino, op, ino, ret);
}

static int log_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit,
				struct version_list *ret)
{
	PASS(versions_expired, op, now, limit, ret);
}

static int log_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data,
			    size_t limit, struct version_list *ret)
{
	PASS(versions_all, op, after_ino, after_data, limit, ret);
}

static int log_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	PASS(trash_by_path, op, path, ret);
}

static int log_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit,
			    struct node_list *ret)
{
	PASS(trash_before, op, before, limit, ret);
}

static int log_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
		       struct dropped_list *ret)
{
	PASS(dropped, op, before, after_id, limit, ret);
}

static int log_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit,
		    struct job_list *ret)
{
	PASS(jobs, op, due_before, limit, ret);
}

static int log_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	PASS(jobs_count, op, ret);
}

static int log_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	PASS(sessions, op, ret);
}

static int log_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id,
			  struct node_blob *ret)
{
	PASS(slices_get, op, ino, id, ret);
}

static int log_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id,
			  size_t limit, struct slices_doc_list *ret)
{
	PASS(slices_all, op, after_ino, after_id, limit, ret);
}

static int log_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records,
			  uint64_t *ret_inline_bytes)
{
	PASS(todo_count, op, ret_records, ret_inline_bytes);
}

static int log_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret)
{
	PASS(snapshot, op, ret);
}

static int log_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	PASS(next_number, op, ret);
}

static int log_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret,
			   size_t max)
{
	PASS(aliases_all, op, after_id, ret, max);
}

static int log_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
			 struct job_list *ret)
{
	PASS(jobs_from, op, from, limit, ret);
}

static int log_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		    struct node_list *ret)
{
	return engine_find(log_of(e)->inner, op, t, after, limit, ret);
}

static uint64_t log_rows(struct engine *e, struct op_ctx *op, const struct expr_term *t)
{
	return engine_rows(log_of(e)->inner, op, t);
}

static int log_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
			 size_t limit, struct blob_list *ret)
{
	return engine_tag_names(log_of(e)->inner, op, name, after, after_len, limit, ret);
}

static int log_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	return engine_cell_get(log_of(e)->inner, op, name, ret);
}

static int log_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
		     struct cell_list *ret)
{
	return engine_cells(log_of(e)->inner, op, prefix, after, limit, ret);
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

static int64_t log_last_beat(struct engine *e)
{
	return engine_last_beat(log_of(e)->inner);
}

static int log_epoch(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32])
{
	return engine_epoch(log_of(e)->inner, op, begin, ret, secret);
}

static int log_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret)
{
	PASS(volume_get, op, ret);
}

static int log_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v)
{
	PASS(volume_put, op, v);
}

static int log_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text),
		     void *arg)
{
	PASS(check, op, report, arg);
}

static int log_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes)
{
	PASS(count, op, ret_files, ret_bytes);
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
	static const struct engine_ops operations = {
		.name = "log",
		.free = log_free,
		.get = log_get,
		.lookup = log_lookup,
		.list = log_list,
		.aliases = log_aliases,
		.query = log_query,
		.apply = log_apply,
		.sync = log_sync,
		.reserve = log_reserve,
		.versions_by_path = log_versions_by_path,
		.versions_by_ino = log_versions_by_ino,
		.versions_expired = log_versions_expired,
		.versions_all = log_versions_all,
		.trash_by_path = log_trash_by_path,
		.trash_before = log_trash_before,
		.dropped = log_dropped,
		.jobs = log_jobs,
		.jobs_count = log_jobs_count,
		.sessions = log_sessions,
		.slices_get = log_slices_get,
		.slices_all = log_slices_all,
		.todo_count = log_todo_count,
		.snapshot = log_snapshot,
		.next_number = log_next_number,
		.aliases_all = log_aliases_all,
		.jobs_from = log_jobs_from,
		.find = log_find,
		.rows = log_rows,
		.tag_names = log_tag_names,
		.cell_get = log_cell_get,
		.cells = log_cells,
		.watch = log_watch,
		.last_beat = log_last_beat,
		.epoch = log_epoch,
		.volume_get = log_volume_get,
		.volume_put = log_volume_put,
		.check = log_check,
		.count = log_count,
	};
	struct log_engine *l;
	uint64_t next = 0;
	int r = engine_next_number(inner, NULL, &next);

	if (r < 0)
		return r;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	/* Capabilities are those of the engine below, so the operations are a copy. */
	l->ops = operations;
	l->ops.caps = inner->ops->caps;
	l->ops.indexes = inner->ops->indexes;
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
