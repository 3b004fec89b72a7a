/*
 * Lists of the mem engine that leave nothing out, and a copy of the whole index: what a snapshot of it is.
 */
#include <errno.h>
#include <string.h>

#include "meta/mem_internal.h"

int mem_aliases_after(struct mem_shared *s, uint64_t after_id, struct alias *ret, size_t max)
{
	struct mem_key prefix, from;
	size_t n = 0;

	if (after_id == UINT64_MAX)
		return 0;
	mem_key_start(&prefix, 'A');
	mem_key_of(&from, 'A', after_id + 1);
	for (const struct mem_item *i = mem_map_seek(s->map, &from);
	     n < max && mem_item_has_prefix(i, &prefix); i = mem_item_next(i))
		ret[n++] = *(const struct alias *)mem_item_value(i);
	return (int)n;
}

static int job_order(const void *a, const void *b)
{
	const struct job_record *x = a, *y = b;
	int r = (x->kind > y->kind) - (x->kind < y->kind);

	if (r == 0)
		r = strcmp(x->key ? x->key : "", y->key ? y->key : "");
	return r ? r : (x->ino > y->ino) - (x->ino < y->ino);
}

int mem_jobs_at(struct mem_shared *s, const struct job_record *from, size_t limit, struct job_list *ret)
{
	size_t first = ret->n;
	struct mem_key prefix;

	mem_key_start(&prefix, 'J');
	MEM_FOR_EACH(i, s, &prefix)
	{
		const struct job_record *j = mem_item_value(i);
		struct job_record *out;
		int r;

		if (job_order(j, from) < 0)
			continue;
		out = job_list_add(ret);
		r = out ? job_record_copy(j, out) : -ENOMEM;
		if (r < 0)
			return r;
	}
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), job_order);
	while (ret->n > first + limit)
		job_record_release(&ret->v[--ret->n]);
	return 0;
}

/* --- a copy --- */

static int copy_alias(const struct alias *a, struct alias *ret)
{
	*ret = *a;
	return 0;
}

static int copy_number(const uint64_t *v, uint64_t *ret)
{
	*ret = *v;
	return 0;
}

static void release_nothing(void *p)
{
	(void)p;
}

MEM_DEFINE_VALUE(node, struct node, node_copy, node_release);
MEM_DEFINE_VALUE(alias, struct alias, copy_alias, release_nothing);
MEM_DEFINE_VALUE(number, uint64_t, copy_number, release_nothing);
MEM_DEFINE_VALUE(version, struct version_record, version_record_copy, version_record_release);
MEM_DEFINE_VALUE(dropped, struct dropped_record, dropped_record_copy, dropped_record_release);
MEM_DEFINE_VALUE(job, struct job_record, job_record_copy, job_record_release);
MEM_DEFINE_VALUE(session, struct session_record, session_record_copy, session_record_release);
MEM_DEFINE_VALUE(cell, struct cell_record, cell_record_copy, cell_record_release);
MEM_DEFINE_VALUE(doc, struct slices_doc_record, slices_doc_record_copy, slices_doc_record_release);

#define COPY_INTO(map, key, type, record, from)             \
	({                                                  \
		record *v_ = NULL;                          \
		int r_ = type##_value_new((from), &v_);     \
                                                            \
		r_ < 0 ? r_ : put_##type((map), (key), v_); \
	})

static int copy_item(const struct mem_item *i, struct mem_map *to)
{
	const void *v = mem_item_value(i);
	struct mem_key k;

	mem_item_key(i, &k);
	switch (k.bytes[0]) {
	case 'F':
		return COPY_INTO(to, &k, node, struct node, v);
	case 'A':
		return COPY_INTO(to, &k, alias, struct alias, v);
	case 'V':
		return COPY_INTO(to, &k, version, struct version_record, v);
	case 'D':
		return COPY_INTO(to, &k, dropped, struct dropped_record, v);
	case 'J':
		return COPY_INTO(to, &k, job, struct job_record, v);
	case 'S':
		return COPY_INTO(to, &k, session, struct session_record, v);
	case 'B':
		return COPY_INTO(to, &k, doc, struct slices_doc_record, v);
	case 'C':
		return COPY_INTO(to, &k, cell, struct cell_record, v);
	case 'O':
		return COPY_INTO(to, &k, number, uint64_t, v);
	default: /* an index: only a key */
		return v ? -EUCLEAN : mem_map_put(to, &k, NULL, NULL);
	}
}

int mem_shared_copy(struct mem_shared *s, struct mem_shared **ret)
{
	struct mem_shared *copy = NULL;
	struct mem_key all = { 0 };
	int r = mem_shared_new(&copy);

	if (r < 0)
		return r;
	for (const struct mem_item *i = mem_map_seek(s->map, &all); r == 0 && i; i = mem_item_next(i))
		r = copy_item(i, copy->map);
	mem_map_commit(copy->map);
	if (r < 0) {
		mem_shared_free(copy);
		return r;
	}
	copy->next_ino = s->next_ino;
	copy->next_token = s->next_token;
	copy->formatted = s->formatted;
	copy->volume = s->volume;
	*ret = copy;
	return 0;
}
