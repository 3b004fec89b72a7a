/*
 * What the files of the command share: its entry points, exit codes, messages, finding mounts.
 */
#ifndef MASSFS_TOOLS_TOOL_H
#define MASSFS_TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/defs.h"
#include "common/mountinfo.h"

/* Of mount(8) and umount(8). */
enum mount_exit {
	MOUNT_OK = 0,
	MOUNT_USAGE = 1, /* wrong invocation, or not allowed */
	MOUNT_SYSTEM = 2,
	MOUNT_INTERNAL = 4,
	MOUNT_INTERRUPTED = 8,
	MOUNT_FAILED = 32,
};

/* Of every other verb. */
enum verb_exit { VERB_OK = 0, VERB_FAILED = 1, VERB_USAGE = 2 };

/* argv[0] is how messages call the program. */
int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
/* argv[0] is the verb. */
int cmd_format(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_load(int argc, char **argv);
int cmd_rebuild(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
int cmd_verb(int argc, char **argv);
int cmd_find(int argc, char **argv);
int cmd_tag(int argc, char **argv);
int cmd_schema(int argc, char **argv);
int cmd_failures(int argc, char **argv);

/* Run a verb where `place` is, in its daemon or on its volume, with just these arguments (at most 64). An enum verb_exit. */
struct place;
int tool_verb_at(const struct place *place, int argc, char **argv);

/* The base name of argv[0]. */
const char *tool_base_name(const char *path);

/* One line on stderr, "NAME: text". */
void tool_error(const char *name, const char *fmt, ...) MFS_PRINTF(2, 3);

/*
 * The absolute path of `path` without symlinks, where the last component may be a dead mount or not exist at all.
 * With follow_last a symlink as the last component is followed. Owned; NULL with errno.
 */
char *tool_real_path(const char *path, bool follow_last) MFS_NODISCARD;

/* Is dir the folder of an embedded volume? */
bool tool_is_volume(const char *dir);

/* Run a program by its absolute path with an empty environment. Its exit status; -errno. */
int tool_run(char *const *argv) MFS_NODISCARD;

/* fusermount3 -u (-z: lazily); 0 or -errno. */
int tool_fusermount(const char *dir, bool lazy) MFS_NODISCARD;

#endif
