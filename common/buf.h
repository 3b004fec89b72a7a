/*
 * A growing byte buffer with a maximum from birth. Appending beyond it gives -EFBIG and keeps what was there.
 * Always NUL-terminated behind `len` once something was appended, so `data` can be used as a string.
 */
#ifndef MASSFS_COMMON_BUF_H
#define MASSFS_COMMON_BUF_H

#include <stddef.h>

#include "common/defs.h"

struct mfs_buf {
	char *data; /* NULL while nothing was appended */
	size_t len, cap, max;
};
#define MFS_BUF_INIT(maximum) { .max = (maximum) }
#define MFS_AUTOBUF MFS_CLEANUP(mfs_buf_release)

void mfs_buf_release(struct mfs_buf *b); /* and empty; max stays */
void mfs_buf_clear(struct mfs_buf *b);	 /* len 0, memory stays */
int mfs_buf_append(struct mfs_buf *b, const void *data, size_t len) MFS_NODISCARD;
int mfs_buf_puts(struct mfs_buf *b, const char *s) MFS_NODISCARD;
int mfs_buf_printf(struct mfs_buf *b, const char *fmt, ...) MFS_PRINTF(2, 3) MFS_NODISCARD;
/* At the front. */
int mfs_buf_prepend(struct mfs_buf *b, const void *data, size_t len) MFS_NODISCARD;

#endif
