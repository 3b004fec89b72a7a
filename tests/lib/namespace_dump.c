/*
 * The whole index as text.
 */
#include "tests/lib/namespace_dump.h"

#include <inttypes.h>
#include <stdlib.h>

struct dump {
	struct ns_world *w;
	struct engine *e;
	struct op_ctx op;
	struct mfs_buf out;
};

static void put_blob(struct dump *d, const char *what, const struct node_blob *b)
{
	if (!b->data)
		return;
	mfs_buf_printf(&d->out, " %s ", what);
	for (size_t i = 0; i < b->size; i++)
		mfs_buf_printf(&d->out, "%02x", ((const unsigned char *)b->data)[i]);
}

static void put_node(struct dump *d, const char *name, const struct node *n)
{
	const struct mfs_attr *a = &n->attr;

	mfs_buf_printf(&d->out,
		       "%s: ino %" PRIu64 " mode %o uid %u gid %u nlink %u size %" PRIu64 "/%" PRIu64
		       " data %" PRIu64 " lay %" PRIu64 " flags %x ref %s@%s children %u openers %zu",
		       name, a->ino, a->mode, a->uid, a->gid, a->nlink, a->size, a->obj_len, a->data, a->lay,
		       a->flags, n->ref.key ? n->ref.key : "", n->ref.version, a->children, n->openers.size);
	for (size_t i = 0; i < n->n_xattrs; i++)
		mfs_buf_printf(&d->out, " %s=%.*s", n->xattrs[i].name, (int)n->xattrs[i].size,
			       (char *)n->xattrs[i].value);
	put_blob(d, "inline", &n->inline_data);
	put_blob(d, "slices", &n->slices);
	mfs_buf_puts(&d->out, n->todo ? " todo\n" : "\n");
}

static void put_ino(struct dump *d, const char *name, mfs_ino_t ino)
{
	struct node n = NODE_INIT;

	assert_int_equal(engine_get(d->e, &d->op, ino, &n), 0);
	put_node(d, name, &n);
	node_release(&n);
}

static int by_name(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return strcmp(x->name.bytes, y->name.bytes);
}

static void put_dir(struct dump *d, const char *path, mfs_ino_t dir)
{
	struct node_list l = NODE_LIST_INIT;

	assert_int_equal(engine_list(d->e, &d->op, dir, 0, 10000, &l), 0);
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), by_name);
	for (size_t i = 0; i < l.n; i++) {
		char *sub = NULL;

		assert_true(asprintf(&sub, "%s/%s", path, l.v[i].name.bytes) > 0);
		put_ino(d, sub, l.v[i].attr.ino);
		if (attr_is_dir(&l.v[i].attr))
			put_dir(d, sub, l.v[i].attr.ino);
		free(sub);
	}
	node_list_release(&l);
}

static void put_trash(struct dump *d)
{
	struct query q = { .limit = 10000, .trash = true };
	struct node_list l = NODE_LIST_INIT;

	assert_int_equal(engine_query(d->e, &d->op, &q, &l), 0);
	for (size_t i = 0; i < l.n; i++)
		put_node(d, fmt("trash %.200s", l.v[i].trash_path), &l.v[i]);
	node_list_release(&l);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void put_jobs(struct dump *d)
{
	struct job_list l = { 0 };
	char **lines;

	assert_int_equal(engine_jobs(d->e, &d->op, INT64_MAX, 10000, &l), 0);
	lines = calloc(l.n + 1, sizeof(*lines));
	assert_non_null(lines);
	for (size_t i = 0; i < l.n; i++)
		assert_true(asprintf(&lines[i], "job %d %s %" PRIu64 "\n", (int)l.v[i].kind,
				     l.v[i].key ? l.v[i].key : "", l.v[i].ino) > 0);
	qsort(lines, l.n, sizeof(*lines), by_text);
	for (size_t i = 0; i < l.n; i++) {
		mfs_buf_puts(&d->out, lines[i]);
		free(lines[i]);
	}
	free(lines);
	job_list_release(&l);
}

static void put_past(struct dump *d)
{
	struct version_list v = { 0 };
	struct dropped_list r = { 0 };

	assert_int_equal(engine_versions_all(d->e, &d->op, 0, 0, 10000, &v), 0);
	for (size_t i = 0; i < v.n; i++) {
		mfs_buf_printf(&d->out, "version %" PRIu64 " %" PRIu64 " of %s: %s@%s %" PRIu64 "/%" PRIu64, v.v[i].ino,
			       v.v[i].data, v.v[i].path, v.v[i].ref.key ? v.v[i].ref.key : "", v.v[i].ref.version,
			       v.v[i].size, v.v[i].obj_len);
		put_blob(d, "inline", &v.v[i].inline_data);
		put_blob(d, "slices", &v.v[i].slices);
		mfs_buf_puts(&d->out, "\n");
	}
	version_list_release(&v);
	assert_int_equal(engine_dropped(d->e, &d->op, INT64_MAX, 0, 10000, &r), 0);
	for (size_t i = 0; i < r.n; i++)
		mfs_buf_printf(&d->out, "dropped of %" PRIu64 ": %s@%s %" PRIu64 "\n", r.v[i].ino,
			       r.v[i].ref.key ? r.v[i].ref.key : "", r.v[i].ref.version, r.v[i].doc_id);
	dropped_list_release(&r);
}

static void put_documents(struct dump *d)
{
	struct slices_doc_list l = { 0 };

	assert_int_equal(engine_slices_all(d->e, &d->op, 0, 0, 10000, &l), 0);
	for (size_t i = 0; i < l.n; i++) {
		mfs_buf_printf(&d->out, "document %" PRIu64 " of %" PRIu64 " session %" PRIu64, l.v[i].id, l.v[i].ino,
			       l.v[i].session);
		put_blob(d, "slices", &l.v[i].blob);
		mfs_buf_puts(&d->out, "\n");
	}
	slices_doc_list_release(&l);
}

char *ns_world_dump(struct ns_world *w)
{
	struct dump d = { .w = w, .e = w->bare, .out = MFS_BUF_INIT(64 << 20) };

	put_ino(&d, "/", MFS_ROOT_INO);
	put_dir(&d, "", MFS_ROOT_INO);
	put_trash(&d);
	put_past(&d);
	put_documents(&d);
	put_jobs(&d);
	assert_int_equal(d.out.err, 0);
	return mfs_buf_take(&d.out);
}
