/*
 * Files and standard streams of dump and load, with zstd between.
 */
#include "tools/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"

static bool is_standard(const char *path)
{
	return !path || strcmp(path, "-") == 0;
}

static int write_fd(void *arg, const void *buf, size_t len)
{
	struct dump_file *f = arg;
	const char *p = buf;

	while (len) {
		ssize_t n = write(f->fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
		f->bytes += (uint64_t)n;
	}
	return 0;
}

int dump_file_open(struct dump_file *f, const char *path, int level)
{
	*f = (struct dump_file){ .fd = STDOUT_FILENO };
	if (!is_standard(path)) {
		f->path = path;
		f->temp = mfs_str_printf("%s.XXXXXX", path);
		f->fd = f->temp ? mkostemp(f->temp, O_CLOEXEC) : -1;
		if (f->fd < 0) {
			int r = f->temp ? -errno : -ENOMEM;

			free(MFS_TAKE(f->temp));
			return r;
		}
	}
	f->z = mfs_zwriter_new(level, write_fd, f);
	if (f->z)
		return 0;
	dump_file_release(f);
	return -ENOMEM;
}

int dump_file_write(void *arg, const void *buf, size_t len)
{
	return mfs_zwriter_write(((struct dump_file *)arg)->z, buf, len);
}

static ssize_t write_cookie(void *arg, const char *buf, size_t len)
{
	int r = dump_file_write(arg, buf, len);

	if (r == 0)
		return (ssize_t)len;
	errno = -r;
	return 0;
}

FILE *dump_file_stream(struct dump_file *f)
{
	FILE *stream = fopencookie(f, "w", (cookie_io_functions_t){ .write = write_cookie });

	if (stream)
		setvbuf(stream, NULL, _IOFBF, 64 * 1024);
	return stream;
}

int dump_file_commit(struct dump_file *f)
{
	int r = mfs_zwriter_finish(f->z);

	if (r < 0 || !f->path)
		return r;
	if (fsync(f->fd) < 0)
		return -errno;
	if (rename(f->temp, f->path) < 0)
		return -errno;
	free(MFS_TAKE(f->temp));
	return 0;
}

void dump_file_release(struct dump_file *f)
{
	mfs_zwriter_free(f->z);
	if (f->path && f->fd >= 0)
		close(f->fd);
	if (f->temp)
		(void)unlink(f->temp);
	free(f->temp);
	*f = (struct dump_file){ .fd = -1 };
}

static ssize_t read_fd(void *arg, void *buf, size_t len)
{
	struct load_file *f = arg;
	ssize_t n;

	do
		n = read(f->fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int load_file_open(struct load_file *f, const char *path)
{
	f->fd = is_standard(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0)
		return -errno;
	f->z = mfs_zreader_new(read_fd, f);
	if (f->z)
		return 0;
	load_file_release(f);
	return -ENOMEM;
}

ssize_t load_file_read(void *arg, void *buf, size_t len)
{
	return mfs_zreader_read(((struct load_file *)arg)->z, buf, len);
}

void load_file_release(struct load_file *f)
{
	mfs_zreader_free(f->z);
	f->z = NULL;
	if (f->fd > STDERR_FILENO)
		close(f->fd);
	f->fd = -1;
}

void tool_progress_init(struct tool_progress *p, const char *name)
{
	*p = (struct tool_progress){ .name = name, .wanted = isatty(STDERR_FILENO) };
}

int tool_progress_show(void *arg, uint64_t done, uint64_t total)
{
	struct tool_progress *p = arg;
	int64_t now = mfs_mono_ns();

	if (!p->wanted || now < p->next)
		return 0;
	p->next = now + MFS_NSEC_PER_SEC / 5;
	p->shown = true;
	if (total)
		fprintf(stderr, "\r%s: %" PRIu64 " of %" PRIu64 " records\033[K", p->name, done, total);
	else
		fprintf(stderr, "\r%s: %" PRIu64 " records\033[K", p->name, done);
	fflush(stderr);
	return 0;
}

void tool_progress_end(struct tool_progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
