/*
 * The names the kernel was given: a hash by (parent, name), another by inode, a third by alias. Bounded; a name that the
 * kernel has stopped believing makes room first, and where there is none the newcomer is not kept (the kernel then gets it
 * for no time). Changes are stamped into a table of hashes with the epoch of the inode table: it forgets nothing, and two
 * names that share a slot only cost an answer that is not kept. What is taken away from the kernel is a ghost for a while
 * (fs/names_ghosts.h).
 */
#include "fs/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "fs/names_ghosts.h"

#define STAMPS	   4096
#define EVICT_LOOK 64			    /* buckets looked at for room */
#define LATELY_NS  (2 * MFS_NSEC_PER_SEC)   /* given within: the reply may not be with the kernel yet */
#define MARGIN_NS  MFS_NSEC_PER_SEC	    /* longer than it is believed, a call may hold what it has looked up */
#define ONCE_NS	   (250 * (int64_t)1000000) /* the same of an answer for no time, of which only the call itself knows */
#define OTHERS_LOOK 64			    /* names of one inode looked at; with more, any may be of the same record */

struct name {
	struct name *by_name, *by_ino, *by_id; /* chains; the second only with an ino, the third only with a known id */
	mfs_ino_t parent, ino;		       /* ino 0: nobody has the name */
	uint64_t id;			       /* of the record or alias; 0 or NAMES_SOME_ALIAS: not known */
	int64_t given;			       /* monotonic: when the kernel was last told */
	uint16_t len;
	char bytes[];
};

struct names {
	struct inode_table *inodes;
	size_t max, n_buckets;
	int64_t ttl_ns;
	struct mfs_mutex lock; /* guards the rest; only malloc and free with it held */
	struct name **by_name, **by_ino, **by_id;
	struct ghosts *ghosts;
	size_t n, hand;
	uint64_t stamps[STAMPS];
	uint64_t lost; /* the epoch at which everything was lost */
	names_gone_fn *gone; /* constant once requests come */
	void *gone_arg;
};

int names_new(struct inode_table *inodes, size_t max, int64_t ttl_ns, struct names **ret)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->inodes = inodes;
	n->max = max;
	n->ttl_ns = ttl_ns;
	n->n_buckets = 1024;
	while (n->n_buckets < max)
		n->n_buckets *= 2;
	n->by_name = calloc(n->n_buckets, sizeof(*n->by_name));
	n->by_ino = calloc(n->n_buckets, sizeof(*n->by_ino));
	n->by_id = calloc(n->n_buckets, sizeof(*n->by_id));
	pthread_mutex_init(&n->lock.m, NULL);
	if (!n->by_name || !n->by_ino || !n->by_id || ghosts_new(max, &n->ghosts) < 0) {
		names_free(n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

void names_hook(struct names *n, names_gone_fn *fn, void *arg)
{
	if (!n)
		return;
	n->gone = fn;
	n->gone_arg = arg;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	for (size_t b = 0; n->by_name && b < n->n_buckets; b++)
		for (struct name *e = n->by_name[b], *next; e; e = next) {
			next = e->by_name;
			free(e);
		}
	free(n->by_name);
	free(n->by_ino);
	free(n->by_id);
	ghosts_free(n->ghosts);
	pthread_mutex_destroy(&n->lock.m);
	free(n);
}

static bool id_known(const struct name *e)
{
	return e->id && e->id != NAMES_SOME_ALIAS;
}

static uint64_t hash_name(mfs_ino_t parent, const char *name, size_t len)
{
	return mfs_hash64(name, len) ^ mfs_hash_u64(parent);
}

static struct name **chain(struct names *n, struct name **table, uint64_t number)
{
	return &table[mfs_hash_u64(number) & (n->n_buckets - 1)];
}

static struct name **name_chain(struct names *n, uint64_t hash)
{
	return &n->by_name[hash & (n->n_buckets - 1)];
}

static struct name *find_locked(struct names *n, uint64_t hash, mfs_ino_t parent, const char *name, size_t len)
	MFS_REQUIRES(n->lock)
{
	struct name *e;

	for (e = *name_chain(n, hash); e; e = e->by_name)
		if (e->parent == parent && e->len == len && !memcmp(e->bytes, name, len))
			return e;
	return NULL;
}

/* Out of all chains; the caller's then. */
static void unlink_locked(struct names *n, struct name *e) MFS_REQUIRES(n->lock)
{
	struct name **p;

	for (p = name_chain(n, hash_name(e->parent, e->bytes, e->len)); *p != e; p = &(*p)->by_name)
		;
	*p = e->by_name;
	if (e->ino) {
		for (p = chain(n, n->by_ino, e->ino); *p != e; p = &(*p)->by_ino)
			;
		*p = e->by_ino;
	}
	if (id_known(e)) {
		for (p = chain(n, n->by_id, e->id); *p != e; p = &(*p)->by_id)
			;
		*p = e->by_id;
	}
	n->n--;
}

static void link_locked(struct names *n, struct name *e) MFS_REQUIRES(n->lock)
{
	struct name **p = name_chain(n, hash_name(e->parent, e->bytes, e->len));

	e->by_name = *p;
	*p = e;
	if (e->ino) {
		p = chain(n, n->by_ino, e->ino);
		e->by_ino = *p;
		*p = e;
	}
	if (id_known(e)) {
		p = chain(n, n->by_id, e->id);
		e->by_id = *p;
		*p = e;
	}
	n->n++;
}

/* The kernel, or a call of it, may hold this one still. */
static void haunt_locked(struct names *n, const struct name *e, bool noticed) MFS_REQUIRES(n->lock)
{
	struct ghost_name g = { e->parent, e->ino, e->id, e->bytes, e->len };

	if (e->ino)
		ghosts_add(n->ghosts, &g, e->given + n->ttl_ns + MARGIN_NS, 0, noticed);
}

/* One that the kernel does not believe any more gives its place. */
static bool make_room_locked(struct names *n, int64_t now) MFS_REQUIRES(n->lock)
{
	for (int i = 0; i < EVICT_LOOK && n->n >= n->max; i++) {
		struct name *e = n->by_name[n->hand++ & (n->n_buckets - 1)], *next;

		for (; e && n->n >= n->max; e = next) {
			next = e->by_name;
			if (now - e->given <= n->ttl_ns)
				continue;
			if (now - e->given <= n->ttl_ns + MARGIN_NS)
				haunt_locked(n, e, false);
			unlink_locked(n, e);
			free(e);
		}
	}
	return n->n < n->max;
}

static void stamp_locked(struct names *n, uint64_t hash) MFS_REQUIRES(n->lock)
{
	n->stamps[hash % STAMPS] = inode_epoch_next(n->inodes);
}

static bool is_current_locked(const struct names *n, uint64_t hash, uint64_t epoch) MFS_REQUIRES(n->lock)
{
	return n->stamps[hash % STAMPS] <= epoch && n->lost <= epoch;
}

/* own: this mount has changed what it is, with the directory locked by the kernel, so that nobody holds what it was. */
static bool put_locked(struct names *n, uint64_t hash, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino,
		       uint64_t id, bool own) MFS_REQUIRES(n->lock)
{
	struct name *e = find_locked(n, hash, parent, name, len);
	int64_t now = mfs_mono_ns();

	if (e) {
		if (!own && e->ino != ino)
			haunt_locked(n, e, false);
		unlink_locked(n, e);
	} else {
		if (len > UINT16_MAX || (n->n >= n->max && !make_room_locked(n, now)))
			return false;
		e = malloc(sizeof(*e) + len);
		if (!e)
			return false;
		e->parent = parent;
		e->len = (uint16_t)len;
		e->ino = e->id = 0;
		memcpy(e->bytes, name, len);
	}
	if (id || e->ino != ino) /* a listing does not know the alias: what a lookup said stays */
		e->id = id;
	e->ino = ino;
	e->given = now;
	link_locked(n, e);
	return true;
}

/* ---- one record, two names ---- */

/* Names that went, in one list by by_name, to be told and freed without the lock. */
static void take_locked(struct names *n, struct name *e, struct name **list, bool noticed) MFS_REQUIRES(n->lock)
{
	stamp_locked(n, hash_name(e->parent, e->bytes, e->len));
	haunt_locked(n, e, noticed);
	unlink_locked(n, e);
	e->by_name = *list;
	*list = e;
}

static void tell(struct name *list, names_gone_fn *fn, void *arg)
{
	int64_t now = mfs_mono_ns();

	for (struct name *e = list, *next; e; e = next) {
		next = e->by_name;
		if (fn)
			fn(arg, e->parent, e->bytes, e->len, now - e->given < LATELY_NS);
		free(e);
	}
}

static bool is_named(const struct name *e, mfs_ino_t parent, const char *name, size_t len)
{
	return e->parent == parent && e->len == len && len && !memcmp(e->bytes, name, len);
}

/* A ghost that nobody has told the kernel of: into the list. */
static void ghost_to_tell(void *arg, const struct ghost_name *g)
{
	struct name **list = arg, *e = calloc(1, sizeof(*e) + g->len);

	if (!e)
		return;
	e->parent = g->parent;
	e->given = mfs_mono_ns() - LATELY_NS; /* once is enough */
	e->len = (uint16_t)g->len;
	memcpy(e->bytes, g->bytes, g->len);
	e->by_name = *list;
	*list = e;
}

/* Was the record given under another name, which a call of the kernel may hold? Such names are taken away from it. */
static bool has_other_locked(struct names *n, const struct names_asked *q, const struct ghost_name *g, struct name **list)
	MFS_REQUIRES(n->lock)
{
	unsigned int looked = 0;
	bool found = false;
	struct name *next;

	for (struct name *e = *chain(n, n->by_ino, g->ino); e; e = next) {
		next = e->by_ino;
		if (e->ino != g->ino || is_named(e, g->parent, g->bytes, g->len))
			continue;
		if (++looked > OTHERS_LOOK)
			return true;
		if (e->given + n->ttl_ns + MARGIN_NS < q->at || !ghosts_same_record(g->ino, e->id, g->id))
			continue;
		take_locked(n, e, list, true);
		found = true;
	}
	return ghosts_other(n->ghosts, g, q->at, q->who, ghost_to_tell, list) || found;
}

enum names_say names_look(struct names *n, const struct names_asked *q, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino,
			  uint64_t id)
{
	struct ghost_name g = { parent, ino, id, name, len };
	enum names_say say = NAMES_ONCE;
	uint64_t hash = hash_name(parent, name, len);
	struct name *list = NULL;

	if (!n)
		return NAMES_KEPT;
	{
		MFS_GUARD(&n->lock);

		if (ino && !id) {
			const struct name *e = find_locked(n, hash, parent, name, len);

			g.id = e && e->ino == ino ? e->id : 0;
		}
		if (ino && g.id && has_other_locked(n, q, &g, &list))
			say = NAMES_TWICE;
		else if (is_current_locked(n, hash, q->epoch) && put_locked(n, hash, parent, name, len, ino, id, false))
			say = NAMES_KEPT;
	}
	tell(list, n->gone, n->gone_arg);
	return say;
}

bool names_put(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id)
{
	struct names_asked q = { .epoch = epoch, .at = n && ino ? mfs_mono_ns() : 0 };

	return names_look(n, &q, parent, name, len, ino, id) == NAMES_KEPT;
}

void names_once(struct names *n, const struct names_asked *q, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id)
{
	struct ghost_name g = { parent, ino, id, name, len };

	if (!n)
		return;
	MFS_GUARD(&n->lock);
	ghosts_add(n->ghosts, &g, mfs_mono_ns() + ONCE_NS, q->who, false);
}

bool names_refused(struct names *n, pid_t who, mfs_ino_t ino)
{
	MFS_GUARD(&n->lock);

	return ghosts_refused(n->ghosts, who, ino);
}

uint64_t names_mark(struct names *n)
{
	if (!n)
		return 0;
	MFS_GUARD(&n->lock);
	return ghosts_mark(n->ghosts);
}

void names_forgotten(struct names *n, uint64_t mark, mfs_ino_t parent, const char *name, size_t len)
{
	if (!n)
		return;
	MFS_GUARD(&n->lock);
	ghosts_end(n->ghosts, mark, parent, name, len);
}

size_t names_ghosts(struct names *n)
{
	MFS_GUARD(&n->lock);

	return ghosts_count(n->ghosts);
}

/* ---- what this mount does ---- */

static void forget_locked(struct names *n, uint64_t hash, mfs_ino_t parent, const char *name, size_t len)
	MFS_REQUIRES(n->lock)
{
	struct name *e = find_locked(n, hash, parent, name, len);

	if (!e)
		return;
	unlink_locked(n, e);
	free(e);
}

bool names_made(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t ino, uint64_t id)
{
	uint64_t hash = hash_name(parent, name, len);
	bool current;

	if (!n)
		return true;
	MFS_GUARD(&n->lock);
	current = is_current_locked(n, hash, epoch);
	stamp_locked(n, hash);
	if (current)
		return put_locked(n, hash, parent, name, len, ino, id, true);
	forget_locked(n, hash, parent, name, len);
	return false;
}

void names_drop(struct names *n, mfs_ino_t parent, const char *name, size_t len)
{
	uint64_t hash = hash_name(parent, name, len);

	if (!n)
		return;
	MFS_GUARD(&n->lock);
	stamp_locked(n, hash);
	forget_locked(n, hash, parent, name, len);
}

void names_unsure(struct names *n, mfs_ino_t parent, const char *name, size_t len)
{
	uint64_t hash = hash_name(parent, name, len);
	struct name *list = NULL;

	if (!n)
		return;
	{
		MFS_GUARD(&n->lock);
		struct name *e = find_locked(n, hash, parent, name, len);

		stamp_locked(n, hash);
		if (e)
			take_locked(n, e, &list, true);
	}
	tell(list, n->gone, n->gone_arg);
}

bool names_get(struct names *n, mfs_ino_t parent, const char *name, size_t len, mfs_ino_t *ret_ino, uint64_t *ret_id)
{
	const struct name *e;

	if (!n)
		return false;
	MFS_GUARD(&n->lock);
	e = find_locked(n, hash_name(parent, name, len), parent, name, len);
	if (e) {
		*ret_ino = e->ino;
		*ret_id = id_known(e) ? e->id : 0;
	}
	return e;
}

bool names_changed_since(struct names *n, uint64_t epoch, mfs_ino_t parent, const char *name, size_t len)
{
	if (!n)
		return false;
	MFS_GUARD(&n->lock);
	return !is_current_locked(n, hash_name(parent, name, len), epoch);
}

/* ---- news ---- */

bool names_news(struct names *n, uint64_t id, mfs_ino_t target, mfs_ino_t parent, const char *name, size_t len,
		names_gone_fn *fn, void *arg)
{
	struct name *list = NULL;
	bool known = !parent;

	{
		MFS_GUARD(&n->lock);
		struct name *e, *next;

		if (parent) {
			uint64_t hash = hash_name(parent, name, len);

			e = find_locked(n, hash, parent, name, len);
			known = e && e->ino == target;
			if (e && !known)
				take_locked(n, e, &list, true);
			if (!known)
				stamp_locked(n, hash);
		}
		for (e = *chain(n, n->by_id, id); e; e = next) {
			next = e->by_id;
			if (e->id == id && !is_named(e, parent, name, len))
				take_locked(n, e, &list, true);
		}
		/* Of names whose record is not known, only the one that was told is sure. */
		for (e = *chain(n, n->by_ino, target); target && e; e = next) {
			next = e->by_ino;
			if (e->ino == target && !id_known(e) && !is_named(e, parent, name, len))
				take_locked(n, e, &list, true);
		}
	}
	tell(list, fn, arg);
	return known;
}

void names_news_gone(struct names *n, uint64_t id, names_gone_fn *fn, void *arg)
{
	struct name *list = NULL;

	{
		MFS_GUARD(&n->lock);
		struct name *next;

		for (struct name *e = *chain(n, n->by_id, id); e; e = next) {
			next = e->by_id;
			if (e->id == id)
				take_locked(n, e, &list, true);
		}
		for (struct name *e = *chain(n, n->by_ino, id); e; e = next) {
			next = e->by_ino;
			if (e->ino == id && !id_known(e))
				take_locked(n, e, &list, true);
		}
	}
	tell(list, fn, arg);
}

void names_lost(struct names *n, names_gone_fn *fn, void *arg)
{
	struct name *list = NULL;

	{
		MFS_GUARD(&n->lock);

		n->lost = inode_epoch_next(n->inodes);
		for (size_t b = 0; b < n->n_buckets; b++)
			while (n->by_name[b]) {
				struct name *e = n->by_name[b];

				haunt_locked(n, e, fn != NULL);
				n->by_name[b] = e->by_name;
				e->by_name = list;
				list = e;
			}
		memset(n->by_ino, 0, n->n_buckets * sizeof(*n->by_ino));
		memset(n->by_id, 0, n->n_buckets * sizeof(*n->by_id));
		n->n = 0;
	}
	tell(list, fn, arg);
}

size_t names_count(struct names *n)
{
	MFS_GUARD(&n->lock);

	return n->n;
}
