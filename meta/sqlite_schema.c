/*
 * The database file as a whole: recognising ours, making a new one, checking one thoroughly.
 */
#include "meta/sqlite_schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "meta/records.h"

static int refuse(struct sqlite_conn *c, int r, const char *why)
{
	mfs_log(MFS_LOG_META, MFS_LOG_ERR, c->op, "index=%s refused: %s", c->path, why);
	return r;
}

/*
 * A copy that was cut short. SQLite sees that only where whole pages are missing; and only with an empty log is all
 * of the database in this file.
 */
int schema_check_length(struct sqlite_conn *c)
{
	int64_t pages = 0, page_size = 0;
	char *wal = NULL;
	struct stat db, log;
	int r;

	if (asprintf(&wal, "%s-wal", c->path) < 0)
		return -ENOMEM;
	r = stat(wal, &log) == 0 && log.st_size > 0;
	free(wal);
	if (r || stat(c->path, &db) < 0)
		return 0;
	r = conn_query_i64(c, "PRAGMA page_count", &pages);
	if (r == 0)
		r = conn_query_i64(c, "PRAGMA page_size", &page_size);
	if (r == 0 && db.st_size < pages * page_size)
		return refuse(c, -EUCLEAN, "the file is cut short: restore it from a backup, with its -wal");
	return r;
}

int schema_check(struct sqlite_conn *c)
{
	int64_t id = 0, version = 0;
	int r = conn_query_i64(c, "PRAGMA application_id", &id);

	if (r == 0)
		r = conn_query_i64(c, "PRAGMA user_version", &version);
	if (r == 0)
		r = schema_check_length(c);
	if (r < 0)
		return r;
	if (id != SQLITE_APPLICATION_ID)
		return refuse(c, -EUCLEAN, "it is no massfs index (another program's database, or format was interrupted:"
					   " check the path, or run massfs format)");
	if (version > MFS_SCHEMA)
		return refuse(c, -EPROTONOSUPPORT, "its schema is newer than this program: install a newer massfs");
	if (version >= 1 && version < MFS_SCHEMA)
		return refuse(c, -EPROTO, "it was made by an older massfs: unmount the volume and run `massfs upgrade"
						   " SOURCE` once");
	if (version != MFS_SCHEMA)
		return refuse(c, -EUCLEAN, "its schema number is none that ever was: restore it from a backup");
	return schema_check_volume(c);
}

int schema_check_volume(struct sqlite_conn *c)
{
	int64_t v = 0;
	int r = conn_query_i64(c, "SELECT next_ino FROM volume WHERE one=1", &v);

	/* An index that was made and not yet formatted has no root; a formatted one must. */
	if (r == 0)
		r = conn_query_i64(c, "SELECT NOT formatted OR EXISTS(SELECT 1 FROM files WHERE ino=1) FROM volume", &v);
	if (r == -ENOENT)
		return refuse(c, -EUCLEAN, "its volume record is missing: restore it from a backup");
	if (r == 0 && !v)
		return refuse(c, -EUCLEAN, "its root directory is missing: restore it from a backup");
	return r;
}

int schema_create(struct sqlite_conn *c)
{
	int64_t pages = 0;
	char text[96];
	int r = conn_query_i64(c, "PRAGMA page_count", &pages);

	if (r < 0 || pages)
		return r;
	r = conn_exec_text(c, "PRAGMA page_size=4096; PRAGMA journal_mode=WAL");
	if (r < 0)
		return r;
	r = conn_exec(c, SQL_BEGIN);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "PRAGMA application_id=%d; PRAGMA user_version=%d", SQLITE_APPLICATION_ID,
		 MFS_SCHEMA);
	/* Somebody else may have made it since we looked. */
	r = conn_query_i64(c, "SELECT count(*) FROM sqlite_schema", &pages);
	if (r == 0 && pages == 0)
		r = conn_exec_text(c, sqlite_ddl);
	if (r == 0 && pages == 0)
		r = conn_exec_text(c, text);
	if (r == 0)
		r = conn_exec(c, SQL_COMMIT);
	if (r < 0)
		conn_rollback(c);
	return r;
}

/* What SQLite cannot know: rules between the tables. Each gives a count of offenders. */
static const struct {
	const char *sql, *fault;
} rules[] = {
	{ "SELECT count(*) FROM aliases a WHERE NOT EXISTS(SELECT 1 FROM files f WHERE f.ino=a.target)",
	  "hard links to a file that does not exist" },
	{ "SELECT count(*) FROM aliases a JOIN files f ON f.parent=a.parent AND f.name=a.name",
	  "names that are there twice" },
	{ "SELECT count(*) FROM files f JOIN trash t ON t.ino=f.ino", "records that are in files and in trash" },
	{ "SELECT count(*) FROM aliases a JOIN files f ON f.ino=a.id", "numbers used for a file and for a hard link" },
	{ "SELECT count(*) FROM files f WHERE f.parent<>0 AND NOT EXISTS(SELECT 1 FROM files p WHERE p.ino=f.parent)",
	  "files in a directory that does not exist" },
	{ "SELECT count(*) FROM files WHERE ino>=(SELECT next_ino FROM volume)", "files with a number not yet given" },
	{ "SELECT count(*) FROM (SELECT ino FROM files WHERE inline_len>0 OR slices_len>0 UNION ALL SELECT ino FROM trash"
	  " WHERE inline_len>0 OR slices_len>0) WHERE ino NOT IN (SELECT ino FROM contents)",
	  "records whose inline bytes or slices are missing" },
	{ "SELECT count(*) FROM contents c LEFT JOIN files f ON f.ino=c.ino LEFT JOIN trash t ON t.ino=c.ino"
	  " WHERE coalesce(f.inline_len,t.inline_len,0)<>coalesce(length(c.inline),0)"
	  " OR coalesce(f.slices_len,t.slices_len,0)<>coalesce(length(c.slices),0)",
	  "inline bytes or slices that no record has, or of another length" },
	{ "SELECT count(*) FROM tags t WHERE NOT EXISTS(SELECT 1 FROM files f WHERE f.ino=t.ino)",
	  "tags of a file that does not exist" },
};

int schema_verify(struct sqlite_conn *c, void (*report)(void *arg, const char *text), void *arg)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(c->db, "PRAGMA integrity_check(100)", -1, &st, NULL);
	char text[256];
	int r = 0;

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0) {
			snprintf(text, sizeof(text), "sqlite: %s", (const char *)sqlite3_column_text(st, 0));
			report(arg, text);
		}
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE) {
		snprintf(text, sizeof(text), "sqlite: the check itself failed: %s", sqlite3_errmsg(c->db));
		report(arg, text);
		return 0; /* what else there is cannot be read */
	}
	for (size_t i = 0; r == 0 && i < MFS_ARRAY_LEN(rules); i++) {
		int64_t n = 0;

		r = conn_query_i64(c, rules[i].sql, &n);
		if (r == 0 && n) {
			snprintf(text, sizeof(text), "%" PRId64 " %s", n, rules[i].fault);
			report(arg, text);
		}
	}
	return r;
}
