/*
 * flock and fcntl locks of one volume, shared by all its mounts: one cell locks/INODE per locked file, replaced by
 * compare-and-set (meta/lock_table.h is what is in it). Nobody waits here: fs/lock_wait.h does.
 *
 * A lock belongs to a session. A session that is dead is buried (fs/sessions.h): each record it has a lock on is fenced
 * against it in the change that takes the lock away.
 *
 * Who waits for long writes it into his session's cell locks/wSESSION, for the search for deadlocks: it walks from who
 * holds what is wanted to what that one waits for. A deadlock lasts, so a moment's delay costs nothing.
 *
 * Errors: 0 or -errno; -EAGAIN: held by somebody else; -ENOLCK: too many locks on the file; -EIO: the engine's, or the
 * cell cannot be read (logged; `massfs fsck` says so too).
 */
#ifndef MASSFS_META_LOCKS_H
#define MASSFS_META_LOCKS_H

#include "meta/engine.h"
#include "meta/lock_table.h"

#define LOCK_CELLS "locks/"

struct locks;
int locks_new(struct engine *e, struct locks **ret) MFS_NODISCARD; /* -ENOTSUP: the engine has no cells */
void locks_free(struct locks *l); /* NULL: nothing */

/*
 * want->ino gets `want` (its ino is of no other use), or loses what is in its range (LOCK_TYPE_NONE). A flock lock of another
 * type that the owner has is given up first, as Linux does, also when the answer is -EAGAIN. *ret_holder (may be NULL): with
 * -EAGAIN, one who holds it. 1 index change where this mount was the last to change the file's locks, else 1 read more.
 */
int locks_set(struct locks *l, struct op_ctx *op, const struct file_lock *want, struct file_lock *ret_holder) MFS_NODISCARD;
/* What F_GETLK asks: *ret is who holds it, of type LOCK_TYPE_NONE when nobody does. */
int locks_test(struct locks *l, struct op_ctx *op, const struct file_lock *want, struct file_lock *ret) MFS_NODISCARD;
/* All that who's owner has on who->ino, of who->kind. */
int locks_drop(struct locks *l, struct op_ctx *op, const struct file_lock *who) MFS_NODISCARD;

/* What the session's owners wait for since long, all of it (t->v[].ino is the file); an empty table: nobody waits. */
int locks_waiting(struct locks *l, struct op_ctx *op, uint64_t session, const struct lock_table *t) MFS_NODISCARD;
/* Would `want` wait for somebody who waits for want's owner? 1, 0. */
int locks_deadlock(struct locks *l, struct op_ctx *op, const struct file_lock *want) MFS_NODISCARD;

/* A session is dead: its locks go, each record first being fenced against it in the same change, and what it waited for. */
int locks_bury(struct engine *e, struct op_ctx *op, uint64_t session) MFS_NODISCARD;
/* The same for one file. */
int locks_bury_inode(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t session) MFS_NODISCARD;

/* Which file a cell's name is of; 0: none. */
mfs_ino_t locks_ino_of_cell(const char *name);
/* A token for a cell: random, never 0. */
int cell_token(uint64_t *ret) MFS_NODISCARD;

#endif
