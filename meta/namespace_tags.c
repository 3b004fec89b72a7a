/* Tags added to and taken from a file, all in one change of its record. */
#include <stdio.h>

#include "common/buf.h"
#include "meta/namespace_internal.h"
#include "meta/tags.h"

#define PREFIX "user."

static int xattr_name(const char *tag, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s%s", PREFIX, tag);

	if (!tag[0])
		return -EINVAL;
	return n < 0 || (size_t)n >= size || n > MFS_XATTR_NAME_MAX ? -ENAMETOOLONG : 0;
}

/* A bare tag stands in a list with commas, where blanks around it do not count. */
static bool bare_ok(const char *tag)
{
	size_t len = strlen(tag);

	return len && !strchr(tag, ',') && !strchr(" \t\r\n", tag[0]) && !strchr(" \t\r\n", tag[len - 1]);
}

struct listing {
	struct mfs_buf text;
	const char *without; /* NULL: nothing is left out */
	const char *find;
	bool found;
};

static int list_bare(void *arg, const struct tag *t)
{
	struct listing *l = arg;

	if (!t->bare)
		return 0;
	if (l->find && strlen(l->find) == t->name_len && memcmp(l->find, t->name, t->name_len) == 0)
		l->found = true;
	if (l->without && strlen(l->without) == t->name_len && memcmp(l->without, t->name, t->name_len) == 0)
		return 0;
	if (l->text.len)
		mfs_buf_putc(&l->text, ',');
	return mfs_buf_append(&l->text, t->name, t->name_len);
}

/* The list of bare tags with `add` (NULL: none) and without `without`. *ret_found: was that there? */
static int edit_list(struct node *n, const char *add, const char *without, bool *ret_found)
{
	struct listing l = { .text = MFS_BUF_INIT(MFS_XATTR_SIZE_MAX), .without = without, .find = add ? add : without };
	int r = node_each_tag(n, list_bare, &l);

	*ret_found = l.found;
	if (r == 0 && l.found == !!add) { /* there already, or not there to be taken away */
		mfs_buf_release(&l.text);
		return 0;
	}
	if (r == 0 && add && l.text.len)
		r = mfs_buf_putc(&l.text, ',');
	if (r == 0 && add)
		r = mfs_buf_puts(&l.text, add);
	if (r == 0 && l.text.len)
		r = node_xattr_set(n, TAG_BARE_LIST, l.text.data, l.text.len);
	else if (r == 0)
		r = node_xattr_remove(n, TAG_BARE_LIST);
	mfs_buf_release(&l.text);
	return r == -EFBIG ? -ENOSPC : r;
}

static int take_away(struct node *n, const struct tag_edit *e, const char *name)
{
	const struct node_xattr *x = node_xattr_find(n, name);
	bool listed = false, valued = x && tag_is_xattr(name) && strcmp(name, TAG_BARE_LIST) != 0;
	int r;

	if (e->value)
		valued = valued && x->size == strlen(e->value) && memcmp(x->value, e->value, x->size) == 0;
	r = valued ? node_xattr_remove(n, name) : 0;
	if (r == 0 && !e->value)
		r = edit_list(n, NULL, e->name, &listed);
	return r < 0 ? r : listed || valued ? 0 : -ENODATA;
}

int ns_tag_node(struct node *n, const struct tag_edit *e)
{
	char name[MFS_XATTR_NAME_MAX + 1];
	bool found;
	int r = xattr_name(e->name, name, sizeof(name));

	if (r < 0)
		return r;
	if (e->remove)
		return take_away(n, e, name);
	if (!e->value)
		return bare_ok(e->name) ? edit_list(n, e->name, NULL, &found) : -EINVAL;
	if (!tag_is_xattr(name) || strcmp(name, TAG_BARE_LIST) == 0)
		return -EINVAL;
	if (strlen(e->value) > MFS_XATTR_SIZE_MAX) /* a record with such a value is one that nobody reads again */
		return -E2BIG;
	return node_xattr_set(n, name, e->value, strlen(e->value));
}

static int tag_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct tag_edit *v, size_t n_edits,
		    struct mfs_attr *ret)
{
	struct node n = NODE_INIT;
	NS_AUTOOP struct ns_op x;
	bool removes = false;
	int r;

	ns_op_init(&x, ns, op);
	r = engine_get(ns->e, op, ino, &n);
	if (r < 0)
		return r;
	if (!S_ISREG(n.attr.mode) && !S_ISDIR(n.attr.mode))
		r = -EPERM; /* as xattr(7): user.* of files and directories only */
	for (size_t i = 0; r == 0 && i < n_edits; i++)
		r = ns_tag_node(&n, &v[i]);
	for (size_t i = 0; i < n_edits; i++)
		removes |= v[i].remove;
	if (r == 0 && removes)
		r = ns_demand_again(&x, &n);
	if (r == 0) {
		struct write *w = change_write(&x.c, WRITE_EDIT, ino);

		node_derive(&n);
		ns_expect_ver(w, n.attr.ver);
		n.attr.ctime = x.now;
		w->node = &n;
		w->mask = EDIT_XATTRS | EDIT_CTIME;
		w->ret_attr = ret;
		r = ns_op_apply(&x);
	}
	node_release(&n);
	return r;
}

int namespace_tag(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct tag_edit *v, size_t n,
		  struct mfs_attr *ret)
{
	for (unsigned int i = 0;; i++) {
		int r = tag_once(ns, op, ino, v, n, ret);

		if (r == -ESTALE || !ns_again(op, "tag", ino, i, &r))
			return r;
	}
}
