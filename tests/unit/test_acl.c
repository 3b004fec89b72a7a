/*
 * ACLs: what is a valid one, what it means with the mode, inheritance, permission.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "meta/acl.h"

/* "u::7 u:1000:6 g::5 g:50:4 m::7 o::0" as bytes. */
static size_t blob_of(const char *text, unsigned char *out)
{
	uint32_t version = 2;
	size_t len = 4;

	memcpy(out, &version, 4);
	while (*text) {
		char *rest = NULL;
		bool named = text[2] != ':';
		uint32_t id = named ? (uint32_t)strtoul(text + 2, &rest, 10) : ACL_ID_NONE;
		uint16_t perm, tag;

		if (!named)
			rest = (char *)(uintptr_t)(text + 2);
		perm = (uint16_t)(rest[1] - '0');
		switch (text[0]) {
		case 'u':
			tag = named ? ACL_USER : ACL_USER_OBJ;
			break;
		case 'g':
			tag = named ? ACL_GROUP : ACL_GROUP_OBJ;
			break;
		case 'm':
			tag = ACL_MASK;
			break;
		case 'o':
			tag = ACL_OTHER;
			break;
		default:
			tag = 0x40;
		}
		memcpy(out + len, &tag, 2);
		memcpy(out + len + 2, &perm, 2);
		memcpy(out + len + 4, &id, 4);
		len += 8;
		text = rest + 2;
		while (*text == ' ')
			text++;
	}
	return len;
}

static int parse(const char *text, struct acl *a)
{
	unsigned char b[256];
	size_t len = blob_of(text, b);

	return acl_parse(b, len, a);
}

static struct acl good(const char *text)
{
	struct acl a = ACL_INIT;

	assert_int_equal(parse(text, &a), 0);
	return a;
}

static void valid(void **state)
{
	static const char *const bad[] = {
		"u::7",
		"u::7 g::7",
		"u::7 o::0",
		"g::7 o::0",
		"u::7 g::7 o::0 o::0",
		"u::7 u::7 g::7 o::0",
		"u::7 u:1:6 g::5 o::0", /* a name and no mask */
		"u::7 g::5 g:1:4 o::0", /* likewise */
		"u::7 g::5 u:1:6 m::7 o::0", /* order */
		"u::7 g::5 o::0 m::7",
		"g::5 u::7 o::0",
		"u::8 g::5 o::0",
		"u::7 g::5 o::0 x::0",
		"u::7 g::5 m::7 m::7 o::0",
	};
	struct acl a = ACL_INIT;
	unsigned char b[64] = { 2 };

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++)
		assert_int_equal(parse(bad[i], &a), -EINVAL);
	assert_int_equal(acl_parse(b, 4, &a), 0);
	assert_int_equal(a.n, 0);
	assert_int_equal(acl_parse(b, 3, &a), -EINVAL);
	assert_int_equal(acl_parse(b, 0, &a), -EINVAL);
	assert_int_equal(acl_parse(b, 11, &a), -EINVAL);
	b[0] = 1;
	assert_int_equal(acl_parse(b, 4, &a), -EOPNOTSUPP);
	a = good("u::7 g::5 m::3 o::0"); /* a mask alone is allowed */
	acl_release(&a);
}

static void normal_form(void **state)
{
	struct acl a = good("u::7 u:1000:6 u:5:1 g::5 g:70:4 g:50:2 m::7 o::0");
	unsigned char b[256];
	size_t len = blob_of("u::7 u:5:1 u:1000:6 g::5 g:50:2 g:70:4 m::7 o::0", b), size;
	void *out = NULL;

	(void)state;
	assert_int_equal(acl_encode(&a, &out, &size), 0);
	assert_int_equal(size, len);
	assert_memory_equal(out, b, len);
	free(out);
	acl_release(&a);
}

static void modes(void **state)
{
	struct acl a = good("u::7 g::5 o::4"), b = good("u::7 u:1:6 g::5 m::3 o::0");

	(void)state;
	assert_int_equal(acl_mode(&a), 0754);
	assert_true(acl_is_mode(&a));
	assert_int_equal(acl_mode(&b), 0730);
	assert_false(acl_is_mode(&b));
	acl_chmod(&a, 0100640);
	assert_int_equal(acl_mode(&a), 0640);
	acl_chmod(&b, 0640);
	assert_int_equal(acl_mode(&b), 0640);
	assert_int_equal(b.v[2].perm, 5); /* the group itself stays */
	acl_release(&a);
	acl_release(&b);
}

static void inheritance(void **state)
{
	struct acl a = good("u::7 g::5 o::4"), b = good("u::7 u:1:7 g::7 m::5 o::0");
	uint32_t mode = 0102666;

	(void)state;
	acl_create(&a, &mode);
	assert_int_equal(mode, 0102644);
	assert_int_equal(acl_mode(&a), 0644);
	mode = 0100666;
	acl_create(&b, &mode);
	assert_int_equal(mode, 0100640);
	assert_int_equal(b.v[1].perm, 7);
	assert_int_equal(b.v[2].perm, 7);
	assert_int_equal(b.v[3].perm, 4);
	acl_release(&a);
	acl_release(&b);
}

static void permission(void **state)
{
	struct acl a = good("u::4 u:10:7 g::2 g:70:4 m::6 o::1");
	gid_t both[] = { 70 };

	(void)state;
#define MAY(uid, gid, want) acl_permits(&a, 1, 60, uid, gid, NULL, 0, want)
	assert_true(MAY(1, 60, 4));
	assert_false(MAY(1, 60, 2)); /* the owner is the owner, whatever its groups may */
	assert_true(MAY(10, 5, 6));
	assert_false(MAY(10, 5, 1)); /* the mask */
	assert_true(MAY(11, 60, 2));
	assert_false(MAY(11, 60, 4));
	assert_true(MAY(11, 70, 4));
	assert_true(acl_permits(&a, 1, 60, 11, 60, both, 1, 4)); /* any of its groups */
	assert_false(acl_permits(&a, 1, 60, 11, 60, both, 1, 6)); /* but one must have all of it */
	assert_false(MAY(11, 60, 1)); /* a member is not other */
	assert_true(MAY(11, 61, 1));
	assert_false(MAY(11, 61, 4));
#undef MAY
	acl_release(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid),       cmocka_unit_test(normal_form), cmocka_unit_test(modes),
		cmocka_unit_test(inheritance), cmocka_unit_test(permission),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
