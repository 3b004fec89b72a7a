/*
 * The index record as a document: {_id, parent, name, ...} of `files` and `trash` (mongo_internal.h has the list).
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/layout.h"
#include "meta/mongo_internal.h"

#define FLAGS_STORED (ATTR_HAS_XATTR | ATTR_HAS_CAP | ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL | ATTR_HAS_LABEL)
#define PATH_MAX_BYTES 65536
#define SESSIONS_MAX   65536 /* of fenced, openers */
#define HOLES_MAX      65536
#define XATTR_MAX      65536 /* in number */

static const char *type_of(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "dir";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "chardev";
	case S_IFBLK:
		return "blockdev";
	default:
		return "other";
	}
}

uint32_t mongo_flags_of(const struct node *n)
{
	struct node copy = { .xattrs = n->xattrs, .n_xattrs = n->n_xattrs };

	node_derive(&copy);
	return copy.attr.flags;
}

/* --- writing --- */

static void put_i64_if(bson_t *b, const char *field, int64_t v)
{
	if (v)
		BSON_APPEND_INT64(b, field, v);
}

static void put_u64_if(bson_t *b, const char *field, uint64_t v)
{
	put_i64_if(b, field, (int64_t)v);
}

void mongo_put_times(const struct mfs_attr *a, bson_t *doc)
{
	bson_t times;

	BSON_APPEND_DOCUMENT_BEGIN(doc, "times", &times);
	BSON_APPEND_INT64(&times, "a", a->atime);
	BSON_APPEND_INT64(&times, "m", a->mtime);
	BSON_APPEND_INT64(&times, "c", a->ctime);
	bson_append_document_end(doc, &times);
}

void mongo_put_mode(const struct mfs_attr *a, bson_t *doc)
{
	BSON_APPEND_UTF8(doc, "type", type_of(a->mode));
	BSON_APPEND_INT64(doc, "mode", a->mode);
}

void mongo_put_ref(const struct object_ref *ref, bson_t *doc)
{
	put_i64_if(doc, "store", ref->store);
	mongo_put_string(doc, "bucket", ref->bucket);
	mongo_put_string(doc, "key", ref->key);
	if (ref->version[0])
		mongo_put_string(doc, "version", ref->version);
}

void mongo_put_sessions(bson_t *doc, const char *field, const struct node_blob *b)
{
	bson_t array;
	char key[16];

	if (!b->data || b->size == 0)
		return;
	BSON_APPEND_ARRAY_BEGIN(doc, field, &array);
	for (size_t i = 0; i < b->size / 8; i++) {
		const char *at;
		uint64_t v;

		memcpy(&v, (const char *)b->data + i * 8, sizeof(v));
		bson_uint32_to_string((uint32_t)i, &at, key, sizeof(key));
		mongo_put_u64(&array, at, v);
	}
	bson_append_array_end(doc, &array);
}

void mongo_put_xattrs(const struct node *n, bson_t *doc)
{
	bson_t array, one;
	char key[16];

	if (!n->n_xattrs)
		return;
	BSON_APPEND_ARRAY_BEGIN(doc, "xattrs", &array);
	for (size_t i = 0; i < n->n_xattrs; i++) {
		const struct node_xattr *x = &n->xattrs[i];
		const char *at;

		bson_uint32_to_string((uint32_t)i, &at, key, sizeof(key));
		BSON_APPEND_DOCUMENT_BEGIN(&array, at, &one);
		mongo_put_string(&one, "n", x->name);
		bson_append_binary(&one, "v", -1, BSON_SUBTYPE_BINARY, x->value, (uint32_t)x->size);
		bson_append_document_end(&array, &one);
	}
	bson_append_array_end(doc, &array);
}

void mongo_put_flags(uint32_t flags, bson_t *doc)
{
	put_i64_if(doc, "flags", flags & FLAGS_STORED);
	if (flags & (ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL))
		BSON_APPEND_BOOL(doc, "acl", true);
	if (flags & ATTR_HAS_LABEL)
		BSON_APPEND_BOOL(doc, "label", true);
}

/* A nameless record's name is its number: (parent, name) stays unique. */
static void put_place(const struct node *n, bson_t *doc)
{
	mongo_put_u64(doc, "_id", n->attr.ino);
	mongo_put_u64(doc, "parent", n->parent);
	if (n->parent)
		mongo_put_name(doc, "name", &n->name);
	else
		mongo_put_u64(doc, "name", n->attr.ino);
	mongo_put_u64(doc, "pos", n->pos);
}

static void put_attr(const struct mfs_attr *a, bson_t *doc)
{
	mongo_put_mode(a, doc);
	BSON_APPEND_INT64(doc, "uid", a->uid);
	BSON_APPEND_INT64(doc, "gid", a->gid);
	mongo_put_u64(doc, "size", a->size);
	BSON_APPEND_INT64(doc, "nlink", a->nlink);
	put_i64_if(doc, "children", a->children);
	put_u64_if(doc, "rdev", a->rdev);
	mongo_put_times(a, doc);
	BSON_APPEND_INT64(doc, "created", a->btime); /* also 0: it is searched for */
	mongo_put_u64(doc, "ver", a->ver);
	mongo_put_u64(doc, "data", a->data);
	mongo_put_u64(doc, "lay", a->lay);
	put_u64_if(doc, "obj", a->obj_len);
	put_u64_if(doc, "alloc", a->alloc);
	if (a->flags & ATTR_SHARED)
		BSON_APPEND_BOOL(doc, "shared", true);
}

static void put_creator(const struct node *n, bson_t *doc)
{
	bson_t sub;

	if (!n->creator_uid && !n->creator_user && !n->creator_host)
		return;
	BSON_APPEND_DOCUMENT_BEGIN(doc, "creator", &sub);
	BSON_APPEND_INT64(&sub, "uid", n->creator_uid);
	mongo_put_string(&sub, "user", n->creator_user);
	mongo_put_string(&sub, "host", n->creator_host);
	bson_append_document_end(doc, &sub);
}

void mongo_node_put(const struct node *n, bson_t *doc)
{
	put_place(n, doc);
	put_attr(&n->attr, doc);
	mongo_put_flags(mongo_flags_of(n), doc);
	mongo_put_ref(&n->ref, doc);
	if (n->etag[0])
		mongo_put_string(doc, "etag", n->etag);
	if (n->hash[0])
		mongo_put_string(doc, "hash", n->hash);
	mongo_put_string(doc, "symlink", n->symlink);
	mongo_put_xattrs(n, doc);
	(void)mongo_put_tags(n, doc);
	put_creator(n, doc);
	mongo_put_string(doc, "mime", n->mime);
	put_i64_if(doc, "todo", n->todo);
	put_u64_if(doc, "pending", n->pending);
	put_u64_if(doc, "quota", n->quota);
	put_u64_if(doc, "dying", n->dying);
	mongo_put_sessions(doc, "fenced", &n->fenced);
	mongo_put_blob(doc, "inline", &n->inline_data);
	mongo_put_blob(doc, "slices", &n->slices);
	mongo_put_blob(doc, "holes", &n->holes);
	if (!(n->attr.flags & ATTR_IN_TRASH))
		return;
	mongo_put_string(doc, "path", n->trash_path);
	BSON_APPEND_INT64(doc, "trashed", n->trash_time);
	mongo_put_sessions(doc, "openers", &n->openers);
}

void mongo_alias_put(const struct alias *a, bson_t *doc)
{
	mongo_put_u64(doc, "_id", a->id);
	mongo_put_u64(doc, "parent", a->parent);
	mongo_put_name(doc, "name", &a->name);
	mongo_put_u64(doc, "pos", a->id);
	mongo_put_u64(doc, "target", a->target);
}

/* --- reading --- */

void mongo_get_ref(struct mongo_doc *d, struct object_ref *ret)
{
	uint32_t store = mongo_doc_u32(d, "store");

	if (store > UINT16_MAX)
		mongo_doc_fault(d, "store", -EUCLEAN);
	ret->store = (uint16_t)store;
	ret->bucket = mongo_doc_string(d, "bucket", 255);
	ret->key = mongo_doc_string(d, "key", OBJECT_KEY_MAX);
	mongo_doc_chars(d, "version", ret->version, sizeof(ret->version));
}

static void get_sessions(struct mongo_doc *d, const char *field, struct node_blob *ret)
{
	bson_iter_t it;
	size_t cap = 0;

	*ret = (struct node_blob){ 0 };
	if (!mongo_doc_iter(d, field, BSON_TYPE_ARRAY, &it))
		return;
	while (!d->bad && bson_iter_next(&it)) {
		uint64_t v;

		if (!BSON_ITER_HOLDS_INT64(&it) || ret->size >= SESSIONS_MAX * sizeof(v)) {
			mongo_doc_fault(d, field, -EUCLEAN);
			break;
		}
		if (ret->size == cap) {
			void *grown = realloc(ret->data, cap ? cap * 2 : 64);

			if (!grown) {
				mongo_doc_fault(d, field, -ENOMEM);
				break;
			}
			ret->data = grown;
			cap = cap ? cap * 2 : 64;
		}
		v = (uint64_t)bson_iter_int64(&it);
		memcpy((char *)ret->data + ret->size, &v, sizeof(v));
		ret->size += sizeof(v);
	}
}

/* One of `xattrs`. 0, -EUCLEAN, -ENOMEM. */
static int get_xattr(const bson_iter_t *at, struct node_xattr *ret)
{
	const void *name = NULL, *value = NULL;
	size_t name_len = 0, size = 0;
	bson_iter_t it;

	if (!BSON_ITER_HOLDS_DOCUMENT(at) || !bson_iter_recurse(at, &it))
		return -EUCLEAN;
	while (bson_iter_next(&it)) {
		const char *key = bson_iter_key(&it);

		if (!strcmp(key, "n") && !mongo_iter_bytes(&it, &name, &name_len))
			return -EUCLEAN;
		if (!strcmp(key, "v") && !(BSON_ITER_HOLDS_BINARY(&it) && mongo_iter_bytes(&it, &value, &size)))
			return -EUCLEAN;
	}
	if (!name || !value || name_len == 0 || name_len > MFS_XATTR_NAME_MAX || memchr(name, 0, name_len) || size > MFS_XATTR_SIZE_MAX)
		return -EUCLEAN;
	ret->name = strndup(name, name_len);
	ret->value = malloc(size ? size : 1);
	ret->size = size;
	if (!ret->name || !ret->value)
		return -ENOMEM;
	if (size)
		memcpy(ret->value, value, size);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Is a name there twice? In n log n: who wrote the document may mean ill. */
static int names_differ(const struct node *n)
{
	char **v = reallocarray(NULL, n->n_xattrs + 1, sizeof(*v));
	bool twice = false;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n->n_xattrs; i++)
		v[i] = n->xattrs[i].name;
	qsort(v, n->n_xattrs, sizeof(*v), by_name);
	for (size_t i = 1; i < n->n_xattrs; i++)
		twice |= strcmp(v[i - 1], v[i]) == 0;
	free(v);
	return twice ? -EUCLEAN : 0;
}

static void get_xattrs(struct mongo_doc *d, struct node *n)
{
	size_t total = 0, cap = 0;
	bson_iter_t it;
	int r = 0;

	if (!mongo_doc_iter(d, "xattrs", BSON_TYPE_ARRAY, &it))
		return;
	while (r == 0 && bson_iter_next(&it)) {
		struct node_xattr *x;

		if (n->n_xattrs == cap) {
			struct node_xattr *grown = reallocarray(n->xattrs, cap ? cap * 2 : 8, sizeof(*grown));

			if (!grown) {
				r = -ENOMEM;
				break;
			}
			n->xattrs = grown;
			cap = cap ? cap * 2 : 8;
		}
		x = &n->xattrs[n->n_xattrs++];
		*x = (struct node_xattr){ 0 };
		r = get_xattr(&it, x);
		if (r == 0)
			total += strlen(x->name) + x->size;
		if (r == 0 && (total > MFS_XATTR_TOTAL_MAX || n->n_xattrs > XATTR_MAX))
			r = -EUCLEAN;
	}
	if (r == 0 && n->n_xattrs > 1)
		r = names_differ(n);
	if (r < 0)
		mongo_doc_fault(d, "xattrs", r);
}

static void get_attr(struct mongo_doc *d, bool in_trash, struct mfs_attr *a)
{
	a->ino = mongo_doc_need(d, "_id");
	(void)mongo_doc_need(d, "mode");
	a->mode = mongo_doc_u32(d, "mode");
	a->uid = mongo_doc_u32(d, "uid");
	a->gid = mongo_doc_u32(d, "gid");
	a->size = mongo_doc_need(d, "size");
	a->nlink = mongo_doc_u32(d, "nlink");
	a->children = mongo_doc_u32(d, "children");
	a->rdev = mongo_doc_u64(d, "rdev");
	a->atime = mongo_doc_i64(d, "times.a", 0);
	a->mtime = mongo_doc_i64(d, "times.m", 0);
	a->ctime = mongo_doc_i64(d, "times.c", 0);
	a->btime = mongo_doc_i64(d, "created", 0);
	a->ver = mongo_doc_need(d, "ver");
	a->data = mongo_doc_u64(d, "data");
	a->lay = mongo_doc_u64(d, "lay");
	a->obj_len = mongo_doc_u64(d, "obj");
	a->alloc = mongo_doc_u64(d, "alloc");
	a->flags = mongo_doc_u32(d, "flags") & FLAGS_STORED;
	if (mongo_doc_bool(d, "shared"))
		a->flags |= ATTR_SHARED;
	if (in_trash)
		a->flags |= ATTR_IN_TRASH;
	if (a->ino == 0)
		mongo_doc_fault(d, "_id", -EUCLEAN);
	if (a->size > (uint64_t)INT64_MAX)
		mongo_doc_fault(d, "size", -EUCLEAN);
	if (a->obj_len > (uint64_t)INT64_MAX)
		mongo_doc_fault(d, "obj", -EUCLEAN);
	if (!d->bad && (a->mode & S_IFMT) && !strcmp(type_of(a->mode), "other"))
		mongo_doc_fault(d, "mode", -EUCLEAN);
}

static void get_place(struct mongo_doc *d, bool in_trash, struct node *n)
{
	n->parent = in_trash ? 0 : mongo_doc_u64(d, "parent");
	if (n->parent)
		mongo_doc_name(d, "name", &n->name);
	n->pos = mongo_doc_u64(d, "pos");
	if (n->pos > (uint64_t)INT64_MAX)
		mongo_doc_fault(d, "pos", -EUCLEAN);
}

static void get_rest(struct mongo_doc *d, bool in_trash, struct node *n)
{
	mongo_get_ref(d, &n->ref);
	mongo_doc_chars(d, "etag", n->etag, sizeof(n->etag));
	mongo_doc_chars(d, "hash", n->hash, sizeof(n->hash));
	n->symlink = mongo_doc_string(d, "symlink", MFS_SYMLINK_MAX);
	get_xattrs(d, n);
	n->creator_uid = mongo_doc_u32(d, "creator.uid");
	n->creator_user = mongo_doc_string(d, "creator.user", 1024);
	n->creator_host = mongo_doc_string(d, "creator.host", 1024);
	n->mime = mongo_doc_string(d, "mime", 1024);
	n->todo = mongo_doc_i64(d, "todo", 0);
	n->pending = mongo_doc_u64(d, "pending");
	n->quota = mongo_doc_u64(d, "quota");
	n->dying = mongo_doc_u64(d, "dying");
	get_sessions(d, "fenced", &n->fenced);
	mongo_doc_blob(d, "inline", MFS_INLINE_MAX, &n->inline_data);
	mongo_doc_blob(d, "slices", LAYOUT_BLOB_MAX, &n->slices);
	mongo_doc_blob(d, "holes", HOLES_MAX, &n->holes);
	if (!in_trash)
		return;
	n->trash_path = mongo_doc_string(d, "path", PATH_MAX_BYTES);
	n->trash_time = mongo_doc_i64(d, "trashed", 0);
	get_sessions(d, "openers", &n->openers);
}

int mongo_node_parse(const bson_t *doc, bool in_trash, bool partial, struct node *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = in_trash ? MONGO_TRASH : MONGO_FILES };
	int r;

	node_init(ret);
	get_attr(&d, in_trash, &ret->attr);
	get_place(&d, in_trash, ret);
	ret->partial = partial;
	if (!partial) {
		get_rest(&d, in_trash, ret);
		if (!d.bad)
			node_derive(ret);
	}
	r = mongo_doc_end(&d);
	if (r < 0)
		node_release(ret);
	return r;
}

int mongo_attr_parse(const bson_t *doc, bool in_trash, struct mfs_attr *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = in_trash ? MONGO_TRASH : MONGO_FILES };

	*ret = (struct mfs_attr){ 0 };
	get_attr(&d, in_trash, ret);
	return mongo_doc_end(&d);
}

bool mongo_is_alias(const bson_t *doc)
{
	bson_iter_t it;

	return bson_iter_init_find(&it, doc, "target");
}

int mongo_alias_parse(const bson_t *doc, struct alias *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_FILES };

	*ret = (struct alias){ 0 };
	ret->id = mongo_doc_need(&d, "_id");
	ret->parent = mongo_doc_need(&d, "parent");
	ret->target = mongo_doc_need(&d, "target");
	mongo_doc_name(&d, "name", &ret->name);
	if (!ret->id || !ret->parent || !ret->target || ret->target == ret->id)
		mongo_doc_fault(&d, "target", -EUCLEAN);
	return mongo_doc_end(&d);
}

/* What can be big; each further one costs a server time in every document of a page. */
void mongo_list_projection(bson_t *projection)
{
	static const char *const left_out[] = { "inline", "slices", "xattrs", "tags", "ops", "fenced" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(left_out); i++)
		BSON_APPEND_INT32(projection, left_out[i], 0);
}
