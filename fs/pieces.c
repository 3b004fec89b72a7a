/*
 * The objects of a state, one by one, and whether its record fits together.
 */
#include "fs/pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/str.h"

struct file_content file_content_of_node(const struct node *n)
{
	return (struct file_content){
		.ino = n->attr.ino,
		.data = n->attr.data,
		.size = n->attr.size,
		.obj_len = n->attr.obj_len,
		.ref = &n->ref,
		.etag = n->etag,
		.slices = &n->slices,
		.inline_data = &n->inline_data,
	};
}

struct file_content file_content_of_version(const struct version_record *r)
{
	return (struct file_content){
		.ino = r->ino,
		.data = r->data,
		.size = r->size,
		.obj_len = r->obj_len,
		.ref = &r->ref,
		.etag = r->etag,
		.slices = &r->slices,
		.inline_data = &r->inline_data,
	};
}

static int segment_piece(const struct segment *s, piece_fn *fn, void *arg)
{
	struct piece p = { .len = s->len, .is_segment = true, .has_sum = s->sum != 0, .sum = s->sum };
	struct object_ref ref = { 0 };
	int r = layout_segment_ref(s, &ref);

	p.ref = &ref;
	if (r == 0)
		r = fn(arg, &p);
	object_ref_release(&ref);
	return r;
}

int file_content_pieces(const struct file_content *c, piece_fn *fn, void *arg)
{
	struct layout l;
	int r;

	layout_init(&l);
	r = layout_parse(c->slices, &l);
	if (r == 0 && !object_ref_is_empty(c->ref)) {
		struct piece p = { .ref = c->ref, .len = c->obj_len };

		p.has_sum = mfs_checksum_parse(c->etag, &p.sum);
		r = fn(arg, &p);
	}
	for (size_t i = 0; r == 0 && i < l.n_segments; i++)
		r = segment_piece(&l.segments[i], fn, arg);
	layout_release(&l);
	return r;
}

/* *ret_doc: which document could not be read. */
static int read_layout(struct volume *v, struct op_ctx *op, const struct file_content *c, struct layout *ret,
		       uint64_t *ret_doc)
{
	int r;

	*ret_doc = 0;
	layout_init(ret);
	r = layout_parse(c->slices, ret);
	for (size_t i = 0; r == 0 && i < ret->n_docs; i++) {
		struct node_blob doc = { 0 };

		*ret_doc = ret->docs[i].id;
		r = engine_slices_get(v->engine, op, c->ino, *ret_doc, &doc);
		if (r == 0)
			r = layout_add_doc(ret, i, &doc);
		free(doc.data);
	}
	if (r < 0)
		layout_release(ret);
	return r;
}

int file_content_layout(struct volume *v, struct op_ctx *op, const struct file_content *c, struct layout *ret)
{
	uint64_t doc;

	return read_layout(v, op, c, ret, &doc);
}

static int damaged(char *why, const char *fmt, ...) MFS_PRINTF(2, 3);

static int damaged(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, FILE_CONTENT_WHY, fmt, ap);
	va_end(ap);
	return -EUCLEAN;
}

static int check_inline(const struct file_content *c, char *why)
{
	size_t size = c->inline_data->size;

	if (!c->inline_data->data)
		return 0;
	if (!object_ref_is_empty(c->ref) || c->obj_len || c->slices->size)
		return damaged(why, "its content is in the index and in an object");
	if (size > c->size)
		return damaged(why, "%zu bytes are in the index, the file has %" PRIu64, size, c->size);
	if (size > MFS_INLINE_MAX)
		return damaged(why, "%zu bytes are in the index, more than %d", size, MFS_INLINE_MAX);
	if (!mfs_checksum_fits(c->etag, c->inline_data->data, size))
		return damaged(why, "wrong checksum of its %zu bytes in the index", size);
	return 0;
}

/* Every byte is somewhere, and the log has only positions that were given out. */
static int check_positions(const struct file_content *c, const struct layout *l, char *why)
{
	struct layout_extent e;

	for (size_t i = 0; i < l->n_segments; i++)
		if (l->segments[i].pos + l->segments[i].len > l->log_end)
			return damaged(why, "a segment ends at position %" PRIu64 " of a log of %" PRIu64,
				       l->segments[i].pos + l->segments[i].len, l->log_end);
	for (uint64_t off = 0; off < c->size; off = e.off + e.len) {
		int r = layout_at(l, off, c->obj_len, c->size, &e);

		if (r == -EUCLEAN)
			return damaged(why, "the bytes at %" PRIu64 " are in a segment that is not in the table", off);
		if (r < 0)
			return r;
		if (e.len == 0 || e.off != off)
			return damaged(why, "the bytes at %" PRIu64 " are nowhere", off);
		if (e.kind == EXTENT_PATCH && e.src + e.len > e.segment->len)
			return damaged(why, "the bytes at %" PRIu64 " are behind the end of their segment", off);
	}
	if (l->n_map && l->map[l->n_map - 1].off + l->map[l->n_map - 1].len > c->size)
		return damaged(why, "slices reach beyond the file's end");
	return 0;
}

int file_content_check(struct volume *v, struct op_ctx *op, const struct file_content *c,
		       char why[static FILE_CONTENT_WHY])
{
	struct layout l;
	uint64_t doc;
	int r = check_inline(c, why);

	if (r == 0 && c->obj_len > c->size)
		return damaged(why, "object %" PRIu64 " bytes, file %" PRIu64, c->obj_len, c->size);
	if (r == 0 && object_ref_is_empty(c->ref) && c->obj_len)
		return damaged(why, "%" PRIu64 " bytes are in no object", c->obj_len);
	if (r < 0 || !c->slices->size)
		return r;
	r = read_layout(v, op, c, &l, &doc);
	if (r == -EUCLEAN || r == -EINVAL)
		return doc ? damaged(why, "slices document %" PRIu64 " cannot be read", doc)
			   : damaged(why, "its slices cannot be read");
	if (r == -ENOENT)
		return damaged(why, "slices document %" PRIu64 " is missing", doc);
	if (r < 0)
		return r;
	r = check_positions(c, &l, why);
	layout_release(&l);
	return r;
}

uint64_t file_content_of_object(const struct file_content *c, const struct layout *l, const char *version,
				uint64_t *ret_off, uint64_t *ret_len)
{
	bool is_base = !object_ref_is_empty(c->ref) && strcmp(c->ref->version, version) == 0;
	struct layout_extent e;
	uint64_t total = 0;

	*ret_off = *ret_len = 0;
	for (uint64_t off = 0; off < c->size; off = e.off + e.len) {
		bool here;

		if (layout_at(l, off, c->obj_len, c->size, &e) < 0 || e.len == 0)
			break;
		here = e.kind == EXTENT_PATCH ? strcmp(e.segment->version, version) == 0 : e.kind == EXTENT_BASE && is_base;
		if (here && total == 0) {
			*ret_off = e.off;
			*ret_len = e.len;
		}
		total += here ? e.len : 0;
	}
	return total;
}

void file_version_name(const struct version_record *r, char *buf, size_t size)
{
	char time[40];

	mfs_str_put_time_short(time, sizeof(time), r->mtime);
	snprintf(buf, size, "%s-%" PRIu64, time, r->data);
}
