/*
 * Bringing the bytes of files and trees close before they are asked for, and dropping them again: what massfs warmup and
 * massfs evict do. With a block cache (fs/block_cache.h) that is where they go; without one the files are read
 * through (evict: told to go), so that the operating system caches them.
 *
 * Only what cred may read, as the filesystem would let it; committed states only.
 */
#ifndef MASSFS_FS_WARMUP_H
#define MASSFS_FS_WARMUP_H

#include "fs/volume.h"

struct warmer;

struct warmup_options {
	bool evict;
	struct mfs_cred cred;
	/* Called by the thread that runs, now and then; may be NULL. */
	void (*progress)(void *arg, uint64_t files, uint64_t bytes);
	/* evict: of each file, for the kernel's pages; from several threads; may be NULL. */
	void (*dropped)(void *arg, mfs_ino_t ino);
	void *arg;
};

struct warmup_result {
	uint64_t files, bytes; /* done; bytes as files have them, holes left out */
	uint64_t denied; /* files and folders that cred may not read */
	uint64_t failed;
	int error; /* of the first that failed */
};

/* The file, or all files below the folder. 0; -ECANCELED; or what the index gave. Blocks until it is done. */
int warmup_run(struct volume *v, struct op_ctx *op, mfs_ino_t ino, const struct warmup_options *opt,
	       struct warmup_result *ret) MFS_NODISCARD;

/* In the background, one after the other. */
int warmer_start(struct volume *v, struct warmer **ret) MFS_NODISCARD;
/* -EBUSY: too many wait. The options' functions are not called. */
int warmer_submit(struct warmer *w, mfs_ino_t ino, const struct mfs_cred *cred) MFS_NODISCARD;
uint64_t warmer_pending(struct warmer *w); /* files and trees; NULL: 0 */
/* What is under way is given up. NULL: nothing. */
void warmer_stop(struct warmer *w);

#endif
