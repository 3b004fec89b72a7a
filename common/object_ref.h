/*
 * What ties an inode to its bytes: a plain value that names one immutable version of one object. It is all that
 * meta/ and backend/ share.
 */
#ifndef MASSFS_COMMON_OBJECT_REF_H
#define MASSFS_COMMON_OBJECT_REF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/defs.h"

#define OBJECT_KEY_MAX	   1024 /* bytes, S3's limit; longer paths live at .massfs/o/<inode> */
#define OBJECT_VERSION_MAX 95	/* bytes of a version id, without the NUL */
#define OBJECT_ETAG_MAX	   71

struct object_ref {
	uint16_t store; /* which of the volume's stores; 0 is the default one */
	char *bucket;	/* NULL: the store's default bucket. Owned */
	char *key;	/* NULL: no object. Owned */
	char version[OBJECT_VERSION_MAX + 1];
};

/* Release what the ref owns and make it empty. Safe on an empty one. */
void object_ref_release(struct object_ref *ref);

/* *ret becomes a deep copy (what it held before is not released). 0 or -ENOMEM. */
int object_ref_copy(const struct object_ref *ref, struct object_ref *ret) MFS_NODISCARD;

static inline bool object_ref_is_empty(const struct object_ref *ref)
{
	return !ref->key;
}

/* Same store, bucket, key and version. Two empty refs are equal. */
bool object_ref_equal(const struct object_ref *a, const struct object_ref *b);

#endif
