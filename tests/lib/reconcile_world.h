/*
 * Content in each state there is, for tests of the reconciler: files made without a mount, a store whose parts are
 * counted and checked, and what must come of it.
 */
#ifndef MASSFS_TESTS_RECONCILE_WORLD_H
#define MASSFS_TESTS_RECONCILE_WORLD_H

#include "tests/lib/volume_world.h"

#include "fs/reconcile.h"
#include "fs/snapshot.h"
#include "meta/layout.h"

#define DUE 2 /* a todo long past */

/* --- a store that is watched --- */

struct watched {
	struct object_store_ops ops;
	const struct object_store_ops *inner;
	_Atomic uint64_t copied, put, n_parts, n_copies;
	atomic_uint part_calls, fail_at;
	struct op_ctx *cancel; /* by the fail_at'th part */
	_Atomic uint64_t part_end; /* of a store without gaps: where the last part ended */
	_Atomic uint64_t short_part; /* its end, if the last part was below the minimum */
};
extern struct watched watched;
/* The mem store becomes one with nothing but what S3 has. */
void watch(struct world *w);
void unwatch(struct world *w);
bool is_sparse(struct world *w);

/* --- content in each state --- */

unsigned char byte_at(uint64_t off, unsigned int seed);
unsigned char *bytes_of(uint64_t off, size_t len, unsigned int seed);
mfs_ino_t make_file(struct world *w, const char *path);
mfs_ino_t write_inline(struct world *w, const char *path, const void *data, size_t len, int64_t todo);
/* A whole object of `size` bytes at its key. */
mfs_ino_t write_object(struct world *w, const char *path, uint64_t size, unsigned int seed);

struct change_of {
	uint64_t off, len;
	bool hole;
};

/* One commit of ranges, in one patch object, as fs/content makes it. -EAGAIN: the record moved. */
int patch_once(struct world *w, mfs_ino_t ino, const struct change_of *v, size_t n_v, unsigned int seed, int64_t todo);
void patch(struct world *w, mfs_ino_t ino, uint64_t off, uint64_t len, unsigned int seed);
void punch(struct world *w, mfs_ino_t ino, uint64_t off, uint64_t len);

/* --- what must come of it --- */

/* The file as the index has it. */
unsigned char *read_file(struct world *w, mfs_ino_t ino, uint64_t off, size_t len);
enum file_state state_of(struct world *w, mfs_ino_t ino);
/* Settled, at `key`, with these bytes; label, mode and time as the file has them. */
void assert_settled(struct world *w, mfs_ino_t ino, const char *key, const unsigned char *want, uint64_t size);

struct count {
	struct world *w;
	unsigned int all, unnamed;
};

bool is_named(struct world *w, const char *version);
struct count count_objects(struct world *w);

#endif
