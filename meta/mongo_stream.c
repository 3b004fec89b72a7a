/*
 * Sockets of libmongoc whose every wait ends with the call's deadline.
 *
 * libmongoc has one socket time-out for a whole pool of clients; promise 7 wants each call over by its own deadline, also
 * when a server hangs. So each stream that a client makes is wrapped in one that cuts the time-outs of its reads and writes
 * to what is left of the call.
 */
#include "meta/mongo_internal.h"

#define STREAM_TYPE 0x6d66 /* none of libmongoc's own */

/* libmongoc exports it without a declaration; where a version hides it, socketTimeoutMS alone bounds the waits. */
extern mongoc_stream_t *mongoc_client_default_stream_initiator(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
							       void *client, bson_error_t *err) __attribute__((weak));

struct bounded {
	mongoc_stream_t stream;
	mongoc_stream_t *base;
	const struct mongo_conn *conn;
};

static struct bounded *bounded_of(mongoc_stream_t *s)
{
	return mfs_container_of(s, struct bounded, stream);
}

static int32_t cut(const struct bounded *b, int32_t timeout_ms)
{
	int64_t left = mongo_left_ms(b->conn);

	if (left < 1)
		left = 1;
	return timeout_ms < 0 || left < timeout_ms ? (int32_t)MFS_MIN(left, INT32_MAX) : timeout_ms;
}

static void bounded_destroy(mongoc_stream_t *s)
{
	mongoc_stream_destroy(bounded_of(s)->base);
	free(bounded_of(s));
}

static void bounded_failed(mongoc_stream_t *s)
{
	mongoc_stream_failed(bounded_of(s)->base);
	free(bounded_of(s));
}

static int bounded_close(mongoc_stream_t *s)
{
	return mongoc_stream_close(bounded_of(s)->base);
}

static int bounded_flush(mongoc_stream_t *s)
{
	return mongoc_stream_flush(bounded_of(s)->base);
}

static ssize_t bounded_writev(mongoc_stream_t *s, mongoc_iovec_t *iov, size_t n, int32_t timeout_ms)
{
	struct bounded *b = bounded_of(s);

	return mongoc_stream_writev(b->base, iov, n, cut(b, timeout_ms));
}

static ssize_t bounded_readv(mongoc_stream_t *s, mongoc_iovec_t *iov, size_t n, size_t min_bytes, int32_t timeout_ms)
{
	struct bounded *b = bounded_of(s);

	return mongoc_stream_readv(b->base, iov, n, min_bytes, cut(b, timeout_ms));
}

static int bounded_setsockopt(mongoc_stream_t *s, int level, int name, void *value, mongoc_socklen_t len)
{
	return mongoc_stream_setsockopt(bounded_of(s)->base, level, name, value, len);
}

static mongoc_stream_t *bounded_base(mongoc_stream_t *s)
{
	return bounded_of(s)->base;
}

static bool bounded_check_closed(mongoc_stream_t *s)
{
	return mongoc_stream_check_closed(bounded_of(s)->base);
}

static bool bounded_timed_out(mongoc_stream_t *s)
{
	return mongoc_stream_timed_out(bounded_of(s)->base);
}

static bool bounded_should_retry(mongoc_stream_t *s)
{
	return mongoc_stream_should_retry(bounded_of(s)->base);
}

static mongoc_stream_t *open_bounded(const mongoc_uri_t *uri, const mongoc_host_list_t *host, void *arg, bson_error_t *err)
{
	struct mongo_conn *c = arg;
	mongoc_stream_t *base = mongoc_client_default_stream_initiator(uri, host, c->client, err);
	struct bounded *b;

	if (!base)
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return base;
	b->stream = (mongoc_stream_t){
		.type = STREAM_TYPE,
		.destroy = bounded_destroy,
		.failed = bounded_failed,
		.close = bounded_close,
		.flush = bounded_flush,
		.writev = bounded_writev,
		.readv = bounded_readv,
		.setsockopt = bounded_setsockopt,
		.get_base_stream = bounded_base,
		.check_closed = bounded_check_closed,
		.timed_out = bounded_timed_out,
		.should_retry = bounded_should_retry,
	};
	b->base = base;
	b->conn = c;
	return &b->stream;
}

void mongo_bound_streams(struct mongo_conn *c)
{
	if (mongoc_client_default_stream_initiator)
		mongoc_client_set_stream_initiator(c->client, open_bounded, c);
}
