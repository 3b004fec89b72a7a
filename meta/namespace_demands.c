/*
 * Tags that storage rules demand: looked for when a file's grace is over, as they come after its close.
 *
 * Whatever may come to lack one (a file that is made, comes from another directory or loses a tag; a directory that moves or is
 * given rules: all below it) leaves a cell "failures/due-<time>-<inode>" in its own change. One mount at a time (the collector's
 * lease) reads those that are due: a file without a demanded tag is put on the list of failures once, and has a cell
 * "failures/told-<inode>" as long as that is so, which is what massfs status counts. All steps can be done twice.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/str.h"
#include "meta/namespace_internal.h"
#include "meta/schema.h"

#define DUE	  NS_DEMANDS "ue-"
#define TOLD	  NS_FAILURES "told-"
#define PAGE	  256
#define LIST_PAGE 1000
#define DEPTH_MAX 1000
#define COUNT_MAX 100000
#define CELL_NAME 80
#define PRUNE_NS  (3600 * MFS_NSEC_PER_SEC)

/* --- cells --- */

static uint64_t new_token(void)
{
	uint64_t dice;

	if (getrandom(&dice, sizeof(dice), 0) != (ssize_t)sizeof(dice))
		dice = (uint64_t)mfs_now_ns();
	return (dice >> 1) | 1;
}

static int fill_cell(struct cell_record *c, const char *name, bool there)
{
	*c = (struct cell_record){ .name = strdup(name), .token = new_token() };
	if (!c->name)
		return -ENOMEM;
	if (!there)
		return 0;
	c->blob.data = strdup("1");
	c->blob.size = 1;
	return c->blob.data ? 0 : -ENOMEM;
}

int ns_demand(struct ns_op *x, mfs_ino_t ino, int64_t grace_ns)
{
	char name[CELL_NAME];
	int64_t due;

	if (grace_ns < 0 || x->n_demands == MFS_ARRAY_LEN(x->demands))
		return 0;
	if (__builtin_add_overflow(x->now, grace_ns, &due))
		due = INT64_MAX;
	snprintf(name, sizeof(name), DUE "%019" PRId64 "-%" PRIu64, MFS_MAX(due, INT64_C(0)), ino);
	change_write(&x->c, WRITE_CELL_PUT, 0)->cell = &x->demands[x->n_demands];
	return fill_cell(&x->demands[x->n_demands++], name, true);
}

int ns_grace_of(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, int64_t *ret)
{
	struct ns_held h;
	int r = ns_rules_of(ns, op, dir, &h);

	*ret = r == 0 && h.schema && h.schema->n_demands ? h.schema->grace_ns : -1;
	ns_held_release(&h);
	return r;
}

int ns_demand_again(struct ns_op *x, const struct node *n)
{
	struct ns_held h;
	int r = attr_is_reg(&n->attr) && n->parent ? ns_rules_of(x->ns, x->op, n->parent, &h) : -ENOENT;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (h.schema && schema_tag_missing(h.schema, n))
		r = ns_demand(x, n->attr.ino, h.schema->grace_ns);
	ns_held_release(&h);
	return r;
}

/* --- one file --- */

struct pass {
	struct namespace *ns;
	struct op_ctx *op;
	int64_t now;
	unsigned int lacking; /* told in this pass */
	char *first;	      /* of them: path and tag; owned */
	bool busy;	      /* there is something to come back for */
};

static int drop_cell(struct pass *p, struct cell_record *cell)
{
	NS_AUTOOP struct ns_op x;

	free(cell->blob.data);
	cell->blob = (struct node_blob){ 0 };
	ns_op_init(&x, p->ns, p->op);
	change_write(&x.c, WRITE_CELL_PUT, 0)->cell = cell;
	return ns_op_apply(&x);
}

static int tell(struct pass *p, const struct node *n, const char *tag)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(NS_PATH_MAX);
	MFS_CLEANUP(cell_record_release) struct cell_record told = { 0 }, failure = { 0 };
	MFS_AUTOFREE char *reason = mfs_str_printf("it has no tag %s as the directory's storage rules demand", tag);
	struct ns_report report = { .operation = "check", .kind = "tags", .ino = n->attr.ino, .uid = n->creator_uid,
				    .user = n->creator_user, .host = n->creator_host, .reason = reason };
	char name[CELL_NAME];
	NS_AUTOOP struct ns_op x;
	int r = reason ? ns_path(p->ns, p->op, n->parent, &n->name, &path) : -ENOMEM;

	if (r < 0)
		return r == -ENOENT ? 0 : r; /* removed meanwhile */
	snprintf(name, sizeof(name), TOLD "%" PRIu64, n->attr.ino);
	ns_op_init(&x, p->ns, p->op);
	report.path = mfs_buf_str(&path);
	r = fill_cell(&told, name, true);
	if (r == 0)
		r = ns_failure_cell(p->ns, &report, x.now, &failure);
	if (r < 0)
		return r;
	change_write(&x.c, WRITE_CELL_PUT, 0)->cell = &failure;
	change_write(&x.c, WRITE_CELL_PUT, 0)->cell = &told;
	r = ns_op_apply(&x);
	if (r == 0 && p->lacking++ == 0)
		p->first = mfs_str_printf("%s (no tag %s)", report.path, tag);
	return r;
}

/* Which demanded tag has it not? *ret_tag: owned, NULL: all is well. */
static int missing(struct pass *p, const struct node *n, bool within_grace_too, char **ret_tag)
{
	const char *tag;
	struct ns_held h;
	int r;

	*ret_tag = NULL;
	if (!attr_is_reg(&n->attr) || !n->parent || (n->attr.flags & ATTR_IN_TRASH))
		return 0;
	r = ns_rules_of(p->ns, p->op, n->parent, &h);
	if (r < 0)
		return r;
	tag = h.schema ? schema_tag_missing(h.schema, n) : NULL;
	/* One that is younger has a cell of its own. */
	if (tag && (within_grace_too || n->attr.btime <= p->now - h.schema->grace_ns)) {
		*ret_tag = strdup(tag);
		r = *ret_tag ? 0 : -ENOMEM;
	}
	ns_held_release(&h);
	return r;
}

static int is_told(struct pass *p, mfs_ino_t ino)
{
	struct cell_record c = { 0 };
	char name[CELL_NAME];
	int r;

	snprintf(name, sizeof(name), TOLD "%" PRIu64, ino);
	r = engine_cell_get(p->ns->e, p->op, name, &c);
	if (r == 0)
		cell_record_release(&c);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

static int look_at(struct pass *p, const struct node *n, bool within_grace_too)
{
	MFS_AUTOFREE char *tag = NULL;
	int r = missing(p, n, within_grace_too, &tag);

	if (r == 0 && tag) {
		r = is_told(p, n->attr.ino);
		if (r == 0)
			r = tell(p, n, tag);
	}
	return MFS_MIN(r, 0);
}

/* --- what is due --- */

static int look_below(struct pass *p, mfs_ino_t dir, unsigned int depth)
{
	uint64_t after = 0;
	size_t n = LIST_PAGE;
	int r = depth > DEPTH_MAX ? -ELOOP : 0;

	while (r == 0 && n == LIST_PAGE) {
		struct node_list l = NODE_LIST_INIT;

		r = engine_list(p->ns->e, p->op, dir, after, LIST_PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			struct node whole = NODE_INIT;

			after = l.v[i].pos;
			if (atomic_load(&p->op->cancelled)) {
				r = -ECANCELED;
			} else if (attr_is_dir(&l.v[i].attr)) {
				r = look_below(p, l.v[i].attr.ino, depth + 1);
			} else if (attr_is_reg(&l.v[i].attr)) {
				r = engine_get(p->ns->e, p->op, l.v[i].attr.ino, &whole);
				r = r == -ESTALE ? 0 : r < 0 ? r : look_at(p, &whole, false);
			}
			node_release(&whole);
		}
		node_list_release(&l);
	}
	return r;
}

static int look_at_due(struct pass *p, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	int r = engine_get(p->ns->e, p->op, ino, &n);

	if (r == 0)
		r = attr_is_dir(&n.attr) ? look_below(p, ino, 0) : look_at(p, &n, true);
	node_release(&n);
	return r == -ESTALE ? 0 : r;
}

/* "failures/due-<time>-<inode>". */
static bool parse_due(const char *name, int64_t *ret_due, mfs_ino_t *ret_ino)
{
	const char *at = name + strlen(DUE);
	MFS_AUTOFREE char *time = strndup(at, 19);
	uint64_t due, ino;

	if (!time || strlen(time) != 19 || at[19] != '-' || mfs_str_uint(time, 10, 0, INT64_MAX, &due) < 0 ||
	    mfs_str_uint(at + 20, 10, 1, UINT64_MAX, &ino) < 0)
		return false;
	*ret_due = (int64_t)due;
	*ret_ino = ino;
	return true;
}

static int do_due(struct pass *p)
{
	size_t n = PAGE;
	int r = 0;

	while (r == 0 && n == PAGE) {
		struct cell_list l = { 0 };

		r = engine_cells(p->ns->e, p->op, DUE, NULL, PAGE, &l); /* what is done is not in the next page */
		n = l.n;
		p->busy |= n > 0;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			int64_t due = 0;
			mfs_ino_t ino = 0;

			if (parse_due(l.v[i].name, &due, &ino) && due > p->now) {
				n = 0;
				break;
			}
			r = atomic_load(&p->op->cancelled) ? -ECANCELED : ino ? look_at_due(p, ino) : 0;
			if (r == 0)
				r = drop_cell(p, &l.v[i]);
		}
		cell_list_release(&l);
	}
	return r;
}

/* --- what was told --- */

static int still_lacks(struct pass *p, mfs_ino_t ino)
{
	MFS_AUTOFREE char *tag = NULL;
	struct node n = NODE_INIT;
	int r = engine_get(p->ns->e, p->op, ino, &n);

	if (r == 0)
		r = missing(p, &n, true, &tag);
	node_release(&n);
	return r == -ESTALE ? 0 : r < 0 ? r : tag != NULL;
}

/* A page a pass, round and round. */
static int look_again(struct pass *p)
{
	MFS_AUTOFREE char *after = MFS_TAKE(p->ns->told_after);
	struct cell_list l = { 0 };
	int r = engine_cells(p->ns->e, p->op, TOLD, after, PAGE, &l);

	p->busy |= after || l.n > 0;
	if (r == 0 && l.n == PAGE)
		p->ns->told_after = strdup(l.v[l.n - 1].name);
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		uint64_t ino;

		r = atomic_load(&p->op->cancelled) ? -ECANCELED : 0;
		if (r == 0 && mfs_str_uint(l.v[i].name + strlen(TOLD), 10, 1, UINT64_MAX, &ino) == 0)
			r = still_lacks(p, ino);
		r = r == 0 ? drop_cell(p, &l.v[i]) : MFS_MIN(r, 0);
	}
	cell_list_release(&l);
	return r;
}

/* --- all --- */

/* Nothing to do, and nothing will be before the rules change. */
static bool is_idle(struct namespace *ns, uint64_t *ret_gen)
{
	MFS_GUARD(&ns->lock);

	*ret_gen = ns->rules_gen;
	return ns->demands_idle && ns->demands_gen == ns->rules_gen;
}

static int demanded_anywhere(struct namespace *ns, struct op_ctx *op)
{
	bool any;
	int r = ns_rules_demand(ns, op, &any);

	return r < 0 ? r : any;
}

static int prune_now_and_then(struct namespace *ns, struct op_ctx *op)
{
	int64_t now = mfs_mono_ns();

	if (now < ns->prune_due)
		return 0;
	ns->prune_due = now + PRUNE_NS;
	return namespace_failures_prune(ns, op);
}

int namespace_demands_run(struct namespace *ns, struct op_ctx *op, int64_t now)
{
	struct pass p = { .ns = ns, .op = op, .now = now };
	uint64_t gen;
	int any, r = prune_now_and_then(ns, op);

	if (r < 0 || is_idle(ns, &gen))
		return r;
	any = demanded_anywhere(ns, op);
	r = any < 0 ? any : do_due(&p);
	if (r == 0)
		r = look_again(&p);
	if (p.lacking)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, op,
			"%u files lack tags that storage rules demand, the first of them: %s; see massfs failures --kind=tags", p.lacking,
			p.first ? p.first : "?");
	free(p.first);
	if (r < 0)
		return r == -ENOTSUP ? 0 : r;
	MFS_GUARD(&ns->lock);
	ns->demands_idle = !any && !p.busy;
	ns->demands_gen = gen;
	return 0;
}

int namespace_demands_count(struct namespace *ns, struct op_ctx *op, uint64_t *ret)
{
	MFS_AUTOFREE char *after = NULL;
	size_t n = LIST_PAGE;
	uint64_t gen;
	int r = 0;

	*ret = 0;
	if (is_idle(ns, &gen))
		return 0;
	while (r == 0 && n == LIST_PAGE && *ret < COUNT_MAX) {
		struct cell_list l = { 0 };

		r = engine_cells(ns->e, op, TOLD, after, LIST_PAGE, &l);
		n = l.n;
		*ret += n;
		free(after);
		after = r == 0 && n ? MFS_TAKE(l.v[n - 1].name) : NULL;
		cell_list_release(&l);
	}
	return r == -ENOTSUP ? 0 : r;
}
