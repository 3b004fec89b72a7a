/*
 * The write-ahead log of the sqlite engine: commits made durable in groups, checkpoints in a thread of their own.
 * Private to meta/sqlite_*.
 */
#ifndef MASSFS_META_SQLITE_WAL_H
#define MASSFS_META_SQLITE_WAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/sync.h"
#include "meta/sqlite_conn.h"

struct sqlite_wal {
	struct mfs_mutex lock; /* of all below; nothing is called with it held */
	const char *path;      /* of the database; borrowed */
	bool nosync;
	int fd;		       /* the -wal file */

	pthread_cond_t synced_changed;
	uint64_t committed, synced; /* numbers of commits of this engine */
	bool syncing;		    /* somebody is in fdatasync for the others */
	bool broken;		    /* a sync failed: see wal_sync() */

	pthread_cond_t work;
	int frames, trigger;	    /* pages in the log; from how many on it is checkpointed */
	bool stop, started;
	pthread_t thread;
	struct sqlite_conn conn;    /* the thread's own */
	struct sqlite_conn guard;   /* and its second, see checkpoint_passive() */
	struct mfs_mutex *write_lock; /* of the engine's writer, for the rare full checkpoint */
	struct sqlite_conn *writer;
};

/* writer is open and has read something, so that the -wal file exists. The pointers are borrowed until wal_stop(). */
int wal_start(struct sqlite_wal *w, const char *path, bool nosync, uint64_t cache_bytes, struct mfs_mutex *write_lock,
	      struct sqlite_conn *writer) MFS_NODISCARD;
/* Ends the thread and moves the whole log into the database. No call is under way. */
void wal_stop(struct sqlite_wal *w);

/* After a COMMIT, with the writer's lock held: its number, for wal_sync(). */
uint64_t wal_committed(struct sqlite_wal *w);
/* The number of the latest commit. */
uint64_t wal_latest(struct sqlite_wal *w);
/* Commit `number` and all before it are safe from power loss. Without the writer's lock. -EIO. */
int wal_sync(struct sqlite_wal *w, uint64_t number) MFS_NODISCARD;
bool wal_is_broken(struct sqlite_wal *w);

#endif
