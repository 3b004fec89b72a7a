/*
 * Storage rules where they hold: which directory's they are, what they say of a name, a size, a type. What was refused is
 * recorded by namespace_failures.c; content that was, kept by namespace_refuse.c.
 *
 * The text is an attribute of its directory (meta/schema.h) and, written in the same change, a cell "schemas/<inode>". All
 * the cells are kept here parsed, so a volume without rules asks nothing, and one with rules walks up the parents. What is
 * kept is dropped when a cell changes here or, by the news, elsewhere; while no news come it is read for each question.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/str.h"
#include "meta/namespace_dirs.h"
#include "meta/namespace_internal.h"
#include "meta/schema.h"

#define PAGE	      256
#define DEPTH_MAX     1000000u
#define FRESH_NS      (500 * INT64_C(1000000)) /* older news: what is kept is not believed */

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

int ns_rules_demand(struct namespace *ns, struct op_ctx *op, bool *ret)
{
	struct ns_rules *t;
	int r = get_table(ns, op, &t);

	*ret = false;
	if (r < 0)
		return r;
	for (size_t i = 0; i < t->n; i++)
		*ret |= t->v[i].schema.n_demands > 0;
	ns_rules_put(t);
	return 0;
}

/* --- names --- */

int ns_check_name(struct namespace *ns, struct op_ctx *op, const char *what, mfs_ino_t dir, const struct mfs_name *name)
{
	struct ns_held h;
	int r = ns_rules_of(ns, op, dir, &h);

	if (r == 0 && h.schema && !schema_name_fits(h.schema, name) && !ns_is_temporary(name)) {
		namespace_refused(ns, op, &(struct refused_name){ what, "name", dir, name,
								   "the name fits none of the patterns of the directory's storage rules" });
		r = -EPERM;
	}
	ns_held_release(&h);
	return r;
}

/* --- content --- */

/* The rules of where the file is; none of one without a name. *ret_any: of this volume some have any. */
static int rules_of_file(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct ns_held *ret)
{
	struct node n = NODE_INIT;
	struct ns_rules *t;
	bool any;
	int r = get_table(ns, op, &t);

	*ret = (struct ns_held){ 0 };
	if (r < 0)
		return r;
	any = t->n;
	ns_rules_put(t);
	if (!any)
		return 0;
	r = engine_get(ns->e, op, ino, &n);
	if (r == 0 && n.parent)
		r = ns_rules_of(ns, op, n.parent, ret);
	node_release(&n);
	return r;
}

int namespace_content_rules(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct content_rules *ret)
{
	struct ns_held h;
	int r = rules_of_file(ns, op, ino, &h);

	*ret = (struct content_rules){ .size_max = (uint64_t)MFS_FILE_SIZE_MAX };
	if (r == 0 && h.schema)
		*ret = (struct content_rules){ .size_max = h.schema->max_size,
					       .size_min = h.schema->min_size,
					       .at_close = h.schema->min_size || h.schema->n_types };
	ns_held_release(&h);
	return r;
}

int namespace_judge(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, uint64_t size, const char *mime, struct judgement *ret)
{
	struct ns_held h;
	int r = rules_of_file(ns, op, ino, &h);

	*ret = (struct judgement){ 0 };
	if (r < 0 || !h.schema)
		return r;
	if (size < h.schema->min_size) {
		ret->kind = "min_size";
		snprintf(ret->reason, sizeof(ret->reason), "of %" PRIu64 " bytes, and the directory's storage rules demand %" PRIu64, size,
			 h.schema->min_size);
	} else if (h.schema->n_types && size && !mime) {
		ret->ask_type = true;
	} else if (h.schema->n_types && size && !schema_type_fits(h.schema, mime)) {
		ret->kind = "type";
		snprintf(ret->reason, sizeof(ret->reason), "its type (%s) is none of those that the directory's storage rules demand",
			 *mime ? mime : "not known");
	}
	ns_held_release(&h);
	return 0;
}

void namespace_too_big(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	int r = engine_get(ns->e, op, ino, &n);

	if (r == 0 && n.parent)
		namespace_refused(ns, op, &(struct refused_name){ "write", "max_size", n.parent, &n.name,
								  "the file would be bigger than the directory's storage rules allow" });
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

/* What only the whole record tells. */
static int check_record(struct namespace *ns, struct op_ctx *op, const struct schema *s, mfs_ino_t ino, const char **ret_reason)
{
	struct node n = NODE_INIT;
	int r = engine_get(ns->e, op, ino, &n);

	if (r == 0 && n.mime && n.attr.size && !schema_type_fits(s, n.mime))
		*ret_reason = "its type is none of those demanded";
	else if (r == 0 && schema_tag_missing(s, &n))
		*ret_reason = "it has not all the tags demanded";
	node_release(&n);
	return r == -ESTALE ? 0 : r;
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
	else if (h.schema && attr_is_reg(a) && a->size < h.schema->min_size)
		*ret_reason = "it is smaller than the minimum";
	else if (h.schema && attr_is_reg(a) && (h.schema->n_types || h.schema->n_demands))
		r = check_record(ns, op, h.schema, a->ino, ret_reason);
	ns_held_release(&h);
	return r;
}
