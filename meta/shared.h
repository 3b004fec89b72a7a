/*
 * Objects that several files name: who they are.
 *
 * A cell "shared/VERSION" (engine_cell_get) lists the inodes that may name the object, in their records, trash or versions. It
 * is no count: nobody is taken off the list who lets go of the object. Whoever is about to delete an object asks all on
 * its list (fs/gc_names.c), and the cell goes with the object.
 *
 * The first sharing makes the cell. Each one writes in one change: the new file's record, the record it shares with (its `lay`
 * is compared: so it names the object at that moment), and the cell under a new token. So an object that none on the
 * list named, when each was asked, and whose token is still the one from before the asking, is named by nobody ever again.
 */
#ifndef MASSFS_META_SHARED_H
#define MASSFS_META_SHARED_H

#include "meta/engine.h"

#define SHARED_PREFIX	 "shared/"
#define SHARED_FILES_MAX 1000 /* on one list; who comes later copies */
#define SHARED_NAME_MAX	 (sizeof(SHARED_PREFIX) + OBJECT_VERSION_MAX)

void shared_name(const char *version, char buf[static SHARED_NAME_MAX]);
/* The cell of an object; of one that is not shared: token 0, without a name. *ret is the caller's. -ENOTSUP: an engine
 * without cells. */
int shared_get(struct engine *e, struct op_ctx *op, const char *version, struct cell_record *ret) MFS_NODISCARD;
/* Both are on its list, under another token, from now on: *cell is what is to be put. -EMLINK: the list is full. */
int shared_add(struct cell_record *cell, const char *version, mfs_ino_t one, mfs_ino_t other) MFS_NODISCARD;
size_t shared_files(const struct cell_record *cell);
mfs_ino_t shared_file(const struct cell_record *cell, size_t i);

#endif
