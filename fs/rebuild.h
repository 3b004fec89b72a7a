/*
 * An index from the object store alone: the index log as far as it is complete, and over it what the objects tell that are
 * younger. For a volume that is not mounted (fs/volume_stage.h).
 *
 * What the objects cannot tell: names, attributes and deletions after the log's end, and content that had no native object
 * yet. It is counted where it leaves a trace.
 */
#ifndef MASSFS_FS_REBUILD_H
#define MASSFS_FS_REBUILD_H

#include "fs/volume_stage.h"
#include "meta/record_dump.h"

struct rebuild_options {
	bool import_foreign; /* files that other programs put among the objects become files */
	void (*progress)(void *arg, const char *what, uint64_t done); /* NULL: none */
	void (*found)(void *arg, const char *what,
		      const char *path); /* one line each of what is younger, lost, in the way */
	void *arg;
};

struct rebuild_result {
	bool has_log;
	uint64_t epoch, snapshot, number; /* of the log: the snapshot, and the last changes that were used */
	int64_t complete; /* wall time up to which the log says all; 0 without a log */
	bool clean; /* it ends with a clean unmount: nothing can be younger */
	uint64_t damaged; /* objects of the log that could not be used, or that are missing in its chain */
	struct record_counts log; /* records from it */
	uint64_t objects; /* in the store, the log's own apart */
	/* From objects younger than the log. */
	uint64_t added, replaced, renamed;
	uint64_t foreign, imported;
	uint64_t blocked; /* objects at a path where something else is: they stay, named by nothing */
	/* What is known to be lost. */
	uint64_t lost_files; /* their content is not in the store any more: their names are gone too */
	uint64_t lost_past; /* versions and removed files, the same */
	uint64_t
		lost_changes; /* files whose last upload is no file's content now: changed in place, or removed since */
	uint64_t unnamed; /* objects that nothing names; gc deletes them */
};

/* Into the stage's new index; nothing is changed in the store but copies of objects whose inode number is taken. */
int rebuild_run(struct volume_stage *s, struct op_ctx *op, const struct rebuild_options *opt,
		struct rebuild_result *ret, char **ret_reason) MFS_NODISCARD;

#endif
