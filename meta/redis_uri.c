/*
 * Where Redis is, from the text of the configuration. Reasons name what is wrong and never show the text: it may hold a
 * password.
 */
#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "common/conf.h"
#include "common/str.h"
#include "meta/redis_conn.h"

#define PORT 6379

static void wipe(char *s)
{
	if (s)
		OPENSSL_cleanse(s, strlen(s));
	free(s);
}

void redis_uri_release(struct redis_uri *u)
{
	free(u->path);
	free(u->host);
	wipe(u->user);
	wipe(u->password);
	*u = (struct redis_uri){ 0 };
}

void redis_uri_where(const struct redis_uri *u, char *buf, size_t len)
{
	if (u->path)
		snprintf(buf, len, "%s", u->path);
	else
		snprintf(buf, len, "%s%s%s:%u", strchr(u->host, ':') ? "[" : "", u->host, strchr(u->host, ':') ? "]" : "",
			 u->port);
}

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* s[0, len) with its %XX decoded. -EINVAL, -ENOMEM. */
static int decode(const char *s, size_t len, char **ret)
{
	char *out = malloc(len + 1), *p = out;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (s[i] != '%') {
			*p++ = s[i];
			continue;
		}
		high = i + 2 < len ? hex(s[i + 1]) : -1;
		low = i + 2 < len ? hex(s[i + 2]) : -1;
		if (high < 0 || low < 0 || (high == 0 && low == 0)) {
			*p = '\0';
			wipe(out);
			return -EINVAL;
		}
		*p++ = (char)(high * 16 + low);
		i += 2;
	}
	*p = '\0';
	*ret = out;
	return 0;
}

static int number(const char *s, size_t len, uint64_t max, uint64_t *ret)
{
	char digits[16];

	if (len == 0 || len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, s, len);
	digits[len] = '\0';
	return mfs_str_uint(digits, 10, 0, max, ret) < 0 ? -EINVAL : 0;
}

static int parse_userinfo(const char *s, size_t len, struct redis_uri *u)
{
	const char *colon = memchr(s, ':', len);
	int r = 0;

	if (!colon)
		return -EINVAL; /* a name without a password: neither form of AUTH */
	if (colon > s)
		r = decode(s, (size_t)(colon - s), &u->user);
	return r < 0 ? r : decode(colon + 1, len - (size_t)(colon + 1 - s), &u->password);
}

static int parse_host(const char *s, size_t len, struct redis_uri *u)
{
	const char *end = s + len, *host = s, *colon;
	uint64_t port = PORT;
	size_t n;

	if (*s == '[') {
		const char *close = memchr(s, ']', len);

		if (!close || (close + 1 < end && close[1] != ':'))
			return -EINVAL;
		host = s + 1;
		n = (size_t)(close - host);
		colon = close + 1 < end ? close + 1 : NULL;
	} else {
		colon = memchr(s, ':', len);
		n = colon ? (size_t)(colon - s) : len;
	}
	if (n == 0 || (colon && number(colon + 1, (size_t)(end - colon - 1), 65535, &port) < 0) || port == 0)
		return -EINVAL;
	u->port = (uint16_t)port;
	return decode(host, n, &u->host);
}

static int parse_tcp(const char *s, struct redis_uri *u)
{
	size_t len = strcspn(s, "/?");
	const char *end = s + len, *at = memrchr(s, '@', len);
	uint64_t db = 0;
	int r = 0;

	if (*end == '/' && end[1] && number(end + 1, strlen(end + 1), 1u << 20, &db) < 0)
		return -EINVAL;
	if (*end == '?')
		return -EINVAL;
	u->db = (unsigned int)db;
	if (at)
		r = parse_userinfo(s, (size_t)(at - s), u);
	if (r == 0)
		r = at ? parse_host(at + 1, (size_t)(end - at - 1), u) : parse_host(s, len, u);
	return r;
}

static int parse_option(const char *s, size_t len, struct redis_uri *u)
{
	const char *value = memchr(s, '=', len);
	size_t name = value ? (size_t)(value - s) : 0, n = value ? len - name - 1 : 0;
	uint64_t db;
	int r = -EINVAL;

	if (name == 2 && !memcmp(s, "db", 2)) {
		r = number(value + 1, n, 1u << 20, &db);
		u->db = r == 0 ? (unsigned int)db : 0;
	} else if (name == 4 && !memcmp(s, "user", 4) && !u->user) {
		r = decode(value + 1, n, &u->user);
	} else if (name == 8 && !memcmp(s, "password", 8) && !u->password) {
		r = decode(value + 1, n, &u->password);
	}
	return r;
}

static int parse_unix(const char *s, struct redis_uri *u)
{
	size_t len;
	int r;

	if (!strncmp(s, "//", 2))
		s += 2;
	len = strcspn(s, "?");
	if (*s != '/' || len < 2)
		return -EINVAL;
	r = decode(s, len, &u->path);
	for (s += len; r == 0 && *s; s += len) {
		s++; /* '?' or '&' */
		len = strcspn(s, "&");
		r = parse_option(s, len, u);
	}
	return r;
}

int redis_uri_parse(const char *text, struct redis_uri *ret, char **ret_reason)
{
	int r;

	*ret = (struct redis_uri){ 0 };
	if (!text || !*text)
		return mfs_fail(ret_reason, -EINVAL, "redis: no URI is given");
	if (mfs_str_starts(text, "rediss://"))
		return mfs_fail(ret_reason, -EINVAL, "redis: TLS (rediss://) is not supported: use a unix socket, or a tunnel");
	if (mfs_str_starts(text, "redis://"))
		r = parse_tcp(text + strlen("redis://"), ret);
	else if (mfs_str_starts(text, "unix:"))
		r = parse_unix(text + strlen("unix:"), ret);
	else
		r = -EINVAL;
	if (r == 0 && ret->user && !ret->password)
		r = -EINVAL;
	if (r == 0)
		return 0;
	redis_uri_release(ret);
	if (r == -ENOMEM)
		return r;
	return mfs_fail(ret_reason, r,
			"redis: not a URI of the form redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] or "
			"unix:/PATH[?db=N&user=U&password=P]");
}
