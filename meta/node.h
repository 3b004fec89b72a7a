/*
 * The index record: one per inode, and a small alias record per further hard link.
 *
 * `attr` is plain data and is what stat needs; the rest of a node owns memory. Nodes are values: node_init() or
 * = NODE_INIT before use, node_release() after; engines and namespace fill them, callers release them.
 *
 * Counters: ver counts every change of the record; data changes of content (page cache, versions); lay changes of
 * the layout (which object holds the bytes). A settle raises ver and lay, not data.
 */
#ifndef MASSFS_META_NODE_H
#define MASSFS_META_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/defs.h"
#include "common/object_ref.h"

typedef uint64_t mfs_ino_t;

#define MFS_ROOT_INO	  ((mfs_ino_t)1)
#define MFS_FIRST_INO	  ((mfs_ino_t)1000) /* what reserve gives first; lower numbers are ours */
#define MFS_NAME_MAX	  255
#define MFS_SYMLINK_MAX	  4095
#define MFS_XATTR_NAME_MAX  255
#define MFS_XATTR_SIZE_MAX  65536 /* bytes a value (Linux' limit) */
#define MFS_XATTR_TOTAL_MAX (1u << 20) /* bytes of names and values an inode */
#define MFS_XATTR_BIG	  16384 /* values above go to a side collection (engines may) */
#define MFS_FILE_SIZE_MAX (INT64_C(5) << 40) /* 5 TiB, S3's largest object */
#define MFS_LINK_MAX	  65000

/* A name is any bytes but '/' and NUL. */
struct mfs_name {
	uint16_t len;
	char bytes[MFS_NAME_MAX + 1]; /* NUL-terminated for printing */
};

enum attr_flags {
	ATTR_HAS_XATTR = 1u << 0,	/* any extended attribute at all */
	ATTR_HAS_CAP = 1u << 1,		/* security.capability: asked for on each write, so answered from here */
	ATTR_HAS_ACL = 1u << 2,		/* system.posix_acl_access */
	ATTR_HAS_DEFAULT_ACL = 1u << 3, /* system.posix_acl_default */
	ATTR_IN_TRASH = 1u << 4,	/* unlinked: the record is in `trash` */
	ATTR_SHARED = 1u << 5,		/* its object was shared with other files, which may have it still (meta/shared.h) */
	ATTR_HAS_LABEL = 1u << 6,	/* security.selinux: ls -l asks for it on each file */
};

#define MFS_INLINE_MAX 65536 /* bytes of inline_data; the option's default is 16 KiB */

/* Times are ns since the epoch, signed. mode has the file type bits. */
struct mfs_attr {
	mfs_ino_t ino;
	uint64_t ver, data, lay;
	uint64_t size;
	uint64_t obj_len; /* the object gives bytes [0, obj_len); [obj_len, size) reads as zeros */
	uint64_t alloc;	  /* bytes that the content takes in the store: st_blocks * 512 */
	int64_t atime, mtime, ctime, btime;
	uint32_t mode, uid, gid;
	uint32_t nlink; /* of a directory: 1 + its subdirectories (struct touch) */
	uint64_t rdev;
	uint32_t flags;	   /* enum attr_flags; derived from the rest by node_derive() */
	uint32_t children; /* of a directory: a hint only, never an authority */
};

struct node_xattr {
	char *name;  /* NUL-terminated, owned */
	void *value; /* owned; not NULL even when size is 0 */
	size_t size;
};

/* Opaque bytes of a field that this version stores but does not interpret. */
struct node_blob {
	void *data; /* owned, NULL: absent */
	size_t size;
};

struct node {
	struct mfs_attr attr;

	/* The record's own name (of the first link). parent 0: nameless (in trash, or the root). */
	mfs_ino_t parent;
	struct mfs_name name;
	uint64_t pos; /* place in its directory's listing: the id, or the promoted alias's */

	/* Filled for a whole record, absent in listings (partial). */
	bool partial;
	uint64_t dying; /* token of an rmdir under way (rule M4); 0: none */
	struct object_ref ref; /* empty: no object (then obj_len is 0) */
	char etag[OBJECT_ETAG_MAX + 1];
	char hash[OBJECT_ETAG_MAX + 1];
	char *symlink; /* target of a symlink, NUL-terminated, owned */
	struct node_xattr *xattrs;
	size_t n_xattrs;
	uint32_t creator_uid;
	char *creator_user, *creator_host, *mime; /* owned, may be NULL */
	int64_t todo;	  /* wall time since the reconciler has work with it; 0: none */
	uint64_t pending; /* session with an upload under way; 0: none */
	uint64_t quota;	  /* tree id; 0: none */
	struct node_blob fenced;      /* sessions that may not commit: array of uint64 */
	struct node_blob inline_data; /* the whole content of a small file; then ref and slices are empty, obj_len is 0 */
	struct node_blob slices;      /* what lies over ref (meta/layout.h) */
	struct node_blob holes;	      /* not used: hole slices stand in `slices` */

	/* Only of a record in trash. */
	char *trash_path;   /* path at the unlink, without leading slash; owned */
	int64_t trash_time; /* wall time of the unlink */
	struct node_blob openers; /* sessions that hold it open: array of uint64 */
};

#define NODE_INIT { 0 }

void node_init(struct node *n);
void node_release(struct node *n); /* frees what it owns and re-inits; NULL: nothing */
/* Without inline_data, slices and holes, as engine_find() gives it. */
void node_drop_content(struct node *n);
/* *ret (uninitialised or inited-empty) becomes a deep copy. 0 or -ENOMEM (then *ret is empty). */
int node_copy(const struct node *n, struct node *ret) MFS_NODISCARD;
/* Recompute attr.flags (HAS_XATTR, HAS_CAP, HAS_ACL, HAS_DEFAULT_ACL, HAS_LABEL) from the xattrs. */
void node_derive(struct node *n);

/* -EINVAL for an empty name, "." and "..", one with '/' or NUL; -ENAMETOOLONG over 255 bytes. */
int mfs_name_set(struct mfs_name *n, const char *bytes, size_t len) MFS_NODISCARD;
bool mfs_name_equal(const struct mfs_name *a, const struct mfs_name *b);

/* NULL when there is none. The pointer lives as long as the node is unchanged. */
const struct node_xattr *node_xattr_find(const struct node *n, const char *name);
/* Put or replace (copying the value). -ENOSPC over MFS_XATTR_TOTAL_MAX, -ENOMEM. */
int node_xattr_set(struct node *n, const char *name, const void *value, size_t size) MFS_NODISCARD;
/* -ENODATA when there is none. */
int node_xattr_remove(struct node *n, const char *name);

/* Arrays of session numbers in a blob (openers, fenced). add is idempotent; remove of an absent one is nothing. */
bool node_blob_has_u64(const struct node_blob *b, uint64_t v);
int node_blob_add_u64(struct node_blob *b, uint64_t v) MFS_NODISCARD;
void node_blob_remove_u64(struct node_blob *b, uint64_t v);
int node_blob_copy(const struct node_blob *b, struct node_blob *ret) MFS_NODISCARD;

/* A growing array of nodes, in listing order. */
struct node_list {
	struct node *v;
	size_t n, cap;
};
#define NODE_LIST_INIT { 0 }
void node_list_release(struct node_list *l);
/* An empty node at the end, to be filled; NULL: no memory. */
struct node *node_list_add(struct node_list *l);

/* Byte strings, each owned, with a NUL behind it that does not count. */
struct blob_list {
	struct node_blob *v;
	size_t n, cap;
};
void blob_list_release(struct blob_list *l);
int blob_list_add(struct blob_list *l, const void *data, size_t size) MFS_NODISCARD;

static inline bool attr_is_dir(const struct mfs_attr *a)
{
	return (a->mode & 0170000u) == 0040000u;
}
static inline bool attr_is_reg(const struct mfs_attr *a)
{
	return (a->mode & 0170000u) == 0100000u;
}

#endif
