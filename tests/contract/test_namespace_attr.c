/*
 * Attributes on every engine: chmod, chown, times, extended attributes, ACLs, permission.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "meta/acl.h"
#include "tests/lib/namespace_world.h"

#define ROOT	MFS_ROOT_INO
#define ACCESS	ACL_XATTR_ACCESS
#define DEFAULT ACL_XATTR_DEFAULT

static struct mfs_attr setattr_ok(struct ns_world *w, mfs_ino_t ino, struct set_attr sa)
{
	struct mfs_attr a, now;

	assert_int_equal(namespace_setattr(w->ns[0], &w->op, ino, &sa, &a), 0);
	now = attr_of(w, ino);
	assert_memory_equal(&a, &now, sizeof(a));
	return a;
}

static void modes_and_owners(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct mfs_attr old = attr_of(w, f), a;

	a = setattr_ok(w, f, (struct set_attr){ .mask = EDIT_MODE, .mode = S_IFDIR | 06755 });
	assert_int_equal(a.mode, S_IFREG | 06755); /* the type stays */
	assert_true(a.ctime > old.ctime && a.mtime == old.mtime && a.data == old.data &&
		    a.ver == old.ver + 1);
	a = setattr_ok(w, f, (struct set_attr){ .mask = EDIT_UID, .uid = 5 });
	assert_int_equal(a.uid, 5);
	assert_int_equal(a.gid, 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	/* Group execute off: setgid is no privilege and stays; and a mode in the same call is taken as it is. */
	setattr_ok(w, f, (struct set_attr){ .mask = EDIT_MODE, .mode = 06644 });
	a = setattr_ok(w, f, (struct set_attr){ .mask = EDIT_GID, .gid = 6 });
	assert_int_equal(a.mode, S_IFREG | 02644);
	a = setattr_ok(w, f, (struct set_attr){ .mask = EDIT_GID | EDIT_MODE, .gid = 7, .mode = 06755 });
	assert_int_equal(a.mode, S_IFREG | 06755);
	a = setattr_ok(w, f, (struct set_attr){ .mask = 0, .kill_priv = true });
	assert_int_equal(a.mode, S_IFREG | 0755);
	/* A directory keeps both. */
	f = mk(w, ROOT, "d", S_IFDIR | 06755);
	a = setattr_ok(w, f, (struct set_attr){ .mask = EDIT_UID | EDIT_GID, .uid = 5, .gid = 5 });
	assert_int_equal(a.mode, S_IFDIR | 06755);
}

static void times(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct mfs_attr a;

	a = setattr_ok(w, f,
		       (struct set_attr){
			       .mask = EDIT_ATIME | EDIT_MTIME, .atime = -1, .mtime = -1500000000123456789 });
	assert_int_equal(a.atime, -1);
	assert_int_equal(a.mtime, -1500000000123456789);
	assert_true(a.ctime > 0);
	a = setattr_ok(w, f, (struct set_attr){ .mask = EDIT_MTIME, .mtime = INT64_MAX });
	assert_int_equal(a.atime, -1);
	assert_int_equal(a.mtime, INT64_MAX);
	a = setattr_ok(w, f, (struct set_attr){ .mask = EDIT_CTIME, .ctime = 77 });
	assert_int_equal(a.ctime, 77);
}

static void attributes_of_the_unlinked(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct set_attr sa = { .mask = EDIT_MODE, .mode = 0600 };
	struct mfs_attr a;

	assert_int_equal(do_unlink(w, 0, ROOT, "f"), 0);
	a = setattr_ok(w, f, sa);
	assert_int_equal(a.mode, S_IFREG | 0600);
	assert_int_equal(namespace_setxattr(w->ns[0], &w->op, f, "user.a", "v", 1, 0, false, &a), 0);
	assert_int_equal(namespace_setattr(w->ns[0], &w->op, 424242, &sa, &a), -ESTALE);
	sa.mask = EDIT_ATIME;
	assert_int_equal(namespace_setattr(w->ns[0], &w->op, 424242, &sa, &a), -ESTALE);
	assert_int_equal(namespace_setxattr(w->ns[0], &w->op, 424242, "user.a", "v", 1, 0, false, &a),
			 -ESTALE);
}

static void atimes(void **state)
{
	struct ns_world *w = *state;
	struct atime_update v[40];
	struct mfs_attr before, after;

	for (unsigned int i = 0; i < 40; i++)
		v[i] = (struct atime_update){ mkfile(w, ROOT, fmt("f%u", i)), 1000 + i };
	v[17].ino = 424242; /* gone: the others of its batch get theirs */
	before = attr_of(w, v[16].ino);
	assert_int_equal(namespace_set_atimes(w->ns[0], &w->op, v, 40), 0);
	after = attr_of(w, v[16].ino);
	assert_int_equal(after.atime, 1016);
	assert_int_equal(after.ver, before.ver);
	assert_int_equal(after.ctime, before.ctime);
	for (unsigned int i = 0; i < 40; i++)
		if (i != 17)
			assert_int_equal(attr_of(w, v[i].ino).atime, 1000 + i);
}

static int setx(struct ns_world *w, mfs_ino_t ino, const char *name, const void *value, size_t size,
		int flags)
{
	struct mfs_attr a;

	return namespace_setxattr(w->ns[0], &w->op, ino, name, value, size, flags, false, &a);
}

static int removex(struct ns_world *w, mfs_ino_t ino, const char *name)
{
	struct mfs_attr a;

	return namespace_removexattr(w->ns[0], &w->op, ino, name, &a);
}

static ssize_t getx(struct ns_world *w, mfs_ino_t ino, const char *name, void *buf, size_t size)
{
	return namespace_getxattr(w->ns[0], &w->op, ino, name, buf, size);
}

static void xattrs(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct mfs_attr before = attr_of(w, f), after;
	char buf[16];

	assert_int_equal(getx(w, f, "user.a", buf, sizeof(buf)), -ENODATA);
	assert_int_equal(setx(w, f, "user.a", "value", 5, XATTR_REPLACE), -ENODATA);
	assert_int_equal(setx(w, f, "user.a", "value", 5, XATTR_CREATE), 0);
	after = attr_of(w, f);
	assert_true(after.ctime > before.ctime && after.mtime == before.mtime &&
		    (after.flags & ATTR_HAS_XATTR));
	assert_int_equal(setx(w, f, "user.a", "value", 5, XATTR_CREATE), -EEXIST);
	assert_int_equal(getx(w, f, "user.a", NULL, 0), 5);
	assert_int_equal(getx(w, f, "user.a", buf, 4), -ERANGE);
	assert_int_equal(getx(w, f, "user.a", buf, 5), 5);
	assert_memory_equal(buf, "value", 5);
	assert_int_equal(setx(w, f, "user.a", "", 0, XATTR_REPLACE), 0);
	assert_int_equal(getx(w, f, "user.a", buf, 5), 0);
	assert_int_equal(setx(w, f, "trusted.t", "1", 1, 0), 0);
	assert_int_equal(setx(w, f, "security.capability", "cap", 3, 0), 0);
	assert_true(attr_of(w, f).flags & ATTR_HAS_CAP);
	before = attr_of(w, f);
	assert_int_equal(removex(w, f, "user.a"), 0);
	assert_true(attr_of(w, f).ctime > before.ctime);
	assert_int_equal(removex(w, f, "user.a"), -ENODATA);
	/* Capabilities go with a write and a chown. */
	setattr_ok(w, f, (struct set_attr){ .mask = EDIT_UID, .uid = 1 });
	assert_int_equal(getx(w, f, "security.capability", buf, 16), -ENODATA);
	assert_false(attr_of(w, f).flags & ATTR_HAS_CAP);
}

static void xattr_names(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f"), l = mk(w, ROOT, "l", S_IFLNK), p = mk(w, ROOT, "p", S_IFIFO);
	char name[300] = "user.";

	memset(name + 5, 'n', 251);
	name[256] = '\0';
	assert_int_equal(setx(w, f, name, "", 0, 0), -ERANGE);
	name[255] = '\0';
	assert_int_equal(setx(w, f, name, "", 0, 0), 0);
	assert_int_equal(setx(w, f, "other.x", "", 0, 0), -ENOTSUP);
	assert_int_equal(setx(w, f, "system.x", "", 0, 0), -ENOTSUP);
	assert_int_equal(getx(w, f, "nothing", NULL, 0), -ENOTSUP);
	assert_int_equal(setx(w, f, "user.", "", 0, 0), -EINVAL);
	assert_int_equal(setx(w, l, "user.x", "", 0, 0), -EPERM);
	assert_int_equal(setx(w, p, "user.x", "", 0, 0), -EPERM);
	assert_int_equal(setx(w, l, "trusted.x", "", 0, 0), 0);
	assert_int_equal(setx(w, ROOT, "user.x", "", 0, 0), 0);
}

static void xattr_sizes(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	MFS_AUTOFREE char *big = calloc(1, MFS_XATTR_SIZE_MAX + 1), *back = malloc(MFS_XATTR_SIZE_MAX);
	int r = 0;

	memset(big, 'b', MFS_XATTR_SIZE_MAX);
	assert_int_equal(setx(w, f, "user.big", big, MFS_XATTR_SIZE_MAX + 1, 0), -E2BIG);
	for (int i = 0; i < 17 && r == 0; i++)
		r = setx(w, f, fmt("user.big%d", i), big, MFS_XATTR_SIZE_MAX, 0);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(getx(w, f, "user.big3", back, MFS_XATTR_SIZE_MAX), MFS_XATTR_SIZE_MAX);
	assert_memory_equal(big, back, MFS_XATTR_SIZE_MAX);
	/* A replacement takes the place of the old value. */
	assert_int_equal(setx(w, f, "user.big3", big, MFS_XATTR_SIZE_MAX, 0), 0);
}

static void xattr_lists(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	char buf[64];
	ssize_t n;

	assert_int_equal(namespace_listxattr(w->ns[0], &w->op, f, buf, sizeof(buf)), 0);
	assert_int_equal(setx(w, f, "user.b", "1", 1, 0), 0);
	assert_int_equal(setx(w, f, "trusted.t", "1", 1, 0), 0);
	n = namespace_listxattr(w->ns[0], &w->op, f, NULL, 0);
	assert_int_equal(n, 7 + 10);
	assert_int_equal(namespace_listxattr(w->ns[0], &w->op, f, buf, 16), -ERANGE);
	assert_int_equal(namespace_listxattr(w->ns[0], &w->op, f, buf, 17), 17);
	w->op.uid = 1000;
	assert_int_equal(namespace_listxattr(w->ns[0], &w->op, f, buf, sizeof(buf)), 7);
	assert_string_equal(buf, "user.b");
	w->op.uid = 0;
}

/* "u::rwx,g::r-x,..." would be nicer to read; the bytes are what the kernel sends. */
struct blob {
	unsigned char v[4 + 8 * 8];
	size_t len;
};

static void add_entry(struct blob *b, uint16_t tag, uint16_t perm, uint32_t id)
{
	if (!b->len) {
		uint32_t version = 2;

		memcpy(b->v, &version, 4);
		b->len = 4;
	}
	memcpy(b->v + b->len, &tag, 2);
	memcpy(b->v + b->len + 2, &perm, 2);
	memcpy(b->v + b->len + 4, &id, 4);
	b->len += 8;
}

/* owner rwx, user 1000 rw-, group r-x, mask rwx, other --- */
static struct blob acl_full(void)
{
	struct blob b = { .len = 0 };

	add_entry(&b, ACL_USER_OBJ, 7, ACL_ID_NONE);
	add_entry(&b, ACL_USER, 6, 1000);
	add_entry(&b, ACL_GROUP_OBJ, 5, ACL_ID_NONE);
	add_entry(&b, ACL_MASK, 7, ACL_ID_NONE);
	add_entry(&b, ACL_OTHER, 0, ACL_ID_NONE);
	return b;
}

static struct blob acl_plain(uint16_t u, uint16_t g, uint16_t o)
{
	struct blob b = { .len = 0 };

	add_entry(&b, ACL_USER_OBJ, u, ACL_ID_NONE);
	add_entry(&b, ACL_GROUP_OBJ, g, ACL_ID_NONE);
	add_entry(&b, ACL_OTHER, o, ACL_ID_NONE);
	return b;
}

static void acl_and_mode(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t f = mkfile(w, ROOT, "f");
	struct blob b = acl_full();
	unsigned char buf[128];
	struct mfs_attr a;

	setattr_ok(w, f, (struct set_attr){ .mask = EDIT_MODE, .mode = 02711 });
	assert_int_equal(setx(w, f, ACCESS, "rubbish", 7, 0), -EINVAL);
	assert_int_equal(setx(w, f, ACCESS, b.v, b.len - 8, 0), -EINVAL); /* no other */
	assert_int_equal(setx(w, f, DEFAULT, b.v, b.len, 0), -EACCES);
	assert_int_equal(setx(w, f, ACCESS, b.v, b.len, 0), 0);
	assert_int_equal(attr_of(w, f).mode, S_IFREG | 02770);
	assert_true(attr_of(w, f).flags & ATTR_HAS_ACL);
	assert_int_equal(getx(w, f, ACCESS, buf, sizeof(buf)), b.len);
	assert_memory_equal(buf, b.v, b.len);
	/* chmod is a change of the mask. */
	setattr_ok(w, f, (struct set_attr){ .mask = EDIT_MODE, .mode = 0640 });
	assert_int_equal(getx(w, f, ACCESS, buf, sizeof(buf)), b.len);
	assert_int_equal(buf[4 + 2], 6);
	assert_int_equal(buf[4 + 8 * 2 + 2], 5); /* the group itself is not touched */
	assert_int_equal(buf[4 + 8 * 3 + 2], 4);
	/* What the mode says is not stored; setgid goes when the kernel says so. */
	setattr_ok(w, f, (struct set_attr){ .mask = EDIT_MODE, .mode = 02777 });
	b = acl_plain(7, 4, 1);
	assert_int_equal(namespace_setxattr(w->ns[0], &w->op, f, ACCESS, b.v, b.len, 0, true, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0741);
	assert_false(a.flags & ATTR_HAS_ACL);
	assert_int_equal(getx(w, f, ACCESS, buf, sizeof(buf)), -ENODATA);
	assert_int_equal(removex(w, f, ACCESS), 0);
}

static void acl_inherited(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f, sub;
	struct blob b = acl_full();
	unsigned char buf[128];

	w->op.umask = 077; /* not heeded where there is a default ACL */
	assert_int_equal(setx(w, d, DEFAULT, b.v, b.len, 0), 0);
	assert_int_equal(attr_of(w, d).mode, S_IFDIR | 0755);
	f = mk(w, d, "f", S_IFREG | 0664);
	assert_int_equal(attr_of(w, f).mode, S_IFREG | 0660);
	assert_int_equal(getx(w, f, ACCESS, buf, sizeof(buf)), b.len);
	assert_int_equal(buf[4 + 2], 6);
	assert_int_equal(buf[4 + 8 * 3 + 2], 6); /* mask */
	assert_int_equal(getx(w, f, DEFAULT, buf, sizeof(buf)), -ENODATA);
	sub = mk(w, d, "sub", S_IFDIR | 0777);
	assert_int_equal(attr_of(w, sub).mode, S_IFDIR | 0770);
	assert_int_equal(getx(w, sub, DEFAULT, buf, sizeof(buf)), b.len);
	assert_memory_equal(buf, b.v, b.len);
	assert_int_equal(attr_of(w, mk(w, d, "l", S_IFLNK)).mode, S_IFLNK | 0777);
	/* A plain one only masks. */
	b = acl_plain(7, 5, 0);
	assert_int_equal(setx(w, d, DEFAULT, b.v, b.len, 0), 0);
	f = mk(w, d, "g", S_IFREG | 0666);
	assert_int_equal(attr_of(w, f).mode, S_IFREG | 0640);
	assert_false(attr_of(w, f).flags & ATTR_HAS_ACL);
	assert_int_equal(removex(w, d, DEFAULT), 0);
	assert_int_equal(attr_of(w, mk(w, d, "h", S_IFREG | 0666)).mode, S_IFREG | 0600);
}

static int access_of(struct ns_world *w, mfs_ino_t ino, uid_t uid, gid_t gid, int mask)
{
	struct mfs_cred cred = { .uid = uid, .gid = gid };
	struct node n = NODE_INIT;
	int r;

	assert_int_equal(namespace_get(w->ns[0], &w->op, ino, &n), 0);
	r = namespace_access(&n, &cred, mask);
	node_release(&n);
	return r;
}

static void permission(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t d = mkdirat_(w, ROOT, "d"), f = mkfile(w, d, "f");
	struct mfs_cred cred = { .uid = 1000, .gid = 1000 };
	struct blob b = acl_full();
	struct entry e;

	setattr_ok(w, f,
		   (struct set_attr){
			   .mask = EDIT_MODE | EDIT_UID | EDIT_GID, .mode = 0640, .uid = 5, .gid = 50 });
	assert_int_equal(access_of(w, f, 5, 1, R_OK | W_OK), 0);
	assert_int_equal(access_of(w, f, 6, 50, R_OK), 0);
	assert_int_equal(access_of(w, f, 6, 50, W_OK), -EACCES);
	assert_int_equal(access_of(w, f, 6, 6, R_OK), -EACCES);
	assert_int_equal(access_of(w, f, 0, 0, R_OK | W_OK), 0);
	assert_int_equal(access_of(w, f, 0, 0, X_OK), -EACCES);
	assert_int_equal(setx(w, f, ACCESS, b.v, b.len, 0), 0);
	assert_int_equal(access_of(w, f, 1000, 6, R_OK | W_OK), 0);
	assert_int_equal(access_of(w, f, 1000, 6, X_OK), -EACCES);
	assert_int_equal(access_of(w, f, 1001, 50, R_OK | X_OK), 0);
	assert_int_equal(access_of(w, f, 1001, 6, R_OK), -EACCES);
	assert_int_equal(namespace_resolve_as(w->ns[0], &w->op, &cred, "d/f", 3, R_OK, &e), 0);
	assert_int_equal(e.node.attr.ino, f);
	entry_release(&e);
	assert_int_equal(namespace_resolve_as(w->ns[0], &w->op, &cred, "d/f", 3, X_OK, &e), -EACCES);
	setattr_ok(w, d, (struct set_attr){ .mask = EDIT_MODE, .mode = 0744 });
	assert_int_equal(namespace_resolve_as(w->ns[0], &w->op, &cred, "d/f", 3, R_OK, &e), -EACCES);
	assert_int_equal(namespace_resolve_as(w->ns[0], &w->op, &cred, "d", 1, 0, &e), 0);
	entry_release(&e);
}

static const struct ns_test tests[] = {
	NS_TEST(modes_and_owners), NS_TEST(times),	 NS_TEST(attributes_of_the_unlinked),
	NS_TEST(atimes),	   NS_TEST(xattrs),	 NS_TEST(xattr_names),
	NS_TEST(xattr_sizes),	   NS_TEST(xattr_lists), NS_TEST(acl_and_mode),
	NS_TEST(acl_inherited),	   NS_TEST(permission),
};

int main(void)
{
	return ns_suite_run("attr", tests, MFS_ARRAY_LEN(tests));
}
