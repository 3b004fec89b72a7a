/*
 * What a review found, each as the scenario that went wrong: content against the reconciler, restores, collection, a full
 * budget, an index or a store that fails in between.
 */
#include "tests/lib/world_mount.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/workers.h"
#include "fs/content.h"
#include "fs/gc.h"
#include "fs/restore.h"
#include "fs/verbs_internal.h"
#include "meta/layout.h"

/* A file that was settled with its holes gets another one: its object has data there, so it is not settled. */
static void test_punch_after_settle_with_holes__is_settled_again(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(MIB, 1);
	struct content *c;
	struct mount m;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	mount_write(&m, ino, bytes, MIB);
	for (int i = 0; i < 3; i++) {
		uint64_t at = (uint64_t)i * 100 * KIB;

		c = mount_writer(&m, ino);
		assert_int_equal(content_punch(c, &w->op, at, 64 * KIB), 0);
		memset(bytes + at, 0, 64 * KIB);
		mount_close_writer(&m, c);
		assert_int_equal(world_force(w), 0);
		mount_assert_reads(&m, ino, bytes, MIB);
		world_assert_native(w, "f", bytes, MIB);
	}
	free(bytes);
	mount_close(&m);
}

/* More holes before one flush than a record can name. */
static void test_very_many_holes__are_committed_in_between(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(6 * MIB, 2);
	struct content *c;
	struct mount m;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	mount_write(&m, ino, bytes, 6 * MIB);
	c = mount_writer(&m, ino);
	for (uint64_t at = 0; at < 6 * MIB; at += 64) {
		assert_int_equal(content_punch(c, &w->op, at, 8), 0);
		memset(bytes + at, 0, 8);
	}
	mount_close_writer(&m, c);
	mount_assert_reads(&m, ino, bytes, 6 * MIB);
	free(bytes);
	mount_close(&m);
}

/* Holes that are too long to be worth bytes: they are, where there are too many of them. */
static void test_very_many_long_holes__are_filled_rather_than_refused(void **state)
{
	struct world *w = *state;
	size_t size = 12 * MIB;
	struct layout l;
	unsigned char *bytes = mount_pattern(size, 6);
	struct content *c;
	struct mount m;
	struct node n;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	m.env.slices_max = 40;
	mount_write(&m, ino, bytes, size);
	c = mount_writer(&m, ino);
	for (uint64_t at = 0; at + 65 * KIB < size; at += 96 * KIB) {
		assert_int_equal(content_punch(c, &w->op, at, 65 * KIB), 0);
		memset(bytes + at, 0, 65 * KIB);
		if (at / (96 * KIB) % 8 == 7)
			assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
		n = world_node(w, ino);
		assert_int_equal(layout_parse(&n.slices, &l), 0);
		assert_in_range(l.n_recent, 0, 40 + 8);
		layout_release(&l);
		node_release(&n);
	}
	mount_close_writer(&m, c);
	mount_assert_reads(&m, ino, bytes, size);
	free(bytes);
	mount_close(&m);
}

/* Where nothing is, a hole needs no slice. */
static void test_punch_of_what_is_a_hole__names_nothing(void **state)
{
	struct world *w = *state;
	struct mfs_attr attr;
	unsigned char *bytes = mount_pattern(MIB, 7), *want = calloc(1, 4 * MIB);
	struct content *c;
	struct mount m;
	struct node n;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	mount_write(&m, ino, bytes, MIB);
	memcpy(want, bytes, MIB);
	c = mount_writer(&m, ino);
	assert_int_equal(content_truncate(c, &w->op, 4 * MIB, &attr), 0);
	for (uint64_t at = MIB; at < 4 * MIB; at += 8 * KIB)
		assert_int_equal(content_punch(c, &w->op, at, 4 * KIB), 0);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
	n = world_node(w, ino);
	assert_int_equal(n.slices.size, 0);
	node_release(&n);
	/* One that reaches over data, patches and the tail. */
	assert_int_equal(content_write(c, &w->op, 2 * MIB, bytes, 64 * KIB, false), 0);
	memcpy(want + 2 * MIB, bytes, 64 * KIB);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
	assert_int_equal(content_punch(c, &w->op, MIB / 2, 2 * MIB - MIB / 2 + 10 * KIB), 0);
	memset(want + MIB / 2, 0, 2 * MIB - MIB / 2 + 10 * KIB);
	mount_close_writer(&m, c);
	mount_assert_reads(&m, ino, want, 4 * MIB);
	assert_int_equal(world_force(w), 0);
	world_assert_native(w, "f", want, 4 * MIB);
	free(bytes);
	free(want);
	mount_close(&m);
}

/* --- an engine that is watched --- */

static struct {
	struct engine_ops ops;
	const struct engine_ops *inner;
	void (*after_get)(void *arg); /* once */
	void *arg;
	int fail; /* that many calls of get */
} watched;

static int watched_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	void (*fn)(void *arg) = watched.after_get;
	int r;

	if (watched.fail > 0) {
		watched.fail--;
		return -EIO;
	}
	r = watched.inner->get(e, op, ino, ret);
	watched.after_get = NULL;
	if (fn)
		fn(watched.arg);
	return r;
}

static void watch(struct world *w)
{
	memset(&watched, 0, sizeof(watched));
	watched.inner = w->v->engine->ops;
	watched.ops = *watched.inner;
	watched.ops.get = watched_get;
	w->v->engine->ops = &watched.ops;
}

static void unwatch(struct world *w)
{
	w->v->engine->ops = watched.inner;
}

struct behind {
	struct mount *m;
	mfs_ino_t ino;
	struct content *c;
};

/* As restore and the control socket do. */
static void replace_behind(void *arg)
{
	struct behind *b = arg;
	struct world *w = b->m->w;
	struct node n = world_node(w, b->ino);
	struct node_blob data = { .data = (char[]){ "new" }, .size = 3 };
	struct commit cm = { .ino = b->ino, .lay = n.attr.lay, .size = 3, .mtime = 5, .inline_data = &data, .keep_version = true };
	struct mfs_attr attr;

	assert_int_equal(namespace_commit(w->v->ns, &w->op, &cm, &attr), 0);
	node_release(&n);
	content_reload(b->c);
}

static void test_reload_while_the_record_is_read__is_not_lost(void **state)
{
	struct world *w = *state;
	struct mount m;
	struct behind b = { .m = &m, .ino = mount_make(w, "f") };
	char buf[8];

	mount_open(&m, w);
	mount_write(&m, b.ino, (const unsigned char *)"old", 3);
	assert_int_equal(content_open(&m.env, &w->op, b.ino, &b.c), 0);
	content_reload(b.c); /* any reason to read the record */
	watch(w);
	watched.after_get = replace_behind;
	watched.arg = &b;
	(void)!content_read(b.c, &w->op, 0, buf, sizeof(buf)); /* old or new: they are at the same time */
	unwatch(w);
	assert_int_equal(content_read(b.c, &w->op, 0, buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "new", 3);
	content_free(b.c);
	mount_close(&m);
}

/* A truncation to nothing drops what is dirty: then it must not fail halfway and leave the old content without a word. */
static void test_truncate_while_the_index_fails__loses_nothing_silently(void **state)
{
	struct world *w = *state;
	struct mfs_attr attr;
	struct content *c;
	struct mount m;
	mfs_ino_t ino = mount_make(w, "f");
	int r;

	mount_open(&m, w);
	mount_write(&m, ino, (const unsigned char *)"old", 3);
	c = mount_writer(&m, ino);
	assert_int_equal(content_write(c, &w->op, 0, "NEW!", 4, false), 0);
	watch(w);
	watched.fail = 1;
	r = content_truncate(c, &w->op, 0, &attr);
	unwatch(w);
	mount_close_writer(&m, c);
	mount_assert_reads(&m, ino, (const unsigned char *)"NEW!", r < 0 ? 4 : 0);
	mount_close(&m);
}

/* --- memory --- */

static void *cancel_soon(void *arg)
{
	usleep(300000);
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

/* Others hold all memory and give nothing back: who is killed meanwhile does not wait for ever. */
static void test_write_without_memory__ends_when_it_is_cancelled(void **state)
{
	struct world *w = *state;
	struct op_ctx op = { 0 };
	struct content *c;
	struct mount m;
	pthread_t t;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	c = mount_writer(&m, ino);
	assert_true(budget_try(m.budget, 16 * MIB));
	assert_int_equal(pthread_create(&t, NULL, cancel_soon, &op.cancelled), 0);
	assert_int_equal(content_write(c, &op, 0, "x", 1, false), -ECANCELED);
	pthread_join(t, NULL);
	budget_put(m.budget, 16 * MIB);
	mount_close_writer(&m, c);
	mount_close(&m);
}

/* An inline file grows while others hold all memory: there is no room for its old bytes, and none is needed. */
static void test_inline_file_grows_without_memory__is_committed(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(400 * KIB, 3);
	struct content *c;
	struct mount m;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	w->cfg.inline_size = 16 * KIB;
	mount_write(&m, ino, bytes, 10 * KIB);
	c = mount_writer(&m, ino);
	assert_int_equal(content_write(c, &w->op, 10 * KIB, bytes + 10 * KIB, 190 * KIB, false), 0);
	while (budget_try(m.budget, KIB)) /* all that is left */
		;
	assert_int_equal(content_write(c, &w->op, 200 * KIB, bytes + 200 * KIB, 200 * KIB, false), 0);
	budget_put(m.budget, budget_max(m.budget) - 256 * KIB);
	mount_close_writer(&m, c);
	mount_assert_reads(&m, ino, bytes, 400 * KIB);
	free(bytes);
	mount_close(&m);
}

/* A stream without a name is read back on a store that must complete it first: flush has nothing to do then. */
static void test_read_of_an_unlinked_stream__ends(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(11 * MIB, 8), *got = malloc(11 * MIB);
	struct content *c;
	struct mount m;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	c = mount_writer(&m, ino);
	assert_int_equal(content_write(c, &w->op, 0, bytes, 11 * MIB, false), 0);
	world_unlink(w, "f");
	assert_int_equal(content_read(c, &w->op, 0, got, 11 * MIB), 11 * MIB);
	assert_memory_equal(got, bytes, 11 * MIB);
	content_writer_closed(c);
	content_free(c);
	free(bytes);
	free(got);
	mount_close(&m);
}

/* --- a copy that breaks off --- */

static struct {
	struct object_store_ops ops;
	const struct object_store_ops *inner;
} broken;

static int broken_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			    const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	int r = broken.inner->part_copy(u, op, number, off, src, src_off, len / 2);

	return r < 0 ? r : -EIO;
}

static void test_copy_that_breaks_off__leaves_zeros_behind_the_end(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(8 * MIB, 4), *want = calloc(1, 8 * MIB);
	struct content *src = NULL, *dst;
	struct mfs_attr attr;
	struct mount m;
	mfs_ino_t from = mount_make(w, "from"), to = mount_make(w, "to");

	mount_open(&m, w);
	mount_write(&m, from, bytes, 8 * MIB);
	assert_int_equal(content_open(&m.env, &w->op, from, &src), 0);
	dst = mount_writer(&m, to);
	broken.inner = w->v->store->ops;
	broken.ops = *broken.inner;
	broken.ops.part_copy = broken_part_copy;
	w->v->store->ops = &broken.ops;
	assert_int_equal(content_copy_range(dst, &w->op, 0, src, 4 * KIB, 8 * MIB - 4 * KIB), -EIO);
	w->v->store->ops = broken.inner;
	assert_int_equal(content_write(dst, &w->op, 7 * MIB, bytes, MIB, false), 0);
	assert_int_equal(content_truncate(dst, &w->op, 8 * MIB, &attr), 0);
	memcpy(want + 7 * MIB, bytes, MIB);
	mount_close_writer(&m, dst);
	content_free(src);
	mount_assert_reads(&m, to, want, 8 * MIB);
	free(bytes);
	free(want);
	mount_close(&m);
}

/* --- utimens while a commit is under way --- */

static struct {
	struct object_store_ops ops;
	const struct object_store_ops *inner;
	struct world *w;
	struct content *c;
	mfs_ino_t ino;
	pthread_t thread;
	bool begun;
} timed;

/* As setattr does. */
static void *set_mtime(void *arg)
{
	struct op_ctx op = { 0 };
	struct set_attr sa = { .mask = EDIT_MTIME, .mtime = 1000000007 };
	struct mfs_attr attr;

	content_mtime_is_set(timed.c);
	assert_int_equal(namespace_setattr(timed.w->v->ns, &op, timed.ino, &sa, &attr), 0);
	return arg;
}

static int timed_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const void *buf,
		     size_t len, const struct object_meta *meta, struct object_info *ret)
{
	if (!timed.begun) {
		timed.begun = true;
		assert_int_equal(pthread_create(&timed.thread, NULL, set_mtime, NULL), 0);
		usleep(200000);
	}
	return timed.inner->put(s, op, bucket, key, buf, len, meta, ret);
}

static void test_mtime_that_is_set_during_a_commit__stays(void **state)
{
	struct world *w = *state;
	struct mount m;
	struct node n;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	memset(&timed, 0, sizeof(timed));
	timed.w = w;
	timed.ino = ino;
	timed.c = mount_writer(&m, ino);
	timed.inner = w->v->store->ops;
	timed.ops = *timed.inner;
	timed.ops.put = timed_put;
	w->v->store->ops = &timed.ops;
	assert_int_equal(content_write(timed.c, &w->op, 0, "text", 4, false), 0);
	assert_int_equal(content_flush(timed.c, &w->op, NULL, NULL), 0);
	assert_true(timed.begun);
	pthread_join(timed.thread, NULL);
	w->v->store->ops = timed.inner;
	mount_close_writer(&m, timed.c);
	n = world_node(w, ino);
	assert_int_equal(n.attr.mtime, 1000000007);
	node_release(&n);
	mount_close(&m);
}

/* --- restore and retention --- */

static void collect(struct world *w, int64_t now)
{
	struct gc_options opt = { .delete_it = true, .now = now, .dropped_age_ns = 0 };
	struct gc_result res = { 0 };

	assert_int_equal(gc_expire(w->v, &w->op, &opt, &res), 0);
}

/* The version's retention ended, and its objects were collected, while somebody was about to bring it back. */
static void test_restore_of_a_version_that_is_gone__changes_nothing(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(8 * MIB, 5);
	struct verb_call call = { .vol = w->v, .op = &w->op };
	struct past_list l = { 0 };
	struct content *c;
	struct mount m;
	mfs_ino_t ino = mount_make(w, "f");

	mount_open(&m, w);
	mount_write(&m, ino, bytes, 8 * MIB);
	for (unsigned int i = 1; i <= 2; i++) {
		c = mount_writer(&m, ino);
		assert_int_equal(content_write(c, &w->op, 5 * MIB, bytes + i, 4 * KIB, false), 0);
		memmove(bytes + 5 * MIB, bytes + i, 4 * KIB);
		mount_close_writer(&m, c);
	}
	assert_int_equal(namespace_past(w->v->ns, &w->op, "f", &l), 0);
	assert_true(l.n >= 2);
	assert_true(l.v[0].slices.size > 0);
	assert_int_equal(world_force(w), 0); /* the record names none of the version's objects any more */
	for (int i = 0; i < 3; i++)
		collect(w, mfs_now_ns() + 2 * WORLD_RETENTION);
	assert_int_equal(restore_content(&call, &l.v[0], ino), -ENODATA);
	mount_assert_reads(&m, ino, bytes, 8 * MIB);
	past_list_release(&l);
	free(bytes);
	mount_close(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_punch_after_settle_with_holes__is_settled_again),
		WORLD_TEST(test_very_many_holes__are_committed_in_between),
		WORLD_TEST(test_very_many_long_holes__are_filled_rather_than_refused),
		WORLD_TEST(test_punch_of_what_is_a_hole__names_nothing),
		WORLD_TEST(test_reload_while_the_record_is_read__is_not_lost),
		WORLD_TEST(test_truncate_while_the_index_fails__loses_nothing_silently),
		WORLD_TEST(test_write_without_memory__ends_when_it_is_cancelled),
		WORLD_TEST(test_inline_file_grows_without_memory__is_committed),
		WORLD_TEST(test_read_of_an_unlinked_stream__ends),
		WORLD_TEST(test_copy_that_breaks_off__leaves_zeros_behind_the_end),
		WORLD_TEST(test_mtime_that_is_set_during_a_commit__stays),
		WORLD_TEST(test_restore_of_a_version_that_is_gone__changes_nothing),
	};

	return world_run_suite("review: content", tests, MFS_ARRAY_LEN(tests));
}
