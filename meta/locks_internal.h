/* What locks.c (one file's locks) and locks_walk.c (over all of them) share. */
#ifndef MASSFS_META_LOCKS_INTERNAL_H
#define MASSFS_META_LOCKS_INTERNAL_H

#include "meta/locks.h"

#define LOCK_CELL_NAME 32
#define LOCK_BOARDS    LOCK_CELLS "w"

void lock_cell_name(char name[LOCK_CELL_NAME], mfs_ino_t ino);
void lock_board_name(char name[LOCK_CELL_NAME], uint64_t session);
struct engine *locks_engine(struct locks *l);

/* A cell that is not there is one with token 0 and no bytes. */
int lock_cell_read(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret) MFS_NODISCARD;
/* -EIO: it is no table (logged). */
int lock_cell_parse(struct op_ctx *op, const struct cell_record *cell, struct lock_table *ret) MFS_NODISCARD;
/* The write that makes `old` the table t joins the change; *next is released after it, whatever is returned. */
int lock_cell_next(const struct cell_record *old, const struct lock_table *t, struct cell_record *next,
		   struct change *c) MFS_NODISCARD;
/* After a try that gave r: 1 another one (a pause was made), else what it came to. */
int lock_cell_again(struct op_ctx *op, const char *name, int tries, int r) MFS_NODISCARD;

#endif
