/*
 * What lies in Redis, as bytes: cached values and the messages between mounts. Pure functions; decoding takes any bytes and
 * gives a value or -EBADMSG. Format 1; a mount of another format has another prefix of its keys.
 *
 * A value is  KIND STAMP VER payload MAC:
 *   KIND   one letter (enum value_kind); the scripts look at it, and at the two numbers
 *   STAMP  16 hex digits: us on Redis' clock before the index was read (meta/redis_floors.h)
 *   VER    16 hex digits: the record's; 0 where there is none
 *   MAC    HMAC-SHA-256 over the length of the key, the key, and all before it
 * The key holds volume, epoch and the server's run id, so a value of another key, volume or epoch does not verify.
 */
#ifndef MASSFS_META_REDIS_CODEC_H
#define MASSFS_META_REDIS_CODEC_H

#include "common/buf.h"
#include "meta/engine.h"

#define REDIS_MAC	 32
#define REDIS_HEADER	 33
#define REDIS_RECORD_MAX 8192	/* encoded; bigger ones (inline data, many xattrs) are not cached at all */
#define REDIS_PAGE_MAX	 262144 /* of a directory */
#define REDIS_FIND_MAX	 1048576 /* of a search */
#define REDIS_HINTS_MAX	 32	/* news in a message */
#define REDIS_HINT_BYTES 16384

enum value_kind {
	VALUE_RECORD = 'R',
	VALUE_ENTRY = 'E', /* a name; payload begins with the inode in 16 hex digits, for the script */
	VALUE_ABSENT = 'N', /* a name that is not there */
	VALUE_PAGE = 'P',
	VALUE_FIND = 'Q', /* a page of a search */
	VALUE_TOMBSTONE = 'T', /* not sealed: it says only that nothing older may be put here */
};

struct value_head {
	enum value_kind kind;
	uint64_t stamp, ver;
};

struct value_entry {
	mfs_ino_t ino;
	uint64_t id, pos;
	uint64_t ver; /* of the record when the name was looked up */
};

/* --- sealing: HMAC-SHA-256 with the volume's secret; one of these is one thread's at a time --- */
struct redis_seal;
int redis_seal_new(const unsigned char secret[32], struct redis_seal **ret) MFS_NODISCARD;
void redis_seal_free(struct redis_seal *s);
/* Append the MAC over name and all of b. */
int redis_seal_put(struct redis_seal *s, const char *name, struct mfs_buf *b) MFS_NODISCARD;
/* Does it end with the right MAC? *ret_len: the length without it. */
bool redis_seal_holds(struct redis_seal *s, const char *name, const void *data, size_t len, size_t *ret_len);

/* --- values, without the MAC --- */
void value_put_head(struct mfs_buf *b, const struct value_head *h);
int value_get_head(const char *data, size_t len, struct value_head *ret) MFS_NODISCARD;

int value_put_record(struct mfs_buf *b, const struct node *n) MFS_NODISCARD; /* -EFBIG: too big to be cached */
int value_get_record(const char *payload, size_t len, struct node *ret) MFS_NODISCARD;
int value_put_entry(struct mfs_buf *b, const struct value_entry *e) MFS_NODISCARD;
int value_get_entry(const char *payload, size_t len, struct value_entry *ret) MFS_NODISCARD;
/* v[0, n): partial nodes as engine_list gives them; appended on reading. */
int value_put_page(struct mfs_buf *b, const struct node *v, size_t n) MFS_NODISCARD;
int value_get_page(const char *payload, size_t len, mfs_ino_t parent, struct node_list *ret) MFS_NODISCARD;
/* v[0, n): records as engine_find() gives them; appended on reading. */
int value_put_find(struct mfs_buf *b, const struct node *v, size_t n) MFS_NODISCARD;
int value_get_find(const char *payload, size_t len, struct node_list *ret) MFS_NODISCARD;

/* --- messages between mounts --- */
struct hint {
	struct news news; /* name and cell point into the hint */
	struct mfs_name name;
	char cell[256];
};
struct hints {
	uint64_t instance; /* who sent it: of this engine object, drawn at random */
	uint64_t session, epoch;
	size_t n;
	struct hint v[REDIS_HINTS_MAX];
};
int hints_put(struct mfs_buf *b, const struct hints *h) MFS_NODISCARD;
int hints_get(const char *data, size_t len, struct hints *ret) MFS_NODISCARD;

#endif
