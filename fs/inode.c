/*
 * The table of inodes: a hash by number, the two counts, and whose attributes are believed. Nothing here calls a seam.
 */
#include "fs/inode.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/hash.h"

#define FIRST_BUCKETS 1024 /* a power of two, as all sizes of the table */
#define STAMPS	      4096

struct inode_table {
	struct mfs_mutex lock; /* guards all below, and in each inode: next, nlookup */
	struct inode **buckets;
	size_t n_buckets, n;
	_Atomic uint64_t epoch; /* rises with each invalidation, and when an inode is forgotten */
	/* When an inode with this hash was last invalidated, or forgotten: it need not be in the table. And all of them. */
	_Atomic uint64_t stamps[STAMPS], lost;
};

int inode_table_new(struct inode_table **ret)
{
	struct inode_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->n_buckets = FIRST_BUCKETS;
	t->buckets = calloc(t->n_buckets, sizeof(*t->buckets));
	if (!t->buckets) {
		free(t);
		return -ENOMEM;
	}
	pthread_mutex_init(&t->lock.m, NULL);
	*ret = t;
	return 0;
}

static void free_inode(struct inode *i)
{
	assert(i->n_open == 0 && !i->content);
	pthread_mutex_destroy(&i->lock.m);
	free(i);
}

void inode_table_free(struct inode_table *t)
{
	if (!t)
		return;
	for (size_t b = 0; b < t->n_buckets; b++)
		for (struct inode *i = t->buckets[b], *next; i; i = next) {
			next = i->next;
			free_inode(i);
		}
	pthread_mutex_destroy(&t->lock.m);
	free(t->buckets);
	free(t);
}

static struct inode **bucket_locked(const struct inode_table *t, mfs_ino_t ino) MFS_REQUIRES(t->lock)
{
	return &t->buckets[mfs_hash_u64(ino) & (t->n_buckets - 1)];
}

static struct inode *find_locked(const struct inode_table *t, mfs_ino_t ino) MFS_REQUIRES(t->lock)
{
	struct inode *i;

	for (i = *bucket_locked(t, ino); i; i = i->next)
		if (i->ino == ino)
			return i;
	return NULL;
}

/* Twice as many buckets. Without memory the chains just get longer. */
static void grow_locked(struct inode_table *t) MFS_REQUIRES(t->lock)
{
	size_t n_old = t->n_buckets;
	struct inode **old = t->buckets;
	struct inode **buckets = calloc(2 * n_old, sizeof(*buckets));

	if (!buckets)
		return;
	t->buckets = buckets;
	t->n_buckets = 2 * n_old;
	for (size_t b = 0; b < n_old; b++)
		for (struct inode *i = old[b], *next; i; i = next) {
			struct inode **head = bucket_locked(t, i->ino);

			next = i->next;
			i->next = *head;
			*head = i;
		}
	free(old);
}

struct inode *inode_find(struct inode_table *t, mfs_ino_t ino)
{
	MFS_GUARD(&t->lock);
	struct inode *i = find_locked(t, ino);

	if (i)
		atomic_fetch_add(&i->refs, 1);
	return i;
}

struct inode *inode_get(struct inode_table *t, mfs_ino_t ino)
{
	MFS_GUARD(&t->lock);
	struct inode *i = find_locked(t, ino);
	struct inode **head;

	if (i) {
		atomic_fetch_add(&i->refs, 1);
		return i;
	}
	i = calloc(1, sizeof(*i));
	if (!i)
		return NULL;
	i->ino = ino;
	i->table = t;
	atomic_init(&i->refs, 1);
	pthread_mutex_init(&i->lock.m, NULL);
	if (t->n >= t->n_buckets)
		grow_locked(t);
	head = bucket_locked(t, ino);
	i->next = *head;
	*head = i;
	t->n++;
	return i;
}

struct inode *inode_ref(struct inode *i)
{
	atomic_fetch_add(&i->refs, 1);
	return i;
}

static _Atomic uint64_t *stamp_of(struct inode_table *t, mfs_ino_t ino)
{
	return &t->stamps[mfs_hash_u64(ino) % STAMPS];
}

/* Never back: of two at once the higher one stays. */
static uint64_t stamp(struct inode_table *t, mfs_ino_t ino)
{
	uint64_t now = inode_epoch_next(t), was = atomic_load(stamp_of(t, ino));

	while (was < now && !atomic_compare_exchange_weak(stamp_of(t, ino), &was, now))
		;
	return now;
}

/* The last ref goes only under the table's lock, so that inode_find() cannot bring back what is being freed. */
static void put_locked(struct inode_table *t, struct inode *i) MFS_REQUIRES(t->lock)
{
	struct inode **pp;

	if (atomic_fetch_sub(&i->refs, 1) != 1)
		return;
	for (pp = bucket_locked(t, i->ino); *pp != i; pp = &(*pp)->next)
		;
	*pp = i->next;
	t->n--;
	stamp(t, i->ino); /* with it goes what we knew to be newer than answers under way */
	free_inode(i);
}

void inode_put(struct inode_table *t, struct inode **ip)
{
	struct inode *i = MFS_TAKE(*ip);
	unsigned int refs;

	if (!i)
		return;
	refs = atomic_load(&i->refs);
	while (refs > 1)
		if (atomic_compare_exchange_weak(&i->refs, &refs, refs - 1))
			return;
	MFS_GUARD(&t->lock);
	put_locked(t, i);
}

void inode_looked_up(struct inode_table *t, struct inode *i)
{
	MFS_GUARD(&t->lock);

	if (i->nlookup++ == 0)
		atomic_fetch_add(&i->refs, 1);
}

void inode_forget(struct inode_table *t, mfs_ino_t ino, uint64_t n)
{
	MFS_GUARD(&t->lock);
	struct inode *i = find_locked(t, ino);

	/* The kernel's count and ours can only differ by a mistake of ours; then rather keep too long than free. */
	if (!i || i->nlookup == 0)
		return;
	i->nlookup -= MFS_MIN(n, i->nlookup);
	if (i->nlookup == 0)
		put_locked(t, i);
}

uint64_t inode_epoch(const struct inode_table *t)
{
	return atomic_load(&t->epoch);
}

uint64_t inode_epoch_next(struct inode_table *t)
{
	return atomic_fetch_add(&t->epoch, 1) + 1;
}

static void show_locked(struct inode *i, struct mfs_attr *ret) MFS_REQUIRES(i->lock)
{
	*ret = i->attr;
	if (i->content)
		content_overlay(i->content, ret);
	if (i->atime_dirty)
		ret->atime = i->atime_dirty;
}

bool inode_take(struct inode *i, uint64_t epoch, struct mfs_attr *attr)
{
	MFS_GUARD(&i->lock);
	bool newer = attr->ver > i->attr.ver || i->attr.ino == 0;

	if (!i->gone && (newer || (attr->ver == i->attr.ver && !i->attr_valid))) {
		i->attr = *attr;
		i->attr_valid = i->attr_epoch <= epoch && atomic_load(stamp_of(i->table, i->ino)) <= epoch &&
				atomic_load(&i->table->lost) <= epoch;
	}
	if (i->attr_valid)
		i->given = mfs_mono_ns();
	show_locked(i, attr);
	return i->attr_valid || i->gone;
}

void inode_update(struct inode *i, struct mfs_attr *attr)
{
	(void)inode_take(i, UINT64_MAX, attr);
}

void inode_invalidate(struct inode_table *t, struct inode *i)
{
	MFS_GUARD(&i->lock);

	i->attr_epoch = stamp(t, i->ino);
	i->attr_valid = false;
}

static void invalidate_one(struct inode *i, void *arg)
{
	uint64_t *epoch = arg;
	MFS_GUARD(&i->lock);

	i->attr_epoch = MFS_MAX(i->attr_epoch, *epoch);
	i->attr_valid = false;
}

void inode_news(struct inode_table *t, mfs_ino_t ino)
{
	struct inode *i;
	uint64_t epoch = stamp(t, ino);

	i = inode_find(t, ino); /* one that comes into the table from here on sees the stamp */
	if (i)
		invalidate_one(i, &epoch);
	inode_put(t, &i);
}

void inode_lost(struct inode_table *t)
{
	uint64_t epoch = inode_epoch_next(t);

	atomic_store(&t->lost, epoch);
	inode_table_walk(t, invalidate_one, &epoch);
}

bool inode_attr(struct inode *i, struct mfs_attr *ret)
{
	MFS_GUARD(&i->lock);

	if (!i->attr_valid && !i->gone)
		return false;
	show_locked(i, ret);
	return true;
}

bool inode_is_gone(struct inode *i)
{
	MFS_GUARD(&i->lock);

	return i->gone;
}

void inode_set_gone(struct inode *i, const struct mfs_attr *attr)
{
	MFS_GUARD(&i->lock);

	i->attr = *attr;
	i->attr_valid = true;
	i->gone = true;
	i->atime_dirty = 0;
}

void inode_table_walk(struct inode_table *t, void (*fn)(struct inode *i, void *arg), void *arg)
{
	struct inode **all;
	size_t n = 0;

	{
		MFS_GUARD(&t->lock);

		all = malloc((t->n + 1) * sizeof(struct inode *));
		if (!all)
			return;
		for (size_t b = 0; b < t->n_buckets; b++)
			for (struct inode *i = t->buckets[b]; i; i = i->next) {
				atomic_fetch_add(&i->refs, 1);
				all[n++] = i;
			}
	}
	for (size_t k = 0; k < n; k++) {
		fn(all[k], arg);
		inode_put(t, &all[k]);
	}
	free(all);
}

size_t inode_table_count(struct inode_table *t)
{
	MFS_GUARD(&t->lock);

	return t->n;
}
