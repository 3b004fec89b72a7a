/*
 * Tags: the user.* extended attributes of a record, as searches see them.
 *
 * user.NAME = VALUE is the tag NAME with a value; user.xdg.tags = "a, b" stands for the bare tags a and b (names without
 * a value). Samba's user.DOSATTRIB and user.DosStream.* are no tags.
 */
#ifndef MASSFS_META_TAGS_H
#define MASSFS_META_TAGS_H

#include "meta/node.h"

#define TAG_BARE_LIST "user.xdg.tags"
#define TAG_VALUE_INDEXED 128 /* bytes of a value that an index keeps; a hit is looked at again */

/* Points into the record. name is without "user.", not NUL-terminated. */
struct tag {
	const char *name;
	size_t name_len;
	const void *value; /* never NULL */
	size_t size;	   /* 0 for a bare tag, or an empty value */
	bool bare;
};

/* Calls fn for each; stops at the first that gives other than 0, and returns that. A bare tag that is listed twice comes
 * twice. */
int node_each_tag(const struct node *n, int (*fn)(void *arg, const struct tag *t), void *arg);

/* Is this xattr (with its prefix) a tag, or the list of bare ones? */
bool tag_is_xattr(const char *name);

/* The value as a finite decimal number, whole (blanks around it are no part of one). */
bool tag_number(const void *value, size_t size, double *ret);

#endif
