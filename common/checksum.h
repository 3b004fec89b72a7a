/*
 * The checksum that an object of a store of ours carries (its etag is "xxh3:" and 16 hex digits): XXH3-64 over the
 * XXH3-64s (little endian) of its cells of 5 MiB each, the last one shorter; of an empty object, XXH3-64 of nothing. So
 * parts that arrive in any order are summed as they pass, and joined at the end.
 */
#ifndef MASSFS_COMMON_CHECKSUM_H
#define MASSFS_COMMON_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MFS_CHECKSUM_CELL (UINT64_C(5) << 20)
#define MFS_CHECKSUM_ETAG_MAX 24

uint64_t mfs_checksum_cell(const void *buf, size_t len); /* one cell's */
uint64_t mfs_checksum_join(const uint64_t *cells, size_t n);
uint64_t mfs_checksum(const void *buf, size_t len); /* of a whole object in memory */

/* Sequentially, with bounded memory. */
struct mfs_checksum; /* opaque */
struct mfs_checksum *mfs_checksum_new(void); /* NULL: no memory */
void mfs_checksum_update(struct mfs_checksum *c, const void *buf, size_t len);
/* What comes next is a whole cell, or the last one, with this sum; after whole cells only. */
void mfs_checksum_add_cell(struct mfs_checksum *c, uint64_t sum);
uint64_t mfs_checksum_final(struct mfs_checksum *c); /* and free */
void mfs_checksum_free(struct mfs_checksum *c);	     /* without a result; NULL: nothing */

void mfs_checksum_etag(uint64_t sum, char buf[MFS_CHECKSUM_ETAG_MAX]);
/* Are these the bytes that the etag was made of? Yes also for another kind of etag, or none: nothing to compare with. */
bool mfs_checksum_fits(const char *etag, const void *buf, size_t len);
bool mfs_checksum_parse(const char *etag, uint64_t *ret); /* false: it is another kind of etag */

#endif
