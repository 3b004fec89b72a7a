/*
 * The contract suite of engines: fixture, helpers and the runner. The tests are in engine_records.c (records, names,
 * listings), engine_links.c (aliases, trash, guards, touches), engine_past.c (side collections), engine_once.c
 * (exactly once, faults, reopening) and engine_races.c.
 */
#include "tests/lib/engine_suite.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static struct engine *open_one(struct engine_fixture *f, uint64_t session)
{
	struct engine *e = NULL;

	TEST_OK(f->kind->open(f->dir, &f->shared, &e));
	e->session = session;
	return e;
}

static void open_all(struct engine_fixture *f)
{
	f->e = open_one(f, 101);
	f->two = f->kind->two_instances ? open_one(f, 102) : f->e;
}

static void close_all(struct engine_fixture *f)
{
	if (f->two != f->e)
		engine_free(f->two);
	engine_free(f->e);
	f->e = f->two = NULL;
}

int engine_fixture_setup(void **state)
{
	struct engine_fixture *f = calloc(1, sizeof(*f));
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	const char *tmp = getenv("TMPDIR");

	f->kind = *state;
	assert_true(asprintf(&f->dir, "%s/massfs-engine-XXXXXX", tmp ? tmp : "/tmp") > 0);
	assert_non_null(mkdtemp(f->dir));
	f->op.uid = 1000;
	f->op.gid = 1001;
	open_all(f);
	TEST_OK(engine_volume_put(f->e, &f->op, &v));
	*state = f;
	return 0;
}

int engine_fixture_teardown(void **state)
{
	struct engine_fixture *f = *state;

	close_all(f);
	if (f->kind->release)
		f->kind->release(f->shared);
	nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f->dir);
	free(f);
	return 0;
}

void engine_fixture_reopen(struct engine_fixture *f)
{
	if (!f->kind->persists)
		return;
	close_all(f);
	open_all(f);
}

unsigned int engine_fixture_rounds(const struct engine_fixture *f)
{
	const char *s = getenv("MASSFS_RACE_ROUNDS");
	unsigned long n = s ? strtoul(s, NULL, 10) : 1000;

	n = f->kind->share ? n * f->kind->share / 100 : n;
	return n ? (unsigned int)n : 1;
}

struct mfs_name test_name(const char *s)
{
	struct mfs_name n;

	TEST_OK(mfs_name_set(&n, s, strlen(s)));
	return n;
}

uint64_t test_number(struct engine *e)
{
	uint64_t n = 0;

	TEST_OK(engine_reserve(e, NULL, 1, &n));
	return n;
}

struct node test_node(struct engine *e, mfs_ino_t parent, const char *name, mode_t mode)
{
	struct node n = NODE_INIT;

	n.attr.ino = n.pos = test_number(e);
	n.attr.ver = n.attr.nlink = 1;
	n.attr.mode = mode;
	n.attr.uid = 1000;
	n.attr.gid = 1001;
	n.attr.atime = n.attr.mtime = n.attr.ctime = n.attr.btime = mfs_now_ns();
	n.parent = parent;
	n.name = test_name(name);
	return n;
}

mfs_ino_t test_make(struct engine *e, mfs_ino_t parent, const char *name, mode_t mode)
{
	struct node n = test_node(e, parent, name, mode);
	struct change c = { 0 };

	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	change_touch(&c, parent, mfs_now_ns(), 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	TEST_OK(engine_apply(e, NULL, &c));
	return n.attr.ino;
}

void test_get(struct engine *e, mfs_ino_t ino, struct node *ret)
{
	TEST_OK(engine_get(e, NULL, ino, ret));
	assert_int_equal(ret->attr.ino, ino);
	assert_false(ret->partial);
}

struct mfs_attr test_attr(struct engine *e, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	struct mfs_attr a;

	test_get(e, ino, &n);
	a = n.attr;
	node_release(&n);
	return a;
}

uint64_t test_find(struct engine *e, mfs_ino_t parent, const char *name)
{
	struct mfs_name n = test_name(name);
	struct entry found;
	uint64_t id;
	int r = engine_lookup(e, NULL, parent, &n, &found);

	if (r == -ENOENT)
		return 0;
	TEST_OK(r);
	assert_true(mfs_name_equal(&found.name, &n));
	assert_int_equal(found.parent, parent);
	assert_false(found.node.attr.flags & ATTR_IN_TRASH);
	id = found.id;
	entry_release(&found);
	return id;
}

static void same_string(const char *a, const char *b)
{
	assert_int_equal(!a, !b);
	if (a)
		assert_string_equal(a, b);
}

static void same_blob(const struct node_blob *a, const struct node_blob *b)
{
	assert_int_equal(!a->data, !b->data);
	assert_int_equal(a->size, b->size);
	if (a->size)
		assert_memory_equal(a->data, b->data, a->size);
}

static void same_attr(const struct mfs_attr *a, const struct mfs_attr *b)
{
	assert_int_equal(a->ino, b->ino);
	assert_int_equal(a->ver, b->ver);
	assert_int_equal(a->data, b->data);
	assert_int_equal(a->lay, b->lay);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->obj_len, b->obj_len);
	assert_int_equal(a->alloc, b->alloc);
	assert_int_equal(a->atime, b->atime);
	assert_int_equal(a->mtime, b->mtime);
	assert_int_equal(a->ctime, b->ctime);
	assert_int_equal(a->btime, b->btime);
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_int_equal(a->nlink, b->nlink);
	assert_int_equal(a->rdev, b->rdev);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->children, b->children);
}

static void same_xattrs(const struct node *a, const struct node *b)
{
	assert_int_equal(a->n_xattrs, b->n_xattrs);
	for (size_t i = 0; i < a->n_xattrs; i++) {
		const struct node_xattr *x = &a->xattrs[i], *y = node_xattr_find(b, x->name);

		assert_non_null(y);
		assert_non_null(y->value);
		assert_int_equal(x->size, y->size);
		if (x->size)
			assert_memory_equal(x->value, y->value, x->size);
	}
}

void test_same_node(const struct node *a, const struct node *b)
{
	same_attr(&a->attr, &b->attr);
	assert_int_equal(a->parent, b->parent);
	assert_true(mfs_name_equal(&a->name, &b->name));
	assert_int_equal(a->pos, b->pos);
	assert_int_equal(a->dying, b->dying);
	assert_true(object_ref_equal(&a->ref, &b->ref));
	assert_string_equal(a->etag, b->etag);
	assert_string_equal(a->hash, b->hash);
	same_string(a->symlink, b->symlink);
	same_xattrs(a, b);
	assert_int_equal(a->creator_uid, b->creator_uid);
	same_string(a->creator_user, b->creator_user);
	same_string(a->creator_host, b->creator_host);
	same_string(a->mime, b->mime);
	assert_int_equal(a->todo, b->todo);
	assert_int_equal(a->pending, b->pending);
	assert_int_equal(a->quota, b->quota);
	same_blob(&a->fenced, &b->fenced);
	same_blob(&a->inline_data, &b->inline_data);
	same_blob(&a->slices, &b->slices);
	same_blob(&a->holes, &b->holes);
	same_string(a->trash_path, b->trash_path);
	assert_int_equal(a->trash_time, b->trash_time);
	same_blob(&a->openers, &b->openers);
}

static struct node_blob blob_of(const char *bytes, size_t size)
{
	struct node_blob from = { .size = size }, copy;

	from.data = strdup(bytes);
	TEST_OK(node_blob_copy(&from, &copy));
	free(from.data);
	return copy;
}

void test_full_node(struct engine *e, mfs_ino_t parent, const char *name, struct node *ret)
{
	unsigned char *big = malloc(MFS_XATTR_SIZE_MAX);

	assert_non_null(big);
	for (size_t i = 0; i < MFS_XATTR_SIZE_MAX; i++)
		big[i] = (unsigned char)(i * 7 + i / 256);
	*ret = test_node(e, parent, name, 0100640);
	ret->attr.ver = 7;
	ret->attr.data = 5;
	ret->attr.lay = 6;
	ret->attr.size = (uint64_t)MFS_FILE_SIZE_MAX;
	ret->attr.obj_len = 12345;
	ret->attr.alloc = 16384;
	ret->attr.atime = -1;
	ret->attr.mtime = INT64_MIN;
	ret->attr.ctime = INT64_MAX;
	ret->attr.btime = -INT64_C(1000000001);
	ret->attr.uid = 4294967294u;
	ret->attr.gid = 65534;
	ret->attr.nlink = 65000;
	ret->attr.rdev = UINT64_C(0xffffffff12345678);
	ret->attr.flags = ATTR_SHARED;
	ret->attr.children = 77;
	ret->dying = UINT64_C(0xfedcba9876543210);
	ret->ref.store = 3;
	ret->ref.bucket = strdup("a-bucket");
	ret->ref.key = strdup("some/k\xc3\xa9y");
	strcpy(ret->ref.version, "0123456789abcdef-1-2-3");
	strcpy(ret->etag, "\"etag\"");
	strcpy(ret->hash, "xxh64:0123");
	ret->symlink = strdup("any \xff\xfe bytes/\x01");
	ret->creator_uid = 4294967295u;
	ret->creator_user = strdup("j\xf6rg"); /* Latin-1 */
	ret->creator_host = strdup("");
	ret->mime = strdup("text/plain");
	ret->todo = -5;
	ret->pending = UINT64_C(0x8000000000000001);
	ret->quota = 9;
	TEST_OK(node_blob_add_u64(&ret->fenced, UINT64_MAX));
	TEST_OK(node_blob_add_u64(&ret->fenced, 1));
	ret->inline_data = blob_of("in line", 7);
	ret->slices = blob_of("", 0);
	ret->holes = blob_of("\x01h", 2);
	TEST_OK(node_xattr_set(ret, "user.empty", "", 0));
	TEST_OK(node_xattr_set(ret, "user.t\xff", "not \xff utf-8", 11));
	TEST_OK(node_xattr_set(ret, "user.edge", big, MFS_XATTR_BIG));
	TEST_OK(node_xattr_set(ret, "user.over", big, MFS_XATTR_BIG + 1));
	TEST_OK(node_xattr_set(ret, "trusted.max", big, MFS_XATTR_SIZE_MAX));
	TEST_OK(node_xattr_set(ret, "security.capability", "cap", 3));
	TEST_OK(node_xattr_set(ret, "system.posix_acl_access", "acl", 3));
	node_derive(ret);
	free(big);
}

static size_t add_tests(struct CMUnitTest *to, size_t n, const struct engine_test *from, const struct engine_kind *kind)
{
	for (; from->func; from++)
		to[n++] = (struct CMUnitTest){
			.name = from->name,
			.test_func = from->func,
			.setup_func = engine_fixture_setup,
			.teardown_func = engine_fixture_teardown,
			/* cmocka hands it to setup as *state and never writes through it. */
			.initial_state = (void *)(uintptr_t)kind,
		};
	return n;
}

int engine_suite_run(const struct engine_kind *kind)
{
	static struct CMUnitTest tests[200];
	size_t n = 0;

	n = add_tests(tests, n, engine_tests_records, kind);
	n = add_tests(tests, n, engine_tests_links, kind);
	n = add_tests(tests, n, engine_tests_past, kind);
	n = add_tests(tests, n, engine_tests_once, kind);
	n = add_tests(tests, n, engine_tests_layout, kind);
	n = add_tests(tests, n, engine_tests_races, kind);
	n = add_tests(tests, n, engine_tests_all, kind);
	n = add_tests(tests, n, engine_tests_cells, kind);
	n = add_tests(tests, n, engine_tests_find, kind);
	assert_true(n <= MFS_ARRAY_LEN(tests));
	if (getenv("MASSFS_ONLY"))
		cmocka_set_test_filter(getenv("MASSFS_ONLY"));
	return _cmocka_run_group_tests(kind->name, tests, n, NULL, NULL);
}
