/*
 * A store in memory, the reference for what the seam means: no views, so nothing is ever blocked.
 *
 * Versions have rising numbers and live in one array in that order; bytes are shared by copies and counted. Keys live
 * in an array sorted by name, with the version on top or none (a marker). One lock, never held over a callback.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend/object_store.h"
#include "common/checksum.h"
#include "common/str.h"
#include "common/sync.h"

/* Immutable once it belongs to a version. */
struct mem_data {
	unsigned int refs;
	uint64_t sum;
	size_t len;
	char bytes[];
};

struct mem_version {
	uint64_t number;
	struct mem_data *data;
	struct object_meta meta;
	char *key;
};

struct mem_key {
	char *name;
	uint64_t top; /* number of a version; 0: a marker */
};

struct mem_store {
	struct object_store base;
	struct mfs_mutex lock; /* guards all below */
	struct mem_version *versions;
	size_t n_versions, room_versions;
	struct mem_key *keys;
	size_t n_keys, room_keys;
	uint64_t last_number, bytes;
	unsigned int n_uploads;
	struct mem_upload *left; /* by who began them, to be resumed; guarded by lock */
	uint64_t last_upload;
};

struct mem_part {
	uint64_t off, len;
};

struct mem_upload {
	struct object_upload base;
	struct mem_upload *next; /* in left */
	uint64_t name; /* 0: none */
	struct mem_part *parts; /* of a named one: number n is at n - 1; its parts come one after the other */
	size_t n_parts, room_parts;
	char *key;
	struct mfs_mutex lock; /* guards buf, len, room */
	char *buf; /* zeros from len on */
	size_t len, room;
};

static struct mem_store *mem_of(struct object_store *s)
{
	return mfs_container_of(s, struct mem_store, base);
}

static void data_put(struct mem_store *m, struct mem_data *d)
{
	if (--d->refs)
		return;
	m->bytes -= d->len;
	free(d);
}

static void free_left(struct mem_upload *u)
{
	pthread_mutex_destroy(&u->lock.m);
	free(u->buf);
	free(u->key);
	free(u->parts);
	free(u);
}

static void mem_free(struct object_store *s)
{
	struct mem_store *m = mem_of(s);

	assert(!m->n_uploads);
	for (struct mem_upload *u = m->left, *next; u; u = next) {
		next = u->next;
		free_left(u);
	}
	for (size_t i = 0; i < m->n_versions; i++) {
		data_put(m, m->versions[i].data);
		free(m->versions[i].key);
	}
	for (size_t i = 0; i < m->n_keys; i++)
		free(m->keys[i].name);
	free(m->versions);
	free(m->keys);
	pthread_mutex_destroy(&m->lock.m);
	free(m);
}

/* Room for one more of `size` bytes each. */
static int grow(void *array, size_t n, size_t *room, size_t size)
{
	size_t want = *room ? *room * 2 : 16;
	void *old, *new;

	if (n < *room)
		return 0;
	memcpy(&old, array, sizeof(old));
	new = realloc(old, want * size);
	if (!new)
		return -ENOMEM;
	memcpy(array, &new, sizeof(new));
	*room = want;
	return 0;
}

/* Index of the first key that is not before name. */
static size_t key_index_locked(struct mem_store *m, const char *name) MFS_REQUIRES(m->lock)
{
	size_t lo = 0, hi = m->n_keys;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(m->keys[mid].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* With make it is there afterwards. NULL: not there, or no memory. */
static struct mem_key *key_locked(struct mem_store *m, const char *name, bool make) MFS_REQUIRES(m->lock)
{
	size_t i = key_index_locked(m, name);
	char *copy;

	if (i < m->n_keys && !strcmp(m->keys[i].name, name))
		return &m->keys[i];
	if (!make || grow(&m->keys, m->n_keys, &m->room_keys, sizeof(*m->keys)) < 0)
		return NULL;
	copy = strdup(name);
	if (!copy)
		return NULL;
	memmove(m->keys + i + 1, m->keys + i, (m->n_keys - i) * sizeof(*m->keys));
	m->n_keys++;
	m->keys[i] = (struct mem_key){ .name = copy };
	return &m->keys[i];
}

static struct mem_version *version_locked(struct mem_store *m, uint64_t number) MFS_REQUIRES(m->lock)
{
	size_t lo = 0, hi = m->n_versions;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->versions[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return number && lo < m->n_versions && m->versions[lo].number == number ? &m->versions[lo] : NULL;
}

/* The version of that key; NULL: none. */
static struct mem_version *find_locked(struct mem_store *m, const char *key, const char *id)
	MFS_REQUIRES(m->lock)
{
	struct mem_version *v;
	uint64_t number;
	char again[OBJECT_VERSION_MAX + 1];
	char *end;

	number = strtoull(id, &end, 16);
	snprintf(again, sizeof(again), "%016" PRIx64, number);
	if (strcmp(again, id) != 0)
		return NULL;
	v = version_locked(m, number);
	return v && !strcmp(v->key, key) ? v : NULL;
}

/* On top of nothing. */
static bool is_hidden(const char *key)
{
	return !strncmp(key, OBJECT_HIDDEN_PREFIX, sizeof(OBJECT_HIDDEN_PREFIX) - 1);
}

static void fill_info(const struct mem_version *v, struct object_info *ret)
{
	*ret = (struct object_info){
		.size = v->data->len,
		.alloc = v->data->len,
		.mtime = v->meta.mtime,
		.own = v->meta.ino != 0,
		.ino = v->meta.ino,
		.session = v->meta.session,
		.op = v->meta.op,
		.mode = v->meta.mode,
		.uid = v->meta.uid,
		.gid = v->meta.gid,
	};
	snprintf(ret->version, sizeof(ret->version), "%016" PRIx64, v->number);
	mfs_checksum_etag(v->data->sum, ret->etag);
}

/* Takes over the caller's reference of data, also when it fails. */
static int add_version_locked(struct mem_store *m, const char *key, struct mem_data *data,
			      const struct object_meta *meta, struct object_info *ret) MFS_REQUIRES(m->lock)
{
	bool hidden = is_hidden(key);
	struct mem_key *k = hidden ? NULL : key_locked(m, key, true);
	char *copy = strdup(key);
	struct mem_version *v;

	if ((!k && !hidden) || !copy || grow(&m->versions, m->n_versions, &m->room_versions, sizeof(*m->versions)) < 0) {
		free(copy);
		data_put(m, data);
		return -ENOMEM;
	}
	v = &m->versions[m->n_versions++];
	*v = (struct mem_version){ .number = ++m->last_number, .data = data, .meta = *meta, .key = copy };
	if (k)
		k->top = v->number;
	fill_info(v, ret);
	return 0;
}

static int add_bytes(struct mem_store *m, const char *key, const void *buf, size_t len,
		     const struct object_meta *meta, struct object_info *ret)
{
	struct mem_data *d = malloc(sizeof(*d) + len);

	if (!d)
		return -ENOMEM;
	d->refs = 1;
	d->len = len;
	if (len)
		memcpy(d->bytes, buf, len);
	d->sum = mfs_checksum(buf, len);
	MFS_GUARD(&m->lock);
	m->bytes += len;
	return add_version_locked(m, key, d, meta, ret);
}

static int mem_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		   const void *buf, size_t len, const struct object_meta *meta, struct object_info *ret)
{
	(void)op;
	return bucket ? -EINVAL : add_bytes(mem_of(s), key, buf, len, meta, ret);
}

/* --- uploads --- */

static struct mem_upload *upload_of(struct object_upload *u)
{
	return mfs_container_of(u, struct mem_upload, base);
}

static int mem_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		     const struct object_meta *meta, struct object_upload **ret)
{
	struct mem_store *m = mem_of(s);
	struct mem_upload *u;

	(void)op;
	(void)meta;
	if (bucket)
		return -EINVAL;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->key = strdup(key);
	if (!u->key) {
		free(u);
		return -ENOMEM;
	}
	u->base.store = s;
	pthread_mutex_init(&u->lock.m, NULL);
	MFS_GUARD(&m->lock);
	m->n_uploads++;
	*ret = &u->base;
	return 0;
}

static int reserve_locked(struct mem_upload *u, uint64_t end) MFS_REQUIRES(u->lock)
{
	size_t room = MFS_MAX((size_t)end, u->room + u->room / 2);
	char *buf;

	if (end <= u->room)
		return 0;
	buf = realloc(u->buf, room);
	if (!buf)
		return -ENOMEM;
	memset(buf + u->room, 0, room - u->room);
	u->buf = buf;
	u->room = room;
	return 0;
}

static int note_part_locked(struct mem_upload *u, unsigned int number, uint64_t off, uint64_t len) MFS_REQUIRES(u->lock)
{
	while (u->n_parts < number) {
		int r = grow(&u->parts, u->n_parts, &u->room_parts, sizeof(*u->parts));

		if (r < 0)
			return r;
		u->parts[u->n_parts++] = (struct mem_part){ 0 };
	}
	u->parts[number - 1] = (struct mem_part){ off, len };
	return 0;
}

static int mem_part(struct object_upload *base, struct op_ctx *op, unsigned int number, uint64_t off,
		    const void *buf, size_t len)
{
	struct mem_upload *u = upload_of(base);
	int r;

	(void)op;
	if (!len)
		return 0;
	MFS_GUARD(&u->lock);
	r = reserve_locked(u, off + len);
	if (r == 0 && u->name)
		r = note_part_locked(u, number, off, len);
	if (r < 0)
		return r;
	memcpy(u->buf + off, buf, len);
	u->len = MFS_MAX(u->len, off + len);
	return 0;
}

static int mem_part_copy(struct object_upload *base, struct op_ctx *op, unsigned int number, uint64_t off,
			 const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	struct mem_store *m = mem_of(base->store);
	struct mem_version *v;
	struct mem_data *d;
	int r = -EINVAL;

	{
		MFS_GUARD(&m->lock);
		v = src->bucket ? NULL : find_locked(m, src->key, src->version);
		if (!v)
			return -ENOENT;
		d = v->data;
		d->refs++;
	}
	if (src_off + len <= d->len)
		r = mem_part(base, op, number, off, d->bytes + src_off, (size_t)len);
	MFS_GUARD(&m->lock);
	data_put(m, d);
	return r;
}

static void end_upload(struct mem_upload *u)
{
	struct mem_store *m = mem_of(u->base.store);

	pthread_mutex_destroy(&u->lock.m);
	free(u->buf);
	free(u->key);
	free(u->parts);
	free(u);
	MFS_GUARD(&m->lock);
	m->n_uploads--;
}

static int mem_complete(struct object_upload *base, struct op_ctx *op, uint64_t size,
			const struct object_meta *meta, struct object_info *ret)
{
	struct mem_upload *u = upload_of(base);
	int r = -EINVAL; /* bytes beyond the end were sent */

	(void)op;
	if (u->len <= size) {
		MFS_GUARD(&u->lock);
		r = reserve_locked(u, size);
	}
	if (!r)
		r = add_bytes(mem_of(base->store), u->key, u->buf, (size_t)size, meta, ret);
	end_upload(u);
	return r;
}

static void mem_abort(struct object_upload *base, struct op_ctx *op)
{
	(void)op;
	end_upload(upload_of(base));
}

/* --- uploads that are left and resumed, as those of a real store outlive the process --- */

static int mem_begin_named(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			   const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX],
			   struct object_upload **ret)
{
	struct mem_store *m = mem_of(s);
	int r = mem_begin(s, op, bucket, key, meta, ret);

	if (r < 0)
		return r;
	MFS_GUARD(&m->lock);
	upload_of(*ret)->name = ++m->last_upload;
	snprintf(name, OBJECT_UPLOAD_NAME_MAX, "%" PRIu64, m->last_upload);
	return 0;
}

static int mem_resume(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		      const struct object_meta *meta, const char *name, struct object_upload **ret)
{
	struct mem_store *m = mem_of(s);
	uint64_t number;

	(void)op;
	(void)meta;
	if (bucket || mfs_str_uint(name, 10, 1, UINT64_MAX, &number) < 0)
		return -ENOENT;
	MFS_GUARD(&m->lock);
	for (struct mem_upload **at = &m->left; *at; at = &(*at)->next) {
		struct mem_upload *u = *at;

		if (u->name != number || strcmp(u->key, key) != 0)
			continue;
		*at = u->next;
		u->next = NULL;
		m->n_uploads++;
		*ret = &u->base;
		return 0;
	}
	return -ENOENT;
}

static bool mem_has_part(struct object_upload *base, unsigned int number, uint64_t off, uint64_t len)
{
	struct mem_upload *u = upload_of(base);

	MFS_GUARD(&u->lock);
	return number <= u->n_parts && u->parts[number - 1].off == off && u->parts[number - 1].len == len;
}

static void mem_leave(struct object_upload *base, struct op_ctx *op)
{
	struct mem_upload *u = upload_of(base);
	struct mem_store *m = mem_of(base->store);

	(void)op;
	MFS_GUARD(&m->lock);
	u->next = m->left;
	m->left = u;
	m->n_uploads--;
}

/* --- what is there --- */

static ssize_t mem_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t off,
		       void *buf, size_t len)
{
	struct mem_store *m = mem_of(s);
	struct mem_version *v;
	size_t n;

	(void)op;
	if (ref->bucket)
		return -EINVAL;
	MFS_GUARD(&m->lock);
	v = find_locked(m, ref->key, ref->version);
	if (!v)
		return -ENOENT;
	if (off >= v->data->len)
		return 0;
	n = MFS_MIN(len, v->data->len - (size_t)off);
	memcpy(buf, v->data->bytes + off, n);
	return (ssize_t)n;
}

static int mem_head(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		    const char *version, struct object_info *ret)
{
	struct mem_store *m = mem_of(s);
	struct mem_version *v;
	struct mem_key *k;

	(void)op;
	if (bucket)
		return -EINVAL;
	MFS_GUARD(&m->lock);
	if (version) {
		v = find_locked(m, key, version);
	} else {
		k = key_locked(m, key, false);
		v = k ? version_locked(m, k->top) : NULL;
	}
	if (!v)
		return -ENOENT;
	fill_info(v, ret);
	return 0;
}

static int mem_copy(struct object_store *s, struct op_ctx *op, const struct object_ref *src,
		    const char *bucket, const char *key, const struct object_meta *meta,
		    struct object_info *ret)
{
	struct mem_store *m = mem_of(s);
	struct mem_version *v;

	(void)op;
	if (bucket || src->bucket)
		return -EINVAL;
	MFS_GUARD(&m->lock);
	v = find_locked(m, src->key, src->version);
	if (!v)
		return -ENOENT;
	if (strcmp(key, src->key) != 0) {
		v->data->refs++;
		return add_version_locked(m, key, v->data, meta, ret);
	}
	v->meta.mtime = meta->mtime;
	if (!is_hidden(key))
		key_locked(m, key, false)->top = v->number;
	fill_info(v, ret);
	return 0;
}

static int mem_delete_version(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	struct mem_store *m = mem_of(s);
	struct mem_version *v;
	struct mem_key *k;
	size_t i;

	(void)op;
	if (ref->bucket)
		return -EINVAL;
	MFS_GUARD(&m->lock);
	v = find_locked(m, ref->key, ref->version);
	if (!v)
		return 0;
	k = key_locked(m, ref->key, false);
	if (k && k->top == v->number)
		k->top = 0;
	data_put(m, v->data);
	free(v->key);
	i = (size_t)(v - m->versions);
	memmove(v, v + 1, (m->n_versions - i - 1) * sizeof(*v));
	m->n_versions--;
	return 0;
}

static int mem_put_marker(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key)
{
	struct mem_store *m = mem_of(s);
	struct mem_key *k;

	(void)op;
	if (bucket)
		return -EINVAL;
	MFS_GUARD(&m->lock);
	k = key_locked(m, key, false);
	if (k)
		k->top = 0;
	return 0;
}

/* --- walks: one step under the lock, then the callback without it --- */

/* The first key with a top that is not before `from`: 1 with its copy, 0 at the end, -ENOMEM. */
static int next_key(struct mem_store *m, const char *from, char **ret_key, struct object_info *ret)
{
	MFS_GUARD(&m->lock);
	for (size_t i = key_index_locked(m, from); i < m->n_keys; i++) {
		struct mem_version *v = version_locked(m, m->keys[i].top);

		if (!v)
			continue;
		*ret_key = strdup(m->keys[i].name);
		fill_info(v, ret);
		return *ret_key ? 1 : -ENOMEM;
	}
	return 0;
}

/* All have versions. */
static int mem_hold(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		    struct object_info *ret)
{
	int r = mem_head(s, op, bucket, key, NULL, ret);

	return r == 0 && ret->own ? -ENOENT : r;
}

static int mem_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix,
			 object_list_fn *fn, void *arg)
{
	MFS_AUTOFREE char *from = strdup(prefix);
	int r;

	(void)op;
	if (bucket)
		return -EINVAL;
	if (!from)
		return -ENOMEM;
	for (;;) {
		MFS_AUTOFREE char *key = NULL;
		struct object_info info;
		size_t len;

		r = next_key(mem_of(s), from, &key, &info);
		if (r <= 0 || strncmp(key, prefix, strlen(prefix)) != 0)
			return r < 0 ? r : 0;
		r = fn(arg, key, &info);
		if (r)
			return r;
		len = strlen(key);
		free(from);
		from = malloc(len + 2);
		if (!from)
			return -ENOMEM;
		memcpy(from, key, len);
		memcpy(from + len, "\1", 2); /* right behind the key */
	}
}

/* The first version with a higher number. */
static int next_version(struct mem_store *m, uint64_t after, uint64_t *ret_number, char **ret_key,
			struct object_info *ret)
{
	MFS_GUARD(&m->lock);
	for (size_t i = 0; i < m->n_versions; i++) {
		if (m->versions[i].number <= after)
			continue;
		*ret_number = m->versions[i].number;
		*ret_key = strdup(m->versions[i].key);
		fill_info(&m->versions[i], ret);
		return *ret_key ? 1 : -ENOMEM;
	}
	return 0;
}

static int mem_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket,
			     object_list_fn *fn, void *arg)
{
	uint64_t number = 0;
	int r;

	(void)op;
	if (bucket)
		return -EINVAL;
	for (;;) {
		MFS_AUTOFREE char *key = NULL;
		struct object_info info;

		r = next_version(mem_of(s), number, &number, &key, &info);
		if (r <= 0)
			return r;
		r = fn(arg, key, &info);
		if (r)
			return r;
	}
}

/* The newest first. */
static int mem_list_key(struct object_store *s, struct op_ctx *op, const char *bucket, const char *want, object_list_fn *fn,
			void *arg)
{
	MFS_AUTOFREE struct object_info *v = NULL;
	uint64_t number = 0;
	size_t n = 0;
	int r = bucket ? -EINVAL : 1;

	(void)op;
	while (r > 0) {
		MFS_AUTOFREE char *key = NULL;
		struct object_info info, *more;

		r = next_version(mem_of(s), number, &number, &key, &info);
		if (r <= 0 || strcmp(key, want) != 0)
			continue;
		more = reallocarray(v, n + 1, sizeof(*v));
		if (!more)
			return -ENOMEM;
		v = more;
		v[n++] = info;
	}
	while (r == 0 && n)
		r = fn(arg, want, &v[--n]);
	return r;
}

static int mem_statfs(struct object_store *s, struct op_ctx *op, struct object_statfs *ret)
{
	struct mem_store *m = mem_of(s);

	(void)op;
	MFS_GUARD(&m->lock);
	*ret = (struct object_statfs){
		.total = MFS_TIB,
		.free = MFS_TIB - m->bytes,
		.avail = MFS_TIB - m->bytes,
		.files = UINT32_MAX,
		.ffree = UINT32_MAX - m->n_versions,
	};
	return 0;
}

/* What was left. */
static int mem_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg,
		     uint64_t *ret_n, uint64_t *ret_bytes)
{
	struct mem_store *m = mem_of(s);
	struct mem_upload **at = &m->left;

	(void)op;
	*ret_n = *ret_bytes = 0;
	MFS_GUARD(&m->lock);
	while (*at) {
		struct mem_upload *u = *at;
		char name[24];

		snprintf(name, sizeof(name), "%" PRIu64, u->name);
		if (keep && keep(arg, u->key, name)) {
			at = &u->next;
			continue;
		}
		*ret_n += 1;
		*ret_bytes += u->len;
		if (delete_it) {
			*at = u->next;
			free_left(u);
		} else {
			at = &u->next;
		}
	}
	return 0;
}

static const struct object_store_ops mem_ops = {
	.name = "mem",
	.caps = OBJECT_CAP_SPARSE | OBJECT_CAP_CHEAP_COPY,
	.free = mem_free,
	.put = mem_put,
	.begin = mem_begin,
	.part = mem_part,
	.part_copy = mem_part_copy,
	.complete = mem_complete,
	.abort = mem_abort,
	.begin_named = mem_begin_named,
	.resume = mem_resume,
	.has_part = mem_has_part,
	.leave = mem_leave,
	.get = mem_get,
	.head = mem_head,
	.copy = mem_copy,
	.delete_version = mem_delete_version,
	.put_marker = mem_put_marker,
	.hold = mem_hold,
	.list_keys = mem_list_keys,
	.list_versions = mem_list_versions,
	.list_key = mem_list_key,
	.statfs = mem_statfs,
	.sweep = mem_sweep,
};

int mem_store_new(struct object_store **ret)
{
	struct mem_store *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->base.ops = &mem_ops;
	pthread_mutex_init(&m->lock.m, NULL);
	*ret = &m->base;
	return 0;
}
