/*
 * Extended attributes, and the two of them that are ACLs: those are checked, normalised and kept in step with the
 * mode.
 */
#include <sys/xattr.h>

#include "meta/acl.h"
#include "meta/namespace_internal.h"
#include "meta/schema.h"
#include "meta/tags.h"

#define USER_PREFIX    "user."
#define TRUSTED_PREFIX "trusted."

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_acl(const char *name)
{
	return strcmp(name, ACL_XATTR_ACCESS) == 0 || strcmp(name, ACL_XATTR_DEFAULT) == 0;
}

/* Is it a name that can be at all? */
static int check_name(const char *name)
{
	static const char *const prefixes[] = { USER_PREFIX, TRUSTED_PREFIX, "security." };

	if (strlen(name) > MFS_XATTR_NAME_MAX)
		return -ERANGE;
	if (is_acl(name))
		return 0;
	for (size_t i = 0; i < MFS_ARRAY_LEN(prefixes); i++)
		if (has_prefix(name, prefixes[i]))
			return name[strlen(prefixes[i])] ? 0 : -EINVAL;
	return -ENOTSUP;
}

/* Can this kind of file have it? */
static int check_kind(const char *name, uint32_t mode)
{
	if (has_prefix(name, USER_PREFIX) && !S_ISREG(mode) && !S_ISDIR(mode))
		return -EPERM;
	if (is_acl(name) && S_ISLNK(mode))
		return -ENOTSUP;
	if (strcmp(name, ACL_XATTR_DEFAULT) == 0 && !S_ISDIR(mode))
		return -EACCES;
	return 0;
}

ssize_t namespace_getxattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const char *name,
			   void *buf, size_t size)
{
	const struct node_xattr *x;
	struct node n = NODE_INIT;
	ssize_t ret;
	int r = check_name(name);

	if (r < 0)
		return r;
	r = engine_get(ns->e, op, ino, &n);
	if (r < 0)
		return r;
	x = node_xattr_find(&n, name);
	ret = x ? (ssize_t)x->size : -ENODATA;
	if (x && size && size < x->size)
		ret = -ERANGE;
	else if (x && size)
		memcpy(buf, x->value, x->size);
	node_release(&n);
	return ret;
}

static ssize_t list_names(const struct node *n, bool all, char *buf, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < n->n_xattrs; i++) {
		const char *name = n->xattrs[i].name;
		size_t l = strlen(name) + 1;

		if (!all && has_prefix(name, TRUSTED_PREFIX))
			continue;
		if (size && len + l > size)
			return -ERANGE;
		if (size)
			memcpy(buf + len, name, l);
		len += l;
	}
	return (ssize_t)len;
}

ssize_t namespace_listxattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, char *buf, size_t size)
{
	struct node n = NODE_INIT;
	ssize_t ret = engine_get(ns->e, op, ino, &n);

	if (ret < 0)
		return ret;
	ret = list_names(&n, op->uid == 0, buf, size);
	node_release(&n);
	return ret;
}

/* Puts an ACL, and for the access ACL the mode, into the record. */
static int put_acl(struct node *n, const char *name, const void *value, size_t size)
{
	bool access = strcmp(name, ACL_XATTR_ACCESS) == 0;
	MFS_AUTOFREE void *blob = NULL;
	struct acl a = ACL_INIT;
	size_t blob_size;
	int r;

	r = size ? acl_parse(value, size, &a) : 0;
	if (r < 0)
		return r;
	if (access && a.n)
		n->attr.mode = (n->attr.mode & ~0777u) | acl_mode(&a);
	if (a.n == 0 || (access && acl_is_mode(&a))) {
		acl_release(&a);
		r = node_xattr_remove(n, name);
		return r == -ENODATA ? 0 : r;
	}
	r = acl_encode(&a, &blob, &blob_size);
	acl_release(&a);
	return r < 0 ? r : node_xattr_set(n, name, blob, blob_size);
}

struct xattr_set {
	const char *name;
	const void *value; /* NULL: remove */
	size_t size;
	int flags;
	bool kill_sgid;
};

static int edit(struct node *n, const struct xattr_set *s)
{
	bool there = node_xattr_find(n, s->name) != NULL;
	int r = check_kind(s->name, n->attr.mode);

	if (r < 0)
		return r;
	if (!s->value)
		return node_xattr_remove(n, s->name);
	if ((s->flags & XATTR_CREATE) && there)
		return -EEXIST;
	if ((s->flags & XATTR_REPLACE) && !there)
		return -ENODATA;
	if (is_acl(s->name))
		r = put_acl(n, s->name, s->value, s->size);
	else
		r = node_xattr_set(n, s->name, s->value, s->size);
	if (s->kill_sgid && !attr_is_dir(&n->attr))
		n->attr.mode &= ~(uint32_t)S_ISGID;
	return r;
}

/* Storage rules: checked, and found by their cell, which is of the same change. What is there already may lack tags. */
static int put_rules(struct ns_op *x, const struct node *n, const struct xattr_set *s, struct cell_record *cell)
{
	struct schema schema;
	int r = attr_is_dir(&n->attr) ? 0 : -EINVAL;

	if (r == 0 && s->value) {
		r = schema_parse(s->value, s->size, &schema, NULL);
		if (r == 0 && schema.n_demands)
			r = ns_demand(x, n->attr.ino, schema.grace_ns);
		schema_release(&schema);
	}
	return r == 0 ? ns_rules_cell(n->attr.ino, s->value, s->size, cell) : r;
}

static int set_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct xattr_set *s,
		    struct mfs_attr *ret)
{
	struct node n = NODE_INIT;
	NS_AUTOOP struct ns_op x;
	struct cell_record cell = { 0 };
	struct mfs_attr done;
	uint32_t mode;
	int r;

	ns_op_init(&x, ns, op);
	r = engine_get(ns->e, op, ino, &n);
	if (r < 0)
		return r;
	mode = n.attr.mode;
	r = edit(&n, s);
	if (r == 0 && strcmp(s->name, SCHEMA_XATTR) == 0)
		r = put_rules(&x, &n, s, &cell);
	else if (r == 0 && !s->value && tag_is_xattr(s->name))
		r = ns_demand_again(&x, &n);
	if (r == 0) {
		struct write *w = change_write(&x.c, WRITE_EDIT, ino);

		node_derive(&n);
		ns_expect_ver(w, n.attr.ver);
		n.attr.ctime = x.now;
		w->node = &n;
		w->mask = EDIT_XATTRS | EDIT_CTIME | (n.attr.mode != mode ? (uint32_t)EDIT_MODE : 0);
		w->ret_attr = &done;
		if (cell.name)
			change_write(&x.c, WRITE_CELL_PUT, 0)->cell = &cell;
		r = ns_op_apply(&x);
	}
	/* Linux: taking away an ACL that is not there is no error. */
	if (r == -ENODATA && !s->value && is_acl(s->name)) {
		done = n.attr;
		r = 0;
	}
	if (r == 0 && cell.name)
		namespace_rules_changed(ns);
	cell_record_release(&cell);
	node_release(&n);
	if (r == 0)
		*ret = done;
	return r;
}

static int set(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct xattr_set *s,
	       struct mfs_attr *ret)
{
	for (unsigned int i = 0;; i++) {
		int r = set_once(ns, op, ino, s, ret);

		if (r == -ESTALE || !ns_again(op, "setxattr", ino, i, &r))
			return r;
	}
}

int namespace_setxattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const char *name,
		       const void *value, size_t size, int flags, bool kill_sgid, struct mfs_attr *ret)
{
	struct xattr_set s = { .name = name,
			       .value = value ? value : "",
			       .size = size,
			       .flags = flags,
			       .kill_sgid = kill_sgid };
	int r = check_name(name);

	if (r < 0)
		return r;
	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	return size > MFS_XATTR_SIZE_MAX ? -E2BIG : set(ns, op, ino, &s, ret);
}

int namespace_removexattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const char *name,
			  struct mfs_attr *ret)
{
	struct xattr_set s = { .name = name };
	int r = check_name(name);

	return r < 0 ? r : set(ns, op, ino, &s, ret);
}
