/*
 * massfs find [OPTIONS] [DIR] EXPRESSION...: finds the mount or volume that is meant and has the search done there
 * (fs/verb_find.c). Paths come out as DIR names them, as find(1) prints them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "tools/place.h"
#include "tools/tool.h"

#define TEXT_MAX (64u << 10)
#define OPTIONS	 16

struct finding {
	char *options[OPTIONS + 5]; /* borrowed: "find", the options, "--shown=", "--", below, expression */
	int n;
	const char *volume, *dir; /* NULL: not given */
	struct mfs_buf text;
};

static int usage(void)
{
	fputs("usage: massfs find [--json | --print0 | --count] [--order=inode|name|path|size|mtime|created] [--reverse]\n"
	      "                   [--limit=N] [--after=INODE] [--indexed-only] [--explain] [--volume=SOURCE] [DIR] EXPRESSION...\n"
	      "for example: massfs find . year = 2026 and not draft; massfs-find(1) has more\n",
	      stderr);
	return VERB_USAGE;
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int add_word(struct finding *x, const char *word)
{
	if (x->text.len)
		mfs_buf_putc(&x->text, ' ');
	return mfs_buf_puts(&x->text, word);
}

/* The first operand is the directory where there is one of that name and something stands behind it. */
static int parse(struct finding *x, int argc, char **argv)
{
	bool only_operands = false;
	int r = 0;

	for (int i = 1; r == 0 && i < argc; i++) {
		bool option = !only_operands && argv[i][0] == '-' && argv[i][1] && !x->text.len && !x->dir;

		if (option && strcmp(argv[i], "--") == 0)
			only_operands = true;
		else if (option && strncmp(argv[i], "--volume=", 9) == 0)
			x->volume = argv[i] + 9;
		else if (option && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0 || x->n > OPTIONS))
			return VERB_USAGE;
		else if (option)
			x->options[x->n++] = argv[i];
		else if (!x->dir && !x->text.len && i + 1 < argc && (x->volume || is_dir(argv[i])))
			x->dir = argv[i];
		else
			r = add_word(x, argv[i]);
	}
	if (r < 0)
		tool_error("massfs", "the expression is too long");
	return r < 0 || !x->text.len ? VERB_USAGE : VERB_OK;
}

/* Where the directory is, and what it is called below the root. With --volume it is a path in that. */
static int find_place(const struct finding *x, struct place *ret, char **ret_reason)
{
	if (!x->volume)
		return place_find(x->dir ? x->dir : ".", ret, ret_reason);
	return place_find_in(x->volume, x->dir ? x->dir : "", ret, ret_reason);
}

static int run(struct finding *x, const struct place *place)
{
	static char dashes[] = "--";
	MFS_AUTOFREE char *shown = strdup(x->dir ? x->dir : ""), *as = NULL;

	if (!shown)
		return VERB_FAILED;
	for (size_t len = strlen(shown); len > 1 && shown[len - 1] == '/'; len--)
		shown[len - 1] = '\0';
	if (asprintf(&as, "--shown=%s", shown) < 0)
		return VERB_FAILED;
	x->options[x->n++] = as;
	x->options[x->n++] = dashes;
	x->options[x->n++] = place->path;
	x->options[x->n++] = x->text.data;
	return tool_verb_at(place, x->n, x->options);
}

int cmd_find(int argc, char **argv)
{
	MFS_CLEANUP(place_release) struct place place = PLACE_INIT;
	struct finding x = { .options = { argv[0] }, .n = 1, .text = MFS_BUF_INIT(TEXT_MAX) };
	MFS_AUTOFREE char *reason = NULL;
	int r = parse(&x, argc, argv);

	if (r == VERB_OK && find_place(&x, &place, &reason) < 0) {
		tool_error("massfs find", "%s", reason ? reason : "no such directory");
		r = VERB_FAILED;
	} else if (r == VERB_OK) {
		r = run(&x, &place);
	} else {
		(void)usage();
	}
	mfs_buf_release(&x.text);
	return r;
}
