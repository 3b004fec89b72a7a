/*
 * Garbage, by the rules of design.md: objects never named by the index (only of sessions that are closed), objects
 * dropped by a committed change (after 60 s), and versions and trash whose retention has ended. Each object is deleted
 * only after the inode's record, versions and trash were read again and none names it, and after what freed it is
 * safe from power loss. Objects that massfs did not make are counted and never touched.
 *
 * A record names the object it refers to, the segments of its patch log and its slices documents (meta/layout.h).
 * Documents are garbage by the same rules as objects.
 *
 * It rests on one invariant: a version that an inode's records name carries that inode's number (object_meta.ino).
 * Whoever gives content to another inode makes a new version for it. fsck checks that.
 */
#ifndef MASSFS_FS_GC_H
#define MASSFS_FS_GC_H

#include "fs/volume.h"

struct gc_result {
	uint64_t unnamed, unnamed_bytes;   /* objects that no commit named, of ended sessions */
	uint64_t in_flight;		   /* the same, but of a live session: not garbage yet */
	uint64_t waiting;		   /* dropped, but less than a minute ago */
	uint64_t dropped, dropped_bytes;
	uint64_t expired_versions, expired_trash;
	uint64_t temp_files, temp_bytes;   /* unfinished uploads */
	uint64_t foreign, foreign_bytes;   /* not ours: kept */
	uint64_t deleted, deleted_bytes, failed, objects, referenced;
	uint64_t docs, referenced_docs, unnamed_docs, dropped_docs, deleted_docs; /* slices documents */
};
struct gc_options {
	bool delete_it;		/* else only counted */
	int64_t now;		/* wall time */
	int64_t dropped_age_ns; /* 60 s */
	/* Each piece: "unnamed", "dropped", "expired version", "expired trash", "unnamed slices", "dropped slices"; info has
	 * version (of slices: the document's number), size (0: unknown) and ino. May be NULL. */
	void (*found)(void *arg, const char *what, const struct object_info *info);
	void (*progress)(void *arg, uint64_t done);
	void *arg;
};
/* The whole walk: all versions in the store against the index. */
int gc_run(struct volume *v, struct op_ctx *op, const struct gc_options *opt, struct gc_result *ret) MFS_NODISCARD;
/* Only what the index lists as dropped or expired; cheap, for the mount's thread. */
int gc_expire(struct volume *v, struct op_ctx *op, const struct gc_options *opt, struct gc_result *ret) MFS_NODISCARD;

struct collector;
int collector_start(struct volume *v, struct collector **ret) MFS_NODISCARD; /* gc_expire every 10 s */
void collector_stop(struct collector *c); /* NULL: nothing */

#endif
