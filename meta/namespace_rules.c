/*
 * Storage rules where they hold: which directory's they are, what they say of a name, and the record of what was refused.
 *
 * The text is an attribute of its directory (meta/schema.h) and, written in the same change, a cell "schemas/<inode>". All
 * the cells are kept here parsed, so a volume without rules asks nothing, and one with rules walks up the parents. What is
 * kept is dropped when a cell changes here or, by the news, elsewhere; while no news come it is read for each question.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/base64.h"
#include "common/str.h"
#include "meta/namespace_dirs.h"
#include "meta/namespace_internal.h"
#include "meta/schema.h"

#define PAGE	      256
#define DEPTH_MAX     1000000u
#define FRESH_NS      (500 * INT64_C(1000000)) /* older news: what is kept is not believed */
#define PRUNE_EVERY   256u
#define PRUNE_MAX     1024u

struct rule {
	mfs_ino_t dir;
	struct schema schema;
};

struct ns_rules {
	_Atomic unsigned int refs;
	size_t n;
	struct rule v[]; /* by dir */
};

void ns_rules_put(struct ns_rules *t)
{
	if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
		return;
	for (size_t i = 0; i < t->n; i++)
		schema_release(&t->v[i].schema);
	free(t);
}

void namespace_rules_changed(struct namespace *ns)
{
	struct ns_rules *old;

	{
		MFS_GUARD(&ns->lock);

		old = ns->rules;
		ns->rules = NULL;
		ns->rules_gen++;
	}
	ns_rules_put(old);
}

bool namespace_news(struct namespace *ns, const struct news *w)
{
	if (w->kind == NEWS_LOST || (w->kind == NEWS_CELL && mfs_str_starts(w->cell ? w->cell : "", NS_SCHEMAS)))
		namespace_rules_changed(ns);
	return ns_dirs_news(ns, w);
}

static int add_rule(struct ns_rules **t, const struct cell_record *c)
{
	MFS_AUTOFREE char *reason = NULL;
	struct ns_rules *bigger;
	struct rule *rule;
	uint64_t dir;
	int r;

	bigger = realloc(*t, sizeof(**t) + ((*t)->n + 1) * sizeof((*t)->v[0]));
	if (!bigger)
		return -ENOMEM;
	*t = bigger;
	rule = &bigger->v[bigger->n];
	r = mfs_str_uint(c->name + strlen(NS_SCHEMAS), 10, 1, UINT64_MAX, &dir);
	if (r == 0)
		r = schema_parse(c->blob.data, c->blob.size, &rule->schema, &reason);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL, "cell=%s its storage rules are damaged (%s) and do not hold; set them again",
			c->name, reason ? reason : "its name");
		return 0;
	}
	rule->dir = dir;
	bigger->n++;
	return 0;
}

static int load(struct namespace *ns, struct op_ctx *op, struct ns_rules **ret)
{
	struct ns_rules *t = calloc(1, sizeof(*t));
	MFS_AUTOFREE char *after = NULL;
	size_t n = PAGE;
	int r = t ? 0 : -ENOMEM;

	while (r == 0 && n == PAGE) {
		struct cell_list l = { 0 };

		r = engine_cells(ns->e, op, NS_SCHEMAS, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < n; i++)
			r = add_rule(&t, &l.v[i]);
		free(after);
		after = r == 0 && n ? MFS_TAKE(l.v[n - 1].name) : NULL;
		cell_list_release(&l);
	}
	if (r == -ENOTSUP)
		r = 0;
	if (t)
		atomic_init(&t->refs, 1);
	if (r == 0)
		*ret = t;
	else
		ns_rules_put(t);
	return r;
}

/* The table; ns_rules_put it. */
static int get_table(struct namespace *ns, struct op_ctx *op, struct ns_rules **ret)
{
	bool fresh = engine_last_beat(ns->e) > mfs_mono_ns() - FRESH_NS || (ns->e->ops->caps & ENGINE_SINGLE_MOUNT);
	struct ns_rules *t = NULL, *old = NULL;
	uint64_t gen;
	int r;

	{
		MFS_GUARD(&ns->lock);

		gen = ns->rules_gen;
		if (fresh && ns->rules) {
			*ret = ns->rules;
			atomic_fetch_add(&ns->rules->refs, 1);
			return 0;
		}
	}
	r = load(ns, op, &t);
	if (r < 0)
		return r;
	{
		MFS_GUARD(&ns->lock);

		if (fresh && gen == ns->rules_gen) {
			old = ns->rules;
			ns->rules = t;
			atomic_fetch_add(&t->refs, 1);
		}
	}
	ns_rules_put(old);
	*ret = t;
	return 0;
}

static const struct rule *find(const struct ns_rules *t, mfs_ino_t dir)
{
	for (size_t i = 0; i < t->n; i++) /* few have any */
		if (t->v[i].dir == dir)
			return &t->v[i];
	return NULL;
}

int ns_rules_of(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, struct ns_held *ret)
{
	struct ns_rules *t;
	const struct rule *rule;
	int r = get_table(ns, op, &t);

	*ret = (struct ns_held){ 0 };
	if (r < 0)
		return r;
	for (unsigned int depth = 0; t->n && dir && depth < DEPTH_MAX; depth++) {
		rule = find(t, dir);
		if (rule) {
			*ret = (struct ns_held){ .table = t, .schema = &rule->schema, .from = dir };
			return 0;
		}
		r = dir == MFS_ROOT_INO ? -ENOENT : ns_dir_parent(ns, op, dir, &dir);
		if (r < 0)
			break;
	}
	ns_rules_put(t);
	return r == -ENOENT || r == -ENOTDIR ? 0 : r; /* removed meanwhile: the change will say so */
}

void ns_held_release(struct ns_held *h)
{
	ns_rules_put(h->table);
	*h = (struct ns_held){ 0 };
}

int ns_rules_cell(mfs_ino_t dir, const void *text, size_t len, struct cell_record *ret)
{
	*ret = (struct cell_record){ .name = mfs_str_printf(NS_SCHEMAS "%" PRIu64, dir) };
	if (!ret->name)
		return -ENOMEM;
	if (getrandom(&ret->token, sizeof(ret->token), 0) != (ssize_t)sizeof(ret->token))
		ret->token = (uint64_t)mfs_now_ns();
	ret->token = (ret->token >> 1) | 1;
	if (!len)
		return 0;
	ret->blob.data = malloc(len);
	if (!ret->blob.data)
		return -ENOMEM;
	memcpy(ret->blob.data, text, len);
	ret->blob.size = len;
	return 0;
}

/* --- names --- */

int ns_check_name(struct namespace *ns, struct op_ctx *op, const char *what, mfs_ino_t dir, const struct mfs_name *name)
{
	struct ns_held h;
	int r = ns_rules_of(ns, op, dir, &h);

	if (r == 0 && h.schema && !schema_name_fits(h.schema, name) && !ns_is_temporary(name)) {
		namespace_refused(ns, op, what, dir, name, "the name fits none of the patterns of the directory's storage rules");
		r = -EPERM;
	}
	ns_held_release(&h);
	return r;
}

/* --- sizes --- */

int namespace_size_max(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, uint64_t *ret)
{
	struct node n = NODE_INIT;
	struct ns_rules *t;
	struct ns_held h;
	bool any;
	int r = get_table(ns, op, &t);

	*ret = (uint64_t)MFS_FILE_SIZE_MAX;
	if (r < 0)
		return r;
	any = t->n;
	ns_rules_put(t);
	r = any ? engine_get(ns->e, op, ino, &n) : 0;
	if (r < 0 || !any || !n.parent) {
		node_release(&n);
		return r;
	}
	r = ns_rules_of(ns, op, n.parent, &h);
	if (r == 0 && h.schema)
		*ret = h.schema->max_size;
	ns_held_release(&h);
	node_release(&n);
	return r;
}

void namespace_too_big(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	int r = engine_get(ns->e, op, ino, &n);

	if (r == 0 && n.parent)
		namespace_refused(ns, op, "write", n.parent, &n.name, "the file would be bigger than the directory's storage rules allow");
	node_release(&n);
}

/* --- looking --- */

int namespace_rules_from(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, mfs_ino_t *ret)
{
	struct ns_held h;
	int r = ns_rules_of(ns, op, dir, &h);

	*ret = h.from;
	ns_held_release(&h);
	return r;
}

int namespace_rules_check(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, const struct mfs_name *name,
			  const struct mfs_attr *a, const char **ret_reason)
{
	struct ns_held h;
	int r = attr_is_dir(a) ? 0 : ns_rules_of(ns, op, dir, &h);

	*ret_reason = NULL;
	if (r < 0 || attr_is_dir(a))
		return r;
	if (h.schema && !schema_name_fits(h.schema, name))
		*ret_reason = "its name fits none of the patterns";
	else if (h.schema && attr_is_reg(a) && a->size > h.schema->max_size)
		*ret_reason = "it is bigger than the maximum";
	ns_held_release(&h);
	return 0;
}

/* --- what was refused --- */

static json_t *text_or_base64(json_t *o, const char *key, const char *text)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(NS_PATH_MAX);
	char other[40];

	if (!text)
		return o;
	if (mfs_utf8_valid(text, strlen(text))) {
		json_object_set_new(o, key, json_string(text));
		return o;
	}
	snprintf(other, sizeof(other), "%s_base64", key);
	if (mfs_base64_put(&b, text, strlen(text)) == 0)
		json_object_set_new(o, other, json_string(mfs_buf_str(&b)));
	return o;
}

/* One record of it: failures/<time>-<number>. */
static int record(struct namespace *ns, struct op_ctx *op, const char *what, const char *path, const char *reason)
{
	MFS_AUTOFREE char *user = NULL, *text = NULL;
	struct cell_record cell = { 0 };
	json_t *o = json_object();
	NS_AUTOOP struct ns_op x;
	int r = o ? ns_user_name(ns, op->uid, &user) : -ENOMEM;

	ns_op_init(&x, ns, op);
	if (r == 0)
		r = ns_rules_cell(0, "", 0, &cell); /* its token */
	if (r == 0) {
		free(cell.name);
		cell.name = mfs_str_printf(NS_FAILURES "%019" PRId64 "-%08" PRIx32, x.now, (uint32_t)cell.token);
		json_object_set_new(o, "operation", json_string(what));
		text_or_base64(o, "path", path);
		json_object_set_new(o, "uid", json_integer((json_int_t)op->uid));
		text_or_base64(o, "user", user);
		text_or_base64(o, "host", ns->opt.host);
		json_object_set_new(o, "time", json_integer(x.now));
		json_object_set_new(o, "reason", json_string(reason));
		text = json_dumps(o, JSON_COMPACT);
		r = cell.name && text ? 0 : -ENOMEM;
	}
	json_decref(o);
	if (r == 0) {
		cell.blob = (struct node_blob){ .data = text, .size = strlen(text) };
		change_write(&x.c, WRITE_CELL_PUT, 0)->cell = &cell;
		r = ns_op_apply(&x);
		cell.blob = (struct node_blob){ 0 };
	}
	cell_record_release(&cell);
	return r;
}

/* Older than versions are kept for: forgotten. */
static int prune(struct namespace *ns, struct op_ctx *op)
{
	struct cell_list l = { 0 };
	int64_t before = mfs_now_ns() - ns->opt.retention_ns;
	char bound[64];
	int r = engine_cells(ns->e, op, NS_FAILURES, NULL, PRUNE_MAX, &l);

	snprintf(bound, sizeof(bound), NS_FAILURES "%019" PRId64, before > 0 ? before : 0);
	for (size_t i = 0; r == 0 && i < l.n && strcmp(l.v[i].name, bound) < 0;) {
		NS_AUTOOP struct ns_op x;

		ns_op_init(&x, ns, op);
		for (; i < l.n && x.c.n_writes < CHANGE_MAX_WRITES && strcmp(l.v[i].name, bound) < 0; i++) {
			free(l.v[i].blob.data);
			l.v[i].blob = (struct node_blob){ 0 };
			change_write(&x.c, WRITE_CELL_PUT, 0)->cell = &l.v[i];
		}
		r = ns_op_apply(&x);
	}
	cell_list_release(&l);
	return r;
}

/* The same refusal over and over is one record a second. */
static bool is_repeated(struct namespace *ns, uint64_t hash, bool *ret_prune)
{
	int64_t now = mfs_mono_ns();
	MFS_GUARD(&ns->lock);

	if (ns->refused_hash == hash && now - ns->refused_at < MFS_NSEC_PER_SEC)
		return true;
	ns->refused_hash = hash;
	ns->refused_at = now;
	*ret_prune = ns->n_refused++ % PRUNE_EVERY == 0;
	return false;
}

void namespace_refused(struct namespace *ns, struct op_ctx *op, const char *what, mfs_ino_t dir, const struct mfs_name *name,
		       const char *reason)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(NS_PATH_MAX);
	bool do_prune = false;
	uint64_t hash = mfs_hash_u64(dir ^ op->uid) ^ mfs_hash64(name->bytes, name->len) ^ mfs_hash64(what, strlen(what));
	int r;

	if (is_repeated(ns, hash, &do_prune))
		return;
	if (ns_path(ns, op, dir, name, &path) < 0) {
		mfs_buf_clear(&path);
		(void)mfs_buf_append(&path, name->bytes, name->len);
	}
	mfs_log(MFS_LOG_META, MFS_LOG_WARN, op, "operation=%s path=%s uid=%u refused: %s; see massfs schema show, massfs failures",
		what, mfs_buf_str(&path), op->uid, reason);
	r = record(ns, op, what, mfs_buf_str(&path), reason);
	if (r == 0 && do_prune)
		r = prune(ns, op);
	if (r < 0)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, op, "the list of failures could not be written: %s", strerror(-r));
}

static int tell(const struct cell_record *c, namespace_failure_fn *fn, void *arg)
{
	MFS_AUTOFREE char *json = malloc(c->blob.size + 1);
	json_t *o;
	int r = 0;

	if (!json)
		return -ENOMEM;
	if (c->blob.size)
		memcpy(json, c->blob.data, c->blob.size);
	json[c->blob.size] = '\0';
	o = json_loads(json, 0, NULL);

	if (json_is_object(o)) {
		const char *path = json_string_value(json_object_get(o, "path"));
		const char *user = json_string_value(json_object_get(o, "user"));
		struct failure f = { .json = json,
				     .time = json_integer_value(json_object_get(o, "time")),
				     .uid = (uid_t)json_integer_value(json_object_get(o, "uid")),
				     .operation = json_string_value(json_object_get(o, "operation")),
				     .path = path ? path : json_string_value(json_object_get(o, "path_base64")),
				     .user = user,
				     .host = json_string_value(json_object_get(o, "host")),
				     .reason = json_string_value(json_object_get(o, "reason")) };

		r = fn(arg, &f);
	}
	json_decref(o);
	return r;
}

int namespace_failures(struct namespace *ns, struct op_ctx *op, namespace_failure_fn *fn, void *arg)
{
	MFS_AUTOFREE char *after = NULL;
	size_t n = PAGE;
	int r = 0;

	while (r == 0 && n == PAGE) {
		struct cell_list l = { 0 };

		r = engine_cells(ns->e, op, NS_FAILURES, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < n; i++)
			r = tell(&l.v[i], fn, arg);
		free(after);
		after = r == 0 && n ? MFS_TAKE(l.v[n - 1].name) : NULL;
		cell_list_release(&l);
	}
	return r == -ENOTSUP ? 0 : r;
}
