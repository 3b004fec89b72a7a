/* In which order the versions of an inode, or of a path, are told: the same of all engines. For qsort(). */
#ifndef MASSFS_META_VERSION_ORDER_H
#define MASSFS_META_VERSION_ORDER_H

#include "meta/records.h"

/* Of one inode the data counter decides. */
static inline int version_newest_data_first(const void *a, const void *b)
{
	const struct version_record *x = a, *y = b;

	return (x->data < y->data) - (x->data > y->data);
}

/* Among the inodes that had one path over time only the clock can tell. */
static inline int version_newest_replaced_first(const void *a, const void *b)
{
	const struct version_record *x = a, *y = b;

	if (x->replaced != y->replaced)
		return (x->replaced < y->replaced) - (x->replaced > y->replaced);
	return version_newest_data_first(a, b);
}

#endif
