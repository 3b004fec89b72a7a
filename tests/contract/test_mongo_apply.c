/*
 * Changes on MongoDB: what each costs in round trips; what is said where a record's ring tells no more; the races of rules M4 and
 * M5 at full length; a server that is killed and comes back in the middle of changes. (Lost replies: test_mongo_once.c)
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/mongo_apply_internal.h"
#include "tests/lib/mongo_scenarios.h"

#define REG 0100644

static void test_round_trips__are_as_the_table_says(void **state)
{
	struct mongo_world *w = *state;

	for (size_t i = 0; i < mongo_n_scenarios; i++) {
		const struct mongo_scenario *s = &mongo_scenarios[i];
		char names[1024];
		int64_t start;

		/* The first one makes sessions, connections, reserves numbers. */
		for (unsigned int round = 0; round < 2; round++) {
			mongo_scenario_begin(w, s, 1000 + round);
			mongo_proxy_on(w->proxy, 0, PROXY_LOSE, NULL, NULL);
			start = mfs_mono_ns();
			TEST_OK(s->go(w));
			start = mfs_mono_ns() - start;
			s->check(w);
		}
		mongo_proxy_names(w->proxy, names, sizeof(names));
		printf("    %-26s %u  %6.2f ms  %s\n", s->name, mongo_proxy_count(w->proxy),
		       (double)start / 1e6, names);
		if (mongo_proxy_count(w->proxy) != s->trips)
			fail_msg("%s: %u round trips, not %u", s->name, mongo_proxy_count(w->proxy),
				 s->trips);
	}
}

/* A record that was changed often: its ring is full, and the session's own earlier change in it says how far it goes. */
static void test_once__a_full_ring_of_ones_own_is_no_doubt(void **state)
{
	struct mongo_world *w = *state;
	uint32_t nlink;

	mongo_scenario_begin(w, &mongo_scenarios[0], 7777);
	for (int i = 0; i < 20; i++)
		TEST_OK(mongo_go_edit(w));
	nlink = test_attr(w->other, w->a).nlink;
	mongo_proxy_on(w->proxy, 1, PROXY_DROP, NULL, NULL);
	TEST_OK(mongo_go_edit(w));
	assert_int_equal(test_attr(w->other, w->a).nlink, nlink + 1);
	mongo_proxy_on(w->proxy, 1, PROXY_LOSE, NULL, NULL);
	TEST_OK(mongo_go_edit(w));
	assert_int_equal(test_attr(w->other, w->a).nlink, nlink + 2);
}

/* Another's: nobody can tell, and it is said. */
static void test_once__a_full_ring_of_others_is_eio(void **state)
{
	struct mongo_world *w = *state;
	uint32_t nlink;

	mongo_scenario_begin(w, &mongo_scenarios[0], 7778);
	for (int i = 0; i < 20; i++) {
		struct change c = { 0 };

		change_write(&c, WRITE_EDIT, w->a)->mask = EDIT_BUMP_LAY;
		TEST_OK(engine_apply(w->other, NULL, &c));
	}
	nlink = test_attr(w->other, w->a).nlink;
	mongo_proxy_on(w->proxy, 1, PROXY_DROP, NULL, NULL);
	assert_int_equal(mongo_go_edit(w), -EIO);
	assert_int_equal(test_attr(w->other, w->a).nlink, nlink);
}

static void *change_mode(void *arg)
{
	struct mongo_world *w = arg;
	struct node n = { .attr.mode = 0100600 };
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	x->node = &n;
	x->mask = EDIT_MODE;
	return (void *)(intptr_t)engine_apply(w->other, NULL, &c);
}

static size_t under_way(struct engine *e)
{
	struct mongo_apply *s = mongo_of(e)->apply;
	MFS_GUARD(&s->lock);

	return s->n_flights;
}

/* A later one must not take it for one that has ended: from the ids of those it is seen how far back a ring goes. */
static void test_once__a_change_is_under_way_while_it_waits_for_a_connection(void **state)
{
	struct engine *held[MONGO_CONNECTIONS];
	struct mongo_world *w = *state;
	pthread_t thread;
	void *r;

	w->d = MFS_ROOT_INO;
	mongo_prepare_file(w);
	for (int i = 0; i < MONGO_CONNECTIONS; i++)
		TEST_OK(engine_snapshot(w->other, NULL, &held[i]));
	assert_int_equal(pthread_create(&thread, NULL, change_mode, w), 0);
	for (int i = 0; i < 300 && !under_way(w->other); i++)
		usleep(10000);
	assert_int_equal(under_way(w->other), 1);
	for (int i = 0; i < MONGO_CONNECTIONS; i++)
		engine_free(held[i]);
	pthread_join(thread, &r);
	assert_int_equal((intptr_t)r, 0);
	assert_int_equal(under_way(w->other), 0);
}

/* A mount died in the middle of an rmdir: its mark holds others up for the lease, not for ever. */
static void test_dying__a_stale_mark_is_taken_off(void **state)
{
	struct mongo_world *w = *state;
	struct node mark = NODE_INIT;
	struct change c = { 0 };
	struct write *x;
	int64_t start;
	int r;

	mongo_scenario_begin(w, &mongo_scenarios[3], 8888);
	x = change_write(&c, WRITE_EDIT, w->d);
	mark.dying = 4711;
	x->node = &mark;
	x->mask = EDIT_DYING;
	TEST_OK(engine_apply(w->other, NULL, &c));
	start = mfs_mono_ns();
	while ((r = mongo_go_create(w)) == -EAGAIN)
		assert_true(mfs_mono_ns() - start < 30 * MFS_NSEC_PER_SEC);
	TEST_OK(r);
	assert_true(mfs_mono_ns() - start > 9 * MFS_NSEC_PER_SEC);
	mongo_check_create(w);
}

/* --- the server dies --- */

#define N_WRITERS 4
struct writer {
	struct mongo_world *w;
	mfs_ino_t ino;
	pthread_t thread;
	unsigned int applied, failed;
};
static atomic_bool writers_stop;

/* Somebody who watches meanwhile: of each file every change in order, or that some were missed. */
struct watcher {
	struct writer *t;
	_Atomic uint64_t told[N_WRITERS]; /* the last ver */
	atomic_uint gaps, lost;
};

static void watch_writers(void *arg, const struct news *n)
{
	struct watcher *x = arg;

	if (n->kind == NEWS_LOST) {
		for (int i = 0; i < N_WRITERS; i++)
			atomic_store(&x->told[i], 0);
		atomic_fetch_add(&x->lost, 1);
	}
	for (int i = 0; n->kind == NEWS_RECORD && i < N_WRITERS; i++) {
		if (n->ino != x->t[i].ino)
			continue;
		if (x->told[i] && n->ver > x->told[i] + 1)
			atomic_fetch_add(&x->gaps, 1);
		x->told[i] = MFS_MAX(x->told[i], n->ver);
	}
}

static void *writer_thread(void *arg)
{
	struct writer *t = arg;

	while (!atomic_load(&writers_stop)) {
		struct change c = { .durable = true };

		change_write(&c, WRITE_EDIT, t->ino)->nlink_delta = 1;
		if (engine_apply(t->w->e, NULL, &c) == 0)
			t->applied++;
		else
			t->failed++;
	}
	return NULL;
}

static pid_t start_again(pid_t pid)
{
	char path[64], args[4096], *argv[64], *environment[] = { NULL };
	ssize_t n;
	pid_t again;
	int fd, argc = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, args, sizeof(args) - 1);
	close(fd);
	assert_true(n > 0);
	args[n] = '\0';
	for (char *at = args; at < args + n; at += strlen(at) + 1)
		argv[argc++] = at;
	argv[argc] = NULL;
	kill(pid, SIGKILL);
	usleep(300000);
	again = fork();
	if (again == 0) {
		/* Also when a test fails. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execve(argv[0], argv, environment);
		_exit(127);
	}
	assert_true(again > 0);
	return again;
}

static void test_crash__nothing_is_lost_and_nothing_done_twice(void **state)
{
	struct mongo_world *w = *state;
	struct writer t[N_WRITERS];
	struct watcher x = { .t = t };
	pid_t pid = (pid_t)mongo_server_start()->pid, mine = 0;

	if (pid == 0) {
		print_message("MASSFS_MONGO names a server that is not ours: it is not killed\n");
		skip();
	}
	mongo_proxy_on(w->proxy, 0, PROXY_LOSE, NULL, NULL);
	for (int i = 0; i < N_WRITERS; i++) {
		char name[2] = { (char)('A' + i), 0 };

		t[i] = (struct writer){ .w = w, .ino = test_make(w->other, MFS_ROOT_INO, name, REG) };
	}
	TEST_OK(engine_watch(w->other, watch_writers, &x));
	atomic_store(&writers_stop, false);
	for (int i = 0; i < N_WRITERS; i++)
		TEST_OK(pthread_create(&t[i].thread, NULL, writer_thread, &t[i]));
	for (int i = 0; i < 3; i++) {
		pid_t again;

		usleep(500000);
		again = start_again(pid);
		if (mine)
			waitpid(mine, NULL, 0);
		pid = mine = again;
		sleep(2);
	}
	atomic_store(&writers_stop, true);
	for (int i = 0; i < N_WRITERS; i++)
		pthread_join(t[i].thread, NULL);
	for (int i = 0; i < N_WRITERS; i++) {
		struct mfs_attr a = test_attr(w->other, t[i].ino);

		printf("    %u applied, %u failed, nlink %u, ver %ju\n", t[i].applied, t[i].failed, a.nlink,
		       (uintmax_t)a.ver);
		assert_int_equal(t[i].failed, 0);
		for (int k = 0; k < 200 && x.told[i] < a.ver; k++)
			usleep(50000);
		assert_int_equal(x.told[i], a.ver);
		assert_int_equal(a.nlink, 1 + t[i].applied);
		assert_int_equal(a.ver, 1 + t[i].applied);
		assert_true(t[i].applied > 20);
	}
	printf("    news: %u times lost, %u gaps\n", atomic_load(&x.lost), atomic_load(&x.gaps));
	assert_int_equal(atomic_load(&x.gaps), 0);
	engine_free(w->e);
	engine_free(w->other);
	kill(mine, SIGKILL);
	waitpid(mine, NULL, 0);
	w->e = w->other = NULL;
	mongo_proxy_free(w->proxy);
	store_test_remove(w->dir);
	free(w);
	*state = NULL;
}

static int teardown_unless_done(void **state)
{
	return *state ? mongo_world_teardown(state) : 0;
}

/* --- races, at full length --- */

static const struct engine_kind kind = { .name = "mongo",
					 .open = mongo_server_open,
					 .release = mongo_server_release,
					 .persists = true,
					 .two_instances = true };

static void *race_of(const char *name)
{
	for (const struct engine_test *t = engine_tests_races; t->func; t++)
		if (strcmp(t->name, name) == 0)
			return (void *)(uintptr_t)t->func;
	abort();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trips__are_as_the_table_says, mongo_world_setup,
						mongo_world_teardown),
		cmocka_unit_test_setup_teardown(test_once__a_full_ring_of_ones_own_is_no_doubt,
						mongo_world_setup, mongo_world_teardown),
		cmocka_unit_test_setup_teardown(test_once__a_full_ring_of_others_is_eio, mongo_world_setup,
						mongo_world_teardown),
		cmocka_unit_test_setup_teardown(
			test_once__a_change_is_under_way_while_it_waits_for_a_connection, mongo_world_setup,
			mongo_world_teardown),
		cmocka_unit_test_setup_teardown(test_dying__a_stale_mark_is_taken_off, mongo_world_setup,
						mongo_world_teardown),
		{ "rmdir_or_create", (CMUnitTestFunction)race_of("test_race__rmdir_or_create"),
		  engine_fixture_setup, engine_fixture_teardown, (void *)(uintptr_t)&kind },
		{ "no_cycle", (CMUnitTestFunction)race_of("test_race__no_cycle"), engine_fixture_setup,
		  engine_fixture_teardown, (void *)(uintptr_t)&kind },
		cmocka_unit_test_setup_teardown(test_crash__nothing_is_lost_and_nothing_done_twice,
						mongo_world_setup, teardown_unless_done),
	};
	int failed;

	/* test_mongo_apply [PATTERN] */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	mongo_server_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	mongo_server_stop();
	return failed;
}
