/*
 * Searches of the sqlite engine: a page of inodes that may match a term.
 *
 * An equality is answered in order of inodes by its index. A range is not: its rows are sorted for each page. That is right
 * for few; for many, the records (or the rows of the tag) are gone through in order of inodes instead, which over all pages
 * is once.
 */
#include <errno.h>
#include <float.h>
#include <string.h>

#include "meta/sqlite_tags.h"
#include "meta/tags.h"

#define RANGE_MAX 20000 /* rows that are sorted for a page */

/* Values in [low, high]; the bytes of tags, or numbers. */
struct range {
	bool bytes;
	const void *low, *high;
	size_t low_len, high_len;
	bool is_real;
	double low_real, high_real;
	int64_t low_int, high_int;
};

static const char above_all[TAG_VALUE_INDEXED + 1] = { [0 ... TAG_VALUE_INDEXED] = (char)0xff };

static void bind_range(sqlite3_stmt *st, int i, const struct range *g)
{
	if (g->bytes) {
		(void)sqlite3_bind_blob(st, i, g->low, (int)g->low_len, SQLITE_STATIC);
		(void)sqlite3_bind_blob(st, i + 1, g->high, (int)g->high_len, SQLITE_STATIC);
	} else if (g->is_real) {
		(void)sqlite3_bind_double(st, i, g->low_real);
		(void)sqlite3_bind_double(st, i + 1, g->high_real);
	} else {
		bind_i64(st, i, g->low_int);
		bind_i64(st, i + 1, g->high_int);
	}
}

static void bind_tag(sqlite3_stmt *st, int i, const struct expr_term *t)
{
	(void)sqlite3_bind_blob(st, i, t->tag, (int)strlen(t->tag), SQLITE_STATIC);
}

static int take_page(struct sqlite_conn *c, sqlite3_stmt *st, size_t limit, struct ino_page *ret)
{
	int r;

	while ((r = conn_step(c, st)) > 0 && ret->n < limit)
		ret->v[ret->n++] = column_u64(st, 0);
	return r < 0 ? r : 0;
}

static int count_rows(struct sqlite_conn *c, enum sql_id id, const struct expr_term *t, const struct range *g, int64_t max,
		      uint64_t *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_i64(st, 1, max);
	if (t->field == FIELD_TAG)
		bind_tag(st, 2, t);
	if (g)
		bind_range(st, 3, g);
	r = conn_step(c, st);
	*ret = r == 1 ? column_u64(st, 0) : 0;
	return r < 0 ? r : 0;
}

/* Are there more than RANGE_MAX in it? */
static int is_wide(struct sqlite_conn *c, enum sql_id count, const struct expr_term *t, const struct range *g)
{
	uint64_t rows;
	int r = count_rows(c, count, t, g, RANGE_MAX + 1, &rows);

	return r < 0 ? r : rows > RANGE_MAX;
}

static int run_page(struct sqlite_conn *c, enum sql_id id, const struct expr_term *t, const struct range *g,
		    mfs_ino_t after, size_t limit, struct ino_page *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, after);
	bind_u64(st, 2, limit);
	if (t->field == FIELD_TAG)
		bind_tag(st, 3, t);
	if (g)
		bind_range(st, 4, g);
	return take_page(c, st, limit, ret);
}

/* Of long values only the beginning is kept: both ends belong to the range. */
static void range_of_bytes(const struct expr_term *t, struct range *g)
{
	size_t len = MFS_MIN(t->size, (size_t)TAG_VALUE_INDEXED);

	*g = (struct range){ .bytes = true, .low = "", .high = above_all, .high_len = sizeof(above_all) };
	if (t->op == OP_GT || t->op == OP_GE || t->op == OP_EQ) {
		g->low = t->value;
		g->low_len = len;
	}
	if (t->op == OP_LT || t->op == OP_LE || t->op == OP_EQ) {
		g->high = t->value;
		g->high_len = len;
	}
}

static struct range range_of_numbers(const struct expr_term *t)
{
	return (struct range){ .is_real = true,
			       .low_real = t->op == OP_GT || t->op == OP_GE ? t->real : -DBL_MAX,
			       .high_real = t->op == OP_LT || t->op == OP_LE ? t->real : DBL_MAX };
}

static int find_tag(struct sqlite_conn *c, const struct expr_term *t, mfs_ino_t after, size_t limit, struct ino_page *ret)
{
	bool number = t->is_number && t->op != OP_EQ;
	struct range g;
	int wide;

	if (t->kind == EXPR_HAS || t->op == OP_NE || t->op == OP_MATCH)
		return run_page(c, SQL_FIND_TAG, t, NULL, after, limit, ret);
	range_of_bytes(t, &g);
	if (number)
		g = range_of_numbers(t);
	if (t->op == OP_EQ)
		return run_page(c, SQL_FIND_TAG_VALUE, t, &g, after, limit, ret);
	wide = is_wide(c, number ? SQL_COUNT_TAG_NUMBERS : SQL_COUNT_TAG_VALUES, t, &g);
	if (wide < 0)
		return wide;
	if (wide)
		return run_page(c, SQL_FIND_TAG, t, NULL, after, limit, ret);
	return run_page(c, number ? SQL_FIND_TAG_NUMBERS : SQL_FIND_TAG_VALUES, t, &g, after, limit, ret);
}

static void range_of_ints(const struct expr_term *t, struct range *g)
{
	*g = (struct range){ .low_int = INT64_MIN, .high_int = INT64_MAX };
	switch (t->op) {
	case OP_EQ:
		g->low_int = t->low;
		g->high_int = t->high - 1;
		break;
	case OP_LT:
		g->high_int = t->low; /* and that itself: it is looked at again */
		break;
	case OP_LE:
		g->high_int = t->high - 1;
		break;
	case OP_GT:
		g->low_int = t->high;
		break;
	case OP_GE:
		g->low_int = t->low;
		break;
	default:
		break;
	}
}

static int find_field(struct sqlite_conn *c, const struct expr_term *t, enum sql_id count, enum sql_id by_index,
		      enum sql_id by_ino, mfs_ino_t after, size_t limit, struct ino_page *ret)
{
	struct range g;
	int wide;

	range_of_ints(t, &g);
	wide = is_wide(c, count, t, &g);
	return wide < 0 ? wide : run_page(c, wide ? by_ino : by_index, t, &g, after, limit, ret);
}

/* The column is text, and every BLOB comes behind every text. */
static int find_hash(struct sqlite_conn *c, const struct expr_term *t, mfs_ino_t after, size_t limit, struct ino_page *ret)
{
	bool from = t->kind == EXPR_COMPARE && (t->op == OP_EQ || t->op == OP_GT || t->op == OP_GE);
	bool to = t->kind == EXPR_COMPARE && (t->op == OP_EQ || t->op == OP_LT || t->op == OP_LE);
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_FIND_HASH, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, after);
	bind_u64(st, 2, limit);
	(void)sqlite3_bind_text(st, 4, from ? t->value : "", from ? (int)t->size : 0, SQLITE_STATIC);
	if (to)
		(void)sqlite3_bind_text(st, 5, t->value, (int)t->size, SQLITE_STATIC);
	else
		(void)sqlite3_bind_blob(st, 5, above_all, 1, SQLITE_STATIC);
	return take_page(c, st, limit, ret);
}

static int tag_rows_count(struct sqlite_conn *c, const struct expr_term *t, uint64_t *ret)
{
	struct range g;

	if (t->kind == EXPR_HAS || t->op == OP_NE || t->op == OP_MATCH)
		return count_rows(c, SQL_COUNT_TAG, t, NULL, EXPR_ROWS_MAX, ret);
	if (t->is_number && t->op != OP_EQ) {
		g = range_of_numbers(t);
		return count_rows(c, SQL_COUNT_TAG_NUMBERS, t, &g, EXPR_ROWS_MAX, ret);
	}
	range_of_bytes(t, &g);
	return count_rows(c, SQL_COUNT_TAG_VALUES, t, &g, EXPR_ROWS_MAX, ret);
}

int tags_rows(struct sqlite_conn *c, const struct expr_term *t, uint64_t *ret)
{
	struct range g;

	switch (t->field) {
	case FIELD_TAG:
		return tag_rows_count(c, t, ret);
	case FIELD_HASH: /* a hash is one file's, or few */
		*ret = t->kind == EXPR_COMPARE && t->op == OP_EQ ? 1 : EXPR_ROWS_MAX;
		return 0;
	case FIELD_MTIME:
	case FIELD_CREATED:
	case FIELD_SIZE:
		range_of_ints(t, &g);
		return count_rows(c, t->field == FIELD_MTIME ? SQL_COUNT_MTIME : t->field == FIELD_SIZE ? SQL_COUNT_SIZE : SQL_COUNT_BTIME, t,
				  &g, EXPR_ROWS_MAX, ret);
	default:
		return -ENOTSUP;
	}
}

int tags_find(struct sqlite_conn *c, const struct expr_term *t, mfs_ino_t after, size_t limit, struct ino_page *ret)
{
	switch (t->field) {
	case FIELD_TAG:
		return find_tag(c, t, after, limit, ret);
	case FIELD_HASH:
		return find_hash(c, t, after, limit, ret);
	case FIELD_MTIME:
		return find_field(c, t, SQL_COUNT_MTIME, SQL_FIND_MTIME, SQL_SCAN_MTIME, after, limit, ret);
	case FIELD_CREATED:
		return find_field(c, t, SQL_COUNT_BTIME, SQL_FIND_BTIME, SQL_SCAN_BTIME, after, limit, ret);
	case FIELD_SIZE:
		return find_field(c, t, SQL_COUNT_SIZE, SQL_FIND_SIZE, SQL_SCAN_SIZE, after, limit, ret);
	default:
		return -ENOTSUP;
	}
}

int tags_names(struct sqlite_conn *c, const char *name, const void *after, size_t after_len, size_t limit,
	       struct blob_list *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, name ? SQL_TAG_VALUES : SQL_TAG_NAMES, &st);

	if (r < 0)
		return r;
	/* NULL is below every value; an empty BLOB would leave out an empty value. */
	if (after)
		(void)sqlite3_bind_blob(st, 1, after_len ? after : "", (int)after_len, SQLITE_STATIC);
	else
		(void)sqlite3_bind_null(st, 1);
	bind_u64(st, 2, limit);
	if (name)
		(void)sqlite3_bind_blob(st, 3, name, (int)strlen(name), SQLITE_STATIC);
	while ((r = conn_step(c, st)) > 0) {
		r = blob_list_add(ret, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
		if (r < 0)
			return r;
	}
	return r;
}
