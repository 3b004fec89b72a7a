/*
 * Small things every part of the command needs.
 */
#include "tools/tool.h"

#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/str.h"

#define ERROR_MAX 8192

const char *tool_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

void tool_error(const char *name, const char *fmt, ...)
{
	MFS_AUTOBUF struct mfs_buf line = MFS_BUF_INIT(ERROR_MAX);
	int saved_errno = errno;
	va_list ap;

	mfs_buf_printf(&line, "%s: ", name);
	errno = saved_errno; /* for %m */
	va_start(ap, fmt);
	mfs_buf_vprintf(&line, fmt, ap);
	va_end(ap);
	mfs_buf_putc(&line, '\n');
	fflush(stdout);
	fputs(mfs_buf_str(&line), stderr);
}

static void strip_slashes(char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		path[--n] = '\0';
}

char *tool_real_path(const char *path, bool follow_last)
{
	MFS_AUTOFREE char *copy = strdup(path), *dir = NULL;
	const char *base;
	char *slash, *real;

	if (!copy)
		return NULL;
	if (!*copy) {
		errno = ENOENT;
		return NULL;
	}
	strip_slashes(copy);
	if (follow_last) {
		real = realpath(copy, NULL);
		if (real || (errno != ENOTCONN && errno != ENOENT))
			return real;
	}
	slash = strrchr(copy, '/');
	base = slash ? slash + 1 : copy;
	if (!*base || !strcmp(base, ".") || !strcmp(base, ".."))
		return realpath(copy, NULL);
	if (slash)
		*slash = '\0';
	dir = realpath(!slash ? "." : *copy ? copy : "/", NULL);
	return dir ? mfs_path_join(dir, base) : NULL;
}

bool tool_is_volume(const char *dir)
{
	MFS_AUTOFREE char *own = mfs_path_join(dir, ".massfs/index.db");
	struct stat st;

	return own && stat(own, &st) == 0 && S_ISREG(st.st_mode);
}

int tool_run(char *const *argv)
{
	char *const no_env[] = { NULL };
	int status;
	pid_t pid;
	int r;

	r = posix_spawn(&pid, argv[0], NULL, NULL, argv, no_env);
	if (r)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

int tool_fusermount(const char *dir, bool lazy)
{
	static const char *const places[] = { "/usr/bin/fusermount3", "/bin/fusermount3",
					      "/usr/local/bin/fusermount3" };
	char flag[] = "-u", lazy_flag[] = "-z", dashes[] = "--";
	MFS_AUTOFREE char *path = NULL, *dir_copy = strdup(dir);
	int r;

	for (size_t i = 0; i < MFS_ARRAY_LEN(places) && !path; i++)
		if (access(places[i], X_OK) == 0)
			path = strdup(places[i]);
	if (!path || !dir_copy)
		return -EPERM;
	{
		char *const argv[] = { path,
				       flag,
				       lazy ? lazy_flag : dashes,
				       lazy ? dashes : dir_copy,
				       lazy ? dir_copy : NULL,
				       NULL };

		r = tool_run(argv);
	}
	return r > 0 ? -EBUSY : r;
}
