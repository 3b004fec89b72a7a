/*
 * A search without an index: every directory below the one that was asked about, as far as the caller may read.
 * The numbers are gathered first (8 bytes a file) and looked at in their order, as with an index.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/op_ctx.h"
#include "fs/search_internal.h"

#define PAGE	  1000

struct inos {
	mfs_ino_t *v;
	size_t n, cap;
};

static int add_ino(struct inos *l, mfs_ino_t ino)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 1024;
		mfs_ino_t *v = reallocarray(l->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = ino;
	return 0;
}

/* One directory: its files to `files`, the directories in it to `dirs`. */
static int walk_dir(struct searching *x, mfs_ino_t dir, struct inos *files, struct inos *dirs)
{
	struct node_list page = NODE_LIST_INIT;
	uint64_t after = 0;
	bool more = true;
	int r = 0;

	while (r == 0 && more) {
		if (atomic_load(&x->op->cancelled))
			r = -ECANCELED;
		x->stats.queries++;
		if (r == 0)
			r = namespace_list(x->ns, x->op, dir, after, PAGE, &page);
		more = r == 0 && page.n == PAGE;
		for (size_t i = 0; r == 0 && i < page.n; i++) {
			const struct node *n = &page.v[i];

			after = n->pos;
			r = add_ino(files, n->attr.ino);
			if (r == 0 && attr_is_dir(&n->attr))
				r = add_ino(dirs, n->attr.ino);
		}
		node_list_release(&page);
	}
	return r;
}

static int may_list(struct searching *x, mfs_ino_t dir)
{
	struct node n = NODE_INIT;
	int r;

	x->stats.queries++;
	r = namespace_get(x->ns, x->op, dir, &n);
	if (r < 0)
		return r == -ESTALE || r == -ENOENT ? 0 : r;
	r = attr_is_dir(&n.attr) && (!x->s->cred || namespace_access(&n, x->s->cred, R_OK | X_OK) == 0);
	node_release(&n);
	return r;
}

static int gather(struct searching *x, struct inos *files)
{
	struct inos dirs = { 0 };
	int r = add_ino(&dirs, x->s->dir);

	if (r == 0)
		r = add_ino(files, x->s->dir);
	while (r == 0 && dirs.n) {
		mfs_ino_t dir = dirs.v[--dirs.n];

		r = may_list(x, dir);
		if (r == 1)
			r = walk_dir(x, dir, files, &dirs);
	}
	free(dirs.v);
	return r;
}

static int compare_inos(const void *a, const void *b)
{
	mfs_ino_t x = *(const mfs_ino_t *)a, y = *(const mfs_ino_t *)b;

	return (x > y) - (x < y);
}

int search_walk(struct searching *x)
{
	struct inos files = { 0 };
	int r = gather(x, &files);

	if (files.n)
		qsort(files.v, files.n, sizeof(*files.v), compare_inos);
	for (size_t i = 0; r == 0 && i < files.n; i++) {
		struct node n = NODE_INIT;

		if ((i && files.v[i] == files.v[i - 1]) || files.v[i] <= x->s->after)
			continue; /* a hard link's second name */
		if (x->s->order == SEARCH_BY_INODE && x->s->limit && x->stats.hits >= x->s->limit)
			break;
		if (atomic_load(&x->op->cancelled)) {
			r = -ECANCELED;
			break;
		}
		x->stats.queries++;
		r = namespace_get(x->ns, x->op, files.v[i], &n);
		if (r == -ESTALE || r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r == 0)
			r = search_consider(x, &n);
		node_release(&n);
	}
	free(files.v);
	return r;
}
