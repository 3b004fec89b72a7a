/*
 * Signature Version 4 by AWS's published examples (S3 API reference, "Examples: Signature Calculations in AWS Signature
 * Version 4"), and what a query or a header can look like.
 */
#include "backend/s3_sign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend/crc32c.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void expect(const char *method, const char *path, const struct s3_pair *params, size_t n_params,
		   const struct s3_pair *headers, size_t n, const char *payload, const char *names, const char *signature)
{
	MFS_AUTOBUF struct mfs_buf query = MFS_BUF_INIT(4096), got = MFS_BUF_INIT(4096), want = MFS_BUF_INIT(4096);
	struct s3_to_sign t = {
		.access_key = "AKIAIOSFODNN7EXAMPLE",
		.secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		.region = "us-east-1",
		.method = method,
		.path = path,
		.headers = headers,
		.n_headers = n,
		.payload = payload,
		.date = "20130524T000000Z",
	};

	assert_int_equal(s3_sign_query(params, n_params, &query), 0);
	t.query = mfs_buf_str(&query);
	assert_int_equal(s3_sign(&t, &got), 0);
	mfs_buf_printf(&want,
		       "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
		       "SignedHeaders=%s,Signature=%s",
		       names, signature);
	assert_string_equal(mfs_buf_str(&got), mfs_buf_str(&want));
}

static void test_aws_example__get_object(void **state)
{
	const struct s3_pair headers[] = {
		{ "host", "examplebucket.s3.amazonaws.com" },
		{ "x-amz-content-sha256", EMPTY },
		{ "x-amz-date", "20130524T000000Z" },
		{ "range", "bytes=0-9" },
	};

	(void)state;
	expect("GET", "/test.txt", NULL, 0, headers, 4, EMPTY, "host;range;x-amz-content-sha256;x-amz-date",
	       "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_aws_example__put_object(void **state)
{
	char sum[S3_SHA256_HEX];
	const struct s3_pair headers[] = {
		{ "date", "Fri, 24 May 2013 00:00:00 GMT" }, { "host", "examplebucket.s3.amazonaws.com" },
		{ "x-amz-content-sha256", sum },	     { "x-amz-date", "20130524T000000Z" },
		{ "x-amz-storage-class", "REDUCED_REDUNDANCY" },
	};

	(void)state;
	assert_int_equal(s3_sha256_hex("Welcome to Amazon S3.", 21, sum), 0);
	expect("PUT", "/test%24file.text", NULL, 0, headers, 5, sum,
	       "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	       "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static const struct s3_pair bare[] = {
	{ "host", "examplebucket.s3.amazonaws.com" },
	{ "x-amz-content-sha256", EMPTY },
	{ "x-amz-date", "20130524T000000Z" },
};

static void test_aws_example__get_lifecycle(void **state)
{
	const struct s3_pair query = { "lifecycle", "" };

	(void)state;
	expect("GET", "/", &query, 1, bare, 3, EMPTY, "host;x-amz-content-sha256;x-amz-date",
	       "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void test_aws_example__list_objects(void **state)
{
	const struct s3_pair query[] = { { "prefix", "J" }, { "max-keys", "2" } }; /* in the wrong order */

	(void)state;
	expect("GET", "/", query, 2, bare, 3, EMPTY, "host;x-amz-content-sha256;x-amz-date",
	       "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_query__is_sorted_by_name_and_encoded(void **state)
{
	const struct s3_pair params[] = {
		{ "uploadId", "a/b+c==" }, { "partNumber", "1" }, { "uploads", "" }, { "a-b", "2" }, { "a", "z~ \xc3\xa4" }
	};
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(4096);
	struct s3_pair many[S3_SIGN_MAX + 1] = { { 0 } };

	(void)state;
	assert_int_equal(s3_sign_query(params, 5, &b), 0);
	assert_string_equal(mfs_buf_str(&b), "a=z~%20%C3%A4&a-b=2&partNumber=1&uploadId=a%2Fb%2Bc%3D%3D&uploads=");
	assert_int_equal(s3_sign_query(many, S3_SIGN_MAX + 1, &b), -22);
}

/* Values are signed without the blanks around them, and with one where there are several. */
static void test_header__blanks_do_not_count(void **state)
{
	struct s3_pair headers[3] = { { "host", "h" }, { "x-amz-date", "20130524T000000Z" }, { "x-amz-meta-a", "b c" } };
	struct s3_to_sign t = { "a", "s", "r", "GET", "/", "", headers, 3, EMPTY, "20130524T000000Z" };
	MFS_AUTOBUF struct mfs_buf one = MFS_BUF_INIT(4096), two = MFS_BUF_INIT(4096);

	(void)state;
	assert_int_equal(s3_sign(&t, &one), 0);
	headers[2].value = "  b \t  c ";
	assert_int_equal(s3_sign(&t, &two), 0);
	assert_string_equal(mfs_buf_str(&one), mfs_buf_str(&two));
	headers[2].value = "bc";
	mfs_buf_clear(&two);
	assert_int_equal(s3_sign(&t, &two), 0);
	assert_string_not_equal(mfs_buf_str(&one), mfs_buf_str(&two));
	t.date = "2013";
	assert_int_equal(s3_sign(&t, &two), -22);
}

static void test_crc32c__as_rfc_3720_has_it(void **state)
{
	unsigned char buf[1000];

	(void)state;
	memset(buf, 0, 32);
	assert_int_equal(mfs_crc32c(0, buf, 32), 0x8a9136aa);
	memset(buf, 0xff, 32);
	assert_int_equal(mfs_crc32c(0, buf, 32), 0x62a8ab43);
	for (unsigned int i = 0; i < 32; i++)
		buf[i] = (unsigned char)i;
	assert_int_equal(mfs_crc32c(0, buf, 32), 0x46dd794e);
	assert_int_equal(mfs_crc32c(0, "123456789", 9), 0xe3069283);
	for (unsigned int i = 0; i < sizeof(buf); i++)
		buf[i] = (unsigned char)(i * 7 + i / 13);
	for (size_t from = 0; from < 9; from++) {
		for (size_t len = 0; len + from < sizeof(buf); len += 37) {
			uint32_t whole = mfs_crc32c(0, buf + from, len);

			assert_int_equal(whole, mfs_crc32c_table(0, buf + from, len));
			assert_int_equal(whole, mfs_crc32c(mfs_crc32c(0, buf + from, len / 3), buf + from + len / 3,
							   len - len / 3));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aws_example__get_object),
		cmocka_unit_test(test_aws_example__put_object),
		cmocka_unit_test(test_aws_example__get_lifecycle),
		cmocka_unit_test(test_aws_example__list_objects),
		cmocka_unit_test(test_query__is_sorted_by_name_and_encoded),
		cmocka_unit_test(test_header__blanks_do_not_count),
		cmocka_unit_test(test_crc32c__as_rfc_3720_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
