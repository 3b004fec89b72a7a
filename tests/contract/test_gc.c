/*
 * Garbage collection over real stacks: it finds what is garbage, and nothing that any record names or that a commit
 * may yet name.
 */
#include "tests/lib/volume_world.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/gc.h"
#include "fs/reconcile.h"

#define MINUTE (60 * MFS_NSEC_PER_SEC)

static struct gc_result run(struct world *w, bool delete_it, int64_t later)
{
	struct gc_options opt = { .delete_it = delete_it,
				  .now = mfs_now_ns() + later,
				  .dropped_age_ns = MINUTE };
	struct gc_result r = { 0 };

	assert_int_equal(gc_run(w->v, &w->op, &opt, &r), 0);
	return r;
}

static struct gc_result expire(struct world *w, int64_t later)
{
	struct gc_options opt = { .delete_it = true, .now = mfs_now_ns() + later, .dropped_age_ns = MINUTE };
	struct gc_result r = { 0 };

	assert_int_equal(gc_expire(w->v, &w->op, &opt, &r), 0);
	return r;
}

/* In a static buffer. */
static const char *version_of(struct world *w, const char *path)
{
	static char version[OBJECT_VERSION_MAX + 1];
	struct node n = world_node(w, world_ino(w, path));

	strcpy(version, n.ref.version);
	node_release(&n);
	return version;
}

/* The id of the only failure. */
static int see_id(void *arg, const struct failure *f)
{
	char *id = arg;

	assert_int_equal(id[0], '\0');
	assert_true(f->kept);
	snprintf(id, 64, "--restore=%s", f->id);
	return 0;
}

static void refuse(struct world *w, const char *path, const struct object_info *info, uint64_t size)
{
	struct judgement why = { .kind = "type", .reason = "a test" };
	struct node n = world_node(w, world_ino(w, path));
	struct commit c = { .ino = n.attr.ino, .lay = n.attr.lay, .ref = { .key = (char *)(uintptr_t)path }, .etag = info->etag,
			    .size = size, .obj_len = size, .session = w->v->session };
	struct content_refusal r = { .ino = n.attr.ino, .lay = n.attr.lay, .session = c.session, .why = &why, .content = &c };
	struct mfs_attr attr;

	memcpy(c.ref.version, info->version, sizeof(c.ref.version));
	assert_int_equal(namespace_refuse(w->v->ns, &w->op, &r, &attr), 0);
	node_release(&n);
}

/* What storage rules refused is neither taken before its time nor left for ever, and the key shows what the file has. */
static void test_refused__is_kept_as_long_as_versions(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "old");
	struct object_info info;
	char id[64] = "";

	world_put(w, ino, "a", "refused", &info);
	refuse(w, "a", &info, 7);
	world_crash(w);
	world_reopen(w);
	assert_string_equal(world_read(w, "a"), "old");
	assert_int_equal(world_force(w), 0);
	assert_string_equal(world_view(w, "a"), "old");
	run(w, true, 0);
	run(w, true, WORLD_RETENTION - MINUTE);
	assert_true(world_has_version(w, info.version));
	assert_int_equal(namespace_failures(w->v->ns, &w->op, &(struct failure_query){ 0 }, see_id, id), 0);
	world_unlink(w, "a");
	assert_int_equal(VERB(w, 1000, "failures", id, "--to=c"), 1);
	assert_string_equal(w->err, "massfs failures: only root may do this\n");
	assert_int_equal(VERB(w, 0, "failures", id, "--to=b"), 0);
	assert_string_equal(world_read(w, "b"), "refused");
	assert_int_equal(VERB(w, 0, "failures", id), 0);
	assert_string_equal(world_read(w, "a"), "refused");
	run(w, true, WORLD_RETENTION + MINUTE);
	run(w, true, WORLD_RETENTION + 3 * MINUTE);
	assert_false(world_has_version(w, info.version));
	assert_int_equal(VERB(w, 0, "failures", id, "--to=d"), 1);
	assert_non_null(strstr(w->err, "retention has ended"));
	assert_int_equal(world_ino(w, "c"), 0);
	assert_string_equal(world_read(w, "b"), "refused");
}

static void test_clean_volume__has_no_garbage(void **state)
{
	struct world *w = *state;
	struct gc_result r;

	world_write(w, "a", "one");
	world_write(w, "a", "two");
	world_write(w, "b", "");
	world_write(w, "c", "gone");
	world_unlink(w, "c");
	r = run(w, true, 0);
	assert_int_equal(r.objects, 4);
	assert_int_equal(r.referenced, 4); /* a version and a removed file are no garbage */
	assert_int_equal(r.unnamed + r.dropped + r.deleted + r.expired_versions + r.expired_trash, 0);
	assert_string_equal(world_read(w, "a"), "two");
}

static void test_unnamed__only_of_a_session_that_ended(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "old");
	struct object_info info;
	struct gc_result r;

	world_put(w, ino, "a", "in flight", &info);
	r = run(w, true, 0);
	assert_int_equal(r.unnamed, 0);
	assert_int_equal(r.in_flight, 1);
	assert_true(world_has_version(w, info.version));
	/* It still comes through. */
	assert_int_equal(world_commit(w, ino, "a", &info, true), 0);
	assert_string_equal(world_read(w, "a"), "in flight");
}

static void test_unnamed__of_a_dead_session_goes(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "old");
	struct object_info info;
	struct gc_result r;

	world_put(w, ino, "a", "never committed", &info);
	world_crash(w);
	/* Its key may still show it: not before the reconciler was there. */
	r = run(w, true, 0);
	assert_int_equal(r.in_flight, 1);
	assert_int_equal(world_settle(w), 0);
	r = run(w, false, 0);
	assert_int_equal(r.unnamed, 1);
	assert_int_equal(r.deleted, 0);
	assert_true(world_has_version(w, info.version));
	r = run(w, true, 0);
	assert_int_equal(r.unnamed, 1);
	assert_int_equal(r.deleted, 1);
	assert_false(world_has_version(w, info.version));
	assert_string_equal(world_read(w, "a"), "old");
	assert_string_equal(world_view(w, "a"), "old");
	r = run(w, true, 0);
	assert_int_equal(r.unnamed + r.deleted, 0);
}

static void test_dropped__goes_after_a_minute(void **state)
{
	struct world *w = *state;
	struct gc_result r;
	char old[OBJECT_VERSION_MAX + 1];

	world_write(w, "a", "one");
	strcpy(old, version_of(w, "a"));
	world_rename(w, "a", "b");
	assert_int_equal(world_settle(w), 0); /* the settle drops the object at the old key */
	assert_string_not_equal(old, version_of(w, "b"));
	r = run(w, true, 0);
	assert_int_equal(r.dropped + r.unnamed, 0);
	assert_true(world_has_version(w, old));
	r = run(w, false, 2 * MINUTE);
	assert_int_equal(r.dropped, 1);
	assert_int_equal(r.deleted, 0);
	r = expire(w, 2 * MINUTE);
	assert_int_equal(r.dropped, 1);
	assert_int_equal(r.deleted, 1);
	assert_false(world_has_version(w, old));
	assert_string_equal(world_read(w, "b"), "one");
	assert_string_equal(world_view(w, "b"), "one");
	r = expire(w, 2 * MINUTE);
	assert_int_equal(r.dropped, 0);
}

static void test_dropped__of_an_ended_session_waits_as_well(void **state)
{
	struct world *w = *state;
	struct gc_result r;
	char old[OBJECT_VERSION_MAX + 1];

	world_write(w, "a", "one");
	strcpy(old, version_of(w, "a"));
	world_reopen(w);
	world_rename(w, "a", "b");
	assert_int_equal(world_settle(w), 0);
	r = run(w, true, 0);
	assert_int_equal(r.waiting, 1);
	assert_int_equal(r.unnamed + r.deleted, 0);
	assert_true(world_has_version(w, old));
	r = run(w, false, 2 * MINUTE);
	assert_int_equal(r.waiting, 0);
	assert_int_equal(r.dropped, 1);
}

static void test_dropped__but_named_again_stays(void **state)
{
	struct world *w = *state;
	struct node n = world_node(w, world_write(w, "a", "one"));
	struct dropped_record d = { .ino = n.attr.ino, .ref = n.ref, .at = 1 };
	struct change c = { 0 };
	struct gc_result r;

	change_write(&c, WRITE_DROPPED_PUT, 0)->dropped = &d;
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	r = expire(w, 2 * MINUTE);
	assert_int_equal(r.deleted, 0);
	assert_string_equal(world_read(w, "a"), "one");
	node_release(&n);
}

static void test_version__is_kept_until_its_retention_ends(void **state)
{
	struct world *w = *state;
	char old[OBJECT_VERSION_MAX + 1];
	struct gc_result r;

	world_write(w, "a", "one");
	strcpy(old, version_of(w, "a"));
	world_write(w, "a", "two");
	r = expire(w, WORLD_RETENTION - MINUTE);
	assert_int_equal(r.expired_versions, 0);
	r = expire(w, WORLD_RETENTION + MINUTE);
	assert_int_equal(r.expired_versions, 1);
	assert_int_equal(r.deleted, 0); /* dropped just now */
	assert_true(world_has_version(w, old));
	r = expire(w, WORLD_RETENTION + 3 * MINUTE);
	assert_int_equal(r.deleted, 1);
	assert_false(world_has_version(w, old));
	assert_string_equal(world_read(w, "a"), "two");
}

static void test_removed_file__is_purged_with_its_object(void **state)
{
	struct world *w = *state;
	char old[OBJECT_VERSION_MAX + 1];
	mfs_ino_t ino = world_write(w, "a", "one");
	struct node n = NODE_INIT;
	struct gc_result r;

	strcpy(old, version_of(w, "a"));
	world_unlink(w, "a");
	assert_int_equal(world_settle(w), 0);
	r = expire(w, WORLD_RETENTION - MINUTE);
	assert_int_equal(r.expired_trash, 0);
	r = expire(w, WORLD_RETENTION + MINUTE);
	assert_int_equal(r.expired_trash, 1);
	assert_int_equal(namespace_get(w->v->ns, &w->op, ino, &n), -ESTALE);
	r = expire(w, WORLD_RETENTION + 3 * MINUTE);
	assert_int_equal(r.deleted, 1);
	assert_false(world_has_version(w, old));
}

static void test_removed_file__held_open_is_not_purged(void **state)
{
	struct world *w = *state;
	struct gc_result r;
	mfs_ino_t ino = world_write(w, "a", "one");

	atomic_store(&w->open_ino, ino);
	world_unlink(w, "a");
	r = expire(w, 2 * WORLD_RETENTION);
	assert_int_equal(r.expired_trash, 0);
	/* Even if only the record says so: by a session that lives. */
	atomic_store(&w->open_ino, 0);
	r = expire(w, 2 * WORLD_RETENTION);
	assert_int_equal(r.expired_trash, 0);
	assert_int_equal(namespace_closed(w->v->ns, &w->op, ino), 0);
	r = expire(w, 2 * WORLD_RETENTION);
	assert_int_equal(r.expired_trash, 1);
}

static void test_removed_file__held_open_by_a_dead_session_is(void **state)
{
	struct world *w = *state;
	struct gc_result r;
	mfs_ino_t ino = world_write(w, "a", "one");

	atomic_store(&w->open_ino, ino);
	world_unlink(w, "a");
	atomic_store(&w->open_ino, 0);
	world_crash(w);
	r = expire(w, 2 * WORLD_RETENTION);
	assert_int_equal(r.expired_trash, 1);
}

static void test_retention_zero__still_waits_a_minute(void **state)
{
	struct world *w = *state;
	struct gc_result r;

	w->cfg.retention_ns = 0;
	world_write(w, "a", "one");
	world_unlink(w, "a");
	r = expire(w, MINUTE / 2);
	assert_int_equal(r.expired_trash, 0);
	r = expire(w, 2 * MINUTE);
	assert_int_equal(r.expired_trash, 1);
	w->cfg.retention_ns = WORLD_RETENTION;
}

static void test_collector__starts_and_stops(void **state)
{
	struct world *w = *state;
	struct collector *c = NULL;

	assert_int_equal(collector_start(w->v, &c), 0);
	collector_stop(c);
	collector_stop(NULL);
}

/* Each single call of the store or index fails once: gc goes on another time, and never deletes what is named. */
static void test_failures__lose_nothing(void **state)
{
	struct world *w = *state;
	struct object_store *inner = w->v->store, *fault;
	struct gc_result r = { 0 };
	unsigned int nth, hits = 1;

	for (nth = 1; hits && nth < 100; nth++) {
		struct gc_options opt = { .delete_it = true,
					  .now = mfs_now_ns() + nth * 2 * WORLD_RETENTION,
					  .dropped_age_ns = MINUTE };

		world_write(w, "a", "one");
		world_write(w, "a", "two");
		world_write(w, "b", "x");
		world_unlink(w, "b");
		assert_int_equal(fault_store_new(inner, nth, EIO, &fault), 0);
		w->v->store = fault;
		(void)!gc_run(w->v, &w->op, &opt, &r);
		hits = fault_store_hits(fault);
		w->v->store = inner;
		free(fault);
		assert_string_equal(world_read(w, "a"), "two");
	}
	assert_true(nth > 4);
	(void)expire(w, 200 * WORLD_RETENTION);
	(void)expire(w, 202 * WORLD_RETENTION);
	r = run(w, false, 202 * WORLD_RETENTION);
	assert_int_equal(r.objects, 1);
	assert_int_equal(r.referenced, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_clean_volume__has_no_garbage),
		WORLD_TEST(test_unnamed__only_of_a_session_that_ended),
		WORLD_TEST(test_unnamed__of_a_dead_session_goes),
		WORLD_TEST(test_dropped__goes_after_a_minute),
		WORLD_TEST(test_dropped__of_an_ended_session_waits_as_well),
		WORLD_TEST(test_dropped__but_named_again_stays),
		WORLD_TEST(test_version__is_kept_until_its_retention_ends),
		WORLD_TEST(test_removed_file__is_purged_with_its_object),
		WORLD_TEST(test_removed_file__held_open_is_not_purged),
		WORLD_TEST(test_removed_file__held_open_by_a_dead_session_is),
		WORLD_TEST(test_retention_zero__still_waits_a_minute),
		WORLD_TEST(test_collector__starts_and_stops),
		WORLD_TEST(test_failures__lose_nothing),
		WORLD_TEST(test_refused__is_kept_as_long_as_versions),
	};

	return world_run_suite("gc", tests, MFS_ARRAY_LEN(tests));
}
