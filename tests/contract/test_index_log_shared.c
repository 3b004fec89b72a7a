/*
 * The index log that several mounts write in turn: mem engines of one index, a store in a folder, no daemon. Both believe to have
 * the lease all the time here, so they take over from each other as often as they can.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/dump.h"
#include "fs/index_log_internal.h"
#include "fs/rebuild.h"
#include "fs/volume_store.h"
#include "meta/log_engine.h"
#include "meta/mem_internal.h"
#include "meta/namespace.h"
#include "tests/lib/volume_world.h"

#define MOUNTS	2
#define NAMES	12
#define FAST_NS (2 * 1000000)

struct shared_world {
	struct world *w; /* its folder and store */
	struct mem_shared *shared;
	struct volume v[MOUNTS];
	struct engine *inner[MOUNTS];
	struct op_ctx op;
};

static void open_mount(struct shared_world *s, int i, int64_t interval_ns)
{
	struct volume_store_options vo = { 0 };
	struct namespace_options no = { .retention_ns = 3600 * MFS_NSEC_PER_SEC };
	struct volume *v = &s->v[i];
	char *reason = NULL;
	uint64_t number;

	*v = (struct volume){ .cfg = &s->w->cfg, .mode = VOLUME_MOUNT, .lock_fd = -1, .cluster = true, .next_op = 1 };
	v->dir = s->w->dir;
	if (volume_store_open(v->cfg, &vo, &v->store, &reason) < 0)
		fail_msg("%s", reason);
	assert_int_equal(mem_engine_new(s->shared, &s->inner[i]), 0);
	assert_int_equal(log_engine_follow(s->inner[i], &v->engine), 0);
	v->logged = v->engine;
	assert_int_equal(engine_reserve(v->engine, &s->op, 1, &number), 0);
	v->session = number;
	v->engine->session = number;
	assert_int_equal(namespace_new(v->engine, &no, &v->ns), 0);
	assert_int_equal(index_log_open(v, NULL, interval_ns, true, &v->log), 0);
}

/* crash: nothing of the log is written any more. */
static void close_mount(struct shared_world *s, int i, bool crash)
{
	struct volume *v = &s->v[i];

	if (crash)
		index_log_abandon(v->log);
	else
		index_log_close(v->log);
	namespace_free(v->ns);
	engine_free(v->engine);
	object_store_free(v->store);
	*v = (struct volume){ 0 };
}

static struct shared_world *shared_new(void)
{
	struct volume_record rec = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444" };
	struct shared_world *s = calloc(1, sizeof(*s));
	struct engine *e;

	assert_non_null(s);
	s->w = world_new(WORLD_LOCAL);
	volume_close(s->w->v);
	s->w->v = NULL;
	assert_int_equal(mem_shared_new(&s->shared), 0);
	assert_int_equal(mem_engine_new(s->shared, &e), 0);
	assert_int_equal(engine_volume_put(e, &s->op, &rec), 0);
	engine_free(e);
	return s;
}

static void shared_free(struct shared_world *s)
{
	char *reason = NULL;

	mem_shared_free(s->shared);
	s->w->cfg.index_log_ns = 0;
	if (volume_open(&s->w->cfg, VOLUME_TOOL, NULL, &s->w->v, &reason) < 0) /* as world_free() wants it */
		fail_msg("%s", reason);
	world_free(s->w);
	free(s);
}

struct text {
	char *data;
	size_t len;
};

static int to_text(void *arg, const void *buf, size_t len)
{
	struct text *t = arg;

	t->data = realloc(t->data, t->len + len + 1);
	assert_non_null(t->data);
	memcpy(t->data + t->len, buf, len);
	t->len += len;
	t->data[t->len] = '\0';
	return 0;
}

/* Files, removed ones, further names, what is beside them; not sessions and volume, of which a rebuild makes new ones. */
static char *dump_of(struct shared_world *s, struct engine *e)
{
	struct text all = { 0 }, kept = { 0 };
	struct record_counts counts;

	assert_int_equal(dump_index(e, &s->op, to_text, &all, NULL, NULL, &counts), 0);
	to_text(&kept, "", 0);
	for (char *line = all.data, *next; *line; line = next) {
		next = strchr(line, '\n') + 1;
		if (strncmp(line, "{\"r\":\"session\"", 14) != 0 && strncmp(line, "{\"r\":\"volume\"", 13) != 0 &&
		    strncmp(line, "{\"r\":\"end\"", 10) != 0)
			to_text(&kept, line, (size_t)(next - line));
	}
	free(all.data);
	return kept.data;
}

static void nothing(void *arg, const char *what, const char *path)
{
	(void)arg;
	(void)what;
	(void)path;
}

/* What the bucket gives: NULL if no log can be used. rebuild_run() itself refuses what does not fit together. */
static char *rebuilt(struct shared_world *s, struct rebuild_result *ret)
{
	struct rebuild_options opt = { .found = nothing };
	struct volume_stage *stage = NULL;
	char *reason = NULL, *text = NULL;
	int r = volume_stage_begin(&s->w->cfg, &stage, &reason);

	if (r == 0)
		r = rebuild_run(stage, &s->op, &opt, ret, &reason);
	if (r < 0)
		fail_msg("rebuild: %s", reason ? reason : strerror(-r));
	if (ret->has_log)
		text = dump_of(s, stage->engine);
	volume_stage_free(stage);
	free(reason);
	return text;
}

/* --- changes on all mounts --- */

struct race {
	struct namespace *ns;
	unsigned int seed, rounds;
};

static void *change_names(void *arg)
{
	struct race *r = arg;
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
			struct make m = { .parent = MFS_ROOT_INO, .name = a, .name_len = strlen(a), .mode = 0100644 };
			struct node n = NODE_INIT;

			if (rand_r(&r->seed) % 4 == 0)
				m.mode = 040755;
			(void)!namespace_make(r->ns, &op, &m, &n);
			node_release(&n);
			break;
		}
		case 2:
			(void)!namespace_rename(r->ns, &op, MFS_ROOT_INO, a, strlen(a), MFS_ROOT_INO, b, strlen(b), 0, &moved);
			break;
		case 3:
			if (namespace_unlink(r->ns, &op, MFS_ROOT_INO, a, strlen(a), &attr) == -EISDIR)
				(void)!namespace_rmdir(r->ns, &op, MFS_ROOT_INO, a, strlen(a), &attr);
			break;
		default:
			if (namespace_resolve(r->ns, &op, a, strlen(a), &e) == 0) {
				(void)!namespace_link(r->ns, &op, e.node.attr.ino, MFS_ROOT_INO, b, strlen(b), &attr);
				entry_release(&e);
			}
		}
	}
	return NULL;
}

static void race(struct shared_world *s, unsigned int rounds, unsigned int seed)
{
	pthread_t threads[2 * MOUNTS];
	struct race r[2 * MOUNTS];

	for (unsigned int i = 0; i < MFS_ARRAY_LEN(r); i++) {
		r[i] = (struct race){ .ns = s->v[i % MOUNTS].ns ?: s->v[(i + 1) % MOUNTS].ns, .seed = seed + i, .rounds = rounds };
		assert_int_equal(pthread_create(&threads[i], NULL, change_names, &r[i]), 0);
	}
	for (unsigned int i = 0; i < MFS_ARRAY_LEN(r); i++)
		pthread_join(threads[i], NULL);
}

static char *index_text(struct shared_world *s)
{
	struct engine *e;
	char *text;

	assert_int_equal(mem_engine_new(s->shared, &e), 0);
	text = dump_of(s, e);
	engine_free(e);
	return text;
}

static void assert_rebuilt(struct shared_world *s)
{
	struct rebuild_result res;
	char *want = index_text(s), *got = rebuilt(s, &res);

	assert_true(res.has_log);
	assert_int_equal(res.damaged, 0);
	for (char *a = got, *b = want; *a || *b; a += strcspn(a, "\n") + !!*a, b += strcspn(b, "\n") + !!*b)
		if (strcspn(a, "\n") != strcspn(b, "\n") || strncmp(a, b, strcspn(a, "\n")) != 0)
			fail_msg("epoch %" PRIu64 " snapshot %" PRIu64 " changes %" PRIu64 ":\n%.*s\nbut it was\n%.*s", res.epoch,
				 res.snapshot, res.number, (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
	free(want);
	free(got);
}

static size_t list(struct shared_world *s, struct log_objects *ret)
{
	struct volume_store_options vo = { 0 };
	struct object_store *store = NULL;
	char *reason = NULL;

	assert_int_equal(volume_store_open(&s->w->cfg, &vo, &store, &reason), 0);
	assert_int_equal(log_objects_list(store, &s->op, ret), 0);
	object_store_free(store);
	return ret->n;
}

/* Away with the newest changes object. False: there is none. */
static bool drop_newest(struct shared_world *s)
{
	struct volume_store_options vo = { 0 };
	struct object_store *store = NULL;
	struct log_objects all;
	char *reason = NULL;
	size_t i;

	assert_int_equal(volume_store_open(&s->w->cfg, &vo, &store, &reason), 0);
	assert_int_equal(log_objects_list(store, &s->op, &all), 0);
	for (i = all.n; i-- > 0 && all.v[i].is_snapshot;)
		;
	if (i != SIZE_MAX)
		assert_int_equal(log_object_delete(store, &s->op, &all.v[i]), 0);
	log_objects_release(&all);
	object_store_free(store);
	return i != SIZE_MAX;
}

static void wait_whole(struct shared_world *s, int i)
{
	struct index_log_status st = { 0 };

	for (int n = 0; n < 1000; n++) {
		index_log_status(s->v[i].log, &st);
		if (st.working && st.behind == 0 && st.complete)
			return;
		usleep(10000);
	}
	fail_msg("mount %d: the log is not whole: %" PRIu64 " behind, error %d", i, st.behind, st.error);
}

/* Two writers that take over from each other all the time; mounts that die and come again. Whatever is there is a state that fits. */
static void test_in_turns(void **state)
{
	struct shared_world *s = shared_new();
	struct rebuild_result res;
	unsigned int used = 0;

	(void)state;
	for (int i = 0; i < MOUNTS; i++)
		open_mount(s, i, FAST_NS);
	for (unsigned int round = 0; round < 6; round++) {
		race(s, 60, round * 100 + 1);
		close_mount(s, (int)round % MOUNTS, round % 3 != 2);
		open_mount(s, (int)round % MOUNTS, FAST_NS);
	}
	race(s, 60, 1000);
	close_mount(s, 0, true);
	wait_whole(s, 1);
	for (unsigned int part = 0; part < 5; part++) { /* so that there are some behind the last snapshot */
		race(s, 5, 2000 + part * 10);
		wait_whole(s, 1);
	}
	close_mount(s, 1, false);
	assert_rebuilt(s);
	print_message("every prefix\n");
	while (used < 40 && drop_newest(s)) {
		free(rebuilt(s, &res));
		if (!res.has_log)
			break;
		used++;
	}
	assert_true(used > 2);
	shared_free(s);
}

static uint64_t last_epoch(struct shared_world *s)
{
	struct log_objects all;
	uint64_t epoch = list(s, &all) ? all.v[all.n - 1].epoch : 0;

	log_objects_release(&all);
	return epoch;
}

/* The one that writes dies; the other has noted enough to go on in its chain. News that were lost need a new one. */
static void test_going_on(void **state)
{
	struct shared_world *s = shared_new();
	uint64_t epoch;

	(void)state;
	open_mount(s, 0, FAST_NS);
	open_mount(s, 1, 3600 * MFS_NSEC_PER_SEC);
	race(s, 30, 1);
	wait_whole(s, 0);
	race(s, 1, 2); /* one more part, which both saw begin */
	wait_whole(s, 0);
	epoch = last_epoch(s);
	close_mount(s, 0, true);
	race(s, 30, 4);
	close_mount(s, 1, false);
	assert_int_equal(last_epoch(s), epoch);
	assert_rebuilt(s);

	open_mount(s, 0, 3600 * MFS_NSEC_PER_SEC);
	wait_whole(s, 0);
	epoch = last_epoch(s);
	mem_news_mute(s->shared, s->inner[0], true);
	race(s, 1, 5);
	open_mount(s, 1, 3600 * MFS_NSEC_PER_SEC);
	race(s, 5, 6);
	mem_news_mute(s->shared, s->inner[0], false);
	close_mount(s, 1, true);
	close_mount(s, 0, false);
	assert_int_not_equal(last_epoch(s), epoch);
	assert_rebuilt(s);
	shared_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_going_on),
		cmocka_unit_test(test_in_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
