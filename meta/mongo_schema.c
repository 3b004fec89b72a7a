/*
 * What a volume's database is made of: collections, indexes, the documents of `volume`.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "meta/mongo_internal.h"

#define OPS_EXPIRE_S 3600
#define SECRET_BYTES 32
#define NEXT_MAX     (INT64_MAX / 2) /* numbers of inodes stay far from where they would be negative */

static const char *const collections[] = { MONGO_FILES,	   MONGO_TRASH, MONGO_VERSIONS, MONGO_SLICES, MONGO_DROPPED,
					   MONGO_JOBS,	   MONGO_SESSIONS, MONGO_OPS,	MONGO_VOLUME, MONGO_USAGE,
					   "locks",	   "leases",	   "shared",	   "schemas",	"failures",
					   "compose" };

const char *mongo_schema_collection(size_t i)
{
	return i < MFS_ARRAY_LEN(collections) ? collections[i] : NULL;
}

static const struct index {
	const char *collection, *name;
	const char *keys; /* JSON */
	const char *only; /* the field that a document must have to be in it; NULL: all are */
	bool unique;
	int expire_s;
} indexes[] = {
	{ MONGO_FILES, "name", "{\"parent\": 1, \"name\": 1}", NULL, true, 0 },
	{ MONGO_FILES, "list", "{\"parent\": 1, \"pos\": 1}", NULL, false, 0 },
	{ MONGO_FILES, "key", "{\"key\": 1, \"bucket\": 1}", "key", false, 0 },
	{ MONGO_FILES, "target", "{\"target\": 1, \"_id\": 1}", "target", false, 0 },
	{ MONGO_FILES, "todo", "{\"todo\": 1, \"_id\": 1}", "todo", false, 0 },
	{ MONGO_FILES, "acl", "{\"acl\": 1, \"_id\": 1}", "acl", false, 0 },
	{ MONGO_FILES, "label", "{\"label\": 1, \"_id\": 1}", "label", false, 0 },
	{ MONGO_FILES, "tags", "{\"tags.k\": 1, \"tags.v\": 1, \"_id\": 1}", "tags.k", false, 0 },
	{ MONGO_FILES, "tagged", "{\"tags.k\": 1, \"_id\": 1}", "tags.k", false, 0 },
	{ MONGO_FILES, "numbers", "{\"tags.k\": 1, \"tags.n\": 1}", "tags.n", false, 0 },
	{ MONGO_FILES, "hash", "{\"hash\": 1, \"_id\": 1}", "hash", false, 0 },
	{ MONGO_FILES, "created", "{\"created\": 1}", NULL, false, 0 },
	{ MONGO_TRASH, "path", "{\"path\": 1}", NULL, false, 0 },
	{ MONGO_TRASH, "trashed", "{\"trashed\": 1, \"_id\": 1}", NULL, false, 0 },
	{ MONGO_VERSIONS, "ino", "{\"ino\": 1, \"data\": 1}", NULL, false, 0 },
	{ MONGO_VERSIONS, "path", "{\"path\": 1}", NULL, false, 0 },
	{ MONGO_VERSIONS, "until", "{\"until\": 1}", NULL, false, 0 },
	{ MONGO_SLICES, "ino", "{\"ino\": 1, \"id\": 1}", NULL, false, 0 },
	{ MONGO_JOBS, "due", "{\"due\": 1, \"token\": 1}", NULL, false, 0 },
	{ MONGO_JOBS, "key", "{\"kind\": 1, \"key\": 1, \"ino\": 1}", NULL, false, 0 },
	{ MONGO_OPS, "at", "{\"at\": 1}", NULL, false, OPS_EXPIRE_S },
};

static int run(struct mongo_conn *c, unsigned int flags, const bson_t *cmd)
{
	bson_t reply;
	int r = mongo_run(c, flags, cmd, &reply);

	bson_destroy(&reply);
	return r;
}

/* --- collections and indexes --- */

static int names_of(void *arg, const char *collection)
{
	bool *have = arg;

	for (size_t i = 0; i < MFS_ARRAY_LEN(collections); i++)
		have[i] |= !strcmp(collection, collections[i]);
	return 0;
}

/* Which of our collections are there. */
static int list_collections(struct mongo_conn *c, bool have[MFS_ARRAY_LEN(collections)])
{
	bson_t *cmd = BCON_NEW("listCollections", BCON_INT32(1), "nameOnly", BCON_BOOL(true), "cursor", "{", "batchSize",
			       BCON_INT32(10000), "}");
	bson_iter_t it, at, one;
	bson_t reply;
	int r = mongo_run(c, MONGO_ADMIN_READ, cmd, &reply);

	if (r == 0 && bson_iter_init(&it, &reply) && bson_iter_find_descendant(&it, "cursor.firstBatch", &at) &&
	    bson_iter_recurse(&at, &one)) {
		while (bson_iter_next(&one)) {
			bson_iter_t name;

			if (bson_iter_recurse(&one, &name) && bson_iter_find(&name, "name") && BSON_ITER_HOLDS_UTF8(&name))
				(void)names_of(have, bson_iter_utf8(&name, NULL));
		}
	}
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

static int create_collection(struct mongo_conn *c, const char *name)
{
	bson_t cmd = BSON_INITIALIZER;
	int r;

	BSON_APPEND_UTF8(&cmd, "create", name);
	r = run(c, MONGO_WRITE | MONGO_AGAIN | MONGO_QUIET, &cmd);
	bson_destroy(&cmd);
	return r;
}

static void append_index(bson_t *array, const char *at, const struct index *x)
{
	bson_t one, keys, only, exists;

	BSON_APPEND_DOCUMENT_BEGIN(array, at, &one);
	if (bson_init_from_json(&keys, x->keys, -1, NULL)) {
		BSON_APPEND_DOCUMENT(&one, "key", &keys);
		bson_destroy(&keys);
	}
	BSON_APPEND_UTF8(&one, "name", x->name);
	if (x->unique)
		BSON_APPEND_BOOL(&one, "unique", true);
	if (x->expire_s)
		BSON_APPEND_INT32(&one, "expireAfterSeconds", x->expire_s);
	if (x->only) {
		BSON_APPEND_DOCUMENT_BEGIN(&one, "partialFilterExpression", &only);
		BSON_APPEND_DOCUMENT_BEGIN(&only, x->only, &exists);
		BSON_APPEND_BOOL(&exists, "$exists", true);
		bson_append_document_end(&only, &exists);
		bson_append_document_end(&one, &only);
	}
	bson_append_document_end(array, &one);
}

/* All of a collection's indexes in one command. */
static int create_indexes(struct mongo_conn *c, const char *collection)
{
	bson_t cmd = BSON_INITIALIZER, array;
	char buf[16];
	uint32_t n = 0;
	int r = 0;

	BSON_APPEND_UTF8(&cmd, "createIndexes", collection);
	BSON_APPEND_ARRAY_BEGIN(&cmd, "indexes", &array);
	for (size_t i = 0; i < MFS_ARRAY_LEN(indexes); i++) {
		const char *at;

		if (strcmp(indexes[i].collection, collection) != 0)
			continue;
		bson_uint32_to_string(n++, &at, buf, sizeof(buf));
		append_index(&array, at, &indexes[i]);
	}
	bson_append_array_end(&cmd, &array);
	if (n)
		r = run(c, MONGO_WRITE | MONGO_AGAIN, &cmd);
	bson_destroy(&cmd);
	return r;
}

/* An upsert that leaves alone what is there. */
static int put_once(struct mongo_conn *c, const char *collection, const bson_t *filter, const bson_t *on_insert)
{
	bson_t cmd = BSON_INITIALIZER, updates, one, u;
	int r;

	BSON_APPEND_UTF8(&cmd, "update", collection);
	BSON_APPEND_ARRAY_BEGIN(&cmd, "updates", &updates);
	BSON_APPEND_DOCUMENT_BEGIN(&updates, "0", &one);
	BSON_APPEND_DOCUMENT(&one, "q", filter);
	BSON_APPEND_DOCUMENT_BEGIN(&one, "u", &u);
	BSON_APPEND_DOCUMENT(&u, "$setOnInsert", on_insert);
	bson_append_document_end(&one, &u);
	BSON_APPEND_BOOL(&one, "upsert", true);
	bson_append_document_end(&updates, &one);
	bson_append_array_end(&cmd, &updates);
	r = run(c, MONGO_WRITE | MONGO_AGAIN | MONGO_QUIET, &cmd);
	bson_destroy(&cmd);
	return r == -EEXIST ? 0 : r; /* two at once */
}

static int put_counters(struct mongo_conn *c)
{
	bson_t *next = BCON_NEW("_id", "next"), *moves = BCON_NEW("_id", "dirmoves"), *epoch = BCON_NEW("_id", "epoch");
	bson_t n = BSON_INITIALIZER, zero = BSON_INITIALIZER, e = BSON_INITIALIZER;
	unsigned char secret[SECRET_BYTES];
	int r = RAND_bytes(secret, sizeof(secret)) == 1 ? 0 : -EIO;

	BSON_APPEND_INT64(&n, "n", (int64_t)MFS_FIRST_INO);
	BSON_APPEND_INT64(&zero, "n", 0);
	BSON_APPEND_INT64(&e, "n", 1);
	BSON_APPEND_BINARY(&e, "secret", BSON_SUBTYPE_BINARY, secret, sizeof(secret));
	if (r == 0)
		r = put_once(c, MONGO_VOLUME, next, &n);
	if (r == 0)
		r = put_once(c, MONGO_VOLUME, moves, &zero);
	if (r == 0)
		r = put_once(c, MONGO_VOLUME, epoch, &e);
	bson_destroy(next);
	bson_destroy(moves);
	bson_destroy(epoch);
	bson_destroy(&n);
	bson_destroy(&zero);
	bson_destroy(&e);
	return r;
}

int mongo_schema_create(struct mongo_conn *c)
{
	bool have[MFS_ARRAY_LEN(collections)] = { false };
	int r = list_collections(c, have);

	for (size_t i = 0; r == 0 && i < MFS_ARRAY_LEN(collections); i++) {
		/* Made by somebody else just now: the next command tells. */
		if (!have[i])
			(void)create_collection(c, collections[i]);
		r = create_indexes(c, collections[i]);
	}
	return r < 0 ? r : put_counters(c);
}

/* --- the volume's own documents --- */

static int get_doc(struct mongo_conn *c, const char *id, bson_t *ret)
{
	bson_t *filter = BCON_NEW("_id", BCON_UTF8(id));
	int r = mongo_find_one(c, MONGO_READ, MONGO_VOLUME, filter, NULL, ret);

	bson_destroy(filter);
	return r;
}

/* $inc of n by `by` in the document `id`: *ret is the document after it. -ENOENT: there is none. */
static int add_to(struct mongo_conn *c, const char *id, int64_t by, bson_t *ret)
{
	bson_t *cmd = BCON_NEW("findAndModify", MONGO_VOLUME, "query", "{", "_id", BCON_UTF8(id), "}", "update", "{", "$inc", "{",
			       "n", BCON_INT64(by), "}", "}", "new", BCON_BOOL(true));
	bson_t reply, doc;
	bson_iter_t it;
	int r = mongo_run(c, MONGO_WRITE | MONGO_AGAIN, cmd, &reply);

	if (r == 0 && bson_iter_init_find(&it, &reply, "value") && BSON_ITER_HOLDS_DOCUMENT(&it)) {
		const uint8_t *p;
		uint32_t len;

		bson_iter_document(&it, &len, &p);
		if (bson_init_static(&doc, p, len))
			bson_copy_to(&doc, ret);
		else
			r = -EUCLEAN;
	} else if (r == 0) {
		r = -ENOENT;
	}
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

int mongo_reserve(struct mongo_conn *c, unsigned int count, uint64_t *ret_first)
{
	bson_t doc;
	int r = add_to(c, "next", count, &doc);
	struct mongo_doc d = { .bson = &doc, .collection = MONGO_VOLUME };
	uint64_t n;

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	n = mongo_doc_need(&d, "n");
	if (n < MFS_FIRST_INO + count || n > NEXT_MAX)
		mongo_doc_fault(&d, "n", -EUCLEAN);
	r = mongo_doc_end(&d);
	bson_destroy(&doc);
	if (r == 0)
		*ret_first = n - count;
	return r;
}

int mongo_next_number(struct mongo_conn *c, uint64_t *ret)
{
	bson_t doc;
	int r = get_doc(c, "next", &doc);
	struct mongo_doc d = { .bson = &doc, .collection = MONGO_VOLUME };

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	*ret = mongo_doc_need(&d, "n");
	r = mongo_doc_end(&d);
	bson_destroy(&doc);
	return r;
}

int mongo_epoch_get(struct mongo_conn *c, bool begin, uint64_t *ret, unsigned char secret[SECRET_BYTES])
{
	struct node_blob b = { 0 };
	bson_t doc;
	int r = begin ? add_to(c, "epoch", 1, &doc) : get_doc(c, "epoch", &doc);
	struct mongo_doc d = { .bson = &doc, .collection = MONGO_VOLUME };

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	*ret = mongo_doc_need(&d, "n");
	mongo_doc_blob(&d, "secret", SECRET_BYTES, &b);
	if (b.size != SECRET_BYTES)
		mongo_doc_fault(&d, "secret", -EUCLEAN);
	r = mongo_doc_end(&d);
	if (r == 0)
		memcpy(secret, b.data, SECRET_BYTES);
	free(b.data);
	bson_destroy(&doc);
	return r;
}

int mongo_volume_get(struct mongo_conn *c, struct volume_record *ret)
{
	bson_t doc;
	int r = get_doc(c, "volume", &doc);
	struct mongo_doc d = { .bson = &doc, .collection = MONGO_VOLUME };

	if (r < 0)
		return r;
	(void)mongo_doc_need(&d, "schema");
	*ret = (struct volume_record){ .schema = mongo_doc_u32(&d, "schema"), .created = mongo_doc_i64(&d, "created", 0) };
	mongo_doc_chars(&d, "uuid", ret->uuid, sizeof(ret->uuid));
	r = mongo_doc_end(&d);
	bson_destroy(&doc);
	return r;
}

static int put_root(struct mongo_conn *c, const struct op_ctx *op)
{
	struct node root = NODE_INIT;
	bson_t doc = BSON_INITIALIZER, *filter = BCON_NEW("_id", BCON_INT64((int64_t)MFS_ROOT_INO)), rest = BSON_INITIALIZER;
	int r;

	root.attr = (struct mfs_attr){ .ino = MFS_ROOT_INO, .ver = 1, .mode = 0040755, .nlink = 1 };
	root.attr.uid = op ? op->uid : 0;
	root.attr.gid = op ? op->gid : 0;
	root.attr.atime = root.attr.mtime = root.attr.ctime = root.attr.btime = mfs_now_ns();
	mongo_node_put(&root, &doc);
	bson_copy_to_excluding_noinit(&doc, &rest, "_id", NULL);
	r = put_once(c, MONGO_FILES, filter, &rest);
	bson_destroy(&rest);
	bson_destroy(&doc);
	bson_destroy(filter);
	return r;
}

int mongo_volume_put(struct mongo_conn *c, const struct op_ctx *op, const struct volume_record *v)
{
	bson_t *cmd = BCON_NEW("update", MONGO_VOLUME, "updates", "[", "{", "q", "{", "_id", "volume", "}", "u", "{", "schema",
			       BCON_INT64(v->schema), "uuid", BCON_UTF8(v->uuid), "created", BCON_INT64(v->created), "}",
			       "upsert", BCON_BOOL(true), "}", "]");
	int r = put_root(c, op);

	if (r == 0)
		r = run(c, MONGO_WRITE | MONGO_AGAIN, cmd);
	bson_destroy(cmd);
	return r;
}

int mongo_schema_check(struct mongo_conn *c, char **ret_reason)
{
	struct volume_record v;
	int r = mongo_volume_get(c, &v);

	if (r == -ENOENT)
		*ret_reason = mfs_str_printf("there is no massfs index in the database %s of mongodb %s; massfs format makes one",
					     c->m->database, c->m->where);
	else if (r == 0 && v.schema > MFS_SCHEMA)
		*ret_reason = mfs_str_printf("the index in the database %s was made by a newer massfs (schema %" PRIu32
					     ", this one knows %d); upgrade this one",
					     c->m->database, v.schema, MFS_SCHEMA);
	else if (r == 0 && v.schema < MFS_SCHEMA)
		*ret_reason = mfs_str_printf("the index in the database %s has schema %" PRIu32 ", this massfs uses %d",
					     c->m->database, v.schema, MFS_SCHEMA);
	if (r == 0)
		r = v.schema > MFS_SCHEMA ? -EPROTONOSUPPORT : v.schema < MFS_SCHEMA ? -EPROTO : 0;
	return r;
}

/* --- check --- */

/* Which of our indexes a collection has, unique where it must be. */
static int check_collection(struct mongo_conn *c, const char *collection, bool have[MFS_ARRAY_LEN(indexes)])
{
	bson_t *cmd = BCON_NEW("listIndexes", BCON_UTF8(collection), "cursor", "{", "batchSize", BCON_INT32(1000), "}");
	bson_iter_t it, at, one, sub;
	bson_t reply;
	int r = mongo_run(c, MONGO_ADMIN_READ | MONGO_QUIET, cmd, &reply);

	if (r == 0 && bson_iter_init(&it, &reply) && bson_iter_find_descendant(&it, "cursor.firstBatch", &at) &&
	    bson_iter_recurse(&at, &one)) {
		while (bson_iter_next(&one)) {
			const char *name = "";
			bool unique = false;

			if (bson_iter_recurse(&one, &sub))
				while (bson_iter_next(&sub)) {
					if (!strcmp(bson_iter_key(&sub), "name") && BSON_ITER_HOLDS_UTF8(&sub))
						name = bson_iter_utf8(&sub, NULL);
					if (!strcmp(bson_iter_key(&sub), "unique"))
						unique = bson_iter_as_bool(&sub);
				}
			for (size_t i = 0; i < MFS_ARRAY_LEN(indexes); i++)
				if (!strcmp(indexes[i].collection, collection) && !strcmp(indexes[i].name, name))
					have[i] |= unique || !indexes[i].unique;
		}
	}
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

int mongo_schema_verify(struct mongo_conn *c, void (*report)(void *arg, const char *text), void *arg)
{
	bool have[MFS_ARRAY_LEN(indexes)] = { false };
	char text[200];

	for (size_t i = 0; i < MFS_ARRAY_LEN(collections); i++) {
		int r = check_collection(c, collections[i], have);

		if (r < 0) {
			(void)snprintf(text, sizeof(text), "mongodb: the collection %s is missing or can't be looked at",
				       collections[i]);
			report(arg, text);
		}
	}
	for (size_t i = 0; i < MFS_ARRAY_LEN(indexes); i++) {
		if (have[i])
			continue;
		(void)snprintf(text, sizeof(text), "mongodb: the index %s of %s is missing%s: create it anew (%s)",
			       indexes[i].name, indexes[i].collection, indexes[i].unique ? " or not unique" : "",
			       indexes[i].keys);
		report(arg, text);
	}
	return 0;
}
