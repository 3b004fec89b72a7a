/*
 * The S3 store: opening it, and what reads, hides and deletes. Uploads: s3_upload.c; lists: s3_list.c.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend/s3_internal.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "common/str.h"

#define CONNECTIONS 16
#define TIMEOUT_NS  (60 * MFS_NSEC_PER_SEC)
#define REQUEST_NS  (10 * MFS_NSEC_PER_SEC)
#define SWEEP_NS    (86400 * MFS_NSEC_PER_SEC)
#define PROBE_NS    (2 * MFS_NSEC_PER_SEC)
#define CAPACITY    (UINT64_C(1) << 50)

bool s3_version_may_be(const struct s3_store *s, const char *version)
{
	if (!strcmp(version, "null"))
		return true;
	/* MinIO's are UUIDs; it answers others with 400. */
	if (atomic_load(&s->is_minio) && (strlen(version) != 36 || strspn(version, "0123456789abcdef-") != 36))
		return false;
	if (!*version || *version == '.')
		return false;
	for (; *version; version++)
		if (!isalnum((unsigned char)*version) && !strchr("-_.+=", *version))
			return false;
	return true;
}

static bool key_is_legal(struct object_store *base, const char *key)
{
	return strlen(s3_place_of(s3_of(base), key)->prefix) + strlen(key) <= OBJECT_KEY_MAX;
}

/* --- reading --- */

/* 416: the object ends before the range. */
static ssize_t check_range(struct op_ctx *op, const struct object_ref *ref, uint64_t off, size_t len,
			   const struct s3_reply *reply)
{
	uint64_t end;
	const char *what = NULL;

	if (reply->status == 200 && off == 0 && reply->has_length && reply->got == reply->length)
		end = reply->length; /* the whole object, no longer than what was asked for */
	else if (reply->status != 206 || !reply->has_range)
		end = 0, what = "the answer is not for a range";
	else if (reply->first != off || reply->total > INT64_MAX)
		end = 0, what = "the answer is for another range";
	else
		end = MFS_MIN(off + len, reply->total);
	if (!what && reply->status == 206 && (reply->last + 1 != end || reply->got != end - off))
		what = "the answer has another length";
	if (!what && *reply->version && strcmp(reply->version, ref->version) != 0)
		what = "the answer is another version";
	if (!what)
		return (ssize_t)reply->got;
	mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, op, "s3 get key=%s version=%s off=%" PRIu64 " bytes=%zu: %s; asked again", ref->key,
		ref->version, off, len, what);
	return -EBADMSG;
}

static ssize_t s3_get(struct object_store *base, struct op_ctx *op, const struct object_ref *ref, uint64_t off, void *buf,
		      size_t len)
{
	struct s3_store *s = s3_of(base);
	struct s3_request q = { .method = "GET", .bucket = ref->bucket, .key = ref->key, .dest = buf, .dest_len = len };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_tries t;
	char range[64];
	int r;

	if (!s3_version_may_be(s, ref->version))
		return -ENOENT;
	if (!len)
		return 0;
	snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, off, off + len - 1);
	s3_query(&q, "versionId", ref->version);
	s3_header(&q, "range", range);
	s3_tries_begin(s, op, &t);
	for (;;) {
		ssize_t n;

		r = s3_run(s, op, &t, &q, &reply);
		if (r == -ERANGE)
			return 0;
		if (r == -EINVAL) /* an id of another kind than this server's */
			return -ENOENT;
		if (r)
			return r;
		n = check_range(op, ref, off, len, &reply);
		if (n != -EBADMSG)
			return n;
		r = s3_wait(s, op, &t);
		if (r < 0)
			return r;
	}
}

void s3_reply_info(const struct s3_reply *reply, const char *key, struct object_info *ret)
{
	*ret = (struct object_info){ .size = reply->length, .alloc = reply->length, .mtime = reply->modified };
	snprintf(ret->version, sizeof(ret->version), "%s", *reply->version ? reply->version : "null");
	memcpy(ret->etag, reply->etag, sizeof(ret->etag));
	s3_meta_parse(&reply->meta, key, ret);
}

int s3_head(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key, const char *version,
	    struct object_info *ret)
{
	struct s3_request q = { .method = "HEAD", .bucket = bucket, .key = key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	int r;

	if (version && !s3_version_may_be(s3_of(base), version))
		return -ENOENT;
	if (version)
		s3_query(&q, "versionId", version);
	r = s3_run_simple(s3_of(base), op, &q, &reply);
	if (r == -EINVAL || (version && r == -EIO && reply.status == 400))
		r = -ENOENT;
	if (r < 0)
		return r;
	if (!reply.has_length) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 head key=%s: the server tells no length", key);
		return -EIO;
	}
	s3_reply_info(&reply, key, ret);
	return 0;
}

/* --- hiding and deleting --- */

static int request_delete(struct s3_store *s, struct op_ctx *op, const char *bucket, const char *key, const char *version,
			  char *ret_marker)
{
	struct s3_request q = { .method = "DELETE", .bucket = bucket, .key = key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	int r;

	if (version)
		s3_query(&q, "versionId", version);
	r = s3_run_simple(s, op, &q, &reply);
	if (r == 0 && ret_marker)
		strcpy(ret_marker, reply.version);
	return r == -ENOENT || (version && r == -EINVAL) ? 0 : r;
}

/* The newest versions of exactly that key: the first two of them; *ret_n how many there are of these. */
static int newest_two(struct s3_store *s, struct op_ctx *op, const char *bucket, const char *key, struct object_info ret[2],
		      unsigned int *ret_n)
{
	S3_AUTO_LISTING struct s3_listing l = { 0 };
	struct s3_tries t;
	int r;

	s3_tries_begin(s, op, &t);
	r = s3_list_page(s, op, &t, bucket, NULL, key, NULL, NULL, 2, &l);
	*ret_n = 0;
	for (size_t i = 0; i < l.n && r == 0 && *ret_n < 2; i++) {
		if (strcmp(l.v[i].key, key) != 0)
			continue;
		ret[*ret_n] = (struct object_info){ .is_marker = l.v[i].marker };
		memcpy(ret[*ret_n].version, l.v[i].version, sizeof(l.v[i].version));
		*ret_n += 1;
	}
	return r;
}

/*
 * The version on top is about to go, and what is below must not come up: a marker covers it first. If another put came
 * in between, the marker is taken back.
 */
static int cover(struct s3_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	char marker[OBJECT_VERSION_MAX + 1];
	struct object_info two[2];
	unsigned int n;
	int r = newest_two(s, op, ref->bucket, ref->key, two, &n);

	if (r < 0 || n < 2 || strcmp(two[0].version, ref->version) != 0 || two[1].is_marker)
		return r;
	r = request_delete(s, op, ref->bucket, ref->key, NULL, marker);
	if (r < 0)
		return r;
	r = newest_two(s, op, ref->bucket, ref->key, two, &n);
	if (r == 0 && n == 2 && *marker && strcmp(two[0].version, marker) == 0 && !two[1].is_marker &&
	    strcmp(two[1].version, ref->version) != 0)
		r = request_delete(s, op, ref->bucket, ref->key, marker, NULL);
	return r;
}

/* Not stopped by a cancelled operation, nor by one that is late. */
static int s3_delete_version(struct object_store *base, struct op_ctx *op, const struct object_ref *ref)
{
	struct s3_store *s = s3_of(base);
	struct object_info top;
	int r = 0;

	(void)op;
	if (s->readonly)
		return -EROFS;
	if (!s3_version_may_be(s, ref->version))
		return 0;
	if (!s3_is_hidden(ref->key)) {
		r = s3_head(base, NULL, ref->bucket, ref->key, NULL, &top);
		if (r == 0 && strcmp(top.version, ref->version) == 0)
			r = cover(s, NULL, ref);
		else if (r == -ENOENT)
			r = 0;
	}
	return r < 0 ? r : request_delete(s, NULL, ref->bucket, ref->key, ref->version, NULL);
}

static int s3_put_marker(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key)
{
	struct s3_store *s = s3_of(base);
	struct object_info top;
	int r;

	if (s->readonly)
		return -EROFS;
	r = s3_head(base, op, bucket, key, NULL, &top);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* a marker over nothing would only be in the way */
	return request_delete(s, op, bucket, key, NULL, NULL);
}

/* All versions have ids. */
static int s3_hold(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key,
		   struct object_info *ret)
{
	int r = s3_head(base, op, bucket, key, NULL, ret);

	return r == 0 && ret->own ? -ENOENT : r;
}

/* --- the rest --- */

static int s3_statfs(struct object_store *base, struct op_ctx *op, struct object_statfs *ret)
{
	const struct s3_store *s = s3_of(base);

	(void)op;
	*ret = (struct object_statfs){
		.total = s->capacity, .free = s->capacity, .avail = s->capacity, .files = UINT32_MAX, .ffree = UINT32_MAX
	};
	return 0;
}

static void s3_free(struct object_store *base)
{
	struct s3_store *s = s3_of(base);

	s3_endpoints_free(s->nodes); /* its thread uses http */
	s3_http_free(s->http);
	s3_credentials_release(&s->credentials);
	s3_places_release(s);
	free((void *)(uintptr_t)s->from.access_key);
	free((void *)(uintptr_t)s->from.secret_key);
	free((void *)(uintptr_t)s->from.token);
	free((void *)(uintptr_t)s->from.passwd_file);
	free((void *)(uintptr_t)s->from.profile);
	free(s->bucket);
	free(s->region);
	free(s->prefix);
	free(s->storage_class);
	pthread_mutex_destroy(&s->lock.m);
	free(s);
}

static const struct object_store_ops s3_ops = {
	.name = "s3",
	.caps = OBJECT_CAP_KEY_HIDES,
	.free = s3_free,
	.key_is_legal = key_is_legal,
	.put = s3_put,
	.begin = s3_begin,
	.part = s3_part,
	.part_copy = s3_part_copy,
	.complete = s3_complete,
	.abort = s3_abort,
	.begin_named = s3_begin_named,
	.resume = s3_resume,
	.has_part = s3_has_part,
	.leave = s3_leave,
	.get = s3_get,
	.head = s3_head,
	.copy = s3_copy,
	.delete_version = s3_delete_version,
	.put_marker = s3_put_marker,
	.hold = s3_hold,
	.list_keys = s3_list_keys,
	.list_versions = s3_list_versions,
	.list_key = s3_list_key,
	.key_is_crowded = s3_key_is_crowded,
	.statfs = s3_statfs,
	.sweep = s3_sweep,
};

int s3_store_endpoints(struct object_store *base, s3_endpoint_fn *fn, void *arg)
{
	return base->ops == &s3_ops ? s3_endpoints_each(s3_of(base)->nodes, fn, arg) : -EOPNOTSUPP;
}

/* --- opening --- */

/* Anything it says, even 403, shows that it lives; an error of its own (5xx) does not. */
static bool probe(void *arg, const struct s3_url *url)
{
	struct s3_store *s = arg;
	MFS_AUTOFREE char *text = mfs_str_printf("%s://%s/", url->https ? "https" : "http", url->authority);
	struct s3_exchange x = { .method = "HEAD", .url = text, .deadline_ns = mfs_mono_ns() + PROBE_NS,
				 .stall_ns = PROBE_NS, .apart = true };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;

	if (!text)
		return false;
	s3_http_exchange(s->http, NULL, &x, &reply);
	return !reply.err && reply.status < 500;
}

static bool prefix_is_legal(const char *p)
{
	return !*p || (mfs_str_ends(p, "/") && *p != '/' && strlen(p) <= OBJECT_KEY_MAX / 2 && !strstr(p, "//") &&
		       mfs_utf8_valid(p, strlen(p)));
}

static bool bucket_is_legal(const char *b)
{
	size_t len = strlen(b);

	return len >= 3 && len <= 63 && strspn(b, "abcdefghijklmnopqrstuvwxyz0123456789.-") == len && isalnum((unsigned char)b[0]) &&
	       isalnum((unsigned char)b[len - 1]) && !strstr(b, "..");
}

static int copy_text(char **to, const char *text)
{
	*to = text ? strdup(text) : NULL;
	return text && !*to ? -ENOMEM : 0;
}

static int copy_options(struct s3_store *s, const struct s3_options *o)
{
	char *from[5] = { NULL };
	int r = copy_text(&s->bucket, o->bucket) | copy_text(&s->region, o->region ? o->region : "us-east-1") |
		copy_text(&s->prefix, o->prefix ? o->prefix : "") | copy_text(&s->storage_class, o->storage_class) |
		copy_text(&from[0], o->access_key) | copy_text(&from[1], o->secret_key) | copy_text(&from[2], o->token) |
		copy_text(&from[3], o->passwd_file) | copy_text(&from[4], o->profile);

	s->from = (struct s3_credentials_from){ from[0], from[1], from[2], from[3], from[4] };
	s->virtual_host = o->virtual_host;
	s->readonly = o->readonly;
	s->capacity = o->capacity ? o->capacity : CAPACITY;
	s->copy_part = o->copy_part ? MFS_MAX(o->copy_part, OBJECT_PART_MIN) : S3_COPY_PART;
	s->timeout_ns = o->timeout_ns ? o->timeout_ns : TIMEOUT_NS;
	s->request_ns = o->request_ns ? o->request_ns : REQUEST_NS;
	s->sweep_age_ns = o->sweep_age_ns ? o->sweep_age_ns : SWEEP_NS;
	atomic_store(&s->seed, (uint64_t)mfs_now_ns());
	return r ? -ENOMEM : 0;
}

static int check_options(const struct s3_store *s, char **ret_reason)
{
	for (unsigned int i = 0; i < s->n_places; i++) {
		const struct s3_place *p = &s->places[i];

		if (!bucket_is_legal(p->bucket))
			return mfs_fail(ret_reason, -EINVAL, "bucket %s: no legal name (3 to 63 of a-z 0-9 - .)", p->bucket);
		if (!prefix_is_legal(p->prefix))
			return mfs_fail(ret_reason, -EINVAL, "prefix %s: it must end with a slash and not begin with one", p->prefix);
	}
	for (size_t i = 0; i < s3_endpoints_count(s->nodes); i++)
		if (s->virtual_host && s3_endpoints_url(s->nodes, (unsigned int)i)->is_ip)
			return mfs_fail(ret_reason, -EINVAL, "endpoint %s: virtual-host addressing needs a name, not an address",
					s3_endpoints_url(s->nodes, (unsigned int)i)->authority);
	return 0;
}

int s3_store_open(const struct s3_options *opt, struct object_store **ret, char **ret_reason)
{
	struct s3_store *s;
	int r;

	if (!opt->bucket)
		return mfs_fail(ret_reason, -EINVAL, "bucket: none is given");
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->base.ops = &s3_ops;
	pthread_mutex_init(&s->lock.m, NULL);
	r = copy_options(s, opt);
	if (r == 0)
		r = s3_endpoints_new(opt->endpoints, probe, s, &s->nodes, ret_reason);
	if (r == 0)
		r = s3_places_parse(s, opt->places, ret_reason);
	if (r == 0)
		r = check_options(s, ret_reason);
	if (r == 0)
		r = s3_credentials_load(&s->from, &s->credentials, ret_reason);
	s->loaded_ns = mfs_mono_ns();
	if (r == 0)
		r = s3_http_new(opt->connections ? opt->connections : CONNECTIONS, opt->ca_file, &s->http);
	if (r == 0)
		r = s3_bucket_check(s, NULL, opt->create, ret_reason);
	if (r < 0) {
		s3_free(&s->base);
		return r;
	}
	*ret = &s->base;
	return 0;
}
