/*
 * Where a file's bytes are, for massfs info.
 */
#include <inttypes.h>

#include "common/str.h"
#include "fs/pieces.h"
#include "fs/verbs_internal.h"

struct summary {
	const char *kind;
	uint64_t base, patched, holes; /* bytes of the file that are in its object, in patches, in none */
	uint64_t log_live, log_held; /* bytes of the patch log that are named, that are stored */
	size_t n_slices, n_segments, n_docs;
	bool damaged;
};

static void add_extents(struct summary *s, const struct file_content *c, const struct layout *l)
{
	struct layout_extent e;

	for (uint64_t off = 0; off < c->size; off = e.off + e.len) {
		if (layout_at(l, off, c->obj_len, c->size, &e) < 0 || !e.len) {
			s->damaged = true;
			return;
		}
		*(e.kind == EXTENT_BASE    ? &s->base
		  : e.kind == EXTENT_PATCH ? &s->patched
					   : &s->holes) += e.len;
	}
}

static struct summary summarize(struct verb_call *call, const struct node *n)
{
	struct file_content c = file_content_of_node(n);
	struct summary s = { .kind = "none" };
	struct layout l;

	if (n->inline_data.size) {
		s.kind = "inline";
		s.holes = n->attr.size - MFS_MIN(n->attr.size, n->inline_data.size);
		return s;
	}
	if (file_content_layout(call->vol, call->op, &c, &l) < 0) {
		s.kind = "damaged";
		s.damaged = true;
		return s;
	}
	if (!layout_is_empty(&l))
		s.kind = "slices";
	else if (!object_ref_is_empty(&n->ref))
		s.kind = "object";
	s.n_slices = l.n_map;
	s.n_segments = l.n_segments;
	s.n_docs = l.n_docs;
	layout_log_use(&l, &s.log_live, &s.log_held);
	add_extents(&s, &c, &l);
	layout_release(&l);
	return s;
}

void verb_layout_json(struct verb_call *call, bool *first, const struct node *n)
{
	struct summary s = summarize(call, n);
	bool inner = true;
	FILE *f = call->out;

	json_text(f, first, "checksum", n->etag[0] ? n->etag : NULL);
	fputs(", \"layout\": {", f);
	json_text(f, &inner, "kind", s.kind);
	json_number(f, &inner, "inline_bytes", n->inline_data.size);
	json_number(f, &inner, "object_bytes", s.base);
	json_number(f, &inner, "patched_bytes", s.patched);
	json_number(f, &inner, "hole_bytes", s.holes);
	json_number(f, &inner, "slices", s.n_slices);
	json_number(f, &inner, "segments", s.n_segments);
	json_number(f, &inner, "segment_bytes", s.log_held);
	json_number(f, &inner, "segment_bytes_live", s.log_live);
	json_number(f, &inner, "documents", s.n_docs);
	json_number(f, &inner, "record_bytes", n->slices.size);
	fputc('}', f);
}

void verb_layout(struct verb_call *call, const struct node *n)
{
	struct summary s = summarize(call, n);
	char a[24], b[24], c[24];
	FILE *f = call->out;

	if (n->etag[0])
		fprintf(f, "checksum:  %s\n", n->etag);
	if (s.damaged)
		fprintf(f, "layout:    DAMAGED (run massfs fsck)\n");
	else if (s.n_slices)
		fprintf(f, "layout:    %s in the object, %s in %zu slices, %s of zeros\n",
			mfs_str_put_size(a, sizeof(a), s.base), mfs_str_put_size(b, sizeof(b), s.patched), s.n_slices,
			mfs_str_put_size(c, sizeof(c), s.holes));
	else if (s.holes)
		fprintf(f, "layout:    %s in the %s, %s of zeros\n",
			mfs_str_put_size(a, sizeof(a), n->inline_data.size ? n->inline_data.size : s.base),
			n->inline_data.size ? "index" : "object", mfs_str_put_size(c, sizeof(c), s.holes));
	if (s.n_segments)
		fprintf(f, "patches:   %zu objects, %s, of which %s are in use; %zu documents of slices\n", s.n_segments,
			mfs_str_put_size(a, sizeof(a), s.log_held), mfs_str_put_size(b, sizeof(b), s.log_live), s.n_docs);
}
