/*
 * Uploads in parts that outlive their process: a file with a name in tmp/, whose label tells the last part that is safe.
 *
 * Parts are written one after the other. From time to time (KEEP_BYTES, KEEP_NS) what was written is made durable, and
 * then the label is moved behind it: so after a power loss too, no part is taken for done whose bytes are not there. What
 * came after the label is sent again. Who has the file open for writing holds a flock on it.
 *
 * A file with a further name is a version already (a crash in localdir_temp_finish()): it is never written again, and only
 * its name here goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>

#include "backend/localdir.h"
#include "common/clock.h"
#include "common/log.h"

#define KEPT_XATTR "user.massfs.kept"
#define KEEP_BYTES (UINT64_C(64) << 20)
#define KEEP_NS	   (2 * MFS_NSEC_PER_SEC)

static int keep(struct localdir_upload *u, struct op_ctx *op, unsigned int number, uint64_t end)
{
	struct localdir *ld = localdir_of(u->base.store);
	char text[48];
	int len = snprintf(text, sizeof(text), "%u %" PRIu64, number, end);

	if (!ld->nosync && fdatasync(u->temp.fd) < 0)
		return localdir_error(ld, op, errno, "fdatasync", "upload of ", u->key);
	if (fsetxattr(u->temp.fd, KEPT_XATTR, text, (size_t)len, 0) < 0)
		return localdir_error(ld, op, errno, "setxattr " KEPT_XATTR, "upload of ", u->key);
	u->kept = number;
	u->kept_end = end;
	u->since = 0;
	u->kept_at = mfs_mono_ns();
	return 0;
}

int localdir_keep_part(struct localdir_upload *u, struct op_ctx *op, unsigned int number, uint64_t end, uint64_t len)
{
	u->since += len;
	u->last = number;
	u->last_end = end;
	if (u->since < KEEP_BYTES && mfs_mono_ns() - u->kept_at < KEEP_NS)
		return 0;
	return keep(u, op, number, end);
}

int localdir_begin_named(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
			 const struct object_meta *meta, char name[static OBJECT_UPLOAD_NAME_MAX],
			 struct object_upload **ret)
{
	struct localdir *ld = localdir_of(s);
	struct localdir_upload *u;
	int r = 0;

	if (bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	u = localdir_upload_new(s, key, meta);
	if (!u)
		return -ENOMEM;
	localdir_temp_name(ld, u->temp.name);
	u->temp.fd = openat(ld->tmp_fd, u->temp.name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (u->temp.fd < 0)
		r = localdir_error(ld, op, errno, "open", ".massfs/tmp/", u->temp.name);
	else if (flock(u->temp.fd, LOCK_EX | LOCK_NB) < 0)
		r = localdir_error(ld, op, errno, "flock", ".massfs/tmp/", u->temp.name);
	if (r < 0) {
		localdir_temp_discard(ld, &u->temp);
		localdir_upload_free(u);
		return r;
	}
	u->is_named = true;
	u->kept_at = mfs_mono_ns();
	snprintf(name, OBJECT_UPLOAD_NAME_MAX, "%s", u->temp.name);
	*ret = &u->base;
	return 0;
}

/* Is it one that may be gone on with? Its label. */
static int look(struct localdir_upload *u)
{
	struct localdir *ld = localdir_of(u->base.store);
	char text[48] = "";
	struct stat st;

	if (flock(u->temp.fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(u->temp.fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -ENOENT;
	if (st.st_nlink > 1)
		unlinkat(ld->tmp_fd, u->temp.name, 0);
	if (st.st_nlink != 1)
		return -ENOENT;
	if (fgetxattr(u->temp.fd, KEPT_XATTR, text, sizeof(text) - 1) > 0 &&
	    (sscanf(text, "%u %" SCNu64, &u->kept, &u->kept_end) != 2 || u->kept_end > (uint64_t)st.st_size))
		u->kept = 0;
	return 0;
}

int localdir_resume(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		    const struct object_meta *meta, const char *name, struct object_upload **ret)
{
	struct localdir *ld = localdir_of(s);
	struct localdir_upload *u;
	int r;

	if (bucket)
		return -EINVAL;
	if (ld->readonly)
		return -EROFS;
	if (!*name || strlen(name) >= LOCALDIR_TEMP_MAX || strchr(name, '/') || *name == '.')
		return -ENOENT;
	u = localdir_upload_new(s, key, meta);
	if (!u)
		return -ENOMEM;
	strcpy(u->temp.name, name);
	u->temp.fd = openat(ld->tmp_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (u->temp.fd < 0)
		r = errno == ENOENT || errno == EACCES || errno == ELOOP || errno == EISDIR ?
			    -ENOENT :
			    localdir_error(ld, op, errno, "open", ".massfs/tmp/", name);
	else
		r = look(u);
	if (r < 0) {
		localdir_close_fd(&u->temp.fd);
		localdir_upload_free(u);
		return r;
	}
	u->is_named = true;
	u->kept_at = mfs_mono_ns();
	*ret = &u->base;
	return 0;
}

bool localdir_has_part(struct object_upload *base, unsigned int number, uint64_t off, uint64_t len)
{
	struct localdir_upload *u = localdir_upload_of(base);

	return number <= u->kept && off + len <= u->kept_end;
}

void localdir_leave(struct object_upload *base, struct op_ctx *op)
{
	struct localdir_upload *u = localdir_upload_of(base);

	if (u->since && keep(u, op, u->last, u->last_end) < 0)
		mfs_debug(MFS_LOG_STORE, op, "the parts since part %u are sent again", u->kept);
	localdir_close_fd(&u->temp.fd);
	localdir_upload_free(u);
}

void localdir_kept_end(struct localdir_upload *u)
{
	(void)fremovexattr(u->temp.fd, KEPT_XATTR); /* one that stays says nothing to anybody */
}
