/*
 * News of the mongo engine: what each change is told as, by whom, how soon; that nothing is missed when the connection or the
 * server breaks; the heartbeat; and NEWS_LOST where something may have been missed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/sync.h"
#include "tests/lib/engine_suite.h"
#include "tests/lib/mongo_proxy.h"
#include "tests/lib/mongo_server.h"
#include "tests/lib/store_suite.h"

#define REG 0100644
#define DIR 0040755
#define HEARD_MAX 65536
#define WAIT_NS	  (10 * MFS_NSEC_PER_SEC)

struct heard {
	struct news n;
	struct mfs_name name;
	char cell[64];
	int64_t at; /* monotonic */
};

struct world {
	char *dir;
	char database[64];
	struct mongo_proxy *proxy;
	struct engine *e, *other; /* e watches, behind the proxy; other changes */
	struct mfs_mutex lock;
	struct heard *heard;
	size_t n;
};

static void hear(void *arg, const struct news *n)
{
	struct world *w = arg;
	MFS_GUARD(&w->lock);
	struct heard *h = &w->heard[w->n];

	if (w->n == HEARD_MAX || n->kind == NEWS_SIDE)
		return;
	*h = (struct heard){ .n = *n, .at = mfs_mono_ns() };
	if (n->name)
		h->name = *n->name;
	if (n->cell)
		snprintf(h->cell, sizeof(h->cell), "%s", n->cell);
	w->n++;
}

static struct engine *open_engine(const char *uri, const char *database)
{
	const struct mongo_options opt = { .uri = uri, .database = database, .create = true, .pool_size = 8 };
	struct engine *e = NULL;
	char *reason = NULL;

	if (mongo_engine_open(&opt, &e, &reason) < 0)
		fail_msg("mongo: %s", reason ? reason : "?");
	free(reason);
	return e;
}

static int setup(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "u" };
	struct world *w = calloc(1, sizeof(*w));
	const char *uri = mongo_server_start()->uri;

	w->heard = calloc(HEARD_MAX, sizeof(*w->heard));
	pthread_mutex_init(&w->lock.m, NULL);
	w->dir = store_test_dir();
	mongo_server_database(w->dir, w->database);
	w->proxy = mongo_proxy_new(uri);
	w->other = open_engine(uri, w->database);
	TEST_OK(engine_volume_put(w->other, NULL, &v));
	w->e = open_engine(mongo_proxy_uri(w->proxy), w->database);
	w->e->session = 0x101;
	w->other->session = 0x8000000000000102u;
	TEST_OK(engine_watch(w->e, hear, w));
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	engine_free(w->e);
	engine_free(w->other);
	mongo_proxy_free(w->proxy);
	mongo_server_release(strdup(w->database));
	store_test_remove(w->dir);
	pthread_mutex_destroy(&w->lock.m);
	free(w->heard);
	free(w);
	return 0;
}

static size_t heard_so_far(struct world *w)
{
	MFS_GUARD(&w->lock);

	return w->n;
}

/* Wait until the heartbeat says that all of now was told. */
static void wait_told(struct world *w)
{
	int64_t now = mfs_mono_ns();

	while (engine_last_beat(w->e) < now) {
		assert_true(mfs_mono_ns() - now < WAIT_NS);
		usleep(1000);
	}
}

/* The news of `ino` among [from, n) must be exactly these kinds. */
static void assert_told(struct world *w, size_t from, mfs_ino_t ino, const char *want)
{
	static const char letters[] = { [NEWS_RECORD] = 'r', [NEWS_ALIAS] = 'a', [NEWS_GONE] = 'g', [NEWS_CELL] = 'c',
					[NEWS_SESSION] = 's', [NEWS_LOST] = 'L' };
	char got[256] = "";
	size_t n = 0;

	wait_told(w);
	for (size_t i = from; i < heard_so_far(w) && n < 255; i++)
		if (w->heard[i].n.ino == ino || w->heard[i].n.kind == NEWS_LOST)
			got[n++] = letters[w->heard[i].n.kind];
	assert_string_equal(got, want);
}

static const struct heard *last_of(struct world *w, mfs_ino_t ino)
{
	for (size_t i = heard_so_far(w); i-- > 0;)
		if (w->heard[i].n.ino == ino)
			return &w->heard[i];
	fail_msg("nothing was told of %ju", (uintmax_t)ino);
	return NULL;
}

static void rename_it(struct engine *e, mfs_ino_t ino, mfs_ino_t dir, const char *name)
{
	struct node set = NODE_INIT;
	struct change c = { 0 };

	set.parent = dir;
	set.name = test_name(name);
	change_write(&c, WRITE_RENAME, ino)->node = &set;
	change_touch(&c, dir, 9, 0, 0);
	TEST_OK(engine_apply(e, NULL, &c));
}

static void test_news__of_a_file(void **state)
{
	struct world *w = *state;
	mfs_ino_t d = test_make(w->other, MFS_ROOT_INO, "d", DIR), a;
	size_t from = heard_so_far(w);
	struct mfs_attr attr;
	struct node gone = NODE_INIT;
	struct change c = { 0 };
	const struct heard *h;
	struct write *x;

	a = test_make(w->other, d, "a", REG);
	assert_told(w, from, a, "r");
	h = last_of(w, a);
	attr = test_attr(w->e, a);
	assert_int_equal(h->n.parent, d);
	assert_string_equal(h->name.bytes, "a");
	assert_int_equal(h->n.ver, attr.ver);
	assert_int_equal(h->n.data, attr.data);
	assert_int_equal(h->n.lay, attr.lay);
	assert_int_equal(h->n.session, 0x8000000000000102u);
	/* Its directory was touched, by the same. */
	h = last_of(w, d);
	assert_int_equal(h->n.session, 0x8000000000000102u);
	assert_int_equal(h->n.ver, test_attr(w->e, d).ver);
	/* An edit: of others, and more often than the ring is long. */
	from = heard_so_far(w);
	for (int i = 0; i < 20; i++) {
		c = (struct change){ 0 };
		x = change_write(&c, WRITE_EDIT, a);
		x->mask = EDIT_BUMP_DATA | EDIT_BUMP_LAY;
		TEST_OK(engine_apply(i % 2 ? w->e : w->other, NULL, &c));
	}
	assert_told(w, from, a, "rrrrrrrrrrrrrrrrrrrr");
	for (size_t i = from, k = 0; i < heard_so_far(w); i++) {
		h = &w->heard[i];
		if (h->n.ino != a)
			continue;
		k++;
		assert_int_equal(h->n.ver, attr.ver + k);
		assert_int_equal(h->n.data, attr.data + k);
		assert_int_equal(h->n.lay, attr.lay + k);
		assert_int_equal(h->n.session, k % 2 ? 0x8000000000000102u : 0x101);
		assert_int_equal(h->n.parent, d);
	}
	/* A rename is one piece of news, with the new name. */
	from = heard_so_far(w);
	rename_it(w->other, a, MFS_ROOT_INO, "b");
	assert_told(w, from, a, "r");
	h = last_of(w, a);
	assert_int_equal(h->n.parent, MFS_ROOT_INO);
	assert_string_equal(h->name.bytes, "b");
	assert_int_equal(h->n.session, 0x8000000000000102u);
	/* An unlink says whose it is, too. */
	from = heard_so_far(w);
	c = (struct change){ 0 };
	gone.trash_path = (char *)(uintptr_t) "b";
	change_write(&c, WRITE_TRASH, a)->node = &gone;
	TEST_OK(engine_apply(w->e, NULL, &c));
	assert_told(w, from, a, "g");
	assert_int_equal(last_of(w, a)->n.session, 0x101);
}

static void test_news__of_aliases_directories_cells_and_sessions(void **state)
{
	struct world *w = *state;
	mfs_ino_t a = test_make(w->other, MFS_ROOT_INO, "a", REG), d = test_make(w->other, MFS_ROOT_INO, "d", DIR);
	struct alias alias = { .id = test_number(w->other), .parent = d, .target = a, .name = test_name("l\xff") };
	struct cell_record cell = { .name = (char *)(uintptr_t) "locks/1",
				    .token = 9,
				    .blob = { .data = (void *)(uintptr_t) "x", .size = 1 } };
	struct session_record s = { .id = 0x55, .host = (char *)(uintptr_t) "h", .started = 1, .heartbeat = 1 };
	struct change c = { 0 };
	struct write *x;
	size_t from = heard_so_far(w);

	change_write(&c, WRITE_EDIT, a)->nlink_delta = 1;
	change_write(&c, WRITE_ALIAS_INSERT, alias.id)->alias = &alias;
	TEST_OK(engine_apply(w->other, NULL, &c));
	assert_told(w, from, alias.id, "a");
	assert_int_equal(last_of(w, alias.id)->n.target, a);
	assert_int_equal(last_of(w, alias.id)->n.parent, d);
	assert_string_equal(last_of(w, alias.id)->name.bytes, "l\xff");
	assert_int_equal(last_of(w, alias.id)->n.session, 0x8000000000000102u);
	c = (struct change){ 0 };
	change_write(&c, WRITE_EDIT, a)->nlink_delta = -1;
	change_write(&c, WRITE_ALIAS_DELETE, alias.id);
	TEST_OK(engine_apply(w->other, NULL, &c));
	assert_told(w, from, alias.id, "ag");
	/* rmdir: the mark, which nobody need hear of, and the end. */
	c = (struct change){ .no_child = d };
	change_write(&c, WRITE_DELETE, d);
	TEST_OK(engine_apply(w->e, NULL, &c));
	wait_told(w);
	assert_int_equal(last_of(w, d)->n.kind, NEWS_GONE);
	assert_int_equal(last_of(w, d)->n.session, 0x101);
	/* Cells. */
	from = heard_so_far(w);
	for (int i = 0; i < 3; i++) {
		c = (struct change){ 0 };
		x = change_write(&c, WRITE_CELL_PUT, 0);
		x->cell = &cell;
		x->expect = (struct expect){ .flags = EXPECT_VER, .ver = i ? 8 + (uint64_t)i : 0 };
		cell.token = 9 + (uint64_t)i;
		cell.blob.size = i < 2;
		TEST_OK(engine_apply(w->other, NULL, &c));
	}
	assert_told(w, from, 0, "ccc");
	assert_string_equal(w->heard[from].cell, "locks/1");
	/* A session, but not its heartbeats. */
	from = heard_so_far(w);
	for (int i = 1; i < 6; i++) {
		c = (struct change){ 0 };
		s.heartbeat = i;
		s.closed = i == 5 ? 99 : 0;
		change_write(&c, WRITE_SESSION_PUT, 0)->session = &s;
		TEST_OK(engine_apply(w->other, NULL, &c));
	}
	assert_told(w, from, 0x55, "ss");
}

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void test_news__come_soon(void **state)
{
	enum { N = 300 };
	struct world *w = *state;
	mfs_ino_t a = test_make(w->other, MFS_ROOT_INO, "a", REG);
	int64_t took[N];
	size_t from;

	wait_told(w);
	from = heard_so_far(w);
	for (size_t i = 0; i < N; i++) {
		struct change c = { 0 };
		int64_t done;

		change_write(&c, WRITE_EDIT, a)->mask = EDIT_BUMP_DATA;
		TEST_OK(engine_apply(w->other, NULL, &c));
		done = mfs_mono_ns();
		while (heard_so_far(w) < from + i + 1)
			assert_true(mfs_mono_ns() - done < WAIT_NS);
		took[i] = MFS_MAX(w->heard[from + i].at - done, 0);
		usleep(2000);
	}
	qsort(took, N, sizeof(*took), by_number);
	printf("    from the end of the change to the news: p50 %.2f ms, p99 %.2f ms, most %.2f ms\n", (double)took[N / 2] / 1e6,
	       (double)took[N * 99 / 100] / 1e6, (double)took[N - 1] / 1e6);
	assert_true(took[N / 2] < 100 * INT64_C(1000000));
}

static void test_beat__is_young_while_all_is_well_and_old_when_it_is_not(void **state)
{
	struct world *w = *state;
	int64_t worst = 0, since;

	wait_told(w);
	for (int i = 0; i < 200; i++) {
		worst = MFS_MAX(worst, mfs_mono_ns() - engine_last_beat(w->e));
		usleep(5000);
	}
	printf("    the oldest beat was %.0f ms old\n", (double)worst / 1e6);
	assert_true(worst < 5 * 500 * INT64_C(1000000)); /* under sanitizers, with other tests beside */
	TEST_OK(engine_watch(w->e, NULL, NULL));
	assert_int_equal(engine_last_beat(w->e), 0);
	since = mfs_mono_ns();
	TEST_OK(engine_watch(w->e, hear, w));
	wait_told(w);
	assert_true(engine_last_beat(w->e) >= since);
}

/* The connection breaks again and again while things happen: every one of them is told, once or more, in order. */
static void test_resume__misses_nothing(void **state)
{
	struct world *w = *state;
	mfs_ino_t a = test_make(w->other, MFS_ROOT_INO, "a", REG);
	uint64_t first = test_attr(w->other, a).ver, next = first + 1;
	size_t from = heard_so_far(w);

	for (int i = 0; i < 600; i++) {
		struct change c = { 0 };

		change_write(&c, WRITE_EDIT, a);
		TEST_OK(engine_apply(w->other, NULL, &c));
		if (i % 150 == 75)
			mongo_proxy_cut(w->proxy);
	}
	wait_told(w);
	for (size_t i = from; i < heard_so_far(w); i++) {
		const struct news *n = &w->heard[i].n;

		assert_int_not_equal(n->kind, NEWS_LOST);
		if (n->ino != a || n->ver <= first)
			continue;
		assert_true(n->ver <= next); /* no gap */
		next += n->ver == next;
	}
	assert_int_equal(next, first + 601);
}

/* Somebody drops the database: whatever was known of it is not. */
static void test_lost__is_told(void **state)
{
	struct world *w = *state;
	int64_t start = mfs_mono_ns();
	bool lost = false;

	wait_told(w);
	mongo_server_release(strdup(w->database));
	while (!lost) {
		assert_true(mfs_mono_ns() - start < WAIT_NS);
		for (size_t i = 0; i < heard_so_far(w); i++)
			lost |= w->heard[i].n.kind == NEWS_LOST;
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_news__of_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_news__of_aliases_directories_cells_and_sessions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_news__come_soon, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beat__is_young_while_all_is_well_and_old_when_it_is_not, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resume__misses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost__is_told, setup, teardown),
	};
	int failed;

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	mongo_server_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	mongo_server_stop();
	return failed;
}
