/*
 * The index record as a value: init, release, deep copy, names, extended attributes, arrays of session numbers.
 */
#include "meta/node.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void node_init(struct node *n)
{
	*n = (struct node)NODE_INIT;
}

static void xattrs_free(struct node_xattr *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].name);
		free(v[i].value);
	}
	free(v);
}

static void drop_blob(struct node_blob *b)
{
	free(b->data);
	*b = (struct node_blob){ 0 };
}

void node_drop_content(struct node *n)
{
	drop_blob(&n->inline_data);
	drop_blob(&n->slices);
	drop_blob(&n->holes);
}

void node_release(struct node *n)
{
	if (!n)
		return;
	object_ref_release(&n->ref);
	free(n->symlink);
	xattrs_free(n->xattrs, n->n_xattrs);
	free(n->creator_user);
	free(n->creator_host);
	free(n->mime);
	free(n->fenced.data);
	free(n->inline_data.data);
	free(n->slices.data);
	free(n->holes.data);
	free(n->trash_path);
	free(n->openers.data);
	node_init(n);
}

static int string_copy(const char *s, char **ret)
{
	*ret = s ? strdup(s) : NULL;
	return s && !*ret ? -ENOMEM : 0;
}

/* A copy of `size` bytes; never NULL on success, so that "empty" and "absent" stay apart. */
static void *bytes_copy(const void *data, size_t size)
{
	void *p = malloc(size ? size : 1);

	if (p && size)
		memcpy(p, data, size);
	return p;
}

int node_blob_copy(const struct node_blob *b, struct node_blob *ret)
{
	*ret = (struct node_blob){ 0 };
	if (!b->data)
		return 0;
	ret->data = bytes_copy(b->data, b->size);
	if (!ret->data)
		return -ENOMEM;
	ret->size = b->size;
	return 0;
}

static int xattrs_copy(const struct node *n, struct node *ret)
{
	ret->xattrs = NULL;
	ret->n_xattrs = 0;
	if (!n->n_xattrs)
		return 0;
	ret->xattrs = calloc(n->n_xattrs, sizeof(*ret->xattrs));
	if (!ret->xattrs)
		return -ENOMEM;
	ret->n_xattrs = n->n_xattrs;
	for (size_t i = 0; i < n->n_xattrs; i++) {
		struct node_xattr *x = &ret->xattrs[i];

		x->name = strdup(n->xattrs[i].name);
		x->value = bytes_copy(n->xattrs[i].value, n->xattrs[i].size);
		x->size = n->xattrs[i].size;
		if (!x->name || !x->value)
			return -ENOMEM;
	}
	return 0;
}

int node_copy(const struct node *n, struct node *ret)
{
	int r = 0;

	*ret = *n;
	/* From here on ret must own what it points at, also when a copy fails half-way. */
	ret->ref = (struct object_ref){ 0 };
	ret->symlink = ret->creator_user = ret->creator_host = ret->mime = ret->trash_path = NULL;
	ret->xattrs = NULL;
	ret->n_xattrs = 0;
	ret->fenced = ret->inline_data = ret->slices = ret->holes = ret->openers = (struct node_blob){ 0 };

	r = object_ref_copy(&n->ref, &ret->ref);
	if (r == 0)
		r = string_copy(n->symlink, &ret->symlink);
	if (r == 0)
		r = xattrs_copy(n, ret);
	if (r == 0)
		r = string_copy(n->creator_user, &ret->creator_user);
	if (r == 0)
		r = string_copy(n->creator_host, &ret->creator_host);
	if (r == 0)
		r = string_copy(n->mime, &ret->mime);
	if (r == 0)
		r = node_blob_copy(&n->fenced, &ret->fenced);
	if (r == 0)
		r = node_blob_copy(&n->inline_data, &ret->inline_data);
	if (r == 0)
		r = node_blob_copy(&n->slices, &ret->slices);
	if (r == 0)
		r = node_blob_copy(&n->holes, &ret->holes);
	if (r == 0)
		r = string_copy(n->trash_path, &ret->trash_path);
	if (r == 0)
		r = node_blob_copy(&n->openers, &ret->openers);
	if (r < 0)
		node_release(ret);
	return r;
}

void node_derive(struct node *n)
{
	static const struct {
		const char *name;
		uint32_t flag;
	} known[] = {
		{ "security.capability", ATTR_HAS_CAP },
		{ "system.posix_acl_access", ATTR_HAS_ACL },
		{ "system.posix_acl_default", ATTR_HAS_DEFAULT_ACL },
		{ "security.selinux", ATTR_HAS_LABEL },
	};
	uint32_t flags = n->n_xattrs ? ATTR_HAS_XATTR : 0, all = ATTR_HAS_XATTR;

	for (size_t i = 0; i < MFS_ARRAY_LEN(known); i++) {
		all |= known[i].flag;
		if (node_xattr_find(n, known[i].name))
			flags |= known[i].flag;
	}
	n->attr.flags = (n->attr.flags & ~all) | flags;
}

int mfs_name_set(struct mfs_name *n, const char *bytes, size_t len)
{
	if (len == 0 || memchr(bytes, '/', len) || memchr(bytes, '\0', len))
		return -EINVAL;
	if (bytes[0] == '.' && (len == 1 || (len == 2 && bytes[1] == '.')))
		return -EINVAL;
	if (len > MFS_NAME_MAX)
		return -ENAMETOOLONG;
	n->len = (uint16_t)len;
	memcpy(n->bytes, bytes, len);
	/* The tail too: names are compared and copied as values, and stray bytes would hide from valgrind. */
	memset(n->bytes + len, 0, sizeof(n->bytes) - len);
	return 0;
}

bool mfs_name_equal(const struct mfs_name *a, const struct mfs_name *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static struct node_xattr *xattr_slot(const struct node *n, const char *name)
{
	for (size_t i = 0; i < n->n_xattrs; i++)
		if (strcmp(n->xattrs[i].name, name) == 0)
			return &n->xattrs[i];
	return NULL;
}

const struct node_xattr *node_xattr_find(const struct node *n, const char *name)
{
	return xattr_slot(n, name);
}

static size_t xattrs_total(const struct node *n)
{
	size_t total = 0;

	for (size_t i = 0; i < n->n_xattrs; i++)
		total += strlen(n->xattrs[i].name) + n->xattrs[i].size;
	return total;
}

int node_xattr_set(struct node *n, const char *name, const void *value, size_t size)
{
	struct node_xattr *x = xattr_slot(n, name);
	size_t old = x ? strlen(name) + x->size : 0;
	void *v;

	if (xattrs_total(n) - old + strlen(name) + size > MFS_XATTR_TOTAL_MAX)
		return -ENOSPC;
	v = bytes_copy(value, size);
	if (!v)
		return -ENOMEM;
	if (!x) {
		struct node_xattr *grown = reallocarray(n->xattrs, n->n_xattrs + 1, sizeof(*grown));
		char *copy = grown ? strdup(name) : NULL;

		if (grown)
			n->xattrs = grown;
		if (!copy) {
			free(v);
			return -ENOMEM;
		}
		x = &n->xattrs[n->n_xattrs++];
		*x = (struct node_xattr){ .name = copy };
	}
	free(x->value);
	x->value = v;
	x->size = size;
	node_derive(n);
	return 0;
}

int node_xattr_remove(struct node *n, const char *name)
{
	struct node_xattr *x = xattr_slot(n, name);

	if (!x)
		return -ENODATA;
	free(x->name);
	free(x->value);
	n->n_xattrs--;
	memmove(x, x + 1, (size_t)(&n->xattrs[n->n_xattrs] - x) * sizeof(*x));
	node_derive(n);
	return 0;
}

/* The place of v in the array, in numbers; SIZE_MAX: absent. Blobs from a database may be unaligned. */
static size_t blob_u64_index(const struct node_blob *b, uint64_t v)
{
	for (size_t i = 0; i < b->size / sizeof(v); i++)
		if (memcmp((const char *)b->data + i * sizeof(v), &v, sizeof(v)) == 0)
			return i;
	return SIZE_MAX;
}

bool node_blob_has_u64(const struct node_blob *b, uint64_t v)
{
	return blob_u64_index(b, v) != SIZE_MAX;
}

int node_blob_add_u64(struct node_blob *b, uint64_t v)
{
	void *grown;

	if (node_blob_has_u64(b, v))
		return 0;
	grown = realloc(b->data, b->size + sizeof(v));
	if (!grown)
		return -ENOMEM;
	b->data = grown;
	memcpy((char *)b->data + b->size, &v, sizeof(v));
	b->size += sizeof(v);
	return 0;
}

void node_blob_remove_u64(struct node_blob *b, uint64_t v)
{
	size_t i = blob_u64_index(b, v);
	char *at;

	if (i == SIZE_MAX)
		return;
	at = (char *)b->data + i * sizeof(v);
	b->size -= sizeof(v);
	memmove(at, at + sizeof(v), (size_t)((char *)b->data + b->size - at));
	if (b->size == 0) {
		free(b->data);
		b->data = NULL;
	}
}

void node_list_release(struct node_list *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++)
		node_release(&l->v[i]);
	free(l->v);
	*l = (struct node_list)NODE_LIST_INIT;
}

void blob_list_release(struct blob_list *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].data);
	free(l->v);
	*l = (struct blob_list){ 0 };
}

int blob_list_add(struct blob_list *l, const void *data, size_t size)
{
	void *copy = malloc(size + 1);

	if (copy && l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		struct node_blob *v = reallocarray(l->v, cap, sizeof(*v));

		if (!v) {
			free(copy);
			return -ENOMEM;
		}
		l->v = v;
		l->cap = cap;
	}
	if (!copy)
		return -ENOMEM;
	if (size)
		memcpy(copy, data, size);
	((char *)copy)[size] = '\0';
	l->v[l->n++] = (struct node_blob){ .data = copy, .size = size };
	return 0;
}

struct node *node_list_add(struct node_list *l)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		struct node *v = reallocarray(l->v, cap, sizeof(*v));

		if (!v)
			return NULL;
		l->v = v;
		l->cap = cap;
	}
	node_init(&l->v[l->n]);
	return &l->v[l->n++];
}
