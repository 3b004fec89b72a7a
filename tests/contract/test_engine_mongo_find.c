/*
 * Searches of the mongo engine over many files: pages are bounded, of several terms the rarest is read, a tag costs one
 * request. The documents are made with the engine's own codec and put in bulk.
 *
 * MASSFS_MEASURE=N: with N files, and says how long each search takes (default 3,000, and says nothing).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/expr.h"
#include "meta/mongo_internal.h"
#include "tests/lib/mongo_server.h"
#include "tests/lib/redis_server.h"

#define BULK 1000
#define ROOM 1000000 /* numbers of inodes: not those that the engine gives */

static struct redis_server redis;

struct many {
	struct engine *e, *cached; /* the same index; the second with a Redis over it */
	void *shared;
	unsigned int files;
	bool measure;
};

/* Five tags: one of its own value for ten files, one of 5 values, a number, one of 3 words, a bare one. */
static void make_node(unsigned int i, unsigned int files, struct node *n)
{
	char text[64];

	node_init(n);
	n->attr.ino = n->pos = ROOM + i;
	n->attr.mode = 0100644;
	n->attr.nlink = 1;
	n->attr.size = i;
	n->attr.ver = n->attr.data = n->attr.lay = 1;
	n->attr.mtime = n->attr.ctime = n->attr.atime = n->attr.btime = INT64_C(1700000000000000000) + i;
	n->parent = MFS_ROOT_INO;
	snprintf(text, sizeof(text), "file-%u", i);
	TEST_OK(mfs_name_set(&n->name, text, strlen(text)));
	n->inline_data.data = calloc(1, 1000);
	n->inline_data.size = 1000;
	snprintf(text, sizeof(text), "c%u", i % (files / 10));
	TEST_OK(node_xattr_set(n, "user.customer", text, strlen(text)));
	snprintf(text, sizeof(text), "%u", 2020 + i % 5);
	TEST_OK(node_xattr_set(n, "user.year", text, strlen(text)));
	snprintf(text, sizeof(text), "%u", i);
	TEST_OK(node_xattr_set(n, "user.number", text, strlen(text)));
	TEST_OK(node_xattr_set(n, "user.kind", i % 3 ? "offer" : "letter", i % 3 ? 5 : 6));
	TEST_OK(node_xattr_set(n, "user.xdg.tags", i % 2 ? "odd" : "even,paid", i % 2 ? 3 : 9));
	node_derive(n);
}

static void put_bulk(struct mongo_conn *c, unsigned int from, unsigned int to, unsigned int files)
{
	bson_t *cmd = bson_new(), reply, docs, doc, ops;
	char key[16];

	BSON_APPEND_UTF8(cmd, "insert", MONGO_FILES);
	BSON_APPEND_ARRAY_BEGIN(cmd, "documents", &docs);
	for (unsigned int i = from; i < to; i++) {
		const char *at;
		struct node n;

		make_node(i, files, &n);
		bson_uint32_to_string(i - from, &at, key, sizeof(key));
		BSON_APPEND_DOCUMENT_BEGIN(&docs, at, &doc);
		mongo_node_put(&n, &doc);
		BSON_APPEND_ARRAY_BEGIN(&doc, "ops", &ops);
		bson_append_array_end(&doc, &ops);
		bson_append_document_end(&docs, &doc);
		node_release(&n);
	}
	bson_append_array_end(cmd, &docs);
	TEST_OK(mongo_run(c, MONGO_WRITE, cmd, &reply));
	bson_destroy(&reply);
	bson_destroy(cmd);
}

static int setup(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	const char *n = getenv("MASSFS_MEASURE");
	struct many *m = calloc(1, sizeof(*m));
	struct mongo_conn *c;
	struct engine *inner;
	int64_t begun = mfs_mono_ns();

	m->measure = n != NULL;
	m->files = n ? (unsigned int)strtoul(n, NULL, 10) : 3000;
	TEST_OK(mongo_server_open("many-files", &m->shared, &m->e));
	m->e->session = 101;
	TEST_OK(engine_volume_put(m->e, NULL, &v));
	TEST_OK(mongo_conn_get(mongo_of(m->e), NULL, &c));
	for (unsigned int i = 0; i < m->files; i += BULK) {
		c->until = mfs_mono_ns() + 60 * MFS_NSEC_PER_SEC;
		put_bulk(c, i, MFS_MIN(i + BULK, m->files), m->files);
	}
	mongo_conn_put(c);
	TEST_OK(mongo_server_open("many-files", &m->shared, &inner));
	inner->session = 102;
	m->cached = redis_server_engine(&redis, inner, m->shared);
	if (m->measure)
		print_message("%u files in %.1f s\n", m->files, (double)(mfs_mono_ns() - begun) / 1e9);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct many *m = *state;

	engine_free(m->cached);
	engine_free(m->e);
	mongo_server_release(m->shared);
	free(m);
	return 0;
}

static struct expr *must_parse(const char *text)
{
	const struct expr_env env = { .now = 0 };
	MFS_AUTOFREE char *reason = NULL;
	struct expr *e = NULL;
	size_t column;

	if (expr_parse(text, strlen(text), &env, &e, &column, &reason) < 0)
		fail_msg("%s: %zu: %s", text, column, reason);
	return e;
}

static uint64_t rows_of(void *arg, const struct expr_term *t)
{
	return engine_rows(arg, NULL, t);
}

/* As fs/search.c does it, but for the places of the hits. At most `want` of them; the rows that were read in *ret_rows. */
static size_t search(struct engine *e, const char *text, size_t want, uint64_t *ret_rows)
{
	MFS_AUTOEXPR struct expr *x = must_parse(text);
	struct expr_plan plan;
	mfs_ino_t after = 0;
	size_t hits = 0;
	bool more = true;

	*ret_rows = 0;
	expr_plan(x, engine_indexes(e), rows_of, e, &plan);
	assert_int_equal(plan.n, 1);
	while (more && hits < want) {
		struct node_list l = NODE_LIST_INIT;
		struct op_ctx op = { .deadline_ns = mfs_mono_ns() + 120 * MFS_NSEC_PER_SEC };

		TEST_OK(engine_find(e, &op, plan.part[0].term, after, 1000, &l));
		for (size_t i = 0; i < l.n; i++) {
			assert_null(l.v[i].inline_data.data);
			hits += expr_matches(x, &(struct expr_subject){ .node = &l.v[i] });
			after = l.v[i].attr.ino;
		}
		*ret_rows += l.n;
		more = l.n == 1000;
		node_list_release(&l);
	}
	return hits;
}

static void timed(struct engine *e, const char *what, const char *text, size_t want)
{
	int64_t best = INT64_MAX, worst = 0;
	uint64_t rows = 0;
	size_t hits = 0;

	for (unsigned int i = 0; i < 5; i++) {
		int64_t begun = mfs_mono_ns(), took;

		hits = search(e, text, want, &rows);
		took = mfs_mono_ns() - begun;
		best = MFS_MIN(best, took);
		worst = MFS_MAX(worst, took);
	}
	print_message("%-28s %-40s %6zu hits %6ju rows  %8.1f to %8.1f ms\n", what, text, hits, (uintmax_t)rows, (double)best / 1e6,
		      (double)worst / 1e6);
}

static void test_rare_of_two__is_what_is_read(void **state)
{
	struct many *m = *state;
	uint64_t rows;

	assert_int_equal(search(m->e, "year = 2021 customer = c11", 1000, &rows), 10);
	assert_int_equal(rows, 10);
	assert_int_equal(search(m->e, "customer = c12 and year = 2022", 1000, &rows), 10);
	assert_int_equal(rows, 10);
	assert_int_equal(search(m->e, "tag:paid and number > 10 and number < 21 and customer = c12", 1000, &rows), 1);
	assert_true(rows <= 10);
	assert_int_equal(search(m->e, "kind = letter and customer = c99999", 1000, &rows), 0);
	assert_int_equal(rows, 0);
}

static void test_pages__are_bounded(void **state)
{
	struct many *m = *state;
	MFS_AUTOEXPR struct expr *x = must_parse("tag:odd");
	struct node_list l = NODE_LIST_INIT;

	TEST_OK(engine_find(m->e, NULL, &x->terms[x->root], 0, 7, &l));
	assert_int_equal(l.n, 7);
	for (size_t i = 0; i < l.n; i++)
		assert_true(l.v[i].attr.ino == ROOM + 1 + 2 * i && !l.v[i].inline_data.data && l.v[i].n_xattrs == 5);
	node_list_release(&l);
}

static size_t rss(void)
{
	char line[128];
	size_t kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %zu", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

static void test_measure(void **state)
{
	struct many *m = *state;
	struct engine *both[] = { m->e, m->cached };
	char text[64];

	for (unsigned int i = 0; i < 2; i++) {
		struct engine *e = both[i];
		uint64_t rows;

		print_message("-- %s\n", i ? "with Redis (the same search again)" : "MongoDB alone");
		timed(e, "10 hits", "customer = c17", 1000);
		timed(e, "10 hits, and a common one", "year = 2022 customer = c17", 1000);
		timed(e, "first page of a fifth", "year = 2023", 1000);
		timed(e, "first page of two", "year = 2023 and kind = offer", 1000);
		timed(e, "presence", "tag:paid", 1000);
		snprintf(text, sizeof(text), "number > %u", m->files - 18);
		timed(e, "a range of numbers", text, 1000);
		timed(e, "nothing", "customer = none", 1000);
		if (i == 0) {
			int64_t begun = mfs_mono_ns();
			size_t hits = search(e, "year = 2023", SIZE_MAX, &rows);

			print_message("all %zu of a fifth, by pages: %.1f s\n", hits, (double)(mfs_mono_ns() - begun) / 1e9);
		}
	}
	print_message("most memory of this program: %zu KiB\n", rss());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rare_of_two__is_what_is_read),
		cmocka_unit_test(test_pages__are_bounded),
	};
	const struct CMUnitTest measured[] = { cmocka_unit_test(test_measure) };
	int failed;

	mongo_server_start();
	redis_server_start(&redis);
	if (getenv("MASSFS_MEASURE"))
		failed = cmocka_run_group_tests_name("measure", measured, setup, teardown);
	else
		failed = cmocka_run_group_tests_name("many files", tests, setup, teardown);
	redis_server_stop(&redis);
	mongo_server_stop();
	return failed != 0;
}
