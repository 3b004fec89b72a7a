/*
 * The sqlite engine when things go wrong beneath it: system calls and allocations that fail, a kill in the middle, a
 * power loss that keeps only a part of the log; and what it syncs when.
 *
 * This program has its own fdatasync() and fsync(), which take precedence over libc's for SQLite and the engine alike.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/lib/engine_suite.h"

#define INLINE 12000
#define REG 0100644

/* Faults: the nth call in this thread fails with err; 0: none. */
static _Thread_local unsigned int write_nth, read_nth, alloc_nth, hits;
static _Thread_local int write_err;
static atomic_uint n_syncs, n_sync_calls_to_fail;

int fdatasync(int fd)
{
	atomic_fetch_add(&n_syncs, 1);
	if (atomic_load(&n_sync_calls_to_fail)) {
		atomic_fetch_sub(&n_sync_calls_to_fail, 1);
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
	atomic_fetch_add(&n_syncs, 1);
	return (int)syscall(SYS_fsync, fd);
}

static bool fails(unsigned int *nth)
{
	if (*nth == 0 || --*nth)
		return false;
	hits++;
	return true;
}

/* SQLite calls the first three through a table that it lets us change, and the allocator through another. */

static ssize_t faulty_pwrite(int fd, const void *p, size_t n, off_t off)
{
	if (fails(&write_nth)) {
		errno = write_err;
		return -1;
	}
	return pwrite(fd, p, n, off);
}

static ssize_t faulty_pread(int fd, void *p, size_t n, off_t off)
{
	if (fails(&read_nth)) {
		errno = EIO;
		return -1;
	}
	return pread(fd, p, n, off);
}

static sqlite3_mem_methods real_alloc;

static void *faulty_malloc(int n)
{
	return fails(&alloc_nth) ? NULL : real_alloc.xMalloc(n);
}

static void *faulty_realloc(void *p, int n)
{
	return fails(&alloc_nth) ? NULL : real_alloc.xRealloc(p, n);
}

static void install_faults(void)
{
	sqlite3_mem_methods m;
	sqlite3_vfs *vfs;

	assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_alloc), SQLITE_OK);
	m = real_alloc;
	m.xMalloc = faulty_malloc;
	m.xRealloc = faulty_realloc;
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &m), SQLITE_OK);
	assert_int_equal(sqlite3_initialize(), SQLITE_OK);
	vfs = sqlite3_vfs_find(NULL);
	/* A build has pread or pread64; the other name is not known then. */
	(void)vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)faulty_pwrite);
	(void)vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)faulty_pwrite);
	(void)vfs->xSetSystemCall(vfs, "pread", (sqlite3_syscall_ptr)faulty_pread);
	(void)vfs->xSetSystemCall(vfs, "pread64", (sqlite3_syscall_ptr)faulty_pread);
}

static int open_at(const char *path, bool nosync, struct engine **ret)
{
	const struct sqlite_options opt = { .create = true, .nosync = nosync, .cache_bytes = 1 };

	return sqlite_engine_open(path, &opt, ret);
}

static int open_in(const char *dir, bool nosync, struct engine **ret)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/index.db", dir);
	return open_at(path, nosync, ret);
}

static int open_nosync(const char *dir, void **shared, struct engine **ret)
{
	(void)shared;
	return open_in(dir, true, ret);
}

static int open_sync(const char *dir, void **shared, struct engine **ret)
{
	(void)shared;
	return open_in(dir, false, ret);
}

static const struct engine_kind kind_nosync = { .name = "sqlite,nosync", .open = open_nosync, .persists = true };
static const struct engine_kind kind_sync = { .name = "sqlite", .open = open_sync, .persists = true };

static const char *test_text(const char *prefix, unsigned int n)
{
	static _Thread_local char text[64];

	snprintf(text, sizeof(text), "%s%u", prefix, n);
	return text;
}

/*
 * A change of many parts: a file with a big xattr, a tag and inline bytes, a link, a parent, a job, a version, two
 * documents, three dropped things. Everything is there afterwards or nothing is.
 */
struct big_change {
	struct node n;
	struct alias alias;
	struct job_record job;
	struct version_record version;
	struct slices_doc_record docs[2];
	struct dropped_record dropped[3];
	struct change c;
};

static void big_change_make(struct big_change *b, struct engine *e, unsigned int n)
{
	static char value[20000];
	struct write *w;

	memset(b, 0, sizeof(*b));
	b->n = test_node(e, MFS_ROOT_INO, test_text("file", n), REG);
	TEST_OK(node_xattr_set(&b->n, "user.big", value, sizeof(value)));
	TEST_OK(node_xattr_set(&b->n, "user.tag", "v", 1));
	b->n.inline_data = (struct node_blob){ malloc(INLINE), INLINE };
	assert_non_null(b->n.inline_data.data);
	memset(b->n.inline_data.data, 'i', INLINE);
	b->n.todo = n;
	b->alias = (struct alias){ .id = test_number(e), .parent = MFS_ROOT_INO, .target = b->n.attr.ino };
	b->alias.name = test_name(test_text("link", n));
	b->job = (struct job_record){ .kind = JOB_KEY, .key = strdup(test_text("key", n)) };
	b->version = (struct version_record){ .ino = b->n.attr.ino, .data = 1, .path = b->job.key };
	change_write(&b->c, WRITE_INSERT, b->n.attr.ino)->node = &b->n;
	change_write(&b->c, WRITE_ALIAS_INSERT, b->alias.id)->alias = &b->alias;
	change_write(&b->c, WRITE_JOB_PUT, 0)->job = &b->job;
	change_write(&b->c, WRITE_VERSION_PUT, 0)->version = &b->version;
	for (unsigned int i = 0; i < 2; i++)
		b->docs[i] = (struct slices_doc_record){ .ino = b->n.attr.ino, .id = 1 + i, .blob = { value, 5000 } };
	w = change_write(&b->c, WRITE_SLICES_PUT, 0);
	w->slices = b->docs;
	w->n = 2;
	for (unsigned int i = 0; i < 3; i++)
		b->dropped[i] = (struct dropped_record){ .ino = b->n.attr.ino, .doc_id = 1 + i };
	w = change_write(&b->c, WRITE_DROPPED_PUT, 0);
	w->dropped = b->dropped;
	w->n = 3;
	change_touch(&b->c, MFS_ROOT_INO, (int64_t)n + 1, 2, TOUCH_MUST_EXIST);
}

static void big_change_release(struct big_change *b)
{
	node_release(&b->n);
	job_record_release(&b->job);
}

/* `with_content`: how many such files there are by now. */
static void big_change_expect_content(struct engine *e, const struct big_change *b, bool there, uint64_t with_content)
{
	uint64_t records = 0, bytes = 0;
	struct slices_doc_list docs = { 0 };
	struct dropped_list dropped = { 0 };
	struct node n = NODE_INIT;
	size_t mine = 0;

	if (there) {
		test_get(e, b->n.attr.ino, &n);
		assert_int_equal(n.inline_data.size, INLINE);
		assert_memory_equal(n.inline_data.data, b->n.inline_data.data, INLINE);
		node_release(&n);
	}
	TEST_OK(engine_todo_count(e, NULL, &records, &bytes));
	assert_int_equal(bytes, records * INLINE);
	assert_true(records >= with_content);
	TEST_OK(engine_slices_all(e, NULL, b->n.attr.ino, 0, 10, &docs));
	for (size_t i = 0; i < docs.n; i++)
		mine += docs.v[i].ino == b->n.attr.ino;
	assert_int_equal(mine, there ? 2 : 0);
	slices_doc_list_release(&docs);
	TEST_OK(engine_dropped(e, NULL, INT64_MAX, b->n.attr.ino, 1000, &dropped));
	mine = 0;
	for (size_t i = 0; i < dropped.n; i++)
		mine += dropped.v[i].ino == b->n.attr.ino;
	assert_int_equal(mine, there ? 3 : 0);
	dropped_list_release(&dropped);
}

static void big_change_expect(struct engine *e, const struct big_change *b, bool there, uint32_t children,
			      uint64_t jobs)
{
	struct version_list l = { 0 };
	uint64_t n = 0;

	assert_int_equal(test_find(e, MFS_ROOT_INO, b->n.name.bytes), there ? b->n.attr.ino : 0);
	assert_int_equal(test_find(e, MFS_ROOT_INO, b->alias.name.bytes), there ? b->alias.id : 0);
	assert_int_equal(test_attr(e, MFS_ROOT_INO).children, children + (there ? 2 : 0));
	TEST_OK(engine_jobs_count(e, NULL, &n));
	assert_int_equal(n, jobs + there);
	TEST_OK(engine_versions_by_ino(e, NULL, b->n.attr.ino, &l));
	assert_int_equal(l.n, there);
	version_list_release(&l);
	big_change_expect_content(e, b, there, jobs + there);
}

/* Run big changes, the nth one with the nth call failing, until none fails any more. */
static unsigned int fault_loop(struct engine_fixture *f, unsigned int *nth, int err, unsigned int base)
{
	uint32_t children = test_attr(f->e, MFS_ROOT_INO).children;
	uint64_t jobs = 0;
	unsigned int failed = 0, clean = 0, n;

	TEST_OK(engine_jobs_count(f->e, NULL, &jobs));
	for (n = 1; clean < 3; n++) {
		struct big_change b;
		int r;

		big_change_make(&b, f->e, base + n);
		hits = 0;
		*nth = n;
		r = engine_apply(f->e, NULL, &b.c);
		*nth = 0;
		if (hits == 0)
			assert_int_equal(r, 0);
		if (r < 0)
			assert_int_equal(r, -err);
		failed += r < 0;
		clean = hits ? 0 : clean + 1;
		big_change_expect(f->e, &b, r == 0, children, jobs);
		children += r == 0 ? 2 : 0;
		jobs += r == 0;
		/* The engine goes on: what failed can be done again. */
		if (r < 0 && n % 5 == 0) {
			b.c.id = (struct op_id){ 0 };
			TEST_OK(engine_apply(f->e, NULL, &b.c));
			children += 2;
			jobs++;
		}
		big_change_release(&b);
		assert_true(n < 5000);
	}
	return failed;
}

static void expect_sound(struct engine_fixture *f);

static void test_write_fault__leaves_all_or_nothing(void **state)
{
	struct engine_fixture *f = *state;

	write_err = EIO;
	assert_true(fault_loop(f, &write_nth, EIO, 0) > 0);
	write_err = ENOSPC;
	assert_true(fault_loop(f, &write_nth, ENOSPC, 10000) > 0);
	expect_sound(f);
}

static void test_full_disk__is_enospc_and_loses_nothing(void **state)
{
	struct engine_fixture *f = *state;
	struct big_change a, b;

	big_change_make(&a, f->e, 1);
	big_change_make(&b, f->e, 2);
	TEST_OK(engine_apply(f->e, NULL, &a.c));
	for (int i = 0; i < 3; i++) {
		write_err = ENOSPC;
		write_nth = 1;
		assert_int_equal(engine_apply(f->e, NULL, &b.c), -ENOSPC);
		write_nth = 0;
		big_change_expect(f->e, &b, false, 2, 1);
	}
	engine_fixture_reopen(f);
	big_change_expect(f->e, &a, true, 0, 0);
	TEST_OK(engine_apply(f->e, NULL, &b.c));
	expect_sound(f);
	big_change_release(&a);
	big_change_release(&b);
}

static void test_read_fault__is_eio_and_leaves_all_or_nothing(void **state)
{
	struct engine_fixture *f = *state;

	/* A cache of nearly nothing, so that there is something to read. */
	for (unsigned int i = 0; i < 300; i++) {
		struct big_change b;

		big_change_make(&b, f->e, 100000 + i);
		b.c.n_touches = 0;
		b.c.n_writes = 1;
		TEST_OK(engine_apply(f->e, NULL, &b.c));
		big_change_release(&b);
	}
	engine_fixture_reopen(f);
	(void)fault_loop(f, &read_nth, EIO, 0);
	expect_sound(f);
}

static void test_memory_fault__is_enomem_and_leaves_all_or_nothing(void **state)
{
	struct engine_fixture *f = *state;

	(void)fault_loop(f, &alloc_nth, ENOMEM, 0);
	expect_sound(f);
}

static void test_memory_fault__at_open_and_in_reads(void **state)
{
	struct engine_fixture *f = *state;
	char *path = NULL;
	unsigned int failed = 0;

	assert_true(asprintf(&path, "%s/other.db", f->dir) > 0);
	/* Every place at the start, then about three hundred spread over the rest. */
	for (unsigned int n = 1;; n += 1 + n / 64) {
		struct engine *e = NULL;
		struct node_list l = NODE_LIST_INIT;
		int r;

		hits = 0;
		alloc_nth = n;
		r = open_at(path, true, &e);
		if (r == 0)
			r = engine_list(e, NULL, MFS_ROOT_INO, 0, 10, &l);
		alloc_nth = 0;
		node_list_release(&l);
		if (r < 0)
			assert_true(r == -ENOMEM || r == -EIO);
		engine_free(e);
		failed += r < 0;
		if (!hits)
			break;
		assert_true(n < 100000);
	}
	assert_true(failed > 10);
	free(path);
}

/* Kill -9 in the middle: what was answered is there, each change whole. */

static void work_until_killed(const char *dir, int pipe_fd, unsigned int seed)
{
	struct engine *e = NULL;

	if (open_in(dir, false, &e) < 0)
		_exit(1);
	for (unsigned int i = 0;; i++) {
		struct big_change b;
		unsigned int n = seed + i;

		big_change_make(&b, e, n);
		b.c.durable = i % 16 == 15;
		if (engine_apply(e, NULL, &b.c) < 0 || write(pipe_fd, &n, sizeof(n)) != sizeof(n))
			_exit(2);
		big_change_release(&b);
	}
}

static void test_kill__keeps_what_was_answered(void **state)
{
	struct engine_fixture *f = *state;
	unsigned int rounds = engine_fixture_rounds(f) / 50, seed = 0;

	for (unsigned int round = 0; round < rounds + 1; round++) {
		unsigned int n, last = seed;
		uint64_t jobs = 0;
		int p[2], status;
		pid_t pid;

		engine_free(f->e);
		assert_int_equal(pipe(p), 0);
		pid = fork(); /* with nothing of SQLite open */
		if (pid == 0)
			work_until_killed(f->dir, p[1], seed);
		close(p[1]);
		for (unsigned int k = 0; k < 20 + round * 37 % 200; k++) {
			assert_int_equal(read(p[0], &n, sizeof(n)), sizeof(n));
			last = n + 1;
		}
		kill(pid, SIGKILL);
		while (read(p[0], &n, sizeof(n)) == (ssize_t)sizeof(n))
			last = n + 1;
		close(p[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		TEST_OK(open_in(f->dir, false, &f->e));
		f->two = f->e;
		f->e->session = 101;
		for (n = seed; n < last; n++)
			assert_int_not_equal(test_find(f->e, MFS_ROOT_INO, test_text("link", n)), 0);
		/* One more may be there that was not answered; whole. */
		n += test_find(f->e, MFS_ROOT_INO, test_text("file", n)) != 0;
		TEST_OK(engine_jobs_count(f->e, NULL, &jobs));
		assert_int_equal(jobs, n);
		assert_int_equal(test_attr(f->e, MFS_ROOT_INO).children, 2 * n);
		seed = n;
	}
	expect_sound(f);
}

/* Power loss: the log is cut at any place, or has a hole; what is left is a prefix, with all that was durable. */

static void copy_file(const char *from, const char *to, off_t len, off_t hole)
{
	char buf[4096] = { 0 };
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	for (off_t off = 0; off < len && (n = read(in, buf, sizeof(buf))) > 0; off += n)
		assert_int_equal(write(out, buf, (size_t)MFS_MIN((off_t)n, len - off)), MFS_MIN((off_t)n, len - off));
	memset(buf, 0, sizeof(buf));
	if (hole && hole + 512 < len)
		assert_int_equal(pwrite(out, buf, 512, hole), 512);
	close(in);
	close(out);
}

/* How often the log has been started again: a number in its header. */
static unsigned int restarts_of(const char *wal)
{
	unsigned char b[4] = { 0 };
	int fd = open(wal, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, b, 4, 12), 4);
	close(fd);
	return (unsigned int)b[0] << 24 | (unsigned int)b[1] << 16 | (unsigned int)b[2] << 8 | b[3];
}

static off_t length_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : 0;
}

static void test_power_loss__leaves_a_prefix_with_all_that_was_durable(void **state)
{
	struct engine_fixture *f = *state;
	enum { CHANGES = 60 };
	char *db = NULL, *wal = NULL, *dir = NULL, *db2 = NULL, *wal2 = NULL;
	off_t after[CHANGES];
	unsigned int durable = 0, random = 12345;

	assert_true(asprintf(&db, "%s/index.db", f->dir) > 0 && asprintf(&wal, "%s/index.db-wal", f->dir) > 0);
	assert_true(asprintf(&dir, "%s/copy", f->dir) > 0 && asprintf(&db2, "%s/copy/index.db", f->dir) > 0);
	assert_true(asprintf(&wal2, "%s/copy/index.db-wal", f->dir) > 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	engine_fixture_reopen(f); /* with an empty log */
	for (unsigned int i = 0; i < CHANGES; i++) {
		struct change c = { .durable = i == 20 };
		struct node n = test_node(f->e, MFS_ROOT_INO, test_text("f", i), REG);

		change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
		change_touch(&c, MFS_ROOT_INO, 1, 1, 0);
		TEST_OK(engine_apply(f->e, NULL, &c));
		after[i] = length_of(wal);
		if (c.durable)
			durable = i + 1;
	}
	for (int round = 0; round < 60; round++) {
		off_t whole = after[CHANGES - 1], cut, hole;
		unsigned int there = 0;
		struct engine *e = NULL;

		random = random * 1103515245u + 12345u;
		cut = after[durable - 1] + (off_t)(random % (unsigned int)(whole - after[durable - 1] + 1));
		hole = round % 2 ? after[durable - 1] + (off_t)(random >> 3) % (whole - after[durable - 1]) : 0;
		copy_file(db, db2, length_of(db), 0);
		copy_file(wal, wal2, cut, hole);
		TEST_OK(open_in(dir, true, &e));
		while (there < CHANGES && test_find(e, MFS_ROOT_INO, test_text("f", there)))
			there++;
		assert_true(there >= durable);
		for (unsigned int i = there; i < CHANGES; i++)
			assert_int_equal(test_find(e, MFS_ROOT_INO, test_text("f", i)), 0);
		assert_int_equal(test_attr(e, MFS_ROOT_INO).children, there);
		engine_free(e);
	}
	free(db);
	free(wal);
	free(db2);
	free(wal2);
	free(dir);
}

/* What is synced. */

static unsigned int syncs_of(struct engine *e, mfs_ino_t ino, bool durable)
{
	struct change c = { .durable = durable };
	unsigned int before = atomic_load(&n_syncs);

	change_write(&c, WRITE_EDIT, ino)->nlink_delta = 1;
	TEST_OK(engine_apply(e, NULL, &c));
	return atomic_load(&n_syncs) - before;
}

static void test_sync__is_done_for_durable_changes_only(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	unsigned int before;

	(void)syncs_of(f->e, a, true);
	assert_int_equal(syncs_of(f->e, a, false), 0);
	assert_int_equal(syncs_of(f->e, a, false), 0);
	assert_int_equal(syncs_of(f->e, a, true), 1);
	/* Nothing new: nothing to do. */
	before = atomic_load(&n_syncs);
	TEST_OK(engine_sync(f->e, NULL));
	assert_int_equal(atomic_load(&n_syncs), before);
	(void)syncs_of(f->e, a, false);
	TEST_OK(engine_sync(f->e, NULL));
	assert_int_equal(atomic_load(&n_syncs), before + 1);
}

static void test_sync__is_never_done_with_nosync(void **state)
{
	struct engine_fixture *f = *state;
	unsigned int before = atomic_load(&n_syncs);
	char *wal = NULL;

	/* Enough for checkpoints and restarts of the log. */
	for (unsigned int i = 0; i < 3000; i++) {
		struct big_change b;

		big_change_make(&b, f->e, i);
		b.c.durable = i % 100 == 0;
		TEST_OK(engine_apply(f->e, NULL, &b.c));
		big_change_release(&b);
	}
	TEST_OK(engine_sync(f->e, NULL));
	assert_true(asprintf(&wal, "%s/index.db-wal", f->dir) > 0);
	assert_true(length_of(wal) > 0);
	assert_true(length_of(wal) < 100 * 1024 * 1024);
	free(wal);
	engine_fixture_reopen(f);
	assert_int_equal(atomic_load(&n_syncs), before);
	assert_int_equal(test_attr(f->e, MFS_ROOT_INO).children, 6000);
}

/* A commit that starts the log again after a checkpoint is as durable as any. */
static void test_sync__covers_a_restarted_log(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	char *db = NULL, *wal = NULL, *dir = NULL, *db2 = NULL, *wal2 = NULL;
	unsigned int first;

	assert_true(asprintf(&db, "%s/index.db", f->dir) > 0 && asprintf(&wal, "%s/index.db-wal", f->dir) > 0);
	assert_true(asprintf(&dir, "%s/copy", f->dir) > 0 && asprintf(&db2, "%s/copy/index.db", f->dir) > 0);
	assert_true(asprintf(&wal2, "%s/copy/index.db-wal", f->dir) > 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	first = restarts_of(wal);
	for (unsigned int i = 0; i < 4000; i++) {
		struct big_change b;

		big_change_make(&b, f->e, i);
		TEST_OK(engine_apply(f->e, NULL, &b.c));
		big_change_release(&b);
		if (i % 500 == 499) {
			struct timespec pause = { .tv_nsec = 100000000 }; /* the checkpoint gets to the end */
			struct engine *e = NULL;

			nanosleep(&pause, NULL);
			(void)syncs_of(f->e, a, true);
			copy_file(db, db2, length_of(db), 0);
			copy_file(wal, wal2, length_of(wal), 0);
			TEST_OK(open_in(dir, true, &e));
			assert_int_equal(test_attr(e, a).nlink, test_attr(f->e, a).nlink);
			assert_int_equal(test_attr(e, MFS_ROOT_INO).children, 2 * (i + 1) + 1);
			engine_free(e);
		}
	}
	assert_true(restarts_of(wal) > first);
	free(db);
	free(wal);
	free(db2);
	free(wal2);
	free(dir);
}

static void test_failed_sync__is_not_forgotten(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { .durable = true };
	struct node n;

	change_write(&c, WRITE_EDIT, a)->nlink_delta = 1;
	atomic_store(&n_sync_calls_to_fail, 1);
	assert_int_equal(engine_apply(f->e, NULL, &c), -EIO);
	/* The next fdatasync would succeed, and lie. */
	assert_int_equal(engine_sync(f->e, NULL), -EIO);
	assert_int_equal(engine_apply(f->e, NULL, &c), -EIO);
	c.durable = false;
	assert_int_equal(engine_apply(f->e, NULL, &c), -EIO);
	test_get(f->e, a, &n); /* what is there can be read */
	node_release(&n);
	engine_fixture_reopen(f);
	TEST_OK(engine_apply(f->e, NULL, &c));
}

static void report(void *arg, const char *text)
{
	print_message("%s\n", text);
	++*(int *)arg;
}

static void expect_sound(struct engine_fixture *f)
{
	int faults = 0;

	engine_fixture_reopen(f);
	TEST_OK(engine_check(f->e, NULL, report, &faults));
	assert_int_equal(faults, 0);
}

#define T(test, kind)                                                                                              \
	cmocka_unit_test_prestate_setup_teardown(test, engine_fixture_setup, engine_fixture_teardown,              \
						 (void *)(uintptr_t) & (kind))

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_write_fault__leaves_all_or_nothing, kind_nosync),
		T(test_full_disk__is_enospc_and_loses_nothing, kind_nosync),
		T(test_read_fault__is_eio_and_leaves_all_or_nothing, kind_nosync),
		T(test_memory_fault__is_enomem_and_leaves_all_or_nothing, kind_nosync),
		T(test_memory_fault__at_open_and_in_reads, kind_nosync),
		T(test_kill__keeps_what_was_answered, kind_sync),
		T(test_power_loss__leaves_a_prefix_with_all_that_was_durable, kind_sync),
		T(test_sync__is_done_for_durable_changes_only, kind_sync),
		T(test_sync__is_never_done_with_nosync, kind_nosync),
		T(test_sync__covers_a_restarted_log, kind_sync),
		T(test_failed_sync__is_not_forgotten, kind_sync),
	};

	install_faults();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
