/*
 * localdir on disk: what lies where, foreign files in the view, leftovers, other users, limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/localdir.h"
#include "common/log.h"
#include "common/str.h"
#include "tests/lib/store_suite.h"

struct fixture {
	char *dir;
	struct object_store *s;
};

static int open_store(struct fixture *f)
{
	const struct localdir_options opt = { .create = true, .nosync = true };

	return localdir_store_open(f->dir, &opt, &f->s);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	f->dir = store_test_dir();
	*state = f;
	return open_store(f);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	object_store_free(f->s);
	store_test_remove(f->dir);
	free(f);
	return 0;
}

/* A path below the volume; owned by a ring of buffers. */
static const char *at(const struct fixture *f, const char *path)
{
	static char bufs[4][2048];
	static unsigned int n;
	char *buf = bufs[n++ % 4];

	assert_true((size_t)snprintf(buf, sizeof(bufs[0]), "%s/%s", f->dir, path) < sizeof(bufs[0]));
	return buf;
}

static const char *version_file(const struct fixture *f, const char *id)
{
	char path[256];

	snprintf(path, sizeof(path), ".massfs/v/%.2s/%s", id + 17, id);
	return at(f, path);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void expect_file(const char *path, const char *text)
{
	char buf[256] = "";
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	assert_int_equal(fread(buf, 1, sizeof(buf) - 1, file), strlen(text));
	assert_string_equal(buf, text);
	fclose(file);
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st;
}

/* Versions that massfs did not make; the last one's info. */
struct foreign {
	unsigned int n;
	struct object_info info;
};

static int see_foreign(void *arg, const char *key, const struct object_info *info)
{
	struct foreign *f = arg;

	(void)key;
	if (info->own)
		return 0;
	f->n++;
	f->info = *info;
	return 0;
}

static struct foreign find_foreign(struct object_store *s)
{
	struct foreign found = { 0 };

	assert_int_equal(object_list_versions(s, NULL, NULL, see_foreign, &found), 0);
	return found;
}

/* --- what lies where --- */

static void test_view__is_a_hard_link_to_the_read_only_version(void **state)
{
	struct fixture *f = *state;
	struct object_info info = store_test_put(f->s, "a/b.txt", "hello", 5);
	struct stat view = stat_of(at(f, "objects/a/b.txt")),
		    version = stat_of(version_file(f, info.version));
	char label[OBJECT_VERSION_MAX + 1] = "";

	assert_int_equal(view.st_ino, version.st_ino);
	assert_int_equal(view.st_nlink, 2);
	assert_int_equal(view.st_mode, S_IFREG | 0440);
	assert_int_equal(view.st_mtim.tv_sec, 1234567890);
	assert_true(getxattr(at(f, "objects/a/b.txt"), "user.massfs", label, sizeof(label) - 1) > 0);
	assert_string_equal(label, info.version);
	expect_file(at(f, "objects/a/b.txt"), "hello");
	assert_int_equal(stat_of(f->dir).st_mode & 07777, 0700);
	assert_int_equal(stat_of(at(f, ".massfs")).st_mode & 07777, 0700);
}

static void test_set_id_bits__stay_out(void **state)
{
	struct fixture *f = *state;
	struct object_meta meta = store_test_meta(1);

	meta.mode = 07222;
	assert_int_equal(object_put(f->s, NULL, NULL, "k", "x", 1, &meta, NULL), 0);
	assert_int_equal(stat_of(at(f, "objects/k")).st_mode & 07777, 0400);
	meta.mode = 06755;
	assert_int_equal(object_put(f->s, NULL, NULL, "k", "x", 1, &meta, NULL), 0);
	assert_int_equal(stat_of(at(f, "objects/k")).st_mode & 07777, 0555);
}

static void test_copy__moves_no_bytes_and_takes_the_meta_along(void **state)
{
	struct fixture *f = *state;
	struct object_info a = store_test_put(f->s, "a", "hello", 5), b;
	struct object_ref ref = store_test_ref("a", a.version);
	struct object_meta meta = store_test_meta(2);

	meta.mode = 0700;
	meta.mtime = 5;
	assert_int_equal(object_copy(f->s, NULL, &ref, NULL, "x/y", &meta, &b), 0);
	assert_int_equal(stat_of(at(f, "objects/a")).st_ino, stat_of(at(f, "objects/x/y")).st_ino);
	assert_int_equal(stat_of(at(f, "objects/x/y")).st_nlink, 4);
	assert_int_equal(stat_of(at(f, "objects/x/y")).st_mode & 07777, 0500);
	assert_int_equal(stat_of(at(f, "objects/x/y")).st_mtim.tv_nsec, 5);
}

static void test_gaps__cost_nothing_and_stay_gaps_in_copies(void **state)
{
	struct object_meta meta = store_test_meta(3);
	struct fixture *f = *state;
	const uint64_t gib = UINT64_C(1) << 30;
	struct object_upload *u;
	struct object_info info;
	struct object_ref ref;
	char byte;

	assert_int_equal(object_upload_begin(f->s, NULL, NULL, "sparse", &meta, &u), 0);
	assert_int_equal(object_upload_part(u, NULL, 1, gib, "x", 1), 0);
	assert_int_equal(object_upload_complete(u, NULL, 4 * gib, &meta, &info), 0);
	assert_true(info.alloc > 0 && info.alloc < (1 << 20));
	ref = store_test_ref("sparse", info.version);
	assert_int_equal(object_upload_begin(f->s, NULL, NULL, "copy", &meta, &u), 0);
	assert_int_equal(object_upload_part_copy(u, NULL, 1, gib, &ref, 0, 4 * gib), 0);
	assert_int_equal(object_upload_complete(u, NULL, 5 * gib, &meta, &info), 0);
	assert_true(info.alloc > 0 && info.alloc < (1 << 20));
	ref = store_test_ref("copy", info.version);
	assert_int_equal(object_get(f->s, NULL, &ref, 2 * gib, &byte, 1), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(stat_of(at(f, "objects/copy")).st_size, 5 * gib);
}

static void test_marker__prunes_only_empty_folders(void **state)
{
	struct fixture *f = *state;

	store_test_put(f->s, "a/b/c/d", "1", 1);
	store_test_put(f->s, "a/x", "2", 1);
	assert_int_equal(object_put_marker(f->s, NULL, NULL, "a/b/c/d"), 0);
	assert_int_equal(access(at(f, "objects/a/b"), F_OK), -1);
	assert_int_equal(access(at(f, "objects/a/x"), F_OK), 0);
	assert_int_equal(object_put_marker(f->s, NULL, NULL, "a/x"), 0);
	assert_int_equal(access(at(f, "objects/a"), F_OK), -1);
	assert_int_equal(access(at(f, "objects"), F_OK), 0);
	/* Folders that a crash left without their file. */
	assert_int_equal(mkdir(at(f, "objects/p"), 0755), 0);
	assert_int_equal(mkdir(at(f, "objects/p/q"), 0755), 0);
	assert_int_equal(object_put_marker(f->s, NULL, NULL, "p/q/r/s"), 0);
	assert_int_equal(access(at(f, "objects/p"), F_OK), -1);
}

/* --- foreign files --- */

static void test_foreign_file__is_seen_and_kept_by_a_put(void **state)
{
	struct fixture *f = *state;
	struct object_info info;
	struct foreign found;

	write_file(at(f, "objects/k"), "precious");
	assert_int_equal(object_head(f->s, NULL, NULL, "k", NULL, &info), 0);
	assert_false(info.own);
	assert_string_equal(info.version, "");
	assert_int_equal(info.size, 8);
	info = store_test_put(f->s, "k", "ours", 4);
	assert_false(info.not_shown);
	expect_file(at(f, "objects/k"), "ours");
	found = find_foreign(f->s);
	assert_int_equal(found.n, 1);
	assert_int_equal(found.info.ino, 0);
	store_test_expect(f->s, "k", found.info.version, "precious", 8);
}

static void test_foreign_file__is_kept_by_a_marker(void **state)
{
	struct fixture *f = *state;
	struct foreign found;

	assert_int_equal(mkdir(at(f, "objects/d"), 0755), 0);
	write_file(at(f, "objects/d/k"), "precious");
	assert_int_equal(object_put_marker(f->s, NULL, NULL, "d/k"), 0);
	assert_int_equal(access(at(f, "objects/d"), F_OK), -1);
	found = find_foreign(f->s);
	assert_int_equal(found.n, 1);
	store_test_expect(f->s, "d/k", found.info.version, "precious", 8);
}

static void test_foreign_copy_of_a_view__is_foreign(void **state)
{
	struct fixture *f = *state;
	struct object_info ours = store_test_put(f->s, "a", "same", 4), info;

	/* as cp -a makes it: the label comes along */
	write_file(at(f, "objects/b"), "same");
	assert_int_equal(setxattr(at(f, "objects/b"), "user.massfs", ours.version, strlen(ours.version), 0),
			 0);
	assert_int_equal(object_head(f->s, NULL, NULL, "b", NULL, &info), 0);
	assert_false(info.own);
	assert_string_equal(info.version, "");
	/* and a rename over the view */
	assert_int_equal(rename(at(f, "objects/b"), at(f, "objects/a")), 0);
	assert_int_equal(object_head(f->s, NULL, NULL, "a", NULL, &info), 0);
	assert_false(info.own);
	store_test_expect(f->s, "a", ours.version, "same", 4);
}

static void test_labels_that_are_nonsense__are_foreign(void **state)
{
	static const char *const labels[] = { "", "x", "../../etc/passwd",
					      "18ea0e43a6aecbc3-6e-5-1234-7/../x" };
	struct fixture *f = *state;
	struct object_info info;
	char big[200];

	write_file(at(f, "objects/k"), "text");
	for (size_t i = 0; i < MFS_ARRAY_LEN(labels); i++) {
		assert_int_equal(setxattr(at(f, "objects/k"), "user.massfs", labels[i], strlen(labels[i]), 0),
				 0);
		assert_int_equal(object_head(f->s, NULL, NULL, "k", NULL, &info), 0);
		assert_false(info.own);
	}
	memset(big, '1', sizeof(big));
	assert_int_equal(setxattr(at(f, "objects/k"), "user.massfs", big, sizeof(big), 0), 0);
	assert_int_equal(object_head(f->s, NULL, NULL, "k", NULL, &info), 0);
	assert_false(info.own);
}

static void test_what_is_no_file__blocks_the_view_and_stays(void **state)
{
	struct fixture *f = *state;
	struct object_info info;

	assert_int_equal(symlink("/etc/passwd", at(f, "objects/link")), 0);
	assert_int_equal(mkfifo(at(f, "objects/fifo"), 0600), 0);
	assert_int_equal(mkdir(at(f, "objects/folder"), 0755), 0);
	write_file(at(f, "objects/folder/file"), "precious");
	for (const char *const *key =
		     (const char *const[]){ "link", "fifo", "folder", "folder/file/below", NULL };
	     *key; key++) {
		struct stat before = { 0 }, after = { 0 };
		char path[64];

		snprintf(path, sizeof(path), "objects/%s", *key);
		lstat(at(f, path), &before);
		assert_int_equal(object_head(f->s, NULL, NULL, *key, NULL, &info), -ENOENT);
		info = store_test_put(f->s, *key, "ours", 4);
		assert_true(info.not_shown);
		store_test_expect(f->s, *key, info.version, "ours", 4);
		assert_int_equal(object_put_marker(f->s, NULL, NULL, *key), 0);
		lstat(at(f, path), &after);
		assert_int_equal(before.st_ino, after.st_ino);
	}
	expect_file(at(f, "objects/folder/file"), "precious");
	assert_int_equal(find_foreign(f->s).n, 0);
}

static void test_symlinked_folder__is_never_followed(void **state)
{
	struct fixture *f = *state;
	struct object_info info;
	struct foreign found = { 0 };

	assert_int_equal(mkdir(at(f, "outside"), 0755), 0);
	write_file(at(f, "outside/file"), "precious");
	assert_int_equal(symlink("../outside", at(f, "objects/link")), 0);
	assert_int_equal(object_head(f->s, NULL, NULL, "link/file", NULL, &info), -ENOENT);
	info = store_test_put(f->s, "link/file", "ours", 4);
	assert_true(info.not_shown);
	info = store_test_put(f->s, "link/new/deep", "ours", 4);
	assert_true(info.not_shown);
	assert_int_equal(object_put_marker(f->s, NULL, NULL, "link/file"), 0);
	assert_int_equal(object_list_keys(f->s, NULL, NULL, "", see_foreign, &found), 0);
	assert_int_equal(found.n, 0);
	expect_file(at(f, "outside/file"), "precious");
	assert_int_equal(access(at(f, "outside/new"), F_OK), -1);
}

static void test_empty_folder__gives_way_to_a_file(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(at(f, "objects/k"), 0755), 0);
	assert_false(store_test_put(f->s, "k", "x", 1).not_shown);
	expect_file(at(f, "objects/k"), "x");
}

static void test_version_removed_by_hand__is_missed_not_invented(void **state)
{
	struct fixture *f = *state;
	struct object_info a = store_test_put(f->s, "k", "text", 4), info;
	struct object_ref ref = store_test_ref("k", a.version);
	char byte;

	assert_int_equal(unlink(version_file(f, a.version)), 0);
	assert_int_equal(object_get(f->s, NULL, &ref, 0, &byte, 1), -ENOENT);
	assert_int_equal(object_head(f->s, NULL, NULL, "k", NULL, &info), 0);
	/* An own one without its version: a killed process leaves such, and it must not be imported as another program's. */
	assert_true(info.own);
	assert_string_equal(info.version, a.version);
	/* Still it may be the last copy: kept as a foreign file is. */
	store_test_put(f->s, "k", "new", 3);
	assert_int_equal(find_foreign(f->s).n, 1);
}

static void test_folders_removed_by_hand__are_made_again(void **state)
{
	struct fixture *f = *state;
	struct object_info info = store_test_put(f->s, "a/b", "1", 1);
	char folder[32];

	assert_int_equal(unlink(version_file(f, info.version)), 0);
	snprintf(folder, sizeof(folder), ".massfs/v/%.2s", info.version + 17);
	assert_int_equal(rmdir(at(f, folder)), 0);
	assert_int_equal(unlink(at(f, "objects/a/b")), 0);
	assert_int_equal(rmdir(at(f, "objects/a")), 0);
	info = store_test_put(f->s, "a/b", "2", 1);
	store_test_expect(f->s, "a/b", info.version, "2", 1);
}

/* --- ids, leftovers --- */

static void test_id_that_exists__is_drawn_again(void **state)
{
	struct fixture *f = *state;
	struct localdir *ld = localdir_of(f->s);
	struct object_meta meta = store_test_meta(9);
	struct localdir_version v = { .ino = meta.ino, .session = meta.session, .op = meta.op };
	struct object_info info;
	char path[LOCALDIR_PATH_MAX], below[128];

	store_test_put(f->s, "k", "x", 1); /* makes the folder */
	/* as when an earlier run had a clock that was years ahead */
	v.counter = UINT64_C(0x7000000000000000);
	v.folder = localdir_version_folder(ld);
	atomic_store(&ld->last_counter, v.counter - 1);
	localdir_version_path(&v, path);
	snprintf(below, sizeof(below), ".massfs/v/%s", path);
	write_file(at(f, below), "older");
	assert_int_equal(object_put(f->s, NULL, NULL, "k", "newer", 5, &meta, &info), 0);
	assert_string_not_equal(info.version, path + 3);
	expect_file(at(f, below), "older");
	expect_file(at(f, "objects/k"), "newer");
}

static void test_clock_set_back__does_not_hide_later_puts(void **state)
{
	struct fixture *f = *state;
	struct object_info info;

	atomic_store(&localdir_of(f->s)->last_counter, UINT64_C(0x7000000000000000));
	store_test_put(f->s, "k", "of the future", 13);
	object_store_free(f->s);
	f->s = NULL;
	assert_int_equal(open_store(f), 0); /* draws from the clock again */
	info = store_test_put(f->s, "k", "now", 3);
	assert_true(strcmp(info.version, "7") < 0);
	expect_file(at(f, "objects/k"), "now");
}

static void test_sweep__finds_what_earlier_runs_left(void **state)
{
	struct fixture *f = *state;
	uint64_t n, bytes;

	write_file(at(f, ".massfs/tmp/0123456789abcdef-3"), "unfinished");
	assert_int_equal(
		link(at(f, ".massfs/tmp/0123456789abcdef-3"), at(f, ".massfs/tmp/0123456789abcdef-4")), 0);
	write_file(at(f, ".massfs/tmp/0123456789abcdef-5"), "unfinished");
	assert_int_equal(mkdir(at(f, ".massfs/tmp/folder"), 0700), 0);
	assert_int_equal(object_sweep(f->s, NULL, false, &n, &bytes), 0);
	assert_int_equal(n, 3);
	assert_true(bytes >= 10 && bytes <= 65536);
	assert_int_equal(object_sweep(f->s, NULL, true, &n, &bytes), 0);
	assert_int_equal(n, 3);
	assert_int_equal(object_sweep(f->s, NULL, false, &n, &bytes), 0);
	assert_int_equal(n, 0);
	assert_int_equal(access(at(f, ".massfs/tmp/folder"), F_OK), 0);
}

static void test_filesystem_without_nameless_files__works_with_named_ones(void **state)
{
	struct fixture *f = *state;
	struct object_meta meta = store_test_meta(1);
	struct object_upload *u, *left;
	struct object_info info;
	uint64_t n, bytes;

	localdir_of(f->s)->has_tmpfile = false;
	info = store_test_put(f->s, "k", "text", 4);
	store_test_expect(f->s, "k", info.version, "text", 4);
	assert_int_equal(object_upload_begin(f->s, NULL, NULL, "u", &meta, &u), 0);
	assert_int_equal(object_upload_begin(f->s, NULL, NULL, "u", &meta, &left), 0);
	assert_int_equal(object_upload_part(u, NULL, 1, 0, "part", 4), 0);
	assert_int_equal(object_sweep(f->s, NULL, true, &n, &bytes), 0); /* must not touch those under way */
	assert_int_equal(n, 0);
	assert_int_equal(object_upload_complete(u, NULL, 4, &meta, &info), 0);
	store_test_expect(f->s, "u", info.version, "part", 4);
	assert_int_equal(stat_of(at(f, "objects/u")).st_nlink, 2);
	object_upload_abort(left, NULL);
	object_store_free(f->s);
	f->s = NULL;
	assert_int_equal(open_store(f), 0);
	assert_int_equal(object_sweep(f->s, NULL, false, &n, &bytes), 0);
	assert_int_equal(n, 0);
}

/* --- opening --- */

static int try_open(const char *dir, struct localdir_options opt)
{
	struct object_store *s;
	int r = localdir_store_open(dir, &opt, &s);

	if (!r)
		object_store_free(s);
	return r;
}

static void test_open__says_what_is_wrong(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(try_open(at(f, "missing"), (struct localdir_options){ 0 }), -ENOENT);
	assert_int_equal(try_open(at(f, "missing/too"), (struct localdir_options){ .create = true }),
			 -ENOENT);
	assert_int_equal(try_open(at(f, "objects"), (struct localdir_options){ 0 }), -ENOENT); /* no volume */
	write_file(at(f, "file"), "x");
	assert_int_equal(try_open(at(f, "file"), (struct localdir_options){ .create = true }), -ENOTDIR);
	assert_int_equal(rename(at(f, "objects"), at(f, "moved")), 0);
	assert_int_equal(symlink("moved", at(f, "objects")), 0);
	assert_int_equal(try_open(f->dir, (struct localdir_options){ 0 }), -ENOTDIR);
	assert_int_equal(try_open(at(f, "new"), (struct localdir_options){ .create = true }), 0);
	assert_int_equal(try_open(at(f, "new"), (struct localdir_options){ 0 }), 0);
}

static void test_unclean_end__is_noticed_by_the_next_open(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(access(at(f, ".massfs/unsynced"), F_OK), 0);
	object_store_free(f->s); /* it had nosync */
	f->s = NULL;
	assert_int_equal(access(at(f, ".massfs/unsynced"), F_OK), 0);
	assert_int_equal(try_open(f->dir, (struct localdir_options){ .readonly = true }), 0);
	assert_int_equal(access(at(f, ".massfs/unsynced"), F_OK), 0);
	assert_int_equal(try_open(f->dir, (struct localdir_options){ 0 }), 0); /* opened, synced, closed */
	assert_int_equal(access(at(f, ".massfs/unsynced"), F_OK), -1);
}

static void test_readonly__reads_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	const struct localdir_options opt = { .readonly = true };
	struct object_info info = store_test_put(f->s, "k", "text", 4), unused;
	struct object_meta meta = store_test_meta(1);
	struct object_ref ref = store_test_ref("k", info.version);
	struct object_upload *u;
	struct object_store *s;

	assert_int_equal(localdir_store_open(f->dir, &opt, &s), 0);
	store_test_expect(s, "k", info.version, "text", 4);
	assert_int_equal(object_put(s, NULL, NULL, "k", "x", 1, &meta, &unused), -EROFS);
	assert_int_equal(object_upload_begin(s, NULL, NULL, "k", &meta, &u), -EROFS);
	assert_int_equal(object_copy(s, NULL, &ref, NULL, "c", &meta, &unused), -EROFS);
	assert_int_equal(object_put_marker(s, NULL, NULL, "k"), -EROFS);
	assert_int_equal(object_delete_version(s, NULL, &ref), -EROFS);
	store_test_expect(s, "k", info.version, "text", 4);
	object_store_free(s);
}

/* In a child that is nobody; 0 or the step that failed. */
static int as_nobody(struct fixture *f, int (*fn)(struct fixture *f))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO); /* what it logs is expected */
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(99);
		_exit(fn(f));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int open_refused(struct fixture *f)
{
	return try_open(f->dir, (struct localdir_options){ .create = true }) == -EACCES ? 0 : 1;
}

static int do_all(struct fixture *f)
{
	struct object_meta meta = store_test_meta(1);
	struct object_info a, b;
	struct object_ref ref;

	if (open_store(f) < 0)
		return 1;
	meta.uid = meta.gid = 0; /* which nobody may not give */
	meta.mode = 0444;
	if (object_put(f->s, NULL, NULL, "k", "one", 3, &meta, &a) < 0)
		return 2;
	ref = store_test_ref("k", a.version);
	if (object_copy(f->s, NULL, &ref, NULL, "x/y", &meta, &b) < 0)
		return 3;
	if (object_head(f->s, NULL, NULL, "x/y", NULL, &a) < 0 || strcmp(a.version, b.version) != 0)
		return 4;
	ref = store_test_ref("x/y", b.version);
	if (object_delete_version(f->s, NULL, &ref) < 0) /* gives the file its former label back */
		return 5;
	if (object_head(f->s, NULL, NULL, "k", NULL, &a) < 0 || !a.own)
		return 6;
	if (object_put(f->s, NULL, NULL, "k", "two", 3, &meta, &a) < 0 ||
	    object_put_marker(f->s, NULL, NULL, "k") < 0)
		return 7;
	object_store_free(f->s);
	return 0;
}

static void test_other_users__work_in_their_own_volume_only(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip(); /* needs to become somebody else */
	object_store_free(f->s);
	f->s = NULL;
	assert_int_equal(as_nobody(f, open_refused), 0);
	store_test_remove(f->dir);
	f->dir = store_test_dir();
	assert_int_equal(chown(f->dir, 65534, 65534), 0);
	assert_int_equal(as_nobody(f, do_all), 0);
}

/* --- limits --- */

static void test_link_limit__is_met_with_a_real_copy(void **state)
{
	struct fixture *f = *state;
	struct object_info a = store_test_put(f->s, "k", "text", 4), b;
	struct object_ref ref = store_test_ref("k", a.version);
	struct object_meta meta = store_test_meta(1);
	char name[64];

	for (unsigned int i = 0; i < 60000; i++) {
		snprintf(name, sizeof(name), ".massfs/tmp/link%u", i);
		if (link(at(f, "objects/k"), at(f, name)) < 0)
			skip(); /* a filesystem with a lower limit, or full */
	}
	assert_int_equal(object_copy(f->s, NULL, &ref, NULL, "copy", &meta, &b), 0);
	assert_int_not_equal(stat_of(at(f, "objects/k")).st_ino, stat_of(at(f, "objects/copy")).st_ino);
	store_test_expect(f->s, "copy", b.version, "text", 4);
}

static int count_one(void *arg, const char *key, const struct object_info *info)
{
	(void)key;
	(void)info;
	*(unsigned int *)arg += 1;
	return 0;
}

static unsigned int n_versions(struct object_store *s)
{
	unsigned int n = 0;

	assert_int_equal(object_list_versions(s, NULL, NULL, count_one, &n), 0);
	return n;
}

/* Fewer and fewer descriptors: each call either does all or, with EIO, nothing. */
static void test_no_descriptors__fails_whole(void **state)
{
	struct fixture *f = *state;
	struct object_info top = store_test_put(f->s, "a/k", "old", 3), info;
	struct object_meta meta = store_test_meta(1);
	unsigned int n_failed = 0, n_done = 0, before;
	struct rlimit limit, small;
	int first_free = dup(0);

	close(first_free);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(mfs_log_to_file("/dev/null"), 0); /* it opens a file, too: before */
	for (unsigned int room = 0; room < 8; room++) {
		int r;

		before = n_versions(f->s);
		small = limit;
		small.rlim_cur = (rlim_t)first_free + 1 + room;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
		r = object_put(f->s, NULL, NULL, "a/k", "new", 3, &meta, &info);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_true(!r || r == -EIO);
		if (!r)
			top = info;
		n_failed += r != 0;
		n_done += !r;
		assert_int_equal(n_versions(f->s), before + !r);
		assert_int_equal(object_head(f->s, NULL, NULL, "a/k", NULL, &info), 0);
		assert_string_equal(info.version, top.version);
	}
	mfs_log_to_stderr();
	assert_true(n_failed && n_done);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_view__is_a_hard_link_to_the_read_only_version),
		T(test_set_id_bits__stay_out),
		T(test_copy__moves_no_bytes_and_takes_the_meta_along),
		T(test_gaps__cost_nothing_and_stay_gaps_in_copies),
		T(test_marker__prunes_only_empty_folders),
		T(test_foreign_file__is_seen_and_kept_by_a_put),
		T(test_foreign_file__is_kept_by_a_marker),
		T(test_foreign_copy_of_a_view__is_foreign),
		T(test_labels_that_are_nonsense__are_foreign),
		T(test_what_is_no_file__blocks_the_view_and_stays),
		T(test_symlinked_folder__is_never_followed),
		T(test_empty_folder__gives_way_to_a_file),
		T(test_version_removed_by_hand__is_missed_not_invented),
		T(test_folders_removed_by_hand__are_made_again),
		T(test_id_that_exists__is_drawn_again),
		T(test_clock_set_back__does_not_hide_later_puts),
		T(test_sweep__finds_what_earlier_runs_left),
		T(test_filesystem_without_nameless_files__works_with_named_ones),
		T(test_open__says_what_is_wrong),
		T(test_unclean_end__is_noticed_by_the_next_open),
		T(test_readonly__reads_and_changes_nothing),
		T(test_other_users__work_in_their_own_volume_only),
		T(test_link_limit__is_met_with_a_real_copy),
		T(test_no_descriptors__fails_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
