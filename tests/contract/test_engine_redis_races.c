/*
 * Threads that change and read through two mounts' redis engines on one index, with reads and changes of the index that take
 * their time, so that fills come late. Each answer must be a state that the name, record or directory had between the
 * last change that had been told before the read began, and the last that was begun when it ended.
 *
 * MASSFS_LONG: ten times as long.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "meta/mem_internal.h"
#include "tests/lib/engine_suite.h"
#include "tests/lib/redis_faults.h"

#define PAIRS	 8
#define DIRS	 2
#define WRITERS	 2
#define READERS	 3
#define STATES	 60000
#define PAUSE_US 300

/* What the two names of a pair stand for; ino 0: nothing. */
struct state {
	uint64_t ino[2], ver[2];
};

struct pair {
	mfs_ino_t dir;
	struct mfs_name name[2];
	_Atomic uint64_t begun, told; /* numbers of states */
	struct state *was; /* [STATES] */
};

struct race {
	struct redis_server server;
	struct mem_shared *mem;
	struct engine *e[2];
	mfs_ino_t dirs[DIRS];
	struct pair pair[PAIRS];
	atomic_bool stop, failed;
	char why[400];
	pthread_mutex_t lock; /* why */
	_Atomic uint64_t changes, reads;
};

static const struct engine_ops *mem_ops; /* of all mem engines */
static _Thread_local _Atomic uint64_t *telling; /* set to told_state when the change is in the index and told */
static _Thread_local uint64_t told_state;
static _Thread_local unsigned int seed;

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static void fail_race(struct race *r, const char *fmt, ...) MFS_PRINTF(2, 3);
static void fail_race(struct race *r, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&r->lock);
	va_start(ap, fmt);
	if (!r->failed)
		vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	r->failed = true;
	r->stop = true;
	pthread_mutex_unlock(&r->lock);
}

/* --- an index that takes its time --- */

static void pause_now(void)
{
	if (pick(3) == 0)
		usleep(pick(PAUSE_US));
}

static int slow_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	int r = mem_ops->get(e, op, ino, ret);

	pause_now();
	return r;
}

static int slow_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name, struct entry *ret)
{
	int r = mem_ops->lookup(e, op, parent, name, ret);

	pause_now();
	return r;
}

static int slow_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		     struct node_list *ret)
{
	int r = mem_ops->list(e, op, parent, after, limit, ret);

	pause_now();
	return r;
}

static int slow_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	int r = mem_ops->apply(e, op, c);

	if (r == 0 && telling)
		atomic_store(telling, told_state);
	pause_now();
	return r;
}

/* --- changes --- */

static void write_make(struct change *c, struct node *n, const struct pair *p, unsigned int slot, struct state *next)
{
	*n = (struct node)NODE_INIT;
	n->attr.ino = n->pos = next->ino[slot];
	n->attr.ver = n->attr.nlink = 1;
	n->attr.mode = 0100644;
	n->parent = p->dir;
	n->name = p->name[slot];
	next->ver[slot] = 1;
	change_write(c, WRITE_INSERT, n->attr.ino)->node = n;
}

static void write_rename(struct change *c, struct node *n, const struct pair *p, unsigned int slot, struct state *next)
{
	unsigned int other = !slot;

	if (next->ino[other])
		change_write(c, WRITE_DELETE, next->ino[other]);
	n->parent = p->dir;
	n->name = p->name[other];
	change_write(c, WRITE_RENAME, next->ino[slot])->node = n;
	next->ino[other] = next->ino[slot];
	next->ver[other] = next->ver[slot] + 1;
	next->ino[slot] = next->ver[slot] = 0;
}

static int change_pair(struct engine *e, struct pair *p, unsigned int slot)
{
	struct state next = p->was[p->begun];
	struct node n = NODE_INIT;
	struct change c = { 0 };
	int r;

	if (!next.ino[slot]) {
		next.ino[slot] = test_number(e);
		write_make(&c, &n, p, slot, &next);
	} else if (pick(3) == 0) {
		write_rename(&c, &n, p, slot, &next);
	} else if (pick(3) == 0) {
		change_write(&c, WRITE_DELETE, next.ino[slot]);
		next.ino[slot] = next.ver[slot] = 0;
	} else {
		struct write *w = change_write(&c, WRITE_EDIT, next.ino[slot]);

		w->node = &n;
		w->mask = EDIT_MTIME;
		n.attr.mtime = (int64_t)p->begun;
		next.ver[slot]++;
	}
	if (pick(2))
		change_touch(&c, p->dir, mfs_now_ns(), 0, 0);
	p->was[p->begun + 1] = next;
	told_state = atomic_fetch_add(&p->begun, 1) + 1;
	telling = &p->told;
	r = engine_apply(e, NULL, &c);
	telling = NULL;
	return r;
}

/* --- reads --- */

static bool was(const struct pair *p, uint64_t from, uint64_t to, unsigned int slot, uint64_t ino, uint64_t ver)
{
	for (uint64_t i = from; i <= to; i++)
		if (p->was[i].ino[slot] == ino && (!ino || p->was[i].ver[slot] == ver))
			return true;
	return false;
}

static void read_name(struct race *r, struct engine *e, struct pair *p, unsigned int slot)
{
	uint64_t from = p->told, to, ino = 0, ver = 0;
	struct entry found;
	int err = engine_lookup(e, NULL, p->dir, &p->name[slot], &found);

	to = p->begun;
	if (err == 0) {
		ino = found.node.attr.ino;
		ver = found.node.attr.ver;
		entry_release(&found);
	}
	if ((err != 0 && err != -ENOENT) || !was(p, from, to, slot, ino, ver))
		fail_race(r, "lookup %s: %d, ino %ju ver %ju; state %ju had %ju %ju, state %ju has %ju %ju", p->name[slot].bytes, err,
			  (uintmax_t)ino, (uintmax_t)ver, (uintmax_t)from, (uintmax_t)p->was[from].ino[slot],
			  (uintmax_t)p->was[from].ver[slot], (uintmax_t)to, (uintmax_t)p->was[to].ino[slot],
			  (uintmax_t)p->was[to].ver[slot]);
}

static void read_record(struct race *r, struct engine *e, struct pair *p, unsigned int slot)
{
	uint64_t from = p->told, ino = p->was[from].ino[slot], to, ver = 0;
	struct node n = NODE_INIT;
	bool right = false;
	int err;

	if (!ino)
		return;
	err = engine_get(e, NULL, ino, &n);
	to = p->begun;
	ver = n.attr.ver;
	for (uint64_t i = from; i <= to && !right; i++) {
		const struct state *s = &p->was[i];

		right = err == -ESTALE ? s->ino[0] != ino && s->ino[1] != ino :
					 err == 0 && ((s->ino[0] == ino && s->ver[0] == ver) ||
						      (s->ino[1] == ino && s->ver[1] == ver));
	}
	if (!right)
		fail_race(r, "get %ju: %d, ver %ju in no state of %ju to %ju", (uintmax_t)ino, err, (uintmax_t)ver, (uintmax_t)from,
			  (uintmax_t)to);
	node_release(&n);
}

static const struct node *find(const struct node_list *l, const struct mfs_name *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (mfs_name_equal(&l->v[i].name, name))
			return &l->v[i];
	return NULL;
}

static void read_dir(struct race *r, struct engine *e, mfs_ino_t dir)
{
	struct node_list l = NODE_LIST_INIT;
	uint64_t from[PAIRS];
	int err;

	for (unsigned int i = 0; i < PAIRS; i++)
		from[i] = r->pair[i].told;
	err = engine_list(e, NULL, dir, 0, 100, &l);
	for (unsigned int i = 0; i < PAIRS && err == 0; i++) {
		struct pair *p = &r->pair[i];
		uint64_t to = p->begun;

		for (unsigned int slot = 0; p->dir == dir && slot < 2; slot++) {
			const struct node *n = find(&l, &p->name[slot]);

			if (!was(p, from[i], to, slot, n ? n->attr.ino : 0, n ? n->attr.ver : 0))
				fail_race(r, "list: %s is ino %ju ver %ju in no state of %ju to %ju", p->name[slot].bytes,
					  n ? (uintmax_t)n->attr.ino : 0, n ? (uintmax_t)n->attr.ver : 0, (uintmax_t)from[i],
					  (uintmax_t)to);
		}
	}
	if (err)
		fail_race(r, "list: %d", err);
	node_list_release(&l);
}

static void read_one(struct race *r, struct engine *e, struct pair *p)
{
	switch (pick(4)) {
	case 0:
		read_record(r, e, p, pick(2));
		break;
	case 1:
		read_dir(r, e, p->dir);
		break;
	default:
		read_name(r, e, p, pick(2));
	}
	r->reads++;
}

/* --- threads --- */

struct racer {
	struct race *race;
	unsigned int n;
	pthread_t thread;
};

static void *writer(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->race;

	seed = me->n + 1;
	while (!r->stop) {
		struct pair *p = &r->pair[pick(PAIRS / WRITERS) * WRITERS + me->n];
		struct engine *e = r->e[pick(2)];
		int err;

		if (p->begun + 1 >= STATES)
			break;
		err = change_pair(e, p, pick(2));
		if (err)
			fail_race(r, "a change: %d", err);
		r->changes++;
		/* One's own at once: nobody else changes this pair. */
		read_one(r, e, p);
		usleep(pick(2 * PAUSE_US));
	}
	return NULL;
}

static void *reader(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->race;

	seed = me->n + 100;
	while (!r->stop)
		read_one(r, r->e[pick(2)], &r->pair[pick(PAIRS)]);
	return NULL;
}

static void run_race(struct race *r, unsigned int seconds, void (*disturb)(struct race *r, unsigned int round))
{
	struct racer racers[WRITERS + READERS];
	int64_t until;

	seconds *= getenv("MASSFS_LONG") ? 10 : 1;
	until = mfs_mono_ns() + seconds * MFS_NSEC_PER_SEC;
	for (unsigned int i = 0; i < WRITERS + READERS; i++) {
		racers[i] = (struct racer){ .race = r, .n = i < WRITERS ? i : i - WRITERS };
		assert_int_equal(pthread_create(&racers[i].thread, NULL, i < WRITERS ? writer : reader, &racers[i]), 0);
	}
	for (unsigned int round = 0; !r->stop && mfs_mono_ns() < until; round++) {
		if (disturb)
			disturb(r, round);
		else
			usleep(50000);
	}
	r->stop = true;
	for (unsigned int i = 0; i < WRITERS + READERS; i++)
		pthread_join(racers[i].thread, NULL);
	if (r->failed)
		fail_msg("%s", r->why);
	assert_true(r->changes > 100 && r->reads > 1000);
}

static struct engine *open_one(struct race *r, struct engine_ops *slow, const char *volume)
{
	struct engine *inner;

	TEST_OK(mem_engine_new(r->mem, &inner));
	mem_ops = inner->ops;
	*slow = *inner->ops;
	slow->get = slow_get;
	slow->lookup = slow_lookup;
	slow->list = slow_list;
	slow->apply = slow_apply;
	inner->ops = slow;
	return redis_server_engine(&r->server, inner, volume);
}

static int setup(void **state)
{
	static struct engine_ops slow;
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "00000000-1111-2222-3333-444444444444", .created = 42 };
	struct race *r = calloc(1, sizeof(*r));

	pthread_mutex_init(&r->lock, NULL);
	redis_server_start(&r->server);
	TEST_OK(mem_shared_new(&r->mem));
	for (unsigned int i = 0; i < 2; i++) {
		r->e[i] = open_one(r, &slow, v.uuid);
		r->e[i]->session = 101 + i;
	}
	TEST_OK(engine_volume_put(r->e[0], NULL, &v));
	for (unsigned int i = 0; i < DIRS; i++)
		r->dirs[i] = test_make(r->e[0], MFS_ROOT_INO, i ? "two" : "one", 040755);
	for (unsigned int i = 0; i < PAIRS; i++) {
		char text[8];

		r->pair[i].dir = r->dirs[i % DIRS];
		r->pair[i].was = calloc(STATES, sizeof(struct state));
		assert_non_null(r->pair[i].was);
		for (unsigned int k = 0; k < 2; k++) {
			snprintf(text, sizeof(text), "%u%c", i, 'a' + (int)k);
			r->pair[i].name[k] = test_name(text);
		}
	}
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct race *r = *state;
	struct redis_stats a, b;

	redis_engine_stats(r->e[0], &a);
	redis_engine_stats(r->e[1], &b);
	print_message("%ju changes, %ju reads; hits %ju misses %ju old %ju bad %ju fills %ju hints %ju failures %ju\n",
		      (uintmax_t)r->changes, (uintmax_t)r->reads, (uintmax_t)(a.hits + b.hits), (uintmax_t)(a.misses + b.misses),
		      (uintmax_t)(a.old + b.old), (uintmax_t)(a.bad + b.bad), (uintmax_t)(a.fills + b.fills),
		      (uintmax_t)(a.hints_seen + b.hints_seen), (uintmax_t)(a.failures + b.failures));
	for (unsigned int i = 0; i < 2; i++)
		engine_free(r->e[i]);
	mem_shared_free(r->mem);
	redis_server_stop(&r->server);
	for (unsigned int i = 0; i < PAIRS; i++)
		free(r->pair[i].was);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return 0;
}

static uint64_t hits_of(struct race *r)
{
	struct redis_stats a, b;

	redis_engine_stats(r->e[0], &a);
	redis_engine_stats(r->e[1], &b);
	return a.hits + b.hits;
}

static void test_race__fills_and_changes(void **state)
{
	struct race *r = *state;

	run_race(r, 3, NULL);
	assert_true(hits_of(r) > 500); /* or it shows nothing */
}

static struct redis_copy copy;

static void damage(struct race *r, unsigned int round)
{
	redisContext *c = redis_server_client(&r->server);

	switch (round % 6) {
	case 0:
		redis_fault_flush(c);
		redis_fault_restore(c, &copy);
		break;
	case 1:
		redis_fault_garbage(c, &seed);
		break;
	case 2:
		redis_fault_swap(c, &seed);
		break;
	case 3:
		redis_fault_types(c);
		break;
	default:
		redis_copy_release(&copy);
		redis_copy_take(c, &copy);
	}
	redisFree(c);
	usleep(pick(30000));
}

static void test_race__beside_damage(void **state)
{
	struct race *r = *state;

	run_race(r, 3, damage);
	redis_copy_release(&copy);
	assert_true(hits_of(r) > 200);
}

/* Forgets at once whatever it is told, and what it had comes back. */
static void forget(struct race *r, unsigned int round)
{
	redisContext *c = redis_server_client(&r->server);

	for (unsigned int i = 0; i < 20 && !r->stop; i++) {
		redis_copy_release(&copy);
		redis_copy_take(c, &copy);
		usleep(pick(3000));
		redis_fault_flush(c);
		redis_fault_restore(c, &copy);
	}
	redisFree(c);
	(void)round;
}

static void test_race__beside_a_redis_that_goes_back_in_time(void **state)
{
	struct race *r = *state;

	run_race(r, 3, forget);
	redis_copy_release(&copy);
	assert_true(hits_of(r) > 200);
}

static void hang_or_die(struct race *r, unsigned int round)
{
	usleep(200000);
	if (round % 2) {
		redis_server_freeze(&r->server, true);
		usleep(300000);
		redis_server_freeze(&r->server, false);
	} else {
		redis_server_kill(&r->server);
		usleep(100000);
		redis_server_run(&r->server);
	}
	redis_server_wait_up(r->e[0], true);
	redis_server_wait_up(r->e[1], true);
}

static void test_race__beside_a_redis_that_hangs_and_dies(void **state)
{
	run_race(*state, 6, hang_or_die);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_race__fills_and_changes),
		T(test_race__beside_damage),
		T(test_race__beside_a_redis_that_goes_back_in_time),
		T(test_race__beside_a_redis_that_hangs_and_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
