/*
 * Streams of records: counted and summed lines into a sink, and out of a source.
 */
#include "meta/record_stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "meta/record_internal.h"

#define CHUNK 65536

/* --- writing --- */

int record_writer_init(struct record_writer *w, record_sink_fn *sink, void *arg)
{
	*w = (struct record_writer){ .sink = sink, .arg = arg, .line = MFS_BUF_INIT(RECORD_LINE_MAX) };
	w->summing = XXH3_createState();
	if (!w->summing)
		return -ENOMEM;
	XXH3_64bits_reset(w->summing);
	return 0;
}

void record_writer_release(struct record_writer *w)
{
	XXH3_freeState(w->summing);
	mfs_buf_release(&w->line);
	w->summing = NULL;
}

int record_writer_flush(struct record_writer *w, int r)
{
	if (r == 0 && w->line.len) {
		XXH3_64bits_update(w->summing, w->line.data, w->line.len);
		r = w->sink(w->arg, w->line.data, w->line.len);
		w->records++;
		w->bytes += w->line.len;
	}
	mfs_buf_clear(&w->line);
	return r;
}

int record_writer_header(struct record_writer *w, const struct record_header *h)
{
	struct record r = { .kind = RECORD_HEADER, .header = *h };

	r.header.format = RECORD_FORMAT;
	return record_writer_flush(w, record_put(&w->line, &r));
}

int record_writer_end(struct record_writer *w)
{
	struct record r = { .kind = RECORD_END };
	int err;

	w->sum = XXH3_64bits_digest(w->summing);
	r.end = (struct record_end){ .records = w->records, .sum = w->sum, .has_sum = true };
	err = record_writer_flush(w, record_put(&w->line, &r));
	w->records--; /* it counts what is before it */
	return err;
}

/* --- reading --- */

int record_reader_init(struct record_reader *r, record_source_fn *source, void *arg)
{
	*r = (struct record_reader){ .source = source,
				     .arg = arg,
				     .only = RECORD_ALL,
				     .text = MFS_BUF_INIT(RECORD_LINE_MAX + 2 * CHUNK) };
	r->summing = XXH3_createState();
	if (!r->summing)
		return -ENOMEM;
	XXH3_64bits_reset(r->summing);
	return 0;
}

void record_reader_release(struct record_reader *r)
{
	XXH3_freeState(r->summing);
	mfs_buf_release(&r->text);
	free(r->reason);
	r->summing = NULL;
	r->reason = NULL;
}

static int fault(struct record_reader *r, int err, const char *fmt, ...) MFS_PRINTF(3, 4);
static int fault(struct record_reader *r, int err, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	free(r->reason);
	if (asprintf(&r->reason, "line %" PRIu64 ": %s", r->line, text) < 0)
		r->reason = NULL;
	return err;
}

static int read_more(struct record_reader *r)
{
	char *room;
	ssize_t n;

	if (r->pos) {
		memmove(r->text.data, r->text.data + r->pos, r->text.len - r->pos);
		r->text.len -= r->pos;
		r->pos = 0;
	}
	room = mfs_buf_reserve(&r->text, CHUNK);
	if (!room)
		return r->text.err;
	n = r->source(r->arg, room, CHUNK);
	if (n == -EUCLEAN)
		return fault(r, -EUCLEAN, "what follows is damaged or missing");
	if (n < 0)
		return (int)n;
	r->at_end = n == 0;
	mfs_buf_added(&r->text, (size_t)n);
	return 0;
}

/* 1: *ret points at a line in text, *len without its newline; 0: nothing is left. */
static int next_line(struct record_reader *r, const char **ret, size_t *len)
{
	size_t seen = 0;

	r->line++;
	for (;;) {
		size_t have = r->text.len - r->pos;
		const char *from = have ? r->text.data + r->pos : NULL;
		const char *newline = have > seen ? memchr(from + seen, '\n', have - seen) : NULL;
		int err;

		if (newline) {
			*ret = from;
			*len = (size_t)(newline - from);
			r->pos += *len + 1;
			return *len > RECORD_LINE_MAX
				       ? fault(r, -EINVAL, "it is longer than %u bytes", RECORD_LINE_MAX)
				       : 1;
		}
		if (have > RECORD_LINE_MAX)
			return fault(r, -EINVAL, "it is longer than %u bytes", RECORD_LINE_MAX);
		if (r->at_end)
			return have ? fault(r, -EUCLEAN, "it is cut short") : 0;
		seen = have;
		err = read_more(r);
		if (err < 0)
			return err;
	}
}

static bool begins_as(const char *line, size_t len, const char *kind)
{
	char start[24];
	size_t n = (size_t)snprintf(start, sizeof(start), "{\"r\":\"%s\",", kind);

	return len > n && memcmp(line, start, n) == 0;
}

/* Is the line of a kind that is not asked for? Only as this program writes them: what is otherwise is parsed. */
static bool is_unwanted(const struct record_reader *r, const char *line, size_t len)
{
	if (r->only == RECORD_ALL || r->records == 0)
		return false;
	if (begins_as(line, len, RECORD_TRASH_NAME))
		return !(r->only & RECORD_MASK(RECORD_NODE));
	for (int k = 0; k < RECORD_N_KINDS; k++)
		if (begins_as(line, len, record_names[k]))
			return k != RECORD_HEADER && k != RECORD_END && !(r->only & RECORD_MASK(k));
	return false;
}

static int check_end(struct record_reader *r, const struct record_end *e)
{
	const char *line;
	size_t len;
	int more;

	r->sum = XXH3_64bits_digest(r->summing);
	if (e->records != r->records)
		return fault(r, -EUCLEAN, "the end says %" PRIu64 " records, there are %" PRIu64, e->records,
			     r->records);
	if (e->has_sum && e->sum != r->sum)
		return fault(
			r, -EUCLEAN,
			"the checksum is another: the text is damaged (or was edited: then leave \"sum\" out)");
	r->ended = true;
	more = next_line(r, &line, &len);
	return more > 0 ? fault(r, -EINVAL, "there is something behind the end") : more;
}

static int parse_line(struct record_reader *r, const char *line, size_t len, struct record *ret)
{
	MFS_AUTOFREE char *why = NULL;
	int err = record_parse(line, len, ret, &why);

	if (err < 0)
		return fault(r, err, "%s", why ? why : strerror(-err));
	if ((r->records == 0) != (ret->kind == RECORD_HEADER)) {
		record_release(ret);
		return fault(r, -EINVAL,
			     r->records ? "a second header"
					: "this is no massfs dump (its first line says so)");
	}
	if (ret->kind == RECORD_END)
		return check_end(r, &ret->end);
	if (ret->kind == RECORD_HEADER)
		r->header = ret->header;
	return 1;
}

int record_reader_next(struct record_reader *r, struct record *ret)
{
	const char *line;
	bool wanted;
	size_t len;
	int got;

	do {
		if (r->ended)
			return 0;
		got = next_line(r, &line, &len);
		if (got == 0)
			return fault(r, -EUCLEAN, "it ends without an \"end\": cut short");
		if (got < 0)
			return got;
		wanted = !is_unwanted(r, line, len);
		if (wanted) {
			got = parse_line(r, line, len, ret);
			if (got <= 0)
				return got;
			wanted = ret->kind != RECORD_HEADER && (r->only & RECORD_MASK(ret->kind));
			if (!wanted)
				record_release(ret);
		}
		XXH3_64bits_update(r->summing, line, len);
		XXH3_64bits_update(r->summing, "\n", 1);
		r->records++;
	} while (!wanted);
	return 1;
}
