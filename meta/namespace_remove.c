/*
 * Names that go: unlink and rmdir, and what a rename does to the file it replaces.
 *
 * A file loses one of several names: the alias record is deleted; or, when the record's own name goes, its oldest
 * alias is deleted and its place given to the record. The last name: files and symlinks go to trash with their path,
 * all else is deleted.
 */
#include "meta/namespace_internal.h"

void ns_removal_release(struct ns_removal *m)
{
	node_release(&m->set);
	free(m->path);
	m->path = NULL;
}

static int take_path(struct ns_op *x, const struct entry *e, struct ns_removal *room)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(NS_PATH_MAX);
	int r = ns_path(x->ns, x->op, e->parent, &e->name, &path);

	if (r < 0)
		return r == -ENOENT ? -EAGAIN
				    : r; /* a directory above was moved while we looked, or is gone */
	room->path = mfs_buf_take(&path);
	return room->path ? 0 : -ENOMEM;
}

/*
 * One name of several goes; (parent, name) is the record's own afterwards. Where the object is at the lost name's key,
 * the key shall show what is there now. And unless it is at the own name's, the file is looked at: it may also be at a
 * key that the lost name had before a directory above it moved, and the walk of that directory, which is still to
 * come, does not find the file there any more.
 */
static int queue_left_key(struct ns_op *x, const struct entry *e, mfs_ino_t parent, const struct mfs_name *name)
{
	int r;

	if (object_ref_is_empty(&e->node.ref))
		return 0;
	r = ns_ref_is_at(x->ns, x->op, &e->node, e->parent, &e->name);
	if (r > 0)
		r = ns_job_key(x, e->node.ref.key);
	else if (r == 0 && (r = ns_ref_is_at(x->ns, x->op, &e->node, parent, name)) > 0)
		return 0;
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r;
	return ns_job_file(x, e->node.attr.ino, x->now);
}

static struct write *edit_of(struct ns_op *x, enum write_kind kind, const struct entry *e,
			     struct ns_removal *room, struct mfs_attr *ret)
{
	struct write *w = change_write(&x->c, kind, e->node.attr.ino);

	room->set.attr.ctime = x->now;
	w->node = &room->set;
	w->mask = EDIT_CTIME;
	w->nlink_delta = -1;
	w->ret_attr = ret;
	ns_expect_ver(w, e->node.attr.ver);
	return w;
}

static int remove_alias(struct ns_op *x, const struct entry *e, struct ns_removal *room, struct mfs_attr *ret)
{
	ns_expect_name(change_write(&x->c, WRITE_ALIAS_DELETE, e->id), e->parent, &e->name);
	edit_of(x, WRITE_EDIT, e, room, ret);
	return queue_left_key(x, e, e->node.parent, &e->node.name);
}

/* The expectation on ver holds for the aliases too: whatever changes one of them writes the main record. */
static int promote_heir(struct ns_op *x, const struct entry *e, struct ns_removal *room, struct mfs_attr *ret)
{
	ns_expect_name(change_write(&x->c, WRITE_ALIAS_DELETE, room->heir.id), room->heir.parent,
		       &room->heir.name);
	room->set.parent = room->heir.parent;
	room->set.name = room->heir.name;
	room->set.pos = room->heir.id;
	edit_of(x, WRITE_RENAME, e, room, ret);
	return queue_left_key(x, e, room->heir.parent, &room->heir.name);
}

static int to_trash(struct ns_op *x, const struct entry *e, struct ns_removal *room, struct mfs_attr *ret)
{
	const struct namespace_hooks *h = &x->ns->opt.hooks;
	struct write *w;
	int r = take_path(x, e, room);

	if (r < 0)
		return r;
	room->set.trash_path = MFS_TAKE(room->path);
	room->set.trash_time = x->now;
	if (h->is_open && h->is_open(h->arg, e->node.attr.ino)) {
		r = node_blob_add_u64(&room->set.openers, x->ns->e->session);
		if (r < 0)
			return r;
	}
	w = edit_of(x, WRITE_TRASH, e, room, ret);
	w->nlink_delta = -(int32_t)e->node.attr.nlink;
	return object_ref_is_empty(&e->node.ref) ? 0 : ns_job_key(x, e->node.ref.key);
}

static int delete_record(struct ns_op *x, const struct entry *e, struct mfs_attr *ret)
{
	struct write *w = change_write(&x->c, WRITE_DELETE, e->node.attr.ino);

	ns_expect_ver(w, e->node.attr.ver);
	*ret = e->node.attr;
	ret->nlink = 0;
	ret->ctime = x->now;
	ret->ver++;
	return 0;
}

int ns_remove_name(struct ns_op *x, const struct entry *e, struct ns_removal *room, struct mfs_attr *ret)
{
	const struct mfs_attr *a = &e->node.attr;
	int r;

	if (!ns_is_main(e))
		return remove_alias(x, e, room, ret);
	if (a->nlink > 1) {
		r = engine_aliases(x->ns->e, x->op, a->ino, &room->heir, 1);
		if (r < 0)
			return r;
		/* None: the count is wrong (ver shows that nobody changed it meanwhile) and this is the last name. */
		if (r > 0)
			return promote_heir(x, e, room, ret);
	}
	if (S_ISREG(a->mode) || S_ISLNK(a->mode))
		return to_trash(x, e, room, ret);
	return delete_record(x, e, ret);
}

static int unlink_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
		       struct mfs_attr *ret)
{
	NS_AUTOREMOVAL struct ns_removal room = { 0 };
	NS_AUTOOP struct ns_op x;
	struct mfs_attr done;
	struct entry e;
	int r;

	ns_op_init(&x, ns, op);
	r = engine_lookup(ns->e, op, parent, name, &e);
	if (r < 0)
		return r;
	r = attr_is_dir(&e.node.attr) ? -EISDIR : ns_remove_name(&x, &e, &room, &done);
	if (r == 0) {
		change_touch(&x.c, parent, x.now, -1, 0);
		r = ns_op_apply(&x);
	}
	entry_release(&e);
	if (r == 0)
		*ret = done;
	return r;
}

int namespace_unlink(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const char *name, size_t len,
		     struct mfs_attr *ret)
{
	struct mfs_name n;
	int r = ns_old_name(parent, name, len, &n);

	if (r < 0)
		return r;
	for (unsigned int i = 0;; i++) {
		r = unlink_once(ns, op, parent, &n, ret);
		if (!ns_again(op, "unlink", parent, i, &r))
			return r;
	}
}

static int rmdir_apply(struct namespace *ns, struct op_ctx *op, const struct entry *e, struct mfs_attr *ret)
{
	NS_AUTOOP struct ns_op x;
	mfs_ino_t ino = e->node.attr.ino;
	int r;

	ns_op_init(&x, ns, op);
	ns_expect_name(change_write(&x.c, WRITE_DELETE, ino), e->parent, &e->name);
	change_touch(&x.c, e->parent, x.now, -1, 0)->subdir_delta = -1;
	x.c.no_child = ino;
	ns_dir_move_begin(ns, ino, 0);
	r = ns_op_apply(&x);
	ns_dir_move_end(ns, ino, 0);
	if (r < 0)
		return r;
	*ret = e->node.attr;
	ret->nlink = 0;
	ret->ctime = x.now;
	return 0;
}

static int rmdir_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
		      struct mfs_attr *ret)
{
	struct entry e;
	int r = engine_lookup(ns->e, op, parent, name, &e);

	if (r < 0)
		return r;
	r = attr_is_dir(&e.node.attr) ? rmdir_apply(ns, op, &e, ret) : -ENOTDIR;
	entry_release(&e);
	return r;
}

int namespace_rmdir(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const char *name, size_t len,
		    struct mfs_attr *ret)
{
	struct mfs_name n;
	int r = ns_old_name(parent, name, len, &n);

	if (r < 0)
		return r;
	for (unsigned int i = 0;; i++) {
		r = rmdir_once(ns, op, parent, &n, ret);
		if (!ns_again(op, "rmdir", parent, i, &r))
			return r;
	}
}
