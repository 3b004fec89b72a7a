/* What the files of the verbs share: operands, permission, printing. */
#ifndef MASSFS_FS_VERBS_INTERNAL_H
#define MASSFS_FS_VERBS_INTERNAL_H

#include "common/buf.h"
#include "common/op_ctx.h"
#include "fs/verbs.h"

#define VERB_OK	    0
#define VERB_FAILED 1
#define VERB_USAGE  2

#define VERB_PATH_MAX (1u << 20)

enum verb_flag {
	FLAG_JSON = 1u << 0,
	FLAG_WAIT = 1u << 1,
	FLAG_DELETE = 1u << 2,
	FLAG_REPAIR = 1u << 3,
	FLAG_LIST = 1u << 4,
	FLAG_STDOUT = 1u << 5,
	FLAG_RECURSIVE = 1u << 6,
	FLAG_VERBOSE = 1u << 7,
	FLAG_ALL = 1u << 8,
	FLAG_QUARANTINE = 1u << 9,
	FLAG_RATE = 1u << 10, /* --rate=SIZE */
	FLAG_DELETES = 1u << 11,
};

/* A call whose arguments are parsed. */
struct verb_args {
	unsigned int flags; /* of enum verb_flag */
	const char *operand; /* NULL: none */
	uint64_t rate;	     /* bytes per second; 0: no limit */
};

typedef int verb_fn(struct verb_call *call, const struct verb_args *args);
verb_fn verb_info, verb_status, verb_versions, verb_restore, verb_undelete, verb_gc, verb_fsck, verb_settle, verb_import, verb_drain,
	verb_pid, verb_scrub, verb_dump, verb_warmup, verb_evict, verb_find, verb_tag, verb_schema, verb_failures;

/* "massfs VERB: ..." on err; gives VERB_FAILED. */
int verb_fail(struct verb_call *call, const char *fmt, ...) MFS_PRINTF(2, 3);
/* The text for an -errno of ours. */
const char *verb_strerror(int r);

/* Path below the volume's root of an operand, normalized. -EINVAL for "..". */
int verb_path(struct verb_call *call, const char *operand, struct mfs_buf *ret) MFS_NODISCARD;
/* As the user knows it. Lives in *buf. */
const char *verb_shown(struct verb_call *call, const char *operand, struct mfs_buf *buf);

/* Root, or whoever the daemon runs as. */
bool verb_is_admin(const struct verb_call *call);
/*
 * The parent directory of a path, with search permission checked on all above, and `mask` on it. *ret_name points into
 * path. -ENOENT: it is not there (any more), -EACCES, -EINVAL for the root.
 */
int verb_parent(struct verb_call *call, const char *path, int mask, struct entry *ret, const char **ret_name) MFS_NODISCARD;
void verb_changed(struct verb_call *call, mfs_ino_t ino, mfs_ino_t parent, const char *name);

/* JSON: "key": value, with a comma before it unless *first (then cleared). */
void json_text(FILE *f, bool *first, const char *key, const char *value);
void json_number(FILE *f, bool *first, const char *key, uint64_t value);
void json_time(FILE *f, bool *first, const char *key, int64_t ns);
void json_bool(FILE *f, bool *first, const char *key, bool value);

/* One line that replaces itself on a terminal; at most some a second. last: ends it. */
struct verb_progress {
	struct verb_call *call;
	const char *what;
	int64_t next; /* CLOCK_MONOTONIC */
	bool shown;
};
void verb_progress_show(struct verb_progress *p, uint64_t done, uint64_t total);
void verb_progress_end(struct verb_progress *p);

/* Where a regular file's bytes are (verb_layout.c). */
void verb_layout_json(struct verb_call *call, bool *first, const struct node *n);
void verb_layout(struct verb_call *call, const struct node *n);

/* A tag as a JSON object (verb_tag.c). -ENOMEM. */
struct tag;
int verb_tag_json(FILE *f, const struct tag *t) MFS_NODISCARD;

const char *verb_type_name(uint32_t mode);
/* Login name, or the number. Returns buf (of 40 bytes at least). */
char *verb_user_name(uid_t uid, char *buf, size_t size);

#endif
