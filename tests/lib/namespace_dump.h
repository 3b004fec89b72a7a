/*
 * The whole index as text, without times and numbers that differ from run to run: to compare what two ways of doing
 * something led to.
 */
#ifndef MASSFS_TESTS_NAMESPACE_DUMP_H
#define MASSFS_TESTS_NAMESPACE_DUMP_H

#include "tests/lib/namespace_world.h"

/* Owned. Names, attributes, xattrs, refs, trash, inline bytes, slices, versions, dropped things, documents, jobs. */
char *ns_world_dump(struct ns_world *w);

#endif
