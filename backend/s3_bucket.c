/*
 * What a bucket must be before massfs trusts it: it exists, it keeps versions, and no rule of it deletes them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backend/s3_internal.h"
#include "common/conf.h"
#include "common/log.h"

static int get(struct s3_store *s, struct op_ctx *op, const struct s3_place *place, const char *what, struct s3_result *ret, struct s3_reply *reply)
{
	struct s3_request q = { .method = "GET", .quiet = true, .place = place };
	int r;

	s3_query(&q, what, "");
	r = s3_run_simple(s, op, &q, reply);
	if (r == 0)
		r = s3_xml_result(reply->body.data, reply->body.len, ret);
	return r;
}

static int put_text(struct s3_store *s, struct op_ctx *op, const struct s3_place *place, const char *what, const char *text, struct s3_reply *reply)
{
	struct s3_request q = { .method = "PUT", .body = text, .body_len = strlen(text), .has_body = true, .quiet = true,
				.place = place };
	char md5[32];
	int r;

	if (what)
		s3_query(&q, what, "");
	r = s3_content_md5(&q, md5);
	return r < 0 ? r : s3_run_simple(s, op, &q, reply);
}

static int make_bucket(struct s3_store *s, struct op_ctx *op, const struct s3_place *place, char **ret_reason)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(1024);
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	int r;

	if (strcmp(s->region, "us-east-1") != 0)
		mfs_buf_printf(&text,
			       "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
			       "<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>",
			       s->region);
	r = put_text(s, op, place, NULL, mfs_buf_str(&text), &reply);
	if (r < 0 && !strcmp(reply.code, "BucketAlreadyOwnedByYou"))
		r = 0;
	return r < 0 ? mfs_fail(ret_reason, r, "bucket %s: cannot be made: %s", place->bucket, reply.reason) : 0;
}

static int check_versioning(struct s3_store *s, struct op_ctx *op, const struct s3_place *place, bool create, char **ret_reason)
{
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_result res = { 0 };
	int r;

	r = get(s, op, place, "versioning", &res, &reply);
	if (r < 0 && !strcmp(reply.code, "NoSuchBucket")) {
		if (!create)
			return mfs_fail(ret_reason, -ENOENT, "bucket %s: there is none; `massfs format` makes it", place->bucket);
		r = make_bucket(s, op, place, ret_reason);
		if (r < 0)
			return r;
	} else if (r < 0) {
		return mfs_fail(ret_reason, r, "bucket %s: %s", place->bucket, *reply.reason ? reply.reason : strerror(-r));
	}
	if (!strcmp(res.status, "Enabled"))
		return 0;
	if (!create)
		return mfs_fail(ret_reason, -ENOTSUP,
				"bucket %s: versioning is off, so what is replaced would be lost; turn it on (`massfs format` does)",
				place->bucket);
	r = put_text(s, op, place, "versioning",
		     "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status>"
		     "</VersioningConfiguration>",
		     &reply);
	return r < 0 ? mfs_fail(ret_reason, r, "bucket %s: versioning cannot be turned on: %s", place->bucket, reply.reason) : 0;
}

static int check_place(struct s3_store *s, struct op_ctx *op, const struct s3_place *place, bool create, char **ret_reason)
{
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_result res = { 0 };
	int r = check_versioning(s, op, place, create, ret_reason);

	if (r < 0)
		return r;
	r = get(s, op, place, "lifecycle", &res, &reply);
	if (r == -ENODATA || r == -ENOENT || r == -EOPNOTSUPP)
		return 0;
	if (r == -EACCES) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, op,
			"bucket %s: its lifecycle rules may not be read with these keys; make sure that none deletes versions",
			place->bucket);
		return 0;
	}
	if (r < 0)
		return mfs_fail(ret_reason, r, "bucket %s: its lifecycle rules: %s", place->bucket, reply.reason);
	if (res.deletes_objects)
		return mfs_fail(ret_reason, -ENOTSUP,
				"bucket %s: a lifecycle rule deletes objects or versions, which would destroy files; remove it "
				"(massfs has its own retention)",
				place->bucket);
	return 0;
}

int s3_bucket_check(struct s3_store *s, struct op_ctx *op, bool create, char **ret_reason)
{
	int r = 0;

	for (const struct s3_place *p = s3_place_next(s, NULL); p && r == 0; p = s3_place_next(s, p))
		r = check_place(s, op, p, create, ret_reason);
	return r;
}
