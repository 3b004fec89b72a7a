/*
 * An HTTP proxy in front of an S3 server that does to chosen requests what networks and servers do at their worst. In
 * this process, a thread a connection.
 */
#ifndef MASSFS_TESTS_LIB_S3_PROXY_H
#define MASSFS_TESTS_LIB_S3_PROXY_H

#include <stdbool.h>

enum s3_fault {
	S3_FAULT_NONE,
	S3_FAULT_LOSE_REQUEST, /* the connection is closed, the server saw nothing */
	S3_FAULT_LOSE_REPLY,   /* the server did it, then the connection is closed */
	S3_FAULT_CUT,	       /* half of the reply's body, then the connection is closed */
	S3_FAULT_503,	       /* answered without the server */
	S3_FAULT_429,
	S3_FAULT_500_AFTER, /* the server did it, the answer is 500 */
	S3_FAULT_GARBAGE,   /* the server did it, the body of the answer is no XML */
	S3_FAULT_ERROR_200, /* the server did it, the body of its 200 is an Error */
	S3_FAULT_RANGE,	    /* Content-Range of other bytes */
	S3_FAULT_SHORT,	    /* a body a byte shorter, with the length that it has */
	S3_FAULT_HANG,	    /* no answer at all until the rule changes */
	S3_FAULT_SLOW,	    /* the reply comes, a second late */
};

struct s3_proxy; /* opaque */

/* upstream: "http://127.0.0.1:PORT". Ends the program when it cannot. */
struct s3_proxy *s3_proxy_start(const char *upstream);
void s3_proxy_stop(struct s3_proxy *p);
const char *s3_proxy_endpoint(const struct s3_proxy *p);
/*
 * The next `count` requests with this method (NULL: any) whose target has `part` in it (NULL: any) get the fault; count
 * -1: all. Takes the place of the rule before.
 */
void s3_proxy_rule(struct s3_proxy *p, enum s3_fault fault, const char *method, const char *part, int count);
unsigned int s3_proxy_requests(struct s3_proxy *p); /* that came, since the last call */
unsigned int s3_proxy_hits(struct s3_proxy *p);	    /* of the rule */

#endif
