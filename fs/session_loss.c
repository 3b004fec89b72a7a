/*
 * This mount was frozen and its session buried. Whoever writes a file that was locked hears of it, as he believes to be
 * alone with it and is not; unlinked files that are open are held open by the new session.
 */
#include "fs/session_loss.h"

#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/op_ctx.h"
#include "fs/file_locks.h"
#include "fs/reconcile.h"
#include "fs/sessions.h"

static void lose_inode(void *arg, mfs_ino_t ino)
{
	struct massfs *fs = arg;
	struct inode *i = inode_find(fs->inodes, ino);

	if (!i)
		return;
	{
		MFS_GUARD(&i->lock);

		if (i->content)
			content_lock_lost(i->content);
	}
	inode_put(fs->inodes, &i);
}

static void lost(void *arg, uint64_t session)
{
	struct massfs *fs = arg;

	if (fs->locks)
		file_locks_lost(fs->locks, session, lose_inode, fs);
}

static void hold_open(struct inode *i, void *arg)
{
	struct massfs *fs = arg;
	struct op_ctx op = { 0 };
	struct mfs_attr attr;
	bool held;
	int r;

	{
		MFS_GUARD(&i->lock);

		held = i->n_open && !i->gone && attr_is_reg(&i->attr) && (i->attr.flags & ATTR_IN_TRASH);
	}
	r = held ? namespace_opened(fs->vol->ns, &op, i->ino, &attr) : 0;
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &op, "inode=%" PRIu64 " is open and removed, and may lose its content: %s", i->ino,
			strerror(-r));
}

static void renewed(void *arg, uint64_t before, uint64_t session)
{
	struct massfs *fs = arg;

	(void)before;
	(void)session;
	inode_table_walk(fs->inodes, hold_open, fs);
}

static void work(void *arg)
{
	struct massfs *fs = arg;

	reconciler_wake(fs->reconciler);
}

void session_loss_hook(struct massfs *fs)
{
	const struct sessions_hooks hooks = { .arg = fs, .lost = lost, .renewed = renewed, .work = work };

	if (fs->vol->sessions)
		sessions_hook(fs->vol->sessions, &hooks);
}
