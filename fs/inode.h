/*
 * The table of inodes that the kernel or a handle of ours refers to, with their attributes.
 *
 * Two counts: refs is the daemon's own (atomic; the last inode_put frees), nlookup is what the kernel owes in FORGETs,
 * under the table's lock; it holds one ref while above zero. nodeid for the kernel is the inode number (the mount's
 * root is FUSE_ROOT_ID), so a nodeid stays valid after a FORGET as long as the file exists (NFS).
 */
#ifndef MASSFS_FS_INODE_H
#define MASSFS_FS_INODE_H

#include <stdatomic.h>

#include "common/sync.h"
#include "fs/content.h"

struct inode_table;

struct inode {
	mfs_ino_t ino;	  /* constant, as is table */
	struct inode_table *table;
	atomic_uint refs;
	uint64_t nlookup; /* inode_table.lock */
	struct inode *next; /* hash chain; inode_table.lock */

	struct mfs_mutex lock; /* guards the fields below */
	struct mfs_attr attr;  /* the newest we saw (by ver); see inode_take */
	uint64_t attr_epoch;   /* the table's epoch at the last inode_invalidate */
	bool attr_valid;
	int64_t given;	       /* monotonic: when a valid one was last taken over, and may have been told to the kernel */
	uint64_t pages;	       /* the counter `data` of what the kernel has pages of; 0: not known (fs/news.c) */
	uint64_t lock_pages;   /* the same, surely, and of own commits since: as of the last lock (fs/fuse/ops_lock.c) */
	bool gone;	      /* has no record any more (rmdir, removed fifo): attr is what fstat gives */
	unsigned int n_open;  /* handles, directories too */
	unsigned int n_open_write;
	struct content *content; /* regular files with handles; freed with the last one */
	bool cache_bad;	      /* the kernel has pages of writes that failed: the next open drops them */
	int64_t atime_dirty;  /* relatime update not yet in the index; 0: none (fs/atime.h) */
	unsigned int atime_writes; /* counts up when a write-back of it begins and ends: odd, one is under way */
};

int inode_table_new(struct inode_table **ret) MFS_NODISCARD;
void inode_table_free(struct inode_table *t); /* asserts nothing is open; drops what the kernel still refers to */

/* The inode, made if need be, one ref for the caller; NULL: no memory. */
struct inode *inode_get(struct inode_table *t, mfs_ino_t ino);
/* Only if it is in the table already. */
struct inode *inode_find(struct inode_table *t, mfs_ino_t ino);
struct inode *inode_ref(struct inode *i);
void inode_put(struct inode_table *t, struct inode **ip); /* leaves NULL */

/* The kernel got an entry reply for it: nlookup += 1. Before the reply. */
void inode_looked_up(struct inode_table *t, struct inode *i);
void inode_forget(struct inode_table *t, mfs_ino_t ino, uint64_t n);

/*
 * Attributes. A request takes the table's epoch before it reads or changes the index, and hands over with it what the
 * index answered. inode_take() keeps attr if it is newer (ver) than what we have, as valid unless the inode was
 * invalidated since that epoch (then the answer may be older than the change that invalidated); *attr becomes the
 * newest known, with dirty content and access time laid over it: what stat shows. inode_update() is inode_take() for
 * attributes that are known to be the latest.
 */
uint64_t inode_epoch(const struct inode_table *t);
uint64_t inode_epoch_next(struct inode_table *t); /* a new one, higher than all before */
/* True: it is valid, the kernel may keep it. */
bool inode_take(struct inode *i, uint64_t epoch, struct mfs_attr *attr);
void inode_update(struct inode *i, struct mfs_attr *attr);
/* The index changed behind it (a child came or went, a verb): what we have is not valid any more. */
void inode_invalidate(struct inode_table *t, struct inode *i);
/* The same of one that need not be in the table: an answer under way is not valid either. */
void inode_news(struct inode_table *t, mfs_ino_t ino);
/* All of them. */
void inode_lost(struct inode_table *t);
/* What stat shows, from here. False: not known, read the index. */
bool inode_attr(struct inode *i, struct mfs_attr *ret);
bool inode_is_gone(struct inode *i);
/* It lost its record for good; attr is what fstat shows from now on. */
void inode_set_gone(struct inode *i, const struct mfs_attr *attr);

/* Call fn on each inode (a ref is held, no lock): for atime flush, drain, notify. */
void inode_table_walk(struct inode_table *t, void (*fn)(struct inode *i, void *arg), void *arg);
size_t inode_table_count(struct inode_table *t);

#endif
