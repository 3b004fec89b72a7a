/*
 * A scenario through the fault store, failing its 1st, 2nd, 3rd ... call: the error comes back as it is, what was
 * acknowledged before is there, what failed has left nothing, and all memory is given back (LeakSanitizer sees to it).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/defs.h"
#include "tests/lib/store_suite.h"

#define PART   (100 << 10)
#define N_KEYS 3

static const char *const keys[N_KEYS] = { "a/b", "a/c", "d" };

/* What was acknowledged. */
struct model {
	char versions[16][OBJECT_VERSION_MAX + 1];
	const char *keys[16];
	unsigned int n;
	const char *tops[N_KEYS]; /* version, or NULL */
};

static void made(struct model *m, unsigned int key, const struct object_info *info)
{
	strcpy(m->versions[m->n], info->version);
	m->keys[m->n] = keys[key];
	m->tops[key] = m->versions[m->n++];
}

static int do_put(struct object_store *s, struct model *m, unsigned int key, unsigned int op)
{
	struct object_meta meta = store_test_meta(op);
	struct object_info info;
	int r = object_put(s, NULL, NULL, keys[key], "content", 7, &meta, &info);

	if (!r)
		made(m, key, &info);
	return r;
}

static int do_upload(struct object_store *s, struct model *m, unsigned int key, const struct object_ref *src)
{
	MFS_AUTOFREE char *buf = calloc(1, PART);
	struct object_meta meta = store_test_meta(9);
	struct object_upload *u;
	struct object_info info;
	int r;

	assert_non_null(buf);
	r = object_upload_begin(s, NULL, NULL, keys[key], &meta, &u);
	if (r < 0)
		return r;
	r = object_upload_part(u, NULL, 1, 0, buf, PART);
	if (!r)
		r = object_upload_part(u, NULL, 2, PART, buf, PART);
	if (!r)
		r = object_upload_part_copy(u, NULL, 3, 2 * PART, src, 0, 7);
	if (r < 0) {
		object_upload_abort(u, NULL);
		return r;
	}
	r = object_upload_complete(u, NULL, 2 * PART + 7, &meta, &info);
	if (!r)
		made(m, key, &info);
	return r;
}

static int do_copy(struct object_store *s, struct model *m, unsigned int key, const struct object_ref *src)
{
	struct object_meta meta = store_test_meta(10);
	struct object_info info;
	int r = object_copy(s, NULL, src, NULL, keys[key], &meta, &info);

	if (!r)
		made(m, key, &info);
	return r;
}

static int do_delete(struct object_store *s, struct model *m, unsigned int i)
{
	struct object_ref ref = store_test_ref(m->keys[i], m->versions[i]);
	int r = object_delete_version(s, NULL, &ref);

	if (!r)
		m->keys[i] = NULL;
	return r;
}

static int nothing(void *arg, const char *key, const struct object_info *info)
{
	(void)arg;
	(void)key;
	(void)info;
	return 0;
}

/* The calls of the seam, in an order that leaves something of each. */
static int scenario(struct object_store *s, struct model *m)
{
	struct object_info info;
	struct object_statfs st;
	struct object_ref ref;
	char buf[16];
	int r;

	r = do_put(s, m, 0, 1);
	if (!r)
		r = do_put(s, m, 0, 2);
	if (r < 0)
		return r;
	ref = store_test_ref(keys[0], m->versions[0]);
	r = do_upload(s, m, 1, &ref);
	if (!r)
		r = do_copy(s, m, 2, &ref);
	if (!r) {
		ssize_t n = object_get(s, NULL, &ref, 0, buf, 16);

		assert_true(n < 0 || n == 7);
		r = n < 0 ? (int)n : 0;
	}
	if (!r)
		r = object_head(s, NULL, NULL, keys[0], NULL, &info);
	if (!r)
		r = do_delete(s, m, 0);
	if (!r) {
		r = object_put_marker(s, NULL, NULL, keys[1]);
		if (!r)
			m->tops[1] = NULL;
	}
	if (!r)
		r = object_list_keys(s, NULL, NULL, "", nothing, NULL);
	if (!r)
		r = object_list_versions(s, NULL, NULL, nothing, NULL);
	if (!r)
		r = object_statfs(s, NULL, &st);
	if (!r)
		r = object_sweep(s, NULL, false, NULL, NULL);
	return r;
}

static int count_known(void *arg, const char *key, const struct object_info *info)
{
	struct model *m = arg;

	(void)key;
	for (unsigned int i = 0; i < m->n; i++) {
		if (!m->keys[i] || strcmp(m->versions[i], info->version) != 0)
			continue;
		m->keys[i] = NULL; /* once */
		return 0;
	}
	return -EEXIST;
}

static void check(struct object_store *s, struct model *m)
{
	struct object_info info;

	for (unsigned int i = 0; i < m->n; i++)
		if (m->keys[i])
			assert_int_equal(object_head(s, NULL, NULL, m->keys[i], m->versions[i], &info), 0);
	for (unsigned int i = 0; i < N_KEYS; i++) {
		int r = object_head(s, NULL, NULL, keys[i], NULL, &info);

		assert_int_equal(r, m->tops[i] ? 0 : -ENOENT);
		if (m->tops[i])
			assert_string_equal(info.version, m->tops[i]);
	}
	assert_int_equal(object_list_versions(s, NULL, NULL, count_known, m), 0);
	for (unsigned int i = 0; i < m->n; i++)
		assert_null(m->keys[i]);
}

static void loop(int (*open)(const char *dir, struct object_store **ret), int err)
{
	bool hit = true;

	for (unsigned int n = 1; hit; n++) {
		char *dir = store_test_dir();
		struct object_store *inner, *s;
		struct model m = { 0 };
		int r;

		assert_int_equal(open(dir, &inner), 0);
		assert_int_equal(fault_store_new(inner, n, err, &s), 0);
		r = scenario(s, &m);
		hit = fault_store_hits(s) > 0;
		assert_int_equal(r, hit ? -err : 0);
		assert_int_equal(fault_store_calls(s) >= n, hit);
		assert_true(hit || n > 12);
		check(inner, &m);
		object_store_free(s);
		store_test_remove(dir);
	}
}

static int open_mem(const char *dir, struct object_store **ret)
{
	(void)dir;
	return mem_store_new(ret);
}

static int open_localdir(const char *dir, struct object_store **ret)
{
	const struct localdir_options opt = { .create = true, .nosync = true };

	return localdir_store_open(dir, &opt, ret);
}

static void test_mem__fails_whole_at_any_call(void **state)
{
	(void)state;
	loop(open_mem, EIO);
	loop(open_mem, ENOSPC);
}

static void test_localdir__fails_whole_at_any_call(void **state)
{
	(void)state;
	loop(open_localdir, EIO);
	loop(open_localdir, ETIMEDOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mem__fails_whole_at_any_call),
		cmocka_unit_test(test_localdir__fails_whole_at_any_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
