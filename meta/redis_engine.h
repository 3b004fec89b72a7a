/*
 * What else can be asked of a redis engine (meta/engine.h makes one).
 */
#ifndef MASSFS_META_REDIS_ENGINE_H
#define MASSFS_META_REDIS_ENGINE_H

#include "meta/engine.h"

struct redis_stats {
	bool up;	/* Redis is in use */
	bool live;	/* and so are cached answers: the news channel works */
	bool listening; /* hints of other mounts come */
	uint64_t epoch; /* 0: not known yet */
	uint64_t hits, misses; /* of get, lookup and list; asked while Redis was in use */
	uint64_t fills;	       /* values given to Redis that it took */
	uint64_t bad;	       /* values that did not verify */
	uint64_t old;	       /* values that verified, but news say are too old */
	uint64_t hints_sent, hints_seen; /* messages; seen: of others, verified */
	uint64_t failures;     /* how often Redis was given up for a while */
	char why[160];	       /* of the last time; no secret is in it */
};
void redis_engine_stats(struct engine *e, struct redis_stats *ret);

#endif
