/*
 * Open files: where there is data, giving space back, copying ranges. fallocate, lseek, copy_file_range.
 *
 * The kernel has written its dirty pages of the ranges back before it asks for a punch or a copy, and drops its pages of
 * what changed when we have answered.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fs/content.h"
#include "fs/fuse/ops.h"

#define NO_END (UINT64_C(1) << 50)

/* What is used: as the store's disk has it, where that is one of this machine; else the sum of the files, as the index keeps it. */
int request_statfs(struct request *rq, struct object_statfs *ret)
{
	struct volume *v = rq->fs->vol;
	uint64_t capacity = rq->fs->cfg->capacity, files, bytes, left;
	bool far = v->cluster || !(object_store_caps(v->store) & OBJECT_CAP_FD);
	int r = object_statfs(v->store, &rq->op, ret);

	if (r < 0 || (!capacity && !far))
		return r;
	r = engine_count(v->engine, &rq->op, &files, &bytes);
	if (r < 0)
		return r;
	if (far) {
		ret->total = ret->free = ret->avail = capacity ? capacity : NO_END;
		ret->files = MFS_MAX(ret->files, files);
		ret->ffree = ret->files - files;
	}
	capacity = capacity ? capacity : NO_END;
	left = capacity > bytes ? capacity - bytes : 0;
	ret->total = capacity;
	ret->free = MFS_MIN(ret->free, left);
	ret->avail = MFS_MIN(ret->avail, ret->free);
	return 0;
}

/* Space is taken when bytes are written; what can be promised is that there is as much free now. */
static int check_room(struct request *rq, uint64_t bytes)
{
	struct object_statfs s;
	int r = request_statfs(rq, &s);

	if (r == 0 && bytes > s.avail)
		r = -ENOSPC;
	return r;
}

static int punch(struct request *rq, struct handle *h, uint64_t off, uint64_t end)
{
	struct content *c;
	int r;

	if (off >= end)
		return 0;
	r = handle_content(rq, h, true, &c);
	return r < 0 ? r : content_punch(c, &rq->op, off, end - off);
}

/* Make room, or the file longer, up to end. */
static int extend(struct request *rq, struct handle *h, uint64_t size, uint64_t end, bool keep_size)
{
	int r;

	if (end <= size)
		return 0;
	r = check_room(rq, end - size);
	return r < 0 || keep_size ? r : handle_truncate(rq, h, end);
}

static int allocate(struct request *rq, struct handle *h, int mode, off_t off, off_t len)
{
	bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
	struct mfs_attr attr;
	uint64_t end;
	int r;

	if (off < 0 || len <= 0)
		return -EINVAL;
	end = (uint64_t)off + (uint64_t)len;
	if (end > (uint64_t)MFS_FILE_SIZE_MAX)
		return -EFBIG;
	r = request_attr(rq, h->inode, &attr);
	if (r < 0)
		return r;
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		return extend(rq, h, attr.size, end, keep_size);
	case FALLOC_FL_PUNCH_HOLE:
		if (!keep_size)
			return -EOPNOTSUPP;
		return punch(rq, h, (uint64_t)off, MFS_MIN(end, attr.size));
	case FALLOC_FL_ZERO_RANGE:
		/* Longer first: what fails then has changed nothing. */
		r = extend(rq, h, attr.size, end, keep_size);
		return r < 0 ? r : punch(rq, h, (uint64_t)off, MFS_MIN(end, attr.size));
	default: /* collapse, insert, unshare */
		return -EOPNOTSUPP;
	}
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct request rq;

	(void)ino;
	request_begin(&rq, req);
	reply_err(&rq, allocate(&rq, handle_of(fi), mode, off, len));
}

/* SEEK_DATA and SEEK_HOLE; the others are the kernel's own. */
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct request rq;
	struct content *c;
	uint64_t found;
	int r;

	(void)ino;
	request_begin(&rq, req);
	request_interruptible(&rq);
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return reply_err(&rq, -EINVAL);
	if (off < 0)
		return reply_err(&rq, -ENXIO);
	r = handle_content(&rq, handle_of(fi), false, &c);
	if (r == 0)
		r = content_seek(c, &rq.op, (uint64_t)off, whence, &found);
	if (r < 0)
		return reply_err(&rq, r);
	reply_offset(&rq, (off_t)found);
}

static ssize_t copy(struct request *rq, struct handle *from, off_t from_off, struct handle *to, off_t to_off,
		    size_t len)
{
	struct content *src, *dst;
	int r;

	if (from_off < 0 || to_off < 0)
		return -EINVAL;
	r = handle_content(rq, from, false, &src);
	if (r == 0)
		r = handle_content(rq, to, true, &dst);
	if (r < 0)
		return r;
	return content_copy_range(dst, &rq->op, (uint64_t)to_off, src, (uint64_t)from_off, len);
}

/* The kernel asks for the rest when the count is short. */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
			fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len,
			int flags)
{
	struct handle *from = handle_of(fi_in);
	struct request rq;
	ssize_t n;

	(void)ino_in;
	(void)ino_out;
	request_begin(&rq, req);
	request_interruptible(&rq);
	if (flags)
		return reply_err(&rq, -EINVAL);
	n = copy(&rq, from, off_in, handle_of(fi_out), off_out, len);
	if (n < 0)
		return reply_err(&rq, (int)n);
	if (!(fi_in->flags & O_NOATIME))
		atime_touch(rq.fs->atimes, from->inode);
	atomic_fetch_add(&rq.fs->bytes_read, (uint64_t)n);
	atomic_fetch_add(&rq.fs->bytes_written, (uint64_t)n);
	reply_written(&rq, (size_t)n);
}
