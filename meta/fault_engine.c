/*
 * The fault layer, for tests: passes every call on to the engine below, but lets the nth fail, or lets the reply of
 * the nth apply get lost.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "meta/engine.h"

struct fault_engine {
	struct engine base; /* first */
	struct engine_ops ops; /* with what the inner one has an index of */
	struct engine *inner;
	struct fault_plan plan;
	atomic_uint calls, hits;
};

static struct fault_engine *fault_of(struct engine *e)
{
	return mfs_container_of(e, struct fault_engine, base);
}

/* Count a call; is it the one? */
static bool is_nth(struct fault_engine *f)
{
	bool hit = atomic_fetch_add(&f->calls, 1) + 1 == f->plan.nth;

	atomic_fetch_add(&f->hits, hit);
	return hit;
}

/* Of every call but apply when applies are what is counted. */
static bool fails(struct fault_engine *f)
{
	return !f->plan.drop_reply && !f->plan.fail_after && is_nth(f);
}

/* The layers' own ops are called, not the dispatch: the outermost dispatch has checked, and sends again. */
#define PASS(name, ...)                                                 \
	struct fault_engine *f = fault_of(e);                           \
                                                                        \
	if (fails(f))                                                   \
		return -f->plan.err;                                    \
	return f->inner->ops->name(f->inner, __VA_ARGS__)

static int fault_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	PASS(get, op, ino, ret);
}

static int fault_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
			struct entry *ret)
{
	PASS(lookup, op, parent, name, ret);
}

static int fault_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		      struct node_list *ret)
{
	PASS(list, op, parent, after, limit, ret);
}

static int fault_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max)
{
	PASS(aliases, op, target, ret, max);
}

static int fault_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret)
{
	PASS(query, op, q, ret);
}

static int fault_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	struct fault_engine *f = fault_of(e);
	bool hit = is_nth(f);
	int r;

	if (hit && !f->plan.drop_reply && !f->plan.fail_after)
		return -f->plan.err;
	r = f->inner->ops->apply(f->inner, op, c);
	if (!hit)
		return r;
	if (f->plan.fail_after)
		return -f->plan.err;
	if (f->plan.before_readback)
		f->plan.before_readback(f->plan.arg);
	return -ECOMM;
}

static int fault_sync(struct engine *e, struct op_ctx *op)
{
	PASS(sync, op);
}

static int fault_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	PASS(reserve, op, count, ret_first);
}

static int fault_versions_by_path(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret)
{
	PASS(versions_by_path, op, path, ret);
}

static int fault_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	PASS(versions_by_ino, op, ino, ret);
}

static int fault_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit,
				  struct version_list *ret)
{
	PASS(versions_expired, op, now, limit, ret);
}

static int fault_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data,
			      size_t limit, struct version_list *ret)
{
	PASS(versions_all, op, after_ino, after_data, limit, ret);
}

static int fault_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	PASS(trash_by_path, op, path, ret);
}

static int fault_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit,
			      struct node_list *ret)
{
	PASS(trash_before, op, before, limit, ret);
}

static int fault_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
			 struct dropped_list *ret)
{
	PASS(dropped, op, before, after_id, limit, ret);
}

static int fault_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret)
{
	PASS(jobs, op, due_before, limit, ret);
}

static int fault_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	PASS(jobs_count, op, ret);
}

static int fault_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	PASS(slices_get, op, ino, id, ret);
}

static int fault_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
			    struct slices_doc_list *ret)
{
	PASS(slices_all, op, after_ino, after_id, limit, ret);
}

static int fault_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes)
{
	PASS(todo_count, op, ret_records, ret_inline_bytes);
}

static int fault_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	PASS(sessions, op, ret);
}

static int fault_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret)
{
	PASS(snapshot, op, ret);
}

static int fault_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	PASS(next_number, op, ret);
}

static int fault_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret, size_t max)
{
	PASS(aliases_all, op, after_id, ret, max);
}

static int fault_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
			   struct job_list *ret)
{
	PASS(jobs_from, op, from, limit, ret);
}

static int fault_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		    struct node_list *ret)
{
	struct fault_engine *f = fault_of(e);

	return fails(f) ? -f->plan.err : engine_find(f->inner, op, t, after, limit, ret);
}

static int fault_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
			 size_t limit, struct blob_list *ret)
{
	struct fault_engine *f = fault_of(e);

	return fails(f) ? -f->plan.err : engine_tag_names(f->inner, op, name, after, after_len, limit, ret);
}

static int fault_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	struct fault_engine *f = fault_of(e);

	return fails(f) ? -f->plan.err : engine_cell_get(f->inner, op, name, ret);
}

static int fault_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
		     struct cell_list *ret)
{
	struct fault_engine *f = fault_of(e);

	return fails(f) ? -f->plan.err : engine_cells(f->inner, op, prefix, after, limit, ret);
}

static int fault_watch(struct engine *e, engine_news_fn fn, void *arg)
{
	return engine_watch(fault_of(e)->inner, fn, arg);
}

static int64_t fault_last_beat(struct engine *e)
{
	return engine_last_beat(fault_of(e)->inner);
}

static int fault_epoch(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32])
{
	struct fault_engine *f = fault_of(e);

	return fails(f) ? -f->plan.err : engine_epoch(f->inner, op, begin, ret, secret);
}

static int fault_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret)
{
	PASS(volume_get, op, ret);
}

static int fault_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v)
{
	PASS(volume_put, op, v);
}

static int fault_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text), void *arg)
{
	PASS(check, op, report, arg);
}

static int fault_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes)
{
	PASS(count, op, ret_files, ret_bytes);
}

static void fault_free(struct engine *e)
{
	struct fault_engine *f = fault_of(e);

	engine_free(f->inner);
	free(f);
}

static const struct engine_ops fault_ops = {
	.name = "fault",
	.free = fault_free,
	.get = fault_get,
	.lookup = fault_lookup,
	.list = fault_list,
	.aliases = fault_aliases,
	.query = fault_query,
	.apply = fault_apply,
	.sync = fault_sync,
	.reserve = fault_reserve,
	.versions_by_path = fault_versions_by_path,
	.versions_by_ino = fault_versions_by_ino,
	.versions_expired = fault_versions_expired,
	.versions_all = fault_versions_all,
	.trash_by_path = fault_trash_by_path,
	.trash_before = fault_trash_before,
	.dropped = fault_dropped,
	.jobs = fault_jobs,
	.jobs_count = fault_jobs_count,
	.sessions = fault_sessions,
	.slices_get = fault_slices_get,
	.slices_all = fault_slices_all,
	.todo_count = fault_todo_count,
	.snapshot = fault_snapshot,
	.next_number = fault_next_number,
	.aliases_all = fault_aliases_all,
	.jobs_from = fault_jobs_from,
	.find = fault_find,
	.tag_names = fault_tag_names,
	.cell_get = fault_cell_get,
	.cells = fault_cells,
	.watch = fault_watch,
	.last_beat = fault_last_beat,
	.epoch = fault_epoch,
	.volume_get = fault_volume_get,
	.volume_put = fault_volume_put,
	.check = fault_check,
	.count = fault_count,
};

int fault_engine_new(struct engine *inner, const struct fault_plan *plan, struct engine **ret)
{
	struct fault_engine *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->ops = fault_ops;
	f->ops.indexes = engine_indexes(inner);
	f->base.ops = &f->ops;
	/* Whose changes these are goes on to be so. */
	f->base.session = inner->session;
	f->base.next_number = inner->next_number;
	f->inner = inner;
	f->plan = *plan;
	*ret = &f->base;
	return 0;
}

unsigned int fault_engine_calls(const struct engine *e)
{
	const struct fault_engine *f = (const void *)e; /* base is first */

	return atomic_load(&f->calls);
}

unsigned int fault_engine_hits(const struct engine *e)
{
	const struct fault_engine *f = (const void *)e; /* base is first */

	return atomic_load(&f->hits);
}
