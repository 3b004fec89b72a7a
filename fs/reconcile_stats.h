/*
 * What the reconciler of a volume counts, and the limit on what it moves (settle-rate=). One is in each struct volume.
 *
 * All zero is a valid beginning. Threads: all from any.
 */
#ifndef MASSFS_FS_RECONCILE_STATS_H
#define MASSFS_FS_RECONCILE_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/sync.h"

#define RECONCILE_FAILED_MAX 256
#define RECONCILE_ERROR_MAX  256
#define RECONCILE_BIG_MAX    4 /* files composed from ranges at the same time: each has a buffer */
#define RECONCILE_CLAIMS_MAX 256

struct op_ctx;

struct reconcile_stats {
	_Atomic uint64_t settled;      /* records switched */
	_Atomic uint64_t copied_bytes; /* of what was an object, or patches, before: read and put, or copied by the store */
	_Atomic uint64_t inline_bytes; /* put for the first time: what was in the index */
	_Atomic uint64_t imported;
	uint64_t keep_min; /* fs/reconcile_kept.h; 0: RECONCILE_KEEP_MIN. Of tests, before there are threads */

	struct mfs_mutex lock; /* guards all below */
	pthread_cond_t changed; /* n_big, claims */
	uint64_t claims[RECONCILE_CLAIMS_MAX]; /* inodes whose content is being composed; 0: free */
	unsigned int n_big;	/* < RECONCILE_BIG_MAX to enter */
	int64_t paid_until;	/* CLOCK_MONOTONIC: what was moved is paid for at this time */
	int64_t window;		/* CLOCK_MONOTONIC: when this window of the rate began */
	uint64_t window_bytes, last_bytes;
	int64_t last_length;
	char last_error[RECONCILE_ERROR_MAX];
	int64_t last_error_at; /* wall time; 0: none */
	/* Files that failed: in a row, by a hash of the inode; another inode takes the place over. */
	struct {
		uint64_t ino;
		uint32_t tries;
	} failed[RECONCILE_FAILED_MAX];
};

/* `bytes` are moved: counts them, and waits as the limit (bytes/s; 0: none) wants it. False: op was cancelled. */
bool reconcile_stats_moved(struct reconcile_stats *s, struct op_ctx *op, uint64_t limit, uint64_t bytes, bool was_inline);
/* Bytes per second lately. */
uint64_t reconcile_stats_rate(struct reconcile_stats *s);

/* The file could not be settled: *ret_tries is how often in a row by now. */
uint32_t reconcile_stats_failed(struct reconcile_stats *s, uint64_t ino, const char *text);
void reconcile_stats_settled(struct reconcile_stats *s, uint64_t ino);
/* Copies the text. Wall time of the error; 0: none. */
int64_t reconcile_stats_error(struct reconcile_stats *s, char *text, size_t size);

/* Nobody else composes this file meanwhile. 1: claimed (or too many are: then two may do the same work once). Else
 * somebody has it: -EBUSY, or with `wait` 0 when he is done: look again; -ECANCELED. */
int reconcile_stats_claim(struct reconcile_stats *s, struct op_ctx *op, uint64_t ino, bool wait) MFS_NODISCARD;
void reconcile_stats_unclaim(struct reconcile_stats *s, uint64_t ino);
bool reconcile_stats_is_claimed(struct reconcile_stats *s, uint64_t ino);

/* A place among those that compose big files. False: op was cancelled meanwhile. */
bool reconcile_stats_enter_big(struct reconcile_stats *s, struct op_ctx *op);
void reconcile_stats_leave_big(struct reconcile_stats *s);

#endif
