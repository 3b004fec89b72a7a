/* What gc.c (what the index lists) and gc_walk.c (what the store has) share. */
#ifndef MASSFS_FS_GC_INTERNAL_H
#define MASSFS_FS_GC_INTERNAL_H

#include "common/op_ctx.h"
#include "fs/gc.h"

#define GC_DROPPED_AGE_NS (60 * INT64_C(1000000000))

void gc_found(const struct gc_options *opt, const char *what, const struct object_info *info);

#endif
