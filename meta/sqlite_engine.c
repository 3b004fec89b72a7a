/*
 * The sqlite engine: the embedded default. One connection writes, under a lock; a few read, each lent to one call at
 * a time; a thread does checkpoints (sqlite_wal.c). Every change is one transaction.
 *
 *   sqlite_sql.c     the schema and every statement        sqlite_row.c    struct node <-> row
 *   sqlite_conn.c    a connection, errors                  sqlite_write.c  the writes of a change
 *   sqlite_schema.c  recognise, make, verify the database  sqlite_side.c   side collections
 *   sqlite_wal.c     durability, checkpoints               sqlite_vfs.c    one write to the log per commit
 *   sqlite_open.c    open, close, snapshots                sqlite_sums.c   how many files, how many bytes
 *
 * Numbers (reserve) are never given twice, also after a power loss: a transaction that uses a number comes after the
 * one that reserved it in the log, so wherever the first is on the disk, the second is. A number whose reservation
 * was lost was used by no change that survived, and may be given again.
 *
 * The outcome of a change is always known here (never -ECOMM): a COMMIT that fails has not been seen by anybody, and
 * is rolled back. A failed sync after it is another matter; see sqlite_wal.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "meta/sqlite_engine.h"
#include "meta/sqlite_tags.h"

/* Readers. */

int sqlite_reader_get(struct sqlite_engine *s, struct op_ctx *op, struct sqlite_conn **ret)
{
	struct sqlite_conn *c;
	int r = 0;

	{
		MFS_GUARD(&s->pool_lock);
		while (s->n_free == 0)
			pthread_cond_wait(&s->pool_free, &s->pool_lock.m);
		/* The last one returned: its cache is warm, and those never needed are never opened. */
		c = s->free[--s->n_free];
	}
	if (!c->db) {
		r = conn_open(c, s->path, s->reader_vfs, s->reader_flags, s->reader_cache);
		if (r == 0)
			r = conn_prepare(c, SQL_GET, SQL_LIST + 1);
		if (r == -EUCLEAN || r == -EBUSY)
			r = -EIO; /* what is wrong with it now is not for the opener of the engine */
	}
	c->op = op;
	*ret = c;
	return r;
}

void sqlite_reader_put(struct sqlite_lent *l)
{
	if (!l->c)
		return;
	MFS_GUARD(&l->s->pool_lock);
	l->s->free[l->s->n_free++] = l->c;
	pthread_cond_signal(&l->s->pool_free);
}

static int sqlite_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : sqlite_load(c, ino, ret);
}

static int sqlite_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
			 struct entry *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);
	CONN_STMT(st);
	uint64_t alias;

	if (r == 0)
		r = conn_stmt(c, SQL_LOOKUP, &st);
	if (r < 0)
		return r;
	bind_u64(st, 1, parent);
	row_bind_name(st, 2, name);
	r = conn_step(c, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	alias = column_u64(st, COL_ENTRY_ID - 1);
	r = row_read(c, st, &ret->node);
	if (r < 0)
		return r;
	ret->id = alias ? alias : ret->node.attr.ino;
	ret->parent = parent;
	ret->name = *name;
	ret->pos = alias ? alias : ret->node.pos;
	return 0;
}

static int sqlite_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		       struct node_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);
	CONN_STMT(st);

	if (r == 0)
		r = conn_stmt(c, SQL_LIST, &st);
	if (r < 0 || after > INT64_MAX)
		return r;
	bind_u64(st, 1, parent);
	bind_u64(st, 2, after);
	bind_u64(st, 3, limit);
	while ((r = conn_step(c, st)) > 0) {
		struct node *n = node_list_add(ret);

		if (!n)
			return -ENOMEM;
		r = row_read_attr(st, n);
		if (r < 0)
			return r;
	}
	return r;
}

static int sqlite_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);
	CONN_STMT(st);
	int n = 0;

	if (r == 0)
		r = conn_stmt(c, SQL_ALIASES, &st);
	if (r < 0)
		return r;
	bind_u64(st, 1, target);
	while ((r = conn_step(c, st)) > 0) {
		if ((size_t)n < max) {
			ret[n] = (struct alias){ .id = column_u64(st, 0),
						 .parent = column_u64(st, 1),
						 .target = target };
			r = row_get_name(st, 2, &ret[n].name);
			if (r < 0)
				return r;
		}
		n++;
	}
	return r < 0 ? r : n;
}

static enum sql_id query_sql(const struct query *q)
{
	if (q->todo_before)
		return SQL_QUERY_FILES_TODO_BEFORE;
	if (q->labelled)
		return q->trash ? SQL_QUERY_TRASH_LABEL : SQL_QUERY_FILES_LABEL;
	if (q->acl)
		return q->trash ? SQL_QUERY_TRASH_ACL : SQL_QUERY_FILES_ACL;
	if (q->trash)
		return q->key ? SQL_QUERY_TRASH_KEY : SQL_QUERY_TRASH;
	if (q->key)
		return SQL_QUERY_FILES_KEY;
	return q->todo ? SQL_QUERY_FILES_TODO : SQL_QUERY_FILES;
}

static int sqlite_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);
	CONN_STMT(st);
	int n_params;

	if (r == 0)
		r = conn_stmt(c, query_sql(q), &st);
	if (r < 0 || q->after > INT64_MAX)
		return r;
	n_params = sqlite3_bind_parameter_count(st);
	bind_u64(st, 1, q->todo_before ? (uint64_t)q->todo_before : q->after);
	bind_u64(st, 2, q->limit);
	if (n_params >= 4) {
		row_bind_string(st, 3, q->key);
		row_bind_string(st, 4, q->key_bucket);
	}
	if (n_params >= 5)
		bind_i64(st, 5, q->todo);
	while ((r = conn_step(c, st)) > 0) {
		struct node *n = node_list_add(ret);

		if (!n)
			return -ENOMEM;
		r = q->attr_only ? row_read_attr(st, n) : row_read(c, st, n);
		if (r < 0)
			return r;
		if (q->attr_only && q->trash)
			n->attr.flags |= ATTR_IN_TRASH;
	}
	return r;
}

static int find_page(struct sqlite_conn *c, const struct expr_term *t, mfs_ino_t after, size_t limit, struct node_list *ret)
{
	MFS_AUTOFREE mfs_ino_t *inos = calloc(limit, sizeof(*inos));
	struct ino_page page = { .v = inos };
	int r = inos ? tags_find(c, t, after, limit, &page) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < page.n; i++) {
		struct node *n = node_list_add(ret);

		r = n ? sqlite_load_lean(c, page.v[i], n) : -ENOMEM;
		if (r == 0)
			node_drop_content(n);
	}
	return r;
}

/* In one read transaction: a page that is short for want of a record that went meanwhile would say that it is the last. */
static int sqlite_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		       struct node_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);
	bool own;

	if (r < 0 || after > INT64_MAX)
		return r;
	own = sqlite3_get_autocommit(c->db); /* a snapshot's connection is in one already */
	if (own)
		r = conn_exec_text(c, "BEGIN");
	if (r == 0)
		r = find_page(c, t, after, limit, ret);
	if (own)
		conn_rollback(c);
	return r;
}

static uint64_t sqlite_rows(struct engine *e, struct op_ctx *op, const struct expr_term *t)
{
	uint64_t rows = EXPR_ROWS_MAX;
	WITH_READER(sqlite_engine_of(e), op, c, r);

	/* Only a plan hangs on it: what fails here fails again where it is told. */
	return r == 0 && tags_rows(c, t, &rows) == 0 ? rows : EXPR_ROWS_MAX;
}

static int sqlite_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
			    size_t limit, struct blob_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : tags_names(c, name, after, after_len, limit, ret);
}

/* Changes. */

static int begin(struct sqlite_engine *s, struct op_ctx *op)
{
	if (s->readonly)
		return -EROFS;
	if (wal_is_broken(&s->wal))
		return -EIO;
	s->writer.op = op;
	return conn_exec(&s->writer, SQL_BEGIN);
}

/* Commit when r is 0, else take it back. The error that led here goes on. */
static int end(struct sqlite_engine *s, int r, uint64_t *ret_number)
{
	if (r == 0) {
		s->vfs.defer_sync = true;
		r = conn_exec(&s->writer, SQL_COMMIT);
		s->vfs.defer_sync = false;
	}
	if (r < 0)
		conn_rollback(&s->writer);
	else
		*ret_number = wal_committed(&s->wal);
	s->writer.op = NULL;
	return r;
}

/* Rule M2. Sets *ret_ring for a change that has an id. 1: applied before; 0: not; -EIO: too long ago to know. */
static int seen_before(struct sqlite_engine *s, const struct change *change, struct op_ring **ret_ring)
{
	int seen;

	if (change->id.session == 0)
		return 0;
	*ret_ring = op_ring_of(&s->rings, change->id.session);
	if (!*ret_ring)
		return -ENOMEM;
	seen = change->retry ? op_ring_seen(*ret_ring, change->id.number) : 0;
	if (seen >= 0)
		return seen;
	mfs_log(MFS_LOG_META, MFS_LOG_ERR, s->writer.op,
		"index=%s session=%" PRIx64 " change=%" PRIu64 " was sent too long ago to know its outcome", s->path,
		change->id.session, change->id.number);
	return -EIO;
}

static int apply_locked(struct sqlite_engine *s, struct op_ctx *op, const struct change *change, uint64_t *ret_number)
{
	struct sqlite_delta delta = { 0 };
	struct op_ring *ring = NULL;
	int r = seen_before(s, change, &ring);

	if (r > 0) {
		*ret_number = wal_latest(&s->wal);
		return sqlite_ret_attrs_again(&s->writer, change);
	}
	if (r == 0)
		r = begin(s, op);
	if (r < 0)
		return r;
	r = end(s, sqlite_write_change(&s->writer, change, &delta), ret_number);
	if (r < 0)
		return r;
	s->sums.files += delta.files;
	s->sums.bytes += delta.bytes;
	s->sums.todo += delta.todo;
	s->sums.todo_inline += delta.todo_inline;
	if (ring)
		op_ring_remember(ring, change->id.number);
	return 0;
}

static int sqlite_apply(struct engine *e, struct op_ctx *op, struct change *change)
{
	struct sqlite_engine *s = sqlite_engine_of(e);
	uint64_t number = 0;
	int r;

	if (s->readonly)
		return -EROFS;
	{
		MFS_GUARD(&s->write_lock);
		r = apply_locked(s, op, change, &number);
	}
	return r == 0 && change->durable ? wal_sync(&s->wal, number) : r;
}

static int sqlite_sync(struct engine *e, struct op_ctx *op)
{
	struct sqlite_engine *s = sqlite_engine_of(e);

	(void)op;
	return s->readonly ? 0 : wal_sync(&s->wal, wal_latest(&s->wal));
}

static int sqlite_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	struct sqlite_engine *s = sqlite_engine_of(e);
	uint64_t first = 0, number = 0;
	int r;
	MFS_GUARD(&s->write_lock);

	r = begin(s, op);
	if (r < 0)
		return r;
	r = end(s, sqlite_reserve_numbers(&s->writer, count, &first), &number);
	if (r == 0)
		*ret_first = first;
	return r;
}

/* The root directory, unless there is one. */
static int put_root(struct sqlite_engine *s, struct op_ctx *op)
{
	struct node root = NODE_INIT;
	struct write w = { .kind = WRITE_INSERT, .ino = MFS_ROOT_INO, .node = &root };
	struct sqlite_delta delta = { 0 };
	int r;

	root.attr = (struct mfs_attr){ .ino = MFS_ROOT_INO, .ver = 1, .mode = 0040755, .nlink = 1 };
	root.attr.uid = op ? op->uid : 0;
	root.attr.gid = op ? op->gid : 0;
	root.attr.atime = root.attr.mtime = root.attr.ctime = root.attr.btime = mfs_now_ns();
	r = sqlite_insert_node(&s->writer, &w, &delta);
	s->counted = false;
	return r == -EEXIST ? 0 : r;
}

static int sqlite_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v)
{
	struct sqlite_engine *s = sqlite_engine_of(e);
	uint64_t number = 0;
	int r;

	{
		MFS_GUARD(&s->write_lock);
		r = begin(s, op);
		if (r < 0)
			return r;
		r = side_volume_put(&s->writer, v);
		if (r == 0)
			r = put_root(s, op);
		r = end(s, r, &number);
	}
	return r < 0 ? r : wal_sync(&s->wal, number);
}

/* Side collections. */

static int sqlite_versions_by_path(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_versions_by_path(c, path, ret);
}

static int sqlite_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_versions_by_ino(c, ino, ret);
}

static int sqlite_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit,
				   struct version_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_versions_expired(c, now, limit, ret);
}

static int sqlite_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data,
			       size_t limit, struct version_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_versions_all(c, after_ino, after_data, limit, ret);
}

static int sqlite_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_trash_by_path(c, path, ret);
}

static int sqlite_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit,
			       struct node_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_trash_before(c, before, limit, ret);
}

static int sqlite_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
			  struct dropped_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	if (r < 0 || after_id > INT64_MAX)
		return r;
	return side_dropped(c, before, after_id, limit, ret);
}

static int sqlite_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_jobs(c, due_before, limit, ret);
}

static int sqlite_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_jobs_count(c, ret);
}

static int sqlite_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_sessions(c, ret);
}

static int sqlite_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_next_number(c, ret);
}

static int sqlite_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret, size_t max)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	if (r < 0 || after_id > INT64_MAX)
		return r;
	return side_aliases_all(c, after_id, ret, max);
}

static int sqlite_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
			    struct job_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_jobs_from(c, from, limit, ret);
}

static int sqlite_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_slices_get(c, ino, id, ret);
}

static int sqlite_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id,
			     size_t limit, struct slices_doc_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_slices_all(c, after_ino, after_id, limit, ret);
}

static int sqlite_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_cell_get(c, name, ret);
}

static int sqlite_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
			struct cell_list *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_cells(c, prefix, after, limit, ret);
}

static int sqlite_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : side_volume_get(c, ret);
}

static int sqlite_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text), void *arg)
{
	WITH_READER(sqlite_engine_of(e), op, c, r);

	return r < 0 ? r : schema_verify(c, report, arg);
}

const struct engine_ops sqlite_ops = {
	.name = "sqlite",
	.caps = ENGINE_SINGLE_MOUNT,
	.free = sqlite_free,
	.get = sqlite_get,
	.lookup = sqlite_lookup,
	.list = sqlite_list,
	.aliases = sqlite_aliases,
	.query = sqlite_query,
	.indexes = SQLITE_INDEXES,
	.find = sqlite_find,
	.rows = sqlite_rows,
	.tag_names = sqlite_tag_names,
	.apply = sqlite_apply,
	.sync = sqlite_sync,
	.reserve = sqlite_reserve,
	.versions_by_path = sqlite_versions_by_path,
	.versions_by_ino = sqlite_versions_by_ino,
	.versions_expired = sqlite_versions_expired,
	.versions_all = sqlite_versions_all,
	.trash_by_path = sqlite_trash_by_path,
	.trash_before = sqlite_trash_before,
	.dropped = sqlite_dropped,
	.jobs = sqlite_jobs,
	.jobs_count = sqlite_jobs_count,
	.sessions = sqlite_sessions,
	.slices_get = sqlite_slices_get,
	.slices_all = sqlite_slices_all,
	.todo_count = sqlite_todo_count,
	.snapshot = sqlite_snapshot,
	.next_number = sqlite_next_number,
	.aliases_all = sqlite_aliases_all,
	.jobs_from = sqlite_jobs_from,
	.cell_get = sqlite_cell_get,
	.cells = sqlite_cells,
	.volume_get = sqlite_volume_get,
	.volume_put = sqlite_volume_put,
	.check = sqlite_check,
	.count = sqlite_count,
};

