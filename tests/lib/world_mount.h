/*
 * The memory of a mount over a volume_world.h: contents are opened, written and read as the FUSE requests do it, without FUSE.
 */
#ifndef MASSFS_TESTS_WORLD_MOUNT_H
#define MASSFS_TESTS_WORLD_MOUNT_H

#include <stdlib.h>

#include "common/workers.h"
#include "fs/content.h"
#include "tests/lib/volume_world.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

struct mount {
	struct world *w;
	struct budget *budget;
	struct workers *uploaders;
	struct content_env env;
};

void mount_open(struct mount *m, struct world *w);
void mount_close(struct mount *m); /* asserts that no memory is kept */
struct content *mount_writer(struct mount *m, mfs_ino_t ino);
void mount_close_writer(struct mount *m, struct content *c);
/* A new file in the root. */
mfs_ino_t mount_make(struct world *w, const char *name);
/* Bytes that are nowhere 0, others for each seed; the caller's. */
unsigned char *mount_pattern(size_t size, unsigned int seed);
/* Written from the beginning, and closed. */
void mount_write(struct mount *m, mfs_ino_t ino, const unsigned char *bytes, size_t size);
void mount_assert_reads(struct mount *m, mfs_ino_t ino, const unsigned char *want, size_t size);
/* What the key shows is the file, byte for byte. */
void world_assert_native(struct world *w, const char *key, const unsigned char *want, size_t size);

#endif
