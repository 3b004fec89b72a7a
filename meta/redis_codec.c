/*
 * Numbers are varints (signed ones zigzagged), strings and blobs have their length plus one before them, 0: absent.
 */
#include "meta/redis_codec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define XATTRS_MAX 4096

/* --- writing --- */

static void put_u(struct mfs_buf *b, uint64_t v)
{
	char bytes[10];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (char)(v | 0x80);
	bytes[n++] = (char)v;
	mfs_buf_append(b, bytes, n);
}

static void put_i(struct mfs_buf *b, int64_t v)
{
	put_u(b, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

static void put_bytes(struct mfs_buf *b, const void *data, size_t len)
{
	if (!data) {
		put_u(b, 0);
		return;
	}
	put_u(b, len + 1);
	mfs_buf_append(b, data, len);
}

static void put_string(struct mfs_buf *b, const char *s)
{
	put_bytes(b, s, s ? strlen(s) : 0);
}

static void put_blob(struct mfs_buf *b, const struct node_blob *v)
{
	put_bytes(b, v->data, v->size);
}

static void put_name(struct mfs_buf *b, const struct mfs_name *n)
{
	put_bytes(b, n->bytes, n->len);
}

/* --- reading --- */

struct rd {
	const unsigned char *p, *end;
	int err;
};

static uint64_t get_u(struct rd *r)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64 && r->p < r->end; shift += 7) {
		unsigned char c = *r->p++;

		if (shift == 63 && c > 1)
			break;
		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return v;
	}
	r->err = r->err ? r->err : -EBADMSG;
	return 0;
}

static int64_t get_i(struct rd *r)
{
	uint64_t v = get_u(r);

	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static uint32_t get_u32(struct rd *r)
{
	uint64_t v = get_u(r);

	if (v > UINT32_MAX)
		r->err = r->err ? r->err : -EBADMSG;
	return (uint32_t)v;
}

/* NULL: absent, or an error. */
static const unsigned char *get_bytes(struct rd *r, size_t *ret_len)
{
	uint64_t n = get_u(r);
	const unsigned char *p = r->p;

	*ret_len = 0;
	if (n == 0 || r->err)
		return NULL;
	if (n - 1 > (uint64_t)(r->end - r->p)) {
		r->err = -EBADMSG;
		return NULL;
	}
	*ret_len = (size_t)(n - 1);
	r->p += *ret_len;
	return p;
}

static void get_copy(struct rd *r, bool text, char **ret, size_t *ret_len)
{
	const unsigned char *p = get_bytes(r, ret_len);

	*ret = NULL;
	if (!p)
		return;
	if (text && memchr(p, '\0', *ret_len)) {
		r->err = -EBADMSG;
		return;
	}
	*ret = malloc(*ret_len + 1);
	if (!*ret) {
		r->err = -ENOMEM;
		return;
	}
	memcpy(*ret, p, *ret_len);
	(*ret)[*ret_len] = '\0';
}

static char *get_string(struct rd *r)
{
	size_t len;
	char *s;

	get_copy(r, true, &s, &len);
	return s;
}

static void get_blob(struct rd *r, struct node_blob *ret)
{
	char *p;

	get_copy(r, false, &p, &ret->size);
	ret->data = p;
	if (!p)
		ret->size = 0;
}

/* Into a fixed place of `size` bytes with the NUL. */
static void get_text(struct rd *r, char *ret, size_t size)
{
	size_t len;
	const unsigned char *p = get_bytes(r, &len);

	ret[0] = '\0';
	if (!p)
		return;
	if (len >= size || memchr(p, '\0', len)) {
		r->err = -EBADMSG;
		return;
	}
	memcpy(ret, p, len);
	ret[len] = '\0';
}

static void get_name(struct rd *r, struct mfs_name *ret)
{
	get_text(r, ret->bytes, sizeof(ret->bytes));
	ret->len = (uint16_t)strlen(ret->bytes);
}

static int done(const struct rd *r)
{
	return r->err ? r->err : r->p == r->end ? 0 : -EBADMSG;
}

/* --- heads --- */

void value_put_head(struct mfs_buf *b, const struct value_head *h)
{
	char text[REDIS_HEADER + 1];

	snprintf(text, sizeof(text), "%c%016llx%016llx", (char)h->kind, (unsigned long long)h->stamp,
		 (unsigned long long)h->ver);
	mfs_buf_append(b, text, REDIS_HEADER);
}

static int get_hex(const char *s, uint64_t *ret)
{
	*ret = 0;
	for (unsigned int i = 0; i < 16; i++) {
		unsigned int digit;

		if (s[i] >= '0' && s[i] <= '9')
			digit = (unsigned int)(s[i] - '0');
		else if (s[i] >= 'a' && s[i] <= 'f')
			digit = (unsigned int)(s[i] - 'a') + 10;
		else
			return -EBADMSG;
		*ret = *ret << 4 | digit;
	}
	return 0;
}

int value_get_head(const char *data, size_t len, struct value_head *ret)
{
	int r;

	if (len < REDIS_HEADER || !memchr("RENPQT", data[0], 6))
		return -EBADMSG;
	ret->kind = (enum value_kind)data[0];
	r = get_hex(data + 1, &ret->stamp);
	return r < 0 ? r : get_hex(data + 17, &ret->ver);
}

/* --- records --- */

static void put_attr(struct mfs_buf *b, const struct mfs_attr *a)
{
	put_u(b, a->ino);
	put_u(b, a->ver);
	put_u(b, a->data);
	put_u(b, a->lay);
	put_u(b, a->size);
	put_u(b, a->obj_len);
	put_u(b, a->alloc);
	put_i(b, a->atime);
	put_i(b, a->mtime);
	put_i(b, a->ctime);
	put_i(b, a->btime);
	put_u(b, a->mode);
	put_u(b, a->uid);
	put_u(b, a->gid);
	put_u(b, a->nlink);
	put_u(b, a->rdev);
	put_u(b, a->flags);
	put_u(b, a->children);
}

static void get_attr(struct rd *r, struct mfs_attr *a)
{
	a->ino = get_u(r);
	a->ver = get_u(r);
	a->data = get_u(r);
	a->lay = get_u(r);
	a->size = get_u(r);
	a->obj_len = get_u(r);
	a->alloc = get_u(r);
	a->atime = get_i(r);
	a->mtime = get_i(r);
	a->ctime = get_i(r);
	a->btime = get_i(r);
	a->mode = get_u32(r);
	a->uid = get_u32(r);
	a->gid = get_u32(r);
	a->nlink = get_u32(r);
	a->rdev = get_u(r);
	a->flags = get_u32(r);
	a->children = get_u32(r);
}

static void put_xattrs(struct mfs_buf *b, const struct node *n)
{
	put_u(b, n->n_xattrs);
	for (size_t i = 0; i < n->n_xattrs; i++) {
		put_string(b, n->xattrs[i].name);
		put_bytes(b, n->xattrs[i].value, n->xattrs[i].size);
	}
}

static void get_xattrs(struct rd *r, struct node *n)
{
	uint64_t count = get_u(r);

	if (r->err || count == 0)
		return;
	/* Each takes three bytes at least. */
	if (count > XATTRS_MAX || count > (uint64_t)(r->end - r->p) / 3 + 1) {
		r->err = -EBADMSG;
		return;
	}
	n->xattrs = calloc((size_t)count, sizeof(*n->xattrs));
	if (!n->xattrs) {
		r->err = -ENOMEM;
		return;
	}
	for (; n->n_xattrs < count && !r->err; n->n_xattrs++) {
		struct node_xattr *x = &n->xattrs[n->n_xattrs];
		char *value;

		x->name = get_string(r);
		get_copy(r, false, &value, &x->size);
		x->value = value;
		if (!r->err && (!x->name || !value))
			r->err = -EBADMSG;
	}
}

static void put_node(struct mfs_buf *b, const struct node *n)
{
	put_attr(b, &n->attr);
	put_u(b, n->parent);
	put_name(b, &n->name);
	put_u(b, n->pos);
	put_u(b, n->dying);
	put_u(b, n->ref.store);
	put_string(b, n->ref.bucket);
	put_string(b, n->ref.key);
	put_string(b, n->ref.version);
	put_string(b, n->etag);
	put_string(b, n->hash);
	put_string(b, n->symlink);
	put_xattrs(b, n);
	put_u(b, n->creator_uid);
	put_string(b, n->creator_user);
	put_string(b, n->creator_host);
	put_string(b, n->mime);
	put_i(b, n->todo);
	put_u(b, n->pending);
	put_u(b, n->quota);
	put_blob(b, &n->fenced);
	put_blob(b, &n->inline_data);
	put_blob(b, &n->slices);
	put_blob(b, &n->holes);
}

int value_put_record(struct mfs_buf *b, const struct node *n)
{
	put_node(b, n);
	if (b->err == 0 && b->len > REDIS_RECORD_MAX)
		return -EFBIG;
	return b->err;
}

static void get_ref(struct rd *r, struct node *n)
{
	uint64_t store = get_u(r);

	if (store > UINT16_MAX)
		r->err = r->err ? r->err : -EBADMSG;
	n->ref.store = (uint16_t)store;
	n->ref.bucket = get_string(r);
	n->ref.key = get_string(r);
	get_text(r, n->ref.version, sizeof(n->ref.version));
	get_text(r, n->etag, sizeof(n->etag));
	get_text(r, n->hash, sizeof(n->hash));
}

static void get_node(struct rd *r, struct node *ret)
{
	node_init(ret);
	get_attr(r, &ret->attr);
	ret->parent = get_u(r);
	get_name(r, &ret->name);
	ret->pos = get_u(r);
	ret->dying = get_u(r);
	get_ref(r, ret);
	ret->symlink = get_string(r);
	get_xattrs(r, ret);
	ret->creator_uid = get_u32(r);
	ret->creator_user = get_string(r);
	ret->creator_host = get_string(r);
	ret->mime = get_string(r);
	ret->todo = get_i(r);
	ret->pending = get_u(r);
	ret->quota = get_u(r);
	get_blob(r, &ret->fenced);
	get_blob(r, &ret->inline_data);
	get_blob(r, &ret->slices);
	get_blob(r, &ret->holes);
}

int value_get_record(const char *payload, size_t len, struct node *ret)
{
	struct rd r = { .p = (const unsigned char *)payload, .end = (const unsigned char *)payload + len };
	int err;

	get_node(&r, ret);
	err = done(&r);
	if (err < 0)
		node_release(ret);
	return err;
}

/* --- names --- */

int value_put_entry(struct mfs_buf *b, const struct value_entry *e)
{
	mfs_buf_printf(b, "%016llx", (unsigned long long)e->ino);
	put_u(b, e->id);
	put_u(b, e->pos);
	put_u(b, e->ver);
	return b->err;
}

int value_get_entry(const char *payload, size_t len, struct value_entry *ret)
{
	struct rd r = { .p = (const unsigned char *)payload + 16, .end = (const unsigned char *)payload + len };

	if (len < 16 || get_hex(payload, &ret->ino) < 0)
		return -EBADMSG;
	ret->id = get_u(&r);
	ret->pos = get_u(&r);
	ret->ver = get_u(&r);
	return done(&r);
}

/* --- pages --- */

int value_put_page(struct mfs_buf *b, const struct node *v, size_t n)
{
	put_u(b, n);
	for (size_t i = 0; i < n; i++) {
		put_attr(b, &v[i].attr);
		put_name(b, &v[i].name);
		put_u(b, v[i].pos);
	}
	return b->err;
}

int value_get_page(const char *payload, size_t len, mfs_ino_t parent, struct node_list *ret)
{
	struct rd r = { .p = (const unsigned char *)payload, .end = (const unsigned char *)payload + len };
	uint64_t n = get_u(&r);
	size_t before = ret->n;
	int err;

	for (uint64_t i = 0; i < n && !r.err; i++) {
		struct node *out = node_list_add(ret);

		if (!out) {
			r.err = -ENOMEM;
			break;
		}
		get_attr(&r, &out->attr);
		get_name(&r, &out->name);
		out->pos = get_u(&r);
		out->parent = parent;
		out->partial = true;
	}
	err = done(&r);
	while (err < 0 && ret->n > before)
		node_release(&ret->v[--ret->n]);
	return err;
}

/* --- pages of searches --- */

int value_put_find(struct mfs_buf *b, const struct node *v, size_t n)
{
	put_u(b, n);
	for (size_t i = 0; i < n && b->err == 0; i++)
		put_node(b, &v[i]);
	return b->err;
}

int value_get_find(const char *payload, size_t len, struct node_list *ret)
{
	struct rd r = { .p = (const unsigned char *)payload, .end = (const unsigned char *)payload + len };
	uint64_t n = get_u(&r);
	size_t before = ret->n;
	int err;

	for (uint64_t i = 0; i < n && !r.err; i++) {
		struct node *out = node_list_add(ret);

		if (out)
			get_node(&r, out);
		else
			r.err = -ENOMEM;
	}
	err = done(&r);
	while (err < 0 && ret->n > before)
		node_release(&ret->v[--ret->n]);
	return err;
}

/* --- messages --- */

int hints_put(struct mfs_buf *b, const struct hints *h)
{
	put_u(b, 1);
	put_u(b, h->instance);
	put_u(b, h->session);
	put_u(b, h->epoch);
	put_u(b, h->n);
	for (size_t i = 0; i < h->n; i++) {
		const struct news *n = &h->v[i].news;

		put_u(b, n->kind);
		put_u(b, n->ino);
		put_u(b, n->parent);
		put_u(b, n->target);
		put_u(b, n->ver);
		put_u(b, n->data);
		put_u(b, n->lay);
		put_name(b, &h->v[i].name);
		put_string(b, n->cell);
	}
	return b->err;
}

static void get_hint(struct rd *r, uint64_t session, struct hint *ret)
{
	uint64_t kind = get_u(r);

	ret->news = (struct news){ .session = session, .hint = true };
	ret->news.ino = get_u(r);
	ret->news.parent = get_u(r);
	ret->news.target = get_u(r);
	ret->news.ver = get_u(r);
	ret->news.data = get_u(r);
	ret->news.lay = get_u(r);
	get_name(r, &ret->name);
	get_text(r, ret->cell, sizeof(ret->cell));
	if (kind > NEWS_CELL || (kind == NEWS_CELL) != (ret->cell[0] != '\0') || (!ret->news.parent && ret->name.len))
		r->err = r->err ? r->err : -EBADMSG;
	ret->news.kind = (enum news_kind)kind;
	ret->news.name = ret->news.parent ? &ret->name : NULL;
	ret->news.cell = kind == NEWS_CELL ? ret->cell : NULL;
}

int hints_get(const char *data, size_t len, struct hints *ret)
{
	struct rd r = { .p = (const unsigned char *)data, .end = (const unsigned char *)data + len };
	uint64_t n;

	if (get_u(&r) != 1)
		return -EBADMSG;
	ret->instance = get_u(&r);
	ret->session = get_u(&r);
	ret->epoch = get_u(&r);
	n = get_u(&r);
	if (r.err || n > REDIS_HINTS_MAX)
		return -EBADMSG;
	for (ret->n = 0; ret->n < n && !r.err; ret->n++)
		get_hint(&r, ret->session, &ret->v[ret->n]);
	return done(&r);
}
