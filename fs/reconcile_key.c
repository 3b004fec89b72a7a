/*
 * One key: until what shows there is what the index says of that path now. See reconcile.c: it starts from a fresh read
 * and ends in a check, so it may be run again at any time.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/str.h"
#include "fs/reconcile_internal.h"

#define TRIES_MAX      16
#define SOON_NS	       (20 * INT64_C(1000000))
#define FLIGHT_NS	MFS_NSEC_PER_SEC /* another mount's upload: its commit, or its end */
#define AWAIT_NS	(10 * MFS_NSEC_PER_SEC)
#define O_PREFIX       ".massfs/o/"

/* ".massfs/o/<ino>": the inode, else 0. */
static mfs_ino_t ino_of_key(const char *key)
{
	uint64_t ino;

	if (!mfs_str_starts(key, O_PREFIX) ||
	    mfs_str_uint(key + strlen(O_PREFIX), 10, 1, UINT64_MAX, &ino) < 0)
		return 0;
	return ino;
}

int reconcile_file_at(struct reconcile_ctx *rc, const char *key, struct node *ret)
{
	struct entry e = { 0 };
	mfs_ino_t ino = ino_of_key(key);
	int r;

	if (ino) {
		r = namespace_get(rc->v->ns, rc->op, ino, ret);
	} else if (mfs_str_starts(key, ".massfs/")) {
		return 0;
	} else {
		r = namespace_resolve(rc->v->ns, rc->op, key, strlen(key), &e);
		if (r == 0) {
			*ret = e.node;
			e.node = (struct node)NODE_INIT;
		}
		entry_release(&e);
	}
	if (r < 0)
		return reconcile_is_gone(r) || r == -ENAMETOOLONG || r == -EINVAL || r == -ELOOP ? 0 : r;
	if (reconcile_has_content(ret))
		return 1;
	node_release(ret);
	return 0;
}

/* No file has this name, but one with a temporary name may have its object here. 1: it keeps it; 0: none does. */
static int move_temporary_holder(struct reconcile_ctx *rc, const char *key)
{
	struct query q = { .key = key, .limit = 16 };
	struct node_list l = NODE_LIST_INIT;
	int64_t until;
	int r = engine_query(rc->v->engine, rc->op, &q, &l), kept = 0;

	for (size_t i = 0; i < l.n && r >= 0; i++) {
		if (reconcile_keeps_final_key(rc, &l.v[i], &until)) {
			rc->again_at = until;
			kept = 1;
		} else {
			r = reconcile_settle(rc, l.v[i].attr.ino);
		}
	}
	node_list_release(&l);
	return r < 0 ? r : kept;
}

/* The key shows nothing from now on, or what another program put there has become the file of this path. */
static int hide(struct reconcile_ctx *rc, const char *key)
{
	struct object_info info;
	int r = object_head(rc->v->store, rc->op, NULL, key, NULL, &info);

	/* A marker costs a real store a version; a local one a look, and empty folders go with it. */
	if (r == -ENOENT && !(object_store_caps(rc->v->store) & OBJECT_CAP_CHEAP_COPY))
		return 0;
	if (r == 0 && !info.own) {
		r = reconcile_import(rc, key);
		if (!reconcile_no_place(r))
			return MFS_MIN(r, 0);
		/* Something else has the name: the store keeps it and says so. */
	}
	r = object_put_marker(rc->v->store, rc->op, NULL, key);
	if (r == 0)
		mfs_crash_point("reconcile.hidden");
	return r;
}

/*
 * The file at this path has its object elsewhere, or none yet, and its record's own time is still to come. What shows here
 * until then, an older state or another file, stays for a moment, and goes when that would be long. The job stays until
 * the file is here: a rename of a file without an object queues no key. 1: nothing shows.
 */
static int await_content(struct reconcile_ctx *rc, const struct node *n, const char *key)
{
	struct object_info info;
	int r = object_head(rc->v->store, rc->op, NULL, key, NULL, &info);

	if (r < 0)
		return r == -ENOENT ? 1 : r;
	if (n->todo > mfs_now_ns() + AWAIT_NS)
		return hide(rc, key);
	rc->again_at = MFS_MAX(n->todo, mfs_now_ns()) + MFS_NSEC_PER_SEC;
	return -EAGAIN;
}

/* A directory of the index, on a store where its key must hold nothing? */
static bool is_folder(struct reconcile_ctx *rc, const char *key)
{
	struct entry e;
	bool is_dir = false;

	if (!reconcile_keys_hide(rc) || mfs_str_starts(key, ".massfs/"))
		return false;
	if (namespace_resolve(rc->v->ns, rc->op, key, strlen(key), &e) == 0) {
		is_dir = attr_is_dir(&e.node.attr);
		entry_release(&e);
	}
	return is_dir;
}

/* One round: 1 done, 0 look again, -errno. */
static int key_once(struct reconcile_ctx *rc, const char *key)
{
	struct node n = NODE_INIT;
	bool is_here = false;
	uint64_t mark;
	int r;

	if (!key_gate_idle(&rc->v->gate, key, &mark))
		return reconcile_later(rc, SOON_NS);
	r = reconcile_file_at(rc, key, &n);
	if (r == 1) {
		mfs_ino_t ino = n.attr.ino;

		node_release(&n);
		r = reconcile_settle(rc, ino);
		if (r == 0)
			r = reconcile_file_at(rc, key, &n);
		if (r == 1) {
			if (n.attr.ino != ino) {
				node_release(&n);
				return 0;
			}
			is_here = reconcile_is_at_key(&n, key);
			if (is_here && object_key_is_crowded(rc->v->store, key)) {
				r = reconcile_thin_key(rc, key);
				r = r < 0 ? r : 1;
			}
			if (!is_here && n.todo) {
				is_here = true;
				r = await_content(rc, &n, key);
			}
			node_release(&n);
			if (r == 0)
				return 0;
		}
	}
	if (r < 0)
		return r;
	if (!is_here) {
		r = move_temporary_holder(rc, key);
		if (r != 0)
			return r < 0 ? r : -EAGAIN;
		r = reconcile_in_flight(rc, key);
		if (r != 0)
			return r < 0 ? r : reconcile_later(rc, FLIGHT_NS);
		r = is_folder(rc, key) ? reconcile_clear_key(rc, key) : hide(rc, key);
		if (r == 0 && is_folder(rc, key)) /* or it became one meanwhile */
			r = reconcile_clear_key(rc, key);
		if (r == 0)
			r = reconcile_in_flight(rc, key); /* it came between the two */
		if (r != 0)
			return r < 0 ? r : reconcile_later(rc, FLIGHT_NS);
		/* Another job may have shown a file here since we looked. */
		r = reconcile_file_at(rc, key, &n);
		if (r < 0)
			return r;
		if (r == 1) {
			bool came = reconcile_is_at_key(&n, key) || n.todo;

			node_release(&n);
			if (came)
				return 0;
		}
	}
	return key_gate_unmoved(&rc->v->gate, key, mark);
}

static int do_key(struct reconcile_ctx *rc, const char *key)
{
	for (int tries = 0; tries < TRIES_MAX; tries++) {
		int r;

		if (atomic_load(&rc->op->cancelled))
			return -ECANCELED;
		/* What could never have been a key shows nothing. */
		if (!object_key_is_legal(rc->v->store, key))
			return 0;
		r = key_once(rc, key);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return reconcile_later(rc, SOON_NS);
}

int reconcile_job(struct reconcile_ctx *rc, const struct job_record *job)
{
	int r = 0;

	rc->again_at = 0;
	switch (job->kind) {
	case JOB_KEY:
		r = do_key(rc, job->key);
		break;
	case JOB_DIR:
		r = reconcile_tree(rc, job->ino);
		break;
	case JOB_FILE:
		r = reconcile_settle(rc, job->ino);
		break;
	case JOB_VIEW:
		r = reconcile_view(rc, job->ino);
		break;
	}
	return r;
}
