/*
 * The namespace over an engine that fails. Each operation is run with its nth engine call failing, n = 1, 2, 3 …
 * until it succeeds: whatever fails, the index is as it was before or as it is after, and consistent. And rule M2:
 * the reply to its change is dropped, while another session changes the same records; it happens exactly once.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "meta/layout.h"
#include "tests/lib/namespace_dump.h"

#define ROOT MFS_ROOT_INO

/* What a scenario finds. */
struct scene {
	struct ns_world *w;
	mfs_ino_t d, e, sub, f, g, h, p, gone;
};

/* A layout with patch objects `first` to `last` of 100 bytes each, and with the last in a document. */
static struct node_blob layout_of(unsigned int first, unsigned int last)
{
	struct node_blob b = { 0 };
	struct layout l;

	layout_init(&l);
	for (unsigned int i = first; i <= last; i++) {
		struct segment g = { .pos = i * UINT64_C(100), .len = 100, .session = 100, .op = i };

		snprintf(g.version, sizeof(g.version), "p%u", i);
		assert_int_equal(layout_add_segment(&l, &g, NULL, NULL), 0);
		assert_int_equal(layout_set(&l, i * UINT64_C(200), 100, g.pos), 0);
	}
	l.docs = calloc(1, sizeof(*l.docs));
	assert_non_null(l.docs);
	*l.docs = (struct layout_doc){ .start = last * UINT64_C(200), .end = last * UINT64_C(200) + 100, .id = last, .n = 1 };
	l.n_docs = l.cap_docs = 1;
	l.n_recent--;
	assert_int_equal(layout_encode(&l, &b), 0);
	layout_release(&l);
	return b;
}

/* Patches of a file whose layout has moved `lay` times; two documents, as when there are many slices. */
static int patch(struct scene *s, uint64_t lay, unsigned int first, unsigned int last, bool keep)
{
	char text[] = "slices";
	struct slices_doc_record docs[2] = {
		{ .ino = s->p, .id = last, .session = 100, .blob = { text, 6 } },
		{ .ino = s->p, .id = last + 50, .session = 100, .blob = { text, 3 } },
	};
	struct commit c = { .ino = s->p, .lay = lay, .size = 2000, .obj_len = 12, .keep_version = keep, .todo = 5 };
	struct node_blob b = layout_of(first, last);
	char key[] = "p";
	struct mfs_attr a;
	int r;

	c.ref.key = key;
	strcpy(c.ref.version, "base");
	c.slices = &b;
	c.docs = docs;
	c.n_docs = 2;
	r = namespace_commit(s->w->ns[0], &s->w->op, &c, &a);
	free(b.data);
	return r;
}

static void set_scene(struct scene *s)
{
	struct ns_world *w = s->w;
	struct mfs_attr a;

	s->d = mkdirat_(w, ROOT, "d");
	s->e = mkdirat_(w, ROOT, "e"); /* empty */
	s->sub = mkdirat_(w, s->d, "sub");
	s->f = mkfile(w, s->d, "f"); /* one name, an object */
	s->g = mkfile(w, s->d, "g"); /* three names */
	s->h = mkfile(w, ROOT, "h");
	assert_int_equal(do_link(w, 0, s->g, s->d, "g2"), 0);
	assert_int_equal(do_link(w, 0, s->g, ROOT, "g3"), 0);
	put(w, s->f, NULL, 10);
	put(w, s->g, NULL, 11);
	put(w, s->h, NULL, 12);
	s->p = mkfile(w, ROOT, "p");
	assert_int_equal(patch(s, 1, 1, 4, false), 0);
	s->gone = mkfile(w, s->d, "gone");
	put(w, s->gone, NULL, 13);
	assert_int_equal(do_unlink(w, 0, s->d, "gone"), 0);
	assert_int_equal(namespace_setxattr(w->ns[0], &w->op, s->f, "user.a", "1", 1, 0, false, &a), 0);
	free(take_jobs(w));
}

static int op_create(struct scene *s)
{
	return do_make(s->w, 0, s->d, "new", S_IFREG | 0644, NULL);
}

static int op_mkdir(struct scene *s)
{
	return do_make(s->w, 0, s->d, "new", S_IFDIR | 0755, NULL);
}

static int op_link(struct scene *s)
{
	return do_link(s->w, 0, s->f, ROOT, "new");
}

static int op_unlink(struct scene *s)
{
	return do_unlink(s->w, 0, s->d, "f");
}

static int op_unlink_alias(struct scene *s)
{
	return do_unlink(s->w, 0, s->d, "g2");
}

static int op_unlink_first(struct scene *s)
{
	return do_unlink(s->w, 0, s->d, "g");
}

static int op_rmdir(struct scene *s)
{
	return do_rmdir(s->w, 0, ROOT, "e");
}

static int op_rename(struct scene *s)
{
	return do_rename(s->w, 0, s->d, "f", ROOT, "new", 0);
}

static int op_rename_alias(struct scene *s)
{
	return do_rename(s->w, 0, s->d, "g2", ROOT, "new", 0);
}

static int op_rename_over(struct scene *s)
{
	return do_rename(s->w, 0, s->d, "f", ROOT, "h", 0);
}

static int op_rename_over_first(struct scene *s)
{
	return do_rename(s->w, 0, ROOT, "h", s->d, "g", 0);
}

static int op_rename_dir(struct scene *s)
{
	return do_rename(s->w, 0, s->d, "sub", s->e, "sub", 0);
}

static int op_rename_over_dir(struct scene *s)
{
	return do_rename(s->w, 0, ROOT, "d", ROOT, "e", 0);
}

static int op_exchange(struct scene *s)
{
	return do_rename(s->w, 0, s->d, "sub", ROOT, "g3", RENAME_EXCHANGE);
}

static int op_chmod(struct scene *s)
{
	struct set_attr sa = { .mask = EDIT_MODE, .mode = 0700 };
	struct mfs_attr a;

	return namespace_setattr(s->w->ns[0], &s->w->op, s->f, &sa, &a);
}

static int op_setxattr(struct scene *s)
{
	struct mfs_attr a;

	return namespace_setxattr(s->w->ns[0], &s->w->op, s->f, "user.b", "2", 1, XATTR_CREATE, false, &a);
}

static int op_removexattr(struct scene *s)
{
	struct mfs_attr a;

	return namespace_removexattr(s->w->ns[0], &s->w->op, s->f, "user.a", &a);
}

static int op_commit(struct scene *s)
{
	return do_commit(s->w, 0, s->f, NULL, 50);
}

static int op_truncate(struct scene *s)
{
	struct mfs_attr a;

	return namespace_truncate(s->w->ns[0], &s->w->op, s->f, 2, 5, true, false, &a);
}

static int op_patch(struct scene *s)
{
	return patch(s, 2, 3, 6, false);
}

static int op_patch_and_keep(struct scene *s)
{
	return patch(s, 2, 3, 6, true);
}

static int op_inline(struct scene *s)
{
	char text[] = "inline bytes";
	struct node_blob b = { text, 12 };
	struct commit c = { .ino = s->p, .lay = 2, .size = 12, .todo = 5, .inline_data = &b };
	struct mfs_attr a;

	return namespace_commit(s->w->ns[0], &s->w->op, &c, &a);
}

static int op_settle(struct scene *s)
{
	struct commit c = { .ino = s->p, .lay = 2, .size = 2000, .obj_len = 2000, .settle = true };
	char key[] = "p";
	struct mfs_attr a;

	c.ref.key = key;
	strcpy(c.ref.version, "whole");
	return namespace_commit(s->w->ns[0], &s->w->op, &c, &a);
}

static int op_truncate_patched(struct scene *s)
{
	struct mfs_attr a;

	return namespace_truncate(s->w->ns[0], &s->w->op, s->p, 2, 450, false, false, &a);
}

static int op_unlink_patched(struct scene *s)
{
	return do_unlink(s->w, 0, ROOT, "p");
}

static int op_undelete(struct scene *s)
{
	struct mfs_attr a;

	return namespace_undelete(s->w->ns[0], &s->w->op, s->gone, ROOT, "new", 3, &a);
}

static int op_atimes(struct scene *s)
{
	struct atime_update v = { s->f, 5 };

	return namespace_set_atimes(s->w->ns[0], &s->w->op, &v, 1);
}

static const struct scenario {
	const char *name;
	int (*op)(struct scene *s);
} scenarios[] = {
	{ "create", op_create },
	{ "mkdir", op_mkdir },
	{ "link", op_link },
	{ "unlink", op_unlink },
	{ "unlink of an alias", op_unlink_alias },
	{ "unlink of the first name", op_unlink_first },
	{ "rmdir", op_rmdir },
	{ "rename", op_rename },
	{ "rename of an alias", op_rename_alias },
	{ "rename over", op_rename_over },
	{ "rename over the first name", op_rename_over_first },
	{ "rename of a directory", op_rename_dir },
	{ "rename over a directory", op_rename_over_dir },
	{ "exchange", op_exchange },
	{ "chmod", op_chmod },
	{ "setxattr", op_setxattr },
	{ "removexattr", op_removexattr },
	{ "commit", op_commit },
	{ "truncate", op_truncate },
	{ "patch", op_patch },
	{ "patch, with a version", op_patch_and_keep },
	{ "inline", op_inline },
	{ "settle of patches", op_settle },
	{ "truncate of patches", op_truncate_patched },
	{ "unlink of a patched file", op_unlink_patched },
	{ "undelete", op_undelete },
	{ "atimes", op_atimes },
};

static int wrap(struct engine *inner, void *arg, struct engine **ret)
{
	return fault_engine_new(inner, arg, ret);
}

/* Another session meddles with the records in hand; each may find nothing to do. */
static void meddle_none(struct scene *s)
{
	(void)s;
}

static void meddle_chmod(struct scene *s)
{
	struct set_attr sa = { .mask = EDIT_MODE, .mode = 0123 };
	mfs_ino_t all[] = { s->d, s->e, s->sub, s->f, s->g, s->h, s->p, s->gone };
	struct mfs_attr a;

	for (size_t i = 0; i < MFS_ARRAY_LEN(all); i++)
		(void)!namespace_setattr(s->w->ns[1], &s->w->op, all[i], &sa, &a);
}

static void meddle_rename(struct scene *s)
{
	mfs_ino_t at[] = { ROOT, s->d };

	for (size_t i = 0; i < 2; i++) {
		(void)!do_rename(s->w, 1, at[i], "new", ROOT, fmt("away%zu", i), 0);
		(void)!do_rename(s->w, 1, at[i], "f", ROOT, fmt("f%zu", i), 0);
		(void)!do_rename(s->w, 1, at[i], "g", ROOT, fmt("g%zu", i), 0);
		(void)!do_rename(s->w, 1, at[i], "p", ROOT, fmt("p%zu", i), 0);
	}
}

static void meddle_remove(struct scene *s)
{
	mfs_ino_t at[] = { ROOT, s->d };

	for (size_t i = 0; i < 2; i++) {
		(void)!do_unlink(s->w, 1, at[i], "new");
		(void)!do_rmdir(s->w, 1, at[i], "new");
		(void)!do_unlink(s->w, 1, at[i], "f");
		(void)!do_unlink(s->w, 1, at[i], "g");
		(void)!do_unlink(s->w, 1, at[i], "h");
		(void)!do_unlink(s->w, 1, at[i], "p");
	}
}

/* Somebody takes the name that an unlink or rename has just freed. */
static void meddle_make(struct scene *s)
{
	(void)!do_make(s->w, 1, s->d, "f", S_IFREG | 0600, NULL);
	(void)!do_make(s->w, 1, s->d, "g", S_IFREG | 0600, NULL);
	(void)!do_make(s->w, 1, ROOT, "e", S_IFDIR | 0700, NULL);
}

static void (*const meddlers[])(struct scene *s) = { meddle_none, meddle_chmod, meddle_rename, meddle_remove,
						     meddle_make };

/* The world in which the scenario, and after it the meddler, ran without a fault. */
static char *expected_dump(const struct ns_kind *kind, const struct scenario *c,
			   void (*meddle)(struct scene *s), bool run)
{
	struct fault_plan none = { 0 };
	struct scene s = { 0 };
	char *text;

	assert_int_equal(ns_world_new(kind, wrap, &none, &s.w), 0);
	set_scene(&s);
	if (run)
		assert_int_equal(c->op(&s), 0);
	if (meddle)
		meddle(&s);
	text = ns_world_dump(s.w);
	ns_world_free(s.w);
	return text;
}

/* Calls that setting the scene makes, the same each time. */
static unsigned int calls_of_scene(const struct ns_kind *kind, bool applies)
{
	struct fault_plan none = { .drop_reply = applies };
	struct scene s = { 0 };
	unsigned int n;

	assert_int_equal(ns_world_new(kind, wrap, &none, &s.w), 0);
	set_scene(&s);
	n = fault_engine_calls(s.w->e[0]);
	ns_world_free(s.w);
	return n;
}

/* True when the nth call of the scenario was made, and failed. */
static bool nth_fails(const struct ns_kind *kind, const struct scenario *c, unsigned int base, unsigned int n,
		      int err, const char *before, const char *after)
{
	struct fault_plan plan = { .nth = base + n, .err = err };
	struct scene s = { 0 };
	char *text;
	bool hit;
	int r;

	assert_int_equal(ns_world_new(kind, wrap, &plan, &s.w), 0);
	set_scene(&s);
	r = c->op(&s);
	hit = fault_engine_hits(s.w->e[0]) > 0;
	text = ns_world_dump(s.w);
	if (ns_world_check(s.w) || (r == 0 && strcmp(text, after) != 0) ||
	    (r < 0 && (r != -err || !hit || (strcmp(text, before) != 0 && strcmp(text, after) != 0))))
		fail_msg("%s with call %u failing gives %d and leaves:\n%s\nbefore:\n%s\nafter:\n%s", c->name,
			 n, r, text, before, after);
	free(text);
	/* Once more, with nothing failing: it is not stuck. */
	r = c->op(&s);
	assert_true(r == 0 || hit == false || r == -EEXIST || r == -ENOENT || r == -EAGAIN || r == -ENODATA);
	ns_world_free(s.w);
	return hit;
}

static void each_call_fails(void **state)
{
	const struct ns_kind *kind = ((struct ns_world *)*state)->kind;
	static const int errors[] = { EIO, ENOSPC };
	unsigned int base = calls_of_scene(kind, false);

	for (size_t i = 0; i < MFS_ARRAY_LEN(scenarios); i++) {
		char *before = expected_dump(kind, &scenarios[i], NULL, false);
		char *after = expected_dump(kind, &scenarios[i], NULL, true);

		for (size_t k = 0; k < MFS_ARRAY_LEN(errors); k++)
			for (unsigned int n = 1;
			     nth_fails(kind, &scenarios[i], base, n, errors[k], before, after); n++)
				assert_true(n < 50);
		free(before);
		free(after);
	}
}

struct dropped {
	struct scene *s;
	void (*meddle)(struct scene *s);
};

static void before_readback(void *arg)
{
	struct dropped *d = arg;

	d->meddle(d->s);
}

/* Jobs to look at a file again may be more than need be: the meddler runs while a directory is on the move. */
static void without_file_jobs(char *text)
{
	char *at;

	while ((at = strstr(text, "job 3 "))) {
		char *end = strchr(at, '\n') + 1;

		memmove(at, end, strlen(end) + 1);
	}
}

static void reply_dropped(const struct ns_kind *kind, const struct scenario *c, unsigned int applies,
			  void (*meddle)(struct scene *s))
{
	struct scene s = { 0 };
	struct dropped d = { &s, meddle };
	struct fault_plan plan = {
		.nth = applies + 1, .drop_reply = true, .before_readback = before_readback, .arg = &d
	};
	char *expected = expected_dump(kind, c, meddle, true), *text;
	int r;

	assert_int_equal(ns_world_new(kind, wrap, &plan, &s.w), 0);
	set_scene(&s);
	r = c->op(&s);
	assert_int_equal(fault_engine_hits(s.w->e[0]), 1);
	text = ns_world_dump(s.w);
	without_file_jobs(text);
	without_file_jobs(expected);
	if (r != 0 || strcmp(text, expected) != 0)
		fail_msg("%s, its reply dropped, gives %d and leaves:\n%s\nexpected:\n%s", c->name, r, text,
			 expected);
	assert_int_equal(ns_world_check(s.w), 0);
	free(text);
	free(expected);
	ns_world_free(s.w);
}

static void each_reply_is_dropped(void **state)
{
	const struct ns_kind *kind = ((struct ns_world *)*state)->kind;
	unsigned int applies = calls_of_scene(kind, true);

	for (size_t i = 0; i < MFS_ARRAY_LEN(scenarios); i++)
		for (size_t k = 0; k < MFS_ARRAY_LEN(meddlers); k++)
			reply_dropped(kind, &scenarios[i], applies, meddlers[k]);
}

static const struct ns_test tests[] = {
	NS_TEST(each_call_fails),
	NS_TEST(each_reply_is_dropped),
};

int main(void)
{
	return ns_suite_run("fault", tests, MFS_ARRAY_LEN(tests));
}
