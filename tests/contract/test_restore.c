/* Restoring versions in every state of content: inline, patched with documents, holes, tails; into the same inode and another. */
#include <errno.h>
#include <stdlib.h>

#include "fs/gc.h"
#include "fs/snapshot.h"
#include "tests/lib/volume_world.h"

#define SPAN 60000

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* Contents of one file, as they followed each other. */
struct history {
	struct world *w;
	mfs_ino_t ino;
	uint64_t seed, next_doc;
	unsigned char *was[8];
	size_t size[8], n;
};

static void remember(struct history *h, const unsigned char *bytes, size_t size)
{
	assert_true(h->n < MFS_ARRAY_LEN(h->was));
	h->was[h->n] = malloc(size + 1);
	memcpy(h->was[h->n], bytes, size);
	h->size[h->n++] = size;
}

static void history_free(struct history *h)
{
	for (size_t i = 0; i < h->n; i++)
		free(h->was[i]);
}

static void put(struct history *h, const char *key, const void *buf, size_t len, struct object_info *info)
{
	struct volume *v = h->w->v;
	struct object_meta meta = { .ino = h->ino, .session = v->session, .op = atomic_fetch_add(&v->next_op, 1), .mode = 0600 };

	assert_int_equal(object_put(v->store, &h->w->op, NULL, key, buf, len, &meta, info), 0);
}

static void commit(struct history *h, struct commit *c)
{
	struct node n = world_node(h->w, h->ino);
	struct mfs_attr attr;

	c->ino = h->ino;
	c->lay = n.attr.lay;
	c->mtime = mfs_now_ns();
	c->keep_version = true;
	assert_int_equal(namespace_commit(h->w->v->ns, &h->w->op, c, &attr), 0);
	node_release(&n);
}

static void commit_inline(struct history *h, size_t size)
{
	unsigned char buf[1000];
	struct node_blob data = { buf, sizeof(buf) };
	struct commit c = { .size = size, .inline_data = &data, .todo = 1 };
	unsigned char *want = calloc(1, size);

	for (size_t i = 0; i < sizeof(buf); i++)
		want[i] = buf[i] = (unsigned char)rnd(&h->seed);
	commit(h, &c);
	remember(h, want, size);
	free(want);
}

/* An object of which the first half counts, one patch over it, many holes in documents, a tail. */
static void commit_patched(struct history *h)
{
	struct segment s = { .pos = 7, .len = SPAN / 2, .session = h->w->v->session, .op = atomic_fetch_add(&h->w->v->next_op, 1) };
	unsigned char *object = malloc(SPAN), *want = calloc(1, SPAN);
	struct node_blob slices;
	struct slices_doc_list docs;
	struct object_info base, patch;
	struct layout l;
	char path[] = "f", key[LAYOUT_PATCH_KEY_MAX];
	struct commit c = { .ref.key = path, .obj_len = SPAN / 2, .size = SPAN, .slices = &slices, .todo = 1 };

	layout_init(&l);
	for (size_t i = 0; i < SPAN; i++)
		object[i] = (unsigned char)rnd(&h->seed);
	put(h, "f", object, SPAN / 2, &base);
	memcpy(c.ref.version, base.version, sizeof(c.ref.version));
	c.etag = base.etag;
	memcpy(want, object, SPAN / 2);
	layout_patch_key(&s, key);
	put(h, key, object + SPAN / 2, SPAN / 2, &patch);
	memcpy(s.version, patch.version, sizeof(s.version));
	assert_int_equal(layout_add_segment(&l, &s, NULL, NULL), 0);
	assert_int_equal(layout_set(&l, SPAN / 4, SPAN / 2, 7), 0);
	memcpy(want + SPAN / 4, object + SPAN / 2, SPAN / 2);
	for (int i = 0; i < 600; i++) {
		uint64_t off = rnd(&h->seed) % (SPAN - 8);

		assert_int_equal(layout_set(&l, off, 5, LAYOUT_HOLE), 0);
		memset(want + off, 0, 5);
	}
	assert_int_equal(layout_make_docs(&l, h->ino, h->w->v->session, h->next_doc, &docs), 0);
	assert_true(docs.n > 1);
	h->next_doc += docs.n;
	assert_int_equal(layout_encode(&l, &slices), 0);
	c.docs = docs.v;
	c.n_docs = (uint32_t)docs.n;
	c.alloc = SPAN;
	commit(h, &c);
	remember(h, want, SPAN);
	slices_doc_list_release(&docs);
	free(slices.data);
	layout_release(&l);
	free(object);
	free(want);
}

static void check_content(struct world *w, const char *path, const unsigned char *want, size_t size)
{
	struct node n = world_node(w, world_ino(w, path));
	unsigned char *buf = malloc(size + 1);
	struct snapshot *s;

	assert_int_equal(n.attr.size, size);
	assert_int_equal(snapshot_of_node(w->v, &w->op, &n, &s), 0);
	assert_int_equal(snapshot_read(s, &w->op, 0, buf, size), 0);
	assert_memory_equal(buf, want, size);
	snapshot_free(s);
	node_release(&n);
	free(buf);
}

static struct history make_history(struct world *w)
{
	struct history h = { .w = w, .seed = 12345 };

	world_write(w, "f", "the first");
	h.ino = world_ino(w, "f");
	assert_int_equal(namespace_reserve(w->v->ns, &w->op, 1000, &h.next_doc), 0);
	remember(&h, (const unsigned char *)"the first", 9);
	commit_patched(&h);
	commit_inline(&h, 1000);
	commit_patched(&h);
	commit_inline(&h, 5000); /* zeros behind the bytes */
	commit_patched(&h);
	return h;
}

/* The version whose content is h->was[i], by its place in the list: newest first, h->n - 2 is the newest of them. */
static void version_of(struct history *h, size_t i, char *buf, size_t size)
{
	struct past_list l = { 0 };
	size_t k = h->n - 2 - i;

	assert_int_equal(namespace_past(h->w->v->ns, &h->w->op, "f", &l), 0);
	assert_true(l.n > k);
	snprintf(buf, size, "f@%llu", (unsigned long long)l.v[k].data);
	past_list_release(&l);
}

static void expire(struct world *w)
{
	struct gc_options opt = { .delete_it = true, .now = mfs_now_ns(), .dropped_age_ns = 0 };
	struct gc_result res = { 0 };

	for (int i = 0; i < 3; i++)
		assert_int_equal(gc_run(w->v, &w->op, &opt, &res), 0);
}

static void test_into_the_same_inode__names_everything_again(void **state)
{
	struct history h = make_history(*state);
	struct world *w = *state;
	char version[6][40];
	size_t n = h.n;

	for (size_t i = 0; i + 1 < n; i++)
		version_of(&h, i, version[i], sizeof(version[i]));
	for (size_t i = 0; i + 1 < n; i++) {
		struct node node;

		assert_int_equal(VERB(w, 0, "restore", version[i]), 0);
		check_content(w, "f", h.was[i], h.size[i]);
		node = world_node(w, h.ino);
		assert_true(node.attr.alloc > 0 && node.attr.alloc <= h.size[i] + 4095);
		assert_true(node.todo > 0);
		node_release(&node);
		expire(w);
		check_content(w, "f", h.was[i], h.size[i]);
	}
	/* And what was there all the time is a version, too. */
	world_force(w);
	expire(w);
	check_content(w, "f", h.was[n - 2], h.size[n - 2]);
	for (size_t i = 0; i + 1 < n; i++) {
		assert_int_equal(VERB(w, 0, "restore", version[i]), 0);
		world_force(w);
		expire(w);
		check_content(w, "f", h.was[i], h.size[i]);
	}
	history_free(&h);
}

static void test_into_another_inode__composes(void **state)
{
	struct history h = make_history(*state);
	struct world *w = *state;
	char version[6][40];

	for (size_t i = 0; i + 1 < h.n; i++)
		version_of(&h, i, version[i], sizeof(version[i]));
	world_unlink(w, "f");
	world_write(w, "f", "another file");
	assert_true(world_ino(w, "f") != h.ino);
	for (size_t i = 0; i + 1 < h.n; i++) {
		struct node n;

		assert_int_equal(VERB(w, 0, "restore", version[i]), 0);
		check_content(w, "f", h.was[i], h.size[i]);
		n = world_node(w, world_ino(w, "f"));
		assert_true(n.slices.size == 0);
		node_release(&n);
		world_force(w);
		expire(w);
		check_content(w, "f", h.was[i], h.size[i]);
	}
	history_free(&h);
}

static void test_to_stdout__whatever_it_is_made_of(void **state)
{
	struct history h = make_history(*state);
	struct world *w = *state;

	for (size_t i = 0; i + 1 < h.n; i++) {
		char version[40];

		version_of(&h, i, version, sizeof(version));
		assert_int_equal(VERB(w, 0, "restore", "--stdout", version), 0);
		assert_int_equal(w->out_len, h.size[i]);
		assert_memory_equal(w->out, h.was[i], h.size[i]);
	}
	history_free(&h);
}

static void test_undelete__brings_slices_back(void **state)
{
	struct history h = make_history(*state);
	struct world *w = *state;

	world_unlink(w, "f");
	expire(w);
	assert_int_equal(VERB(w, 0, "undelete", "f"), 0);
	assert_true(world_ino(w, "f") == h.ino);
	check_content(w, "f", h.was[h.n - 1], h.size[h.n - 1]);
	world_force(w);
	check_content(w, "f", h.was[h.n - 1], h.size[h.n - 1]);
	history_free(&h);
}

static void test_a_lost_object__is_said_and_changes_nothing(void **state)
{
	struct history h = make_history(*state);
	struct world *w = *state;
	struct past_list l = { 0 };
	char version[40];

	version_of(&h, 0, version, sizeof(version));
	assert_int_equal(namespace_past(w->v->ns, &w->op, "f", &l), 0);
	assert_int_equal(object_delete_version(w->v->store, &w->op, &l.v[l.n - 1].ref), 0);
	past_list_release(&l);
	assert_int_equal(VERB(w, 0, "restore", version), 1);
	assert_non_null(strstr(w->err, "not there any more"));
	assert_int_equal(VERB(w, 0, "restore", "--stdout", version), 1);
	check_content(w, "f", h.was[h.n - 1], h.size[h.n - 1]);
	history_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_into_the_same_inode__names_everything_again),
		WORLD_TEST(test_into_another_inode__composes),
		WORLD_TEST(test_to_stdout__whatever_it_is_made_of),
		WORLD_TEST(test_undelete__brings_slices_back),
		WORLD_TEST(test_a_lost_object__is_said_and_changes_nothing),
	};

	return world_run_suite("restore", tests, MFS_ARRAY_LEN(tests));
}
