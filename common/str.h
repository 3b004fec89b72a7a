/*
 * Text: sizes, durations, numbers, times, paths, UTF-8. Parsers take the whole string or refuse it; they do no I/O.
 */
#ifndef MASSFS_COMMON_STR_H
#define MASSFS_COMMON_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/defs.h"

/*
 * "4096", "64k", "5MiB", "1.5g", "2TB": decimal number, unit k m g t p (any case), with i, iB or B behind it. All
 * units are powers of 1024. -EINVAL: no such thing; -ERANGE: over UINT64_MAX.
 */
int mfs_str_size(const char *s, uint64_t *ret) MFS_NODISCARD;

/*
 * "30", "30s", "1.5h", "7d", "250ms": units ns us ms s m (or min) h d w y (365 d); without one, seconds. The result
 * is in ns. -EINVAL, -ERANGE.
 */
int mfs_str_duration(const char *s, int64_t *ret_ns) MFS_NODISCARD;

/* Decimal, or with base 8 octal. -EINVAL, or -ERANGE outside [min, max]. */
int mfs_str_uint(const char *s, int base, uint64_t min, uint64_t max, uint64_t *ret) MFS_NODISCARD;
/* Seconds as mount options write them ("1.0", "0.5"), >= 0. */
int mfs_str_seconds(const char *s, double *ret) MFS_NODISCARD;
/* yes/no, true/false, on/off, 1/0. -EINVAL. */
int mfs_str_bool(const char *s, bool *ret) MFS_NODISCARD;

/* "5.0 MiB", "812 B". buf of 24 bytes is always enough; returns buf. */
char *mfs_str_put_size(char *buf, size_t len, uint64_t bytes);
/* UTC, "20261121T091500Z" (short) or "2026-11-21T09:15:00.123456789Z" (long). buf of 40 bytes; returns buf. */
char *mfs_str_put_time_short(char *buf, size_t len, int64_t ns);
char *mfs_str_put_time(char *buf, size_t len, int64_t ns);

/* dir/name with one slash between; an empty dir gives name. Owned; NULL: no memory. */
char *mfs_path_join(const char *dir, const char *name) MFS_NODISCARD;
/* asprintf with the result returned. Owned; NULL: no memory. */
char *mfs_str_printf(const char *fmt, ...) MFS_PRINTF(1, 2) MFS_NODISCARD;
/* In place: no leading or trailing slash, none doubled, no "." segments. -EINVAL (path then undefined) for "..". */
int mfs_path_normalize(char *path) MFS_NODISCARD;

bool mfs_str_starts(const char *s, const char *prefix);
bool mfs_str_ends(const char *s, const char *suffix);
bool mfs_str_eq(const char *a, const char *b); /* NULL equals NULL only */

/* Bytes of the UTF-8 character at s (1 to 4); 0: not valid UTF-8 (overlong, surrogate, > U+10FFFF), or the end. */
size_t mfs_utf8_len(const char *s);
bool mfs_utf8_valid(const char *s, size_t len); /* a NUL inside is not valid */

#endif
