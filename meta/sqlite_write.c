/*
 * The writes of a change on records, aliases and parents. Everything here runs in the writer's open transaction, so
 * guards and preconditions hold until the commit.
 */
#include "meta/sqlite_write.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "meta/sqlite_row.h"
#include "meta/sqlite_tags.h"

#define DEPTH_MAX 100000 /* directories above one another; more is a cycle in a damaged index */
#define EDIT_OF_ATTR                                                                                            \
	((uint32_t)(EDIT_MODE | EDIT_UID | EDIT_GID | EDIT_SIZE | EDIT_ATIME | EDIT_MTIME | EDIT_CTIME |        \
		    EDIT_SHARED | EDIT_BTIME | EDIT_BUMP_DATA | EDIT_BUMP_LAY | EDIT_NO_BUMP_VER))

/* The one number that a statement with up to two numeric parameters gives; -ENOENT: no row. */
static int select_i64(struct sqlite_conn *c, enum sql_id id, uint64_t a, uint64_t b, int64_t *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, a);
	if (sqlite3_bind_parameter_count(st) > 1)
		bind_u64(st, 2, b);
	r = conn_step(c, st);
	if (r < 0)
		return r;
	if (r == 0)
		return -ENOENT;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

static int delete_by_id(struct sqlite_conn *c, enum sql_id id, uint64_t key)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, key);
	return conn_run(c, st);
}

static int load(struct sqlite_conn *c, mfs_ino_t ino, bool lean, struct node *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_GET, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, ino);
	r = conn_step(c, st);
	if (r < 0)
		return r;
	if (r == 0)
		return -ESTALE;
	return lean ? row_read_lean(c, st, ret) : row_read(c, st, ret);
}

int sqlite_load(struct sqlite_conn *c, mfs_ino_t ino, struct node *ret)
{
	return load(c, ino, false, ret);
}

int sqlite_load_lean(struct sqlite_conn *c, mfs_ino_t ino, struct node *ret)
{
	return load(c, ino, true, ret);
}

/* The part of a record in the sums, to be taken away as it was and added as it is. */
static void account(struct sqlite_delta *d, const struct node *n, int sign)
{
	if (n->attr.flags & ATTR_IN_TRASH)
		return;
	d->files += sign;
	d->bytes += sign * (int64_t)n->attr.size;
	if (n->todo) {
		d->todo += sign;
		d->todo_inline += sign * (int64_t)n->inline_data.size;
	}
}

/* Is the id, or the name, taken by a record of another table than the one it goes to? */
static int check_taken(struct sqlite_conn *c, enum sql_id id, uint64_t ino, mfs_ino_t parent,
		       const struct mfs_name *name)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, ino);
	bind_u64(st, 2, parent);
	row_bind_name(st, 3, name);
	r = conn_step(c, st);
	if (r < 0)
		return r;
	return r == 1 && sqlite3_column_int(st, 0) ? -EEXIST : 0;
}

/* Run an INSERT or UPDATE of a record's row. -EEXIST: name or id taken. */
static int run_row(struct sqlite_conn *c, enum sql_id id, const struct node *n, enum row_col last)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r == 0)
		r = row_bind(st, n, last);
	return r < 0 ? r : conn_run(c, st);
}

static void put_ret_attr(struct mfs_attr *ret, const struct node *n)
{
	if (ret)
		*ret = n->attr;
}

/* Of a record that is new in its table. */
static int put_beside(struct sqlite_conn *c, const struct node *n)
{
	MFS_CLEANUP(tag_rows_release) struct tag_rows none = { 0 }, rows = { 0 };
	int r = tag_rows_of(n, &rows);

	if (r == 0)
		r = tag_rows_change(c, n->attr.ino, &none, &rows);
	return r < 0 ? r : row_put_big_xattrs(c, n);
}

static int delete_beside(struct sqlite_conn *c, const struct node *n)
{
	MFS_CLEANUP(tag_rows_release) struct tag_rows none = { 0 }, rows = { 0 };
	int r = tag_rows_of(n, &rows);

	if (r == 0)
		r = tag_rows_change(c, n->attr.ino, &rows, &none);
	return r == 0 && row_has_big_xattrs(n) ? row_delete_big_xattrs(c, n->attr.ino) : r;
}

static int insert_row(struct sqlite_conn *c, const struct node *n)
{
	bool in_trash = n->attr.flags & ATTR_IN_TRASH;
	int r = in_trash ? run_row(c, SQL_TRASH_INSERT, n, COL_OPENERS) :
			   run_row(c, SQL_FILE_INSERT, n, COL_LAST_BODY);

	return r == 0 && n->n_xattrs ? put_beside(c, n) : r;
}

int sqlite_insert_node(struct sqlite_conn *c, const struct write *w, struct sqlite_delta *delta)
{
	struct node n = *w->node; /* borrows what it points at: only flags are derived */
	int64_t taken;
	int r = check_taken(c, SQL_FILE_TAKEN, w->ino, n.parent, &n.name);

	/* One for the trash meets the files' primary key only here. */
	if (r == 0 && (n.attr.flags & ATTR_IN_TRASH)) {
		r = select_i64(c, SQL_FILE_PARENT, w->ino, 0, &taken);
		r = r == -ENOENT ? 0 : r == 0 ? -EEXIST : r;
	}
	if (r < 0)
		return r;
	node_derive(&n);
	r = insert_row(c, &n);
	if (r == 0)
		r = row_put_contents(c, &n, false);
	if (r < 0)
		return r;
	account(delta, &n, 1);
	put_ret_attr(w->ret_attr, &n);
	return 0;
}

/* Write the edited record back to where it is. */
static int update_row(struct sqlite_conn *c, const struct write *w, const struct node *n)
{
	int r;

	if (n->attr.flags & ATTR_IN_TRASH)
		r = run_row(c, SQL_TRASH_UPDATE, n, COL_OPENERS);
	else if (w->kind == WRITE_RENAME)
		r = run_row(c, SQL_FILE_UPDATE_PLACE, n, COL_LAST_BODY);
	else if (w->mask & ~EDIT_OF_ATTR)
		r = run_row(c, SQL_FILE_UPDATE_BODY, n, COL_LAST_BODY);
	else
		r = run_row(c, SQL_FILE_UPDATE_ATTR, n, COL_LAST_ATTR);
	return r;
}

static int edit_beside(struct sqlite_conn *c, const struct node *n, const struct tag_rows *old, bool had_big)
{
	MFS_CLEANUP(tag_rows_release) struct tag_rows now = { 0 };
	int r = tag_rows_of(n, &now);

	if (r == 0)
		r = tag_rows_change(c, n->attr.ino, old, &now);
	if (r == 0 && had_big)
		r = row_delete_big_xattrs(c, n->attr.ino);
	return r < 0 ? r : row_put_big_xattrs(c, n);
}

/* EDIT and RENAME. Rule M6 is for stores that cannot update an indexed name; SQLite's UPDATE is delete and insert. */
static int write_edit(struct sqlite_conn *c, const struct write *w, struct node *n)
{
	bool had_big = row_has_big_xattrs(n), had_contents = row_has_contents(n);
	MFS_CLEANUP(tag_rows_release) struct tag_rows old = { 0 };
	int r = w->mask & EDIT_XATTRS ? tag_rows_of(n, &old) : 0;

	if (r == 0)
		r = change_edit(w, n);
	if (r == 0 && w->kind == WRITE_RENAME)
		r = check_taken(c, SQL_FILE_TAKEN, w->ino, n->parent, &n->name);
	if (r == 0)
		r = update_row(c, w, n);
	if (r == 0 && (w->mask & EDIT_XATTRS))
		r = edit_beside(c, n, &old, had_big);
	if (r == 0 && (w->mask & EDIT_REF))
		r = row_put_contents(c, n, had_contents);
	return r;
}

static int delete_row(struct sqlite_conn *c, const struct node *n)
{
	bool in_trash = n->attr.flags & ATTR_IN_TRASH;
	int r = delete_by_id(c, in_trash ? SQL_TRASH_DELETE : SQL_FILE_DELETE, n->attr.ino);

	return r == 0 && n->n_xattrs ? delete_beside(c, n) : r;
}

/* TRASH and UNTRASH: out of one table, into the other. What is in `contents` stays there. */
static int write_move(struct sqlite_conn *c, const struct write *w, struct node *n)
{
	bool had_contents = row_has_contents(n);
	int r = delete_row(c, n);

	if (r == 0)
		r = change_edit(w, n);
	if (r == 0 && w->kind == WRITE_UNTRASH)
		r = check_taken(c, SQL_FILE_TAKEN, w->ino, n->parent, &n->name);
	if (r == 0)
		r = insert_row(c, n);
	if (r == 0 && (w->mask & EDIT_REF))
		r = row_put_contents(c, n, had_contents);
	return r;
}

/* DELETE and PURGE: with all that lies beside the row. */
static int write_delete(struct sqlite_conn *c, const struct node *n)
{
	int r = delete_row(c, n);

	return r == 0 && row_has_contents(n) ? delete_by_id(c, SQL_CONTENTS_DELETE, n->attr.ino) : r;
}

/* All writes on a record that is there: load, check, do. */
static int write_existing(struct sqlite_conn *c, const struct write *w, struct sqlite_delta *delta)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	bool wants_trash = w->kind == WRITE_UNTRASH || w->kind == WRITE_PURGE;
	bool in_trash;
	int r = sqlite_load_lean(c, w->ino, &n);

	if (r < 0)
		return r;
	in_trash = n.attr.flags & ATTR_IN_TRASH;
	if (w->kind != WRITE_EDIT && in_trash != wants_trash)
		return -ESTALE;
	r = change_check(w, &n, in_trash);
	if (r < 0)
		return r;
	account(delta, &n, -1);
	switch (w->kind) {
	case WRITE_EDIT:
	case WRITE_RENAME:
		r = write_edit(c, w, &n);
		break;
	case WRITE_TRASH:
	case WRITE_UNTRASH:
		r = write_move(c, w, &n);
		break;
	default:
		return write_delete(c, &n);
	}
	if (r < 0)
		return r;
	account(delta, &n, 1);
	put_ret_attr(w->ret_attr, &n);
	return 0;
}

/* Aliases. */

static int load_alias(struct sqlite_conn *c, uint64_t id, struct alias *ret)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_ALIAS_GET, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, id);
	r = conn_step(c, st);
	if (r <= 0)
		return r < 0 ? r : -ESTALE;
	*ret = (struct alias){ .id = id, .parent = column_u64(st, 1), .target = column_u64(st, 3) };
	return row_get_name(st, 2, &ret->name);
}

static int run_alias(struct sqlite_conn *c, enum sql_id id, const struct alias *a)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, a->id);
	bind_u64(st, 2, a->parent);
	row_bind_name(st, 3, &a->name);
	if (id == SQL_ALIAS_INSERT)
		bind_u64(st, 4, a->target);
	return conn_run(c, st);
}

static int insert_alias(struct sqlite_conn *c, const struct alias *a)
{
	int64_t parent;
	int r = check_taken(c, SQL_ALIAS_TAKEN, a->id, a->parent, &a->name);

	if (r < 0)
		return r;
	r = select_i64(c, SQL_FILE_PARENT, a->target, 0, &parent);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return run_alias(c, SQL_ALIAS_INSERT, a);
}

static int write_alias(struct sqlite_conn *c, const struct write *w)
{
	struct alias a;
	int r;

	if (w->kind == WRITE_ALIAS_INSERT)
		return insert_alias(c, w->alias);
	r = load_alias(c, w->ino, &a);
	if (r < 0)
		return r;
	if ((w->expect.flags & EXPECT_NAME) &&
	    !(a.parent == w->expect.parent && mfs_name_equal(&a.name, w->expect.name)))
		return -EAGAIN;
	if (w->kind == WRITE_ALIAS_DELETE)
		return delete_by_id(c, SQL_ALIAS_DELETE, w->ino);
	a.parent = w->alias->parent;
	a.name = w->alias->name;
	/* The id is its own and in no other table; the name may be taken there. */
	r = check_taken(c, SQL_ALIAS_TAKEN, 0, a.parent, &a.name);
	return r < 0 ? r : run_alias(c, SQL_ALIAS_UPDATE, &a);
}

/* Parents. */

static int put_touched_attr(struct sqlite_conn *c, const struct touch *t)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	int r;

	if (!t->ret_attr)
		return 0;
	r = sqlite_load_lean(c, t->dir, &n);
	if (r == 0)
		*t->ret_attr = n.attr;
	return r;
}

static int touch_one(struct sqlite_conn *c, const struct touch *t)
{
	CONN_STMT(st);
	int64_t dying;
	int r = conn_stmt(c, SQL_FILE_TOUCH, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, t->dir);
	bind_i64(st, 2, t->time_ns);
	bind_i64(st, 3, t->child_delta);
	bind_i64(st, 4, !!(t->flags & TOUCH_UNLESS_DYING));
	bind_i64(st, 5, t->subdir_delta);
	r = conn_run(c, st);
	if (r < 0)
		return r;
	if (sqlite3_changes(c->db) == 1)
		return put_touched_attr(c, t);
	r = select_i64(c, SQL_FILE_DYING, t->dir, 0, &dying);
	if (r == -ENOENT)
		return t->flags & TOUCH_MUST_EXIST ? -ENOENT : 0;
	return r < 0 ? r : -EAGAIN;
}

/* -EINVAL: target is dir or below it. -ENOENT: target is gone. */
static int check_not_below(struct sqlite_conn *c, mfs_ino_t dir, mfs_ino_t target)
{
	int64_t v = 0;
	int r, depth = 0;

	for (mfs_ino_t at = target; dir; at = (mfs_ino_t)v) {
		if (++depth > DEPTH_MAX) {
			mfs_log(MFS_LOG_META, MFS_LOG_ERR, c->op, "index=%s ino=%" PRIu64 " lies below itself; run massfs fsck",
				c->path, target);
			return -EIO;
		}
		if (at == dir)
			return -EINVAL;
		if (at == MFS_ROOT_INO)
			break;
		r = select_i64(c, SQL_FILE_PARENT, at, 0, &v);
		if (r < 0)
			return r;
		if (v == 0)
			return -ENOENT;
	}
	return 0;
}

static int check_guards(struct sqlite_conn *c, const struct change *change)
{
	int64_t v = 0;
	int r;

	if (change->no_child) {
		r = select_i64(c, SQL_HAS_CHILD, change->no_child, 0, &v);
		if (r < 0)
			return r;
		if (v)
			return -ENOTEMPTY;
	}
	r = check_not_below(c, change->not_below_dir, change->not_below_target);
	return r < 0 ? r : check_not_below(c, change->not_below_dir2, change->not_below_target2);
}

static int write_one(struct sqlite_conn *c, const struct write *w, struct sqlite_delta *delta)
{
	switch (w->kind) {
	case WRITE_INSERT:
		return sqlite_insert_node(c, w, delta);
	case WRITE_EDIT:
	case WRITE_DELETE:
	case WRITE_RENAME:
	case WRITE_TRASH:
	case WRITE_UNTRASH:
	case WRITE_PURGE:
		return write_existing(c, w, delta);
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_DELETE:
	case WRITE_ALIAS_RENAME:
		return write_alias(c, w);
	default:
		return sqlite_write_side(c, w);
	}
}

int sqlite_write_change(struct sqlite_conn *c, const struct change *change, struct sqlite_delta *delta)
{
	int r = check_guards(c, change);

	for (unsigned int i = 0; r == 0 && i < change->n_writes; i++)
		r = write_one(c, &change->writes[i], delta);
	for (unsigned int i = 0; r == 0 && i < change->n_touches; i++)
		r = touch_one(c, &change->touches[i]);
	return r;
}

/* All zero where the record is gone. */
static int ret_attr_again(struct sqlite_conn *c, struct mfs_attr *ret, mfs_ino_t ino)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	int r;

	if (!ret)
		return 0;
	r = sqlite_load_lean(c, ino, &n);
	if (r < 0 && r != -ESTALE)
		return r;
	*ret = r == 0 ? n.attr : (struct mfs_attr){ .ino = ino };
	return 0;
}

int sqlite_ret_attrs_again(struct sqlite_conn *c, const struct change *change)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < change->n_writes; i++)
		r = ret_attr_again(c, change->writes[i].ret_attr, change->writes[i].ino);
	for (unsigned int i = 0; r == 0 && i < change->n_touches; i++)
		r = ret_attr_again(c, change->touches[i].ret_attr, change->touches[i].dir);
	return r;
}

int sqlite_reserve_numbers(struct sqlite_conn *c, unsigned int count, uint64_t *ret_first)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_RESERVE, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, count);
	r = conn_step(c, st);
	if (r < 0)
		return r;
	if (r == 0)
		return -EIO; /* no volume row: sqlite_schema.c makes one with the table */
	*ret_first = column_u64(st, 0);
	return conn_run(c, st);
}
