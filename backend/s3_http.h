/*
 * One HTTP exchange on libcurl: a bounded pool of easy handles with keep-alive, no Expect: 100-continue, own CA,
 * deadline and cancellation. It signs nothing, repeats nothing and judges no status.
 *
 * Threads: from any, several at once; at most `connections` exchanges run, others wait for a handle. The pool's lock is
 * a leaf, not held over an exchange.
 */
#ifndef MASSFS_BACKEND_S3_HTTP_H
#define MASSFS_BACKEND_S3_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/s3_sign.h"
#include "backend/s3_xml.h"
#include "common/buf.h"
#include "common/defs.h"

struct op_ctx;
struct s3_http; /* opaque */

/* ca_file: PEM, instead of the system's; NULL: the system's. 0, -ENOMEM, -EIO. */
int s3_http_new(unsigned int connections, const char *ca_file, struct s3_http **ret) MFS_NODISCARD;
void s3_http_free(struct s3_http *h); /* no exchange may be under way. NULL: nothing */

struct s3_exchange {
	const char *method, *url;
	const struct s3_pair *headers;
	size_t n_headers;
	const void *body; /* borrowed until the call returns */
	size_t body_len;
	bool has_body;
	/* Where the body of a 2xx answer goes: more than dest_len is an error. NULL: into reply->body. */
	void *dest;
	size_t dest_len;
	bool once; /* not to be sent a second time by libcurl itself on a kept connection that turned out dead */
	int64_t deadline_ns; /* monotonic, of this exchange with the waiting for a handle */
	int64_t stall_ns;    /* this long without a byte is the end of it */
	/* It ends with -ETIMEDOUT, gave_up, when *falls is not fallen any more (NULL: not asked). */
	const _Atomic unsigned int *falls;
	unsigned int fallen;
	/* Called each second or so in which nothing has moved for doubt_ns. NULL: not. */
	void (*doubt)(void *arg);
	void *doubt_arg;
	int64_t doubt_ns;
	bool apart; /* a connection of its own, whatever the pool's bound: for a question when all are waiting */
};

struct s3_reply {
	int err;      /* 0: an answer came, see status; else -errno: -ETIMEDOUT, -ECANCELED, -EIO, -ENOMEM, -EBADMSG,
			 -EPROTO (a certificate: no use in asking again) */
	bool sent;    /* with err: the server may have got the request */
	bool gave_up; /* the node went down meanwhile */
	int status;
	struct mfs_buf body; /* of an error, or where dest is NULL; bounded */
	size_t got;	     /* bytes in dest */
	bool has_length, has_range, is_marker, kms;
	uint64_t length;		   /* Content-Length */
	uint64_t first, last, total;	   /* Content-Range */
	char version[OBJECT_VERSION_MAX + 1], etag[OBJECT_ETAG_MAX + 1], code[S3_CODE_MAX], server[32];
	int64_t modified, date; /* ns; 0: not told */
	struct s3_meta_text meta;
	char reason[256]; /* of err, for people */
};
#define S3_BODY_MAX (16u << 20) /* a page of 1,000 versions with their metadata is about 1.5 MiB */
#define S3_REPLY_INIT { .body = MFS_BUF_INIT(S3_BODY_MAX) }
void s3_reply_release(struct s3_reply *r);
#define S3_AUTO_REPLY MFS_CLEANUP(s3_reply_release)

/* One line of a head, which is written to: a field that is known is taken over, as far as it makes sense. */
void s3_http_header(struct s3_reply *r, char *line);

/* *reply is S3_REPLY_INIT or was used before; what it held is cleared. */
void s3_http_exchange(struct s3_http *h, struct op_ctx *op, const struct s3_exchange *x, struct s3_reply *reply);

#endif
