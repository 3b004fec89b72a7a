/*
 * What a test of the store suite gets as its state; shared by the suite's files.
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

struct store_seen {
	char keys[64][OBJECT_KEY_MAX + 1];
	struct object_info infos[64];
	unsigned int n, stop_after;
};

struct object_store *store_fixture_store(void **state);
/* An object_list_fn for a struct store_seen. */
int store_see(void *arg, const char *key, const struct object_info *info);
/* Into seen; their number. */
unsigned int store_list_keys(struct object_store *s, const char *prefix, struct store_seen *seen);
void store_expect_top(struct object_store *s, const char *key, const char *version);
void store_expect_nothing(struct object_store *s, const char *key);
unsigned int store_count_versions(struct object_store *s);
struct object_upload *store_begin(struct object_store *s, const char *key);
int store_complete(struct object_upload *u, uint64_t size, struct object_info *ret);

/* store_upload.c */
void test_upload__takes_parts_in_any_order_and_twice(void **state);
void test_upload__leaves_zeros_in_gaps(void **state);
void test_upload__is_read_back_before_it_completes(void **state);
void test_upload__that_does_not_complete_leaves_nothing(void **state);
void test_part_copy__takes_ranges_of_other_objects(void **state);
void test_etag__is_the_checksum_of_what_was_put(void **state);
void test_etag__of_an_upload_is_that_of_the_same_bytes_put(void **state);
void test_etag__of_gaps_and_holes(void **state);
void test_etag__of_random_uploads(void **state);

/* store_resume.c */
void test_named_upload__is_gone_on_with_by_another(void **state);
void test_named_upload__names_that_are_none(void **state);
void test_named_upload__the_sweep_asks(void **state);

/* store_copy.c */
void test_copy__is_a_new_version_of_its_own(void **state);
void test_copy__that_goes_leaves_its_source_on_top(void **state);
void test_rename_there_and_back__by_copies_and_markers(void **state);
void test_copy_onto_its_own_key__puts_an_old_version_on_top(void **state);
void test_delete_version__takes_only_that_one(void **state);
void test_marker__hides_the_key_and_keeps_versions(void **state);
void test_file_and_folder_of_one_name__block_each_other_until_a_marker(void **state);
void test_set_aside__is_read_by_nobody(void **state);
void test_hidden_key__is_reached_by_its_version(void **state);
void test_hidden_key__by_upload_and_by_copy(void **state);

/* store_races.c */
void test_race__parts_from_threads(void **state);
void test_race__puts_to_one_key_end_with_the_last(void **state);
void test_race__puts_copies_markers_and_deletes(void **state);
void test_race__puts_against_pruned_folders(void **state);

#endif
