/*
 * A volume in memory or in a temporary folder, for tests of what works above index and store.
 */
#include "tests/lib/volume_world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/reconcile.h"

static bool is_open(void *arg, mfs_ino_t ino)
{
	struct world *w = arg;

	return atomic_load(&w->open_ino) == ino;
}

static bool key_is_legal(void *arg, const char *key)
{
	struct world *w = arg;

	return !w->v || object_key_is_legal(w->v->store, key);
}

static void jobs_queued(void *arg)
{
	struct world *w = arg;

	atomic_fetch_add(&w->wakes, 1);
	if (w->woken)
		w->woken(w->woken_arg);
}

static struct namespace_hooks hooks_of(struct world *w)
{
	return (struct namespace_hooks){
		.arg = w, .is_open = is_open, .key_is_legal = key_is_legal, .jobs_queued = jobs_queued
	};
}

static void session(struct world *w, int64_t closed)
{
	char host[] = "test", dir[] = "";
	struct session_record s = {
		.id = w->v->session, .host = host, .mountpoint = dir, .started = 1, .closed = closed
	};
	struct change c = { 0 };

	change_write(&c, WRITE_SESSION_PUT, s.id)->session = &s;
	assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
}

static void open_mem(struct world *w, struct object_store *store)
{
	struct namespace_options no = { .retention_ns = WORLD_RETENTION, .hooks = hooks_of(w) };
	struct volume_record rec = { .schema = MFS_SCHEMA };
	struct volume *v = calloc(1, sizeof(*v));
	uint64_t number;

	assert_non_null(v);
	w->v = v;
	v->cfg = &w->cfg;
	v->lock_fd = -1;
	v->next_op = 1;
	v->root = MFS_ROOT_INO;
	v->hooks = hooks_of(w);
	v->store = store;
	if (!store)
		assert_int_equal(mem_store_new(&v->store), 0);
	assert_int_equal(mem_engine_new(w->shared, &v->engine), 0);
	if (engine_volume_get(v->engine, &w->op, &rec) == -ENOENT)
		assert_int_equal(engine_volume_put(v->engine, &w->op, &rec), 0);
	assert_int_equal(namespace_new(v->engine, &no, &v->ns), 0);
	assert_int_equal(engine_reserve(v->engine, &w->op, 1, &number), 0);
	v->session = number;
	v->engine->session = v->session;
	session(w, 0);
}

static void open_local(struct world *w)
{
	struct namespace_hooks hooks = hooks_of(w);
	char *reason = NULL;
	int r = volume_open(&w->cfg, VOLUME_MOUNT, &hooks, &w->v, &reason);

	if (r < 0)
		print_error("volume_open: %s\n", reason ? reason : strerror(-r));
	assert_int_equal(r, 0);
}

struct world *world_new(enum world_kind kind)
{
	struct world *w = calloc(1, sizeof(*w));
	char *reason = NULL;

	assert_non_null(w);
	w->kind = kind;
	mfs_config_init(&w->cfg);
	w->cfg.inline_size = 0; /* who tests it asks for it */
	w->cfg.retention_ns = WORLD_RETENTION;
	w->cfg.index_log_ns = 0; /* its thread would not survive world_crash() */
	if (kind == WORLD_MEM) {
		assert_int_equal(mem_shared_new(&w->shared), 0);
		open_mem(w, NULL);
		return w;
	}
	strcpy(w->dir, "/tmp/massfs-world-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->cfg.dir = strdup(w->dir);
	assert_int_equal(volume_format(&w->cfg, false, &reason), 0);
	open_local(w);
	return w;
}

static void close_mem(struct world *w, bool crash)
{
	if (!crash)
		session(w, mfs_now_ns());
	mime_release(&w->v->mime);
	namespace_free(w->v->ns);
	engine_free(w->v->engine);
	free(w->v);
	w->v = NULL;
}

void world_crash(struct world *w)
{
	struct object_store *store = w->v->store;

	if (w->kind == WORLD_LOCAL) {
		/* What volume_close() does, but for the session's end. */
		namespace_free(w->v->ns);
		engine_free(w->v->engine);
		object_store_free(store);
		mime_release(&w->v->mime);
		close(w->v->lock_fd);
		free(w->v->dir);
		free(w->v);
		w->v = NULL;
		open_local(w);
		return;
	}
	{
		struct job_record look = { .kind = JOB_VIEW, .ino = w->v->session, .due = 1 };
		struct change c = { 0 };

		/* As volume_open() buries a session. */
		session(w, mfs_now_ns());
		change_write(&c, WRITE_JOB_PUT, 0)->job = &look;
		assert_int_equal(engine_apply(w->v->engine, &w->op, &c), 0);
	}
	close_mem(w, true);
	open_mem(w, store);
}

void world_reopen(struct world *w)
{
	struct object_store *store = w->v->store;

	if (w->kind == WORLD_LOCAL) {
		volume_close(w->v);
		w->v = NULL;
		open_local(w);
		return;
	}
	close_mem(w, false);
	open_mem(w, store);
}

void world_free(struct world *w)
{
	char cmd[100];

	if (w->kind == WORLD_MEM) {
		struct object_store *store = w->v->store;

		close_mem(w, false);
		object_store_free(store);
		mem_shared_free(w->shared);
	} else {
		volume_close(w->v);
		snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
		assert_int_equal(system(cmd), 0);
	}
	mfs_config_release(&w->cfg);
	free(w->out);
	free(w->err);
	free(w);
}

/* --- names --- */

static mfs_ino_t parent_of(struct world *w, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	struct entry e;
	mfs_ino_t ino;

	*ret_name = slash ? slash + 1 : path;
	assert_int_equal(namespace_resolve(w->v->ns, &w->op, path, slash ? (size_t)(slash - path) : 0, &e),
			 0);
	ino = e.node.attr.ino;
	entry_release(&e);
	return ino;
}

static mfs_ino_t make(struct world *w, const char *path, uint32_t mode)
{
	struct make m = { .mode = mode };
	struct node n = NODE_INIT;
	mfs_ino_t ino;

	m.parent = parent_of(w, path, &m.name);
	m.name_len = strlen(m.name);
	assert_int_equal(namespace_make(w->v->ns, &w->op, &m, &n), 0);
	ino = n.attr.ino;
	node_release(&n);
	return ino;
}

mfs_ino_t world_dir(struct world *w, const char *path)
{
	return make(w, path, S_IFDIR | 0755);
}

mfs_ino_t world_ino(struct world *w, const char *path)
{
	struct entry e;
	mfs_ino_t ino;
	int r = namespace_resolve(w->v->ns, &w->op, path, strlen(path), &e);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	assert_int_equal(r, 0);
	ino = e.node.attr.ino;
	entry_release(&e);
	return ino;
}

struct node world_node(struct world *w, mfs_ino_t ino)
{
	struct node n = NODE_INIT;

	assert_int_equal(namespace_get(w->v->ns, &w->op, ino, &n), 0);
	return n;
}

void world_put(struct world *w, mfs_ino_t ino, const char *key, const char *text, struct object_info *ret)
{
	struct node n = world_node(w, ino);
	struct object_meta meta = volume_object_meta(w->v, &n.attr);

	node_release(&n);
	assert_int_equal(object_put(w->v->store, &w->op, NULL, key, text, strlen(text), &meta, ret), 0);
}

int world_commit(struct world *w, mfs_ino_t ino, const char *key, const struct object_info *info,
		 bool keep_version)
{
	struct node n = world_node(w, ino);
	char *copy = strdup(key);
	struct commit c = {
		.ino = ino,
		.lay = n.attr.lay,
		.ref = { .key = copy },
		.obj_len = info->size,
		.size = info->size,
		.alloc = info->alloc,
		.mtime = mfs_now_ns(),
		.keep_version = keep_version,
		.queue_key = info->not_shown,
		.durable = true,
	};
	struct mfs_attr attr;
	int r;

	memcpy(c.ref.version, info->version, sizeof(c.ref.version));
	r = namespace_commit(w->v->ns, &w->op, &c, &attr);
	free(copy);
	node_release(&n);
	return r;
}

mfs_ino_t world_write(struct world *w, const char *path, const char *text)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(1 << 16);
	mfs_ino_t ino = world_ino(w, path);
	struct object_info info = { 0 };
	struct node n;
	bool temporary, had_content;
	char *copy;
	struct mfs_attr attr;
	struct commit c = { 0 };

	if (!ino)
		ino = make(w, path, S_IFREG | 0644);
	assert_int_equal(namespace_key(w->v->ns, &w->op, ino, &key, &temporary), 0);
	world_put(w, ino, key.data, text, &info);
	n = world_node(w, ino);
	had_content = !object_ref_is_empty(&n.ref);
	copy = strdup(key.data);
	c = (struct commit){ .ino = ino,
			     .lay = n.attr.lay,
			     .ref = { .key = copy },
			     .obj_len = info.size,
			     .size = info.size,
			     .alloc = info.alloc,
			     .mtime = mfs_now_ns(),
			     .keep_version = had_content,
			     .queue_key = info.not_shown,
			     .temporary = temporary,
			     .durable = true };
	memcpy(c.ref.version, info.version, sizeof(c.ref.version));
	assert_int_equal(namespace_commit(w->v->ns, &w->op, &c, &attr), 0);
	free(copy);
	node_release(&n);
	return ino;
}

void world_rename(struct world *w, const char *from, const char *to)
{
	const char *a, *b;
	mfs_ino_t from_dir = parent_of(w, from, &a), to_dir = parent_of(w, to, &b);
	struct rename_result res;

	assert_int_equal(
		namespace_rename(w->v->ns, &w->op, from_dir, a, strlen(a), to_dir, b, strlen(b), 0, &res), 0);
}

void world_link(struct world *w, const char *from, const char *to)
{
	const char *name;
	mfs_ino_t dir = parent_of(w, to, &name);
	struct mfs_attr attr;

	assert_int_equal(namespace_link(w->v->ns, &w->op, world_ino(w, from), dir, name, strlen(name), &attr),
			 0);
}

void world_unlink(struct world *w, const char *path)
{
	const char *name;
	mfs_ino_t dir = parent_of(w, path, &name);
	struct mfs_attr attr;

	assert_int_equal(namespace_unlink(w->v->ns, &w->op, dir, name, strlen(name), &attr), 0);
}

void world_truncate(struct world *w, const char *path, uint64_t size)
{
	struct node n = world_node(w, world_ino(w, path));
	struct mfs_attr attr;

	assert_int_equal(
		namespace_truncate(w->v->ns, &w->op, n.attr.ino, n.attr.lay, size, true, false, &attr), 0);
	node_release(&n);
}

/* --- content --- */

#define BYTES_MAX 4096
static char bytes[BYTES_MAX + 1];

const char *world_read(struct world *w, const char *path)
{
	mfs_ino_t ino = world_ino(w, path);
	struct node n;
	ssize_t got = 0;

	if (!ino)
		return NULL;
	n = world_node(w, ino);
	assert_true(n.attr.size <= BYTES_MAX);
	memset(bytes, 0, sizeof(bytes));
	if (n.attr.obj_len)
		got = object_get(w->v->store, &w->op, &n.ref, 0, bytes, n.attr.obj_len);
	assert_int_equal(got, n.attr.obj_len);
	for (size_t i = 0; i < n.attr.size; i++)
		bytes[i] = bytes[i] ? bytes[i] : '0'; /* stands for a zero byte */
	node_release(&n);
	return bytes;
}

static void check_local_view(struct world *w, const char *key, const char *want)
{
	char path[2048], got[BYTES_MAX + 1] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/objects/%s", w->dir, key);
	fd = open(path, O_RDONLY);
	if (!want) {
		if (fd >= 0) {
			struct stat st;

			assert_int_equal(fstat(fd, &st), 0);
			assert_true(S_ISDIR(st.st_mode));
			close(fd);
		}
		return;
	}
	assert_true(fd >= 0);
	n = read(fd, got, BYTES_MAX);
	assert_true(n >= 0);
	got[n] = '\0';
	for (ssize_t i = 0; i < n; i++)
		got[i] = got[i] ? got[i] : '0';
	assert_string_equal(got, want);
	close(fd);
}

const char *world_view(struct world *w, const char *key)
{
	struct object_info info;
	char *copy = strdup(key);
	struct object_ref ref = { .key = copy };
	int r = object_head(w->v->store, &w->op, NULL, key, NULL, &info);
	ssize_t n;

	if (r == -ENOENT) {
		free(copy);
		if (w->kind == WORLD_LOCAL)
			check_local_view(w, key, NULL);
		return NULL;
	}
	assert_int_equal(r, 0);
	assert_true(info.size <= BYTES_MAX);
	memset(bytes, 0, sizeof(bytes));
	memcpy(ref.version, info.version, sizeof(ref.version));
	n = object_get(w->v->store, &w->op, &ref, 0, bytes, info.size);
	free(copy);
	assert_int_equal(n, info.size);
	for (ssize_t i = 0; i < n; i++)
		bytes[i] = bytes[i] ? bytes[i] : '0';
	if (w->kind == WORLD_LOCAL)
		check_local_view(w, key, bytes);
	return bytes;
}

struct version_search {
	const char *version;
	bool found;
};

static int match_version(void *arg, const char *key, const struct object_info *info)
{
	struct version_search *s = arg;

	(void)key;
	s->found |= strcmp(s->version, info->version) == 0;
	return 0;
}

bool world_has_version(struct world *w, const char *version)
{
	struct version_search s = { .version = version };

	assert_int_equal(object_list_versions(w->v->store, &w->op, NULL, match_version, &s), 0);
	return s.found;
}

uint64_t world_jobs(struct world *w)
{
	uint64_t n;

	assert_int_equal(engine_jobs_count(w->v->engine, &w->op, &n), 0);
	return n;
}

uint64_t world_settle(struct world *w)
{
	uint64_t left;

	assert_int_equal(reconcile_run(w->v, &w->op, INT64_MAX - 1, &left, NULL, NULL), 0);
	return left;
}

uint64_t world_force(struct world *w)
{
	uint64_t left;

	assert_int_equal(reconcile_run(w->v, &w->op, INT64_MAX, &left, NULL, NULL), 0);
	return left;
}

/* --- verbs --- */

static void changed(void *arg, mfs_ino_t ino, mfs_ino_t parent, const char *name)
{
	struct world *w = arg;

	(void)ino;
	(void)parent;
	(void)name;
	w->n_changed++;
}

int world_verb(struct world *w, uid_t uid, int argc, const char *const *argv)
{
	gid_t group = uid;
	struct op_ctx op = { .uid = uid, .gid = uid };
	struct verb_call call = {
		.vol = w->v,
		.cred = { .uid = uid, .gid = uid, .groups = &group, .n_groups = 1 },
		.op = &op,
		.argc = argc,
		.argv = (char **)(uintptr_t)argv,
		.mountpoint = "/mnt",
		.changed = changed,
		.changed_arg = w,
	};
	int status;

	free(w->out);
	free(w->err);
	w->out = w->err = NULL;
	call.out = open_memstream(&w->out, &w->out_len);
	call.err = open_memstream(&w->err, &w->err_len);
	status = verb_run(&call);
	fclose(call.out);
	fclose(call.err);
	return status;
}

/* --- suites --- */

static enum world_kind current;

static int setup(void **state)
{
	*state = world_new(current);
	return 0;
}

static int teardown(void **state)
{
	world_free(*state);
	return 0;
}

int world_run_suite(const char *name, const struct CMUnitTest *tests, size_t n)
{
	static const char *const kinds[] = { "mem", "sqlite+localdir" };
	struct CMUnitTest *v = calloc(n, sizeof(*v));
	int failed = 0;
	char group[128];

	assert(v);
	for (current = 0; current < WORLD_KINDS; current++) {
		for (size_t i = 0; i < n; i++) {
			v[i] = tests[i];
			v[i].setup_func = setup;
			v[i].teardown_func = teardown;
		}
		snprintf(group, sizeof(group), "%s on %s", name, kinds[current]);
		failed += _cmocka_run_group_tests(group, v, n, NULL, NULL);
	}
	free(v);
	return failed;
}
