/* What gc.c (what the index lists) and gc_walk.c (what the store has) share. */
#ifndef MASSFS_FS_GC_INTERNAL_H
#define MASSFS_FS_GC_INTERNAL_H

#include <stdlib.h>

#include "common/op_ctx.h"
#include "fs/gc.h"

/* 60 s. In a build with crash points (common/crash_point.h) tests need not wait: MASSFS_TEST_GC_AGE=SECONDS. */
static inline int64_t gc_dropped_age_ns(void)
{
	int64_t age = 60;
#ifdef MASSFS_CRASH_POINTS
	const char *given = getenv("MASSFS_TEST_GC_AGE");

	if (given)
		age = strtoll(given, NULL, 10);
#endif
	return age * INT64_C(1000000000);
}

void gc_found(const struct gc_options *opt, const char *what, const struct object_info *info);

#endif
