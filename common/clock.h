/*
 * Time in nanoseconds. Wall time (UTC, may jump) is for what users see; monotonic time for deadlines and ages.
 */
#ifndef MASSFS_COMMON_CLOCK_H
#define MASSFS_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define MFS_NSEC_PER_SEC INT64_C(1000000000)

static inline int64_t mfs_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * MFS_NSEC_PER_SEC + ts.tv_nsec;
}

/* Wall time since the epoch. */
static inline int64_t mfs_now_ns(void)
{
	return mfs_clock_ns(CLOCK_REALTIME);
}

static inline int64_t mfs_mono_ns(void)
{
	return mfs_clock_ns(CLOCK_MONOTONIC);
}

/* Floor division, so that times before 1970 keep 0 <= tv_nsec < 10^9. */
static inline struct timespec mfs_ns_to_timespec(int64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / MFS_NSEC_PER_SEC), .tv_nsec = (long)(ns % MFS_NSEC_PER_SEC) };

	if (ts.tv_nsec < 0) {
		ts.tv_nsec += MFS_NSEC_PER_SEC;
		ts.tv_sec--;
	}
	return ts;
}

/* Saturates at the ends of int64 (years 1677 and 2262). */
static inline int64_t mfs_timespec_to_ns(struct timespec ts)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)ts.tv_sec, MFS_NSEC_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts.tv_nsec, &ns))
		return ts.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

#endif
