/*
 * Keeps collection from deleting what a restore is about to name again.
 *
 * The danger: a version's retention ends while somebody brings it back. Collection reads that nothing names its objects,
 * the restore commits a record that names them, collection deletes them. So collection takes the turn from the reading of
 * an inode's names to the deletion of what none of them has, and a restore from seeing that the version is still kept to
 * its commit: then the version, or after it `dropped` (for a minute), or the record names them without a gap.
 *
 * A turn, no lock (docs/locking.md, rule 9): it is held across calls of index and store. All zero is a valid beginning.
 */
#ifndef MASSFS_FS_PAST_TURN_H
#define MASSFS_FS_PAST_TURN_H

#include <stdbool.h>

#include "common/sync.h"

struct past_turn {
	struct mfs_mutex lock;
	pthread_cond_t changed; /* `lock`; predicate: !taken */
	bool taken;
};

static inline void past_turn_take(struct past_turn *t)
{
	MFS_GUARD(&t->lock);

	while (t->taken)
		pthread_cond_wait(&t->changed, &t->lock.m);
	t->taken = true;
}

static inline void past_turn_release(struct past_turn *t)
{
	MFS_GUARD(&t->lock);

	t->taken = false;
	pthread_cond_signal(&t->changed);
}

#endif
