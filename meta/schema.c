/* The text of storage rules. Unknown fields are refused: a rule that nobody enforces must not look like one. */
#include "meta/schema.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "meta/expr.h"
#include "meta/namespace_internal.h"

static int fail(char **ret_reason, const char *what)
{
	if (ret_reason)
		*ret_reason = mfs_str_printf("%s", what);
	return -EINVAL;
}

static int take_names(const json_t *v, struct schema *s, char **ret_reason)
{
	size_t n = json_array_size(v);

	if (!json_is_array(v) || n > SCHEMA_LIST_MAX)
		return fail(ret_reason, "\"names\" must be a list of at most 64 patterns");
	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(json_array_get(v, i));

		if (!text || !*text || strlen(text) > MFS_NAME_MAX || strchr(text, '/'))
			return fail(ret_reason, "each of \"names\" must be a pattern of 1 to 255 bytes without a slash");
		s->names[i] = strdup(text);
		if (!s->names[i])
			return -ENOMEM;
		s->n_names++;
	}
	return 0;
}

static int take_tag(const char *name, const json_t *v, struct schema *s, struct node *scratch, char **ret_reason)
{
	struct tag_edit *t = &s->tags[s->n_tags];
	int r;

	if (!json_is_null(v) && !json_is_string(v))
		return fail(ret_reason, "the value of a tag must be text, or null for a bare one");
	*t = (struct tag_edit){ .name = strdup(name), .value = json_is_string(v) ? strdup(json_string_value(v)) : NULL };
	s->n_tags++;
	if (!t->name || (json_is_string(v) && !t->value))
		return -ENOMEM;
	r = ns_tag_node(scratch, t);
	return r == 0 || r == -ENOMEM ? r : fail(ret_reason, "one of \"tags\" can be no tag");
}

static int take_tags(json_t *v, struct schema *s, char **ret_reason)
{
	struct node scratch = NODE_INIT;
	const char *name;
	json_t *value;
	int r = 0;

	if (!json_is_object(v) || json_object_size(v) > SCHEMA_LIST_MAX)
		return fail(ret_reason, "\"tags\" must be an object with at most 64 names and values");
	json_object_foreach(v, name, value)
		if (r == 0)
			r = take_tag(name, value, s, &scratch, ret_reason);
	node_release(&scratch);
	return r;
}

static int take_size(const json_t *v, struct schema *s, char **ret_reason)
{
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n <= 0 || n > MFS_FILE_SIZE_MAX)
		return fail(ret_reason, "\"max_size\" must be a number of bytes, above 0");
	s->max_size = (uint64_t)n;
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
			r = take_tags(v, s, ret_reason);
		else if (strcmp(key, "max_size") == 0)
			r = take_size(v, s, ret_reason);
		else
			r = fail(ret_reason, "a field is none of \"names\", \"tags\", \"max_size\"");
	}
	return r;
}

int schema_parse(const void *text, size_t len, struct schema *ret, char **ret_reason)
{
	json_error_t err;
	json_t *o;
	int r;

	*ret = (struct schema){ .max_size = (uint64_t)MFS_FILE_SIZE_MAX };
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

void schema_release(struct schema *s)
{
	for (size_t i = 0; i < s->n_names; i++)
		free(s->names[i]);
	for (size_t i = 0; i < s->n_tags; i++) {
		free((char *)(uintptr_t)s->tags[i].name);
		free((char *)(uintptr_t)s->tags[i].value);
	}
	*s = (struct schema){ .max_size = (uint64_t)MFS_FILE_SIZE_MAX };
}

bool schema_name_fits(const struct schema *s, const struct mfs_name *name)
{
	for (size_t i = 0; i < s->n_names; i++)
		if (expr_pattern_matches(s->names[i], name->bytes, name->len))
			return true;
	return s->n_names == 0;
}
