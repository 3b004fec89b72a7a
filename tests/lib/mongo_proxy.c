/*
 * A thread a connection, whole messages at a time (OP_MSG; section 0 has the command).
 */
#include "tests/lib/mongo_proxy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <bson/bson.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/sync.h"

#define OP_MSG	    2013
#define MESSAGE_MAX (64u << 20)
#define LINKS_MAX   64

struct link {
	struct mongo_proxy *p;
	int client, server;
	pthread_t thread;
	bool used, done;
};

struct mongo_proxy {
	struct mfs_mutex lock;
	int listener;
	char uri[64];
	struct sockaddr_in to;
	pthread_t acceptor;
	struct link links[LINKS_MAX];
	unsigned int nth, count, hits;
	enum mongo_proxy_action action;
	void (*fn)(void *arg);
	void *arg;
	char names[1024];
};

static bool read_all(int fd, uint8_t *buf, size_t n)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = recv(fd, buf + got, n - got, 0);

		if (r <= 0)
			return false;
		got += (size_t)r;
	}
	return true;
}

static bool write_all(int fd, const uint8_t *buf, size_t n)
{
	for (size_t put = 0; put < n;) {
		ssize_t r = send(fd, buf + put, n - put, MSG_NOSIGNAL);

		if (r <= 0)
			return false;
		put += (size_t)r;
	}
	return true;
}

/* The caller frees it. NULL: the connection ended. */
static uint8_t *read_message(int fd, uint32_t *ret_len)
{
	uint32_t len;
	uint8_t *buf;

	if (!read_all(fd, (uint8_t *)&len, 4) || len < 16 || len > MESSAGE_MAX)
		return NULL;
	buf = malloc(len);
	assert(buf);
	memcpy(buf, &len, 4);
	if (!read_all(fd, buf + 4, len - 4)) {
		free(buf);
		return NULL;
	}
	*ret_len = len;
	return buf;
}

static bool is_counted(const char *name, const char *collection)
{
	static const char *const not[] = { "hello", "isMaster", "ismaster", "ping", "endSessions", "getMore", "abortTransaction",
					   "aggregate", "killCursors" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(not); i++)
		if (strcmp(name, not[i]) == 0)
			return false;
	return strcmp(collection, "beats") != 0 && strcmp(collection, "usage") != 0;
}

struct verdict {
	bool hit, leaves_txn;
	enum mongo_proxy_action action;
};

static struct verdict judge(struct mongo_proxy *p, const uint8_t *msg, uint32_t len)
{
	struct verdict v = { .hit = false };
	const char *collection = "";
	bson_iter_t it;
	int32_t opcode;
	uint32_t size;
	bson_t cmd;

	memcpy(&opcode, msg + 12, 4);
	if (opcode != OP_MSG || len < 26 || msg[20] != 0)
		return v;
	memcpy(&size, msg + 21, 4);
	if (size > len - 21 || !bson_init_static(&cmd, msg + 21, size) ||
	    !bson_iter_init(&it, &cmd) || !bson_iter_next(&it))
		return v;
	if (BSON_ITER_HOLDS_UTF8(&it))
		collection = bson_iter_utf8(&it, NULL);
	if (!is_counted(bson_iter_key(&it), collection))
		return v;
	MFS_GUARD(&p->lock);
	if (strlen(p->names) + strlen(bson_iter_key(&it)) + strlen(collection) + 3 < sizeof(p->names)) {
		strcat(p->names, bson_iter_key(&it));
		if (*collection)
			strcat(strcat(p->names, ":"), collection);
		strcat(p->names, " ");
	}
	v.hit = ++p->count == p->nth;
	v.action = p->action;
	v.leaves_txn = bson_has_field(&cmd, "autocommit") && strcmp(bson_iter_key(&it), "commitTransaction") != 0;
	p->hits += v.hit;
	return v;
}

/* One request and its reply, at a time: no client of ours sends another before. false: the connection ends. */
static bool from_client(struct link *l)
{
	uint32_t len = 0, reply_len = 0;
	uint8_t *msg = read_message(l->client, &len), *reply;
	struct verdict v;
	bool ok;

	if (!msg)
		return false;
	v = judge(l->p, msg, len);
	if (v.hit && v.action == PROXY_DROP) {
		free(msg);
		return false;
	}
	ok = write_all(l->server, msg, len);
	free(msg);
	if (!v.hit || !ok)
		return ok;
	reply = read_message(l->server, &reply_len);
	free(reply);
	if (!v.leaves_txn && l->p->fn)
		l->p->fn(l->p->arg);
	return false;
}

static bool from_server(struct link *l)
{
	uint32_t len = 0;
	uint8_t *msg = read_message(l->server, &len);
	bool ok = msg && write_all(l->client, msg, len);

	free(msg);
	return ok;
}

static void *link_thread(void *arg)
{
	struct link *l = arg;
	bool ok = true;

	while (ok) {
		struct pollfd fds[2] = { { .fd = l->client, .events = POLLIN }, { .fd = l->server, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			ok = from_server(l);
		else if (fds[0].revents)
			ok = from_client(l);
	}
	MFS_GUARD(&l->p->lock);
	shutdown(l->client, SHUT_RDWR);
	close(l->client);
	close(l->server);
	l->done = true;
	return NULL;
}

static struct link *free_link(struct mongo_proxy *p)
{
	for (size_t i = 0; i < LINKS_MAX; i++) {
		struct link *l = &p->links[i];
		bool done;

		{
			MFS_GUARD(&p->lock);
			done = l->done;
		}
		if (done)
			pthread_join(l->thread, NULL);
		if (done || !l->used)
			return l;
	}
	return NULL;
}

static void *accept_thread(void *arg)
{
	struct mongo_proxy *p = arg;

	for (;;) {
		int one = 1, client = accept(p->listener, NULL, NULL), server;
		struct link *l;

		if (client < 0)
			return NULL;
		server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		l = free_link(p);
		if (!l || connect(server, (const struct sockaddr *)&p->to, sizeof(p->to)) < 0) {
			if (l)
				l->used = l->done = false;
			close(client);
			close(server);
			continue;
		}
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		{
			MFS_GUARD(&p->lock);
			*l = (struct link){ .p = p, .client = client, .server = server, .used = true };
		}
		assert(pthread_create(&l->thread, NULL, link_thread, l) == 0);
	}
}

struct mongo_proxy *mongo_proxy_new(const char *server)
{
	struct mongo_proxy *p = calloc(1, sizeof(*p));
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t len = sizeof(at);
	char host[64];
	unsigned int port;

	assert(p && sscanf(server, "mongodb://%63[^:]:%u", host, &port) == 2);
	pthread_mutex_init(&p->lock.m, NULL);
	p->to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	assert(inet_pton(AF_INET, host, &p->to.sin_addr) == 1);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert(bind(p->listener, (const struct sockaddr *)&at, sizeof(at)) == 0 && listen(p->listener, 64) == 0);
	assert(getsockname(p->listener, (struct sockaddr *)&at, &len) == 0);
	snprintf(p->uri, sizeof(p->uri), "mongodb://127.0.0.1:%u/?directConnection=true", ntohs(at.sin_port));
	assert(pthread_create(&p->acceptor, NULL, accept_thread, p) == 0);
	return p;
}

void mongo_proxy_cut(struct mongo_proxy *p)
{
	MFS_GUARD(&p->lock);

	for (size_t i = 0; i < LINKS_MAX; i++)
		if (p->links[i].used && !p->links[i].done) {
			shutdown(p->links[i].client, SHUT_RDWR);
			shutdown(p->links[i].server, SHUT_RDWR);
		}
}

void mongo_proxy_free(struct mongo_proxy *p)
{
	shutdown(p->listener, SHUT_RDWR);
	pthread_join(p->acceptor, NULL);
	close(p->listener);
	mongo_proxy_cut(p);
	for (size_t i = 0; i < LINKS_MAX; i++)
		if (p->links[i].used)
			pthread_join(p->links[i].thread, NULL);
	pthread_mutex_destroy(&p->lock.m);
	free(p);
}

const char *mongo_proxy_uri(const struct mongo_proxy *p)
{
	return p->uri;
}

void mongo_proxy_on(struct mongo_proxy *p, unsigned int nth, enum mongo_proxy_action action, void (*fn)(void *arg), void *arg)
{
	MFS_GUARD(&p->lock);

	p->nth = nth;
	p->action = action;
	p->fn = fn;
	p->arg = arg;
	p->count = p->hits = 0;
	p->names[0] = '\0';
}

unsigned int mongo_proxy_hits(struct mongo_proxy *p)
{
	MFS_GUARD(&p->lock);

	return p->hits;
}

unsigned int mongo_proxy_count(struct mongo_proxy *p)
{
	MFS_GUARD(&p->lock);

	return p->count;
}

void mongo_proxy_names(struct mongo_proxy *p, char *buf, unsigned int size)
{
	MFS_GUARD(&p->lock);

	snprintf(buf, size, "%s", p->names);
}
