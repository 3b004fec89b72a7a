/*
 * The line in /run/mount/utab that makes umount(8) call umount.fuse.massfs.
 *
 * Given an absolute path, umount(8) takes the type from statfs(2), which is "fuse" for every FUSE mount, and would look
 * for /sbin/umount.fuse. Only for a mount that is in utab does it look closer (libmount, lookup_umount_fs_by_statfs();
 * mount.davfs writes such a line for the same reason).
 *
 * Best effort: without root, or without /run, umount(8) unmounts by itself and does not wait for the daemon.
 */
#ifndef MASSFS_TOOLS_UTAB_H
#define MASSFS_TOOLS_UTAB_H

#include "common/buf.h"

/* Replaces what there is for this mount point. 0 or -errno. */
int utab_add(const char *source, const char *dir);
int utab_remove(const char *dir);

/* The new text of the file: without the lines of dir; with a line of its own unless source is NULL. For tests. */
int utab_edit(const char *old, const char *source, const char *dir, struct mfs_buf *ret);

#endif
