/*
 * Is what the store holds still what was written? Every object that the index names (of files, removed files, versions;
 * whole objects and segments of patch logs) is read from the disk, its length and its checksum are compared with the
 * record, and the record's own consistency is checked (fs/pieces.h).
 *
 * Online, what looks damaged is looked at again with a fresh read of the records: only what they still name counts.
 */
#ifndef MASSFS_FS_SCRUB_H
#define MASSFS_FS_SCRUB_H

#include "fs/volume.h"

struct scrub_damage {
	const char *what; /* "missing", "short", "too long", "wrong checksum", "unreadable", "damaged record" */
	mfs_ino_t ino;
	const char *path;    /* of the file, or where the version or removed file was */
	const char *state;   /* "current", "removed", or a version's name as massfs restore takes it */
	const char *key, *version; /* of the object; "" for a damaged record */
	const char *detail;
	uint64_t size;	     /* of the object, as the record has it */
	uint64_t lost;	     /* bytes of this state that are in it */
	const char *intact;  /* names of the states of the file that are whole, newest first, ", " between them; "" none */
	bool quarantined;
};

struct scrub_options {
	uint64_t rate;	 /* bytes per second; 0: as fast as it goes */
	bool quarantine; /* damaged objects are set aside (object_set_aside) */
	mfs_ino_t root;	 /* 0: everything, removed files included; else this file, or the files below this directory, and
			  * their versions */
	void (*damage)(void *arg, const struct scrub_damage *d);
	void (*progress)(void *arg, uint64_t bytes, uint64_t objects);
	void (*set_aside)(void *arg, mfs_ino_t ino); /* after a quarantine: who has it in memory must forget it */
	void *arg;
};
struct scrub_result {
	uint64_t files, versions, objects, bytes;
	uint64_t unverified, unverified_bytes; /* read, but no checksum is known of them */
	uint64_t damaged;     /* states times objects: what was told */
	uint64_t quarantined, failed; /* failed: could not be set aside */
};
/* 0 however much is damaged; -errno: could not look at everything. */
int scrub_run(struct volume *v, struct op_ctx *op, const struct scrub_options *opt, struct scrub_result *ret) MFS_NODISCARD;

#endif
