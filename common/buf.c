/*
 * The growing byte buffer.
 */
#include "common/buf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/str.h"

void mfs_buf_release(struct mfs_buf *b)
{
	free(b->bytes);
	*b = (struct mfs_buf){ .max = b->max };
}

void mfs_buf_clear(struct mfs_buf *b)
{
	b->len = 0;
	b->err = 0;
	if (b->bytes)
		b->bytes[0] = '\0';
}

static int fail(struct mfs_buf *b, int err)
{
	if (!b->err)
		b->err = err;
	return b->err;
}

char *mfs_buf_reserve(struct mfs_buf *b, size_t len)
{
	size_t max = b->max ? b->max : MFS_BUF_MAX_DEFAULT, cap = b->cap;
	char *bytes;

	if (b->err)
		return NULL;
	if (len > max - b->len) {
		fail(b, -EMSGSIZE);
		return NULL;
	}
	if (b->len + len + 1 > cap) {
		while (cap < b->len + len + 1)
			cap = cap ? cap * 2 : 64;
		bytes = realloc(b->bytes, cap);
		if (!bytes) {
			fail(b, -ENOMEM);
			return NULL;
		}
		b->bytes = bytes;
		b->cap = cap;
		bytes[b->len] = '\0';
	}
	return b->bytes + b->len;
}

void mfs_buf_added(struct mfs_buf *b, size_t len)
{
	b->len += len;
	b->bytes[b->len] = '\0';
}

int mfs_buf_add(struct mfs_buf *b, const void *bytes, size_t len)
{
	char *at = mfs_buf_reserve(b, len);

	if (!at)
		return b->err;
	if (len)
		memcpy(at, bytes, len);
	mfs_buf_added(b, len);
	return 0;
}

int mfs_buf_add_str(struct mfs_buf *b, const char *s)
{
	return mfs_buf_add(b, s, strlen(s));
}

int mfs_buf_add_char(struct mfs_buf *b, char c)
{
	return mfs_buf_add(b, &c, 1);
}

int mfs_buf_vprintf(struct mfs_buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char *at;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		return fail(b, -EINVAL);
	at = mfs_buf_reserve(b, (size_t)n);
	if (!at)
		return b->err;
	vsnprintf(at, (size_t)n + 1, fmt, ap);
	mfs_buf_added(b, (size_t)n);
	return 0;
}

int mfs_buf_printf(struct mfs_buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = mfs_buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

static int add_json_char(struct mfs_buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		return mfs_buf_add_str(b, "\\\"");
	case '\\':
		return mfs_buf_add_str(b, "\\\\");
	case '\n':
		return mfs_buf_add_str(b, "\\n");
	case '\t':
		return mfs_buf_add_str(b, "\\t");
	default:
		if (c < ' ' || c == 0x7f)
			return mfs_buf_printf(b, "\\u%04x", c);
		return mfs_buf_add_char(b, (char)c);
	}
}

int mfs_buf_add_json(struct mfs_buf *b, const char *s)
{
	mfs_buf_add_char(b, '"');
	while (*s) {
		size_t n = mfs_utf8_len(s);

		if (n == 1)
			add_json_char(b, (unsigned char)*s);
		else if (n)
			mfs_buf_add(b, s, n);
		else
			mfs_buf_add_str(b, "\xef\xbf\xbd");
		s += n ? n : 1;
	}
	return mfs_buf_add_char(b, '"');
}

const char *mfs_buf_str(const struct mfs_buf *b)
{
	return b->bytes ? b->bytes : "";
}

char *mfs_buf_take(struct mfs_buf *b)
{
	char *s = b->bytes ? b->bytes : strdup("");

	b->bytes = NULL;
	mfs_buf_release(b);
	return s;
}
