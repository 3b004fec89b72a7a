/* The text of storage rules. Unknown fields are refused: a rule that nobody enforces must not look like one. */
#include "meta/schema.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "meta/expr.h"
#include "meta/namespace_internal.h"
#include "meta/tags.h"

#define GRACE_NS    (600 * MFS_NSEC_PER_SEC)
#define GRACE_MAX_S (366 * 86400)

static int fail(char **ret_reason, const char *what)
{
	if (ret_reason)
		*ret_reason = mfs_str_printf("%s", what);
	return -EINVAL;
}

/* A list of patterns, into `to`. */
static int take_patterns(const json_t *v, char **to, size_t *n_to, bool slashes, const char *wrong, char **ret_reason)
{
	size_t n = json_array_size(v);

	if (!json_is_array(v) || n > SCHEMA_LIST_MAX)
		return fail(ret_reason, wrong);
	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(json_array_get(v, i));

		if (!text || !*text || strlen(text) > MFS_NAME_MAX || (!slashes && strchr(text, '/')))
			return fail(ret_reason, wrong);
		to[i] = strdup(text);
		if (!to[i])
			return -ENOMEM;
		++*n_to;
	}
	return 0;
}

static int take_names(const json_t *v, struct schema *s, char **ret_reason)
{
	return take_patterns(v, s->names, &s->n_names, false,
			     "\"names\" must be a list of at most 64 patterns, each of 1 to 255 bytes without a slash", ret_reason);
}

static int take_types(const json_t *v, struct schema *s, char **ret_reason)
{
	return take_patterns(v, s->types, &s->n_types, true,
			     "\"types\" must be a list of at most 64 patterns of mime types, as \"image/*\"", ret_reason);
}

static int take_tag(const char *name, const json_t *v, struct tag_edit *to, size_t *n_to, struct node *scratch, char **ret_reason)
{
	struct tag_edit *t = &to[*n_to];
	int r;

	if (!json_is_null(v) && !json_is_string(v))
		return fail(ret_reason, "the value of a tag must be text, or null for a bare one");
	*t = (struct tag_edit){ .name = strdup(name), .value = json_is_string(v) ? strdup(json_string_value(v)) : NULL };
	++*n_to;
	if (!t->name || (json_is_string(v) && !t->value))
		return -ENOMEM;
	r = ns_tag_node(scratch, t);
	return r == 0 || r == -ENOMEM ? r : fail(ret_reason, "one of the tags can be no tag");
}

static int take_tags(json_t *v, struct tag_edit *to, size_t *n_to, char **ret_reason)
{
	struct node scratch = NODE_INIT;
	const char *name;
	json_t *value;
	int r = 0;

	if (!json_is_object(v) || json_object_size(v) > SCHEMA_LIST_MAX)
		return fail(ret_reason, "tags must be an object with at most 64 names and values");
	json_object_foreach(v, name, value)
		if (r == 0)
			r = take_tag(name, value, to, n_to, &scratch, ret_reason);
	node_release(&scratch);
	return r;
}

static int take_number(const json_t *v, json_int_t max, const char *wrong, uint64_t *ret, char **ret_reason)
{
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n <= 0 || n > max)
		return fail(ret_reason, wrong);
	*ret = (uint64_t)n;
	return 0;
}

static int take_grace(const json_t *v, struct schema *s, char **ret_reason)
{
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n < 0 || n > GRACE_MAX_S)
		return fail(ret_reason, "\"grace\" must be a number of seconds, up to a year");
	s->grace_ns = n * MFS_NSEC_PER_SEC;
	return 0;
}

static int take(json_t *o, struct schema *s, char **ret_reason)
{
	const char *key;
	json_t *v;
	int r = 0;

	json_object_foreach(o, key, v) {
		if (r < 0)
			break;
		if (strcmp(key, "names") == 0)
			r = take_names(v, s, ret_reason);
		else if (strcmp(key, "tags") == 0)
			r = take_tags(v, s->tags, &s->n_tags, ret_reason);
		else if (strcmp(key, "max_size") == 0)
			r = take_number(v, MFS_FILE_SIZE_MAX, "\"max_size\" must be a number of bytes, above 0", &s->max_size, ret_reason);
		else if (strcmp(key, "min_size") == 0)
			r = take_number(v, MFS_FILE_SIZE_MAX, "\"min_size\" must be a number of bytes, above 0", &s->min_size, ret_reason);
		else if (strcmp(key, "types") == 0)
			r = take_types(v, s, ret_reason);
		else if (strcmp(key, "demanded_tags") == 0)
			r = take_tags(v, s->demands, &s->n_demands, ret_reason);
		else if (strcmp(key, "grace") == 0)
			r = take_grace(v, s, ret_reason);
		else
			r = fail(ret_reason, "a field is none of names, tags, max_size, min_size, types, demanded_tags, grace");
	}
	if (r == 0 && s->min_size > s->max_size)
		r = fail(ret_reason, "\"min_size\" is above \"max_size\"");
	return r;
}

int schema_parse(const void *text, size_t len, struct schema *ret, char **ret_reason)
{
	json_error_t err;
	json_t *o;
	int r;

	*ret = (struct schema){ .max_size = (uint64_t)MFS_FILE_SIZE_MAX, .grace_ns = GRACE_NS };
	if (len > SCHEMA_TEXT_MAX)
		return fail(ret_reason, "storage rules have at most 16,384 bytes");
	o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
	if (json_is_object(o))
		r = take(o, ret, ret_reason);
	else
		r = fail(ret_reason, o ? "storage rules are an object" : err.text);
	json_decref(o);
	if (r < 0)
		schema_release(ret);
	return r;
}

static void release_tags(struct tag_edit *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free((char *)(uintptr_t)v[i].name);
		free((char *)(uintptr_t)v[i].value);
	}
}

void schema_release(struct schema *s)
{
	for (size_t i = 0; i < s->n_names; i++)
		free(s->names[i]);
	for (size_t i = 0; i < s->n_types; i++)
		free(s->types[i]);
	release_tags(s->tags, s->n_tags);
	release_tags(s->demands, s->n_demands);
	*s = (struct schema){ .max_size = (uint64_t)MFS_FILE_SIZE_MAX, .grace_ns = GRACE_NS };
}

bool schema_name_fits(const struct schema *s, const struct mfs_name *name)
{
	for (size_t i = 0; i < s->n_names; i++)
		if (expr_pattern_matches(s->names[i], name->bytes, name->len))
			return true;
	return s->n_names == 0;
}

bool schema_type_fits(const struct schema *s, const char *mime)
{
	for (size_t i = 0; i < s->n_types; i++)
		if (expr_pattern_matches(s->types[i], mime, strlen(mime)))
			return true;
	return s->n_types == 0;
}

static int is_demanded(void *arg, const struct tag *t)
{
	const struct tag_edit *d = arg;

	return strlen(d->name) == t->name_len && memcmp(d->name, t->name, t->name_len) == 0 &&
	       (!d->value || (!t->bare && expr_pattern_matches(d->value, t->value, t->size)));
}

const char *schema_tag_missing(const struct schema *s, const struct node *n)
{
	for (size_t i = 0; i < s->n_demands; i++)
		if (!node_each_tag(n, is_demanded, (void *)(uintptr_t)&s->demands[i]))
			return s->demands[i].name;
	return NULL;
}
