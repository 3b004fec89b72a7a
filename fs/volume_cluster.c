/*
 * A volume on a cluster: engines, the binding of index and bucket, the lease of who must be alone.
 */
#include "fs/volume_cluster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "meta/log_engine.h"

#define ALONE	  "leases/volume"
#define UUID_LEN  36
#define MARK_MAX  8192
#define ENGINE_DEADLINE_NS (30 * MFS_NSEC_PER_SEC)
#define LOOK_NS	  (500 * 1000 * 1000) /* between two looks at a heartbeat */

/* Its keys have the volume's number in them. */
static int add_redis(const struct mfs_config *cfg, struct engine **e, char **ret_reason)
{
	MFS_AUTOFREE char *reason = NULL;
	struct volume_record rec;
	struct redis_options ro = { .uri = cfg->redis, .volume = rec.uuid };
	struct op_ctx op = { 0 };
	struct engine *outer = NULL;
	int r = engine_volume_get(*e, &op, &rec);

	if (r == -ENOENT) /* no volume: who opens it says so */
		return 0;
	if (r == 0)
		r = redis_engine_new(*e, &ro, &outer, &reason);
	if (r == 0)
		*e = outer;
	else
		mfs_fail(ret_reason, r, "%s: key 'redis': %s", mfs_config_label(cfg), reason ? reason : strerror(-r));
	return r;
}

int cluster_engine_open(const struct mfs_config *cfg, const struct cluster_options *opt, struct engine **ret,
			char **ret_reason)
{
	MFS_AUTOFREE char *reason = NULL;
	const char *database = opt->database ? opt->database : cfg->database;
	struct mongo_options mo = {
		.uri = cfg->mongodb,
		.database = database,
		.create = opt->create,
		.readonly = opt->readonly,
		.deadline_ns = opt->deadline_ns ? opt->deadline_ns : ENGINE_DEADLINE_NS,
	};
	int r = mongo_engine_open(&mo, ret, &reason);

	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: cannot open the index in MongoDB (database %s): %s", mfs_config_label(cfg),
				database, reason ? reason : strerror(-r));
	if (opt->ret_logged) {
		struct engine *logged = NULL;

		r = log_engine_follow(*ret, &logged);
		if (r == 0)
			*ret = *opt->ret_logged = logged;
		else
			mfs_fail(ret_reason, r, "%s: no news of the index in MongoDB: %s", mfs_config_label(cfg), strerror(-r));
	}
	return r == 0 && cfg->redis && !opt->plain ? add_redis(cfg, ret, ret_reason) : r;
}

/* ---- index and bucket ---- */

/* The volume's uuid, and where its objects are beside its bucket: all its mounts must agree on that. */
static char *mark_text(const struct mfs_config *cfg, const char *uuid)
{
	return cfg->places ? mfs_str_printf("%s\n%s\n", uuid, cfg->places) : strdup(uuid);
}

int cluster_bind(const struct mfs_config *cfg, struct object_store *s, struct op_ctx *op, const char *uuid)
{
	struct object_meta meta = { .mode = 0600, .mtime = mfs_now_ns() };
	MFS_AUTOFREE char *text = mark_text(cfg, uuid);
	struct object_info info;

	return text ? object_put(s, op, NULL, VOLUME_OBJECT, text, strlen(text), &meta, &info) : -ENOMEM;
}

/* What the bucket's object says; "": there is none. */
static int read_bound(const struct mfs_config *cfg, struct object_store *s, struct op_ctx *op, char *text, size_t size,
		      char **ret_reason)
{
	char key[] = VOLUME_OBJECT;
	struct object_ref ref = { .key = key };
	struct object_info info;
	ssize_t n = 0;
	int r = object_head(s, op, NULL, VOLUME_OBJECT, NULL, &info);

	memset(text, 0, size);
	if (r == 0 && !info.is_marker) {
		memcpy(ref.version, info.version, sizeof(ref.version));
		n = object_get(s, op, &ref, 0, text, size - 1);
		r = n < 0 ? (int)n : 0;
	}
	if (r < 0 && r != -ENOENT)
		return mfs_fail(ret_reason, r, "%s: cannot read %s of bucket %s: %s", mfs_config_label(cfg), VOLUME_OBJECT, cfg->bucket,
				strerror(-r));
	return 0;
}

static int other_places(const struct mfs_config *cfg, const char *text, char **ret_reason)
{
	return mfs_fail(ret_reason, -EINVAL, "%s: the volume was formatted with other places =, where its objects are now: %s",
			mfs_config_label(cfg), strlen(text) > UUID_LEN ? text + UUID_LEN + 1 : "none");
}

int cluster_read_bound(const struct mfs_config *cfg, struct object_store *s, struct op_ctx *op, char ret_uuid[37],
		       char **ret_reason)
{
	char text[MARK_MAX];
	int r = read_bound(cfg, s, op, text, sizeof(text), ret_reason);
	MFS_AUTOFREE char *want = NULL;

	if (r < 0)
		return r;
	snprintf(ret_uuid, 37, "%.*s", UUID_LEN, strlen(text) >= UUID_LEN ? text : "");
	want = mark_text(cfg, ret_uuid);
	if (!want)
		return -ENOMEM;
	return ret_uuid[0] && strcmp(text, want) != 0 ? other_places(cfg, text, ret_reason) : 0;
}

int cluster_check_bound(const struct mfs_config *cfg, struct object_store *s, struct op_ctx *op, const char *uuid,
			char **ret_reason)
{
	MFS_AUTOFREE char *want = mark_text(cfg, uuid);
	char text[MARK_MAX];
	int r = read_bound(cfg, s, op, text, sizeof(text), ret_reason);

	if (r < 0)
		return r;
	if (!want)
		return -ENOMEM;
	if (!strcmp(text, want))
		return 0;
	if (!strncmp(text, uuid, UUID_LEN))
		return other_places(cfg, text, ret_reason);
	return mfs_fail(ret_reason, -EINVAL,
			"%s: bucket %s%s%s is not that of the index in database %s (%s): one of the two is another volume's",
			mfs_config_label(cfg), cfg->bucket, cfg->prefix ? " below " : "", cfg->prefix ? cfg->prefix : "",
			cfg->database, *text ? "it has another volume's mark" : "it has no mark of a volume");
}

/* ---- alone ---- */

/* The heartbeat of a session; 0: it is closed or gone. */
static int heartbeat_of(struct engine *e, struct op_ctx *op, uint64_t id, int64_t *ret)
{
	struct session_list l = { 0 };
	int r = engine_sessions(e, op, &l);

	*ret = 0;
	for (size_t i = 0; i < l.n; i++)
		if (l.v[i].id == id && !l.v[i].closed)
			*ret = l.v[i].heartbeat ? l.v[i].heartbeat : 1;
	session_list_release(&l);
	return r;
}

/* Does it move, within wait_ns of our own clock? */
static int is_alive(struct engine *e, struct op_ctx *op, uint64_t id, int64_t wait_ns, bool *ret)
{
	const struct timespec pause = { .tv_nsec = LOOK_NS };
	int64_t first, now, end = mfs_mono_ns() + wait_ns;
	int r = heartbeat_of(e, op, id, &first);

	*ret = false;
	while (r == 0 && first && mfs_mono_ns() < end) {
		nanosleep(&pause, NULL);
		r = heartbeat_of(e, op, id, &now);
		if (r < 0 || !now)
			return r;
		if (now != first) {
			*ret = true;
			return 0;
		}
	}
	return r;
}

static int write_cell(struct engine *e, struct op_ctx *op, uint64_t before, uint64_t holder)
{
	char name[] = ALONE;
	struct cell_record cell = { .name = name, .token = mfs_mono_ns() | 1 };
	struct change c = { 0 };
	struct write *w;

	if (holder) {
		cell.blob.data = &holder;
		cell.blob.size = sizeof(holder);
		cell.token ^= holder << 32;
	}
	w = change_write(&c, WRITE_CELL_PUT, 0);
	w->cell = &cell;
	w->expect = (struct expect){ .flags = EXPECT_VER, .ver = before };
	c.durable = true;
	return engine_apply(e, op, &c);
}

/* Who is alone, and the cell's token; 0: nobody. */
static int read_cell(struct engine *e, struct op_ctx *op, uint64_t *ret_holder, uint64_t *ret_token)
{
	struct cell_record cell = { 0 };
	int r = engine_cell_get(e, op, ALONE, &cell);

	*ret_holder = *ret_token = 0;
	if (r == -ENOENT)
		return 0;
	if (r == 0) {
		*ret_token = cell.token;
		if (cell.blob.size == sizeof(*ret_holder))
			memcpy(ret_holder, cell.blob.data, sizeof(*ret_holder));
	}
	cell_record_release(&cell);
	return r;
}

/* Sessions that others have, alive: the first one's name goes into the reason. */
static int refuse_others(struct engine *e, struct op_ctx *op, int64_t wait_ns, char **ret_reason)
{
	struct session_list l = { 0 };
	int r = engine_sessions(e, op, &l);

	for (size_t i = 0; i < l.n && r == 0; i++) {
		const struct session_record *s = &l.v[i];
		bool alive = false;

		if (s->closed || s->id == e->session)
			continue;
		r = is_alive(e, op, s->id, wait_ns, &alive);
		if (alive)
			r = mfs_fail(ret_reason, -EBUSY, "in use by process %u on %s%s%s; unmount it there first", s->pid,
				     s->host ? s->host : "?", s->mountpoint && *s->mountpoint ? ", mounted on " : "",
				     s->mountpoint ? s->mountpoint : "");
	}
	session_list_release(&l);
	return r;
}

int cluster_be_alone(struct engine *e, struct op_ctx *op, int64_t wait_ns, char **ret_reason)
{
	uint64_t holder, token;
	bool alive = false;
	int r = read_cell(e, op, &holder, &token);

	if (r == 0 && holder)
		r = is_alive(e, op, holder, wait_ns, &alive);
	if (r == 0 && alive)
		return mfs_fail(ret_reason, -EBUSY, "another tool has the volume for itself");
	if (r == 0)
		r = write_cell(e, op, token, e->session);
	if (r == -EAGAIN)
		return mfs_fail(ret_reason, -EBUSY, "another tool has just taken the volume for itself");
	if (r < 0)
		return r;
	r = refuse_others(e, op, wait_ns, ret_reason);
	if (r < 0)
		cluster_end_alone(e, op);
	return r;
}

void cluster_end_alone(struct engine *e, struct op_ctx *op)
{
	uint64_t holder, token;
	int r = read_cell(e, op, &holder, &token);

	if (r == 0 && holder == e->session)
		r = write_cell(e, op, token, 0);
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
			"the volume could not be given back (%s): mounts wait until this process's session counts as dead", strerror(-r));
}

int cluster_check_alone(struct engine *e, struct op_ctx *op, int64_t wait_ns, char **ret_reason)
{
	uint64_t holder, token;
	bool alive = false;
	int r = read_cell(e, op, &holder, &token);

	if (r == 0 && holder && holder != e->session)
		r = is_alive(e, op, holder, wait_ns, &alive);
	if (r < 0 || !alive)
		return r;
	return mfs_fail(ret_reason, -EBUSY, "a tool has the volume for itself (massfs fsck --repair, or the like); try again after it");
}
