/*
 * tag: tags added, taken away, listed, with the caller's rights.
 *
 * Called by tools/cmd_tag.c: tag add|rm [-t TAG[=VALUE]]... -- PATH..., tag ls [--json] -- PATH...
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/str.h"
#include "fs/verbs_internal.h"
#include "meta/tags.h"

#define EDITS 64

struct tagging {
	struct verb_call *call;
	struct tag_edit edits[EDITS];
	char *owned[EDITS];
	size_t n;
	bool remove, list, json;
	int status;
};

static int take_tag(struct tagging *x, const char *text)
{
	char *copy, *equals;

	if (x->n == EDITS) {
		fprintf(x->call->err, "massfs tag: more than %d tags at once\n", EDITS);
		return VERB_USAGE;
	}
	copy = strdup(text);
	if (!copy)
		return verb_fail(x->call, "%s", verb_strerror(-ENOMEM));
	x->owned[x->n] = copy;
	equals = strchr(copy, '=');
	if (equals)
		*equals++ = '\0';
	x->edits[x->n++] = (struct tag_edit){ .name = copy, .value = equals, .remove = x->remove };
	return VERB_OK;
}

/* Where the paths begin in argv; 0: usage. */
static int parse(struct tagging *x)
{
	struct verb_call *call = x->call;
	int i = 2;

	x->remove = call->argc > 1 && strcmp(call->argv[1], "rm") == 0;
	x->list = call->argc > 1 && strcmp(call->argv[1], "ls") == 0;
	if (call->argc < 2 || !(x->remove || x->list || strcmp(call->argv[1], "add") == 0))
		return 0;
	for (; i < call->argc && strcmp(call->argv[i], "--") != 0; i++) {
		if (strcmp(call->argv[i], "--json") == 0 && x->list)
			x->json = true;
		else if (strcmp(call->argv[i], "-t") == 0 && !x->list && i + 1 < call->argc) {
			if (take_tag(x, call->argv[++i]) != VERB_OK)
				return 0;
		} else {
			return 0;
		}
	}
	return (x->list || x->n) && i + 1 < call->argc ? i + 1 : 0;
}

static void failed(struct tagging *x, const char *operand, int r)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(VERB_PATH_MAX);

	x->status = VERB_FAILED;
	if (r == -ENODATA)
		(void)verb_fail(x->call, "%s: it has no such tag", verb_shown(x->call, operand, &b));
	else if (r == -EINVAL)
		(void)verb_fail(x->call, "%s: this can be no tag (a bare one has no comma in it, and no blank at its ends)",
				verb_shown(x->call, operand, &b));
	else
		(void)verb_fail(x->call, "%s: %s", verb_shown(x->call, operand, &b), verb_strerror(r));
}

/* As xattr(7) has it: in a sticky directory of others, only the owner. */
static int may_tag(struct tagging *x, const struct node *n)
{
	if (S_ISDIR(n->attr.mode) && (n->attr.mode & S_ISVTX) && !verb_is_admin(x->call) && n->attr.uid != x->call->cred.uid)
		return -EPERM;
	return 0;
}

/* Text as it is; what JSON cannot hold (no UTF-8, a NUL) in base64, under the key with _base64 behind it. */
static int json_bytes(FILE *f, bool *first, const char *key, const void *bytes, size_t size)
{
	MFS_AUTOFREE char *text = malloc(size + 1), *other = mfs_str_printf("%s_base64", key);
	MFS_AUTOBUF struct mfs_buf coded = MFS_BUF_INIT(MFS_MIB);

	if (!text || !other)
		return -ENOMEM;
	if (size)
		memcpy(text, bytes, size);
	text[size] = '\0';
	if (mfs_utf8_valid(text, size)) {
		json_text(f, first, key, text);
		return 0;
	}
	if (mfs_base64_put(&coded, bytes, size) < 0)
		return -ENOMEM;
	json_text(f, first, other, mfs_buf_str(&coded));
	return 0;
}

int verb_tag_json(FILE *f, const struct tag *t)
{
	bool first = true;
	int r;

	fputc('{', f);
	r = json_bytes(f, &first, "name", t->name, t->name_len);
	if (r == 0 && t->bare)
		json_text(f, &first, "value", NULL);
	else if (r == 0)
		r = json_bytes(f, &first, "value", t->value, t->size);
	fputc('}', f);
	return r;
}

struct printing {
	struct tagging *x;
	bool first;
};

static int print_json_item(void *arg, const struct tag *t)
{
	struct printing *p = arg;

	if (!p->first)
		fputs(", ", p->x->call->out);
	p->first = false;
	return verb_tag_json(p->x->call->out, t);
}

/* Bytes that would break the line, or hide what a value is, are shown as \n, \xHH. */
static void print_bytes(FILE *f, const void *bytes, size_t len)
{
	const unsigned char *s = bytes;

	for (size_t i = 0; i < len; i++)
		if (s[i] == '\n')
			fputs("\\n", f);
		else if (s[i] == '\\')
			fputs("\\\\", f);
		else if (s[i] < ' ' || s[i] == 0x7f)
			fprintf(f, "\\x%02x", s[i]);
		else
			fputc(s[i], f);
}

static int print_line(void *arg, const struct tag *t)
{
	struct tagging *x = arg;

	fputs("  ", x->call->out);
	print_bytes(x->call->out, t->name, t->name_len);
	if (!t->bare) {
		fputc('=', x->call->out);
		print_bytes(x->call->out, t->value, t->size);
	}
	fputc('\n', x->call->out);
	return 0;
}

static int list(struct tagging *x, const char *operand, const struct node *n)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(VERB_PATH_MAX);
	const char *shown = verb_shown(x->call, operand, &b);
	struct printing p = { .x = x, .first = true };
	bool first = true;
	int r;

	if (!x->json) {
		fprintf(x->call->out, "%s:\n", shown);
		return node_each_tag(n, print_line, x);
	}
	fputc('{', x->call->out);
	json_text(x->call->out, &first, "path", shown);
	fputs(", \"tags\": [", x->call->out);
	r = node_each_tag(n, print_json_item, &p);
	fputs("]}\n", x->call->out);
	return r;
}

static int one(struct tagging *x, const char *operand)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX);
	struct verb_call *call = x->call;
	struct mfs_attr attr;
	struct entry e;
	int r = verb_path(call, operand, &path);

	if (r == 0)
		r = namespace_resolve_as(call->vol->ns, call->op, &call->cred, mfs_buf_str(&path), path.len, x->list ? R_OK : W_OK, &e);
	if (r < 0)
		return r;
	if (x->list) {
		r = list(x, operand, &e.node);
	} else {
		r = may_tag(x, &e.node);
		if (r == 0)
			r = namespace_tag(call->vol->ns, call->op, e.node.attr.ino, x->edits, x->n, &attr);
		if (r == 0)
			verb_changed(call, e.node.attr.ino, 0, NULL);
	}
	entry_release(&e);
	return r;
}

int verb_tag(struct verb_call *call, const struct verb_args *args)
{
	struct tagging x = { .call = call, .status = VERB_OK };
	int first = parse(&x);

	(void)args;
	if (!first) {
		fputs("usage: massfs tag add|rm [-t TAG[=VALUE]]... FILE..., massfs tag ls FILE...\n", call->err);
		x.status = VERB_USAGE;
	}
	for (int i = first; first && i < call->argc; i++) {
		int r = one(&x, call->argv[i]);

		if (r < 0)
			failed(&x, call->argv[i], r);
	}
	for (size_t i = 0; i < x.n; i++)
		free(x.owned[i]);
	return x.status;
}
