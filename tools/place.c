/*
 * From an operand to the mount or the volume that has it.
 */
#include "tools/place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/mountinfo.h"
#include "common/str.h"
#include "fs/control.h"
#include "tools/tool.h"

void place_release(struct place *p)
{
	free(p->volume);
	free(p->path);
	free(p->mountpoint);
	*p = (struct place){ 0 };
}

/* The rest of path below dir, without leading slash; NULL: it is not below. */
static const char *below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (!strcmp(dir, "/"))
		return path + 1;
	if (strncmp(path, dir, len) || (path[len] && path[len] != '/'))
		return NULL;
	return path[len] ? path + len + 1 : path + len;
}

/* The mount that the absolute path lies in: the longest mount point above it, the topmost one there. */
static const struct mountinfo_entry *mount_of(const struct mountinfo *mounts, const char *path)
{
	const struct mountinfo_entry *best = NULL;

	for (size_t i = 0; i < mounts->n; i++)
		if (below(path, mounts->v[i].dir) && (!best || strlen(mounts->v[i].dir) > strlen(best->dir)))
			best = &mounts->v[i];
	return best ? mountinfo_top(mounts, best->dir) : NULL;
}

static int set_mounted(const struct mountinfo_entry *e, const char *rest, struct place *ret)
{
	/* A bind mount shows a folder of the filesystem. */
	const char *root = e->root + (e->root[0] == '/');

	ret->is_mounted = true;
	ret->dev = e->dev;
	ret->mountpoint = strdup(e->dir);
	ret->path = *rest ? mfs_path_join(root, rest) : strdup(root);
	return ret->mountpoint && ret->path ? 0 : -ENOMEM;
}

static int set_volume(const char *volume, const char *path, struct place *ret)
{
	ret->volume = strdup(volume);
	ret->path = strdup(path);
	return ret->volume && ret->path ? 0 : -ENOMEM;
}

/* The folder of a volume, or something below its objects/. -ENOENT: neither. */
static int find_in_folder(const char *path, struct place *ret)
{
	MFS_AUTOFREE char *dir = strdup(path);
	const char *rest;

	if (!dir)
		return -ENOMEM;
	if (tool_is_volume(dir))
		return set_volume(dir, "", ret);
	for (char *slash = strrchr(dir, '/'); slash && slash != dir; slash = strrchr(dir, '/')) {
		*slash = '\0';
		rest = path + (slash - dir) + 1;
		if (!tool_is_volume(dir))
			continue;
		rest = below(rest, "objects");
		return rest ? set_volume(dir, rest, ret) : -ENOENT;
	}
	return -ENOENT;
}

/* SOURCE or SOURCE:/path. *ret_reason: why a .conf that is there is not taken. */
static int find_by_source(const char *operand, struct place *ret, char **ret_reason)
{
	MFS_AUTOFREE char *reason = NULL;
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	MFS_AUTOFREE char *source = strdup(operand);
	const char *path = "";
	char *colon;
	int r;

	if (!source)
		return -ENOMEM;
	colon = strstr(source, ":/");
	if (colon && colon != source) {
		*colon = '\0';
		for (path = colon + 1; *path == '/'; path++)
			;
	}
	mfs_config_init(&cfg);
	r = mfs_config_load(&cfg, source, NULL, false, NULL, &reason);
	if (r < 0 && cfg.conf_path && reason)
		mfs_fail(ret_reason, r, "%s", reason);
	if (r < 0)
		return r;
	return mfs_config_is_cluster(&cfg) || tool_is_volume(cfg.dir) ? set_volume(source, path, ret) : -ENOENT;
}

/* A symlink at the end stays one; with nothing behind the last slash it is a folder that is meant. */
static char *resolve(const char *operand)
{
	size_t len = strlen(operand);

	return tool_real_path(operand, len && operand[len - 1] == '/');
}

int place_find(const char *operand, struct place *ret, char **ret_reason)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	MFS_AUTOFREE char *path = resolve(operand);
	const struct mountinfo_entry *e;
	int r;

	r = mountinfo_read(NULL, &mounts);
	if (r < 0)
		return mfs_fail(ret_reason, r, "/proc/self/mountinfo: %s", strerror(-r));
	e = path ? mount_of(&mounts, path) : NULL;
	if (e && mountinfo_is_fuse(e))
		r = set_mounted(e, below(path, e->dir), ret);
	else
		r = path ? find_in_folder(path, ret) : -ENOENT;
	if (r == -ENOENT)
		r = find_by_source(operand, ret, ret_reason);
	if (r < 0 && ret_reason && *ret_reason)
		return r;
	if (r == -ENOMEM)
		return mfs_fail(ret_reason, r, "no memory");
	if (r < 0)
		return mfs_fail(ret_reason, -ENOENT, "%s: neither in a mounted massfs nor a volume of it",
				operand);
	return 0;
}

static bool is_massfs(const struct mountinfo_entry *e)
{
	return !strcmp(e->fstype, "fuse.massfs");
}

int place_find_in(const char *volume, const char *path, struct place *ret, char **ret_reason)
{
	int r = place_find(volume, ret, ret_reason);

	if (r < 0)
		return r;
	while (*path == '/')
		path++;
	free(ret->path);
	ret->path = strdup(path);
	return ret->path ? 0 : mfs_fail(ret_reason, -ENOMEM, "no memory");
}

int place_find_default(struct place *ret, char **ret_reason)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	MFS_AUTOFREE char *cwd = getcwd(NULL, 0);
	const struct mountinfo_entry *e, *only = NULL;
	int r;

	r = mountinfo_read(NULL, &mounts);
	if (r < 0)
		return mfs_fail(ret_reason, r, "/proc/self/mountinfo: %s", strerror(-r));
	e = cwd ? mount_of(&mounts, cwd) : NULL;
	if (e && is_massfs(e))
		return set_mounted(e, "", ret);
	for (size_t i = 0; i < mounts.n; i++) {
		if (!is_massfs(&mounts.v[i]) || (only && only->dev == mounts.v[i].dev))
			continue;
		if (only)
			return mfs_fail(ret_reason, -EINVAL,
					"several volumes are mounted; name a mount point or volume");
		only = &mounts.v[i];
	}
	if (!only)
		return mfs_fail(ret_reason, -ENOENT, "no volume is mounted; name a volume");
	return set_mounted(only, "", ret);
}

int place_find_daemon(pid_t pid, struct place *ret)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	char verb[] = "pid";
	char *argv[] = { verb, NULL };
	FILE *null = fopen("/dev/null", "we");
	int r = -ENOENT;

	if (!null)
		return -errno;
	if (mountinfo_read(NULL, &mounts) < 0)
		mounts.n = 0;
	for (size_t i = 0; i < mounts.n; i++) {
		pid_t daemon = 0;

		if (!mountinfo_is_fuse(&mounts.v[i]))
			continue;
		if (control_call(mounts.v[i].dev, 1, argv, false, null, null, &daemon) >= 0 &&
		    daemon == pid) {
			r = set_mounted(&mounts.v[i], "", ret);
			break;
		}
	}
	fclose(null);
	return r;
}
