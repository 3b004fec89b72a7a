/*
 * One connection to a Redis server, over hiredis: where it is (redis_uri), the handshake, commands with one deadline in all,
 * whatever the server does. Not thread-safe: a connection is one thread's at a time.
 */
#ifndef MASSFS_META_REDIS_CONN_H
#define MASSFS_META_REDIS_CONN_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/defs.h"
#include "common/clock.h"

#define REDIS_RUN_MAX	  40
#define REDIS_WHY_MAX	  160
#define REDIS_CONNECT_NS  (MFS_NSEC_PER_SEC / 20)
#define REDIS_COMMAND_NS  (MFS_NSEC_PER_SEC / 10)

struct redis_uri {
	char *path; /* a unix socket; else host and port */
	char *host;
	uint16_t port;
	char *user, *password; /* NULL: none. Secret: never in a log, and overwritten before they are freed */
	unsigned int db;
};
/* redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] or unix:/PATH[?db=N&user=U&password=P], %XX decoded. -EINVAL with a reason. */
int redis_uri_parse(const char *text, struct redis_uri *ret, char **ret_reason) MFS_NODISCARD;
void redis_uri_release(struct redis_uri *u);
/* "HOST:PORT" or the path, for logs. */
void redis_uri_where(const struct redis_uri *u, char *buf, size_t len);

struct redis_conn {
	redisContext *c;
	redisReplyObjectFunctions fns; /* of its reader */
	char run[REDIS_RUN_MAX + 1]; /* which process of Redis this is: another one after each restart */
	uint64_t line;		     /* the owner's */
	void *seal;		     /* the owner's */
	unsigned int due;	     /* answers that are still to come */
	char why[REDIS_WHY_MAX];     /* of the last failure */
};

/*
 * Connect, authenticate, select, learn who it is. address: what host resolves to (a number, so that nothing here waits for
 * DNS). -EIO with a reason in why (REDIS_WHY_MAX bytes); -ENOMEM.
 */
int redis_conn_open(const struct redis_uri *u, const char *address, struct redis_conn **ret, char *why) MFS_NODISCARD;
void redis_conn_close(struct redis_conn *c); /* NULL: nothing */

/* Queue a command: of `argc` strings with their lengths. -ENOMEM. */
int redis_conn_put(struct redis_conn *c, int argc, const char **argv, const size_t *lens) MFS_NODISCARD;
/* Send what is queued and give the next answer, which may be an error of Redis (REDIS_REPLY_ERROR). -EIO: the connection is
 * of no more use (c->why). Free *ret with freeReplyObject(). */
int redis_conn_take(struct redis_conn *c, int64_t deadline_ns, redisReply **ret) MFS_NODISCARD;
/* Send what is queued; do not wait for the answers. -EIO. */
int redis_conn_flush(struct redis_conn *c, int64_t deadline_ns) MFS_NODISCARD;
/* Wait until something can be read or `wake_fd` is readable, at most timeout_ms. */
void redis_conn_wait(struct redis_conn *c, int wake_fd, int timeout_ms);
/* An answer that is there already, else *ret NULL. -EIO. */
int redis_conn_poll(struct redis_conn *c, redisReply **ret) MFS_NODISCARD;

#endif
