/*
 * Searches: pages of the index's answers put together, looked at again, and handed on in the order that was asked for.
 */
#include "fs/search.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/op_ctx.h"
#include "fs/search_internal.h"

#define PAGE	   1000
#define FIRST_PAGE 64
#define PAGE_BYTES ((size_t)4 << 20) /* of attributes, as far as can be known before */
#define NAMES	   64 /* of a file that are tried */

/* What is sorted: the record is read again when its turn comes. */
struct search_key {
	mfs_ino_t ino;
	int64_t number;
	char *text; /* owned; or NULL */
};

/* --- a hit --- */

static int64_t number_of(const struct searching *x, const struct node *n)
{
	switch (x->s->order) {
	case SEARCH_BY_SIZE:
		return (int64_t)n->attr.size;
	case SEARCH_BY_MTIME:
		return n->attr.mtime;
	case SEARCH_BY_CREATED:
		return n->attr.btime;
	default:
		return 0;
	}
}

static int keep_key(struct searching *x, const struct node *n, const struct mfs_name *name)
{
	struct search_key *k;

	if (x->n_keys == SEARCH_SORT_MAX)
		return -E2BIG;
	if (x->n_keys == x->cap_keys) {
		size_t cap = x->cap_keys ? x->cap_keys * 2 : 1024;
		struct search_key *v = reallocarray(x->keys, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		x->keys = v;
		x->cap_keys = cap;
	}
	k = &x->keys[x->n_keys];
	*k = (struct search_key){ .ino = n->attr.ino, .number = number_of(x, n) };
	if (x->s->order == SEARCH_BY_NAME || x->s->order == SEARCH_BY_PATH) {
		k->text = strdup(x->s->order == SEARCH_BY_NAME ? name->bytes : mfs_buf_str(&x->path) + x->below);
		if (!k->text)
			return -ENOMEM;
	}
	x->n_keys++;
	return 0;
}

static int emit(struct searching *x, const struct node *n)
{
	struct search_hit h = { .node = n, .path = mfs_buf_str(&x->path), .below = mfs_buf_str(&x->path) + x->below };

	x->stats.hits++;
	x->stats.next = n->attr.ino;
	return x->hit(x->arg, &h);
}

/* Under this name: 1 when it is a hit and was handed on, 0 when not. */
static int consider_name(struct searching *x, const struct node *n, mfs_ino_t parent, const struct mfs_name *name)
{
	struct expr_subject s = { .node = n, .name = name };
	int r;

	/* What costs nothing first: most records that are read do not match. */
	if (!expr_needs_path(x->s->expr) && !expr_matches(x->s->expr, &s))
		return 0;
	r = n->attr.ino == x->s->dir ? search_place_dir(x) : search_place(x, parent, name);
	if (r <= 0)
		return r;
	s.path = mfs_buf_str(&x->path);
	if (expr_needs_path(x->s->expr) && !expr_matches(x->s->expr, &s))
		return 0;
	r = x->s->order == SEARCH_BY_INODE ? emit(x, n) : keep_key(x, n, name);
	return r ? r : 1;
}

/* What stat(2) tells of a file, whoever asks; its tags and what comes from its bytes are for those who may read it, as with
 * getxattr(2). Borrows. */
static void as_seen(const struct searching *x, const struct node **n, struct node *room)
{
	if (!x->s->cred || namespace_access(*n, x->s->cred, R_OK) == 0)
		return;
	*room = **n;
	room->n_xattrs = 0;
	room->mime = NULL;
	room->hash[0] = '\0';
	*n = room;
}

int search_consider(struct searching *x, const struct node *n)
{
	MFS_AUTOFREE struct alias *names = NULL;
	struct node room;
	int r, found;

	as_seen(x, &n, &room);
	x->stats.rows++;
	r = consider_name(x, n, n->parent, &n->name);
	if (r || attr_is_dir(&n->attr) || n->attr.nlink < 2)
		return r < 0 ? r : 0;
	names = calloc(NAMES, sizeof(*names));
	if (!names)
		return -ENOMEM;
	x->stats.queries++;
	found = engine_aliases(namespace_engine(x->ns), x->op, n->attr.ino, names, NAMES);
	for (int i = 0; r == 0 && i < MFS_MIN(found, NAMES); i++)
		r = consider_name(x, n, names[i].parent, &names[i].name);
	return found < 0 ? found : r < 0 ? r : 0;
}

/* --- by index --- */

/* One part of the plan: a page of its records, in order of inodes. */
struct stream {
	const struct expr_term *term;
	struct node_list page;
	size_t at;
	mfs_ino_t last;
	size_t limit; /* of the next page */
	bool ended;
};

/* A record may have 1 MiB of attributes: the next page is as long as those of this one let expect that it is not too big. */
static size_t next_page(const struct node_list *l)
{
	size_t bytes = 0;

	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < l->v[i].n_xattrs; k++)
			bytes += l->v[i].xattrs[k].size;
	bytes = l->n ? bytes / l->n : 0;
	return MFS_MAX(MFS_MIN(PAGE_BYTES / (bytes + 1), (size_t)PAGE), (size_t)8);
}

static int stream_fill(struct searching *x, struct stream *st)
{
	int r;

	if (st->at < st->page.n || st->ended)
		return 0;
	node_list_release(&st->page);
	st->at = 0;
	x->stats.queries++;
	r = engine_find(namespace_engine(x->ns), x->op, st->term, st->last, st->limit, &st->page);
	if (r < 0)
		return r;
	st->ended = st->page.n < st->limit;
	st->limit = next_page(&st->page);
	if (st->page.n)
		st->last = st->page.v[st->page.n - 1].attr.ino;
	return 0;
}

/* The stream with the smallest inode; NULL: all have ended. */
static struct stream *next_of(struct stream *v, size_t n)
{
	struct stream *best = NULL;

	for (size_t i = 0; i < n; i++)
		if (v[i].at < v[i].page.n &&
		    (!best || v[i].page.v[v[i].at].attr.ino < best->page.v[best->at].attr.ino))
			best = &v[i];
	return best;
}

static bool enough(const struct searching *x)
{
	return x->s->order == SEARCH_BY_INODE && x->s->limit && x->stats.hits >= x->s->limit;
}

static int by_index(struct searching *x)
{
	struct stream v[MFS_ARRAY_LEN(x->stats.plan.part)] = { 0 };
	size_t n = x->stats.plan.n;
	mfs_ino_t done = x->s->after;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		v[i] = (struct stream){ .term = x->stats.plan.part[i].term, .last = x->s->after, .limit = FIRST_PAGE };
	while (r == 0 && !enough(x)) {
		struct stream *st;

		if (atomic_load(&x->op->cancelled))
			r = -ECANCELED;
		for (size_t i = 0; r == 0 && i < n; i++)
			r = stream_fill(x, &v[i]);
		st = r == 0 ? next_of(v, n) : NULL;
		if (!st)
			break;
		if (st->page.v[st->at].attr.ino > done) { /* else another part of the "or" had it already */
			done = st->page.v[st->at].attr.ino;
			r = search_consider(x, &st->page.v[st->at]);
		}
		st->at++;
	}
	for (size_t i = 0; i < n; i++)
		node_list_release(&v[i].page);
	return r;
}

/* --- sorted --- */

static int compare_keys(const void *a, const void *b, void *arg)
{
	const struct searching *x = arg;
	const struct search_key *k = a, *l = b;
	int order = k->text ? strcmp(k->text, l->text) : (k->number > l->number) - (k->number < l->number);

	if (x->s->reverse)
		order = -order;
	return order ? order : (k->ino > l->ino) - (k->ino < l->ino);
}

/* Records that changed since they were sorted are looked at as they are now. */
static int emit_sorted(struct searching *x)
{
	struct search as_found = *x->s;
	const struct search *asked = x->s;
	int r = 0;

	if (x->n_keys)
		qsort_r(x->keys, x->n_keys, sizeof(*x->keys), compare_keys, x);
	as_found.order = SEARCH_BY_INODE;
	x->s = &as_found;
	for (size_t i = 0; r == 0 && i < x->n_keys && !(asked->limit && x->stats.hits >= asked->limit); i++) {
		struct node n = NODE_INIT;

		x->stats.queries++;
		r = namespace_get(x->ns, x->op, x->keys[i].ino, &n);
		if (r == -ESTALE || r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r == 0)
			r = search_consider(x, &n);
		node_release(&n);
	}
	x->s = asked;
	return r;
}

static uint64_t rows_of(void *arg, const struct expr_term *t)
{
	struct searching *x = arg;

	x->stats.queries++;
	return engine_rows(namespace_engine(x->ns), x->op, t);
}

int search_run(struct namespace *ns, struct op_ctx *op, const struct search *s,
	       int (*hit)(void *arg, const struct search_hit *h), void *arg, struct search_stats *ret)
{
	struct searching x = { .ns = ns, .op = op, .s = s, .hit = hit, .arg = arg };
	bool all;
	int r;

	if (s->after && (s->order != SEARCH_BY_INODE || s->reverse))
		return -EINVAL;
	expr_plan(s->expr, engine_indexes(namespace_engine(ns)), rows_of, &x, &x.stats.plan);
	if (x.stats.plan.n == 0 && s->indexed_only)
		return -ENOTSUP;
	r = search_place_start(&x);
	if (r == 0)
		r = x.stats.plan.n ? by_index(&x) : search_walk(&x);
	all = !enough(&x);
	if (r == 0 && s->order != SEARCH_BY_INODE)
		r = emit_sorted(&x);
	if (all)
		x.stats.next = 0;
	search_place_end(&x);
	for (size_t i = 0; i < x.n_keys; i++)
		free(x.keys[i].text);
	free(x.keys);
	*ret = x.stats;
	return r;
}

const char *search_part_text(const struct expr_part *p, struct mfs_buf *buf)
{
	struct expr_term t = *p->term;
	struct expr one = { .terms = &t, .n = 1 };

	mfs_buf_clear(buf);
	if (t.field == FIELD_TAG)
		(void)mfs_buf_puts(buf, "tag ");
	return expr_print(&one, buf) == 0 ? mfs_buf_str(buf) : "";
}

bool search_user(void *arg, const char *name, uint32_t *ret_uid)
{
	char space[4096];
	struct passwd pw, *found = NULL;

	(void)arg;
	if (getpwnam_r(name, &pw, space, sizeof(space), &found) != 0 || !found)
		return false;
	*ret_uid = found->pw_uid;
	return true;
}
