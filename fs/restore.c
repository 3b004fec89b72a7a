/*
 * Old content, made current again or read out (fs/restore.h).
 */
#include "fs/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "fs/key_gate.h"
#include "fs/snapshot.h"
#include "fs/verbs_internal.h"

#define TRIES_MAX 32
#define PIECE	  ((size_t)8 << 20) /* read and put at a time; a part */
#define KEY_BYTES 48

struct restore {
	struct verb_call *call;
	const struct past *p;
	struct snapshot *snap;
	struct node n; /* the file it goes into */
	char key[KEY_BYTES]; /* of an object made for it */
	struct object_info made; /* version "": none was */
};

static int open_snapshot(struct verb_call *call, const struct past *p, struct snapshot **ret)
{
	struct version_record v = { .ino = p->ino,
				    .data = p->data,
				    .ref = p->ref,
				    .size = p->size,
				    .obj_len = p->obj_len,
				    .slices = p->slices,
				    .inline_data = p->inline_data };
	int r;

	memcpy(v.etag, p->etag, sizeof(v.etag));
	r = snapshot_of_version(call->vol, call->op, &v, ret);

	return r == -ENOENT ? -ENODATA : r;
}

/* --- a new object with the bytes --- */

static int put_small(struct restore *x, const struct object_meta *meta)
{
	struct verb_call *call = x->call;
	size_t len = (size_t)x->p->size;
	MFS_AUTOFREE unsigned char *buf = malloc(len + 1);
	int r;

	if (!buf)
		return -ENOMEM;
	r = snapshot_read(x->snap, call->op, 0, buf, len);
	return r < 0 ? r : object_put(call->vol->store, call->op, NULL, x->key, buf, len, meta, &x->made);
}

/* Parts, and where the store may leave gaps, holes. */
static int put_parts(struct restore *x, struct object_upload *u, unsigned char *buf)
{
	struct verb_call *call = x->call;
	bool sparse = object_store_caps(call->vol->store) & OBJECT_CAP_SPARSE;
	unsigned int number = 1;
	int r = 0;

	for (uint64_t at = 0, n; at < x->p->size && r == 0; at += n) {
		uint64_t run = 0;

		n = MFS_MIN((uint64_t)PIECE, x->p->size - at);
		if (sparse && snapshot_is_hole(x->snap, at, &run)) {
			n = run;
			continue;
		}
		if (sparse)
			n = MFS_MIN(n, run);
		if (atomic_load(&call->op->cancelled))
			return -ECANCELED;
		r = snapshot_read(x->snap, call->op, at, buf, (size_t)n);
		if (r == 0)
			r = object_upload_part(u, call->op, number++, at, buf, (size_t)n);
	}
	return r;
}

static int put_big(struct restore *x, const struct object_meta *meta)
{
	struct verb_call *call = x->call;
	MFS_AUTOFREE unsigned char *buf = malloc(PIECE);
	struct object_upload *u;
	int r;

	if (!buf)
		return -ENOMEM;
	r = object_upload_begin(call->vol->store, call->op, NULL, x->key, meta, &u);
	if (r < 0)
		return r;
	r = put_parts(x, u, buf);
	if (r < 0) {
		object_upload_abort(u, call->op);
		return r;
	}
	return object_upload_complete(u, call->op, x->p->size, meta, &x->made);
}

static int compose(struct restore *x)
{
	struct object_meta meta = volume_object_meta(x->call->vol, &x->n.attr);

	return x->p->size <= OBJECT_PART_MIN ? put_small(x, &meta) : put_big(x, &meta);
}

static int copy_object(struct restore *x)
{
	struct verb_call *call = x->call;
	struct object_meta meta = volume_object_meta(call->vol, &x->n.attr);

	return object_copy(call->vol->store, call->op, &x->p->ref, NULL, x->key, &meta, &x->made);
}

/* --- the record --- */

/* What the content takes in the store: of the object what no slice hides, and what slices have in the patch log. */
static uint64_t alloc_of_layout(const struct restore *x)
{
	const struct layout *l = snapshot_layout(x->snap);
	struct object_info info = { 0 };
	uint64_t live, held, hidden = 0;

	if (!object_ref_is_empty(&x->p->ref) &&
	    object_head(x->call->vol->store, x->call->op, x->p->ref.bucket, x->p->ref.key, x->p->ref.version,
			&info) < 0)
		info.alloc = x->p->obj_len;
	layout_log_use(l, &live, &held);
	for (size_t i = 0; i < l->n_map && l->map[i].off < x->p->obj_len; i++)
		hidden += MFS_MIN(l->map[i].len, x->p->obj_len - l->map[i].off);
	live += info.alloc > hidden ? info.alloc - hidden : 0;
	return MFS_MIN((live + 511) / 512 * 512, x->p->size + 4095);
}

/* The new content as a commit says it; it borrows from x and p. */
static void fill_commit(struct restore *x, struct commit *c)
{
	const struct past *p = x->p;

	*c = (struct commit){ .ino = x->n.attr.ino,
			      .obj_len = p->obj_len,
			      .size = p->size,
			      .mtime = mfs_now_ns(),
			      .keep_version = true,
			      .kill_priv = !verb_is_admin(x->call),
			      .durable = true,
			      .todo = mfs_now_ns() };
	if (x->made.version[0]) {
		c->ref.key = x->key;
		memcpy(c->ref.version, x->made.version, sizeof(c->ref.version));
		c->etag = x->made.etag[0] ? x->made.etag : NULL;
		c->alloc = x->made.alloc;
		c->queue_key = true;
	}
	if (p->inline_data.size) {
		c->inline_data = &p->inline_data;
		c->alloc = (p->inline_data.size + 511) / 512 * 512;
	}
}

/* Holes over an object and nothing else: they are as true over a copy of it. */
static bool is_object_with_holes(const struct snapshot *s)
{
	const struct layout *l = snapshot_layout(s);

	for (size_t i = 0; i < l->n_map; i++)
		if (l->map[i].pos != LAYOUT_HOLE)
			return false;
	return l->n_docs == 0 && l->n_segments == 0;
}

/* Slices with documents or patches: of the same inode, they are named again; else bytes are composed. */
static int take_layout(struct restore *x, struct commit *c)
{
	const struct past *p = x->p;
	int r;

	if (p->ino == x->n.attr.ino) {
		fill_commit(x, c);
		c->ref = p->ref;
		c->etag = p->etag[0] ? p->etag : NULL;
		c->slices = &p->slices;
		c->alloc = alloc_of_layout(x);
		return 0;
	}
	r = compose(x);
	fill_commit(x, c);
	c->obj_len = p->size;
	return r;
}

static int take_content(struct restore *x, struct commit *c)
{
	int r = 0;

	if (!is_object_with_holes(x->snap))
		return take_layout(x, c);
	/*
	 * Never at the path's own key: a copy of a version onto its own key is that same version, and a version that
	 * another inode made must not be named by this one (fs/gc.h).
	 */
	if (!object_ref_is_empty(&x->p->ref))
		r = copy_object(x);
	fill_commit(x, c);
	c->slices = &x->p->slices;
	return r;
}

static int commit_content(struct restore *x, struct commit *c)
{
	struct volume *v = x->call->vol;
	int r = -EAGAIN;

	for (int tries = 0; r == -EAGAIN && tries < TRIES_MAX; tries++) {
		struct mfs_attr attr;

		c->lay = x->n.attr.lay;
		r = namespace_commit(v->ns, x->call->op, c, &attr);
		if (r == -EAGAIN) {
			int err;

			node_release(&x->n);
			err = namespace_get(v->ns, x->call->op, c->ino, &x->n);
			if (err < 0)
				return err;
		}
	}
	return r;
}

/* Is the version still kept? 0, or -ENODATA. */
static int is_kept(struct restore *x)
{
	struct version_list l = { 0 };
	int r = engine_versions_by_ino(x->call->vol->engine, x->call->op, x->p->ino, &l);
	bool found = false;

	for (size_t i = 0; r == 0 && i < l.n && !found; i++)
		found = l.v[i].data == x->p->data;
	version_list_release(&l);
	return r < 0 ? r : found ? 0 : -ENODATA;
}

/* The objects of a version are named again only while it names them itself. */
static int commit_restored(struct restore *x, struct commit *c)
{
	bool names_its = x->p->ino == x->n.attr.ino && !x->p->is_trash &&
			 (!x->made.version[0] || strcmp(x->made.version, x->p->ref.version) == 0);
	struct volume *v = x->call->vol;
	int r;

	if (!names_its)
		return commit_content(x, c);
	past_turn_take(&v->past);
	r = is_kept(x);
	if (r == 0)
		r = commit_content(x, c);
	past_turn_release(&v->past);
	return r;
}

/* What was made for a commit that surely did not happen. After -EIO it may have: then gc decides. */
static void take_back(struct restore *x, int err)
{
	struct object_ref ref = { .key = x->key };

	if ((err != -EAGAIN && err != -ESTALE && err != -ENOENT) || !x->made.version[0] ||
	    strcmp(x->made.version, x->p->ref.version) == 0)
		return;
	memcpy(ref.version, x->made.version, sizeof(ref.version));
	if (object_delete_version(x->call->vol->store, x->call->op, &ref) < 0)
		mfs_debug(MFS_LOG_FS, x->call->op, "version=%s stays, for gc", ref.version);
}

int restore_content(struct verb_call *call, const struct past *p, mfs_ino_t ino)
{
	struct restore x = { .call = call, .p = p };
	struct volume *v = call->vol;
	uint64_t session = v->session; /* of what is stored for it */
	struct commit c;
	int r = namespace_get(v->ns, call->op, ino, &x.n);

	if (r < 0)
		return r;
	r = open_snapshot(call, p, &x.snap);
	if (r < 0) {
		node_release(&x.n);
		return r;
	}
	snprintf(x.key, sizeof(x.key), ".massfs/o/%" PRIu64, ino);
	key_gate_enter(&v->gate, x.key);
	r = take_content(&x, &c);
	if (r == -ENOENT)
		r = -ENODATA;
	if (r == 0) {
		c.session = session;
		r = commit_restored(&x, &c);
		if (r < 0)
			take_back(&x, r);
	}
	key_gate_leave(&v->gate, x.key);
	snapshot_free(x.snap);
	node_release(&x.n);
	return r;
}

/* --- reading it out --- */

static int print(struct verb_call *call, struct snapshot *s, unsigned char *buf)
{
	uint64_t size = snapshot_size(s);

	for (uint64_t at = 0, n; at < size; at += n) {
		int r;

		n = MFS_MIN((uint64_t)MFS_MIB, size - at);
		r = snapshot_read(s, call->op, at, buf, (size_t)n);
		if (r < 0)
			return r == -ENOENT ? -ENODATA : r;
		if (atomic_load(&call->op->cancelled))
			return -ECANCELED;
		if (fwrite(buf, 1, (size_t)n, call->out) != n)
			return -EIO;
	}
	return 0;
}

int restore_print(struct verb_call *call, const struct past *p)
{
	MFS_AUTOFREE unsigned char *buf = malloc(MFS_MIB);
	struct snapshot *s;
	int r = buf ? open_snapshot(call, p, &s) : -ENOMEM;

	if (r < 0)
		return r;
	r = print(call, s, buf);
	snapshot_free(s);
	return r;
}
