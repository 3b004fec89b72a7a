/* What index_log.c (writing), index_log_list.c (finding) and index_log_object.c (one object) share with rebuild. */
#ifndef MASSFS_FS_INDEX_LOG_INTERNAL_H
#define MASSFS_FS_INDEX_LOG_INTERNAL_H

#include "common/zstream.h"
#include "fs/index_log.h"
#include "meta/record_stream.h"

/* --- index_log_list.c --- */

struct log_object {
	uint64_t epoch, number;
	bool is_snapshot;
	uint64_t term; /* of its writer, where several mounts take turns; else 0 */
	uint64_t size; /* in the store */
	char version[OBJECT_VERSION_MAX + 1];
};
/* In order of (epoch, snapshot first, number, term). */
struct log_objects {
	struct log_object *v;
	size_t n, cap;
};
int log_objects_list(struct object_store *s, struct op_ctx *op, struct log_objects *ret) MFS_NODISCARD;
void log_objects_release(struct log_objects *l);
/* Of the highest term, or of just this one. NULL: none. */
const struct log_object *log_objects_find_term(const struct log_objects *l, uint64_t epoch, bool is_snapshot,
					       uint64_t number, uint64_t term);
const struct log_object *log_objects_find(const struct log_objects *l, uint64_t epoch, bool is_snapshot,
					  uint64_t number);

#define LOG_KEY_MAX 96
void log_object_key(const struct log_object *o, char key[LOG_KEY_MAX]);
int log_object_delete(struct object_store *s, struct op_ctx *op, const struct log_object *o) MFS_NODISCARD;

/* --- index_log_object.c --- */

/* One object being read. */
struct log_input {
	struct object_store *store;
	struct op_ctx *op;
	struct object_ref ref;
	uint64_t off;
	struct mfs_zreader *z;
	struct record_reader reader;
};
int log_input_open(struct log_input *in, struct object_store *s, struct op_ctx *op,
		   const struct log_object *o) MFS_NODISCARD;
void log_input_close(struct log_input *in);

/* The whole object is read and must be right: its header, state and checksum. -EUCLEAN, -ENOENT ... */
struct log_facts {
	struct record_header header;
	struct record_state state;
	uint64_t sum, records;
};
int log_object_verify(struct object_store *s, struct op_ctx *op, const struct log_object *o,
		      struct log_facts *ret) MFS_NODISCARD;

/* One object being written. */
struct log_output {
	struct object_store *store;
	struct op_ctx *op;
	struct object_meta meta;
	char key[LOG_KEY_MAX];
	struct mfs_zwriter *z;
	struct record_writer writer;
	struct object_upload *upload; /* NULL while all fits in buf */
	char *buf;
	size_t len;
	unsigned int parts;
	uint64_t bytes;
};
int log_output_open(struct log_output *out, struct object_store *s, struct op_ctx *op,
		    const struct object_meta *meta, const struct record_header *h) MFS_NODISCARD;
/* The state, the end, and the object is put. Closed in any case. */
int log_output_commit(struct log_output *out, const struct record_state *state, uint64_t *ret_sum,
		      uint64_t *ret_bytes) MFS_NODISCARD;
void log_output_abort(struct log_output *out);

#endif
