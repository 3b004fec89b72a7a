/*
 * Keeps the reconciler and uploads of this daemon from undoing each other's work at one key.
 *
 * The danger: an upload has put version 2 on top of a key and not yet committed it; the reconciler, for which the
 * index still says version 1, puts 1 back on top; then 2 is committed, and nothing is queued that would show it.
 * So whoever stores an object at a key that a commit shall name enters the key's gate before the put (or complete)
 * and leaves it after the commit. The reconciler holds a key for done only if no upload was inside before and none
 * has entered since it looked; else the key stays queued. No one ever waits here for an upload.
 *
 * All zero is a valid beginning.
 */
#ifndef MASSFS_FS_KEY_GATE_H
#define MASSFS_FS_KEY_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "common/hash.h"
#include "common/sync.h"

#define KEY_GATE_STRIPES 256

struct key_gate {
	struct key_gate_stripe {
		_Atomic uint64_t entered, left;
	} stripe[KEY_GATE_STRIPES];

	/* The reconciler's lease: one page of jobs at a time, whoever works the queue (thread, verb, drain). */
	struct mfs_mutex lock;
	pthread_cond_t changed; /* `lock`; predicate: !leased */
	bool leased;
};

static inline struct key_gate_stripe *key_gate_stripe(struct key_gate *g, const char *key)
{
	return &g->stripe[mfs_hash64(key, strlen(key)) % KEY_GATE_STRIPES];
}

static inline void key_gate_enter(struct key_gate *g, const char *key)
{
	atomic_fetch_add(&key_gate_stripe(g, key)->entered, 1);
}

static inline void key_gate_leave(struct key_gate *g, const char *key)
{
	atomic_fetch_add(&key_gate_stripe(g, key)->left, 1);
}

/* Is no upload inside? *ret_mark is for key_gate_unmoved(). */
static inline bool key_gate_idle(struct key_gate *g, const char *key, uint64_t *ret_mark)
{
	struct key_gate_stripe *s = key_gate_stripe(g, key);

	*ret_mark = atomic_load(&s->entered);
	return atomic_load(&s->left) == *ret_mark;
}

/* Has none entered since? */
static inline bool key_gate_unmoved(struct key_gate *g, const char *key, uint64_t mark)
{
	return atomic_load(&key_gate_stripe(g, key)->entered) == mark;
}

static inline void key_gate_lease(struct key_gate *g)
{
	MFS_GUARD(&g->lock);

	while (g->leased)
		pthread_cond_wait(&g->changed, &g->lock.m);
	g->leased = true;
}

static inline void key_gate_release(struct key_gate *g)
{
	MFS_GUARD(&g->lock);

	g->leased = false;
	pthread_cond_signal(&g->changed);
}

#endif
