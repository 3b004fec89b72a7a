/*
 * What another program put at a file's key, and an upload of massfs's own covered before anybody had seen it: it becomes a
 * version of that path. Nothing tells of it but the list of the key's versions, so only `massfs import` looks for it.
 *
 * The index names objects of massfs's own only (gc, fs/reconcile_versions.c): its bytes are copied to .massfs/o/NUMBER, under a
 * number of its own, as if another file had been at the path and was replaced. Then the version is recorded, then theirs goes;
 * a crash between leaves it to be imported again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/reconcile_internal.h"

struct covered {
	struct object_info *v; /* foreign, not on top; the newest first */
	size_t n, cap;
	bool below_top;
};

static int see(void *arg, const char *key, const struct object_info *info)
{
	struct covered *c = arg;
	bool below_top = c->below_top;

	(void)key;
	c->below_top = true;
	if (!below_top || info->is_marker || info->own)
		return 0;
	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 8;
		struct object_info *v = reallocarray(c->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		c->v = v;
		c->cap = cap;
	}
	c->v[c->n++] = *info;
	return 0;
}

static int record(struct reconcile_ctx *rc, const char *key, const struct node *file, mfs_ino_t number,
		  const struct object_ref *ref, const struct object_info *copy)
{
	int64_t now = mfs_now_ns(), keep = rc->v->cfg->retention_ns;
	struct version_record v = {
		.ino = number,
		.data = 1,
		.path = (char *)(uintptr_t)key,
		.ref = *ref,
		.size = copy->size,
		.obj_len = copy->size,
		.mtime = copy->mtime,
		.replaced = now,
		.until = keep > INT64_MAX - now ? INT64_MAX : now + keep,
		.mode = file->attr.mode,
		.uid = file->attr.uid,
		.gid = file->attr.gid,
		.writer = file->attr.uid,
	};
	struct change c = { 0 };

	memcpy(v.etag, copy->etag, sizeof(v.etag));
	change_write(&c, WRITE_VERSION_PUT, 0)->version = &v;
	return engine_apply(rc->v->engine, rc->op, &c);
}

static int take(struct reconcile_ctx *rc, const char *key, const struct node *file, const struct object_info *theirs)
{
	struct object_ref from = { .key = (char *)(uintptr_t)key }, to;
	struct object_meta meta;
	struct object_info copy;
	struct mfs_attr attr = file->attr;
	char place[48];
	mfs_ino_t number;
	int r = namespace_reserve(rc->v->ns, rc->op, 1, &number);

	if (r < 0)
		return r;
	attr.ino = number;
	attr.mtime = theirs->mtime;
	meta = volume_object_meta(rc->v, &attr);
	snprintf(place, sizeof(place), ".massfs/o/%" PRIu64, number);
	memcpy(from.version, theirs->version, sizeof(from.version));
	if (!reconcile_stats_moved(&rc->v->reconcile, rc->op, rc->v->cfg->settle_rate, theirs->size, false))
		return -ECANCELED;
	r = object_copy(rc->v->store, rc->op, &from, NULL, place, &meta, &copy);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* somebody imported it */
	to = (struct object_ref){ .key = place };
	memcpy(to.version, copy.version, sizeof(to.version));
	r = record(rc, key, file, number, &to, &copy);
	if (r < 0)
		return r; /* perhaps it is recorded: the copy is gc's, which looks */
	r = object_delete_version(rc->v->store, rc->op, &from);
	mfs_log(MFS_LOG_FS, MFS_LOG_INFO, rc->op,
		"key=%s version=%s what another program had put there, and an upload of ours covered, is a version of the file now", key,
		theirs->version);
	return r < 0 ? r : 1;
}

int reconcile_import_past(struct volume *v, struct op_ctx *op, const char *key)
{
	struct reconcile_ctx rc = { .v = v, .op = op };
	struct covered c = { 0 };
	struct node n = NODE_INIT;
	int r = 0, done = 0;

	key_gate_lease(&v->gate);
	r = reconcile_file_at(&rc, key, &n);
	if (r == 1)
		r = object_list_key(v->store, op, NULL, key, see, &c);
	for (size_t i = c.n; i-- > 0 && r >= 0;) {
		r = atomic_load(&op->cancelled) ? -ECANCELED : take(&rc, key, &n, &c.v[i]);
		done += r == 1;
	}
	node_release(&n);
	key_gate_release(&v->gate);
	free(c.v);
	return r < 0 ? r : done;
}
