/* The lists of files that share an object (meta/shared.h). */
#include "meta/shared.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"

void shared_name(const char *version, char buf[static SHARED_NAME_MAX])
{
	snprintf(buf, SHARED_NAME_MAX, SHARED_PREFIX "%s", version);
}

int shared_get(struct engine *e, struct op_ctx *op, const char *version, struct cell_record *ret)
{
	char name[SHARED_NAME_MAX];
	int r;

	shared_name(version, name);
	*ret = (struct cell_record){ 0 };
	r = engine_cell_get(e, op, name, ret);
	return r == -ENOENT ? 0 : r;
}

static uint64_t new_token(uint64_t old)
{
	uint64_t token = 0;

	do {
		if (getrandom(&token, sizeof(token), 0) != (ssize_t)sizeof(token))
			token = (uint64_t)mfs_now_ns();
		token >>= 1;
	} while (token == 0 || token == old);
	return token;
}

int shared_add(struct cell_record *cell, const char *version, mfs_ino_t one, mfs_ino_t other)
{
	char name[SHARED_NAME_MAX];
	int r;

	if (!cell->name) {
		shared_name(version, name);
		cell->name = strdup(name);
		if (!cell->name)
			return -ENOMEM;
	}
	r = node_blob_add_u64(&cell->blob, one);
	if (r == 0)
		r = node_blob_add_u64(&cell->blob, other);
	if (r == 0 && shared_files(cell) > SHARED_FILES_MAX)
		r = -EMLINK;
	cell->token = new_token(cell->token);
	return r;
}

size_t shared_files(const struct cell_record *cell)
{
	return cell->blob.size / sizeof(mfs_ino_t);
}

mfs_ino_t shared_file(const struct cell_record *cell, size_t i)
{
	mfs_ino_t ino;

	memcpy(&ino, (const char *)cell->blob.data + i * sizeof(ino), sizeof(ino));
	return ino;
}
