/*
 * What a volume with a shared index (index = mongodb) has instead of a folder: its engines, an object in the bucket that
 * says whose bucket it is, and a lease that keeps mounts out while a tool must be alone.
 */
#ifndef MASSFS_FS_VOLUME_CLUSTER_H
#define MASSFS_FS_VOLUME_CLUSTER_H

#include "backend/object_store.h"
#include "common/conf.h"
#include "meta/engine.h"

#define VOLUME_OBJECT ".massfs/volume" /* holds the volume's uuid */

struct cluster_options {
	bool create, readonly;
	bool plain; /* the index alone, without Redis: of tools */
	const char *database; /* NULL: the volume's */
	int64_t deadline_ns; /* 0: 30 s */
	struct engine **ret_logged; /* not NULL: a log_engine that follows the news, below Redis; borrowed */
};

/* The index, with Redis over it where there is one. Starts threads: after the fork of a daemon. 0, or -errno with the reason. */
int cluster_engine_open(const struct mfs_config *cfg, const struct cluster_options *opt, struct engine **ret,
			char **ret_reason) MFS_NODISCARD;

/* The bucket is this volume's from now on (format); is it (open)? -EINVAL: it is another's; -ENOENT: it says nothing. */
int cluster_bind(const struct mfs_config *cfg, struct object_store *s, struct op_ctx *op, const char *uuid) MFS_NODISCARD;
int cluster_check_bound(const struct mfs_config *cfg, struct object_store *s, struct op_ctx *op, const char *uuid,
			char **ret_reason) MFS_NODISCARD;

/* The uuid that the bucket says, "" if it says nothing. -EINVAL: its places are others. */
int cluster_read_bound(const struct mfs_config *cfg, struct object_store *s, struct op_ctx *op, char ret_uuid[37],
		       char **ret_reason) MFS_NODISCARD;

/*
 * Alone on the volume: the lease is taken first, then live sessions are looked for; a mount writes its session first, then
 * looks at the lease. So one of the two sees the other. -EBUSY, naming who. `wait_ns`: so long a session's heartbeat must
 * stand still before it counts as dead.
 */
int cluster_be_alone(struct engine *e, struct op_ctx *op, int64_t wait_ns, char **ret_reason) MFS_NODISCARD;
void cluster_end_alone(struct engine *e, struct op_ctx *op);
/* After the session was written: -EBUSY if a tool is alone here. */
int cluster_check_alone(struct engine *e, struct op_ctx *op, int64_t wait_ns, char **ret_reason) MFS_NODISCARD;

#endif
