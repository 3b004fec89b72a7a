/*
 * A new index for a volume that is not mounted, made beside the old one and put in its place when it is whole: for load
 * and rebuild. Killed at any point, the volume has either index; on a cluster none, if killed while collections are moved: the
 * tool is run again then.
 */
#ifndef MASSFS_FS_VOLUME_STAGE_H
#define MASSFS_FS_VOLUME_STAGE_H

#include "backend/object_store.h"
#include "common/conf.h"
#include "meta/engine.h"

enum stage_index {
	STAGE_NO_INDEX, /* there is none */
	STAGE_EMPTY_INDEX, /* formatted, and nothing was ever put in */
	STAGE_USED_INDEX,
	STAGE_DAMAGED_INDEX, /* it is there and cannot be opened or read */
};

struct volume_stage {
	const struct mfs_config *cfg; /* borrowed */
	int lock_fd;
	char *path, *new_path; /* of the index, and of the one being made; on a cluster: databases */
	struct engine *old_engine; /* on a cluster: in which we are alone; NULL: there is no index */
	char bound[37]; /* on a cluster: the uuid that the bucket says, or "" */
	struct engine *engine; /* the new one */
	struct object_store *store;
	enum stage_index old;
	struct volume_record old_record; /* of an index that can be read; else its uuid is empty */
};

/* Takes the lock, looks at the index that is there, makes an empty new one. -EBUSY, -ENOENT ... with *ret_reason. */
int volume_stage_begin(const struct mfs_config *cfg, struct volume_stage **ret,
		       char **ret_reason) MFS_NODISCARD;
/*
 * The new index takes the old one's place, durably; a used or damaged old one is kept under *ret_kept (owned; NULL: there
 * was nothing to keep). The engine is closed.
 */
int volume_stage_commit(struct volume_stage *s, char **ret_kept, char **ret_reason) MFS_NODISCARD;
/* Without a commit nothing has changed. NULL: nothing. */
void volume_stage_free(struct volume_stage *s);

#endif
