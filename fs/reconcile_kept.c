/* Uploads that outlive their mount. See reconcile_kept.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/log.h"
#include "common/str.h"
#include "fs/reconcile_kept.h"
#include "meta/locks.h"
#include "meta/records.h"

#define PREFIX	      "compose/"
#define CELL_NAME_MAX 48
#define TEXT_MAX (OBJECT_UPLOAD_NAME_MAX + OBJECT_KEY_MAX + 256)
#define PAGE	 100

/* What a cell says. */
struct paper {
	uint64_t lay, plan;
	struct object_meta meta;
	char name[OBJECT_UPLOAD_NAME_MAX];
	const char *key; /* in text */
	char text[TEXT_MAX];
	uint64_t token; /* of the cell; 0: there is none */
};

static void cell_name(mfs_ino_t ino, char ret[CELL_NAME_MAX])
{
	snprintf(ret, CELL_NAME_MAX, PREFIX "%" PRIu64, ino);
}

/* False: nothing of ours. */
static bool paper_parse(const struct cell_record *cell, mfs_ino_t ino, struct paper *p)
{
	struct object_meta *m = &p->meta;
	int key = 0;

	p->token = cell->token;
	if (cell->blob.size >= sizeof(p->text))
		return false;
	memcpy(p->text, cell->blob.data, cell->blob.size);
	p->text[cell->blob.size] = '\0';
	*m = (struct object_meta){ .ino = ino };
	if (sscanf(p->text, "1 %" SCNu64 " %" SCNx64 " %" SCNu64 " %" SCNu64 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNd64
			    " %1087s %n",
		   &p->lay, &p->plan, &m->session, &m->op, &m->mode, &m->uid, &m->gid, &m->mtime, p->name, &key) != 9 ||
	    !key || !p->text[key])
		return false;
	p->key = p->text + key;
	return true;
}

static int paper_write(const struct paper *p, const char *key, struct mfs_buf *text)
{
	const struct object_meta *m = &p->meta;

	return mfs_buf_printf(text,
			      "1 %" PRIu64 " %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRId64
			      " %s %s",
			      p->lay, p->plan, m->session, m->op, m->mode, m->uid, m->gid, m->mtime, p->name, key);
}

/* The cell's value; text NULL: it goes. Only while its token is `expect`: -EAGAIN. */
static int put_cell(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t expect, const struct mfs_buf *text)
{
	char name[CELL_NAME_MAX];
	struct cell_record cell = { .name = name };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_CELL_PUT, 0);
	int r = cell_token(&cell.token);

	if (r < 0)
		return r;
	cell_name(ino, name);
	if (text)
		cell.blob = (struct node_blob){ .data = text->data, .size = text->len };
	w->cell = &cell;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = expect;
	return engine_apply(e, op, &c);
}

/* 1: *ret; 0: there is none (token 0), or one that says nothing. */
static int get_paper(struct reconcile_ctx *rc, mfs_ino_t ino, struct paper *ret)
{
	char name[CELL_NAME_MAX];
	struct cell_record cell;
	int r;

	cell_name(ino, name);
	ret->token = 0;
	r = engine_cell_get(rc->v->engine, rc->op, name, &cell);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = paper_parse(&cell, ino, ret);
	cell_record_release(&cell);
	return r;
}

/* --- taking one up --- */

/* It is no upload any more. Did it become an object, just before its maker died? */
static bool find_object(struct reconcile_ctx *rc, const struct node *n, const struct paper *p, struct kept_upload *k)
{
	struct object_info *info = &k->info;

	if (object_head(rc->v->store, rc->op, NULL, p->key, NULL, info) < 0)
		return false;
	k->is_done = info->own && info->ino == n->attr.ino && info->session == p->meta.session && info->op == p->meta.op &&
		     info->size == n->attr.size;
	info->not_shown = true; /* not known: the key is looked at again */
	info->etag[0] = '\0';	/* nor that it is a sum of ours */
	return k->is_done;
}

/* 1: *k; 0: a new one is to be begun. */
static int take_up(struct reconcile_ctx *rc, const struct node *n, const char *key, uint64_t plan, const struct paper *p,
		   struct kept_upload *k)
{
	int r = object_upload_resume(rc->v->store, rc->op, NULL, p->key, &p->meta, p->name, &k->u);
	bool same = p->plan == plan && p->lay == n->attr.lay && strcmp(p->key, key) == 0 &&
		    !node_blob_has_u64(&n->fenced, p->meta.session);

	if (r < 0 && r != -ENOENT)
		return r;
	k->is_kept = true;
	if (same && (r == 0 || find_object(rc, n, p, k))) {
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, rc->op, "inode=%" PRIu64 " key=%s its upload goes on where it was", n->attr.ino,
			key);
		return 1;
	}
	if (r == 0)
		object_upload_abort(k->u, rc->op);
	*k = (struct kept_upload){ 0 };
	return 0;
}

/* --- a new one --- */

static int begin_plain(struct reconcile_ctx *rc, const char *key, const struct object_meta *meta, struct kept_upload *k)
{
	*k = (struct kept_upload){ 0 };
	return object_upload_begin(rc->v->store, rc->op, NULL, key, meta, &k->u);
}

static int begin(struct reconcile_ctx *rc, const struct node *n, const char *key, uint64_t plan, const struct object_meta *meta,
		 struct paper *p, struct kept_upload *k)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(TEXT_MAX);
	int r = object_upload_begin_named(rc->v->store, rc->op, NULL, key, meta, p->name, &k->u);

	if (r == -EOPNOTSUPP)
		return begin_plain(rc, key, meta, k);
	if (r < 0)
		return r;
	p->lay = n->attr.lay;
	p->plan = plan;
	p->meta = *meta;
	/* A name that cannot be read back is of no use: it is an upload like any other then. */
	k->is_kept = *p->name && !strpbrk(p->name, " \t\r\n");
	if (!k->is_kept)
		return 0;
	r = paper_write(p, key, &text);
	if (r == 0)
		r = put_cell(rc->v->engine, rc->op, n->attr.ino, p->token, &text);
	if (r == 0) {
		mfs_crash_point("compose.begun");
		return 0;
	}
	object_upload_abort(k->u, rc->op);
	*k = (struct kept_upload){ 0 };
	return r;
}

static uint64_t keep_min(const struct volume *v)
{
#ifdef MASSFS_CRASH_POINTS
	const char *given = getenv("MASSFS_TEST_KEEP_MIN"); /* so that a short workload has such uploads */

	if (given)
		return strtoull(given, NULL, 10);
#endif
	return v->reconcile.keep_min ? v->reconcile.keep_min : RECONCILE_KEEP_MIN;
}

int reconcile_kept_open(struct reconcile_ctx *rc, const struct node *n, const char *key, uint64_t plan,
			struct object_meta *meta, struct kept_upload *ret)
{
	MFS_AUTOFREE struct paper *p = NULL;
	int r;

	*ret = (struct kept_upload){ 0 };
	if (n->attr.size < keep_min(rc->v))
		return begin_plain(rc, key, meta, ret);
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r = get_paper(rc, n->attr.ino, p);
	if (r == 1) {
		r = take_up(rc, n, key, plan, p, ret);
		if (r == 1)
			*meta = p->meta;
	}
	if (r == -EBUSY || r == -ENOTSUP) /* another thread is at it, or an engine without cells */
		return begin_plain(rc, key, meta, ret);
	if (r != 0)
		return MFS_MIN(r, 0);
	return begin(rc, n, key, plan, meta, p, ret);
}

/* --- the end --- */

int reconcile_kept_end(struct reconcile_ctx *rc, const struct node *n)
{
	MFS_AUTOFREE struct paper *p = calloc(1, sizeof(*p));
	int r = p ? get_paper(rc, n->attr.ino, p) : -ENOMEM;

	if (r >= 0)
		r = p->token && p->lay == n->attr.lay ? put_cell(rc->v->engine, rc->op, n->attr.ino, p->token, NULL) : 0;
	return r == -EAGAIN ? 0 : r; /* somebody has another one by now */
}

void reconcile_kept_fail(struct reconcile_ctx *rc, const struct node *n, struct kept_upload *k, int err)
{
	if (k->is_done || !k->u)
		return;
	if (k->is_kept && (err == -ECANCELED || err == -EIO || err == -ETIMEDOUT)) {
		object_upload_leave(k->u, rc->op);
		return;
	}
	object_upload_abort(k->u, rc->op);
	/* A cell that stays names what is not there any more: the next one finds that. */
	if (k->is_kept && reconcile_kept_end(rc, n) < 0)
		mfs_debug(MFS_LOG_FS, rc->op, "inode=%" PRIu64 ": the cell of its upload stays", n->attr.ino);
}

/* --- for gc --- */

static mfs_ino_t ino_of(const struct cell_record *cell)
{
	uint64_t ino;

	return mfs_str_uint(cell->name + strlen(PREFIX), 10, 1, UINT64_MAX, &ino) < 0 ? 0 : ino;
}

/* Each cell; what fn returns other than 0 ends the walk. */
static int walk(struct volume *v, struct op_ctx *op, int (*fn)(void *arg, const struct cell_record *cell, struct paper *p),
		void *arg)
{
	MFS_AUTOFREE struct paper *p = calloc(1, sizeof(*p));
	MFS_AUTOFREE char *after = NULL;
	size_t n;
	int r = p ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	do {
		struct cell_list l = { 0 };

		r = engine_cells(v->engine, op, PREFIX, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < n; i++) {
			mfs_ino_t ino = ino_of(&l.v[i]);

			if (ino && paper_parse(&l.v[i], ino, p))
				r = fn(arg, &l.v[i], p);
		}
		if (n) {
			free(after);
			after = MFS_TAKE(l.v[n - 1].name);
		}
		cell_list_release(&l);
	} while (r == 0 && n == PAGE);
	return r == -ENOTSUP ? 0 : r;
}

static int add_name(void *arg, const struct cell_record *cell, struct paper *p)
{
	struct kept_names *l = arg;
	struct kept_name *e;

	(void)cell;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;

		e = realloc(l->v, cap * sizeof(*e));
		if (!e)
			return -ENOMEM;
		l->v = e;
		l->cap = cap;
	}
	e = &l->v[l->n];
	*e = (struct kept_name){ .ino = p->meta.ino, .session = p->meta.session, .op = p->meta.op };
	e->name = strdup(p->name);
	e->key = strdup(p->key);
	l->n++;
	return e->name && e->key ? 0 : -ENOMEM;
}

int kept_names_read(struct volume *v, struct op_ctx *op, struct kept_names *ret)
{
	kept_names_release(ret);
	return walk(v, op, add_name, ret);
}

void kept_names_release(struct kept_names *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].name);
		free(l->v[i].key);
	}
	free(l->v);
	*l = (struct kept_names){ 0 };
}

bool kept_names_object(const struct kept_names *l, const struct object_info *info)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].ino == info->ino && l->v[i].session == info->session && l->v[i].op == info->op)
			return true;
	return false;
}

bool kept_names_upload(void *arg, const char *key, const char *name)
{
	const struct kept_names *l = arg;

	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i].name, name) && (!key || !strcmp(l->v[i].key, key)))
			return true;
	return false;
}

struct expire {
	struct volume *v;
	struct op_ctx *op;
};

static int expire_one(void *arg, const struct cell_record *cell, struct paper *p)
{
	struct expire *x = arg;
	struct object_upload *u;
	struct node n = NODE_INIT;
	int r = engine_get(x->v->engine, x->op, p->meta.ino, &n);
	bool stands = r == 0 && n.attr.lay == p->lay;

	node_release(&n);
	if (stands || (r < 0 && r != -ESTALE && r != -ENOENT))
		return r < 0 ? r : 0;
	if (!stands && reconcile_stats_is_claimed(&x->v->reconcile, p->meta.ino))
		return 0; /* who is at it will find out */
	r = object_upload_resume(x->v->store, x->op, NULL, p->key, &p->meta, p->name, &u);
	if (r == 0)
		object_upload_abort(u, x->op);
	if (r < 0 && r != -ENOENT && r != -EOPNOTSUPP && r != -EINVAL)
		return r == -EBUSY ? 0 : r;
	r = put_cell(x->v->engine, x->op, p->meta.ino, cell->token, NULL);
	return r == -EAGAIN ? 0 : r;
}

int kept_expire(struct volume *v, struct op_ctx *op)
{
	struct expire x = { v, op };

	return walk(v, op, expire_one, &x);
}
