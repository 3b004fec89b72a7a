/*
 * POSIX access control lists: the bytes of system.posix_acl_* (the kernel's struct posix_acl_xattr, version 2), what
 * they mean together with the mode, and the check of access. Pure functions; no I/O.
 */
#ifndef MASSFS_META_ACL_H
#define MASSFS_META_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/defs.h"

#define ACL_XATTR_ACCESS  "system.posix_acl_access"
#define ACL_XATTR_DEFAULT "system.posix_acl_default"

enum acl_tag {
	ACL_USER_OBJ = 0x01,
	ACL_USER = 0x02,
	ACL_GROUP_OBJ = 0x04,
	ACL_GROUP = 0x08,
	ACL_MASK = 0x10,
	ACL_OTHER = 0x20,
};

struct acl_entry {
	uint16_t tag, perm; /* perm: 4 read, 2 write, 1 execute */
	uint32_t id;	    /* of ACL_USER and ACL_GROUP; else ACL_ID_NONE */
};
#define ACL_ID_NONE UINT32_MAX

struct acl {
	struct acl_entry *v; /* owned */
	size_t n;	     /* 0: no ACL at all */
};
#define ACL_INIT { 0 }

void acl_release(struct acl *a);

/* Read and check a blob: entries in the kernel's order, each required one there once, a mask where names are. Named
 * entries come out in order of id. A blob without entries gives n = 0. -EINVAL, -EOPNOTSUPP (version), -ENOMEM. */
int acl_parse(const void *blob, size_t size, struct acl *ret) MFS_NODISCARD;
/* Owned bytes. -ENOMEM. */
int acl_encode(const struct acl *a, void **ret, size_t *ret_size) MFS_NODISCARD;

/* The nine permission bits that show the ACL (its mask, if it has one, as the group's). */
uint32_t acl_mode(const struct acl *a);
/* Do those bits say all of it? */
bool acl_is_mode(const struct acl *a);
/* What chmod does: owner, other and the mask (without one the group) become the mode's. */
void acl_chmod(struct acl *a, uint32_t mode);
/* Inheritance: `a`, a copy of the directory's default ACL, becomes the access ACL of a new file and *mode (as the
 * caller asked for it, no umask) is cut to what both allow. */
void acl_create(struct acl *a, uint32_t *mode);

/* May somebody have `want` (4 2 1) of a file owned by (owner, group)? n_groups beside gid. Root is not special here. */
bool acl_permits(const struct acl *a, uint32_t owner, uint32_t group, uid_t uid, gid_t gid, const gid_t *groups,
		 size_t n_groups, unsigned int want);

#endif
