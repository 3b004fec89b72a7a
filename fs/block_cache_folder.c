/*
 * The block cache's folders: their locks, which of them gets a block, how much room they have, and what happens when
 * one fails. c->lock is let go for every system call; `users` keeps a folder's descriptors meanwhile.
 */
#include "fs/block_cache_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/conf.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/str.h"

#define LOCK_NAME      "lock"
#define CHECK_NS       (5 * MFS_NSEC_PER_SEC) /* others fill the disk too */
#define SHRINK_AT_ONCE 256 /* files to delete for one block's sake */

bool block_folder_is_error(int err)
{
	switch (-err) {
	case EIO:
	case ENOENT:
	case ENOTDIR:
	case EROFS:
	case ESTALE:
	case ENODEV:
	case ENXIO:
	case ENOTCONN:
	case EACCES:
	case EPERM:
	case ENOSPC:
	case EDQUOT:
		return true;
	default:
		return false;
	}
}

/* --- opening --- */

static int make_path(const char *path)
{
	MFS_AUTOFREE char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* What others can plant there would be read as ours. */
static int check_owner(int dirfd, const char *path, char **ret_reason)
{
	struct stat st;

	if (fstat(dirfd, &st) < 0)
		return mfs_fail(ret_reason, -errno, "%s: %s", path, strerror(errno));
	if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return mfs_fail(ret_reason, -EACCES,
				"%s: others can write to this cache folder; use one of your own (chmod 700)",
				path);
	return 0;
}

static long pid_in(int fd)
{
	char text[32] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	return n > 0 ? strtol(text, NULL, 10) : 0;
}

static int lock_folder(int dirfd, const char *path, int *ret_fd, char **ret_reason)
{
	int fd = openat(dirfd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), n;
	char text[32];

	if (fd < 0)
		return mfs_fail(ret_reason, -errno, "%s/" LOCK_NAME ": %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int err = errno;
		long pid = pid_in(fd);

		close(fd);
		if (err != EWOULDBLOCK)
			return mfs_fail(ret_reason, -err, "%s/" LOCK_NAME ": %s", path, strerror(err));
		return mfs_fail(ret_reason, -EBUSY,
				"%s: this cache folder is in use by process %ld; give each mount its own",
				path, pid);
	}
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	/* On a full disk the pid is missing, the lock holds all the same. */
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		mfs_debug(MFS_LOG_FS, NULL, "%s: no pid in the cache folder's lock: %s", path,
			  strerror(errno));
	*ret_fd = fd;
	return 0;
}

struct scan {
	struct block_cache *c;
	unsigned int folder;
};

/* Evicted until there is room for cost; to be deleted by the caller. */
static struct block *make_room_locked(struct block_cache *c, uint64_t cost) MFS_REQUIRES(c->lock);
static struct block *make_room_locked(struct block_cache *c, uint64_t cost)
{
	struct block_index *ix = &c->index;
	struct block *list = NULL;

	while (ix->bytes + ix->pending + cost > ix->limit || ix->n >= ix->max_n) {
		struct block *b = block_index_evict(ix, -1);

		if (!b)
			break;
		b->chain = list;
		list = b;
		c->evicted++;
	}
	return list;
}

static int found(void *arg, const struct block *b)
{
	struct scan *x = arg;
	struct block_cache *c = x->c;
	struct block *list = NULL, new = *b;
	uint64_t cost = block_cost(b->len);
	bool keep;
	int r = 0;

	new.folder = (uint8_t)x->folder;
	{
		MFS_GUARD(&c->lock);
		const struct block *have = block_index_find(&c->index, &b->key);

		c->serial = MFS_MAX(c->serial, b->serial);
		keep = have ? have->folder == new.folder && have->serial == b->serial
			    : cost <= c->index.limit;
		if (keep && !have) {
			list = make_room_locked(c, cost);
			r = block_index_add(&c->index, &new, true);
		}
	}
	block_files_delete(c, list);
	if (!keep)
		block_file_delete(c->folders[x->folder].dirfd, &b->key, b->len, b->serial);
	return r;
}

static int open_locked_folder(struct block_folder *f, char **ret_reason)
{
	int r = make_path(f->path);

	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: cannot make the cache folder: %s", f->path, strerror(-r));
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dirfd < 0)
		return mfs_fail(ret_reason, -errno, "%s: cannot open the cache folder: %s", f->path,
				strerror(errno));
	r = check_owner(f->dirfd, f->path, ret_reason);
	return r < 0 ? r : lock_folder(f->dirfd, f->path, &f->lockfd, ret_reason);
}

/* The disk below a folder that need not be there yet. */
static int disk_of(const char *path, struct statvfs *ret, dev_t *ret_dev)
{
	MFS_AUTOFREE char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return -ENOMEM;
	while (stat(copy, &st) < 0) {
		char *slash = strrchr(copy, '/');

		if (!slash || slash == copy)
			return -ENOENT;
		*slash = '\0';
	}
	*ret_dev = st.st_dev;
	return statvfs(copy, ret) < 0 ? -errno : 0;
}

uint64_t block_cache_default_size(const char *dirs)
{
	dev_t seen[BLOCK_CACHE_FOLDERS];
	unsigned int n = 0;
	uint64_t sum = 0;

	for (const char *at = dirs; at && *at && n < BLOCK_CACHE_FOLDERS;) {
		size_t len = strcspn(at, ":");
		MFS_AUTOFREE char *path = strndup(at, len);
		struct statvfs st;
		bool known = false;

		if (path && disk_of(path, &st, &seen[n]) == 0) {
			for (unsigned int k = 0; k < n; k++)
				known = known || seen[k] == seen[n];
			n++;
			sum += known ? 0 : (uint64_t)st.f_blocks * st.f_frsize / 10;
		}
		at += len + (at[len] == ':');
	}
	return MFS_MIN(sum, 20 * MFS_GIB);
}

static void turn_off(struct block_cache *c, unsigned int i)
{
	struct block *list;

	{
		MFS_GUARD(&c->lock);
		c->folders[i].on = false;
		c->folders[i].retry_at = mfs_mono_ns() + c->retry_ns;
		list = block_index_remove_all(&c->index, NULL, (int)i);
	}
	while (list) {
		struct block *next = list->chain;

		free(list);
		list = next;
	}
}

static void turn_on(struct block_cache *c, unsigned int i)
{
	struct block_folder *f = &c->folders[i];

	MFS_GUARD(&c->lock);
	f->room = 0;
	f->checked_at = f->full_until = 0;
	f->on = true;
}

int block_folder_open(struct block_cache *c, unsigned int i, char **ret_reason)
{
	struct block_folder *f = &c->folders[i];
	struct scan x = { .c = c, .folder = i };
	int r = open_locked_folder(f, ret_reason);

	if (r < 0) {
		block_folder_close(f);
		turn_off(c, i);
		return r;
	}
	turn_on(c, i);
	r = block_file_scan(f->dirfd, found, &x);
	if (r < 0) {
		turn_off(c, i);
		return mfs_fail(ret_reason, r, "%s: cannot read the cache folder: %s", f->path, strerror(-r));
	}
	return 0;
}

void block_folder_close(struct block_folder *f)
{
	if (f->dirfd >= 0)
		close(f->dirfd);
	if (f->lockfd >= 0)
		close(f->lockfd);
	f->dirfd = f->lockfd = -1;
}

/* --- failing and starting again --- */

/* -ENOENT of a file in a folder that is still where it was is that file's matter. */
static bool is_gone(const struct block_folder *f)
{
	struct stat held, now;

	return fstat(f->dirfd, &held) < 0 || !held.st_nlink || stat(f->path, &now) < 0 ||
	       held.st_ino != now.st_ino || held.st_dev != now.st_dev;
}

/* The caller is one of its users, so the descriptors stay. */
void block_folder_failed(struct block_cache *c, unsigned int i, int err, const char *what)
{
	struct block_folder *f = &c->folders[i];
	bool full = err == -ENOSPC || err == -EDQUOT, say = false;

	if (!block_folder_is_error(err) || (err == -ENOENT && !is_gone(f)))
		return;
	{
		MFS_GUARD(&c->lock);
		int64_t now = mfs_mono_ns();

		say = f->on && (!full || f->full_until <= now);
		if (full)
			f->full_until = now + c->retry_ns;
		else
			f->on = false; /* by one only */
	}
	if (say && !full)
		turn_off(c, i);
	if (say)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
			"cache folder %s: %s: %s; %s, tried again in %" PRId64 " s", f->path, what,
			strerror(-err), full ? "nothing is added to it" : "not used, reads go to the store",
			c->retry_ns / MFS_NSEC_PER_SEC);
}

static void retry_folder(struct block_cache *c, unsigned int i)
{
	struct block_folder *f = &c->folders[i];
	char *reason = NULL;
	int r;

	{
		MFS_GUARD(&c->lock);
		/* Only this job opens, so a folder that is off, late and unused stays so. */
		if (f->on || f->users || f->retry_at > mfs_mono_ns() || c->closing)
			return;
		block_folder_close(f);
	}
	r = block_folder_open(c, i, &reason);
	if (r == 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, NULL, "cache folder %s: in use again", f->path);
	else
		mfs_debug(MFS_LOG_FS, NULL, "cache folder still off: %s", reason ? reason : strerror(-r));
	free(reason);
}

static void retry_job(void *arg)
{
	struct block_cache *c = arg;

	for (unsigned int i = 0; i < c->n_folders; i++)
		retry_folder(c, i);
	MFS_GUARD(&c->lock);
	c->retrying = false;
}

void block_folders_retry(struct block_cache *c)
{
	bool due = false;
	int64_t now = mfs_mono_ns();

	{
		MFS_GUARD(&c->lock);
		for (unsigned int i = 0; i < c->n_folders && !c->retrying; i++)
			due = due || (!c->folders[i].on && c->folders[i].retry_at <= now);
		if (!due || c->closing)
			return;
		c->retrying = true;
	}
	if (workers_try_submit(c->workers, retry_job, c) < 0) {
		MFS_GUARD(&c->lock);
		c->retrying = false;
	}
}

bool block_folders_any(struct block_cache *c)
{
	MFS_GUARD(&c->lock);
	for (unsigned int i = 0; i < c->n_folders; i++)
		if (c->folders[i].on)
			return true;
	return false;
}

/* --- room --- */

void block_files_delete(struct block_cache *c, struct block *list)
{
	while (list) {
		struct block *next = list->chain;
		struct block_folder *f = &c->folders[list->folder];
		int dirfd = -1;

		{
			MFS_GUARD(&c->lock);
			if (f->on) {
				dirfd = f->dirfd;
				f->users++;
			}
		}
		if (dirfd >= 0) {
			block_file_delete(dirfd, &list->key, list->len, list->serial);
			MFS_GUARD(&c->lock);
			block_folder_give_locked(c, list->folder);
		}
		free(list);
		list = next;
	}
}

void block_folder_give_locked(struct block_cache *c, unsigned int i)
{
	assert(c->folders[i].users);
	c->folders[i].users--;
}

/* Evicted, at least so many bytes of that folder; to be deleted by the caller. */
static struct block *shrink_locked(struct block_cache *c, int folder, uint64_t bytes) MFS_REQUIRES(c->lock);
static struct block *shrink_locked(struct block_cache *c, int folder, uint64_t bytes)
{
	struct block *list = NULL;
	uint64_t freed = 0;

	for (unsigned int n = 0; freed < bytes && n < SHRINK_AT_ONCE; n++) {
		struct block *b = block_index_evict(&c->index, folder);

		if (!b)
			break;
		freed += block_cost(b->len);
		b->chain = list;
		list = b;
		c->evicted++;
	}
	return list;
}

bool block_folder_shrink(struct block_cache *c, unsigned int i, uint64_t bytes)
{
	struct block *list;

	{
		MFS_GUARD(&c->lock);
		list = shrink_locked(c, (int)i, bytes);
	}
	block_files_delete(c, list);
	return list;
}

/* How far above the floor the folder's disk is, at this moment; blocks go when it is below or has no room for cost. */
static void check_room(struct block_cache *c, unsigned int i, uint64_t cost)
{
	struct block_folder *f = &c->folders[i];
	struct statvfs st;
	uint64_t avail, floor;
	struct block *list = NULL;

	if (fstatvfs(f->dirfd, &st) < 0) {
		block_folder_failed(c, i, -errno, "statvfs");
		return;
	}
	avail = (uint64_t)st.f_bavail * st.f_frsize;
	floor = (uint64_t)st.f_blocks * st.f_frsize / 100 * c->free_percent;
	{
		MFS_GUARD(&c->lock);
		uint64_t before = c->index.folder_bytes[i];

		if (avail < floor + cost)
			list = shrink_locked(c, (int)i, floor + cost - avail);
		avail += before - c->index.folder_bytes[i];
		f->room = avail > floor ? avail - floor : 0;
	}
	block_files_delete(c, list);
}

/* By free space and what is ours already, so that folders fill alike; a block's hash decides. */
static int choose_locked(struct block_cache *c, const struct block_key *key) MFS_REQUIRES(c->lock);
static int choose_locked(struct block_cache *c, const struct block_key *key)
{
	uint64_t weight[BLOCK_CACHE_FOLDERS] = { 0 }, sum = 0, at;
	int64_t now = mfs_mono_ns();

	for (unsigned int i = 0; i < c->n_folders; i++) {
		const struct block_folder *f = &c->folders[i];

		if (!f->on || f->full_until > now)
			continue;
		weight[i] = (f->room + c->index.folder_bytes[i]) / 4096 + 1;
		sum += weight[i];
	}
	if (!sum)
		return -1;
	at = mfs_hash_u64(key->id[1] + mfs_hash_u64(key->block)) % sum;
	for (unsigned int i = 0; i < c->n_folders; i++) {
		if (at < weight[i])
			return (int)i;
		at -= weight[i];
	}
	return -1;
}

/* Others fill and empty the disks too. */
static void check_stale(struct block_cache *c)
{
	for (unsigned int i = 0; i < c->n_folders; i++) {
		struct block_folder *f = &c->folders[i];

		{
			MFS_GUARD(&c->lock);
			int64_t now = mfs_mono_ns();

			if (!f->on || (f->checked_at && now - f->checked_at < CHECK_NS))
				continue;
			f->checked_at = now; /* by one only */
			f->users++;
		}
		check_room(c, i, 0);
		MFS_GUARD(&c->lock);
		block_folder_give_locked(c, i);
	}
}

static uint64_t pending_max(uint64_t limit)
{
	return MFS_MAX(limit / 8, MFS_MIN(limit / 2, 16 * BLOCK_CACHE_BLOCK));
}

int block_folder_take(struct block_cache *c, const struct block_key *key, uint64_t cost)
{
	struct block *list = NULL;
	bool check = false, ok;
	int i;

	check_stale(c);
	{
		MFS_GUARD(&c->lock);
		i = choose_locked(c, key);
		if (i < 0 || cost > c->index.limit)
			return -1;
		/* Many writers at once must not push all out, to then find no room. */
		ok = !c->index.pending || c->index.pending + cost <= pending_max(c->index.limit);
		if (ok)
			list = make_room_locked(c, cost);
		ok = ok && c->index.bytes + c->index.pending + cost <= c->index.limit;
		if (ok) {
			c->index.pending += cost;
			c->folders[i].users++;
		}
		check = ok && c->folders[i].room < cost;
	}
	block_files_delete(c, list);
	if (!ok)
		return -1;
	if (check)
		check_room(c, (unsigned int)i, cost);
	MFS_GUARD(&c->lock);
	if (c->folders[i].on && c->folders[i].room >= cost) {
		c->folders[i].room -= cost;
		return i;
	}
	c->index.pending -= cost;
	block_folder_give_locked(c, (unsigned int)i);
	return -1;
}
