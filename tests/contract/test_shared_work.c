/*
 * Garbage and keys of a volume with several mounts: what a live mount has stored and not yet named is nobody's to delete or to
 * hide; what a dead one has, only after its commits are shut out. And the work goes over to whoever is left.
 */
#include "tests/lib/lock_world.h"

#include <errno.h>

#include "fs/gc.h"
#include "fs/reconcile.h"
#include "fs/reconcile_internal.h"

#define LEASE (600 * MS)

static int setup(void **state)
{
	int r = lock_world_setup(state);

	lock_world_mounts(*state, 2, LEASE);
	return r;
}

/* As an upload at its end, before the commit. */
static struct object_info put(struct lock_mount *m, mfs_ino_t ino, const char *key, const char *text)
{
	struct op_ctx op = { 0 };
	struct node n = NODE_INIT;
	struct object_meta meta;
	struct object_info info;

	assert_int_equal(engine_get(m->v.engine, &op, ino, &n), 0);
	meta = volume_object_meta(&m->v, &n.attr);
	node_release(&n);
	assert_int_equal(object_put(m->v.store, &op, NULL, key, text, strlen(text), &meta, &info), 0);
	return info;
}

static int commit(struct lock_mount *m, mfs_ino_t ino, const char *key, const struct object_info *info)
{
	struct op_ctx op = { 0 };
	struct node n = NODE_INIT;
	struct commit c = { .ino = ino, .obj_len = info->size, .size = info->size, .mtime = 1, .session = info->session };
	struct mfs_attr attr;
	char *copy = strdup(key);
	int r;

	assert_int_equal(engine_get(m->v.engine, &op, ino, &n), 0);
	c.lay = n.attr.lay;
	c.ref.key = copy;
	memcpy(c.ref.version, info->version, sizeof(c.ref.version));
	r = namespace_commit(m->v.ns, &op, &c, &attr);
	node_release(&n);
	free(copy);
	return r;
}

static bool is_there(struct lock_world *w, const char *key, const char *version)
{
	struct object_info info;

	return object_head(w->store, &w->op, NULL, key, version, &info) == 0;
}

static bool is_top(struct lock_world *w, const char *key, const char *version)
{
	struct object_info info;

	return object_head(w->store, &w->op, NULL, key, NULL, &info) == 0 && !strcmp(info.version, version);
}

static struct gc_result collect(struct lock_mount *m)
{
	struct gc_options opt = { .delete_it = true, .now = mfs_now_ns(), .dropped_age_ns = 60 * MFS_NSEC_PER_SEC };
	struct gc_result r = { 0 };
	struct op_ctx op = { 0 };

	assert_int_equal(gc_run(&m->v, &op, &opt, &r), 0);
	return r;
}

/* What is due is done; how many jobs are left. */
static uint64_t work(struct lock_mount *m)
{
	struct op_ctx op = { 0 };
	uint64_t left;

	assert_int_equal(reconcile_run_jobs(&m->v, &op, INT64_MAX, &left, NULL, NULL), 0);
	return left;
}

static void bury(struct lock_world *w, int living, uint64_t dead)
{
	for (int i = 0; !lock_session_is_closed(w, dead); i++) {
		assert_true(i < 1000);
		assert_int_equal(sessions_step(w->m[living]->v.sessions, &w->op), 0);
		lock_sleep(LEASE / 20);
	}
}

static void test_an_upload_of_a_mount_that_lives_is_no_garbage(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct object_info info = put(w->m[1], ino, "f", "in flight");
	struct gc_result r = collect(w->m[0]);

	assert_int_equal(r.in_flight, 1);
	assert_int_equal(r.unnamed, 0);
	assert_true(is_there(w, "f", info.version));
	assert_int_equal(commit(w->m[1], ino, "f", &info), 0);
	assert_int_equal(collect(w->m[0]).referenced, 1);
}

static void test_an_upload_of_the_dead_is_deleted_after_its_commit_is_shut_out(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct object_info info = put(w->m[1], ino, "f", "in flight");
	uint64_t frozen = w->m[1]->v.session;
	struct gc_result r;

	assert_int_equal(info.session, frozen);
	bury(w, 0, frozen);
	/* What it left on top of a key is looked at first. */
	assert_int_equal(collect(w->m[0]).unnamed, 0);
	assert_true(is_there(w, "f", info.version));
	work(w->m[0]);
	assert_int_equal(work(w->m[0]), 0);
	r = collect(w->m[0]);
	assert_int_equal(r.unnamed, 1);
	assert_int_equal(r.deleted, 1);
	assert_false(is_there(w, "f", info.version));
	assert_true(lock_is_fenced(w, ino, frozen));
	/* It wakes with the commit in hand, before and after it knows: the record never names what is gone. */
	assert_int_equal(commit(w->m[1], ino, "f", &info), -EIO);
	assert_int_equal(sessions_step(w->m[1]->v.sessions, &w->op), 0);
	assert_int_not_equal(w->m[1]->v.session, frozen);
	assert_int_equal(commit(w->m[1], ino, "f", &info), -EIO);
	info = put(w->m[1], ino, "f", "again");
	assert_int_equal(commit(w->m[1], ino, "f", &info), 0);
}

static void test_a_commit_that_came_before_the_fence_keeps_its_object(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct object_info info = put(w->m[1], ino, "f", "in flight");

	bury(w, 0, w->m[1]->v.session);
	work(w->m[0]);
	assert_int_equal(commit(w->m[1], ino, "f", &info), 0); /* nobody has fenced it yet */
	assert_int_equal(collect(w->m[0]).unnamed, 0);
	assert_true(is_there(w, "f", info.version));
}

/* --- keys --- */

static void test_an_upload_of_another_mount_is_not_hidden(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f"); /* made, not yet written: nothing of it is at its key */
	struct object_info info = put(w->m[1], ino, "f", "in flight");

	assert_int_equal(reconcile_queue_key(&w->m[0]->v, &w->op, "f"), 0);
	assert_int_equal(work(w->m[0]), 1);
	assert_true(is_top(w, "f", info.version));
	assert_int_equal(commit(w->m[1], ino, "f", &info), 0);
	assert_int_equal(work(w->m[0]), 0);
	assert_true(is_top(w, "f", info.version));
}

static void test_what_was_hidden_at_the_same_moment_is_shown_again(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct object_info info = put(w->m[1], ino, "f", "in flight"), top;
	struct node n;

	/* The reconciler had looked just before. */
	assert_int_equal(object_put_marker(w->store, &w->op, NULL, "f"), 0);
	assert_int_equal(reconcile_queue_key(&w->m[0]->v, &w->op, "f"), 0);
	assert_int_equal(work(w->m[0]), 1);
	assert_int_equal(commit(w->m[1], ino, "f", &info), 0);
	assert_int_equal(work(w->m[0]), 0);
	assert_int_equal(object_head(w->store, &w->op, NULL, "f", NULL, &top), 0);
	assert_int_equal(top.size, info.size);
	assert_int_equal(namespace_get(w->ns, &w->op, ino, &n), 0);
	assert_string_equal(n.ref.version, top.version);
	node_release(&n);
}

static void test_an_upload_of_the_dead_is_hidden(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct object_info info = put(w->m[1], ino, "f", "never named");

	bury(w, 0, w->m[1]->v.session);
	work(w->m[0]);
	assert_int_equal(work(w->m[0]), 0);
	assert_false(is_top(w, "f", info.version));
	assert_true(is_there(w, "f", info.version));
}

static void test_what_was_named_before_holds_no_key_up(void **state)
{
	struct lock_world *w = *state;
	mfs_ino_t ino = lock_file(w, "f");
	struct mfs_attr attr;
	struct object_info info;

	/* Overwritten without a version (dropped), with one, and then removed: all by a mount that lives. */
	info = put(w->m[1], ino, "f", "one");
	assert_int_equal(commit(w->m[1], ino, "f", &info), 0);
	info = put(w->m[1], ino, "f", "two");
	assert_int_equal(commit(w->m[1], ino, "f", &info), 0);
	assert_int_equal(namespace_unlink(w->m[1]->v.ns, &w->op, MFS_ROOT_INO, "f", 1, &attr), 0);
	assert_int_equal(work(w->m[0]), 0);
	assert_false(is_top(w, "f", info.version));
}

/* --- who does it --- */

static void wake(struct lock_mount *m)
{
	reconciler_wake(m->arg);
}

static uint64_t jobs(struct lock_world *w)
{
	uint64_t n;

	assert_int_equal(engine_jobs_count(w->look, &w->op, &n), 0);
	return n;
}

static void test_the_next_mount_goes_on_with_the_work(void **state)
{
	struct lock_world *w = *state;
	struct reconciler *r;

	assert_int_equal(reconciler_start(&w->m[1]->v, &r), 0);
	w->m[1]->arg = r;
	w->m[1]->on_work = wake;
	assert_int_equal(reconcile_queue_key(&w->m[1]->v, &w->op, "nothing"), 0);
	reconciler_wake(r);
	lock_sleep(LEASE / 3);
	assert_int_equal(jobs(w), 1); /* it is the other one's */
	lock_mount_free(w->m[0]);
	w->m[0] = NULL;
	for (int i = 0; jobs(w); i++) {
		assert_true(i < 500);
		assert_int_equal(sessions_step(w->m[1]->v.sessions, &w->op), 0);
		lock_sleep(LEASE / 20);
	}
	reconciler_stop(r);
}

#define WORK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, lock_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORK_TEST(test_an_upload_of_a_mount_that_lives_is_no_garbage),
		WORK_TEST(test_an_upload_of_the_dead_is_deleted_after_its_commit_is_shut_out),
		WORK_TEST(test_a_commit_that_came_before_the_fence_keeps_its_object),
		WORK_TEST(test_an_upload_of_another_mount_is_not_hidden),
		WORK_TEST(test_what_was_hidden_at_the_same_moment_is_shown_again),
		WORK_TEST(test_an_upload_of_the_dead_is_hidden),
		WORK_TEST(test_what_was_named_before_holds_no_key_up),
		WORK_TEST(test_the_next_mount_goes_on_with_the_work),
	};

	return cmocka_run_group_tests_name("shared_work", tests, NULL, NULL);
}
