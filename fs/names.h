/*
 * Which names the kernel was given, and for which inode: so that an event that names only an inode, or only its new name,
 * becomes notifications of the old ones, and so that a lookup the kernel repeats is answered from here while news come.
 * Also what was changed when, of names and inodes alike (by hash): an answer that was read before is not kept.
 *
 * For volumes that others may change; a volume of one mount has none (all functions take NULL for "none").
 */
#ifndef MASSFS_FS_NAMES_H
#define MASSFS_FS_NAMES_H

#include "fs/inode.h"

struct names;

/* max: names kept at most. ttl_ns: for how long the kernel believes a name at most. */
int names_new(struct inode_table *inodes, size_t max, int64_t ttl_ns, struct names **ret) MFS_NODISCARD;
void names_free(struct names *n);

/*
 * An answer of the index to a request that began at `epoch` (inode_epoch()): (parent, name) is `ino` by the record `id`
 * (the inode itself, or an alias; 0: not known), or with ino 0 nobody. True: kept, and the kernel may believe it for the
 * time of an entry. False: the name was changed since, or there is no room: the kernel must ask again.
 */
bool names_put(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id);
/* The same after this mount has made it so: older answers under way do not count any more. */
bool names_made(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id);
/* This mount took the name away, or does not know any more what it is. */
void names_drop(struct names *n, mfs_ino_t parent, const char *name, size_t len);
/* True: known. *ret_ino 0: nobody has the name. *ret_id: as of names_put. */
bool names_get(struct names *n, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t *ret_ino);
/* Was it changed since `epoch`? */
bool names_changed_since(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len);

/* What news of others take away. Each name that goes is told to fn with no lock held; `again`: it was given to the kernel
 * so lately that the answer may still be on its way. */
typedef void names_gone_fn(void *arg, mfs_ino_t parent, const char *name, size_t len, bool again);
/* The record `id` names (parent, name) now, as `target` (parent 0: it has no name); what else it was called is wrong. True:
 * that was known already. */
bool names_news(struct names *n, uint64_t id, mfs_ino_t target, mfs_ino_t parent, const char *name, size_t len,
		names_gone_fn *fn, void *arg);
/* The record or alias is gone, whatever it was called. */
void names_news_gone(struct names *n, uint64_t id, names_gone_fn *fn, void *arg);
/* Everything may be wrong. fn (may be NULL) hears of each name. */
void names_lost(struct names *n, names_gone_fn *fn, void *arg);

size_t names_count(struct names *n);

#endif
