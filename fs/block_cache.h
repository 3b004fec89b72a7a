/*
 * Blocks of immutable objects, kept on disk in one or several folders (cache-dir=), bounded (cache-size=), for stores
 * over a network or a slow disk. A block is 1 MiB of one object version, at a multiple of 1 MiB; its file has a header
 * with the volume, the version, the place and the XXH3 of each 64 KiB of it, which is checked on every read: what does
 * not verify is a miss, is deleted, counted and logged (a line a minute at most). Objects never change, so there is no
 * invalidation; eviction is by block, scan-resistant (S3-FIFO: a stream read once passes through a tenth of the space).
 *
 * The cache may lose anything at any time and is never an authority; nothing in it is fsynced. A folder is locked by one
 * daemon at a time. An I/O error or a missing folder turns the folder off, no space stops what is added to it (one log
 * line each; tried again after a minute); neither fails a read.
 *
 * Threads: every call from any thread; two readers of one missing block fetch it once. No lock is held while fetching.
 */
#ifndef MASSFS_FS_BLOCK_CACHE_H
#define MASSFS_FS_BLOCK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/defs.h"
#include "common/object_ref.h"

struct op_ctx;
struct block_cache;
struct object_store;

#define BLOCK_CACHE_BLOCK   (UINT64_C(1) << 20)
#define BLOCK_CACHE_FOLDERS 16 /* at most */

struct block_cache_options {
	const char *
		dirs; /* one or several, ':' between them; made (0700) if they are not there. NULL, "": none */
	uint64_t size; /* of all of them together; 0: nothing is cached */
	unsigned int
		free_percent; /* a floor: below this much free space on the folder's disk, blocks go (default 10) */
	const char *volume; /* uuid: a folder may serve several volumes' caches in turn, never mix them up */
	int64_t retry_ns; /* how long a folder stays off; 0: a minute */
};

/* What cache-size= is when it is not given: a tenth of the folders' disks, 20 GiB at most. */
uint64_t block_cache_default_size(const char *dirs);

/*
 * -EBUSY: a folder is locked by another daemon; -EACCES: others can write to it; -EINVAL, -ENOTDIR. *ret_reason (owned
 * by the caller) says which and why. A folder that cannot be used for now (no space, I/O error) is begun without.
 */
int block_cache_open(const struct block_cache_options *opt, struct block_cache **ret,
		     char **ret_reason) MFS_NODISCARD;
void block_cache_close(struct block_cache *c); /* nobody reads any more. NULL: nothing */

/*
 * Bytes [off, off+len) of the object, from the cache or (a miss) from the store, whole blocks at a time. object_size is
 * what the index says the object has. Returns the count (short only at the object's end) or what object_get gives.
 * With c NULL, or without a folder that works, it is object_get.
 */
ssize_t block_cache_read(struct block_cache *c, struct op_ctx *op, struct object_store *s,
			 const struct object_ref *ref, uint64_t object_size, uint64_t off, void *buf,
			 size_t len) MFS_NODISCARD;
/* Bring blocks in ahead of need, in the background; dropped when too many wait. s must live until block_cache_close. */
void block_cache_prefetch(struct block_cache *c, struct object_store *s, const struct object_ref *ref,
			  uint64_t object_size, uint64_t off, uint64_t len);
/* Forget every block of this version (evict). */
void block_cache_evict(struct block_cache *c, const struct object_ref *ref, uint64_t object_size);
/* Of [0, object_size), how many bytes are here (info). */
uint64_t block_cache_has(struct block_cache *c, const struct object_ref *ref, uint64_t object_size);

/* hits, misses: blocks asked for, one a block and read. bad: did not verify, or its file was gone. */
struct block_cache_stats {
	uint64_t bytes, blocks, limit; /* bytes: on disk, with headers, in pages of 4 KiB */
	uint64_t hits, misses, bad, evicted, prefetched;
	unsigned int folders, folders_off;
	bool degraded; /* a folder was turned off, or takes nothing in for want of space */
};
void block_cache_stats(struct block_cache *c, struct block_cache_stats *ret); /* c NULL: zeros */

#endif
