/*
 * The unmount helper: umount.fuse.massfs DIR [-flnrv], as umount(8) calls it, and massfs umount.
 *
 * umount(2) of a FUSE mount returns before the daemon has written everything. So: ask the daemon to drain (progress
 * on a terminal), unmount, wait for its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "fs/control.h"
#include "tools/tool.h"
#include "tools/utab.h"

#define SAY_AFTER_MS	1000 /* then a terminal is told what we wait for */
#define FORCED_LIMIT_MS 10000 /* for an answer, with -f and -l */
#define WAIT_LIMIT_MS	300000 /* for the daemon's end, after it said that all is written */

struct umount_args {
	const char *program;
	const char *target;
	bool force, lazy, verbose, readonly, help;
};

static void print_usage(FILE *out, const char *program)
{
	fprintf(out,
		"usage: %s DIR [-flnrv]\n"
		"  -f  unmount even if what is left cannot be written   -l  lazily: detach now, end when unused\n"
		"  -r  if it is busy, make it read-only instead           -v  say what is done\n"
		"  -n  accepted, means nothing\n",
		program);
}

static int parse(int argc, char **argv, struct umount_args *ret)
{
	static const struct option longs[] = {
		{ "force", no_argument, NULL, 'f' },   { "lazy", no_argument, NULL, 'l' },
		{ "verbose", no_argument, NULL, 'v' }, { "read-only", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },    { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "flnrvcdit:N:h", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			ret->force = true;
			break;
		case 'l':
			ret->lazy = true;
			break;
		case 'r':
			ret->readonly = true;
			break;
		case 'v':
			ret->verbose = true;
			break;
		case 'h':
			ret->help = true;
			return 0;
		case 'n':
		case 'c':
		case 'd':
		case 'i':
		case 't':
		case 'N':
			break;
		default:
			return -EINVAL;
		}
	}
	if (argc - optind != 1)
		return -EINVAL;
	ret->target = argv[optind];
	return 0;
}

/* By the directory (as it is written first: that asks no daemon anything), else by the source. */
static const struct mountinfo_entry *find_mount(const struct mountinfo *mounts, const char *target)
{
	const struct mountinfo_entry *e = mountinfo_top(mounts, target);
	MFS_AUTOFREE char *dir = e ? NULL : tool_real_path(target, true);

	if (dir)
		e = mountinfo_top(mounts, dir);
	for (size_t i = mounts->n; !e && i-- > 0;)
		if (mountinfo_is_fuse(&mounts->v[i]) && !strcmp(mounts->v[i].source, target))
			e = &mounts->v[i];
	return e;
}

/* Is the same filesystem still mounted in the mount namespace of this process ("self" or a pid)? */
static bool is_mounted_in(const char *proc, dev_t dev)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/mountinfo", proc);
	return mountinfo_read(path, &mounts) == 0 && mountinfo_by_dev(&mounts, dev);
}

/* A bind mount or another namespace keeps the filesystem alive: then its daemon goes on. */
static bool is_mounted_elsewhere(pid_t pid, dev_t dev)
{
	char proc[24];

	snprintf(proc, sizeof(proc), "%d", (int)pid);
	return is_mounted_in("self", dev) || is_mounted_in(proc, dev);
}

struct answer {
	int r; /* a verb's exit status, or -errno */
	pid_t pid; /* of the daemon; 0: there is none */
};

static struct answer call_daemon(const struct umount_args *args, dev_t dev)
{
	char verb_drain[] = "drain", verb_pid[] = "pid";
	/* Lazily, it must not take time: only ask who it is. */
	char *argv[] = { args->lazy ? verb_pid : verb_drain, NULL };
	struct answer a = { 0 };

	a.r = control_call(dev, 1, argv, isatty(STDERR_FILENO), stdout, stderr, &a.pid);
	return a;
}

/* By a child that may be given up: who forces does it because the daemon does not answer. */
static struct answer call_daemon_briefly(const struct umount_args *args, dev_t dev)
{
	struct answer a = { .r = -ETIMEDOUT };
	struct pollfd p = { .events = POLLIN };
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return a;
	fflush(NULL);
	child = fork();
	if (child == 0) {
		a = call_daemon(args, dev);
		_exit(write(fds[1], &a, sizeof(a)) == sizeof(a) ? 0 : 1);
	}
	close(fds[1]);
	p.fd = fds[0];
	if (child > 0 && poll(&p, 1, FORCED_LIMIT_MS) > 0 && read(fds[0], &a, sizeof(a)) != sizeof(a))
		a = (struct answer){ .r = -EPIPE };
	close(fds[0]);
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	return a;
}

/* 0: all is written, or there is no daemon to ask; a verb's exit status else. *ret_pid 0: no daemon. */
static int drain(const struct umount_args *args, dev_t dev, pid_t *ret_pid)
{
	struct answer a;

	if (args->verbose && !args->lazy)
		fprintf(stderr, "%s: asking the daemon to write what is left\n", args->program);
	a = args->force || args->lazy ? call_daemon_briefly(args, dev) : call_daemon(args, dev);
	*ret_pid = a.pid;
	if (a.r < 0 && a.r != -ENOENT && a.r != -ECONNREFUSED && args->verbose)
		tool_error(args->program, "the daemon does not answer: %s", strerror(-a.r));
	return a.r < 0 ? 0 : a.r;
}

static int do_umount(const struct umount_args *args, const char *dir)
{
	int flags = UMOUNT_NOFOLLOW | (args->lazy ? MNT_DETACH : 0) | (args->force ? MNT_FORCE : 0);
	int r = umount2(dir, flags) < 0 ? -errno : 0;

	if (r == -EPERM)
		r = tool_fusermount(dir, args->lazy);
	if (!r)
		utab_remove(dir);
	return r;
}

/* With args->readonly: the next best thing. */
static int umount_failed(const struct umount_args *args, const char *dir, int r)
{
	if (args->readonly && r == -EBUSY) {
		if (mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0) {
			tool_error(args->program, "%s busy - remounted read-only", dir);
			return MOUNT_OK;
		}
		r = -errno;
	}
	if (r == -EBUSY)
		tool_error(args->program, "%s: target is busy.", dir);
	else
		tool_error(args->program, "%s: %s", dir, strerror(-r));
	return r == -EPERM ? MOUNT_USAGE : MOUNT_FAILED;
}

static bool has_ended(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) > 0;
}

static void wait_for_end(const struct umount_args *args, pid_t pid, int pidfd)
{
	int64_t start = mfs_mono_ns();
	bool tty = isatty(STDERR_FILENO);

	if (has_ended(pidfd, SAY_AFTER_MS))
		return;
	while (!has_ended(pidfd, SAY_AFTER_MS)) {
		int seconds = (int)((mfs_mono_ns() - start) / MFS_NSEC_PER_SEC);

		if (tty)
			fprintf(stderr, "\r%s: waiting for the daemon (process %d) to end, %d s ",
				args->program, (int)pid, seconds);
		if (seconds > WAIT_LIMIT_MS / 1000) {
			tool_error(args->program, "unmounted, but the daemon (process %d) has not ended yet",
				   (int)pid);
			return;
		}
	}
	if (tty)
		fputc('\n', stderr);
}

static int unmount(const struct umount_args *args, const struct mountinfo_entry *e)
{
	int pidfd = -1, status, r;
	pid_t pid = 0;

	status = drain(args, e->dev, &pid);
	if (status && !args->force && !args->lazy) {
		tool_error(
			args->program,
			"%s: not unmounted: the daemon could not write everything (above); -f unmounts all the same",
			e->dir);
		return MOUNT_FAILED;
	}
	if (pid > 0)
		pidfd = pidfd_open(pid, 0);
	r = do_umount(args, e->dir);
	status = r < 0 ? umount_failed(args, e->dir, r) : MOUNT_OK;
	if (!r && pidfd >= 0 && !args->lazy && !is_mounted_elsewhere(pid, e->dev))
		wait_for_end(args, pid, pidfd);
	if (pidfd >= 0)
		close(pidfd);
	if (!r && args->verbose)
		printf("%s: %s unmounted\n", args->program, e->dir);
	return status;
}

static int run(const struct umount_args *args)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	const struct mountinfo_entry *e;
	int r;

	r = mountinfo_read(NULL, &mounts);
	if (r < 0) {
		tool_error(args->program, "/proc/self/mountinfo: %s", strerror(-r));
		return MOUNT_SYSTEM;
	}
	e = find_mount(&mounts, args->target);
	if (!e) {
		tool_error(args->program, "%s: not mounted", args->target);
		return MOUNT_FAILED;
	}
	if (!mountinfo_is_fuse(e)) {
		tool_error(args->program, "%s: not a massfs mount but %s", e->dir, e->fstype);
		return MOUNT_USAGE;
	}
	return unmount(args, e);
}

int cmd_umount(int argc, char **argv)
{
	struct umount_args args = { .program = tool_base_name(argv[0]) };

	if (!strcmp(args.program, "umount") || !strcmp(args.program, "unmount"))
		args.program = "massfs umount";
	if (parse(argc, argv, &args) < 0) {
		print_usage(stderr, args.program);
		return MOUNT_USAGE;
	}
	if (args.help) {
		print_usage(stdout, args.program);
		return MOUNT_OK;
	}
	return run(&args);
}
