/*
 * Copying a range from one open file to another. What can be shared is (content_share.c). Into a file that is written from
 * new, what lies in the source's object is copied on the store's side, as a part of the upload; all else is read and
 * written. Nothing is held over both files.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "fs/content_internal.h"

#define CHUNK	 (1 * MFS_MIB)
#define CALL_MAX (64 * MFS_MIB) /* of bytes; holes cost nothing */
#define COPY_SERVER MFS_MIB	/* less is not worth a part of its own */

struct copy {
	struct content *dst, *src;
	uint64_t dst_off, src_off, len; /* what is still to be copied */
	uint64_t moved; /* bytes, without holes */
	unsigned char *buf;
};

static int size_of(struct content *c, struct op_ctx *op, uint64_t *ret)
{
	int r;

	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
	}
	r = content_refresh(c, op);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	*ret = c->size;
	return r;
}

static void step(struct copy *x, uint64_t n)
{
	x->dst_off += n;
	x->src_off += n;
	x->len -= n;
}

/* n bytes of zeros, as a hole. */
static int copy_hole(struct copy *x, struct op_ctx *op, uint64_t n)
{
	uint64_t end = x->dst_off + n, size;
	struct mfs_attr attr;
	int r = size_of(x->dst, op, &size);

	if (r == 0 && x->dst_off < size)
		r = content_punch(x->dst, op, x->dst_off, MFS_MIN(end, size) - x->dst_off);
	if (r == 0 && end > size)
		r = content_truncate(x->dst, op, end, &attr);
	if (r == 0)
		step(x, n);
	return r;
}

/* Where the source's bytes from `off` are; NULL: dirty, or under way. *ret_x is of the state that is returned. */
static struct state *clean_run(struct content *src, uint64_t off, struct layout_extent *ret_x)
{
	MFS_GUARD(&src->lock);

	if (src->dirty || src->stale || src->upload || src->completing || off >= src->state->size ||
	    src->state->inline_data.size)
		return NULL;
	if (layout_at(&src->state->layout, off, src->state->obj_len, src->state->size, ret_x) < 0)
		return NULL;
	return state_ref(src->state);
}

/* Nothing of the destination is where the part shall go, and the store takes it there. The caller is busy. */
static bool takes_part_locked(const struct content *dst, uint64_t off, uint64_t len)
{
	if (dst->failed || !upload_suits_locked(dst) || content_committed_locked(dst) > 0 || off < dst->size)
		return false;
	if (content_sparse(dst))
		return true;
	return dst->map.n == 0 && off == (dst->upload ? dst->sent_end : 0) && len >= OBJECT_PART_MIN;
}

/*
 * A part that broke off may have left bytes behind the end, where zeros are to be read should the file become longer:
 * they are the file's, and cut off. Also for somebody who is being killed: others may have the file open.
 */
static void cut_off(struct content *dst, const struct op_ctx *op, uint64_t size)
{
	struct op_ctx own = { .id = op->id, .uid = op->uid, .gid = op->gid };
	struct mfs_attr attr;
	int r = content_truncate(dst, &own, size, &attr);

	if (r < 0)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " after a copy that failed: %s", dst->ino, strerror(-r));
}

/* The count; 0: not this way. */
static ssize_t copy_in_store(struct content *dst, struct op_ctx *op, uint64_t to, struct content *src, uint64_t from,
			     uint64_t len)
{
	struct layout_extent x = { 0 };
	struct state *s = clean_run(src, from, &x);
	bool fits, broke_off;
	uint64_t before;
	int r = 0;

	if (!s)
		return 0;
	len = MFS_MIN(len, x.len);
	if (src == dst || len < COPY_SERVER || x.kind != EXTENT_BASE || to + len > (uint64_t)MFS_FILE_SIZE_MAX) {
		state_put(s);
		return 0;
	}
	{
		MFS_GUARD(&dst->lock);

		content_enter_locked(dst);
		fits = takes_part_locked(dst, to, len);
	}
	if (fits)
		r = upload_stage(dst, op);
	if (fits && r == 0)
		r = object_upload_part_copy(dst->upload, op, dst->next_part, to, &s->object->ref, x.src, len);
	state_put(s);
	{
		MFS_GUARD(&dst->lock);

		before = dst->size;
		broke_off = r < 0 && r != -ENOENT && dst->upload && content_sparse(dst);
		if (fits && (r == 0 || broke_off)) {
			dst->next_part++;
			dst->sent_end = MFS_MAX(dst->sent_end, to + len);
			dst->size = MFS_MAX(dst->size, to + len);
			content_touch_locked(dst);
			dst->gen++;
		}
		content_leave_locked(dst);
	}
	if (broke_off)
		cut_off(dst, op, before);
	if (r == -ENOENT) /* collected meanwhile: reading finds the way */
		return 0;
	return r < 0 ? r : (fits ? (ssize_t)len : 0);
}

/* Up to n bytes: how many; 0 at the end. */
static ssize_t copy_bytes(struct copy *x, struct op_ctx *op, uint64_t n)
{
	ssize_t got = content_read(x->src, op, x->src_off, x->buf, (size_t)MFS_MIN(n, CHUNK));
	int r;

	if (got <= 0)
		return got;
	r = content_write(x->dst, op, x->dst_off, x->buf, (size_t)got, false);
	if (r < 0)
		return r;
	x->moved += (uint64_t)got;
	step(x, (uint64_t)got);
	return got;
}

/* The next piece, all data or all hole: how many bytes; 0 at the end. */
static ssize_t copy_piece(struct copy *x, struct op_ctx *op)
{
	uint64_t data = x->src_off, n = x->len;
	ssize_t got;
	int r = content_seek(x->src, op, x->src_off, SEEK_DATA, &data);

	if (r == -ENXIO) { /* a hole up to the end, or the end */
		uint64_t size;

		r = size_of(x->src, op, &size);
		n = r == 0 && x->src_off < size ? MFS_MIN(n, size - x->src_off) : 0;
		if (n > 0)
			r = copy_hole(x, op, n);
		return r < 0 ? r : (ssize_t)n;
	}
	if (r < 0)
		return r;
	if (data > x->src_off) {
		n = MFS_MIN(n, data - x->src_off);
		r = copy_hole(x, op, n);
		return r < 0 ? r : (ssize_t)n;
	}
	/* Up to the next hole, so that a chunk does not fill it. */
	r = content_seek(x->src, op, x->src_off, SEEK_HOLE, &data);
	if (r == -ENXIO)
		return 0;
	if (r < 0)
		return r;
	n = data > x->src_off ? MFS_MIN(n, data - x->src_off) : n;
	got = copy_in_store(x->dst, op, x->dst_off, x->src, x->src_off, n);
	if (got > 0)
		step(x, (uint64_t)got);
	return got ? got : copy_bytes(x, op, n);
}

static bool overlaps(const struct copy *x)
{
	return x->src == x->dst && x->src_off < x->dst_off + x->len && x->dst_off < x->src_off + x->len;
}

ssize_t content_copy_range(struct content *dst, struct op_ctx *op, uint64_t dst_off, struct content *src, uint64_t src_off,
			   uint64_t len)
{
	struct copy x = { .dst = dst, .src = src, .dst_off = dst_off, .src_off = src_off };
	ssize_t n = 1;

	/* A count fits the reply (32 bits), and a sum does not overflow. */
	x.len = len = MFS_MIN(len, UINT64_C(0xfffff000));
	if (src_off > (uint64_t)MFS_FILE_SIZE_MAX)
		return 0;
	if (dst_off > (uint64_t)MFS_FILE_SIZE_MAX - len)
		return -EFBIG;
	/* Piece by piece, as writes, so that the one that is too much is refused as a write. */
	if (dst_off + len > dst->rules.size_max)
		return -EOPNOTSUPP;
	if (overlaps(&x))
		return -EINVAL;
	if (src_off == dst_off) {
		uint64_t size;
		int r = size_of(src, op, &size); /* what the index moved is read again */

		n = r < 0 ? r : content_share(dst, op, dst_off, src, len);
		if (n != 0)
			return n;
		n = 1;
	}
	x.len = len = MFS_MIN(len, UINT64_C(1) << 30);
	x.buf = malloc(CHUNK);
	if (!x.buf)
		return -ENOMEM;
	while (n > 0 && x.len > 0 && x.moved < CALL_MAX) {
		n = atomic_load(&op->cancelled) ? -ECANCELED : copy_piece(&x, op);
	}
	free(x.buf);
	return n < 0 && x.len == len ? n : (ssize_t)(len - x.len);
}
