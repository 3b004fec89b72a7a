/*
 * Opening the store of a volume.
 */
#include "fs/volume_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/str.h"

#define MARK ".massfs/bucket"

static bool is_s3(const struct mfs_config *cfg)
{
	return cfg->objects && !strcmp(cfg->objects, "s3");
}

static int open_folder(const struct mfs_config *cfg, const struct volume_store_options *opt, struct object_store **ret,
		       char **ret_reason)
{
	struct localdir_options lo = { .create = opt->create, .readonly = opt->readonly, .nosync = cfg->nosync };
	MFS_AUTOFREE char *mark = mfs_path_join(cfg->dir, MARK);
	int r;

	if (!mark)
		return -ENOMEM;
	if (access(mark, F_OK) == 0)
		return mfs_fail(ret_reason, -EINVAL, "%s: its objects are in a bucket (%s says which): name the volume's .conf instead",
				cfg->dir, mark);
	r = localdir_store_open(cfg->dir, &lo, ret);
	if (r == -ENOTSUP && opt->create)
		return mfs_fail(ret_reason, r,
				"%s: cannot be a volume: its filesystem has no hard links or no user extended attributes", cfg->dir);
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: cannot open the objects: %s", cfg->dir, strerror(-r));
	return 0;
}

static char *mark_text(const struct mfs_config *cfg)
{
	return mfs_str_printf("%s/%s\n%s%s", cfg->bucket ? cfg->bucket : "", cfg->prefix ? cfg->prefix : "",
			      cfg->places ? cfg->places : "", cfg->places ? "\n" : "");
}

/* The index is of this bucket and no other. */
static int check_mark(const struct mfs_config *cfg, char **ret_reason)
{
	MFS_AUTOFREE char *mark = mfs_path_join(cfg->dir, MARK), *want = mark_text(cfg);
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(8192);
	int fd, r;

	if (!mark || !want)
		return -ENOMEM;
	fd = open(mark, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mfs_fail(ret_reason, -errno, "%s: cannot be read (%s): was this volume formatted with objects = s3?", mark,
				strerror(errno));
	r = mfs_buf_read_fd(&b, fd);
	close(fd);
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: %s", mark, strerror(-r));
	if (strcmp(mfs_buf_str(&b), want) != 0 && strcspn(mfs_buf_str(&b), "\n") == strcspn(want, "\n") &&
	    !strncmp(mfs_buf_str(&b), want, strcspn(want, "\n")))
		return mfs_fail(ret_reason, -EINVAL, "%s: the volume was formatted with other places =, where its objects are now: %s",
				mark, mfs_buf_str(&b) + strcspn(want, "\n") + 1);
	if (strcmp(mfs_buf_str(&b), want) != 0)
		return mfs_fail(ret_reason, -EINVAL, "%s: the index is of the bucket and prefix %.*s, not of %.*s", mark,
				(int)strcspn(mfs_buf_str(&b), "\n"), mfs_buf_str(&b), (int)strcspn(want, "\n"), want);
	return 0;
}

static int write_mark(const struct mfs_config *cfg, char **ret_reason)
{
	MFS_AUTOFREE char *mark = mfs_path_join(cfg->dir, MARK), *text = mark_text(cfg), *dir = mfs_path_join(cfg->dir, ".massfs");
	int fd, folder, r = 0;

	if (!mark || !text || !dir)
		return -ENOMEM;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return mfs_fail(ret_reason, -errno, "%s: %s", dir, strerror(errno));
	fd = open(mark, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || folder < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd) < 0 || fsync(folder) < 0)
		r = mfs_fail(ret_reason, errno ? -errno : -EIO, "%s: cannot be written: %s", mark, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (folder >= 0)
		close(folder);
	return r;
}

static int has_one(void *arg, const char *key, const struct object_info *info)
{
	(void)arg;
	(void)key;
	(void)info;
	return 1;
}

static int open_bucket(const struct mfs_config *cfg, const struct volume_store_options *opt, struct object_store **ret,
		       char **ret_reason)
{
	struct s3_options so = {
		.endpoints = cfg->endpoint,
		.bucket = cfg->bucket,
		.region = cfg->region,
		.prefix = cfg->prefix,
		.places = cfg->places,
		.access_key = cfg->access_key,
		.secret_key = cfg->secret_key,
		.passwd_file = cfg->passwd_file,
		.profile = cfg->profile,
		.ca_file = cfg->ca_file,
		.storage_class = cfg->storage_class,
		.virtual_host = cfg->addressing && !strcmp(cfg->addressing, "virtual"),
		.create = opt->create,
		.readonly = opt->readonly,
		.capacity = cfg->capacity,
		.connections = cfg->connections,
		.timeout_ns = cfg->timeout_ns,
	};
	bool has_folder = cfg->dir; /* else the bucket itself says whose it is (fs/volume_cluster.h) */
	int r = opt->create || !has_folder ? 0 : check_mark(cfg, ret_reason);

	if (r == 0)
		r = s3_store_open(&so, ret, ret_reason);
	if (r < 0 || !opt->create)
		return r;
	r = opt->force ? 0 : object_list_versions(*ret, NULL, NULL, has_one, NULL);
	if (r == 1)
		r = mfs_fail(ret_reason, -ENOTEMPTY,
			     "bucket %s: has objects%s%s; give an empty one, another prefix =, or --force", cfg->bucket,
			     cfg->prefix ? " below " : "", cfg->prefix ? cfg->prefix : "");
	else if (r < 0)
		mfs_fail(ret_reason, r, "bucket %s: cannot be listed: %s", cfg->bucket, strerror(-r));
	if (r == 0 && has_folder)
		r = write_mark(cfg, ret_reason);
	if (r < 0) {
		object_store_free(*ret);
		*ret = NULL;
	}
	return r;
}

int volume_store_open(const struct mfs_config *cfg, const struct volume_store_options *opt, struct object_store **ret,
		      char **ret_reason)
{
	return is_s3(cfg) ? open_bucket(cfg, opt, ret, ret_reason) : open_folder(cfg, opt, ret, ret_reason);
}

static bool is_xml_text(const char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 && !strchr("\t\n\r", *s))
			return false;
		if (mfs_str_starts(s, "\xef\xbf\xbe") || mfs_str_starts(s, "\xef\xbf\xbf")) /* U+FFFE, U+FFFF */
			return false;
	}
	return true;
}

bool volume_store_takes_key(struct object_store *s, const char *key)
{
	return object_key_is_legal(s, key) && (!(object_store_caps(s) & OBJECT_CAP_KEY_HIDES) || is_xml_text(key));
}
