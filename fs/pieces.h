/*
 * What one state of a file consists of, for those who check it: fsck (is it all there?) and scrub (is it what was
 * written?). A state is a record in files or trash, or a version.
 */
#ifndef MASSFS_FS_PIECES_H
#define MASSFS_FS_PIECES_H

#include "fs/volume.h"
#include "meta/layout.h"

/* Borrowed from the record. */
struct file_content {
	mfs_ino_t ino;
	uint64_t data, size, obj_len;
	const struct object_ref *ref;
	const char *etag;
	const struct node_blob *slices, *inline_data;
};
struct file_content file_content_of_node(const struct node *n);
struct file_content file_content_of_version(const struct version_record *r);

/* One object that a state names. */
struct piece {
	const struct object_ref *ref;
	uint64_t len;	 /* it must have so many bytes: a segment exactly, the base at least */
	bool is_segment;
	bool has_sum;	 /* else the store that took it gave none, or not a sum of ours */
	uint64_t sum;	 /* common/checksum.h, of the whole object */
};
/* Non-zero stops and is returned. */
typedef int piece_fn(void *arg, const struct piece *p);
/* Of each object that it names: the base, then the segments. -EUCLEAN: the layout cannot be read; -ENOMEM; what fn gives. */
int file_content_pieces(const struct file_content *c, piece_fn *fn, void *arg) MFS_NODISCARD;

#define FILE_CONTENT_WHY 160
/*
 * Does the record fit together: inline bytes and sizes, slices and documents, the positions of the log? 0; -EUCLEAN and in
 * why what is wrong; other -errno: could not look. Round trips: 1 a document.
 */
int file_content_check(struct volume *v, struct op_ctx *op, const struct file_content *c, char why[static FILE_CONTENT_WHY]) MFS_NODISCARD;

/* The whole layout, documents read. -EUCLEAN, -ENOENT (a document), or other -errno; *ret is empty then. */
int file_content_layout(struct volume *v, struct op_ctx *op, const struct file_content *c, struct layout *ret) MFS_NODISCARD;

/* Which bytes of the file are in this object: how many, and where the first of them are. 0: none (it is dead). */
uint64_t file_content_of_object(const struct file_content *c, const struct layout *l, const char *version, uint64_t *ret_off,
				uint64_t *ret_len);

/* The name that massfs restore takes for a version in any case: 20261121T091500Z-7. */
void file_version_name(const struct version_record *r, char *buf, size_t size);

#endif
