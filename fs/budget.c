/*
 * The memory bound of fs/budget.h: a counter with a condition, and a small stock of part buffers, so that streaming
 * does not fault in fresh pages for every 5 MiB.
 */
#include "fs/budget.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "backend/object_store.h"
#include "common/clock.h"
#include "common/sync.h"

#define STOCK_MAX 12

struct budget {
	uint64_t max; /* constant */
	struct mfs_mutex lock; /* guards the fields below */
	pthread_cond_t room;   /* used went down */
	uint64_t used;
	void *stock[STOCK_MAX];
	unsigned int n_stock;
};

int budget_new(uint64_t max_bytes, struct budget **ret)
{
	struct budget *b = calloc(1, sizeof(*b));
	pthread_condattr_t attr;

	if (!b)
		return -ENOMEM;
	b->max = MFS_MAX(max_bytes, 2 * OBJECT_PART_MIN);
	pthread_mutex_init(&b->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&b->room, &attr);
	pthread_condattr_destroy(&attr);
	*ret = b;
	return 0;
}

void budget_free(struct budget *b)
{
	if (!b)
		return;
	assert(b->used == 0);
	while (b->n_stock)
		free(b->stock[--b->n_stock]);
	pthread_cond_destroy(&b->room);
	pthread_mutex_destroy(&b->lock.m);
	free(b);
}

bool budget_try(struct budget *b, size_t bytes)
{
	MFS_GUARD(&b->lock);

	if (b->used + bytes > b->max)
		return false;
	b->used += bytes;
	return true;
}

int budget_wait(struct budget *b, size_t bytes, unsigned int timeout_ms)
{
	struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + (int64_t)timeout_ms * 1000000);
	MFS_GUARD(&b->lock);

	while (b->used + bytes > b->max) {
		if (pthread_cond_timedwait(&b->room, &b->lock.m, &until) == ETIMEDOUT)
			return -EAGAIN;
	}
	b->used += bytes;
	return 0;
}

void budget_put(struct budget *b, size_t bytes)
{
	MFS_GUARD(&b->lock);

	assert(b->used >= bytes);
	b->used -= bytes;
	pthread_cond_broadcast(&b->room);
}

uint64_t budget_used(struct budget *b)
{
	MFS_GUARD(&b->lock);

	return b->used;
}

uint64_t budget_max(const struct budget *b)
{
	return b->max;
}

void *budget_part_alloc(struct budget *b)
{
	{
		MFS_GUARD(&b->lock);

		if (b->n_stock)
			return b->stock[--b->n_stock];
	}
	return malloc(OBJECT_PART_MIN);
}

void budget_part_free(struct budget *b, void *part)
{
	{
		MFS_GUARD(&b->lock);

		if (b->n_stock < STOCK_MAX && (uint64_t)(b->n_stock + 1) * OBJECT_PART_MIN <= b->max / 4) {
			b->stock[b->n_stock++] = part;
			return;
		}
	}
	free(part);
}
