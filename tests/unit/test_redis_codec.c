/*
 * URIs, values and messages of the redis engine, without a server.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "meta/redis_codec.h"
#include "meta/redis_conn.h"
#include "tests/lib/engine_suite.h"

static void expect_uri(const char *text, const char *where, const char *user, const char *password, unsigned int db)
{
	struct redis_uri u;
	char buf[128], *reason = NULL;

	assert_int_equal(redis_uri_parse(text, &u, &reason), 0);
	redis_uri_where(&u, buf, sizeof(buf));
	assert_string_equal(buf, where);
	assert_int_equal(!u.user, !user);
	assert_int_equal(!u.password, !password);
	if (user)
		assert_string_equal(u.user, user);
	if (password)
		assert_string_equal(u.password, password);
	assert_int_equal(u.db, db);
	redis_uri_release(&u);
}

static void test_uri__forms(void **state)
{
	(void)state;
	expect_uri("redis://h", "h:6379", NULL, NULL, 0);
	expect_uri("redis://h:1234/5", "h:1234", NULL, NULL, 5);
	expect_uri("redis://h/", "h:6379", NULL, NULL, 0);
	expect_uri("redis://:pw@h", "h:6379", NULL, "pw", 0);
	expect_uri("redis://me:p%40w%3a@h:7/1", "h:7", "me", "p@w:", 1);
	expect_uri("redis://:a@b@h", "h:6379", NULL, "a@b", 0);
	expect_uri("redis://[::1]:7", "[::1]:7", NULL, NULL, 0);
	expect_uri("redis://[fe80::1]", "[fe80::1]:6379", NULL, NULL, 0);
	expect_uri("unix:/run/r.sock", "/run/r.sock", NULL, NULL, 0);
	expect_uri("unix:///run/r.sock?db=2&password=p%26w&user=u", "/run/r.sock", "u", "p&w", 2);
}

static void test_uri__refused_without_showing_it(void **state)
{
	static const char *const bad[] = { "",		     "redis",		"redis://",	  "redis://:pw@",  "redis://h:0",
					   "redis://h:99999", "redis://h:x",	"redis://h/x",	  "redis://u@h",   "redis://h?db=1",
					   "redis://[::1",    "redis://[::1]x", "unix:",	  "unix:rel",	   "unix:/p?x=1",
					   "unix:/p?db=x",    "unix:/p?user=u", "redis://:p%4@h", "redis://:p%zz@h", "redis://:p%00@h",
					   "rediss://h",      "http://h",	"unix:/p?db=1&",  "unix:/p?password=s&password=s" };

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++) {
		struct redis_uri u;
		char *reason = NULL;

		if (redis_uri_parse(bad[i], &u, &reason) != -EINVAL)
			fail_msg("\"%s\" is taken", bad[i]);
		assert_non_null(reason);
		free(reason);
	}
	{
		struct redis_uri u;
		char *reason = NULL;

		assert_int_equal(redis_uri_parse("redis://:s3cret@h:x", &u, &reason), -EINVAL);
		assert_null(strstr(reason, "s3cret"));
		free(reason);
	}
}

static void random_node(struct node *n, unsigned int *seed)
{
	node_init(n);
	n->attr = (struct mfs_attr){ .ino = (uint64_t)rand_r(seed), .ver = (uint64_t)rand_r(seed) << 33, .data = 3, .lay = 4,
				     .size = UINT64_MAX, .obj_len = 1, .alloc = 2, .atime = INT64_MIN, .mtime = -1,
				     .ctime = INT64_MAX, .btime = rand_r(seed), .mode = 0100644, .uid = UINT32_MAX, .gid = 1,
				     .nlink = 9, .rdev = 77, .flags = ATTR_SHARED, .children = 6 };
	n->parent = 5;
	n->name = test_name("a name \xff");
	n->pos = UINT64_MAX;
	n->ref.store = UINT16_MAX;
	n->ref.bucket = rand_r(seed) % 2 ? strdup("b") : NULL;
	n->ref.key = strdup("k/ey");
	strcpy(n->ref.version, "v");
	memset(n->etag, 'e', OBJECT_ETAG_MAX);
	n->symlink = rand_r(seed) % 2 ? strdup("") : NULL;
	assert_int_equal(node_xattr_set(n, "user.x", "", 0), 0);
	assert_int_equal(node_xattr_set(n, "user.y", "\0\1", 2), 0);
	n->creator_uid = 8;
	n->creator_user = strdup("u");
	n->todo = -3;
	n->pending = 4;
	n->quota = 5;
	assert_int_equal(node_blob_add_u64(&n->fenced, 7), 0);
	n->slices.data = calloc(1, 1);
	n->inline_data.data = strdup("in");
	n->inline_data.size = 2;
}

static void test_record__is_what_it_was(void **state)
{
	unsigned int seed = 3;

	(void)state;
	for (unsigned int i = 0; i < 200; i++) {
		MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(REDIS_RECORD_MAX);
		struct node a, out;

		random_node(&a, &seed);
		assert_int_equal(value_put_record(&b, &a), 0);
		assert_int_equal(value_get_record(b.data, b.len, &out), 0);
		test_same_node(&a, &out);
		node_release(&out);
		for (size_t cut = 0; cut < b.len; cut++)
			assert_int_equal(value_get_record(b.data, cut, &out), -EBADMSG);
		node_release(&a);
	}
}

static void test_record__that_is_too_big(void **state)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(4 * REDIS_RECORD_MAX);
	struct node a = NODE_INIT;

	(void)state;
	a.inline_data.data = calloc(1, REDIS_RECORD_MAX);
	a.inline_data.size = REDIS_RECORD_MAX;
	assert_int_equal(value_put_record(&b, &a), -EFBIG);
	node_release(&a);
}

static void test_hints__are_what_they_were(void **state)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(REDIS_HINT_BYTES);
	struct hints *h = calloc(1, sizeof(*h)), *out = calloc(1, sizeof(*out));

	(void)state;
	*h = (struct hints){ .instance = UINT64_MAX, .session = 101, .epoch = 9, .n = 3 };
	h->v[0].news = (struct news){ .kind = NEWS_RECORD, .ino = 5, .parent = 1, .ver = 7, .data = 2, .lay = 3 };
	h->v[0].name = test_name("n");
	h->v[1].news = (struct news){ .kind = NEWS_GONE, .ino = 6 };
	h->v[2].news = (struct news){ .kind = NEWS_CELL, .cell = "locks/1" };
	assert_int_equal(hints_put(&b, h), 0);
	assert_int_equal(hints_get(b.data, b.len, out), 0);
	assert_int_equal(out->instance, UINT64_MAX);
	assert_int_equal(out->n, 3);
	assert_true(out->v[0].news.hint && out->v[0].news.session == 101 && out->v[0].news.ver == 7);
	assert_string_equal(out->v[0].news.name->bytes, "n");
	assert_null(out->v[1].news.name);
	assert_string_equal(out->v[2].news.cell, "locks/1");
	for (size_t cut = 0; cut < b.len; cut++)
		assert_int_equal(hints_get(b.data, cut, out), -EBADMSG);
	free(h);
	free(out);
}

static void test_seal__is_of_key_and_every_byte(void **state)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(1000);
	unsigned char secret[32] = { 1 }, other[32] = { 2 };
	struct redis_seal *s, *o;
	size_t len = 0;

	(void)state;
	assert_int_equal(redis_seal_new(secret, &s), 0);
	assert_int_equal(redis_seal_new(other, &o), 0);
	mfs_buf_puts(&b, "some value");
	assert_int_equal(redis_seal_put(s, "key", &b), 0);
	assert_int_equal(b.len, 10 + REDIS_MAC);
	assert_true(redis_seal_holds(s, "key", b.data, b.len, &len));
	assert_int_equal(len, 10);
	assert_false(redis_seal_holds(s, "kez", b.data, b.len, &len));
	assert_false(redis_seal_holds(o, "key", b.data, b.len, &len));
	assert_false(redis_seal_holds(s, "key", b.data, b.len - 1, &len));
	assert_false(redis_seal_holds(s, "key", b.data, 5, &len));
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] ^= 4;
		assert_false(redis_seal_holds(s, "key", b.data, b.len, &len));
		b.data[i] ^= 4;
	}
	assert_true(redis_seal_holds(s, "key", b.data, b.len, &len));
	redis_seal_free(s);
	redis_seal_free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uri__forms),
		cmocka_unit_test(test_uri__refused_without_showing_it),
		cmocka_unit_test(test_record__is_what_it_was),
		cmocka_unit_test(test_record__that_is_too_big),
		cmocka_unit_test(test_hints__are_what_they_were),
		cmocka_unit_test(test_seal__is_of_key_and_every_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
