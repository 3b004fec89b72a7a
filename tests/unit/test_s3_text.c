/*
 * Text of S3: URLs, endpoints, object metadata, answers in XML, errors, credentials.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/s3_credentials.h"
#include "backend/s3_internal.h"
#include "backend/s3_url.h"
#include "backend/s3_xml.h"
#include "common/hash.h"
#include "tests/lib/store_suite.h"

static void test_url__encodes_all_but_the_unreserved(void **state)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(4096);

	(void)state;
	assert_int_equal(s3_url_encode(&b, "a/b c+d%~\xc3\xa4:@,!$'()*;=\n", true), 0);
	assert_string_equal(mfs_buf_str(&b), "a/b%20c%2Bd%25~%C3%A4%3A%40%2C%21%24%27%28%29%2A%3B%3D%0A");
	mfs_buf_clear(&b);
	assert_int_equal(s3_url_encode(&b, "a/b", false), 0);
	assert_string_equal(mfs_buf_str(&b), "a%2Fb");
}

static void test_url__decodes_or_refuses(void **state)
{
	static const char *const bad[] = { "%", "a%2", "%zz", "%00", "a%0", "%-1" };
	char text[] = "a%2Fb+c%c3%A4%25";

	(void)state;
	assert_int_equal(s3_url_decode(text), 0);
	assert_string_equal(text, "a/b c\xc3\xa4%");
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++) {
		char *copy = strdup(bad[i]);

		assert_int_equal(s3_url_decode(copy), -EINVAL);
		free(copy);
	}
}

static void test_endpoint__forms(void **state)
{
	static const struct {
		const char *text, *authority;
		bool https, is_ip;
	} good[] = {
		{ "http://127.0.0.1:9000", "127.0.0.1:9000", false, true }, { "http://[::1]:9000/", "[::1]:9000", false, true },
		{ "https://[2001:db8::1]", "[2001:db8::1]", true, true },   { "minio.example", "minio.example", true, false },
		{ "https://s3.example:443", "s3.example", true, false },    { "http://h:80/", "h", false, false },
		{ "HTTP://h:443", "h:443", false, false },
	};
	static const char *const bad[] = { "", "ftp://h", "http://", "http://h:0", "http://h:65536", "http://h:x", "http://h/path",
					   "http://user:secret@h", "http://[::1", "http://[x]", "http://h h", "http://-h", "http://[::1]x",
					   "http://h:", "http://h?x" };

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(good); i++) {
		MFS_AUTO_S3_URL struct s3_url u = { 0 };

		assert_int_equal(s3_url_parse(good[i].text, &u, NULL), 0);
		assert_string_equal(u.authority, good[i].authority);
		assert_int_equal(u.https, good[i].https);
		assert_int_equal(u.is_ip, good[i].is_ip);
	}
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++) {
		MFS_AUTOFREE char *reason = NULL;
		struct s3_url u;

		assert_int_equal(s3_url_parse(bad[i], &u, &reason), -EINVAL);
		assert_non_null(reason);
		assert_null(strstr(reason, "secret"));
	}
}

static void test_meta__comes_back(void **state)
{
	static const int64_t times[] = { 0, 1, -1, INT64_MAX, INT64_MIN + 1, INT64_C(1234567890123456789) };

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(times); i++) {
		struct object_meta meta = { UINT64_MAX, 1, 99, 0640, 12, UINT32_MAX, times[i], false };
		struct object_info info = { .etag = "5d41402abc4b2a76b9719d911017c592" };
		struct s3_meta_headers h;

		s3_meta_format(&meta, "a/b", "xxh3:0123456789abcdef", &h);
		assert_int_equal(h.n, 6);
		s3_meta_parse(&h.text, "a/b", &info);
		assert_true(info.own);
		assert_true(info.ino == UINT64_MAX && info.session == 1 && info.op == 99);
		assert_int_equal(info.mode, 0640);
		assert_true(info.uid == 12 && info.gid == UINT32_MAX);
		assert_true(info.mtime == times[i]);
		assert_string_equal(info.etag, "xxh3:0123456789abcdef");
		/* Copied by another program to another key: not ours. */
		info = (struct object_info){ .etag = "x" };
		s3_meta_parse(&h.text, "a/c", &info);
		assert_false(info.own);
		assert_string_equal(info.etag, "x");
		/* Given another time by one, as a copy onto itself: not ours any more. */
		h.text.mtime[0] = h.text.mtime[0] == '3' ? '4' : '3';
		s3_meta_parse(&h.text, "a/b", &info);
		assert_false(info.own);
	}
}

static void test_meta__of_an_older_massfs(void **state)
{
	struct s3_meta_text t = { .mtime = "5.0" };
	struct object_info info = { 0 };

	(void)state;
	snprintf(t.massfs, sizeof(t.massfs), "1-1f-2-3-%016" PRIx64, mfs_hash64("a/b", 3));
	s3_meta_parse(&t, "a/b", &info);
	assert_true(info.own);
	assert_int_equal(info.ino, 0x1f);
	info = (struct object_info){ 0 };
	s3_meta_parse(&t, "a/c", &info);
	assert_false(info.own);
}

static void test_meta__of_others_is_no_harm(void **state)
{
	static const char *const bad[] = { "", "1-1-1-1-1", "1-1-2-3-0123456789abcdef ", "2-1-1-1-0", "1-0-1-1-0", "1--1-1-1-1",
					   "1-0x1-1-1-1", "1-11111111111111111-1-1-1" };
	struct s3_meta_text t = { .mode = "99999999999", .uid = "-1", .gid = "x", .mtime = "1.2.3" };
	struct object_info info;

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++) {
		info = (struct object_info){ .mtime = 7 };
		strcpy(t.massfs, bad[i]);
		s3_meta_parse(&t, "k", &info);
		assert_false(info.own);
		assert_int_equal(info.mtime, 7);
		assert_int_equal(info.uid, 0);
	}
	strcpy(t.mtime, "1234567890.5"); /* as rclone writes it */
	strcpy(t.mode, "33188");
	s3_meta_parse(&t, "k", &info);
	assert_true(info.mtime == INT64_C(1234567890500000000));
	assert_int_equal(info.mode, 0644);
}

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

static void test_xml__versions(void **state)
{
	static const char text[] =
		XML "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><IsTruncated>true</IsTruncated>"
		    "<NextKeyMarker>n%2Fx</NextKeyMarker><NextVersionIdMarker>v9</NextVersionIdMarker>"
		    "<Version><Key>a%2Fb+c</Key><LastModified>2026-11-21T15:47:14.123Z</LastModified><ETag>&#34;abc&#34;</ETag>"
		    "<Size>12</Size><VersionId>v1</VersionId><IsLatest>true</IsLatest>"
		    "<UserMetadata><X-Amz-Meta-Uid>5</X-Amz-Meta-Uid><content-type>x</content-type></UserMetadata></Version>"
		    "<DeleteMarker><Key>d</Key><VersionId>v2</VersionId><IsLatest>false</IsLatest></DeleteMarker>"
		    "<EncodingType>url</EncodingType></ListVersionsResult>";
	S3_AUTO_LISTING struct s3_listing l = { 0 };

	(void)state;
	assert_int_equal(s3_xml_listing(text, strlen(text), &l), 0);
	assert_int_equal(l.n, 2);
	assert_true(l.truncated);
	assert_string_equal(l.next_key, "n/x");
	assert_string_equal(l.next_version, "v9");
	assert_string_equal(l.v[0].key, "a/b c");
	assert_string_equal(l.v[0].etag, "abc");
	assert_string_equal(l.v[0].version, "v1");
	assert_string_equal(l.v[0].meta.uid, "5");
	assert_true(l.v[0].has_meta && l.v[0].latest && !l.v[0].marker);
	assert_int_equal(l.v[0].size, 12);
	assert_true(l.v[0].mtime == INT64_C(1795276034123000000));
	assert_true(l.v[1].marker && !l.v[1].latest);
}

static void test_xml__refuses_what_is_no_answer(void **state)
{
	static const char *const bad[] = {
		"",
		"   ",
		"garbage",
		"<ListVersionsResult>",
		"<ListVersionsResult><Version><Key>a</Key></ListVersionsResult>",
		"<ListVersionsResult><Version><Size>1</Size></Version></ListVersionsResult>",
		"<ListVersionsResult><Version><Key>a</Key><Size>-1</Size></Version></ListVersionsResult>",
		"<ListVersionsResult><Version><Key>a</Key><Size>99999999999999999999</Size></Version></ListVersionsResult>",
		"<ListVersionsResult><EncodingType>url</EncodingType><Version><Key>%0</Key></Version></ListVersionsResult>",
		"<Other/>",
		"<!DOCTYPE x [<!ENTITY a \"aaaa\">]><ListVersionsResult><Version><Key>&a;</Key></Version></ListVersionsResult>",
		"<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a>",
	};
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(1 << 20);
	struct s3_listing l;

	(void)state;
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++)
		assert_int_equal(s3_xml_listing(bad[i], strlen(bad[i]), &l), -EBADMSG);
	mfs_buf_puts(&b, "<ListVersionsResult><Version><Key>");
	for (unsigned int i = 0; i < 20000; i++)
		mfs_buf_putc(&b, 'k');
	mfs_buf_puts(&b, "</Key></Version></ListVersionsResult>");
	assert_int_equal(s3_xml_listing(b.data, b.len, &l), -EBADMSG);
}

static bool deletes(const char *rule)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(4096);
	struct s3_result res;

	mfs_buf_printf(&b, "<LifecycleConfiguration>%s</LifecycleConfiguration>", rule);
	assert_int_equal(s3_xml_result(b.data, b.len, &res), 0);
	return res.deletes_objects;
}

static void test_xml__lifecycle_rules(void **state)
{
	(void)state;
	assert_true(deletes("<Rule><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>"));
	assert_true(deletes("<Rule><NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration>"
			    "<Status>Enabled</Status></Rule>"));
	assert_false(deletes("<Rule><Status>Disabled</Status><Expiration><Days>3</Days></Expiration></Rule>"));
	assert_false(deletes("<Rule><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true"
			     "</ExpiredObjectDeleteMarker></Expiration></Rule>"));
	assert_false(deletes("<Rule><Status>Disabled</Status><Expiration><Days>3</Days></Expiration></Rule>"
			     "<Rule><Status>Enabled</Status><Transition><Days>3</Days></Transition></Rule>"));
	assert_false(deletes(""));
}

static void test_xml__small_answers(void **state)
{
	static const char late[] = "  \n\n" XML "<Error><Code>InternalError</Code><Message>m</Message></Error>";
	static const char many[] = "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error>"
				   "<Error><Code>Other</Code></Error></DeleteResult>";
	struct s3_result res;

	(void)state;
	assert_int_equal(s3_xml_result(late, strlen(late), &res), 0);
	assert_string_equal(res.root, "Error");
	assert_string_equal(res.code, "InternalError");
	assert_int_equal(s3_xml_result(many, strlen(many), &res), 0);
	assert_int_equal(res.n_errors, 2);
	assert_string_equal(res.code, "AccessDenied");
	assert_true(s3_parse_time("Sat, 21 Nov 2026 15:47:14 GMT") == INT64_C(1795276034000000000));
	assert_true(s3_parse_time("nonsense") == 0);
}

static void test_errors__say_what_to_do(void **state)
{
	int err;

	(void)state;
	assert_int_equal(s3_classify(404, "NoSuchBucket", &err), S3_FINAL);
	assert_int_equal(err, -EIO); /* never "no such file" */
	assert_int_equal(s3_classify(404, "", &err), S3_FINAL);
	assert_int_equal(err, -ENOENT);
	assert_int_equal(s3_classify(503, "SlowDownWrite", &err), S3_AGAIN);
	assert_int_equal(s3_classify(500, "", &err), S3_AGAIN);
	assert_int_equal(s3_classify(429, "", &err), S3_AGAIN);
	assert_int_equal(s3_classify(400, "XAmzContentChecksumMismatch", &err), S3_AGAIN);
	assert_int_equal(s3_classify(507, "", &err), S3_FINAL);
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(s3_classify(403, "AccessDenied", &err), S3_FINAL);
	assert_int_equal(err, -EACCES);
	assert_int_equal(s3_classify(403, "InvalidAccessKeyId", &err), S3_KEYS);
	assert_int_equal(s3_classify(301, "PermanentRedirect", &err), S3_FINAL);
	assert_int_equal(err, -EIO);
}

/* --- credentials --- */

static char *file(const char *dir, const char *text, mode_t mode)
{
	char *path = NULL;
	FILE *f;

	assert_true(asprintf(&path, "%s/keys", dir) > 0);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static void test_passwd__is_refused_when_others_can_read_it(void **state)
{
	MFS_AUTOFREE char *reason = NULL;
	char *dir = store_test_dir(), *path = file(dir, "# ours\n\n AK:s3cret/+= \n", 0644);
	struct s3_credentials c = { 0 };

	(void)state;
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ .passwd_file = path }, &c, &reason), -EACCES);
	assert_non_null(reason);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ .passwd_file = path }, &c, NULL), 0);
	assert_string_equal(c.access_key, "AK");
	assert_string_equal(c.secret_key, "s3cret/+=");
	assert_null(c.token);
	s3_credentials_release(&c);
	free(path);
	path = file(dir, "no colon s3cret\n", 0600);
	free(reason);
	reason = NULL;
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ .passwd_file = path }, &c, &reason), -EINVAL);
	assert_null(strstr(reason, "s3cret"));
	free(path);
	store_test_remove(dir);
}

static void test_environment_and_profiles(void **state)
{
	char *dir = store_test_dir();
	char *path = file(dir, "[default]\naws_access_key_id = DK\naws_secret_access_key=ds\n[other]\naws_access_key_id=OK\n"
			       "aws_secret_access_key = os\naws_session_token = tt\n",
			  0600);
	struct s3_credentials c = { 0 };

	(void)state;
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	unsetenv("AWS_PROFILE");
	unsetenv("AWS_ACCESS_KEY_ID");
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ 0 }, &c, NULL), 0);
	assert_string_equal(c.access_key, "DK");
	s3_credentials_release(&c);
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ .profile = "other" }, &c, NULL), 0);
	assert_string_equal(c.secret_key, "os");
	assert_string_equal(c.token, "tt");
	s3_credentials_release(&c);
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ .profile = "none" }, &c, NULL), -ENOENT);
	setenv("AWS_ACCESS_KEY_ID", "EK", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "es", 1);
	setenv("AWS_SESSION_TOKEN", "et", 1);
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ 0 }, &c, NULL), 0);
	assert_string_equal(c.access_key, "EK");
	assert_string_equal(c.token, "et");
	s3_credentials_release(&c);
	setenv("AWS_SECRET_ACCESS_KEY", "a\nb", 1); /* would end the header */
	assert_int_equal(s3_credentials_load(&(struct s3_credentials_from){ 0 }, &c, NULL), -EINVAL);
	free(path);
	store_test_remove(dir);
}

static struct s3_store *placed(const char *rules, int want)
{
	struct s3_store *s = calloc(1, sizeof(*s));
	MFS_AUTOFREE char *reason = NULL;

	assert_non_null(s);
	s->bucket = (char *)(uintptr_t)"main";
	s->prefix = (char *)(uintptr_t)"v/";
	assert_int_equal(s3_places_parse(s, rules, &reason), want);
	assert_true(want == 0 || reason);
	return s;
}

static void unplace(struct s3_store *s)
{
	s3_places_release(s);
	free(s);
}

static void expect_place(const struct s3_store *s, const char *key, const char *bucket, const char *prefix, const char *class)
{
	const struct s3_place *p = s3_place_of(s, key);

	assert_string_equal(p->bucket, bucket);
	assert_string_equal(p->prefix, prefix);
	if (class)
		assert_string_equal(p->storage_class, class);
	else
		assert_null(p->storage_class);
}

static void test_places__the_longest_path_counts(void **state)
{
	static const char *const bad[] = { "a", "a b c d", "/ b", ".massfs/o b", "a x, a y", "a x/p/, b x/p/q/", "a main/v/w/", "a main",
					   "a//b x" };
	struct s3_store *s = placed(" a/b fast/m/ COLD ,/a/b/c/ -,\td - RARE,", 0);
	unsigned int n = 0;

	(void)state;
	expect_place(s, "a", "main", "v/", NULL);
	expect_place(s, "a/b", "fast", "m/", "COLD");
	expect_place(s, "a/b/x", "fast", "m/", "COLD");
	expect_place(s, "a/bc", "main", "v/", NULL);
	expect_place(s, "a/b/c/x", "main", "v/", NULL);
	expect_place(s, "d/e", "main", "v/", "RARE");
	expect_place(s, ".massfs/o/1", "main", "v/", NULL);
	expect_place(s, NULL, "main", "v/", NULL);
	for (const struct s3_place *p = s3_place_next(s, NULL); p; p = s3_place_next(s, p))
		n++;
	assert_int_equal(n, 2);
	unplace(s);
	for (size_t i = 0; i < MFS_ARRAY_LEN(bad); i++)
		unplace(placed(bad[i], -EINVAL));
	unplace(placed(NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_url__encodes_all_but_the_unreserved),
		cmocka_unit_test(test_url__decodes_or_refuses),
		cmocka_unit_test(test_endpoint__forms),
		cmocka_unit_test(test_meta__comes_back),
		cmocka_unit_test(test_meta__of_an_older_massfs),
		cmocka_unit_test(test_meta__of_others_is_no_harm),
		cmocka_unit_test(test_xml__versions),
		cmocka_unit_test(test_xml__refuses_what_is_no_answer),
		cmocka_unit_test(test_xml__lifecycle_rules),
		cmocka_unit_test(test_xml__small_answers),
		cmocka_unit_test(test_errors__say_what_to_do),
		cmocka_unit_test(test_passwd__is_refused_when_others_can_read_it),
		cmocka_unit_test(test_environment_and_profiles),
		cmocka_unit_test(test_places__the_longest_path_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
