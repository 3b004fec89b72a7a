/*
 * The new index is .massfs/index.db.new until it is whole, on the disk and closed (an SQLite database that is closed is
 * one file). The old one then moves aside with its log, and the new one gets its name.
 */
#include "fs/volume_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "fs/volume.h"
#include "fs/volume_stage_internal.h"
#include "fs/volume_store.h"

static int remove_with_log(const char *path)
{
	static const char *const parts[] = { "", "-wal", "-shm", "-journal" };
	int r = 0;

	for (size_t i = 0; i < MFS_ARRAY_LEN(parts); i++) {
		MFS_AUTOFREE char *p = mfs_str_printf("%s%s", path, parts[i]);

		if (!p)
			return -ENOMEM;
		if (unlink(p) < 0 && errno != ENOENT)
			r = -errno;
	}
	return r;
}

/* Did anybody ever put something in? */
int volume_stage_is_used(struct engine *e, struct op_ctx *op, bool *ret)
{
	struct query trash = { .trash = true, .limit = 1, .attr_only = true };
	struct node_list nodes = NODE_LIST_INIT;
	struct version_list versions = { 0 };
	struct dropped_list dropped = { 0 };
	uint64_t files = 0, bytes, jobs = 0;
	int r = engine_count(e, op, &files, &bytes);

	if (r == 0)
		r = engine_query(e, op, &trash, &nodes);
	if (r == 0)
		r = engine_versions_all(e, op, 0, 0, 1, &versions);
	if (r == 0)
		r = engine_dropped(e, op, INT64_MAX, 0, 1, &dropped);
	if (r == 0)
		r = engine_jobs_count(e, op, &jobs);
	*ret = files > 1 || nodes.n || versions.n || dropped.n || jobs;
	node_list_release(&nodes);
	version_list_release(&versions);
	dropped_list_release(&dropped);
	return r;
}

static int look_at_old(struct volume_stage *s, struct op_ctx *op)
{
	struct sqlite_options so = { .readonly = true };
	struct engine *e = NULL;
	bool used = true;
	int r = sqlite_engine_open(s->path, &so, &e);

	if (r == -ENOENT) {
		s->old = STAGE_NO_INDEX;
		return 0;
	}
	if (r == 0)
		r = engine_volume_get(e, op, &s->old_record);
	if (r == 0)
		r = volume_stage_is_used(e, op, &used);
	engine_free(e);
	if (r == -ENOMEM || r == -EACCES)
		return r;
	if (r == -EPROTO ||
	    r == -EPROTONOSUPPORT) { /* of another version of massfs: it can be read by that */
		s->old = STAGE_USED_INDEX;
		return 0;
	}
	s->old = r < 0 ? STAGE_DAMAGED_INDEX : used ? STAGE_USED_INDEX : STAGE_EMPTY_INDEX;
	return 0;
}

static int begin(struct volume_stage *s, char **ret_reason)
{
	struct volume_store_options vo = { 0 };
	struct sqlite_options so = { .create = true, .nosync = true, .cache_bytes = 32 * MFS_MIB };
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	int r = volume_lock(s->cfg, false, &s->lock_fd, ret_reason);

	if (r < 0)
		return r;
	s->path = mfs_path_join(s->cfg->dir, ".massfs/index.db");
	s->new_path = mfs_path_join(s->cfg->dir, ".massfs/index.db.new");
	if (!s->path || !s->new_path)
		return -ENOMEM;
	r = look_at_old(s, &op);
	if (r == 0)
		r = remove_with_log(s->new_path);
	if (r == 0)
		r = sqlite_engine_open(s->new_path, &so, &s->engine);
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: cannot make a new index: %s", s->new_path, strerror(-r));
	return volume_store_open(s->cfg, &vo, &s->store, ret_reason);
}

int volume_stage_begin(const struct mfs_config *cfg, struct volume_stage **ret, char **ret_reason)
{
	struct volume_stage *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->cfg = cfg;
	s->lock_fd = -1;
	r = mfs_config_is_cluster(cfg) ? stage_cluster_begin(s, ret_reason) : begin(s, ret_reason);
	if (r < 0) {
		volume_stage_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static int sync_path(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	int r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return r;
}

static int sync_folder(const struct volume_stage *s)
{
	MFS_AUTOFREE char *dir = mfs_path_join(s->cfg->dir, ".massfs");

	return dir ? sync_path(dir, O_DIRECTORY) : -ENOMEM;
}

/* Its log goes with it: without the file it would be taken for the new one's. */
static int keep_old(struct volume_stage *s, char **ret_kept)
{
	char when[40];
	MFS_AUTOFREE char *kept = mfs_str_printf("%s.old-%s", s->path,
						 mfs_str_put_time_short(when, sizeof(when), mfs_now_ns()));
	MFS_AUTOFREE char *log = mfs_str_printf("%s-wal", s->path),
			  *kept_log = mfs_str_printf("%s-wal", kept ? kept : "");
	MFS_AUTOFREE char *shm = mfs_str_printf("%s-shm", s->path);

	if (!kept || !log || !kept_log || !shm)
		return -ENOMEM;
	if (s->old == STAGE_EMPTY_INDEX)
		return remove_with_log(s->path);
	if (rename(s->path, kept) < 0 && errno != ENOENT)
		return -errno;
	if (rename(log, kept_log) < 0 && errno != ENOENT)
		return -errno;
	if (unlink(shm) < 0 && errno != ENOENT)
		return -errno;
	if (s->old != STAGE_NO_INDEX)
		*ret_kept = MFS_TAKE(kept);
	return 0;
}

int volume_stage_commit(struct volume_stage *s, char **ret_kept, char **ret_reason)
{
	MFS_AUTOFREE char *log = mfs_str_printf("%s-wal", s->new_path);
	struct stat st;
	int r;

	*ret_kept = NULL;
	if (mfs_config_is_cluster(s->cfg))
		return stage_cluster_commit(s, ret_kept, ret_reason);
	if (!log)
		return -ENOMEM;
	engine_free(MFS_TAKE(s->engine));
	/* What is left of a log would not be found under the new name. */
	r = stat(log, &st) == 0 && st.st_size > 0 ? -EIO : 0;
	if (r == 0)
		r = remove_with_log(log);
	if (r == 0)
		r = sync_path(s->new_path, 0);
	if (r == 0)
		r = keep_old(s, ret_kept);
	if (r == 0)
		r = sync_folder(s);
	if (r == 0 && rename(s->new_path, s->path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_folder(s);
	return r < 0 ? mfs_fail(ret_reason, r, "%s: the new index could not be put in place: %s", s->path,
				strerror(-r))
		     : 0;
}

void volume_stage_free(struct volume_stage *s)
{
	if (!s)
		return;
	if (mfs_config_is_cluster(s->cfg))
		stage_cluster_end(s);
	engine_free(s->engine);
	object_store_free(s->store);
	if (s->new_path && !mfs_config_is_cluster(s->cfg))
		(void)remove_with_log(s->new_path);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->path);
	free(s->new_path);
	free(s);
}
