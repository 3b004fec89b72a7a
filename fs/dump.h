/*
 * The index of a volume as a text (meta/record_stream.h), and back.
 */
#ifndef MASSFS_FS_DUMP_H
#define MASSFS_FS_DUMP_H

#include "meta/record_dump.h"

/*
 * One moment's state of the engine, by a snapshot of it: what is applied meanwhile is not in it. total of the progress is
 * a guess.
 */
typedef int dump_progress_fn(void *arg, uint64_t done, uint64_t total);
int dump_index(struct engine *e, struct op_ctx *op, record_sink_fn *sink, void *arg,
	       dump_progress_fn *progress, void *progress_arg, struct record_counts *ret) MFS_NODISCARD;

/* Into an index just made. On failure *ret_reason (owned) says what is wrong, and in which line. */
int load_index(struct engine *e, struct op_ctx *op, record_source_fn *source, void *arg,
	       dump_progress_fn *progress, void *progress_arg, struct record_counts *ret,
	       char **ret_reason) MFS_NODISCARD;

#endif
