/*
 * Logging. One line an event, "level module op=N key=value ...", no line breaks; to stderr in the foreground, to
 * syslog(3) as a daemon. Thread-safe; keeps errno.
 *
 * Levels: ERR, an operation fails because of us or of a server; WARN, something failed and we went on (say how);
 * INFO, state a person asked about (mounted, recovered); DEBUG, one line an operation, off by default, switched on a
 * module at a time with -o debug=fs:meta (or debug=all).
 *
 * Who logs: the layer in which detail is about to be lost; layers above pass the -errno on in silence. A message
 * says what, where, why and what to do. Secrets never.
 */
#ifndef MASSFS_COMMON_LOG_H
#define MASSFS_COMMON_LOG_H

#include <stdbool.h>

#include "common/defs.h"

struct op_ctx;

enum mfs_log_level { MFS_LOG_ERR, MFS_LOG_WARN, MFS_LOG_INFO, MFS_LOG_DEBUG };
enum mfs_log_module { MFS_LOG_COMMON, MFS_LOG_STORE, MFS_LOG_META, MFS_LOG_FS, MFS_LOG_TOOL, MFS_LOG_N_MODULES };

/* Where lines go from now on; ident is borrowed for ever. Called by main. */
void mfs_log_to_syslog(const char *ident);
void mfs_log_to_stderr(void);
/* A daemon whose starter still listens: INFO goes to syslog, the rest to stderr. */
void mfs_log_starting(const char *ident);
/* Lines with their time, appended. 0 or -errno (then nothing changed). */
int mfs_log_to_file(const char *path) MFS_NODISCARD;

/* "fs:meta" or "all": 0, or -EINVAL for a name that is no module (nothing changed). Before threads start. */
int mfs_log_set_debug(const char *modules) MFS_NODISCARD;
int mfs_log_check_debug(const char *modules) MFS_NODISCARD; /* the same, without effect */
const char *mfs_log_modules(void); /* "all common store ..." */
bool mfs_log_debug_on(enum mfs_log_module mod);

/* op may be NULL. */
void mfs_log(enum mfs_log_module mod, enum mfs_log_level level, const struct op_ctx *op, const char *fmt, ...)
	MFS_PRINTF(4, 5);

#define mfs_debug(mod, op, ...)                                              \
	do {                                                                 \
		if (__builtin_expect(mfs_log_debug_on(mod), 0))              \
			mfs_log((mod), MFS_LOG_DEBUG, (op), __VA_ARGS__);    \
	} while (0)

#endif
