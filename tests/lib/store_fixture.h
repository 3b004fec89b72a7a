/*
 * What a test of the store suite gets as its state; shared by store_suite.c and store_races.c.
 */
#ifndef MASSFS_TESTS_LIB_STORE_FIXTURE_H
#define MASSFS_TESTS_LIB_STORE_FIXTURE_H

#include "tests/lib/store_suite.h"

struct store_fixture {
	const struct store_kind *kind;
	char *dir;
	struct object_store *store;
};

int store_fixture_setup(void **state);
int store_fixture_teardown(void **state);
void store_fixture_reopen(struct store_fixture *f);

void test_race__parts_from_threads(void **state);
void test_race__puts_to_one_key_end_with_the_last(void **state);
void test_race__puts_copies_markers_and_deletes(void **state);
void test_race__puts_against_pruned_folders(void **state);

#endif
