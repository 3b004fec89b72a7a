/*
 * Which objects of the index log there are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/str.h"
#include "fs/index_log_internal.h"

bool index_log_owns(const char *key)
{
	return mfs_str_starts(key, INDEX_LOG_PREFIX);
}

void log_object_key(const struct log_object *o, char key[LOG_KEY_MAX])
{
	int n = snprintf(key, LOG_KEY_MAX, INDEX_LOG_PREFIX "%08" PRIu64 "/%s-%08" PRIu64, o->epoch,
			 o->is_snapshot ? "snapshot" : "changes", o->number);

	if (o->term)
		snprintf(key + n, LOG_KEY_MAX - (size_t)n, ".%" PRIu64, o->term);
}

static bool parse_key(const char *key, struct log_object *ret)
{
	uint64_t epoch, number, term = 0;
	char kind[16], again[LOG_KEY_MAX];

	if (sscanf(key, INDEX_LOG_PREFIX "%20" SCNu64 "/%15[a-z]-%20" SCNu64 ".%20" SCNu64, &epoch, kind, &number, &term) < 3)
		return false;
	ret->epoch = epoch;
	ret->number = number;
	ret->term = term;
	ret->is_snapshot = strcmp(kind, "snapshot") == 0;
	log_object_key(ret, again);
	return epoch <= INT64_MAX && number <= INT64_MAX && term <= INT64_MAX && strcmp(key, again) == 0;
}

static int add(void *arg, const char *key, const struct object_info *info)
{
	struct log_objects *l = arg;
	struct log_object o = { .size = info->size };

	if (!info->own || info->ino != INDEX_LOG_INO || !parse_key(key, &o))
		return 0;
	memcpy(o.version, info->version, sizeof(o.version));
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct log_object *v = realloc(l->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = o;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct log_object *x = a, *y = b;

	if (x->epoch != y->epoch)
		return (x->epoch > y->epoch) - (x->epoch < y->epoch);
	if (x->is_snapshot != y->is_snapshot)
		return y->is_snapshot - x->is_snapshot;
	if (x->number != y->number)
		return (x->number > y->number) - (x->number < y->number);
	return (x->term > y->term) - (x->term < y->term);
}

int log_objects_list(struct object_store *s, struct op_ctx *op, struct log_objects *ret)
{
	int r;

	*ret = (struct log_objects){ 0 };
	r = object_list_keys(s, op, NULL, INDEX_LOG_PREFIX, add, ret);
	if (r < 0)
		log_objects_release(ret);
	else if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), compare);
	return r;
}

void log_objects_release(struct log_objects *l)
{
	free(l->v);
	*l = (struct log_objects){ 0 };
}

const struct log_object *log_objects_find_term(const struct log_objects *l, uint64_t epoch, bool is_snapshot,
					       uint64_t number, uint64_t term)
{
	const struct log_object key = { .epoch = epoch, .is_snapshot = is_snapshot, .number = number, .term = term };

	return l->n ? bsearch(&key, l->v, l->n, sizeof(*l->v), compare) : NULL;
}

const struct log_object *log_objects_find(const struct log_objects *l, uint64_t epoch, bool is_snapshot,
					  uint64_t number)
{
	const struct log_object key = { .epoch = epoch, .is_snapshot = is_snapshot, .number = number, .term = UINT64_MAX };
	size_t from = 0, to = l->n;
	const struct log_object *o;

	/* The last one that is not behind the key. */
	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (compare(&l->v[mid], &key) <= 0)
			from = mid + 1;
		else
			to = mid;
	}
	o = from ? &l->v[from - 1] : NULL;
	return o && o->epoch == epoch && o->is_snapshot == is_snapshot && o->number == number ? o : NULL;
}

int log_object_delete(struct object_store *s, struct op_ctx *op, const struct log_object *o)
{
	char key[LOG_KEY_MAX];
	struct object_ref ref = { .key = key };

	log_object_key(o, key);
	memcpy(ref.version, o->version, sizeof(ref.version));
	return object_delete_version(s, op, &ref);
}
