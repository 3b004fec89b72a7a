/*
 * Contract tests of engines: exactly once (rule M2), faults, what a reopened index holds, its own check.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/engine_suite.h"

#define REG 0100644
#define DIR 0040755

/*
 * Put the fault layer over f->e. *ret_other is an engine on the same index for another session: the second instance,
 * or the engine below the layer.
 */
static struct engine *wrap(struct engine_fixture *f, const struct fault_plan *plan, struct engine **ret_other)
{
	struct engine *inner = f->e;

	TEST_OK(fault_engine_new(inner, plan, &f->e));
	if (f->two == inner)
		f->two = f->e;
	inner->session = 103;
	*ret_other = f->two == f->e ? inner : f->two;
	return inner;
}

/* What another session does between the lost reply and the second try. */
struct meddler {
	struct engine *e;
	struct change *c;
	void (*more)(struct meddler *m);
	struct engine *inner;
	uint64_t first;
	mfs_ino_t ino;
	unsigned int ring;
};

static void meddle(void *arg)
{
	struct meddler *m = arg;

	if (m->c)
		TEST_OK(engine_apply(m->e, NULL, m->c));
	if (m->more)
		m->more(m);
}

/* Apply c with its reply lost and m's change in between; gives what the dispatch gave. */
static int apply_with_lost_reply(struct engine_fixture *f, struct change *c, struct meddler *m)
{
	const struct fault_plan plan = { .nth = 1, .drop_reply = true, .before_readback = meddle, .arg = m };
	int r;

	m->inner = wrap(f, &plan, &m->e);
	r = engine_apply(f->e, NULL, c);
	assert_int_equal(fault_engine_hits(f->e), 1);
	return r;
}

static void test_once__edit(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t ino = test_make(f->e, MFS_ROOT_INO, "f", REG);
	struct mfs_attr before = test_attr(f->e, ino), attr;
	struct change c = { 0 }, other = { 0 };
	struct meddler m = { .c = &other };
	struct node set = NODE_INIT;
	struct write *w;

	w = change_write(&c, WRITE_EDIT, ino);
	w->mask = EDIT_BUMP_DATA;
	w->nlink_delta = 1;
	w->expect = (struct expect){ .flags = EXPECT_VER, .ver = before.ver };
	w->ret_attr = &attr;
	set.attr.mode = 0100001;
	w = change_write(&other, WRITE_EDIT, ino);
	w->node = &set;
	w->mask = EDIT_MODE;
	/* The expectation no longer holds at the second try: only memory can say that the change succeeded. */
	TEST_OK(apply_with_lost_reply(f, &c, &m));
	assert_int_equal(attr.nlink, before.nlink + 1);
	assert_int_equal(attr.ver, before.ver + 2);
	assert_int_equal(attr.data, before.data + 1);
	assert_int_equal(attr.mode, 0100001);
	assert_int_equal(test_attr(f->e, ino).ver, before.ver + 2);
	assert_int_equal(fault_engine_calls(f->e), 2);
}

/* A create whose record another session at once renames, trashes or deletes. */
static void once_insert(void **state, enum write_kind kind)
{
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG), to = NODE_INIT, got;
	struct change c = { 0 }, other = { 0 };
	struct meddler m = { .c = &other };
	struct mfs_attr attr, root;
	struct write *w;
	uint64_t found;
	int r;

	to.parent = MFS_ROOT_INO;
	to.name = test_name("elsewhere");
	to.trash_path = (char *)(uintptr_t) "n";
	w = change_write(&c, WRITE_INSERT, n.attr.ino);
	w->node = &n;
	w->ret_attr = &attr;
	change_touch(&c, MFS_ROOT_INO, 5, 1, 0)->ret_attr = &root;
	w = change_write(&other, kind, n.attr.ino);
	w->node = kind == WRITE_DELETE ? NULL : &to;
	TEST_OK(apply_with_lost_reply(f, &c, &m));
	assert_int_equal(attr.ino, n.attr.ino);
	assert_int_equal(root.children, 1);
	assert_int_equal(test_attr(f->e, MFS_ROOT_INO).children, 1);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "n"), 0);
	found = test_find(f->e, MFS_ROOT_INO, "elsewhere");
	assert_int_equal(found, kind == WRITE_RENAME ? n.attr.ino : 0);
	r = engine_get(f->e, NULL, n.attr.ino, &got);
	assert_int_equal(r, kind == WRITE_DELETE ? -ESTALE : 0);
	if (r == 0) {
		assert_int_equal(!!(got.attr.flags & ATTR_IN_TRASH), kind == WRITE_TRASH);
		node_release(&got);
	}
}

static void test_once__insert_and_rename_by_another(void **state)
{
	once_insert(state, WRITE_RENAME);
}

static void test_once__insert_and_unlink_by_another(void **state)
{
	once_insert(state, WRITE_TRASH);
}

static void test_once__insert_and_delete_by_another(void **state)
{
	once_insert(state, WRITE_DELETE);
}

/* The name is free after the change, and another session takes it at once. */
static void once_name_reused(void **state, enum write_kind kind)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct node n = test_node(f->e, MFS_ROOT_INO, "a", DIR), to = NODE_INIT;
	struct change c = { 0 }, other = { 0 };
	struct meddler m = { .c = &other };
	struct mfs_name name = test_name("a");
	struct write *w;

	to.parent = MFS_ROOT_INO;
	to.name = test_name("b");
	to.trash_path = (char *)(uintptr_t) "a";
	w = change_write(&c, kind, a);
	w->node = kind == WRITE_DELETE ? NULL : &to;
	w->expect = (struct expect){ .flags = EXPECT_NAME, .parent = MFS_ROOT_INO, .name = &name };
	change_write(&other, WRITE_INSERT, n.attr.ino)->node = &n;
	TEST_OK(apply_with_lost_reply(f, &c, &m));
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "a"), n.attr.ino);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "b"), kind == WRITE_RENAME ? a : 0);
}

static void test_once__rename_and_create_by_another(void **state)
{
	once_name_reused(state, WRITE_RENAME);
}

static void test_once__unlink_and_create_by_another(void **state)
{
	once_name_reused(state, WRITE_TRASH);
}

static void test_once__delete_and_create_by_another(void **state)
{
	once_name_reused(state, WRITE_DELETE);
}

static void test_once__untrash_and_unlink_by_another(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { 0 }, other = { 0 };
	struct meddler m = { .c = &other };
	struct node to = NODE_INIT, got;

	to.parent = MFS_ROOT_INO;
	to.name = test_name("back");
	to.trash_path = (char *)(uintptr_t) "a";
	change_write(&other, WRITE_TRASH, a)->node = &to;
	TEST_OK(engine_apply(f->e, NULL, &other));
	other.id = (struct op_id){ 0 }; /* applied once more, as another change */
	change_write(&c, WRITE_UNTRASH, a)->node = &to;
	TEST_OK(apply_with_lost_reply(f, &c, &m));
	test_get(f->e, a, &got);
	assert_true(got.attr.flags & ATTR_IN_TRASH);
	assert_int_equal(got.attr.ver, 4);
	node_release(&got);
}

static void test_once__link_and_unlink_by_another(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct alias alias = { .id = test_number(f->e), .parent = MFS_ROOT_INO, .target = a, .name = test_name("l") };
	struct change c = { 0 }, other = { 0 };
	struct meddler m = { .c = &other };

	change_write(&c, WRITE_ALIAS_INSERT, alias.id)->alias = &alias;
	change_write(&c, WRITE_EDIT, a)->nlink_delta = 1;
	change_write(&other, WRITE_ALIAS_DELETE, alias.id);
	change_write(&other, WRITE_EDIT, a)->nlink_delta = -1;
	TEST_OK(apply_with_lost_reply(f, &c, &m));
	assert_int_equal(test_attr(f->e, a).nlink, 1);
	assert_int_equal(test_find(f->e, MFS_ROOT_INO, "l"), 0);
}

static void test_once__a_failed_change_is_not_remembered(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { 0 }, other = { 0 };
	struct meddler m = { .c = &other };
	struct write *w = change_write(&c, WRITE_EDIT, a);

	/* The first try failed, its reply was lost; meanwhile what it expects has come true. */
	w->expect = (struct expect){ .flags = EXPECT_VER, .ver = 2 };
	change_write(&other, WRITE_EDIT, a);
	TEST_OK(apply_with_lost_reply(f, &c, &m));
	assert_int_equal(test_attr(f->e, a).ver, 3);
}

/* As many changes of the same session as the memory is long, and the one more that overwrites it. */
static void fill_memory(struct meddler *m)
{
	for (unsigned int i = 1; i <= 70000; i++) {
		struct change c = { .id = { 101, m->first + i } };

		change_touch(&c, MFS_ROOT_INO, 1, 0, 0);
		TEST_OK(engine_apply(m->inner, NULL, &c));
		if (i >= 4096 && i % 4096 == 0 && i >= 65536)
			break;
	}
}

/* The same where each record remembers its own last changes: as many edits of it as its ring is long. */
static void fill_ring(struct meddler *m)
{
	for (unsigned int i = 1; i <= m->ring; i++) {
		struct change c = { .id = { 101, m->first + i } };

		change_write(&c, WRITE_EDIT, m->ino);
		TEST_OK(engine_apply(m->inner, NULL, &c));
	}
}

static void test_once__too_long_ago_is_eio_and_no_second_try(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { 0 };
	struct meddler m = { .more = fill_memory, .first = 1000, .ino = a, .ring = f->kind->record_ring };
	uint32_t nlink = test_attr(f->e, a).nlink;

	if (m.ring)
		m.more = fill_ring;
	c.id = (struct op_id){ 101, 1000 };
	change_write(&c, WRITE_EDIT, a)->nlink_delta = 1;
	assert_int_equal(apply_with_lost_reply(f, &c, &m), -EIO);
	assert_int_equal(test_attr(f->e, a).nlink, nlink + 1);
}

static void test_once__without_a_session_the_outcome_is_eio(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { 0 };
	struct meddler m = { 0 };

	f->e->session = 0;
	change_write(&c, WRITE_EDIT, a)->nlink_delta = 1;
	assert_int_equal(apply_with_lost_reply(f, &c, &m), -EIO);
	assert_int_equal(fault_engine_calls(f->e), 1);
	assert_int_equal(test_attr(f->e, a).nlink, 2);
}

static void test_once__every_change_has_its_own_number(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { 0 };
	uint64_t number;

	change_write(&c, WRITE_EDIT, a)->nlink_delta = 1;
	TEST_OK(engine_apply(f->e, NULL, &c));
	number = c.id.number;
	assert_int_equal(c.id.session, 101);
	c.id = (struct op_id){ 0 };
	TEST_OK(engine_apply(f->e, NULL, &c));
	assert_true(c.id.number > number);
	/* One that failed gives its number back. */
	c.id = (struct op_id){ 0 };
	c.writes[0].ino = 987654;
	assert_int_equal(engine_apply(f->e, NULL, &c), -ESTALE);
	assert_int_equal(c.id.number, 0);
}

/* Steps of a small life, each one change; -errno of the first that fails, how many were done. */
static int live(struct engine *e, mfs_ino_t dir, const uint64_t ids[4], unsigned int *ret_done)
{
	struct node n = NODE_INIT, to = NODE_INIT;
	struct alias alias = { .id = ids[2], .parent = dir, .target = ids[0], .name = test_name("link") };
	struct job_record job = { .kind = JOB_KEY, .key = (char *)(uintptr_t) "k" };
	struct change c = { 0 };
	int r = 0;

	n.attr.mode = REG;
	n.attr.ver = n.attr.nlink = 1;
	n.parent = to.parent = dir;
	to.trash_path = (char *)(uintptr_t) "a";
	for (*ret_done = 0; r == 0 && *ret_done < 5; *ret_done += r == 0) {
		c = (struct change){ 0 };
		switch (*ret_done) {
		case 0:
		case 1:
			n.attr.ino = n.pos = ids[*ret_done];
			n.name = test_name(*ret_done ? "b" : "a");
			change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
			break;
		case 2:
			change_write(&c, WRITE_ALIAS_INSERT, ids[2])->alias = &alias;
			change_write(&c, WRITE_EDIT, ids[0])->nlink_delta = 1;
			break;
		case 3: /* b over a, which another name keeps alive */
			to.name = alias.name;
			to.pos = alias.id;
			change_write(&c, WRITE_ALIAS_DELETE, ids[2]);
			change_write(&c, WRITE_RENAME, ids[0])->node = &to;
			n.name = test_name("a");
			change_write(&c, WRITE_RENAME, ids[1])->node = &n;
			break;
		case 4:
			change_write(&c, WRITE_TRASH, ids[1])->node = &to;
			change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
			break;
		}
		change_touch(&c, dir, 1, 1, TOUCH_MUST_EXIST);
		r = engine_apply(e, NULL, &c);
	}
	return r;
}

static void test_fault__the_nth_call_fails_and_leaves_all_or_nothing(void **state)
{
	struct engine_fixture *f = *state;
	unsigned int done = 0, children;

	for (unsigned int n = 1; done < 5; n++) {
		const struct fault_plan plan = { .nth = n, .err = ENOSPC };
		mfs_ino_t dir = test_make(f->e, MFS_ROOT_INO, (char[]){ 'd', (char)('0' + n), 0 }, DIR);
		uint64_t ids[4] = { test_number(f->e), test_number(f->e), test_number(f->e) };
		struct engine *other;
		int r;

		wrap(f, &plan, &other);
		r = live(f->e, dir, ids, &done);
		assert_int_equal(r, done < 5 ? -ENOSPC : 0);
		assert_int_equal(fault_engine_hits(f->e), done < 5);
		children = test_attr(other, dir).children;
		assert_int_equal(children, done);
		assert_int_equal(test_find(other, dir, "a"), done == 0 || done == 5 ? 0 : done == 4 ? ids[1] : ids[0]);
		assert_int_equal(test_find(other, dir, "b"), done == 2 || done == 3 ? ids[1] : 0);
		assert_int_equal(test_find(other, dir, "link"), done < 3 ? 0 : done == 3 ? ids[2] : ids[0]);
		/* A layer on the next: let this one pass everything from now on. */
		assert_true(n < 10);
	}
}

static void test_fault__every_call_passes_the_error_on(void **state)
{
	struct engine_fixture *f = *state;
	const struct fault_plan plan = { .nth = 1, .err = EROFS };
	struct engine *e, *other;
	struct node n;
	struct entry entry;
	struct mfs_name name = test_name("x");
	struct node_list nl = NODE_LIST_INIT;
	struct version_list vl = { 0 };
	struct dropped_list dl = { 0 };
	struct job_list jl = { 0 };
	struct session_list sl = { 0 };
	struct volume_record v = { 0 };
	struct query q = { .limit = 1 };
	struct change c = { 0 };
	uint64_t u, u2;

	change_touch(&c, MFS_ROOT_INO, 1, 0, 0);
	for (int i = 0; i < 19; i++) {
		int r = 0;

		wrap(f, &plan, &other);
		e = f->e;
		switch (i) {
		case 0: r = engine_get(e, NULL, 1, &n); break;
		case 1: r = engine_lookup(e, NULL, 1, &name, &entry); break;
		case 2: r = engine_list(e, NULL, 1, 0, 1, &nl); break;
		case 3: r = engine_aliases(e, NULL, 1, NULL, 0); break;
		case 4: r = engine_query(e, NULL, &q, &nl); break;
		case 5: r = engine_apply(e, NULL, &c); break;
		case 6: r = engine_sync(e, NULL); break;
		case 7: r = engine_reserve(e, NULL, 1, &u); break;
		case 8: r = engine_versions_by_path(e, NULL, "p", &vl); break;
		case 9: r = engine_versions_by_ino(e, NULL, 1, &vl); break;
		case 10: r = engine_versions_expired(e, NULL, 1, 1, &vl); break;
		case 11: r = engine_versions_all(e, NULL, 1, 1, 1, &vl); break;
		case 12: r = engine_trash_by_path(e, NULL, "p", &nl); break;
		case 13: r = engine_trash_before(e, NULL, 1, 1, &nl); break;
		case 14: r = engine_dropped(e, NULL, 1, 1, 1, &dl); break;
		case 15: r = engine_jobs(e, NULL, 1, 1, &jl); break;
		case 16: r = engine_jobs_count(e, NULL, &u); break;
		case 17: r = engine_sessions(e, NULL, &sl); break;
		case 18: r = engine_count(e, NULL, &u, &u2); break;
		}
		assert_int_equal(r, -EROFS);
		assert_int_equal(nl.n + vl.n + dl.n + jl.n + sl.n, 0);
	}
	wrap(f, &plan, &other);
	assert_int_equal(engine_volume_get(f->e, NULL, &v), -EROFS);
	wrap(f, &plan, &other);
	assert_int_equal(engine_volume_put(f->e, NULL, &v), -EROFS);
}

static void test_sync__makes_what_was_applied_last(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { .durable = true };

	TEST_OK(engine_sync(f->e, &f->op));
	TEST_OK(engine_sync(f->two, &f->op));
	change_write(&c, WRITE_EDIT, a)->nlink_delta = 1;
	TEST_OK(engine_apply(f->e, &f->op, &c));
	engine_fixture_reopen(f);
	assert_int_equal(test_attr(f->e, a).nlink, 2);
	TEST_OK(engine_sync(f->e, &f->op));
}

static void report(void *arg, const char *text)
{
	print_message("%s\n", text);
	++*(int *)arg;
}

static void test_check__finds_nothing_in_a_sound_index(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t dir = test_make(f->e, MFS_ROOT_INO, "d", DIR);
	uint64_t ids[4] = { test_number(f->e), test_number(f->e), test_number(f->e) };
	unsigned int done;
	int faults = 0;

	TEST_OK(live(f->e, dir, ids, &done));
	engine_fixture_reopen(f);
	TEST_OK(engine_check(f->e, NULL, report, &faults));
	assert_int_equal(faults, 0);
}

const struct engine_test engine_tests_once[] = {
	ENGINE_TEST(test_once__edit),
	ENGINE_TEST(test_once__insert_and_rename_by_another),
	ENGINE_TEST(test_once__insert_and_unlink_by_another),
	ENGINE_TEST(test_once__insert_and_delete_by_another),
	ENGINE_TEST(test_once__rename_and_create_by_another),
	ENGINE_TEST(test_once__unlink_and_create_by_another),
	ENGINE_TEST(test_once__delete_and_create_by_another),
	ENGINE_TEST(test_once__untrash_and_unlink_by_another),
	ENGINE_TEST(test_once__link_and_unlink_by_another),
	ENGINE_TEST(test_once__a_failed_change_is_not_remembered),
	ENGINE_TEST(test_once__too_long_ago_is_eio_and_no_second_try),
	ENGINE_TEST(test_once__without_a_session_the_outcome_is_eio),
	ENGINE_TEST(test_once__every_change_has_its_own_number),
	ENGINE_TEST(test_fault__the_nth_call_fails_and_leaves_all_or_nothing),
	ENGINE_TEST(test_fault__every_call_passes_the_error_on),
	ENGINE_TEST(test_sync__makes_what_was_applied_last),
	ENGINE_TEST(test_check__finds_nothing_in_a_sound_index),
	ENGINE_TESTS_END,
};
