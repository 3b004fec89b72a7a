/*
 * Files and standard streams of dump and load, with zstd between.
 */
#ifndef MASSFS_TOOLS_STREAM_H
#define MASSFS_TOOLS_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/zstream.h"

/* A dump being written: to a temporary name, renamed when all is on the disk; or to stdout. */
struct dump_file {
	int fd;
	const char *path; /* NULL: stdout */
	char *temp;
	struct mfs_zwriter *z;
	uint64_t bytes; /* written, compressed */
};
/* path NULL or "-": stdout. */
int dump_file_open(struct dump_file *f, const char *path, int level) MFS_NODISCARD;
int dump_file_write(void *f, const void *buf, size_t len); /* as mfs_sink_fn */
/* A FILE that writes into f: what fclose() cannot flush is an error. NULL with errno. */
FILE *dump_file_stream(struct dump_file *f);
int dump_file_commit(struct dump_file *f) MFS_NODISCARD;
void dump_file_release(struct dump_file *f); /* without commit nothing is left */

/* path "-": stdin. */
struct load_file {
	int fd;
	struct mfs_zreader *z;
};
int load_file_open(struct load_file *f, const char *path) MFS_NODISCARD;
ssize_t load_file_read(void *f, void *buf, size_t len); /* as mfs_source_fn, decompressed */
void load_file_release(struct load_file *f);

/* "massfs NAME: done of total" on stderr, some times a second; only on a terminal. */
struct tool_progress {
	const char *name;
	int64_t next;
	bool shown, wanted;
};
void tool_progress_init(struct tool_progress *p, const char *name);
int tool_progress_show(void *p, uint64_t done, uint64_t total); /* as dump_progress_fn */
void tool_progress_end(struct tool_progress *p);

#endif
