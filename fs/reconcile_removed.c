/*
 * Files whose object another program removed from its key. Nobody can tell that from a key that is not shown yet, so a
 * file counts only when it is settled but for that: its whole object is there as a version, its record has nothing
 * waiting, and no job has its key.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/reconcile_internal.h"

#define PAGE 512

struct folder {
	struct folder *next;
	mfs_ino_t ino;
	char path[]; /* "" or with its slash */
};

struct walk {
	struct reconcile_ctx rc;
	struct folder *todo;
	int (*fn)(void *arg, mfs_ino_t parent, const char *name, const char *key);
	void *arg;
};

static int push(struct walk *w, mfs_ino_t ino, const char *path, const char *name)
{
	size_t len = strlen(path) + strlen(name) + 2;
	struct folder *f = malloc(sizeof(*f) + len);

	if (!f)
		return -ENOMEM;
	f->ino = ino;
	f->next = w->todo;
	snprintf(f->path, len, "%s%s%s", path, name, *name ? "/" : "");
	w->todo = f;
	return 0;
}

static bool has_job(struct walk *w, const char *key)
{
	struct job_record from = { .kind = JOB_KEY, .key = (char *)(uintptr_t)key };
	struct job_list l = { 0 };
	bool found = true; /* better not to remove it than to be wrong */

	if (engine_jobs_from(w->rc.v->engine, w->rc.op, &from, 1, &l) == 0)
		found = l.n && l.v[0].kind == JOB_KEY && l.v[0].key && strcmp(l.v[0].key, key) == 0;
	job_list_release(&l);
	return found;
}

/* 1: its key shows nothing, and should. */
static int is_removed(struct walk *w, const struct node *n, const char *key)
{
	struct object_store *s = w->rc.v->store;
	struct object_info info;
	uint64_t mark;
	bool whole;
	int r;

	if (n->todo || !n->ref.key || strcmp(n->ref.key, key) != 0)
		return 0;
	r = reconcile_is_whole(n, &whole);
	if (r < 0 || !whole || !key_gate_idle(&w->rc.v->gate, key, &mark))
		return r;
	r = object_head(s, w->rc.op, NULL, key, NULL, &info);
	if (r != -ENOENT)
		return MFS_MIN(r, 0);
	if (has_job(w, key) || object_head(s, w->rc.op, NULL, key, n->ref.version, &info) < 0)
		return 0;
	/* A commit that came between shows another version by now. */
	return object_head(s, w->rc.op, NULL, key, NULL, &info) == -ENOENT;
}

static int look_at(struct walk *w, mfs_ino_t dir, const char *path, const char *name, mfs_ino_t ino)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(OBJECT_KEY_MAX + 1);
	struct node n = NODE_INIT;
	int r = mfs_buf_printf(&key, "%s%s", path, name);

	if (r == -EFBIG)
		return 0; /* no key of a path */
	if (r == 0)
		r = namespace_get(w->rc.v->ns, w->rc.op, ino, &n);
	if (r == 0)
		r = is_removed(w, &n, mfs_buf_str(&key));
	node_release(&n);
	if (r == 1)
		r = w->fn(w->arg, dir, name, mfs_buf_str(&key));
	return reconcile_is_gone(r) ? 0 : r;
}

static int look_in(struct walk *w, const struct folder *f)
{
	uint64_t after = 0;
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = namespace_list(w->rc.v->ns, w->rc.op, f->ino, after, PAGE, &l);
		n = r == 0 ? l.n : 0;
		for (size_t i = 0; i < n && r == 0; i++) {
			const struct node *e = &l.v[i];

			after = e->pos;
			if (atomic_load(&w->rc.op->cancelled))
				r = -ECANCELED;
			else if (attr_is_dir(&e->attr))
				r = push(w, e->attr.ino, f->path, e->name.bytes);
			else if (attr_is_reg(&e->attr))
				r = look_at(w, f->ino, f->path, e->name.bytes, e->attr.ino);
		}
		node_list_release(&l);
	} while (r == 0 && n);
	return reconcile_is_gone(r) ? 0 : r;
}

static int begin(struct walk *w, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	MFS_AUTOFREE char *folder = strndup(path, (size_t)(name - path));
	struct mfs_attr attr;
	mfs_ino_t parent;
	struct entry e;
	int r = namespace_resolve(w->rc.v->ns, w->rc.op, path, strlen(path), &e);

	if (r < 0 || !folder)
		return r == -ENOENT || r == -ENOTDIR ? 0 : r < 0 ? r : -ENOMEM;
	attr = e.node.attr;
	parent = e.parent;
	entry_release(&e);
	if (attr_is_dir(&attr))
		return push(w, attr.ino, "", path);
	return attr_is_reg(&attr) ? look_at(w, parent, folder, name, attr.ino) : 0;
}

int reconcile_find_removed(struct volume *v, struct op_ctx *op, const char *path,
			   int (*fn)(void *arg, mfs_ino_t parent, const char *name, const char *key), void *arg)
{
	struct walk w = { .rc = { .v = v, .op = op }, .fn = fn, .arg = arg };
	struct folder *f;
	int r = begin(&w, path);

	while ((f = w.todo)) {
		w.todo = f->next;
		if (r == 0)
			r = look_in(&w, f);
		free(f);
	}
	return r;
}
