/*
 * News of the mem engine: what a change did, told to every engine object of the same index, as another mount's engine
 * would hear it. As poor as MongoDB's change stream tells it: a deletion without the name that went.
 */
#include <errno.h>

#include "common/clock.h"
#include "meta/mem_internal.h"
#include "meta/record_stream.h"
#include "meta/tags.h"

static void tell(struct mem_shared *s, const struct news *n)
{
	for (size_t i = 0; i < MEM_WATCHERS; i++) {
		struct mem_watcher *w = &s->watchers[i];

		if (!w->e || !w->fn)
			continue;
		if (w->muted)
			w->missed = true;
		else
			w->fn(w->arg, n);
	}
}

/* The record as it is now: later changes wait for watch_lock. */
static void tell_record(struct mem_shared *s, mfs_ino_t ino, uint64_t session, bool tagged)
{
	struct news n = { .kind = NEWS_GONE, .ino = ino, .session = session };
	struct tag_set tags = { .n = 0 };
	struct mfs_name name;

	{
		MFS_GUARD(&s->lock);
		const struct node *f = mem_find_file(s, ino);
		const struct alias *a = f ? NULL : mem_find_alias(s, ino);

		if (f) {
			name = f->name;
			n = (struct news){ .kind = NEWS_RECORD, .ino = ino, .parent = f->parent, .session = session,
					   .ver = f->attr.ver, .data = f->attr.data, .lay = f->attr.lay };
			tag_set_add_node(&tags, f);
			n.tags = tagged ? &tags : NULL;
		} else if (a) {
			name = a->name;
			n = (struct news){ .kind = NEWS_ALIAS, .ino = ino, .parent = a->parent, .target = a->target,
					   .session = session };
		}
	}
	if (n.parent)
		n.name = &name;
	tell(s, &n);
}

static void tell_side(struct mem_shared *s, enum record_kind kind, uint64_t id, uint64_t more, uint64_t session)
{
	struct record_key key = { .kind = kind, .id = id, .more = more };

	tell(s, &(struct news){ .kind = NEWS_SIDE, .side = &key, .session = session });
}

static void tell_job(struct mem_shared *s, const struct job_record *j, uint64_t session)
{
	struct record_key key = { .kind = RECORD_JOB, .id = j->kind, .more = j->ino, .key = j->key };

	tell(s, &(struct news){ .kind = NEWS_SIDE, .side = &key, .session = session });
}

/* What is in the trash, and beside the files. */
static void tell_beside(struct mem_shared *s, const struct write *w, uint64_t session)
{
	switch (w->kind) {
	case WRITE_TRASH:
	case WRITE_UNTRASH:
	case WRITE_PURGE:
		tell_side(s, RECORD_NODE, w->ino, 0, session);
		break;
	case WRITE_VERSION_PUT:
	case WRITE_VERSION_DELETE:
		tell_side(s, RECORD_VERSION, w->version->ino, w->version->data, session);
		break;
	case WRITE_SLICES_PUT:
	case WRITE_SLICES_DELETE:
		for (uint32_t i = 0; i < write_records(w); i++)
			tell_side(s, RECORD_SLICES, w->slices[i].ino, w->slices[i].id, session);
		break;
	case WRITE_DROPPED_PUT:
	case WRITE_DROPPED_DELETE:
		for (uint32_t i = 0; i < write_records(w); i++)
			if (w->dropped[i].id) /* a new number is not known here */
				tell_side(s, RECORD_DROPPED, w->dropped[i].id, 0, session);
		break;
	case WRITE_JOB_PUT:
	case WRITE_JOB_DELETE:
		tell_job(s, w->job, session);
		break;
	default:
		break;
	}
}

static void tell_write(struct mem_shared *s, const struct write *w, uint64_t session)
{
	tell_beside(s, w, session);
	switch (w->kind) {
	case WRITE_INSERT:
	case WRITE_EDIT:
	case WRITE_DELETE:
	case WRITE_RENAME:
	case WRITE_TRASH:
	case WRITE_UNTRASH:
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_DELETE:
	case WRITE_ALIAS_RENAME:
		tell_record(s, w->ino, session, w->kind != WRITE_EDIT || (w->mask & EDIT_XATTRS));
		break;
	case WRITE_CELL_PUT:
		tell(s, &(struct news){ .kind = NEWS_CELL, .cell = w->cell->name, .session = session,
					.ver = w->cell->blob.size ? w->cell->token : 0 });
		break;
	case WRITE_SESSION_PUT:
	case WRITE_SESSION_DELETE:
		tell(s, &(struct news){ .kind = NEWS_SESSION, .ino = w->session->id, .session = session });
		break;
	default:
		break;
	}
}

void mem_news_tell(struct mem_shared *s, const struct change *c)
{
	for (unsigned int i = 0; i < c->n_writes; i++)
		tell_write(s, &c->writes[i], c->id.session);
	for (unsigned int i = 0; i < c->n_touches; i++)
		tell_record(s, c->touches[i].dir, c->id.session, false);
}

int mem_news_watch(struct mem_shared *s, struct engine *e, engine_news_fn fn, void *arg)
{
	struct mem_watcher *at = NULL;
	MFS_GUARD(&s->watch_lock);

	for (size_t i = 0; i < MEM_WATCHERS; i++)
		if (s->watchers[i].e == e)
			at = &s->watchers[i];
	for (size_t i = 0; !at && fn && i < MEM_WATCHERS; i++)
		if (!s->watchers[i].e)
			at = &s->watchers[i];
	if (!at)
		return fn ? -ENFILE : 0;
	*at = (struct mem_watcher){ .e = fn ? e : NULL, .fn = fn, .arg = arg };
	return 0;
}

int64_t mem_news_last_beat(struct mem_shared *s, struct engine *e)
{
	MFS_GUARD(&s->watch_lock);

	for (size_t i = 0; i < MEM_WATCHERS; i++)
		if (s->watchers[i].e == e)
			return s->watchers[i].muted ? s->watchers[i].muted_at : mfs_mono_ns();
	return 0;
}

void mem_news_mute(struct mem_shared *s, struct engine *e, bool muted)
{
	MFS_GUARD(&s->watch_lock);

	for (size_t i = 0; i < MEM_WATCHERS; i++) {
		struct mem_watcher *w = &s->watchers[i];

		if (w->e != e || w->muted == muted)
			continue;
		w->muted = muted;
		if (muted)
			w->muted_at = mfs_mono_ns();
		else if (w->missed)
			w->fn(w->arg, &(struct news){ .kind = NEWS_LOST });
		w->missed = false;
	}
}
