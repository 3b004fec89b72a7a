/*
 * Base64 both ways. The parser takes the canonical form only: whole groups, padding at the end, no other bits set.
 */
#include "common/base64.h"

#include <errno.h>
#include <stdint.h>

#include "common/buf.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int mfs_base64_put(struct mfs_buf *b, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t need = (len + 2) / 3 * 4;
	char *out = mfs_buf_reserve(b, need);

	if (!out)
		return b->err;
	for (; len >= 3; p += 3, len -= 3) {
		uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = digits[v >> 6 & 63];
		*out++ = digits[v & 63];
	}
	if (len) {
		uint32_t v = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);

		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = len == 2 ? digits[v >> 6 & 63] : '=';
		*out++ = '=';
	}
	mfs_buf_added(b, need);
	return 0;
}

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Up to three bytes from four characters; -1: malformed. */
static int parse_group(const char *text, uint8_t out[3])
{
	int pad = (text[3] == '=') + (text[3] == '=' && text[2] == '=');
	uint32_t v = 0;

	for (int i = 0; i < 4; i++) {
		int d = i < 4 - pad ? value_of(text[i]) : 0;

		if (d < 0)
			return -1;
		v = v << 6 | (uint32_t)d;
	}
	out[0] = (uint8_t)(v >> 16);
	out[1] = (uint8_t)(v >> 8);
	out[2] = (uint8_t)v;
	if ((pad == 2 && (v & 0xffff)) || (pad == 1 && (v & 0xff)))
		return -1;
	return 3 - pad;
}

int mfs_base64_parse(const char *text, size_t len, void **ret, size_t *ret_len)
{
	uint8_t *out;
	size_t n = 0;

	if (len % 4)
		return -EINVAL;
	out = malloc(len / 4 * 3 + 1);
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < len; i += 4) {
		uint8_t group[3];
		int got = parse_group(text + i, group);

		if (got < 0 || (got < 3 && i + 4 != len)) {
			free(out);
			return -EINVAL;
		}
		for (int k = 0; k < got; k++)
			out[n++] = group[k];
	}
	out[n] = 0;
	*ret = out;
	*ret_len = n;
	return 0;
}
