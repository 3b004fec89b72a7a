/*
 * find: files by their tags and fields (meta/expr.h), as far as the caller may see them.
 *
 * Called by tools/cmd_find.c: find [options] -- DIR EXPR. Options: --json --print0 --count --explain --indexed-only
 * --reverse --order=FIELD --limit=N --after=INODE --shown=DIR (what the user calls it, for the paths that are printed).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "fs/search.h"
#include "fs/verbs_internal.h"
#include "meta/tags.h"

struct finding {
	struct verb_call *call;
	const char *dir, *text; /* the operands */
	const char *shown;	/* before each path; "": nothing */
	bool json, print0, count, explain;
	bool first_tag; /* of the hit that is printed */
	struct search s;
	struct mfs_buf line;
};

static int json_tag(void *arg, const struct tag *t)
{
	struct finding *x = arg;

	if (!x->first_tag)
		fputs(", ", x->call->out);
	x->first_tag = false;
	return verb_tag_json(x->call->out, t);
}

/* As find(1) has it: the directory as it was named, a slash, the rest. */
static void put_path(struct finding *x, const struct search_hit *h, struct mfs_buf *b)
{
	bool slash = *x->shown && *h->below && strcmp(x->shown, "/") != 0;

	(void)mfs_buf_printf(b, "%s%s%s", x->shown, slash ? "/" : "", *x->shown || *h->below ? h->below : ".");
}

static int hit_json(struct finding *x, const struct search_hit *h)
{
	const struct mfs_attr *a = &h->node->attr;
	FILE *f = x->call->out;
	MFS_AUTOBUF struct mfs_buf shown = MFS_BUF_INIT(VERB_PATH_MAX * 4);
	bool first = true;
	int r;

	put_path(x, h, &shown);
	fputc('{', f);
	json_number(f, &first, "ino", a->ino);
	json_text(f, &first, "path", mfs_buf_str(&shown));
	json_text(f, &first, "type", verb_type_name(a->mode));
	json_number(f, &first, "size", a->size);
	json_number(f, &first, "uid", a->uid);
	json_time(f, &first, "mtime", a->mtime);
	json_time(f, &first, "created", a->btime);
	json_text(f, &first, "mime", h->node->mime);
	json_text(f, &first, "hash", *h->node->hash ? h->node->hash : NULL);
	fputs(", \"tags\": [", f);
	x->first_tag = true;
	r = node_each_tag(h->node, json_tag, x);
	fputs("]}\n", f);
	return r;
}

static int hit(void *arg, const struct search_hit *h)
{
	struct finding *x = arg;

	if (x->count)
		return 0;
	if (ferror(x->call->out))
		return -EPIPE;
	if (x->json)
		return hit_json(x, h);
	mfs_buf_clear(&x->line);
	put_path(x, h, &x->line);
	fputs(mfs_buf_str(&x->line), x->call->out);
	fputc(x->print0 ? '\0' : '\n', x->call->out);
	return 0;
}

static void explain(struct finding *x, const struct search_stats *st)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(EXPR_TEXT_MAX * 4);
	FILE *f = x->call->err;

	if (st->plan.n == 0)
		fputs("plan: walk through the directory (no part of the expression has an index)\n", f);
	for (unsigned int i = 0; i < st->plan.n; i++)
		fprintf(f, "%s: index of %s\n", i ? "  or" : "plan", search_part_text(&st->plan.part[i], &b));
	fprintf(f, "rows read: %" PRIu64 ", queries: %" PRIu64 ", hits: %" PRIu64 "\n", st->rows, st->queries, st->hits);
}

static bool take_order(struct finding *x, const char *name)
{
	static const struct {
		const char *name;
		enum search_order order;
	} orders[] = { { "inode", SEARCH_BY_INODE }, { "name", SEARCH_BY_NAME },   { "path", SEARCH_BY_PATH },
		       { "size", SEARCH_BY_SIZE },   { "mtime", SEARCH_BY_MTIME }, { "created", SEARCH_BY_CREATED } };

	for (size_t i = 0; i < MFS_ARRAY_LEN(orders); i++)
		if (strcmp(orders[i].name, name) == 0) {
			x->s.order = orders[i].order;
			return true;
		}
	return false;
}

static bool take_option(struct finding *x, const char *arg)
{
	const struct {
		const char *name;
		bool *flag;
	} flags[] = { { "--json", &x->json },	{ "--print0", &x->print0 },   { "-0", &x->print0 },
		      { "--count", &x->count }, { "--explain", &x->explain }, { "--indexed-only", &x->s.indexed_only },
		      { "--reverse", &x->s.reverse } };

	for (size_t i = 0; i < MFS_ARRAY_LEN(flags); i++)
		if (strcmp(flags[i].name, arg) == 0) {
			*flags[i].flag = true;
			return true;
		}
	if (strncmp(arg, "--shown=", 8) == 0) {
		x->shown = arg + 8;
		return true;
	}
	if (strncmp(arg, "--order=", 8) == 0)
		return take_order(x, arg + 8);
	if (strncmp(arg, "--limit=", 8) == 0)
		return mfs_str_uint(arg + 8, 10, 1, INT64_MAX, &x->s.limit) == 0;
	if (strncmp(arg, "--after=", 8) == 0)
		return mfs_str_uint(arg + 8, 10, 0, UINT64_MAX - 1, &x->s.after) == 0;
	return false;
}

static int parse(struct finding *x)
{
	struct verb_call *call = x->call;
	int i = 1;

	for (; i < call->argc && strcmp(call->argv[i], "--") != 0; i++)
		if (!take_option(x, call->argv[i])) {
			fprintf(call->err, "massfs find: %s: no such option, or not a value for it\n", call->argv[i]);
			return VERB_USAGE;
		}
	if (call->argc - i != 3) {
		fputs("massfs find: an expression is missing; massfs-find(1) has examples\n", call->err);
		return VERB_USAGE;
	}
	x->dir = call->argv[i + 1];
	x->text = call->argv[i + 2];
	if (x->s.after && (x->s.order != SEARCH_BY_INODE || x->s.reverse)) {
		fputs("massfs find: --after= goes with the order of inodes only\n", call->err);
		return VERB_USAGE;
	}
	return VERB_OK;
}

/* The expression with the column marked. */
static int show_error(struct finding *x, size_t column, const char *reason)
{
	FILE *f = x->call->err;

	fprintf(f, "massfs find: column %zu: %s\n  %s\n  %*s^\n", column, reason, x->text, (int)column - 1, "");
	return VERB_USAGE;
}

static int find_dir(struct finding *x)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX), shown = MFS_BUF_INIT(VERB_PATH_MAX);
	struct verb_call *call = x->call;
	struct entry e;
	int r = verb_path(call, x->dir, &path);

	if (r == 0)
		r = namespace_resolve_as(call->vol->ns, call->op, &call->cred, mfs_buf_str(&path), path.len, X_OK, &e);
	if (r < 0)
		return verb_fail(call, "%s: %s", verb_shown(call, x->dir, &shown), verb_strerror(r));
	x->s.dir = e.node.attr.ino;
	r = attr_is_dir(&e.node.attr);
	entry_release(&e);
	return r ? VERB_OK : verb_fail(call, "%s: not a directory", verb_shown(call, x->dir, &shown));
}

static int finish(struct finding *x, int r, const struct search_stats *st)
{
	if (x->explain && r == 0)
		explain(x, st);
	if (r == -ENOTSUP)
		return verb_fail(x->call, "no part of the expression has an index (--indexed-only)");
	if (r == -E2BIG)
		return verb_fail(x->call, "more than %d hits to sort: ask for fewer, or for the order of inodes", SEARCH_SORT_MAX);
	if (r == -EPIPE)
		return VERB_FAILED;
	if (r < 0)
		return verb_fail(x->call, "%s", verb_strerror(r));
	if (x->count && x->json)
		fprintf(x->call->out, "{\"count\": %" PRIu64 "}\n", st->hits);
	else if (x->count)
		fprintf(x->call->out, "%" PRIu64 "\n", st->hits);
	else if (x->json && x->s.limit)
		fprintf(x->call->out, "{\"next\": %" PRIu64 "}\n", st->next);
	if (st->plan.n == 0 && !x->explain && x->call->progress)
		fputs("massfs find: walked through the directory, as no part of the expression has an index\n", x->call->err);
	return VERB_OK;
}

int verb_find(struct verb_call *call, const struct verb_args *args)
{
	struct finding x = { .call = call, .s.cred = &call->cred, .shown = "", .line = MFS_BUF_INIT(VERB_PATH_MAX * 4) };
	const struct expr_env env = { .now = mfs_now_ns(), .user = search_user };
	MFS_AUTOFREE char *reason = NULL;
	MFS_AUTOEXPR struct expr *e = NULL;
	struct search_stats st = { 0 };
	size_t column = 0;
	int r = parse(&x);

	(void)args;
	if (r != VERB_OK)
		return r;
	r = expr_parse(x.text, strlen(x.text), &env, &e, &column, &reason);
	if (r == -EINVAL)
		return show_error(&x, column, reason);
	if (r < 0)
		return verb_fail(call, "%s", verb_strerror(r));
	x.s.expr = e;
	r = find_dir(&x);
	if (r != VERB_OK)
		return r;
	r = search_run(call->vol->ns, call->op, &x.s, hit, &x, &st);
	r = finish(&x, r, &st);
	mfs_buf_release(&x.line);
	return r;
}
