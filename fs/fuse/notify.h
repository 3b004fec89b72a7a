/*
 * What the kernel must forget. Such a notification can wait for locks of the kernel that a request of ours holds, so
 * it is sent by a thread of its own that nobody waits for and that holds nothing of ours.
 */
#ifndef MASSFS_FS_FUSE_NOTIFY_H
#define MASSFS_FS_FUSE_NOTIFY_H

#include <stdbool.h>

#include "fs/fs.h"

struct notifier;

int notifier_start(struct massfs *fs, struct notifier **ret) MFS_NODISCARD;
/* After the kernel connection has ended (it sets blocked ones free). NULL: nothing. */
void notifier_stop(struct notifier *n);

/* Queued; from any thread, with any lock. n NULL: nothing. */
/* Attributes, and with `data` the pages too. */
void notify_inode(struct notifier *n, mfs_ino_t ino, bool data);
/* The name, also when it was not there (a negative entry). */
void notify_entry(struct notifier *n, mfs_ino_t parent, const char *name, size_t len);
/* The same a moment later, for answers that are on their way while it is told; attributes only. */
void notify_inode_later(struct notifier *n, mfs_ino_t ino);
void notify_entry_later(struct notifier *n, mfs_ino_t parent, const char *name, size_t len);
/* Attributes of every inode, and the pages of what is open: twice, a moment apart. Also what happens when the queue is full. */
void notify_all(struct notifier *n);

#endif
