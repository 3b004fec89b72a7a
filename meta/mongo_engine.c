/*
 * The mongo engine: opening, closing, and its operations, each on a connection of its own with the call's deadline.
 */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "meta/mongo_internal.h"

#define DEADLINE_NS (30 * MFS_NSEC_PER_SEC)
#define POOL_SIZE   32

/* call(c, ...) on a connection; -errno. */
#define ON_CONN(e, op, call)                                                \
	({                                                                  \
		MFS_AUTO(mongo_conn) struct mongo_conn *c = NULL;           \
		int r_ = mongo_conn_get(mongo_of(e), (op), &c);             \
                                                                            \
		r_ < 0 ? r_ : (call);                                       \
	})

static int op_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret)
{
	return mongo_snapshot(mongo_of(e), op, ret);
}

static int op_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	return ON_CONN(e, op, mongo_get(c, ino, ret));
}

static int op_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name, struct entry *ret)
{
	return ON_CONN(e, op, mongo_lookup(c, parent, name, ret));
}

static int op_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit, struct node_list *ret)
{
	return ON_CONN(e, op, mongo_list(c, parent, after, limit, ret));
}

static int op_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max)
{
	return ON_CONN(e, op, mongo_aliases(c, target, ret, max));
}

static int op_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret)
{
	return ON_CONN(e, op, mongo_query(c, q, ret));
}

static int op_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		   struct node_list *ret)
{
	return ON_CONN(e, op, mongo_find_term(c, t, after, limit, ret));
}

/* Only a plan hangs on it: what fails here fails again where it is told. A snapshot has no count with a limit. */
static uint64_t op_rows(struct engine *e, struct op_ctx *op, const struct expr_term *t)
{
	uint64_t rows = EXPR_ROWS_MAX;

	if (mongo_of(e)->own || ON_CONN(e, op, mongo_rows(c, t, &rows)) < 0)
		return EXPR_ROWS_MAX;
	return rows;
}

static int op_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
			size_t limit, struct blob_list *ret)
{
	return ON_CONN(e, op, mongo_tag_names(c, name, after, after_len, limit, ret));
}

static int op_apply(struct engine *e, struct op_ctx *op, struct change *ch)
{
	struct mongo_engine *m = mongo_of(e);

	return m->readonly || m->own ? -EROFS : mongo_apply(e, op, ch);
}

/* Every change that was acknowledged is in the journals of the majority. */
static int op_sync(struct engine *e, struct op_ctx *op)
{
	(void)e;
	(void)op;
	return 0;
}

static int op_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	struct mongo_engine *m = mongo_of(e);

	return m->readonly || m->own ? -EROFS : ON_CONN(e, op, mongo_reserve(c, count, ret_first));
}

static int op_versions_by_path(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret)
{
	return ON_CONN(e, op, mongo_versions_by(c, path, 0, ret));
}

static int op_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	return ON_CONN(e, op, mongo_versions_by(c, NULL, ino, ret));
}

static int op_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit, struct version_list *ret)
{
	return ON_CONN(e, op, mongo_versions_expired(c, now, limit, ret));
}

static int op_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data, size_t limit,
			   struct version_list *ret)
{
	return ON_CONN(e, op, mongo_versions_all(c, after_ino, after_data, limit, ret));
}

static int op_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	return ON_CONN(e, op, mongo_trash_by_path(c, path, ret));
}

static int op_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit, struct node_list *ret)
{
	return ON_CONN(e, op, mongo_trash_before(c, before, limit, ret));
}

static int op_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
		      struct dropped_list *ret)
{
	return ON_CONN(e, op, mongo_dropped(c, before, after_id, limit, ret));
}

static int op_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret)
{
	return ON_CONN(e, op, mongo_jobs(c, due_before, limit, ret));
}

static int op_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	return ON_CONN(e, op, mongo_count(c, MONGO_JOBS, NULL, ret));
}

static int op_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	return ON_CONN(e, op, mongo_sessions(c, ret));
}

static int op_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	return ON_CONN(e, op, mongo_slices_get(c, ino, id, ret));
}

static int op_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
			 struct slices_doc_list *ret)
{
	return ON_CONN(e, op, mongo_slices_all(c, after_ino, after_id, limit, ret));
}

static int op_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes)
{
	return ON_CONN(e, op, mongo_todo_count(c, ret_records, ret_inline_bytes));
}

static int op_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	return ON_CONN(e, op, mongo_next_number(c, ret));
}

static int op_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret, size_t max)
{
	return ON_CONN(e, op, mongo_aliases_all(c, after_id, ret, max));
}

static int op_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit, struct job_list *ret)
{
	return ON_CONN(e, op, mongo_jobs_from(c, from, limit, ret));
}

static int op_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	return ON_CONN(e, op, mongo_cell_get(c, name, ret));
}

static int op_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
		    struct cell_list *ret)
{
	return ON_CONN(e, op, mongo_cells(c, prefix, after, limit, ret));
}

static int op_watch(struct engine *e, engine_news_fn fn, void *arg)
{
	return mongo_of(e)->own ? -ENOTSUP : mongo_watch_set(e, fn, arg);
}

static int64_t op_last_beat(struct engine *e)
{
	return mongo_of(e)->own ? INT64_MAX : mongo_last_beat(e);
}

static int op_epoch(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32])
{
	if (begin && (mongo_of(e)->readonly || mongo_of(e)->own))
		return -EROFS;
	return ON_CONN(e, op, mongo_epoch_get(c, begin, ret, secret));
}

static int op_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret)
{
	return ON_CONN(e, op, mongo_volume_get(c, ret));
}

static int op_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v)
{
	if (mongo_of(e)->readonly || mongo_of(e)->own)
		return -EROFS;
	return ON_CONN(e, op, mongo_volume_put(c, op, v));
}

/* The sums are no fault of the index: they are put right in passing. */
static int op_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text), void *arg)
{
	int r = ON_CONN(e, op, mongo_schema_verify(c, report, arg));

	if (r == 0 && !mongo_of(e)->readonly && !mongo_of(e)->own)
		r = ON_CONN(e, op, mongo_usage_repair(c));
	return r;
}

static int op_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes)
{
	return ON_CONN(e, op, mongo_usage_sum(c, ret_files, ret_bytes));
}

static void op_free(struct engine *e)
{
	struct mongo_engine *m = mongo_of(e);

	if (m->own) {
		mongo_snapshot_free(m);
		return;
	}
	mongo_watch_free(m);
	mongo_apply_free(m);
	mongo_usage_free(m);
	mongo_pool_free(m->pool);
	if (m->uri)
		mongoc_uri_destroy(m->uri);
	free(m->database);
	free(m->where);
	free(m);
}

static const struct engine_ops mongo_ops = {
	.name = "mongo",
	.caps = ENGINE_NEWS,
	.free = op_free,
	.get = op_get,
	.lookup = op_lookup,
	.list = op_list,
	.aliases = op_aliases,
	.query = op_query,
	.indexes = MONGO_INDEXES,
	.find = op_find,
	.rows = op_rows,
	.tag_names = op_tag_names,
	.apply = op_apply,
	.sync = op_sync,
	.reserve = op_reserve,
	.versions_by_path = op_versions_by_path,
	.versions_by_ino = op_versions_by_ino,
	.versions_expired = op_versions_expired,
	.versions_all = op_versions_all,
	.trash_by_path = op_trash_by_path,
	.trash_before = op_trash_before,
	.dropped = op_dropped,
	.jobs = op_jobs,
	.jobs_count = op_jobs_count,
	.sessions = op_sessions,
	.slices_get = op_slices_get,
	.slices_all = op_slices_all,
	.todo_count = op_todo_count,
	.snapshot = op_snapshot,
	.next_number = op_next_number,
	.aliases_all = op_aliases_all,
	.jobs_from = op_jobs_from,
	.cell_get = op_cell_get,
	.cells = op_cells,
	.watch = op_watch,
	.last_beat = op_last_beat,
	.epoch = op_epoch,
	.volume_get = op_volume_get,
	.volume_put = op_volume_put,
	.check = op_check,
	.count = op_count,
};

/* --- opening --- */

static bool database_name_ok(const char *name)
{
	return name && *name && strlen(name) < 64 && !strpbrk(name, "/\\. \"$*<>:|?") && strcmp(name, "admin") != 0 &&
	       strcmp(name, "local") != 0 && strcmp(name, "config") != 0;
}

static int check_schema(struct mongo_engine *m, bool create, char **ret_reason)
{
	MFS_AUTO(mongo_conn) struct mongo_conn *c = NULL;
	int r = mongo_conn_get(m, NULL, &c);

	if (r == 0 && create)
		r = mongo_schema_create(c);
	if (r == 0)
		r = mongo_schema_check(c, ret_reason);
	if (r != -ENOENT || !create)
		return r;
	free(*ret_reason); /* volume_put comes next */
	*ret_reason = NULL;
	return 0;
}

int mongo_engine_open(const struct mongo_options *opt, struct engine **ret, char **ret_reason)
{
	struct mongo_engine *m;
	int r;

	*ret_reason = NULL;
	mongo_library_init();
	if (!database_name_ok(opt->database)) {
		*ret_reason = mfs_str_printf("database = %s can't be the name of a MongoDB database",
					     opt->database ? opt->database : "");
		return -EINVAL;
	}
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->base.ops = &mongo_ops;
	m->deadline_ns = opt->deadline_ns ? opt->deadline_ns : DEADLINE_NS;
	m->readonly = opt->readonly;
	m->database = strdup(opt->database);
	r = m->database ? mongo_uri_open(opt, m->deadline_ns, &m->uri, &m->where, ret_reason) : -ENOMEM;
	if (r == 0)
		r = mongo_pool_new(m, opt->pool_size ? opt->pool_size : POOL_SIZE, &m->pool);
	if (r == 0)
		r = check_schema(m, opt->create, ret_reason);
	if (r == 0)
		r = mongo_usage_init(m);
	if (r == 0)
		r = mongo_apply_init(m);
	if (r == 0)
		r = mongo_watch_init(m);
	if (r < 0) {
		if (!*ret_reason)
			*ret_reason = mfs_str_printf("mongodb %s database %s: %s", m->where ? m->where : "", opt->database,
						     strerror(-r));
		op_free(&m->base);
		return r;
	}
	*ret = &m->base;
	return 0;
}
