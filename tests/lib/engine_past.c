/*
 * Contract tests of engines: the side collections (versions, dropped, jobs, sessions).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/engine_suite.h"

static struct version_record version(mfs_ino_t ino, uint64_t data, const char *path, int64_t replaced, int64_t until)
{
	return (struct version_record){
		.ino = ino,
		.data = data,
		.path = (char *)(uintptr_t)path,
		.ref = { .store = 2,
			 .bucket = (char *)(uintptr_t) "b",
			 .key = (char *)(uintptr_t) "key/\xc3\xa4",
			 .version = "v-1" },
		.size = 100 + data,
		.obj_len = 50,
		.mtime = -7,
		.replaced = replaced,
		.until = until,
		.mode = 0100600,
		.uid = 4294967295u,
		.gid = 8,
		.writer = 9,
	};
}

static void put_version(struct engine *e, const struct version_record *v, enum write_kind kind)
{
	struct change c = { 0 };

	change_write(&c, kind, 0)->version = v;
	TEST_OK(engine_apply(e, NULL, &c));
}

static void same_version(const struct version_record *a, const struct version_record *b)
{
	assert_int_equal(a->ino, b->ino);
	assert_int_equal(a->data, b->data);
	assert_string_equal(a->path, b->path);
	assert_true(object_ref_equal(&a->ref, &b->ref));
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->obj_len, b->obj_len);
	assert_int_equal(a->mtime, b->mtime);
	assert_int_equal(a->replaced, b->replaced);
	assert_int_equal(a->until, b->until);
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_int_equal(a->writer, b->writer);
}

static void test_versions__are_found_by_path_file_and_end(void **state)
{
	struct engine_fixture *f = *state;
	const struct version_record in[] = {
		version(5, 1, "p", 100, 1000), version(5, 2, "p", 200, INT64_MAX), version(5, 10, "q\xff", 300, 50),
		version(7, 1, "p", 250, 999),  version(UINT32_MAX, 1, "p/x", 1, 1),
	};
	struct version_list l = { 0 };

	for (size_t i = 0; i < MFS_ARRAY_LEN(in); i++)
		put_version(f->e, &in[i], WRITE_VERSION_PUT);
	engine_fixture_reopen(f);
	/* Newest first, over the files that had this path in turn. */
	TEST_OK(engine_versions_by_path(f->two, NULL, "p", &l));
	assert_int_equal(l.n, 3);
	same_version(&l.v[0], &in[3]);
	same_version(&l.v[1], &in[1]);
	same_version(&l.v[2], &in[0]);
	version_list_release(&l);
	TEST_OK(engine_versions_by_path(f->e, NULL, "q\xff", &l));
	assert_int_equal(l.n, 1);
	TEST_OK(engine_versions_by_path(f->e, NULL, "Q", &l));
	assert_int_equal(l.n, 1);
	TEST_OK(engine_versions_by_ino(f->e, NULL, 5, &l)); /* appended */
	assert_int_equal(l.n, 4);
	same_version(&l.v[1], &in[2]);
	same_version(&l.v[3], &in[0]);
	version_list_release(&l);
	TEST_OK(engine_versions_expired(f->e, NULL, 999, 10, &l));
	assert_int_equal(l.n, 3);
	version_list_release(&l);
	TEST_OK(engine_versions_expired(f->e, NULL, INT64_MAX - 1, 2, &l));
	assert_int_equal(l.n, 2);
	version_list_release(&l);
	/* The walk of all. */
	TEST_OK(engine_versions_all(f->e, NULL, 0, 0, 2, &l));
	TEST_OK(engine_versions_all(f->e, NULL, l.v[1].ino, l.v[1].data, 10, &l));
	assert_int_equal(l.n, 5);
	for (int i = 0; i < 5; i++)
		same_version(&l.v[i], &in[i]);
	version_list_release(&l);
}

static void test_versions__put_replaces_and_delete_is_idempotent(void **state)
{
	struct engine_fixture *f = *state;
	struct version_record v = version(5, 1, "p", 100, 1000), w = version(5, 1, "other", 101, 2000);
	struct version_list l = { 0 };

	put_version(f->e, &v, WRITE_VERSION_PUT);
	put_version(f->two, &w, WRITE_VERSION_PUT);
	TEST_OK(engine_versions_by_ino(f->e, NULL, 5, &l));
	assert_int_equal(l.n, 1);
	same_version(&l.v[0], &w);
	version_list_release(&l);
	TEST_OK(engine_versions_by_path(f->e, NULL, "p", &l));
	assert_int_equal(l.n, 0);
	put_version(f->e, &v, WRITE_VERSION_DELETE);
	put_version(f->e, &v, WRITE_VERSION_DELETE);
	TEST_OK(engine_versions_by_ino(f->two, NULL, 5, &l));
	assert_int_equal(l.n, 0);
	version_list_release(&l);
}

static void test_dropped__are_numbered_and_listed(void **state)
{
	struct engine_fixture *f = *state;
	struct dropped_record d = { .ino = 5, .ref = { .key = (char *)(uintptr_t) "k", .version = "v" } };
	struct dropped_list l = { 0 };
	struct change c = { 0 };
	uint64_t own = test_number(f->e);

	for (int i = 0; i < 4; i++) {
		d.at = 10 * i;
		d.id = i == 3 ? own : 0;
		c = (struct change){ 0 };
		change_write(&c, WRITE_DROPPED_PUT, 0)->dropped = &d;
		TEST_OK(engine_apply(f->e, NULL, &c));
	}
	TEST_OK(engine_dropped(f->two, NULL, 1000, 0, 10, &l));
	assert_int_equal(l.n, 4);
	for (int i = 1; i < 4; i++)
		assert_true(l.v[i].id > l.v[i - 1].id);
	assert_int_equal(l.v[0].id, own);
	assert_int_equal(l.v[0].at, 30);
	assert_int_equal(l.v[1].ino, 5);
	assert_string_equal(l.v[1].ref.key, "k");
	assert_string_equal(l.v[1].ref.version, "v");
	/* A number from the same space as all others. */
	assert_true(test_number(f->e) > l.v[3].id);
	d.id = l.v[2].id;
	dropped_list_release(&l);
	c = (struct change){ 0 };
	change_write(&c, WRITE_DROPPED_DELETE, 0)->dropped = &d;
	TEST_OK(engine_apply(f->e, NULL, &c));
	TEST_OK(engine_apply(f->e, NULL, &c));
	TEST_OK(engine_dropped(f->e, NULL, 21, own, 10, &l)); /* at 0 and 20; 10 is deleted, `own` not above itself */
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].at, 0);
	dropped_list_release(&l);
	TEST_OK(engine_dropped(f->e, NULL, 20, own, 10, &l));
	assert_int_equal(l.n, 1);
	dropped_list_release(&l);
}

static void put_job(struct engine *e, const struct job_record *j, enum write_kind kind)
{
	struct change c = { 0 };

	change_write(&c, kind, 0)->job = j;
	TEST_OK(engine_apply(e, NULL, &c));
}

static void test_jobs__are_one_a_key_with_the_earlier_due(void **state)
{
	struct engine_fixture *f = *state;
	struct job_record j = { .kind = JOB_KEY, .key = (char *)(uintptr_t) "a/b\xff", .due = 100, .tries = 3 };
	struct job_record dir = { .kind = JOB_DIR, .ino = 77, .due = 50 };
	struct job_record file = { .kind = JOB_FILE, .ino = 77, .due = 60 };
	struct job_list l = { 0 };
	uint64_t n, token;

	put_job(f->e, &j, WRITE_JOB_PUT);
	put_job(f->e, &dir, WRITE_JOB_PUT);
	put_job(f->e, &file, WRITE_JOB_PUT);
	TEST_OK(engine_jobs_count(f->two, NULL, &n));
	assert_int_equal(n, 3);
	TEST_OK(engine_jobs(f->two, NULL, 100, 10, &l));
	assert_int_equal(l.n, 3);
	assert_int_equal(l.v[0].kind, JOB_DIR);
	assert_int_equal(l.v[0].ino, 77);
	assert_null(l.v[0].key);
	assert_int_equal(l.v[1].kind, JOB_FILE);
	assert_string_equal(l.v[2].key, "a/b\xff");
	assert_int_equal(l.v[2].tries, 3);
	token = l.v[2].token;
	job_list_release(&l);
	TEST_OK(engine_jobs(f->e, NULL, 59, 10, &l));
	assert_int_equal(l.n, 1);
	job_list_release(&l);
	TEST_OK(engine_jobs(f->e, NULL, 1000, 2, &l));
	assert_int_equal(l.n, 2);
	job_list_release(&l);
	/* Queued again later: one record, the earlier time, another token. */
	j.due = 200;
	j.tries = 0;
	put_job(f->two, &j, WRITE_JOB_PUT);
	TEST_OK(engine_jobs(f->e, NULL, 100, 10, &l));
	assert_int_equal(l.n, 3);
	assert_int_equal(l.v[2].due, 100);
	assert_int_not_equal(l.v[2].token, token);
	/* Done with the old token: it stays. With the new one it goes. */
	j.token = token;
	put_job(f->e, &j, WRITE_JOB_DELETE);
	TEST_OK(engine_jobs_count(f->e, NULL, &n));
	assert_int_equal(n, 3);
	put_job(f->e, &l.v[2], WRITE_JOB_DELETE);
	put_job(f->e, &l.v[2], WRITE_JOB_DELETE);
	TEST_OK(engine_jobs_count(f->e, NULL, &n));
	assert_int_equal(n, 2);
	/* Done, and queued anew: the token of before does not fit. */
	token = l.v[2].token;
	put_job(f->e, &j, WRITE_JOB_PUT);
	j.token = token;
	put_job(f->e, &j, WRITE_JOB_DELETE);
	job_list_release(&l);
	TEST_OK(engine_jobs(f->e, NULL, 1000, 10, &l));
	assert_int_equal(l.n, 3);
	assert_int_equal(l.v[2].due, 200);
	job_list_release(&l);
}

static void test_jobs__are_put_off_by_delete_and_put_in_one_change(void **state)
{
	struct engine_fixture *f = *state;
	struct job_record j = { .kind = JOB_KEY, .key = (char *)(uintptr_t) "k", .due = 100 };
	struct job_list l = { 0 };
	struct change c = { 0 };

	put_job(f->e, &j, WRITE_JOB_PUT);
	TEST_OK(engine_jobs(f->e, NULL, 100, 1, &l));
	change_write(&c, WRITE_JOB_DELETE, 0)->job = &l.v[0];
	j.due = 500;
	j.tries = 1;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &j;
	TEST_OK(engine_apply(f->e, NULL, &c));
	job_list_release(&l);
	TEST_OK(engine_jobs(f->e, NULL, 499, 1, &l));
	assert_int_equal(l.n, 0);
	TEST_OK(engine_jobs(f->e, NULL, 500, 1, &l));
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].tries, 1);
	job_list_release(&l);
}

static void test_sessions__are_kept_until_deleted(void **state)
{
	struct engine_fixture *f = *state;
	struct session_record s = { .id = UINT64_C(0xffffffff00000001),
				    .host = (char *)(uintptr_t) "host",
				    .mountpoint = (char *)(uintptr_t) "/mnt/\xff",
				    .pid = 1,
				    .started = 2,
				    .heartbeat = 3 };
	struct session_list l = { 0 };
	struct change c = { 0 };

	change_write(&c, WRITE_SESSION_PUT, 0)->session = &s;
	TEST_OK(engine_apply(f->e, NULL, &c));
	s.heartbeat = 4;
	TEST_OK(engine_apply(f->e, NULL, &c));
	TEST_OK(engine_sessions(f->two, NULL, &l));
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].id, s.id);
	assert_int_equal(l.v[0].pid, 1);
	assert_int_equal(l.v[0].started, 2);
	assert_int_equal(l.v[0].heartbeat, 4);
	assert_int_equal(l.v[0].closed, 0);
	assert_string_equal(l.v[0].host, "host");
	assert_string_equal(l.v[0].mountpoint, "/mnt/\xff");
	session_list_release(&l);
	c = (struct change){ 0 };
	change_write(&c, WRITE_SESSION_DELETE, 0)->session = &s;
	TEST_OK(engine_apply(f->e, NULL, &c));
	TEST_OK(engine_sessions(f->e, NULL, &l));
	assert_int_equal(l.n, 0);
}

const struct engine_test engine_tests_past[] = {
	ENGINE_TEST(test_versions__are_found_by_path_file_and_end),
	ENGINE_TEST(test_versions__put_replaces_and_delete_is_idempotent),
	ENGINE_TEST(test_dropped__are_numbered_and_listed),
	ENGINE_TEST(test_jobs__are_one_a_key_with_the_earlier_due),
	ENGINE_TEST(test_jobs__are_put_off_by_delete_and_put_in_one_change),
	ENGINE_TEST(test_sessions__are_kept_until_deleted),
	ENGINE_TESTS_END,
};
