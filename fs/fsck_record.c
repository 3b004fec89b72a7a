/*
 * One record of the index: its place, name, links, the fields of its type, and whether somebody cares for it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/fsck_internal.h"
#include "fs/reconcile.h"

#define LOST_FOUND "lost+found"

/* One look at a record: problems are told, or with quiet only counted. */
struct look {
	struct fsck *f;
	const struct node *n;
	bool quiet;
	unsigned int found;
};

#define TELL(l, what, repaired, ...)                                                                   \
	do {                                                                                           \
		(l)->found++;                                                                          \
		if (!(l)->quiet)                                                                       \
			fsck_problem((l)->f, (what), (l)->n->attr.ino, (l)->n->name.bytes, (repaired), \
				     __VA_ARGS__);                                                     \
	} while (0)

static int lost_found(struct fsck *f)
{
	struct make m = { .parent = MFS_ROOT_INO,
			  .name = LOST_FOUND,
			  .name_len = strlen(LOST_FOUND),
			  .mode = S_IFDIR | 0700 };
	struct node n = NODE_INIT;
	struct entry e;
	int r;

	if (f->lost_found)
		return 0;
	r = namespace_lookup(f->v->ns, f->op, MFS_ROOT_INO, LOST_FOUND, strlen(LOST_FOUND), &e);
	if (r == 0) {
		if (attr_is_dir(&e.node.attr))
			f->lost_found = e.node.attr.ino;
		entry_release(&e);
		return f->lost_found ? 0 : -ENOTDIR;
	}
	if (r == -ENOENT)
		r = namespace_make(f->v->ns, f->op, &m, &n);
	if (r == 0) {
		f->lost_found = n.attr.ino;
		r = fsck_add_dir(f, &n); /* its number is the highest: the table stays sorted */
		node_release(&n);
	}
	return r;
}

bool fsck_adopt(struct fsck *f, mfs_ino_t ino)
{
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct job_record job = { .ino = ino, .due = mfs_now_ns() };
	struct node n = NODE_INIT;
	char name[32];
	int r;

	if (!f->opt->repair || lost_found(f) < 0 || engine_get(f->v->engine, f->op, ino, &n) < 0)
		return false;
	snprintf(name, sizeof(name), "#%" PRIu64, ino);
	r = mfs_name_set(&set.name, name, strlen(name));
	if (r == 0) {
		set.parent = f->lost_found;
		set.pos = ino;
		job.kind = attr_is_dir(&n.attr) ? JOB_DIR : JOB_FILE;
		change_write(&c, WRITE_RENAME, ino)->node = &set;
		change_touch(&c, f->lost_found, mfs_now_ns(), 1, 0)->subdir_delta = attr_is_dir(&n.attr);
		if (attr_is_dir(&n.attr) || attr_is_reg(&n.attr))
			change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	}
	node_release(&n);
	if (r < 0 || !fsck_repair(f, &c))
		return false;
	namespace_forget_dir(f->v->ns, ino);
	return true;
}

/* Did it stay where it is? */
static bool check_place(struct look *l)
{
	const struct node *n = l->n;
	struct fsck_dir *parent = fsck_find_dir(l->f, n->parent);
	struct mfs_name name;
	bool moved = false;

	if (n->attr.ino == MFS_ROOT_INO)
		return true;
	if (n->parent == 0) {
		moved = !l->quiet && fsck_adopt(l->f, n->attr.ino);
		TELL(l, "record without a name", moved, "--repair moves it to /lost+found");
		return !moved;
	}
	/* Online a parent may be newer than our table. */
	if (!parent && (l->quiet || l->f->opt->online)) {
		struct node p = NODE_INIT;
		int r = engine_get(l->f->v->engine, l->f->op, n->parent, &p);
		bool ok = r == 0 && attr_is_dir(&p.attr) && !(p.attr.flags & ATTR_IN_TRASH);

		if (r == 0)
			node_release(&p);
		if (ok)
			return true;
	}
	if (!parent) {
		moved = !l->quiet && fsck_adopt(l->f, n->attr.ino);
		TELL(l, "record without a parent", moved,
		     "directory %" PRIu64 " is not there; --repair moves it to /lost+found", n->parent);
	}
	if (mfs_name_set(&name, n->name.bytes, n->name.len) < 0 ||
	    (n->parent == MFS_ROOT_INO && strcmp(n->name.bytes, ".massfs") == 0))
		TELL(l, "illegal name", false, "rename it");
	return !moved;
}

/* The name leads to this record and no other. */
static int check_lookup(struct look *l)
{
	const struct node *n = l->n;
	struct entry e;
	int r;

	if (n->parent == 0)
		return 0;
	r = engine_lookup(l->f->v->engine, l->f->op, n->parent, &n->name, &e);
	if (r == -ENOENT) {
		TELL(l, "name does not lead to its record", false,
		     "the index's own order is damaged; see massfs fsck's first lines");
		return 0;
	}
	if (r < 0)
		return r;
	if (e.node.attr.ino != n->attr.ino)
		TELL(l, "name leads to another record", false, "to inode %" PRIu64, e.node.attr.ino);
	entry_release(&e);
	return 0;
}

static int check_links(struct look *l)
{
	const struct node *n = l->n;
	struct alias a[8];
	int count = engine_aliases(l->f->v->engine, l->f->op, n->attr.ino, a, MFS_ARRAY_LEN(a));
	struct change c = { 0 };
	struct write *w;

	if (count < 0)
		return count;
	l->f->res->aliases += l->quiet ? 0 : (unsigned int)count;
	if (attr_is_dir(&n->attr)) {
		if (count)
			TELL(l, "directory with several names", false, "%d", count + 1);
		return 0;
	}
	if ((uint64_t)n->attr.nlink != (uint64_t)count + 1) {
		w = change_write(&c, WRITE_EDIT, n->attr.ino);
		w->nlink_delta = (int32_t)((int64_t)count + 1 - (int64_t)n->attr.nlink);
		TELL(l, "link count", !l->quiet && fsck_repair(l->f, &c), "says %u, has %d", n->attr.nlink,
		     count + 1);
	}
	for (int i = 0; i < MFS_MIN(count, (int)MFS_ARRAY_LEN(a)); i++)
		if (!fsck_find_dir(l->f, a[i].parent) && !l->f->opt->online)
			TELL(l, "hard link without a parent", false,
			     "its name %s is in directory %" PRIu64 ", which is not there", a[i].name.bytes,
			     a[i].parent);
	return 0;
}

static void check_fields(struct look *l)
{
	const struct node *n = l->n;
	const struct mfs_attr *a = &n->attr;
	bool is_dev = S_ISCHR(a->mode) || S_ISBLK(a->mode);

	switch (a->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		break;
	default:
		TELL(l, "unknown file type", false, "mode %o", a->mode);
	}
	if (S_ISLNK(a->mode) != !!n->symlink)
		TELL(l, "symlink and target do not go together", false, "remove it");
	if (!S_ISREG(a->mode) && !object_ref_is_empty(&n->ref))
		TELL(l, "object of what is no file", false, "key %s", n->ref.key);
	if (a->rdev && !is_dev)
		TELL(l, "device number of what is no device", false, "%" PRIu64, a->rdev);
	if (!S_ISREG(a->mode))
		return;
	if (a->size > (uint64_t)MFS_FILE_SIZE_MAX)
		TELL(l, "file too large", false, "%" PRIu64 " bytes", a->size);
	if (n->todo < 0)
		TELL(l, "work at no time", false, "todo %" PRId64, n->todo);
}

/* Nobody but the reconciler makes an object of what is in the index or in patches, and it goes by `todo`. */
static void check_todo(struct look *l)
{
	const struct node *n = l->n;
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *w;

	if (n->todo || !attr_is_reg(&n->attr) || (!n->inline_data.size && !n->slices.size) ||
	    fsck_has_job(l->f, n->ref.key ? n->ref.key : "", n->attr.ino))
		return;
	if (n->slices.size) {
		enum file_state state;

		/* Sparse files stay as they are. */
		if (reconcile_state(l->f->v, l->f->op, n, &state) < 0 || state != FILE_PATCHED)
			return;
	}
	set.todo = mfs_now_ns();
	w = change_write(&c, WRITE_EDIT, n->attr.ino);
	w->mask = EDIT_TODO;
	w->node = &set;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = n->attr.ver;
	TELL(l, "file that waits for nobody", !l->quiet && fsck_repair(l->f, &c),
	     "its content is no whole object, and nothing is queued; --repair queues it");
}

/* Nobody but a job makes a file go to its place. */
static int check_settled(struct look *l)
{
	struct job_record job = { .kind = JOB_FILE, .ino = l->n->attr.ino, .due = mfs_now_ns() };
	struct change c = { 0 };
	enum file_state state;
	int r;

	if (!attr_is_reg(&l->n->attr) || object_ref_is_empty(&l->n->ref) || l->f->too_many_jobs || l->n->todo)
		return 0;
	r = reconcile_state(l->f->v, l->f->op, l->n, &state);
	if (r == -EIO || r == -EUCLEAN)
		return 0; /* fsck_content() has told it */
	if (r < 0 || state != FILE_PENDING || fsck_has_job(l->f, l->n->ref.key, l->n->attr.ino))
		return r;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	TELL(l, "file not at its key", !l->quiet && fsck_repair(l->f, &c),
	     "its object is at key %s or that shows something else, and nothing is queued; --repair queues it",
	     l->n->ref.key);
	return 0;
}

int fsck_record(struct fsck *f, const struct node *n, bool quiet, bool damaged)
{
	struct look l = { .f = f, .n = n, .quiet = quiet };
	uint64_t before = f->res->problems;
	int r;

	if (!check_place(&l))
		return 1; /* all else is looked at where it is now */
	check_fields(&l);
	r = check_lookup(&l);
	if (r == 0)
		r = check_links(&l);
	if (r == 0)
		check_todo(&l);
	/* One look at what is worse is enough. */
	if (r == 0 && !damaged && f->res->problems == before)
		r = check_settled(&l);
	if (r < 0)
		return r;
	return l.found > 0;
}
