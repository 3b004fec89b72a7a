/*
 * common/crash_point.h: the process dies at the named place, at the Nth time, and nowhere else; without
 * MASSFS_CRASH_POINTS it never does.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/crash_point.h"

#define N_TIMES 5

/* A child passes "a.b" N_TIMES times; how often it came past before it died, or N_TIMES when it did not. */
static int times_passed(const char *crash_at)
{
	int fds[2], status, n = 0;
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (crash_at)
			setenv("MASSFS_CRASH_AT", crash_at, 1);
		else
			unsetenv("MASSFS_CRASH_AT");
		for (int i = 0; i < N_TIMES; i++) {
			mfs_crash_point("a.b");
			if (write(fds[1], "x", 1) != 1)
				_exit(2);
		}
		_exit(0);
	}
	close(fds[1]);
	while (read(fds[0], &byte, 1) == 1)
		n++;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (n == N_TIMES)
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	else
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return n;
}

static void test_it_dies_at_the_nth_time(void **state)
{
	(void)state;
#ifdef MASSFS_CRASH_POINTS
	assert_int_equal(times_passed("a.b"), 0);
	assert_int_equal(times_passed("a.b:1"), 0);
	assert_int_equal(times_passed("a.b:3"), 2);
	assert_int_equal(times_passed("a.b:5"), 4);
#else
	assert_int_equal(times_passed("a.b"), N_TIMES);
	assert_int_equal(times_passed("a.b:3"), N_TIMES);
#endif
}

static void test_it_lives_elsewhere(void **state)
{
	(void)state;
	assert_int_equal(times_passed(NULL), N_TIMES);
	assert_int_equal(times_passed(""), N_TIMES);
	assert_int_equal(times_passed("a"), N_TIMES);
	assert_int_equal(times_passed("a.bc"), N_TIMES);
	assert_int_equal(times_passed("a.b.c"), N_TIMES);
	assert_int_equal(times_passed("a.b:6"), N_TIMES);
	assert_int_equal(times_passed("a.b:0"), N_TIMES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_dies_at_the_nth_time),
		cmocka_unit_test(test_it_lives_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
