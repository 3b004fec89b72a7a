/*
 * The locks of one file as a value: what conflicts, how a range is set, split and merged, and their form in a cell.
 * Pure: no I/O. meta/locks.h is what mounts share of it.
 *
 * flock and fcntl locks do not see each other. A flock lock covers everything. An owner is a number of the kernel within a
 * session (struct files or struct file of the process; for the daemon an opaque number).
 */
#ifndef MASSFS_META_LOCK_TABLE_H
#define MASSFS_META_LOCK_TABLE_H

#include "meta/node.h"

#define LOCK_TABLE_MAX 16384	  /* locks of one file: a cell stays below 1 MiB */
#define LOCK_END_MAX   UINT64_MAX /* of a lock without an end */

enum file_lock_kind { LOCK_POSIX = 1, LOCK_FLOCK = 2 };
enum file_lock_type { LOCK_TYPE_NONE = 0, LOCK_TYPE_READ = 1, LOCK_TYPE_WRITE = 2 };

struct file_lock {
	mfs_ino_t ino; /* of a waiter: which file it waits for; in a file's own table 0 */
	uint64_t session, owner;
	uint64_t start, end; /* both in it */
	uint32_t pid;	     /* for F_GETLK, of the session's host */
	uint8_t kind, type;
};

/* Zeroed: none. In order of (kind, session, owner, start); ranges of one owner are disjoint. */
struct lock_table {
	struct file_lock *v;
	size_t n, cap;
};
void lock_table_release(struct lock_table *t);

/* A cell's bytes, from anybody: -EUCLEAN for what no lock_table_encode() wrote. *ret is the caller's on success. */
int lock_table_parse(const struct node_blob *b, struct lock_table *ret) MFS_NODISCARD;
/* Empty for an empty table (which deletes the cell). */
int lock_table_encode(const struct lock_table *t, struct node_blob *ret) MFS_NODISCARD;

bool lock_same_owner(const struct file_lock *a, const struct file_lock *b);
/* Do they exclude each other? Not those of one owner or of two kinds. */
bool lock_conflicts(const struct file_lock *a, const struct file_lock *b);
/* The first lock that `want` has to wait for, of lowest start; NULL: none. */
const struct file_lock *lock_table_conflict(const struct lock_table *t, const struct file_lock *want);
/*
 * The owner has `want` from now on in its range, whatever it had there before (LOCK_TYPE_NONE: nothing). Conflicts are not looked
 * at. *ret_changed: the table is another one now. -ENOLCK: too many; -ENOMEM. On failure the table is as it was.
 */
int lock_table_set(struct lock_table *t, const struct file_lock *want, bool *ret_changed) MFS_NODISCARD;
/* All of an owner's (kind, session, owner), or of a session's. How many went. */
size_t lock_table_drop_owner(struct lock_table *t, const struct file_lock *who);
size_t lock_table_drop_session(struct lock_table *t, uint64_t session);
bool lock_table_has_session(const struct lock_table *t, uint64_t session);

#endif
