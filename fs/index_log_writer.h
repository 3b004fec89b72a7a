/*
 * What the writing side of the index log shares: index_log.c (the thread, beginning and end), index_log_write.c (objects),
 * index_log_records.c (what is in them), index_log_shared.c (several mounts).
 */
#ifndef MASSFS_FS_INDEX_LOG_WRITER_H
#define MASSFS_FS_INDEX_LOG_WRITER_H

#include <pthread.h>

#include "common/op_ctx.h"
#include "common/sync.h"
#include "fs/index_log_internal.h"
#include "fs/leases.h"
#include "meta/log_engine.h"

struct index_log {
	struct volume *v;
	int64_t interval;
	struct index_log_before before;
	bool has_thread;
	pthread_t thread;

	struct mfs_mutex lock; /* nothing is called with it held */
	pthread_cond_t work; /* due || stop; or the time has come (CLOCK_MONOTONIC) */
	bool due, stop;
	struct index_log_status status;
	uint64_t writing; /* changes of the cut that is being stored; 0: none is */
	int64_t writing_since;

	/* The thread's own; after its end, the closer's. */
	struct op_ctx op;
	bool opened; /* epoch, number, previous are known; with several mounts: this one writes the log */
	uint64_t epoch;
	uint64_t number; /* of the last changes object; 0: none in this epoch */
	uint64_t previous; /* its sum */
	bool has_snapshot; /* a complete one in this epoch */
	uint64_t snapshot_bytes, changes_bytes; /* of objects: the last snapshot, and the changes after it */
	bool need_snapshot;
	uint64_t snapshot; /* its number */
	int64_t complete; /* wall time of the last cut */
	int64_t next; /* CLOCK_MONOTONIC: when changes are due by time */
	int64_t last_log; /* of an error, so as not to fill the journal */

	/* With several mounts (index_log_shared.c). */
	bool shared;
	uint64_t first_session; /* the one that this mount began with */
	uint64_t term;		/* ours; in the names of objects. 0: there is one writer only */
	uint64_t token;		/* of the cell, as we know it; 0: there is none */
	uint64_t next_number;	/* of the index, in the last cut */
	uint64_t snapshot_term;
};

/* --- index_log_write.c --- */

enum log_cut_kind {
	LOG_CUT_DUE, /* what was changed, if anything was */
	LOG_CUT_ALL, /* all that was changed before this call */
	LOG_CUT_LAST, /* the same; nothing comes behind it */
};
/* -EAGAIN (several mounts): another one writes the log now. */
int index_log_write_changes(struct index_log *l, enum log_cut_kind kind) MFS_NODISCARD;
/* -ESTALE: a new epoch was begun meanwhile. -ECANCELED: the mount ends. */
int index_log_write_snapshot(struct index_log *l) MFS_NODISCARD;
void index_log_begin_epoch(struct index_log *l); /* in memory */
void index_log_set_status(struct index_log *l, int error, int64_t complete);

/* --- index_log.c --- */
bool index_log_take_due(struct index_log *l);
bool index_log_is_stopping(struct index_log *l);

/* --- index_log_records.c: the records of a cut --- */
int index_log_put_records(struct index_log *l, const struct log_cut *cut, struct record_writer *w) MFS_NODISCARD;

/* --- index_log_shared.c --- */

/* This mount writes the log from now on: behind what the one before it has stored, or in a new epoch. -EAGAIN. */
int index_log_shared_take_over(struct index_log *l) MFS_NODISCARD;
/* A cut is about to be taken; it is in the store, as l->number; a snapshot is. -EAGAIN. */
int index_log_shared_begins(struct index_log *l) MFS_NODISCARD;
int index_log_shared_stored(struct index_log *l, bool clean) MFS_NODISCARD;
int index_log_shared_has_snapshot(struct index_log *l) MFS_NODISCARD;
/* What was changed is not known: all of it in a new epoch. */
int index_log_shared_new_epoch(struct index_log *l) MFS_NODISCARD;
/* Has another mount its session open? */
int index_log_shared_others(struct index_log *l, bool *ret) MFS_NODISCARD;

#endif
