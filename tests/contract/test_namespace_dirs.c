/*
 * What a namespace remembers of directories while another mount moves them: its news take it back, and what was stored by an
 * old path meanwhile is looked at again. The news come when the test hands them over.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "meta/mem_internal.h"
#include "tests/lib/namespace_world.h"

#define ROOT	 MFS_ROOT_INO
#define NEWS_MAX 256

/* Mount 1 is the one that is told. */
struct told {
	struct ns_world *w;
	struct news queue[NEWS_MAX];
	struct mfs_name names[NEWS_MAX];
	size_t n;
	struct engine_ops counting;
	const struct engine_ops *ops;
	unsigned int gets;
	int (*during)(struct told *t); /* once, after the next get was answered */
	mfs_ino_t of; /* only of this */
};

static struct told *counted; /* one world at a time */

static int counting_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	int (*during)(struct told *t) = NULL;
	int r = counted->ops->get(e, op, ino, ret);

	counted->gets++;
	if (ino == counted->of)
		during = MFS_TAKE(counted->during);
	if (during)
		assert_int_equal(during(counted), 0);
	return r;
}

static void hear(void *arg, const struct news *n)
{
	struct told *t = arg;

	if (n->session == t->w->e[1]->session || (n->kind != NEWS_RECORD && n->kind != NEWS_GONE))
		return;
	assert_true(t->n < NEWS_MAX);
	t->queue[t->n] = *n;
	if (n->name) {
		t->names[t->n] = *n->name;
		t->queue[t->n].name = &t->names[t->n];
	}
	t->n++;
}

/* True: there was something to be looked at again. */
static bool hand_over(struct told *t)
{
	bool again = false;

	for (size_t i = 0; i < t->n; i++)
		again |= namespace_news(t->w->ns[1], &t->queue[i]);
	t->n = 0;
	if (again)
		namespace_recheck(t->w->ns[1], &t->w->op);
	return again;
}

static struct told *begin(struct ns_world *w)
{
	struct told *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->w = w;
	counted = t;
	assert_int_equal(engine_watch(w->e[1], hear, t), 0);
	namespace_hears(w->ns[1]);
	t->ops = w->e[1]->ops;
	t->counting = *t->ops;
	t->counting.get = counting_get;
	w->e[1]->ops = &t->counting;
	return t;
}

static void end(struct told *t)
{
	t->w->e[1]->ops = t->ops;
	assert_int_equal(engine_watch(t->w->e[1], NULL, NULL), 0);
	free(t);
}

static char *path_at(struct told *t, mfs_ino_t ino, struct op_ctx *op)
{
	struct mfs_buf b = MFS_BUF_INIT(4096);
	int r = namespace_path(t->w->ns[1], op, ino, &b);

	assert_int_equal(r, 0);
	return b.data;
}

#define assert_path(t, ino, expected)                     \
	do {                                              \
		char *p_ = path_at(t, ino, &(t)->w->op);  \
		assert_string_equal(p_, expected);        \
		free(p_);                                 \
	} while (0)

static void a_place_is_read_once(void **state)
{
	struct ns_world *w = *state;
	struct told *t = begin(w);
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, a, "b"), f = mkfile(w, b, "f");

	assert_path(t, f, "a/b/f");
	t->gets = 0;
	assert_path(t, f, "a/b/f");
	assert_int_equal(t->gets, 1); /* the file's own record */
	end(t);
}

static void news_take_it_back(void **state)
{
	struct ns_world *w = *state;
	struct told *t = begin(w);
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, a, "b"), f = mkfile(w, b, "f");
	struct op_ctx fresh = { .fresh = true };
	char *p;

	assert_path(t, f, "a/b/f");
	assert_int_equal(do_rename(w, 0, ROOT, "a", ROOT, "z", 0), 0);
	p = path_at(t, f, &fresh); /* who must know asks */
	assert_string_equal(p, "z/b/f");
	free(p);
	(void)hand_over(t);
	assert_path(t, f, "z/b/f");
	/* A change that moves nothing costs nothing. */
	assert_int_equal(do_make(w, 0, b, "g", S_IFREG | 0644, &a), 0);
	(void)hand_over(t);
	t->gets = 0;
	assert_path(t, f, "z/b/f");
	assert_int_equal(t->gets, 1);
	end(t);
}

static void without_news_nothing_is_believed(void **state)
{
	struct ns_world *w = *state;
	struct told *t = begin(w);
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), f = mkfile(w, a, "f");

	assert_path(t, f, "a/f");
	mem_news_mute(w->shared, w->e[1], true);
	usleep(600000);
	assert_int_equal(do_rename(w, 0, ROOT, "a", ROOT, "z", 0), 0);
	assert_path(t, f, "z/f");
	mem_news_mute(w->shared, w->e[1], false);
	end(t);
}

/* The job of the move has been done by the time: the file would stay at the key of the old path for ever. */
static void what_was_stored_by_an_old_path_is_looked_at_again(void **state)
{
	struct ns_world *w = *state;
	struct told *t = begin(w);
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, a, "b"), f = mkfile(w, b, "f"), g = mkfile(w, ROOT, "g");

	assert_path(t, f, "a/b/f");
	assert_int_equal(do_rename(w, 0, ROOT, "a", ROOT, "z", 0), 0);
	free(take_jobs(w)); /* done */
	assert_int_equal(do_commit(w, 1, f, "a/b/f", 10), 0);
	assert_int_equal(do_commit(w, 1, g, "g", 10), 0);
	free(take_jobs(w));
	assert_true(hand_over(t));
	assert_jobs(w, fmt("file %llu\n", (unsigned long long)f)); /* and not g, which nothing is above of */
	assert_false(hand_over(t));
	end(t);
}

static int failing_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	(void)e;
	(void)op;
	(void)c;
	return -EIO;
}

static void what_could_not_be_queued_is_queued_with_the_next_news(void **state)
{
	struct ns_world *w = *state;
	struct told *t = begin(w);
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), f = mkfile(w, a, "f");

	assert_int_equal(do_commit(w, 1, f, "a/f", 10), 0);
	assert_int_equal(do_rename(w, 0, ROOT, "a", ROOT, "z", 0), 0);
	free(take_jobs(w));
	t->counting.apply = failing_apply;
	assert_true(hand_over(t));
	assert_jobs(w, "");
	t->counting.apply = t->ops->apply;
	assert_int_equal(do_make(w, 0, ROOT, "g", S_IFREG | 0644, &a), 0);
	assert_true(hand_over(t));
	assert_jobs(w, fmt("file %llu\n", (unsigned long long)f));
	end(t);
}

static int move_unheard(struct told *t)
{
	int r = do_rename(t->w, 0, ROOT, "a", ROOT, "z", 0);

	(void)hand_over(t);
	return r;
}

/* The place was read before the move, the news came while it was on its way here. */
static void news_that_meet_a_reading(void **state)
{
	struct ns_world *w = *state;
	struct told *t = begin(w);
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), f = mkfile(w, a, "f");

	t->of = a;
	t->during = move_unheard;
	assert_int_equal(do_commit(w, 1, f, "a/f", 10), 0);
	assert_null(t->during);
	assert_jobs(w, fmt("dir %llu\nfile %llu\n", (unsigned long long)a, (unsigned long long)f));
	assert_path(t, f, "z/f");
	end(t);
}

static void lost_news_are_about_all(void **state)
{
	struct ns_world *w = *state;
	struct told *t = begin(w);
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), f = mkfile(w, a, "f");

	assert_int_equal(do_commit(w, 1, f, "a/f", 10), 0);
	assert_int_equal(do_rename(w, 0, ROOT, "a", ROOT, "z", 0), 0);
	free(take_jobs(w));
	t->n = 0;
	assert_true(namespace_news(w->ns[1], &(struct news){ .kind = NEWS_LOST }));
	namespace_recheck(w->ns[1], &w->op);
	assert_jobs(w, fmt("file %llu\n", (unsigned long long)f));
	assert_path(t, f, "z/f");
	end(t);
}

int main(void)
{
	static const struct ns_test tests[] = {
		NS_TEST(a_place_is_read_once),
		NS_TEST(news_take_it_back),
		NS_TEST(without_news_nothing_is_believed),
		NS_TEST(what_was_stored_by_an_old_path_is_looked_at_again),
		NS_TEST(what_could_not_be_queued_is_queued_with_the_next_news),
		NS_TEST(news_that_meet_a_reading),
		NS_TEST(lost_news_are_about_all),
	};

	/* The one engine without a server that has several mounts and hands its news over at once. */
	return ns_suite_run_on("mem", "dirs", tests, MFS_ARRAY_LEN(tests));
}
