/* The requests of the kernel that the virtual tree answers, and those that it passes on. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "fs/fuse/session.h"
#include "fs/fuse/vtree.h"

#define ROOT_NAME ".massfs"
#define NAMES_PAGE 1000
#define NAMES_ALL  20000 /* tags, or values of one, that a listing shows */

/* A listing as it was when the directory was opened. */
struct vdir {
	struct opened opened;
	struct ventry {
		char *name; /* owned */
		mode_t type;
	} *v;
	size_t n, cap;
};

static struct vtree *tree_of(fuse_req_t req)
{
	const struct massfs *fs = fuse_req_userdata(req);

	return fs->vtree;
}

/* Is the tree here at all: of the whole volume? */
static bool is_root_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	const struct massfs *fs = fuse_req_userdata(req);

	return parent == FUSE_ROOT_ID && fs->vtree && fs->vol->root == MFS_ROOT_INO && strcmp(name, ROOT_NAME) == 0;
}

static void stat_of(fuse_ino_t id, const struct vnode_info *v, struct stat *st)
{
	struct timespec now = mfs_ns_to_timespec(mfs_now_ns());

	memset(st, 0, sizeof(*st));
	st->st_ino = id;
	st->st_nlink = 1;
	st->st_mode = v->kind == VNODE_LINK ? S_IFLNK | 0777 : S_IFDIR | 0555;
	st->st_size = v->kind == VNODE_LINK && v->target ? (off_t)strlen(v->target) : 0;
	st->st_atim = st->st_mtim = st->st_ctim = now;
}

/* What `name` is in the directory: its kind, and a link's target (the caller's). -ENOENT. */
static int resolve(struct request *rq, const struct vnode_info *dir, const char *name, enum vnode_kind *ret_kind, struct vlinks *ret_link)
{
	MFS_AUTOFREE char *plain = malloc(strlen(name) + 1);
	int r = plain ? vtree_decode(name, plain) : -ENOMEM;

	switch (dir->kind) {
	case VNODE_ROOT:
		*ret_kind = strcmp(name, "tags") == 0 ? VNODE_TAGS : VNODE_QUERIES;
		return *ret_kind == VNODE_TAGS || strcmp(name, "query") == 0 ? 0 : -ENOENT;
	case VNODE_TAGS:
		*ret_kind = VNODE_TAG;
		return r < 0 || !*plain ? -ENOENT : 0;
	case VNODE_QUERIES:
		*ret_kind = VNODE_QUERY;
		return r < 0 ? -ENOENT : vtree_check(rq, plain);
	case VNODE_LINK:
		return -ENOTDIR;
	default:
		break;
	}
	/* In a directory of files: a value of the tag, a file, else a further tag. */
	if (r == 0 && dir->kind == VNODE_TAG) {
		*ret_kind = VNODE_VALUE;
		r = vtree_has_value(rq, dir->name, plain);
		if (r)
			return r < 0 ? r : 0;
	}
	*ret_kind = VNODE_LINK;
	if (vtree_links(rq, dir, name, ret_link) == 0 && ret_link->n)
		return 0;
	*ret_kind = VNODE_TAG;
	return r < 0 || dir->kind == VNODE_QUERY ? -ENOENT : 0;
}

static int look_up(struct request *rq, fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	MFS_CLEANUP(vnode_info_release) struct vnode_info dir = { 0 }, found = { 0 };
	MFS_CLEANUP(vlinks_release) struct vlinks link = { 0 };
	enum vnode_kind kind = VNODE_ROOT;
	int r = 0;

	if (vtree_has(parent)) {
		r = vtree_get(rq->fs->vtree, parent, &dir);
		if (r == 0)
			r = resolve(rq, &dir, name, &kind, &link);
	}
	if (r == 0)
		r = vtree_look_up(rq->fs->vtree, parent, name, kind, link.n ? link.v[0].target : NULL, &e->ino);
	if (r < 0)
		return r;
	r = vtree_get(rq->fs->vtree, e->ino, &found);
	if (r < 0) {
		vtree_forget(rq->fs->vtree, e->ino, 1);
		return r;
	}
	e->generation = 1;
	stat_of(e->ino, &found, &e->attr);
	return 0;
}

static void v_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { 0 };
	struct request rq;
	int r;

	if (!vtree_has(parent) && !is_root_name(req, parent, name))
		return op_lookup(req, parent, name);
	request_begin(&rq, req);
	request_interruptible(&rq);
	r = look_up(&rq, parent, name, &e);
	if (r < 0)
		return reply_err(&rq, r);
	request_end(&rq);
	if (fuse_reply_entry(req, &e) < 0)
		vtree_forget(rq.fs->vtree, e.ino, 1);
}

static void v_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	if (!vtree_has(ino))
		return op_forget(req, ino, nlookup);
	vtree_forget(tree_of(req), ino, nlookup);
	fuse_reply_none(req);
}

/* Ours are taken out, the rest passed on. */
static void v_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (vtree_has(forgets[i].ino))
			vtree_forget(tree_of(req), forgets[i].ino, forgets[i].nlookup);
		else
			forgets[kept++] = forgets[i];
	op_forget_multi(req, kept, forgets);
}

static void v_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	MFS_CLEANUP(vnode_info_release) struct vnode_info v = { 0 };
	struct stat st;
	int r;

	if (!vtree_has(ino))
		return op_getattr(req, ino, fi);
	r = vtree_get(tree_of(req), ino, &v);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	stat_of(ino, &v, &st);
	fuse_reply_attr(req, &st, 0);
}

static void v_readlink(fuse_req_t req, fuse_ino_t ino)
{
	MFS_CLEANUP(vnode_info_release) struct vnode_info v = { 0 };
	int r;

	if (!vtree_has(ino))
		return op_readlink(req, ino);
	r = vtree_get(tree_of(req), ino, &v);
	if (r < 0 || !v.target)
		fuse_reply_err(req, r < 0 ? -r : EINVAL);
	else
		fuse_reply_readlink(req, v.target);
}

/* --- listings --- */

static void free_dir(struct vdir *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->v[i].name);
	free(d->v);
	free(d);
}

/* By force, at the end of the mount. */
static void close_dir(struct request *rq, struct opened *o)
{
	struct vdir *d = mfs_container_of(o, struct vdir, opened);

	opened_remove(rq->fs, o);
	free_dir(d);
}

static int add_entry(struct vdir *d, const char *name, mode_t type)
{
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 64;
		struct ventry *v = reallocarray(d->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		d->v = v;
		d->cap = cap;
	}
	d->v[d->n].name = strdup(name);
	d->v[d->n].type = type;
	return d->v[d->n].name ? d->n++, 0 : -ENOMEM;
}

/* Somebody's tags are not told to who sees none of the files. */
static int is_seen(struct request *rq, const char *expr, bool *ret)
{
	*ret = rq->op.uid == 0;
	return *ret ? 0 : vtree_any(rq, expr, ret);
}

static int add_name(struct request *rq, struct vdir *d, const struct vnode_info *dir, const char *tag, const struct node_blob *name)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(EXPR_TEXT_MAX * 2), shown = MFS_BUF_INIT(4 * MFS_NAME_MAX);
	bool seen = false;
	int r = vtree_encode(name->data, name->size, &shown);

	/* What makes no name, or too long a one, can be asked for with a query. */
	if (r < 0 || !shown.len || shown.len > MFS_NAME_MAX || memchr(name->data, '\0', name->size))
		return 0;
	if (dir->expr.len)
		(void)mfs_buf_printf(&text, "(%s) and ", mfs_buf_str(&dir->expr));
	mfs_buf_puts(&text, "tag:");
	if (tag) {
		(void)expr_quote(&text, tag, strlen(tag));
		(void)mfs_buf_putc(&text, '=');
	}
	if (expr_quote(&text, name->data, name->size) < 0)
		return 0;
	r = is_seen(rq, mfs_buf_str(&text), &seen);
	return r < 0 || !seen ? r : add_entry(d, mfs_buf_str(&shown), S_IFDIR);
}

/* Names of tags (tag NULL), or values of one. */
static int add_names(struct request *rq, struct vdir *d, const struct vnode_info *dir, const char *tag)
{
	struct blob_list l = { 0 };
	size_t before = SIZE_MAX;
	int r = 0;

	while (r == 0 && l.n != before && l.n < NAMES_ALL) {
		const struct node_blob *last = l.n ? &l.v[l.n - 1] : NULL;

		before = l.n;
		r = engine_tag_names(rq->fs->vol->engine, &rq->op, tag, last ? last->data : NULL, last ? last->size : 0, NAMES_PAGE, &l);
	}
	for (size_t i = 0; r == 0 && i < l.n; i++)
		r = add_name(rq, d, dir, tag, &l.v[i]);
	blob_list_release(&l);
	return r == -ENOTSUP ? 0 : r;
}

static int add_links(struct request *rq, struct vdir *d, const struct vnode_info *dir)
{
	MFS_CLEANUP(vlinks_release) struct vlinks l = { 0 };
	int r = vtree_links(rq, dir, NULL, &l);

	for (size_t i = 0; r == 0 && i < l.n; i++)
		r = add_entry(d, l.v[i].name, S_IFLNK);
	return r;
}

static int fill(struct request *rq, const struct vnode_info *dir, struct vdir *d)
{
	int r = add_entry(d, ".", S_IFDIR);

	if (r == 0)
		r = add_entry(d, "..", S_IFDIR);
	if (r < 0)
		return r;
	switch (dir->kind) {
	case VNODE_ROOT:
		r = add_entry(d, "tags", S_IFDIR);
		return r < 0 ? r : add_entry(d, "query", S_IFDIR);
	case VNODE_TAGS:
		return add_names(rq, d, dir, NULL);
	case VNODE_TAG:
		r = add_names(rq, d, dir, dir->name);
		return r < 0 ? r : add_links(rq, d, dir);
	case VNODE_VALUE:
	case VNODE_QUERY:
		return add_links(rq, d, dir);
	case VNODE_QUERIES:
		return 0;
	case VNODE_LINK:
		break;
	}
	return -ENOTDIR;
}

static void v_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	MFS_CLEANUP(vnode_info_release) struct vnode_info dir = { 0 };
	struct request rq;
	struct vdir *d;
	int r;

	if (!vtree_has(ino))
		return op_opendir(req, ino, fi);
	request_begin(&rq, req);
	request_interruptible(&rq); /* it may take long */
	d = calloc(1, sizeof(*d));
	if (!d)
		return reply_err(&rq, -ENOMEM);
	d->opened.close = close_dir;
	r = vtree_get(rq.fs->vtree, ino, &dir);
	if (r == 0)
		r = fill(&rq, &dir, d);
	if (r < 0) {
		free_dir(d);
		return reply_err(&rq, r);
	}
	opened_add(rq.fs, &d->opened);
	fi->fh = (uintptr_t)d;
	request_end(&rq);
	if (fuse_reply_open(req, fi) < 0)
		close_dir(&rq, &d->opened);
}

/* With plus: no inode goes with an entry, so the kernel asks for those that it wants to know of. */
static void list(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct vdir *d = (struct vdir *)(uintptr_t)fi->fh;
	MFS_AUTOFREE char *buf = malloc(size);
	size_t used = 0;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (size_t i = off > 0 ? (size_t)off : 0; i < d->n; i++) {
		struct fuse_entry_param e = { .attr = { .st_ino = VTREE_BIT, .st_mode = d->v[i].type } };
		size_t need = plus ? fuse_add_direntry_plus(req, buf + used, size - used, d->v[i].name, &e, (off_t)i + 1) :
				     fuse_add_direntry(req, buf + used, size - used, d->v[i].name, &e.attr, (off_t)i + 1);

		if (need > size - used)
			break;
		used += need;
	}
	fuse_reply_buf(req, buf, used);
}

static void v_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (vtree_has(ino))
		list(req, size, off, fi, false);
	else
		op_readdir(req, ino, size, off, fi);
}

static void v_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (vtree_has(ino))
		list(req, size, off, fi, true);
	else
		op_readdirplus(req, ino, size, off, fi);
}

static void v_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct request rq;

	if (!vtree_has(ino))
		return op_releasedir(req, ino, fi);
	request_begin(&rq, req);
	close_dir(&rq, &((struct vdir *)(uintptr_t)fi->fh)->opened);
	reply_err(&rq, 0);
}

/* --- what cannot be done here --- */

static bool refused(fuse_req_t req, fuse_ino_t ino, int err)
{
	if (!vtree_has(ino))
		return false;
	fuse_reply_err(req, err);
	return true;
}

static void v_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	if (!refused(req, ino, 0))
		op_fsyncdir(req, ino, datasync, fi);
}

static void v_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	if (!refused(req, ino, EPERM))
		op_setattr(req, ino, attr, to_set, fi);
}

static void v_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	if (!refused(req, parent, EPERM))
		op_mknod(req, parent, name, mode, rdev);
}

static void v_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	if (!refused(req, parent, EPERM))
		op_mkdir(req, parent, name, mode);
}

static void v_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (!refused(req, parent, EPERM))
		op_symlink(req, target, parent, name);
}

static void v_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	if (!refused(req, ino | parent, EPERM))
		op_link(req, ino, parent, name);
}

static void v_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!refused(req, parent, EPERM))
		op_unlink(req, parent, name);
}

static void v_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!refused(req, is_root_name(req, parent, name) ? VTREE_BIT : parent, EPERM))
		op_rmdir(req, parent, name);
}

static void v_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned int flags)
{
	if (!refused(req, is_root_name(req, parent, name) ? VTREE_BIT : parent | to, EPERM))
		op_rename(req, parent, name, to, to_name, flags);
}

static void v_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	if (!refused(req, parent, EPERM))
		op_create(req, parent, name, mode, fi);
}

static void v_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!refused(req, ino, EPERM))
		op_open(req, ino, fi);
}

static void v_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	if (!refused(req, ino, EPERM))
		op_setxattr(req, ino, name, value, size, flags);
}

static void v_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	if (!refused(req, ino, ENODATA))
		op_getxattr(req, ino, name, size);
}

static void v_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	if (!vtree_has(ino))
		op_listxattr(req, ino, size);
	else if (size)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_xattr(req, 0);
}

static void v_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	if (!refused(req, ino, EPERM))
		op_removexattr(req, ino, name);
}

void vtree_wrap(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = v_lookup;
	ops->forget = v_forget;
	ops->forget_multi = v_forget_multi;
	ops->getattr = v_getattr;
	ops->setattr = v_setattr;
	ops->readlink = v_readlink;
	ops->mknod = v_mknod;
	ops->mkdir = v_mkdir;
	ops->symlink = v_symlink;
	ops->link = v_link;
	ops->unlink = v_unlink;
	ops->rmdir = v_rmdir;
	ops->rename = v_rename;
	ops->create = v_create;
	ops->open = v_open;
	ops->opendir = v_opendir;
	ops->readdir = v_readdir;
	ops->readdirplus = v_readdirplus;
	ops->releasedir = v_releasedir;
	ops->fsyncdir = v_fsyncdir;
	ops->setxattr = v_setxattr;
	ops->getxattr = v_getxattr;
	ops->listxattr = v_listxattr;
	ops->removexattr = v_removexattr;
}
