/*
 * Uploads of big files that outlive the mount which began them: a cell "compose/INO" in the index says of what they are, so
 * that whoever works the queue next, after a crash or on another mount, goes on where they were.
 *
 * Begin: the upload at the store, then the cell; a crash between leaves an upload that no cell names, which object_sweep()
 * takes. From then on the sweep, and gc, let alone what the cell names (its parts, and the object they become), until the
 * record has been switched; then the cell goes. An object so made carries the label of the session that began, and the
 * commit that names it expects that this one is not fenced (struct commit), as gc does before it deletes.
 *
 * Taken up only while the file's layout (lay) and the way it is cut are the same: then each part has the same bytes, whoever
 * sends it. Else the upload is aborted, and a new one begun.
 */
#ifndef MASSFS_FS_RECONCILE_KEPT_H
#define MASSFS_FS_RECONCILE_KEPT_H

#include "fs/reconcile_internal.h"

#define RECONCILE_KEEP_MIN (UINT64_C(256) << 20) /* smaller files begin anew */

struct kept_upload {
	struct object_upload *u; /* NULL: is_done */
	bool is_kept;		 /* it has a cell */
	bool is_done;		 /* it had become an object when its maker died: info */
	struct object_info info;
};

/* An upload for the file at `key`, cut as `plan` says. *meta: what a new one is to carry; what this one does. -EAGAIN:
 * another mount has begun one at this moment. */
int reconcile_kept_open(struct reconcile_ctx *rc, const struct node *n, const char *key, uint64_t plan,
			struct object_meta *meta, struct kept_upload *ret) MFS_NODISCARD;
/* It ends here without an object because of `err`: kept for later, or aborted when that would be of no use. */
void reconcile_kept_fail(struct reconcile_ctx *rc, const struct node *n, struct kept_upload *k, int err);
/* The record names the object, or never will: the cell goes. */
int reconcile_kept_end(struct reconcile_ctx *rc, const struct node *n) MFS_NODISCARD;

/* What cells name, at the moment of the call. */
struct kept_name {
	uint64_t ino, session, op;
	char *name, *key;
};
struct kept_names {
	struct kept_name *v;
	size_t n, cap;
};
int kept_names_read(struct volume *v, struct op_ctx *op, struct kept_names *ret) MFS_NODISCARD;
void kept_names_release(struct kept_names *l);
/* An object that such an upload became. */
bool kept_names_object(const struct kept_names *l, const struct object_info *info);
bool kept_names_upload(void *arg, const char *key, const char *name); /* an object_keep_fn; arg: struct kept_names */
/* Uploads of files that are gone, or other files by now, are aborted, and their cells deleted. */
int kept_expire(struct volume *v, struct op_ctx *op) MFS_NODISCARD;

#endif
