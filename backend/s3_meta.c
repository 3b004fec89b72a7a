/*
 * Object metadata as text and back. A hash of key and mtime is in it because other tools copy metadata along: their copy at
 * another key is theirs, and so is one with another time (rclone gives a file its new time by a copy onto itself).
 */
#include "backend/s3_meta.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/str.h"

#define FIELDS	   "%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%016" PRIx64
#define FORMAT	   "2-" FIELDS
#define FORMAT_OLD "1-" FIELDS /* the hash is of the key alone */

static void put_mtime(int64_t ns, char *to, size_t size)
{
	uint64_t abs = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;

	snprintf(to, size, "%s%" PRIu64 ".%09" PRIu64, ns < 0 ? "-" : "", abs / MFS_NSEC_PER_SEC, abs % MFS_NSEC_PER_SEC);
}

/* Seconds with up to nine decimals; false: something else. */
static bool parse_mtime(const char *s, int64_t *ret)
{
	bool negative = *s == '-';
	uint64_t v = 0, unit = MFS_NSEC_PER_SEC;
	char whole[24];
	size_t n;

	s += negative;
	n = strspn(s, "0123456789");
	if (!n || n >= sizeof(whole))
		return false;
	memcpy(whole, s, n);
	whole[n] = '\0';
	if (mfs_str_uint(whole, 10, 0, INT64_MAX / MFS_NSEC_PER_SEC, &v) < 0)
		return false;
	v *= MFS_NSEC_PER_SEC;
	s += n;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++) {
			unit /= 10;
			v += (uint64_t)(*s - '0') * unit;
		}
	if (*s || v > (uint64_t)INT64_MAX + negative)
		return false;
	*ret = negative ? (int64_t)-v : (int64_t)v;
	return true;
}

static uint64_t hash_of(const char *key, const char *mtime)
{
	return mfs_hash64(key, strlen(key)) ^ mfs_hash_u64(mfs_hash64(mtime, strlen(mtime)));
}

static void add(struct s3_meta_headers *h, const char *name, const char *value)
{
	h->pairs[h->n++] = (struct s3_pair){ name, value };
}

void s3_meta_format(const struct object_meta *meta, const char *key, const char *sum, struct s3_meta_headers *ret)
{
	struct s3_meta_text *t = &ret->text;

	memset(ret, 0, sizeof(*ret));
	snprintf(t->mode, sizeof(t->mode), "%u", S_IFREG | (meta->mode & 07777u));
	snprintf(t->uid, sizeof(t->uid), "%u", meta->uid);
	snprintf(t->gid, sizeof(t->gid), "%u", meta->gid);
	put_mtime(meta->mtime, t->mtime, sizeof(t->mtime));
	snprintf(t->massfs, sizeof(t->massfs), FORMAT, meta->ino, meta->session, meta->op, hash_of(key, t->mtime));
	add(ret, "x-amz-meta-gid", t->gid);
	add(ret, "x-amz-meta-massfs", t->massfs);
	if (sum && *sum) {
		snprintf(t->sum, sizeof(t->sum), "%s", sum);
		add(ret, "x-amz-meta-massfs-sum", t->sum);
	}
	add(ret, "x-amz-meta-mode", t->mode);
	add(ret, "x-amz-meta-mtime", t->mtime);
	add(ret, "x-amz-meta-uid", t->uid);
}

/* Exactly what we write: it is formatted again and compared. */
static bool parse_own(const struct s3_meta_text *t, const char *key, struct object_info *info)
{
	uint64_t ino, session, op, hash;
	bool old = t->massfs[0] == '1';
	char again[120];

	if (!t->massfs[0] || sscanf(t->massfs + 1, "-%" SCNx64 "-%" SCNx64 "-%" SCNx64 "-%" SCNx64, &ino, &session, &op, &hash) != 4 ||
	    !ino)
		return false;
	if (old)
		snprintf(again, sizeof(again), FORMAT_OLD, ino, session, op, hash);
	else
		snprintf(again, sizeof(again), FORMAT, ino, session, op, hash);
	if (strcmp(again, t->massfs) != 0 || hash != (old ? mfs_hash64(key, strlen(key)) : hash_of(key, t->mtime)))
		return false;
	info->own = true;
	info->ino = ino;
	info->session = session;
	info->op = op;
	return true;
}

static void parse_id(const char *text, uint64_t max, uint32_t *to)
{
	uint64_t v = 0;

	if (*text && mfs_str_uint(text, 10, 0, max, &v) == 0)
		*to = (uint32_t)v;
}

void s3_meta_parse(const struct s3_meta_text *text, const char *key, struct object_info *info)
{
	bool own = parse_own(text, key, info);
	uint32_t mode = 0;
	int64_t mtime;
	uint64_t sum;

	parse_id(text->mode, 0177777, &mode);
	info->mode = mode & 0777u;
	parse_id(text->uid, UINT32_MAX, &info->uid);
	parse_id(text->gid, UINT32_MAX, &info->gid);
	if (parse_mtime(text->mtime, &mtime))
		info->mtime = mtime;
	/* The server's own etag is of no use to whoever reads the content in pieces: a foreign one keeps it, as a name. */
	if (own)
		info->etag[0] = '\0';
	if (own && mfs_checksum_parse(text->sum, &sum))
		snprintf(info->etag, sizeof(info->etag), "%s", text->sum);
}
