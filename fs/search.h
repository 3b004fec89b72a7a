/*
 * Searches for files: an expression (meta/expr.h) answered from an index where a part of it has one, else by a walk through
 * the tree; only what the caller may see.
 *
 * Who may see a file: search permission on every directory above the one that is searched, and read and search permission
 * on that one and all below it: what find(1) would come to. A hard link is found under the first of its names that the
 * caller may see. Of a file that the caller may not read, tags, type of content and hash are as if it had none.
 */
#ifndef MASSFS_FS_SEARCH_H
#define MASSFS_FS_SEARCH_H

#include "meta/expr.h"
#include "meta/namespace.h"

#define SEARCH_SORT_MAX 1000000 /* hits that an order other than that of inodes takes */

enum search_order { SEARCH_BY_INODE, SEARCH_BY_NAME, SEARCH_BY_PATH, SEARCH_BY_SIZE, SEARCH_BY_MTIME, SEARCH_BY_CREATED };

struct search {
	const struct expr *expr;
	mfs_ino_t dir;		   /* what is searched: it and all below it */
	const struct mfs_cred *cred; /* NULL: may see everything */
	enum search_order order;
	bool reverse;
	bool indexed_only; /* refuse to walk: -ENOTSUP */
	mfs_ino_t after;   /* only hits with an inode above this one; needs SEARCH_BY_INODE */
	uint64_t limit;	   /* hits; 0: all */
};

struct search_hit {
	const struct node *node;
	const char *path; /* from the volume's root */
	const char *below; /* from `dir`; "" is dir itself */
};

struct search_stats {
	struct expr_plan plan; /* points into the expression; n 0: walked */
	uint64_t rows;	  /* records that were read and looked at */
	uint64_t queries; /* round trips of the engine for them */
	uint64_t hits;	  /* that matched and that the caller may see */
	mfs_ino_t next;	  /* of the last hit, where there may be more behind it (limit reached); 0: the end */
};

/*
 * Calls hit for each, from this thread; what it returns other than 0 ends the search and is returned. 0 or -errno: -ENOTSUP
 * (see indexed_only), -E2BIG (more than SEARCH_SORT_MAX to sort), -EINVAL. The plan holds pages of 1,000 records at most,
 * and a bounded number of directories.
 */
int search_run(struct namespace *ns, struct op_ctx *op, const struct search *s,
	       int (*hit)(void *arg, const struct search_hit *h), void *arg, struct search_stats *ret) MFS_NODISCARD;

/* The uid of a user's name, for expr_env. */
bool search_user(void *arg, const char *name, uint32_t *ret_uid);
/* "tag year = 2026" for an explanation; lives in *buf. */
const char *search_part_text(const struct expr_part *p, struct mfs_buf *buf);

#endif
