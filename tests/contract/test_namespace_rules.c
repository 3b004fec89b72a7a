/*
 * Storage rules on every engine: found up the parents, with several mounts, kept by moves; tags in the creating change; the list
 * of what was refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "meta/namespace_internal.h"
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
					   "{\"tags\": []}", "{\"tags\": {\"a,b\": null}}", "{\"tags\": {\"\": \"x\"}}", "{} {}",
					   "{\"min_size\": -1}", "{\"min_size\": 2, \"max_size\": 1}", "{\"types\": \"image/*\"}",
					   "{\"types\": [\"\"]}", "{\"demanded_tags\": [\"x\"]}", "{\"demanded_tags\": {\"a,b\": null}}",
					   "{\"grace\": -1}", "{\"grace\": 1.5}", "{\"grace\": 99999999999}" };
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, ROOT, "f");

	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++)
		assert_int_equal(set_rules(w, 0, d, bad[i]), -EINVAL);
	assert_int_equal(set_rules(w, 0, f, "{}"), -EINVAL);
	assert_int_equal(rules_from(w, d), 0);
}

/* --- demanded tags --- */

#define GRACE "{\"demanded_tags\": {\"project\": null, \"year\": \"20??\"}, \"grace\": 100}"

static int tag(struct ns_world *w, mfs_ino_t ino, const char *name, const char *value, bool remove)
{
	struct mfs_attr a;

	return namespace_tag(w->ns[0], &w->op, ino, &(struct tag_edit){ .name = name, .value = value, .remove = remove }, 1, &a);
}

/* So many are found lacking `seconds` from now; so many are known to. */
static void look(struct ns_world *w, int64_t seconds, unsigned int want_failures, uint64_t want_lacking)
{
	uint64_t lacking;

	assert_int_equal(namespace_demands_run(w->ns[0], &w->op, mfs_now_ns() + seconds * MFS_NSEC_PER_SEC), 0);
	assert_int_equal(failures(w), want_failures);
	assert_int_equal(namespace_demands_count(w->ns[0], &w->op, &lacking), 0);
	assert_int_equal(lacking, want_lacking);
}

static void tags_are_demanded_after_a_grace(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f, g, h;

	look(w, 1000, 0, 0);
	assert_int_equal(set_rules(w, 0, d, GRACE), 0);
	f = mkfile(w, d, "f");
	g = mkfile(w, d, "g");
	h = mkfile(w, d, "h");
	mkdirat_(w, d, "dir");
	look(w, 90, 0, 0);
	assert_int_equal(tag(w, f, "project", NULL, false), 0);
	assert_int_equal(tag(w, f, "year", "2026", false), 0);
	assert_int_equal(tag(w, g, "project", "x", false), 0);
	assert_int_equal(tag(w, g, "year", "1999", false), 0);
	look(w, 110, 2, 2);
	look(w, 110, 2, 2); /* told once */
	assert_int_equal(tag(w, g, "year", "2000", false), 0);
	assert_int_equal(do_unlink(w, 0, d, "h"), 0);
	look(w, 110, 2, 0);
	(void)h;
	assert_int_equal(tag(w, g, "year", NULL, true), 0);
	look(w, 90, 2, 0);
	look(w, 110, 3, 1);
	assert_int_equal(unset_rules(w, d), 0);
	look(w, 110, 3, 0);
	look(w, 1000, 3, 0);
}

static void tags_are_demanded_of_what_comes(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), tree = mkdirat_(w, ROOT, "tree"), sub = mkdirat_(w, tree, "sub");

	mkfile(w, d, "old");
	mkfile(w, ROOT, "moved");
	mkfile(w, tree, "t");
	mkfile(w, sub, "s");
	assert_int_equal(set_rules(w, 0, d, "{\"demanded_tags\": {\"x\": null}, \"grace\": 0}"), 0);
	look(w, 1, 1, 1);
	assert_int_equal(do_rename(w, 0, ROOT, "moved", d, "moved", 0), 0);
	look(w, 1, 2, 2);
	assert_int_equal(do_rename(w, 0, ROOT, "tree", d, "tree", 0), 0);
	look(w, 1, 4, 4);
	assert_int_equal(do_rename(w, 0, d, "tree", ROOT, "tree", 0), 0);
	look(w, 1, 4, 2);
	assert_int_equal(ns_world_check(w), 0);
}

/* --- the list --- */

struct page {
	unsigned int n;
	char first[64], last[64];
};

static int see_page(void *arg, const struct failure *f)
{
	struct page *p = arg;

	if (p->n++ == 0)
		snprintf(p->first, sizeof(p->first), "%s", f->id);
	snprintf(p->last, sizeof(p->last), "%s", f->id);
	assert_non_null(f->kind);
	assert_non_null(f->host);
	return 0;
}

static struct page read_page(struct ns_world *w, const struct failure_query *q)
{
	struct page p = { 0 };

	assert_int_equal(namespace_failures(w->ns[0], &w->op, q, see_page, &p), 0);
	return p;
}

static void failures_are_asked_for(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), e = mkdirat_(w, d, "e");
	struct page p, all;
	int64_t then;
	char name[16];

	assert_int_equal(set_rules(w, 0, d, "{\"names\": [\"*.h\"], \"demanded_tags\": {\"x\": null}, \"grace\": 0}"), 0);
	for (int i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(make(w, 0, i < 4 ? d : e, name, S_IFREG | 0644), -EPERM);
	}
	then = mfs_now_ns();
	w->op.uid = 1234;
	assert_int_equal(make(w, 0, e, "late", S_IFREG | 0644), -EPERM);
	w->op.uid = 0;
	mkfile(w, e, "a.h");
	assert_int_equal(namespace_demands_run(w->ns[0], &w->op, mfs_now_ns() + 1), 0);
	all = read_page(w, &(struct failure_query){ 0 });
	assert_int_equal(all.n, 9);
	p = read_page(w, &(struct failure_query){ .limit = 5 });
	assert_int_equal(p.n, 5);
	p = read_page(w, &(struct failure_query){ .limit = 5, .after = p.last });
	assert_int_equal(p.n, 4);
	assert_string_equal(p.last, all.last);
	assert_int_equal(read_page(w, &(struct failure_query){ .after = all.last }).n, 0);
	assert_int_equal(read_page(w, &(struct failure_query){ .below = "d/e" }).n, 5);
	assert_int_equal(read_page(w, &(struct failure_query){ .below = "d/e", .kind = "name" }).n, 4);
	assert_int_equal(read_page(w, &(struct failure_query){ .below = "d/f1" }).n, 1);
	assert_int_equal(read_page(w, &(struct failure_query){ .kind = "tags" }).n, 1);
	assert_int_equal(read_page(w, &(struct failure_query){ .by_uid = true, .uid = 1234 }).n, 1);
	assert_int_equal(read_page(w, &(struct failure_query){ .since = then }).n, 2);
	assert_int_equal(read_page(w, &(struct failure_query){ .until = then }).n, 7);
	/* What is too much goes, the oldest first; what another part of it keeps stays. */
	assert_int_equal(ns_failures_cut(w->ns[0], &w->op, 3), 0);
	p = read_page(w, &(struct failure_query){ 0 });
	assert_int_equal(p.n, 3);
	assert_string_equal(p.last, all.last);
	assert_int_equal(namespace_failures_prune(w->ns[0], &w->op), 0);
	assert_int_equal(read_page(w, &(struct failure_query){ 0 }).n, 3);
	look(w, 1, 3, 1);
}

/* --- content that is refused --- */

static struct mfs_attr put_inline(struct ns_world *w, mfs_ino_t f, const char *text)
{
	struct node_blob b = { .data = (void *)(uintptr_t)text, .size = strlen(text) };
	struct commit c = { .ino = f, .lay = attr_of(w, f).lay, .inline_data = &b, .size = b.size, .mtime = 7, .keep_version = true,
			    .todo = mfs_now_ns(), .durable = true };
	struct mfs_attr a;

	assert_int_equal(namespace_commit(w->ns[0], &w->op, &c, &a), 0);
	return a;
}

static void assert_content(struct ns_world *w, mfs_ino_t f, const char *text)
{
	struct node n = NODE_INIT;

	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_int_equal(n.attr.size, strlen(text));
	assert_int_equal(n.inline_data.size, strlen(text));
	if (*text)
		assert_memory_equal(n.inline_data.data, text, strlen(text));
	node_release(&n);
}

struct kept {
	char id[64];
	unsigned int n;
};

static int see_kept(void *arg, const struct failure *f)
{
	struct kept *k = arg;

	assert_true(f->kept);
	assert_string_equal(f->operation, "close");
	snprintf(k->id, sizeof(k->id), "%s", f->id);
	k->n++;
	return 0;
}

/* The newest refusal kept this; there are `n` of them. */
static void assert_kept(struct ns_world *w, unsigned int n, const char *text)
{
	struct past_list l = { 0 };
	struct kept k = { 0 };
	char path[128];

	assert_int_equal(namespace_failures(w->ns[0], &w->op, &(struct failure_query){ 0 }, see_kept, &k), 0);
	assert_int_equal(k.n, n);
	snprintf(path, sizeof(path), REFUSED_PATH "%s", k.id);
	assert_int_equal(namespace_past(w->ns[0], &w->op, path, &l), 0);
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].inline_data.size, strlen(text));
	assert_memory_equal(l.v[0].inline_data.data, text, strlen(text));
	past_list_release(&l);
}

static void refused_content_is_kept(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "f");
	struct judgement why;
	struct mfs_attr a, first, b;
	struct node_blob text = { .data = (char[]){ "bad" }, .size = 3 };
	struct commit c = { .ino = f, .inline_data = &text, .size = 3, .mtime = 9, .session = w->ns[0] ? namespace_engine(w->ns[0])->session : 0 };
	struct content_refusal r = { .ino = f, .session = c.session, .uid = 5, .why = &why, .content = &c };
	struct version_list l = { 0 };

	assert_int_equal(set_rules(w, 0, d, "{\"min_size\": 5, \"types\": [\"text/*\"]}"), 0);
	assert_int_equal(namespace_judge(w->ns[0], &w->op, f, 5, NULL, &why), 0);
	assert_true(!why.kind && why.ask_type);
	assert_int_equal(namespace_judge(w->ns[0], &w->op, f, 5, "text/plain", &why), 0);
	assert_true(!why.kind && !why.ask_type);
	assert_int_equal(namespace_judge(w->ns[0], &w->op, f, 5, "image/png", &why), 0);
	assert_string_equal(why.kind, "type");
	assert_int_equal(namespace_judge(w->ns[0], &w->op, f, 3, NULL, &why), 0);
	assert_string_equal(why.kind, "min_size");
	first = put_inline(w, f, "first");
	r.lay = first.lay - 1;
	assert_int_equal(namespace_refuse(w->ns[0], &w->op, &r, &a), -EAGAIN);
	assert_int_equal(failures(w), 0);
	r.lay = first.lay;
	assert_int_equal(namespace_refuse(w->ns[0], &w->op, &r, &a), 0);
	assert_content(w, f, "first");
	assert_kept(w, 1, "bad");
	a = attr_of(w, f);
	assert_true(a.data == first.data && a.lay == first.lay && a.mtime == first.mtime);
	/* What was committed already comes back. */
	b = put_inline(w, f, "second");
	assert_int_equal(engine_versions_by_ino(namespace_engine(w->ns[0]), &w->op, f, &l), 0);
	r = (struct content_refusal){ .ino = f, .session = c.session, .lay = b.lay, .uid = 5, .why = &why, .back = true };
	for (size_t i = 0; i < l.n; i++)
		r.earlier = l.v[i].data == first.data ? &l.v[i] : r.earlier;
	assert_non_null(r.earlier);
	assert_int_equal(namespace_refuse(w->ns[0], &w->op, &r, &a), 0);
	assert_int_equal(a.data, b.data + 1);
	assert_content(w, f, "first");
	assert_kept(w, 2, "second");
	r.earlier = NULL;
	r.lay = a.lay;
	assert_int_equal(namespace_refuse(w->ns[0], &w->op, &r, &a), 0);
	assert_content(w, f, "");
	assert_kept(w, 3, "first");
	assert_int_equal(ns_failures_cut(w->ns[0], &w->op, 1), 0); /* they keep content */
	assert_kept(w, 3, "first");
	version_list_release(&l);
	assert_int_equal(ns_world_check(w), 0);
}

static const struct ns_test tests[] = {
	NS_TEST(tags_are_demanded_after_a_grace), NS_TEST(tags_are_demanded_of_what_comes), NS_TEST(failures_are_asked_for),
	NS_TEST(refused_content_is_kept),
	NS_TEST(names_are_demanded), NS_TEST(the_nearest_directory_says), NS_TEST(tags_are_given), NS_TEST(sizes),
	NS_TEST(from_another_mount), NS_TEST(what_is_no_rule),
};

int main(void)
{
	return ns_suite_run("rules", tests, MFS_ARRAY_LEN(tests));
}
