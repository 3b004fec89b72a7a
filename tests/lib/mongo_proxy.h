/*
 * A TCP proxy between an engine and MongoDB, which counts commands by name and lets one reply, or one request, get lost.
 */
#ifndef MASSFS_TESTS_LIB_MONGO_PROXY_H
#define MASSFS_TESTS_LIB_MONGO_PROXY_H

#include <stdbool.h>

enum mongo_proxy_action {
	PROXY_LOSE, /* the server does the work, the reply is thrown away, the connection ends */
	PROXY_DROP, /* the server never sees it, the connection ends */
};

struct mongo_proxy;
/* server: mongodb://HOST:PORT. Asserts that it works. */
struct mongo_proxy *mongo_proxy_new(const char *server);
void mongo_proxy_free(struct mongo_proxy *p);
const char *mongo_proxy_uri(const struct mongo_proxy *p);

/* From now on: count from 0, and the nth command (from 1; 0: none) gets the action. Before a lost reply's connection ends, fn
 * is called unless a transaction is left open by it. Not counted: the driver's own (hello, ping, endSessions), getMore,
 * abortTransaction, and what is for the collections that only a watch or statfs writes. */
void mongo_proxy_on(struct mongo_proxy *p, unsigned int nth, enum mongo_proxy_action action, void (*fn)(void *arg), void *arg);
unsigned int mongo_proxy_hits(struct mongo_proxy *p);
/* How many there were, and their names ("findAndModify insert commitTransaction "). */
unsigned int mongo_proxy_count(struct mongo_proxy *p);
void mongo_proxy_names(struct mongo_proxy *p, char *buf, unsigned int size);
/* Ends every connection there is. */
void mongo_proxy_cut(struct mongo_proxy *p);

#endif
