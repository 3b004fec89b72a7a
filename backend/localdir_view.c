/*
 * objects/: what people see. A key's view is a hard link to one version, swapped by link and rename.
 *
 * No symlink below objects/ is ever followed, and nothing there that massfs did not make is destroyed: a foreign
 * regular file gets a name in v/ before its view goes, a folder, symlink or special file blocks the view. (A foreign
 * program that puts a file at the key in the microseconds between our look and our rename loses it; rename(2) cannot
 * say "unless it changed".) An empty folder in the place of a file means nothing and is removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "backend/localdir.h"
#include "common/hash.h"
#include "common/log.h"

#define TRIES_MAX 1000 /* of a swap that meets foreign changes or folders being pruned */

static int open_beneath(int dir_fd, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
	};
	int fd;

	do
		fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : fd;
}

int localdir_view_parent(struct localdir *ld, const char *key, int *ret_fd, const char **ret_name)
{
	const char *slash = strrchr(key, '/');
	char folder[OBJECT_KEY_MAX + 1];
	int fd;

	*ret_name = slash ? slash + 1 : key;
	if (slash) {
		memcpy(folder, key, (size_t)(slash - key));
		folder[slash - key] = '\0';
	}
	fd = open_beneath(ld->objects_fd, slash ? folder : ".");
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* Makes what is missing of the key's folders. */
static int make_folders(struct localdir *ld, const char *key, struct view_shown *shown)
{
	LOCALDIR_AUTOFD int fd = -1;
	const char *slash;

	if (!shown->making)
		atomic_fetch_add(&ld->n_making, 1);
	shown->making = true;
	for (; (slash = strchr(key, '/')); key = slash + 1) {
		char name[256];
		int in = fd >= 0 ? fd : ld->objects_fd, next;

		memcpy(name, key, (size_t)(slash - key));
		name[slash - key] = '\0';
		if (mkdirat(in, name, 0755) < 0 && errno != EEXIST)
			return -errno;
		next = open_beneath(in, name);
		if (next < 0)
			return next;
		localdir_close_fd(&fd);
		fd = next;
	}
	return 0;
}

/* A folder's place is taken by something else, or the filesystem cannot have that name. */
static bool is_blocked(int r)
{
	return r == -ENOTDIR || r == -ELOOP || r == -ENAMETOOLONG || r == -EXDEV;
}

static int read_label(int parent_fd, const char *name, const struct stat *st, struct localdir_version *ret)
{
	LOCALDIR_AUTOFD int fd =
		openat(parent_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	char id[OBJECT_VERSION_MAX + 1];
	struct stat now;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &now) < 0)
		return -errno;
	if (now.st_ino != st->st_ino || now.st_dev != st->st_dev)
		return -EAGAIN;
	n = fgetxattr(fd, LOCALDIR_XATTR, id, sizeof(id) - 1);
	if (n < 0)
		return errno == ERANGE ? -EINVAL : -errno;
	id[n] = '\0';
	return localdir_version_parse(id, ret);
}

/* One look. -EAGAIN: it changed under our eyes. */
static int look_once(struct localdir *ld, int parent_fd, const char *name, struct stat *st,
		     enum view_kind *ret_kind, struct localdir_version *ret)
{
	char path[LOCALDIR_PATH_MAX];
	struct stat v_st;
	int r;

	*ret_kind = VIEW_NONE;
	if (fstatat(parent_fd, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st->st_mode)) {
		*ret_kind = S_ISDIR(st->st_mode) ? VIEW_FOLDER : VIEW_OTHER;
		return 0;
	}
	*ret_kind = VIEW_FOREIGN;
	*ret = (struct localdir_version){ 0 };
	r = read_label(parent_fd, name, st, ret);
	if (r == -ENODATA || r == -EINVAL || r == -EACCES) /* none, not ours, a file that we may not read */
		return 0;
	if (r < 0)
		return r == -ENOENT || r == -ELOOP ? -EAGAIN : r;
	localdir_version_path(ret, path);
	if (fstatat(ld->v_fd, path, &v_st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (v_st.st_ino == st->st_ino && v_st.st_dev == st->st_dev)
		*ret_kind = VIEW_OWN;
	return 0;
}

/*
 * Own means: labelled, and the same file as the version of that id (a copy made with `cp -a` has the label too). After
 * a copy to another key the old key's view, being the same file, tells the new id: the bytes are right, and whoever
 * copied (a rename) puts a marker there next.
 *
 * A labelled file without its version is foreign only if a second look says the same: between reading the label and
 * looking for the version, the version may have been deleted and the view with it, or the label have changed.
 */
int localdir_view_look(struct localdir *ld, int parent_fd, const char *name, struct stat *st,
		       enum view_kind *ret_kind, struct localdir_version *ret)
{
	struct localdir_version before = { 0 };
	ino_t ino_before = 0;
	int r = 0;

	for (int tries = 0; tries < TRIES_MAX; tries++) {
		r = look_once(ld, parent_fd, name, st, ret_kind, ret);
		if (r == -EAGAIN)
			continue;
		if (r < 0 || *ret_kind != VIEW_FOREIGN || !ret->counter ||
		    (st->st_ino == ino_before && ret->counter == before.counter))
			return r;
		before = *ret;
		ino_before = st->st_ino;
	}
	return -EBUSY;
}

/* --- tickets --- */

static struct view_stripe *stripe_of(struct localdir *ld, uint64_t hash)
{
	return &ld->view[hash % LOCALDIR_N_STRIPES];
}

void localdir_ticket_begin(struct localdir *ld, struct view_ticket *t, const char *key,
			   const struct object_meta *meta)
{
	uint64_t hash = mfs_hash64(key, strlen(key));
	struct view_stripe *stripe = stripe_of(ld, hash);

	*t = (struct view_ticket){ .key = key, .hash = hash };
	MFS_GUARD(&stripe->lock);
	localdir_version_next(ld, meta, &t->version);
	t->next = stripe->tickets;
	stripe->tickets = t;
}

void localdir_ticket_renew(struct localdir *ld, struct view_ticket *t, const struct object_meta *meta)
{
	struct view_stripe *stripe = stripe_of(ld, t->hash);

	MFS_GUARD(&stripe->lock);
	localdir_version_next(ld, meta, &t->version);
	t->superseded = false;
}

void localdir_ticket_end(struct localdir *ld, struct view_ticket *t)
{
	struct view_stripe *stripe = stripe_of(ld, t->hash);
	struct view_ticket **pp = &stripe->tickets;

	MFS_GUARD(&stripe->lock);
	while (*pp != t)
		pp = &(*pp)->next;
	*pp = t->next;
}

static void supersede_older_locked(struct view_stripe *stripe, const struct view_ticket *t)
	MFS_REQUIRES(stripe->lock)
{
	for (struct view_ticket *o = stripe->tickets; o; o = o->next)
		if (o->hash == t->hash && o->version.counter < t->version.counter && !strcmp(o->key, t->key))
			o->superseded = true;
}

/* --- showing --- */

/* A name in v/ for a foreign file that is in the way. Its bytes may be anyone's still to write; we keep the file. */
static int keep_foreign(struct localdir *ld, struct op_ctx *op, int parent_fd, const char *name,
			const char *key, struct localdir_version *ret)
{
	const struct object_meta nobody = { 0 };
	LOCALDIR_AUTOFD int fd = -1;
	char path[LOCALDIR_PATH_MAX];
	int r;

	localdir_version_next(ld, &nobody, ret);
	localdir_version_path(ret, path);
	r = localdir_folder_ready(ld, op, ret->folder);
	if (r < 0)
		return r;
	if (linkat(parent_fd, name, ld->v_fd, path, 0) < 0)
		return errno == ENOENT ? -EAGAIN : localdir_error(ld, op, errno, "link", "objects/", key);
	if (!ld->nosync) {
		fd = openat(ld->v_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0 && fsync(fd) < 0)
			return localdir_error(ld, op, errno, "fsync", ".massfs/v/", path);
	}
	return localdir_sync_version_folder(ld, op, ret->folder);
}

static void tell_kept(struct localdir *ld, struct op_ctx *op, const char *key, const struct localdir_version *v)
{
	char path[LOCALDIR_PATH_MAX];

	localdir_version_path(v, path);
	mfs_log(MFS_LOG_STORE, MFS_LOG_INFO, op,
		"volume=%s a file that massfs did not make was at objects/%s; it is kept as .massfs/v/%s", ld->dir, key, path);
}

/* Over what is there. -EAGAIN: it changed meanwhile. */
static int swap_view(struct localdir *ld, struct op_ctx *op, const char *path, int parent_fd,
		     const char *name, const char *key)
{
	char temp[LOCALDIR_TEMP_MAX];
	int err;

	localdir_temp_name(ld, temp);
	if (linkat(ld->v_fd, path, ld->tmp_fd, temp, 0) < 0)
		return localdir_error(ld, op, errno, "link", ".massfs/v/", path);
	if (!renameat(ld->tmp_fd, temp, parent_fd, name))
		return 0;
	err = errno;
	unlinkat(ld->tmp_fd, temp, 0);
	if (err == ENOENT || err == EISDIR || err == ENOTDIR || err == ENOTEMPTY || err == EEXIST)
		return -EAGAIN;
	return localdir_error(ld, op, err, "rename", "objects/", key);
}

/* 0, -EAGAIN (look again), -EISDIR (blocked) or an error that was logged. */
static int replace_view(struct localdir *ld, struct op_ctx *op, const struct view_ticket *t,
			const struct stat *st, const char *path, const char *name, struct view_shown *shown)
{
	struct localdir_version there;
	enum view_kind kind;
	struct stat now;
	int r;

	r = localdir_view_look(ld, shown->parent_fd, name, &now, &kind, &there);
	if (r < 0)
		return localdir_error(ld, op, -r, "stat", "objects/", t->key);
	switch (kind) {
	case VIEW_NONE:
		return -EAGAIN;
	case VIEW_FOLDER:
		if (!unlinkat(shown->parent_fd, name, AT_REMOVEDIR) || errno == ENOENT || errno == ENOTDIR)
			return -EAGAIN;
		return -EISDIR;
	case VIEW_OTHER:
		return -EISDIR;
	case VIEW_FOREIGN:
		r = keep_foreign(ld, op, shown->parent_fd, name, t->key, &there);
		if (r < 0)
			return r;
		tell_kept(ld, op, t->key, &there);
		shown->had_previous = true;
		shown->previous = there;
		break;
	case VIEW_OWN:
		/* The same file: rename would do nothing, and the temporary name would stay. */
		if (now.st_ino == st->st_ino && now.st_dev == st->st_dev) {
			shown->was_there = true;
			return 0;
		}
		shown->had_previous = true;
		shown->previous = there;
		break;
	}
	return swap_view(ld, op, path, shown->parent_fd, name, t->key);
}

static bool version_exists(struct localdir *ld, const char *path)
{
	return !faccessat(ld->v_fd, path, F_OK, AT_SYMLINK_NOFOLLOW);
}

/* One attempt. -EAGAIN: try again. -ENOENT: there is no such version. */
static int show_once(struct localdir *ld, struct op_ctx *op, const struct view_ticket *t, const char *path,
		     const struct stat *st, struct view_shown *shown)
{
	const char *name;
	int r;

	localdir_close_fd(&shown->parent_fd);
	r = localdir_view_parent(ld, t->key, &shown->parent_fd, &name);
	if (r == -ENOENT) {
		r = make_folders(ld, t->key, shown);
		return !r || r == -ENOENT ? -EAGAIN : r;
	}
	if (r < 0)
		return r;
	if (!linkat(ld->v_fd, path, shown->parent_fd, name, 0))
		return 0;
	if (errno == ENOENT) /* the folder was pruned, or an old version that was to be shown again is gone */
		return version_exists(ld, path) ? -EAGAIN : -ENOENT;
	if (errno != EEXIST)
		return -errno;
	return replace_view(ld, op, t, st, path, name, shown);
}

int localdir_view_show(struct localdir *ld, struct op_ctx *op, struct view_ticket *t,
		       const struct localdir_version *v, const struct stat *st, struct view_shown *ret)
{
	struct view_stripe *stripe = stripe_of(ld, t->hash);
	char path[LOCALDIR_PATH_MAX];
	int r = -EAGAIN;

	localdir_version_path(v, path);
	MFS_GUARD(&stripe->lock);
	if (t->superseded)
		return 0;
	for (int tries = 0; r == -EAGAIN && tries < TRIES_MAX; tries++)
		r = show_once(ld, op, t, path, st, ret);
	if (!r) {
		supersede_older_locked(stripe, t);
		return 0;
	}
	localdir_close_fd(&ret->parent_fd);
	if (is_blocked(r) || r == -EISDIR) {
		ret->not_shown = true;
		return 0;
	}
	return localdir_error(ld, op, r == -EAGAIN ? EBUSY : -r, "link", "objects/", t->key);
}

/* All folders from objects/ down to the key's. */
static int sync_chain(struct localdir *ld, const char *key)
{
	char path[OBJECT_KEY_MAX + 1];

	for (const char *p = key;; p++) {
		LOCALDIR_AUTOFD int fd = -1;
		int r;

		if (p != key && *p != '/' && *p)
			continue;
		if (!*p)
			return 0;
		if (p == key) {
			path[0] = '.';
			path[1] = '\0';
		} else {
			memcpy(path, key, (size_t)(p - key));
			path[p - key] = '\0';
		}
		fd = open_beneath(ld->objects_fd, path);
		if (fd == -ENOENT || is_blocked(fd))
			return 0; /* gone meanwhile, with what we made */
		if (fd < 0)
			return fd;
		r = localdir_sync_folder(ld, fd);
		if (r < 0)
			return r;
	}
}

int localdir_view_sync(struct localdir *ld, struct op_ctx *op, const char *key, struct view_shown *shown)
{
	int r;

	if (ld->nosync)
		return 0;
	/* Folders that another put made may be as little durable as our own: then all of them, once. */
	if (atomic_load(&ld->n_making))
		r = sync_chain(ld, key);
	else if (shown->parent_fd >= 0)
		r = localdir_sync_folder(ld, shown->parent_fd);
	else
		return 0;
	return r < 0 ? localdir_error(ld, op, -r, "fsync", "folder of objects/", key) : 0;
}

void localdir_shown_release(struct localdir *ld, struct view_shown *shown)
{
	if (shown->making)
		atomic_fetch_sub(&ld->n_making, 1);
	shown->making = false;
	localdir_close_fd(&shown->parent_fd);
}

void localdir_view_take_back(struct localdir *ld, struct view_ticket *t, const struct localdir_version *v,
			     const struct view_shown *shown)
{
	struct view_stripe *stripe = stripe_of(ld, t->hash);
	const char *slash = strrchr(t->key, '/'), *name = slash ? slash + 1 : t->key;
	char path[LOCALDIR_PATH_MAX];
	struct localdir_version there;
	enum view_kind kind;
	struct stat st;

	if (shown->parent_fd < 0 || shown->was_there)
		return;
	MFS_GUARD(&stripe->lock);
	if (localdir_view_look(ld, shown->parent_fd, name, &st, &kind, &there) < 0 || kind != VIEW_OWN ||
	    there.counter != v->counter)
		return;
	if (shown->had_previous) {
		localdir_version_path(&shown->previous, path);
		if (!swap_view(ld, NULL, path, shown->parent_fd, name, t->key))
			return;
	}
	unlinkat(shown->parent_fd, name, 0);
}

/* --- hiding --- */

/* Removes the key's folders from the deepest up while they are empty. *ret_fd: the folder that lost one, or as it was. */
static void prune(struct localdir *ld, const char *key, int *ret_fd)
{
	char folder[OBJECT_KEY_MAX + 1];
	char *slash;

	memcpy(folder, key, strlen(key) + 1);
	while ((slash = strrchr(folder, '/'))) {
		const char *name;
		int fd, r;

		*slash = '\0';
		r = localdir_view_parent(ld, folder, &fd, &name);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return;
		if (unlinkat(fd, name, AT_REMOVEDIR) < 0) {
			bool gone = errno == ENOENT;

			close(fd);
			if (gone)
				continue;
			return;
		}
		localdir_close_fd(ret_fd);
		*ret_fd = fd;
	}
}

/* -EAGAIN: look again; 1: it is gone; 0: there was nothing of ours (or nothing that id names). */
static int hide_once(struct localdir *ld, struct op_ctx *op, const char *key, int parent_fd, const char *name,
		     const char *id, const struct stat *file)
{
	char path[LOCALDIR_PATH_MAX];
	struct localdir_version there;
	enum view_kind kind;
	struct stat st;
	int r;

	r = localdir_view_look(ld, parent_fd, name, &st, &kind, &there);
	if (r < 0)
		return localdir_error(ld, op, -r, "stat", "objects/", key);
	if (kind == VIEW_NONE || kind == VIEW_OTHER)
		return 0;
	if (kind == VIEW_FOLDER) {
		if (!id)
			unlinkat(parent_fd, name, AT_REMOVEDIR); /* an empty one means nothing */
		return 0;
	}
	localdir_version_path(&there, path);
	if (id && (st.st_ino != file->st_ino || st.st_dev != file->st_dev || strcmp(path + 3, id) != 0))
		return 0;
	if (!id && kind == VIEW_FOREIGN) {
		r = keep_foreign(ld, op, parent_fd, name, key, &there);
		if (r < 0)
			return r;
	}
	if (!id && localdir_is_foreign(kind, &there))
		tell_kept(ld, op, key, &there);
	if (unlinkat(parent_fd, name, 0) < 0 && errno != ENOENT)
		return errno == EISDIR ? -EAGAIN : localdir_error(ld, op, errno, "unlink", "objects/", key);
	return 1;
}

int localdir_view_drop(struct localdir *ld, struct op_ctx *op, const char *key, const char *id,
		       const struct stat *file)
{
	struct view_stripe *stripe = stripe_of(ld, mfs_hash64(key, strlen(key)));
	LOCALDIR_AUTOFD int fd = -1;
	const char *name;
	int r;

	{
		MFS_GUARD(&stripe->lock);
		r = localdir_view_parent(ld, key, &fd, &name);
		if (!r) {
			r = -EAGAIN;
			for (int tries = 0; r == -EAGAIN && tries < TRIES_MAX; tries++)
				r = hide_once(ld, op, key, fd, name, id, file);
			if (r == -EAGAIN)
				r = localdir_error(ld, op, EBUSY, "unlink", "objects/", key);
		} else if (r == -ENOENT || is_blocked(r)) {
			r = 0;
		} else {
			r = localdir_error(ld, op, -r, "open", "folder of objects/", key);
		}
	}
	if (r < 0 || (!r && id))
		return r;
	prune(ld, key, &fd);
	r = 0;
	if (fd >= 0)
		r = localdir_sync_folder(ld, fd);
	return r < 0 ? localdir_error(ld, op, -r, "fsync", "folder of objects/", key) : 0;
}

/* Has anybody it open for writing? A lease can be had only if not. Where there are no leases: not known, so no. */
static bool is_being_written(int fd)
{
	/* The signal that tells of a broken lease must be one that is ignored by default. */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return false;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

static int hold_locked(struct localdir *ld, struct op_ctx *op, int parent_fd, const char *name, const char *key,
		       struct object_info *ret)
{
	LOCALDIR_AUTOFD int fd = -1;
	char path[LOCALDIR_PATH_MAX];
	struct localdir_version v;
	enum view_kind kind;
	struct stat st;
	int r = localdir_view_look(ld, parent_fd, name, &st, &kind, &v);

	if (r < 0)
		return localdir_error(ld, op, -r, "stat", "objects/", key);
	if (!localdir_is_foreign(kind, &v))
		return -ENOENT;
	fd = openat(parent_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ELOOP ? -EAGAIN : localdir_error(ld, op, errno, "open", "objects/", key);
	if (is_being_written(fd))
		return -EAGAIN;
	if (kind == VIEW_FOREIGN) {
		r = keep_foreign(ld, op, parent_fd, name, key, &v);
		if (r < 0)
			return r;
		localdir_version_path(&v, path);
		if (fsetxattr(fd, LOCALDIR_XATTR, path + 3, strlen(path + 3), 0) < 0) {
			r = localdir_error(ld, op, errno, "setxattr " LOCALDIR_XATTR, "objects/", key);
			unlinkat(ld->v_fd, path, 0);
			return r;
		}
	}
	localdir_fill_info(&v, &st, ret);
	return 0;
}

int localdir_hold(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		  struct object_info *ret)
{
	struct localdir *ld = localdir_of(s);
	struct view_stripe *stripe = stripe_of(ld, mfs_hash64(key, strlen(key)));
	LOCALDIR_AUTOFD int fd = -1;
	const char *name;
	int r;

	if (bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	MFS_GUARD(&stripe->lock);
	r = localdir_view_parent(ld, key, &fd, &name);
	if (r == -ENOENT || is_blocked(r))
		return -ENOENT;
	return r < 0 ? localdir_error(ld, op, -r, "open", "folder of objects/", key)
		     : hold_locked(ld, op, fd, name, key, ret);
}

int localdir_put_marker(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key)
{
	struct localdir *ld = localdir_of(s);

	if (bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	return localdir_is_hidden(key) ? 0 : localdir_view_drop(ld, op, key, NULL, NULL);
}
