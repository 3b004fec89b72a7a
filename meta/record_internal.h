/* What record_put.c, record_parse.c and record_stream.c share. */
#ifndef MASSFS_META_RECORD_INTERNAL_H
#define MASSFS_META_RECORD_INTERNAL_H

#include "meta/record_stream.h"

#define RECORD_TRASH_NAME "trash"

extern const char *const record_names[RECORD_N_KINDS];
extern const char *const record_stream_names[3];
extern const char *const record_job_names[5];

#endif
