/*
 * Objects against the rebuilt index: what is on top of a key and named by nothing was put after the log's end (what was
 * replaced, removed or given up before is named, or not on top), so it is its path's content.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/str.h"
#include "fs/rebuild_internal.h"
#include "fs/volume_cluster.h"

#define OWN_PREFIX    ".massfs/"
#define BY_INO_PREFIX ".massfs/o/"
#define FOUND_DIR     "lost+found"
#define COPY_PART     (UINT64_C(1) << 30)

/* What is at a path of the index: parent 0: a folder on the way is missing or is none. */
struct spot {
	mfs_ino_t parent;
	struct mfs_name name;
	mfs_ino_t ino; /* 0: nothing */
};

static int queue_key(struct rebuild *b, const char *key)
{
	MFS_AUTOFREE char *copy = strdup(key);
	struct job_record job = { .kind = JOB_KEY, .key = copy, .due = b->now };
	struct change c = { 0 };

	if (!copy)
		return -ENOMEM;
	change_write(&c, WRITE_JOB_PUT, 0)->job = &job;
	return engine_apply(b->s->engine, b->op, &c);
}

static int number(struct rebuild *b, mfs_ino_t *ret)
{
	return engine_reserve(b->s->engine, b->op, 1, ret);
}

/* --- names --- */

static int insert(struct rebuild *b, const struct spot *at, struct node *n)
{
	struct change c = { 0 };

	n->parent = at->parent;
	n->name = at->name;
	n->pos = n->attr.ino;
	n->attr.ver = n->attr.data = n->attr.lay = 1;
	n->attr.nlink = 1;
	n->attr.ctime = b->now;
	change_write(&c, WRITE_INSERT, n->attr.ino)->node = n;
	change_touch(&c, at->parent, b->now, 1, TOUCH_MUST_EXIST)->subdir_delta = attr_is_dir(&n->attr);
	return engine_apply(b->s->engine, b->op, &c);
}

static int make_dir(struct rebuild *b, struct spot *at, const struct object_info *info)
{
	struct node n = NODE_INIT;
	int r = number(b, &n.attr.ino);

	if (r < 0)
		return r;
	n.attr.mode = S_IFDIR | 0755;
	n.attr.uid = n.creator_uid = info->uid;
	n.attr.gid = info->gid;
	n.attr.atime = n.attr.mtime = n.attr.btime = info->mtime;
	r = insert(b, at, &n);
	at->ino = n.attr.ino;
	return r;
}

/* The place of a path; with info, folders that are missing are made. -ENOTDIR: a file is in the way. */
static int find_spot(struct rebuild *b, const char *path, const struct object_info *info, struct spot *ret)
{
	*ret = (struct spot){ .ino = MFS_ROOT_INO };
	for (;;) {
		size_t len = strcspn(path, "/");
		struct entry e = { 0 };
		bool is_dir, last = !path[len];
		int r;

		ret->parent = ret->ino;
		r = mfs_name_set(&ret->name, path, len);
		if (r < 0)
			return r;
		r = engine_lookup(b->s->engine, b->op, ret->parent, &ret->name, &e);
		if (r < 0 && r != -ENOENT)
			return r;
		ret->ino = r == 0 ? e.node.attr.ino : 0;
		is_dir = r == 0 && attr_is_dir(&e.node.attr);
		entry_release(&e);
		if (last)
			return 0;
		if (ret->ino && !is_dir)
			return -ENOTDIR;
		if (!ret->ino) {
			if (!info)
				return -ENOENT;
			r = make_dir(b, ret, info);
			if (r < 0)
				return r;
		}
		path += len + 1;
	}
}

/* --- content --- */

static uint32_t mode_of(const struct object_info *info)
{
	/* A store that is a folder keeps its files unwritable: for the owner that is taken back. */
	return S_IFREG | (info->mode & 0777) | 0200;
}

static int copy_parts(struct rebuild *b, struct object_upload *u, const struct object_ref *src, uint64_t size)
{
	unsigned int part = 0;
	int r = 0;

	for (uint64_t off = 0; r == 0 && off < size; off += COPY_PART)
		r = object_upload_part_copy(u, b->op, ++part, off, src, off,
					    MFS_MIN(size - off, (uint64_t)COPY_PART));
	return r;
}

/* An object whose inode number is another file's: a version of its own for this one. (object_copy() to the same key would
 * only show the old one.) */
static int own_copy(struct rebuild *b, mfs_ino_t ino, struct object_ref *ref, struct object_info *info)
{
	struct object_meta meta = { .ino = ino,
				    .session = b->session,
				    .op = b->next_op++,
				    .mode = info->mode & 0777,
				    .uid = info->uid,
				    .gid = info->gid,
				    .mtime = info->mtime };
	struct object_upload *u = NULL;
	struct object_info copy = { 0 };
	int r = object_upload_begin(b->s->store, b->op, NULL, ref->key, &meta, &u);

	if (r < 0)
		return r;
	r = copy_parts(b, u, ref, info->size);
	if (r < 0)
		object_upload_abort(u, b->op);
	else
		r = object_upload_complete(u, b->op, info->size, &meta, &copy);
	if (r < 0)
		return r;
	memcpy(ref->version, copy.version, sizeof(ref->version));
	memcpy(info->version, copy.version, sizeof(info->version));
	memcpy(info->etag, copy.etag, sizeof(info->etag));
	info->ino = ino;
	return 0;
}

/* It is a file's content now: the version counts as there and named. */
static int note_adopted(struct rebuild *b, const struct object_info *info)
{
	return gc_set_add(&b->adopted, gc_version_hash(info->version));
}

static void set_content(struct node *n, const struct object_ref *ref, const struct object_info *info)
{
	n->ref = *ref;
	memcpy(n->etag, info->etag, sizeof(n->etag));
	n->attr.size = n->attr.obj_len = info->size;
	n->attr.alloc = info->alloc;
	n->attr.mtime = info->mtime;
}

/* ino 0: the object's number is another's, or none. */
static int add_file(struct rebuild *b, const struct spot *at, mfs_ino_t ino, struct object_ref *ref,
		    struct object_info *info)
{
	struct node n = NODE_INIT;
	int r = 0;

	if (ino == 0) {
		r = number(b, &ino);
		if (r == 0 && info->own)
			r = own_copy(b, ino, ref, info);
	}
	if (r < 0)
		return r;
	if (mfs_str_starts(ref->key, BY_INO_PREFIX))
		n.todo = b->now; /* it has a name now that can be a key */
	n.attr.ino = ino;
	n.attr.mode = mode_of(info);
	n.attr.uid = n.creator_uid = info->uid;
	n.attr.gid = info->gid;
	n.attr.atime = n.attr.btime = info->mtime;
	set_content(&n, ref, info);
	r = insert(b, at, &n);
	if (r < 0)
		return r;
	b->res->added++;
	rebuild_found(b, info->own ? "new file" : "foreign file, taken over", ref->key);
	return note_adopted(b, info);
}

/* What the file had becomes a version, if it is still there to be one. */
static int keep_old(struct rebuild *b, const struct node *old, const char *path, struct version_record *ret,
		    bool *ret_keep)
{
	bool whole;
	int r = rebuild_is_whole(b, &old->ref, &old->slices, &whole);

	*ret_keep = whole && (old->attr.size || !object_ref_is_empty(&old->ref));
	*ret = (struct version_record){
		.ino = old->attr.ino,
		.data = old->attr.data,
		.path = (char *)(uintptr_t)path,
		.ref = old->ref,
		.size = old->attr.size,
		.obj_len = old->attr.obj_len,
		.mtime = old->attr.mtime,
		.replaced = b->now,
		.until = b->s->cfg->retention_ns > INT64_MAX - b->now ? INT64_MAX
								      : b->now + b->s->cfg->retention_ns,
		.mode = old->attr.mode,
		.uid = old->attr.uid,
		.gid = old->attr.gid,
		.slices = old->slices,
		.inline_data = old->inline_data,
	};
	memcpy(ret->etag, old->etag, sizeof(ret->etag));
	return r;
}

/* moved_to: NULL, or where the file is now. */
static int replace_content(struct rebuild *b, mfs_ino_t ino, const char *path, struct object_ref *ref,
			   struct object_info *info, const struct spot *moved_to)
{
	MFS_CLEANUP(node_release) struct node old = NODE_INIT;
	struct version_record version;
	struct node set = NODE_INIT;
	struct change c = { 0 };
	struct write *w;
	bool keep = false;
	int r = engine_get(b->s->engine, b->op, ino, &old);

	if (r == 0 && info->ino != ino)
		r = own_copy(b, ino, ref, info);
	if (r == 0)
		r = keep_old(b, &old, path, &version, &keep);
	if (r < 0)
		return r;
	set_content(&set, ref, info);
	set.attr.ctime = b->now;
	w = change_write(&c, moved_to ? WRITE_RENAME : WRITE_EDIT, ino);
	w->node = &set;
	w->mask = EDIT_REF | EDIT_SIZE | EDIT_MTIME | EDIT_CTIME | EDIT_TODO | EDIT_BUMP_DATA | EDIT_BUMP_LAY;
	if (keep)
		change_write(&c, WRITE_VERSION_PUT, 0)->version = &version;
	if (moved_to) {
		set.parent = moved_to->parent;
		set.name = moved_to->name;
		change_touch(&c, old.parent, b->now, -1, 0);
		change_touch(&c, moved_to->parent, b->now, 1, TOUCH_MUST_EXIST);
	}
	r = engine_apply(b->s->engine, b->op, &c);
	if (r < 0)
		return r;
	if (moved_to)
		b->res->renamed++;
	else
		b->res->replaced++;
	rebuild_found(b, moved_to ? "moved file" : "newer content", ref->key);
	return note_adopted(b, info);
}

/* --- one object --- */

enum owner { OWNER_NONE, OWNER_TAKEN, OWNER_MOVED };

/*
 * Who has the object's inode number? MOVED: a file of the index whose own key no longer shows its content, so that this
 * is where it went.
 */
static int find_owner(struct rebuild *b, mfs_ino_t ino, enum owner *ret)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	struct alias a;
	int links, r = ino < MFS_FIRST_INO ? 0 : engine_get(b->s->engine, b->op, ino, &n);

	*ret = OWNER_TAKEN;
	if (r == -ESTALE) {
		/* An alias may have the number. */
		links = engine_aliases_all(b->s->engine, b->op, ino - 1, &a, 1);
		*ret = links == 1 && a.id == ino ? OWNER_TAKEN : OWNER_NONE;
		return MFS_MIN(links, 0);
	}
	if (r < 0 || ino < MFS_FIRST_INO)
		return r;
	if (attr_is_reg(&n.attr) && n.attr.nlink == 1 && n.parent && !object_ref_is_empty(&n.ref) &&
	    !gc_set_has(&b->shown, rebuild_place_hash(n.ref.key, n.ref.version)))
		*ret = OWNER_MOVED;
	return 0;
}

static int adopt_at(struct rebuild *b, const char *path, struct object_ref *ref, struct object_info *info)
{
	MFS_CLEANUP(node_release) struct node there = NODE_INIT;
	enum owner owner;
	struct spot at;
	int r = find_spot(b, path, info, &at);

	if (r < 0)
		return r;
	if (at.ino) {
		r = engine_get(b->s->engine, b->op, at.ino, &there);
		if (r < 0)
			return r;
		return attr_is_reg(&there.attr) ? replace_content(b, at.ino, path, ref, info, NULL)
						: -ENOTDIR;
	}
	r = find_owner(b, info->ino, &owner);
	if (r < 0)
		return r;
	if (owner == OWNER_MOVED)
		return replace_content(b, info->ino, path, ref, info, &at);
	return add_file(b, &at, owner == OWNER_NONE ? info->ino : 0, ref, info);
}

/* .massfs/o/<inode>: the file of that number has it, whatever its name; without one, its name is not known. */
static int adopt_by_number(struct rebuild *b, struct object_ref *ref, struct object_info *info)
{
	MFS_CLEANUP(node_release) struct node n = NODE_INIT;
	char path[64];
	uint64_t ino;
	int r;

	if (mfs_str_uint(ref->key + strlen(BY_INO_PREFIX), 10, MFS_FIRST_INO, INT64_MAX, &ino) < 0)
		return -ENOTDIR;
	r = engine_get(b->s->engine, b->op, ino, &n);
	if (r == 0 && attr_is_reg(&n.attr) && !(n.attr.flags & ATTR_IN_TRASH))
		return replace_content(b, ino, ref->key, ref, info, NULL);
	if (r < 0 && r != -ESTALE)
		return r;
	snprintf(path, sizeof(path), FOUND_DIR "/%" PRIu64, ino);
	return adopt_at(b, path, ref, info);
}

static int adopt(struct rebuild *b, const char *key, const struct object_info *found)
{
	MFS_AUTOFREE char *copy = strdup(key);
	struct object_ref ref = { .key = copy };
	struct object_info info = *found;
	int r;

	if (!copy)
		return -ENOMEM;
	memcpy(ref.version, info.version, sizeof(ref.version));
	if (mfs_str_starts(key, BY_INO_PREFIX))
		r = adopt_by_number(b, &ref, &info);
	else
		r = mfs_str_starts(key, OWN_PREFIX) ? -ENOTDIR : adopt_at(b, key, &ref, &info);
	if (r == -ENOTDIR || r == -ENAMETOOLONG) {
		b->res->blocked++;
		rebuild_found(b, "in the way", key);
		return queue_key(b, key);
	}
	return r;
}

/* A file that another program put there: held, so that it has a version, and copied to one of our own. */
static int import_foreign(struct rebuild *b, const char *key)
{
	MFS_AUTOFREE char *copy = strdup(key);
	struct object_ref ref = { .key = copy };
	struct object_info info;
	struct spot at;
	int r;

	if (!copy)
		return -ENOMEM;
	r = object_hold(b->s->store, b->op, NULL, key, &info);
	if (r == 0)
		r = find_spot(b, key, &info, &at);
	if (r < 0 ||
	    at.ino) /* a file of ours has the path: its content is shown there again, the other is kept */
		return r < 0 ? r : -EEXIST;
	memcpy(ref.version, info.version, sizeof(ref.version));
	r = add_file(b, &at, 0, &ref, &info);
	if (r == 0) {
		b->res->added--;
		b->res->imported++;
	}
	return r;
}

static int see_foreign(struct rebuild *b, const char *key)
{
	int r;

	b->res->foreign++;
	if (!b->opt->import_foreign || mfs_str_starts(key, OWN_PREFIX)) {
		rebuild_found(b, "foreign file", key);
		return 0;
	}
	r = import_foreign(b, key);
	if (r == -ENOMEM || r == -EIO || r == -ENOSPC)
		return r;
	if (r < 0)
		rebuild_found(b, "foreign file, not taken", key);
	return 0;
}

/* --- all of them --- */

/* Neither a file's nor anything's: of the volume itself. */
static bool is_ours(const char *key)
{
	return key && (index_log_owns(key) || strcmp(key, VOLUME_OBJECT) == 0);
}

static int note_shown(void *arg, const char *key, const struct object_info *info)
{
	struct rebuild *b = arg;

	return info->own && !is_ours(key)
		       ? gc_set_add(&b->shown, rebuild_place_hash(key, info->version))
		       : 0;
}

/* Put before the log's end, and its key is waiting to be looked at: an upload that was given up. */
static bool was_given_up(struct rebuild *b, const char *key, const struct object_info *info)
{
	MFS_AUTOFREE char *copy = strdup(key);
	struct job_record from = { .kind = JOB_KEY, .key = copy };
	struct job_list l = { 0 };
	bool found = false;

	if (!copy || !b->res->has_log || rebuild_is_younger(b, info))
		return false;
	if (engine_jobs_from(b->s->engine, b->op, &from, 1, &l) == 0 && l.n)
		found = l.v[0].kind == JOB_KEY && strcmp(l.v[0].key, key) == 0;
	job_list_release(&l);
	return found;
}

static int look_at(void *arg, const char *key, const struct object_info *info)
{
	struct rebuild *b = arg;

	if (is_ours(key))
		return 0;
	if (atomic_load(&b->op->cancelled))
		return -ECANCELED;
	if (!info->own)
		return see_foreign(b, key);
	if (gc_set_has(&b->current, rebuild_place_hash(key, info->version)))
		return 0;
	/* Of the past: the reconciler takes it from its key. */
	if (gc_set_has(&b->named, gc_version_hash(info->version)) || was_given_up(b, key, info))
		return queue_key(b, key);
	return adopt(b, key, info);
}

/* A file whose key shows something else, or nothing: the reconciler shows it again. */
static int show_again(struct rebuild *b)
{
	struct query q = { .limit = 256 };
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_query(b->s->engine, b->op, &q, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			const struct node *f = &l.v[i];

			q.after = f->attr.ino;
			if (!object_ref_is_empty(&f->ref) &&
			    !gc_set_has(&b->shown, rebuild_place_hash(f->ref.key, f->ref.version)))
				r = queue_key(b, f->ref.key);
		}
		node_list_release(&l);
	} while (r == 0 && n == 256);
	return r;
}

struct upload {
	mfs_ino_t ino;
	uint64_t session, op;
};

struct counting {
	struct rebuild *b;
	struct upload *v; /* of younger objects that nothing names, and of those that were adopted */
	size_t n, cap;
};

static int count_unnamed(void *arg, const char *key, const struct object_info *info)
{
	struct counting *c = arg;
	struct rebuild *b = c->b;
	uint64_t h = gc_version_hash(info->version);
	bool younger = rebuild_is_younger(b, info);
	bool adopted = gc_set_has(&b->adopted, h);

	if (info->is_marker || !info->own || info->ino == INDEX_LOG_INO || is_ours(key) ||
	    (gc_set_has(&b->named, h) && !adopted))
		return 0;
	b->res->unnamed += !adopted;
	if (!b->res->has_log || !younger)
		return 0;
	if (c->n == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 256;
		struct upload *v = reallocarray(c->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		c->v = v;
		c->cap = cap;
	}
	/* The lowest bit marks what is a file's content now. */
	c->v[c->n++] =
		(struct upload){ .ino = info->ino, .session = info->session, .op = info->op * 2 + adopted };
	return 0;
}

static int by_upload(const void *a, const void *b)
{
	const struct upload *x = a, *y = b;

	if (x->ino != y->ino)
		return (x->ino > y->ino) - (x->ino < y->ino);
	if (x->session != y->session)
		return (x->session > y->session) - (x->session < y->session);
	return (x->op > y->op) - (x->op < y->op);
}

/* Files whose last upload is not what they have now. */
static int count_lost_changes(struct rebuild *b)
{
	struct counting c = { .b = b };
	int r = object_list_versions(b->s->store, b->op, NULL, count_unnamed, &c);

	if (c.n)
		qsort(c.v, c.n, sizeof(*c.v), by_upload);
	for (size_t i = 0; i < c.n; i++)
		if (i + 1 == c.n || c.v[i + 1].ino != c.v[i].ino)
			b->res->lost_changes += !(c.v[i].op & 1);
	free(c.v);
	return r;
}

int rebuild_adopt_younger(struct rebuild *b)
{
	int r = object_list_keys(b->s->store, b->op, NULL, "", note_shown, b);

	gc_set_sort(&b->shown);
	if (r == 0)
		r = object_list_keys(b->s->store, b->op, NULL, "", look_at, b);
	/* Copies made on the way are shown too, and their files adopted. */
	b->shown.n = 0;
	if (r == 0)
		r = object_list_keys(b->s->store, b->op, NULL, "", note_shown, b);
	gc_set_sort(&b->shown);
	gc_set_sort(&b->adopted);
	for (size_t i = 0; r == 0 && i < b->adopted.n; i++)
		r = gc_set_add(&b->present, b->adopted.v[i]);
	gc_set_sort(&b->present);
	if (r == 0)
		r = rebuild_drop_missing(b);
	if (r == 0)
		r = show_again(b);
	return r < 0 ? r : count_lost_changes(b);
}
