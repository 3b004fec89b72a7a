/*
 * Permission, for callers that the kernel has not checked: verbs of the control socket. As Linux does it: owner, ACL
 * or group, other; root may all but execute what nobody may.
 */
#include "meta/acl.h"
#include "meta/namespace_internal.h"

static bool in_group(const struct mfs_cred *cred, gid_t gid)
{
	if (cred->gid == gid)
		return true;
	for (size_t i = 0; i < cred->n_groups; i++)
		if (cred->groups[i] == gid)
			return true;
	return false;
}

static bool mode_permits(const struct mfs_attr *a, const struct mfs_cred *cred, unsigned int want)
{
	uint32_t bits = a->mode;

	if (cred->uid == a->uid)
		bits >>= 6;
	else if (in_group(cred, a->gid))
		bits >>= 3;
	return (bits & want) == want;
}

static int acl_check(const struct node *n, const struct node_xattr *x, const struct mfs_cred *cred,
		     unsigned int want)
{
	struct acl a = ACL_INIT;
	bool ok;
	int r = acl_parse(x->value, x->size, &a);

	if (r < 0)
		return r == -ENOMEM ? r : -EACCES;
	ok = a.n ? acl_permits(&a, n->attr.uid, n->attr.gid, cred->uid, cred->gid, cred->groups,
			       cred->n_groups, want)
		 : mode_permits(&n->attr, cred, want);
	acl_release(&a);
	return ok ? 0 : -EACCES;
}

int namespace_access(const struct node *n, const struct mfs_cred *cred, int mask)
{
	const struct node_xattr *x = node_xattr_find(n, ACL_XATTR_ACCESS);
	unsigned int want = (unsigned int)mask & 7;

	if (cred->uid == 0) {
		bool runs = attr_is_dir(&n->attr) || (n->attr.mode & 0111);

		return !(want & 1) || runs ? 0 : -EACCES;
	}
	if (x)
		return acl_check(n, x, cred, want);
	return mode_permits(&n->attr, cred, want) ? 0 : -EACCES;
}
