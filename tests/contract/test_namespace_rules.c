/*
 * Storage rules on every engine: found up the parents, with several mounts, kept by moves; tags in the creating change; the list
 * of what was refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "meta/schema.h"
#include "tests/lib/namespace_world.h"

#define ROOT MFS_ROOT_INO

static int set_rules(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *text)
{
	struct mfs_attr a;

	return namespace_setxattr(w->ns[mount], &w->op, dir, SCHEMA_XATTR, text, strlen(text), 0, false, &a);
}

static int unset_rules(struct ns_world *w, mfs_ino_t dir)
{
	struct mfs_attr a;

	return namespace_removexattr(w->ns[0], &w->op, dir, SCHEMA_XATTR, &a);
}

static mfs_ino_t rules_from(struct ns_world *w, mfs_ino_t dir)
{
	mfs_ino_t from = 0;

	assert_int_equal(namespace_rules_from(w->ns[0], &w->op, dir, &from), 0);
	return from;
}

static int make(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *name, uint32_t mode)
{
	mfs_ino_t ino;

	return do_make(w, mount, dir, name, mode, &ino);
}

static int count_failure(void *arg, const struct failure *f)
{
	unsigned int *n = arg;

	assert_true(f->time > 0 && f->operation && f->path && f->reason);
	++*n;
	return 0;
}

static unsigned int failures(struct ns_world *w)
{
	unsigned int n = 0;

	assert_int_equal(namespace_failures(w->ns[0], &w->op, &(struct failure_query){ 0 }, count_failure, &n), 0);
	return n;
}

static void names_are_demanded(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), sub = mkdirat_(w, d, "sub"), f = mkfile(w, ROOT, "f.c");

	assert_int_equal(set_rules(w, 0, d, "{\"names\": [\"*.h\", \"x[0-9]\"]}"), 0);
	assert_int_equal(make(w, 0, sub, "a.h", S_IFREG | 0644), 0);
	assert_int_equal(make(w, 0, sub, "x7", S_IFREG | 0644), 0);
	assert_int_equal(make(w, 0, sub, "anything", S_IFDIR | 0755), 0);
	assert_int_equal(make(w, 0, ROOT, "a.c", S_IFREG | 0644), 0);
	assert_int_equal(failures(w), 0);
	assert_int_equal(make(w, 0, sub, "a.c", S_IFREG | 0644), -EPERM);
	assert_int_equal(make(w, 0, sub, "p", S_IFIFO | 0644), -EPERM);
	assert_int_equal(do_link(w, 0, f, d, "g.c"), -EPERM);
	assert_int_equal(do_link(w, 0, f, d, "g.h"), 0);
	assert_int_equal(do_rename(w, 0, ROOT, "f.c", d, "f.c", 0), -EPERM);
	assert_int_equal(do_rename(w, 0, sub, "a.h", sub, "b.c", 0), -EPERM);
	assert_int_equal(do_rename(w, 0, ROOT, "a.c", sub, "a.h", RENAME_EXCHANGE), 0); /* a.c is a name for the root */
	assert_int_equal(do_rename(w, 0, sub, "a.h", sub, "b.h", 0), 0);
	assert_int_equal(do_rename(w, 0, sub, "x7", ROOT, "a.c", RENAME_EXCHANGE), 0);
	assert_int_equal(do_rename(w, 0, ROOT, "f.c", sub, "x7", RENAME_EXCHANGE), 0);
	assert_int_equal(failures(w), 5);
	assert_int_equal(make(w, 0, sub, ".a.h.Ab12Cd", S_IFREG | 0644), 0);
	assert_int_equal(make(w, 0, sub, "a.c.part", S_IFREG | 0644), 0);
	assert_int_equal(do_rename(w, 0, sub, "a.c.part", sub, "a.c", 0), -EPERM);
	assert_int_equal(ns_world_check(w), 0);
}

static void the_nearest_directory_says(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t a = mkdirat_(w, ROOT, "a"), b = mkdirat_(w, a, "b"), c = mkdirat_(w, b, "c"), d = mkdirat_(w, ROOT, "d");

	assert_int_equal(rules_from(w, c), 0);
	assert_int_equal(set_rules(w, 0, a, "{}"), 0);
	assert_int_equal(rules_from(w, c), a);
	assert_int_equal(set_rules(w, 0, b, "{\"max_size\": 7}"), 0);
	assert_int_equal(rules_from(w, c), b);
	assert_int_equal(rules_from(w, a), a);
	assert_int_equal(do_rename(w, 0, b, "c", d, "c", 0), 0);
	assert_int_equal(rules_from(w, c), 0);
	assert_int_equal(do_rename(w, 0, ROOT, "d", b, "d", 0), 0);
	assert_int_equal(rules_from(w, c), b);
	assert_int_equal(unset_rules(w, b), 0);
	assert_int_equal(rules_from(w, c), a);
	assert_int_equal(unset_rules(w, b), -ENODATA);
	assert_int_equal(unset_rules(w, a), 0);
	assert_int_equal(rules_from(w, c), 0);
	assert_int_equal(set_rules(w, 0, ROOT, "{}"), 0);
	assert_int_equal(rules_from(w, c), ROOT);
}

static void tags_are_given(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f, link;
	char value[32];

	assert_int_equal(set_rules(w, 0, d, "{\"tags\": {\"year\": \"2026\", \"raw\": null, \"new\": null}}"), 0);
	f = mkfile(w, d, "f");
	assert_int_equal(namespace_getxattr(w->ns[0], &w->op, f, "user.year", value, sizeof(value)), 4);
	assert_memory_equal(value, "2026", 4);
	assert_int_equal(namespace_getxattr(w->ns[0], &w->op, f, "user.xdg.tags", value, sizeof(value)), 7);
	assert_memory_equal(value, "raw,new", 7);
	assert_true(attr_of(w, f).flags & ATTR_HAS_XATTR);
	assert_int_equal(do_make(w, 0, d, "fifo", S_IFIFO | 0644, &link), 0); /* user.* is for files and directories */
	assert_int_equal(namespace_listxattr(w->ns[0], &w->op, link, NULL, 0), 0);
}

static void sizes(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "f"), g = mkfile(w, ROOT, "g");
	struct content_rules rules;

	assert_int_equal(set_rules(w, 0, d, "{\"max_size\": 100}"), 0);
	assert_int_equal(namespace_content_rules(w->ns[0], &w->op, f, &rules), 0);
	assert_int_equal(rules.size_max, 100);
	assert_false(rules.at_close);
	assert_int_equal(namespace_content_rules(w->ns[0], &w->op, g, &rules), 0);
	assert_int_equal(rules.size_max, MFS_FILE_SIZE_MAX);
}

/* What another mount sets holds here as soon as its news have come. */
static void from_another_mount(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d");
	unsigned int other = w->kind->mounts > 1;

	assert_int_equal(make(w, other, d, "a", S_IFREG | 0644), 0);
	assert_int_equal(set_rules(w, 0, d, "{\"names\": [\"*.h\"]}"), 0);
	if (other)
		(void)namespace_news(w->ns[other], &(struct news){ .kind = NEWS_CELL, .cell = "schemas/1" });
	assert_int_equal(make(w, other, d, "b", S_IFREG | 0644), -EPERM);
	assert_int_equal(failures(w), 1);
}

static void what_is_no_rule(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "1", "{\"x\": 1}", "{\"names\": {}}", "{\"names\": [\"\"]}", "{\"names\": [1]}",
					   "{\"max_size\": 0}", "{\"max_size\": 1.5}", "{\"max_size\": 99999999999999999}",
					   "{\"tags\": []}", "{\"tags\": {\"a,b\": null}}", "{\"tags\": {\"\": \"x\"}}", "{} {}" };
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, ROOT, "f");

	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++)
		assert_int_equal(set_rules(w, 0, d, bad[i]), -EINVAL);
	assert_int_equal(set_rules(w, 0, f, "{}"), -EINVAL);
	assert_int_equal(rules_from(w, d), 0);
}

static const struct ns_test tests[] = {
	NS_TEST(names_are_demanded), NS_TEST(the_nearest_directory_says), NS_TEST(tags_are_given), NS_TEST(sizes),
	NS_TEST(from_another_mount), NS_TEST(what_is_no_rule),
};

int main(void)
{
	return ns_suite_run("rules", tests, MFS_ARRAY_LEN(tests));
}
