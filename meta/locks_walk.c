/* Over all locks of a volume: the burial of a dead session's, and the search for a deadlock. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/op_ctx.h"
#include "meta/fence.h"
#include "meta/locks_internal.h"

#define PAGE	   256
#define OWNERS_MAX 4096 /* a chain of waiters longer than this is not followed to its end */

/* --- burial --- */

/* Once: the record is fenced and the cell rewritten, in one change. */
static int bury_once(struct engine *e, struct op_ctx *op, const char *name, uint64_t session)
{
	struct cell_record cell = { 0 }, next = { 0 };
	struct node n = NODE_INIT;
	struct lock_table t = { 0 };
	struct change c = { 0 };
	mfs_ino_t ino = locks_ino_of_cell(name);
	struct op_ctx fresh = op_ctx_fresh(op);
	int r = lock_cell_read(e, op, name, &cell);

	if (r == 0)
		r = lock_cell_parse(op, &cell, &t);
	if (r == 0 && lock_table_drop_session(&t, session)) {
		r = ino ? engine_get(e, &fresh, ino, &n) : -ESTALE; /* what it waits for needs no fence */
		if (r == 0)
			r = fence_write(e, op, &n, session, &c);
		if (r >= 0 || r == -ESTALE)
			r = lock_cell_next(&cell, &t, &next, &c);
		if (r == 0)
			r = engine_apply(e, op, &c);
		if (r == -ESTALE) /* the record went meanwhile */
			r = -EAGAIN;
	}
	cell_record_release(&next);
	node_release(&n);
	lock_table_release(&t);
	cell_record_release(&cell);
	return r;
}

static int bury_cell(struct engine *e, struct op_ctx *op, const char *name, uint64_t session)
{
	for (int tries = 0;; tries++) {
		int r = lock_cell_again(op, name, tries, bury_once(e, op, name, session));

		if (r != 1)
			return r;
	}
}

int locks_bury_inode(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t session)
{
	char name[LOCK_CELL_NAME];

	lock_cell_name(name, ino);
	return bury_cell(e, op, name, session);
}

static bool has_session(struct op_ctx *op, const struct cell_record *cell, uint64_t session)
{
	struct lock_table t = { 0 };
	bool has = lock_cell_parse(op, cell, &t) == 0 && lock_table_has_session(&t, session);

	lock_table_release(&t);
	return has;
}

int locks_bury(struct engine *e, struct op_ctx *op, uint64_t session)
{
	MFS_AUTOFREE char *after = NULL;
	size_t n = PAGE;
	int r = 0, first = 0;

	while (r == 0 && n == PAGE) {
		struct cell_list l = { 0 };

		r = engine_cells(e, op, LOCK_CELLS, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			int err = has_session(op, &l.v[i], session) ? bury_cell(e, op, l.v[i].name, session) : 0;

			first = first ? first : err; /* one that fails keeps no other one locked */
			if (err == -ECANCELED)
				r = err;
		}
		if (r == 0 && n == PAGE) {
			free(after);
			after = strdup(l.v[n - 1].name);
			r = after ? 0 : -ENOMEM;
		}
		cell_list_release(&l);
	}
	return r < 0 ? r : first;
}

/* --- deadlocks --- */

struct search {
	struct locks *l;
	struct op_ctx *op;
	const struct file_lock *want;
	struct lock_table waiters; /* all there are */
	struct lock_table found;   /* owners to be looked at, each once */
};

static int add_lock(struct lock_table *t, const struct file_lock *lock)
{
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 32;
		struct file_lock *v = reallocarray(t->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		t->v = v;
		t->cap = cap;
	}
	t->v[t->n++] = *lock;
	return 0;
}

static int read_boards(struct search *s)
{
	MFS_AUTOFREE char *after = NULL;
	size_t n = PAGE;
	int r = 0;

	while (r == 0 && n == PAGE) {
		struct cell_list l = { 0 };

		r = engine_cells(locks_engine(s->l), s->op, LOCK_BOARDS, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			struct lock_table t = { 0 };

			if (lock_cell_parse(s->op, &l.v[i], &t) < 0) /* one damaged board hides no other */
				continue;
			for (size_t k = 0; r == 0 && k < t.n; k++)
				r = add_lock(&s->waiters, &t.v[k]);
			lock_table_release(&t);
		}
		if (r == 0 && n == PAGE) {
			free(after);
			after = strdup(l.v[n - 1].name);
			r = after ? 0 : -ENOMEM;
		}
		cell_list_release(&l);
	}
	return r;
}

static int add_owner(struct search *s, const struct file_lock *who)
{
	for (size_t i = 0; i < s->found.n; i++)
		if (lock_same_owner(&s->found.v[i], who))
			return 0;
	return s->found.n < OWNERS_MAX ? add_lock(&s->found, who) : 0;
}

/* Whoever holds what `waiter` waits for. 1: one of them is the searcher itself. */
static int add_holders(struct search *s, const struct file_lock *waiter)
{
	struct cell_record cell = { 0 };
	struct lock_table t = { 0 };
	char name[LOCK_CELL_NAME];
	int r;

	lock_cell_name(name, waiter->ino);
	r = lock_cell_read(locks_engine(s->l), s->op, name, &cell);
	if (r == 0)
		r = lock_cell_parse(s->op, &cell, &t);
	for (size_t i = 0; r == 0 && i < t.n; i++) {
		if (!lock_conflicts(&t.v[i], waiter))
			continue;
		r = lock_same_owner(&t.v[i], s->want) ? 1 : add_owner(s, &t.v[i]);
	}
	lock_table_release(&t);
	cell_record_release(&cell);
	return r;
}

int locks_deadlock(struct locks *l, struct op_ctx *op, const struct file_lock *want)
{
	struct search s = { .l = l, .op = op, .want = want };
	int r;

	if (want->kind != LOCK_POSIX) /* as Linux: flock has no such check */
		return 0;
	r = read_boards(&s);
	if (r == 0 && s.waiters.n)
		r = add_holders(&s, want);
	for (size_t i = 0; r == 0 && i < s.found.n; i++)
		for (size_t k = 0; r == 0 && k < s.waiters.n; k++)
			if (lock_same_owner(&s.waiters.v[k], &s.found.v[i]))
				r = add_holders(&s, &s.waiters.v[k]);
	lock_table_release(&s.waiters);
	lock_table_release(&s.found);
	return r;
}
