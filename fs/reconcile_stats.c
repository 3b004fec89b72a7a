/*
 * Counters of the reconciler, its rate limit, and which files failed how often.
 */
#include "fs/reconcile_stats.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "common/clock.h"
#include "common/defs.h"
#include "common/hash.h"
#include "common/op_ctx.h"

#define WINDOW_NS (5 * MFS_NSEC_PER_SEC)
#define SLICE_NS  (50 * INT64_C(1000000)) /* a cancelled one notices after so long */

static bool sleep_until(struct op_ctx *op, int64_t mono)
{
	int64_t now;

	while ((now = mfs_mono_ns()) < mono) {
		struct timespec ts = mfs_ns_to_timespec(MFS_MIN(mono - now, SLICE_NS));

		if (atomic_load(&op->cancelled))
			return false;
		nanosleep(&ts, NULL);
	}
	return !atomic_load(&op->cancelled);
}

static void turn_window_locked(struct reconcile_stats *s, int64_t now) MFS_REQUIRES(s->lock)
{
	if (s->window && now - s->window < WINDOW_NS)
		return;
	s->last_bytes = s->window_bytes;
	s->last_length = s->window ? now - s->window : 0;
	s->window_bytes = 0;
	s->window = now;
}

bool reconcile_stats_moved(struct reconcile_stats *s, struct op_ctx *op, uint64_t limit, uint64_t bytes,
			   bool was_inline)
{
	int64_t now = mfs_mono_ns(), until = 0;

	atomic_fetch_add(was_inline ? &s->inline_bytes : &s->copied_bytes, bytes);
	{
		MFS_GUARD(&s->lock);

		turn_window_locked(s, now);
		s->window_bytes += bytes;
		if (limit) {
			double ns = (double)bytes * (double)MFS_NSEC_PER_SEC / (double)limit;

			/* What was not used lately is not saved up. */
			s->paid_until = MFS_MAX(s->paid_until, now) + (int64_t)MFS_MIN(ns, 1e15);
			until = s->paid_until;
		}
	}
	return sleep_until(op, until);
}

uint64_t reconcile_stats_rate(struct reconcile_stats *s)
{
	int64_t now = mfs_mono_ns(), length;
	uint64_t bytes;

	MFS_GUARD(&s->lock);
	turn_window_locked(s, now);
	length = now - s->window + s->last_length;
	bytes = s->window_bytes + s->last_bytes;
	return length > 0 ? (uint64_t)((double)bytes * (double)MFS_NSEC_PER_SEC / (double)length) : 0;
}

static size_t slot_of(uint64_t ino)
{
	return mfs_hash_u64(ino) % RECONCILE_FAILED_MAX;
}

uint32_t reconcile_stats_failed(struct reconcile_stats *s, uint64_t ino, const char *text)
{
	size_t i = slot_of(ino);

	MFS_GUARD(&s->lock);
	if (s->failed[i].ino != ino)
		s->failed[i].tries = 0;
	s->failed[i].ino = ino;
	snprintf(s->last_error, sizeof(s->last_error), "%s", text);
	s->last_error_at = mfs_now_ns();
	return ++s->failed[i].tries;
}

void reconcile_stats_settled(struct reconcile_stats *s, uint64_t ino)
{
	size_t i = slot_of(ino);

	atomic_fetch_add(&s->settled, 1);
	MFS_GUARD(&s->lock);
	if (s->failed[i].ino == ino)
		s->failed[i].ino = 0;
}

int64_t reconcile_stats_error(struct reconcile_stats *s, char *text, size_t size)
{
	MFS_GUARD(&s->lock);
	snprintf(text, size, "%s", s->last_error);
	return s->last_error_at;
}

/* Waits for a change, a moment at most. */
static void wait_locked(struct reconcile_stats *s) MFS_REQUIRES(s->lock)
{
	struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + SLICE_NS);

	(void)pthread_cond_clockwait(&s->changed, &s->lock.m, CLOCK_MONOTONIC, &ts);
}

static uint64_t *find_claim_locked(struct reconcile_stats *s, uint64_t ino) MFS_REQUIRES(s->lock)
{
	for (size_t i = 0; i < RECONCILE_CLAIMS_MAX; i++)
		if (s->claims[i] == ino)
			return &s->claims[i];
	return NULL;
}

int reconcile_stats_claim(struct reconcile_stats *s, struct op_ctx *op, uint64_t ino, bool wait)
{
	bool waited = false;
	uint64_t *place;

	MFS_GUARD(&s->lock);
	while (find_claim_locked(s, ino)) {
		if (!wait)
			return -EBUSY;
		if (atomic_load(&op->cancelled))
			return -ECANCELED;
		waited = true;
		wait_locked(s);
	}
	if (waited)
		return 0;
	place = find_claim_locked(s, 0);
	if (place)
		*place = ino;
	return 1;
}

void reconcile_stats_unclaim(struct reconcile_stats *s, uint64_t ino)
{
	uint64_t *place;

	MFS_GUARD(&s->lock);
	place = find_claim_locked(s, ino);
	if (place)
		*place = 0;
	pthread_cond_broadcast(&s->changed);
}

bool reconcile_stats_is_claimed(struct reconcile_stats *s, uint64_t ino)
{
	MFS_GUARD(&s->lock);
	return find_claim_locked(s, ino);
}

bool reconcile_stats_enter_big(struct reconcile_stats *s, struct op_ctx *op)
{
	MFS_GUARD(&s->lock);

	while (s->n_big >= RECONCILE_BIG_MAX) {
		if (atomic_load(&op->cancelled))
			return false;
		wait_locked(s);
	}
	s->n_big++;
	return true;
}

void reconcile_stats_leave_big(struct reconcile_stats *s)
{
	MFS_GUARD(&s->lock);

	s->n_big--;
	pthread_cond_broadcast(&s->changed);
}
