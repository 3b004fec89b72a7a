/*
 * Walks: the keys of objects/, the versions of v/, the leftovers of tmp/.
 *
 * Keys come in their byte order: a folder's names are read, sorted as they stand in keys ("a/" for a folder a) and
 * then looked at one by one, so a walk holds the names of one folder a level and no descriptors of the levels above.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "backend/localdir.h"
#include "backend/store_key.h"
#include "common/buf.h"
#include "common/log.h"

#define NAMES_MAX (UINT64_C(1) << 32) /* bytes of names in one folder */

/* closedir for the cleanup attribute. */
static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

static DIR *open_listing(int in, const char *path)
{
	int fd = openat(in, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d;

	if (fd < 0)
		return NULL;
	d = fdopendir(fd);
	if (!d)
		close(fd);
	return d;
}

/* NULL: the end (errno 0), or an error. */
static struct dirent *next_entry(DIR *d)
{
	errno = 0;
	return readdir(d);
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* --- keys --- */

struct key_walk {
	struct localdir *ld;
	struct op_ctx *op;
	const char *prefix;
	size_t prefix_len;
	object_list_fn *fn;
	void *arg;
	char key[OBJECT_KEY_MAX + 1]; /* of the folder that is walked, with its slash; "" for objects/ */
};

struct name_list {
	struct mfs_buf text; /* the names, each with its NUL; a folder's ends in a slash */
	const char **v;
	size_t n;
};

static void name_list_release(struct name_list *l)
{
	mfs_buf_release(&l->text);
	free(l->v);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* DT_UNKNOWN is asked for; symlinks and special files are nothing to us. '/', '-' (a file), or 0. */
static char type_of(DIR *d, const struct dirent *e)
{
	struct stat st;

	switch (e->d_type) {
	case DT_DIR:
		return '/';
	case DT_REG:
		return '-';
	case DT_UNKNOWN:
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return 0;
		return S_ISDIR(st.st_mode) ? '/' : S_ISREG(st.st_mode) ? '-' : 0;
	default:
		return 0;
	}
}

static int read_names(DIR *d, struct name_list *l)
{
	struct dirent *e;
	size_t i = 0;
	int r;

	while ((e = next_entry(d))) {
		char type = is_dot(e->d_name) ? 0 : type_of(d, e);

		if (!type)
			continue;
		r = mfs_buf_append(&l->text, e->d_name, strlen(e->d_name));
		if (!r && type == '/')
			r = mfs_buf_append(&l->text, "/", 1);
		if (!r)
			r = mfs_buf_append(&l->text, "", 1);
		if (r < 0)
			return r;
		l->n++;
	}
	if (errno)
		return -errno;
	l->v = malloc((l->n + 1) * sizeof(*l->v));
	if (!l->v)
		return -ENOMEM;
	for (const char *p = l->text.data; i < l->n; p += strlen(p) + 1)
		l->v[i++] = p;
	qsort(l->v, l->n, sizeof(*l->v), compare_names);
	return 0;
}

/* Can keys that begin with w->key (len bytes) begin with the prefix too? */
static bool meets_prefix(const struct key_walk *w, size_t len)
{
	return !memcmp(w->key, w->prefix, MFS_MIN(len, w->prefix_len));
}

static int visit_file(struct key_walk *w)
{
	struct object_info info;
	int r;

	if (strlen(w->key) < w->prefix_len || !store_key_is_plain(w->key))
		return 0;
	r = w->ld->base.ops->head(&w->ld->base, w->op, NULL, w->key, NULL, &info);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : w->fn(w->arg, w->key, &info);
}

static int walk_keys(struct key_walk *w, size_t len)
{
	MFS_CLEANUP(name_list_release) struct name_list l = { .text = MFS_BUF_INIT(NAMES_MAX) };
	int r;

	{
		MFS_CLEANUP(close_dir) DIR *d = NULL;
		LOCALDIR_AUTOFD int fd = -1;
		const char *name;

		/* The folder that would hold the key "<folder>/x". */
		w->key[len] = 'x';
		w->key[len + 1] = '\0';
		r = localdir_view_parent(w->ld, w->key, &fd, &name);
		w->key[len] = '\0';
		if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
			return 0; /* gone meanwhile */
		if (!r)
			d = open_listing(fd, ".");
		if (!r && !d)
			r = -errno;
		if (!r)
			r = read_names(d, &l);
	}
	if (r < 0 && r != -ENOMEM)
		return localdir_error(w->ld, w->op, -r, "readdir", "objects/", w->key);
	for (size_t i = 0; i < l.n && !r; i++) {
		size_t n = strlen(l.v[i]);

		bool is_folder = l.v[i][n - 1] == '/';

		if (len + n + is_folder >
		    OBJECT_KEY_MAX) /* no key any more, a folder with the shortest name behind it */
			continue;
		memcpy(w->key + len, l.v[i], n + 1);
		if (!meets_prefix(w, len + n))
			continue;
		r = is_folder ? walk_keys(w, len + n) : visit_file(w);
	}
	w->key[len] = '\0';
	return r;
}

int localdir_list_keys(struct object_store *s, struct op_ctx *op, const char *bucket, const char *prefix,
		       object_list_fn *fn, void *arg)
{
	struct key_walk w = {
		.ld = localdir_of(s),
		.op = op,
		.prefix = prefix,
		.prefix_len = strlen(prefix),
		.fn = fn,
		.arg = arg,
	};

	return bucket ? -EINVAL : walk_keys(&w, 0);
}

/* --- versions --- */

typedef int version_fn(struct localdir *ld, void *arg, const struct localdir_version *v, int folder_fd,
		       const char *name, ino_t ino);

static int walk_folder(struct localdir *ld, struct op_ctx *op, unsigned int folder, version_fn *fn, void *arg)
{
	MFS_CLEANUP(close_dir) DIR *d = NULL;
	struct dirent *e;
	char name[4];
	int r = 0;

	snprintf(name, sizeof(name), "%02x", folder);
	d = open_listing(ld->v_fd, name);
	if (!d)
		return errno == ENOENT ? 0 : localdir_error(ld, op, errno, "open", ".massfs/v/", name);
	while (!r && (e = next_entry(d))) {
		struct localdir_version v;

		if (!localdir_version_parse(e->d_name, &v) && v.folder == folder)
			r = fn(ld, arg, &v, dirfd(d), e->d_name, e->d_ino);
	}
	return !r && errno ? localdir_error(ld, op, errno, "readdir", ".massfs/v/", name) : r;
}

static int walk_versions(struct localdir *ld, struct op_ctx *op, version_fn *fn, void *arg)
{
	int r = 0;

	for (unsigned int i = 0; i < LOCALDIR_N_FOLDERS && !r; i++)
		r = walk_folder(ld, op, i, fn, arg);
	return r;
}

struct list_versions {
	object_list_fn *fn;
	void *arg;
};

static int list_one(struct localdir *ld, void *arg, const struct localdir_version *v, int folder_fd,
		    const char *name, ino_t ino)
{
	const struct list_versions *l = arg;
	struct object_info info;
	struct stat st;

	(void)ld;
	(void)ino;
	if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0; /* gone meanwhile */
	localdir_fill_info(v, &st, &info);
	return l->fn(l->arg, NULL, &info);
}

int localdir_list_versions(struct object_store *s, struct op_ctx *op, const char *bucket, object_list_fn *fn,
			   void *arg)
{
	struct list_versions l = { fn, arg };

	return bucket ? -EINVAL : walk_versions(localdir_of(s), op, list_one, &l);
}

struct find_version {
	ino_t ino;
	const char *except;
	bool found;
	struct localdir_version best;
};

static int find_one(struct localdir *ld, void *arg, const struct localdir_version *v, int folder_fd,
		    const char *name, ino_t ino)
{
	struct find_version *f = arg;

	(void)ld;
	(void)folder_fd;
	if (ino != f->ino || !strcmp(name, f->except) || (f->found && v->counter < f->best.counter))
		return 0;
	f->found = true;
	f->best = *v;
	return 0;
}

int localdir_find_version(struct localdir *ld, struct op_ctx *op, const struct stat *st, const char *except,
			  struct localdir_version *ret)
{
	struct find_version f = { .ino = st->st_ino, .except = except };
	int r = walk_versions(ld, op, find_one, &f);

	if (r < 0)
		return r;
	if (!f.found)
		return -ENOENT;
	*ret = f.best;
	return 0;
}

/* --- leftovers --- */

int localdir_sweep(struct object_store *s, struct op_ctx *op, bool delete_it, object_keep_fn *keep, void *arg,
		   uint64_t *ret_n, uint64_t *ret_bytes)
{
	struct localdir *ld = localdir_of(s);
	MFS_CLEANUP(close_dir) DIR *d = open_listing(ld->tmp_fd, ".");
	uint64_t n = 0, bytes = 0;
	struct dirent *e;
	struct stat st;

	if (!d)
		return localdir_error(ld, op, errno, "open", ".massfs/tmp", "");
	if (delete_it && ld->readonly)
		return -EROFS;
	while ((e = next_entry(d))) {
		if (is_dot(e->d_name) || localdir_temp_is_mine(ld, e->d_name))
			continue;
		if (keep && keep(arg, NULL, e->d_name))
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, op,
				"volume=%s path=.massfs/tmp/%s: a folder that massfs did not make; left alone",
				ld->dir, e->d_name);
			continue;
		}
		n++;
		if (st.st_nlink == 1) /* else it is only a further name of a version */
			bytes += (uint64_t)st.st_blocks * 512;
		if (delete_it && unlinkat(dirfd(d), e->d_name, 0) < 0 && errno != ENOENT)
			return localdir_error(ld, op, errno, "unlink", ".massfs/tmp/", e->d_name);
	}
	if (errno)
		return localdir_error(ld, op, errno, "readdir", ".massfs/tmp", "");
	*ret_n = n;
	*ret_bytes = bytes;
	return 0;
}
