/* The sqlite engine: opening and closing it, and read-only engines of one moment. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "meta/sqlite_engine.h"

#define CACHE_DEFAULT (32 * MFS_MIB)
#define SNAPSHOT_CACHE (4 * MFS_MIB)
#define WARM_MAX      (32 * MFS_MIB)

void sqlite_free(struct engine *e)
{
	struct sqlite_engine *s = sqlite_engine_of(e);

	for (int i = 0; i < SQLITE_READERS; i++)
		conn_close(&s->readers[i]);
	wal_stop(&s->wal);
	conn_close(&s->writer);
	sqlite_vfs_stop(&s->vfs);
	op_rings_free(s->rings);
	pthread_cond_destroy(&s->pool_free);
	pthread_mutex_destroy(&s->pool_lock.m);
	pthread_mutex_destroy(&s->write_lock.m);
	free(s->path);
	free(s);
}

/*
 * The first calls would wait for the disk page after page (some 0.1 ms each; a listing of 10,000 files has 400): read
 * what there is in one go, into the kernel's cache. By SQLite's descriptor: to close another one drops its locks.
 */
static void warm_file(struct sqlite_conn *c)
{
	MFS_AUTOFREE char *buf = malloc(MFS_MIB);
	sqlite3_file *f = NULL;
	sqlite3_int64 size = 0;

	if (!buf || sqlite3_file_control(c->db, "main", SQLITE_FCNTL_FILE_POINTER, &f) != SQLITE_OK || !f->pMethods ||
	    f->pMethods->xFileSize(f, &size) != SQLITE_OK)
		return;
	size = MFS_MIN(size, (sqlite3_int64)WARM_MAX);
	for (sqlite3_int64 off = 0; off < size; off += MFS_MIB)
		if (f->pMethods->xRead(f, buf, (int)MFS_MIN(size - off, (sqlite3_int64)MFS_MIB), off) != SQLITE_OK)
			return; /* whoever needs the page will hear of it */
}

static int open_writing(struct sqlite_engine *s, const struct sqlite_options *opt, uint64_t cache)
{
	unsigned int flags = CONN_WRITER | CONN_OPENING | (opt->create ? CONN_CREATE : 0) | (opt->nosync ? CONN_NOSYNC : 0);
	int64_t tables;
	int r = sqlite_vfs_start(&s->vfs, opt->nosync);

	s->reader_vfs = SQLITE_VFS_BASE;
	if (r == 0)
		r = conn_open(&s->writer, s->path, s->vfs.name, flags, cache / 2);
	if (r < 0)
		return r;
	warm_file(&s->writer);
	if (opt->create)
		r = schema_create(&s->writer);
	if (r == 0)
		r = schema_check(&s->writer);
	/* A database restored by hand may have left WAL mode, in which it is as good but slow. */
	if (r == 0)
		r = conn_exec_text(&s->writer, "PRAGMA journal_mode=WAL");
	if (r == 0)
		r = conn_query_i64(&s->writer, "SELECT count(*) FROM sqlite_schema", &tables);
	if (r == 0)
		r = conn_prepare(&s->writer, 0, SQL_N);
	if (r == 0)
		r = wal_start(&s->wal, s->path, opt->nosync, cache / 8, &s->write_lock, &s->writer);
	s->writer.opening = false;
	return r;
}

/* Is there nothing in the log that only a recovery could read? */
static bool log_is_empty(const char *path)
{
	char *wal = NULL;
	struct stat st;
	bool empty;

	if (asprintf(&wal, "%s-wal", path) < 0)
		return false;
	empty = stat(wal, &st) < 0 ? errno == ENOENT : st.st_size == 0;
	free(wal);
	return empty;
}

/* On read-only media SQLite can make no -shm; with an empty log the file alone is the whole index. */
static int open_reading(struct sqlite_engine *s)
{
	struct sqlite_conn *c = &s->readers[0];
	int r;

	s->reader_flags = CONN_READONLY;
	if (access(s->path, W_OK) < 0 && errno == EROFS && log_is_empty(s->path))
		s->reader_flags |= CONN_IMMUTABLE;
	r = conn_open(c, s->path, s->reader_vfs, s->reader_flags | CONN_OPENING, s->reader_cache);
	if (r == 0)
		warm_file(c);
	if (r == 0)
		r = schema_check(c);
	c->opening = false;
	return r;
}

static struct sqlite_engine *engine_new(const char *path)
{
	struct sqlite_engine *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->path = strdup(path);
	if (!s->path) {
		free(s);
		return NULL;
	}
	s->base.ops = &sqlite_ops;
	pthread_mutex_init(&s->write_lock.m, NULL);
	pthread_mutex_init(&s->pool_lock.m, NULL);
	pthread_cond_init(&s->pool_free, NULL);
	for (int i = 0; i < SQLITE_READERS; i++)
		s->free[s->n_free++] = &s->readers[SQLITE_READERS - 1 - i];
	return s;
}

/*
 * An engine that only reads, by one connection whose read transaction stays open: every call waits for it and sees the
 * state of its first read. Beneath it the log cannot start again, so it grows until the snapshot is freed.
 */
int sqlite_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret)
{
	struct sqlite_engine *from = sqlite_engine_of(e), *s = engine_new(from->path);
	struct sqlite_conn *c;
	int64_t v;
	int r;

	if (!s)
		return -ENOMEM;
	s->readonly = true;
	s->reader_vfs = from->reader_vfs;
	s->reader_flags = from->reader_flags;
	s->n_free = 1;
	c = s->free[0];
	c->op = op;
	r = conn_open(c, s->path, s->reader_vfs, s->reader_flags, SNAPSHOT_CACHE);
	if (r == 0)
		r = conn_exec_text(c, "BEGIN");
	if (r == 0)
		r = conn_query_i64(c, "SELECT next_ino FROM volume", &v);
	if (r < 0) {
		sqlite_free(&s->base);
		return r;
	}
	*ret = &s->base;
	return 0;
}

int sqlite_engine_open(const char *path, const struct sqlite_options *opt, struct engine **ret)
{
	uint64_t cache = opt->cache_bytes ? opt->cache_bytes : CACHE_DEFAULT;
	struct sqlite_engine *s;
	int r;

	if (!opt->create && access(path, F_OK) < 0) {
		r = -errno;
		if (r != -ENOENT)
			mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL, "index=%s cannot be reached: %s", path, strerror(-r));
		return r;
	}
	s = engine_new(path);
	if (!s)
		return -ENOMEM;
	s->readonly = opt->readonly;
	s->nosync = opt->nosync;
	s->reader_cache = opt->readonly ? cache / SQLITE_READERS : cache * 3 / 8 / SQLITE_READERS;
	r = opt->readonly ? open_reading(s) : open_writing(s, opt, cache);
	if (r < 0) {
		sqlite_free(&s->base);
		return r;
	}
	*ret = &s->base;
	return 0;
}
