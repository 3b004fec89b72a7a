/*
 * The locks of one file (meta/lock_table.h): against a reference that keeps one entry per byte and owner, and fcntl locks against
 * the kernel's own on a local file.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "meta/lock_table.h"

#define BYTES  24
#define OWNERS 4
#define STEPS  20000

static unsigned int seed;

static unsigned int draw(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static struct file_lock random_lock(uint8_t kind)
{
	struct file_lock l = { .kind = kind, .owner = 100 + draw(OWNERS), .session = 7 + draw(2), .type = (uint8_t)draw(3) };

	l.start = draw(BYTES);
	l.end = draw(6) ? l.start + draw((unsigned int)(BYTES - l.start)) : LOCK_END_MAX;
	l.pid = (uint32_t)l.owner;
	return l;
}

/* --- the reference --- */

struct reference { /* type of each byte by owner; the last byte stands for all behind */
	uint8_t held[2][OWNERS][BYTES + 1];
};

static uint8_t *row(struct reference *r, const struct file_lock *l)
{
	return r->held[l->session - 7][l->owner - 100];
}

static size_t last_of(const struct file_lock *l)
{
	return l->end >= BYTES ? BYTES : (size_t)l->end;
}

static bool reference_conflict(struct reference *r, const struct file_lock *l)
{
	for (size_t b = (size_t)l->start; b <= last_of(l); b++)
		for (int s = 0; s < 2; s++)
			for (int o = 0; o < OWNERS; o++) {
				uint8_t held = r->held[s][o][b];

				if (r->held[s][o] != row(r, l) && held && l->type &&
				    (held == LOCK_TYPE_WRITE || l->type == LOCK_TYPE_WRITE))
					return true;
			}
	return false;
}

static void assert_same(struct reference *r, const struct lock_table *t)
{
	struct reference got;

	memset(&got, 0, sizeof(got));
	for (size_t i = 0; i < t->n; i++) {
		assert_true(t->v[i].start <= t->v[i].end);
		for (size_t b = (size_t)t->v[i].start; b <= last_of(&t->v[i]); b++) {
			assert_int_equal(row(&got, &t->v[i])[b], 0); /* disjoint */
			row(&got, &t->v[i])[b] = t->v[i].type;
		}
		/* Neighbours of one type are one lock. */
		if (i && lock_same_owner(&t->v[i - 1], &t->v[i]) && t->v[i - 1].end + 1 == t->v[i].start)
			assert_int_not_equal(t->v[i - 1].type, t->v[i].type);
	}
	assert_memory_equal(&got, r, sizeof(got));
}

/* Written and read, it is the same. */
static void round_trip(struct lock_table *t)
{
	struct node_blob b;
	struct lock_table again;

	assert_int_equal(lock_table_encode(t, &b), 0);
	assert_int_equal(lock_table_parse(&b, &again), 0);
	assert_int_equal(again.n, t->n);
	for (size_t i = 0; i < t->n; i++) {
		assert_true(lock_same_owner(&again.v[i], &t->v[i]));
		assert_int_equal(again.v[i].start, t->v[i].start);
		assert_int_equal(again.v[i].end, t->v[i].end);
		assert_int_equal(again.v[i].type, t->v[i].type);
		assert_int_equal(again.v[i].pid, t->v[i].pid);
	}
	lock_table_release(t);
	*t = again;
	free(b.data);
}

static void test_random_changes_are_those_of_the_reference(void **state)
{
	struct lock_table t = { 0 };
	struct reference r;

	(void)state;
	seed = getenv("MASSFS_SEED") ? (unsigned int)atoi(getenv("MASSFS_SEED")) : (unsigned int)getpid();
	printf("seed %u\n", seed);
	memset(&r, 0, sizeof(r));
	for (int step = 0; step < STEPS; step++) {
		struct file_lock l = random_lock(LOCK_POSIX);
		bool changed = false, conflict = reference_conflict(&r, &l);

		assert_int_equal(lock_table_conflict(&t, &l) != NULL, conflict);
		if (draw(40) == 0) {
			lock_table_drop_owner(&t, &l);
			memset(row(&r, &l), 0, BYTES + 1);
		} else if (draw(200) == 0) {
			lock_table_drop_session(&t, l.session);
			assert_false(lock_table_has_session(&t, l.session));
			memset(r.held[l.session - 7], 0, sizeof(r.held[0]));
		} else if (!conflict) {
			struct reference before = r;

			memset(row(&r, &l) + l.start, l.type, last_of(&l) - l.start + 1);
			assert_int_equal(lock_table_set(&t, &l, &changed), 0);
			assert_int_equal(changed, memcmp(&before, &r, sizeof(r)) != 0);
		}
		assert_same(&r, &t);
		if (step % 16 == 0)
			round_trip(&t);
	}
	lock_table_release(&t);
}

static void test_flock_and_fcntl_do_not_see_each_other(void **state)
{
	struct lock_table t = { 0 };
	struct file_lock a = { .kind = LOCK_POSIX, .owner = 1, .session = 1, .type = LOCK_TYPE_WRITE, .end = LOCK_END_MAX }, b = a;
	bool changed;

	(void)state;
	b.kind = LOCK_FLOCK;
	b.owner = 2;
	assert_int_equal(lock_table_set(&t, &a, &changed), 0);
	assert_null(lock_table_conflict(&t, &b));
	assert_int_equal(lock_table_set(&t, &b, &changed), 0);
	assert_int_equal(t.n, 2);
	b.session = 2;
	assert_ptr_equal(lock_table_conflict(&t, &b), &t.v[1]);
	lock_table_release(&t);
}

static void test_too_many_locks_are_refused_and_change_nothing(void **state)
{
	struct lock_table t = { 0 };
	struct file_lock l = { .kind = LOCK_POSIX, .owner = 1, .session = 1, .type = LOCK_TYPE_WRITE };
	bool changed;
	int r = 0;

	(void)state;
	for (uint64_t i = 0; r == 0; i++) {
		l.start = l.end = 2 * i;
		r = lock_table_set(&t, &l, &changed);
		assert_true(i <= LOCK_TABLE_MAX);
	}
	assert_int_equal(r, -ENOLCK);
	assert_int_equal(t.n, LOCK_TABLE_MAX);
	round_trip(&t);
	lock_table_release(&t);
}

static void assert_refused(struct node_blob b)
{
	struct lock_table t = { 0 };

	assert_int_equal(lock_table_parse(&b, &t), -EUCLEAN);
	assert_int_equal(t.n, 0);
	assert_null(t.v);
}

static void test_bytes_of_others_are_refused(void **state)
{
	struct lock_table t = { 0 };
	struct file_lock l = { .kind = LOCK_POSIX, .owner = 1, .session = 1, .type = LOCK_TYPE_WRITE, .start = 5, .end = 9 };
	struct node_blob b;
	unsigned char *at;
	bool changed;

	(void)state;
	assert_int_equal(lock_table_set(&t, &l, &changed), 0);
	l.start = l.end = 20;
	assert_int_equal(lock_table_set(&t, &l, &changed), 0);
	assert_int_equal(lock_table_encode(&t, &b), 0);
	at = b.data;
	for (size_t n = 1; n < b.size; n++)
		if ((n - 4) % 48)
			assert_refused((struct node_blob){ at, n });
	at[0] ^= 1;
	assert_refused(b);
	at[0] ^= 1;
	at[4 + 40] = 3; /* the type */
	assert_refused(b);
	at[4 + 40] = LOCK_TYPE_WRITE;
	at[4 + 41] = 9; /* the kind */
	assert_refused(b);
	at[4 + 41] = LOCK_POSIX;
	at[4 + 48 + 24] = 7; /* overlaps the first */
	assert_refused(b);
	free(b.data);
	lock_table_release(&t);
}

/* --- the kernel --- */

/* Open file description locks have an owner per descriptor, so one process is enough. */
static int kernel_set(int fd, const struct file_lock *l)
{
	struct flock f = { .l_type = l->type == LOCK_TYPE_WRITE ? F_WRLCK : l->type == LOCK_TYPE_READ ? F_RDLCK : F_UNLCK,
			   .l_whence = SEEK_SET,
			   .l_start = (off_t)l->start,
			   .l_len = l->end == LOCK_END_MAX ? 0 : (off_t)(l->end - l->start + 1) };

	return fcntl(fd, F_OFD_SETLK, &f) < 0 ? -errno : 0;
}

static void test_fcntl_locks_are_granted_as_the_kernel_does(void **state)
{
	char path[] = "/tmp/massfs-lock-XXXXXX";
	struct lock_table t = { 0 };
	int fd[OWNERS];

	(void)state;
	fd[0] = mkstemp(path);
	assert_true(fd[0] >= 0);
	for (int i = 1; i < OWNERS; i++) {
		fd[i] = open(path, O_RDWR | O_CLOEXEC);
		assert_true(fd[i] >= 0);
	}
	for (int step = 0; step < STEPS; step++) {
		struct file_lock l = random_lock(LOCK_POSIX);
		bool changed;
		int ours;

		l.session = 1;
		ours = lock_table_conflict(&t, &l) ? -EAGAIN : lock_table_set(&t, &l, &changed);
		assert_int_equal(kernel_set(fd[l.owner - 100], &l), ours);
	}
	for (int i = 0; i < OWNERS; i++)
		close(fd[i]);
	unlink(path);
	lock_table_release(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_changes_are_those_of_the_reference),
		cmocka_unit_test(test_flock_and_fcntl_do_not_see_each_other),
		cmocka_unit_test(test_too_many_locks_are_refused_and_change_nothing),
		cmocka_unit_test(test_bytes_of_others_are_refused),
		cmocka_unit_test(test_fcntl_locks_are_granted_as_the_kernel_does),
	};

	return cmocka_run_group_tests_name("lock_table", tests, NULL, NULL);
}
