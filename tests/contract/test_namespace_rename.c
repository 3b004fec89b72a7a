/*
 * rename on every engine: rename(2)'s rules, hard links on either side, the flags, and what it leaves to do.
 */
#include <errno.h>
#include <inttypes.h>

#include "tests/lib/namespace_world.h"

#define ROOT MFS_ROOT_INO

static struct rename_result rename_ok(struct ns_world *w, mfs_ino_t fd, const char *from, mfs_ino_t td,
				      const char *to, unsigned int flags)
{
	struct rename_result res;

	assert_int_equal(
		namespace_rename(w->ns[0], &w->op, fd, from, strlen(from), td, to, strlen(to), flags, &res),
		0);
	assert_int_equal(ns_world_check(w), 0);
	return res;
}

static void onto_a_free_name(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, ROOT, "b"), f = mkfile(w, a, "f");
	struct mfs_attr fa = attr_of(w, f), aa = attr_of(w, a), ba = attr_of(w, b);
	struct rename_result res = rename_ok(w, a, "f", b, "g", 0);

	assert_int_equal(res.moved.ino, f);
	assert_int_equal(res.replaced.ino, 0);
	assert_true(res.moved.ctime > fa.ctime && res.moved.mtime == fa.mtime);
	assert_int_equal(ino_at(w, a, "f"), 0);
	assert_int_equal(ino_at(w, b, "g"), f);
	assert_true(attr_of(w, a).mtime > aa.mtime && attr_of(w, b).mtime > ba.mtime);
	assert_true(attr_of(w, a).ctime > aa.ctime && attr_of(w, b).ctime > ba.ctime);
	assert_jobs(w, "");
	rename_ok(w, b, "g", b, "h", 0);
	assert_int_equal(do_rename(w, 0, b, "g", b, "h", 0), -ENOENT);
	assert_int_equal(do_rename(w, 0, b, "none", a, "h", RENAME_NOREPLACE | RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(do_rename(w, 0, b, "h", a, "h", 0x80), -EINVAL);
}

static void over_a_file(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, ROOT, "f"), g = mkfile(w, d, "g");
	struct rename_result res;
	struct node n = NODE_INIT;

	assert_int_equal(do_rename(w, 0, ROOT, "f", d, "g", RENAME_NOREPLACE), -EEXIST);
	res = rename_ok(w, ROOT, "f", d, "g", 0);
	assert_int_equal(res.replaced.ino, g);
	assert_int_equal(res.replaced.nlink, 0);
	assert_true(res.replaced.flags & ATTR_IN_TRASH);
	assert_int_equal(ino_at(w, d, "g"), f);
	assert_int_equal(namespace_get(w->ns[0], &w->op, g, &n), 0);
	assert_string_equal(n.trash_path, "d/g");
	node_release(&n);
	/* Over one that trash does not keep. */
	mk(w, ROOT, "fifo", S_IFIFO);
	res = rename_ok(w, d, "g", ROOT, "fifo", 0);
	assert_int_equal(res.replaced.nlink, 0);
}

static void directories(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, ROOT, "b"), sub = mkdirat_(w, a, "sub");
	struct rename_result res;

	mkfile(w, ROOT, "f");
	mkfile(w, b, "child");
	assert_int_equal(do_rename(w, 0, ROOT, "f", ROOT, "a", 0), -EISDIR);
	assert_int_equal(do_rename(w, 0, ROOT, "a", ROOT, "f", 0), -ENOTDIR);
	assert_int_equal(do_rename(w, 0, ROOT, "a", ROOT, "b", 0), -ENOTEMPTY);
	assert_int_equal(do_rename(w, 0, ROOT, "a", sub, "x", 0), -EINVAL);
	assert_int_equal(do_rename(w, 0, ROOT, "a", a, "x", 0), -EINVAL);
	assert_int_equal(do_rename(w, 0, a, "sub", ROOT, "a", 0), -ENOTEMPTY);
	assert_int_equal(do_unlink(w, 0, b, "child"), 0);
	assert_jobs(w, "");
	res = rename_ok(w, ROOT, "a", ROOT, "b", 0);
	assert_int_equal(res.replaced.ino, b);
	assert_int_equal(res.replaced.nlink, 0);
	assert_jobs(w, fmt("dir %" PRIu64 "\n", a));
	assert_int_equal(ino_at(w, a, "sub"), sub);
	assert_int_equal(ino_at(w, ROOT, "b"), a);
}

static void same_inode(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), d = mkdirat_(w, ROOT, "d");
	struct mfs_attr before;
	struct rename_result res;

	assert_int_equal(do_link(w, 0, f, ROOT, "g"), 0);
	before = attr_of(w, f);
	res = rename_ok(w, ROOT, "f", ROOT, "g", 0);
	assert_int_equal(res.replaced.ino, 0);
	rename_ok(w, ROOT, "g", ROOT, "f", 0);
	rename_ok(w, ROOT, "f", ROOT, "f", 0);
	rename_ok(w, ROOT, "d", ROOT, "d", 0);
	rename_ok(w, ROOT, "f", ROOT, "g", RENAME_EXCHANGE);
	assert_int_equal(do_rename(w, 0, ROOT, "f", ROOT, "g", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(attr_of(w, f).ver, before.ver);
	assert_int_equal(ino_at(w, ROOT, "f"), f);
	assert_int_equal(ino_at(w, ROOT, "g"), f);
	assert_int_equal(ino_at(w, ROOT, "d"), d);
}

/* Every combination: the moved name is the record's own or an alias; so is the replaced one, or it is the last. */
static void hard_links(void **state)
{
	struct ns_world *w = *state;

	for (int i = 0; i < 6; i++) {
		mfs_ino_t d = mkdirat_(w, ROOT, fmt("d%d", i)), src = mkfile(w, d, "s"),
			  dst = mkfile(w, d, "t");
		const char *from = i % 2 ? "s2" : "s", *to = i / 2 == 1 ? "t2" : "t";
		struct mfs_attr before;
		struct rename_result res;

		assert_int_equal(do_link(w, 0, src, d, "s2"), 0);
		if (i / 2 < 2) {
			assert_int_equal(do_link(w, 0, dst, d, "t2"), 0);
			assert_int_equal(do_link(w, 0, dst, d, "t3"), 0);
		}
		before = attr_of(w, dst);
		res = rename_ok(w, d, from, d, to, 0);
		assert_int_equal(ino_at(w, d, from), 0);
		assert_int_equal(ino_at(w, d, to), src);
		assert_int_equal(ino_at(w, d, i % 2 ? "s" : "s2"), src);
		assert_int_equal(res.moved.nlink, 2);
		assert_int_equal(res.replaced.ino, dst);
		assert_int_equal(res.replaced.nlink, i / 2 < 2 ? 2 : 0);
		assert_true(res.replaced.ctime > before.ctime);
		if (i / 2 < 2)
			assert_int_equal(ino_at(w, d, "t3"), dst);
	}
}

static void exchange(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, ROOT, "b"), f = mkfile(w, a, "f"),
		  g = mkfile(w, b, "g");
	mfs_ino_t sub = mkdirat_(w, a, "sub");
	struct mfs_attr before = attr_of(w, g);
	struct rename_result res;

	assert_int_equal(do_rename(w, 0, a, "f", b, "none", RENAME_EXCHANGE), -ENOENT);
	res = rename_ok(w, a, "f", b, "g", RENAME_EXCHANGE);
	assert_int_equal(res.moved.ino, f);
	assert_int_equal(res.replaced.ino, g);
	assert_int_equal(res.replaced.nlink, 1);
	assert_true(res.replaced.ctime > before.ctime);
	assert_int_equal(ino_at(w, a, "f"), g);
	assert_int_equal(ino_at(w, b, "g"), f);
	assert_jobs(w, "");
	/* A directory with a file, in one directory and in two. */
	rename_ok(w, a, "sub", b, "g", RENAME_EXCHANGE);
	assert_int_equal(ino_at(w, b, "g"), sub);
	assert_int_equal(ino_at(w, a, "sub"), f);
	assert_jobs(w, fmt("dir %" PRIu64 "\n", sub));
	rename_ok(w, a, "sub", a, "f", RENAME_EXCHANGE);
	/* Names that are further links, on both sides. */
	assert_int_equal(do_link(w, 0, f, ROOT, "f2"), 0);
	assert_int_equal(do_link(w, 0, g, b, "g2"), 0);
	rename_ok(w, ROOT, "f2", b, "g2", RENAME_EXCHANGE);
	assert_int_equal(ino_at(w, ROOT, "f2"), g);
	assert_int_equal(ino_at(w, b, "g2"), f);
	rename_ok(w, ROOT, "f2", a, "f", RENAME_EXCHANGE);
	/* Two directories. */
	rename_ok(w, ROOT, "a", b, "g", RENAME_EXCHANGE);
	assert_int_equal(ino_at(w, b, "g"), a);
	assert_int_equal(ino_at(w, ROOT, "a"), sub);
}

static void exchange_makes_no_cycle(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, a, "b"), c = mkdirat_(w, b, "c");

	/* a would come to lie in b, which is below it; and the same from the other side. */
	assert_int_equal(do_rename(w, 0, ROOT, "a", b, "c", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(do_rename(w, 0, b, "c", ROOT, "a", RENAME_EXCHANGE), -EINVAL);
	mkfile(w, c, "f");
	assert_int_equal(do_rename(w, 0, ROOT, "a", c, "f", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(do_rename(w, 0, c, "f", ROOT, "a", RENAME_EXCHANGE), -EINVAL);
}

static void jobs(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), g = mkfile(w, ROOT, "g"), h;

	put(w, f, NULL, 5);
	put(w, g, NULL, 6);
	assert_jobs(w, "");
	rename_ok(w, ROOT, "f", ROOT, "h", 0);
	assert_jobs(w, "key h\n"); /* the settle queues f, which it leaves */
	rename_ok(w, ROOT, "h", ROOT, "f", 0);
	assert_jobs(w, ""); /* back where its object is */
	rename_ok(w, ROOT, "f", ROOT, "g", 0);
	assert_jobs(w, "key g\n");
	h = mkfile(w, ROOT, "\xff");
	assert_int_equal(do_rename(w, 0, ROOT, "g", ROOT, "\xff", 0), 0);
	assert_jobs(w, fmt("file %" PRIu64 "\n",
			   f)); /* no key stands for that path: the file itself is looked at */
	assert_int_equal(attr_of(w, h).nlink, 0);
	/* A second name, and the object at the first. */
	f = mkfile(w, ROOT, "x");
	put(w, f, NULL, 1);
	assert_int_equal(do_link(w, 0, f, ROOT, "y"), 0);
	rename_ok(w, ROOT, "y", ROOT, "z", 0);
	assert_jobs(w, fmt("file %" PRIu64 "\n", f));
	rename_ok(w, ROOT, "x", ROOT, "w", 0);
	assert_jobs(w, fmt("file %" PRIu64 "\n", f));
}

static void jobs_of_exchange(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), d = mkdirat_(w, ROOT, "d");

	put(w, f, NULL, 5);
	put(w, mkfile(w, ROOT, "g"), NULL, 6);
	rename_ok(w, ROOT, "f", ROOT, "g", RENAME_EXCHANGE);
	assert_jobs(w, "key f\nkey g\n");
	rename_ok(w, ROOT, "f", ROOT, "g", RENAME_EXCHANGE);
	assert_jobs(w, "");
	rename_ok(w, ROOT, "f", ROOT, "d", RENAME_EXCHANGE);
	assert_jobs(w, fmt("dir %" PRIu64 "\nkey d\n", d));
}

/* rsync: a temporary name whose object is at the final name's key already. */
static void jobs_of_a_temporary_name(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, ".photo.Ab3xYz"), old;

	put(w, f, NULL, 5);
	assert_jobs(w, fmt("file %" PRIu64 "\n", f)); /* later, in case the rename never comes */
	rename_ok(w, ROOT, ".photo.Ab3xYz", ROOT, "photo", 0);
	assert_jobs(w, "");
	/* Over the old one: its object is at its own temporary name, and the key has to be looked at. */
	old = f;
	f = mkfile(w, ROOT, ".photo.Ab3xYz");
	put(w, f, NULL, 5);
	assert_jobs(w, "");
	rename_ok(w, ROOT, ".photo.Ab3xYz", ROOT, "photo", 0);
	assert_jobs(w, "key photo\n");
	assert_int_equal(attr_of(w, old).nlink, 0);
	/* The name was taken between upload and rename, by a file with an object at the same key. */
	f = mkfile(w, ROOT, "a.part");
	put(w, f, NULL, 5);
	put(w, mkfile(w, ROOT, "a"), NULL, 7);
	free(take_jobs(w));
	rename_ok(w, ROOT, "a.part", ROOT, "a", 0);
	assert_jobs(w, "key a\n");
}

static const struct ns_test tests[] = {
	NS_TEST(onto_a_free_name),
	NS_TEST(over_a_file),
	NS_TEST(directories),
	NS_TEST(same_inode),
	NS_TEST(hard_links),
	NS_TEST(exchange),
	NS_TEST(exchange_makes_no_cycle),
	NS_TEST(jobs),
	NS_TEST(jobs_of_exchange),
	NS_TEST(jobs_of_a_temporary_name),
};

int main(void)
{
	return ns_suite_run("rename", tests, MFS_ARRAY_LEN(tests));
}
