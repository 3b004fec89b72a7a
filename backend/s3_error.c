/*
 * One table: what a server answers -> errno, and whether it is worth another try.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backend/s3_internal.h"

struct code {
	const char *name;
	int err;
	enum s3_class class;
};

static const struct code codes[] = {
	{ "NoSuchKey", ENOENT, S3_FINAL },
	{ "NoSuchVersion", ENOENT, S3_FINAL },
	{ "NoSuchUpload", ENOENT, S3_FINAL },
	{ "MethodNotAllowed", ENOENT, S3_FINAL }, /* GET of a delete marker */
	{ "NoSuchBucket", EIO, S3_FINAL },
	{ "NoSuchLifecycleConfiguration", ENODATA, S3_FINAL },
	{ "PreconditionFailed", EEXIST, S3_FINAL },
	{ "ConditionalRequestConflict", EIO, S3_AGAIN },
	{ "OperationAborted", EIO, S3_AGAIN },
	{ "NotImplemented", EOPNOTSUPP, S3_FINAL },
	{ "InvalidRange", ERANGE, S3_FINAL },
	{ "KeyTooLongError", EINVAL, S3_FINAL },
	{ "XMinioInvalidObjectName", EINVAL, S3_FINAL },
	{ "XMinioInvalidResourceName", EINVAL, S3_FINAL },
	{ "InvalidArgument", EINVAL, S3_FINAL },
	{ "XMinioStorageFull", ENOSPC, S3_FINAL },
	{ "XMinioAdminBucketQuotaExceeded", ENOSPC, S3_FINAL },
	{ "QuotaExceeded", EDQUOT, S3_FINAL },
	{ "RequestTimeTooSkewed", EACCES, S3_CLOCK },
	{ "InvalidAccessKeyId", EACCES, S3_KEYS },
	{ "SignatureDoesNotMatch", EACCES, S3_KEYS },
	{ "ExpiredToken", EACCES, S3_KEYS },
	{ "InvalidToken", EACCES, S3_KEYS },
	{ "AccessDenied", EACCES, S3_FINAL },
	{ "AllAccessDisabled", EACCES, S3_FINAL },
	{ "BadDigest", EIO, S3_AGAIN }, /* flipped on the way: the bytes in memory are sent again */
	{ "XAmzContentChecksumMismatch", EIO, S3_AGAIN },
	{ "XAmzContentSHA256Mismatch", EIO, S3_AGAIN },
	{ "IncompleteBody", EIO, S3_AGAIN },
	{ "RequestTimeout", EIO, S3_AGAIN },
	{ "SlowDown", EIO, S3_AGAIN },
	{ "SlowDownRead", EIO, S3_AGAIN },
	{ "SlowDownWrite", EIO, S3_AGAIN },
	{ "ServiceUnavailable", EIO, S3_AGAIN },
	{ "InternalError", EIO, S3_AGAIN },
	{ "XMinioServerNotInitialized", EIO, S3_AGAIN },
};

enum s3_class s3_classify(int status, const char *code, int *ret_errno)
{
	for (size_t i = 0; i < MFS_ARRAY_LEN(codes); i++) {
		if (strcmp(codes[i].name, code) != 0)
			continue;
		*ret_errno = -codes[i].err;
		return codes[i].class;
	}
	switch (status) {
	case 401:
	case 403:
		*ret_errno = -EACCES;
		return *code ? S3_FINAL : S3_KEYS; /* HEAD tells no code */
	case 404:
	case 405:
	case 410:
		*ret_errno = -ENOENT;
		return S3_FINAL;
	case 412:
		*ret_errno = -EEXIST;
		return S3_FINAL;
	case 416:
		*ret_errno = -ERANGE;
		return S3_FINAL;
	case 501:
		*ret_errno = -EOPNOTSUPP;
		return S3_FINAL;
	case 507:
		*ret_errno = -ENOSPC;
		return S3_FINAL;
	default:
		*ret_errno = -EIO;
		/* 2xx here: an Error in a body that should be a result. */
		return status >= 500 || status == 429 || status == 408 || status < 300 ? S3_AGAIN : S3_FINAL;
	}
}

static void take_error(struct s3_reply *reply, const struct s3_result *res)
{
	if (*res->code)
		memcpy(reply->code, res->code, sizeof(reply->code));
	snprintf(reply->reason, sizeof(reply->reason), "HTTP %d %s%s%.120s%s%.30s", reply->status, reply->code,
		 *res->message ? ": " : "", res->message, *res->region ? "; the bucket's region is " : "", res->region);
}

void s3_read_error(struct s3_reply *reply)
{
	struct s3_result res = { 0 };

	/* Garbage is no code: the status says enough. */
	if (!reply->body.len || s3_xml_result(reply->body.data, reply->body.len, &res) < 0 || strcmp(res.root, "Error") != 0)
		res = (struct s3_result){ 0 };
	take_error(reply, &res);
}

bool s3_is_error_body(struct s3_reply *reply)
{
	struct s3_result res;

	if (!reply->body.len || s3_xml_result(reply->body.data, reply->body.len, &res) < 0 || strcmp(res.root, "Error") != 0)
		return false;
	take_error(reply, &res);
	return true;
}
