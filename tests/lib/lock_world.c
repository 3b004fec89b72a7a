/* The world of tests/lib/lock_world.h. */
#include "tests/lib/lock_world.h"

#include <errno.h>
#include <time.h>

struct lock_world *lock_world_new(void)
{
	struct namespace_options no = { .retention_ns = 3600 * MFS_NSEC_PER_SEC };
	struct volume_record rec = { .schema = MFS_SCHEMA };
	struct lock_world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(mem_shared_new(&w->shared), 0);
	assert_int_equal(mem_engine_new(w->shared, &w->look), 0);
	assert_int_equal(engine_volume_put(w->look, &w->op, &rec), 0);
	assert_int_equal(namespace_new(w->look, &no, &w->ns), 0);
	assert_int_equal(mem_store_new(&w->store), 0);
	return w;
}

void lock_world_free(struct lock_world *w)
{
	namespace_free(w->ns);
	engine_free(w->look);
	object_store_free(w->store);
	mem_shared_free(w->shared);
	free(w);
}

static void told(void *arg, const struct news *n)
{
	struct lock_mount *m = arg;

	file_locks_news(m->fl, n);
}

static void nothing(void *arg, mfs_ino_t ino)
{
	(void)arg;
	(void)ino;
}

static void lost(void *arg, uint64_t session)
{
	struct lock_mount *m = arg;

	m->n_lost++;
	file_locks_lost(m->fl, session, nothing, NULL);
}

static void renewed(void *arg, uint64_t before, uint64_t session)
{
	struct lock_mount *m = arg;

	assert_int_not_equal(before, session);
	m->n_renewed++;
}

static void work(void *arg)
{
	struct lock_mount *m = arg;

	m->n_work++;
	if (m->on_work)
		m->on_work(m);
}

struct lock_mount *lock_mount_new(struct lock_world *w, int64_t lease_ns, bool heartbeat, const struct fault_plan *plan)
{
	struct namespace_options no = { .retention_ns = 3600 * MFS_NSEC_PER_SEC };
	struct lock_mount *m = calloc(1, sizeof(*m));
	struct sessions_hooks hooks = { .arg = m, .lost = lost, .renewed = renewed, .work = work };
	struct engine *e;

	assert_non_null(m);
	mfs_config_init(&m->cfg);
	m->cfg.lease_ns = lease_ns;
	m->v.cfg = &m->cfg;
	m->v.mode = VOLUME_MOUNT;
	m->v.lock_fd = -1;
	m->v.next_op = 1;
	m->v.root = MFS_ROOT_INO;
	m->v.store = w->store;
	assert_int_equal(mem_engine_new(w->shared, &e), 0);
	if (plan) {
		struct engine *faulty;

		assert_int_equal(fault_engine_new(e, plan, &faulty), 0);
		e = faulty;
	}
	m->v.engine = e;
	assert_int_equal(namespace_new(e, &no, &m->v.ns), 0);
	assert_int_equal(sessions_begin(&m->v, &w->op, heartbeat, &m->v.sessions), 0);
	assert_int_equal(file_locks_start(&m->v, &m->fl), 0);
	assert_int_equal(locks_new(e, &m->locks), 0);
	assert_int_equal(engine_watch(e, told, m), 0);
	sessions_hook(m->v.sessions, &hooks);
	return m;
}

static void release(struct lock_mount *m)
{
	namespace_free(m->v.ns);
	engine_free(m->v.engine);
	mfs_config_release(&m->cfg);
	free(m);
}

void lock_mount_free(struct lock_mount *m)
{
	sessions_hook(m->v.sessions, NULL);
	assert_int_equal(engine_watch(m->v.engine, NULL, NULL), 0);
	file_locks_stop(m->fl);
	locks_free(m->locks);
	sessions_end(m->v.sessions);
	release(m);
}

/* Its thread has to be ended like any other, but the index hears nothing of it: the engine answers nothing any more. */
static struct engine_ops dying;
static const struct engine_ops *alive;
static int changes_left;

static int dying_apply(struct engine *e, struct op_ctx *op, struct change *c)
{
	return __atomic_sub_fetch(&changes_left, 1, __ATOMIC_RELAXED) < 0 ? -EIO : alive->apply(e, op, c);
}

void lock_mount_die_after(struct lock_mount *m, int changes)
{
	alive = m->v.engine->ops;
	dying = *alive;
	dying.apply = dying_apply;
	changes_left = changes;
	m->v.engine->ops = &dying;
}

void lock_mount_kill(struct lock_mount *m)
{
	if (m->v.engine->ops != &dying)
		lock_mount_die_after(m, 0);
	changes_left = 0;
	sessions_hook(m->v.sessions, NULL);
	assert_int_equal(engine_watch(m->v.engine, NULL, NULL), 0);
	file_locks_stop(m->fl);
	locks_free(m->locks);
	sessions_end(m->v.sessions);
	m->v.engine->ops = alive;
	release(m);
}

mfs_ino_t lock_file(struct lock_world *w, const char *name)
{
	struct make make = { .parent = MFS_ROOT_INO, .name = name, .name_len = strlen(name), .mode = S_IFREG | 0644 };
	struct node n = NODE_INIT;
	mfs_ino_t ino;

	assert_int_equal(namespace_make(w->ns, &w->op, &make, &n), 0);
	ino = n.attr.ino;
	node_release(&n);
	return ino;
}

struct file_lock lock_of(mfs_ino_t ino, uint64_t owner, uint8_t type, uint64_t start, uint64_t end)
{
	return (struct file_lock){ .ino = ino, .owner = owner, .kind = LOCK_POSIX, .type = type, .start = start, .end = end };
}

int lock_set(struct lock_mount *m, struct file_lock l)
{
	struct op_ctx op = { 0 };

	return file_locks_set(m->fl, &op, &l, m);
}

struct waiting {
	struct lock_waiter w;
	struct mfs_mutex lock;
	pthread_cond_t done;
	bool is_done;
	int r;
};

static void waited(struct lock_waiter *lw, int r)
{
	struct waiting *x = lw->arg;
	MFS_GUARD(&x->lock);

	x->r = r;
	x->is_done = true;
	pthread_cond_signal(&x->done);
}

int lock_wait(struct lock_mount *m, struct file_lock l)
{
	struct waiting x = { .w = { .want = l, .via = m, .done = waited } };
	int r = lock_set(m, l);

	if (r != -EAGAIN)
		return r;
	x.w.arg = &x;
	pthread_mutex_init(&x.lock.m, NULL);
	pthread_cond_init(&x.done, NULL);
	file_locks_wait(m->fl, &x.w);
	{
		MFS_GUARD(&x.lock);

		while (!x.is_done)
			pthread_cond_wait(&x.done, &x.lock.m);
	}
	pthread_cond_destroy(&x.done);
	pthread_mutex_destroy(&x.lock.m);
	return x.r;
}

struct lock_table lock_index(struct lock_world *w, mfs_ino_t ino)
{
	struct cell_record cell = { 0 };
	struct lock_table t = { 0 };
	char name[40];
	int r;

	snprintf(name, sizeof(name), LOCK_CELLS "%llu", (unsigned long long)ino);
	r = engine_cell_get(w->look, &w->op, name, &cell);
	if (r == -ENOENT)
		return t;
	assert_int_equal(r, 0);
	assert_int_equal(lock_table_parse(&cell.blob, &t), 0);
	cell_record_release(&cell);
	return t;
}

size_t lock_count(struct lock_world *w, mfs_ino_t ino)
{
	struct lock_table t = lock_index(w, ino);
	size_t n = t.n;

	lock_table_release(&t);
	return n;
}

bool lock_is_fenced(struct lock_world *w, mfs_ino_t ino, uint64_t session)
{
	struct node n = NODE_INIT;
	bool fenced;

	assert_int_equal(engine_get(w->look, &w->op, ino, &n), 0);
	fenced = node_blob_has_u64(&n.fenced, session);
	node_release(&n);
	return fenced;
}

int lock_commit(struct lock_mount *m, mfs_ino_t ino, const char *text)
{
	const struct node_blob bytes = { .data = (char *)(uintptr_t)text, .size = strlen(text) };
	struct commit c = { .ino = ino, .inline_data = &bytes, .size = bytes.size, .mtime = 1 };
	struct op_ctx op = { 0 };
	struct node n = NODE_INIT;
	struct mfs_attr attr;

	assert_int_equal(engine_get(m->v.engine, &op, ino, &n), 0);
	c.lay = n.attr.lay;
	node_release(&n);
	return namespace_commit(m->v.ns, &op, &c, &attr);
}

bool lock_session_is_closed(struct lock_world *w, uint64_t session)
{
	struct session_list l = { 0 };
	bool closed = true;

	assert_int_equal(engine_sessions(w->look, &w->op, &l), 0);
	for (size_t i = 0; i < l.n; i++)
		if (l.v[i].id == session)
			closed = l.v[i].closed != 0;
	session_list_release(&l);
	return closed;
}

void lock_sleep(int64_t ns)
{
	struct timespec ts = mfs_ns_to_timespec(ns);

	nanosleep(&ts, NULL);
}

int lock_world_setup(void **state)
{
	*state = lock_world_new();
	return 0;
}

int lock_world_teardown(void **state)
{
	struct lock_world *w = *state;

	for (size_t i = 0; i < MFS_ARRAY_LEN(w->m); i++)
		if (w->m[i])
			lock_mount_free(w->m[i]);
	lock_world_free(w);
	return 0;
}

void lock_world_mounts(struct lock_world *w, int n, int64_t lease_ns)
{
	for (int i = 0; i < n; i++)
		w->m[i] = lock_mount_new(w, lease_ns, false, NULL);
}
