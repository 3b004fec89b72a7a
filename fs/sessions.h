/*
 * A mount among others: its session with a heartbeat, and its watch over theirs.
 *
 * Each session has an index cell leases/session-NUMBER, which its mount replaces once a second, expecting what it wrote
 * before. The others see it change. One that stands still for nearly `lease` (two heartbeats less, so that what it held is free
 * within `lease` of its death), on the watcher's own clock (rule M7) and while the watcher saw the index all the time, is dead: the watcher marks the cell, which the dead one's next heartbeat
 * cannot pass, so that a session never comes back; takes its locks away (each record fenced in the same change); and
 * closes it. Whoever dies in between is followed by the next one.
 *
 * A mount that finds itself buried was frozen: its locks are lost, what it wrote to files it had locked cannot be
 * committed any more (EIO), and it goes on as a new session.
 *
 * Only on engines with ENGINE_NEWS; elsewhere the volume's lock says that a session is dead (fs/volume.c).
 */
#ifndef MASSFS_FS_SESSIONS_H
#define MASSFS_FS_SESSIONS_H

#include "common/defs.h"
#include "fs/leases.h"
#include "fs/volume.h"

struct sessions;

struct sessions_hooks {
	void *arg;
	/* On the heartbeat's thread, no lock held. lost: before the new session begins; its locks are somebody else's. */
	void (*lost)(void *arg, uint64_t session);
	/* v->session and the engine's are the new one from now on. */
	void (*renewed)(void *arg, uint64_t before, uint64_t session);
	/* There is work for the reconciler: a lease was taken over, or a session buried. */
	void (*work)(void *arg);
};

/*
 * Begin a session: v->session and v->engine->session are set. With `heartbeat` (all but tests) a thread keeps it, watches
 * the others and takes leases, which are asked for at once: roles that nobody has are held on return.
 */
int sessions_begin(struct volume *v, struct op_ctx *op, bool heartbeat, struct sessions **ret) MFS_NODISCARD;
/* Close it; leases and what is left of its cells go. A session that ends so leaves no lock: they were given back before.
 * NULL: nothing. */
void sessions_end(struct sessions *s);

/* From now on these; NULL: none. On return none of the former is being called. */
void sessions_hook(struct sessions *s, const struct sessions_hooks *hooks);

/*
 * Is the session surely not buried at this moment? A lock that was taken before such a moment counts; one after which it is
 * not so may be on a list that nobody looks at any more. No round trip.
 */
bool sessions_sure(struct sessions *s);

/* One step of the thread's, for tests: a heartbeat, a look at the others, burials that are due. */
int sessions_step(struct sessions *s, struct op_ctx *op) MFS_NODISCARD;

/* Does this session count as alive: has it a cell that nobody marked? 1, 0. 1 round trip. */
int sessions_alive(struct engine *e, struct op_ctx *op, uint64_t session) MFS_NODISCARD;

#endif
