/*
 * A copy of the index in the object store, a minute behind: what `massfs rebuild` makes an index from.
 *
 *     .massfs/index/<epoch>/snapshot-<n>     every record
 *     .massfs/index/<epoch>/changes-<n>      records as they are since changes n-1, and those that are gone
 *
 * (numbers of 8 digits.) Each is a zstd frame of record lines (meta/record_stream.h) that ends in a "state" and an "end" with
 * a checksum; changes n carries the checksum of changes n-1, so a missing or foreign one is seen.
 *
 *   state after changes n = snapshot k (k < n), over it changes k+1 ... n, the newest of each record counts.
 *
 * A snapshot is read page by page while the index changes, so alone it is no one moment's state: it is whole with the changes
 * up to its state's `until`, which are written before it is. An epoch is one unbroken chain; a new one begins when what
 * happened since the last object is not known (a session ended without a word, or the index was replaced), with a new snapshot.
 * Older snapshots, changes and epochs go when a new snapshot is complete.
 *
 * Its objects carry inode INDEX_LOG_INO; gc, fsck and the reconciler leave keys under INDEX_LOG_PREFIX alone.
 */
#ifndef MASSFS_FS_INDEX_LOG_H
#define MASSFS_FS_INDEX_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/volume.h"

#define INDEX_LOG_PREFIX ".massfs/index/"
#define INDEX_LOG_INO	 ((mfs_ino_t)2)

struct index_log;

/* The last session that the index knew before this one opened it; id 0: none. */
struct index_log_before {
	uint64_t session;
	bool closed;
};

/*
 * v->logged is a log_engine. `before` NULL: it is one by news, other mounts write the log too, and v has a session. A mount has a thread that writes every interval_ns; a tool writes once, at the close, and only
 * when the log is complete up to it. 0 or -errno.
 */
int index_log_open(struct volume *v, const struct index_log_before *before, int64_t interval_ns,
		   bool with_thread, struct index_log **ret) MFS_NODISCARD;
/* Writes what is left, marked as the session's end, and ends. The engine still works. NULL: nothing. */
void index_log_close(struct index_log *l);

/* Nothing is written any more until the close. Several mounts: before the session's end, which the close logs. NULL: nothing. */
void index_log_stop(struct index_log *l);

/* As a crash leaves it: nothing more is written. For tests. NULL: nothing. */
void index_log_abandon(struct index_log *l);

struct index_log_status {
	bool working; /* the newest epoch has a complete snapshot */
	bool elsewhere; /* another mount writes it: but for what is behind, nothing more is known */
	uint64_t epoch, number;
	int64_t complete; /* wall time up to which all changes are in the store; 0: never written by this mount */
	uint64_t behind; /* changes since, and the first one's wall time (0: none) */
	int64_t behind_since;
	uint64_t bytes; /* of the changes' objects since the snapshot */
	uint64_t snapshot_bytes;
	int error; /* of the last try */
};
void index_log_status(struct index_log *l, struct index_log_status *ret);

/* Another index has taken the place of the one that was logged: the chain ends here. For load and rebuild. */
int index_log_break(struct object_store *s, struct op_ctx *op) MFS_NODISCARD;

/* Is this key the log's? */
bool index_log_owns(const char *key);

#endif
