/*
 * Block files: name, header, checksums. mfs-<id>-<block>-<length>-<serial>.blk, all in hex: the name alone rebuilds the
 * index; the header and the bytes are believed only when their sums agree and it says what the name says.
 */
#include "fs/block_cache_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/hash.h"
#include "common/str.h"

#define MAGIC	"massfsB1"
#define N_CELLS (BLOCK_CACHE_BLOCK / BLOCK_CELL)
#define TMP	"mfs-tmp-"

/* As it is on disk; a cache is not carried to a machine of other byte order, and the magic of one would not verify. */
struct header {
	char magic[8];
	uint64_t sum; /* of all that follows */
	char volume[BLOCK_VOLUME_SIZE];
	char version[OBJECT_VERSION_MAX + 1];
	uint64_t id[2];
	uint64_t block;
	uint32_t len, zero;
	uint64_t cells[N_CELLS]; /* XXH3-64 of each */
	char pad[BLOCK_HEADER - 8 - 8 - BLOCK_VOLUME_SIZE - (OBJECT_VERSION_MAX + 1) - 32 - 8 * N_CELLS];
};
_Static_assert(sizeof(struct header) == BLOCK_HEADER, "no holes in a header");

static uint64_t header_sum(const struct header *h)
{
	return mfs_hash64(h->volume, sizeof(*h) - offsetof(struct header, volume));
}

static void header_label(struct header *h, const struct block_label *l)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, MAGIC, sizeof(h->magic));
	snprintf(h->volume, sizeof(h->volume), "%s", l->volume);
	snprintf(h->version, sizeof(h->version), "%s", l->version);
	memcpy(h->id, l->key.id, sizeof(h->id));
	h->block = l->key.block;
	h->len = l->len;
}

static bool header_fits(const struct header *h, const struct block_label *l)
{
	struct header want;

	header_label(&want, l);
	return h->sum == header_sum(h) && !memcmp(h->magic, want.magic, sizeof(want.magic)) &&
	       !memcmp(h->volume, want.volume,
		       offsetof(struct header, cells) - offsetof(struct header, volume));
}

void block_file_name(const struct block_label *l, char name[BLOCK_NAME_MAX])
{
	snprintf(name, BLOCK_NAME_MAX,
		 "mfs-%016" PRIx64 "%016" PRIx64 "-%" PRIx64 "-%" PRIx32 "-%" PRIx32 ".blk", l->key.id[0],
		 l->key.id[1], l->key.block, l->len, l->serial);
}

/* A name of ours and no other: it is what parsing and printing again gives. */
static bool parse_name(const char *name, struct block *ret)
{
	struct block_label l = { 0 };
	char again[BLOCK_NAME_MAX];

	if (sscanf(name, "mfs-%16" SCNx64 "%16" SCNx64 "-%16" SCNx64 "-%8" SCNx32 "-%8" SCNx32 ".blk",
		   &l.key.id[0], &l.key.id[1], &l.key.block, &l.len, &l.serial) != 5)
		return false;
	block_file_name(&l, again);
	if (strcmp(name, again) != 0 || l.len > BLOCK_CACHE_BLOCK || !l.len)
		return false;
	*ret = (struct block){ .key = l.key, .len = l.len, .serial = l.serial };
	return true;
}

static int write_all(int fd, struct iovec *iov, int n)
{
	while (n) {
		ssize_t done = writev(fd, iov, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		while (n && (size_t)done >= iov->iov_len) {
			done -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

int block_file_write(int dirfd, const struct block_label *l, const void *buf)
{
	char name[BLOCK_NAME_MAX], tmp[BLOCK_NAME_MAX];
	struct header h;
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)(uintptr_t)buf, l->len } };
	int fd, r;

	header_label(&h, l);
	for (uint32_t at = 0; at < l->len; at += BLOCK_CELL)
		h.cells[at / BLOCK_CELL] =
			mfs_hash64((const char *)buf + at, MFS_MIN(BLOCK_CELL, l->len - at));
	h.sum = header_sum(&h);
	block_file_name(l, name);
	snprintf(tmp, sizeof(tmp), TMP "%08" PRIx32, l->serial);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, iov, 2);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dirfd, tmp, 0);
	return r;
}

/* -EBADMSG: it ends before. */
static int read_all(int fd, void *buf, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EBADMSG;
		done += (size_t)n;
	}
	return 0;
}

/* Whole cells, [off, off+len), into buf. */
static int read_cells(int fd, const struct header *h, uint32_t off, void *buf, uint32_t len)
{
	int r = read_all(fd, buf, len, BLOCK_HEADER + (uint64_t)off);

	for (uint32_t at = 0; at < len && r == 0; at += BLOCK_CELL)
		if (mfs_hash64((char *)buf + at, MFS_MIN(BLOCK_CELL, len - at)) !=
		    h->cells[(off + at) / BLOCK_CELL])
			r = -EBADMSG;
	return r;
}

static int read_verified(int fd, const struct block_label *l, uint32_t off, void *buf, uint32_t len)
{
	uint32_t first = off / BLOCK_CELL * BLOCK_CELL,
		 end = (off + len + BLOCK_CELL - 1) / BLOCK_CELL * BLOCK_CELL;
	MFS_AUTOFREE char *space = NULL;
	struct header h;
	int r = read_all(fd, &h, sizeof(h), 0);

	if (r < 0)
		return r;
	if (!header_fits(&h, l))
		return -EBADMSG;
	end = MFS_MIN(end, l->len);
	if (first == off && end == off + len)
		return read_cells(fd, &h, off, buf, len);
	space = malloc(end - first);
	if (!space)
		return -ENOMEM;
	r = read_cells(fd, &h, first, space, end - first);
	if (r == 0)
		memcpy(buf, space + (off - first), len);
	return r;
}

int block_file_read(int dirfd, const struct block_label *l, uint32_t off, void *buf, uint32_t len)
{
	char name[BLOCK_NAME_MAX];
	int fd, r;

	block_file_name(l, name);
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ELOOP ? -EBADMSG : -errno;
	r = read_verified(fd, l, off, buf, len);
	close(fd);
	return r == -EISDIR ? -EBADMSG : r;
}

void block_file_delete(int dirfd, const struct block_key *key, uint32_t len, uint32_t serial)
{
	struct block_label l = { .key = *key, .len = len, .serial = serial };
	char name[BLOCK_NAME_MAX];

	block_file_name(&l, name);
	(void)unlinkat(dirfd, name, 0);
}

static bool is_unfinished(const char *name)
{
	size_t n = strlen(TMP);

	return mfs_str_starts(name, TMP) && strlen(name) == n + 8 &&
	       strspn(name + n, "0123456789abcdef") == 8;
}

int block_file_scan(int dirfd, block_file_fn *fn, void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, e = readdir(d))) {
		struct block b;

		if (e->d_type != DT_REG && e->d_type != DT_UNKNOWN)
			continue;
		if (is_unfinished(e->d_name))
			(void)unlinkat(dirfd, e->d_name, 0);
		else if (parse_name(e->d_name, &b))
			r = fn(arg, &b);
	}
	if (r == 0)
		r = -errno;
	closedir(d);
	return r;
}
