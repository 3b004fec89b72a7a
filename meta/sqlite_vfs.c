/*
 * The gathering layer: everything goes to the VFS below but the -wal file, whose writes are held back while each
 * follows on the one before.
 */
#include "meta/sqlite_vfs.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/defs.h"

/* SQLite's unix VFS takes at most 0x1ffff bytes in one write. */
#define GATHER_MAX (120 * 1024)

/* In memory that SQLite gives: this, then the file of the VFS below. */
struct log_file {
	sqlite3_file base;
	struct sqlite_vfs *vfs;
	unsigned char *buf; /* GATHER_MAX, from the first write on */
	size_t len;	    /* gathered, for offset `off` */
	sqlite3_int64 off;
	bool header_unsynced; /* the log was started again: that write must not be deferred */
};

static sqlite3_file *below(sqlite3_file *f)
{
	return (sqlite3_file *)(void *)((char *)f + sizeof(struct log_file));
}

static struct log_file *log_of(sqlite3_file *f)
{
	return mfs_container_of(f, struct log_file, base);
}

static int flush(struct log_file *l)
{
	sqlite3_file *real = below(&l->base);
	size_t len = l->len;

	l->len = 0; /* also when it fails: SQLite then takes the transaction back */
	if (len == 0)
		return SQLITE_OK;
	if (l->off == 0)
		l->header_unsynced = true;
	return real->pMethods->xWrite(real, l->buf, (int)len, l->off);
}

static int log_write(sqlite3_file *f, const void *p, int amount, sqlite3_int64 off)
{
	struct log_file *l = log_of(f);
	size_t n = (size_t)amount;
	int rc;

	if (l->len && (off != l->off + (sqlite3_int64)l->len || l->len + n > GATHER_MAX)) {
		rc = flush(l);
		if (rc != SQLITE_OK)
			return rc;
	}
	if (!l->buf)
		l->buf = malloc(GATHER_MAX);
	if (!l->buf)
		return SQLITE_IOERR_NOMEM;
	if (n > GATHER_MAX)
		return SQLITE_IOERR_WRITE; /* no page is that large */
	if (l->len == 0)
		l->off = off;
	memcpy(l->buf + l->len, p, n);
	l->len += n;
	return SQLITE_OK;
}

static int log_sync(sqlite3_file *f, int flags)
{
	struct log_file *l = log_of(f);
	sqlite3_file *real = below(f);
	int rc = flush(l);

	if (rc != SQLITE_OK || l->vfs->nosync)
		return rc;
	if (l->vfs->defer_sync && !l->header_unsynced)
		return SQLITE_OK;
	rc = real->pMethods->xSync(real, flags);
	if (rc == SQLITE_OK)
		l->header_unsynced = false;
	return rc;
}

static int log_read(sqlite3_file *f, void *p, int amount, sqlite3_int64 off)
{
	sqlite3_file *real = below(f);
	int rc = flush(log_of(f)); /* a transaction that outgrew the cache reads its own pages back */

	return rc == SQLITE_OK ? real->pMethods->xRead(real, p, amount, off) : rc;
}

static int log_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	sqlite3_file *real = below(f);
	int rc = flush(log_of(f));

	return rc == SQLITE_OK ? real->pMethods->xTruncate(real, size) : rc;
}

static int log_file_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	sqlite3_file *real = below(f);
	int rc = flush(log_of(f));

	return rc == SQLITE_OK ? real->pMethods->xFileSize(real, ret) : rc;
}

static int log_close(sqlite3_file *f)
{
	struct log_file *l = log_of(f);
	sqlite3_file *real = below(f);
	int rc = flush(l), rc_close = real->pMethods->xClose(real);

	free(l->buf);
	l->buf = NULL;
	return rc == SQLITE_OK ? rc_close : rc;
}

static int log_lock(sqlite3_file *f, int how)
{
	return below(f)->pMethods->xLock(below(f), how);
}

static int log_unlock(sqlite3_file *f, int how)
{
	return below(f)->pMethods->xUnlock(below(f), how);
}

static int log_check_lock(sqlite3_file *f, int *ret)
{
	return below(f)->pMethods->xCheckReservedLock(below(f), ret);
}

static int log_control(sqlite3_file *f, int op, void *arg)
{
	return below(f)->pMethods->xFileControl(below(f), op, arg);
}

static int log_sector_size(sqlite3_file *f)
{
	return below(f)->pMethods->xSectorSize(below(f));
}

static int log_characteristics(sqlite3_file *f)
{
	return below(f)->pMethods->xDeviceCharacteristics(below(f));
}

static const sqlite3_io_methods log_methods = {
	.iVersion = 1,
	.xClose = log_close,
	.xRead = log_read,
	.xWrite = log_write,
	.xTruncate = log_truncate,
	.xSync = log_sync,
	.xFileSize = log_file_size,
	.xLock = log_lock,
	.xUnlock = log_unlock,
	.xCheckReservedLock = log_check_lock,
	.xFileControl = log_control,
	.xSectorSize = log_sector_size,
	.xDeviceCharacteristics = log_characteristics,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	sqlite3_vfs *real = vfs->pAppData;
	struct log_file *l;
	int rc;

	if (!(flags & SQLITE_OPEN_WAL))
		return real->xOpen(real, name, f, flags, ret_flags);
	l = log_of(f);
	*l = (struct log_file){ .vfs = mfs_container_of(vfs, struct sqlite_vfs, base) };
	rc = real->xOpen(real, name, below(f), flags, ret_flags);
	/* Without methods SQLite does not close it. */
	l->base.pMethods = rc == SQLITE_OK ? &log_methods : NULL;
	return rc;
}

int sqlite_vfs_start(struct sqlite_vfs *v, bool nosync)
{
	sqlite3_vfs *real = sqlite3_vfs_find(SQLITE_VFS_BASE);

	if (!real)
		return -ENOSYS;
	/* All but xOpen is the real one's, which takes nothing from the structure it is called with. */
	*v = (struct sqlite_vfs){ .base = *real, .nosync = nosync };
	snprintf(v->name, sizeof(v->name), "massfs-%p", (void *)v);
	v->base.zName = v->name;
	v->base.pNext = NULL;
	v->base.pAppData = real;
	v->base.szOsFile = real->szOsFile + (int)sizeof(struct log_file);
	v->base.xOpen = vfs_open;
	v->registered = sqlite3_vfs_register(&v->base, 0) == SQLITE_OK;
	return v->registered ? 0 : -ENOMEM;
}

void sqlite_vfs_stop(struct sqlite_vfs *v)
{
	if (v->registered)
		sqlite3_vfs_unregister(&v->base);
	v->registered = false;
}
