/* What kind of content a file has, by its first 64 KiB: libmagic's word. */
#ifndef MASSFS_FS_MIME_H
#define MASSFS_FS_MIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/object_ref.h"
#include "common/sync.h"

#define MIME_HEAD (UINT64_C(64) << 10)
#define MIME_MAX  128

struct object_store;
struct op_ctx;

/* Handles of libmagic: each is used by one thread at a time, and loading its rules takes milliseconds, so some are kept
 * (each a mapping of 8 MiB and a few MiB more, with the expressions it has compiled), until nobody has asked for ten seconds. */
struct mime {
	struct mfs_mutex lock; /* leaf */
	void *idle[4];
	unsigned int n_idle;
	int64_t used_ns; /* monotonic: when one was last given back */
	bool broken; /* the rules could not be loaded: nothing is known from then on, which is logged once */
};

/* All zeros is ready for use. */
void mime_release(struct mime *m);
/* To be called now and then: handles that nobody has used for a while are closed. */
void mime_relax(struct mime *m);
/* "" when it cannot be told: of no bytes, too. */
void mime_of(struct mime *m, const void *head, size_t len, char ret[MIME_MAX]);
/* The same of an object of `size` bytes, which is read: one request. */
void mime_of_object(struct mime *m, struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t size,
		    char ret[MIME_MAX]);

#endif
