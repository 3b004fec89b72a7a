/*
 * The virtual tree /.massfs: searches as directories, for every program.
 *
 *   /.massfs/tags/NAME/            files that have the tag, and a directory for each value that it has
 *   /.massfs/tags/NAME/VALUE/      files whose tag has the value; and on: each further NAME or NAME/VALUE is an "and"
 *   /.massfs/query/EXPRESSION/     files that match (meta/expr.h)
 *
 * Directories exist as soon as they are named; in them are symbolic links to the files (relative ones). Names that several
 * files have are made distinct by ~INODE. In the names of directories %2F stands for a slash and %25 for a percent sign. What
 * is seen is what the caller may see, so nothing is cached by the kernel. Nothing can be changed here.
 *
 * Only in a mount of the whole volume. Numbers have bit 62 set, which no inode has.
 */
#ifndef MASSFS_FS_FUSE_VTREE_H
#define MASSFS_FS_FUSE_VTREE_H

#include "fs/fuse/ops.h"
#include "fs/search.h"

#define VTREE_BIT ((fuse_ino_t)1 << 62)

struct vtree;

int vtree_new(struct vtree **ret) MFS_NODISCARD;
void vtree_free(struct vtree *t); /* NULL: nothing */

static inline bool vtree_has(fuse_ino_t id)
{
	return id & VTREE_BIT;
}

/* Put in front of the session's operations: calls for the tree are answered by it. */
void vtree_wrap(struct fuse_lowlevel_ops *ops);

/* --- shared by vtree*.c --- */

enum vnode_kind { VNODE_ROOT, VNODE_TAGS, VNODE_TAG, VNODE_VALUE, VNODE_QUERIES, VNODE_QUERY, VNODE_LINK };

/* A copy of what a node is; release it. */
struct vnode_info {
	enum vnode_kind kind;
	unsigned int depth;  /* below the mount's root */
	struct mfs_buf expr; /* of TAG, VALUE, QUERY: the whole search as text */
	char *name;	     /* decoded: of TAG its tag; owned */
	char *target;	     /* of LINK; owned */
};
void vnode_info_release(struct vnode_info *v);
/* -ESTALE: there is no such node any more. */
int vtree_get(struct vtree *t, fuse_ino_t id, struct vnode_info *ret) MFS_NODISCARD;
/* The node of this name in `parent`, made if need be, with one more lookup by the kernel. -ENOMEM, -ENFILE. */
int vtree_look_up(struct vtree *t, fuse_ino_t parent, const char *name, enum vnode_kind kind, const char *target, fuse_ino_t *ret) MFS_NODISCARD;
void vtree_forget(struct vtree *t, fuse_ino_t id, uint64_t n);

/* vtree_find.c: the files of a search, as links. */
struct vlink {
	char *name, *target; /* owned */
};
struct vlinks {
	struct vlink *v;
	size_t n, cap;
};
void vlinks_release(struct vlinks *l);
/* All (name NULL: at most VTREE_LINKS, more is said in the log), or the one that is called `name` (none: an empty list). */
#define VTREE_LINKS 100000
int vtree_links(struct request *rq, const struct vnode_info *dir, const char *name, struct vlinks *ret) MFS_NODISCARD;
/* Is the search one that can be understood? -EINVAL. */
int vtree_check(struct request *rq, const char *expr) MFS_NODISCARD;
/* Is there a file for the caller? */
int vtree_any(struct request *rq, const char *expr, bool *ret) MFS_NODISCARD;
/* Does the tag have this value anywhere? 1, 0, -errno. */
int vtree_has_value(struct request *rq, const char *tag, const char *value) MFS_NODISCARD;

/* %XX of a name in the tree, undone (to: as long as from), or done. */
int vtree_decode(const char *from, char *to) MFS_NODISCARD; /* -EINVAL: a NUL, or a % without two digits */
int vtree_encode(const void *bytes, size_t size, struct mfs_buf *to) MFS_NODISCARD;

#endif
