/* What sqlite_engine.c (calls), sqlite_open.c (open, close, snapshots) and sqlite_sums.c (counts) share. */
#ifndef MASSFS_META_SQLITE_ENGINE_H
#define MASSFS_META_SQLITE_ENGINE_H

#include "common/op_ctx.h"
#include "common/sync.h"
#include "meta/engine.h"
#include "meta/sqlite_ring.h"
#include "meta/sqlite_row.h"
#include "meta/sqlite_schema.h"
#include "meta/sqlite_side.h"
#include "meta/sqlite_vfs.h"
#include "meta/sqlite_wal.h"
#include "meta/sqlite_write.h"

#define SQLITE_READERS 8

struct sqlite_engine {
	struct engine base;
	char *path;
	const char *reader_vfs; /* NULL: the default, which locks as other programs expect it */
	unsigned int reader_flags; /* of conn_open */
	bool readonly, nosync;
	uint64_t reader_cache; /* bytes each */

	struct mfs_mutex write_lock;
	struct sqlite_vfs vfs; /* beneath the writer */
	struct sqlite_conn writer;
	struct op_ring *rings;
	bool counted; /* files and bytes are right, as of data_version */
	struct sqlite_delta sums; /* of the whole index */
	int64_t data_version;

	struct sqlite_wal wal;

	struct mfs_mutex pool_lock;
	pthread_cond_t pool_free; /* n_free > 0 */
	struct sqlite_conn readers[SQLITE_READERS];
	struct sqlite_conn *free[SQLITE_READERS];
	unsigned int n_free;
};

static inline struct sqlite_engine *sqlite_engine_of(struct engine *e)
{
	return mfs_container_of(e, struct sqlite_engine, base);
}

extern const struct engine_ops sqlite_ops; /* sqlite_engine.c */

/* A reader lent to the caller; *ret may be set after a failure too, and goes back all the same. */
int sqlite_reader_get(struct sqlite_engine *s, struct op_ctx *op, struct sqlite_conn **ret) MFS_NODISCARD;
struct sqlite_lent {
	struct sqlite_engine *s;
	struct sqlite_conn *c;
};
void sqlite_reader_put(struct sqlite_lent *l);

/* c becomes a reader until the end of the scope, r its outcome. */
#define WITH_READER(s_, op_, c, r)                                 \
	MFS_CLEANUP(sqlite_reader_put) struct sqlite_lent lent_ = { (s_), NULL }; \
	int r = sqlite_reader_get((s_), (op_), &lent_.c);                  \
	struct sqlite_conn *c = lent_.c

/* sqlite_sums.c */
int sqlite_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes);
int sqlite_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes);

/* sqlite_open.c */
void sqlite_free(struct engine *e);
int sqlite_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret);

#endif
