/*
 * The block cache: a read block by block, from disk or fetched, one fetch a block (a flight) however many want it.
 *
 * A flight is in c->flights from the moment a block is found missing until its file is in the index, so whoever comes
 * meanwhile waits for it, or takes the bytes from its buffer. A flight that failed is forgotten with its readers.
 */
#include "fs/block_cache.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/object_store.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "fs/block_cache_internal.h"

#define PREFETCHERS    8
#define PREFETCH_QUEUE 64
#define PREFETCH_NS    (60 * MFS_NSEC_PER_SEC) /* deadline of one */
#define LOOK_NS	       (50 * 1000 * 1000) /* how often a waiter looks whether its operation was cancelled */
#define BAD_LOG_NS     (60 * MFS_NSEC_PER_SEC)

/* c->lock guards all; buf is constant once done. */
struct block_flight {
	struct block_flight *next;
	struct block_key key;
	uint32_t len; /* that was asked for */
	unsigned int refs;
	bool done;
	struct block seen; /* what its readers took, until it is in the index */
	ssize_t r; /* bytes, or -errno */
	char *buf;
};

/* One object, as a read sees it. */
struct object {
	struct object_store *s;
	const struct object_ref *ref;
	uint64_t size;
	uint64_t id[2];
};

/* Part of one block. */
struct piece {
	struct block_key key;
	uint32_t block_len; /* of the whole block */
	uint32_t off, len;
};

static void object_init(const struct block_cache *c, struct object_store *s, const struct object_ref *ref,
			uint64_t size, struct object *o)
{
	const char *parts[] = { c->volume, ref->bucket ? ref->bucket : "", ref->key, ref->version };
	XXH128_hash_t sums[5] = { { 0 } }, all;

	for (unsigned int k = 0; k < MFS_ARRAY_LEN(parts); k++)
		sums[k] = XXH3_128bits(parts[k], strlen(parts[k]));
	sums[4].low64 = ref->store;
	all = XXH3_128bits(sums, sizeof(sums));
	*o = (struct object){ .s = s, .ref = ref, .size = size, .id = { all.low64, all.high64 } };
}

static struct piece piece_at(const struct object *o, uint64_t off, uint64_t len)
{
	uint64_t block = off / BLOCK_CACHE_BLOCK, start = block * BLOCK_CACHE_BLOCK;
	uint64_t block_len = MFS_MIN(BLOCK_CACHE_BLOCK, o->size - start);

	return (struct piece){
		.key = { .id = { o->id[0], o->id[1] }, .block = block },
		.block_len = (uint32_t)block_len,
		.off = (uint32_t)(off - start),
		.len = (uint32_t)MFS_MIN(len, block_len - (off - start)),
	};
}

/* --- on disk --- */

/* Its file is deleted; no entry by now, or a newer one: nothing. */
static void drop(struct block_cache *c, const struct block *was, int err)
{
	struct block *b;
	uint64_t n = 0;

	{
		MFS_GUARD(&c->lock);
		b = block_index_find(&c->index, &was->key);
		if (!b || b->serial != was->serial || b->folder != was->folder)
			return;
		block_index_remove(&c->index, b);
		c->bad++;
		c->bad_unlogged++;
		if (mfs_mono_ns() >= c->bad_logged + BAD_LOG_NS || !c->bad_logged) {
			c->bad_logged = mfs_mono_ns();
			n = c->bad_unlogged;
			c->bad_unlogged = 0;
		}
	}
	block_files_delete(c, b);
	if (n)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
			"cache folder %s: a block was %s, deleted and read from the store (%" PRIu64
			" of late); check the disk",
			c->folders[was->folder].path, err == -ENOENT ? "missing" : "damaged", n);
}

/* 0: the bytes are in buf; -ENOENT: not here. Never another error: what fails here is a miss. */
static int read_cached(struct block_cache *c, const struct object *o, const struct piece *p, void *buf)
{
	struct block_label label = { .volume = c->volume, .version = o->ref->version, .key = p->key };
	struct block was;
	int r, dirfd;

	{
		MFS_GUARD(&c->lock);
		struct block *b = block_index_find(&c->index, &p->key);

		if (!b || p->off + p->len > b->len)
			return -ENOENT;
		block_index_touch(&c->index, b, p->off, p->len);
		was = *b;
		dirfd = c->folders[b->folder].dirfd;
		c->folders[b->folder].users++;
	}
	label.len = was.len;
	label.serial = was.serial;
	r = block_file_read(dirfd, &label, p->off, buf, p->len);
	if (r < 0) {
		if (r != -EBADMSG) /* first: of a folder that is gone, no file is missed */
			block_folder_failed(c, was.folder, r, "reading a block");
		if (r == -EBADMSG || r == -ENOENT)
			drop(c, &was, r);
	}
	MFS_GUARD(&c->lock);
	block_folder_give_locked(c, was.folder);
	return r < 0 ? -ENOENT : 0;
}

/* A block's file is written: into the index with it, and with what its readers have read of it so far. */
static void written(struct block_cache *c, struct block *b, const struct block_flight *f, uint64_t cost,
		    int r)
{
	struct block *old, *gone = NULL;
	bool add;

	{
		MFS_GUARD(&c->lock);
		c->index.pending -= cost;
		add = r == 0 && c->folders[b->folder].on;
		old = add ? block_index_find(&c->index, &b->key) : NULL;
		if (old) {
			block_index_remove(&c->index, old);
			gone = old;
		}
		b->cells = f->seen.cells;
		b->read_end = f->seen.read_end;
		b->wanted = f->seen.wanted;
		b->unread = !b->cells;
		if (add && block_index_add(&c->index, b, false) < 0)
			add = false;
	}
	if (r == 0 && !add)
		block_file_delete(c->folders[b->folder].dirfd, &b->key, b->len, b->serial);
	block_files_delete(c, gone);
}

static void store_block(struct block_cache *c, const struct object *o, const struct piece *p,
			const struct block_flight *f)
{
	struct block b = { .key = p->key, .len = p->block_len };
	struct block_label label = {
		.volume = c->volume, .version = o->ref->version, .key = p->key, .len = p->block_len
	};
	uint64_t cost = block_cost(p->block_len);
	int folder = block_folder_take(c, &p->key, cost), r;

	if (folder < 0)
		return;
	b.folder = (uint8_t)folder;
	{
		MFS_GUARD(&c->lock);
		b.serial = label.serial = ++c->serial;
	}
	r = block_file_write(c->folders[folder].dirfd, &label, f->buf);
	if ((r == -ENOSPC || r == -EDQUOT) && block_folder_shrink(c, b.folder, 4 * cost))
		r = block_file_write(c->folders[folder].dirfd, &label, f->buf);
	written(c, &b, f, cost, r);
	if (r < 0)
		block_folder_failed(c, b.folder, r, "writing a block");
	MFS_GUARD(&c->lock);
	block_folder_give_locked(c, b.folder);
}

/* --- fetching --- */

static void flight_put_locked(struct block_cache *c, struct block_flight *f) MFS_REQUIRES(c->lock);
static void flight_put_locked(struct block_cache *c, struct block_flight *f)
{
	(void)c;
	if (--f->refs)
		return;
	free(f->buf);
	free(f);
}

/* One that brings `end` bytes of the block at least: of a file that was cut, the index may want fewer than of a version. */
static struct block_flight *flight_find_locked(struct block_cache *c, const struct block_key *key,
					       uint32_t end) MFS_REQUIRES(c->lock);
static struct block_flight *flight_find_locked(struct block_cache *c, const struct block_key *key,
					       uint32_t end)
{
	struct block_flight *f = c->flights;

	while (f && (f->key.block != key->block || f->key.id[0] != key->id[0] || f->key.id[1] != key->id[1] ||
		     f->len < end))
		f = f->next;
	return f;
}

static void flight_unlink_locked(struct block_cache *c, struct block_flight *f) MFS_REQUIRES(c->lock);
static void flight_unlink_locked(struct block_cache *c, struct block_flight *f)
{
	struct block_flight **at = &c->flights;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	assert(f->refs > 1);
	f->refs--; /* the list's; the caller has one of its own */
}

static int op_state(struct op_ctx *op)
{
	if (!op)
		return 0;
	if (atomic_load(&op->cancelled))
		return -ECANCELED;
	return op->deadline_ns && mfs_mono_ns() > op->deadline_ns ? -ETIMEDOUT : 0;
}

/* Until it is done, or op is. */
static int flight_wait_locked(struct block_cache *c, struct op_ctx *op, struct block_flight *f)
	MFS_REQUIRES(c->lock);
static int flight_wait_locked(struct block_cache *c, struct op_ctx *op, struct block_flight *f)
{
	while (!f->done) {
		struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + LOOK_NS);
		int r = op_state(op);

		if (r < 0)
			return r;
		pthread_cond_timedwait(&c->landed, &c->lock.m, &until);
	}
	return 0;
}

/* How much of the piece a block of so many bytes has. */
static ssize_t piece_copy(const struct piece *p, const char *bytes, size_t n_bytes, void *buf)
{
	size_t n = n_bytes > p->off ? MFS_MIN(n_bytes - p->off, (size_t)p->len) : 0;

	if (n)
		memcpy(buf, bytes + p->off, n);
	return (ssize_t)n;
}

static void flight_touch_locked(struct block_cache *c, struct block_flight *f, const struct piece *p)
	MFS_REQUIRES(c->lock);
static void flight_touch_locked(struct block_cache *c, struct block_flight *f, const struct piece *p)
{
	struct block *b = block_index_find(&c->index, &p->key);

	if (p->len)
		block_index_touch(&c->index, b ? b : &f->seen, p->off, p->len);
}

/* Another one fetches it; the caller has a ref of the flight. -EAGAIN: it was cancelled or late, which says nothing of us. */
static ssize_t join(struct block_cache *c, struct op_ctx *op, struct block_flight *f, const struct piece *p,
		    void *buf)
{
	ssize_t r;

	{
		MFS_GUARD(&c->lock);
		r = flight_wait_locked(c, op, f);
		if (r == 0)
			r = f->r == -ECANCELED || f->r == -ETIMEDOUT ? -EAGAIN : f->r;
		if (r > 0)
			flight_touch_locked(c, f, p);
	}
	if (r > 0)
		r = piece_copy(p, f->buf, (size_t)r, buf);
	MFS_GUARD(&c->lock);
	flight_put_locked(c, f);
	return r;
}

/* The block is ours to fetch; whoever waits has its bytes before they are on disk. */
static ssize_t fly(struct block_cache *c, struct op_ctx *op, const struct object *o, struct block_flight *f,
		   const struct piece *p, void *buf)
{
	ssize_t r = object_get(o->s, op, o->ref, p->key.block * BLOCK_CACHE_BLOCK, f->buf, p->block_len),
		n = r;

	{
		MFS_GUARD(&c->lock);
		f->r = r;
		f->done = true;
		if (r < 0)
			flight_unlink_locked(c, f); /* not kept: the next reader asks again */
		pthread_cond_broadcast(&c->landed);
	}
	if (r >= 0) {
		n = piece_copy(p, f->buf, (size_t)r, buf);
		if (r == (ssize_t)p->block_len)
			store_block(c, o, p, f);
	}
	MFS_GUARD(&c->lock);
	if (r >= 0)
		flight_unlink_locked(c, f);
	flight_put_locked(c, f);
	return n;
}

static struct block_flight *flight_new_locked(struct block_cache *c, const struct piece *p)
	MFS_REQUIRES(c->lock);
static struct block_flight *flight_new_locked(struct block_cache *c, const struct piece *p)
{
	struct block_flight *f = calloc(1, sizeof(*f));

	if (f)
		f->buf = malloc(p->block_len);
	if (!f || !f->buf) {
		free(f);
		return NULL;
	}
	f->key = p->key;
	f->len = p->block_len;
	flight_touch_locked(c, f, p);
	f->refs = 2; /* the list's, and who fetches */
	f->next = c->flights;
	c->flights = f;
	return f;
}

/* A missing block, by the flight that is under way or a new one. *ret_came: it is in the index meanwhile. */
static ssize_t fetch(struct block_cache *c, struct op_ctx *op, const struct object *o, const struct piece *p,
		     void *buf, bool *ret_came)
{
	struct block_flight *f;
	bool ours = false;

	*ret_came = false;
	{
		MFS_GUARD(&c->lock);
		const struct block *b = block_index_find(&c->index, &p->key);

		f = flight_find_locked(c, &p->key, p->off + p->len);
		if (!f && b && p->off + p->len <= b->len) {
			*ret_came = true;
			return 0;
		}
		ours = !f;
		if (ours)
			f = flight_new_locked(c, p);
		else
			f->refs++;
		if (!f)
			return -ENOMEM;
	}
	return ours ? fly(c, op, o, f, p, buf) : join(c, op, f, p, buf);
}

static void count(struct block_cache *c, uint64_t *what)
{
	MFS_GUARD(&c->lock);
	++*what;
}

static ssize_t read_piece(struct block_cache *c, struct op_ctx *op, const struct object *o,
			  const struct piece *p, char *buf)
{
	bool missed = false;

	for (;;) {
		bool came;
		ssize_t n;
		int r = op_state(op);

		if (r < 0)
			return r;
		if (read_cached(c, o, p, buf) == 0) {
			if (!missed)
				count(c, &c->hits);
			return p->len;
		}
		if (!missed)
			count(c, &c->misses);
		missed = true;
		n = fetch(c, op, o, p, buf, &came);
		if (!came && n != -EAGAIN)
			return n;
	}
}

ssize_t block_cache_read(struct block_cache *c, struct op_ctx *op, struct object_store *s,
			 const struct object_ref *ref, uint64_t object_size, uint64_t off, void *buf,
			 size_t len)
{
	struct object o;
	size_t done = 0;

	if (!c || !c->n_folders)
		return object_get(s, op, ref, off, buf, len);
	block_folders_retry(c);
	if (!block_folders_any(c))
		return object_get(s, op, ref, off, buf, len);
	if (off >= object_size)
		return 0;
	len = (size_t)MFS_MIN((uint64_t)len, object_size - off);
	object_init(c, s, ref, object_size, &o);
	if ((off + len - 1) / BLOCK_CACHE_BLOCK > off / BLOCK_CACHE_BLOCK) {
		uint64_t next = (off / BLOCK_CACHE_BLOCK + 1) * BLOCK_CACHE_BLOCK;

		block_cache_prefetch(c, s, ref, object_size, next, off + len - next); /* beside the first */
	}
	while (done < len) {
		struct piece p = piece_at(&o, off + done, len - done);
		ssize_t n = read_piece(c, op, &o, &p, (char *)buf + done);

		if (n < 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
		if ((size_t)n < p.len)
			break;
	}
	return (ssize_t)done;
}

/* --- in advance --- */

struct prefetch {
	struct block_cache *c;
	struct object_store *s;
	struct object_ref ref;
	uint64_t size, off;
};

static void prefetch_free(struct prefetch *x)
{
	object_ref_release(&x->ref);
	free(x);
}

static bool is_known(struct block_cache *c, const struct block_key *key)
{
	MFS_GUARD(&c->lock);
	return block_index_find(&c->index, key) || flight_find_locked(c, key, 0);
}

static void prefetch_job(void *arg)
{
	struct prefetch *x = arg;
	struct block_cache *c = x->c;
	struct op_ctx op = { .deadline_ns = mfs_mono_ns() + PREFETCH_NS };
	struct object o;
	struct piece p;
	bool came, closing;
	ssize_t n;

	{
		MFS_GUARD(&c->lock);
		closing = c->closing;
	}
	if (!closing && block_folders_any(c)) {
		object_init(c, x->s, &x->ref, x->size, &o);
		p = piece_at(&o, x->off, 0); /* nothing of it is read, so it counts as new */
		n = is_known(c, &p.key) ? -EEXIST : fetch(c, &op, &o, &p, NULL, &came);
		if (n >= 0 && !came)
			count(c, &c->prefetched);
	}
	prefetch_free(x);
	MFS_GUARD(&c->lock);
	c->n_queued--;
}

/* false: too many wait, or to be read. */
static bool prefetch_one(struct block_cache *c, const struct object *o, uint64_t off)
{
	struct prefetch *x = calloc(1, sizeof(*x));

	if (!x)
		return false;
	{
		MFS_GUARD(&c->lock);
		if (c->n_queued + c->index.n_unread >= block_index_ahead_max(&c->index)) {
			free(x);
			return false;
		}
		c->n_queued++;
	}
	*x = (struct prefetch){ .c = c, .s = o->s, .size = o->size, .off = off };
	if (object_ref_copy(o->ref, &x->ref) == 0 && workers_try_submit(c->workers, prefetch_job, x) == 0)
		return true;
	prefetch_free(x);
	MFS_GUARD(&c->lock);
	c->n_queued--;
	return false;
}

void block_cache_prefetch(struct block_cache *c, struct object_store *s, const struct object_ref *ref,
			  uint64_t object_size, uint64_t off, uint64_t len)
{
	struct object o;
	uint64_t end;

	if (!c || !c->n_folders || off >= object_size || !len)
		return;
	object_init(c, s, ref, object_size, &o);
	end = off + MFS_MIN(len, object_size - off);
	for (uint64_t at = off / BLOCK_CACHE_BLOCK * BLOCK_CACHE_BLOCK; at < end; at += BLOCK_CACHE_BLOCK) {
		struct piece p = piece_at(&o, at, 0);

		if (!is_known(c, &p.key) && !prefetch_one(c, &o, at))
			return;
	}
}

/* --- the rest --- */

void block_cache_evict(struct block_cache *c, const struct object_ref *ref, uint64_t object_size)
{
	struct block *list = NULL;
	struct object o;
	uint64_t n_blocks = object_size / BLOCK_CACHE_BLOCK + 1;

	if (!c || !c->n_folders)
		return;
	object_init(c, NULL, ref, object_size, &o);
	{
		MFS_GUARD(&c->lock);
		if (n_blocks > c->index.n)
			list = block_index_remove_all(&c->index, o.id, -1);
		else
			for (uint64_t k = 0; k < n_blocks; k++) {
				struct block_key key = { .id = { o.id[0], o.id[1] }, .block = k };
				struct block *b = block_index_find(&c->index, &key);

				if (!b)
					continue;
				block_index_remove(&c->index, b);
				b->chain = list;
				list = b;
			}
		for (struct block *b = list; b; b = b->chain)
			c->evicted++;
	}
	block_files_delete(c, list);
}

uint64_t block_cache_has(struct block_cache *c, const struct object_ref *ref, uint64_t object_size)
{
	uint64_t n_blocks = (object_size + BLOCK_CACHE_BLOCK - 1) / BLOCK_CACHE_BLOCK, bytes = 0;
	struct object o;

	if (!c || !c->n_folders)
		return 0;
	object_init(c, NULL, ref, object_size, &o);
	MFS_GUARD(&c->lock);
	if (n_blocks > c->index.n) {
		for (unsigned int q = 0; q < N_QUEUES; q++)
			for (const struct block *b = c->index.queues[q].oldest; b; b = b->newer)
				if (b->key.id[0] == o.id[0] && b->key.id[1] == o.id[1])
					bytes += b->len;
		return bytes;
	}
	for (uint64_t k = 0; k < n_blocks; k++) {
		struct block_key key = { .id = { o.id[0], o.id[1] }, .block = k };
		const struct block *b = block_index_find(&c->index, &key);

		bytes += b ? b->len : 0;
	}
	return bytes;
}

void block_cache_stats(struct block_cache *c, struct block_cache_stats *ret)
{
	int64_t now = mfs_mono_ns();

	*ret = (struct block_cache_stats){ 0 };
	if (!c)
		return;
	MFS_GUARD(&c->lock);
	*ret = (struct block_cache_stats){
		.bytes = c->index.bytes,
		.blocks = c->index.n,
		.limit = c->index.limit,
		.hits = c->hits,
		.misses = c->misses,
		.bad = c->bad,
		.evicted = c->evicted,
		.prefetched = c->prefetched,
		.folders = c->n_folders,
	};
	for (unsigned int i = 0; i < c->n_folders; i++) {
		ret->folders_off += !c->folders[i].on;
		ret->degraded = ret->degraded || !c->folders[i].on || c->folders[i].full_until > now;
	}
}

/* --- opening --- */

static int add_folder(struct block_cache *c, const char *path, size_t len, char **ret_reason)
{
	struct block_folder *f;

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (!len)
		return 0;
	if (path[0] != '/')
		return mfs_fail(ret_reason, -EINVAL, "cache-dir=%.*s: must be an absolute path", (int)len,
				path);
	if (c->n_folders == BLOCK_CACHE_FOLDERS)
		return mfs_fail(ret_reason, -EINVAL, "cache-dir=: more than %d folders", BLOCK_CACHE_FOLDERS);
	f = &c->folders[c->n_folders];
	f->dirfd = f->lockfd = -1;
	f->path = strndup(path, len);
	if (!f->path)
		return -ENOMEM;
	c->n_folders++;
	return 0;
}

static int open_folders(struct block_cache *c, char **ret_reason)
{
	for (unsigned int i = 0; i < c->n_folders; i++) {
		char *reason = NULL;
		int r = block_folder_open(c, i, &reason);

		if (r < 0 && (r == -EACCES || r == -EPERM || r == -ENOTDIR || !block_folder_is_error(r))) {
			*ret_reason = reason;
			return r;
		}
		if (r < 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL, "%s; not used, tried again in %" PRId64 " s",
				reason ? reason : c->folders[i].path, c->retry_ns / MFS_NSEC_PER_SEC);
		free(reason);
	}
	return 0;
}

static void init_landed(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

int block_cache_open(const struct block_cache_options *opt, struct block_cache **ret, char **ret_reason)
{
	struct block_cache *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock.m, NULL);
	init_landed(&c->landed);
	c->free_percent = MFS_MIN(opt->free_percent, 99u);
	c->retry_ns = opt->retry_ns ? opt->retry_ns : 60 * MFS_NSEC_PER_SEC;
	snprintf(c->volume, sizeof(c->volume), "%s", opt->volume ? opt->volume : "");
	r = block_index_init(&c->index, opt->size);
	if (r == 0)
		r = workers_new("prefetch", PREFETCHERS, PREFETCH_QUEUE, &c->workers);
	for (const char *at = opt->size && opt->dirs ? opt->dirs : ""; *at && r == 0;) {
		size_t len = strcspn(at, ":");

		r = add_folder(c, at, len, ret_reason);
		at += len + (at[len] == ':');
	}
	if (r == 0)
		r = open_folders(c, ret_reason);
	if (r < 0)
		block_cache_close(c);
	else
		*ret = c;
	return r;
}

static void say_closing(struct block_cache *c)
{
	MFS_GUARD(&c->lock);
	c->closing = true;
}

void block_cache_close(struct block_cache *c)
{
	if (!c)
		return;
	say_closing(c);
	workers_free(c->workers);
	assert(!c->flights);
	for (unsigned int i = 0; i < c->n_folders; i++) {
		block_folder_close(&c->folders[i]);
		free(c->folders[i].path);
	}
	block_index_release(&c->index);
	pthread_cond_destroy(&c->landed);
	pthread_mutex_destroy(&c->lock.m);
	free(c);
}
