/*
 * fsync of folders. Those who wait for the same folder share one: a caller's names are made before it asks, so any
 * fsync that starts after that serves it. While one runs, the next ones gather and are served by a single further one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "backend/localdir.h"

/* Of one folder, while somebody waits for it. All fields are guarded by ld->sync.lock. */
struct folder_sync {
	struct folder_sync *next;
	dev_t dev;
	ino_t ino;
	unsigned int n_users;
	bool running;
	uint64_t n_started, n_done; /* fsyncs of this folder, numbered from 1 */
	uint64_t failed; /* number of the last one that failed, */
	int error; /* and why */
	pthread_cond_t ended; /* n_done rose */
};

/* With a user more; NULL: no memory. */
static struct folder_sync *enter_locked(struct localdir *ld, const struct stat *st)
	MFS_REQUIRES(ld->sync.lock)
{
	struct folder_sync *f;

	for (f = ld->sync.list; f; f = f->next)
		if (f->ino == st->st_ino && f->dev == st->st_dev)
			break;
	if (!f) {
		f = calloc(1, sizeof(*f));
		if (!f)
			return NULL;
		f->dev = st->st_dev;
		f->ino = st->st_ino;
		pthread_cond_init(&f->ended, NULL);
		f->next = ld->sync.list;
		ld->sync.list = f;
	}
	f->n_users++;
	return f;
}

static void leave_locked(struct localdir *ld, struct folder_sync *f) MFS_REQUIRES(ld->sync.lock)
{
	struct folder_sync **pp = &ld->sync.list;

	if (--f->n_users)
		return;
	while (*pp != f)
		pp = &(*pp)->next;
	*pp = f->next;
	pthread_cond_destroy(&f->ended);
	free(f);
}

/* Until an fsync that began after now has ended. Lets go of the lock meanwhile. */
static int wait_or_run_locked(struct localdir *ld, struct folder_sync *f, int fd) MFS_REQUIRES(ld->sync.lock)
{
	uint64_t mine = f->n_started + 1;

	while (f->n_done < mine) {
		uint64_t n;
		int err;

		if (f->running) {
			pthread_cond_wait(&f->ended, &ld->sync.lock.m);
			continue;
		}
		f->running = true;
		n = ++f->n_started;
		pthread_mutex_unlock(&ld->sync.lock.m);
		err = fsync(fd) < 0 ? errno : 0;
		pthread_mutex_lock(&ld->sync.lock.m);
		f->running = false;
		f->n_done = n;
		if (err) {
			f->failed = n;
			f->error = err;
		}
		pthread_cond_broadcast(&f->ended);
	}
	/* A later one that succeeded does not make good for an earlier one that failed: the kernel tells an error once. */
	return f->failed >= mine ? -f->error : 0;
}

int localdir_sync_folder(struct localdir *ld, int fd)
{
	struct folder_sync *f;
	struct stat st;
	int r;

	if (ld->nosync)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	MFS_GUARD(&ld->sync.lock);
	f = enter_locked(ld, &st);
	if (!f)
		return -ENOMEM;
	r = wait_or_run_locked(ld, f, fd);
	leave_locked(ld, f);
	return r;
}

int localdir_folder_ready(struct localdir *ld, struct op_ctx *op, uint8_t folder)
{
	char name[4];
	int r;

	if (atomic_load_explicit(&ld->folder_ready[folder], memory_order_acquire))
		return 0;
	snprintf(name, sizeof(name), "%02x", folder);
	if (mkdirat(ld->v_fd, name, 0700) < 0 && errno != EEXIST)
		return localdir_error(ld, op, errno, "mkdir", ".massfs/v/", name);
	/* Also when it was there: an earlier run may have died between mkdir and fsync. */
	r = localdir_sync_folder(ld, ld->v_fd);
	if (r < 0)
		return localdir_error(ld, op, -r, "fsync", ".massfs/v", "");
	atomic_store_explicit(&ld->folder_ready[folder], true, memory_order_release);
	return 0;
}

int localdir_sync_version_folder(struct localdir *ld, struct op_ctx *op, uint8_t folder)
{
	LOCALDIR_AUTOFD int fd = -1;
	char name[4];
	int r;

	if (ld->nosync)
		return 0;
	snprintf(name, sizeof(name), "%02x", folder);
	fd = openat(ld->v_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return localdir_error(ld, op, errno, "open", ".massfs/v/", name);
	r = localdir_sync_folder(ld, fd);
	return r < 0 ? localdir_error(ld, op, -r, "fsync", ".massfs/v/", name) : 0;
}
