/*
 * A mount's life: what it owns is started in one order and stopped in the reverse one. Signals are taken by a thread
 * (the keeper), which also says when the mount is ready.
 */
#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mountinfo.h"
#include "common/op_ctx.h"
#include "fs/atime.h"
#include "fs/committer.h"
#include "fs/block_cache.h"
#include "fs/control.h"
#include "fs/file_locks.h"
#include "fs/fs.h"
#include "fs/fuse/notify.h"
#include "fs/fuse/session.h"
#include "fs/gc.h"
#include "fs/names.h"
#include "fs/news.h"
#include "fs/reconcile.h"
#include "fs/session_loss.h"
#include "fs/sessions.h"
#include "fs/volume_store.h"
#include "fs/warmup.h"

#define EX_SYSTEM 2 /* mount(8)'s exit codes */
#define EX_FAIL	  32

#define UPLOADERS	 4
#define UPLOAD_QUEUE	 64
#define READ_AHEAD_KB	 4096
#define UNMOUNT_GRACE_MS 3000
#define NAMES_SHARE	 16  /* of memory= */
#define SMALL_MEMORY	 (128 * MFS_MIB)
#define NAME_BYTES	 128 /* about what one takes */

struct mount {
	struct massfs fs;
	int ready_fd;
	sigset_t signals; /* the keeper's */
	pthread_t keeper;
	bool has_keeper;
	atomic_bool stopping;
};

static bool is_open(void *arg, mfs_ino_t ino)
{
	struct massfs *fs = arg;
	struct inode *i = inode_find(fs->inodes, ino);
	bool open = false;

	if (i) {
		MFS_GUARD(&i->lock);

		open = i->n_open > 0;
	}
	inode_put(fs->inodes, &i);
	return open;
}

static bool is_written(void *arg, mfs_ino_t ino)
{
	struct massfs *fs = arg;
	struct inode *i = inode_find(fs->inodes, ino);
	bool written = false;

	if (i) {
		MFS_GUARD(&i->lock);

		written = i->n_open_write > 0;
	}
	inode_put(fs->inodes, &i);
	return written;
}

static bool key_is_legal(void *arg, const char *key)
{
	struct massfs *fs = arg;

	return !fs->vol || volume_store_takes_key(fs->vol->store, key);
}

static void jobs_queued(void *arg)
{
	struct massfs *fs = arg;

	reconciler_wake(fs->reconciler);
}

static uint64_t epoch(void *arg)
{
	struct massfs *fs = arg;

	return inode_epoch(fs->inodes);
}

/* The next question for the directory then need not go to the index: the kernel asks after each change that it makes in one. */
static void touched(void *arg, uint64_t since, mfs_ino_t dir, const struct mfs_attr *attr)
{
	struct massfs *fs = arg;
	struct inode *i = inode_find(fs->inodes, dir);
	struct mfs_attr now;

	if (!i)
		return;
	if (attr) {
		now = *attr;
		(void)inode_take(i, since, &now);
	} else {
		inode_invalidate(fs->inodes, i);
	}
	inode_put(fs->inodes, &i);
}

/* Many threads on few cores: without this each gets an arena of its own, and freed memory stays in all of them. */
static void bound_heap(const struct mfs_config *cfg)
{
	mallopt(M_ARENA_MAX, cfg->memory < SMALL_MEMORY ? 2 : 4);
	mallopt(M_MMAP_THRESHOLD, 2 << 20); /* a reply of 1 MiB is no mmap each time; parts are */
	mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

/*
 * Of memory=, what file data may take. The rest is for the program itself, its threads' buffers and what malloc does not
 * give back: some 45 MiB and a seventh of the data, measured with 16 request threads.
 */
static uint64_t data_budget(const struct mfs_config *cfg)
{
	return cfg->memory < SMALL_MEMORY ? cfg->memory / 3 : cfg->memory / 2;
}

/* Each open file may hold a descriptor of its object. */
static void raise_fd_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
}

/* The kernel offers 128 KiB at INIT and no more; the file in sysfs takes what we want. Root only, best effort. */
static void raise_read_ahead(const struct mfs_config *cfg, uint64_t dev)
{
	unsigned int kb = cfg->has_read_ahead_kb ? cfg->read_ahead_kb : READ_AHEAD_KB;
	char path[80];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(dev), minor(dev));
	f = fopen(path, "we");
	if (!f)
		return;
	fprintf(f, "%u\n", kb);
	fclose(f);
}

/* From mountinfo and not by stat: under an automount a look at the path would wait for the one who waits for us. */
static uint64_t find_dev(const struct mfs_config *cfg)
{
	MFS_AUTOMOUNTINFO struct mountinfo mi = { 0 };
	const struct mountinfo_entry *e;

	if (mountinfo_read(NULL, &mi) < 0)
		return 0;
	e = mountinfo_top(&mi, cfg->mountpoint);
	return e && mountinfo_is_fuse(e) ? e->dev : 0;
}

static void say_ready(struct mount *m)
{
	if (m->ready_fd < 0)
		return;
	(void)!write(m->ready_fd, "", 1);
	close(m->ready_fd);
	m->ready_fd = -1;
}

/* The reason goes to whoever waits for the mount. */
static void say_failed(struct mount *m, const char *reason)
{
	if (m->ready_fd < 0) {
		fprintf(stderr, "massfs: %s\n", reason);
		return;
	}
	(void)!write(m->ready_fd, reason, strlen(reason));
	close(m->ready_fd);
	m->ready_fd = -1;
}

/* The kernel has been answered: does the index answer too? */
static int become_ready(struct mount *m)
{
	struct massfs *fs = &m->fs;
	struct op_ctx op = { 0 };
	struct node n = NODE_INIT;
	int r = namespace_get(fs->vol->ns, &op, fs->vol->root, &n);

	node_release(&n);
	if (r < 0)
		return r;
	fs->dev = find_dev(fs->cfg);
	if (fs->dev) {
		raise_read_ahead(fs->cfg, fs->dev);
		r = control_start(fs, &fs->control);
		if (r < 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL, "no control socket (%s): massfs's verbs do not reach this mount",
				strerror(-r));
	}
	mfs_log(MFS_LOG_FS, MFS_LOG_INFO, NULL, "%s mounted on %s", fs->cfg->source ? fs->cfg->source : fs->vol->dir,
		fs->cfg->mountpoint);
	say_ready(m);
	return 0;
}

/* The next signal; 0: the mount has ended by itself. */
static int next_signal(struct mount *m)
{
	int sig;

	for (;;) {
		if (sigwait(&m->signals, &sig) != 0)
			continue;
		if (atomic_load(&m->stopping))
			return 0;
		if (sig != SIGUSR2)
			return sig;
	}
}

/* Shared mappings reach us only as writes of the kernel; once it is unmounted by force they would be lost. */
static void sync_pages(const char *mountpoint)
{
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)syncfs(fd);
	close(fd);
}

/* Take it away as umount -l does; who still uses it has a moment, then the connection is cut. */
static void end_by_signal(struct mount *m, int sig)
{
	struct massfs *fs = &m->fs;

	mfs_log(MFS_LOG_FS, MFS_LOG_INFO, NULL, "%s: unmounting %s", strsignal(sig), fs->cfg->mountpoint);
	sync_pages(fs->cfg->mountpoint);
	if (umount2(fs->cfg->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 &&
	    session_wait_end(fs->session, UNMOUNT_GRACE_MS))
		return;
	session_exit(fs->session);
}

static void *keep(void *arg)
{
	struct mount *m = arg;
	int sig, r;

	if (!session_wait_init(m->fs.session))
		return NULL;
	r = become_ready(m);
	if (r < 0) {
		char reason[200];

		snprintf(reason, sizeof(reason), "the root of the volume cannot be read: %s", strerror(-r));
		say_failed(m, reason);
		session_exit(m->fs.session);
		return NULL;
	}
	sig = next_signal(m);
	if (sig)
		end_by_signal(m, sig);
	return NULL;
}

static int find_any(struct massfs *fs, struct query q, atomic_bool *ret)
{
	struct node_list found = NODE_LIST_INIT;
	struct op_ctx op = { 0 };
	int r;

	q.limit = 1;
	q.attr_only = true;
	r = engine_query(fs->vol->engine, &op, &q, &found);
	q.trash = true; /* undelete brings them back */
	if (r == 0 && found.n == 0)
		r = engine_query(fs->vol->engine, &op, &q, &found);
	atomic_store(ret, found.n > 0);
	node_list_release(&found);
	return r;
}

/* cache-dir=: bytes of objects on a local disk (fs/block_cache.h). */
static int start_cache(const struct mfs_config *cfg, struct volume *v, char **reason)
{
	struct block_cache_options opt = {
		.dirs = cfg->cache_dir,
		.size = cfg->has_cache_size ? cfg->cache_size : block_cache_default_size(cfg->cache_dir),
		.free_percent = cfg->cache_free,
		.volume = v->record.uuid,
	};

	if (!cfg->cache_dir || !opt.size)
		return 0;
	/* Local objects are read where they are: a copy on the disk beside them only costs. */
	if ((object_store_caps(v->store) & OBJECT_CAP_FD) && !cfg->cache_local) {
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, NULL,
			"cache-dir= is not used: the objects are local files (cache-local caches them all the same)");
		return 0;
	}
	return block_cache_open(&opt, &v->cache, reason);
}

/* What ls -l asks of each file, and need not where no file has it. */
static int find_attributes(struct massfs *fs)
{
	int r = find_any(fs, (struct query){ .labelled = true }, &fs->labels);

	return r < 0 ? r : find_any(fs, (struct query){ .acl = true }, &fs->acls);
}

/* Names the kernel was given: kept for as long as it believes them at least. */
static int start_names(struct massfs *fs)
{
	const struct mfs_config *cfg = fs->cfg;
	double ttl = MFS_MAX(cfg->has_entry_timeout ? cfg->entry_timeout : 0, cfg->has_negative_timeout ? cfg->negative_timeout : 0);
	size_t max = MFS_MIN(MFS_MAX(cfg->memory / NAMES_SHARE / NAME_BYTES, 4096), 1u << 20);

	if (!(fs->vol->engine->ops->caps & ENGINE_NEWS))
		return 0;
	return names_new(fs->inodes, (size_t)max, (int64_t)(MFS_MAX(ttl, 0.5) * 1e9), &fs->names);
}

/* Locks that other mounts see. */
static int start_locks(struct massfs *fs)
{
	if (!(fs->vol->engine->ops->caps & ENGINE_NEWS) || fs->cfg->ro)
		return 0;
	return file_locks_start(fs->vol, &fs->locks);
}

static void lock_news(void *arg, const struct news *n)
{
	file_locks_news(arg, n);
}

static int start_volume(struct mount *m, const struct mfs_config *cfg, char **reason)
{
	struct massfs *fs = &m->fs;
	struct namespace_hooks hooks = {
		.arg = fs,
		.is_open = is_open,
		.is_written = is_written,
		.key_is_legal = key_is_legal,
		.changed = control_changed,
		.jobs_queued = jobs_queued,
		.epoch = epoch,
		.touched = touched,
	};
	int r = inode_table_new(&fs->inodes);

	if (r == 0)
		r = volume_open(cfg, VOLUME_MOUNT, &hooks, &fs->vol, reason);
	if (r == 0)
		r = start_names(fs);
	if (r == 0)
		r = start_cache(cfg, fs->vol, reason);
	if (r == 0)
		r = find_attributes(fs);
	if (r == 0)
		r = budget_new(data_budget(cfg), &fs->budget);
	if (r == 0)
		r = workers_new("upload", UPLOADERS, UPLOAD_QUEUE, &fs->uploaders);
	if (r == 0)
		content_env_init(&fs->content_env, fs->vol, fs->budget, fs->uploaders);
	if (r == 0)
		r = start_locks(fs);
	return r;
}

static int start_background(struct mount *m)
{
	struct massfs *fs = &m->fs;
	int r = atimes_start(fs->vol->ns, fs->inodes, fs->cfg, &fs->atimes);

	if (r == 0)
		r = notifier_start(fs, &fs->notifier);
	if (r == 0)
		r = news_start(fs, &fs->news);
	if (r == 0 && fs->locks && fs->news)
		r = news_listen(fs->news, lock_news, fs->locks);
	if (r == 0)
		r = warmer_start(fs->vol, &fs->warmer);
	if (r == 0 && !fs->cfg->ro)
		r = reconciler_start(fs->vol, &fs->reconciler);
	if (r == 0 && !fs->cfg->ro)
		r = collector_start(fs->vol, &fs->collector);
	if (r == 0 && !fs->cfg->ro)
		r = committer_start(&fs->content_env, &fs->committer);
	if (r == 0)
		session_loss_hook(fs);
	return r;
}

static int start(struct mount *m, const struct mfs_config *cfg, char **reason)
{
	struct massfs *fs = &m->fs;
	int r;

	fs->cfg = cfg;
	r = start_volume(m, cfg, reason);
	if (r == 0)
		r = session_new(fs, &fs->session, reason);
	if (r == 0)
		r = session_mount(fs->session, reason);
	if (r == 0)
		r = start_background(m);
	if (r == 0)
		r = -pthread_create(&m->keeper, NULL, keep, m);
	if (r == 0)
		m->has_keeper = true;
	return r;
}

/* Nobody asks any more; what a forced unmount left dirty is committed, so RELEASE need not have come. */
static void drain(struct massfs *fs)
{
	struct op_ctx op = { 0 };
	int r;

	if (!fs->atimes)
		return;
	r = massfs_drain(fs, &op, NULL, NULL);
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, NULL, "%s: not all could be stored at the unmount: %s", fs->vol->dir,
			strerror(-r));
}

static void stop(struct mount *m)
{
	struct massfs *fs = &m->fs;

	atomic_store(&m->stopping, true);
	if (m->has_keeper) {
		pthread_kill(m->keeper, SIGUSR2);
		pthread_join(m->keeper, NULL);
	}
	control_stop(fs->control);
	warmer_stop(fs->warmer);
	fs->warmer = NULL;
	session_unmount(fs->session);
	file_locks_cancel_all(fs->locks);
	if (fs->vol && fs->vol->sessions)
		sessions_hook(fs->vol->sessions, NULL);
	committer_stop(fs->committer);
	drain(fs);
	collector_stop(fs->collector);
	reconciler_stop(fs->reconciler);
	fs->reconciler = NULL; /* only now: its own thread queues jobs and wakes it */
	news_stop(fs->news);
	fs->news = NULL;
	notifier_stop(fs->notifier); /* an import tells it, and news do */
	fs->notifier = NULL;
	if (fs->session)
		session_drop_handles(fs->session);
	file_locks_stop(fs->locks);
	fs->locks = NULL;
	atimes_stop(fs->atimes);
	session_free(fs->session);
	if (fs->uploaders) {
		workers_free(fs->uploaders);
		content_env_release(&fs->content_env);
	}
	names_free(fs->names);
	inode_table_free(fs->inodes);
	budget_free(fs->budget);
	if (fs->vol) {
		block_cache_close(fs->vol->cache);
		fs->vol->cache = NULL;
	}
	volume_close(fs->vol);
}

/* TERM, INT, HUP are the keeper's; no thread made after this gets them. USR2 wakes it; USR1 is session_loop()'s. */
static void take_signals(struct mount *m)
{
	static const int taken[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR2 };
	sigset_t blocked;

	sigemptyset(&m->signals);
	for (size_t k = 0; k < MFS_ARRAY_LEN(taken); k++)
		sigaddset(&m->signals, taken[k]);
	blocked = m->signals;
	sigaddset(&blocked, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int massfs_mount_run(const struct mfs_config *cfg, int ready_fd)
{
	struct mount *m = calloc(1, sizeof(*m));
	MFS_AUTOFREE char *reason = NULL;
	int r;

	if (!m)
		return EX_SYSTEM;
	m->ready_fd = ready_fd;
	bound_heap(cfg);
	raise_fd_limit();
	take_signals(m);
	r = start(m, cfg, &reason);
	if (r < 0)
		say_failed(m, reason ? reason : strerror(-r));
	else
		r = session_loop(m->fs.session);
	stop(m);
	if (m->ready_fd >= 0) {
		say_failed(m, "the mount ended before it was ready");
		r = r < 0 ? r : -EIO;
	}
	free(m);
	if (r == -ENOMEM)
		return EX_SYSTEM;
	return r < 0 ? EX_FAIL : 0;
}
