/*
 * Every kind of change on MongoDB, one scenario each.
 */
#include "tests/lib/mongo_scenarios.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"

#define REG 0100644
#define DIR 0040755

static struct engine *open_engine(const char *uri, const char *database)
{
	const struct mongo_options opt = { .uri = uri,
					   .database = database,
					   .create = true,
					   .pool_size = MONGO_CONNECTIONS,
					   .deadline_ns = 20 * MFS_NSEC_PER_SEC };
	struct engine *e = NULL;
	char *reason = NULL;
	int r = mongo_engine_open(&opt, &e, &reason);

	if (r < 0)
		fprintf(stderr, "mongo: %s\n", reason ? reason : strerror(-r));
	free(reason);
	TEST_OK(r);
	return e;
}

int mongo_world_setup(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "u" };
	struct mongo_world *w = calloc(1, sizeof(*w));
	const char *uri = mongo_server_start()->uri;

	w->dir = store_test_dir();
	mongo_server_database(w->dir, w->database);
	w->proxy = mongo_proxy_new(uri);
	w->other = open_engine(uri, w->database);
	TEST_OK(engine_volume_put(w->other, NULL, &v));
	w->e = open_engine(mongo_proxy_uri(w->proxy), w->database);
	w->e->session = 0x101;
	w->other->session = 0x102;
	*state = w;
	return 0;
}

int mongo_world_teardown(void **state)
{
	struct mongo_world *w = *state;

	engine_free(w->e);
	engine_free(w->other);
	mongo_proxy_free(w->proxy);
	mongo_server_release(strdup(w->database));
	store_test_remove(w->dir);
	free(w);
	return 0;
}

/* --- mongo_scenarios: one change each --- */

static uint64_t ver_of(struct mongo_world *w, mfs_ino_t ino)
{
	return test_attr(w->other, ino).ver;
}

void mongo_prepare_file(struct mongo_world *w)
{
	w->a = test_make(w->other, w->d, "a", REG);
	w->before = test_attr(w->other, w->a);
}

int mongo_go_edit(struct mongo_world *w)
{
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	x->mask = EDIT_BUMP_DATA;
	x->nlink_delta = 1;
	x->ret_attr = &w->attr;
	return engine_apply(w->e, NULL, &c);
}

static void check_edit(struct mongo_world *w)
{
	struct mfs_attr a = test_attr(w->other, w->a);

	assert_int_equal(a.nlink, 2);
	assert_int_equal(a.data, w->before.data + 1);
	assert_int_equal(w->attr.nlink, 2);
}

/* A commit with 10 KiB in the record: what it replaces was empty. */
static int go_inline_commit(struct mongo_world *w)
{
	static char bytes[10 << 10];
	struct node set = NODE_INIT;
	struct change c = { .durable = true };
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	set.attr.size = sizeof(bytes);
	set.inline_data = (struct node_blob){ .data = bytes, .size = sizeof(bytes) };
	set.todo = 1;
	x->node = &set;
	x->mask = EDIT_REF | EDIT_TODO | EDIT_SIZE | EDIT_BUMP_LAY | EDIT_BUMP_DATA;
	x->expect = (struct expect){ .flags = EXPECT_LAY | EXPECT_NOT_FENCED,
				     .lay = w->before.lay,
				     .session = 0x101 };
	x->ret_attr = &w->attr;
	return engine_apply(w->e, NULL, &c);
}

static void check_inline_commit(struct mongo_world *w)
{
	struct node n;

	test_get(w->other, w->a, &n);
	assert_int_equal(n.inline_data.size, 10 << 10);
	assert_int_equal(n.attr.lay, w->before.lay + 1);
	assert_int_equal(n.attr.data, w->before.data + 1);
	assert_int_equal(w->attr.lay, w->before.lay + 1);
	node_release(&n);
}

/* One that keeps a version. */
static int go_commit(struct mongo_world *w)
{
	struct version_record v = { .ino = w->a, .data = 1, .path = (char *)(uintptr_t) "d/a", .until = 9 };
	const struct dropped_record gone[2] = { { .ino = w->a, .doc_id = 1 }, { .ino = w->a, .doc_id = 2 } };
	struct change c = { .durable = true };
	struct write *x;

	change_write(&c, WRITE_VERSION_PUT, 0)->version = &v;
	x = change_write(&c, WRITE_DROPPED_PUT, 0);
	x->dropped = gone;
	x->n = 2;
	x = change_write(&c, WRITE_EDIT, w->a);
	x->mask = EDIT_BUMP_LAY | EDIT_BUMP_DATA;
	x->expect = (struct expect){ .flags = EXPECT_LAY, .lay = w->before.lay };
	return engine_apply(w->e, NULL, &c);
}

static void check_commit(struct mongo_world *w)
{
	struct version_list v = { 0 };
	struct dropped_list d = { 0 };
	unsigned int n = 0;

	assert_int_equal(test_attr(w->other, w->a).lay, w->before.lay + 1);
	TEST_OK(engine_versions_by_ino(w->other, NULL, w->a, &v));
	assert_int_equal(v.n, 1);
	TEST_OK(engine_dropped(w->other, NULL, INT64_MAX, 0, 1000, &d));
	for (size_t i = 0; i < d.n; i++)
		n += d.v[i].ino == w->a;
	assert_int_equal(n, 2);
	version_list_release(&v);
	dropped_list_release(&d);
}

/* A create, which prepares the number only. */
static void prepare_create(struct mongo_world *w)
{
	w->a = test_number(w->other);
}

static int create(struct mongo_world *w, mode_t mode)
{
	struct node n = NODE_INIT;
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_INSERT, w->a);

	n.attr.ino = n.pos = w->a;
	n.attr.mode = mode;
	n.attr.nlink = n.attr.ver = n.attr.data = n.attr.lay = 1;
	n.parent = w->d;
	n.name = test_name("a");
	x->node = &n;
	x->ret_attr = &w->attr;
	change_touch(&c, w->d, 77, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	return engine_apply(w->e, NULL, &c);
}

int mongo_go_create(struct mongo_world *w)
{
	return create(w, REG);
}

static int go_mkdir(struct mongo_world *w)
{
	return create(w, DIR);
}

void mongo_check_create(struct mongo_world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), w->a);
	assert_int_equal(test_attr(w->other, w->d).mtime, 77);
	assert_int_equal(w->attr.ino, w->a);
}

static int move(struct mongo_world *w, mfs_ino_t to, const char *name, bool job)
{
	struct mfs_name old = test_name("a");
	struct node set = NODE_INIT;
	struct job_record j = { .kind = JOB_KEY, .key = (char *)(uintptr_t) "k", .due = 5 };
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_RENAME, w->a);

	set.parent = to;
	set.name = test_name(name);
	x->node = &set;
	x->ret_attr = &w->attr;
	x->expect = (struct expect){ .flags = EXPECT_NAME, .parent = w->d, .name = &old };
	if (job)
		change_write(&c, WRITE_JOB_PUT, 0)->job = &j;
	if (to == w->d) {
		change_touch(&c, to, 77, 0, 0);
	} else {
		change_touch(&c, w->d, 77, -1, TOUCH_MUST_EXIST);
		change_touch(&c, to, 77, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	}
	return engine_apply(w->e, NULL, &c);
}

static int go_rename(struct mongo_world *w)
{
	return move(w, w->d, "r", false);
}

static int go_rename_job(struct mongo_world *w)
{
	return move(w, w->d, "r", true);
}

static void check_rename(struct mongo_world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_int_equal(test_find(w->other, w->d, "r"), w->a);
	assert_int_equal(ver_of(w, w->a), w->quiet ? 2 : 3);
}

static int go_rename_away(struct mongo_world *w)
{
	return move(w, w->d2, "r", false);
}

static void check_rename_away(struct mongo_world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_int_equal(test_find(w->other, w->d2, "r"), w->a);
	assert_int_equal(test_attr(w->other, w->d2).children, 1);
}

static void prepare_over(struct mongo_world *w)
{
	mongo_prepare_file(w);
	w->b = test_make(w->other, w->d, "b", REG);
}

static int go_rename_over(struct mongo_world *w)
{
	struct node gone = NODE_INIT, set = NODE_INIT;
	struct change c = { 0 };
	struct write *x;

	gone.trash_path = (char *)(uintptr_t) "d/b";
	x = change_write(&c, WRITE_TRASH, w->b);
	x->node = &gone;
	x->nlink_delta = -1;
	set.parent = w->d;
	set.name = test_name("b");
	x = change_write(&c, WRITE_RENAME, w->a);
	x->node = &set;
	x->ret_attr = &w->attr;
	change_touch(&c, w->d, 77, -1, 0);
	return engine_apply(w->e, NULL, &c);
}

static void check_over(struct mongo_world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_int_equal(test_find(w->other, w->d, "b"), w->a);
	assert_true(test_attr(w->other, w->b).flags & ATTR_IN_TRASH);
}

static int go_exchange(struct mongo_world *w)
{
	struct node park = NODE_INIT, to_b = NODE_INIT, to_a = NODE_INIT;
	struct change c = { 0 };

	park.parent = 2;
	park.name = test_name("parked");
	to_a.parent = to_b.parent = w->d;
	to_a.name = test_name("a");
	to_b.name = test_name("b");
	change_write(&c, WRITE_RENAME, w->a)->node = &park;
	change_write(&c, WRITE_RENAME, w->b)->node = &to_a;
	change_write(&c, WRITE_RENAME, w->a)->node = &to_b;
	change_touch(&c, w->d, 77, 0, 0);
	return engine_apply(w->e, NULL, &c);
}

static void check_exchange(struct mongo_world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), w->b);
	assert_int_equal(test_find(w->other, w->d, "b"), w->a);
	assert_int_equal(test_find(w->other, 2, "parked"), 0);
	assert_int_equal(ver_of(w, w->b), 2);
}

static int trash_it(struct mongo_world *w, struct engine *e, bool job)
{
	struct job_record j = { .kind = JOB_KEY, .key = (char *)(uintptr_t) "k", .due = 5 };
	struct node gone = NODE_INIT;
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_TRASH, w->a);

	gone.trash_path = (char *)(uintptr_t) "d/a";
	x->node = &gone;
	x->nlink_delta = -1;
	x->ret_attr = &w->attr;
	if (job)
		change_write(&c, WRITE_JOB_PUT, 0)->job = &j;
	change_touch(&c, w->d, 77, -1, 0);
	return engine_apply(e, NULL, &c);
}

static int go_unlink(struct mongo_world *w)
{
	return trash_it(w, w->e, false);
}

static int go_unlink_job(struct mongo_world *w)
{
	return trash_it(w, w->e, true);
}

static void check_unlink(struct mongo_world *w)
{
	struct mfs_attr a = test_attr(w->other, w->a);

	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_true(a.flags & ATTR_IN_TRASH);
	assert_int_equal(a.nlink, 0);
}

static void prepare_trashed(struct mongo_world *w)
{
	mongo_prepare_file(w);
	TEST_OK(trash_it(w, w->other, false));
}

static int go_undelete(struct mongo_world *w)
{
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_UNTRASH, w->a);

	set.parent = w->d;
	set.name = test_name("back");
	set.pos = w->a;
	x->node = &set;
	x->nlink_delta = 1;
	x->ret_attr = &w->attr;
	change_touch(&c, w->d, 77, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	return engine_apply(w->e, NULL, &c);
}

static void check_undelete(struct mongo_world *w)
{
	assert_int_equal(test_find(w->other, w->d, "back"), w->a);
	assert_int_equal(test_attr(w->other, w->a).nlink, 1);
}

static void prepare_link(struct mongo_world *w)
{
	mongo_prepare_file(w);
	w->id = test_number(w->other);
}

static int go_link(struct mongo_world *w)
{
	struct alias alias = { .id = w->id, .parent = w->d, .target = w->a, .name = test_name("l") };
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	x->nlink_delta = 1;
	x->expect.flags = EXPECT_IN_FILES;
	x->ret_attr = &w->attr;
	change_write(&c, WRITE_ALIAS_INSERT, w->id)->alias = &alias;
	change_touch(&c, w->d, 77, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	return engine_apply(w->e, NULL, &c);
}

static void check_link(struct mongo_world *w)
{
	assert_int_equal(test_find(w->other, w->d, "l"), w->id);
	assert_int_equal(test_attr(w->other, w->a).nlink, 2);
}

static void prepare_dir(struct mongo_world *w)
{
	w->a = test_make(w->other, w->d, "a", DIR);
}

static int go_rmdir(struct mongo_world *w)
{
	struct mfs_name name = test_name("a");
	struct change c = { .no_child = w->a };

	change_write(&c, WRITE_DELETE, w->a)->expect =
		(struct expect){ .flags = EXPECT_NAME, .parent = w->d, .name = &name };
	change_touch(&c, w->d, 77, -1, 0);
	return engine_apply(w->e, NULL, &c);
}

static void check_rmdir(struct mongo_world *w)
{
	struct node n;

	assert_int_equal(engine_get(w->other, NULL, w->a, &n), -ESTALE);
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
}

static int go_move_dir(struct mongo_world *w)
{
	struct node set = NODE_INIT;
	struct change c = { .not_below_dir = w->a, .not_below_target = w->d2 };

	set.parent = w->d2;
	set.name = test_name("r");
	change_write(&c, WRITE_RENAME, w->a)->node = &set;
	change_touch(&c, w->d, 77, -1, TOUCH_MUST_EXIST);
	change_touch(&c, w->d2, 77, 1, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING);
	return engine_apply(w->e, NULL, &c);
}

static int go_atimes(struct mongo_world *w)
{
	struct node set[2];
	struct change c = { 0 };

	memset(set, 0, sizeof(set));
	for (int i = 0; i < 2; i++) {
		struct write *x = change_write(&c, WRITE_EDIT, i ? w->b : w->a);

		set[i].attr.atime = 4711;
		x->node = &set[i];
		x->mask = EDIT_ATIME | EDIT_NO_BUMP_VER;
	}
	return engine_apply(w->e, NULL, &c);
}

static void check_atimes(struct mongo_world *w)
{
	assert_int_equal(test_attr(w->other, w->a).atime, 4711);
	assert_int_equal(test_attr(w->other, w->b).atime, 4711);
}

static int go_cell(struct mongo_world *w)
{
	char name[64];
	struct cell_record cell = { .name = name,
				    .token = 9,
				    .blob = { .data = (void *)(uintptr_t) "x", .size = 1 } };
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_CELL_PUT, 0);

	snprintf(name, sizeof(name), "locks/%ju", (uintmax_t)w->a);
	x->cell = &cell;
	x->expect.flags = EXPECT_VER;
	return engine_apply(w->e, NULL, &c);
}

static void check_cell(struct mongo_world *w)
{
	struct cell_record cell;
	char name[64];

	snprintf(name, sizeof(name), "locks/%ju", (uintmax_t)w->a);
	TEST_OK(engine_cell_get(w->other, NULL, name, &cell));
	assert_int_equal(cell.token, 9);
	cell_record_release(&cell);
}

/* A lock taken away from a dead session: the fence and the cell, in one. */
static int go_fence(struct mongo_world *w)
{
	char name[64];
	struct cell_record cell = { .name = name,
				    .token = 9,
				    .blob = { .data = (void *)(uintptr_t) "x", .size = 1 } };
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, w->a);
	int r;

	TEST_OK(node_blob_add_u64(&set.fenced, 55));
	x->node = &set;
	x->mask = EDIT_FENCED;
	x = change_write(&c, WRITE_CELL_PUT, 0);
	snprintf(name, sizeof(name), "locks/%ju", (uintmax_t)w->a);
	x->cell = &cell;
	x->expect.flags = EXPECT_VER;
	r = engine_apply(w->e, NULL, &c);
	node_release(&set);
	return r;
}

static void check_fence(struct mongo_world *w)
{
	check_cell(w);
	assert_int_equal(ver_of(w, w->a), w->quiet ? 2 : 3);
}

const struct mongo_scenario mongo_scenarios[] = {
	{ "edit", 1, mongo_prepare_file, mongo_go_edit, check_edit },
	{ "commit inline", 1, mongo_prepare_file, go_inline_commit, check_inline_commit },
	{ "commit, version, dropped", 3, mongo_prepare_file, go_commit, check_commit },
	{ "create", 2, prepare_create, mongo_go_create, mongo_check_create },
	{ "mkdir", 2, prepare_create, go_mkdir, mongo_check_create },
	{ "rename", 4, mongo_prepare_file, go_rename, check_rename },
	{ "rename, job", 5, mongo_prepare_file, go_rename_job, check_rename },
	{ "rename away", 5, mongo_prepare_file, go_rename_away, check_rename_away },
	{ "rename over", 6, prepare_over, go_rename_over, check_over },
	{ "exchange", 5, prepare_over, go_exchange, check_exchange },
	{ "unlink", 4, mongo_prepare_file, go_unlink, check_unlink },
	{ "unlink, job", 5, mongo_prepare_file, go_unlink_job, check_unlink },
	{ "undelete", 4, prepare_trashed, go_undelete, check_undelete },
	{ "link", 4, prepare_link, go_link, check_link },
	{ "rmdir", 7, prepare_dir, go_rmdir, check_rmdir },
	{ "move a directory", 7, prepare_dir, go_move_dir, check_rename_away },
	{ "access times", 2, prepare_over, go_atimes, check_atimes },
	{ "cell", 1, mongo_prepare_file, go_cell, check_cell },
	{ "fence and cell", 3, mongo_prepare_file, go_fence, check_fence },
};

const size_t mongo_n_scenarios = MFS_ARRAY_LEN(mongo_scenarios);

/* What the other session does meanwhile: an edit of the record, wherever it is, if it is. */
void mongo_meddle(void *arg)
{
	struct mongo_world *w = arg;
	struct change c = { 0 };
	struct node set = NODE_INIT;
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	set.attr.uid = 4711;
	x->node = &set;
	x->mask = EDIT_UID;
	w->quiet = engine_apply(w->other, NULL, &c) != 0;
}

void mongo_scenario_begin(struct mongo_world *w, const struct mongo_scenario *s, unsigned int round)
{
	char name[32];

	snprintf(name, sizeof(name), "d%td-%u", s - mongo_scenarios, round);
	w->d = test_make(w->other, MFS_ROOT_INO, name, DIR);
	snprintf(name, sizeof(name), "t%td-%u", s - mongo_scenarios, round);
	w->d2 = test_make(w->other, MFS_ROOT_INO, name, DIR);
	w->attr = (struct mfs_attr){ 0 };
	w->quiet = true;
	s->prepare(w);
}
