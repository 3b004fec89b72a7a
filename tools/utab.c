/*
 * Editing /run/mount/utab as libmount does: under flock of utab.lock, a new file renamed over the old one.
 */
#include "tools/utab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define UTAB_DIR "/run/mount"
#define UTAB	 UTAB_DIR "/utab"
#define UTAB_MAX (16u << 20)

/* As in fstab: white space, backslash and # as octal. */
static void put_escaped(struct mfs_buf *b, const char *s)
{
	for (; *s; s++) {
		if (strchr(" \t\n\\#", *s))
			mfs_buf_printf(b, "\\%03o", (unsigned char)*s);
		else
			mfs_buf_putc(b, *s);
	}
}

static bool has_field(const char *line, size_t len, const char *field)
{
	size_t n = strlen(field);

	for (const char *p = line; p + n <= line + len; p++)
		if ((p == line || p[-1] == ' ') && !memcmp(p, field, n) &&
		    (p + n == line + len || p[n] == ' '))
			return true;
	return false;
}

int utab_edit(const char *old, const char *source, const char *dir, struct mfs_buf *ret)
{
	MFS_AUTOBUF struct mfs_buf target = MFS_BUF_INIT(64 * 1024);
	size_t len;

	mfs_buf_puts(&target, "TARGET=");
	put_escaped(&target, dir);
	if (target.err)
		return target.err;
	for (; *old; old += len + (old[len] == '\n')) {
		len = strcspn(old, "\n");
		if (!has_field(old, len, mfs_buf_str(&target))) {
			mfs_buf_append(ret, old, len);
			mfs_buf_putc(ret, '\n');
		}
	}
	if (source) {
		mfs_buf_puts(ret, "SRC=");
		put_escaped(ret, source);
		mfs_buf_printf(ret, " %s ROOT=/ OPTS=uhelper=fuse.massfs\n", mfs_buf_str(&target));
	}
	return ret->err;
}

/* An open and locked utab.lock; -errno. */
static int lock_utab(void)
{
	int fd = open(UTAB ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX) < 0) {
		if (errno != EINTR) {
			close(fd);
			return -ENOLCK;
		}
	}
	return fd;
}

static int read_utab(struct mfs_buf *ret)
{
	int fd = open(UTAB, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = mfs_buf_read_fd(ret, fd);
	close(fd);
	return r;
}

static int write_utab(const struct mfs_buf *text)
{
	char path[] = UTAB ".XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, mfs_buf_str(text), text->len) != (ssize_t)text->len || fchmod(fd, 0644) < 0)
		r = -EIO;
	if (close(fd) < 0 || (!r && rename(path, UTAB) < 0))
		r = -errno;
	if (r < 0)
		unlink(path);
	return r;
}

static int edit(const char *source, const char *dir)
{
	MFS_AUTOBUF struct mfs_buf old = MFS_BUF_INIT(UTAB_MAX);
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(UTAB_MAX);
	int lock, r;

	if (source && mkdir(UTAB_DIR, 0755) < 0 && errno != EEXIST)
		return -errno;
	lock = lock_utab();
	if (lock < 0)
		return lock;
	r = read_utab(&old);
	if (!r)
		r = utab_edit(mfs_buf_str(&old), source, dir, &text);
	if (!r && strcmp(mfs_buf_str(&old), mfs_buf_str(&text)))
		r = write_utab(&text);
	close(lock);
	return r;
}

int utab_add(const char *source, const char *dir)
{
	return edit(source, dir);
}

int utab_remove(const char *dir)
{
	return edit(NULL, dir);
}
