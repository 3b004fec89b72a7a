/*
 * The localdir store: the calls on versions that exist, and its table of calls. What it looks like on disk: localdir.h.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "backend/localdir.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"

/* ext4 allows 65,000 hard links; from here on a copy moves the bytes instead. */
#define LINKS_MAX 60000

static void localdir_free(struct object_store *s)
{
	struct localdir *ld = localdir_of(s);

	assert(!ld->sync.list);
	if (ld->marked && !ld->nosync)
		unlinkat(ld->dir_fd, LOCALDIR_UNSYNCED, 0);
	localdir_close_fd(&ld->dir_fd);
	localdir_close_fd(&ld->objects_fd);
	localdir_close_fd(&ld->v_fd);
	localdir_close_fd(&ld->tmp_fd);
	for (size_t i = 0; i < LOCALDIR_N_STRIPES; i++) {
		pthread_mutex_destroy(&ld->view[i].lock.m);
		pthread_mutex_destroy(&ld->label_lock[i].m);
	}
	pthread_mutex_destroy(&ld->sync.lock.m);
	free(ld->dir);
	free(ld);
}

static int localdir_open_fd(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	struct localdir *ld = localdir_of(s);
	char path[LOCALDIR_PATH_MAX];
	int fd;

	if (ref->bucket)
		return -EINVAL;
	fd = localdir_ref_path(ref->version, path);
	if (fd < 0)
		return fd;
	/* NONBLOCK: should something else than a file have got there, we do not hang on it. */
	fd = openat(ld->v_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? localdir_error(ld, op, errno, "open", ".massfs/v/", path) : fd;
}

static ssize_t localdir_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref,
			    uint64_t off, void *buf, size_t len)
{
	LOCALDIR_AUTOFD int fd = localdir_open_fd(s, op, ref);
	size_t done = 0;

	if (fd < 0)
		return fd;
	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return localdir_error(localdir_of(s), op, errno, "read", ".massfs/v/", ref->version);
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int head_version(struct localdir *ld, struct op_ctx *op, const char *version, struct object_info *ret)
{
	char path[LOCALDIR_PATH_MAX];
	struct localdir_version v;
	struct stat st;

	if (localdir_version_parse(version, &v) < 0)
		return -ENOENT;
	localdir_version_path(&v, path);
	if (fstatat(ld->v_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return localdir_error(ld, op, errno, "stat", ".massfs/v/", path);
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	localdir_fill_info(&v, &st, ret);
	return 0;
}

/*
 * Our label, and no such version (any more): what a killed process left. It is taken for an own upload that nobody named,
 * not for another program's file, which would be imported: content that no close confirmed became the file's. Whoever
 * takes its place at the key keeps it (keep_foreign), and `massfs import FILE`, of just this one, takes it. v: of a view
 * that is not VIEW_OWN.
 */
static bool is_orphan(struct localdir *ld, const struct localdir_version *v)
{
	char path[LOCALDIR_PATH_MAX];

	if (!v->counter || !v->ino)
		return false;
	localdir_version_path(v, path);
	return faccessat(ld->v_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

static int localdir_head(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			 const char *version, struct object_info *ret)
{
	struct localdir *ld = localdir_of(s);
	LOCALDIR_AUTOFD int fd = -1;
	struct localdir_version v;
	enum view_kind kind;
	const char *name;
	struct stat st;
	int r;

	if (bucket)
		return -EINVAL;
	if (version)
		return head_version(ld, op, version, ret);
	if (localdir_is_hidden(key))
		return -ENOENT;
	r = localdir_view_parent(ld, key, &fd, &name);
	if (r == -ENOTDIR || r == -ELOOP || r == -ENAMETOOLONG)
		return -ENOENT;
	if (!r)
		r = localdir_view_look(ld, fd, name, &st, &kind, &v);
	if (r < 0)
		return localdir_error(ld, op, -r, "stat", "objects/", key);
	if (kind != VIEW_OWN && kind != VIEW_FOREIGN)
		return -ENOENT;
	localdir_fill_info(kind == VIEW_OWN || is_orphan(ld, &v) ? &v : NULL, &st, ret);
	return 0;
}

/* A file that has as many names as it can: a real copy. */
static int copy_bytes(struct localdir *ld, struct op_ctx *op, int from, const struct stat *st,
		      const char *key, const struct object_meta *meta, struct object_info *ret)
{
	struct temp_file t;
	int r;

	r = localdir_temp_open(ld, op, meta, &t);
	if (r < 0)
		return r;
	r = localdir_copy_range(ld, op, from, 0, t.fd, 0, (uint64_t)st->st_size, key);
	if (!r && ftruncate(t.fd, st->st_size) < 0)
		r = localdir_error(ld, op, errno, "truncate", "copy to ", key);
	if (r < 0) {
		localdir_temp_discard(ld, &t);
		return r;
	}
	return localdir_temp_finish(ld, op, &t, key, meta, ret);
}

static struct mfs_mutex *label_lock(struct localdir *ld, const struct stat *st)
{
	return &ld->label_lock[mfs_hash_u64(st->st_ino) % LOCALDIR_N_STRIPES];
}

/* The label of the file, whose mode may forbid it to all but root. */
static int set_label(struct localdir *ld, int fd, const struct stat *st, const char *id)
{
	int err;

	if (!fsetxattr(fd, LOCALDIR_XATTR, id, strlen(id), 0))
		return 0;
	err = errno;
	if ((err != EACCES && err != EPERM) || ld->is_root || fchmod(fd, st->st_mode | 0200) < 0)
		return -err;
	err = fsetxattr(fd, LOCALDIR_XATTR, id, strlen(id), 0) < 0 ? errno : 0;
	if (fchmod(fd, st->st_mode & 07777) < 0 && !err)
		err = errno;
	return -err;
}

/* A name in v/ for the ticket (another id if that one exists), and the label that says so. */
static int link_version(struct localdir *ld, struct op_ctx *op, int fd, const struct stat *st,
			const char *from, struct view_ticket *ticket, const struct object_meta *meta,
			char path[static LOCALDIR_PATH_MAX])
{
	int r;

	for (int tries = 0;; tries++) {
		r = localdir_folder_ready(ld, op, ticket->version.folder);
		if (r < 0)
			return r;
		localdir_version_path(&ticket->version, path);
		MFS_GUARD(label_lock(ld, st));
		if (!linkat(ld->v_fd, from, ld->v_fd, path, 0)) {
			/* A view of the file must not claim to be a version that has none. */
			r = localdir_is_hidden(ticket->key) ? 0 : set_label(ld, fd, st, path + 3);
			if (!r)
				return 0;
			unlinkat(ld->v_fd, path, 0);
			return localdir_error(ld, op, -r, "setxattr " LOCALDIR_XATTR, ".massfs/v/", path);
		}
		if (errno != EEXIST || tries > 10)
			return localdir_error(ld, op, errno, "link", ".massfs/v/", path);
		localdir_ticket_renew(ld, ticket, meta);
	}
}

/* folder: in which the version that is shown has its name. */
static int sync_copy(struct localdir *ld, struct op_ctx *op, int fd, uint8_t folder, const char *key,
		     struct view_shown *shown)
{
	int r;

	if (ld->nosync)
		return 0;
	if (fsync(fd) < 0)
		return localdir_error(ld, op, errno, "fsync", "copy to ", key);
	r = localdir_sync_version_folder(ld, op, folder);
	return r < 0 || localdir_is_hidden(key) ? r : localdir_view_sync(ld, op, key, shown);
}

/*
 * A version may share its file with others (copies), and the file's label may be the one that goes: then the label
 * becomes the newest of those that stay, so that a view of the file is still known as ours. Rare (a copy whose commit
 * failed), so it may cost a walk over all versions.
 */
static int relabel(struct localdir *ld, struct op_ctx *op, int fd, const struct stat *st, const char *path)
{
	char label[OBJECT_VERSION_MAX + 1], other[LOCALDIR_PATH_MAX];
	struct localdir_version v;
	ssize_t n;
	int r;

	if (st->st_nlink < 2)
		return 0;
	n = fgetxattr(fd, LOCALDIR_XATTR, label, sizeof(label) - 1);
	if (n < 0 || (size_t)n != strlen(path + 3) || memcmp(label, path + 3, (size_t)n) != 0)
		return 0;
	r = localdir_find_version(ld, op, st, path + 3, &v);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	localdir_version_path(&v, other);
	r = set_label(ld, fd, st, other + 3);
	return r < 0 ? localdir_error(ld, op, -r, "setxattr " LOCALDIR_XATTR, ".massfs/v/", other) : 0;
}

/* The version's name, of the file fd, goes. */
static int unlink_version(struct localdir *ld, struct op_ctx *op, int fd, const char *path)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return localdir_error(ld, op, errno, "stat", ".massfs/v/", path);
	MFS_GUARD(label_lock(ld, &st));
	if (fstat(fd, &st) < 0)
		return localdir_error(ld, op, errno, "stat", ".massfs/v/", path);
	r = relabel(ld, op, fd, &st, path);
	if (!r && unlinkat(ld->v_fd, path, 0) < 0 && errno != ENOENT)
		r = localdir_error(ld, op, errno, "unlink", ".massfs/v/", path);
	return r;
}

/* The hard link. */
static int copy_link(struct localdir *ld, struct op_ctx *op, int fd, struct stat *st, const char *from,
		     const char *key, const struct object_meta *meta, struct object_info *ret)
{
	struct view_shown shown = VIEW_SHOWN_INIT;
	struct view_ticket ticket;
	char path[LOCALDIR_PATH_MAX];
	int r;

	localdir_ticket_begin(ld, &ticket, key, meta);
	r = link_version(ld, op, fd, st, from, &ticket, meta, path);
	if (!r) {
		r = localdir_set_meta(ld, op, fd, st, meta, key);
		if (!r && !localdir_is_hidden(key))
			r = localdir_view_show(ld, op, &ticket, &ticket.version, st, &shown);
		if (!r)
			r = sync_copy(ld, op, fd, ticket.version.folder, key, &shown);
		if (r < 0) {
			if (!localdir_is_hidden(key))
				localdir_view_take_back(ld, &ticket, &ticket.version, &shown);
			if (unlink_version(ld, op, fd, path) < 0) {
				/* It stays as garbage. */
			}
		}
	}
	localdir_ticket_end(ld, &ticket);
	localdir_shown_release(ld, &shown);
	if (r < 0)
		return r;
	st->st_mtim = mfs_ns_to_timespec(meta->mtime);
	localdir_fill_info(&ticket.version, st, ret);
	ret->not_shown = shown.not_shown;
	return 0;
}

/* The label of a version that is to be shown again, unless it is deleted at this moment. */
static int label_again(struct localdir *ld, struct op_ctx *op, int fd, const struct stat *st,
		       const char *path)
{
	struct stat now;
	int r;

	MFS_GUARD(label_lock(ld, st));
	if (fstatat(ld->v_fd, path, &now, AT_SYMLINK_NOFOLLOW) < 0)
		return localdir_error(ld, op, errno, "stat", ".massfs/v/", path);
	r = set_label(ld, fd, st, path + 3);
	return r < 0 ? localdir_error(ld, op, -r, "setxattr " LOCALDIR_XATTR, ".massfs/v/", path) : 0;
}

/* Put a version of the same key on top again: no new version. */
static int show_again(struct localdir *ld, struct op_ctx *op, int fd, const struct stat *st, const char *from,
		      const char *key, const struct object_meta *meta, struct object_info *ret)
{
	struct view_shown shown = VIEW_SHOWN_INIT;
	struct localdir_version v;
	struct view_ticket ticket;
	int r;

	r = localdir_version_parse(from + 3, &v);
	if (r < 0)
		return r;
	if (localdir_is_hidden(key)) { /* it is on top of nothing */
		localdir_fill_info(&v, st, ret);
		return 0;
	}
	localdir_ticket_begin(ld, &ticket, key, meta); /* it is the last put, whatever its id says */
	r = label_again(ld, op, fd, st, from);
	if (!r)
		r = localdir_set_meta(ld, op, fd, st, meta, key);
	if (!r)
		r = localdir_view_show(ld, op, &ticket, &v, st, &shown);
	if (!r)
		r = sync_copy(ld, op, fd, v.folder, key, &shown);
	if (r < 0)
		localdir_view_take_back(ld, &ticket, &v, &shown);
	localdir_ticket_end(ld, &ticket);
	localdir_shown_release(ld, &shown);
	if (r < 0)
		return r;
	localdir_fill_info(&v, st, ret);
	ret->mtime = meta->mtime;
	ret->not_shown = shown.not_shown;
	return 0;
}

static int localdir_copy(struct object_store *s, struct op_ctx *op, const struct object_ref *src,
			 const char *bucket, const char *key, const struct object_meta *meta,
			 struct object_info *ret)
{
	struct localdir *ld = localdir_of(s);
	LOCALDIR_AUTOFD int fd = -1;
	char from[LOCALDIR_PATH_MAX];
	struct stat st;
	int r;

	if (bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	fd = localdir_open_fd(s, op, src);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return localdir_error(ld, op, errno, "stat", ".massfs/v/", src->version);
	r = localdir_ref_path(src->version, from);
	if (r < 0)
		return r;
	if (!strcmp(key, src->key))
		return show_again(ld, op, fd, &st, from, key, meta, ret);
	if (meta->apart || st.st_nlink >= LINKS_MAX)
		return copy_bytes(ld, op, fd, &st, key, meta, ret);
	return copy_link(ld, op, fd, &st, from, key, meta, ret);
}

static int localdir_delete_version(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	struct localdir *ld = localdir_of(s);
	LOCALDIR_AUTOFD int fd = -1;
	char path[LOCALDIR_PATH_MAX];
	struct localdir_version v;
	struct stat st;
	int r;

	if (ref->bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	if (localdir_version_parse(ref->version, &v) < 0)
		return 0; /* there can be no such version */
	localdir_version_path(&v, path);
	fd = localdir_open_fd(s, op, ref);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st) < 0)
		return localdir_error(ld, op, errno, "stat", ".massfs/v/", path);
	if (localdir_is_hidden(ref->key)) {
		r = unlink_version(ld, op, fd, path);
		return r < 0 ? r : localdir_sync_version_folder(ld, op, v.folder);
	}
	/* The view first, as after a crash one without its version would look foreign; and once more, for a copy onto
	 * itself that showed it meanwhile. */
	r = localdir_view_drop(ld, op, ref->key, ref->version, &st);
	if (!r)
		r = unlink_version(ld, op, fd, path);
	if (!r)
		r = localdir_view_drop(ld, op, ref->key, ref->version, &st);
	return r < 0 ? r : localdir_sync_version_folder(ld, op, v.folder);
}

/* Versions that share the file (copies) are damaged as well, and stay until they are set aside themselves. */
static int localdir_set_aside(struct object_store *s, struct op_ctx *op, const struct object_ref *ref)
{
	struct localdir *ld = localdir_of(s);
	char path[LOCALDIR_PATH_MAX];
	LOCALDIR_AUTOFD int fd = -1, folder = -1;
	struct localdir_version v;
	struct stat st;
	int r;

	if (ref->bucket || ld->readonly)
		return ref->bucket ? -EINVAL : -EROFS;
	if (localdir_version_parse(ref->version, &v) < 0)
		return -ENOENT;
	localdir_version_path(&v, path);
	fd = localdir_open_fd(s, op, ref);
	if (fd < 0)
		return fd;
	if (mkdirat(ld->dir_fd, LOCALDIR_DAMAGED, 0700) < 0 && errno != EEXIST)
		return localdir_error(ld, op, errno, "mkdir", LOCALDIR_DAMAGED, "");
	folder = openat(ld->dir_fd, LOCALDIR_DAMAGED, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0 || fstat(fd, &st) < 0)
		return localdir_error(ld, op, errno, "open", LOCALDIR_DAMAGED, "");
	r = localdir_is_hidden(ref->key) ? 0 : localdir_view_drop(ld, op, ref->key, ref->version, &st);
	if (r < 0)
		return r;
	if (renameat(ld->v_fd, path, folder, path + 3) < 0)
		return localdir_error(ld, op, errno, "rename", ".massfs/v/", path);
	if (fsync(folder) < 0)
		return localdir_error(ld, op, errno, "fsync", LOCALDIR_DAMAGED, "");
	return localdir_sync_version_folder(ld, op, v.folder);
}

static int localdir_statfs(struct object_store *s, struct op_ctx *op, struct object_statfs *ret)
{
	struct localdir *ld = localdir_of(s);
	struct statvfs v;

	if (fstatvfs(ld->v_fd, &v) < 0)
		return localdir_error(ld, op, errno, "statvfs", ".massfs/v", "");
	*ret = (struct object_statfs){
		.total = (uint64_t)v.f_blocks * v.f_frsize,
		.free = (uint64_t)v.f_bfree * v.f_frsize,
		.avail = (uint64_t)v.f_bavail * v.f_frsize,
		.files = v.f_files,
		.ffree = v.f_ffree,
	};
	return 0;
}

const struct object_store_ops localdir_ops = {
	.name = "localdir",
	.caps = OBJECT_CAP_SPARSE | OBJECT_CAP_FD | OBJECT_CAP_CHEAP_COPY | OBJECT_CAP_UPLOAD_READ,
	.free = localdir_free,
	.put = localdir_put,
	.begin = localdir_begin,
	.part = localdir_part,
	.part_copy = localdir_part_copy,
	.complete = localdir_complete,
	.abort = localdir_abort,
	.begin_named = localdir_begin_named,
	.resume = localdir_resume,
	.has_part = localdir_has_part,
	.leave = localdir_leave,
	.upload_read = localdir_upload_read,
	.get = localdir_get,
	.open_fd = localdir_open_fd,
	.head = localdir_head,
	.copy = localdir_copy,
	.delete_version = localdir_delete_version,
	.set_aside = localdir_set_aside,
	.put_marker = localdir_put_marker,
	.hold = localdir_hold,
	.list_keys = localdir_list_keys,
	.list_versions = localdir_list_versions,
	.statfs = localdir_statfs,
	.sweep = localdir_sweep,
};
