/* The nodes of the virtual tree that the kernel knows of. */
#include "fs/fuse/vtree.h"

#include <stdlib.h>
#include <string.h>

#include "common/sync.h"

#define BUCKETS	  1024
#define NODES_MAX 200000

struct vnode {
	struct vnode *next;
	fuse_ino_t id, parent;
	enum vnode_kind kind;
	uint64_t nlookup;
	char *name; /* as in the tree (encoded) */
	char *target;
	unsigned int children; /* nodes whose parent it is: it stays while there are some */
};

struct vtree {
	struct mfs_mutex lock; /* guards all below; nothing is called with it held but malloc and free */
	struct vnode *by_id[BUCKETS];
	uint64_t next;
	size_t n;
};

#define ROOT_ID (VTREE_BIT | 1)

static struct vnode *find(struct vtree *t, fuse_ino_t id)
{
	struct vnode *v = t->by_id[id % BUCKETS];

	while (v && v->id != id)
		v = v->next;
	return v;
}

/* Names are few: a walk through the table of nodes would do; but readers of big directories look each entry up. */
static struct vnode *find_name(struct vtree *t, fuse_ino_t parent, const char *name, enum vnode_kind kind)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct vnode *v = t->by_id[i]; v; v = v->next)
			if (v->parent == parent && v->kind == kind && strcmp(v->name, name) == 0)
				return v;
	return NULL;
}

int vtree_new(struct vtree **ret)
{
	struct vtree *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock.m, NULL);
	t->next = 2;
	*ret = t;
	return 0;
}

static void free_node(struct vnode *v)
{
	free(v->name);
	free(v->target);
	free(v);
}

void vtree_free(struct vtree *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (t->by_id[i]) {
			struct vnode *v = t->by_id[i];

			t->by_id[i] = v->next;
			free_node(v);
		}
	pthread_mutex_destroy(&t->lock.m);
	free(t);
}

static struct vnode *add(struct vtree *t, fuse_ino_t parent, const char *name, enum vnode_kind kind, const char *target)
{
	struct vnode *v = calloc(1, sizeof(*v)), *up;

	if (!v)
		return NULL;
	*v = (struct vnode){ .parent = parent, .kind = kind, .name = strdup(name), .target = target ? strdup(target) : NULL };
	if (!v->name || (target && !v->target)) {
		free_node(v);
		return NULL;
	}
	v->id = kind == VNODE_ROOT ? ROOT_ID : VTREE_BIT | t->next++;
	v->next = t->by_id[v->id % BUCKETS];
	t->by_id[v->id % BUCKETS] = v;
	t->n++;
	up = find(t, parent);
	if (up)
		up->children++;
	return v;
}

/* Not known to the kernel and nobody's parent: gone, and perhaps what is above it. */
static void drop_unused(struct vtree *t, struct vnode *v)
{
	while (v && !v->nlookup && !v->children) {
		struct vnode **at = &t->by_id[v->id % BUCKETS], *up = find(t, v->parent);

		while (*at != v)
			at = &(*at)->next;
		*at = v->next;
		t->n--;
		free_node(v);
		if (up)
			up->children--;
		v = up;
	}
}

int vtree_look_up(struct vtree *t, fuse_ino_t parent, const char *name, enum vnode_kind kind, const char *target, fuse_ino_t *ret)
{
	struct vnode *v;
	MFS_GUARD(&t->lock);

	/* A link's file may have moved: then it is another link. */
	v = kind == VNODE_LINK ? NULL : kind == VNODE_ROOT ? find(t, ROOT_ID) : find_name(t, parent, name, kind);
	if (!v) {
		if (t->n >= NODES_MAX)
			return -ENFILE;
		v = add(t, parent, name, kind, target);
	}
	if (!v)
		return -ENOMEM;
	v->nlookup++;
	*ret = v->id;
	return 0;
}

void vtree_forget(struct vtree *t, fuse_ino_t id, uint64_t n)
{
	struct vnode *v;
	MFS_GUARD(&t->lock);

	v = find(t, id);
	if (!v)
		return;
	v->nlookup -= MFS_MIN(n, v->nlookup);
	drop_unused(t, v);
}

void vnode_info_release(struct vnode_info *v)
{
	mfs_buf_release(&v->expr);
	free(v->name);
	free(v->target);
	*v = (struct vnode_info){ 0 };
}

static int decoded(const char *name, char **ret)
{
	*ret = malloc(strlen(name) + 1);
	return *ret ? vtree_decode(name, *ret) : -ENOMEM;
}

/* What this node adds to the search: of a value the tag's own part, which it takes the place of. */
static int put_part(struct vtree *t, const struct vnode *v, struct mfs_buf *b)
{
	MFS_AUTOFREE char *name = NULL, *tag = NULL;
	const struct vnode *up = find(t, v->parent);
	int r = decoded(v->name, &name);

	if (r < 0)
		return r;
	if (b->len)
		mfs_buf_puts(b, " and ");
	if (v->kind == VNODE_QUERY)
		return mfs_buf_printf(b, "(%s)", name);
	if (v->kind == VNODE_VALUE) {
		r = up ? decoded(up->name, &tag) : -ESTALE;
		if (r < 0)
			return r;
		mfs_buf_puts(b, "tag:");
		(void)expr_quote(b, tag, strlen(tag));
		mfs_buf_putc(b, '=');
		(void)expr_quote(b, name, strlen(name));
		return b->err;
	}
	mfs_buf_puts(b, "tag:");
	(void)expr_quote(b, name, strlen(name));
	return b->err;
}

static int describe(struct vtree *t, const struct vnode *v, struct vnode_info *ret)
{
	const struct vnode *below = NULL;
	int r = v->kind == VNODE_LINK ? 0 : decoded(v->name, &ret->name);

	for (; r == 0 && v; v = find(t, v->parent)) {
		bool part = v->kind == VNODE_TAG || v->kind == VNODE_VALUE || v->kind == VNODE_QUERY;

		ret->depth++;
		if (part && !(below && below->kind == VNODE_VALUE && v->kind == VNODE_TAG))
			r = put_part(t, v, &ret->expr);
		below = v;
	}
	return r;
}

int vtree_get(struct vtree *t, fuse_ino_t id, struct vnode_info *ret)
{
	const struct vnode *v;
	int r;
	MFS_GUARD(&t->lock);

	*ret = (struct vnode_info){ .expr = MFS_BUF_INIT(EXPR_TEXT_MAX) };
	v = find(t, id);
	if (!v)
		return -ESTALE;
	ret->kind = v->kind;
	r = describe(t, v, ret);
	if (r == 0 && v->target) {
		ret->target = strdup(v->target);
		r = ret->target ? 0 : -ENOMEM;
	}
	if (r < 0)
		vnode_info_release(ret);
	return r == -EFBIG ? -ENAMETOOLONG : r;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int vtree_decode(const char *from, char *to)
{
	while (*from) {
		if (*from != '%') {
			*to++ = *from++;
			continue;
		}
		if (hex(from[1]) < 0 || hex(from[2]) < 0 || (from[1] == '0' && from[2] == '0'))
			return -EINVAL;
		*to++ = (char)(hex(from[1]) << 4 | hex(from[2]));
		from += 3;
	}
	*to = '\0';
	return 0;
}

/* A slash, a percent sign, and what is no name by itself. */
int vtree_encode(const void *bytes, size_t size, struct mfs_buf *to)
{
	const unsigned char *s = bytes;
	bool dots = size && size <= 2 && s[0] == '.' && s[size - 1] == '.';

	for (size_t i = 0; i < size; i++)
		if (s[i] == '/' || s[i] == '%' || s[i] == '\0' || dots)
			(void)mfs_buf_printf(to, "%%%02X", s[i]);
		else
			(void)mfs_buf_putc(to, (char)s[i]);
	return to->err;
}
