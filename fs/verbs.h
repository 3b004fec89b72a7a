/*
 * The verbs of `massfs` that look at or change a volume: info, status, versions, restore, undelete, gc, fsck, settle,
 * warmup, evict.
 * The same code runs in the daemon for a caller of the control socket, and in the tool on an unmounted volume.
 */
#ifndef MASSFS_FS_VERBS_H
#define MASSFS_FS_VERBS_H

#include <stdio.h>

#include "fs/volume.h"

struct massfs;

struct verb_call {
	struct volume *vol;
	struct massfs *fs;	 /* NULL offline */
	struct mfs_cred cred;	 /* whom it is for: checked as the filesystem would */
	struct op_ctx *op;
	int argc;
	char **argv;		 /* argv[0] is the verb; paths are relative to the mount's root, no leading slash */
	const char *mountpoint;	 /* to print paths with; "" offline */
	FILE *out, *err;
	bool progress;		 /* a terminal wants a bar on err */
	/* The kernel must forget what it knows of this file's content and of this name; NULL-safe helpers in verbs.c. */
	void (*changed)(void *arg, mfs_ino_t ino, mfs_ino_t parent, const char *name);
	void *changed_arg;
	int64_t started_ns;	 /* CLOCK_MONOTONIC, of the daemon; 0 offline */
};

/* Exit status: 0, 1 failure (said on err), 2 usage. */
int verb_run(struct verb_call *call);
bool verb_exists(const char *name);
/* Does the verb take a path as its first operand (then the tool finds the mount from it)? */
bool verb_takes_path(const char *name);
/* Several of them: the tool calls the verb for each (they may be on several mounts). */
bool verb_takes_paths(const char *name);
void verb_print_help(FILE *out);

#endif
