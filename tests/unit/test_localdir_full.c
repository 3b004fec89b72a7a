/*
 * localdir on a full disk: -ENOSPC, nothing half, all that was there stays, and deleting makes room again.
 *
 * Small filesystems are mounted in a mount namespace of this process alone, so nothing of them outlives it. That
 * takes root; each test is skipped where its filesystem cannot be mounted, with the reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/object_store.h"
#include "common/defs.h"
#include "common/str.h"
#include "tests/lib/store_suite.h"

#define N_OBJECTS 512

struct volume {
	char *dir, *image;
	bool mounted, nosync;
	struct object_store *s;
	char ids[N_OBJECTS][OBJECT_VERSION_MAX + 1]; /* "": deleted, or never made */
	size_t sizes[N_OBJECTS];
	unsigned int n, n_full;
};

static bool own_namespace(void)
{
	return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int open_volume(struct volume *v)
{
	const struct localdir_options opt = { .create = true, .nosync = v->nosync };

	return localdir_store_open(v->dir, &opt, &v->s);
}

static void close_volume(struct volume *v)
{
	object_store_free(v->s);
	if (v->mounted)
		assert_int_equal(umount2(v->dir, MNT_DETACH), 0);
	if (v->image)
		unlink(v->image);
	free(v->image);
	store_test_remove(v->dir);
	free(v);
}

static struct volume *new_volume(void)
{
	struct volume *v = calloc(1, sizeof(*v));

	assert_non_null(v);
	v->dir = store_test_dir();
	return v;
}

static void skip_without(struct volume *v, const char *what)
{
	print_message("skipped: cannot have %s here (%s)\n", what, strerror(errno));
	close_volume(v);
	skip();
}

static void expect_object(struct volume *v, unsigned int i)
{
	char *buf = malloc(v->sizes[i] + 1);

	assert_non_null(buf);
	store_test_fill(buf, v->sizes[i], i);
	store_test_expect(v->s, "any", v->ids[i], buf, v->sizes[i]);
	free(buf);
}

static void key_of(unsigned int i, char key[static 64])
{
	snprintf(key, 64, "folder%u/file%u", i % 5, i);
}

/* One object, by put or in parts. 0 or -errno. */
static int add(struct volume *v, size_t size)
{
	struct object_meta meta = store_test_meta(v->n);
	MFS_AUTOFREE char *buf = malloc(size + 1);
	struct object_upload *u;
	struct object_info info;
	char key[64];
	int r;

	assert_true(buf && v->n < N_OBJECTS);
	key_of(v->n, key);
	store_test_fill(buf, size, v->n);
	if (v->n % 3) {
		r = object_put(v->s, NULL, NULL, key, buf, size, &meta, &info);
	} else {
		r = object_upload_begin(v->s, NULL, NULL, key, &meta, &u);
		if (r < 0)
			return r;
		r = object_upload_part(u, NULL, 2, size / 2, buf + size / 2, size - size / 2);
		if (!r)
			r = object_upload_part(u, NULL, 1, 0, buf, size / 2);
		if (r < 0)
			object_upload_abort(u, NULL);
		else
			r = object_upload_complete(u, NULL, size, &meta, &info);
	}
	if (r < 0)
		return r;
	assert_false(info.not_shown);
	v->sizes[v->n] = size;
	strcpy(v->ids[v->n++], info.version);
	return 0;
}

static int count(void *arg, const char *key, const struct object_info *info)
{
	(void)key;
	(void)info;
	*(unsigned int *)arg += 1;
	return 0;
}

static void check_all(struct volume *v)
{
	unsigned int want = 0, have = 0, shown = 0;
	uint64_t n, bytes;

	for (unsigned int i = 0; i < v->n; i++) {
		if (!v->ids[i][0])
			continue;
		want++;
		expect_object(v, i);
	}
	assert_int_equal(object_list_versions(v->s, NULL, NULL, count, &have), 0);
	assert_int_equal(have, want);
	assert_int_equal(object_list_keys(v->s, NULL, NULL, "", count, &shown), 0);
	assert_int_equal(shown, want);
	assert_int_equal(object_sweep(v->s, NULL, false, &n, &bytes), 0);
	assert_int_equal(n, 0);
}

static void delete_some(struct volume *v)
{
	for (unsigned int i = 0; i < v->n; i += 2) {
		struct object_ref ref;
		char key[64];

		if (!v->ids[i][0])
			continue;
		key_of(i, key);
		ref = store_test_ref(key, v->ids[i]);
		assert_int_equal(object_delete_version(v->s, NULL, &ref), 0);
		v->ids[i][0] = '\0';
	}
}

/* Full, with smaller and smaller objects; some deleted; full again. */
static void fill_twice(struct volume *v)
{
	for (unsigned int round = 0; round < 2; round++) {
		for (size_t size = 300000; size > 10; size /= 3) {
			int r;

			while (!(r = add(v, size)))
				assert_true(v->n < N_OBJECTS - 1);
			assert_int_equal(r, -ENOSPC);
			v->n_full++;
		}
		object_store_free(v->s); /* a full volume must open */
		v->s = NULL;
		assert_int_equal(open_volume(v), 0);
		check_all(v);
		delete_some(v);
		check_all(v);
	}
	assert_int_equal(add(v, 1000), 0);
	object_store_free(v->s);
	v->s = NULL;
	assert_int_equal(open_volume(v), 0);
	check_all(v);
}

static void test_tmpfs_without_space(void **state)
{
	struct volume *v = new_volume();

	(void)state;
	v->mounted = own_namespace() && !mount("none", v->dir, "tmpfs", 0, "size=2m");
	if (!v->mounted)
		skip_without(v, "a small tmpfs");
	if (open_volume(v) == -ENOTSUP) {
		errno = ENOTSUP;
		skip_without(v, "user xattrs on tmpfs (Linux 6.6)");
	}
	fill_twice(v);
	close_volume(v);
}

static void test_tmpfs_without_inodes(void **state)
{
	struct volume *v = new_volume();

	(void)state;
	v->mounted = own_namespace() && !mount("none", v->dir, "tmpfs", 0, "size=64m,nr_inodes=200");
	if (!v->mounted)
		skip_without(v, "a small tmpfs");
	if (open_volume(v) == -ENOTSUP) {
		errno = ENOTSUP;
		skip_without(v, "user xattrs on tmpfs (Linux 6.6)");
	}
	fill_twice(v);
	close_volume(v);
}

static bool mount_image(struct volume *v, const char *fs)
{
	MFS_AUTOFREE char *command = NULL;

	v->image = mfs_str_printf("%s.img", v->dir);
	if (!v->image)
		return false;
	command = mfs_str_printf("truncate -s 8M %s && mkfs.%s -q -m 0 %s && mount -o loop %s %s", v->image,
				 fs, v->image, v->image, v->dir);
	if (!command || system(command) != 0) /* NOLINT: a test, names of our own making */
		return false;
	v->mounted = true;
	return true;
}

static void full_ext4(bool nosync)
{
	struct volume *v = new_volume();

	v->nosync = nosync;
	if (!own_namespace() || !mount_image(v, "ext4"))
		skip_without(v, "ext4 on a loop device");
	assert_int_equal(open_volume(v), 0);
	fill_twice(v);
	close_volume(v);
}

static void test_ext4_without_space(void **state)
{
	(void)state;
	full_ext4(false);
}

static void test_ext4_without_space__nosync(void **state)
{
	(void)state;
	full_ext4(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tmpfs_without_space),
		cmocka_unit_test(test_tmpfs_without_inodes),
		cmocka_unit_test(test_ext4_without_space),
		cmocka_unit_test(test_ext4_without_space__nosync),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
