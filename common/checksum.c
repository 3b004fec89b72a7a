/*
 * The checksum of objects: XXH3-64 a cell, and XXH3-64 over the cells' sums.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* the state's size: no allocation of its own */
#include <xxhash.h>

#include "common/checksum.h"
#include "common/defs.h"

#define ETAG_PREFIX "xxh3:"

struct mfs_checksum {
	XXH3_state_t cell;   /* of the cell that is not full yet */
	XXH3_state_t joined; /* of the sums before it */
	uint64_t in_cell;    /* its bytes so far */
};

static void join_one(XXH3_state_t *joined, uint64_t sum)
{
	unsigned char le[8];

	for (unsigned int i = 0; i < 8; i++)
		le[i] = (unsigned char)(sum >> 8 * i);
	XXH3_64bits_update(joined, le, sizeof(le));
}

uint64_t mfs_checksum_cell(const void *buf, size_t len)
{
	return XXH3_64bits(buf, len);
}

uint64_t mfs_checksum_join(const uint64_t *cells, size_t n)
{
	XXH3_state_t joined;

	XXH3_INITSTATE(&joined);
	XXH3_64bits_reset(&joined);
	for (size_t i = 0; i < n; i++)
		join_one(&joined, cells[i]);
	return XXH3_64bits_digest(&joined);
}

uint64_t mfs_checksum(const void *buf, size_t len)
{
	const char *p = buf;
	XXH3_state_t joined;

	if (len && len <= MFS_CHECKSUM_CELL) {
		uint64_t sum = mfs_checksum_cell(p, len);

		return mfs_checksum_join(&sum, 1);
	}
	XXH3_INITSTATE(&joined);
	XXH3_64bits_reset(&joined);
	for (size_t n; len; p += n, len -= n) {
		n = MFS_MIN(len, (size_t)MFS_CHECKSUM_CELL);
		join_one(&joined, mfs_checksum_cell(p, n));
	}
	return XXH3_64bits_digest(&joined);
}

struct mfs_checksum *mfs_checksum_new(void)
{
	struct mfs_checksum *c;

	/* xxhash wants its state on a boundary of 64. */
	c = aligned_alloc(64, (sizeof(*c) + 63) / 64 * 64);
	if (!c)
		return NULL;
	XXH3_INITSTATE(&c->cell);
	XXH3_INITSTATE(&c->joined);
	XXH3_64bits_reset(&c->cell);
	XXH3_64bits_reset(&c->joined);
	c->in_cell = 0;
	return c;
}

static void end_cell(struct mfs_checksum *c)
{
	join_one(&c->joined, XXH3_64bits_digest(&c->cell));
	XXH3_64bits_reset(&c->cell);
	c->in_cell = 0;
}

void mfs_checksum_update(struct mfs_checksum *c, const void *buf, size_t len)
{
	const char *p = buf;

	for (size_t n; len; p += n, len -= n) {
		n = (size_t)MFS_MIN((uint64_t)len, MFS_CHECKSUM_CELL - c->in_cell);
		XXH3_64bits_update(&c->cell, p, n);
		c->in_cell += n;
		if (c->in_cell == MFS_CHECKSUM_CELL)
			end_cell(c);
	}
}

void mfs_checksum_add_cell(struct mfs_checksum *c, uint64_t sum)
{
	assert(!c->in_cell);
	join_one(&c->joined, sum);
}

uint64_t mfs_checksum_final(struct mfs_checksum *c)
{
	uint64_t sum;

	if (c->in_cell)
		end_cell(c);
	sum = XXH3_64bits_digest(&c->joined);
	free(c);
	return sum;
}

void mfs_checksum_free(struct mfs_checksum *c)
{
	free(c);
}

void mfs_checksum_etag(uint64_t sum, char buf[MFS_CHECKSUM_ETAG_MAX])
{
	snprintf(buf, MFS_CHECKSUM_ETAG_MAX, ETAG_PREFIX "%016" PRIx64, sum);
}

bool mfs_checksum_parse(const char *etag, uint64_t *ret)
{
	const size_t prefix = sizeof(ETAG_PREFIX) - 1;
	uint64_t sum = 0;

	if (strncmp(etag, ETAG_PREFIX, prefix) != 0 || strlen(etag) != prefix + 16)
		return false;
	for (const char *p = etag + prefix; *p; p++) {
		if (*p >= '0' && *p <= '9')
			sum = sum << 4 | (uint64_t)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			sum = sum << 4 | (uint64_t)(*p - 'a' + 10);
		else
			return false;
	}
	*ret = sum;
	return true;
}

bool mfs_checksum_fits(const char *etag, const void *buf, size_t len)
{
	uint64_t sum;

	return !mfs_checksum_parse(etag, &sum) || sum == mfs_checksum(buf, len);
}
