/*
 * The redis engine over the mem engine through the contract suite, with two engine objects on one Redis; and what is its
 * own: hits, hints, the rule of 500 ms, what it does not cache, and that it caches at all.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "meta/expr.h"
#include "meta/mem_internal.h"
#include "meta/tags.h"
#include "tests/lib/engine_suite.h"
#include "tests/lib/redis_server.h"

static struct redis_server server;
static unsigned int n_volumes;

struct shared {
	struct mem_shared *mem;
	char volume[40];
};

static int open_redis_mem(const char *dir, void **shared, struct engine **ret)
{
	struct shared *s = *shared;
	struct engine *inner;

	(void)dir;
	if (!s) {
		s = calloc(1, sizeof(*s));
		assert_int_equal(mem_shared_new(&s->mem), 0);
		snprintf(s->volume, sizeof(s->volume), "test-%d-%u", getpid(), n_volumes++);
		*shared = s;
	}
	assert_int_equal(mem_engine_new(s->mem, &inner), 0);
	*ret = redis_server_engine(&server, inner, s->volume);
	return 0;
}

static void release_redis_mem(void *shared)
{
	struct shared *s = shared;

	mem_shared_free(s->mem);
	free(s);
}


/* --- what is its own --- */

/* Two mounts, whose inner engines count their reads; and what the second heard. */
struct two {
	struct mem_shared *mem;
	struct engine *inner[2], *e[2];
	struct engine_ops ops[2];
	pthread_mutex_t lock;
	unsigned int n_heard, n_hints;
	struct news last_hint;
	struct mfs_name last_name;
	char last_cell[64];
};

static _Atomic unsigned int n_inner; /* reads of any inner engine */
static const struct engine_ops *mem_ops;

static int counted_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	n_inner++;
	return mem_ops->get(e, op, ino, ret);
}

static int counted_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
			  struct entry *ret)
{
	n_inner++;
	return mem_ops->lookup(e, op, parent, name, ret);
}

static int counted_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
			struct node_list *ret)
{
	n_inner++;
	return mem_ops->list(e, op, parent, after, limit, ret);
}

static int counted_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
			struct node_list *ret)
{
	n_inner++;
	return mem_ops->find(e, op, t, after, limit, ret);
}

static void hear(void *arg, const struct news *n)
{
	struct two *t = arg;

	if (n->kind == NEWS_SIDE) /* the same whatever the decorator does */
		return;
	pthread_mutex_lock(&t->lock);
	t->n_heard++;
	if (n->hint) {
		t->n_hints++;
		t->last_hint = *n;
		if (n->name)
			t->last_name = *n->name;
		if (n->cell)
			snprintf(t->last_cell, sizeof(t->last_cell), "%s", n->cell);
	}
	pthread_mutex_unlock(&t->lock);
}

static int setup(void **state)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	struct two *t = calloc(1, sizeof(*t));
	char volume[40];

	pthread_mutex_init(&t->lock, NULL);
	snprintf(volume, sizeof(volume), "test-%d-%u", getpid(), n_volumes++);
	TEST_OK(mem_shared_new(&t->mem));
	for (unsigned int i = 0; i < 2; i++) {
		TEST_OK(mem_engine_new(t->mem, &t->inner[i]));
		mem_ops = t->inner[i]->ops;
		t->ops[i] = *mem_ops;
		t->ops[i].get = counted_get;
		t->ops[i].lookup = counted_lookup;
		t->ops[i].list = counted_list;
		t->ops[i].find = counted_find;
		t->inner[i]->ops = &t->ops[i];
		t->e[i] = redis_server_engine(&server, t->inner[i], volume);
		t->e[i]->session = 101 + i;
	}
	TEST_OK(engine_volume_put(t->e[0], NULL, &v));
	TEST_OK(engine_watch(t->e[1], hear, t));
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct two *t = *state;

	for (unsigned int i = 0; i < 2; i++)
		engine_free(t->e[i]);
	mem_shared_free(t->mem);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return 0;
}

static unsigned int gets(struct engine *e, mfs_ino_t ino)
{
	unsigned int before = n_inner;

	(void)test_attr(e, ino);
	return n_inner - before;
}

static unsigned int finds(struct engine *e, mfs_ino_t dir, const char *name, uint64_t want)
{
	unsigned int before = n_inner;

	assert_int_equal(test_find(e, dir, name), want);
	return n_inner - before;
}

static unsigned int lists(struct engine *e, mfs_ino_t dir, size_t want)
{
	struct node_list l = NODE_LIST_INIT;
	unsigned int before = n_inner;

	TEST_OK(engine_list(e, NULL, dir, 0, 1000, &l));
	assert_int_equal(l.n, want);
	node_list_release(&l);
	return n_inner - before;
}

/* Inner calls of the search, which must find so many. */
static unsigned int searches(struct engine *e, const char *text, size_t want)
{
	const struct expr_env env = { .now = 0 };
	struct node_list l = NODE_LIST_INIT;
	MFS_AUTOEXPR struct expr *x = NULL;
	MFS_AUTOFREE char *reason = NULL;
	unsigned int before = n_inner;
	size_t column;

	TEST_OK(expr_parse(text, strlen(text), &env, &x, &column, &reason));
	TEST_OK(engine_find(e, NULL, &x->terms[x->root], 0, 1000, &l));
	assert_int_equal(l.n, want);
	node_list_release(&l);
	return n_inner - before;
}

static void set_tag(struct engine *e, mfs_ino_t ino, const char *name, const char *value)
{
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_EDIT, ino);
	struct node n;

	test_get(e, ino, &n);
	if (value)
		TEST_OK(node_xattr_set(&n, name, value, strlen(value)));
	else
		TEST_OK(node_xattr_remove(&n, name));
	w->node = &n;
	w->mask = EDIT_XATTRS;
	TEST_OK(engine_apply(e, NULL, &c));
	node_release(&n);
}

/* How often it is asked until no inner call is needed; at most `tries`, as tombstones and own news come a moment later. */
#define SOON(call)                                                                          \
	do {                                                                                \
		int64_t until_ = mfs_mono_ns() + 10 * MFS_NSEC_PER_SEC;                     \
		while ((call) != 0 && mfs_mono_ns() < until_)                               \
			usleep(2000);                                                       \
		assert_int_equal((call), 0);                                                \
	} while (0)

static void test_hit__needs_no_inner_call_and_is_shared(void **state)
{
	struct two *t = *state;
	mfs_ino_t dir = test_make(t->e[0], MFS_ROOT_INO, "d", 040755), ino = test_make(t->e[0], dir, "f", 0100644);

	SOON(gets(t->e[0], ino));
	SOON(finds(t->e[0], dir, "f", ino));
	SOON(finds(t->e[0], dir, "absent", 0));
	SOON(lists(t->e[0], dir, 1));
	/* The other mount has them too: one question may be needed to close its marks. */
	SOON(gets(t->e[1], ino));
	SOON(finds(t->e[1], dir, "f", ino));
	SOON(finds(t->e[1], dir, "absent", 0));
	SOON(lists(t->e[1], dir, 1));
	/* And it stays so. */
	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(gets(t->e[1], ino) + finds(t->e[0], dir, "f", ino) + lists(t->e[1], dir, 1), 0);
}

/* A page of a search is the tag's: other tags and values leave it as it is, a change of what is in it does not. */
static void test_search__is_kept_until_its_tag_is_given_or_a_hit_changes(void **state)
{
	struct two *t = *state;
	mfs_ino_t a = test_make(t->e[0], MFS_ROOT_INO, "a", 0100644), b = test_make(t->e[0], MFS_ROOT_INO, "b", 0100644);
	unsigned int kept = 0;

	set_tag(t->e[0], a, "user.year", "2025");
	for (unsigned int i = 0; i < 20; i++) {
		SOON(searches(t->e[0], "year = 2025", 1));
		SOON(searches(t->e[1], "year = 2025", 1));
		SOON(searches(t->e[1], "tag:year", 1));
		set_tag(t->e[i % 2], b, "user.other", i % 4 < 2 ? "1" : "2"); /* of a file that is no hit */
		kept += searches(t->e[0], "year = 2025", 1) + searches(t->e[1], "tag:year", 1) == 0;
		set_tag(t->e[i % 2], b, "user.year", "2026");
		kept += searches(t->e[1], "year = 2025", 1) == 0;
		(void)(searches(t->e[1], "tag:year", 2) + searches(t->e[0], "tag:year", 2));
		set_tag(t->e[i % 2], b, "user.year", NULL);
		(void)searches(t->e[0], "tag:year", 1);
		SOON(searches(t->e[0], "year = 2025", 1));
		set_tag(t->e[i % 2], b, "user.year", "2025");
		(void)(searches(t->e[0], "year = 2025", 2) + searches(t->e[1], "year = 2025", 2));
		set_tag(t->e[i % 2], b, "user.year", NULL);
		(void)searches(t->e[1], "year = 2025", 1);
	}
	assert_true(kept > 30); /* of 40; a hash of another thing may be the same */
}

/* More tags in one change than are told apart: any search may mean one of them. */
static void test_search__of_one_of_very_many_tags(void **state)
{
	struct two *t = *state;
	mfs_ino_t ino = test_make(t->e[0], MFS_ROOT_INO, "f", 0100644);
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_EDIT, ino);
	char name[32], value[] = "1";
	struct node n;

	test_get(t->e[0], ino, &n);
	for (unsigned int i = 0; i < TAG_SET_MAX + 50; i++) {
		snprintf(name, sizeof(name), "user.t%u", i);
		TEST_OK(node_xattr_set(&n, name, value, 1));
	}
	for (unsigned int i = 0; i < TAG_SET_MAX + 50; i += 7) {
		snprintf(name, sizeof(name), "tag:t%u", i);
		SOON(searches(t->e[i % 2], name, 0));
	}
	w->node = &n;
	w->mask = EDIT_XATTRS;
	TEST_OK(engine_apply(t->e[0], NULL, &c));
	for (unsigned int i = 0; i < TAG_SET_MAX + 50; i += 7) {
		snprintf(name, sizeof(name), "tag:t%u", i);
		(void)searches(t->e[i % 2], name, 1);
	}
	node_release(&n);
}

static void test_change__is_seen_at_once_by_both(void **state)
{
	struct two *t = *state;
	mfs_ino_t ino = test_make(t->e[0], MFS_ROOT_INO, "f", 0100644);
	struct node set = NODE_INIT;

	for (unsigned int i = 1; i < 200; i++) {
		struct change c = { 0 };
		struct write *w = change_write(&c, WRITE_EDIT, ino);

		(void)test_attr(t->e[0], ino);
		(void)test_attr(t->e[1], ino);
		w->node = &set;
		w->mask = EDIT_MODE;
		set.attr.mode = 0100000 | i;
		TEST_OK(engine_apply(t->e[i % 2], NULL, &c));
		assert_int_equal(test_attr(t->e[0], ino).mode, 0100000 | i);
		assert_int_equal(test_attr(t->e[1], ino).mode, 0100000 | i);
	}
}

/* With the change stream cut, hints still come; nothing cached is used 500 ms later. */
static void test_hint__comes_without_the_authority(void **state)
{
	struct two *t = *state;
	struct cell_record cell = { .name = (char *)(uintptr_t) "locks/7", .token = 5, .blob = { .data = (void *)(uintptr_t) "x", 1 } };
	struct change c = { 0 };
	int64_t until = mfs_mono_ns() + 10 * MFS_NSEC_PER_SEC;
	mfs_ino_t ino;
	bool done = false;

	redis_server_wait_listening(t->e[1]);
	mem_news_mute(t->mem, t->inner[1], true);
	ino = test_make(t->e[0], MFS_ROOT_INO, "hinted", 0100644);
	change_write(&c, WRITE_CELL_PUT, 0)->cell = &cell;
	TEST_OK(engine_apply(t->e[0], NULL, &c));
	while (!done && mfs_mono_ns() < until) {
		pthread_mutex_lock(&t->lock);
		done = t->last_cell[0];
		pthread_mutex_unlock(&t->lock);
		usleep(1000);
	}
	assert_string_equal(t->last_cell, "locks/7");
	assert_true(t->n_hints >= 3); /* the file, its directory, the cell */
	assert_string_equal(t->last_name.bytes, "hinted");
	assert_int_equal(t->last_hint.session, 101);
	usleep(510000);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(gets(t->e[1], ino), 1);
		assert_int_equal(finds(t->e[1], MFS_ROOT_INO, "hinted", ino), 1);
		assert_int_equal(lists(t->e[1], MFS_ROOT_INO, 1), 1);
	}
	mem_news_mute(t->mem, t->inner[1], false);
	SOON(gets(t->e[1], ino));
}

/* A change whose news are still on their way: who asks afresh gets it, and from then on everybody of that mount does. */
static void test_fresh__is_the_index_and_what_follows_is_no_older(void **state)
{
	struct two *t = *state;
	mfs_ino_t ino = test_make(t->e[0], MFS_ROOT_INO, "f", 0100644);
	struct op_ctx op = { .fresh = true };
	struct node set = NODE_INIT;
	struct engine *other;

	TEST_OK(mem_engine_new(t->mem, &other));
	for (unsigned int i = 1; i < 20; i++) {
		struct change c = { 0 };
		struct write *w = change_write(&c, WRITE_EDIT, ino);
		struct node n = NODE_INIT;
		unsigned int before;

		SOON(gets(t->e[1], ino));
		for (unsigned int k = 0; k < 2; k++)
			mem_news_mute(t->mem, t->inner[k], true);
		w->node = &set;
		w->mask = EDIT_MODE;
		set.attr.mode = 0100000 | i;
		TEST_OK(engine_apply(other, NULL, &c));
		before = n_inner;
		TEST_OK(engine_get(t->e[1], &op, ino, &n));
		assert_int_equal(n_inner, before + 1);
		assert_int_equal(n.attr.mode, 0100000 | i);
		node_release(&n);
		assert_int_equal(test_attr(t->e[1], ino).mode, 0100000 | i);
		for (unsigned int k = 0; k < 2; k++)
			mem_news_mute(t->mem, t->inner[k], false);
	}
	engine_free(other);
}

static void test_hint__that_is_not_sealed_is_not_heard(void **state)
{
	struct two *t = *state;
	redisContext *c = redis_server_client(&server);
	struct redis_stats st;
	int64_t until = mfs_mono_ns() + 10 * MFS_NSEC_PER_SEC;
	redisReply *r;

	redis_server_wait_listening(t->e[1]);
	r = redisCommand(c, "PUBSUB CHANNELS massfs:*");
	assert_true(r && r->type == REDIS_REPLY_ARRAY && r->elements >= 1);
	for (size_t i = 0; i < r->elements; i++)
		freeReplyObject(redisCommand(c, "PUBLISH %s %s", r->element[i]->str, "0123456789012345678901234567890123456789"));
	freeReplyObject(r);
	redisFree(c);
	do {
		redis_engine_stats(t->e[1], &st);
		usleep(1000);
	} while (st.bad == 0 && mfs_mono_ns() < until);
	assert_true(st.bad > 0);
	assert_int_equal(t->n_hints, 0);
}

static void test_big_records_and_trash__are_not_cached(void **state)
{
	struct two *t = *state;
	struct node n = test_node(t->e[0], MFS_ROOT_INO, "big", 0100644), set = NODE_INIT;
	struct change c = { 0 }, gone = { 0 };
	char path[] = "big";

	n.inline_data.data = calloc(1, 9000);
	n.inline_data.size = n.attr.size = 9000;
	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	TEST_OK(engine_apply(t->e[0], NULL, &c));
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(gets(t->e[0], n.attr.ino), 1);
	set.trash_path = path;
	set.trash_time = 1;
	change_write(&gone, WRITE_TRASH, n.attr.ino)->node = &set;
	TEST_OK(engine_apply(t->e[0], NULL, &gone));
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(gets(t->e[0], n.attr.ino), 1);
	node_release(&n);
}

static void test_epoch__begins_with_the_first_and_is_joined_by_others(void **state)
{
	struct two *t = *state;
	struct session_record s = { .id = 777, .host = (char *)(uintptr_t) "h", .mountpoint = (char *)(uintptr_t) "/m", .pid = 1 };
	struct redis_stats a, b;
	struct change c = { 0 };
	struct engine *inner, *third;

	redis_engine_stats(t->e[0], &a);
	redis_engine_stats(t->e[1], &b);
	assert_true(b.epoch > a.epoch); /* no session was open */
	change_write(&c, WRITE_SESSION_PUT, 0)->session = &s;
	TEST_OK(engine_apply(t->e[0], NULL, &c));
	TEST_OK(mem_engine_new(t->mem, &inner));
	third = redis_server_engine(&server, inner, "test-joined");
	redis_engine_stats(third, &a);
	assert_int_equal(a.epoch, b.epoch);
	engine_free(third);
}

/* Every key has a time at which Redis forgets it by itself. */
static void test_keys__have_a_time_to_live(void **state)
{
	struct two *t = *state;
	mfs_ino_t ino = test_make(t->e[0], MFS_ROOT_INO, "f", 0100644);
	redisContext *c = redis_server_client(&server);
	redisReply *keys;

	SOON(gets(t->e[0], ino));
	SOON(lists(t->e[0], MFS_ROOT_INO, 1));
	SOON(finds(t->e[0], MFS_ROOT_INO, "nothing", 0));
	keys = redisCommand(c, "KEYS *");
	assert_true(keys && keys->type == REDIS_REPLY_ARRAY && keys->elements >= 3);
	for (size_t i = 0; i < keys->elements; i++) {
		redisReply *r = redisCommand(c, "PTTL %b", keys->element[i]->str, keys->element[i]->len);

		assert_true(r && r->type == REDIS_REPLY_INTEGER && r->integer != -1 && r->integer <= 3600000);
		freeReplyObject(r);
	}
	freeReplyObject(keys);
	redisFree(c);
}

/* --- where there is no Redis that could be used --- */

static void expect_no_use(const char *uri, const char *why)
{
	const struct redis_options opt = { .uri = uri, .volume = "v" };
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	int64_t until = mfs_mono_ns() + 10 * MFS_NSEC_PER_SEC;
	struct mem_shared *mem;
	struct engine *inner, *e;
	struct redis_stats st;
	char *reason = NULL;

	TEST_OK(mem_shared_new(&mem));
	TEST_OK(mem_engine_new(mem, &inner));
	TEST_OK(redis_engine_new(inner, &opt, &e, &reason));
	TEST_OK(engine_volume_put(e, NULL, &v));
	do {
		usleep(1000);
		redis_engine_stats(e, &st);
	} while (!st.why[0] && mfs_mono_ns() < until);
	assert_false(st.up);
	if (!strstr(st.why, why))
		fail_msg("\"%s\" does not say \"%s\"", st.why, why);
	assert_null(strstr(st.why, "wrong-word"));
	assert_true(test_make(e, MFS_ROOT_INO, "f", 0100644) == test_find(e, MFS_ROOT_INO, "f"));
	engine_free(e);
	mem_shared_free(mem);
}

static void test_no_use__of_one_that_refuses_or_is_not_there(void **state)
{
	char uri[256];

	(void)state;
	expect_no_use("unix:/nonexistent/socket", "cannot connect");
	expect_no_use("redis://127.0.0.1:1", "cannot connect");
	snprintf(uri, sizeof(uri), "unix:%s", server.socket);
	expect_no_use(uri, "NOAUTH");
	snprintf(uri, sizeof(uri), "unix:%s?password=wrong-word", server.socket);
	expect_no_use(uri, "AUTH is refused: WRONGPASS");
	snprintf(uri, sizeof(uri), "unix:%s?password=wrong-word&user=somebody", server.socket);
	expect_no_use(uri, "AUTH is refused: WRONGPASS");
	snprintf(uri, sizeof(uri), "%s&db=9999", server.uri);
	expect_no_use(uri, "SELECT is refused");
}

/* An ACL user, another database. */
static void test_use__as_an_acl_user(void **state)
{
	struct mem_shared *mem;
	struct engine *inner, *e = NULL;
	redisContext *c = redis_server_client(&server);
	redisReply *r = redisCommand(c, "ACL SETUSER massfs on >w%%20rd ~massfs:* &massfs:* +evalsha +eval +info +select +subscribe "
					"+time +get +set +getrange +hget +hset +hlen +unlink +pexpire +publish");
	struct redis_options opt = { .volume = "acl" };
	struct redis_stats st;
	char uri[256], *reason = NULL;

	(void)state;
	assert_true(r && r->type == REDIS_REPLY_STATUS);
	freeReplyObject(r);
	redisFree(c);
	snprintf(uri, sizeof(uri), "unix:%s?user=massfs&password=w%%2520rd&db=3", server.socket);
	opt.uri = uri;
	TEST_OK(mem_shared_new(&mem));
	TEST_OK(mem_engine_new(mem, &inner));
	TEST_OK(redis_engine_new(inner, &opt, &e, &reason));
	redis_server_wait_up(e, true);
	assert_int_equal(engine_get(e, NULL, 5, &(struct node)NODE_INIT), -ESTALE);
	redis_engine_stats(e, &st);
	assert_int_equal(st.failures, 0);
	assert_int_equal(st.misses, 1);
	engine_free(e);
	mem_shared_free(mem);
}

int main(void)
{
	static const struct engine_kind kind = { .name = "redis+mem",
						 .open = open_redis_mem,
						 .release = release_redis_mem,
						 .persists = true,
						 .two_instances = true,
						 .share = 10 };
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest own[] = {
		T(test_hit__needs_no_inner_call_and_is_shared),
		T(test_search__is_kept_until_its_tag_is_given_or_a_hit_changes),
		T(test_search__of_one_of_very_many_tags),
		T(test_change__is_seen_at_once_by_both),
		T(test_hint__comes_without_the_authority),
		T(test_fresh__is_the_index_and_what_follows_is_no_older),
		T(test_hint__that_is_not_sealed_is_not_heard),
		T(test_big_records_and_trash__are_not_cached),
		T(test_epoch__begins_with_the_first_and_is_joined_by_others),
		T(test_keys__have_a_time_to_live),
		cmocka_unit_test(test_no_use__of_one_that_refuses_or_is_not_there),
		cmocka_unit_test(test_use__as_an_acl_user),
	};
	int failed;

	redis_server_start(&server);
	failed = cmocka_run_group_tests_name("redis", own, NULL, NULL);
	failed += engine_suite_run(&kind);
	redis_server_stop(&server);
	return failed != 0;
}
