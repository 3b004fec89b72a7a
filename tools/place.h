/*
 * What an operand of a verb names: a file in a mount of massfs, or one in a volume that is not mounted.
 */
#ifndef MASSFS_TOOLS_PLACE_H
#define MASSFS_TOOLS_PLACE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/conf.h"

struct place {
	bool is_mounted;
	dev_t dev; /* of the mount: names its control socket */
	char *volume; /* not mounted: its source for mfs_config_load(); owned */
	char *path; /* below the mount's or volume's root, no leading slash, "" for the root; owned */
	char *mountpoint; /* owned; NULL when not mounted */
};

#define PLACE_INIT \
	{          \
		0  \
	}
void place_release(struct place *p);

/*
 * operand: a path in a mount (what it names need not exist any more, a symlink at its end is not followed), the
 * folder of an embedded volume, a path below such a folder's objects/, or SOURCE[:/path]. -ENOENT with the reason:
 * none of these.
 */
int place_find(const char *operand, struct place *ret, char **ret_reason) MFS_NODISCARD;

/* A path in the volume `volume`, as its mount would show it. */
int place_find_in(const char *volume, const char *path, struct place *ret, char **ret_reason) MFS_NODISCARD;

/* Without an operand: the mount that the working directory is in, or the only mount there is. */
int place_find_default(struct place *ret, char **ret_reason) MFS_NODISCARD;

/* The mount whose daemon is process `pid`. -ENOENT: none that we see. */
int place_find_daemon(pid_t pid, struct place *ret) MFS_NODISCARD;

#endif
