/*
 * Uploads in parts that another process goes on with: the server keeps them, under the id that it gave, until somebody
 * completes or aborts them, or it does so itself (MinIO: after 24 h). Which parts are there it tells when asked.
 *
 * Several may send the same part of one upload: it has the same bytes then. One of them completes it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/s3_upload.h"
#include "common/log.h"

int s3_begin_named(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key,
		   const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX], struct object_upload **ret)
{
	struct s3_upload *u;
	int r = s3_begin(base, op, bucket, key, meta, ret);

	if (r < 0)
		return r;
	u = s3_upload_of(*ret);
	snprintf(name, OBJECT_UPLOAD_NAME_MAX, "%s", u->id);
	return 0;
}

/* One page of the parts that are there, behind *after. 1: there are more. */
static int read_parts(struct s3_upload *u, struct op_ctx *op, unsigned int *after)
{
	struct s3_request q = { .method = "GET", .bucket = u->bucket, .key = u->key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_parts parts = { 0 };
	char marker[16];
	int r;

	snprintf(marker, sizeof(marker), "%u", *after);
	s3_query(&q, "uploadId", u->id);
	s3_query(&q, "part-number-marker", marker);
	r = s3_run_simple(s3_of(u->base.store), op, &q, &reply);
	if (r == 0)
		r = s3_xml_parts(reply.body.data, reply.body.len, &parts);
	if (r == -EBADMSG) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 upload key=%s: the server's list of its parts is not understood",
			u->key);
		r = -EIO;
	}
	u->kms |= reply.kms;
	for (size_t i = 0; i < parts.n && r == 0; i++) {
		const struct s3_part *p = &parts.v[i];

		if (p->number && *p->etag)
			r = s3_note_part(u, p->number, UINT64_MAX, p->size, p->etag, p->crc32c);
	}
	if (r == 0 && parts.truncated && parts.next > *after) {
		*after = parts.next;
		r = 1;
	}
	s3_parts_release(&parts);
	return r;
}

int s3_resume(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key, const struct object_meta *meta,
	      const char *name, struct object_upload **ret)
{
	struct s3_store *s = s3_of(base);
	struct s3_upload *u;
	unsigned int after = 0;
	int r;

	if (s->readonly)
		return -EROFS;
	u = s3_upload_new(s, bucket, key, meta);
	if (!u)
		return -ENOMEM;
	u->id = strdup(name);
	u->checksums = !atomic_load(&s->is_minio); /* as s3_begin() asked for */
	u->resumed = true;
	r = u->id ? 1 : -ENOMEM;
	while (r == 1)
		r = read_parts(u, op, &after);
	if (r < 0) {
		s3_upload_free(u);
		return r == -EINVAL ? -ENOENT : r; /* a name that the server does not understand is not one of its own */
	}
	*ret = &u->base;
	return 0;
}

/* A part whose place is not known is there only once somebody asked for it at its place; the others are not completed. */
bool s3_has_part(struct object_upload *base, unsigned int number, uint64_t off, uint64_t len)
{
	struct s3_upload *u = s3_upload_of(base);
	struct s3_sent *p;

	MFS_GUARD(&u->lock);
	if (number > u->n_parts)
		return false;
	p = &u->parts[number - 1];
	if (!*p->etag || p->len != len)
		return false;
	p->off = off;
	return true;
}

void s3_leave(struct object_upload *base, struct op_ctx *op)
{
	(void)op;
	s3_upload_free(s3_upload_of(base));
}
