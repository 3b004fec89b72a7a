/*
 * The small parts of common/: buffer, object_ref, mountinfo, log, worker pool.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/mountinfo.h"
#include "common/object_ref.h"
#include "common/op_ctx.h"
#include "common/workers.h"

static void test_buf__grows_to_its_maximum_and_not_beyond(void **state)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(10);

	(void)state;
	assert_string_equal(mfs_buf_str(&b), "");
	assert_int_equal(mfs_buf_puts(&b, "12345"), 0);
	assert_int_equal(mfs_buf_printf(&b, "%d", 67890), 0);
	assert_int_equal(b.len, 10);
	assert_int_equal(mfs_buf_putc(&b, 'x'), -EFBIG);
	assert_int_equal(mfs_buf_append(&b, "", 0), -EFBIG); /* remembered */
	assert_string_equal(b.data, "1234567890");
	mfs_buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_int_equal(mfs_buf_puts(&b, "bc"), 0);
	assert_int_equal(mfs_buf_prepend(&b, "a", 1), 0);
	assert_string_equal(b.data, "abc");
	assert_int_equal(mfs_buf_prepend(&b, "12345678", 8), -EFBIG);
	assert_string_equal(b.data, "abc");
}

static void test_buf__take_gives_the_text_away(void **state)
{
	struct mfs_buf b = MFS_BUF_INIT(100);
	char *s;

	(void)state;
	s = mfs_buf_take(&b);
	assert_string_equal(s, "");
	free(s);
	mfs_buf_puts(&b, "text");
	s = mfs_buf_take(&b);
	assert_string_equal(s, "text");
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	free(s);
}

static void test_buf__json_is_valid_for_any_bytes(void **state)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(100);

	(void)state;
	mfs_buf_put_json(&b, "a\"\\\n\t\x01\xc3\xbc\xff");
	assert_string_equal(b.data, "\"a\\\"\\\\\\n\\t\\u0001\xc3\xbc\xef\xbf\xbd\"");
}

static void test_object_ref(void **state)
{
	struct object_ref a = { 0 }, b = { 0 }, c = { 0 };

	(void)state;
	assert_true(object_ref_equal(&a, &b));
	assert_true(object_ref_is_empty(&a));
	a.key = strdup("dir/name");
	strcpy(a.version, "v1");
	assert_false(object_ref_equal(&a, &b));
	assert_int_equal(object_ref_copy(&a, &b), 0);
	assert_true(object_ref_equal(&a, &b));
	assert_ptr_not_equal(a.key, b.key);
	b.bucket = strdup("other");
	assert_false(object_ref_equal(&a, &b));
	assert_int_equal(object_ref_copy(&b, &c), 0);
	assert_true(object_ref_equal(&b, &c));
	strcpy(c.version, "v2");
	assert_false(object_ref_equal(&b, &c));
	object_ref_release(&a);
	object_ref_release(&b);
	object_ref_release(&c);
	object_ref_release(&c);
}

static void test_mountinfo(void **state)
{
	static const char text[] =
		"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
		"30 22 0:40 / /mnt/a rw - autofs systemd-1 rw,fd=1\n"
		"31 30 0:41 / /mnt/a rw,nosuid shared:5 master:3 - fuse.massfs vol\\0401 rw,user_id=0\n"
		"32 22 0:41 /sub\\040dir /mnt/bind rw - fuse.massfs vol\\0401 rw\n"
		"33 22 0:42 / /mnt/empty rw - fuse  rw,user_id=0\n"
		"34 31 0:43 / /mnt/a/below rw - tmpfs tmpfs rw\n"
		"not a line\n"
		"35 22 0:44 / /mnt/short rw\n";
	MFS_AUTOMOUNTINFO struct mountinfo mi = { 0 };
	const struct mountinfo_entry *e;

	(void)state;
	assert_int_equal(mountinfo_parse(strdup(text), &mi), 0);
	assert_int_equal(mi.n, 6);
	e = mountinfo_top(&mi, "/mnt/a");
	assert_string_equal(e->fstype, "fuse.massfs");
	assert_string_equal(e->source, "vol 1");
	assert_true(mountinfo_is_fuse(e));
	assert_true(e->dev == makedev(0, 41));
	assert_string_equal(mountinfo_top(&mi, "/mnt/bind")->root, "/sub dir");
	assert_string_equal(mountinfo_top(&mi, "/mnt/empty")->source, "");
	assert_null(mountinfo_top(&mi, "/mnt"));
	assert_false(mountinfo_is_fuse(mountinfo_top(&mi, "/")));
	assert_string_equal(mountinfo_by_dev(&mi, makedev(0, 41))->dir, "/mnt/a");
	assert_null(mountinfo_by_dev(&mi, makedev(9, 9)));
}

static void test_mountinfo__reads_our_own(void **state)
{
	MFS_AUTOMOUNTINFO struct mountinfo mi = { 0 };

	(void)state;
	assert_int_equal(mountinfo_read(NULL, &mi), 0);
	assert_non_null(mountinfo_top(&mi, "/"));
	mountinfo_release(&mi);
	assert_int_equal(mountinfo_read("/nowhere/at/all", &mi), -ENOENT);
}

static size_t read_file(const char *path, char *buf, size_t max)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, buf, max - 1);

	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void test_log__one_line_an_event(void **state)
{
	char path[] = "/tmp/massfs-test-log-XXXXXX", text[8192], big[4000];
	struct op_ctx op = { .id = 42 };
	int fd = mkstemp(path);

	(void)state;
	close(fd);
	assert_int_equal(mfs_log_to_file(path), 0);
	errno = ENOSPC;
	mfs_log(MFS_LOG_FS, MFS_LOG_ERR, &op, "file=%s why=%m", "a\nb");
	assert_int_equal(errno, ENOSPC);
	mfs_log(MFS_LOG_META, MFS_LOG_DEBUG, NULL, "not switched on");
	read_file(path, text, sizeof(text));
	assert_non_null(strstr(text, "err fs op=42 file=a?b why=No space left on device\n"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	mfs_log(MFS_LOG_FS, MFS_LOG_INFO, NULL, "%s", big);
	assert_true(read_file(path, text, sizeof(text)) < 4000);
	assert_int_equal(text[strlen(text) - 1], '\n');
	mfs_log_to_stderr();
	assert_true(mfs_log_to_file("/nowhere/log") == -ENOENT);
	unlink(path);
}

static void test_log__debug_by_module(void **state)
{
	(void)state;
	assert_int_equal(mfs_log_set_debug("fs:meta"), 0);
	assert_true(mfs_log_debug_on(MFS_LOG_FS));
	assert_true(mfs_log_debug_on(MFS_LOG_META));
	assert_false(mfs_log_debug_on(MFS_LOG_STORE));
	assert_int_equal(mfs_log_set_debug("fs:nonsense"), -EINVAL);
	assert_true(mfs_log_debug_on(MFS_LOG_META));
	assert_int_equal(mfs_log_check_debug("all"), 0);
	assert_false(mfs_log_debug_on(MFS_LOG_STORE));
	assert_int_equal(mfs_log_set_debug("all"), 0);
	assert_true(mfs_log_debug_on(MFS_LOG_STORE));
	assert_int_equal(mfs_log_set_debug(""), 0);
	assert_false(mfs_log_debug_on(MFS_LOG_FS));
}

struct count {
	atomic_int n, running, most;
};

static void count_job(void *arg)
{
	struct count *c = arg;
	int now = atomic_fetch_add(&c->running, 1) + 1, most = atomic_load(&c->most);

	while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
		;
	usleep(100);
	atomic_fetch_sub(&c->running, 1);
	atomic_fetch_add(&c->n, 1);
}

static void test_workers__runs_all_with_few_threads(void **state)
{
	MFS_AUTO(workers) struct workers *w = NULL;
	struct count c = { 0 };

	(void)state;
	assert_int_equal(workers_new("test", 4, 8, &w), 0);
	for (int i = 0; i < 500; i++)
		assert_int_equal(workers_submit(w, count_job, &c), 0);
	workers_drain(w);
	assert_int_equal(c.n, 500);
	assert_int_equal(workers_pending(w), 0);
	assert_true(c.most <= 4 && c.most >= 1);
}

static void wait_job(void *arg)
{
	while (!atomic_load((atomic_bool *)arg))
		usleep(100);
}

static void test_workers__try_submit_refuses_when_full(void **state)
{
	MFS_AUTO(workers) struct workers *w = NULL;
	atomic_bool go = false;
	int queued = 0;

	(void)state;
	assert_int_equal(workers_new("test", 1, 2, &w), 0);
	assert_int_equal(workers_submit(w, wait_job, &go), 0);
	while (workers_try_submit(w, wait_job, &go) == 0)
		queued++;
	assert_true(queued == 1 || queued == 2); /* the first may not have left the queue yet */
	atomic_store(&go, true);
	workers_drain(w);
	assert_int_equal(workers_try_submit(w, wait_job, &go), 0);
}

static void test_workers__free_runs_what_is_queued(void **state)
{
	struct workers *w;
	struct count c = { 0 };

	(void)state;
	assert_int_equal(workers_new("test", 2, 100, &w), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(workers_submit(w, count_job, &c), 0);
	workers_free(w);
	assert_int_equal(c.n, 50);
	workers_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf__grows_to_its_maximum_and_not_beyond),
		cmocka_unit_test(test_buf__take_gives_the_text_away),
		cmocka_unit_test(test_buf__json_is_valid_for_any_bytes),
		cmocka_unit_test(test_object_ref),
		cmocka_unit_test(test_mountinfo),
		cmocka_unit_test(test_mountinfo__reads_our_own),
		cmocka_unit_test(test_log__one_line_an_event),
		cmocka_unit_test(test_log__debug_by_module),
		cmocka_unit_test(test_workers__runs_all_with_few_threads),
		cmocka_unit_test(test_workers__try_submit_refuses_when_full),
		cmocka_unit_test(test_workers__free_runs_what_is_queued),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
