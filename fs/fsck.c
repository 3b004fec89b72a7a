/*
 * The walk of fsck: every record once, then trash, versions and the view; repairs where they are safe.
 *
 * In memory: one entry a directory (its parent and its children as counted), nothing a file. A file's checks need
 * only its own record, its aliases and its object.
 */
#include "fs/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/op_ctx.h"
#include "fs/fsck_internal.h"
#include "fs/pieces.h"

#define PAGE	      1000
#define RECHECKS      4
#define PASSES_MAX    5
#define RECHECK_NS    (250 * INT64_C(1000000))
#define PROGRESS_EACH 256

void fsck_problem(struct fsck *f, const char *what, mfs_ino_t ino, const char *where, bool repaired,
		  const char *fmt, ...)
{
	char detail[512];
	struct fsck_problem p = {
		.what = what, .ino = ino, .where = where ? where : "", .detail = detail, .repaired = repaired
	};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	f->res->problems++;
	f->res->repaired += repaired;
	if (f->opt->problem)
		f->opt->problem(f->opt->arg, &p);
}

bool fsck_repair(struct fsck *f, struct change *c)
{
	int r;

	if (!f->opt->repair)
		return false;
	r = engine_apply(f->v->engine, f->op, c);
	f->changed |= r == 0;
	return r == 0;
}

static void tick(struct fsck *f)
{
	if (++f->n_ticks % PROGRESS_EACH == 0 && f->opt->progress)
		f->opt->progress(f->opt->arg, f->n_ticks);
}

/* --- directories --- */

static int by_ino(const void *a, const void *b)
{
	mfs_ino_t x = ((const struct fsck_dir *)a)->ino, y = ((const struct fsck_dir *)b)->ino;

	return (x > y) - (x < y);
}

struct fsck_dir *fsck_find_dir(struct fsck *f, mfs_ino_t ino)
{
	struct fsck_dir key = { .ino = ino };

	return f->n_dirs ? bsearch(&key, f->dirs, f->n_dirs, sizeof(key), by_ino) : NULL;
}

int fsck_add_dir(struct fsck *f, const struct node *n)
{
	if (f->n_dirs == f->cap_dirs) {
		size_t cap = f->cap_dirs ? f->cap_dirs * 2 : 1024;
		struct fsck_dir *v = realloc(f->dirs, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		f->dirs = v;
		f->cap_dirs = cap;
	}
	/* Records come in order of id, so the table is sorted. */
	f->dirs[f->n_dirs++] =
		(struct fsck_dir){ .ino = n->attr.ino, .parent = n->parent, .hint = n->attr.children };
	return 0;
}

/* Every record in files, whole. fn < 0 ends the walk. */
static int each_record(struct fsck *f, bool trash, bool attr_only,
		       int (*fn)(struct fsck *f, const struct node *n))
{
	struct query q = { .limit = PAGE, .trash = trash, .attr_only = attr_only };
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_query(f->v->engine, f->op, &q, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			q.after = l.v[i].attr.ino;
			tick(f);
			r = atomic_load(&f->op->cancelled) ? -ECANCELED : fn(f, &l.v[i]);
		}
		node_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

static int gather_dir(struct fsck *f, const struct node *n)
{
	return attr_is_dir(&n->attr) ? fsck_add_dir(f, n) : 0;
}

/* Does the chain of parents go round? Each directory is walked once: what leads to the root, or to one whose parent is
 * missing (which is told of with that one), is marked. */
static bool is_in_circle(struct fsck *f, struct fsck_dir *d, unsigned int walk)
{
	for (; d && d->ino != MFS_ROOT_INO && !d->seen; d = fsck_find_dir(f, d->parent)) {
		if (d->walk == walk)
			return true;
		d->walk = walk;
	}
	return false;
}

static void mark_chain(struct fsck *f, struct fsck_dir *d)
{
	for (; d && !d->seen; d = fsck_find_dir(f, d->parent)) {
		d->seen = true;
		if (d->ino == MFS_ROOT_INO)
			break;
	}
}

static void check_circles(struct fsck *f)
{
	for (size_t i = 0; i < f->n_dirs; i++) {
		struct fsck_dir *d = &f->dirs[i];

		/* Online a move that was under way while the table was read looks the same. */
		if (is_in_circle(f, d, (unsigned int)i + 1) && !f->opt->online)
			fsck_problem(f, "directories in a circle", d->ino, "", fsck_adopt(f, d->ino),
				     "no way leads from the root to it; --repair moves it to /lost+found");
		mark_chain(f, d);
	}
}

static int count_children(struct fsck *f, mfs_ino_t dir, uint64_t *ret, uint64_t *ret_dirs)
{
	uint64_t after = 0, count = 0, dirs = 0;
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_list(f->v->engine, f->op, dir, after, PAGE, &l);
		n = l.n;
		count += n;
		for (size_t i = 0; i < n; i++)
			dirs += attr_is_dir(&l.v[i].attr);
		if (n)
			after = l.v[n - 1].pos;
		node_list_release(&l);
	} while (r == 0 && n == PAGE);
	*ret = count;
	*ret_dirs = dirs;
	return r;
}

/* The hint that rmdir's first look uses, and the number of subdirectories, which stat shows as nlink. */
static int check_child_counts(struct fsck *f)
{
	for (size_t i = 0; i < f->n_dirs; i++) {
		struct fsck_dir *d = &f->dirs[i];
		struct node n = NODE_INIT;
		struct change c = { 0 };
		uint64_t count, dirs;
		int r = count_children(f, d->ino, &count, &dirs);

		if (r == 0)
			r = engine_get(f->v->engine, f->op, d->ino, &n);
		if (r == -ESTALE)
			continue;
		if (r < 0)
			return r;
		if (!(f->v->engine->ops->caps & ENGINE_SINGLE_MOUNT)) /* is not counted: stat shows 1 */
			dirs = n.attr.nlink - 1;
		if ((n.attr.children != count || n.attr.nlink != 1 + dirs) && !f->opt->online) {
			change_touch(&c, d->ino, n.attr.mtime,
				     (int32_t)((int64_t)count - (int64_t)n.attr.children), 0)
				->subdir_delta = (int32_t)((int64_t)dirs + 1 - (int64_t)n.attr.nlink);
			fsck_problem(f, "child count", d->ino, n.name.bytes, fsck_repair(f, &c),
				     "says %u and %u directories, has %" PRIu64 " and %" PRIu64,
				     n.attr.children, n.attr.nlink - 1, count, dirs);
		}
		node_release(&n);
		tick(f);
	}
	return 0;
}

/* --- records --- */

/* Online, what looks wrong may be a change under way: it is looked at again a few times, from a fresh read. */
static int check_again(struct fsck *f, mfs_ino_t ino, bool damaged)
{
	struct timespec ts = mfs_ns_to_timespec(RECHECK_NS);
	struct node n = NODE_INIT;
	int r = 0;

	for (int i = 0; i < RECHECKS; i++) {
		nanosleep(&ts, NULL);
		r = engine_get(f->v->engine, f->op, ino, &n);
		if (r < 0)
			return r == -ESTALE ? 0 : r;
		r = fsck_record(f, &n, i + 1 < RECHECKS, damaged);
		node_release(&n);
		if (r <= 0)
			return r;
	}
	return 0; /* told */
}

/* The path, for people; a name alone where there is none. */
static const char *path_of(struct fsck *f, const struct node *n, struct mfs_buf *buf)
{
	mfs_buf_clear(buf);
	return namespace_path(f->v->ns, f->op, n->attr.ino, buf) == 0 ? mfs_buf_str(buf) : n->name.bytes;
}

static int visit_content(struct fsck *f, const struct node *n)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(1 << 20);
	struct file_content c = file_content_of_node(n);

	if (!attr_is_reg(&n->attr))
		return 0;
	return fsck_content(f, path_of(f, n, &path), &c, "the file");
}

static int visit(struct fsck *f, const struct node *n)
{
	uint64_t before = f->res->problems;
	bool damaged;
	int r = visit_content(f, n);

	if (r < 0)
		return r;
	damaged = f->res->problems != before;

	if (attr_is_dir(&n->attr))
		f->res->directories++;
	else if (attr_is_reg(&n->attr))
		f->res->files++;
	else
		f->res->others++;
	r = fsck_record(f, n, f->opt->online, damaged);
	if (r > 0 && f->opt->online)
		return check_again(f, n->attr.ino, damaged);
	return MFS_MIN(r, 0);
}

static int visit_trash(struct fsck *f, const struct node *n)
{
	struct file_content c = file_content_of_node(n);

	f->res->trash++;
	if (n->attr.nlink != 0)
		fsck_problem(f, "removed file with links", n->attr.ino, n->trash_path, false, "has %u links",
			     n->attr.nlink);
	if (n->trash_time == 0)
		fsck_problem(f, "removed file without a time", n->attr.ino, n->trash_path, false,
			     "it is purged with the next gc");
	return fsck_content(f, n->trash_path, &c, "a removed file");
}

static int check_versions(struct fsck *f)
{
	mfs_ino_t ino = 0;
	uint64_t data = 0;
	size_t n;
	int r;

	do {
		struct version_list l = { 0 };

		r = engine_versions_all(f->v->engine, f->op, ino, data, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			const struct version_record *v = &l.v[i];
			char whose[80] = "the version ";
			struct file_content c;

			ino = v->ino;
			data = v->data;
			f->res->versions++;
			tick(f);
			c = file_content_of_version(v);
			file_version_name(v, whose + strlen("the version "), sizeof(whose) - strlen("the version "));
			r = atomic_load(&f->op->cancelled) ? -ECANCELED : fsck_content(f, v->path, &c, whose);
		}
		version_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r;
}

/* --- the whole --- */

static void engine_report(void *arg, const char *text)
{
	fsck_problem(arg, "index storage", 0, "", false, "%s; restore the index from a copy", text);
}

static int check_volume(struct fsck *f)
{
	struct node root = NODE_INIT;
	int r = engine_get(f->v->engine, f->op, MFS_ROOT_INO, &root);

	if (r == -ESTALE) {
		fsck_problem(f, "no root", MFS_ROOT_INO, "", false, "the root directory's record is missing");
		return -EUCLEAN;
	}
	if (r == 0 && (!attr_is_dir(&root.attr) || root.parent))
		fsck_problem(f, "damaged root", MFS_ROOT_INO, "", false,
			     "it is no directory, or has a parent");
	node_release(&root);
	return r < 0 ? r : engine_jobs_count(f->v->engine, f->op, &f->res->jobs);
}

static int run_once(struct volume *v, struct op_ctx *op, const struct fsck_options *opt,
		    struct fsck_result *ret, bool *ret_changed)
{
	struct fsck f = { .v = v, .op = op, .opt = opt, .res = ret };
	int r = engine_check(v->engine, op, engine_report, &f);

	if (r == 0 && opt->repair)
		r = fsck_settle(&f);
	if (r == 0)
		r = check_volume(&f);
	if (r == 0)
		r = fsck_read_jobs(&f);
	if (r == 0)
		r = each_record(&f, false, true, gather_dir);
	if (r == 0)
		check_circles(&f);
	if (r == 0)
		r = each_record(&f, false, false, visit);
	if (r == 0)
		r = check_child_counts(&f);
	if (r == 0)
		r = each_record(&f, true, false, visit_trash);
	if (r == 0)
		r = check_versions(&f);
	if (r == 0)
		r = fsck_view(&f);
	if (r == 0 && f.changed)
		r = fsck_settle(&f);
	if (r == 0)
		r = fsck_count_objects(&f);
	*ret_changed = f.changed;
	fsck_release(&f);
	return r;
}

int fsck_run(struct volume *v, struct op_ctx *op, const struct fsck_options *opt, struct fsck_result *ret)
{
	struct fsck_result before = { 0 };
	struct fsck_options again = *opt;
	bool changed = false;
	int r = run_once(v, op, opt, &before, &changed);

	*ret = before;
	ret->left = before.problems;
	/* One repair can show, or mend, another fault: as often as something was done, then once more to see what is left. */
	for (int i = 0; r == 0 && changed && i < PASSES_MAX; i++) {
		struct fsck_result now = { 0 };

		again.repair = i + 1 < PASSES_MAX;
		r = run_once(v, op, &again, &now, &changed);
		now.repaired += ret->repaired;
		now.left = now.problems;
		now.problems += ret->problems;
		*ret = now;
	}
	return r;
}
