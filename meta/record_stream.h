/*
 * Every record of an index as text, for dump, load, the index log and people: one JSON object a line.
 *
 *     {"r":"massfs","stream":"dump","format":1}
 *     {"r":"volume","uuid":"...","created":...,"schema":2,"next_ino":1007}
 *     {"r":"file","_id":1,"type":"dir","mode":16877,"nlink":2,...}
 *     ...
 *     {"r":"end","records":1234,"sum":"xxh3:0123456789abcdef"}
 *
 * "r" is first and says the kind. Fields are named as in the index (docs/operations.md lists them); one that is absent is
 * 0, false or empty. Times are ns since the epoch. A text that is not plain UTF-8, and every blob, is base64, and its
 * field's name then ends in ".b64" ("name.b64"). Numbers from 2^63 on are strings of decimal digits.
 *
 * Rules of reading: a line of at most 4 MiB, objects and arrays nested 8 deep, fields that are not known are ignored,
 * fields given twice, unknown kinds and a higher format are refused. The last line is "end"; its sum (XXH3-64 of all bytes
 * before the line) may be left out, by who edits the text, and is not checked then.
 *
 * Not thread-safe.
 */
#ifndef MASSFS_META_RECORD_STREAM_H
#define MASSFS_META_RECORD_STREAM_H

#include "common/buf.h"
#include "meta/change.h"
#include "meta/node.h"
#include "meta/records.h"

#define RECORD_FORMAT	 1
#define RECORD_LINE_MAX	 (4u << 20)
#define RECORD_DEPTH_MAX 8

enum record_kind {
	RECORD_HEADER,
	RECORD_VOLUME,
	RECORD_NODE, /* "file", or "trash" when ATTR_IN_TRASH is set */
	RECORD_ALIAS,
	RECORD_VERSION,
	RECORD_SLICES,
	RECORD_DROPPED,
	RECORD_JOB, /* without its token */
	RECORD_SESSION,
	RECORD_CELL, /* of "shared/" only: the others are of a moment. Without its token */
	RECORD_GONE, /* the index log: there is no such record any more */
	RECORD_STATE, /* the index log: what the object before it brings one up to */
	RECORD_END,
	RECORD_N_KINDS
};
#define RECORD_MASK(kind) (1u << (kind))
#define RECORD_ALL	  UINT32_MAX

enum record_stream_kind { RECORD_STREAM_DUMP, RECORD_STREAM_SNAPSHOT, RECORD_STREAM_CHANGES };

struct record_header {
	enum record_stream_kind stream;
	uint32_t format;
	/* Of the index log (fs/index_log.h); else 0. */
	uint64_t epoch, number;
	uint64_t term; /* of the writer, where several take turns */
	uint64_t previous; /* sum of the object before */
	uint64_t session; /* who wrote it */
};

struct record_volume {
	struct volume_record v;
	uint64_t next_ino;
};

/* What names a record of each kind. */
struct record_key {
	enum record_kind kind;
	uint64_t id; /* inode, id; of a job: its kind */
	uint64_t more; /* version: data; slices: the document's id; job: ino */
	char *key; /* of a job, or the cell's name; owned, or NULL */
};
void record_key_release(struct record_key *k);

struct record_state {
	int64_t complete; /* wall time: every change before it is in */
	uint64_t next_ino;
	uint64_t session,
		next_op; /* of object_meta: uploads of this session from this number on are younger */
	uint64_t until; /* of a snapshot: what it has is whole with the changes up to this number */
	uint64_t until_sum; /* where several take turns: and these have this sum */
	bool clean; /* the session ended with it */
};

struct record_end {
	uint64_t records; /* lines before it, the first one included */
	uint64_t sum;
	bool has_sum;
};

struct record {
	enum record_kind kind;
	union {
		struct record_header header;
		struct record_volume volume;
		struct node node;
		struct alias alias;
		struct version_record version;
		struct slices_doc_record slices;
		struct dropped_record dropped;
		struct job_record job;
		struct session_record session;
		struct cell_record cell;
		struct record_key gone;
		struct record_state state;
		struct record_end end;
	};
};
void record_release(struct record *r);

/* The line for a record, with its newline, appended. */
int record_put(struct mfs_buf *b, const struct record *r) MFS_NODISCARD;
/* The same without a copy of the record. */
int record_put_node(struct mfs_buf *b, const struct node *n) MFS_NODISCARD;
int record_put_alias(struct mfs_buf *b, const struct alias *a) MFS_NODISCARD;
int record_put_version(struct mfs_buf *b, const struct version_record *v) MFS_NODISCARD;
int record_put_slices(struct mfs_buf *b, const struct slices_doc_record *d) MFS_NODISCARD;
int record_put_dropped(struct mfs_buf *b, const struct dropped_record *d) MFS_NODISCARD;
int record_put_job(struct mfs_buf *b, const struct job_record *j) MFS_NODISCARD;
int record_put_session(struct mfs_buf *b, const struct session_record *s) MFS_NODISCARD;

int record_put_cell(struct mfs_buf *b, const struct cell_record *c) MFS_NODISCARD;

/* One line, without its newline. -EINVAL with what is wrong in *ret_reason (owned), -ENOMEM. */
int record_parse(const char *line, size_t len, struct record *ret, char **ret_reason) MFS_NODISCARD;

/* --- streams --- */

/* As mfs_sink_fn and mfs_source_fn (common/zstream.h). */
typedef int record_sink_fn(void *arg, const void *buf, size_t len);
typedef ssize_t record_source_fn(void *arg, void *buf, size_t len);

/* Lines into a sink, counted and summed. */
struct record_writer {
	record_sink_fn *sink;
	void *arg;
	struct mfs_buf line;
	uint64_t records, bytes;
	uint64_t sum; /* of the whole, once it has ended */
	void *summing;
};
int record_writer_init(struct record_writer *w, record_sink_fn *sink, void *arg) MFS_NODISCARD;
void record_writer_release(struct record_writer *w);
/* Write what record_put*() put into w->line (r is their outcome), and empty it. */
int record_writer_flush(struct record_writer *w, int r) MFS_NODISCARD;
int record_writer_header(struct record_writer *w, const struct record_header *h) MFS_NODISCARD;
int record_writer_end(struct record_writer *w) MFS_NODISCARD;

/*
 * Records from a source. The first must be a header of this format, the last the end, with the right count and sum.
 * 1: *ret is a record (release it); 0: the end, all is well; -EUCLEAN or -EINVAL: damaged, cut short or malformed, with
 * the line's number in reader->reason; else what the source gave. Lines of kinds that are not in `only` are not given,
 * and hardly cost.
 */
struct record_reader {
	record_source_fn *source;
	void *arg;
	uint32_t only;
	struct record_header header; /* after the first call of next; it is not given as a record */
	uint64_t line, records;
	uint64_t sum; /* at the end */
	char *reason; /* owned */
	struct mfs_buf text; /* what was read and not yet given */
	size_t pos;
	bool at_end, ended;
	void *summing;
};
int record_reader_init(struct record_reader *r, record_source_fn *source, void *arg) MFS_NODISCARD;
void record_reader_release(struct record_reader *r);
int record_reader_next(struct record_reader *r, struct record *ret) MFS_NODISCARD;

#endif
