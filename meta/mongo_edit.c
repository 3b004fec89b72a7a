/*
 * An edit in place as update operators, and preconditions as a filter: what change_check() and change_edit() (meta/change.c)
 * mean, for a server to do.
 */
#include "meta/mongo_internal.h"

static void set_or_unset_u64(bson_t *set, bson_t *unset, const char *field, uint64_t v)
{
	if (v)
		mongo_put_u64(set, field, v);
	else
		BSON_APPEND_INT32(unset, field, 1);
}

static void set_or_unset_string(bson_t *set, bson_t *unset, const char *field, const char *s)
{
	if (s && s[0])
		mongo_put_string(set, field, s);
	else
		BSON_APPEND_INT32(unset, field, 1);
}

static void set_or_unset_blob(bson_t *set, bson_t *unset, const char *field, const struct node_blob *b)
{
	if (b->data)
		mongo_put_blob(set, field, b);
	else
		BSON_APPEND_INT32(unset, field, 1);
}

static void set_or_unset_true(bson_t *set, bson_t *unset, const char *field, bool v)
{
	if (v)
		BSON_APPEND_BOOL(set, field, true);
	else
		BSON_APPEND_INT32(unset, field, 1);
}

static void set_or_unset_sessions(bson_t *set, bson_t *unset, const char *field, const struct node_blob *b)
{
	if (b->data && b->size)
		mongo_put_sessions(set, field, b);
	else
		BSON_APPEND_INT32(unset, field, 1);
}

static void edit_ref(const struct node *n, bson_t *set, bson_t *unset)
{
	set_or_unset_u64(set, unset, "store", n->ref.store);
	set_or_unset_string(set, unset, "bucket", n->ref.bucket);
	set_or_unset_string(set, unset, "key", n->ref.key);
	set_or_unset_string(set, unset, "version", n->ref.version);
	set_or_unset_string(set, unset, "etag", n->etag);
	set_or_unset_string(set, unset, "hash", n->hash);
	set_or_unset_u64(set, unset, "alloc", n->attr.alloc);
	set_or_unset_blob(set, unset, "slices", &n->slices);
	set_or_unset_blob(set, unset, "inline", &n->inline_data);
}

static void edit_xattrs(const struct node *n, bson_t *set, bson_t *unset)
{
	uint32_t flags = mongo_flags_of(n);

	if (n->n_xattrs)
		mongo_put_xattrs(n, set);
	else
		BSON_APPEND_INT32(unset, "xattrs", 1);
	if (!mongo_put_tags(n, set))
		BSON_APPEND_INT32(unset, "tags", 1);
	set_or_unset_u64(set, unset, "flags", flags);
	set_or_unset_true(set, unset, "acl", flags & (ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL));
	set_or_unset_true(set, unset, "label", flags & ATTR_HAS_LABEL);
}

static void edit_plain(uint32_t mask, const struct node *n, bson_t *set, bson_t *unset)
{
	const struct mfs_attr *a = &n->attr;

	if (mask & EDIT_MODE)
		mongo_put_mode(a, set);
	if (mask & EDIT_UID)
		BSON_APPEND_INT64(set, "uid", a->uid);
	if (mask & EDIT_GID)
		BSON_APPEND_INT64(set, "gid", a->gid);
	if (mask & EDIT_SIZE)
		mongo_put_u64(set, "size", a->size);
	if (mask & (EDIT_SIZE | EDIT_REF))
		set_or_unset_u64(set, unset, "obj", a->obj_len);
	if (mask & EDIT_ATIME)
		BSON_APPEND_INT64(set, "times.a", a->atime);
	if (mask & EDIT_MTIME)
		BSON_APPEND_INT64(set, "times.m", a->mtime);
	if (mask & EDIT_CTIME)
		BSON_APPEND_INT64(set, "times.c", a->ctime);
	if (mask & EDIT_BTIME)
		BSON_APPEND_INT64(set, "created", a->btime);
	if (mask & EDIT_TODO)
		set_or_unset_u64(set, unset, "todo", (uint64_t)n->todo);
	if (mask & EDIT_PENDING)
		set_or_unset_u64(set, unset, "pending", n->pending);
	if (mask & EDIT_DYING)
		set_or_unset_u64(set, unset, "dying", n->dying);
	if (mask & EDIT_SHARED)
		set_or_unset_true(set, unset, "shared", a->flags & ATTR_SHARED);
}

void mongo_edit_put(const struct write *w, bson_t *set, bson_t *unset, bson_t *inc)
{
	const struct node *n = w->node;

	if (n) {
		edit_plain(w->mask, n, set, unset);
		if (w->mask & EDIT_REF)
			edit_ref(n, set, unset);
		if (w->mask & EDIT_XATTRS)
			edit_xattrs(n, set, unset);
		if (w->mask & EDIT_FENCED)
			set_or_unset_sessions(set, unset, "fenced", &n->fenced);
		if (w->mask & EDIT_OPENERS)
			set_or_unset_sessions(set, unset, "openers", &n->openers);
		if (w->mask & EDIT_MIME)
			set_or_unset_string(set, unset, "mime", n->mime);
	}
	if (w->nlink_delta)
		BSON_APPEND_INT64(inc, "nlink", w->nlink_delta);
	if (w->mask & EDIT_BUMP_DATA)
		BSON_APPEND_INT64(inc, "data", 1);
	if (w->mask & EDIT_BUMP_LAY)
		BSON_APPEND_INT64(inc, "lay", 1);
	if (!(w->mask & EDIT_NO_BUMP_VER))
		BSON_APPEND_INT64(inc, "ver", 1);
}

void mongo_expect_put(const struct expect *x, bson_t *filter)
{
	bson_t ne;

	if (x->flags & EXPECT_VER)
		mongo_put_u64(filter, "ver", x->ver);
	if (x->flags & EXPECT_LAY)
		mongo_put_u64(filter, "lay", x->lay);
	if (x->flags & EXPECT_DATA)
		mongo_put_u64(filter, "data", x->data);
	if (x->flags & EXPECT_NAME) {
		mongo_put_u64(filter, "parent", x->parent);
		mongo_put_name(filter, "name", x->name);
	}
	if (x->flags & EXPECT_NOT_FENCED) {
		BSON_APPEND_DOCUMENT_BEGIN(filter, "fenced", &ne);
		mongo_put_u64(&ne, "$ne", x->session);
		bson_append_document_end(filter, &ne);
	}
}
