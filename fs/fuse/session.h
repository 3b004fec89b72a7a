/*
 * The connection to the kernel: made, mounted, served, ended. All that fs/ outside of fs/fuse/ knows of libfuse.
 */
#ifndef MASSFS_FS_FUSE_SESSION_H
#define MASSFS_FS_FUSE_SESSION_H

#include <stdbool.h>
#include <sys/types.h>

#include "fs/fs.h"

struct session;

/* 0 or -errno with *ret_reason (owned by the caller). */
int session_new(struct massfs *fs, struct session **ret, char **ret_reason) MFS_NODISCARD;
void session_free(struct session *s); /* unmounted before. NULL: nothing */

/* Mount on cfg->mountpoint. As root by mount(2), else through fusermount3. */
int session_mount(struct session *s, char **ret_reason) MFS_NODISCARD;
/* Take the mount away, lazily if it is busy, and end what the kernel still waits for. */
void session_unmount(struct session *s);

/* Serve until it is unmounted or session_exit(). On the main thread. 0 or -errno. */
int session_loop(struct session *s) MFS_NODISCARD;
/* Any thread: the loop ends after the requests in hand. */
void session_exit(struct session *s);

/* After the unmount: close what the kernel did not, while the volume is still open. */
void session_drop_handles(struct session *s);

/* Wait until the kernel's INIT was answered (true) or the loop has ended (false). */
bool session_wait_init(struct session *s);
/* Wait until the loop has ended, at most timeout_ms: true. */
bool session_wait_end(struct session *s, unsigned int timeout_ms);

/* Attributes of an inode that a request of its own is being answered for: takes no lock that a request holds. */
void session_forget_attr(struct session *s, mfs_ino_t ino);
/* Notifications; may block on the kernel's locks, so only fs/fuse/notify.c calls them. */
void session_notify_inode(struct session *s, mfs_ino_t ino, bool data);
/* True: the kernel does not know the name any more. */
bool session_notify_entry(struct session *s, mfs_ino_t parent, const char *name, size_t len);

#endif
