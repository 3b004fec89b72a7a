/*
 * What other programs do among the objects: files they put become versions or files, whatever fails on the way; what
 * they remove is put back, or taken over when that is asked for.
 */
#include "tests/lib/volume_world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/reconcile.h"

#define assert_content(w, path, text) assert_string_equal(world_read((w), (path)), (text))

/* A file at the key, of another program. */
static void put_foreign(struct world *w, const char *key, const char *text)
{
	struct object_meta nobody = { .mode = 0604, .uid = 7, .gid = 8, .mtime = 1600000000000000000 };
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1600000000 } };
	struct object_info info;
	char path[256], cmd[600];
	int fd;

	if (w->kind == WORLD_MEM) {
		assert_int_equal(object_put(w->v->store, &w->op, NULL, key, text, strlen(text), &nobody, &info), 0);
		return;
	}
	snprintf(path, sizeof(path), "%s/objects/%s", w->dir, key);
	snprintf(cmd, sizeof(cmd), "mkdir -p $(dirname %s); rm -f %s", path, path);
	assert_int_equal(system(cmd), 0);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, 0604), 0);
	if (geteuid() == 0)
		assert_int_equal(fchown(fd, 7, 8), 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static void remove_foreign(struct world *w, const char *key)
{
	char path[256];

	if (w->kind == WORLD_MEM) {
		assert_int_equal(object_put_marker(w->v->store, &w->op, NULL, key), 0);
		return;
	}
	snprintf(path, sizeof(path), "%s/objects/%s", w->dir, key);
	assert_int_equal(unlink(path), 0);
}

static int count_foreign_one(void *arg, const char *key, const struct object_info *info)
{
	(void)key;
	*(unsigned int *)arg += !info->own;
	return 0;
}

/* Versions that are kept for other programs. The mem store keeps each anyway. */
static unsigned int kept(struct world *w)
{
	unsigned int n = 0;

	assert_int_equal(object_list_versions(w->v->store, &w->op, NULL, count_foreign_one, &n), 0);
	return n;
}

static size_t n_past(struct world *w, const char *path)
{
	struct past_list l = { 0 };
	size_t n;

	assert_int_equal(namespace_past(w->v->ns, &w->op, path, &l), 0);
	n = l.n;
	past_list_release(&l);
	return n;
}

static void assert_settled(struct world *w, const char *path, const char *text)
{
	struct node n = world_node(w, world_ino(w, path));
	enum file_state s;

	assert_int_equal(reconcile_state(w->v, &w->op, &n, &s), 0);
	assert_int_equal(s, FILE_SETTLED);
	assert_content(w, path, text);
	assert_string_equal(world_view(w, path), text);
	node_release(&n);
}

static void test_over_a_file__is_its_next_version(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino;

	world_dir(w, "d");
	ino = world_write(w, "d/a", "mine");
	put_foreign(w, "d/a", "theirs");
	assert_content(w, "d/a", "mine");
	assert_int_equal(VERB(w, 0, "import", "d/a"), 0);
	assert_string_equal(w->out, "1 imported\n");
	assert_int_equal(world_ino(w, "d/a"), ino);
	assert_settled(w, "d/a", "theirs");
	assert_int_equal(n_past(w, "d/a"), 1);
	assert_int_equal(kept(w), 0);
	assert_int_equal(w->n_changed, 0); /* that hook is the mount's */
	assert_int_equal(VERB(w, 0, "import", "d/a"), 0);
	assert_string_equal(w->out, "0 imported\n");
}

static void test_without_a_file__is_a_new_one(void **state)
{
	struct world *w = *state;
	struct node n;

	put_foreign(w, "new/folder/a", "theirs");
	put_foreign(w, "new/b", "other");
	put_foreign(w, "newer", "not asked for");
	assert_int_equal(VERB(w, 0, "import", "new"), 0);
	assert_string_equal(w->out, "2 imported\n");
	assert_settled(w, "new/folder/a", "theirs");
	assert_settled(w, "new/b", "other");
	assert_int_equal(world_ino(w, "newer"), 0);
	n = world_node(w, world_ino(w, "new/folder/a"));
	assert_int_equal(n.attr.mode, S_IFREG | 0604);
	assert_int_equal(n.attr.mtime, 1600000000000000000);
	if (geteuid() == 0 || w->kind == WORLD_MEM) {
		assert_int_equal(n.attr.uid, 7);
		assert_int_equal(n.attr.gid, 8);
	}
	node_release(&n);
	assert_int_equal(VERB(w, 0, "import", ""), 0);
	assert_settled(w, "newer", "not asked for");
	assert_int_equal(kept(w), 0);
}

static void test_reconciler_meets_one(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "mine");
	world_write(w, "b", "B");
	world_write(w, "gone", "G");
	/* On top of a file's key. */
	put_foreign(w, "a", "theirs");
	assert_int_equal(reconcile_queue_key(w->v, &w->op, "a"), 0);
	/* Where a file comes by a rename. */
	put_foreign(w, "c", "theirs too");
	world_rename(w, "b", "c");
	/* Where one went. */
	world_unlink(w, "gone");
	put_foreign(w, "gone", "came back");
	assert_int_equal(world_settle(w), 0);
	assert_settled(w, "a", "theirs");
	assert_settled(w, "c", "theirs too");
	assert_settled(w, "gone", "came back");
	assert_int_equal(n_past(w, "a"), 1);
	assert_int_equal(n_past(w, "c"), 1);
	assert_int_equal(kept(w), 0);
	assert_int_equal(w->v->reconcile.imported, 3);
}

static void test_inline_file__is_not_put_over_it(void **state)
{
	struct world *w = *state;
	struct node_blob blob = { .data = (void *)(uintptr_t) "inline", .size = 6 };
	mfs_ino_t ino = world_write(w, "a", "x");
	struct node n = world_node(w, ino);
	struct commit c = { .ino = ino, .lay = n.attr.lay, .size = 6, .mtime = 1, .inline_data = &blob, .todo = 2 };
	struct mfs_attr attr;

	node_release(&n);
	assert_int_equal(namespace_commit(w->v->ns, &w->op, &c, &attr), 0);
	put_foreign(w, "a", "theirs");
	assert_int_equal(world_force(w), 0);
	assert_settled(w, "a", "theirs");
	assert_true(n_past(w, "a") >= 1);
	assert_int_equal(kept(w), 0);
}

static void test_something_else_has_the_name__it_is_kept(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	put_foreign(w, "d", "a file");
	assert_int_equal(VERB(w, 0, "import", "d"), 1);
	assert_non_null(strstr(w->err, "d: "));
	world_write(w, "e", "file");
	if (w->kind == WORLD_MEM) /* where a key can be below another */
		put_foreign(w, "e/f", "below a file");
	assert_int_equal(reconcile_queue_key(w->v, &w->op, "d"), 0);
	assert_int_equal(reconcile_queue_key(w->v, &w->op, "e/f"), 0);
	assert_int_equal(world_settle(w), 0);
	assert_null(world_view(w, "e/f"));
	assert_true(kept(w) >= 1);
	world_write(w, "d/x", "shown");
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, "d/x"), "shown");
}

static void test_being_written__is_left_for_later(void **state)
{
	struct world *w = *state;
	char path[256];
	int fd;

	if (w->kind == WORLD_MEM)
		return; /* whose objects are there as a whole or not at all */
	put_foreign(w, "a", "the beginning");
	snprintf(path, sizeof(path), "%s/objects/a", w->dir);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(VERB(w, 0, "import", "a"), 1);
	assert_non_null(strstr(w->err, "being written"));
	assert_int_equal(world_ino(w, "a"), 0);
	assert_int_equal(write(fd, " and the end", 12), 12);
	close(fd);
	assert_int_equal(VERB(w, 0, "import", "a"), 0);
	assert_settled(w, "a", "the beginning and the end");
	assert_int_equal(kept(w), 0);
}

/* Whichever call of the store fails: their bytes are somewhere, and the next import has them. */
static void test_each_store_call_fails_once__nothing_is_lost(void **state)
{
	struct world *w = *state;
	struct object_store *inner = w->v->store, *fault;
	unsigned int hits = 1, nth;

	for (nth = 1; hits && nth < 60; nth++) {
		char path[32], text[32];
		uint64_t left;

		snprintf(path, sizeof(path), "f%u", nth);
		snprintf(text, sizeof(text), "theirs %u", nth);
		if (nth % 2)
			world_write(w, path, "mine");
		put_foreign(w, path, text);
		assert_int_equal(fault_store_new(inner, nth, EIO, &fault), 0);
		w->v->store = fault;
		(void)!reconcile_import_key(w->v, &w->op, path);
		hits = fault_store_hits(fault);
		w->v->store = inner;
		free(fault);
		(void)!reconcile_import_key(w->v, &w->op, path);
		assert_int_equal(reconcile_run(w->v, &w->op, INT64_MAX, &left, NULL, NULL), 0);
		assert_settled(w, path, text);
	}
	assert_true(nth > 5);
}

static void test_removed__is_put_back(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "mine");

	remove_foreign(w, "a");
	assert_int_equal(reconcile_file(w->v, &w->op, ino), 0);
	assert_settled(w, "a", "mine");
}

static void test_removed__with_deletes_the_file_goes(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_dir(w, "d/e");
	world_write(w, "d/a", "A");
	world_write(w, "d/e/b", "B");
	world_write(w, "d/e/stays", "S");
	world_write(w, "d/moved", "M");
	world_write(w, "x", "X");
	remove_foreign(w, "d/a");
	remove_foreign(w, "d/e/b");
	remove_foreign(w, "x");
	world_rename(w, "d/moved", "d/there"); /* not shown yet: that is no removal */
	assert_int_equal(VERB(w, 0, "import", "d"), 0);
	assert_content(w, "d/a", "A");
	assert_int_equal(VERB(w, 0, "import", "--deletes", "d"), 0);
	assert_non_null(strstr(w->out, "0 imported, 2 removed\n"));
	assert_int_equal(world_ino(w, "d/a"), 0);
	assert_int_equal(world_ino(w, "d/e/b"), 0);
	assert_content(w, "d/e/stays", "S");
	assert_content(w, "d/there", "M");
	assert_content(w, "x", "X");
	assert_int_equal(VERB(w, 0, "import", "--deletes", "x"), 0);
	assert_int_equal(world_ino(w, "x"), 0);
	assert_int_equal(VERB(w, 0, "undelete", "x"), 0);
	assert_int_equal(world_force(w), 0);
	assert_settled(w, "x", "X");
}

static void test_import__is_for_root(void **state)
{
	struct world *w = *state;

	put_foreign(w, "a", "theirs");
	assert_int_equal(VERB(w, 12345, "import", "a"), 1);
	assert_int_equal(world_ino(w, "a"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_over_a_file__is_its_next_version),
		WORLD_TEST(test_without_a_file__is_a_new_one),
		WORLD_TEST(test_reconciler_meets_one),
		WORLD_TEST(test_inline_file__is_not_put_over_it),
		WORLD_TEST(test_something_else_has_the_name__it_is_kept),
		WORLD_TEST(test_being_written__is_left_for_later),
		WORLD_TEST(test_each_store_call_fails_once__nothing_is_lost),
		WORLD_TEST(test_removed__is_put_back),
		WORLD_TEST(test_removed__with_deletes_the_file_goes),
		WORLD_TEST(test_import__is_for_root),
	};

	return world_run_suite("import", tests, MFS_ARRAY_LEN(tests));
}
