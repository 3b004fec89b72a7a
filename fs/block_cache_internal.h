/*
 * What the files of the block cache share: the index in memory (block_cache_index.c), block files
 * (block_cache_file.c), folders (block_cache_folder.c) and fetching (block_cache.c).
 */
#ifndef MASSFS_FS_BLOCK_CACHE_INTERNAL_H
#define MASSFS_FS_BLOCK_CACHE_INTERNAL_H

#include "common/sync.h"
#include "common/workers.h"
#include "fs/block_cache.h"

#define BLOCK_CELL	  ((uint32_t)64 << 10) /* what one checksum covers, so what a small read must read */
#define BLOCK_HEADER	  512
#define BLOCK_VOLUME_SIZE 40
#define BLOCK_NAME_MAX	  96

/* Which bytes: id is a hash of volume, store, bucket, key and version. */
struct block_key {
	uint64_t id[2];
	uint64_t block;
};

enum block_queue { QUEUE_SMALL, QUEUE_MAIN, N_QUEUES };

/* One block that is on disk. 72 bytes; with its share of the tables about 100. */
struct block {
	struct block *chain; /* of the bucket */
	struct block *newer, *older; /* in its queue */
	struct block_key key;
	uint32_t len; /* of the bytes, without header */
	uint32_t
		serial; /* in the file's name: a name is never used twice, so a late unlink takes no newer file */
	uint32_t read_end; /* of the last read of it */
	uint16_t cells; /* those read since the last time it was counted as wanted again */
	uint8_t folder, queue, wanted;
	bool unread; /* brought in ahead, and not asked for yet */
};

/*
 * S3-FIFO. A new block enters `small` (a tenth of the space), is promoted to `main` when it was wanted again by the time
 * it reaches the end, else it goes and only a fingerprint of it stays (ghost); a block whose fingerprint is still there
 * enters main at once. A block at the end of main that was wanted since goes round again.
 */
struct block_index {
	struct block **buckets;
	size_t n_buckets, n, max_n;
	struct {
		struct block *newest, *oldest;
		uint64_t bytes;
	} queues[N_QUEUES];
	uint64_t bytes, limit, small_target;
	size_t n_unread;
	uint64_t pending; /* cost of files that are being written: as if in small already */
	uint64_t folder_bytes[BLOCK_CACHE_FOLDERS];
	struct ghost *ghosts;
	size_t n_ghosts; /* a power of two */
	uint32_t ghost_clock, ghost_span;
};

int block_index_init(struct block_index *ix, uint64_t limit) MFS_NODISCARD;
void block_index_release(struct block_index *ix);
struct block *block_index_find(const struct block_index *ix, const struct block_key *key);
/* [off, off+len) of it was read. */
void block_index_touch(struct block_index *ix, struct block *b, uint32_t off, uint32_t len);
/* How many blocks may be ahead of their readers: more would push each other out before they are read. */
size_t block_index_ahead_max(const struct block_index *ix);
/* A copy of *b goes in. restored: it was there before this daemon, so it has proved nothing and is no news either. */
int block_index_add(struct block_index *ix, const struct block *b, bool restored) MFS_NODISCARD;
/* Out of the index; the caller frees it. */
void block_index_remove(struct block_index *ix, struct block *b);
/* The one to go next, removed; folder -1: any. NULL: there is none. */
struct block *block_index_evict(struct block_index *ix, int folder);
/* Out with all of that object (id) or, id NULL, of that folder: a list by ->chain, the caller frees them. */
struct block *block_index_remove_all(struct block_index *ix, const uint64_t *id, int folder);
uint64_t block_cost(uint32_t len); /* on disk */

/* --- files --- */

/* What a block's header says of it. */
struct block_label {
	const char *volume, *version;
	struct block_key key;
	uint32_t len, serial;
};

void block_file_name(const struct block_label *l, char name[BLOCK_NAME_MAX]);
/* By a temporary name. 0 or -errno (nothing is left then). */
int block_file_write(int dirfd, const struct block_label *l, const void *buf) MFS_NODISCARD;
/* Exactly these bytes of it, verified: 0; -EBADMSG: damaged; -ENOENT: gone; another -errno. */
int block_file_read(int dirfd, const struct block_label *l, uint32_t off, void *buf,
		    uint32_t len) MFS_NODISCARD;
void block_file_delete(int dirfd, const struct block_key *key, uint32_t len, uint32_t serial);
typedef int block_file_fn(void *arg, const struct block *b);
/* Every block file by its name alone; unfinished ones of ours are removed. Not 0 from fn ends it. */
int block_file_scan(int dirfd, block_file_fn *fn, void *arg) MFS_NODISCARD;

/* --- folders --- */

struct block_folder {
	char *path;
	int dirfd, lockfd;
	unsigned int users; /* calls that use dirfd just now */
	bool on; /* off: its blocks are not in the index */
	int64_t retry_at; /* off: when to try again */
	int64_t full_until; /* nothing is added before */
	int64_t checked_at; /* statvfs */
	uint64_t room; /* above the floor, less what was added since then */
};

struct block_flight;

struct block_cache {
	struct mfs_mutex lock; /* guards all but what is constant after open; never held over I/O */
	pthread_cond_t landed; /* a flight is done */
	struct block_index index;
	struct block_folder folders[BLOCK_CACHE_FOLDERS];
	struct block_flight *flights;
	size_t n_queued; /* prefetches that wait or are under way */
	uint32_t serial;
	uint64_t hits, misses, bad, evicted, prefetched;
	int64_t bad_logged;
	uint64_t bad_unlogged;
	bool closing, retrying;
	/* constant */
	unsigned int n_folders, free_percent;
	int64_t retry_ns;
	char volume[BLOCK_VOLUME_SIZE];
	struct workers *workers;
};

/* Make, lock, scan; of a folder that is off and has no users. -errno with *ret_reason: it is off. */
int block_folder_open(struct block_cache *c, unsigned int i, char **ret_reason) MFS_NODISCARD;
void block_folder_close(struct block_folder *f);
/* An error of a file in it: the folder goes off (or, no space, takes nothing for a while) where the error means that. */
void block_folder_failed(struct block_cache *c, unsigned int i, int err, const char *what);
/* Start again with those that have been off for long enough. */
void block_folders_retry(struct block_cache *c);
bool block_folder_is_error(int err); /* of the folder or its disk, not of one file or this process */
/*
 * Where to put a block, with room made for it: its number, the caller then is one of its users and index.pending counts
 * the cost; -1: nowhere. Deletes files, so c->lock is not held.
 */
int block_folder_take(struct block_cache *c, const struct block_key *key, uint64_t cost);
void block_folder_give_locked(struct block_cache *c, unsigned int i) MFS_REQUIRES(c->lock);
/* Room for one more after -ENOSPC. false: there is nothing to delete. */
bool block_folder_shrink(struct block_cache *c, unsigned int i, uint64_t bytes);
/* Delete the files of these blocks (a list by ->chain) and free them. */
void block_files_delete(struct block_cache *c, struct block *list);
bool block_folders_any(struct block_cache *c); /* is there one that works? */

#endif
