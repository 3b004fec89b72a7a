/*
 * Reads of index records: by number, by name, listings, queries.
 *
 * The queries are those that both mongod and weaker planners answer from one index: equality on its first fields, one range
 * behind them, bounded on both sides where the range is over _id. No $or.
 */
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "meta/mongo_internal.h"

#define LOOKUP_TRIES 8

/* --- documents into lists --- */

struct gather {
	struct node_list *list;
	size_t first; /* what was in it before */
	bool in_trash, partial;
};

static int take_node(void *arg, const bson_t *doc)
{
	struct gather *g = arg;
	struct node *n;
	int r;

	if (!doc) {
		while (g->list->n > g->first)
			node_release(&g->list->v[--g->list->n]);
		return 0;
	}
	n = node_list_add(g->list);
	if (!n)
		return -ENOMEM;
	r = mongo_node_parse(doc, g->in_trash, g->partial, n);
	if (r < 0)
		g->list->n--;
	return r;
}

int mongo_find_nodes(struct mongo_conn *c, bool trash, bool partial, const bson_t *filter, const bson_t *opts,
		     struct node_list *ret)
{
	struct gather g = { .list = ret, .first = ret->n, .in_trash = trash, .partial = partial };
	int r = mongo_find(c, MONGO_READ, trash ? MONGO_TRASH : MONGO_FILES, filter, opts, take_node, &g);

	if (r < 0)
		(void)take_node(&g, NULL);
	return r;
}

static void append_sort(bson_t *opts, const char *a, const char *b)
{
	bson_t sort;

	BSON_APPEND_DOCUMENT_BEGIN(opts, "sort", &sort);
	BSON_APPEND_INT32(&sort, a, 1);
	if (b)
		BSON_APPEND_INT32(&sort, b, 1);
	bson_append_document_end(opts, &sort);
}

static void append_limit(bson_t *opts, size_t limit)
{
	BSON_APPEND_INT64(opts, "limit", (int64_t)limit);
}

static void append_list_projection(bson_t *opts)
{
	bson_t p;

	BSON_APPEND_DOCUMENT_BEGIN(opts, "projection", &p);
	mongo_list_projection(&p);
	bson_append_document_end(opts, &p);
}

/* field: {$gt: after, $lte: the largest}. */
static void append_above(bson_t *filter, const char *field, uint64_t after)
{
	bson_t range;

	BSON_APPEND_DOCUMENT_BEGIN(filter, field, &range);
	BSON_APPEND_INT64(&range, "$gt", (int64_t)after);
	BSON_APPEND_INT64(&range, "$lte", INT64_MAX);
	bson_append_document_end(filter, &range);
}

static void append_absent(bson_t *filter, const char *field)
{
	bson_t sub;

	BSON_APPEND_DOCUMENT_BEGIN(filter, field, &sub);
	BSON_APPEND_BOOL(&sub, "$exists", false);
	bson_append_document_end(filter, &sub);
}

/* The field is any number, at most `max`: a range, as not every planner takes a partial index for {$exists: true}. */
static void append_number(bson_t *filter, const char *field, int64_t max)
{
	bson_t sub;

	BSON_APPEND_DOCUMENT_BEGIN(filter, field, &sub);
	BSON_APPEND_INT64(&sub, "$gte", INT64_MIN);
	BSON_APPEND_INT64(&sub, "$lte", max);
	bson_append_document_end(filter, &sub);
}

/* --- one record --- */

static int find_by_id(struct mongo_conn *c, bool trash, mfs_ino_t ino, struct node *ret)
{
	bson_t filter = BSON_INITIALIZER, doc;
	int r;

	mongo_put_u64(&filter, "_id", ino);
	r = mongo_find_one(c, MONGO_READ, trash ? MONGO_TRASH : MONGO_FILES, &filter, NULL, &doc);
	bson_destroy(&filter);
	if (r < 0)
		return r;
	r = mongo_is_alias(&doc) ? -ENOENT : mongo_node_parse(&doc, trash, false, ret);
	bson_destroy(&doc);
	return r;
}

int mongo_get(struct mongo_conn *c, mfs_ino_t ino, struct node *ret)
{
	/* The second look at files: it was in neither when it came back from trash between the two. */
	static const bool places[] = { false, true, false };

	for (size_t i = 0; i < MFS_ARRAY_LEN(places); i++) {
		int r = find_by_id(c, places[i], ino, ret);

		if (r != -ENOENT)
			return r;
		if (c->m->own && i == 1)
			break; /* one moment */
	}
	return -ESTALE;
}

static int lookup_once(struct mongo_conn *c, const bson_t *filter, struct entry *ret)
{
	struct alias a;
	bson_t doc;
	int r = mongo_find_one(c, MONGO_READ, MONGO_FILES, filter, NULL, &doc);

	if (r < 0)
		return r;
	if (mongo_is_alias(&doc)) {
		r = mongo_alias_parse(&doc, &a);
		if (r == 0)
			r = find_by_id(c, false, a.target, &ret->node);
		if (r == -ENOENT)
			r = -EAGAIN;
		ret->id = ret->pos = a.id;
	} else {
		r = mongo_node_parse(&doc, false, false, &ret->node);
		ret->id = ret->node.attr.ino;
		ret->pos = ret->node.pos;
	}
	bson_destroy(&doc);
	return r;
}

int mongo_lookup(struct mongo_conn *c, mfs_ino_t parent, const struct mfs_name *name, struct entry *ret)
{
	bson_t filter = BSON_INITIALIZER;
	int r = -EAGAIN;

	mongo_put_u64(&filter, "parent", parent);
	mongo_put_name(&filter, "name", name);
	*ret = (struct entry){ .parent = parent, .name = *name };
	/* An alias whose file is not there: both names were just removed. */
	for (int i = 0; r == -EAGAIN && i < LOOKUP_TRIES; i++)
		r = lookup_once(c, &filter, ret);
	bson_destroy(&filter);
	if (r == -EAGAIN) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, c->op, "mongodb: the alias %ju names a file that is not there; run massfs fsck",
			(uintmax_t)ret->id);
		r = -EIO;
	}
	return r;
}

/* --- listings --- */

/* A page as it comes: aliases have ino 0 in attr, and their targets stand in targets[] at the same place. */
struct page {
	struct node_list *list;
	size_t first;
	uint64_t *targets;
	size_t max, n_aliases;
};

static int take_entry(void *arg, const bson_t *doc)
{
	struct page *p = arg;
	size_t at = p->list->n - p->first;
	struct alias a;
	struct node *n;
	int r;

	if (!doc) {
		while (p->list->n > p->first)
			node_release(&p->list->v[--p->list->n]);
		p->n_aliases = 0;
		return 0;
	}
	if (at >= p->max)
		return -EUCLEAN;
	n = node_list_add(p->list);
	if (!n)
		return -ENOMEM;
	p->targets[at] = 0;
	if (!mongo_is_alias(doc)) {
		r = mongo_node_parse(doc, false, true, n);
	} else {
		r = mongo_alias_parse(doc, &a);
		if (r == 0) {
			*n = (struct node){ .parent = a.parent, .name = a.name, .pos = a.id, .partial = true };
			p->targets[at] = a.target;
			p->n_aliases++;
		}
	}
	if (r < 0)
		p->list->n--;
	return r;
}

static int by_ino(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return (x->attr.ino > y->attr.ino) - (x->attr.ino < y->attr.ino);
}

/* The attributes of all targets of a page, in one find, sorted by number. */
static int find_targets(struct mongo_conn *c, const struct page *p, struct node_list *ret)
{
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, in, array;
	uint32_t n = 0;
	char buf[16];
	int r;

	BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &in);
	BSON_APPEND_ARRAY_BEGIN(&in, "$in", &array);
	for (size_t i = 0; i < p->list->n - p->first; i++) {
		const char *at;

		if (!p->targets[i])
			continue;
		bson_uint32_to_string(n++, &at, buf, sizeof(buf));
		mongo_put_u64(&array, at, p->targets[i]);
	}
	bson_append_array_end(&in, &array);
	bson_append_document_end(&filter, &in);
	append_list_projection(&opts);
	r = mongo_find_nodes(c, false, true, &filter, &opts, ret);
	if (r == 0 && ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_ino);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

/* Give aliases the attributes of their files; those whose file has gone meanwhile leave the page. */
static int resolve(struct mongo_conn *c, struct page *p)
{
	struct node_list targets = NODE_LIST_INIT;
	size_t kept = p->first;
	int r = p->n_aliases ? find_targets(c, p, &targets) : 0;

	for (size_t i = p->first; r == 0 && p->n_aliases && i < p->list->n; i++) {
		struct node key = { .attr.ino = p->targets[i - p->first] };
		struct node *n = &p->list->v[i], *t;

		if (key.attr.ino) {
			t = targets.n ? bsearch(&key, targets.v, targets.n, sizeof(key), by_ino) : NULL;
			if (!t)
				continue; /* it owns nothing */
			n->attr = t->attr;
		}
		p->list->v[kept++] = *n;
	}
	if (r == 0 && p->n_aliases)
		p->list->n = kept;
	node_list_release(&targets);
	return r;
}

int mongo_list(struct mongo_conn *c, mfs_ino_t parent, uint64_t after, size_t limit, struct node_list *ret)
{
	size_t begin = ret->n;
	uint64_t *targets;
	int r = 0;

	if (after >= (uint64_t)INT64_MAX)
		return 0;
	targets = reallocarray(NULL, limit, sizeof(*targets));
	if (!targets)
		return -ENOMEM;
	while (r == 0 && ret->n - begin < limit) {
		struct page p = { .list = ret, .first = ret->n, .targets = targets, .max = limit - (ret->n - begin) };
		bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
		bool end;

		mongo_put_u64(&filter, "parent", parent);
		append_above(&filter, "pos", after);
		append_sort(&opts, "pos", NULL);
		append_limit(&opts, p.max);
		append_list_projection(&opts);
		r = mongo_find(c, MONGO_READ, MONGO_FILES, &filter, &opts, take_entry, &p);
		bson_destroy(&opts);
		bson_destroy(&filter);
		end = r < 0 || ret->n - p.first < p.max;
		if (r == 0 && ret->n > p.first)
			after = ret->v[ret->n - 1].pos;
		if (r == 0)
			r = resolve(c, &p);
		if (end)
			break;
	}
	free(targets);
	if (r < 0)
		while (ret->n > begin)
			node_release(&ret->v[--ret->n]);
	return r;
}

/* --- aliases --- */

struct aliases {
	struct alias *v;
	size_t n, max;
};

static int take_alias(void *arg, const bson_t *doc)
{
	struct aliases *a = arg;

	if (!doc) {
		a->n = 0;
		return 0;
	}
	if (a->n >= a->max)
		return -EUCLEAN;
	return mongo_alias_parse(doc, &a->v[a->n++]);
}

static int find_aliases(struct mongo_conn *c, const bson_t *filter, struct alias *ret, size_t max, size_t *ret_n)
{
	struct aliases a = { .v = ret, .max = max };
	bson_t opts = BSON_INITIALIZER;
	int r;

	append_sort(&opts, "_id", NULL);
	append_limit(&opts, max);
	r = mongo_find(c, MONGO_READ, MONGO_FILES, filter, &opts, take_alias, &a);
	bson_destroy(&opts);
	*ret_n = a.n;
	return r;
}

/* The count command answers at once for a whole collection, but knows no moment of the past. */
static bson_t *count_command(const struct mongo_conn *c, const char *collection, const bson_t *filter)
{
	bson_t none = BSON_INITIALIZER;

	if (!c->m->own)
		return BCON_NEW("count", BCON_UTF8(collection), "query", BCON_DOCUMENT(filter ? filter : &none));
	return BCON_NEW("aggregate", BCON_UTF8(collection), "pipeline", "[", "{", "$match", BCON_DOCUMENT(filter ? filter : &none),
			"}", "{", "$group", "{", "_id", BCON_NULL, "n", "{", "$sum", BCON_INT32(1), "}", "}", "}", "]", "cursor",
			"{", "}");
}

int mongo_count(struct mongo_conn *c, const char *collection, const bson_t *filter, uint64_t *ret)
{
	bson_t *cmd = count_command(c, collection, filter), reply;
	int r = mongo_run(c, MONGO_READ, cmd, &reply);

	if (r == 0) {
		struct mongo_doc d = { .bson = &reply, .collection = "the reply of count" };
		int64_t n = mongo_doc_i64(&d, c->m->own ? "cursor.firstBatch.0.n" : "n", 0);

		if (n < 0)
			mongo_doc_fault(&d, "n", -EUCLEAN);
		r = mongo_doc_end(&d);
		if (r == 0)
			*ret = (uint64_t)n;
	}
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

int mongo_aliases(struct mongo_conn *c, mfs_ino_t target, struct alias *ret, size_t max)
{
	bson_t filter = BSON_INITIALIZER;
	uint64_t total = 0;
	size_t n = 0;
	int r = 0;

	mongo_put_u64(&filter, "target", target);
	if (max)
		r = find_aliases(c, &filter, ret, max, &n);
	total = n;
	if (r == 0 && n == max)
		r = mongo_count(c, MONGO_FILES, &filter, &total);
	bson_destroy(&filter);
	return r < 0 ? r : (int)MFS_MIN(MFS_MAX(total, n), (uint64_t)INT32_MAX);
}

int mongo_aliases_all(struct mongo_conn *c, uint64_t after_id, struct alias *ret, size_t max)
{
	bson_t filter = BSON_INITIALIZER;
	size_t n = 0;
	int r = 0;

	append_number(&filter, "target", INT64_MAX);
	append_above(&filter, "_id", after_id);
	if (after_id < (uint64_t)INT64_MAX)
		r = find_aliases(c, &filter, ret, max, &n);
	bson_destroy(&filter);
	return r < 0 ? r : (int)n;
}

/* --- queries --- */

static void query_filter(const struct query *q, bson_t *filter)
{
	if (q->todo_before) {
		append_number(filter, "todo", q->todo_before);
		return;
	}
	if (q->key) {
		mongo_put_string(filter, "key", q->key);
		if (q->key_bucket)
			mongo_put_string(filter, "bucket", q->key_bucket);
		else
			append_absent(filter, "bucket");
	}
	if (q->todo)
		append_number(filter, "todo", INT64_MAX);
	if (q->acl)
		BSON_APPEND_BOOL(filter, "acl", true);
	if (q->labelled)
		BSON_APPEND_BOOL(filter, "label", true);
	if (!q->trash && !q->key && !q->todo && !q->acl && !q->labelled)
		append_absent(filter, "target");
	append_above(filter, "_id", q->after);
}

int mongo_query(struct mongo_conn *c, const struct query *q, struct node_list *ret)
{
	bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
	int r;

	if (q->after >= (uint64_t)INT64_MAX)
		return 0;
	query_filter(q, &filter);
	if (q->todo_before)
		append_sort(&opts, "todo", "_id");
	else
		append_sort(&opts, "_id", NULL);
	append_limit(&opts, q->limit);
	if (q->attr_only)
		append_list_projection(&opts);
	r = mongo_find_nodes(c, q->trash, q->attr_only, &filter, &opts, ret);
	bson_destroy(&opts);
	bson_destroy(&filter);
	return r;
}

/* --- sums --- */

int mongo_todo_count(struct mongo_conn *c, uint64_t *ret_records, uint64_t *ret_inline_bytes)
{
	bson_t *cmd = BCON_NEW("aggregate", MONGO_FILES, "pipeline", "[", "{", "$match", "{", "todo", "{", "$gte",
			       BCON_INT64(INT64_MIN), "$lte", BCON_INT64(INT64_MAX), "}", "}", "}", "{", "$group", "{", "_id", BCON_NULL, "n", "{", "$sum",
			       BCON_INT32(1), "}", "bytes", "{", "$sum", "{", "$binarySize", "{", "$ifNull", "[", "$inline",
			       BCON_UTF8(""), "]", "}", "}", "}", "}", "}", "]", "cursor", "{", "}");
	bson_t reply;
	int r = mongo_run(c, MONGO_READ, cmd, &reply);

	if (r == 0) {
		struct mongo_doc d = { .bson = &reply, .collection = "the reply of aggregate" };

		*ret_records = mongo_doc_u64(&d, "cursor.firstBatch.0.n");
		*ret_inline_bytes = mongo_doc_u64(&d, "cursor.firstBatch.0.bytes");
		r = mongo_doc_end(&d);
	}
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}
