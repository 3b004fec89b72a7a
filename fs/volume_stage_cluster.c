/*
 * The new index of a cluster's volume is in a database of its own, DATABASE_new, until it is whole. Then the old one's
 * collections move to DATABASE_old_<time>, the volume's record first, and the new one's to DATABASE, the volume's record last:
 * there is a volume only where all of it is.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "fs/volume_cluster.h"
#include "fs/volume_stage_internal.h"
#include "fs/volume_store.h"

#define DATABASE_MAX 63
#define MOVE_NS	     (3600 * MFS_NSEC_PER_SEC) /* a collection that moves between databases is copied */

/* A session, for the cell that keeps mounts away. It has no heartbeat: it counts as dead after the lease, if we die. */
static int begin_session(struct volume_stage *s, struct op_ctx *op)
{
	char host[65] = "localhost", none[] = "";
	struct session_record rec = { .host = host, .mountpoint = none, .pid = (uint32_t)getpid(), .started = mfs_now_ns() };
	struct change c = { .durable = true };
	int r = engine_reserve(s->old_engine, op, 1, &rec.id);

	if (r < 0)
		return r;
	(void)!gethostname(host, sizeof(host) - 1);
	rec.heartbeat = rec.started;
	s->old_engine->session = rec.id;
	change_write(&c, WRITE_SESSION_PUT, rec.id)->session = &rec;
	return engine_apply(s->old_engine, op, &c);
}

static void end_session(struct volume_stage *s)
{
	struct op_ctx op = { 0 };
	struct session_list l = { 0 };
	struct change c = { 0 };
	uint64_t own = s->old_engine->session;

	if (!own)
		return;
	cluster_end_alone(s->old_engine, &op);
	if (engine_sessions(s->old_engine, &op, &l) == 0) {
		for (size_t i = 0; i < l.n; i++)
			if (l.v[i].id == own) {
				l.v[i].closed = mfs_now_ns();
				change_write(&c, WRITE_SESSION_PUT, own)->session = &l.v[i];
			}
		(void)!engine_apply(s->old_engine, &op, &c); /* else it is buried as a dead one */
	}
	session_list_release(&l);
}

static int look_at_old(struct volume_stage *s, struct op_ctx *op, char **ret_reason)
{
	struct cluster_options co = { .plain = true };
	MFS_AUTOFREE char *reason = NULL;
	bool used = true;
	int r = cluster_engine_open(s->cfg, &co, &s->old_engine, &reason);

	s->old = STAGE_NO_INDEX;
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = engine_volume_get(s->old_engine, op, &s->old_record);
	if (r == -EPROTO || r == -EPROTONOSUPPORT) { /* who has it open is not known: it is another version's */
		return mfs_fail(ret_reason, r, "%s; drop or rename the database first", reason ? reason : strerror(-r));
	}
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s", reason ? reason : strerror(-r));
	if (s->bound[0] && strcmp(s->bound, s->old_record.uuid) != 0)
		return mfs_fail(ret_reason, -EINVAL, "%s: database %s is another volume's than bucket %s", mfs_config_label(s->cfg),
				s->cfg->database, s->cfg->bucket);
	r = begin_session(s, op);
	if (r == 0)
		r = cluster_be_alone(s->old_engine, op, s->cfg->lease_ns, &reason);
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: %s", mfs_config_label(s->cfg), reason ? reason : strerror(-r));
	r = volume_stage_is_used(s->old_engine, op, &used);
	s->old = r < 0 ? STAGE_DAMAGED_INDEX : used ? STAGE_USED_INDEX : STAGE_EMPTY_INDEX;
	return 0;
}

static int open_new(struct volume_stage *s, char **ret_reason)
{
	struct cluster_options co = { .plain = true, .create = true, .database = s->new_path, .deadline_ns = MOVE_NS };

	return cluster_engine_open(s->cfg, &co, &s->engine, ret_reason);
}

/* Empty: what one that was killed has left goes. */
static int make_new(struct volume_stage *s, struct op_ctx *op, char **ret_reason)
{
	struct volume_record v;
	uint64_t files = 0, bytes;
	int r = open_new(s, ret_reason), left;

	if (r < 0)
		return r;
	left = engine_volume_get(s->engine, op, &v);
	r = engine_count(s->engine, op, &files, &bytes);
	if (r == 0 && left == -ENOENT && files == 0)
		return 0;
	r = mongo_engine_drop(s->engine, op);
	engine_free(MFS_TAKE(s->engine));
	return r < 0 ? r : open_new(s, ret_reason);
}

int stage_cluster_begin(struct volume_stage *s, char **ret_reason)
{
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	struct volume_store_options vo = { 0 };
	int r;

	s->path = strdup(s->cfg->database);
	s->new_path = mfs_str_printf("%s_new", s->cfg->database);
	if (!s->path || !s->new_path)
		return -ENOMEM;
	if (strlen(s->path) + strlen("_old_20261121T000000Z") > DATABASE_MAX)
		return mfs_fail(ret_reason, -ENAMETOOLONG, "%s: database = %s: too long for the names of a new and a kept one beside it",
				mfs_config_label(s->cfg), s->path);
	r = volume_store_open(s->cfg, &vo, &s->store, ret_reason);
	if (r == 0)
		r = cluster_read_bound(s->cfg, s->store, &op, s->bound, ret_reason);
	if (r == 0)
		r = look_at_old(s, &op, ret_reason);
	if (r == 0)
		r = make_new(s, &op, ret_reason);
	if (r < 0 && !*ret_reason)
		(void)mfs_fail(ret_reason, r, "%s: cannot make a new index: %s", mfs_config_label(s->cfg), strerror(-r));
	return r;
}

/* The new index and the bucket say the same volume: the bucket's, where it says one. */
static int bind(struct volume_stage *s, struct op_ctx *op)
{
	struct volume_record v;
	int r = engine_volume_get(s->engine, op, &v);

	if (r < 0)
		return r;
	if (!s->bound[0])
		return cluster_bind(s->cfg, s->store, op, v.uuid);
	memcpy(v.uuid, s->bound, sizeof(v.uuid));
	return engine_volume_put(s->engine, op, &v);
}

static int drop_database(struct volume_stage *s, struct op_ctx *op, const char *database)
{
	struct cluster_options co = { .plain = true, .database = database };
	MFS_AUTOFREE char *reason = NULL;
	struct engine *e = NULL;
	int r = cluster_engine_open(s->cfg, &co, &e, &reason);

	if (r == 0)
		r = mongo_engine_drop(e, op);
	engine_free(e);
	return r;
}

static int swap(struct volume_stage *s, struct op_ctx *op, const char *kept, bool *ret_any)
{
	struct cluster_options co = { .plain = true, .database = s->new_path, .deadline_ns = MOVE_NS };
	MFS_AUTOFREE char *reason = NULL;
	struct engine *e = NULL;
	bool any;
	int r = cluster_engine_open(s->cfg, &co, &e, &reason);

	if (r == 0)
		r = mongo_engine_move(e, op, s->path, kept, MONGO_MOVE_AWAY, ret_any);
	if (r == 0)
		r = mongo_engine_move(e, op, s->new_path, s->path, MONGO_MOVE_IN, &any);
	engine_free(e);
	return r;
}

int stage_cluster_commit(struct volume_stage *s, char **ret_kept, char **ret_reason)
{
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	char when[40];
	MFS_AUTOFREE char *kept = mfs_str_printf("%s_old_%s", s->path, mfs_str_put_time_short(when, sizeof(when), mfs_now_ns()));
	bool any = false;
	int r = kept ? bind(s, &op) : -ENOMEM;

	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: the new index could not be bound to its bucket: %s", mfs_config_label(s->cfg),
				strerror(-r));
	/* Their sums are told at the end. The session of the old one stays open in it, and mounts away, until it is gone. */
	engine_free(MFS_TAKE(s->engine));
	engine_free(MFS_TAKE(s->old_engine));
	r = swap(s, &op, kept, &any);
	if (r < 0)
		return mfs_fail(ret_reason, r,
				"%s: the new index could not be put in place (%s); what was database %s may be in %s in part, the new index in "
				"%s; run this again",
				mfs_config_label(s->cfg), strerror(-r), s->path, kept, s->new_path);
	free(MFS_TAKE(s->new_path));
	if (any && s->old == STAGE_EMPTY_INDEX && drop_database(s, &op, kept) == 0)
		return 0;
	if (any)
		*ret_kept = mfs_str_printf("database %s", kept);
	return 0;
}

void stage_cluster_end(struct volume_stage *s)
{
	struct op_ctx op = { 0 };

	if (s->engine) /* it was not committed */
		(void)!mongo_engine_drop(s->engine, &op);
	if (s->old_engine)
		end_session(s);
	engine_free(MFS_TAKE(s->old_engine));
}
