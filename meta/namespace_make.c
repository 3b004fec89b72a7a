/*
 * Names that come into being: make (open with O_CREAT, mkdir, mknod, symlink) and link.
 */
#include "meta/acl.h"
#include "meta/namespace_internal.h"
#include "meta/schema.h"

/* A new access ACL from the directory's default one, and the default ACL itself for a directory. */
static int inherit_acl(const struct node *parent, struct node *n)
{
	const struct node_xattr *def = node_xattr_find(parent, ACL_XATTR_DEFAULT);
	MFS_AUTOFREE void *blob = NULL;
	struct acl a = ACL_INIT;
	size_t size;
	int r;

	r = acl_parse(def->value, def->size, &a);
	if (r < 0)
		return -EIO; /* it was checked when it was set */
	acl_create(&a, &n->attr.mode);
	r = 0;
	if (!acl_is_mode(&a)) {
		r = acl_encode(&a, &blob, &size);
		if (r == 0)
			r = node_xattr_set(n, ACL_XATTR_ACCESS, blob, size);
	}
	if (r == 0 && attr_is_dir(&n->attr))
		r = node_xattr_set(n, ACL_XATTR_DEFAULT, def->value, def->size);
	acl_release(&a);
	return r;
}

static int inherit(const struct op_ctx *op, const struct node *parent, struct node *n)
{
	struct mfs_attr *a = &n->attr;

	a->uid = op->uid;
	a->gid = op->gid;
	if (parent->attr.mode & S_ISGID) {
		a->gid = parent->attr.gid;
		if (attr_is_dir(a))
			a->mode |= S_ISGID;
	}
	if (S_ISLNK(a->mode))
		return 0;
	if (parent->attr.flags & ATTR_HAS_DEFAULT_ACL)
		return inherit_acl(parent, n);
	a->mode &= ~((uint32_t)op->umask & 0777u);
	return 0;
}

static int set_symlink(struct node *n, const char *target)
{
	size_t len = target ? strlen(target) : 0;

	if (len == 0)
		return -ENOENT;
	if (len > MFS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	n->symlink = strdup(target);
	if (!n->symlink)
		return -ENOMEM;
	n->attr.size = len;
	return 0;
}

static int set_creator(struct namespace *ns, const struct op_ctx *op, struct node *n)
{
	n->creator_uid = op->uid;
	if (ns->opt.host) {
		n->creator_host = strdup(ns->opt.host);
		if (!n->creator_host)
			return -ENOMEM;
	}
	return ns_user_name(ns, op->uid, &n->creator_user);
}

/* What the directory's storage rules give to whatever is made in it. */
static int give_tags(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, struct node *n, int64_t *ret_grace)
{
	struct ns_held h;
	int r = S_ISREG(n->attr.mode) || S_ISDIR(n->attr.mode) ? ns_rules_of(ns, op, dir, &h) : -ENOENT;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; h.schema && i < h.schema->n_tags && r == 0; i++)
		r = ns_tag_node(n, &h.schema->tags[i]);
	if (h.schema && h.schema->n_demands && S_ISREG(n->attr.mode))
		*ret_grace = h.schema->grace_ns;
	ns_held_release(&h);
	return r;
}

/* *ret_grace: after it the tags that are demanded of it are looked for; -1: none are. */
static int fill_node(struct namespace *ns, struct op_ctx *op, const struct make *m, int64_t now,
		     struct node *n, int64_t *ret_grace)
{
	struct node parent = NODE_INIT;
	struct mfs_attr *a = &n->attr;
	int r;

	*ret_grace = -1;
	a->mode = S_ISLNK(m->mode) ? S_IFLNK | 0777 : m->mode & (S_IFMT | 07777);
	a->rdev = S_ISBLK(m->mode) || S_ISCHR(m->mode) ? m->rdev : 0;
	a->nlink = 1;
	a->ver = a->data = a->lay = 1;
	a->atime = a->mtime = a->ctime = a->btime = now;
	r = S_ISLNK(m->mode) ? set_symlink(n, m->symlink) : 0;
	if (r < 0)
		return r;
	r = ns_get_dir(ns, op, m->parent, &parent);
	if (r < 0)
		return r;
	r = inherit(op, &parent, n);
	node_release(&parent);
	if (r == 0)
		r = give_tags(ns, op, m->parent, n, ret_grace);
	if (r < 0)
		return r;
	node_derive(n);
	return set_creator(ns, op, n);
}

static bool type_is_known(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode) ||
	       S_ISCHR(mode) || S_ISBLK(mode);
}

static int make_once(struct namespace *ns, struct op_ctx *op, const struct make *m,
		     const struct mfs_name *name, struct node *ret)
{
	struct mfs_attr done;
	struct node n = NODE_INIT;
	NS_AUTOOP struct ns_op x;
	struct write *w;
	int64_t grace;
	int r;

	ns_op_init(&x, ns, op);
	r = fill_node(ns, op, m, x.now, &n, &grace);
	if (r == 0)
		r = ns_new_ino(ns, op, &n.attr.ino);
	if (r == 0) {
		n.parent = m->parent;
		n.name = *name;
		n.pos = n.attr.ino;
		w = change_write(&x.c, WRITE_INSERT, n.attr.ino);
		w->node = &n;
		w->ret_attr = &done;
		change_touch(&x.c, m->parent, x.now, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING)->subdir_delta =
			S_ISDIR(m->mode);
		if (ns->opt.key_hides && S_ISDIR(m->mode))
			r = ns_job_file(&x, n.attr.ino, x.now);
	}
	if (r == 0)
		r = ns_demand(&x, n.attr.ino, grace);
	if (r == 0)
		r = ns_op_apply(&x);
	if (r < 0) {
		node_release(&n);
		return r;
	}
	n.attr = done;
	*ret = n;
	return 0;
}

int namespace_make(struct namespace *ns, struct op_ctx *op, const struct make *m, struct node *ret)
{
	struct mfs_name name;
	int r;

	if (!type_is_known(m->mode))
		return -EINVAL;
	r = ns_new_name(m->parent, m->name, m->name_len, &name);
	if (r == 0 && !S_ISDIR(m->mode))
		r = ns_check_name(ns, op, "create", m->parent, &name);
	if (r < 0)
		return r;
	for (unsigned int i = 0;; i++) {
		r = make_once(ns, op, m, &name, ret);
		if (!ns_again(op, "make", m->parent, i, &r))
			return r;
	}
}

/* What may be given one more name. */
static int check_linkable(const struct node *n)
{
	if (attr_is_dir(&n->attr))
		return -EPERM;
	if (n->attr.flags & ATTR_IN_TRASH)
		return -ENOENT;
	return n->attr.nlink >= MFS_LINK_MAX ? -EMLINK : 0;
}

static int link_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct alias *a,
		     struct mfs_attr *ret)
{
	struct node n = NODE_INIT, dir = NODE_INIT, set = NODE_INIT;
	struct mfs_attr done;
	NS_AUTOOP struct ns_op x;
	struct write *w;
	int r;

	ns_op_init(&x, ns, op);
	r = engine_get(ns->e, op, ino, &n);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	r = check_linkable(&n);
	if (r == 0)
		r = ns_get_dir(ns, op, a->parent, &dir);
	node_release(&dir);
	if (r == 0) {
		w = change_write(&x.c, WRITE_EDIT, ino);
		set.attr.ctime = x.now;
		w->node = &set;
		w->mask = EDIT_CTIME;
		w->nlink_delta = 1;
		w->expect.flags = EXPECT_IN_FILES;
		ns_expect_ver(w, n.attr.ver);
		w->ret_attr = &done;
		change_write(&x.c, WRITE_ALIAS_INSERT, a->id)->alias = a;
		change_touch(&x.c, a->parent, x.now, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
		r = ns_op_apply(&x);
	}
	node_release(&n);
	if (r == 0)
		*ret = done;
	return r;
}

int namespace_link(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, mfs_ino_t parent, const char *name,
		   size_t len, struct mfs_attr *ret)
{
	struct alias a = { .parent = parent, .target = ino };
	int r = ns_new_name(parent, name, len, &a.name);

	if (r == 0)
		r = ns_check_name(ns, op, "link", parent, &a.name);
	if (r == 0)
		r = ns_new_ino(ns, op, &a.id);
	if (r < 0)
		return r;
	for (unsigned int i = 0;; i++) {
		r = link_once(ns, op, ino, &a, ret);
		if (!ns_again(op, "link", ino, i, &r))
			return r;
	}
}
