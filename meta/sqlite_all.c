/*
 * Lists of the sqlite engine that leave nothing out, for dump and index log.
 */
#include <errno.h>

#include "meta/change.h"
#include "meta/sqlite_row.h"
#include "meta/sqlite_side.h"

int side_next_number(struct sqlite_conn *c, uint64_t *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_NEXT_NUMBER, &st);

	if (r == 0)
		r = conn_step(c, st);
	if (r <= 0)
		return r < 0 ? r : -EUCLEAN;
	*ret = column_u64(st, 0);
	return 0;
}

int side_aliases_all(struct sqlite_conn *c, uint64_t after_id, struct alias *ret, size_t max)
{
	CONN_STMT(st);
	int n = 0, r = conn_stmt(c, SQL_ALIASES_ALL, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, after_id);
	bind_u64(st, 2, max);
	while ((r = conn_step(c, st)) > 0) {
		ret[n] = (struct alias){ .id = column_u64(st, 0),
					 .parent = column_u64(st, 1),
					 .target = column_u64(st, 3) };
		r = row_get_name(st, 2, &ret[n].name);
		if (r < 0)
			return r;
		n++;
	}
	return r < 0 ? r : n;
}

int side_jobs_from(struct sqlite_conn *c, const struct job_record *from, size_t limit, struct job_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_JOBS_FROM, &st);

	if (r < 0)
		return r;
	bind_i64(st, 1, from->kind);
	row_bind_string(st, 2, from->key ? from->key : "");
	bind_u64(st, 3, from->ino);
	bind_u64(st, 4, limit);
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
