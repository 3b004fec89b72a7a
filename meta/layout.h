/*
 * Where the bytes of a changed file are: slices over its object.
 *
 *   inline   the whole content is in the record (no object, no slices); or
 *   object   ref gives bytes [0, obj_len), and over it lie *slices*: ranges of the file whose bytes are elsewhere.
 *   tail     what neither gives reads as zeros, up to size.
 *
 * Changed bytes are appended to the file's *patch log*, a space of 64-bit positions that only grows. A slice says
 * "file range [off, off+len) is at position pos of the log" (or is a hole). The log's bytes lie in *segments*: patch
 * objects, each of which holds one range of positions. So many small patch objects can be put together into a bigger one
 * (swallowed) without touching a single slice: only the segment table changes, and that stands in the record.
 *
 * Two levels keep the record small (64 KiB) with 65,536 slices: the record has the newest slices (up to 256), the table of
 * segments, and names up to 256 slices documents (records.h, struct slices_doc_record), each of which has what lies in one range
 * of the file (up to 256 slices). Documents are immutable: a changed range gets a new one. A document counts only in
 * [start, end) of its entry, so truncation clips the entry. Newest first: recent slices, documents, object.
 *
 * Encoded (node.slices, slices_doc.blob) as a version byte and unsigned LEB128 numbers; parsed with bounds, since it
 * comes from the index: -EUCLEAN for anything malformed. Absent blob: no slices.
 *
 * Not thread-safe: the owner's lock guards a layout. All lengths in bytes.
 */
#ifndef MASSFS_META_LAYOUT_H
#define MASSFS_META_LAYOUT_H

#include "meta/node.h"
#include "meta/records.h"

#define LAYOUT_HOLE	    UINT64_MAX /* pos of a slice that reads as zeros */
#define LAYOUT_DOC_SLICES   256
#define LAYOUT_DOCS_MAX	    256
#define LAYOUT_RECENT_MAX   256
#define LAYOUT_SLICES_MAX   65536 /* writers wait for the compactor beyond this */
#define LAYOUT_SEGMENTS_MAX 400	  /* the same */
#define LAYOUT_COMMIT_MAX   2000	  /* ranges that one commit may set when the pressure is not FULL */
#define LAYOUT_BLOB_MAX	    (60u << 10) /* bytes of node.slices */
#define LAYOUT_PATCH_PREFIX ".massfs/patch/"
#define LAYOUT_PATCH_KEY_MAX 64

struct slice {
	uint64_t off, len;
	uint64_t pos; /* in the patch log, or LAYOUT_HOLE */
};

/* One patch object: [pos, pos+len) of the log. Its key is made of session and op (layout_patch_key). */
struct segment {
	uint64_t pos, len;
	uint64_t session, op;
	uint64_t sum; /* mfs_checksum() of its bytes; 0: not known */
	uint16_t store;
	char version[OBJECT_VERSION_MAX + 1];
	bool live; /* layout_drop_dead()'s own */
};

struct layout_doc {
	uint64_t start, end; /* of the file: where the document counts. Several entries may name one document */
	uint64_t id;
	uint32_t n; /* its slices, before clipping */
	bool added; /* layout_add_doc() was called: map has it */
};

struct layout {
	uint64_t log_end; /* the next position of the patch log */
	bool holes_in_base; /* the object has zeros where the hole slices are: a file with only those is settled */
	struct segment *segments; /* sorted by pos, no overlap; gaps are positions that nothing names any more */
	size_t n_segments, cap_segments;
	struct layout_doc *docs; /* sorted by start, no overlap */
	size_t n_docs, cap_docs;
	struct slice *recent; /* sorted by off, no overlap: newer than the documents */
	size_t n_recent, cap_recent;
	/* What documents and recent ones come to; complete once every document was added (layout_add_doc). */
	struct slice *map; /* sorted by off, no overlap */
	size_t n_map, cap_map;
};

void layout_init(struct layout *l);
void layout_release(struct layout *l); /* and empty. NULL: nothing */
int layout_copy(const struct layout *l, struct layout *ret) MFS_NODISCARD;
static inline bool layout_is_empty(const struct layout *l)
{
	return l->n_map == 0 && l->n_docs == 0;
}

/* The record's part. Documents are named in l->docs and not read: layout_add_doc for each, in any order (ascending is
 * cheapest), before anything is set, makes map whole. -EUCLEAN, -ENOMEM; *ret is empty then. */
int layout_parse(const struct node_blob *record, struct layout *ret) MFS_NODISCARD;
/* `doc` is what the document of entry i says. -EUCLEAN, -ENOMEM: nothing changed. -EINVAL: it was added before. */
int layout_add_doc(struct layout *l, size_t i, const struct node_blob *doc) MFS_NODISCARD;
/* Has every document been added? */
bool layout_is_whole(const struct layout *l);
/* The record's part, encoded; *ret is owned by the caller. -EFBIG over LAYOUT_BLOB_MAX or LAYOUT_RECENT_MAX (see
 * layout_pressure, layout_make_docs). An empty layout (no slices at all) gives an empty blob: its log begins anew. */
int layout_encode(const struct layout *l, struct node_blob *ret) MFS_NODISCARD;

/* [off, off+len) is at pos of the log from now on (LAYOUT_HOLE: reads as zeros): cuts what was there, in map and recent.
 * Joins neighbours that continue each other. A new hole makes holes_in_base false. -ENOMEM: nothing changed. -EFBIG: beyond 2^63. */
int layout_set(struct layout *l, uint64_t off, uint64_t len, uint64_t pos) MFS_NODISCARD;
/* [off, off+len) comes from the object again (it was composed into it). A document's entry may become two; the record
 * names at most LAYOUT_DOCS_MAX (-EFBIG of layout_encode; layout_make_docs puts them together again). -ENOMEM as above. */
int layout_unset(struct layout *l, uint64_t off, uint64_t len) MFS_NODISCARD;
/* Nothing at or beyond size is left: documents' entries are clipped. Needs no whole map. */
void layout_clip(struct layout *l, uint64_t size);

/*
 * When more than LAYOUT_RECENT_MAX are recent: their ranges get new documents. *ret: an array of documents, ids
 * first_id, first_id+1, ..., ino and session as given, that the commit writes in the same change (the caller releases
 * with slices_doc_list_release); recent is empty then. At most layout_docs_needed() of them. Map must be whole
 * (-EINVAL). -EFBIG: more than LAYOUT_SLICES_MAX slices. On failure nothing changed. Nothing to do: an empty list.
 */
size_t layout_docs_needed(const struct layout *l); /* an upper bound; 0: recent fits */
int layout_make_docs(struct layout *l, mfs_ino_t ino, uint64_t session, uint64_t first_id,
		     struct slices_doc_list *ret) MFS_NODISCARD;

/* A segment for [pos, pos+len), in place of those that lie wholly inside it (which are returned in dropped, if not NULL:
 * room for l->n_segments; *n_dropped). Positions from log_end on move log_end. -EINVAL: it cuts one in two. */
int layout_add_segment(struct layout *l, const struct segment *s, struct segment *dropped, size_t *n_dropped) MFS_NODISCARD;
/* Segments of which no slice of map names a byte: taken out of the table, to dropped (as above). Map must be
 * whole, else nothing. Goes through all slices: not for every commit of a file with many. */
void layout_drop_dead(struct layout *l, struct segment *dropped, size_t *n_dropped);
/* Bytes of the log that slices of map name, and bytes that the segments hold. */
void layout_log_use(const struct layout *l, uint64_t *ret_live, uint64_t *ret_held);

enum layout_pressure {
	LAYOUT_EASY,
	LAYOUT_COMPACT, /* three quarters of a bound: compose a range in the background */
	LAYOUT_FULL,	/* no further slice before that is done */
};
enum layout_pressure layout_pressure(const struct layout *l); /* map must be whole */
/* The range of the file (at most max bytes, a multiple of `align`; begins and ends aligned, but for the file's end) that
 * has most slices: what to compose next. *ret_len 0: there are none. */
void layout_worst_range(const struct layout *l, uint64_t size, uint64_t max, uint64_t align, uint64_t *ret_off, uint64_t *ret_len);

/* Where the bytes at off are; the run is as long as it stays one place, and ends at `size`. off < size. */
enum extent_kind { EXTENT_BASE, EXTENT_PATCH, EXTENT_HOLE };
struct layout_extent {
	enum extent_kind kind; /* HOLE: a hole slice, or behind obj_len */
	uint64_t off, len;
	const struct segment *segment; /* PATCH */
	uint64_t src; /* offset in the segment's object, or in the base object (== off) */
};
/* -EUCLEAN: a slice names a position that no segment holds. */
int layout_at(const struct layout *l, uint64_t off, uint64_t obj_len, uint64_t size, struct layout_extent *ret) MFS_NODISCARD;

/* The key of a segment's object: LAYOUT_PATCH_PREFIX<session hex>-<op hex>; and back (false: it is not such a key). */
void layout_patch_key(const struct segment *s, char buf[LAYOUT_PATCH_KEY_MAX]);
bool layout_patch_key_parse(const char *key, uint64_t *ret_session, uint64_t *ret_op);
/* Its whole ref, owned by the caller (object_ref_release). */
int layout_segment_ref(const struct segment *s, struct object_ref *ret) MFS_NODISCARD;

/* On encoded records, for namespace and gc, which need no map: clip without reading documents; and what `before` names
 * that `after` (NULL: nothing) does not, called once each with either a segment or a document's id. */
int layout_clip_blob(const struct node_blob *record, uint64_t size, struct node_blob *ret) MFS_NODISCARD;
typedef int layout_gone_fn(void *arg, const struct segment *s, uint64_t doc_id);
int layout_diff(const struct node_blob *before, const struct node_blob *after, layout_gone_fn *fn, void *arg) MFS_NODISCARD;

#endif
