/*
 * What the namespace remembers of directories: ino -> (parent, name), so that a path costs no reads. Bounded: a table of
 * fixed size.
 *
 * Where other mounts change the index too, their moves are heard of late. What is remembered is then only believed while
 * news come, and never for a request that wants to know (op_ctx.fresh: the reconciler's all do). Meanwhile a file may have
 * been given the key of a place that is no more, after the job of that move has walked by. So who was placed lately is kept,
 * and when the news of a move come, what is below what moved is queued to be looked at again (namespace_recheck()).
 */
#ifndef MASSFS_META_NAMESPACE_DIRS_H
#define MASSFS_META_NAMESPACE_DIRS_H

#include "meta/engine.h"
#include "meta/namespace_internal.h"

int ns_dirs_new(struct namespace *ns) MFS_NODISCARD;
void ns_dirs_free(struct namespace *ns);

/* What may happen between a question and its answer. */
struct ns_reading {
	struct ns_stamp stamp;
	mfs_ino_t ino;
	uint32_t heard;
};
/* Where it is. False: not known; *ret_reading is for ns_dirs_read(), which must be called after the index was read. */
bool ns_dirs_find(struct namespace *ns, const struct op_ctx *op, mfs_ino_t ino, mfs_ino_t *parent, struct mfs_name *name,
		  struct ns_reading *ret_reading);
/* n: what was read, NULL when that failed. */
void ns_dirs_read(struct namespace *ns, const struct ns_reading *reading, const struct node *n);
/* Is there something for namespace_recheck()? */
bool ns_dirs_news(struct namespace *ns, const struct news *w);

#endif
