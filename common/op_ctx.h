/*
 * The request a piece of work is done for. One is made per FUSE request, verb or background job, passed down by
 * pointer as the second argument, never stored beyond the call.
 */
#ifndef MASSFS_COMMON_OP_CTX_H
#define MASSFS_COMMON_OP_CTX_H

#include <stdatomic.h>
#include <stdbool.h>
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
	bool fresh;	       /* the index itself is asked for a record, no cache outside of it (redis): what a lock or a
				* deletion rests on */
};

/* The same request, which wants to know it from the index itself. */
static inline struct op_ctx op_ctx_fresh(const struct op_ctx *op)
{
	struct op_ctx fresh = { .fresh = true };

	if (op) {
		fresh.id = op->id;
		fresh.uid = op->uid;
		fresh.gid = op->gid;
		fresh.umask = op->umask;
		fresh.pid = op->pid;
		fresh.deadline_ns = op->deadline_ns;
		atomic_init(&fresh.cancelled, atomic_load(&op->cancelled));
	}
	return fresh;
}

#endif
