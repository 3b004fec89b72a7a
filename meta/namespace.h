/*
 * The POSIX rules, once, over the engine seam: what a create, link, unlink, rename, chmod or commit means as one
 * change of the index.
 *
 * Who checks permission: the kernel (default_permissions with POSIX ACLs) for requests from the mount;
 * namespace_access() for verbs of the control socket. Who made it: op->uid, op->gid, op->umask.
 *
 * Errors: those of POSIX for the call of the same name, and what meta/engine.h lists for any call. Names are checked
 * here (mfs_name_set). Round trips (engine calls) stand at each function; each is one transaction of the engine.
 *
 * Threads: every call from any thread, no lock of the caller is taken. A change that loses a race (-EAGAIN from the
 * engine) is tried again here from its reads, with a bound (then -EIO and a log line).
 */
#ifndef MASSFS_META_NAMESPACE_H
#define MASSFS_META_NAMESPACE_H

#include "common/buf.h"
#include "meta/engine.h"

struct namespace;

/* What namespace needs to know of the world; all may be NULL. Called with no lock held, from the calling thread. */
struct namespace_hooks {
	void *arg;
	/* Is the inode open on this mount (then its trash record is not purged before it is closed)? */
	bool (*is_open)(void *arg, mfs_ino_t ino);
	/* Is it open for writing (the reconciler leaves it alone then)? NULL: is_open. Not namespace's own question. */
	bool (*is_written)(void *arg, mfs_ino_t ino);
	/* Can this path be a key of the store (backend's object_key_is_legal)? NULL: every path can. */
	bool (*key_is_legal)(void *arg, const char *key);
	/* Something changed that no request asked for (an import): the kernel must forget the file (0: none), and what it
	 * knows of this name in `parent` (0: none). Not namespace's own question. */
	void (*changed)(void *arg, mfs_ino_t ino, mfs_ino_t parent, const char *name);
	/* Jobs were queued: wake the reconciler. */
	void (*jobs_queued)(void *arg);
	/*
	 * Where other mounts change the index as well (ENGINE_NEWS); both or neither. A change of ours was made in directory `dir`,
	 * which is as *attr says by it (NULL: the engine does not tell). `epoch` was asked before the change.
	 */
	uint64_t (*epoch)(void *arg);
	void (*touched)(void *arg, uint64_t epoch, mfs_ino_t dir, const struct mfs_attr *attr);
};

struct namespace_options {
	int64_t retention_ns; /* of versions and trash */
	const char *host;     /* creator's host; borrowed for ever */
	bool key_hides;	      /* what the key of a new directory held must go: a JOB_FILE of it is queued */
	struct namespace_hooks hooks;
};

/* Borrows the engine. */
int namespace_new(struct engine *e, const struct namespace_options *opt, struct namespace **ret) MFS_NODISCARD;
void namespace_free(struct namespace *ns);
struct engine *namespace_engine(struct namespace *ns);
/* A directory's record was changed past this namespace (fsck): what is remembered of its place is not true any more. */
void namespace_forget_dir(struct namespace *ns, mfs_ino_t ino);

/* Reading. 1 round trip each. -ESTALE: no such inode; -ENOENT: no such name; -ENOTDIR. */
int namespace_get(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct node *ret) MFS_NODISCARD;
int namespace_lookup(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const char *name, size_t len, struct entry *ret) MFS_NODISCARD;
int namespace_list(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, uint64_t after, size_t limit, struct node_list *ret) MFS_NODISCARD;

/* Path of an inode (its record's own name) from the volume's root, no leading slash ("" for the root). -ENOENT: it has
 * no name (in trash, or below something removed). Depth round trips, less what is cached here. */
int namespace_path(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct mfs_buf *ret) MFS_NODISCARD;
/* The inode at a path (no leading slash; "" is the root). -ENOENT, -ENOTDIR. */
int namespace_resolve(struct namespace *ns, struct op_ctx *op, const char *path, size_t len, struct entry *ret) MFS_NODISCARD;

/*
 * Where the content of the file belongs: its path, the path of the final name for a temporary name that no file has
 * yet (*ret_temporary), or .massfs/o/<ino> where the path cannot be a key or it has no name.
 */
int namespace_key(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct mfs_buf *ret, bool *ret_temporary) MFS_NODISCARD;
/* The key that stands for a path (no temporary-name rule): itself, or NULL-terminated ".massfs/o/<ino>". */
int namespace_path_key(struct namespace *ns, const char *path, mfs_ino_t ino, struct mfs_buf *ret) MFS_NODISCARD;

/*
 * Make a file of any type; mode has the type bits. Applies umask or the parent's default ACL, setgid inheritance.
 * symlink: target for S_IFLNK. -EEXIST -ENOENT (parent gone) -ENOTDIR -ENAMETOOLONG -EMLINK -EPERM (".massfs" in root).
 * Round trips: 2 (parent, apply), +1 per 1,000 creates for inode numbers.
 */
struct make {
	mfs_ino_t parent;
	const char *name;
	size_t name_len;
	uint32_t mode;
	uint64_t rdev;
	const char *symlink;
};
int namespace_make(struct namespace *ns, struct op_ctx *op, const struct make *m, struct node *ret) MFS_NODISCARD;

/* -EPERM for a directory, -EMLINK, -EEXIST, -ENOENT (the inode has no name any more). 3 round trips. */
int namespace_link(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, mfs_ino_t parent, const char *name, size_t len, struct mfs_attr *ret) MFS_NODISCARD;

/* -EISDIR; *ret: the file's attributes afterwards (nlink 0 and ATTR_IN_TRASH when that was the last name). */
int namespace_unlink(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const char *name, size_t len, struct mfs_attr *ret) MFS_NODISCARD;
/* -ENOTDIR -ENOTEMPTY; *ret: what it was, with nlink 0. */
int namespace_rmdir(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const char *name, size_t len, struct mfs_attr *ret) MFS_NODISCARD;

/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE (else -EINVAL). Rules of rename(2), sticky bits are the kernel's. */
struct rename_result {
	struct mfs_attr moved;		/* afterwards */
	struct mfs_attr replaced;	/* ino 0: nothing was; nlink 0: that was its last name; for EXCHANGE the other one */
};
int namespace_rename(struct namespace *ns, struct op_ctx *op, mfs_ino_t from_dir, const char *from, size_t from_len,
		     mfs_ino_t to_dir, const char *to, size_t to_len, unsigned int flags, struct rename_result *ret) MFS_NODISCARD;

/* chmod, chown, utimens. Not size: namespace_truncate. 1-2 round trips. ACL's mask follows a chmod. chown clears suid
 * and sgid of a non-directory as Linux does (kill_priv tells a non-root caller or kernel's request); ctime = now. */
struct set_attr {
	uint32_t mask; /* EDIT_MODE EDIT_UID EDIT_GID EDIT_ATIME EDIT_MTIME EDIT_CTIME */
	uint32_t mode, uid, gid;
	int64_t atime, mtime, ctime; /* ctime only with EDIT_CTIME; else now */
	bool kill_priv;	/* clear setuid, and setgid with group execute (write, truncate, chown); drop security.capability */
};
int namespace_setattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct set_attr *sa, struct mfs_attr *ret) MFS_NODISCARD;

/* Access times, lazily and in bulk: no ver, no ctime; an inode that is gone is skipped. 1 change per 16. */
struct atime_update {
	mfs_ino_t ino;
	int64_t atime;
};
int namespace_set_atimes(struct namespace *ns, struct op_ctx *op, const struct atime_update *v, size_t n) MFS_NODISCARD;

/*
 * Content. Both compare lay (-EAGAIN: it moved; read the node again) and refuse a fenced session (-EIO).
 * What is replaced goes to versions (keep_version: it was the state at some writer's close and has content) or to
 * dropped, in the same change. Keys left or not at their place are queued as jobs.
 */
struct commit {
	mfs_ino_t ino;
	uint64_t lay;		/* expected */
	struct object_ref ref;	/* the new object; empty: none (obj_len 0). Borrowed */
	const char *etag;	/* or NULL */
	bool summed;		/* etag is of exactly the file's bytes: node.hash becomes it, if it is a sum of ours */
	const char *mime;	/* of the content; NULL: not known (a settle keeps what was) */
	uint64_t obj_len, size, alloc;
	int64_t mtime;		/* of the content; 0: leave mtime (settle) */
	bool keep_version;
	bool settle;		/* the same bytes elsewhere: lay and ver rise, data and times stay, the old ref is dropped */
	bool queue_key;		/* the store said not_shown: queue ref.key */
	bool temporary;		/* ref.key is the final name's: look again in 30 s */
	bool kill_priv;
	bool durable;
	/* Where ref does not say it all (meta/layout.h). NULL or empty: none. Borrowed. */
	const struct node_blob *inline_data; /* the whole content; ref is empty, obj_len 0 */
	const struct node_blob *slices;
	const struct slices_doc_record *docs; /* new documents that slices names, written in the same change */
	uint32_t n_docs;
	/* The object is that of another file, which goes on to have it (meta/shared.h); 0: it is not. Compared with that record:
	 * -EXDEV, if it is another object or `lay` by now. -ENOTSUP, -EMLINK: it cannot be shared. */
	mfs_ino_t share_of;
	uint64_t share_lay;
	uint64_t session; /* whose the object is and must not be fenced: of its object_meta; 0: the engine's at this moment */
	int64_t todo; /* wall time at which the reconciler shall look at it; 0: no need (the commit clears an old one) */
};
/*
 * What the old layout named (object, segments, documents) and the new one does not is dropped in the same change, or
 * belongs to the version that the change makes.
 */
int namespace_commit(struct namespace *ns, struct op_ctx *op, const struct commit *c, struct mfs_attr *ret) MFS_NODISCARD;
/* size becomes `size`, obj_len at most that, slices and inline bytes are clipped; times, data, lay, kill_priv. The former
 * state is a version if keep_version and bytes are lost. Sets todo where the object is now longer or shorter than the file. */
int namespace_truncate(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, uint64_t lay, uint64_t size, bool keep_version,
		       bool kill_priv, struct mfs_attr *ret) MFS_NODISCARD;

/* `count` numbers for slices documents; from a stock, so 1 round trip per 1,000. */
int namespace_reserve(struct namespace *ns, struct op_ctx *op, unsigned int count, uint64_t *ret_first) MFS_NODISCARD;

/* A file that is open here was removed by another mount: this one is an opener too, its content is kept. *ret: its attributes,
 * also when it is not in trash (nothing is changed then). 1-2 round trips. -ESTALE: it is gone. */
int namespace_opened(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct mfs_attr *ret) MFS_NODISCARD;
/* The mount has closed an unlinked file: it is no opener any more (nothing for a file that is not in trash). */
int namespace_closed(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino) MFS_NODISCARD;

/*
 * Extended attributes: names with prefix user. trusted. security. or system.posix_acl_{access,default}; others
 * -ENOTSUP. get: the size, or with size 0 the needed size; -ERANGE; -ENODATA. set: flags XATTR_CREATE, XATTR_REPLACE;
 * -E2BIG over 64 KiB, -ENOSPC over 1 MiB an inode. ACLs are validated (-EINVAL), an access ACL updates the mode and is
 * dropped when the mode says all of it; kill_sgid: clear setgid with it (caller not in the group).
 * ctime follows a set or remove. ACL format: the kernel's struct posix_acl_xattr (version 2).
 */
ssize_t namespace_getxattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const char *name, void *buf, size_t size) MFS_NODISCARD;
ssize_t namespace_listxattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, char *buf, size_t size) MFS_NODISCARD;
int namespace_setxattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const char *name, const void *value, size_t size,
		       int flags, bool kill_sgid, struct mfs_attr *ret) MFS_NODISCARD;
int namespace_removexattr(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const char *name, struct mfs_attr *ret) MFS_NODISCARD;

/*
 * Tags (meta/tags.h) of a file or directory, all in one change; ctime follows. A tag with a value is user.NAME; a bare one
 * goes into the list user.xdg.tags. Removing one without a value takes both of that name away, with one only that.
 * -ENODATA: a tag to be removed is not there; -EINVAL: no name for a tag (empty; a bare one with a comma, or blanks at an
 * end); -EPERM: neither file nor directory; -ENAMETOOLONG, -ENOSPC. 2 round trips.
 */
struct tag_edit {
	const char *name;  /* without "user." */
	const char *value; /* NULL: bare */
	bool remove;
};
int namespace_tag(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, const struct tag_edit *v, size_t n,
		  struct mfs_attr *ret) MFS_NODISCARD;

/*
 * Storage rules (meta/schema.h; set as the attribute trusted.massfs.schema of a directory by namespace_setxattr). Names are
 * checked by make, link and rename (-EPERM), tags given by make; sizes and types are the caller's to ask for.
 */
struct content_rules {
	uint64_t size_max; /* MFS_FILE_SIZE_MAX: no rule says */
	uint64_t size_min;
	bool at_close; /* namespace_judge() has a say when it is closed */
};
/* As they are at this moment. 0-1 round trips, and those up its parents. */
int namespace_content_rules(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct content_rules *ret) MFS_NODISCARD;
struct judgement {
	const char *kind; /* which rule is against it; NULL: none */
	char reason[256];
	bool ask_type; /* only its type can tell: ask again with it */
};
/* May a file have this content where it is now? mime: of the content ("": not known), NULL: not looked at. Round trips as above. */
int namespace_judge(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, uint64_t size, const char *mime,
		    struct judgement *ret) MFS_NODISCARD;
/* A write was refused for it: logged and recorded. */
void namespace_too_big(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino);
struct refused_name {
	const char *operation, *kind;
	mfs_ino_t dir;
	const struct mfs_name *name;
	const char *reason;
};
void namespace_refused(struct namespace *ns, struct op_ctx *op, const struct refused_name *f);
/* Whose rules hold in `dir`; 0: nobody's. */
int namespace_rules_from(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, mfs_ino_t *ret) MFS_NODISCARD;
/* Does what is there already keep them? *ret_reason NULL: yes. 0-1 round trips, and those up its parents. */
int namespace_rules_check(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, const struct mfs_name *name,
			  const struct mfs_attr *a, const char **ret_reason) MFS_NODISCARD;
/*
 * News of what other mounts changed; from when namespace_hears() was called all of them must be told, in their order. True:
 * namespace_recheck() has something to do, which asks the index (files that were stored at a path while another mount moved a
 * directory above them; the reconciler looks at them again). It may wait a while.
 */
void namespace_hears(struct namespace *ns);
bool namespace_news(struct namespace *ns, const struct news *w);
void namespace_recheck(struct namespace *ns, struct op_ctx *op);
void namespace_rules_changed(struct namespace *ns);

/*
 * Content that namespace_judge() is against, refused: kept as a version of its own path (".massfs/refused/<id of the failure>") as
 * long as any version, and recorded, in one change. What the file had stays (nothing but `ver` moves), or, where earlier
 * commits of the same writer have replaced it already, comes back. -EAGAIN: lay moved, read the node again. -EIO: fenced.
 */
#define REFUSED_PATH ".massfs/refused/"
struct content_refusal {
	mfs_ino_t ino;
	uint64_t lay, session; /* as in struct commit */
	uid_t uid;	       /* who wrote it */
	const struct judgement *why;
	const struct commit *content; /* what is refused, and not in the record; NULL: what the record has */
	bool back;		      /* with NULL: the record gets `earlier` */
	const struct version_record *earlier; /* NULL: it was empty */
};
int namespace_refuse(struct namespace *ns, struct op_ctx *op, const struct content_refusal *f, struct mfs_attr *ret) MFS_NODISCARD;

/* What was refused, oldest first; kept as long as versions. Fields that are 0/NULL do not restrict. fn's other than 0 ends it. */
struct failure_query {
	const char *after; /* the id of the last one told before: a cursor that stays valid */
	int64_t since, until;
	bool by_uid;
	uid_t uid;
	const char *below; /* a path, and all that is below it */
	const char *kind;
	size_t limit;
};
struct failure {
	const char *json; /* all of it; the rest but `id` may be NULL */
	const char *id;
	int64_t time;
	uid_t uid;
	bool kept; /* its content can be restored */
	uint64_t size;
	const char *operation, *kind, *path, *user, *host, *address, *reason;
};
typedef int namespace_failure_fn(void *arg, const struct failure *f);
int namespace_failures(struct namespace *ns, struct op_ctx *op, const struct failure_query *q, namespace_failure_fn *fn,
		       void *arg) MFS_NODISCARD;
/* Those whose time is over go, and the oldest of more than 100,000. A round trip for each 1,000. */
int namespace_failures_prune(struct namespace *ns, struct op_ctx *op) MFS_NODISCARD;

/* Look for demanded tags wherever that is due; what lacks one is on the list of failures then. Once an hour that is cut. For one
 * thread of one mount at a time. No other round trip where no rule demands any. */
int namespace_demands_run(struct namespace *ns, struct op_ctx *op, int64_t now) MFS_NODISCARD;
/* How many files were found without one, and are so still as far as is known. */
int namespace_demands_count(struct namespace *ns, struct op_ctx *op, uint64_t *ret) MFS_NODISCARD;

/* Would the filesystem let (uid, gid, groups) do `mask` (R_OK|W_OK|X_OK) to this node, by mode bits and ACL?
 * 0 or -EACCES. Root may all (execute: if anybody may). */
struct mfs_cred {
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t n_groups;
};
int namespace_access(const struct node *n, const struct mfs_cred *cred, int mask) MFS_NODISCARD;
/* Search permission on every directory of the path's parent chain, then mask on the file itself; *ret the file. */
int namespace_resolve_as(struct namespace *ns, struct op_ctx *op, const struct mfs_cred *cred, const char *path, size_t len, int mask, struct entry *ret) MFS_NODISCARD;

/*
 * What was at a path, newest first, by whichever inode: versions, and removed files (trash). The current file is not
 * in the list. Owned by the caller (past_list_release).
 */
struct past {
	bool is_trash;
	mfs_ino_t ino;
	uint64_t data;	 /* of a version */
	struct object_ref ref;
	struct node_blob slices, inline_data; /* owned */
	char etag[OBJECT_ETAG_MAX + 1];	      /* of ref, or of inline_data */
	uint64_t size, obj_len;
	int64_t mtime;	 /* of the content */
	int64_t ended;	 /* when it was replaced or removed */
	int64_t until;	 /* when retention ends */
	uint32_t mode, uid, gid;
};
struct past_list {
	struct past *v;
	size_t n, cap;
};
void past_list_release(struct past_list *l);
int namespace_past(struct namespace *ns, struct op_ctx *op, const char *path, struct past_list *ret) MFS_NODISCARD;

/* Bring a removed file back under (parent, name), same inode. -EEXIST, -ENOENT (purged meanwhile, or parent gone). */
int namespace_undelete(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, mfs_ino_t parent, const char *name, size_t len, struct mfs_attr *ret) MFS_NODISCARD;

#endif
