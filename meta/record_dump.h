/*
 * A whole index as a stream of records, and the reverse. In bounded memory: pages out, small changes in.
 */
#ifndef MASSFS_META_RECORD_DUMP_H
#define MASSFS_META_RECORD_DUMP_H

#include "meta/engine.h"
#include "meta/record_stream.h"

struct record_counts {
	uint64_t n[RECORD_N_KINDS]; /* by kind; RECORD_NODE: in files */
	uint64_t trash;
};

/* Called now and then; < 0 ends the walk and is returned. */
typedef int record_progress_fn(void *arg, uint64_t done);

/*
 * Volume, files and trash by inode, aliases by id, slices and versions by file, dropped, jobs, sessions: each record of
 * the engine into the writer, without header and end. Of a snapshot (engine_snapshot) it is one moment's state; of a
 * live engine each record is as it was at some moment of the walk.
 */
int record_dump_all(struct engine *e, struct op_ctx *op, struct record_writer *w,
		    record_progress_fn *progress, void *arg, struct record_counts *ret) MFS_NODISCARD;

/*
 * Into an index that was made and not yet formatted. Records go in as they are; the volume's comes first, an alias
 * behind its file. With `add` the record is taken over (it is empty then), also on failure.
 * -EEXIST: a number or a name is there twice; -ESTALE: an alias without its file.
 */
#define RECORD_LOAD_BATCH 14
struct record_loader {
	struct engine *e;
	struct op_ctx *op;
	struct record batch[RECORD_LOAD_BATCH];
	size_t n;
	struct record_volume volume;
	bool has_volume, has_root;
	uint64_t next_ino; /* at the end no number below is free */
	struct record_counts counts;
};
void record_loader_init(struct record_loader *l, struct engine *e, struct op_ctx *op);
int record_loader_add(struct record_loader *l, struct record *r) MFS_NODISCARD;
/* What is left, and the numbers. -EINVAL: no volume or no root was among the records. */
int record_loader_finish(struct record_loader *l) MFS_NODISCARD;
void record_loader_release(struct record_loader *l);

#endif
