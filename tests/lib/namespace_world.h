/*
 * A namespace to test: one fresh index of some engine, one or two mounts of it, short forms of the calls, and a walk
 * that checks that the index is consistent. A further engine needs one line in ns_kinds[].
 */
#ifndef MASSFS_TESTS_NAMESPACE_WORLD_H
#define MASSFS_TESTS_NAMESPACE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "meta/namespace.h"

#define NS_MOUNTS 2
#define RETENTION (3600 * MFS_NSEC_PER_SEC)

struct ns_world;
struct ns_kind {
	const char *name;
	unsigned int mounts; /* engine instances that may have one index open at a time */
	int (*open)(struct ns_world *w, unsigned int mount, struct engine **ret);
	bool asked; /* only when MASSFS_TEST_ENGINE names it: it needs a server */
	/* No big transactions (meta/change.h): a directory's nlink stays 1, documents of slices may be there without the change
	 * that would have named them, and another mount's changes are counted a little later. */
	bool loose;
};
extern const struct ns_kind ns_kinds[];
extern const size_t ns_n_kinds;

struct ns_world {
	const struct ns_kind *kind;
	struct mem_shared *shared; /* mem */
	char dir[64];		   /* sqlite, mongo */
	void *mongo;		   /* the database */
	struct engine *e[NS_MOUNTS]; /* with one mount, e[1] is e[0] */
	struct engine *bare;	     /* e[0] below what was wrapped around it; for looking at the index */
	struct namespace *ns[NS_MOUNTS];
	struct op_ctx op;
	_Atomic uint64_t open_ino; /* the is_open hook says yes to this one */
	atomic_uint wakes;	   /* of the reconciler */
	atomic_uint versions;	   /* for refs */
	struct engine_ops paused;  /* by ns_world_pause() */
};

/* wrap (may be NULL): puts a layer over the first mount's engine. 0 or -errno; owned by the caller. */
typedef int (*ns_wrap_fn)(struct engine *inner, void *arg, struct engine **ret);
int ns_world_new(const struct ns_kind *kind, ns_wrap_fn wrap, void *arg, struct ns_world **ret) MFS_NODISCARD;
void ns_world_free(struct ns_world *w);
/* From now on each change is held up for a random moment before it is applied, so that what was read for it has time
 * to change: without that, two threads on two processors seldom meet. */
void ns_world_pause(struct ns_world *w);
MFS_DEFINE_AUTO(ns_world, struct ns_world, ns_world_free);

/*
 * Every name leads to a record and every record hangs in the tree, once for each of its links; the counts are right;
 * what is in trash has no name; the engine finds nothing wrong. Returns the number of faults, each printed.
 */
unsigned int ns_world_check(struct ns_world *w);

/* Calls that must succeed, on mount 0 as root. */
mfs_ino_t mk(struct ns_world *w, mfs_ino_t dir, const char *name, uint32_t mode);
#define mkfile(w, dir, name) mk(w, dir, name, S_IFREG | 0644)
#define mkdirat_(w, dir, name) mk(w, dir, name, S_IFDIR | 0755)
struct mfs_attr attr_of(struct ns_world *w, mfs_ino_t ino);
/* engine_count() gives so many files, on a loose engine within 10 s; else false, and what it gives. */
bool files_counted(struct ns_world *w, struct engine *e, uint64_t want, uint64_t *ret);
/* The nlink of a directory with so many subdirectories. */
uint32_t dir_nlink(const struct ns_world *w, uint32_t subdirs);
/* Of a name; 0: there is none. */
mfs_ino_t ino_at(struct ns_world *w, mfs_ino_t dir, const char *name);
char *path_of(struct ns_world *w, mfs_ino_t ino); /* owned; NULL: -ENOENT */
/* Content of `len` bytes at its key by a commit, keeping a version. key NULL: where it belongs. */
void put(struct ns_world *w, mfs_ino_t ino, const char *key, uint64_t len);

/* Calls whose outcome is the test's matter. */
int do_make(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *name, uint32_t mode, mfs_ino_t *ret);
int do_link(struct ns_world *w, unsigned int mount, mfs_ino_t ino, mfs_ino_t dir, const char *name);
int do_unlink(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *name);
int do_rmdir(struct ns_world *w, unsigned int mount, mfs_ino_t dir, const char *name);
int do_rename(struct ns_world *w, unsigned int mount, mfs_ino_t from_dir, const char *from, mfs_ino_t to_dir,
	      const char *to, unsigned int flags);
int do_commit(struct ns_world *w, unsigned int mount, mfs_ino_t ino, const char *key, uint64_t len);

/* Jobs as text, sorted, one a line ("key K", "dir I", "file I"); they are deleted. Owned. */
char *take_jobs(struct ns_world *w);
#define assert_jobs(w, expected)                    \
	do {                                        \
		char *jobs_ = take_jobs(w);         \
		assert_string_equal(jobs_, expected); \
		free(jobs_);                        \
	} while (0)
/* "key a/b\n" and so on, formatted. In a static ring of buffers. */
const char *fmt(const char *f, ...) MFS_PRINTF(1, 2);

/* Runs each test once on each kind of engine, with a world of its own as *state. Returns the number of failures. */
struct ns_test {
	const char *name;
	void (*fn)(void **state);
};
#define NS_TEST(fn) { #fn, fn }
int ns_suite_run(const char *suite, const struct ns_test *tests, size_t n);
/* Only on the engine of this name (NULL: on all that need no server). */
int ns_suite_run_on(const char *engine, const char *suite, const struct ns_test *tests, size_t n);

/* An environment variable as a number. */
uint64_t env_number(const char *name, uint64_t fallback);

#endif
