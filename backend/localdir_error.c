/*
 * From the errno of a system call to the errno of the seam; what gets lost on the way is logged.
 */
#include <errno.h>
#include <string.h>

#include "backend/localdir.h"
#include "common/log.h"

static const char *what_to_do(int err)
{
	switch (err) {
	case EACCES:
	case EPERM:
		return "check the owner and mode of the volume's directories (they belong to who runs massfs)";
	case EMFILE:
	case ENFILE:
		return "too many open files: raise the limit (ulimit -n, LimitNOFILE=)";
	case EIO:
		return "the disk failed: look into the kernel log (dmesg), check the filesystem";
	case EUCLEAN:
		return "the filesystem is damaged: unmount it and run fsck on its device";
	case ENAMETOOLONG:
		return "the volume's filesystem takes no names this long";
	default:
		return "look into the kernel log (dmesg) and check the volume's filesystem";
	}
}

int localdir_error(struct localdir *ld, struct op_ctx *op, int err, const char *call, const char *where,
		   const char *path)
{
	switch (err) {
	case ENOENT:
		return -ENOENT;
	case ENOSPC:
	case EDQUOT:
		return -ENOSPC;
	case EROFS:
		return -EROFS;
	case ENOMEM:
		return -ENOMEM;
	case EFBIG:
		return -EFBIG;
	}
	mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "volume=%s path=%s%s: %s: %s; %s", ld->dir, where, path, call,
		strerror(err), what_to_do(err));
	return err == EACCES ? -EACCES : -EIO;
}
