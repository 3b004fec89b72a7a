/*
 * The checked dispatch over engine_ops: arguments in, contract asserted, and the exactly-once resend of apply
 * (rule M2).
 *
 * op->cancelled is deliberately not looked at here: a local filesystem's metadata calls are not interrupted by
 * signals (git and others run with an interval timer and do not expect EINTR from open), and the engines at hand
 * answer in microseconds. An engine that waits for a network checks it where it waits.
 */
#include "meta/engine.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"

#define RESEND_MAX 3
#define LIMIT_MAX  10000

void engine_free(struct engine *e)
{
	if (e)
		e->ops->free(e);
}

void entry_release(struct entry *e)
{
	if (e)
		node_release(&e->node);
}

int engine_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	if (ino == 0)
		return -ESTALE;
	return e->ops->get(e, op, ino, ret);
}

int engine_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
		  struct entry *ret)
{
	if (parent == 0 || name->len == 0)
		return -ENOENT;
	return e->ops->lookup(e, op, parent, name, ret);
}

int engine_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		struct node_list *ret)
{
	if (limit == 0 || limit > LIMIT_MAX)
		return -EINVAL;
	return e->ops->list(e, op, parent, after, limit, ret);
}

int engine_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max)
{
	return e->ops->aliases(e, op, target, ret, max);
}

int engine_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret)
{
	if (q->limit == 0 || q->limit > LIMIT_MAX || ((q->labelled || q->acl) && (q->key || q->todo)) || (q->labelled && q->acl))
		return -EINVAL;
	if (q->todo_before && (!q->todo || q->key || q->trash || q->after))
		return -EINVAL;
	return e->ops->query(e, op, q, ret);
}

uint32_t engine_indexes(const struct engine *e)
{
	return e->ops->find ? e->ops->indexes : 0;
}

int engine_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		struct node_list *ret)
{
	if (limit == 0 || limit > LIMIT_MAX || (t->kind != EXPR_HAS && t->kind != EXPR_COMPARE))
		return -EINVAL;
	if (!(engine_indexes(e) & 1u << t->field))
		return -ENOTSUP;
	return after == UINT64_MAX ? 0 : e->ops->find(e, op, t, after, limit, ret);
}

uint64_t engine_rows(struct engine *e, struct op_ctx *op, const struct expr_term *t)
{
	return e->ops->rows && (engine_indexes(e) & 1u << t->field) ? e->ops->rows(e, op, t) : EXPR_ROWS_MAX;
}

int engine_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
		     size_t limit, struct blob_list *ret)
{
	if (!e->ops->tag_names)
		return -ENOTSUP;
	return limit ? e->ops->tag_names(e, op, name, after, after_len, limit, ret) : -EINVAL;
}

/*
 * A change that failed did nothing, so the number that the dispatch gave it is taken back: a caller that repairs the
 * change and applies the same struct again has a new change with a new number.
 */
int engine_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	bool numbered = c->id.number == 0 && e->session != 0;
	bool retry = c->retry;
	int r = change_validate(c);

	if (r < 0) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, op, "engine=%s malformed change refused (a bug: please report it)",
			e->ops->name);
		return r;
	}
	if (numbered) {
		c->id.session = e->session;
		c->id.number = atomic_fetch_add_explicit(&e->next_number, 1, memory_order_relaxed) + 1;
	}
	for (int i = 0;; i++) {
		r = e->ops->apply(e, op, c);
		if (r != -ECOMM)
			break;
		if (c->id.session == 0 || i == RESEND_MAX) {
			mfs_log(MFS_LOG_META, MFS_LOG_ERR, op,
				"engine=%s session=%" PRIx64 " change=%" PRIu64
				" outcome unknown after %d resends; the answer is EIO",
				e->ops->name, c->id.session, c->id.number, i);
			r = -EIO;
			break;
		}
		c->retry = true;
	}
	c->retry = retry;
	if (r < 0 && numbered)
		c->id = (struct op_id){ 0 };
	return r;
}

int engine_sync(struct engine *e, struct op_ctx *op)
{
	return e->ops->sync(e, op);
}

int engine_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	if (count == 0)
		return -EINVAL;
	return e->ops->reserve(e, op, count, ret_first);
}

int engine_versions_by_path(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret)
{
	return e->ops->versions_by_path(e, op, path, ret);
}

int engine_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	return e->ops->versions_by_ino(e, op, ino, ret);
}

int engine_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit, struct version_list *ret)
{
	return limit ? e->ops->versions_expired(e, op, now, limit, ret) : -EINVAL;
}

int engine_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data, size_t limit,
			struct version_list *ret)
{
	return limit ? e->ops->versions_all(e, op, after_ino, after_data, limit, ret) : -EINVAL;
}

int engine_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	return e->ops->trash_by_path(e, op, path, ret);
}

int engine_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit, struct node_list *ret)
{
	return limit ? e->ops->trash_before(e, op, before, limit, ret) : -EINVAL;
}

int engine_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
		   struct dropped_list *ret)
{
	return limit ? e->ops->dropped(e, op, before, after_id, limit, ret) : -EINVAL;
}

int engine_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret)
{
	return limit ? e->ops->jobs(e, op, due_before, limit, ret) : -EINVAL;
}

int engine_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	return e->ops->jobs_count(e, op, ret);
}

int engine_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	return ino && id ? e->ops->slices_get(e, op, ino, id, ret) : -ENOENT;
}

int engine_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
		      struct slices_doc_list *ret)
{
	return limit ? e->ops->slices_all(e, op, after_ino, after_id, limit, ret) : -EINVAL;
}

int engine_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes)
{
	return e->ops->todo_count(e, op, ret_records, ret_inline_bytes);
}

int engine_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	return e->ops->sessions(e, op, ret);
}

int engine_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret)
{
	return e->ops->snapshot ? e->ops->snapshot(e, op, ret) : -EOPNOTSUPP;
}

int engine_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	return e->ops->next_number(e, op, ret);
}

int engine_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret, size_t max)
{
	return max ? e->ops->aliases_all(e, op, after_id, ret, max) : -EINVAL;
}

int engine_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
		     struct job_list *ret)
{
	return limit ? e->ops->jobs_from(e, op, from, limit, ret) : -EINVAL;
}

int engine_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	return e->ops->cell_get ? e->ops->cell_get(e, op, name, ret) : -ENOTSUP;
}

int engine_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
		 struct cell_list *ret)
{
	if (!e->ops->cells)
		return -ENOTSUP;
	return limit ? e->ops->cells(e, op, prefix, after, limit, ret) : -EINVAL;
}

int engine_watch(struct engine *e, engine_news_fn fn, void *arg)
{
	return e->ops->watch ? e->ops->watch(e, fn, arg) : -ENOTSUP;
}

int64_t engine_last_beat(struct engine *e)
{
	return e->ops->last_beat ? e->ops->last_beat(e) : INT64_MAX;
}

int engine_epoch(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32])
{
	return e->ops->epoch ? e->ops->epoch(e, op, begin, ret, secret) : -ENOTSUP;
}

int engine_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret)
{
	return e->ops->volume_get(e, op, ret);
}

int engine_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v)
{
	return e->ops->volume_put(e, op, v);
}

int engine_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text), void *arg)
{
	return e->ops->check(e, op, report, arg);
}

int engine_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes)
{
	return e->ops->count(e, op, ret_files, ret_bytes);
}
