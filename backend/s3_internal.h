/*
 * What the s3_*.c files share: the client (a bucket reached through nodes), a request, and how it is carried out.
 */
#ifndef MASSFS_BACKEND_S3_INTERNAL_H
#define MASSFS_BACKEND_S3_INTERNAL_H

#include <stdatomic.h>
#include <string.h>

#include "backend/object_store.h"
#include "backend/s3_credentials.h"
#include "backend/s3_endpoints.h"
#include "backend/s3_http.h"
#include "backend/s3_meta.h"
#include "backend/s3_sign.h"
#include "backend/s3_xml.h"
#include "common/sync.h"

#define S3_PART_MAX  10000u
/* Of a copy; what is more than two of them is copied in parts, so that each request has an end in sight (S3 itself wants that
 * above 5 GiB). */
#define S3_COPY_PART (UINT64_C(128) << 20)

#define S3_CROWD_SLOTS 8192
#define S3_CROWD_PUTS  32 /* so many of one key, and it is looked at */

#define S3_PLACES_MAX  32

/* Where keys whose path is `path` or below are. The first is the volume's own, with path "". */
struct s3_place {
	char *path, *bucket, *prefix, *storage_class; /* the last may be NULL */
};

struct s3_store {
	struct object_store base;
	struct s3_place places[S3_PLACES_MAX]; /* constant after opening */
	unsigned int n_places;
	struct s3_http *http;
	struct s3_endpoints *nodes;
	char *bucket, *region, *prefix, *storage_class;
	bool virtual_host, readonly;
	uint64_t capacity, copy_part;
	int64_t timeout_ns, request_ns, sweep_age_ns;
	struct s3_credentials_from from; /* strings owned */
	struct mfs_mutex lock;		 /* guards credentials; a leaf */
	struct s3_credentials credentials;
	int64_t loaded_ns;	  /* monotonic, when credentials were read */
	_Atomic int64_t clock_ns; /* to be added to our wall time: what the server's clock says */
	_Atomic uint64_t seed;	  /* of the jitter */
	_Atomic int64_t slow_until_ns; /* monotonic: until then requests are given more time (s3_allowance()) */
	_Atomic bool is_minio; /* it said so */
	_Atomic uint8_t crowd[S3_CROWD_SLOTS]; /* puts by hash of the key (s3_note_put()) */
	_Atomic bool no_list_meta; /* metadata in lists is MinIO's; other servers need a HEAD for each version */
};

static inline struct s3_store *s3_of(struct object_store *s)
{
	return mfs_container_of(s, struct s3_store, base);
}

/* Never on show: who asks for keys takes what he gets for files. */
static inline bool s3_is_hidden(const char *key)
{
	return !strncmp(key, OBJECT_HIDDEN_PREFIX, sizeof(OBJECT_HIDDEN_PREFIX) - 1) ||
	       !strncmp(key, OBJECT_VERSIONS_PREFIX, sizeof(OBJECT_VERSIONS_PREFIX) - 1);
}

#define S3_QUERY_MAX   10
#define S3_HEADERS_MAX 20

/* To be built with the functions below; texts are borrowed until the request is carried out. */
struct s3_request {
	const char *method;
	const char *bucket; /* NULL: that of the place */
	const char *key;    /* without the prefix; NULL: the bucket itself */
	const struct s3_place *place; /* NULL: that of the key, else the volume's */
	struct s3_pair query[S3_QUERY_MAX];
	size_t n_query;
	struct s3_pair headers[S3_HEADERS_MAX]; /* signed, all */
	size_t n_headers;
	const void *body;
	size_t body_len;
	bool has_body;
	const char *payload; /* hex SHA-256 of the body; NULL: unsigned, a checksum header stands for it */
	void *dest;
	size_t dest_len;
	bool once;  /* doing it twice would not be the same */
	bool heavy;	/* the server works in silence before it answers, */
	uint64_t moves; /* on so many bytes */
	bool quiet;	    /* the caller tells of errors */
	bool may_fail_late; /* status 200 may come with an Error in the body */
};
void s3_query(struct s3_request *q, const char *name, const char *value);
void s3_header(struct s3_request *q, const char *name, const char *value);
/* x-amz-checksum-crc32c of the body; buf holds the text. */
#define S3_CRC_TEXT 12
void s3_checksum(struct s3_request *q, char buf[static S3_CRC_TEXT]);
int s3_content_md5(struct s3_request *q, char buf[static 32]) MFS_NODISCARD; /* what POST ?delete needs */

/* How long an attempt may take, apart from the call's deadline. */
int64_t s3_allowance(const struct s3_store *s, const struct s3_request *q, bool again);
/* One attempt at node i: signed, sent, answered. Only reply->err tells of failure. */
void s3_attempt(struct s3_store *s, struct op_ctx *op, const struct s3_request *q, unsigned int node, int64_t deadline_ns,
		int64_t stall_ns, struct s3_reply *reply);

/* The attempts of one call, inside one deadline. */
struct s3_tries {
	int64_t deadline_ns;
	bool own_deadline; /* it is the store's: the op had none */
	unsigned int n;
	int last; /* the node that failed, or -1 */
	unsigned int timed_out; /* attempts */
	bool reloaded; /* credentials, once */
	bool fixed_clock;
};
void s3_tries_begin(struct s3_store *s, struct op_ctx *op, struct s3_tries *t);

#define S3_UNKNOWN 1 /* a request that is to be done once may have been done, or not */
/*
 * Carried out until there is an answer that stands: 0 (2xx), S3_UNKNOWN (q->once only), or -errno, logged where the seam
 * says so. The answer is in *reply also when it fails.
 */
int s3_run(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const struct s3_request *q,
	   struct s3_reply *reply) MFS_NODISCARD;
/* With its own tries. */
int s3_run_simple(struct s3_store *s, struct op_ctx *op, const struct s3_request *q, struct s3_reply *reply) MFS_NODISCARD;
/* Wait before the next try. 0, -ECANCELED, -ETIMEDOUT or -EIO (time is up). */
int s3_wait(struct s3_store *s, struct op_ctx *op, struct s3_tries *t) MFS_NODISCARD;

/* --- errors --- */

enum s3_class {
	S3_FINAL,  /* that is the answer */
	S3_AGAIN,  /* busy, broken: later, elsewhere */
	S3_KEYS,   /* credentials may have changed */
	S3_CLOCK,  /* ours is wrong */
};
/* Of an answer that is no success. code: of the XML, of a header, or "". */
enum s3_class s3_classify(int status, const char *code, int *ret_errno);
/* Reads code and message of an error answer into reply->code, reply->reason. */
void s3_read_error(struct s3_reply *reply);
/* A 2xx whose body is an Error (copy, complete): then its code is in the reply. */
bool s3_is_error_body(struct s3_reply *reply);

/* --- lists (s3_list.c) --- */

/* The whole key, with the prefix of its place, encoded for a URL. */
int s3_full_key(const struct s3_place *place, const char *key, struct mfs_buf *ret);
/*
 * One page of versions below `prefix` (a key without its place's prefix), from the markers on. Entries' keys are without
 * it too; others than the place's own are left out. place NULL: that of the key `prefix`.
 */
int s3_list_page(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const char *bucket, const struct s3_place *place, const char *prefix,
		 const char *key_marker, const char *version_marker, unsigned int max, struct s3_listing *ret) MFS_NODISCARD;
/*
 * The version on top of the key, if an upload of ours made it: ino, session, op of meta, and this size. 0, -ENOENT, or
 * another -errno. *ret_top: etag of the top, whosever it is; "": there is none.
 */
int s3_find_top(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const char *bucket, const char *key,
		const struct object_meta *meta, uint64_t size, struct object_info *ret,
		char ret_top[static OBJECT_ETAG_MAX + 1]) MFS_NODISCARD;
/*
 * The same among all versions of the key; etag (the server's; NULL: any). With `but` not NULL: each one found that is
 * not that version is deleted.
 */
int s3_find_own(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const char *bucket, const char *key,
		const struct object_meta *meta, uint64_t size, const char *etag, const char *but,
		struct object_info *ret) MFS_NODISCARD;
int s3_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix, object_list_fn *fn,
		 void *arg);
int s3_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket, object_list_fn *fn, void *arg);
/* What exactly this key holds: the newest first, markers too. */
int s3_list_key(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, object_list_fn *fn, void *arg);
int s3_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg, uint64_t *ret_n,
	     uint64_t *ret_bytes);

/* --- uploads that outlive the process (s3_resume.c) --- */

int s3_begin_named(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const struct object_meta *meta,
		   char name[static OBJECT_UPLOAD_NAME_MAX], struct object_upload **ret);
int s3_resume(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const struct object_meta *meta,
	      const char *name, struct object_upload **ret);
bool s3_has_part(struct object_upload *u, unsigned int number, uint64_t off, uint64_t len);
void s3_leave(struct object_upload *u, struct op_ctx *op);

/* --- placement (s3_place.c) --- */

/* rules: "PATH BUCKET[/PREFIX/] [CLASS], ..."; NULL: none. After bucket, prefix and storage_class are set. -EINVAL. */
int s3_places_parse(struct s3_store *s, const char *rules, char **ret_reason) MFS_NODISCARD;
void s3_places_release(struct s3_store *s);
const struct s3_place *s3_place_of(const struct s3_store *s, const char *key);
/* Every bucket and prefix once. p NULL: the first; NULL: no more. */
const struct s3_place *s3_place_next(const struct s3_store *s, const struct s3_place *p);
bool s3_place_is_same(const struct s3_place *a, const struct s3_place *b);

/* --- the bucket (s3_bucket.c) --- */

int s3_bucket_check(struct s3_store *s, struct op_ctx *op, bool create, char **ret_reason) MFS_NODISCARD;

/* --- uploads (s3_upload.c) --- */

int s3_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const void *buf, size_t len,
	   const struct object_meta *meta, struct object_info *ret);
int s3_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const struct object_meta *meta,
	     struct object_upload **ret);
int s3_part(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off, const void *buf, size_t len);
int s3_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
		 const struct object_ref *src, uint64_t src_off, uint64_t len);
int s3_complete(struct object_upload *u, struct op_ctx *op, uint64_t size, const struct object_meta *meta,
		struct object_info *ret);
void s3_abort(struct object_upload *u, struct op_ctx *op);
int s3_copy(struct object_store *s, struct op_ctx *op, const struct object_ref *src, const char *bucket, const char *key,
	    const struct object_meta *meta, struct object_info *ret);
void s3_reply_info(const struct s3_reply *reply, const char *key, struct object_info *ret); /* of a HEAD */
/* x-amz-copy-source of a version. */
int s3_copy_source(const struct s3_store *s, const struct object_ref *src, struct mfs_buf *ret);
/* A version was put there; is it time to look at the key (object_info.crowded)? */
bool s3_note_put(struct s3_store *s, const char *key);
bool s3_key_is_crowded(struct object_store *s, const char *key);
/* Could a server have given it? Others are not asked for: an empty one would name the top. */
bool s3_version_may_be(const struct s3_store *s, const char *version);
int s3_head(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const char *version,
	    struct object_info *ret);

#endif
