/*
 * Any string as the argument of -o, strict and sloppy. What strict takes, sloppy takes without a warning; values stay
 * within their bounds.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#include "common/conf.h"

static void check_bounds(const struct mfs_config *c)
{
	assert(c->part_size >= 5 * MFS_MIB && c->part_size <= 5 * MFS_GIB);
	assert(!c->memory || c->memory >= 32 * MFS_MIB);
	assert(c->max_threads >= 1 && c->max_threads <= 1024);
	assert(!c->has_umask || c->umask <= 0777);
	assert(!c->has_entry_timeout || c->entry_timeout >= 0);
	assert(!c->subdir || !strstr(c->subdir, "//"));
	assert(!c->logfile || c->logfile[0] == '/');
	assert(c->retention_ns >= 0 && c->commit_ns > 0);
}

/* Names would be looked up in the user database: slow, and not ours to test. */
static int asks_for_a_user(const char *text)
{
	return strstr(text, "id=") != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MFS_AUTOBUF struct mfs_buf warnings = MFS_BUF_INIT(16 * MFS_MIB);
	MFS_CLEANUP(mfs_config_release) struct mfs_config strict;
	MFS_CLEANUP(mfs_config_release) struct mfs_config sloppy;
	MFS_AUTOFREE char *text = malloc(size + 1), *reason = NULL, *reason2 = NULL;
	int r, r2;

	mfs_config_init(&strict);
	mfs_config_init(&sloppy);
	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	if (asks_for_a_user(text))
		return 0;
	r = mfs_config_parse_options(&strict, text, false, NULL, &reason);
	r2 = mfs_config_parse_options(&sloppy, text, true, &warnings, &reason2);
	assert(r <= 0 && r2 <= 0 && (r < 0) == !!reason && (r2 < 0) == !!reason2);
	if (!r)
		assert(!r2 && !warnings.len);
	check_bounds(&strict);
	check_bounds(&sloppy);
	return 0;
}
