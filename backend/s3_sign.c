/*
 * Signature Version 4 by OpenSSL's HMAC. The tests are AWS's published examples (tests/unit/test_s3_sign.c).
 */
#include "backend/s3_sign.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "backend/s3_url.h"
#include "common/clock.h"

#define SHA 32
#define REQUEST_MAX (64 << 10)

static void put_hex(const unsigned char *in, size_t len, char *out)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = hex[in[i] >> 4];
		out[2 * i + 1] = hex[in[i] & 15];
	}
	out[2 * len] = '\0';
}

int s3_sha256_hex(const void *data, size_t len, char ret[static S3_SHA256_HEX])
{
	unsigned char digest[SHA];

	if (!EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL))
		return -EIO;
	put_hex(digest, SHA, ret);
	return 0;
}

int s3_md5(const void *data, size_t len, unsigned char ret[static S3_MD5_LEN])
{
	return EVP_Digest(data, len, ret, NULL, EVP_md5(), NULL) ? 0 : -EIO;
}

void s3_sign_date(int64_t wall_ns, char ret[static 17])
{
	time_t t = (time_t)(wall_ns / MFS_NSEC_PER_SEC);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(ret, 17, "%Y%m%dT%H%M%SZ", &tm);
}

static int hmac(const unsigned char *key, size_t key_len, const char *text, unsigned char ret[static SHA])
{
	unsigned int len = SHA;

	return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, strlen(text), ret, &len) ? 0 : -EIO;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int s3_sign_query(const struct s3_pair *params, size_t n, struct mfs_buf *ret)
{
	char *text[S3_SIGN_MAX] = { NULL };
	int r = n > S3_SIGN_MAX ? -EINVAL : 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		MFS_AUTOBUF struct mfs_buf one = MFS_BUF_INIT(REQUEST_MAX);

		s3_url_encode(&one, params[i].name, false);
		/* So that "a" sorts before "a-b": '=' is behind '-' but the name alone counts. */
		mfs_buf_putc(&one, '\1');
		s3_url_encode(&one, params[i].value, false);
		text[i] = mfs_buf_take(&one);
		r = one.err ? one.err : text[i] ? 0 : -ENOMEM;
	}
	if (r == 0) {
		qsort(text, n, sizeof(*text), by_text);
		for (size_t i = 0; i < n; i++) {
			*strchr(text[i], '\1') = '=';
			if (i)
				mfs_buf_putc(ret, '&');
			mfs_buf_puts(ret, text[i]);
		}
		r = ret->err;
	}
	for (size_t i = 0; i < MFS_MIN(n, (size_t)S3_SIGN_MAX); i++)
		free(text[i]);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct s3_pair *)a)->name, ((const struct s3_pair *)b)->name);
}

/* Without the blanks around it, and one for several within. */
static void put_trimmed(struct mfs_buf *b, const char *value)
{
	bool blank = false, any = false;

	for (; *value; value++) {
		if (*value == ' ' || *value == '\t') {
			blank = true;
			continue;
		}
		if (blank && any)
			mfs_buf_putc(b, ' ');
		blank = false;
		any = true;
		mfs_buf_putc(b, *value);
	}
}

static void put_names(struct mfs_buf *b, const struct s3_pair *sorted, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i)
			mfs_buf_putc(b, ';');
		mfs_buf_puts(b, sorted[i].name);
	}
}

static int canonical_hash(const struct s3_to_sign *t, const struct s3_pair *sorted, char ret[static S3_SHA256_HEX])
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(REQUEST_MAX);

	mfs_buf_printf(&b, "%s\n%s\n%s\n", t->method, t->path, t->query);
	for (size_t i = 0; i < t->n_headers; i++) {
		mfs_buf_puts(&b, sorted[i].name);
		mfs_buf_putc(&b, ':');
		put_trimmed(&b, sorted[i].value);
		mfs_buf_putc(&b, '\n');
	}
	mfs_buf_putc(&b, '\n');
	put_names(&b, sorted, t->n_headers);
	mfs_buf_printf(&b, "\n%s", t->payload);
	return b.err ? b.err : s3_sha256_hex(b.data, b.len, ret);
}

/* HMAC over date, region, service, "aws4_request": the key of one day. */
static int signing_key(const struct s3_to_sign *t, unsigned char ret[static SHA])
{
	MFS_AUTOBUF struct mfs_buf first = MFS_BUF_INIT(4096);
	char day[9];
	int r;

	memcpy(day, t->date, 8);
	day[8] = '\0';
	mfs_buf_puts(&first, "AWS4");
	mfs_buf_puts(&first, t->secret_key);
	r = first.err;
	if (r == 0)
		r = hmac((const unsigned char *)first.data, first.len, day, ret);
	if (first.data)
		OPENSSL_cleanse(first.data, first.len);
	if (r == 0)
		r = hmac(ret, SHA, t->region, ret);
	if (r == 0)
		r = hmac(ret, SHA, "s3", ret);
	return r == 0 ? hmac(ret, SHA, "aws4_request", ret) : r;
}

int s3_sign(const struct s3_to_sign *t, struct mfs_buf *ret)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(4096);
	struct s3_pair sorted[S3_SIGN_MAX];
	unsigned char key[SHA], signature[SHA];
	char hash[S3_SHA256_HEX], hex[S3_SHA256_HEX];
	int r;

	if (t->n_headers > S3_SIGN_MAX || strlen(t->date) != 16)
		return -EINVAL;
	memcpy(sorted, t->headers, t->n_headers * sizeof(*sorted));
	qsort(sorted, t->n_headers, sizeof(*sorted), by_name);
	r = canonical_hash(t, sorted, hash);
	if (r < 0)
		return r;
	mfs_buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/s3/aws4_request\n%s", t->date, t->date, t->region, hash);
	r = text.err ? text.err : signing_key(t, key);
	if (r == 0)
		r = hmac(key, SHA, mfs_buf_str(&text), signature);
	OPENSSL_cleanse(key, sizeof(key));
	if (r < 0)
		return r;
	put_hex(signature, SHA, hex);
	mfs_buf_printf(ret, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/s3/aws4_request,SignedHeaders=", t->access_key, t->date,
		       t->region);
	put_names(ret, sorted, t->n_headers);
	mfs_buf_printf(ret, ",Signature=%s", hex);
	return ret->err;
}
