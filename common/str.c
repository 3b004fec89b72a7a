/*
 * Text to numbers and back, paths, UTF-8.
 */
#include "common/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/clock.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* Time units are case-sensitive ("m" is minutes as in systemd), sizes are not. */
static const struct unit size_units[] = {
	{ "", 1 },
	{ "b", 1 },
	{ "k", 1ull << 10 },
	{ "kb", 1ull << 10 },
	{ "ki", 1ull << 10 },
	{ "kib", 1ull << 10 },
	{ "m", 1ull << 20 },
	{ "mb", 1ull << 20 },
	{ "mi", 1ull << 20 },
	{ "mib", 1ull << 20 },
	{ "g", 1ull << 30 },
	{ "gb", 1ull << 30 },
	{ "gi", 1ull << 30 },
	{ "gib", 1ull << 30 },
	{ "t", 1ull << 40 },
	{ "tb", 1ull << 40 },
	{ "ti", 1ull << 40 },
	{ "tib", 1ull << 40 },
	{ "p", 1ull << 50 },
	{ "pb", 1ull << 50 },
	{ "pi", 1ull << 50 },
	{ "pib", 1ull << 50 },
};
static const struct unit time_units[] = {
	{ "ns", 1 },
	{ "us", 1000 },
	{ "ms", 1000000 },
	{ "", 1000000000 },
	{ "s", 1000000000 },
	{ "sec", 1000000000 },
	{ "m", 60 * 1000000000ull },
	{ "min", 60 * 1000000000ull },
	{ "h", 3600 * 1000000000ull },
	{ "d", 86400 * 1000000000ull },
	{ "w", 7 * 86400 * 1000000000ull },
	{ "y", 365 * 86400 * 1000000000ull },
};

static const struct unit *find_unit(const struct unit *units, size_t n, const char *name, bool any_case)
{
	for (size_t i = 0; i < n; i++)
		if (any_case ? !strcasecmp(units[i].name, name) : !strcmp(units[i].name, name))
			return &units[i];
	return NULL;
}

/*
 * Digits, at most one point, then a unit. Whole part and fraction are kept apart, so that integers are exact.
 */
static int parse_scaled(const char *s, const struct unit *units, size_t n_units, bool any_case, uint64_t *ret)
{
	const struct unit *unit;
	uint64_t whole = 0, sum;
	double fraction = 0, place = 0.1;
	const char *p = s;

	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return -ERANGE;
	if (p == s)
		return -EINVAL;
	if (*p == '.') {
		if (!isdigit((unsigned char)p[1]))
			return -EINVAL;
		for (p++; isdigit((unsigned char)*p); p++, place /= 10)
			fraction += (*p - '0') * place;
	}
	while (*p == ' ')
		p++;
	unit = find_unit(units, n_units, p, any_case);
	if (!unit)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, unit->factor, &sum) ||
	    __builtin_add_overflow(sum, (uint64_t)(fraction * (double)unit->factor + 0.5), &sum))
		return -ERANGE;
	*ret = sum;
	return 0;
}

int mfs_str_size(const char *s, uint64_t *ret)
{
	return parse_scaled(s, size_units, MFS_ARRAY_LEN(size_units), true, ret);
}

int mfs_str_duration(const char *s, int64_t *ret_ns)
{
	uint64_t ns;
	int r = parse_scaled(s, time_units, MFS_ARRAY_LEN(time_units), false, &ns);

	if (r < 0)
		return r;
	if (ns > INT64_MAX)
		return -ERANGE;
	*ret_ns = (int64_t)ns;
	return 0;
}

int mfs_str_uint(const char *s, int base, uint64_t min, uint64_t max, uint64_t *ret)
{
	unsigned long long v;
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, base);
	if (*end || end == s)
		return -EINVAL;
	if (errno == ERANGE || v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int mfs_str_seconds(const char *s, double *ret)
{
	int64_t ns;
	int r;

	r = mfs_str_duration(s, &ns);
	if (r < 0)
		return r;
	*ret = (double)ns / 1e9;
	return 0;
}

int mfs_str_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off",
										       "0" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(yes); i++) {
		if (!strcasecmp(s, yes[i]) || !strcasecmp(s, no[i])) {
			*ret = !strcasecmp(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

char *mfs_str_put_size(char *buf, size_t len, uint64_t bytes)
{
	static const char *const names[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		snprintf(buf, len, "%u B", (unsigned int)bytes);
		return buf;
	}
	while (v >= 1024 && i + 1 < MFS_ARRAY_LEN(names)) {
		v /= 1024;
		i++;
	}
	snprintf(buf, len, "%.1f %s", v, names[i]);
	return buf;
}

static char *put_time(char *buf, size_t len, int64_t ns, bool is_short)
{
	struct timespec ts = mfs_ns_to_timespec(ns);
	struct tm tm;
	size_t n;

	if (!gmtime_r(&ts.tv_sec, &tm))
		tm = (struct tm){ .tm_mday = 1 };
	n = strftime(buf, len, is_short ? "%Y%m%dT%H%M%SZ" : "%Y-%m-%dT%H:%M:%S", &tm);
	if (!is_short && n < len)
		snprintf(buf + n, len - n, ".%09ldZ", ts.tv_nsec);
	return buf;
}

char *mfs_str_put_time_short(char *buf, size_t len, int64_t ns)
{
	return put_time(buf, len, ns, true);
}

char *mfs_str_put_time(char *buf, size_t len, int64_t ns)
{
	return put_time(buf, len, ns, false);
}

char *mfs_str_printf(const char *fmt, ...)
{
	char *s;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

char *mfs_path_join(const char *dir, const char *name)
{
	size_t n = strlen(dir);

	while (*name == '/')
		name++;
	if (!n)
		return strdup(name);
	return mfs_str_printf("%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

int mfs_path_normalize(char *path)
{
	const char *in = path;
	char *out = path;

	while (*in) {
		size_t len = strcspn(in, "/");

		if (len == 2 && in[0] == '.' && in[1] == '.')
			return -EINVAL;
		if (len && !(len == 1 && in[0] == '.')) {
			if (out != path)
				*out++ = '/';
			memmove(out, in, len);
			out += len;
		}
		in += len;
		while (*in == '/')
			in++;
	}
	*out = '\0';
	return 0;
}

bool mfs_str_starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

bool mfs_str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && !memcmp(s + n - m, suffix, m);
}

bool mfs_str_eq(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

size_t mfs_utf8_len(const char *str)
{
	const unsigned char *s = (const unsigned char *)str;
	uint32_t c;
	size_t n;

	if (!s[0])
		return 0;
	if (s[0] < 0x80)
		return 1;
	n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	c = s[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3fu);
	}
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || (n == 3 && c < 0x800) || (n == 4 && c < 0x10000))
		return 0;
	return n;
}

bool mfs_utf8_valid(const char *s, size_t len)
{
	const char *end = s + len;

	while (s < end) {
		char tail[5] = { 0 };
		size_t n;

		/* The last bytes may lack a NUL behind them. */
		memcpy(tail, s, MFS_MIN((size_t)(end - s), (size_t)4));
		n = mfs_utf8_len(tail);
		if (!n)
			return false;
		s += n;
	}
	return true;
}
