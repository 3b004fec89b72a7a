/*
 * common/str.h: tables of what is taken and what is refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/str.h"

#define SEC MFS_NSEC_PER_SEC

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "64k", 0, 65536 },
		{ "64K", 0, 65536 },
		{ "64KiB", 0, 65536 },
		{ "64kb", 0, 65536 },
		{ "5MiB", 0, 5 * MFS_MIB },
		{ "5 MiB", 0, 5 * MFS_MIB },
		{ "1.5g", 0, 3 * MFS_GIB / 2 },
		{ "0.5k", 0, 512 },
		{ "2TB", 0, 2 * MFS_TIB },
		{ "1p", 0, 1024 * MFS_TIB },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "9007199254740993", 0, 9007199254740993 }, /* not exact as a double */
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999", -ERANGE, 0 },
		{ "16384p", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ " 5", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ "k", -EINVAL, 0 },
		{ "5x", -EINVAL, 0 },
		{ "5kk", -EINVAL, 0 },
		{ "5.", -EINVAL, 0 },
		{ ".5", -EINVAL, 0 },
		{ "5.5.5", -EINVAL, 0 },
		{ "5e3", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "5k ", -EINVAL, 0 },
		{ "5s", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		uint64_t v = 0;

		if (mfs_str_size(cases[i].text, &v) != cases[i].r || v != cases[i].value)
			fail_msg("'%s': %ju", cases[i].text, (uintmax_t)v);
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int r;
		int64_t value;
	} cases[] = {
		{ "0", 0, 0 },
		{ "30", 0, 30 * SEC },
		{ "30s", 0, 30 * SEC },
		{ "1.5h", 0, 5400 * SEC },
		{ "7d", 0, 7 * 86400 * SEC },
		{ "2w", 0, 14 * 86400 * SEC },
		{ "1y", 0, 365 * 86400 * SEC },
		{ "5m", 0, 300 * SEC },
		{ "5min", 0, 300 * SEC },
		{ "250ms", 0, SEC / 4 },
		{ "3us", 0, 3000 },
		{ "3ns", 0, 3 },
		{ "0.1", 0, SEC / 10 },
		{ "293y", -ERANGE, 0 },
		{ "99999999999999999999s", -ERANGE, 0 },
		{ "5M", -EINVAL, 0 },
		{ "5k", -EINVAL, 0 },
		{ "-5s", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "never", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		int64_t v = 0;

		if (mfs_str_duration(cases[i].text, &v) != cases[i].r || v != cases[i].value)
			fail_msg("'%s': %jd", cases[i].text, (intmax_t)v);
	}
}

static void test_numbers_and_booleans(void **state)
{
	uint64_t v = 77;
	double d;
	bool b;

	(void)state;
	assert_int_equal(mfs_str_uint("1000", 10, 0, 1000, &v), 0);
	assert_int_equal(v, 1000);
	assert_int_equal(mfs_str_uint("022", 8, 0, 0777, &v), 0);
	assert_int_equal(v, 022);
	assert_int_equal(mfs_str_uint("9", 8, 0, 0777, &v), -EINVAL);
	assert_int_equal(mfs_str_uint("1001", 10, 0, 1000, &v), -ERANGE);
	assert_int_equal(mfs_str_uint("4", 10, 5, 10, &v), -ERANGE);
	assert_int_equal(mfs_str_uint("99999999999999999999", 10, 0, UINT64_MAX, &v), -ERANGE);
	assert_int_equal(mfs_str_uint("-1", 10, 0, UINT64_MAX, &v), -EINVAL);
	assert_int_equal(mfs_str_uint("", 10, 0, 1, &v), -EINVAL);
	assert_int_equal(mfs_str_uint("1 ", 10, 0, 1, &v), -EINVAL);
	assert_int_equal(v, 022);
	assert_int_equal(mfs_str_seconds("0.5", &d), 0);
	assert_true(d > 0.499 && d < 0.501);
	assert_int_equal(mfs_str_seconds("1.0", &d), 0);
	assert_true(d > 0.999 && d < 1.001);
	assert_int_equal(mfs_str_seconds("nan", &d), -EINVAL);
	assert_int_equal(mfs_str_bool("Yes", &b), 0);
	assert_true(b);
	assert_int_equal(mfs_str_bool("off", &b), 0);
	assert_false(b);
	assert_int_equal(mfs_str_bool("maybe", &b), -EINVAL);
	assert_int_equal(mfs_str_bool("", &b), -EINVAL);
}

static void test_printing(void **state)
{
	char buf[40];

	(void)state;
	assert_string_equal(mfs_str_put_size(buf, 24, 0), "0 B");
	assert_string_equal(mfs_str_put_size(buf, 24, 1023), "1023 B");
	assert_string_equal(mfs_str_put_size(buf, 24, 5 * MFS_MIB), "5.0 MiB");
	assert_string_equal(mfs_str_put_size(buf, 24, UINT64_MAX), "16.0 EiB");
	assert_string_equal(mfs_str_put_time_short(buf, sizeof(buf), 0), "19700101T000000Z");
	assert_string_equal(mfs_str_put_time(buf, sizeof(buf), 1), "1970-01-01T00:00:00.000000001Z");
	assert_string_equal(mfs_str_put_time(buf, sizeof(buf), -1), "1969-12-31T23:59:59.999999999Z");
	mfs_str_put_time(buf, sizeof(buf), INT64_MIN);
	mfs_str_put_time(buf, sizeof(buf), INT64_MAX);
}

static void test_paths(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "", "" },	     { "/", "" },	    { "a", "a" },
		{ "/a//b/", "a/b" }, { "./a/./b", "a/b" },  { "a/..", NULL },
		{ "..", NULL },	     { "/../a", NULL },	    { "...", "..." },
		{ "a..b", "a..b" },  { ".a/.b/", ".a/.b" }, { "///", "" },
		{ ".", "" },	     { "a/.", "a" },	    { "a/b/../../..", NULL },
	};
	char *s;

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		MFS_AUTOFREE char *copy = strdup(cases[i].in);
		int r = mfs_path_normalize(copy);

		if (!cases[i].out)
			assert_int_equal(r, -EINVAL);
		else if (r || strcmp(copy, cases[i].out))
			fail_msg("'%s' became '%s'", cases[i].in, copy);
	}
	s = mfs_path_join("/a", "b");
	assert_string_equal(s, "/a/b");
	free(s);
	s = mfs_path_join("/", "/b");
	assert_string_equal(s, "/b");
	free(s);
	s = mfs_path_join("", "b");
	assert_string_equal(s, "b");
	free(s);
	assert_true(mfs_str_starts("abc", "ab") && !mfs_str_starts("a", "ab"));
	assert_true(mfs_str_ends("a.conf", ".conf") && !mfs_str_ends("conf", ".conf"));
	assert_true(mfs_str_eq(NULL, NULL) && !mfs_str_eq(NULL, "") && mfs_str_eq("a", "a"));
}

static void test_utf8(void **state)
{
	static const struct {
		const char *bytes;
		bool valid;
	} cases[] = {
		{ "", true },
		{ "abc", true },
		{ "gr\xc3\xbc\xc3\x9f", true },
		{ "\xe2\x82\xac", true },
		{ "\xf0\x9f\x98\x80", true },
		{ "\xff", false },
		{ "\x80", false },
		{ "\xc3", false },
		{ "\xc0\xaf", false },
		{ "\xc1\xbf", false },
		{ "\xe0\x80\xaf", false },
		{ "\xed\xa0\x80", false }, /* surrogate */
		{ "\xed\x9f\xbf", true },
		{ "\xf4\x8f\xbf\xbf", true },
		{ "\xf4\x90\x80\x80", false },
		{ "\xf5\x80\x80\x80", false },
		{ "\xf0\x80\x80\xaf", false },
		{ "\xe2\x82", false },
		{ "\xf0\x9f\x98", false },
		{ "a\xe2\x28\xa1", false },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++)
		if (mfs_utf8_valid(cases[i].bytes, strlen(cases[i].bytes)) != cases[i].valid)
			fail_msg("case %zu", i);
	assert_false(mfs_utf8_valid("a\0b", 3));
	/* The length counts, not what lies behind. */
	assert_false(mfs_utf8_valid("\xe2\x82\xac", 2));
}

static void test_clock__keeps_times_before_1970(void **state)
{
	struct timespec ts = mfs_ns_to_timespec(-1);

	(void)state;
	assert_int_equal(ts.tv_sec, -1);
	assert_int_equal(ts.tv_nsec, 999999999);
	assert_int_equal(mfs_timespec_to_ns(ts), -1);
	ts = (struct timespec){ .tv_sec = INT64_MAX, .tv_nsec = 0 };
	assert_int_equal(mfs_timespec_to_ns(ts), INT64_MAX);
	ts = (struct timespec){ .tv_sec = INT64_MIN, .tv_nsec = 0 };
	assert_int_equal(mfs_timespec_to_ns(ts), INT64_MIN);
	ts = mfs_ns_to_timespec(INT64_MIN);
	assert_int_equal(mfs_timespec_to_ns(ts), INT64_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_numbers_and_booleans),
		cmocka_unit_test(test_printing),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_clock__keeps_times_before_1970),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
