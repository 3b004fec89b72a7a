/*
 * One atomic change as a value: building it, checking its shape (rule M1), and what a write's precondition and edit
 * mean. Pure functions on loaded records, so that every engine means the same.
 */
#include "meta/change.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define EDIT_OF_NODE                                                                                              \
	(EDIT_MODE | EDIT_UID | EDIT_GID | EDIT_SIZE | EDIT_ATIME | EDIT_MTIME | EDIT_CTIME | EDIT_REF |          \
	 EDIT_XATTRS | EDIT_TODO | EDIT_PENDING | EDIT_DYING | EDIT_FENCED | EDIT_OPENERS | EDIT_MIME |           \
	 EDIT_SHARED | EDIT_BTIME)
#define EDIT_ALL ((uint32_t)EDIT_OF_NODE | EDIT_BUMP_DATA | EDIT_BUMP_LAY | EDIT_NO_BUMP_VER)
#define EXPECT_ALL                                                                                       \
	(EXPECT_VER | EXPECT_LAY | EXPECT_DATA | EXPECT_NAME | EXPECT_NOT_FENCED | EXPECT_IN_FILES | \
	 EXPECT_IN_TRASH)

struct write *change_write(struct change *c, enum write_kind kind, mfs_ino_t ino)
{
	struct write *w;

	assert(c->n_writes < CHANGE_MAX_WRITES);
	w = &c->writes[c->n_writes++];
	*w = (struct write){ .kind = kind, .ino = ino };
	return w;
}

struct touch *change_touch(struct change *c, mfs_ino_t dir, int64_t time_ns, int32_t child_delta, unsigned int flags)
{
	struct touch *t;

	assert(c->n_touches < CHANGE_MAX_TOUCHES);
	t = &c->touches[c->n_touches++];
	*t = (struct touch){ .dir = dir, .time_ns = time_ns, .child_delta = child_delta, .flags = flags };
	return t;
}

int change_check(const struct write *w, const struct node *n, bool in_trash)
{
	const struct expect *x = &w->expect;
	bool ok = true;

	if (x->flags & EXPECT_VER)
		ok = ok && n->attr.ver == x->ver;
	if (x->flags & EXPECT_LAY)
		ok = ok && n->attr.lay == x->lay;
	if (x->flags & EXPECT_DATA)
		ok = ok && n->attr.data == x->data;
	if (x->flags & EXPECT_NAME)
		ok = ok && !in_trash && n->parent == x->parent && mfs_name_equal(&n->name, x->name);
	if (x->flags & EXPECT_NOT_FENCED)
		ok = ok && !node_blob_has_u64(&n->fenced, x->session);
	if (x->flags & EXPECT_IN_FILES)
		ok = ok && !in_trash;
	if (x->flags & EXPECT_IN_TRASH)
		ok = ok && in_trash;
	return ok ? 0 : -EAGAIN;
}

static int replace_string(char **dst, const char *src)
{
	char *copy = src ? strdup(src) : NULL;

	if (src && !copy)
		return -ENOMEM;
	free(*dst);
	*dst = copy;
	return 0;
}

static int replace_blob(struct node_blob *dst, const struct node_blob *src)
{
	struct node_blob copy = { 0 };
	int r = node_blob_copy(src, &copy);

	if (r < 0)
		return r;
	free(dst->data);
	*dst = copy;
	return 0;
}

static int replace_ref(struct node *n, const struct node *set)
{
	struct object_ref copy = { 0 };
	int r = object_ref_copy(&set->ref, &copy);

	if (r < 0)
		return r;
	object_ref_release(&n->ref);
	n->ref = copy;
	memcpy(n->etag, set->etag, sizeof(n->etag));
	memcpy(n->hash, set->hash, sizeof(n->hash));
	n->attr.obj_len = set->attr.obj_len;
	n->attr.alloc = set->attr.alloc;
	r = replace_blob(&n->slices, &set->slices);
	return r < 0 ? r : replace_blob(&n->inline_data, &set->inline_data);
}

static int replace_xattrs(struct node *n, const struct node *set)
{
	while (n->n_xattrs)
		(void)node_xattr_remove(n, n->xattrs[n->n_xattrs - 1].name);
	for (size_t i = 0; i < set->n_xattrs; i++) {
		int r = node_xattr_set(n, set->xattrs[i].name, set->xattrs[i].value, set->xattrs[i].size);

		if (r < 0)
			return r;
	}
	node_derive(n);
	return 0;
}

/* The plain fields. */
static void edit_attr(uint32_t mask, const struct node *set, struct node *n)
{
	const struct mfs_attr *s = &set->attr;
	struct mfs_attr *a = &n->attr;

	if (mask & EDIT_MODE)
		a->mode = s->mode;
	if (mask & EDIT_UID)
		a->uid = s->uid;
	if (mask & EDIT_GID)
		a->gid = s->gid;
	if (mask & EDIT_SIZE) {
		a->size = s->size;
		a->obj_len = s->obj_len;
	}
	if (mask & EDIT_ATIME)
		a->atime = s->atime;
	if (mask & EDIT_MTIME)
		a->mtime = s->mtime;
	if (mask & EDIT_CTIME)
		a->ctime = s->ctime;
	if (mask & EDIT_BTIME)
		a->btime = s->btime;
	if (mask & EDIT_TODO)
		n->todo = set->todo;
	if (mask & EDIT_PENDING)
		n->pending = set->pending;
	if (mask & EDIT_DYING)
		n->dying = set->dying;
	if (mask & EDIT_SHARED)
		a->flags = (a->flags & ~(uint32_t)ATTR_SHARED) | (s->flags & ATTR_SHARED);
}

/* The fields that own memory. */
static int edit_owned(uint32_t mask, const struct node *set, struct node *n)
{
	int r = 0;

	if (mask & EDIT_REF)
		r = replace_ref(n, set);
	if (r == 0 && (mask & EDIT_XATTRS))
		r = replace_xattrs(n, set);
	if (r == 0 && (mask & EDIT_FENCED))
		r = replace_blob(&n->fenced, &set->fenced);
	if (r == 0 && (mask & EDIT_OPENERS))
		r = replace_blob(&n->openers, &set->openers);
	if (r == 0 && (mask & EDIT_MIME))
		r = replace_string(&n->mime, set->mime);
	return r;
}

/* Where the record is and what it is called, by the kind of the write. */
static int edit_place(const struct write *w, struct node *n)
{
	const struct node *set = w->node;
	int r;

	switch (w->kind) {
	case WRITE_RENAME:
	case WRITE_UNTRASH:
		n->parent = set->parent;
		n->name = set->name;
		if (set->pos)
			n->pos = set->pos;
		if (w->kind == WRITE_RENAME)
			return 0;
		n->attr.flags &= ~(uint32_t)ATTR_IN_TRASH;
		n->trash_time = 0;
		free(n->trash_path);
		n->trash_path = NULL;
		free(n->openers.data);
		n->openers = (struct node_blob){ 0 };
		return 0;
	case WRITE_TRASH:
		n->parent = 0;
		n->name = (struct mfs_name){ 0 };
		n->attr.flags |= ATTR_IN_TRASH;
		n->trash_time = set->trash_time;
		r = replace_string(&n->trash_path, set->trash_path);
		return r < 0 ? r : replace_blob(&n->openers, &set->openers);
	default:
		return 0;
	}
}

int change_edit(const struct write *w, struct node *n)
{
	int64_t nlink = (int64_t)n->attr.nlink + w->nlink_delta;
	int r;

	if (nlink < 0 || nlink > UINT32_MAX)
		return -EINVAL;
	n->attr.nlink = (uint32_t)nlink;
	if (w->mask & EDIT_OF_NODE) {
		edit_attr(w->mask, w->node, n);
		r = edit_owned(w->mask, w->node, n);
		if (r < 0)
			return r;
	}
	r = edit_place(w, n);
	if (r < 0)
		return r;
	n->attr.data += !!(w->mask & EDIT_BUMP_DATA);
	n->attr.lay += !!(w->mask & EDIT_BUMP_LAY);
	n->attr.ver += !(w->mask & EDIT_NO_BUMP_VER);
	return 0;
}

/* Is one of the change's writes of the main record `ino` (0: any)? */
static bool writes_main(const struct change *c, mfs_ino_t ino)
{
	for (unsigned int i = 0; i < c->n_writes; i++)
		if (c->writes[i].kind <= WRITE_PURGE && (ino == 0 || c->writes[i].ino == ino))
			return true;
	return false;
}

static bool name_ok(const struct mfs_name *n)
{
	return n->len > 0 && n->len <= MFS_NAME_MAX && !memchr(n->bytes, '/', n->len) &&
	       !memchr(n->bytes, '\0', n->len);
}

static bool node_write_ok(const struct write *w)
{
	bool named = w->kind == WRITE_INSERT || w->kind == WRITE_RENAME || w->kind == WRITE_UNTRASH;

	if (w->ino == 0 || (w->mask & ~EDIT_ALL))
		return false;
	/* O_TMPFILE: a record may be inserted nameless (parent 0), but never half-named. */
	if (w->kind == WRITE_INSERT)
		return w->node && w->node->attr.ino == w->ino && !w->node->partial && w->expect.flags == 0 &&
		       (w->node->parent ? name_ok(&w->node->name) && w->node->pos : w->node->name.len == 0);
	if (named)
		return w->node && w->node->parent && name_ok(&w->node->name);
	if (w->kind == WRITE_TRASH)
		return w->node;
	if (w->kind == WRITE_EDIT)
		return w->node || !(w->mask & EDIT_OF_NODE);
	return w->mask == 0 && w->nlink_delta == 0;
}

/* Rule M1 for hard links: what changes an alias also writes the record it stands for. */
static bool alias_write_ok(const struct change *c, const struct write *w)
{
	if (w->ino == 0 || (w->expect.flags & ~(unsigned int)EXPECT_NAME))
		return false;
	if (w->kind == WRITE_ALIAS_DELETE)
		return writes_main(c, 0);
	if (!w->alias || !w->alias->parent || !name_ok(&w->alias->name))
		return false;
	if (w->kind == WRITE_ALIAS_RENAME)
		return writes_main(c, 0);
	return w->alias->id == w->ino && w->expect.flags == 0 && writes_main(c, w->alias->target);
}

/* Which kinds take an array. */
static bool takes_many(enum write_kind kind)
{
	return kind == WRITE_DROPPED_PUT || kind == WRITE_SLICES_PUT;
}

static bool slices_ok(const struct write *w)
{
	if (!w->slices || w->expect.flags)
		return false;
	for (uint32_t i = 0; i < write_records(w); i++)
		if (!w->slices[i].ino || !w->slices[i].id)
			return false;
	return true;
}

static bool cell_ok(const struct write *w)
{
	const char *slash = w->cell && w->cell->name ? strchr(w->cell->name, '/') : NULL;

	return slash && slash != w->cell->name && slash[1] && !(w->expect.flags & ~(unsigned int)EXPECT_VER) &&
	       (w->cell->token || w->cell->blob.size == 0);
}

static bool write_ok(const struct change *c, const struct write *w)
{
	if (w->n > 1 && !takes_many(w->kind))
		return false;
	if ((w->expect.flags & ~(unsigned int)EXPECT_ALL) || ((w->expect.flags & EXPECT_NAME) && !w->expect.name))
		return false;
	switch (w->kind) {
	case WRITE_INSERT:
	case WRITE_EDIT:
	case WRITE_DELETE:
	case WRITE_RENAME:
	case WRITE_TRASH:
	case WRITE_UNTRASH:
	case WRITE_PURGE:
		return node_write_ok(w);
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_DELETE:
	case WRITE_ALIAS_RENAME:
		return alias_write_ok(c, w);
	case WRITE_VERSION_PUT:
	case WRITE_VERSION_DELETE:
		return w->version && w->expect.flags == 0;
	case WRITE_DROPPED_PUT:
	case WRITE_DROPPED_DELETE:
		return w->dropped && w->expect.flags == 0;
	case WRITE_JOB_PUT:
	case WRITE_JOB_DELETE:
		return w->job && w->expect.flags == 0 && (w->job->kind == JOB_KEY) == !!w->job->key;
	case WRITE_SESSION_PUT:
	case WRITE_SESSION_DELETE:
		return w->session && w->session->id && w->expect.flags == 0;
	case WRITE_SLICES_PUT:
	case WRITE_SLICES_DELETE:
		return slices_ok(w);
	case WRITE_CELL_PUT:
		return cell_ok(w);
	}
	return false;
}

int change_validate(const struct change *c)
{
	if (c->n_writes > CHANGE_MAX_WRITES || c->n_touches > CHANGE_MAX_TOUCHES)
		return -EINVAL;
	if (c->n_writes + c->n_touches == 0)
		return -EINVAL;
	for (unsigned int i = 0; i < c->n_writes; i++)
		if (!write_ok(c, &c->writes[i]))
			return -EINVAL;
	for (unsigned int i = 0; i < c->n_touches; i++)
		if (c->touches[i].dir == 0 ||
		    (c->touches[i].flags & ~(unsigned int)(TOUCH_UNLESS_DYING | TOUCH_MUST_EXIST)))
			return -EINVAL;
	/* A guard is about a directory that the change moves or deletes; without that it would guard nothing. */
	if (c->no_child && !writes_main(c, c->no_child))
		return -EINVAL;
	if (c->not_below_dir && (!c->not_below_target || !writes_main(c, c->not_below_dir)))
		return -EINVAL;
	if (c->not_below_dir2 && (!c->not_below_target2 || !writes_main(c, c->not_below_dir2)))
		return -EINVAL;
	return 0;
}
