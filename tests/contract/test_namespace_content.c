/*
 * Content on every engine: commits, truncate, what becomes of what they replace, and the way back.
 */
#include <errno.h>
#include <inttypes.h>

#include "tests/lib/namespace_world.h"

#define ROOT MFS_ROOT_INO

static struct commit commit_of(const struct mfs_attr *a, const char *key, const char *version, uint64_t len)
{
	struct commit c = { .ino = a->ino,
			    .lay = a->lay,
			    .obj_len = len,
			    .size = len,
			    .alloc = len,
			    .mtime = 99,
			    .keep_version = true,
			    .etag = "etag" };

	c.ref.key = (char *)(uintptr_t)key;
	snprintf(c.ref.version, sizeof(c.ref.version), "%s", version);
	return c;
}

static int commit(struct ns_world *w, const struct commit *c, struct mfs_attr *ret)
{
	return namespace_commit(w->ns[0], &w->op, c, ret);
}

/* "version" ids of the side collections as text. */
static void assert_versions(struct ns_world *w, mfs_ino_t ino, const char *expected)
{
	struct version_list l = { 0 };
	char text[256] = "";

	assert_int_equal(engine_versions_by_ino(w->e[0], &w->op, ino, &l), 0);
	for (size_t i = 0; i < l.n; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s:%s:%" PRIu64 " ", l.v[i].path,
			 l.v[i].ref.version, l.v[i].size);
	assert_string_equal(text, expected);
	version_list_release(&l);
}

static void assert_dropped(struct ns_world *w, const char *expected)
{
	struct dropped_list l = { 0 };
	char text[256] = "";

	assert_int_equal(engine_dropped(w->e[0], &w->op, INT64_MAX, 0, 100, &l), 0);
	for (size_t i = 0; i < l.n; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ", l.v[i].ref.version);
	assert_string_equal(text, expected);
	dropped_list_release(&l);
}

static void a_commit(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "f");
	struct mfs_attr old = attr_of(w, f), a;
	struct commit c = commit_of(&old, "d/f", "v1", 10);
	struct node n = NODE_INIT;

	assert_int_equal(commit(w, &c, &a), 0);
	assert_int_equal(a.size, 10);
	assert_int_equal(a.obj_len, 10);
	assert_int_equal(a.mtime, 99);
	assert_true(a.ctime > old.ctime);
	assert_int_equal(a.lay, old.lay + 1);
	assert_int_equal(a.data, old.data + 1);
	assert_int_equal(a.ver, old.ver + 1);
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_string_equal(n.ref.key, "d/f");
	assert_string_equal(n.ref.version, "v1");
	assert_string_equal(n.etag, "etag");
	node_release(&n);
	assert_jobs(w, "");
	assert_versions(w, f, ""); /* there was nothing before */
	assert_dropped(w, "");
	assert_int_equal(commit(w, &c, &a), -EAGAIN); /* lay moved */
	old = attr_of(w, f);
	c = commit_of(&old, "d/f", "v2", 20);
	assert_int_equal(commit(w, &c, &a), 0);
	assert_versions(w, f, "d/f:v1:10 ");
	assert_dropped(w, "");
	c = commit_of(&a, "d/f", "v3", 30);
	c.keep_version = false;
	c.mtime = 0;
	assert_int_equal(commit(w, &c, &a), 0);
	assert_int_equal(a.mtime, 99);
	assert_versions(w, f, "d/f:v1:10 ");
	assert_dropped(w, "v2 ");
	assert_jobs(w, "");
}

static void a_commit_that_cannot_be(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), d = mkdirat_(w, ROOT, "d"), l = mk(w, ROOT, "l", S_IFLNK);
	struct mfs_attr a, b = attr_of(w, f);
	struct node set = NODE_INIT;
	struct change ch = { .n_writes = 0 };
	struct write *wr;
	struct commit c;

	b.ino = 424242;
	c = commit_of(&b, "f", "v", 1);
	assert_int_equal(commit(w, &c, &a), -ESTALE);
	b = attr_of(w, d);
	c = commit_of(&b, "d", "v", 1);
	assert_int_equal(commit(w, &c, &a), -EISDIR);
	b = attr_of(w, l);
	c = commit_of(&b, "l", "v", 1);
	assert_int_equal(commit(w, &c, &a), -EINVAL);
	b = attr_of(w, f);
	c = commit_of(&b, "f", "v", 1);
	c.size = (uint64_t)MFS_FILE_SIZE_MAX + 1;
	assert_int_equal(commit(w, &c, &a), -EFBIG);
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, b.lay, c.size, false, false, &a), -EFBIG);
	/* Fenced: somebody took this session for dead. */
	assert_int_equal(node_blob_add_u64(&set.fenced, 100), 0);
	wr = change_write(&ch, WRITE_EDIT, f);
	wr->node = &set;
	wr->mask = EDIT_FENCED;
	assert_int_equal(engine_apply(w->e[0], &w->op, &ch), 0);
	node_release(&set);
	c.size = 1;
	assert_int_equal(commit(w, &c, &a), -EIO);
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, b.lay, 5, false, false, &a), -EIO);
}

static void commit_jobs(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), o = mkfile(w, ROOT, "\xff");
	struct mfs_attr a = attr_of(w, f);
	struct commit c = commit_of(&a, "elsewhere", "v1", 1);

	assert_int_equal(commit(w, &c, &a), 0); /* it was renamed while it was uploaded, say */
	assert_jobs(w, fmt("file %" PRIu64 "\n", f));
	c = commit_of(&a, "f", "v2", 1);
	c.queue_key = true;
	assert_int_equal(commit(w, &c, &a), 0);
	assert_jobs(w, "key elsewhere\nkey f\n");
	c = commit_of(&a, NULL, "", 0); /* nothing any more */
	assert_int_equal(commit(w, &c, &a), 0);
	assert_jobs(w, "key f\n");
	put(w, o, NULL, 7);
	assert_jobs(w, "");
	/* At a further name's key it is well. */
	assert_int_equal(do_link(w, 0, f, ROOT, "g"), 0);
	a = attr_of(w, f);
	c = commit_of(&a, "g", "v3", 1);
	assert_int_equal(commit(w, &c, &a), 0);
	assert_jobs(w, "");
}

static void a_temporary_commit_waits(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "x.part");
	struct job_list l = { 0 };

	put(w, f, NULL, 5);
	assert_int_equal(engine_jobs(w->e[0], &w->op, INT64_MAX, 10, &l), 0);
	assert_int_equal(l.n, 1);
	assert_true(l.v[0].due > mfs_now_ns() + 20 * MFS_NSEC_PER_SEC);
	job_list_release(&l);
}

static void a_settle(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct mfs_attr a, before;
	struct commit c;

	put(w, f, "old", 10);
	free(take_jobs(w));
	before = attr_of(w, f);
	c = commit_of(&before, "f", "v9", 10);
	c.settle = true;
	assert_int_equal(commit(w, &c, &a), 0);
	assert_int_equal(a.lay, before.lay + 1);
	assert_int_equal(a.ver, before.ver + 1);
	assert_int_equal(a.data, before.data);
	assert_true(a.mtime == before.mtime && a.ctime == before.ctime && a.size == before.size);
	assert_versions(w, f, "");
	assert_dropped(w, "v1 ");
	assert_jobs(w, "key old\n");
	/* The same object again: nothing is dropped, no key left. */
	c.lay = a.lay;
	assert_int_equal(commit(w, &c, &a), 0);
	assert_dropped(w, "v1 ");
	assert_jobs(w, "");
}

static void a_commit_takes_privilege(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mk(w, ROOT, "f", S_IFREG | 06755);
	struct mfs_attr a;
	struct commit c;

	assert_int_equal(namespace_setxattr(w->ns[0], &w->op, f, "security.capability", "x", 1, 0, false, &a),
			 0);
	c = commit_of(&a, "f", "v1", 1);
	assert_int_equal(commit(w, &c, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 06755);
	c = commit_of(&a, "f", "v2", 1);
	c.kill_priv = true;
	assert_int_equal(commit(w, &c, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	assert_false(a.flags & ATTR_HAS_CAP);
	f = mk(w, ROOT, "g", S_IFREG | 06755);
	a = attr_of(w, f);
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, a.lay, 5, false, true, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
}

static void a_commit_to_the_unlinked(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct mfs_attr a;
	struct commit c;

	put(w, f, NULL, 10);
	assert_int_equal(do_unlink(w, 0, ROOT, "f"), 0);
	free(take_jobs(w));
	a = attr_of(w, f);
	c = commit_of(&a, ".massfs/o/1", "v9", 20);
	assert_int_equal(commit(w, &c, &a), 0);
	assert_int_equal(a.size, 20);
	assert_int_equal(a.nlink, 0);
	assert_jobs(w, "key .massfs/o/1\n"); /* the view must not show it */
	assert_versions(w, f, "");
	assert_dropped(w, "v1 ");
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, a.lay, 5, true, false, &a), 0);
	assert_int_equal(a.size, 5);
	assert_jobs(w, "");
	assert_versions(w, f, "");
}

/* The reconciler is asked to look at it now, and has been woken; and it is told that all is well again. */
static void assert_todo(struct ns_world *w, mfs_ino_t ino, unsigned int wakes)
{
	struct change c = { .n_writes = 0 };
	struct node n = NODE_INIT;
	struct write *wr;

	assert_int_equal(namespace_get(w->ns[0], &w->op, ino, &n), 0);
	assert_true(n.todo > 0 && n.todo == n.attr.ctime);
	assert_int_equal(atomic_load(&w->wakes), wakes + 1);
	n.todo = 0;
	wr = change_write(&c, WRITE_EDIT, ino);
	wr->node = &n;
	wr->mask = EDIT_TODO;
	assert_int_equal(engine_apply(w->bare, &w->op, &c), 0);
	node_release(&n);
	assert_jobs(w, "");
}

static void truncates(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), d = mkdirat_(w, ROOT, "d");
	struct mfs_attr a, old;
	struct node n = NODE_INIT;
	unsigned int wakes;

	put(w, f, NULL, 100);
	old = attr_of(w, f);
	wakes = atomic_load(&w->wakes);
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, old.lay + 7, 5, true, false, &a), -EAGAIN);
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, d, 1, 5, true, false, &a), -EISDIR);
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, old.lay, 40, true, false, &a), 0);
	assert_int_equal(a.size, 40);
	assert_int_equal(a.obj_len, 40);
	assert_true(a.mtime > old.mtime && a.ctime == a.mtime);
	assert_int_equal(a.lay, old.lay + 1);
	assert_int_equal(a.data, old.data + 1);
	assert_versions(w, f, "f:v1:100 ");
	assert_todo(w, f, wakes++);
	/* Growth gives zeros: the object stays clipped. */
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, a.lay, 80, true, false, &a), 0);
	assert_int_equal(a.size, 80);
	assert_int_equal(a.obj_len, 40);
	assert_versions(w, f, "f:v1:100 "); /* no bytes were lost */
	assert_todo(w, f, wakes++);
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_string_equal(n.ref.version, "v1");
	node_release(&n);
	/* The same size: only times. */
	old = a;
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, a.lay, 80, true, false, &a), 0);
	assert_true(a.lay == old.lay && a.data == old.data && a.mtime > old.mtime);
	assert_jobs(w, "");
	/* A file without an object. */
	f = mkfile(w, ROOT, "g");
	assert_int_equal(namespace_truncate(w->ns[0], &w->op, f, attr_of(w, f).lay, 80, true, false, &a), 0);
	assert_int_equal(a.obj_len, 0);
	assert_todo(w, f, wakes++);
	assert_dropped(w, "");
}

static void a_version_is_of_its_path_then(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "f");

	put(w, f, NULL, 1);
	put(w, f, NULL, 2);
	assert_int_equal(do_rename(w, 0, ROOT, "d", ROOT, "e", 0), 0);
	put(w, f, NULL, 3);
	assert_int_equal(do_rename(w, 0, d, "f", ROOT, "g", 0), 0);
	put(w, f, NULL, 4);
	assert_versions(w, f, "g:v3:3 e/f:v2:2 d/f:v1:1 ");
}

static void assert_past(struct ns_world *w, const char *path, const char *expected)
{
	struct past_list l = { 0 };
	char text[256] = "";

	assert_int_equal(namespace_past(w->ns[0], &w->op, path, &l), 0);
	for (size_t i = 0; i < l.n; i++) {
		const struct past *p = &l.v[i];

		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s:%" PRIu64 " ",
			 p->is_trash ? "trash " : "", p->ref.version, p->size);
		assert_true(p->until == p->ended + RETENTION);
		assert_true(i == 0 || l.v[i - 1].ended >= p->ended);
	}
	assert_string_equal(text, expected);
	past_list_release(&l);
}

static void the_past_of_a_path(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), t;

	assert_past(w, "f", "");
	put(w, f, NULL, 1);
	put(w, f, NULL, 2);
	/* An editor: a new file, renamed over the old one. */
	t = mkfile(w, ROOT, "t");
	put(w, t, NULL, 3);
	assert_int_equal(do_rename(w, 0, ROOT, "t", ROOT, "f", 0), 0);
	put(w, t, NULL, 4);
	assert_int_equal(do_unlink(w, 0, ROOT, "f"), 0);
	assert_past(w, "f", "trash v4:4 v3:3 trash v2:2 v1:1 ");
	assert_past(w, "t", "");
}

static void undelete(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "f");
	struct mfs_attr a, before;
	struct node n = NODE_INIT;

	put(w, f, NULL, 9);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, f, d, "f", 1, &a),
			 -ENOENT); /* it is not removed */
	assert_int_equal(do_unlink(w, 0, d, "f"), 0);
	free(take_jobs(w));
	mkfile(w, d, "f");
	before = attr_of(w, d);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, f, d, "f", 1, &a), -EEXIST);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, f, 424242, "g", 1, &a), -ENOENT);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, 424242, d, "g", 1, &a), -ENOENT);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, f, ROOT, ".massfs", 7, &a), -EPERM);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, f, d, "back", 4, &a), 0);
	assert_int_equal(a.ino, f);
	assert_int_equal(a.nlink, 1);
	assert_false(a.flags & ATTR_IN_TRASH);
	assert_true(attr_of(w, d).mtime > before.mtime);
	assert_int_equal(ino_at(w, d, "back"), f);
	assert_jobs(w, "key d/back\n");
	assert_int_equal(namespace_get(w->ns[0], &w->op, f, &n), 0);
	assert_null(n.trash_path);
	assert_string_equal(n.ref.version, "v1");
	node_release(&n);
}

/* An unlinked file whose record's place in the listing was an alias's comes back among others. */
static void undelete_of_a_promoted_file(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "a");
	struct mfs_attr a;

	assert_int_equal(do_link(w, 0, f, ROOT, "b"), 0);
	assert_int_equal(do_unlink(w, 0, ROOT, "a"), 0);
	assert_int_equal(do_unlink(w, 0, ROOT, "b"), 0);
	assert_int_equal(namespace_undelete(w->ns[0], &w->op, f, ROOT, "c", 1, &a), 0);
	assert_int_equal(do_link(w, 0, f, ROOT, "d"), 0);
	assert_int_equal(do_unlink(w, 0, ROOT, "c"), 0);
	assert_int_equal(ino_at(w, ROOT, "d"), f);
}

static const struct ns_test tests[] = {
	NS_TEST(a_commit),
	NS_TEST(a_commit_that_cannot_be),
	NS_TEST(commit_jobs),
	NS_TEST(a_temporary_commit_waits),
	NS_TEST(a_settle),
	NS_TEST(a_commit_takes_privilege),
	NS_TEST(a_commit_to_the_unlinked),
	NS_TEST(truncates),
	NS_TEST(a_version_is_of_its_path_then),
	NS_TEST(the_past_of_a_path),
	NS_TEST(undelete),
	NS_TEST(undelete_of_a_promoted_file),
};

int main(void)
{
	return ns_suite_run("content", tests, MFS_ARRAY_LEN(tests));
}
