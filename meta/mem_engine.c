/*
 * The mem engine: the reference that other engines are compared with, and the index of tests. One lock, one ordered
 * map, every value immutable: an edit copies the record, edits the copy and puts it back, so a change that fails is
 * taken back by the map's undo log.
 *
 * Keys of the map: F ino -> node (files and trash: ATTR_IN_TRASH) · A id -> alias · N parent name NUL id (unique
 * names) · P parent pos id (listing) · L target id (aliases of) · V ino data -> version · D id -> dropped ·
 * J kind ino key -> job · S id -> session · O session slot -> number (rule M2).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/sync.h"
#include "meta/engine.h"
#include "meta/mem_map.h"

#define OPS_RING 4096

struct mem_shared {
	struct mfs_mutex lock;
	struct mem_map *map;
	uint64_t next_ino;
	uint64_t next_token;
	bool formatted;
	struct volume_record volume;
};

struct mem_engine {
	struct engine base;
	struct mem_shared *shared;
};

static struct mem_shared *shared_of(struct engine *e)
{
	return mfs_container_of(e, struct mem_engine, base)->shared;
}

int mem_shared_new(struct mem_shared **ret)
{
	struct mem_shared *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->map = mem_map_new();
	if (!s->map) {
		free(s);
		return -ENOMEM;
	}
	pthread_mutex_init(&s->lock.m, NULL);
	s->next_ino = MFS_FIRST_INO;
	*ret = s;
	return 0;
}

void mem_shared_free(struct mem_shared *s)
{
	if (!s)
		return;
	mem_map_free(s->map);
	pthread_mutex_destroy(&s->lock.m);
	free(s);
}

static void mem_free(struct engine *e)
{
	free(mfs_container_of(e, struct mem_engine, base));
}

/* Values. */

#define DEFINE_VALUE(type, record, copy_fn, release_fn)                  \
	static void type##_value_free(void *p)                           \
	{                                                                \
		release_fn(p);                                           \
		free(p);                                                 \
	}                                                                \
	static int type##_value_new(const record *from, record **ret)    \
	{                                                                \
		record *v = calloc(1, sizeof(*v));                       \
		int r = v ? copy_fn(from, v) : -ENOMEM;                  \
                                                                         \
		if (r < 0) {                                             \
			free(v);                                         \
			return r;                                        \
		}                                                        \
		*ret = v;                                                \
		return 0;                                                \
	}                                                                \
	static int put_##type(struct mem_map *m, const struct mem_key *k, record *v) \
	{                                                                \
		int r = mem_map_put(m, k, v, type##_value_free);         \
                                                                         \
		if (r < 0)                                               \
			type##_value_free(v);                            \
		return r;                                                \
	}                                                                \
	struct mfs_semicolon_

static void alias_release(struct alias *a)
{
	(void)a;
}

static int alias_copy(const struct alias *a, struct alias *ret)
{
	*ret = *a;
	return 0;
}

DEFINE_VALUE(node, struct node, node_copy, node_release);
DEFINE_VALUE(alias, struct alias, alias_copy, alias_release);
DEFINE_VALUE(version, struct version_record, version_record_copy, version_record_release);
DEFINE_VALUE(dropped, struct dropped_record, dropped_record_copy, dropped_record_release);
DEFINE_VALUE(job, struct job_record, job_record_copy, job_record_release);
DEFINE_VALUE(session, struct session_record, session_record_copy, session_record_release);

/* Keys. */

static void key_u64(struct mem_key *k, char kind, uint64_t a)
{
	mem_key_start(k, kind);
	mem_key_u64(k, a);
}

static void key_u64_2(struct mem_key *k, char kind, uint64_t a, uint64_t b)
{
	key_u64(k, kind, a);
	mem_key_u64(k, b);
}

static int key_name(struct mem_key *k, mfs_ino_t parent, const struct mfs_name *name)
{
	key_u64(k, 'N', parent);
	/* With the NUL: no name is a prefix of another. */
	return mem_key_bytes(k, name->bytes, (size_t)name->len + 1);
}

/* Reads. */

static const struct node *find_node(const struct mem_shared *s, mfs_ino_t ino)
{
	struct mem_key k;

	key_u64(&k, 'F', ino);
	return mem_map_get(s->map, &k, NULL);
}

static const struct node *find_file(const struct mem_shared *s, mfs_ino_t ino)
{
	const struct node *n = find_node(s, ino);

	return n && !(n->attr.flags & ATTR_IN_TRASH) ? n : NULL;
}

static const struct alias *find_alias(const struct mem_shared *s, uint64_t id)
{
	struct mem_key k;

	key_u64(&k, 'A', id);
	return mem_map_get(s->map, &k, NULL);
}

/* The id under which the name is, of a file or an alias; 0: none. */
static uint64_t find_name(const struct mem_shared *s, mfs_ino_t parent, const struct mfs_name *name)
{
	const struct mem_item *i;
	struct mem_key k;

	if (key_name(&k, parent, name) < 0)
		return 0;
	i = mem_map_seek(s->map, &k);
	return mem_item_has_prefix(i, &k) ? mem_item_u64(i, k.len) : 0;
}

static int mem_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	struct mem_shared *s = shared_of(e);
	const struct node *n;
	MFS_GUARD(&s->lock);

	(void)op;
	n = find_node(s, ino);
	return n ? node_copy(n, ret) : -ESTALE;
}

static int mem_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
		      struct entry *ret)
{
	struct mem_shared *s = shared_of(e);
	const struct alias *a;
	const struct node *n;
	uint64_t id;
	MFS_GUARD(&s->lock);

	(void)op;
	id = find_name(s, parent, name);
	if (!id)
		return -ENOENT;
	a = find_alias(s, id);
	n = find_file(s, a ? a->target : id);
	if (!n)
		return -EIO; /* an alias without its file: alias_write_ok() should not have let it happen */
	*ret = (struct entry){ .id = id, .parent = parent, .name = *name, .pos = a ? a->id : n->pos };
	return node_copy(n, &ret->node);
}

static int list_add(const struct mem_shared *s, uint64_t pos, uint64_t id, struct node_list *ret)
{
	const struct alias *a = find_alias(s, id);
	const struct node *n = find_file(s, a ? a->target : id);
	struct node *out;

	if (!n)
		return -EIO;
	out = node_list_add(ret);
	if (!out)
		return -ENOMEM;
	out->attr = n->attr;
	out->parent = a ? a->parent : n->parent;
	out->name = a ? a->name : n->name;
	out->pos = pos;
	out->partial = true;
	return 0;
}

static int mem_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		    struct node_list *ret)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix, from;
	MFS_GUARD(&s->lock);

	(void)op;
	if (after == UINT64_MAX)
		return 0;
	key_u64(&prefix, 'P', parent);
	key_u64_2(&from, 'P', parent, after + 1);
	for (const struct mem_item *i = mem_map_seek(s->map, &from); limit && mem_item_has_prefix(i, &prefix);
	     i = mem_item_next(i), limit--) {
		int r = list_add(s, mem_item_u64(i, 9), mem_item_u64(i, 17), ret);

		if (r < 0)
			return r;
	}
	return 0;
}

static int mem_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix;
	int n = 0;
	MFS_GUARD(&s->lock);

	(void)op;
	key_u64(&prefix, 'L', target);
	for (const struct mem_item *i = mem_map_seek(s->map, &prefix); mem_item_has_prefix(i, &prefix);
	     i = mem_item_next(i), n++)
		if ((size_t)n < max)
			ret[n] = *find_alias(s, mem_item_u64(i, 9));
	return n;
}

static bool string_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool query_matches(const struct query *q, const struct node *n)
{
	if (q->trash != !!(n->attr.flags & ATTR_IN_TRASH))
		return false;
	if (q->key && !(string_equal(q->key, n->ref.key) && string_equal(q->key_bucket, n->ref.bucket)))
		return false;
	if (q->labelled && !(n->attr.flags & ATTR_HAS_LABEL))
		return false;
	return !q->todo || n->todo;
}

static int mem_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret)
{
	struct mem_shared *s = shared_of(e);
	size_t left = q->limit;
	struct mem_key prefix, from;
	MFS_GUARD(&s->lock);

	(void)op;
	if (q->after == UINT64_MAX)
		return 0;
	mem_key_start(&prefix, 'F');
	key_u64(&from, 'F', q->after + 1);
	for (const struct mem_item *i = mem_map_seek(s->map, &from); left && mem_item_has_prefix(i, &prefix);
	     i = mem_item_next(i)) {
		const struct node *n = mem_item_value(i);
		struct node *out;
		int r;

		if (!query_matches(q, n))
			continue;
		out = node_list_add(ret);
		r = out ? node_copy(n, out) : -ENOMEM;
		if (r < 0)
			return r;
		left--;
	}
	return 0;
}

/* Writes: each runs with the lock held, inside the map's transaction. */

static int put_index(struct mem_map *m, const struct mem_key *k)
{
	return mem_map_put(m, k, NULL, NULL);
}

/* Enter or leave the name index and the listing. */
static int name_put(struct mem_shared *s, mfs_ino_t parent, const struct mfs_name *name, uint64_t pos, uint64_t id)
{
	struct mem_key k;
	int r;

	if (parent == 0)
		return 0;
	if (find_name(s, parent, name))
		return -EEXIST;
	r = key_name(&k, parent, name);
	if (r < 0)
		return r;
	mem_key_u64(&k, id);
	r = put_index(s->map, &k);
	if (r < 0)
		return r;
	key_u64_2(&k, 'P', parent, pos);
	mem_key_u64(&k, id);
	return put_index(s->map, &k);
}

static int name_remove(struct mem_shared *s, mfs_ino_t parent, const struct mfs_name *name, uint64_t pos, uint64_t id)
{
	struct mem_key k;
	int r;

	if (parent == 0)
		return 0;
	r = key_name(&k, parent, name);
	if (r < 0)
		return r;
	mem_key_u64(&k, id);
	r = mem_map_remove(s->map, &k);
	if (r < 0)
		return r;
	key_u64_2(&k, 'P', parent, pos);
	mem_key_u64(&k, id);
	return mem_map_remove(s->map, &k);
}

static void put_ret_attr(struct mfs_attr *ret, const struct node *n)
{
	if (ret)
		*ret = n->attr;
}

static int store_node(struct mem_shared *s, struct node *n)
{
	struct mem_key k;

	key_u64(&k, 'F', n->attr.ino);
	return put_node(s->map, &k, n);
}

static int write_insert(struct mem_shared *s, const struct write *w)
{
	struct node *n = NULL;
	int r;

	if (find_node(s, w->ino) || find_alias(s, w->ino))
		return -EEXIST;
	r = name_put(s, w->node->parent, &w->node->name, w->node->pos, w->ino);
	if (r < 0)
		return r;
	r = node_value_new(w->node, &n);
	if (r < 0)
		return r;
	node_derive(n);
	put_ret_attr(w->ret_attr, n);
	return store_node(s, n);
}

/* EDIT, RENAME, TRASH, UNTRASH: load, check, copy, edit, put back. */
static int write_edit(struct mem_shared *s, const struct write *w)
{
	const struct node *old = w->kind == WRITE_EDIT || w->kind == WRITE_UNTRASH ? find_node(s, w->ino) :
											find_file(s, w->ino);
	bool in_trash = old && (old->attr.flags & ATTR_IN_TRASH);
	struct node *n = NULL;
	int r;

	if (!old || (w->kind == WRITE_UNTRASH && !in_trash))
		return -ESTALE;
	r = change_check(w, old, in_trash);
	if (r < 0)
		return r;
	r = node_value_new(old, &n);
	if (r < 0)
		return r;
	r = change_edit(w, n);
	if (r == 0 && w->kind != WRITE_EDIT) {
		r = name_remove(s, old->parent, &old->name, old->pos, w->ino);
		if (r == 0)
			r = name_put(s, n->parent, &n->name, n->pos, w->ino);
	}
	if (r < 0) {
		node_value_free(n);
		return r;
	}
	put_ret_attr(w->ret_attr, n);
	return store_node(s, n);
}

static int write_delete(struct mem_shared *s, const struct write *w)
{
	const struct node *n = find_node(s, w->ino);
	bool in_trash = n && (n->attr.flags & ATTR_IN_TRASH);
	struct mem_key k;
	int r;

	if (!n || in_trash != (w->kind == WRITE_PURGE))
		return -ESTALE;
	r = change_check(w, n, in_trash);
	if (r == 0)
		r = name_remove(s, n->parent, &n->name, n->pos, w->ino);
	if (r < 0)
		return r;
	key_u64(&k, 'F', w->ino);
	return mem_map_remove(s->map, &k);
}

static int alias_put(struct mem_shared *s, const struct alias *a)
{
	struct alias *v = NULL;
	struct mem_key k;
	int r = name_put(s, a->parent, &a->name, a->id, a->id);

	if (r == 0)
		r = alias_value_new(a, &v);
	if (r < 0)
		return r;
	key_u64(&k, 'A', a->id);
	r = put_alias(s->map, &k, v);
	if (r < 0)
		return r;
	key_u64_2(&k, 'L', a->target, a->id);
	return put_index(s->map, &k);
}

static int alias_remove(struct mem_shared *s, const struct alias *a)
{
	struct alias old = *a;
	struct mem_key k;
	int r = name_remove(s, old.parent, &old.name, old.id, old.id);

	if (r < 0)
		return r;
	key_u64(&k, 'A', old.id);
	r = mem_map_remove(s->map, &k);
	if (r < 0)
		return r;
	key_u64_2(&k, 'L', old.target, old.id);
	return mem_map_remove(s->map, &k);
}

static int write_alias(struct mem_shared *s, const struct write *w)
{
	const struct alias *old = find_alias(s, w->ino);
	struct alias renamed;
	int r;

	if (w->kind == WRITE_ALIAS_INSERT) {
		if (old || find_node(s, w->ino))
			return -EEXIST;
		return find_file(s, w->alias->target) ? alias_put(s, w->alias) : -ESTALE;
	}
	if (!old)
		return -ESTALE;
	if ((w->expect.flags & EXPECT_NAME) &&
	    !(old->parent == w->expect.parent && mfs_name_equal(&old->name, w->expect.name)))
		return -EAGAIN;
	renamed = *old;
	r = alias_remove(s, old);
	if (r < 0 || w->kind == WRITE_ALIAS_DELETE)
		return r;
	renamed.parent = w->alias->parent;
	renamed.name = w->alias->name;
	return alias_put(s, &renamed);
}

static int ignore_absent(int r)
{
	return r == -ENOENT ? 0 : r;
}

static int write_version(struct mem_shared *s, const struct write *w)
{
	struct version_record *v = NULL;
	struct mem_key k;
	int r;

	key_u64_2(&k, 'V', w->version->ino, w->version->data);
	if (w->kind == WRITE_VERSION_DELETE)
		return ignore_absent(mem_map_remove(s->map, &k));
	r = version_value_new(w->version, &v);
	return r < 0 ? r : put_version(s->map, &k, v);
}

static int write_dropped(struct mem_shared *s, const struct write *w)
{
	struct dropped_record *v = NULL;
	struct mem_key k;
	int r;

	if (w->kind == WRITE_DROPPED_DELETE) {
		key_u64(&k, 'D', w->dropped->id);
		return ignore_absent(mem_map_remove(s->map, &k));
	}
	r = dropped_value_new(w->dropped, &v);
	if (r < 0)
		return r;
	if (v->id == 0)
		v->id = s->next_ino++;
	key_u64(&k, 'D', v->id);
	return put_dropped(s->map, &k, v);
}

static int write_job(struct mem_shared *s, const struct write *w)
{
	const struct job_record *old;
	struct job_record *v = NULL;
	struct mem_key k;
	int r;

	key_u64_2(&k, 'J', w->job->kind, w->job->ino);
	if (w->job->key) {
		r = mem_key_bytes(&k, w->job->key, strlen(w->job->key));
		if (r < 0)
			return r;
	}
	old = mem_map_get(s->map, &k, NULL);
	if (w->kind == WRITE_JOB_DELETE)
		return old && old->token == w->job->token ? mem_map_remove(s->map, &k) : 0;
	r = job_value_new(w->job, &v);
	if (r < 0)
		return r;
	if (old)
		v->due = MFS_MIN(v->due, old->due);
	v->token = ++s->next_token;
	return put_job(s->map, &k, v);
}

/* A session that ends takes its memory of change ids with it. */
static int forget_ops(struct mem_shared *s, uint64_t session)
{
	struct mem_key prefix;

	key_u64(&prefix, 'O', session);
	for (;;) {
		const struct mem_item *i = mem_map_seek(s->map, &prefix);
		struct mem_key k;
		int r;

		if (!mem_item_has_prefix(i, &prefix))
			return 0;
		key_u64_2(&k, 'O', session, mem_item_u64(i, 9));
		r = mem_map_remove(s->map, &k);
		if (r < 0)
			return r;
	}
}

static int write_session(struct mem_shared *s, const struct write *w)
{
	struct session_record *v = NULL;
	struct mem_key k;
	int r;

	key_u64(&k, 'S', w->session->id);
	if (w->kind == WRITE_SESSION_DELETE) {
		r = ignore_absent(mem_map_remove(s->map, &k));
		return r < 0 ? r : forget_ops(s, w->session->id);
	}
	r = session_value_new(w->session, &v);
	return r < 0 ? r : put_session(s->map, &k, v);
}

static int write_one(struct mem_shared *s, const struct write *w)
{
	switch (w->kind) {
	case WRITE_INSERT:
		return write_insert(s, w);
	case WRITE_EDIT:
	case WRITE_RENAME:
	case WRITE_TRASH:
	case WRITE_UNTRASH:
		return write_edit(s, w);
	case WRITE_DELETE:
	case WRITE_PURGE:
		return write_delete(s, w);
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_DELETE:
	case WRITE_ALIAS_RENAME:
		return write_alias(s, w);
	case WRITE_VERSION_PUT:
	case WRITE_VERSION_DELETE:
		return write_version(s, w);
	case WRITE_DROPPED_PUT:
	case WRITE_DROPPED_DELETE:
		return write_dropped(s, w);
	case WRITE_JOB_PUT:
	case WRITE_JOB_DELETE:
		return write_job(s, w);
	case WRITE_SESSION_PUT:
	case WRITE_SESSION_DELETE:
		return write_session(s, w);
	}
	return -EINVAL;
}

static int touch_one(struct mem_shared *s, const struct touch *t)
{
	const struct node *old = find_file(s, t->dir);
	struct node *n = NULL;
	int64_t children, nlink;
	int r;

	if (!old)
		return t->flags & TOUCH_MUST_EXIST ? -ENOENT : 0;
	if ((t->flags & TOUCH_UNLESS_DYING) && old->dying)
		return -EAGAIN;
	r = node_value_new(old, &n);
	if (r < 0)
		return r;
	children = (int64_t)n->attr.children + t->child_delta;
	n->attr.children = children < 0 ? 0 : (uint32_t)children;
	nlink = (int64_t)n->attr.nlink + t->subdir_delta;
	n->attr.nlink = nlink < 1 ? 1 : (uint32_t)nlink;
	n->attr.mtime = n->attr.ctime = t->time_ns;
	n->attr.ver++;
	put_ret_attr(t->ret_attr, n);
	return store_node(s, n);
}

static int check_not_below(const struct mem_shared *s, mfs_ino_t dir, mfs_ino_t target)
{
	if (!dir)
		return 0;
	for (mfs_ino_t at = target; at != MFS_ROOT_INO;) {
		const struct node *n = find_file(s, at);

		if (at == dir)
			return -EINVAL;
		if (!n || !n->parent)
			return -ENOENT;
		at = n->parent;
	}
	return dir == MFS_ROOT_INO ? -EINVAL : 0;
}

static int check_guards(const struct mem_shared *s, const struct change *c)
{
	struct mem_key k;
	int r;

	if (c->no_child) {
		key_u64(&k, 'P', c->no_child);
		if (mem_item_has_prefix(mem_map_seek(s->map, &k), &k))
			return -ENOTEMPTY;
	}
	r = check_not_below(s, c->not_below_dir, c->not_below_target);
	return r < 0 ? r : check_not_below(s, c->not_below_dir2, c->not_below_target2);
}

/* Rule M2. 1: applied before; 0: not; -EIO: too long ago to know. */
static int ops_seen(const struct mem_shared *s, const struct change *c)
{
	const uint64_t *number;
	struct mem_key k;

	if (c->id.session == 0 || !c->retry)
		return 0;
	key_u64_2(&k, 'O', c->id.session, c->id.number % OPS_RING);
	number = mem_map_get(s->map, &k, NULL);
	if (!number || *number < c->id.number)
		return 0;
	return *number == c->id.number ? 1 : -EIO;
}

static int ops_remember(struct mem_shared *s, const struct change *c)
{
	const uint64_t *old;
	uint64_t *v;
	struct mem_key k;
	int r;

	if (c->id.session == 0)
		return 0;
	key_u64_2(&k, 'O', c->id.session, c->id.number % OPS_RING);
	old = mem_map_get(s->map, &k, NULL);
	if (old && *old > c->id.number)
		return 0;
	v = malloc(sizeof(*v));
	if (!v)
		return -ENOMEM;
	*v = c->id.number;
	r = mem_map_put(s->map, &k, v, free);
	if (r < 0)
		free(v);
	return r;
}

/* The attributes that a change applied before would have given: as they are now; all zero where the record is gone. */
static void ret_attr_again(const struct mem_shared *s, struct mfs_attr *ret, mfs_ino_t ino)
{
	const struct node *n = find_node(s, ino);

	if (ret)
		*ret = n ? n->attr : (struct mfs_attr){ .ino = ino };
}

static int apply_locked(struct mem_shared *s, const struct change *c)
{
	int r = ops_seen(s, c);

	if (r < 0)
		return r;
	if (r == 1) {
		for (unsigned int i = 0; i < c->n_writes; i++)
			ret_attr_again(s, c->writes[i].ret_attr, c->writes[i].ino);
		for (unsigned int i = 0; i < c->n_touches; i++)
			ret_attr_again(s, c->touches[i].ret_attr, c->touches[i].dir);
		return 0;
	}
	r = check_guards(s, c);
	for (unsigned int i = 0; r == 0 && i < c->n_writes; i++)
		r = write_one(s, &c->writes[i]);
	for (unsigned int i = 0; r == 0 && i < c->n_touches; i++)
		r = touch_one(s, &c->touches[i]);
	return r < 0 ? r : ops_remember(s, c);
}

static int mem_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	struct mem_shared *s = shared_of(e);
	int r;
	MFS_GUARD(&s->lock);

	(void)op;
	r = apply_locked(s, c);
	if (r < 0)
		mem_map_rollback(s->map);
	else
		mem_map_commit(s->map);
	return r;
}

static int mem_sync(struct engine *e, struct op_ctx *op)
{
	(void)e;
	(void)op;
	return 0;
}

static int mem_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	*ret_first = s->next_ino;
	s->next_ino += count;
	return 0;
}

/* Side collections. Lists are filled in the order of keys and sorted afterwards: this is the reference. */

#define FOR_EACH(i, s, prefix) \
	for (const struct mem_item *i = mem_map_seek((s)->map, (prefix)); mem_item_has_prefix(i, (prefix)); \
	     i = mem_item_next(i))

/* Of one inode the data counter decides; among the inodes that had one path over time only the clock can. */
static int newest_data_first(const void *a, const void *b)
{
	const struct version_record *x = a, *y = b;

	return (x->data < y->data) - (x->data > y->data);
}

static int newest_replaced_first(const void *a, const void *b)
{
	const struct version_record *x = a, *y = b;

	if (x->replaced != y->replaced)
		return (x->replaced < y->replaced) - (x->replaced > y->replaced);
	return newest_data_first(a, b);
}

static int versions_where(struct mem_shared *s, const char *path, mfs_ino_t ino, struct version_list *ret)
{
	size_t first = ret->n;
	struct mem_key prefix;

	mem_key_start(&prefix, 'V');
	FOR_EACH(i, s, &prefix) {
		const struct version_record *v = mem_item_value(i);
		struct version_record *out;
		int r;

		if (path ? !string_equal(v->path, path) : v->ino != ino)
			continue;
		out = version_list_add(ret);
		r = out ? version_record_copy(v, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v),
		      path ? newest_replaced_first : newest_data_first);
	return 0;
}

static int mem_versions_by_path(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return versions_where(s, path, 0, ret);
}

static int mem_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return versions_where(s, NULL, ino, ret);
}

static int mem_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit,
				struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix;
	MFS_GUARD(&s->lock);

	(void)op;
	mem_key_start(&prefix, 'V');
	FOR_EACH(i, s, &prefix) {
		const struct version_record *v = mem_item_value(i);
		struct version_record *out;
		int r;

		if (v->until > now)
			continue;
		if (limit-- == 0)
			return 0;
		out = version_list_add(ret);
		r = out ? version_record_copy(v, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

static int mem_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data,
			    size_t limit, struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix;
	MFS_GUARD(&s->lock);

	(void)op;
	mem_key_start(&prefix, 'V');
	FOR_EACH(i, s, &prefix) {
		const struct version_record *v = mem_item_value(i);
		struct version_record *out;
		int r;

		if (v->ino < after_ino || (v->ino == after_ino && v->data <= after_data))
			continue;
		if (limit-- == 0)
			return 0;
		out = version_list_add(ret);
		r = out ? version_record_copy(v, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

static int oldest_trash_first(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	if (x->trash_time != y->trash_time)
		return (x->trash_time > y->trash_time) - (x->trash_time < y->trash_time);
	return (x->attr.ino > y->attr.ino) - (x->attr.ino < y->attr.ino);
}

static int newest_trash_first(const void *a, const void *b)
{
	return oldest_trash_first(b, a);
}

/* path NULL: any. */
static int trash_where(struct mem_shared *s, const char *path, int64_t before, struct node_list *ret)
{
	size_t first = ret->n;
	struct mem_key prefix;

	mem_key_start(&prefix, 'F');
	FOR_EACH(i, s, &prefix) {
		const struct node *n = mem_item_value(i);
		struct node *out;
		int r;

		if (!(n->attr.flags & ATTR_IN_TRASH) ||
		    (path ? !string_equal(n->trash_path, path) : n->trash_time >= before))
			continue;
		out = node_list_add(ret);
		r = out ? node_copy(n, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), path ? newest_trash_first : oldest_trash_first);
	return 0;
}

static int mem_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return trash_where(s, path, 0, ret);
}

static int mem_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit, struct node_list *ret)
{
	struct mem_shared *s = shared_of(e);
	size_t keep = ret->n + limit;
	int r;
	MFS_GUARD(&s->lock);

	(void)op;
	r = trash_where(s, NULL, before, ret);
	while (ret->n > keep)
		node_release(&ret->v[--ret->n]);
	return r;
}

static int mem_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
		       struct dropped_list *ret)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix;
	MFS_GUARD(&s->lock);

	(void)op;
	mem_key_start(&prefix, 'D');
	FOR_EACH(i, s, &prefix) {
		const struct dropped_record *d = mem_item_value(i);
		struct dropped_record *out;
		int r;

		if (d->at >= before || d->id <= after_id)
			continue;
		if (limit-- == 0)
			return 0;
		out = dropped_list_add(ret);
		r = out ? dropped_record_copy(d, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

static int earliest_job_first(const void *a, const void *b)
{
	const struct job_record *x = a, *y = b;

	if (x->due != y->due)
		return (x->due > y->due) - (x->due < y->due);
	return (x->token > y->token) - (x->token < y->token);
}

static int mem_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret)
{
	struct mem_shared *s = shared_of(e);
	size_t first = ret->n;
	struct mem_key prefix;
	MFS_GUARD(&s->lock);

	(void)op;
	mem_key_start(&prefix, 'J');
	FOR_EACH(i, s, &prefix) {
		const struct job_record *j = mem_item_value(i);
		struct job_record *out;
		int r;

		if (j->due > due_before)
			continue;
		out = job_list_add(ret);
		r = out ? job_record_copy(j, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), earliest_job_first);
	while (ret->n > first + limit)
		job_record_release(&ret->v[--ret->n]);
	return 0;
}

static int mem_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix;
	uint64_t n = 0;
	MFS_GUARD(&s->lock);

	(void)op;
	mem_key_start(&prefix, 'J');
	FOR_EACH(i, s, &prefix)
		n++;
	*ret = n;
	return 0;
}

static int mem_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix;
	MFS_GUARD(&s->lock);

	(void)op;
	mem_key_start(&prefix, 'S');
	FOR_EACH(i, s, &prefix) {
		struct session_record *out = session_list_add(ret);
		int r = out ? session_record_copy(mem_item_value(i), out) : -ENOMEM;

		if (r < 0)
			return r;
	}
	return 0;
}

static int mem_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	if (!s->formatted)
		return -ENOENT;
	*ret = s->volume;
	return 0;
}

static int mem_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v)
{
	struct mem_shared *s = shared_of(e);
	struct node root = NODE_INIT;
	struct write w = { .kind = WRITE_INSERT, .ino = MFS_ROOT_INO, .node = &root };
	int r;
	MFS_GUARD(&s->lock);

	root.attr = (struct mfs_attr){ .ino = MFS_ROOT_INO, .ver = 1, .mode = 0040755, .nlink = 1 };
	root.attr.uid = op ? op->uid : 0;
	root.attr.gid = op ? op->gid : 0;
	root.attr.atime = root.attr.mtime = root.attr.ctime = root.attr.btime = mfs_now_ns();
	r = write_insert(s, &w);
	if (r < 0 && r != -EEXIST) {
		mem_map_rollback(s->map);
		return r;
	}
	mem_map_commit(s->map);
	s->volume = *v;
	s->formatted = true;
	return 0;
}

/* Every name leads to its record and every record is under its name. */
static int mem_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text), void *arg)
{
	struct mem_shared *s = shared_of(e);
	struct mem_key prefix;
	bool bad = false;

	(void)op;
	{
		MFS_GUARD(&s->lock);
		mem_key_start(&prefix, 'F');
		FOR_EACH(i, s, &prefix) {
			const struct node *n = mem_item_value(i);

			bad |= n->parent && find_name(s, n->parent, &n->name) != n->attr.ino;
		}
		mem_key_start(&prefix, 'A');
		FOR_EACH(i, s, &prefix) {
			const struct alias *a = mem_item_value(i);

			bad |= find_name(s, a->parent, &a->name) != a->id || !find_file(s, a->target);
		}
	}
	if (bad)
		report(arg, "mem: names and records do not agree");
	return 0;
}

static int mem_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes)
{
	struct mem_shared *s = shared_of(e);
	uint64_t files = 0, bytes = 0;
	struct mem_key prefix;
	MFS_GUARD(&s->lock);

	(void)op;
	mem_key_start(&prefix, 'F');
	FOR_EACH(i, s, &prefix) {
		const struct node *n = mem_item_value(i);

		if (n->attr.flags & ATTR_IN_TRASH)
			continue;
		files++;
		bytes += n->attr.size;
	}
	*ret_files = files;
	*ret_bytes = bytes;
	return 0;
}

static const struct engine_ops mem_ops = {
	.name = "mem",
	.free = mem_free,
	.get = mem_get,
	.lookup = mem_lookup,
	.list = mem_list,
	.aliases = mem_aliases,
	.query = mem_query,
	.apply = mem_apply,
	.sync = mem_sync,
	.reserve = mem_reserve,
	.versions_by_path = mem_versions_by_path,
	.versions_by_ino = mem_versions_by_ino,
	.versions_expired = mem_versions_expired,
	.versions_all = mem_versions_all,
	.trash_by_path = mem_trash_by_path,
	.trash_before = mem_trash_before,
	.dropped = mem_dropped,
	.jobs = mem_jobs,
	.jobs_count = mem_jobs_count,
	.sessions = mem_sessions,
	.volume_get = mem_volume_get,
	.volume_put = mem_volume_put,
	.check = mem_check,
	.count = mem_count,
};

int mem_engine_new(struct mem_shared *shared, struct engine **ret)
{
	struct mem_engine *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->base.ops = &mem_ops;
	e->shared = shared;
	*ret = &e->base;
	return 0;
}
