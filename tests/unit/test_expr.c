/*
 * The language of searches (meta/expr.h): what is taken and what is refused, and where; what matches; that a printed
 * expression is the same one; and that what an index is asked for is never less than what matches.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/clock.h"
#include "meta/expr.h"
#include "meta/tags.h"

#define NOW (INT64_C(1795251900) * MFS_NSEC_PER_SEC) /* 2026-11-21T09:05:00Z */

static bool known_user(void *arg, const char *name, uint32_t *ret)
{
	(void)arg;
	*ret = 1001;
	return strcmp(name, "anna") == 0;
}

static const struct expr_env env = { .now = NOW, .user = known_user };

static struct expr *must_parse(const char *text)
{
	MFS_AUTOFREE char *reason = NULL;
	struct expr *e = NULL;
	size_t column = 0;

	if (expr_parse(text, strlen(text), &env, &e, &column, &reason) < 0)
		fail_msg("%s: refused at %zu: %s", text, column, reason);
	return e;
}

static void test_refused(void **state)
{
	static const struct {
		const char *text;
		size_t column;
		const char *says;
	} cases[] = {
		{ "", 1, "ends where" },
		{ "   ", 4, "ends where" },
		{ "a and", 6, "ends where" },
		{ "a or or b", 6, "should stand" },
		{ "and a", 1, "should stand" },
		{ "not", 4, "ends where" },
		{ "(a", 1, "not closed" },
		{ "a)", 2, "not opened" },
		{ "()", 2, "should stand" },
		{ "a =", 4, "value is missing" },
		{ "a = = b", 5, "value is missing" },
		{ "= b", 1, "should stand" },
		{ "a ! b", 3, "single !" },
		{ "a = \"b", 5, "quote is not closed" },
		{ "a = b = c", 7, "comparison has to stand" },
		{ "a = ''", 5, "empty" },
		{ "tag:", 1, "wants a name" },
		{ "size", 1, "every file" },
		{ "size = big", 8, "a size is" },
		{ "size ~ 1", 8, "compared with" },
		{ "mtime > yesterday", 9, "a moment is" },
		{ "mtime = 2026-02-30", 9, "a moment is" },
		{ "mtime = 2026-13-01", 9, "a moment is" },
		{ "mtime = 2026-1-1", 9, "a moment is" },
		{ "mtime = 2026-11-21T25:00", 9, "a moment is" },
		{ "owner = nobody-here", 9, "no user" },
		{ "owner < 5", 9, "with = or !=" },
		{ "type = x", 8, "one of" },
		{ "type > f", 8, "with = or !=" },
		{ "a \\", 3, "backslash" },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		MFS_AUTOFREE char *reason = NULL;
		struct expr *e = NULL;
		size_t column = 0;

		if (expr_parse(cases[i].text, strlen(cases[i].text), &env, &e, &column, &reason) != -EINVAL)
			fail_msg("taken: %s", cases[i].text);
		if (column != cases[i].column || !strstr(reason, cases[i].says))
			fail_msg("%s: column %zu: %s", cases[i].text, column, reason);
	}
}

static void test_bounds(void **state)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(MFS_MIB);
	MFS_AUTOFREE char *reason = NULL, *reason2 = NULL, *reason3 = NULL;
	struct expr *e = NULL;
	size_t column;

	(void)state;
	for (int i = 0; i < 100; i++)
		mfs_buf_putc(&b, '(');
	assert_int_equal(expr_parse(b.data, b.len, &env, &e, &column, &reason), -EINVAL);
	mfs_buf_clear(&b);
	for (int i = 0; i < 600; i++)
		mfs_buf_puts(&b, "a ");
	assert_int_equal(expr_parse(b.data, b.len, &env, &e, &column, &reason2), -EINVAL);
	mfs_buf_clear(&b);
	for (size_t i = 0; i <= EXPR_TEXT_MAX; i++)
		mfs_buf_putc(&b, 'a');
	assert_int_equal(expr_parse(b.data, b.len, &env, &e, &column, &reason3), -EINVAL);
}

static void example(struct node *n)
{
	node_init(n);
	n->attr = (struct mfs_attr){ .ino = 5000, .mode = S_IFREG | 0644, .uid = 1001, .size = 10240,
				     .mtime = NOW - 3600 * MFS_NSEC_PER_SEC, .btime = NOW - 3 * 86400 * MFS_NSEC_PER_SEC };
	assert_int_equal(mfs_name_set(&n->name, "Report 2026.pdf", 15), 0);
	assert_int_equal(node_xattr_set(n, "user.year", "2026", 4), 0);
	assert_int_equal(node_xattr_set(n, "user.customer", "Mu\xcc\x88ller & Co", 13), 0);
	assert_int_equal(node_xattr_set(n, "user.size", "large", 5), 0);
	assert_int_equal(node_xattr_set(n, "user.raw", "a\0b", 3), 0);
	assert_int_equal(node_xattr_set(n, "user.empty", "", 0), 0);
	assert_int_equal(node_xattr_set(n, "user.xdg.tags", " draft, signed ,,", 17), 0);
	assert_int_equal(node_xattr_set(n, "user.DOSATTRIB", "x", 1), 0);
	assert_int_equal(node_xattr_set(n, "trusted.secret", "x", 1), 0);
	n->mime = strdup("application/pdf");
	assert_non_null(n->mime);
}

static void test_matches(void **state)
{
	static const struct {
		const char *text;
		bool yes;
	} cases[] = {
		{ "year", true },
		{ "Year", false },
		{ "year=2026", true },
		{ "year == '2026'", true },
		{ "year = 2026.0", false }, /* = compares bytes */
		{ "year >= 2026.0", true },
		{ "year<2027 year>2025", true },
		{ "year < 999", false }, /* as numbers */
		{ "year < 'zzz'", true }, /* as bytes */
		{ "year != 2025", true },
		{ "year != 2026", false },
		{ "nothing != 1", false },
		{ "not nothing = 1", true },
		{ "year = 2025 or draft", true },
		{ "draft and signed", true },
		{ "draft = x", false },
		{ "draft not signed", false },
		{ "not (draft and missing)", true },
		{ "not draft or signed", true },
		{ "NOT draft OR signed", true },
		{ "customer ~ 'M*Co'", true },
		{ "customer ~ '*ller ? C[a-o]'", true },
		{ "customer ~ '*ller ? C[!a-o]'", false },
		{ "customer ~ 'm*'", false },
		{ "empty", true },
		{ "empty ~ '*'", true },
		{ "raw ~ 'a?b'", true },
		{ "raw = a", false },
		{ "DOSATTRIB", false },
		{ "secret", false },
		{ "tag:size", true },
		{ "tag:size = large", true },
		{ "\"size\" = large", true },
		{ "size = 10K", true },
		{ "size = 10240", true },
		{ "size > 10K", false },
		{ "size >= 10K and size < 11K", true },
		{ "size != 1", true },
		{ "name = 'Report 2026.pdf'", true },
		{ "name ~ *.pdf", true },
		{ "name ~ *.PDF", false },
		{ "NAME ~ Report\\ *", true },
		{ "path ~ 'a/*/Report*'", true },
		{ "path = 'a/b/c/Report 2026.pdf'", true },
		{ "path ~ b/*", false },
		{ "type = f", true },
		{ "type = dir", false },
		{ "type != d", true },
		{ "owner = anna", true },
		{ "owner = 1001", true },
		{ "owner != 0", true },
		{ "mtime = 2026-11-21T08:05Z", true },
		{ "mtime > -2h", true },
		{ "mtime > -30m", false },
		{ "mtime < 2026-11-22T00:00Z", true },
		{ "created < -2d", true },
		{ "created > -2d", false },
		{ "created = 2026-11-18T09:05:00Z", true },
		{ "mtime = 2026-11-21T08:04Z", false },
		{ "mime", true },
		{ "mime = application/pdf", true },
		{ "mime ~ image/*", false },
		{ "hash", false },
		{ "hash = 00", false },
	};
	MFS_CLEANUP(node_release) struct node n;
	struct expr_subject s = { .node = &n, .path = "a/b/c/Report 2026.pdf" };

	(void)state;
	example(&n);
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		MFS_AUTOEXPR struct expr *e = must_parse(cases[i].text);

		if (expr_matches(e, &s) != cases[i].yes)
			fail_msg("%s", cases[i].text);
		assert_int_equal(expr_needs_path(e), strstr(cases[i].text, "path") != NULL);
	}
}

/* Days in local time: the zone of the test. */
static void test_days(void **state)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	struct expr_subject s = { .node = &n };
	MFS_AUTOEXPR struct expr *e = NULL;

	(void)state;
	setenv("TZ", "CET-1", 1);
	tzset();
	n.attr.mtime = INT64_C(1795215600) * MFS_NSEC_PER_SEC; /* 2026-11-20T23:00Z, the 21st there */
	e = must_parse("mtime = 2026-11-21");
	assert_true(expr_matches(e, &s));
	n.attr.mtime--;
	assert_false(expr_matches(e, &s));
	n.attr.mtime = (INT64_C(1795215600) + 86400) * MFS_NSEC_PER_SEC - 1;
	assert_true(expr_matches(e, &s));
	unsetenv("TZ");
	tzset();
}

/* --- random expressions --- */

static unsigned int seed;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static const char *const some_tags[] = { "a", "b", "year", "and", "size", "x y", "quo\"te", "back\\slash", "(", "tag:z" };
static const char *const some_values[] = { "1", "2", "10", "x", "y y", "\"", "\\", "-1.5", "1e3", "*", "or" };

static void quote(struct mfs_buf *b, const char *s)
{
	mfs_buf_putc(b, '"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			mfs_buf_putc(b, '\\');
		mfs_buf_putc(b, *s);
	}
	mfs_buf_putc(b, '"');
}

static void random_text(struct mfs_buf *b, unsigned int depth)
{
	static const char *const ops[] = { "=", "!=", "<", "<=", ">", ">=", "~" };

	switch (depth ? pick(6) : 5) {
	case 0:
	case 1:
		mfs_buf_puts(b, "( ");
		random_text(b, depth - 1);
		mfs_buf_puts(b, pick(2) ? " and " : " ");
		random_text(b, depth - 1);
		mfs_buf_puts(b, ")");
		break;
	case 2:
	case 3:
		mfs_buf_puts(b, "(");
		random_text(b, depth - 1);
		mfs_buf_puts(b, " or ");
		random_text(b, depth - 1);
		mfs_buf_puts(b, " )");
		break;
	case 4:
		mfs_buf_puts(b, "not ");
		random_text(b, depth - 1);
		break;
	default:
		if (pick(6) == 0) {
			mfs_buf_printf(b, "size %s %u", ops[pick(6)], pick(3));
			break;
		}
		quote(b, some_tags[pick(MFS_ARRAY_LEN(some_tags))]);
		if (pick(4)) {
			mfs_buf_puts(b, ops[pick(7)]);
			quote(b, some_values[pick(MFS_ARRAY_LEN(some_values))]);
		}
	}
}

static void random_node(struct node *n)
{
	node_init(n);
	n->attr.mode = S_IFREG;
	n->attr.size = pick(3);
	for (unsigned int i = pick(4); i; i--) {
		const char *value = some_values[pick(MFS_ARRAY_LEN(some_values))];
		char name[64];

		snprintf(name, sizeof(name), "user.%s", some_tags[pick(MFS_ARRAY_LEN(some_tags))]);
		assert_int_equal(node_xattr_set(n, name, value, strlen(value)), 0);
	}
	if (pick(3) == 0)
		assert_int_equal(node_xattr_set(n, TAG_BARE_LIST, "a,year", 6), 0);
}

/* A part of a plan as an expression of its own. */
static bool part_matches(const struct expr_part *p, const struct expr_subject *s)
{
	struct expr_term t = *p->term;
	struct expr one = { .terms = &t, .n = 1, .root = 0 };

	return expr_matches(&one, s);
}

static uint64_t random_rows(void *arg, const struct expr_term *t)
{
	(void)arg;
	(void)t;
	return pick(EXPR_ROWS_MAX + 10);
}

static void test_random(void **state)
{
	size_t hits = 0, planned = 0;

	(void)state;
	seed = (unsigned int)time(NULL);
	print_message("seed %u\n", seed);
	for (int i = 0; i < 3000; i++) {
		MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(MFS_MIB), again = MFS_BUF_INIT(MFS_MIB), third = MFS_BUF_INIT(MFS_MIB);
		MFS_AUTOEXPR struct expr *e = NULL, *e2 = NULL;
		struct expr_plan plan;

		random_text(&text, pick(5));
		e = must_parse(mfs_buf_str(&text));
		assert_int_equal(expr_print(e, &again), 0);
		e2 = must_parse(mfs_buf_str(&again));
		assert_int_equal(expr_print(e2, &third), 0);
		assert_string_equal(mfs_buf_str(&again), mfs_buf_str(&third));
		expr_plan(e, pick(2) ? 1u << FIELD_TAG : 1u << FIELD_TAG | 1u << FIELD_SIZE, pick(2) ? random_rows : NULL, NULL, &plan);
		planned += plan.n > 0;
		for (int k = 0; k < 20; k++) {
			MFS_CLEANUP(node_release) struct node n;
			struct expr_subject s = { .node = &n };
			bool yes, found = plan.n == 0;

			random_node(&n);
			yes = expr_matches(e, &s);
			assert_int_equal(yes, expr_matches(e2, &s));
			for (unsigned int p = 0; p < plan.n; p++)
				found |= part_matches(&plan.part[p], &s);
			if (yes && !found)
				fail_msg("the plan of %s misses a hit", mfs_buf_str(&text));
			hits += yes;
		}
	}
	assert_true(hits > 1000 && planned > 500);
}

static void test_plans(void **state)
{
	static const struct {
		const char *text;
		unsigned int parts;
		const char *first; /* tag of the first part */
	} cases[] = {
		{ "a", 1, "a" },	      { "a = 1", 1, "a" },	    { "a b = 1", 1, "b" },
		{ "not a", 0, NULL },	      { "a or b", 2, "a" },	    { "a or not b", 0, NULL },
		{ "size > 1", 0, NULL },      { "size > 1 a > 2", 1, "a" }, { "(a or b) and c = 1", 1, "c" },
		{ "a = 1 and not b", 1, "a" }, { "a or size > 1", 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		MFS_AUTOEXPR struct expr *e = must_parse(cases[i].text);
		struct expr_plan plan;

		expr_plan(e, 1u << FIELD_TAG, NULL, NULL, &plan);
		if (plan.n != cases[i].parts || (plan.n && strcmp(plan.part[0].term->tag, cases[i].first) != 0))
			fail_msg("%s: %u parts", cases[i].text, plan.n);
	}
}

/* A pattern that takes others for ever. */
static void test_pattern_is_quick(void **state)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	struct expr_subject s = { .node = &n };
	MFS_AUTOEXPR struct expr *e = must_parse("a ~ '*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*ab'");
	MFS_AUTOFREE char *value = malloc(65536);

	(void)state;
	assert_non_null(value);
	memset(value, 'a', 65536);
	assert_int_equal(node_xattr_set(&n, "user.a", value, 65536), 0);
	assert_false(expr_matches(e, &s));
	e->terms[e->root].value[strlen(e->terms[e->root].value) - 1] = 'a';
	assert_true(expr_matches(e, &s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),	 cmocka_unit_test(test_bounds), cmocka_unit_test(test_matches),
		cmocka_unit_test(test_days),	 cmocka_unit_test(test_random), cmocka_unit_test(test_plans),
		cmocka_unit_test(test_pattern_is_quick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
