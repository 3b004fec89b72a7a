/*
 * The faulty proxy.
 */
#include "tests/lib/s3_proxy.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sync.h"

#define MESSAGE_MAX (64u << 20)

struct s3_proxy {
	struct mfs_mutex lock; /* guards the rule and the counts */
	enum s3_fault fault;
	const char *method, *part;
	int left;
	unsigned int requests, hits, rule;
	bool stop;
	unsigned int n_threads;
	int fd, port, upstream;
	char endpoint[64];
	pthread_t thread;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int connect_to(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static bool send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* Appends what comes; false at the end, or when the proxy stops. */
static bool receive(struct s3_proxy *p, int fd, struct mfs_buf *b)
{
	for (;;) {
		struct pollfd pf = { .fd = fd, .events = POLLIN };
		int r = poll(&pf, 1, 50);
		ssize_t n;
		char *to;

		{
			MFS_GUARD(&p->lock);
			if (p->stop)
				return false;
		}
		if (r == 0)
			continue;
		to = mfs_buf_reserve(b, 256 << 10);
		n = to ? recv(fd, to, 256 << 10, 0) : -1;
		if (n <= 0)
			return false;
		mfs_buf_added(b, (size_t)n);
		return true;
	}
}

struct message {
	struct mfs_buf b;
	size_t head; /* bytes of it, with the empty line */
	size_t len;  /* of all */
};

static const char *header(const struct message *m, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = m->b.data; p && p < m->b.data + m->head; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncasecmp(p, name, n) && p[n] == ':')
			return p + n + 1 + strspn(p + n + 1, " ");
	}
	return NULL;
}

/* The end of a chunked body that begins at `at`; 0: not there yet. */
static size_t chunked_end(const struct message *m, size_t at)
{
	for (;;) {
		char *line = m->b.data + at, *end;
		size_t n;

		if (at >= m->b.len || !memchr(line, '\n', m->b.len - at))
			return 0;
		n = strtoul(line, &end, 16);
		end = strchr(end, '\n') + 1;
		at = (size_t)(end - m->b.data) + n + 2;
		if (at > m->b.len)
			return 0;
		if (!n)
			return at;
	}
}

static bool read_message(struct s3_proxy *p, int fd, struct message *m, bool bodyless)
{
	const char *v;

	*m = (struct message){ .b = MFS_BUF_INIT(MESSAGE_MAX) };
	for (;;) {
		char *end = m->b.data ? memmem(m->b.data, m->b.len, "\r\n\r\n", 4) : NULL;

		if (end) {
			m->head = (size_t)(end - m->b.data) + 4;
			break;
		}
		if (!receive(p, fd, &m->b))
			return false;
	}
	if (bodyless) {
		m->len = m->head;
		return true;
	}
	for (;;) {
		v = header(m, "transfer-encoding");
		if (v && !strncasecmp(v, "chunked", 7)) {
			m->len = chunked_end(m, m->head);
		} else {
			v = header(m, "content-length");
			m->len = m->head + (v ? strtoul(v, NULL, 10) : 0);
		}
		if (m->len && m->b.len >= m->len)
			return true;
		if (!receive(p, fd, &m->b))
			return false;
	}
}

static enum s3_fault pick(struct s3_proxy *p, const struct message *m, unsigned int *ret_rule)
{
	const char *target = strchr(m->b.data, ' ') + 1, *end = strchr(target, ' ');

	MFS_GUARD(&p->lock);
	p->requests++;
	*ret_rule = p->rule;
	if (!p->left || (p->method && strncmp(m->b.data, p->method, strlen(p->method)) != 0))
		return S3_FAULT_NONE;
	if (p->part && !memmem(target, (size_t)(end - target), p->part, strlen(p->part)))
		return S3_FAULT_NONE;
	if (p->left > 0)
		p->left--;
	p->hits++;
	return p->fault;
}

static bool answer(int fd, const char *status, const char *body)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Length: %zu\r\nContent-Type: application/xml\r\n\r\n%s",
			 status, strlen(body), body);

	return send_all(fd, text, (size_t)n);
}

/* The reply's head with this body instead. */
static bool send_other(int fd, struct message *m, const char *body, size_t len)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(MESSAGE_MAX);
	char *line = m->b.data, *end = m->b.data + m->head - 2;

	while (line < end) {
		char *next = (char *)memchr(line, '\n', (size_t)(end - line)) + 1;

		if (strncasecmp(line, "content-length:", 15) != 0 && strncasecmp(line, "transfer-encoding:", 18) != 0)
			mfs_buf_append(&b, line, (size_t)(next - line));
		line = next;
	}
	mfs_buf_printf(&b, "Content-Length: %zu\r\n\r\n", len);
	mfs_buf_append(&b, body, len);
	return send_all(fd, b.data, b.len);
}

static bool send_range(int fd, struct message *m)
{
	char *v = (char *)(unsigned long)header(m, "content-range");

	if (v) /* "bytes 10-..." becomes "bytes 20-...", "bytes 0-" "bytes 1-" */
		v[6] = (char)(v[6] == '9' ? '8' : v[6] + 1);
	return send_all(fd, m->b.data, m->len);
}

static void hang(struct s3_proxy *p, unsigned int rule)
{
	for (;;) {
		{
			MFS_GUARD(&p->lock);
			if (p->stop || p->rule != rule)
				return;
		}
		usleep(20000);
	}
}

/* false: the connection is done for. */
static bool give(struct s3_proxy *p, int fd, struct message *reply, enum s3_fault fault)
{
	static const char error[] = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>late</Message></Error>";

	(void)p;
	switch (fault) {
	case S3_FAULT_LOSE_REPLY:
		return false;
	case S3_FAULT_CUT:
		send_all(fd, reply->b.data, reply->head + (reply->len - reply->head) / 2);
		return false;
	case S3_FAULT_500_AFTER:
		return answer(fd, "500 Oops", "<Error><Code>InternalError</Code></Error>");
	case S3_FAULT_GARBAGE:
		return send_other(fd, reply, "\x01<<garbage", 10);
	case S3_FAULT_ERROR_200:
		return send_other(fd, reply, error, strlen(error));
	case S3_FAULT_RANGE:
		return send_range(fd, reply);
	case S3_FAULT_SHORT:
		return send_other(fd, reply, reply->b.data + reply->head, reply->len - reply->head - 1);
	case S3_FAULT_SLOW:
		usleep(1000000);
		return send_all(fd, reply->b.data, reply->len);
	default:
		return send_all(fd, reply->b.data, reply->len);
	}
}

static bool serve(struct s3_proxy *p, int fd, int *up)
{
	struct message request, reply = { 0 };
	unsigned int rule;
	bool head, go_on = false;
	enum s3_fault fault;

	if (!read_message(p, fd, &request, false))
		goto out;
	fault = pick(p, &request, &rule);
	head = !strncmp(request.b.data, "HEAD ", 5);
	if (fault == S3_FAULT_HANG)
		hang(p, rule);
	if (fault == S3_FAULT_LOSE_REQUEST || fault == S3_FAULT_HANG)
		goto out;
	if (fault == S3_FAULT_503 || fault == S3_FAULT_429) {
		go_on = answer(fd, fault == S3_FAULT_503 ? "503 Busy" : "429 Slow",
			       head ? "" : "<Error><Code>SlowDown</Code></Error>");
		goto out;
	}
	if (*up < 0)
		*up = connect_to(p->upstream);
	if (*up < 0 || !send_all(*up, request.b.data, request.len) || !read_message(p, *up, &reply, head)) {
		if (*up >= 0)
			close(*up);
		*up = -1;
		goto out;
	}
	go_on = give(p, fd, &reply, fault);
out:
	mfs_buf_release(&request.b);
	mfs_buf_release(&reply.b);
	return go_on;
}

struct connection {
	struct s3_proxy *p;
	int fd;
};

static void *connection(void *arg)
{
	struct connection c = *(struct connection *)arg;
	int up = -1;

	free(arg);
	while (serve(c.p, c.fd, &up))
		;
	if (up >= 0)
		close(up);
	close(c.fd);
	MFS_GUARD(&c.p->lock);
	c.p->n_threads--;
	return NULL;
}

static void *listener(void *arg)
{
	struct s3_proxy *p = arg;

	for (;;) {
		struct pollfd pf = { .fd = p->fd, .events = POLLIN };
		struct connection *c;
		pthread_t t;
		int fd;

		{
			MFS_GUARD(&p->lock);
			if (p->stop)
				return NULL;
		}
		if (poll(&pf, 1, 50) <= 0)
			continue;
		fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC);
		c = malloc(sizeof(*c));
		if (fd < 0 || !c)
			die("proxy");
		*c = (struct connection){ p, fd };
		{
			MFS_GUARD(&p->lock);
			p->n_threads++;
		}
		if (pthread_create(&t, NULL, connection, c))
			die("proxy");
		pthread_detach(t);
	}
}

struct s3_proxy *s3_proxy_start(const char *upstream)
{
	struct s3_proxy *p = calloc(1, sizeof(*p));
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	if (!p)
		die("proxy");
	pthread_mutex_init(&p->lock.m, NULL);
	p->upstream = atoi(strrchr(upstream, ':') + 1);
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || bind(p->fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(p->fd, 64) < 0 ||
	    getsockname(p->fd, (struct sockaddr *)&a, &len) < 0)
		die("proxy");
	p->port = ntohs(a.sin_port);
	snprintf(p->endpoint, sizeof(p->endpoint), "http://127.0.0.1:%d", p->port);
	if (pthread_create(&p->thread, NULL, listener, p))
		die("proxy");
	return p;
}

void s3_proxy_stop(struct s3_proxy *p)
{
	{
		MFS_GUARD(&p->lock);
		p->stop = true;
	}
	pthread_join(p->thread, NULL);
	for (;;) {
		{
			MFS_GUARD(&p->lock);
			if (!p->n_threads)
				break;
		}
		usleep(10000);
	}
	close(p->fd);
	pthread_mutex_destroy(&p->lock.m);
	free(p);
}

const char *s3_proxy_endpoint(const struct s3_proxy *p)
{
	return p->endpoint;
}

void s3_proxy_rule(struct s3_proxy *p, enum s3_fault fault, const char *method, const char *part, int count)
{
	MFS_GUARD(&p->lock);
	p->fault = fault;
	p->method = method;
	p->part = part;
	p->left = count;
	p->hits = 0;
	p->rule++;
}

unsigned int s3_proxy_requests(struct s3_proxy *p)
{
	unsigned int n;

	MFS_GUARD(&p->lock);
	n = p->requests;
	p->requests = 0;
	return n;
}

unsigned int s3_proxy_hits(struct s3_proxy *p)
{
	MFS_GUARD(&p->lock);
	return p->hits;
}
