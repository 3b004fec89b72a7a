/*
 * The nodes of the cluster: which one the next request goes to, and which are left alone until they answer again.
 *
 * A node that cannot be reached, or breaks a connection, is down at once. One that is silent for a while, or leaves a request
 * without an answer, is doubted: others are preferred, and a thread asks it (HEAD /, which costs it nothing). Two questions
 * without an answer and it is down; then whatever is under way there gives up and goes elsewhere. So a node that hangs is
 * left after a few seconds, and one that is only slow (a MinIO that waits for a peer) keeps its requests. The thread goes on
 * asking once a second until the node answers anything at all. Requests go to the healthy node with the fewest under way;
 * while none is healthy, to each in turn.
 *
 * Threads: from any. The lock is a leaf. The thread is made with the first doubt, and sleeps while there is none.
 */
#ifndef MASSFS_BACKEND_S3_ENDPOINTS_H
#define MASSFS_BACKEND_S3_ENDPOINTS_H

#include <stdatomic.h>
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
	S3_BROKEN,   /* unreachable, reset */
	S3_SILENT,   /* no answer in time */
	S3_NEITHER,  /* we gave up first: says nothing about the node */
};
void s3_endpoints_done(struct s3_endpoints *e, unsigned int i, enum s3_outcome outcome, int64_t took_ns,
		       const char *why);
/* A request there hears nothing. */
void s3_endpoints_doubt(struct s3_endpoints *e, unsigned int i, const char *why);
/* How often the node went down: a request that sees it change under way gives up. 0 for ever where there is only one node. */
const _Atomic unsigned int *s3_endpoints_falls(const struct s3_endpoints *e, unsigned int i);
int s3_endpoints_each(struct s3_endpoints *e, s3_endpoint_fn *fn, void *arg);

#endif
