/*
 * POSIX access control lists, as Linux' fs/posix_acl.c means them.
 */
#include "meta/acl.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XATTR_VERSION 2u
#define HEADER_SIZE   4u
#define ENTRY_SIZE    8u

void acl_release(struct acl *a)
{
	free(a->v);
	*a = (struct acl)ACL_INIT;
}

static bool is_named(const struct acl_entry *e)
{
	return e->tag == ACL_USER || e->tag == ACL_GROUP;
}

/* The order of tags is that of their numbers but for the mask, which comes before other: 1 2 4 8 16 32. */
static bool is_valid(const struct acl *a)
{
	unsigned int seen = 0, last = 0;

	for (size_t i = 0; i < a->n; i++) {
		const struct acl_entry *e = &a->v[i];

		switch (e->tag) {
		case ACL_USER_OBJ:
		case ACL_USER:
		case ACL_GROUP_OBJ:
		case ACL_GROUP:
		case ACL_MASK:
		case ACL_OTHER:
			break;
		default:
			return false;
		}
		if (e->perm > 7 || e->tag < last || (e->tag == last && !is_named(e)))
			return false;
		if (is_named(e) && e->id == ACL_ID_NONE)
			return false;
		last = e->tag;
		seen |= e->tag;
	}
	if ((seen & (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER)) != (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER))
		return false;
	return !(seen & (ACL_USER | ACL_GROUP)) || (seen & ACL_MASK);
}

static int by_tag_and_id(const void *x, const void *y)
{
	const struct acl_entry *a = x, *b = y;

	if (a->tag != b->tag)
		return a->tag < b->tag ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

static uint32_t get32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint16_t get16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

int acl_parse(const void *blob, size_t size, struct acl *ret)
{
	const unsigned char *p = blob;
	struct acl a = ACL_INIT;

	if (size < HEADER_SIZE || (size - HEADER_SIZE) % ENTRY_SIZE)
		return -EINVAL;
	if (get32(p) != XATTR_VERSION)
		return -EOPNOTSUPP;
	a.n = (size - HEADER_SIZE) / ENTRY_SIZE;
	if (a.n == 0) {
		*ret = a;
		return 0;
	}
	a.v = calloc(a.n, sizeof(*a.v));
	if (!a.v)
		return -ENOMEM;
	p += HEADER_SIZE;
	for (size_t i = 0; i < a.n; i++, p += ENTRY_SIZE) {
		a.v[i] = (struct acl_entry){ .tag = get16(p), .perm = get16(p + 2), .id = get32(p + 4) };
		if (!is_named(&a.v[i]))
			a.v[i].id = ACL_ID_NONE;
	}
	if (!is_valid(&a)) {
		acl_release(&a);
		return -EINVAL;
	}
	qsort(a.v, a.n, sizeof(*a.v), by_tag_and_id);
	*ret = a;
	return 0;
}

int acl_encode(const struct acl *a, void **ret, size_t *ret_size)
{
	size_t size = HEADER_SIZE + a->n * ENTRY_SIZE;
	unsigned char *blob = malloc(size), *p = blob;
	uint32_t v32 = htole32(XATTR_VERSION);

	if (!blob)
		return -ENOMEM;
	memcpy(p, &v32, sizeof(v32));
	p += HEADER_SIZE;
	for (size_t i = 0; i < a->n; i++, p += ENTRY_SIZE) {
		uint16_t tag = htole16(a->v[i].tag), perm = htole16(a->v[i].perm);

		v32 = htole32(a->v[i].id);
		memcpy(p, &tag, sizeof(tag));
		memcpy(p + 2, &perm, sizeof(perm));
		memcpy(p + 4, &v32, sizeof(v32));
	}
	*ret = blob;
	*ret_size = size;
	return 0;
}

static struct acl_entry *find(const struct acl *a, enum acl_tag tag)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].tag == tag)
			return &a->v[i];
	return NULL;
}

static struct acl_entry *group_class(const struct acl *a)
{
	struct acl_entry *mask = find(a, ACL_MASK);

	return mask ? mask : find(a, ACL_GROUP_OBJ);
}

uint32_t acl_mode(const struct acl *a)
{
	return (uint32_t)find(a, ACL_USER_OBJ)->perm << 6 | (uint32_t)group_class(a)->perm << 3 |
	       find(a, ACL_OTHER)->perm;
}

bool acl_is_mode(const struct acl *a)
{
	return a->n == 3; /* valid: the three that must be there, and no more */
}

void acl_chmod(struct acl *a, uint32_t mode)
{
	find(a, ACL_USER_OBJ)->perm = mode >> 6 & 7;
	group_class(a)->perm = mode >> 3 & 7;
	find(a, ACL_OTHER)->perm = mode & 7;
}

void acl_create(struct acl *a, uint32_t *mode)
{
	struct acl_entry *user = find(a, ACL_USER_OBJ), *group = group_class(a), *other = find(a, ACL_OTHER);

	user->perm &= (uint16_t)(*mode >> 6 & 7);
	group->perm &= (uint16_t)(*mode >> 3 & 7);
	other->perm &= (uint16_t)(*mode & 7);
	*mode = (*mode & ~0777u) | acl_mode(a);
}

static bool in_group(uint32_t id, gid_t gid, const gid_t *groups, size_t n_groups)
{
	if (id == gid)
		return true;
	for (size_t i = 0; i < n_groups; i++)
		if (groups[i] == id)
			return true;
	return false;
}

bool acl_permits(const struct acl *a, uint32_t owner, uint32_t group, uid_t uid, gid_t gid,
		 const gid_t *groups, size_t n_groups, unsigned int want)
{
	const struct acl_entry *mask = find(a, ACL_MASK);
	unsigned int limit = mask ? mask->perm : 7u;
	bool member = false;

	if (uid == owner)
		return (find(a, ACL_USER_OBJ)->perm & want) == want;
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].tag == ACL_USER && a->v[i].id == uid)
			return (a->v[i].perm & limit & want) == want;
	for (size_t i = 0; i < a->n; i++) {
		const struct acl_entry *e = &a->v[i];

		if ((e->tag != ACL_GROUP_OBJ && e->tag != ACL_GROUP) ||
		    !in_group(e->tag == ACL_GROUP ? e->id : group, gid, groups, n_groups))
			continue;
		member = true;
		if ((e->perm & limit & want) == want)
			return true;
	}
	return !member && (find(a, ACL_OTHER)->perm & want) == want;
}
