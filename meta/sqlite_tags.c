/* Rows for the tags of a record: what differs between two states of it is written, and no more. */
#include "meta/sqlite_tags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/sqlite_row.h"
#include "meta/sqlite_write.h"
#include "meta/tags.h"

struct tag_row {
	void *name, *value; /* owned */
	size_t name_len, size;
	bool bare, is_number;
	double number;
};

void tag_rows_release(struct tag_rows *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->v[i].name);
		free(r->v[i].value);
	}
	free(r->v);
	*r = (struct tag_rows){ 0 };
}

static void *bytes_of(const void *p, size_t size)
{
	void *copy = malloc(size + 1);

	if (copy && size)
		memcpy(copy, p, size);
	return copy;
}

static int add_row(void *arg, const struct tag *t)
{
	struct tag_rows *r = arg;
	struct tag_row *row;

	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 8;
		struct tag_row *v = reallocarray(r->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->v = v;
		r->cap = cap;
	}
	row = &r->v[r->n];
	*row = (struct tag_row){ .name_len = t->name_len, .size = MFS_MIN(t->size, (size_t)TAG_VALUE_INDEXED), .bare = t->bare };
	row->is_number = !t->bare && tag_number(t->value, t->size, &row->number);
	row->name = bytes_of(t->name, t->name_len);
	row->value = bytes_of(t->value, row->size);
	r->n++;
	return row->name && row->value ? 0 : -ENOMEM;
}

static int order_of(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int order = memcmp(a, b, MFS_MIN(a_len, b_len));

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_rows(const void *a, const void *b)
{
	const struct tag_row *x = a, *y = b;
	int order = order_of(x->name, x->name_len, y->name, y->name_len);

	if (!order)
		order = order_of(x->value, x->size, y->value, y->size);
	return order ? order : (int)x->bare - (int)y->bare;
}

/* A bare tag may stand in its list twice. */
static void drop_doubles(struct tag_rows *r)
{
	size_t kept = 0;

	for (size_t i = 0; i < r->n; i++) {
		if (kept && compare_rows(&r->v[kept - 1], &r->v[i]) == 0) {
			free(r->v[i].name);
			free(r->v[i].value);
			continue;
		}
		r->v[kept++] = r->v[i];
	}
	r->n = kept;
}

int tag_rows_of(const struct node *n, struct tag_rows *ret)
{
	int r;

	*ret = (struct tag_rows){ 0 };
	if (!n || !n->n_xattrs || (n->attr.flags & ATTR_IN_TRASH))
		return 0;
	r = node_each_tag(n, add_row, ret);
	if (r < 0) {
		tag_rows_release(ret);
		return r;
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), compare_rows);
	drop_doubles(ret);
	return 0;
}

static int run_tag(struct sqlite_conn *c, enum sql_id id, mfs_ino_t ino, const struct tag_row *row)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	(void)sqlite3_bind_blob(st, 1, row->name, (int)row->name_len, SQLITE_STATIC);
	(void)sqlite3_bind_blob(st, 2, row->value, (int)row->size, SQLITE_STATIC);
	bind_u64(st, 3, ino);
	(void)sqlite3_bind_int(st, 4, row->bare);
	if (id == SQL_TAG_PUT && row->is_number)
		(void)sqlite3_bind_double(st, 5, row->number);
	else if (id == SQL_TAG_PUT)
		(void)sqlite3_bind_null(st, 5); /* a statement keeps what was bound before */
	return conn_run(c, st);
}

int tag_rows_change(struct sqlite_conn *c, mfs_ino_t ino, const struct tag_rows *old, const struct tag_rows *now)
{
	size_t i = 0, k = 0;
	int r = 0;

	while (r == 0 && (i < old->n || k < now->n)) {
		int order = i == old->n ? 1 : k == now->n ? -1 : compare_rows(&old->v[i], &now->v[k]);

		/* Equal rows may stand for values that differ behind what is kept, and so for another number. */
		if (order == 0 && old->v[i].is_number == now->v[k].is_number &&
		    (!old->v[i].is_number || memcmp(&old->v[i].number, &now->v[k].number, sizeof(double)) == 0)) {
			i++;
			k++;
			continue;
		}
		if (order <= 0)
			r = run_tag(c, SQL_TAG_DELETE, ino, &old->v[i++]);
		if (r == 0 && order >= 0)
			r = run_tag(c, SQL_TAG_PUT, ino, &now->v[k++]);
	}
	return r;
}

static int rebuild_one(struct sqlite_conn *c, mfs_ino_t ino)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	MFS_CLEANUP(tag_rows_release) struct tag_rows none = { 0 }, rows = { 0 };
	int r = sqlite_load_lean(c, ino, &n);

	if (r == 0)
		r = tag_rows_of(&n, &rows);
	return r < 0 ? r : tag_rows_change(c, ino, &none, &rows);
}

int tags_rebuild(struct sqlite_conn *c)
{
	mfs_ino_t after = 0;
	int r;

	for (;;) {
		CONN_STMT(st);

		r = conn_stmt(c, SQL_NEXT_WITH_XATTRS, &st);
		if (r < 0)
			return r;
		bind_u64(st, 1, after);
		r = conn_step(c, st);
		if (r <= 0)
			return r;
		after = column_u64(st, 0);
		conn_done(&st);
		r = rebuild_one(c, after);
		if (r < 0)
			return r;
	}
}
