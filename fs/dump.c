/*
 * dump and load: a header, all records, an end.
 */
#include "fs/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/str.h"

#define PROGRESS_EACH 4096

struct progress {
	dump_progress_fn *fn;
	void *arg;
	uint64_t total;
};

static int walked(void *arg, uint64_t done)
{
	const struct progress *p = arg;

	return p->fn ? p->fn(p->arg, done, MFS_MAX(p->total, done)) : 0;
}

static int dump_snapshot(struct engine *s, struct op_ctx *op, struct record_writer *w, struct progress *p,
			 struct record_counts *ret)
{
	struct record_header h = { .stream = RECORD_STREAM_DUMP };
	uint64_t bytes;
	int r = engine_count(s, op, &p->total, &bytes);

	if (r == 0)
		r = record_writer_header(w, &h);
	if (r == 0)
		r = record_dump_all(s, op, w, walked, p, ret);
	return r < 0 ? r : record_writer_end(w);
}

int dump_index(struct engine *e, struct op_ctx *op, record_sink_fn *sink, void *arg,
	       dump_progress_fn *progress, void *progress_arg, struct record_counts *ret)
{
	struct progress p = { .fn = progress, .arg = progress_arg };
	struct engine *s = NULL;
	struct record_writer w;
	int r = record_writer_init(&w, sink, arg);

	if (r == 0)
		r = engine_snapshot(e, op, &s);
	if (r == 0)
		r = dump_snapshot(s, op, &w, &p, ret);
	engine_free(s);
	record_writer_release(&w);
	return r;
}

static int explain(struct record_reader *rd, int r, char **ret_reason)
{
	const char *why = r == -EEXIST	 ? "a number or a name that an earlier line has already"
			  : r == -ESTALE ? "a further name of a file that is not there"
			  : r == -EINVAL ? "a record that cannot stand here"
					 : strerror(-r);

	if (rd->reason)
		*ret_reason = MFS_TAKE(rd->reason);
	else
		*ret_reason = mfs_str_printf("line %" PRIu64 " (or a few before it): %s", rd->line, why);
	return r;
}

static int load_records(struct record_reader *rd, struct record_loader *l, const struct progress *p)
{
	struct record rec;
	int r;

	while ((r = record_reader_next(rd, &rec)) > 0) {
		r = record_loader_add(l, &rec);
		if (r == 0 && rd->line % PROGRESS_EACH == 0)
			r = walked((void *)(uintptr_t)p, rd->line);
		if (r < 0)
			return r;
	}
	return r;
}

static void count_fault(void *arg, const char *text)
{
	char **first = arg;

	if (!*first)
		*first = strdup(text);
}

int load_index(struct engine *e, struct op_ctx *op, record_source_fn *source, void *arg,
	       dump_progress_fn *progress, void *progress_arg, struct record_counts *ret, char **ret_reason)
{
	struct progress p = { .fn = progress, .arg = progress_arg };
	MFS_AUTOFREE char *fault = NULL;
	struct record_loader l;
	struct record_reader rd;
	int r = record_reader_init(&rd, source, arg);

	if (r < 0)
		return r;
	record_loader_init(&l, e, op);
	r = load_records(&rd, &l, &p);
	if (r == 0 && rd.header.stream != RECORD_STREAM_DUMP) {
		r = -EINVAL;
		*ret_reason =
			strdup("it is an object of the index log and no dump; `massfs rebuild` reads those");
	} else if (r == 0) {
		r = record_loader_finish(&l);
		if (r == -EINVAL)
			*ret_reason = strdup("the volume's record or the root directory is missing");
	}
	if (r < 0 && !*ret_reason)
		(void)explain(&rd, r, ret_reason);
	if (r == 0)
		r = engine_check(e, op, count_fault, &fault);
	if (r == 0 && fault) {
		r = -EINVAL;
		*ret_reason = mfs_str_printf("the records do not fit together: %s", fault);
	}
	*ret = l.counts;
	record_loader_release(&l);
	record_reader_release(&rd);
	return r;
}
