/*
 * Storage rules of a directory: the text (JSON) in its attribute trusted.massfs.schema.
 *
 *   {"names": ["*.tif", "*.tiff"],   what is no directory must be called like one of these
 *    "tags": {"project": "p1", "raw": null},   given to what is made (null: a bare tag)
 *    "max_size": 1000000,            of a file, in bytes: a write beyond it is refused
 *    "min_size": 1000,               of a file, at close
 *    "types": ["image/tiff"],        of the content, at close: libmagic's word of the first 64 KiB is like one of these
 *    "demanded_tags": {"project": null, "year": "20??"},   what a file must have (null: with any value, or bare)
 *    "grace": 3600}                  seconds after it was made, in which they may still come; 600 if not said
 *
 * Each field may be left out. They hold in the directory and below it, down to a directory with rules of its own.
 */
#ifndef MASSFS_META_SCHEMA_H
#define MASSFS_META_SCHEMA_H

#include "meta/namespace.h"

#define SCHEMA_XATTR	"trusted.massfs.schema"
#define SCHEMA_TEXT_MAX 16384
#define SCHEMA_LIST_MAX 64 /* names, or tags */

struct schema {
	char *names[SCHEMA_LIST_MAX]; /* owned, as are those of tags */
	size_t n_names;
	struct tag_edit tags[SCHEMA_LIST_MAX];
	size_t n_tags;
	uint64_t max_size; /* MFS_FILE_SIZE_MAX: no limit */
	uint64_t min_size;
	char *types[SCHEMA_LIST_MAX]; /* owned */
	size_t n_types;
	struct tag_edit demands[SCHEMA_LIST_MAX]; /* owned; value: a pattern, NULL: any */
	size_t n_demands;
	int64_t grace_ns;
};

/* -EINVAL with a sentence in *ret_reason (the caller's; may be NULL), -ENOMEM. Then *ret is empty. */
int schema_parse(const void *text, size_t len, struct schema *ret, char **ret_reason) MFS_NODISCARD;
void schema_release(struct schema *s);
/* Temporary names of rsync and the like are not asked for here. */
bool schema_name_fits(const struct schema *s, const struct mfs_name *name);
bool schema_type_fits(const struct schema *s, const char *mime);
/* Has it all demanded tags? NULL, or the name of one that it has not (of s). */
const char *schema_tag_missing(const struct schema *s, const struct node *n);

#endif
