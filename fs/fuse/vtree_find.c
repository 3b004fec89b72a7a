/* The files of a search as the links of a virtual directory: named, made distinct, with what they point to. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "fs/fuse/vtree.h"
#include "meta/tags.h"

void vlinks_release(struct vlinks *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].name);
		free(l->v[i].target);
	}
	free(l->v);
	*l = (struct vlinks){ 0 };
}

struct hit {
	mfs_ino_t ino;
	char *path; /* owned */
};

struct finding {
	struct hit *v;
	size_t n, cap;
	const char *name; /* NULL: every one */
	mfs_ino_t only;	  /* 0: any */
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int take_hit(void *arg, const struct search_hit *h)
{
	struct finding *x = arg;
	char *path;

	if (!*h->path || (x->only && h->node->attr.ino != x->only) || (x->name && strcmp(base_name(h->path), x->name) != 0))
		return 0;
	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 64;
		struct hit *v = reallocarray(x->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		x->v = v;
		x->cap = cap;
	}
	path = strdup(h->path);
	if (!path)
		return -ENOMEM;
	x->v[x->n++] = (struct hit){ .ino = h->node->attr.ino, .path = path };
	return 0;
}

static void release_hits(struct finding *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->v[i].path);
	free(x->v);
}

static int parse(struct request *rq, const char *text, struct expr **ret)
{
	const struct expr_env env = { .now = mfs_now_ns(), .user = search_user };
	MFS_AUTOFREE char *reason = NULL;
	size_t column;
	int r = expr_parse(text, strlen(text), &env, ret, &column, &reason);

	if (r == -EINVAL)
		mfs_log(MFS_LOG_FS, MFS_LOG_DEBUG, &rq->op, "query=%s column %zu: %s", text, column, reason);
	return r;
}

int vtree_check(struct request *rq, const char *expr)
{
	struct expr *e = NULL;
	int r = parse(rq, expr, &e);

	expr_free(e);
	return r;
}

/* As whom the search is made. */
static int caller(struct request *rq, struct mfs_cred *ret, gid_t **ret_groups)
{
	int n = request_groups(rq, ret_groups);

	if (n < 0)
		return n;
	*ret = (struct mfs_cred){ .uid = rq->op.uid, .gid = rq->op.gid, .groups = *ret_groups, .n_groups = (size_t)n };
	return 0;
}

static int run(struct request *rq, const char *text, uint64_t limit, struct finding *x)
{
	MFS_AUTOFREE gid_t *groups = NULL;
	MFS_AUTOEXPR struct expr *e = NULL;
	struct search_stats st;
	struct mfs_cred cred;
	struct search s = { .dir = rq->fs->vol->root, .cred = &cred, .limit = limit };
	int r = caller(rq, &cred, &groups);

	if (r == 0)
		r = parse(rq, text, &e);
	if (r < 0)
		return r;
	s.expr = e;
	r = search_run(rq->fs->vol->ns, &rq->op, &s, take_hit, x, &st);
	if (r == 0 && st.next && limit == VTREE_LINKS)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &rq->op, "query=%s more than %d files: not all are shown; narrow it, or use massfs find", text,
			VTREE_LINKS);
	return r;
}

static int by_name(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;
	int order = strcmp(base_name(x->path), base_name(y->path));

	return order ? order : (x->ino > y->ino) - (x->ino < y->ino);
}

static int add_link(struct vlinks *l, const struct hit *h, unsigned int depth, bool distinct)
{
	MFS_AUTOBUF struct mfs_buf target = MFS_BUF_INIT(16 * MFS_MIB);
	char *name = NULL;

	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct vlink *v = reallocarray(l->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	for (unsigned int i = 0; i < depth; i++)
		(void)mfs_buf_puts(&target, "../");
	if (mfs_buf_puts(&target, h->path) < 0)
		return -ENOMEM;
	name = distinct ? mfs_str_printf("%s~%" PRIu64, base_name(h->path), h->ino) : strdup(base_name(h->path));
	if (!name)
		return -ENOMEM;
	l->v[l->n] = (struct vlink){ .name = name, .target = mfs_buf_take(&target) };
	return l->v[l->n++].target ? 0 : -ENOMEM;
}

/* All of those that share a name get their number behind it, so that a name means one file whoever else comes. */
static int make_links(struct finding *x, unsigned int depth, struct vlinks *ret)
{
	int r = 0;

	if (x->n)
		qsort(x->v, x->n, sizeof(*x->v), by_name);
	for (size_t i = 0; r == 0 && i < x->n; i++) {
		const char *name = base_name(x->v[i].path);
		bool shared = (i && strcmp(base_name(x->v[i - 1].path), name) == 0) ||
			      (i + 1 < x->n && strcmp(base_name(x->v[i + 1].path), name) == 0);

		r = add_link(ret, &x->v[i], depth, shared);
	}
	return r;
}

/* The search with its name in it, so that the index has less to give. */
static int search_named(struct request *rq, const struct vnode_info *dir, struct finding *x)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(EXPR_TEXT_MAX * 2);

	(void)mfs_buf_printf(&text, "(%s) and name = ", mfs_buf_str(&dir->expr));
	if (expr_quote(&text, x->name, strlen(x->name)) < 0)
		return -ENAMETOOLONG;
	return run(rq, mfs_buf_str(&text), VTREE_LINKS, x);
}

static int one_link(struct request *rq, const struct vnode_info *dir, const char *name, struct vlinks *ret)
{
	struct finding x = { .name = name };
	const char *tilde = strrchr(name, '~');
	MFS_AUTOFREE char *base = NULL;
	uint64_t ino = 0;
	int r = search_named(rq, dir, &x);

	if (r == 0 && x.n == 0 && tilde && tilde != name && mfs_str_uint(tilde + 1, 10, 1, INT64_MAX, &ino) == 0) {
		base = strndup(name, (size_t)(tilde - name));
		if (!base)
			return -ENOMEM;
		x.name = base;
		x.only = ino;
		r = search_named(rq, dir, &x);
	}
	/* A name of several, asked for without a number, is nobody's: the listing does not have it. */
	if (r == 0 && x.n == 1)
		r = add_link(ret, &x.v[0], dir->depth, ino != 0);
	release_hits(&x);
	return r;
}

int vtree_links(struct request *rq, const struct vnode_info *dir, const char *name, struct vlinks *ret)
{
	struct finding x = { 0 };
	int r;

	if (name)
		return one_link(rq, dir, name, ret);
	r = run(rq, mfs_buf_str(&dir->expr), VTREE_LINKS, &x);
	if (r == 0)
		r = make_links(&x, dir->depth, ret);
	release_hits(&x);
	return r;
}

int vtree_any(struct request *rq, const char *expr, bool *ret)
{
	struct finding x = { 0 };
	int r = run(rq, expr, 2, &x); /* the root of the volume is a hit, and no link */

	*ret = x.n > 0;
	release_hits(&x);
	return r;
}

int vtree_has_value(struct request *rq, const char *tag, const char *value)
{
	struct expr_term t = { .kind = EXPR_COMPARE, .field = FIELD_TAG, .op = OP_EQ, .tag = (char *)(uintptr_t)tag,
			       .value = (char *)(uintptr_t)value, .size = strlen(value) };
	struct node_list l = NODE_LIST_INIT;
	int r = engine_find(rq->fs->vol->engine, &rq->op, &t, 0, 1, &l);

	if (r == 0)
		r = l.n > 0;
	node_list_release(&l);
	return r;
}
