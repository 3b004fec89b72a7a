/*
 * The consistency walk of the namespace tests: by the engine's listings alone, so that it sees what a mount would.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "tests/lib/namespace_world.h"

struct seen {
	mfs_ino_t ino;
	uint32_t names, nlink, subdirs;
	bool dir;
};

struct walk {
	struct ns_world *w;
	struct op_ctx op;
	unsigned int faults;
	struct seen *v;
	size_t n, cap;
};

static void fault(struct walk *k, const char *what, mfs_ino_t ino)
{
	k->faults++;
	fprintf(stderr, "inconsistent: inode %" PRIu64 ": %s\n", ino, what);
}

static struct seen *find(struct walk *k, mfs_ino_t ino)
{
	for (size_t i = 0; i < k->n; i++)
		if (k->v[i].ino == ino)
			return &k->v[i];
	return NULL;
}

/* 1: seen for the first time. */
static int note(struct walk *k, const struct mfs_attr *a)
{
	struct seen *s = find(k, a->ino);

	if (s) {
		s->names++;
		return 0;
	}
	if (k->n == k->cap) {
		k->cap = k->cap ? k->cap * 2 : 256;
		k->v = realloc(k->v, k->cap * sizeof(*k->v));
		assert_non_null(k->v);
	}
	k->v[k->n++] = (struct seen){ .ino = a->ino, .names = 1, .nlink = a->nlink, .dir = attr_is_dir(a) };
	return 1;
}

static void check_name(struct walk *k, mfs_ino_t dir, const struct node *n)
{
	struct entry e;
	int r = engine_lookup(k->w->bare, &k->op, dir, &n->name, &e);

	if (r < 0) {
		fault(k, "listed, but not found by name", n->attr.ino);
		return;
	}
	if (e.node.attr.ino != n->attr.ino)
		fault(k, "its name leads to another", n->attr.ino);
	if (e.pos != n->pos)
		fault(k, "its place in the listing is not that of its name", n->attr.ino);
	if (e.id == n->attr.ino && (e.node.parent != dir || !mfs_name_equal(&e.node.name, &n->name)))
		fault(k, "its record has another name", n->attr.ino);
	if (e.node.attr.flags & ATTR_IN_TRASH)
		fault(k, "has a name and is in trash", n->attr.ino);
	entry_release(&e);
}

static void walk_dir(struct walk *k, mfs_ino_t dir, unsigned int depth)
{
	struct node_list l = NODE_LIST_INIT;
	struct node self = NODE_INIT;
	uint64_t last = 0;

	if (depth > 2000) {
		fault(k, "too deep: a cycle?", dir);
		return;
	}
	assert_int_equal(engine_list(k->w->bare, &k->op, dir, 0, 10000, &l), 0);
	assert_int_equal(engine_get(k->w->bare, &k->op, dir, &self), 0);
	if (self.attr.children != l.n)
		fault(k, "its count of children is wrong", dir);
	find(k, dir)->nlink = self.attr.nlink;
	if (self.dying)
		fault(k, "is still marked by an rmdir", dir);
	node_release(&self);
	for (size_t i = 0; i < l.n; i++) {
		const struct node *n = &l.v[i];

		if (n->pos <= last)
			fault(k, "the listing is out of order", n->attr.ino);
		last = n->pos;
		check_name(k, dir, n);
		find(k, dir)->subdirs += attr_is_dir(&n->attr);
		if (note(k, &n->attr) && attr_is_dir(&n->attr))
			walk_dir(k, n->attr.ino, depth + 1);
	}
	node_list_release(&l);
}

static void check_links(struct walk *k)
{
	for (size_t i = 0; i < k->n; i++) {
		const struct seen *s = &k->v[i];
		int aliases = engine_aliases(k->w->bare, &k->op, s->ino, NULL, 0);

		if (s->names != (s->dir ? 1 : s->nlink))
			fault(k, fmt("has %u names and nlink %u", s->names, s->nlink), s->ino);
		if (s->dir && s->nlink != dir_nlink(k->w, s->subdirs))
			fault(k, fmt("has %u subdirectories and nlink %u", s->subdirs, s->nlink), s->ino);
		if (aliases + 1 != (int)s->names)
			fault(k, fmt("has %u names and %d aliases", s->names, aliases), s->ino);
	}
}

/* Everything in files must have been met in the tree; nothing in trash may have been. */
static void check_all(struct walk *k, bool trash)
{
	struct query q = { .limit = 1000, .trash = trash };
	uint64_t files = 0, found = 0;

	for (;;) {
		struct node_list l = NODE_LIST_INIT;
		size_t n;

		assert_int_equal(engine_query(k->w->bare, &k->op, &q, &l), 0);
		n = l.n;
		for (size_t i = 0; i < n; i++) {
			const struct mfs_attr *a = &l.v[i].attr;

			found++;
			q.after = a->ino;
			if (!trash && !find(k, a->ino))
				fault(k, "is an orphan: in no directory", a->ino);
			if (trash && (find(k, a->ino) || a->nlink || l.v[i].parent))
				fault(k, "is in trash, but has a name", a->ino);
		}
		node_list_release(&l);
		if (n < q.limit)
			break;
	}
	if (!trash && !files_counted(k->w, k->w->bare, found, &files))
		fault(k, fmt("counted %" PRIu64 " files, found %" PRIu64, files, found), 0);
}

static void report(void *arg, const char *text)
{
	struct walk *k = arg;

	k->faults++;
	fprintf(stderr, "inconsistent: %s\n", text);
}

unsigned int ns_world_check(struct ns_world *w)
{
	struct walk k = { .w = w };

	note(&k, &(struct mfs_attr){ .ino = MFS_ROOT_INO, .nlink = 1, .mode = S_IFDIR });
	walk_dir(&k, MFS_ROOT_INO, 0);
	check_links(&k);
	check_all(&k, false);
	check_all(&k, true);
	assert_int_equal(engine_check(w->bare, &k.op, report, &k), 0);
	free(k.v);
	return k.faults;
}
