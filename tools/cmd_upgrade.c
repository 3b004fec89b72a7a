/*
 * massfs upgrade SOURCE: make a volume of an older massfs one of this version.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/conf.h"
#include "fs/volume.h"
#include "tools/options.h"
#include "tools/tool.h"

static const char usage[] = "usage: massfs upgrade SOURCE\n"
			    "  SOURCE   an unmounted volume's folder, .conf or NAME\n";

static int upgrade(const char *source)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	MFS_AUTOFREE char *reason = NULL;
	uint32_t from = 0;
	int r;

	mfs_config_init(&cfg);
	r = mfs_config_load(&cfg, source, NULL, false, NULL, &reason);
	if (!r)
		r = volume_upgrade(&cfg, &from, &reason);
	if (r < 0) {
		tool_error("massfs upgrade", "%s", reason ? reason : strerror(-r));
		return VERB_FAILED;
	}
	if (from == MFS_SCHEMA)
		printf("%s has schema %d, that of this version, already; left as it is\n", mfs_config_label(&cfg), MFS_SCHEMA);
	else
		printf("%s had schema %u and has schema %d now; older versions of massfs cannot open it any more\n",
		       mfs_config_label(&cfg),
		       from, MFS_SCHEMA);
	return VERB_OK;
}

int cmd_upgrade(int argc, char **argv)
{
	int first, status;

	return tool_options(argc, argv, NULL, 0, usage, 1, 1, &first, &status) ? upgrade(argv[first]) : status;
}
