/*
 * The index log and rebuild, without a mount: what is rebuilt is what was logged, every prefix of a log that was written
 * beside racing changes is a state that fits together, and younger objects find their files.
 */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/dump.h"
#include "fs/fsck.h"
#include "fs/index_log_internal.h"
#include "fs/rebuild.h"
#include "fs/reconcile.h"
#include "tests/lib/volume_world.h"

struct text {
	char *data;
	size_t len, cap;
};

static int to_text(void *arg, const void *buf, size_t len)
{
	struct text *t = arg;

	if (t->len + len >= t->cap) {
		t->cap = 2 * (t->len + len) + 64;
		t->data = realloc(t->data, t->cap);
		assert_non_null(t->data);
	}
	memcpy(t->data + t->len, buf, len);
	t->len += len;
	t->data[t->len] = '\0';
	return 0;
}

/* All records but those of which a rebuild makes new ones. */
static struct text dump_of(struct world *w)
{
	struct text all = { 0 }, kept = { 0 };
	struct record_counts counts;

	assert_int_equal(dump_index(w->v->engine, &w->op, to_text, &all, NULL, NULL, &counts), 0);
	for (char *line = all.data, *next; *line; line = next) {
		next = strchr(line, '\n') + 1;
		if (strncmp(line, "{\"r\":\"session\"", 14) != 0 &&
		    strncmp(line, "{\"r\":\"volume\"", 13) != 0 && strncmp(line, "{\"r\":\"end\"", 10) != 0)
			to_text(&kept, line, (size_t)(next - line));
	}
	free(all.data);
	return kept;
}

static struct world *logged_world(int64_t interval_ns)
{
	struct world *w = world_new(WORLD_LOCAL);

	w->cfg.index_log_ns = interval_ns;
	world_reopen(w);
	assert_non_null(w->v->log);
	return w;
}

static void close_world(struct world *w)
{
	volume_close(w->v);
	w->v = NULL;
}

/* As kill -9: neither the session's end nor the log's. */
static void crash_world(struct world *w)
{
	uint64_t session = w->v->engine->session;

	w->v->engine->session = 0; /* volume_close() writes none */
	/* The last part must not be written: the store is gone for it. */
	assert_true(session != 0);
	index_log_abandon(w->v->log);
	w->v->log = NULL;
	volume_close(w->v);
	w->v = NULL;
}

static void lose_index(struct world *w)
{
	static const char *const parts[] = { "", "-wal", "-shm" };

	for (size_t i = 0; i < MFS_ARRAY_LEN(parts); i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/.massfs/index.db%s", w->dir, parts[i]);
		(void)unlink(path);
	}
}

static void found_nothing(void *arg, const char *what, const char *path)
{
	(void)arg;
	(void)what;
	(void)path;
}

static void rebuild(struct world *w, bool commit, struct rebuild_result *ret)
{
	struct rebuild_options opt = { .found = found_nothing };
	struct volume_stage *s = NULL;
	char *reason = NULL, *kept = NULL;
	int r = volume_stage_begin(&w->cfg, &s, &reason);

	if (r == 0)
		r = rebuild_run(s, &w->op, &opt, ret, &reason);
	if (r == 0 && commit)
		r = index_log_break(s->store, &w->op);
	if (r == 0 && commit)
		r = volume_stage_commit(s, &kept, &reason);
	if (r < 0)
		fail_msg("rebuild: %s", reason ? reason : strerror(-r));
	volume_stage_free(s);
	free(kept);
	free(reason);
}

static void open_again(struct world *w)
{
	char *reason = NULL;

	if (volume_open(&w->cfg, VOLUME_MOUNT, NULL, &w->v, &reason) < 0)
		fail_msg("volume_open: %s", reason);
	(void)world_settle(w);
}

static void count_problem(void *arg, const struct fsck_problem *p)
{
	(void)arg;
	print_error("fsck: %s: %s %s\n", p->what, p->where, p->detail);
}

static void fsck_is_clean(struct world *w)
{
	struct fsck_options opt = { .problem = count_problem };
	struct fsck_result res;

	assert_int_equal(fsck_run(w->v, &w->op, &opt, &res), 0);
	assert_int_equal(res.problems, 0);
}

static void fill(struct world *w)
{
	world_dir(w, "d");
	world_dir(w, "d/e");
	world_write(w, "a", "content of a");
	world_write(w, "d/b", "one");
	world_write(w, "d/b", "two");
	world_write(w, "d/e/c", "ccc");
	world_link(w, "a", "d/e/link");
	world_write(w, "gone", "removed");
	world_unlink(w, "gone");
	world_rename(w, "d/e/c", "c");
	world_truncate(w, "d/b", 2);
}

static void test_complete_log(void **state)
{
	struct world *w = logged_world(20 * 1000000);
	struct rebuild_result res;
	struct text before, after;

	(void)state;
	fill(w);
	(void)world_force(w);
	before = dump_of(w);
	close_world(w);
	lose_index(w);
	rebuild(w, true, &res);
	assert_true(res.has_log && res.clean);
	assert_int_equal(res.damaged, 0);
	assert_int_equal(res.added + res.replaced + res.renamed + res.lost_files + res.lost_past, 0);
	open_again(w);
	after = dump_of(w);
	assert_string_equal(before.data, after.data);
	fsck_is_clean(w);
	free(before.data);
	free(after.data);
	world_free(w);
}

/* A session of a tool is in the log as well, and the mount behind it goes on with the same chain. */
static void test_chain_over_sessions(void **state)
{
	struct world *w = logged_world(20 * 1000000);
	struct index_log_status a, b;
	struct rebuild_result res;
	char *reason = NULL;

	(void)state;
	world_write(w, "a", "1");
	close_world(w);
	assert_int_equal(volume_open(&w->cfg, VOLUME_TOOL, NULL, &w->v, &reason), 0);
	world_write(w, "b", "2");
	index_log_status(w->v->log, &a);
	close_world(w);
	open_again(w);
	world_write(w, "c", "3");
	usleep(200000);
	index_log_status(w->v->log, &b);
	assert_true(b.working);
	assert_int_equal(b.epoch, 1);
	assert_int_equal(b.error, 0);
	close_world(w);
	lose_index(w);
	rebuild(w, true, &res);
	assert_true(res.clean);
	open_again(w);
	assert_string_equal(world_read(w, "b"), "2");
	assert_string_equal(world_read(w, "c"), "3");
	world_free(w);
}

static void test_younger_objects(void **state)
{
	struct world *w = logged_world(INT64_C(3600) * 1000000000);
	struct rebuild_result res;
	mfs_ino_t a;

	(void)state;
	fill(w);
	(void)world_force(w);
	close_world(w); /* the log is complete here */
	open_again(w);
	usleep(300000); /* its first look is over */
	a = world_write(w, "a", "younger content");
	world_dir(w, "new");
	world_write(w, "new/file", "made after the log's end");
	world_rename(w, "c", "c-moved");
	(void)world_force(w);
	crash_world(w);
	lose_index(w);
	rebuild(w, true, &res);
	assert_true(res.has_log && !res.damaged);
	assert_int_equal(res.added, 1);
	assert_int_equal(res.replaced, 1);
	assert_int_equal(res.renamed, 1);
	open_again(w);
	assert_string_equal(world_read(w, "a"), "younger content");
	assert_int_equal(world_ino(w, "a"), a);
	assert_string_equal(world_read(w, "d/e/link"), "younger content");
	assert_string_equal(world_read(w, "new/file"), "made after the log's end");
	assert_string_equal(world_read(w, "c-moved"), "ccc");
	assert_int_equal(world_ino(w, "c"), 0);
	fsck_is_clean(w);
	world_free(w);
}

/* After a session without an end the chain is not gone on with. */
static void test_new_epoch(void **state)
{
	struct world *w = logged_world(20 * 1000000);
	struct index_log_status s = { 0 };
	struct rebuild_result res;

	(void)state;
	world_write(w, "a", "1");
	usleep(100000);
	world_write(w, "b", "2");
	crash_world(w);
	open_again(w);
	for (int i = 0; i < 500 && !(s.working && s.epoch == 2); i++) {
		usleep(10000);
		index_log_status(w->v->log, &s);
	}
	assert_int_equal(s.epoch, 2);
	assert_true(s.working);
	close_world(w);
	lose_index(w);
	rebuild(w, true, &res);
	assert_true(res.clean);
	assert_int_equal(res.epoch, 2);
	open_again(w);
	assert_string_equal(world_read(w, "b"), "2");
	world_free(w);
}

/* --- racing changes --- */

#define WRITERS 4
#define NAMES	12

struct race {
	struct world *w;
	unsigned int seed;
	unsigned int rounds;
};

static void *change_names(void *arg)
{
	struct race *r = arg;
	struct namespace *ns = r->w->v->ns;
	struct op_ctx op = { 0 };

	for (unsigned int i = 0; i < r->rounds; i++) {
		char a[8], b[8];
		struct mfs_attr attr;
		struct rename_result moved = { 0 };
		struct entry e = { 0 };

		snprintf(a, sizeof(a), "n%d", rand_r(&r->seed) % NAMES);
		snprintf(b, sizeof(b), "n%d", rand_r(&r->seed) % NAMES);
		switch (rand_r(&r->seed) % 5) {
		case 0:
		case 1: {
			struct make m = { .parent = MFS_ROOT_INO,
					  .name = a,
					  .name_len = strlen(a),
					  .mode = rand_r(&r->seed) % 4 ? 0100644 : 040755 };
			struct node n = NODE_INIT;

			(void)!namespace_make(ns, &op, &m, &n);
			node_release(&n);
			break;
		}
		case 2:
			(void)!namespace_rename(ns, &op, MFS_ROOT_INO, a, strlen(a), MFS_ROOT_INO, b,
						strlen(b), 0, &moved);
			break;
		case 3:
			if (namespace_unlink(ns, &op, MFS_ROOT_INO, a, strlen(a), &attr) == -EISDIR)
				(void)!namespace_rmdir(ns, &op, MFS_ROOT_INO, a, strlen(a), &attr);
			break;
		default:
			if (namespace_resolve(ns, &op, a, strlen(a), &e) == 0) {
				(void)!namespace_link(ns, &op, e.node.attr.ino, MFS_ROOT_INO, b, strlen(b),
						      &attr);
				entry_release(&e);
			}
		}
	}
	return NULL;
}

static void race(struct world *w, unsigned int rounds)
{
	pthread_t threads[WRITERS];
	struct race r[WRITERS];

	for (int i = 0; i < WRITERS; i++) {
		r[i] = (struct race){ .w = w, .seed = (unsigned int)i + 1, .rounds = rounds };
		assert_int_equal(pthread_create(&threads[i], NULL, change_names, &r[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
}

/* Every object of the log away, from the last one on, until nothing is left that can be used. */
static void test_every_prefix(void **state)
{
	const char *wanted = getenv("MASSFS_RACE_ROUNDS");
	unsigned int rounds = wanted ? (unsigned int)strtoul(wanted, NULL, 10) : 400;
	struct world *w = logged_world(2 * 1000000);
	struct rebuild_result res;
	struct text before, after;
	unsigned int used = 0;
	uint64_t last = 0;

	(void)state;
	race(w, MFS_MIN(rounds, 2000u));
	(void)world_force(w);
	before = dump_of(w);
	close_world(w);
	lose_index(w);
	rebuild(w, true, &res);
	assert_true(res.clean && !res.damaged);
	w->cfg.index_log_ns = 0;
	open_again(w);
	after = dump_of(w);
	assert_string_equal(before.data, after.data);
	free(before.data);
	free(after.data);

	for (;;) {
		struct log_objects all;
		size_t i;

		assert_int_equal(log_objects_list(w->v->store, &w->op, &all), 0);
		/* The newest changes of the epoch of the race. */
		for (i = all.n; i-- > 0;)
			if (all.v[i].epoch == 1 && !all.v[i].is_snapshot)
				break;
		if (i == SIZE_MAX || used == 40) {
			log_objects_release(&all);
			break;
		}
		assert_int_equal(log_object_delete(w->v->store, &w->op, &all.v[i]), 0);
		log_objects_release(&all);
		close_world(w);
		rebuild(w, false, &res);
		if (res.has_log) {
			used++;
			assert_true(last == 0 || res.number < last);
			last = res.number;
		}
		open_again(w);
		if (!res.has_log)
			break;
	}
	assert_true(used > 0);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_complete_log),	cmocka_unit_test(test_chain_over_sessions),
		cmocka_unit_test(test_younger_objects), cmocka_unit_test(test_new_epoch),
		cmocka_unit_test(test_every_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
