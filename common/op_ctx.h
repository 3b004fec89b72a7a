/*
 * The request a piece of work is done for. One is made per FUSE request, verb or background job, passed down by
 * pointer as the second argument, never stored beyond the call.
 */
#ifndef MASSFS_COMMON_OP_CTX_H
#define MASSFS_COMMON_OP_CTX_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

struct op_ctx {
	uint64_t id;	     /* the kernel's `unique`, on every log line; 0: background */
	uid_t uid;	     /* whom it is done for: owner of what is made, caller of a verb */
	gid_t gid;
	mode_t umask;	     /* applied by namespace_* when something is made */
	pid_t pid;	     /* 0: none */
	int64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	atomic_bool cancelled; /* set from any thread by FUSE_INTERRUPT */
};

#endif
