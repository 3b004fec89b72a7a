/*
 * Is this database an index that this program can use, and making an empty one into an index. Private to
 * meta/sqlite_*.
 */
#ifndef MASSFS_META_SQLITE_SCHEMA_H
#define MASSFS_META_SQLITE_SCHEMA_H

#include "meta/sqlite_conn.h"

/*
 * Checks what is cheap to check at every open: that it is a database, ours, of our schema, not cut short, with its
 * volume row and root readable. -EUCLEAN, -EPROTONOSUPPORT (newer schema), -EPROTO (older), logged with what to do.
 */
int schema_check(struct sqlite_conn *c) MFS_NODISCARD;
/* Parts of that, for who changes the schema: the file's length (before a transaction), volume row and root (in one). */
int schema_check_length(struct sqlite_conn *c) MFS_NODISCARD;
int schema_check_volume(struct sqlite_conn *c) MFS_NODISCARD;
/* In WAL mode, with all tables, when it is empty; else nothing. */
int schema_create(struct sqlite_conn *c) MFS_NODISCARD;
/* The thorough check: SQLite's own, and that names and records agree. A line of text for each fault found. */
int schema_verify(struct sqlite_conn *c, void (*report)(void *arg, const char *text), void *arg) MFS_NODISCARD;

#endif
