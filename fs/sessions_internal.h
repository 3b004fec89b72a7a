/* What sessions.c (the own session) and sessions_watch.c (those of others, and leases) share. */
#ifndef MASSFS_FS_SESSIONS_INTERNAL_H
#define MASSFS_FS_SESSIONS_INTERNAL_H

#include "common/op_ctx.h"
#include "fs/sessions.h"

#define LEASE_CELLS   "leases/"
#define SESSION_CELLS LEASE_CELLS "session-"
#define CELL_NAME     48

/* A cell's value: who wrote it and what it says. */
enum cell_word { CELL_LIVE = 'L', CELL_DEAD = 'D', CELL_ROLE = 'R' };

struct seen { /* a session of somebody else */
	uint64_t session, token; /* token 0: it has no cell */
	int64_t since;		 /* monotonic: so long it stands still */
	bool found;		 /* in this look */
	bool dead;		 /* marked by this mount: its burial is not over */
};

struct sessions {
	struct volume *v;
	int64_t lease_ns;
	int64_t beat_ns;  /* between two heartbeats, and two looks */
	int64_t death_ns; /* who was seen to stand still for so long is dead: what it held is free within lease_ns of its last moment */
	pthread_t thread;
	bool has_thread;
	struct op_ctx op; /* cancelled: the thread ends */

	/* The thread's alone (or the test's that steps). */
	uint64_t token;	 /* of the own cell */
	int64_t started, recorded; /* wall time: of the session, and of the heartbeat in its record */
	struct seen *seen;
	size_t n_seen, cap_seen;
	int64_t looked;	     /* monotonic: the last look that succeeded */
	int64_t listed;	     /* the same of the list of sessions */
	bool silent;	     /* it was said that the index does not answer */

	_Atomic int64_t confirmed; /* boot time: the last heartbeat that surely counted began then; 0: none */
	atomic_bool held[LEASE_ROLES];

	struct mfs_mutex lock; /* guards the rest */
	pthread_cond_t wake;   /* `lock`; predicate: stopping, !calling */
	bool stopping, calling;
	struct sessions_hooks hooks;
};

/* Time that goes on while the machine sleeps. */
static inline int64_t sessions_boot_ns(void)
{
	return mfs_clock_ns(CLOCK_BOOTTIME);
}

void session_cell_name(char name[CELL_NAME], uint64_t session);
/* The cell's new value joins the change; *cell is released after it, whatever is returned. It expects the old token. */
int session_cell_write(struct cell_record *cell, const char *name, enum cell_word word, uint64_t who, uint64_t expect,
		       struct change *c) MFS_NODISCARD;
/* False: it says nothing that can be read. */
bool session_cell_read(const struct cell_record *cell, enum cell_word *ret_word, uint64_t *ret_who);

/* Call one of the hooks, by `how`. */
void sessions_call(struct sessions *s, void (*how)(struct sessions *s, const struct sessions_hooks *h, uint64_t before),
		   uint64_t before);
void sessions_call_work(struct sessions *s);

/* sessions_watch.c: look at the others, bury who is dead, take leases that are free. */
int sessions_look(struct sessions *s, struct op_ctx *op) MFS_NODISCARD;
/* The leases that this session has are free from now on. */
void sessions_drop_leases(struct sessions *s, struct op_ctx *op);

#endif
