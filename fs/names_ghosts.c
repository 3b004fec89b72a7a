/*
 * Ghosts: a hash by inode, one by name, and a list in the order of their making. Bounded: the oldest goes first, and so do
 * those whose time was over long ago (a request that began before it may still ask).
 */
#include "fs/names_ghosts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/clock.h"
#include "common/hash.h"
#include "fs/names.h"

#define BUCKETS	   4096
#define REFUSALS   1024
#define KEEP_NS	   (10 * MFS_NSEC_PER_SEC)	/* behind its time: for requests that take long */
#define REFUSED_NS (300 * (int64_t)1000000)	/* the kernel walks the path again at once */
#define MAX_LOOK   64				/* of one inode's */

struct ghost {
	LIST_ENTRY(ghost) by_ino, by_name;
	TAILQ_ENTRY(ghost) in_order;
	mfs_ino_t parent, ino;
	uint64_t id, mark;
	int64_t until;
	pid_t who;
	bool noticed;
	size_t len;
	char bytes[];
};

LIST_HEAD(ghost_chain, ghost);

struct ghost_refusal {
	mfs_ino_t ino;
	pid_t who;
	int64_t at;
};

struct ghosts {
	struct ghost_chain by_ino[BUCKETS], by_name[BUCKETS];
	TAILQ_HEAD(, ghost) all;
	size_t n, max;
	uint64_t mark;
	struct ghost_refusal refusals[REFUSALS];
};

int ghosts_new(size_t max, struct ghosts **ret)
{
	struct ghosts *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->max = max;
	TAILQ_INIT(&g->all);
	*ret = g;
	return 0;
}

static void end(struct ghosts *g, struct ghost *h)
{
	LIST_REMOVE(h, by_ino);
	LIST_REMOVE(h, by_name);
	TAILQ_REMOVE(&g->all, h, in_order);
	g->n--;
	free(h);
}

void ghosts_free(struct ghosts *g)
{
	if (!g)
		return;
	while (!TAILQ_EMPTY(&g->all))
		end(g, TAILQ_FIRST(&g->all));
	free(g);
}

static struct ghost_chain *ino_chain(struct ghosts *g, mfs_ino_t ino)
{
	return &g->by_ino[mfs_hash_u64(ino) % BUCKETS];
}

static struct ghost_chain *name_chain(struct ghosts *g, mfs_ino_t parent, const char *name, size_t len)
{
	return &g->by_name[(mfs_hash64(name, len) ^ mfs_hash_u64(parent)) % BUCKETS];
}

static bool is_called(const struct ghost *h, mfs_ino_t parent, const char *name, size_t len)
{
	return h->parent == parent && h->len == len && !memcmp(h->bytes, name, len);
}

static struct ghost *find(struct ghosts *g, const struct ghost_name *name)
{
	struct ghost *h;

	LIST_FOREACH(h, name_chain(g, name->parent, name->bytes, name->len), by_name)
		if (h->ino == name->ino && h->id == name->id && is_called(h, name->parent, name->bytes, name->len))
			return h;
	return NULL;
}

static void drop_old(struct ghosts *g)
{
	int64_t now = mfs_mono_ns();
	struct ghost *h;

	while ((h = TAILQ_FIRST(&g->all)) && (g->n >= g->max || h->until + KEEP_NS < now))
		end(g, h);
}

void ghosts_add(struct ghosts *g, const struct ghost_name *name, int64_t until, pid_t who, bool noticed)
{
	struct ghost *h = find(g, name);

	if (h) { /* once more: the later end counts, and only a notice from now on */
		h->who = h->who == who ? who : 0;
		h->until = MFS_MAX(h->until, until);
		h->noticed = noticed;
		h->mark = ++g->mark;
		return;
	}
	drop_old(g);
	h = malloc(sizeof(*h) + name->len);
	if (!h)
		return;
	h->parent = name->parent;
	h->ino = name->ino;
	h->id = name->id;
	h->until = until;
	h->who = who;
	h->noticed = noticed;
	h->mark = ++g->mark;
	h->len = name->len;
	memcpy(h->bytes, name->bytes, name->len);
	LIST_INSERT_HEAD(ino_chain(g, h->ino), h, by_ino);
	LIST_INSERT_HEAD(name_chain(g, h->parent, h->bytes, h->len), h, by_name);
	TAILQ_INSERT_TAIL(&g->all, h, in_order);
	g->n++;
}

bool ghosts_same_record(mfs_ino_t ino, uint64_t a, uint64_t b)
{
	if (a == NAMES_SOME_ALIAS || b == NAMES_SOME_ALIAS)
		return a != ino && b != ino;
	return a == b || !a || !b;
}

bool ghosts_other(struct ghosts *g, const struct ghost_name *name, int64_t at, pid_t who, ghost_fn *fn, void *arg)
{
	unsigned int looked = 0;
	bool found = false;
	struct ghost *h;

	LIST_FOREACH(h, ino_chain(g, name->ino), by_ino) {
		if (h->ino != name->ino || h->until < at || (h->who && h->who != who) ||
		    is_called(h, name->parent, name->bytes, name->len) || !ghosts_same_record(h->ino, h->id, name->id))
			continue;
		found = true;
		if (!h->noticed) {
			h->noticed = true;
			fn(arg, &(struct ghost_name){ h->parent, h->ino, h->id, h->bytes, h->len });
		}
		if (++looked == MAX_LOOK)
			break;
	}
	return found;
}

uint64_t ghosts_mark(const struct ghosts *g)
{
	return g->mark;
}

void ghosts_end(struct ghosts *g, uint64_t mark, mfs_ino_t parent, const char *name, size_t len)
{
	struct ghost *h, *next;

	for (h = LIST_FIRST(name_chain(g, parent, name, len)); h; h = next) {
		next = LIST_NEXT(h, by_name);
		if (h->mark <= mark && is_called(h, parent, name, len))
			end(g, h);
	}
}

bool ghosts_refused(struct ghosts *g, pid_t who, mfs_ino_t ino)
{
	struct ghost_refusal *r = &g->refusals[mfs_hash_u64((uint64_t)who) % REFUSALS];
	int64_t now = mfs_mono_ns();

	if (r->who == who && r->ino == ino && r->at && now - r->at < REFUSED_NS) {
		*r = (struct ghost_refusal){ 0 };
		return true;
	}
	*r = (struct ghost_refusal){ ino, who, now };
	return false;
}

size_t ghosts_count(const struct ghosts *g)
{
	return g->n;
}
