/*
 * Where the keys come from: given outright (the .conf), a passwd file, the environment AWS_*, a profile of
 * ~/.aws/credentials; the first of these that there is. Never logged, wiped when freed.
 */
#ifndef MASSFS_BACKEND_S3_CREDENTIALS_H
#define MASSFS_BACKEND_S3_CREDENTIALS_H

#include "common/defs.h"

struct s3_credentials {
	char *access_key, *secret_key, *token; /* token may be NULL. Owned */
};

struct s3_credentials_from {
	const char *access_key, *secret_key, *token; /* given outright; NULL: not */
	const char *passwd_file; /* one line ACCESS:SECRET[:TOKEN]; '#' begins a comment */
	const char *profile;	 /* NULL: AWS_PROFILE, else "default" */
};

void s3_credentials_release(struct s3_credentials *c);
/*
 * Fills *ret. -EACCES: a file that holds secrets can be read by others than its owner (or group), with the reason;
 * -EINVAL: a file is not understood; -ENOENT: there are none anywhere.
 */
int s3_credentials_load(const struct s3_credentials_from *from, struct s3_credentials *ret,
			char **ret_reason) MFS_NODISCARD;

/* Of the text of such a file, which is cut up: the first line that is no comment (-EINVAL), or the keys of [profile] (-ENOENT,
 * -EINVAL). */
int s3_credentials_of_passwd(char *text, struct s3_credentials *ret) MFS_NODISCARD;
int s3_credentials_of_profile(char *text, const char *profile, struct s3_credentials *ret) MFS_NODISCARD;

#endif
