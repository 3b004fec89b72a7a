/*
 * What an S3 server answers, as structs. By expat, with limits: no DTD (so no entities of its own), bounded depth and
 * text, nothing trusted that a size says. Pure, no I/O.
 */
#ifndef MASSFS_BACKEND_S3_XML_H
#define MASSFS_BACKEND_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/defs.h"
#include "common/object_ref.h"

#define S3_CODE_MAX   64
#define S3_UPLOAD_MAX 1024
#define S3_MARKER_MAX 3200 /* a key of 1024 bytes, each encoded */

/* The x-amz-meta-* of ours, as text; "" where there is none. */
struct s3_meta_text {
	char massfs[120], mode[16], uid[16], gid[16], mtime[40], sum[32];
};
/* Is `name` (without "x-amz-meta-", any case) one of ours? Then it takes the value; one that is too long counts as none. */
void s3_meta_text_take(struct s3_meta_text *m, const char *name, const char *value);

struct s3_entry {
	char *key; /* decoded; owned */
	char version[OBJECT_VERSION_MAX + 1]; /* "" in a list of keys */
	char etag[OBJECT_ETAG_MAX + 1];	      /* without quotes */
	uint64_t size;
	int64_t mtime; /* LastModified, ns; 0: not told */
	bool latest, marker;
	bool has_meta; /* the server told the user metadata (MinIO's metadata=true): meta is what there is */
	struct s3_meta_text meta;
	char *upload; /* of a list of uploads; owned */
};

struct s3_listing {
	struct s3_entry *v;
	size_t n, room;
	bool truncated;
	char next_key[S3_MARKER_MAX + 1], next_version[S3_UPLOAD_MAX + 1]; /* as to be sent back, decoded */
	bool encoded; /* it says EncodingType=url */
};
#define S3_AUTO_LISTING MFS_CLEANUP(s3_listing_release)
void s3_listing_release(struct s3_listing *l);

/* ListVersionsResult, ListBucketResult (v2: next_version is the token), ListMultipartUploadsResult. 0, -ENOMEM, -EBADMSG. */
int s3_xml_listing(const char *text, size_t len, struct s3_listing *ret) MFS_NODISCARD;

struct s3_part {
	unsigned int number;
	uint64_t size;
	char etag[OBJECT_ETAG_MAX + 1];
	char crc32c[12]; /* "": not told */
};
struct s3_parts {
	struct s3_part *v;
	size_t n, room;
	bool truncated;
	unsigned int next;
};
void s3_parts_release(struct s3_parts *p);
int s3_xml_parts(const char *text, size_t len, struct s3_parts *ret) MFS_NODISCARD; /* ListPartsResult */

/*
 * A small answer: InitiateMultipartUploadResult, CompleteMultipartUploadResult, CopyObjectResult, CopyPartResult,
 * VersioningConfiguration, LifecycleConfiguration, DeleteResult, or Error (which may come with status 200).
 */
struct s3_result {
	char root[48];
	char code[S3_CODE_MAX], message[256]; /* of Error, or of the first Error of a DeleteResult */
	char upload[S3_UPLOAD_MAX + 1];
	char etag[OBJECT_ETAG_MAX + 1];
	char crc32c[16];
	char status[16];      /* of versioning */
	char region[64];      /* of an Error that says where the bucket is */
	bool deletes_objects; /* lifecycle: an enabled rule that deletes versions, or puts markers over them */
	unsigned int n_errors;
};
int s3_xml_result(const char *text, size_t len, struct s3_result *ret) MFS_NODISCARD;

/* "2026-11-21T15:47:14.123Z" or "Sat, 21 Nov 2026 15:47:14 GMT" in ns; 0: neither. */
int64_t s3_parse_time(const char *text);

#endif
