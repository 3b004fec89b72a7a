/*
 * Fencing: a session in a record's `fenced` cannot commit content to it any more (EXPECT_NOT_FENCED). Whoever takes away
 * what a dead or frozen session holds (a lock, an upload that no record names) fences the record against it first.
 */
#ifndef MASSFS_META_FENCE_H
#define MASSFS_META_FENCE_H

#include "meta/engine.h"

/* The write that does it joins `c`; *n, which the caller has read, must stay until it is applied. 1: a write was added;
 * 0: the record is fenced against it already. The write expects n's ver: -EAGAIN of the change, read again. */
int fence_write(struct engine *e, struct op_ctx *op, struct node *n, uint64_t session, struct change *c) MFS_NODISCARD;
/* The same by itself, in files or trash. 0 also when there is no such record. */
int fence_inode(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t session) MFS_NODISCARD;

#endif
