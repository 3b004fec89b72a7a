/*
 * Requests and frames of the control socket, to and from bytes. Every length is checked against what there is before
 * it is used.
 */
#include "fs/control_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t get_u32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> (8 * i));
}

static int append_u32(struct mfs_buf *b, uint32_t v)
{
	unsigned char bytes[4];

	put_u32(bytes, v);
	return mfs_buf_append(b, bytes, sizeof(bytes));
}

void control_request_release(struct control_request *r)
{
	for (int i = 0; r->argv && i < r->argc; i++)
		free(r->argv[i]);
	free(r->argv);
	*r = (struct control_request){ 0 };
}

int control_request_put(int argc, char *const *argv, bool progress, struct mfs_buf *ret)
{
	size_t total = 0;
	int r;

	if (argc < 1)
		return -EINVAL;
	if (argc > CONTROL_ARGS_MAX)
		return -E2BIG;
	for (int i = 0; i < argc; i++) {
		size_t len = strlen(argv[i]);

		if (len > CONTROL_ARGS_BYTES - total)
			return -E2BIG;
		total += len;
	}
	r = append_u32(ret, CONTROL_MAGIC);
	if (r == 0)
		r = append_u32(ret, (uint32_t)argc);
	for (int i = 0; i < argc && r == 0; i++) {
		size_t len = strlen(argv[i]);

		r = append_u32(ret, (uint32_t)len);
		if (r == 0)
			r = mfs_buf_append(ret, argv[i], len);
	}
	return r < 0 ? r : append_u32(ret, progress ? CONTROL_WANTS_PROGRESS : 0);
}

/* One argument at *at. */
static int get_arg(const unsigned char *p, size_t len, size_t *at, size_t *total, char **ret)
{
	uint32_t n;

	if (len - *at < 4)
		return -EAGAIN;
	n = get_u32(p + *at);
	if (n > CONTROL_ARGS_BYTES - *total)
		return -EBADMSG;
	if (len - *at - 4 < n)
		return -EAGAIN;
	if (memchr(p + *at + 4, '\0', n))
		return -EBADMSG;
	*ret = malloc((size_t)n + 1);
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, p + *at + 4, n);
	(*ret)[n] = '\0';
	*at += 4 + (size_t)n;
	*total += n;
	return 0;
}

int control_request_get(const void *data, size_t len, struct control_request *ret)
{
	const unsigned char *p = data;
	struct control_request req = { 0 };
	size_t at = 8, total = 0;
	uint32_t n, flags;
	int r = 0;

	/* A wrong beginning is refused at once, not after a wait for more of it. */
	for (size_t i = 0; i < 4 && i < len; i++)
		if (p[i] != (unsigned char)(CONTROL_MAGIC >> (8 * i)))
			return -EBADMSG;
	if (len < 8)
		return -EAGAIN;
	n = get_u32(p + 4);
	if (n < 1 || n > CONTROL_ARGS_MAX)
		return -EBADMSG;
	req.argv = calloc((size_t)n + 1, sizeof(*req.argv));
	if (!req.argv)
		return -ENOMEM;
	while (r == 0 && req.argc < (int)n) {
		r = get_arg(p, len, &at, &total, &req.argv[req.argc]);
		req.argc += r == 0;
	}
	if (r == 0 && len - at < 4)
		r = -EAGAIN;
	if (r == 0) {
		flags = get_u32(p + at);
		req.progress = flags & CONTROL_WANTS_PROGRESS;
		if (len - at != 4 || (flags & ~CONTROL_WANTS_PROGRESS))
			r = -EBADMSG;
	}
	if (r < 0) {
		control_request_release(&req);
		return r;
	}
	*ret = req;
	return 0;
}

void control_frame_put(char type, uint32_t len, unsigned char header[static CONTROL_FRAME_HEADER])
{
	header[0] = (unsigned char)type;
	put_u32(header + 1, len);
}

int control_frame_get(const unsigned char header[static CONTROL_FRAME_HEADER], char *ret_type,
		      uint32_t *ret_len)
{
	char type = (char)header[0];
	uint32_t len = get_u32(header + 1);

	if ((type != 'o' && type != 'e' && type != 'p' && type != 'x') || len > CONTROL_FRAME_MAX)
		return -EBADMSG;
	if ((type == 'p' || type == 'x') && len > 16)
		return -EBADMSG;
	*ret_type = type;
	*ret_len = len;
	return 0;
}
