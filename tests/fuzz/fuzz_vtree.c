/*
 * Any bytes as the name of a virtual directory: decoded into no more than was there and without a NUL, or refused; and any
 * bytes encoded are a name again, which decodes to them.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/buf.h"
#include "fs/fuse/vtree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MFS_AUTOBUF struct mfs_buf shown = MFS_BUF_INIT(MFS_MIB);
	MFS_AUTOFREE char *name = malloc(size + 1), *plain = malloc(size + 1), *back = NULL;
	int r;

	if (!name || !plain)
		return 0;
	if (size)
		memcpy(name, data, size);
	name[size] = '\0';
	r = vtree_decode(name, plain);
	assert(r == 0 || r == -EINVAL);
	assert(r < 0 || strlen(plain) <= strlen(name));
	if (memchr(data, '\0', size) || !size)
		return 0;
	assert(vtree_encode(data, size, &shown) == 0);
	assert(!strchr(mfs_buf_str(&shown), '/') && strcmp(mfs_buf_str(&shown), ".") != 0 && strcmp(mfs_buf_str(&shown), "..") != 0);
	back = malloc(shown.len + 1);
	assert(!back || (vtree_decode(mfs_buf_str(&shown), back) == 0 && strcmp(back, name) == 0));
	return 0;
}
