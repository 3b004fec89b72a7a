/*
 * The nodes of the cluster: which one the next request goes to, and which are left alone until they answer again.
 *
 * A node that cannot be reached, or does not answer within a request's time-out, is down at once; a thread asks it once a
 * second until it answers anything at all. Requests go to the healthy node with the fewest under way; while none is
 * healthy, to each in turn.
 *
 * Threads: from any. The lock is a leaf. The thread is made when the first node goes down and ends when all are back.
 */
#ifndef MASSFS_BACKEND_S3_ENDPOINTS_H
#define MASSFS_BACKEND_S3_ENDPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/object_store.h"
#include "backend/s3_url.h"
#include "common/defs.h"

struct s3_endpoints; /* opaque */
struct s3_http;

/* Does the node answer? Run without a lock, by the thread. */
typedef bool s3_probe_fn(void *arg, const struct s3_url *url);

/* list: separated by commas or blanks. -EINVAL with the reason. */
int s3_endpoints_new(const char *list, s3_probe_fn *probe, void *arg, struct s3_endpoints **ret,
		     char **ret_reason) MFS_NODISCARD;
void s3_endpoints_free(struct s3_endpoints *e); /* ends the thread. NULL: nothing */

size_t s3_endpoints_count(const struct s3_endpoints *e);
const struct s3_url *s3_endpoints_url(const struct s3_endpoints *e, unsigned int i);

/* not: the one that just failed (another is preferred), or -1. The request is under way until done. */
unsigned int s3_endpoints_take(struct s3_endpoints *e, int not);
enum s3_outcome {
	S3_ANSWERED, /* whatever it said */
	S3_SILENT,   /* unreachable, reset, timed out */
	S3_NEITHER,  /* we gave up first: says nothing about the node */
};
void s3_endpoints_done(struct s3_endpoints *e, unsigned int i, enum s3_outcome outcome, int64_t took_ns,
		       const char *why);
int s3_endpoints_each(struct s3_endpoints *e, s3_endpoint_fn *fn, void *arg);

#endif
