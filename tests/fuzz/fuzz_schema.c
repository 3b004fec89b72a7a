/* Any bytes as storage rules: refused with a sentence, or rules within their bounds that a name can be held against. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "meta/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mfs_name name = { .len = 5, .bytes = "a.txt" };
	MFS_AUTOFREE char *reason = NULL;
	struct schema s;
	int r = schema_parse(data, size, &s, &reason);

	assert(r == 0 || r == -EINVAL);
	assert(r == 0 || reason);
	if (r < 0)
		return 0;
	assert(s.n_names <= SCHEMA_LIST_MAX && s.n_tags <= SCHEMA_LIST_MAX);
	assert(s.max_size > 0 && s.max_size <= (uint64_t)MFS_FILE_SIZE_MAX);
	for (size_t i = 0; i < s.n_names; i++)
		assert(*s.names[i] && strlen(s.names[i]) <= MFS_NAME_MAX);
	assert(s.n_names || schema_name_fits(&s, &name));
	schema_release(&s);
	return 0;
}
