/* Several mounts of one index in memory, without kernels: sessions, locks, commits. For tests of what mounts share. */
#ifndef MASSFS_TESTS_LOCK_WORLD_H
#define MASSFS_TESTS_LOCK_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "fs/file_locks.h"
#include "fs/sessions.h"
#include "meta/locks.h"

#define MS INT64_C(1000000)

struct lock_mount {
	struct volume v;
	struct mfs_config cfg;
	struct file_locks *fl;
	struct locks *locks;
	int n_lost, n_renewed, n_work; /* calls of hooks */
	void (*on_work)(struct lock_mount *m); /* or NULL */
	void *arg;
};

struct lock_world {
	struct mem_shared *shared;
	struct object_store *store; /* in memory, of all mounts */
	struct op_ctx op;
	struct lock_mount *m[8];
	struct engine *look; /* of nobody */
	struct namespace *ns;
};

struct lock_world *lock_world_new(void);
void lock_world_free(struct lock_world *w); /* mounts first */
int lock_world_setup(void **state); /* for cmocka; the second frees what mounts there are, too */
int lock_world_teardown(void **state);
/* The first n, none with a heartbeat of its own. */
void lock_world_mounts(struct lock_world *w, int n, int64_t lease_ns);

/* heartbeat: a thread keeps the session; else the test steps it. plan (or NULL): faults of its engine. */
struct lock_mount *lock_mount_new(struct lock_world *w, int64_t lease_ns, bool heartbeat, const struct fault_plan *plan);
void lock_mount_free(struct lock_mount *m); /* an unmount */
/* As kill -9. */
void lock_mount_kill(struct lock_mount *m);
/* So many changes more arrive in the index, then none. One mount at a time; lock_mount_kill() it. */
void lock_mount_die_after(struct lock_mount *m, int changes);

mfs_ino_t lock_file(struct lock_world *w, const char *name); /* an empty file in the root */
struct file_lock lock_of(mfs_ino_t ino, uint64_t owner, uint8_t type, uint64_t start, uint64_t end);
/* Through the mount's table, without waiting. */
int lock_set(struct lock_mount *m, struct file_lock l);
/* Waiting; on the caller's thread. */
int lock_wait(struct lock_mount *m, struct file_lock l);
/* What the index says of a file's locks; release it. */
struct lock_table lock_index(struct lock_world *w, mfs_ino_t ino);
size_t lock_count(struct lock_world *w, mfs_ino_t ino);
bool lock_is_fenced(struct lock_world *w, mfs_ino_t ino, uint64_t session);
/* A commit of inline bytes as this mount's session. */
int lock_commit(struct lock_mount *m, mfs_ino_t ino, const char *text);
bool lock_session_is_closed(struct lock_world *w, uint64_t session);
void lock_sleep(int64_t ns);

#endif
