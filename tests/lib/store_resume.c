/*
 * The contract suite of object stores: uploads that another process goes on with.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/store_fixture.h"

#define KEY "folder/big file"
#define LEN ((size_t)OBJECT_PART_MIN) /* of a part, but the last */

static struct object_upload *begin_named(struct object_store *s, char name[static OBJECT_UPLOAD_NAME_MAX])
{
	struct object_meta meta = store_test_meta(77);
	struct object_upload *u;

	assert_int_equal(object_upload_begin_named(s, NULL, NULL, KEY, &meta, name, &u), 0);
	assert_true(*name);
	assert_null(strpbrk(name, " \t\r\n"));
	return u;
}

static int resume(struct object_store *s, const char *name, struct object_upload **ret)
{
	struct object_meta meta = store_test_meta(77);

	return object_upload_resume(s, NULL, NULL, KEY, &meta, name, ret);
}

/* The handle is left; where the store outlives its process, the process too. */
static struct object_store *leave(void **state, struct object_upload *u)
{
	struct store_fixture *f = *state;

	object_upload_leave(u, NULL);
	if (f->kind->persists)
		store_fixture_reopen(f);
	return f->store;
}

void test_named_upload__is_gone_on_with_by_another(void **state)
{
	struct object_store *s = store_fixture_store(state);
	char name[OBJECT_UPLOAD_NAME_MAX], *buf = malloc(3 * LEN + 1000);
	struct object_info src_info, info;
	struct object_upload *u;
	struct object_ref src;

	assert_non_null(buf);
	store_test_fill(buf, 3 * LEN + 1000, 1);
	src_info = store_test_put(s, "source", buf, 2 * LEN);
	src = store_test_ref("source", src_info.version);
	u = begin_named(s, name);
	assert_false(object_upload_has_part(u, 1, 0, LEN));
	assert_int_equal(object_upload_part(u, NULL, 1, 0, buf, LEN), 0);
	s = leave(state, u);

	assert_int_equal(resume(s, name, &u), 0);
	assert_true(object_upload_has_part(u, 1, 0, LEN));
	assert_false(object_upload_has_part(u, 2, LEN, LEN));
	assert_int_equal(object_upload_part_copy(u, NULL, 2, LEN, &src, LEN, LEN), 0);
	assert_int_equal(object_upload_part(u, NULL, 3, 2 * LEN, buf + 2 * LEN, LEN), 0);
	store_expect_nothing(s, KEY);
	s = leave(state, u);

	assert_int_equal(resume(s, name, &u), 0);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(object_upload_has_part(u, i + 1, i * LEN, LEN));
	assert_false(object_upload_has_part(u, 4, 3 * LEN, 1000));
	assert_int_equal(object_upload_part(u, NULL, 4, 3 * LEN, buf + 3 * LEN, 1000), 0);
	assert_int_equal(store_complete(u, 3 * LEN + 1000, &info), 0);
	assert_int_equal(info.size, 3 * LEN + 1000);
	assert_true(info.own);
	assert_int_equal(info.op, 77);
	store_test_expect(s, KEY, info.version, buf, 3 * LEN + 1000);
	store_expect_top(s, KEY, info.version);
	assert_int_equal(resume(s, name, &u), -ENOENT);
	free(buf);
}

void test_named_upload__names_that_are_none(void **state)
{
	struct object_store *s = store_fixture_store(state);
	static const char *const names[] = { "0", "99999999", "../v", "a/b", ".", "nothing-of-that-name" };
	char name[OBJECT_UPLOAD_NAME_MAX], *long_name = malloc(OBJECT_UPLOAD_NAME_MAX + 1);
	struct object_upload *u = begin_named(s, name);

	assert_int_equal(object_upload_part(u, NULL, 1, 0, "text", 4), 0);
	object_upload_abort(u, NULL);
	assert_int_equal(resume(s, name, &u), -ENOENT);
	for (size_t i = 0; i < MFS_ARRAY_LEN(names); i++)
		assert_int_equal(resume(s, names[i], &u), -ENOENT);
	assert_non_null(long_name);
	memset(long_name, 'a', OBJECT_UPLOAD_NAME_MAX);
	long_name[OBJECT_UPLOAD_NAME_MAX] = '\0';
	assert_int_equal(resume(s, long_name, &u), -ENOENT);
	assert_int_equal(store_count_versions(s), 0);
	free(long_name);
}

struct wanted {
	const char *name;
	unsigned int asked;
};

static bool keep(void *arg, const char *key, const char *name)
{
	struct wanted *w = arg;

	w->asked++;
	if (key)
		assert_string_equal(key, KEY);
	return strcmp(name, w->name) == 0;
}

/* (A store that tells by age alone leaves a young one alone anyway: tests/contract/test_store_s3_faults.c.) */
void test_named_upload__the_sweep_asks(void **state)
{
	struct object_store *s = store_fixture_store(state);
	char name[OBJECT_UPLOAD_NAME_MAX];
	struct object_upload *u = begin_named(s, name);
	struct wanted w = { .name = name };
	struct object_info info;
	uint64_t n = 99, bytes;

	assert_int_equal(object_upload_part(u, NULL, 1, 0, "text", 4), 0);
	s = leave(state, u);
	assert_int_equal(object_sweep_but(s, NULL, true, keep, &w, &n, &bytes), 0);
	assert_int_equal(n, 0);
	assert_int_equal(resume(s, name, &u), 0);
	assert_true(object_upload_has_part(u, 1, 0, 4));
	assert_int_equal(store_complete(u, 4, &info), 0);
	store_test_expect(s, KEY, info.version, "text", 4);
}
