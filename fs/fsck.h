/*
 * Is the volume what it must be? The index by itself (records, names, links), the index against the store (each
 * object that is named is there and long enough), and the view (each key shows what the index says).
 *
 * Online it only looks, and what looks wrong is looked at again before it is told: a change may have been under way.
 */
#ifndef MASSFS_FS_FSCK_H
#define MASSFS_FS_FSCK_H

#include "fs/volume.h"

struct fsck_problem {
	const char *what;   /* short and constant: "missing object" */
	mfs_ino_t ino;	    /* 0: of no inode */
	const char *where;  /* path or key; "" if not known */
	const char *detail; /* what is there, and what to do */
	bool repaired;
};
struct fsck_options {
	bool repair; /* offline only */
	bool online;
	void (*problem)(void *arg, const struct fsck_problem *p);
	void (*progress)(void *arg, uint64_t done);
	void *arg;
};
struct fsck_result {
	uint64_t files, directories, others, aliases, trash, versions, objects, keys, jobs;
	uint64_t segments, docs;	/* of patch logs; slices documents: that the index names */
	uint64_t stored, unnamed, waiting; /* objects in the store; of those: garbage (massfs gc), and dropped or in flight */
	uint64_t problems, repaired; /* with repair: of all passes together */
	uint64_t left; /* problems in the last pass */
};
/* 0 however much is wrong (see problems); -errno: could not look. */
int fsck_run(struct volume *v, struct op_ctx *op, const struct fsck_options *opt, struct fsck_result *ret) MFS_NODISCARD;

#endif
