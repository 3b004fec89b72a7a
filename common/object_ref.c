/*
 * Copying, comparing and releasing the value that names one version of one object.
 */
#include "common/object_ref.h"

#include <errno.h>
#include <string.h>

void object_ref_release(struct object_ref *ref)
{
	free(ref->bucket);
	free(ref->key);
	*ref = (struct object_ref){ 0 };
}

int object_ref_copy(const struct object_ref *ref, struct object_ref *ret)
{
	struct object_ref copy = { .store = ref->store };

	memcpy(copy.version, ref->version, sizeof(copy.version));
	if (ref->bucket)
		copy.bucket = strdup(ref->bucket);
	if (ref->key)
		copy.key = strdup(ref->key);
	if ((ref->bucket && !copy.bucket) || (ref->key && !copy.key)) {
		object_ref_release(&copy);
		return -ENOMEM;
	}
	*ret = copy;
	return 0;
}

static bool same_string(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

bool object_ref_equal(const struct object_ref *a, const struct object_ref *b)
{
	if (object_ref_is_empty(a) || object_ref_is_empty(b))
		return object_ref_is_empty(a) == object_ref_is_empty(b);
	return a->store == b->store && same_string(a->bucket, b->bucket) && same_string(a->key, b->key) &&
	       !strcmp(a->version, b->version);
}
