/*
 * The mem engine: the reference that other engines are compared with, and the index of tests. One lock, one ordered
 * map, every value immutable: an edit copies the record, edits the copy and puts it back, so a change that fails is
 * taken back by the map's undo log. The keys of the map are in mem_internal.h; mem_write.c writes records, mem_side.c has
 * the side collections.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "meta/mem_internal.h"

struct mem_engine {
	struct engine base;
	struct mem_shared *shared;
	bool is_snapshot; /* shared is its own, and it is not written to */
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
	pthread_mutex_init(&s->watch_lock.m, NULL);
	s->epoch = 1;
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
	pthread_mutex_destroy(&s->watch_lock.m);
	free(s);
}

static void mem_free(struct engine *e)
{
	struct mem_engine *m = mfs_container_of(e, struct mem_engine, base);

	if (!m->is_snapshot)
		mem_news_watch(m->shared, e, NULL, NULL);
	if (m->is_snapshot)
		mem_shared_free(m->shared);
	free(m);
}

static bool is_snapshot(struct engine *e)
{
	return mfs_container_of(e, struct mem_engine, base)->is_snapshot;
}

int mem_key_name(struct mem_key *k, mfs_ino_t parent, const struct mfs_name *name)
{
	mem_key_of(k, 'N', parent);
	/* With the NUL: no name is a prefix of another. */
	return mem_key_bytes(k, name->bytes, (size_t)name->len + 1);
}
/* Reads. */

const struct node *mem_find_node(const struct mem_shared *s, mfs_ino_t ino)
{
	struct mem_key k;

	mem_key_of(&k, 'F', ino);
	return mem_map_get(s->map, &k, NULL);
}

const struct node *mem_find_file(const struct mem_shared *s, mfs_ino_t ino)
{
	const struct node *n = mem_find_node(s, ino);

	return n && !(n->attr.flags & ATTR_IN_TRASH) ? n : NULL;
}

const struct alias *mem_find_alias(const struct mem_shared *s, uint64_t id)
{
	struct mem_key k;

	mem_key_of(&k, 'A', id);
	return mem_map_get(s->map, &k, NULL);
}

/* The id under which the name is, of a file or an alias; 0: none. */
uint64_t mem_find_name(const struct mem_shared *s, mfs_ino_t parent, const struct mfs_name *name)
{
	const struct mem_item *i;
	struct mem_key k;

	if (mem_key_name(&k, parent, name) < 0)
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
	n = mem_find_node(s, ino);
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
	id = mem_find_name(s, parent, name);
	if (!id)
		return -ENOENT;
	a = mem_find_alias(s, id);
	n = mem_find_file(s, a ? a->target : id);
	if (!n)
		return -EIO; /* an alias without its file: alias_write_ok() should not have let it happen */
	*ret = (struct entry){ .id = id, .parent = parent, .name = *name, .pos = a ? a->id : n->pos };
	return node_copy(n, &ret->node);
}

static int list_add(const struct mem_shared *s, uint64_t pos, uint64_t id, struct node_list *ret)
{
	const struct alias *a = mem_find_alias(s, id);
	const struct node *n = mem_find_file(s, a ? a->target : id);
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
	mem_key_of(&prefix, 'P', parent);
	mem_key_of_2(&from, 'P', parent, after + 1);
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
	mem_key_of(&prefix, 'L', target);
	for (const struct mem_item *i = mem_map_seek(s->map, &prefix); mem_item_has_prefix(i, &prefix);
	     i = mem_item_next(i), n++)
		if ((size_t)n < max)
			ret[n] = *mem_find_alias(s, mem_item_u64(i, 9));
	return n;
}

bool mem_string_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool query_matches(const struct query *q, const struct node *n)
{
	if (q->trash != !!(n->attr.flags & ATTR_IN_TRASH))
		return false;
	if (q->key && !(mem_string_equal(q->key, n->ref.key) && mem_string_equal(q->key_bucket, n->ref.bucket)))
		return false;
	if (q->acl && !(n->attr.flags & (ATTR_HAS_ACL | ATTR_HAS_DEFAULT_ACL)))
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
	if (q->todo_before)
		return mem_todo_before(s, q->todo_before, q->limit, ret);
	if (q->after == UINT64_MAX)
		return 0;
	mem_key_start(&prefix, 'F');
	mem_key_of(&from, 'F', q->after + 1);
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

static int mem_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		    struct node_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_find_term(s, t, after, limit, ret);
}

static int mem_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
			 size_t limit, struct blob_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_names_of_tags(s, name, after, after_len, limit, ret);
}

static int mem_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	struct mem_shared *s = shared_of(e);
	int r;
	MFS_GUARD(&s->watch_lock);

	(void)op;
	if (is_snapshot(e))
		return -EROFS;
	{
		MFS_GUARD(&s->lock);
		r = mem_write_change(s, c);
		if (r < 0)
			mem_map_rollback(s->map);
		else
			mem_map_commit(s->map);
	}
	if (r == 0)
		mem_news_tell(s, c);
	return r;
}

static int mem_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_cell_find(s, name, ret);
}

static int mem_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
		     struct cell_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_cells_after(s, prefix, after, limit, ret);
}

static int mem_watch(struct engine *e, engine_news_fn fn, void *arg)
{
	return mem_news_watch(shared_of(e), e, fn, arg);
}

static int64_t mem_last_beat(struct engine *e)
{
	return mem_news_last_beat(shared_of(e), e);
}

static int mem_epoch(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32])
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	s->epoch += begin;
	*ret = s->epoch;
	memset(secret, 0x5a, 32); /* the reference keeps no secrets */
	return 0;
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
	if (is_snapshot(e))
		return -EROFS;
	*ret_first = s->next_ino;
	s->next_ino += count;
	return 0;
}
/* Side collections. */

static int mem_versions_by_path(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_versions_where(s, path, 0, ret);
}

static int mem_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_versions_where(s, NULL, ino, ret);
}

static int mem_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit,
				struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_versions_until(s, now, limit, ret);
}

static int mem_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data,
			    size_t limit, struct version_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_versions_after(s, after_ino, after_data, limit, ret);
}

static int mem_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_trash_where(s, path, 0, ret);
}

static int mem_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit, struct node_list *ret)
{
	struct mem_shared *s = shared_of(e);
	size_t keep = ret->n + limit;
	int r;
	MFS_GUARD(&s->lock);

	(void)op;
	r = mem_trash_where(s, NULL, before, ret);
	while (ret->n > keep)
		node_release(&ret->v[--ret->n]);
	return r;
}

static int mem_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
		       struct dropped_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_dropped_after(s, before, after_id, limit, ret);
}

static int mem_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_jobs_due(s, due_before, limit, ret);
}

static int mem_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	*ret = mem_jobs_sum(s);
	return 0;
}

static int mem_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_sessions_all(s, ret);
}

static int mem_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_slices_find(s, ino, id, ret);
}

static int mem_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
			  struct slices_doc_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_slices_after(s, after_ino, after_id, limit, ret);
}

static int mem_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	mem_todo_sum(s, ret_records, ret_inline_bytes);
	return 0;
}

static int mem_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret)
{
	struct mem_shared *copy = NULL;
	int r;

	(void)op;
	{
		struct mem_shared *s = shared_of(e);
		MFS_GUARD(&s->lock);

		r = mem_shared_copy(s, &copy);
	}
	if (r < 0)
		return r;
	r = mem_engine_new(copy, ret);
	if (r < 0)
		mem_shared_free(copy);
	else
		mfs_container_of(*ret, struct mem_engine, base)->is_snapshot = true;
	return r;
}

static int mem_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	*ret = s->next_ino;
	return 0;
}

static int mem_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret, size_t max)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_aliases_after(s, after_id, ret, max);
}

static int mem_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
			 struct job_list *ret)
{
	struct mem_shared *s = shared_of(e);
	MFS_GUARD(&s->lock);

	(void)op;
	return mem_jobs_at(s, from, limit, ret);
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
	r = mem_write_insert(s, &w);
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
		MEM_FOR_EACH(i, s, &prefix) {
			const struct node *n = mem_item_value(i);

			bad |= n->parent && mem_find_name(s, n->parent, &n->name) != n->attr.ino;
		}
		mem_key_start(&prefix, 'A');
		MEM_FOR_EACH(i, s, &prefix) {
			const struct alias *a = mem_item_value(i);

			bad |= mem_find_name(s, a->parent, &a->name) != a->id || !mem_find_file(s, a->target);
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
	MEM_FOR_EACH(i, s, &prefix) {
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
	.caps = ENGINE_NEWS,
	.free = mem_free,
	.get = mem_get,
	.lookup = mem_lookup,
	.list = mem_list,
	.aliases = mem_aliases,
	.query = mem_query,
	.indexes = UINT32_MAX & ~(1u << FIELD_NAME | 1u << FIELD_PATH),
	.find = mem_find,
	.tag_names = mem_tag_names,
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
	.slices_get = mem_slices_get,
	.slices_all = mem_slices_all,
	.todo_count = mem_todo_count,
	.snapshot = mem_snapshot,
	.next_number = mem_next_number,
	.aliases_all = mem_aliases_all,
	.jobs_from = mem_jobs_from,
	.cell_get = mem_cell_get,
	.cells = mem_cells,
	.watch = mem_watch,
	.last_beat = mem_last_beat,
	.epoch = mem_epoch,
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
