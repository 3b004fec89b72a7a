/* massfs failures [OPTIONS] [MOUNT]: has the mount's daemon (or the volume) do it (fs/verb_failures.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "tools/place.h"
#include "tools/tool.h"

#define OPTIONS 32

struct call {
	struct place place;
	bool found;
	char *args[OPTIONS + 2];
	char *owned[OPTIONS];
	int n, n_owned;
};

/* The mount is the one that this is in. */
static int find(const char *operand, struct place *ret)
{
	MFS_AUTOFREE char *reason = NULL;
	int r = place_find(operand, ret, &reason);

	if (r < 0)
		tool_error("massfs failures", "%s", reason ? reason : operand);
	return r;
}

/* --path=, --to=: made the path below the root. */
static int take_path(struct call *c, const char *arg, size_t len)
{
	struct place place = PLACE_INIT;
	int r = find(arg + len, &place);

	if (r < 0)
		return r;
	c->owned[c->n_owned] = mfs_str_printf("%.*s%s", (int)len, arg, place.path);
	if (!c->owned[c->n_owned])
		r = -1;
	else
		c->args[c->n++] = c->owned[c->n_owned++];
	if (c->found) {
		place_release(&place);
	} else {
		c->place = place;
		c->found = true;
	}
	return r;
}

static int take(struct call *c, char *arg)
{
	if (mfs_str_starts(arg, "--path="))
		return take_path(c, arg, strlen("--path="));
	if (mfs_str_starts(arg, "--to="))
		return take_path(c, arg, strlen("--to="));
	if (arg[0] == '-' && arg[1]) {
		c->args[c->n++] = arg;
		return 0;
	}
	place_release(&c->place);
	c->place = (struct place)PLACE_INIT;
	c->found = true;
	return find(arg, &c->place);
}

int cmd_failures(int argc, char **argv)
{
	static char verb[] = "failures";
	struct call c = { .place = PLACE_INIT };
	MFS_AUTOFREE char *reason = NULL;
	int status = VERB_FAILED, r = 0;

	c.args[c.n++] = verb;
	for (int i = 1; i < argc && r == 0; i++)
		r = i <= OPTIONS ? take(&c, argv[i]) : -1;
	if (r == 0 && !c.found) {
		r = place_find_default(&c.place, &reason);
		if (r < 0)
			tool_error("massfs failures", "%s", reason ? reason : "say which mount");
	}
	if (r == 0)
		status = tool_verb_at(&c.place, c.n, c.args);
	place_release(&c.place);
	for (int i = 0; i < c.n_owned; i++)
		free(c.owned[i]);
	return status;
}
