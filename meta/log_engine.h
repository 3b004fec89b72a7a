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
 * Of an engine that others write to as well (log_engine_follow) the notes are made of its news, so each mount has them all.
 * One of the mounts makes the cuts. The others learn of them by a cell, LOG_CELL: its token's lowest bits say what it is
 * written for. Before the cut's snapshot is taken, LOG_CELL_BEGINS: what was noted until this news come will be in the cut.
 * When the cut is stored, LOG_CELL_STORED: these notes go. So whoever goes on from the last cut that was stored, has noted all
 * that came after it, as long as no news were lost; the one who made the cuts knows no more than the others.
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

/* By its news. The news are passed on to who watches this engine, but for NEWS_SIDE. */
#define LOG_CELL "leases/log-state"
enum log_cell_phase { LOG_CELL_OTHER, LOG_CELL_BEGINS, LOG_CELL_STORED, LOG_CELL_PHASES = 4 };
int log_engine_follow(struct engine *inner, struct engine **ret) MFS_NODISCARD;
/* (by news) Has it noted all since the cut before the last one that was stored began? */
bool log_engine_is_whole(struct engine *e);
/* (by news) The caller knows that nothing was changed between the last cut and this engine's making: whole from now on, unless
 * something was lost since. Gives log_engine_is_whole(). */
bool log_engine_trust(struct engine *e);

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
/*
 * One at a time. On failure the notes stay for the next. By news: LOG_CELL_BEGINS is written before; waits until all news of
 * the snapshot have come (-ETIMEDOUT: they do not); the notes stay until LOG_CELL_STORED; not whole counts as overflow.
 */
int log_engine_cut(struct engine *e, struct op_ctx *op, struct log_cut *ret) MFS_NODISCARD;
/* The cut could not be made use of: its notes count for the next again. The cut is empty then. */
void log_engine_give_back(struct engine *e, struct log_cut *cut);
void log_cut_release(struct log_cut *cut);

/* Changes noted and not in a cut yet, and the wall time of the first of them (0: none). */
void log_engine_pending(struct engine *e, uint64_t *ret_changes, int64_t *ret_since);

#endif
