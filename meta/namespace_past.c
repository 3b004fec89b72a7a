/*
 * What was: the versions and removed files of a path, and bringing a removed file back.
 */
#include "meta/namespace_internal.h"

void past_list_release(struct past_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		object_ref_release(&l->v[i].ref);
		free(l->v[i].slices.data);
		free(l->v[i].inline_data.data);
	}
	free(l->v);
	*l = (struct past_list){ 0 };
}

static struct past *add(struct past_list *l)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 8;
		struct past *v = realloc(l->v, cap * sizeof(*v));

		if (!v)
			return NULL;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n] = (struct past){ 0 };
	return &l->v[l->n++];
}

static int add_versions(struct namespace *ns, struct op_ctx *op, const char *path, struct past_list *ret)
{
	struct version_list l = { 0 };
	int r = engine_versions_by_path(ns->e, op, path, &l);

	for (size_t i = 0; r == 0 && i < l.n; i++) {
		struct version_record *v = &l.v[i];
		struct past *p = add(ret);

		if (!p) {
			r = -ENOMEM;
			break;
		}
		*p = (struct past){ .ino = v->ino,
				    .data = v->data,
				    .size = v->size,
				    .obj_len = v->obj_len,
				    .mtime = v->mtime,
				    .ended = v->replaced,
				    .until = v->until,
				    .mode = v->mode,
				    .uid = v->uid,
				    .gid = v->gid };
		memcpy(p->etag, v->etag, sizeof(p->etag));
		p->ref = v->ref;
		p->slices = v->slices;
		p->inline_data = v->inline_data;
		v->ref = (struct object_ref){ 0 };
		v->slices = v->inline_data = (struct node_blob){ 0 };
	}
	version_list_release(&l);
	return r;
}

static int add_trash(struct namespace *ns, struct op_ctx *op, const char *path, struct past_list *ret)
{
	struct node_list l = NODE_LIST_INIT;
	int r = engine_trash_by_path(ns->e, op, path, &l);

	for (size_t i = 0; r == 0 && i < l.n; i++) {
		struct node *n = &l.v[i];
		struct past *p = add(ret);

		if (!p) {
			r = -ENOMEM;
			break;
		}
		*p = (struct past){ .is_trash = true,
				    .ino = n->attr.ino,
				    .data = n->attr.data,
				    .size = n->attr.size,
				    .obj_len = n->attr.obj_len,
				    .mtime = n->attr.mtime,
				    .ended = n->trash_time,
				    .mode = n->attr.mode,
				    .uid = n->attr.uid,
				    .gid = n->attr.gid };
		if (__builtin_add_overflow(n->trash_time, ns->opt.retention_ns, &p->until))
			p->until = INT64_MAX;
		memcpy(p->etag, n->etag, sizeof(p->etag));
		p->ref = n->ref;
		p->slices = n->slices;
		p->inline_data = n->inline_data;
		n->ref = (struct object_ref){ 0 };
		n->slices = n->inline_data = (struct node_blob){ 0 };
	}
	node_list_release(&l);
	return r;
}

/* Of one inode and one moment, the later content first. */
static int newest_first(const void *a, const void *b)
{
	const struct past *x = a, *y = b;

	if (x->ended != y->ended)
		return (x->ended < y->ended) - (x->ended > y->ended);
	if (x->ino == y->ino)
		return (x->data < y->data) - (x->data > y->data);
	return (x->ino < y->ino) - (x->ino > y->ino);
}

int namespace_past(struct namespace *ns, struct op_ctx *op, const char *path, struct past_list *ret)
{
	struct past_list l = { 0 };
	int r = add_versions(ns, op, path, &l);

	if (r == 0)
		r = add_trash(ns, op, path, &l);
	if (r < 0) {
		past_list_release(&l);
		return r;
	}
	if (l.n > 1)
		qsort(l.v, l.n, sizeof(*l.v), newest_first);
	*ret = l;
	return 0;
}

/* Its key shows that the file was removed (or something newer): it has to be made again even if it is the right one. */
static int queue_undeleted(struct ns_op *x, const struct node *n, mfs_ino_t parent,
			   const struct mfs_name *name)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(NS_PATH_MAX);
	int r;

	if (object_ref_is_empty(&n->ref))
		return 0;
	r = ns_name_key(x->ns, x->op, parent, name, n->attr.ino, &key);
	return r < 0 ? r : ns_job_place(x, key.data, n->attr.ino);
}

static int undelete_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, mfs_ino_t parent,
			 const struct mfs_name *name, struct mfs_attr *ret)
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
	r = n.attr.flags & ATTR_IN_TRASH ? ns_get_dir(ns, op, parent, &dir) : -ENOENT;
	node_release(&dir);
	if (r == 0)
		r = queue_undeleted(&x, &n, parent, name);
	if (r == 0) {
		set.attr.ctime = x.now;
		set.parent = parent;
		set.name = *name;
		set.pos = ino;
		w = change_write(&x.c, WRITE_UNTRASH, ino);
		w->node = &set;
		w->mask = EDIT_CTIME;
		/* Not a whole object: the reconciler left it alone while it was in the trash. */
		if (n.inline_data.size || n.slices.size || n.todo) {
			set.todo = x.now;
			w->mask |= EDIT_TODO;
		}
		w->nlink_delta = 1;
		w->ret_attr = &done;
		w->expect.flags = EXPECT_IN_TRASH;
		ns_expect_ver(w, n.attr.ver);
		change_touch(&x.c, parent, x.now, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
		r = ns_op_apply(&x);
	}
	node_release(&n);
	if (r == 0)
		*ret = done;
	return r;
}

int namespace_undelete(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, mfs_ino_t parent,
		       const char *name, size_t len, struct mfs_attr *ret)
{
	struct mfs_name n;
	int r = ns_new_name(parent, name, len, &n);

	if (r < 0)
		return r;
	for (unsigned int i = 0;; i++) {
		r = undelete_once(ns, op, ino, parent, &n, ret);
		if (!ns_again(op, "undelete", ino, i, &r))
			return r;
	}
}
