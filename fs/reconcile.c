/*
 * One file or one directory tree: its objects become what the index says of it now. One key: reconcile_key.c.
 *
 * Everything starts from a fresh read and ends in a check, so each function may be run again at any time, after a
 * crash too. A file's record is switched by compare-and-set on its layout (namespace_commit, settle); a copy that
 * lost that race is deleted at once. Data are never read from a key, only from the exact version a record names, so
 * what a key shows in between is of no consequence for the filesystem.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/log.h"
#include "common/str.h"
#include "common/workers.h"
#include "fs/reconcile_kept.h"

#define TRIES_MAX      16
#define PATH_BYTES_MAX 16384 /* a longer path is no key (OBJECT_KEY_MAX), whatever it is in full */
#define SOON_NS	       (20 * INT64_C(1000000))
#define O_PREFIX       ".massfs/o/"

/* Not now, but look again soon: not a failure. */
int reconcile_later(struct reconcile_ctx *rc, int64_t delay_ns)
{
	rc->again_at = mfs_now_ns() + delay_ns;
	return -EAGAIN;
}

/* Is, or becomes, an object at its path. Not: a file that was made and never written. */
bool reconcile_has_content(const struct node *n)
{
	return attr_is_reg(&n->attr) && !(n->attr.flags & ATTR_IN_TRASH) &&
	       (!object_ref_is_empty(&n->ref) || n->inline_data.data || n->attr.size || n->todo);
}

bool reconcile_is_at_key(const struct node *n, const char *key)
{
	return n->ref.key && strcmp(n->ref.key, key) == 0;
}

static int key_of_path(struct reconcile_ctx *rc, const char *path, mfs_ino_t ino, struct mfs_buf *ret)
{
	mfs_buf_clear(ret);
	return namespace_path_key(rc->v->ns, path, ino, ret);
}

static int nameless_key(mfs_ino_t ino, struct mfs_buf *ret)
{
	mfs_buf_clear(ret);
	return mfs_buf_printf(ret, O_PREFIX "%" PRIu64, ino);
}

/* The key that stands for the record's own name. */
static int own_key(struct reconcile_ctx *rc, mfs_ino_t ino, struct mfs_buf *ret)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(PATH_BYTES_MAX);
	int r = namespace_path(rc->v->ns, rc->op, ino, &path);

	if (r == -EFBIG)
		return nameless_key(ino, ret);
	return r < 0 ? r : key_of_path(rc, mfs_buf_str(&path), ino, ret);
}

static int alias_key(struct reconcile_ctx *rc, const struct alias *a, struct mfs_buf *ret)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(PATH_BYTES_MAX);
	int r = namespace_path(rc->v->ns, rc->op, a->parent, &path);

	if (r == -EFBIG)
		return nameless_key(a->target, ret);
	if (r < 0)
		return r;
	if (path.len)
		r = mfs_buf_putc(&path, '/');
	if (r == 0)
		r = mfs_buf_append(&path, a->name.bytes, a->name.len);
	if (r == -EFBIG)
		return nameless_key(a->target, ret);
	return r < 0 ? r : key_of_path(rc, mfs_buf_str(&path), a->target, ret);
}

/* Is the object at a key that stands for one of the file's names? *ret_own gets the key of the first name. */
static int is_at_a_name(struct reconcile_ctx *rc, const struct node *n, struct mfs_buf *ret_own, bool *ret)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(PATH_BYTES_MAX);
	MFS_AUTOFREE struct alias *aliases = NULL;
	int count, r;

	mfs_buf_clear(ret_own);
	r = own_key(rc, n->attr.ino, ret_own);
	if (r < 0)
		return r;
	*ret = reconcile_is_at_key(n, mfs_buf_str(ret_own));
	if (*ret || !n->ref.key || n->attr.nlink < 2)
		return 0;
	count = (int)n->attr.nlink;
	aliases = calloc((size_t)count, sizeof(*aliases));
	if (!aliases)
		return -ENOMEM;
	r = engine_aliases(rc->v->engine, rc->op, n->attr.ino, aliases, (size_t)count);
	if (r < 0)
		return r;
	count = MFS_MIN(r, count);
	for (int i = 0; i < count && !*ret; i++) {
		r = alias_key(rc, &aliases[i], &key);
		if (reconcile_is_gone(r))
			continue;
		if (r < 0)
			return r;
		*ret = reconcile_is_at_key(n, mfs_buf_str(&key));
	}
	return 0;
}

/*
 * A copy was put at the key and no record names it: the key must be looked at again. Deleting the copy is not enough:
 * where a copy shares its data with others (localdir), the view at the key may bear the label of a later one, which
 * another thread made of the same file, and then it does not go with the version.
 */
static int queue_key(struct reconcile_ctx *rc, const struct object_ref *ref)
{
	struct job_record job = { .kind = JOB_KEY, .key = ref->key, .due = mfs_now_ns() };
	struct change c = { 0 };

	change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	return engine_apply(rc->v->engine, rc->op, &c);
}

/* After a lost race: 0, look again. */
static int retry(int r)
{
	return r == -EAGAIN || reconcile_is_gone(r) ? 0 : r;
}

int reconcile_has_moved(struct reconcile_ctx *rc, const struct node *n)
{
	struct node now = NODE_INIT;
	int r = namespace_get(rc->v->ns, rc->op, n->attr.ino, &now);

	if (r == 0 && now.attr.lay != n->attr.lay)
		r = -EAGAIN;
	node_release(&now);
	return r;
}

/* An object is not there: the record moved on meanwhile (-EAGAIN), or it is lost (-EIO). */
static int missing(struct reconcile_ctx *rc, const struct node *n)
{
	int r = reconcile_has_moved(rc, n);

	if (r == 0)
		r = -EIO;
	if (r == -EIO)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, rc->op,
			"inode=%" PRIu64 " key=%s version=%s an object that the index names is missing; run massfs fsck",
			n->attr.ino, n->ref.key ? n->ref.key : "", n->ref.version);
	return r;
}

static void delete_lost(struct reconcile_ctx *rc, const struct object_ref *ref, const struct node *n)
{
	int r;

	if (strcmp(ref->version, n->ref.version) == 0)
		return;
	r = object_delete_version(rc->v->store, rc->op, ref);
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, rc->op,
			"key=%s version=%s a copy that lost its race stays (%s); massfs gc will find it",
			ref->key, ref->version, strerror(-r));
}

/*
 * The same of an object that another mount may have made the record name (fs/reconcile_kept.h): since the layout moved,
 * either it did or nobody ever will. That gc finds out, as of all that is dropped.
 */
static void drop_lost(struct reconcile_ctx *rc, const struct object_ref *ref, const struct node *n)
{
	struct dropped_record d = { .ino = n->attr.ino, .ref = *ref, .at = mfs_now_ns() };
	struct change c = { 0 };

	change_write(&c, WRITE_DROPPED_PUT, 0)->dropped = &d;
	if (engine_apply(rc->v->engine, rc->op, &c) < 0)
		mfs_debug(MFS_LOG_FS, rc->op, "key=%s version=%s stays for gc's whole walk", ref->key, ref->version);
}

/* The record names the new object from now on; all that it named before is dropped. `c` is the rest of the commit. */
static int switch_record(struct reconcile_ctx *rc, const struct node *n, const struct object_info *info, bool kept,
			 struct commit *c)
{
	MFS_AUTOFREE char *copy = strdup(c->ref.key); /* ref is not const there */
	struct mfs_attr attr;
	int r;

	if (!copy)
		return -ENOMEM;
	c->ref.key = copy;
	memcpy(c->ref.version, info->version, sizeof(c->ref.version));
	c->ino = n->attr.ino;
	c->lay = n->attr.lay;
	c->size = c->obj_len = n->attr.size;
	c->summed = true;
	if (info->etag[0])
		c->etag = info->etag;
	c->alloc = info->alloc;
	c->queue_key = info->not_shown || info->crowded;
	c->settle = true;
	mfs_crash_point("reconcile.copied");
	r = namespace_commit(rc->v->ns, rc->op, c, &attr);
	if (r == 0) {
		mfs_crash_point("reconcile.recorded");
		reconcile_stats_settled(&rc->v->reconcile, n->attr.ino);
	} else {
		int queued = queue_key(rc, &c->ref);

		/* Any other failure may have an unknown outcome: then the copy is left for gc, which reads the record again. */
		if (r == -EAGAIN || reconcile_is_gone(r))
			(kept ? drop_lost : delete_lost)(rc, &c->ref, n);
		if (queued < 0)
			r = queued; /* this job stays, and with it the copy's key */
	}
	return r;
}

/* What kind of content it is: as recorded, else by its first bytes. */
static void find_mime(struct reconcile_ctx *rc, const struct node *n, char ret[MIME_MAX])
{
	MFS_AUTOFREE unsigned char *head = NULL;
	size_t len = (size_t)MFS_MIN(n->attr.size, MIME_HEAD);
	struct snapshot *snap = NULL;

	ret[0] = '\0';
	if (n->mime || !len)
		return;
	if (n->inline_data.size >= len) {
		mime_of(&rc->v->mime, n->inline_data.data, len, ret);
		return;
	}
	head = malloc(len);
	if (head && snapshot_of_node(rc->v, rc->op, n, &snap) == 0 && snapshot_read(snap, rc->op, 0, head, len) == 0)
		mime_of(&rc->v->mime, head, len, ret);
	snapshot_free(snap);
}

enum move {
	MOVE_COMPOSE, /* a new object of what the layout says */
	MOVE_COPY,    /* the same object at another key, which is left */
	MOVE_APART,   /* the same, but others have that object and stay at its key */
};

/* The file's bytes become an object at `key`, and the record names it. -EAGAIN: the record moved meanwhile. */
static int move_to(struct reconcile_ctx *rc, const struct node *n, enum move how, const char *key)
{
	struct object_meta meta = volume_object_meta(rc->v, &n->attr);
	bool exact = how != MOVE_COMPOSE;
	struct node_blob holes = { 0 };
	struct object_info info = { 0 };
	char mime[MIME_MAX];
	struct commit c = { .ref = { .key = (char *)(uintptr_t)key },
			    .mime = mime,
			    .slices = exact ? &n->slices : &holes,
			    .session = meta.session,
			    .etag = exact && n->etag[0] ? n->etag : NULL };
	bool kept = false;
	int r, ended;

	meta.apart = how == MOVE_APART;
	find_mime(rc, n, mime);
	if (exact)
		r = reconcile_copy(rc, n, NULL, key, &meta, &info);
	else
		r = reconcile_compose(rc, n, key, &meta, &info, &holes, &kept);
	c.session = meta.session;
	if (r == 0)
		r = switch_record(rc, n, &info, kept, &c);
	else if (r == -ENOENT)
		r = missing(rc, n);
	/* After an unknown outcome the cell stays: who comes next finds the object, or that the record has it. */
	if (kept && (r == 0 || r == -EAGAIN || reconcile_is_gone(r))) {
		ended = reconcile_kept_end(rc, n);
		if (ended < 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, rc->op, "inode=%" PRIu64 " the cell of its upload stays (%s); massfs gc "
				"takes it", n->attr.ino, strerror(-ended));
	}
	free(holes.data);
	return r;
}

/* Has the index something at that path already that is no file? */
bool reconcile_no_place(int r)
{
	return r == -EISDIR || r == -ENOTDIR || r == -EEXIST || r == -EPERM;
}

/* Another program's object at a key that is to be the file's. 1: none is in the way; 0: look again. */
static int make_way(struct reconcile_ctx *rc, const char *key)
{
	int r = reconcile_is_foreign(rc, key) ? reconcile_import(rc, key) : 0;

	if (r == 0 || reconcile_no_place(r))
		return 1;
	return r < 0 ? r : 0;
}

/* The version the record names becomes the top of its own key. 1: it was already; 0: look again. */
static int put_on_top(struct reconcile_ctx *rc, const struct node *n)
{
	struct object_meta meta = volume_object_meta(rc->v, &n->attr);
	struct object_info info;
	int r = object_head(rc->v->store, rc->op, n->ref.bucket, n->ref.key, NULL, &info);

	if (r == 0 && strcmp(info.version, n->ref.version) == 0)
		return 1;
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && !info.own) {
		r = make_way(rc, n->ref.key);
		if (r != 1)
			return r;
	} else if (r == -ENOENT) {
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, rc->op, "inode=%" PRIu64 " key=%s showed nothing: put back",
			n->attr.ino, n->ref.key);
	}
	r = reconcile_copy(rc, n, n->ref.bucket, n->ref.key, &meta, &info);
	if (r < 0)
		return r == -ENOENT ? retry(missing(rc, n)) : r;
	if (info.not_shown)
		return -EAGAIN;
	if (strcmp(info.version, n->ref.version) != 0) {
		/* A store where a copy onto itself is a new version: the record has to name that one. */
		struct commit c = { .ref = { .bucket = n->ref.bucket, .key = n->ref.key },
				    .slices = &n->slices,
				    .session = meta.session,
				    .etag = n->etag[0] ? n->etag : NULL };

		r = retry(switch_record(rc, n, &info, false, &c));
	}
	return r;
}

/* May this temporary name keep the key of its final name for now? */
bool reconcile_keeps_final_key(struct reconcile_ctx *rc, const struct node *n, int64_t *ret_until)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(PATH_BYTES_MAX);
	int64_t now = mfs_now_ns(), until;
	bool temporary = false;

	if (rc->force)
		return false;
	if (namespace_key(rc->v->ns, rc->op, n->attr.ino, &key, &temporary) < 0 || !temporary ||
	    strcmp(mfs_buf_str(&key), n->ref.key) != 0)
		return false;
	until = n->attr.ctime + RECONCILE_TEMPORARY_NS;
	*ret_until = until;
	return n->attr.ctime <= now && until > now;
}

/* Not one whole native object of its own yet. 1: nothing is to be done here and now; 0: look again. */
static int settle_content(struct reconcile_ctx *rc, const struct node *n, enum move how, const char *key)
{
	bool sparse;
	int r = reconcile_stays_sparse(rc, n, &sparse);

	if (r < 0)
		return r == -ENOENT ? retry(missing(rc, n)) : r;
	if (sparse)
		return reconcile_set_todo(rc, n, 0);
	/* A job is about places; bytes are moved when the record's own time has come. What it leaves is hidden before that. */
	if (!rc->compose && n->todo)
		return 1;
	if (!rc->compose) {
		r = reconcile_set_todo(rc, n, mfs_now_ns());
		if (r != 1 || how != MOVE_APART)
			return r;
		r = queue_key(rc, &n->ref);
		return r < 0 ? r : 1;
	}
	rc->again_at = reconcile_not_before(rc, n);
	if (rc->again_at)
		return -EAGAIN;
	r = reconcile_stats_claim(&rc->v->reconcile, rc->op, n->attr.ino, rc->force);
	if (r <= 0)
		return r;
	/* Who had it before may have done it. */
	r = retry(reconcile_has_moved(rc, n) ? -EAGAIN : 1);
	if (r == 1)
		r = make_way(rc, key);
	if (r == 1)
		r = retry(move_to(rc, n, how, key));
	reconcile_stats_unclaim(&rc->v->reconcile, n->attr.ino);
	return r;
}

/* Was the object made for another file, which has it at its own key (meta/shared.h)? On a store whose copies are names of one
 * file also: does another have this one's? Both would show one time and owner, and one label. */
static bool is_shared(struct reconcile_ctx *rc, const struct node *n, const struct object_info *info)
{
	bool one_file = object_store_caps(rc->v->store) & OBJECT_CAP_CHEAP_COPY;

	return (info->own && info->ino != n->attr.ino) || (one_file && (n->attr.flags & ATTR_SHARED));
}

/* One round of settle(): 1 done, 0 look again, -errno. */
static int settle_once(struct reconcile_ctx *rc, const struct node *n)
{
	MFS_AUTOBUF struct mfs_buf own = MFS_BUF_INIT(PATH_BYTES_MAX);
	struct key_gate *gate = &rc->v->gate;
	struct object_info info;
	bool at_a_name = false, whole;
	const char *key;
	uint64_t mark;
	int r = is_at_a_name(rc, n, &own, &at_a_name);

	if (r == 0)
		r = reconcile_is_whole(n, &whole);
	if (r < 0)
		return reconcile_is_gone(r) ? 1 : r;
	if (whole && !at_a_name && reconcile_keeps_final_key(rc, n, &rc->again_at))
		return -EAGAIN;
	key = at_a_name ? n->ref.key : mfs_buf_str(&own);
	if (!key_gate_idle(gate, key, &mark))
		return reconcile_later(rc, SOON_NS);
	if (whole) {
		r = object_head(rc->v->store, rc->op, n->ref.bucket, n->ref.key, n->ref.version, &info);
		if (r < 0)
			return r == -ENOENT ? retry(missing(rc, n)) : r;
		whole = info.size == n->attr.size;
	}
	if (!whole)
		return settle_content(rc, n, MOVE_COMPOSE, key);
	if (!at_a_name && is_shared(rc, n, &info))
		return settle_content(rc, n, MOVE_APART, key);
	if (!at_a_name) {
		r = make_way(rc, key);
		return r == 1 ? retry(move_to(rc, n, MOVE_COPY, key)) : r;
	}
	r = put_on_top(rc, n);
	if (r != 1)
		return r;
	if (n->todo && rc->compose) {
		r = reconcile_set_todo(rc, n, 0);
		if (r != 1)
			return r;
	}
	return key_gate_unmoved(gate, key, mark);
}

/* A directory's key, where that matters. 1: done. */
static int settle_folder(struct reconcile_ctx *rc, mfs_ino_t ino)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(PATH_BYTES_MAX);
	int r;

	if (!reconcile_keys_hide(rc) || ino == MFS_ROOT_INO || rc->hasten)
		return 1;
	r = own_key(rc, ino, &key);
	if (r == 0 && mfs_str_starts(mfs_buf_str(&key), ".massfs/")) /* no key: nothing is below it either */
		return 1;
	if (r == 0)
		r = reconcile_clear_key(rc, mfs_buf_str(&key));
	return r < 0 && !reconcile_is_gone(r) ? r : 1;
}

int reconcile_settle(struct reconcile_ctx *rc, mfs_ino_t ino)
{
	for (int tries = 0; tries < TRIES_MAX; tries++) {
		struct node n = NODE_INIT;
		int r;

		if (atomic_load(&rc->op->cancelled))
			return -ECANCELED;
		r = namespace_get(rc->v->ns, rc->op, ino, &n);
		if (r < 0)
			return reconcile_is_gone(r) ? 0 : r;
		r = reconcile_has_content(&n)	    ? settle_once(rc, &n)
		    : attr_is_dir(&n.attr) ? settle_folder(rc, ino)
					   : 1;
		node_release(&n);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return reconcile_later(rc, MFS_NSEC_PER_SEC); /* somebody commits faster than we copy: when that is over */
}

/* Not one whole object. */
static int content_state(struct reconcile_ctx *rc, const struct node *n, enum file_state *ret)
{
	bool sparse;
	int r;

	if (n->inline_data.data) {
		*ret = FILE_INLINE;
		return 0;
	}
	r = reconcile_stays_sparse(rc, n, &sparse);
	if (r < 0)
		return r;
	/* What is only longer or shorter than its object has no patches. */
	*ret = sparse ? FILE_SPARSE : n->slices.size ? FILE_PATCHED : FILE_PENDING;
	return 0;
}

int reconcile_state(struct volume *v, struct op_ctx *op, const struct node *n, enum file_state *ret)
{
	MFS_AUTOBUF struct mfs_buf own = MFS_BUF_INIT(PATH_BYTES_MAX);
	struct reconcile_ctx rc = { .v = v, .op = op };
	struct object_info exact, top;
	bool at_a_name = false, whole;
	int r;

	*ret = n->todo ? FILE_PENDING : FILE_EMPTY;
	if (object_ref_is_empty(&n->ref) && !n->inline_data.data && !n->attr.size)
		return 0;
	r = reconcile_is_whole(n, &whole);
	if (r < 0)
		return r;
	if (!object_ref_is_empty(&n->ref)) {
		r = object_head(v->store, op, n->ref.bucket, n->ref.key, n->ref.version, &exact);
		if (r < 0)
			return r == -ENOENT ? -EIO : r;
		if (exact.size < n->attr.obj_len)
			return -EUCLEAN;
	}
	if (!whole)
		return content_state(&rc, n, ret);
	*ret = FILE_PENDING;
	r = is_at_a_name(&rc, n, &own, &at_a_name);
	if (r < 0 && !reconcile_is_gone(r))
		return r;
	if (!at_a_name || exact.size != n->attr.size)
		return 0;
	r = object_head(v->store, op, n->ref.bucket, n->ref.key, NULL, &top);
	if (r == 0 && strcmp(top.version, n->ref.version) == 0)
		*ret = FILE_SETTLED;
	return r == -ENOENT ? 0 : r;
}

static int one(struct reconcile_ctx *rc, const struct job_record *job)
{
	int r = job->kind == JOB_DIR
			? workers_new("reconcile-file", RECONCILE_THREADS, 4 * RECONCILE_THREADS, &rc->files)
			: 0;

	if (r < 0)
		return r;
	rc->force = rc->compose = true;
	key_gate_lease(&rc->v->gate);
	r = reconcile_job(rc, job);
	key_gate_release(&rc->v->gate);
	workers_free(rc->files);
	return r;
}

int reconcile_key(struct volume *v, struct op_ctx *op, const char *key)
{
	struct reconcile_ctx rc = { .v = v, .op = op };
	MFS_AUTOFREE char *copy = strdup(key);

	return copy ? one(&rc, &(struct job_record){ .kind = JOB_KEY, .key = copy }) : -ENOMEM;
}

int reconcile_file(struct volume *v, struct op_ctx *op, mfs_ino_t ino)
{
	struct reconcile_ctx rc = { .v = v, .op = op };

	return one(&rc, &(struct job_record){ .kind = JOB_FILE, .ino = ino });
}

int reconcile_dir(struct volume *v, struct op_ctx *op, mfs_ino_t dir,
		  void (*report)(void *arg, uint64_t done, uint64_t left), void *arg)
{
	struct reconcile_tree tree = { .report = report, .arg = arg };
	struct reconcile_ctx rc = { .v = v, .op = op, .tree = &tree };
	int r = one(&rc, &(struct job_record){ .kind = JOB_DIR, .ino = dir });

	return r == 0 && atomic_load(&tree.failed) ? -EAGAIN : r;
}
