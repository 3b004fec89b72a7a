/*
 * localdir, ended by SIGKILL before each single system call of a scenario, and with each of them failing once: what
 * was acknowledged stays, what is there is whole, what failed has left nothing.
 *
 * A child runs the scenario under ptrace; this process counts its system calls and kills it at the nth, or has the
 * nth file system call fail with EIO or ENOSPC without being made. What a power loss takes is not covered (the order
 * of data and names that guards against it is told in backend/localdir.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/object_store.h"
#include "common/defs.h"
#include "common/log.h"
#include "tests/lib/store_suite.h"

#define N_OPS \
	16 /* content of the object made by op i: 1000 * i + 17 bytes of seed i; a copy of it has op 100 + i */

enum key { KEY_AB, KEY_AC, KEY_DE, KEY_F, N_KEYS };
static const char *const keys[N_KEYS] = { "a/b", "a/c", "d/e", "f" };
static const char precious[] = "precious"; /* a foreign file at f */

/* What the child got acknowledged; shared memory. */
struct acks {
	unsigned int n, n_calls_failed;
	char ids[32][OBJECT_VERSION_MAX + 1];
	bool deleting[32];
	int top[N_KEYS]; /* index of a version, or one of: */
#define TOP_NOTHING -1
#define TOP_FOREIGN -2
#define TOP_UNKNOWN -3
	bool finished;
};

struct trace {
	bool nosync;
	unsigned int nth;
	int err; /* 0: kill */
};

/* --- the scenario, in the child --- */

static size_t content(unsigned int op, char buf[static 20000])
{
	size_t len = 1000 * op + 17;

	store_test_fill(buf, len, op);
	return len;
}

static bool acked(struct acks *a, enum key key, int r, const struct object_info *info)
{
	if (r < 0) {
		a->n_calls_failed++;
		return false;
	}
	strcpy(a->ids[a->n], info->version);
	a->top[key] = (int)a->n++;
	return true;
}

static bool put(struct object_store *s, struct acks *a, enum key key, unsigned int op)
{
	struct object_meta meta = store_test_meta(op);
	struct object_info info;
	char buf[20000];
	size_t len = content(op, buf);

	return acked(a, key, object_put(s, NULL, NULL, keys[key], buf, len, &meta, &info), &info);
}

static bool upload(struct object_store *s, struct acks *a, enum key key, unsigned int op, bool complete)
{
	struct object_meta meta = store_test_meta(op);
	struct object_upload *u;
	struct object_info info;
	char buf[20000];
	size_t len = content(op, buf), half = len / 2;
	int r = object_upload_begin(s, NULL, NULL, keys[key], &meta, &u);

	if (r < 0)
		return acked(a, key, r, NULL);
	r = object_upload_part(u, NULL, 2, half, buf + half, len - half);
	if (!r)
		r = object_upload_part(u, NULL, 1, 0, buf, half);
	if (r < 0 || !complete) {
		object_upload_abort(u, NULL);
		return r < 0 && acked(a, key, r, NULL);
	}
	return acked(a, key, object_upload_complete(u, NULL, len, &meta, &info), &info);
}

static bool copy(struct object_store *s, struct acks *a, unsigned int from, enum key from_key, enum key to,
		 unsigned int op)
{
	struct object_meta meta = store_test_meta(100 + op);
	struct object_ref ref = store_test_ref(keys[from_key], a->ids[from]);
	struct object_info info;
	int r = object_copy(s, NULL, &ref, NULL, keys[to], &meta, &info);

	if (!r && to == from_key) { /* no new version */
		a->top[to] = (int)from;
		return true;
	}
	return acked(a, to, r, &info);
}

static void delete (struct object_store *s, struct acks *a, unsigned int i, enum key key)
{
	struct object_ref ref = store_test_ref(keys[key], a->ids[i]);
	int top = a->top[key];

	a->deleting[i] = true;
	if (top == (int)i)
		a->top[key] = TOP_UNKNOWN;
	if (object_delete_version(s, NULL, &ref) < 0)
		a->n_calls_failed++;
	else if (top == (int)i)
		a->top[key] = TOP_NOTHING;
}

static void marker(struct object_store *s, struct acks *a, enum key key)
{
	a->top[key] = TOP_UNKNOWN;
	if (object_put_marker(s, NULL, NULL, keys[key]) < 0)
		a->n_calls_failed++;
	else
		a->top[key] = TOP_NOTHING;
}

static void scenario(const char *dir, bool nosync, struct acks *a)
{
	const struct localdir_options opt = { .nosync = nosync };
	struct object_info info;
	struct object_store *s;
	unsigned int first;

	if (localdir_store_open(dir, &opt, &s) < 0) {
		a->n_calls_failed++;
		return;
	}
	if (!put(s, a, KEY_AB, 1))
		goto out;
	first = a->n - 1;
	put(s, a, KEY_AB, 2);
	upload(s, a, KEY_AC, 3, true);
	upload(s, a, KEY_AC, 4, false);
	put(s, a, KEY_F, 5); /* over the foreign file */
	if (copy(s, a, first, KEY_AB, KEY_DE, 1))
		delete (s, a, a->n - 1, KEY_DE); /* the file gets its former label back */
	if (!copy(s, a, first, KEY_AB, KEY_AB, 1))
		goto out;
	if (object_head(s, NULL, NULL, keys[KEY_AB], NULL, &info) < 0)
		a->n_calls_failed++;
	marker(s, a, KEY_AC);
	put(s, a, KEY_AC, 6);
	put(s, a, KEY_AC, 7);
	if (a->top[KEY_AC] >= 0)
		delete (s, a, (unsigned int)a->top[KEY_AC], KEY_AC);
out:
	object_store_free(s);
	a->finished = true;
}

/* --- the tracer --- */

/* File system calls that can fail for reasons of the disk. */
static bool may_fail(long nr)
{
	static const long calls[] = {
		SYS_openat,	SYS_openat2,   SYS_linkat,    SYS_unlinkat,	   SYS_renameat,
		SYS_mkdirat,	SYS_fsync,     SYS_fdatasync, SYS_sync_file_range, SYS_pwrite64,
		SYS_pread64,	SYS_fchmod,    SYS_fchown,    SYS_utimensat,	   SYS_fsetxattr,
		SYS_fgetxattr,	SYS_ftruncate, SYS_fallocate, SYS_copy_file_range, SYS_getdents64,
		SYS_faccessat,	SYS_fstat,
#ifdef SYS_newfstatat
		SYS_newfstatat,
#endif
	};

	for (size_t i = 0; i < MFS_ARRAY_LEN(calls); i++)
		if (calls[i] == nr)
			return true;
	return false;
}

static void set_syscall(pid_t pid, bool entry, long value)
{
#ifdef __x86_64__
	size_t reg = entry ? offsetof(struct user, regs.orig_rax) : offsetof(struct user, regs.rax);

	assert_int_equal(ptrace(PTRACE_POKEUSER, pid, (void *)reg, (void *)value), 0);
#else
	(void)pid;
	(void)entry;
	(void)value;
#endif
}

static int next_stop(pid_t pid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* True: the nth call was met (and the child killed, or the call failed). */
static bool follow(pid_t pid, const struct trace *t)
{
	struct __ptrace_syscall_info info;
	unsigned int n = 0;
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(
		ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)), 0);
	for (;;) {
		status = next_stop(pid);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return n >= t->nth;
		}
		assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80));
		assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) > 0);
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY || (t->err && !may_fail((long)info.entry.nr)) ||
		    ++n != t->nth)
			continue;
		if (!t->err) {
			kill(pid, SIGKILL);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			return true;
		}
		set_syscall(pid, true, -1);
		status = next_stop(pid);
		assert_true(WIFSTOPPED(status));
		set_syscall(pid, false, -t->err);
	}
}

static bool run(const char *dir, const struct trace *t, struct acks *a)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO); /* what it logs is expected */
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		scenario(dir, t->nosync, a);
		_exit(0);
	}
	return follow(pid, t);
}

/* --- what must be true afterwards --- */

struct found {
	struct object_store *s;
	struct acks *a;
	bool seen[32], precious_kept;
	unsigned int n_unknown;
};

static void expect_whole(struct object_store *s, const char *key, const struct object_info *info)
{
	char buf[20000];
	size_t len;

	assert_true(info->own);
	len = content((unsigned int)info->op % 100, buf);
	store_test_expect(s, key, info->version, buf, len);
}

static int see_version(void *arg, const char *key, const struct object_info *info)
{
	struct found *f = arg;

	(void)key;
	if (!info->own) {
		store_test_expect(f->s, "f", info->version, precious, strlen(precious));
		f->precious_kept = true;
		return 0;
	}
	expect_whole(f->s, "a/b", info);
	for (unsigned int i = 0; i < f->a->n; i++) {
		if (strcmp(f->a->ids[i], info->version) != 0)
			continue;
		f->seen[i] = true;
		return 0;
	}
	f->n_unknown++;
	return 0;
}

static int see_key(void *arg, const char *key, const struct object_info *info)
{
	struct found *f = arg;

	if (!info->own) {
		assert_string_equal(key, "f");
		assert_int_equal(info->size, strlen(precious));
		f->precious_kept = true;
		return 0;
	}
	expect_whole(f->s, key, info);
	return 0;
}

static void check_tops(struct object_store *s, const struct acks *a)
{
	for (unsigned int k = 0; k < N_KEYS; k++) {
		struct object_info info;
		int r;

		if (a->top[k] == TOP_UNKNOWN)
			continue;
		r = object_head(s, NULL, NULL, keys[k], NULL, &info);
		assert_int_equal(r, a->top[k] == TOP_NOTHING ? -ENOENT : 0);
		if (a->top[k] == TOP_FOREIGN)
			assert_false(info.own);
		if (a->top[k] >= 0)
			assert_string_equal(info.version, a->ids[a->top[k]]);
	}
}

static void check(const char *dir, struct acks *a, bool killed)
{
	const struct localdir_options opt = { .nosync = true };
	struct found f = { .a = a };
	uint64_t n;

	assert_int_equal(localdir_store_open(dir, &opt, &f.s), 0);
	assert_int_equal(object_list_versions(f.s, NULL, NULL, see_version, &f), 0);
	assert_int_equal(object_list_keys(f.s, NULL, NULL, "", see_key, &f), 0);
	assert_true(f.precious_kept);
	for (unsigned int i = 0; i < a->n; i++)
		assert_true(f.seen[i] || a->deleting[i]);
	if (killed) {
		assert_true(f.n_unknown <= 1); /* the one that was under way */
	} else {
		assert_true(a->finished || !a->n);
		assert_int_equal(f.n_unknown, 0);
		check_tops(f.s, a);
	}
	assert_int_equal(object_sweep(f.s, NULL, true, &n, NULL), 0);
	assert_true(n <= 2);
	assert_int_equal(object_sweep(f.s, NULL, false, &n, NULL), 0);
	assert_int_equal(n, 0);
	/* And all goes on. */
	for (unsigned int k = 0; k < N_KEYS; k++) {
		struct object_info info = store_test_put(f.s, keys[k], "x", 1), top;

		assert_false(info.not_shown);
		assert_int_equal(object_head(f.s, NULL, NULL, keys[k], NULL, &top), 0);
		assert_string_equal(top.version, info.version);
	}
	object_store_free(f.s);
}

static char *new_volume(void)
{
	const struct localdir_options opt = { .create = true, .nosync = true };
	char *dir = store_test_dir(), path[256];
	struct object_store *s;
	FILE *f;

	assert_int_equal(localdir_store_open(dir, &opt, &s), 0);
	object_store_free(s);
	snprintf(path, sizeof(path), "%s/objects/f", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(precious, f) >= 0);
	fclose(f);
	return dir;
}

static void loop(bool nosync, int err)
{
	struct acks *a = mmap(NULL, sizeof(*a), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const unsigned int step = getenv("MASSFS_LONG") ? 1 : 7, first = 1 + (unsigned int)time(NULL) % step;
	struct trace t = { .nosync = nosync, .nth = first, .err = err };
	bool met = true;

	assert_ptr_not_equal(a, MAP_FAILED);
	assert_int_equal(mfs_log_to_file("/dev/null"),
			 0); /* what it says about the foreign file is expected */
	for (; met; t.nth += step) {
		char *dir = new_volume();

		*a = (struct acks){ .top = { TOP_NOTHING, TOP_NOTHING, TOP_NOTHING, TOP_FOREIGN } };
		met = run(dir, &t, a);
		check(dir, a, met && !err);
		store_test_remove(dir);
	}
	assert_true(a->finished && !a->n_calls_failed); /* the last round went undisturbed */
	assert_true(t.nth > 100);
	print_message("places %u, %u, %u ... %u\n", first, first + step, first + 2 * step, t.nth - 2 * step);
	mfs_log_to_stderr();
	munmap(a, sizeof(*a));
}

static bool can_trace(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static void test_kill_at_any_call__leaves_what_was_acknowledged(void **state)
{
	(void)state;
	if (!can_trace())
		skip(); /* ptrace is not allowed here */
	loop(true, 0);
	loop(false, 0);
}

static void test_any_call_fails__and_nothing_half_is_left(void **state)
{
	(void)state;
#ifndef __x86_64__
	skip(); /* how a system call is made to fail is known for x86-64 only */
#endif
	if (!can_trace())
		skip();
	loop(true, ENOSPC);
	loop(false, EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill_at_any_call__leaves_what_was_acknowledged),
		cmocka_unit_test(test_any_call_fails__and_nothing_half_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
