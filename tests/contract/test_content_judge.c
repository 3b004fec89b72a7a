/*
 * A close where storage rules demand a least size: what is refused is kept and the file has what it had, however the content
 * goes to the store, whatever was committed before the close, and with another mount in between.
 */
#include "tests/lib/content_world.h"

#include "meta/schema.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)

static void set_least(struct world *w, uint64_t min)
{
	struct mfs_attr attr;
	char text[64];

	snprintf(text, sizeof(text), "{\"min_size\": %ju}", (uintmax_t)min);
	assert_int_equal(namespace_setxattr(w->vol.ns, &w->op, MFS_ROOT_INO, SCHEMA_XATTR, text, strlen(text), 0, false, &attr), 0);
}

static int close_it(struct world *w, struct content *c, bool last)
{
	struct mfs_attr attr;
	bool done;

	return content_close(c, &w->op, last, &attr, &done);
}

/* As a close that is refused for good does it (fs/fuse/handle.c). */
static void refuse_at_release(struct world *w, struct content *c)
{
	assert_true(content_writer_closed(c) || !content_is_refused(c));
	assert_int_equal(close_it(w, c, true), -EINVAL);
	content_give_up(c, &w->op, -EINVAL);
	content_free(c);
}

static void put(struct world *w, struct content *c, uint64_t off, const unsigned char *bytes, size_t len)
{
	assert_int_equal(content_write(c, &w->op, off, bytes, len, false), 0);
}

static unsigned char *noise(size_t size, uint64_t seed)
{
	unsigned char *bytes = malloc(size + 8);

	for (size_t i = 0; i < size; i += 8) {
		uint64_t v = rnd(&seed);

		memcpy(bytes + i, &v, 8);
	}
	return bytes;
}

struct kept {
	char path[128];
	uint64_t size;
	unsigned int n, told; /* told: without content */
};

static int see(void *arg, const struct failure *f)
{
	struct kept *k = arg;

	assert_string_equal(f->kind, "min_size");
	k->told += !f->kept;
	k->n += f->kept;
	if (f->kept) {
		snprintf(k->path, sizeof(k->path), REFUSED_PATH "%s", f->id);
		k->size = f->size;
	}
	return 0;
}

static struct kept look(struct world *w)
{
	struct kept k = { .n = 0 };

	assert_int_equal(namespace_failures(w->vol.ns, &w->op, &(struct failure_query){ 0 }, see, &k), 0);
	return k;
}

/* The newest of `n` that were kept has these bytes: made the file's own, and read. */
static void assert_kept(struct world *w, unsigned int n, const unsigned char *want, size_t size)
{
	struct kept k = look(w);
	struct version_list l = { 0 };
	struct node now = file_node(w);
	struct mfs_attr attr;
	struct commit c;

	assert_int_equal(k.n, n);
	assert_int_equal(k.size, size);
	assert_int_equal(engine_versions_by_path(w->vol.engine, &w->op, k.path, &l), 0);
	assert_int_equal(l.n, 1);
	c = (struct commit){ .ino = w->ino, .lay = now.attr.lay, .ref = l.v[0].ref, .etag = l.v[0].etag, .obj_len = l.v[0].obj_len,
			     .size = l.v[0].size, .inline_data = &l.v[0].inline_data, .slices = &l.v[0].slices, .keep_version = true,
			     .mtime = 1, .todo = 1 };
	assert_int_equal(namespace_commit(w->vol.ns, &w->op, &c, &attr), 0);
	assert_stored(w, want, size);
	version_list_release(&l);
	node_release(&now);
}

typedef void scenario_fn(struct world *w);

static void on_all(scenario_fn *fn, uint64_t budget)
{
	for (enum store_kind kind = 0; kind < STORE_KINDS; kind++) {
		for (uint64_t inline_size = 0; inline_size <= 16 * KIB; inline_size += 16 * KIB) {
			struct world_options o = { .store = kind, .budget = budget, .inline_size = inline_size };
			struct world w;

			world_open_opt(&w, &o);
			fn(&w);
			world_close(&w);
		}
	}
}

static void a_new_one(struct world *w)
{
	unsigned char *bytes = noise(2000, 1);
	struct content *c;

	set_least(w, 1000);
	c = open_writer(w);
	assert_int_equal(close_it(w, c, false), 0); /* a shell's redirection */
	put(w, c, 0, bytes, 999);
	assert_int_equal(close_it(w, c, false), -EINVAL);
	assert_true(content_is_refused(c) && content_is_dirty(c));
	assert_int_equal(close_it(w, c, false), -EINVAL);
	assert_int_equal(look(w).n, 1); /* once */
	assert_stored(w, bytes, 0);
	put(w, c, 999, bytes + 999, 1001); /* it goes on, and mends it */
	assert_false(content_is_refused(c));
	assert_int_equal(close_it(w, c, false), 0);
	assert_false(content_writer_closed(c));
	content_free(c);
	assert_stored(w, bytes, 2000);
	assert_kept(w, 1, bytes, 999);
	free(bytes);
}

static void an_old_one(struct world *w)
{
	unsigned char *bytes = noise(9 * MIB, 2);
	struct content *c = open_writer(w);

	put(w, c, 0, bytes, 9 * MIB);
	assert_int_equal(close_it(w, c, false), 0);
	close_writer(c);
	set_least(w, 8 * MIB);
	/* Cut, in memory: a patch. */
	c = open_writer(w);
	put(w, c, 5, (const unsigned char *)"changed", 7);
	assert_int_equal(content_truncate(c, &w->op, 7 * MIB, NULL), 0);
	assert_int_equal(close_it(w, c, false), -EINVAL);
	refuse_at_release(w, c);
	assert_stored(w, bytes, 9 * MIB);
	/* Written anew, in parts. */
	c = open_writer(w);
	assert_int_equal(content_truncate(c, &w->op, 0, NULL), 0);
	put(w, c, 0, bytes + 1, 7 * MIB);
	assert_int_equal(close_it(w, c, false), -EINVAL);
	content_give_up(c, &w->op, -EINVAL);
	close_writer(c);
	assert_stored(w, bytes, 9 * MIB);
	assert_int_equal(look(w).n, 2);
	assert_kept(w, 2, bytes + 1, 7 * MIB);
	free(bytes);
}

static void what_was_committed_before(struct world *w)
{
	unsigned char *bytes = noise(100 * KIB, 3);
	struct content *c = open_writer(w);

	put(w, c, 0, bytes, 100 * KIB);
	assert_int_equal(close_it(w, c, false), 0);
	close_writer(c);
	set_least(w, 50 * KIB);
	c = open_writer(w);
	assert_int_equal(content_truncate(c, &w->op, 0, NULL), 0);
	put(w, c, 0, bytes + 1, 10 * KIB);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0); /* fsync */
	assert_stored(w, bytes + 1, 10 * KIB);
	put(w, c, 10 * KIB, bytes + 1 + 10 * KIB, 10 * KIB);
	assert_int_equal(close_it(w, c, false), -EINVAL);
	content_give_up(c, &w->op, -EINVAL);
	close_writer(c);
	assert_stored(w, bytes, 100 * KIB);
	/* A truncation alone. */
	c = open_writer(w);
	assert_int_equal(content_truncate(c, &w->op, 3, NULL), 0);
	assert_int_equal(close_it(w, c, true), -EINVAL);
	content_give_up(c, &w->op, -EINVAL);
	close_writer(c);
	assert_stored(w, bytes, 100 * KIB);
	assert_kept(w, 2, bytes, 3);
	free(bytes);
}

/* Emptied and closed: an answer only at the last close. */
static void one_that_is_emptied(struct world *w)
{
	unsigned char *bytes = noise(30 * KIB, 4);
	struct content *c = open_writer(w);

	put(w, c, 0, bytes, 30 * KIB);
	assert_int_equal(close_it(w, c, false), 0);
	close_writer(c);
	set_least(w, 10);
	c = open_writer(w);
	assert_int_equal(content_truncate(c, &w->op, 0, NULL), 0);
	assert_int_equal(close_it(w, c, false), 0);
	refuse_at_release(w, c);
	assert_stored(w, bytes, 30 * KIB);
	assert_int_equal(look(w).n, 1);
	free(bytes);
}

/* The end first, with too little memory for all: parts are committed on the way. */
static void too_little_memory(struct world *w)
{
	size_t size = 40 * MIB;
	unsigned char *bytes = noise(size, 5);
	struct content *c;

	set_least(w, 64 * MIB);
	c = open_writer(w);
	for (size_t at = size; at > 0; at -= MIB)
		put(w, c, at - MIB, bytes + at - MIB, MIB);
	assert_int_equal(close_it(w, c, false), -EINVAL);
	content_give_up(c, &w->op, -EINVAL);
	close_writer(c);
	assert_stored(w, bytes, 0);
	assert_kept(w, 1, bytes, size);
	free(bytes);
}

static void another_mount(struct world *w)
{
	unsigned char *bytes = noise(100 * KIB, 6);
	struct content *c = open_writer(w), *d;
	struct world other;

	world_open_second(&other, w, 64 * MIB);
	put(w, c, 0, bytes, 100 * KIB);
	assert_int_equal(close_it(w, c, false), 0);
	close_writer(c);
	set_least(w, 50 * KIB);
	namespace_rules_changed(other.vol.ns);
	/* It came before: that is what stays. */
	c = open_writer(w);
	assert_int_equal(content_truncate(c, &w->op, 0, NULL), 0);
	put(w, c, 0, bytes, 5);
	d = open_writer(&other);
	put(&other, d, 7, bytes + 100, 20);
	memcpy(bytes + 7, bytes + 100, 20);
	assert_int_equal(close_it(&other, d, false), 0);
	close_writer(d);
	assert_int_equal(close_it(w, c, false), -EINVAL);
	refuse_at_release(w, c);
	assert_stored(w, bytes, 100 * KIB);
	/* It came between what we had committed and our close: nobody can tell what to take back. */
	c = open_writer(w);
	assert_int_equal(content_truncate(c, &w->op, 1000, NULL), 0);
	d = open_writer(&other);
	put(&other, d, 7, bytes + 200, 20);
	memcpy(bytes + 7, bytes + 200, 20);
	assert_int_equal(content_flush(d, &other.op, NULL, NULL), 0);
	content_news(c, UINT64_MAX, UINT64_MAX);
	put(w, c, 30, bytes + 300, 5);
	memcpy(bytes + 30, bytes + 300, 5);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
	assert_int_equal(close_it(w, c, false), -EINVAL);
	content_give_up(c, &w->op, -EINVAL);
	close_writer(c);
	close_writer(d);
	assert_stored(w, bytes, 1000);
	assert_int_equal(look(w).n, 1);
	assert_int_equal(look(w).told, 1);
	world_close(&other);
	free(bytes);
}

#define TEST(fn, budget)                          \
	static void test_##fn(void **state)       \
	{                                         \
		(void)state;                      \
		on_all(fn, (budget));             \
	}
TEST(a_new_one, 64 * MIB)
TEST(an_old_one, 64 * MIB)
TEST(what_was_committed_before, 64 * MIB)
TEST(one_that_is_emptied, 64 * MIB)
TEST(too_little_memory, 16 * MIB)
TEST(another_mount, 64 * MIB)

/* Each call of the store fails once: the bytes are there still, and a later close keeps them. */
static void test_store_fails__nothing_is_lost(void **state)
{
	(void)state;
	for (unsigned int nth = 1; nth < 12; nth++) {
		struct world_options o = { .store = STORE_REMOTE, .budget = 64 * MIB, .fail_nth = nth };
		unsigned char *bytes = noise(100 * KIB, 7);
		struct content *c;
		struct world w;
		int r;

		world_open_opt(&w, &o);
		set_least(&w, 200 * KIB);
		c = open_writer(&w);
		put(&w, c, 0, bytes, 100 * KIB);
		r = close_it(&w, c, false);
		assert_true(r == -EINVAL || r == -ENOSPC);
		assert_true(content_is_dirty(c));
		assert_int_equal(close_it(&w, c, false), -EINVAL);
		assert_int_equal(look(&w).n, 1);
		refuse_at_release(&w, c);
		assert_stored(&w, bytes, 0);
		world_close(&w);
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_one),	    cmocka_unit_test(test_an_old_one),
		cmocka_unit_test(test_what_was_committed_before), cmocka_unit_test(test_one_that_is_emptied),
		cmocka_unit_test(test_too_little_memory),   cmocka_unit_test(test_another_mount),
		cmocka_unit_test(test_store_fails__nothing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
