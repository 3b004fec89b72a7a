/*
 * A volume to test without a mount: mem engine and mem store built by hand, or sqlite and localdir in a temporary
 * folder through volume_open(). Short forms that must succeed, and what a key shows.
 */
#ifndef MASSFS_TESTS_VOLUME_WORLD_H
#define MASSFS_TESTS_VOLUME_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "fs/verbs.h"
#include "fs/volume.h"

#define WORLD_RETENTION (3600 * MFS_NSEC_PER_SEC)

enum world_kind { WORLD_MEM, WORLD_LOCAL, WORLD_KINDS };

struct world {
	enum world_kind kind;
	char dir[64];
	struct mfs_config cfg;
	struct mem_shared *shared;
	struct volume *v;
	struct op_ctx op;
	_Atomic uint64_t open_ino; /* is_open says yes to this one */
	_Atomic unsigned int wakes;
	void (*woken)(void *arg); /* called by jobs_queued, if set */
	void *woken_arg;
	int n_changed; /* of verbs */
	FILE *out_file;
	char *out, *err; /* what the last verb printed */
	size_t out_len, err_len;
};

struct world *world_new(enum world_kind kind);
void world_free(struct world *w);
/* As after kill -9: the session is not closed. Then open again, as the next mount does. */
void world_crash(struct world *w);
void world_reopen(struct world *w);

mfs_ino_t world_dir(struct world *w, const char *path);	/* made; the parent is there */
mfs_ino_t world_ino(struct world *w, const char *path);	/* 0: nothing there */
struct node world_node(struct world *w, mfs_ino_t ino); /* release it */
/* A file with content, made if need be, as a close of a writer does: object at its key, commit. */
mfs_ino_t world_write(struct world *w, const char *path, const char *text);
/* The same but not yet committed: the object's version is left in *ret. */
void world_put(struct world *w, mfs_ino_t ino, const char *key, const char *text, struct object_info *ret);
int world_commit(struct world *w, mfs_ino_t ino, const char *key, const struct object_info *info, bool keep_version);
void world_rename(struct world *w, const char *from, const char *to);
void world_link(struct world *w, const char *from, const char *to);
void world_unlink(struct world *w, const char *path);
void world_truncate(struct world *w, const char *path, uint64_t size);

/* The file's content as a reader gets it. In a static buffer; NULL: no such file. */
const char *world_read(struct world *w, const char *path);
/* What the key shows; NULL: nothing. On localdir also checked against the file in objects/. */
const char *world_view(struct world *w, const char *key);
bool world_has_version(struct world *w, const char *version);
uint64_t world_jobs(struct world *w);
/* Until nothing that is due can be done. Returns how many jobs and records are left. */
uint64_t world_settle(struct world *w);
/* The same by force, as settle --wait: whatever is due later too. */
uint64_t world_force(struct world *w);

/* A verb as `uid`; out and err are kept in the world. Returns the exit status. */
int world_verb(struct world *w, uid_t uid, int argc, const char *const *argv);
#define VERB(w, uid, ...)                                                                  \
	world_verb((w), (uid), (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *)), \
		   (const char *[]){ __VA_ARGS__ })

/* Runs each test on each kind, a world of its own as *state. Returns the number of failures. */
int world_run_suite(const char *name, const struct CMUnitTest *tests, size_t n);
#define WORLD_TEST(fn) { #fn, fn, NULL, NULL, NULL }

#endif
