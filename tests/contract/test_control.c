/*
 * The control socket from end to end, over a volume without a mount: verbs through it, who is asking, callers that
 * say nothing, say nonsense, do not read, or are many.
 */
#include "tests/lib/volume_world.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/control.h"
#include "fs/fs.h"

#define NOBODY 65534

struct daemon {
	struct world *w;
	struct massfs fs;
	struct control_server *server;
};

static int setup(void **state)
{
	struct daemon *d = calloc(1, sizeof(*d));

	if (geteuid() != 0)
		return 0; /* /run/massfs is root's; the tests skip */
	assert_non_null(d);
	d->w = world_new(WORLD_MEM);
	d->w->cfg.mountpoint = strdup("/mnt");
	d->fs.cfg = &d->w->cfg;
	d->fs.vol = d->w->v;
	/* No device has this number. */
	d->fs.dev = makedev(3000, (unsigned int)getpid() % 1000000);
	assert_int_equal(inode_table_new(&d->fs.inodes), 0);
	assert_int_equal(budget_new(1 << 20, &d->fs.budget), 0);
	assert_int_equal(control_start(&d->fs, &d->server), 0);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	struct daemon *d = *state;

	if (!d)
		return 0;
	control_stop(d->server);
	inode_table_free(d->fs.inodes);
	budget_free(d->fs.budget);
	world_free(d->w);
	free(d);
	return 0;
}

#define DAEMON(d)                  \
	struct daemon *d = *state; \
	do {                       \
		if (!d)            \
			skip();    \
	} while (0)

struct answer {
	int status;
	pid_t pid;
	char *out, *err;
	size_t out_len, err_len;
};

static void answer_free(struct answer *a)
{
	free(a->out);
	free(a->err);
}

static struct answer call(struct daemon *d, int argc, const char *const *argv)
{
	struct answer a = { 0 };
	FILE *out = open_memstream(&a.out, &a.out_len), *err = open_memstream(&a.err, &a.err_len);

	a.status =
		control_call((dev_t)d->fs.dev, argc, (char *const *)(uintptr_t)argv, false, out, err, &a.pid);
	fclose(out);
	fclose(err);
	return a;
}
#define CALL(d, ...)                                                               \
	call((d), (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *)), \
	     (const char *[]){ __VA_ARGS__ })

static void test_pid__is_ours(void **state)
{
	DAEMON(d);
	struct answer a = CALL(d, "pid");

	assert_int_equal(a.status, 0);
	assert_int_equal(a.pid, getpid());
	answer_free(&a);
}

static void test_verb__prints_and_has_a_status(void **state)
{
	DAEMON(d);
	struct answer a;

	world_write(d->w, "a", "one");
	a = CALL(d, "info", "a");
	assert_int_equal(a.status, 0);
	assert_non_null(strstr(a.out, "/mnt/a"));
	answer_free(&a);
	a = CALL(d, "info", "none");
	assert_int_equal(a.status, 1);
	assert_non_null(strstr(a.err, "No such file"));
	answer_free(&a);
	a = CALL(d, "nonsense");
	assert_int_equal(a.status, 2);
	answer_free(&a);
	a = CALL(d, "status", "--json");
	assert_int_equal(a.status, 0);
	assert_non_null(strstr(a.out, "\"mounted\": true"));
	answer_free(&a);
}

/* More than a frame, and than what a socket holds. */
static void test_long_output__comes_whole(void **state)
{
	DAEMON(d);
	char path[32];
	struct answer a;

	for (int i = 0; i < 3000; i++) {
		snprintf(path, sizeof(path), "file%d", i);
		world_write(d->w, path, "x");
		world_unlink(d->w, path);
	}
	a = CALL(d, "undelete", "--list", "--json", "");
	assert_int_equal(a.status, 0);
	assert_true(a.out_len > 200000);
	assert_non_null(strstr(a.out, "\"file2999\""));
	assert_string_equal(a.out + a.out_len - 3, "}]\n");
	answer_free(&a);
}

static void test_caller__is_who_the_kernel_says(void **state)
{
	DAEMON(d);
	pid_t child;
	int status;

	world_write(d->w, "a", "one");
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		char *gc[] = { (char[]){ "gc" }, NULL },
		     *info[] = { (char[]){ "info" }, (char[]){ "a" }, NULL };
		FILE *null = fopen("/dev/null", "w");
		int r1, r2;

		if (!null || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(9);
		r1 = control_call((dev_t)d->fs.dev, 1, gc, false, null, null, NULL);
		r2 = control_call((dev_t)d->fs.dev, 2, info, false, null, null, NULL);
		_exit(r1 == 1 && r2 == 0 ? 0 : 8);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static int connect_raw(struct daemon *d)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(control_path((dev_t)d->fs.dev, 0, a.sun_path, sizeof(a.sun_path)));
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void test_nonsense__is_refused_at_once(void **state)
{
	DAEMON(d);
	int fd = connect_raw(d);
	char buf[256] = "";
	ssize_t n = 0, got;

	assert_int_equal(send(fd, "GET / HTTP/1.1\r\n", 16, MSG_NOSIGNAL), 16);
	while (n < 255 && (got = recv(fd, buf + n, 255 - (size_t)n, 0)) > 0)
		n += got;
	assert_int_equal(buf[0], 'e');
	assert_non_null(memmem(buf, (size_t)n, "does not understand", 19));
	close(fd);
}

/* Callers that connect and say nothing hold up neither others, nor (root) when there are too many, nor the end. */
static void test_silent_callers__hold_nothing_up(void **state)
{
	DAEMON(d);
	int fd[24];
	struct answer a;
	int64_t began;

	for (int i = 0; i < 24; i++)
		fd[i] = connect_raw(d);
	a = CALL(d, "pid");
	assert_int_equal(a.status, 0);
	answer_free(&a);
	began = mfs_mono_ns();
	control_stop(d->server);
	assert_true(mfs_mono_ns() - began < 3 * MFS_NSEC_PER_SEC);
	d->server = NULL;
	for (int i = 0; i < 24; i++)
		close(fd[i]);
	a = CALL(d, "pid");
	assert_int_equal(a.status, -ENOENT);
	answer_free(&a);
}

static void test_caller_that_does_not_read__holds_not_up_the_end(void **state)
{
	DAEMON(d);
	static const char request[] =
		"mfs1\4\0\0\0\10\0\0\0undelete\6\0\0\0--list\6\0\0\0--json\0\0\0\0\0\0\0";
	char path[32];
	int64_t began;
	int fd;

	for (int i = 0; i < 6000; i++) {
		snprintf(path, sizeof(path), "f%d", i);
		world_write(d->w, path, "x");
		world_unlink(d->w, path);
	}
	fd = connect_raw(d);
	assert_int_equal(send(fd, request, sizeof(request), MSG_NOSIGNAL), sizeof(request));
	usleep(300000); /* by now it sends, and nobody reads */
	began = mfs_mono_ns();
	control_stop(d->server);
	assert_true(mfs_mono_ns() - began < 8 * MFS_NSEC_PER_SEC);
	d->server = NULL;
	close(fd);
}

static void *many_calls(void *arg)
{
	struct daemon *d = arg;

	for (int i = 0; i < 20; i++) {
		struct answer a = CALL(d, "status", "--json");

		assert_int_equal(a.status, 0);
		answer_free(&a);
	}
	return NULL;
}

static void test_many_callers__at_once(void **state)
{
	DAEMON(d);
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, many_calls, d), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pid__is_ours),
		TEST(test_verb__prints_and_has_a_status),
		TEST(test_long_output__comes_whole),
		TEST(test_caller__is_who_the_kernel_says),
		TEST(test_nonsense__is_refused_at_once),
		TEST(test_silent_callers__hold_nothing_up),
		TEST(test_caller_that_does_not_read__holds_not_up_the_end),
		TEST(test_many_callers__at_once),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
