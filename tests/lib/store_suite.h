/*
 * The contract of backend/object_store.h as tests: a store is done when it passes. A new store adds a constructor
 * (struct store_kind) in tests/contract/test_store_contract.c and nothing else.
 */
#ifndef MASSFS_TESTS_LIB_STORE_SUITE_H
#define MASSFS_TESTS_LIB_STORE_SUITE_H

#include <stdbool.h>

#include "backend/object_store.h"

struct store_kind {
	const char *name;
	/* dir: an own empty folder for this test. Called again (reopen) on what an earlier open left there. */
	int (*open)(const char *dir, struct object_store **ret);
	bool persists; /* reopen finds what was put */
	bool blocks; /* a key and keys below it cannot be shown together */
	bool random_ids; /* version ids tell no order */
	unsigned int rounds; /* of the races; small where each call waits for a disk */
};

/* Runs all tests on that kind; the number of failed ones. */
int store_suite_run(const struct store_kind *kind);

/* For further tests of stores. */

char *store_test_dir(void); /* a new folder below TMPDIR or /tmp; owned */
void store_test_remove(char *dir); /* with all in it, and the string */
struct object_meta store_test_meta(unsigned int op);
/* A ref that borrows key. */
struct object_ref store_test_ref(const char *key, const char *version);
/* Bytes that depend on seed alone. */
void store_test_fill(void *buf, size_t len, unsigned int seed);
/* Asserts that this version has exactly these bytes. */
void store_test_expect(struct object_store *s, const char *key, const char *version, const void *buf,
		       size_t len);
/* Asserts success, gives the version's info. */
struct object_info store_test_put(struct object_store *s, const char *key, const void *buf, size_t len);

#endif
