/*
 * The tags of records in `files` as rows of their own, and searches by them and by the indexed fields. Private to
 * meta/sqlite_*.
 *
 * tags(k, v, ino, bare, num): name and value are BLOBs, so that they are in the order of their bytes; v has the first
 * TAG_VALUE_INDEXED bytes; num is the value as a number, where it is one.
 */
#ifndef MASSFS_META_SQLITE_TAGS_H
#define MASSFS_META_SQLITE_TAGS_H

#include "meta/expr.h"
#include "meta/node.h"
#include "meta/sqlite_conn.h"

/* What rows a record has: in order, each once. */
struct tag_rows {
	struct tag_row *v; /* owned, as are their bytes */
	size_t n, cap;
};
void tag_rows_release(struct tag_rows *r);
/* Of a record as it is; none for one in the trash, or NULL. */
int tag_rows_of(const struct node *n, struct tag_rows *ret) MFS_NODISCARD;
/* Make the rows of `ino`, which are `old`, those of `now`: only what differs is written. */
int tag_rows_change(struct sqlite_conn *c, mfs_ino_t ino, const struct tag_rows *old, const struct tag_rows *now) MFS_NODISCARD;

/* Fields that engine_find() has an index of here. */
#define SQLITE_INDEXES                                                                                           \
	(1u << FIELD_TAG | 1u << FIELD_HASH | 1u << FIELD_MTIME | 1u << FIELD_CREATED | 1u << FIELD_SIZE)
/* The inodes above `after`, in order, at most limit, that may match the term. */
struct ino_page {
	mfs_ino_t *v; /* room for `limit`; the caller's */
	size_t n;
};
int tags_find(struct sqlite_conn *c, const struct expr_term *t, mfs_ino_t after, size_t limit, struct ino_page *ret) MFS_NODISCARD;
/* Rows of the term's index, at most EXPR_ROWS_MAX. */
int tags_rows(struct sqlite_conn *c, const struct expr_term *t, uint64_t *ret) MFS_NODISCARD;
int tags_names(struct sqlite_conn *c, const char *name, const void *after, size_t after_len, size_t limit,
	       struct blob_list *ret) MFS_NODISCARD;
/* Make all rows anew from the records (an index of an older schema). */
int tags_rebuild(struct sqlite_conn *c) MFS_NODISCARD;

#endif
