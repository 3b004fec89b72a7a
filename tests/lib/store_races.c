/*
 * The contract suite of object stores: several callers at once. Threads note what went wrong and the test asserts
 * after they have ended, because cmocka's assertions are for the main thread.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/store_fixture.h"

#define N_THREADS 6

struct racer {
	struct object_store *s;
	unsigned int n, rounds, seed;
	struct object_upload *u; /* parts */
	const char *buf;
	size_t len;
	pthread_barrier_t *start;
	char last[OBJECT_VERSION_MAX + 1]; /* the version of its last put */
	const char *last_key;
	int error; /* of the first call that failed, */
	const char *call; /* and which; NULL: all went well */
	pthread_t thread;
};

static unsigned int roll(struct racer *r, unsigned int n)
{
	r->seed = r->seed * 1103515245u + 12345u;
	return (r->seed >> 16) % n;
}

static void note(struct racer *r, const char *call, int error)
{
	if (!error || r->call)
		return;
	r->error = error;
	r->call = call;
}

static void run(struct store_fixture *f, struct racer *racers, unsigned int rounds, void *(*fn)(void *))
{
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, N_THREADS);
	for (unsigned int i = 0; i < N_THREADS; i++) {
		racers[i].s = f->store;
		racers[i].n = i;
		racers[i].rounds = rounds;
		racers[i].seed = i * 7919 + 1;
		racers[i].start = &start;
		assert_int_equal(pthread_create(&racers[i].thread, NULL, fn, &racers[i]), 0);
	}
	for (unsigned int i = 0; i < N_THREADS; i++)
		pthread_join(racers[i].thread, NULL);
	pthread_barrier_destroy(&start);
	for (unsigned int i = 0; i < N_THREADS; i++)
		if (racers[i].call)
			fail_msg("thread %u: %s: %s", i, racers[i].call, strerror(-racers[i].error));
}

static int put(struct racer *r, const char *key, unsigned int op)
{
	struct object_meta meta = store_test_meta(op);
	struct object_info info;
	char text[64];
	int n = snprintf(text, sizeof(text), "%s by %u.%u", key, r->n, op);
	int e = object_put(r->s, NULL, NULL, key, text, (size_t)n, &meta, &info);

	if (!e) {
		strcpy(r->last, info.version);
		r->last_key = key;
	}
	return e;
}

/* --- parts --- */

static void *send_parts(void *arg)
{
	struct racer *r = arg;

	pthread_barrier_wait(r->start);
	for (unsigned int i = r->n; (i + 1) * r->len <= r->rounds * r->len; i += N_THREADS)
		note(r, "part",
		     object_upload_part(r->u, NULL, i + 1, i * r->len, r->buf + i * r->len, r->len));
	return NULL;
}

void test_race__parts_from_threads(void **state)
{
	struct store_fixture *f = *state;
	const size_t len = object_store_caps(f->store) & OBJECT_CAP_SPARSE ? 100000 : OBJECT_PART_MIN;
	const unsigned int n_parts = 3 * N_THREADS;
	struct racer racers[N_THREADS] = { 0 };
	struct object_meta meta = store_test_meta(1);
	char *buf = malloc(n_parts * len);
	struct object_upload *u;
	struct object_info info;

	assert_non_null(buf);
	store_test_fill(buf, n_parts * len, 3);
	assert_int_equal(object_upload_begin(f->store, NULL, NULL, "k", &meta, &u), 0);
	for (unsigned int i = 0; i < N_THREADS; i++) {
		racers[i].u = u;
		racers[i].buf = buf;
		racers[i].len = len;
	}
	run(f, racers, n_parts, send_parts);
	assert_int_equal(object_upload_complete(u, NULL, n_parts * len, &meta, &info), 0);
	store_test_expect(f->store, "k", info.version, buf, n_parts * len);
	free(buf);
}

/* --- one key --- */

static void *put_one_key(void *arg)
{
	struct racer *r = arg;

	pthread_barrier_wait(r->start);
	for (unsigned int i = 0; i < r->rounds; i++)
		note(r, "put", put(r, "one/key", i));
	return NULL;
}

/* That version if it is some thread's last; else "". */
static const char *last_of_any(const struct racer *racers, const char *version)
{
	for (unsigned int i = 0; i < N_THREADS; i++)
		if (!strcmp(racers[i].last, version))
			return racers[i].last;
	return "";
}

/* The top is the last put of some thread: never a version that a later put of the same thread had replaced. */
void test_race__puts_to_one_key_end_with_the_last(void **state)
{
	struct store_fixture *f = *state;

	for (unsigned int round = 0; round < f->kind->rounds; round++) {
		struct racer racers[N_THREADS] = { 0 };
		const char *newest = racers[0].last;
		struct object_info info;

		run(f, racers, 1 + round % 4, put_one_key);
		for (unsigned int i = 0; i < N_THREADS; i++)
			if (strcmp(racers[i].last, newest) > 0)
				newest = racers[i].last;
		assert_int_equal(object_head(f->store, NULL, NULL, "one/key", NULL, &info), 0);
		if (f->kind->random_ids)
			newest = last_of_any(racers, info.version);
		assert_string_equal(info.version, newest);
	}
}

/* --- everything at once --- */

static const char *const crossing[] = { "a", "a/b", "a/b/c", "a/b/d", "e/f", "e/g", "e/f/h", "i" };

static void race_copy(struct racer *r, const char *key, unsigned int op)
{
	struct object_meta meta = store_test_meta(op);
	struct object_info top, info;
	struct object_ref ref;
	int e = object_head(r->s, NULL, NULL, key, NULL, &top);

	if (e == -ENOENT)
		return;
	note(r, "head", e);
	if (e)
		return;
	ref = store_test_ref(key, top.version);
	e = object_copy(r->s, NULL, &ref, NULL, crossing[roll(r, 8)], &meta, &info);
	note(r, "copy", e == -ENOENT ? 0 : e); /* deleted meanwhile */
}

/* Its own last put, and a look whether the key is still known as ours (another version may be there by now). */
static void race_delete(struct racer *r, const char *key)
{
	struct object_info top;
	struct object_ref ref;

	if (!object_head(r->s, NULL, NULL, key, NULL, &top) && !top.own)
		note(r, "head: foreign", -EUCLEAN);
	if (!r->last_key)
		return;
	ref = store_test_ref(r->last_key, r->last);
	note(r, "delete", object_delete_version(r->s, NULL, &ref));
	r->last_key = NULL;
}

static void *do_anything(void *arg)
{
	struct racer *r = arg;

	pthread_barrier_wait(r->start);
	for (unsigned int i = 0; i < r->rounds; i++) {
		const char *key = crossing[roll(r, 8)];

		switch (roll(r, 8)) {
		case 0:
		case 1:
		case 2:
			note(r, "put", put(r, key, i));
			break;
		case 3:
		case 4:
			race_copy(r, key, i);
			break;
		case 5:
			race_delete(r, key);
			break;
		default:
			note(r, "marker", object_put_marker(r->s, NULL, NULL, key));
		}
	}
	return NULL;
}

static int all_own(void *arg, const char *key, const struct object_info *info)
{
	(void)key;
	*(unsigned int *)arg += 1;
	return info->own ? 0 : -EUCLEAN;
}

void test_race__puts_copies_markers_and_deletes(void **state)
{
	struct racer racers[N_THREADS] = { 0 };
	struct store_fixture *f = *state;
	unsigned int n = 0;
	uint64_t n_left, bytes;

	run(f, racers, f->kind->rounds * 5, do_anything);
	assert_int_equal(object_list_versions(f->store, NULL, NULL, all_own, &n), 0);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(object_put_marker(f->store, NULL, NULL, crossing[i]), 0);
	n = 0;
	assert_int_equal(object_list_keys(f->store, NULL, NULL, "", all_own, &n), 0);
	assert_int_equal(n, 0);
	store_fixture_reopen(f);
	assert_int_equal(object_sweep(f->store, NULL, false, &n_left, &bytes), 0);
	assert_int_equal(n_left, 0);
	/* Nothing is left that blocks. */
	assert_false(store_test_put(f->store, "a/b/c", "x", 1).not_shown);
	assert_false(store_test_put(f->store, "e", "x", 1).not_shown);
}

/* --- pruning --- */

static void *put_and_hide(void *arg)
{
	struct racer *r = arg;
	char key[64];

	snprintf(key, sizeof(key), "p/q/r/%u", r->n);
	pthread_barrier_wait(r->start);
	for (unsigned int i = 0; i < r->rounds; i++) {
		struct object_info info;
		int e;

		note(r, "put", put(r, key, i));
		e = object_head(r->s, NULL, NULL, key, NULL, &info);
		note(r, "head", e);
		if (!e && strcmp(info.version, r->last) != 0)
			note(r, "head: another version", -EUCLEAN);
		note(r, "marker", object_put_marker(r->s, NULL, NULL, key));
		if (object_head(r->s, NULL, NULL, key, NULL, &info) != -ENOENT)
			note(r, "head after marker", -EUCLEAN);
	}
	return NULL;
}

/* Each marker may remove the folders in which the others are just about to link. */
void test_race__puts_against_pruned_folders(void **state)
{
	struct racer racers[N_THREADS] = { 0 };
	struct store_fixture *f = *state;

	run(f, racers, f->kind->rounds * 4, put_and_hide);
}
