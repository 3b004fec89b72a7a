/*
 * The S3 store on a bad day: a MinIO behind a proxy that loses requests and replies, cuts and forges them, is busy, slow
 * or silent. Each call ends right, or with its errno inside the deadline, and never makes a second version.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/s3_internal.h"
#include "common/clock.h"
#include "common/op_ctx.h"
#include "tests/lib/s3_proxy.h"
#include "tests/lib/s3_server.h"
#include "tests/lib/store_fixture.h"

#define SEC MFS_NSEC_PER_SEC
#define KEY "folder/file"

static struct s3_server server;

struct world {
	char *dir;
	char bucket[64];
	struct s3_proxy *proxy;
	struct object_store *s;	     /* through the proxy */
	struct object_store *direct; /* what there really is */
};

static struct s3_options options(struct world *w, const char *endpoints)
{
	return (struct s3_options){
		.endpoints = endpoints,
		.bucket = w->bucket,
		.passwd_file = server.credentials,
		.create = true,
		.request_ns = 2 * SEC,
		.timeout_ns = 20 * SEC,
	};
}

static struct object_store *open_at(struct world *w, const char *endpoints)
{
	struct s3_options opt = options(w, endpoints);
	MFS_AUTOFREE char *reason = NULL;
	struct object_store *s;

	if (s3_store_open(&opt, &s, &reason) < 0)
		fail_msg("%s", reason ? reason : "open");
	return s;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->dir = store_test_dir();
	s3_server_bucket(w->dir, w->bucket);
	w->proxy = s3_proxy_start(server.endpoints);
	w->direct = open_at(w, server.endpoints);
	w->s = open_at(w, s3_proxy_endpoint(w->proxy));
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	s3_proxy_rule(w->proxy, S3_FAULT_NONE, NULL, NULL, 0);
	object_store_free(w->s);
	object_store_free(w->direct);
	s3_proxy_stop(w->proxy);
	store_test_remove(w->dir);
	free(w);
	return 0;
}

static void expect_hit(struct world *w)
{
	assert_true(s3_proxy_hits(w->proxy) > 0);
	s3_proxy_rule(w->proxy, S3_FAULT_NONE, NULL, NULL, 0);
}

static const enum s3_fault write_faults[] = { S3_FAULT_LOSE_REQUEST, S3_FAULT_LOSE_REPLY, S3_FAULT_503, S3_FAULT_429,
					      S3_FAULT_500_AFTER,    S3_FAULT_HANG,	  S3_FAULT_SLOW };

/* --- what makes versions --- */

static void test_put__once_whatever_is_lost(void **state)
{
	static const char *const keys[] = { KEY, KEY, OBJECT_HIDDEN_PREFIX "1-1" }; /* new, over an old one, a patch */
	struct world *w = *state;
	unsigned int n = 0;

	for (size_t k = 0; k < MFS_ARRAY_LEN(keys); k++) {
		for (size_t i = 0; i < MFS_ARRAY_LEN(write_faults); i++) {
			struct object_meta meta = store_test_meta(++n);
			struct object_info info, top;
			char key[64];

			snprintf(key, sizeof(key), "%s%zu", keys[k], k == 1 ? 0 : i);
			s3_proxy_rule(w->proxy, write_faults[i], "PUT", key, 1);
			assert_int_equal(object_put(w->s, NULL, NULL, key, key, strlen(key), &meta, &info), 0);
			expect_hit(w);
			assert_int_equal(store_count_versions(w->direct), n);
			store_test_expect(w->direct, key, info.version, key, strlen(key));
			assert_int_equal(object_head(w->direct, NULL, NULL, key, NULL, &top), 0);
			assert_string_equal(top.version, info.version);
			assert_int_equal(top.op, n);
		}
	}
}

static void test_copy__once_whatever_is_lost(void **state)
{
	static const enum s3_fault more[] = { S3_FAULT_GARBAGE, S3_FAULT_ERROR_200, S3_FAULT_CUT };
	struct world *w = *state;
	struct object_info src = store_test_put(w->direct, "source", "content", 7), info;
	struct object_ref ref = store_test_ref("source", src.version);
	unsigned int n = 1;

	for (size_t i = 0; i < MFS_ARRAY_LEN(write_faults) + MFS_ARRAY_LEN(more); i++) {
		struct object_meta meta = store_test_meta(100 + ++n);
		enum s3_fault fault = i < MFS_ARRAY_LEN(write_faults) ? write_faults[i] : more[i - MFS_ARRAY_LEN(write_faults)];

		s3_proxy_rule(w->proxy, fault, "PUT", KEY, 1);
		assert_int_equal(object_copy(w->s, NULL, &ref, NULL, KEY, &meta, &info), 0);
		expect_hit(w);
		assert_int_equal(store_count_versions(w->direct), n);
		store_test_expect(w->direct, KEY, info.version, "content", 7);
		assert_string_equal(info.etag, src.etag);
	}
}

static void test_upload__once_whatever_is_lost(void **state)
{
	static const enum s3_fault more[] = { S3_FAULT_GARBAGE, S3_FAULT_ERROR_200, S3_FAULT_CUT };
	static const struct {
		const char *method, *part;
	} steps[] = { { "POST", "uploads=" }, { "PUT", "partNumber=2" }, { "POST", "uploadId=" } };
	struct world *w = *state;
	const size_t len = OBJECT_PART_MIN, size = len + 1000;
	char *buf = malloc(size);
	unsigned int n = 0;

	assert_non_null(buf);
	store_test_fill(buf, size, 1);
	for (size_t k = 0; k < MFS_ARRAY_LEN(steps); k++) {
		size_t n_faults = MFS_ARRAY_LEN(write_faults) + (k == 2 ? MFS_ARRAY_LEN(more) : 0);

		for (size_t i = 0; i < n_faults; i++) {
			enum s3_fault fault = i < MFS_ARRAY_LEN(write_faults) ? write_faults[i]
									      : more[i - MFS_ARRAY_LEN(write_faults)];
			struct object_meta meta = store_test_meta(200 + ++n);
			struct object_upload *u;
			struct object_info info;

			s3_proxy_rule(w->proxy, fault, steps[k].method, steps[k].part, 1);
			assert_int_equal(object_upload_begin(w->s, NULL, NULL, KEY, &meta, &u), 0);
			assert_int_equal(object_upload_part(u, NULL, 1, 0, buf, len), 0);
			assert_int_equal(object_upload_part(u, NULL, 2, len, buf + len, 1000), 0);
			assert_int_equal(object_upload_complete(u, NULL, size, &meta, &info), 0);
			expect_hit(w);
			assert_int_equal(store_count_versions(w->direct), n);
			store_expect_top(w->direct, KEY, info.version);
			store_test_expect(w->direct, KEY, info.version, buf, size);
		}
	}
	free(buf);
}

/* Big ones are copied in parts (5 GiB is the most that S3 copies at once; here it is 10 MiB), under the same rules. */
static void test_copy__in_parts_whatever_is_lost(void **state)
{
	static const struct {
		enum s3_fault fault;
		const char *method, *part;
	} faults[] = {
		{ S3_FAULT_NONE, NULL, NULL },
		{ S3_FAULT_LOSE_REPLY, "PUT", "partNumber=2" },	 { S3_FAULT_ERROR_200, "PUT", "partNumber=1" },
		{ S3_FAULT_500_AFTER, "PUT", "partNumber=3" },	 { S3_FAULT_GARBAGE, "PUT", "partNumber=3" },
		{ S3_FAULT_LOSE_REPLY, "POST", "uploadId" },	 { S3_FAULT_503, "POST", "uploads" },
	};
	enum { SIZE = 12 << 20 };
	struct world *w = *state;
	struct s3_options opt = options(w, s3_proxy_endpoint(w->proxy));
	char *data = malloc(SIZE);
	struct object_info src, info;
	struct object_store *s;
	struct object_ref ref;
	unsigned int n = 1;

	opt.copy_part = OBJECT_PART_MIN;
	assert_int_equal(s3_store_open(&opt, &s, NULL), 0);
	assert_non_null(data);
	store_test_fill(data, SIZE, 3);
	src = store_test_put(w->direct, "source", data, SIZE);
	ref = store_test_ref("source", src.version);
	for (size_t i = 0; i < MFS_ARRAY_LEN(faults); i++) {
		struct object_meta meta = store_test_meta(200 + ++n);
		int r;

		s3_proxy_rule(w->proxy, faults[i].fault, faults[i].method, faults[i].part, faults[i].fault ? 1 : 0);
		r = object_copy(s, NULL, &ref, NULL, KEY, &meta, &info);
		if (faults[i].fault)
			expect_hit(w);
		if (faults[i].fault == S3_FAULT_GARBAGE && r == -EIO) { /* it may say so, and leaves nothing */
			assert_int_equal(store_count_versions(w->direct), --n);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(store_count_versions(w->direct), n);
		store_test_expect(w->direct, KEY, info.version, data, SIZE);
		assert_string_equal(info.etag, src.etag);
	}
	free(data);
	object_store_free(s);
}

struct seen_key {
	char versions[16][OBJECT_VERSION_MAX + 1];
	bool markers[16];
	size_t n;
};

static int see_key(void *arg, const char *key, const struct object_info *info)
{
	struct seen_key *k = arg;

	assert_string_equal(key, KEY);
	assert_true(k->n < 16);
	memcpy(k->versions[k->n], info->version, sizeof(info->version));
	k->markers[k->n++] = info->is_marker;
	return 0;
}

/* All that one key holds, and nothing of those it is a prefix of; a marker goes as a version does. */
static void test_list_key__the_newest_first_with_markers(void **state)
{
	struct world *w = *state;
	struct object_info a = store_test_put(w->s, KEY, "1", 1), b = store_test_put(w->s, KEY, "2", 1), top;
	struct seen_key k = { .n = 0 };
	struct object_ref ref;

	store_test_put(w->s, KEY "2", "x", 1);
	store_test_put(w->s, "folder/fil", "x", 1);
	assert_int_equal(object_put_marker(w->s, NULL, NULL, KEY), 0);
	assert_int_equal(object_list_key(w->s, NULL, NULL, KEY, see_key, &k), 0);
	assert_int_equal(k.n, 3);
	assert_true(k.markers[0] && !k.markers[1] && !k.markers[2]);
	assert_string_equal(k.versions[1], b.version);
	assert_string_equal(k.versions[2], a.version);
	ref = store_test_ref(KEY, k.versions[0]);
	assert_int_equal(object_delete_version(w->s, NULL, &ref), 0);
	assert_int_equal(object_head(w->s, NULL, NULL, KEY, NULL, &top), 0);
	assert_string_equal(top.version, b.version);
	k.n = 0;
	assert_int_equal(object_list_key(w->s, NULL, NULL, "none", see_key, &k), 0);
	assert_int_equal(k.n, 0);
}

static void test_put__tells_of_a_crowded_key(void **state)
{
	struct world *w = *state;
	struct object_meta meta = store_test_meta(1);
	struct object_info info;
	unsigned int told = 0;

	assert_false(object_key_is_crowded(w->direct, KEY));
	for (unsigned int i = 0; i < S3_CROWD_PUTS; i++) {
		assert_int_equal(told, 0);
		assert_int_equal(object_put(w->direct, NULL, NULL, KEY, "x", 1, &meta, &info), 0);
		told += info.crowded;
	}
	assert_int_equal(told, 1);
	assert_true(object_key_is_crowded(w->direct, KEY));
	assert_false(object_key_is_crowded(w->direct, KEY));
}

/* A connection that was kept and died: libcurl would send the request again on its own. */
static void test_put__is_not_repeated_by_libcurl(void **state)
{
	struct world *w = *state;
	struct object_meta meta = store_test_meta(1);
	struct object_info info;

	store_test_put(w->s, KEY, "warm", 4);
	s3_proxy_rule(w->proxy, S3_FAULT_LOSE_REPLY, "PUT", KEY, 1);
	assert_int_equal(object_put(w->s, NULL, NULL, KEY, "x", 1, &meta, &info), 0);
	expect_hit(w);
	assert_int_equal(store_count_versions(w->direct), 2);
}

/* --- what reads --- */

static void test_get__right_or_again(void **state)
{
	static const enum s3_fault faults[] = { S3_FAULT_LOSE_REQUEST, S3_FAULT_LOSE_REPLY, S3_FAULT_CUT, S3_FAULT_503,
						S3_FAULT_429, S3_FAULT_500_AFTER, S3_FAULT_RANGE, S3_FAULT_SHORT, S3_FAULT_HANG,
						S3_FAULT_SLOW };
	struct world *w = *state;
	char data[1000], got[1000];
	struct object_info info;
	struct object_ref ref;

	store_test_fill(data, sizeof(data), 1);
	info = store_test_put(w->direct, KEY, data, sizeof(data));
	ref = store_test_ref(KEY, info.version);
	for (size_t i = 0; i < MFS_ARRAY_LEN(faults); i++) {
		s3_proxy_rule(w->proxy, faults[i], "GET", KEY, 1);
		memset(got, 0, sizeof(got));
		assert_int_equal(object_get(w->s, NULL, &ref, 100, got, 500), 500);
		expect_hit(w);
		assert_memory_equal(got, data + 100, 500);
	}
}

static void test_head_and_lists__right_or_again(void **state)
{
	static const enum s3_fault faults[] = { S3_FAULT_LOSE_REQUEST, S3_FAULT_LOSE_REPLY, S3_FAULT_CUT, S3_FAULT_503,
						S3_FAULT_429, S3_FAULT_500_AFTER, S3_FAULT_GARBAGE, S3_FAULT_HANG };
	struct world *w = *state;
	struct object_info info = store_test_put(w->direct, KEY, "x", 1);

	for (size_t i = 0; i < MFS_ARRAY_LEN(faults); i++) {
		if (faults[i] != S3_FAULT_CUT && faults[i] != S3_FAULT_GARBAGE) { /* it has no body */
			s3_proxy_rule(w->proxy, faults[i], "HEAD", KEY, 1);
			store_expect_top(w->s, KEY, info.version);
			expect_hit(w);
		}
		s3_proxy_rule(w->proxy, faults[i], "GET", "versions", 1);
		assert_int_equal(store_count_versions(w->s), 1);
		expect_hit(w);
	}
}

static void test_delete_and_marker__whatever_is_lost(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < MFS_ARRAY_LEN(write_faults); i++) {
		struct object_info info = store_test_put(w->direct, KEY, "x", 1);
		struct object_ref ref = store_test_ref(KEY, info.version);

		s3_proxy_rule(w->proxy, write_faults[i], "DELETE", KEY, 1);
		assert_int_equal(object_put_marker(w->s, NULL, NULL, KEY), 0);
		expect_hit(w);
		store_expect_nothing(w->direct, KEY);
		s3_proxy_rule(w->proxy, write_faults[i], "DELETE", KEY, 1);
		assert_int_equal(object_delete_version(w->s, NULL, &ref), 0);
		expect_hit(w);
		assert_int_equal(store_count_versions(w->direct), 0);
	}
}

/* --- deadlines --- */

static void expect_in_time(int r, int64_t began, int64_t deadline)
{
	int64_t now = mfs_mono_ns();

	assert_int_equal(r, -ETIMEDOUT);
	assert_true(now < deadline + SEC); /* under sanitizers on a busy machine */
	assert_true(now > began);
}

static void test_outage__each_call_ends_by_its_deadline(void **state)
{
	static const enum s3_fault faults[] = { S3_FAULT_503, S3_FAULT_HANG, S3_FAULT_LOSE_REQUEST, S3_FAULT_LOSE_REPLY,
						S3_FAULT_GARBAGE };
	struct world *w = *state;
	struct object_info info = store_test_put(w->direct, KEY, "x", 1);
	struct object_ref ref = store_test_ref(KEY, info.version);
	struct store_seen *seen = calloc(1, sizeof(*seen));
	struct object_meta meta = store_test_meta(5);
	char c;

	assert_non_null(seen);
	for (size_t i = 0; i < MFS_ARRAY_LEN(faults); i++) {
		s3_proxy_rule(w->proxy, faults[i], NULL, NULL, -1);
		for (unsigned int call = 0; call < 5; call++) {
			struct op_ctx op = { .deadline_ns = mfs_mono_ns() + SEC };
			int64_t began = mfs_mono_ns();
			struct object_upload *u;
			int r = 0;

			if (faults[i] == S3_FAULT_GARBAGE && call != 3)
				continue; /* garbage where no XML is expected is what was asked for, or nothing */
			if (call == 0)
				r = object_put(w->s, &op, NULL, "other", "x", 1, &meta, NULL);
			else if (call == 1)
				r = (int)object_get(w->s, &op, &ref, 0, &c, 1);
			else if (call == 2)
				r = object_head(w->s, &op, NULL, KEY, NULL, &info);
			else if (call == 3)
				r = object_list_versions(w->s, &op, NULL, store_see, seen);
			else
				r = object_upload_begin(w->s, &op, NULL, "other", &meta, &u);
			expect_in_time(r, began, op.deadline_ns);
		}
		s3_proxy_rule(w->proxy, S3_FAULT_NONE, NULL, NULL, 0);
		store_expect_top(w->s, KEY, ref.version); /* it goes on by itself */
	}
	free(seen);
}

static void *cancel_soon(void *arg)
{
	usleep(300000);
	atomic_store(&((struct op_ctx *)arg)->cancelled, true);
	return NULL;
}

static void test_cancel__ends_a_call_that_waits(void **state)
{
	struct world *w = *state;
	struct op_ctx op = { 0 };
	struct object_info info;
	int64_t began = mfs_mono_ns();
	pthread_t t;

	s3_proxy_rule(w->proxy, S3_FAULT_HANG, NULL, NULL, -1);
	assert_int_equal(pthread_create(&t, NULL, cancel_soon, &op), 0);
	assert_int_equal(object_head(w->s, &op, NULL, KEY, NULL, &info), -ECANCELED);
	assert_true(mfs_mono_ns() - began < 2 * SEC);
	pthread_join(t, NULL);
}

/* --- several nodes --- */

static int count_down(void *arg, const struct s3_endpoint_state *state)
{
	*(unsigned int *)arg += !state->up;
	return 0;
}

static unsigned int n_down(struct object_store *s)
{
	unsigned int n = 0;

	assert_int_equal(s3_store_endpoints(s, count_down, &n), 0);
	return n;
}

static void expect_soon_down(struct object_store *s, unsigned int want)
{
	int64_t until = mfs_mono_ns() + 8 * SEC;

	while (n_down(s) != want && mfs_mono_ns() < until)
		usleep(50000);
	assert_int_equal(n_down(s), want);
}

static void test_nodes__hung_one_is_left_and_taken_back(void **state)
{
	struct world *w = *state;
	MFS_AUTOFREE char *both = NULL;
	struct object_store *s;
	int64_t began;

	assert_true(asprintf(&both, "%s,%s", s3_proxy_endpoint(w->proxy), server.endpoints) > 0);
	s = open_at(w, both);
	assert_int_equal(n_down(s), 0);
	s3_proxy_rule(w->proxy, S3_FAULT_HANG, NULL, NULL, -1);
	began = mfs_mono_ns();
	for (unsigned int i = 0; i < 10; i++)
		store_test_put(s, KEY, "x", 1);
	assert_true(mfs_mono_ns() - began < 2 * SEC + 3 * SEC); /* one time-out, no more */
	expect_soon_down(s, 1);
	assert_int_equal(store_count_versions(w->direct), 10);
	s3_proxy_rule(w->proxy, S3_FAULT_NONE, NULL, NULL, 0);
	expect_soon_down(s, 0);
	s3_proxy_requests(w->proxy);
	for (unsigned int i = 0; i < 10; i++)
		store_test_put(s, KEY, "x", 1);
	assert_true(s3_proxy_requests(w->proxy) >= 3); /* it has its share again */
	object_store_free(s);
}

/* Big time-outs: what is under way at a node that hangs is not left to them. */
static void test_nodes__requests_leave_a_node_that_hangs(void **state)
{
	struct world *w = *state;
	MFS_AUTOFREE char *both = NULL;
	struct s3_options opt;
	struct object_store *s;
	int64_t began;

	assert_true(asprintf(&both, "%s,%s", s3_proxy_endpoint(w->proxy), server.endpoints) > 0);
	opt = options(w, both);
	opt.request_ns = opt.timeout_ns = 60 * SEC;
	assert_int_equal(s3_store_open(&opt, &s, NULL), 0);
	s3_proxy_rule(w->proxy, S3_FAULT_HANG, NULL, NULL, -1);
	began = mfs_mono_ns();
	for (unsigned int i = 0; i < 4; i++)
		store_test_put(s, KEY, "x", 1);
	assert_true(mfs_mono_ns() - began < 40 * SEC); /* a third of 60 s of silence, then two questions */
	assert_int_equal(n_down(s), 1);
	assert_int_equal(store_count_versions(w->direct), 4);
	object_store_free(s);
}

/* A node that answers, but not this: it keeps its place, and no request to it is given up for that. */
static void test_nodes__a_slow_answer_is_no_fall(void **state)
{
	struct world *w = *state;
	MFS_AUTOFREE char *both = NULL;
	struct object_info info = store_test_put(w->direct, KEY, "x", 1);
	struct object_store *s;

	assert_true(asprintf(&both, "%s,%s", s3_proxy_endpoint(w->proxy), server.endpoints) > 0);
	s = open_at(w, both);
	s3_proxy_rule(w->proxy, S3_FAULT_HANG, "GET", "versions", -1);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(store_count_versions(s), 1);
	usleep(3000000); /* two questions and more */
	assert_int_equal(n_down(s), 0);
	store_expect_top(s, KEY, info.version);
	object_store_free(s);
}

static void test_nodes__dead_one_costs_nothing(void **state)
{
	struct world *w = *state;
	MFS_AUTOFREE char *both = NULL;
	struct object_store *s;
	int64_t began = mfs_mono_ns();

	assert_true(asprintf(&both, "http://127.0.0.1:9,%s", server.endpoints) > 0);
	s = open_at(w, both);
	for (unsigned int i = 0; i < 10; i++)
		store_test_put(s, KEY, "x", 1);
	assert_true(mfs_mono_ns() - began < 3 * SEC);
	assert_int_equal(n_down(s), 1);
	assert_int_equal(store_count_versions(w->direct), 10);
	object_store_free(s);
}

/* --- opening, sweeping --- */

static void test_open__refuses_what_would_lose_files(void **state)
{
	static const char rule[] = "<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>"
				   "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration>"
				   "</Rule></LifecycleConfiguration>";
	struct world *w = *state;
	struct s3_options opt = options(w, server.endpoints);
	struct s3_request q = { .method = "PUT", .body = rule, .body_len = sizeof(rule) - 1, .has_body = true };
	S3_AUTO_REPLY struct s3_reply reply = S3_REPLY_INIT;
	MFS_AUTOFREE char *reason = NULL, *reason2 = NULL, *reason3 = NULL;
	struct object_store *s;
	char md5[32];

	s3_query(&q, "lifecycle", "");
	assert_int_equal(s3_content_md5(&q, md5), 0);
	assert_int_equal(s3_run_simple(s3_of(w->direct), NULL, &q, &reply), 0);
	assert_int_equal(s3_store_open(&opt, &s, &reason), -ENOTSUP);
	assert_non_null(strstr(reason, "lifecycle"));
	opt.bucket = "massfs-none-such";
	opt.create = false;
	assert_int_equal(s3_store_open(&opt, &s, &reason2), -ENOENT);
	opt.access_key = "nobody";
	opt.secret_key = "verysecretindeed";
	assert_int_equal(s3_store_open(&opt, &s, &reason3), -EACCES);
	assert_null(strstr(reason3, "verysecretindeed"));
}

static void test_sweep__takes_old_uploads_and_lonely_markers(void **state)
{
	struct world *w = *state;
	struct s3_options opt = options(w, server.endpoints);
	struct object_info info = store_test_put(w->direct, "a&b <c>", "x", 1);
	struct object_ref ref = store_test_ref("a&b <c>", info.version);
	struct object_upload *u = store_begin(w->s, KEY);
	S3_AUTO_LISTING struct s3_listing l = { 0 };
	struct object_store *s;
	struct s3_tries t;
	uint64_t n, bytes;

	assert_int_equal(object_upload_part(u, NULL, 1, 0, "12345", 5), 0);
	assert_int_equal(object_put_marker(w->direct, NULL, NULL, "a&b <c>"), 0);
	assert_int_equal(object_delete_version(w->direct, NULL, &ref), 0);
	store_test_put(w->direct, "stays", "x", 1);
	assert_int_equal(object_put_marker(w->direct, NULL, NULL, "stays"), 0);
	assert_int_equal(object_sweep(w->direct, NULL, true, &n, &bytes), 0);
	assert_int_equal(n, 0); /* it is young */
	opt.sweep_age_ns = 1;
	assert_int_equal(s3_store_open(&opt, &s, NULL), 0);
	assert_int_equal(object_sweep(s, NULL, false, &n, &bytes), 0);
	assert_int_equal(n, 1);
	assert_int_equal(bytes, 5);
	assert_int_equal(object_sweep(s, NULL, true, &n, &bytes), 0);
	assert_int_equal(object_sweep(s, NULL, true, &n, &bytes), 0);
	assert_int_equal(n, 0);
	s3_tries_begin(s3_of(s), NULL, &t);
	assert_int_equal(s3_list_page(s3_of(s), NULL, &t, NULL, NULL, "", NULL, NULL, 0, &l), 0);
	assert_int_equal(l.n, 2); /* "stays": a version and its marker */
	object_store_free(s);
	object_upload_abort(u, NULL);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_put__once_whatever_is_lost),
		T(test_copy__once_whatever_is_lost),
		T(test_upload__once_whatever_is_lost),
		T(test_copy__in_parts_whatever_is_lost),
		T(test_list_key__the_newest_first_with_markers),
		T(test_put__tells_of_a_crowded_key),
		T(test_put__is_not_repeated_by_libcurl),
		T(test_get__right_or_again),
		T(test_head_and_lists__right_or_again),
		T(test_delete_and_marker__whatever_is_lost),
		T(test_outage__each_call_ends_by_its_deadline),
		T(test_cancel__ends_a_call_that_waits),
		T(test_nodes__hung_one_is_left_and_taken_back),
		T(test_nodes__requests_leave_a_node_that_hangs),
		T(test_nodes__a_slow_answer_is_no_fall),
		T(test_nodes__dead_one_costs_nothing),
		T(test_open__refuses_what_would_lose_files),
		T(test_sweep__takes_old_uploads_and_lonely_markers),
	};
	int r;

	s3_server_start("minio", &server);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	s3_server_stop(&server);
	return r;
}
