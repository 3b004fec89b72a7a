/*
 * Answers of an S3 server: expat tells the end of each element, its path from the root and its text; a handler per kind
 * of answer keeps what it knows and skips the rest.
 */
#include "backend/s3_xml.h"

#include <errno.h>
#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "backend/s3_url.h"
#include "common/clock.h"
#include "common/str.h"

#define DEPTH_MAX   12
#define PATH_MAX_   512
#define TEXT_MAX    8192
#define ENTRIES_MAX 100000 /* of one page; servers send 1,000 */

/* Begin or end of an element. path is without the root's name; "" is the root. 0 or -errno, which ends the parsing. */
typedef int element_fn(void *arg, const char *path, const char *text, bool begin);

struct parser {
	XML_Parser xml;
	element_fn *fn;
	void *arg;
	int err;
	unsigned int depth;
	char root[48];
	char path[PATH_MAX_];
	size_t at[DEPTH_MAX + 1]; /* where path ended before this depth */
	char text[TEXT_MAX + 1];
	size_t text_len;
};

static void stop(struct parser *p, int err)
{
	if (!p->err)
		p->err = err;
	XML_StopParser(p->xml, XML_FALSE);
}

static void on_start(void *arg, const char *name, const char **attrs)
{
	struct parser *p = arg;
	const char *colon = strrchr(name, ':');
	size_t len = strlen(p->path), n;
	int r;

	(void)attrs;
	name = colon ? colon + 1 : name;
	n = strlen(name);
	if (p->depth > DEPTH_MAX || len + n + 2 > sizeof(p->path)) {
		stop(p, -EBADMSG);
		return;
	}
	if (p->depth == 0) {
		if (n >= sizeof(p->root)) {
			stop(p, -EBADMSG);
			return;
		}
		memcpy(p->root, name, n + 1);
	} else {
		p->at[p->depth - 1] = len;
		snprintf(p->path + len, sizeof(p->path) - len, "%s%s", len ? "/" : "", name);
	}
	p->depth++;
	p->text_len = 0;
	r = p->fn(p->arg, p->path, "", true);
	if (r < 0)
		stop(p, r);
}

static void on_end(void *arg, const char *name)
{
	struct parser *p = arg;
	int r;

	(void)name;
	p->text[p->text_len] = '\0';
	r = p->fn(p->arg, p->path, p->text, false);
	if (r < 0)
		stop(p, r);
	p->text_len = 0;
	p->depth--;
	if (p->depth)
		p->path[p->at[p->depth - 1]] = '\0';
}

static void on_text(void *arg, const char *s, int len)
{
	struct parser *p = arg;

	if ((size_t)len > TEXT_MAX - p->text_len) {
		stop(p, -EBADMSG);
		return;
	}
	memcpy(p->text + p->text_len, s, (size_t)len);
	p->text_len += (size_t)len;
}

/* A document type could bring entities that grow without end. */
static void on_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int subset)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)subset;
	stop(arg, -EBADMSG);
}

static int parse(const char *text, size_t len, element_fn *fn, void *arg, char *ret_root, size_t root_len)
{
	struct parser *p;
	int r;

	/* A server that takes long sends blanks to keep the connection alive. */
	while (len && (*text == ' ' || *text == '\n' || *text == '\r' || *text == '\t')) {
		text++;
		len--;
	}
	if (!len || len > INT_MAX)
		return -EBADMSG;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->xml = XML_ParserCreate("UTF-8");
	if (!p->xml) {
		free(p);
		return -ENOMEM;
	}
	p->fn = fn;
	p->arg = arg;
	XML_SetUserData(p->xml, p);
	XML_SetElementHandler(p->xml, on_start, on_end);
	XML_SetCharacterDataHandler(p->xml, on_text);
	XML_SetStartDoctypeDeclHandler(p->xml, on_doctype);
	r = XML_Parse(p->xml, text, (int)len, XML_TRUE) == XML_STATUS_OK ? 0 : -EBADMSG;
	if (p->err)
		r = p->err;
	else if (r < 0 && XML_GetErrorCode(p->xml) == XML_ERROR_NO_MEMORY)
		r = -ENOMEM;
	if (r == 0)
		snprintf(ret_root, root_len, "%s", p->root);
	XML_ParserFree(p->xml);
	free(p);
	return r;
}

/* --- fields --- */

/* What does not fit is no such thing: -EBADMSG. */
static int set(char *to, size_t size, const char *text)
{
	size_t len = strlen(text);

	if (len >= size)
		return -EBADMSG;
	memcpy(to, text, len + 1);
	return 0;
}

static int set_etag(char *to, const char *text)
{
	size_t len = strlen(text);

	if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
		text++;
		len -= 2;
	}
	if (len > OBJECT_ETAG_MAX)
		return -EBADMSG;
	memcpy(to, text, len);
	to[len] = '\0';
	return 0;
}

static int set_number(uint64_t *to, const char *text)
{
	return mfs_str_uint(text, 10, 0, INT64_MAX, to) < 0 ? -EBADMSG : 0;
}

static int set_string(char **to, const char *text)
{
	free(*to);
	*to = strdup(text);
	return *to ? 0 : -ENOMEM;
}

void s3_meta_text_take(struct s3_meta_text *m, const char *name, const char *value)
{
	const struct {
		const char *name;
		char *to;
		size_t size;
	} fields[] = {
		{ "massfs", m->massfs, sizeof(m->massfs) }, { "massfs-sum", m->sum, sizeof(m->sum) },
		{ "mode", m->mode, sizeof(m->mode) },	    { "uid", m->uid, sizeof(m->uid) },
		{ "gid", m->gid, sizeof(m->gid) },	    { "mtime", m->mtime, sizeof(m->mtime) },
	};

	for (size_t i = 0; i < MFS_ARRAY_LEN(fields); i++)
		if (!strcasecmp(fields[i].name, name) && set(fields[i].to, fields[i].size, value) < 0)
			fields[i].to[0] = '\0';
}

int64_t s3_parse_time(const char *text)
{
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ns = 0, unit = MFS_NSEC_PER_SEC;
	time_t t;

	if (!rest) {
		memset(&tm, 0, sizeof(tm));
		rest = strptime(text, "%a, %d %b %Y %H:%M:%S", &tm);
	}
	if (!rest)
		return 0;
	if (*rest == '.')
		for (rest++; *rest >= '0' && *rest <= '9' && unit > 1; rest++) {
			unit /= 10;
			ns += (*rest - '0') * unit;
		}
	t = timegm(&tm);
	if (t < -INT64_C(9000000000) || t > INT64_C(9000000000))
		return 0;
	return (int64_t)t * MFS_NSEC_PER_SEC + ns;
}

/* --- lists --- */

void s3_listing_release(struct s3_listing *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].key);
		free(l->v[i].upload);
	}
	free(l->v);
	*l = (struct s3_listing){ 0 };
}

static int add_entry(struct s3_listing *l)
{
	if (l->n >= ENTRIES_MAX)
		return -EBADMSG;
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		struct s3_entry *v = realloc(l->v, room * sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->room = room;
	}
	l->v[l->n++] = (struct s3_entry){ 0 };
	return 0;
}

static const char *behind(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	return !strncmp(path, prefix, len) ? path + len : NULL;
}

static int entry_field(struct s3_entry *e, const char *name, const char *text)
{
	const char *meta;

	if (!strcmp(name, "Key"))
		return set_string(&e->key, text);
	if (!strcmp(name, "VersionId"))
		return set(e->version, sizeof(e->version), text);
	if (!strcmp(name, "UploadId"))
		return strlen(text) > S3_UPLOAD_MAX ? -EBADMSG : set_string(&e->upload, text);
	if (!strcmp(name, "ETag"))
		return set_etag(e->etag, text);
	if (!strcmp(name, "Size"))
		return set_number(&e->size, text);
	if (!strcmp(name, "LastModified") || !strcmp(name, "Initiated"))
		e->mtime = s3_parse_time(text);
	else if (!strcmp(name, "IsLatest"))
		e->latest = !strcmp(text, "true");
	else if (!strcmp(name, "UserMetadata"))
		e->has_meta = true;
	meta = behind(name, "UserMetadata/");
	if (meta && !strncasecmp(meta, "x-amz-meta-", 11))
		s3_meta_text_take(&e->meta, meta + 11, text);
	return 0;
}

static int list_element(void *arg, const char *path, const char *text, bool begin)
{
	static const char *const kinds[] = { "Version", "DeleteMarker", "Contents", "Upload" };
	struct s3_listing *l = arg;

	for (size_t i = 0; i < MFS_ARRAY_LEN(kinds); i++) {
		const char *rest = behind(path, kinds[i]);
		int r;

		if (!rest || (*rest && *rest != '/'))
			continue;
		if (*rest)
			return begin ? 0 : entry_field(&l->v[l->n - 1], rest + 1, text);
		if (!begin) /* one without a key is of no use, and would be taken for one with */
			return l->v[l->n - 1].key && *l->v[l->n - 1].key ? 0 : -EBADMSG;
		r = add_entry(l);
		if (r == 0)
			l->v[l->n - 1].marker = i == 1;
		return r;
	}
	if (begin)
		return 0;
	if (!strcmp(path, "IsTruncated"))
		l->truncated = !strcmp(text, "true");
	else if (!strcmp(path, "EncodingType"))
		l->encoded = !strcmp(text, "url");
	else if (!strcmp(path, "NextKeyMarker"))
		return set(l->next_key, sizeof(l->next_key), text);
	else if (!strcmp(path, "NextVersionIdMarker") || !strcmp(path, "NextContinuationToken") ||
		 !strcmp(path, "NextUploadIdMarker"))
		return set(l->next_version, sizeof(l->next_version), text);
	return 0;
}

int s3_xml_listing(const char *text, size_t len, struct s3_listing *ret)
{
	struct s3_listing l = { 0 };
	char root[48];
	int r = parse(text, len, list_element, &l, root, sizeof(root));

	if (r == 0 && strcmp(root, "ListVersionsResult") != 0 && strcmp(root, "ListBucketResult") != 0 &&
	    strcmp(root, "ListMultipartUploadsResult") != 0)
		r = -EBADMSG;
	if (r == 0 && l.encoded) {
		for (size_t i = 0; i < l.n && r == 0; i++)
			r = s3_url_decode(l.v[i].key);
		if (r == 0)
			r = s3_url_decode(l.next_key);
	}
	if (r < 0) {
		s3_listing_release(&l);
		return r == -EINVAL ? -EBADMSG : r;
	}
	*ret = l;
	return 0;
}

/* --- parts of an upload --- */

void s3_parts_release(struct s3_parts *p)
{
	free(p->v);
	*p = (struct s3_parts){ 0 };
}

static int add_part(struct s3_parts *p)
{
	if (p->n >= 10000)
		return -EBADMSG;
	if (p->n == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		struct s3_part *v = realloc(p->v, room * sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->room = room;
	}
	p->v[p->n++] = (struct s3_part){ 0 };
	return 0;
}

static int part_element(void *arg, const char *path, const char *text, bool begin)
{
	struct s3_parts *p = arg;
	const char *name = behind(path, "Part/");
	uint64_t n = 0;
	int r = 0;

	if (begin)
		return !strcmp(path, "Part") ? add_part(p) : 0;
	if (name && !strcmp(name, "ETag"))
		return set_etag(p->v[p->n - 1].etag, text);
	if (name && !strcmp(name, "Size"))
		return set_number(&p->v[p->n - 1].size, text);
	if (name && !strcmp(name, "ChecksumCRC32C"))
		return set(p->v[p->n - 1].crc32c, sizeof(p->v[p->n - 1].crc32c), text);
	if (name && !strcmp(name, "PartNumber")) {
		r = set_number(&n, text);
		p->v[p->n - 1].number = n <= 10000 ? (unsigned int)n : 0;
	} else if (!strcmp(path, "IsTruncated")) {
		p->truncated = !strcmp(text, "true");
	} else if (!strcmp(path, "NextPartNumberMarker")) {
		r = set_number(&n, text);
		p->next = n <= 10000 ? (unsigned int)n : 0;
	}
	return r;
}

int s3_xml_parts(const char *text, size_t len, struct s3_parts *ret)
{
	struct s3_parts p = { 0 };
	char root[48];
	int r = parse(text, len, part_element, &p, root, sizeof(root));

	if (r == 0 && strcmp(root, "ListPartsResult") != 0)
		r = -EBADMSG;
	if (r < 0)
		s3_parts_release(&p);
	else
		*ret = p;
	return r;
}

/* --- small answers --- */

struct result_state {
	struct s3_result *to;
	bool enabled, deletes; /* of the lifecycle rule at hand */
	bool first_error;
};

static int rule_element(struct result_state *s, const char *name, const char *text, bool begin)
{
	if (begin) {
		if (!*name)
			s->enabled = s->deletes = false;
		return 0;
	}
	if (!strcmp(name, "/Status"))
		s->enabled = !strcmp(text, "Enabled");
	/* Expiration/ExpiredObjectDeleteMarker takes only markers that nothing is below. */
	else if (!strcmp(name, "/Expiration/Days") || !strcmp(name, "/Expiration/Date") ||
		 !strcmp(name, "/Expiration/ExpiredObjectAllVersions") || behind(name, "/NoncurrentVersionExpiration") ||
		 behind(name, "/DelMarkerExpiration"))
		s->deletes = true;
	else if (!*name && s->enabled && s->deletes)
		s->to->deletes_objects = true;
	return 0;
}

static int result_element(void *arg, const char *path, const char *text, bool begin)
{
	struct result_state *s = arg;
	struct s3_result *to = s->to;
	const char *rule = behind(path, "Rule"), *error = behind(path, "Error");

	if (rule)
		return rule_element(s, rule, text, begin);
	if (begin)
		return 0;
	if (error && !*error)
		to->n_errors++;
	if (!strcmp(path, "Code") || (error && !strcmp(error, "/Code") && !to->n_errors))
		snprintf(to->code, sizeof(to->code), "%s", text);
	else if (!strcmp(path, "Message") || (error && !strcmp(error, "/Message") && !to->n_errors))
		snprintf(to->message, sizeof(to->message), "%s", text);
	else if (!strcmp(path, "UploadId"))
		return set(to->upload, sizeof(to->upload), text);
	else if (!strcmp(path, "ETag"))
		return set_etag(to->etag, text);
	else if (!strcmp(path, "ChecksumCRC32C"))
		return set(to->crc32c, sizeof(to->crc32c), text);
	else if (!strcmp(path, "Status"))
		return set(to->status, sizeof(to->status), text);
	else if (!strcmp(path, "Region"))
		snprintf(to->region, sizeof(to->region), "%s", text);
	return 0;
}

int s3_xml_result(const char *text, size_t len, struct s3_result *ret)
{
	struct s3_result result = { 0 };
	struct result_state s = { .to = &result };
	int r = parse(text, len, result_element, &s, result.root, sizeof(result.root));

	if (r == 0)
		*ret = result;
	return r;
}
