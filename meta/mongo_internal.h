/*
 * What the files of the mongo engine share. Private to meta/mongo_*.
 *
 * mongo_pool.c, mongo_stream.c, mongo_run.c  connections, deadlines, commands, errors
 * mongo_fields.c, mongo_codec.c, mongo_edit.c  fields, node <-> document, an edit in place
 * mongo_records.c, mongo_side.c  side records <-> documents, their reads
 * mongo_read.c   get, lookup, list, query                      mongo_usage.c  sums for statfs
 * mongo_schema.c collections, indexes, volume, epoch, numbers  mongo_engine.c open, free, the ops table
 * mongo_apply*.c, mongo_touch.c, mongo_ops.c  apply by M1-M7   mongo_watch.c  the change stream
 *
 * Numbers are int64 (a uint64 keeps its bits), times int64 ns. A name or path that is valid UTF-8 is a string, else Binary
 * (mongo_put_bytes decides, alone). What is 0, empty or absent is left out of a document, but for _id, parent, name, pos,
 * type, mode, uid, gid, size, nlink, times, ver, data, lay of a record.
 *
 *   files   {_id, parent, name, pos, type, mode, uid, gid, size, nlink, children, rdev, times: {a, m, c}, created, ver, data,
 *           lay, flags, acl: true, label: true, store, bucket, key, version, etag, hash, obj, alloc, shared: true, symlink,
 *           xattrs: [{n: Binary, v: Binary}], creator: {uid, user, host}, mime, todo, pending, quota, dying, fenced: [int64],
 *           inline: Binary, slices: Binary, holes: Binary, ops: [...]}
 *           A nameless record (the root, O_TMPFILE) has parent 0 and its own number as name: the unique index (parent, name)
 *           then needs no exception. An alias is {_id, parent, name, pos (== _id), target}.
 *   trash   the same with path, trashed (time), openers: [int64]
 *   versions {_id: {ino, data}, ino, data, path, ...}   slices {_id: {ino, id}, ino, id, session, blob}
 *   dropped {_id, ...}   jobs {_id: {kind, ino, key}, kind, ino, key, due, token, tries}   sessions {_id, ...}
 *   locks, leases, shared: cells, {_id: the whole name PREFIX/REST, token, blob}
 *   usage {_id: an engine object's number | 0, files, bytes}   volume {_id: "volume" | "next" | "epoch" | "dirmoves", ...}
 *   ops {_id, at: Date, ...}: mongo_ops.c's; an index on `at` lets them expire after an hour
 */
#ifndef MASSFS_META_MONGO_INTERNAL_H
#define MASSFS_META_MONGO_INTERNAL_H

#include <mongoc/mongoc.h>

#include "common/op_ctx.h"
#include "common/sync.h"
#include "meta/engine.h"

#define MONGO_FILES    "files"
#define MONGO_TRASH    "trash"
#define MONGO_VERSIONS "versions"
#define MONGO_SLICES   "slices"
#define MONGO_DROPPED  "dropped"
#define MONGO_JOBS     "jobs"
#define MONGO_SESSIONS "sessions"
#define MONGO_OPS      "ops"
#define MONGO_VOLUME   "volume"
#define MONGO_USAGE    "usage"

const char *mongo_schema_collection(size_t i); /* the names of all that a volume has; NULL: no more */

struct mongo_apply; /* mongo_apply.c's own state */
struct mongo_watch; /* mongo_watch.c's */
struct mongo_usage; /* mongo_usage.c's */

struct mongo_engine {
	struct engine base;
	mongoc_uri_t *uri; /* with our time-outs and concerns; retries of libmongoc's own are off. Never logged */
	char *database;
	char *where; /* the hosts, for log lines: no user, no password */
	int64_t deadline_ns;
	bool readonly;
	struct mongo_pool *pool;
	struct mongo_apply *apply;
	struct mongo_watch *watch;
	struct mongo_usage *usage;
	/* An engine_snapshot: its reads are made one after the other on `own`, in the session `snapshot`. Else NULL. */
	mongoc_client_session_t *snapshot;
	struct mongo_conn *own;
	struct mongo_engine *parent;
	struct mfs_mutex own_lock; /* held by the call that has `own` */
};

static inline struct mongo_engine *mongo_of(struct engine *e)
{
	return mfs_container_of(e, struct mongo_engine, base);
}

/* --- connections and commands (mongo_pool.c, mongo_run.c) --- */

/* One connection, lent to one call on one thread. */
struct mongo_conn {
	struct mongo_conn *next;
	struct mongo_engine *m;
	struct op_ctx *op; /* of the call; may be NULL */
	int64_t until;	   /* monotonic: when the call must be over. Bounds every wait on a socket of `client` */
	mongoc_client_t *client;
	mongoc_client_session_t *session; /* mongo_conn_begin(): kept with the connection */
	bool broken;			  /* a command's outcome is unknown */
	bool open;			  /* a transaction was begun in this call, and its commit is not confirmed */
};

/* mongo_pool.c. pool_size connections at most, made as they are needed. */
int mongo_pool_new(struct mongo_engine *m, unsigned int size, struct mongo_pool **ret) MFS_NODISCARD;
void mongo_pool_free(struct mongo_pool *p); /* every connection is back */
/* mongo_stream.c: from now on no wait on a socket of c's client is longer than c->until. */
void mongo_bound_streams(struct mongo_conn *c);

/* Waits for a free one until the deadline. -EIO (logged), -ENOMEM. */
int mongo_conn_get(struct mongo_engine *m, struct op_ctx *op, struct mongo_conn **ret) MFS_NODISCARD;
void mongo_conn_put(struct mongo_conn *c); /* ends a transaction that is, or may be, under way; NULL: nothing */
MFS_DEFINE_AUTO(mongo_conn, struct mongo_conn, mongo_conn_put);
/*
 * A transaction begun on the connection's session, which is made at its first use, not causally consistent, with
 * snapshot/majority/primary as default. -EDEADLK: nobody answers, try again; -EIO (logged).
 */
int mongo_conn_begin(struct mongo_conn *c, mongoc_client_session_t **ret) MFS_NODISCARD;
/* ms until c->until, at least 1; 0: it is over. */
int64_t mongo_left_ms(const struct mongo_conn *c);
/* Sleep for so long, but not beyond the deadline: -EIO when it has come (logs nothing), -ECANCELED (op->cancelled). */
int mongo_pause(struct mongo_conn *c, int64_t ns) MFS_NODISCARD;

/*
 * Errors, as errno:
 *   -EEXIST  duplicate key                    -EDEADLK  TransientTransactionError, WriteConflict: from the start again
 *   -ECOMM   a write whose outcome is unknown: the connection broke, maxTimeMS passed, the majority did not answer,
 *            UnknownTransactionCommitResult. Nothing is logged then but the outage
 *   -EIO     the deadline came, or the server refused (logged)      -ENOSPC, -EFBIG (over 16 MiB), -EROFS, -ENOMEM
 */
enum mongo_run_flags {
	MONGO_READ = 0,
	MONGO_WRITE = 1u << 0,	 /* majority, journaled. Not sent again once it may have been done: -ECOMM */
	MONGO_IN_TXN = 1u << 1,	 /* in c->session's transaction: concerns are left out, and no retry at all */
	MONGO_AGAIN = 1u << 2,	 /* a write that may be done twice: sent again until the deadline */
	MONGO_QUIET = 1u << 3,	 /* the caller logs a refusal itself */
	MONGO_ADMIN = 1u << 4,	 /* on the database `admin` */
	MONGO_ADMIN_READ = 1u << 5, /* a read that takes no read concern (listIndexes...) */
};
/*
 * Run a command with maxTimeMS of what is left. While there is no primary it waits (nothing was sent); a read is repeated
 * until the deadline. Errors in the reply (ok: 0, writeErrors, writeConcernError) are errors here. *reply is always
 * initialised, the caller's to destroy.
 */
int mongo_run(struct mongo_conn *c, unsigned int flags, const bson_t *cmd, bson_t *reply) MFS_NODISCARD;
/* The same mapping for a failed call of libmongoc's; reply may be NULL. Logs, unless MONGO_QUIET. */
int mongo_error(struct mongo_conn *c, unsigned int flags, const bson_error_t *err, const bson_t *reply);
/* Note that the server answered, or that it did not: one log line an outage, one when it is over. */
void mongo_health(struct mongo_engine *m, const bson_error_t *failed); /* NULL: it answered */

/* Called for each document. 0: go on; else it ends and gives that. doc NULL: the find begins anew, forget what came. */
typedef int (*mongo_doc_fn)(void *arg, const bson_t *doc);
/* opts as of the find command: sort, projection, limit, hint... (NULL: none); batchSize is the limit. Read concern local on
 * the primary, or the transaction's (MONGO_IN_TXN). */
int mongo_find(struct mongo_conn *c, unsigned int flags, const char *collection, const bson_t *filter, const bson_t *opts,
	       mongo_doc_fn fn, void *arg) MFS_NODISCARD;
/* The first; -ENOENT. *ret is initialised on success only. */
int mongo_find_one(struct mongo_conn *c, unsigned int flags, const char *collection, const bson_t *filter,
		   const bson_t *opts, bson_t *ret) MFS_NODISCARD;

/* --- fields (mongo_fields.c) --- */

/* libbson asks for 128 bytes of alignment, which gcc does not keep for what is on a thread's stack under ASan. */
typedef bson_iter_t mongo_iter __attribute__((aligned(16)));

/* Reading one document of untrusted content: the first thing that is wrong stays, and the rest reads as absent. */
struct mongo_doc {
	const bson_t *bson;
	const char *collection; /* for the log line */
	const char *bad;	/* NULL: good so far; else which field */
	int err;		/* -EUCLEAN, or -ENOMEM */
	bool found;		/* one was, at `last` */
	mongo_iter last;
};
/* field may be dotted ("times.a"). Absent: `def`; required: mongo_doc_need_*. */
int64_t mongo_doc_i64(struct mongo_doc *d, const char *field, int64_t def);
uint64_t mongo_doc_u64(struct mongo_doc *d, const char *field);
uint64_t mongo_doc_need(struct mongo_doc *d, const char *field);
uint32_t mongo_doc_u32(struct mongo_doc *d, const char *field); /* out of [0, 2^32): bad */
bool mongo_doc_bool(struct mongo_doc *d, const char *field);
char *mongo_doc_string(struct mongo_doc *d, const char *field, size_t max);   /* owned, NULL: absent; string or Binary without NUL */
void mongo_doc_chars(struct mongo_doc *d, const char *field, char *buf, size_t size);
void mongo_doc_blob(struct mongo_doc *d, const char *field, size_t max, struct node_blob *ret);
void mongo_doc_name(struct mongo_doc *d, const char *field, struct mfs_name *ret); /* -EUCLEAN unless it is a legal name */
/* Into an array or document field: false when it is absent (or bad: of another type). */
bool mongo_doc_iter(struct mongo_doc *d, const char *field, bson_type_t type, bson_iter_t *ret);
void mongo_doc_fault(struct mongo_doc *d, const char *field, int err);
/* The bytes of a string or Binary; false: it is neither. */
bool mongo_iter_bytes(const bson_iter_t *it, const void **ret, size_t *ret_len);
/* 0, or the error, with a log line that names collection, _id and field. */
int mongo_doc_end(struct mongo_doc *d) MFS_NODISCARD;

void mongo_put_u64(bson_t *b, const char *field, uint64_t v);
void mongo_put_bytes(bson_t *b, const char *field, const void *p, size_t len); /* string or Binary */
void mongo_put_string(bson_t *b, const char *field, const char *s);	       /* NULL: nothing */
void mongo_put_blob(bson_t *b, const char *field, const struct node_blob *v); /* absent: nothing */
void mongo_put_name(bson_t *b, const char *field, const struct mfs_name *n);

/* --- records <-> documents (mongo_codec.c). parse: *ret is initialised by it, empty on failure (-EUCLEAN logged) --- */

/* Groups of fields, for mongo_edit.c and others. */
void mongo_put_mode(const struct mfs_attr *a, bson_t *doc);
void mongo_put_times(const struct mfs_attr *a, bson_t *doc);
void mongo_put_ref(const struct object_ref *ref, bson_t *doc);
void mongo_put_xattrs(const struct node *n, bson_t *doc);
bool mongo_put_tags(const struct node *n, bson_t *doc); /* mongo_find.c; false: it has none, nothing was put */
void mongo_take_tags(const bson_iter_t *array, struct tag_set *ret); /* which ones the field `tags` has */
void mongo_put_flags(uint32_t flags, bson_t *doc);
void mongo_put_sessions(bson_t *doc, const char *field, const struct node_blob *b); /* empty: nothing */
void mongo_get_ref(struct mongo_doc *d, struct object_ref *ret);
uint32_t mongo_flags_of(const struct node *n); /* those of its xattrs */
/* A whole record; all but `ops`, which the caller appends. In trash: ATTR_IN_TRASH is set in the node. */
void mongo_node_put(const struct node *n, bson_t *doc);
/* A whole document, or one by mongo_list_projection (then the node is partial). */
int mongo_node_parse(const bson_t *doc, bool in_trash, bool partial, struct node *ret) MFS_NODISCARD;
/* The attributes alone: of a document that a findAndModify gave with mongo_attr_projection, or of a whole one. */
int mongo_attr_parse(const bson_t *doc, bool in_trash, struct mfs_attr *ret) MFS_NODISCARD;
void mongo_alias_put(const struct alias *a, bson_t *doc);
int mongo_alias_parse(const bson_t *doc, struct alias *ret) MFS_NODISCARD;
bool mongo_is_alias(const bson_t *doc);
/* {inline: 0, slices: 0, ...}: what listings, and attributes, leave out. Appended to `projection`. */
void mongo_list_projection(bson_t *projection);
#define mongo_attr_projection mongo_list_projection

/*
 * What an edit in place is: the fields of w->mask from w->node into set and unset, and nlink_delta, ver, data, lay into inc
 * (as change_edit() does it; not where a record is: no rename). What w->expect asks goes into filter (which has _id already);
 * EXPECT_IN_FILES and EXPECT_IN_TRASH are the collection's, not in it.
 */
void mongo_edit_put(const struct write *w, bson_t *set, bson_t *unset, bson_t *inc);
void mongo_expect_put(const struct expect *x, bson_t *filter);

void mongo_version_put(const struct version_record *v, bson_t *doc);
int mongo_version_parse(const bson_t *doc, struct version_record *ret) MFS_NODISCARD;
void mongo_dropped_put(const struct dropped_record *d, bson_t *doc);
int mongo_dropped_parse(const bson_t *doc, struct dropped_record *ret) MFS_NODISCARD;
void mongo_job_put(const struct job_record *j, bson_t *doc);
int mongo_job_parse(const bson_t *doc, struct job_record *ret) MFS_NODISCARD;
void mongo_session_put(const struct session_record *s, bson_t *doc);
int mongo_session_parse(const bson_t *doc, struct session_record *ret) MFS_NODISCARD;
void mongo_slices_put(const struct slices_doc_record *s, bson_t *doc);
int mongo_slices_parse(const bson_t *doc, struct slices_doc_record *ret) MFS_NODISCARD;
void mongo_cell_put(const struct cell_record *c, bson_t *doc);
int mongo_cell_parse(const bson_t *doc, struct cell_record *ret) MFS_NODISCARD;
/* {_id: ...} of a side record, appended to doc: filters use the same. */
void mongo_version_id(mfs_ino_t ino, uint64_t data, bson_t *doc);
void mongo_slices_id(mfs_ino_t ino, uint64_t id, bson_t *doc);
void mongo_job_id(const struct job_record *j, bson_t *doc);
/* "locks", "leases", "shared", "schemas", "failures", "compose": the collection of a cell; NULL: no such prefix. */
const char *mongo_cell_collection(const char *name);

/* --- reads (mongo_read.c, mongo_side.c): as the functions of meta/engine.h; lists are appended to --- */

int mongo_find_nodes(struct mongo_conn *c, bool trash, bool partial, const bson_t *filter, const bson_t *opts,
		     struct node_list *ret) MFS_NODISCARD;
/* Documents that match (NULL: all of them). */
int mongo_count(struct mongo_conn *c, const char *collection, const bson_t *filter, uint64_t *ret) MFS_NODISCARD;
int mongo_get(struct mongo_conn *c, mfs_ino_t ino, struct node *ret) MFS_NODISCARD;
int mongo_lookup(struct mongo_conn *c, mfs_ino_t parent, const struct mfs_name *name, struct entry *ret) MFS_NODISCARD;
int mongo_list(struct mongo_conn *c, mfs_ino_t parent, uint64_t after, size_t limit, struct node_list *ret) MFS_NODISCARD;
/* mongo_find.c: engine_find() of these fields, engine_tag_names(). */
#define MONGO_INDEXES (1u << FIELD_TAG | 1u << FIELD_HASH | 1u << FIELD_CREATED)
int mongo_find_term(struct mongo_conn *c, const struct expr_term *t, mfs_ino_t after, size_t limit, struct node_list *ret) MFS_NODISCARD;
int mongo_rows(struct mongo_conn *c, const struct expr_term *t, uint64_t *ret) MFS_NODISCARD; /* engine_rows() */
int mongo_tag_names(struct mongo_conn *c, const char *name, const void *after, size_t after_len, size_t limit,
		    struct blob_list *ret) MFS_NODISCARD;
int mongo_aliases(struct mongo_conn *c, mfs_ino_t target, struct alias *ret, size_t max) MFS_NODISCARD;
int mongo_aliases_all(struct mongo_conn *c, uint64_t after_id, struct alias *ret, size_t max) MFS_NODISCARD;
int mongo_query(struct mongo_conn *c, const struct query *q, struct node_list *ret) MFS_NODISCARD;
int mongo_todo_count(struct mongo_conn *c, uint64_t *ret_records, uint64_t *ret_inline_bytes) MFS_NODISCARD;
/* path NULL: by ino. */
int mongo_versions_by(struct mongo_conn *c, const char *path, mfs_ino_t ino, struct version_list *ret) MFS_NODISCARD;
int mongo_versions_expired(struct mongo_conn *c, int64_t now, size_t limit, struct version_list *ret) MFS_NODISCARD;
int mongo_versions_all(struct mongo_conn *c, mfs_ino_t after_ino, uint64_t after_data, size_t limit,
		       struct version_list *ret) MFS_NODISCARD;
int mongo_trash_by_path(struct mongo_conn *c, const char *path, struct node_list *ret) MFS_NODISCARD;
int mongo_trash_before(struct mongo_conn *c, int64_t before, size_t limit, struct node_list *ret) MFS_NODISCARD;
int mongo_dropped(struct mongo_conn *c, int64_t before, uint64_t after_id, size_t limit, struct dropped_list *ret) MFS_NODISCARD;
int mongo_jobs(struct mongo_conn *c, int64_t due_before, size_t limit, struct job_list *ret) MFS_NODISCARD;
int mongo_jobs_from(struct mongo_conn *c, const struct job_record *from, size_t limit, struct job_list *ret) MFS_NODISCARD;
int mongo_sessions(struct mongo_conn *c, struct session_list *ret) MFS_NODISCARD;
int mongo_slices_get(struct mongo_conn *c, mfs_ino_t ino, uint64_t id, struct node_blob *ret) MFS_NODISCARD;
int mongo_slices_all(struct mongo_conn *c, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
		     struct slices_doc_list *ret) MFS_NODISCARD;
int mongo_cell_get(struct mongo_conn *c, const char *name, struct cell_record *ret) MFS_NODISCARD;
int mongo_cells(struct mongo_conn *c, const char *prefix, const char *after, size_t limit, struct cell_list *ret) MFS_NODISCARD;

/* --- the volume (mongo_schema.c) --- */

/* count numbers from the inode space. */
int mongo_reserve(struct mongo_conn *c, unsigned int count, uint64_t *ret_first) MFS_NODISCARD;
int mongo_next_number(struct mongo_conn *c, uint64_t *ret) MFS_NODISCARD;
int mongo_epoch_get(struct mongo_conn *c, bool begin, uint64_t *ret, unsigned char secret[32]) MFS_NODISCARD;
int mongo_volume_get(struct mongo_conn *c, struct volume_record *ret) MFS_NODISCARD; /* -ENOENT */
int mongo_volume_put(struct mongo_conn *c, const struct op_ctx *op, const struct volume_record *v) MFS_NODISCARD;
int mongo_schema_create(struct mongo_conn *c) MFS_NODISCARD; /* what is not there yet */
int mongo_schema_verify(struct mongo_conn *c, void (*report)(void *arg, const char *text), void *arg) MFS_NODISCARD;
/* -ENOENT, -EPROTONOSUPPORT, -EPROTO with the reason. */
int mongo_schema_check(struct mongo_conn *c, char **ret_reason) MFS_NODISCARD;

/* --- sums for statfs (mongo_usage.c): what an applied change adds to files in number and in bytes --- */
int mongo_usage_init(struct mongo_engine *m) MFS_NODISCARD;
void mongo_usage_free(struct mongo_engine *m); /* tells what was not told yet */
void mongo_usage_add(struct mongo_engine *m, int64_t files, int64_t bytes);
int mongo_usage_sum(struct mongo_conn *c, uint64_t *ret_files, uint64_t *ret_bytes) MFS_NODISCARD;
/* Counts what is there, and puts the sums right when they were off. Goes through all of `files`. */
int mongo_usage_repair(struct mongo_conn *c) MFS_NODISCARD;

/* --- snapshots (mongo_snapshot.c): engine_snapshot() and the end of one --- */

int mongo_snapshot(struct mongo_engine *m, struct op_ctx *op, struct engine **ret) MFS_NODISCARD;
void mongo_snapshot_free(struct mongo_engine *s);

/* --- opening (mongo_uri.c) --- */

/*
 * The options' URI, checked, with our time-outs: of a replica set (a set's name that is not in it is asked for), or a clear
 * refusal. *ret_where: the hosts, for log lines. -EINVAL, -EIO, -EPROTONOSUPPORT with *ret_reason.
 */
int mongo_uri_open(const struct mongo_options *opt, int64_t deadline_ns, mongoc_uri_t **ret, char **ret_where,
		   char **ret_reason) MFS_NODISCARD;
/* libmongoc's once-only set-up, its log into ours. */
void mongo_library_init(void);

/* --- changes (mongo_apply*.c, mongo_touch.c, mongo_ops.c) and news (mongo_watch.c) --- */

int mongo_apply_init(struct mongo_engine *m) MFS_NODISCARD; /* after the pool, before any call. Sets m->apply */
void mongo_apply_free(struct mongo_engine *m);		     /* also of one whose init failed, or was not called */
int mongo_apply(struct engine *e, struct op_ctx *op, struct change *c);

int mongo_watch_init(struct mongo_engine *m) MFS_NODISCARD; /* no thread before mongo_watch_set */
void mongo_watch_free(struct mongo_engine *m);
int mongo_watch_set(struct engine *e, engine_news_fn fn, void *arg);
int64_t mongo_last_beat(struct engine *e);

#endif
