/*
 * One connection to the database with its prepared statements. Used by one thread at a time; who may is up to the
 * engine. Private to meta/sqlite_*.
 */
#ifndef MASSFS_META_SQLITE_CONN_H
#define MASSFS_META_SQLITE_CONN_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/defs.h"
#include "meta/sqlite_sql.h"

struct op_ctx;

struct sqlite_conn {
	sqlite3 *db;
	const char *path;   /* borrowed from the engine, for messages */
	struct op_ctx *op;  /* of the call under way, for messages; NULL: background */
	uint64_t random;    /* state of the generator of job tokens; 0: not seeded */
	int64_t busy_since; /* of the busy handler */
	bool opening;	    /* corrupt is -EUCLEAN and busy -EBUSY now; later -EIO, -ETIMEDOUT */
	sqlite3_stmt *stmt[SQL_N]; /* prepared at their first use, or by conn_prepare() */
};

enum conn_flags {
	CONN_CREATE = 1u << 0,
	CONN_READONLY = 1u << 1,
	CONN_IMMUTABLE = 1u << 2, /* read-only media: no locks, no -shm; only while nobody writes */
	CONN_NOSYNC = 1u << 3,
	CONN_OPENING = 1u << 5, /* the engine is being opened: `opening` stays set until the caller is done */
	CONN_WRITER = 1u << 4, /* commits are gathered and synced by the layer beneath (sqlite_vfs.h) */
};

/* Open on a VFS (NULL: SQLite's default), with all pragmas set. On failure nothing stays open and the reason is logged. */
int conn_open(struct sqlite_conn *c, const char *path, const char *vfs, unsigned int flags, uint64_t cache_bytes)
	MFS_NODISCARD;
void conn_close(struct sqlite_conn *c);

/* The statement, ready to be bound. Let it go with conn_done(): until then it may hold a read transaction. */
int conn_stmt(struct sqlite_conn *c, enum sql_id id, sqlite3_stmt **ret) MFS_NODISCARD;
void conn_done(sqlite3_stmt **st);
/* Prepare [from, to) now: the first call of each would take some 50 us more. */
int conn_prepare(struct sqlite_conn *c, enum sql_id from, enum sql_id to) MFS_NODISCARD;
#define CONN_STMT(name) MFS_CLEANUP(conn_done) sqlite3_stmt *name = NULL

/* 1: a row; 0: done; -EEXIST: a unique index refused; else -errno, logged. */
int conn_step(struct sqlite_conn *c, sqlite3_stmt *st) MFS_NODISCARD;
/* Step to the end of a statement whose rows do not matter. 0 or -errno. */
int conn_run(struct sqlite_conn *c, sqlite3_stmt *st) MFS_NODISCARD;
/* A statement without parameters, by number. */
int conn_exec(struct sqlite_conn *c, enum sql_id id) MFS_NODISCARD;
/* SQL text that is not in the table (pragmas, the schema). */
int conn_exec_text(struct sqlite_conn *c, const char *sql) MFS_NODISCARD;
/* The first column of the first row of such a text. */
int conn_query_i64(struct sqlite_conn *c, const char *sql, int64_t *ret) MFS_NODISCARD;

/* -errno for an SQLite result code, logged with what was being done. */
int conn_error(struct sqlite_conn *c, int rc, const char *doing) MFS_NODISCARD;
/* Take back the open transaction, if there is one. */
void conn_rollback(struct sqlite_conn *c);

static inline void bind_i64(sqlite3_stmt *st, int i, int64_t v)
{
	(void)sqlite3_bind_int64(st, i, v);
}
static inline void bind_u64(sqlite3_stmt *st, int i, uint64_t v)
{
	(void)sqlite3_bind_int64(st, i, (int64_t)v);
}
static inline uint64_t column_u64(sqlite3_stmt *st, int i)
{
	return (uint64_t)sqlite3_column_int64(st, i);
}
static inline uint32_t column_u32(sqlite3_stmt *st, int i)
{
	return (uint32_t)sqlite3_column_int64(st, i);
}

#endif
