/*
 * The side collections of the mem engine: their writes, and lists of them. Lists are filled in the order of keys and
 * sorted afterwards: this is the reference.
 */
#include <errno.h>
#include <string.h>

#include "meta/mem_internal.h"
#include "meta/version_order.h"

MEM_DEFINE_VALUE(version, struct version_record, version_record_copy, version_record_release);
MEM_DEFINE_VALUE(dropped, struct dropped_record, dropped_record_copy, dropped_record_release);
MEM_DEFINE_VALUE(job, struct job_record, job_record_copy, job_record_release);
MEM_DEFINE_VALUE(slices_doc, struct slices_doc_record, slices_doc_record_copy, slices_doc_record_release);
MEM_DEFINE_VALUE(cell, struct cell_record, cell_record_copy, cell_record_release);
MEM_DEFINE_VALUE(session, struct session_record, session_record_copy, session_record_release);

static int ignore_absent(int r)
{
	return r == -ENOENT ? 0 : r;
}

static int write_version(struct mem_shared *s, const struct write *w)
{
	struct version_record *v = NULL;
	struct mem_key k;
	int r;

	mem_key_of_2(&k, 'V', w->version->ino, w->version->data);
	if (w->kind == WRITE_VERSION_DELETE)
		return ignore_absent(mem_map_remove(s->map, &k));
	r = version_value_new(w->version, &v);
	return r < 0 ? r : put_version(s->map, &k, v);
}

static int dropped_put(struct mem_shared *s, const struct dropped_record *d)
{
	struct dropped_record *v = NULL;
	struct mem_key k;
	int r = dropped_value_new(d, &v);

	if (r < 0)
		return r;
	if (v->id == 0)
		v->id = s->next_ino++;
	mem_key_of(&k, 'D', v->id);
	return put_dropped(s->map, &k, v);
}

static int write_dropped(struct mem_shared *s, const struct write *w)
{
	struct mem_key k;
	int r = 0;

	if (w->kind == WRITE_DROPPED_DELETE) {
		mem_key_of(&k, 'D', w->dropped->id);
		return ignore_absent(mem_map_remove(s->map, &k));
	}
	for (uint32_t i = 0; r == 0 && i < write_records(w); i++)
		r = dropped_put(s, &w->dropped[i]);
	return r;
}

static int slices_put(struct mem_shared *s, const struct slices_doc_record *d)
{
	struct slices_doc_record *v = NULL;
	struct mem_key k;
	int r = slices_doc_value_new(d, &v);

	if (r < 0)
		return r;
	mem_key_of_2(&k, 'B', d->ino, d->id);
	return put_slices_doc(s->map, &k, v);
}

static int write_slices(struct mem_shared *s, const struct write *w)
{
	struct mem_key k;
	int r = 0;

	if (w->kind == WRITE_SLICES_DELETE) {
		mem_key_of_2(&k, 'B', w->slices->ino, w->slices->id);
		return ignore_absent(mem_map_remove(s->map, &k));
	}
	for (uint32_t i = 0; r == 0 && i < write_records(w); i++)
		r = slices_put(s, &w->slices[i]);
	return r;
}

static int write_job(struct mem_shared *s, const struct write *w)
{
	const struct job_record *old;
	struct job_record *v = NULL;
	struct mem_key k;
	int r;

	mem_key_of_2(&k, 'J', w->job->kind, w->job->ino);
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

	mem_key_of(&prefix, 'O', session);
	for (;;) {
		const struct mem_item *i = mem_map_seek(s->map, &prefix);
		struct mem_key k;
		int r;

		if (!mem_item_has_prefix(i, &prefix))
			return 0;
		mem_key_of_2(&k, 'O', session, mem_item_u64(i, 9));
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

	mem_key_of(&k, 'S', w->session->id);
	if (w->kind == WRITE_SESSION_DELETE) {
		r = ignore_absent(mem_map_remove(s->map, &k));
		return r < 0 ? r : forget_ops(s, w->session->id);
	}
	r = session_value_new(w->session, &v);
	return r < 0 ? r : put_session(s->map, &k, v);
}

static int key_of_cell(struct mem_key *k, const char *name)
{
	mem_key_start(k, 'C');
	return mem_key_bytes(k, name, strlen(name) + 1);
}

static int write_cell(struct mem_shared *s, const struct write *w)
{
	const struct cell_record *old;
	struct cell_record *v = NULL;
	struct mem_key k;
	int r = key_of_cell(&k, w->cell->name);

	if (r < 0)
		return r;
	old = mem_map_get(s->map, &k, NULL);
	if ((w->expect.flags & EXPECT_VER) && (old ? old->token : 0) != w->expect.ver)
		return -EAGAIN;
	if (w->cell->blob.size == 0)
		return ignore_absent(mem_map_remove(s->map, &k));
	r = cell_value_new(w->cell, &v);
	return r < 0 ? r : put_cell(s->map, &k, v);
}

int mem_cell_find(struct mem_shared *s, const char *name, struct cell_record *ret)
{
	const struct cell_record *v;
	struct mem_key k;
	int r = key_of_cell(&k, name);

	if (r < 0)
		return r;
	v = mem_map_get(s->map, &k, NULL);
	return v ? cell_record_copy(v, ret) : -ENOENT;
}

int mem_cells_after(struct mem_shared *s, const char *prefix, const char *after, size_t limit, struct cell_list *ret)
{
	size_t n = 0;
	struct mem_key all;

	mem_key_start(&all, 'C');
	MEM_FOR_EACH(i, s, &all) {
		const struct cell_record *v = mem_item_value(i);
		struct cell_record *out;
		int r;

		if (strncmp(v->name, prefix, strlen(prefix)) != 0 || (after && strcmp(v->name, after) <= 0))
			continue;
		if (n++ == limit)
			break;
		out = cell_list_add(ret);
		r = out ? cell_record_copy(v, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

int mem_write_side(struct mem_shared *s, const struct write *w)
{
	switch (w->kind) {
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
	case WRITE_SLICES_PUT:
	case WRITE_SLICES_DELETE:
		return write_slices(s, w);
	case WRITE_CELL_PUT:
		return write_cell(s, w);
	default:
		return -EINVAL;
	}
}

int mem_versions_where(struct mem_shared *s, const char *path, mfs_ino_t ino, struct version_list *ret)
{
	size_t first = ret->n;
	struct mem_key prefix;

	mem_key_start(&prefix, 'V');
	MEM_FOR_EACH(i, s, &prefix) {
		const struct version_record *v = mem_item_value(i);
		struct version_record *out;
		int r;

		if (path ? !mem_string_equal(v->path, path) : v->ino != ino)
			continue;
		out = version_list_add(ret);
		r = out ? version_record_copy(v, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v),
		      path ? version_newest_replaced_first : version_newest_data_first);
	return 0;
}

int mem_versions_until(struct mem_shared *s, int64_t now, size_t limit, struct version_list *ret)
{
	struct mem_key prefix;

	mem_key_start(&prefix, 'V');
	MEM_FOR_EACH(i, s, &prefix) {
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

int mem_versions_after(struct mem_shared *s, mfs_ino_t ino, uint64_t data, size_t limit, struct version_list *ret)
{
	struct mem_key prefix;

	mem_key_start(&prefix, 'V');
	MEM_FOR_EACH(i, s, &prefix) {
		const struct version_record *v = mem_item_value(i);
		struct version_record *out;
		int r;

		if (v->ino < ino || (v->ino == ino && v->data <= data))
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
int mem_trash_where(struct mem_shared *s, const char *path, int64_t before, struct node_list *ret)
{
	size_t first = ret->n;
	struct mem_key prefix;

	mem_key_start(&prefix, 'F');
	MEM_FOR_EACH(i, s, &prefix) {
		const struct node *n = mem_item_value(i);
		struct node *out;
		int r;

		if (!(n->attr.flags & ATTR_IN_TRASH) ||
		    (path ? !mem_string_equal(n->trash_path, path) : n->trash_time >= before))
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

int mem_dropped_after(struct mem_shared *s, int64_t before, uint64_t after_id, size_t limit,
		      struct dropped_list *ret)
{
	struct mem_key prefix;

	mem_key_start(&prefix, 'D');
	MEM_FOR_EACH(i, s, &prefix) {
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

int mem_jobs_due(struct mem_shared *s, int64_t due_before, size_t limit, struct job_list *ret)
{
	size_t first = ret->n;
	struct mem_key prefix;

	mem_key_start(&prefix, 'J');
	MEM_FOR_EACH(i, s, &prefix) {
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

uint64_t mem_jobs_sum(struct mem_shared *s)
{
	struct mem_key prefix;
	uint64_t n = 0;

	mem_key_start(&prefix, 'J');
	MEM_FOR_EACH(i, s, &prefix)
		n++;
	return n;
}

int mem_slices_find(struct mem_shared *s, mfs_ino_t ino, uint64_t id, struct node_blob *ret)
{
	const struct slices_doc_record *d;
	struct mem_key k;

	mem_key_of_2(&k, 'B', ino, id);
	d = mem_map_get(s->map, &k, NULL);
	return d ? node_blob_copy(&d->blob, ret) : -ENOENT;
}

int mem_slices_after(struct mem_shared *s, mfs_ino_t ino, uint64_t id, size_t limit, struct slices_doc_list *ret)
{
	struct mem_key prefix;

	mem_key_start(&prefix, 'B');
	MEM_FOR_EACH(i, s, &prefix) {
		const struct slices_doc_record *d = mem_item_value(i);
		struct slices_doc_record *out;
		int r;

		if (d->ino < ino || (d->ino == ino && d->id <= id))
			continue;
		if (limit-- == 0)
			return 0;
		out = slices_doc_list_add(ret);
		r = out ? slices_doc_record_copy(d, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

static bool has_todo(const struct node *n)
{
	return n->todo && !(n->attr.flags & ATTR_IN_TRASH);
}

static int earliest_todo_first(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	if (x->todo != y->todo)
		return (x->todo > y->todo) - (x->todo < y->todo);
	return (x->attr.ino > y->attr.ino) - (x->attr.ino < y->attr.ino);
}

int mem_todo_before(struct mem_shared *s, int64_t before, size_t limit, struct node_list *ret)
{
	size_t first = ret->n;
	struct mem_key prefix;

	mem_key_start(&prefix, 'F');
	MEM_FOR_EACH(i, s, &prefix) {
		const struct node *n = mem_item_value(i);
		struct node *out;
		int r;

		if (!has_todo(n) || n->todo > before)
			continue;
		out = node_list_add(ret);
		r = out ? node_copy(n, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), earliest_todo_first);
	while (ret->n > first + limit)
		node_release(&ret->v[--ret->n]);
	return 0;
}

void mem_todo_sum(struct mem_shared *s, uint64_t *ret_records, uint64_t *ret_inline_bytes)
{
	struct mem_key prefix;

	*ret_records = *ret_inline_bytes = 0;
	mem_key_start(&prefix, 'F');
	MEM_FOR_EACH(i, s, &prefix) {
		const struct node *n = mem_item_value(i);

		if (!has_todo(n))
			continue;
		++*ret_records;
		*ret_inline_bytes += n->inline_data.size;
	}
}

int mem_sessions_all(struct mem_shared *s, struct session_list *ret)
{
	struct mem_key prefix;

	mem_key_start(&prefix, 'S');
	MEM_FOR_EACH(i, s, &prefix) {
		struct session_record *out = session_list_add(ret);
		int r = out ? session_record_copy(mem_item_value(i), out) : -ENOMEM;

		if (r < 0)
			return r;
	}
	return 0;
}
