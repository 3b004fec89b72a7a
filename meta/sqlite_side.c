/*
 * The side collections of the sqlite engine: their writes, inside the writer's transaction, and their lists.
 */
#include "meta/sqlite_side.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "meta/sqlite_row.h"
#include "meta/sqlite_write.h"

/* Writes. */

static int put_version(struct sqlite_conn *c, const struct version_record *v)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_VERSION_PUT, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, v->ino);
	bind_u64(st, 2, v->data);
	row_bind_string(st, 3, v->path);
	row_bind_ref(st, 4, &v->ref);
	bind_u64(st, 8, v->size);
	bind_u64(st, 9, v->obj_len);
	bind_i64(st, 10, v->mtime);
	bind_i64(st, 11, v->replaced);
	bind_i64(st, 12, v->until);
	bind_i64(st, 13, v->mode);
	bind_i64(st, 14, v->uid);
	bind_i64(st, 15, v->gid);
	bind_i64(st, 16, v->writer);
	row_bind_string(st, 17, v->etag[0] ? v->etag : NULL);
	row_bind_blob(st, 18, &v->slices);
	row_bind_blob(st, 19, &v->inline_data);
	return conn_run(c, st);
}

static int put_dropped(struct sqlite_conn *c, const struct dropped_record *d, uint64_t id)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_DROPPED_PUT, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, id);
	bind_u64(st, 2, d->ino);
	row_bind_ref(st, 3, &d->ref);
	bind_i64(st, 7, d->at);
	bind_u64(st, 8, d->doc_id);
	return conn_run(c, st);
}

/* One reservation for all of them. */
static int put_all_dropped(struct sqlite_conn *c, const struct dropped_record *d, uint32_t n)
{
	uint32_t without = 0;
	uint64_t next = 0;
	int r = 0;

	for (uint32_t i = 0; i < n; i++)
		without += d[i].id == 0;
	if (without)
		r = sqlite_reserve_numbers(c, without, &next);
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = put_dropped(c, &d[i], d[i].id ? d[i].id : next++);
	return r;
}

static int put_slices(struct sqlite_conn *c, const struct slices_doc_record *d)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_SLICES_PUT, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, d->ino);
	bind_u64(st, 2, d->id);
	bind_u64(st, 3, d->session);
	row_bind_blob(st, 4, &d->blob);
	return conn_run(c, st);
}

static int put_all_slices(struct sqlite_conn *c, const struct slices_doc_record *d, uint32_t n)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = put_slices(c, &d[i]);
	return r;
}

/*
 * A token must differ from every earlier one of the same job, also of a job that was done and is queued anew. Chance
 * does that without a counter, which would be one more page in every unlink.
 */
static uint64_t new_token(struct sqlite_conn *c)
{
	uint64_t z;

	if (c->random == 0 && getrandom(&c->random, sizeof(c->random), 0) != (ssize_t)sizeof(c->random))
		c->random = (uint64_t)mfs_now_ns();
	/* splitmix64 */
	z = c->random += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) >> 1;
}

static void bind_job_key(sqlite3_stmt *st, const struct job_record *j)
{
	bind_i64(st, 1, j->kind);
	row_bind_string(st, 2, j->key ? j->key : "");
	bind_u64(st, 3, j->ino);
}

static int put_job(struct sqlite_conn *c, const struct job_record *j)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_JOB_PUT, &st);

	if (r < 0)
		return r;
	bind_job_key(st, j);
	bind_i64(st, 4, j->due);
	bind_u64(st, 5, new_token(c));
	bind_i64(st, 6, j->tries);
	return conn_run(c, st);
}

static int delete_job(struct sqlite_conn *c, const struct job_record *j)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_JOB_DELETE, &st);

	if (r < 0)
		return r;
	bind_job_key(st, j);
	bind_u64(st, 4, j->token);
	return conn_run(c, st);
}

static int put_session(struct sqlite_conn *c, const struct session_record *s)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_SESSION_PUT, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, s->id);
	row_bind_string(st, 2, s->host);
	row_bind_string(st, 3, s->mountpoint);
	bind_i64(st, 4, s->pid);
	bind_i64(st, 5, s->started);
	bind_i64(st, 6, s->heartbeat);
	bind_i64(st, 7, s->closed);
	return conn_run(c, st);
}

static int delete_keyed(struct sqlite_conn *c, enum sql_id id, uint64_t a, uint64_t b)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, a);
	if (sqlite3_bind_parameter_count(st) > 1)
		bind_u64(st, 2, b);
	return conn_run(c, st);
}

static int cell_from_row(sqlite3_stmt *st, struct cell_record *ret)
{
	int r;

	*ret = (struct cell_record){ .token = column_u64(st, 1) };
	r = row_get_string(st, 0, &ret->name);
	if (r == 0)
		r = row_get_blob(st, 2, &ret->blob);
	if (r < 0)
		cell_record_release(ret);
	return r;
}

/* Its token; 0: there is none. */
static int token_of_cell(struct sqlite_conn *c, const char *name, uint64_t *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_CELL_GET, &st);

	if (r < 0)
		return r;
	row_bind_string(st, 1, name);
	r = conn_step(c, st);
	*ret = r > 0 ? column_u64(st, 1) : 0;
	return MFS_MIN(r, 0);
}

static int write_cell(struct sqlite_conn *c, const struct write *w)
{
	const struct cell_record *cell = w->cell;
	CONN_STMT(st);
	uint64_t token;
	int r = 0;

	if (w->expect.flags & EXPECT_VER) {
		r = token_of_cell(c, cell->name, &token);
		if (r == 0 && token != w->expect.ver)
			r = -EAGAIN;
	}
	if (r == 0)
		r = conn_stmt(c, cell->blob.size ? SQL_CELL_PUT : SQL_CELL_DELETE, &st);
	if (r < 0)
		return r;
	row_bind_string(st, 1, cell->name);
	if (cell->blob.size) {
		bind_u64(st, 2, cell->token);
		row_bind_blob(st, 3, &cell->blob);
	}
	return conn_run(c, st);
}

int sqlite_write_side(struct sqlite_conn *c, const struct write *w)
{
	switch (w->kind) {
	case WRITE_VERSION_PUT:
		return put_version(c, w->version);
	case WRITE_VERSION_DELETE:
		return delete_keyed(c, SQL_VERSION_DELETE, w->version->ino, w->version->data);
	case WRITE_DROPPED_PUT:
		return put_all_dropped(c, w->dropped, write_records(w));
	case WRITE_DROPPED_DELETE:
		return delete_keyed(c, SQL_DROPPED_DELETE, w->dropped->id, 0);
	case WRITE_JOB_PUT:
		return put_job(c, w->job);
	case WRITE_JOB_DELETE:
		return delete_job(c, w->job);
	case WRITE_SESSION_PUT:
		return put_session(c, w->session);
	case WRITE_SESSION_DELETE:
		return delete_keyed(c, SQL_SESSION_DELETE, w->session->id, 0);
	case WRITE_SLICES_PUT:
		return put_all_slices(c, w->slices, write_records(w));
	case WRITE_SLICES_DELETE:
		return delete_keyed(c, SQL_SLICES_DELETE, w->slices->ino, w->slices->id);
	case WRITE_CELL_PUT:
		return write_cell(c, w);
	default:
		return -EINVAL;
	}
}

/* Reads. */

int side_cell_get(struct sqlite_conn *c, const char *name, struct cell_record *ret)
{
	CONN_STMT(st);
	struct cell_record found;
	int r = conn_stmt(c, SQL_CELL_GET, &st);

	if (r < 0)
		return r;
	row_bind_string(st, 1, name);
	r = conn_step(c, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = cell_from_row(st, &found);
	if (r == 0)
		*ret = found;
	return r;
}

int side_cells(struct sqlite_conn *c, const char *prefix, const char *after, size_t limit, struct cell_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_CELLS, &st);

	if (r < 0)
		return r;
	row_bind_string(st, 1, prefix);
	row_bind_string(st, 2, after ? after : "");
	bind_u64(st, 3, limit);
	while ((r = conn_step(c, st)) > 0) {
		struct cell_record found, *out;

		r = cell_from_row(st, &found);
		if (r < 0)
			return r;
		if (strncmp(found.name, prefix, strlen(prefix)) != 0) { /* behind them, in this order */
			cell_record_release(&found);
			return 0;
		}
		out = cell_list_add(ret);
		if (!out) {
			cell_record_release(&found);
			return -ENOMEM;
		}
		*out = found;
	}
	return r;
}

static int fetch_versions(struct sqlite_conn *c, sqlite3_stmt *st, struct version_list *ret)
{
	int r;

	while ((r = conn_step(c, st)) > 0) {
		struct version_record *v = version_list_add(ret);

		if (!v)
			return -ENOMEM;
		v->ino = column_u64(st, 0);
		v->data = column_u64(st, 1);
		v->size = column_u64(st, 7);
		v->obj_len = column_u64(st, 8);
		v->mtime = sqlite3_column_int64(st, 9);
		v->replaced = sqlite3_column_int64(st, 10);
		v->until = sqlite3_column_int64(st, 11);
		v->mode = column_u32(st, 12);
		v->uid = column_u32(st, 13);
		v->gid = column_u32(st, 14);
		v->writer = column_u32(st, 15);
		r = row_get_string(st, 2, &v->path);
		row_get_fixed(st, 16, v->etag, sizeof(v->etag));
		if (r == 0)
			r = row_get_ref(st, 3, &v->ref);
		if (r == 0)
			r = row_get_blob(st, 17, &v->slices);
		if (r == 0)
			r = row_get_blob(st, 18, &v->inline_data);
		if (r < 0)
			return r;
	}
	return r;
}

int side_versions_by_path(struct sqlite_conn *c, const char *path, struct version_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_VERSIONS_BY_PATH, &st);

	if (r < 0)
		return r;
	row_bind_string(st, 1, path);
	return fetch_versions(c, st, ret);
}

int side_versions_by_ino(struct sqlite_conn *c, mfs_ino_t ino, struct version_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_VERSIONS_BY_INO, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, ino);
	return fetch_versions(c, st, ret);
}

int side_versions_expired(struct sqlite_conn *c, int64_t now, size_t limit, struct version_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_VERSIONS_EXPIRED, &st);

	if (r < 0)
		return r;
	bind_i64(st, 1, now);
	bind_u64(st, 2, limit);
	return fetch_versions(c, st, ret);
}

int side_versions_all(struct sqlite_conn *c, mfs_ino_t after_ino, uint64_t after_data, size_t limit,
		      struct version_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_VERSIONS_ALL, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, after_ino);
	bind_u64(st, 2, after_data);
	bind_u64(st, 3, limit);
	return fetch_versions(c, st, ret);
}

static int fetch_nodes(struct sqlite_conn *c, sqlite3_stmt *st, struct node_list *ret)
{
	int r;

	while ((r = conn_step(c, st)) > 0) {
		struct node *n = node_list_add(ret);

		if (!n)
			return -ENOMEM;
		r = row_read(c, st, n);
		if (r < 0)
			return r;
	}
	return r;
}

int side_trash_by_path(struct sqlite_conn *c, const char *path, struct node_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_TRASH_BY_PATH, &st);

	if (r < 0)
		return r;
	row_bind_string(st, 1, path);
	return fetch_nodes(c, st, ret);
}

int side_trash_before(struct sqlite_conn *c, int64_t before, size_t limit, struct node_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_TRASH_BEFORE, &st);

	if (r < 0)
		return r;
	bind_i64(st, 1, before);
	bind_u64(st, 2, limit);
	return fetch_nodes(c, st, ret);
}

int side_dropped(struct sqlite_conn *c, int64_t before, uint64_t after_id, size_t limit, struct dropped_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_DROPPED_LIST, &st);

	if (r < 0)
		return r;
	bind_i64(st, 1, before);
	bind_u64(st, 2, after_id);
	bind_u64(st, 3, limit);
	while ((r = conn_step(c, st)) > 0) {
		struct dropped_record *d = dropped_list_add(ret);

		if (!d)
			return -ENOMEM;
		d->id = column_u64(st, 0);
		d->ino = column_u64(st, 1);
		d->at = sqlite3_column_int64(st, 6);
		d->doc_id = column_u64(st, 7);
		r = row_get_ref(st, 2, &d->ref);
		if (r < 0)
			return r;
	}
	return r;
}

int side_slices_get(struct sqlite_conn *c, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	CONN_STMT(st);
	struct node_blob b = { 0 };
	int r = conn_stmt(c, SQL_SLICES_GET, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, ino);
	bind_u64(st, 2, id);
	r = conn_step(c, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = row_get_blob(st, 0, &b);
	if (r == 0)
		*ret = b;
	return r;
}

int side_slices_all(struct sqlite_conn *c, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
		    struct slices_doc_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_SLICES_ALL, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, after_ino);
	bind_u64(st, 2, after_id);
	bind_u64(st, 3, limit);
	while ((r = conn_step(c, st)) > 0) {
		struct slices_doc_record *d = slices_doc_list_add(ret);

		if (!d)
			return -ENOMEM;
		d->ino = column_u64(st, 0);
		d->id = column_u64(st, 1);
		d->session = column_u64(st, 2);
		r = row_get_blob(st, 3, &d->blob);
		if (r < 0)
			return r;
	}
	return r;
}

int side_jobs(struct sqlite_conn *c, int64_t due_before, size_t limit, struct job_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_JOBS, &st);

	if (r < 0)
		return r;
	bind_i64(st, 1, due_before);
	bind_u64(st, 2, limit);
	while ((r = conn_step(c, st)) > 0) {
		struct job_record *j = job_list_add(ret);

		if (!j)
			return -ENOMEM;
		j->kind = (enum job_kind)sqlite3_column_int(st, 0);
		j->ino = column_u64(st, 2);
		j->due = sqlite3_column_int64(st, 3);
		j->token = column_u64(st, 4);
		j->tries = column_u32(st, 5);
		r = j->kind == JOB_KEY ? row_get_string(st, 1, &j->key) : 0;
		if (r < 0)
			return r;
	}
	return r;
}

int side_jobs_count(struct sqlite_conn *c, uint64_t *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_JOBS_COUNT, &st);

	if (r == 0)
		r = conn_step(c, st);
	if (r < 0)
		return r;
	*ret = column_u64(st, 0);
	return 0;
}

int side_sessions(struct sqlite_conn *c, struct session_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_SESSIONS, &st);

	if (r < 0)
		return r;
	while ((r = conn_step(c, st)) > 0) {
		struct session_record *s = session_list_add(ret);

		if (!s)
			return -ENOMEM;
		s->id = column_u64(st, 0);
		s->pid = column_u32(st, 3);
		s->started = sqlite3_column_int64(st, 4);
		s->heartbeat = sqlite3_column_int64(st, 5);
		s->closed = sqlite3_column_int64(st, 6);
		r = row_get_string(st, 1, &s->host);
		if (r == 0)
			r = row_get_string(st, 2, &s->mountpoint);
		if (r < 0)
			return r;
	}
	return r;
}

int side_volume_get(struct sqlite_conn *c, struct volume_record *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_VOLUME_GET, &st);
	const void *uuid;
	size_t len;

	if (r == 0)
		r = conn_step(c, st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret = (struct volume_record){ .schema = column_u32(st, 0), .created = sqlite3_column_int64(st, 2) };
	uuid = sqlite3_column_blob(st, 1);
	len = MFS_MIN((size_t)sqlite3_column_bytes(st, 1), sizeof(ret->uuid) - 1);
	if (len)
		memcpy(ret->uuid, uuid, len);
	return 0;
}

int side_volume_put(struct sqlite_conn *c, const struct volume_record *v)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_VOLUME_PUT, &st);

	if (r < 0)
		return r;
	bind_i64(st, 1, v->schema);
	row_bind_string(st, 2, v->uuid);
	bind_i64(st, 3, v->created);
	return conn_run(c, st);
}
