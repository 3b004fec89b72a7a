/*
 * Contract tests of engines: several threads at once, on two instances where there can be two. Each race is run for
 * many rounds (MASSFS_RACE_ROUNDS), the threads meeting before each, and what must hold is checked after each.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/engine_suite.h"

#define REG 0100644
#define DIR 0040755
#define N_RACERS 4

struct race;
struct racer {
	struct race *race;
	struct engine *e;
	unsigned int n; /* 0.. */
	pthread_t thread;
	int r;		/* of this round */
	uint64_t ids[2]; /* prepared for this round */
};

/*
 * Each round: prepare (one thread), then every racer runs `go`, then check (one thread). Asserting is for the main
 * thread alone, so racers leave their results in r.
 */
struct race {
	struct engine_fixture *f;
	unsigned int n_racers, rounds, round;
	void (*prepare)(struct race *race);
	void (*go)(struct racer *racer);
	void (*check)(struct race *race);
	pthread_barrier_t start, end;
	bool stop;
	struct racer racers[N_RACERS];
	mfs_ino_t dir, a, b;
};

static void *racer_thread(void *arg)
{
	struct racer *r = arg;

	for (;;) {
		pthread_barrier_wait(&r->race->start);
		if (r->race->stop)
			return NULL;
		r->race->go(r);
		pthread_barrier_wait(&r->race->end);
	}
}

/* On the heap while it runs: when a check fails, the racers still wait at a barrier of it, for ever. */
static void run_race(struct race *in)
{
	struct race *race = malloc(sizeof(*race));

	*race = *in;
	pthread_barrier_init(&race->start, NULL, race->n_racers + 1);
	pthread_barrier_init(&race->end, NULL, race->n_racers + 1);
	race->rounds = engine_fixture_rounds(race->f);
	for (unsigned int i = 0; i < race->n_racers; i++) {
		race->racers[i] = (struct racer){ .race = race, .n = i, .e = i % 2 ? race->f->two : race->f->e };
		TEST_OK(pthread_create(&race->racers[i].thread, NULL, racer_thread, &race->racers[i]));
	}
	for (race->round = 0; race->round < race->rounds; race->round++) {
		race->prepare(race);
		pthread_barrier_wait(&race->start);
		pthread_barrier_wait(&race->end);
		race->check(race);
	}
	race->stop = true;
	pthread_barrier_wait(&race->start);
	for (unsigned int i = 0; i < race->n_racers; i++)
		pthread_join(race->racers[i].thread, NULL);
	pthread_barrier_destroy(&race->start);
	pthread_barrier_destroy(&race->end);
	in->rounds = race->rounds;
	free(race);
}

/* How many racers got this result. */
static unsigned int count_results(const struct race *race, int r)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < race->n_racers; i++)
		n += race->racers[i].r == r;
	return n;
}

static void round_name(const struct race *race, const char *prefix, struct mfs_name *ret)
{
	char text[64];

	snprintf(text, sizeof(text), "%s%u", prefix, race->round);
	*ret = test_name(text);
}

/* Names are unique, whoever inserts. */

static void prepare_unique(struct race *race)
{
	for (unsigned int i = 0; i < race->n_racers; i++)
		race->racers[i].ids[0] = test_number(race->f->e);
}

static void go_unique(struct racer *r)
{
	struct node n = NODE_INIT;
	struct alias alias = { .id = r->ids[0], .parent = r->race->dir, .target = r->race->a };
	struct change c = { 0 };

	/* The last one links there. */
	if (r->n == 3) {
		round_name(r->race, "n", &alias.name);
		change_write(&c, WRITE_ALIAS_INSERT, alias.id)->alias = &alias;
		change_write(&c, WRITE_EDIT, r->race->a)->nlink_delta = 1;
	} else {
		n.attr.ino = n.pos = r->ids[0];
		n.attr.mode = REG;
		n.parent = r->race->dir;
		round_name(r->race, "n", &n.name);
		change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	}
	change_touch(&c, r->race->dir, 1, 1, TOUCH_MUST_EXIST);
	r->r = engine_apply(r->e, NULL, &c);
}

static void check_unique(struct race *race)
{
	struct mfs_name name;
	uint64_t winner = 0;

	assert_int_equal(count_results(race, 0), 1);
	assert_int_equal(count_results(race, -EEXIST), race->n_racers - 1);
	for (unsigned int i = 0; i < race->n_racers; i++)
		if (race->racers[i].r == 0)
			winner = race->racers[i].ids[0];
	round_name(race, "n", &name);
	assert_int_equal(test_find(race->f->two, race->dir, name.bytes), winner);
}

static void test_race__one_winner_a_name(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 4,
			     .prepare = prepare_unique,
			     .go = go_unique,
			     .check = check_unique };
	struct mfs_attr root;

	race.dir = test_make(race.f->e, MFS_ROOT_INO, "d", DIR);
	race.a = test_make(race.f->e, MFS_ROOT_INO, "file", REG);
	run_race(&race);
	root = test_attr(race.f->e, race.dir);
	assert_int_equal(root.children, race.rounds);
	assert_int_equal(root.ver, 1 + race.rounds);
}

/* A rename by two of the same file: one wins, the file has one name. */

static void prepare_rename(struct race *race)
{
	struct mfs_name name;

	round_name(race, "r", &name);
	race->a = test_make(race->f->e, race->dir, name.bytes, REG);
}

static void go_rename(struct racer *r)
{
	struct node to = NODE_INIT;
	struct change c = { 0 };
	struct mfs_name name;
	struct write *w = change_write(&c, WRITE_RENAME, r->race->a);

	round_name(r->race, "r", &name);
	round_name(r->race, r->n ? "x" : "y", &to.name);
	to.parent = r->race->dir;
	w->node = &to;
	w->expect = (struct expect){ .flags = EXPECT_NAME, .parent = r->race->dir, .name = &name };
	r->r = engine_apply(r->e, NULL, &c);
}

static void check_rename(struct race *race)
{
	struct mfs_name x, y, old;

	round_name(race, "x", &x);
	round_name(race, "y", &y);
	round_name(race, "r", &old);
	assert_int_equal(count_results(race, 0), 1);
	assert_int_equal(count_results(race, -EAGAIN), 1);
	assert_int_equal(test_find(race->f->e, race->dir, x.bytes), race->racers[1].r ? 0 : race->a);
	assert_int_equal(test_find(race->f->e, race->dir, y.bytes), race->racers[0].r ? 0 : race->a);
	assert_int_equal(test_find(race->f->e, race->dir, old.bytes), 0);
}

static void test_race__one_rename_wins(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 2,
			     .prepare = prepare_rename,
			     .go = go_rename,
			     .check = check_rename };

	race.dir = test_make(race.f->e, MFS_ROOT_INO, "d", DIR);
	run_race(&race);
}

/* Compare-and-set on ver: no update is lost. */

static void prepare_nothing(struct race *race)
{
	(void)race;
}

static void go_add_one(struct racer *r)
{
	do {
		struct node n = NODE_INIT;
		struct change c = { 0 };
		struct write *w = change_write(&c, WRITE_EDIT, r->race->a);

		r->r = engine_get(r->e, NULL, r->race->a, &n);
		if (r->r < 0)
			return;
		w->expect = (struct expect){ .flags = EXPECT_VER, .ver = n.attr.ver };
		n.attr.size++;
		w->node = &n;
		w->mask = EDIT_SIZE;
		r->r = engine_apply(r->e, NULL, &c);
		node_release(&n);
	} while (r->r == -EAGAIN);
}

static void check_added(struct race *race)
{
	assert_int_equal(count_results(race, 0), race->n_racers);
	assert_int_equal(test_attr(race->f->two, race->a).size, (race->round + 1) * race->n_racers);
}

static void test_race__compare_and_set_loses_nothing(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 4,
			     .prepare = prepare_nothing,
			     .go = go_add_one,
			     .check = check_added };

	race.a = test_make(race.f->e, MFS_ROOT_INO, "counter", REG);
	run_race(&race);
}

/* rmdir against create (rule M4): one of the two. */

static void prepare_rmdir(struct race *race)
{
	struct mfs_name name;

	round_name(race, "d", &name);
	race->dir = test_make(race->f->e, MFS_ROOT_INO, name.bytes, DIR);
	race->racers[1].ids[0] = test_number(race->f->e);
}

static void go_rmdir_or_create(struct racer *r)
{
	struct node n = NODE_INIT;
	struct change c = { 0 };

	if (r->n == 0) {
		change_write(&c, WRITE_DELETE, r->race->dir);
		c.no_child = r->race->dir;
	} else {
		n.attr.ino = n.pos = r->ids[0];
		n.attr.mode = REG;
		n.parent = r->race->dir;
		n.name = test_name("child");
		change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
		change_touch(&c, r->race->dir, 1, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	}
	r->r = engine_apply(r->e, NULL, &c);
}

static void check_rmdir(struct race *race)
{
	int rmdir = race->racers[0].r, create = race->racers[1].r;
	struct mfs_name name;

	round_name(race, "d", &name);
	assert_true((rmdir == 0 && create == -ENOENT) || (rmdir == -ENOTEMPTY && create == 0));
	assert_int_equal(test_find(race->f->e, race->dir, "child"), create ? 0 : race->racers[1].ids[0]);
	assert_int_equal(test_find(race->f->two, MFS_ROOT_INO, name.bytes), rmdir ? race->dir : 0);
}

static void test_race__rmdir_or_create(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 2,
			     .prepare = prepare_rmdir,
			     .go = go_rmdir_or_create,
			     .check = check_rmdir };

	run_race(&race);
}

/* Two directories moved below each other (rule M5): no cycle. */

static void prepare_cycle(struct race *race)
{
	struct mfs_name name;

	round_name(race, "a", &name);
	race->a = test_make(race->f->e, MFS_ROOT_INO, name.bytes, DIR);
	round_name(race, "b", &name);
	race->b = test_make(race->f->e, MFS_ROOT_INO, name.bytes, DIR);
	/* Not into the directory itself, but into one deep in it. */
	race->racers[0].ids[0] = test_make(race->f->e, race->b, "in", DIR);
	race->racers[1].ids[0] = test_make(race->f->e, race->a, "in", DIR);
}

static void go_cycle(struct racer *r)
{
	mfs_ino_t moved = r->n ? r->race->b : r->race->a;
	struct node to = NODE_INIT;
	struct change c = { .not_below_dir = moved, .not_below_target = r->ids[0] };

	to.parent = r->ids[0];
	to.name = test_name("moved");
	change_write(&c, WRITE_RENAME, moved)->node = &to;
	r->r = engine_apply(r->e, NULL, &c);
}

static void check_cycle(struct race *race)
{
	mfs_ino_t at = race->a;

	assert_int_equal(count_results(race, 0), 1);
	assert_int_equal(count_results(race, -EINVAL), 1);
	for (int depth = 0; at != MFS_ROOT_INO; depth++) {
		struct node n;

		assert_true(depth < 10);
		test_get(race->f->two, at, &n);
		at = n.parent;
		node_release(&n);
	}
}

static void test_race__no_cycle(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 2,
			     .prepare = prepare_cycle,
			     .go = go_cycle,
			     .check = check_cycle };

	run_race(&race);
}

/* A reader never sees half a change: the sizes of two files are changed together; the trash move is one step. */

static void go_pair(struct racer *r)
{
	struct race *race = r->race;
	struct node set = NODE_INIT, n = NODE_INIT;
	struct change c = { 0 };

	r->r = 0;
	if (r->n == 0) {
		struct write *w = change_write(&c, race->round % 2 ? WRITE_UNTRASH : WRITE_TRASH, race->b);

		set.parent = MFS_ROOT_INO;
		set.name = test_name("b");
		set.trash_path = (char *)(uintptr_t) "b";
		set.attr.size = race->round + 1;
		w->node = &set;
		w->mask = EDIT_SIZE;
		w = change_write(&c, WRITE_EDIT, race->a);
		w->node = &set;
		w->mask = EDIT_SIZE;
		c.durable = race->round % 64 == 0;
		r->r = engine_apply(r->e, NULL, &c);
		return;
	}
	for (int i = 0; r->r == 0 && i < 4; i++) {
		uint64_t size_a = 0;

		r->r = engine_get(r->e, NULL, race->a, &n);
		if (r->r == 0)
			size_a = n.attr.size;
		node_release(&n);
		/* In files or in trash, never in neither; and not older than what was read before. */
		if (r->r == 0)
			r->r = engine_get(r->e, NULL, race->b, &n);
		if (r->r == 0 && n.attr.size < size_a)
			r->r = -EBADMSG;
		node_release(&n);
	}
}

static void check_pair(struct race *race)
{
	assert_int_equal(count_results(race, 0), race->n_racers);
	assert_int_equal(test_attr(race->f->two, race->a).size, race->round + 1);
}

static void test_race__readers_see_whole_changes(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 4,
			     .prepare = prepare_nothing,
			     .go = go_pair,
			     .check = check_pair };

	race.a = test_make(race.f->e, MFS_ROOT_INO, "a", REG);
	race.b = test_make(race.f->e, MFS_ROOT_INO, "b", REG);
	run_race(&race);
}

/* Numbers. */

static void go_reserve(struct racer *r)
{
	r->r = engine_reserve(r->e, NULL, r->n + 1, &r->ids[0]);
}

static void check_reserve(struct race *race)
{
	assert_int_equal(count_results(race, 0), race->n_racers);
	for (unsigned int i = 0; i < race->n_racers; i++)
		for (unsigned int k = 0; k < race->n_racers; k++)
			assert_true(i == k || race->racers[i].ids[0] + i < race->racers[k].ids[0] ||
				    race->racers[k].ids[0] + k < race->racers[i].ids[0]);
}

static void test_race__numbers_are_given_once(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 4,
			     .prepare = prepare_nothing,
			     .go = go_reserve,
			     .check = check_reserve };

	run_race(&race);
}

/* Durable changes of many threads share their syncs and are all there. */

static void go_durable(struct racer *r)
{
	struct change c = { .durable = true };

	change_write(&c, WRITE_EDIT, r->race->a)->nlink_delta = 1;
	r->r = engine_apply(r->e, NULL, &c);
	if (r->r == 0)
		r->r = engine_sync(r->e, NULL);
}

static void check_durable(struct race *race)
{
	assert_int_equal(count_results(race, 0), race->n_racers);
	if (race->round == 50)
		race->rounds = race->round + 1; /* each waits for the disk */
}

static void test_race__durable_changes(void **state)
{
	struct race race = { .f = *state,
			     .n_racers = 4,
			     .prepare = prepare_nothing,
			     .go = go_durable,
			     .check = check_durable };

	race.a = test_make(race.f->e, MFS_ROOT_INO, "a", REG);
	run_race(&race);
	assert_int_equal(test_attr(race.f->e, race.a).nlink, 1 + 4 * race.rounds);
}

const struct engine_test engine_tests_races[] = {
	ENGINE_TEST(test_race__one_winner_a_name),
	ENGINE_TEST(test_race__one_rename_wins),
	ENGINE_TEST(test_race__compare_and_set_loses_nothing),
	ENGINE_TEST(test_race__rmdir_or_create),
	ENGINE_TEST(test_race__no_cycle),
	ENGINE_TEST(test_race__readers_see_whole_changes),
	ENGINE_TEST(test_race__numbers_are_given_once),
	ENGINE_TEST(test_race__durable_changes),
	ENGINE_TESTS_END,
};
