/*
 * The bytes on a control socket: requests and frames, to and from memory. No I/O; the parsers take anything.
 * The format stands in fs/control.h.
 */
#ifndef MASSFS_FS_CONTROL_WIRE_H
#define MASSFS_FS_CONTROL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/defs.h"

#define CONTROL_MAGIC	     UINT32_C(0x3173666d) /* "mfs1" */
#define CONTROL_ARGS_MAX     64
#define CONTROL_ARGS_BYTES   65536u /* of all arguments together */
#define CONTROL_REQUEST_MAX  (12u + 4u * CONTROL_ARGS_MAX + CONTROL_ARGS_BYTES)
#define CONTROL_FRAME_HEADER 5
#define CONTROL_FRAME_MAX    65536u
#define CONTROL_WANTS_PROGRESS 1u /* flag of a request */

struct control_request {
	int argc;    /* >= 1 */
	char **argv; /* argc strings and NULL; owned */
	bool progress;
};
void control_request_release(struct control_request *r);

/* Appended to *ret. -E2BIG: more than a request may have; -EINVAL: no argument. */
int control_request_put(int argc, char *const *argv, bool progress, struct mfs_buf *ret) MFS_NODISCARD;
/* 0: *ret is it, and data has nothing behind it. -EAGAIN: more bytes are needed; -EBADMSG; -ENOMEM. */
int control_request_get(const void *data, size_t len, struct control_request *ret) MFS_NODISCARD;

void control_frame_put(char type, uint32_t len, unsigned char header[static CONTROL_FRAME_HEADER]);
/* -EBADMSG: a type or length that cannot be. */
int control_frame_get(const unsigned char header[static CONTROL_FRAME_HEADER], char *ret_type,
		      uint32_t *ret_len) MFS_NODISCARD;

#endif
