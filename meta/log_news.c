/*
 * Notes made of news, where others change the index too: as meta/log_engine.h says.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "meta/log_internal.h"
#include "meta/shared.h"

#define NEWS_WAIT_NS (10 * MFS_NSEC_PER_SEC)

static void lose_locked(struct log_engine *l) MFS_REQUIRES(l->lock)
{
	log_set_release(&l->notes);
	log_set_release(&l->begun);
	l->notes = l->begun = (struct log_key_set){ 0 };
	l->has_begun = l->whole = false;
	l->lost = true;
}

static void log_cell_locked(struct log_engine *l, uint64_t token) MFS_REQUIRES(l->lock)
{
	switch (token % LOG_CELL_PHASES) {
	case LOG_CELL_BEGINS:
		log_set_move(&l->begun, &l->notes);
		l->has_begun = true;
		break;
	case LOG_CELL_STORED:
		log_set_release(&l->begun);
		l->begun = (struct log_key_set){ 0 };
		l->whole |= l->has_begun;
		break;
	default:
		break;
	}
}

/* locks, leases: of this moment only */
bool log_note_cell(struct log_key_set *s, const char *name)
{
	struct record_key k = { .kind = RECORD_CELL, .key = (char *)(uintptr_t)name };
	bool is_logged = mfs_str_starts(name, SHARED_PREFIX) || mfs_str_starts(name, "schemas/");

	if (is_logged)
		log_set_add(s, &k);
	return is_logged;
}

/* Into the notes. False: nothing that is logged. */
static bool note_news_locked(struct log_engine *l, const struct news *n) MFS_REQUIRES(l->lock)
{
	switch (n->kind) {
	case NEWS_RECORD:
		log_set_add_number(&l->notes, RECORD_NODE, n->ino, 0);
		return true;
	case NEWS_ALIAS:
		log_set_add_number(&l->notes, RECORD_ALIAS, n->ino, 0);
		return true;
	case NEWS_GONE: /* it is not said which of the two it was */
		log_set_add_number(&l->notes, RECORD_NODE, n->ino, 0);
		log_set_add_number(&l->notes, RECORD_ALIAS, n->ino, 0);
		return true;
	case NEWS_SIDE:
		log_set_add(&l->notes, n->side);
		return true;
	case NEWS_SESSION: /* goes along with the next change */
		log_set_add_number(&l->notes, RECORD_SESSION, n->ino, 0);
		return false;
	case NEWS_CELL:
		if (strcmp(n->cell, LOG_CELL) != 0)
			return log_note_cell(&l->notes, n->cell);
		log_cell_locked(l, n->ver);
		return false;
	case NEWS_LOST:
		lose_locked(l);
		return false;
	}
	return false;
}

void log_news(void *arg, const struct news *n)
{
	struct log_engine *l = arg;
	void (*wake)(void *arg) = NULL;
	engine_news_fn fn = NULL;
	void *wake_arg = NULL, *fn_arg = NULL;

	{
		MFS_GUARD(&l->lock);

		if (!n->hint && note_news_locked(l, n)) { /* a hint will be told again */
			if (l->notes.since == 0)
				l->notes.since = mfs_now_ns();
			if (++l->notes.changes == l->wake_at) {
				wake = l->wake;
				wake_arg = l->wake_arg;
			}
		}
		if (l->notes.overflow || l->begun.overflow)
			lose_locked(l);
		if (l->news_fn && n->kind != NEWS_SIDE) {
			fn = l->news_fn;
			fn_arg = l->news_arg;
			l->news_calls++;
		}
	}
	if (wake)
		wake(wake_arg);
	if (!fn)
		return;
	fn(fn_arg, n);
	MFS_GUARD(&l->lock);
	if (--l->news_calls == 0)
		pthread_cond_broadcast(&l->drained);
}

bool log_engine_is_whole(struct engine *e)
{
	struct log_engine *l = log_of(e);
	MFS_GUARD(&l->lock);

	return l->whole;
}

bool log_engine_trust(struct engine *e)
{
	struct log_engine *l = log_of(e);
	MFS_GUARD(&l->lock);

	l->whole |= !l->lost;
	return l->whole;
}

/* All that was changed before this moment is to be told. */
static int wait_told(struct log_engine *l, struct op_ctx *op)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	int64_t now = mfs_mono_ns();

	while (engine_last_beat(l->inner) < now) {
		if (op && atomic_load(&op->cancelled))
			return -ECANCELED;
		if (mfs_mono_ns() - now > NEWS_WAIT_NS)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int log_cut_by_news(struct log_engine *l, struct op_ctx *op, struct log_cut *ret)
{
	struct log_key_set s = { 0 };
	int r;

	ret->at = mfs_now_ns();
	r = engine_snapshot(l->inner, op, &ret->snapshot);
	if (r == 0)
		r = wait_told(l, op);
	if (r < 0) {
		engine_free(MFS_TAKE(ret->snapshot));
		return r;
	}
	{
		MFS_GUARD(&l->lock);

		log_set_copy(&s, &l->begun);
		log_set_copy(&s, &l->notes);
		s.overflow |= !l->whole;
	}
	log_set_give(&s, ret);
	ret->dropped_from = UINT64_MAX; /* their numbers come with the news */
	return 0;
}
