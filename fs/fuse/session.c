/*
 * The libfuse session: which operations and capabilities there are, what the kernel's mount is asked for, the loop.
 */
#include "fs/fuse/session.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "fs/fuse/loop.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/vtree.h"

#define MAX_WRITE      (1u << 20) /* the kernel's most */
#define MAX_BACKGROUND 512
#define WAKE_MS	       20

struct session {
	struct massfs *fs;
	struct fuse_session *se;
	struct loop *loop;
	bool mounted;

	struct mfs_mutex lock; /* guards the rest */
	pthread_cond_t changed;
	bool init_came, inited, ended, exiting;
	struct opened *opened;
};

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	struct massfs *fs = arg;
	struct session *s = fs->session;
	/* Left out on purpose: SPLICE_* (measured slower), WRITEBACK_CACHE (the daemon owns sizes and times),
	 * HANDLE_KILLPRIV (then the kernel clears suid itself, by SETATTR), NO_OPEN and NO_OPENDIR (handles are needed),
	 * ATOMIC_O_TRUNC (we would truncate before the kernel has found that the file is a program that runs: it died of
	 * that now and then; a truncating open of an old file is OPEN and SETATTR instead). */
	const unsigned int wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPORT_SUPPORT |
				    FUSE_CAP_DONT_MASK | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
				    FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL |
				    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA;

	conn->want = (wanted | (fs->locks ? FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS : 0)) & conn->capable;
	if (!(conn->want & FUSE_CAP_POSIX_ACL))
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL, "this kernel does not check POSIX ACLs for FUSE; only modes count");
	conn->max_write = fs->cfg->max_write ? MFS_MIN(fs->cfg->max_write, MAX_WRITE) : MAX_WRITE;
	conn->max_background = fs->cfg->max_background ? fs->cfg->max_background : MAX_BACKGROUND;
	conn->congestion_threshold = conn->max_background * 3 / 4;
	if (fs->cfg->max_read)
		conn->max_read = fs->cfg->max_read;
	conn->time_gran = 1;
	MFS_GUARD(&s->lock);
	s->init_came = true;
}

/* Not in op_init(): what the kernel makes of the answer (its read-ahead, say) would come over what is set meanwhile. */
static void answered(void *arg)
{
	struct session *s = arg;
	MFS_GUARD(&s->lock);

	s->inited = s->init_came;
	pthread_cond_broadcast(&s->changed);
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.readlink = op_readlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	/* No getlk, setlk, flock: where there is one mount, locks are the kernel's own, with its deadlock check. */
};

static struct fuse_lowlevel_ops operations_of(const struct massfs *fs)
{
	struct fuse_lowlevel_ops ops = operations;

	if (fs->locks) {
		ops.getlk = op_getlk;
		ops.setlk = op_setlk;
		ops.flock = op_flock;
	}
	if (fs->vtree)
		vtree_wrap(&ops);
	return ops;
}

/* ",fsname=..." with what separates options escaped. */
static int add_escaped(struct mfs_buf *b, const char *key, const char *value)
{
	int r = mfs_buf_printf(b, ",%s=", key);

	for (; r == 0 && *value; value++) {
		if (*value == ',' || *value == '\\')
			r = mfs_buf_puts(b, "\\");
		if (r == 0)
			r = mfs_buf_append(b, value, 1);
	}
	return r;
}

static int kernel_options(const struct mfs_config *cfg, struct mfs_buf *b)
{
	bool root = geteuid() == 0;
	const struct {
		bool given;
		const char *text;
	} flags[] = {
		{ true, "default_permissions" },
		{ cfg->allow_other, ",allow_other" },
		{ cfg->ro, ",ro" },
		/* libfuse's own default is nosuid,nodev; another user's mount cannot ask for more. */
		{ root && !cfg->nosuid, ",suid" },
		{ root && !cfg->nodev, ",dev" },
		{ cfg->noexec, ",noexec" },
		{ cfg->sync, ",sync" },
		{ cfg->dirsync, ",dirsync" },
		{ cfg->atime == MFS_NOATIME, ",noatime" },
	};
	int r = 0;

	for (size_t k = 0; k < MFS_ARRAY_LEN(flags) && r == 0; k++)
		if (flags[k].given)
			r = mfs_buf_puts(b, flags[k].text);
	if (r == 0)
		r = add_escaped(b, "subtype", cfg->subtype ? cfg->subtype : "massfs");
	if (r == 0)
		r = add_escaped(b, "fsname", cfg->fsname ? cfg->fsname : cfg->source ? cfg->source : "massfs");
	if (r == 0 && cfg->max_read)
		r = mfs_buf_printf(b, ",max_read=%u", cfg->max_read);
	return r;
}

/* libfuse's own complaints, into our log. */
static void log_line(enum fuse_log_level level, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void log_line(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[512];
	size_t n;

	if (level > FUSE_LOG_WARNING)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	n = strlen(text);
	while (n && text[n - 1] == '\n')
		text[--n] = 0;
	mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL, "libfuse: %s", text);
}

int session_new(struct massfs *fs, struct session **ret, char **ret_reason)
{
	MFS_AUTOBUF struct mfs_buf options = MFS_BUF_INIT(64 * MFS_KIB);
	char name[] = "massfs", o[] = "-o";
	char *argv[] = { name, o, NULL, NULL };
	struct fuse_args args = { .argc = 3, .argv = argv };
	struct fuse_lowlevel_ops ops;
	pthread_condattr_t attr;
	struct session *s;
	int r = kernel_options(fs->cfg, &options);

	if (r < 0)
		return mfs_fail(ret_reason, r, "mount options: %s", strerror(-r));
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->fs = fs;
	pthread_mutex_init(&s->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &attr);
	pthread_condattr_destroy(&attr);
	r = vtree_new(&fs->vtree);
	if (r < 0) {
		session_free(s);
		return r;
	}
	ops = operations_of(fs);
	argv[2] = options.data;
	fuse_set_log_func(log_line);
	s->se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args);
	if (!s->se) {
		session_free(s);
		return mfs_fail(ret_reason, -EINVAL, "libfuse does not take the mount options (%s)", options.data);
	}
	r = loop_new(s->se, fs->cfg->max_threads ? fs->cfg->max_threads : 16, answered, s, &s->loop);
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	loop_free(s->loop);
	if (s->se)
		fuse_session_destroy(s->se);
	vtree_free(s->fs->vtree);
	s->fs->vtree = NULL;
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock.m);
	free(s);
}

int session_mount(struct session *s, char **ret_reason)
{
	const char *dir = s->fs->cfg->mountpoint;
	int r;

	if (access("/dev/fuse", F_OK) < 0)
		return mfs_fail(ret_reason, -ENODEV, "/dev/fuse: %s; load the module (modprobe fuse)", strerror(errno));
	errno = 0;
	if (fuse_session_mount(s->se, dir) == 0) {
		s->mounted = true;
		return 0;
	}
	r = errno ? -errno : -EPERM;
	return mfs_fail(ret_reason, r, "%s: the kernel does not mount it: %s", dir, strerror(-r));
}

/* Whoever still waits for an answer gets ENOTCONN instead of none: also a notification of ours. */
static void abort_connection(uint64_t dev)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", minor(dev));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, "1", 1);
	close(fd);
}

void session_unmount(struct session *s)
{
	if (!s || !s->mounted)
		return;
	fuse_session_unmount(s->se);
	if (s->fs->dev)
		abort_connection(s->fs->dev);
	s->mounted = false;
}

void opened_add(struct massfs *fs, struct opened *o)
{
	struct session *s = fs->session;
	MFS_GUARD(&s->lock);

	o->next = s->opened;
	o->prevp = &s->opened;
	if (o->next)
		o->next->prevp = &o->next;
	s->opened = o;
}

void opened_remove(struct massfs *fs, struct opened *o)
{
	MFS_GUARD(&fs->session->lock);

	*o->prevp = o->next;
	if (o->next)
		o->next->prevp = o->prevp;
}

void session_drop_handles(struct session *s)
{
	struct request rq = { .fs = s->fs }; /* of nobody: only close functions see it */
	struct opened *o;

	do {
		{
			MFS_GUARD(&s->lock);

			o = s->opened;
		}
		if (o)
			o->close(&rq, o);
	} while (o);
}

int session_loop(struct session *s)
{
	int r = loop_run(s->loop);
	MFS_GUARD(&s->lock);

	s->ended = true;
	pthread_cond_broadcast(&s->changed);
	return r;
}

bool session_wait_end(struct session *s, unsigned int timeout_ms)
{
	struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + (int64_t)timeout_ms * 1000000);
	MFS_GUARD(&s->lock);

	while (!s->ended)
		if (pthread_cond_timedwait(&s->changed, &s->lock.m, &until) == ETIMEDOUT)
			break;
	return s->ended;
}

void session_exit(struct session *s)
{
	fuse_session_exit(s->se);
	/* A signal may come a moment before a thread sleeps: again. */
	do {
		loop_wake(s->loop);
	} while (!session_wait_end(s, WAKE_MS));
}

bool session_wait_init(struct session *s)
{
	MFS_GUARD(&s->lock);

	while (!s->inited && !s->ended)
		pthread_cond_wait(&s->changed, &s->lock.m);
	return s->inited;
}

void session_notify_inode(struct session *s, mfs_ino_t ino, bool data)
{
	int r = fuse_lowlevel_notify_inval_inode(s->se, nodeid_of(s->fs, ino), data ? 0 : -1, 0);

	if (r < 0 && r != -ENOENT) /* ENOENT: the kernel does not know it, which is as good */
		mfs_debug(MFS_LOG_FS, NULL, "notify inode=%" PRIu64 ": %s", ino, strerror(-r));
}

void session_forget_attr(struct session *s, mfs_ino_t ino)
{
	session_notify_inode(s, ino, false);
}

bool session_notify_entry(struct session *s, mfs_ino_t parent, const char *name, size_t len)
{
	int r = fuse_lowlevel_notify_inval_entry(s->se, nodeid_of(s->fs, parent), name, len);

	if (r < 0 && r != -ENOENT)
		mfs_debug(MFS_LOG_FS, NULL, "notify parent=%" PRIu64 ": %s", parent, strerror(-r));
	return r == 0 || r == -ENOENT;
}
