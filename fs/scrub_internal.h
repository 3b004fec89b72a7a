/* What scrub.c (which files) and scrub_file.c (one file and its versions) share. */
#ifndef MASSFS_FS_SCRUB_INTERNAL_H
#define MASSFS_FS_SCRUB_INTERNAL_H

#include "fs/scrub.h"

struct scrub {
	struct volume *v;
	struct op_ctx *op;
	const struct scrub_options *opt;
	struct scrub_result *res;
	char *buf; /* SCRUB_CHUNK bytes */
	int64_t began; /* CLOCK_MONOTONIC, for the rate */
	uint64_t read; /* since then */
};

#define SCRUB_CHUNK (1u << 20)

/*
 * The record (NULL: it has none any more, only versions), and all versions of the inode, each object once. What is damaged is
 * told, with what is intact, when all were read.
 */
int scrub_file(struct scrub *s, mfs_ino_t ino, const struct node *n) MFS_NODISCARD;
/* Reads the whole object. 0, 1 (then what and detail say what is wrong), or -errno: could not look. */
struct piece;
#define SCRUB_DETAIL 160
struct scrub_finding {
	const char *what; /* NULL: intact */
	char detail[SCRUB_DETAIL];
};
int scrub_object(struct scrub *s, const struct piece *p, struct scrub_finding *ret) MFS_NODISCARD;

#endif
