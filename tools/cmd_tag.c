/*
 * massfs tag add|rm|ls: gathers the files, by operand, from a list, or below directories, and has each mount's daemon (or
 * the volume) do it, many files a call (fs/verb_tag.c).
 */
#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tools/place.h"
#include "tools/tool.h"

#define TAGS	   16
#define BATCH	   24
#define BATCH_SIZE (48u << 10) /* bytes of paths: a request has 64 KiB */

struct tagging {
	const char *action;
	const char *tags[TAGS];
	size_t n_tags;
	const char *list; /* of --files-from; "-": stdin */
	bool recursive, json, print0;
	int status;

	struct place place; /* of the batch */
	char *paths[BATCH]; /* owned */
	size_t n, size;
};

static int usage(void)
{
	fputs("usage: massfs tag add|rm [-r] [--files-from=FILE|-] [-0] [-t TAG[=VALUE]]... [TAG[=VALUE]] FILE...\n"
	      "       massfs tag ls [-r] [--files-from=FILE|-] [-0] [--json] FILE...\n"
	      "without -t the first operand is the tag\n",
	      stderr);
	return VERB_USAGE;
}

/* Have the batch done. */
static void flush(struct tagging *x)
{
	static char tag_verb[] = "tag", dash_t[] = "-t", json[] = "--json", dashes[] = "--";
	char *argv[4 + 2 * TAGS + BATCH];
	int argc = 0, status;

	if (!x->n)
		return;
	argv[argc++] = tag_verb;
	argv[argc++] = (char *)(uintptr_t)x->action;
	if (x->json)
		argv[argc++] = json;
	for (size_t i = 0; i < x->n_tags; i++) {
		argv[argc++] = dash_t;
		argv[argc++] = (char *)(uintptr_t)x->tags[i];
	}
	argv[argc++] = dashes;
	for (size_t i = 0; i < x->n; i++)
		argv[argc++] = x->paths[i];
	status = tool_verb_at(&x->place, argc, argv);
	x->status = MFS_MAX(x->status, status);
	for (size_t i = 0; i < x->n; i++)
		free(x->paths[i]);
	x->n = x->size = 0;
	place_release(&x->place);
}

static bool same_place(const struct place *a, const struct place *b)
{
	if (a->is_mounted != b->is_mounted)
		return false;
	return a->is_mounted ? a->dev == b->dev : a->volume && b->volume && strcmp(a->volume, b->volume) == 0;
}

static void add_file(struct tagging *x, const char *file)
{
	struct place place = PLACE_INIT;
	MFS_AUTOFREE char *reason = NULL;
	size_t len;

	if (place_find(file, &place, &reason) < 0) {
		tool_error("massfs tag", "%s", reason ? reason : file);
		x->status = VERB_FAILED;
		place_release(&place);
		return;
	}
	len = strlen(place.path) + 5;
	if (x->n && (!same_place(&x->place, &place) || x->n == BATCH || x->size + len > BATCH_SIZE))
		flush(x);
	x->paths[x->n++] = place.path;
	place.path = NULL;
	x->size += len;
	if (x->n == 1)
		x->place = place;
	else
		place_release(&place);
}

/* Symbolic links, devices and the like have no tags. */
static void take_tree(struct tagging *x, const char *file)
{
	char *const roots[] = { (char *)(uintptr_t)file, NULL };
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	FTSENT *e;

	while (walk && (e = fts_read(walk))) {
		if (e->fts_info == FTS_F || e->fts_info == FTS_D) {
			add_file(x, e->fts_path);
		} else if (e->fts_info == FTS_DNR || e->fts_info == FTS_NS || e->fts_info == FTS_ERR) {
			tool_error("massfs tag", "%s: %s", e->fts_path, strerror(e->fts_errno));
			x->status = VERB_FAILED;
		}
	}
	if (!walk) {
		tool_error("massfs tag", "%s: %s", file, strerror(errno));
		x->status = VERB_FAILED;
		return;
	}
	fts_close(walk);
}

static void take(struct tagging *x, const char *file)
{
	if (x->recursive)
		take_tree(x, file);
	else
		add_file(x, file);
}

static void take_list(struct tagging *x)
{
	FILE *f = strcmp(x->list, "-") == 0 ? stdin : fopen(x->list, "re");
	MFS_AUTOFREE char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (!f) {
		tool_error("massfs tag", "%s: %s", x->list, strerror(errno));
		x->status = VERB_FAILED;
		return;
	}
	while ((n = getdelim(&line, &size, x->print0 ? '\0' : '\n', f)) > 0) {
		if (line[n - 1] == (x->print0 ? '\0' : '\n'))
			line[--n] = '\0';
		if (n)
			take(x, line);
	}
	if (f != stdin)
		fclose(f);
}

static bool take_option(struct tagging *x, int argc, char **argv, int *i)
{
	const char *arg = argv[*i];

	if (strcmp(arg, "-r") == 0 || strcmp(arg, "--recursive") == 0)
		x->recursive = true;
	else if (strcmp(arg, "-0") == 0 || strcmp(arg, "--null") == 0)
		x->print0 = true;
	else if (strcmp(arg, "--json") == 0 && strcmp(x->action, "ls") == 0)
		x->json = true;
	else if (strncmp(arg, "--files-from=", 13) == 0)
		x->list = arg + 13;
	else if ((strcmp(arg, "-t") == 0 || strcmp(arg, "--tag") == 0) && *i + 1 < argc && x->n_tags < TAGS)
		x->tags[x->n_tags++] = argv[++*i];
	else
		return false;
	return true;
}

int cmd_tag(int argc, char **argv)
{
	struct tagging x = { .action = argc > 1 ? argv[1] : "" };
	bool list = strcmp(x.action, "ls") == 0, only_operands = false;
	int i = 2, first;

	if (!list && strcmp(x.action, "add") != 0 && strcmp(x.action, "rm") != 0)
		return usage();
	for (; i < argc && !only_operands && argv[i][0] == '-' && argv[i][1]; i++) {
		if (strcmp(argv[i], "--") == 0)
			only_operands = true;
		else if (!take_option(&x, argc, argv, &i))
			return usage();
	}
	first = i;
	if (!list && !x.n_tags && first < argc)
		x.tags[x.n_tags++] = argv[first++];
	if ((!list && !x.n_tags) || (list && x.n_tags) || (first == argc && !x.list))
		return usage();
	for (i = first; i < argc; i++)
		take(&x, argv[i]);
	if (x.list)
		take_list(&x);
	flush(&x);
	return x.status;
}
