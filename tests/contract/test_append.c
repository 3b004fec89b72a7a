/*
 * Appending to one file from two mounts, with other writes between: no line is lost, none is parted, and what was written
 * at a place stays at it.
 */
#include "tests/lib/content_world.h"

#include "meta/layout.h"

#define BUDGET (64 * MFS_MIB)

struct pair {
	struct world w[2];
	struct content *c[2];
	unsigned int moved; /* calls of content_env.moved */
};

static void note_moved(void *arg, mfs_ino_t ino)
{
	struct pair *p = arg;

	assert_int_equal(ino, p->w[0].ino);
	p->moved++;
}

static void pair_open(struct pair *p, uint64_t inline_size)
{
	struct world_options o = { .store = STORE_REMOTE, .budget = BUDGET, .inline_size = inline_size };

	memset(p, 0, sizeof(*p));
	world_open_opt(&p->w[0], &o);
	world_open_second(&p->w[1], &p->w[0], BUDGET);
	for (int i = 0; i < 2; i++) {
		p->w[i].env.moved = note_moved;
		p->w[i].env.moved_arg = p;
		p->c[i] = open_writer(&p->w[i]);
	}
}

static void pair_close(struct pair *p)
{
	for (int i = 1; i >= 0; i--) {
		if (p->c[i])
			close_writer(p->c[i]);
		world_close(&p->w[i]);
	}
}

static void append(struct pair *p, int i, const char *text)
{
	assert_int_equal(content_write(p->c[i], &p->w[i].op, 0, text, strlen(text), true), 0);
}

static void write_at(struct pair *p, int i, uint64_t off, const char *text)
{
	assert_int_equal(content_write(p->c[i], &p->w[i].op, off, text, strlen(text), false), 0);
}

static void flush(struct pair *p, int i)
{
	assert_int_equal(content_flush(p->c[i], &p->w[i].op, NULL, NULL), 0);
}

/* Ten bytes that both know of. */
static void pair_open_with_digits(struct pair *p)
{
	pair_open(p, 0);
	write_at(p, 0, 0, "0123456789");
	flush(p, 0);
	content_news(p->c[1], UINT64_MAX, UINT64_MAX);
}

static void assert_file(struct pair *p, const char *want)
{
	assert_stored(&p->w[0], (const unsigned char *)want, strlen(want));
}

static void lines_of_both_stay(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, 0);
	append(&p, 0, "a1\n");
	append(&p, 1, "b1\n");
	flush(&p, 0);
	append(&p, 1, "b2\n");
	flush(&p, 1);
	assert_int_equal(p.moved, 1);
	append(&p, 0, "a2\n"); /* does not know of b's lines yet */
	flush(&p, 0);
	assert_file(&p, "a1\nb1\nb2\na2\n");
	assert_int_equal(p.moved, 2);
	pair_close(&p);
}

/* The last bytes of the file are overwritten, then a line is appended: one extent in memory, but two things to write. */
static void what_ends_where_an_append_begins_stays_there(void **state)
{
	struct pair p;

	(void)state;
	pair_open_with_digits(&p);
	write_at(&p, 0, 6, "XXXX");
	append(&p, 0, "a1\n");
	append(&p, 1, "b1\n");
	flush(&p, 1);
	flush(&p, 0);
	assert_file(&p, "012345XXXXb1\na1\n");
	/* And the other way round: up to the beginning of what was appended before. */
	append(&p, 0, "a2\n");
	write_at(&p, 0, 13, "A1\n");
	append(&p, 1, "b2\n");
	flush(&p, 1);
	flush(&p, 0);
	assert_file(&p, "012345XXXXb1\nA1\na2\nb2\n");
	pair_close(&p);
}

static void a_write_within_an_appended_line_moves_along(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, 0);
	append(&p, 0, "a-----\n");
	write_at(&p, 0, 1, "12345");
	append(&p, 1, "b1\n");
	flush(&p, 1);
	flush(&p, 0);
	assert_file(&p, "b1\na12345\n");
	pair_close(&p);
}

/* Reaches over its beginning: what was appended is committed first, and the write goes where it was meant to. */
static void a_write_over_the_edge_of_an_appended_line_does_not(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, 0);
	write_at(&p, 0, 0, "head");
	flush(&p, 0);
	append(&p, 0, "a1\n");
	write_at(&p, 0, 2, "xxyy"); /* "he|xx|yy\n": the line is at 4 by now */
	content_news(p.c[1], UINT64_MAX, UINT64_MAX);
	append(&p, 1, "b1\n");
	flush(&p, 1);
	flush(&p, 0);
	assert_file(&p, "hexxyy\nb1\n");
	pair_close(&p);
}

static const char *tail_of(struct pair *p, uint64_t off)
{
	static char got[16];
	struct content *c = NULL;

	assert_int_equal(content_open(&p->w[0].env, &p->w[0].op, p->w[0].ino, &c), 0);
	assert_int_equal(content_read(c, &p->w[0].op, off, got, sizeof(got)), 9);
	content_free(c);
	return got;
}

/* More ranges than one commit takes, and a line at the end: it goes as a whole, after them. */
static void a_line_behind_many_ranges_is_whole(void **state)
{
	const size_t n = LAYOUT_COMMIT_MAX + 100, head = n * 4096;
	unsigned char *want = calloc(1, head + 100);
	struct pair p;

	(void)state;
	pair_open(&p, 0);
	assert_int_equal(content_truncate(p.c[0], &p.w[0].op, head, NULL), 0);
	flush(&p, 0);
	content_news(p.c[1], UINT64_MAX, UINT64_MAX);
	append(&p, 1, "b1\n");
	for (size_t i = 0; i < n; i++) {
		write_at(&p, 0, i * 4096, "range");
		memcpy(want + i * 4096, "range", 5);
		if (i == n / 2)
			append(&p, 0, "a1\n"); /* with ranges before and after */
	}
	append(&p, 0, "a2\n");
	flush(&p, 1);
	flush(&p, 0);
	memcpy(want + head, tail_of(&p, head), 9); /* who was first is not at issue */
	assert_true(!memcmp(want + head, "b1\na1\na2\n", 9) || !memcmp(want + head, "a1\nb1\na2\n", 9) ||
		    !memcmp(want + head, "a1\na2\nb1\n", 9));
	assert_stored(&p.w[0], want, head + 9);
	free(want);
	pair_close(&p);
}

/* A line that comes while a commit of others' ranges is lost and tried again. */
static void a_line_behind_a_range_that_lost_a_race_moves_too(void **state)
{
	struct pair p;

	(void)state;
	pair_open_with_digits(&p);
	write_at(&p, 0, 0, "x");
	append(&p, 0, "a1\n");
	append(&p, 1, "b1\n");
	write_at(&p, 1, 1, "y");
	flush(&p, 1);
	flush(&p, 0);
	assert_file(&p, "xy23456789b1\na1\n");
	pair_close(&p);
}

/* A new file, and more than is kept for one object: a stream would take its place whole. */
static void a_big_new_log_is_no_stream(void **state)
{
	const size_t n = 7000, len = 1000;
	unsigned char *want = malloc(n * len + 3);
	char line[1001];
	struct pair p;

	(void)state;
	pair_open(&p, 0);
	for (size_t i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "%0999zu\n", i);
		append(&p, 0, line);
		memcpy(want + 3 + i * len, line, len);
		if (i == n / 2) {
			append(&p, 1, "b1\n");
			flush(&p, 1);
			memcpy(want, "b1\n", 3);
		}
	}
	flush(&p, 0);
	assert_stored(&p.w[0], want, n * len + 3);
	free(want);
	pair_close(&p);
}

/* Opened while it was empty, and not written: what another mount wrote since is what the file is. */
static void an_idle_writer_takes_nothing_back(void **state)
{
	struct pair p;
	struct node n;
	uint64_t data;

	(void)state;
	pair_open(&p, 0);
	write_at(&p, 0, 0, "written");
	flush(&p, 0);
	n = file_node(&p.w[0]);
	content_news(p.c[1], n.attr.data, n.attr.lay);
	flush(&p, 1);
	assert_file(&p, "written");
	write_at(&p, 1, 2, "IT");
	flush(&p, 1);
	assert_file(&p, "wrITten");
	data = n.attr.data;
	node_release(&n);
	n = file_node(&p.w[0]);
	assert_int_equal(n.attr.data, data + 1); /* and its flush without a write was no commit */
	assert_int_equal(p.moved, 0);
	node_release(&n);
	pair_close(&p);
}

/* Small enough for the record itself. */
static void inline_lines_stay(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, 16384);
	append(&p, 0, "a1\n");
	flush(&p, 0);
	append(&p, 0, "a2\n");
	append(&p, 1, "b1\n");
	flush(&p, 1);
	flush(&p, 0);
	assert_file(&p, "a1\nb1\na2\n");
	pair_close(&p);
}

/* A rewrite is no append: what others wrote meanwhile is replaced, and a version. */
static void a_truncated_log_starts_anew(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, 0);
	append(&p, 0, "old\n");
	flush(&p, 0);
	content_closed(p.c[0]);
	assert_int_equal(content_truncate(p.c[0], &p.w[0].op, 0, NULL), 0);
	append(&p, 0, "new\n");
	append(&p, 1, "b1\n");
	flush(&p, 1);
	flush(&p, 0);
	assert_file(&p, "new\n");
	assert_true(count_versions(&p.w[0]) >= 1);
	pair_close(&p);
}

/* Of a commit nobody knows whether it happened (it did not), and another mount's makes the file just as long. */
static struct engine_ops unsure_ops;
static const struct engine_ops *sure_ops;
static bool is_unsure;

static int unsure_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	return is_unsure ? -EIO : sure_ops->apply(e, op, c);
}

static void a_line_of_an_unsure_commit_takes_no_other_ones_place(void **state)
{
	struct engine *e;
	struct pair p;

	(void)state;
	pair_open(&p, 0);
	e = p.w[0].vol.engine;
	sure_ops = e->ops;
	unsure_ops = *sure_ops;
	unsure_ops.apply = unsure_apply;
	e->ops = &unsure_ops;
	append(&p, 0, "a1\n");
	is_unsure = true;
	assert_int_equal(content_flush(p.c[0], &p.w[0].op, NULL, NULL), -EIO);
	is_unsure = false;
	append(&p, 1, "b1\n");
	flush(&p, 1);
	flush(&p, 0);
	e->ops = sure_ops;
	assert_file(&p, "b1\na1\n");
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_both_stay),
		cmocka_unit_test(what_ends_where_an_append_begins_stays_there),
		cmocka_unit_test(a_write_within_an_appended_line_moves_along),
		cmocka_unit_test(a_write_over_the_edge_of_an_appended_line_does_not),
		cmocka_unit_test(a_line_behind_many_ranges_is_whole),
		cmocka_unit_test(a_line_behind_a_range_that_lost_a_race_moves_too),
		cmocka_unit_test(a_big_new_log_is_no_stream),
		cmocka_unit_test(an_idle_writer_takes_nothing_back),
		cmocka_unit_test(inline_lines_stay),
		cmocka_unit_test(a_truncated_log_starts_anew),
		cmocka_unit_test(a_line_of_an_unsure_commit_takes_no_other_ones_place),
	};

	return cmocka_run_group_tests_name("append", tests, NULL, NULL);
}
