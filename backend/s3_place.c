/*
 * Placement: which bucket, prefix and storage class a key has, by the longest rule that its path begins with.
 *
 * It is a pure function of the key, so a reference needs not name its bucket; what changes its place by a rename is copied there,
 * as after any rename. What is massfs's own (.massfs/...) is at the volume's place. The rules are the volume's from its
 * format on (fs/volume_store.c): under others the index would look in the wrong places.
 */
#include <errno.h>
#include <string.h>

#include "backend/s3_internal.h"
#include "common/conf.h"
#include "common/str.h"

void s3_places_release(struct s3_store *s)
{
	for (unsigned int i = 0; i < s->n_places; i++) {
		free(s->places[i].path);
		free(s->places[i].bucket);
		free(s->places[i].prefix);
		free(s->places[i].storage_class);
	}
	s->n_places = 0;
}

static int copy_text(char **to, const char *text, size_t len)
{
	*to = strndup(text, len);
	return *to ? 0 : -ENOMEM;
}

static int add(struct s3_store *s, const char *path, const char *bucket, size_t bucket_len, const char *prefix,
	       const char *storage_class)
{
	struct s3_place *p = &s->places[s->n_places++];
	size_t len = strlen(path);
	int r;

	while (len && path[len - 1] == '/')
		len--;
	r = copy_text(&p->path, path, len);
	if (r == 0)
		r = copy_text(&p->bucket, bucket, bucket_len);
	if (r == 0)
		r = copy_text(&p->prefix, prefix, strlen(prefix));
	if (r == 0 && storage_class)
		r = copy_text(&p->storage_class, storage_class, strlen(storage_class));
	return r;
}

/* PATH BUCKET[/PREFIX] [CLASS]; BUCKET "-": the volume's place. */
static int parse_rule(struct s3_store *s, char *text, char **ret_reason)
{
	char *save = NULL, *path = strtok_r(text, " \t", &save), *where = strtok_r(NULL, " \t", &save);
	char *class = strtok_r(NULL, " \t", &save);
	const char *slash;

	if (!path)
		return 0;
	path += *path == '/';
	if (!where || strtok_r(NULL, " \t", &save) || !*path || mfs_str_starts(path, ".massfs") || strstr(path, "//"))
		return mfs_fail(ret_reason, -EINVAL, "places: a rule is PATH BUCKET[/PREFIX/] [STORAGE_CLASS], not what `%s` is", path);
	if (s->n_places == S3_PLACES_MAX)
		return mfs_fail(ret_reason, -EINVAL, "places: more than %d rules", S3_PLACES_MAX - 1);
	if (!strcmp(where, "-"))
		return add(s, path, s->bucket, strlen(s->bucket), s->prefix, class ? class : s->storage_class);
	slash = strchr(where, '/');
	return add(s, path, where, slash ? (size_t)(slash - where) : strlen(where), slash ? slash + 1 : "",
		   class ? class : s->storage_class);
}

bool s3_place_is_same(const struct s3_place *a, const struct s3_place *b)
{
	return !strcmp(a->bucket, b->bucket) && !strcmp(a->prefix, b->prefix);
}

/* Keys of one must not be taken for keys of another. */
static int check_apart(const struct s3_store *s, char **ret_reason)
{
	for (unsigned int i = 0; i < s->n_places; i++)
		for (unsigned int k = 0; k < s->n_places; k++) {
			const struct s3_place *a = &s->places[i], *b = &s->places[k];

			if (i != k && !strcmp(a->path, b->path))
				return mfs_fail(ret_reason, -EINVAL, "places: two rules for %s", a->path);
			if (!strcmp(a->bucket, b->bucket) && strcmp(a->prefix, b->prefix) != 0 && mfs_str_starts(b->prefix, a->prefix))
				return mfs_fail(ret_reason, -EINVAL, "places: in bucket %s the prefix %s is inside of %s", a->bucket,
						b->prefix, *a->prefix ? a->prefix : "the whole");
		}
	return 0;
}

int s3_places_parse(struct s3_store *s, const char *rules, char **ret_reason)
{
	MFS_AUTOFREE char *copy = strdup(rules ? rules : "");
	char *rule, *text = copy, *save = NULL;
	int r = copy ? add(s, "", s->bucket, strlen(s->bucket), s->prefix, s->storage_class) : -ENOMEM;

	for (; r == 0 && (rule = strtok_r(text, ",\n", &save)); text = NULL)
		r = parse_rule(s, rule, ret_reason);
	return r == 0 ? check_apart(s, ret_reason) : r;
}

const struct s3_place *s3_place_of(const struct s3_store *s, const char *key)
{
	const struct s3_place *best = &s->places[0];

	if (!key || !strncmp(key, ".massfs/", 8))
		return best;
	for (unsigned int i = 1; i < s->n_places; i++) {
		const struct s3_place *p = &s->places[i];
		size_t len = strlen(p->path);

		if (len > strlen(best->path) && !strncmp(key, p->path, len) && (key[len] == '/' || !key[len]))
			best = p;
	}
	return best;
}

const struct s3_place *s3_place_next(const struct s3_store *s, const struct s3_place *p)
{
	unsigned int i = p ? (unsigned int)(p - s->places) + 1 : 0;

	for (; i < s->n_places; i++) {
		bool seen = false;

		for (unsigned int k = 0; k < i; k++)
			seen |= s3_place_is_same(&s->places[k], &s->places[i]);
		if (!seen)
			return &s->places[i];
	}
	return NULL;
}
