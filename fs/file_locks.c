/* What this mount's processes have locked, and who waits. fs/file_locks.h; the thread that tries again is in lock_wait.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/log.h"
#include "fs/file_locks_internal.h"
#include "fs/sessions.h"

#define WORKERS 8
#define QUEUE	4096

static struct held **bucket(struct file_locks *fl, mfs_ino_t ino)
{
	return &fl->held[mfs_hash_u64(ino) % LOCK_BUCKETS];
}

static struct held *find_locked(struct file_locks *fl, const struct file_lock *who) MFS_REQUIRES(fl->lock)
{
	struct held *h = *bucket(fl, who->ino);

	while (h && (h->ino != who->ino || h->kind != who->kind || h->owner != who->owner))
		h = h->next;
	return h;
}

/* Noted before it is asked for: whatever becomes of the answer, a close gives it back. -EIO: it was lost. */
static int note(struct file_locks *fl, struct file_lock *want, const void *via, uint32_t *ret_seq)
{
	struct held *fresh = want->type == LOCK_TYPE_NONE ? NULL : calloc(1, sizeof(*fresh));
	struct held *h;
	int r = 0;

	{
		MFS_GUARD(&fl->lock);

		h = find_locked(fl, want);
		if (h && h->lost) {
			r = -EIO;
		} else if (h) {
			h->via = via;
			h->busy++;
			*ret_seq = h->seq += want->type != LOCK_TYPE_NONE;
			want->session = h->session;
		} else if (want->type == LOCK_TYPE_NONE) {
			r = 1; /* nothing to give back */
		} else if (!fresh) {
			r = -ENOMEM;
		} else {
			struct held **at = bucket(fl, want->ino);

			want->session = fl->v->session;
			*fresh = (struct held){ .next = *at, .ino = want->ino, .owner = want->owner, .session = want->session,
						.via = via, .kind = want->kind, .busy = 1, .seq = 1 };
			*ret_seq = 1;
			*at = MFS_TAKE(fresh);
			fl->n_held++;
		}
	}
	free(fresh);
	return r;
}

/* Takes it out of the table. */
static struct held *unlink_locked(struct file_locks *fl, const struct held *gone) MFS_REQUIRES(fl->lock)
{
	struct held **at = bucket(fl, gone->ino), *h;

	while (*at != gone)
		at = &(*at)->next;
	h = *at;
	*at = h->next;
	fl->n_held--;
	return h;
}

/* The call is over. With `nothing` the owner has no lock of the file any more, unless another call took one meanwhile. */
static void unnote(struct file_locks *fl, const struct file_lock *want, uint32_t seq, bool nothing)
{
	struct held *h, *gone = NULL;

	{
		MFS_GUARD(&fl->lock);

		h = find_locked(fl, want);
		if (h && --h->busy == 0 && nothing && h->seq == seq && !h->lost)
			gone = unlink_locked(fl, h);
	}
	free(gone);
}

/* The file is closed. */
static void forget(struct file_locks *fl, const struct file_lock *who)
{
	struct held *h, *gone = NULL;

	{
		MFS_GUARD(&fl->lock);

		h = find_locked(fl, who);
		if (h && !h->busy)
			gone = unlink_locked(fl, h);
	}
	free(gone);
}

static bool is_lost(struct file_locks *fl, const struct file_lock *want)
{
	MFS_GUARD(&fl->lock);
	struct held *h = find_locked(fl, want);

	return h && h->lost;
}

/*
 * The index has it; but was the session still ours then? If nobody can say so, it may have been buried before, and the lock
 * is on a list that nobody looks at any more: it is taken back as far as that goes, and who waits for it finds it dead.
 */
static int confirm(struct file_locks *fl, struct op_ctx *op, const struct file_lock *want)
{
	struct sessions *s = fl->v->sessions;
	struct file_lock undo = *want;

	if (want->type == LOCK_TYPE_NONE || !s || (sessions_sure(s) && fl->v->session == want->session && !is_lost(fl, want)))
		return 0;
	mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
		"inode=%" PRIu64 " a lock was given, but this mount may have been taken for dead meanwhile: the answer is EIO", want->ino);
	undo.type = LOCK_TYPE_NONE;
	if (locks_set(fl->locks, op, &undo, NULL) < 0)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " the lock could not be taken back", want->ino);
	return -EIO;
}

int file_locks_set(struct file_locks *fl, struct op_ctx *op, struct file_lock *want, const void *via)
{
	uint32_t seq = 0;
	int r = note(fl, want, via, &seq);

	if (r != 0)
		return r < 0 ? r : 0;
	r = locks_set(fl->locks, op, want, NULL);
	if (r == 0)
		r = confirm(fl, op, want);
	unnote(fl, want, seq, r == 0 && want->type == LOCK_TYPE_NONE && want->start == 0 && want->end == LOCK_END_MAX);
	if (r == 0 && want->type != LOCK_TYPE_WRITE)
		lock_wake(fl, want->ino); /* others of this mount need not wait for the news */
	return r;
}

int file_locks_test(struct file_locks *fl, struct op_ctx *op, struct file_lock *want, struct file_lock *ret)
{
	if (is_lost(fl, want))
		return -EIO;
	want->session = fl->v->session;
	{
		MFS_GUARD(&fl->lock);
		struct held *h = find_locked(fl, want);

		if (h)
			want->session = h->session;
	}
	return locks_test(fl->locks, op, want, ret);
}

bool file_locks_has(struct file_locks *fl, const struct file_lock *who)
{
	MFS_GUARD(&fl->lock);

	return find_locked(fl, who);
}

int file_locks_drop(struct file_locks *fl, struct op_ctx *op, const struct file_lock *who)
{
	struct file_lock all = *who;
	bool lost = false;
	int r = 0;

	{
		MFS_GUARD(&fl->lock);
		struct held *h = find_locked(fl, who);

		if (!h)
			return 0;
		all.session = h->session;
		lost = h->lost;
	}
	if (!lost)
		r = locks_drop(fl->locks, op, &all);
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
			"inode=%" PRIu64 " the locks of a file that was closed could not be given back (%s); they are, with the session",
			who->ino, strerror(-r));
	forget(fl, who);
	lock_wake(fl, who->ino);
	return r;
}

/* One that came through it. False: none. */
static bool find_via(struct file_locks *fl, const void *via, struct file_lock *ret)
{
	MFS_GUARD(&fl->lock);

	if (!fl->n_held)
		return false;
	for (size_t i = 0; i < LOCK_BUCKETS; i++)
		for (struct held *h = fl->held[i]; h; h = h->next)
			if (h->via == via) {
				*ret = (struct file_lock){ .ino = h->ino, .kind = h->kind, .owner = h->owner };
				return true;
			}
	return false;
}

int file_locks_drop_via(struct file_locks *fl, struct op_ctx *op, const void *via)
{
	struct file_lock who;
	int r = 0, err;

	while (find_via(fl, via, &who)) {
		err = file_locks_drop(fl, op, &who);
		r = r ? r : err;
	}
	return r;
}

void file_locks_lost(struct file_locks *fl, uint64_t session, void (*fn)(void *arg, mfs_ino_t ino), void *arg)
{
	mfs_ino_t *inos = NULL;
	size_t n = 0;

	{
		MFS_GUARD(&fl->lock);

		inos = fl->n_held ? calloc(fl->n_held, sizeof(*inos)) : NULL;
		for (size_t i = 0; i < LOCK_BUCKETS; i++)
			for (struct held *h = fl->held[i]; h; h = h->next)
				if (h->session == session) {
					h->lost = true;
					if (inos)
						inos[n++] = h->ino;
				}
	}
	for (size_t i = 0; i < n; i++)
		fn(arg, inos[i]);
	free(inos);
}

void file_locks_count(struct file_locks *fl, size_t *ret_owners, size_t *ret_waiters)
{
	MFS_GUARD(&fl->lock);

	*ret_owners = fl->n_held;
	*ret_waiters = fl->n_waiters;
}

int file_locks_submit(struct file_locks *fl, void (*fn)(void *arg), void *arg)
{
	return workers_submit(fl->workers, fn, arg);
}

int file_locks_start(struct volume *v, struct file_locks **ret)
{
	struct file_locks *fl = calloc(1, sizeof(*fl));
	int r;

	if (!fl)
		return -ENOMEM;
	fl->v = v;
	pthread_mutex_init(&fl->lock.m, NULL);
	pthread_cond_init(&fl->wake, NULL);
	r = locks_new(v->engine, &fl->locks);
	if (r == 0)
		r = workers_new("lock-pages", WORKERS, QUEUE, &fl->workers);
	if (r == 0)
		r = lock_wait_start(fl);
	if (r < 0) {
		workers_free(fl->workers);
		locks_free(fl->locks);
		free(fl);
		return r;
	}
	*ret = fl;
	return 0;
}

void file_locks_stop(struct file_locks *fl)
{
	if (!fl)
		return;
	lock_wait_stop(fl);
	workers_free(fl->workers);
	for (size_t i = 0; i < LOCK_BUCKETS; i++)
		for (struct held *h = fl->held[i], *next; h; h = next) {
			next = h->next;
			free(h);
		}
	locks_free(fl->locks);
	pthread_cond_destroy(&fl->wake);
	pthread_mutex_destroy(&fl->lock.m);
	free(fl);
}
