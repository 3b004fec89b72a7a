/*
 * Opening and formatting a volume: the lock, the stacks, the session. This file and volume_stage.c call constructors, no
 * other does.
 */
#include "fs/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/op_ctx.h"

#include "fs/index_log.h"
#include "fs/sessions.h"
#include "fs/volume_cluster.h"
#include "fs/volume_store.h"
#include "meta/log_engine.h"

#define OUR_DIR ".massfs"

static char *join(const char *a, const char *b)
{
	char *s = NULL;

	return asprintf(&s, "%s/%s", a, b) < 0 ? NULL : s;
}

static int need_dir(const struct mfs_config *cfg, char **ret_reason)
{
	if (mfs_config_is_cluster(cfg))
		return mfs_fail(ret_reason, -ENOTSUP, "%s: its index is in MongoDB: this works on embedded volumes only",
				mfs_config_label(cfg));
	if (!cfg->dir)
		return mfs_fail(ret_reason, -EINVAL, "%s: names no directory of an embedded volume",
				cfg->source ? cfg->source : "(no source)");
	return 0;
}

/* Who holds the lock: as text in the lock file, written by the holder. */
static long holder_pid(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? strtol(text, NULL, 10) : 0;
}

static int lock_take(const char *dir, bool readonly, int *ret_fd, char **ret_reason)
{
	MFS_AUTOFREE char *path = join(dir, OUR_DIR "/lock");
	char text[32];
	int fd, n;

	if (!path)
		return -ENOMEM;
	fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 && readonly)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mfs_fail(ret_reason, -errno, "%s: cannot open the volume's lock: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		long pid = holder_pid(path);

		close(fd);
		if (pid > 0)
			return mfs_fail(ret_reason, -EBUSY, "%s: in use by process %ld; unmount it first", dir, pid);
		return mfs_fail(ret_reason, -EBUSY, "%s: in use by another process", dir);
	}
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (!readonly && (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)) {
		int r = mfs_fail(ret_reason, -errno, "%s: cannot write the volume's lock: %s", path, strerror(errno));

		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int volume_lock(const struct mfs_config *cfg, bool readonly, int *ret_fd, char **ret_reason)
{
	int r = need_dir(cfg, ret_reason);
	MFS_AUTOFREE char *ours = r == 0 ? join(cfg->dir, OUR_DIR) : NULL;

	if (r < 0)
		return r;
	if (!ours)
		return -ENOMEM;
	if (access(ours, F_OK) < 0)
		return mfs_fail(ret_reason, -errno, "%s: not a massfs volume (%s); `massfs format %s` makes one", cfg->dir,
				strerror(errno), cfg->dir);
	return lock_take(cfg->dir, readonly, ret_fd, ret_reason);
}

long volume_holder(const struct mfs_config *cfg)
{
	MFS_AUTOFREE char *path = cfg->dir ? join(cfg->dir, OUR_DIR "/lock") : NULL;
	long pid = 0;
	int fd;

	if (mfs_config_is_cluster(cfg)) /* any number may have it */
		return 0;
	if (!path)
		return cfg->dir ? -ENOMEM : -EINVAL;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0)
		pid = holder_pid(path);
	close(fd);
	return pid;
}

struct object_meta volume_object_meta(struct volume *v, const struct mfs_attr *attr)
{
	return (struct object_meta){
		.ino = attr->ino,
		.session = v->session,
		.op = atomic_fetch_add(&v->next_op, 1),
		.mode = attr->mode & 0777u,
		.uid = attr->uid,
		.gid = attr->gid,
		.mtime = attr->mtime,
	};
}

/* Sessions that did not end: the lock shows that they are dead. Long-ended ones are forgotten. */
static int bury_sessions(struct volume *v, struct op_ctx *op)
{
	const int64_t keep = 7 * 86400 * MFS_NSEC_PER_SEC;
	struct session_list l = { 0 };
	int64_t now = mfs_now_ns();
	int r = engine_sessions(v->engine, op, &l);

	for (size_t i = 0; i < l.n && r == 0; i++) {
		struct session_record *s = &l.v[i];
		struct job_record look = { .kind = JOB_VIEW, .ino = s->id, .due = now };
		struct change c = { 0 };

		if (s->id == v->session || (s->closed && s->closed > now - keep))
			continue;
		if (s->closed) {
			change_write(&c, WRITE_SESSION_DELETE, s->id)->session = s;
		} else {
			mfs_log(MFS_LOG_FS, MFS_LOG_INFO, op, "session %" PRIu64 " of process %u did not end: closed now", s->id,
				s->pid);
			s->closed = now;
			change_write(&c, WRITE_SESSION_PUT, s->id)->session = s;
			/* What it stored and did not come to commit may be on top of a key. */
			change_write(&c, WRITE_JOB_PUT, 0)->job = &look;
		}
		r = engine_apply(v->engine, op, &c);
	}
	session_list_release(&l);
	return r;
}

static int session_write(struct volume *v, struct op_ctx *op, bool closed)
{
	char host[65] = "localhost";
	struct session_record s = {
		.id = v->session,
		.host = host,
		.mountpoint = (char *)(uintptr_t)(v->cfg->mountpoint && v->mode == VOLUME_MOUNT ? v->cfg->mountpoint : ""),
		.pid = (uint32_t)getpid(),
	};
	struct change c = { 0 };

	(void)gethostname(host, sizeof(host) - 1);
	s.started = s.heartbeat = mfs_now_ns();
	s.closed = closed ? s.started : 0;
	change_write(&c, WRITE_SESSION_PUT, v->session)->session = &s;
	/* Known of before it stores anything: only then is what it leaves behind found after a power loss. */
	c.durable = true;
	return engine_apply(v->engine, op, &c);
}

static int session_begin(struct volume *v, struct op_ctx *op, const struct index_log_before *before, char **ret_reason)
{
	uint64_t number;
	int r;

	if (v->cluster) { /* others live: who is dead is found by their heartbeats */
		r = sessions_begin(v, op, true, &v->sessions);
		if (r == 0)
			r = cluster_check_alone(v->engine, op, v->cfg->lease_ns, ret_reason);
		return r < 0 || !v->logged ? r : index_log_open(v, NULL, v->cfg->index_log_ns, true, &v->log);
	}
	r = engine_reserve(v->engine, op, 1, &number);
	if (r < 0)
		return r;
	v->session = number;
	r = session_write(v, op, false);
	if (r < 0)
		return r;
	v->engine->session = v->session;
	r = bury_sessions(v, op);
	if (r == 0 && v->cfg->index_log_ns)
		r = index_log_open(v, before, v->cfg->index_log_ns, v->mode == VOLUME_MOUNT, &v->log);
	return r;
}

static const char *why_not(int r)
{
	switch (r) {
	case -ENOENT:
		return "there is no index; `massfs rebuild` makes one from the objects, `massfs format` a new volume";
	case -EUCLEAN:
		return "the index is damaged (the log says where); restore .massfs/index.db from a backup, or make a new one "
		       "with `massfs rebuild`; objects/ still has each file at its path";
	case -EPROTONOSUPPORT:
		return "the index was made by a newer massfs; use that";
	case -EPROTO:
		return "the index was made by an older massfs; `massfs upgrade SOURCE` makes it one of this version";
	case -EROFS:
		return "it is read-only; mount with -o ro";
	default:
		return strerror(-r);
	}
}

/* The last one there was: the log goes on only behind its end. */
static int session_before(struct volume *v, struct op_ctx *op, struct index_log_before *ret)
{
	struct session_list l = { 0 };
	int r = engine_sessions(v->engine, op, &l);

	for (size_t i = 0; i < l.n; i++)
		if (l.v[i].id > ret->session)
			*ret = (struct index_log_before){ .session = l.v[i].id, .closed = l.v[i].closed };
	session_list_release(&l);
	return r;
}

/* A session, and the log of what it changes. */
static int begin_writing(struct volume *v, struct op_ctx *op, char **ret_reason)
{
	struct index_log_before before = { 0 };
	struct engine *logged;
	int r = v->cluster ? 0 : session_before(v, op, &before);

	if (r == 0 && v->cfg->index_log_ns && !v->cluster) {
		r = log_engine_new(v->engine, &logged);
		if (r == 0)
			v->engine = v->logged = logged;
	}
	return r < 0 ? r : session_begin(v, op, &before, ret_reason);
}

static int open_local_index(struct volume *v, bool ro, char **ret_reason)
{
	struct sqlite_options so = { .readonly = ro, .nosync = v->cfg->nosync, .cache_bytes = v->cfg->memory / 16 };
	MFS_AUTOFREE char *index = join(v->dir, OUR_DIR "/index.db");
	int r = index ? sqlite_engine_open(index, &so, &v->engine) : -ENOMEM;

	return r < 0 ? mfs_fail(ret_reason, r, "%s: cannot open the index: %s", index ? index : "", why_not(r)) : 0;
}

static int open_shared_index(struct volume *v, bool ro, char **ret_reason)
{
	/* What a tool changes, the mounts log; without one, the next mount makes a new snapshot. */
	bool logs = v->mode == VOLUME_MOUNT && !ro && v->cfg->index_log_ns;
	struct cluster_options co = { .readonly = ro,
				      .plain = v->mode != VOLUME_MOUNT,
				      .ret_logged = logs ? &v->logged : NULL };

	return cluster_engine_open(v->cfg, &co, &v->engine, ret_reason);
}

static int open_stacks(struct volume *v, struct op_ctx *op, char **ret_reason)
{
	const struct mfs_config *cfg = v->cfg;
	bool ro = v->mode == VOLUME_READONLY || (v->mode == VOLUME_MOUNT && cfg->ro);
	struct volume_store_options vo = { .readonly = ro };
	struct namespace_options no = { .retention_ns = cfg->retention_ns, .host = v->host, .hooks = v->hooks };
	int r = v->cluster ? open_shared_index(v, ro, ret_reason) : open_local_index(v, ro, ret_reason);

	if (gethostname(v->host, sizeof(v->host) - 1) < 0)
		snprintf(v->host, sizeof(v->host), "localhost");
	if (r < 0)
		return r;
	r = engine_volume_get(v->engine, op, &v->record);
	if (r == -ENOENT && v->cluster)
		return mfs_fail(ret_reason, r, "%s: there is no volume in database %s; `massfs format %s` makes one", v->dir,
				cfg->database, cfg->source ? cfg->source : v->dir);
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: cannot read the index: %s", v->dir, why_not(r));
	r = volume_store_open(cfg, &vo, &v->store, ret_reason);
	if (r == 0 && v->cluster)
		r = cluster_check_bound(cfg, v->store, op, v->record.uuid, ret_reason);
	if (r < 0)
		return r;
	/* Before the namespace, which keeps the engine. */
	r = ro ? 0 : begin_writing(v, op, ret_reason);
	no.key_hides = object_store_caps(v->store) & OBJECT_CAP_KEY_HIDES;
	if (r == 0)
		r = namespace_new(v->engine, &no, &v->ns);
	if (r < 0 && !(ret_reason && *ret_reason))
		mfs_fail(ret_reason, r, "%s: cannot begin a session: %s", v->dir, strerror(-r));
	return r;
}

static int find_root(struct volume *v, struct op_ctx *op, char **ret_reason)
{
	struct entry e = { 0 };
	int r;

	v->root = MFS_ROOT_INO;
	if (!v->cfg->subdir || !*v->cfg->subdir)
		return 0;
	r = namespace_resolve(v->ns, op, v->cfg->subdir, strlen(v->cfg->subdir), &e);
	if (r == 0 && !attr_is_dir(&e.node.attr))
		r = -ENOTDIR;
	if (r == 0)
		v->root = e.node.attr.ino;
	entry_release(&e);
	if (r < 0)
		return mfs_fail(ret_reason, r, "/%s in %s: %s", v->cfg->subdir, v->dir, strerror(-r));
	return 0;
}

/* For tools; a mount brings its own. */
static bool key_is_legal(void *arg, const char *key)
{
	return volume_store_takes_key(((struct volume *)arg)->store, key);
}

static int take_folder(struct volume *v, bool ro, char **ret_reason)
{
	MFS_AUTOFREE char *ours = join(v->dir, OUR_DIR);
	struct stat st;

	if (!ours)
		return -ENOMEM;
	if (stat(ours, &st) < 0)
		return mfs_fail(ret_reason, -errno,
				errno == ENOENT ? "%s: not a massfs volume; `massfs format %s` makes one" :
						  "%s: cannot look into it (%s)",
				v->dir, errno == ENOENT ? v->dir : strerror(errno));
	return lock_take(v->dir, ro, &v->lock_fd, ret_reason);
}

int volume_open(const struct mfs_config *cfg, enum volume_mode mode, const struct namespace_hooks *hooks,
		struct volume **ret, char **ret_reason)
{
	struct op_ctx op = { 0 };
	struct volume *v;
	bool ro = mode == VOLUME_READONLY || (mode == VOLUME_MOUNT && cfg->ro), cluster = mfs_config_is_cluster(cfg);
	int r = cluster ? 0 : need_dir(cfg, ret_reason);

	if (r < 0)
		return r;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->cfg = cfg;
	v->mode = mode;
	v->lock_fd = -1;
	v->next_op = 1;
	v->hooks = hooks ? *hooks : (struct namespace_hooks){ .arg = v, .key_is_legal = key_is_legal };
	v->cluster = cluster;
	v->dir = strdup(mfs_config_label(cfg));
	r = v->dir ? 0 : -ENOMEM;
	if (r == 0 && !cluster)
		r = take_folder(v, ro, ret_reason);
	if (r == 0)
		r = open_stacks(v, &op, ret_reason);
	if (r == 0)
		r = find_root(v, &op, ret_reason);
	if (r < 0) {
		volume_close(v);
		return r;
	}
	*ret = v;
	return 0;
}

void volume_close(struct volume *v)
{
	struct op_ctx op = { 0 };
	int r = 0;

	if (!v)
		return;
	if (v->alone)
		cluster_end_alone(v->engine, &op);
	if (v->sessions) {
		index_log_stop(v->log);
		sessions_end(MFS_TAKE(v->sessions));
	} else if (v->engine && v->engine->session) {
		r = session_write(v, &op, true);
		if (r == 0)
			r = engine_sync(v->engine, &op);
		if (r < 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &op, "%s: the session could not be closed (%s); the next mount does it",
				v->dir, strerror(-r));
	}
	index_log_close(v->log);
	namespace_free(v->ns);
	engine_free(v->engine);
	object_store_free(v->store);
	mime_release(&v->mime);
	if (v->lock_fd >= 0)
		close(v->lock_fd);
	free(v->dir);
	free(v);
}

int volume_be_alone(struct volume *v, struct op_ctx *op, char **ret_reason)
{
	MFS_AUTOFREE char *reason = NULL;
	int r;

	if (!v->cluster)
		return 0;
	r = cluster_be_alone(v->engine, op, v->cfg->lease_ns, &reason);
	v->alone = r == 0;
	return r < 0 ? mfs_fail(ret_reason, r, "%s: %s", v->dir, reason ? reason : strerror(-r)) : 0;
}

/* Empty, or absent, or (force) anything that is no volume yet. */
static int check_target(const char *dir, bool force, char **ret_reason)
{
	MFS_AUTOFREE char *ours = join(dir, OUR_DIR);
	struct stat st;
	struct dirent *de;
	bool empty = true;
	DIR *d;

	if (!ours)
		return -ENOMEM;
	if (lstat(ours, &st) == 0)
		return mfs_fail(ret_reason, -EEXIST, "%s: is a massfs volume already; nothing was changed", dir);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return mfs_fail(ret_reason, -errno, "%s: cannot make the directory: %s", dir, strerror(errno));
	d = opendir(dir);
	if (!d)
		return mfs_fail(ret_reason, -errno, "%s: %s", dir, strerror(errno));
	while ((de = readdir(d))) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 && strcmp(de->d_name, "lost+found") != 0)
			empty = false;
	}
	closedir(d);
	if (!empty && !force)
		return mfs_fail(ret_reason, -ENOTEMPTY, "%s: is not empty; give an empty or new directory (or --force)", dir);
	return 0;
}

static int read_uuid(char out[37])
{
	int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, 36);

	if (fd >= 0)
		close(fd);
	out[36] = 0;
	return n == 36 ? 0 : -EIO;
}

/* Bucket, collections, indexes, and in both whose they are; the volume's record last: until then it is no volume. */
static int format_cluster(const struct mfs_config *cfg, bool force, char **ret_reason)
{
	struct volume_store_options vo = { .create = true, .force = force };
	struct cluster_options co = { .create = true, .plain = true };
	struct volume_record rec = { .schema = MFS_SCHEMA, .created = mfs_now_ns() }, old;
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	struct object_store *store = NULL;
	struct engine *engine = NULL;
	int r = cluster_engine_open(cfg, &co, &engine, ret_reason);

	if (r < 0)
		return r;
	r = engine_volume_get(engine, &op, &old);
	if (r == 0)
		r = mfs_fail(ret_reason, -EEXIST, "%s: database %s has a massfs volume already; nothing was changed",
			     mfs_config_label(cfg), cfg->database);
	else if (r == -ENOENT)
		r = volume_store_open(cfg, &vo, &store, ret_reason);
	if (r == 0)
		r = read_uuid(rec.uuid);
	if (r == 0)
		r = cluster_bind(cfg, store, &op, rec.uuid);
	if (r == 0)
		r = engine_volume_put(engine, &op, &rec);
	if (r < 0 && !(ret_reason && *ret_reason))
		mfs_fail(ret_reason, r, "%s: cannot make the volume: %s", mfs_config_label(cfg), strerror(-r));
	engine_free(engine);
	object_store_free(store);
	return r;
}

int volume_format(const struct mfs_config *cfg, bool force, char **ret_reason)
{
	struct volume_store_options vo = { .create = true, .force = force };
	struct sqlite_options so = { .create = true };
	struct volume_record rec = { .schema = MFS_SCHEMA, .created = mfs_now_ns() };
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	MFS_AUTOFREE char *index = NULL;
	struct object_store *store = NULL;
	struct engine *engine = NULL;
	int lock = -1, r;

	if (mfs_config_is_cluster(cfg))
		return format_cluster(cfg, force, ret_reason);
	r = need_dir(cfg, ret_reason);
	if (r == 0)
		r = check_target(cfg->dir, force, ret_reason);
	if (r < 0)
		return r;
	index = join(cfg->dir, OUR_DIR "/index.db");
	if (!index)
		return -ENOMEM;
	if (chmod(cfg->dir, 0700) < 0)
		return mfs_fail(ret_reason, -errno, "%s: %s", cfg->dir, strerror(errno));
	r = volume_store_open(cfg, &vo, &store, ret_reason);
	if (r < 0)
		return r;
	r = lock_take(cfg->dir, false, &lock, ret_reason);
	if (r == 0) {
		r = sqlite_engine_open(index, &so, &engine);
		if (r == 0)
			r = read_uuid(rec.uuid);
		if (r == 0)
			r = engine_volume_put(engine, &op, &rec);
		if (r == 0)
			r = engine_sync(engine, &op);
		if (r < 0)
			r = mfs_fail(ret_reason, r, "%s: cannot make the index: %s", index, strerror(-r));
	}
	engine_free(engine);
	object_store_free(store);
	if (lock >= 0)
		close(lock);
	return r;
}

/* There is one schema so far: who has another made it with another massfs, which can dump it. */
static int upgrade_cluster(const struct mfs_config *cfg, uint32_t *ret_from, char **ret_reason)
{
	struct cluster_options co = { .readonly = true, .plain = true };
	MFS_AUTOFREE char *reason = NULL;
	struct volume_record rec;
	struct engine *e = NULL;
	struct op_ctx op = { 0 };
	int r = cluster_engine_open(cfg, &co, &e, &reason);

	if (r == 0)
		r = engine_volume_get(e, &op, &rec);
	engine_free(e);
	if (r == 0)
		*ret_from = rec.schema;
	else if (r == -EPROTO)
		mfs_fail(ret_reason, r, "%s; `massfs dump` it with the version that made it, and `massfs load` it with this one into an empty "
			 "database", reason ? reason : strerror(-r));
	else
		mfs_fail(ret_reason, r, "%s", reason ? reason : strerror(-r));
	return r;
}

int volume_upgrade(const struct mfs_config *cfg, uint32_t *ret_from, char **ret_reason)
{
	MFS_AUTOFREE char *index = NULL;
	int lock = -1, r;

	if (mfs_config_is_cluster(cfg))
		return upgrade_cluster(cfg, ret_from, ret_reason);
	r = need_dir(cfg, ret_reason);
	if (r < 0)
		return r;
	index = join(cfg->dir, OUR_DIR "/index.db");
	if (!index)
		return -ENOMEM;
	if (access(index, F_OK) < 0)
		return mfs_fail(ret_reason, -errno, "%s: no index of an embedded volume: %s", index, strerror(errno));
	r = lock_take(cfg->dir, false, &lock, ret_reason);
	if (r < 0)
		return r;
	r = sqlite_engine_upgrade(index, ret_from);
	close(lock);
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: was not upgraded and is as it was: %s", index, why_not(r));
	return 0;
}
