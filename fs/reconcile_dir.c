/*
 * A directory tree: every file below it comes to its place. The files of a page are settled several at once, as each
 * waits for the disk; directories are kept on a stack of their own, however deep they are.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/workers.h"
#include "fs/reconcile_internal.h"

#define PAGE 512

static int queue_file(struct reconcile_ctx *rc, mfs_ino_t ino)
{
	/* Now: if another key is in its way, this run may yet come to it. */
	struct job_record job = { .kind = JOB_FILE,
				  .ino = ino,
				  .due = rc->again_at ? rc->again_at : mfs_now_ns() };
	struct change c = { 0 };

	change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	return engine_apply(rc->v->engine, rc->op, &c);
}

struct level {
	mfs_ino_t dir;
	uint64_t after;
};

struct file_item {
	struct reconcile_ctx rc;
	mfs_ino_t ino;
	int r;
};

static void settle_item(void *arg)
{
	struct file_item *x = arg;

	x->r = x->rc.hasten ? reconcile_hasten_file(&x->rc, x->ino) : reconcile_settle(&x->rc, x->ino);
}

static void tell(struct reconcile_tree *t, const struct file_item *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		atomic_fetch_add(v[i].r < 0 ? &t->failed : &t->done, 1);
	if (t->report)
		t->report(t->arg, atomic_load(&t->done), 0);
}

/* The regular files of a page, several at once. One that cannot be moved now must not hold up, or repeat, the walk. */
static int settle_files(struct reconcile_ctx *rc, struct file_item *v, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n; i++)
		if (!rc->files || workers_submit(rc->files, settle_item, &v[i]) < 0)
			settle_item(&v[i]);
	if (rc->files)
		workers_drain(rc->files);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (v[i].r == -ECANCELED || v[i].r == -ENOMEM)
			r = v[i].r;
		else if (v[i].r < 0)
			r = queue_file(&v[i].rc, v[i].ino);
	}
	if (rc->tree)
		tell(rc->tree, v, n);
	return r;
}

static int push(struct level **stack, size_t *n, size_t *cap, mfs_ino_t dir)
{
	if (*n == *cap) {
		size_t more = *cap * 2;
		struct level *p = realloc(*stack, more * sizeof(**stack));

		if (!p)
			return -ENOMEM;
		*stack = p;
		*cap = more;
	}
	(*stack)[(*n)++] = (struct level){ .dir = dir };
	return 0;
}

/* The entries of one page: files are settled, directories pushed. */
static int dir_page(struct reconcile_ctx *rc, const struct node_list *l, struct level **stack, size_t *n,
		    size_t *cap)
{
	MFS_AUTOFREE struct file_item *files = calloc(l->n, sizeof(*files));
	size_t n_files = 0;
	int r = 0;

	if (!files)
		return -ENOMEM;
	for (size_t i = 0; i < l->n && r == 0; i++) {
		const struct mfs_attr *a = &l->v[i].attr;

		if (attr_is_dir(a))
			r = push(stack, n, cap, a->ino);
		else if (attr_is_reg(a))
			files[n_files++] = (struct file_item){ .rc = *rc, .ino = a->ino };
	}
	for (size_t i = 0; i < n_files; i++)
		files[i].rc.again_at = 0;
	return r < 0 ? r : settle_files(rc, files, n_files);
}

/* What its key still holds would hide its files from listings. */
static int settle_folder(struct reconcile_ctx *rc, mfs_ino_t dir)
{
	int r = reconcile_settle(rc, dir);

	if (r < 0 && r != -ECANCELED && r != -ENOMEM)
		r = queue_file(rc, dir);
	rc->again_at = 0;
	return r;
}

int reconcile_tree(struct reconcile_ctx *rc, mfs_ino_t dir)
{
	MFS_AUTOFREE struct level *stack = malloc(sizeof(*stack));
	size_t n = 1, cap = 1;
	int r = 0;

	if (!stack)
		return -ENOMEM;
	stack[0] = (struct level){ .dir = dir };
	while (n && r == 0) {
		struct level *top = &stack[n - 1];
		struct node_list l = NODE_LIST_INIT;

		if (!top->after && reconcile_keys_hide(rc))
			r = settle_folder(rc, top->dir);
		if (r == 0)
			r = namespace_list(rc->v->ns, rc->op, top->dir, top->after, PAGE, &l);
		if (reconcile_is_gone(r)) {
			n--;
			r = 0;
		} else if (r == 0 && l.n == 0) {
			n--;
		} else if (r == 0) {
			top->after = l.v[l.n - 1].pos;
			r = dir_page(rc, &l, &stack, &n, &cap);
		}
		node_list_release(&l);
	}
	rc->again_at = 0;
	return r;
}
