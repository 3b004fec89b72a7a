/*
 * What a layout names, as records for `dropped`: the object, the segments of its patch log, its slices documents.
 *
 * Who takes a state of a file out of the index for good (a commit that keeps no version, the end of a version's or a
 * trash record's retention) hands all it named, and what stays does not name, to `dropped` in the same change. Another
 * state may name some of it still (a version and the file share what did not change): that is seen when the dropped
 * thing's turn comes (fs/gc.c), and whoever lets go of it last lists it again.
 */
#ifndef MASSFS_META_DROPS_H
#define MASSFS_META_DROPS_H

#include "meta/change.h"

/* Where the bytes of one state are. Borrowed. */
struct content_names {
	const struct object_ref *ref;   /* NULL or empty: no object */
	const struct node_blob *slices; /* NULL or empty: none */
};

/*
 * Append to *l what `before` names and `after` (NULL: nothing) does not. 0, -ENOMEM, -EUCLEAN (a damaged record, logged:
 * then nothing is appended).
 */
int drops_add(struct dropped_list *l, mfs_ino_t ino, int64_t at, const struct content_names *before,
	      const struct content_names *after) MFS_NODISCARD;
/* The write that puts them; nothing when there are none. The change borrows *l. */
void drops_write(struct change *c, const struct dropped_list *l);

/* Does the state name what d is? 1, 0, or -EUCLEAN, -ENOMEM. For whoever is about to delete it. */
int drops_is_named(const struct dropped_record *d, const struct content_names *by) MFS_NODISCARD;

#endif
