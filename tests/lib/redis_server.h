/*
 * A redis-server for a test program, on a unix socket in a folder of its own, with a password; it dies with the program.
 * And engines through it.
 */
#ifndef MASSFS_TESTS_LIB_REDIS_SERVER_H
#define MASSFS_TESTS_LIB_REDIS_SERVER_H

#include <hiredis/hiredis.h>
#include <sys/types.h>

#include "meta/engine.h"
#include "meta/redis_engine.h"

struct redis_server {
	char *dir;
	char socket[128], uri[192];
	pid_t pid; /* 0: does not run */
};

/* Each ends the program with a message when it fails. */
void redis_server_start(struct redis_server *ret);
void redis_server_stop(struct redis_server *s); /* for good */
void redis_server_kill(struct redis_server *s); /* -9 */
void redis_server_run(struct redis_server *s);	/* again; it has dump.rdb if there is one */
void redis_server_freeze(struct redis_server *s, bool frozen);
redisContext *redis_server_client(struct redis_server *s); /* authenticated; redisFree() it */

/* The engine over inner (owned), waiting until it uses the server. */
struct engine *redis_server_engine(struct redis_server *s, struct engine *inner, const char *volume);
void redis_server_wait_up(struct engine *e, bool up);
void redis_server_wait_listening(struct engine *e);

#endif
