/*
 * Storage rules of a directory: the text (JSON) in its attribute trusted.massfs.schema.
 *
 *   {"names": ["*.tif", "*.tiff"],   what is no directory must be called like one of these
 *    "tags": {"project": "p1", "raw": null},   given to what is made (null: a bare tag)
 *    "max_size": 1000000}            of a file, in bytes
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
};

/* -EINVAL with a sentence in *ret_reason (the caller's; may be NULL), -ENOMEM. Then *ret is empty. */
int schema_parse(const void *text, size_t len, struct schema *ret, char **ret_reason) MFS_NODISCARD;
void schema_release(struct schema *s);
/* Temporary names of rsync and the like are not asked for here. */
bool schema_name_fits(const struct schema *s, const struct mfs_name *name);

#endif
