/*
 * commit=: a thread of the mount that commits, every second, what has been dirty for longer than that in files that are
 * still open. What it could not store stays dirty: fsync and close say so.
 */
#ifndef MASSFS_FS_COMMITTER_H
#define MASSFS_FS_COMMITTER_H

#include "fs/content.h"

struct committer;

/* Borrows env until the stop. With commit=0 there is nothing to do: *ret is NULL. */
int committer_start(struct content_env *env, struct committer **ret) MFS_NODISCARD;
/* Waits for the commit under way. NULL: nothing. */
void committer_stop(struct committer *c);

#endif
