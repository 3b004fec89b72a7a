/*
 * A layer under SQLite's writer that turns the many small writes of one commit into one. Private to meta/sqlite_*.
 *
 * SQLite writes each page of a commit to the log with two pwrite() calls (24 bytes of header, 4096 of page): twelve
 * system calls for a create, two thirds of its time. The layer gathers them and writes once, when SQLite asks for the
 * sync that ends a commit (the writer runs with synchronous=FULL for that alone); that sync itself is left out while
 * `defer_sync` is set, because meta/sqlite_wal.c does it for many commits together. Only then does SQLite publish the
 * commit in the log's index, so a reader never looks for a page that is still gathered here.
 */
#ifndef MASSFS_META_SQLITE_VFS_H
#define MASSFS_META_SQLITE_VFS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

struct sqlite_vfs {
	sqlite3_vfs base;
	char name[40];
	bool registered;
	bool defer_sync; /* set around a COMMIT by the writer's thread, the only one that uses the layer */
	bool nosync;	 /* never sync */
};

/*
 * The VFS that all connections of one engine have beneath. "unix-excl" locks the database for this process (a second
 * process is refused, also after our own lock file failed) and so needs neither a -shm file nor a system call to
 * begin and end each read.
 */
#define SQLITE_VFS_BASE "unix-excl"

/* Make it known to SQLite under v->name until the end. v must not move. */
int sqlite_vfs_start(struct sqlite_vfs *v, bool nosync) __attribute__((warn_unused_result));
void sqlite_vfs_stop(struct sqlite_vfs *v); /* after the connection is closed */

#endif
