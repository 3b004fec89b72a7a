/*
 * Two mounts' redis engines on one index, doing random changes and reads one after the other: each answer must be that of
 * the bare index, whatever is done to Redis in between. News come at once here (mem engine), so nothing may ever be old, but
 * for the 500 ms after a channel was cut.
 *
 * MASSFS_MODEL_SEED: one seed (default: by the clock; printed). MASSFS_LONG: ten times as many steps.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/expr.h"
#include "meta/mem_internal.h"
#include "meta/tags.h"
#include "tests/lib/engine_suite.h"
#include "tests/lib/redis_faults.h"

#define DIRS  6
#define NAMES 9
#define TAGS  4
#define KEPT  16 /* of what is in trash */
#define CUT   (MFS_NSEC_PER_SEC / 2)

struct world {
	struct redis_server server;
	struct mem_shared *mem;
	struct engine *inner[2], *e[2], *bare;
	redisContext *client;
	struct redis_copy copy;
	unsigned int seed;
	uint64_t next;
	mfs_ino_t dirs[DIRS], trash[KEPT];
	unsigned int n_dirs, n_trash;
	unsigned int changes, reads, skipped, found, done[16]; /* faults that did something */
	int64_t cut[2]; /* 0: not */
};

static unsigned int pick(struct world *w, unsigned int n)
{
	return (unsigned int)rand_r(&w->seed) % n;
}

static mfs_ino_t some_dir(struct world *w)
{
	return w->dirs[pick(w, w->n_dirs)];
}

static struct mfs_name some_name(struct world *w)
{
	char text[2] = { (char)('a' + pick(w, NAMES)), 0 };

	return test_name(text);
}

/* --- changes --- */

static int apply(struct world *w, struct change *c)
{
	int r = engine_apply(w->e[pick(w, 2)], NULL, c);

	w->changes += r == 0;
	return r;
}

static void touch(struct change *c, mfs_ino_t dir)
{
	for (unsigned int i = 0; i < c->n_touches; i++)
		if (c->touches[i].dir == dir)
			return;
	change_touch(c, dir, mfs_now_ns(), 0, 0);
}

/* Few names and values, so that pages are lost and won all the time. */
static void some_tags(struct world *w, struct node *n)
{
	while (n->n_xattrs)
		assert_int_equal(node_xattr_remove(n, n->xattrs[0].name), 0);
	for (unsigned int i = pick(w, 4); i; i--) {
		char name[8] = { 'u', 's', 'e', 'r', '.', (char)('a' + pick(w, TAGS)), 0 }, value[2] = { (char)('0' + pick(w, 3)), 0 };

		TEST_OK(node_xattr_set(n, name, value, 1));
	}
	if (pick(w, 4) == 0)
		TEST_OK(node_xattr_set(n, TAG_BARE_LIST, "b,c", pick(w, 2) ? 1 : 3));
	node_derive(n);
}

static void make(struct world *w, bool dir)
{
	struct node n = test_node(w->bare, some_dir(w), "x", dir ? 040755 : 0100644);
	struct change c = { 0 };

	n.name = some_name(w);
	if (pick(w, 2))
		some_tags(w, &n);
	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	touch(&c, n.parent);
	if (!(dir && w->n_dirs == DIRS) && apply(w, &c) == 0 && dir)
		w->dirs[w->n_dirs++] = n.attr.ino;
	node_release(&n);
}

/* A file or alias under some name; false: there is none under that one. */
static bool find(struct world *w, struct entry *ret)
{
	struct mfs_name name = some_name(w);
	mfs_ino_t dir = some_dir(w);

	if (engine_lookup(w->bare, NULL, dir, &name, ret) < 0)
		return false;
	if (!attr_is_dir(&ret->node.attr))
		return true;
	entry_release(ret);
	return false;
}

static void edit(struct world *w, const struct entry *at)
{
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *x = change_write(&c, WRITE_EDIT, at->node.attr.ino);
	char bytes[12000];

	x->node = &set;
	switch (pick(w, 7)) {
	case 0: /* an atime alone leaves ver as it is */
		x->mask = EDIT_ATIME | EDIT_NO_BUMP_VER;
		set.attr.atime = pick(w, 1000000);
		break;
	case 1:
		x->mask = EDIT_TODO | EDIT_NO_BUMP_VER;
		set.todo = pick(w, 1000000);
		break;
	case 2:
		memset(bytes, (int)pick(w, 256), sizeof(bytes));
		set.inline_data.data = bytes;
		set.attr.size = set.inline_data.size = 1 + pick(w, sizeof(bytes));
		x->mask = EDIT_REF | EDIT_SIZE | EDIT_BUMP_DATA | EDIT_BUMP_LAY;
		break;
	case 3:
	case 4:
		some_tags(w, &set);
		x->mask = EDIT_XATTRS;
		break;
	default:
		x->mask = EDIT_MODE | EDIT_MTIME;
		set.attr.mode = 0100000 | pick(w, 512);
		set.attr.mtime = pick(w, 1000000);
	}
	apply(w, &c);
	if (x->mask & EDIT_XATTRS)
		node_release(&set);
}

static void rename_it(struct world *w, const struct entry *at)
{
	struct node set = NODE_INIT;
	struct alias a = { .id = at->id, .target = at->node.attr.ino };
	struct change c = { 0 };
	struct entry over;
	struct node gone = NODE_INIT;
	char path[] = "some/path";

	set.parent = a.parent = some_dir(w);
	set.name = a.name = some_name(w);
	if (engine_lookup(w->bare, NULL, set.parent, &set.name, &over) == 0) {
		bool plain = !attr_is_dir(&over.node.attr) && over.id == over.node.attr.ino && over.node.attr.nlink == 1 &&
			     over.id != at->node.attr.ino;

		gone.trash_path = path;
		gone.trash_time = 1;
		if (plain)
			change_write(&c, WRITE_TRASH, over.id)->node = &gone;
		if (plain && w->n_trash < KEPT)
			w->trash[w->n_trash++] = over.id;
		entry_release(&over);
		if (!plain)
			return;
	}
	if (at->id == at->node.attr.ino) {
		change_write(&c, WRITE_RENAME, at->id)->node = &set;
	} else {
		change_write(&c, WRITE_ALIAS_RENAME, at->id)->alias = &a;
		change_write(&c, WRITE_EDIT, at->node.attr.ino)->mask = EDIT_CTIME;
		c.writes[c.n_writes - 1].node = &set;
	}
	touch(&c, at->parent);
	touch(&c, set.parent);
	apply(w, &c);
}

static void link_it(struct world *w, const struct entry *at)
{
	struct alias a = { .id = test_number(w->bare), .target = at->node.attr.ino, .parent = some_dir(w), .name = some_name(w) };
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *x;

	change_write(&c, WRITE_ALIAS_INSERT, a.id)->alias = &a;
	x = change_write(&c, WRITE_EDIT, a.target);
	x->node = &set;
	x->nlink_delta = 1;
	touch(&c, a.parent);
	apply(w, &c);
}

/* The first name goes, and an alias takes its place. */
static void promote(struct world *w, const struct entry *at, const struct alias *a)
{
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *x;

	set.parent = a->parent;
	set.name = a->name;
	set.pos = a->id;
	change_write(&c, WRITE_ALIAS_DELETE, a->id);
	x = change_write(&c, WRITE_RENAME, at->node.attr.ino);
	x->node = &set;
	x->nlink_delta = -1;
	touch(&c, at->parent);
	apply(w, &c);
}

static void unlink_it(struct world *w, const struct entry *at)
{
	mfs_ino_t ino = at->node.attr.ino;
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct alias a;
	char path[] = "some/path";
	struct write *x;

	if (at->id != ino) {
		change_write(&c, WRITE_ALIAS_DELETE, at->id);
		x = change_write(&c, WRITE_EDIT, ino);
		x->node = &set;
		x->nlink_delta = -1;
	} else if (engine_aliases(w->bare, NULL, ino, &a, 1) > 0) {
		promote(w, at, &a);
		return;
	} else if (pick(w, 2)) {
		change_write(&c, WRITE_DELETE, ino);
	} else {
		set.trash_path = path;
		set.trash_time = 1;
		change_write(&c, WRITE_TRASH, ino)->node = &set;
		if (w->n_trash < KEPT)
			w->trash[w->n_trash++] = ino;
	}
	touch(&c, at->parent);
	apply(w, &c);
}

static void untrash(struct world *w)
{
	struct node set = NODE_INIT;
	struct change c = { 0 };

	if (w->n_trash == 0)
		return;
	set.parent = some_dir(w);
	set.name = some_name(w);
	change_write(&c, pick(w, 3) ? WRITE_UNTRASH : WRITE_PURGE, w->trash[w->n_trash - 1])->node = &set;
	touch(&c, set.parent);
	if (apply(w, &c) == 0)
		w->n_trash--;
}

static void change_something(struct world *w)
{
	struct entry at;
	unsigned int kind = pick(w, 12);

	if (kind < 3) {
		make(w, kind == 0);
		return;
	}
	if (kind == 3) {
		untrash(w);
		return;
	}
	if (!find(w, &at))
		return;
	if (kind < 7)
		edit(w, &at);
	else if (kind < 9)
		rename_it(w, &at);
	else if (kind < 10)
		link_it(w, &at);
	else
		unlink_it(w, &at);
	entry_release(&at);
}

/* --- reads --- */

static void compare_get(struct world *w, struct engine *e)
{
	mfs_ino_t ino = MFS_FIRST_INO + pick(w, 300);
	struct node a = NODE_INIT, b = NODE_INIT;
	struct entry at;
	int x, y;

	if (pick(w, 4) && find(w, &at)) {
		ino = at.node.attr.ino;
		entry_release(&at);
	}
	x = engine_get(e, NULL, ino, &a);
	y = engine_get(w->bare, NULL, ino, &b);
	assert_int_equal(x, y);
	if (x == 0)
		test_same_node(&a, &b);
	node_release(&a);
	node_release(&b);
}

static void compare_lookup(struct world *w, struct engine *e)
{
	struct mfs_name name = some_name(w);
	mfs_ino_t dir = some_dir(w);
	struct entry a = { 0 }, b = { 0 };
	int x = engine_lookup(e, NULL, dir, &name, &a), y = engine_lookup(w->bare, NULL, dir, &name, &b);

	assert_int_equal(x, y);
	if (x == 0) {
		assert_int_equal(a.id, b.id);
		assert_int_equal(a.parent, b.parent);
		assert_int_equal(a.pos, b.pos);
		assert_true(mfs_name_equal(&a.name, &b.name));
		test_same_node(&a.node, &b.node);
		entry_release(&a);
		entry_release(&b);
	}
}

static void compare_list(struct world *w, struct engine *e)
{
	mfs_ino_t dir = some_dir(w);
	size_t limit = pick(w, 2) ? 4 : 100;
	uint64_t after = 0;
	bool more = true;

	while (more) {
		struct node_list a = NODE_LIST_INIT, b = NODE_LIST_INIT;

		TEST_OK(engine_list(e, NULL, dir, after, limit, &a));
		TEST_OK(engine_list(w->bare, NULL, dir, after, limit, &b));
		assert_int_equal(a.n, b.n);
		for (size_t i = 0; i < a.n; i++) {
			test_same_node(&a.v[i], &b.v[i]);
			assert_true(a.v[i].partial);
		}
		more = a.n == limit;
		after = a.n ? a.v[a.n - 1].pos : 0;
		node_list_release(&a);
		node_list_release(&b);
	}
}

/* What asks for a tag, by pages. */
static void compare_find(struct world *w, struct engine *e)
{
	static const char *const ops[] = { "", "=", "=", "=", ">", "!=", "~" };
	const char *how = ops[pick(w, MFS_ARRAY_LEN(ops))];
	const struct expr_env env = { .now = 0 };
	size_t limit = pick(w, 2) ? 3 : 100, column;
	MFS_AUTOEXPR struct expr *x = NULL;
	MFS_AUTOFREE char *reason = NULL;
	char text[32];
	mfs_ino_t after = 0;
	bool more = true;

	if (*how)
		snprintf(text, sizeof(text), "tag:%c %s '%u'", 'a' + (int)pick(w, TAGS), how, pick(w, 3));
	else
		snprintf(text, sizeof(text), "tag:%c", 'a' + (int)pick(w, TAGS));
	TEST_OK(expr_parse(text, strlen(text), &env, &x, &column, &reason));
	while (more) {
		struct node_list a = NODE_LIST_INIT, b = NODE_LIST_INIT;

		TEST_OK(engine_find(e, NULL, &x->terms[x->root], after, limit, &a));
		TEST_OK(engine_find(w->bare, NULL, &x->terms[x->root], after, limit, &b));
		assert_int_equal(a.n, b.n);
		for (size_t i = 0; i < a.n; i++)
			test_same_node(&a.v[i], &b.v[i]);
		more = a.n == limit;
		after = a.n ? a.v[a.n - 1].attr.ino : 0;
		w->found += a.n;
		node_list_release(&a);
		node_list_release(&b);
	}
}

static void read_something(struct world *w)
{
	unsigned int i = pick(w, 2), kind = pick(w, 7);

	if (w->cut[i] && mfs_mono_ns() - w->cut[i] < CUT) {
		w->skipped++;
		return;
	}
	w->reads++;
	if (kind < 2)
		compare_get(w, w->e[i]);
	else if (kind < 4)
		compare_lookup(w, w->e[i]);
	else if (kind < 5)
		compare_list(w, w->e[i]);
	else
		compare_find(w, w->e[i]);
}

static void some_steps(struct world *w, unsigned int n)
{
	for (; n; n--) {
		if (pick(w, 3) == 0)
			change_something(w);
		for (unsigned int k = pick(w, 6); k; k--)
			read_something(w);
	}
}

/* --- the world --- */

static int setup(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	struct world *w = calloc(1, sizeof(*w));
	const char *seed = getenv("MASSFS_MODEL_SEED");

	w->seed = seed ? (unsigned int)strtoul(seed, NULL, 10) : (unsigned int)mfs_now_ns();
	print_message("MASSFS_MODEL_SEED=%u\n", w->seed);
	redis_server_start(&w->server);
	w->client = redis_server_client(&w->server);
	TEST_OK(mem_shared_new(&w->mem));
	TEST_OK(mem_engine_new(w->mem, &w->bare));
	TEST_OK(engine_volume_put(w->bare, NULL, &v));
	for (unsigned int i = 0; i < 2; i++) {
		TEST_OK(mem_engine_new(w->mem, &w->inner[i]));
		w->e[i] = redis_server_engine(&w->server, w->inner[i], v.uuid);
		w->e[i]->session = 101 + i;
	}
	w->dirs[w->n_dirs++] = MFS_ROOT_INO;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	struct redis_stats a, b;

	redis_engine_stats(w->e[0], &a);
	redis_engine_stats(w->e[1], &b);
	print_message("%u changes, %u reads, %u skipped; hits %ju+%ju misses %ju+%ju old %ju+%ju bad %ju+%ju fills %ju+%ju "
		      "failures %ju+%ju\n",
		      w->changes, w->reads, w->skipped, (uintmax_t)a.hits, (uintmax_t)b.hits, (uintmax_t)a.misses,
		      (uintmax_t)b.misses, (uintmax_t)a.old, (uintmax_t)b.old, (uintmax_t)a.bad, (uintmax_t)b.bad,
		      (uintmax_t)a.fills, (uintmax_t)b.fills, (uintmax_t)a.failures, (uintmax_t)b.failures);
	for (unsigned int i = 0; i < 2; i++)
		engine_free(w->e[i]);
	engine_free(w->bare);
	mem_shared_free(w->mem);
	redis_copy_release(&w->copy);
	redisFree(w->client);
	redis_server_stop(&w->server);
	free(w);
	return 0;
}

static unsigned int times(unsigned int n)
{
	return getenv("MASSFS_LONG") ? 10 * n : n;
}

static uint64_t hits_of(struct world *w)
{
	struct redis_stats a, b;

	redis_engine_stats(w->e[0], &a);
	redis_engine_stats(w->e[1], &b);
	return a.hits + b.hits;
}

static void test_model__undisturbed(void **state)
{
	struct world *w = *state;

	some_steps(w, times(3000));
	assert_true(hits_of(w) > w->reads / 4 && w->found > 1000); /* or it shows nothing */
}

static void damage(struct world *w)
{
	unsigned int kind = pick(w, 6);
	size_t n = 0;

	switch (kind) {
	case 0:
		n = redis_fault_garbage(w->client, &w->seed);
		break;
	case 1:
		n = redis_fault_swap(w->client, &w->seed);
		break;
	case 2:
		n = redis_fault_restore(w->client, &w->copy);
		break;
	case 3:
		n = redis_fault_types(w->client);
		break;
	case 4:
		n = redis_fault_flush(w->client);
		break;
	default:
		redis_copy_release(&w->copy);
		redis_copy_take(w->client, &w->copy);
		n = w->copy.n;
	}
	w->done[kind] += n > 0;
}

static void test_model__what_lies_in_redis_is_wrong(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < times(150); i++) {
		some_steps(w, pick(w, 40));
		damage(w);
	}
	for (unsigned int i = 0; i < 6; i++)
		assert_true(w->done[i] > 5);
	assert_true(hits_of(w) > w->reads / 10);
}

/* Old values put back again and again, with no tombstones in the way. */
static void test_model__old_values_come_back(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < times(150); i++) {
		some_steps(w, pick(w, 10));
		if (i % 4 == 0) {
			redis_copy_release(&w->copy);
			redis_copy_take(w->client, &w->copy);
		}
		redis_fault_flush(w->client);
		w->done[0] += redis_fault_restore(w->client, &w->copy) > 0;
	}
	assert_true(w->done[0] > 50);
}

static void test_model__a_channel_is_cut(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < times(6); i++) {
		unsigned int k = pick(w, 2);

		some_steps(w, 100);
		redis_copy_release(&w->copy);
		redis_copy_take(w->client, &w->copy);
		mem_news_mute(w->mem, w->inner[k], true);
		freeReplyObject(redisCommand(w->client, "CLIENT KILL TYPE pubsub")); /* no hints either, for half a second */
		w->cut[k] = mfs_mono_ns();
		some_steps(w, 50);
		if (pick(w, 2))
			usleep(520000);
		some_steps(w, 50);
		mem_news_mute(w->mem, w->inner[k], false);
		w->cut[k] = 0;
		redis_fault_flush(w->client); /* what others told Redis meanwhile does not help */
		redis_fault_restore(w->client, &w->copy);
	}
	some_steps(w, 200);
	assert_true(w->skipped > 0 && hits_of(w) > w->reads / 10);
}

static void both_up(struct world *w)
{
	redis_server_wait_up(w->e[0], true);
	redis_server_wait_up(w->e[1], true);
}

/* The client of before is broken; hiredis would raise SIGPIPE. */
static void reconnect(struct world *w)
{
	redisFree(w->client);
	w->client = redis_server_client(&w->server);
}

static void test_model__redis_is_killed_and_comes_back_empty(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < times(3); i++) {
		some_steps(w, 200);
		redis_server_kill(&w->server);
		some_steps(w, 200);
		redis_server_run(&w->server);
		both_up(w);
		reconnect(w);
	}
	some_steps(w, 200);
}

static void test_model__redis_comes_back_with_an_old_dump(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < times(3); i++) {
		redisReply *r;

		some_steps(w, 200);
		r = redisCommand(w->client, "SAVE");
		assert_true(r && r->type == REDIS_REPLY_STATUS);
		freeReplyObject(r);
		some_steps(w, 100);
		redis_server_kill(&w->server);
		if (pick(w, 2))
			some_steps(w, 20);
		redis_server_run(&w->server);
		reconnect(w);
		r = redisCommand(w->client, "DBSIZE");
		assert_true(r && r->type == REDIS_REPLY_INTEGER && r->integer > 0);
		freeReplyObject(r);
		some_steps(w, 50);
		both_up(w);
	}
	some_steps(w, 200);
}

static void test_model__redis_hangs(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < times(3); i++) {
		int64_t begun;

		some_steps(w, 200);
		redis_server_freeze(&w->server, true);
		begun = mfs_mono_ns();
		some_steps(w, 300);
		assert_true(mfs_mono_ns() - begun < 20 * MFS_NSEC_PER_SEC);
		redis_server_freeze(&w->server, false);
		some_steps(w, 50);
		both_up(w);
	}
	some_steps(w, 200);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_model__undisturbed),
		T(test_model__what_lies_in_redis_is_wrong),
		T(test_model__old_values_come_back),
		T(test_model__a_channel_is_cut),
		T(test_model__redis_is_killed_and_comes_back_empty),
		T(test_model__redis_comes_back_with_an_old_dump),
		T(test_model__redis_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
