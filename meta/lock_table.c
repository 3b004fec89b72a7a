/* The locks of one file as a value: struct lock_table. */
#include "meta/lock_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC	   "ML1"
#define MAGIC_SIZE 4 /* with its NUL */
#define ENTRY_SIZE 48

void lock_table_release(struct lock_table *t)
{
	free(t->v);
	*t = (struct lock_table){ 0 };
}

static int room(struct lock_table *t, size_t n)
{
	size_t cap = MFS_MAX(t->cap * 2, MFS_MAX(n, (size_t)8));
	struct file_lock *v;

	if (n <= t->cap)
		return 0;
	v = reallocarray(t->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	t->v = v;
	t->cap = cap;
	return 0;
}

/* --- order and conflicts --- */

static int compare_owner(const struct file_lock *a, const struct file_lock *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->session != b->session)
		return a->session < b->session ? -1 : 1;
	return (a->owner > b->owner) - (a->owner < b->owner);
}

bool lock_same_owner(const struct file_lock *a, const struct file_lock *b)
{
	return compare_owner(a, b) == 0;
}

bool lock_conflicts(const struct file_lock *a, const struct file_lock *b)
{
	return a->kind == b->kind && !lock_same_owner(a, b) && a->start <= b->end && b->start <= a->end &&
	       (a->type == LOCK_TYPE_WRITE || b->type == LOCK_TYPE_WRITE);
}

const struct file_lock *lock_table_conflict(const struct lock_table *t, const struct file_lock *want)
{
	const struct file_lock *first = NULL;

	if (want->type == LOCK_TYPE_NONE)
		return NULL;
	for (size_t i = 0; i < t->n; i++)
		if (lock_conflicts(&t->v[i], want) && (!first || t->v[i].start < first->start))
			first = &t->v[i];
	return first;
}

/* --- the bytes --- */

static void put_u64(unsigned char *at, uint64_t x)
{
	for (int i = 0; i < 8; i++)
		at[i] = (unsigned char)(x >> 8 * i);
}

static uint64_t get_u64(const unsigned char *at)
{
	uint64_t x = 0;

	for (int i = 0; i < 8; i++)
		x |= (uint64_t)at[i] << 8 * i;
	return x;
}

static void put_lock(unsigned char *at, const struct file_lock *l)
{
	put_u64(at, l->ino);
	put_u64(at + 8, l->session);
	put_u64(at + 16, l->owner);
	put_u64(at + 24, l->start);
	put_u64(at + 32, l->end);
	put_u64(at + 40, (uint64_t)l->pid << 32 | (uint64_t)l->kind << 8 | l->type);
}

static bool get_lock(const unsigned char *at, struct file_lock *ret)
{
	uint64_t tail = get_u64(at + 40);

	*ret = (struct file_lock){ .ino = get_u64(at),
				   .session = get_u64(at + 8),
				   .owner = get_u64(at + 16),
				   .start = get_u64(at + 24),
				   .end = get_u64(at + 32),
				   .pid = (uint32_t)(tail >> 32),
				   .kind = (uint8_t)(tail >> 8),
				   .type = (uint8_t)tail };
	return (tail & 0xffff0000u) == 0 && ret->start <= ret->end && (ret->kind == LOCK_POSIX || ret->kind == LOCK_FLOCK) &&
	       (ret->type == LOCK_TYPE_READ || ret->type == LOCK_TYPE_WRITE);
}

/* In order, and disjoint where the owner is one. Waiters (which name a file) come in any order. */
static bool follows(const struct file_lock *a, const struct file_lock *b)
{
	int order = compare_owner(a, b);

	if (a->ino || b->ino)
		return a->ino && b->ino;
	return order < 0 || (order == 0 && a->end < b->start);
}

int lock_table_parse(const struct node_blob *b, struct lock_table *ret)
{
	const unsigned char *at = b->data;
	struct lock_table t = { 0 };
	size_t n;

	*ret = t;
	if (b->size == 0)
		return 0;
	if (b->size < MAGIC_SIZE || memcmp(at, MAGIC, MAGIC_SIZE) != 0 || (b->size - MAGIC_SIZE) % ENTRY_SIZE != 0)
		return -EUCLEAN;
	n = (b->size - MAGIC_SIZE) / ENTRY_SIZE;
	if (n == 0 || n > LOCK_TABLE_MAX)
		return -EUCLEAN;
	if (room(&t, n) < 0)
		return -ENOMEM;
	for (t.n = 0; t.n < n; t.n++)
		if (!get_lock(at + MAGIC_SIZE + t.n * ENTRY_SIZE, &t.v[t.n]) ||
		    (t.n && !follows(&t.v[t.n - 1], &t.v[t.n]))) {
			lock_table_release(&t);
			return -EUCLEAN;
		}
	*ret = t;
	return 0;
}

int lock_table_encode(const struct lock_table *t, struct node_blob *ret)
{
	unsigned char *at;

	*ret = (struct node_blob){ 0 };
	if (t->n == 0)
		return 0;
	at = malloc(MAGIC_SIZE + t->n * ENTRY_SIZE);
	if (!at)
		return -ENOMEM;
	memcpy(at, MAGIC, MAGIC_SIZE);
	for (size_t i = 0; i < t->n; i++)
		put_lock(at + MAGIC_SIZE + i * ENTRY_SIZE, &t->v[i]);
	*ret = (struct node_blob){ .data = at, .size = MAGIC_SIZE + t->n * ENTRY_SIZE };
	return 0;
}

/* --- changes --- */

static void push(struct lock_table *t, struct file_lock l, uint64_t start, uint64_t end)
{
	struct file_lock *last = t->n ? &t->v[t->n - 1] : NULL;

	l.start = start;
	l.end = end;
	/* Neighbours of one owner and type are one lock. */
	if (last && lock_same_owner(last, &l) && last->ino == l.ino && last->type == l.type && last->end + 1 == start &&
	    last->end != LOCK_END_MAX) {
		last->end = end;
		last->pid = l.pid;
		return;
	}
	t->v[t->n++] = l;
}

/* What `have`, of the same owner, leaves on either side of `want`. */
static void push_rest(struct lock_table *t, const struct file_lock *have, const struct file_lock *want, bool below)
{
	if (below && have->start < want->start)
		push(t, *have, have->start, MFS_MIN(have->end, want->start - 1));
	if (!below && have->end > want->end)
		push(t, *have, MFS_MAX(have->start, want->end + 1), have->end);
}

static bool same_lock(const struct file_lock *a, const struct file_lock *b)
{
	return lock_same_owner(a, b) && a->start == b->start && a->end == b->end && a->type == b->type && a->pid == b->pid;
}

int lock_table_set(struct lock_table *t, const struct file_lock *want, bool *ret_changed)
{
	struct lock_table next = { 0 };
	size_t i = 0, from;
	int r = room(&next, t->n + 2);

	if (r < 0)
		return r;
	while (i < t->n && compare_owner(&t->v[i], want) < 0)
		next.v[next.n++] = t->v[i++];
	from = i;
	for (; i < t->n && lock_same_owner(&t->v[i], want) && t->v[i].start < want->start; i++)
		push_rest(&next, &t->v[i], want, true);
	if (want->type != LOCK_TYPE_NONE)
		push(&next, *want, want->start, want->end);
	for (i = from; i < t->n && lock_same_owner(&t->v[i], want); i++)
		push_rest(&next, &t->v[i], want, false);
	while (i < t->n)
		next.v[next.n++] = t->v[i++];
	if (next.n > LOCK_TABLE_MAX) {
		lock_table_release(&next);
		return -ENOLCK;
	}
	*ret_changed = next.n != t->n;
	for (i = 0; i < next.n && !*ret_changed; i++)
		*ret_changed = !same_lock(&next.v[i], &t->v[i]);
	lock_table_release(t);
	*t = next;
	return 0;
}

size_t lock_table_drop_owner(struct lock_table *t, const struct file_lock *who)
{
	size_t n = 0, before = t->n;

	for (size_t i = 0; i < t->n; i++)
		if (!lock_same_owner(&t->v[i], who))
			t->v[n++] = t->v[i];
	t->n = n;
	return before - n;
}

size_t lock_table_drop_session(struct lock_table *t, uint64_t session)
{
	size_t n = 0, before = t->n;

	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].session != session)
			t->v[n++] = t->v[i];
	t->n = n;
	return before - n;
}

bool lock_table_has_session(const struct lock_table *t, uint64_t session)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].session == session)
			return true;
	return false;
}
