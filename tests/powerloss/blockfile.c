/*
 * A disk that remembers in which order it was written: a FUSE filesystem with one file, `disk`, for a loop device.
 *
 *     blockfile LOG SIZE MOUNTPOINT
 *
 * The disk's bytes are in memory. Each write and each flush is appended to LOG before it is answered, so the length
 * of LOG, read after some system call has returned, is a moment of the disk's life: what that call waited for lies
 * before it. From LOG tests/cases/powerloss.py makes the disk as a power loss at any moment may leave it.
 *
 * An entry: struct entry, then `len` bytes of data for a write. One thread serves all, so entries are whole and in
 * the order in which the disk did them; a write that is answered after a flush was logged is not covered by it.
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define ENTRY_WRITE UINT32_C(0x57524954)
#define ENTRY_FLUSH UINT32_C(0x464c5553)

struct entry {
	uint32_t kind;
	uint32_t len;
	uint64_t off;
};

struct disk {
	unsigned char *bytes;
	uint64_t size;
	int log;
};

static struct disk *disk(void)
{
	return fuse_get_context()->private_data;
}

static int append(const struct disk *d, uint32_t kind, uint64_t off, const char *data, size_t len)
{
	struct entry e = { .kind = kind, .len = (uint32_t)len, .off = off };
	struct iovec iov[2] = { { .iov_base = &e, .iov_len = sizeof(e) }, { .iov_len = len } };
	ssize_t n;

	memcpy(&iov[1].iov_base, &data, sizeof(data)); /* writev(2) does not write to it */
	n = writev(d->log, iov, len ? 2 : 1);
	if (n != (ssize_t)(sizeof(e) + len)) {
		fprintf(stderr, "blockfile: the log cannot be written: %s\n", n < 0 ? strerror(errno) : "no room");
		_exit(1); /* a log that lacks something proves nothing */
	}
	return 0;
}

static int disk_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	memset(st, 0, sizeof(*st));
	if (!strcmp(path, "/")) {
		st->st_mode = S_IFDIR | 0700;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, "/disk") != 0)
		return -ENOENT;
	st->st_mode = S_IFREG | 0600;
	st->st_nlink = 1;
	st->st_size = (off_t)disk()->size;
	st->st_blocks = st->st_size / 512;
	return 0;
}

static int disk_open(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	fi->direct_io = 1; /* the kernel keeps nothing back: a write is here when it is answered */
	return 0;
}

static int disk_read(const char *path, char *buf, size_t len, off_t off, struct fuse_file_info *fi)
{
	const struct disk *d = disk();

	(void)path;
	(void)fi;
	if ((uint64_t)off >= d->size)
		return 0;
	if (len > d->size - (uint64_t)off)
		len = (size_t)(d->size - (uint64_t)off);
	memcpy(buf, d->bytes + off, len);
	return (int)len;
}

static int disk_write(const char *path, const char *buf, size_t len, off_t off, struct fuse_file_info *fi)
{
	const struct disk *d = disk();

	(void)path;
	(void)fi;
	if ((uint64_t)off > d->size || len > d->size - (uint64_t)off)
		return -ENOSPC;
	memcpy(d->bytes + off, buf, len);
	append(d, ENTRY_WRITE, (uint64_t)off, buf, len);
	return (int)len;
}

static int disk_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	(void)path;
	(void)datasync;
	(void)fi;
	return append(disk(), ENTRY_FLUSH, 0, NULL, 0);
}

static const struct fuse_operations ops = {
	.getattr = disk_getattr,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.fsync = disk_fsync,
};

int main(int argc, char **argv)
{
	char *args[] = { argv[0], (char[]){ "-f" }, (char[]){ "-s" }, argc == 4 ? argv[3] : NULL, NULL };
	struct disk d = { .log = -1 };

	if (argc != 4) {
		fprintf(stderr, "usage: %s LOG SIZE MOUNTPOINT\n", argv[0]);
		return 2;
	}
	d.size = strtoull(argv[2], NULL, 10);
	d.log = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (d.log < 0) {
		fprintf(stderr, "blockfile: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	d.bytes = mmap(NULL, d.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d.bytes == MAP_FAILED) {
		fprintf(stderr, "blockfile: %s bytes of memory: %s\n", argv[2], strerror(errno));
		return 1;
	}
#ifdef PR_SET_IO_FLUSHER
	/* Memory for an answer must not wait for pages that only our answers make clean. */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
#endif
	return fuse_main(4, args, &ops, &d);
}
