/*
 * The seam between the filesystem and whatever holds the bytes.
 *
 * A store maps (key, version) to an immutable sequence of bytes. Every put makes a new version; the newest version or
 * marker at a key is its *top*, which is what a person or an S3 tool sees there. Stores: localdir, mem (tests), s3.
 * Decorators: fault (tests).
 *
 * Errors: 0 (or a byte count) or -errno:
 *     -ENOENT     no such key or version            -EACCES     the credentials do not allow it
 *     -EINVAL     the key is not legal here         -ENOSPC     full or over quota     -EROFS  read-only
 *     -EUCLEAN    the object is shorter than it was (damaged); logged
 *     -ETIMEDOUT -ECANCELED  op                     -ENOMEM  -EIO  anything else; the store has logged the reason
 * ret_* are written on success only.
 *
 * Durability: put, complete, copy, put_marker and delete_version return when what they did survives a power loss
 * (unless the store was opened with nosync).
 *
 * Threads: every call from any thread, several at once, also on one key. No lock of a caller is taken. Calls block;
 * none is made with a lock of fs/ held (docs/locking.md). Units: bytes, ns since the epoch.
 */
#ifndef MASSFS_BACKEND_OBJECT_STORE_H
#define MASSFS_BACKEND_OBJECT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/defs.h"
#include "common/object_ref.h"

struct op_ctx;

#define OBJECT_PART_MIN (UINT64_C(5) << 20) /* every part but the last, a rule of S3 */

/* Written with an upload: tells an own version from a foreign one, and what the file was then. */
struct object_meta {
	uint64_t ino, session, op;
	uint32_t mode, uid, gid; /* permission bits only; setuid, setgid, sticky are kept out of the store */
	int64_t mtime;
	bool apart; /* of a copy: its source stays on show under a key of its own, so they must not be one file (localdir) */
};

struct object_info {
	uint64_t size;
	uint64_t alloc; /* bytes it takes in the store (st_blocks * 512 in localdir; else size) */
	int64_t mtime;
	char version[OBJECT_VERSION_MAX + 1];
	char etag[OBJECT_ETAG_MAX + 1]; /* "" if unknown */
	bool is_marker;
	bool own;		   /* made by massfs: ino, session, op are known; else it is foreign */
	uint64_t ino, session, op; /* 0 when not own */
	uint32_t mode, uid, gid;   /* where the store knows them: permission bits (localdir: of own ones without the
				      writing bits) and owner */
	bool not_shown; /* stored, but the key's view is blocked (a folder in its place, or a file where one must be):
			   the caller queues the key for the reconciler */
	bool crowded; /* of what was put: the key has got many versions (OBJECT_CAP_KEY_HIDES): to be queued, too */
};

/* key is NULL where the store does not know it (localdir, list_versions). Non-zero stops the walk and is returned. */
typedef int object_list_fn(void *arg, const char *key, const struct object_info *info);

/*
 * Keys below this are never on show: their objects are addressed by version only. A store need not make them the top of
 * anything (localdir makes no view); head without a version and list_keys may not know them. list_versions does.
 */
#define OBJECT_HIDDEN_PREFIX ".massfs/patch/"
/* The same, of old versions that had to leave their keys (OBJECT_CAP_KEY_HIDES). */
#define OBJECT_VERSIONS_PREFIX ".massfs/versions/"

struct object_store {
	const struct object_store_ops *ops;
	/* Kept by the dispatch, from its opening on: what went over to the store, and what it copied on its side. */
	_Atomic uint64_t bytes_put, bytes_copied;
};

/* An upload in parts, from begin to the complete or abort that ends it. */
struct object_upload {
	struct object_store *store;
};

enum object_caps {
	OBJECT_CAP_SPARSE = 1u << 0, /* parts may leave gaps, which read as zeros and cost nothing */
	OBJECT_CAP_FD = 1u << 1,     /* open_fd works */
	OBJECT_CAP_CHEAP_COPY = 1u << 2, /* copy moves no bytes */
	OBJECT_CAP_UPLOAD_READ = 1u << 3, /* upload_read works */
	/* Whatever a key holds, a marker too, hides the keys below it (KEY/...) from lists, and many versions on one key make
	 * puts slow: list_key works, and the reconciler clears keys with its help. */
	OBJECT_CAP_KEY_HIDES = 1u << 4,
};

/* The name of an upload that outlives its process (printable ASCII without blanks). */
#define OBJECT_UPLOAD_NAME_MAX 1088
/* Is this unfinished upload still wanted? key is NULL where the store does not know it. */
typedef bool object_keep_fn(void *arg, const char *key, const char *name);

struct object_statfs {
	uint64_t total, free, avail; /* bytes */
	uint64_t files, ffree;
};

struct object_store_ops {
	const char *name;
	unsigned int caps;
	void (*free)(struct object_store *s);
	bool (*key_is_legal)(struct object_store *s, const char *key);
	int (*put)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const void *buf, size_t len,
		   const struct object_meta *meta, struct object_info *ret);
	int (*begin)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		     const struct object_meta *meta, struct object_upload **ret);
	int (*part)(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off, const void *buf, size_t len);
	int (*part_copy)(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			 const struct object_ref *src, uint64_t src_off, uint64_t len);
	int (*complete)(struct object_upload *u, struct op_ctx *op, uint64_t size, const struct object_meta *meta,
			struct object_info *ret);
	void (*abort)(struct object_upload *u, struct op_ctx *op);
	/* NULL, all four: uploads do not outlive the process. */
	int (*begin_named)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			   const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX], struct object_upload **ret);
	int (*resume)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		      const struct object_meta *meta, const char *name, struct object_upload **ret);
	bool (*has_part)(struct object_upload *u, unsigned int number, uint64_t off, uint64_t len);
	void (*leave)(struct object_upload *u, struct op_ctx *op);
	ssize_t (*upload_read)(struct object_upload *u, struct op_ctx *op, uint64_t off, void *buf, size_t len);
	ssize_t (*get)(struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t off, void *buf, size_t len);
	int (*open_fd)(struct object_store *s, struct op_ctx *op, const struct object_ref *ref);
	int (*head)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const char *version,
		    struct object_info *ret);
	int (*copy)(struct object_store *s, struct op_ctx *op, const struct object_ref *src, const char *bucket,
		    const char *key, const struct object_meta *meta, struct object_info *ret);
	int (*delete_version)(struct object_store *s, struct op_ctx *op, const struct object_ref *ref);
	int (*set_aside)(struct object_store *s, struct op_ctx *op, const struct object_ref *ref); /* NULL: cannot */
	int (*put_marker)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key);
	int (*hold)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, struct object_info *ret);
	int (*list_keys)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix, object_list_fn *fn, void *arg);
	int (*list_versions)(struct object_store *s, struct op_ctx *op, const char *bucket, object_list_fn *fn, void *arg);
	int (*list_key)(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, object_list_fn *fn, void *arg);
	bool (*key_is_crowded)(struct object_store *s, const char *key);
	int (*statfs)(struct object_store *s, struct op_ctx *op, struct object_statfs *ret);
	int (*sweep)(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg, uint64_t *ret_n,
		     uint64_t *ret_bytes);
};

static inline unsigned int object_store_caps(const struct object_store *s)
{
	return s->ops->caps;
}

void object_store_free(struct object_store *s); /* and every store below it; no upload may be under way. NULL: nothing */

/* May this key be put? (Non-empty UTF-8, <= OBJECT_KEY_MAX, no empty, "." or ".." segment, segments <= 255 bytes.) */
bool object_key_is_legal(struct object_store *s, const char *key);

/* A whole object. buf is borrowed until the call returns. Round trips: 1. */
int object_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const void *buf, size_t len,
	       const struct object_meta *meta, struct object_info *ret) MFS_NODISCARD;

/*
 * In parts: parts may be sent in any order and from several threads at once; numbers start at 1 and rise with the
 * offset; all but the last have at least OBJECT_PART_MIN bytes (except with OBJECT_CAP_SPARSE, where offsets need not
 * meet). Sent twice, a part counts once with the later bytes. Nothing is visible before complete. `size` is the
 * object's whole size (>= the last part's end). complete and abort both end the upload and free it, whatever they
 * return; after a failed complete nothing is left. No part call may be under way then.
 * part_copy takes the bytes from another object of this store, on the server's side.
 */
int object_upload_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			const struct object_meta *meta, struct object_upload **ret) MFS_NODISCARD;
int object_upload_part(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off, const void *buf,
		       size_t len) MFS_NODISCARD;
int object_upload_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			    const struct object_ref *src, uint64_t src_off, uint64_t len) MFS_NODISCARD;
int object_upload_complete(struct object_upload *u, struct op_ctx *op, uint64_t size, const struct object_meta *meta,
			   struct object_info *ret) MFS_NODISCARD;
void object_upload_abort(struct object_upload *u, struct op_ctx *op); /* NULL: nothing */
/*
 * An upload that another process may go on with: its parts are sent one after the other, in order. `name` is what it is
 * called. -EOPNOTSUPP: this store has none. resume: with the meta and key that it was begun with. -ENOENT: there is none of
 * that name any more (it may have become an object); -EBUSY: somebody of this machine is at it (not every store can tell).
 * has_part: is this part, of this length, there and safe from power loss? Then it need not be sent again; it must be asked
 * for each that is not. leave: ends the handle, not the upload.
 */
int object_upload_begin_named(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			      const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX],
			      struct object_upload **ret) MFS_NODISCARD;
int object_upload_resume(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			 const struct object_meta *meta, const char *name, struct object_upload **ret) MFS_NODISCARD;
bool object_upload_has_part(struct object_upload *u, unsigned int number, uint64_t off, uint64_t len);
void object_upload_leave(struct object_upload *u, struct op_ctx *op);
/* OBJECT_CAP_UPLOAD_READ: what was sent so far, before it is complete; gaps read as zeros, short at the furthest end.
 * Not beside a part call for the same range. */
ssize_t object_upload_read(struct object_upload *u, struct op_ctx *op, uint64_t off, void *buf, size_t len) MFS_NODISCARD;

/*
 * Bytes of exactly that version. Returns the count: short only at the object's end. -ENOENT: it is missing (for a ref
 * that the index names, the caller turns that into EIO and an alarm, never a hole).
 */
ssize_t object_get(struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t off, void *buf,
		   size_t len) MFS_NODISCARD;

/* OBJECT_CAP_FD: a read-only descriptor (O_CLOEXEC) of that version, which stays readable after delete_version. */
int object_open_fd(struct object_store *s, struct op_ctx *op, const struct object_ref *ref) MFS_NODISCARD;

/* What is at the key: that version, or (version NULL) the top. -ENOENT: nothing, or the top is a marker. */
int object_head(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, const char *version,
		struct object_info *ret) MFS_NODISCARD;

/*
 * A new version at `key` with the bytes of src, on the server's side, which becomes the key's top. localdir: a hard
 * link, no bytes move (meta's mode, owner and mtime are then those of all versions that share the data).
 * With key == src->key it puts an older version on top again (localdir: info.version == src->version, no new one).
 */
int object_copy(struct object_store *s, struct op_ctx *op, const struct object_ref *src, const char *bucket,
		const char *key, const struct object_meta *meta, struct object_info *ret) MFS_NODISCARD;

/* Gone already: success. Does not change what other versions the key has; if it was the top, the view goes too. */
int object_delete_version(struct object_store *s, struct op_ctx *op, const struct object_ref *ref) MFS_NODISCARD;

/*
 * A damaged version: nobody reads it any more (as after delete_version), but its bytes are kept where a person finds them
 * (localdir: .massfs/damaged/VERSION). -ENOENT: there is none. -EOPNOTSUPP: this store cannot.
 */
int object_set_aside(struct object_store *s, struct op_ctx *op, const struct object_ref *ref) MFS_NODISCARD;

/* The key shows nothing from now on; versions stay. localdir: unlinks the view and prunes empty folders. Nothing
 * there: success. A foreign file there (not made by massfs) is kept as a version (localdir: linked into v/) first. */
int object_put_marker(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key) MFS_NODISCARD;

/*
 * The foreign object on top of the key gets a version id if it has none, by which it can be read and deleted; it stays
 * on top. -ENOENT: nothing foreign is there. -EAGAIN: somebody writes it at this moment. localdir: a name in v/ and the
 * label; until that version is deleted the file is kept, whatever becomes of the key.
 */
int object_hold(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		struct object_info *ret) MFS_NODISCARD;

/* Keys whose top is an object, in byte order of the store's walk, below prefix ("" for all). */
int object_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix,
		     object_list_fn *fn, void *arg) MFS_NODISCARD;
/* Every version there is, in no order. */
int object_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket, object_list_fn *fn,
			 void *arg) MFS_NODISCARD;
/* What exactly this key holds, the newest first, markers too (delete_version takes one of these away). OBJECT_CAP_KEY_HIDES, mem:
 * -EOPNOTSUPP. */
int object_list_key(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key, object_list_fn *fn,
		    void *arg) MFS_NODISCARD;
/* Was a put of this key told to be crowded since this was last asked? (May be true of another key.) */
bool object_key_is_crowded(struct object_store *s, const char *key);
int object_statfs(struct object_store *s, struct op_ctx *op, struct object_statfs *ret) MFS_NODISCARD;
/* What unfinished uploads of earlier runs left (localdir: files in tmp/ not of this process): counted, or deleted. */
int object_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, uint64_t *ret_n, uint64_t *ret_bytes) MFS_NODISCARD;
/* The same but for those that keep() says yes to. */
int object_sweep_but(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg,
		     uint64_t *ret_n, uint64_t *ret_bytes) MFS_NODISCARD;

/*
 * Constructors; 0 or -errno, the caller owns *ret.
 *
 * localdir: `dir` is the volume's directory (objects/ and .massfs/ are made in it if create). -ENOTSUP: its filesystem
 * has no hard links or no user xattrs (logged). session: goes into version ids.
 */
struct localdir_options {
	bool create, readonly, nosync;
};
int localdir_store_open(const char *dir, const struct localdir_options *opt, struct object_store **ret) MFS_NODISCARD;
int mem_store_new(struct object_store **ret) MFS_NODISCARD;

/*
 * s3: one bucket of MinIO or any S3 with versioning, reached through one or several nodes. Opening it asks the server:
 * versioning is on (create: turned on, and the bucket made), no lifecycle rule deletes versions.
 *
 * Each call ends by its op's deadline; one without, by timeout_ns. All strings are borrowed until the call returns.
 */
struct s3_options {
	const char *endpoints; /* "http://a:9000,http://[::1]:9001": separated by commas or blanks */
	const char *bucket;
	const char *region; /* NULL: us-east-1 */
	const char *prefix; /* in front of every key; NULL: none */
	const char *places; /* rules "PATH BUCKET[/PREFIX/] [STORAGE_CLASS], ...": keys below PATH go there; NULL: none */
	const char *access_key, *secret_key, *token; /* NULL: passwd_file, AWS_*, ~/.aws (backend/s3_credentials.h) */
	const char *passwd_file, *profile;
	const char *ca_file;	   /* PEM; NULL: the system's */
	const char *storage_class; /* NULL: the bucket's */
	bool virtual_host;	   /* BUCKET.HOST/KEY instead of HOST/BUCKET/KEY */
	bool create, readonly;
	uint64_t capacity;	  /* for statfs; 0: 1 PiB */
	unsigned int connections; /* at once; 0: 16 */
	int64_t timeout_ns;	  /* 0: 60 s */
	int64_t request_ns;	  /* one attempt, before another node is tried; 0: 10 s (and a second for each MiB) */
	uint64_t copy_part;	  /* what is bigger than two of these is copied in such parts; 0: 128 MiB */
	int64_t sweep_age_ns;	  /* unfinished uploads older than this are of closed runs; 0: 24 h */
};
/* -EINVAL -EACCES -ENOENT (no bucket, no keys) -ENOTSUP (no versioning, or rules that delete) -EIO, with the reason. */
int s3_store_open(const struct s3_options *opt, struct object_store **ret, char **ret_reason) MFS_NODISCARD;

/* What `massfs status` tells of each node. */
struct s3_endpoint_state {
	const char *host; /* borrowed from the store */
	bool https, up;
	int64_t since;	    /* wall time of its last going or coming */
	int64_t latency_ns; /* smoothed; 0: none yet */
	unsigned int under_way;
	uint64_t requests, failures;
	char why[128]; /* the last failure; "": none */
};
typedef int s3_endpoint_fn(void *arg, const struct s3_endpoint_state *state);
/* Of a store of s3_store_open(); another kind: -EOPNOTSUPP. Non-zero of fn stops and is returned. */
int s3_store_endpoints(struct object_store *s, s3_endpoint_fn *fn, void *arg);

/* Fail the nth call (from 1) made through the store with -err, then work again; n = 0 never. Owns inner on success. */
int fault_store_new(struct object_store *inner, unsigned int nth, int err, struct object_store **ret) MFS_NODISCARD;
unsigned int fault_store_calls(const struct object_store *s);
unsigned int fault_store_hits(const struct object_store *s);

#endif
