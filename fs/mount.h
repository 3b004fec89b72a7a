/* Mount and serve: from a configuration to an exit status of mount(8). */
#ifndef MASSFS_FS_MOUNT_H
#define MASSFS_FS_MOUNT_H

#include "common/conf.h"

/*
 * Opens the volume, mounts it on cfg->mountpoint and serves until it is unmounted or a signal (TERM, INT, HUP) ends
 * it. Once the mount answers (INIT done, a getattr of the root works) one byte '\0' is written to ready_fd, which is
 * then closed; on failure before that the reason as text. ready_fd -1: the reason goes to stderr.
 * Call before any thread is made (it makes some). Returns 0, or mount(8)'s exit code (32: mount failure, 2: system).
 */
int massfs_mount_run(const struct mfs_config *cfg, int ready_fd);

#endif
