/*
 * The namespace on every engine: making, links, removal, paths and keys.
 */
#include <errno.h>
#include <inttypes.h>

#include "tests/lib/namespace_world.h"

#define ROOT MFS_ROOT_INO

static void make_sets_everything(void **state)
{
	struct ns_world *w = *state;
	struct make m = { .parent = ROOT, .name = "f", .name_len = 1, .mode = S_IFREG | 0666 };
	int64_t before = mfs_now_ns();
	struct node n = NODE_INIT;

	w->op.uid = 0;
	w->op.gid = 7;
	w->op.umask = 022;
	assert_int_equal(namespace_make(w->ns[0], &w->op, &m, &n), 0);
	assert_int_equal(n.attr.mode, S_IFREG | 0644);
	assert_int_equal(n.attr.nlink, 1);
	assert_int_equal(n.attr.gid, 7);
	assert_int_equal(n.attr.size, 0);
	assert_true(n.attr.ino >= MFS_FIRST_INO);
	assert_true(n.attr.mtime >= before && n.attr.mtime == n.attr.ctime && n.attr.btime == n.attr.atime);
	assert_int_equal(n.creator_uid, 0);
	assert_string_equal(n.creator_user, "root");
	assert_string_equal(n.creator_host, "testhost");
	assert_int_equal(n.parent, ROOT);
	node_release(&n);
	assert_int_equal(namespace_make(w->ns[0], &w->op, &m, &n), -EEXIST);
}

static void make_touches_the_parent(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d");
	struct mfs_attr before = attr_of(w, d), after;

	mkfile(w, d, "f");
	after = attr_of(w, d);
	assert_true(after.mtime > before.mtime && after.ctime == after.mtime && after.ver > before.ver);
	assert_int_equal(after.atime, before.atime);
	assert_int_equal(after.children, 1);
	assert_int_equal(after.nlink, 1);
	mkdirat_(w, d, "sub");
	assert_int_equal(attr_of(w, d).nlink, dir_nlink(w, 1));
	assert_int_equal(do_rmdir(w, 0, d, "sub"), 0);
	assert_int_equal(attr_of(w, d).nlink, 1);
}

static void make_kinds(void **state)
{
	struct ns_world *w = *state;
	struct make m = {
		.parent = ROOT, .name = "dev", .name_len = 3, .mode = S_IFCHR | 0600, .rdev = 0x503
	};
	struct node n = NODE_INIT;
	mfs_ino_t link;

	assert_int_equal(namespace_make(w->ns[0], &w->op, &m, &n), 0);
	assert_int_equal(n.attr.rdev, 0x503);
	node_release(&n);
	mk(w, ROOT, "fifo", S_IFIFO | 0600);
	mk(w, ROOT, "sock", S_IFSOCK | 0600);
	w->op.umask = 077;
	link = mk(w, ROOT, "link", S_IFLNK);
	assert_int_equal(namespace_get(w->ns[0], &w->op, link, &n), 0);
	assert_string_equal(n.symlink, "target");
	assert_int_equal(n.attr.size, 6);
	assert_int_equal(n.attr.mode, S_IFLNK | 0777);
	node_release(&n);
	assert_int_equal(do_make(w, 0, ROOT, "what", 0644, NULL), -EINVAL);
}

static void symlink_limits(void **state)
{
	struct ns_world *w = *state;
	char target[MFS_SYMLINK_MAX + 2];
	struct make m = { .parent = ROOT, .name = "l", .name_len = 1, .mode = S_IFLNK, .symlink = target };
	struct node n = NODE_INIT;

	memset(target, 'x', sizeof(target));
	target[MFS_SYMLINK_MAX + 1] = '\0';
	assert_int_equal(namespace_make(w->ns[0], &w->op, &m, &n), -ENAMETOOLONG);
	target[MFS_SYMLINK_MAX] = '\0';
	assert_int_equal(namespace_make(w->ns[0], &w->op, &m, &n), 0);
	assert_int_equal(n.attr.size, MFS_SYMLINK_MAX);
	node_release(&n);
	target[0] = '\0';
	m.name = "k";
	assert_int_equal(namespace_make(w->ns[0], &w->op, &m, &n), -ENOENT);
}

static void names_that_cannot_be(void **state)
{
	struct ns_world *w = *state;
	char longest[MFS_NAME_MAX + 2];
	mfs_ino_t f = mkfile(w, ROOT, "f"), d = mkdirat_(w, ROOT, "d");

	memset(longest, 'n', sizeof(longest));
	longest[MFS_NAME_MAX + 1] = '\0';
	assert_int_equal(do_make(w, 0, ROOT, longest, S_IFREG, NULL), -ENAMETOOLONG);
	assert_int_equal(do_link(w, 0, f, ROOT, longest), -ENAMETOOLONG);
	assert_int_equal(do_unlink(w, 0, ROOT, longest), -ENAMETOOLONG);
	assert_int_equal(do_rename(w, 0, ROOT, "f", ROOT, longest, 0), -ENAMETOOLONG);
	longest[MFS_NAME_MAX] = '\0';
	mkfile(w, ROOT, longest);
	assert_int_equal(do_make(w, 0, ROOT, "a/b", S_IFREG, NULL), -EINVAL);
	assert_int_equal(do_make(w, 0, ROOT, "", S_IFREG, NULL), -EINVAL);
	assert_int_equal(do_make(w, 0, ROOT, "..", S_IFREG, NULL), -EINVAL);
	assert_int_equal(do_make(w, 0, ROOT, ".massfs", S_IFDIR, NULL), -EPERM);
	assert_int_equal(do_link(w, 0, f, ROOT, ".massfs"), -EPERM);
	assert_int_equal(do_rename(w, 0, ROOT, "f", ROOT, ".massfs", 0), -EPERM);
	assert_int_equal(do_rename(w, 0, ROOT, ".massfs", ROOT, "x", 0), -ENOENT);
	assert_int_equal(ino_at(w, ROOT, ".massfs"), 0);
	mkfile(w, d, ".massfs"); /* only the root's is ours */
	mkfile(w, ROOT, "\x01\xfe\xff any bytes\n");
	assert_true(ino_at(w, ROOT, "\x01\xfe\xff any bytes\n"));
}

static void make_in_what_is_no_directory(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), d = mkdirat_(w, ROOT, "d");

	assert_int_equal(do_make(w, 0, f, "x", S_IFREG, NULL), -ENOTDIR);
	assert_int_equal(do_link(w, 0, f, f, "x"), -ENOTDIR);
	assert_int_equal(do_rename(w, 0, ROOT, "f", f, "x", 0), -ENOTDIR);
	assert_int_equal(do_rmdir(w, 0, ROOT, "d"), 0);
	assert_int_equal(do_make(w, 0, d, "x", S_IFREG, NULL), -ENOENT);
	assert_int_equal(do_link(w, 0, f, d, "x"), -ENOENT);
	assert_int_equal(do_rename(w, 0, ROOT, "f", d, "x", 0), -ENOENT);
	assert_int_equal(do_unlink(w, 0, d, "x"), -ENOENT);
}

static void setgid_is_inherited(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d;

	w->op.gid = 50;
	d = mk(w, ROOT, "d", S_IFDIR | 02775);
	w->op.gid = 60;
	assert_int_equal(attr_of(w, mkfile(w, d, "f")).gid, 50);
	assert_int_equal(attr_of(w, mkdirat_(w, d, "sub")).gid, 50);
	assert_int_equal(attr_of(w, ino_at(w, d, "sub")).mode, S_IFDIR | 02755);
	assert_int_equal(attr_of(w, ino_at(w, d, "f")).mode, S_IFREG | 0644);
	assert_int_equal(attr_of(w, mkfile(w, ROOT, "g")).gid, 60);
}

static void inode_numbers_are_new(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t last = 0;

	/* Beyond one batch of reserved numbers. */
	for (int i = 0; i < 1100; i++) {
		mfs_ino_t ino = mkfile(w, ROOT, "f");

		assert_true(ino > last);
		last = ino;
		assert_int_equal(do_unlink(w, 0, ROOT, "f"), 0);
	}
	assert_true(mkfile(w, ROOT, "g") != last);
}

static void unlink_to_trash(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "f"), g = mkfile(w, d, "g");
	struct mfs_attr a, dir = attr_of(w, d), old = attr_of(w, f);
	struct node n = NODE_INIT;

	w->open_ino = f;
	assert_int_equal(namespace_unlink(w->ns[0], &w->op, d, "f", 1, &a), 0);
	assert_int_equal(a.ino, f);
	assert_int_equal(a.nlink, 0);
	assert_true(a.flags & ATTR_IN_TRASH);
	assert_true(a.ctime > old.ctime && a.mtime == old.mtime);
	assert_true(attr_of(w, d).mtime > dir.mtime);
	assert_int_equal(ino_at(w, d, "f"), 0);
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_string_equal(n.trash_path, "d/f");
	assert_true(n.trash_time >= dir.mtime);
	assert_true(node_blob_has_u64(&n.openers, 100));
	node_release(&n);
	assert_null(path_of(w, f));
	assert_int_equal(do_unlink(w, 0, d, "f"), -ENOENT);
	assert_int_equal(do_unlink(w, 0, ROOT, "d"), -EISDIR);
	assert_int_equal(do_unlink(w, 0, d, "g"), 0);
	assert_int_equal(namespace_get(w->ns[0], &w->op, g, &n), 0);
	assert_false(node_blob_has_u64(&n.openers, 100));
	node_release(&n);
	assert_int_equal(do_rmdir(w, 0, ROOT, "d"), 0);
}

static void closed_forgets_the_opener(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), g = mkfile(w, ROOT, "g");
	struct node n = NODE_INIT;

	w->open_ino = f;
	assert_int_equal(do_unlink(w, 0, ROOT, "f"), 0);
	assert_int_equal(namespace_closed(w->ns[0], &w->op, f), 0);
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_false(node_blob_has_u64(&n.openers, 100));
	node_release(&n);
	assert_int_equal(namespace_closed(w->ns[0], &w->op, f), 0);
	assert_int_equal(namespace_closed(w->ns[0], &w->op, g), 0);
	assert_int_equal(namespace_closed(w->ns[0], &w->op, 424242), 0);
}

static void unlink_of_special_files(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mk(w, ROOT, "fifo", S_IFIFO | 0600), l = mk(w, ROOT, "link", S_IFLNK);
	struct node n = NODE_INIT;
	struct mfs_attr a;

	assert_int_equal(namespace_unlink(w->ns[0], &w->op, ROOT, "fifo", 4, &a), 0);
	assert_int_equal(a.ino, f);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), -ESTALE);
	assert_int_equal(do_unlink(w, 0, ROOT, "link"), 0);
	assert_int_equal(namespace_get(w->ns[0], &w->op, l, &n), 0);
	assert_true(n.attr.flags & ATTR_IN_TRASH);
	node_release(&n);
}

static void links(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, ROOT, "a");
	struct mfs_attr a, old = attr_of(w, f);

	assert_int_equal(namespace_link(w->ns[0], &w->op, f, d, "b", 1, &a), 0);
	assert_int_equal(a.ino, f);
	assert_int_equal(a.nlink, 2);
	assert_true(a.ctime > old.ctime);
	assert_int_equal(ino_at(w, d, "b"), f);
	assert_int_equal(do_link(w, 0, f, d, "b"), -EEXIST);
	assert_int_equal(do_link(w, 0, f, ROOT, "a"), -EEXIST);
	assert_int_equal(attr_of(w, f).nlink, 2);
	assert_int_equal(do_link(w, 0, d, ROOT, "x"), -EPERM);
	assert_int_equal(do_link(w, 0, 424242, ROOT, "x"), -ENOENT);
	/* A further link goes. */
	assert_int_equal(namespace_unlink(w->ns[0], &w->op, d, "b", 1, &a), 0);
	assert_int_equal(a.nlink, 1);
	assert_int_equal(ino_at(w, ROOT, "a"), f);
	assert_int_equal(do_unlink(w, 0, ROOT, "a"), 0);
	assert_int_equal(do_link(w, 0, f, ROOT, "x"), -ENOENT);
}

static void the_first_name_goes(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, ROOT, "a");
	struct mfs_attr a;
	char *path;

	assert_int_equal(do_link(w, 0, f, d, "b"), 0);
	assert_int_equal(do_link(w, 0, f, d, "c"), 0);
	assert_int_equal(namespace_unlink(w->ns[0], &w->op, ROOT, "a", 1, &a), 0);
	assert_int_equal(a.nlink, 2);
	assert_int_equal(a.ino, f);
	assert_int_equal(ino_at(w, ROOT, "a"), 0);
	path = path_of(w, f);
	assert_string_equal(path, "d/b"); /* the oldest */
	free(path);
	assert_int_equal(ns_world_check(w), 0);
	assert_int_equal(do_unlink(w, 0, d, "b"), 0);
	assert_int_equal(ns_world_check(w), 0);
	assert_int_equal(do_unlink(w, 0, d, "c"), 0);
	assert_int_equal(attr_of(w, f).nlink, 0);
}

static void unlink_queues(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "a"), g;
	unsigned int wakes = w->wakes;

	assert_int_equal(do_unlink(w, 0, ROOT, "a"), 0);
	assert_jobs(w, ""); /* it had no object */
	assert_int_equal(w->wakes, wakes);
	f = mkfile(w, ROOT, "a");
	put(w, f, NULL, 10);
	assert_jobs(w, "");
	assert_int_equal(do_link(w, 0, f, ROOT, "b"), 0);
	assert_jobs(w, "");
	assert_int_equal(do_unlink(w, 0, ROOT, "b"), 0);
	assert_jobs(w, ""); /* its object is at the other name */
	assert_int_equal(do_link(w, 0, f, ROOT, "b"), 0);
	assert_int_equal(do_unlink(w, 0, ROOT, "a"), 0);
	assert_jobs(w, fmt("file %" PRIu64 "\nkey a\n", f));
	assert_true(w->wakes > wakes);
	assert_int_equal(do_unlink(w, 0, ROOT, "b"), 0);
	assert_jobs(w, "key a\n");
	/* An alias whose name the object has. */
	g = mkfile(w, ROOT, "g");
	assert_int_equal(do_link(w, 0, g, ROOT, "h"), 0);
	put(w, g, "h", 3);
	assert_jobs(w, "");
	assert_int_equal(do_unlink(w, 0, ROOT, "h"), 0);
	assert_jobs(w, fmt("file %" PRIu64 "\nkey h\n", g));
}

/* The object is still at the key that the name had before its directory moved; the walk of that will not find it. */
static void unlink_below_a_moved_directory_queues_the_file(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "a");

	put(w, f, NULL, 10);
	assert_int_equal(do_link(w, 0, f, ROOT, "b"), 0);
	assert_int_equal(do_rename(w, 0, ROOT, "d", ROOT, "e", 0), 0);
	assert_jobs(w, fmt("dir %" PRIu64 "\n", d));
	assert_int_equal(do_unlink(w, 0, d, "a"), 0);
	assert_jobs(w, fmt("file %" PRIu64 "\n", f));
	/* The same with the further link in the directory. */
	f = mkfile(w, ROOT, "c");
	assert_int_equal(do_link(w, 0, f, d, "l"), 0);
	put(w, f, "e/l", 3);
	assert_jobs(w, "");
	assert_int_equal(do_rename(w, 0, ROOT, "e", ROOT, "g", 0), 0);
	assert_jobs(w, fmt("dir %" PRIu64 "\n", d));
	assert_int_equal(do_unlink(w, 0, d, "l"), 0);
	assert_jobs(w, fmt("file %" PRIu64 "\n", f));
}

static void rmdir_rules(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), e = mkdirat_(w, d, "e");
	struct node n = NODE_INIT;
	struct mfs_attr a;

	mkfile(w, ROOT, "f");
	assert_int_equal(do_rmdir(w, 0, ROOT, "none"), -ENOENT);
	assert_int_equal(do_rmdir(w, 0, ROOT, "f"), -ENOTDIR);
	assert_int_equal(do_rmdir(w, 0, ROOT, "d"), -ENOTEMPTY);
	assert_int_equal(namespace_rmdir(w->ns[0], &w->op, d, "e", 1, &a), 0);
	assert_int_equal(a.ino, e);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(namespace_get(w->ns[0], &w->op, e, &n), -ESTALE);
	assert_int_equal(do_rmdir(w, 0, ROOT, "d"), 0);
	assert_int_equal(attr_of(w, ROOT).children, 1);
	/* Only a further link inside is a child too. */
	d = mkdirat_(w, ROOT, "d");
	assert_int_equal(do_link(w, 0, ino_at(w, ROOT, "f"), d, "l"), 0);
	assert_int_equal(do_rmdir(w, 0, ROOT, "d"), -ENOTEMPTY);
}

static void listing(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f;
	struct node_list l = NODE_LIST_INIT;
	uint64_t after;

	for (int i = 0; i < 10; i++)
		mkfile(w, d, fmt("f%d", i));
	f = ino_at(w, d, "f3");
	assert_int_equal(do_link(w, 0, f, d, "alias"), 0);
	assert_int_equal(namespace_list(w->ns[0], &w->op, d, 0, 4, &l), 0);
	assert_int_equal(l.n, 4);
	assert_string_equal(l.v[0].name.bytes, "f0");
	after = l.v[3].pos;
	/* What was listed may go and be renamed: the cursor holds. */
	assert_int_equal(do_unlink(w, 0, d, "f3"), 0);
	assert_int_equal(do_rename(w, 0, d, "f5", d, "zzz", 0), 0);
	assert_int_equal(namespace_list(w->ns[0], &w->op, d, after, 100, &l), 0);
	assert_int_equal(l.n, 4 + 7);
	assert_string_equal(l.v[4].name.bytes, "f4");
	assert_string_equal(l.v[5].name.bytes, "zzz");
	assert_string_equal(l.v[10].name.bytes, "alias");
	assert_int_equal(l.v[10].attr.ino, f);
	node_list_release(&l);
	assert_int_equal(namespace_list(w->ns[0], &w->op, 424242, 0, 100, &l), 0);
	assert_int_equal(l.n, 0);
}

static void assert_path(struct ns_world *w, mfs_ino_t ino, const char *expected)
{
	char *p = path_of(w, ino);

	assert_non_null(p);
	assert_string_equal(p, expected);
	free(p);
}

static void paths(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, a, "b"), f = mkfile(w, b, "f"),
		  x = mkdirat_(w, ROOT, "x");
	struct entry e;

	assert_path(w, ROOT, "");
	assert_path(w, a, "a");
	assert_path(w, f, "a/b/f");
	/* What is remembered of a directory must go with its rename, wherever it moves. */
	assert_int_equal(do_rename(w, 0, a, "b", a, "c", 0), 0);
	assert_path(w, f, "a/c/f");
	assert_int_equal(do_rename(w, 0, ROOT, "a", x, "a2", 0), 0);
	assert_path(w, f, "x/a2/c/f");
	assert_int_equal(do_rename(w, 0, ROOT, "x", x, "in", 0), -EINVAL);
	mkdirat_(w, ROOT, "y");
	assert_int_equal(do_rename(w, 0, x, "a2", ROOT, "y", RENAME_EXCHANGE), 0);
	assert_path(w, f, "y/c/f");
	assert_null(path_of(w, 424242));
	assert_int_equal(namespace_resolve(w->ns[0], &w->op, "y/c/f", 5, &e), 0);
	assert_int_equal(e.node.attr.ino, f);
	assert_int_equal(e.parent, b);
	entry_release(&e);
	assert_int_equal(namespace_resolve(w->ns[0], &w->op, "", 0, &e), 0);
	assert_int_equal(e.node.attr.ino, ROOT);
	entry_release(&e);
	assert_int_equal(namespace_resolve(w->ns[0], &w->op, "y/none/f", 8, &e), -ENOENT);
	assert_int_equal(namespace_resolve(w->ns[0], &w->op, "y/c/f/g", 7, &e), -ENOTDIR);
}

static void deep_paths(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = ROOT;
	char *p;

	for (int i = 0; i < 600; i++)
		d = mkdirat_(w, d, "directory");
	p = path_of(w, d);
	assert_int_equal(strlen(p), 600 * 10 - 1);
	free(p);
	mkfile(w, d, "f");
	put(w, ino_at(w, d, "f"), NULL, 5); /* too long for a key */
	assert_int_equal(do_unlink(w, 0, d, "f"), 0);
}

static void assert_key(struct ns_world *w, mfs_ino_t ino, const char *expected, bool temporary)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(1 << 20);
	bool temp = !temporary;

	assert_int_equal(namespace_key(w->ns[0], &w->op, ino, &b, &temp), 0);
	assert_string_equal(b.data, expected);
	assert_int_equal(temp, temporary);
}

static void keys(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f, g;

	assert_key(w, mkfile(w, d, "f"), "d/f", false);
	f = mkfile(w, d, "\xff");
	assert_key(w, f, fmt(".massfs/o/%" PRIu64, f), false);
	/* rsync's name, and what looks like it. */
	assert_key(w, mkfile(w, d, ".photo.jpg.Ab3xYz"), "d/photo.jpg", true);
	assert_key(w, mkfile(w, d, ".f.Ab3xYz"), "d/.f.Ab3xYz", false); /* there is an f */
	assert_key(w, mkfile(w, d, ".photo.Ab3x_z"), "d/.photo.Ab3x_z", false);
	assert_key(w, mkfile(w, d, ".photo.Ab3xY"), "d/.photo.Ab3xY", false);
	assert_key(w, mkfile(w, d, "photo.Ab3xYz"), "d/photo.Ab3xYz", false);
	assert_key(w, mkfile(w, d, "..Ab3xYz"), "d/..Ab3xYz", false);
	assert_key(w, mkfile(w, d, "...Ab3xYz"), "d/...Ab3xYz", false); /* of "." */
	assert_key(w, mkfile(w, d, "big.iso.part"), "d/big.iso", true);
	assert_key(w, mkfile(w, d, ".part"), "d/.part", false);
	assert_key(w, mkfile(w, d, "..part"), "d/..part", false);
	f = mkfile(w, ROOT, ".massfs.x.part"); /* neither name can be a key */
	assert_key(w, f, fmt(".massfs/o/%" PRIu64, f), false);
	g = mkfile(w, d, "gone");
	assert_int_equal(do_unlink(w, 0, d, "gone"), 0);
	assert_key(w, g, fmt(".massfs/o/%" PRIu64, g), false);
}

static const struct ns_test tests[] = {
	NS_TEST(make_sets_everything),
	NS_TEST(make_touches_the_parent),
	NS_TEST(make_kinds),
	NS_TEST(symlink_limits),
	NS_TEST(names_that_cannot_be),
	NS_TEST(make_in_what_is_no_directory),
	NS_TEST(setgid_is_inherited),
	NS_TEST(inode_numbers_are_new),
	NS_TEST(unlink_to_trash),
	NS_TEST(closed_forgets_the_opener),
	NS_TEST(unlink_of_special_files),
	NS_TEST(links),
	NS_TEST(the_first_name_goes),
	NS_TEST(unlink_queues),
	NS_TEST(unlink_below_a_moved_directory_queues_the_file),
	NS_TEST(rmdir_rules),
	NS_TEST(listing),
	NS_TEST(paths),
	NS_TEST(deep_paths),
	NS_TEST(keys),
};

int main(void)
{
	return ns_suite_run("namespace", tests, MFS_ARRAY_LEN(tests));
}
