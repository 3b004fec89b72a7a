/*
 * The contract suite of object stores: what one caller sees of single objects and of lists. Uploads: store_upload.c;
 * copies and markers: store_copy.c; several callers at once: store_races.c.
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

struct object_store *store_fixture_store(void **state)
{
	return ((struct store_fixture *)*state)->store;
}

static int head(struct object_store *s, const char *key, struct object_info *ret)
{
	return object_head(s, NULL, NULL, key, NULL, ret);
}

void store_expect_top(struct object_store *s, const char *key, const char *version)
{
	struct object_info info;

	assert_int_equal(head(s, key, &info), 0);
	assert_string_equal(info.version, version);
}

void store_expect_nothing(struct object_store *s, const char *key)
{
	struct object_info info;

	assert_int_equal(head(s, key, &info), -ENOENT);
}

/* --- put, get, head --- */

static void test_put__is_read_back_whole(void **state)
{
	static const size_t sizes[] = { 0, 1, 100, 4095, 4096, 4097, 10240, 1 << 20, (1 << 20) + 1 };
	struct object_store *s = store_fixture_store(state);
	char *buf = malloc(2 << 20);

	assert_non_null(buf);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(sizes); i++) {
		struct object_info info;

		store_test_fill(buf, sizes[i], i);
		info = store_test_put(s, KEY, buf, sizes[i]);
		assert_int_equal(info.size, sizes[i]);
		assert_false(info.not_shown);
		store_test_expect(s, KEY, info.version, buf, sizes[i]);
		store_expect_top(s, KEY, info.version);
	}
	free(buf);
}

static void test_put__tells_and_keeps_who_and_when(void **state)
{
	static const int64_t times[] = { 0, 1, INT64_C(1234567890123456789), -1,
					 INT64_C(-1500000000000000001) };
	struct object_store *s = store_fixture_store(state);

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
	struct object_store *s = store_fixture_store(state);
	struct object_info info;

	meta.ino = meta.session = meta.op = UINT64_MAX;
	assert_int_equal(object_put(s, NULL, NULL, KEY, "x", 1, &meta, NULL), 0);
	assert_int_equal(head(s, KEY, &info), 0);
	assert_true(info.ino == UINT64_MAX && info.session == UINT64_MAX && info.op == UINT64_MAX);
	store_test_expect(s, KEY, info.version, "x", 1);
}

static void test_get__is_short_only_at_the_end(void **state)
{
	struct object_store *s = store_fixture_store(state);
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
	struct object_store *s = store_fixture_store(state);
	char versions[20][OBJECT_VERSION_MAX + 1], buf[500];

	for (unsigned int i = 0; i < 20; i++) {
		store_test_fill(buf, sizeof(buf), i);
		strcpy(versions[i], store_test_put(s, KEY, buf, sizeof(buf) - i).version);
		store_expect_top(s, KEY, versions[i]);
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
	struct object_store *s = store_fixture_store(state);
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
	store_expect_nothing(s, "copy");
	store_expect_nothing(s, "folder");
	store_expect_nothing(s, "folder/file.txt/below");
	store_expect_nothing(s, "other/folder");
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
	struct object_store *s = store_fixture_store(state);
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

int store_see(void *arg, const char *key, const struct object_info *info)
{
	struct store_seen *seen = arg;

	assert_true(seen->n < 64);
	snprintf(seen->keys[seen->n], sizeof(seen->keys[0]), "%s", key ? key : "");
	seen->infos[seen->n++] = *info;
	return seen->n == seen->stop_after ? 42 : 0;
}

unsigned int store_list_keys(struct object_store *s, const char *prefix, struct store_seen *seen)
{
	*seen = (struct store_seen){ 0 };
	assert_int_equal(object_list_keys(s, NULL, NULL, prefix, store_see, seen), 0);
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
	struct object_store *s = store_fixture_store(state);
	struct store_seen *seen = malloc(sizeof(*seen));
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
		store_expect_top(s, keys[i], infos[i].version);
		store_test_expect(s, keys[i], infos[i].version, keys[i], strlen(keys[i]));
	}
	qsort(keys, n, sizeof(*keys), by_bytes);
	assert_int_equal(store_list_keys(s, "", seen), n);
	for (unsigned int i = 0; i < n; i++) {
		assert_string_equal(seen->keys[i], keys[i]);
		assert_int_equal(seen->infos[i].size, strlen(keys[i]));
	}
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(object_put_marker(s, NULL, NULL, keys[i]), 0);
	assert_int_equal(store_list_keys(s, "", seen), 0);
	free(seen);
}

static void test_key_of_exactly_1024_bytes__is_legal(void **state)
{
	struct object_store *s = store_fixture_store(state);
	struct store_seen *seen = malloc(sizeof(*seen));
	char key[OBJECT_KEY_MAX + 1];
	struct object_info info;

	assert_non_null(seen);
	for (unsigned int i = 0; i < OBJECT_KEY_MAX; i++)
		key[i] = i % 205 == 204 ? '/' : 'k';
	key[OBJECT_KEY_MAX - 1] = 'z';
	key[OBJECT_KEY_MAX] = '\0';
	info = store_test_put(s, key, "x", 1);
	store_expect_top(s, key, info.version);
	assert_int_equal(store_list_keys(s, key, seen), 1);
	assert_string_equal(seen->keys[0], key);
	free(seen);
}

static void test_list_keys__goes_by_prefix_and_stops_when_told(void **state)
{
	static const char *const keys[] = { "a", "b/1", "b/2", "b/sub/3", "b0", "bc/4", "c" };
	struct object_store *s = store_fixture_store(state);
	struct store_seen *seen = malloc(sizeof(*seen));

	assert_non_null(seen);
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(keys); i++)
		store_test_put(s, keys[i], "x", 1);
	assert_int_equal(store_list_keys(s, "b", seen), 5);
	assert_int_equal(store_list_keys(s, "b/", seen), 3);
	assert_int_equal(store_list_keys(s, "b/s", seen), 1);
	assert_int_equal(store_list_keys(s, "b/sub", seen), 1);
	assert_int_equal(store_list_keys(s, "b/sub/", seen), 1);
	assert_int_equal(store_list_keys(s, "b/sub/3", seen), 1);
	assert_int_equal(store_list_keys(s, "b/sub/33", seen), 0);
	assert_int_equal(store_list_keys(s, "b/2", seen), 1);
	assert_int_equal(store_list_keys(s, "x", seen), 0);
	assert_int_equal(store_list_keys(s, "a/", seen), 0);
	assert_int_equal(store_list_keys(s, "c", seen), 1);
	*seen = (struct store_seen){ .stop_after = 3 };
	assert_int_equal(object_list_keys(s, NULL, NULL, "", store_see, seen), 42);
	assert_int_equal(seen->n, 3);
	assert_string_equal(seen->keys[2], "b/2");
	*seen = (struct store_seen){ .stop_after = 2 };
	assert_int_equal(object_list_versions(s, NULL, NULL, store_see, seen), 42);
	assert_int_equal(seen->n, 2);
	free(seen);
}

static void test_list_versions__has_each_once(void **state)
{
	struct object_store *s = store_fixture_store(state);
	struct store_seen *seen = malloc(sizeof(*seen));
	struct object_info infos[20];

	assert_non_null(seen);
	for (unsigned int i = 0; i < 20; i++)
		infos[i] = store_test_put(s, i % 2 ? "a/b" : "c", "bytes", i % 5);
	*seen = (struct store_seen){ 0 };
	assert_int_equal(object_list_versions(s, NULL, NULL, store_see, seen), 0);
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

unsigned int store_count_versions(struct object_store *s)
{
	struct store_seen *seen = calloc(1, sizeof(*seen));
	unsigned int n;

	assert_non_null(seen);
	assert_int_equal(object_list_versions(s, NULL, NULL, store_see, seen), 0);
	n = seen->n;
	free(seen);
	return n;
}

struct object_upload *store_begin(struct object_store *s, const char *key)
{
	struct object_meta meta = store_test_meta(1);
	struct object_upload *u = NULL;

	assert_int_equal(object_upload_begin(s, NULL, NULL, key, &meta, &u), 0);
	assert_non_null(u);
	return u;
}

int store_complete(struct object_upload *u, uint64_t size, struct object_info *ret)
{
	struct object_meta meta = store_test_meta(77);

	return object_upload_complete(u, NULL, size, &meta, ret);
}

/* --- descriptors, operations, the rest --- */

static void test_open_fd__stays_readable_after_delete(void **state)
{
	struct object_store *s = store_fixture_store(state);
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
	struct object_store *s = store_fixture_store(state);
	struct op_ctx op = { 0 }, late = { .deadline_ns = 1 }, early = { .deadline_ns = INT64_MAX };
	struct object_info info;
	struct object_upload *u = store_begin(s, KEY);
	struct object_ref ref;

	assert_int_equal(object_put(s, &early, NULL, "k", "x", 1, &meta, &info), 0);
	ref = store_test_ref("k", info.version);
	atomic_store(&op.cancelled, true);
	assert_int_equal(object_put(s, &op, NULL, KEY, "x", 1, &meta, &info), -ECANCELED);
	assert_int_equal(object_put(s, &late, NULL, KEY, "x", 1, &meta, &info), -ETIMEDOUT);
	assert_int_equal(object_upload_part(u, &op, 1, 0, "x", 1), -ECANCELED);
	assert_int_equal(object_upload_complete(u, &op, 1, &meta, &info), -ECANCELED); /* and it is ended */
	u = store_begin(s, KEY);
	object_upload_abort(u, &op);
	store_expect_nothing(s, KEY);
	assert_int_equal(object_delete_version(s, &op, &ref), 0);
	assert_int_equal(store_count_versions(s), 0);
}

static void test_statfs__is_sane(void **state)
{
	struct object_store *s = store_fixture_store(state);
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
	store_expect_top(f->store, "copy", d.version);
	store_expect_nothing(f->store, "gone");
	assert_int_equal(store_count_versions(f->store), 4);
	a = store_test_put(f->store, "a/b", "4444", 4);
	if (!f->kind->random_ids)
		assert_true(strcmp(a.version, b.version) > 0); /* of both stores: later ids sort behind */
	store_expect_top(f->store, "a/b", a.version);
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
		T(test_named_upload__is_gone_on_with_by_another),
		T(test_named_upload__names_that_are_none),
		T(test_named_upload__the_sweep_asks),
		T(test_etag__is_the_checksum_of_what_was_put),
		T(test_etag__of_an_upload_is_that_of_the_same_bytes_put),
		T(test_etag__of_gaps_and_holes),
		T(test_etag__of_random_uploads),
		T(test_copy__is_a_new_version_of_its_own),
		T(test_copy__that_goes_leaves_its_source_on_top),
		T(test_rename_there_and_back__by_copies_and_markers),
		T(test_copy_onto_its_own_key__puts_an_old_version_on_top),
		T(test_delete_version__takes_only_that_one),
		T(test_marker__hides_the_key_and_keeps_versions),
		T(test_file_and_folder_of_one_name__block_each_other_until_a_marker),
		T(test_set_aside__is_read_by_nobody),
		T(test_hidden_key__is_reached_by_its_version),
		T(test_hidden_key__by_upload_and_by_copy),
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
