/*
 * Which files are scrubbed: everything the index has, or one file or tree.
 */
#include "fs/scrub.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "fs/scrub_internal.h"

#define PAGE	   256
#define DEPTH_MAX 4096

/* A record of a listing is partial: it is read whole, and may have gone meanwhile. */
static int scrub_ino(struct scrub *s, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	int r = engine_get(s->v->engine, s->op, ino, &n);

	if (r == -ESTALE)
		return 0;
	if (r == 0 && attr_is_reg(&n.attr))
		r = scrub_file(s, ino, &n);
	node_release(&n);
	return r;
}

/* --- everything --- */

static int each_record(struct scrub *s, bool trash)
{
	struct query q = { .limit = PAGE, .trash = trash };
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_query(s->v->engine, s->op, &q, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			q.after = l.v[i].attr.ino;
			if (attr_is_reg(&l.v[i].attr))
				r = scrub_file(s, l.v[i].attr.ino, &l.v[i]);
			if (atomic_load(&s->op->cancelled))
				r = -ECANCELED;
		}
		node_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

/* Versions of files whose own record is gone for good. */
static int each_orphan(struct scrub *s)
{
	mfs_ino_t ino = 0;
	size_t n;
	int r;

	do {
		struct version_list l = { 0 };
		mfs_ino_t last = ino;

		r = engine_versions_all(s->v->engine, s->op, ino, INT64_MAX, 1, &l);
		n = l.n;
		if (r == 0 && n)
			ino = l.v[0].ino;
		version_list_release(&l);
		if (ino == last)
			break;
		if (r == 0 && n) {
			struct node node = NODE_INIT;

			r = engine_get(s->v->engine, s->op, ino, &node);
			if (r == -ESTALE)
				r = scrub_file(s, ino, NULL);
			node_release(&node);
		}
		if (atomic_load(&s->op->cancelled))
			r = -ECANCELED;
	} while (r == 0 && n);
	return r;
}

/* --- a tree --- */

static int scrub_tree(struct scrub *s, mfs_ino_t dir, unsigned int depth)
{
	uint64_t after = 0;
	size_t n;
	int r;

	if (depth > DEPTH_MAX)
		return -ELOOP;
	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_list(s->v->engine, s->op, dir, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			after = l.v[i].pos;
			if (attr_is_dir(&l.v[i].attr))
				r = scrub_tree(s, l.v[i].attr.ino, depth + 1);
			else if (attr_is_reg(&l.v[i].attr))
				r = scrub_ino(s, l.v[i].attr.ino);
			if (atomic_load(&s->op->cancelled))
				r = -ECANCELED;
		}
		node_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int scrub_root(struct scrub *s, mfs_ino_t root)
{
	struct node n = NODE_INIT;
	int r = engine_get(s->v->engine, s->op, root, &n);
	bool is_dir = r == 0 && attr_is_dir(&n.attr);

	node_release(&n);
	if (r < 0)
		return r;
	return is_dir ? scrub_tree(s, root, 0) : scrub_ino(s, root);
}

int scrub_run(struct volume *v, struct op_ctx *op, const struct scrub_options *opt, struct scrub_result *ret)
{
	struct scrub s = { .v = v, .op = op, .opt = opt, .res = ret, .began = mfs_mono_ns() };
	int r;

	s.buf = malloc(SCRUB_CHUNK);
	if (!s.buf)
		return -ENOMEM;
	if (opt->root) {
		r = scrub_root(&s, opt->root);
	} else {
		r = each_record(&s, false);
		if (r == 0)
			r = each_record(&s, true);
		if (r == 0)
			r = each_orphan(&s);
	}
	free(s.buf);
	return r;
}
