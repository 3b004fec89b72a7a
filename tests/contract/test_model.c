/*
 * Random sequences of operations on a namespace and on the model of it: each must give the same answer, and lead to
 * the same tree. A sequence that does not is cut down (operations are left out as long as it still fails) and printed.
 *
 * MASSFS_MODEL_SEED: one seed to run (default: by the clock; always printed); MASSFS_MODEL_OPS: operations a run
 * (3,000); MASSFS_MODEL_RUNS: seeds one after the other (3).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "meta/drops.h"
#include "meta/layout.h"
#include "tests/lib/namespace_model.h"
#include "tests/lib/namespace_world.h"

enum op_kind {
	OP_CREATE,
	OP_MKDIR,
	OP_SYMLINK,
	OP_FIFO,
	OP_LINK,
	OP_UNLINK,
	OP_RMDIR,
	OP_RENAME,
	OP_NOREPLACE,
	OP_EXCHANGE,
	OP_CHMOD,
	OP_CHOWN,
	OP_UTIMENS,
	OP_SETXATTR,
	OP_REMOVEXATTR,
	OP_COMMIT,
	OP_INLINE,
	OP_PATCH,
	OP_SETTLE,
	OP_TRUNCATE,
	OP_UNDELETE,
	OP_TRASH_COMMIT,
	OP_EXPIRE,
	OP_PURGE,
	OP_COLLECT,
	OP_KINDS
};
static const char *const op_names[] = { "create", "mkdir",  "symlink",	"fifo",	     "link",
					"unlink", "rmdir",  "rename",	"noreplace", "exchange",
					"chmod",  "chown",  "utimens",	"setxattr",  "removexattr",
					"commit", "inline", "patch",	"settle",    "truncate",
					"undelete", "trash commit", "expire", "purge", "collect" };

/* Names are by value, so that a sequence means something with any of its operations left out. */
struct op {
	enum op_kind kind;
	char dir[24], to_dir[24]; /* paths */
	char name[4], to[4];
	uint32_t arg, arg2;
};

/* Objects, patch objects and documents, each by the number of its commit. */
enum thing { OBJECT, PATCH, DOCUMENT, THINGS };
#define NUMBERS 16384
struct things {
	bool is[THINGS][NUMBERS];
};

struct run {
	struct ns_world *w;
	struct model m;
	char why[512];
	unsigned int done, succeeded; /* operations that had something to work on; of them */
	struct things stored, deleted;
	unsigned int collected, kept;
};

#define FAIL(r, ...) (snprintf((r)->why, sizeof((r)->why), __VA_ARGS__), -1)

/* The sequence. */

/* Directories are mostly called a and b, and other files c to v, or little would ever meet. */
static void random_path(unsigned int *seed, char *buf, size_t size)
{
	static const char *const dirs[] = { "",	 "",	"",    "a",   "a",     "b",
					    "b", "a/a", "a/b", "b/a", "a/b/a", "a/a/b/c" };

	snprintf(buf, size, "%s", dirs[(unsigned int)rand_r(seed) % MFS_ARRAY_LEN(dirs)]);
}

static void random_name(unsigned int *seed, bool of_dir, char *buf, size_t size)
{
	bool other = rand_r(seed) % 12 == 0;

	snprintf(buf, size, "%c", of_dir != other ? 'a' + rand_r(seed) % 3 : 'c' + rand_r(seed) % 20);
}

static struct op random_op(unsigned int *seed)
{
	static const enum op_kind often[] = { OP_CREATE, OP_CREATE, OP_CREATE, OP_CREATE,  OP_MKDIR,
					      OP_MKDIR,	 OP_MKDIR,  OP_MKDIR,  OP_CREATE,  OP_CREATE,
					      OP_COMMIT, OP_COMMIT, OP_LINK,   OP_LINK,	   OP_LINK,
					      OP_COMMIT, OP_INLINE, OP_PATCH,  OP_PATCH,   OP_RENAME,
					      OP_PATCH,	 OP_PATCH,  OP_INLINE, OP_SETTLE,  OP_TRUNCATE,
					      OP_RENAME, OP_RENAME, OP_UNLINK, OP_TRUNCATE };
	unsigned int pick = (unsigned int)rand_r(seed) % (OP_KINDS + MFS_ARRAY_LEN(often));
	struct op o = { .kind = pick < OP_KINDS ? (enum op_kind)pick : often[pick - OP_KINDS] };
	bool renames = o.kind == OP_RENAME || o.kind == OP_NOREPLACE || o.kind == OP_EXCHANGE;
	bool of_dir = o.kind == OP_MKDIR || o.kind == OP_RMDIR || (renames && rand_r(seed) % 4 == 0);

	random_path(seed, o.dir, sizeof(o.dir));
	random_path(seed, o.to_dir, sizeof(o.to_dir));
	random_name(seed, of_dir, o.name, sizeof(o.name));
	random_name(seed, of_dir, o.to, sizeof(o.to));
	o.arg = (uint32_t)rand_r(seed);
	o.arg2 = (uint32_t)rand_r(seed);
	return o;
}

static void print_ops(const struct op *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "  %3zu %-12s \"%s\" %s  \"%s\" %s  %u %u\n", i, op_names[v[i].kind],
			v[i].dir, v[i].name, v[i].to_dir, v[i].to, v[i].arg, v[i].arg2);
}

/* Doing one operation on both. */

static uint64_t real(const struct run *r, int inode)
{
	return r->m.v[inode].real;
}

static int compare(struct run *r, int got, int want)
{
	r->done++;
	r->succeeded += got == 0;
	return got == want ? 0 : FAIL(r, "gives %d, the model %d", got, want);
}

static int do_mk(struct run *r, const struct op *o, int dir, uint32_t type)
{
	uint32_t mode = type | (S_ISDIR(type) ? o->arg & 03777 : o->arg & 07777);
	mfs_ino_t ino = 0;
	int inode = -1, want = model_make(&r->m, dir, o->name, mode, &inode);
	int got = do_make(r->w, 0, real(r, dir), o->name, mode, &ino);

	if (want == 0)
		r->m.v[inode].real = ino;
	return compare(r, got, want);
}

static int do_setattr(struct run *r, const struct op *o, int inode)
{
	struct set_attr sa = { 0 };
	struct mfs_attr a;
	int want;

	if (o->kind == OP_CHMOD) {
		sa.mask = EDIT_MODE;
		sa.mode = o->arg & 07777;
		want = model_chmod(&r->m, inode, sa.mode);
	} else if (o->kind == OP_CHOWN) {
		sa.mask = EDIT_UID | EDIT_GID;
		sa.uid = o->arg % 3;
		sa.gid = o->arg2 % 3;
		want = model_chown(&r->m, inode, sa.uid, sa.gid);
	} else {
		sa.mask = EDIT_MTIME;
		sa.mtime = (int64_t)o->arg - INT32_MAX / 2;
		want = model_utimens(&r->m, inode, sa.mtime);
	}
	return compare(r, namespace_setattr(r->w->ns[0], &r->w->op, real(r, inode), &sa, &a), want);
}

static int do_xattr(struct run *r, const struct op *o, int inode)
{
	int which = (int)(o->arg % MODEL_XATTRS), value = (int)(o->arg2 % 100) + 1, got;
	unsigned int flags = o->arg / 8 % 4;
	const char *name = fmt("user.x%d", which), *text = fmt("%d", value);
	struct mfs_attr a;

	if (o->kind == OP_REMOVEXATTR) {
		got = namespace_removexattr(r->w->ns[0], &r->w->op, real(r, inode), name, &a);
		return compare(r, got, model_removexattr(&r->m, inode, which));
	}
	got = namespace_setxattr(r->w->ns[0], &r->w->op, real(r, inode), name, text, strlen(text),
				 flags == 1   ? XATTR_CREATE
				 : flags == 2 ? XATTR_REPLACE
					      : 0,
				 false, &a);
	return compare(r, got, model_setxattr(&r->m, inode, which, value, flags == 1, flags == 2));
}

static void version_of(enum thing kind, unsigned int number, char buf[OBJECT_VERSION_MAX + 1])
{
	snprintf(buf, OBJECT_VERSION_MAX + 1, "%s%u", kind == PATCH ? "p" : "", number);
}

static void fill_inline(unsigned int number, uint64_t len, struct node_blob *b)
{
	b->size = len;
	b->data = malloc(len + 1);
	assert_non_null(b->data);
	memset(b->data, 'a' + (int)(number % 26), len);
}

static int do_inline(struct run *r, const struct op *o, int inode)
{
	const struct model_inode *n = &r->m.v[inode];
	unsigned int number = r->m.commits + 1;
	struct commit c = { .ino = n->real, .lay = n->lay, .keep_version = o->arg2 % 3, .todo = 1 + o->arg2 };
	struct node_blob b;
	struct mfs_attr a;
	int got;

	c.size = o->arg % 100;
	c.mtime = 1000 + (int64_t)number;
	fill_inline(number, c.size, &b);
	c.inline_data = &b;
	got = namespace_commit(r->w->ns[0], &r->w->op, &c, &a);
	free(b.data);
	return compare(r, got, model_inline(&r->m, inode, c.size, c.keep_version));
}

/* The record's layout with one more patch, as a mount would make it. */
static struct node_blob patched(const struct run *r, const struct model_inode *m, const struct node *n, uint64_t off,
				uint64_t len, bool with_doc)
{
	unsigned int number = r->m.commits + 1;
	struct segment s = { .pos = number * UINT64_C(1000), .len = len, .session = 100, .op = number };
	struct node_blob b = { 0 };
	struct layout l;

	layout_init(&l);
	if (m->names.n_segs < MODEL_SEGS)
		assert_int_equal(layout_parse(&n->slices, &l), 0);
	version_of(PATCH, number, s.version);
	assert_int_equal(layout_add_segment(&l, &s, NULL, NULL), 0);
	assert_int_equal(layout_set(&l, off, len, s.pos), 0);
	if (with_doc) {
		free(l.docs);
		l.docs = calloc(1, sizeof(*l.docs));
		assert_non_null(l.docs);
		*l.docs = (struct layout_doc){ .start = off, .end = off + len, .id = number, .n = 1 };
		l.n_docs = l.cap_docs = 1;
	}
	assert_int_equal(layout_encode(&l, &b), 0);
	layout_release(&l);
	return b;
}

static int do_patch(struct run *r, const struct op *o, int inode)
{
	const struct model_inode *m = &r->m.v[inode];
	unsigned int number = r->m.commits + 1;
	struct commit c = { .ino = m->real, .lay = m->lay, .keep_version = o->arg2 % 3, .todo = 1 + o->arg2 };
	uint64_t off = o->arg % 90, len = 1 + o->arg2 % 20;
	bool with_doc = o->arg % 7 == 0;
	char content[] = "document";
	struct slices_doc_record doc = { .ino = m->real, .id = number, .session = 100, .blob = { content, sizeof(content) } };
	struct node n = NODE_INIT;
	struct node_blob b;
	struct mfs_attr a;
	int got;

	assert_int_equal(namespace_get(r->w->ns[0], &r->w->op, m->real, &n), 0);
	b = patched(r, m, &n, off, len, with_doc);
	c.ref = n.ref;
	c.obj_len = n.attr.obj_len;
	c.size = MFS_MAX(n.attr.size, off + len);
	c.mtime = 1000 + (int64_t)number;
	c.slices = &b;
	c.docs = &doc;
	c.n_docs = with_doc;
	got = namespace_commit(r->w->ns[0], &r->w->op, &c, &a);
	node_release(&n);
	free(b.data);
	if (got == 0) {
		r->stored.is[PATCH][number] = true;
		r->stored.is[DOCUMENT][number] = with_doc;
	}
	return compare(r, got, model_patch(&r->m, inode, off, len, with_doc, c.keep_version));
}

static int do_content(struct run *r, const struct op *o, int inode)
{
	const struct model_inode *n = &r->m.v[inode];
	bool keep = o->arg2 % 3, settle = o->kind == OP_SETTLE;
	struct commit c = { .ino = n->real, .keep_version = keep, .settle = settle };
	struct mfs_attr a;
	char key[] = "key";
	int got;

	if (o->kind == OP_TRUNCATE) {
		got = namespace_truncate(r->w->ns[0], &r->w->op, n->real, n->lay ? n->lay : 1, o->arg % 100,
					 keep, false, &a);
		return compare(r, got, model_truncate(&r->m, inode, o->arg % 100, keep));
	}
	c.lay = n->lay;
	c.size = c.obj_len = settle ? n->size : o->arg % 100;
	c.mtime = settle ? 0 : 1000 + (int64_t)r->m.commits + 1;
	c.ref.key = key;
	snprintf(c.ref.version, sizeof(c.ref.version), "%u", r->m.commits + 1);
	got = namespace_commit(r->w->ns[0], &r->w->op, &c, &a);
	r->stored.is[OBJECT][r->m.commits + 1] = got == 0;
	return compare(r, got, model_commit(&r->m, inode, c.size, keep, settle));
}

/* What the collector does (fs/gc.c), by the same rules. */

static int let_go(struct run *r, struct change *c, mfs_ino_t ino, const struct object_ref *ref,
		  const struct node_blob *slices)
{
	const struct content_names names = { .ref = ref, .slices = slices };
	struct dropped_list l = { 0 };
	int got = drops_add(&l, ino, 1, &names, NULL);

	if (got == 0) {
		drops_write(c, &l);
		got = engine_apply(r->w->e[0], &r->w->op, c);
	}
	dropped_list_release(&l);
	return got;
}

static int do_expire(struct run *r, const struct op *o)
{
	struct version_list l = { 0 };
	struct change c = { 0 };
	unsigned int at;
	int got = 0;

	if (r->m.n_versions == 0)
		return 0;
	at = o->arg % r->m.n_versions;
	assert_int_equal(engine_versions_by_ino(r->w->e[0], &r->w->op, real(r, r->m.versions[at].inode), &l), 0);
	for (size_t i = 0; i < l.n; i++)
		if (l.v[i].data == r->m.versions[at].data) {
			change_write(&c, WRITE_VERSION_DELETE, 0)->version = &l.v[i];
			got = let_go(r, &c, l.v[i].ino, &l.v[i].ref, &l.v[i].slices);
			break;
		}
	version_list_release(&l);
	model_expire(&r->m, at);
	return compare(r, got, 0);
}

/* Is the state, or any version of the file, one that names it? */
static bool is_named(struct run *r, const struct dropped_record *d)
{
	struct version_list l = { 0 };
	struct node n = NODE_INIT;
	bool named = false;

	if (engine_get(r->w->e[0], &r->w->op, d->ino, &n) == 0) {
		named = drops_is_named(d, &(struct content_names){ .ref = &n.ref, .slices = &n.slices }) == 1;
		node_release(&n);
	}
	assert_int_equal(engine_versions_by_ino(r->w->e[0], &r->w->op, d->ino, &l), 0);
	for (size_t i = 0; i < l.n; i++)
		named |= drops_is_named(d, &(struct content_names){ .ref = &l.v[i].ref, .slices = &l.v[i].slices }) == 1;
	version_list_release(&l);
	return named;
}

static unsigned int number_of(const struct dropped_record *d, enum thing *ret_kind)
{
	*ret_kind = d->doc_id ? DOCUMENT : d->ref.version[0] == 'p' ? PATCH : OBJECT;
	return d->doc_id ? (unsigned int)d->doc_id : (unsigned int)atoi(d->ref.version + (*ret_kind == PATCH));
}

static int do_collect(struct run *r)
{
	struct dropped_list l = { 0 };
	int got = engine_dropped(r->w->e[0], &r->w->op, INT64_MAX, 0, 10000, &l);

	for (size_t i = 0; got == 0 && i < l.n; i++) {
		struct slices_doc_record doc = { .ino = l.v[i].ino, .id = l.v[i].doc_id };
		struct change c = { 0 };
		enum thing kind;
		unsigned int number = number_of(&l.v[i], &kind);
		bool named = is_named(r, &l.v[i]);

		change_write(&c, WRITE_DROPPED_DELETE, 0)->dropped = &l.v[i];
		if (!named && kind == DOCUMENT)
			change_write(&c, WRITE_SLICES_DELETE, 0)->slices = &doc;
		if (!named)
			r->deleted.is[kind][number] = true;
		r->collected += !named;
		r->kept += named;
		got = engine_apply(r->w->e[0], &r->w->op, &c);
	}
	dropped_list_release(&l);
	return compare(r, got, 0);
}

/* The nth of what is in trash; -1: nothing is. */
static int trashed(const struct model *m, unsigned int nth)
{
	unsigned int n = 0;

	for (int i = 0; i < MODEL_INODES; i++)
		n += m->v[i].used && m->v[i].trash;
	nth = n ? nth % n : 0;
	for (int i = 0; n && i < MODEL_INODES; i++)
		if (m->v[i].used && m->v[i].trash && nth-- == 0)
			return i;
	return -1;
}

static bool room_for_links(const struct model *m, int inode)
{
	return m->v[inode].n_links < MODEL_LINKS;
}

static int do_rename_op(struct run *r, const struct op *o, int dir, int to_dir)
{
	unsigned int flags = o->kind == OP_NOREPLACE  ? RENAME_NOREPLACE
			     : o->kind == OP_EXCHANGE ? RENAME_EXCHANGE
						      : 0;
	int got = do_rename(r->w, 0, real(r, dir), o->name, real(r, to_dir), o->to, flags);

	return compare(r, got,
		       model_rename(&r->m, dir, o->name, to_dir, o->to, flags == RENAME_NOREPLACE,
				    flags == RENAME_EXCHANGE));
}

static int do_purge(struct run *r, int inode)
{
	struct node n = NODE_INIT;
	struct change c = { 0 };
	int got;

	for (unsigned int i = 0; i < r->m.n_versions; i++)
		if (r->m.versions[i].inode == inode)
			return 0; /* the model's versions point at it */
	assert_int_equal(engine_get(r->w->e[0], &r->w->op, real(r, inode), &n), 0);
	change_write(&c, WRITE_PURGE, n.attr.ino);
	got = let_go(r, &c, n.attr.ino, &n.ref, &n.slices);
	node_release(&n);
	model_purge(&r->m, inode);
	return compare(r, got, 0);
}

static int do_in_trash(struct run *r, const struct op *o, int dir)
{
	int inode = trashed(&r->m, o->arg);
	struct mfs_attr a;
	int got;

	if (inode < 0)
		return 0;
	if (o->kind == OP_TRASH_COMMIT)
		return o->arg2 % 4 == 0 ? do_inline(r, o, inode) :
		       o->arg2 % 4 == 1 ? do_patch(r, o, inode) :
					  do_content(r, o, inode);
	if (o->kind == OP_PURGE)
		return do_purge(r, inode);
	got = namespace_undelete(r->w->ns[0], &r->w->op, real(r, inode), real(r, dir), o->name,
				 strlen(o->name), &a);
	return compare(r, got, model_undelete(&r->m, inode, dir, o->name));
}

static int do_on_inode(struct run *r, const struct op *o, int inode)
{
	if (inode < 0)
		return 0;
	switch (o->kind) {
	case OP_CHMOD:
	case OP_CHOWN:
	case OP_UTIMENS:
		return do_setattr(r, o, inode);
	case OP_SETXATTR:
	case OP_REMOVEXATTR:
		return do_xattr(r, o, inode);
	case OP_INLINE:
		return do_inline(r, o, inode);
	case OP_PATCH:
		return do_patch(r, o, inode);
	default:
		return do_content(r, o, inode);
	}
}

static bool two_places(enum op_kind kind)
{
	return kind == OP_LINK || kind == OP_RENAME || kind == OP_NOREPLACE || kind == OP_EXCHANGE;
}

/* Mostly something that is there is worked on: the nth child of the directory. */
static void pick_child(const struct model *m, int dir, uint32_t nth, char *name, size_t size)
{
	const struct model_link *found[64];
	size_t n = 0;

	for (int i = 0; i < MODEL_INODES; i++)
		for (unsigned int k = 0; m->v[i].used && k < m->v[i].n_links && n < MFS_ARRAY_LEN(found); k++)
			if (m->v[i].links[k].dir == dir)
				found[n++] = &m->v[i].links[k];
	if (n)
		snprintf(name, size, "%.3s", found[nth % n]->name);
}

/* An operation whose directories are not there (any more) is left out on both sides. */
static int do_op(struct run *r, const struct op *as_drawn)
{
	struct op copy = *as_drawn, *o = &copy;
	int dir = model_resolve(&r->m, o->dir), to_dir = model_resolve(&r->m, o->to_dir), inode;

	if (dir >= 0 && o->kind > OP_FIFO && o->kind < OP_UNDELETE && o->arg % 8)
		pick_child(&r->m, dir, o->arg / 8, o->name, sizeof(o->name));
	if (dir < 0 || !S_ISDIR(r->m.v[dir].mode))
		return 0;
	if (two_places(o->kind) && (to_dir < 0 || !S_ISDIR(r->m.v[to_dir].mode)))
		return 0;
	switch (o->kind) {
	case OP_CREATE:
		return do_mk(r, o, dir, S_IFREG);
	case OP_MKDIR:
		return do_mk(r, o, dir, S_IFDIR);
	case OP_SYMLINK:
		return do_mk(r, o, dir, S_IFLNK);
	case OP_FIFO:
		return do_mk(r, o, dir, S_IFIFO);
	case OP_LINK:
		inode = model_find(&r->m, dir, o->name);
		if (inode < 0 || !room_for_links(&r->m, inode))
			return 0;
		return compare(r, do_link(r->w, 0, real(r, inode), real(r, to_dir), o->to),
			       model_link(&r->m, inode, to_dir, o->to));
	case OP_UNLINK:
		return compare(r, do_unlink(r->w, 0, real(r, dir), o->name),
			       model_unlink(&r->m, dir, o->name));
	case OP_RMDIR:
		return compare(r, do_rmdir(r->w, 0, real(r, dir), o->name), model_rmdir(&r->m, dir, o->name));
	case OP_RENAME:
	case OP_NOREPLACE:
	case OP_EXCHANGE:
		return do_rename_op(r, o, dir, to_dir);
	case OP_UNDELETE:
	case OP_TRASH_COMMIT:
	case OP_PURGE:
		return do_in_trash(r, o, dir);
	case OP_EXPIRE:
		return do_expire(r, o);
	case OP_COLLECT:
		return do_collect(r);
	default:
		return do_on_inode(r, o, model_find(&r->m, dir, o->name));
	}
}

/* Comparing all there is. */

/* A file: its names. A directory: one and its subdirectories. */
static unsigned int links_of(const struct run *r, int inode)
{
	const struct model *m = &r->m;
	unsigned int n = 0;

	if (!S_ISDIR(m->v[inode].mode))
		return m->v[inode].n_links;
	for (int i = 0; i < MODEL_INODES; i++)
		n += m->v[i].used && S_ISDIR(m->v[i].mode) && m->v[i].n_links &&
		     m->v[i].links[0].dir == inode;
	return dir_nlink(r->w, n);
}

static int compare_inline(const struct model_inode *m, const struct node_blob *b)
{
	const char *p = b->data;

	if (b->size != m->inl_len)
		return -1;
	for (size_t i = 0; i < b->size; i++)
		if (p[i] != 'a' + (char)(m->inl % 26))
			return -1;
	return 0;
}

static int compare_names(const struct model_names *m, const struct layout *l)
{
	if (l->n_segments != m->n_segs || l->n_docs != (m->doc != 0) || (m->doc && l->docs[0].id != m->doc))
		return -1;
	for (size_t i = 0; i < l->n_segments; i++)
		if (l->segments[i].op != m->seg[i])
			return -1;
	return 0;
}

/* Which patch has which byte, and what is named. */
static int compare_layout(const struct model_inode *m, const struct node_blob *slices)
{
	uint64_t covered = 0, want = 0;
	struct layout l;
	int bad = layout_parse(slices, &l);

	if (bad == 0)
		bad = compare_names(&m->names, &l);
	if (bad == 0 && l.n_docs && (l.docs[0].start != m->doc_start || l.docs[0].end != m->doc_end))
		bad = -1;
	for (size_t i = 0; bad == 0 && i < l.n_recent; i++)
		for (uint64_t k = 0; k < l.recent[i].len; k++, covered++)
			if (m->patch[l.recent[i].off + k] != (l.recent[i].pos + k) / 1000)
				bad = -1;
	for (int i = 0; i < MODEL_BYTES; i++)
		want += m->patch[i] != 0;
	layout_release(&l);
	return bad || covered != want ? -1 : 0;
}

static int compare_inode(struct run *r, int i)
{
	const struct model_inode *m = &r->m.v[i];
	char path[MODEL_PATH], ref[16];
	struct node n = NODE_INIT;
	const struct mfs_attr *a = &n.attr;
	char *real_path = NULL;
	int bad = 0;

	if (namespace_get(r->w->ns[0], &r->w->op, m->real, &n) < 0)
		return FAIL(r, "inode %d (%" PRIu64 ") is not there", i, m->real);
	model_path(&r->m, i, path);
	snprintf(ref, sizeof(ref), "%u", m->names.ref);
	if (a->mode != m->mode || a->uid != m->uid || a->gid != m->gid)
		bad = FAIL(r, "inode %d has mode %o %u:%u, the model %o %u:%u", i, a->mode, a->uid, a->gid,
			   m->mode, m->uid, m->gid);
	else if (a->nlink != links_of(r, i))
		bad = FAIL(r, "inode %d has nlink %u, the model %u", i, a->nlink, links_of(r, i));
	else if (a->size != m->size || a->obj_len != m->obj_len)
		bad = FAIL(r, "inode %d has size %" PRIu64 "/%" PRIu64 ", the model %" PRIu64 "/%" PRIu64, i,
			   a->size, a->obj_len, m->size, m->obj_len);
	else if (S_ISREG(m->mode) && (a->data != m->data || a->lay != m->lay))
		bad = FAIL(r, "inode %d has data %" PRIu64 " lay %" PRIu64, i, a->data, a->lay);
	else if (m->names.ref ? strcmp(n.ref.version, ref) != 0 : !object_ref_is_empty(&n.ref))
		bad = FAIL(r, "inode %d has object %s, the model %s", i, n.ref.version, ref);
	else if (m->todo != (n.todo != 0))
		bad = FAIL(r, "inode %d has todo %" PRId64 ", the model %d", i, n.todo, m->todo);
	else if (compare_inline(m, &n.inline_data) < 0)
		bad = FAIL(r, "inode %d has other inline bytes (%zu) than in the model (%" PRIu64 ")", i,
			   n.inline_data.size, m->inl_len);
	else if (compare_layout(m, &n.slices) < 0)
		bad = FAIL(r, "inode %d has other slices than in the model", i);
	else if (m->mtime != -1 && a->mtime != m->mtime)
		bad = FAIL(r, "inode %d has mtime %" PRId64 ", the model %" PRId64, i, a->mtime, m->mtime);
	else if (m->trash != !!(a->flags & ATTR_IN_TRASH) ||
		 (m->trash && strcmp(n.trash_path, m->trash_path) != 0))
		bad = FAIL(r, "inode %d: trash path %s, the model %s", i, n.trash_path, m->trash_path);
	for (int k = 0; !bad && k < MODEL_XATTRS; k++) {
		const struct node_xattr *x = node_xattr_find(&n, fmt("user.x%d", k));

		if ((x ? atoi(fmt("%.*s", (int)x->size, (char *)x->value)) : 0) != m->xattr[k])
			bad = FAIL(r, "inode %d has another user.x%d than the model's %d", i, k, m->xattr[k]);
	}
	node_release(&n);
	if (!bad && !m->trash) {
		real_path = path_of(r->w, m->real);
		if (!real_path || strcmp(real_path, path) != 0)
			bad = FAIL(r, "inode %d is at %s, in the model at %s", i, real_path, path);
		free(real_path);
	}
	return bad;
}

static int compare_dir(struct run *r, int dir)
{
	struct node_list l = NODE_LIST_INIT;
	size_t want = 0;
	int bad = 0;

	if (namespace_list(r->w->ns[0], &r->w->op, real(r, dir), 0, 1000, &l) < 0)
		return FAIL(r, "directory %d cannot be listed", dir);
	for (int i = 0; i < MODEL_INODES; i++)
		for (unsigned int k = 0; r->m.v[i].used && k < r->m.v[i].n_links; k++)
			want += r->m.v[i].links[k].dir == dir;
	if (l.n != want)
		bad = FAIL(r, "directory %d has %zu names, in the model %zu", dir, l.n, want);
	for (size_t i = 0; !bad && i < l.n; i++) {
		int inode = model_find(&r->m, dir, l.v[i].name.bytes);

		if (inode < 0 || real(r, inode) != l.v[i].attr.ino)
			bad = FAIL(r, "directory %d: %s is another file than in the model", dir,
				   l.v[i].name.bytes);
	}
	node_list_release(&l);
	return bad;
}

static bool same_names(const struct model_names *m, const struct node_blob *slices)
{
	struct layout l;
	bool same = layout_parse(slices, &l) == 0 && compare_names(m, &l) == 0;

	layout_release(&l);
	return same;
}

static void mark(const struct model_names *m, struct things *t)
{
	t->is[OBJECT][m->ref] = true;
	for (unsigned int i = 0; i < m->n_segs; i++)
		t->is[PATCH][m->seg[i]] = true;
	t->is[DOCUMENT][m->doc] = true;
}

/*
 * What the index names is not deleted, and what is stored and not named is deleted or in dropped: nothing is lost, and
 * nothing is kept for ever.
 */
static int compare_things(struct run *r)
{
	struct things *named = calloc(1, sizeof(*named)), *dropped = calloc(1, sizeof(*dropped));
	static const char *const what[] = { "object", "patch object", "document" };
	struct dropped_list l = { 0 };
	int bad = 0;

	assert_true(named && dropped);
	for (int i = 0; i < MODEL_INODES; i++)
		if (r->m.v[i].used)
			mark(&r->m.v[i].names, named);
	for (unsigned int i = 0; i < r->m.n_versions; i++)
		mark(&r->m.versions[i].names, named);
	assert_int_equal(engine_dropped(r->w->e[0], &r->w->op, INT64_MAX, 0, NUMBERS, &l), 0);
	for (size_t i = 0; i < l.n; i++) {
		enum thing kind;
		unsigned int number = number_of(&l.v[i], &kind);

		dropped->is[kind][number] = true;
		if (named->is[kind][number] && !is_named(r, &l.v[i]))
			bad = FAIL(r, "%s %u is named and would be deleted", what[kind], number);
	}
	dropped_list_release(&l);
	for (int kind = 0; kind < THINGS; kind++)
		for (unsigned int i = 1; !bad && i <= r->m.commits; i++) {
			if (named->is[kind][i] && (r->deleted.is[kind][i] || !r->stored.is[kind][i]))
				bad = FAIL(r, "%s %u is named and deleted", what[kind], i);
			if (r->stored.is[kind][i] && !named->is[kind][i] && !dropped->is[kind][i] &&
			    !r->deleted.is[kind][i])
				bad = FAIL(r, "%s %u is lost: neither named nor dropped", what[kind], i);
		}
	free(named);
	free(dropped);
	return bad;
}

static int compare_todo(struct run *r)
{
	uint64_t records, bytes, want = 0, want_bytes = 0;

	for (int i = 0; i < MODEL_INODES; i++) {
		const struct model_inode *m = &r->m.v[i];

		if (!m->used || m->trash || !m->todo)
			continue;
		want++;
		want_bytes += m->inl_len;
	}
	assert_int_equal(engine_todo_count(r->w->e[0], &r->w->op, &records, &bytes), 0);
	if (records == want && bytes == want_bytes)
		return 0;
	return FAIL(r, "%" PRIu64 " records with todo and %" PRIu64 " inline bytes, the model %" PRIu64 " and %" PRIu64,
		    records, bytes, want, want_bytes);
}

static int compare_versions(struct run *r)
{
	struct version_list l = { 0 };
	int bad = 0;

	if (engine_versions_all(r->w->e[0], &r->w->op, 0, 0, 10000, &l) < 0)
		return FAIL(r, "versions cannot be listed");
	if (l.n != r->m.n_versions)
		bad = FAIL(r, "%zu versions, the model has %u", l.n, r->m.n_versions);
	for (unsigned int i = 0; !bad && i < r->m.n_versions; i++) {
		const struct model_version *m = &r->m.versions[i];
		bool found = false;

		for (size_t k = 0; k < l.n; k++)
			found |= l.v[k].ino == real(r, m->inode) && l.v[k].data == m->data &&
				 l.v[k].size == m->size && strcmp(l.v[k].path, m->path) == 0 &&
				 (m->names.ref == 0 ? !l.v[k].ref.key :
						      atoi(l.v[k].ref.version) == (int)m->names.ref) &&
				 same_names(&m->names, &l.v[k].slices);
		if (!found)
			bad = FAIL(r, "no version %" PRIu64 " of inode %d at %s", m->data, m->inode, m->path);
	}
	version_list_release(&l);
	return bad;
}

static int compare_all(struct run *r)
{
	uint64_t files, want = 0;
	int bad = 0;

	for (int i = 0; !bad && i < MODEL_INODES; i++) {
		if (!r->m.v[i].used)
			continue;
		want += !r->m.v[i].trash;
		bad = i ? compare_inode(r, i) : 0;
		if (!bad && S_ISDIR(r->m.v[i].mode))
			bad = compare_dir(r, i);
	}
	if (!bad)
		bad = compare_versions(r);
	if (!bad)
		bad = compare_things(r);
	if (!bad)
		bad = compare_todo(r);
	if (!bad && !files_counted(r->w, r->w->e[0], want, &files))
		bad = FAIL(r, "%" PRIu64 " files, the model has %" PRIu64, files, want);
	if (!bad && ns_world_check(r->w))
		bad = FAIL(r, "the index is not consistent");
	return bad;
}

/* The model's arrays are bounded: a run ends early when they are nearly full. */
static bool nearly_full(const struct model *m)
{
	int used = 0;

	for (int i = 0; i < MODEL_INODES; i++)
		used += m->v[i].used;
	return used > MODEL_INODES - 2 || m->n_versions > MODEL_VERSIONS - 2 || m->commits > NUMBERS - 2;
}

/* Index of the operation that went wrong, n if all went well. */
static size_t run_ops(const struct ns_kind *kind, const struct op *v, size_t n, char *why, size_t why_size)
{
	struct run *r = calloc(1, sizeof(*r));
	size_t i;
	int bad = 0;

	assert_non_null(r);
	assert_int_equal(ns_world_new(kind, NULL, NULL, &r->w), 0);
	model_init(&r->m);
	for (i = 0; i < n && !nearly_full(&r->m); i++) {
		bad = do_op(r, &v[i]);
		if (!bad && (i % 64 == 63 || n <= 64))
			bad = compare_all(r);
		if (bad)
			break;
	}
	if (!bad && compare_all(r) < 0) {
		bad = -1;
		i = i ? i - 1 : 0;
	}
	if (!bad)
		snprintf(why, why_size,
			 "%zu operations, %u of %u that met something succeeded, %u versions, %u things deleted, %u kept",
			 i, r->succeeded, r->done, r->m.n_versions, r->collected, r->kept);
	else
		snprintf(why, why_size, "%s", r->why);
	ns_world_free(r->w);
	free(r);
	return bad ? i : n;
}

/* Leaves operations out, in ever smaller pieces, as long as what remains fails. Returns how many remain. */
static size_t shrink(const struct ns_kind *kind, struct op *v, size_t n, char *why, size_t why_size)
{
	struct op *try = calloc(n, sizeof(*try));

	assert_non_null(try);
	for (size_t piece = n / 2; piece > 0; piece = piece > 1 ? (piece + 1) / 2 : 0) {
		for (size_t at = 0; at < n;) {
			size_t cut = MFS_MIN(piece, n - at), left = n - cut;
			char text[512];

			memcpy(try, v, at * sizeof(*v));
			memcpy(try + at, v + at + cut, (n - at - cut) * sizeof(*v));
			if (left && run_ops(kind, try, left, text, sizeof(text)) < left) {
				memcpy(v, try, left * sizeof(*v));
				n = left;
				snprintf(why, why_size, "%s", text);
			} else {
				at += cut;
			}
		}
	}
	free(try);
	return n;
}

static void one_seed(const struct ns_kind *kind, unsigned int seed, size_t n)
{
	struct op *v = calloc(n, sizeof(*v));
	unsigned int state = seed;
	char why[512];
	size_t at;

	assert_non_null(v);
	fprintf(stderr, "model: %s, MASSFS_MODEL_SEED=%u MASSFS_MODEL_OPS=%zu\n", kind->name, seed, n);
	for (size_t i = 0; i < n; i++)
		v[i] = random_op(&state);
	at = run_ops(kind, v, n, why, sizeof(why));
	if (at < n) {
		fprintf(stderr, "model: operation %zu (%s): %s\n", at, op_names[v[at].kind], why);
		n = shrink(kind, v, at + 1, why, sizeof(why));
		fprintf(stderr, "model: the shortest sequence that fails (%s):\n", why);
		print_ops(v, n);
		free(v);
		fail_msg("seed %u on %s: %s", seed, kind->name, why);
	}
	fprintf(stderr, "model: %s\n", why);
	free(v);
}

static void random_operations(void **state)
{
	const struct ns_kind *kind = ((struct ns_world *)*state)->kind;
	unsigned int seed = (unsigned int)env_number("MASSFS_MODEL_SEED", 0);
	uint64_t runs = seed ? 1 : env_number("MASSFS_MODEL_RUNS", 3);

	if (!seed)
		seed = (unsigned int)mfs_now_ns() | 1;
	for (uint64_t i = 0; i < runs; i++)
		one_seed(kind, seed + (unsigned int)i * 7919, env_number("MASSFS_MODEL_OPS", 3000));
}

static const struct ns_test tests[] = { NS_TEST(random_operations) };

int main(void)
{
	return ns_suite_run("model", tests, MFS_ARRAY_LEN(tests));
}
