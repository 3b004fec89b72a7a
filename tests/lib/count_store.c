/* The store of tests/lib/count_store.h. */
#include "tests/lib/count_store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct count_store {
	struct object_store base;
	struct object_store_ops ops;
	struct object_store *inner;
	struct count_stats *stats;
};

struct count_upload {
	struct object_upload base;
	struct object_upload *inner;
	_Atomic uint64_t end; /* in order: where the next part must begin */
	atomic_uint last;
	atomic_bool ended; /* by a part that was too small to have one behind it */
};

static struct count_store *count_of(struct object_store *s)
{
	return mfs_container_of(s, struct count_store, base);
}

static struct object_store *inner_of(struct object_store *s)
{
	return count_of(s)->inner;
}

static struct count_upload *upload_of(struct object_upload *u)
{
	return mfs_container_of(u, struct count_upload, base);
}

static void count_free(struct object_store *s)
{
	object_store_free(inner_of(s));
	free(count_of(s));
}

static bool count_key_is_legal(struct object_store *s, const char *key)
{
	return object_key_is_legal(inner_of(s), key);
}

static int count_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const void *buf, size_t len,
		     const struct object_meta *meta, struct object_info *ret)
{
	struct count_stats *st = count_of(s)->stats;

	atomic_fetch_add(&st->puts, 1);
	atomic_fetch_add(&st->bytes_put, len);
	return object_put(inner_of(s), op, bucket, key, buf, len, meta, ret);
}

static int count_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		       const struct object_meta *meta, struct object_upload **ret)
{
	struct count_upload *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->base.store = s;
	r = object_upload_begin(inner_of(s), op, bucket, key, meta, &u->inner);
	if (r < 0) {
		free(u);
		return r;
	}
	atomic_fetch_add(&count_of(s)->stats->uploads, 1);
	*ret = &u->base;
	return 0;
}

/* Parts may be under way at once, so it is their numbers that tell the order; what S3 refuses only at the end is
 * asserted here where a part follows one that was too small. */
static void check_part(struct object_upload *base, unsigned int number, uint64_t off, uint64_t len)
{
	struct count_upload *u = upload_of(base);

	if (base->store->ops->caps & OBJECT_CAP_SPARSE)
		return;
	assert(number > 0 && off <= (uint64_t)(number - 1) << 40);
	assert(len >= OBJECT_PART_MIN || !atomic_exchange(&u->ended, true));
	atomic_fetch_add(&u->end, len);
}

static int count_part(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off, const void *buf, size_t len)
{
	check_part(u, number, off, len);
	atomic_fetch_add(&count_of(u->store)->stats->bytes_put, len);
	return object_upload_part(upload_of(u)->inner, op, number, off, buf, len);
}

static int count_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			   const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	check_part(u, number, off, len);
	atomic_fetch_add(&count_of(u->store)->stats->part_copies, 1);
	return object_upload_part_copy(upload_of(u)->inner, op, number, off, src, src_off, len);
}

static int count_complete(struct object_upload *u, struct op_ctx *op, uint64_t size, const struct object_meta *meta,
			  struct object_info *ret)
{
	struct count_upload *c = upload_of(u);
	int r;

	/* Without gaps: what was sent is all of it. */
	assert((u->store->ops->caps & OBJECT_CAP_SPARSE) || atomic_load(&c->end) == size);
	r = object_upload_complete(c->inner, op, size, meta, ret);
	free(c);
	return r;
}

static void count_abort(struct object_upload *u, struct op_ctx *op)
{
	object_upload_abort(upload_of(u)->inner, op);
	free(upload_of(u));
}

static ssize_t count_upload_read(struct object_upload *u, struct op_ctx *op, uint64_t off, void *buf, size_t len)
{
	return object_upload_read(upload_of(u)->inner, op, off, buf, len);
}

static ssize_t count_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t off, void *buf, size_t len)
{
	struct count_stats *st = count_of(s)->stats;
	ssize_t n = object_get(inner_of(s), op, ref, off, buf, len);

	atomic_fetch_add(&st->gets, 1);
	if (n > 0)
		atomic_fetch_add(&st->bytes_got, (uint64_t)n);
	return n;
}

static int count_open_fd(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	return object_open_fd(inner_of(s), op, ref);
}

static int count_head(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const char *version,
		      struct object_info *ret)
{
	return object_head(inner_of(s), op, bucket, key, version, ret);
}

static int count_copy(struct object_store *s, struct op_ctx *op, const struct object_ref *src, const char *bucket, const char *key,
		      const struct object_meta *meta, struct object_info *ret)
{
	return object_copy(inner_of(s), op, src, bucket, key, meta, ret);
}

static int count_delete_version(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	atomic_fetch_add(&count_of(s)->stats->deletes, 1);
	return object_delete_version(inner_of(s), op, ref);
}

static int count_put_marker(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key)
{
	return object_put_marker(inner_of(s), op, bucket, key);
}

static int count_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix, object_list_fn *fn,
			   void *arg)
{
	return object_list_keys(inner_of(s), op, bucket, prefix, fn, arg);
}

static int count_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket, object_list_fn *fn, void *arg)
{
	return object_list_versions(inner_of(s), op, bucket, fn, arg);
}

static int count_list_key(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, object_list_fn *fn,
			  void *arg)
{
	return object_list_key(inner_of(s), op, bucket, key, fn, arg);
}

static bool count_key_is_crowded(struct object_store *s, const char *key)
{
	return object_key_is_crowded(inner_of(s), key);
}

static int count_statfs(struct object_store *s, struct op_ctx *op, struct object_statfs *ret)
{
	return object_statfs(inner_of(s), op, ret);
}

static int count_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg,
		       uint64_t *ret_n, uint64_t *ret_bytes)
{
	return object_sweep_but(inner_of(s), op, delete_it, keep, arg, ret_n, ret_bytes);
}

int count_store_new(struct object_store *inner, unsigned int caps, struct count_stats *stats, struct object_store **ret)
{
	struct count_store *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->ops = (struct object_store_ops){
		.name = "count", .caps = inner->ops->caps & caps, .free = count_free, .key_is_legal = count_key_is_legal,
		.put = count_put, .begin = count_begin, .part = count_part, .part_copy = count_part_copy,
		.complete = count_complete, .abort = count_abort, .upload_read = count_upload_read, .get = count_get,
		.open_fd = count_open_fd, .head = count_head, .copy = count_copy, .delete_version = count_delete_version,
		.put_marker = count_put_marker, .list_keys = count_list_keys, .list_versions = count_list_versions,
		.list_key = count_list_key, .key_is_crowded = count_key_is_crowded,
		.statfs = count_statfs, .sweep = count_sweep,
	};
	c->base.ops = &c->ops;
	c->inner = inner;
	c->stats = stats;
	*ret = &c->base;
	return 0;
}
