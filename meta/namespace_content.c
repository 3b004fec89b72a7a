/*
 * Content: a commit (new bytes, or the same at another key), truncate, and the last close of an unlinked file. Each
 * compares lay and is one change: the record, what becomes of the content it replaces, and the reconciler's work.
 */
#include <inttypes.h>
#include <stdio.h>

#include "common/checksum.h"
#include "meta/drops.h"
#include "meta/layout.h"
#include "meta/namespace_internal.h"
#include "meta/shared.h"

#define TEMPORARY_DELAY_NS (30 * MFS_NSEC_PER_SEC) /* an rsync renames sooner */

/* What a change borrows of the state that it replaces. */
struct replaced {
	struct version_record version; /* borrows */
	struct dropped_list dropped;
};

static void replaced_release(struct replaced *r)
{
	dropped_list_release(&r->dropped);
}
#define AUTO_REPLACED MFS_CLEANUP(replaced_release)

/* Where the file is, for versions and jobs; taken before the change, which expects that it still holds. */
struct place {
	struct ns_stamp stamp;
	struct mfs_buf path;
	mfs_ino_t dir;
	bool in_trash;
};

static int find_place(struct namespace *ns, struct op_ctx *op, const struct node *n, struct place *p)
{
	int r;

	p->stamp = ns_stamp_now(ns);
	p->in_trash = n->attr.flags & ATTR_IN_TRASH;
	p->dir = n->parent;
	mfs_buf_clear(&p->path);
	if (p->in_trash || !n->parent)
		return mfs_buf_puts(&p->path, n->trash_path ? n->trash_path : "");
	r = ns_path(ns, op, n->parent, &n->name, &p->path);
	return r == -ENOENT ? -EAGAIN : r;
}

static void expect_place(struct write *w, const struct node *n)
{
	if (n->attr.flags & ATTR_IN_TRASH)
		w->expect.flags |= EXPECT_IN_TRASH;
	else if (n->parent)
		ns_expect_name(w, n->parent, &n->name);
}

static void expect_content(struct write *w, uint64_t lay, uint64_t session)
{
	w->expect.flags |= EXPECT_LAY | EXPECT_NOT_FENCED;
	w->expect.lay = lay;
	w->expect.session = session;
}

/* What cannot be committed to at all, and a lost race that only the caller can mend. */
static int check_content(struct op_ctx *op, const struct node *n, uint64_t lay, uint64_t session)
{
	if (attr_is_dir(&n->attr))
		return -EISDIR;
	if (!attr_is_reg(&n->attr))
		return -EINVAL;
	if (node_blob_has_u64(&n->fenced, session)) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, op,
			"ino=%" PRIu64
			" this mount was fenced (taken for dead) and must not write the file any more; the answer is EIO",
			n->attr.ino);
		return -EIO;
	}
	return n->attr.lay == lay ? 0 : -EAGAIN;
}

static bool has_blob(const struct node_blob *b)
{
	return b && b->size;
}

/* The state that is replaced, as a version. It borrows from n and p. */
static void fill_version(const struct ns_op *x, const struct node *n, const struct place *p,
			 struct version_record *v)
{
	const struct mfs_attr *a = &n->attr;

	*v = (struct version_record){ .ino = a->ino,
				      .data = a->data,
				      .path = p->path.data,
				      .ref = n->ref,
				      .size = a->size,
				      .obj_len = a->obj_len,
				      .mtime = a->mtime,
				      .replaced = x->now,
				      .until = x->now + x->ns->opt.retention_ns,
				      .mode = a->mode,
				      .uid = a->uid,
				      .gid = a->gid,
				      .writer = x->op->uid,
				      .slices = n->slices,
				      .inline_data = n->inline_data };
	memcpy(v->etag, n->etag, sizeof(v->etag));
	if (__builtin_add_overflow(x->now, x->ns->opt.retention_ns, &v->until))
		v->until = INT64_MAX;
}

/* Does any other name of the file stand for the key? 1, 0, or -errno. */
static int key_of_other_name(struct ns_op *x, const struct node *n, const char *key)
{
	MFS_AUTOBUF struct mfs_buf other = MFS_BUF_INIT(NS_PATH_MAX);
	struct alias a[16];
	int total, r;

	if (n->attr.nlink < 2)
		return 0;
	total = engine_aliases(x->ns->e, x->op, n->attr.ino, a, MFS_ARRAY_LEN(a));
	for (int i = 0; i < MFS_MIN(total, (int)MFS_ARRAY_LEN(a)); i++) {
		r = ns_name_key(x->ns, x->op, a[i].parent, &a[i].name, n->attr.ino, &other);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && strcmp(other.data, key) == 0)
			return 1;
	}
	return MFS_MIN(total, 0);
}

/*
 * The key that was left. Where the file is to have an object there again (it is inline now, and the reconciler will
 * write it to its own place) the job can wait for that; it stands all the same, for then the key is looked at whatever
 * becomes of the file until then: an unlink or rename of a file without an object queues no key.
 */
static int queue_left_key(struct ns_op *x, const struct node *n, const struct commit *c, const char *want)
{
	bool comes_again = !c->ref.key && c->todo > x->now && strcmp(n->ref.key, want) == 0;

	return ns_job_key_due(x, n->ref.key, comes_again ? c->todo : x->now);
}

/* The reconciler's work after a commit: the key that was left, the one that is not the file's, the one not shown. */
static int queue_commit_jobs(struct ns_op *x, const struct node *n, const struct commit *c,
			     const struct place *p)
{
	MFS_AUTOBUF struct mfs_buf want = MFS_BUF_INIT(NS_PATH_MAX);
	const char *key = c->ref.key;
	bool left = n->ref.key && (!key || strcmp(n->ref.key, key) != 0);
	int r = 0;

	if (key || left)
		r = namespace_path_key(x->ns, p->path.data, n->attr.ino, &want);
	if (r == 0 && left)
		r = queue_left_key(x, n, c, want.data);
	if (r == 0 && key && c->queue_key)
		r = ns_job_key(x, key);
	/* Who has todo is looked at anyway. */
	if (r < 0 || !key || c->todo || strcmp(want.data, key) == 0)
		return r;
	r = key_of_other_name(x, n, key);
	if (r != 0)
		return r < 0 ? r : 0;
	return ns_job_file(x, n->attr.ino, c->temporary ? x->now + TEMPORARY_DELAY_NS : x->now);
}

/* Bytes in the index have their sum where an object's would stand; readers compare it (fs/content_state.c, fs/snapshot.c). */
static void sum_inline(struct node *set)
{
	char etag[MFS_CHECKSUM_ETAG_MAX];

	mfs_checksum_etag(mfs_checksum(set->inline_data.data, set->inline_data.size), etag);
	snprintf(set->etag, sizeof(set->etag), "%s", etag);
}

/* What the record says of all the file's bytes, so that equal files are found: the sum of the inline bytes, or of an object
 * that has no other bytes. Of nothing: nothing. */
static void hash_content(struct node *set, const struct commit *c, const struct node *source)
{
	bool inline_ = has_blob(&set->inline_data) && set->inline_data.size == set->attr.size;
	bool object = c && c->summed && set->ref.key && set->attr.obj_len == set->attr.size;
	uint64_t sum;

	if (c && c->settle && !object && !inline_)
		return; /* the same bytes */
	set->hash[0] = '\0';
	if (!set->attr.size)
		return;
	if (source && source->attr.size == set->attr.size)
		memcpy(set->hash, source->hash, sizeof(set->hash));
	else if ((inline_ || object) && mfs_checksum_parse(set->etag, &sum))
		memcpy(set->hash, set->etag, sizeof(set->hash));
}

/* The content is another one: so is its type, or not known. */
static void set_mime(struct write *w, struct node *set, const struct commit *c, const struct node *source)
{
	const char *mime = c->mime && *c->mime ? c->mime : source->mime;

	if (c->settle && !mime)
		return;
	if (!mime && !set->mime)
		return;
	set->mime = (char *)(uintptr_t)mime; /* borrowed, as all of it */
	w->mask |= EDIT_MIME;
}

/* The main write. `set` borrows from n, c and source (of a shared object; else empty). */
static struct write *write_commit(struct ns_op *x, struct node *n, const struct commit *c, const struct node *source,
				  struct node *set, struct mfs_attr *ret)
{
	struct write *w = change_write(&x->c, WRITE_EDIT, n->attr.ino);
	uint32_t killed = c->kill_priv ? ns_kill_priv(n) : 0;

	*set = *n;
	set->ref = c->ref;
	snprintf(set->etag, sizeof(set->etag), "%s", c->etag ? c->etag : "");
	set->attr.obj_len = c->obj_len;
	set->attr.alloc = c->alloc;
	set->attr.ctime = x->now;
	set->slices = has_blob(c->slices) ? *c->slices : (struct node_blob){ 0 };
	set->inline_data = has_blob(c->inline_data) ? *c->inline_data : (struct node_blob){ 0 };
	if (has_blob(&set->inline_data))
		sum_inline(set);
	set->todo = c->todo;
	x->work_now = c->todo && c->todo <= x->now;
	w->node = set;
	w->ret_attr = ret;
	w->mask = killed | EDIT_REF | EDIT_TODO | EDIT_BUMP_LAY;
	if (!object_ref_equal(&c->ref, &n->ref)) {
		set->attr.flags = (set->attr.flags & ~(uint32_t)ATTR_SHARED) | (c->share_of ? ATTR_SHARED : 0);
		w->mask |= EDIT_SHARED;
	}
	if (killed)
		ns_expect_ver(w, n->attr.ver);
	expect_content(w, c->lay, c->session ? c->session : x->ns->e->session);
	expect_place(w, n);
	set_mime(w, set, c, source);
	if (!c->settle)
		set->attr.size = c->size;
	hash_content(set, c, c->share_of ? source : NULL);
	if (c->settle)
		return w;
	w->mask |= EDIT_SIZE | EDIT_CTIME | EDIT_BUMP_DATA;
	if (c->mtime) {
		set->attr.mtime = c->mtime;
		w->mask |= EDIT_MTIME;
	}
	return w;
}

/* What becomes of the content that is replaced: a version, or (what is not in the new state) free to be collected. */
static int write_replaced(struct ns_op *x, const struct node *n, const struct content_names *after,
			  const struct place *p, bool keep, struct replaced *room)
{
	const struct content_names before = { .ref = &n->ref, .slices = &n->slices };
	int r;

	if (keep && !p->in_trash && (!object_ref_is_empty(&n->ref) || n->attr.size > 0)) {
		fill_version(x, n, p, &room->version);
		change_write(&x->c, WRITE_VERSION_PUT, 0)->version = &room->version;
		return 0;
	}
	r = drops_add(&room->dropped, n->attr.ino, x->now, &before, after);
	/* Damage in what is replaced is no reason to keep it: it is logged, and fsck finds what nothing names any more. */
	if (r == -EUCLEAN)
		r = 0;
	drops_write(&x->c, &room->dropped);
	return r;
}

/* A directory above moved between our reading of the path and the change: the job that walks it may have been here
 * too early. The commit stands; that it is not where it belongs, if it is not, is for the reconciler to see. */
static void recheck(struct namespace *ns, struct op_ctx *op, const struct place *p, mfs_ino_t ino)
{
	int r = p->in_trash || ns_placed(ns, p->stamp, ino, p->dir) ? 0 : ns_recheck_later(ns, op, ino);

	if (r < 0)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, op,
			"ino=%" PRIu64
			" committed while a directory above it moved, and queueing it failed (%s): its object may be at an old key until it is settled again",
			ino, strerror(-r));
}

/* Documents that the new layout names. */
static void write_docs(struct ns_op *x, const struct commit *c)
{
	struct write *w;

	if (c->n_docs == 0)
		return;
	w = change_write(&x->c, WRITE_SLICES_PUT, 0);
	w->slices = c->docs;
	w->n = c->n_docs;
}

/* What sharing an object writes beside the commit. */
struct sharing {
	struct node source;
	struct cell_record cell;
};

static void sharing_release(struct sharing *s)
{
	node_release(&s->source);
	cell_record_release(&s->cell);
}
#define AUTO_SHARING MFS_CLEANUP(sharing_release)

/* The file that has the object names it at this moment, and from now on so does this one: both are on its list. */
static int write_sharing(struct ns_op *x, const struct commit *c, struct sharing *room)
{
	uint64_t token;
	struct write *w;
	int r;

	if (!c->share_of)
		return 0;
	r = engine_get(x->ns->e, x->op, c->share_of, &room->source);
	if (r == 0 && (room->source.attr.lay != c->share_lay || !object_ref_equal(&room->source.ref, &c->ref)))
		r = -EXDEV;
	if (r == 0)
		r = shared_get(x->ns->e, x->op, c->ref.version, &room->cell);
	if (r < 0)
		return r == -ESTALE ? -EXDEV : r;
	token = room->cell.token;
	r = shared_add(&room->cell, c->ref.version, c->share_of, c->ino);
	if (r < 0)
		return r;
	room->source.attr.flags |= ATTR_SHARED;
	w = change_write(&x->c, WRITE_EDIT, c->share_of);
	w->node = &room->source;
	w->mask = EDIT_SHARED;
	w->expect.flags = EXPECT_LAY;
	w->expect.lay = c->share_lay;
	w = change_write(&x->c, WRITE_CELL_PUT, 0);
	w->cell = &room->cell;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = token;
	return 0;
}

static int commit_node(struct namespace *ns, struct op_ctx *op, const struct commit *c, struct node *n,
		       struct place *p, struct mfs_attr *ret)
{
	const struct content_names after = { .ref = &c->ref, .slices = c->slices };
	AUTO_REPLACED struct replaced replaced = { 0 };
	AUTO_SHARING struct sharing sharing = { 0 };
	struct node set;
	NS_AUTOOP struct ns_op x;
	struct mfs_attr done;
	int r;

	ns_op_init(&x, ns, op);
	r = find_place(ns, op, n, p);
	if (r == 0)
		r = write_sharing(&x, c, &sharing);
	if (r == 0 && !p->in_trash)
		r = queue_commit_jobs(&x, n, c, p);
	else if (r == 0 && c->ref.key && !object_ref_equal(&c->ref, &n->ref))
		r = ns_job_key(&x, c->ref.key); /* a new object of an unlinked open file: the key must not show it */
	if (r == 0)
		r = write_replaced(&x, n, &after, p, c->keep_version && !c->settle, &replaced);
	if (r < 0)
		return r;
	write_docs(&x, c);
	write_commit(&x, n, c, &sharing.source, &set, &done);
	x.c.durable = c->durable;
	r = ns_op_apply(&x);
	if (r == 0)
		*ret = done;
	return r;
}

static int commit_once(struct namespace *ns, struct op_ctx *op, const struct commit *c, struct place *p,
		       bool *mine, struct mfs_attr *ret)
{
	struct node n = NODE_INIT;
	int r = engine_get(ns->e, op, c->ino, &n);

	*mine = false;
	if (r < 0)
		return r;
	r = check_content(op, &n, c->lay, c->session ? c->session : ns->e->session);
	*mine = r == 0; /* -EAGAIN from here on is a race that another reading mends */
	if (r == 0)
		r = commit_node(ns, op, c, &n, p, ret);
	node_release(&n);
	return r;
}

static bool slices_are_sound(const struct commit *c)
{
	struct layout l;
	int r;

	if (!has_blob(c->slices))
		return c->n_docs == 0;
	r = layout_parse(c->slices, &l);
	layout_release(&l);
	return r != -EUCLEAN;
}

/* A record is inline, or has an object (or none) with slices over it. */
static bool commit_is_sound(const struct commit *c)
{
	if (c->obj_len && object_ref_is_empty(&c->ref))
		return false;
	if (!slices_are_sound(c))
		return false;
	return !has_blob(c->inline_data) ||
	       (object_ref_is_empty(&c->ref) && !has_blob(c->slices) && c->inline_data->size <= MFS_INLINE_MAX &&
		c->inline_data->size <= c->size);
}

int namespace_commit(struct namespace *ns, struct op_ctx *op, const struct commit *c, struct mfs_attr *ret)
{
	MFS_AUTOFREE struct place *p = calloc(1, sizeof(*p));
	bool mine;
	int r;

	if (!p)
		return -ENOMEM;
	if (c->size > (uint64_t)MFS_FILE_SIZE_MAX)
		return -EFBIG;
	if (!commit_is_sound(c))
		return -EINVAL;
	p->path.max = NS_PATH_MAX;
	for (unsigned int i = 0;; i++) {
		r = commit_once(ns, op, c, p, &mine, ret);
		if (!mine || !ns_again(op, "commit", c->ino, i, &r))
			break;
	}
	if (r == 0)
		recheck(ns, op, p, c->ino);
	mfs_buf_release(&p->path);
	return r;
}

/* Truncate. */

struct truncate {
	mfs_ino_t ino;
	uint64_t lay, size;
	bool keep_version, kill_priv;
};

/* What the change of a truncation borrows. */
struct truncation {
	struct node set; /* borrows */
	struct node_blob clipped;
	struct replaced replaced;
	uint32_t mask;
};

static void truncation_release(struct truncation *t)
{
	free(t->clipped.data);
	replaced_release(&t->replaced);
}
#define AUTO_TRUNCATION MFS_CLEANUP(truncation_release)

/* The content cut at `size`, in `set`, which borrows what is not cut from n. `clipped` is the caller's to free. */
static int clip_content(const struct node *n, uint64_t size, struct node *set, struct node_blob *clipped)
{
	int r = 0;

	*set = *n;
	set->attr.size = size;
	set->attr.obj_len = MFS_MIN(n->attr.obj_len, size);
	/* What was cut off is the old state's, or garbage: not the file's any more. */
	set->attr.alloc = MFS_MIN(n->attr.alloc, (size + 4095) / 4096 * 4096);
	if (n->inline_data.size > size) {
		/* What is left gets a sum of its own: not over damage. */
		if (size && !mfs_checksum_fits(n->etag, n->inline_data.data, n->inline_data.size)) {
			mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL,
				"ino=%" PRIu64 " the bytes that the index has of it are damaged: not cut, but to nothing; see massfs scrub",
				n->attr.ino);
			return -EIO;
		}
		set->inline_data.size = (size_t)size;
		set->etag[0] = '\0';
		if (size)
			sum_inline(set);
		else
			set->inline_data = (struct node_blob){ 0 };
	}
	if (size == 0)
		set->slices = (struct node_blob){ 0 };
	else if (has_blob(&n->slices) && size < n->attr.size) {
		r = layout_clip_blob(&n->slices, size, clipped);
		set->slices = has_blob(clipped) ? *clipped : (struct node_blob){ 0 };
	}
	return r == -EUCLEAN ? -EIO : r;
}

/* size moves: the layout follows, and the reconciler is asked to look. */
static int truncate_layout(struct ns_op *x, const struct truncate *t, const struct node *n, const struct place *p,
			   struct truncation *room)
{
	const struct content_names after = { .ref = &room->set.ref, .slices = &room->set.slices };
	int r = clip_content(n, t->size, &room->set, &room->clipped);

	if (r == 0)
		r = write_replaced(x, n, &after, p, t->keep_version && t->size < n->attr.size, &room->replaced);
	if (r < 0)
		return r;
	room->mask = EDIT_BUMP_DATA | EDIT_BUMP_LAY;
	hash_content(&room->set, NULL, NULL);
	if (n->mime) {
		room->set.mime = NULL;
		room->mask |= EDIT_MIME;
	}
	if (n->inline_data.size > t->size || strcmp(room->set.hash, n->hash) != 0 || room->set.slices.data != n->slices.data || room->set.attr.alloc != n->attr.alloc)
		room->mask |= EDIT_REF;
	/* Neither an object nor bytes before and after: still the empty file of a create that was not closed. */
	if (!object_ref_is_empty(&n->ref) || n->attr.size || t->size) {
		room->set.todo = n->todo && n->todo < x->now ? n->todo : x->now;
		room->mask |= EDIT_TODO;
		x->work_now = true;
	}
	return 0;
}

static int truncate_node(struct namespace *ns, struct op_ctx *op, const struct truncate *t, struct node *n,
			 struct place *p, struct mfs_attr *ret)
{
	bool changes = t->size != n->attr.size;
	AUTO_TRUNCATION struct truncation room = { 0 };
	uint64_t ver = n->attr.ver;
	NS_AUTOOP struct ns_op x;
	uint32_t killed;
	struct mfs_attr done;
	struct write *w;
	int r = 0;

	ns_op_init(&x, ns, op);
	killed = t->kill_priv ? ns_kill_priv(n) : 0;
	room.set = *n;
	if (changes)
		r = find_place(ns, op, n, p);
	if (r == 0 && changes)
		r = truncate_layout(&x, t, n, p, &room);
	if (r < 0)
		return r;
	w = change_write(&x.c, WRITE_EDIT, t->ino);
	w->mask = EDIT_SIZE | EDIT_MTIME | EDIT_CTIME | killed | room.mask;
	if (killed)
		ns_expect_ver(w, ver);
	expect_content(w, t->lay, ns->e->session);
	if (changes)
		expect_place(w, n);
	room.set.attr.mtime = room.set.attr.ctime = x.now;
	w->node = &room.set;
	w->ret_attr = &done;
	r = ns_op_apply(&x);
	if (r == 0)
		*ret = done;
	return r;
}

static int truncate_once(struct namespace *ns, struct op_ctx *op, const struct truncate *t, struct place *p,
			 bool *mine, struct mfs_attr *ret)
{
	struct node n = NODE_INIT;
	int r = engine_get(ns->e, op, t->ino, &n);

	*mine = false;
	if (r < 0)
		return r;
	r = check_content(op, &n, t->lay, ns->e->session);
	*mine = r == 0;
	if (r == 0)
		r = truncate_node(ns, op, t, &n, p, ret);
	node_release(&n);
	return r;
}

int namespace_truncate(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, uint64_t lay, uint64_t size,
		       bool keep_version, bool kill_priv, struct mfs_attr *ret)
{
	struct truncate t = {
		.ino = ino, .lay = lay, .size = size, .keep_version = keep_version, .kill_priv = kill_priv
	};
	struct place p = { .path = MFS_BUF_INIT(NS_PATH_MAX) };
	bool mine;
	int r;

	if (size > (uint64_t)MFS_FILE_SIZE_MAX)
		return -EFBIG;
	for (unsigned int i = 0;; i++) {
		r = truncate_once(ns, op, &t, &p, &mine, ret);
		if (!mine || !ns_again(op, "truncate", ino, i, &r))
			break;
	}
	mfs_buf_release(&p.path);
	return r;
}

/* An open file that somebody else removed. */

static int opened_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct mfs_attr *ret)
{
	struct node n = NODE_INIT;
	NS_AUTOOP struct ns_op x;
	struct write *w;
	int r;

	ns_op_init(&x, ns, op);
	r = engine_get(ns->e, op, ino, &n);
	if (r < 0)
		return r;
	*ret = n.attr;
	if ((n.attr.flags & ATTR_IN_TRASH) && !node_blob_has_u64(&n.openers, ns->e->session)) {
		r = node_blob_add_u64(&n.openers, ns->e->session);
		w = change_write(&x.c, WRITE_EDIT, ino);
		w->node = &n;
		w->mask = EDIT_OPENERS;
		w->ret_attr = ret;
		w->expect.flags = EXPECT_IN_TRASH;
		ns_expect_ver(w, n.attr.ver);
		r = r < 0 ? r : ns_op_apply(&x);
	}
	node_release(&n);
	return r;
}

int namespace_opened(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct mfs_attr *ret)
{
	for (unsigned int i = 0;; i++) {
		int r = opened_once(ns, op, ino, ret);

		if (!ns_again(op, "opened", ino, i, &r))
			return r;
	}
}

/* The last close of an unlinked file. */

static int closed_once(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	NS_AUTOOP struct ns_op x;
	struct write *w;
	int r;

	ns_op_init(&x, ns, op);
	r = engine_get(ns->e, op, ino, &n);
	if (r < 0)
		return r;
	if ((n.attr.flags & ATTR_IN_TRASH) && node_blob_has_u64(&n.openers, ns->e->session)) {
		node_blob_remove_u64(&n.openers, ns->e->session);
		w = change_write(&x.c, WRITE_EDIT, ino);
		w->node = &n;
		w->mask = EDIT_OPENERS;
		w->expect.flags = EXPECT_IN_TRASH;
		ns_expect_ver(w, n.attr.ver);
		r = ns_op_apply(&x);
	}
	node_release(&n);
	return r;
}

int namespace_closed(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino)
{
	for (unsigned int i = 0;; i++) {
		int r = closed_once(ns, op, ino);

		if (r == -ESTALE)
			return 0;
		if (!ns_again(op, "closed", ino, i, &r))
			return r;
	}
}
