/*
 * The daemon's side of the control socket: one thread listens, one more a connection, at most a few at once. Who
 * calls is what the kernel says of the peer; verbs run with no more rights than that.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/op_ctx.h"
#include "common/sync.h"
#include "fs/control.h"
#include "fs/control_wire.h"
#include "fs/fs.h"
#include "fs/fuse/notify.h"
#include "fs/names.h"
#include "fs/verbs.h"

#define CALLS_MAX	16 /* root gets as many again, so that an unmount always gets through */
#define REQUEST_TIME_NS (10 * MFS_NSEC_PER_SEC)
#define SEND_TIME_S	300 /* a pager may stand still, but not for ever */
#define GRACE_NS	(3 * MFS_NSEC_PER_SEC)
#define READ_CHUNK	4096
#define OUT_BUFFER	32768

struct call;

struct control_server {
	struct massfs *fs;
	char path[108];
	int listen_fd, stop_fd;
	pthread_t thread;
	int64_t started; /* CLOCK_MONOTONIC */

	struct mfs_mutex lock;
	pthread_cond_t idle; /* `lock`; predicate: !first */
	struct call *first; /* guarded by lock, as are n_calls and stopping */
	unsigned int n_calls;
	bool stopping;
};

struct call {
	struct control_server *s;
	struct call *next; /* s->lock */
	int fd;
	struct ucred peer;
	gid_t *groups;
	size_t n_groups;
	struct op_ctx op;
	bool broken; /* the caller is gone: what is printed goes nowhere */
};

/* A cookie stream's end: which frames it makes. */
struct channel {
	struct call *call;
	char type;
};

/* --- frames --- */

static int send_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_frame(struct call *c, char type, const char *data, size_t len)
{
	unsigned char header[CONTROL_FRAME_HEADER];
	int r;

	if (c->broken)
		return -EPIPE;
	control_frame_put(type, (uint32_t)len, header);
	r = send_all(c->fd, header, sizeof(header));
	if (r == 0)
		r = send_all(c->fd, data, len);
	if (r < 0) {
		/* Nobody waits for the answer: a verb that looks at op ends. */
		c->broken = true;
		atomic_store(&c->op.cancelled, true);
	}
	return r;
}

static void send_number(struct call *c, char type, long n)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%ld", n);

	(void)send_frame(c, type, text, (size_t)len);
}

/* What cannot be sent counts as written: a verb in the middle of a change goes on to its end. */
static ssize_t channel_write(void *cookie, const char *buf, size_t size)
{
	struct channel *ch = cookie;

	for (size_t at = 0; at < size && !ch->call->broken;) {
		size_t n = MFS_MIN(size - at, (size_t)CONTROL_FRAME_MAX);

		(void)send_frame(ch->call, ch->type, buf + at, n);
		at += n;
	}
	return (ssize_t)size;
}

static FILE *channel_open(struct channel *ch, int mode)
{
	FILE *f = fopencookie(ch, "w", (cookie_io_functions_t){ .write = channel_write });

	if (f)
		setvbuf(f, NULL, mode, OUT_BUFFER);
	return f;
}

/* --- one call --- */

/* Until the request is whole. -ETIMEDOUT, -EPIPE, -EBADMSG. */
static int read_request(struct call *c, struct control_request *ret)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(CONTROL_REQUEST_MAX + READ_CHUNK);
	int64_t end = mfs_mono_ns() + REQUEST_TIME_NS;
	int r = -EAGAIN;

	while (r == -EAGAIN) {
		int64_t left = end - mfs_mono_ns();
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		char *room;
		ssize_t n;

		if (left <= 0 || poll(&p, 1, (int)(left / 1000000) + 1) == 0)
			return -ETIMEDOUT;
		room = mfs_buf_reserve(&b, READ_CHUNK);
		if (!room)
			return b.err;
		n = recv(c->fd, room, READ_CHUNK, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		mfs_buf_added(&b, (size_t)n);
		r = control_request_get(b.data, b.len, ret);
		if (r == -EAGAIN && b.len > CONTROL_REQUEST_MAX)
			r = -EBADMSG;
	}
	return r;
}

static int get_peer(struct call *c)
{
	socklen_t len = sizeof(c->peer);

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &len) < 0)
		return -errno;
	len = 64 * sizeof(gid_t);
	for (;;) {
		gid_t *g = malloc(len ? len : 1);
		socklen_t got = len;

		if (!g)
			return -ENOMEM;
		if (getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, g, &got) == 0) {
			c->groups = g;
			c->n_groups = got / sizeof(gid_t);
			return 0;
		}
		free(g);
		if (errno != ERANGE || got <= len)
			return -errno;
		len = got;
	}
}

void control_changed(void *arg, mfs_ino_t ino, mfs_ino_t parent, const char *name)
{
	struct massfs *fs = arg;
	struct inode *i = ino ? inode_find(fs->inodes, ino) : NULL;

	if (i) {
		{
			MFS_GUARD(&i->lock);

			/* The notice below comes later, or (a full queue) not at all: an open before it keeps no page. */
			i->cache_bad = true;
			if (i->content)
				content_reload(i->content);
		}
		inode_invalidate(fs->inodes, i);
		inode_put(fs->inodes, &i);
	}
	if (ino)
		notify_inode(fs->notifier, ino, true);
	if (!parent)
		return;
	i = inode_find(fs->inodes, parent);
	if (i) {
		inode_invalidate(fs->inodes, i);
		inode_put(fs->inodes, &i);
	}
	if (name)
		names_unsure(fs->names, parent, name, strlen(name));
	notify_inode(fs->notifier, parent, true); /* its cached listing too */
	if (name)
		notify_entry(fs->notifier, parent, name, strlen(name));
}

static int run(struct call *c, struct control_request *req)
{
	struct massfs *fs = c->s->fs;
	struct channel out = { c, 'o' }, err = { c, 'e' };
	struct verb_call v = {
		.vol = fs->vol,
		.fs = fs,
		.cred = { .uid = c->peer.uid,
			  .gid = c->peer.gid,
			  .groups = c->groups,
			  .n_groups = c->n_groups },
		.op = &c->op,
		.argc = req->argc,
		.argv = req->argv,
		.mountpoint = fs->cfg->mountpoint ? fs->cfg->mountpoint : "",
		.out = channel_open(&out, _IOFBF),
		.err = channel_open(&err, _IOLBF),
		.progress = req->progress,
		.changed = control_changed,
		.changed_arg = fs,
		.started_ns = c->s->started,
	};
	int status = 1;

	if (v.out && v.err)
		status = verb_run(&v);
	if (v.out)
		fclose(v.out);
	if (v.err)
		fclose(v.err);
	return status;
}

static void say(struct call *c, const char *text)
{
	(void)send_frame(c, 'e', text, strlen(text));
}

static void serve(struct call *c)
{
	struct control_request req = { 0 };
	int r = get_peer(c), status = 1;

	if (r == 0)
		r = read_request(c, &req);
	if (r == -EBADMSG || r == -EFBIG) {
		say(c,
		    "massfs: the daemon does not understand this request; are command and daemon of one version?\n");
	} else if (r == -ETIMEDOUT) {
		say(c, "massfs: the request did not come within 10 s\n");
	} else if (r == 0) {
		c->op.uid = c->peer.uid;
		c->op.gid = c->peer.gid;
		c->op.pid = c->peer.pid;
		send_number(c, 'p', (long)getpid());
		status = run(c, &req);
	}
	send_number(c, 'x', status);
	control_request_release(&req);
}

static void call_free(struct call *c)
{
	close(c->fd);
	free(c->groups);
	free(c);
}

static void *call_main(void *arg)
{
	struct call *c = arg, **p;
	struct control_server *s = c->s;

	pthread_setname_np(pthread_self(), "control-call");
	serve(c);
	{
		MFS_GUARD(&s->lock);

		for (p = &s->first; *p != c; p = &(*p)->next)
			;
		*p = c->next;
		s->n_calls--;
		call_free(c);
		if (!s->first)
			pthread_cond_broadcast(&s->idle);
	}
	return NULL;
}

/* --- the listener --- */

static int start_call(struct call *c)
{
	pthread_attr_t attr;
	pthread_t t;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&t, &attr, call_main, c);
	pthread_attr_destroy(&attr);
	return -r;
}

static bool admit(struct control_server *s, struct call *c)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);

	(void)getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	MFS_GUARD(&s->lock);
	if (s->stopping || s->n_calls >= (peer.uid == 0 ? 2 * CALLS_MAX : CALLS_MAX))
		return false;
	c->next = s->first;
	s->first = c;
	s->n_calls++;
	return true;
}

static void accept_one(struct control_server *s)
{
	struct timeval tv = { .tv_sec = SEND_TIME_S };
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct call *c;

	if (fd < 0) {
		/* Out of descriptors: the connection stays in the queue, so do not spin on it. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			usleep(100000);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return;
	}
	c->s = s;
	c->fd = fd;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (!admit(s, c)) {
		say(c, "massfs: the daemon has too many verbs under way; try again\n");
		send_number(c, 'x', 1);
		call_free(c);
		return;
	}
	if (start_call(c) < 0) {
		MFS_GUARD(&s->lock);

		/* Only this thread adds, but others may have left since: find it. */
		for (struct call **p = &s->first; *p; p = &(*p)->next) {
			if (*p == c) {
				*p = c->next;
				break;
			}
		}
		s->n_calls--;
		call_free(c);
	}
}

static void *listen_main(void *arg)
{
	struct control_server *s = arg;

	pthread_setname_np(pthread_self(), "control");
	for (;;) {
		struct pollfd p[2] = { { .fd = s->listen_fd, .events = POLLIN },
				       { .fd = s->stop_fd, .events = POLLIN } };

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (p[1].revents)
			return NULL;
		if (p[0].revents)
			accept_one(s);
	}
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, r = 0;

	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Of a dead daemon: a live mount's number is nobody else's. */
	if (unlink(path) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		r = -errno;
	/* Anybody may ask; each verb checks who it was. */
	if (r == 0 && (chmod(path, 0666) < 0 || listen(fd, 64) < 0))
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int listen_anywhere(struct control_server *s)
{
	int first = 0;

	(void)mkdir("/run/massfs", 0755);
	for (int i = 0; control_path((dev_t)s->fs->dev, i, s->path, sizeof(s->path)); i++) {
		s->listen_fd = listen_at(s->path);
		if (s->listen_fd >= 0)
			return 0;
		if (i == 0)
			first = s->listen_fd;
	}
	mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
		"no control socket in /run/massfs: %s; the mount works, but `massfs status` and other verbs do not reach it",
		strerror(-first));
	return first;
}

int control_start(struct massfs *fs, struct control_server **ret)
{
	struct control_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->fs = fs;
	s->started = mfs_mono_ns();
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = s->stop_fd < 0 ? -errno : listen_anywhere(s);
	if (r < 0) {
		if (s->stop_fd >= 0)
			close(s->stop_fd);
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock.m, NULL);
	pthread_cond_init(&s->idle, NULL);
	r = mfs_thread_start(&s->thread, listen_main, s);
	if (r < 0) {
		unlink(s->path);
		close(s->listen_fd);
		close(s->stop_fd);
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Nobody comes in, nobody is read from; what runs is asked to end and gets its last frames out, if quickly. */
static void end_calls(struct control_server *s)
{
	struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + GRACE_NS);
	int r = 0;

	MFS_GUARD(&s->lock);
	s->stopping = true;
	for (struct call *c = s->first; c; c = c->next) {
		atomic_store(&c->op.cancelled, true);
		(void)shutdown(c->fd, SHUT_RD);
	}
	while (s->first && r != ETIMEDOUT)
		r = pthread_cond_clockwait(&s->idle, &s->lock.m, CLOCK_MONOTONIC, &ts);
	for (struct call *c = s->first; c; c = c->next)
		(void)shutdown(c->fd, SHUT_RDWR); /* ends a send to a caller that does not read */
	while (s->first)
		pthread_cond_wait(&s->idle, &s->lock.m);
}

void control_stop(struct control_server *s)
{
	if (!s)
		return;
	(void)eventfd_write(s->stop_fd, 1);
	pthread_join(s->thread, NULL);
	unlink(s->path);
	close(s->listen_fd);
	end_calls(s);
	close(s->stop_fd);
	pthread_cond_destroy(&s->idle);
	pthread_mutex_destroy(&s->lock.m);
	free(s);
}
