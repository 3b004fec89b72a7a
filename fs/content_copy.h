/*
 * copy_file_range between two open files of the mount (or two ranges of one): what the kernel would otherwise do with
 * reads and writes through its pages. Holes stay holes.
 */
#ifndef MASSFS_FS_CONTENT_COPY_H
#define MASSFS_FS_CONTENT_COPY_H

#include "fs/content.h"

/*
 * Up to len bytes at src_off of src to dst_off of dst: how many were copied, less than len at the source's end or when a
 * call has done enough (the caller asks again). -EINVAL: the ranges overlap in one file. -EFBIG, -ENOSPC, -EIO. dst is
 * dirty afterwards, as after a write.
 */
ssize_t content_copy_range(struct content *dst, struct op_ctx *op, uint64_t dst_off, struct content *src, uint64_t src_off,
			   uint64_t len) MFS_NODISCARD;

#endif
