/*
 * The writes of a change, inside the writer's open transaction. Private to meta/sqlite_*.
 */
#ifndef MASSFS_META_SQLITE_WRITE_H
#define MASSFS_META_SQLITE_WRITE_H

#include "meta/change.h"
#include "meta/sqlite_conn.h"

/* What a transaction did to the sums that engine_count() and engine_todo_count() give. */
struct sqlite_delta {
	int64_t files, bytes;
	int64_t todo, todo_inline; /* records in files with todo, and their inline bytes */
};

/* Guards, writes and touches of c in order. 0 or the -errno of the first that fails. */
int sqlite_write_change(struct sqlite_conn *c, const struct change *change, struct sqlite_delta *delta) MFS_NODISCARD;
/* The attributes that a change applied before asked for: as they are now. */
int sqlite_ret_attrs_again(struct sqlite_conn *c, const struct change *change) MFS_NODISCARD;
int sqlite_reserve_numbers(struct sqlite_conn *c, unsigned int count, uint64_t *ret_first) MFS_NODISCARD;
/* Insert a record, as WRITE_INSERT does. */
int sqlite_insert_node(struct sqlite_conn *c, const struct write *w, struct sqlite_delta *delta) MFS_NODISCARD;

/* The record, from files or trash. -ESTALE. */
int sqlite_load(struct sqlite_conn *c, mfs_ino_t ino, struct node *ret) MFS_NODISCARD;
/* The same without inline bytes and slices (row_read_lean). */
int sqlite_load_lean(struct sqlite_conn *c, mfs_ino_t ino, struct node *ret) MFS_NODISCARD;

/* A write to a side collection (sqlite_side.c). */
int sqlite_write_side(struct sqlite_conn *c, const struct write *w) MFS_NODISCARD;

#endif
