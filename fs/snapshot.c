/*
 * Reading one committed state of a file, whichever objects its bytes are in.
 *
 * On a store with descriptors the objects are opened at first use and stay open, at most FDS_MAX of them; without, they
 * are read through the block cache, if there is one, or one by one from the store.
 */
#include "fs/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/log.h"
#include "common/sync.h"
#include "fs/block_cache.h"

#define FDS_MAX 64
#define BASE	0 /* which object: the base, or a segment's index + 1 */

struct open_object {
	size_t which;
	int fd;
	unsigned int users;
	uint64_t used; /* when last, by snapshot.clock */
};

struct snapshot {
	struct volume *v; /* all but `fds` constant after the constructor */
	mfs_ino_t ino;
	uint64_t size, obj_len;
	struct object_ref ref;
	struct node_blob inline_data;
	struct layout layout;

	struct mfs_mutex lock;
	struct {
		struct open_object v[FDS_MAX];
		size_t n;
		uint64_t clock;
	} fds; /* guarded by lock */
};

static int add_docs(struct snapshot *s, struct op_ctx *op)
{
	struct layout *l = &s->layout;

	for (size_t i = 0; i < l->n_docs; i++) {
		struct node_blob doc = { 0 };
		int err = 0;

		if (l->docs[i].added)
			continue;
		err = engine_slices_get(s->v->engine, op, s->ino, l->docs[i].id, &doc);
		/* A document that a cut left in several entries is read once. */
		for (size_t j = i; j < l->n_docs && err == 0; j++)
			if (l->docs[j].id == l->docs[i].id)
				err = layout_add_doc(l, j, &doc);
		free(doc.data);
		if (err < 0)
			return err;
	}
	return 0;
}

static int fill(struct snapshot *s, struct op_ctx *op, const struct object_ref *ref, const char *etag,
		const struct node_blob *inline_data, const struct node_blob *slices)
{
	int err = object_ref_copy(ref, &s->ref);

	if (err == 0)
		err = node_blob_copy(inline_data, &s->inline_data);
	if (err == 0)
		err = layout_parse(slices, &s->layout);
	if (err == 0)
		err = add_docs(s, op);
	if (err == 0 && s->obj_len > 0 && object_ref_is_empty(ref))
		err = -EUCLEAN;
	if (err == 0 && s->inline_data.size > 0 &&
	    (!layout_is_empty(&s->layout) || !object_ref_is_empty(ref)))
		err = -EUCLEAN;
	if (err == 0 && s->inline_data.size > 0 && !mfs_checksum_fits(etag, s->inline_data.data, s->inline_data.size))
		err = -EUCLEAN;
	if (err == -EUCLEAN)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode %" PRIu64
			": where its bytes are, or those that are in the index, is not what was written: damaged; see massfs scrub",
			s->ino);
	return err;
}

static int snapshot_new(struct volume *v, mfs_ino_t ino, uint64_t size, uint64_t obj_len,
			struct snapshot **ret)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->v = v;
	s->ino = ino;
	s->size = size;
	s->obj_len = obj_len;
	layout_init(&s->layout);
	pthread_mutex_init(&s->lock.m, NULL);
	*ret = s;
	return 0;
}

int snapshot_of_node(struct volume *v, struct op_ctx *op, const struct node *n, struct snapshot **ret)
{
	struct snapshot *s;
	int err = snapshot_new(v, n->attr.ino, n->attr.size, n->attr.obj_len, &s);

	if (err < 0)
		return err;
	err = fill(s, op, &n->ref, n->etag, &n->inline_data, &n->slices);
	if (err < 0)
		snapshot_free(s);
	else
		*ret = s;
	return err;
}

int snapshot_of_version(struct volume *v, struct op_ctx *op, const struct version_record *r,
			struct snapshot **ret)
{
	struct snapshot *s;
	int err = snapshot_new(v, r->ino, r->size, r->obj_len, &s);

	if (err < 0)
		return err;
	err = fill(s, op, &r->ref, r->etag, &r->inline_data, &r->slices);
	if (err < 0)
		snapshot_free(s);
	else
		*ret = s;
	return err;
}

void snapshot_free(struct snapshot *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->fds.n; i++)
		close(s->fds.v[i].fd);
	pthread_mutex_destroy(&s->lock.m);
	layout_release(&s->layout);
	object_ref_release(&s->ref);
	free(s->inline_data.data);
	free(s);
}

uint64_t snapshot_size(const struct snapshot *s)
{
	return s->size;
}

const struct layout *snapshot_layout(const struct snapshot *s)
{
	return &s->layout;
}

/* --- descriptors --- */

static struct open_object *find_open_locked(struct snapshot *s, size_t which)
{
	for (size_t i = 0; i < s->fds.n; i++)
		if (s->fds.v[i].which == which)
			return &s->fds.v[i];
	return NULL;
}

/* A place for one more; NULL: all are in use. *ret_close: whose descriptor it was, -1: nobody's. */
static struct open_object *room_locked(struct snapshot *s, int *ret_close)
{
	struct open_object *oldest = NULL;

	*ret_close = -1;
	if (s->fds.n < FDS_MAX)
		return &s->fds.v[s->fds.n++];
	for (size_t i = 0; i < FDS_MAX; i++)
		if (s->fds.v[i].users == 0 && (!oldest || s->fds.v[i].used < oldest->used))
			oldest = &s->fds.v[i];
	if (oldest)
		*ret_close = oldest->fd;
	return oldest;
}

static int use_locked(struct snapshot *s, struct open_object *o)
{
	o->users++;
	o->used = ++s->fds.clock;
	return o->fd;
}

/* A descriptor that stays open until fd_put(). */
static int fd_get(struct snapshot *s, struct op_ctx *op, size_t which, const struct object_ref *ref)
{
	struct open_object *o;
	int fd, unused = -1;

	{
		MFS_GUARD(&s->lock);

		o = find_open_locked(s, which);
		if (o)
			return use_locked(s, o);
	}
	fd = object_open_fd(s->v->store, op, ref);
	if (fd < 0)
		return fd;
	{
		MFS_GUARD(&s->lock);

		o = find_open_locked(s, which);
		if (o) { /* another reader was faster */
			unused = fd;
			fd = use_locked(s, o);
		} else {
			o = room_locked(s, &unused);
			if (o) {
				*o = (struct open_object){ .which = which, .fd = fd };
				(void)use_locked(s, o);
			}
		}
	}
	if (unused >= 0)
		close(unused);
	return fd;
}

static void fd_put(struct snapshot *s, size_t which, int fd)
{
	{
		MFS_GUARD(&s->lock);
		struct open_object *o = find_open_locked(s, which);

		if (o && o->fd == fd) {
			o->users--;
			return;
		}
	}
	close(fd); /* there was no room for it */
}

/* --- reading --- */

struct piece {
	const struct object_ref *ref;
	size_t which;
	uint64_t object_size; /* what the index says */
	uint64_t off;
	unsigned char *buf;
	size_t len;
};

static ssize_t read_some(struct snapshot *s, struct op_ctx *op, const struct piece *p, int fd, size_t done)
{
	ssize_t n;

	if (fd >= 0) {
		n = pread(fd, p->buf + done, p->len - done, (off_t)(p->off + done));
		return n < 0 ? -errno : n;
	}
	if (s->v->cache)
		return block_cache_read(s->v->cache, op, s->v->store, p->ref, p->object_size, p->off + done,
					p->buf + done, p->len - done);
	return object_get(s->v->store, op, p->ref, p->off + done, p->buf + done, p->len - done);
}

static int read_piece(struct snapshot *s, struct op_ctx *op, const struct piece *p)
{
	size_t done = 0;
	int fd = -1, err = 0;

	if (!s->v->cache && (object_store_caps(s->v->store) & OBJECT_CAP_FD)) {
		fd = fd_get(s, op, p->which, p->ref);
		if (fd < 0)
			return fd;
	}
	while (done < p->len && err == 0) {
		ssize_t n = read_some(s, op, p, fd, done);

		if (n > 0) {
			done += (size_t)n;
		} else if (n == 0) {
			mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
				"inode %" PRIu64 ": object %s version %s ends at %" PRIu64
				", the index says it is longer: damaged; see massfs fsck, massfs versions",
				s->ino, p->ref->key, p->ref->version, p->off + done);
			err = -EIO;
		} else if (n != -EINTR) {
			err = (int)n;
		}
	}
	if (fd >= 0)
		fd_put(s, p->which, fd);
	return err;
}

/* From the inline bytes, zeros behind them. */
static void read_inline(const struct snapshot *s, uint64_t off, unsigned char *buf, size_t len)
{
	size_t n = off < s->inline_data.size ? MFS_MIN(len, s->inline_data.size - (size_t)off) : 0;

	if (n > 0)
		memcpy(buf, (const unsigned char *)s->inline_data.data + off, n);
	memset(buf + n, 0, len - n);
}

static int read_extent(struct snapshot *s, struct op_ctx *op, const struct layout_extent *e,
		       unsigned char *buf, size_t len)
{
	struct piece p = { .ref = &s->ref,
			   .which = BASE,
			   .object_size = s->obj_len,
			   .off = e->src,
			   .buf = buf,
			   .len = len };
	struct object_ref ref = { 0 };
	int err;

	if (e->kind == EXTENT_HOLE) {
		memset(buf, 0, len);
		return 0;
	}
	if (e->kind == EXTENT_PATCH) {
		err = layout_segment_ref(e->segment, &ref);
		if (err < 0)
			return err;
		p.ref = &ref;
		p.which = 1 + (size_t)(e->segment - s->layout.segments);
		p.object_size = e->segment->len;
	}
	err = read_piece(s, op, &p);
	object_ref_release(&ref);
	return err;
}

static int extent_at(const struct snapshot *s, struct op_ctx *op, uint64_t off, struct layout_extent *ret)
{
	int err = layout_at(&s->layout, off, s->obj_len, s->size, ret);

	if (err < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode %" PRIu64 ": no object holds the bytes at %" PRIu64
			", the index is damaged; see massfs fsck",
			s->ino, off);
	return err;
}

int snapshot_read(struct snapshot *s, struct op_ctx *op, uint64_t off, void *buf, size_t len)
{
	unsigned char *to = buf;

	if (off > s->size || len > s->size - off)
		return -EINVAL;
	if (s->inline_data.size > 0) {
		read_inline(s, off, to, len);
		return 0;
	}
	while (len > 0) {
		struct layout_extent e;
		size_t n;
		int err = extent_at(s, op, off, &e);

		if (err < 0)
			return err;
		n = (size_t)MFS_MIN((uint64_t)len, e.len);
		err = read_extent(s, op, &e, to, n);
		if (err < 0)
			return err;
		off += n;
		to += n;
		len -= n;
	}
	return 0;
}

/* Is it of this kind at off, and up to where is the answer the same? */
static bool run_of_kind(const struct snapshot *s, enum extent_kind kind, uint64_t off, uint64_t *ret_run)
{
	uint64_t at = off;
	bool is = false;

	while (at < s->size) {
		struct layout_extent e;

		/* A damaged place is of no kind that needs no reading. */
		if (extent_at(s, NULL, at, &e) < 0)
			e = (struct layout_extent){ .kind = EXTENT_PATCH, .len = 1 };
		if (at == off)
			is = e.kind == kind;
		else if (is != (e.kind == kind))
			break;
		at += e.len;
	}
	*ret_run = at > off ? at - off : 0;
	return is;
}

bool snapshot_is_base(const struct snapshot *s, uint64_t off, uint64_t *ret_run)
{
	return run_of_kind(s, EXTENT_BASE, off, ret_run);
}

bool snapshot_is_hole(const struct snapshot *s, uint64_t off, uint64_t *ret_run)
{
	uint64_t n = s->inline_data.size;

	if (n > 0) {
		bool hole = off >= n && off < s->size;

		*ret_run = off >= s->size ? 0 : hole ? s->size - off : MFS_MIN(n, s->size) - off;
		return hole;
	}
	return run_of_kind(s, EXTENT_HOLE, off, ret_run);
}
