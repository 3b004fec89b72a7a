/*
 * zstd as a stream, with bounded memory (a window of 8 MiB at most, both ways). Not thread-safe.
 */
#ifndef MASSFS_COMMON_ZSTREAM_H
#define MASSFS_COMMON_ZSTREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/defs.h"

#define MFS_ZSTREAM_LEVEL     3
#define MFS_ZSTREAM_LEVEL_MAX 19

/* Takes all of it: 0 or -errno. */
typedef int mfs_sink_fn(void *arg, const void *buf, size_t len);
/* Up to len bytes; 0: the end; -errno. */
typedef ssize_t mfs_source_fn(void *arg, void *buf, size_t len);

/* level 1..MFS_ZSTREAM_LEVEL_MAX; 0: the bytes go through as they are. NULL: no memory. */
struct mfs_zwriter;
struct mfs_zwriter *mfs_zwriter_new(int level, mfs_sink_fn *sink, void *arg) MFS_NODISCARD;
/* Once one failed, all give that error. */
int mfs_zwriter_write(struct mfs_zwriter *z, const void *buf, size_t len) MFS_NODISCARD;
int mfs_zwriter_finish(struct mfs_zwriter *z)
	MFS_NODISCARD; /* ends the frame (with a checksum); nothing can follow */
void mfs_zwriter_free(struct mfs_zwriter *z); /* NULL: nothing */

/* Reads zstd frames, or, when the first bytes are none, the bytes as they are. NULL: no memory. */
struct mfs_zreader;
struct mfs_zreader *mfs_zreader_new(mfs_source_fn *source, void *arg) MFS_NODISCARD;
/* Bytes; 0: the end. -EUCLEAN: damaged or cut short. */
ssize_t mfs_zreader_read(struct mfs_zreader *z, void *buf, size_t len) MFS_NODISCARD;
void mfs_zreader_free(struct mfs_zreader *z); /* NULL: nothing */

#endif
