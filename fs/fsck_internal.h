/* What fsck.c (the walk), fsck_record.c (one record), fsck_content.c (its bytes) and fsck_view.c (keys) share. */
#ifndef MASSFS_FS_FSCK_INTERNAL_H
#define MASSFS_FS_FSCK_INTERNAL_H

#include "fs/fsck.h"

struct fsck_dir {
	mfs_ino_t ino, parent;
	uint32_t hint;
	unsigned int walk;
	bool seen;
};

struct fsck {
	struct volume *v;
	struct op_ctx *op;
	const struct fsck_options *opt;
	struct fsck_result *res;
	struct fsck_dir *dirs; /* sorted by ino */
	size_t n_dirs, cap_dirs;
	struct job_list jobs; /* waiting at the beginning: what they are about is no problem */
	bool too_many_jobs;   /* to keep: nothing about the view can be said */
	mfs_ino_t lost_found; /* 0: not looked for yet */
	uint64_t n_ticks;
	bool changed;
};

void fsck_problem(struct fsck *f, const char *what, mfs_ino_t ino, const char *where, bool repaired, const char *fmt, ...)
	MFS_PRINTF(6, 7);
/* With --repair: apply; was it done? */
bool fsck_repair(struct fsck *f, struct change *c);
int fsck_add_dir(struct fsck *f, const struct node *n) MFS_NODISCARD;
struct fsck_dir *fsck_find_dir(struct fsck *f, mfs_ino_t ino);
void fsck_release(struct fsck *f);

/* One record of files, but for its content. With quiet nothing is told or repaired: 1 if there would be something. damaged:
 * fsck_content() has told worse of it. */
int fsck_record(struct fsck *f, const struct node *n, bool quiet, bool damaged) MFS_NODISCARD;
/* With --repair: give it a place in /lost+found. */
bool fsck_adopt(struct fsck *f, mfs_ino_t ino);

/*
 * Is all that the state names there, long enough and this inode's, and does its record fit together? `whose` is for the
 * message. Online it is looked at again itself. (fsck_content.c)
 */
struct file_content;
int fsck_content(struct fsck *f, const char *where, const struct file_content *c, const char *whose) MFS_NODISCARD;
/* The other way round: what the store and the side collections have, against the records; counts only. */
int fsck_count_objects(struct fsck *f) MFS_NODISCARD;
int fsck_read_jobs(struct fsck *f) MFS_NODISCARD;
bool fsck_has_job(const struct fsck *f, const char *key, mfs_ino_t ino);
/* Every key shows what the index says of it. */
int fsck_view(struct fsck *f) MFS_NODISCARD;
/* With --repair: work what is queued. */
int fsck_settle(struct fsck *f) MFS_NODISCARD;

#endif
