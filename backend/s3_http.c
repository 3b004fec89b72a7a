/*
 * The pool of libcurl handles, and one exchange.
 */
#include "backend/s3_http.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "common/sync.h"

#define CURL_BUFFER (512L << 10)
#define IDLE_SEC    20L /* a kept connection older than this is not used again: servers drop theirs */
#define CONNECT_MS  3000L

struct s3_http {
	struct mfs_mutex lock;
	pthread_cond_t freed;
	CURL **idle; /* a stack: the last used has the warmest connection */
	unsigned int n_idle, n_made, max;
	char *ca_file;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_begin(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

int s3_http_new(unsigned int connections, const char *ca_file, struct s3_http **ret)
{
	struct s3_http *h = calloc(1, sizeof(*h));
	pthread_condattr_t attr;

	pthread_once(&curl_once, curl_begin);
	if (!h)
		return -ENOMEM;
	h->max = connections;
	h->idle = calloc(connections, sizeof(CURL *));
	h->ca_file = ca_file ? strdup(ca_file) : NULL;
	pthread_mutex_init(&h->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->freed, &attr);
	pthread_condattr_destroy(&attr);
	if (!h->idle || (ca_file && !h->ca_file)) {
		s3_http_free(h);
		return -ENOMEM;
	}
	*ret = h;
	return 0;
}

void s3_http_free(struct s3_http *h)
{
	if (!h)
		return;
	for (unsigned int i = 0; i < h->n_idle; i++)
		curl_easy_cleanup(h->idle[i]);
	pthread_cond_destroy(&h->freed);
	pthread_mutex_destroy(&h->lock.m);
	free((void *)h->idle);
	free(h->ca_file);
	free(h);
}

void s3_reply_release(struct s3_reply *r)
{
	mfs_buf_release(&r->body);
}

/* --- the pool --- */

static int take_handle(struct s3_http *h, struct op_ctx *op, const struct s3_exchange *x, CURL **ret)
{
	int64_t deadline_ns = x->deadline_ns;

	if (x->apart) {
		*ret = curl_easy_init();
		return *ret ? 0 : -ENOMEM;
	}
	MFS_GUARD(&h->lock);
	while (!h->n_idle && h->n_made == h->max) {
		int64_t until = MFS_MIN(deadline_ns, mfs_mono_ns() + MFS_NSEC_PER_SEC / 5);
		struct timespec ts = mfs_ns_to_timespec(until);

		if (op && atomic_load(&op->cancelled))
			return -ECANCELED;
		if (mfs_mono_ns() >= deadline_ns)
			return -ETIMEDOUT;
		pthread_cond_timedwait(&h->freed, &h->lock.m, &ts);
	}
	if (h->n_idle) {
		*ret = h->idle[--h->n_idle];
		return 0;
	}
	*ret = curl_easy_init();
	if (!*ret)
		return -ENOMEM;
	h->n_made++;
	return 0;
}

static void give_handle(struct s3_http *h, const struct s3_exchange *x, CURL *c)
{
	if (x->apart) {
		curl_easy_cleanup(c);
		return;
	}
	MFS_GUARD(&h->lock);
	h->idle[h->n_idle++] = c;
	pthread_cond_signal(&h->freed);
}

/* --- callbacks --- */

struct exchange {
	const struct s3_exchange *x;
	struct s3_reply *reply;
	struct op_ctx *op;
	CURL *c;
	unsigned int n_sent;
	bool overflow, resent, gave_up;
	curl_off_t moved;   /* bytes, both ways */
	int64_t moved_at;   /* when that was last more than before */
	char error[CURL_ERROR_SIZE];
};

static bool is_success(const struct s3_reply *r)
{
	return r->status >= 200 && r->status < 300;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct exchange *e = arg;
	struct s3_reply *r = e->reply;

	n *= size;
	if (e->x->dest && is_success(r)) {
		if (n > e->x->dest_len - r->got) {
			e->overflow = true;
			return 0;
		}
		memcpy((char *)e->x->dest + r->got, data, n);
		r->got += n;
		return n;
	}
	if (mfs_buf_append(&r->body, data, n) < 0) {
		e->overflow = true;
		return 0;
	}
	return n;
}

/* "bytes 0-99/1000", or with 416 an asterisk for the range. */
static void parse_range(struct s3_reply *r, const char *v)
{
	uint64_t first, last, total;
	char end;

	/* One that makes no sense takes an earlier one back, too. */
	r->has_range = sscanf(v, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64 "%c", &first, &last, &total, &end) == 3 && first <= last &&
		       last < total && v[6] != '-';
	if (r->has_range) {
		r->first = first;
		r->last = last;
		r->total = total;
	} else if (sscanf(v, "bytes */%" SCNu64 "%c", &total, &end) == 1) {
		r->total = total;
	}
}

static void copy_text(char *to, size_t size, const char *v)
{
	/* One that does not fit is none: a cut version id could be another's. */
	if (strlen(v) < size)
		strcpy(to, v);
}

static void take_header(struct s3_reply *r, const char *name, char *v)
{
	size_t len = strlen(v);

	if (!strcasecmp(name, "content-length")) {
		r->has_length = mfs_str_uint(v, 10, 0, INT64_MAX, &r->length) == 0;
	} else if (!strcasecmp(name, "content-range")) {
		parse_range(r, v);
	} else if (!strcasecmp(name, "etag")) {
		if (len >= 2 && v[0] == '"' && v[len - 1] == '"') {
			v[len - 1] = '\0';
			v++;
		}
		copy_text(r->etag, sizeof(r->etag), v);
	} else if (!strcasecmp(name, "last-modified")) {
		r->modified = s3_parse_time(v);
	} else if (!strcasecmp(name, "date")) {
		r->date = s3_parse_time(v);
	} else if (!strcasecmp(name, "server")) {
		copy_text(r->server, sizeof(r->server), v);
	} else if (!strcasecmp(name, "x-amz-version-id")) {
		copy_text(r->version, sizeof(r->version), v);
	} else if (!strcasecmp(name, "x-amz-delete-marker")) {
		r->is_marker = !strcmp(v, "true");
	} else if (!strcasecmp(name, "x-amz-server-side-encryption")) {
		r->kms = !strncmp(v, "aws:kms", 7);
	} else if (!strcasecmp(name, "x-minio-error-code")) {
		copy_text(r->code, sizeof(r->code), v);
	} else if (!strncasecmp(name, "x-amz-meta-", 11)) {
		s3_meta_text_take(&r->meta, name + 11, v);
	}
}

void s3_http_header(struct s3_reply *r, char *line)
{
	char *value = strchr(line, ':');
	size_t len;

	if (!value)
		return;
	*value++ = '\0';
	value += strspn(value, " \t");
	len = strlen(value);
	while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		value[--len] = '\0';
	take_header(r, line, value);
}

static void begin_reply(struct s3_reply *r)
{
	struct mfs_buf body = r->body;

	memset(r, 0, sizeof(*r));
	r->body = body;
	mfs_buf_clear(&r->body);
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct exchange *e = arg;
	char line[2048];

	n *= size;
	if (n >= sizeof(line))
		return n;
	memcpy(line, data, n);
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (!strncmp(line, "HTTP/", 5)) {
		long status = 0;

		begin_reply(e->reply);
		curl_easy_getinfo(e->c, CURLINFO_RESPONSE_CODE, &status);
		e->reply->status = (int)status;
		return n;
	}
	s3_http_header(e->reply, line);
	return n;
}

/* libcurl calls it about once a second also while nothing comes. */
static int on_progress(void *arg, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
	struct exchange *e = arg;
	const struct s3_exchange *x = e->x;
	int64_t now = mfs_mono_ns();

	(void)dl_total;
	(void)ul_total;
	if (e->op && atomic_load(&e->op->cancelled))
		return 1;
	if (x->falls && atomic_load(x->falls) != x->fallen) {
		e->gave_up = true;
		return 1;
	}
	if (dl + ul != e->moved || !e->moved_at) {
		e->moved = dl + ul;
		e->moved_at = now;
	} else if (x->doubt && now - e->moved_at > x->doubt_ns) {
		x->doubt(x->doubt_arg);
	}
	return 0;
}

/* Called before each sending. libcurl repeats a request on its own when a kept connection dies before an answer. */
static int on_request(void *arg, char *a, char *b, int c, int d)
{
	struct exchange *e = arg;

	(void)a;
	(void)b;
	(void)c;
	(void)d;
	if (e->n_sent++ && e->x->once) {
		e->resent = true;
		return CURL_PREREQFUNC_ABORT;
	}
	return CURL_PREREQFUNC_OK;
}

/* --- the exchange --- */

static struct curl_slist *header_list(const struct s3_exchange *x)
{
	struct curl_slist *list = NULL;
	bool failed = false;

	for (size_t i = 0; i < x->n_headers + 3 && !failed; i++) {
		static const char *const fixed[] = { "Expect:", "Accept:", "Content-Type: application/octet-stream" };
		MFS_AUTOFREE char *line = NULL;
		const char *text;
		struct curl_slist *more;

		if (i >= x->n_headers) {
			text = fixed[i - x->n_headers];
			if (i - x->n_headers == 2 && !x->has_body)
				continue;
		} else {
			line = mfs_str_printf("%s: %s", x->headers[i].name, x->headers[i].value);
			text = line;
		}
		more = text ? curl_slist_append(list, text) : NULL;
		failed = !more;
		if (more)
			list = more;
	}
	if (failed) {
		curl_slist_free_all(list);
		return NULL;
	}
	return list;
}

static void set_options(struct s3_http *h, struct exchange *e, struct curl_slist *headers)
{
	const struct s3_exchange *x = e->x;
	int64_t left_ms = (x->deadline_ns - mfs_mono_ns()) / 1000000;
	CURL *c = e->c;

	curl_easy_reset(c);
	curl_easy_setopt(c, CURLOPT_URL, x->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_USERAGENT, "massfs");
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, CURL_BUFFER);
	curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, CURL_BUFFER);
	curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, IDLE_SEC);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, e->error);
	if (h->ca_file) {
		curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_file);
		curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
	}
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)MFS_MAX(left_ms, 1));
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)MFS_MAX(x->stall_ns / MFS_NSEC_PER_SEC, 1));
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, e);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, e);
	curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(c, CURLOPT_PREREQDATA, e);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, e);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	if (x->has_body) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body_len);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, x->body_len ? (const char *)x->body : "");
	}
	if (!strcmp(x->method, "HEAD"))
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, x->method);
}

/* Could the server have got the request? */
static bool was_sent(CURL *c, CURLcode code, const struct exchange *e)
{
	long bytes = 0;

	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
		return false;
	curl_easy_getinfo(c, CURLINFO_REQUEST_SIZE, &bytes);
	return bytes > 0 || e->n_sent > 0;
}

static int transport_error(const struct exchange *e, CURLcode code)
{
	if (e->op && atomic_load(&e->op->cancelled))
		return -ECANCELED;
	if (e->gave_up)
		return -ETIMEDOUT;
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return -EPROTO;
	default:
		return e->overflow ? -EBADMSG : -EIO;
	}
}

static void fail(struct s3_reply *reply, int err, bool sent, const char *reason)
{
	reply->err = err;
	reply->sent = sent;
	snprintf(reply->reason, sizeof(reply->reason), "%s", reason);
}

void s3_http_exchange(struct s3_http *h, struct op_ctx *op, const struct s3_exchange *x, struct s3_reply *reply)
{
	struct exchange e = { .x = x, .reply = reply, .op = op };
	struct curl_slist *headers;
	CURLcode code;
	int r;

	begin_reply(reply);
	headers = header_list(x);
	if (!headers) {
		fail(reply, -ENOMEM, false, "no memory");
		return;
	}
	r = take_handle(h, op, x, &e.c);
	if (r < 0) {
		curl_slist_free_all(headers);
		fail(reply, r, false, "no connection came free");
		return;
	}
	set_options(h, &e, headers);
	code = curl_easy_perform(e.c);
	if (code != CURLE_OK) {
		bool sent = was_sent(e.c, code, &e);

		fail(reply, transport_error(&e, code), sent,
		     e.overflow ? "the answer is longer than it may be"
		     : e.gave_up ? "the node went down meanwhile"
		     : e.resent ? "the connection was closed before an answer came"
		     : *e.error ? e.error
				: curl_easy_strerror(code));
		reply->gave_up = e.gave_up;
	} else if (reply->body.err) {
		fail(reply, reply->body.err, true, "no memory");
	}
	curl_easy_reset(e.c); /* it points into our frame */
	give_handle(h, x, e.c);
	curl_slist_free_all(headers);
}
