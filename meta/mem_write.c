/*
 * The writes of a change in the mem engine: records, aliases, parents, guards, the ring of change ids.
 */
#include <errno.h>
#include <string.h>

#include "meta/mem_internal.h"

#define OPS_RING 4096

static void alias_release(struct alias *a)
{
	(void)a;
}

static int alias_copy(const struct alias *a, struct alias *ret)
{
	*ret = *a;
	return 0;
}

MEM_DEFINE_VALUE(node, struct node, node_copy, node_release);
MEM_DEFINE_VALUE(alias, struct alias, alias_copy, alias_release);

static int put_index(struct mem_map *m, const struct mem_key *k)
{
	return mem_map_put(m, k, NULL, NULL);
}

/* Enter or leave the name index and the listing. */
static int name_put(struct mem_shared *s, mfs_ino_t parent, const struct mfs_name *name, uint64_t pos, uint64_t id)
{
	struct mem_key k;
	int r;

	if (parent == 0)
		return 0;
	if (mem_find_name(s, parent, name))
		return -EEXIST;
	r = mem_key_name(&k, parent, name);
	if (r < 0)
		return r;
	mem_key_u64(&k, id);
	r = put_index(s->map, &k);
	if (r < 0)
		return r;
	mem_key_of_2(&k, 'P', parent, pos);
	mem_key_u64(&k, id);
	return put_index(s->map, &k);
}

static int name_remove(struct mem_shared *s, mfs_ino_t parent, const struct mfs_name *name, uint64_t pos, uint64_t id)
{
	struct mem_key k;
	int r;

	if (parent == 0)
		return 0;
	r = mem_key_name(&k, parent, name);
	if (r < 0)
		return r;
	mem_key_u64(&k, id);
	r = mem_map_remove(s->map, &k);
	if (r < 0)
		return r;
	mem_key_of_2(&k, 'P', parent, pos);
	mem_key_u64(&k, id);
	return mem_map_remove(s->map, &k);
}

static void put_ret_attr(struct mfs_attr *ret, const struct node *n)
{
	if (ret)
		*ret = n->attr;
}

static int store_node(struct mem_shared *s, struct node *n)
{
	struct mem_key k;

	mem_key_of(&k, 'F', n->attr.ino);
	return put_node(s->map, &k, n);
}

int mem_write_insert(struct mem_shared *s, const struct write *w)
{
	struct node *n = NULL;
	int r;

	if (mem_find_node(s, w->ino) || mem_find_alias(s, w->ino))
		return -EEXIST;
	r = name_put(s, w->node->parent, &w->node->name, w->node->pos, w->ino);
	if (r < 0)
		return r;
	r = node_value_new(w->node, &n);
	if (r < 0)
		return r;
	node_derive(n);
	put_ret_attr(w->ret_attr, n);
	return store_node(s, n);
}

/* EDIT, RENAME, TRASH, UNTRASH: load, check, copy, edit, put back. */
static int write_edit(struct mem_shared *s, const struct write *w)
{
	const struct node *old = w->kind == WRITE_EDIT || w->kind == WRITE_UNTRASH ? mem_find_node(s, w->ino) :
											mem_find_file(s, w->ino);
	bool in_trash = old && (old->attr.flags & ATTR_IN_TRASH);
	struct node *n = NULL;
	int r;

	if (!old || (w->kind == WRITE_UNTRASH && !in_trash))
		return -ESTALE;
	r = change_check(w, old, in_trash);
	if (r < 0)
		return r;
	r = node_value_new(old, &n);
	if (r < 0)
		return r;
	r = change_edit(w, n);
	if (r == 0 && w->kind != WRITE_EDIT) {
		r = name_remove(s, old->parent, &old->name, old->pos, w->ino);
		if (r == 0)
			r = name_put(s, n->parent, &n->name, n->pos, w->ino);
	}
	if (r < 0) {
		node_value_free(n);
		return r;
	}
	put_ret_attr(w->ret_attr, n);
	return store_node(s, n);
}

static int write_delete(struct mem_shared *s, const struct write *w)
{
	const struct node *n = mem_find_node(s, w->ino);
	bool in_trash = n && (n->attr.flags & ATTR_IN_TRASH);
	struct mem_key k;
	int r;

	if (!n || in_trash != (w->kind == WRITE_PURGE))
		return -ESTALE;
	r = change_check(w, n, in_trash);
	if (r == 0)
		r = name_remove(s, n->parent, &n->name, n->pos, w->ino);
	if (r < 0)
		return r;
	mem_key_of(&k, 'F', w->ino);
	return mem_map_remove(s->map, &k);
}

static int alias_put(struct mem_shared *s, const struct alias *a)
{
	struct alias *v = NULL;
	struct mem_key k;
	int r = name_put(s, a->parent, &a->name, a->id, a->id);

	if (r == 0)
		r = alias_value_new(a, &v);
	if (r < 0)
		return r;
	mem_key_of(&k, 'A', a->id);
	r = put_alias(s->map, &k, v);
	if (r < 0)
		return r;
	mem_key_of_2(&k, 'L', a->target, a->id);
	return put_index(s->map, &k);
}

static int alias_remove(struct mem_shared *s, const struct alias *a)
{
	struct alias old = *a;
	struct mem_key k;
	int r = name_remove(s, old.parent, &old.name, old.id, old.id);

	if (r < 0)
		return r;
	mem_key_of(&k, 'A', old.id);
	r = mem_map_remove(s->map, &k);
	if (r < 0)
		return r;
	mem_key_of_2(&k, 'L', old.target, old.id);
	return mem_map_remove(s->map, &k);
}

static int write_alias(struct mem_shared *s, const struct write *w)
{
	const struct alias *old = mem_find_alias(s, w->ino);
	struct alias renamed;
	int r;

	if (w->kind == WRITE_ALIAS_INSERT) {
		if (old || mem_find_node(s, w->ino))
			return -EEXIST;
		return mem_find_file(s, w->alias->target) ? alias_put(s, w->alias) : -ESTALE;
	}
	if (!old)
		return -ESTALE;
	if ((w->expect.flags & EXPECT_NAME) &&
	    !(old->parent == w->expect.parent && mfs_name_equal(&old->name, w->expect.name)))
		return -EAGAIN;
	renamed = *old;
	r = alias_remove(s, old);
	if (r < 0 || w->kind == WRITE_ALIAS_DELETE)
		return r;
	renamed.parent = w->alias->parent;
	renamed.name = w->alias->name;
	return alias_put(s, &renamed);
}

static int write_one(struct mem_shared *s, const struct write *w)
{
	switch (w->kind) {
	case WRITE_INSERT:
		return mem_write_insert(s, w);
	case WRITE_EDIT:
	case WRITE_RENAME:
	case WRITE_TRASH:
	case WRITE_UNTRASH:
		return write_edit(s, w);
	case WRITE_DELETE:
	case WRITE_PURGE:
		return write_delete(s, w);
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_DELETE:
	case WRITE_ALIAS_RENAME:
		return write_alias(s, w);
	default:
		return mem_write_side(s, w);
	}
}

static int touch_one(struct mem_shared *s, const struct touch *t)
{
	const struct node *old = mem_find_file(s, t->dir);
	struct node *n = NULL;
	int64_t children, nlink;
	int r;

	if (!old)
		return t->flags & TOUCH_MUST_EXIST ? -ENOENT : 0;
	if ((t->flags & TOUCH_UNLESS_DYING) && old->dying)
		return -EAGAIN;
	r = node_value_new(old, &n);
	if (r < 0)
		return r;
	children = (int64_t)n->attr.children + t->child_delta;
	n->attr.children = children < 0 ? 0 : (uint32_t)children;
	nlink = (int64_t)n->attr.nlink + t->subdir_delta;
	n->attr.nlink = nlink < 1 ? 1 : (uint32_t)nlink;
	n->attr.mtime = n->attr.ctime = t->time_ns;
	n->attr.ver++;
	put_ret_attr(t->ret_attr, n);
	return store_node(s, n);
}

static int check_not_below(const struct mem_shared *s, mfs_ino_t dir, mfs_ino_t target)
{
	if (!dir)
		return 0;
	for (mfs_ino_t at = target; at != MFS_ROOT_INO;) {
		const struct node *n = mem_find_file(s, at);

		if (at == dir)
			return -EINVAL;
		if (!n || !n->parent)
			return -ENOENT;
		at = n->parent;
	}
	return dir == MFS_ROOT_INO ? -EINVAL : 0;
}

static int check_guards(const struct mem_shared *s, const struct change *c)
{
	struct mem_key k;
	int r;

	if (c->no_child) {
		mem_key_of(&k, 'P', c->no_child);
		if (mem_item_has_prefix(mem_map_seek(s->map, &k), &k))
			return -ENOTEMPTY;
	}
	r = check_not_below(s, c->not_below_dir, c->not_below_target);
	return r < 0 ? r : check_not_below(s, c->not_below_dir2, c->not_below_target2);
}

/* Rule M2. 1: applied before; 0: not; -EIO: too long ago to know. */
static int ops_seen(const struct mem_shared *s, const struct change *c)
{
	const uint64_t *number;
	struct mem_key k;

	if (c->id.session == 0 || !c->retry)
		return 0;
	mem_key_of_2(&k, 'O', c->id.session, c->id.number % OPS_RING);
	number = mem_map_get(s->map, &k, NULL);
	if (!number || *number < c->id.number)
		return 0;
	return *number == c->id.number ? 1 : -EIO;
}

static int ops_remember(struct mem_shared *s, const struct change *c)
{
	const uint64_t *old;
	uint64_t *v;
	struct mem_key k;
	int r;

	if (c->id.session == 0)
		return 0;
	mem_key_of_2(&k, 'O', c->id.session, c->id.number % OPS_RING);
	old = mem_map_get(s->map, &k, NULL);
	if (old && *old > c->id.number)
		return 0;
	v = malloc(sizeof(*v));
	if (!v)
		return -ENOMEM;
	*v = c->id.number;
	r = mem_map_put(s->map, &k, v, free);
	if (r < 0)
		free(v);
	return r;
}

/* The attributes that a change applied before would have given: as they are now; all zero where the record is gone. */
static void ret_attr_again(const struct mem_shared *s, struct mfs_attr *ret, mfs_ino_t ino)
{
	const struct node *n = mem_find_node(s, ino);

	if (ret)
		*ret = n ? n->attr : (struct mfs_attr){ .ino = ino };
}

int mem_write_change(struct mem_shared *s, const struct change *c)
{
	int r = ops_seen(s, c);

	if (r < 0)
		return r;
	if (r == 1) {
		for (unsigned int i = 0; i < c->n_writes; i++)
			ret_attr_again(s, c->writes[i].ret_attr, c->writes[i].ino);
		for (unsigned int i = 0; i < c->n_touches; i++)
			ret_attr_again(s, c->touches[i].ret_attr, c->touches[i].dir);
		return 0;
	}
	r = check_guards(s, c);
	for (unsigned int i = 0; r == 0 && i < c->n_writes; i++)
		r = write_one(s, &c->writes[i]);
	for (unsigned int i = 0; r == 0 && i < c->n_touches; i++)
		r = touch_one(s, &c->touches[i]);
	return r < 0 ? r : ops_remember(s, c);
}
