/*
 * XXH3, for tables and checksums of our own caches; nothing that an adversary or another program must agree on.
 */
#ifndef MASSFS_COMMON_HASH_H
#define MASSFS_COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

static inline uint64_t mfs_hash64(const void *bytes, size_t len)
{
	return XXH3_64bits(bytes, len);
}

/* Spreads a number (inode, counter) over 64 bits. */
static inline uint64_t mfs_hash_u64(uint64_t v)
{
	v ^= v >> 33;
	v *= UINT64_C(0xff51afd7ed558ccd);
	v ^= v >> 33;
	v *= UINT64_C(0xc4ceb9fe1a85ec53);
	return v ^ v >> 33;
}

#endif
