/*
 * rebuild from beginning to end, and what it says.
 */
#include "fs/rebuild.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "fs/rebuild_internal.h"

#define PROGRESS_EACH 1024

void rebuild_found(struct rebuild *b, const char *what, const char *path)
{
	if (b->opt->found)
		b->opt->found(b->opt->arg, what, path);
}

bool rebuild_is_younger(const struct rebuild *b, const struct object_info *info)
{
	if (b->end.session)
		return info->session > b->end.session || (info->session == b->end.session && info->op >= b->end.next_op);
	for (size_t i = 0; i < b->sessions.n; i++)
		if (b->sessions.v[i].id == info->session)
			return !b->sessions.v[i].closed;
	return info->session >= b->end.next_ino; /* else it ended so long ago that it was forgotten */
}

void rebuild_progress(struct rebuild *b, const char *what, uint64_t done)
{
	if (b->opt->progress && done % PROGRESS_EACH == 0)
		b->opt->progress(b->opt->arg, what, done);
}

/* Objects that it copies are a session's like all others; the log that is there does not go on behind it. */
static int write_session(struct rebuild *b)
{
	char host[] = "rebuild", none[] = "";
	struct session_record s = { .id = b->session,
				    .host = host,
				    .mountpoint = none,
				    .pid = (uint32_t)getpid(),
				    .started = b->now,
				    .heartbeat = b->now,
				    .closed = b->now };
	struct change c = { 0 };

	change_write(&c, WRITE_SESSION_PUT, b->session)->session = &s;
	return engine_apply(b->s->engine, b->op, &c);
}

/* Numbers of objects in the store are taken, whether the index knows their files or not. */
static int see_number(void *arg, const char *key, const struct object_info *info)
{
	uint64_t *highest = arg;

	(void)key;
	if (info->own)
		*highest = MFS_MAX(*highest, MFS_MAX(info->ino, info->session));
	return 0;
}

static int reserve_numbers(struct rebuild *b)
{
	uint64_t highest = 0, next = 0, first;
	int r = object_list_versions(b->s->store, b->op, NULL, see_number, &highest);

	if (r == 0)
		r = engine_next_number(b->s->engine, b->op, &next);
	while (r == 0 && highest < INT64_MAX && next <= highest) {
		uint64_t count = MFS_MIN(highest + 1 - next, UINT64_C(1) << 30);

		r = engine_reserve(b->s->engine, b->op, (unsigned int)count, &first);
		next += count;
	}
	return r < 0 ? r : engine_reserve(b->s->engine, b->op, 1, &b->session);
}

static void report_fault(void *arg, const char *text)
{
	char **first = arg;

	if (!*first)
		*first = strdup(text);
}

int rebuild_run(struct volume_stage *s, struct op_ctx *op, const struct rebuild_options *opt,
		struct rebuild_result *ret, char **ret_reason)
{
	struct rebuild b = { .s = s, .op = op, .opt = opt, .res = ret, .now = mfs_now_ns(), .next_op = 1 };
	MFS_AUTOFREE char *fault = NULL;
	int r;

	*ret = (struct rebuild_result){ 0 };
	r = rebuild_from_log(&b, ret_reason);
	if (r == 0 && b.res->has_log && !b.end.session)
		r = engine_sessions(s->engine, op, &b.sessions);
	if (r == 0)
		r = reserve_numbers(&b);
	if (r == 0)
		r = rebuild_take_stock(&b);
	if (r == 0)
		r = rebuild_adopt_younger(&b);
	if (r == 0)
		r = write_session(&b);
	if (r == 0)
		r = engine_check(s->engine, op, report_fault, &fault);
	if (r == 0 && fault)
		r = mfs_fail(ret_reason, -EUCLEAN,
			     "the rebuilt index does not fit together (a bug: please report it): %s", fault);
	if (r == 0)
		r = engine_sync(s->engine, op);
	if (r < 0 && !*ret_reason)
		(void)mfs_fail(ret_reason, r, "%s", strerror(-r));
	session_list_release(&b.sessions);
	gc_set_release(&b.present);
	gc_set_release(&b.named);
	gc_set_release(&b.current);
	gc_set_release(&b.shown);
	gc_set_release(&b.adopted);
	return r;
}
