/*
 * The seam between the POSIX rules (meta/namespace.c) and whatever keeps the index.
 *
 * Engines: sqlite (the embedded default), mem (the reference, for tests), mongo (the cluster's). Decorators: fault (tests),
 * log (index log), redis (cache). Use the functions below, never engine->ops: they check the contract.
 *
 * Errors: 0 or -errno. Any call may give -EIO (the engine has logged why), -ENOMEM, -ENOSPC (the index's disk is
 * full), -EROFS, -ETIMEDOUT or -ECANCELED (op). Each call lists its own besides. ret_* are written on success only.
 *
 * Threads: every call from any thread, several at once. No lock of a caller is taken, no callback is made with an
 * engine's lock held. Calls block; none is made with a lock of fs/ held (docs/locking.md).
 *
 * Reads see the latest change that was applied before they began (from this engine object).
 */
#ifndef MASSFS_META_ENGINE_H
#define MASSFS_META_ENGINE_H

#include <stdatomic.h>

#include "meta/change.h"
#include "meta/expr.h"
#include "meta/node.h"
#include "meta/records.h"

struct op_ctx;
struct engine_ops;
struct blob_list;
struct tag_set;

struct engine {
	const struct engine_ops *ops;
	_Atomic uint64_t session;     /* whose changes these are; set by the opener, 0: a tool */
	_Atomic uint64_t next_number; /* of the next change */
};

/* What a lookup finds: the file, and under which record the name is. */
struct entry {
	uint64_t id;	  /* == node.attr.ino, or the alias record's id */
	mfs_ino_t parent; /* of the name that was looked up */
	struct mfs_name name;
	uint64_t pos;
	struct node node; /* the main record, whole */
};
void entry_release(struct entry *e);

/* Which records a query gives. Fields that are 0/NULL do not restrict. */
struct query {
	const char *key_bucket; /* with key: records whose object is at this key (bucket NULL: the default) */
	const char *key;
	bool todo;		/* records with todo != 0 */
	int64_t todo_before;	/* with todo: those with todo <= this, in order of (todo, id) from the earliest; without
				 * key, trash and after */
	bool labelled;		/* records with ATTR_HAS_LABEL; not together with acl, key or todo */
	bool acl;		/* records with ATTR_HAS_ACL or ATTR_HAS_DEFAULT_ACL; not together with the same */
	mfs_ino_t after;	/* ids above this one; results are in order of id */
	size_t limit;		/* at most so many, 1..10000 */
	bool trash;		/* look in trash instead of files */
	bool attr_only;		/* partial nodes will do */
};

enum engine_caps {
	ENGINE_SINGLE_MOUNT = 1u << 0, /* only one daemon can have the volume: caches need no news */
	ENGINE_NEWS = 1u << 1,	       /* others may change the index: engine_watch() tells of it; cells work */
};

/*
 * What somebody changed, told after the change by an engine that others write to as well. Every change of a record, of
 * whichever session (the own ones too), comes at least once and in the order of the changes of that record, or NEWS_LOST
 * comes instead. It may come more than once and late; `ver` says what is newer.
 */
enum news_kind {
	NEWS_RECORD, /* record `ino` was put or changed: ver, data, lay as of then; parent and name are its own name now (0: none) */
	NEWS_ALIAS,  /* alias `ino` was put: (parent, name) names `target` now */
	NEWS_GONE,   /* the record or alias `ino` was deleted from files: what it was called is not known (parent 0) or is given */
	NEWS_CELL,   /* the cell `cell` was written or deleted */
	NEWS_SESSION, /* session `ino` was written */
	NEWS_LOST,   /* events were missed, or the channel was silent: everything may have changed */
	NEWS_SIDE,   /* a record beside the files was put or deleted: `side`. For the index log; nobody caches these */
};
struct record_key; /* meta/record_stream.h */
struct news {
	enum news_kind kind;
	mfs_ino_t ino, parent, target;
	const struct mfs_name *name; /* with parent */
	uint64_t ver, data, lay;
	const char *cell; /* `ver` is its token, where that is known; 0: deleted, or not known */
	const struct record_key *side; /* in trash (RECORD_NODE), versions, slices, dropped, jobs */
	/* NEWS_RECORD: the tags it has now (meta/tags.h), if it came to files or its tags were set. NULL: they are as they were. */
	const struct tag_set *tags;
	uint64_t session; /* who changed it, where the engine knows; 0: not known */
	/* From a faster channel than the authority (redis), which will tell it again. Fields that the hint does not know are 0: ver,
	 * data and lay, parent of a record that kept its name, and tags. */
	bool hint;
};
/* On threads of the engine (several, with a decorator), with no lock held; must not wait and must not call the engine. */
typedef void (*engine_news_fn)(void *arg, const struct news *n);

struct engine_ops {
	const char *name;
	unsigned int caps;
	void (*free)(struct engine *e);

	int (*get)(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret);
	int (*lookup)(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
		      struct entry *ret);
	int (*list)(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		    struct node_list *ret);
	int (*aliases)(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max);
	int (*query)(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret);
	uint32_t indexes; /* bit 1 << enum expr_field: fields that find() has an index of */
	int (*find)(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		    struct node_list *ret);
	uint64_t (*rows)(struct engine *e, struct op_ctx *op, const struct expr_term *t); /* NULL: not known */
	int (*tag_names)(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
			 size_t limit, struct blob_list *ret);
	int (*apply)(struct engine *e, struct op_ctx *op, struct change *c);
	int (*sync)(struct engine *e, struct op_ctx *op);
	int (*reserve)(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first);

	int (*versions_by_path)(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret);
	int (*versions_by_ino)(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret);
	int (*versions_expired)(struct engine *e, struct op_ctx *op, int64_t now, size_t limit,
				struct version_list *ret);
	int (*versions_all)(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data,
			    size_t limit, struct version_list *ret);
	int (*trash_by_path)(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret);
	int (*trash_before)(struct engine *e, struct op_ctx *op, int64_t before, size_t limit, struct node_list *ret);
	int (*dropped)(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit,
		       struct dropped_list *ret);
	int (*jobs)(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret);
	int (*jobs_count)(struct engine *e, struct op_ctx *op, uint64_t *ret);
	int (*sessions)(struct engine *e, struct op_ctx *op, struct session_list *ret);
	int (*slices_get)(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id, struct node_blob *ret);
	int (*slices_all)(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
			  struct slices_doc_list *ret);
	int (*todo_count)(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes);

	/* Everything there is, for dump and index log. */
	int (*snapshot)(struct engine *e, struct op_ctx *op, struct engine **ret);
	int (*next_number)(struct engine *e, struct op_ctx *op, uint64_t *ret);
	int (*aliases_all)(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret, size_t max);
	int (*jobs_from)(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
			 struct job_list *ret);

	/* Small records that are replaced by compare-and-set. */
	int (*cell_get)(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret);
	int (*cells)(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
		     struct cell_list *ret);

	/* News (ENGINE_NEWS). */
	int (*watch)(struct engine *e, engine_news_fn fn, void *arg);
	int64_t (*last_beat)(struct engine *e);
	int (*epoch)(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32]);

	int (*volume_get)(struct engine *e, struct op_ctx *op, struct volume_record *ret);
	int (*volume_put)(struct engine *e, struct op_ctx *op, const struct volume_record *v);
	/* Consistency of the engine's own storage (e.g. PRAGMA integrity_check): calls report for each fault. */
	int (*check)(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text), void *arg);
	int (*count)(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes);
};

void engine_free(struct engine *e); /* closes cleanly; and every engine below it. NULL: nothing */

/* The record with this id, whole, from files or (ATTR_IN_TRASH set) trash. -ESTALE: none. */
int engine_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct node *ret) MFS_NODISCARD;

/* -ENOENT: no such name. The alias is followed in the same call. */
int engine_lookup(struct engine *e, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name,
		  struct entry *ret) MFS_NODISCARD;

/*
 * Entries of a directory with pos > after, in order of pos, at most limit, appended to *ret as partial nodes: attr,
 * parent, name, pos of the *name* (for an alias: attr of its target, name/parent/pos of the alias). Fewer than limit:
 * the end. A directory that does not exist is empty. The cursor stays valid across renames and reopen.
 */
int engine_list(struct engine *e, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
		struct node_list *ret) MFS_NODISCARD;

/* The further names of a file, oldest first. Returns how many there are (may be > max); fills up to max. */
int engine_aliases(struct engine *e, struct op_ctx *op, mfs_ino_t target, struct alias *ret, size_t max) MFS_NODISCARD;

int engine_query(struct engine *e, struct op_ctx *op, const struct query *q, struct node_list *ret) MFS_NODISCARD;

/*
 * Searches (meta/expr.h). Records in files with an id above `after`, whole but for inline_data, slices and holes (which are
 * left out), in order of id, at most limit, appended: at least those that match the term (a HAS or a COMPARE), read by an
 * index; possibly others (an index keeps the first 128 bytes of a tag's value), so the caller looks at each again. The index
 * is part of the change that writes the record.
 * -ENOTSUP: there is no index for such a term (engine_indexes). limit 1..10000.
 */
uint32_t engine_indexes(const struct engine *e); /* for expr_plan() */
int engine_find(struct engine *e, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
		struct node_list *ret) MFS_NODISCARD;
/* How many rows the index has for the term, at most EXPR_ROWS_MAX; that much as well where it is not known. */
uint64_t engine_rows(struct engine *e, struct op_ctx *op, const struct expr_term *t);
/*
 * The names of tags in use (name NULL), or the values that the tag `name` has (their first 128 bytes; none for a bare one),
 * each once, in order of bytes, above `after` (NULL: from the first), at most limit, appended. Of all files, whoever may
 * see them. -ENOTSUP.
 */
int engine_tag_names(struct engine *e, struct op_ctx *op, const char *name, const void *after, size_t after_len,
		     size_t limit, struct blob_list *ret) MFS_NODISCARD;

/*
 * Apply, exactly once. Gives what the first failing write gives (meta/change.h); nothing has happened then.
 *   -EEXIST -ENOENT -ESTALE -EAGAIN -ENOTEMPTY -EINVAL  see meta/change.h
 *   -ECOMM  (from ops->apply only) the outcome is unknown: the dispatch sends it again with retry set, three times,
 *           and gives -EIO after that, or when the engine no longer remembers that far back.
 * c->id is filled in by the dispatch. With c->durable the change and all before it are safe from power loss on
 * return; else it is at the next durable one or engine_sync().
 */
int engine_apply(struct engine *e, struct op_ctx *op, struct change *c) MFS_NODISCARD;

/* All that was applied is safe from power loss. */
int engine_sync(struct engine *e, struct op_ctx *op) MFS_NODISCARD;

/* `count` numbers that nobody else ever gets, from the inode space (>= MFS_FIRST_INO). Lost if not used. */
int engine_reserve(struct engine *e, struct op_ctx *op, unsigned int count, uint64_t *ret_first) MFS_NODISCARD;

/* Newest (largest data / trash_time) first. Appended to *ret. Path without leading slash, compared byte by byte. */
int engine_versions_by_path(struct engine *e, struct op_ctx *op, const char *path, struct version_list *ret) MFS_NODISCARD;
int engine_versions_by_ino(struct engine *e, struct op_ctx *op, mfs_ino_t ino, struct version_list *ret) MFS_NODISCARD;
int engine_trash_by_path(struct engine *e, struct op_ctx *op, const char *path, struct node_list *ret) MFS_NODISCARD;
/* until <= now; in no order. trash_time < before; oldest first. */
int engine_versions_expired(struct engine *e, struct op_ctx *op, int64_t now, size_t limit, struct version_list *ret) MFS_NODISCARD;
int engine_trash_before(struct engine *e, struct op_ctx *op, int64_t before, size_t limit, struct node_list *ret) MFS_NODISCARD;
/* In order of (ino, data), from above (after_ino, after_data). */
int engine_versions_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_data, size_t limit, struct version_list *ret) MFS_NODISCARD;
/* at < before, id > after_id, in order of id. */
int engine_dropped(struct engine *e, struct op_ctx *op, int64_t before, uint64_t after_id, size_t limit, struct dropped_list *ret) MFS_NODISCARD;
/* due <= due_before, earliest first. */
int engine_jobs(struct engine *e, struct op_ctx *op, int64_t due_before, size_t limit, struct job_list *ret) MFS_NODISCARD;
int engine_jobs_count(struct engine *e, struct op_ctx *op, uint64_t *ret) MFS_NODISCARD;
int engine_sessions(struct engine *e, struct op_ctx *op, struct session_list *ret) MFS_NODISCARD;
/* One slices document: -ENOENT. *ret is the caller's. */
int engine_slices_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t id, struct node_blob *ret) MFS_NODISCARD;
/* All of them, with their blobs, in order of (ino, id), from above (after_ino, after_id). */
int engine_slices_all(struct engine *e, struct op_ctx *op, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
		      struct slices_doc_list *ret) MFS_NODISCARD;
/* Records in files with todo != 0, and the bytes of their inline_data. */
int engine_todo_count(struct engine *e, struct op_ctx *op, uint64_t *ret_records, uint64_t *ret_inline_bytes) MFS_NODISCARD;
/*
 * A read-only engine whose reads all see the state of one moment, that of this call. What was applied before is in it.
 * Short-lived: an sqlite log grows while there is one. Free it before e. Its apply and reserve give -EROFS.
 */
int engine_snapshot(struct engine *e, struct op_ctx *op, struct engine **ret) MFS_NODISCARD;
/* What reserve would give next: no record has a number at or above it. */
int engine_next_number(struct engine *e, struct op_ctx *op, uint64_t *ret) MFS_NODISCARD;
/* Aliases with an id above after_id, in order of id. Returns how many were filled, at most max. */
int engine_aliases_all(struct engine *e, struct op_ctx *op, uint64_t after_id, struct alias *ret, size_t max) MFS_NODISCARD;
/* Jobs at or behind `from`, in order of (kind, key, ino); key NULL counts as "". Appended. */
int engine_jobs_from(struct engine *e, struct op_ctx *op, const struct job_record *from, size_t limit,
		     struct job_list *ret) MFS_NODISCARD;

/*
 * Cells: a named value with a token, written by WRITE_CELL_PUT (meta/change.h). The name is PREFIX/REST; prefixes: "locks",
 * "leases", "shared", "schemas", "failures", "compose". cell_get: -ENOENT. cells: those whose name begins with `prefix`, above `after` (NULL: from the
 * first), in order of names compared byte by byte. -ENOTSUP: an engine without them.
 */
int engine_cell_get(struct engine *e, struct op_ctx *op, const char *name, struct cell_record *ret) MFS_NODISCARD;
int engine_cells(struct engine *e, struct op_ctx *op, const char *prefix, const char *after, size_t limit,
		 struct cell_list *ret) MFS_NODISCARD;

/*
 * Have news told, from now on; once, before the engine is shared between threads. fn NULL: no more (returns when no call
 * of it is under way). A decorator takes the news of its inner engine for itself and passes them on. -ENOTSUP.
 */
int engine_watch(struct engine *e, engine_news_fn fn, void *arg) MFS_NODISCARD;
/*
 * Monotonic ns at which the news channel was last known to work: all that was changed before that moment has been told.
 * INT64_MAX: nobody else can change anything. 0: no news yet.
 */
int64_t engine_last_beat(struct engine *e);
/*
 * The volume's cache epoch, and its secret, with which cached values outside are sealed. `begin`: a new epoch first, by an
 * atomic increment: what others cached before is not used by who begins one. -ENOTSUP: an engine nobody caches.
 */
int engine_epoch(struct engine *e, struct op_ctx *op, bool begin, uint64_t *ret, unsigned char secret[32]) MFS_NODISCARD;

/* -ENOENT: not formatted. volume_put also makes the root directory (mode 0755, uid/gid of op) when there is none. */
int engine_volume_get(struct engine *e, struct op_ctx *op, struct volume_record *ret) MFS_NODISCARD;
int engine_volume_put(struct engine *e, struct op_ctx *op, const struct volume_record *v) MFS_NODISCARD;
int engine_check(struct engine *e, struct op_ctx *op, void (*report)(void *arg, const char *text), void *arg) MFS_NODISCARD;
/* Records in files, and the sum of their sizes. */
int engine_count(struct engine *e, struct op_ctx *op, uint64_t *ret_files, uint64_t *ret_bytes) MFS_NODISCARD;

/*
 * Constructors; 0 or -errno, the caller owns *ret.
 *
 * mem: instances made with the same `shared` (mem_shared_new) see one index, as two mounts would.
 * sqlite: `path` is the database file; made if `create`. -ENOENT not there, -EUCLEAN not a massfs index or corrupt
 * (logged: what, and what to do), -EPROTONOSUPPORT a newer schema, -EPROTO an older one (see
 * sqlite_engine_upgrade). nosync: never fsync (a bench option).
 * cache_bytes bounds the page caches of all its connections together.
 */
struct mem_shared;
int mem_shared_new(struct mem_shared **ret) MFS_NODISCARD;
void mem_shared_free(struct mem_shared *s); /* after its engines */
int mem_engine_new(struct mem_shared *shared, struct engine **ret) MFS_NODISCARD;

struct sqlite_options {
	bool create, readonly, nosync;
	uint64_t cache_bytes; /* 0: 32 MiB */
};
int sqlite_engine_open(const char *path, const struct sqlite_options *opt, struct engine **ret) MFS_NODISCARD;
/* Make an index of an older schema one that sqlite_engine_open takes, all or nothing. Nobody has it open. *ret_from: the
 * schema that it had (MFS_SCHEMA: nothing was done). Errors as of the open. */
int sqlite_engine_upgrade(const char *path, uint32_t *ret_from) MFS_NODISCARD;

/*
 * mongo: a database of a replica set. `uri` is a mongodb:// or mongodb+srv:// URI and may hold a password: it is never
 * logged. deadline_ns: how long one call may take in all, whatever the servers do (0: 30 s). -EPROTONOSUPPORT, -EPROTO as
 * sqlite; -EINVAL: no replica set, or a URI that is not understood; -EIO: not reached. Reason in *ret_reason, the caller's.
 */
struct mongo_options {
	const char *uri, *database;
	bool create; /* make collections and indexes */
	bool readonly;
	int64_t deadline_ns;
	unsigned int pool_size; /* connections at most; 0: 32 */
};
int mongo_engine_open(const struct mongo_options *opt, struct engine **ret, char **ret_reason) MFS_NODISCARD;

/*
 * Of a mongo engine (its own database does not matter): a volume's collections go to another database of the server, which has
 * none of them. Each move is atomic, all together are not: the volume's own record goes first where it is taken away, last where
 * it is put in place, so what is there in part is no volume. *ret_any: there was something. A move that was done in part is done
 * again. And: the engine's whole database is removed.
 */
enum mongo_move { MONGO_MOVE_AWAY, MONGO_MOVE_IN };
int mongo_engine_move(struct engine *e, struct op_ctx *op, const char *from, const char *to, enum mongo_move how, bool *ret_any) MFS_NODISCARD;
int mongo_engine_drop(struct engine *e, struct op_ctx *op) MFS_NODISCARD;

/*
 * redis: a cache and a faster news channel over any engine with ENGINE_NEWS. Owns `inner` on success. `uri` is
 * redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] or unix:/PATH[?db=N&user=U&password=P], %XX decoded; never logged. Opens even when
 * Redis does not answer.
 * volume: the volume's uuid, part of each key. Bad or lost Redis costs speed, never correctness.
 */
struct redis_options {
	const char *uri, *volume;
	uint64_t ttl_s; /* after which Redis forgets a value by itself; 0: 1 hour */
};
int redis_engine_new(struct engine *inner, const struct redis_options *opt, struct engine **ret, char **ret_reason) MFS_NODISCARD;

/*
 * fault: the nth call (from 1) to an operation fails with -err; n = 0: none. With drop_reply the nth apply is carried
 * out, after `before_readback` (may be NULL) has run, but answered with -ECOMM. With fail_after it is carried out and
 * answered with -err: a log that could not be synced. Owns `inner` on success.
 */
struct fault_plan {
	unsigned int nth;
	int err;
	bool drop_reply, fail_after;
	void (*before_readback)(void *arg);
	void *arg;
};
int fault_engine_new(struct engine *inner, const struct fault_plan *plan, struct engine **ret) MFS_NODISCARD;
unsigned int fault_engine_calls(const struct engine *e);
unsigned int fault_engine_hits(const struct engine *e);

#endif
