/*
 * What the files of the redis engine share.
 *
 *   redis_engine.c  making and freeing one, news, statistics     redis_cache.c  get, lookup, list through the cache
 *   redis_find.c    pages of searches
 *   redis_pool.c    connections, giving Redis up and trying again, one command with its checks
 *   redis_keeper.c  the thread that finds epoch and server, sends what changes tell, and looks at the clock
 *   redis_hints.c   what a change touches: marks, messages; the thread that hears those of others
 *   redis_script.c  the scripts          redis_floors.c  which cached values may be used    redis_codec.c  bytes
 */
#ifndef MASSFS_META_REDIS_INTERNAL_H
#define MASSFS_META_REDIS_INTERNAL_H

#include "common/sync.h"
#include "meta/redis_codec.h"
#include "meta/redis_conn.h"
#include "meta/redis_engine.h"
#include "meta/redis_floors.h"
#include "meta/tags.h"

#define REDIS_CONNS	  16 /* at most; who finds none free does without */
#define REDIS_BEAT_NS	  (MFS_NSEC_PER_SEC / 2)
#define REDIS_PAUSE_NS	  MFS_NSEC_PER_SEC /* after a failure; doubles up to the next */
#define REDIS_PAUSE_MAX	  (30 * MFS_NSEC_PER_SEC)
#define REDIS_QUEUE	  1024 /* changes to be told */
#define REDIS_PREFIX_MAX  160
#define REDIS_KEY_MAX	  (REDIS_PREFIX_MAX + 2 * MFS_NAME_MAX + 40)
#define REDIS_TOMB_MS	  10000
#define REDIS_FILL_US	  5000000 /* a fill later than this after its stamp is refused; less than tombstones live */
#define REDIS_PAGES	  16	  /* of one directory */
#define REDIS_FINDS	  32	  /* pages of searches for one tag */
#define REDIS_TOLD_TAGS	  32	  /* of one change; what has more is not told */

enum redis_script {
	SCRIPT_GET,	  /* KEYS: a key */
	SCRIPT_LOOKUP,	  /* KEYS: of the name; ARGV: what stands before the inode in keys of records */
	SCRIPT_PAGE,	  /* KEYS: of the directory; ARGV: field */
	SCRIPT_FILL,	  /* KEYS; ARGV: stamp, ttl, max age, then for each key: ver, force, value */
	SCRIPT_FILL_PAGE, /* KEYS: of the directory; ARGV: stamp, ttl, max age, force, field, value, fields at most */
	SCRIPT_TELL,	  /* KEYS: of records and names, then of directories; ARGV: how many of the first, ttl, channel, message */
	SCRIPT_TIME,
	REDIS_SCRIPTS
};
extern const char *const redis_script_text[REDIS_SCRIPTS];

/* What a change did, to be told to Redis and to other mounts. */
struct redis_note {
	struct hints hints;
	mfs_ino_t dirs[REDIS_HINTS_MAX]; /* whose pages are to go */
	size_t n_dirs;
	struct tag_set tags; /* that records have since */
};

struct redis_engine {
	struct engine base;
	struct engine_ops ops;
	struct engine *inner;
	struct redis_uri uri;
	char where[128], channel[80], volume[40];
	uint64_t ttl_ms, instance;
	struct floors *floors;
	char sha[REDIS_SCRIPTS][41];
	int wake_fd; /* eventfd: the listener is to look up */
	pthread_t keeper, listener;
	bool has_keeper, has_listener;

	_Atomic bool listening; /* hints of others come */
	_Atomic bool up; /* Redis may be asked; a copy of what lock guards, to be looked at without it */

	struct mfs_mutex lock;
	pthread_cond_t wake; /* the keeper: something to do */
	bool stop;
	/* Epoch and secret. */
	bool has_keys, begin_epoch, look_again, hopeless;
	uint64_t epoch, secret_gen;
	unsigned char secret[32];
	int64_t keys_at; /* when they were read */
	/* The server. */
	char address[64]; /* that answered; "" while none did */
	char run[REDIS_RUN_MAX + 1];
	struct redis_conn *idle[REDIS_CONNS];
	unsigned int n_idle, n_conns;
	bool down, was_up, said;
	int64_t retry_at, pause, up_since, down_since;
	char why[REDIS_WHY_MAX];
	/* Its clock: the last answer's time, and the monotonic times around that command. */
	uint64_t clock_t;
	int64_t clock_sent, clock_got;
	int64_t no_fills_until; /* Redis is full, or read-only */
	/* To be told. */
	struct redis_note *queue[REDIS_QUEUE];
	size_t queue_first, queue_n;

	/* Who listens to us. */
	struct mfs_mutex watch_lock;
	pthread_cond_t watch_idle; /* watch_users == 0 */
	engine_news_fn watch_fn;
	void *watch_arg;
	unsigned int watch_users;

	_Atomic uint64_t hits, misses, fills, bad, old, hints_sent, hints_seen, failures;
};

static inline struct redis_engine *redis_of(struct engine *e)
{
	return mfs_container_of(e, struct redis_engine, base);
}

/* --- redis_pool.c --- */

/* One use of a connection. */
struct redis_request {
	struct redis_conn *conn;
	struct floors_view view;
	uint64_t epoch;
	int64_t deadline, sent;
	uint64_t clock_seen; /* the latest time that was known when it was begun */
	char prefix[REDIS_PREFIX_MAX];
};
/* false: Redis is not to be asked now. */
bool redis_begin(struct redis_engine *e, struct redis_request *q);
void redis_end(struct redis_engine *e, struct redis_request *q);
/*
 * Run a script; its answer is an array of at least min_parts after the two of TIME, of which view.t is set. argv[0, 3) are
 * filled in here (EVALSHA, SHA-1, number of keys). 0; -EIO: Redis was given up, or (-EAGAIN) it refused this one command.
 */
int redis_run(struct redis_engine *e, struct redis_request *q, enum redis_script script, unsigned int n_keys, int argc,
	      const char **argv, size_t *lens, size_t min_parts, redisReply **ret) MFS_NODISCARD;
struct redis_seal *redis_request_seal(struct redis_request *q);
/* Redis is given up for a while. */
void redis_give_up(struct redis_engine *e, const char *why);
/* Try the server; brings it back when it answers. For the keeper. */
void redis_probe(struct redis_engine *e);
void redis_close_idle(struct redis_engine *e);
/* A connection of its own for the listener. */
int redis_open_extra(struct redis_engine *e, struct redis_conn **ret) MFS_NODISCARD;
void redis_conn_drop(struct redis_conn *c); /* with its seal; NULL: nothing */

/* --- redis_cache.c --- */
int redis_get(struct engine *base, struct op_ctx *op, mfs_ino_t ino, struct node *ret);
int redis_lookup(struct engine *base, struct op_ctx *op, mfs_ino_t parent, const struct mfs_name *name, struct entry *ret);
int redis_list(struct engine *base, struct op_ctx *op, mfs_ino_t parent, uint64_t after, size_t limit,
	       struct node_list *ret);
void redis_key_record(char *key, const char *prefix, mfs_ino_t ino);
void redis_key_name(char *key, const char *prefix, mfs_ino_t parent, const struct mfs_name *name);
void redis_key_pages(char *key, const char *prefix, mfs_ino_t dir);

/* What was asked of Redis before the inner engine is. */
struct redis_asked {
	struct floors_view view; /* t 0: Redis was not asked, or gave no time */
	bool force[2];		 /* what is there is no value of ours: it may be overwritten whatever it says */
};
/* A value that verified; points into the answer. */
struct redis_value {
	struct value_head head;
	const char *payload;
	size_t len;
};
/* May cached answers be used, and is Redis there (then redis_end() follows)? Of use only while news come. */
bool redis_ask(struct redis_engine *e, struct redis_request *q);
void redis_count(struct redis_engine *e, bool hit);
/* Does this part of an answer hold a sealed value of that key? *ret_force: there is something that is not. */
bool redis_open_value(struct redis_engine *e, struct redis_request *q, const char *key, const redisReply *part,
		      struct redis_value *ret, bool *ret_force);
/* A request to fill what was asked for under a->view, if that still makes sense: news must have worked meanwhile too, as
 * an index that nobody tells us of may be one that lags. */
bool redis_begin_fill(struct redis_engine *e, const struct redis_asked *a, struct redis_request *q);
/* A page in a hash of pages. `sealed`: what it is sealed as. b: head and payload; at most max pages in that hash. */
bool redis_get_page(struct redis_engine *e, struct redis_request *q, const char *key, const char *field, redisReply **ret);
void redis_fill_page(struct redis_engine *e, const struct redis_asked *a, struct redis_request *q, const char *key,
		     const char *sealed, const char *field, unsigned int max, struct mfs_buf *b);

/* --- redis_find.c --- */
int redis_find(struct engine *base, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
	       struct node_list *ret);
void redis_key_tag(char *key, const char *prefix, uint64_t number);
void redis_mark_tags(struct redis_engine *e, const struct tag_set *tags);
/* The tags that a write may give a record. */
void redis_tags_of_write(const struct write *w, struct tag_set *ret);

/* --- redis_hints.c --- */
void redis_mark_news(struct redis_engine *e, const struct news *n);
/* What the change wrote is marked, also when its outcome is not known; with `tell` it is queued for Redis too. */
void redis_mark_change(struct redis_engine *e, const struct change *c, bool tell);
int redis_send_note(struct redis_engine *e, struct redis_request *q, struct redis_note *n) MFS_NODISCARD;
void *redis_listener(void *arg);
void redis_pass_news(struct redis_engine *e, const struct news *n);

/* --- redis_keeper.c --- */
void *redis_keeper(void *arg);
void redis_queue(struct redis_engine *e, struct redis_note *n); /* takes it over */

/* --- redis_pass.c --- */
void redis_pass_ops(struct engine_ops *ops, const struct engine *inner);

#endif
