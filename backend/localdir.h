/*
 * The parts of the localdir store, for backend/localdir_*.c only.
 *
 * On disk, below the volume's directory (0700):
 *
 *     objects/<key>               the view for people: a hard link to the version on top
 *     .massfs/v/<xx>/<version>    every version, read-only, never written again; what reads use
 *     .massfs/unsynced            there while open for writing: after a crash the next open calls syncfs
 *     .massfs/damaged/<version>   what object_set_aside took away
 *     .massfs/tmp/                names that live for microseconds; a crash may leave them, sweep finds them
 *
 * Order of a put, and what a crash leaves after each step:
 *     write a nameless file, mode, owner, mtime, xattr    nothing (a nameless file dies with its process)
 *     wait until its data are on disk                     nothing
 *     link v/xx/<id>                                      an unreferenced version: garbage for gc
 *     link (and rename) to objects/<key>                  the same, shown in the view until the key is reconciled
 *     fsync file, v/xx, the view's folders                the same; only now does put return and may the index name it
 * A key below OBJECT_HIDDEN_PREFIX has no view, so there is nothing below objects/ to make, to look at or to sync.
 *
 * The links come before the file's fsync so that a journaling filesystem commits all of it at once; the data are on
 * disk before the first name is made, so no name ever shows less than the whole object, power loss included.
 *
 * Locks, none held when another is taken, but sync.lock below any: view[].lock (a stripe of keys; held over the few
 * system calls that swap a view), label_lock[] (a stripe of files; a label and the names in v/ that it stands for change
 * together), sync.lock (never over a system call).
 */
#ifndef MASSFS_BACKEND_LOCALDIR_H
#define MASSFS_BACKEND_LOCALDIR_H

#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/cell_sums.h"
#include "backend/object_store.h"
#include "common/sync.h"

#define LOCALDIR_XATTR "user.massfs"
/* There while the volume is open for writing, and after a crash or a run with nosync. */
#define LOCALDIR_UNSYNCED  ".massfs/unsynced"
#define LOCALDIR_DAMAGED   ".massfs/damaged" /* what scrub set aside; massfs never reads it */
#define LOCALDIR_RESERVE   (UINT64_C(4) << 20) /* bytes of the disk that no object takes; of a small one a sixteenth */
#define LOCALDIR_N_STRIPES 64
#define LOCALDIR_N_FOLDERS 256
#define LOCALDIR_PATH_MAX  (OBJECT_VERSION_MAX + 4) /* "xx/<id>" */
#define LOCALDIR_TEMP_MAX  48 /* name in tmp/ */

/* A parsed version id; localdir_version.c. */
struct localdir_version {
	uint64_t counter; /* rises with every put of a process; nearly the wall clock in ns */
	uint8_t folder; /* xx */
	uint64_t ino, session, op; /* ino 0: a foreign file that was kept */
};

struct view_ticket;

struct view_stripe {
	struct mfs_mutex lock;
	struct view_ticket *tickets; /* puts under way whose keys hash here; guarded by lock */
};

struct folder_sync; /* localdir_sync.c */

struct localdir {
	struct object_store base;
	char *dir; /* for messages */
	int dir_fd, objects_fd, v_fd, tmp_fd; /* constant */
	bool readonly, nosync; /* constant */
	bool has_tmpfile; /* O_TMPFILE works; constant */
	bool marked; /* .massfs/unsynced was made; constant */
	bool is_root; /* may chown, may set xattrs of read-only files; constant */
	uint64_t token; /* of this process, in names in tmp/; constant */
	uint8_t first_folder; /* constant */
	_Atomic uint64_t last_counter, n_issued, n_temps;
	atomic_bool folder_ready[LOCALDIR_N_FOLDERS]; /* v/xx is there and durable */
	atomic_uint n_making; /* puts that made view folders which are not yet durable */
	struct view_stripe view[LOCALDIR_N_STRIPES];
	struct mfs_mutex label_lock[LOCALDIR_N_STRIPES];
	struct {
		struct mfs_mutex lock;
		struct folder_sync *list; /* guarded by lock */
	} sync;
};

static inline struct localdir *localdir_of(struct object_store *s)
{
	return mfs_container_of(s, struct localdir, base);
}

/* No view is made of it, and none is looked for. */
static inline bool localdir_is_hidden(const char *key)
{
	return !strncmp(key, OBJECT_HIDDEN_PREFIX, sizeof(OBJECT_HIDDEN_PREFIX) - 1);
}

extern const struct object_store_ops localdir_ops; /* localdir_store.c */

/* --- localdir_version.c: version ids --- */

/* Canonical ids only: parse and format are each other's inverse. 0 or -EINVAL. Input is untrusted. */
int localdir_version_parse(const char *s, struct localdir_version *ret) MFS_NODISCARD;
/* "xx/<id>" below v/; the id begins at path + 3. */
void localdir_version_path(const struct localdir_version *v, char path[static LOCALDIR_PATH_MAX]);
uint8_t localdir_version_folder(struct localdir *ld); /* of the next ids */
void localdir_version_next(struct localdir *ld, const struct object_meta *meta, struct localdir_version *ret);
/* Path of the version a ref names. 0 or -ENOENT (not an id of ours). */
int localdir_ref_path(const char *version, char path[static LOCALDIR_PATH_MAX]) MFS_NODISCARD;
void localdir_fill_info(const struct localdir_version *v, const struct stat *st, struct object_info *ret);

/* --- localdir_error.c --- */

/*
 * -errno as the seam has it, from the errno of `call` on the path (two parts, below the volume). What the caller
 * cannot know from the number is logged here, once.
 */
int localdir_error(struct localdir *ld, struct op_ctx *op, int err, const char *call, const char *where,
		   const char *path) MFS_NODISCARD;

/* --- localdir_sync.c: fsync of folders, shared by those who wait for the same one --- */

int localdir_sync_folder(struct localdir *ld, int fd) MFS_NODISCARD; /* 0 or -errno, not logged */
/* v/xx exists (made if need be) and is durable. */
int localdir_folder_ready(struct localdir *ld, struct op_ctx *op, uint8_t folder) MFS_NODISCARD;
/* fsync v/xx. */
int localdir_sync_version_folder(struct localdir *ld, struct op_ctx *op, uint8_t folder) MFS_NODISCARD;

/* --- localdir_upload.c: files on their way to become versions --- */

struct temp_file {
	int fd;
	char name[LOCALDIR_TEMP_MAX]; /* in tmp/; "": it has none */
};

struct localdir_upload {
	struct object_upload base;
	struct temp_file temp;
	struct object_meta meta;
	struct cell_sums sums;
	/* Of a named one (localdir_resume.c): what is there and safe up to `kept`, and what was sent since. */
	bool is_named;
	unsigned int kept, last;
	uint64_t kept_end, last_end, since;
	int64_t kept_at; /* CLOCK_MONOTONIC */
	char key[]; /* as begun */
};
/* Not yet a file. NULL: no memory. */
struct localdir_upload *localdir_upload_new(struct object_store *s, const char *key, const struct object_meta *meta);
void localdir_upload_free(struct localdir_upload *u);
static inline struct localdir_upload *localdir_upload_of(struct object_upload *u)
{
	return mfs_container_of(u, struct localdir_upload, base);
}
mode_t localdir_file_mode(const struct object_meta *meta);

/* --- localdir_resume.c: uploads that another process may go on with --- */

/* Part `number` was written, up to `end`. */
int localdir_keep_part(struct localdir_upload *u, struct op_ctx *op, unsigned int number, uint64_t end, uint64_t len) MFS_NODISCARD;
int localdir_begin_named(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			 const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX],
			 struct object_upload **ret) MFS_NODISCARD;
int localdir_resume(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		    const struct object_meta *meta, const char *name, struct object_upload **ret) MFS_NODISCARD;
bool localdir_has_part(struct object_upload *u, unsigned int number, uint64_t off, uint64_t len);
void localdir_leave(struct object_upload *u, struct op_ctx *op);
void localdir_kept_end(struct localdir_upload *u); /* it becomes a version: without the label */

int localdir_temp_open(struct localdir *ld, struct op_ctx *op, const struct object_meta *meta,
		       struct temp_file *ret) MFS_NODISCARD;
void localdir_temp_name(struct localdir *ld, char name[static LOCALDIR_TEMP_MAX]);
bool localdir_temp_is_mine(const struct localdir *ld, const char *name);
int localdir_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		 const void *buf, size_t len, const struct object_meta *meta,
		 struct object_info *ret) MFS_NODISCARD;
int localdir_begin(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		   const struct object_meta *meta, struct object_upload **ret) MFS_NODISCARD;
int localdir_part(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
		  const void *buf, size_t len) MFS_NODISCARD;
int localdir_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
		       const struct object_ref *src, uint64_t src_off, uint64_t len) MFS_NODISCARD;
int localdir_complete(struct object_upload *u, struct op_ctx *op, uint64_t size,
		      const struct object_meta *meta, struct object_info *ret) MFS_NODISCARD;
void localdir_abort(struct object_upload *u, struct op_ctx *op);
ssize_t localdir_upload_read(struct object_upload *base, struct op_ctx *op, uint64_t off, void *buf,
			     size_t len);

/* mode, owner and mtime as meta has them, where they differ from st. */
int localdir_set_meta(struct localdir *ld, struct op_ctx *op, int fd, const struct stat *st,
		      const struct object_meta *meta, const char *key) MFS_NODISCARD;
/* Bytes [src_off, +len) of fd `from` to `to` at off; holes stay holes. The object must have them all. */
int localdir_copy_range(struct localdir *ld, struct op_ctx *op, int from, uint64_t src_off, int to,
			uint64_t off, uint64_t len, const char *key) MFS_NODISCARD;
/* The file becomes a new version at key and is shown there. Ends the temp file, whatever it returns. */
int localdir_temp_finish(struct localdir *ld, struct op_ctx *op, struct temp_file *t, const char *key,
			 const struct object_meta *meta, struct object_info *ret) MFS_NODISCARD;
void localdir_temp_discard(struct localdir *ld, struct temp_file *t);

/* --- localdir_view.c: objects/ --- */

/* A put under way, from the moment its id is drawn until its view is made: the id decides who is the last. */
struct view_ticket {
	struct view_ticket *next;
	const char *key;
	uint64_t hash;
	struct localdir_version version;
	bool superseded; /* a later put is already shown; guarded by the stripe's lock */
};

/* What a show did, to make it durable or to take it back. */
struct view_shown {
	int parent_fd; /* folder of the view; -1: not shown, or not touched */
	bool making; /* folders were made above it (counted in n_making) */
	bool not_shown; /* blocked */
	bool was_there; /* the view was this file before */
	bool had_previous;
	struct localdir_version previous;
};
#define VIEW_SHOWN_INIT         \
	{                       \
		.parent_fd = -1 \
	}

/* Draws the version id. */
void localdir_ticket_begin(struct localdir *ld, struct view_ticket *t, const char *key,
			   const struct object_meta *meta);
void localdir_ticket_renew(struct localdir *ld, struct view_ticket *t, const struct object_meta *meta);
void localdir_ticket_end(struct localdir *ld, struct view_ticket *t);

/* The key's view becomes version v, whose file is st, unless a put with a later ticket was there first. */
int localdir_view_show(struct localdir *ld, struct op_ctx *op, struct view_ticket *t,
		       const struct localdir_version *v, const struct stat *st,
		       struct view_shown *ret) MFS_NODISCARD;
int localdir_view_sync(struct localdir *ld, struct op_ctx *op, const char *key,
		       struct view_shown *shown) MFS_NODISCARD;
/* After a failure: the view, if it is v, becomes what it was. Best effort. */
void localdir_view_take_back(struct localdir *ld, struct view_ticket *t, const struct localdir_version *v,
			     const struct view_shown *shown);
void localdir_shown_release(struct localdir *ld, struct view_shown *shown);

/* Unlink the view and prune empty folders: if id is not NULL, only if the view is that file with that label. */
int localdir_view_drop(struct localdir *ld, struct op_ctx *op, const char *key, const char *id,
		       const struct stat *file) MFS_NODISCARD;

enum view_kind { VIEW_NONE, VIEW_OWN, VIEW_FOREIGN, VIEW_FOLDER, VIEW_OTHER };
/* What is at parent/name. 0 or -errno (not logged). */
int localdir_view_look(struct localdir *ld, int parent_fd, const char *name, struct stat *st,
		       enum view_kind *ret_kind, struct localdir_version *ret) MFS_NODISCARD;
/* The folder that holds the key's view; *ret_name points into key. 0 or -errno: -ENOENT, -ENOTDIR, -ELOOP. */
int localdir_view_parent(struct localdir *ld, const char *key, int *ret_fd,
			 const char **ret_name) MFS_NODISCARD;

/* Foreign: not made by massfs, or such a one that was given a version. */
static inline bool localdir_is_foreign(enum view_kind kind, const struct localdir_version *v)
{
	return kind == VIEW_FOREIGN || (kind == VIEW_OWN && v->ino == 0);
}
int localdir_hold(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		  struct object_info *ret) MFS_NODISCARD;

int localdir_put_marker(struct object_store *s, struct op_ctx *op, const char *bucket,
			const char *key) MFS_NODISCARD;

/* --- localdir_list.c --- */

int localdir_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix,
		       object_list_fn *fn, void *arg) MFS_NODISCARD;
int localdir_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket, object_list_fn *fn,
			   void *arg) MFS_NODISCARD;
/* The newest version but `except` whose file is (dev, ino). 0, -ENOENT. */
int localdir_find_version(struct localdir *ld, struct op_ctx *op, const struct stat *st, const char *except,
			  struct localdir_version *ret) MFS_NODISCARD;
int localdir_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg,
		   uint64_t *ret_n, uint64_t *ret_bytes) MFS_NODISCARD;

/* --- common to all --- */

static inline void localdir_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
#define LOCALDIR_AUTOFD MFS_CLEANUP(localdir_close_fd)

#endif
