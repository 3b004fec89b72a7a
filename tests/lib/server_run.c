/*
 * Calling tests/servers.
 */
#include "tests/lib/server_run.h"

#include <stdlib.h>

#include "common/str.h"

FILE *test_servers(const char *verb, const char *service, const char *dir)
{
	MFS_AUTOFREE char *command =
		mfs_str_printf("exec nice '%s/tests/servers' %s %s --dir '%s'", MASSFS_SOURCE_DIR, verb, service, dir);
	FILE *f = command ? popen(command, "re") : NULL;

	if (!f) {
		perror("tests/servers");
		exit(1);
	}
	return f;
}
