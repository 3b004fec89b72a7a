/*
 * What dump and index log need of an engine: snapshots, whole lists, and that records can be put back as they are.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "meta/record_dump.h"
#include "tests/lib/engine_suite.h"

struct text {
	char *data;
	size_t len, cap, pos;
};

static int to_text(void *arg, const void *buf, size_t len)
{
	struct text *t = arg;

	if (t->len + len >= t->cap) {
		t->cap = 2 * (t->len + len) + 64;
		t->data = realloc(t->data, t->cap);
		assert_non_null(t->data);
	}
	memcpy(t->data + t->len, buf, len);
	t->len += len;
	t->data[t->len] = '\0';
	return 0;
}

static ssize_t from_text(void *arg, void *buf, size_t len)
{
	struct text *t = arg;
	size_t n = MFS_MIN(len, t->len - t->pos);

	memcpy(buf, t->data + t->pos, n);
	t->pos += n;
	return (ssize_t)n;
}

static struct text dump_of(struct engine *e)
{
	struct record_header h = { .stream = RECORD_STREAM_DUMP };
	struct record_counts counts;
	struct record_writer w;
	struct op_ctx op = { 0 };
	struct text t = { 0 };

	TEST_OK(record_writer_init(&w, to_text, &t));
	TEST_OK(record_writer_header(&w, &h));
	TEST_OK(record_dump_all(e, &op, &w, NULL, NULL, &counts));
	TEST_OK(record_writer_end(&w));
	record_writer_release(&w);
	return t;
}

static void link_to(struct engine *e, mfs_ino_t ino, const char *name)
{
	struct alias a = {
		.id = test_number(e), .parent = MFS_ROOT_INO, .target = ino, .name = test_name(name)
	};
	struct op_ctx op = { 0 };
	struct change c = { 0 };

	change_write(&c, WRITE_EDIT, ino)->nlink_delta = 1;
	change_write(&c, WRITE_ALIAS_INSERT, a.id)->alias = &a;
	TEST_OK(engine_apply(e, &op, &c));
}

static void put_job(struct engine *e, enum job_kind kind, const char *key, mfs_ino_t ino)
{
	struct job_record j = {
		.kind = kind, .key = key ? strdup(key) : NULL, .ino = ino, .due = 7, .tries = 3
	};
	struct op_ctx op = { 0 };
	struct change c = { 0 };

	change_write(&c, WRITE_JOB_PUT, 0)->job = &j;
	TEST_OK(engine_apply(e, &op, &c));
	job_record_release(&j);
}

/* Something of every kind. */
static void fill(struct engine *e)
{
	struct node full = NODE_INIT, trash = { .trash_time = 77 };
	char path[] = "was/here", bytes[] = "\0\1\2", host[] = "h", *trash_path = path;
	struct version_record v = { .ino = 7, .data = 8, .path = path, .size = 9, .until = INT64_MAX };
	struct dropped_record d[2] = { { .ino = 7, .doc_id = 9, .at = 5 },
				       { .id = 3, .ino = 7, .doc_id = 10, .at = 6 } };
	struct session_record s = { .id = 12, .host = host, .mountpoint = path, .pid = 5, .started = 6 };
	struct slices_doc_record doc = {
		.ino = 7, .id = 9, .session = 12, .blob = { .data = bytes, .size = 3 }
	};
	mfs_ino_t a = test_make(e, MFS_ROOT_INO, "a", 0100644),
		  dir = test_make(e, MFS_ROOT_INO, "dir", 040755);
	mfs_ino_t gone = test_make(e, dir, "gone", 0100600);
	struct op_ctx op = { 0 };
	struct change c = { 0 };
	struct write *w;

	test_full_node(e, dir, "f\xff", &full);
	change_write(&c, WRITE_INSERT, full.attr.ino)->node = &full;
	TEST_OK(engine_apply(e, &op, &c));
	node_release(&full);
	link_to(e, a, "b");
	link_to(e, a, "c");
	c = (struct change){ 0 };
	trash.trash_path = trash_path;
	w = change_write(&c, WRITE_TRASH, gone);
	w->node = &trash;
	w->nlink_delta = -1;
	change_write(&c, WRITE_VERSION_PUT, 0)->version = &v;
	w = change_write(&c, WRITE_DROPPED_PUT, 0);
	w->dropped = d;
	w->n = 2;
	change_write(&c, WRITE_SESSION_PUT, 0)->session = &s;
	change_write(&c, WRITE_SLICES_PUT, 0)->slices = &doc;
	TEST_OK(engine_apply(e, &op, &c));
	put_job(e, JOB_KEY, "z", 0);
	put_job(e, JOB_KEY, "a/b", 0);
	put_job(e, JOB_DIR, NULL, dir);
	put_job(e, JOB_VIEW, NULL, 12);
}

static void test_snapshot_stays(void **state)
{
	struct engine_fixture *f = *state;
	struct text before, now, still, later;
	struct engine *s = NULL;
	uint64_t first, next;
	struct change c = { 0 };

	fill(f->e);
	before = dump_of(f->e);
	TEST_OK(engine_snapshot(f->e, &f->op, &s));
	now = dump_of(s);
	assert_string_equal(before.data, now.data);
	test_make(f->e, MFS_ROOT_INO, "after", 0100644);
	link_to(f->e, test_find(f->e, MFS_ROOT_INO, "after"), "after2");
	put_job(f->e, JOB_FILE, NULL, 99);
	still = dump_of(s);
	assert_string_equal(before.data, still.data);
	later = dump_of(f->e);
	assert_true(later.len > before.len);
	change_write(&c, WRITE_EDIT, MFS_ROOT_INO);
	assert_int_equal(engine_apply(s, &f->op, &c), -EROFS);
	assert_int_equal(engine_reserve(s, &f->op, 1, &first), -EROFS);
	TEST_OK(engine_next_number(f->e, &f->op, &next));
	TEST_OK(engine_reserve(f->e, &f->op, 5, &first));
	assert_int_equal(first, next);
	TEST_OK(engine_next_number(f->e, &f->op, &next));
	assert_int_equal(next, first + 5);
	engine_free(s);
	free(before.data);
	free(now.data);
	free(still.data);
	free(later.data);
}

static void test_lists_in_pages(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t ino = test_make(f->e, MFS_ROOT_INO, "file", 0100644);
	struct job_record from = { 0 };
	struct job_list jobs = { 0 };
	struct alias page[3];
	uint64_t after = 0;
	unsigned int n = 0;

	for (int i = 0; i < 8; i++) {
		char name[8];

		snprintf(name, sizeof(name), "l%d", i);
		link_to(f->e, ino, name);
		put_job(f->e, JOB_KEY, name, 0);
	}
	put_job(f->e, JOB_FILE, NULL, 3);
	put_job(f->e, JOB_FILE, NULL, 2);
	for (int got; (got = engine_aliases_all(f->e, &f->op, after, page, 3)) > 0;) {
		for (int i = 0; i < got; i++, n++) {
			assert_true(page[i].id > after);
			assert_int_equal(page[i].target, ino);
			after = page[i].id;
		}
	}
	assert_int_equal(n, 8);
	assert_int_equal(engine_aliases_all(f->e, &f->op, after - 1, page, 1), 1);
	assert_int_equal(page[0].id, after);

	TEST_OK(engine_jobs_from(f->e, &f->op, &from, 100, &jobs));
	assert_int_equal(jobs.n, 10);
	assert_string_equal(jobs.v[0].key, "l0");
	assert_int_equal(jobs.v[8].ino, 2);
	assert_int_equal(jobs.v[9].ino, 3);
	for (size_t i = 0; i < jobs.n; i++) { /* each is found by itself, and is where a page can begin */
		struct job_list one = { 0 };

		TEST_OK(engine_jobs_from(f->e, &f->op, &jobs.v[i], 1, &one));
		assert_int_equal(one.n, 1);
		assert_int_equal(one.v[0].kind, jobs.v[i].kind);
		assert_int_equal(one.v[0].ino, jobs.v[i].ino);
		assert_int_equal(one.v[0].tries, 3);
		job_list_release(&one);
	}
	job_list_release(&jobs);
}

/* Into the reference engine, and out of it: the same text. */
static void test_load_is_dump(void **state)
{
	struct engine_fixture *f = *state;
	struct mem_shared *shared = NULL;
	struct engine *copy = NULL;
	struct record_loader l;
	struct record_reader rd;
	struct text t, again;
	struct record r;
	int err;

	fill(f->e);
	t = dump_of(f->e);
	TEST_OK(mem_shared_new(&shared));
	TEST_OK(mem_engine_new(shared, &copy));
	TEST_OK(record_reader_init(&rd, from_text, &t));
	record_loader_init(&l, copy, &f->op);
	while ((err = record_reader_next(&rd, &r)) > 0)
		TEST_OK(record_loader_add(&l, &r));
	assert_int_equal(err, 0);
	TEST_OK(record_loader_finish(&l));
	assert_int_equal(l.counts.n[RECORD_ALIAS], 2);
	assert_int_equal(l.counts.trash, 1);
	record_loader_release(&l);
	record_reader_release(&rd);
	again = dump_of(copy);
	assert_string_equal(t.data, again.data);
	engine_free(copy);
	mem_shared_free(shared);
	free(t.data);
	free(again.data);
}

const struct engine_test engine_tests_all[] = {
	ENGINE_TEST(test_snapshot_stays),
	ENGINE_TEST(test_lists_in_pages),
	ENGINE_TEST(test_load_is_dump),
	ENGINE_TESTS_END,
};
