/*
 * struct node <-> a row of `files` or `trash`. Private to meta/sqlite_*.
 */
#ifndef MASSFS_META_SQLITE_ROW_H
#define MASSFS_META_SQLITE_ROW_H

#include "meta/node.h"
#include "meta/sqlite_conn.h"

/*
 * Bytes as TEXT where they are valid UTF-8 without NUL, else as BLOB: the one place that decides. p NULL: NULL.
 * Borrowed until the statement is bound again or reset.
 */
void row_bind_bytes(sqlite3_stmt *st, int i, const void *p, size_t len);
void row_bind_string(sqlite3_stmt *st, int i, const char *s);
void row_bind_name(sqlite3_stmt *st, int i, const struct mfs_name *name);

/* A column's bytes as a string of one's own; NULL stays NULL. */
int row_get_string(sqlite3_stmt *st, int i, char **ret) MFS_NODISCARD;
int row_get_name(sqlite3_stmt *st, int i, struct mfs_name *ret) MFS_NODISCARD;
int row_get_ref(sqlite3_stmt *st, int first, struct object_ref *ret) MFS_NODISCARD; /* store,bucket,key,version */
void row_bind_ref(sqlite3_stmt *st, int first, const struct object_ref *ref);

/* Bind columns 1 to last (COL_LAST_ATTR, COL_LAST_BODY or COL_OPENERS). The xattrs column is a packed copy. */
int row_bind(sqlite3_stmt *st, const struct node *n, enum row_col last) MFS_NODISCARD;

/* The first columns up to COL_LAST_ATTR: a partial node. */
int row_read_attr(sqlite3_stmt *st, struct node *ret) MFS_NODISCARD;
/* A whole record from SQL_GET, SQL_LOOKUP and the like. On failure *ret is empty. Logs damage. */
int row_read(struct sqlite_conn *c, sqlite3_stmt *st, struct node *ret) MFS_NODISCARD;
/*
 * The same without what lies in `contents`: inline_data and slices have their size and no data. Nodes of that kind do
 * not leave meta/sqlite_*: node_copy() takes them for absent.
 */
int row_read_lean(struct sqlite_conn *c, sqlite3_stmt *st, struct node *ret) MFS_NODISCARD;

/* What lies beside the row: values over MFS_XATTR_BIG. (Tags: sqlite_tags.h.) */
int row_put_big_xattrs(struct sqlite_conn *c, const struct node *n) MFS_NODISCARD;
int row_delete_big_xattrs(struct sqlite_conn *c, mfs_ino_t ino) MFS_NODISCARD;
bool row_has_big_xattrs(const struct node *n);

/* Does the record, lean or whole, have bytes in `contents`? */
static inline bool row_has_contents(const struct node *n)
{
	return n->inline_data.size || n->slices.size;
}
/* Make `contents` what the node has; had: what it was before had some there. */
int row_put_contents(struct sqlite_conn *c, const struct node *n, bool had) MFS_NODISCARD;

/* A column of bytes: NULL stays absent, and no bytes are not the same. */
void row_bind_blob(sqlite3_stmt *st, int i, const struct node_blob *b);
int row_get_blob(sqlite3_stmt *st, int i, struct node_blob *ret) MFS_NODISCARD;
void row_get_fixed(sqlite3_stmt *st, int i, char *buf, size_t size);

#endif
