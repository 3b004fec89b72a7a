/*
 * struct node <-> a row of `files` or `trash`, with what lies beside the row: big xattr values and contents.
 *
 * The xattrs column is the whole set, packed: for each, u16 length of the name, u32 length of the value (its top bit:
 * the value is in xattrs_big), name, value; little-endian. One column, so that a get is one row.
 */
#include "meta/sqlite_row.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/str.h"

#define XATTR_IS_BIG  0x80000000u

static bool is_ascii(const unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] >= 0x80 || p[i] == 0)
			return false;
	return true;
}

void row_bind_bytes(sqlite3_stmt *st, int i, const void *p, size_t len)
{
	if (!p)
		(void)sqlite3_bind_null(st, i);
	else if (is_ascii(p, len) || mfs_utf8_valid(p, len))
		(void)sqlite3_bind_text(st, i, p, (int)len, SQLITE_STATIC);
	else
		(void)sqlite3_bind_blob(st, i, p, (int)len, SQLITE_STATIC);
}

void row_bind_string(sqlite3_stmt *st, int i, const char *s)
{
	row_bind_bytes(st, i, s, s ? strlen(s) : 0);
}

/* A nameless record has NULL there, of which a unique index takes any number. */
void row_bind_name(sqlite3_stmt *st, int i, const struct mfs_name *name)
{
	row_bind_bytes(st, i, name->len ? name->bytes : NULL, name->len);
}

void row_bind_blob(sqlite3_stmt *st, int i, const struct node_blob *b)
{
	if (!b->data)
		(void)sqlite3_bind_null(st, i);
	else
		(void)sqlite3_bind_blob(st, i, b->data, (int)b->size, SQLITE_STATIC);
}

/* Of what is in `contents`; a lean node has no data. */
static void bind_len(sqlite3_stmt *st, int i, const struct node_blob *b)
{
	if (b->data || b->size)
		bind_u64(st, i, b->size);
	else
		(void)sqlite3_bind_null(st, i);
}

void row_bind_ref(sqlite3_stmt *st, int first, const struct object_ref *ref)
{
	bind_i64(st, first, ref->store);
	row_bind_string(st, first + 1, ref->bucket);
	row_bind_string(st, first + 2, ref->key);
	row_bind_string(st, first + 3, ref->version[0] ? ref->version : NULL);
}

/* Packing of xattrs. */

static size_t packed_size(const struct node *n)
{
	size_t size = 0;

	for (size_t i = 0; i < n->n_xattrs; i++) {
		size += 6 + strlen(n->xattrs[i].name);
		if (n->xattrs[i].size <= MFS_XATTR_BIG)
			size += n->xattrs[i].size;
	}
	return size;
}

static int bind_xattrs(sqlite3_stmt *st, const struct node *n)
{
	unsigned char *buf, *p;

	if (n->n_xattrs == 0) {
		(void)sqlite3_bind_null(st, COL_XATTRS);
		return 0;
	}
	buf = p = malloc(packed_size(n));
	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < n->n_xattrs; i++) {
		const struct node_xattr *x = &n->xattrs[i];
		bool big = x->size > MFS_XATTR_BIG;
		uint16_t name_len = (uint16_t)strlen(x->name), le_name = htole16(name_len);
		uint32_t le_size = htole32((uint32_t)x->size | (big ? XATTR_IS_BIG : 0));

		memcpy(p, &le_name, 2);
		memcpy(p + 2, &le_size, 4);
		memcpy(p + 6, x->name, name_len);
		p += 6 + name_len;
		if (!big && x->size) {
			memcpy(p, x->value, x->size);
			p += x->size;
		}
	}
	/* SQLite frees it, when the statement is bound again at the latest. */
	return sqlite3_bind_blob(st, COL_XATTRS, buf, (int)(p - buf), free) == SQLITE_OK ? 0 : -ENOMEM;
}

static int damaged(struct sqlite_conn *c, const struct node *n, const char *what)
{
	mfs_log(MFS_LOG_META, MFS_LOG_ERR, c->op, "index=%s ino=%" PRIu64 " damaged record: %s; run massfs fsck",
		c->path, n->attr.ino, what);
	return -EIO;
}

static int read_big_xattr(struct sqlite_conn *c, struct node *n, const char *name, size_t size)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_XATTR_BIG_GET, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, n->attr.ino);
	row_bind_string(st, 2, name);
	r = conn_step(c, st);
	if (r < 0)
		return r;
	if (r == 0 || (size_t)sqlite3_column_bytes(st, 0) != size)
		return damaged(c, n, "a big extended attribute is missing");
	return node_xattr_set(n, name, sqlite3_column_blob(st, 0), size);
}

static int read_xattrs(struct sqlite_conn *c, sqlite3_stmt *st, struct node *n)
{
	const unsigned char *p = sqlite3_column_blob(st, COL_XATTRS - 1);
	size_t left = p ? (size_t)sqlite3_column_bytes(st, COL_XATTRS - 1) : 0;

	while (left) {
		uint16_t name_len;
		uint32_t size;
		char name[MFS_XATTR_NAME_MAX + 1];
		bool big;
		int r;

		if (left < 6)
			return damaged(c, n, "extended attributes");
		memcpy(&name_len, p, 2);
		memcpy(&size, p + 2, 4);
		name_len = le16toh(name_len);
		size = le32toh(size);
		big = size & XATTR_IS_BIG;
		size &= ~XATTR_IS_BIG;
		if (name_len > MFS_XATTR_NAME_MAX || left - 6 < name_len || (!big && left - 6 - name_len < size))
			return damaged(c, n, "extended attributes");
		memcpy(name, p + 6, name_len);
		name[name_len] = '\0';
		p += 6 + name_len;
		left -= 6 + (size_t)name_len;
		r = big ? read_big_xattr(c, n, name, size) : node_xattr_set(n, name, p, size);
		if (r < 0)
			return r;
		if (!big) {
			p += size;
			left -= size;
		}
	}
	return 0;
}

/* Node to row. */

static void bind_attr(sqlite3_stmt *st, const struct node *n)
{
	const struct mfs_attr *a = &n->attr;

	bind_u64(st, COL_INO, a->ino);
	bind_u64(st, COL_PARENT, n->parent);
	row_bind_name(st, COL_NAME, &n->name);
	bind_u64(st, COL_POS, n->pos);
	bind_i64(st, COL_MODE, a->mode);
	bind_i64(st, COL_UID, a->uid);
	bind_i64(st, COL_GID, a->gid);
	bind_i64(st, COL_NLINK, a->nlink);
	bind_u64(st, COL_RDEV, a->rdev);
	bind_u64(st, COL_SIZE, a->size);
	bind_u64(st, COL_OBJ_LEN, a->obj_len);
	bind_u64(st, COL_ALLOC, a->alloc);
	bind_i64(st, COL_ATIME, a->atime);
	bind_i64(st, COL_MTIME, a->mtime);
	bind_i64(st, COL_CTIME, a->ctime);
	bind_i64(st, COL_BTIME, a->btime);
	bind_u64(st, COL_VER, a->ver);
	bind_u64(st, COL_DATA, a->data);
	bind_u64(st, COL_LAY, a->lay);
	bind_i64(st, COL_FLAGS, a->flags & ~(uint32_t)ATTR_IN_TRASH);
	bind_i64(st, COL_CHILDREN, a->children);
}

static int bind_body(sqlite3_stmt *st, const struct node *n)
{
	bind_u64(st, COL_DYING, n->dying);
	row_bind_ref(st, COL_STORE, &n->ref);
	row_bind_string(st, COL_ETAG, n->etag[0] ? n->etag : NULL);
	row_bind_string(st, COL_HASH, n->hash[0] ? n->hash : NULL);
	row_bind_string(st, COL_SYMLINK, n->symlink);
	bind_i64(st, COL_CREATOR_UID, n->creator_uid);
	row_bind_string(st, COL_CREATOR_USER, n->creator_user);
	row_bind_string(st, COL_CREATOR_HOST, n->creator_host);
	row_bind_string(st, COL_MIME, n->mime);
	bind_i64(st, COL_TODO, n->todo);
	bind_u64(st, COL_PENDING, n->pending);
	bind_u64(st, COL_QUOTA, n->quota);
	row_bind_blob(st, COL_FENCED, &n->fenced);
	bind_len(st, COL_INLINE_LEN, &n->inline_data);
	bind_len(st, COL_SLICES_LEN, &n->slices);
	row_bind_blob(st, COL_HOLES, &n->holes);
	return bind_xattrs(st, n);
}

int row_bind(sqlite3_stmt *st, const struct node *n, enum row_col last)
{
	int r;

	bind_attr(st, n);
	if (last == COL_LAST_ATTR)
		return 0;
	r = bind_body(st, n);
	if (r < 0 || last == COL_LAST_BODY)
		return r;
	row_bind_string(st, COL_TRASH_PATH, n->trash_path);
	bind_i64(st, COL_TRASH_TIME, n->trash_time);
	row_bind_blob(st, COL_OPENERS, &n->openers);
	return 0;
}

/* Row to node. */

int row_get_string(sqlite3_stmt *st, int i, char **ret)
{
	const void *p = sqlite3_column_blob(st, i);
	size_t len = (size_t)sqlite3_column_bytes(st, i);
	char *s;

	*ret = NULL;
	if (!p && sqlite3_column_type(st, i) == SQLITE_NULL)
		return 0;
	s = malloc(len + 1);
	if (!s)
		return -ENOMEM;
	if (len)
		memcpy(s, p, len);
	s[len] = '\0';
	*ret = s;
	return 0;
}

int row_get_name(sqlite3_stmt *st, int i, struct mfs_name *ret)
{
	const void *p = sqlite3_column_blob(st, i);
	size_t len = (size_t)sqlite3_column_bytes(st, i);

	if (len > MFS_NAME_MAX)
		return -EIO;
	ret->len = (uint16_t)len;
	if (len)
		memcpy(ret->bytes, p, len);
	memset(ret->bytes + len, 0, sizeof(ret->bytes) - len);
	return 0;
}

/* Into a fixed buffer, cut to what fits. */
void row_get_fixed(sqlite3_stmt *st, int i, char *buf, size_t size)
{
	const void *p = sqlite3_column_blob(st, i);
	size_t len = MFS_MIN((size_t)sqlite3_column_bytes(st, i), size - 1);

	if (len)
		memcpy(buf, p, len);
	buf[len] = '\0';
}

int row_get_blob(sqlite3_stmt *st, int i, struct node_blob *ret)
{
	const void *p = sqlite3_column_blob(st, i);
	size_t len = (size_t)sqlite3_column_bytes(st, i);

	if (sqlite3_column_type(st, i) == SQLITE_NULL)
		return 0;
	ret->data = malloc(len + 1);
	if (!ret->data)
		return -ENOMEM;
	if (len)
		memcpy(ret->data, p, len);
	ret->size = len;
	return 0;
}

/* An empty one is whole already. */
static int get_len(sqlite3_stmt *st, int i, struct node_blob *ret)
{
	ret->size = (size_t)sqlite3_column_int64(st, i);
	if (ret->size || sqlite3_column_type(st, i) == SQLITE_NULL)
		return 0;
	ret->data = malloc(1);
	return ret->data ? 0 : -ENOMEM;
}

int row_get_ref(sqlite3_stmt *st, int first, struct object_ref *ret)
{
	int r;

	*ret = (struct object_ref){ .store = (uint16_t)sqlite3_column_int(st, first) };
	row_get_fixed(st, first + 3, ret->version, sizeof(ret->version));
	r = row_get_string(st, first + 1, &ret->bucket);
	return r < 0 ? r : row_get_string(st, first + 2, &ret->key);
}

int row_read_attr(sqlite3_stmt *st, struct node *ret)
{
	struct mfs_attr *a = &ret->attr;

	/* Column N of the row is number N - 1 of the result. */
	a->ino = column_u64(st, COL_INO - 1);
	ret->parent = column_u64(st, COL_PARENT - 1);
	ret->pos = column_u64(st, COL_POS - 1);
	a->mode = column_u32(st, COL_MODE - 1);
	a->uid = column_u32(st, COL_UID - 1);
	a->gid = column_u32(st, COL_GID - 1);
	a->nlink = column_u32(st, COL_NLINK - 1);
	a->rdev = column_u64(st, COL_RDEV - 1);
	a->size = column_u64(st, COL_SIZE - 1);
	a->obj_len = column_u64(st, COL_OBJ_LEN - 1);
	a->alloc = column_u64(st, COL_ALLOC - 1);
	a->atime = sqlite3_column_int64(st, COL_ATIME - 1);
	a->mtime = sqlite3_column_int64(st, COL_MTIME - 1);
	a->ctime = sqlite3_column_int64(st, COL_CTIME - 1);
	a->btime = sqlite3_column_int64(st, COL_BTIME - 1);
	a->ver = column_u64(st, COL_VER - 1);
	a->data = column_u64(st, COL_DATA - 1);
	a->lay = column_u64(st, COL_LAY - 1);
	a->flags = column_u32(st, COL_FLAGS - 1);
	a->children = column_u32(st, COL_CHILDREN - 1);
	ret->partial = true;
	return row_get_name(st, COL_NAME - 1, &ret->name);
}

static int read_body(struct sqlite_conn *c, sqlite3_stmt *st, struct node *n)
{
	int r = row_get_ref(st, COL_STORE - 1, &n->ref);

	n->dying = column_u64(st, COL_DYING - 1);
	row_get_fixed(st, COL_ETAG - 1, n->etag, sizeof(n->etag));
	row_get_fixed(st, COL_HASH - 1, n->hash, sizeof(n->hash));
	n->creator_uid = column_u32(st, COL_CREATOR_UID - 1);
	n->todo = sqlite3_column_int64(st, COL_TODO - 1);
	n->pending = column_u64(st, COL_PENDING - 1);
	n->quota = column_u64(st, COL_QUOTA - 1);
	if (r == 0)
		r = row_get_string(st, COL_SYMLINK - 1, &n->symlink);
	if (r == 0)
		r = row_get_string(st, COL_CREATOR_USER - 1, &n->creator_user);
	if (r == 0)
		r = row_get_string(st, COL_CREATOR_HOST - 1, &n->creator_host);
	if (r == 0)
		r = row_get_string(st, COL_MIME - 1, &n->mime);
	if (r == 0)
		r = row_get_blob(st, COL_FENCED - 1, &n->fenced);
	if (r == 0)
		r = get_len(st, COL_INLINE_LEN - 1, &n->inline_data);
	if (r == 0)
		r = get_len(st, COL_SLICES_LEN - 1, &n->slices);
	if (r == 0)
		r = row_get_blob(st, COL_HOLES - 1, &n->holes);
	if (r == 0)
		r = read_xattrs(c, st, n);
	if (r == 0)
		r = row_get_string(st, COL_TRASH_PATH - 1, &n->trash_path);
	if (r == 0)
		r = row_get_blob(st, COL_OPENERS - 1, &n->openers);
	n->trash_time = sqlite3_column_int64(st, COL_TRASH_TIME - 1);
	if (sqlite3_column_int(st, COL_IN_TRASH - 1))
		n->attr.flags |= ATTR_IN_TRASH;
	return r;
}

int row_read_lean(struct sqlite_conn *c, sqlite3_stmt *st, struct node *ret)
{
	int r;

	node_init(ret);
	r = row_read_attr(st, ret);
	ret->partial = false;
	if (r == 0)
		r = read_body(c, st, ret);
	if (r < 0)
		node_release(ret);
	return r;
}

/* The bytes of one of the two, of which the row says how many there are. */
static int fill_blob(struct sqlite_conn *c, sqlite3_stmt *st, int i, const struct node *n, struct node_blob *b)
{
	if (b->size == 0)
		return 0;
	if ((size_t)sqlite3_column_bytes(st, i) != b->size)
		return damaged(c, n, "its inline bytes or slices are not as long as the record says");
	return row_get_blob(st, i, b);
}

/* The statement that gave the row is still open, so this sees the same state of the database. */
static int read_contents(struct sqlite_conn *c, struct node *n)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_CONTENTS_GET, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, n->attr.ino);
	r = conn_step(c, st);
	if (r < 0)
		return r;
	if (r == 0)
		return damaged(c, n, "its inline bytes or slices are missing");
	r = fill_blob(c, st, 0, n, &n->inline_data);
	return r < 0 ? r : fill_blob(c, st, 1, n, &n->slices);
}

int row_read(struct sqlite_conn *c, sqlite3_stmt *st, struct node *ret)
{
	int r = row_read_lean(c, st, ret);

	if (r < 0 || !row_has_contents(ret))
		return r;
	r = read_contents(c, ret);
	if (r < 0)
		node_release(ret);
	return r;
}

/* Beside the row. */

static int put_big_xattr(struct sqlite_conn *c, mfs_ino_t ino, const struct node_xattr *x)
{
	CONN_STMT(st);
	int r = conn_stmt(c, SQL_XATTR_BIG_PUT, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, ino);
	row_bind_string(st, 2, x->name);
	(void)sqlite3_bind_blob(st, 3, x->value, (int)x->size, SQLITE_STATIC);
	return conn_run(c, st);
}

int row_put_big_xattrs(struct sqlite_conn *c, const struct node *n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->n_xattrs; i++)
		if (n->xattrs[i].size > MFS_XATTR_BIG)
			r = put_big_xattr(c, n->attr.ino, &n->xattrs[i]);
	return r;
}

bool row_has_big_xattrs(const struct node *n)
{
	for (size_t i = 0; i < n->n_xattrs; i++)
		if (n->xattrs[i].size > MFS_XATTR_BIG)
			return true;
	return false;
}

static int delete_of(struct sqlite_conn *c, enum sql_id id, mfs_ino_t ino)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	if (r < 0)
		return r;
	bind_u64(st, 1, ino);
	return conn_run(c, st);
}

int row_delete_big_xattrs(struct sqlite_conn *c, mfs_ino_t ino)
{
	return delete_of(c, SQL_XATTR_BIG_DELETE, ino);
}

int row_put_contents(struct sqlite_conn *c, const struct node *n, bool had)
{
	CONN_STMT(st);
	int r;

	if (!row_has_contents(n))
		return had ? delete_of(c, SQL_CONTENTS_DELETE, n->attr.ino) : 0;
	r = conn_stmt(c, SQL_CONTENTS_PUT, &st);
	if (r < 0)
		return r;
	bind_u64(st, 1, n->attr.ino);
	row_bind_blob(st, 2, &n->inline_data);
	row_bind_blob(st, 3, &n->slices);
	return conn_run(c, st);
}
