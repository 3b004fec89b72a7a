/*
 * To the background, with the outcome of the start told to whoever waits in the foreground.
 */
#ifndef MASSFS_TOOLS_DAEMON_H
#define MASSFS_TOOLS_DAEMON_H

#include "common/conf.h"

/* Serves; on success writes one byte 0 to ready_fd, on failure the reason as text (fs/mount.h). An exit code. */
typedef int daemon_fn(const struct mfs_config *cfg, int ready_fd);

/*
 * Forks; the child runs `serve` and is the daemon. Returns in the parent only, with mount(8)'s exit code: 0 once the
 * child is ready, else the reason is on stderr. The child leaves the caller's session, terminal and standard streams
 * when it is ready and not before: systemd's automount lets pass only processes of its own process group to a mount
 * point that is being mounted. From then on it logs to syslog, or to cfg's logfile.
 */
int daemon_run(const char *program, const struct mfs_config *cfg, daemon_fn *serve);

#endif
