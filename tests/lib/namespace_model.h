/*
 * A filesystem of names in plain arrays, written from the POSIX rules and not from meta/: what the namespace is
 * compared with. Everything is small and bounded, looked through from end to end, and never fails but as a call may.
 */
#ifndef MASSFS_TESTS_NAMESPACE_MODEL_H
#define MASSFS_TESTS_NAMESPACE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_INODES   2048
#define MODEL_LINKS    24 /* of one file */
#define MODEL_XATTRS   3
#define MODEL_PATH     256
#define MODEL_VERSIONS 4096
#define MODEL_BYTES    128 /* of one file */
#define MODEL_SEGS     6

struct model_link {
	int dir; /* index of the directory's inode */
	char name[8];
};

/* What a state of a file names, by the numbers of the commits that made it; 0: none. */
struct model_names {
	unsigned int ref; /* its object */
	unsigned int seg[MODEL_SEGS], n_segs; /* patch objects */
	unsigned int doc; /* a slices document */
};

struct model_inode {
	bool used;	/* in the tree or in trash */
	bool trash;
	uint32_t mode, uid, gid;
	uint64_t size, obj_len, data, lay;
	struct model_names names;
	unsigned int inl;	  /* number of the commit whose inline bytes it has; 0: none */
	uint64_t inl_len;
	unsigned int patch[MODEL_BYTES]; /* which patch object has the byte; 0: none */
	uint64_t doc_start, doc_end;
	bool todo;
	int64_t mtime;	  /* of the last commit or utimens; -1: some time now */
	struct model_link links[MODEL_LINKS]; /* in the order in which they were made; the first is the main name */
	unsigned int n_links;
	int xattr[MODEL_XATTRS]; /* value; 0: none */
	char trash_path[MODEL_PATH];
	uint64_t real; /* the inode number it has in the namespace */
};

struct model_version {
	int inode;
	uint64_t data, size;
	struct model_names names;
	char path[MODEL_PATH];
};

struct model {
	struct model_inode v[MODEL_INODES]; /* 0 is the root */
	struct model_version versions[MODEL_VERSIONS];
	unsigned int n_versions, commits;
};

void model_init(struct model *m);
/* "" or "a/b": index of the inode, or -1. */
int model_resolve(const struct model *m, const char *path);
int model_find(const struct model *m, int dir, const char *name); /* -1: none */
void model_path(const struct model *m, int inode, char *buf);

/* Each gives 0 or -errno, as the namespace should. */
int model_make(struct model *m, int dir, const char *name, uint32_t mode, int *ret);
int model_link(struct model *m, int inode, int dir, const char *name);
int model_unlink(struct model *m, int dir, const char *name);
int model_rmdir(struct model *m, int dir, const char *name);
int model_rename(struct model *m, int from_dir, const char *from, int to_dir, const char *to, bool noreplace,
		 bool exchange);
int model_chmod(struct model *m, int inode, uint32_t mode);
int model_chown(struct model *m, int inode, uint32_t uid, uint32_t gid);
int model_utimens(struct model *m, int inode, int64_t mtime);
int model_setxattr(struct model *m, int inode, int which, int value, bool create, bool replace);
int model_removexattr(struct model *m, int inode, int which);
int model_commit(struct model *m, int inode, uint64_t len, bool keep_version, bool settle);
int model_inline(struct model *m, int inode, uint64_t len, bool keep_version);
/* [off, off+len) is in a patch object of this commit; with_doc: and one document, of [off, off+len), is named. */
int model_patch(struct model *m, int inode, uint64_t off, uint64_t len, bool with_doc, bool keep_version);
/* A version's retention, or that of what is in trash, has ended. */
void model_expire(struct model *m, unsigned int version);
void model_purge(struct model *m, int inode);
int model_truncate(struct model *m, int inode, uint64_t size, bool keep_version);
int model_undelete(struct model *m, int inode, int dir, const char *name);

#endif
