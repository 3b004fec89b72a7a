/* The user.* extended attributes of a record as tags. */
#include "meta/tags.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"

#define PREFIX	   "user."
#define PREFIX_LEN (sizeof(PREFIX) - 1)

bool tag_is_xattr(const char *name)
{
	return strncmp(name, PREFIX, PREFIX_LEN) == 0 && name[PREFIX_LEN] && strcmp(name, "user.DOSATTRIB") != 0 &&
	       strncmp(name, "user.DosStream.", sizeof("user.DosStream.") - 1) != 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int each_bare(const struct node_xattr *x, int (*fn)(void *arg, const struct tag *t), void *arg)
{
	const char *at = x->value, *end = at + x->size;
	int r = 0;

	while (r == 0 && at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		const char *stop = comma ? comma : end;
		const char *from = at;

		while (from < stop && is_blank(*from))
			from++;
		while (stop > from && (is_blank(stop[-1]) || stop[-1] == '\0'))
			stop--;
		if (stop > from)
			r = fn(arg, &(struct tag){ .name = from, .name_len = (size_t)(stop - from), .value = "", .bare = true });
		at = comma ? comma + 1 : end;
	}
	return r;
}

int node_each_tag(const struct node *n, int (*fn)(void *arg, const struct tag *t), void *arg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->n_xattrs; i++) {
		const struct node_xattr *x = &n->xattrs[i];

		if (!tag_is_xattr(x->name))
			continue;
		if (strcmp(x->name, TAG_BARE_LIST) == 0)
			r = each_bare(x, fn, arg);
		else
			r = fn(arg, &(struct tag){ .name = x->name + PREFIX_LEN, .name_len = strlen(x->name + PREFIX_LEN),
						   .value = x->value, .size = x->size });
	}
	return r;
}

uint64_t tag_name_number(const void *name, size_t len)
{
	return mfs_hash_u64(mfs_hash64(name, len) + 1);
}

uint64_t tag_value_number(const void *name, size_t len, const void *value, size_t size)
{
	return mfs_hash_u64(tag_name_number(name, len) ^ mfs_hash64(value, MFS_MIN(size, (size_t)TAG_VALUE_INDEXED)));
}

static void add_number(struct tag_set *s, uint64_t number)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i] == number)
			return;
	if (s->n == TAG_SET_MAX)
		s->all = true;
	else
		s->v[s->n++] = number;
}

void tag_set_add(struct tag_set *s, const struct tag *t)
{
	add_number(s, tag_name_number(t->name, t->name_len));
	if (!t->bare)
		add_number(s, tag_value_number(t->name, t->name_len, t->value, t->size));
}

static int add_tag(void *arg, const struct tag *t)
{
	struct tag_set *s = arg;

	tag_set_add(s, t);
	return s->all;
}

void tag_set_add_node(struct tag_set *s, const struct node *n)
{
	(void)node_each_tag(n, add_tag, s);
}

/* Decimal only: what strtod takes besides (hexadecimal, inf, nan, leading blanks) is not what people write as a number. */
bool tag_number(const void *value, size_t size, double *ret)
{
	char text[64], *end;
	double v;

	if (size == 0 || size >= sizeof(text))
		return false;
	memcpy(text, value, size);
	text[size] = '\0';
	if (strspn(text, "0123456789+-.eE") != size)
		return false;
	v = strtod(text, &end);
	if (end != text + size || !isfinite(v))
		return false;
	*ret = v;
	return true;
}
