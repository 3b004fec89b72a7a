/*
 * Files on their way to become versions: a nameless (O_TMPFILE) file takes the bytes; finishing it gives it its
 * metadata, its version's name and the view, in the order that localdir.h tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "backend/localdir.h"
#include "common/clock.h"
#include "common/log.h"

mode_t localdir_file_mode(const struct object_meta *meta)
{
	return (meta->mode & 0555) | 0400;
}

void localdir_temp_name(struct localdir *ld, char name[static LOCALDIR_TEMP_MAX])
{
	snprintf(name, LOCALDIR_TEMP_MAX, "%016jx-%jx", (uintmax_t)ld->token,
		 (uintmax_t)atomic_fetch_add(&ld->n_temps, 1));
}

bool localdir_temp_is_mine(const struct localdir *ld, const char *name)
{
	char mine[20];

	snprintf(mine, sizeof(mine), "%016jx-", (uintmax_t)ld->token);
	return !strncmp(name, mine, 17);
}

/*
 * Root makes the file with its final mode; anyone else may not set an xattr on a read-only file, even of his own, and
 * gets the mode at the end.
 *
 * A nameless file is made in the version folder of the moment, not in tmp/: ext4 places an inode near its folder, and
 * one folder for all would have it search ever farther (measured: a third of a put).
 */
int localdir_temp_open(struct localdir *ld, struct op_ctx *op, const struct object_meta *meta,
		       struct temp_file *ret)
{
	mode_t mode = ld->is_root ? localdir_file_mode(meta) : 0600;
	uint8_t folder = localdir_version_folder(ld);
	char name[4];
	int r;

	*ret = (struct temp_file){ .fd = -1 };
	if (ld->has_tmpfile) {
		r = localdir_folder_ready(ld, op, folder);
		if (r < 0)
			return r;
		snprintf(name, sizeof(name), "%02x", folder);
		ret->fd = openat(ld->v_fd, name, O_TMPFILE | O_RDWR | O_CLOEXEC | O_NOFOLLOW, mode);
		if (ret->fd < 0 &&
		    errno == ENOENT) /* somebody removed the folder: name_version makes it again */
			ret->fd = openat(ld->tmp_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
		return ret->fd < 0 ? localdir_error(ld, op, errno, "open(O_TMPFILE)", ".massfs/v/", name) : 0;
	}
	localdir_temp_name(ld, ret->name);
	ret->fd = openat(ld->tmp_fd, ret->name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, mode);
	return ret->fd < 0 ? localdir_error(ld, op, errno, "open", ".massfs/tmp/", ret->name) : 0;
}

void localdir_temp_discard(struct localdir *ld, struct temp_file *t)
{
	if (t->name[0])
		unlinkat(ld->tmp_fd, t->name, 0);
	t->name[0] = '\0';
	localdir_close_fd(&t->fd);
}

/* The last of the disk is left to the index, which lies on it too: a volume that objects have filled must open, and its
 * files must be deletable. */
static int check_room(struct localdir *ld, struct op_ctx *op, uint64_t len, const char *key)
{
	struct statvfs v;
	uint64_t reserve;

	if (fstatvfs(ld->v_fd, &v) < 0)
		return 0; /* whoever writes will hear */
	reserve = MFS_MIN(LOCALDIR_RESERVE, (uint64_t)v.f_blocks * v.f_frsize / 16);
	if ((uint64_t)v.f_bfree * v.f_frsize >= reserve + len)
		return 0;
	return localdir_error(ld, op, ENOSPC, "write", "upload of ", key);
}

static int write_all(struct localdir *ld, struct op_ctx *op, int fd, uint64_t off, const char *buf,
		     size_t len, const char *key)
{
	int r = check_room(ld, op, len, key);

	while (!r && len) {
		ssize_t n = pwrite(fd, buf, len, (off_t)off);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return localdir_error(ld, op, errno, "write", "upload of ", key);
		}
		buf += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return r;
}

int localdir_set_meta(struct localdir *ld, struct op_ctx *op, int fd, const struct stat *st,
		      const struct object_meta *meta, const char *key)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, mfs_ns_to_timespec(meta->mtime) };

	/* The owner cannot be kept where massfs does not run as root, nor a time that the filesystem cannot hold;
	 * the index has both. */
	if ((st->st_uid != meta->uid || st->st_gid != meta->gid) && fchown(fd, meta->uid, meta->gid) < 0 &&
	    errno != EPERM && errno != EINVAL)
		return localdir_error(ld, op, errno, "chown", "upload of ", key);
	if ((st->st_mode & 07777) != localdir_file_mode(meta) && fchmod(fd, localdir_file_mode(meta)) < 0)
		return localdir_error(ld, op, errno, "chmod", "upload of ", key);
	if (futimens(fd, times) < 0 && errno != EINVAL)
		return localdir_error(ld, op, errno, "utimens", "upload of ", key);
	return 0;
}

static int link_temp(struct localdir *ld, const struct temp_file *t, const char *path)
{
	char proc[32];

	if (t->name[0])
		return linkat(ld->tmp_fd, t->name, ld->v_fd, path, 0) < 0 ? -errno : 0;
	/* Allowed to root, and since Linux 6.10 to who opened it; else by its name in /proc. */
	if (!linkat(t->fd, "", ld->v_fd, path, AT_EMPTY_PATH))
		return 0;
	if (errno != ENOENT)
		return -errno;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", t->fd);
	return linkat(AT_FDCWD, proc, ld->v_fd, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* Label it with the ticket's id and give it its name in v/; another id if that one exists. */
static int name_version(struct localdir *ld, struct op_ctx *op, struct temp_file *t,
			struct view_ticket *ticket, const struct object_meta *meta)
{
	char path[LOCALDIR_PATH_MAX];
	int r;

	for (int tries = 0;; tries++) {
		localdir_version_path(&ticket->version, path);
		if (fsetxattr(t->fd, LOCALDIR_XATTR, path + 3, strlen(path + 3), 0) < 0)
			return localdir_error(ld, op, errno, "setxattr " LOCALDIR_XATTR, ".massfs/v/", path);
		r = localdir_folder_ready(ld, op, ticket->version.folder);
		if (r < 0)
			return r;
		r = link_temp(ld, t, path);
		if (r == -ENOENT && tries < 10) /* somebody removed the folder */
			atomic_store(&ld->folder_ready[ticket->version.folder], false);
		else if (r == -EEXIST &&
			 tries < 10) /* the clock was set back and an old version has this id */
			localdir_ticket_renew(ld, ticket, meta);
		else
			return r < 0 ? localdir_error(ld, op, r == -ENOENT ? EIO : -r, "link", ".massfs/v/",
						      path)
				     : 0;
	}
}

/* The data reach the disk, without a commit of the journal. */
static int write_back(struct localdir *ld, struct op_ctx *op, int fd, const char *key)
{
	const unsigned int all =
		SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

	if (ld->nosync || !sync_file_range(fd, 0, 0, all))
		return 0;
	if (errno == EIO || errno == ENOSPC || errno == EDQUOT)
		return localdir_error(ld, op, errno, "write", "upload of ", key);
	return fdatasync(fd) < 0 ? localdir_error(ld, op, errno, "fdatasync", "upload of ", key) : 0;
}

/* What was named becomes durable, names included. */
static int make_durable(struct localdir *ld, struct op_ctx *op, int fd, const struct view_ticket *ticket,
			struct view_shown *shown)
{
	int r;

	if (ld->nosync)
		return 0;
	if (fsync(fd) < 0)
		return localdir_error(ld, op, errno, "fsync", "upload of ", ticket->key);
	r = localdir_sync_version_folder(ld, op, ticket->version.folder);
	if (r < 0 || localdir_is_hidden(ticket->key))
		return r;
	return localdir_view_sync(ld, op, ticket->key, shown);
}

static int publish(struct localdir *ld, struct op_ctx *op, struct temp_file *t, struct view_ticket *ticket,
		   const struct object_meta *meta, struct stat *st, struct view_shown *shown)
{
	char path[LOCALDIR_PATH_MAX];
	int r;

	r = name_version(ld, op, t, ticket, meta);
	if (r < 0)
		return r;
	if (!ld->is_root)
		r = localdir_set_meta(ld, op, t->fd, st, meta, ticket->key);
	if (!r && !localdir_is_hidden(ticket->key))
		r = localdir_view_show(ld, op, ticket, &ticket->version, st, shown);
	if (!r)
		r = make_durable(ld, op, t->fd, ticket, shown);
	if (r < 0) {
		if (!localdir_is_hidden(ticket->key))
			localdir_view_take_back(ld, ticket, &ticket->version, shown);
		localdir_version_path(&ticket->version, path);
		unlinkat(ld->v_fd, path, 0);
	}
	return r;
}

int localdir_temp_finish(struct localdir *ld, struct op_ctx *op, struct temp_file *t, const char *key,
			 const struct object_meta *meta, struct object_info *ret)
{
	struct view_shown shown = VIEW_SHOWN_INIT;
	struct view_ticket ticket;
	struct stat st;
	int r;

	localdir_ticket_begin(ld, &ticket, key, meta);
	r = write_back(ld, op, t->fd, key);
	if (!r && fstat(t->fd, &st) < 0)
		r = localdir_error(ld, op, errno, "stat", "upload of ", key);
	if (!r && ld->is_root)
		r = localdir_set_meta(ld, op, t->fd, &st, meta, key);
	if (!r)
		r = publish(ld, op, t, &ticket, meta, &st, &shown);
	localdir_ticket_end(ld, &ticket);
	if (!r) {
		st.st_mtim = mfs_ns_to_timespec(meta->mtime);
		localdir_fill_info(&ticket.version, &st, ret);
		ret->not_shown = shown.not_shown;
	}
	localdir_shown_release(ld, &shown);
	localdir_temp_discard(ld, t);
	return r;
}

int localdir_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		 const void *buf, size_t len, const struct object_meta *meta, struct object_info *ret)
{
	struct localdir *ld = localdir_of(s);
	struct temp_file t;
	int r;

	if (bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	r = localdir_temp_open(ld, op, meta, &t);
	if (r < 0)
		return r;
	r = write_all(ld, op, t.fd, 0, buf, len, key);
	if (r < 0) {
		localdir_temp_discard(ld, &t);
		return r;
	}
	r = localdir_temp_finish(ld, op, &t, key, meta, ret);
	if (!r)
		mfs_checksum_etag(mfs_checksum(buf, len), ret->etag);
	return r;
}

struct localdir_upload *localdir_upload_new(struct object_store *s, const char *key, const struct object_meta *meta)
{
	size_t len = strlen(key) + 1;
	struct localdir_upload *u = calloc(1, sizeof(*u) + len);

	if (!u)
		return NULL;
	u->base.store = s;
	u->temp.fd = -1;
	u->meta = *meta;
	memcpy(u->key, key, len);
	cell_sums_init(&u->sums);
	return u;
}

void localdir_upload_free(struct localdir_upload *u)
{
	cell_sums_release(&u->sums);
	free(u);
}

int localdir_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		   const struct object_meta *meta, struct object_upload **ret)
{
	struct localdir *ld = localdir_of(s);
	struct localdir_upload *u;
	int r;

	if (bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	u = localdir_upload_new(s, key, meta);
	if (!u)
		return -ENOMEM;
	r = localdir_temp_open(ld, op, meta, &u->temp);
	if (r < 0) {
		localdir_upload_free(u);
		return r;
	}
	*ret = &u->base;
	return 0;
}

/* Let the disk begin, so that little is left to do when the upload completes. */
static void start_writeback(struct localdir *ld, int fd, uint64_t off, uint64_t len)
{
	if (!ld->nosync)
		sync_file_range(fd, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

int localdir_part(struct object_upload *base, struct op_ctx *op, unsigned int number, uint64_t off,
		  const void *buf, size_t len)
{
	struct localdir_upload *u = localdir_upload_of(base);
	struct localdir *ld = localdir_of(base->store);
	int r;

	cell_sums_forget(&u->sums, off, len);
	r = write_all(ld, op, u->temp.fd, off, buf, len, u->key);
	if (!r) {
		start_writeback(ld, u->temp.fd, off, len);
		cell_sums_learn(&u->sums, off, buf, len);
	}
	return r == 0 && u->is_named ? localdir_keep_part(u, op, number, off + len, len) : r;
}

/* Room in which a hole of the source can stay one: an earlier sending of the part may have left bytes there. */
static int clear_range(struct localdir *ld, struct op_ctx *op, int fd, uint64_t off, uint64_t len,
		       const char *key)
{
	static const char zeros[65536];
	struct stat st;
	uint64_t end;

	if (fstat(fd, &st) < 0)
		return localdir_error(ld, op, errno, "stat", "upload of ", key);
	if ((uint64_t)st.st_size <= off)
		return 0;
	end = MFS_MIN(off + len, (uint64_t)st.st_size);
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)(end - off)))
		return 0;
	for (; off < end; off += sizeof(zeros)) {
		int r = write_all(ld, op, fd, off, zeros, MFS_MIN(end - off, sizeof(zeros)), key);

		if (r < 0)
			return r;
	}
	return 0;
}

static int copy_by_hand(struct localdir *ld, struct op_ctx *op, int from, uint64_t src_off, int to,
			uint64_t off, uint64_t len, const char *key)
{
	const size_t room = 256 << 10;
	MFS_AUTOFREE char *buf = malloc(room);

	if (!buf)
		return -ENOMEM;
	while (len) {
		ssize_t n = pread(from, buf, MFS_MIN(len, room), (off_t)src_off);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return localdir_error(ld, op, n ? errno : EIO, "read", "source of ", key);
		r = write_all(ld, op, to, off, buf, (size_t)n, key);
		if (r < 0)
			return r;
		src_off += (uint64_t)n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* A range without holes. */
static int copy_data(struct localdir *ld, struct op_ctx *op, int from, uint64_t src_off, int to, uint64_t off,
		     uint64_t len, const char *key)
{
	while (len) {
		off_t in = (off_t)src_off, out = (off_t)off;
		ssize_t n = copy_file_range(from, &in, to, &out, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) /* this filesystem cannot, or it is a real error that comes again */
			return copy_by_hand(ld, op, from, src_off, to, off, len, key);
		src_off += (uint64_t)n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int localdir_copy_range(struct localdir *ld, struct op_ctx *op, int from, uint64_t src_off, int to,
			uint64_t off, uint64_t len, const char *key)
{
	uint64_t pos = src_off, end = src_off + len;
	int r = check_room(ld, op, 0, key); /* a filesystem with reflinks needs none */

	if (!r)
		r = clear_range(ld, op, to, off, len, key);
	while (!r && pos < end) {
		off_t data = lseek(from, (off_t)pos, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break; /* a hole to the end */
		if (data < 0)
			data = (off_t)pos;
		if ((uint64_t)data >= end)
			break;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole <= data)
			hole = (off_t)end;
		pos = MFS_MIN((uint64_t)hole, end);
		r = copy_data(ld, op, from, (uint64_t)data, to, off + ((uint64_t)data - src_off),
			      pos - (uint64_t)data, key);
	}
	return r;
}

int localdir_part_copy(struct object_upload *base, struct op_ctx *op, unsigned int number, uint64_t off,
		       const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	struct localdir_upload *u = localdir_upload_of(base);
	struct localdir *ld = localdir_of(base->store);
	LOCALDIR_AUTOFD int from = -1;
	struct stat st;
	int r;

	from = object_open_fd(base->store, op, src); /* its own descriptor: lseek moves its position */
	if (from < 0)
		return from;
	if (fstat(from, &st) < 0)
		return localdir_error(ld, op, errno, "stat", "source of ", u->key);
	if ((uint64_t)st.st_size < src_off + len)
		return -EINVAL;
	cell_sums_forget(&u->sums, off, len);
	r = localdir_copy_range(ld, op, from, src_off, u->temp.fd, off, len, u->key);
	if (!r)
		start_writeback(ld, u->temp.fd, off, len);
	return r == 0 && u->is_named ? localdir_keep_part(u, op, number, off + len, len) : r;
}

struct read_back {
	struct localdir *ld;
	struct op_ctx *op;
	struct localdir_upload *u;
	char *buf; /* a cell, made at the first need */
};

/* The sum of a cell as it stands in the file; its holes are not read. A cell_read_fn. */
static int read_cell(void *arg, uint64_t off, uint64_t len, uint64_t *ret)
{
	struct read_back *b = arg;
	int fd = b->u->temp.fd;
	uint64_t done = 0;

	if (!b->buf)
		b->buf = malloc(MFS_CHECKSUM_CELL);
	if (!b->buf)
		return -ENOMEM;
	while (done < len) {
		off_t data = lseek(fd, (off_t)(off + done), SEEK_DATA);
		uint64_t gap = len - done;
		ssize_t n;

		if (data >= 0)
			gap = MFS_MIN(gap, (uint64_t)data - off - done);
		else if (errno != ENXIO)
			gap = 0;
		memset(b->buf + done, 0, (size_t)gap);
		done += gap;
		if (done == len)
			break;
		n = pread(fd, b->buf + done, len - done, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return localdir_error(b->ld, b->op, n ? errno : EIO, "read", "upload of ", b->u->key);
		done += (uint64_t)n;
	}
	*ret = mfs_checksum_cell(b->buf, (size_t)len);
	return 0;
}

/* The disk works while we sum. */
static int sum_upload(struct localdir *ld, struct op_ctx *op, struct localdir_upload *u, uint64_t size,
		      char etag[static MFS_CHECKSUM_ETAG_MAX])
{
	struct read_back b = { ld, op, u, NULL };
	int r;

	start_writeback(ld, u->temp.fd, 0, 0);
	r = cell_sums_etag(&u->sums, size, read_cell, &b, etag);
	free(b.buf);
	return r;
}

int localdir_complete(struct object_upload *base, struct op_ctx *op, uint64_t size,
		      const struct object_meta *meta, struct object_info *ret)
{
	struct localdir_upload *u = localdir_upload_of(base);
	struct localdir *ld = localdir_of(base->store);
	char etag[MFS_CHECKSUM_ETAG_MAX];
	struct stat st;
	int r = 0;

	if (fstat(u->temp.fd, &st) < 0)
		r = localdir_error(ld, op, errno, "stat", "upload of ", u->key);
	else if ((uint64_t)st.st_size > size)
		r = -EINVAL; /* bytes beyond the end were sent */
	else if ((uint64_t)st.st_size < size && ftruncate(u->temp.fd, (off_t)size) < 0)
		r = localdir_error(ld, op, errno, "truncate", "upload of ", u->key);
	if (!r)
		r = sum_upload(ld, op, u, size, etag);
	if (!r && u->is_named)
		localdir_kept_end(u);
	if (r < 0)
		localdir_temp_discard(ld, &u->temp);
	else
		r = localdir_temp_finish(ld, op, &u->temp, u->key, meta, ret);
	if (!r)
		memcpy(ret->etag, etag, sizeof(etag));
	localdir_upload_free(u);
	return r;
}

void localdir_abort(struct object_upload *base, struct op_ctx *op)
{
	struct localdir_upload *u = localdir_upload_of(base);

	(void)op;
	localdir_temp_discard(localdir_of(base->store), &u->temp);
	localdir_upload_free(u);
}

ssize_t localdir_upload_read(struct object_upload *base, struct op_ctx *op, uint64_t off, void *buf,
			     size_t len)
{
	struct localdir_upload *u = localdir_upload_of(base);
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(u->temp.fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return localdir_error(localdir_of(base->store), op, errno, "read", "upload of ", u->key);
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}
