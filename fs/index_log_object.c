/*
 * One object of the index log: record lines through zstd into an object, and out of one, in bounded memory.
 */
#include <errno.h>
#include <string.h>

#include "fs/index_log_internal.h"

#define PART ((size_t)OBJECT_PART_MIN)

/* --- reading --- */

static ssize_t read_object(void *arg, void *buf, size_t len)
{
	struct log_input *in = arg;
	ssize_t n = object_get(in->store, in->op, &in->ref, in->off, buf, len);

	if (n > 0)
		in->off += (uint64_t)n;
	return n;
}

static ssize_t read_text(void *arg, void *buf, size_t len)
{
	return mfs_zreader_read(((struct log_input *)arg)->z, buf, len);
}

int log_input_open(struct log_input *in, struct object_store *s, struct op_ctx *op,
		   const struct log_object *o)
{
	char key[LOG_KEY_MAX];
	int r;

	*in = (struct log_input){ .store = s, .op = op };
	log_object_key(o, key);
	in->ref.key = strdup(key);
	memcpy(in->ref.version, o->version, sizeof(in->ref.version));
	in->z = mfs_zreader_new(read_object, in);
	r = record_reader_init(&in->reader, read_text, in);
	if (r == 0 && (!in->ref.key || !in->z))
		r = -ENOMEM;
	if (r < 0)
		log_input_close(in);
	return r;
}

void log_input_close(struct log_input *in)
{
	record_reader_release(&in->reader);
	mfs_zreader_free(in->z);
	in->z = NULL;
	object_ref_release(&in->ref);
}

static bool fits(const struct log_object *o, const struct record_header *h)
{
	return h->stream == (o->is_snapshot ? RECORD_STREAM_SNAPSHOT : RECORD_STREAM_CHANGES) &&
	       h->epoch == o->epoch && h->number == o->number && h->term == o->term;
}

int log_object_verify(struct object_store *s, struct op_ctx *op, const struct log_object *o,
		      struct log_facts *ret)
{
	struct log_input in;
	struct record rec;
	bool has_state = false;
	int r = log_input_open(&in, s, op, o);

	if (r < 0)
		return r;
	in.reader.only = RECORD_MASK(RECORD_STATE);
	while ((r = record_reader_next(&in.reader, &rec)) > 0) {
		has_state = true;
		ret->state = rec.state;
	}
	if (r == 0 && (!has_state || !fits(o, &in.reader.header)))
		r = -EUCLEAN;
	if (r == -EINVAL)
		r = -EUCLEAN;
	ret->header = in.reader.header;
	ret->sum = in.reader.sum;
	ret->records = in.reader.records;
	log_input_close(&in);
	return r;
}

/* --- writing --- */

static int send_part(struct log_output *out)
{
	int r = 0;

	if (!out->upload)
		r = object_upload_begin(out->store, out->op, NULL, out->key, &out->meta, &out->upload);
	if (r == 0)
		r = object_upload_part(out->upload, out->op, ++out->parts, out->bytes - out->len, out->buf,
				       out->len);
	out->len = 0;
	return r;
}

static int write_object(void *arg, const void *data, size_t len)
{
	struct log_output *out = arg;
	const char *p = data;

	while (len) {
		size_t n = MFS_MIN(len, PART - out->len);
		int r;

		memcpy(out->buf + out->len, p, n);
		out->len += n;
		out->bytes += n;
		p += n;
		len -= n;
		r = out->len == PART ? send_part(out) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_text(void *arg, const void *buf, size_t len)
{
	return mfs_zwriter_write(((struct log_output *)arg)->z, buf, len);
}

int log_output_open(struct log_output *out, struct object_store *s, struct op_ctx *op,
		    const struct object_meta *meta, const struct record_header *h)
{
	const struct log_object o = { .epoch = h->epoch,
				      .number = h->number,
				      .is_snapshot = h->stream == RECORD_STREAM_SNAPSHOT,
				      .term = h->term };
	int r;

	*out = (struct log_output){ .store = s, .op = op, .meta = *meta };
	log_object_key(&o, out->key);
	out->buf = malloc(PART);
	out->z = mfs_zwriter_new(MFS_ZSTREAM_LEVEL, write_object, out);
	r = record_writer_init(&out->writer, write_text, out);
	if (r == 0 && (!out->buf || !out->z))
		r = -ENOMEM;
	if (r == 0)
		r = record_writer_header(&out->writer, h);
	if (r < 0)
		log_output_abort(out);
	return r;
}

static int put_object(struct log_output *out)
{
	struct object_info info = { 0 };
	int r;

	if (!out->upload) {
		r = object_put(out->store, out->op, NULL, out->key, out->buf, out->len, &out->meta, &info);
	} else {
		r = out->len ? send_part(out) : 0;
		if (r < 0)
			return r;
		r = object_upload_complete(MFS_TAKE(out->upload), out->op, out->bytes, &out->meta, &info);
	}
	/* One that is not at its key is not found again. */
	return r == 0 && info.not_shown ? -EIO : r;
}

int log_output_commit(struct log_output *out, const struct record_state *state, uint64_t *ret_sum,
		      uint64_t *ret_bytes)
{
	struct record rec = { .kind = RECORD_STATE, .state = *state };
	int r = record_writer_flush(&out->writer, record_put(&out->writer.line, &rec));

	if (r == 0)
		r = record_writer_end(&out->writer);
	if (r == 0)
		r = mfs_zwriter_finish(out->z);
	if (r == 0)
		r = put_object(out);
	if (r == 0) {
		*ret_sum = out->writer.sum;
		*ret_bytes = out->bytes;
	}
	log_output_abort(out);
	return r;
}

void log_output_abort(struct log_output *out)
{
	if (out->upload)
		object_upload_abort(MFS_TAKE(out->upload), out->op);
	record_writer_release(&out->writer);
	mfs_zwriter_free(out->z);
	free(out->buf);
	out->z = NULL;
	out->buf = NULL;
}
