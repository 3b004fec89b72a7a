/*
 * Access times. A read that moves one (relatime: not newer than mtime or ctime, or older than a day) is shown by
 * getattr at once and written to the index later, in bulk: every 5 s, and at the end of the mount. A crash loses at
 * most that.
 *
 * An inode with such an update is kept in the table until it is written.
 */
#ifndef MASSFS_FS_ATIME_H
#define MASSFS_FS_ATIME_H

#include "common/conf.h"
#include "fs/inode.h"

struct atimes;

/* Starts its thread. */
int atimes_start(struct namespace *ns, struct inode_table *t, const struct mfs_config *cfg, struct atimes **ret)
	MFS_NODISCARD;
/* Writes back and joins. NULL: nothing. */
void atimes_stop(struct atimes *a);
/* Write back what there is. */
int atimes_flush(struct atimes *a, struct op_ctx *op) MFS_NODISCARD;

/* Would a read now move it? Then the kernel must not answer reads from its cache. */
bool atime_is_due(struct atimes *a, struct inode *i);
/* It was read. */
void atime_touch(struct atimes *a, struct inode *i);

/*
 * Around a setattr that sets the access time itself: it wins over an update that waits, and over one that is just
 * being written to the index.
 */
unsigned int atime_set_begin(struct inode *i);
void atime_set_end(struct atimes *a, struct inode *i, unsigned int begun, int64_t atime);

#endif
