/*
 * The model of the namespace.
 */
#include "tests/lib/namespace_model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void model_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
	m->v[0] = (struct model_inode){ .used = true, .mode = S_IFDIR | 0755, .mtime = -1, .real = 1 };
}

static bool is_dir(const struct model *m, int i)
{
	return S_ISDIR(m->v[i].mode);
}

static struct model_link *link_at(struct model *m, int dir, const char *name, int *inode)
{
	for (int i = 0; i < MODEL_INODES; i++)
		for (unsigned int k = 0; m->v[i].used && k < m->v[i].n_links; k++)
			if (m->v[i].links[k].dir == dir && strcmp(m->v[i].links[k].name, name) == 0) {
				*inode = i;
				return &m->v[i].links[k];
			}
	return NULL;
}

int model_find(const struct model *m, int dir, const char *name)
{
	int i;

	return link_at((struct model *)(uintptr_t)m, dir, name, &i) ? i : -1;
}

int model_resolve(const struct model *m, const char *path)
{
	char copy[MODEL_PATH], *save = NULL;
	int at = 0;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *s = strtok_r(copy, "/", &save); s && at >= 0; s = strtok_r(NULL, "/", &save))
		at = model_find(m, at, s);
	return at;
}

static void path_of_link(const struct model *m, const struct model_link *l, char *buf)
{
	char up[MODEL_PATH];

	if (l->dir == 0) {
		snprintf(buf, MODEL_PATH, "%s", l->name);
		return;
	}
	path_of_link(m, &m->v[l->dir].links[0], up);
	assert(strlen(up) + strlen(l->name) + 2 < MODEL_PATH);
	strcpy(buf, up);
	strcat(buf, "/");
	strcat(buf, l->name);
}

void model_path(const struct model *m, int inode, char *buf)
{
	buf[0] = '\0';
	if (inode)
		path_of_link(m, &m->v[inode].links[0], buf);
}

static int children(const struct model *m, int dir)
{
	int n = 0;

	for (int i = 0; i < MODEL_INODES; i++)
		for (unsigned int k = 0; m->v[i].used && k < m->v[i].n_links; k++)
			n += m->v[i].links[k].dir == dir;
	return n;
}

static void add_link(struct model *m, int inode, int dir, const char *name)
{
	struct model_inode *n = &m->v[inode];

	assert(n->n_links < MODEL_LINKS);
	n->links[n->n_links].dir = dir;
	snprintf(n->links[n->n_links++].name, sizeof(n->links[0].name), "%s", name);
	m->v[dir].mtime = -1;
}

int model_make(struct model *m, int dir, const char *name, uint32_t mode, int *ret)
{
	int i = 1;

	if (model_find(m, dir, name) >= 0)
		return -EEXIST;
	while (i < MODEL_INODES && m->v[i].used)
		i++;
	assert(i < MODEL_INODES);
	m->v[i] = (struct model_inode){ .used = true, .mode = mode, .mtime = -1, .data = 1, .lay = 1 };
	if (S_ISLNK(mode)) {
		m->v[i].mode = S_IFLNK | 0777;
		m->v[i].size = 6;
	}
	m->v[i].gid = m->v[dir].mode & S_ISGID ? m->v[dir].gid : 0;
	if (S_ISDIR(mode))
		m->v[i].mode |= m->v[dir].mode & S_ISGID;
	add_link(m, i, dir, name);
	*ret = i;
	return 0;
}

int model_link(struct model *m, int inode, int dir, const char *name)
{
	if (is_dir(m, inode))
		return -EPERM;
	if (model_find(m, dir, name) >= 0)
		return -EEXIST;
	add_link(m, inode, dir, name);
	return 0;
}

static void remove_link(struct model *m, int inode, struct model_link *l)
{
	struct model_inode *n = &m->v[inode];
	size_t k = (size_t)(l - n->links);
	char path[MODEL_PATH];

	path_of_link(m, l, path);
	m->v[l->dir].mtime = -1;
	memmove(l, l + 1, (n->n_links - k - 1) * sizeof(*l));
	if (--n->n_links)
		return;
	n->trash = S_ISREG(n->mode) || S_ISLNK(n->mode);
	n->used = n->trash;
	strcpy(n->trash_path, path);
}

int model_unlink(struct model *m, int dir, const char *name)
{
	int i;
	struct model_link *l = link_at(m, dir, name, &i);

	if (!l)
		return -ENOENT;
	if (is_dir(m, i))
		return -EISDIR;
	remove_link(m, i, l);
	return 0;
}

int model_rmdir(struct model *m, int dir, const char *name)
{
	int i;
	struct model_link *l = link_at(m, dir, name, &i);

	if (!l)
		return -ENOENT;
	if (!is_dir(m, i))
		return -ENOTDIR;
	if (children(m, i))
		return -ENOTEMPTY;
	remove_link(m, i, l);
	return 0;
}

/* Is `at` the directory `dir` or below it? */
static bool below(const struct model *m, int at, int dir)
{
	while (at != dir && at != 0)
		at = m->v[at].links[0].dir;
	return at == dir;
}

static void place(struct model *m, struct model_link *l, int dir, const char *name)
{
	m->v[l->dir].mtime = m->v[dir].mtime = -1;
	l->dir = dir;
	snprintf(l->name, sizeof(l->name), "%s", name);
}

static int exchange(struct model *m, int s, int d, struct model_link *from, struct model_link *to)
{
	struct model_link old = *from;

	if ((is_dir(m, s) && below(m, to->dir, s)) || (is_dir(m, d) && below(m, from->dir, d)))
		return -EINVAL;
	place(m, from, to->dir, to->name);
	place(m, to, old.dir, old.name);
	return 0;
}

int model_rename(struct model *m, int from_dir, const char *from, int to_dir, const char *to, bool noreplace,
		 bool exchanges)
{
	int s = -1, d = -1;
	struct model_link *l = link_at(m, from_dir, from, &s), *t = link_at(m, to_dir, to, &d);

	if (!l || (exchanges && !t))
		return -ENOENT;
	if (t && noreplace)
		return -EEXIST;
	if (t && s == d)
		return 0;
	if (exchanges)
		return exchange(m, s, d, l, t);
	if (t && is_dir(m, s) && !is_dir(m, d))
		return -ENOTDIR;
	if (t && !is_dir(m, s) && is_dir(m, d))
		return -EISDIR;
	if (t && is_dir(m, d) && children(m, d))
		return -ENOTEMPTY;
	if (is_dir(m, s) && below(m, to_dir, s))
		return -EINVAL;
	if (t)
		remove_link(m, d, t);
	place(m, l, to_dir, to);
	return 0;
}

int model_chmod(struct model *m, int inode, uint32_t mode)
{
	m->v[inode].mode = (m->v[inode].mode & S_IFMT) | mode;
	return 0;
}

int model_chown(struct model *m, int inode, uint32_t uid, uint32_t gid)
{
	struct model_inode *n = &m->v[inode];

	n->uid = uid;
	n->gid = gid;
	if (is_dir(m, inode))
		return 0;
	n->mode &= ~(uint32_t)S_ISUID;
	if (n->mode & S_IXGRP)
		n->mode &= ~(uint32_t)S_ISGID;
	return 0;
}

int model_utimens(struct model *m, int inode, int64_t mtime)
{
	m->v[inode].mtime = mtime;
	return 0;
}

int model_setxattr(struct model *m, int inode, int which, int value, bool create, bool replace)
{
	struct model_inode *n = &m->v[inode];

	if (!S_ISREG(n->mode) && !S_ISDIR(n->mode))
		return -EPERM;
	if (create && n->xattr[which])
		return -EEXIST;
	if (replace && !n->xattr[which])
		return -ENODATA;
	n->xattr[which] = value;
	return 0;
}

int model_removexattr(struct model *m, int inode, int which)
{
	struct model_inode *n = &m->v[inode];

	if (!S_ISREG(n->mode) && !S_ISDIR(n->mode))
		return -EPERM;
	if (!n->xattr[which])
		return -ENODATA;
	n->xattr[which] = 0;
	return 0;
}

static void keep(struct model *m, int inode)
{
	struct model_inode *n = &m->v[inode];
	struct model_version *v = &m->versions[m->n_versions++];

	assert(m->n_versions <= MODEL_VERSIONS);
	*v = (struct model_version){ .inode = inode, .data = n->data, .size = n->size, .names = n->names };
	model_path(m, inode, v->path);
}

static int check_content(const struct model_inode *n)
{
	if (S_ISDIR(n->mode))
		return -EISDIR;
	return S_ISREG(n->mode) ? 0 : -EINVAL;
}

static void no_layers(struct model_inode *n)
{
	n->inl = 0;
	n->inl_len = 0;
	memset(n->patch, 0, sizeof(n->patch));
	n->todo = false;
}

static void replaced(struct model *m, int inode, bool keep_version)
{
	const struct model_inode *n = &m->v[inode];

	if (keep_version && !n->trash && (n->names.ref || n->size))
		keep(m, inode);
}

static void new_content(struct model *m, struct model_inode *n)
{
	n->lay++;
	n->data++;
	n->mtime = 1000 + m->commits;
}

int model_inline(struct model *m, int inode, uint64_t len, bool keep_version)
{
	struct model_inode *n = &m->v[inode];
	int r = check_content(n);

	m->commits++;
	if (r < 0)
		return r;
	replaced(m, inode, keep_version);
	n->names = (struct model_names){ 0 };
	no_layers(n);
	n->inl = len ? m->commits : 0;
	n->inl_len = n->size = len;
	n->obj_len = 0;
	n->todo = true;
	new_content(m, n);
	return 0;
}

int model_patch(struct model *m, int inode, uint64_t off, uint64_t len, bool with_doc, bool keep_version)
{
	struct model_inode *n = &m->v[inode];
	struct model_names *names = &n->names;
	int r = check_content(n);

	m->commits++;
	if (r < 0)
		return r;
	replaced(m, inode, keep_version);
	if (names->n_segs == MODEL_SEGS) { /* as if all of it were composed into this one */
		memset(n->patch, 0, sizeof(n->patch));
		*names = (struct model_names){ .ref = names->ref };
	}
	names->seg[names->n_segs++] = m->commits;
	for (uint64_t i = off; i < off + len; i++)
		n->patch[i] = m->commits;
	if (with_doc) {
		names->doc = m->commits;
		n->doc_start = off;
		n->doc_end = off + len;
	}
	n->inl = 0;
	n->inl_len = 0;
	if (n->size < off + len)
		n->size = off + len;
	n->todo = true;
	new_content(m, n);
	return 0;
}

/* The end of a file goes: so do the patches and the document that were of nothing else. */
static void clip(struct model_inode *n, uint64_t size)
{
	bool patched = false;

	for (uint64_t i = 0; i < MODEL_BYTES; i++) {
		n->patch[i] = i < size ? n->patch[i] : 0;
		patched |= n->patch[i] != 0;
	}
	if (n->doc_end > size)
		n->doc_end = size;
	if (n->doc_start >= size)
		n->names.doc = 0;
	if (!patched && !n->names.doc)
		n->names = (struct model_names){ .ref = n->names.ref };
	if (n->inl_len > size)
		n->inl_len = size;
	n->inl = n->inl_len ? n->inl : 0;
}

void model_expire(struct model *m, unsigned int version)
{
	m->versions[version] = m->versions[--m->n_versions];
}

void model_purge(struct model *m, int inode)
{
	m->v[inode] = (struct model_inode){ 0 };
}

int model_commit(struct model *m, int inode, uint64_t len, bool keep_version, bool settle)
{
	struct model_inode *n = &m->v[inode];
	int r = check_content(n);

	m->commits++;
	if (r < 0)
		return r;
	replaced(m, inode, keep_version && !settle);
	n->names = (struct model_names){ .ref = m->commits };
	no_layers(n);
	n->lay++;
	if (settle) {
		n->obj_len = n->size;
		return 0;
	}
	n->size = n->obj_len = len;
	n->data++;
	n->mtime = 1000 + m->commits;
	return 0;
}

int model_truncate(struct model *m, int inode, uint64_t size, bool keep_version)
{
	struct model_inode *n = &m->v[inode];
	int r = check_content(n);

	if (r < 0)
		return r;
	n->mtime = -1;
	if (size == n->size)
		return 0;
	if (size < n->size && keep_version && !n->trash)
		keep(m, inode);
	n->todo |= n->names.ref || n->size || size;
	if (size < n->size)
		clip(n, size);
	n->size = size;
	if (n->obj_len > size)
		n->obj_len = size;
	n->data++;
	n->lay++;
	return 0;
}

int model_undelete(struct model *m, int inode, int dir, const char *name)
{
	struct model_inode *n = &m->v[inode];

	if (!n->trash)
		return -ENOENT;
	if (model_find(m, dir, name) >= 0)
		return -EEXIST;
	n->trash = false;
	n->trash_path[0] = '\0';
	n->todo |= n->inl || n->names.n_segs;
	add_link(m, inode, dir, name);
	return 0;
}
