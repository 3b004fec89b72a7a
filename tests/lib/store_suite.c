/*
 * The contract suite of object stores: what one caller sees. Several callers at once: store_races.c.
 */
#include "tests/lib/store_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "tests/lib/store_fixture.h"

#define KEY  "folder/file.txt"
#define NONE "0000000000000001-00-1-1-1" /* of localdir's form, never made */

/* --- helpers --- */

char *store_test_dir(void)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = NULL;

	assert_true(asprintf(&dir, "%s/massfs-store-XXXXXX", tmp ? tmp : "/tmp") > 0);
	assert_non_null(mkdtemp(dir));
	return dir;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void store_test_remove(char *dir)
{
	nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	free(dir);
}

struct object_meta store_test_meta(unsigned int op)
{
	return (struct object_meta){
		.ino = 0x1234567,
		.session = UINT64_C(0x18ea0e43a6aecbc3),
		.op = op,
		.mode = 0640,
		.uid = getuid(),
		.gid = getgid(),
		.mtime = INT64_C(1234567890123456789) + op,
	};
}

struct object_ref store_test_ref(const char *key, const char *version)
{
	struct object_ref ref = { .key = (char *)(uintptr_t)key };

	snprintf(ref.version, sizeof(ref.version), "%s", version);
	return ref;
}

void store_test_fill(void *buf, size_t len, unsigned int seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (unsigned char)x;
	}
}

void store_test_expect(struct object_store *s, const char *key, const char *version, const void *buf,
		       size_t len)
{
	struct object_ref ref = store_test_ref(key, version);
	char *got = malloc(len + 16);

	assert_non_null(got);
	assert_int_equal(object_get(s, NULL, &ref, 0, got, len + 16), len);
	assert_memory_equal(got, buf, len);
	free(got);
}

struct object_info store_test_put(struct object_store *s, const char *key, const void *buf, size_t len)
{
	static _Atomic unsigned int op;
	struct object_meta meta = store_test_meta(++op);
	struct object_info info;

	assert_int_equal(object_put(s, NULL, NULL, key, buf, len, &meta, &info), 0);
	return info;
}

static struct object_store *store_of(void **state)
{
	return ((struct store_fixture *)*state)->store;
}

static int head(struct object_store *s, const char *key, struct object_info *ret)
{
	return object_head(s, NULL, NULL, key, NULL, ret);
}

static void expect_top(struct object_store *s, const char *key, const char *version)
{
	struct object_info info;

	assert_int_equal(head(s, key, &info), 0);
	assert_string_equal(info.version, version);
}

static void expect_nothing(struct object_store *s, const char *key)
{
	struct object_info info;

	assert_int_equal(head(s, key, &info), -ENOENT);
}

/* --- put, get, head --- */

static void test_put__is_read_back_whole(void **state)
{
	static const size_t sizes[] = { 0, 1, 100, 4095, 4096, 4097, 10240, 1 << 20, (1 << 20) + 1 };
	struct object_store *s = store_of(state);
	char *buf = malloc(2 << 20);

	assert_non_null(buf);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(sizes); i++) {
		struct object_info info;

		store_test_fill(buf, sizes[i], i);
		info = store_test_put(s, KEY, buf, sizes[i]);
		assert_int_equal(info.size, sizes[i]);
		assert_false(info.not_shown);
		store_test_expect(s, KEY, info.version, buf, sizes[i]);
		expect_top(s, KEY, info.version);
	}
	free(buf);
}

static void test_put__tells_and_keeps_who_and_when(void **state)
{
	static const int64_t times[] = { 0, 1, INT64_C(1234567890123456789), -1,
					 INT64_C(-1500000000000000001) };
	struct object_store *s = store_of(state);

	for (unsigned int i = 0; i < MFS_ARRAY_LEN(times); i++) {
		struct object_meta meta = store_test_meta(i);
		struct object_info put, top, version;

		meta.mtime = times[i];
		assert_int_equal(object_put(s, NULL, NULL, KEY, "abc", 3, &meta, &put), 0);
		assert_int_equal(head(s, KEY, &top), 0);
		assert_int_equal(object_head(s, NULL, NULL, KEY, put.version, &version), 0);
		for (const struct object_info *p = &put; p; p = p == &put   ? &top
								: p == &top ? &version
									    : NULL) {
			assert_string_equal(p->version, put.version);
			assert_int_equal(p->size, 3);
			assert_int_equal(p->mtime, times[i]);
			assert_true(p->own);
			assert_false(p->is_marker);
			assert_int_equal(p->ino, meta.ino);
			assert_int_equal(p->session, meta.session);
			assert_int_equal(p->op, meta.op);
		}
	}
}

static void test_put__takes_the_largest_numbers_in_its_meta(void **state)
{
	struct object_meta meta = store_test_meta(0);
	struct object_store *s = store_of(state);
	struct object_info info;

	meta.ino = meta.session = meta.op = UINT64_MAX;
	assert_int_equal(object_put(s, NULL, NULL, KEY, "x", 1, &meta, NULL), 0);
	assert_int_equal(head(s, KEY, &info), 0);
	assert_true(info.ino == UINT64_MAX && info.session == UINT64_MAX && info.op == UINT64_MAX);
	store_test_expect(s, KEY, info.version, "x", 1);
}

static void test_get__is_short_only_at_the_end(void **state)
{
	struct object_store *s = store_of(state);
	struct object_info info = store_test_put(s, KEY, "0123456789", 10);
	struct object_ref ref = store_test_ref(KEY, info.version);
	char buf[32];

	assert_int_equal(object_get(s, NULL, &ref, 3, buf, 4), 4);
	assert_memory_equal(buf, "3456", 4);
	assert_int_equal(object_get(s, NULL, &ref, 8, buf, 32), 2);
	assert_memory_equal(buf, "89", 2);
	assert_int_equal(object_get(s, NULL, &ref, 10, buf, 32), 0);
	assert_int_equal(object_get(s, NULL, &ref, UINT64_C(1) << 40, buf, 32), 0);
	assert_int_equal(object_get(s, NULL, &ref, 0, buf, 0), 0);
	assert_int_equal(object_get(s, NULL, &ref, UINT64_MAX, buf, 32), -EFBIG);
}

static void test_put__leaves_older_versions_as_they_were(void **state)
{
	struct object_store *s = store_of(state);
	char versions[20][OBJECT_VERSION_MAX + 1], buf[500];

	for (unsigned int i = 0; i < 20; i++) {
		store_test_fill(buf, sizeof(buf), i);
		strcpy(versions[i], store_test_put(s, KEY, buf, sizeof(buf) - i).version);
		expect_top(s, KEY, versions[i]);
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(versions[i], versions[j]);
	}
	for (unsigned int i = 0; i < 20; i++) {
		store_test_fill(buf, sizeof(buf), i);
		store_test_expect(s, KEY, versions[i], buf, sizeof(buf) - i);
	}
}

static void test_unknown_versions__are_not_found(void **state)
{
	static const char *const ids[] = {
		"",
		"x",
		NONE,
		"0000000000000001-00-1-1-",
		"../../../../etc/passwd",
		"..",
		".",
		"/etc/passwd",
		"00/0000000000000001-00-1-1-1",
		"0000000000000001-00-1-1-1/x",
		"ffffffffffffffff-ff-ffffffffffffffff-ffffffffffffffff-ffffffffffffffff",
		"18446744073709551616",
		"-1",
		"0x1",
		" 1"
	};
	struct object_meta meta = store_test_meta(1);
	struct object_store *s = store_of(state);
	struct object_info info;
	char c;

	store_test_put(s, KEY, "abc", 3);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(ids); i++) {
		struct object_ref ref = store_test_ref(KEY, ids[i]);

		assert_int_equal(object_get(s, NULL, &ref, 0, &c, 1), -ENOENT);
		assert_int_equal(object_head(s, NULL, NULL, KEY, ids[i], &info), -ENOENT);
		assert_int_equal(object_copy(s, NULL, &ref, NULL, "copy", &meta, &info), -ENOENT);
		assert_int_equal(object_copy(s, NULL, &ref, NULL, KEY, &meta, &info), -ENOENT);
		assert_int_equal(object_delete_version(s, NULL, &ref), 0);
		if (object_store_caps(s) & OBJECT_CAP_FD)
			assert_int_equal(object_open_fd(s, NULL, &ref), -ENOENT);
	}
	expect_nothing(s, "copy");
	expect_nothing(s, "folder");
	expect_nothing(s, "folder/file.txt/below");
	expect_nothing(s, "other/folder");
	assert_int_equal(object_put_marker(s, NULL, NULL, "not/there"), 0);
	assert_int_equal(object_put_marker(s, NULL, NULL, "folder/file.txt/below"), 0);
	assert_int_equal(head(s, KEY, &info), 0);
}

static void test_illegal_keys__are_refused(void **state)
{
	char seg256[257], key1025[1026];
	const char *const keys[] = { "",     "/",     "/a",	      "a/",	  "a//b", ".",
				     "..",   "./a",   "a/.",	      "a/..",	  "../a", "a/../b",
				     "\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", seg256, key1025 };
	struct object_meta meta = store_test_meta(1);
	struct object_store *s = store_of(state);
	struct object_upload *u;
	struct object_info info = store_test_put(s, KEY, "abc", 3);
	struct object_ref ref = store_test_ref(KEY, info.version), bad;
	char c;

	memset(seg256, 'a', 256);
	seg256[256] = '\0';
	for (unsigned int i = 0; i < 1025; i++)
		key1025[i] = i % 100 == 99 ? '/' : 'a';
	key1025[1025] = '\0';
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(keys); i++) {
		assert_false(object_key_is_legal(s, keys[i]));
		assert_int_equal(object_put(s, NULL, NULL, keys[i], "x", 1, &meta, &info), -EINVAL);
		assert_int_equal(object_upload_begin(s, NULL, NULL, keys[i], &meta, &u), -EINVAL);
		assert_int_equal(object_head(s, NULL, NULL, keys[i], NULL, &info), -EINVAL);
		assert_int_equal(object_copy(s, NULL, &ref, NULL, keys[i], &meta, &info), -EINVAL);
		assert_int_equal(object_put_marker(s, NULL, NULL, keys[i]), -EINVAL);
		bad = store_test_ref(keys[i], ref.version);
		assert_int_equal(object_get(s, NULL, &bad, 0, &c, 1), -EINVAL);
	}
}

/* --- keys and lists --- */

struct seen_keys {
	char keys[64][OBJECT_KEY_MAX + 1];
	struct object_info infos[64];
	unsigned int n, stop_after;
};

static int see_key(void *arg, const char *key, const struct object_info *info)
{
	struct seen_keys *seen = arg;

	assert_true(seen->n < 64);
	snprintf(seen->keys[seen->n], sizeof(seen->keys[0]), "%s", key ? key : "");
	seen->infos[seen->n++] = *info;
	return seen->n == seen->stop_after ? 42 : 0;
}

static unsigned int list(struct object_store *s, const char *prefix, struct seen_keys *seen)
{
	*seen = (struct seen_keys){ 0 };
	assert_int_equal(object_list_keys(s, NULL, NULL, prefix, see_key, seen), 0);
	return seen->n;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Each legal, none a folder of another. In: room for three long ones. */
static unsigned int odd_keys(const char **keys, char long_keys[3][OBJECT_KEY_MAX + 1])
{
	static const char *const odd[] = {
		"plain",
		"with space",
		" ",
		"new\nline",
		"-rf",
		"...",
		"....x",
		".hidden",
		"\xc3\xa4\xc3\xb6/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e/\xf0\x9f\x98\x80.txt",
		"a-b",
		"a/b",
		"a.b",
		"a0",
		"a/c-d",
		"a/c/d",
		"tilde~",
		"back\\slash",
		"%2F",
		"*?[x]",
		"\x01\x7f",
		"file.part",
		".name.abc123",
		".massfs/o/17",
		"A",
		"aa/b",
		"$HOME"
	};
	unsigned int n = 0;

	for (; n < MFS_ARRAY_LEN(odd); n++)
		keys[n] = odd[n];
	memset(long_keys[0], 'n', 255); /* one segment of 255 */
	long_keys[0][255] = '\0';
	for (unsigned int i = 0; i < OBJECT_KEY_MAX; i++) { /* 512 levels; the largest segments */
		long_keys[1][i] = i % 2 ? '/' : 'd';
		long_keys[2][i] = i % 256 == 255 ? '/' : 'L';
	}
	long_keys[1][OBJECT_KEY_MAX - 1] = '\0';
	long_keys[2][OBJECT_KEY_MAX - 1] = 'e';
	long_keys[2][OBJECT_KEY_MAX - 257] = 'L'; /* no: the segment would be too long */
	long_keys[2][OBJECT_KEY_MAX - 257] = '/';
	long_keys[2][OBJECT_KEY_MAX - 1] = '\0';
	for (unsigned int i = 0; i < 3; i++)
		keys[n++] = long_keys[i];
	return n;
}

static void test_any_legal_key__can_be_put_and_listed_in_order(void **state)
{
	char long_keys[3][OBJECT_KEY_MAX + 1];
	struct object_store *s = store_of(state);
	struct seen_keys *seen = malloc(sizeof(*seen));
	struct object_info infos[64];
	const char *keys[64];
	unsigned int n = odd_keys(keys, long_keys);

	assert_non_null(seen);
	for (unsigned int i = 0; i < n; i++) {
		assert_true(object_key_is_legal(s, keys[i]));
		infos[i] = store_test_put(s, keys[i], keys[i], strlen(keys[i]));
		assert_false(infos[i].not_shown);
	}
	for (unsigned int i = 0; i < n; i++) {
		expect_top(s, keys[i], infos[i].version);
		store_test_expect(s, keys[i], infos[i].version, keys[i], strlen(keys[i]));
	}
	qsort(keys, n, sizeof(*keys), by_bytes);
	assert_int_equal(list(s, "", seen), n);
	for (unsigned int i = 0; i < n; i++) {
		assert_string_equal(seen->keys[i], keys[i]);
		assert_int_equal(seen->infos[i].size, strlen(keys[i]));
	}
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(object_put_marker(s, NULL, NULL, keys[i]), 0);
	assert_int_equal(list(s, "", seen), 0);
	free(seen);
}

static void test_key_of_exactly_1024_bytes__is_legal(void **state)
{
	struct object_store *s = store_of(state);
	struct seen_keys *seen = malloc(sizeof(*seen));
	char key[OBJECT_KEY_MAX + 1];
	struct object_info info;

	assert_non_null(seen);
	for (unsigned int i = 0; i < OBJECT_KEY_MAX; i++)
		key[i] = i % 205 == 204 ? '/' : 'k';
	key[OBJECT_KEY_MAX - 1] = 'z';
	key[OBJECT_KEY_MAX] = '\0';
	info = store_test_put(s, key, "x", 1);
	expect_top(s, key, info.version);
	assert_int_equal(list(s, key, seen), 1);
	assert_string_equal(seen->keys[0], key);
	free(seen);
}

static void test_list_keys__goes_by_prefix_and_stops_when_told(void **state)
{
	static const char *const keys[] = { "a", "b/1", "b/2", "b/sub/3", "b0", "bc/4", "c" };
	struct object_store *s = store_of(state);
	struct seen_keys *seen = malloc(sizeof(*seen));

	assert_non_null(seen);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(keys); i++)
		store_test_put(s, keys[i], "x", 1);
	assert_int_equal(list(s, "b", seen), 5);
	assert_int_equal(list(s, "b/", seen), 3);
	assert_int_equal(list(s, "b/s", seen), 1);
	assert_int_equal(list(s, "b/sub", seen), 1);
	assert_int_equal(list(s, "b/sub/", seen), 1);
	assert_int_equal(list(s, "b/sub/3", seen), 1);
	assert_int_equal(list(s, "b/sub/33", seen), 0);
	assert_int_equal(list(s, "b/2", seen), 1);
	assert_int_equal(list(s, "x", seen), 0);
	assert_int_equal(list(s, "a/", seen), 0);
	assert_int_equal(list(s, "c", seen), 1);
	*seen = (struct seen_keys){ .stop_after = 3 };
	assert_int_equal(object_list_keys(s, NULL, NULL, "", see_key, seen), 42);
	assert_int_equal(seen->n, 3);
	assert_string_equal(seen->keys[2], "b/2");
	*seen = (struct seen_keys){ .stop_after = 2 };
	assert_int_equal(object_list_versions(s, NULL, NULL, see_key, seen), 42);
	assert_int_equal(seen->n, 2);
	free(seen);
}

static void test_list_versions__has_each_once(void **state)
{
	struct object_store *s = store_of(state);
	struct seen_keys *seen = malloc(sizeof(*seen));
	struct object_info infos[20];

	assert_non_null(seen);
	for (unsigned int i = 0; i < 20; i++)
		infos[i] = store_test_put(s, i % 2 ? "a/b" : "c", "bytes", i % 5);
	*seen = (struct seen_keys){ 0 };
	assert_int_equal(object_list_versions(s, NULL, NULL, see_key, seen), 0);
	assert_int_equal(seen->n, 20);
	for (unsigned int i = 0; i < 20; i++) {
		unsigned int n = 0;

		for (unsigned int j = 0; j < 20; j++) {
			if (strcmp(seen->infos[j].version, infos[i].version) != 0)
				continue;
			n++;
			assert_int_equal(seen->infos[j].size, i % 5);
			assert_true(seen->infos[j].own);
			assert_int_equal(seen->infos[j].ino, 0x1234567);
			assert_int_equal(seen->infos[j].op, infos[i].op);
		}
		assert_int_equal(n, 1);
	}
	free(seen);
}

/* --- uploads --- */

#define PART (64 << 10) /* with OBJECT_CAP_SPARSE parts may be this small */

static struct object_upload *begin(struct object_store *s, const char *key)
{
	struct object_meta meta = store_test_meta(1);
	struct object_upload *u = NULL;

	assert_int_equal(object_upload_begin(s, NULL, NULL, key, &meta, &u), 0);
	assert_non_null(u);
	return u;
}

static int complete(struct object_upload *u, uint64_t size, struct object_info *ret)
{
	struct object_meta meta = store_test_meta(77);

	return object_upload_complete(u, NULL, size, &meta, ret);
}

static size_t part_len(struct object_store *s)
{
	return object_store_caps(s) & OBJECT_CAP_SPARSE ? PART : OBJECT_PART_MIN;
}

static void test_upload__takes_parts_in_any_order_and_twice(void **state)
{
	static const unsigned int order[] = { 3, 1, 5, 2, 1, 4, 3 };
	struct object_store *s = store_of(state);
	size_t len = part_len(s), size = 4 * len + 1000;
	char *buf = malloc(size), *junk = malloc(len);
	struct object_upload *u = begin(s, KEY);
	struct object_info info;

	assert_true(buf && junk);
	store_test_fill(buf, size, 5);
	store_test_fill(junk, len, 6);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(order); i++) {
		unsigned int n = order[i];
		uint64_t off = (n - 1) * len;

		/* 3 and 1 come twice, with other bytes at first */
		assert_int_equal(
			object_upload_part(u, NULL, n, off, i < 2 ? junk : buf + off, n == 5 ? 1000 : len),
			0);
		expect_nothing(s, KEY);
	}
	assert_int_equal(complete(u, size, &info), 0);
	assert_int_equal(info.size, size);
	assert_int_equal(info.op, 77);
	store_test_expect(s, KEY, info.version, buf, size);
	expect_top(s, KEY, info.version);
	free(buf);
	free(junk);
}

static void test_upload__leaves_zeros_in_gaps(void **state)
{
	struct object_store *s = store_of(state);
	const size_t size = 3 << 20;
	char *buf = calloc(1, size);
	struct object_upload *u;
	struct object_info info;

	assert_non_null(buf);
	if (!(object_store_caps(s) & OBJECT_CAP_SPARSE)) {
		free(buf);
		skip();
	}
	u = begin(s, KEY);
	store_test_fill(buf + (1 << 20), 5000, 1);
	store_test_fill(buf + (2 << 20) + 3, 17, 2);
	assert_int_equal(object_upload_part(u, NULL, 2, (2 << 20) + 3, buf + (2 << 20) + 3, 17), 0);
	assert_int_equal(object_upload_part(u, NULL, 1, 1 << 20, buf + (1 << 20), 5000), 0);
	assert_int_equal(complete(u, size, &info), 0);
	assert_int_equal(info.size, size);
	store_test_expect(s, KEY, info.version, buf, size);
	u = begin(s, "empty"); /* no part at all */
	assert_int_equal(complete(u, size, &info), 0);
	memset(buf, 0, size);
	store_test_expect(s, "empty", info.version, buf, size);
	u = begin(s, "nothing");
	assert_int_equal(complete(u, 0, &info), 0);
	store_test_expect(s, "nothing", info.version, "", 0);
	free(buf);
}

static void test_upload__is_read_back_before_it_completes(void **state)
{
	struct object_store *s = store_of(state);
	struct object_upload *u = begin(s, KEY);
	struct object_info info;
	char buf[32];

	if (!(object_store_caps(s) & OBJECT_CAP_UPLOAD_READ)) {
		assert_int_equal(object_upload_read(u, NULL, 0, buf, sizeof(buf)), -ENOTSUP);
		object_upload_abort(u, NULL);
		return;
	}
	assert_int_equal(object_upload_read(u, NULL, 0, buf, sizeof(buf)), 0);
	assert_int_equal(object_upload_part(u, NULL, 2, 6, "later", 5), 0);
	assert_int_equal(object_upload_read(u, NULL, 0, buf, sizeof(buf)), 11);
	assert_memory_equal(buf, "\0\0\0\0\0\0later", 11);
	assert_int_equal(object_upload_part(u, NULL, 1, 0, "first", 5), 0);
	assert_int_equal(object_upload_read(u, NULL, 3, buf, 5), 5);
	assert_memory_equal(buf, "st\0la", 5);
	assert_int_equal(object_upload_read(u, NULL, 11, buf, sizeof(buf)), 0);
	assert_int_equal(object_upload_read(u, NULL, UINT64_MAX, buf, 2), -EFBIG);
	assert_int_equal(complete(u, 11, &info), 0);
	store_test_expect(s, KEY, info.version, "first\0later", 11);
}

static unsigned int count_versions(struct object_store *s)
{
	struct seen_keys *seen = calloc(1, sizeof(*seen));
	unsigned int n;

	assert_non_null(seen);
	assert_int_equal(object_list_versions(s, NULL, NULL, see_key, seen), 0);
	n = seen->n;
	free(seen);
	return n;
}

static void test_upload__that_does_not_complete_leaves_nothing(void **state)
{
	struct object_store *s = store_of(state);
	struct object_info info = store_test_put(s, KEY, "old", 3), unused;
	struct object_upload *u = begin(s, KEY);
	uint64_t n = 99, bytes = 99;

	assert_int_equal(object_upload_part(u, NULL, 1, 0, "new bytes", 9), 0);
	object_upload_abort(u, NULL);
	object_upload_abort(NULL, NULL);
	u = begin(s, KEY); /* more bytes than the size it is said to have */
	assert_int_equal(object_upload_part(u, NULL, 1, 0, "new bytes", 9), 0);
	assert_int_equal(complete(u, 8, &unused), -EINVAL);
	u = begin(s, KEY);
	assert_int_equal(object_upload_part(u, NULL, 1, UINT64_MAX - 3, "new bytes", 9), -EFBIG);
	assert_int_equal(complete(u, UINT64_MAX, &unused), -EFBIG);
	expect_top(s, KEY, info.version);
	assert_int_equal(count_versions(s), 1);
	assert_int_equal(object_sweep(s, NULL, false, &n, &bytes), 0);
	assert_int_equal(n, 0);
	assert_int_equal(bytes, 0);
}

static void test_part_copy__takes_ranges_of_other_objects(void **state)
{
	struct object_store *s = store_of(state);
	const size_t len = part_len(s);
	char *a = malloc(2 * len), *want = calloc(3, len);
	struct object_upload *u = begin(s, "source");
	struct object_info src, info;
	struct object_ref ref, none = store_test_ref("source", NONE);

	assert_true(a && want);
	/* the source: data, a hole (where it can have one), data */
	store_test_fill(a, 2 * len, 1);
	memset(a + 4096, 0, len - 4096);
	assert_int_equal(object_upload_part(u, NULL, 1, 0, a, 4096), 0);
	if (!(object_store_caps(s) & OBJECT_CAP_SPARSE))
		assert_int_equal(object_upload_part(u, NULL, 1, 0, a, len), 0);
	assert_int_equal(object_upload_part(u, NULL, 2, len, a + len, len), 0);
	assert_int_equal(complete(u, 2 * len, &src), 0);
	ref = store_test_ref("source", src.version);

	u = begin(s, KEY);
	store_test_fill(want, len, 9);
	assert_int_equal(object_upload_part(u, NULL, 1, 0, want, len), 0);
	store_test_fill(want + len, len, 10); /* overwritten by a copy with a hole */
	assert_int_equal(object_upload_part(u, NULL, 2, len, want + len, len), 0);
	assert_int_equal(object_upload_part_copy(u, NULL, 2, len, &ref, 0, len), 0);
	memcpy(want + len, a, len);
	assert_int_equal(object_upload_part_copy(u, NULL, 3, 2 * len, &ref, len + 100, len - 100), 0);
	memcpy(want + 2 * len, a + len + 100, len - 100);
	assert_int_equal(object_upload_part_copy(u, NULL, 3, 2 * len, &ref, len + 1, len), -EINVAL);
	assert_int_equal(object_upload_part_copy(u, NULL, 3, 2 * len, &none, 0, len), -ENOENT);
	assert_int_equal(complete(u, 3 * len - 100, &info), 0);
	store_test_expect(s, KEY, info.version, want, 3 * len - 100);
	free(a);
	free(want);
}

/* --- copy, delete, marker --- */

static void test_copy__is_a_new_version_of_its_own(void **state)
{
	struct object_meta meta = store_test_meta(501);
	struct object_store *s = store_of(state);
	struct object_info a = store_test_put(s, KEY, "content", 7), b, old;
	struct object_ref ref_a = store_test_ref(KEY, a.version), ref_b;

	old = store_test_put(s, "to/here", "old", 3);
	meta.ino = 4242;
	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "to/here", &meta, &b), 0);
	assert_string_not_equal(a.version, b.version);
	assert_true(b.own);
	assert_int_equal(b.ino, 4242);
	assert_int_equal(b.op, 501);
	assert_int_equal(b.size, 7);
	assert_int_equal(b.mtime, meta.mtime);
	expect_top(s, "to/here", b.version);
	store_test_expect(s, "to/here", b.version, "content", 7);
	store_test_expect(s, "to/here", old.version, "old", 3);
	store_test_expect(s, KEY, a.version, "content", 7);
	/* each goes without the other */
	assert_int_equal(object_delete_version(s, NULL, &ref_a), 0);
	expect_top(s, "to/here", b.version);
	store_test_expect(s, "to/here", b.version, "content", 7);
	ref_b = store_test_ref("to/here", b.version);
	assert_int_equal(object_delete_version(s, NULL, &ref_b), 0);
	expect_nothing(s, "to/here");
	store_test_expect(s, "to/here", old.version, "old", 3);
}

static void test_copy__that_goes_leaves_its_source_on_top(void **state)
{
	struct object_meta meta = store_test_meta(502);
	struct object_store *s = store_of(state);
	struct object_info a = store_test_put(s, KEY, "content", 7), b, c;
	struct object_ref ref_a = store_test_ref(KEY, a.version), ref_b, ref_c;

	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "b", &meta, &b), 0);
	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "c", &meta, &c), 0);
	ref_c = store_test_ref("c", c.version);
	assert_int_equal(object_delete_version(s, NULL, &ref_c), 0);
	ref_b = store_test_ref("b", b.version);
	assert_int_equal(object_delete_version(s, NULL, &ref_b), 0);
	expect_nothing(s, "b");
	expect_nothing(s, "c");
	expect_top(s, KEY, a.version);
	store_test_expect(s, KEY, a.version, "content", 7);
}

static void test_rename_there_and_back__by_copies_and_markers(void **state)
{
	struct object_meta meta = store_test_meta(503);
	struct object_store *s = store_of(state);
	struct object_info a = store_test_put(s, "a", "content", 7), b, a2;
	struct object_ref ref_a = store_test_ref("a", a.version), ref_b;

	assert_int_equal(object_copy(s, NULL, &ref_a, NULL, "b", &meta, &b), 0);
	/* back before the marker: the view at a is still the same file */
	ref_b = store_test_ref("b", b.version);
	assert_int_equal(object_copy(s, NULL, &ref_b, NULL, "a", &meta, &a2), 0);
	expect_top(s, "a", a2.version);
	assert_int_equal(object_put_marker(s, NULL, NULL, "b"), 0);
	assert_int_equal(object_delete_version(s, NULL, &ref_b), 0);
	assert_int_equal(object_delete_version(s, NULL, &ref_a), 0);
	expect_top(s, "a", a2.version);
	expect_nothing(s, "b");
	store_test_expect(s, "a", a2.version, "content", 7);
}

static void test_copy_onto_its_own_key__puts_an_old_version_on_top(void **state)
{
	struct object_meta meta = store_test_meta(504);
	struct object_store *s = store_of(state);
	struct object_info a = store_test_put(s, KEY, "first", 5), b = store_test_put(s, KEY, "second", 6), c;
	struct object_ref ref = store_test_ref(KEY, a.version);

	assert_int_equal(object_copy(s, NULL, &ref, NULL, KEY, &meta, &c), 0);
	expect_top(s, KEY, c.version);
	assert_int_equal(c.size, 5);
	store_test_expect(s, KEY, c.version, "first", 5);
	store_test_expect(s, KEY, b.version, "second", 6);
	assert_int_equal(object_put_marker(s, NULL, NULL, KEY), 0);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, KEY, &meta, &c), 0);
	expect_top(s, KEY, c.version);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, KEY, &meta, &c), 0); /* again: nothing to do */
	expect_top(s, KEY, c.version);
}

static void test_delete_version__takes_only_that_one(void **state)
{
	struct object_store *s = store_of(state);
	struct object_info a = store_test_put(s, KEY, "a", 1), b = store_test_put(s, KEY, "b", 1);
	struct object_info c = store_test_put(s, KEY, "c", 1), info;
	struct object_ref ref = store_test_ref(KEY, b.version);
	char byte;

	assert_int_equal(object_delete_version(s, NULL, &ref), 0);
	assert_int_equal(object_delete_version(s, NULL, &ref), 0); /* gone already */
	assert_int_equal(object_get(s, NULL, &ref, 0, &byte, 1), -ENOENT);
	assert_int_equal(object_head(s, NULL, NULL, KEY, b.version, &info), -ENOENT);
	expect_top(s, KEY, c.version);
	ref = store_test_ref(KEY, c.version);
	assert_int_equal(object_delete_version(s, NULL, &ref), 0);
	expect_nothing(s, KEY); /* the view goes; whoever wants an older one puts it on top */
	store_test_expect(s, KEY, a.version, "a", 1);
	assert_int_equal(count_versions(s), 1);
}

static void test_marker__hides_the_key_and_keeps_versions(void **state)
{
	struct object_store *s = store_of(state);
	struct object_info a = store_test_put(s, "d/e/f", "a", 1), b;
	struct seen_keys *seen = malloc(sizeof(*seen));

	assert_non_null(seen);
	b = store_test_put(s, "d/other", "b", 1);
	assert_int_equal(object_put_marker(s, NULL, NULL, "d/e/f"), 0);
	assert_int_equal(object_put_marker(s, NULL, NULL, "d/e/f"), 0);
	expect_nothing(s, "d/e/f");
	expect_top(s, "d/other", b.version);
	assert_int_equal(list(s, "", seen), 1);
	store_test_expect(s, "d/e/f", a.version, "a", 1);
	b = store_test_put(s, "d/e/f", "again", 5);
	expect_top(s, "d/e/f", b.version);
	assert_int_equal(list(s, "", seen), 2);
	free(seen);
}

static void test_file_and_folder_of_one_name__block_each_other_until_a_marker(void **state)
{
	const bool blocks = ((struct store_fixture *)*state)->kind->blocks;
	struct object_meta meta = store_test_meta(505);
	struct object_store *s = store_of(state);
	struct object_info file = store_test_put(s, "x", "file", 4),
			   below = store_test_put(s, "x/y/z", "below", 5), again;
	struct object_ref ref = store_test_ref("x/y/z", below.version);

	assert_int_equal(below.not_shown, blocks);
	expect_top(s, "x", file.version);
	store_test_expect(s, "x/y/z", below.version, "below", 5);
	assert_int_equal(object_put_marker(s, NULL, NULL, "x"), 0);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, "x/y/z", &meta, &again), 0);
	assert_false(again.not_shown);
	expect_top(s, "x/y/z", again.version);

	file = store_test_put(s, "x", "file 2", 6);
	assert_int_equal(file.not_shown, blocks);
	expect_top(s, "x/y/z", again.version);
	store_test_expect(s, "x", file.version, "file 2", 6);
	assert_int_equal(object_put_marker(s, NULL, NULL, "x/y/z"), 0);
	expect_nothing(s, "x/y/z");
	ref = store_test_ref("x", file.version);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, "x", &meta, &again), 0);
	assert_false(again.not_shown);
	expect_top(s, "x", again.version);
}

/* --- descriptors, operations, the rest --- */

static void test_open_fd__stays_readable_after_delete(void **state)
{
	struct object_store *s = store_of(state);
	struct object_info info = store_test_put(s, KEY, "content", 7);
	struct object_ref ref = store_test_ref(KEY, info.version);
	int fd = object_open_fd(s, NULL, &ref);
	char buf[16];

	if (!(object_store_caps(s) & OBJECT_CAP_FD)) {
		assert_int_equal(fd, -EOPNOTSUPP);
		return;
	}
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(object_delete_version(s, NULL, &ref), 0);
	assert_int_equal(object_open_fd(s, NULL, &ref), -ENOENT);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), 7);
	assert_memory_equal(buf, "content", 7);
	close(fd);
}

static void test_operation__that_is_cancelled_or_late_does_nothing(void **state)
{
	struct object_meta meta = store_test_meta(1);
	struct object_store *s = store_of(state);
	struct op_ctx op = { 0 }, late = { .deadline_ns = 1 }, early = { .deadline_ns = INT64_MAX };
	struct object_info info;
	struct object_upload *u = begin(s, KEY);
	struct object_ref ref;

	assert_int_equal(object_put(s, &early, NULL, "k", "x", 1, &meta, &info), 0);
	ref = store_test_ref("k", info.version);
	atomic_store(&op.cancelled, true);
	assert_int_equal(object_put(s, &op, NULL, KEY, "x", 1, &meta, &info), -ECANCELED);
	assert_int_equal(object_put(s, &late, NULL, KEY, "x", 1, &meta, &info), -ETIMEDOUT);
	assert_int_equal(object_upload_part(u, &op, 1, 0, "x", 1), -ECANCELED);
	assert_int_equal(object_upload_complete(u, &op, 1, &meta, &info), -ECANCELED); /* and it is ended */
	u = begin(s, KEY);
	object_upload_abort(u, &op);
	expect_nothing(s, KEY);
	assert_int_equal(object_delete_version(s, &op, &ref), 0);
	assert_int_equal(count_versions(s), 0);
}

static void test_statfs__is_sane(void **state)
{
	struct object_store *s = store_of(state);
	struct object_statfs st;

	assert_int_equal(object_statfs(s, NULL, &st), 0);
	assert_true(st.total > 0 && st.free <= st.total && st.avail <= st.total && st.ffree <= st.files);
}

static void test_reopen__finds_all(void **state)
{
	struct store_fixture *f = *state;
	struct object_info a, b, c, d;
	struct object_ref ref;
	struct object_meta meta = store_test_meta(506);

	if (!f->kind->persists)
		skip();
	a = store_test_put(f->store, "a/b", "1", 1);
	b = store_test_put(f->store, "a/b", "22", 2);
	c = store_test_put(f->store, "gone", "333", 3);
	assert_int_equal(object_put_marker(f->store, NULL, NULL, "gone"), 0);
	ref = store_test_ref("a/b", b.version);
	assert_int_equal(object_copy(f->store, NULL, &ref, NULL, "copy", &meta, &d), 0);
	store_fixture_reopen(f);
	store_test_expect(f->store, "a/b", a.version, "1", 1);
	store_test_expect(f->store, "a/b", b.version, "22", 2);
	store_test_expect(f->store, "gone", c.version, "333", 3);
	expect_top(f->store, "copy", d.version);
	expect_nothing(f->store, "gone");
	assert_int_equal(count_versions(f->store), 4);
	a = store_test_put(f->store, "a/b", "4444", 4);
	assert_true(strcmp(a.version, b.version) > 0); /* of both stores: later ids sort behind */
	expect_top(f->store, "a/b", a.version);
}

/* --- running --- */

static const struct store_kind *current_kind; /* cmocka has no argument for a group's setup of each test */

int store_fixture_setup(void **state)
{
	struct store_fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	f->kind = current_kind;
	f->dir = store_test_dir();
	*state = f;
	return f->kind->open(f->dir, &f->store);
}

int store_fixture_teardown(void **state)
{
	struct store_fixture *f = *state;

	object_store_free(f->store);
	store_test_remove(f->dir);
	free(f);
	return 0;
}

void store_fixture_reopen(struct store_fixture *f)
{
	object_store_free(f->store);
	f->store = NULL;
	assert_int_equal(f->kind->open(f->dir, &f->store), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, store_fixture_setup, store_fixture_teardown)

int store_suite_run(const struct store_kind *kind)
{
	const struct CMUnitTest tests[] = {
		T(test_put__is_read_back_whole),
		T(test_put__tells_and_keeps_who_and_when),
		T(test_put__takes_the_largest_numbers_in_its_meta),
		T(test_get__is_short_only_at_the_end),
		T(test_put__leaves_older_versions_as_they_were),
		T(test_unknown_versions__are_not_found),
		T(test_illegal_keys__are_refused),
		T(test_any_legal_key__can_be_put_and_listed_in_order),
		T(test_key_of_exactly_1024_bytes__is_legal),
		T(test_list_keys__goes_by_prefix_and_stops_when_told),
		T(test_list_versions__has_each_once),
		T(test_upload__takes_parts_in_any_order_and_twice),
		T(test_upload__leaves_zeros_in_gaps),
		T(test_upload__is_read_back_before_it_completes),
		T(test_upload__that_does_not_complete_leaves_nothing),
		T(test_part_copy__takes_ranges_of_other_objects),
		T(test_copy__is_a_new_version_of_its_own),
		T(test_copy__that_goes_leaves_its_source_on_top),
		T(test_rename_there_and_back__by_copies_and_markers),
		T(test_copy_onto_its_own_key__puts_an_old_version_on_top),
		T(test_delete_version__takes_only_that_one),
		T(test_marker__hides_the_key_and_keeps_versions),
		T(test_file_and_folder_of_one_name__block_each_other_until_a_marker),
		T(test_open_fd__stays_readable_after_delete),
		T(test_operation__that_is_cancelled_or_late_does_nothing),
		T(test_statfs__is_sane),
		T(test_reopen__finds_all),
		T(test_race__parts_from_threads),
		T(test_race__puts_to_one_key_end_with_the_last),
		T(test_race__puts_copies_markers_and_deletes),
		T(test_race__puts_against_pruned_folders),
	};

	current_kind = kind;
	return _cmocka_run_group_tests(kind->name, tests, MFS_ARRAY_LEN(tests), NULL, NULL);
}
