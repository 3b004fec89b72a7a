/*
 * Durability and checkpoints of the sqlite engine.
 *
 * A COMMIT writes its pages to the end of the -wal file and does not sync (sqlite_vfs.h). A change that must be durable
 * then waits in wal_sync(), outside the writer's lock, where one thread syncs for all that wait.
 *
 * Why a plain fdatasync of the -wal file by a descriptor of our own is enough:
 *  - A frame of the log carries a checksum over all frames before it, so recovery takes the longest whole prefix: when
 *    a commit's frames are on disk, and all before them are (fdatasync is of the whole file), that commit and all
 *    before it are recovered; of later ones, a prefix. So changes are ordered, and none is ever half there.
 *  - The log is started again from the top only after a checkpoint that had synced it, copied it into the database and
 *    synced that. A commit of the old log that is synced "late" is then in the synced database already. The new header
 *    is synced before frames are written after it (SQLite's syncHeader, which sqlite_vfs.c never defers), so that a
 *    new header is never found with old frames or the reverse.
 *  - The file keeps its inode while the writer's connection is open (SQLite deletes it with the last one; a checkpoint
 *    truncates it at most). Its name is made durable once, by the fsync of its directory in wal_start().
 *  - SQLite takes its fcntl locks on the database and -shm only, so that closing our descriptor of -wal drops none.
 *  fdatasync also writes the file's new length where it grew: POSIX counts it among what reading the data needs.
 *
 * A sync that failed is not tried again: Linux may have dropped the pages, and a second fsync would report success
 * (PostgreSQL's lesson of 2018). The engine refuses changes from then on; a new start recovers what is on the disk.
 */
#include "meta/sqlite_wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "meta/sqlite_vfs.h"

#define CHECKPOINT_FRAMES 3072	/* 12 MiB of 4 KiB pages */
#define RESTART_FRAMES	  16384 /* 64 MiB: readers or a steady writer kept the log from starting again */

/* Called by SQLite after each commit, with the writer's lock held. */
static int on_commit(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct sqlite_wal *w = arg;
	MFS_GUARD(&w->lock);

	(void)db;
	(void)name;
	if (frames < w->frames)
		w->trigger = CHECKPOINT_FRAMES; /* it has started again */
	w->frames = frames;
	if (frames >= w->trigger)
		pthread_cond_signal(&w->work);
	return SQLITE_OK;
}

/* With the writer's lock held. The writer runs with FULL for the layer's sake; a checkpoint takes that at its word. */
static int checkpoint_by_writer(struct sqlite_wal *w, int mode, int *ret_log, int *ret_done)
{
	sqlite3 *db = w->writer->db;
	int rc;

	if (!w->nosync)
		return sqlite3_wal_checkpoint_v2(db, NULL, mode, ret_log, ret_done);
	rc = sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_wal_checkpoint_v2(db, NULL, mode, ret_log, ret_done);
	(void)sqlite3_exec(db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
	return rc;
}

static int log_length(struct sqlite_wal *w)
{
	MFS_GUARD(&w->lock);
	return w->frames;
}

/*
 * A passive checkpoint under the guard of a read transaction, because of SQLite's "WAL-reset bug" (3.7.0 to 3.51.2,
 * Debian 12 has 3.40): a passive checkpoint that begins when all is copied, while another connection starts the log
 * again, may take pages of the new log for copied; they are lost. Our race tests met it within a minute on two
 * instances. An open read transaction either sees pages that are not copied yet, and then the log is not started
 * again before it ends; or it sees that all is copied, and then a checkpoint finds the database's read lock held and
 * copies nothing. The other modes hold the write lock meanwhile and are not concerned.
 */
static int checkpoint_passive(struct sqlite_wal *w, int *ret_log, int *ret_done)
{
	int64_t v;
	int rc;

	if (conn_exec_text(&w->guard, "BEGIN") < 0)
		return SQLITE_ERROR;
	if (conn_query_i64(&w->guard, "SELECT one FROM volume", &v) < 0)
		rc = SQLITE_ERROR;
	else
		rc = sqlite3_wal_checkpoint_v2(w->conn.db, NULL, SQLITE_CHECKPOINT_PASSIVE, ret_log, ret_done);
	conn_rollback(&w->guard);
	return rc;
}

/*
 * PASSIVE copies what it can beside readers and the writer, and does not make them wait. If it got to the end, the
 * next commit starts the log again. A writer without pause is always ahead of it: when the log has grown long, the
 * rest is copied with the writer held, which is little by then.
 */
static void checkpoint(struct sqlite_wal *w)
{
	int log = 0, done = 0;
	int rc = checkpoint_passive(w, &log, &done);

	/* log is how long it was when SQLite looked; frames is how long it is. */
	if (rc == SQLITE_OK && log > (w->nosync ? CHECKPOINT_FRAMES / 2 : RESTART_FRAMES) && log_length(w) > done) {
		MFS_GUARD(w->write_lock);
		rc = checkpoint_by_writer(w, SQLITE_CHECKPOINT_FULL, &log, &done);
	}
	if (rc != SQLITE_OK && rc != SQLITE_BUSY)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL,
			"index=%s checkpoint: sqlite=%d (%s); the log grows on and it is tried again", w->path, rc,
			sqlite3_errstr(rc));
	{
		MFS_GUARD(&w->lock);
		/* What was copied is not copied again: wait for as much more; unless it has been started again. */
		w->trigger = (w->frames < log ? 0 : log) + CHECKPOINT_FRAMES;
	}
}

static void *checkpoint_thread(void *arg)
{
	struct sqlite_wal *w = arg;
	bool stop;

	do {
		{
			MFS_GUARD(&w->lock);
			while (!w->stop && w->frames < w->trigger)
				pthread_cond_wait(&w->work, &w->lock.m);
			stop = w->stop;
		}
		if (!stop)
			checkpoint(w);
	} while (!stop);
	return NULL;
}

/* The descriptor for syncs, and the directory entry made durable. */
static int open_log(struct sqlite_wal *w)
{
	char *wal_path = NULL, *dir = NULL;
	int dir_fd = -1, r = 0;

	if (asprintf(&wal_path, "%s-wal", w->path) < 0)
		return -ENOMEM;
	w->fd = open(wal_path, O_RDWR | O_CLOEXEC);
	if (w->fd < 0)
		r = -errno;
	dir = wal_path;
	dir_fd = r < 0 ? -1 : open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0 && (dir_fd < 0 || (!w->nosync && fsync(dir_fd) < 0)))
		r = -errno;
	if (dir_fd >= 0)
		close(dir_fd);
	free(wal_path);
	if (r < 0)
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL, "index=%s-wal cannot be opened and synced: %s", w->path,
			strerror(-r));
	return r;
}

int wal_start(struct sqlite_wal *w, const char *path, bool nosync, uint64_t cache_bytes, struct mfs_mutex *write_lock,
	      struct sqlite_conn *writer)
{
	int r;

	*w = (struct sqlite_wal){
		.path = path,
		.nosync = nosync,
		.fd = -1,
		.trigger = CHECKPOINT_FRAMES,
		.write_lock = write_lock,
		.writer = writer,
	};
	pthread_mutex_init(&w->lock.m, NULL);
	pthread_cond_init(&w->synced_changed, NULL);
	pthread_cond_init(&w->work, NULL);
	r = open_log(w);
	if (r == 0)
		r = conn_open(&w->conn, path, SQLITE_VFS_BASE, nosync ? CONN_NOSYNC : 0, cache_bytes);
	if (r == 0)
		r = conn_open(&w->guard, path, SQLITE_VFS_BASE, 0, 0);
	if (r < 0)
		return r;
	sqlite3_wal_hook(writer->db, on_commit, w);
	r = -pthread_create(&w->thread, NULL, checkpoint_thread, w);
	w->started = r == 0;
	return r;
}

void wal_stop(struct sqlite_wal *w)
{
	int rc, log, done;

	if (!w->path)
		return; /* never started */
	if (w->started) {
		{
			MFS_GUARD(&w->lock);
			w->stop = true;
			pthread_cond_signal(&w->work);
		}
		pthread_join(w->thread, NULL);
		sqlite3_wal_hook(w->writer->db, NULL, NULL);
		/* Not after a failed sync: what the page cache shows may not be what the disk has. */
		if (w->broken)
			rc = sqlite3_db_config(w->writer->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		else
			rc = checkpoint_by_writer(w, SQLITE_CHECKPOINT_TRUNCATE, &log, &done);
		if (rc != SQLITE_OK && rc != SQLITE_BUSY)
			mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL,
				"index=%s last checkpoint: sqlite=%d (%s); the next start does it", w->path, rc,
				sqlite3_errstr(rc));
	}
	conn_close(&w->guard);
	conn_close(&w->conn);
	if (w->fd >= 0)
		close(w->fd);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->synced_changed);
	pthread_mutex_destroy(&w->lock.m);
}

uint64_t wal_committed(struct sqlite_wal *w)
{
	MFS_GUARD(&w->lock);
	return ++w->committed;
}

uint64_t wal_latest(struct sqlite_wal *w)
{
	MFS_GUARD(&w->lock);
	return w->committed;
}

bool wal_is_broken(struct sqlite_wal *w)
{
	MFS_GUARD(&w->lock);
	return w->broken;
}

/* The leader's part, with the lock let go for the sync itself. */
static void sync_for_all(struct sqlite_wal *w)
{
	uint64_t upto = w->committed;
	int err;

	w->syncing = true;
	pthread_mutex_unlock(&w->lock.m);
	err = fdatasync(w->fd) < 0 ? errno : 0;
	pthread_mutex_lock(&w->lock.m);
	w->syncing = false;
	if (err) {
		w->broken = true;
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL,
			"index=%s-wal cannot be synced: %s; no change is taken any more: check the disk and mount again",
			w->path, strerror(err));
	} else {
		w->synced = upto;
	}
	pthread_cond_broadcast(&w->synced_changed);
}

int wal_sync(struct sqlite_wal *w, uint64_t number)
{
	MFS_GUARD(&w->lock);

	if (w->nosync)
		return 0;
	while (!w->broken && w->synced < number) {
		if (w->syncing)
			pthread_cond_wait(&w->synced_changed, &w->lock.m);
		else
			sync_for_all(w);
	}
	return w->broken ? -EIO : 0;
}
