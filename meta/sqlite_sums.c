/* How many files and bytes there are, and how much of them waits for the reconciler. */
#include "meta/sqlite_engine.h"

static int read_two(struct sqlite_conn *c, enum sql_id id, int64_t *ret_a, int64_t *ret_b)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r == 0)
		r = conn_step(c, st);
	if (r < 0)
		return r;
	*ret_a = sqlite3_column_int64(st, 0);
	*ret_b = sqlite3_column_int64(st, 1);
	return 0;
}

static int read_sums(struct sqlite_conn *c, struct sqlite_delta *ret)
{
	int r = read_two(c, SQL_COUNT, &ret->files, &ret->bytes);

	return r < 0 ? r : read_two(c, SQL_TODO_COUNT, &ret->todo, &ret->todo_inline);
}

static int read_data_version(struct sqlite_conn *c, int64_t *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_DATA_VERSION, &st);

	if (r == 0)
		r = conn_step(c, st);
	if (r < 0)
		return r;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

/*
 * Summed up once; after that each commit of ours adds its part. SQLite tells by data_version when somebody else has
 * changed the database.
 */
static int count_by_writer(struct sqlite_engine *s, struct op_ctx *op)
{
	int64_t version = 0;
	int r;

	s->writer.op = op;
	r = read_data_version(&s->writer, &version);
	if (r < 0 || (s->counted && version == s->data_version))
		return r;
	r = read_sums(&s->writer, &s->sums);
	s->counted = r == 0;
	s->data_version = version;
	return r;
}

static int get_sums(struct sqlite_engine *s, struct op_ctx *op, struct sqlite_delta *ret)
{
	int r;

	if (s->readonly) {
		WITH_READER(s, op, c, r_reader);
		return r_reader < 0 ? r_reader : read_sums(c, ret);
	}
	MFS_GUARD(&s->write_lock);
	r = count_by_writer(s, op);
	*ret = s->sums;
	return r;
}

int sqlite_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes)
{
	struct sqlite_delta sums = { 0 };
	int r = get_sums(sqlite_engine_of(e), op, &sums);

	if (r < 0)
		return r;
	*ret_files = (uint64_t)sums.files;
	*ret_bytes = (uint64_t)sums.bytes;
	return 0;
}

int sqlite_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes)
{
	struct sqlite_delta sums = { 0 };
	int r = get_sums(sqlite_engine_of(e), op, &sums);

	if (r < 0)
		return r;
	*ret_records = (uint64_t)sums.todo;
	*ret_inline_bytes = (uint64_t)sums.todo_inline;
	return 0;
}
