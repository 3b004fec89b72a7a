/*
 * Opening a localdir volume: its folders, what its filesystem can do, what an earlier run left.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/xattr.h>

#include "backend/localdir.h"
#include "common/log.h"

static int open_failed(struct localdir *ld, int err, const char *call, const char *path, const char *advice)
{
	mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, NULL, "volume=%s path=%s: %s: %s; %s", ld->dir, path, call,
		strerror(err), advice);
	return -err;
}

static int open_folder(struct localdir *ld, int in, const char *name, bool create, int *ret)
{
	if (create && mkdirat(in, name, strcmp(name, "objects") ? 0700 : 0755) < 0 && errno != EEXIST)
		return open_failed(ld, errno, "mkdir", name, "check the directory's owner and mode");
	*ret = openat(in, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret >= 0)
		return 0;
	if (errno == ENOENT)
		return open_failed(
			ld, ENOENT, "open", name,
			"this is no massfs volume (make one with `massfs format`), or it is damaged");
	if (errno == ELOOP || errno == ENOTDIR)
		return open_failed(
			ld, ENOTDIR, "open", name,
			"it must be a real folder on the volume's filesystem, as hard links lead into it");
	return open_failed(ld, errno, "open", name, "check the directory's owner and mode");
}

static int open_folders(struct localdir *ld, bool create)
{
	LOCALDIR_AUTOFD int massfs_fd = -1;
	struct stat a, b, c;
	int r;

	r = open_folder(ld, ld->dir_fd, "objects", create, &ld->objects_fd);
	if (!r)
		r = open_folder(ld, ld->dir_fd, ".massfs", create, &massfs_fd);
	if (!r)
		r = open_folder(ld, massfs_fd, "v", create, &ld->v_fd);
	if (!r)
		r = open_folder(ld, massfs_fd, "tmp", !ld->readonly, &ld->tmp_fd);
	if (r < 0)
		return r;
	if (fstat(ld->objects_fd, &a) < 0 || fstat(ld->v_fd, &b) < 0 || fstat(ld->tmp_fd, &c) < 0)
		return open_failed(ld, errno, "stat", "", "check the disk");
	if (a.st_dev != b.st_dev || a.st_dev != c.st_dev)
		return open_failed(
			ld, ENOTSUP, "open", "",
			"objects, .massfs/v and .massfs/tmp must be on one filesystem (hard links)");
	if (ld->nosync || !create)
		return 0;
	if (fsync(massfs_fd) < 0 || fsync(ld->dir_fd) < 0)
		return open_failed(ld, errno, "fsync", "", "check the disk");
	return 0;
}

static int open_dir(struct localdir *ld, bool create)
{
	struct stat st;

	ld->dir_fd = open(ld->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ld->dir_fd < 0 && errno == ENOENT && create) {
		if (mkdir(ld->dir, 0700) < 0 && errno != EEXIST)
			return open_failed(ld, errno, "mkdir", "",
					   "the folder above must exist and be writable");
		ld->dir_fd = open(ld->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (ld->dir_fd < 0)
		return open_failed(ld, errno, "open", "", "check that the directory exists and may be read");
	/* A new volume is nobody else's: file modes are checked by the mount, not here. */
	if (create && fstatat(ld->dir_fd, ".massfs", &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    fchmod(ld->dir_fd, 0700) < 0)
		return open_failed(ld, errno, "chmod", "", "the directory must belong to who runs massfs");
	return 0;
}

static bool is_full(int err)
{
	return err == ENOSPC || err == EDQUOT;
}

/*
 * Can the filesystem do what we need: a named file in tmp/ with a label and a second link; then one without a name. A
 * full one is taken on trust: it must open, for how else should somebody delete there?
 */
static int probe_names(struct localdir *ld)
{
	char a[LOCALDIR_TEMP_MAX], b[LOCALDIR_TEMP_MAX];
	LOCALDIR_AUTOFD int fd = -1;
	int r = 0;

	localdir_temp_name(ld, a);
	localdir_temp_name(ld, b);
	fd = openat(ld->tmp_fd, a, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 && is_full(errno)) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, NULL,
			"volume=%s its filesystem is full: %s; opened all the same", ld->dir,
			strerror(errno));
		return 0;
	}
	if (fd < 0)
		return open_failed(
			ld, errno, "create a file", ".massfs/tmp",
			"the volume cannot be written: mount it read-only (-o ro), or check mode and owner");
	if (fsetxattr(fd, LOCALDIR_XATTR, "probe", 5, 0) < 0 && !is_full(errno))
		r = open_failed(ld, ENOTSUP, "setxattr", ".massfs/tmp",
				"the volume's filesystem must have user xattrs (ext4, xfs, btrfs, zfs do)");
	else if (linkat(ld->tmp_fd, a, ld->tmp_fd, b, 0) < 0 && !is_full(errno))
		r = open_failed(ld, ENOTSUP, "link", ".massfs/tmp",
				"the volume's filesystem must have hard links");
	unlinkat(ld->tmp_fd, a, 0);
	unlinkat(ld->tmp_fd, b, 0);
	return r;
}

static int probe(struct localdir *ld)
{
	LOCALDIR_AUTOFD int fd = -1;
	int r = probe_names(ld);

	fd = openat(ld->tmp_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ld->has_tmpfile = fd >= 0 || is_full(errno);
	return r;
}

/*
 * What an earlier process that was killed had made, but not yet fsynced, is seen by this one, which may build on it (a
 * folder in the view, an upload whose reply was lost): so it is made durable first.
 */
static int settle_earlier_run(struct localdir *ld)
{
	int fd;

	if (!ld->nosync && !faccessat(ld->dir_fd, LOCALDIR_UNSYNCED, F_OK, AT_SYMLINK_NOFOLLOW)) {
		mfs_log(MFS_LOG_STORE, MFS_LOG_INFO, NULL,
			"volume=%s was not closed cleanly, or ran with nosync: waiting until its files are on disk",
			ld->dir);
		if (syncfs(ld->dir_fd) < 0)
			return open_failed(ld, errno, "syncfs", "", "check the disk");
	}
	fd = openat(ld->dir_fd, LOCALDIR_UNSYNCED, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	ld->marked = fd >= 0;
	if (fd < 0 && !is_full(errno))
		return open_failed(ld, errno, "create", LOCALDIR_UNSYNCED,
				   "check the owner and mode of .massfs");
	localdir_close_fd(&fd);
	return 0;
}

static struct localdir *new_localdir(const char *dir, const struct localdir_options *opt)
{
	struct localdir *ld = calloc(1, sizeof(*ld));
	uint8_t random[9];

	if (!ld)
		return NULL;
	ld->base.ops = &localdir_ops;
	ld->dir_fd = ld->objects_fd = ld->v_fd = ld->tmp_fd = -1;
	ld->readonly = opt->readonly;
	ld->nosync = opt->nosync;
	ld->is_root = geteuid() == 0;
	for (size_t i = 0; i < LOCALDIR_N_STRIPES; i++) {
		pthread_mutex_init(&ld->view[i].lock.m, NULL);
		pthread_mutex_init(&ld->label_lock[i].m, NULL);
	}
	pthread_mutex_init(&ld->sync.lock.m, NULL);
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		memset(random, getpid(), sizeof(random));
	memcpy(&ld->token, random, sizeof(ld->token));
	ld->first_folder = random[8];
	ld->dir = strdup(dir);
	if (!ld->dir) {
		object_store_free(&ld->base);
		return NULL;
	}
	return ld;
}

int localdir_store_open(const char *dir, const struct localdir_options *opt, struct object_store **ret)
{
	struct localdir *ld = new_localdir(dir, opt);
	bool create = opt->create && !opt->readonly;
	int r;

	if (!ld)
		return -ENOMEM;
	r = open_dir(ld, create);
	if (!r)
		r = open_folders(ld, create);
	if (!r && !ld->readonly)
		r = probe(ld);
	if (!r && !ld->readonly)
		r = settle_earlier_run(ld);
	if (r < 0) {
		object_store_free(&ld->base);
		return r;
	}
	*ret = &ld->base;
	return 0;
}
