/*
 * Requests and frames of the control socket: what is put is got back, and every cut or damaged request is refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "fs/control.h"
#include "fs/control_wire.h"

static struct mfs_buf request(int argc, char *const *argv, bool progress)
{
	struct mfs_buf b = MFS_BUF_INIT(CONTROL_REQUEST_MAX);

	assert_int_equal(control_request_put(argc, argv, progress, &b), 0);
	return b;
}

static void test_request__comes_back_as_it_was(void **state)
{
	char *argv[] = { (char[]){ "versions" }, (char[]){ "" }, (char[]){ "a/\xff b" } };
	struct mfs_buf b = request(3, argv, true);
	struct control_request r = { 0 };

	(void)state;
	assert_int_equal(control_request_get(b.data, b.len, &r), 0);
	assert_int_equal(r.argc, 3);
	assert_true(r.progress);
	for (int i = 0; i < 3; i++)
		assert_string_equal(r.argv[i], argv[i]);
	assert_null(r.argv[3]);
	control_request_release(&r);
	mfs_buf_release(&b);
}

static void test_request__cut_anywhere_needs_more(void **state)
{
	char *argv[] = { (char[]){ "info" }, (char[]){ "file" } };
	struct mfs_buf b = request(2, argv, false);
	struct control_request r = { 0 };

	(void)state;
	for (size_t len = 0; len < b.len; len++) {
		/* A copy of just that size: ASan sees a look behind it. */
		char *part = malloc(len ? len : 1);

		memcpy(part, b.data, len);
		assert_int_equal(control_request_get(part, len, &r), -EAGAIN);
		free(part);
	}
	mfs_buf_release(&b);
}

static void refuse(const void *bytes, size_t len)
{
	struct control_request r = { 0 };

	assert_int_equal(control_request_get(bytes, len, &r), -EBADMSG);
	assert_null(r.argv);
}

static void test_request__damaged_is_refused(void **state)
{
	char *argv[] = { (char[]){ "info" }, (char[]){ "file" } };
	struct mfs_buf b = request(2, argv, false);
	static const unsigned char no_args[] = { 'm', 'f', 's', '1', 0, 0, 0, 0, 0, 0, 0, 0 };
	static const unsigned char many[] = { 'm', 'f', 's', '1', 65, 0, 0, 0 };
	static const unsigned char long_arg[] = { 'm', 'f', 's', '1', 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };
	static const unsigned char with_nul[] = { 'm', 'f', 's', '1', 1, 0, 0, 0, 2,
						  0,   0,   0,	 'a', 0, 0, 0, 0, 0 };
	static const unsigned char flags[] = { 'm', 'f', 's', '1', 1, 0, 0, 0, 1, 0, 0, 0, 'a', 2, 0, 0, 0 };

	(void)state;
	refuse("GET / HT", 8);
	refuse("mfs2", 4);
	refuse("x", 1);
	refuse(no_args, sizeof(no_args));
	refuse(many, sizeof(many));
	refuse(long_arg, sizeof(long_arg));
	refuse(with_nul, sizeof(with_nul));
	refuse(flags, sizeof(flags));
	assert_int_equal(mfs_buf_putc(&b, 'x'), 0);
	refuse(b.data, b.len); /* something behind it */
	mfs_buf_release(&b);
}

static void test_request__too_big_is_not_sent(void **state)
{
	struct mfs_buf b = MFS_BUF_INIT(CONTROL_REQUEST_MAX);
	char *big = malloc(CONTROL_ARGS_BYTES + 2), *argv[65];

	(void)state;
	memset(big, 'a', CONTROL_ARGS_BYTES + 1);
	big[CONTROL_ARGS_BYTES + 1] = '\0';
	argv[0] = big;
	assert_int_equal(control_request_put(1, argv, false, &b), -E2BIG);
	for (int i = 0; i < 65; i++)
		argv[i] = big + CONTROL_ARGS_BYTES;
	assert_int_equal(control_request_put(65, argv, false, &b), -E2BIG);
	assert_int_equal(control_request_put(0, argv, false, &b), -EINVAL);
	big[CONTROL_ARGS_BYTES] = '\0';
	argv[0] = big;
	assert_int_equal(control_request_put(1, argv, false, &b), 0);
	free(big);
	mfs_buf_release(&b);
}

static void test_frame__comes_back_or_is_refused(void **state)
{
	unsigned char h[CONTROL_FRAME_HEADER];
	uint32_t len;
	char type;

	(void)state;
	control_frame_put('o', 65536, h);
	assert_int_equal(control_frame_get(h, &type, &len), 0);
	assert_int_equal(type, 'o');
	assert_int_equal(len, 65536);
	control_frame_put('o', 65537, h);
	assert_int_equal(control_frame_get(h, &type, &len), -EBADMSG);
	control_frame_put('q', 1, h);
	assert_int_equal(control_frame_get(h, &type, &len), -EBADMSG);
	control_frame_put('x', 17, h);
	assert_int_equal(control_frame_get(h, &type, &len), -EBADMSG);
}

static void test_path__is_named_by_the_device(void **state)
{
	char path[108];

	(void)state;
	assert_true(control_path(makedev(0, 73), 0, path, sizeof(path)));
	assert_string_equal(path, "/run/massfs/0-73.sock");
	assert_false(control_path(makedev(0, 73), 2, path, sizeof(path)));
}

static void test_call__to_nobody_says_so(void **state)
{
	char *argv[] = { (char[]){ "pid" }, NULL };

	(void)state;
	assert_int_equal(control_call(makedev(4095, 1048575), 1, argv, false, stdout, stderr, NULL), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request__comes_back_as_it_was),
		cmocka_unit_test(test_request__cut_anywhere_needs_more),
		cmocka_unit_test(test_request__damaged_is_refused),
		cmocka_unit_test(test_request__too_big_is_not_sent),
		cmocka_unit_test(test_frame__comes_back_or_is_refused),
		cmocka_unit_test(test_path__is_named_by_the_device),
		cmocka_unit_test(test_call__to_nobody_says_so),
	};

	return cmocka_run_group_tests_name("control_wire", tests, NULL, NULL);
}
