/*
 * Percent-encoding and endpoints.
 */
#include "backend/s3_url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/conf.h"
#include "common/str.h"

#define HOST_MAX 253

static bool is_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
	       c == '.' || c == '~';
}

int s3_url_encode(struct mfs_buf *b, const char *s, bool keep_slash)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (is_unreserved(c) || (c == '/' && keep_slash)) {
			mfs_buf_putc(b, (char)c);
		} else {
			mfs_buf_putc(b, '%');
			mfs_buf_putc(b, hex[c >> 4]);
			mfs_buf_putc(b, hex[c & 15]);
		}
	}
	return b->err;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int s3_url_decode(char *s)
{
	char *to = s;

	for (; *s; s++) {
		int hi, lo;

		if (*s != '%') {
			*to++ = *s == '+' ? ' ' : *s;
			continue;
		}
		hi = hex_digit(s[1]);
		lo = hi < 0 ? -1 : hex_digit(s[2]);
		if (lo < 0 || (!hi && !lo))
			return -EINVAL;
		*to++ = (char)(hi << 4 | lo);
		s += 2;
	}
	*to = '\0';
	return 0;
}

void s3_url_release(struct s3_url *u)
{
	free(u->authority);
	*u = (struct s3_url){ 0 };
}

/* A name or an IPv4 address; both without characters that mean something in a URL. */
static bool host_is_good(const char *host)
{
	size_t len = strlen(host);

	if (!len || len > HOST_MAX || host[0] == '-' || host[0] == '.')
		return false;
	for (; *host; host++)
		if (!isalnum((unsigned char)*host) && *host != '-' && *host != '.' && *host != '_')
			return false;
	return true;
}

/* [host] or host; what follows it in *ret_rest. */
static int take_host(char *text, char **ret_host, char **ret_rest, bool *ret_ip)
{
	unsigned char addr[16];
	char *end;

	if (*text == '[') {
		end = strchr(text, ']');
		if (!end)
			return -EINVAL;
		*end = '\0';
		*ret_host = text + 1;
		*ret_rest = end + 1;
		*ret_ip = true;
		return inet_pton(AF_INET6, *ret_host, addr) == 1 ? 0 : -EINVAL;
	}
	end = strchr(text, ':');
	*ret_rest = end ? end : text + strlen(text);
	*ret_host = strndup(text, (size_t)(*ret_rest - text));
	if (!*ret_host)
		return -ENOMEM;
	*ret_ip = inet_pton(AF_INET, *ret_host, addr) == 1;
	return host_is_good(*ret_host) ? 0 : -EINVAL;
}

static int parse_authority(char *text, struct s3_url *u)
{
	bool v6 = *text == '[';
	char *host = NULL, *rest;
	uint64_t port = u->https ? 443 : 80;
	int r = take_host(text, &host, &rest, &u->is_ip);

	if (r == 0 && *rest == ':')
		r = mfs_str_uint(rest + 1, 10, 1, 65535, &port);
	else if (r == 0 && *rest)
		r = -EINVAL;
	if (r == 0) {
		const char *open = v6 ? "[" : "", *close = v6 ? "]" : "";

		if (port == (u->https ? 443 : 80))
			u->authority = mfs_str_printf("%s%s%s", open, host, close);
		else
			u->authority = mfs_str_printf("%s%s%s:%u", open, host, close, (unsigned int)port);
		r = u->authority ? 0 : -ENOMEM;
	}
	if (!v6)
		free(host);
	return r;
}

int s3_url_parse(const char *text, struct s3_url *ret, char **ret_reason)
{
	struct s3_url u = { .https = true };
	MFS_AUTOFREE char *copy = NULL;
	const char *scheme = strstr(text, "://"), *rest = text;
	size_t len;
	int r;

	if (scheme) {
		if (scheme - text == 4 && !strncasecmp(text, "http", 4))
			u.https = false;
		else if (scheme - text != 5 || strncasecmp(text, "https", 5) != 0)
			return mfs_fail(ret_reason, -EINVAL, "endpoint: only http:// and https:// are spoken");
		rest = scheme + 3;
	}
	copy = strdup(rest);
	if (!copy)
		return -ENOMEM;
	len = strlen(copy);
	if (len && copy[len - 1] == '/')
		copy[len - 1] = '\0';
	r = parse_authority(copy, &u);
	if (r < 0) {
		s3_url_release(&u);
		/* Without the text itself: somebody may have put a password into it. */
		return r == -ENOMEM ? r
				    : mfs_fail(ret_reason, -EINVAL,
					       "endpoint: not of the form http[s]://HOST[:PORT] (an IPv6 address in [])");
	}
	*ret = u;
	return 0;
}
