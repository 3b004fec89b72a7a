/*
 * tools/utab.h: what becomes of the lines of others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/utab.c" /* the tools are no library */

static void expect(const char *old, const char *source, const char *dir, const char *text)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(4096);

	assert_int_equal(utab_edit(old, source, dir, &b), 0);
	assert_string_equal(mfs_buf_str(&b), text);
}

static void test_adds_a_line(void **state)
{
	(void)state;
	expect("", "/srv/v", "/mnt/m", "SRC=/srv/v TARGET=/mnt/m ROOT=/ OPTS=uhelper=fuse.massfs\n");
	expect("SRC=a TARGET=/mnt/other ROOT=/ OPTS=x", "v", "/mnt/m",
	       "SRC=a TARGET=/mnt/other ROOT=/ OPTS=x\nSRC=v TARGET=/mnt/m ROOT=/ OPTS=uhelper=fuse.massfs\n");
}

static void test_replaces_its_own(void **state)
{
	(void)state;
	expect("SRC=old TARGET=/mnt/m ROOT=/ OPTS=y\nSRC=b TARGET=/mnt/mm ROOT=/\n", "v", "/mnt/m",
	       "SRC=b TARGET=/mnt/mm ROOT=/\nSRC=v TARGET=/mnt/m ROOT=/ OPTS=uhelper=fuse.massfs\n");
}

static void test_removes_its_own_and_no_other(void **state)
{
	(void)state;
	expect("SRC=a TARGET=/mnt/m\nSRC=b TARGET=/mnt/m/n\nSRC=TARGET=/mnt/m TARGET=/x\nID=3 TARGET=/mnt/m ROOT=/\n",
	       NULL, "/mnt/m", "SRC=b TARGET=/mnt/m/n\nSRC=TARGET=/mnt/m TARGET=/x\n");
	expect("", NULL, "/mnt/m", "");
}

static void test_escapes(void **state)
{
	(void)state;
	expect("SRC=x TARGET=/mnt/a\\040b ROOT=/\n", "s p", "/mnt/a b",
	       "SRC=s\\040p TARGET=/mnt/a\\040b ROOT=/ OPTS=uhelper=fuse.massfs\n");
	expect("", "#", "/\\\n\t", "SRC=\\043 TARGET=/\\134\\012\\011 ROOT=/ OPTS=uhelper=fuse.massfs\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adds_a_line),
		cmocka_unit_test(test_replaces_its_own),
		cmocka_unit_test(test_removes_its_own_and_no_other),
		cmocka_unit_test(test_escapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
