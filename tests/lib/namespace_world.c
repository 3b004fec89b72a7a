/*
 * Worlds of the namespace tests: making one, and the short forms of calls.
 */
#include "tests/lib/namespace_world.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/mongo_server.h"

static int open_mem(struct ns_world *w, unsigned int mount, struct engine **ret)
{
	(void)mount;
	if (!w->shared) {
		int r = mem_shared_new(&w->shared);

		if (r < 0)
			return r;
	}
	return mem_engine_new(w->shared, ret);
}

static int make_dir(struct ns_world *w)
{
	const char *tmp = getenv("TMPDIR");

	if (w->dir[0])
		return 0;
	snprintf(w->dir, sizeof(w->dir), "%.40s/massfs-ns-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(w->dir) ? 0 : -errno;
}

static int open_sqlite(struct ns_world *w, unsigned int mount, struct engine **ret)
{
	struct sqlite_options opt = { .create = true, .nosync = true, .cache_bytes = 4 * MFS_MIB };
	char path[96];
	int r = make_dir(w);

	(void)mount;
	snprintf(path, sizeof(path), "%s/index.db", w->dir);
	return r < 0 ? r : sqlite_engine_open(path, &opt, ret);
}

static int open_mongo(struct ns_world *w, unsigned int mount, struct engine **ret)
{
	int r = make_dir(w);

	(void)mount;
	return r < 0 ? r : mongo_server_open(w->dir, &w->mongo, ret);
}

const struct ns_kind ns_kinds[] = {
	{ .name = "mem", .mounts = 2, .open = open_mem },
	{ .name = "sqlite", .mounts = 1, .open = open_sqlite },
	{ .name = "mongo", .mounts = 2, .open = open_mongo, .asked = true, .loose = true },
};
const size_t ns_n_kinds = MFS_ARRAY_LEN(ns_kinds);

static bool is_open(void *arg, mfs_ino_t ino)
{
	struct ns_world *w = arg;

	return w->open_ino == ino;
}

/* What a store could refuse: a key that is not text, and one among ours. */
static bool key_is_legal(void *arg, const char *key)
{
	(void)arg;
	return strlen(key) <= OBJECT_KEY_MAX && strncmp(key, ".massfs", 7) != 0 && !strchr(key, '\xff');
}

static void jobs_queued(void *arg)
{
	struct ns_world *w = arg;

	w->wakes++;
}

static int open_mount(struct ns_world *w, unsigned int i, ns_wrap_fn wrap, void *arg)
{
	struct namespace_options opt = {
		.retention_ns = RETENTION,
		.host = "testhost",
		.hooks = { .arg = w,
			   .is_open = is_open,
			   .key_is_legal = key_is_legal,
			   .jobs_queued = jobs_queued },
	};
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "test", .created = 1 };
	int r;

	/* One daemon only: it also has only one namespace, which remembers directories. */
	if (i > 0 && w->kind->mounts < 2) {
		w->e[i] = w->e[0];
		w->ns[i] = w->ns[0];
		return 0;
	}
	r = w->kind->open(w, i, &w->e[i]);
	if (r < 0)
		return r;
	w->e[i]->session = 100 + i;
	if (i == 0) {
		w->bare = w->e[0];
		r = engine_volume_put(w->e[0], &w->op, &v);
		if (r == 0 && wrap)
			r = wrap(w->e[0], arg, &w->e[0]);
		w->e[0]->session = 100;
	}
	return r < 0 ? r : namespace_new(w->e[i], &opt, &w->ns[i]);
}

int ns_world_new(const struct ns_kind *kind, ns_wrap_fn wrap, void *arg, struct ns_world **ret)
{
	struct ns_world *w = calloc(1, sizeof(*w));
	int r = w ? 0 : -ENOMEM;

	if (w)
		w->kind = kind;
	for (unsigned int i = 0; r == 0 && i < NS_MOUNTS; i++)
		r = open_mount(w, i, wrap, arg);
	if (r < 0) {
		ns_world_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

/* The ops that were paused; one kind at a time. */
static const struct engine_ops *unpaused;

static int paused_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	static _Thread_local unsigned int seed;
	unsigned int pick;

	if (!seed)
		seed = (unsigned int)mfs_mono_ns() | 1;
	pick = (unsigned int)rand_r(&seed) % 8;
	if (pick < 2)
		sched_yield();
	else if (pick < 6)
		usleep(pick * 20);
	return unpaused->apply(e, op, c);
}

void ns_world_pause(struct ns_world *w)
{
	unpaused = w->e[0]->ops;
	w->paused = *unpaused;
	w->paused.apply = paused_apply;
	for (unsigned int i = 0; i < NS_MOUNTS; i++)
		w->e[i]->ops = &w->paused;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void ns_world_free(struct ns_world *w)
{
	if (!w)
		return;
	if (w->ns[1] != w->ns[0])
		namespace_free(w->ns[1]);
	namespace_free(w->ns[0]);
	if (w->e[1] != w->e[0])
		engine_free(w->e[1]);
	engine_free(w->e[0]);
	mem_shared_free(w->shared);
	if (w->mongo)
		mongo_server_release(w->mongo);
	if (w->dir[0])
		nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(w);
}

bool files_counted(struct ns_world *w, struct engine *e, uint64_t want, uint64_t *ret)
{
	int64_t until = mfs_mono_ns() + (w->kind->loose ? 10 * MFS_NSEC_PER_SEC : 0);
	uint64_t bytes;

	for (;;) {
		assert_int_equal(engine_count(e, &w->op, ret, &bytes), 0);
		if (*ret == want || mfs_mono_ns() >= until)
			return *ret == want;
		usleep(20000);
	}
}

uint32_t dir_nlink(const struct ns_world *w, uint32_t subdirs)
{
	return w->kind->loose ? 1 : 1 + subdirs;
}

/* Calls. */

/* A context of its own for each call: some tests call from several threads. */
static struct op_ctx root_op(const struct ns_world *w)
{
	return (struct op_ctx){ .id = 1, .uid = w->op.uid, .gid = w->op.gid, .umask = w->op.umask };
}

int do_make(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *name, uint32_t mode,
	    mfs_ino_t *ret)
{
	struct make m = {
		.parent = dir, .name = name, .name_len = strlen(name), .mode = mode, .symlink = "target"
	};
	struct op_ctx op = root_op(w);
	struct node n = NODE_INIT;
	int r = namespace_make(w->ns[mount], &op, &m, &n);

	if (r == 0 && ret)
		*ret = n.attr.ino;
	node_release(&n);
	return r;
}

int do_link(struct ns_world *w, unsigned int mount, mfs_ino_t ino, mfs_ino_t dir, const char *name)
{
	struct op_ctx op = root_op(w);
	struct mfs_attr a;

	return namespace_link(w->ns[mount], &op, ino, dir, name, strlen(name), &a);
}

int do_unlink(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *name)
{
	struct op_ctx op = root_op(w);
	struct mfs_attr a;

	return namespace_unlink(w->ns[mount], &op, dir, name, strlen(name), &a);
}

int do_rmdir(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *name)
{
	struct op_ctx op = root_op(w);
	struct mfs_attr a;

	return namespace_rmdir(w->ns[mount], &op, dir, name, strlen(name), &a);
}

int do_rename(struct ns_world *w, unsigned int mount, mfs_ino_t from_dir, const char *from, mfs_ino_t to_dir,
	      const char *to, unsigned int flags)
{
	struct op_ctx op = root_op(w);
	struct rename_result res;

	return namespace_rename(w->ns[mount], &op, from_dir, from, strlen(from), to_dir, to, strlen(to),
				flags, &res);
}

int do_commit(struct ns_world *w, unsigned int mount, mfs_ino_t ino, const char *key, uint64_t len)
{
	MFS_AUTOBUF struct mfs_buf own = MFS_BUF_INIT(1 << 20);
	struct op_ctx op = root_op(w);
	struct node n = NODE_INIT;
	MFS_AUTOFREE char *copy = key ? strdup(key) : NULL;
	struct commit c = {
		.ino = ino, .obj_len = len, .size = len, .alloc = len, .mtime = 12345, .keep_version = true
	};
	struct mfs_attr a;
	bool temporary = false;
	int r = namespace_get(w->ns[mount], &op, ino, &n);

	if (r == 0 && !key)
		r = namespace_key(w->ns[mount], &op, ino, &own, &temporary);
	if (r < 0)
		goto out;
	c.lay = n.attr.lay;
	c.ref.key = copy ? copy : own.data;
	c.temporary = temporary;
	snprintf(c.ref.version, sizeof(c.ref.version), "v%u", ++w->versions);
	r = namespace_commit(w->ns[mount], &op, &c, &a);
out:
	node_release(&n);
	return r;
}

mfs_ino_t mk(struct ns_world *w, mfs_ino_t dir, const char *name, uint32_t mode)
{
	mfs_ino_t ino = 0;

	assert_int_equal(do_make(w, 0, dir, name, mode, &ino), 0);
	return ino;
}

struct mfs_attr attr_of(struct ns_world *w, mfs_ino_t ino)
{
	struct op_ctx op = root_op(w);
	struct node n = NODE_INIT;
	struct mfs_attr a;

	assert_int_equal(namespace_get(w->ns[0], &op, ino, &n), 0);
	a = n.attr;
	node_release(&n);
	return a;
}

mfs_ino_t ino_at(struct ns_world *w, mfs_ino_t dir, const char *name)
{
	struct op_ctx op = root_op(w);
	struct entry e;
	mfs_ino_t ino;
	int r = namespace_lookup(w->ns[0], &op, dir, name, strlen(name), &e);

	if (r == -ENOENT)
		return 0;
	assert_int_equal(r, 0);
	ino = e.node.attr.ino;
	entry_release(&e);
	return ino;
}

char *path_of(struct ns_world *w, mfs_ino_t ino)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(1 << 20);
	struct op_ctx op = root_op(w);
	int r = namespace_path(w->ns[0], &op, ino, &b);

	if (r == -ENOENT)
		return NULL;
	assert_int_equal(r, 0);
	return mfs_buf_take(&b);
}

void put(struct ns_world *w, mfs_ino_t ino, const char *key, uint64_t len)
{
	assert_int_equal(do_commit(w, 0, ino, key, len), 0);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *take_jobs(struct ns_world *w)
{
	MFS_AUTOBUF struct mfs_buf out = MFS_BUF_INIT(1 << 20);
	struct op_ctx op = root_op(w);
	struct job_list l = { 0 };
	char *lines[64] = { 0 };

	assert_int_equal(engine_jobs(w->e[0], &op, INT64_MAX, 64, &l), 0);
	assert_true(l.n <= MFS_ARRAY_LEN(lines));
	for (size_t i = 0; i < l.n; i++) {
		struct change c = { .n_writes = 0 };
		const struct job_record *j = &l.v[i];
		int n;

		if (j->kind == JOB_KEY)
			n = asprintf(&lines[i], "key %s\n", j->key);
		else
			n = asprintf(&lines[i], "%s %" PRIu64 "\n", j->kind == JOB_DIR ? "dir" : "file",
				     j->ino);
		assert_true(n > 0);
		change_write(&c, WRITE_JOB_DELETE, 0)->job = j;
		assert_int_equal(engine_apply(w->e[0], &op, &c), 0);
	}
	qsort(lines, l.n, sizeof(*lines), by_text);
	assert_int_equal(mfs_buf_puts(&out, ""), 0);
	for (size_t i = 0; i < l.n; i++) {
		assert_int_equal(mfs_buf_puts(&out, lines[i]), 0);
		free(lines[i]);
	}
	job_list_release(&l);
	return mfs_buf_take(&out);
}

const char *fmt(const char *f, ...)
{
	static __thread char ring[8][512];
	static __thread unsigned int at;
	char *s = ring[at++ % 8];
	va_list ap;

	va_start(ap, f);
	vsnprintf(s, sizeof(ring[0]), f, ap);
	va_end(ap);
	return s;
}

/* The suite. */

static int set_up(void **state)
{
	const struct ns_kind *kind = *state;
	struct ns_world *w = NULL;
	int r = ns_world_new(kind, NULL, NULL, &w);

	if (r < 0)
		fprintf(stderr, "no world of %s: %s\n", kind->name, strerror(-r));
	*state = w;
	return r;
}

static int tear_down(void **state)
{
	struct ns_world *w = *state;
	int r = w && ns_world_check(w) ? -1 : 0;

	ns_world_free(w);
	return r;
}

int ns_suite_run(const char *suite, const struct ns_test *tests, size_t n)
{
	return ns_suite_run_on(getenv("MASSFS_TEST_ENGINE"), suite, tests, n);
}

int ns_suite_run_on(const char *only, const char *suite, const struct ns_test *tests, size_t n)
{
	int failed = 0;

	for (size_t k = 0; k < ns_n_kinds; k++) {
		struct CMUnitTest *v = calloc(n, sizeof(*v));
		char group[96];

		if (!v || (only ? strcmp(only, ns_kinds[k].name) != 0 : ns_kinds[k].asked)) {
			free(v);
			continue;
		}
		for (size_t i = 0; i < n; i++) {
			v[i].name = tests[i].name;
			v[i].test_func = tests[i].fn;
			v[i].setup_func = set_up;
			v[i].teardown_func = tear_down;
			v[i].initial_state = (void *)(uintptr_t)&ns_kinds[k];
		}
		snprintf(group, sizeof(group), "%s/%s", suite, ns_kinds[k].name);
		failed += _cmocka_run_group_tests(group, v, n, NULL, NULL);
		free(v);
	}
	mongo_server_stop();
	return failed;
}

uint64_t env_number(const char *name, uint64_t fallback)
{
	const char *s = getenv(name);

	return s && *s ? strtoull(s, NULL, 0) : fallback;
}
