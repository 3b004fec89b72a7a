/*
 * Exactly once on MongoDB: every reply and every request of every kind of change is lost in turn, on the wire, with another
 * session changing the same record before anybody asks; what each change costs in round trips; the races of rules M4 and M5
 * at full length; a server that is killed and comes back in the middle of changes.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/mongo_apply_internal.h"
#include "tests/lib/engine_suite.h"
#include "tests/lib/mongo_proxy.h"
#include "tests/lib/mongo_server.h"
#include "tests/lib/store_suite.h"

#define CONNECTIONS 4
#define REG 0100644
#define DIR 0040755

/* One volume: `e` behind a proxy, `other` beside it. */
struct world {
	char *dir;
	char database[64];
	struct mongo_proxy *proxy;
	struct engine *e, *other;
	/* Of a scenario. */
	mfs_ino_t d, d2, a, b;
	uint64_t id;
	struct mfs_attr attr, before;
	bool quiet; /* the meddler leaves the record alone */
};

static struct engine *open_engine(const char *uri, const char *database)
{
	const struct mongo_options opt = {
		.uri = uri, .database = database, .create = true, .pool_size = CONNECTIONS, .deadline_ns = 20 * MFS_NSEC_PER_SEC
	};
	struct engine *e = NULL;
	char *reason = NULL;
	int r = mongo_engine_open(&opt, &e, &reason);

	if (r < 0)
		fprintf(stderr, "mongo: %s\n", reason ? reason : strerror(-r));
	free(reason);
	TEST_OK(r);
	return e;
}

static int setup(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "u" };
	struct world *w = calloc(1, sizeof(*w));
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

static int teardown(void **state)
{
	struct world *w = *state;

	engine_free(w->e);
	engine_free(w->other);
	mongo_proxy_free(w->proxy);
	mongo_server_release(strdup(w->database));
	store_test_remove(w->dir);
	free(w);
	return 0;
}

/* --- scenarios: one change each --- */

struct scenario {
	const char *name;
	unsigned int trips; /* commands that it sends; the table is in meta/mongo_apply.c and docs/design.md */
	void (*prepare)(struct world *w);
	int (*go)(struct world *w);
	void (*check)(struct world *w); /* done, once */
};

static uint64_t ver_of(struct world *w, mfs_ino_t ino)
{
	return test_attr(w->other, ino).ver;
}

static void prepare_file(struct world *w)
{
	w->a = test_make(w->other, w->d, "a", REG);
	w->before = test_attr(w->other, w->a);
}

static int go_edit(struct world *w)
{
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	x->mask = EDIT_BUMP_DATA;
	x->nlink_delta = 1;
	x->ret_attr = &w->attr;
	return engine_apply(w->e, NULL, &c);
}

static void check_edit(struct world *w)
{
	struct mfs_attr a = test_attr(w->other, w->a);

	assert_int_equal(a.nlink, 2);
	assert_int_equal(a.data, w->before.data + 1);
	assert_int_equal(w->attr.nlink, 2);
}

/* A commit with 10 KiB in the record: what it replaces was empty. */
static int go_inline_commit(struct world *w)
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
	x->expect = (struct expect){ .flags = EXPECT_LAY | EXPECT_NOT_FENCED, .lay = w->before.lay, .session = 0x101 };
	x->ret_attr = &w->attr;
	return engine_apply(w->e, NULL, &c);
}

static void check_inline_commit(struct world *w)
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
static int go_commit(struct world *w)
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

static void check_commit(struct world *w)
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
static void prepare_create(struct world *w)
{
	w->a = test_number(w->other);
}

static int create(struct world *w, mode_t mode)
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

static int go_create(struct world *w)
{
	return create(w, REG);
}

static int go_mkdir(struct world *w)
{
	return create(w, DIR);
}

static void check_create(struct world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), w->a);
	assert_int_equal(test_attr(w->other, w->d).mtime, 77);
	assert_int_equal(w->attr.ino, w->a);
}

static int move(struct world *w, mfs_ino_t to, const char *name, bool job)
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

static int go_rename(struct world *w)
{
	return move(w, w->d, "r", false);
}

static int go_rename_job(struct world *w)
{
	return move(w, w->d, "r", true);
}

static void check_rename(struct world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_int_equal(test_find(w->other, w->d, "r"), w->a);
	assert_int_equal(ver_of(w, w->a), w->quiet ? 2 : 3);
}

static int go_rename_away(struct world *w)
{
	return move(w, w->d2, "r", false);
}

static void check_rename_away(struct world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_int_equal(test_find(w->other, w->d2, "r"), w->a);
	assert_int_equal(test_attr(w->other, w->d2).children, 1);
}

static void prepare_over(struct world *w)
{
	prepare_file(w);
	w->b = test_make(w->other, w->d, "b", REG);
}

static int go_rename_over(struct world *w)
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

static void check_over(struct world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_int_equal(test_find(w->other, w->d, "b"), w->a);
	assert_true(test_attr(w->other, w->b).flags & ATTR_IN_TRASH);
}

static int go_exchange(struct world *w)
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

static void check_exchange(struct world *w)
{
	assert_int_equal(test_find(w->other, w->d, "a"), w->b);
	assert_int_equal(test_find(w->other, w->d, "b"), w->a);
	assert_int_equal(test_find(w->other, 2, "parked"), 0);
	assert_int_equal(ver_of(w, w->b), 2);
}

static int trash_it(struct world *w, struct engine *e, bool job)
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

static int go_unlink(struct world *w)
{
	return trash_it(w, w->e, false);
}

static int go_unlink_job(struct world *w)
{
	return trash_it(w, w->e, true);
}

static void check_unlink(struct world *w)
{
	struct mfs_attr a = test_attr(w->other, w->a);

	assert_int_equal(test_find(w->other, w->d, "a"), 0);
	assert_true(a.flags & ATTR_IN_TRASH);
	assert_int_equal(a.nlink, 0);
}

static void prepare_trashed(struct world *w)
{
	prepare_file(w);
	TEST_OK(trash_it(w, w->other, false));
}

static int go_undelete(struct world *w)
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

static void check_undelete(struct world *w)
{
	assert_int_equal(test_find(w->other, w->d, "back"), w->a);
	assert_int_equal(test_attr(w->other, w->a).nlink, 1);
}

static void prepare_link(struct world *w)
{
	prepare_file(w);
	w->id = test_number(w->other);
}

static int go_link(struct world *w)
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

static void check_link(struct world *w)
{
	assert_int_equal(test_find(w->other, w->d, "l"), w->id);
	assert_int_equal(test_attr(w->other, w->a).nlink, 2);
}

static void prepare_dir(struct world *w)
{
	w->a = test_make(w->other, w->d, "a", DIR);
}

static int go_rmdir(struct world *w)
{
	struct mfs_name name = test_name("a");
	struct change c = { .no_child = w->a };

	change_write(&c, WRITE_DELETE, w->a)->expect =
		(struct expect){ .flags = EXPECT_NAME, .parent = w->d, .name = &name };
	change_touch(&c, w->d, 77, -1, 0);
	return engine_apply(w->e, NULL, &c);
}

static void check_rmdir(struct world *w)
{
	struct node n;

	assert_int_equal(engine_get(w->other, NULL, w->a, &n), -ESTALE);
	assert_int_equal(test_find(w->other, w->d, "a"), 0);
}

static int go_move_dir(struct world *w)
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

static int go_atimes(struct world *w)
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

static void check_atimes(struct world *w)
{
	assert_int_equal(test_attr(w->other, w->a).atime, 4711);
	assert_int_equal(test_attr(w->other, w->b).atime, 4711);
}

static int go_cell(struct world *w)
{
	char name[64];
	struct cell_record cell = { .name = name, .token = 9, .blob = { .data = (void *)(uintptr_t) "x", .size = 1 } };
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_CELL_PUT, 0);

	snprintf(name, sizeof(name), "locks/%ju", (uintmax_t)w->a);
	x->cell = &cell;
	x->expect.flags = EXPECT_VER;
	return engine_apply(w->e, NULL, &c);
}

static void check_cell(struct world *w)
{
	struct cell_record cell;
	char name[64];

	snprintf(name, sizeof(name), "locks/%ju", (uintmax_t)w->a);
	TEST_OK(engine_cell_get(w->other, NULL, name, &cell));
	assert_int_equal(cell.token, 9);
	cell_record_release(&cell);
}

/* A lock taken away from a dead session: the fence and the cell, in one. */
static int go_fence(struct world *w)
{
	char name[64];
	struct cell_record cell = { .name = name, .token = 9, .blob = { .data = (void *)(uintptr_t) "x", .size = 1 } };
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

static void check_fence(struct world *w)
{
	check_cell(w);
	assert_int_equal(ver_of(w, w->a), w->quiet ? 2 : 3);
}

static const struct scenario scenarios[] = {
	{ "edit", 1, prepare_file, go_edit, check_edit },
	{ "commit inline", 1, prepare_file, go_inline_commit, check_inline_commit },
	{ "commit, version, dropped", 3, prepare_file, go_commit, check_commit },
	{ "create", 2, prepare_create, go_create, check_create },
	{ "mkdir", 2, prepare_create, go_mkdir, check_create },
	{ "rename", 4, prepare_file, go_rename, check_rename },
	{ "rename, job", 5, prepare_file, go_rename_job, check_rename },
	{ "rename away", 5, prepare_file, go_rename_away, check_rename_away },
	{ "rename over", 6, prepare_over, go_rename_over, check_over },
	{ "exchange", 5, prepare_over, go_exchange, check_exchange },
	{ "unlink", 4, prepare_file, go_unlink, check_unlink },
	{ "unlink, job", 5, prepare_file, go_unlink_job, check_unlink },
	{ "undelete", 4, prepare_trashed, go_undelete, check_undelete },
	{ "link", 4, prepare_link, go_link, check_link },
	{ "rmdir", 7, prepare_dir, go_rmdir, check_rmdir },
	{ "move a directory", 7, prepare_dir, go_move_dir, check_rename_away },
	{ "access times", 2, prepare_over, go_atimes, check_atimes },
	{ "cell", 1, prepare_file, go_cell, check_cell },
	{ "fence and cell", 3, prepare_file, go_fence, check_fence },
};

/* What the other session does meanwhile: an edit of the record, wherever it is, if it is. */
static void meddle(void *arg)
{
	struct world *w = arg;
	struct change c = { 0 };
	struct node set = NODE_INIT;
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	set.attr.uid = 4711;
	x->node = &set;
	x->mask = EDIT_UID;
	w->quiet = engine_apply(w->other, NULL, &c) != 0;
}

static void begin(struct world *w, const struct scenario *s, unsigned int round)
{
	char name[32];

	snprintf(name, sizeof(name), "d%td-%u", s - scenarios, round);
	w->d = test_make(w->other, MFS_ROOT_INO, name, DIR);
	snprintf(name, sizeof(name), "t%td-%u", s - scenarios, round);
	w->d2 = test_make(w->other, MFS_ROOT_INO, name, DIR);
	w->attr = (struct mfs_attr){ 0 };
	w->quiet = true;
	s->prepare(w);
}

static void test_round_trips__are_as_the_table_says(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < MFS_ARRAY_LEN(scenarios); i++) {
		const struct scenario *s = &scenarios[i];
		char names[1024];
		int64_t start;

		/* The first one makes sessions, connections, reserves numbers. */
		for (unsigned int round = 0; round < 2; round++) {
			begin(w, s, 1000 + round);
			mongo_proxy_on(w->proxy, 0, PROXY_LOSE, NULL, NULL);
			start = mfs_mono_ns();
			TEST_OK(s->go(w));
			start = mfs_mono_ns() - start;
			s->check(w);
		}
		mongo_proxy_names(w->proxy, names, sizeof(names));
		printf("    %-26s %u  %6.2f ms  %s\n", s->name, mongo_proxy_count(w->proxy), (double)start / 1e6, names);
		if (mongo_proxy_count(w->proxy) != s->trips)
			fail_msg("%s: %u round trips, not %u", s->name, mongo_proxy_count(w->proxy), s->trips);
	}
}

static void lost_badly(struct world *w, const struct scenario *s, unsigned int nth, int r)
{
	char names[1024];

	mongo_proxy_names(w->proxy, names, sizeof(names));
	fail_msg("%s, %u lost: %s, %u hits; %s", s->name, nth, strerror(-r), mongo_proxy_hits(w->proxy), names);
}

static void lose_each(struct world *w, enum mongo_proxy_action action, bool meddling)
{
	for (size_t i = 0; i < MFS_ARRAY_LEN(scenarios); i++) {
		const struct scenario *s = &scenarios[i];

		for (unsigned int nth = 1; nth <= s->trips; nth++) {
			int r;

			begin(w, s, nth + 100 * action + 200 * meddling);
			mongo_proxy_on(w->proxy, nth, action, meddling ? meddle : NULL, w);
			r = s->go(w);
			if (r || mongo_proxy_hits(w->proxy) != 1)
				lost_badly(w, s, nth, r);
			mongo_proxy_on(w->proxy, 0, action, NULL, NULL);
			s->check(w);
		}
	}
}

static void test_once__every_reply_is_lost_and_another_changes_the_record(void **state)
{
	lose_each(*state, PROXY_LOSE, true);
}

static void test_once__every_request_is_lost_in_turn(void **state)
{
	lose_each(*state, PROXY_DROP, false);
}

/* A record that was changed often: its ring is full, and the session's own earlier change in it says how far it goes. */
static void test_once__a_full_ring_of_ones_own_is_no_doubt(void **state)
{
	struct world *w = *state;
	uint32_t nlink;

	begin(w, &scenarios[0], 7777);
	for (int i = 0; i < 20; i++)
		TEST_OK(go_edit(w));
	nlink = test_attr(w->other, w->a).nlink;
	mongo_proxy_on(w->proxy, 1, PROXY_DROP, NULL, NULL);
	TEST_OK(go_edit(w));
	assert_int_equal(test_attr(w->other, w->a).nlink, nlink + 1);
	mongo_proxy_on(w->proxy, 1, PROXY_LOSE, NULL, NULL);
	TEST_OK(go_edit(w));
	assert_int_equal(test_attr(w->other, w->a).nlink, nlink + 2);
}

/* Another's: nobody can tell, and it is said. */
static void test_once__a_full_ring_of_others_is_eio(void **state)
{
	struct world *w = *state;
	uint32_t nlink;

	begin(w, &scenarios[0], 7778);
	for (int i = 0; i < 20; i++) {
		struct change c = { 0 };

		change_write(&c, WRITE_EDIT, w->a)->mask = EDIT_BUMP_LAY;
		TEST_OK(engine_apply(w->other, NULL, &c));
	}
	nlink = test_attr(w->other, w->a).nlink;
	mongo_proxy_on(w->proxy, 1, PROXY_DROP, NULL, NULL);
	assert_int_equal(go_edit(w), -EIO);
	assert_int_equal(test_attr(w->other, w->a).nlink, nlink);
}

static void *change_mode(void *arg)
{
	struct world *w = arg;
	struct node n = { .attr.mode = 0100600 };
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, w->a);

	x->node = &n;
	x->mask = EDIT_MODE;
	return (void *)(intptr_t)engine_apply(w->other, NULL, &c);
}

static size_t under_way(struct engine *e)
{
	struct mongo_apply *s = mongo_of(e)->apply;
	MFS_GUARD(&s->lock);

	return s->n_flights;
}

/* A later one must not take it for one that has ended: from the ids of those it is seen how far back a ring goes. */
static void test_once__a_change_is_under_way_while_it_waits_for_a_connection(void **state)
{
	struct engine *held[CONNECTIONS];
	struct world *w = *state;
	pthread_t thread;
	void *r;

	w->d = MFS_ROOT_INO;
	prepare_file(w);
	for (int i = 0; i < CONNECTIONS; i++)
		TEST_OK(engine_snapshot(w->other, NULL, &held[i]));
	assert_int_equal(pthread_create(&thread, NULL, change_mode, w), 0);
	for (int i = 0; i < 300 && !under_way(w->other); i++)
		usleep(10000);
	assert_int_equal(under_way(w->other), 1);
	for (int i = 0; i < CONNECTIONS; i++)
		engine_free(held[i]);
	pthread_join(thread, &r);
	assert_int_equal((intptr_t)r, 0);
	assert_int_equal(under_way(w->other), 0);
}

/* A mount died in the middle of an rmdir: its mark holds others up for the lease, not for ever. */
static void test_dying__a_stale_mark_is_taken_off(void **state)
{
	struct world *w = *state;
	struct node mark = NODE_INIT;
	struct change c = { 0 };
	struct write *x;
	int64_t start;
	int r;

	begin(w, &scenarios[3], 8888);
	x = change_write(&c, WRITE_EDIT, w->d);
	mark.dying = 4711;
	x->node = &mark;
	x->mask = EDIT_DYING;
	TEST_OK(engine_apply(w->other, NULL, &c));
	start = mfs_mono_ns();
	while ((r = go_create(w)) == -EAGAIN)
		assert_true(mfs_mono_ns() - start < 30 * MFS_NSEC_PER_SEC);
	TEST_OK(r);
	assert_true(mfs_mono_ns() - start > 9 * MFS_NSEC_PER_SEC);
	check_create(w);
}

/* --- the server dies --- */

#define N_WRITERS 4
struct writer {
	struct world *w;
	mfs_ino_t ino;
	pthread_t thread;
	unsigned int applied, failed;
};
static atomic_bool writers_stop;

/* Somebody who watches meanwhile: of each file every change in order, or that some were missed. */
struct watcher {
	struct writer *t;
	_Atomic uint64_t told[N_WRITERS]; /* the last ver */
	atomic_uint gaps, lost;
};

static void watch_writers(void *arg, const struct news *n)
{
	struct watcher *x = arg;

	if (n->kind == NEWS_LOST) {
		for (int i = 0; i < N_WRITERS; i++)
			atomic_store(&x->told[i], 0);
		atomic_fetch_add(&x->lost, 1);
	}
	for (int i = 0; n->kind == NEWS_RECORD && i < N_WRITERS; i++) {
		if (n->ino != x->t[i].ino)
			continue;
		if (x->told[i] && n->ver > x->told[i] + 1)
			atomic_fetch_add(&x->gaps, 1);
		x->told[i] = MFS_MAX(x->told[i], n->ver);
	}
}

static void *writer_thread(void *arg)
{
	struct writer *t = arg;

	while (!atomic_load(&writers_stop)) {
		struct change c = { .durable = true };

		change_write(&c, WRITE_EDIT, t->ino)->nlink_delta = 1;
		if (engine_apply(t->w->e, NULL, &c) == 0)
			t->applied++;
		else
			t->failed++;
	}
	return NULL;
}

static pid_t start_again(pid_t pid)
{
	char path[64], args[4096], *argv[64], *environment[] = { NULL };
	ssize_t n;
	pid_t again;
	int fd, argc = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, args, sizeof(args) - 1);
	close(fd);
	assert_true(n > 0);
	args[n] = '\0';
	for (char *at = args; at < args + n; at += strlen(at) + 1)
		argv[argc++] = at;
	argv[argc] = NULL;
	kill(pid, SIGKILL);
	usleep(300000);
	again = fork();
	if (again == 0) {
		/* Also when a test fails. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execve(argv[0], argv, environment);
		_exit(127);
	}
	assert_true(again > 0);
	return again;
}

static void test_crash__nothing_is_lost_and_nothing_done_twice(void **state)
{
	struct world *w = *state;
	struct writer t[N_WRITERS];
	struct watcher x = { .t = t };
	pid_t pid = (pid_t)mongo_server_start()->pid, mine = 0;

	if (pid == 0) {
		print_message("MASSFS_MONGO names a server that is not ours: it is not killed\n");
		skip();
	}
	mongo_proxy_on(w->proxy, 0, PROXY_LOSE, NULL, NULL);
	for (int i = 0; i < N_WRITERS; i++) {
		char name[2] = { (char)('A' + i), 0 };

		t[i] = (struct writer){ .w = w, .ino = test_make(w->other, MFS_ROOT_INO, name, REG) };
	}
	TEST_OK(engine_watch(w->other, watch_writers, &x));
	atomic_store(&writers_stop, false);
	for (int i = 0; i < N_WRITERS; i++)
		TEST_OK(pthread_create(&t[i].thread, NULL, writer_thread, &t[i]));
	for (int i = 0; i < 3; i++) {
		pid_t again;

		usleep(500000);
		again = start_again(pid);
		if (mine)
			waitpid(mine, NULL, 0);
		pid = mine = again;
		sleep(2);
	}
	atomic_store(&writers_stop, true);
	for (int i = 0; i < N_WRITERS; i++)
		pthread_join(t[i].thread, NULL);
	for (int i = 0; i < N_WRITERS; i++) {
		struct mfs_attr a = test_attr(w->other, t[i].ino);

		printf("    %u applied, %u failed, nlink %u, ver %ju\n", t[i].applied, t[i].failed, a.nlink, (uintmax_t)a.ver);
		assert_int_equal(t[i].failed, 0);
		for (int k = 0; k < 200 && x.told[i] < a.ver; k++)
			usleep(50000);
		assert_int_equal(x.told[i], a.ver);
		assert_int_equal(a.nlink, 1 + t[i].applied);
		assert_int_equal(a.ver, 1 + t[i].applied);
		assert_true(t[i].applied > 20);
	}
	printf("    news: %u times lost, %u gaps\n", atomic_load(&x.lost), atomic_load(&x.gaps));
	assert_int_equal(atomic_load(&x.gaps), 0);
	engine_free(w->e);
	engine_free(w->other);
	kill(mine, SIGKILL);
	waitpid(mine, NULL, 0);
	w->e = w->other = NULL;
	mongo_proxy_free(w->proxy);
	store_test_remove(w->dir);
	free(w);
	*state = NULL;
}

static int teardown_unless_done(void **state)
{
	return *state ? teardown(state) : 0;
}

/* --- races, at full length --- */

static const struct engine_kind kind = {
	.name = "mongo", .open = mongo_server_open, .release = mongo_server_release, .persists = true, .two_instances = true
};

static void *race_of(const char *name)
{
	for (const struct engine_test *t = engine_tests_races; t->func; t++)
		if (strcmp(t->name, name) == 0)
			return (void *)(uintptr_t)t->func;
	abort();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trips__are_as_the_table_says, setup, teardown),
		cmocka_unit_test_setup_teardown(test_once__every_reply_is_lost_and_another_changes_the_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_once__every_request_is_lost_in_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_once__a_full_ring_of_ones_own_is_no_doubt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_once__a_full_ring_of_others_is_eio, setup, teardown),
		cmocka_unit_test_setup_teardown(test_once__a_change_is_under_way_while_it_waits_for_a_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dying__a_stale_mark_is_taken_off, setup, teardown),
		{ "rmdir_or_create", (CMUnitTestFunction)race_of("test_race__rmdir_or_create"), engine_fixture_setup,
		  engine_fixture_teardown, (void *)(uintptr_t)&kind },
		{ "no_cycle", (CMUnitTestFunction)race_of("test_race__no_cycle"), engine_fixture_setup, engine_fixture_teardown,
		  (void *)(uintptr_t)&kind },
		cmocka_unit_test_setup_teardown(test_crash__nothing_is_lost_and_nothing_done_twice, setup, teardown_unless_done),
	};
	int failed;

	/* test_mongo_apply [PATTERN] */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	mongo_server_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	mongo_server_stop();
	return failed;
}
