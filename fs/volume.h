/*
 * A volume in use: the one place that names implementations and builds the stacks (config -> engine, store,
 * namespace), takes the volume's lock and opens a session. Used by the mount and by the tools on an unmounted volume.
 */
#ifndef MASSFS_FS_VOLUME_H
#define MASSFS_FS_VOLUME_H

#include <stdatomic.h>

#include "backend/object_store.h"
#include "common/conf.h"
#include "fs/key_gate.h"
#include "fs/mime.h"
#include "fs/past_turn.h"
#include "fs/reconcile_stats.h"
#include "meta/namespace.h"

struct sessions;

/* A volume on a cluster (mfs_config_is_cluster()) has no lock: any number of mounts and tools have it at once. */
enum volume_mode {
	VOLUME_MOUNT,	 /* a session, the lock */
	VOLUME_TOOL,	 /* the lock (so: not mounted), a session of its own that is closed at the end */
	VOLUME_READONLY, /* the lock; nothing is written */
};

struct volume {
	const struct mfs_config *cfg; /* borrowed */
	enum volume_mode mode;
	struct engine *engine;
	struct engine *logged; /* the log_engine in it; NULL: none */
	struct object_store *store;
	struct namespace *ns;
	_Atomic uint64_t session; /* changes when this mount was taken for dead (fs/sessions.h) */
	struct sessions *sessions; /* its heartbeat; NULL: the only mount there can be */
	_Atomic uint64_t next_op; /* numbers uploads: object_meta.op */
	char host[65];		  /* of this machine: creators, failures */
	char *dir;		  /* of an embedded volume; of another: what to call it in messages */
	int lock_fd;		  /* -1: none */
	bool cluster, alone;	  /* others may have it open too; but for now none has (volume_be_alone) */
	struct volume_record record;
	mfs_ino_t root; /* of the mount: the volume's root, or the inode of cfg's subdir */
	struct index_log *log;	/* NULL: none is kept (fs/index_log.h) */
	struct block_cache *cache; /* NULL: objects are read from the store (fs/block_cache.h); set by the mount */
	struct mime mime;	/* types of content; see there */
	struct key_gate gate;	/* uploads against the reconciler; see there */
	struct past_turn past;	/* restores against collection; see fs/past_turn.h */
	struct reconcile_stats reconcile; /* fs/reconcile_stats.h */
	struct namespace_hooks hooks; /* set by the mount before volume_open */
};

/* Make an embedded volume (or --force: make one over an old one is refused; force only allows a non-empty directory).
 * 0 or -errno with *ret_reason (owned by the caller) saying what, where, why and what to do. -EEXIST: is one already. */
int volume_format(const struct mfs_config *cfg, bool force, char **ret_reason) MFS_NODISCARD;

/*
 * Open. `hooks` may be NULL. 0 or -errno with *ret_reason as above: -EBUSY (the holder's pid is named), -ENOENT (not
 * formatted), -EUCLEAN (index corrupt), -EPROTONOSUPPORT (newer schema), -EPROTO (older: volume_upgrade), -EROFS, -EACCES.
 * Sessions of earlier mounts that did not end are closed here (the lock shows that they are dead).
 */
int volume_open(const struct mfs_config *cfg, enum volume_mode mode, const struct namespace_hooks *hooks,
		struct volume **ret, char **ret_reason) MFS_NODISCARD;
/* Ends the session, syncs, closes. NULL: nothing. */
void volume_close(struct volume *v);

/* Make the index of a volume that nobody has open one of this version's schema. *ret_from: the schema that it had. */
int volume_upgrade(const struct mfs_config *cfg, uint32_t *ret_from, char **ret_reason) MFS_NODISCARD;

/* What an upload for this file carries. */
struct object_meta volume_object_meta(struct volume *v, const struct mfs_attr *attr);

/* Nobody else may have it open, from now until it is closed: for tools that mend or replace the index. An embedded volume
 * is alone anyway. -EBUSY, naming who has it, with *ret_reason. */
int volume_be_alone(struct volume *v, struct op_ctx *op, char **ret_reason) MFS_NODISCARD;

/* The volume's lock alone, as volume_open() takes it: released by close(). -EBUSY, -ENOENT with *ret_reason. */
int volume_lock(const struct mfs_config *cfg, bool readonly, int *ret_fd, char **ret_reason) MFS_NODISCARD;

/* The pid that holds the volume's lock; 0: nobody; -errno. */
long volume_holder(const struct mfs_config *cfg);

#endif
