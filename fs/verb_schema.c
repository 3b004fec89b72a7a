/*
 * schema: storage rules of a directory set, shown, and held against what is there.
 *
 * Called by tools/cmd_schema.c: schema set|unset|show|check [OPTIONS] -- DIR
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "fs/verbs_internal.h"
#include "meta/schema.h"

#define PAGE	  1000
#define DEPTH_MAX 1000

struct schemas {
	struct verb_call *call;
	const char *action, *operand;
	int first, last; /* options, in argv */
	bool json;
	uint64_t checked, bad;
};

static bool is(const struct schemas *x, const char *action)
{
	return strcmp(x->action, action) == 0;
}

static bool parse(struct schemas *x)
{
	struct verb_call *call = x->call;
	int i = 2;

	if (call->argc < 4)
		return false;
	x->action = call->argv[1];
	if (!is(x, "set") && !is(x, "unset") && !is(x, "show") && !is(x, "check"))
		return false;
	x->first = i;
	for (; i < call->argc && strcmp(call->argv[i], "--") != 0; i++)
		x->json |= strcmp(call->argv[i], "--json") == 0;
	x->last = i;
	if (i + 2 != call->argc || (is(x, "set") == (x->first == x->last)))
		return is(x, "show") && i + 2 == call->argc && (x->operand = call->argv[i + 1]);
	x->operand = call->argv[i + 1];
	return true;
}

/* "key": [ or ,: the options of one kind as JSON. */
static void put_list(struct schemas *x, FILE *f, bool *first, const char *option, const char *key)
{
	bool none = true;

	for (int i = x->first; i < x->last; i++) {
		const char *value = x->call->argv[i];
		MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(SCHEMA_TEXT_MAX);

		if (!mfs_str_starts(value, option))
			continue;
		if (none)
			fprintf(f, "%s\"%s\": [", *first ? "" : ", ", key);
		else
			fputs(", ", f);
		none = *first = false;
		fputs(mfs_buf_put_json(&b, value + strlen(option)) == 0 ? mfs_buf_str(&b) : "null", f);
	}
	if (!none)
		fputc(']', f);
}

static int put_tags(struct schemas *x, FILE *f, bool *first, const char *option, const char *key)
{
	bool none = true, start = true;

	for (int i = x->first; i < x->last; i++) {
		const char *value = x->call->argv[i];
		MFS_AUTOFREE char *name = NULL;
		char *equals;

		if (!mfs_str_starts(value, option))
			continue;
		name = strdup(value + strlen(option));
		if (!name)
			return -ENOMEM;
		equals = strchr(name, '=');
		if (equals)
			*equals++ = '\0';
		if (none)
			fprintf(f, "%s\"%s\": {", *first ? "" : ", ", key);
		none = *first = false;
		json_text(f, &start, name, equals);
	}
	if (!none)
		fputc('}', f);
	return 0;
}

static int put_size(struct schemas *x, FILE *f, bool *first, const char *option, const char *key)
{
	uint64_t size;
	int r = 0;

	for (int i = x->first; i < x->last && r == 0; i++) {
		if (!mfs_str_starts(x->call->argv[i], option))
			continue;
		r = mfs_str_size(x->call->argv[i] + strlen(option), &size);
		if (r < 0)
			(void)verb_fail(x->call, "%s: a size is a number of bytes, or one with K, M, G or T", x->call->argv[i]);
		else
			json_number(f, first, key, size);
	}
	return r;
}

static int put_grace(struct schemas *x, FILE *f, bool *first)
{
	int64_t ns;
	int r = 0;

	for (int i = x->first; i < x->last && r == 0; i++) {
		if (!mfs_str_starts(x->call->argv[i], "--grace="))
			continue;
		r = mfs_str_duration(x->call->argv[i] + strlen("--grace="), &ns);
		if (r < 0)
			(void)verb_fail(x->call, "%s: a time is a number with s, m, h or d", x->call->argv[i]);
		else
			json_number(f, first, "grace", (uint64_t)(ns / MFS_NSEC_PER_SEC));
	}
	return r;
}

static bool is_set_option(const char *arg)
{
	static const char *const known[] = { "--name=", "--tag=", "--max-size=", "--min-size=", "--type=", "--demand=", "--grace=" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(known); i++)
		if (mfs_str_starts(arg, known[i]))
			return true;
	return false;
}

static bool options_known(const struct schemas *x)
{
	for (int i = x->first; i < x->last; i++) {
		const char *arg = x->call->argv[i];

		if (is(x, "set") ? !is_set_option(arg) : strcmp(arg, "--json") != 0)
			return false;
	}
	return true;
}

/* The rules as text; the caller's. */
static int make_text(struct schemas *x, char **ret)
{
	bool first = true;
	size_t size;
	FILE *f = open_memstream(ret, &size);
	int r;

	if (!f)
		return -ENOMEM;
	fputc('{', f);
	put_list(x, f, &first, "--name=", "names");
	put_list(x, f, &first, "--type=", "types");
	r = put_tags(x, f, &first, "--tag=", "tags");
	if (r == 0)
		r = put_tags(x, f, &first, "--demand=", "demanded_tags");
	if (r == 0)
		r = put_size(x, f, &first, "--max-size=", "max_size");
	if (r == 0)
		r = put_size(x, f, &first, "--min-size=", "min_size");
	if (r == 0)
		r = put_grace(x, f, &first);
	fputc('}', f);
	return fclose(f) == 0 ? r : -ENOMEM;
}

static int set(struct schemas *x, const struct node *dir)
{
	struct verb_call *call = x->call;
	MFS_AUTOFREE char *text = NULL, *reason = NULL;
	struct schema checked;
	struct mfs_attr attr;
	int r;

	if (!verb_is_admin(call))
		return -EPERM;
	if (is(x, "unset"))
		return namespace_removexattr(call->vol->ns, call->op, dir->attr.ino, SCHEMA_XATTR, &attr);
	r = make_text(x, &text);
	if (r < 0)
		return r;
	r = schema_parse(text, strlen(text), &checked, &reason);
	if (r == -EINVAL)
		(void)verb_fail(call, "%s", reason ? reason : "these are no rules");
	if (r < 0)
		return r;
	schema_release(&checked);
	return namespace_setxattr(call->vol->ns, call->op, dir->attr.ino, SCHEMA_XATTR, text, strlen(text), 0, false, &attr);
}

static int show(struct schemas *x, const struct node *dir)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX);
	struct verb_call *call = x->call;
	char text[SCHEMA_TEXT_MAX + 1];
	mfs_ino_t from;
	ssize_t n;
	int r = namespace_rules_from(call->vol->ns, call->op, dir->attr.ino, &from);

	if (r < 0)
		return r;
	if (!from) {
		fputs(x->json ? "{}\n" : "no rules\n", call->out);
		return 0;
	}
	n = namespace_getxattr(call->vol->ns, call->op, from, SCHEMA_XATTR, text, SCHEMA_TEXT_MAX);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	r = namespace_path(call->vol->ns, call->op, from, &path);
	if (r < 0)
		return r;
	if (x->json) {
		bool first = true;

		fputc('{', call->out);
		json_text(call->out, &first, "from", mfs_buf_str(&path));
		fprintf(call->out, ", \"rules\": %s}\n", text);
	} else {
		fprintf(call->out, "of /%s: %s\n", mfs_buf_str(&path), text);
	}
	return 0;
}

static int check_dir(struct schemas *x, mfs_ino_t dir, const char *shown, unsigned int depth);

static int check_entry(struct schemas *x, mfs_ino_t dir, const struct node *n, const char *shown, unsigned int depth)
{
	MFS_AUTOFREE char *path = mfs_str_printf("%s/%s", shown, n->name.bytes);
	struct verb_call *call = x->call;
	const char *reason;
	int r = path ? namespace_rules_check(call->vol->ns, call->op, dir, &n->name, &n->attr, &reason) : -ENOMEM;

	if (r < 0)
		return r;
	x->checked++;
	if (reason) {
		x->bad++;
		fprintf(call->out, "%s: %s\n", path, reason);
	}
	return attr_is_dir(&n->attr) ? check_dir(x, n->attr.ino, path, depth + 1) : 0;
}

static int check_dir(struct schemas *x, mfs_ino_t dir, const char *shown, unsigned int depth)
{
	struct verb_call *call = x->call;
	uint64_t after = 0;
	size_t n = PAGE;
	int r = depth > DEPTH_MAX ? -ELOOP : 0;

	while (r == 0 && n == PAGE) {
		struct node_list l = NODE_LIST_INIT;

		r = namespace_list(call->vol->ns, call->op, dir, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < n; i++) {
			r = atomic_load(&call->op->cancelled) ? -ECANCELED : check_entry(x, dir, &l.v[i], shown, depth);
			after = l.v[i].pos;
		}
		node_list_release(&l);
	}
	return r;
}

int verb_schema(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX), b = MFS_BUF_INIT(VERB_PATH_MAX);
	struct schemas x = { .call = call };
	const char *shown;
	struct entry e;
	int r;

	(void)args;
	if (!parse(&x) || !options_known(&x)) {
		fputs("usage: massfs schema set [--name=PATTERN]... [--max-size=SIZE] [--min-size=SIZE] [--type=PATTERN]...\n"
		      "                         [--tag=TAG[=VALUE]]... [--demand=TAG[=PATTERN]]... [--grace=TIME] DIR\n"
		      "       massfs schema unset|show|check [--json] DIR\n", call->err);
		return VERB_USAGE;
	}
	shown = verb_shown(call, x.operand, &b);
	if (is(&x, "check") && !verb_is_admin(call))
		return verb_fail(call, "only root may do this");
	r = verb_path(call, x.operand, &path);
	if (r == 0)
		r = namespace_resolve_as(call->vol->ns, call->op, &call->cred, mfs_buf_str(&path), path.len, R_OK, &e);
	if (r < 0)
		return verb_fail(call, "%s: %s", shown, verb_strerror(r));
	if (!attr_is_dir(&e.node.attr))
		r = -ENOTDIR;
	else if (is(&x, "show"))
		r = show(&x, &e.node);
	else if (is(&x, "check"))
		r = check_dir(&x, e.node.attr.ino, shown, 0);
	else
		r = set(&x, &e.node);
	if (r == 0 && (is(&x, "set") || is(&x, "unset")))
		verb_changed(call, e.node.attr.ino, 0, NULL);
	entry_release(&e);
	if (r < 0)
		return verb_fail(call, "%s: %s", shown, r == -ENODATA ? "it has no rules of its own" : verb_strerror(r));
	if (is(&x, "check"))
		fprintf(call->err, "%" PRIu64 " looked at, %" PRIu64 " against the rules\n", x.checked, x.bad);
	return x.bad ? VERB_FAILED : VERB_OK;
}
