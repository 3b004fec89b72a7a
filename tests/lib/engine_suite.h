/*
 * The contract of meta/engine.h as tests: an engine is done when it passes. A new engine adds a constructor
 * (struct engine_kind) in tests/contract/test_engine_NAME.c and nothing else.
 */
#ifndef MASSFS_TESTS_LIB_ENGINE_SUITE_H
#define MASSFS_TESTS_LIB_ENGINE_SUITE_H

#include <stdbool.h>

#include "common/op_ctx.h"
#include "meta/engine.h"

struct engine_kind {
	const char *name;
	/*
	 * An engine on the index of this fixture, made by the first call: dir is a folder of its own, *shared (NULL at
	 * first) what its instances have in common. Not yet formatted.
	 */
	int (*open)(const char *dir, void **shared, struct engine **ret);
	void (*release)(void *shared); /* after all engines; NULL: nothing to do */
	bool persists;		       /* closing all instances keeps the index */
	bool two_instances;	       /* open may be called again for a second engine on the same index */
	unsigned int record_ring;      /* ids are remembered per record, so many of them; 0: a session's last 65536 */
	bool puts_first;	       /* side records that only a successful change names are written before it */
	unsigned int share;	       /* of the race rounds it runs, in percent; 0: all */
};

/* Runs all tests on that kind (MASSFS_ONLY: those whose names match this pattern); the number of failed ones. */
int engine_suite_run(const struct engine_kind *kind);

/* What a test gets as its state. */
struct engine_fixture {
	const struct engine_kind *kind;
	char *dir;
	void *shared;
	struct engine *e;   /* formatted, session 101 */
	struct engine *two; /* another instance where there can be one, else e itself; session 102 then */
	struct op_ctx op;
};
int engine_fixture_setup(void **state);
int engine_fixture_teardown(void **state);
void engine_fixture_reopen(struct engine_fixture *f);
/* How many rounds a race runs: MASSFS_RACE_ROUNDS (default 1000), times the kind's share. */
unsigned int engine_fixture_rounds(const struct engine_fixture *f);

/* For tests, with the assertions inside. */
struct mfs_name test_name(const char *s);
uint64_t test_number(struct engine *e); /* one from reserve */
/* A node to insert: a number, its name, a mode, times. Owns nothing that needs release. */
struct node test_node(struct engine *e, mfs_ino_t parent, const char *name, mode_t mode);
/* Insert it with a touch of its parent, as a create does; its number. */
mfs_ino_t test_make(struct engine *e, mfs_ino_t parent, const char *name, mode_t mode);
void test_get(struct engine *e, mfs_ino_t ino, struct node *ret);
struct mfs_attr test_attr(struct engine *e, mfs_ino_t ino);
/* The id under which a name is; 0: none. */
uint64_t test_find(struct engine *e, mfs_ino_t parent, const char *name);
/* Field by field; fails with the name of the field. */
void test_same_node(const struct node *a, const struct node *b);
/* Everything an engine can hold in one record. Release it. */
void test_full_node(struct engine *e, mfs_ino_t parent, const char *name, struct node *ret);

#define TEST_OK(expr) assert_int_equal((expr), 0)

/* The groups of tests, by file; each ends with a NULL func. */
struct engine_test {
	const char *name;
	void (*func)(void **state);
};
extern const struct engine_test engine_tests_records[], engine_tests_links[], engine_tests_past[], engine_tests_once[],
	engine_tests_races[], engine_tests_layout[], engine_tests_all[], engine_tests_cells[], engine_tests_find[];
#define ENGINE_TEST(f)	 { #f, f }
#define ENGINE_TESTS_END { NULL, NULL }

#endif
