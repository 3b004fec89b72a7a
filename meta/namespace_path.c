/*
 * Paths and keys: from an inode or a name to its path and back, and where the content of a file belongs.
 */
#include <inttypes.h>

#include "meta/namespace_dirs.h"
#include "meta/namespace_internal.h"

#define DEPTH_MAX   1000000u /* a longer chain is a damaged index, not a path */
#define REREADS_MAX 8u
#define TEMP_SUFFIX ".part"
#define TEMP_RANDOM 6u

/* Paths. */

/* Where directory `ino` is. -ENOENT: nowhere, -ENOTDIR. */
static int dir_place(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, mfs_ino_t *parent,
		     struct mfs_name *name)
{
	struct ns_reading reading;
	struct node n = NODE_INIT;
	int r;

	if (ns_dirs_find(ns, op, ino, parent, name, &reading))
		return 0;
	r = ns_get_dir(ns, op, ino, &n);
	ns_dirs_read(ns, &reading, r == 0 && n.parent ? &n : NULL);
	if (r < 0)
		return r;
	*parent = n.parent;
	*name = n.name;
	if (!n.parent)
		r = -ENOENT;
	node_release(&n);
	return r;
}

int ns_dir_parent(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, mfs_ino_t *ret)
{
	struct mfs_name name;

	return dir_place(ns, op, dir, ret, &name);
}

/* Paths are found from their end: segments are appended back to front, and the whole is turned round at last, so that
 * the depth of a tree costs no more than its length. */
static int add_reversed(struct mfs_buf *b, const struct mfs_name *name)
{
	char *to;

	if (b->len)
		(void)mfs_buf_putc(b, '/');
	to = mfs_buf_reserve(b, name->len);
	if (!to)
		return b->err;
	for (unsigned int i = 0; i < name->len; i++)
		to[i] = name->bytes[name->len - 1 - i];
	mfs_buf_added(b, name->len);
	return 0;
}

static void reverse(char *s, size_t len)
{
	for (size_t i = 0; i < len / 2; i++) {
		char c = s[i];

		s[i] = s[len - 1 - i];
		s[len - 1 - i] = c;
	}
}

static int path_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, const struct mfs_name *name,
		     struct mfs_buf *ret)
{
	struct mfs_name segment;
	int r;

	mfs_buf_clear(ret);
	r = mfs_buf_append(ret, "", 0);
	if (r == 0 && name)
		r = add_reversed(ret, name);
	for (unsigned int depth = 0; r == 0 && dir != MFS_ROOT_INO; depth++) {
		if (depth > DEPTH_MAX)
			return -ELOOP;
		r = dir_place(ns, op, dir, &dir, &segment);
		if (r == 0)
			r = add_reversed(ret, &segment);
	}
	reverse(ret->data, ret->len);
	return r;
}

/* A path that was put together while a directory moved may never have been: it is read again. */
int ns_path(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, const struct mfs_name *name,
	    struct mfs_buf *ret)
{
	for (unsigned int i = 0;; i++) {
		struct ns_stamp stamp = ns_stamp_now(ns);
		int r = path_once(ns, op, dir, name, ret);

		if (stamp.gen == ns_stamp_now(ns).gen || i >= REREADS_MAX || (r < 0 && r != -ENOENT))
			return r;
	}
}

int namespace_path(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct mfs_buf *ret)
{
	struct node n = NODE_INIT;
	int r;

	mfs_buf_clear(ret);
	if (ino == MFS_ROOT_INO)
		return mfs_buf_append(ret, "", 0);
	r = engine_get(ns->e, op, ino, &n);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	r = n.parent ? ns_path(ns, op, n.parent, &n.name, ret) : -ENOENT;
	node_release(&n);
	return r;
}

static int get_root(struct namespace *ns, struct op_ctx *op, struct entry *ret)
{
	struct entry e = { .id = MFS_ROOT_INO };
	int r = engine_get(ns->e, op, MFS_ROOT_INO, &e.node);

	if (r == 0)
		*ret = e;
	return r;
}

/* cred NULL: no permission is asked for. */
static int resolve(struct namespace *ns, struct op_ctx *op, const struct mfs_cred *cred, const char *path,
		   size_t len, struct entry *ret)
{
	const char *end = path + len;
	/* Nobody needs to be told by the index that the root is there, and a directory. */
	struct entry at = { .id = MFS_ROOT_INO, .node.attr = { .ino = MFS_ROOT_INO, .mode = S_IFDIR } }, next;
	int r = cred || len == 0 ? get_root(ns, op, &at) : 0;

	if (r < 0)
		return r;
	while (path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		size_t n = (size_t)((slash ? slash : end) - path);

		if (!attr_is_dir(&at.node.attr))
			r = -ENOTDIR;
		else if (cred)
			r = namespace_access(&at.node, cred, 1);
		next = (struct entry){ 0 };
		if (r == 0)
			r = namespace_lookup(ns, op, at.node.attr.ino, path, n, &next);
		entry_release(&at);
		if (r < 0)
			return r;
		at = next;
		path += n + (slash != NULL);
	}
	*ret = at;
	return 0;
}

int namespace_resolve(struct namespace *ns, struct op_ctx *op, const char *path, size_t len,
		      struct entry *ret)
{
	return resolve(ns, op, NULL, path, len, ret);
}

int namespace_resolve_as(struct namespace *ns, struct op_ctx *op, const struct mfs_cred *cred,
			 const char *path, size_t len, int mask, struct entry *ret)
{
	struct entry e;
	int r = resolve(ns, op, cred, path, len, &e);

	if (r < 0)
		return r;
	r = mask ? namespace_access(&e.node, cred, mask) : 0;
	if (r < 0)
		entry_release(&e);
	else
		*ret = e;
	return r;
}

/* Keys. */

static bool key_is_legal(const struct namespace *ns, const char *path)
{
	return !ns->opt.hooks.key_is_legal || ns->opt.hooks.key_is_legal(ns->opt.hooks.arg, path);
}

static int nameless_key(mfs_ino_t ino, struct mfs_buf *ret)
{
	mfs_buf_clear(ret);
	return mfs_buf_printf(ret, NS_RESERVED_NAME "/o/%" PRIu64, ino);
}

int namespace_path_key(struct namespace *ns, const char *path, mfs_ino_t ino, struct mfs_buf *ret)
{
	mfs_buf_clear(ret);
	return key_is_legal(ns, path) ? mfs_buf_puts(ret, path) : nameless_key(ino, ret);
}

int ns_path_to_key(struct namespace *ns, mfs_ino_t ino, struct mfs_buf *path)
{
	return key_is_legal(ns, path->data) ? 0 : nameless_key(ino, path);
}

int ns_name_key(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, const struct mfs_name *name,
		mfs_ino_t ino, struct mfs_buf *ret)
{
	int r = ns_path(ns, op, dir, name, ret);

	return r < 0 ? r : ns_path_to_key(ns, ino, ret);
}

int ns_ref_is_at(struct namespace *ns, struct op_ctx *op, const struct node *n, mfs_ino_t dir,
		 const struct mfs_name *name)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(NS_PATH_MAX);
	int r;

	if (object_ref_is_empty(&n->ref))
		return 0;
	r = ns_name_key(ns, op, dir, name, n->attr.ino, &key);
	if (r < 0)
		return r;
	return !n->ref.bucket && strcmp(n->ref.key, key.data) == 0;
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* The name that a temporary one (".NAME.XXXXXX" of rsync, "NAME.part") will be given in the end. */
static bool final_name(const struct mfs_name *n, struct mfs_name *ret)
{
	const char *s = n->bytes, *tail = s + n->len - TEMP_RANDOM;
	size_t suffix = strlen(TEMP_SUFFIX);

	if (n->len > suffix && strcmp(s + n->len - suffix, TEMP_SUFFIX) == 0)
		return mfs_name_set(ret, s, n->len - suffix) == 0;
	if (n->len < 1 + 1 + 1 + TEMP_RANDOM || s[0] != '.' || tail[-1] != '.')
		return false;
	for (unsigned int i = 0; i < TEMP_RANDOM; i++)
		if (!is_alnum(tail[i]))
			return false;
	return mfs_name_set(ret, s + 1, n->len - 2 - TEMP_RANDOM) == 0;
}

bool ns_is_temporary(const struct mfs_name *name)
{
	struct mfs_name final;

	return final_name(name, &final);
}

/* 1: *ret is the final name's key and nobody has that name; 0: use the own one. */
static int temporary_key(struct namespace *ns, struct op_ctx *op, const struct node *n, struct mfs_buf *ret)
{
	struct mfs_name name;
	struct entry e;
	int r;

	if (!final_name(&n->name, &name))
		return 0;
	r = engine_lookup(ns->e, op, n->parent, &name, &e);
	if (r == 0)
		entry_release(&e);
	if (r != -ENOENT)
		return r;
	r = ns_path(ns, op, n->parent, &name, ret);
	if (r < 0)
		return r;
	return key_is_legal(ns, ret->data);
}

static int key_of_node(struct namespace *ns, struct op_ctx *op, const struct node *n, struct mfs_buf *ret,
		       bool *ret_temporary)
{
	int r;

	*ret_temporary = false;
	if (!n->parent)
		return nameless_key(n->attr.ino, ret);
	r = temporary_key(ns, op, n, ret);
	if (r == 0)
		return ns_name_key(ns, op, n->parent, &n->name, n->attr.ino, ret);
	*ret_temporary = r == 1;
	return r < 0 ? r : 0;
}

int namespace_key(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct mfs_buf *ret,
		  bool *ret_temporary)
{
	struct node n = NODE_INIT;
	int r = engine_get(ns->e, op, ino, &n);

	if (r < 0)
		return r;
	r = key_of_node(ns, op, &n, ret, ret_temporary);
	/* Unlinked, or below something removed, while we looked. */
	if (r == -ENOENT)
		r = nameless_key(ino, ret);
	node_release(&n);
	return r;
}
