/*
 * Any bytes as a record's slices and as a slices document (two bytes say how long the first is): taken or refused; what
 * is taken can be walked, changed and written again, and comes back the same.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/layout.h"

#define SIZE UINT64_C(1000000)

static void walk(const struct layout *l)
{
	uint64_t off = 0, steps = 0;

	while (off < SIZE && steps++ < 3000) {
		struct layout_extent e;
		int err = layout_at(l, off, SIZE / 2, SIZE, &e);

		assert(err == 0 || err == -EUCLEAN);
		if (err < 0) {
			off++;
			continue;
		}
		assert(e.off == off && e.len > 0 && e.len <= SIZE - off);
		assert(e.kind != EXTENT_PATCH || (e.src < e.segment->len && e.len <= e.segment->len - e.src));
		off += e.len;
	}
}

/* Encoded and parsed, it is what it was. */
static void round_trip(const struct layout *l)
{
	struct node_blob a, b;
	struct layout again;
	int err = layout_encode(l, &a);

	if (err == -EFBIG)
		return;
	assert(err == 0);
	err = layout_parse(&a, &again);
	assert(err == 0 && (a.size == 0 || again.log_end == l->log_end));
	err = layout_encode(&again, &b);
	assert(err == 0 && a.size == b.size && (a.size == 0 || !memcmp(a.data, b.data, a.size)));
	layout_release(&again);
	free(a.data);
	free(b.data);
}

static int nothing(void *arg, const struct segment *s, uint64_t doc_id)
{
	(void)arg;
	(void)s;
	(void)doc_id;
	return 0;
}

static void change(struct layout *l, const struct node_blob *record)
{
	struct node_blob clipped;
	uint64_t live, held, off, len;
	int err;

	err = layout_clip_blob(record, SIZE / 3, &clipped);
	assert(err == 0 || err == -EFBIG);
	if (err == 0) {
		err = layout_diff(record, &clipped, nothing, NULL);
		assert(err == 0);
		free(clipped.data);
	}
	err = layout_set(l, SIZE / 4, 5000, LAYOUT_HOLE);
	assert(err == 0);
	err = layout_unset(l, SIZE / 4 + 100, 1000);
	assert(err == 0);
	layout_log_use(l, &live, &held);
	layout_worst_range(l, SIZE, 65536, 4096, &off, &len);
	layout_drop_dead(l, NULL, NULL);
	walk(l);
	layout_clip(l, SIZE / 3);
	walk(l);
	round_trip(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct node_blob record = { 0 }, doc = { 0 };
	struct layout l;
	size_t n;
	int err;

	if (size < 2)
		return 0;
	n = MFS_MIN((size_t)data[0] | (size_t)data[1] << 8, size - 2);
	/* Copies of their own size, so that a read behind the end is found. */
	record = (struct node_blob){ malloc(n + 1), n };
	doc = (struct node_blob){ malloc(size - n), size - 2 - n };
	assert(record.data && doc.data);
	memcpy(record.data, data + 2, n);
	memcpy(doc.data, data + 2 + n, doc.size);
	err = layout_parse(&record, &l);
	assert(err == 0 || err == -EUCLEAN);
	if (err == 0) {
		round_trip(&l);
		for (size_t i = 0; i < l.n_docs; i++) {
			err = layout_add_doc(&l, i, &doc);
			assert(err == 0 || err == -EUCLEAN);
		}
		walk(&l);
		change(&l, &record);
	}
	layout_release(&l);
	free(record.data);
	free(doc.data);
	return 0;
}
