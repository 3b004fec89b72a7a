/*
 * Records of the side collections: what lies beside the index records. All are values that own their strings;
 * X_release() frees, and lists are released as a whole.
 */
#ifndef MASSFS_META_RECORDS_H
#define MASSFS_META_RECORDS_H

#include "meta/node.h"

/* Content that was replaced. Key: (ino, data). */
struct version_record {
	mfs_ino_t ino;
	uint64_t data;	/* the node's data counter when this was current */
	char *path;	/* where it was then, without leading slash; owned */
	struct object_ref ref;
	uint64_t size, obj_len;
	int64_t mtime;	/* of the content */
	int64_t replaced; /* wall time at which it ceased to be current */
	int64_t until;	/* wall time at which retention ends; INT64_MAX: never */
	uint32_t mode, uid, gid; /* of the file then: who may read it */
	uint32_t writer; /* uid that replaced it */
	char etag[OBJECT_ETAG_MAX + 1];
	struct node_blob slices, inline_data; /* as in the node; owned */
};

/* An object, or a slices document, that a committed change took out of the layout for good. Key: id. */
struct dropped_record {
	uint64_t id;	/* from reserve(); 0 on put: the engine gives the next */
	mfs_ino_t ino;
	struct object_ref ref; /* empty: a slices document */
	uint64_t doc_id;       /* of that document; 0: an object */
	int64_t at;	/* wall time */
};

/* Slices of one range of a file (meta/layout.h). Immutable. Key: (ino, id); ids come from reserve(). */
struct slices_doc_record {
	mfs_ino_t ino;
	uint64_t id;
	uint64_t session; /* who wrote it: for garbage collection where it is stored before the record that names it */
	struct node_blob blob;
};

enum job_kind {
	JOB_KEY = 1, /* make the object at `key` what the index says of that path */
	JOB_DIR = 2, /* a directory moved: look at every file below `ino` */
	JOB_FILE = 3, /* settle the file `ino`: its object is not a whole native one at its path */
	JOB_VIEW = 4, /* session `ino` did not end: look at every key whose top it made, for puts without a commit */
};
/* Work for the reconciler. Key: (kind, key, ino). */
struct job_record {
	enum job_kind kind;
	char *key;	/* JOB_KEY only, else NULL; owned */
	mfs_ino_t ino;
	int64_t due;	/* wall time before which it is left alone */
	uint64_t token; /* changes with each put (engine sets it); WRITE_JOB_DELETE compares it */
	uint32_t tries; /* failures so far */
};

/* A named value that is replaced by compare-and-set: locks, leases, reference counts. Key: name. */
struct cell_record {
	char *name;	/* PREFIX/REST; owned */
	uint64_t token; /* drawn at random by who writes it, never 0, so that a value never comes back under an old one */
	struct node_blob blob; /* owned; empty in a put: the cell is deleted */
};

/* One mount. Key: id. */
struct session_record {
	uint64_t id;
	char *host;	/* owned */
	char *mountpoint; /* owned */
	uint32_t pid;
	int64_t started, heartbeat, closed; /* wall time; closed 0: live or dead without a word */
};

#define MFS_DECLARE_RECORD(type)                                                              \
	struct type##_list {                                                                  \
		struct type##_record *v;                                                      \
		size_t n, cap;                                                                \
	};                                                                                    \
	void type##_record_release(struct type##_record *r);                                  \
	int type##_record_copy(const struct type##_record *r, struct type##_record *ret) MFS_NODISCARD; \
	void type##_list_release(struct type##_list *l);                                      \
	/* A zeroed record at the end, to be filled; NULL: no memory. */                       \
	struct type##_record *type##_list_add(struct type##_list *l)

MFS_DECLARE_RECORD(version);
MFS_DECLARE_RECORD(dropped);
MFS_DECLARE_RECORD(job);
MFS_DECLARE_RECORD(session);
MFS_DECLARE_RECORD(cell);
MFS_DECLARE_RECORD(slices_doc);

/* The volume's own record; read at open, written at format. */
#define MFS_SCHEMA 3
struct volume_record {
	uint32_t schema;
	char uuid[37];
	int64_t created;
};

#endif
