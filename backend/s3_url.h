/*
 * Text that goes into URLs: percent-encoding as SigV4 wants it, and endpoints ("https://host:9000"). Pure, no I/O.
 */
#ifndef MASSFS_BACKEND_S3_URL_H
#define MASSFS_BACKEND_S3_URL_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/defs.h"

/* Everything but A-Z a-z 0-9 - _ . ~ as %XX; with keep_slash '/' stays, too (a path). As mfs_buf_append(). */
int s3_url_encode(struct mfs_buf *b, const char *s, bool keep_slash);
/* In place: %XX, and '+' for a space, as servers answer encoding-type=url. -EINVAL: cut off, no hex, or a NUL. */
int s3_url_decode(char *s) MFS_NODISCARD;

struct s3_url {
	bool https;
	bool is_ip;	 /* a literal address: no name can be put in front of it */
	char *authority; /* what the Host header says: the port only where it is not the scheme's. Owned */
};
#define MFS_AUTO_S3_URL MFS_CLEANUP(s3_url_release)
void s3_url_release(struct s3_url *u);
/*
 * "http://10.0.0.1:9000", "https://[::1]:9000/", "minio.example" (https). -EINVAL with the reason for another scheme, a
 * path, user info, a port that is none.
 */
int s3_url_parse(const char *text, struct s3_url *ret, char **ret_reason) MFS_NODISCARD;

#endif
