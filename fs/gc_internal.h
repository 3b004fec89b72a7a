/* What gc.c (what the index lists) and gc_walk.c (what the store has) share. */
#ifndef MASSFS_FS_GC_INTERNAL_H
#define MASSFS_FS_GC_INTERNAL_H

#include "common/op_ctx.h"
#include "fs/gc.h"

#define GC_DROPPED_AGE_NS (60 * INT64_C(1000000000))

/* Does any record of the inode (in files, trash or versions) name this version? 1, 0 or -errno. */
int gc_is_named(struct volume *v, struct op_ctx *op, mfs_ino_t ino, const char *version) MFS_NODISCARD;
void gc_found(const struct gc_options *opt, const char *what, const struct object_info *info);

#endif
