/*
 * Searches of the mongo engine: tags as an array in the document, with multikey indexes, and pages in order of _id.
 *
 *   tags: [{k: name, v: value (its first 128 bytes), n: the value as a number where it is one, b: true if bare}]
 *
 * One find a page. On a mongod: an equality is read in order from index tags (k, v, _id); presence, a pattern and what is
 * compared byte by byte from index tagged (k, _id), both without a sort; a range of numbers from index numbers (k, n), sorted
 * by _id with the limit. The hits of a multikey index come once each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/mongo_internal.h"
#include "meta/tags.h"

#define ROWS_COUNTED 1000 /* a page of fs/search.c */
#define NAMES_MAX 100000 /* different names of tags, or values of one, that are told */

/* --- written with the record --- */

struct putting {
	bson_t array;
	uint32_t n;
};

static int put_tag(void *arg, const struct tag *t)
{
	struct putting *p = arg;
	const char *at;
	char key[16];
	double number;
	bson_t one;

	bson_uint32_to_string(p->n++, &at, key, sizeof(key));
	BSON_APPEND_DOCUMENT_BEGIN(&p->array, at, &one);
	mongo_put_bytes(&one, "k", t->name, t->name_len);
	mongo_put_bytes(&one, "v", t->value, MFS_MIN(t->size, (size_t)TAG_VALUE_INDEXED));
	if (t->bare)
		BSON_APPEND_BOOL(&one, "b", true);
	else if (tag_number(t->value, t->size, &number))
		BSON_APPEND_DOUBLE(&one, "n", number);
	bson_append_document_end(&p->array, &one);
	return 0;
}

static int is_there(void *arg, const struct tag *t)
{
	(void)arg;
	(void)t;
	return 1;
}

bool mongo_put_tags(const struct node *n, bson_t *doc)
{
	struct putting p = { .n = 0 };

	if ((n->attr.flags & ATTR_IN_TRASH) || !node_each_tag(n, is_there, NULL))
		return false;
	BSON_APPEND_ARRAY_BEGIN(doc, "tags", &p.array);
	(void)node_each_tag(n, put_tag, &p);
	bson_append_array_end(doc, &p.array);
	return true;
}

/* --- asked for --- */

static void put_name(bson_t *filter, const char *field, const struct expr_term *t)
{
	mongo_put_bytes(filter, field, t->tag, strlen(t->tag));
}

/* One element of tags with that name and, where the index can tell, that value. */
static void filter_tag(const struct expr_term *t, bson_t *filter)
{
	static const char *const ops[] = { [OP_LT] = "$lt", [OP_LE] = "$lte", [OP_GT] = "$gt", [OP_GE] = "$gte" };
	bool equal = t->kind == EXPR_COMPARE && t->op == OP_EQ;
	bool number = t->kind == EXPR_COMPARE && t->is_number && t->op >= OP_LT && t->op <= OP_GE;
	bson_t tags, match, range;

	put_name(filter, "tags.k", t); /* what a partial index is chosen by */
	if (!equal && !number)
		return;
	BSON_APPEND_DOCUMENT_BEGIN(filter, "tags", &tags);
	BSON_APPEND_DOCUMENT_BEGIN(&tags, "$elemMatch", &match);
	put_name(&match, "k", t);
	if (equal) {
		mongo_put_bytes(&match, "v", t->value, MFS_MIN(t->size, (size_t)TAG_VALUE_INDEXED));
	} else {
		BSON_APPEND_DOCUMENT_BEGIN(&match, "n", &range);
		BSON_APPEND_DOUBLE(&range, ops[t->op], t->real);
		bson_append_document_end(&match, &range);
	}
	bson_append_document_end(&tags, &match);
	bson_append_document_end(filter, &tags);
}

static void filter_hash(const struct expr_term *t, bson_t *filter)
{
	bson_t range;

	if (t->kind == EXPR_COMPARE && t->op == OP_EQ) {
		mongo_put_bytes(filter, "hash", t->value, t->size);
		return;
	}
	BSON_APPEND_DOCUMENT_BEGIN(filter, "hash", &range);
	BSON_APPEND_UTF8(&range, "$gt", "");
	bson_append_document_end(filter, &range);
}

static void filter_created(const struct expr_term *t, bson_t *filter)
{
	bson_t range;

	BSON_APPEND_DOCUMENT_BEGIN(filter, "created", &range);
	if (t->op == OP_EQ || t->op == OP_GE || t->op == OP_GT)
		BSON_APPEND_INT64(&range, "$gte", t->op == OP_GT ? t->high : t->low);
	if (t->op == OP_EQ || t->op == OP_LE || t->op == OP_LT)
		BSON_APPEND_INT64(&range, "$lt", t->op == OP_LT ? t->low : t->high);
	bson_append_document_end(filter, &range);
}

static void put_filter(const struct expr_term *t, bson_t *filter)
{
	if (t->field == FIELD_TAG)
		filter_tag(t, filter);
	else if (t->field == FIELD_HASH)
		filter_hash(t, filter);
	else
		filter_created(t, filter);
}

int mongo_find_term(struct mongo_conn *c, const struct expr_term *t, mfs_ino_t after, size_t limit, struct node_list *ret)
{
	static const char *const left_out[] = { "inline", "slices", "holes", "tags", "ops" }; /* the tags are its xattrs */
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, sub;
	int r;

	if (after >= (uint64_t)INT64_MAX)
		return 0;
	put_filter(t, &filter);
	BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &sub);
	BSON_APPEND_INT64(&sub, "$gt", (int64_t)after);
	BSON_APPEND_INT64(&sub, "$lte", INT64_MAX);
	bson_append_document_end(&filter, &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&opts, "sort", &sub);
	BSON_APPEND_INT32(&sub, "_id", 1);
	bson_append_document_end(&opts, &sub);
	BSON_APPEND_INT64(&opts, "limit", (int64_t)limit);
	BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &sub);
	for (size_t i = 0; i < MFS_ARRAY_LEN(left_out); i++)
		BSON_APPEND_INT32(&sub, left_out[i], 0);
	bson_append_document_end(&opts, &sub);
	r = mongo_find_nodes(c, false, false, &filter, &opts, ret);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

/*
 * The count command with a limit: a mongod goes through that many entries of the index that the page would be read from, and as
 * many documents where the term is an $elemMatch. More rows than that are many, and no term is better than another then.
 */
int mongo_rows(struct mongo_conn *c, const struct expr_term *t, uint64_t *ret)
{
	bson_t cmd = BSON_INITIALIZER, filter = BSON_INITIALIZER, reply;
	struct mongo_doc d = { .bson = &reply, .collection = "the reply of count" };
	int64_t n;
	int r;

	put_filter(t, &filter);
	BSON_APPEND_UTF8(&cmd, "count", MONGO_FILES);
	BSON_APPEND_DOCUMENT(&cmd, "query", &filter);
	BSON_APPEND_INT64(&cmd, "limit", ROWS_COUNTED);
	r = mongo_run(c, MONGO_READ, &cmd, &reply);
	if (r == 0) {
		n = mongo_doc_i64(&d, "n", ROWS_COUNTED);
		*ret = n < 0 || n >= ROWS_COUNTED ? EXPR_ROWS_MAX : (uint64_t)n;
		r = mongo_doc_end(&d);
	}
	bson_destroy(&reply);
	bson_destroy(&filter);
	bson_destroy(&cmd);
	return r;
}

/* --- in news --- */

static bool take_tag(const bson_iter_t *at, struct tag *ret)
{
	bson_iter_t it;

	*ret = (struct tag){ .value = "" };
	if (!BSON_ITER_HOLDS_DOCUMENT(at) || !bson_iter_recurse(at, &it))
		return false;
	while (bson_iter_next(&it)) {
		const char *key = bson_iter_key(&it);
		const void *bytes;

		if (strcmp(key, "k") == 0 && mongo_iter_bytes(&it, &bytes, &ret->name_len))
			ret->name = bytes;
		else if (strcmp(key, "v") == 0)
			(void)mongo_iter_bytes(&it, &ret->value, &ret->size);
		else if (strcmp(key, "b") == 0)
			ret->bare = true;
	}
	return ret->name != NULL;
}

void mongo_take_tags(const bson_iter_t *array, struct tag_set *ret)
{
	bson_iter_t it;
	struct tag t;

	ret->all = !BSON_ITER_HOLDS_ARRAY(array) || !bson_iter_recurse(array, &it);
	while (!ret->all && bson_iter_next(&it)) {
		if (take_tag(&it, &t))
			tag_set_add(ret, &t);
		else
			ret->all = true;
	}
}

/* --- names --- */

static int by_bytes(const void *a, const void *b)
{
	const struct node_blob *x = a, *y = b;
	int order = memcmp(x->data, y->data, MFS_MIN(x->size, y->size));

	return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* Each element of the first and only batch has the name or value as its _id. */
static int take_names(const bson_t *reply, struct blob_list *ret)
{
	bson_iter_t it, at, one, id;
	const void *bytes;
	size_t size;
	int r = 0;

	if (!bson_iter_init(&it, reply) || !bson_iter_find_descendant(&it, "cursor.firstBatch", &at) || !bson_iter_recurse(&at, &one))
		return -EUCLEAN;
	while (r == 0 && bson_iter_next(&one)) {
		if (!bson_iter_recurse(&one, &id) || !bson_iter_find(&id, "_id") || !mongo_iter_bytes(&id, &bytes, &size))
			continue; /* null: a document without one */
		r = blob_list_add(ret, bytes, size);
	}
	return r;
}

/* $match (where one tag is meant), $unwind, $match, $group: reads every document that has the tag. */
static void names_command(const char *name, bson_t *cmd)
{
	const char *group = name ? "$tags.v" : "$tags.k";
	bson_t pipeline, stage, sub, ne;

	BSON_APPEND_UTF8(cmd, "aggregate", MONGO_FILES);
	BSON_APPEND_ARRAY_BEGIN(cmd, "pipeline", &pipeline);
	BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &sub);
	if (name) {
		mongo_put_bytes(&sub, "tags.k", name, strlen(name));
	} else {
		BSON_APPEND_DOCUMENT_BEGIN(&sub, "tags.k", &ne);
		BSON_APPEND_BOOL(&ne, "$exists", true);
		bson_append_document_end(&sub, &ne);
	}
	bson_append_document_end(&stage, &sub);
	bson_append_document_end(&pipeline, &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "1", &stage);
	BSON_APPEND_UTF8(&stage, "$unwind", "$tags");
	bson_append_document_end(&pipeline, &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "2", &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &sub);
	if (name) {
		mongo_put_bytes(&sub, "tags.k", name, strlen(name));
		BSON_APPEND_DOCUMENT_BEGIN(&sub, "tags.b", &ne);
		BSON_APPEND_BOOL(&ne, "$ne", true);
		bson_append_document_end(&sub, &ne);
	}
	bson_append_document_end(&stage, &sub);
	bson_append_document_end(&pipeline, &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "3", &stage);
	BSON_APPEND_DOCUMENT_BEGIN(&stage, "$group", &sub);
	BSON_APPEND_UTF8(&sub, "_id", group);
	bson_append_document_end(&stage, &sub);
	bson_append_document_end(&pipeline, &stage);
	bson_append_array_end(cmd, &pipeline);
	BSON_APPEND_DOCUMENT_BEGIN(cmd, "cursor", &sub);
	BSON_APPEND_INT32(&sub, "batchSize", NAMES_MAX);
	bson_append_document_end(cmd, &sub);
}

/* Strings and Binary are not in the order of their bytes there, so they are sorted here. */
int mongo_tag_names(struct mongo_conn *c, const char *name, const void *after, size_t after_len, size_t limit, struct blob_list *ret)
{
	const struct node_blob last = { .data = (void *)(uintptr_t)after, .size = after_len };
	struct blob_list all = { 0 };
	bson_t cmd = BSON_INITIALIZER, reply;
	int r;

	names_command(name, &cmd);
	r = mongo_run(c, MONGO_READ, &cmd, &reply);
	if (r == 0)
		r = take_names(&reply, &all);
	bson_destroy(&reply);
	bson_destroy(&cmd);
	if (r == 0 && all.n)
		qsort(all.v, all.n, sizeof(*all.v), by_bytes);
	for (size_t i = 0; r == 0 && i < all.n && limit; i++) {
		if ((i && by_bytes(&all.v[i - 1], &all.v[i]) == 0) || (after && by_bytes(&all.v[i], &last) <= 0))
			continue;
		r = blob_list_add(ret, all.v[i].data, all.v[i].size);
		limit--;
	}
	blob_list_release(&all);
	return r;
}
