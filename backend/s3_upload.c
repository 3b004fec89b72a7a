/*
 * What makes versions: put, copy, and uploads in parts.
 *
 * None of these may be done twice: a second version would be one that no commit names. So a put or copy whose reply is
 * lost is looked for on top of its key (ours say who made them: ino, session, op). Only if it is not there is it sent
 * again, and then under the condition that the key is still as it was seen: whichever of the two arrives second is
 * refused. That another writer has come on top meanwhile shows in the list of versions after the success, and the
 * elder twin is deleted. (A HEAD, not the list, because a MinIO that has just lost a peer takes a minute to list.) Patches have keys of their own and carry the condition from the start. What overtakes
 * all this (a server that was frozen, woken after a second try) is found after the success and deleted; later still by the
 * reconciler. A complete names its upload and can only happen once.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend/s3_upload.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"

#define COPY_PART_MAX (UINT64_C(5) << 30)
#define FIND_TRIES    6

static void fill_info(const struct object_meta *meta, uint64_t size, const char *etag, const char *version,
		      struct object_info *ret)
{
	*ret = (struct object_info){
		.size = size,
		.alloc = size,
		.mtime = meta->mtime,
		.own = true,
		.ino = meta->ino,
		.session = meta->session,
		.op = meta->op,
		.mode = meta->mode & 0777u,
		.uid = meta->uid,
		.gid = meta->gid,
	};
	snprintf(ret->etag, sizeof(ret->etag), "%s", etag);
	snprintf(ret->version, sizeof(ret->version), "%s", version);
}

static void add_meta(struct s3_store *s, struct s3_request *q, const struct s3_meta_headers *m)
{
	const char *storage_class = s3_place_of(s, q->bucket ? NULL : q->key)->storage_class;

	for (size_t i = 0; i < m->n; i++)
		s3_header(q, m->pairs[i].name, m->pairs[i].value);
	if (storage_class)
		s3_header(q, "x-amz-storage-class", storage_class);
}

/* Every version needs an id of its own: "null" is overwritten by the next. */
static int check_version(struct s3_store *s, struct op_ctx *op, const char *key, const char *version)
{
	if (strcmp(version, "null") != 0)
		return 0;
	mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op,
		"s3 bucket=%s key=%s: the bucket keeps no versions any more; turn versioning on again", s->bucket, key);
	return -EIO;
}

/* 128 and above: it was told, and not yet asked. */
bool s3_note_put(struct s3_store *s, const char *key)
{
	_Atomic uint8_t *slot = &s->crowd[mfs_hash64(key, strlen(key)) % S3_CROWD_SLOTS];
	uint8_t n = atomic_load(slot);

	if (!strncmp(key, ".massfs/", 8) || n >= 128)
		return false;
	atomic_store(slot, n + 1 < S3_CROWD_PUTS ? (uint8_t)(n + 1) : 128); /* one that is lost counts for nothing */
	return n + 1 >= S3_CROWD_PUTS;
}

bool s3_key_is_crowded(struct object_store *base, const char *key)
{
	_Atomic uint8_t *slot = &s3_of(base)->crowd[mfs_hash64(key, strlen(key)) % S3_CROWD_SLOTS];
	uint8_t told = 128;

	return atomic_compare_exchange_strong(slot, &told, 0);
}

/* --- put and copy --- */

struct once {
	struct s3_store *s;
	struct op_ctx *op;
	struct s3_request *q;
	const struct object_meta *meta;
	uint64_t size;
	struct s3_tries t;
	size_t n_plain;	    /* headers without a condition */
	bool conditions;    /* the server knows them for this request */
	char match[OBJECT_ETAG_MAX + 3];
};

static void set_condition(struct once *o, const char *top)
{
	o->q->n_headers = o->n_plain;
	if (!o->conditions)
		return;
	if (*top) {
		snprintf(o->match, sizeof(o->match), "\"%.*s\"", OBJECT_ETAG_MAX, top);
		s3_header(o->q, "if-match", o->match);
	} else {
		s3_header(o->q, "if-none-match", "*");
	}
}

/* 0: it is there, *ret; -ENOENT: it is not, and the request may be sent again. */
static int look_for_it(struct once *o, struct object_info *ret)
{
	char top[OBJECT_ETAG_MAX + 1];
	int r = s3_find_top(o->s, o->op, &o->t, o->q->bucket, o->q->key, o->meta, o->size, ret, top);

	if (r == -ENOENT)
		set_condition(o, top);
	return r;
}

static void delete_twins(struct once *o, const char *version)
{
	struct object_info info;
	int r = s3_find_own(o->s, o->op, &o->t, o->q->bucket, o->q->key, o->meta, o->size, NULL, version, &info);

	if (r < 0 && r != -ENOENT)
		mfs_debug(MFS_LOG_STORE, o->op, "s3 key=%s: twins not looked for r=%d", o->q->key, r);
}

/* Carried out exactly once. *ret_version, or *ret_found when it was in the list. */
static int run_once(struct once *o, struct s3_reply *reply, struct object_info *ret_found, bool *ret_is_found)
{
	bool unknown = false;
	int r;

	o->q->once = true;
	o->n_plain = o->q->n_headers;
	*ret_is_found = false;
	s3_tries_begin(o->s, o->op, &o->t);
	if (s3_is_hidden(o->q->key))
		set_condition(o, "");
	for (;;) {
		r = s3_run(o->s, o->op, &o->t, o->q, reply);
		if (r == 0 && *reply->version) {
			if (unknown)
				delete_twins(o, reply->version);
			return 0;
		}
		if (r == -EOPNOTSUPP && o->q->n_headers > o->n_plain) {
			o->conditions = false;
			o->q->n_headers = o->n_plain;
			continue;
		}
		if (r != 0 && r != S3_UNKNOWN && r != -EEXIST)
			return r;
		unknown = true;
		r = look_for_it(o, ret_found);
		if (r == 0)
			*ret_is_found = true;
		if (r != -ENOENT)
			return r;
		r = s3_wait(o->s, o->op, &o->t);
		if (r < 0) {
			mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, o->op, "s3 %s key=%s: no answer that is sure before the deadline (%s)",
				o->q->method, o->q->key, reply->reason);
			return r;
		}
	}
}

int s3_put(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key, const void *buf, size_t len,
	   const struct object_meta *meta, struct object_info *ret)
{
	struct s3_store *s = s3_of(base);
	struct s3_request q = { .method = "PUT", .bucket = bucket, .key = key, .body = buf, .body_len = len, .has_body = true };
	struct once o = { .s = s, .op = op, .q = &q, .meta = meta, .size = len, .conditions = true };
	char crc[S3_CRC_TEXT], etag[MFS_CHECKSUM_ETAG_MAX];
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_meta_headers m;
	struct object_info found;
	bool is_found;
	int r;

	if (s->readonly)
		return -EROFS;
	mfs_checksum_etag(mfs_checksum(buf, len), etag);
	s3_meta_format(meta, key, etag, &m);
	add_meta(s, &q, &m);
	s3_checksum(&q, crc);
	r = run_once(&o, &reply, &found, &is_found);
	if (r == 0)
		r = check_version(s, op, key, is_found ? found.version : reply.version);
	if (r < 0)
		return r == -ENOENT ? -EIO : r;
	fill_info(meta, len, etag, is_found ? found.version : reply.version, ret);
	ret->crowded = s3_note_put(s, key);
	return 0;
}

int s3_copy_source(const struct s3_store *s, const struct object_ref *src, struct mfs_buf *ret)
{
	const struct s3_place *place = s3_place_of(s, src->bucket ? NULL : src->key);

	mfs_buf_printf(ret, "/%s/", src->bucket ? src->bucket : place->bucket);
	s3_full_key(place, src->key, ret);
	mfs_buf_puts(ret, "?versionId=");
	return s3_url_encode(ret, src->version, false);
}

static int copy_small(struct s3_store *s, struct op_ctx *op, const struct object_ref *src, const char *bucket,
		      const char *key, const struct object_meta *meta, const struct object_info *from, struct object_info *ret)
{
	MFS_AUTOBUF struct mfs_buf source = MFS_BUF_INIT(8192);
	struct s3_request q = { .method = "PUT", .bucket = bucket, .key = key, .has_body = true, .heavy = true,
				.moves = from->size };
	struct once o = { .s = s, .op = op, .q = &q, .meta = meta, .size = from->size };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_meta_headers m;
	struct object_info found;
	bool is_found;
	uint64_t sum;
	int r;

	s3_meta_format(meta, key, mfs_checksum_parse(from->etag, &sum) ? from->etag : NULL, &m);
	add_meta(s, &q, &m);
	r = s3_copy_source(s, src, &source);
	if (r < 0)
		return r;
	q.may_fail_late = true;
	s3_header(&q, "x-amz-copy-source", mfs_buf_str(&source));
	s3_header(&q, "x-amz-metadata-directive", "REPLACE");
	r = run_once(&o, &reply, &found, &is_found);
	if (r == 0)
		r = check_version(s, op, key, is_found ? found.version : reply.version);
	if (r < 0)
		return r;
	fill_info(meta, from->size, from->own ? from->etag : "", is_found ? found.version : reply.version, ret);
	ret->crowded = s3_note_put(s, key);
	return 0;
}

/* --- uploads in parts --- */

void s3_upload_free(struct s3_upload *u)
{
	cell_sums_release(&u->sums);
	pthread_mutex_destroy(&u->lock.m);
	free(u->bucket);
	free(u->key);
	free(u->id);
	free(u->parts);
	free(u);
}

struct s3_upload *s3_upload_new(struct s3_store *s, const char *bucket, const char *key,
				const struct object_meta *meta)
{
	struct s3_upload *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->base.store = &s->base;
	u->meta = *meta;
	pthread_mutex_init(&u->lock.m, NULL);
	cell_sums_init(&u->sums);
	u->bucket = bucket ? strdup(bucket) : NULL;
	u->key = strdup(key);
	if (!u->key || (bucket && !u->bucket)) {
		s3_upload_free(u);
		return NULL;
	}
	return u;
}

/* sum: of the content, where it is known already. */
static int begin(struct s3_store *s, struct op_ctx *op, const char *bucket, const char *key, const struct object_meta *meta,
		 const char *sum, struct s3_upload **ret)
{
	struct s3_request q = { .method = "POST", .bucket = bucket, .key = key, .has_body = true };
	struct s3_upload *u = s3_upload_new(s, bucket, key, meta);
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_result res = { 0 };
	struct s3_meta_headers m;
	int r;

	if (!u)
		return -ENOMEM;
	s3_query(&q, "uploads", "");
	s3_meta_format(meta, key, sum, &m);
	add_meta(s, &q, &m);
	/* With it MinIO takes no copied parts; without it, it verifies each part's checksum all the same. */
	if (!atomic_load(&s->is_minio))
		s3_header(&q, "x-amz-checksum-algorithm", "CRC32C");
	r = s3_run_simple(s, op, &q, &reply);
	if (r == 0)
		r = s3_xml_result(reply.body.data, reply.body.len, &res);
	if (r == 0 && !*res.upload)
		r = -EBADMSG;
	if (r == 0) {
		u->id = strdup(res.upload);
		r = u->id ? 0 : -ENOMEM;
	}
	if (r == -EBADMSG) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 upload key=%s: the server's answer is not understood", key);
		r = -EIO;
	}
	if (r < 0) {
		s3_upload_free(u);
		return r == -ENOENT ? -EIO : r;
	}
	u->kms = reply.kms;
	u->checksums = q.n_headers > m.n && !strcmp(q.headers[q.n_headers - 1].name, "x-amz-checksum-algorithm");
	*ret = u;
	return 0;
}

int s3_begin(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key,
	     const struct object_meta *meta, struct object_upload **ret)
{
	struct s3_upload *u;
	int r;

	if (s3_of(base)->readonly)
		return -EROFS;
	r = begin(s3_of(base), op, bucket, key, meta, NULL, &u);
	if (r == 0)
		*ret = &u->base;
	return r;
}

int s3_note_part(struct s3_upload *u, unsigned int number, uint64_t off, uint64_t len, const char *etag, const char *crc)
{
	struct s3_sent *p;

	MFS_GUARD(&u->lock);
	if (number > u->room) {
		size_t room = MFS_MIN(MFS_MAX((size_t)number, u->room * 2 + 16), (size_t)S3_PART_MAX);

		p = realloc(u->parts, room * sizeof(*p));
		if (!p)
			return -ENOMEM;
		memset(p + u->room, 0, (room - u->room) * sizeof(*p));
		u->parts = p;
		u->room = room;
	}
	u->n_parts = MFS_MAX(u->n_parts, (size_t)number);
	p = &u->parts[number - 1];
	*p = (struct s3_sent){ .off = off, .len = len };
	snprintf(p->etag, sizeof(p->etag), "%s", etag);
	snprintf(p->crc, sizeof(p->crc), "%s", crc);
	return 0;
}

static int part_error(struct s3_upload *u, struct op_ctx *op, const struct s3_reply *reply, int r)
{
	if (r != -ENOENT || strcmp(reply->code, "NoSuchUpload") != 0)
		return r;
	mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 upload key=%s: the server does not know the upload any more", u->key);
	return -EIO;
}

int s3_part(struct object_upload *base, struct op_ctx *op, unsigned int number, uint64_t off, const void *buf, size_t len)
{
	struct s3_upload *u = s3_upload_of(base);
	struct s3_request q = { .method = "PUT", .bucket = u->bucket, .key = u->key, .body = buf, .body_len = len,
				.has_body = true };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	char text[16], crc[S3_CRC_TEXT];
	int r;

	if (!len)
		return 0;
	if (number > S3_PART_MAX)
		return -EFBIG;
	snprintf(text, sizeof(text), "%u", number);
	s3_query(&q, "partNumber", text);
	s3_query(&q, "uploadId", u->id);
	s3_checksum(&q, crc);
	cell_sums_forget(&u->sums, off, len);
	r = s3_run_simple(s3_of(base->store), op, &q, &reply);
	if (r == 0 && !*reply.etag) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 upload key=%s: the server gave no etag for part %u", u->key, number);
		r = -EIO;
	}
	if (r == 0)
		r = s3_note_part(u, number, off, len, reply.etag, crc);
	if (r < 0)
		return part_error(u, op, &reply, r);
	cell_sums_learn(&u->sums, off, buf, len);
	return 0;
}

int s3_part_copy(struct object_upload *base, struct op_ctx *op, unsigned int number, uint64_t off,
		 const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	struct s3_upload *u = s3_upload_of(base);
	struct s3_request q = { .method = "PUT", .bucket = u->bucket, .key = u->key, .has_body = true, .heavy = true,
				.moves = len, .may_fail_late = true };
	MFS_AUTOBUF struct mfs_buf source = MFS_BUF_INIT(8192);
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_result res = { 0 };
	char text[16], range[64];
	int r;

	if (!s3_version_may_be(s3_of(base->store), src->version))
		return -ENOENT;
	if (!len)
		return 0;
	if (number > S3_PART_MAX || len > COPY_PART_MAX)
		return -EFBIG;
	snprintf(text, sizeof(text), "%u", number);
	snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, src_off, src_off + len - 1);
	s3_query(&q, "partNumber", text);
	s3_query(&q, "uploadId", u->id);
	r = s3_copy_source(s3_of(base->store), src, &source);
	if (r < 0)
		return r;
	s3_header(&q, "x-amz-copy-source", mfs_buf_str(&source));
	s3_header(&q, "x-amz-copy-source-range", range);
	cell_sums_forget(&u->sums, off, len);
	r = s3_run_simple(s3_of(base->store), op, &q, &reply);
	if (r == 0 && (s3_xml_result(reply.body.data, reply.body.len, &res) < 0 || !*res.etag)) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 upload key=%s: the answer to the copy of part %u is not understood",
			u->key, number);
		r = -EIO;
	}
	if (r == 0)
		return s3_note_part(u, number, off, len, res.etag, res.crc32c);
	return r == -ERANGE ? -EINVAL : part_error(u, op, &reply, r);
}

/* --- the end of an upload --- */

/* The parts meet, end at size, and are as long as S3 wants them. */
static int check_parts(struct s3_upload *u, uint64_t size)
{
	uint64_t at = 0;

	for (size_t i = 0; i < u->n_parts; i++) {
		const struct s3_sent *p = &u->parts[i];

		if (!*p->etag)
			continue;
		if (p->off != at || (at + p->len < size && p->len < OBJECT_PART_MIN))
			return -EINVAL;
		at += p->len;
	}
	return at == size ? 0 : -EINVAL;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* md5 of the parts' md5s, "-" and their number; "" when the etags are no md5. */
static int expected_etag(struct s3_upload *u, char ret[static OBJECT_ETAG_MAX + 1])
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(S3_PART_MAX * S3_MD5_LEN);
	unsigned char digest[S3_MD5_LEN];
	unsigned int n = 0;
	int r;

	*ret = '\0';
	for (size_t i = 0; i < u->n_parts; i++) {
		const char *e = u->parts[i].etag;

		if (!*e)
			continue;
		if (u->kms || strlen(e) != 2 * S3_MD5_LEN)
			return 0;
		for (size_t k = 0; k < S3_MD5_LEN; k++) {
			int hi = hex_value(e[2 * k]), lo = hex_value(e[2 * k + 1]);

			if (hi < 0 || lo < 0)
				return 0;
			mfs_buf_putc(&b, (char)(hi << 4 | lo));
		}
		n++;
	}
	r = b.err ? b.err : s3_md5(b.data, b.len, digest);
	for (size_t i = 0; i < S3_MD5_LEN && r == 0; i++)
		sprintf(ret + 2 * i, "%02x", digest[i]);
	if (r == 0)
		sprintf(ret + 2 * S3_MD5_LEN, "-%u", n);
	return r;
}

static int complete_text(struct s3_upload *u, struct mfs_buf *b)
{
	mfs_buf_puts(b, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < u->n_parts; i++) {
		const struct s3_sent *p = &u->parts[i];

		if (!*p->etag)
			continue;
		mfs_buf_printf(b, "<Part><PartNumber>%zu</PartNumber><ETag>\"%s\"</ETag>", i + 1, p->etag);
		if (*p->crc && u->checksums)
			mfs_buf_printf(b, "<ChecksumCRC32C>%s</ChecksumCRC32C>", p->crc);
		mfs_buf_puts(b, "</Part>");
	}
	return mfs_buf_puts(b, "</CompleteMultipartUpload>");
}

/* After a lost reply: the version that this upload became. It may take the server a moment. */
static int find_completed(struct s3_upload *u, struct op_ctx *op, struct s3_tries *t, uint64_t size, const char *etag,
			  struct object_info *ret)
{
	struct s3_store *s = s3_of(u->base.store);

	for (unsigned int i = 0;; i++) {
		int r = s3_find_own(s, op, t, u->bucket, u->key, &u->meta, size, *etag && !u->resumed ? etag : NULL, NULL, ret);

		if (r != -ENOENT)
			return r;
		if (i == FIND_TRIES) {
			mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op,
				"s3 upload key=%s: the server knows neither the upload nor what became of it", u->key);
			return -EIO;
		}
		r = s3_wait(s, op, t);
		if (r < 0)
			return r;
	}
}

static void delete_wrong(struct s3_upload *u, const char *version)
{
	struct s3_request q = { .method = "DELETE", .bucket = u->bucket, .key = u->key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;

	s3_query(&q, "versionId", version);
	if (s3_run_simple(s3_of(u->base.store), NULL, &q, &reply) < 0)
		mfs_debug(MFS_LOG_STORE, NULL, "s3 upload key=%s: the wrong version stays", u->key);
}

/* Carried out; *ret_version (of OBJECT_VERSION_MAX + 1 bytes) is what it became. */
static int run_complete(struct s3_upload *u, struct op_ctx *op, uint64_t size, char *ret_version)
{
	struct s3_store *s = s3_of(u->base.store);
	struct s3_request q = { .method = "POST", .bucket = u->bucket, .key = u->key, .has_body = true, .heavy = true,
				.once = true, .may_fail_late = true };
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(4 << 20);
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	char want[OBJECT_ETAG_MAX + 1];
	struct object_info found;
	struct s3_result res = { 0 };
	struct s3_tries t;
	int r = expected_etag(u, want);

	if (r == 0)
		r = complete_text(u, &text);
	if (r < 0)
		return r;
	q.body = text.data;
	q.body_len = text.len;
	s3_query(&q, "uploadId", u->id);
	s3_tries_begin(s, op, &t);
	for (;;) {
		r = s3_run(s, op, &t, &q, &reply);
		if (r != S3_UNKNOWN)
			break;
		r = s3_wait(s, op, &t); /* naming its upload it can be asked for again */
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = s3_xml_result(reply.body.data, reply.body.len, &res);
	if (r == -EBADMSG || r == -ENOENT || (r == 0 && !*reply.version)) {
		r = find_completed(u, op, &t, size, want, &found);
		if (r == 0)
			strcpy(ret_version, found.version);
		return r;
	}
	if (r < 0)
		return r;
	strcpy(ret_version, reply.version);
	if (*want && *res.etag && !reply.kms && strcmp(want, res.etag) != 0) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 upload key=%s: the object's etag is %s, its parts make %s; deleted",
			u->key, res.etag, want);
		delete_wrong(u, reply.version);
		return -EIO;
	}
	return 0;
}

/* Copies are not read back for a checksum. */
static int unknown_cell(void *arg, uint64_t off, uint64_t len, uint64_t *ret_sum)
{
	(void)arg;
	(void)off;
	(void)len;
	(void)ret_sum;
	return -ENODATA;
}

int s3_complete(struct object_upload *base, struct op_ctx *op, uint64_t size, const struct object_meta *meta,
		struct object_info *ret)
{
	struct s3_upload *u = s3_upload_of(base);
	char version[OBJECT_VERSION_MAX + 1], etag[MFS_CHECKSUM_ETAG_MAX] = "";
	int r = check_parts(u, size);

	if (r == 0 && size == 0) { /* an upload without parts is none to S3 */
		r = s3_put(base->store, op, u->bucket, u->key, "", 0, meta, ret);
		s3_abort(base, op);
		return r;
	}
	if (r == 0)
		r = run_complete(u, op, size, version);
	if (r == 0)
		r = check_version(s3_of(base->store), op, u->key, version);
	if (r == 0 && cell_sums_etag(&u->sums, size, unknown_cell, NULL, etag) < 0)
		etag[0] = '\0';
	if (r < 0) {
		s3_abort(base, op);
		return r;
	}
	fill_info(meta, size, etag, version, ret);
	ret->crowded = s3_note_put(s3_of(base->store), u->key);
	s3_upload_free(u);
	return 0;
}

/* Also for an operation that is cancelled or late: it is how one is cleaned up after. What fails here is swept later. */
void s3_abort(struct object_upload *base, struct op_ctx *op)
{
	struct s3_upload *u = s3_upload_of(base);
	struct s3_store *s = s3_of(base->store);
	struct s3_request q = { .method = "DELETE", .bucket = u->bucket, .key = u->key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_tries t;
	int r;

	s3_query(&q, "uploadId", u->id);
	s3_tries_begin(s, NULL, &t);
	t.deadline_ns = mfs_mono_ns() + s->request_ns;
	r = s3_run(s, NULL, &t, &q, &reply);
	if (r < 0 && r != -ENOENT)
		mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, op, "s3 upload key=%s: not aborted (%s); gc sweeps it", u->key,
			strerror(-r));
	s3_upload_free(u);
}

/* --- copies of any size --- */

static int copy_big(struct s3_store *s, struct op_ctx *op, const struct object_ref *src, const char *bucket,
		    const char *key, const struct object_meta *meta, const struct object_info *from, struct object_info *ret)
{
	uint64_t step = MFS_MAX(s->copy_part, from->size / (S3_PART_MAX - 1) + 1), off = 0, sum;
	bool summed = from->own && mfs_checksum_parse(from->etag, &sum);
	struct s3_upload *u;
	unsigned int n = 1;
	int r = begin(s, op, bucket, key, meta, summed ? from->etag : NULL, &u);

	if (r < 0)
		return r;
	for (; off < from->size && r == 0; off += step, n++)
		r = s3_part_copy(&u->base, op, n, off, src, off, MFS_MIN(step, from->size - off));
	if (r < 0) {
		s3_abort(&u->base, op);
		return r;
	}
	r = s3_complete(&u->base, op, from->size, meta, ret);
	if (r == 0 && summed)
		memcpy(ret->etag, from->etag, sizeof(ret->etag));
	return r;
}

int s3_copy(struct object_store *base, struct op_ctx *op, const struct object_ref *src, const char *bucket, const char *key,
	    const struct object_meta *meta, struct object_info *ret)
{
	struct s3_store *s = s3_of(base);
	struct object_info from;
	int r;

	if (s->readonly)
		return -EROFS;
	if (!s3_version_may_be(s, src->version))
		return -ENOENT;
	r = s3_head(base, op, src->bucket, src->key, src->version, &from);
	if (r < 0)
		return r;
	return from.size <= 2 * s->copy_part ? copy_small(s, op, src, bucket, key, meta, &from, ret)
					: copy_big(s, op, src, bucket, key, meta, &from, ret);
}
