/*
 * The client's side of the control socket: one request, then frames until the exit status.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/str.h"
#include "fs/control.h"
#include "fs/control_wire.h"

bool control_path(dev_t dev, int nth, char *buf, size_t size)
{
	int n;

	if (nth == 0)
		n = snprintf(buf, size, "/run/massfs/%u-%u.sock", major(dev), minor(dev));
	else if (nth == 1)
		n = snprintf(buf, size, "/run/user/%u/massfs-%u-%u.sock", geteuid(), major(dev), minor(dev));
	else
		return false;
	return n > 0 && (size_t)n < size;
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, r;

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	do
		r = connect(fd, (struct sockaddr *)&a, sizeof(a));
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int connect_any(dev_t dev)
{
	char path[108];
	int first = -ENOENT;

	for (int i = 0; control_path(dev, i, path, sizeof(path)); i++) {
		int fd = connect_to(path);

		if (fd >= 0)
			return fd;
		if (i == 0)
			first = fd;
	}
	return first;
}

static int send_all(int fd, const char *p, size_t len)
{
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

/* -EPIPE: the end came first. */
static int recv_all(int fd, void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = recv(fd, p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		if (n == 0)
			return -EPIPE;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int get_number(const char *text, uint64_t max, uint64_t *ret)
{
	return mfs_str_uint(text, 10, 0, max, ret) < 0 ? -EBADMSG : 0;
}

/* Frames until the status: that, or -errno. */
static int answer(int fd, FILE *out, FILE *err, pid_t *ret_pid)
{
	MFS_AUTOFREE char *body = malloc(CONTROL_FRAME_MAX + 1);

	if (!body)
		return -ENOMEM;
	for (;;) {
		unsigned char header[CONTROL_FRAME_HEADER];
		uint64_t number = 0;
		uint32_t len;
		char type;
		int r = recv_all(fd, header, sizeof(header));

		if (r == 0)
			r = control_frame_get(header, &type, &len);
		if (r == 0)
			r = recv_all(fd, body, len);
		if (r < 0)
			return r;
		body[len] = '\0';
		if (type == 'o' || type == 'e') {
			FILE *f = type == 'o' ? out : err;

			if (fwrite(body, 1, len, f) != len || fflush(f) != 0)
				return -EIO;
			continue;
		}
		r = get_number(body, type == 'x' ? 255 : INT32_MAX, &number);
		if (r < 0)
			return r;
		if (type == 'x')
			return (int)number;
		if (ret_pid)
			*ret_pid = (pid_t)number;
	}
}

int control_call(dev_t dev, int argc, char *const *argv, bool progress, FILE *out, FILE *err, pid_t *ret_pid)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(CONTROL_REQUEST_MAX);
	int r = control_request_put(argc, argv, progress, &b), fd;

	if (r < 0)
		return r;
	fd = connect_any(dev);
	if (fd < 0)
		return fd;
	r = send_all(fd, b.data, b.len);
	/* A server that is full answers without reading. */
	if (r == 0 || r == -EPIPE || r == -ECONNRESET)
		r = answer(fd, out, err, ret_pid);
	close(fd);
	return r;
}
