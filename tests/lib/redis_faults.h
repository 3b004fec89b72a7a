/*
 * What may be done to the contents of a Redis behind massfs' back.
 */
#ifndef MASSFS_TESTS_LIB_REDIS_FAULTS_H
#define MASSFS_TESTS_LIB_REDIS_FAULTS_H

#include "tests/lib/redis_server.h"

/* A copy of all keys, as DUMP gives them. */
struct redis_copy {
	struct redis_copy_key {
		char *name, *value;
		size_t name_len, value_len;
	} *v;
	size_t n;
};
void redis_copy_take(redisContext *c, struct redis_copy *ret);
void redis_copy_release(struct redis_copy *c);

/* Each gives how many keys it changed; 0 as well when the server went away meanwhile. */
size_t redis_fault_restore(redisContext *c, const struct redis_copy *from); /* the old values, in place */
size_t redis_fault_swap(redisContext *c, unsigned int *seed); /* values of other keys of the same kind */
size_t redis_fault_garbage(redisContext *c, unsigned int *seed); /* random bytes; cut, and with one bit turned */
size_t redis_fault_types(redisContext *c); /* lists where values were */
size_t redis_fault_flush(redisContext *c);

#endif
