/* Where a hit of a search is, and whether the caller may see it: its directories up to the root, remembered. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/op_ctx.h"
#include "fs/search_internal.h"

#define DEPTH_MAX 65536
#define PATH_MAX_BYTES ((size_t)16 << 20)

static struct search_dir *slot_of(struct searching *x, mfs_ino_t ino)
{
	return &x->dirs[(ino * UINT64_C(0x9E3779B97F4A7C15)) >> 48];
}

static bool may(const struct searching *x, const struct node *n, int mask)
{
	return !x->s->cred || namespace_access(n, x->s->cred, mask) == 0;
}

/* 1, 0: it is no directory any more; -errno. */
static int read_dir(struct searching *x, mfs_ino_t ino, struct search_dir **ret)
{
	struct search_dir *d = slot_of(x, ino);
	struct node n = NODE_INIT;
	char *name;
	int r;

	*ret = d;
	if (d->ino == ino)
		return 1;
	r = namespace_get(x->ns, x->op, ino, &n);
	if (r < 0)
		return r == -ESTALE || r == -ENOENT ? 0 : r;
	r = attr_is_dir(&n.attr) && (n.parent || ino == MFS_ROOT_INO);
	name = r ? strdup(n.name.bytes) : NULL;
	if (r && !name)
		r = -ENOMEM;
	if (r == 1) {
		free(d->name);
		*d = (struct search_dir){ .ino = ino, .parent = n.parent, .name = name, .may_search = may(x, &n, X_OK),
					  .may_read = may(x, &n, R_OK) };
	}
	node_release(&n);
	return r;
}

/* Puts the names from dir up to the root before what is in x->path, with rights checked. *below: at or below s->dir. */
static int climb(struct searching *x, mfs_ino_t dir, bool *ret_below)
{
	bool below = false;

	for (unsigned int depth = 0; depth < DEPTH_MAX; depth++) {
		struct search_dir *d;
		int r = read_dir(x, dir, &d);

		if (r <= 0)
			return r;
		if (!d->may_search || (!below && !d->may_read))
			return 0;
		if (dir == x->s->dir) {
			below = true;
			x->below = x->path.len; /* counted from the end while names come to the front */
		}
		if (dir == MFS_ROOT_INO) {
			*ret_below = below;
			x->below = x->path.len - x->below;
			return 1;
		}
		if (x->path.len) {
			r = mfs_buf_prepend(&x->path, "/", 1);
			if (r < 0)
				return r;
		}
		r = mfs_buf_prepend(&x->path, d->name, strlen(d->name));
		if (r < 0)
			return r;
		dir = d->parent;
	}
	return 0;
}

int search_place(struct searching *x, mfs_ino_t parent, const struct mfs_name *name)
{
	bool below = false;
	int r;

	if (!parent || !x->dir_visible)
		return 0;
	mfs_buf_clear(&x->path);
	r = mfs_buf_append(&x->path, name->bytes, name->len);
	if (r == 0)
		r = climb(x, parent, &below);
	return r <= 0 ? r : below;
}

int search_place_dir(struct searching *x)
{
	if (!x->dir_visible)
		return 0;
	mfs_buf_clear(&x->path);
	x->below = 0;
	if (x->s->dir != MFS_ROOT_INO) {
		int r = namespace_path(x->ns, x->op, x->s->dir, &x->path);

		if (r < 0)
			return r == -ENOENT || r == -ESTALE ? 0 : r;
		x->below = x->path.len;
	}
	return 1;
}

/* Above the directory only search permission is wanted, for it may have been named without being listed. */
int search_place_start(struct searching *x)
{
	mfs_ino_t dir = x->s->dir;

	x->path = (struct mfs_buf)MFS_BUF_INIT(PATH_MAX_BYTES);
	x->dirs = calloc(SEARCH_DIRS, sizeof(*x->dirs));
	if (!x->dirs)
		return -ENOMEM;
	for (unsigned int depth = 0; depth < DEPTH_MAX; depth++) {
		struct search_dir *d;
		int r = read_dir(x, dir, &d);

		if (r <= 0)
			return r < 0 ? r : dir == x->s->dir ? -ENOTDIR : -ENOENT;
		if (!d->may_search)
			return -EACCES;
		if (dir == MFS_ROOT_INO) {
			x->dir_visible = true;
			return 0;
		}
		dir = d->parent;
	}
	return -ELOOP;
}

void search_place_end(struct searching *x)
{
	for (size_t i = 0; x->dirs && i < SEARCH_DIRS; i++)
		free(x->dirs[i].name);
	free(x->dirs);
	mfs_buf_release(&x->path);
}
