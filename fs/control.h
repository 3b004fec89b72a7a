/*
 * The control socket of a mount: /run/massfs/<major>-<minor>.sock, named by the mount's st_dev so that a client finds
 * it from any file in the mount (/run/user/<uid>/massfs-... where the daemon of a user may not write in /run). A
 * request is the argv of a verb; the answer is a stream of frames. The server checks SO_PEERCRED and runs the verb
 * with the caller's rights.
 *
 * Wire format, all integers little-endian: request: u32 magic "mfs1", u32 n_args, then per arg u32 length and bytes
 * (at most 64 args, 64 KiB in all), u32 flags (1: progress wanted). Answer: frames u8 type ('o' out, 'e' err, 'p' pid
 * of the daemon as text, 'x' exit status as text, the last one), u32 length (<= 64 KiB), bytes. One request a
 * connection.
 */
#ifndef MASSFS_FS_CONTROL_H
#define MASSFS_FS_CONTROL_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/defs.h"
#include "meta/node.h"

struct massfs;
struct control_server;

/* After the mount answers (needs fs->dev). -errno: logged, the mount goes on without. */
int control_start(struct massfs *fs, struct control_server **ret) MFS_NODISCARD;
void control_stop(struct control_server *s); /* waits for verbs under way, removes the socket. NULL: nothing */

/* The index changed behind what the mount `fs` holds: see verb_call.changed. */
void control_changed(void *fs, mfs_ino_t ino, mfs_ino_t parent, const char *name);

/* Where the socket of a mount is: nth 0 the system's place, 1 the user's. False: there is no such nth. */
bool control_path(dev_t dev, int nth, char *buf, size_t size);

/* Client. -ENOENT / -ECONNREFUSED: no daemon there. Copies out and err frames as they come; returns the verb's exit
 * status (>= 0). -EPIPE: the daemon ended in the middle. "drain" (root only) commits everything and is what
 * umount.fuse.massfs calls; "pid" only answers. */
int control_call(dev_t dev, int argc, char *const *argv, bool progress, FILE *out, FILE *err, pid_t *ret_pid) MFS_NODISCARD;

#endif
