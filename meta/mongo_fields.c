/*
 * Fields of documents. What comes from the database is not trusted: types and bounds are checked, the first fault stays and
 * is named in the log with the record.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/str.h"
#include "meta/mongo_internal.h"

/* --- writing --- */

static bool is_ascii(const unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] >= 0x80 || p[i] == 0)
			return false;
	return true;
}

void mongo_put_u64(bson_t *b, const char *field, uint64_t v)
{
	BSON_APPEND_INT64(b, field, (int64_t)v);
}

void mongo_put_bytes(bson_t *b, const char *field, const void *p, size_t len)
{
	if (is_ascii(p, len) || mfs_utf8_valid(p, len))
		bson_append_utf8(b, field, -1, p, (int)len);
	else
		bson_append_binary(b, field, -1, BSON_SUBTYPE_BINARY, p, (uint32_t)len);
}

void mongo_put_string(bson_t *b, const char *field, const char *s)
{
	if (s)
		mongo_put_bytes(b, field, s, strlen(s));
}

void mongo_put_blob(bson_t *b, const char *field, const struct node_blob *v)
{
	if (v->data)
		bson_append_binary(b, field, -1, BSON_SUBTYPE_BINARY, v->data, (uint32_t)v->size);
}

void mongo_put_name(bson_t *b, const char *field, const struct mfs_name *n)
{
	mongo_put_bytes(b, field, n->bytes, n->len);
}

/* --- reading --- */

static void fault(struct mongo_doc *d, const char *field, int err)
{
	if (d->bad)
		return;
	d->bad = field;
	d->err = err;
}

/* The top-level field: it mostly is the one behind the last that was found, as documents are read in the order they are written. */
static bool find_top(struct mongo_doc *d, const char *field, size_t len, bson_iter_t *ret)
{
	bson_iter_t it = d->last;

	/* Or that one again: "times.a", "times.m". */
	for (int i = 0; d->found && i < 2; i++) {
		if (bson_iter_key_len(&it) == len && !memcmp(bson_iter_key(&it), field, len)) {
			*ret = d->last = it;
			return true;
		}
		if (!bson_iter_next(&it))
			break;
	}
	if (!bson_iter_init(&it, d->bson) || !bson_iter_find_w_len(&it, field, (int)len))
		return false;
	d->found = true;
	*ret = d->last = it;
	return true;
}

/* The field, if it is there and not null. */
static bool find(struct mongo_doc *d, const char *field, bson_iter_t *ret)
{
	const char *dot = strchr(field, '.');
	bson_iter_t it, sub;

	if (d->bad || !find_top(d, field, dot ? (size_t)(dot - field) : strlen(field), &it))
		return false;
	if (!dot)
		*ret = it;
	else if (!bson_iter_recurse(&it, &sub) || !bson_iter_find_descendant(&sub, dot + 1, ret))
		return false;
	return !BSON_ITER_HOLDS_NULL(ret);
}

/* Somebody's shell may have made a double of it. */
static bool integer(const bson_iter_t *it, int64_t *ret)
{
	double v;

	switch (bson_iter_type(it)) {
	case BSON_TYPE_INT32:
		*ret = bson_iter_int32(it);
		return true;
	case BSON_TYPE_INT64:
		*ret = bson_iter_int64(it);
		return true;
	case BSON_TYPE_DOUBLE:
		v = bson_iter_double(it);
		if (!(v >= -9007199254740992.0 && v <= 9007199254740992.0) || v != (double)(int64_t)v)
			return false;
		*ret = (int64_t)v;
		return true;
	default:
		return false;
	}
}

int64_t mongo_doc_i64(struct mongo_doc *d, const char *field, int64_t def)
{
	bson_iter_t it;
	int64_t v = def;

	if (find(d, field, &it) && !integer(&it, &v)) {
		fault(d, field, -EUCLEAN);
		v = def;
	}
	return v;
}

uint64_t mongo_doc_u64(struct mongo_doc *d, const char *field)
{
	return (uint64_t)mongo_doc_i64(d, field, 0);
}

uint64_t mongo_doc_need(struct mongo_doc *d, const char *field)
{
	bson_iter_t it;

	if (!find(d, field, &it))
		fault(d, field, -EUCLEAN);
	return mongo_doc_u64(d, field);
}

uint32_t mongo_doc_u32(struct mongo_doc *d, const char *field)
{
	int64_t v = mongo_doc_i64(d, field, 0);

	if (v < 0 || v > UINT32_MAX) {
		fault(d, field, -EUCLEAN);
		return 0;
	}
	return (uint32_t)v;
}

bool mongo_doc_bool(struct mongo_doc *d, const char *field)
{
	bson_iter_t it;

	if (!find(d, field, &it))
		return false;
	if (!BSON_ITER_HOLDS_BOOL(&it)) {
		fault(d, field, -EUCLEAN);
		return false;
	}
	return bson_iter_bool(&it);
}

bool mongo_iter_bytes(const bson_iter_t *it, const void **ret, size_t *ret_len)
{
	const uint8_t *p = NULL;
	bson_subtype_t subtype;
	uint32_t len = 0;

	if (BSON_ITER_HOLDS_UTF8(it)) {
		*ret = bson_iter_utf8(it, &len);
	} else if (BSON_ITER_HOLDS_BINARY(it)) {
		bson_iter_binary(it, &subtype, &len, &p);
		*ret = p;
	} else {
		return false;
	}
	*ret_len = len;
	if (len == 0)
		*ret = ""; /* it may have no address */
	return *ret != NULL;
}

/* The bytes of a string or Binary of at most max, without NUL. */
static bool text(struct mongo_doc *d, const char *field, size_t max, const void **ret, size_t *ret_len)
{
	bson_iter_t it;

	if (!find(d, field, &it))
		return false;
	if (mongo_iter_bytes(&it, ret, ret_len) && *ret_len <= max && (*ret_len == 0 || !memchr(*ret, 0, *ret_len)))
		return true;
	fault(d, field, -EUCLEAN);
	return false;
}

char *mongo_doc_string(struct mongo_doc *d, const char *field, size_t max)
{
	const void *p;
	size_t len;
	char *s;

	if (!text(d, field, max, &p, &len))
		return NULL;
	s = malloc(len + 1);
	if (!s) {
		fault(d, field, -ENOMEM);
		return NULL;
	}
	if (len)
		memcpy(s, p, len);
	s[len] = '\0';
	return s;
}

void mongo_doc_chars(struct mongo_doc *d, const char *field, char *buf, size_t size)
{
	const void *p;
	size_t len;

	memset(buf, 0, size);
	if (text(d, field, size - 1, &p, &len) && len)
		memcpy(buf, p, len);
}

void mongo_doc_blob(struct mongo_doc *d, const char *field, size_t max, struct node_blob *ret)
{
	const void *p;
	bson_iter_t it;
	size_t len;

	*ret = (struct node_blob){ 0 };
	if (!find(d, field, &it))
		return;
	if (!BSON_ITER_HOLDS_BINARY(&it) || !mongo_iter_bytes(&it, &p, &len) || len > max) {
		fault(d, field, -EUCLEAN);
		return;
	}
	ret->data = malloc(len ? len : 1);
	if (!ret->data) {
		fault(d, field, -ENOMEM);
		return;
	}
	if (len)
		memcpy(ret->data, p, len);
	ret->size = len;
}

void mongo_doc_name(struct mongo_doc *d, const char *field, struct mfs_name *ret)
{
	const void *p;
	size_t len;

	*ret = (struct mfs_name){ 0 };
	if (!text(d, field, MFS_NAME_MAX, &p, &len) || mfs_name_set(ret, p, len) < 0) {
		*ret = (struct mfs_name){ 0 };
		fault(d, field, -EUCLEAN);
	}
}

bool mongo_doc_iter(struct mongo_doc *d, const char *field, bson_type_t type, bson_iter_t *ret)
{
	bson_iter_t it;

	if (!find(d, field, &it))
		return false;
	if (bson_iter_type(&it) == type && bson_iter_recurse(&it, ret))
		return true;
	fault(d, field, -EUCLEAN);
	return false;
}

void mongo_doc_fault(struct mongo_doc *d, const char *field, int err)
{
	fault(d, field, err);
}

/* The _id as text, for a log line. */
static void put_id(const bson_t *doc, char *buf, size_t size)
{
	bson_iter_t it;
	int64_t v;

	if (!bson_iter_init_find(&it, doc, "_id"))
		(void)snprintf(buf, size, "none");
	else if (integer(&it, &v))
		(void)snprintf(buf, size, "%" PRId64, v);
	else if (BSON_ITER_HOLDS_UTF8(&it))
		(void)snprintf(buf, size, "%.60s", bson_iter_utf8(&it, NULL));
	else
		(void)snprintf(buf, size, "of type %d", (int)bson_iter_type(&it));
}

int mongo_doc_end(struct mongo_doc *d)
{
	char id[64];

	if (!d->bad)
		return 0;
	if (d->err == -EUCLEAN) {
		put_id(d->bson, id, sizeof(id));
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL,
			"mongodb: the document with _id %s in %s is damaged: field %s is missing or not what it must be; "
			"run massfs fsck",
			id, d->collection, d->bad);
	}
	return d->err;
}
