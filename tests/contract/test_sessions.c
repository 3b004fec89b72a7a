/*
 * Sessions of several mounts (fs/sessions.h): who is silent is buried, once and for good, whoever dies on the way; who was frozen
 * hears of it and can do no harm; background work always has one who does it.
 */
#include "tests/lib/lock_world.h"

#include <errno.h>

#include "fs/leases.h"

#define LEASE (600 * MS)
#define ALL   LOCK_END_MAX

static void step(struct lock_world *w, int i)
{
	assert_int_equal(sessions_step(w->m[i]->v.sessions, &w->op), 0);
}

/* These live, the others are silent. */
static void live(struct lock_world *w, int64_t ns, int a, int b)
{
	int64_t end = mfs_mono_ns() + ns;

	while (mfs_mono_ns() < end) {
		step(w, a);
		if (b >= 0)
			step(w, b);
		lock_sleep(LEASE / 10);
	}
}

/* Until it is closed; with a bound far above the lease, as machines are slow at times. */
static void live_until_closed(struct lock_world *w, int a, uint64_t session)
{
	for (int i = 0; !lock_session_is_closed(w, session); i++) {
		assert_true(i < 1000);
		step(w, a);
		lock_sleep(LEASE / 10);
	}
}

static bool has_cell(struct lock_world *w, const char *name)
{
	struct cell_record cell = { 0 };
	int r = engine_cell_get(w->look, &w->op, name, &cell);

	cell_record_release(&cell);
	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

static const char *session_cell(uint64_t session)
{
	static char name[64];

	snprintf(name, sizeof(name), "leases/session-%llu", (unsigned long long)session);
	return name;
}

static bool has_view_job(struct lock_world *w, uint64_t session)
{
	struct job_list l = { 0 };
	bool has = false;

	assert_int_equal(engine_jobs(w->look, &w->op, INT64_MAX, 100, &l), 0);
	for (size_t i = 0; i < l.n; i++)
		has |= l.v[i].kind == JOB_VIEW && l.v[i].ino == session;
	job_list_release(&l);
	return has;
}

static void test_who_gives_signs_of_life_is_left_alone(void **state)
{
	struct lock_world *w = *state;

	lock_world_mounts(w, 2, LEASE);
	live(w, 4 * LEASE, 0, 1);
	assert_false(lock_session_is_closed(w, w->m[0]->v.session));
	assert_false(lock_session_is_closed(w, w->m[1]->v.session));
	assert_int_equal(w->m[0]->n_lost + w->m[1]->n_lost, 0);
}

static void test_an_end_leaves_nothing_to_bury(void **state)
{
	struct lock_world *w = *state;
	uint64_t session;

	lock_world_mounts(w, 2, LEASE);
	session = w->m[1]->v.session;
	lock_mount_free(w->m[1]);
	w->m[1] = NULL;
	assert_true(lock_session_is_closed(w, session));
	assert_false(has_cell(w, session_cell(session)));
	assert_false(has_view_job(w, session));
	assert_int_equal(sessions_alive(w->look, &w->op, session), 0);
	assert_int_equal(sessions_alive(w->look, &w->op, w->m[0]->v.session), 1);
}

static void test_the_silent_one_is_buried_with_its_locks(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	uint64_t dead;

	lock_world_mounts(w, 2, LEASE);
	step(w, 0);
	dead = w->m[1]->v.session;
	assert_int_equal(lock_set(w->m[1], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	lock_mount_kill(w->m[1]);
	w->m[1] = NULL;
	step(w, 0);
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), -EAGAIN);
	live_until_closed(w, 0, dead);
	assert_true(lock_is_fenced(w, ino, dead));
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	assert_false(has_cell(w, session_cell(dead)));
	assert_true(has_view_job(w, dead));
	assert_true(w->m[0]->n_work > 0);
}

static void test_who_wakes_after_its_burial_goes_on_as_another(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t locked = lock_file(w, "f"), other = lock_file(w, "g");
	struct file_lock mine = lock_of(locked, 1, LOCK_TYPE_WRITE, 0, ALL);
	uint64_t before;

	lock_world_mounts(w, 2, LEASE);
	before = w->m[1]->v.session;
	assert_int_equal(lock_set(w->m[1], mine), 0);
	assert_int_equal(lock_commit(w->m[1], locked, "under the lock"), 0);
	live_until_closed(w, 0, before);
	/* It does not know yet. */
	assert_int_equal(lock_commit(w->m[1], locked, "too late"), -EIO);
	assert_int_equal(lock_commit(w->m[1], other, "not locked"), 0);
	assert_false(lease_hold(&w->m[1]->v, LEASE_RECONCILE));
	/* A new lock is not believed. */
	assert_int_equal(lock_set(w->m[1], lock_of(other, 2, LOCK_TYPE_WRITE, 0, ALL)), -EIO);
	assert_int_equal(lock_count(w, other), 0);
	step(w, 1);
	assert_int_equal(w->m[1]->n_lost, 1);
	assert_int_equal(w->m[1]->n_renewed, 1);
	assert_int_not_equal(w->m[1]->v.session, before);
	assert_int_equal(w->m[1]->v.engine->session, w->m[1]->v.session);
	assert_false(lock_session_is_closed(w, w->m[1]->v.session));
	/* What it had locked is lost until it is closed; then all is well. */
	assert_int_equal(lock_set(w->m[1], mine), -EIO);
	mine.type = LOCK_TYPE_NONE;
	assert_int_equal(lock_set(w->m[1], mine), -EIO);
	assert_int_equal(file_locks_drop(w->m[1]->fl, &w->op, &mine), 0);
	mine.type = LOCK_TYPE_WRITE;
	assert_int_equal(lock_set(w->m[1], mine), 0);
	assert_int_equal(lock_commit(w->m[1], locked, "again"), 0);
	live(w, 2 * LEASE, 0, 1);
	assert_int_equal(w->m[1]->n_lost, 1);
}

static void test_who_looked_away_buries_nobody(void **state)
{
	struct lock_world *w = *state;
	uint64_t session;

	lock_world_mounts(w, 2, LEASE);
	session = w->m[1]->v.session;
	step(w, 0);
	step(w, 1);
	lock_sleep(2 * LEASE); /* the index was away for both */
	step(w, 0);
	step(w, 0);
	assert_false(lock_session_is_closed(w, session));
	step(w, 1);
	live(w, 2 * LEASE, 0, 1);
	assert_false(lock_session_is_closed(w, session));
	assert_int_equal(w->m[0]->n_lost + w->m[1]->n_lost, 0);
}

static void test_a_session_without_a_cell_is_buried_too(void **state)
{
	struct lock_world *w = *state;
	char host[] = "elsewhere";
	struct session_record s = { .id = 900, .host = host, .started = 1 };
	struct change c = { 0 };

	change_write(&c, WRITE_SESSION_PUT, s.id)->session = &s;
	assert_int_equal(engine_apply(w->look, &w->op, &c), 0);
	lock_world_mounts(w, 1, LEASE);
	live_until_closed(w, 0, 900);
}

/* Marked, and then whoever marked it died: before each of the changes that a burial consists of. */
static void test_a_burial_that_nobody_ended_is_ended_by_another(void **state)
{
	struct lock_world *w = *state;

	for (int changes = 0; changes < 5; changes++) {
		struct lock_mount *victim, *burier;
		char name[20];
		uint64_t dead;
		mfs_ino_t ino;

		snprintf(name, sizeof(name), "f%d", changes);
		ino = lock_file(w, name);
		burier = lock_mount_new(w, LEASE, false, NULL);
		victim = lock_mount_new(w, LEASE, false, NULL);
		dead = victim->v.session;
		assert_int_equal(lock_set(victim, lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
		lock_mount_kill(victim);
		for (int64_t end = mfs_mono_ns() + LEASE / 2 - LEASE / 8; mfs_mono_ns() < end;) {
			assert_int_equal(sessions_step(burier->v.sessions, &w->op), 0);
			lock_sleep(LEASE / 16);
		}
		assert_false(lock_session_is_closed(w, dead));
		lock_sleep(LEASE / 4 + 40 * MS); /* from here on it is due: heartbeat, mark, locks, end */
		lock_mount_die_after(burier, changes);
		(void)!sessions_step(burier->v.sessions, &w->op);
		if (changes < 4)
			assert_false(lock_session_is_closed(w, dead));
		lock_mount_kill(burier);
		w->m[0] = lock_mount_new(w, LEASE, false, NULL);
		live_until_closed(w, 0, dead);
		assert_true(lock_is_fenced(w, ino, dead));
		assert_int_equal(lock_count(w, ino), 0);
		lock_mount_free(w->m[0]);
		w->m[0] = NULL;
	}
}

static void test_a_marked_session_cannot_come_back(void **state)
{
	struct lock_world *w = *state;
	uint64_t before;
	unsigned char word[9] = { 'D', 1 };
	struct cell_record cell = { .token = 77, .blob = { word, sizeof(word) } };
	struct change c = { 0 };

	/* Somebody marked it and died. Its own heartbeat must not pass, and the others end the burial. */
	lock_world_mounts(w, 2, LEASE);
	before = w->m[1]->v.session;
	cell.name = strdup(session_cell(before));
	change_write(&c, WRITE_CELL_PUT, 0)->cell = &cell;
	assert_int_equal(engine_apply(w->look, &w->op, &c), 0);
	free(cell.name);
	step(w, 1);
	assert_int_equal(w->m[1]->n_lost, 1);
	assert_int_not_equal(w->m[1]->v.session, before);
	for (int i = 0; !lock_session_is_closed(w, before); i++) {
		assert_true(i < 1000);
		live(w, LEASE / 10, 0, 1);
	}
	assert_int_equal(w->m[1]->n_lost, 1);
}

static void test_lost_replies_do_not_kill_a_session(void **state)
{
	struct lock_world *w = *state;

	for (unsigned int nth = 1; nth < 30; nth++) {
		struct fault_plan plan = { .nth = nth, .drop_reply = true };
		uint64_t session;

		w->m[0] = lock_mount_new(w, LEASE, false, &plan);
		session = w->m[0]->v.session;
		for (int i = 0; i < 8; i++)
			step(w, 0);
		assert_int_equal(w->m[0]->n_lost, 0);
		assert_int_equal(w->m[0]->v.session, session);
		lock_mount_free(w->m[0]);
		w->m[0] = NULL;
		assert_true(lock_session_is_closed(w, session));
	}
}

/* The answer never comes, not even to the question after it: the next heartbeat finds its own value there. */
static void test_a_heartbeat_of_unknown_outcome_is_found_to_be_the_own_one(void **state)
{
	struct lock_world *w = *state;

	for (unsigned int nth = 2 + LEASE_ROLES; nth < 10 + LEASE_ROLES; nth++) { /* after session and leases */
		struct fault_plan plan = { .nth = nth, .fail_after = true, .err = EIO };
		uint64_t session;

		w->m[0] = lock_mount_new(w, LEASE, false, &plan);
		session = w->m[0]->v.session;
		for (int i = 0; i < 10; i++)
			(void)!sessions_step(w->m[0]->v.sessions, &w->op);
		step(w, 0);
		assert_int_equal(w->m[0]->n_lost, 0);
		assert_int_equal(w->m[0]->v.session, session);
		lock_mount_free(w->m[0]);
		w->m[0] = NULL;
	}
}

static void test_sessions_that_ended_long_ago_are_forgotten(void **state)
{
	struct lock_world *w = *state;
	char host[] = "elsewhere";
	struct session_record old = { .id = 901, .host = host, .closed = mfs_now_ns() - 8 * 86400 * MFS_NSEC_PER_SEC }, lately = old;
	struct session_list l = { 0 };
	struct change c = { 0 };

	lately.id = 902;
	lately.closed += 2 * 86400 * MFS_NSEC_PER_SEC;
	change_write(&c, WRITE_SESSION_PUT, old.id)->session = &old;
	change_write(&c, WRITE_SESSION_PUT, lately.id)->session = &lately;
	assert_int_equal(engine_apply(w->look, &w->op, &c), 0);
	lock_world_mounts(w, 2, LEASE);
	live(w, LEASE, 0, 1);
	assert_int_equal(engine_sessions(w->look, &w->op, &l), 0);
	assert_int_equal(l.n, 3);
	for (size_t i = 0; i < l.n; i++)
		assert_int_not_equal(l.v[i].id, old.id);
	session_list_release(&l);
}

/* --- leases --- */

static void test_one_mount_has_a_role_and_the_next_takes_it_over(void **state)
{
	struct lock_world *w = *state;

	lock_world_mounts(w, 2, LEASE);
	for (int role = 0; role < LEASE_ROLES; role++) {
		assert_true(lease_hold(&w->m[0]->v, (enum lease_role)role));
		assert_false(lease_hold(&w->m[1]->v, (enum lease_role)role));
	}
	live(w, LEASE, 0, 1);
	assert_true(lease_hold(&w->m[0]->v, LEASE_GC));
	lock_mount_free(w->m[0]);
	w->m[0] = NULL;
	step(w, 1);
	assert_true(lease_hold(&w->m[1]->v, LEASE_RECONCILE));
	assert_true(lease_hold(&w->m[1]->v, LEASE_GC));
	assert_true(w->m[1]->n_work > 0);
}

static void test_a_frozen_mount_does_not_believe_in_its_role(void **state)
{
	struct lock_world *w = *state;
	uint64_t frozen;

	lock_world_mounts(w, 2, LEASE);
	frozen = w->m[0]->v.session;
	live_until_closed(w, 1, frozen);
	assert_false(lease_hold(&w->m[0]->v, LEASE_RECONCILE));
	step(w, 1);
	assert_true(lease_hold(&w->m[1]->v, LEASE_RECONCILE));
	step(w, 0); /* it wakes */
	live(w, LEASE, 0, 1);
	assert_false(lease_hold(&w->m[0]->v, LEASE_RECONCILE));
	assert_true(lease_hold(&w->m[1]->v, LEASE_RECONCILE));
}

static void test_a_volume_of_one_mount_has_all_roles(void **state)
{
	struct volume v = { 0 };

	(void)state;
	assert_true(lease_hold(&v, LEASE_RECONCILE));
	assert_true(lease_hold(&v, LEASE_GC));
}

/* --- a lock that came too late --- */

static void test_a_lock_of_the_dead_is_freed_by_who_waits_for_it(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct file_lock late = lock_of(ino, 9, LOCK_TYPE_WRITE, 0, ALL);

	w->m[0] = lock_mount_new(w, 600 * MFS_NSEC_PER_SEC, true, NULL);
	w->m[1] = lock_mount_new(w, 600 * MFS_NSEC_PER_SEC, true, NULL);
	late.session = 4711; /* closed, and its burial was over before its last change arrived */
	assert_int_equal(locks_set(w->m[1]->locks, &w->op, &late, NULL), 0);
	assert_int_equal(lock_wait(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	assert_true(lock_is_fenced(w, ino, 4711));
}

/* --- with threads --- */

static void test_heartbeats_of_three_and_the_death_of_one(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	int64_t lease = 2 * MFS_NSEC_PER_SEC, began;
	uint64_t dead;

	for (int i = 0; i < 3; i++)
		w->m[i] = lock_mount_new(w, lease, true, NULL);
	dead = w->m[0]->v.session;
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	lock_mount_kill(w->m[0]);
	w->m[0] = NULL;
	began = mfs_mono_ns();
	assert_int_equal(lock_wait(w->m[1], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	printf("a dead mount's lock with lease=2s was free after %lld ms\n", (long long)((mfs_mono_ns() - began) / MS));
	assert_true(mfs_mono_ns() - began < 5 * lease); /* on a machine that is busy; else within the lease */
	assert_true(lock_is_fenced(w, ino, dead));
	assert_int_equal(w->m[1]->n_lost + w->m[2]->n_lost, 0);
}

#define SESSION_TEST(f) cmocka_unit_test_setup_teardown(f, lock_world_setup, lock_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(test_who_gives_signs_of_life_is_left_alone),
		SESSION_TEST(test_an_end_leaves_nothing_to_bury),
		SESSION_TEST(test_the_silent_one_is_buried_with_its_locks),
		SESSION_TEST(test_who_wakes_after_its_burial_goes_on_as_another),
		SESSION_TEST(test_who_looked_away_buries_nobody),
		SESSION_TEST(test_a_session_without_a_cell_is_buried_too),
		SESSION_TEST(test_a_burial_that_nobody_ended_is_ended_by_another),
		SESSION_TEST(test_a_marked_session_cannot_come_back),
		SESSION_TEST(test_lost_replies_do_not_kill_a_session),
		SESSION_TEST(test_a_heartbeat_of_unknown_outcome_is_found_to_be_the_own_one),
		SESSION_TEST(test_sessions_that_ended_long_ago_are_forgotten),
		SESSION_TEST(test_one_mount_has_a_role_and_the_next_takes_it_over),
		SESSION_TEST(test_a_frozen_mount_does_not_believe_in_its_role),
		SESSION_TEST(test_a_volume_of_one_mount_has_all_roles),
		SESSION_TEST(test_a_lock_of_the_dead_is_freed_by_who_waits_for_it),
		SESSION_TEST(test_heartbeats_of_three_and_the_death_of_one),
	};

	return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
