/* Searches of the mem engine: it looks at every record. The reference that indexes are compared with. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/mem_internal.h"
#include "meta/tags.h"

int mem_find_term(struct mem_shared *s, const struct expr_term *t, mfs_ino_t after, size_t limit, struct node_list *ret)
{
	struct expr_term copy = *t;
	struct expr one = { .terms = &copy, .n = 1 };
	struct mem_key prefix, from;

	mem_key_start(&prefix, 'F');
	mem_key_of(&from, 'F', after + 1);
	for (const struct mem_item *i = mem_map_seek(s->map, &from); limit && mem_item_has_prefix(i, &prefix); i = mem_item_next(i)) {
		const struct node *n = mem_item_value(i);
		struct node *out;
		int r;

		if ((n->attr.flags & ATTR_IN_TRASH) || !expr_matches(&one, &(struct expr_subject){ .node = n }))
			continue;
		out = node_list_add(ret);
		r = out ? node_copy(n, out) : -ENOMEM;
		if (r < 0)
			return r;
		node_drop_content(out);
		limit--;
	}
	return 0;
}

struct names {
	const char *of; /* NULL: names of tags, else values of this one */
	const void *after;
	size_t after_len;
	struct blob_list found;
};

static int order_of(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int order = memcmp(a, b, MFS_MIN(a_len, b_len));

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int order_of_blobs(const void *a, const void *b)
{
	const struct node_blob *x = a, *y = b;

	return order_of(x->data, x->size, y->data, y->size);
}

static int note_name(void *arg, const struct tag *t)
{
	struct names *k = arg;
	const void *bytes = k->of ? t->value : t->name;
	size_t size = k->of ? MFS_MIN(t->size, (size_t)TAG_VALUE_INDEXED) : t->name_len;

	if (k->of && (t->bare || strlen(k->of) != t->name_len || memcmp(k->of, t->name, t->name_len) != 0))
		return 0;
	if (k->after && order_of(bytes, size, k->after, k->after_len) <= 0)
		return 0;
	return blob_list_add(&k->found, bytes, size);
}

int mem_names_of_tags(struct mem_shared *s, const char *name, const void *after, size_t after_len, size_t limit,
		      struct blob_list *ret)
{
	struct names k = { .of = name, .after = after, .after_len = after_len };
	struct mem_key prefix;
	int r = 0;

	mem_key_start(&prefix, 'F');
	MEM_FOR_EACH(i, s, &prefix) {
		const struct node *n = mem_item_value(i);

		if (!(n->attr.flags & ATTR_IN_TRASH))
			r = node_each_tag(n, note_name, &k);
		if (r < 0)
			break;
	}
	if (k.found.n)
		qsort(k.found.v, k.found.n, sizeof(*k.found.v), order_of_blobs);
	for (size_t i = 0; r == 0 && i < k.found.n && limit; i++) {
		if (i && order_of_blobs(&k.found.v[i - 1], &k.found.v[i]) == 0)
			continue;
		r = blob_list_add(ret, k.found.v[i].data, k.found.v[i].size);
		limit--;
	}
	blob_list_release(&k.found);
	return r;
}
