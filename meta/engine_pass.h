/*
 * What an engine over another one hands to it as it is: a function for each operation. Included by one file of each such engine, which
 * defines before ENGINE_INNER(e), the engine below.
 */
#ifndef ENGINE_INNER
#error "ENGINE_INNER(e) is to be defined"
#endif

#include "meta/engine.h"

#define PASS(name, ...)                           \
	struct engine *inner_ = ENGINE_INNER(e);  \
                                                  \
	return inner_->ops->name(inner_, __VA_ARGS__)

static inline int pass_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	PASS(get, op, ino, ret);
}

static inline int pass_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
			      struct entry *ret)
{
	PASS(lookup, op, parent, name, ret);
}

static inline int pass_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
			    struct node_list *ret)
{
	PASS(list, op, parent, after, limit, ret);
}

static inline int pass_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max)
{
	PASS(aliases, op, target, ret, max);
}

static inline int pass_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret)
{
	PASS(query, op, q, ret);
}

static inline int pass_sync(struct engine *e, struct op_ctx *op)
{
	PASS(sync, op);
}

static inline int pass_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	PASS(reserve, op, count, ret_first);
}

static inline int pass_versions_by_path(struct engine *e, struct op_ctx *op, const char *path,
					struct version_list *ret)
{
	PASS(versions_by_path, op, path, ret);
}

static inline int pass_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	PASS(versions_by_ino, op, ino, ret);
}

static inline int pass_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit,
					struct version_list *ret)
{
	PASS(versions_expired, op, now, limit, ret);
}

static inline int pass_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data,
				    size_t limit, struct version_list *ret)
{
	PASS(versions_all, op, after_ino, after_data, limit, ret);
}

static inline int pass_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	PASS(trash_by_path, op, path, ret);
}

static inline int pass_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit,
				    struct node_list *ret)
{
	PASS(trash_before, op, before, limit, ret);
}

static inline int pass_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
			       struct dropped_list *ret)
{
	PASS(dropped, op, before, after_id, limit, ret);
}

static inline int pass_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit,
			    struct job_list *ret)
{
	PASS(jobs, op, due_before, limit, ret);
}

static inline int pass_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	PASS(jobs_count, op, ret);
}

static inline int pass_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	PASS(sessions, op, ret);
}

static inline int pass_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id,
				  struct node_blob *ret)
{
	PASS(slices_get, op, ino, id, ret);
}

static inline int pass_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id,
				  size_t limit, struct slices_doc_list *ret)
{
	PASS(slices_all, op, after_ino, after_id, limit, ret);
}

static inline int pass_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records,
				  uint64_t *ret_inline_bytes)
{
	PASS(todo_count, op, ret_records, ret_inline_bytes);
}

static inline int pass_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret)
{
	PASS(snapshot, op, ret);
}

static inline int pass_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	PASS(next_number, op, ret);
}

static inline int pass_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret,
				   size_t max)
{
	PASS(aliases_all, op, after_id, ret, max);
}

static inline int pass_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
				 struct job_list *ret)
{
	PASS(jobs_from, op, from, limit, ret);
}

static inline int pass_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
			    struct node_list *ret)
{
	return engine_find(ENGINE_INNER(e), op, t, after, limit, ret);
}

static inline uint64_t pass_rows(struct engine *e, struct op_ctx *op, const struct expr_term *t)
{
	return engine_rows(ENGINE_INNER(e), op, t);
}

static inline int pass_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
				 size_t limit, struct blob_list *ret)
{
	return engine_tag_names(ENGINE_INNER(e), op, name, after, after_len, limit, ret);
}

static inline int pass_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	return engine_cell_get(ENGINE_INNER(e), op, name, ret);
}

static inline int pass_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
			     struct cell_list *ret)
{
	return engine_cells(ENGINE_INNER(e), op, prefix, after, limit, ret);
}

static inline int64_t pass_last_beat(struct engine *e)
{
	return engine_last_beat(ENGINE_INNER(e));
}

static inline int pass_epoch(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32])
{
	return engine_epoch(ENGINE_INNER(e), op, begin, ret, secret);
}

static inline int pass_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret)
{
	PASS(volume_get, op, ret);
}

static inline int pass_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v)
{
	PASS(volume_put, op, v);
}

static inline int pass_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text),
			     void *arg)
{
	PASS(check, op, report, arg);
}

static inline int pass_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes)
{
	PASS(count, op, ret_files, ret_bytes);
}

/* All but apply, watch and free. What the inner engine has not, this one has not either. */
static inline void engine_pass_ops(struct engine_ops *ops, const struct engine_ops *inner)
{
#define SET(name) ops->name = inner->name ? pass_##name : NULL
	SET(get);
	SET(lookup);
	SET(list);
	SET(aliases);
	SET(query);
	SET(sync);
	SET(reserve);
	SET(versions_by_path);
	SET(versions_by_ino);
	SET(versions_expired);
	SET(versions_all);
	SET(trash_by_path);
	SET(trash_before);
	SET(dropped);
	SET(jobs);
	SET(jobs_count);
	SET(sessions);
	SET(slices_get);
	SET(slices_all);
	SET(todo_count);
	SET(snapshot);
	SET(next_number);
	SET(aliases_all);
	SET(jobs_from);
	SET(find);
	SET(rows);
	SET(tag_names);
	SET(cell_get);
	SET(cells);
	SET(last_beat);
	SET(epoch);
	SET(volume_get);
	SET(volume_put);
	SET(check);
	SET(count);
#undef SET
}

#undef PASS
