/*
 * What another program put at a key: its bytes become the next version of the file at that path, or a new file.
 *
 * The foreign object is held by a version of its own and stays on top of its key until the index names a copy of its
 * bytes, which is stored elsewhere for that time (.massfs/o/INODE); then it is deleted, and the copy comes to its place as
 * after a rename. So a crash at any moment leaves it where it was, to be imported then, or again. It is copied, not taken
 * over: whoever made it may still have it open. One that is being written, or changes while it is copied, is left for later.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/log.h"
#include "common/str.h"
#include "fs/reconcile_internal.h"

#define PIECE	  (UINT64_C(8) << 20)
#define TRIES_MAX 16
#define WRITTEN_NS (5 * MFS_NSEC_PER_SEC) /* one that is being written is looked at again after this */

struct import {
	struct reconcile_ctx *rc;
	const char *key;
	struct op_ctx op;	  /* whom what is made belongs to: the file's own owner */
	struct object_info info;  /* of the foreign object */
	struct object_ref held;	  /* key is borrowed */
	char copy_key[48];
	mfs_ino_t ino, parent;
	const char *name; /* in key */
	bool made;	  /* a new file */
	uint64_t session; /* of what is stored for it */
};

static int lookup(struct import *x, mfs_ino_t dir, const char *name, size_t len, struct mfs_attr *ret)
{
	struct entry e;
	int r = namespace_lookup(x->rc->v->ns, x->rc->op, dir, name, len, &e);

	if (r < 0)
		return r;
	*ret = e.node.attr;
	entry_release(&e);
	return 0;
}

static int make(struct import *x, mfs_ino_t dir, const char *name, size_t len, uint32_t mode, struct mfs_attr *ret)
{
	struct make m = { .parent = dir, .name = name, .name_len = len, .mode = mode };
	struct node n = NODE_INIT;
	int r = namespace_make(x->rc->v->ns, &x->op, &m, &n);

	if (r == 0)
		*ret = n.attr;
	node_release(&n);
	return r;
}

static void told(struct import *x, mfs_ino_t ino, mfs_ino_t parent, const char *name, size_t len)
{
	const struct namespace_hooks *h = &x->rc->v->hooks;
	MFS_AUTOFREE char *copy = name ? strndup(name, len) : NULL;

	if (h->changed)
		h->changed(h->arg, ino, copy ? parent : 0, copy);
}

/* The folder of the last name; missing ones are made. */
static int find_folder(struct import *x)
{
	const char *slash;
	struct mfs_attr a;

	x->parent = MFS_ROOT_INO;
	for (x->name = x->key; (slash = strchr(x->name, '/')); x->name = slash + 1) {
		size_t len = (size_t)(slash - x->name);
		int r = lookup(x, x->parent, x->name, len, &a);

		if (r == -ENOENT) {
			r = make(x, x->parent, x->name, len, S_IFDIR | 0755, &a);
			if (r == 0)
				told(x, 0, x->parent, x->name, len);
			else if (r == -EEXIST)
				r = lookup(x, x->parent, x->name, len, &a);
		}
		if (r < 0)
			return r;
		if (!attr_is_dir(&a))
			return -ENOTDIR;
		x->parent = a.ino;
	}
	return 0;
}

static int find_file(struct import *x)
{
	struct mfs_attr a = { 0 };
	int r = find_folder(x);

	if (r == 0)
		r = lookup(x, x->parent, x->name, strlen(x->name), &a);
	if (r == -ENOENT && x->parent) {
		r = make(x, x->parent, x->name, strlen(x->name), S_IFREG | x->info.mode, &a);
		x->made = r == 0;
	}
	if (r == 0 && !attr_is_reg(&a))
		r = attr_is_dir(&a) ? -EISDIR : -EEXIST;
	x->ino = a.ino;
	return r;
}

/* --- the copy --- */

static int copy_parts(struct import *x, struct object_upload *u, unsigned char *buf)
{
	struct reconcile_ctx *rc = x->rc;
	unsigned int number = 1;

	for (uint64_t at = 0; at < x->info.size; number++) {
		size_t want = (size_t)MFS_MIN(PIECE, x->info.size - at);
		ssize_t got = object_get(rc->v->store, rc->op, &x->held, at, buf, want);
		int r = got < 0 ? (int)got : (size_t)got == want ? 0 : -EAGAIN;

		if (r == 0 && !reconcile_stats_moved(&rc->v->reconcile, rc->op, rc->v->cfg->settle_rate, want, false))
			r = -ECANCELED;
		if (r == 0)
			r = object_upload_part(u, rc->op, number, at, buf, want);
		if (r < 0)
			return r;
		at += want;
	}
	return 0;
}

static int is_as_it_was(struct import *x)
{
	struct object_info now;
	int r = object_head(x->rc->v->store, x->rc->op, NULL, x->key, x->held.version, &now);

	if (r < 0)
		return r;
	return now.size == x->info.size && now.mtime == x->info.mtime ? 0 : -EAGAIN;
}

static int copy(struct import *x, const struct mfs_attr *attr, struct object_info *ret)
{
	MFS_AUTOFREE unsigned char *buf = malloc((size_t)MFS_MIN(PIECE, x->info.size + 1));
	struct object_meta meta = volume_object_meta(x->rc->v, attr);
	struct object_store *s = x->rc->v->store;
	struct op_ctx *op = x->rc->op;
	struct object_upload *u;
	int r;

	if (!buf)
		return -ENOMEM;
	meta.mtime = x->info.mtime;
	r = object_upload_begin(s, op, NULL, x->copy_key, &meta, &u);
	if (r < 0)
		return r;
	r = copy_parts(x, u, buf);
	if (r == 0)
		r = is_as_it_was(x);
	if (r < 0) {
		object_upload_abort(u, op);
		return r;
	}
	return object_upload_complete(u, op, x->info.size, &meta, ret);
}

/* --- the record --- */

static int record(struct import *x, const struct object_info *info, struct mfs_attr *ret)
{
	char mime[MIME_MAX];
	struct commit c = {
		.ino = x->ino,
		.ref = { .key = x->copy_key },
		.mime = mime,
		.summed = true,
		.etag = info->etag[0] ? info->etag : NULL,
		.obj_len = info->size,
		.size = info->size,
		.alloc = info->alloc,
		.mtime = x->info.mtime,
		.keep_version = true,
		.session = x->session,
		.queue_key = info->not_shown || info->crowded,
		.durable = true,
	};
	int r = -EAGAIN;

	memcpy(c.ref.version, info->version, sizeof(c.ref.version));
	mime_of_object(&x->rc->v->mime, x->rc->v->store, x->rc->op, &c.ref, info->size, mime);
	for (int tries = 0; r == -EAGAIN && tries < TRIES_MAX; tries++) {
		struct node n = NODE_INIT;

		r = namespace_get(x->rc->v->ns, x->rc->op, x->ino, &n);
		c.lay = n.attr.lay;
		node_release(&n);
		if (r == 0)
			r = namespace_commit(x->rc->v->ns, x->rc->op, &c, ret);
	}
	return r;
}

/* The index has the copy: the foreign file itself goes. One that was changed since is still there to be imported. */
static int let_go(struct import *x)
{
	int r = is_as_it_was(x);

	if (r == 0)
		r = object_delete_version(x->rc->v->store, x->rc->op, &x->held);
	return r == -EAGAIN || r == -ENOENT ? 0 : r;
}

/* A copy that no record names. */
static void drop_copy(struct import *x, const struct object_info *info)
{
	struct object_ref ref = { .key = x->copy_key };

	memcpy(ref.version, info->version, sizeof(ref.version));
	if (object_delete_version(x->rc->v->store, x->rc->op, &ref) < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, x->rc->op, "key=%s version=%s a copy stays; massfs gc will find it", ref.key,
			ref.version);
}

static int take_over(struct import *x)
{
	struct node n = NODE_INIT;
	struct object_info info;
	struct mfs_attr attr;
	int r = namespace_get(x->rc->v->ns, x->rc->op, x->ino, &n);

	attr = n.attr;
	node_release(&n);
	if (r == 0)
		r = copy(x, &attr, &info);
	if (r < 0)
		return r;
	mfs_crash_point("import.copied");
	r = record(x, &info, &attr);
	if (r < 0) {
		if (r == -EAGAIN || reconcile_is_gone(r) || r == -ENOSPC || r == -EROFS)
			drop_copy(x, &info);
		return r;
	}
	mfs_crash_point("import.recorded");
	return let_go(x);
}

static int import(struct import *x)
{
	int r = find_file(x);

	if (r < 0)
		return r;
	snprintf(x->copy_key, sizeof(x->copy_key), ".massfs/o/%" PRIu64, x->ino);
	key_gate_enter(&x->rc->v->gate, x->copy_key);
	r = take_over(x);
	key_gate_leave(&x->rc->v->gate, x->copy_key);
	if (r < 0)
		return r; /* a file that was made stays, empty: it is filled when this is tried again */
	told(x, x->ino, x->parent, x->name, strlen(x->name));
	atomic_fetch_add(&x->rc->v->reconcile.imported, 1);
	mfs_log(MFS_LOG_FS, MFS_LOG_INFO, x->rc->op,
		"key=%s inode=%" PRIu64 " a file that another program put there was imported as %s", x->key, x->ino,
		x->made ? "a new file" : "the next version of the file");
	return 0;
}

int reconcile_import(struct reconcile_ctx *rc, const char *key)
{
	MFS_AUTOFREE char *copy_of_key = strdup(key);
	struct import x = { .rc = rc, .key = key, .held = { .key = copy_of_key }, .session = rc->v->session };
	int r;

	if (!copy_of_key)
		return -ENOMEM;
	if (mfs_str_starts(key, ".massfs/"))
		return -EPERM;
	r = object_hold(rc->v->store, rc->op, NULL, key, &x.info);
	if (r == -ENOENT)
		return 0;
	if (r == 0) {
		memcpy(x.held.version, x.info.version, sizeof(x.held.version));
		x.op.uid = x.info.uid;
		x.op.gid = x.info.gid;
		r = import(&x);
	}
	if (r == -EAGAIN)
		rc->again_at = mfs_now_ns() + WRITTEN_NS;
	return r < 0 ? r : 1;
}

bool reconcile_is_foreign(struct reconcile_ctx *rc, const char *key)
{
	struct object_info info;

	return object_head(rc->v->store, rc->op, NULL, key, NULL, &info) == 0 && !info.own;
}

int reconcile_import_key(struct volume *v, struct op_ctx *op, const char *key)
{
	struct reconcile_ctx rc = { .v = v, .op = op };
	struct node n = NODE_INIT;
	int r, err = 0;

	key_gate_lease(&v->gate);
	r = reconcile_import(&rc, key);
	if (r == 1 && reconcile_file_at(&rc, key, &n) == 1) {
		rc.force = true;
		err = reconcile_settle(&rc, n.attr.ino); /* to its place; what cannot be now is queued */
		node_release(&n);
	}
	key_gate_release(&v->gate);
	return err == -ECANCELED ? err : r;
}
