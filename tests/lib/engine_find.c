/*
 * Contract tests of engines: searches by an index. Random files with tags, changed and removed all the time, and random
 * expressions: what the plan of an expression finds, filtered, is what a look at every file finds.
 *
 * MASSFS_QUERIES: so many searches, on each kind of engine (default: its share of MASSFS_RACE_ROUNDS); MASSFS_QUERY_SEED.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "common/buf.h"
#include "meta/expr.h"
#include "meta/tags.h"
#include "tests/lib/engine_suite.h"

#define EXTRA_MAX 200
#define FILES	  120
#define REG	  0100644
#define LONG_TAIL 200 /* longer than an index keeps */

struct world {
	struct engine_fixture *f;
	unsigned int seed;
	mfs_ino_t ino[FILES]; /* 0: there is none */
	struct node known[FILES]; /* as it was read after its last change; attr.ino 0: not since */
	unsigned int made, planned, hits;
	char longer[LONG_TAIL + 2];
};

static unsigned int pick(struct world *w, unsigned int n)
{
	return (unsigned int)rand_r(&w->seed) % n;
}

static const char *const tag_names[] = { "a", "b", "year", "x y", "size", "UPPER", "\xff\xfe bytes", "quo\"te" };
static const char *const values[] = { "1",  "2",  "10",   "9.5",	 "-3",	  "x",	  "xy",	    "X",
				      "\xff", "1e2", "2026", "2026-11-21", "new\nline", "sla/sh", "a,b", "" };

static const char *pick_value(struct world *w)
{
	unsigned int n = pick(w, MFS_ARRAY_LEN(values) + 2);

	if (n < MFS_ARRAY_LEN(values))
		return values[n];
	memset(w->longer, 'v', LONG_TAIL);
	w->longer[LONG_TAIL] = n == MFS_ARRAY_LEN(values) ? '1' : '2'; /* they differ behind what an index keeps */
	return w->longer;
}

static void random_tags(struct world *w, struct node *n)
{
	while (n->n_xattrs)
		assert_int_equal(node_xattr_remove(n, n->xattrs[0].name), 0);
	for (unsigned int i = pick(w, 5); i; i--) {
		const char *value = pick_value(w);
		char name[64];

		snprintf(name, sizeof(name), "user.%s", tag_names[pick(w, MFS_ARRAY_LEN(tag_names))]);
		TEST_OK(node_xattr_set(n, name, value, strlen(value)));
	}
	if (pick(w, 3) == 0)
		TEST_OK(node_xattr_set(n, TAG_BARE_LIST, pick(w, 2) ? "a, year" : "b,b,x y", 7));
	if (pick(w, 4) == 0)
		TEST_OK(node_xattr_set(n, "trusted.a", "1", 1));
	node_derive(n);
}

static void make_file(struct world *w, unsigned int at)
{
	char name[32];
	struct change c = { 0 };
	struct node n;

	snprintf(name, sizeof(name), "f%u", w->made++);
	n = test_node(w->f->e, MFS_ROOT_INO, name, REG);
	random_tags(w, &n);
	n.attr.size = pick(w, 5) * 1000;
	n.attr.mtime = n.attr.btime = (int64_t)pick(w, 5) * 1000000000;
	if (pick(w, 3) == 0)
		snprintf(n.hash, sizeof(n.hash), "%02x", pick(w, 3));
	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	TEST_OK(engine_apply(w->f->e, &w->f->op, &c));
	w->ino[at] = n.attr.ino;
	node_release(&n);
}

static void retag(struct world *w, mfs_ino_t ino)
{
	struct change c = { 0 };
	struct write *wr = change_write(&c, WRITE_EDIT, ino);
	struct node n;

	test_get(w->f->two, ino, &n);
	random_tags(w, &n);
	n.attr.size = pick(w, 5) * 1000;
	n.attr.mtime = (int64_t)pick(w, 5) * 1000000000;
	wr->node = &n;
	wr->mask = EDIT_XATTRS | EDIT_SIZE | EDIT_MTIME;
	TEST_OK(engine_apply(w->f->two, &w->f->op, &c));
	node_release(&n);
}

static void move_or_remove(struct world *w, unsigned int at)
{
	struct change c = { 0 };
	struct write *wr;
	struct node n;
	unsigned int how = pick(w, 3);
	char name[32];

	test_get(w->f->e, w->ino[at], &n);
	wr = change_write(&c, how == 0 ? WRITE_DELETE : how == 1 ? WRITE_RENAME : WRITE_TRASH, w->ino[at]);
	if (how == 1) {
		snprintf(name, sizeof(name), "r%u", w->made++);
		n.name = test_name(name);
		wr->node = &n;
	} else if (how == 2) {
		n.trash_time = 5;
		free(n.trash_path);
		n.trash_path = strdup("gone");
		wr->node = &n;
		wr->nlink_delta = -1;
	}
	TEST_OK(engine_apply(w->f->e, &w->f->op, &c));
	if (how == 2 && pick(w, 2)) { /* and back */
		struct change back = { 0 };

		snprintf(name, sizeof(name), "u%u", w->made++);
		n.parent = MFS_ROOT_INO;
		n.name = test_name(name);
		wr = change_write(&back, WRITE_UNTRASH, w->ino[at]);
		wr->node = &n;
		wr->nlink_delta = 1;
		TEST_OK(engine_apply(w->f->e, &w->f->op, &back));
	} else if (how != 1) {
		w->ino[at] = 0;
	}
	node_release(&n);
}

static void change_something(struct world *w)
{
	unsigned int at = pick(w, FILES);

	node_release(&w->known[at]);
	if (!w->ino[at])
		make_file(w, at);
	else if (pick(w, 3))
		retag(w, w->ino[at]);
	else
		move_or_remove(w, at);
}

static void random_term(struct world *w, struct mfs_buf *b)
{
	static const char *const ops[] = { "=", "=", "!=", "<", "<=", ">", ">=", "~" };
	const char *value, *name;

	switch (pick(w, 9)) {
	case 0:
		mfs_buf_printf(b, "size %s %u", ops[pick(w, 7)], pick(w, 6) * 1000);
		break;
	case 1:
		mfs_buf_printf(b, "mtime %s 1970-01-01T00:00:0%uZ", ops[pick(w, 7)], pick(w, 6));
		break;
	case 2:
		mfs_buf_printf(b, "created %s 1970-01-01T00:00:0%uZ", ops[pick(w, 7)], pick(w, 6));
		break;
	case 3:
		mfs_buf_puts(b, "hash");
		if (pick(w, 2))
			mfs_buf_printf(b, " %s 0%u", ops[pick(w, 7)], pick(w, 4));
		break;
	default:
		mfs_buf_puts(b, "tag:");
		name = tag_names[pick(w, MFS_ARRAY_LEN(tag_names))];
		(void)expr_quote(b, name, strlen(name));
		value = pick_value(w);
		if (pick(w, 4) && *value) {
			mfs_buf_puts(b, ops[pick(w, MFS_ARRAY_LEN(ops))]);
			(void)expr_quote(b, value, strlen(value));
		}
	}
}

static void random_text(struct world *w, struct mfs_buf *b, unsigned int depth);

static void random_pair(struct world *w, struct mfs_buf *b, unsigned int depth, const char *between)
{
	mfs_buf_putc(b, '(');
	random_text(w, b, depth);
	mfs_buf_puts(b, between);
	random_text(w, b, depth);
	mfs_buf_putc(b, ')');
}

static void random_text(struct world *w, struct mfs_buf *b, unsigned int depth)
{
	switch (depth ? pick(w, 5) : 4) {
	case 0:
	case 1:
		random_pair(w, b, depth - 1, " and ");
		break;
	case 2:
		random_pair(w, b, depth - 1, " or ");
		break;
	case 3:
		mfs_buf_puts(b, "not ");
		random_text(w, b, depth - 1);
		break;
	default:
		random_term(w, b);
	}
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

/* One term by pages of a random size; what is found gets its bit. */
static void find_term(struct world *w, const struct expr *e, const struct expr_term *t, bool *found)
{
	size_t limit = 1 + pick(w, 50);
	mfs_ino_t after = 0;

	for (;;) {
		struct node_list l = NODE_LIST_INIT;
		size_t n_found;

		TEST_OK(engine_find(pick(w, 2) ? w->f->e : w->f->two, &w->f->op, t, after, limit, &l));
		assert_true(l.n <= limit);
		for (size_t i = 0; i < l.n; i++) {
			const struct node *n = &l.v[i];

			assert_true(n->attr.ino > after);
			assert_false(n->partial);
			after = n->attr.ino;
			if (!expr_matches(e, &(struct expr_subject){ .node = n }))
				continue;
			for (unsigned int k = 0; k < FILES; k++)
				found[k] |= w->ino[k] == n->attr.ino;
		}
		n_found = l.n;
		node_list_release(&l);
		if (n_found < limit)
			break;
	}
}

static uint64_t rows_of(void *arg, const struct expr_term *t)
{
	struct engine_fixture *f = arg;

	return engine_rows(f->e, &f->op, t);
}

static const struct node *look_at(struct world *w, unsigned int at)
{
	if (!w->known[at].attr.ino)
		test_get(w->f->e, w->ino[at], &w->known[at]);
	return &w->known[at];
}

static void compare(struct world *w, const char *text)
{
	MFS_AUTOEXPR struct expr *e = must_parse(text);
	bool found[FILES] = { false };
	struct expr_plan plan;

	expr_plan(e, engine_indexes(w->f->e), pick(w, 2) ? rows_of : NULL, w->f, &plan);
	if (plan.n == 0)
		return;
	for (unsigned int i = 0; i < plan.n; i++)
		find_term(w, e, plan.part[i].term, found);
	w->planned++;
	for (unsigned int k = 0; k < FILES; k++) {
		bool want = w->ino[k] && expr_matches(e, &(struct expr_subject){ .node = look_at(w, k) });

		w->hits += want;
		if (want != found[k])
			fail_msg("%s: file %u is %s", text, k, want ? "not found" : "found though it does not match");
	}
}

/* A third of the searches were answered by an index, with more than a hit each. */
static bool proves(const struct world *w, unsigned int rounds)
{
	return w->planned > rounds / 3 && w->hits > w->planned;
}

static void test_find__finds_what_a_look_at_every_file_finds(void **state)
{
	const char *seed = getenv("MASSFS_QUERY_SEED"), *queries = getenv("MASSFS_QUERIES");
	struct world w = { .f = *state, .seed = seed ? (unsigned int)strtoul(seed, NULL, 10) : (unsigned int)time(NULL) };
	unsigned int rounds = queries ? (unsigned int)strtoul(queries, NULL, 10) : engine_fixture_rounds(w.f);

	if (!engine_indexes(w.f->e))
		skip();
	print_message("MASSFS_QUERY_SEED=%u, %u searches\n", w.seed, rounds);
	for (unsigned int i = 0; i < FILES; i++)
		make_file(&w, i);
	/* A handful may by chance find nothing. */
	for (unsigned int i = 0; i < rounds || (!proves(&w, rounds) && i < rounds + EXTRA_MAX); i++) {
		MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(MFS_MIB);

		if (pick(&w, 3) == 0)
			change_something(&w);
		random_text(&w, &text, pick(&w, 4));
		compare(&w, mfs_buf_str(&text));
	}
	print_message("%u by an index, %u hits\n", w.planned, w.hits);
	assert_true(proves(&w, rounds));
	for (unsigned int i = 0; i < FILES; i++)
		node_release(&w.known[i]);
}

static int note(void *arg, const struct tag *t)
{
	struct blob_list *l = arg;

	return blob_list_add(l, t->name, t->name_len);
}

static bool has_blob(const struct blob_list *l, const struct node_blob *b)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].size == b->size && memcmp(l->v[i].data, b->data, b->size) == 0)
			return true;
	return false;
}

static void test_tag_names__are_those_in_use_in_pages(void **state)
{
	struct world w = { .f = *state, .seed = (unsigned int)time(NULL) };
	struct blob_list used = { 0 }, got = { 0 };
	int r;

	if (!engine_indexes(w.f->e))
		skip();
	for (unsigned int i = 0; i < FILES; i++)
		make_file(&w, i);
	for (unsigned int i = 0; i < FILES; i++)
		move_or_remove(&w, i);
	for (unsigned int i = 0; i < FILES; i++) {
		struct node n;

		if (!w.ino[i])
			continue;
		test_get(w.f->e, w.ino[i], &n);
		TEST_OK(node_each_tag(&n, note, &used));
		node_release(&n);
	}
	do {
		size_t before = got.n;

		r = engine_tag_names(w.f->e, &w.f->op, NULL, got.n ? got.v[got.n - 1].data : NULL, got.n ? got.v[got.n - 1].size : 0, 3, &got);
		TEST_OK(r);
		if (got.n == before)
			break;
	} while (got.n < 100);
	for (size_t i = 0; i < used.n; i++)
		assert_true(has_blob(&got, &used.v[i]));
	for (size_t i = 0; i < got.n; i++)
		assert_true(has_blob(&used, &got.v[i]));
	blob_list_release(&used);
	blob_list_release(&got);
}

static void test_tag_names__of_one_tag_are_its_values(void **state)
{
	struct engine_fixture *f = *state;
	struct blob_list got = { 0 };
	struct node n;

	if (!engine_indexes(f->e))
		skip();
	for (int i = 0; i < 5; i++) {
		static const char *const v[] = { "one", "two", "one", "", "three" };
		struct change c = { 0 };
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		n = test_node(f->e, MFS_ROOT_INO, name, REG);
		TEST_OK(node_xattr_set(&n, "user.k", v[i], strlen(v[i])));
		TEST_OK(node_xattr_set(&n, TAG_BARE_LIST, "bare", 4));
		change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
		TEST_OK(engine_apply(f->e, &f->op, &c));
		node_release(&n);
	}
	TEST_OK(engine_tag_names(f->two, &f->op, "k", NULL, 0, 10, &got));
	assert_int_equal(got.n, 4);
	assert_int_equal(got.v[0].size, 0);
	assert_string_equal(got.v[1].data, "one");
	assert_string_equal(got.v[2].data, "three");
	assert_string_equal(got.v[3].data, "two");
	blob_list_release(&got);
	TEST_OK(engine_tag_names(f->two, &f->op, "k", "one", 3, 1, &got));
	assert_int_equal(got.n, 1);
	assert_string_equal(got.v[0].data, "three");
	blob_list_release(&got);
	TEST_OK(engine_tag_names(f->two, &f->op, "bare", NULL, 0, 10, &got));
	assert_int_equal(got.n, 0);
	blob_list_release(&got);
}

const struct engine_test engine_tests_find[] = {
	ENGINE_TEST(test_find__finds_what_a_look_at_every_file_finds),
	ENGINE_TEST(test_tag_names__are_those_in_use_in_pages),
	ENGINE_TEST(test_tag_names__of_one_tag_are_its_values),
	ENGINE_TESTS_END,
};
