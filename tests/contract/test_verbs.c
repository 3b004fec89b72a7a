/*
 * The verbs over real stacks: what was at a path and how it comes back, who may, and what fsck finds and repairs.
 */
#include "tests/lib/volume_world.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/fsck.h"
#include "fs/reconcile.h"

#define OWNER 1000
#define OTHER 1001

#define assert_content(w, path, text) assert_string_equal(world_read((w), (path)), (text))
#define assert_ok(w, ...)                                        \
	do {                                                     \
		int s_ = VERB((w), 0, __VA_ARGS__);              \
		if (s_)                                          \
			print_error("%s%s", (w)->out, (w)->err); \
		assert_int_equal(s_, 0);                         \
	} while (0)

static void chmod_path(struct world *w, const char *path, uint32_t mode, uint32_t uid)
{
	struct set_attr sa = {
		.mask = EDIT_MODE | EDIT_UID | EDIT_GID, .mode = mode, .uid = uid, .gid = uid
	};
	struct mfs_attr attr;

	assert_int_equal(namespace_setattr(w->v->ns, &w->op, world_ino(w, path), &sa, &attr), 0);
}

static void set_mtime(struct world *w, const char *path, int64_t ns)
{
	struct set_attr sa = { .mask = EDIT_MTIME, .mtime = ns };
	struct mfs_attr attr;

	assert_int_equal(namespace_setattr(w->v->ns, &w->op, world_ino(w, path), &sa, &attr), 0);
}

/* The nth version (0: the newest of the past) as `versions` names it. In a static buffer. */
static const char *nth_version(struct world *w, const char *path, int nth)
{
	static char name[64];
	char *p;

	assert_ok(w, "versions", path);
	p = strchr(w->out, '\n') + 1; /* the head */
	for (; nth >= 0; nth--) {
		char *end = strchr(p, '\n');

		assert_non_null(end);
		if (strstr(p, " current ") && strstr(p, " current ") < end)
			p = end + 1;
		if (nth)
			p = strchr(p, '\n') + 1;
	}
	assert_int_equal(sscanf(p, "%63s", name), 1);
	return name;
}

static int restore(struct world *w, uid_t uid, const char *path, const char *version)
{
	char arg[256];

	snprintf(arg, sizeof(arg), "%s@%s", path, version);
	return VERB(w, uid, "restore", arg);
}

static void test_usage__is_told(void **state)
{
	struct world *w = *state;

	assert_int_equal(VERB(w, 0, "nonsense"), 2);
	assert_int_equal(VERB(w, 0, "info"), 2);
	assert_non_null(strstr(w->err, "usage: massfs info"));
	assert_int_equal(VERB(w, 0, "info", "a", "b"), 2);
	assert_int_equal(VERB(w, 0, "status", "--delete"), 2);
	assert_int_equal(VERB(w, 0, "gc", "x"), 2);
	assert_int_equal(VERB(w, 0, "info", "../a"), 1);
	assert_true(verb_exists("fsck"));
	assert_false(verb_exists("mount"));
	assert_true(verb_takes_path("settle"));
	assert_false(verb_takes_path("gc"));
}

/* As commits do that see the bytes. */
static void set_sums(struct world *w, const char *path, const char *sum)
{
	struct node n = world_node(w, world_ino(w, path));
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, n.attr.ino);

	free(n.mime);
	n.mime = strdup("text/plain");
	snprintf(n.etag, sizeof(n.etag), "%s", sum);
	snprintf(n.hash, sizeof(n.hash), "%s", sum);
	x->node = &n;
	x->mask = EDIT_REF | EDIT_MIME;
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	node_release(&n);
}

/* What getxattr(2) would refuse, no search tells: neither by printing it nor by finding the file by it. */
static void test_find__tells_no_tags_of_what_may_not_be_read(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	assert_ok(w, "tag", "add", "-t", "secret=plan", "-t", "bare", "--", "d/a");
	set_sums(w, "d/a", "xxh3:0123456789abcdef");
	chmod_path(w, "d/a", 0600, OWNER);
	chmod_path(w, "d", 0755, 0);
	assert_int_equal(VERB(w, OWNER, "find", "--json", "--", ".", "tag:secret=plan"), 0);
	assert_non_null(strstr(w->out, "plan"));
	assert_int_equal(VERB(w, OTHER, "find", "--", ".", "tag:secret=plan"), 0);
	assert_string_equal(w->out, "");
	assert_int_equal(VERB(w, OTHER, "find", "--count", "--", ".", "bare or hash > 0 or tag:secret >= a or mime ~ '*'"), 0);
	assert_string_equal(w->out, "0\n");
	/* That it is there, and how big, anybody may see who comes to it. */
	assert_int_equal(VERB(w, OTHER, "find", "--json", "--", ".", "name = a and size = 3"), 0);
	assert_non_null(strstr(w->out, "d/a"));
	assert_null(strstr(w->out, "plan"));
	assert_null(strstr(w->out, "bare"));
	assert_null(strstr(w->out, "text/plain"));
	assert_non_null(strstr(w->out, "\"hash\": null"));
	assert_int_equal(VERB(w, OWNER, "info", "--json", "d/a"), 0);
	assert_non_null(strstr(w->out, "text/plain"));
	assert_non_null(strstr(w->out, "0123456789abcdef"));
	assert_int_equal(VERB(w, OTHER, "info", "--json", "d/a"), 0);
	assert_null(strstr(w->out, "text/plain"));
	assert_null(strstr(w->out, "0123456789abcdef"));
}

static void test_tag__has_a_longest_value(void **state)
{
	char text[2 + MFS_XATTR_SIZE_MAX + 2] = "t=";
	struct world *w = *state;

	world_write(w, "a", "one");
	memset(text + 2, 'v', MFS_XATTR_SIZE_MAX + 1);
	assert_int_equal(VERB(w, 0, "tag", "add", "-t", text, "--", "a"), 1);
	text[2 + MFS_XATTR_SIZE_MAX] = '\0';
	assert_ok(w, "tag", "add", "-t", text, "--", "a");
}

static void test_info__tells_key_and_state(void **state)
{
	struct world *w = *state;
	char want[160];
	struct node n;

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	assert_ok(w, "info", "d/a");
	assert_non_null(strstr(w->out, "state:     settled"));
	assert_non_null(strstr(w->out, "key:       d/a"));
	assert_non_null(strstr(w->out, "/mnt/d/a"));
	n = world_node(w, world_ino(w, "d/a"));
	snprintf(want, sizeof(want), "\"version\": \"%s\"", n.ref.version);
	node_release(&n);
	assert_ok(w, "info", "--json", "d/a");
	assert_non_null(strstr(w->out, want));
	assert_non_null(strstr(w->out, "\"state\": \"settled\""));
	world_rename(w, "d/a", "d/b");
	assert_ok(w, "info", "d/b");
	assert_non_null(strstr(w->out, "state:     pending"));
	assert_int_equal(world_settle(w), 0);
	assert_ok(w, "info", "d/b");
	assert_non_null(strstr(w->out, "state:     settled"));
	world_truncate(w, "d/b", 100);
	assert_ok(w, "info", "d/b");
	assert_non_null(strstr(w->out, "state:     pending"));
	assert_ok(w, "info", "d");
	assert_non_null(strstr(w->out, "directory"));
	assert_int_equal(VERB(w, 0, "info", "none"), 1);
}

static void test_info__needs_search_permission(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	chmod_path(w, "d", 0700, OWNER);
	assert_int_equal(VERB(w, OTHER, "info", "d/a"), 1);
	assert_non_null(strstr(w->err, "Permission denied"));
	assert_int_equal(VERB(w, OWNER, "info", "d/a"), 0);
}

static void test_status__is_there(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "one");
	assert_ok(w, "status");
	assert_non_null(strstr(w->out, "files:"));
	assert_ok(w, "status", "--json");
	assert_non_null(strstr(w->out, "\"mounted\": false"));
}

static void test_versions__newest_first_with_unique_names(void **state)
{
	struct world *w = *state;
	char first[64], second[64];

	world_write(w, "a", "one");
	set_mtime(w, "a", MFS_NSEC_PER_SEC);
	world_write(w, "a", "two");
	set_mtime(w, "a", MFS_NSEC_PER_SEC + 5);
	world_write(w, "a", "three");
	strcpy(first, nth_version(w, "a", 0));
	strcpy(second, nth_version(w, "a", 1));
	assert_string_not_equal(first, second);
	/* Both of one second: the short name is nobody's. */
	*strchr(first, '-') = '\0';
	assert_int_equal(restore(w, 0, "a", first), 1);
	assert_non_null(strstr(w->err, "several versions"));
	assert_int_equal(restore(w, 0, "a", second), 0);
	assert_content(w, "a", "one");
	assert_ok(w, "versions", "--json", "a");
	assert_non_null(strstr(w->out, "\"current\": true"));
	assert_non_null(strstr(w->out, "\"why\": \"replaced\""));
	assert_int_equal(VERB(w, 0, "versions", "never"), 1);
}

static void test_restore__is_a_new_version_and_settles(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "one");

	world_write(w, "a", "two");
	assert_int_equal(restore(w, 0, "a", nth_version(w, "a", 0)), 0);
	assert_int_equal(w->n_changed, 1);
	assert_content(w, "a", "one");
	assert_int_equal(world_ino(w, "a"), ino);
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, "a"), "one");
	/* What was there before is the newest version now. */
	assert_int_equal(restore(w, 0, "a", nth_version(w, "a", 0)), 0);
	assert_content(w, "a", "two");
	assert_ok(w, "fsck");
}

static void test_restore__by_data_number_and_to_stdout(void **state)
{
	struct world *w = *state;
	struct node n;
	char arg[64];

	world_write(w, "a", "one");
	n = world_node(w, world_ino(w, "a"));
	world_write(w, "a", "two");
	snprintf(arg, sizeof(arg), "a@%llu", (unsigned long long)n.attr.data);
	node_release(&n);
	assert_ok(w, "restore", "--stdout", arg);
	assert_string_equal(w->out, "one");
	assert_content(w, "a", "two");
	assert_ok(w, "restore", arg);
	assert_content(w, "a", "one");
	assert_int_equal(VERB(w, 0, "restore", "a@20000101T000000Z"), 1);
	assert_int_equal(VERB(w, 0, "restore", "a"), 1);
}

/* rsync and editors replace by rename: the version is another inode's. Its object must not be shared with ours. */
static void test_restore__of_another_inodes_content(void **state)
{
	struct world *w = *state;
	struct node n, old;
	struct object_info info;

	world_write(w, "a", "old");
	old = world_node(w, world_ino(w, "a"));
	world_write(w, "new", "new");
	world_rename(w, "new", "a");
	assert_int_equal(world_settle(w), 0);
	assert_content(w, "a", "new");
	assert_int_equal(restore(w, 0, "a", nth_version(w, "a", 0)), 0);
	assert_content(w, "a", "old");
	n = world_node(w, world_ino(w, "a"));
	assert_int_not_equal(n.attr.ino, old.attr.ino);
	assert_string_not_equal(n.ref.version, old.ref.version);
	assert_int_equal(object_head(w->v->store, &w->op, NULL, n.ref.key, n.ref.version, &info), 0);
	assert_int_equal(info.ino, n.attr.ino);
	node_release(&n);
	node_release(&old);
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, "a"), "old");
	assert_ok(w, "fsck");
}

static void test_restore__where_nothing_is_undeletes_first(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "one");

	world_write(w, "a", "two");
	world_unlink(w, "a");
	assert_int_equal(world_settle(w), 0);
	assert_null(world_view(w, "a"));
	assert_int_equal(restore(w, 0, "a", nth_version(w, "a", 1)), 0);
	assert_content(w, "a", "one");
	assert_int_equal(world_ino(w, "a"), ino);
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, "a"), "one");
	assert_ok(w, "fsck");
}

/* The inode lives on elsewhere: a new file is made at the path. */
static void test_restore__where_the_file_moved_away(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "one");
	world_write(w, "a", "two");
	world_rename(w, "a", "b");
	assert_int_equal(restore(w, 0, "a", nth_version(w, "a", 0)), 0);
	assert_content(w, "a", "one");
	assert_content(w, "b", "two");
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, "a"), "one");
	assert_string_equal(world_view(w, "b"), "two");
	assert_ok(w, "fsck");
}

static void test_restore__of_cut_and_empty_content(void **state)
{
	struct world *w = *state;

	world_write(w, "a", "");
	world_write(w, "a", "12345678");
	world_truncate(w, "a", 3);
	assert_int_equal(restore(w, 0, "a", nth_version(w, "a", 0)), 0);
	assert_content(w, "a", "12345678");
	assert_int_equal(world_force(w), 0);
	assert_string_equal(world_view(w, "a"), "12345678");
	assert_int_equal(restore(w, 0, "a", nth_version(w, "a", 0)), 0);
	assert_content(w, "a", "123");
	assert_int_equal(world_force(w), 0);
	assert_string_equal(world_view(w, "a"), "123");
	assert_ok(w, "fsck");
}

static void test_restore__asks_for_permission(void **state)
{
	struct world *w = *state;
	char version[64];

	world_write(w, "a", "secret");
	chmod_path(w, "a", 0600, OWNER);
	world_write(w, "a", "two");
	chmod_path(w, "a", 0666, OWNER); /* the version keeps the mode it had */
	strcpy(version, nth_version(w, "a", 0));
	assert_int_equal(restore(w, OTHER, "a", version), 1);
	assert_non_null(strstr(w->err, "Permission denied"));
	assert_content(w, "a", "two");
	assert_int_equal(restore(w, OWNER, "a", version), 0);
	assert_content(w, "a", "secret");
	chmod_path(w, "a", 0444, OWNER);
	assert_int_equal(restore(w, OTHER, "a", nth_version(w, "a", 0)), 1);
}

static void test_undelete__brings_the_newest_back(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino;

	world_write(w, "a", "older");
	world_unlink(w, "a");
	ino = world_write(w, "a", "newer");
	world_unlink(w, "a");
	assert_int_equal(world_settle(w), 0);
	assert_ok(w, "undelete", "a");
	assert_content(w, "a", "newer");
	assert_int_equal(world_ino(w, "a"), ino);
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, "a"), "newer");
	assert_int_equal(VERB(w, 0, "undelete", "a"), 1);
	assert_non_null(strstr(w->err, "something is there now"));
	assert_int_equal(VERB(w, 0, "undelete", "none"), 1);
	assert_ok(w, "fsck");
}

static void test_undelete__makes_the_folders(void **state)
{
	struct world *w = *state;
	struct mfs_attr attr;

	world_dir(w, "d");
	world_dir(w, "d/e");
	world_write(w, "d/e/a", "A");
	world_write(w, "d/b", "B");
	world_unlink(w, "d/e/a");
	world_unlink(w, "d/b");
	assert_int_equal(namespace_rmdir(w->v->ns, &w->op, world_ino(w, "d"), "e", 1, &attr), 0);
	assert_int_equal(namespace_rmdir(w->v->ns, &w->op, MFS_ROOT_INO, "d", 1, &attr), 0);
	assert_ok(w, "undelete", "--list", "d");
	assert_non_null(strstr(w->out, "d/e/a"));
	assert_non_null(strstr(w->out, "d/b"));
	assert_int_equal(VERB(w, OTHER, "undelete", "--list", ""), 1);
	assert_ok(w, "undelete", "--recursive", "d");
	assert_non_null(strstr(w->out, "2 files"));
	assert_content(w, "d/e/a", "A");
	assert_content(w, "d/b", "B");
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, "d/e/a"), "A");
	assert_ok(w, "fsck");
}

static void test_undelete__needs_write_permission_on_the_folder(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	world_unlink(w, "d/a");
	chmod_path(w, "d", 0755, OWNER);
	assert_int_equal(VERB(w, OTHER, "undelete", "d/a"), 1);
	assert_null(world_read(w, "d/a"));
	assert_int_equal(VERB(w, OWNER, "undelete", "d/a"), 0);
}

static void test_admin_verbs__are_for_root(void **state)
{
	struct world *w = *state;

	assert_int_equal(VERB(w, OTHER, "gc"), 1);
	assert_int_equal(VERB(w, OTHER, "fsck"), 1);
	assert_int_equal(VERB(w, OTHER, "settle"), 1);
	assert_int_equal(VERB(w, OTHER, "drain"), 1);
	assert_ok(w, "gc");
	assert_non_null(strstr(w->out, "Nothing was deleted"));
	assert_ok(w, "gc", "--delete", "--json");
	assert_ok(w, "settle", "--wait");
	assert_ok(w, "drain");
}

static void test_settle__of_one_path(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	world_rename(w, "d", "e");
	assert_ok(w, "settle", "--wait", "e");
	assert_string_equal(world_view(w, "e/a"), "one");
	assert_ok(w, "settle", "--wait");
	assert_null(world_view(w, "d/a"));
	assert_int_equal(world_jobs(w), 0);
}

/* --- fsck --- */

static void test_fsck__of_a_clean_volume(void **state)
{
	struct world *w = *state;

	world_dir(w, "d");
	world_dir(w, "d/e");
	world_write(w, "d/e/a", "one");
	world_write(w, "d/e/a", "two");
	world_link(w, "d/e/a", "link");
	world_write(w, ".film.mp4.aB3xYz", "temporary");
	world_write(w, "x", "gone");
	world_unlink(w, "x");
	world_write(w, "not\377utf8", "x");
	assert_ok(w, "fsck");
	assert_non_null(strstr(w->out, "clean"));
	(void)world_settle(w);
	assert_ok(w, "fsck");
	assert_non_null(strstr(w->out, "clean"));
	world_crash(w);
	assert_ok(w, "fsck");
	assert_ok(w, "fsck", "--json");
	assert_non_null(strstr(w->out, "\"clean\": true"));
}

static void test_fsck__missing_and_short_objects(void **state)
{
	struct world *w = *state;
	struct node a = world_node(w, world_write(w, "a", "one")), n;
	struct change c = { 0 };
	struct write *x;

	assert_int_equal(object_delete_version(w->v->store, &w->op, &a.ref), 0);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "missing object: a"));
	assert_int_equal(VERB(w, 0, "fsck", "--repair"), 1); /* there is no repair for it */
	n = world_node(w, world_write(w, "b", "two"));
	n.attr.size = n.attr.obj_len = 1000;
	x = change_write(&c, WRITE_EDIT, n.attr.ino);
	x->node = &n;
	x->mask = EDIT_SIZE;
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "damaged object: b"));
	node_release(&a);
	node_release(&n);
}

static void test_fsck__repairs_counts(void **state)
{
	struct world *w = *state;
	struct change c = { 0 };

	world_dir(w, "d");
	world_write(w, "d/a", "one");
	change_write(&c, WRITE_EDIT, world_ino(w, "d/a"))->nlink_delta = 2;
	change_touch(&c, world_ino(w, "d"), 5, 7, 0);
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "link count"));
	assert_non_null(strstr(w->out, "child count"));
	assert_ok(w, "fsck", "--repair");
	assert_non_null(strstr(w->out, "[repaired]"));
	assert_ok(w, "fsck");
	assert_non_null(strstr(w->out, "clean"));
}

static void test_fsck__orphans_come_to_lost_and_found(void **state)
{
	struct world *w = *state;
	mfs_ino_t dir = world_dir(w, "d"), sub = world_dir(w, "d/sub"), file;
	struct change c = { 0 };
	char path[64];

	world_write(w, "d/sub/x", "below");
	file = world_write(w, "d/a", "one");
	change_write(&c, WRITE_DELETE, dir); /* with its children in it: no rmdir would */
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "record without a parent"));
	assert_ok(w, "fsck", "--repair");
	snprintf(path, sizeof(path), "lost+found/#%llu", (unsigned long long)file);
	assert_content(w, path, "one");
	snprintf(path, sizeof(path), "lost+found/#%llu/x", (unsigned long long)sub);
	assert_content(w, path, "below");
	assert_int_equal(world_settle(w), 0);
	assert_string_equal(world_view(w, path), "below");
	assert_ok(w, "fsck");
	assert_non_null(strstr(w->out, "clean"));
}

static void test_fsck__directories_in_a_circle(void **state)
{
	struct world *w = *state;
	mfs_ino_t a = world_dir(w, "a"), b = world_dir(w, "a/b");
	struct node set = NODE_INIT;
	struct change c = { 0 };

	world_write(w, "a/b/f", "one");
	set.parent = b;
	set.pos = a;
	assert_int_equal(mfs_name_set(&set.name, "a", 1), 0);
	change_write(&c, WRITE_RENAME, a)->node = &set; /* without the guard that forbids it */
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "circle"));
	assert_ok(w, "fsck", "--repair");
	assert_ok(w, "fsck");
}

static void test_fsck__view_without_a_file_and_file_without_a_view(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "one");
	struct object_info info;

	world_put(w, ino, "stray", "text", &info);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "key without a file: stray"));
	assert_int_equal(object_put_marker(w->v->store, &w->op, NULL, "a"), 0);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "file not at its key"));
	assert_ok(w, "fsck", "--repair");
	assert_ok(w, "fsck");
	assert_string_equal(world_view(w, "a"), "one");
	assert_null(world_view(w, "stray"));
}

static void test_fsck__an_object_of_another_inode(void **state)
{
	struct world *w = *state;
	mfs_ino_t a = world_write(w, "a", "one"), b = world_write(w, "b", "two");
	struct object_info info;

	world_put(w, a, "b", "made for a", &info);
	assert_int_equal(world_commit(w, b, "b", &info, false), 0);
	assert_int_equal(VERB(w, 0, "fsck"), 1);
	assert_non_null(strstr(w->out, "object of another file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_usage__is_told),
		WORLD_TEST(test_find__tells_no_tags_of_what_may_not_be_read),
		WORLD_TEST(test_tag__has_a_longest_value),
		WORLD_TEST(test_info__tells_key_and_state),
		WORLD_TEST(test_info__needs_search_permission),
		WORLD_TEST(test_status__is_there),
		WORLD_TEST(test_versions__newest_first_with_unique_names),
		WORLD_TEST(test_restore__is_a_new_version_and_settles),
		WORLD_TEST(test_restore__by_data_number_and_to_stdout),
		WORLD_TEST(test_restore__of_another_inodes_content),
		WORLD_TEST(test_restore__where_nothing_is_undeletes_first),
		WORLD_TEST(test_restore__where_the_file_moved_away),
		WORLD_TEST(test_restore__of_cut_and_empty_content),
		WORLD_TEST(test_restore__asks_for_permission),
		WORLD_TEST(test_undelete__brings_the_newest_back),
		WORLD_TEST(test_undelete__makes_the_folders),
		WORLD_TEST(test_undelete__needs_write_permission_on_the_folder),
		WORLD_TEST(test_admin_verbs__are_for_root),
		WORLD_TEST(test_settle__of_one_path),
		WORLD_TEST(test_fsck__of_a_clean_volume),
		WORLD_TEST(test_fsck__missing_and_short_objects),
		WORLD_TEST(test_fsck__repairs_counts),
		WORLD_TEST(test_fsck__orphans_come_to_lost_and_found),
		WORLD_TEST(test_fsck__directories_in_a_circle),
		WORLD_TEST(test_fsck__view_without_a_file_and_file_without_a_view),
		WORLD_TEST(test_fsck__an_object_of_another_inode),
	};

	return world_run_suite("verbs", tests, MFS_ARRAY_LEN(tests));
}
