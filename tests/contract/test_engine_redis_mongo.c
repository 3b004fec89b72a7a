/*
 * The redis engine over the mongo engine, as a cluster's mount has them: through the contract suite with one engine object (what
 * another one changed is seen when its news come, and the suite looks at once), and two of them that tell each other.
 *
 * MASSFS_MEASURE=1: how long get, lookup and list take, from Redis and from the engine below.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/expr.h"
#include "meta/mem_internal.h"
#include "tests/lib/mongo_server.h"
#include "tests/lib/redis_server.h"

static struct redis_server redis;

static int open_both(const char *dir, void **shared, struct engine **ret)
{
	struct engine *inner;
	int r = mongo_server_open(dir, shared, &inner);

	if (r < 0)
		return r;
	*ret = redis_server_engine(&redis, inner, *shared); /* the database's name */
	return 0;
}

/* --- two mounts --- */

struct seen {
	struct engine *e[2];
	struct node set;
	mfs_ino_t dir, ino;
	unsigned int round, tag;
	int64_t slowest;
};

static void change(struct seen *s, unsigned int who)
{
	struct change c = { 0 };
	struct write *w = change_write(&c, s->round % 2 ? WRITE_RENAME : WRITE_EDIT, s->ino);
	char text[16];

	snprintf(text, sizeof(text), "n%u", s->round);
	w->node = &s->set;
	w->mask = EDIT_SIZE;
	if (s->round % 2 == 0) {
		s->tag = s->round;
		TEST_OK(node_xattr_set(&s->set, "user.round", text, strlen(text)));
		w->mask |= EDIT_XATTRS;
	}
	s->set.attr.size = s->round;
	s->set.parent = s->dir;
	if (s->round % 2)
		s->set.name = test_name(text);
	change_touch(&c, s->dir, mfs_now_ns(), 0, 0);
	TEST_OK(engine_apply(s->e[who], NULL, &c));
}

static size_t searched(struct engine *e, const char *text, mfs_ino_t ino)
{
	const struct expr_env env = { .now = 0 };
	struct node_list l = NODE_LIST_INIT;
	MFS_AUTOEXPR struct expr *x = NULL;
	MFS_AUTOFREE char *reason = NULL;
	size_t column, n;

	TEST_OK(expr_parse(text, strlen(text), &env, &x, &column, &reason));
	TEST_OK(engine_find(e, NULL, &x->terms[x->root], 0, 100, &l));
	assert_true(l.n <= 1 && (l.n == 0 || l.v[0].attr.ino == ino));
	n = l.n;
	node_list_release(&l);
	return n;
}

/* The tag's old value finds nothing, the new one the file; that nothing has it is kept in Redis as well. */
static bool sees_tag(struct seen *s, unsigned int who)
{
	char now[32], before[32], next[32];
	bool right;

	if (!s->tag)
		return true;
	snprintf(now, sizeof(now), "round = n%u", s->tag);
	snprintf(before, sizeof(before), "round = n%u", s->tag - 2);
	snprintf(next, sizeof(next), "round = n%u", s->tag + 2);
	right = searched(s->e[who], now, s->ino) == 1 && searched(s->e[who], before, s->ino) == 0;
	return right && searched(s->e[who], next, s->ino) == 0 && searched(s->e[who], "tag:round", s->ino) == 1;
}

/* By all ways of asking. */
static bool sees(struct seen *s, unsigned int who)
{
	struct node_list l = NODE_LIST_INIT;
	struct engine *e = s->e[who];
	bool right = test_attr(e, s->ino).size == s->round && test_find(e, s->dir, s->set.name.bytes) == s->ino;

	TEST_OK(engine_list(e, NULL, s->dir, 0, 100, &l));
	right = right && l.n == 1 && l.v[0].attr.size == s->round && mfs_name_equal(&l.v[0].name, &s->set.name);
	node_list_release(&l);
	return right && sees_tag(s, who);
}

/* With nobody changing anything, what Redis has is taken again. */
static void wait_for_hit(struct engine *e, mfs_ino_t ino)
{
	int64_t until = mfs_mono_ns() + 20 * MFS_NSEC_PER_SEC;
	struct redis_stats before, now;

	redis_engine_stats(e, &before);
	do {
		(void)test_attr(e, ino);
		redis_engine_stats(e, &now);
		assert_true(mfs_mono_ns() < until);
		usleep(5000);
	} while (now.hits == before.hits);
}

/* One's own change at once, the other's when it is told. */
static void test_two_mounts__see_each_other(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	struct seen s = { .e = { NULL } };
	void *shared = NULL;
	struct redis_stats st[2];

	(void)state;
	TEST_OK(open_both("two-mounts", &shared, &s.e[0]));
	TEST_OK(open_both("two-mounts", &shared, &s.e[1]));
	s.e[0]->session = 101;
	s.e[1]->session = 102;
	TEST_OK(engine_volume_put(s.e[0], NULL, &v));
	redis_server_wait_listening(s.e[0]);
	redis_server_wait_listening(s.e[1]);
	s.dir = test_make(s.e[0], MFS_ROOT_INO, "d", 040755);
	s.ino = test_make(s.e[0], s.dir, "n", 0100644);
	s.set.name = test_name("n");
	for (s.round = 1; s.round <= 200; s.round++) {
		unsigned int who = s.round / 7 % 2;
		int64_t begun, until;

		change(&s, who);
		begun = mfs_mono_ns();
		until = begun + 10 * MFS_NSEC_PER_SEC;
		assert_true(sees(&s, who));
		while (!sees(&s, !who)) {
			assert_true(mfs_mono_ns() < until);
			usleep(500);
		}
		if (mfs_mono_ns() - begun > s.slowest)
			s.slowest = mfs_mono_ns() - begun;
	}
	for (unsigned int i = 0; i < 2; i++) {
		wait_for_hit(s.e[i], s.ino);
		redis_engine_stats(s.e[i], &st[i]);
		print_message("hits %ju misses %ju old %ju hints seen %ju failures %ju\n", (uintmax_t)st[i].hits,
			      (uintmax_t)st[i].misses, (uintmax_t)st[i].old, (uintmax_t)st[i].hints_seen, (uintmax_t)st[i].failures);
		assert_true(st[i].failures || st[i].hints_seen > 20);
	}
	print_message("the slowest was seen after %.1f ms\n", (double)s.slowest / 1e6);
	node_release(&s.set);
	engine_free(s.e[0]);
	engine_free(s.e[1]);
	mongo_server_release(shared);
}

/* --- a busy directory --- */

#define OLD 40
#define NEW 150

struct maker {
	struct engine *e;
	mfs_ino_t dir;
	atomic_bool done;
};

static void *make_many(void *arg)
{
	struct maker *m = arg;

	for (unsigned int i = 0; i < NEW; i++) {
		char text[16];

		snprintf(text, sizeof(text), "new%u", i);
		(void)test_make(m->e, m->dir, text, 0100644);
		usleep(2000);
	}
	atomic_store(&m->done, true);
	return NULL;
}

/* Hits of 100 askings; -1: none was counted. */
static int share(const struct redis_stats *from, const struct redis_stats *to)
{
	uint64_t hits = to->hits - from->hits, misses = to->misses - from->misses;

	return hits + misses ? (int)(100 * hits / (hits + misses)) : -1;
}

/* While one mount makes files in it, the other one's questions for those that were there are answered by Redis. */
static void test_a_busy_directory__is_cached_all_the_same(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	struct redis_stats begun, names = { 0 }, before, after;
	uint64_t hits = 0, asked = 0;
	struct maker m = { 0 };
	void *shared = NULL;
	struct engine *e = NULL;
	pthread_t t;

	(void)state;
	TEST_OK(open_both("busy", &shared, &m.e));
	TEST_OK(open_both("busy", &shared, &e));
	m.e->session = 101;
	e->session = 102;
	TEST_OK(engine_volume_put(e, NULL, &v));
	redis_server_wait_listening(e);
	redis_server_wait_listening(m.e);
	m.dir = test_make(m.e, MFS_ROOT_INO, "d", 040755);
	for (unsigned int i = 0; i < OLD; i++) {
		char text[16];

		snprintf(text, sizeof(text), "f%u", i);
		(void)test_make(m.e, m.dir, text, 0100644);
	}
	sleep(1);
	redis_engine_stats(e, &begun);
	assert_int_equal(pthread_create(&t, NULL, make_many, &m), 0);
	for (unsigned int round = 0; round < 2 || !atomic_load(&m.done); round++) {
		redis_engine_stats(e, &before);
		for (unsigned int i = 0; i < OLD; i++) {
			char text[16];

			snprintf(text, sizeof(text), "f%u", i);
			(void)test_find(e, m.dir, text);
		}
		redis_engine_stats(e, &names);
		if (round > 0) {
			hits += names.hits - before.hits;
			asked += names.hits - before.hits + names.misses - before.misses;
		}
		for (unsigned int i = 0; i < OLD; i++)
			(void)test_attr(e, m.dir);
	}
	pthread_join(t, NULL);
	redis_engine_stats(e, &after);
	print_message("names: %ju hits of %ju; of all %d of 100; old %ju\n", (uintmax_t)hits, (uintmax_t)asked, share(&begun, &after),
		      (uintmax_t)(after.old - begun.old));
	assert_true(after.failures || (asked > 0 && hits * 10 >= asked * 9));
	engine_free(e);
	engine_free(m.e);
	mongo_server_release(shared);
}

/* --- how long it takes --- */

#define ROUNDS 3000
#define FILES  500

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

enum what { GET, LOOKUP, LIST };

static void ask(struct engine *e, enum what what, mfs_ino_t dir, mfs_ino_t ino)
{
	struct node_list l = NODE_LIST_INIT;

	if (what == GET)
		(void)test_attr(e, ino);
	else if (what == LOOKUP)
		assert_int_equal(test_find(e, dir, "f0"), ino);
	else
		TEST_OK(engine_list(e, NULL, dir, 0, FILES, &l));
	node_list_release(&l);
}

static void measure(struct engine *e, const char *where, enum what what, mfs_ino_t dir, mfs_ino_t ino)
{
	static const char *const names[] = { "get", "lookup", "list of 500" };
	static int64_t took[ROUNDS];
	unsigned int n = what == LIST ? ROUNDS / 20 : ROUNDS;

	for (unsigned int i = 0; i < 20; i++) {
		ask(e, what, dir, ino);
		usleep(10000);
	}
	for (unsigned int i = 0; i < n; i++) {
		int64_t begun = mfs_mono_ns();

		ask(e, what, dir, ino);
		took[i] = mfs_mono_ns() - begun;
	}
	qsort(took, n, sizeof(took[0]), by_size);
	print_message("%-12s %-12s p50 %8.1f us  p99 %8.1f us\n", where, names[what], (double)took[n / 2] / 1e3,
		      (double)took[n * 99 / 100] / 1e3);
}

static void measure_all(struct engine *inner, const char *name)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	char with[64];
	struct redis_stats st;
	struct engine *e;
	mfs_ino_t dir, ino = 0;

	TEST_OK(engine_volume_put(inner, NULL, &v));
	dir = test_make(inner, MFS_ROOT_INO, "d", 040755);
	for (unsigned int i = 0; i < FILES; i++) {
		char text[16];

		snprintf(text, sizeof(text), "f%u", i);
		ino = i ? (test_make(inner, dir, text, 0100644), ino) : test_make(inner, dir, text, 0100644);
	}
	snprintf(with, sizeof(with), "redis+%s", name);
	for (enum what w = GET; w <= LIST; w++)
		measure(inner, name, w, dir, ino);
	e = redis_server_engine(&redis, inner, "measured");
	usleep(1500000); /* the first beats */
	for (enum what w = GET; w <= LIST; w++)
		measure(e, with, w, dir, ino);
	redis_engine_stats(e, &st);
	print_message("hits %ju misses %ju old %ju failures %ju\n", (uintmax_t)st.hits, (uintmax_t)st.misses, (uintmax_t)st.old,
		      (uintmax_t)st.failures);
	engine_free(e);
}

static void test_measure(void **state)
{
	void *shared = NULL;
	struct mem_shared *mem;
	struct engine *e;

	(void)state;
	TEST_OK(mem_shared_new(&mem));
	TEST_OK(mem_engine_new(mem, &e));
	measure_all(e, "mem");
	mem_shared_free(mem);
	TEST_OK(mongo_server_open("measured", &shared, &e));
	measure_all(e, "mongo");
	mongo_server_release(shared);
}

int main(void)
{
	static const struct engine_kind kind = { .name = "redis+mongo",
						 .open = open_both,
						 .release = mongo_server_release,
						 .persists = true,
						 .record_ring = 16,
						 .puts_first = true,
						 .share = 2 };
	const struct CMUnitTest measured[] = { cmocka_unit_test(test_measure) };
	const struct CMUnitTest own[] = { cmocka_unit_test(test_two_mounts__see_each_other),
					cmocka_unit_test(test_a_busy_directory__is_cached_all_the_same) };
	int failed;

	mongo_server_start();
	redis_server_start(&redis);
	if (getenv("MASSFS_MEASURE"))
		failed = cmocka_run_group_tests_name("measure", measured, NULL, NULL);
	else
		failed = cmocka_run_group_tests_name("two mounts", own, NULL, NULL) + engine_suite_run(&kind);
	redis_server_stop(&redis);
	mongo_server_stop();
	return failed != 0;
}
