/*
 * A decorator that notes which records were changed, for who keeps a copy of the index elsewhere (fs/index_log.c): not
 * what became of them, only their keys, each once. A cut takes what was noted, with a snapshot of the engine in which all
 * of it can be read:
 *
 *   - every change that the snapshot has and an earlier cut's snapshot had not, has all its records in this cut;
 *   - a change that is under way may be in this cut and in the next.
 *
 * So the records of a cut, read from its snapshot and laid over the state of the cut before, are the snapshot's state.
 *
 * Cost: a change takes a lock twice and a hash table entry a record. Memory: bounded (LOG_ENGINE_MAX); beyond it the notes
 * are thrown away and the next cut says so.
 */
#ifndef MASSFS_META_LOG_ENGINE_H
#define MASSFS_META_LOG_ENGINE_H

#include "meta/engine.h"
#include "meta/record_stream.h"

#define LOG_ENGINE_MAX 250000 /* keys: some 20 MiB */

/* Owns inner on success. */
int log_engine_new(struct engine *inner, struct engine **ret) MFS_NODISCARD;

/* `wake` is called, with no lock held, by the change that makes it `changes` since the last cut. NULL: nobody. */
void log_engine_on(struct engine *e, uint64_t changes, void (*wake)(void *arg), void *arg);

struct log_cut {
	struct record_key *keys;
	size_t n;
	uint64_t
		dropped_from; /* `dropped` records with an id from here on may be new, beside those in keys */
	uint64_t changes; /* how many changes noted them */
	bool overflow; /* the notes were too many and are lost: only a whole copy of the index will do */
	struct engine *snapshot;
	int64_t since; /* wall time of the first of them; 0: none */
	int64_t at; /* wall time: changes applied before are in the snapshot */
};
/* One at a time. On failure the notes stay for the next. */
int log_engine_cut(struct engine *e, struct op_ctx *op, struct log_cut *ret) MFS_NODISCARD;
/* The cut could not be made use of: its notes count for the next again. The cut is empty then. */
void log_engine_give_back(struct engine *e, struct log_cut *cut);
void log_cut_release(struct log_cut *cut);

/* Changes noted and not in a cut yet, and the wall time of the first of them (0: none). */
void log_engine_pending(struct engine *e, uint64_t *ret_changes, int64_t *ret_since);

#endif
