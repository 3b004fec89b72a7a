/*
 * The bytes of one open regular file: what the index says (the committed state: inline bytes, or an object with slices
 * over it), what was written since (dirty ranges in memory, under the budget), and for a new file the upload that takes
 * them away while the application goes on.
 *
 * A write is acknowledged into memory. flush makes everything durable: what must be stored first, then one change of the
 * index. Nothing is visible to others or after a crash before that change. A new or small file is written as a whole (in
 * the record, as one put, or streamed in parts); a changed old one at the price of the change, as one patch object.
 *
 * There is one content per inode with open handles. Threads: all calls from any thread; content.lock is held over
 * memory only, never across a store or index call.
 */
#ifndef MASSFS_FS_CONTENT_H
#define MASSFS_FS_CONTENT_H

#include "common/sync.h"
#include "fs/budget.h"
#include "fs/volume.h"

struct content;
struct blob;
struct workers;

#define CONTENT_PATCHES 512 /* patch objects kept open, of all files together */

struct content_env { /* what all contents of a mount share; vol, budget and uploaders are borrowed */
	struct volume *vol;
	struct budget *budget;
	struct workers *uploaders;
	struct mfs_mutex lock; /* guards the list: who holds memory, when the budget runs out */
	struct content *first;
	/* For stores that are read by get: range GETs of one read at once, and what is fetched ahead. NULL: one at a time. */
	struct workers *fetchers, *readers;
	_Atomic uint64_t ahead_bytes; /* in memory, of all files together */
	struct mfs_mutex patch_lock; /* guards patches */
	struct blob *patches[CONTENT_PATCHES];
	/* Lower than the layout's own bounds (meta/layout.h) in tests; 0: those. Three quarters of it: compaction begins. */
	size_t slices_max, segments_max;
	/* Files whose content is in the index and not yet an object (`inline=`): how many, and their bytes. Kept by commits;
	 * counted in the index at the first use and again when a bound is reached, as settles and unlinks lower it. */
	_Atomic uint64_t inline_files, inline_bytes;
	_Atomic int64_t inline_counted; /* monotonic time of the last count; 0: none yet */
	/* A commit went over what another mount had committed: what readers saw before it may be elsewhere in the file now. May be
	 * NULL; set before the first content. Called with no lock held. */
	void (*moved)(void *arg, mfs_ino_t ino);
	void *moved_arg;
};
void content_env_init(struct content_env *env, struct volume *vol, struct budget *budget, struct workers *uploaders);
void content_env_release(struct content_env *env); /* no content may be left */

/* For the first handle of an inode. Reads the record: 1 index round trip. -ESTALE: gone. */
int content_open(const struct content_env *env, struct op_ctx *op, mfs_ino_t ino, struct content **ret) MFS_NODISCARD;
/* The same of a file that this mount has just made: n is its record, and nothing is read. */
int content_open_made(const struct content_env *env, struct op_ctx *op, const struct node *n, struct content **ret) MFS_NODISCARD;
/* After the last handle. What is dirty and could not be committed is lost here, and logged. NULL: nothing. */
void content_free(struct content *c);

/* A handle that may write comes or goes: the state before a writer's commits becomes a version. */
void content_writer_opened(struct content *c);
/* True: it was the last one, and something is dirty again or still. */
bool content_writer_closed(struct content *c);
/* One goes and leaves the commit of what it did to others' close. False: there are no others. */
bool content_writer_leaves(struct content *c) MFS_NODISCARD;

/* Up to len bytes at off into buf: the count, short only at the end of the file. Clean: 1 store round trip. */
ssize_t content_read(struct content *c, struct op_ctx *op, uint64_t off, void *buf, size_t len) MFS_NODISCARD;

/* All of buf, or -errno (-EFBIG, -ENOSPC, -EIO). append: at the end, whatever off says; should another mount have made
 * the file longer by the time of the commit, it moves to the new end. No round trip, but where memory runs out. */
int content_write(struct content *c, struct op_ctx *op, uint64_t off, const void *buf, size_t len, bool append) MFS_NODISCARD;

/* Do storage rules say how big it may become (-EFBIG is theirs then)? */
bool content_has_limit(const struct content *c);

/* O_TRUNC and ftruncate. To 0 or with dirty data: in memory, until the flush; else 1 index change. */
int content_truncate(struct content *c, struct op_ctx *op, uint64_t size, struct mfs_attr *attr) MFS_NODISCARD;

/* [off, off+len) reads as zeros; the size stays. In memory, until the flush. */
int content_punch(struct content *c, struct op_ctx *op, uint64_t off, uint64_t len) MFS_NODISCARD;
/* lseek's SEEK_DATA and SEEK_HOLE. -ENXIO at or beyond the end. */
int content_seek(struct content *c, struct op_ctx *op, uint64_t off, int whence, uint64_t *ret) MFS_NODISCARD;
/*
 * Up to len bytes at src_off of src to dst_off of dst: how many were copied, less than len at the source's end or when a
 * call has done enough (the caller asks again). Holes stay holes. -EINVAL: the ranges overlap in one file. -EFBIG,
 * -ENOSPC, -EIO. dst is dirty afterwards, as after a write.
 */
ssize_t content_copy_range(struct content *dst, struct op_ctx *op, uint64_t dst_off, struct content *src, uint64_t src_off,
			   uint64_t len) MFS_NODISCARD;
/* Commit every file that has been dirty for longer than commit= and is still open (one that is streamed, only when nothing
 * was written for as long). now_ns is monotonic. From a thread of the mount, about once a second. */
void content_env_tick(struct content_env *env, struct op_ctx *op, int64_t now_ns);

/*
 * close and fsync: 0 when all that was written before is durable in store and index. Dirty: 1 put (none for inline, or
 * the rest of the multipart), 1 index change. An error of an earlier background upload is reported here, once a handle.
 * *attr gets the record's attributes after the commit when something was committed (*ret_committed).
 */
int content_flush(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed) MFS_NODISCARD;
/*
 * The same for a close(2), where storage rules have a say (content_is_judged()); else it is content_flush(). Content that they
 * refuse is kept aside (namespace_refuse()), the file keeps or gets back what it had, and the answer is -EINVAL. It stays dirty
 * (content_is_refused()) where it still can be: one that has the file open by the same descriptor may go on and mend it. last: no
 * further close follows; before, an empty file is left alone: a shell's redirection closes it once before it is written.
 */
int content_close(struct content *c, struct op_ctx *op, bool last, struct mfs_attr *attr, bool *ret_committed) MFS_NODISCARD;
bool content_is_judged(const struct content *c);
bool content_is_refused(struct content *c);
/* The flush was that of a close(2). Its RELEASE may come after the next open of the file (the kernel does not wait for
 * it), which must find that the state is one to keep as a version all the same. */
void content_closed(struct content *c);

/* close() has reported `err`: what is not committed is dropped, and the last good state is what readers see from now on. Who
 * has the file open for writing then hears of it, at each write and flush (content_lost()); who opens it later does not, also
 * where the RELEASE of the handle that failed is still to come. */
void content_give_up(struct content *c, struct op_ctx *op, int err);
/* How often that was: taken with content_writer_opened(). */
unsigned int content_losses(struct content *c);
/* Was it, since `losses` were counted? 0, or its error: what this writer wrote is gone, and more would make a file of parts. */
int content_lost(struct content *c, unsigned int losses) MFS_NODISCARD;

/* A lock under which it was written is somebody else's now: its writers get EIO until the last of them has closed it. */
void content_lock_lost(struct content *c);

/* Put what is not in the index yet (size, mtime, ctime, alloc) over attr. */
void content_overlay(struct content *c, struct mfs_attr *attr);
/* utimens is about to set the record's mtime: commits of what was written before leave it alone. Waits for one that is
 * under way. */
void content_mtime_is_set(struct content *c);
bool content_is_dirty(struct content *c);

/* Another mount changed the record: these are its counters now. What we have is read again if it is older. */
void content_news(struct content *c, uint64_t data, uint64_t lay);
/* The kernel has pages of what the content was at `pages` (its counter `data`): the counter that they are good for now, as
 * our own commits are in them. */
uint64_t content_pages(struct content *c, uint64_t pages);

/* The index changed the content behind us (restore, settle): forget the clean base; it is read again on next use. */
void content_reload(struct content *c);

#endif
