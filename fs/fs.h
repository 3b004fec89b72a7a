/*
 * What a mount owns, and the order in which it starts and stops: volume, inodes, budget, upload workers, background
 * work (reconciler, collector, committer), notifications to the kernel, control socket. One per process, owned by massfs_mount_run().
 */
#ifndef MASSFS_FS_FS_H
#define MASSFS_FS_FS_H

#include "common/conf.h"
#include "common/workers.h"
#include "fs/budget.h"
#include "fs/content.h"
#include "fs/inode.h"
#include "fs/volume.h"

struct notifier;
struct reconciler;
struct collector;
struct committer;
struct control_server;
struct atimes;
struct session;
struct warmer;
struct vtree;
struct names;
struct newsroom;
struct file_locks;

struct massfs {
	const struct mfs_config *cfg;
	struct volume *vol;
	struct inode_table *inodes;
	struct names *names;		/* fs/names.h; NULL: nobody else changes them */
	struct newsroom *news;		/* fs/news.h; NULL: there are none */
	struct file_locks *locks;	/* fs/file_locks.h; NULL: they are the kernel's own */
	struct budget *budget;
	struct workers *uploaders;
	struct content_env content_env;
	struct notifier *notifier;	/* fs/fuse/notify.h */
	struct reconciler *reconciler;	/* fs/reconcile.h */
	struct collector *collector;	/* fs/gc.h */
	struct committer *committer;	/* fs/committer.h */
	struct control_server *control; /* fs/control.h */
	struct atimes *atimes;		/* fs/atime.h */
	struct session *session;	/* fs/fuse/session.h */
	struct warmer *warmer;		/* fs/warmup.h */
	struct vtree *vtree;		/* fs/fuse/vtree.h; made and freed with the session */
	uint64_t dev; /* st_dev of the mount, once mounted */
	atomic_bool labels; /* some file of the volume has, or had while it is mounted, a security.selinux */
	atomic_bool acls;   /* the same of ACLs, of either kind */
	_Atomic uint64_t n_ops, n_errors, bytes_read, bytes_written; /* for massfs status */
};

/* Commit all dirty files, write access times back, settle what is small, for a bounded time. For unmount's drain; progress through report
 * (may be NULL; done and total in files). 0 or the first error. */
int massfs_drain(struct massfs *fs, struct op_ctx *op, void (*report)(void *arg, uint64_t done, uint64_t total), void *arg) MFS_NODISCARD;

#endif
