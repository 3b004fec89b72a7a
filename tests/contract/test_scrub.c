/*
 * fsck and scrub over crafted damage: each fault is found by its tool, told once a state, and nothing else is.
 */
#include "tests/lib/world_mount.h"

#include <errno.h>
#include <stdlib.h>

#include "common/checksum.h"
#include "fs/fsck.h"
#include "fs/reconcile.h"
#include "fs/scrub.h"
#include "meta/layout.h"

struct told {
	unsigned int n;
	char what[32], path[64], state[64], detail[200], intact[200];
	uint64_t lost;
	bool repaired, quarantined;
};

static void on_damage(void *arg, const struct scrub_damage *d)
{
	struct told *t = arg;

	t->n++;
	snprintf(t->what, sizeof(t->what), "%s", d->what);
	snprintf(t->path, sizeof(t->path), "%s", d->path);
	snprintf(t->state, sizeof(t->state), "%s", d->state);
	snprintf(t->detail, sizeof(t->detail), "%s", d->detail);
	snprintf(t->intact, sizeof(t->intact), "%s", d->intact);
	t->lost = d->lost;
	t->quarantined = d->quarantined;
}

static void on_problem(void *arg, const struct fsck_problem *p)
{
	struct told *t = arg;

	t->n++;
	snprintf(t->what, sizeof(t->what), "%s", p->what);
	snprintf(t->path, sizeof(t->path), "%s", p->where);
	snprintf(t->detail, sizeof(t->detail), "%s", p->detail);
	t->repaired = p->repaired;
}

static struct told scrub(struct world *w, bool quarantine, struct scrub_result *ret)
{
	struct told t = { 0 };
	struct scrub_options opt = { .quarantine = quarantine, .damage = on_damage, .arg = &t };

	*ret = (struct scrub_result){ 0 };
	assert_int_equal(scrub_run(w->v, &w->op, &opt, ret), 0);
	assert_int_equal(ret->damaged, t.n);
	return t;
}

static struct told fsck(struct world *w, bool repair)
{
	struct told t = { 0 };
	struct fsck_options opt = { .repair = repair, .problem = on_problem, .arg = &t };
	struct fsck_result res;

	assert_int_equal(fsck_run(w->v, &w->op, &opt, &res), 0);
	return t;
}

/* Changes the record as no commit would. */
static void craft(struct world *w, mfs_ino_t ino, void (*change)(struct node *n))
{
	struct node n = world_node(w, ino);
	struct change c = { 0 };
	struct write *wr = change_write(&c, WRITE_EDIT, ino);

	change(&n);
	wr->node = &n;
	wr->mask = EDIT_REF | EDIT_SIZE | EDIT_TODO;
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	node_release(&n);
}

static void set_etag(struct node *n)
{
	mfs_checksum_etag(mfs_checksum("content", 7), n->etag);
}

static void set_wrong_etag(struct node *n)
{
	mfs_checksum_etag(12345, n->etag);
}

static void set_garbage_slices(struct node *n)
{
	free(n->slices.data);
	n->slices.data = strdup("\xff garbage");
	n->slices.size = 9;
	n->todo = INT64_MAX / 2;
}

static void set_inline_and_object(struct node *n)
{
	free(n->inline_data.data);
	n->inline_data.data = strdup("inline");
	n->inline_data.size = 6;
	n->todo = INT64_MAX / 2;
}

static void set_inline(struct node *n)
{
	set_inline_and_object(n);
	object_ref_release(&n->ref);
	n->etag[0] = '\0';
	n->attr.obj_len = 0;
	n->attr.size = 6;
	n->todo = 0;
}

static void set_flipped(struct node *n)
{
	assert_true(n->inline_data.size > 0 && n->etag[0]);
	((unsigned char *)n->inline_data.data)[n->inline_data.size / 2] ^= 0x10;
}

static void set_inline_too_long(struct node *n)
{
	set_inline(n);
	n->attr.size = 5;
	n->todo = INT64_MAX / 2;
}

#define DOC_SLICES 300 /* more than a record takes */

/* n slices, the first over bytes 2 and 3 (2 bytes) or over every other byte from 2 on; with_object: which is stored. */
static void patch(struct world *w, mfs_ino_t ino, bool with_object, unsigned int slices)
{
	static const char bytes[DOC_SLICES] = "XY";
	size_t len = slices == 1 ? 2 : slices;
	struct node n = world_node(w, ino);
	struct segment s = { .pos = 0, .len = len, .session = 77, .op = 5, .sum = mfs_checksum(bytes, len) };
	struct object_meta meta = volume_object_meta(w->v, &n.attr);
	struct object_info info = { .version = "0000000000000001-00-1-1-1" };
	struct slices_doc_list docs = { 0 };
	struct node_blob blob = { 0 };
	char key[LAYOUT_PATCH_KEY_MAX];
	struct mfs_attr attr;
	struct layout l;
	uint64_t first;
	struct commit c = { .ino = ino, .lay = n.attr.lay, .ref = n.ref, .obj_len = n.attr.obj_len, .size = n.attr.size,
			    .etag = n.etag, .mtime = 1, .slices = &blob, .todo = INT64_MAX / 2, .keep_version = slices == 1 };

	layout_patch_key(&s, key);
	if (with_object)
		assert_int_equal(object_put(w->v->store, &w->op, NULL, key, bytes, len, &meta, &info), 0);
	memcpy(s.version, info.version, sizeof(s.version));
	layout_init(&l);
	for (unsigned int i = 0; i < slices; i++)
		assert_int_equal(layout_set(&l, 2 + 2 * i, len / slices, i), 0);
	assert_int_equal(layout_add_segment(&l, &s, NULL, NULL), 0);
	if (layout_docs_needed(&l)) {
		assert_int_equal(namespace_reserve(w->v->ns, &w->op, (unsigned int)layout_docs_needed(&l), &first), 0);
		assert_int_equal(layout_make_docs(&l, ino, 77, first, &docs), 0);
		c.docs = docs.v;
		c.n_docs = (uint32_t)docs.n;
	}
	assert_int_equal(layout_encode(&l, &blob), 0);
	assert_int_equal(namespace_commit(w->v->ns, &w->op, &c, &attr), 0);
	free(blob.data);
	slices_doc_list_release(&docs);
	layout_release(&l);
	node_release(&n);
}

static void test_sound_volume__has_no_damage(void **state)
{
	struct world *w = *state;
	struct scrub_result r;
	mfs_ino_t ino = world_write(w, "a", "content");

	world_dir(w, "d");
	world_write(w, "d/b", "other");
	world_write(w, "gone", "removed");
	world_unlink(w, "gone");
	craft(w, ino, set_etag);
	patch(w, ino, true, 1);
	assert_int_equal(fsck(w, false).n, 0);
	assert_int_equal(scrub(w, false, &r).n, 0);
	assert_int_equal(r.files, 3);
	assert_int_equal(r.versions, 1);
	assert_int_equal(r.objects, 4); /* the version's object is the file's */
	assert_int_equal(r.bytes, 7 + 5 + 7 + 2);
	assert_int_equal(r.unverified, 2); /* world_write() gives no checksum */
}

static void test_wrong_checksum__is_told_of_every_state(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "content");
	struct scrub_result r;
	struct told t;

	craft(w, ino, set_wrong_etag);
	t = scrub(w, false, &r);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.what, "wrong checksum");
	assert_string_equal(t.path, "a");
	assert_string_equal(t.state, "current");
	assert_string_equal(t.intact, "");
	assert_int_equal(t.lost, 7);
	patch(w, ino, true, 1); /* what was, a version, has the same object */
	t = scrub(w, false, &r);
	assert_int_equal(t.n, 2);
	assert_int_equal(t.lost, 7);
	assert_int_equal(r.objects, 2);
	world_write(w, "a", "intact now");
	t = scrub(w, false, &r);
	assert_int_equal(t.n, 2); /* both are versions now */
	assert_string_equal(t.intact, "current");
	assert_string_not_equal(t.state, "current");
	assert_int_equal(fsck(w, false).n, 0);
}

static void test_quarantine__makes_it_missing(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "content");
	struct scrub_result r;
	struct told t;

	craft(w, ino, set_wrong_etag);
	t = scrub(w, true, &r);
	if (w->kind == WORLD_MEM) { /* it cannot, and says so */
		assert_int_equal(r.failed, 1);
		assert_false(t.quarantined);
		return;
	}
	assert_true(t.quarantined);
	assert_int_equal(r.quarantined, 1);
	t = scrub(w, true, &r);
	assert_string_equal(t.what, "missing");
	assert_int_equal(r.quarantined, 0);
	t = fsck(w, false);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.what, "missing object");
	assert_null(world_view(w, "a"));
}

static void test_missing_patch__is_told_with_its_range(void **state)
{
	struct world *w = *state;
	struct scrub_result r;
	struct told t;

	patch(w, world_write(w, "a", "content"), false, 1);
	t = fsck(w, false);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.what, "missing object");
	assert_non_null(strstr(t.detail, "bytes 2-3, 2 in all lost"));
	assert_null(strstr(t.detail, "newest intact version: none"));
	t = scrub(w, false, &r);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.what, "missing");
	assert_int_equal(t.lost, 2);
	assert_string_not_equal(t.intact, "");
}

static void expect_damaged(struct world *w, const char *detail)
{
	struct scrub_result r;
	struct told t = fsck(w, false);

	assert_int_equal(t.n, 1);
	assert_string_equal(t.what, "damaged layout");
	assert_string_equal(t.path, "a");
	if (!strstr(t.detail, detail))
		fail_msg("'%s' lacks '%s'", t.detail, detail);
	t = scrub(w, false, &r);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.what, "damaged record");
	assert_non_null(strstr(t.detail, detail));
}

static void test_malformed_slices__are_told(void **state)
{
	struct world *w = *state;

	craft(w, world_write(w, "a", "content"), set_garbage_slices);
	world_write(w, "b", "other");
	expect_damaged(w, "its slices cannot be read");
}

/* Bytes that the index has itself have a sum too: damaged, nobody is given them, and no object is made of them. */
static void test_inline_bytes_that_are_damaged(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(9000, 1), *got = malloc(9000);
	struct content *c;
	struct scrub_result res;
	struct told t;
	struct mount m;
	mfs_ino_t ino = mount_make(w, "f");

	w->cfg.inline_size = 16384;
	mount_open(&m, w);
	for (int round = 0; round < 2; round++) {
		mount_write(&m, ino, bytes, 9000);
		mount_assert_reads(&m, ino, bytes, 9000);
		if (round == 1) { /* cut, it has a sum of what is left */
			world_truncate(w, "f", 5000);
			mount_assert_reads(&m, ino, bytes, 5000);
		}
		craft(w, ino, set_flipped);
		assert_int_equal(content_open(&m.env, &w->op, ino, &c), 0);
		assert_int_equal(content_read(c, &w->op, 0, got, 9000), -EIO);
		content_free(c);
		t = scrub(w, false, &res);
		assert_int_equal(t.n, round + 1); /* what was written anew left a version, as damaged */
		assert_string_equal(t.what, "damaged record");
		assert_int_not_equal(fsck(w, false).n, 0);
		/* Neither settled, nor cut, nor written into. */
		assert_true(reconcile_file(w->v, &w->op, ino) < 0);
		assert_null(world_view(w, "f"));
		c = mount_writer(&m, ino);
		assert_int_equal(content_truncate(c, &w->op, 100, NULL), -EIO);
		assert_int_equal(content_write(c, &w->op, 10, "x", 1, false), 0);
		assert_int_equal(content_flush(c, &w->op, NULL, NULL), -EIO);
		content_give_up(c, &w->op, -EIO);
		content_writer_closed(c);
		content_free(c);
		/* Written anew it is a file again. */
		c = mount_writer(&m, ino);
		assert_int_equal(content_truncate(c, &w->op, 0, NULL), 0);
		mount_close_writer(&m, c);
	}
	assert_int_equal(world_force(w), 0);
	free(bytes);
	free(got);
	mount_close(&m);
}

static void test_inline_beside_an_object__is_told(void **state)
{
	struct world *w = *state;

	craft(w, world_write(w, "a", "content"), set_inline_and_object);
	expect_damaged(w, "its content is in the index and in an object");
}

static void test_inline_longer_than_the_file__is_told(void **state)
{
	struct world *w = *state;

	craft(w, world_write(w, "a", "content"), set_inline_too_long);
	(void)world_settle(w); /* the object is nobody's now */
	expect_damaged(w, "6 bytes are in the index, the file has 5");
}

static void test_document__missing_or_malformed(void **state)
{
	struct world *w = *state;
	char text[2 * DOC_SLICES + 10], garbage[] = "\xff";
	struct slices_doc_record doc = { .session = 77, .blob = { garbage, 1 } };
	struct change c = { 0 }, d = { 0 };
	mfs_ino_t ino;
	struct node n;
	struct layout l;

	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	ino = world_write(w, "a", text);
	patch(w, ino, true, DOC_SLICES);
	assert_int_equal(fsck(w, false).n, 0);
	n = world_node(w, ino);
	layout_init(&l);
	assert_int_equal(layout_parse(&n.slices, &l), 0);
	assert_true(l.n_docs > 0);
	doc.ino = ino;
	doc.id = l.docs[0].id;
	change_write(&c, WRITE_SLICES_DELETE, 0)->slices = &doc;
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	expect_damaged(w, "is missing");
	change_write(&d, WRITE_SLICES_PUT, 0)->slices = &doc;
	assert_int_equal(engine_apply(w->v->engine, &w->op, &d), 0);
	expect_damaged(w, "cannot be read");
	layout_release(&l);
	node_release(&n);
}

static void test_inline_file_nobody_cares_for__is_queued(void **state)
{
	struct world *w = *state;
	mfs_ino_t ino = world_write(w, "a", "content");
	struct told t;
	struct node n;

	craft(w, ino, set_inline);
	(void)world_settle(w);
	t = fsck(w, false);
	if (t.n == 0) /* the reconciler has found it already */
		return;
	assert_string_equal(t.what, "file that waits for nobody");
	t = fsck(w, true);
	n = world_node(w, ino);
	assert_true(n.todo != 0 || !n.inline_data.size);
	node_release(&n);
	assert_int_equal(fsck(w, false).n, 0);
}

/* Each single call of the store fails once: that is no damage, and nothing is set aside for it. */
static void test_failing_store__is_no_damage(void **state)
{
	struct world *w = *state;
	struct object_store *inner = w->v->store, *fault;
	unsigned int nth, hits = 1;

	craft(w, world_write(w, "a", "content"), set_etag);
	patch(w, world_ino(w, "a"), true, 1);
	for (nth = 1; hits && nth < 50; nth++) {
		struct told t = { 0 };
		struct scrub_options opt = { .quarantine = true, .damage = on_damage, .arg = &t };
		struct scrub_result r = { 0 };

		assert_int_equal(fault_store_new(inner, nth, ENOMEM, &fault), 0);
		w->v->store = fault;
		assert_true(scrub_run(w->v, &w->op, &opt, &r) == -ENOMEM || !fault_store_hits(fault));
		assert_int_equal(t.n, 0);
		hits = fault_store_hits(fault);
		w->v->store = inner;
		free(fault);
	}
	assert_true(nth > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_sound_volume__has_no_damage),
		WORLD_TEST(test_wrong_checksum__is_told_of_every_state),
		WORLD_TEST(test_quarantine__makes_it_missing),
		WORLD_TEST(test_missing_patch__is_told_with_its_range),
		WORLD_TEST(test_malformed_slices__are_told),
		WORLD_TEST(test_inline_bytes_that_are_damaged),
		WORLD_TEST(test_inline_beside_an_object__is_told),
		WORLD_TEST(test_inline_longer_than_the_file__is_told),
		WORLD_TEST(test_document__missing_or_malformed),
		WORLD_TEST(test_inline_file_nobody_cares_for__is_queued),
		WORLD_TEST(test_failing_store__is_no_damage),
	};

	return world_run_suite("scrub and fsck", tests, MFS_ARRAY_LEN(tests));
}
