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

/*
 * Which tags something has, as numbers: one of each name, and one of each name with its value. For "may this change matter
 * to that search"; two that share a number cost a look too many.
 */
#define TAG_SET_MAX 128
struct tag_set {
	uint64_t v[TAG_SET_MAX];
	size_t n;
	bool all; /* there are more, or they are not known: any tag may be meant */
};
uint64_t tag_name_number(const void *name, size_t len);
uint64_t tag_value_number(const void *name, size_t len, const void *value, size_t size);
void tag_set_add(struct tag_set *s, const struct tag *t);
void tag_set_add_node(struct tag_set *s, const struct node *n);

/* The value as a finite decimal number, whole (blanks around it are no part of one). */
bool tag_number(const void *value, size_t size, double *ret);

#endif
