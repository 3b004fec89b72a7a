/* An upload in parts, for s3_upload.c (its whole life) and s3_resume.c (those that outlive the process). */
#ifndef MASSFS_BACKEND_S3_UPLOAD_H
#define MASSFS_BACKEND_S3_UPLOAD_H

#include "backend/cell_sums.h"
#include "backend/s3_internal.h"

struct s3_sent {
	uint64_t off, len;
	char etag[OBJECT_ETAG_MAX + 1]; /* "": not sent */
	char crc[S3_CRC_TEXT];		/* "": not known (a copy whose source has none) */
};

struct s3_upload {
	struct object_upload base;
	char *bucket, *key, *id;
	struct object_meta meta; /* what the object will carry */
	struct cell_sums sums;
	struct mfs_mutex lock; /* guards the parts and kms; a leaf */
	struct s3_sent *parts;    /* number n is at n - 1 */
	size_t n_parts, room;
	bool kms; /* encrypted so that etags are no md5 */
	bool checksums; /* complete lists the parts' */
	bool resumed;	/* begun by another: what the server told of its parts then is not all known */
};

static inline struct s3_upload *s3_upload_of(struct object_upload *u)
{
	return mfs_container_of(u, struct s3_upload, base);
}

/* Not known to the server yet. NULL: no memory. */
struct s3_upload *s3_upload_new(struct s3_store *s, const char *bucket, const char *key, const struct object_meta *meta);
void s3_upload_free(struct s3_upload *u);
/* A part is there; in place of one of that number. */
int s3_note_part(struct s3_upload *u, unsigned int number, uint64_t off, uint64_t len, const char *etag,
		 const char *crc) MFS_NODISCARD;

#endif
