/*
 * Reads of side records: versions, trash by path and time, dropped, jobs, sessions, slices, cells.
 */
#include <errno.h>
#include <string.h>

#include "meta/mongo_internal.h"
#include "meta/version_order.h"

/* A find whose documents become records of a list, which loses what it got when the find fails or begins anew. */
#define DEFINE_FIND(type)                                                                                                \
	static int take_##type(void *arg, const bson_t *doc)                                                             \
	{                                                                                                                \
		struct type##_gather *g = arg;                                                                           \
		struct type##_record *rec;                                                                               \
		int r;                                                                                                   \
                                                                                                                         \
		if (!doc) {                                                                                              \
			while (g->list->n > g->first)                                                                    \
				type##_record_release(&g->list->v[--g->list->n]);                                        \
			return 0;                                                                                        \
		}                                                                                                        \
		rec = type##_list_add(g->list);                                                                          \
		if (!rec)                                                                                                \
			return -ENOMEM;                                                                                  \
		r = parse_##type(doc, rec);                                                                              \
		if (r < 0)                                                                                               \
			g->list->n--;                                                                                    \
		return r;                                                                                                \
	}                                                                                                                \
	static int find_##type(struct mongo_conn *c, const char *collection, const bson_t *filter, const bson_t *opts,  \
			       struct type##_list *ret)                                                                  \
	{                                                                                                                \
		struct type##_gather g = { .list = ret, .first = ret->n };                                               \
		int r = mongo_find(c, MONGO_READ, collection, filter, opts, take_##type, &g);                            \
                                                                                                                         \
		if (r < 0)                                                                                               \
			(void)take_##type(&g, NULL);                                                                     \
		return r;                                                                                                \
	}                                                                                                                \
	struct mfs_semicolon_

#define DECLARE_GATHER(type)                \
	struct type##_gather {              \
		struct type##_list *list;   \
		size_t first;               \
	}

DECLARE_GATHER(version);
DECLARE_GATHER(dropped);
DECLARE_GATHER(job);
DECLARE_GATHER(session);
DECLARE_GATHER(slices_doc);
DECLARE_GATHER(cell);

#define parse_version	 mongo_version_parse
#define parse_dropped	 mongo_dropped_parse
#define parse_job	 mongo_job_parse
#define parse_session	 mongo_session_parse
#define parse_slices_doc mongo_slices_parse
#define parse_cell	 mongo_cell_parse

DEFINE_FIND(version);
DEFINE_FIND(dropped);
DEFINE_FIND(job);
DEFINE_FIND(session);
DEFINE_FIND(slices_doc);
DEFINE_FIND(cell);

static void append_range(bson_t *filter, const char *field, const char *op, int64_t v)
{
	bson_t sub;

	BSON_APPEND_DOCUMENT_BEGIN(filter, field, &sub);
	if (op[1] == 'g')
		BSON_APPEND_INT64(&sub, op, v);
	else
		BSON_APPEND_INT64(&sub, "$gte", INT64_MIN);
	if (op[1] == 'g')
		BSON_APPEND_INT64(&sub, "$lte", INT64_MAX);
	else
		BSON_APPEND_INT64(&sub, op, v);
	bson_append_document_end(filter, &sub);
}

static void append_sort(bson_t *opts, const char *a, const char *b, size_t limit)
{
	bson_t sort;

	BSON_APPEND_DOCUMENT_BEGIN(opts, "sort", &sort);
	BSON_APPEND_INT32(&sort, a, 1);
	if (b)
		BSON_APPEND_INT32(&sort, b, 1);
	bson_append_document_end(opts, &sort);
	BSON_APPEND_INT64(opts, "limit", (int64_t)limit);
}

/* --- versions --- */

int mongo_versions_by(struct mongo_conn *c, const char *path, mfs_ino_t ino, struct version_list *ret)
{
	bson_t filter = BSON_INITIALIZER;
	size_t first = ret->n;
	int r;

	if (path)
		mongo_put_string(&filter, "path", path);
	else
		mongo_put_u64(&filter, "ino", ino);
	r = find_version(c, MONGO_VERSIONS, &filter, NULL, ret);
	bson_destroy(&filter);
	if (r == 0 && ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), path ? version_newest_replaced_first : version_newest_data_first);
	return r;
}

int mongo_versions_expired(struct mongo_conn *c, int64_t now, size_t limit, struct version_list *ret)
{
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
	int r;

	append_range(&filter, "until", "$lte", now);
	append_sort(&opts, "until", NULL, limit);
	r = find_version(c, MONGO_VERSIONS, &filter, &opts, ret);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

/*
 * In order of (a, b), above (va, vb): the rest of va, then what is above it; each a range of the index (a, b).
 * fn(c, filter, opts, ret) finds; *n is the length of what it fills.
 */
#define FIND_PAIRS_ABOVE(c, collection, type, a, va, b, vb, limit, ret)                              \
	({                                                                                           \
		size_t begin_ = (ret)->n;                                                            \
		int r_ = 0;                                                                          \
                                                                                                     \
		for (int step_ = 0; r_ == 0 && step_ < 2 && (ret)->n - begin_ < (limit); step_++) {  \
			bson_t f_ = BSON_INITIALIZER, o_ = BSON_INITIALIZER;                         \
                                                                                                     \
			if (step_ == 0) {                                                            \
				mongo_put_u64(&f_, a, va);                                           \
				append_range(&f_, b, "$gt", (int64_t)(vb));                          \
			} else {                                                                     \
				append_range(&f_, a, "$gt", (int64_t)(va));                          \
			}                                                                            \
			append_sort(&o_, a, b, (limit) - ((ret)->n - begin_));                       \
			r_ = find_##type(c, collection, &f_, &o_, ret);                              \
			bson_destroy(&o_);                                                           \
			bson_destroy(&f_);                                                           \
		}                                                                                    \
		r_;                                                                                  \
	})

int mongo_versions_all(struct mongo_conn *c, mfs_ino_t after_ino, uint64_t after_data, size_t limit, struct version_list *ret)
{
	return FIND_PAIRS_ABOVE(c, MONGO_VERSIONS, version, "ino", after_ino, "data", after_data, limit, ret);
}

/* --- trash --- */

static int newest_trash_first(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	if (x->trash_time != y->trash_time)
		return (x->trash_time < y->trash_time) - (x->trash_time > y->trash_time);
	return (x->attr.ino < y->attr.ino) - (x->attr.ino > y->attr.ino);
}

int mongo_trash_by_path(struct mongo_conn *c, const char *path, struct node_list *ret)
{
	bson_t filter = BSON_INITIALIZER;
	size_t first = ret->n;
	int r;

	mongo_put_string(&filter, "path", path);
	r = mongo_find_nodes(c, true, false, &filter, NULL, ret);
	bson_destroy(&filter);
	if (r == 0 && ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), newest_trash_first);
	return r;
}

int mongo_trash_before(struct mongo_conn *c, int64_t before, size_t limit, struct node_list *ret)
{
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
	int r;

	append_range(&filter, "trashed", "$lt", before);
	append_sort(&opts, "trashed", "_id", limit);
	r = mongo_find_nodes(c, true, false, &filter, &opts, ret);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

/* --- dropped --- */

int mongo_dropped(struct mongo_conn *c, int64_t before, uint64_t after_id, size_t limit, struct dropped_list *ret)
{
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
	int r;

	append_range(&filter, "_id", "$gt", (int64_t)after_id);
	append_range(&filter, "at", "$lt", before);
	append_sort(&opts, "_id", NULL, limit);
	r = after_id < (uint64_t)INT64_MAX ? find_dropped(c, MONGO_DROPPED, &filter, &opts, ret) : 0;
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

/* --- jobs --- */

int mongo_jobs(struct mongo_conn *c, int64_t due_before, size_t limit, struct job_list *ret)
{
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
	int r;

	append_range(&filter, "due", "$lte", due_before);
	append_sort(&opts, "due", "token", limit);
	r = find_job(c, MONGO_JOBS, &filter, &opts, ret);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

static int job_order(const void *a, const void *b)
{
	const struct job_record *x = a, *y = b;
	int r = (x->kind > y->kind) - (x->kind < y->kind);

	if (r == 0)
		r = strcmp(x->key ? x->key : "", y->key ? y->key : "");
	return r ? r : (x->ino > y->ino) - (x->ino < y->ino);
}

/*
 * Jobs of one kind in order of (key, ino): keys that are strings come from the index in that order. Those that are Binary
 * (not UTF-8: rare) do not, so they are all read, and what is wanted of them is sorted in by the caller.
 */
static int jobs_of_kind(struct mongo_conn *c, int32_t kind, const struct job_record *from, size_t limit, struct job_list *ret)
{
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, sub;
	int r;

	BSON_APPEND_INT32(&filter, "kind", kind);
	BSON_APPEND_DOCUMENT_BEGIN(&filter, "key", &sub);
	/* A key that is not UTF-8 can't be a bound among strings: then all strings are read, and sorted out below. */
	BSON_APPEND_UTF8(&sub, "$gte",
			 from && from->key && bson_utf8_validate(from->key, strlen(from->key), false) ? from->key : "");
	bson_append_document_end(&filter, &sub);
	append_sort(&opts, "key", "ino", limit);
	r = find_job(c, MONGO_JOBS, &filter, &opts, ret);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

static int binary_jobs(struct mongo_conn *c, int32_t kind, struct job_list *ret)
{
	bson_t filter = BSON_INITIALIZER, sub;
	int r;

	BSON_APPEND_INT32(&filter, "kind", kind);
	BSON_APPEND_DOCUMENT_BEGIN(&filter, "key", &sub);
	BSON_APPEND_UTF8(&sub, "$type", "binData");
	bson_append_document_end(&filter, &sub);
	r = find_job(c, MONGO_JOBS, &filter, NULL, ret);
	bson_destroy(&filter);
	return r;
}

/* What is before `from` (NULL: nothing is) leaves v[first...). */
static void drop_before(struct job_list *l, size_t first, const struct job_record *from)
{
	size_t kept = first;

	for (size_t i = first; from && i < l->n; i++) {
		if (job_order(&l->v[i], from) < 0)
			job_record_release(&l->v[i]);
		else
			l->v[kept++] = l->v[i];
	}
	if (from)
		l->n = kept;
}

/* With an equal key, `from` may cut the first ones off by their number: so many more are asked for, in steps. */
static int jobs_kind_from(struct mongo_conn *c, int32_t kind, const struct job_record *from, size_t limit, struct job_list *ret)
{
	size_t first = ret->n, got;
	size_t ask = limit;
	int r;

	for (;;) {
		r = jobs_of_kind(c, kind, from, ask, ret);
		if (r < 0)
			return r;
		got = ret->n - first;
		drop_before(ret, first, from);
		if (ret->n - first >= limit || got < ask)
			break;
		while (ret->n > first)
			job_record_release(&ret->v[--ret->n]);
		ask *= 4;
	}
	if (kind == JOB_KEY)
		r = binary_jobs(c, kind, ret);
	if (r < 0)
		return r;
	drop_before(ret, first, from);
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), job_order);
	while (ret->n > first + limit)
		job_record_release(&ret->v[--ret->n]);
	return 0;
}

int mongo_jobs_from(struct mongo_conn *c, const struct job_record *from, size_t limit, struct job_list *ret)
{
	size_t first = ret->n;
	int r = 0;

	for (int kind = MFS_MAX((int)from->kind, (int)JOB_KEY); r == 0 && kind <= JOB_VIEW && ret->n - first < limit; kind++)
		r = jobs_kind_from(c, kind, kind == (int)from->kind ? from : NULL, limit - (ret->n - first), ret);
	if (r < 0)
		while (ret->n > first)
			job_record_release(&ret->v[--ret->n]);
	return r;
}

/* --- sessions, slices, cells --- */

int mongo_sessions(struct mongo_conn *c, struct session_list *ret)
{
	bson_t filter = BSON_INITIALIZER;
	int r = find_session(c, MONGO_SESSIONS, &filter, NULL, ret);

	bson_destroy(&filter);
	return r;
}

int mongo_slices_get(struct mongo_conn *c, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	struct slices_doc_record s;
	bson_t filter = BSON_INITIALIZER, doc;
	int r;

	mongo_slices_id(ino, id, &filter);
	r = mongo_find_one(c, MONGO_READ, MONGO_SLICES, &filter, NULL, &doc);
	bson_destroy(&filter);
	if (r < 0)
		return r;
	r = mongo_slices_parse(&doc, &s);
	bson_destroy(&doc);
	if (r < 0)
		return r;
	*ret = s.blob;
	s.blob = (struct node_blob){ 0 };
	slices_doc_record_release(&s);
	return 0;
}

int mongo_slices_all(struct mongo_conn *c, mfs_ino_t after_ino, uint64_t after_id, size_t limit, struct slices_doc_list *ret)
{
	return FIND_PAIRS_ABOVE(c, MONGO_SLICES, slices_doc, "ino", after_ino, "id", after_id, limit, ret);
}

int mongo_cell_get(struct mongo_conn *c, const char *name, struct cell_record *ret)
{
	const char *collection = mongo_cell_collection(name);
	bson_t filter = BSON_INITIALIZER, doc;
	int r;

	mongo_put_string(&filter, "_id", name);
	r = collection ? mongo_find_one(c, MONGO_READ, collection, &filter, NULL, &doc) : -ENOENT;
	bson_destroy(&filter);
	if (r < 0)
		return r;
	r = mongo_cell_parse(&doc, ret);
	bson_destroy(&doc);
	return r;
}

/* Names that begin with prefix, above `after`, of one collection. Names are ASCII. */
static int cells_of(struct mongo_conn *c, const char *collection, const char *prefix, const char *after, size_t limit,
		    struct cell_list *ret)
{
	bool above = after && strcmp(after, prefix) >= 0;
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, sub;
	char end[OBJECT_KEY_MAX + 8];
	int r;

	/* The last character there is, so that every name with the prefix is below. */
	if (snprintf(end, sizeof(end), "%s\xf4\x8f\xbf\xbf", prefix) >= (int)sizeof(end))
		return -EINVAL;
	BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &sub);
	BSON_APPEND_UTF8(&sub, above ? "$gt" : "$gte", above ? after : prefix);
	BSON_APPEND_UTF8(&sub, "$lt", end);
	bson_append_document_end(&filter, &sub);
	append_sort(&opts, "_id", NULL, limit);
	r = find_cell(c, collection, &filter, &opts, ret);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

int mongo_cells(struct mongo_conn *c, const char *prefix, const char *after, size_t limit, struct cell_list *ret)
{
	static const char *const all[] = { "compose/", "failures/", "leases/", "locks/", "schemas/", "shared/" };
	size_t first = ret->n, len = strlen(prefix);
	int r = 0;

	for (size_t i = 0; r == 0 && i < MFS_ARRAY_LEN(all) && ret->n - first < limit; i++)
		if (strncmp(all[i], prefix, MFS_MIN(len, strlen(all[i]))) == 0)
			r = cells_of(c, mongo_cell_collection(all[i]), prefix, after, limit - (ret->n - first), ret);
	return r;
}
