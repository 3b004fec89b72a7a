/*
 * Opening a connection, its prepared statements, and what SQLite's result codes mean as errno.
 */
#include "meta/sqlite_conn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

/*
 * How long another connection may keep us waiting: a second instance in this process while it commits; at the opening
 * another process, which either holds the index for as long as it runs or is about to end.
 */
#define BUSY_WAIT_NS	  INT64_C(15000000000)
#define BUSY_WAIT_OPEN_NS INT64_C(1000000000)

static int errno_of(const struct sqlite_conn *c, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return c->opening ? -EBUSY : -ETIMEDOUT;
	case SQLITE_ERROR: /* a statement that does not fit the tables */
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return c->opening ? -EUCLEAN : -EIO;
	case SQLITE_IOERR:
		/* What a full disk or a quota gives to SQLite's write() is not always told as SQLITE_FULL. */
		if (c->db) {
			int sys = sqlite3_system_errno(c->db);

			if (sys == ENOSPC || sys == EDQUOT)
				return -ENOSPC;
			if (sys == EROFS)
				return -EROFS;
		}
		return -EIO;
	case SQLITE_CANTOPEN:
		return c->opening && c->db && sqlite3_system_errno(c->db) == ENOENT ? -ENOENT : -EIO;
	default:
		return -EIO;
	}
}

static const char *advice(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return "the index is damaged: unmount, keep a copy of the file and its -wal, and run massfs fsck";
	case SQLITE_FULL:
		return "the disk of the index is full: make room there";
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return "another program holds the index: end it";
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return "the index cannot be written: check its permissions and mount";
	default:
		return "check the disk and the kernel's log";
	}
}

int conn_error(struct sqlite_conn *c, int rc, const char *doing)
{
	int r = errno_of(c, rc);

	mfs_log(MFS_LOG_META, MFS_LOG_ERR, c->op, "index=%s doing=\"%.60s\" sqlite=%d (%s) errno=%d: %s", c->path, doing, rc,
		c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc), -r, advice(rc));
	return r;
}

/*
 * Within one engine the writer's mutex keeps order; this is for a second one. SQLite's own busy_timeout sleeps
 * 1-100 ms at a time, a thousand times the length of our transactions.
 */
static int busy(void *arg, int count)
{
	struct timespec pause = { .tv_nsec = count < 200 ? 50000 : 2000000 };
	struct sqlite_conn *c = arg;

	if (count == 0)
		c->busy_since = mfs_mono_ns();
	else if (mfs_mono_ns() - c->busy_since > (c->opening ? BUSY_WAIT_OPEN_NS : BUSY_WAIT_NS))
		return 0;
	nanosleep(&pause, NULL);
	return 1;
}

static int set_pragmas(struct sqlite_conn *c, unsigned int flags, uint64_t cache_bytes)
{
	char text[256];
	/* NORMAL: a checkpoint syncs, a commit does not; FULL: see sqlite_vfs.h. */
	const char *sync = flags & CONN_WRITER ? "FULL" : flags & CONN_NOSYNC ? "OFF" : "NORMAL";
	int r;

	snprintf(text, sizeof(text),
		 "PRAGMA cache_size=-%" PRIu64 "; PRAGMA synchronous=%s; PRAGMA temp_store=MEMORY;"
		 "PRAGMA foreign_keys=OFF; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON",
		 MFS_MAX(cache_bytes / 1024, (uint64_t)64), sync);
	r = conn_exec_text(c, text);
	if (r < 0 || (flags & CONN_READONLY))
		return r;
	return conn_exec_text(c, "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864");
}

/* A path as a file: URI, for the parameter immutable. */
static char *uri_of(const char *path, bool immutable)
{
	char *uri = malloc(strlen(path) * 3 + 32), *p = uri;

	if (!uri)
		return NULL;
	p += sprintf(p, "file:");
	for (; *path; path++)
		p += sprintf(p, strchr("%?#", *path) ? "%%%02X" : "%c", (unsigned char)*path);
	sprintf(p, "%s", immutable ? "?immutable=1" : "");
	return uri;
}

int conn_open(struct sqlite_conn *c, const char *path, const char *vfs, unsigned int flags, uint64_t cache_bytes)
{
	MFS_AUTOFREE char *uri = uri_of(path, flags & CONN_IMMUTABLE);
	/* NOMUTEX: the engine gives a connection to one thread at a time. */
	int how = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_PRIVATECACHE;
	int rc, r;

	*c = (struct sqlite_conn){ .path = path, .opening = true };
	if (!uri)
		return -ENOMEM;
	if (flags & CONN_READONLY)
		how |= SQLITE_OPEN_READONLY;
	else
		how |= SQLITE_OPEN_READWRITE | (flags & CONN_CREATE ? SQLITE_OPEN_CREATE : 0);
	rc = sqlite3_open_v2(uri, &c->db, how, vfs);
	if (rc != SQLITE_OK) {
		r = conn_error(c, rc, "open");
		conn_close(c);
		return r;
	}
	sqlite3_busy_handler(c->db, busy, c);
	r = set_pragmas(c, flags, cache_bytes);
	/* Where the file cannot be written SQLite opens it for reading without a word. */
	if (r == 0 && !(flags & CONN_READONLY) && sqlite3_db_readonly(c->db, "main") == 1)
		r = conn_error(c, SQLITE_READONLY, "open for writing");
	if (r < 0)
		conn_close(c);
	else
		c->opening = flags & CONN_OPENING;
	return r;
}

void conn_close(struct sqlite_conn *c)
{
	for (int i = 0; i < SQL_N; i++)
		sqlite3_finalize(c->stmt[i]);
	sqlite3_close(c->db);
	*c = (struct sqlite_conn){ 0 };
}

int conn_stmt(struct sqlite_conn *c, enum sql_id id, sqlite3_stmt **ret)
{
	if (!c->stmt[id]) {
		int rc = sqlite3_prepare_v3(c->db, sqlite_sql[id], -1, SQLITE_PREPARE_PERSISTENT, &c->stmt[id], NULL);

		if (rc != SQLITE_OK)
			return conn_error(c, rc, sqlite_sql[id]);
	}
	*ret = c->stmt[id];
	return 0;
}

int conn_prepare(struct sqlite_conn *c, enum sql_id from, enum sql_id to)
{
	sqlite3_stmt *st;
	int r = 0;

	for (int id = (int)from; r == 0 && id < (int)to; id++)
		r = conn_stmt(c, (enum sql_id)id, &st);
	return r;
}

void conn_done(sqlite3_stmt **st)
{
	/* The result of the last step again, which its caller has seen. */
	(void)sqlite3_reset(*st);
}

int conn_step(struct sqlite_conn *c, sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE)
		return 0;
	if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_ROWID)
		return -EEXIST;
	return conn_error(c, rc, sqlite3_sql(st));
}

int conn_run(struct sqlite_conn *c, sqlite3_stmt *st)
{
	int r;

	do
		r = conn_step(c, st);
	while (r > 0);
	return r;
}

int conn_exec(struct sqlite_conn *c, enum sql_id id)
{
	CONN_STMT(st);
	int r = conn_stmt(c, id, &st);

	return r < 0 ? r : conn_run(c, st);
}

int conn_exec_text(struct sqlite_conn *c, const char *sql)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : conn_error(c, rc, sql);
}

int conn_query_i64(struct sqlite_conn *c, const char *sql, int64_t *ret)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(c->db, sql, -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	if (rc == SQLITE_ROW)
		return 0;
	return rc == SQLITE_DONE ? -ENOENT : conn_error(c, rc, sql);
}

void conn_rollback(struct sqlite_conn *c)
{
	if (sqlite3_get_autocommit(c->db))
		return; /* SQLite took it back by itself, or none was begun */
	if (conn_exec(c, SQL_ROLLBACK) < 0 && !sqlite3_get_autocommit(c->db))
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, c->op, "index=%s a transaction cannot be taken back", c->path);
}
