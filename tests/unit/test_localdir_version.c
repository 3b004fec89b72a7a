/*
 * Version ids of localdir: what is written is read back, and nothing else is taken for one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "backend/localdir.h"

static uint64_t state = 88172645463325252u;

static uint64_t roll(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Numbers of all lengths. */
static uint64_t any_number(void)
{
	return roll() >> roll() % 64;
}

static void test_ids__are_read_back(void **unused)
{
	(void)unused;
	for (unsigned int i = 0; i < 100000; i++) {
		struct localdir_version a = { .counter = any_number(),
					      .folder = (uint8_t)roll(),
					      .ino = any_number(),
					      .session = any_number(),
					      .op = any_number() },
					b;
		char path[LOCALDIR_PATH_MAX], again[LOCALDIR_PATH_MAX];

		if (i % 16 == 0)
			a.ino = i % 32 ? 0 : UINT64_MAX;
		localdir_version_path(&a, path);
		assert_true(strlen(path + 3) <= OBJECT_VERSION_MAX);
		assert_true(path[2] == '/' && !memcmp(path, path + 3 + 17, 2));
		assert_int_equal(localdir_version_parse(path + 3, &b), 0);
		assert_true(a.counter == b.counter && a.folder == b.folder && a.ino == b.ino &&
			    a.session == b.session && a.op == b.op);
		assert_int_equal(localdir_ref_path(path + 3, again), 0);
		assert_string_equal(path, again);
	}
}

static void test_other_text__is_refused(void **unused)
{
	static const char *const bad[] = { "",
					   "-",
					   "----",
					   "0",
					   "18ea0e43a6aecbc3",
					   "18ea0e43a6aecbc3-6e",
					   "18ea0e43a6aecbc3-6e-5-1234",
					   "18ea0e43a6aecbc3-6e-5-1234-",
					   "18ea0e43a6aecbc3-6e--1234-7",
					   "18ea0e43a6aecbc3-6e-5-1234-7-",
					   "18ea0e43a6aecbc3-6e-5-1234-7/",
					   "18ea0e43a6aecbc3-6e-5-1234-7 ",
					   " 18ea0e43a6aecbc3-6e-5-1234-7",
					   "18EA0E43A6AECBC3-6e-5-1234-7",
					   "18ea0e43a6aecbc3-6E-5-1234-7",
					   "18ea0e43a6aecbc3-6e-05-1234-7",
					   "18ea0e43a6aecbc3-6e-00-1234-7",
					   "18ea0e43a6aecbc3-6e-5-12345678901234567-7",
					   "8ea0e43a6aecbc3-6e-5-1234-7",
					   "118ea0e43a6aecbc3-6e-5-1234-7",
					   "18ea0e43a6aecbc3-e-5-1234-7",
					   "18ea0e43a6aecbc3-6e-5-1234-+7",
					   "18ea0e43a6aecbc3-6e-5-0x12-7",
					   "18ea0e43a6aecbc3-..-5-1234-7",
					   "18ea0e43a6aecbc3-6e-5-../../x-7",
					   "18ea0e43a6aecbc3_6e_5_1234_7",
					   "18ea0e43a6aecbc\xc3-6e-5-1234-7" };
	struct localdir_version v = { .counter = 1 };

	(void)unused;
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++)
		assert_int_equal(localdir_version_parse(bad[i], &v), -EINVAL);
	assert_true(v.counter == 1 && !v.folder && !v.ino);
}

/* Either refused, or exactly what would be written for it: so no text can lead out of v/. */
static void check(const char *text)
{
	char path[LOCALDIR_PATH_MAX];
	struct localdir_version v;

	if (localdir_version_parse(text, &v) < 0)
		return;
	localdir_version_path(&v, path);
	assert_string_equal(path + 3, text);
	assert_null(strchr(path + 3, '/'));
}

static void test_random_text__never_becomes_another_path(void **unused)
{
	static const char alphabet[] = "0123456789abcdef----/.ABxg\xff";

	(void)unused;
	for (unsigned int i = 0; i < 300000; i++) {
		char text[OBJECT_VERSION_MAX + 8];
		size_t len = roll() % sizeof(text);

		if (i % 2) { /* a good one with a few bytes changed */
			struct localdir_version v = { any_number(), (uint8_t)roll(), any_number(),
						      any_number(), any_number() };
			char path[LOCALDIR_PATH_MAX];

			localdir_version_path(&v, path);
			len = strlen(path + 3);
			memcpy(text, path + 3, len);
			for (unsigned int n = roll() % 3; n; n--)
				text[roll() % len] = alphabet[roll() % (sizeof(alphabet) - 1)];
		} else {
			for (size_t j = 0; j < len; j++)
				text[j] = alphabet[roll() % (sizeof(alphabet) - 1)];
		}
		{
			/* in a block of its exact size, for ASan */
			char *exact = malloc(len + 1);

			assert_non_null(exact);
			memcpy(exact, text, len);
			exact[len] = '\0';
			check(exact);
			free(exact);
		}
	}
}

static void test_next__rises_also_when_the_clock_stands_or_goes_back(void **unused)
{
	struct localdir *ld = calloc(1, sizeof(*ld));
	const struct object_meta meta = { .ino = 1 };
	struct localdir_version a, b;
	unsigned int n_changes = 0;

	(void)unused;
	assert_non_null(ld);
	localdir_version_next(ld, &meta, &a);
	atomic_store(&ld->last_counter,
		     a.counter + UINT64_C(3600000000000)); /* as if it had been an hour later */
	for (unsigned int i = 0; i < 10000; i++) {
		localdir_version_next(ld, &meta, &b);
		assert_true(b.counter > a.counter);
		n_changes += a.folder != b.folder;
		a = b;
	}
	assert_int_equal(n_changes, 9); /* of the folder: every 1,024 */
	free(ld);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids__are_read_back),
		cmocka_unit_test(test_other_text__is_refused),
		cmocka_unit_test(test_random_text__never_becomes_another_path),
		cmocka_unit_test(test_next__rises_also_when_the_clock_stands_or_goes_back),
	};

	const char *seed = getenv("MASSFS_SEED");

	state = seed ? strtoull(seed, NULL, 0) : state ^ (uint64_t)time(NULL) << 20;
	print_message("MASSFS_SEED=%ju\n", (uintmax_t)state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
