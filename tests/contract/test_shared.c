/*
 * One object, several files (meta/shared.h, fs/content_share.c): a copy moves no byte, and the object stays as long as any
 * of them names it, in its record, its trash or a version, and no longer.
 */
#include "tests/lib/world_mount.h"

#include <errno.h>
#include <pthread.h>

#include "fs/fsck.h"
#include "fs/gc.h"
#include "fs/restore.h"
#include "fs/verbs_internal.h"
#include "meta/record_dump.h"
#include "meta/shared.h"

#define SIZE (3 * MIB)

static struct gc_result collect(struct world *w, int64_t later)
{
	struct gc_options opt = { .delete_it = true, .now = mfs_now_ns() + later };
	struct gc_result res = { 0 };

	assert_int_equal(gc_run(w->v, &w->op, &opt, &res), 0);
	assert_int_equal(res.failed, 0);
	return res;
}

static void on_problem(void *arg, const struct fsck_problem *p)
{
	print_error("fsck: %s: %s %s\n", p->what, p->where, p->detail);
	++*(int *)arg;
}

static void fsck_is_clean(struct world *w)
{
	int problems = 0;
	struct fsck_options opt = { .problem = on_problem, .arg = &problems };
	struct fsck_result res;

	assert_int_equal(fsck_run(w->v, &w->op, &opt, &res), 0);
	assert_int_equal(problems, 0);
}

/* Which object it has; "": none. In a static buffer, one of four. */
static const char *object_of(struct world *w, mfs_ino_t ino)
{
	static char buf[4][OBJECT_VERSION_MAX + 1];
	static unsigned int i;
	struct node n = world_node(w, ino);

	i = (i + 1) % 4;
	strcpy(buf[i], n.ref.version);
	node_release(&n);
	return buf[i];
}

static size_t on_list(struct world *w, const char *version)
{
	struct cell_record cell;
	size_t n;

	assert_int_equal(shared_get(w->v->engine, &w->op, version, &cell), 0);
	n = shared_files(&cell);
	cell_record_release(&cell);
	return n;
}

/* All of one file to the other, as cp does it: how many calls. */
static unsigned int copy_all(struct mount *m, mfs_ino_t from, mfs_ino_t to, uint64_t at_a_time)
{
	struct content *src = NULL, *dst = mount_writer(m, to);
	unsigned int calls = 0;
	uint64_t off = 0;
	ssize_t n;

	assert_int_equal(content_open(&m->env, &m->w->op, from, &src), 0);
	assert_int_equal(content_truncate(dst, &m->w->op, 0, NULL), 0);
	while ((n = content_copy_range(dst, &m->w->op, off, src, off, at_a_time)) > 0) {
		off += (uint64_t)n;
		calls++;
	}
	assert_int_equal(n, 0);
	mount_close_writer(m, dst);
	content_free(src);
	return calls;
}

struct pair {
	struct mount m;
	unsigned char *bytes;
	mfs_ino_t a, b;
	char object[OBJECT_VERSION_MAX + 1]; /* a's */
};

/* a settled, b its copy. */
static void pair_new(struct pair *p, struct world *w)
{
	p->bytes = mount_pattern(SIZE, 1);
	p->a = mount_make(w, "a");
	p->b = mount_make(w, "b");
	mount_open(&p->m, w);
	mount_write(&p->m, p->a, p->bytes, SIZE);
	strcpy(p->object, object_of(w, p->a));
	assert_int_equal(copy_all(&p->m, p->a, p->b, UINT64_C(1) << 40), 1);
}

static void pair_free(struct pair *p)
{
	mount_close(&p->m);
	free(p->bytes);
}

static void test_copy__names_the_source_s_object(void **state)
{
	struct world *w = *state;
	struct pair p;

	pair_new(&p, w);
	assert_string_equal(object_of(w, p.b), p.object);
	assert_int_equal(on_list(w, p.object), 2);
	mount_assert_reads(&p.m, p.b, p.bytes, SIZE);
	fsck_is_clean(w);
	assert_int_equal(collect(w, 0).referenced, 1);
	/* Its own, at its own key; and a's is as it was. */
	assert_int_equal(world_force(w), 0);
	assert_string_not_equal(object_of(w, p.b), p.object);
	assert_string_equal(object_of(w, p.a), p.object);
	world_assert_native(w, "a", p.bytes, SIZE);
	world_assert_native(w, "b", p.bytes, SIZE);
	fsck_is_clean(w);
	collect(w, 0);
	mount_assert_reads(&p.m, p.a, p.bytes, SIZE);
	assert_int_equal(world_force(w), 0);
	fsck_is_clean(w);
	pair_free(&p);
}

/* In steps, as of a file that is bigger than one call takes; the last one is short. */
static void test_copy__in_several_calls(void **state)
{
	struct world *w = *state;
	unsigned char *bytes = mount_pattern(SIZE + 5, 7);
	mfs_ino_t a = mount_make(w, "a"), b = mount_make(w, "b");
	struct mount m;

	mount_open(&m, w);
	mount_write(&m, a, bytes, SIZE + 5);
	assert_int_equal(copy_all(&m, a, b, MIB), 4);
	assert_string_equal(object_of(w, b), object_of(w, a));
	mount_assert_reads(&m, b, bytes, SIZE + 5);
	fsck_is_clean(w);
	free(bytes);
	mount_close(&m);
}

/* A part of it, from its beginning: settled it is a file of its own of that length. */
static void test_copy__of_the_beginning(void **state)
{
	struct world *w = *state;
	struct pair p;
	struct content *src = NULL, *dst;
	mfs_ino_t c = mount_make(w, "c");

	pair_new(&p, w);
	dst = mount_writer(&p.m, c);
	assert_int_equal(content_open(&p.m.env, &w->op, p.a, &src), 0);
	assert_int_equal(content_copy_range(dst, &w->op, 0, src, 0, 2 * MIB), 2 * MIB);
	content_free(src);
	mount_close_writer(&p.m, dst);
	assert_string_equal(object_of(w, c), p.object);
	assert_int_equal(on_list(w, p.object), 3);
	mount_assert_reads(&p.m, c, p.bytes, 2 * MIB);
	assert_int_equal(world_force(w), 0);
	world_assert_native(w, "c", p.bytes, 2 * MIB);
	fsck_is_clean(w);
	pair_free(&p);
}

/* What is written to one of them is not in the other. */
static void test_write__to_either_changes_that_one(void **state)
{
	struct world *w = *state;
	struct pair p;
	unsigned char *other;
	struct content *c;

	pair_new(&p, w);
	other = malloc(SIZE);
	assert_non_null(other);
	memcpy(other, p.bytes, SIZE);
	c = mount_writer(&p.m, p.b);
	memset(other + 100, 'x', 5000);
	assert_int_equal(content_write(c, &w->op, 100, other + 100, 5000, false), 0);
	mount_close_writer(&p.m, c);
	mount_assert_reads(&p.m, p.a, p.bytes, SIZE);
	mount_assert_reads(&p.m, p.b, other, SIZE);
	c = mount_writer(&p.m, p.a);
	assert_int_equal(content_truncate(c, &w->op, MIB, NULL), 0);
	mount_close_writer(&p.m, c);
	mount_assert_reads(&p.m, p.a, p.bytes, MIB);
	mount_assert_reads(&p.m, p.b, other, SIZE);
	collect(w, 2 * WORLD_RETENTION);
	collect(w, 2 * WORLD_RETENTION);
	mount_assert_reads(&p.m, p.b, other, SIZE);
	assert_int_equal(world_force(w), 0);
	collect(w, 2 * WORLD_RETENTION);
	world_assert_native(w, "a", p.bytes, MIB);
	world_assert_native(w, "b", other, SIZE);
	assert_false(world_has_version(w, p.object)); /* nobody has it any more */
	assert_int_equal(on_list(w, p.object), 0);
	fsck_is_clean(w);
	free(other);
	pair_free(&p);
}

/* The first to let go is the one it was made for, by a rewrite or by its end; or the other. */
static void test_object__stays_until_the_last_lets_go(void **state)
{
	struct world *w = *state;

	for (int how = 0; how < 4; how++) {
		struct pair p;

		pair_new(&p, w);
		if (how == 0)
			mount_write(&p.m, p.a, p.bytes + 1, SIZE - 1);
		else
			world_unlink(w, how == 3 ? "b" : "a");
		for (int i = 0; i < 3; i++)
			collect(w, 2 * WORLD_RETENTION);
		assert_true(world_has_version(w, p.object));
		assert_int_equal(on_list(w, p.object), 2);
		mount_assert_reads(&p.m, how == 3 ? p.a : p.b, p.bytes, SIZE);
		fsck_is_clean(w);
		if (how == 2)
			world_rename(w, "b", "a"); /* where its object is: settled at once */
		assert_int_equal(world_force(w), 0);
		world_assert_native(w, how >= 2 ? "a" : "b", p.bytes, SIZE);
		fsck_is_clean(w);
		world_unlink(w, how >= 2 ? "a" : "b");
		if (how == 0)
			world_unlink(w, "a");
		world_settle(w);
		for (int i = 0; i < 3; i++)
			collect(w, 2 * WORLD_RETENTION);
		assert_false(world_has_version(w, p.object));
		assert_int_equal(on_list(w, p.object), 0);
		assert_int_equal(collect(w, 0).objects, 0);
		fsck_is_clean(w);
		pair_free(&p);
	}
}

/* A version names it as a record does, and a restore finds it. */
static void test_object__of_a_version_stays(void **state)
{
	struct world *w = *state;
	struct verb_call call = { .vol = w->v, .op = &w->op };
	struct past_list l = { 0 };
	struct pair p;

	pair_new(&p, w);
	mount_write(&p.m, p.b, p.bytes + 9, 99);
	world_unlink(w, "a");
	w->cfg.retention_ns = 0; /* of the trash */
	for (int i = 0; i < 3; i++)
		collect(w, 90 * MFS_NSEC_PER_SEC);
	w->cfg.retention_ns = WORLD_RETENTION;
	assert_int_equal(world_ino(w, "a"), 0);
	assert_true(world_has_version(w, p.object));
	fsck_is_clean(w);
	assert_int_equal(namespace_past(w->v->ns, &w->op, "b", &l), 0);
	assert_true(l.n >= 1);
	assert_int_equal(restore_content(&call, &l.v[0], p.b), 0);
	past_list_release(&l);
	mount_assert_reads(&p.m, p.b, p.bytes, SIZE);
	assert_int_equal(world_force(w), 0);
	world_assert_native(w, "b", p.bytes, SIZE);
	pair_free(&p);
}

/* The source renamed: on a store whose copies are hard links both keys would show one label and one time. */
static void test_rename__of_the_source(void **state)
{
	struct world *w = *state;
	struct pair p;

	pair_new(&p, w);
	world_rename(w, "a", "elsewhere");
	world_settle(w);
	mount_assert_reads(&p.m, p.a, p.bytes, SIZE);
	mount_assert_reads(&p.m, p.b, p.bytes, SIZE);
	fsck_is_clean(w);
	assert_int_equal(world_force(w), 0);
	world_assert_native(w, "elsewhere", p.bytes, SIZE);
	world_assert_native(w, "b", p.bytes, SIZE);
	fsck_is_clean(w);
	for (int i = 0; i < 3; i++)
		collect(w, 2 * WORLD_RETENTION);
	assert_int_equal(collect(w, 0).objects, 2);
	pair_free(&p);
}

/* What is not one whole object, or not where the other has it, is copied; and so is what is dirty there. */
static void test_copy__of_what_cannot_be_shared(void **state)
{
	struct world *w = *state;
	struct content *src = NULL, *dst;
	struct pair p;
	mfs_ino_t c = mount_make(w, "c");

	pair_new(&p, w);
	dst = mount_writer(&p.m, c);
	assert_int_equal(content_open(&p.m.env, &w->op, p.a, &src), 0);
	assert_int_equal(content_write(dst, &w->op, 5 * MIB, "tail", 4, false), 0);
	for (uint64_t off = 0; off < SIZE;) {
		ssize_t n = content_copy_range(dst, &w->op, off, src, off, SIZE - off);

		assert_true(n > 0);
		off += (uint64_t)n;
	}
	content_free(src);
	mount_close_writer(&p.m, dst);
	assert_string_not_equal(object_of(w, c), p.object);
	p.bytes = realloc(p.bytes, 5 * MIB + 4);
	assert_non_null(p.bytes);
	memset(p.bytes + SIZE, 0, 2 * MIB);
	memcpy(p.bytes + 5 * MIB, "tail", 4);
	mount_assert_reads(&p.m, c, p.bytes, 5 * MIB + 4);
	pair_free(&p);
}

/* Dumped and loaded, the list is there: without it collection would take the object from the copy. */
struct text {
	char *data;
	size_t len, at;
};

static int to_text(void *arg, const void *buf, size_t len)
{
	struct text *t = arg;

	t->data = realloc(t->data, t->len + len);
	assert_non_null(t->data);
	memcpy(t->data + t->len, buf, len);
	t->len += len;
	return 0;
}

static ssize_t from_text(void *arg, void *buf, size_t len)
{
	struct text *t = arg;
	size_t n = MFS_MIN(len, t->len - t->at);

	memcpy(buf, t->data + t->at, n);
	t->at += n;
	return (ssize_t)n;
}

static void test_dump_and_load__keep_the_list(void **state)
{
	struct world *w = *state;
	struct mem_shared *fresh = NULL;
	struct record_loader loader;
	struct record_counts counts;
	struct record_writer out;
	struct record_reader in;
	struct engine *e = NULL;
	struct text text = { 0 };
	struct cell_record cell;
	struct record rec;
	struct pair p;
	int r;

	pair_new(&p, w);
	assert_int_equal(record_writer_init(&out, to_text, &text), 0);
	assert_int_equal(record_writer_header(&out, &(struct record_header){ .format = RECORD_FORMAT }), 0);
	assert_int_equal(record_dump_all(w->v->engine, &w->op, &out, NULL, NULL, &counts), 0);
	assert_int_equal(counts.n[RECORD_CELL], 1);
	assert_int_equal(record_writer_end(&out), 0);
	record_writer_release(&out);
	assert_int_equal(mem_shared_new(&fresh), 0);
	assert_int_equal(mem_engine_new(fresh, &e), 0);
	record_loader_init(&loader, e, &w->op);
	assert_int_equal(record_reader_init(&in, from_text, &text), 0);
	while ((r = record_reader_next(&in, &rec)) > 0)
		assert_int_equal(record_loader_add(&loader, &rec), 0);
	assert_int_equal(r, 0);
	assert_int_equal(record_loader_finish(&loader), 0);
	record_loader_release(&loader);
	record_reader_release(&in);
	assert_int_equal(shared_get(e, &w->op, p.object, &cell), 0);
	assert_int_equal(shared_files(&cell), 2);
	assert_true(node_blob_has_u64(&cell.blob, p.a) && node_blob_has_u64(&cell.blob, p.b));
	cell_record_release(&cell);
	engine_free(e);
	mem_shared_free(fresh);
	free(text.data);
	pair_free(&p);
}

/* Collection without a rest beside copies of a file that is rewritten all the time: no copy loses its bytes. */
struct collecting {
	struct world *w;
	atomic_bool stop;
	int r;
};

static void *collect_on(void *arg)
{
	struct collecting *x = arg;
	struct op_ctx op = { 0 };

	while (!atomic_load(&x->stop) && x->r == 0) {
		struct gc_options opt = { .delete_it = true, .now = mfs_now_ns() + 2 * WORLD_RETENTION };
		struct gc_result res = { 0 };

		x->r = gc_expire(x->w->v, &op, &opt, &res);
	}
	return NULL;
}

static void test_collection__beside_copies(void **state)
{
	struct world *w = *state;
	struct collecting x = { .w = w };
	unsigned char *bytes[2] = { mount_pattern(SIZE, 1), mount_pattern(SIZE, 2) };
	const char *rounds = getenv("MASSFS_RACE_ROUNDS");
	int n = rounds ? MFS_MIN(atoi(rounds), 40) : 40;
	mfs_ino_t a = mount_make(w, "a");
	struct mount m;
	pthread_t t;

	mount_open(&m, w);
	mount_write(&m, a, bytes[0], SIZE);
	assert_int_equal(pthread_create(&t, NULL, collect_on, &x), 0);
	for (int i = 0; i < n; i++) {
		char name[2][16];
		mfs_ino_t one, two;

		snprintf(name[0], sizeof(name[0]), "one-%d", i);
		snprintf(name[1], sizeof(name[1]), "two-%d", i);
		one = mount_make(w, name[0]);
		two = mount_make(w, name[1]);
		copy_all(&m, a, one, SIZE);
		copy_all(&m, one, two, SIZE); /* a copy of a copy */
		mount_write(&m, a, bytes[(i + 1) % 2], SIZE);
		world_unlink(w, name[0]);
		mount_assert_reads(&m, two, bytes[i % 2], SIZE);
		copy_all(&m, a, two, SIZE);
		mount_assert_reads(&m, two, bytes[(i + 1) % 2], SIZE);
		world_unlink(w, name[1]);
	}
	atomic_store(&x.stop, true);
	pthread_join(t, NULL);
	assert_int_equal(x.r, 0);
	world_settle(w);
	for (int i = 0; i < 3; i++)
		collect(w, 2 * WORLD_RETENTION);
	mount_assert_reads(&m, a, bytes[n % 2], SIZE);
	assert_int_equal(collect(w, 0).objects, 1);
	fsck_is_clean(w);
	mount_close(&m);
	free(bytes[0]);
	free(bytes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_copy__names_the_source_s_object),
		WORLD_TEST(test_copy__in_several_calls),
		WORLD_TEST(test_copy__of_the_beginning),
		WORLD_TEST(test_write__to_either_changes_that_one),
		WORLD_TEST(test_object__stays_until_the_last_lets_go),
		WORLD_TEST(test_object__of_a_version_stays),
		WORLD_TEST(test_rename__of_the_source),
		WORLD_TEST(test_copy__of_what_cannot_be_shared),
		WORLD_TEST(test_dump_and_load__keep_the_list),
		WORLD_TEST(test_collection__beside_copies),
	};

	return world_run_suite("shared objects", tests, MFS_ARRAY_LEN(tests));
}
