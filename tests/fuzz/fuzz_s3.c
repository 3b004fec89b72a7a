/*
 * Any bytes as what an S3 server answers, or as an endpoint: taken or refused, never a crash or leak. The first byte
 * tells as what.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/s3_meta.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	S3_AUTO_LISTING struct s3_listing l = { 0 };
	struct s3_parts parts = { 0 };
	struct s3_result res;

	if (!size--)
		return 0;
	switch (*data % 4) {
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
	default:
		url(text, size);
	}
	return 0;
}
