/*
 * Locks of several mounts of one index: they exclude each other, as one table would; who waits is woken, a circle is found, a
 * lost reply changes nothing, and the dead leave nothing locked.
 */
#include "tests/lib/lock_world.h"

#include <errno.h>
#include <unistd.h>

#define LEASE	 (600 * MFS_NSEC_PER_SEC) /* nobody dies here but by hand */
#define ALL	 LOCK_END_MAX
#define MOUNTS	 3
#define THREADS	 3 /* a mount */
#define ROUNDS	 150
#define STEPS	 3000

static void mounts(struct lock_world *w, int n)
{
	lock_world_mounts(w, n, LEASE);
}

static void test_mounts_exclude_each_other(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct file_lock ask, holder;

	mounts(w, 2);
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_READ, 0, 99)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(ino, 1, LOCK_TYPE_READ, 50, ALL)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(ino, 1, LOCK_TYPE_WRITE, 50, 60)), -EAGAIN);
	assert_int_equal(lock_set(w->m[1], lock_of(ino, 1, LOCK_TYPE_WRITE, 100, 100)), 0);
	ask = lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL);
	assert_int_equal(file_locks_test(w->m[0]->fl, &w->op, &ask, &holder), 0);
	assert_int_equal(holder.session, w->m[1]->v.session);
	assert_int_equal(holder.start, 50);
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(ino, 1, LOCK_TYPE_WRITE, 50, 60)), 0);
	assert_int_equal(file_locks_drop(w->m[1]->fl, &w->op, &ask), 0);
	assert_int_equal(lock_count(w, ino), 0);
}

static void test_a_close_frees_what_its_owner_has_and_nothing_else(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f"), other = lock_file(w, "g");
	struct file_lock one = lock_of(ino, 1, LOCK_TYPE_WRITE, 0, 9), two = lock_of(ino, 2, LOCK_TYPE_WRITE, 20, 29);
	size_t owners, waiters;

	mounts(w, 1);
	assert_int_equal(lock_set(w->m[0], one), 0);
	assert_int_equal(lock_set(w->m[0], two), 0);
	assert_int_equal(lock_set(w->m[0], lock_of(other, 1, LOCK_TYPE_READ, 0, ALL)), 0);
	assert_int_equal(file_locks_drop(w->m[0]->fl, &w->op, &one), 0);
	assert_int_equal(lock_count(w, ino), 1);
	assert_int_equal(lock_count(w, other), 1);
	assert_int_equal(file_locks_drop_via(w->m[0]->fl, &w->op, w->m[0]), 0);
	assert_int_equal(lock_count(w, ino), 0);
	assert_int_equal(lock_count(w, other), 0);
	file_locks_count(w->m[0]->fl, &owners, &waiters);
	assert_int_equal(owners + waiters, 0);
}

static void test_flock_is_converted_by_giving_the_old_one_up(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct file_lock l = { .ino = ino, .owner = 1, .kind = LOCK_FLOCK, .type = LOCK_TYPE_READ, .end = ALL };

	mounts(w, 2);
	assert_int_equal(lock_set(w->m[0], l), 0);
	assert_int_equal(lock_set(w->m[1], l), 0);
	l.type = LOCK_TYPE_WRITE;
	assert_int_equal(lock_set(w->m[0], l), -EAGAIN); /* and has none now, as flock(2) says */
	assert_int_equal(lock_count(w, ino), 1);
	assert_int_equal(lock_set(w->m[1], l), 0);
	l.type = LOCK_TYPE_READ;
	assert_int_equal(lock_set(w->m[0], l), -EAGAIN);
	assert_int_equal(lock_set(w->m[1], l), 0);
	assert_int_equal(lock_set(w->m[0], l), 0);
}

/* --- against one table --- */

static unsigned int seed;

static unsigned int draw(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static void assert_index_is(struct lock_world *w, mfs_ino_t ino, const struct lock_table *want)
{
	struct lock_table got = lock_index(w, ino);

	assert_int_equal(got.n, want->n);
	for (size_t i = 0; i < got.n; i++) {
		assert_true(lock_same_owner(&got.v[i], &want->v[i]));
		assert_int_equal(got.v[i].start, want->v[i].start);
		assert_int_equal(got.v[i].end, want->v[i].end);
		assert_int_equal(got.v[i].type, want->v[i].type);
	}
	lock_table_release(&got);
}

static void random_steps(struct lock_world *w, int n_mounts)
{
	mfs_ino_t ino = lock_file(w, "f");
	struct lock_table t = { 0 };

	seed = getenv("MASSFS_SEED") ? (unsigned int)atoi(getenv("MASSFS_SEED")) : (unsigned int)getpid();
	printf("seed %u\n", seed);
	for (int step = 0; step < STEPS; step++) {
		struct lock_mount *m = w->m[draw((unsigned int)n_mounts)];
		uint64_t start = draw(20);
		struct file_lock l = lock_of(ino, 1 + draw(3), (uint8_t)draw(3), start, draw(5) ? start + draw(10) : ALL);
		bool changed;
		int want;

		l.session = m->v.session;
		if (draw(30) == 0) {
			assert_int_equal(locks_drop(m->locks, &w->op, &l), 0);
			lock_table_drop_owner(&t, &l);
		} else {
			struct file_lock in = l;

			in.ino = 0;
			want = lock_table_conflict(&t, &in) ? -EAGAIN : lock_table_set(&t, &in, &changed);
			assert_int_equal(locks_set(m->locks, &w->op, &l, NULL), want);
		}
		assert_index_is(w, ino, &t);
	}
	lock_table_release(&t);
}

static void test_random_calls_of_three_mounts_are_those_of_one_table(void **state)
{
	mounts(*state, MOUNTS);
	random_steps(*state, MOUNTS);
}

static void test_lost_replies_change_nothing(void **state)
{
	struct lock_world *w = *state;

	/* The mount's own engine loses the nth reply; many mounts, as each loses one. */
	for (unsigned int nth = 1; nth <= 12; nth++) {
		struct fault_plan plan = { .nth = nth + 6, .drop_reply = true };
		struct lock_mount *m = lock_mount_new(w, LEASE, false, &plan), *other = lock_mount_new(w, LEASE, false, NULL);
		char name[20];
		mfs_ino_t ino;

		snprintf(name, sizeof(name), "f%u", nth);
		ino = lock_file(w, name);
		for (uint64_t i = 0; i < 8; i++) {
			assert_int_equal(lock_set(m, lock_of(ino, 1, LOCK_TYPE_WRITE, 0, i)), 0);
			assert_int_equal(lock_set(other, lock_of(ino, 1, LOCK_TYPE_WRITE, i, i)), -EAGAIN);
			assert_int_equal(lock_set(other, lock_of(ino, 1, LOCK_TYPE_WRITE, i + 1, i + 1)), 0);
			assert_int_equal(lock_set(other, lock_of(ino, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
		}
		assert_int_equal(lock_count(w, ino), 1);
		assert_int_equal(lock_set(m, lock_of(ino, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
		assert_int_equal(lock_count(w, ino), 0);
		lock_mount_free(m);
		lock_mount_free(other);
	}
}

/* --- waiting --- */

struct worker {
	struct lock_mount *m;
	mfs_ino_t ino;
	uint64_t owner;
	uint8_t kind;
	int *counter, *inside;
	pthread_t thread;
};

static void *count_up(void *arg)
{
	struct worker *x = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct file_lock l = lock_of(x->ino, x->owner, LOCK_TYPE_WRITE, 0, ALL);
		int r;

		l.kind = x->kind;
		r = lock_wait(x->m, l);
		if (r != 0)
			return (void *)(intptr_t)r;
		if (__atomic_add_fetch(x->inside, 1, __ATOMIC_RELAXED) != 1)
			return (void *)(intptr_t)-EBUSY;
		*x->counter += 1; /* not atomic: the lock guards it */
		__atomic_sub_fetch(x->inside, 1, __ATOMIC_RELAXED);
		l.type = LOCK_TYPE_NONE;
		r = lock_set(x->m, l);
		if (r != 0)
			return (void *)(intptr_t)r;
	}
	return NULL;
}

static void storm(struct lock_world *w, uint8_t kind)
{
	mfs_ino_t ino = lock_file(w, "f");
	struct worker x[MOUNTS * THREADS];
	int counter = 0, inside = 0;

	mounts(w, MOUNTS);
	for (int i = 0; i < MOUNTS * THREADS; i++) {
		x[i] = (struct worker){ .m = w->m[i % MOUNTS], .ino = ino, .owner = (uint64_t)i + 1, .kind = kind,
					.counter = &counter, .inside = &inside };
		assert_int_equal(pthread_create(&x[i].thread, NULL, count_up, &x[i]), 0);
	}
	for (int i = 0; i < MOUNTS * THREADS; i++) {
		void *r;

		pthread_join(x[i].thread, &r);
		assert_int_equal((intptr_t)r, 0);
	}
	assert_int_equal(counter, MOUNTS * THREADS * ROUNDS);
	assert_int_equal(lock_count(w, ino), 0);
}

static void test_a_counter_under_fcntl_locks_of_three_mounts(void **state)
{
	storm(*state, LOCK_POSIX);
}

static void test_a_counter_under_flock_of_three_mounts(void **state)
{
	storm(*state, LOCK_FLOCK);
}

static void *wait_thread(void *arg)
{
	struct worker *x = arg;

	return (void *)(intptr_t)lock_wait(x->m, lock_of(x->ino, x->owner, LOCK_TYPE_WRITE, 0, ALL));
}

static size_t waiters_of(struct lock_mount *m)
{
	size_t owners, waiters;

	file_locks_count(m->fl, &owners, &waiters);
	return waiters;
}

static void start_waiter(struct worker *x, struct lock_mount *m, mfs_ino_t ino, uint64_t owner)
{
	size_t before = waiters_of(m);

	*x = (struct worker){ .m = m, .ino = ino, .owner = owner };
	assert_int_equal(pthread_create(&x->thread, NULL, wait_thread, x), 0);
	for (int i = 0; waiters_of(m) == before; i++) {
		assert_true(i < 5000);
		lock_sleep(MS);
	}
}

static int result_of(struct worker *x)
{
	void *r;

	pthread_join(x->thread, &r);
	return (int)(intptr_t)r;
}

static void test_an_unlock_wakes_who_waits_on_another_mount(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	int64_t best = INT64_MAX;
	struct worker x;

	mounts(w, 2);
	/* Not woken it looks 300 ms later, each time; woken it may be late on a busy machine, but not always. */
	for (int i = 0; i < 10 && best >= 250 * MS; i++) {
		int64_t began;

		assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
		start_waiter(&x, w->m[1], ino, 2);
		lock_sleep(700 * MS); /* so that it is asleep for a second */
		began = mfs_mono_ns();
		assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
		assert_int_equal(result_of(&x), 0);
		best = MFS_MIN(best, mfs_mono_ns() - began);
		assert_int_equal(lock_set(w->m[1], lock_of(ino, 2, LOCK_TYPE_NONE, 0, ALL)), 0);
	}
	assert_true(best < 250 * MS);
}

static void test_without_news_it_is_found_all_the_same(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct worker x;
	int64_t began;

	mounts(w, 2);
	assert_int_equal(engine_watch(w->m[1]->v.engine, NULL, NULL), 0);
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	start_waiter(&x, w->m[1], ino, 2);
	lock_sleep(300 * MS);
	began = mfs_mono_ns();
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(result_of(&x), 0);
	assert_true(mfs_mono_ns() - began < 15 * MFS_NSEC_PER_SEC);
}

static void test_a_circle_over_two_mounts_is_a_deadlock_for_one(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t a = lock_file(w, "a"), b = lock_file(w, "b"), c = lock_file(w, "c");
	struct worker x[2];
	int r;

	mounts(w, 2);
	assert_int_equal(lock_set(w->m[0], lock_of(a, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(b, 2, LOCK_TYPE_WRITE, 0, ALL)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(c, 3, LOCK_TYPE_WRITE, 0, ALL)), 0);
	start_waiter(&x[0], w->m[1], c, 2); /* on mount 1, owner 2 waits for 3, which waits for 1 ... */
	start_waiter(&x[1], w->m[1], a, 3);
	lock_sleep(600 * MS);
	r = lock_wait(w->m[0], lock_of(b, 1, LOCK_TYPE_WRITE, 0, ALL)); /* ... which waits for 2 */
	assert_int_equal(r, -EDEADLK);
	/* It gives way, and the others go on. */
	assert_int_equal(lock_set(w->m[0], lock_of(a, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(result_of(&x[1]), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(c, 3, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(result_of(&x[0]), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(b, 2, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(lock_wait(w->m[0], lock_of(b, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
}

static void test_a_chain_that_is_no_circle_is_waited_for(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t a = lock_file(w, "a"), b = lock_file(w, "b");
	struct worker x[2];

	mounts(w, 2);
	assert_int_equal(lock_set(w->m[0], lock_of(a, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(b, 2, LOCK_TYPE_WRITE, 0, ALL)), 0);
	start_waiter(&x[0], w->m[1], a, 2);
	start_waiter(&x[1], w->m[0], b, 3);
	lock_sleep(700 * MS);
	assert_int_equal(waiters_of(w->m[0]) + waiters_of(w->m[1]), 2);
	assert_int_equal(lock_set(w->m[0], lock_of(a, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(result_of(&x[0]), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(b, 2, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(result_of(&x[1]), 0);
}

static size_t boards(struct lock_world *w)
{
	struct cell_list l = { 0 };
	size_t n;

	assert_int_equal(engine_cells(w->look, &w->op, LOCK_CELLS "w", NULL, 10, &l), 0);
	n = l.n;
	cell_list_release(&l);
	return n;
}

static void test_who_waits_is_let_go_when_the_mount_ends(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct worker x;

	mounts(w, 2);
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	start_waiter(&x, w->m[1], ino, 2);
	lock_sleep(600 * MS); /* it stands in the index */
	assert_int_equal(boards(w), 1);
	file_locks_cancel_all(w->m[1]->fl);
	assert_int_equal(result_of(&x), -ECANCELED);
	lock_mount_free(w->m[1]);
	w->m[1] = NULL;
	assert_int_equal(boards(w), 0);
}

static void test_a_damaged_cell_is_an_error_and_no_lock(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	char name[40], bytes[] = "rubbish";
	struct cell_record cell = { .name = name, .token = 5, .blob = { bytes, 7 } };
	struct change c = { 0 };

	mounts(w, 1);
	snprintf(name, sizeof(name), LOCK_CELLS "%llu", (unsigned long long)ino);
	change_write(&c, WRITE_CELL_PUT, 0)->cell = &cell;
	assert_int_equal(engine_apply(w->look, &w->op, &c), 0);
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), -EIO);
	assert_int_equal(locks_bury(w->look, &w->op, 12345), 0); /* of a session that has no part in it */
}

/* --- the dead --- */

static void test_burial_fences_each_record_and_frees_its_locks(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t a = lock_file(w, "a"), b = lock_file(w, "b"), c = lock_file(w, "c");
	uint64_t dead;

	mounts(w, 2);
	dead = w->m[0]->v.session;
	assert_int_equal(lock_set(w->m[0], lock_of(a, 1, LOCK_TYPE_WRITE, 0, 9)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(a, 1, LOCK_TYPE_WRITE, 10, 19)), 0);
	assert_int_equal(lock_set(w->m[0], lock_of(b, 1, LOCK_TYPE_READ, 0, ALL)), 0);
	assert_int_equal(lock_set(w->m[1], lock_of(c, 1, LOCK_TYPE_READ, 0, ALL)), 0);
	assert_int_equal(lock_commit(w->m[0], a, "before"), 0);
	assert_int_equal(locks_bury(w->m[1]->v.engine, &w->op, dead), 0);
	assert_int_equal(lock_count(w, a), 1);
	assert_int_equal(lock_count(w, b), 0);
	assert_int_equal(lock_count(w, c), 1);
	assert_true(lock_is_fenced(w, a, dead));
	assert_true(lock_is_fenced(w, b, dead));
	assert_false(lock_is_fenced(w, c, dead));
	/* It wakes, and cannot commit under the lock that it lost; the other one can. */
	assert_int_equal(lock_commit(w->m[0], a, "after"), -EIO);
	assert_int_equal(lock_commit(w->m[1], a, "other"), 0);
	assert_int_equal(lock_commit(w->m[0], c, "not locked"), 0);
}

static void test_burial_of_a_removed_file_frees_its_cell(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct change c = { 0 };

	mounts(w, 1);
	assert_int_equal(lock_set(w->m[0], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, 9)), 0);
	change_write(&c, WRITE_DELETE, ino);
	assert_int_equal(engine_apply(w->look, &w->op, &c), 0);
	assert_int_equal(locks_bury(w->look, &w->op, w->m[0]->v.session), 0);
	assert_int_equal(lock_count(w, ino), 0);
}

/* ---- the list of who waits ---- */

/* An engine that refuses changes, or whose answers are lost. One at a time. */
static struct engine_ops failing_ops;
static const struct engine_ops *kept_ops;
static atomic_int fails;
enum { FAILS_NOT, REFUSES, LOSES };

static int apply_or_fail(struct engine *e, struct op_ctx *op, struct change *c)
{
	int how = atomic_load(&fails), r = how == REFUSES ? -EIO : kept_ops->apply(e, op, c);

	return r < 0 || how == FAILS_NOT ? r : -EIO;
}

static struct lock_mount *failing_mount(struct lock_world *w)
{
	struct lock_mount *m = lock_mount_new(w, LEASE, false, NULL);

	kept_ops = m->v.engine->ops;
	failing_ops = *kept_ops;
	failing_ops.apply = apply_or_fail;
	m->v.engine->ops = &failing_ops;
	return m;
}

/* It is in the index and nobody knows: the next one takes its place all the same, and at last it goes. */
static void test_who_waits_is_told_again_after_an_unknown_outcome(void **state)
{
	struct lock_world *w = *state;
	struct lock_mount *m = w->m[0] = failing_mount(w);
	struct file_lock waiter = lock_of(lock_file(w, "f"), 1, LOCK_TYPE_WRITE, 0, 9);
	struct lock_table one = { .v = &waiter, .n = 1 }, none = { 0 };

	waiter.session = m->v.session;
	for (int i = 0; i < 2; i++) {
		atomic_store(&fails, LOSES);
		assert_int_equal(locks_waiting(m->locks, &w->op, m->v.session, &one), -EIO);
		atomic_store(&fails, FAILS_NOT);
		assert_int_equal(locks_waiting(m->locks, &w->op, m->v.session, i ? &none : &one), 0);
		assert_int_equal(boards(w), 1 - i);
	}
}

/* Who waits no more does not stay on the list for want of another change: others would find deadlocks that are none. */
static void test_who_waits_no_more_is_taken_off_the_list_later(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct worker x;

	w->m[1] = lock_mount_new(w, LEASE, false, NULL);
	w->m[0] = failing_mount(w);
	assert_int_equal(lock_set(w->m[1], lock_of(ino, 1, LOCK_TYPE_WRITE, 0, ALL)), 0);
	start_waiter(&x, w->m[0], ino, 2);
	lock_sleep(600 * MS);
	assert_int_equal(boards(w), 1);
	atomic_store(&fails, REFUSES);
	assert_int_equal(lock_set(w->m[1], lock_of(ino, 1, LOCK_TYPE_NONE, 0, ALL)), 0);
	assert_int_equal(result_of(&x), -EIO);
	lock_sleep(300 * MS); /* the list could not be written */
	assert_int_equal(boards(w), 1);
	atomic_store(&fails, FAILS_NOT);
	for (int i = 0; i < 30 && boards(w); i++)
		lock_sleep(100 * MS);
	assert_int_equal(boards(w), 0);
}

/* An engine that is slow to answer, and counts what it is asked. */
static atomic_bool slow;
static atomic_uint asked;

static int get_slowly(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret)
{
	if (atomic_load(&slow)) {
		atomic_fetch_add(&asked, 1);
		lock_sleep(200 * MS);
	}
	return kept_ops->cell_get(e, op, name, ret);
}

static void has_ended(struct lock_waiter *w, int r)
{
	atomic_store((atomic_int *)w->arg, r ? r : 1);
}

/* Each of those that wait before him would be asked for first, and take a deadline each if nobody answers. */
static void test_who_is_interrupted_waits_for_nobody_elses_try(void **state)
{
	struct lock_world *w = *state;
	struct lock_waiter waiters[12] = { 0 };
	atomic_int ended[12] = { 0 };
	unsigned int before;

	w->m[1] = lock_mount_new(w, LEASE, false, NULL);
	w->m[0] = failing_mount(w);
	failing_ops.cell_get = get_slowly;
	for (int i = 0; i < 12; i++) {
		char name[] = { (char)('a' + i), 0 };
		struct file_lock l = lock_of(lock_file(w, name), 1, LOCK_TYPE_WRITE, 0, ALL);

		l.kind = LOCK_FLOCK;
		assert_int_equal(lock_set(w->m[1], l), 0);
		l.owner = 2;
		waiters[i] = (struct lock_waiter){ .want = l, .via = w, .done = has_ended, .arg = &ended[i] };
		file_locks_wait(w->m[0]->fl, &waiters[i]);
	}
	lock_sleep(500 * MS);
	atomic_store(&slow, true);
	file_locks_news(w->m[0]->fl, &(struct news){ .kind = NEWS_LOST }); /* all try again, in order */
	while (!atomic_load(&asked))
		lock_sleep(2 * MS);
	before = atomic_load(&asked);
	file_locks_cancel(w->m[0]->fl, &waiters[11]);
	while (!atomic_load(&ended[11]))
		lock_sleep(2 * MS);
	before = atomic_load(&asked) - before;
	atomic_store(&slow, false);
	file_locks_cancel_all(w->m[0]->fl);
	for (int i = 0; i < 11; i++)
		while (!atomic_load(&ended[i]))
			lock_sleep(2 * MS);
	assert_int_equal(ended[11], -ECANCELED);
	assert_in_range(before, 0, 2); /* the rest of the try that was under way */
}

#define LOCK_TEST(f) cmocka_unit_test_setup_teardown(f, lock_world_setup, lock_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOCK_TEST(test_mounts_exclude_each_other),
		LOCK_TEST(test_a_close_frees_what_its_owner_has_and_nothing_else),
		LOCK_TEST(test_flock_is_converted_by_giving_the_old_one_up),
		LOCK_TEST(test_random_calls_of_three_mounts_are_those_of_one_table),
		LOCK_TEST(test_lost_replies_change_nothing),
		LOCK_TEST(test_a_counter_under_fcntl_locks_of_three_mounts),
		LOCK_TEST(test_a_counter_under_flock_of_three_mounts),
		LOCK_TEST(test_an_unlock_wakes_who_waits_on_another_mount),
		LOCK_TEST(test_without_news_it_is_found_all_the_same),
		LOCK_TEST(test_a_circle_over_two_mounts_is_a_deadlock_for_one),
		LOCK_TEST(test_a_chain_that_is_no_circle_is_waited_for),
		LOCK_TEST(test_who_waits_is_let_go_when_the_mount_ends),
		LOCK_TEST(test_a_damaged_cell_is_an_error_and_no_lock),
		LOCK_TEST(test_burial_fences_each_record_and_frees_its_locks),
		LOCK_TEST(test_burial_of_a_removed_file_frees_its_cell),
		LOCK_TEST(test_who_waits_is_told_again_after_an_unknown_outcome),
		LOCK_TEST(test_who_waits_no_more_is_taken_off_the_list_later),
		LOCK_TEST(test_who_is_interrupted_waits_for_nobody_elses_try),
	};

	return cmocka_run_group_tests_name("locks", tests, NULL, NULL);
}
