/*
 * What system call a request comes from. The kernel does not say; /proc does, to whoever may trace the process (root).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fs/fuse/ops.h"

#define TRIES	 10
#define PAUSE_NS 200000

/* Calls that take a path and do not compare two names' inodes: a rename is what this is about, and what is not in here may be one. */
static bool only_looks(long nr)
{
	static const long known[] = {
#ifdef SYS_open
		SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_creat, SYS_unlink, SYS_rmdir, SYS_mkdir, SYS_chmod,
		SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_link, SYS_symlink, SYS_mknod,
#endif
#ifdef SYS_newfstatat
		SYS_newfstatat,
#endif
#ifdef SYS_openat2
		SYS_openat2,
#endif
#ifdef SYS_faccessat2
		SYS_faccessat2,
#endif
		SYS_openat, SYS_statx, SYS_faccessat, SYS_readlinkat, SYS_unlinkat, SYS_mkdirat, SYS_fchmodat, SYS_fchownat,
		SYS_utimensat, SYS_linkat, SYS_symlinkat, SYS_mknodat, SYS_chdir, SYS_execve, SYS_truncate, SYS_statfs, SYS_getxattr,
		SYS_lgetxattr, SYS_setxattr, SYS_lsetxattr, SYS_listxattr, SYS_llistxattr, SYS_removexattr, SYS_lremovexattr,
	};

	for (size_t k = 0; k < MFS_ARRAY_LEN(known); k++)
		if (known[k] == nr)
			return true;
	return false;
}

bool request_only_looks(const struct request *rq)
{
	char path[40], text[64];
	int fd;

	if (rq->op.pid <= 0) /* of another pid namespace */
		return false;
	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)rq->op.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	for (int k = 0; k < TRIES; k++) {
		ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
		char *end;
		long nr;

		if (n <= 0)
			break;
		text[n] = 0;
		nr = strtol(text, &end, 10);
		if (end != text) {
			close(fd);
			return only_looks(nr);
		}
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL); /* "running": it does not sleep yet */
	}
	close(fd);
	return false;
}
