/*
 * The reconciler over real stacks: after every kind of change, and after a crash, each key shows what the index says
 * of its path, and the index names only what is there.
 */
#include "tests/lib/volume_world.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/reconcile.h"

#define assert_view(w, key, text)                        \
	do {                                             \
		const char *v_ = world_view((w), (key)); \
		assert_non_null(v_);                     \
		assert_string_equal(v_, (text));         \
	} while (0)
#define assert_hidden(w, key)	      assert_null(world_view((w), (key)))
#define assert_content(w, path, text) assert_string_equal(world_read((w), (path)), (text))

static char *key_of(struct world *w, const char *path)
{
	struct node n = world_node(w, world_ino(w, path));
	char *key = n.ref.key ? strdup(n.ref.key) : NULL;

	node_release(&n);
	return key;
}

#define assert_key(w, path, want)                \
	do {                                     \
		char *k_ = key_of((w), (path));  \
		assert_string_equal(k_, (want)); \
		free(k_);                        \
	} while (0)

static void test_new_file__needs_nothing(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "one");
	assert_int_equal(world_jobs(w), 0);
	assert_view(w, "a", "one");
}

static void test_empty_file__is_an_object_too(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "");
	assert_view(w, "a", "");
	world_rename(w, "a", "b");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "b", "");
	assert_hidden(w, "a");
}

static void test_unlink__hides_the_key(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	world_unlink(w, "d/a");
	assert_view(w, "d/a", "one");
	assert_int_equal(world_settle(w), 0);
	assert_hidden(w, "d/a");
}

static void test_rename__moves_the_object_without_a_version(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "one");
	struct past_list l = { 0 };

	world_rename(w, "a", "b");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "b", "one");
	assert_hidden(w, "a");
	assert_key(w, "b", "b");
	assert_content(w, "b", "one");
	assert_int_equal(world_ino(w, "b"), ino);
	assert_int_equal(namespace_past(w->v->ns, &w->op, "b", &l), 0);
	assert_int_equal(l.n, 0);
	past_list_release(&l);
}

static void test_rename_over__shows_the_new(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "new");
	world_write(w, "b", "old");
	world_rename(w, "a", "b");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "b", "new");
	assert_hidden(w, "a");
	assert_content(w, "b", "new");
}

static void test_rename_chain__ends_right_in_any_order(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "A");
	world_write(w, "b", "B");
	world_rename(w, "a", "t");
	world_rename(w, "b", "a");
	world_rename(w, "t", "b");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "a", "B");
	assert_view(w, "b", "A");
	assert_hidden(w, "t");
}

static void test_directory_rename__moves_all_below(void **state)
{
	struct world *w = *state;
	char path[64], text[16];

	world_dir(w, "d");
	world_dir(w, "d/e");
	for (int i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), i % 2 ? "d/f%d" : "d/e/f%d", i);
		snprintf(text, sizeof(text), "t%d", i);
		world_write(w, path, text);
	}
	world_rename(w, "d", "n");
	assert_int_equal(world_settle(w), 0);
	for (int i = 0; i < 40; i++) {
		snprintf(text, sizeof(text), "t%d", i);
		snprintf(path, sizeof(path), i % 2 ? "n/f%d" : "n/e/f%d", i);
		assert_view(w, path, text);
		snprintf(path, sizeof(path), i % 2 ? "d/f%d" : "d/e/f%d", i);
		assert_hidden(w, path);
	}
}

/* A file where a folder was, and the reverse: the view is blocked until the other key's turn. */
static void test_file_takes_a_folders_place__and_back(void **state)
{
	struct world *w = *state;

	world_dir(w, "x");
	world_write(w, "x/f", "below");
	world_rename(w, "x", "y");
	world_write(w, "x", "file");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "x", "file");
	assert_view(w, "y/f", "below");
	world_rename(w, "x", "z");
	world_rename(w, "y", "x");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "x/f", "below");
	assert_view(w, "z", "file");
	assert_hidden(w, "y/f");
}

static void test_hard_link__keeps_its_key_until_the_name_goes(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "one");
	world_link(w, "a", "b");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "a", "one");
	world_unlink(w, "a");
	assert_int_equal(world_settle(w), 0);
	assert_hidden(w, "a");
	assert_view(w, "b", "one");
	assert_key(w, "b", "b");
}

static void test_truncate__composes_the_object_anew(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "12345678");
	world_truncate(w, "a", 3);
	assert_int_equal(world_force(w), 0);
	assert_view(w, "a", "123");
	world_truncate(w, "a", 6);
	assert_content(w, "a", "123000");
	assert_int_equal(world_force(w), 0);
	assert_view(w, "a", "123000");
	assert_content(w, "a", "123000");
}

/* Cut short and grown again to the old size: the object is as long as the file and yet not its content. */
static void test_truncate_down_and_up__does_not_show_the_old_bytes(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "12345678");
	world_truncate(w, "a", 3);
	world_truncate(w, "a", 8);
	assert_int_equal(world_force(w), 0);
	assert_view(w, "a", "12300000");
	assert_content(w, "a", "12300000");
}

static void test_truncate__waits_while_the_file_is_open(void **state)
{
	struct world *w = *state;

	atomic_store(&w->open_ino, world_write(w, "a", "12345678"));
	world_truncate(w, "a", 3);
	assert_int_equal(world_settle(w), 1);
	assert_view(w, "a", "12345678");
	atomic_store(&w->open_ino, 0);
	assert_int_equal(reconcile_run(w->v, &w->op, INT64_MAX, NULL, NULL, NULL), 0);
	assert_view(w, "a", "123");
}

static void test_temporary_name__is_put_at_the_final_key_and_stays(void **state)
{
	struct world *w = *state;

	world_write(w, ".report.pdf.aB3xYz", "text");
	assert_key(w, ".report.pdf.aB3xYz", "report.pdf");
	assert_int_equal(world_settle(w), 1); /* in half a minute */
	assert_view(w, "report.pdf", "text");
	world_rename(w, ".report.pdf.aB3xYz", "report.pdf");
	(void)world_settle(w);
	assert_view(w, "report.pdf", "text");
	assert_key(w, "report.pdf", "report.pdf");
	assert_hidden(w, ".report.pdf.aB3xYz");
}

static void test_temporary_name__not_renamed_goes_to_its_own_path(void **state)
{
	struct world *w = *state;

	world_write(w, "film.part", "text");
	assert_key(w, "film.part", "film");
	assert_int_equal(reconcile_run(w->v, &w->op, INT64_MAX, NULL, NULL, NULL), 0);
	assert_key(w, "film.part", "film.part");
	assert_view(w, "film.part", "text");
	assert_hidden(w, "film");
}

static void test_name_that_cannot_be_a_key__lives_by_its_inode(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "one");
	char key[48];

	snprintf(key, sizeof(key), ".massfs/o/%llu", (unsigned long long)ino);
	world_rename(w, "a", "not\377utf8");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, key, "one");
	assert_hidden(w, "a");
	world_rename(w, "not\377utf8", "b");
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "b", "one");
	assert_hidden(w, key);
	world_rename(w, "b", "not\377utf8");
	assert_int_equal(world_settle(w), 0);
	world_unlink(w, "not\377utf8");
	assert_int_equal(world_settle(w), 0);
	assert_hidden(w, key);
}

static void test_settled_jobs__survive_a_restart(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	world_write(w, "b", "two");
	world_rename(w, "d", "e");
	world_unlink(w, "b");
	world_crash(w);
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "e/a", "one");
	assert_hidden(w, "d/a");
	assert_hidden(w, "b");
}

/* Put on top and never committed: after the crash the key shows what the index says again. */
static void test_crash_between_put_and_commit__is_found(void **state)
{
	struct world *w = *state;
	struct object_info info;
	mfs_ino_t ino = world_write(w, "a", "old"), fresh = world_write(w, "tmp", "x");

	world_put(w, ino, "a", "never committed", &info);
	world_put(w, fresh, "fresh", "never named", &info);
	assert_view(w, "a", "never committed");
	world_crash(w);
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "a", "old");
	assert_hidden(w, "fresh");
	assert_view(w, "tmp", "x");
}

/* An upload in flight at the key: the reconciler does not put the old version over it, nor call the key done. */
static void test_upload_in_flight__keeps_the_key_queued(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "old");
	struct object_info info;

	world_write(w, "b", "x");
	world_rename(w, "b", "c");
	assert_int_equal(reconcile_queue_key(w->v, &w->op, "a"), 0);
	key_gate_enter(&w->v->gate, "a");
	world_put(w, ino, "a", "new", &info);
	assert_int_equal(world_settle(w), 1);
	assert_view(w, "a", "new");
	assert_view(w, "c", "x");
	assert_int_equal(world_commit(w, ino, "a", &info, true), 0);
	key_gate_leave(&w->v->gate, "a");
	usleep(50000);
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "a", "new");
}

/* Given up without a trace in the index: whoever deletes its version queues the key. */
static void test_upload_given_up__view_comes_back(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "old");
	struct object_ref ref = { .key = strdup("a") };
	struct object_info info;

	world_put(w, ino, "a", "new", &info);
	memcpy(ref.version, info.version, sizeof(ref.version));
	assert_int_equal(object_delete_version(w->v->store, &w->op, &ref), 0);
	assert_int_equal(reconcile_queue_key(w->v, &w->op, "a"), 0);
	assert_int_equal(world_settle(w), 0);
	assert_view(w, "a", "old");
	object_ref_release(&ref);
}

static void test_missing_object__stays_queued_and_is_no_hole(void **state)
{
	struct world *w = *state;
	struct node n = world_node(w, world_write(w, "a", "one"));

	world_write(w, "z", "other");
	assert_int_equal(object_delete_version(w->v->store, &w->op, &n.ref), 0);
	world_rename(w, "a", "b");
	world_rename(w, "z", "y");
	assert_int_equal(world_settle(w), 1);
	assert_view(w, "y", "other");
	node_release(&n);
}

/* Each single call of the store fails once: nothing is lost, and all is right in the end. */
static void test_store_failures__one_after_the_other(void **state)
{
	struct world *w = *state;
	struct object_store *inner = w->v->store, *fault;
	unsigned int nth, hits = 1;
	char from[32] = "f0", to[32];

	world_write(w, from, "content");
	for (nth = 1; hits && nth < 60; nth++) {
		uint64_t left;

		snprintf(to, sizeof(to), "f%u", nth);
		assert_int_equal(fault_store_new(inner, nth, EIO, &fault), 0);
		w->v->store = fault;
		world_rename(w, from, to);
		(void)!reconcile_run(w->v, &w->op, INT64_MAX - 1, &left, NULL, NULL);
		hits = fault_store_hits(fault);
		w->v->store = inner;
		/* The decorator owns what is below it: it is not freed until the end of the test. */
		assert_int_equal(reconcile_run(w->v, &w->op, INT64_MAX, &left, NULL, NULL), 0);
		assert_int_equal(left, 0);
		assert_view(w, to, "content");
		assert_hidden(w, from);
		assert_content(w, to, "content");
		strcpy(from, to);
		free(fault);
	}
	assert_true(nth > 4);
}

/* --- the thread --- */

static void wake(void *arg)
{
	reconciler_wake(arg);
}

static void wait_for_no_jobs(struct world *w)
{
	for (int i = 0; i < 1000 && world_jobs(w); i++)
		usleep(10000);
	assert_int_equal(world_jobs(w), 0);
}

static void test_thread__follows_at_once(void **state)
{
	struct world *w = *state;
	struct reconciler *r = NULL;

	world_write(w, "a", "one");
	assert_int_equal(reconciler_start(w->v, &r), 0);
	w->woken_arg = r;
	w->woken = wake;
	world_rename(w, "a", "b");
	wait_for_no_jobs(w);
	assert_view(w, "b", "one");
	assert_hidden(w, "a");
	w->woken = NULL;
	reconciler_stop(r);
}

struct writer {
	struct world *w;
	unsigned int seed;
};

/* Renames and rewrites of a few names, as fast as it goes. */
static void *write_and_rename(void *arg)
{
	struct writer *x = arg;
	struct op_ctx op = { 0 };
	struct volume *v = x->w->v;

	for (int i = 0; i < 300; i++) {
		char a[16], b[16], text[32];
		struct rename_result res;
		struct make m = { .parent = MFS_ROOT_INO, .mode = S_IFREG | 0644 };
		struct node n = NODE_INIT;
		struct object_info info;
		struct object_meta meta;
		struct commit c = { 0 };
		struct mfs_attr attr;
		struct entry e;
		char *key;
		int r;

		snprintf(a, sizeof(a), "n%d", rand_r(&x->seed) % 4);
		snprintf(b, sizeof(b), "n%d", rand_r(&x->seed) % 4);
		if (rand_r(&x->seed) % 2) {
			(void)!namespace_rename(v->ns, &op, MFS_ROOT_INO, a, 2, MFS_ROOT_INO, b, 2, 0, &res);
			continue;
		}
		m.name = a;
		m.name_len = 2;
		r = namespace_make(v->ns, &op, &m, &n);
		if (r == 0)
			node_release(&n);
		if (namespace_lookup(v->ns, &op, MFS_ROOT_INO, a, 2, &e) < 0)
			continue;
		meta = volume_object_meta(v, &e.node.attr);
		key = strdup(a);
		snprintf(text, sizeof(text), "%u.%d", x->seed, i);
		key_gate_enter(&v->gate, key);
		assert_int_equal(object_put(v->store, &op, NULL, key, text, strlen(text), &meta, &info), 0);
		c = (struct commit){ .ino = e.node.attr.ino,
				     .lay = e.node.attr.lay,
				     .ref = { .key = key },
				     .size = info.size,
				     .obj_len = info.size,
				     .mtime = 1,
				     .queue_key = info.not_shown };
		memcpy(c.ref.version, info.version, sizeof(c.ref.version));
		r = namespace_commit(v->ns, &op, &c, &attr);
		if (r < 0) {
			assert_int_equal(object_delete_version(v->store, &op, &c.ref), 0);
			assert_int_equal(reconcile_queue_key(v, &op, key), 0);
		}
		key_gate_leave(&v->gate, key);
		free(key);
		entry_release(&e);
	}
	return NULL;
}

static void test_thread__converges_under_writers(void **state)
{
	struct world *w = *state;
	struct reconciler *r = NULL;
	struct writer x[2] = { { w, (unsigned int)time(NULL) }, { w, (unsigned int)getpid() } };
	pthread_t t[2];

	print_message("seeds %u %u\n", x[0].seed, x[1].seed);
	assert_int_equal(reconciler_start(w->v, &r), 0);
	w->woken_arg = r;
	w->woken = wake;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_and_rename, &x[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	wait_for_no_jobs(w);
	w->woken = NULL;
	reconciler_stop(r);
	for (int i = 0; i < 4; i++) {
		char name[16], want[64];
		const char *content;

		snprintf(name, sizeof(name), "n%d", i);
		content = world_read(w, name);
		if (!content || !*content) {
			/* none, or made and never written */
			const char *v = world_view(w, name);

			assert_true(!v || !*v);
			continue;
		}
		snprintf(want, sizeof(want), "%s", content);
		assert_view(w, name, want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_new_file__needs_nothing),
		WORLD_TEST(test_empty_file__is_an_object_too),
		WORLD_TEST(test_unlink__hides_the_key),
		WORLD_TEST(test_rename__moves_the_object_without_a_version),
		WORLD_TEST(test_rename_over__shows_the_new),
		WORLD_TEST(test_rename_chain__ends_right_in_any_order),
		WORLD_TEST(test_directory_rename__moves_all_below),
		WORLD_TEST(test_file_takes_a_folders_place__and_back),
		WORLD_TEST(test_hard_link__keeps_its_key_until_the_name_goes),
		WORLD_TEST(test_truncate__composes_the_object_anew),
		WORLD_TEST(test_truncate_down_and_up__does_not_show_the_old_bytes),
		WORLD_TEST(test_truncate__waits_while_the_file_is_open),
		WORLD_TEST(test_temporary_name__is_put_at_the_final_key_and_stays),
		WORLD_TEST(test_temporary_name__not_renamed_goes_to_its_own_path),
		WORLD_TEST(test_name_that_cannot_be_a_key__lives_by_its_inode),
		WORLD_TEST(test_settled_jobs__survive_a_restart),
		WORLD_TEST(test_crash_between_put_and_commit__is_found),
		WORLD_TEST(test_upload_in_flight__keeps_the_key_queued),
		WORLD_TEST(test_upload_given_up__view_comes_back),
		WORLD_TEST(test_missing_object__stays_queued_and_is_no_hole),
		WORLD_TEST(test_store_failures__one_after_the_other),
		WORLD_TEST(test_thread__follows_at_once),
		WORLD_TEST(test_thread__converges_under_writers),
	};

	return world_run_suite("reconcile", tests, MFS_ARRAY_LEN(tests));
}
