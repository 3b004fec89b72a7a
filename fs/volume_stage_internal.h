/* What volume_stage.c and volume_stage_cluster.c share. */
#ifndef MASSFS_FS_VOLUME_STAGE_INTERNAL_H
#define MASSFS_FS_VOLUME_STAGE_INTERNAL_H

#include "fs/volume_stage.h"

/* Did anybody ever put something in? */
int volume_stage_is_used(struct engine *e, struct op_ctx *op, bool *ret) MFS_NODISCARD;

int stage_cluster_begin(struct volume_stage *s, char **ret_reason) MFS_NODISCARD;
int stage_cluster_commit(struct volume_stage *s, char **ret_kept, char **ret_reason) MFS_NODISCARD;
void stage_cluster_end(struct volume_stage *s); /* what was not committed is removed */

#endif
