/*
 * The checked way into a store: what a caller guarantees is asserted, what comes from users or disks (keys, ranges)
 * is refused with an errno, and an operation that was cancelled or is late is not begun.
 *
 * abort and delete_version are not refused for a cancelled operation: they are how one is cleaned up after.
 */
#include "backend/object_store.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "backend/store_key.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "common/str.h"

bool store_key_is_plain(const char *key)
{
	size_t len = strlen(key), seg;

	if (!len || len > OBJECT_KEY_MAX || !mfs_utf8_valid(key, len))
		return false;
	for (;; key += seg + 1) {
		seg = strcspn(key, "/");
		if (!seg || seg > 255 || (seg == 1 && key[0] == '.') || (seg == 2 && !memcmp(key, "..", 2)))
			return false;
		if (!key[seg])
			return true;
	}
}

bool object_key_is_legal(struct object_store *s, const char *key)
{
	assert(s && key);
	return store_key_is_plain(key) && (!s->ops->key_is_legal || s->ops->key_is_legal(s, key));
}

static int may_begin(struct op_ctx *op)
{
	if (!op)
		return 0;
	if (atomic_load(&op->cancelled))
		return -ECANCELED;
	if (op->deadline_ns && mfs_mono_ns() > op->deadline_ns)
		return -ETIMEDOUT;
	return 0;
}

static int check_key(struct object_store *s, struct op_ctx *op, const char *key)
{
	if (!object_key_is_legal(s, key))
		return -EINVAL;
	return may_begin(op);
}

/* The end of [off, off + len) must be a file offset. */
static int check_range(uint64_t off, uint64_t len)
{
	return off > INT64_MAX || len > (uint64_t)INT64_MAX - off ? -EFBIG : 0;
}

static int check_ref(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	assert(ref && !object_ref_is_empty(ref));
	if (!memchr(ref->version, 0, sizeof(ref->version)))
		return -ENOENT;
	return check_key(s, op, ref->key);
}

void object_store_free(struct object_store *s)
{
	if (s)
		s->ops->free(s);
}

int object_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
	       const void *buf, size_t len, const struct object_meta *meta, struct object_info *ret)
{
	struct object_info info;
	int r;

	assert(s && key && (buf || !len) && meta);
	r = check_key(s, op, key);
	if (!r)
		r = s->ops->put(s, op, bucket, key, buf, len, meta, ret ? ret : &info);
	if (!r)
		atomic_fetch_add(&s->bytes_put, len);
	mfs_debug(MFS_LOG_STORE, op, "put key=%s bytes=%zu r=%d", key, len, r);
	return r;
}

int object_upload_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			const struct object_meta *meta, struct object_upload **ret)
{
	int r;

	assert(s && key && meta && ret);
	r = check_key(s, op, key);
	if (!r)
		r = s->ops->begin(s, op, bucket, key, meta, ret);
	mfs_debug(MFS_LOG_STORE, op, "begin key=%s r=%d", key, r);
	return r;
}

int object_upload_part(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
		       const void *buf, size_t len)
{
	int r;

	assert(u && number && (buf || !len));
	r = may_begin(op);
	if (!r)
		r = check_range(off, len);
	if (!r)
		r = u->store->ops->part(u, op, number, off, buf, len);
	if (!r)
		atomic_fetch_add(&u->store->bytes_put, len);
	mfs_debug(MFS_LOG_STORE, op, "part n=%u off=%ju bytes=%zu r=%d", number, (uintmax_t)off, len, r);
	return r;
}

int object_upload_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			    const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	int r;

	assert(u && number && src);
	r = check_ref(u->store, op, src);
	if (!r)
		r = check_range(off, len);
	if (!r)
		r = check_range(src_off, len);
	if (!r)
		r = u->store->ops->part_copy(u, op, number, off, src, src_off, len);
	if (!r)
		atomic_fetch_add(&u->store->bytes_copied, len);
	mfs_debug(MFS_LOG_STORE, op, "part-copy n=%u off=%ju bytes=%ju r=%d", number, (uintmax_t)off,
		  (uintmax_t)len, r);
	return r;
}

int object_upload_complete(struct object_upload *u, struct op_ctx *op, uint64_t size,
			   const struct object_meta *meta, struct object_info *ret)
{
	struct object_info info;
	int r;

	assert(u && meta);
	r = may_begin(op);
	if (!r)
		r = check_range(size, 0);
	if (r < 0)
		u->store->ops->abort(u, op);
	else
		r = u->store->ops->complete(u, op, size, meta, ret ? ret : &info);
	mfs_debug(MFS_LOG_STORE, op, "complete size=%ju r=%d", (uintmax_t)size, r);
	return r;
}

ssize_t object_upload_read(struct object_upload *u, struct op_ctx *op, uint64_t off, void *buf, size_t len)
{
	int r;

	assert(u && (buf || !len));
	r = may_begin(op);
	if (!r)
		r = check_range(off, len);
	if (r)
		return r;
	return u->store->ops->upload_read ? u->store->ops->upload_read(u, op, off, buf, len) : -ENOTSUP;
}

void object_upload_abort(struct object_upload *u, struct op_ctx *op)
{
	if (!u)
		return;
	mfs_debug(MFS_LOG_STORE, op, "abort");
	u->store->ops->abort(u, op);
}

ssize_t object_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t off,
		   void *buf, size_t len)
{
	ssize_t r;

	assert(s && (buf || !len));
	r = check_ref(s, op, ref);
	if (!r)
		r = check_range(off, len);
	if (!r)
		r = s->ops->get(s, op, ref, off, buf, len);
	mfs_debug(MFS_LOG_STORE, op, "get key=%s version=%s off=%ju bytes=%zu r=%zd", ref->key, ref->version,
		  (uintmax_t)off, len, r);
	return r;
}

int object_open_fd(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	int r;

	assert(s);
	if (!(s->ops->caps & OBJECT_CAP_FD))
		return -EOPNOTSUPP;
	r = check_ref(s, op, ref);
	if (!r)
		r = s->ops->open_fd(s, op, ref);
	mfs_debug(MFS_LOG_STORE, op, "open key=%s version=%s r=%d", ref->key, ref->version, r);
	return r;
}

int object_head(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		const char *version, struct object_info *ret)
{
	struct object_info info;
	int r;

	assert(s && key);
	r = check_key(s, op, key);
	if (!r)
		r = s->ops->head(s, op, bucket, key, version, ret ? ret : &info);
	mfs_debug(MFS_LOG_STORE, op, "head key=%s version=%s r=%d", key, version ? version : "(top)", r);
	return r;
}

int object_copy(struct object_store *s, struct op_ctx *op, const struct object_ref *src, const char *bucket,
		const char *key, const struct object_meta *meta, struct object_info *ret)
{
	struct object_info info;
	int r;

	assert(s && key && meta);
	r = check_ref(s, op, src);
	if (!r)
		r = check_key(s, op, key);
	if (!r)
		r = s->ops->copy(s, op, src, bucket, key, meta, ret ? ret : &info);
	mfs_debug(MFS_LOG_STORE, op, "copy from=%s version=%s key=%s r=%d", src->key, src->version, key, r);
	return r;
}

int object_delete_version(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	int r;

	assert(s);
	r = check_ref(s, NULL, ref);
	if (!r)
		r = s->ops->delete_version(s, op, ref);
	mfs_debug(MFS_LOG_STORE, op, "delete key=%s version=%s r=%d", ref->key, ref->version, r);
	return r;
}

int object_set_aside(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	int r;

	assert(s);
	if (!s->ops->set_aside)
		return -EOPNOTSUPP;
	r = check_ref(s, op, ref);
	if (!r)
		r = s->ops->set_aside(s, op, ref);
	mfs_debug(MFS_LOG_STORE, op, "set-aside key=%s version=%s r=%d", ref->key, ref->version, r);
	return r;
}

int object_put_marker(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key)
{
	int r;

	assert(s && key);
	r = check_key(s, op, key);
	if (!r)
		r = s->ops->put_marker(s, op, bucket, key);
	mfs_debug(MFS_LOG_STORE, op, "marker key=%s r=%d", key, r);
	return r;
}

int object_hold(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		struct object_info *ret)
{
	int r;

	assert(s && key && ret);
	r = check_key(s, op, key);
	if (!r)
		r = s->ops->hold(s, op, bucket, key, ret);
	mfs_debug(MFS_LOG_STORE, op, "hold key=%s r=%d", key, r);
	return r;
}

int object_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix,
		     object_list_fn *fn, void *arg)
{
	int r;

	assert(s && prefix && fn);
	r = may_begin(op);
	return r < 0 ? r : s->ops->list_keys(s, op, bucket, prefix, fn, arg);
}

int object_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket, object_list_fn *fn,
			 void *arg)
{
	int r;

	assert(s && fn);
	r = may_begin(op);
	return r < 0 ? r : s->ops->list_versions(s, op, bucket, fn, arg);
}

int object_list_key(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, object_list_fn *fn,
		    void *arg)
{
	int r;

	assert(s && key && fn);
	if (!s->ops->list_key)
		return -EOPNOTSUPP;
	r = check_key(s, op, key);
	return r < 0 ? r : s->ops->list_key(s, op, bucket, key, fn, arg);
}

bool object_key_is_crowded(struct object_store *s, const char *key)
{
	assert(s && key);
	return s->ops->key_is_crowded && s->ops->key_is_crowded(s, key);
}

int object_statfs(struct object_store *s, struct op_ctx *op, struct object_statfs *ret)
{
	int r;

	assert(s && ret);
	r = may_begin(op);
	return r < 0 ? r : s->ops->statfs(s, op, ret);
}

int object_upload_begin_named(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			      const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX],
			      struct object_upload **ret)
{
	int r;

	assert(s && key && meta && ret);
	if (!s->ops->begin_named)
		return -EOPNOTSUPP;
	r = check_key(s, op, key);
	if (!r)
		r = s->ops->begin_named(s, op, bucket, key, meta, name, ret);
	mfs_debug(MFS_LOG_STORE, op, "begin-named key=%s name=%s r=%d", key, r ? "" : name, r);
	return r;
}

int object_upload_resume(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			 const struct object_meta *meta, const char *name, struct object_upload **ret)
{
	int r;

	assert(s && key && meta && name && ret);
	if (!s->ops->resume)
		return -EOPNOTSUPP;
	if (strlen(name) >= OBJECT_UPLOAD_NAME_MAX)
		return -ENOENT;
	r = check_key(s, op, key);
	if (!r)
		r = s->ops->resume(s, op, bucket, key, meta, name, ret);
	mfs_debug(MFS_LOG_STORE, op, "resume key=%s name=%s r=%d", key, name, r);
	return r;
}

bool object_upload_has_part(struct object_upload *u, unsigned int number, uint64_t off, uint64_t len)
{
	assert(u && number);
	return u->store->ops->has_part && u->store->ops->has_part(u, number, off, len);
}

void object_upload_leave(struct object_upload *u, struct op_ctx *op)
{
	assert(u->store->ops->leave);
	mfs_debug(MFS_LOG_STORE, op, "leave");
	u->store->ops->leave(u, op);
}

int object_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, uint64_t *ret_n,
		 uint64_t *ret_bytes)
{
	return object_sweep_but(s, op, delete_it, NULL, NULL, ret_n, ret_bytes);
}

int object_sweep_but(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg,
		     uint64_t *ret_n, uint64_t *ret_bytes)
{
	uint64_t n = 0, bytes = 0;
	int r;

	assert(s);
	r = may_begin(op);
	if (!r)
		r = s->ops->sweep(s, op, delete_it, keep, arg, ret_n ? ret_n : &n, ret_bytes ? ret_bytes : &bytes);
	return r;
}
