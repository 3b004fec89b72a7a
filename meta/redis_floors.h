/*
 * From which moment of Redis' clock on a cached value of something may be used by this mount.
 *
 * A value carries a *stamp*: the time on Redis' own clock just before the filler began to read the index. What this mount
 * must see (its own changes, news of others) *marks* the things concerned. A mark becomes a time, the *floor*, with the
 * first answer of Redis to a command that was sent after the mark was made: the change was in the index before that moment,
 * so a value with a stamp at or after it was read with the change in. Until then the mark is open and no value of that
 * thing is used.
 *
 * Things are 64-bit hashes; two that share a hash cost a miss. The table remembers the last 65,536 of them; what it forgets
 * raises the floor of all things in the same set, so forgetting costs misses too, never a wrong answer.
 *
 * A mark may say a number besides: a value that has reached that number is right whatever its stamp (a record's ver; the
 * id that a name stands for).
 *
 * All functions are thread-safe; they take one lock for some instructions and call nothing.
 */
#ifndef MASSFS_META_REDIS_FLOORS_H
#define MASSFS_META_REDIS_FLOORS_H

#include <stdatomic.h>

#include "common/sync.h"
#include "meta/node.h"

#define FLOORS_SETS 8192u
#define FLOORS_WAYS 8u
#define FLOORS_RING 256u

struct floors_way {
	uint64_t hash;	 /* with plain and noted 0: free */
	uint64_t plain;	 /* only a stamp from here on will do */
	uint64_t noted;	 /* a stamp from here on, or `number` */
	uint64_t number;
};

struct floors_point {
	uint64_t seq, t; /* marks up to seq were made before t */
};

struct floors {
	struct mfs_mutex lock; /* alone; nothing is called with it held */
	_Atomic uint64_t seq;  /* of the last mark; written with lock held */
	_Atomic uint64_t line; /* of which clock the times are: see floors_new_clock() */
	uint64_t base;	       /* floor of everything */
	uint64_t set_min[FLOORS_SETS];
	struct floors_way way[FLOORS_SETS][FLOORS_WAYS];
	struct floors_point ring[FLOORS_RING]; /* seq and t rise */
	size_t n_points;		       /* ever made; the last FLOORS_RING are there */
};

/* Taken before a command is sent to Redis. */
struct floors_view {
	uint64_t line, seq;
	uint64_t t; /* set by the caller when the answer is there: us on Redis' clock */
};

enum floors_rule {
	FLOORS_STAMP,	 /* the stamp alone */
	FLOORS_AT_LEAST, /* or a number at or above the mark's */
	FLOORS_SAME,	 /* or the same number */
};

int floors_new(struct floors **ret) MFS_NODISCARD;
void floors_free(struct floors *f);

void floors_mark(struct floors *f, uint64_t hash);
/* A value with this number (FLOORS_SAME), or this one or a higher (AT_LEAST: the highest told counts, news come twice and
 * late), will do too. */
void floors_mark_number(struct floors *f, uint64_t hash, enum floors_rule rule, uint64_t number);
void floors_mark_all(struct floors *f);
/* All floors are times of a clock that is no more (another Redis, or it was set): everything is marked, and views taken
 * before are good for nothing. */
void floors_new_clock(struct floors *f);

void floors_begin(struct floors *f, struct floors_view *ret);
/* view->t is known: marks made before the view was taken have a time now. */
void floors_seen(struct floors *f, const struct floors_view *view);
/* Marks that have no time yet. */
bool floors_open(struct floors *f);
/* Give those that can have one their time; now and then, before the points are forgotten. */
void floors_settle(struct floors *f);

/* May a value with this stamp be used, in answer to what was asked under this view? Several things of one value: all of
 * them under one floors_judge_locked() hold. */
bool floors_judge(struct floors *f, const struct floors_view *view, uint64_t hash, uint64_t stamp, enum floors_rule rule,
		  uint64_t number);
bool floors_judge_locked(struct floors *f, const struct floors_view *view, uint64_t hash, uint64_t stamp,
			 enum floors_rule rule, uint64_t number) MFS_REQUIRES(f->lock);

/* What there is to mark. */
uint64_t floors_record(mfs_ino_t ino); /* a record or an alias, by its id */
uint64_t floors_name(mfs_ino_t parent, const struct mfs_name *name);
uint64_t floors_pages(mfs_ino_t dir); /* that a name was added there */
uint64_t floors_tag(uint64_t number); /* that a record was given a tag (meta/tags.h: of a name, or of it with a value) */
uint64_t floors_tags(void);	      /* or any one */

#endif
