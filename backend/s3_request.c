/*
 * A request to one node: its URL, its headers, its signature.
 */
#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "backend/crc32c.h"
#include "backend/s3_internal.h"
#include "common/clock.h"

void s3_query(struct s3_request *q, const char *name, const char *value)
{
	assert(q->n_query < S3_QUERY_MAX);
	q->query[q->n_query++] = (struct s3_pair){ name, value };
}

void s3_header(struct s3_request *q, const char *name, const char *value)
{
	assert(q->n_headers < S3_HEADERS_MAX);
	q->headers[q->n_headers++] = (struct s3_pair){ name, value };
}

static void put_base64(const unsigned char *in, size_t len, char *to)
{
	EVP_EncodeBlock((unsigned char *)to, in, (int)len);
}

void s3_checksum(struct s3_request *q, char buf[static S3_CRC_TEXT])
{
	uint32_t crc = mfs_crc32c(0, q->body, q->body_len);
	unsigned char big[4] = { (unsigned char)(crc >> 24), (unsigned char)(crc >> 16), (unsigned char)(crc >> 8),
				 (unsigned char)crc };

	put_base64(big, sizeof(big), buf);
	s3_header(q, "x-amz-checksum-crc32c", buf);
}

int s3_content_md5(struct s3_request *q, char buf[static 32])
{
	unsigned char digest[S3_MD5_LEN];
	int r = s3_md5(q->body, q->body_len, digest);

	if (r < 0)
		return r;
	put_base64(digest, sizeof(digest), buf);
	s3_header(q, "content-md5", buf);
	return 0;
}

int s3_full_key(const struct s3_place *place, const char *key, struct mfs_buf *ret)
{
	s3_url_encode(ret, place->prefix, true);
	return s3_url_encode(ret, key, true);
}

/* Host and path as the store's addressing has them. */
static int build_path(struct s3_store *s, const struct s3_request *q, const struct s3_url *node, struct mfs_buf *host,
		      struct mfs_buf *path)
{
	const struct s3_place *place = q->place ? q->place : s3_place_of(s, q->bucket ? NULL : q->key);
	const char *bucket = q->bucket ? q->bucket : place->bucket;

	if (s->virtual_host) {
		mfs_buf_printf(host, "%s.%s", bucket, node->authority);
		mfs_buf_putc(path, '/');
	} else {
		mfs_buf_puts(host, node->authority);
		mfs_buf_printf(path, "/%s", bucket);
		if (q->key)
			mfs_buf_putc(path, '/');
	}
	if (q->key)
		s3_full_key(place, q->key, path);
	return host->err ? host->err : path->err;
}

/* The keys as they are now; the copies are the caller's to release. */
static int copy_credentials(struct s3_store *s, struct s3_credentials *ret)
{
	struct s3_credentials c = { 0 };

	MFS_GUARD(&s->lock);
	c.access_key = strdup(s->credentials.access_key);
	c.secret_key = strdup(s->credentials.secret_key);
	c.token = s->credentials.token ? strdup(s->credentials.token) : NULL;
	if (!c.access_key || !c.secret_key || (s->credentials.token && !c.token)) {
		s3_credentials_release(&c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

struct built {
	struct mfs_buf host, path, query, url, authorization;
	struct s3_credentials keys;
	char date[17];
	struct s3_pair headers[S3_HEADERS_MAX + 5];
	size_t n;
};

static void built_release(struct built *b)
{
	mfs_buf_release(&b->host);
	mfs_buf_release(&b->path);
	mfs_buf_release(&b->query);
	mfs_buf_release(&b->url);
	mfs_buf_release(&b->authorization);
	s3_credentials_release(&b->keys);
}

static int build(struct s3_store *s, const struct s3_request *q, const struct s3_url *node, struct built *b)
{
	const char *payload = q->payload ? q->payload : S3_UNSIGNED_PAYLOAD;
	struct s3_to_sign sign;
	int r = copy_credentials(s, &b->keys);

	b->host.max = b->path.max = b->query.max = b->authorization.max = 32 << 10;
	b->url.max = 80 << 10;
	if (r == 0)
		r = build_path(s, q, node, &b->host, &b->path);
	if (r == 0)
		r = s3_sign_query(q->query, q->n_query, &b->query);
	if (r < 0)
		return r;
	s3_sign_date(mfs_now_ns() + atomic_load(&s->clock_ns), b->date);
	memcpy(b->headers, q->headers, q->n_headers * sizeof(*b->headers));
	b->n = q->n_headers;
	b->headers[b->n++] = (struct s3_pair){ "host", mfs_buf_str(&b->host) };
	b->headers[b->n++] = (struct s3_pair){ "x-amz-content-sha256", payload };
	b->headers[b->n++] = (struct s3_pair){ "x-amz-date", b->date };
	if (b->keys.token)
		b->headers[b->n++] = (struct s3_pair){ "x-amz-security-token", b->keys.token };
	sign = (struct s3_to_sign){
		.access_key = b->keys.access_key,
		.secret_key = b->keys.secret_key,
		.region = s->region,
		.method = q->method,
		.path = mfs_buf_str(&b->path),
		.query = mfs_buf_str(&b->query),
		.headers = b->headers,
		.n_headers = b->n,
		.payload = payload,
		.date = b->date,
	};
	r = s3_sign(&sign, &b->authorization);
	if (r < 0)
		return r;
	b->headers[b->n++] = (struct s3_pair){ "authorization", mfs_buf_str(&b->authorization) };
	mfs_buf_printf(&b->url, "%s://%s%s", node->https ? "https" : "http", sign.headers[q->n_headers].value, sign.path);
	if (b->query.len)
		mfs_buf_printf(&b->url, "?%s", mfs_buf_str(&b->query));
	return b->url.err;
}

/*
 * The first attempt is short, so that what one node has lost is soon asked of another. Where another one was silent, too, it
 * is not the node: a MinIO that has lost a peer answers only when it gives that up (30 s if not told otherwise), and would
 * never get to it if we always began anew. For a while every request is given that time then.
 */
int64_t s3_allowance(const struct s3_store *s, const struct s3_request *q, bool again)
{
	uint64_t bytes = MFS_MAX(q->body_len, q->dest_len) + q->moves / 16;
	bool patient = again || mfs_mono_ns() < atomic_load(&s->slow_until_ns);
	int64_t allow = (patient ? 4 : 1) * s->request_ns + (int64_t)(bytes / MFS_MIB) * MFS_NSEC_PER_SEC;

	return q->heavy ? allow + s->request_ns : allow;
}

struct doubt {
	struct s3_endpoints *nodes;
	unsigned int node;
};

static void doubt(void *arg)
{
	const struct doubt *d = arg;

	s3_endpoints_doubt(d->nodes, d->node, "no answer for some seconds");
}

void s3_attempt(struct s3_store *s, struct op_ctx *op, const struct s3_request *q, unsigned int node, int64_t deadline_ns,
		int64_t stall_ns, struct s3_reply *reply)
{
	const _Atomic unsigned int *falls = s3_endpoints_falls(s->nodes, node);
	struct doubt d = { s->nodes, node };
	struct built b = { 0 };
	struct s3_exchange x = {
		.falls = falls,
		.fallen = atomic_load(falls),
		.doubt = doubt,
		.doubt_arg = &d,
		.doubt_ns = s->request_ns / 3,
		.method = q->method,
		.body = q->body,
		.body_len = q->body_len,
		.has_body = q->has_body,
		.dest = q->dest,
		.dest_len = q->dest_len,
		.once = q->once,
		.deadline_ns = deadline_ns,
		.stall_ns = stall_ns,
	};
	int r = build(s, q, s3_endpoints_url(s->nodes, node), &b);

	if (r < 0) {
		mfs_buf_clear(&reply->body);
		reply->status = 0;
		reply->err = r;
		reply->sent = false;
		snprintf(reply->reason, sizeof(reply->reason), "%s", strerror(-r));
	} else {
		x.url = mfs_buf_str(&b.url);
		x.headers = b.headers;
		x.n_headers = b.n;
		s3_http_exchange(s->http, op, &x, reply);
	}
	built_release(&b);
}
