/* Locks of a volume over the engine's cells: meta/locks.h. Burial and the search for deadlocks are in locks_walk.c. */
#include "meta/locks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "common/sync.h"
#include "meta/locks_internal.h"

#define TRIES_MAX   400 /* lost races for one cell: others make progress with each of them */
#define BACKOFF_MAX 20	/* ms */
#define CACHE	    64	/* files whose last cell is remembered */

/* What the cell was when this mount last wrote or read it: the first try needs no read. Wrong costs a read. */
struct cached {
	mfs_ino_t ino; /* 0: none */
	struct cell_record cell;
};

struct locks {
	struct engine *e;
	struct mfs_mutex lock; /* guards the cache */
	struct cached cache[CACHE];
	uint64_t board; /* token of the session's cell of waiters; its owner's thread alone */
	bool board_unsure; /* that was before a write of which nothing is known */
	uint64_t board_session;
};

int cell_token(uint64_t *ret)
{
	do {
		if (getrandom(ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
			return -EIO;
	} while (*ret == 0);
	return 0;
}

void lock_cell_name(char name[LOCK_CELL_NAME], mfs_ino_t ino)
{
	snprintf(name, LOCK_CELL_NAME, LOCK_CELLS "%" PRIu64, ino);
}

void lock_board_name(char name[LOCK_CELL_NAME], uint64_t session)
{
	snprintf(name, LOCK_CELL_NAME, LOCK_BOARDS "%" PRIu64, session);
}

mfs_ino_t locks_ino_of_cell(const char *name)
{
	unsigned long long ino;
	char end;

	if (strncmp(name, LOCK_CELLS, sizeof(LOCK_CELLS) - 1) != 0)
		return 0;
	name += sizeof(LOCK_CELLS) - 1;
	return *name >= '0' && *name <= '9' && sscanf(name, "%llu%c", &ino, &end) == 1 ? ino : 0;
}

int locks_new(struct engine *e, struct locks **ret)
{
	struct locks *l;

	if (!e->ops->cell_get)
		return -ENOTSUP;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->e = e;
	pthread_mutex_init(&l->lock.m, NULL);
	*ret = l;
	return 0;
}

void locks_free(struct locks *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < CACHE; i++)
		cell_record_release(&l->cache[i].cell);
	pthread_mutex_destroy(&l->lock.m);
	free(l);
}

struct engine *locks_engine(struct locks *l)
{
	return l->e;
}

/* --- the cache --- */

static struct cached *slot(struct locks *l, mfs_ino_t ino)
{
	return &l->cache[ino % CACHE];
}

static bool cached_cell(struct locks *l, mfs_ino_t ino, struct cell_record *ret)
{
	MFS_GUARD(&l->lock);
	struct cached *c = slot(l, ino);

	return c->ino == ino && cell_record_copy(&c->cell, ret) == 0;
}

/* Takes the cell over. */
static void keep_cell(struct locks *l, mfs_ino_t ino, struct cell_record *cell)
{
	MFS_GUARD(&l->lock);
	struct cached *c = slot(l, ino);

	cell_record_release(&c->cell);
	c->ino = ino;
	c->cell = *cell;
	*cell = (struct cell_record){ 0 };
}

static void forget_cell(struct locks *l, mfs_ino_t ino)
{
	MFS_GUARD(&l->lock);
	struct cached *c = slot(l, ino);

	if (c->ino == ino)
		c->ino = 0;
}

/* --- one cell --- */

int lock_cell_read(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	int r = engine_cell_get(e, op, name, ret);

	if (r == -ENOENT) {
		*ret = (struct cell_record){ .name = strdup(name) };
		r = ret->name ? 0 : -ENOMEM;
	}
	return r;
}

int lock_cell_parse(struct op_ctx *op, const struct cell_record *cell, struct lock_table *ret)
{
	int r = lock_table_parse(&cell->blob, ret);

	if (r != -EUCLEAN)
		return r;
	mfs_log(MFS_LOG_META, MFS_LOG_ERR, op,
		"the index cell %s is no list of locks (%zu bytes): it was damaged or written by another program; locks of this "
		"file fail with EIO until the cell is deleted in the index",
		cell->name, cell->blob.size);
	return -EIO;
}

int lock_cell_next(const struct cell_record *old, const struct lock_table *t, struct cell_record *next, struct change *c)
{
	struct write *w;
	int r;

	*next = (struct cell_record){ .name = strdup(old->name) };
	r = next->name ? cell_token(&next->token) : -ENOMEM;
	if (r == 0)
		r = lock_table_encode(t, &next->blob);
	if (r < 0)
		return r;
	w = change_write(c, WRITE_CELL_PUT, 0);
	w->cell = next;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = old->token;
	return 0;
}

static void back_off(int tries)
{
	uint64_t random = 0;
	int64_t most = MFS_MIN(BACKOFF_MAX, 1 << MFS_MIN(tries, 5)) * (MFS_NSEC_PER_SEC / 1000);
	struct timespec ts;

	(void)!getrandom(&random, sizeof(random), 0);
	ts = mfs_ns_to_timespec((int64_t)(random % (uint64_t)most));
	nanosleep(&ts, NULL);
}

int lock_cell_again(struct op_ctx *op, const char *name, int tries, int r)
{
	if (r != -EAGAIN)
		return r;
	if (atomic_load(&op->cancelled))
		return -ECANCELED;
	if (op->deadline_ns && mfs_mono_ns() >= op->deadline_ns)
		return -ETIMEDOUT;
	if (tries >= TRIES_MAX) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, op, "cell=%s is changed by others faster than by us: %d tries; the answer is EIO",
			name, tries);
		return -EIO;
	}
	if (tries)
		back_off(tries);
	return 1;
}

/* --- changes of a file's locks --- */

struct attempt {
	struct file_lock want;	 /* ino 0, as in the table */
	bool drop;		 /* all of the owner */
	struct file_lock holder; /* out, when blocked */
	bool blocked, changed;
};

/* A flock lock is converted by giving the old one up: should somebody else have it, it is gone (flock(2)). */
static int convert_flock(struct lock_table *t, struct attempt *a)
{
	for (size_t i = 0; i < t->n; i++)
		if (lock_same_owner(&t->v[i], &a->want) && t->v[i].type != a->want.type) {
			a->changed |= lock_table_drop_owner(t, &a->want) > 0;
			break;
		}
	return 0;
}

/* What the table becomes. */
static int edit(struct lock_table *t, struct attempt *a)
{
	const struct file_lock *by;
	bool changed = false;
	int r = 0;

	a->changed = a->blocked = false;
	if (a->drop) {
		a->changed = lock_table_drop_owner(t, &a->want) > 0;
		return 0;
	}
	if (a->want.kind == LOCK_FLOCK && a->want.type != LOCK_TYPE_NONE)
		r = convert_flock(t, a);
	by = lock_table_conflict(t, &a->want);
	if (by) {
		a->holder = *by;
		a->blocked = true;
	} else if (r == 0) {
		r = lock_table_set(t, &a->want, &changed);
		a->changed |= changed;
	}
	return r;
}

/* Once, from what the cell is believed to be. -EAGAIN: it is something else by now. */
static int attempt(struct locks *l, struct op_ctx *op, mfs_ino_t ino, struct cell_record *cell, struct attempt *a)
{
	struct cell_record next = { 0 };
	struct lock_table t = { 0 };
	struct change c = { 0 };
	int r = lock_cell_parse(op, cell, &t);

	if (r == 0)
		r = edit(&t, a);
	if (r == 0 && a->changed) {
		r = lock_cell_next(cell, &t, &next, &c);
		if (r == 0)
			r = engine_apply(l->e, op, &c);
		if (r < 0)
			forget_cell(l, ino);
		if (r == 0) {
			if (!next.blob.size)
				next.token = 0; /* the cell is gone */
			keep_cell(l, ino, &next);
		}
	}
	cell_record_release(&next);
	lock_table_release(&t);
	return r;
}

static int change_locks(struct locks *l, struct op_ctx *op, mfs_ino_t ino, struct attempt *a)
{
	char name[LOCK_CELL_NAME];
	int r;

	lock_cell_name(name, ino);
	for (int tries = 0;; tries++) {
		struct cell_record cell = { 0 };
		bool guessed = tries == 0 && cached_cell(l, ino, &cell);

		r = guessed ? 0 : lock_cell_read(l->e, op, name, &cell);
		if (r == 0)
			r = attempt(l, op, ino, &cell, a);
		/* Nothing was compared with the index where nothing was written: that is for a fresh read to say. */
		if (r == 0 && guessed && !a->changed)
			r = -EAGAIN;
		if (r == 0 && !a->changed)
			keep_cell(l, ino, &cell);
		cell_record_release(&cell);
		r = lock_cell_again(op, name, tries, r);
		if (r != 1)
			return r;
	}
}

int locks_set(struct locks *l, struct op_ctx *op, const struct file_lock *want, struct file_lock *ret_holder)
{
	struct attempt a = { .want = *want };
	int r;

	a.want.ino = 0;
	r = change_locks(l, op, want->ino, &a);
	if (r == 0 && a.blocked) {
		if (ret_holder)
			*ret_holder = a.holder;
		r = -EAGAIN;
	}
	return r;
}

int locks_drop(struct locks *l, struct op_ctx *op, const struct file_lock *who)
{
	struct attempt a = { .want = *who, .drop = true };

	a.want.ino = 0;
	return change_locks(l, op, who->ino, &a);
}

int locks_test(struct locks *l, struct op_ctx *op, const struct file_lock *want, struct file_lock *ret)
{
	struct cell_record cell = { 0 };
	struct lock_table t = { 0 };
	const struct file_lock *by;
	char name[LOCK_CELL_NAME];
	int r;

	lock_cell_name(name, want->ino);
	r = lock_cell_read(l->e, op, name, &cell);
	if (r == 0)
		r = lock_cell_parse(op, &cell, &t);
	if (r == 0) {
		by = lock_table_conflict(&t, want);
		*ret = by ? *by : (struct file_lock){ .type = LOCK_TYPE_NONE };
	}
	lock_table_release(&t);
	cell_record_release(&cell);
	return r;
}

/* What the session's cell of waiters is now. */
static int find_board(struct locks *l, struct op_ctx *op, const char *name)
{
	struct cell_record cell = { 0 };
	int r = lock_cell_read(l->e, op, name, &cell);

	if (r == 0) {
		l->board = cell.token;
		l->board_unsure = false;
	}
	cell_record_release(&cell);
	return r;
}

int locks_waiting(struct locks *l, struct op_ctx *op, uint64_t session, const struct lock_table *t)
{
	struct cell_record old = { 0 }, next = { 0 };
	struct change c = { 0 };
	char name[LOCK_CELL_NAME];
	int r = 0;

	if (l->board_session != session) {
		l->board = 0;
		l->board_unsure = false;
	}
	l->board_session = session;
	lock_board_name(name, session);
	if (l->board_unsure)
		r = find_board(l, op, name);
	if (r < 0 || (!l->board && !t->n))
		return r;
	old.token = l->board;
	old.name = name;
	r = lock_cell_next(&old, t, &next, &c);
	if (r == 0) {
		r = engine_apply(l->e, op, &c);
		l->board_unsure = r < 0; /* it may have been done: of what is there then, and of nothing else, the next one is the next */
	}
	if (r == 0)
		l->board = t->n ? next.token : 0;
	cell_record_release(&next);
	return r;
}
