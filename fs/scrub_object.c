/*
 * One object, read from its beginning to its end, against the length and the checksum that the index has of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/op_ctx.h"
#include "fs/pieces.h"
#include "fs/scrub_internal.h"

#define NAP_MAX_NS (100 * INT64_C(1000000)) /* so that a cancel is seen */

/* No faster than opt->rate, over all since the beginning. */
static int keep_rate(struct scrub *s, uint64_t bytes)
{
	s->read += bytes;
	s->res->bytes += bytes;
	if (s->opt->progress)
		s->opt->progress(s->opt->arg, s->res->bytes, s->res->objects);
	while (!atomic_load(&s->op->cancelled)) {
		int64_t due, left;
		struct timespec ts;

		if (!s->opt->rate)
			return 0;
		due = s->began + (int64_t)((double)s->read / (double)s->opt->rate * (double)MFS_NSEC_PER_SEC);
		left = due - mfs_mono_ns();
		if (left <= 0)
			return 0;
		ts = mfs_ns_to_timespec(MFS_MIN(left, NAP_MAX_NS));
		nanosleep(&ts, NULL);
	}
	return -ECANCELED;
}

static int found(struct scrub_finding *f, const char *what, const char *fmt, ...) MFS_PRINTF(3, 4);

static int found(struct scrub_finding *f, const char *what, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->detail, sizeof(f->detail), fmt, ap);
	va_end(ap);
	f->what = what;
	return 1;
}

static ssize_t read_chunk(struct scrub *s, const struct piece *p, int fd, uint64_t off)
{
	ssize_t n;

	if (fd < 0)
		return object_get(s->v->store, s->op, p->ref, off, s->buf, SCRUB_CHUNK);
	do
		n = pread(fd, s->buf, SCRUB_CHUNK, (off_t)off);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* All of it into the sum. What the kernel has in memory is no proof: with a descriptor it is asked to forget it first. */
static int read_all(struct scrub *s, const struct piece *p, int fd, struct mfs_checksum *sum, uint64_t *ret_len)
{
	uint64_t off = 0;
	ssize_t n;

	if (fd >= 0) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	}
	while ((n = read_chunk(s, p, fd, off)) > 0) {
		int r;

		mfs_checksum_update(sum, s->buf, (size_t)n);
		off += (uint64_t)n;
		r = keep_rate(s, (uint64_t)n);
		if (r < 0)
			return r;
	}
	if (fd >= 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	*ret_len = off;
	return (int)n;
}

static int judge(struct scrub *s, const struct piece *p, uint64_t len, uint64_t sum, struct scrub_finding *ret)
{
	if (len < p->len)
		return found(ret, "short", "%" PRIu64 " bytes of %" PRIu64, len, p->len);
	if (p->is_segment && len > p->len)
		return found(ret, "too long", "%" PRIu64 " bytes instead of %" PRIu64, len, p->len);
	if (!p->has_sum) {
		s->res->unverified++;
		s->res->unverified_bytes += len;
	} else if (sum != p->sum) {
		return found(ret, "wrong checksum", "%016" PRIx64 " instead of %016" PRIx64 ", %" PRIu64 " bytes", sum,
			     p->sum, len);
	}
	return 0;
}

int scrub_object(struct scrub *s, const struct piece *p, struct scrub_finding *ret)
{
	struct mfs_checksum *sum;
	uint64_t len = 0;
	int fd = -1, r;

	*ret = (struct scrub_finding){ 0 };
	if (object_store_caps(s->v->store) & OBJECT_CAP_FD) {
		fd = object_open_fd(s->v->store, s->op, p->ref);
		if (fd == -ENOENT)
			return found(ret, "missing", "it is not in the store");
		if (fd < 0)
			return fd;
	}
	sum = mfs_checksum_new();
	r = sum ? read_all(s, p, fd, sum, &len) : -ENOMEM;
	if (fd >= 0)
		close(fd);
	if (r == 0) {
		s->res->objects++;
		return judge(s, p, len, mfs_checksum_final(sum), ret);
	}
	mfs_checksum_free(sum);
	if (r == -ENOENT)
		return found(ret, "missing", "it is not in the store");
	if (r == -EIO || r == -EUCLEAN)
		return found(ret, "unreadable", "%s after %" PRIu64 " bytes", strerror(-r), len);
	return r;
}
