/*
 * Committed states of a file and the immutable objects they name: how they come from a record, how their bytes are
 * read. Nothing here knows of dirty data.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/hash.h"
#include "common/workers.h"
#include "fs/block_cache.h"
#include "fs/content_internal.h"

#define LOAD_TRIES 8

struct blob *blob_new(const struct object_ref *ref, uint64_t size)
{
	struct blob *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	if (object_ref_copy(ref, &b->ref) < 0) {
		free(b);
		return NULL;
	}
	pthread_mutex_init(&b->lock.m, NULL);
	b->refs = 1;
	b->size = size;
	b->fd = -1;
	return b;
}

struct blob *blob_ref(struct blob *b)
{
	if (b)
		atomic_fetch_add(&b->refs, 1);
	return b;
}

void blob_put(struct blob *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	if (b->fd >= 0)
		close(b->fd);
	object_ref_release(&b->ref);
	pthread_mutex_destroy(&b->lock.m);
	free(b);
}

static struct blob **patch_slot(struct content_env *env, const struct segment *s)
{
	return &env->patches[mfs_hash_u64(s->session * 31 + s->op) % CONTENT_PATCHES];
}

static bool is_segment(const struct blob *b, const struct segment *s)
{
	return b && b->op == s->op && b->session == s->session && strcmp(b->ref.version, s->version) == 0;
}

struct blob *blob_of_segment(struct content_env *env, const struct segment *s)
{
	struct blob **slot = patch_slot(env, s), *b, *old;
	struct object_ref ref = { 0 };

	{
		MFS_GUARD(&env->patch_lock);

		if (is_segment(*slot, s))
			return blob_ref(*slot);
	}
	if (layout_segment_ref(s, &ref) < 0)
		return NULL;
	b = blob_new(&ref, s->len);
	object_ref_release(&ref);
	if (!b)
		return NULL;
	b->session = s->session;
	b->op = s->op;
	{
		MFS_GUARD(&env->patch_lock);

		old = *slot;
		*slot = blob_ref(b);
	}
	blob_put(old);
	return b;
}

void blob_forget(struct content_env *env, const struct segment *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct blob **slot = patch_slot(env, &s[i]), *old = NULL;

		{
			MFS_GUARD(&env->patch_lock);

			if (is_segment(*slot, &s[i]))
				old = MFS_TAKE(*slot);
		}
		blob_put(old);
	}
}

/* A store's own files are read directly, unless the user wants a cache before them. */
static bool by_fd(const struct content_env *env)
{
	return (object_store_caps(env->vol->store) & OBJECT_CAP_FD) && !env->vol->cache;
}

static int blob_fd(struct content_env *env, struct op_ctx *op, struct blob *b)
{
	int fd;

	{
		MFS_GUARD(&b->lock);

		if (b->fd >= 0)
			return b->fd;
	}
	fd = object_open_fd(env->vol->store, op, &b->ref);
	if (fd < 0)
		return fd;
	MFS_GUARD(&b->lock);
	if (b->fd < 0)
		b->fd = fd;
	else
		close(fd);
	return b->fd;
}

static ssize_t read_some(struct content_env *env, struct op_ctx *op, struct blob *b, int fd, uint64_t off, void *buf,
			 size_t len)
{
	struct volume *v = env->vol;
	ssize_t n;

	if (fd < 0)
		return v->cache ? block_cache_read(v->cache, op, v->store, &b->ref, b->size, off, buf, len)
				: object_get(v->store, op, &b->ref, off, buf, len);
	n = pread(fd, buf, len, (off_t)off);
	return n < 0 ? -errno : n;
}

static int blob_read(struct content_env *env, struct op_ctx *op, mfs_ino_t ino, struct blob *b, uint64_t off, void *buf,
		     size_t len)
{
	size_t done = 0;
	int fd = -1;

	if (by_fd(env)) {
		fd = blob_fd(env, op, b);
		if (fd < 0)
			return fd;
	}
	while (done < len) {
		ssize_t n = read_some(env, op, b, fd, off + done, (char *)buf + done, len - done);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0) {
			mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
				"inode %" PRIu64 ": object %s version %s ends at %" PRIu64
				", the index says it is longer: damaged; see massfs fsck, massfs versions",
				ino, b->ref.key, b->ref.version, off + done);
			return -EIO;
		}
		done += (size_t)n;
	}
	return 0;
}

struct state *state_new(void)
{
	struct state *s = calloc(1, sizeof(*s));

	if (s) {
		s->refs = 1;
		layout_init(&s->layout);
	}
	return s;
}

struct state *state_ref(struct state *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void state_put(struct state *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	blob_put(s->object);
	free(s->inline_data.data);
	layout_release(&s->layout);
	free(s);
}

struct state *state_clone(const struct state *s)
{
	struct state *n = state_new();

	if (!n)
		return NULL;
	memcpy(n->etag, s->etag, sizeof(n->etag));
	n->obj_len = s->obj_len;
	n->size = s->size;
	n->is_inline = s->is_inline;
	n->lay = s->lay;
	n->data = s->data;
	n->todo = s->todo;
	n->attr = s->attr;
	n->damaged = s->damaged;
	n->object = blob_ref(s->object);
	if (node_blob_copy(&s->inline_data, &n->inline_data) < 0 || layout_copy(&s->layout, &n->layout) < 0) {
		state_put(n);
		return NULL;
	}
	return n;
}

static int load_docs(struct content_env *env, struct op_ctx *op, mfs_ino_t ino, struct layout *l)
{
	for (size_t i = 0; i < l->n_docs; i++) {
		struct node_blob doc = { 0 };
		int r = engine_slices_get(env->vol->engine, op, ino, l->docs[i].id, &doc);

		if (r == 0) {
			r = layout_add_doc(l, i, &doc);
			free(doc.data);
		}
		if (r < 0)
			return r == -ENOENT ? -EAGAIN : r;
	}
	return 0;
}

int state_of_node(struct content_env *env, struct op_ctx *op, const struct node *n, const struct state *old,
		  struct state **ret)
{
	struct state *s = state_new();
	int r = 0;

	if (!s)
		return -ENOMEM;
	memcpy(s->etag, n->etag, sizeof(s->etag));
	s->obj_len = n->attr.obj_len;
	s->size = n->attr.size;
	s->lay = n->attr.lay;
	s->data = n->attr.data;
	s->todo = n->todo;
	s->attr = n->attr;
	s->is_inline = object_ref_is_empty(&n->ref) && n->slices.size == 0 && n->inline_data.size >= n->attr.size;
	if (!object_ref_is_empty(&n->ref)) {
		if (old && old->object && object_ref_equal(&old->object->ref, &n->ref) && old->object->size >= s->obj_len)
			s->object = blob_ref(old->object);
		else
			s->object = blob_new(&n->ref, s->obj_len);
		r = s->object ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = node_blob_copy(&n->inline_data, &s->inline_data);
	if (r == 0 && s->inline_data.size && !mfs_checksum_fits(n->etag, s->inline_data.data, s->inline_data.size)) {
		s->damaged = true;
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode %" PRIu64 ": the bytes that the index has of it are not those that were written: EIO; see massfs scrub, "
			"massfs versions",
			n->attr.ino);
	}
	if (r == 0)
		r = layout_parse(&n->slices, &s->layout);
	if (r == 0)
		r = load_docs(env, op, n->attr.ino, &s->layout);
	if (r == -EUCLEAN)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode %" PRIu64 ": the index says of its changed ranges what cannot be; see massfs fsck, massfs versions",
			n->attr.ino);
	if (r < 0) {
		state_put(s);
		return r == -EUCLEAN ? -EIO : r;
	}
	*ret = s;
	return 0;
}

int state_load(struct content_env *env, struct op_ctx *op, mfs_ino_t ino, const struct state *old, struct state **ret)
{
	int r = -EAGAIN;

	for (int i = 0; r == -EAGAIN && i < LOAD_TRIES; i++) {
		struct node n = NODE_INIT;

		r = namespace_get(env->vol->ns, op, ino, &n);
		if (r < 0)
			return r;
		r = state_of_node(env, op, &n, old, ret);
		node_release(&n);
	}
	if (r != -EAGAIN)
		return r;
	mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
		"inode %" PRIu64 ": a record of its changed ranges is missing in the index; see massfs fsck, massfs versions", ino);
	return -EIO;
}

/* ---- several places at once ---- */

#define BATCH 16

/* One place's bytes. */
struct range_read {
	struct content_env *env;
	struct op_ctx *op;
	mfs_ino_t ino;
	struct blob *blob; /* a reference */
	uint64_t src;
	unsigned char *buf;
	size_t len;
	int r;
	struct range_batch *batch;
};

struct range_batch {
	struct range_read v[BATCH];
	size_t n;
	struct mfs_mutex lock;
	pthread_cond_t done; /* `lock`; predicate: left == 0 */
	size_t left;	     /* jobs not done; guarded by lock */
};

static void read_range(struct range_read *x)
{
	x->r = blob_read(x->env, x->op, x->ino, x->blob, x->src, x->buf, x->len);
	blob_put(x->blob);
}

static void range_job(void *arg)
{
	struct range_read *x = arg;
	struct range_batch *b = x->batch;

	read_range(x);
	MFS_GUARD(&b->lock);
	if (--b->left == 0)
		pthread_cond_signal(&b->done);
}

/* All that was gathered; the last by this thread. */
static int run_batch(struct content_env *env, struct range_batch *b)
{
	int r = 0;

	b->left = b->n;
	for (size_t i = 0; i < b->n; i++) {
		b->v[i].batch = b;
		if (i + 1 == b->n || !env->fetchers || workers_try_submit(env->fetchers, range_job, &b->v[i]) < 0)
			range_job(&b->v[i]);
	}
	{
		MFS_GUARD(&b->lock);

		while (b->left)
			pthread_cond_wait(&b->done, &b->lock.m);
	}
	for (size_t i = 0; i < b->n && r == 0; i++)
		r = b->v[i].r;
	b->n = 0;
	return r;
}

/* Zeros are written here, all else is gathered. */
static int add_extent(struct content_env *env, struct op_ctx *op, mfs_ino_t ino, struct state *s, struct range_batch *b,
		      const struct layout_extent *x, unsigned char *buf, size_t len)
{
	struct blob *blob;

	if (x->kind == EXTENT_HOLE || (x->kind == EXTENT_BASE && !s->object)) {
		memset(buf, 0, len);
		return 0;
	}
	blob = x->kind == EXTENT_BASE ? blob_ref(s->object) : blob_of_segment(env, x->segment);
	if (!blob)
		return -ENOMEM;
	b->v[b->n++] = (struct range_read){
		.env = env, .op = op, .ino = ino, .blob = blob, .src = x->src, .buf = buf, .len = len
	};
	return b->n == BATCH ? run_batch(env, b) : 0;
}

int state_read(struct content_env *env, struct op_ctx *op, mfs_ino_t ino, struct state *s, uint64_t off, void *buf,
	       size_t len)
{
	struct range_batch batch;
	unsigned char *to = buf;
	size_t done = 0;
	int r = 0, err;

	if (s->inline_data.size) {
		if (off < s->inline_data.size) {
			if (s->damaged && len)
				return -EIO;
			done = (size_t)MFS_MIN((uint64_t)len, s->inline_data.size - off);
			memcpy(to, (const unsigned char *)s->inline_data.data + off, done);
		}
		memset(to + done, 0, len - done);
		return 0;
	}
	batch.n = 0;
	pthread_mutex_init(&batch.lock.m, NULL);
	pthread_cond_init(&batch.done, NULL);
	while (done < len && off + done < s->size && r == 0) {
		struct layout_extent x;
		size_t n;

		r = layout_at(&s->layout, off + done, s->obj_len, s->size, &x);
		if (r < 0)
			break;
		n = (size_t)MFS_MIN(x.len, (uint64_t)(len - done));
		r = add_extent(env, op, ino, s, &batch, &x, to + done, n);
		done += n;
	}
	err = run_batch(env, &batch);
	r = r < 0 ? r : err;
	pthread_cond_destroy(&batch.done);
	pthread_mutex_destroy(&batch.lock.m);
	if (r == -EUCLEAN) {
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode %" PRIu64 ": no object holds what the index has at %" PRIu64 "; see massfs fsck, massfs versions", ino,
			off + done);
		return -EIO;
	}
	if (r == 0)
		memset(to + done, 0, len - done);
	return r;
}

void state_prefetch(struct content_env *env, struct state *s, uint64_t off, uint64_t len)
{
	struct volume *v = env->vol;
	uint64_t end = MFS_MIN(off + len, s->size);

	while (off < end) {
		struct layout_extent x;
		struct blob *b = NULL;

		if (layout_at(&s->layout, off, s->obj_len, end, &x) < 0)
			return;
		if (x.kind == EXTENT_BASE && s->object)
			b = blob_ref(s->object);
		else if (x.kind == EXTENT_PATCH)
			b = blob_of_segment(env, x.segment);
		if (b)
			block_cache_prefetch(v->cache, v->store, &b->ref, b->size, x.src, x.len);
		blob_put(b);
		off += x.len;
	}
}

/* Within an extent of the base: the next data (hole) of its file; the extent's end: none. */
static int seek_base(struct content_env *env, struct op_ctx *op, struct state *s, const struct layout_extent *x, bool data,
		     uint64_t *ret)
{
	uint64_t end = x->off + x->len;
	off_t at;
	int fd;

	*ret = data ? x->off : end;
	if (!by_fd(env))
		return 0;
	fd = blob_fd(env, op, s->object);
	if (fd < 0)
		return fd;
	at = lseek(fd, (off_t)x->src, data ? SEEK_DATA : SEEK_HOLE);
	if (at >= 0)
		*ret = MFS_MIN((uint64_t)at, end);
	else if (errno == ENXIO) /* none behind it */
		*ret = end;
	return 0;
}

int state_seek(struct content_env *env, struct op_ctx *op, struct state *s, uint64_t off, uint64_t end, bool data,
	       uint64_t *ret)
{
	int r = 0;

	*ret = s->size;
	if (s->inline_data.size) {
		if (data ? off < s->inline_data.size : off >= s->inline_data.size)
			*ret = off;
		else if (!data)
			*ret = MFS_MIN((uint64_t)s->inline_data.size, s->size);
		return 0;
	}
	/* Each run of the object costs a system call: no further than is asked, a file may have 65,536. */
	end = MFS_MIN(end, s->size);
	while (off < end && r == 0) {
		struct layout_extent x;
		uint64_t found;

		r = layout_at(&s->layout, off, s->obj_len, s->size, &x);
		if (r < 0)
			return r == -EUCLEAN ? -EIO : r;
		found = x.off + x.len;
		if (x.kind == EXTENT_BASE && s->object)
			r = seek_base(env, op, s, &x, data, &found);
		else if ((x.kind == EXTENT_PATCH) == data)
			found = x.off;
		if (r == 0 && found < x.off + x.len) {
			*ret = found;
			return 0;
		}
		off = x.off + x.len;
	}
	return r;
}
