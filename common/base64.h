/*
 * Base64 (RFC 4648, with padding): bytes in text formats.
 */
#ifndef MASSFS_COMMON_BASE64_H
#define MASSFS_COMMON_BASE64_H

#include <stddef.h>

#include "common/defs.h"

struct mfs_buf;

/* Appended, without quotes. 0 or as mfs_buf_append(). */
int mfs_base64_put(struct mfs_buf *b, const void *data, size_t len);

/* The bytes of `text` (len characters), owned, with a NUL behind them; *ret is never NULL on success. -EINVAL, -ENOMEM. */
int mfs_base64_parse(const char *text, size_t len, void **ret, size_t *ret_len) MFS_NODISCARD;

#endif
