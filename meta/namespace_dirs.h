/*
 * What the namespace remembers of directories: ino -> (parent, name), so that a path costs no reads. Only where this
 * daemon is the only one to change the index. Bounded: a table of fixed size in which a newcomer takes the slot.
 */
#ifndef MASSFS_META_NAMESPACE_DIRS_H
#define MASSFS_META_NAMESPACE_DIRS_H

#include "meta/node.h"

struct namespace;

int ns_dirs_new(struct namespace *ns) MFS_NODISCARD;
void ns_dirs_free(struct namespace *ns);

#endif
