/* What the files of a search share. */
#ifndef MASSFS_FS_SEARCH_INTERNAL_H
#define MASSFS_FS_SEARCH_INTERNAL_H

#include "common/buf.h"
#include "fs/search.h"

/* A directory that was looked at: where it is, and whether the caller comes through it. */
struct search_dir {
	mfs_ino_t ino, parent; /* ino 0: free */
	char *name;	       /* owned */
	bool may_search, may_read;
};

#define SEARCH_DIRS 65536 /* that are remembered; beyond that they are read again */

struct searching {
	struct namespace *ns;
	struct op_ctx *op;
	const struct search *s;
	int (*hit)(void *arg, const struct search_hit *h);
	void *arg;
	struct search_stats stats;

	struct search_dir *dirs; /* a table of slots by hash: a collision takes the place */
	bool dir_visible;	 /* s->dir itself can be come to */
	struct mfs_buf path;	 /* of the entry at hand, from the volume's root */
	size_t below;		 /* where in it that which is below s->dir begins */

	struct search_key *keys; /* to be sorted */
	size_t n_keys, cap_keys;
};

/*
 * The path of (parent, name) in x->path, when it is at or below s->dir and the caller may see it: 1, else 0; -errno.
 * Directories that are not remembered cost a round trip each.
 */
int search_place(struct searching *x, mfs_ino_t parent, const struct mfs_name *name) MFS_NODISCARD;
/* The same for the directory s->dir itself. */
int search_place_dir(struct searching *x) MFS_NODISCARD;
/* May the caller come to s->dir at all? Sets x->dir_visible and the prefix of paths. */
int search_place_start(struct searching *x) MFS_NODISCARD;
void search_place_end(struct searching *x);

/* The record matches, if what is asked of it does, and the caller sees it under one of its names: one hit. */
int search_consider(struct searching *x, const struct node *n) MFS_NODISCARD;

/* search_walk.c: all below s->dir. */
int search_walk(struct searching *x) MFS_NODISCARD;

#endif
