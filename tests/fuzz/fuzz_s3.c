/*
 * Any bytes as what an S3 server answers (lists, results, heads, errors), as an endpoint, or as a file of credentials: taken or
 * refused, never a crash or leak. The first byte tells as what.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/s3_internal.h"
#include "backend/s3_url.h"
#include "backend/s3_xml.h"

static void url(const char *text, size_t size)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(1 << 20);
	MFS_AUTOFREE char *copy = malloc(size + 1), *reason = NULL, *back = NULL;
	MFS_AUTO_S3_URL struct s3_url u = { 0 };

	if (!copy)
		return;
	memcpy(copy, text, size); /* not strndup: ASan's strict_string_checks reads to a NUL that is not there */
	copy[size] = '\0';
	if (s3_url_parse(copy, &u, &reason) == 0)
		assert(u.authority && *u.authority && !strpbrk(u.authority, "/@?# \r\n"));
	else
		assert(reason);
	if (s3_url_encode(&b, copy, true) == 0) {
		back = mfs_buf_take(&b);
		assert(!back || (s3_url_decode(back) == 0 && !strcmp(back, copy)));
	}
	if (s3_url_decode(copy) == 0)
		assert(strlen(copy) <= size);
}

#define ENDED(field) assert(memchr((field), 0, sizeof(field)))

/* Whatever a head says, what is kept of it is bounded, and a range is one. */
static void head(const char *text, size_t size)
{
	MFS_AUTOFREE char *copy = malloc(size + 1);
	S3_AUTO_REPLY struct s3_reply r = S3_REPLY_INIT;
	struct object_info info;
	char *save = NULL;

	if (!copy)
		return;
	memcpy(copy, text, size);
	copy[size] = '\0';
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *own = strdup(line); /* so that a step beyond its end is seen */

		if (own)
			s3_http_header(&r, own);
		free(own);
	}
	ENDED(r.version);
	ENDED(r.etag);
	ENDED(r.code);
	ENDED(r.server);
	assert(!r.has_range || (r.first <= r.last && r.last < r.total));
	assert(!r.has_length || r.length <= INT64_MAX);
	s3_reply_info(&r, "key", &info);
	ENDED(info.version);
	ENDED(info.etag);
	assert(!info.own || info.ino);
}

/* An answer that is no success, with this body. */
static void error(const char *text, size_t size)
{
	S3_AUTO_REPLY struct s3_reply r = S3_REPLY_INIT;
	int err = 1;

	if (!size || mfs_buf_append(&r.body, text + 1, size - 1) < 0)
		return;
	r.status = 200 + (unsigned char)*text * 2;
	s3_is_error_body(&r);
	s3_read_error(&r);
	ENDED(r.code);
	ENDED(r.reason);
	s3_classify(r.status, r.code, &err);
	assert(err < 0);
}

static void credentials(const char *text, size_t size, bool profile)
{
	MFS_AUTOFREE char *copy = malloc(size + 1);
	struct s3_credentials c = { 0 };
	int r;

	if (!copy)
		return;
	memcpy(copy, text, size);
	copy[size] = '\0';
	r = profile ? s3_credentials_of_profile(copy, "work", &c) : s3_credentials_of_passwd(copy, &c);
	if (r == 0)
		assert(*c.access_key && *c.secret_key && !strpbrk(c.access_key, "/ \r\n") && !strpbrk(c.secret_key, " \r\n") &&
		       (!c.token || !strpbrk(c.token, " \r\n")));
	else
		assert(!c.access_key && !c.secret_key && !c.token);
	s3_credentials_release(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	S3_AUTO_LISTING struct s3_listing l = { 0 };
	struct s3_parts parts = { 0 };
	struct s3_result res;

	if (!size--)
		return 0;
	switch ((uint8_t)(*data - '0') % 8) {
	case 0:
		if (s3_xml_listing(text, size, &l) == 0) {
			for (size_t i = 0; i < l.n; i++) {
				struct object_info info = { 0 };

				assert(l.v[i].key && *l.v[i].key);
				s3_meta_parse(&l.v[i].meta, l.v[i].key, &info);
			}
		}
		break;
	case 1:
		if (s3_xml_result(text, size, &res) == 0)
			assert(memchr(res.code, 0, sizeof(res.code)) && *res.root);
		break;
	case 2:
		if (s3_xml_parts(text, size, &parts) == 0)
			assert(parts.n <= 10000);
		s3_parts_release(&parts);
		break;
	case 3:
		url(text, size);
		break;
	case 4:
		head(text, size);
		break;
	case 5:
		error(text, size);
		break;
	default:
		credentials(text, size, (uint8_t)(*data - '0') % 8 == 7);
	}
	return 0;
}
