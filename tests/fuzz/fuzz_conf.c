/*
 * Any bytes as a .conf: taken, or refused with a reason that names file and line; never a crash or leak.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#include "common/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config c;
	MFS_AUTOFREE char *reason = NULL;
	int r;

	mfs_config_init(&c);
	r = mfs_config_parse_text(&c, (const char *)data, size, "fuzz.conf", &reason);
	assert(r <= 0);
	if (r < 0)
		assert(reason && !strncmp(reason, "fuzz.conf:", 10));
	else
		assert(!reason);
	return 0;
}
