/*
 * Forking into the background. Two pipes: serve() -> relay (a thread of the child, which detaches at the zero byte)
 * -> the waiting parent.
 */
#include "tools/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "tools/tool.h"

#define REASON_MAX 8192

struct relay {
	const struct mfs_config *cfg;
	int from_fd; /* what serve() says */
	int to_fd; /* the parent */
};

static volatile sig_atomic_t got_signal;

static void on_signal(int sig)
{
	got_signal = sig;
}

static void write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* the parent is gone: nobody to tell */
		bytes += n;
		len -= (size_t)n;
	}
}

static void null_standard_streams(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = STDIN_FILENO; fd >= 0 && i <= STDERR_FILENO; i++)
		dup2(fd, i);
	if (fd > STDERR_FILENO)
		close(fd);
}

static void detach(const struct mfs_config *cfg)
{
	setsid();
	if (!cfg->logfile)
		mfs_log_to_syslog("massfs");
	null_standard_streams();
}

static void *relay_main(void *arg)
{
	const struct relay *relay = arg;
	bool is_first = true;
	char bytes[512];

	for (;;) {
		ssize_t n = read(relay->from_fd, bytes, sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (is_first && !bytes[0])
			detach(relay->cfg);
		is_first = false;
		write_all(relay->to_fd, bytes, (size_t)n);
	}
	close(relay->from_fd);
	close(relay->to_fd);
	return NULL;
}

static int start_relay(struct relay *relay, pthread_t *ret)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(ret, NULL, relay_main, relay);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

static void child_fail(int fd, const char *what, int r)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "%s: %s", what, strerror(-r));

	write_all(fd, text, (size_t)n);
	_exit(MOUNT_SYSTEM);
}

/* The daemon's life. */
static void child_run(const struct mfs_config *cfg, daemon_fn *serve, int to_parent)
	__attribute__((noreturn));
static void child_run(const struct mfs_config *cfg, daemon_fn *serve, int to_parent)
{
	struct relay relay = { .cfg = cfg, .to_fd = to_parent };
	int fds[2], status, r;
	pthread_t thread;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	umask(022);
	if (chdir("/") < 0)
		child_fail(to_parent, "/", -errno);
	if (!cfg->logfile) {
		mfs_log_starting("massfs");
	} else {
		r = mfs_log_to_file(cfg->logfile);
		if (r < 0)
			child_fail(to_parent, cfg->logfile, r);
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		child_fail(to_parent, "pipe", -errno);
	relay.from_fd = fds[0];
	r = start_relay(&relay, &thread);
	if (r < 0)
		child_fail(to_parent, "thread", r);
	status = serve(cfg, fds[1]);
	/* serve() has closed its end, but for want of memory at its very beginning: then this ends the relay. */
	if (status == MOUNT_SYSTEM)
		close(fds[1]);
	pthread_join(thread, NULL);
	exit(status);
}

/* Until the child has said how it went: what it said, and how much. -EINTR: a signal to us. */
static ssize_t read_outcome(int fd, char *buf, size_t max)
{
	size_t len = 0;

	while (len < max) {
		ssize_t n = read(fd, buf + len, max - len);

		if (n < 0 && errno == EINTR && !got_signal)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
		if (!buf[0])
			break; /* ready */
	}
	return (ssize_t)len;
}

static int child_status(pid_t pid, const char *program, bool said_why)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return MOUNT_INTERNAL;
	if (WIFSIGNALED(status)) {
		tool_error(program, "the daemon was ended by signal %d (%s) before it was ready",
			   WTERMSIG(status), strsignal(WTERMSIG(status)));
		return MOUNT_INTERNAL;
	}
	if (!said_why)
		tool_error(program, "the daemon ended with status %d and gave no reason",
			   WEXITSTATUS(status));
	return WEXITSTATUS(status) ? WEXITSTATUS(status) : MOUNT_FAILED;
}

static int parent_wait(const char *program, pid_t pid, int fd)
{
	char reason[REASON_MAX];
	ssize_t n;

	n = read_outcome(fd, reason, sizeof(reason) - 1);
	if (n > 0 && !reason[0])
		return MOUNT_OK;
	if (n < 0) {
		tool_error(program, "interrupted");
		kill(pid, SIGTERM);
		return MOUNT_INTERRUPTED;
	}
	reason[n] = '\0';
	while (n > 0 && reason[n - 1] == '\n')
		reason[--n] = '\0';
	if (n)
		tool_error(program, "%s", reason);
	return child_status(pid, program, n > 0);
}

static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

int daemon_run(const char *program, const struct mfs_config *cfg, daemon_fn *serve)
{
	int fds[2], status;
	pid_t pid;

	/* What our caller has open is none of the daemon's business. */
	close_range(STDERR_FILENO + 1, ~0u, 0);
	if (pipe2(fds, O_CLOEXEC) < 0) {
		tool_error(program, "pipe: %m");
		return MOUNT_SYSTEM;
	}
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		tool_error(program, "fork: %m");
		return MOUNT_SYSTEM;
	}
	if (pid == 0) {
		close(fds[0]);
		child_run(cfg, serve, fds[1]);
	}
	close(fds[1]);
	catch_signals();
	status = parent_wait(program, pid, fds[0]);
	close(fds[0]);
	return status;
}
