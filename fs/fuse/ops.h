/*
 * What the ops_*.c files share: a request, its one reply, open handles. Private to fs/fuse/.
 *
 * Each op begins a request on its stack, works without a lock held across a seam call, and replies exactly once
 * through a reply_* below, last. The kernel checks permission (default_permissions); the ops do not.
 */
#ifndef MASSFS_FS_FUSE_OPS_H
#define MASSFS_FS_FUSE_OPS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <errno.h>

#include "common/op_ctx.h"
#include "fs/atime.h"
#include "fs/fs.h"
#include "fs/names.h"
#include "fs/news.h"

struct request {
	fuse_req_t req;
	struct massfs *fs;
	struct op_ctx op;
	uint64_t epoch; /* of the inode table when it began, for inode_take() and names_put() */
	int64_t at;	/* when it began (monotonic); 0 where nobody else changes names */
	bool fresh;	/* the attributes that are replied are valid: the kernel may keep them */
	bool interruptible;
};

void request_begin(struct request *rq, fuse_req_t req);
/*
 * From here on a fatal signal of the caller cancels op. For waits that leave nothing half done. Other signals do not:
 * programs do not expect EINTR of a regular file, and local filesystems never give it.
 */
void request_interruptible(struct request *rq);
/* No callback runs with this request after it: it is on a stack that goes away. The reply_* below do it. */
void request_end(struct request *rq);

/*
 * The caller's further groups: how many; *ret is the caller's to free. 0 when it has ended. -ENOMEM. (libfuse's own
 * fuse_req_getgroups reads beyond its buffer: 3.14 does not terminate what it has read.)
 */
int request_groups(struct request *rq, gid_t **ret) MFS_NODISCARD;

/* The caller waits in a system call that looks at names one by one: surely no rename. False: perhaps. */
bool request_only_looks(const struct request *rq);

/* The reply; nothing may follow. r is 0 or -errno. */
void reply_err(struct request *rq, int r);
void reply_never_again(struct request *rq); /* ENOSYS, which reply_err lets through for nobody: no such request from now on */
void reply_attr(struct request *rq, const struct mfs_attr *attr);
void reply_data(struct request *rq, const void *buf, size_t len);
void reply_written(struct request *rq, size_t len);
void reply_size(struct request *rq, size_t size); /* of an extended attribute */
void reply_offset(struct request *rq, off_t off);
/* An entry: counts the lookup before it is sent and takes it back if it cannot be. `known`: of names_put(). */
void reply_entry(struct request *rq, struct inode *i, const struct mfs_attr *attr, bool known);
/* Nobody has the name. */
void reply_no_entry(struct request *rq, bool known);

/* The kernel's number of an inode, and back. */
static inline fuse_ino_t nodeid_of(const struct massfs *fs, mfs_ino_t ino)
{
	return ino == fs->vol->root ? FUSE_ROOT_ID : ino;
}
static inline mfs_ino_t ino_of(const struct massfs *fs, fuse_ino_t nodeid)
{
	return nodeid == FUSE_ROOT_ID ? fs->vol->root : nodeid;
}

void attr_to_stat(const struct massfs *fs, const struct mfs_attr *attr, struct stat *st);
void attr_to_entry(const struct massfs *fs, const struct mfs_attr *attr, bool fresh, bool known, struct fuse_entry_param *e);

/* The inode of a request, a ref for the caller. -ENOMEM. */
int request_inode(struct request *rq, fuse_ino_t nodeid, struct inode **ret) MFS_NODISCARD;
/* Its attributes as stat shows them: known ones, or 1 round trip. -ESTALE. */
int request_attr(struct request *rq, struct inode *i, struct mfs_attr *ret) MFS_NODISCARD;
/* The index has answered, or was changed: inode_take(), and whether the kernel may keep it. */
void request_take(struct request *rq, struct inode *i, struct mfs_attr *attr);
/* The record that a name of this inode is; 0: not known (one of several). */
static inline uint64_t record_of(const struct mfs_attr *attr)
{
	return attr->nlink > 1 && !attr_is_dir(attr) ? 0 : attr->ino;
}
/* How big the volume is and what is free of it: as the store has it, or by capacity= (else 1 PiB) where it has no end. */
int request_statfs(struct request *rq, struct object_statfs *ret) MFS_NODISCARD;
/* A name came or went in it (nothing where the namespace tells: fs/mount.c). */
void request_dir_changed(struct request *rq, fuse_ino_t dir);
/* The file lost a name; attr is what it is now. */
void request_unlinked(struct request *rq, struct mfs_attr *attr);

/* What the kernel will RELEASE, but when a mount is ended by force: then session_drop_handles() does. */
struct opened {
	struct opened *next, **prevp; /* the session's list */
	void (*close)(struct request *rq, struct opened *o);
};
void opened_add(struct massfs *fs, struct opened *o);
void opened_remove(struct massfs *fs, struct opened *o);

/* Open regular file. */
struct handle {
	struct opened opened;
	struct inode *inode; /* a ref */
	bool writes;	     /* opened for writing */
	bool counted;	     /* content knows of this writer; inode.lock, as is the next */
	unsigned int losses; /* content_losses() when it became one */
};

int handle_new(struct request *rq, struct inode *i, int flags, struct handle **ret) MFS_NODISCARD;
/* The bytes: made with the first use. `write`: this handle is going to change them. */
int handle_content(struct request *rq, struct handle *h, bool write, struct content **ret) MFS_NODISCARD;
/* The first use by whoever has made the file: n is its record, which need not be read again. */
int handle_content_made(struct request *rq, struct handle *h, const struct node *n) MFS_NODISCARD;
/* Make what was written durable. *ret_done: there was something. */
int handle_flush(struct request *rq, struct handle *h, bool *ret_done) MFS_NODISCARD;
/* That of a close, which storage rules may refuse (content_close()); what failed, or is refused for good, is given up. */
int handle_flush_close(struct request *rq, struct handle *h, bool last) MFS_NODISCARD;
/* Do they have a say? */
bool handle_is_judged(struct handle *h);
/* close() reports success: what the file holds is a state that becomes a version when it is changed. */
void handle_closed(struct handle *h);
/* close() reports `err`: back to the last good state, here and in the kernel's caches. */
void handle_give_up(struct request *rq, struct handle *h, int err);
/* A write or truncation gave -EFBIG: where storage rules are the reason, that is recorded, and what was written since the last
 * commit is given up, so that the earlier state stays. */
void handle_too_big(struct request *rq, struct handle *h, struct content *c);
/* Commits what is still dirty (failures are logged), gives everything back. */
void handle_close(struct request *rq, struct handle *h);
int handle_truncate(struct request *rq, struct handle *h, uint64_t size) MFS_NODISCARD;
/* It is no writer any more, and its close commits nothing: that is left to others who write. False: there are none. */
bool handle_leave(struct handle *h) MFS_NODISCARD;

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

/* ops_lock.c: a process closes the file: its fcntl locks go; and with the last one all that came through the handle. */
void locks_at_flush(struct request *rq, struct handle *h, uint64_t owner);
void locks_at_release(struct request *rq, struct handle *h);

/* The ops. */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name,
	       unsigned int flags);

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);

void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock);
void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep);
void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

#endif
