/*
 * Everything a volume and a mount are configured with, in one struct: defaults, over them the volume's .conf file
 * (INI: sections [volume] and [mount]), over that the -o options. Which names there are, what they may be and where
 * they may stand is one table in conf_keys.c; docs/man/massfs.conf.5 and mount.massfs.8 describe them.
 *
 * Functions that can fail give 0 or -errno and, on failure, one sentence for the user in *ret_reason (owned by the
 * caller; it names file, line and key where there are such). Options are case-sensitive; '-' and '_' inside a name
 * are the same.
 */
#ifndef MASSFS_COMMON_CONF_H
#define MASSFS_COMMON_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/defs.h"

#define MFS_CONF_DIR "/etc/massfs" /* NAME as a source is NAME.conf in here */

enum mfs_atime { MFS_RELATIME, MFS_NOATIME, MFS_STRICTATIME };

struct mfs_config {
	/* What is mounted. All strings are owned; NULL: not given. */
	char *source;	  /* as the user wrote it; what mountinfo shows unless fsname= says otherwise */
	char *dir;	  /* absolute path of the embedded volume */
	char *conf_path;  /* the .conf that was read */
	char *name;	  /* of the volume, from the .conf's own name */
	char *subdir;	  /* to be the root of the mount, normalized, no leading slash; NULL or "": all */
	char *mountpoint; /* absolute; filled by the mount helper */
	char *index;	  /* which engine: "sqlite", "mongodb" */
	char *objects;	  /* which store: "localdir", "s3" */

	/* objects = s3 (backend/object_store.h says what each means). From the .conf only: nothing of it is in an argv. */
	char *endpoint, *bucket, *region, *prefix, *addressing, *ca_file, *storage_class, *places;
	char *passwd_file, *profile, *access_key, *secret_key;
	unsigned int connections; /* 0: the store decides */
	int64_t timeout_ns;	  /* how long one call of the store may take, with all its attempts; 0: the store decides */

	/* index = mongodb (meta/engine.h). From the .conf only: the two URIs may hold a password and are never shown. */
	char *mongodb, *redis; /* redis NULL: none */
	char *database;	       /* never NULL then: massfs_NAME */
	int64_t lease_ns;      /* so long without a heartbeat, and a mount counts as dead */

	/* The volume. */
	uint64_t part_size;   /* bytes of an upload's part */
	uint64_t capacity;    /* bytes statfs tells of; 0: what the disk has */
	int64_t retention_ns; /* how long replaced and deleted content is kept */
	int64_t index_log_ns; /* how often changes of the index go to the store; 0: never */
	uint64_t settle_rate; /* bytes a second that the reconciler may move; 0: any */
	uint64_t inline_size; /* files up to this are kept in the index until the reconciler makes them objects */

	/* The mount, as the kernel sees it. */
	bool ro, nosuid, nodev, noexec, sync, dirsync, nodiratime, remount;
	bool conf_ro; /* the .conf says ro: mount(8)'s ever-present rw does not take it back */
	enum mfs_atime atime;
	bool allow_other;
	bool noxattr; /* the kernel is told that there are no extended attributes */
	bool has_umask, has_uid, has_gid; /* shown instead of what the files have, as libfuse does it */
	mode_t umask;
	uid_t uid;
	gid_t gid;
	/* Seconds; without has_ the filesystem decides. */
	bool has_entry_timeout, has_attr_timeout, has_negative_timeout;
	double entry_timeout, attr_timeout, negative_timeout;
	unsigned int max_read;	    /* 0: the kernel's */
	unsigned int max_write;	    /* 0: the largest there is */
	unsigned int read_ahead_kb; /* has_read_ahead_kb */
	bool has_read_ahead_kb;
	unsigned int max_threads;    /* that serve FUSE requests */
	unsigned int max_background; /* 0: the filesystem decides */
	char *fsname, *subtype;	     /* for mountinfo; never NULL after mfs_config_load() */

	/* The daemon. */
	bool foreground, nosync;
	uint64_t memory; /* budget in bytes; never 0 after mfs_config_load() */
	char *debug;	 /* for mfs_log_set_debug(); checked */
	char *logfile;	 /* absolute */
	char *cache_dir; /* one or several, ':' between them */
	bool cache_local; /* also of a store whose objects are local files */
	uint64_t cache_size; /* has_cache_size; else a share of the disk. 0: no cache */
	bool has_cache_size;
	unsigned int cache_free; /* percent of the cache's disk that stay free */
	int64_t commit_ns; /* a handle open for long commits this often (later version) */

	/* Where names are looked up; MFS_CONF_DIR but in tests. Borrowed. */
	const char *conf_dir;
};

void mfs_config_init(struct mfs_config *c);
void mfs_config_release(struct mfs_config *c);

/*
 * Fill *c (inited): defaults, then the .conf that `source` names (if it names one), then `options` (the argument of
 * -o; NULL: none), then what follows from them. With `sloppy` unknown options are not an error but a line each in
 * *warnings (may be NULL).
 *
 * source: the directory of an embedded volume, NAME (= conf_dir/NAME.conf), or a path to such a .conf; each may be
 * followed by ":/subdir". An option config=PATH names the .conf outright.
 * -EINVAL: not understood or not allowed; -ENOENT: no such volume or file; other -errno from reading the file.
 */
int mfs_config_load(struct mfs_config *c, const char *source, const char *options, bool sloppy,
		    struct mfs_buf *warnings, char **ret_reason) MFS_NODISCARD;

/* The parts of mfs_config_load(), for tests and fuzzing. */
int mfs_config_parse_options(struct mfs_config *c, const char *options, bool sloppy, struct mfs_buf *warnings,
			     char **ret_reason) MFS_NODISCARD;
int mfs_config_read_file(struct mfs_config *c, const char *path, char **ret_reason) MFS_NODISCARD;
/* name: how messages call it. */
int mfs_config_parse_text(struct mfs_config *c, const char *text, size_t len, const char *name,
			  char **ret_reason) MFS_NODISCARD;

/*
 * For files that hold secrets: -EACCES (with the reason) when users other than the owner and the group can read it,
 * anyone but the owner can write it, or it belongs to neither root nor us.
 */
int mfs_conf_check_private(const char *path, char **ret_reason) MFS_NODISCARD;

/* Is the index one that several mounts share? Such a volume has no folder (dir NULL). */
bool mfs_config_is_cluster(const struct mfs_config *c);
/* How to call the volume in messages: its folder, or the source of one that has none. */
const char *mfs_config_label(const struct mfs_config *c);

/* min(25 % of RAM, 512 MiB). */
uint64_t mfs_default_memory(void);

/* Sets *ret_reason (may be NULL) to the formatted text and returns r. */
int mfs_fail(char **ret_reason, int r, const char *fmt, ...) MFS_PRINTF(3, 4);

#endif
