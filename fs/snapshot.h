/*
 * One committed state of a file's bytes, for whoever reads a file without having it open: the reconciler that composes
 * an object, restore, scrub, warmup, fsck. Inline bytes, or object with slices, and the zeros behind them.
 *
 * Immutable. Reads come from the exact versions it names, so they stay right whatever is committed meanwhile; an object
 * that garbage collection took is -ENOENT, and the caller reads the record again. Threads: reads from any.
 */
#ifndef MASSFS_FS_SNAPSHOT_H
#define MASSFS_FS_SNAPSHOT_H

#include "fs/volume.h"
#include "meta/layout.h"

struct snapshot;

/* Of a whole record in files or trash, or of a version. Round trips: 1 for each slices document. -EUCLEAN: a malformed
 * layout (logged); -ENOENT: a document is gone, read the record again. */
int snapshot_of_node(struct volume *v, struct op_ctx *op, const struct node *n, struct snapshot **ret) MFS_NODISCARD;
int snapshot_of_version(struct volume *v, struct op_ctx *op, const struct version_record *r, struct snapshot **ret) MFS_NODISCARD;
void snapshot_free(struct snapshot *s); /* NULL: nothing */

uint64_t snapshot_size(const struct snapshot *s);
/* What lies over the object; lives as long as the snapshot. */
const struct layout *snapshot_layout(const struct snapshot *s);
/* [off, off+len), all of which is below size (else -EINVAL). Round trips: 1 a piece (on a store with descriptors: a pread).
 * An object that is too short: -EIO, logged. */
int snapshot_read(struct snapshot *s, struct op_ctx *op, uint64_t off, void *buf, size_t len) MFS_NODISCARD;
/* Is what is at off taken unchanged from the base object (then part_copy may be used)? *ret_run: for how many bytes the
 * answer, yes or no, holds; 0 at or behind the end. */
bool snapshot_is_base(const struct snapshot *s, uint64_t off, uint64_t *ret_run);
/* Does it read as zeros because nothing is stored there? *ret_run as above. */
bool snapshot_is_hole(const struct snapshot *s, uint64_t off, uint64_t *ret_run);

#endif
