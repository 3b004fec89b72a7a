/*
 * A growing byte buffer with a maximum from birth. Appending beyond it gives -EFBIG and keeps what was there.
 * Always NUL-terminated behind `len` once something was appended, so `data` can be used as a string.
 *
 * The first failure is kept in `err` and given by every append until mfs_buf_clear(): a chain may be checked once, at
 * its end, and never has a hole in its middle.
 */
#ifndef MASSFS_COMMON_BUF_H
#define MASSFS_COMMON_BUF_H

#include <stdarg.h>
#include <stddef.h>

#include "common/defs.h"

struct mfs_buf {
	char *data; /* NULL while nothing was appended */
	size_t len, cap, max;
	int err;
};
#define MFS_BUF_INIT(maximum) { .max = (maximum) }
#define MFS_AUTOBUF	      MFS_CLEANUP(mfs_buf_release)

void mfs_buf_release(struct mfs_buf *b); /* and empty; max stays */
void mfs_buf_clear(struct mfs_buf *b);	 /* len 0, err 0, memory stays */

/* 0, -ENOMEM or -EFBIG. */
int mfs_buf_append(struct mfs_buf *b, const void *data, size_t len);
int mfs_buf_puts(struct mfs_buf *b, const char *s);
int mfs_buf_putc(struct mfs_buf *b, char c);
int mfs_buf_printf(struct mfs_buf *b, const char *fmt, ...) MFS_PRINTF(2, 3);
int mfs_buf_vprintf(struct mfs_buf *b, const char *fmt, va_list ap) MFS_PRINTF(2, 0);
/* At the front. */
int mfs_buf_prepend(struct mfs_buf *b, const void *data, size_t len);
/* s as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
int mfs_buf_put_json(struct mfs_buf *b, const char *s);

/* Room for len more bytes: a pointer to it, NULL on failure (see err). Count what was filled with mfs_buf_added(). */
char *mfs_buf_reserve(struct mfs_buf *b, size_t len);
void mfs_buf_added(struct mfs_buf *b, size_t len);

/* Everything from fd to its end, appended. 0 or -errno. */
int mfs_buf_read_fd(struct mfs_buf *b, int fd);

/* The text; "" for an empty buffer. Lives until the next append. */
const char *mfs_buf_str(const struct mfs_buf *b);
/* The bytes as an owned C string; the buffer is empty then. NULL: no memory. */
char *mfs_buf_take(struct mfs_buf *b) MFS_NODISCARD;

#endif
