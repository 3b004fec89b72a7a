/*
 * What the files of the namespace share: the object, the loop that tries a lost race again, names and paths, and a
 * change under construction (struct ns_op) that owns what the change borrows.
 */
#ifndef MASSFS_META_NAMESPACE_INTERNAL_H
#define MASSFS_META_NAMESPACE_INTERNAL_H

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "common/sync.h"
#include "meta/namespace.h"

/* Two names in an exchange pass through here inside their change; nothing is ever seen in it. No inode has it. */
#define NS_PARKING_INO ((mfs_ino_t)2)

#define NS_RESERVED_NAME ".massfs"
#define NS_PATH_MAX	 ((size_t)16 << 20) /* depth is the user's; only memory bounds it */
#define NS_JOBS_MAX	 6

struct ns_user_slot {
	bool used;
	uid_t uid;
	char *name; /* owned; NULL: the uid has none */
};

struct namespace {
	struct engine *e;
	struct namespace_options opt;

	/* Leaf lock: guards everything below; no call is made with it held. */
	struct mfs_mutex lock;
	uint64_t ino_next, ino_left;
	struct ns_user_slot *users;
	struct ns_dirs *dirs;	  /* namespace_dirs.h */
	uint64_t dir_gen;	  /* counts directories moved or removed, at begin and end; others' when it is heard of */
	unsigned int dir_moves;	  /* of them, under way */
	struct ns_rules *rules;	  /* NULL: to be read */
	uint64_t rules_gen;	  /* counts what made them untrue */
	uint64_t refused_hash, n_refused; /* the last refusal that was recorded; how many were */
	int64_t refused_at;	  /* monotonic */
	bool demands_idle;	  /* as of demands_gen, a rules_gen: nothing demands tags, and nothing waits to be looked at */
	uint64_t demands_gen;
	char *told_after;  /* owned; of the thread that looks for demanded tags, as is the next */
	int64_t prune_due; /* monotonic: the list of failures is cut */
};

/* namespace.c: names, inode numbers, paths. */

/* Checks a name that is to come into being: mfs_name_set, and -EPERM for what is reserved. */
int ns_new_name(mfs_ino_t parent, const char *name, size_t len, struct mfs_name *ret) MFS_NODISCARD;
/* Checks a name that should exist: mfs_name_set, and -ENOENT for what is reserved. */
int ns_old_name(mfs_ino_t parent, const char *name, size_t len, struct mfs_name *ret) MFS_NODISCARD;
int ns_new_ino(struct namespace *ns, struct op_ctx *op, mfs_ino_t *ret) MFS_NODISCARD;
/* Owned; NULL when the uid has no name. */
int ns_user_name(struct namespace *ns, uid_t uid, char **ret) MFS_NODISCARD;
/* The record of a directory a name is to come into: -ENOENT when it is gone, -ENOTDIR. */
int ns_get_dir(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, struct node *ret) MFS_NODISCARD;

/* Path of (dir, name); *ret is cleared first. name NULL: of the directory itself. */
int ns_path(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, const struct mfs_name *name, struct mfs_buf *ret)
	MFS_NODISCARD;
/* The path of (dir, name), made the key that stands for it. */
int ns_path_to_key(struct namespace *ns, mfs_ino_t ino, struct mfs_buf *path) MFS_NODISCARD;
int ns_name_key(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, const struct mfs_name *name, mfs_ino_t ino,
		struct mfs_buf *ret) MFS_NODISCARD;
/* Is the ref at the key that stands for (dir, name)? 1, 0, or -errno. */
int ns_ref_is_at(struct namespace *ns, struct op_ctx *op, const struct node *n, mfs_ino_t dir,
		 const struct mfs_name *name) MFS_NODISCARD;

/*
 * Around a change that moves or removes a directory: it is forgotten, and while such a change is under way nothing
 * read before it is remembered. A path taken earlier may be stale; ns_paths_moved() tells.
 */
void ns_dir_move_begin(struct namespace *ns, mfs_ino_t a, mfs_ino_t b);
void ns_dir_move_end(struct namespace *ns, mfs_ino_t a, mfs_ino_t b);
struct ns_stamp {
	uint64_t gen;
	bool moving;
};
struct ns_stamp ns_stamp_now(struct namespace *ns);
bool ns_paths_moved(struct namespace *ns, struct ns_stamp since);
/* After a change that gave file `ino` in `dir` the key of its path of `since`. False: it must be looked at again (ns_recheck_later);
 * else that is done should another mount turn out to have moved a directory above it. */
bool ns_placed(struct namespace *ns, struct ns_stamp since, mfs_ino_t ino, mfs_ino_t dir);

/*
 * Retrying. `for (attempt = 0;; attempt++) { r = once(); if (!ns_again(ns, op, what, attempt, &r)) return r; }`:
 * true when r is a lost race (-EAGAIN, -ESTALE) and it shall be tried again, after a pause that grows.
 */
bool ns_again(struct op_ctx *op, const char *what, mfs_ino_t ino, unsigned int attempt, int *r);

/* namespace_op.c: a change under construction. */
struct ns_op {
	struct namespace *ns;
	struct op_ctx *op;
	int64_t now;
	struct change c;
	struct job_record jobs[NS_JOBS_MAX];
	unsigned int n_jobs;
	bool work_now; /* a record that the change writes is to be looked at now */
	struct cell_record demands[2]; /* namespace_demands.c */
	unsigned int n_demands;
};
void ns_op_init(struct ns_op *x, struct namespace *ns, struct op_ctx *op);
void ns_op_release(struct ns_op *x);
#define NS_AUTOOP MFS_CLEANUP(ns_op_release)
/* Apply, and wake the reconciler when there is work for it. */
int ns_op_apply(struct ns_op *x) MFS_NODISCARD;

/* Queue a job, unless the change has it already. ns_job_place: for the key that ought to hold the file's object. */
int ns_job_key(struct ns_op *x, const char *key) MFS_NODISCARD;
int ns_job_key_due(struct ns_op *x, const char *key, int64_t due) MFS_NODISCARD;
int ns_job_file(struct ns_op *x, mfs_ino_t ino, int64_t due) MFS_NODISCARD;
int ns_job_dir(struct ns_op *x, mfs_ino_t ino) MFS_NODISCARD;
int ns_job_place(struct ns_op *x, const char *key, mfs_ino_t ino) MFS_NODISCARD;
/* After a change whose paths were read while a directory moved: have the reconciler look at the file again. */
int ns_recheck_later(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino) MFS_NODISCARD;

static inline void ns_expect_name(struct write *w, mfs_ino_t parent, const struct mfs_name *name)
{
	w->expect.flags |= EXPECT_NAME;
	w->expect.parent = parent;
	w->expect.name = name;
}

static inline void ns_expect_ver(struct write *w, uint64_t ver)
{
	w->expect.flags |= EXPECT_VER;
	w->expect.ver = ver;
}

/* Is the entry the record's own name (else an alias)? */
static inline bool ns_is_main(const struct entry *e)
{
	return e->id == e->node.attr.ino;
}

/*
 * namespace_remove.c: a name of something that is not a directory goes: what unlink does, and rename to what it
 * replaces. `room` holds what the change borrows and lives as long as it.
 */
struct ns_removal {
	struct node set;
	struct alias heir; /* the alias that becomes the record's own name */
	char *path;	   /* owned */
};
void ns_removal_release(struct ns_removal *m);
#define NS_AUTOREMOVAL MFS_CLEANUP(ns_removal_release)
int ns_remove_name(struct ns_op *x, const struct entry *e, struct ns_removal *room, struct mfs_attr *ret) MFS_NODISCARD;

/*
 * namespace_rules.c: the storage rules that hold in a directory; schema NULL: none do. Release it. Without rules in the volume: no
 * round trip while news come; else one a directory up to that which has them, less what is cached of paths.
 */
#define NS_SCHEMAS  "schemas/"
#define NS_FAILURES "failures/"
#define NS_DEMANDS  NS_FAILURES "d" /* namespace_demands.c; behind all failures, which begin with a digit */
struct schema;
struct ns_held {
	struct ns_rules *table;
	const struct schema *schema;
	mfs_ino_t from; /* whose they are */
};
int ns_rules_of(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, struct ns_held *ret) MFS_NODISCARD;
void ns_held_release(struct ns_held *h);
void ns_rules_put(struct ns_rules *t); /* NULL: nothing */
/* May this name of something that is no directory come into being? -EPERM: recorded then. */
int ns_check_name(struct namespace *ns, struct op_ctx *op, const char *what, mfs_ino_t dir, const struct mfs_name *name) MFS_NODISCARD;
/* The cell of a directory's rules; len 0: they go. The caller's. */
int ns_rules_cell(mfs_ino_t dir, const void *text, size_t len, struct cell_record *ret) MFS_NODISCARD;
/* namespace_failures.c: a record of the list, to be put in a change; ns_failure_id is in it. The caller's. */
struct ns_report {
	const char *operation, *kind, *reason;
	const char *path;
	mfs_ino_t ino; /* 0: not said */
	uid_t uid;
	const char *user, *host; /* NULL: that of uid; this one */
	bool kept;		 /* its content is, under the record's id: of `size` bytes */
	uint64_t size;
};
int ns_failure_cell(struct namespace *ns, const struct ns_report *p, int64_t now, struct cell_record *ret) MFS_NODISCARD;
/* Those whose time is over go, and the oldest of more than `max`, but for those that keep content. */
int ns_failures_cut(struct namespace *ns, struct op_ctx *op, uint64_t max) MFS_NODISCARD;
const char *ns_failure_id(const struct cell_record *cell);
void ns_failure_log(struct op_ctx *op, const struct ns_report *p);
/* Does any directory demand tags? */
int ns_rules_demand(struct namespace *ns, struct op_ctx *op, bool *ret) MFS_NODISCARD;
/*
 * namespace_demands.c: in grace_ns (-1: never) somebody looks whether `ino`, or all below it, has the tags that are demanded there.
 * ns_grace_of: what is said in `dir`. ns_demand_again: if it lacks one as it is in n.
 */
int ns_demand(struct ns_op *x, mfs_ino_t ino, int64_t grace_ns) MFS_NODISCARD;
int ns_grace_of(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, int64_t *ret) MFS_NODISCARD;
int ns_demand_again(struct ns_op *x, const struct node *n) MFS_NODISCARD;
/* namespace_path.c: the parent of a directory, remembered where paths are; a name that a tool gives up for another. */
int ns_dir_parent(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, mfs_ino_t *ret) MFS_NODISCARD;
bool ns_is_temporary(const struct mfs_name *name);
/* namespace_tags.c: one edit of a record in memory. */
int ns_tag_node(struct node *n, const struct tag_edit *e) MFS_NODISCARD;

/* namespace_attr.c: may these bits stay? What a write or a chown takes away. */
uint32_t ns_mode_without_priv(uint32_t mode);
/* Removes security.capability and the bits from a copied record; gives the edit mask of what changed. */
uint32_t ns_kill_priv(struct node *n);

#endif
