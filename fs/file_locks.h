/*
 * The locks that this mount's processes have and wait for: meta/locks.h for one session, and the waiting.
 *
 * A process that must wait occupies no thread: its waiter stands in a list that one thread tries again, woken by the news of
 * the file's cell, or by the clock (once a second; 5 times while news are silent). After a fifth of a second it stands in
 * the index too, and deadlocks are looked for. Whose session is dead is freed by who waits for it.
 *
 * On a mount that lost its session (fs/sessions.h) what was locked is lost: each owner's further calls give EIO until it has
 * closed the file.
 */
#ifndef MASSFS_FS_FILE_LOCKS_H
#define MASSFS_FS_FILE_LOCKS_H

#include "common/op_ctx.h"
#include "fs/volume.h"
#include "meta/lock_table.h"

struct file_locks;

/* v has a session with a heartbeat (v->sessions may be NULL in tests: then nothing is ever lost). */
int file_locks_start(struct volume *v, struct file_locks **ret) MFS_NODISCARD;
/* Who waits is answered ECANCELED. No call may be under way. NULL: nothing. */
void file_locks_stop(struct file_locks *fl);
/* Who waits, now or later, is answered ECANCELED: the mount ends. */
void file_locks_cancel_all(struct file_locks *fl);

/* Take, change or (LOCK_TYPE_NONE) give back; want->session is set here. `via` is the open file it came through. 0, -EAGAIN: held by
 * somebody else; -EIO: lost, or the index's; others of meta/locks.h. */
int file_locks_set(struct file_locks *fl, struct op_ctx *op, struct file_lock *want, const void *via) MFS_NODISCARD;
int file_locks_test(struct file_locks *fl, struct op_ctx *op, struct file_lock *want, struct file_lock *ret) MFS_NODISCARD;
/* Has this owner anything that it would have to give back? No round trip. */
bool file_locks_has(struct file_locks *fl, const struct file_lock *who);
/* A close: all of one owner (of who->kind) on who->ino; all that came through an open file. No round trip where there is none. */
int file_locks_drop(struct file_locks *fl, struct op_ctx *op, const struct file_lock *who) MFS_NODISCARD;
int file_locks_drop_via(struct file_locks *fl, struct op_ctx *op, const void *via) MFS_NODISCARD;

/* Somebody who waits. The caller fills want, via, done, arg; it must stay until `done`, which comes once, on a thread of ours with
 * no lock held: 0: the lock is his; -EDEADLK; -ECANCELED; or what file_locks_set() gives. */
struct lock_waiter {
	struct file_lock want;
	const void *via;
	void (*done)(struct lock_waiter *w, int r);
	void *arg;

	/* file_locks.c's; its lock. */
	struct lock_waiter *next;
	int64_t since, next_try;
	unsigned int round;
	bool woken, on_board, checked;
	atomic_bool cancelled;
};
void file_locks_wait(struct file_locks *fl, struct lock_waiter *w);
/* Any thread, any time before `done`: the answer shall be -ECANCELED. */
void file_locks_cancel(struct file_locks *fl, struct lock_waiter *w);

/* Run a job of whoever got a lock: it may wait for the kernel's page locks, so not on a thread that answers requests. */
int file_locks_submit(struct file_locks *fl, void (*fn)(void *arg), void *arg) MFS_NODISCARD;

/* Does not wait. */
void file_locks_news(struct file_locks *fl, const struct news *n);

/* The session is gone. Calls fn for each file that something was locked of. */
void file_locks_lost(struct file_locks *fl, uint64_t session, void (*fn)(void *arg, mfs_ino_t ino), void *arg);

/* For massfs status. */
void file_locks_count(struct file_locks *fl, size_t *ret_owners, size_t *ret_waiters);

#endif
