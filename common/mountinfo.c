/*
 * Reading /proc/PID/mountinfo. A line: "36 35 98:0 /root /dir rw,noatime [tags...] - fstype source superoptions".
 */
#include "common/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/str.h"

#define TEXT_MAX (64u << 20)

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* "\040" and the like, in place. */
static char *unescape(char *s)
{
	char *out = s;

	for (const char *in = s; *in; out++) {
		if (in[0] == '\\' && is_octal(in[1]) && is_octal(in[2]) && is_octal(in[3])) {
			*out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
	return s;
}

static bool parse_line(char *line, struct mountinfo_entry *ret)
{
	unsigned int maj, min;
	char *save = NULL, *fields[6];

	for (size_t i = 0; i < MFS_ARRAY_LEN(fields); i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!fields[i])
			return false;
	}
	if (sscanf(fields[0], "%u", &ret->id) != 1 || sscanf(fields[1], "%u", &ret->parent) != 1 ||
	    sscanf(fields[2], "%u:%u", &maj, &min) != 2)
		return false;
	ret->dev = makedev(maj, min);
	ret->root = unescape(fields[3]);
	ret->dir = unescape(fields[4]);
	ret->options = fields[5];
	for (;;) {
		const char *tag = strtok_r(NULL, " ", &save);

		if (!tag)
			return false;
		if (!strcmp(tag, "-"))
			break;
	}
	ret->fstype = strtok_r(NULL, " ", &save);
	/* An empty source leaves two spaces, which strtok_r takes for one: what follows then is the super options. */
	ret->source = strtok_r(NULL, " ", &save);
	if (!ret->fstype || !ret->source)
		return false;
	if (!strtok_r(NULL, " ", &save))
		ret->source[0] = '\0';
	unescape(ret->source);
	return true;
}

int mountinfo_parse(char *text, struct mountinfo *ret)
{
	size_t n_lines = 1;
	char *save = NULL;

	*ret = (struct mountinfo){ .text = text };
	for (const char *p = text; *p; p++)
		n_lines += *p == '\n';
	ret->v = calloc(n_lines, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (parse_line(line, &ret->v[ret->n]))
			ret->n++;
	return 0;
}

int mountinfo_read(const char *path, struct mountinfo *ret)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(TEXT_MAX);
	char *taken;
	int fd, r;

	*ret = (struct mountinfo){ 0 };
	fd = open(path ? path : "/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = mfs_buf_read_fd(&text, fd);
	close(fd);
	if (r < 0)
		return r;
	taken = mfs_buf_take(&text);
	return taken ? mountinfo_parse(taken, ret) : -ENOMEM;
}

void mountinfo_release(struct mountinfo *mi)
{
	free(mi->v);
	free(mi->text);
	*mi = (struct mountinfo){ 0 };
}

static bool is_covered(const struct mountinfo *mi, const struct mountinfo_entry *e)
{
	for (size_t i = 0; i < mi->n; i++)
		if (mi->v[i].parent == e->id && mi->v[i].id != e->id && !strcmp(mi->v[i].dir, e->dir))
			return true;
	return false;
}

const struct mountinfo_entry *mountinfo_top(const struct mountinfo *mi, const char *dir)
{
	for (size_t i = mi->n; i-- > 0;)
		if (!strcmp(mi->v[i].dir, dir) && !is_covered(mi, &mi->v[i]))
			return &mi->v[i];
	return NULL;
}

const struct mountinfo_entry *mountinfo_by_dev(const struct mountinfo *mi, dev_t dev)
{
	for (size_t i = 0; i < mi->n; i++)
		if (mi->v[i].dev == dev)
			return &mi->v[i];
	return NULL;
}

bool mountinfo_is_fuse(const struct mountinfo_entry *e)
{
	return !strcmp(e->fstype, "fuse") || mfs_str_starts(e->fstype, "fuse.");
}
