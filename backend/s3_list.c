/*
 * Lists: versions of a bucket or of one key, page after page; unfinished uploads; and the sweep that uses them.
 *
 * list_keys goes over versions, too, and shows the latest ones: ListObjectsV2 tells no version ids, and a key without
 * its version is of no use to anyone here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backend/s3_internal.h"
#include "common/clock.h"
#include "common/log.h"

#define PAGE	  "1000"
#define FIND_MAX  50 /* versions looked through for a lost one; it is among the newest */
#define PAGES_MAX 10000000u
#define DELETE_MAX 1000
#define FIRST_PAGE 100

static int raw_prefix(const struct s3_place *place, const char *key, struct mfs_buf *ret)
{
	mfs_buf_puts(ret, place->prefix);
	return mfs_buf_puts(ret, key);
}

/* Keys without the place's prefix; those that do not have it, or whose place is another, are no business of ours. */
static void strip_prefix(const struct s3_store *s, const struct s3_place *place, struct s3_listing *l)
{
	size_t skip = strlen(place->prefix), n = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct s3_entry *e = &l->v[i];

		if (strncmp(e->key, place->prefix, skip) != 0 || !e->key[skip] ||
		    !s3_place_is_same(s3_place_of(s, e->key + skip), place)) {
			free(e->key);
			free(e->upload);
			continue;
		}
		memmove(e->key, e->key + skip, strlen(e->key + skip) + 1);
		if (n != i)
			l->v[n] = *e;
		n++;
	}
	l->n = n;
}

/* A page that is garbage is asked for again: the answer was cut or mixed up, the question was not wrong. */
static int run_list(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const struct s3_request *q,
		    struct s3_listing *ret)
{
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	int r;

	for (;;) {
		r = s3_run(s, op, t, q, &reply);
		if (r)
			return r;
		r = s3_xml_listing(reply.body.data, reply.body.len, ret);
		if (r != -EBADMSG)
			return r;
		r = s3_wait(s, op, t);
		if (r < 0) {
			mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 list bucket=%s: the server's answers are not understood",
				q->bucket ? q->bucket : s->bucket);
			return r;
		}
	}
}

int s3_list_page(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const char *bucket, const struct s3_place *place,
		 const char *prefix, const char *key_marker, const char *version_marker, unsigned int max, struct s3_listing *ret)
{
	MFS_AUTOBUF struct mfs_buf whole = MFS_BUF_INIT(8192);
	struct s3_request q = { .method = "GET", .bucket = bucket };
	char number[16];
	int r;

	if (!place)
		place = s3_place_of(s, bucket ? NULL : prefix);
	q.place = place;
	r = raw_prefix(place, prefix, &whole);
	if (r < 0)
		return r;
	snprintf(number, sizeof(number), "%u", max);
	s3_query(&q, "versions", "");
	s3_query(&q, "encoding-type", "url");
	s3_query(&q, "max-keys", max ? number : PAGE);
	s3_query(&q, "prefix", mfs_buf_str(&whole));
	if (!atomic_load(&s->no_list_meta))
		s3_query(&q, "metadata", "true");
	if (key_marker && *key_marker)
		s3_query(&q, "key-marker", key_marker);
	if (version_marker && *version_marker)
		s3_query(&q, "version-id-marker", version_marker);
	r = run_list(s, op, t, &q, ret);
	if (r == 0)
		strip_prefix(s, place, ret);
	return r;
}

/* What the list tells, and (where the server's lists have no metadata) what a HEAD adds. */
static int entry_info(struct s3_store *s, struct op_ctx *op, const char *bucket, const struct s3_entry *e,
		      struct object_info *ret)
{
	*ret = (struct object_info){
		.size = e->size,
		.alloc = e->size,
		.mtime = e->mtime,
		.is_marker = e->marker,
	};
	memcpy(ret->version, e->version, sizeof(ret->version));
	memcpy(ret->etag, e->etag, sizeof(ret->etag));
	if (e->marker)
		return 0;
	if (!e->has_meta)
		return s3_head(&s->base, op, bucket, e->key, e->version, ret);
	s3_meta_parse(&e->meta, e->key, ret);
	return 0;
}

/* --- one key --- */

static int delete_one(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const char *bucket, const char *key,
		      const char *version)
{
	struct s3_request q = { .method = "DELETE", .bucket = bucket, .key = key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	int r;

	s3_query(&q, "versionId", version);
	r = s3_run(s, op, t, &q, &reply);
	return r == -ENOENT ? 0 : r;
}

static bool is_same_upload(const struct object_info *info, const struct object_meta *meta, uint64_t size)
{
	return info->own && info->ino == meta->ino && info->session == meta->session && info->op == meta->op &&
	       info->size == size;
}

int s3_find_top(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const char *bucket, const char *key,
		const struct object_meta *meta, uint64_t size, struct object_info *ret,
		char ret_top[static OBJECT_ETAG_MAX + 1])
{
	struct s3_request q = { .method = "HEAD", .bucket = bucket, .key = key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct object_info info;
	int r = s3_run(s, op, t, &q, &reply);

	*ret_top = '\0';
	if (r)
		return r;
	strcpy(ret_top, reply.etag);
	s3_reply_info(&reply, key, &info);
	if (!is_same_upload(&info, meta, size))
		return -ENOENT;
	*ret = info;
	return 0;
}

int s3_find_own(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const char *bucket, const char *key,
		const struct object_meta *meta, uint64_t size, const char *etag, const char *but, struct object_info *ret)
{
	S3_AUTO_LISTING struct s3_listing l = { 0 };
	bool found = false;
	int r = s3_list_page(s, op, t, bucket, NULL, key, NULL, NULL, FIND_MAX, &l);

	for (size_t i = 0; i < l.n && r == 0; i++) {
		const struct s3_entry *e = &l.v[i];
		struct object_info info;

		if (strcmp(e->key, key) != 0)
			continue;
		if (e->marker || e->size != size)
			continue;
		r = entry_info(s, op, bucket, e, &info);
		if (r == -ENOENT)
			r = 0;
		if (r < 0 || !is_same_upload(&info, meta, size) || (etag && strcmp(e->etag, etag) != 0))
			continue;
		if (but && strcmp(info.version, but) != 0)
			r = delete_one(s, op, t, bucket, key, info.version);
		if (!found) /* the newest comes first */
			*ret = info;
		found = true;
	}
	return r < 0 ? r : found ? 0 : -ENOENT;
}

/* --- walks --- */

struct walk {
	struct s3_store *s;
	struct op_ctx *op;
	const char *bucket;
	const struct s3_place *place;
	const char *prefix;
	bool latest_only;
	object_list_fn *fn;
	void *arg;
};

static int walk_page(struct walk *w, const struct s3_listing *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct object_info info;
		int r;

		if (l->v[i].marker || (w->latest_only && (!l->v[i].latest || s3_is_hidden(l->v[i].key))))
			continue;
		r = entry_info(w->s, w->op, w->bucket, &l->v[i], &info);
		if (r == -ENOENT) /* deleted meanwhile */
			continue;
		if (r == 0)
			r = w->fn(w->arg, l->v[i].key, &info);
		if (r)
			return r;
	}
	return 0;
}

/* The list has no metadata though it has versions of objects: the server does not know how. */
static void note_no_meta(struct s3_store *s, const struct s3_listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].marker && l->v[i].has_meta)
			return;
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].marker)
			atomic_store(&s->no_list_meta, true);
}

static int walk(struct walk *w)
{
	char key[S3_MARKER_MAX + 1] = "", version[S3_UPLOAD_MAX + 1] = "";

	for (unsigned int page = 0; page < PAGES_MAX; page++) {
		S3_AUTO_LISTING struct s3_listing l = { 0 };
		struct s3_tries t;
		bool same;
		int r;

		s3_tries_begin(w->s, w->op, &t); /* each page has a deadline of its own where the op has none */
		r = s3_list_page(w->s, w->op, &t, w->bucket, w->place, w->prefix, key, version, 0, &l);
		if (r < 0)
			return r;
		if (!atomic_load(&w->s->no_list_meta))
			note_no_meta(w->s, &l);
		r = walk_page(w, &l);
		if (r || !l.truncated)
			return r;
		same = !strcmp(key, l.next_key) && !strcmp(version, l.next_version);
		if (same || !*l.next_key) {
			mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, w->op, "s3 list bucket=%s: the server's pages do not go on",
				w->bucket ? w->bucket : w->s->bucket);
			return -EIO;
		}
		strcpy(key, l.next_key);
		strcpy(version, l.next_version);
	}
	return -EIO;
}

/* Every place there is; what begins as our own keys do is at the volume's. */
static int walk_places(struct walk *w)
{
	bool own = w->bucket || !strncmp(w->prefix, ".massfs/", 8);
	int r = 0;

	for (w->place = s3_place_next(w->s, NULL); w->place && r == 0; w->place = own ? NULL : s3_place_next(w->s, w->place))
		r = walk(w);
	return r;
}

int s3_list_keys(struct object_store *base, struct op_ctx *op, const char *bucket, const char *prefix, object_list_fn *fn,
		 void *arg)
{
	struct walk w = { s3_of(base), op, bucket, NULL, prefix, true, fn, arg };

	return walk_places(&w);
}

int s3_list_versions(struct object_store *base, struct op_ctx *op, const char *bucket, object_list_fn *fn, void *arg)
{
	struct walk w = { s3_of(base), op, bucket, NULL, "", false, fn, arg };

	return walk_places(&w);
}

int s3_list_key(struct object_store *base, struct op_ctx *op, const char *bucket, const char *key, object_list_fn *fn, void *arg)
{
	char key_marker[S3_MARKER_MAX + 1] = "", version_marker[S3_UPLOAD_MAX + 1] = "";
	struct s3_store *s = s3_of(base);

	for (;;) {
		S3_AUTO_LISTING struct s3_listing l = { 0 };
		bool ended = false;
		struct s3_tries t;
		int r;

		s3_tries_begin(s, op, &t);
		/* In most cases a few, and among what is below the key only these are of interest. */
		r = s3_list_page(s, op, &t, bucket, NULL, key, key_marker, version_marker, *key_marker ? 0 : FIRST_PAGE, &l);
		for (size_t i = 0; i < l.n && r == 0 && !ended; i++) {
			struct object_info info;

			ended = strcmp(l.v[i].key, key) != 0; /* it comes before all that it is a prefix of */
			if (ended)
				break;
			r = entry_info(s, op, bucket, &l.v[i], &info);
			if (r == -ENOENT)
				r = 0;
			else if (r == 0)
				r = fn(arg, key, &info);
		}
		if (r || ended || !l.truncated || !*l.next_key)
			return r;
		if (!strcmp(key_marker, l.next_key) && !strcmp(version_marker, l.next_version))
			return -EIO;
		strcpy(key_marker, l.next_key);
		strcpy(version_marker, l.next_version);
	}
}

/* --- deleting many --- */

static void put_xml_text(struct mfs_buf *b, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '&':
			mfs_buf_puts(b, "&amp;");
			break;
		case '<':
			mfs_buf_puts(b, "&lt;");
			break;
		case '>':
			mfs_buf_puts(b, "&gt;");
			break;
		default:
			if ((unsigned char)*s < ' ')
				mfs_buf_printf(b, "&#x%x;", (unsigned int)*s);
			else
				mfs_buf_putc(b, *s);
		}
	}
}

/* XML 1.0 has no way to write these. */
static bool xml_can_say(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' && *s != '\t' && *s != '\n' && *s != '\r')
			return false;
	return true;
}

/* Versions [from, to) of the list that `which` picks, by one request. */
static int delete_many(struct s3_store *s, struct op_ctx *op, const struct s3_place *place, const struct s3_listing *l,
		       const bool *which)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(8 << 20);
	struct s3_request q = { .method = "POST", .has_body = true, .place = place };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	struct s3_result res;
	unsigned int n = 0;
	char md5[32];
	int r;

	mfs_buf_puts(&b, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
	for (size_t i = 0; i < l->n && n < DELETE_MAX; i++) {
		if (!which[i] || !xml_can_say(l->v[i].key))
			continue;
		mfs_buf_puts(&b, "<Object><Key>");
		put_xml_text(&b, place->prefix);
		put_xml_text(&b, l->v[i].key);
		mfs_buf_printf(&b, "</Key><VersionId>%s</VersionId></Object>", l->v[i].version);
		n++;
	}
	mfs_buf_puts(&b, "</Delete>");
	if (b.err || !n)
		return b.err;
	q.body = b.data;
	q.body_len = b.len;
	s3_query(&q, "delete", "");
	r = s3_content_md5(&q, md5);
	if (r == 0)
		r = s3_run_simple(s, op, &q, &reply);
	if (r == 0)
		r = s3_xml_result(reply.body.data, reply.body.len, &res);
	if (r == 0 && res.n_errors)
		mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, op, "s3 delete bucket=%s: %u of %u were refused (%s)", s->bucket,
			res.n_errors, n, res.code);
	return r;
}

/* Markers of keys that have nothing else: they hide nothing, but each listing carries them. */
static int sweep_markers(struct s3_store *s, struct op_ctx *op, const struct s3_place *place)
{
	char key[S3_MARKER_MAX + 1] = "", version[S3_UPLOAD_MAX + 1] = "";

	for (;;) {
		S3_AUTO_LISTING struct s3_listing l = { 0 };
		MFS_AUTOFREE bool *which = NULL;
		struct s3_tries t;
		bool any = false;
		int r;

		s3_tries_begin(s, op, &t);
		r = s3_list_page(s, op, &t, NULL, place, "", key, version, 0, &l);
		if (r < 0)
			return r;
		which = calloc(l.n + 1, sizeof(*which));
		if (!which)
			return -ENOMEM;
		for (size_t i = 0, end; i < l.n; i = end) {
			bool only = true;

			for (end = i; end < l.n && !strcmp(l.v[end].key, l.v[i].key); end++)
				only = only && l.v[end].marker;
			/* Keys at the page's ends may go on beyond it. */
			if (!only || (i == 0 && *key) || (end == l.n && l.truncated))
				continue;
			for (size_t k = i; k < end; k++)
				which[k] = any = true;
		}
		if (any)
			r = delete_many(s, op, place, &l, which);
		if (r < 0 || !l.truncated || (!strcmp(key, l.next_key) && !strcmp(version, l.next_version)))
			return r;
		strcpy(key, l.next_key);
		strcpy(version, l.next_version);
	}
}

/* --- unfinished uploads --- */

static int upload_bytes(struct s3_store *s, struct op_ctx *op, const struct s3_entry *e, uint64_t *ret)
{
	unsigned int after = 0;

	for (;;) {
		struct s3_request q = { .method = "GET", .key = e->key };
		S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
		struct s3_parts parts = { 0 };
		char marker[16];
		bool more;
		int r;

		snprintf(marker, sizeof(marker), "%u", after);
		s3_query(&q, "uploadId", e->upload);
		s3_query(&q, "part-number-marker", marker);
		r = s3_run_simple(s, op, &q, &reply);
		if (r == 0)
			r = s3_xml_parts(reply.body.data, reply.body.len, &parts);
		if (r < 0)
			return r;
		for (size_t i = 0; i < parts.n; i++)
			*ret += parts.v[i].size;
		more = parts.truncated && parts.next > after;
		after = parts.next;
		s3_parts_release(&parts);
		if (!more)
			return 0;
	}
}

static int abort_one(struct s3_store *s, struct op_ctx *op, const struct s3_entry *e)
{
	struct s3_request q = { .method = "DELETE", .key = e->key };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	int r;

	s3_query(&q, "uploadId", e->upload);
	r = s3_run_simple(s, op, &q, &reply);
	return r == -ENOENT ? 0 : r;
}

/* Which uploads are looked at. */
struct sweep {
	bool delete_it;
	object_keep_fn *keep;
	void *arg;
};

static int sweep_page(struct s3_store *s, struct op_ctx *op, const struct sweep *w, const struct s3_listing *l, uint64_t *ret_n,
		      uint64_t *ret_bytes)
{
	int64_t before = mfs_now_ns() + atomic_load(&s->clock_ns) - s->sweep_age_ns;

	for (size_t i = 0; i < l->n; i++) {
		uint64_t bytes = 0;
		int r;

		if (!l->v[i].upload || !l->v[i].mtime || l->v[i].mtime > before)
			continue;
		if (w->keep && w->keep(w->arg, l->v[i].key, l->v[i].upload))
			continue;
		r = upload_bytes(s, op, &l->v[i], &bytes);
		if (r == -ENOENT) /* ended meanwhile */
			continue;
		if (r == 0 && w->delete_it)
			r = abort_one(s, op, &l->v[i]);
		if (r < 0)
			return r;
		*ret_n += 1;
		*ret_bytes += bytes;
	}
	return 0;
}

/*
 * The list of uploads tells no metadata, so a closed run is told by age alone. A mount that was frozen for longer finds
 * its upload gone and its close fails; nothing that was committed is touched. MinIO lists uploads only of keys that it
 * has seen begin since its start, and ends them itself after 24 h.
 */
static int sweep_uploads(struct s3_store *s, struct op_ctx *op, const struct s3_place *place, const struct sweep *w, uint64_t *ret_n,
			 uint64_t *ret_bytes)
{
	char key[S3_MARKER_MAX + 1] = "", upload[S3_UPLOAD_MAX + 1] = "";

	for (;;) {
		struct s3_request q = { .method = "GET", .place = place };
		S3_AUTO_LISTING struct s3_listing l = { 0 };
		struct s3_tries t;
		int r;

		s3_tries_begin(s, op, &t);
		s3_query(&q, "uploads", "");
		s3_query(&q, "encoding-type", "url");
		s3_query(&q, "max-uploads", PAGE);
		if (*place->prefix)
			s3_query(&q, "prefix", place->prefix);
		if (*key)
			s3_query(&q, "key-marker", key);
		if (*upload)
			s3_query(&q, "upload-id-marker", upload);
		r = run_list(s, op, &t, &q, &l);
		if (r < 0)
			return r == -EOPNOTSUPP ? 0 : r;
		strip_prefix(s, place, &l);
		r = sweep_page(s, op, w, &l, ret_n, ret_bytes);
		if (r < 0)
			return r;
		if (!l.truncated || !*l.next_key || (!strcmp(key, l.next_key) && !strcmp(upload, l.next_version)))
			return 0;
		strcpy(key, l.next_key);
		strcpy(upload, l.next_version);
	}
}

int s3_sweep(struct object_store *base, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg, uint64_t *ret_n,
	     uint64_t *ret_bytes)
{
	const struct sweep w = { .delete_it = delete_it, .keep = keep, .arg = arg };
	struct s3_store *s = s3_of(base);
	int r = 0;

	*ret_n = *ret_bytes = 0;
	for (const struct s3_place *p = s3_place_next(s, NULL); p && r == 0; p = s3_place_next(s, p)) {
		r = sweep_uploads(s, op, p, &w, ret_n, ret_bytes);
		if (r == 0 && delete_it && !s->readonly)
			r = sweep_markers(s, op, p);
	}
	return r;
}
