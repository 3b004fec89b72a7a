/*
 * Fetching ahead of who reads a file in sequence from a store over a network: into the block cache where there is one, else
 * into memory, chunk by chunk (1 MiB, at multiples of it), under the budget of the mount and at most an eighth of it.
 *
 * The first two reads in sequence begin it; how far ahead it goes doubles from 1 to 16 MiB; a jump ends it and gives the
 * memory back, as does a writer who finds none. Chunks belong to one committed state, which never changes: of another one they
 * are not used. What fails ahead is silent: the reader asks himself.
 *
 * Threads: called without content.lock, which guards it; a chunk's bytes are written by its job alone before `done`, and read
 * only after.
 */
#ifndef MASSFS_FS_READ_AHEAD_H
#define MASSFS_FS_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/defs.h"

#define READ_AHEAD_CHUNK  (UINT64_C(1) << 20)
#define READ_AHEAD_CHUNKS 24 /* of one file: 16 ahead, some behind, as the kernel's requests come in no order */

struct content;
struct content_env;
struct op_ctx;
struct state;
struct chunk;

struct read_ahead { /* of one content; all zero at first; content.lock */
	uint64_t read_end, window, fetched; /* where the last read ended, how far ahead, up to where asked for */
	struct chunk *chunks[READ_AHEAD_CHUNKS];
	unsigned int n_jobs; /* under way: content_free() waits */
};

/* Somebody is about to read [off, off+len) of the committed state. */
void read_ahead_note(struct content *c, uint64_t off, size_t len);
/* Bytes [off, off+len) of s, from chunks where they are there or on their way, else from the store. As state_read(). */
int read_ahead_read(struct content *c, struct op_ctx *op, struct state *s, uint64_t off, void *buf, size_t len) MFS_NODISCARD;
/* Give back what nobody waits for. The caller holds content.lock. */
void read_ahead_drop_locked(struct content *c);
/* Drop all; no job is left. Nobody reads any more. */
void read_ahead_end(struct content *c);

#endif
