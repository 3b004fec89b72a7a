/*
 * Keys that hold too much, on a store where that matters (OBJECT_CAP_KEY_HIDES).
 *
 * A folder's key must hold nothing, not even a marker: it would hide all that is below from listings. And a key with many
 * versions makes each further put slow. So what versions and trash still name there is copied to .massfs/versions/, the
 * records are switched to the copy, and the old version goes; in the order of rule "data first, index second": at
 * any moment what a record names is there. What nobody names, gc takes; until then the key waits for it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/str.h"
#include "fs/gc_internal.h"
#include "fs/reconcile_internal.h"
#include "meta/drops.h"

#define KEEP_MAX   64 /* versions on one key that cost nothing yet */
#define ROUNDS_MAX 4
#define WAIT_NS	   (10 * MFS_NSEC_PER_SEC) /* for gc */

/* --- what the key holds --- */

struct held {
	struct object_info *v; /* the newest first */
	size_t n, cap;
};

static int see(void *arg, const char *key, const struct object_info *info)
{
	struct held *h = arg;

	(void)key;
	if (h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 16;
		struct object_info *v = reallocarray(h->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		h->v = v;
		h->cap = cap;
	}
	h->v[h->n++] = *info;
	return 0;
}

static int look(struct reconcile_ctx *rc, const char *key, struct held *ret)
{
	ret->n = 0;
	return object_list_key(rc->v->store, rc->op, NULL, key, see, ret);
}

/* --- who names a version --- */

struct namers {
	struct node n; /* the record, if it is in trash and names it */
	bool trash;
	bool file;     /* a live file names it, or the other files on its list do */
	struct version_list versions; /* of the inode; only the first n_versions name it */
	size_t n_versions;
};

static void namers_release(struct namers *w)
{
	node_release(&w->n);
	version_list_release(&w->versions);
	*w = (struct namers){ .trash = false };
}

static bool is_ref(const struct object_ref *ref, const char *key, const struct object_info *info)
{
	return ref->key && !strcmp(ref->key, key) && !strcmp(ref->version, info->version);
}

static int find_namers(struct reconcile_ctx *rc, const char *key, const struct object_info *info, struct namers *ret)
{
	MFS_CLEANUP(cell_record_release) struct cell_record shared = { 0 };
	struct version_list *l = &ret->versions;
	int r;

	*ret = (struct namers){ .trash = false };
	r = engine_get(rc->v->engine, rc->op, info->ino, &ret->n);
	if (r == 0 && is_ref(&ret->n.ref, key, info)) {
		ret->trash = ret->n.attr.flags & ATTR_IN_TRASH;
		ret->file = !ret->trash;
	}
	if (r == 0 || r == -ESTALE)
		r = engine_versions_by_ino(rc->v->engine, rc->op, info->ino, l);
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		if (!is_ref(&l->v[i].ref, key, info))
			continue;
		if (i != ret->n_versions) {
			struct version_record x = l->v[i];

			l->v[i] = l->v[ret->n_versions];
			l->v[ret->n_versions] = x;
		}
		ret->n_versions++;
	}
	if (r == 0 && (ret->trash || ret->n_versions)) {
		r = gc_shared(rc->v, rc->op, info->version, &shared);
		/* Its own inode is on the list, too: only who has no list is alone with it. */
		ret->file = ret->file || r == 1 || shared.name;
		r = MFS_MIN(r, 0);
	}
	return r;
}

/* --- what nobody names --- */

#define DROPPED_PAGE 4096

/* Did a committed change take it out of all layouts? Else it may be an upload whose commit is still to come. */
static int is_dropped(struct reconcile_ctx *rc, const struct object_info *info)
{
	uint64_t after = 0;
	int found = 0, r;
	size_t n;

	do {
		struct dropped_list l = { 0 };

		r = engine_dropped(rc->v->engine, rc->op, INT64_MAX, after, DROPPED_PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			after = l.v[i].id;
			found |= !object_ref_is_empty(&l.v[i].ref) && !strcmp(l.v[i].ref.version, info->version);
		}
		dropped_list_release(&l);
	} while (r == 0 && !found && n == DROPPED_PAGE);
	return r < 0 ? r : found;
}

/*
 * As gc does it, but not a minute later: whoever of this mount still reads by an older layout finds it gone, reads the layout
 * again and goes on. Of other mounts a restore may be on its way, so where there are any it is gc's.
 */
static int collect(struct reconcile_ctx *rc, const char *key, const struct object_info *info)
{
	struct object_ref ref = { .key = (char *)(uintptr_t)key };
	struct gc_names names = { 0 };
	MFS_CLEANUP(cell_record_release) struct cell_record shared = { 0 };
	int r = rc->v->cluster && !rc->v->alone && gc_dropped_age_ns() ? -EAGAIN : gc_names_read(rc->v, rc->op, info->ino, &names);

	if (r == 0 && gc_names_version(&names, info->version))
		r = -EAGAIN;
	gc_names_release(&names);
	if (r == 0 && gc_shared(rc->v, rc->op, info->version, &shared) != 0)
		r = -EAGAIN;
	if (r == 0) {
		r = is_dropped(rc, info);
		r = r == 0 ? -EAGAIN : MFS_MIN(r, 0);
	}
	if (r == 0)
		r = engine_sync(rc->v->engine, rc->op);
	memcpy(ref.version, info->version, sizeof(ref.version));
	return r == 0 ? object_delete_version(rc->v->store, rc->op, &ref) : r;
}

/* --- one version moves --- */

static void place_of(const struct object_info *info, const char *key, char buf[static 64])
{
	uint64_t h = mfs_hash64(key, strlen(key)) ^ mfs_hash_u64(mfs_hash64(info->version, strlen(info->version)));

	snprintf(buf, 64, OBJECT_VERSIONS_PREFIX "%" PRIu64 "-%016" PRIx64, info->ino, h);
}

static int copy_there(struct reconcile_ctx *rc, const char *key, const struct object_info *info, char *place,
		      struct object_info *ret)
{
	struct mfs_attr attr = { .ino = info->ino, .mode = info->mode, .uid = info->uid, .gid = info->gid, .mtime = info->mtime };
	struct object_meta meta = volume_object_meta(rc->v, &attr);
	struct object_ref src = { .key = (char *)(uintptr_t)key };

	memcpy(src.version, info->version, sizeof(src.version));
	if (!reconcile_stats_moved(&rc->v->reconcile, rc->op, rc->v->cfg->settle_rate, info->size, false))
		return -ECANCELED;
	return object_copy(rc->v->store, rc->op, &src, NULL, place, &meta, ret);
}

/* All that names the old version names the copy, in one change, by which the old one is dropped. */
static int switch_namers(struct reconcile_ctx *rc, struct namers *w, const struct object_ref *old, char *place,
			 const struct object_info *copy)
{
	struct object_ref to = { .key = place };
	struct content_names names = { .ref = old };
	struct dropped_list dropped = { 0 };
	struct change c = { 0 };
	struct write *e;
	int r;

	memcpy(to.version, copy->version, sizeof(to.version));
	if (w->n_versions + 4 > CHANGE_MAX_WRITES)
		return -EMLINK;
	r = drops_add(&dropped, copy->ino, mfs_now_ns(), &names, NULL);
	/* Borrowed for the change: what the records own is put back. */
	for (size_t i = 0; i < w->n_versions; i++) {
		w->versions.v[i].ref = to;
		change_write(&c, WRITE_VERSION_PUT, 0)->version = &w->versions.v[i];
	}
	if (w->trash) {
		w->n.ref = to;
		e = change_write(&c, WRITE_EDIT, w->n.attr.ino);
		e->node = &w->n;
		e->mask = EDIT_REF | EDIT_BUMP_LAY;
		e->expect.flags = EXPECT_IN_TRASH | EXPECT_LAY;
		e->expect.lay = w->n.attr.lay;
	}
	drops_write(&c, &dropped);
	if (r == 0)
		r = engine_apply(rc->v->engine, rc->op, &c);
	dropped_list_release(&dropped);
	if (r == 0)
		mfs_crash_point("versions.switched");
	return r;
}

static int swap_in(struct reconcile_ctx *rc, const char *key, const struct object_info *info, char *place,
		   const struct object_info *copy)
{
	struct object_ref old = { .key = (char *)(uintptr_t)key };
	struct namers w;
	int r = find_namers(rc, key, info, &w);

	memcpy(old.version, info->version, sizeof(old.version));
	if (r == 0 && (w.file || !(w.trash || w.n_versions)))
		r = -EAGAIN; /* restored, or let go, meanwhile */
	if (r == 0) {
		size_t n = MFS_MIN(w.n_versions, (size_t)CHANGE_MAX_WRITES);
		struct object_ref refs[CHANGE_MAX_WRITES], trash_ref = w.n.ref;

		for (size_t i = 0; i < n; i++)
			refs[i] = w.versions.v[i].ref;
		r = switch_namers(rc, &w, &old, place, copy);
		for (size_t i = 0; i < n; i++)
			w.versions.v[i].ref = refs[i];
		w.n.ref = trash_ref;
	}
	/* Another mount may be about to restore it: then gc looks once more, in a minute. */
	if (r == 0 && (!rc->v->cluster || rc->v->alone || !gc_dropped_age_ns()))
		r = object_delete_version(rc->v->store, rc->op, &old);
	else if (r == 0)
		r = -EAGAIN;
	namers_release(&w);
	return r;
}

/* 0: it is gone from the key; -EAGAIN: it is still there, gc or somebody's next step takes it. */
static int move_away(struct reconcile_ctx *rc, const char *key, const struct object_info *info)
{
	struct object_info copy;
	struct namers w;
	char place[64];
	bool named;
	int r = find_namers(rc, key, info, &w);

	named = w.file || w.trash || w.n_versions;
	if (r == 0 && w.file)
		r = -EAGAIN;
	namers_release(&w);
	if (r == 0 && !named) {
		past_turn_take(&rc->v->past);
		r = collect(rc, key, info);
		past_turn_release(&rc->v->past);
		return r;
	}
	if (r < 0)
		return r;
	place_of(info, key, place);
	key_gate_enter(&rc->v->gate, place);
	r = copy_there(rc, key, info, place, &copy);
	if (r == 0) {
		mfs_crash_point("versions.copied");
		past_turn_take(&rc->v->past);
		r = swap_in(rc, key, info, place, &copy);
		past_turn_release(&rc->v->past);
	}
	key_gate_leave(&rc->v->gate, place);
	return r == -ENOENT || r == -ESTALE ? -EAGAIN : r; /* collected meanwhile; a copy that nobody names is gc's */
}

/* --- keys --- */

/* Versions from the `keep`th on move away; with keep 0 markers go when nothing else is left. *ret_left: how many stay. */
static int clear(struct reconcile_ctx *rc, const char *key, const struct held *h, size_t keep, size_t *ret_left)
{
	struct object_ref ref = { .key = (char *)(uintptr_t)key };
	int r = 0;

	*ret_left = 0;
	for (size_t i = h->n; i-- > keep && r == 0;) {
		const struct object_info *info = &h->v[i];

		if (atomic_load(&rc->op->cancelled))
			return -ECANCELED;
		if (info->is_marker)
			continue;
		if (!info->own && keep == 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, rc->op,
				"key=%s version=%s another program's object stands at the key of a directory and hides what is "
				"below from listings; move it elsewhere",
				key, info->version);
		r = info->own ? move_away(rc, key, info) : -EAGAIN;
		if (r == -EAGAIN) {
			++*ret_left;
			r = 0;
		}
	}
	/* The top marker goes last, or what it covers would show. Of a file's key: those that cover nothing any more. */
	for (size_t i = h->n; i-- > MFS_MAX(keep, (size_t)0) && r == 0 && (keep || !*ret_left);) {
		if (!h->v[i].is_marker)
			continue;
		memcpy(ref.version, h->v[i].version, sizeof(ref.version));
		r = object_delete_version(rc->v->store, rc->op, &ref);
	}
	return r;
}

int reconcile_clear_key(struct reconcile_ctx *rc, const char *key)
{
	struct held h = { 0 };
	size_t left = 1;
	int r = 0;

	for (int round = 0; round < ROUNDS_MAX && r == 0; round++) {
		r = look(rc, key, &h);
		left = h.n;
		if (r < 0 || !h.n)
			break;
		r = clear(rc, key, &h, 0, &left);
		if (r == 0 && left)
			break; /* looking again at once would find the same */
	}
	free(h.v);
	if (r == 0 && left) {
		rc->again_at = mfs_now_ns() + WAIT_NS;
		r = -EAGAIN;
	}
	return r;
}

int reconcile_thin_key(struct reconcile_ctx *rc, const char *key)
{
	struct held h = { 0 };
	size_t left;
	int r = look(rc, key, &h);

	if (r == 0 && h.n > KEEP_MAX)
		r = clear(rc, key, &h, KEEP_MAX, &left);
	free(h.v);
	return r;
}
