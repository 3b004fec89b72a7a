/*
 * Any bytes as a stream of records: taken, or refused with a reason that names the line. What is taken is put again and
 * taken again, the same.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "meta/record_stream.h"

struct input {
	const uint8_t *data;
	size_t len, pos;
};

static ssize_t read_input(void *arg, void *buf, size_t len)
{
	struct input *in = arg;
	size_t n = MFS_MIN(MFS_MIN(len, in->len - in->pos), (size_t)1000);

	memcpy(buf, in->data + in->pos, n);
	in->pos += n;
	return (ssize_t)n;
}

static void put_and_take(const struct record *r)
{
	MFS_AUTOBUF struct mfs_buf a = MFS_BUF_INIT(2 * RECORD_LINE_MAX),
				   b = MFS_BUF_INIT(2 * RECORD_LINE_MAX);
	MFS_AUTOFREE char *reason = NULL;
	struct record again;

	if (record_put(&a, r) < 0)
		return;
	assert(record_parse(a.data, a.len - 1, &again, &reason) == 0);
	assert(record_put(&b, &again) == 0);
	assert(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
	record_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .len = size };
	struct record_reader rd;
	struct record r;
	int err;

	if (record_reader_init(&rd, read_input, &in) < 0)
		return 0;
	while ((err = record_reader_next(&rd, &r)) > 0) {
		put_and_take(&r);
		record_release(&r);
	}
	if (err < 0)
		assert((err == -EINVAL || err == -EUCLEAN || err == -ENOMEM) && rd.reason &&
		       strncmp(rd.reason, "line ", 5) == 0);
	record_reader_release(&rd);
	return 0;
}
