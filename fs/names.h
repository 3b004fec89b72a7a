/*
 * Which names the kernel was given, and for which inode: so that an event that names only an inode, or only its new name,
 * becomes notifications of the old ones, and so that a lookup the kernel repeats is answered from here while news come.
 * Also what was changed when, of names and inodes alike (by hash): an answer that was read before is not kept.
 *
 * For volumes that others may change; a volume of one mount has none (all functions take NULL for "none").
 */
#ifndef MASSFS_FS_NAMES_H
#define MASSFS_FS_NAMES_H

#include <sys/types.h>

#include "fs/inode.h"

struct names;

#define NAMES_SOME_ALIAS UINT64_MAX /* as an id: a further hard link, of which it is not known which alias it is */

/* max: names kept at most. ttl_ns: for how long the kernel believes a name at most. */
int names_new(struct inode_table *inodes, size_t max, int64_t ttl_ns, struct names **ret) MFS_NODISCARD;
void names_free(struct names *n);

/* A name goes: told with no lock held; `again`: it was given to the kernel so lately that the answer may still be on its way. */
typedef void names_gone_fn(void *arg, mfs_ino_t parent, const char *name, size_t len, bool again);
/* Hears of those that go because of what is given, or what this mount has failed to do. Before the first request. */
void names_hook(struct names *n, names_gone_fn *fn, void *arg);

/*
 * An answer of the index to a request that began at `epoch` (inode_epoch()): (parent, name) is `ino` by the record `id`
 * (the inode itself, or an alias; 0: not known), or with ino 0 nobody. True: kept, and the kernel may believe it for the
 * time of an entry. False: the name was changed since, or there is no room: the kernel must ask again.
 */
bool names_put(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id);
/*
 * The same for a lookup. The kernel does nothing, and says that it is done, when it is asked to rename one name of an inode to
 * another. So it must not be given a name of a record while it may hold an older one of the same record (that another mount has
 * renamed): NAMES_TWICE, and the older one is being taken away from it. Hard links are records of their own.
 */
enum names_say {
	NAMES_KEPT,  /* the kernel may believe it */
	NAMES_ONCE,  /* it must ask again */
	NAMES_TWICE, /* nor may a call that could be a rename see it */
};
struct names_asked {
	uint64_t epoch; /* inode_epoch() at the request's begin */
	int64_t at;	/* when that was (monotonic) */
	pid_t who;	/* the thread that asks */
};
enum names_say names_look(struct names *n, const struct names_asked *q, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino,
			  uint64_t id);
/* It was given for no time: only the call that asked can hold it. */
void names_once(struct names *n, const struct names_asked *q, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id);
/* An answer about the inode is refused to this thread: was one just before? (Forgotten with the answer.) */
bool names_refused(struct names *n, pid_t who, mfs_ino_t ino);
/* For the notifier: the kernel was told to forget the name, at some time after this mark was taken. */
uint64_t names_mark(struct names *n);
void names_forgotten(struct names *n, uint64_t mark, mfs_ino_t parent, const char *name, size_t len);

/* The same as names_put() after this mount has made it so: older answers under way do not count any more. */
bool names_made(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id);
/* This mount took the name away, and the kernel knows. */
void names_drop(struct names *n, mfs_ino_t parent, const char *name, size_t len);
/* It does not know any more what it is, and the kernel should not either. */
void names_unsure(struct names *n, mfs_ino_t parent, const char *name, size_t len);
/* True: known. *ret_ino 0: nobody has the name. *ret_id 0: not known. */
bool names_get(struct names *n, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t *ret_ino, uint64_t *ret_id);
/* Was it changed since `epoch`? */
bool names_changed_since(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len);

/* What news of others take away; each name that goes is told to fn. */
/* The record `id` names (parent, name) now, as `target` (parent 0: it has no name); what else it was called is wrong. True:
 * that was known already. */
bool names_news(struct names *n, uint64_t id, mfs_ino_t target, mfs_ino_t parent, const char *name, size_t len,
		names_gone_fn *fn, void *arg);
/* The record or alias is gone, whatever it was called. */
void names_news_gone(struct names *n, uint64_t id, names_gone_fn *fn, void *arg);
/* Everything may be wrong. fn (may be NULL) hears of each name. */
void names_lost(struct names *n, names_gone_fn *fn, void *arg);

size_t names_count(struct names *n);
size_t names_ghosts(struct names *n);

#endif
