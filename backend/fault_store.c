/*
 * A decorator that fails the nth call through the seam and passes all others on: the caller's way out of an error is
 * a path that can be walked in a loop, n = 1, 2, 3 ...
 *
 * A call is each that can fail, parts included; key_is_legal, abort and free are not. The failed call is not made
 * below, except that a failed complete ends the upload there.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#include "backend/object_store.h"

struct fault_store {
	struct object_store base;
	struct object_store_ops ops; /* with the caps of inner */
	struct object_store *inner;
	unsigned int nth;
	int err;
	atomic_uint n_calls, n_hits;
};

struct fault_upload {
	struct object_upload base;
	struct object_upload *inner;
};

static struct fault_store *fault_of(struct object_store *s)
{
	return mfs_container_of(s, struct fault_store, base);
}

static struct object_store *inner_of(struct object_store *s)
{
	return fault_of(s)->inner;
}

static struct fault_upload *upload_of(struct object_upload *u)
{
	return mfs_container_of(u, struct fault_upload, base);
}

/* 0, or the error that this call shall have. */
static int hit(struct object_store *s)
{
	struct fault_store *f = fault_of(s);
	unsigned int n = atomic_fetch_add(&f->n_calls, 1) + 1;

	if (n != f->nth)
		return 0;
	atomic_fetch_add(&f->n_hits, 1);
	return -f->err;
}

static void fault_free(struct object_store *s)
{
	object_store_free(inner_of(s));
	free(fault_of(s));
}

static bool fault_key_is_legal(struct object_store *s, const char *key)
{
	return object_key_is_legal(inner_of(s), key);
}

static int fault_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		     const void *buf, size_t len, const struct object_meta *meta, struct object_info *ret)
{
	int r = hit(s);

	return r ? r : object_put(inner_of(s), op, bucket, key, buf, len, meta, ret);
}

static int fault_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		       const struct object_meta *meta, struct object_upload **ret)
{
	struct fault_upload *u;
	int r = hit(s);

	if (r)
		return r;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->base.store = s;
	r = object_upload_begin(inner_of(s), op, bucket, key, meta, &u->inner);
	if (r < 0) {
		free(u);
		return r;
	}
	*ret = &u->base;
	return 0;
}

static int fault_part(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
		      const void *buf, size_t len)
{
	int r = hit(u->store);

	return r ? r : object_upload_part(upload_of(u)->inner, op, number, off, buf, len);
}

static int fault_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			   const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	int r = hit(u->store);

	return r ? r : object_upload_part_copy(upload_of(u)->inner, op, number, off, src, src_off, len);
}

static int fault_complete(struct object_upload *u, struct op_ctx *op, uint64_t size,
			  const struct object_meta *meta, struct object_info *ret)
{
	struct fault_upload *f = upload_of(u);
	int r = hit(u->store);

	if (r)
		object_upload_abort(f->inner, op);
	else
		r = object_upload_complete(f->inner, op, size, meta, ret);
	free(f);
	return r;
}

static void fault_abort(struct object_upload *u, struct op_ctx *op)
{
	struct fault_upload *f = upload_of(u);

	object_upload_abort(f->inner, op);
	free(f);
}

/* Also of the two that give a handle: its wrapper. */
static int wrap(struct object_store *s, struct object_upload *inner, struct object_upload **ret)
{
	struct fault_upload *u = calloc(1, sizeof(*u));

	if (!u) {
		object_upload_abort(inner, NULL);
		return -ENOMEM;
	}
	u->base.store = s;
	u->inner = inner;
	*ret = &u->base;
	return 0;
}

static int fault_begin_named(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			     const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX],
			     struct object_upload **ret)
{
	struct object_upload *inner;
	int r = hit(s);

	if (!r)
		r = object_upload_begin_named(inner_of(s), op, bucket, key, meta, name, &inner);
	return r ? r : wrap(s, inner, ret);
}

static int fault_resume(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			const struct object_meta *meta, const char *name, struct object_upload **ret)
{
	struct object_upload *inner;
	int r = hit(s);

	if (!r)
		r = object_upload_resume(inner_of(s), op, bucket, key, meta, name, &inner);
	return r ? r : wrap(s, inner, ret);
}

static bool fault_has_part(struct object_upload *u, unsigned int number, uint64_t off, uint64_t len)
{
	return object_upload_has_part(upload_of(u)->inner, number, off, len);
}

static void fault_leave(struct object_upload *u, struct op_ctx *op)
{
	object_upload_leave(upload_of(u)->inner, op);
	free(upload_of(u));
}

static ssize_t fault_upload_read(struct object_upload *u, struct op_ctx *op, uint64_t off, void *buf,
				 size_t len)
{
	int r = hit(u->store);

	return r ? r : object_upload_read(upload_of(u)->inner, op, off, buf, len);
}

static ssize_t fault_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref,
			 uint64_t off, void *buf, size_t len)
{
	int r = hit(s);

	return r ? r : object_get(inner_of(s), op, ref, off, buf, len);
}

static int fault_open_fd(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	int r = hit(s);

	return r ? r : object_open_fd(inner_of(s), op, ref);
}

static int fault_head(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		      const char *version, struct object_info *ret)
{
	int r = hit(s);

	return r ? r : object_head(inner_of(s), op, bucket, key, version, ret);
}

static int fault_copy(struct object_store *s, struct op_ctx *op, const struct object_ref *src,
		      const char *bucket, const char *key, const struct object_meta *meta,
		      struct object_info *ret)
{
	int r = hit(s);

	return r ? r : object_copy(inner_of(s), op, src, bucket, key, meta, ret);
}

static int fault_delete_version(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	int r = hit(s);

	return r ? r : object_delete_version(inner_of(s), op, ref);
}

static int fault_set_aside(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	int r = hit(s);

	return r ? r : object_set_aside(inner_of(s), op, ref);
}

static int fault_put_marker(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key)
{
	int r = hit(s);

	return r ? r : object_put_marker(inner_of(s), op, bucket, key);
}

static int fault_hold(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		      struct object_info *ret)
{
	int r = hit(s);

	return r ? r : object_hold(inner_of(s), op, bucket, key, ret);
}

static int fault_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix,
			   object_list_fn *fn, void *arg)
{
	int r = hit(s);

	return r ? r : object_list_keys(inner_of(s), op, bucket, prefix, fn, arg);
}

static int fault_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket,
			       object_list_fn *fn, void *arg)
{
	int r = hit(s);

	return r ? r : object_list_versions(inner_of(s), op, bucket, fn, arg);
}

static int fault_statfs(struct object_store *s, struct op_ctx *op, struct object_statfs *ret)
{
	int r = hit(s);

	return r ? r : object_statfs(inner_of(s), op, ret);
}


static int fault_list_key(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, object_list_fn *fn,
			  void *arg)
{
	int r = hit(s);

	return r ? r : object_list_key(inner_of(s), op, bucket, key, fn, arg);
}

static bool fault_key_is_crowded(struct object_store *s, const char *key)
{
	return object_key_is_crowded(inner_of(s), key);
}

static int fault_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg,
		       uint64_t *ret_n, uint64_t *ret_bytes)
{
	int r = hit(s);

	return r ? r : object_sweep_but(inner_of(s), op, delete_it, keep, arg, ret_n, ret_bytes);
}

static const struct object_store_ops fault_ops = {
	.name = "fault",
	.free = fault_free,
	.key_is_legal = fault_key_is_legal,
	.put = fault_put,
	.begin = fault_begin,
	.part = fault_part,
	.part_copy = fault_part_copy,
	.complete = fault_complete,
	.abort = fault_abort,
	.begin_named = fault_begin_named,
	.resume = fault_resume,
	.has_part = fault_has_part,
	.leave = fault_leave,
	.upload_read = fault_upload_read,
	.get = fault_get,
	.open_fd = fault_open_fd,
	.head = fault_head,
	.copy = fault_copy,
	.delete_version = fault_delete_version,
	.set_aside = fault_set_aside,
	.put_marker = fault_put_marker,
	.hold = fault_hold,
	.list_keys = fault_list_keys,
	.list_versions = fault_list_versions,
	.list_key = fault_list_key,
	.key_is_crowded = fault_key_is_crowded,
	.statfs = fault_statfs,
	.sweep = fault_sweep,
};

int fault_store_new(struct object_store *inner, unsigned int nth, int err, struct object_store **ret)
{
	struct fault_store *f = calloc(1, sizeof(*f));

	assert(inner && err > 0);
	if (!f)
		return -ENOMEM;
	f->ops = fault_ops;
	f->ops.caps = inner->ops->caps;
	f->base.ops = &f->ops;
	f->inner = inner;
	f->nth = nth;
	f->err = err;
	*ret = &f->base;
	return 0;
}

unsigned int fault_store_calls(const struct object_store *s)
{
	return atomic_load(
		&((const struct fault_store *)(const void *)s)->n_calls); /* base is its first member */
}

unsigned int fault_store_hits(const struct object_store *s)
{
	return atomic_load(&((const struct fault_store *)(const void *)s)->n_hits);
}
