/*
 * Attributes: chmod, chown, utimens, access times in bulk. Extended ones: namespace_xattr.c.
 */
#include "meta/acl.h"
#include "meta/namespace_internal.h"

#define CAPABILITY "security.capability"

uint32_t ns_mode_without_priv(uint32_t mode)
{
	mode &= ~(uint32_t)S_ISUID;
	/* Without group execute the bit is no privilege (it once meant mandatory locking). */
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

uint32_t ns_kill_priv(struct node *n)
{
	uint32_t mode = ns_mode_without_priv(n->attr.mode), mask = 0;

	if (attr_is_dir(&n->attr))
		return 0;
	if (mode != n->attr.mode) {
		n->attr.mode = mode;
		mask |= EDIT_MODE;
	}
	if (node_xattr_remove(n, CAPABILITY) == 0) {
		node_derive(n);
		mask |= EDIT_XATTRS;
	}
	return mask;
}

/* chmod of a file with an ACL: the ACL's entries follow. */
static int chmod_acl(struct node *n)
{
	const struct node_xattr *x = node_xattr_find(n, ACL_XATTR_ACCESS);
	MFS_AUTOFREE void *blob = NULL;
	struct acl a = ACL_INIT;
	size_t size;
	int r;

	if (!x)
		return 0;
	r = acl_parse(x->value, x->size, &a);
	if (r < 0)
		return -EIO; /* it was checked when it was set */
	if (a.n)
		acl_chmod(&a, n->attr.mode);
	r = acl_encode(&a, &blob, &size);
	acl_release(&a);
	return r < 0 ? r : node_xattr_set(n, ACL_XATTR_ACCESS, blob, size);
}

/* Edits the record that was read; gives the mask of what is to be written. */
static int edit_privileged(struct node *n, const struct set_attr *sa, uint32_t *mask)
{
	bool chown = sa->mask & (EDIT_UID | EDIT_GID);
	int r;

	if (sa->kill_priv || (chown && !(sa->mask & EDIT_MODE)))
		*mask |= ns_kill_priv(n);
	if (!(sa->mask & EDIT_MODE))
		return 0;
	n->attr.mode = (n->attr.mode & S_IFMT) | (sa->mode & 07777);
	if (sa->kill_priv && !attr_is_dir(&n->attr))
		n->attr.mode = ns_mode_without_priv(n->attr.mode);
	*mask |= EDIT_MODE;
	if (!(n->attr.flags & ATTR_HAS_ACL))
		return 0;
	r = chmod_acl(n);
	*mask |= EDIT_XATTRS;
	return r;
}

static int setattr_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct set_attr *sa,
			struct mfs_attr *ret)
{
	bool reads = sa->kill_priv || (sa->mask & (EDIT_MODE | EDIT_UID | EDIT_GID));
	uint32_t mask = sa->mask & (EDIT_UID | EDIT_GID | EDIT_ATIME | EDIT_MTIME);
	struct node n = NODE_INIT;
	NS_AUTOOP struct ns_op x;
	struct mfs_attr done;
	struct write *w;
	int r = 0;

	ns_op_init(&x, ns, op);
	w = change_write(&x.c, WRITE_EDIT, ino);
	if (reads) {
		r = engine_get(ns->e, op, ino, &n);
		if (r < 0)
			return r;
		ns_expect_ver(w, n.attr.ver);
		r = edit_privileged(&n, sa, &mask);
	}
	n.attr.uid = sa->uid;
	n.attr.gid = sa->gid;
	n.attr.atime = sa->atime;
	n.attr.mtime = sa->mtime;
	n.attr.ctime = sa->mask & EDIT_CTIME ? sa->ctime : x.now;
	w->node = &n;
	w->mask = mask | EDIT_CTIME;
	w->ret_attr = &done;
	if (r == 0)
		r = ns_op_apply(&x);
	node_release(&n);
	if (r == 0)
		*ret = done;
	return r;
}

int namespace_setattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct set_attr *sa,
		      struct mfs_attr *ret)
{
	for (unsigned int i = 0;; i++) {
		int r = setattr_once(ns, op, ino, sa, ret);

		if (r == -ESTALE || !ns_again(op, "setattr", ino, i, &r))
			return r;
	}
}

static int set_atimes(struct namespace *ns, struct op_ctx *op, const struct atime_update *v, size_t n)
{
	struct node set[CHANGE_MAX_WRITES];
	NS_AUTOOP struct ns_op x;

	memset(set, 0, sizeof(set));
	ns_op_init(&x, ns, op);
	for (size_t i = 0; i < n; i++) {
		struct write *w = change_write(&x.c, WRITE_EDIT, v[i].ino);

		set[i].attr.atime = v[i].atime;
		w->node = &set[i];
		w->mask = EDIT_ATIME | EDIT_NO_BUMP_VER;
	}
	return ns_op_apply(&x);
}

int namespace_set_atimes(struct namespace *ns, struct op_ctx *op, const struct atime_update *v, size_t n)
{
	for (size_t at = 0; at < n;) {
		size_t batch = MFS_MIN(n - at, (size_t)CHANGE_MAX_WRITES);
		int r = set_atimes(ns, op, v + at, batch);

		/* One of them is gone: one by one, so that the others get theirs. */
		for (size_t i = 0; r == -ESTALE && batch > 1 && i < batch; i++) {
			r = set_atimes(ns, op, v + at + i, 1);
			if (r == 0)
				r = -ESTALE;
		}
		if (r < 0 && r != -ESTALE)
			return r;
		at += batch;
	}
	return 0;
}
