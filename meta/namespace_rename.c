/*
 * rename: onto a free name, over something, and RENAME_EXCHANGE. One change, whatever it takes.
 *
 * A name moves by WRITE_RENAME of the record when it is the record's own, by WRITE_ALIAS_RENAME (and an edit of the
 * record, for ctime and rule M1) when it is a further link. An exchange parks one of the two under a name that no
 * user can reach, because a name is unique at every step.
 */
#include <inttypes.h>
#include <stdio.h>

#include "meta/namespace_internal.h"

struct rename {
	struct namespace *ns;
	struct op_ctx *op;
	mfs_ino_t from_dir, to_dir;
	struct mfs_name from, to;
	unsigned int flags;
	bool afresh; /* what a cache said was not true */

	/* Of one attempt. */
	struct entry src, dst;
	bool has_dst;
	struct ns_op x;
	struct ns_removal room;
	struct node set[3];
	struct alias alias[3];
	unsigned int n_set;
	struct rename_result done;
};

static bool is_dir(const struct entry *e)
{
	return attr_is_dir(&e->node.attr);
}

/* Give the name `e` the place (dir, name). `first`: its record is still as it was read. */
static void place(struct rename *t, const struct entry *e, mfs_ino_t dir, const struct mfs_name *name,
		  bool first, struct mfs_attr *ret)
{
	unsigned int i = t->n_set++;
	struct node *set = &t->set[i];
	struct write *w;

	set->attr.ctime = t->x.now;
	set->parent = dir;
	set->name = *name;
	if (!ns_is_main(e)) {
		t->alias[i] = (struct alias){
			.id = e->id, .parent = dir, .target = e->node.attr.ino, .name = *name
		};
		w = change_write(&t->x.c, WRITE_ALIAS_RENAME, e->id);
		w->alias = &t->alias[i];
		if (first)
			ns_expect_name(w, e->parent, &e->name);
	}
	w = change_write(&t->x.c, ns_is_main(e) ? WRITE_RENAME : WRITE_EDIT, e->node.attr.ino);
	w->node = set;
	w->mask = EDIT_CTIME;
	w->ret_attr = ret;
	/* A directory's ver rises with every name in it; its own name is all that matters here. */
	if (first && ns_is_main(e))
		ns_expect_name(w, e->parent, &e->name);
	if (first && !is_dir(e))
		ns_expect_ver(w, e->node.attr.ver);
}

/* What the reconciler has to do for `e`, now called (dir, name). */
static int queue_moved(struct rename *t, const struct entry *e, mfs_ino_t dir, const struct mfs_name *name)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(NS_PATH_MAX);
	const struct object_ref *ref = &e->node.ref;
	mfs_ino_t ino = e->node.attr.ino;
	int r;

	if (is_dir(e))
		return ns_job_dir(&t->x, ino);
	if (object_ref_is_empty(ref))
		return 0;
	r = ns_name_key(t->ns, t->op, dir, name, ino, &key);
	if (r < 0)
		return r;
	if (!ref->bucket && strcmp(ref->key, key.data) == 0)
		return 0;
	/* With several names the object may rightly be at another one's: let the file itself be looked at. */
	return e->node.attr.nlink > 1 ? ns_job_file(&t->x, ino, t->x.now)
				      : ns_job_place(&t->x, key.data, ino);
}

static int check_exchange(const struct rename *t)
{
	return t->has_dst ? 0 : -ENOENT;
}

static int check_replace(const struct rename *t)
{
	if (!t->has_dst)
		return 0;
	if (t->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (t->src.node.attr.ino == t->dst.node.attr.ino)
		return 0;
	if (is_dir(&t->src) && !is_dir(&t->dst))
		return -ENOTDIR;
	return !is_dir(&t->src) && is_dir(&t->dst) ? -EISDIR : 0;
}

static void guard_loops(struct rename *t)
{
	struct change *c = &t->x.c;

	if (t->from_dir == t->to_dir)
		return;
	if (is_dir(&t->src)) {
		c->not_below_dir = t->src.node.attr.ino;
		c->not_below_target = t->to_dir;
	}
	if ((t->flags & RENAME_EXCHANGE) && is_dir(&t->dst)) {
		bool second = c->not_below_dir != 0;

		*(second ? &c->not_below_dir2 : &c->not_below_dir) = t->dst.node.attr.ino;
		*(second ? &c->not_below_target2 : &c->not_below_target) = t->from_dir;
	}
}

static void touch_parents(struct rename *t)
{
	bool leaves = !(t->flags & RENAME_EXCHANGE);
	int came = leaves && !t->has_dst, went = leaves;
	/* Of the directories among them: what moves, and what makes room or comes the other way. */
	int moved = is_dir(&t->src), other = t->has_dst && is_dir(&t->dst);
	struct change *c = &t->x.c;

	if (t->from_dir == t->to_dir) {
		change_touch(c, t->to_dir, t->x.now, came - went, 0)->subdir_delta = leaves ? -other : 0;
		return;
	}
	change_touch(c, t->from_dir, t->x.now, -went,
		     TOUCH_MUST_EXIST | (leaves ? 0u : (unsigned)TOUCH_UNLESS_DYING))
		->subdir_delta = (leaves ? 0 : other) - moved;
	change_touch(c, t->to_dir, t->x.now, came, TOUCH_MUST_EXIST | TOUCH_UNLESS_DYING)->subdir_delta =
		moved - other;
}

/* The target's object may be on top at the new key, above the moved file's: have it looked at. */
static int queue_replaced(struct rename *t)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(NS_PATH_MAX);
	int r;

	if (object_ref_is_empty(&t->dst.node.ref))
		return 0;
	r = ns_name_key(t->ns, t->op, t->to_dir, &t->to, t->dst.node.attr.ino, &key);
	if (r == 0 && strcmp(key.data, t->dst.node.ref.key) == 0)
		r = ns_job_key(&t->x, key.data);
	return r;
}

static int build_replace(struct rename *t)
{
	int r = 0;

	if (t->has_dst && is_dir(&t->dst)) {
		ns_expect_name(change_write(&t->x.c, WRITE_DELETE, t->dst.node.attr.ino), t->to_dir, &t->to);
		t->x.c.no_child = t->dst.node.attr.ino;
		t->done.replaced = t->dst.node.attr;
		t->done.replaced.nlink = 0;
		t->done.replaced.ctime = t->x.now;
	} else if (t->has_dst) {
		r = ns_remove_name(&t->x, &t->dst, &t->room, &t->done.replaced);
		if (r == 0)
			r = queue_replaced(t);
	}
	if (r < 0)
		return r;
	place(t, &t->src, t->to_dir, &t->to, true, &t->done.moved);
	return queue_moved(t, &t->src, t->to_dir, &t->to);
}

static int build_exchange(struct rename *t)
{
	struct mfs_name parking = { 0 };
	int r;

	parking.len = (uint16_t)snprintf(parking.bytes, sizeof(parking.bytes), "%" PRIu64, t->src.id);
	place(t, &t->src, NS_PARKING_INO, &parking, true, NULL);
	place(t, &t->dst, t->from_dir, &t->from, true, &t->done.replaced);
	place(t, &t->src, t->to_dir, &t->to, false, &t->done.moved);
	r = queue_moved(t, &t->src, t->to_dir, &t->to);
	return r < 0 ? r : queue_moved(t, &t->dst, t->from_dir, &t->from);
}

/* Of what moves or goes, the directories: their paths must not be remembered. 0: not a directory. */
static mfs_ino_t moving_dir(const struct entry *e, bool there)
{
	return there && is_dir(e) ? e->node.attr.ino : 0;
}

static int apply(struct rename *t, struct ns_stamp stamp)
{
	mfs_ino_t a = moving_dir(&t->src, true), b = moving_dir(&t->dst, t->has_dst);
	bool moves = a || b;
	int r;

	if (moves)
		ns_dir_move_begin(t->ns, a, b);
	r = ns_op_apply(&t->x);
	if (moves)
		ns_dir_move_end(t->ns, a, b);
	if (r < 0 || moves || object_ref_is_empty(&t->src.node.ref))
		return r;
	if (!ns_placed(t->ns, stamp, t->src.node.attr.ino, t->to_dir))
		r = ns_recheck_later(t->ns, t->op, t->src.node.attr.ino);
	if (r == 0 && (t->flags & RENAME_EXCHANGE) && !ns_placed(t->ns, stamp, t->dst.node.attr.ino, t->from_dir))
		r = ns_recheck_later(t->ns, t->op, t->dst.node.attr.ino);
	if (r < 0)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, t->op,
			"ino=%" PRIu64
			" renamed while a directory above it moved, and queueing it failed (%s): its object "
			"may be at an old key until it is settled again",
			t->src.node.attr.ino, strerror(-r));
	return 0;
}

/* Storage rules, where a name comes. */
static int check_names(struct rename *t)
{
	int r = is_dir(&t->src) ? 0 : ns_check_name(t->ns, t->op, "rename", t->to_dir, &t->to);

	if (r == 0 && (t->flags & RENAME_EXCHANGE) && !is_dir(&t->dst))
		r = ns_check_name(t->ns, t->op, "rename", t->from_dir, &t->from);
	return r;
}

/* Tags may be demanded where it comes to: of it, or of all below it. */
static int demand_tags(struct rename *t)
{
	int64_t grace = -1;
	int r = t->from_dir == t->to_dir ? 0 : ns_grace_of(t->ns, t->op, t->to_dir, &grace);

	if (r == 0)
		r = ns_demand(&t->x, t->src.node.attr.ino, grace);
	if (r < 0 || !(t->flags & RENAME_EXCHANGE) || t->from_dir == t->to_dir)
		return r;
	r = ns_grace_of(t->ns, t->op, t->from_dir, &grace);
	return r < 0 ? r : ns_demand(&t->x, t->dst.node.attr.ino, grace);
}

static bool is_one_name(const struct rename *t)
{
	return t->from_dir == t->to_dir && t->from.len == t->to.len && !memcmp(t->from.bytes, t->to.bytes, t->from.len);
}

/*
 * Two names of one file: nothing is to be done. But names are read one after the other, or come from a cache, and a file that
 * another mount moves from the one to the other is then found by both. So they are read again, in the index itself, the first one
 * before and after the second: two records, at one time.
 */
static int same_file(struct rename *t)
{
	struct op_ctx op = op_ctx_fresh(t->op);
	uint64_t id[3];

	if (is_one_name(t)) {
		t->done.moved = t->src.node.attr;
		return 0;
	}
	t->afresh = true;
	for (int k = 0; k < 3; k++) {
		struct entry e = { 0 };
		bool same;
		int r = engine_lookup(t->ns->e, &op, k == 1 ? t->to_dir : t->from_dir, k == 1 ? &t->to : &t->from, &e);

		if (r < 0)
			return r == -ENOENT && k == 1 ? -EAGAIN : r;
		id[k] = e.id;
		same = e.node.attr.ino == t->src.node.attr.ino;
		if (same && k == 2)
			t->done.moved = e.node.attr;
		entry_release(&e);
		if (!same)
			return -EAGAIN;
	}
	return id[0] == id[2] && id[0] != id[1] ? 0 : -EAGAIN;
}

static int build_and_apply(struct rename *t)
{
	struct ns_stamp stamp = ns_stamp_now(t->ns);
	bool exchange = t->flags & RENAME_EXCHANGE;
	int r = exchange ? check_exchange(t) : check_replace(t);

	if (r < 0)
		return r;
	if (t->has_dst && t->src.node.attr.ino == t->dst.node.attr.ino)
		return same_file(t);
	r = check_names(t);
	if (r == 0)
		r = exchange ? build_exchange(t) : build_replace(t);
	if (r == 0)
		r = demand_tags(t);
	/* A path that is not there any more: to_dir has gone, which the touch will say better, or it was a race. */
	if (r < 0)
		return r;
	guard_loops(t);
	touch_parents(t);
	r = apply(t, stamp);
	/* The name came into being after our lookup. */
	return r == -EEXIST ? -EAGAIN : r;
}

static int check_to_dir(struct rename *t)
{
	struct node n = NODE_INIT;
	int r;

	if (t->has_dst || t->from_dir == t->to_dir)
		return 0;
	r = ns_get_dir(t->ns, t->op, t->to_dir, &n);
	node_release(&n);
	return r;
}

static int rename_once(struct rename *t)
{
	struct op_ctx fresh = op_ctx_fresh(t->op), *op = t->afresh ? &fresh : t->op;
	int r;

	t->n_set = 0;
	t->done = (struct rename_result){ 0 };
	t->room = (struct ns_removal){ 0 };
	memset(t->set, 0, sizeof(t->set));
	ns_op_init(&t->x, t->ns, t->op);
	r = engine_lookup(t->ns->e, op, t->from_dir, &t->from, &t->src);
	if (r < 0)
		return r;
	r = engine_lookup(t->ns->e, op, t->to_dir, &t->to, &t->dst);
	t->has_dst = r == 0;
	r = r == -ENOENT ? check_to_dir(t) : r;
	if (r == 0)
		r = build_and_apply(t);
	entry_release(&t->src);
	if (t->has_dst)
		entry_release(&t->dst);
	ns_op_release(&t->x);
	ns_removal_release(&t->room);
	return r;
}

int namespace_rename(struct namespace *ns, struct op_ctx *op, mfs_ino_t from_dir, const char *from,
		     size_t from_len, mfs_ino_t to_dir, const char *to, size_t to_len, unsigned int flags,
		     struct rename_result *ret)
{
	MFS_AUTOFREE struct rename *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	if ((flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	t->ns = ns;
	t->op = op;
	t->from_dir = from_dir;
	t->to_dir = to_dir;
	t->flags = flags;
	r = ns_old_name(from_dir, from, from_len, &t->from);
	if (r == 0)
		r = ns_new_name(to_dir, to, to_len, &t->to);
	for (unsigned int i = 0; r == 0; i++) {
		r = rename_once(t);
		if (ns_again(op, "rename", from_dir, i, &r)) {
			r = 0;
			continue;
		}
		if (r == 0)
			*ret = t->done;
		break;
	}
	return r;
}
