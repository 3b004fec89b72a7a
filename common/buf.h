/*
 * A growing byte buffer with a maximum from birth, for text and small binary data (never file content).
 *
 * Bytes are followed by a NUL that is not counted, so mfs_buf_str() is a C string. A failed append leaves the buffer
 * as it was and is remembered in `err`: a chain of appends may be checked once at its end.
 */
#ifndef MASSFS_COMMON_BUF_H
#define MASSFS_COMMON_BUF_H

#include <stdarg.h>
#include <stddef.h>

#include "common/defs.h"

struct mfs_buf {
	char *bytes; /* owned; NULL while nothing was appended */
	size_t len, cap;
	size_t max; /* of len; 0: MFS_BUF_MAX_DEFAULT */
	int err;    /* 0, or the -errno of the first append that failed */
};

#define MFS_BUF_MAX_DEFAULT (64u << 20)
#define MFS_BUF_INIT(maximum) { .max = (maximum) }
#define MFS_AUTOBUF MFS_CLEANUP(mfs_buf_release)

/* Frees the bytes; the buffer is empty and usable again, with the same maximum. */
void mfs_buf_release(struct mfs_buf *b);
/* Forgets the bytes and the error, keeps the memory. */
void mfs_buf_clear(struct mfs_buf *b);

/* 0, -ENOMEM, or -EMSGSIZE when len would pass max; once one failed, all give what it gave. */
int mfs_buf_add(struct mfs_buf *b, const void *bytes, size_t len);
int mfs_buf_add_str(struct mfs_buf *b, const char *s);
int mfs_buf_add_char(struct mfs_buf *b, char c);
int mfs_buf_printf(struct mfs_buf *b, const char *fmt, ...) MFS_PRINTF(2, 3);
int mfs_buf_vprintf(struct mfs_buf *b, const char *fmt, va_list ap) MFS_PRINTF(2, 0);
/* s as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
int mfs_buf_add_json(struct mfs_buf *b, const char *s);
/* Room for len more bytes: a pointer to them, NULL on failure; count them with mfs_buf_added(). */
char *mfs_buf_reserve(struct mfs_buf *b, size_t len);
void mfs_buf_added(struct mfs_buf *b, size_t len);

/* Never NULL. Lives until the next append. */
const char *mfs_buf_str(const struct mfs_buf *b);
/* The bytes as an owned C string (never NULL but for no memory); the buffer becomes empty. */
char *mfs_buf_take(struct mfs_buf *b) MFS_NODISCARD;

#endif
