/*
 * The growing byte buffer.
 */
#include "common/buf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/str.h"

void mfs_buf_release(struct mfs_buf *b)
{
	free(b->data);
	*b = (struct mfs_buf){ .max = b->max };
}

void mfs_buf_clear(struct mfs_buf *b)
{
	b->len = 0;
	b->err = 0;
	if (b->data)
		b->data[0] = '\0';
}

static int fail(struct mfs_buf *b, int err)
{
	if (!b->err)
		b->err = err;
	return b->err;
}

char *mfs_buf_reserve(struct mfs_buf *b, size_t len)
{
	size_t cap = b->cap;
	char *data;

	if (b->err)
		return NULL;
	if (len > b->max - b->len) {
		fail(b, -EFBIG);
		return NULL;
	}
	if (b->len + len + 1 > cap) {
		while (cap < b->len + len + 1)
			cap = cap ? cap * 2 : 64;
		data = realloc(b->data, cap);
		if (!data) {
			fail(b, -ENOMEM);
			return NULL;
		}
		b->data = data;
		b->cap = cap;
		data[b->len] = '\0';
	}
	return b->data + b->len;
}

void mfs_buf_added(struct mfs_buf *b, size_t len)
{
	b->len += len;
	b->data[b->len] = '\0';
}

int mfs_buf_append(struct mfs_buf *b, const void *data, size_t len)
{
	char *at = mfs_buf_reserve(b, len);

	if (!at)
		return b->err;
	if (len)
		memcpy(at, data, len);
	mfs_buf_added(b, len);
	return 0;
}

int mfs_buf_prepend(struct mfs_buf *b, const void *data, size_t len)
{
	if (!mfs_buf_reserve(b, len))
		return b->err;
	if (!len)
		return 0;
	memmove(b->data + len, b->data, b->len);
	memcpy(b->data, data, len);
	mfs_buf_added(b, len);
	return 0;
}

int mfs_buf_puts(struct mfs_buf *b, const char *s)
{
	return mfs_buf_append(b, s, strlen(s));
}

int mfs_buf_putc(struct mfs_buf *b, char c)
{
	return mfs_buf_append(b, &c, 1);
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

static int put_json_char(struct mfs_buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		return mfs_buf_puts(b, "\\\"");
	case '\\':
		return mfs_buf_puts(b, "\\\\");
	case '\n':
		return mfs_buf_puts(b, "\\n");
	case '\t':
		return mfs_buf_puts(b, "\\t");
	default:
		if (c < ' ' || c == 0x7f)
			return mfs_buf_printf(b, "\\u%04x", c);
		return mfs_buf_putc(b, (char)c);
	}
}

int mfs_buf_put_json(struct mfs_buf *b, const char *s)
{
	mfs_buf_putc(b, '"');
	while (*s) {
		size_t n = mfs_utf8_len(s);

		if (n == 1)
			put_json_char(b, (unsigned char)*s);
		else if (n)
			mfs_buf_append(b, s, n);
		else
			mfs_buf_puts(b, "\xef\xbf\xbd");
		s += n ? n : 1;
	}
	return mfs_buf_putc(b, '"');
}

int mfs_buf_read_fd(struct mfs_buf *b, int fd)
{
	for (;;) {
		char *at = mfs_buf_reserve(b, 4096);
		ssize_t n;

		if (!at)
			return b->err;
		n = read(fd, at, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		mfs_buf_added(b, (size_t)n);
	}
}

const char *mfs_buf_str(const struct mfs_buf *b)
{
	return b->data ? b->data : "";
}

char *mfs_buf_take(struct mfs_buf *b)
{
	char *s = b->data ? b->data : strdup("");

	b->data = NULL;
	mfs_buf_release(b);
	return s;
}
