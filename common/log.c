/*
 * Where log lines go. The target and the debug switches are the process's own (one log a process) and are set before
 * threads start; lines are built on the stack and leave in one write.
 */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/op_ctx.h"

#define LINE_MAX_BYTES 2048

static const char *const level_names[] = { "err", "warn", "info", "debug" };
static const int level_priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
static const char *const module_names[MFS_LOG_N_MODULES] = { "common", "store", "meta", "fs", "tool" };

/* The target changes once more when the daemon detaches, with its threads at work. */
static struct {
	_Atomic unsigned int debug; /* bit per module */
	_Atomic bool to_syslog;
	_Atomic bool info_to_syslog;
	_Atomic int fd; /* of the log file; -1: stderr */
} log_state = { .fd = -1 };

void mfs_log_to_syslog(const char *ident)
{
	openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	log_state.to_syslog = true;
}

void mfs_log_starting(const char *ident)
{
	mfs_log_to_stderr();
	openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	log_state.info_to_syslog = true;
}

void mfs_log_to_stderr(void)
{
	log_state.to_syslog = false;
	log_state.info_to_syslog = false;
	if (log_state.fd >= 0) {
		close(log_state.fd);
		log_state.fd = -1;
	}
}

int mfs_log_to_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);

	if (fd < 0)
		return -errno;
	mfs_log_to_stderr();
	log_state.fd = fd;
	return 0;
}

static int module_by_name(const char *name, size_t len)
{
	for (int i = 0; i < MFS_LOG_N_MODULES; i++)
		if (strlen(module_names[i]) == len && !memcmp(module_names[i], name, len))
			return i;
	return -EINVAL;
}

const char *mfs_log_modules(void)
{
	return "all common store meta fs tool";
}

static int parse_debug(const char *modules, unsigned int *ret)
{
	unsigned int mask = 0;

	while (*modules) {
		size_t len = strcspn(modules, ",:");
		int i;

		if (len == 3 && !memcmp(modules, "all", 3)) {
			mask |= (1u << MFS_LOG_N_MODULES) - 1;
		} else if (len) {
			i = module_by_name(modules, len);
			if (i < 0)
				return i;
			mask |= 1u << i;
		}
		modules += len;
		if (*modules)
			modules++;
	}
	*ret = mask;
	return 0;
}

int mfs_log_check_debug(const char *modules)
{
	unsigned int mask;

	return parse_debug(modules, &mask);
}

int mfs_log_set_debug(const char *modules)
{
	unsigned int mask;
	int r = parse_debug(modules, &mask);

	if (r == 0)
		log_state.debug = mask;
	return r;
}

bool mfs_log_debug_on(enum mfs_log_module mod)
{
	return log_state.debug >> mod & 1;
}

/* One event, one line, whatever a file name has in it. */
static void make_printable(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
}

static size_t clip(int n, size_t max)
{
	return n < 0 ? 0 : MFS_MIN((size_t)n, max - 1);
}

static size_t put_time(char *buf, size_t max)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(buf, max, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + clip(snprintf(buf + n, max - n, ".%03ldZ ", ts.tv_nsec / 1000000), max - n);
}

void mfs_log(enum mfs_log_module mod, enum mfs_log_level level, const struct op_ctx *op, const char *fmt, ...)
{
	int saved_errno = errno;
	char line[LINE_MAX_BYTES];
	size_t n = 0, room = sizeof(line) - 1; /* a place for the line's end */
	bool to_syslog = log_state.to_syslog || (level == MFS_LOG_INFO && log_state.info_to_syslog);
	va_list ap;

	if (level == MFS_LOG_DEBUG && !mfs_log_debug_on(mod))
		return;
	if (!to_syslog)
		n = log_state.fd >= 0 ? put_time(line, room) : clip(snprintf(line, room, "massfs: "), room);
	n += clip(snprintf(line + n, room - n, "%s %s ", level_names[level], module_names[mod]), room - n);
	if (op && op->id)
		n += clip(snprintf(line + n, room - n, "op=%ju ", (uintmax_t)op->id), room - n);
	errno = saved_errno; /* for %m */
	va_start(ap, fmt);
	n += clip(vsnprintf(line + n, room - n, fmt, ap), room - n);
	va_end(ap);
	make_printable(line);
	if (to_syslog) {
		syslog(level_priorities[level], "%s", line);
	} else {
		line[n++] = '\n';
		if (write(log_state.fd >= 0 ? log_state.fd : STDERR_FILENO, line, n) < 0) {
			/* Nowhere to say so. */
		}
	}
	errno = saved_errno;
}
