/*
 * AWS Signature Version 4 for S3: one request in, its Authorization header out. Pure, no I/O, no clock.
 *
 * Not curl's CURLOPT_AWS_SIGV4 (7.88 sorts no query, sends no x-amz-content-sha256, signs header removals) and not
 * libs3 (Signature 2, no multipart, no versions): docs/design.md.
 */
#ifndef MASSFS_BACKEND_S3_SIGN_H
#define MASSFS_BACKEND_S3_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/defs.h"

#define S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define S3_SIGN_MAX	    32 /* headers, and query parameters, of one request */

/* Name and value as they are; names of headers in lower case. Borrowed. */
struct s3_pair {
	const char *name, *value;
};

struct s3_to_sign {
	const char *access_key, *secret_key; /* a session token is a header like any other */
	const char *region;
	const char *method;
	const char *path;  /* encoded, from the slash on */
	const char *query; /* of s3_sign_query() */
	const struct s3_pair *headers; /* all that are signed: host, x-amz-date, x-amz-content-sha256 ... */
	size_t n_headers;
	const char *payload; /* hex of its SHA-256, or S3_UNSIGNED_PAYLOAD */
	const char *date;    /* "20130524T000000Z", as x-amz-date has it */
};

/* Encoded and sorted; each with '='. It is the query of the URL, too. 0, -ENOMEM, -EINVAL: more than S3_SIGN_MAX. */
int s3_sign_query(const struct s3_pair *params, size_t n, struct mfs_buf *ret) MFS_NODISCARD;

/* Appends the value of the header Authorization. 0, -ENOMEM, -EINVAL, -EIO (OpenSSL). */
int s3_sign(const struct s3_to_sign *t, struct mfs_buf *ret) MFS_NODISCARD;

#define S3_SHA256_HEX 65
/* 0 or -EIO. */
int s3_sha256_hex(const void *data, size_t len, char ret[static S3_SHA256_HEX]) MFS_NODISCARD;
#define S3_MD5_LEN 16
int s3_md5(const void *data, size_t len, unsigned char ret[static S3_MD5_LEN]) MFS_NODISCARD;

void s3_sign_date(int64_t wall_ns, char ret[static 17]);

#endif
