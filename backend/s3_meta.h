/*
 * What massfs writes beside an object's bytes: x-amz-meta-massfs tells an own version from a foreign one, mode, uid,
 * gid and mtime are in the form that s3fs and rclone know, massfs-sum is the checksum of the content (put only).
 */
#ifndef MASSFS_BACKEND_S3_META_H
#define MASSFS_BACKEND_S3_META_H

#include "backend/object_store.h"
#include "backend/s3_sign.h"
#include "backend/s3_xml.h"

struct s3_meta_headers {
	struct s3_meta_text text;
	struct s3_pair pairs[6];
	size_t n;
};
/* sum: the etag of the content, or NULL. key: within the volume (the same object under another key is foreign). */
void s3_meta_format(const struct object_meta *meta, const char *key, const char *sum, struct s3_meta_headers *ret);
/* Fills own, ino, session, op, mode, uid, gid, mtime (where it is told) and etag of *info. */
void s3_meta_parse(const struct s3_meta_text *text, const char *key, struct object_info *info);

#endif
