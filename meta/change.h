/*
 * One atomic, conditional, exactly-once change of the index.
 *
 * A change is a list of writes, each with preconditions on the record it writes itself, and of touches (a parent
 * directory's times and child count), and at most two named guards. All of it happens or nothing does.
 *
 *   Rule M1  A precondition names a record that the change also writes; the only others are the two guards.
 *   Rule M2  Every change has an id (session, number); applied twice it happens once (meta/engine.h, engine_apply).
 *   Rule M3  Touches and serialisability: engines with serialisable transactions (sqlite, mem) apply touches in the
 *            change's own transaction; a MongoDB engine applies them after it.
 *   Rule M4  `unless_dying` on a touch or TOUCH_MUST_EXIST; rmdir uses guard no_child.
 *   Rule M5  A directory that moves to another parent uses guard not_below.
 *   Rule M6  A name or parent is never updated in place: WRITE_RENAME deletes the record and inserts it again.
 *
 * A change borrows everything its writes point at until engine_apply() returns. The writes are applied in order, and
 * later ones see earlier ones (a rename over a file is: WRITE_TRASH of the target, then WRITE_RENAME).
 */
#ifndef MASSFS_META_CHANGE_H
#define MASSFS_META_CHANGE_H

#include "meta/node.h"
#include "meta/records.h"

struct op_id {
	uint64_t session; /* 0: no exactly-once record is kept (tools on an unmounted volume) */
	uint64_t number;
};

/* What must hold of the record before the write. */
enum expect_flags {
	EXPECT_VER = 1u << 0,
	EXPECT_LAY = 1u << 1,
	EXPECT_DATA = 1u << 2,
	EXPECT_NAME = 1u << 3,	     /* its (parent, name) are these */
	EXPECT_NOT_FENCED = 1u << 4, /* `session` is not in fenced */
	EXPECT_IN_FILES = 1u << 5,   /* not in trash */
	EXPECT_IN_TRASH = 1u << 6,
};

struct expect {
	unsigned int flags; /* of enum expect_flags */
	uint64_t ver, lay, data, session;
	mfs_ino_t parent;
	const struct mfs_name *name;
};

/* Which fields of `set` an edit takes over. */
enum edit_mask {
	EDIT_MODE = 1u << 0,
	EDIT_UID = 1u << 1,
	EDIT_GID = 1u << 2,
	EDIT_SIZE = 1u << 3, /* size, obj_len */
	EDIT_ATIME = 1u << 4,
	EDIT_MTIME = 1u << 5,
	EDIT_CTIME = 1u << 6,
	EDIT_REF = 1u << 7, /* where the content is, as a whole: ref, etag, hash, obj_len, alloc, slices, inline_data */
	EDIT_XATTRS = 1u << 8, /* the whole set */
	EDIT_TODO = 1u << 9,
	EDIT_PENDING = 1u << 10,
	EDIT_DYING = 1u << 11,
	EDIT_FENCED = 1u << 12,
	EDIT_OPENERS = 1u << 13,
	EDIT_MIME = 1u << 14,
	EDIT_SHARED = 1u << 15, /* the ATTR_SHARED bit of attr.flags */
	EDIT_BTIME = 1u << 16,
	/* Not fields of `set`: */
	EDIT_BUMP_DATA = 1u << 28, /* data += 1 */
	EDIT_BUMP_LAY = 1u << 29,  /* lay += 1 */
	EDIT_NO_BUMP_VER = 1u << 30, /* an atime alone does not count as a change */
};

enum write_kind {
	/* Insert a new record: `node` whole (attr.ino, parent, name, pos set by the caller).
	 * -EEXIST: the name (parent, name) or the id is taken. Never replaces. */
	WRITE_INSERT,
	/* Edit the record `ino`, in files or trash, wherever it is: expect, then mask fields of node, then nlink_delta.
	 * -ESTALE: no such record. -EAGAIN: expect does not hold. */
	WRITE_EDIT,
	/* Delete the record `ino` from files (not from trash). -ESTALE / -EAGAIN as above. */
	WRITE_DELETE,
	/* Delete and insert again under the same id with parent, name (and pos, if not 0) of `node` (rule M6), after
	 * the edits that mask names. -EEXIST: the new name is taken. */
	WRITE_RENAME,
	/* Move the record `ino` from files to trash, nameless: node->trash_path, trash_time, openers are taken from
	 * `node`, as are the fields of mask; nlink_delta applies. */
	WRITE_TRASH,
	/* Move it back: parent, name, pos of `node`, mask and nlink_delta apply. -EEXIST: the name is taken. */
	WRITE_UNTRASH,
	/* Delete the record `ino` from trash. */
	WRITE_PURGE,
	/* A further hard link: alias record {alias}. -EEXIST: the name is taken. */
	WRITE_ALIAS_INSERT,
	/* Delete the alias with id `ino`; expect may use EXPECT_NAME. -ESTALE / -EAGAIN. */
	WRITE_ALIAS_DELETE,
	/* Give the alias with id `ino` the parent and name of alias (delete and insert, keeps its pos). */
	WRITE_ALIAS_RENAME,
	/* Side collections (meta/records.h). put = insert or replace by the record's key; delete: absent is a success. */
	WRITE_VERSION_PUT,
	WRITE_VERSION_DELETE,
	WRITE_DROPPED_PUT,
	WRITE_DROPPED_DELETE,
	WRITE_JOB_PUT,	  /* the same job queued again keeps one record with the earlier due time and a new `token` */
	WRITE_JOB_DELETE, /* only while its token is still job.token, else nothing (it was queued again meanwhile) */
	WRITE_SESSION_PUT,
	WRITE_SESSION_DELETE,
	WRITE_SLICES_PUT,    /* -EEXIST never: (ino, id) is new. On an engine without big transactions: stored before the rest */
	WRITE_SLICES_DELETE, /* by ino and id */
	/* Replace (or, with an empty blob, delete) the cell `cell->name`; with EXPECT_VER only while its token is expect.ver
	 * (0: there is no such cell), else -EAGAIN. */
	WRITE_CELL_PUT,
};

struct alias {
	uint64_t id; /* from the inode space; also its pos */
	mfs_ino_t parent, target;
	struct mfs_name name;
};

struct write {
	enum write_kind kind;
	mfs_ino_t ino;
	struct expect expect;
	uint32_t mask; /* of enum edit_mask */
	int32_t nlink_delta;
	uint32_t n; /* DROPPED_PUT, SLICES_PUT: how many records the pointer points at; 0: one (write_records()) */
	union {
		const struct node *node;
		const struct alias *alias;
		const struct version_record *version;
		const struct dropped_record *dropped;
		const struct job_record *job;
		const struct session_record *session;
		const struct slices_doc_record *slices;
		const struct cell_record *cell;
	};
	/* Filled on success where not NULL (INSERT, EDIT, RENAME, TRASH, UNTRASH): the attributes as they are now. */
	struct mfs_attr *ret_attr;
};

/* A directory's own times and child count. */
enum touch_flags {
	TOUCH_UNLESS_DYING = 1u << 0, /* -EAGAIN while it is marked by an rmdir */
	TOUCH_MUST_EXIST = 1u << 1,   /* -ENOENT when the directory is gone */
};
struct touch {
	mfs_ino_t dir;
	int64_t time_ns; /* mtime and ctime become this */
	int32_t child_delta;
	/* How many directories of these: its nlink changes by as much (stored as 1 + subdirectories). Exact only where
	 * touches are in the change's transaction; other engines leave nlink at 1. */
	int32_t subdir_delta;
	unsigned int flags;
	struct mfs_attr *ret_attr; /* or NULL */
};

#define CHANGE_MAX_WRITES  16 /* in place; larger changes are batches of jobs, which use change_batch */
#define CHANGE_MAX_TOUCHES 2

/* How many records the pointer of a write points at. */
static inline uint32_t write_records(const struct write *w)
{
	return w->n ? w->n : 1;
}

struct change {
	struct op_id id; /* set by engine_apply() from the session when number is 0 */
	struct write writes[CHANGE_MAX_WRITES];
	unsigned int n_writes;
	struct touch touches[CHANGE_MAX_TOUCHES];
	unsigned int n_touches;
	mfs_ino_t no_child;   /* guard: this directory has no entry (-ENOTEMPTY); 0: none */
	mfs_ino_t not_below_dir, not_below_target; /* guard: target is neither dir nor below it (-EINVAL); 0: none */
	mfs_ino_t not_below_dir2, not_below_target2; /* the same, of the other directory in an exchange */
	bool durable;	      /* not done before it is safe from power loss */
	bool retry;	      /* engine_apply(): sent before, outcome unknown */
};

/* Append; asserts that there is room. The pointer is into the change. */
struct write *change_write(struct change *c, enum write_kind kind, mfs_ino_t ino);
struct touch *change_touch(struct change *c, mfs_ino_t dir, int64_t time_ns, int32_t child_delta, unsigned int flags);

/*
 * For engines: does expect hold of n (-EAGAIN), and the edit itself on a loaded record (ver, data, lay, nlink, mask).
 * Pure functions, so that every engine means the same by them.
 */
int change_check(const struct write *w, const struct node *n, bool in_trash) MFS_NODISCARD;
int change_edit(const struct write *w, struct node *n) MFS_NODISCARD;
/* M1 and shape: -EINVAL for a change that is malformed (checked by engine_apply on each call). */
int change_validate(const struct change *c) MFS_NODISCARD;

#endif
