/*
 * Version ids of localdir: <counter, 16 hex digits>-<folder, 2>-<ino>-<session>-<op>, all lower-case hex.
 *
 * The counter is max(wall clock in ns, last + 1): later puts of a process have larger ones. Ids are unique across
 * restarts too, even when the clock was set back, because the link into v/ fails on a name that exists and the put
 * draws again. Ino, session and op tell an own upload whose reply was lost.
 *
 * The folder is part of the id, because no function of the counter spreads both a burst (which should stay in one
 * folder: one fsync serves many puts, one directory block is warm) and a slow steady load evenly. It moves on after
 * 1,024 ids and begins at random in each process: a million versions are about 3,900 a folder.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backend/localdir.h"
#include "common/clock.h"

#define IDS_PER_FOLDER 1024

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* n digits at *s, then `end`; moves *s behind it. */
static int parse_fixed(const char **s, unsigned int n, char end, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = *s;

	for (unsigned int i = 0; i < n; i++, p++) {
		int d = hex_digit(*p);

		if (d < 0)
			return -EINVAL;
		v = v << 4 | (uint64_t)d;
	}
	if (*p != end)
		return -EINVAL;
	*s = p + 1;
	*ret = v;
	return 0;
}

/* 1 to 16 digits without leading zeros, then `end`. */
static int parse_number(const char **s, char end, uint64_t *ret)
{
	unsigned int n = 0;

	while (n <= 16 && hex_digit((*s)[n]) >= 0)
		n++;
	if (n < 1 || n > 16 || (n > 1 && **s == '0'))
		return -EINVAL;
	return parse_fixed(s, n, end, ret);
}

int localdir_version_parse(const char *s, struct localdir_version *ret)
{
	struct localdir_version v;
	uint64_t folder;

	if (parse_fixed(&s, 16, '-', &v.counter) < 0 || parse_fixed(&s, 2, '-', &folder) < 0 ||
	    parse_number(&s, '-', &v.ino) < 0 || parse_number(&s, '-', &v.session) < 0 ||
	    parse_number(&s, '\0', &v.op) < 0)
		return -EINVAL;
	v.folder = (uint8_t)folder;
	*ret = v;
	return 0;
}

static char *put_hex(char *p, uint64_t v, unsigned int min_digits)
{
	unsigned int n = v ? (67u - (unsigned int)__builtin_clzll(v)) / 4 : 1;

	n = MFS_MAX(n, min_digits);
	for (unsigned int i = 0; i < n; i++)
		p[i] = "0123456789abcdef"[v >> 4 * (n - 1 - i) & 15];
	return p + n;
}

/* By hand: it runs for every put, and snprintf takes longer than the rest of the bookkeeping. */
void localdir_version_path(const struct localdir_version *v, char path[static LOCALDIR_PATH_MAX])
{
	char *p = put_hex(path, v->folder, 2);

	*p++ = '/';
	p = put_hex(p, v->counter, 16);
	*p++ = '-';
	p = put_hex(p, v->folder, 2);
	*p++ = '-';
	p = put_hex(p, v->ino, 1);
	*p++ = '-';
	p = put_hex(p, v->session, 1);
	*p++ = '-';
	p = put_hex(p, v->op, 1);
	*p = '\0';
}

static uint64_t next_counter(struct localdir *ld)
{
	uint64_t now = (uint64_t)mfs_now_ns(), last = atomic_load(&ld->last_counter), next;

	do
		next = MFS_MAX(now, last + 1);
	while (!atomic_compare_exchange_weak(&ld->last_counter, &last, next));
	return next;
}

uint8_t localdir_version_folder(struct localdir *ld)
{
	return (uint8_t)(ld->first_folder + atomic_load(&ld->n_issued) / IDS_PER_FOLDER);
}

void localdir_version_next(struct localdir *ld, const struct object_meta *meta, struct localdir_version *ret)
{
	uint64_t n = atomic_fetch_add(&ld->n_issued, 1);

	*ret = (struct localdir_version){
		.counter = next_counter(ld),
		.folder = (uint8_t)(ld->first_folder + n / IDS_PER_FOLDER),
		.ino = meta->ino,
		.session = meta->session,
		.op = meta->op,
	};
}

int localdir_ref_path(const char *version, char path[static LOCALDIR_PATH_MAX])
{
	struct localdir_version v;

	if (localdir_version_parse(version, &v) < 0)
		return -ENOENT;
	localdir_version_path(&v, path);
	return 0;
}

/* v NULL: a foreign file in the view. */
void localdir_fill_info(const struct localdir_version *v, const struct stat *st, struct object_info *ret)
{
	char path[LOCALDIR_PATH_MAX];

	*ret = (struct object_info){
		.size = (uint64_t)st->st_size,
		.alloc = (uint64_t)st->st_blocks * 512,
		.mtime = mfs_timespec_to_ns(st->st_mtim),
		.mode = st->st_mode & 0777,
		.uid = st->st_uid,
		.gid = st->st_gid,
	};
	if (!v)
		return;
	localdir_version_path(v, path);
	memcpy(ret->version, path + 3, strlen(path + 3) + 1);
	ret->own = v->ino != 0;
	if (!ret->own)
		return;
	ret->ino = v->ino;
	ret->session = v->session;
	ret->op = v->op;
}
