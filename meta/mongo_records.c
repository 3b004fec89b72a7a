/*
 * Side records as documents: versions, dropped, jobs, sessions, slices, cells.
 */
#include <errno.h>
#include <string.h>

#include "meta/layout.h"
#include "meta/mongo_internal.h"

#define PATH_MAX_BYTES	65536
#define HOST_MAX	1024
#define SLICES_BLOB_MAX 65536
#define CELL_MAX	(8u << 20)

static void put_pair_id(bson_t *doc, const char *a, uint64_t va, const char *b, uint64_t vb)
{
	bson_t id;

	BSON_APPEND_DOCUMENT_BEGIN(doc, "_id", &id);
	mongo_put_u64(&id, a, va);
	mongo_put_u64(&id, b, vb);
	bson_append_document_end(doc, &id);
}

void mongo_version_id(mfs_ino_t ino, uint64_t data, bson_t *doc)
{
	put_pair_id(doc, "ino", ino, "data", data);
}

void mongo_slices_id(mfs_ino_t ino, uint64_t id, bson_t *doc)
{
	put_pair_id(doc, "ino", ino, "id", id);
}

/* A job without a key has "" there: jobs are listed in the order of keys. */
static void put_job_key(const struct job_record *j, bson_t *doc)
{
	mongo_put_string(doc, "key", j->key ? j->key : "");
}

void mongo_job_id(const struct job_record *j, bson_t *doc)
{
	bson_t id;

	BSON_APPEND_DOCUMENT_BEGIN(doc, "_id", &id);
	BSON_APPEND_INT32(&id, "kind", (int32_t)j->kind);
	mongo_put_u64(&id, "ino", j->ino);
	put_job_key(j, &id);
	bson_append_document_end(doc, &id);
}

/* --- versions --- */

void mongo_version_put(const struct version_record *v, bson_t *doc)
{
	mongo_version_id(v->ino, v->data, doc);
	mongo_put_u64(doc, "ino", v->ino);
	mongo_put_u64(doc, "data", v->data);
	mongo_put_string(doc, "path", v->path);
	mongo_put_ref(&v->ref, doc);
	if (v->etag[0])
		mongo_put_string(doc, "etag", v->etag);
	mongo_put_u64(doc, "size", v->size);
	mongo_put_u64(doc, "obj", v->obj_len);
	BSON_APPEND_INT64(doc, "mtime", v->mtime);
	BSON_APPEND_INT64(doc, "replaced", v->replaced);
	BSON_APPEND_INT64(doc, "until", v->until);
	BSON_APPEND_INT64(doc, "mode", v->mode);
	BSON_APPEND_INT64(doc, "uid", v->uid);
	BSON_APPEND_INT64(doc, "gid", v->gid);
	BSON_APPEND_INT64(doc, "writer", v->writer);
	mongo_put_blob(doc, "slices", &v->slices);
	mongo_put_blob(doc, "inline", &v->inline_data);
}

int mongo_version_parse(const bson_t *doc, struct version_record *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_VERSIONS };
	int r;

	*ret = (struct version_record){ 0 };
	ret->ino = mongo_doc_need(&d, "ino");
	ret->data = mongo_doc_need(&d, "data");
	ret->path = mongo_doc_string(&d, "path", PATH_MAX_BYTES);
	mongo_get_ref(&d, &ret->ref);
	mongo_doc_chars(&d, "etag", ret->etag, sizeof(ret->etag));
	ret->size = mongo_doc_u64(&d, "size");
	ret->obj_len = mongo_doc_u64(&d, "obj");
	ret->mtime = mongo_doc_i64(&d, "mtime", 0);
	ret->replaced = mongo_doc_i64(&d, "replaced", 0);
	(void)mongo_doc_need(&d, "until");
	ret->until = mongo_doc_i64(&d, "until", INT64_MAX);
	ret->mode = mongo_doc_u32(&d, "mode");
	ret->uid = mongo_doc_u32(&d, "uid");
	ret->gid = mongo_doc_u32(&d, "gid");
	ret->writer = mongo_doc_u32(&d, "writer");
	mongo_doc_blob(&d, "slices", LAYOUT_BLOB_MAX, &ret->slices);
	mongo_doc_blob(&d, "inline", MFS_INLINE_MAX, &ret->inline_data);
	if (ret->size > (uint64_t)INT64_MAX || ret->obj_len > (uint64_t)INT64_MAX)
		mongo_doc_fault(&d, "size", -EUCLEAN);
	r = mongo_doc_end(&d);
	if (r < 0)
		version_record_release(ret);
	return r;
}

/* --- dropped --- */

void mongo_dropped_put(const struct dropped_record *v, bson_t *doc)
{
	mongo_put_u64(doc, "_id", v->id);
	mongo_put_u64(doc, "ino", v->ino);
	mongo_put_ref(&v->ref, doc);
	if (v->doc_id)
		mongo_put_u64(doc, "doc", v->doc_id);
	BSON_APPEND_INT64(doc, "at", v->at);
}

int mongo_dropped_parse(const bson_t *doc, struct dropped_record *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_DROPPED };
	int r;

	*ret = (struct dropped_record){ 0 };
	ret->id = mongo_doc_need(&d, "_id");
	ret->ino = mongo_doc_need(&d, "ino");
	mongo_get_ref(&d, &ret->ref);
	ret->doc_id = mongo_doc_u64(&d, "doc");
	(void)mongo_doc_need(&d, "at");
	ret->at = mongo_doc_i64(&d, "at", 0);
	if (!ret->ref.key == !ret->doc_id)
		mongo_doc_fault(&d, "key", -EUCLEAN);
	r = mongo_doc_end(&d);
	if (r < 0)
		dropped_record_release(ret);
	return r;
}

/* --- jobs --- */

void mongo_job_put(const struct job_record *j, bson_t *doc)
{
	mongo_job_id(j, doc);
	BSON_APPEND_INT32(doc, "kind", (int32_t)j->kind);
	mongo_put_u64(doc, "ino", j->ino);
	put_job_key(j, doc);
	BSON_APPEND_INT64(doc, "due", j->due);
	mongo_put_u64(doc, "token", j->token);
	BSON_APPEND_INT64(doc, "tries", j->tries);
}

int mongo_job_parse(const bson_t *doc, struct job_record *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_JOBS };
	uint64_t kind;
	int r;

	*ret = (struct job_record){ 0 };
	kind = mongo_doc_need(&d, "kind");
	if (kind < JOB_KEY || kind > JOB_VIEW)
		mongo_doc_fault(&d, "kind", -EUCLEAN);
	ret->kind = (enum job_kind)kind;
	ret->ino = mongo_doc_u64(&d, "ino");
	if (kind == JOB_KEY) {
		ret->key = mongo_doc_string(&d, "key", PATH_MAX_BYTES);
		if (!ret->key)
			mongo_doc_fault(&d, "key", -EUCLEAN);
	}
	ret->due = mongo_doc_i64(&d, "due", 0);
	ret->token = mongo_doc_u64(&d, "token");
	ret->tries = mongo_doc_u32(&d, "tries");
	r = mongo_doc_end(&d);
	if (r < 0)
		job_record_release(ret);
	return r;
}

/* --- sessions --- */

void mongo_session_put(const struct session_record *s, bson_t *doc)
{
	mongo_put_u64(doc, "_id", s->id);
	mongo_put_string(doc, "host", s->host);
	mongo_put_string(doc, "mountpoint", s->mountpoint);
	BSON_APPEND_INT64(doc, "pid", s->pid);
	BSON_APPEND_INT64(doc, "started", s->started);
	BSON_APPEND_INT64(doc, "heartbeat", s->heartbeat);
	BSON_APPEND_INT64(doc, "closed", s->closed);
}

int mongo_session_parse(const bson_t *doc, struct session_record *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_SESSIONS };
	int r;

	*ret = (struct session_record){ 0 };
	ret->id = mongo_doc_need(&d, "_id");
	ret->host = mongo_doc_string(&d, "host", HOST_MAX);
	ret->mountpoint = mongo_doc_string(&d, "mountpoint", PATH_MAX_BYTES);
	ret->pid = mongo_doc_u32(&d, "pid");
	ret->started = mongo_doc_i64(&d, "started", 0);
	ret->heartbeat = mongo_doc_i64(&d, "heartbeat", 0);
	ret->closed = mongo_doc_i64(&d, "closed", 0);
	if (ret->id == 0)
		mongo_doc_fault(&d, "_id", -EUCLEAN);
	r = mongo_doc_end(&d);
	if (r < 0)
		session_record_release(ret);
	return r;
}

/* --- slices --- */

void mongo_slices_put(const struct slices_doc_record *s, bson_t *doc)
{
	mongo_slices_id(s->ino, s->id, doc);
	mongo_put_u64(doc, "ino", s->ino);
	mongo_put_u64(doc, "id", s->id);
	mongo_put_u64(doc, "session", s->session);
	mongo_put_blob(doc, "blob", &s->blob);
}

int mongo_slices_parse(const bson_t *doc, struct slices_doc_record *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_SLICES };
	int r;

	*ret = (struct slices_doc_record){ 0 };
	ret->ino = mongo_doc_need(&d, "ino");
	ret->id = mongo_doc_need(&d, "id");
	ret->session = mongo_doc_u64(&d, "session");
	mongo_doc_blob(&d, "blob", SLICES_BLOB_MAX, &ret->blob);
	r = mongo_doc_end(&d);
	if (r < 0)
		slices_doc_record_release(ret);
	return r;
}

/* --- cells --- */

const char *mongo_cell_collection(const char *name)
{
	static const char *const prefixes[] = { "leases", "locks", "shared", "schemas", "failures", "compose" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(prefixes); i++) {
		size_t len = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], len) == 0 && name[len] == '/')
			return prefixes[i];
	}
	return NULL;
}

void mongo_cell_put(const struct cell_record *c, bson_t *doc)
{
	mongo_put_string(doc, "_id", c->name);
	mongo_put_u64(doc, "token", c->token);
	mongo_put_blob(doc, "blob", &c->blob);
}

int mongo_cell_parse(const bson_t *doc, struct cell_record *ret)
{
	struct mongo_doc d = { .bson = doc, .collection = "a collection of cells" };
	int r;

	*ret = (struct cell_record){ 0 };
	ret->name = mongo_doc_string(&d, "_id", OBJECT_KEY_MAX);
	ret->token = mongo_doc_need(&d, "token");
	mongo_doc_blob(&d, "blob", CELL_MAX, &ret->blob);
	if (!d.bad && (!ret->name || !ret->token || !ret->blob.size))
		mongo_doc_fault(&d, "token", -EUCLEAN);
	r = mongo_doc_end(&d);
	if (r < 0)
		cell_record_release(ret);
	return r;
}
