/*
 * The notes of changed records: what a cut has, laid over the state of the cut before, is the state of its snapshot.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/op_ctx.h"
#include "meta/log_engine.h"
#include "tests/lib/engine_suite.h"

struct fixture {
	struct mem_shared *shared;
	struct engine *e; /* the log engine */
	struct op_ctx op;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct volume_record v = { .schema = MFS_SCHEMA };
	struct engine *inner;

	assert_non_null(f);
	assert_int_equal(mem_shared_new(&f->shared), 0);
	assert_int_equal(mem_engine_new(f->shared, &inner), 0);
	assert_int_equal(engine_volume_put(inner, &f->op, &v), 0);
	assert_int_equal(log_engine_new(inner, &f->e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	engine_free(f->e);
	mem_shared_free(f->shared);
	free(f);
	return 0;
}

static bool has(const struct log_cut *c, enum record_kind kind, uint64_t id, uint64_t more, const char *key)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->keys[i].kind == kind && c->keys[i].id == id && c->keys[i].more == more &&
		    (key ? c->keys[i].key && strcmp(c->keys[i].key, key) == 0 : !c->keys[i].key))
			return true;
	return false;
}

static void apply(struct fixture *f, struct change *c)
{
	assert_int_equal(engine_apply(f->e, &f->op, c), 0);
}

static void test_notes_everything(void **state)
{
	struct fixture *f = *state;
	mfs_ino_t ino = test_make(f->e, MFS_ROOT_INO, "a", 0100644);
	uint64_t id = test_number(f->e), doc = test_number(f->e), n;
	struct alias a = { .id = id, .parent = MFS_ROOT_INO, .target = ino, .name = test_name("b") };
	char path[] = "a", key[] = "a";
	struct version_record version = { .ino = ino, .data = 3, .path = path };
	struct dropped_record dropped[2] = { { .ino = ino, .doc_id = doc },
					     { .id = id + 100, .ino = ino, .doc_id = doc } };
	struct job_record job = { .kind = JOB_KEY, .key = key };
	struct session_record session = { .id = 77, .host = path, .mountpoint = path };
	struct slices_doc_record docs[2] = { { .ino = ino, .id = doc }, { .ino = ino, .id = doc + 1 } };
	struct change c = { 0 };
	struct write *w;
	struct log_cut cut;
	int64_t since;

	docs[0].blob = docs[1].blob = (struct node_blob){ .data = path, .size = 1 };
	change_write(&c, WRITE_EDIT, ino)->mask = EDIT_NO_BUMP_VER;
	change_write(&c, WRITE_ALIAS_INSERT, id)->alias = &a;
	change_write(&c, WRITE_VERSION_PUT, 0)->version = &version;
	w = change_write(&c, WRITE_DROPPED_PUT, 0);
	w->dropped = dropped;
	w->n = 2;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	change_write(&c, WRITE_SESSION_PUT, 0)->session = &session;
	w = change_write(&c, WRITE_SLICES_PUT, 0);
	w->slices = docs;
	w->n = 2;
	apply(f, &c);
	log_engine_pending(f->e, &n, &since);
	assert_int_equal(n, 2);
	assert_true(since > 0);
	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	assert_true(has(&cut, RECORD_NODE, ino, 0, NULL));
	assert_true(has(&cut, RECORD_NODE, MFS_ROOT_INO, 0, NULL));
	assert_true(has(&cut, RECORD_ALIAS, id, 0, NULL));
	assert_true(has(&cut, RECORD_VERSION, ino, 3, NULL));
	assert_true(has(&cut, RECORD_DROPPED, id + 100, 0, NULL));
	assert_true(has(&cut, RECORD_JOB, JOB_KEY, 0, "a"));
	assert_true(has(&cut, RECORD_SESSION, 77, 0, NULL));
	assert_true(has(&cut, RECORD_SLICES, ino, doc, NULL) && has(&cut, RECORD_SLICES, ino, doc + 1, NULL));
	assert_int_equal(cut.n, 9);
	assert_int_equal(cut.changes, 2);
	assert_true(cut.dropped_from >= MFS_FIRST_INO);
	log_cut_release(&cut);
	log_engine_pending(f->e, &n, &since);
	assert_int_equal(n, 0);
	assert_int_equal(since, 0);
	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	assert_int_equal(cut.n, 0);
	log_cut_release(&cut);
}

static void test_snapshot_of_cut(void **state)
{
	struct fixture *f = *state;
	mfs_ino_t ino = test_make(f->e, MFS_ROOT_INO, "a", 0100644);
	struct node n = NODE_INIT;
	struct log_cut cut;
	mfs_ino_t later;

	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	later = test_make(f->e, MFS_ROOT_INO, "b", 0100644);
	assert_int_equal(engine_get(cut.snapshot, &f->op, ino, &n), 0);
	node_release(&n);
	assert_int_equal(engine_get(cut.snapshot, &f->op, later, &n), -ESTALE);
	log_cut_release(&cut);
}

static void test_give_back(void **state)
{
	struct fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", 0100644), b;
	struct log_cut cut;
	uint64_t n;
	int64_t since;

	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	b = test_make(f->e, MFS_ROOT_INO, "b", 0100644);
	log_engine_give_back(f->e, &cut);
	assert_int_equal(cut.n, 0);
	log_engine_pending(f->e, &n, &since);
	assert_int_equal(n, 2);
	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	assert_true(has(&cut, RECORD_NODE, a, 0, NULL) && has(&cut, RECORD_NODE, b, 0, NULL));
	log_cut_release(&cut);
}

static atomic_uint wakes;

static void count_wake(void *arg)
{
	(void)arg;
	atomic_fetch_add(&wakes, 1);
}

static void test_wake(void **state)
{
	struct fixture *f = *state;
	struct log_cut cut;

	atomic_store(&wakes, 0);
	log_engine_on(f->e, 3, count_wake, NULL);
	for (int i = 0; i < 10; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		test_make(f->e, MFS_ROOT_INO, name, 0100644);
		assert_int_equal(atomic_load(&wakes), i >= 2);
	}
	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	log_cut_release(&cut);
	for (int i = 0; i < 3; i++) {
		struct change c = { 0 };

		change_write(&c, WRITE_EDIT, MFS_ROOT_INO);
		apply(f, &c);
	}
	assert_int_equal(atomic_load(&wakes), 2);
}

static void test_overflow(void **state)
{
	struct fixture *f = *state;
	struct session_record gone[CHANGE_MAX_WRITES] = { 0 };
	struct log_cut cut;
	uint64_t id = 1;

	while (id <= LOG_ENGINE_MAX + 1) {
		struct change c = { 0 };

		for (int i = 0; i < CHANGE_MAX_WRITES; i++) {
			gone[i].id = id++;
			change_write(&c, WRITE_SESSION_DELETE, 0)->session = &gone[i];
		}
		apply(f, &c);
	}
	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	assert_true(cut.overflow);
	assert_int_equal(cut.n, 0);
	log_cut_release(&cut);
	test_make(f->e, MFS_ROOT_INO, "a", 0100644);
	assert_int_equal(log_engine_cut(f->e, &f->op, &cut), 0);
	assert_false(cut.overflow);
	assert_int_equal(cut.n, 2);
	log_cut_release(&cut);
}

/* --- races: a model is kept by the cuts alone --- */

#define WRITERS 4
#define FILES	40

struct race {
	struct fixture *f;
	mfs_ino_t ino[FILES];
	atomic_bool stop;
};

/* Each change raises the size of two files by one: in every true state all pairs are equal. */
static void *write_pairs(void *arg)
{
	struct race *r = arg;
	struct op_ctx op = { 0 };
	unsigned int seed = (unsigned int)(uintptr_t)&op;

	while (!atomic_load(&r->stop)) {
		unsigned int k = ((unsigned int)rand_r(&seed) % (FILES / 2)) * 2;
		struct node n = NODE_INIT, set = NODE_INIT;
		struct change c = { 0 };

		assert_int_equal(engine_get(r->f->e, &op, r->ino[k], &n), 0);
		set.attr.size = n.attr.size + 1;
		for (int i = 0; i < 2; i++) {
			struct write *w = change_write(&c, WRITE_EDIT, r->ino[k + (unsigned int)i]);

			w->node = &set;
			w->mask = EDIT_SIZE;
			if (i == 0) {
				w->expect.flags = EXPECT_VER;
				w->expect.ver = n.attr.ver;
			}
		}
		(void)!engine_apply(r->f->e, &op, &c);
		node_release(&n);
	}
	return NULL;
}

static void test_race(void **state)
{
	struct race r = { .f = *state };
	pthread_t threads[WRITERS];
	uint64_t model[FILES] = { 0 };

	for (int i = 0; i < FILES; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		r.ino[i] = test_make(r.f->e, MFS_ROOT_INO, name, 0100644);
	}
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_pairs, &r), 0);
	for (int round = 0; round < 200; round++) {
		struct log_cut cut;

		assert_int_equal(log_engine_cut(r.f->e, &r.f->op, &cut), 0);
		for (int i = 0; i < FILES; i++) {
			struct node n = NODE_INIT;

			assert_int_equal(engine_get(cut.snapshot, &r.f->op, r.ino[i], &n), 0);
			if (has(&cut, RECORD_NODE, r.ino[i], 0, NULL))
				model[i] = n.attr.size;
			assert_int_equal(model[i], n.attr.size); /* what is in no cut has not changed */
			node_release(&n);
		}
		for (int i = 0; i < FILES; i += 2)
			assert_int_equal(model[i], model[i + 1]);
		if (round % 3 == 0)
			log_engine_give_back(r.f->e, &cut);
		else
			log_cut_release(&cut);
	}
	atomic_store(&r.stop, true);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_notes_everything, setup, teardown),
		cmocka_unit_test_setup_teardown(test_snapshot_of_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_give_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wake, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_race, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
