/*
 * Races of rules M3 to M5: two threads at a time on the same names, over two engine instances where the engine allows
 * two. Each round begins at a barrier, and its outcome must be that of one order or the other; at the end the whole
 * index is walked. Rounds: MASSFS_RACE_ROUNDS (1,000).
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/lib/namespace_world.h"

#define ROOT	 MFS_ROOT_INO
#define ROUNDS	 ((unsigned int)env_number("MASSFS_RACE_ROUNDS", 1000))
#define CHECK_AT 200 /* rounds between walks */

/* A side of a race: what it does with mount `i`; the result is kept in r[i]. */
struct race {
	struct ns_world *w;
	int (*fn[2])(struct race *t, unsigned int i);
	int r[2];
	mfs_ino_t a, b, f, made[2];
	unsigned int round, flags;
	pthread_barrier_t start, end;
	bool stop;
};

struct side {
	struct race *t;
	unsigned int i;
};

/* False: it is over. `stop` is only looked at between the barriers. */
static bool run_side(struct race *t, unsigned int i)
{
	pthread_barrier_wait(&t->start);
	if (t->stop)
		return false;
	/* Neither side always first. */
	for (volatile unsigned int spin = (t->round * (i ? 7 : 13)) % 400; spin; spin--)
		;
	t->r[i] = t->fn[i](t, i);
	pthread_barrier_wait(&t->end);
	return true;
}

static void *side_main(void *arg)
{
	struct side *s = arg;

	while (run_side(s->t, s->i))
		;
	return NULL;
}

/* round_begin makes the round's names, outcome judges. After a failure the other side waits for ever, on memory that
 * is not given back. */
static void run(const struct race *race, void (*round_begin)(struct race *t), void (*outcome)(struct race *t))
{
	struct side *other = malloc(sizeof(*other));
	struct race *t = malloc(sizeof(*t));
	pthread_t thread;
	unsigned int n = ROUNDS;

	assert_non_null(other);
	assert_non_null(t);
	*t = *race;
	*other = (struct side){ t, 1 };
	ns_world_pause(t->w);
	pthread_barrier_init(&t->start, NULL, 2);
	pthread_barrier_init(&t->end, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, side_main, other), 0);
	for (t->round = 0; t->round < n; t->round++) {
		round_begin(t);
		run_side(t, 0);
		outcome(t);
		if (t->round % CHECK_AT == 0)
			assert_int_equal(ns_world_check(t->w), 0);
	}
	t->stop = true;
	run_side(t, 0);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&t->start);
	pthread_barrier_destroy(&t->end);
	assert_int_equal(ns_world_check(t->w), 0);
	free(other);
	free(t);
}

static void clear(struct ns_world *w, mfs_ino_t dir)
{
	struct node_list l = NODE_LIST_INIT;

	assert_int_equal(namespace_list(w->ns[0], &w->op, dir, 0, 10000, &l), 0);
	for (size_t i = 0; i < l.n; i++) {
		if (attr_is_dir(&l.v[i].attr)) {
			clear(w, l.v[i].attr.ino);
			assert_int_equal(do_rmdir(w, 0, dir, l.v[i].name.bytes), 0);
		} else {
			assert_int_equal(do_unlink(w, 0, dir, l.v[i].name.bytes), 0);
		}
	}
	node_list_release(&l);
}

/* One of both, and not both. */
#define assert_one(t, won, lost, with)                                                              \
	do {                                                                                        \
		if ((t)->r[won] != 0 || (t)->r[lost] != (with))                                     \
			fail_msg("round %u: outcomes %d and %d", (t)->round, (t)->r[0], (t)->r[1]); \
	} while (0)

static int rmdir_d(struct race *t, unsigned int i)
{
	return do_rmdir(t->w, i, ROOT, "d");
}

static int make_in_d(struct race *t, unsigned int i)
{
	return do_make(t->w, i, t->a, "f", t->round % 2 ? S_IFREG | 0644 : S_IFDIR | 0755, &t->made[i]);
}

static int link_in_d(struct race *t, unsigned int i)
{
	return do_link(t->w, i, t->f, t->a, "l");
}

static int move_into_d(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, "f", t->a, "f", 0);
}

static void begin_d(struct race *t)
{
	clear(t->w, ROOT);
	t->a = mkdirat_(t->w, ROOT, "d");
	t->f = mkfile(t->w, ROOT, "f");
}

/* Side 0 removes the directory, side 1 puts a name into it. */
static void d_or_name(struct race *t)
{
	if (t->r[0] == 0)
		assert_one(t, 0, 1, -ENOENT);
	else
		assert_one(t, 1, 0, -ENOTEMPTY);
	assert_int_equal(ino_at(t->w, ROOT, "d"), t->r[0] == 0 ? 0 : t->a);
}

static void create_against_rmdir(void **state)
{
	struct race t = { .w = *state, .fn = { rmdir_d, make_in_d } };

	run(&t, begin_d, d_or_name);
}

static void link_against_rmdir(void **state)
{
	struct race t = { .w = *state, .fn = { rmdir_d, link_in_d } };

	run(&t, begin_d, d_or_name);
}

static void rename_against_rmdir(void **state)
{
	struct race t = { .w = *state, .fn = { rmdir_d, move_into_d } };

	run(&t, begin_d, d_or_name);
}

/* A rename over an empty directory is an rmdir of it. */
static int rename_over_d(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, "e", ROOT, "d", 0);
}

static void begin_over(struct race *t)
{
	begin_d(t);
	t->b = mkdirat_(t->w, ROOT, "e");
}

static void over_or_name(struct race *t)
{
	if (t->r[0] == 0)
		assert_one(t, 0, 1, -ENOENT);
	else
		assert_one(t, 1, 0, -ENOTEMPTY);
	assert_int_equal(ino_at(t->w, ROOT, "d"), t->r[0] == 0 ? t->b : t->a);
}

static void create_against_rename_over(void **state)
{
	struct race t = { .w = *state, .fn = { rename_over_d, make_in_d } };

	run(&t, begin_over, over_or_name);
}

static int undelete_in_d(struct race *t, unsigned int i)
{
	struct op_ctx op = { .id = 1 };
	struct mfs_attr a;

	return namespace_undelete(t->w->ns[i], &op, t->f, t->a, "back", 4, &a);
}

static void begin_undelete(struct race *t)
{
	begin_d(t);
	assert_int_equal(do_unlink(t->w, 0, ROOT, "f"), 0);
}

static void undelete_against_rmdir(void **state)
{
	struct race t = { .w = *state, .fn = { rmdir_d, undelete_in_d } };

	run(&t, begin_undelete, d_or_name);
}

/* M5: mv a b/a against mv b a/b. */
static int a_into_b(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, "a", t->b, "a", 0);
}

static int b_into_a(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, "b", t->a, "b", 0);
}

static void begin_a_b(struct race *t)
{
	clear(t->w, ROOT);
	t->a = mkdirat_(t->w, ROOT, "a");
	t->b = mkdirat_(t->w, ROOT, "b");
}

static void one_moved(struct race *t)
{
	if (t->r[0] == 0)
		assert_one(t, 0, 1, -EINVAL);
	else
		assert_one(t, 1, 0, -EINVAL);
}

static void directories_into_each_other(void **state)
{
	struct race t = { .w = *state, .fn = { a_into_b, b_into_a } };

	run(&t, begin_a_b, one_moved);
}

/* The same through depth and an exchange: a/x/y and b/z; y <-> b, a -> z. Only one can be. */
static int exchange_y_b(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, t->made[0], "y", ROOT, "b", RENAME_EXCHANGE);
}

static int a_into_z(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, "a", t->made[1], "a", 0);
}

static void begin_exchange(struct race *t)
{
	begin_a_b(t);
	t->made[0] = mkdirat_(t->w, t->a, "x");
	mkdirat_(t->w, t->made[0], "y");
	t->made[1] = mkdirat_(t->w, t->b, "z");
}

static void exchange_against_move(void **state)
{
	struct race t = { .w = *state, .fn = { exchange_y_b, a_into_z } };

	run(&t, begin_exchange, one_moved);
}

/* Both make the same name. */
static int make_n(struct race *t, unsigned int i)
{
	return do_make(t->w, i, ROOT, "n", S_IFREG | 0644, &t->made[i]);
}

static int rename_to_n(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, i ? "g" : "f", ROOT, "n", t->flags);
}

static int link_to_n(struct race *t, unsigned int i)
{
	return do_link(t->w, i, t->f, ROOT, "n");
}

static void begin_n(struct race *t)
{
	clear(t->w, ROOT);
	t->f = mkfile(t->w, ROOT, "f");
	t->b = mkfile(t->w, ROOT, "g");
}

static void one_made(struct race *t)
{
	if (t->r[0] == 0)
		assert_one(t, 0, 1, -EEXIST);
	else
		assert_one(t, 1, 0, -EEXIST);
	assert_true(ino_at(t->w, ROOT, "n"));
}

static void create_against_create(void **state)
{
	struct race t = { .w = *state, .fn = { make_n, make_n } };

	run(&t, begin_n, one_made);
}

static void link_against_create(void **state)
{
	struct race t = { .w = *state, .fn = { link_to_n, make_n } };

	run(&t, begin_n, one_made);
}

static void noreplace_against_noreplace(void **state)
{
	struct race t = { .w = *state, .fn = { rename_to_n, rename_to_n }, .flags = RENAME_NOREPLACE };

	run(&t, begin_n, one_made);
}

/* Two files renamed onto one name: both succeed, the later one stays, the earlier is in trash. */
static void both_renamed(struct race *t)
{
	mfs_ino_t n = ino_at(t->w, ROOT, "n"), lost = n == t->f ? t->b : t->f;

	assert_int_equal(t->r[0], 0);
	assert_int_equal(t->r[1], 0);
	assert_true(n == t->f || n == t->b);
	assert_int_equal(attr_of(t->w, lost).nlink, 0);
	assert_int_equal(attr_of(t->w, n).nlink, 1);
	assert_int_equal(ino_at(t->w, ROOT, "f") + ino_at(t->w, ROOT, "g"), 0);
}

static void rename_against_rename(void **state)
{
	struct race t = { .w = *state, .fn = { rename_to_n, rename_to_n } };

	run(&t, begin_n, both_renamed);
}

/* One name moved to two places by two. */
static int move_f(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, "f", ROOT, i ? "g1" : "g0", 0);
}

static void one_moved_f(struct race *t)
{
	if (t->r[0] == 0)
		assert_one(t, 0, 1, -ENOENT);
	else
		assert_one(t, 1, 0, -ENOENT);
	assert_int_equal(ino_at(t->w, ROOT, t->r[0] == 0 ? "g0" : "g1"), t->f);
}

static void rename_of_one_by_two(void **state)
{
	struct race t = { .w = *state, .fn = { move_f, move_f } };

	run(&t, begin_n, one_moved_f);
}

/* Create after rename: the directory goes elsewhere while a name is made in it. Both succeed. */
static int move_d(struct race *t, unsigned int i)
{
	return do_rename(t->w, i, ROOT, "d", t->b, "moved", 0);
}

static void both_done(struct race *t)
{
	assert_int_equal(t->r[0], 0);
	assert_int_equal(t->r[1], 0);
	assert_int_equal(ino_at(t->w, t->a, "f"), t->made[1]);
	assert_int_equal(ino_at(t->w, t->b, "moved"), t->a);
}

static void create_against_rename_of_its_directory(void **state)
{
	struct race t = { .w = *state, .fn = { move_d, make_in_d } };

	run(&t, begin_over, both_done);
}

/* A child made, and renamed out of the directory before the directory is removed. */
static int make_and_take_out(struct race *t, unsigned int i)
{
	int r = do_make(t->w, i, t->a, "f", S_IFREG | 0644, &t->made[i]);

	return r < 0 ? r : do_rename(t->w, i, t->a, "f", ROOT, "out", 0);
}

static void taken_out(struct race *t)
{
	assert_true(t->r[1] == 0 || (t->r[0] == 0 && t->r[1] == -ENOENT));
	assert_true(t->r[0] == 0 || t->r[0] == -ENOTEMPTY);
	if (t->r[1] == 0)
		assert_int_equal(ino_at(t->w, ROOT, "out"), t->made[1]);
}

static void child_renamed_away_against_rmdir(void **state)
{
	struct race t = { .w = *state, .fn = { rmdir_d, make_and_take_out } };

	run(&t, begin_d, taken_out);
}

/* Links of one file come and go on both sides; at the end the counts are right. */
static int link_storm(struct race *t, unsigned int i)
{
	const char *name = fmt("l%u", i);
	int r = do_link(t->w, i, t->f, t->a, name);

	if (r < 0)
		return r;
	if (t->round % 3 == 0)
		r = do_rename(t->w, i, t->a, name, t->a, "same", 0);
	else if (t->round % 3 == 1)
		r = do_unlink(t->w, i, t->a, name);
	return r;
}

static int unlink_first(struct race *t, unsigned int i)
{
	int r = do_unlink(t->w, i, ROOT, "f");

	return r < 0 ? r : do_link(t->w, i, t->f, ROOT, "f");
}

static void counts(struct race *t)
{
	struct mfs_attr a = attr_of(t->w, t->f);
	uint32_t names = (ino_at(t->w, ROOT, "f") == t->f) + (ino_at(t->w, t->a, "l0") == t->f) +
			 (ino_at(t->w, t->a, "l1") == t->f) + (ino_at(t->w, t->a, "same") == t->f);

	/* -ENOENT: the last name was gone for a moment, so that nothing could be linked. */
	if (a.nlink != names || (t->r[0] && t->r[0] != -ENOENT) || (t->r[1] && t->r[1] != -ENOENT))
		fail_msg("round %u: nlink %u, %u names, outcomes %d and %d", t->round, a.nlink, names,
			 t->r[0], t->r[1]);
}

static void link_against_link(void **state)
{
	struct race t = { .w = *state, .fn = { link_storm, link_storm } };

	run(&t, begin_d, counts);
}

static void link_against_unlink_of_the_first(void **state)
{
	struct race t = { .w = *state, .fn = { link_storm, unlink_first } };

	run(&t, begin_d, counts);
}

/* The last two names go at once. */
static int unlink_one(struct race *t, unsigned int i)
{
	return do_unlink(t->w, i, i ? t->a : ROOT, i ? "l" : "f");
}

static void begin_two_names(struct race *t)
{
	begin_d(t);
	assert_int_equal(do_link(t->w, 0, t->f, t->a, "l"), 0);
}

static void all_gone(struct race *t)
{
	assert_int_equal(t->r[0], 0);
	assert_int_equal(t->r[1], 0);
	assert_int_equal(attr_of(t->w, t->f).nlink, 0);
	assert_true(attr_of(t->w, t->f).flags & ATTR_IN_TRASH);
}

static void unlink_against_unlink(void **state)
{
	struct race t = { .w = *state, .fn = { unlink_one, unlink_one } };

	run(&t, begin_two_names, all_gone);
}

/* Attributes of one file from two sides: neither is lost. */
static int chmod_or_xattr(struct race *t, unsigned int i)
{
	struct op_ctx op = { .id = 1 };
	struct set_attr sa = { .mask = EDIT_MODE, .mode = t->round & 07777 };
	struct mfs_attr a;
	char value[16];

	snprintf(value, sizeof(value), "%u", t->round);
	if (i == 0)
		return namespace_setattr(t->w->ns[i], &op, t->f, &sa, &a);
	return namespace_setxattr(t->w->ns[i], &op, t->f, "user.a", value, strlen(value), 0, false, &a);
}

static void begin_same(struct race *t)
{
	if (t->round == 0)
		t->f = mkfile(t->w, ROOT, "f");
}

static void both_set(struct race *t)
{
	char value[16] = "", expected[16];

	assert_int_equal(t->r[0], 0);
	assert_int_equal(t->r[1], 0);
	snprintf(expected, sizeof(expected), "%u", t->round);
	assert_true(namespace_getxattr(t->w->ns[0], &t->w->op, t->f, "user.a", value, 15) > 0);
	assert_string_equal(value, expected);
	assert_int_equal(attr_of(t->w, t->f).mode & 07777, t->round & 07777);
}

static void chmod_against_setxattr(void **state)
{
	struct race t = { .w = *state, .fn = { chmod_or_xattr, chmod_or_xattr } };

	run(&t, begin_same, both_set);
}

/* Two attributes of one file, one of them an ACL's mask by chmod: they are kept in one place, and neither is lost. */
static int set_one_of_two(struct race *t, unsigned int i)
{
	struct op_ctx op = { .id = 1 };
	struct set_attr sa = { .mask = EDIT_MODE, .mode = 0600 | (t->round % 8) << 3 };
	const char *name = i ? "user.b" : "user.a", *value = fmt("%u", t->round);
	struct mfs_attr a;

	if (i && t->flags)
		return namespace_setattr(t->w->ns[i], &op, t->f, &sa, &a);
	return namespace_setxattr(t->w->ns[i], &op, t->f, name, value, strlen(value), 0, false, &a);
}

static void begin_two(struct race *t)
{
	/* u::rw- u:5:r-- g::--- m::rwx o::--- */
	static const unsigned char acl[] = { 2, 0, 0,	0,   1,	  0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
					     0, 5, 0,	0,   0,	  4,   0,  0, 0,   255, 255, 255, 255, 16, 0,
					     7, 0, 255, 255, 255, 255, 32, 0, 0,   0,	255, 255, 255, 255 };
	struct mfs_attr a;

	begin_same(t);
	if (t->round == 0)
		assert_int_equal(namespace_setxattr(t->w->ns[0], &t->w->op, t->f, "system.posix_acl_access",
						    acl, sizeof(acl), 0, false, &a),
				 0);
}

static void both_of_two(struct race *t)
{
	unsigned char value[64] = "";

	assert_int_equal(t->r[0], 0);
	assert_int_equal(t->r[1], 0);
	assert_true(namespace_getxattr(t->w->ns[0], &t->w->op, t->f, "user.a", value, 15) > 0);
	assert_int_equal(atoi((char *)value), t->round);
	if (t->flags) {
		assert_int_equal(namespace_getxattr(t->w->ns[0], &t->w->op, t->f, "system.posix_acl_access",
						    value, 64),
				 44);
		assert_int_equal(value[4 + 3 * 8 + 2], t->round % 8);
	} else {
		memset(value, 0, sizeof(value));
		assert_true(namespace_getxattr(t->w->ns[0], &t->w->op, t->f, "user.b", value, 15) > 0);
		assert_int_equal(atoi((char *)value), t->round);
	}
}

static void setxattr_against_setxattr(void **state)
{
	struct race t = { .w = *state, .fn = { set_one_of_two, set_one_of_two } };

	run(&t, begin_same, both_of_two);
}

static void chmod_of_an_acl_against_setxattr(void **state)
{
	struct race t = { .w = *state, .fn = { set_one_of_two, set_one_of_two }, .flags = 1 };

	run(&t, begin_two, both_of_two);
}

/* Two commits that began from the same layout: one is told to look again. */
static int commit_same_lay(struct race *t, unsigned int i)
{
	struct op_ctx op = { .id = 1 };
	char key[] = "f";
	struct commit c = {
		.ino = t->f, .lay = t->round + 1, .obj_len = 1, .size = 1, .mtime = 1, .keep_version = true
	};
	struct mfs_attr a;

	c.ref.key = key;
	snprintf(c.ref.version, sizeof(c.ref.version), "%u-%u", t->round, i);
	return namespace_commit(t->w->ns[i], &op, &c, &a);
}

static void one_committed(struct race *t)
{
	if (t->r[0] == 0)
		assert_one(t, 0, 1, -EAGAIN);
	else
		assert_one(t, 1, 0, -EAGAIN);
	assert_int_equal(attr_of(t->w, t->f).lay, t->round + 2);
}

static void commit_against_commit(void **state)
{
	struct race t = { .w = *state, .fn = { commit_same_lay, commit_same_lay } };

	run(&t, begin_same, one_committed);
}

/* A commit while its file is renamed, and while the directory is: the object is at its place or queued. */
static int commit_in_d(struct race *t, unsigned int i)
{
	return do_commit(t->w, i, t->f, NULL, 1);
}

static void begin_commit(struct race *t)
{
	begin_over(t);
	assert_int_equal(do_rename(t->w, 0, ROOT, "f", t->a, "f", 0), 0);
	free(take_jobs(t->w));
}

static int move_d_or_f(struct race *t, unsigned int i)
{
	if (t->round % 2)
		return do_rename(t->w, i, t->a, "f", ROOT, "g", 0);
	return move_d(t, i);
}

static void placed_or_queued(struct race *t)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(4096);
	struct node n = NODE_INIT;
	char *jobs;
	bool temporary;

	assert_int_equal(t->r[0], 0);
	assert_int_equal(t->r[1], 0);
	assert_int_equal(namespace_get(t->w->ns[0], &t->w->op, t->f, &n), 0);
	assert_int_equal(namespace_key(t->w->ns[0], &t->w->op, t->f, &key, &temporary), 0);
	jobs = take_jobs(t->w);
	if (strcmp(n.ref.key, key.data) != 0 && !strstr(jobs, fmt("file %" PRIu64 "\n", t->f)) &&
	    !strstr(jobs, fmt("key %s\n", key.data)) && !strstr(jobs, fmt("dir %" PRIu64 "\n", t->a)))
		fail_msg("round %u: the object is at %s, the file at %s, and nothing is queued but: %s",
			 t->round, n.ref.key, key.data, jobs);
	free(jobs);
	node_release(&n);
}

static void commit_against_rename(void **state)
{
	struct race t = { .w = *state, .fn = { move_d_or_f, commit_in_d } };

	run(&t, begin_commit, placed_or_queued);
}

/* Everything at once, from eight threads on few names. */
struct storm {
	struct ns_world *w;
	unsigned int mount, seed;
	mfs_ino_t dirs[4];
};

static int storm_step(struct storm *s)
{
	unsigned int x = (unsigned int)rand_r(&s->seed), y = (unsigned int)rand_r(&s->seed);
	mfs_ino_t d = s->dirs[x % 4], e = s->dirs[y % 4];
	char name[8], to[8];
	mfs_ino_t ino = 0;

	snprintf(name, sizeof(name), "n%u", x / 4 % 6);
	snprintf(to, sizeof(to), "n%u", y / 4 % 6);
	switch (x / 32 % 10) {
	case 0:
	case 1:
		return do_make(s->w, s->mount, d, name, S_IFREG | 0644, NULL);
	case 2:
		return do_make(s->w, s->mount, d, name, S_IFDIR | 0755, NULL);
	case 3:
		return do_unlink(s->w, s->mount, d, name);
	case 4:
		return do_rmdir(s->w, s->mount, d, name);
	case 5:
	case 6:
		return do_rename(s->w, s->mount, d, name, e, to, 0);
	case 7:
		return do_rename(s->w, s->mount, d, name, e, to, RENAME_EXCHANGE);
	default: {
		struct op_ctx op = { .id = 1 };
		struct entry found;

		if (namespace_lookup(s->w->ns[s->mount], &op, d, name, strlen(name), &found) < 0)
			return -ENOENT;
		ino = found.node.attr.ino;
		entry_release(&found);
		return x % 2 ? do_link(s->w, s->mount, ino, e, to) : do_commit(s->w, s->mount, ino, NULL, 1);
	}
	}
}

static bool storm_may(int r)
{
	static const int may[] = { 0,	       -EEXIST, -ENOENT, -EISDIR, -ENOTDIR,
				   -ENOTEMPTY, -EINVAL, -EPERM,	 -EAGAIN, -ESTALE };

	for (size_t i = 0; i < MFS_ARRAY_LEN(may); i++)
		if (r == may[i])
			return true;
	return false;
}

static void *storm_main(void *arg)
{
	struct storm *s = arg;
	unsigned int n = ROUNDS;

	for (unsigned int i = 0; i < n; i++) {
		int r = storm_step(s);

		if (!storm_may(r)) {
			fprintf(stderr, "storm: unexpected outcome %d\n", r);
			return s;
		}
	}
	return NULL;
}

static void storm(void **state)
{
	struct storm s[8];
	pthread_t t[8];
	mfs_ino_t dirs[4];
	void *bad = NULL;

	ns_world_pause(*state);
	dirs[0] = ROOT;
	dirs[1] = mkdirat_(*state, ROOT, "n0");
	dirs[2] = mkdirat_(*state, dirs[1], "n1");
	dirs[3] = mkdirat_(*state, ROOT, "n2");
	for (unsigned int i = 0; i < 8; i++) {
		s[i] = (struct storm){ .w = *state, .mount = i % 2, .seed = i };
		memcpy(s[i].dirs, dirs, sizeof(dirs));
		assert_int_equal(pthread_create(&t[i], NULL, storm_main, &s[i]), 0);
	}
	for (unsigned int i = 0; i < 8; i++) {
		void *r;

		pthread_join(t[i], &r);
		bad = bad ? bad : r;
	}
	assert_null(bad);
	assert_int_equal(ns_world_check(*state), 0);
}

static const struct ns_test tests[] = {
	NS_TEST(create_against_rmdir),
	NS_TEST(link_against_rmdir),
	NS_TEST(rename_against_rmdir),
	NS_TEST(undelete_against_rmdir),
	NS_TEST(create_against_rename_over),
	NS_TEST(directories_into_each_other),
	NS_TEST(exchange_against_move),
	NS_TEST(create_against_create),
	NS_TEST(link_against_create),
	NS_TEST(noreplace_against_noreplace),
	NS_TEST(rename_against_rename),
	NS_TEST(rename_of_one_by_two),
	NS_TEST(create_against_rename_of_its_directory),
	NS_TEST(child_renamed_away_against_rmdir),
	NS_TEST(link_against_link),
	NS_TEST(link_against_unlink_of_the_first),
	NS_TEST(unlink_against_unlink),
	NS_TEST(chmod_against_setxattr),
	NS_TEST(setxattr_against_setxattr),
	NS_TEST(chmod_of_an_acl_against_setxattr),
	NS_TEST(commit_against_commit),
	NS_TEST(commit_against_rename),
	NS_TEST(storm),
};

int main(void)
{
	return ns_suite_run("race", tests, MFS_ARRAY_LEN(tests));
}
