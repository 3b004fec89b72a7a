/*
 * The object store that a volume's .conf names: a folder beside the index (localdir), or a bucket (s3). A file
 * .massfs/bucket in the volume's folder says which bucket its index is of, so that neither is opened with the other.
 */
#ifndef MASSFS_FS_VOLUME_STORE_H
#define MASSFS_FS_VOLUME_STORE_H

#include "backend/object_store.h"
#include "common/conf.h"

struct volume_store_options {
	bool create;   /* format: an empty one is made */
	bool force;    /* with create: a bucket that has objects already, too */
	bool readonly;
};
/* 0, or -errno with the reason. */
int volume_store_open(const struct mfs_config *cfg, const struct volume_store_options *opt, struct object_store **ret,
		      char **ret_reason) MFS_NODISCARD;

/*
 * Can this path be a key? Not every legal one: in a bucket a name with a character that XML has not (control characters but tab,
 * LF and CR) breaks the listing of all keys beside it for programs that do not ask for encoded ones (s3cmd).
 */
bool volume_store_takes_key(struct object_store *s, const char *key);

#endif
