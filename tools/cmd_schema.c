/* massfs schema set|unset|show|check [OPTIONS] DIR: has the mount's daemon (or the volume) do it (fs/verb_schema.c). */
#include <stdio.h>
#include <string.h>

#include "tools/place.h"
#include "tools/tool.h"

#define OPTIONS 100

int cmd_schema(int argc, char **argv)
{
	static char verb[] = "schema", dashes[] = "--";
	MFS_CLEANUP(place_release) struct place place = PLACE_INIT;
	MFS_AUTOFREE char *reason = NULL;
	char *args[OPTIONS + 5];
	int n = 0, i = 2;

	args[n++] = verb;
	args[n++] = argc > 1 ? argv[1] : dashes;
	for (; i < argc && argv[i][0] == '-' && argv[i][1] && i < OPTIONS; i++) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		args[n++] = argv[i];
	}
	if (argc < 3 || i + 1 != argc) {
		fputs("usage: massfs schema set [--name=PATTERN]... [--max-size=SIZE] [--min-size=SIZE] [--type=PATTERN]...\n"
		      "                         [--tag=TAG[=VALUE]]... [--demand=TAG[=PATTERN]]... [--grace=TIME] DIR\n"
		      "       massfs schema unset|show|check [--json] DIR\n"
		      "for example: massfs schema set --name='*.tif' --tag=project=p1 --max-size=100M scans\n",
		      stderr);
		return VERB_USAGE;
	}
	if (place_find(argv[i], &place, &reason) < 0) {
		tool_error("massfs schema", "%s", reason ? reason : argv[i]);
		return VERB_FAILED;
	}
	args[n++] = dashes;
	args[n++] = place.path;
	return tool_verb_at(&place, n, args);
}
