/* What rebuild.c, rebuild_log.c, rebuild_known.c and rebuild_younger.c share. */
#ifndef MASSFS_FS_REBUILD_INTERNAL_H
#define MASSFS_FS_REBUILD_INTERNAL_H

#include "common/buf.h"
#include "common/op_ctx.h"
#include "fs/gc_internal.h"
#include "fs/index_log_internal.h"
#include "fs/rebuild.h"

struct rebuild {
	struct volume_stage *s;
	struct op_ctx *op;
	const struct rebuild_options *opt;
	struct rebuild_result *res;
	struct record_state end; /* of the log */
	uint64_t session, next_op; /* our own: of objects that are copied */
	int64_t now;
	/* Hashes. A collision hides one of a 2^64th. */
	struct gc_set present; /* versions in the store */
	struct gc_set named; /* versions that the index names, in whatever way */
	struct gc_set current; /* (key, version) of files */
	struct gc_set shown; /* (key, version) on top */
	struct gc_set adopted; /* versions that became a file's content here; not sorted */
	struct session_list sessions; /* of the log, where several mounts wrote */
};

uint64_t rebuild_place_hash(const char *key, const char *version);
/* Was it put when the log's end had been written? Or may have been: of a session that the log does not know as closed. */
bool rebuild_is_younger(const struct rebuild *b, const struct object_info *info);
void rebuild_found(struct rebuild *b, const char *what, const char *path);
void rebuild_progress(struct rebuild *b, const char *what, uint64_t done);

/* rebuild_log.c: the log into the stage's engine. Without a usable one the index is formatted and empty. */
int rebuild_from_log(struct rebuild *b, char **ret_reason) MFS_NODISCARD;

/* rebuild_known.c: what the index names, and what of it is missing in the store; that is taken out. */
int rebuild_take_stock(struct rebuild *b) MFS_NODISCARD;
int rebuild_drop_missing(struct rebuild *b) MFS_NODISCARD;
/* Are all objects of this layout in the store? */
int rebuild_is_whole(struct rebuild *b, const struct object_ref *ref, const struct node_blob *slices,
		     bool *ret) MFS_NODISCARD;

/* rebuild_younger.c: the tops of all keys against the index. */
int rebuild_adopt_younger(struct rebuild *b) MFS_NODISCARD;

#endif
